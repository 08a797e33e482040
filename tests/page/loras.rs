//! LoRAs in the browser: kept files that change the pictures of a loaded model, by the API and in the page.

use std::path::{Path, PathBuf};

use darkroom::image::{RgbImage, decode};
use serde_json::{Value, json};

use crate::browser::{Browser, difference, has_no_gpu, picture, serve_all, www};
use crate::files::{drop_path, paths};
use crate::tiny::{self, fixtures_dir};

/// Levels by which a picture may differ from that of diffusers, whose weights were merged in f32, too.
const MAX_DIFFERENCE: u8 = 2;

const PROMPT: &str = "a photo of a red fox in the snow";

fn fixture(name: &str) -> PathBuf {
    fixtures_dir().join("lora").join(name)
}

/// The picture that diffusers drew.
fn expected(name: &str) -> RgbImage {
    decode(&std::fs::read(fixture(name)).expect("the fixture")).expect("a picture")
}

/// A folder with the tiny Stable Diffusion 1.5 in it, which is served, and the paths of the model's files.
fn serve_model(dir: &Path) -> (String, Value) {
    tiny::write_model("v1-5", &dir.join("folder"), tiny::Style::F32);
    let mut listed = Vec::new();
    paths(&dir.join("folder"), &dir.join("folder"), &mut listed);
    (serve_all(vec![www(), dir.to_path_buf(), fixtures_dir()]), json!(listed))
}

/// The beginning of a script: `darkroom` with that model kept, `keep` for LoRAs of the fixtures, and `draw`.
fn script(listed: &Value) -> String {
    format!(
        "const {{ Darkroom }} = await import('./darkroom.js');
        const darkroom = await Darkroom.open();
        const blob = async (path) => (await fetch(path)).blob();
        const keep = async (name, as = name) => darkroom.import(`${{as}}.safetensors`, new Map([[`${{as}}.safetensors`, await blob(`lora/${{name}}.safetensors`)]]));
        const folder = new Map();
        for (const path of {listed}) folder.set(path, await blob(`folder/${{path}}`));
        await darkroom.import('folder', folder);
        const refusal = (promise) => promise.then(() => null, ({{ message, code }}) => [code, message]);
        const asked = {{ prompt: '{PROMPT}', seed: 7, steps: 3, guidance_scale: 7.5, width: 64, height: 64 }};
        const pixels = async ({{ png }}) => {{
            const {{ width, height, data }} = await darkroom.read_picture(png);
            return [width, height, Array.from(data)];
        }};
        const draw = async (request) => (await darkroom.generate({{ ...asked, ...request }}).done).pictures[0];"
    )
}

