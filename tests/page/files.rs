//! Checkpoints in one file: imported with their configuration or fetched from an address they draw what the same model draws
//! from a folder; in the page they are dropped, listed, refused with what would work, and deleted.

use std::path::Path;
use std::rc::Rc;

use darkroom::checkpoint::convert::{Layout, Stored, files};
use darkroom::hub::Source;
use darkroom::hub::folder::Folder;
use pollster::block_on;
use serde_json::json;

use crate::browser::{Browser, difference, serve_all, www};
use crate::{single, tiny};

/// The tiny Stable Diffusion 1.5 as a folder, as one safetensors file and as a GGUF, with the same 16-bit values.
fn write_files(dir: &Path) {
    tiny::write_model("v1-5", &dir.join("folder"), tiny::Style::F16);
    single::write("v1-5", &dir.join("mine.safetensors"), "F16");
    let folder: Rc<dyn Source> = Rc::new(Folder::open(dir.join("folder")).expect("the folder"));
    let converted = block_on(files(&folder, Layout::Gguf, Stored::F16, None)).expect("a conversion");
    let mut bytes = Vec::new();
    let mut out = |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok(())
    };
    block_on(converted[0].pieces(&mut out)).expect("a GGUF file");
    std::fs::write(dir.join("mine.gguf"), bytes).expect("a file");
}

/// Paths of all files below a folder.
pub fn paths(root: &Path, folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            paths(root, &path, found);
        } else {
            found.push(path.strip_prefix(root).expect("a path below").display().to_string());
        }
    }
}

#[test]
fn a_checkpoint_in_one_file_draws_what_its_folder_draws() {
    let dir = tempfile::tempdir().expect("a folder");
    write_files(dir.path());
    let mut listed = Vec::new();
    paths(&dir.path().join("folder"), &dir.path().join("folder"), &mut listed);
    let url = serve_all(vec![www(), dir.path().to_path_buf()]);
    let browser = Browser::start();
    browser.open_page(&url);
    let said = browser.run(&format!(
        "const {{ Darkroom }} = await import('./darkroom.js');
        const darkroom = await Darkroom.open();
        const blob = async (path) => (await fetch(path)).blob();
        const folder = new Map();
        for (const path of {listed}) folder.set(path, await blob(`folder/${{path}}`));
        const config = [...folder].filter(([path]) => !path.endsWith('.safetensors')).map(([path, file]) => [`config/${{path}}`, file]);
        await darkroom.import('folder', folder);
        for (const name of ['mine.safetensors', 'mine.gguf']) await darkroom.import(name, new Map([[name, await blob(name)], ...config]));
        const address = '{url}mine.safetensors';
        await darkroom.download(address);
        const draw = async (options) => {{
            const {{ name }} = await darkroom.load({{ ...options, runner: 'cpu', dtype: 'f32' }});
            const {{ pictures }} = await darkroom.generate({{ prompt: 'a red apple', seed: 1, steps: 2, guidance_scale: 4 }}).done;
            return {{ name, data: (await darkroom.read_picture(pictures[0].png)).data }};
        }};
        const expected = await draw({{ kept: 'folder' }});
        const drawn = [];
        for (const options of [{{ kept: 'mine.safetensors' }}, {{ kept: 'mine.gguf' }}, {{ kept: address, base: 'folder' }}]) {{
            const {{ name, data }} = await draw(options);
            drawn.push([name, data.length === expected.data.length && data.reduce((most, level, i) => Math.max(most, Math.abs(level - expected.data[i])), 0)]);
        }}
        const velocity = await draw({{ kept: 'mine.gguf', prediction: 'v' }});
        const differs = velocity.data.some((level, i) => level !== expected.data[i]);
        // A folder takes it too, as on the command line.
        const of_folder = (await draw({{ kept: 'folder', prediction: 'v' }})).data.every((level, i) => level === velocity.data[i]);
        const refused = await darkroom.load({{ kept: 'folder', base: 'folder' }}).catch((error) => error.message);
        const damaged = await darkroom.verify('mine.gguf');
        const kept = (await darkroom.models()).map(({{ model, complete }}) => `${{model}} ${{complete}}`).sort();
        darkroom.close();
        return [drawn, differs, refused, damaged, kept, of_folder];",
        listed = json!(listed)
    ));
    let address = format!("{url}mine.safetensors");
    assert_eq!(said[0], json!([["mine.safetensors", 0], ["mine.gguf", 0], [address, 0]]));
    assert_eq!(said[1], true, "another prediction should draw another picture");
    assert!(said[2].as_str().is_some_and(|said| said.contains("in diffusers' layout")), "{}", said[2]);
    assert_eq!(said[5], true, "a folder's prediction can be said as well");
    assert_eq!(said[3], json!([]));
    assert_eq!(said[4], json!(["folder true", format!("{address} true"), "mine.gguf true", "mine.safetensors true"]));
}

