//! Settings, images and links that leave the page and come back, and what is made of hostile ones.

use std::path::Path;

use serde_json::{Value, json};

use crate::browser::{Browser, page_url};
use crate::files::drop_path;

const APPLE: &str = "a red apple on a blue background";

fn fields(browser: &Browser) -> Value {
    browser.eval(
        "['prompt', 'negative', 'seed', 'steps', 'guidance', 'sampler', 'width'].map((id) => document.getElementById(id).value)",
    )
}

fn notices(browser: &Browser) -> String {
    browser.eval("document.getElementById('notices').textContent").as_str().unwrap_or_default().into()
}

fn press_in_notice(browser: &Browser, label: &str) {
    browser.eval(&format!(
        "[...document.querySelectorAll('.notice button')].findLast((b) => b.textContent === {label:?}).click()"
    ));
}

#[test]
fn a_link_fills_the_form_and_does_nothing_else() {
    let browser = Browser::start();
    let url = page_url();
    let link = "#v=1&prompt=a+dog%0A%E2%80%AE%00two&negative=blur&seed=18446744073709551615&width=64&height=64&steps=3&guidance=5.5\
        &sampler=euler&model=someone%2Felse&foo=1&noise=evil";
    browser.open_page(&format!("{url}{link}"));
    browser.wait_until("document.querySelector('.notice')");
    assert_eq!(fields(&browser), json!(["a dog\ntwo", "blur", "18446744073709551615", "3", "5.5", "euler", "64"]));
    // The address says nothing of it any more.
    assert_eq!(browser.eval("location.href"), json!(url));
    let said = notices(&browser);
    for part in ["foo", "noise evil", "the model someone/else, which is not installed"] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(browser.n_pictures(), 0);
    assert_eq!(browser.eval("document.documentElement.dataset.state"), "ready");
    assert_eq!(browser.text("#transfer"), "");
    press_in_notice(&browser, "Undo");
    assert_eq!(fields(&browser), json!([APPLE, "", "1", "12", "4", "dpm++2m", "128"]));
    // One that is opened later, what no link may be, and an address that is none.
    browser.eval("(() => { location.hash = '#v=1&prompt=cat&sampler=none_such&steps=-1'; })()");
    browser.wait_until("document.getElementById('prompt').value === 'cat'");
    let said = notices(&browser);
    assert!(said.contains("the sampler none_such is not supported") && said.contains("steps -1"), "{said}");
    let before = fields(&browser);
    for (hash, said) in [
        ("#v=1&prompt=' + 'x'.repeat(20000) + '", "the link is too long"),
        ("#v=1&seed=99999999999999999999", "seed 9999"),
    ] {
        browser.eval(&format!("(() => {{ location.hash = '{hash}'; }})()"));
        browser.wait_until(&format!("document.getElementById('notices').textContent.includes({said:?})"));
        assert_eq!(fields(&browser), before);
    }
    browser.eval("(() => { location.hash = '#other'; })()");
    browser.run("await new Promise((resolve) => setTimeout(resolve, 100))");
    assert_eq!(fields(&browser), before);
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn a_copied_link_brings_the_same_settings() {
    let browser = Browser::on_page();
    browser.eval("navigator.clipboard.writeText = async (copied) => { window.copied = copied; }");
    browser.fill(&[
        ("prompt", "a & b, 50 % #1 +\nc"),
        ("negative", "x=y"),
        ("seed", "42"),
        ("steps", "5"),
        ("guidance", "2.5"),
        ("sampler", "ddim"),
        ("eta", "0.5"),
        ("variation-seed", "9"),
        ("variation-strength", "0.25"),
    ]);
    browser.click("#copy-link");
    browser.wait_until("window.copied");
    let (link, before) = (browser.eval("window.copied"), fields(&browser));
    let link = link.as_str().expect("a link");
    assert_eq!(link.split('#').count(), 2, "{link}");
    let other = Browser::start();
    other.open_page(link);
    other.wait_until("document.querySelector('.notice')");
    assert_eq!(fields(&other), before);
    let noise = "['eta', 'variation-seed', 'variation-strength'].map((id) => document.getElementById(id).value)";
    assert_eq!(other.eval(noise), json!(["0.5", "9", "0.25"]));
    assert!(notices(&other).starts_with("Settings loaded from the link."), "{}", notices(&other));
    // Of a picture, too.
    other.draw(APPLE, 1);
    other.eval("navigator.clipboard.writeText = async (copied) => { window.copied = copied; }");
    other.click(".card .open");
    other.click_labelled("#viewer-actions button", "Copy link");
    other.wait_until("window.copied");
    let link = other.eval("window.copied").as_str().expect("a link").to_owned();
    assert!(link.contains("prompt=a+red+apple") && link.contains("seed=1&"), "{link}");
    assert!(link.contains("eta=0.5&variation-seed=9&variation-strength=0.25"), "{link}");
    // What a link leaves out is as a picture without it has it.
    other.eval("document.getElementById('viewer').close()");
    other.eval("(() => { location.hash = '#v=1&prompt=plain'; })()");
    other.wait_until("document.getElementById('prompt').value === 'plain'");
    assert_eq!(other.eval(noise), json!(["0", "", "0"]));
}

#[test]
fn settings_go_to_another_browser_and_can_be_taken_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let browser = Browser::on_page();
    browser.draw("a prompt of the one", 1);
    browser.fill(&[("steps", "7")]);
    let file = browser.run(
        "const { write_styles } = await import('./page/styles.js');
        write_styles([{ name: 'Ink', prompt: 'ink', negative: '' }]);
        const { set_options } = await import('./page/model_options.js');
        set_options('some.safetensors', { prediction: 'v', vae: 'other-vae.safetensors' });
        document.getElementById('weights').value = 'q8_0';
        (await import('./page/form.js')).keep_form();
        document.getElementById('theme').value = 'light';
        document.getElementById('theme').dispatchEvent(new Event('change'));
        return (await import('./page/backup.js')).settings_file();",
    );
    let path = dir.path().join("settings.json");
    std::fs::write(&path, file.as_str().expect("a text")).expect("a file");

    let other = Browser::start();
    other.open_page(&page_url());
    other.draw("a prompt of the other", 1);
    other.run("const { write_styles } = await import('./page/styles.js'); write_styles([{ name: 'Own', prompt: 'own', negative: '' }])");
    other.eval("window.before = true");
    other.choose_file("#settings-file", &path);
    other.wait_until("!window.before && document.documentElement.dataset.state === 'ready'");
    other.wait_until("document.getElementById('notices').textContent.includes('Settings imported')");
    let state = "[document.documentElement.dataset.theme, document.getElementById('steps').value,
        JSON.parse(localStorage.getItem('darkroom.styles')).styles.map(({ name }) => name),
        JSON.parse(localStorage.getItem('darkroom.history')).prompts.map(({ prompt }) => prompt)]";
    assert_eq!(
        other.eval(state),
        json!(["light", "7", ["Ink", "Own"], ["a prompt of the other", "a prompt of the one"]])
    );
    // Options of models come, too; a part that is not here is not loaded.
    let options = other.run(
        "const { all_options, models_are, options_of } = await import('./page/model_options.js');
        const model = 'some.safetensors';
        const of = (...models) => { models_are(models.map((model) => ({ model }))); return options_of(model); };
        return [document.getElementById('weights').value, all_options()[model], of(model), of(model, 'other-vae.safetensors')];",
    );
    let all = json!({ "prediction": "v", "vae": "other-vae.safetensors" });
    assert_eq!(options, json!(["q8_0", all, { "prediction": "v" }, all]));
    other.eval("window.before = true");
    press_in_notice(&other, "Undo");
    other.wait_until("!window.before && document.documentElement.dataset.state === 'ready'");
    assert_eq!(other.eval(state), json!(["dark", "1", ["Own"], ["a prompt of the other"]]));
    // Dropped, and no such file.
    std::fs::write(dir.path().join("other.json"), "{\"a\": 1}").expect("a file");
    drop_path(&other, &dir.path().join("other.json"));
    other.wait_until("document.getElementById('notices').textContent.includes('not a Darkroom settings file')");
}