#[test]
fn kept_loras_change_the_model_as_in_diffusers() {
    let dir = tempfile::tempdir().expect("a folder");
    let (url, listed) = serve_model(dir.path());
    let browser = Browser::start();
    browser.open(&format!("{url}example.html"));
    let said = browser.run(&format!(
        "{}
        for (const name of ['kohya', 'locon', 'kohya-xl', 'oft']) await keep(name);
        const networks = await darkroom.extra_networks();
        await darkroom.load({{ kept: 'folder', runner: 'cpu', dtype: 'f32' }});
        const plain = await draw({{}});
        // Strengths of the same model one after another: what is merged is merged anew from the file.
        const text = await draw({{ loras: [{{ name: 'kohya', strength: 1, text_strength: 0.3 }}] }});
        const two = await draw({{ loras: [{{ name: 'kohya', strength: 0.6 }}, {{ name: 'locon', strength: 0.8 }}] }});
        const tags = await draw({{ prompt: '{PROMPT}<lora:tiny style:0.6><lora:locon:0.8>' }});
        const again = await draw({{}});
        const seen = {{ text: await pixels(text), two: await pixels(two), tags: await pixels(tags), plain: await pixels(plain), again: await pixels(again) }};
        const parameters = await darkroom.read_parameters(two.png);
        const nobody = await refusal(draw({{ loras: [{{ name: 'nobody' }}] }}));
        const family = await refusal(draw({{ loras: [{{ name: 'kohya-xl' }}] }}));
        const checked = await refusal(darkroom.work({{ ...asked, loras: [{{ name: 'kohya-xl' }}] }}));
        const form = await refusal(draw({{ loras: [{{ name: 'oft' }}] }}));
        const tag = await refusal(draw({{ prompt: 'x <lora:kohya:strong>' }}));
        // The same name with another file is another LoRA.
        await keep('locon', 'kohya');
        const other = await pixels(await draw({{ loras: [{{ name: 'kohya', strength: 1 }}] }}));
        await darkroom.remove('kohya.safetensors');
        const names = (await darkroom.extra_networks()).map(({{ name }}) => name);
        darkroom.close();
        return {{ networks, seen, parameters, nobody, family, checked, form, tag, other, names }};",
        script(&listed)
    ));
    let kohya =
        said["networks"].as_array().into_iter().flatten().find(|network| network["name"] == "kohya").expect("it");
    assert_eq!(
        json!([kohya["kind"], kohya["model"], kohya["family"], kohya["output_name"], kohya["words"]]),
        json!(["lora", "kohya.safetensors", "sd1", "tiny style", ["fox", "snow"]])
    );
    let seen = &said["seen"];
    for (name, file) in [("text", "kohya_text.png"), ("two", "two.png")] {
        let differs = difference(&picture(&seen[name]), &expected(file));
        assert!(differs <= MAX_DIFFERENCE, "{name} differs by {differs}");
    }
    assert_eq!(seen["tags"], seen["two"], "tags are the same");
    assert_eq!(seen["plain"], seen["again"], "nothing is left of LoRAs");
    assert!(difference(&picture(&seen["plain"]), &picture(&seen["two"])) > 20, "LoRAs change the picture");
    let used = &said["parameters"]["loras"];
    assert_eq!(json!([used[0]["name"], used[0]["strength"], used[1]["name"]]), json!(["kohya", 0.6, "locon"]));
    assert_eq!(used[0]["sha256"], kohya["sha256"]);
    for (name, code, words) in [
        ("nobody", "request", "this browser keeps kohya, kohya-xl, locon, oft"),
        ("family", "model", "a LoRA for Stable Diffusion XL does not fit this Stable Diffusion 1"),
        ("checked", "model", "a LoRA for Stable Diffusion XL"),
        ("form", "model", "which is not read"),
        ("tag", "request", "strengths are numbers"),
    ] {
        assert_eq!(said[name][0], code, "{name}: {}", said[name]);
        assert!(said[name][1].as_str().is_some_and(|message| message.contains(words)), "{name}: {}", said[name]);
    }
    assert!(difference(&picture(&said["other"]), &expected("kohya.png")) > MAX_DIFFERENCE, "it was another file");
    assert_eq!(said["names"], json!(["kohya-xl", "locon", "oft"]));
}

/// The same through WebGPU, where weights that are on the device are merged anew.
#[test]
fn kept_loras_change_the_model_on_the_gpu() {
    if has_no_gpu() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let (url, listed) = serve_model(dir.path());
    let browser = Browser::start();
    browser.open(&format!("{url}example.html"));
    // A software adapter compiles shaders for a long time, longer than a script may take.
    browser.run(&format!(
        "{}
        for (const name of ['kohya', 'locon']) await keep(name);
        await darkroom.load({{ kept: 'folder', runner: 'gpu', dtype: 'f32' }});
        (async () => {{
            const one = await draw({{ loras: [{{ name: 'kohya', strength: 1, text_strength: 0.3 }}] }});
            const two = await draw({{ loras: [{{ name: 'kohya', strength: 0.6 }}, {{ name: 'locon', strength: 0.8 }}] }});
            return [await pixels(one), await pixels(two)];
        }})().then((pictures) => {{ window.drawn = pictures; }}, (error) => {{ window.drawn = error.message; }});",
        script(&listed)
    ));
    browser.wait_until("window.drawn");
    let drawn = browser.eval("window.drawn");
    assert!(drawn.is_array(), "{drawn}");
    for (idx, file) in ["kohya_text.png", "two.png"].into_iter().enumerate() {
        let differs = difference(&picture(&drawn[idx]), &expected(file));
        assert!(differs <= MAX_DIFFERENCE, "{file} differs by {differs}");
    }
}