/// Drops a file on the page.
fn drop_file(browser: &Browser, name: &str, path: &Path) {
    let bytes = std::fs::read(path).expect("the file");
    browser.run(&format!(
        "const transfer = new DataTransfer();
        transfer.items.add(new File([Uint8Array.from(atob({:?}), (c) => c.charCodeAt(0))], {name:?}));
        for (const type of ['dragenter', 'dragover', 'drop'])
            document.body.dispatchEvent(new DragEvent(type, {{ dataTransfer: transfer, bubbles: true, cancelable: true }}));",
        base64(&bytes)
    ));
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().chain(&[0; 2]).take(3).fold(0usize, |bits, byte| bits << 8 | usize::from(*byte));
        for digit in 0..4 {
            let is_there = digit <= three.len();
            text.push(if is_there { char::from(DIGITS[bits >> (18 - 6 * digit) & 63]) } else { '=' });
        }
    }
    text
}

#[test]
fn a_dropped_file_is_listed_and_what_cannot_be_used_says_why() {
    let dir = tempfile::tempdir().expect("a folder");
    write_files(dir.path());
    let browser = Browser::on_page();
    let said = |words: &str| {
        browser.wait_until(&format!("document.getElementById('notices').textContent.includes({words:?})"));
    };
    let junk = dir.path().join("junk.safetensors");
    std::fs::write(&junk, "no header").expect("a file");
    drop_file(&browser, "junk.safetensors", &junk);
    said("The import of junk.safetensors failed");
    // A GGUF file is known by its first bytes, whatever it is called.
    drop_file(&browser, "mine.bin", &dir.path().join("mine.gguf"));
    browser.wait_until("document.querySelector('[data-model=\"mine.bin.gguf\"]')");
    assert_eq!(browser.eval("document.getElementById('models').open"), true);
    browser.choose_file("#single-file", &dir.path().join("mine.safetensors"));
    browser.wait_until("document.querySelector('[data-model=\"mine.safetensors\"]')");
    browser.eval(
        "(() => { const select = document.querySelector('[data-model=\"mine.safetensors\"] select[data-field=prediction]'); select.value = 'v';
        select.dispatchEvent(new Event('change')); })()",
    );
    let press = |label: &str| browser.click_labelled("#models button", &format!("{label}: mine.safetensors"));
    press("Verify");
    browser.wait_until("document.getElementById('models-now').textContent === 'mine.safetensors is intact.'");
    press("Use");
    // Its sizes are of no published model, and it came without a configuration.
    said("import it together with the folder of its JSON files");
    browser.reload();
    browser.wait_until_idle();
    browser.click("#open-models");
    browser.wait_until(
        "document.querySelector('[data-model=\"mine.safetensors\"] select[data-field=prediction]')?.value === 'v'",
    );
    press("Delete");
    browser.wait_until("!document.querySelector('[data-model=\"mine.safetensors\"]')");
}

/// What a file is: picked, kept with its configuration, behind an address, and what is a part of a model.
#[test]
fn files_are_told_by_their_headers() {
    let dir = tempfile::tempdir().expect("a folder");
    write_files(dir.path());
    single::write("vae-b-ldm", &dir.path().join("vae.safetensors"), "F16");
    let mut listed = Vec::new();
    paths(&dir.path().join("folder"), &dir.path().join("folder"), &mut listed);
    let url = serve_all(vec![www(), dir.path().to_path_buf()]);
    let browser = Browser::start();
    browser.open_page(&url);
    let said = browser.run(&format!(
        "const {{ Darkroom }} = await import('./darkroom.js');
        const darkroom = await Darkroom.open();
        const blob = async (path) => (await fetch(path)).blob();
        const folder = new Map();
        for (const path of {listed}) folder.set(path, await blob(`folder/${{path}}`));
        const config = [...folder].filter(([path]) => !path.endsWith('.safetensors')).map(([path, file]) => [`config/${{path}}`, file]);
        const file = new File([await blob('mine.safetensors')], 'mine.safetensors');
        await darkroom.import('mine.safetensors', new Map([['mine.safetensors', file], ...config]));
        await darkroom.import('folder', folder);
        const picked = await darkroom.inspect(file);
        const kept = await darkroom.inspect('mine.safetensors');
        const of_folder = await darkroom.inspect('folder');
        const address = await darkroom.inspect('{url}mine.safetensors', {{ plan: false }});
        const vae = await darkroom.inspect('{url}vae.safetensors');
        const gguf = await darkroom.inspect(new File([await blob('mine.gguf')], 'mine.gguf'));
        const page = await darkroom.inspect('{url}index.html').catch((error) => error.message);
        await darkroom.import('vae.safetensors', new Map([['vae.safetensors', await blob('vae.safetensors')]]));
        const wrong = await darkroom.load({{ kept: 'vae.safetensors' }}).catch(({{ message, code, needs }}) => [message, code, needs]);
        darkroom.close();
        return {{ picked, kept, of_folder, address, vae, gguf, page, wrong }};",
        listed = json!(listed)
    ));
    let of = |name: &str, fields: &[&str]| fields.iter().map(|field| said[name][field].clone()).collect::<Vec<_>>();
    let identity = ["kind", "family", "layout", "prediction", "format"];
    for name in ["picked", "kept", "address"] {
        assert_eq!(json!(of(name, &identity)), json!(["checkpoint", "sd1", "ldm", "epsilon", "safetensors"]), "{said}");
    }
    assert_eq!(said["gguf"]["format"], "gguf");
    assert_eq!(said["of_folder"]["format"], "folder");
    let present = said["picked"]["components"]["present"].as_object().expect("an object, and no map");
    assert_eq!(present.keys().collect::<Vec<_>>(), ["text_encoder", "unet", "vae"]);
    // Its sizes are of no published model, and its configuration came with the kept one alone.
    assert_eq!(said["picked"]["opens"], false);
    assert!(said["picked"]["advice"].to_string().contains("import it together"), "{}", said["picked"]);
    for name in ["kept", "of_folder"] {
        assert_eq!(json!(of(name, &["opens", "loads", "advice"])), json!([true, true, []]), "{}", said[name]);
        assert!(said[name]["fits"]["gpu_resident_bytes"].as_f64() > Some(0.0), "{}", said[name]);
    }
    assert!(said["kept"]["rows"].to_string().contains("a GPU with"), "{}", said["kept"]["rows"]);
    assert_eq!(said["vae"]["kind"], "vae");
    let problem = said["vae"]["problem"].as_str().expect("a text");
    assert!(problem.contains("under Models") && !problem.contains("--"), "{problem}");
    assert!(said["page"].as_str().is_some_and(|said| said.contains("web page")), "{}", said["page"]);
    assert_eq!(json!([said["wrong"][1], said["wrong"][2]]), json!(["model", "as_vae"]));
    assert!(said["wrong"][0].as_str().is_some_and(|said| said.contains("under Models")), "{}", said["wrong"]);
}