#[test]
fn strange_settings_are_left_out() {
    let browser = Browser::on_page();
    let kept = browser.run(
        r#"const { settings_of } = await import('./page/backup.js');
        const file = (settings) => JSON.stringify({ kind: 'darkroom settings', version: 1, settings });
        const refusal = (text) => { try { settings_of(text); return null; } catch ({ message }) { return message; } };
        return {
            kept: settings_of(file({
                form: { prompt: 'good', steps: 3, seed: { a: 1 }, runner: 'rm -rf', dtype: 'f32' },
                loras: { sd1: { ink: { on: true, strength: 'much' }, good: { on: true, strength: 0.5 } } },
                styles: { styles: [{ name: 'A', prompt: 1 }, { name: 'B', prompt: 'b', negative: '' }] },
                'model-settings': [], look: null, deletions: { everything: 'mine' }, wildcards: 'x',
            })),
            polluted: settings_of('{"kind": "darkroom settings", "version": 1, "settings": {"form": {"__proto__": "x", "prompt": "p"}}}')['darkroom.form'].prompt,
            refused: [refusal('x'), refusal('null'), refusal('{}'), refusal('{"kind": "darkroom settings", "version": 2, "settings": {}}')],
            object: {}.x === undefined,
        };"#,
    );
    assert_eq!(
        kept["kept"]["darkroom.loras"],
        json!({ "sd1": { "good": { "on": true, "strength": 0.5, "text_strength": null } } })
    );
    assert_eq!(kept["kept"]["darkroom.styles"], json!({ "styles": [{ "name": "B", "prompt": "b", "negative": "" }] }));
    assert_eq!(kept["kept"]["darkroom.form"]["prompt"], "good");
    assert_eq!(
        json!([kept["kept"]["darkroom.form"]["runner"], kept["kept"]["darkroom.form"]["dtype"]]),
        json!(["auto", "f32"])
    );
    assert!(kept["kept"]["darkroom.form"]["steps"].is_string(), "what is here stays: {kept}");
    let mut keys: Vec<_> = kept["kept"].as_object().expect("an object").keys().collect();
    keys.sort();
    assert_eq!(keys, ["darkroom.form", "darkroom.loras", "darkroom.styles"]);
    assert_eq!(json!([kept["polluted"], kept["object"]]), json!(["p", true]));
    assert!(kept["refused"].as_array().expect("a list").iter().all(Value::is_string), "{kept}");
}