#[test]
fn loras_are_dropped_listed_and_remembered() {
    let dir = tempfile::tempdir().expect("a folder");
    tiny::write_model("v1-5", &dir.path().join("folder"), tiny::Style::F16);
    let browser = Browser::on_page();
    let said = |words: &str| {
        browser.wait_until(&format!("document.getElementById('notices').textContent.includes({words:?})"));
    };
    let in_row = |name: &str, what: &str| format!("document.querySelector('[data-lora=\"{name}\"] {what}')");
    drop_path(&browser, &dir.path().join("folder"));
    browser.wait_until("document.querySelector('[data-model=\"folder\"]')");
    browser.click_labelled("#models button", "Use: folder");
    browser.wait_until("document.getElementById('device').innerText.includes('folder')");
    browser.wait_until_idle();
    browser.choose_runner("cpu", "CPU");

    // Two that fit, and one of another family.
    drop_path(&browser, &fixture("kohya.safetensors"));
    browser.wait_until(&in_row("kohya", "input[type=checkbox]:checked"));
    browser.choose_file("#network-file", &fixture("locon.safetensors"));
    browser.wait_until(&in_row("locon", "input[type=checkbox]:checked"));
    drop_path(&browser, &fixture("kohya-xl.safetensors"));
    said("The LoRA kohya-xl is installed, but does not fit the loaded model: it is for Stable Diffusion XL");
    drop_path(&browser, &fixture("oft.safetensors"));
    said("The file oft.safetensors was not imported");
    browser.eval("document.getElementById('models').close()");
    assert_eq!(browser.text("#networks-others"), "1 more for other models.");
    assert_eq!(browser.text("#networks-count"), "2 on");
    assert_eq!(
        browser.eval("[...document.querySelectorAll('#model option')].map(({ value }) => value)"),
        json!(["darkroom/tiny-emoji", "kept:folder"])
    );

    // Words go into the prompt, once; strengths are set by the slider, by typing, and for the text encoder alone.
    browser.fill(&[("prompt", "a photo"), ("steps", "2"), ("guidance", "4"), ("seed", "7")]);
    let words = in_row("kohya", ".lora-words button");
    for _ in 0..2 {
        browser.eval(&format!("{words}.click()"));
    }
    assert_eq!(browser.eval("document.getElementById('prompt').value"), "a photo, fox");
    let set = |what: &str, value: &str| {
        browser.eval(&format!(
            "(() => {{ const input = {what}; input.value = '{value}'; input.dispatchEvent(new Event('input', {{ bubbles: true }})); }})()"
        ));
    };
    set(&in_row("kohya", "input[type=range]"), "0.6");
    assert_eq!(browser.eval(&format!("{}.value", in_row("kohya", "input[type=number]"))), "0.6");
    set(&in_row("locon", "input[type=number]"), "-0.8");
    assert_eq!(browser.eval(&format!("{}.value", in_row("locon", "input[type=range]"))), "-0.8");
    browser.eval(&format!("{}.open = true", in_row("locon", "details")));
    browser.eval(&format!("{}.click()", in_row("locon", "details input[type=checkbox]")));
    set(&in_row("locon", ".lora-own input[type=number]"), "0.25");
    browser.draw("a photo, fox", 2);
    let with = browser.newest_picture();
    browser.click(".card .open");
    assert!(browser.text("#viewer-parameters").contains("kohya 0.6, locon -0.8"), "{}", browser.text("#viewer"));
    browser.eval("document.getElementById('viewer').close()");
    let loras =
        json!([{ "name": "kohya", "strength": 0.6 }, { "name": "locon", "strength": -0.8, "text_strength": 0.25 }]);
    let drawn_with = browser.run(
        "const { all } = await import('./page/album.js');
        return (await all()).at(-1).parameters.loras.map(({ sha256, ...lora }) => lora);",
    );
    assert_eq!(drawn_with, loras);

    // What was chosen is there again after a reload; a tag that names none says so; off is off.
    browser.reload();
    browser.wait_until_idle();
    browser.wait_until(&in_row("locon", "input[type=checkbox]:checked"));
    assert_eq!(browser.eval(&format!("{}.value", in_row("locon", ".lora-own input[type=number]"))), "0.25");
    browser.fill(&[("prompt", "x <lora:nobody:1>")]);
    browser.wait_until(
        "document.getElementById('needs').textContent.includes('this browser keeps kohya, kohya-xl, locon')",
    );
    for name in ["kohya", "locon"] {
        browser.eval(&format!("{}.click()", in_row(name, "input[type=checkbox]")));
    }
    assert_eq!(browser.text("#networks-count"), "none");
    browser.draw("a photo, fox", 2);
    assert!(difference(&browser.newest_picture(), &with) > 5, "without LoRAs it is another picture");

    // A picture brings its own back, and says which is missing.
    let reuse = "document.querySelectorAll('.card')[1].querySelector('button[aria-label^=\"Use settings\"]').click()";
    browser.eval(reuse);
    browser.wait_until(&in_row("locon", "input[type=checkbox]:checked"));
    assert_eq!(browser.eval(&format!("{}.value", in_row("kohya", "input[type=number]"))), "0.6");
    browser.draw("a photo, fox", 2);
    assert_eq!(difference(&browser.newest_picture(), &with), 0);

    // So does a link, of the form and of a picture.
    browser.eval("navigator.clipboard.writeText = async (copied) => { window.copied = copied; }");
    let carried = "&lora=kohya%3A0.6%3A&lora=locon%3A-0.8%3A0.25";
    browser.click(".card .open");
    for button in ["#viewer-actions button[title^=\"Copy a link\"]", "#copy-link"] {
        browser.eval(&format!("(() => {{ window.copied = ''; document.querySelector('{button}').click(); }})()"));
        browser.wait_until("window.copied");
        let link = browser.eval("window.copied");
        assert!(link.as_str().expect("a link").ends_with(carried), "{link}");
        browser.eval("document.getElementById('viewer').close()");
    }
    for name in ["kohya", "locon"] {
        browser.eval(&format!("{}.click()", in_row(name, "input[type=checkbox]")));
    }
    browser.eval(&format!("(() => {{ location.hash = '#v=1&prompt=x{carried}&lora=nobody%3A1%3A&lora=evil'; }})()"));
    said("lora evil; it was made with the LoRA nobody, not installed for this model");
    let own = in_row("locon", ".lora-own input[type=number]");
    let strengths = format!("[{}.value, {own}.value]", in_row("kohya", "input[type=number]"));
    assert_eq!(browser.eval(&strengths), json!(["0.6", "0.25"]));
    assert_eq!(browser.text("#networks-count"), "2 on");
    browser.eval(&format!("{}.click()", in_row("kohya", "button[aria-label^=Delete]")));
    browser.wait_until("!document.querySelector('[data-lora=kohya]')");
    browser.eval("document.querySelectorAll('.card')[2].querySelector('button[aria-label^=\"Use settings\"]').click()");
    said("it was made with the LoRA kohya, not installed for this model");

    // One of few steps is drawn with its own settings, in one press.
    let lcm = dir.path().join("lcm-lora-sdv1-5.safetensors");
    std::fs::copy(fixture("kohya.safetensors"), &lcm).expect("a copy");
    drop_path(&browser, &lcm);
    browser.wait_until(&in_row("lcm-lora-sdv1-5", "input[type=checkbox]:checked"));
    browser
        .eval(&format!("{}.click()", in_row("lcm-lora-sdv1-5", "button[aria-label^=\"Use settings: LCM, 4 steps\"]")));
    let settings = "['steps', 'guidance', 'sampler'].map((id) => document.getElementById(id).value)";
    assert_eq!(browser.eval(settings), json!(["4", "1", "lcm"]));
    assert_eq!(browser.text("#extras"), "LCM settings ×");
    browser.wait_until("document.getElementById('needs').dataset.state === 'ready'");

    // The model that comes with the page is of other sizes than all that is made for its family.
    browser.eval("(() => { const select = document.getElementById('model'); select.value = 'darkroom/tiny-emoji'; select.dispatchEvent(new Event('change')); })()");
    browser.wait_until("document.getElementById('device').innerText.includes('Emoji demo')");
    browser.wait_until_idle();
    assert_eq!(browser.text("#networks-count"), "none");
    browser.draw("a red apple on a blue background", 1);
}