/// Drops something of this machine on the page, as a person does.
pub fn drop_path(browser: &Browser, path: &Path) {
    for kind in ["dragEnter", "dragOver", "drop"] {
        let data = json!({ "items": [], "files": [path.display().to_string()], "dragOperationsMask": 1 });
        let event = json!({ "type": kind, "x": 20, "y": 20, "data": data });
        browser.cdp("Input.dispatchDragEvent", &event);
    }
}

#[test]
fn a_dropped_folder_is_kept_and_takes_parts_of_other_files() {
    let dir = tempfile::tempdir().expect("a folder");
    write_files(dir.path());
    for name in ["vae-b-ldm", "taesd_decoder"] {
        single::write(name, &dir.path().join(format!("{name}.safetensors")), "F16");
    }
    let browser = Browser::on_page();
    drop_path(&browser, &dir.path().join("folder"));
    browser.wait_until("document.querySelector('[data-model=\"folder\"]')");
    for name in ["vae-b-ldm", "taesd_decoder"] {
        let file = format!("{name}.safetensors");
        browser.choose_file("#single-file", &dir.path().join(&file));
        // What it is is shown while it is kept.
        browser.wait_until(&format!("document.getElementById('models-report').innerText.includes({file:?})"));
        browser.wait_until(&format!("document.querySelector('[data-model={file:?}]')"));
    }
    assert!(browser.text("#models-report").contains("TAESD"), "{}", browser.text("#models-report"));
    let press = |label: &str| browser.click_labelled("#models button", &format!("{label}: folder"));
    press("Inspect");
    browser
        .wait_until("document.querySelector('[data-model=folder] .report')?.innerText.includes('Stable Diffusion 1')");
    press("Hide");
    browser.wait_until("!document.querySelector('[data-model=folder] .report')");
    press("Use");
    browser.wait_until("document.getElementById('device').innerText.includes('folder')");
    browser.wait_until_idle();
    browser.choose_runner("cpu", "CPU");
    browser.draw("a red fox", 2);
    let own = browser.newest_picture();
    let mut drawn = vec![own];
    for (field, value) in [("vae", "vae-b-ldm.safetensors"), ("taesd", "taesd_decoder.safetensors")] {
        browser.click("#open-models");
        let select = format!("document.querySelector('[data-model=folder] select[data-field={field}]')");
        browser.wait_until(&format!("[...({select}?.options ?? [])].some(({{ value }}) => value === {value:?})"));
        browser.eval(&format!(
            "(() => {{ const select = {select}; select.value = {value:?}; select.dispatchEvent(new Event('change')); }})()"
        ));
        browser.eval("document.getElementById('models').close()");
        browser.wait_until_idle();
        browser.draw("a red fox", 2);
        drawn.push(browser.newest_picture());
    }
    for (idx, other) in [(0, 1), (0, 2), (1, 2)] {
        assert!(difference(&drawn[idx], &drawn[other]) > 5, "{idx} and {other} are the same picture");
    }
    // What is deleted is no part any more.
    browser.click("#open-models");
    browser.click_labelled("#models button", "Delete: vae-b-ldm.safetensors");
    browser.wait_until("!document.querySelector('[data-model=\"vae-b-ldm.safetensors\"]')");
    assert_eq!(
        browser.eval("localStorage.getItem('darkroom.model-options')"),
        "{\"folder\":{\"taesd\":\"taesd_decoder.safetensors\"}}"
    );
}