/// What the archive button saves, as bytes: the download is caught on its way.
fn zip_of_all(browser: &Browser, path: &Path) {
    let bytes = browser.run(
        "const { save_together, select_all } = await import('./page/gallery.js');
        select_all();
        const own = URL.createObjectURL;
        let file;
        URL.createObjectURL = (blob) => { if (blob.type === 'application/zip') file = blob; return own(blob); };
        await save_together();
        URL.createObjectURL = own;
        return Array.from(new Uint8Array(await file.arrayBuffer()));",
    );
    let bytes: Vec<u8> =
        bytes.as_array().expect("bytes").iter().map(|byte| byte.as_u64().expect("a byte") as u8).collect();
    std::fs::write(path, bytes).expect("a file");
}

#[test]
fn a_gallery_comes_back_from_its_archive() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("darkroom.zip");
    let browser = Browser::on_page();
    for prompt in [APPLE, "a rocket on a black background", "a cat on a yellow background"] {
        browser.draw(prompt, 1);
    }
    browser.eval("document.querySelectorAll('.favourite')[1].click()");
    browser.run("await new Promise((resolve) => setTimeout(resolve, 200))");
    zip_of_all(&browser, &path);
    let list = "return (await (await import('./page/album.js')).all()).map(({ parameters, favourite = false, made_at, png }) => [parameters.prompt, favourite, made_at, png.size])";
    let before = browser.run(list);

    let other = Browser::start();
    other.open_page(&page_url());
    other.choose_file("#gallery-file", &path);
    other.wait_until("document.querySelectorAll('.card').length === 3");
    other.wait_until("document.getElementById('notices').textContent.includes('3 images added')");
    assert_eq!(other.run(list), before);
    assert_eq!(other.eval("document.querySelectorAll('.favourite[aria-pressed=true]').length"), 1);
    // Once more, dropped: all are there.
    drop_path(&other, &path);
    other.wait_until("document.getElementById('notices').textContent.includes('3 images were already in the gallery')");
    assert_eq!(other.n_pictures(), 3);
    assert_eq!(other.console(), Vec::<String>::new());
}