#[test]
fn kept_embeddings_are_words_of_prompts() {
    let dir = tempfile::tempdir().expect("a folder");
    let (url, listed) = serve_model(dir.path());
    let browser = Browser::start();
    browser.open(&format!("{url}example.html"));
    let cases: Vec<Value> =
        serde_json::from_slice(&std::fs::read(fixtures_dir().join("embeddings/cases.json")).expect("the cases"))
            .expect("JSON");
    let of = |name: &str| cases.iter().find(|case| case["name"] == name).unwrap_or_else(|| panic!("{name}")).clone();
    let (one, negative) = (of("one"), of("negative"));
    let said = browser.run(&format!(
        "{}
        const cases = [{one}, {negative}];
        for (const name of ['anything', 'bad-hands-5', 'xl-look']) await darkroom.import(`${{name}}.safetensors`,
            new Map([[`${{name}}.safetensors`, await blob(`embeddings/${{name}}.safetensors`)]]));
        const pickle = await refusal(darkroom.inspect(new File([await blob('embeddings/pickle.pt')], 'pickle.pt')));
        const networks = (await darkroom.extra_networks()).map(({{ kind, name }}) => `${{kind}} ${{name}}`);
        const {{ words }} = await darkroom.load({{ kept: 'folder', runner: 'cpu', dtype: 'f32' }});
        const drawn = [];
        for (const {{ prompt, negative, seed, steps, guidance, width, height }} of cases) {{
            const request = {{ prompt, seed, steps, guidance_scale: guidance, width, height, prompt_syntax: 'plain' }};
            drawn.push(await pixels(await draw({{ ...request, negative_prompt: negative ?? undefined }})));
        }}
        const none = await darkroom.load({{ kept: 'folder', runner: 'cpu', dtype: 'f32', embeddings: [] }});
        const wrong = await refusal(darkroom.load({{ kept: 'folder', runner: 'cpu', dtype: 'f32', embeddings: ['xl-look'] }}));
        darkroom.close();
        return {{ networks, words, drawn, none: none.words, wrong, pickle }};",
        script(&listed)
    ));
    assert_eq!(said["networks"], json!(["embedding anything", "embedding bad-hands-5", "embedding xl-look"]));
    assert_eq!(json!([said["words"], said["none"]]), json!([["anything", "bad-hands-5"], []]));
    assert!(
        said["wrong"][1].as_str().is_some_and(|message| message.contains("an embedding that was made for it")),
        "{}",
        said["wrong"]
    );
    assert!(said["pickle"][1].as_str().is_some_and(|message| message.contains("pickle")), "{}", said["pickle"]);
    for (idx, case) in [one, negative].iter().enumerate() {
        let file = fixtures_dir().join("embeddings").join(case["pictures"][0].as_str().expect("a file"));
        let expected = decode(&std::fs::read(file).expect("the fixture")).expect("a picture");
        let differs = difference(&picture(&said["drawn"][idx]), &expected);
        assert!(differs <= MAX_DIFFERENCE, "{} differs by {differs}", case["name"]);
    }
}

#[test]
fn prompts_have_a_syntax_and_embeddings_are_dropped() {
    let browser = Browser::on_page();
    let is = |id: &str, words: &str| {
        browser.wait_until(&format!("document.getElementById('{id}').textContent.includes({words:?})"));
    };
    let choose = |syntax: &str| {
        browser.eval(&format!(
            "(() => {{ const select = document.getElementById('syntax'); select.value = '{syntax}';
            select.dispatchEvent(new Event('input', {{ bubbles: true }})); }})()"
        ));
    };
    // Brackets are no tokens where they are syntax, and a tag is none anywhere but in plain text.
    browser.fill(&[("prompt", "a (red:1.2) apple")]);
    is("prompt-tokens", "3 of 75 tokens");
    choose("plain");
    browser.wait_until("!document.getElementById('prompt-tokens').textContent.startsWith('3 of')");
    choose("comfy");
    is("prompt-tokens", "3 of 75 tokens");
    browser.fill(&[("prompt", "a [red|blue] fox")]);
    browser.wait_until("!document.getElementById('prompt-notes').hidden");
    choose("a1111");
    browser.wait_until("document.getElementById('prompt-notes').hidden");
    // Long prompts are read in chunks, but cut where there is no syntax.
    let long = "a red apple, ".repeat(30);
    browser.fill(&[("prompt", &long), ("steps", "1")]);
    is("prompt-tokens", "of 150 tokens in 2 chunks");
    choose("plain");
    is("prompt-tokens", "the model reads 75");
    choose("compel");
    browser.draw("a red++ fox", 1);
    let syntax =
        "const { all } = await import('./page/album.js'); return (await all()).at(-1).parameters.prompt_syntax;";
    assert_eq!(browser.run(syntax), "compel");
    // A picture brings its syntax back, and what the form has no field for.
    choose("plain");
    browser.click(".card button[aria-label^=\"Use settings\"]");
    browser.wait_until("document.getElementById('syntax').value === 'compel'");

    // None of these fits the model that comes with the page.
    for name in ["anything", "sdxl"] {
        drop_path(&browser, &fixtures_dir().join(format!("embeddings/{name}.safetensors")));
        is("networks-others", if name == "anything" { "1 more for" } else { "2 more for" });
    }
    is("notices", "does not fit the loaded model");
    drop_path(&browser, &fixtures_dir().join("embeddings/pickle.pt"));
    is("notices", "The file pickle.pt was not imported");

    // A model that takes one has its word.
    let dir = tempfile::tempdir().expect("a folder");
    tiny::write_model("v1-5", &dir.path().join("folder"), tiny::Style::F16);
    drop_path(&browser, &dir.path().join("folder"));
    browser.wait_until("document.querySelector('[data-model=\"folder\"]')");
    browser.click_labelled("#models button", "Use: folder");
    browser.wait_until("document.querySelector('[data-embedding=anything]')");
    browser.wait_until_idle();
    browser.choose_runner("cpu", "CPU");
    drop_path(&browser, &fixtures_dir().join("embeddings/bad-hands-5.safetensors"));
    browser.wait_until("document.querySelector('[data-embedding=bad-hands-5]')");
    browser.wait_until_idle();
    browser.fill(&[("prompt", "a photo"), ("negative", "blurry")]);
    browser.click("[data-embedding=anything] button");
    browser.eval("document.querySelectorAll('[data-embedding=bad-hands-5] button')[1].click()");
    let fields = "['prompt', 'negative'].map((id) => document.getElementById(id).value)";
    assert_eq!(browser.eval(fields), json!(["a photo, anything", "blurry, bad-hands-5"]));
    browser.draw("a photo, anything", 1);
    let used = "const { all } = await import('./page/album.js'); return (await all()).at(-1).parameters.embeddings.map(({ name }) => name);";
    assert_eq!(browser.run(used), json!(["anything", "bad-hands-5"]));
    browser.click("[data-embedding=anything] button[aria-label^=Delete]");
    browser.wait_until("!document.querySelector('[data-embedding=anything]')");
}