#[test]
fn archives_are_read_with_care() {
    let browser = Browser::on_page();
    browser.draw(APPLE, 1);
    let found = browser.run(
        "const { zip, crc32 } = await import('./page/zip.js');
        const { unzip } = await import('./page/unzip.js');
        const bytes_of = async (blob) => new Uint8Array(await blob.arrayBuffer());
        const read = async (blob) => {
            try { return await Promise.all((await unzip(blob)).map(async ({ name, read }) => [name, await (await read()).text()])); } catch ({ message }) { return message; }
        };
        const content = new Blob(['x'.repeat(5000)]);
        const plain = await zip([{ name: 'a.txt', file: content, made_at: Date.now() }]);
        const bytes = await bytes_of(plain);
        const packed = await bytes_of(await new Response(content.stream().pipeThrough(new CompressionStream('deflate-raw'))).blob());
        // The same archive with the file deflated.
        const deflated = (size) => {
            const n = (value, length) => Array.from({ length }, (_, i) => (value >>> (8 * i)) & 255);
            const crc = crc32(new Uint8Array(5000).fill(120));
            const common = [...n(20, 2), ...n(0, 2), ...n(8, 2), ...n(0, 4), ...n(crc, 4), ...n(packed.length, 4), ...n(size, 4), ...n(5, 2), ...n(0, 2)];
            const name = [...'a.txt'].map((c) => c.charCodeAt(0));
            const local = [...n(0x04034b50, 4), ...common, ...name, ...packed];
            const entry = [...n(0x02014b50, 4), ...n(20, 2), ...common, ...n(0, 6), ...n(0, 4), ...n(0, 4), ...name];
            const end = [...n(0x06054b50, 4), ...n(0, 4), ...n(1, 2), ...n(1, 2), ...n(entry.length, 4), ...n(local.length, 4), ...n(0, 2)];
            return new Blob([new Uint8Array([...local, ...entry, ...end])]);
        };
        const changed = (at, value) => { const copy = bytes.slice(); copy[at < 0 ? copy.length + at : at] = value; return new Blob([copy]); };
        const good = [await read(plain), await read(deflated(5000)), await read(new Blob([plain, 'a comment?']))].map((each) => Array.isArray(each) && each[0][1].length);
        const bad = {
            none: await read(new Blob(['hello'])), empty: await read(new Blob([])), cut: await read(plain.slice(0, 100)),
            bomb: await read(deflated(10)), short: await read(deflated(6000)), changed: await read(changed(100, 0)),
            offset: await read(changed(-6, 255)), count: await read(changed(-12, 9)), huge: await read(deflated(0xfffffff0)),
        };
        return { good, bad };",
    );
    assert_eq!(found["good"], json!([5000, 5000, 5000]), "{found}");
    for (name, said) in found["bad"].as_object().expect("an object") {
        assert!(said.is_string(), "{name}: {said}");
    }
}
