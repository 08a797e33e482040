//! Prompts that choose, in the browser: each picture of a row by its own seed, from lists that are dropped and kept.

use serde_json::json;

use crate::browser::{Browser, page_url};
use crate::files::drop_path;

const TEMPLATE: &str = "a __animal__, {red|green|blue}";

#[test]
fn each_picture_of_a_row_has_a_prompt_of_its_own() {
    let browser = Browser::start();
    browser.open(&format!("{}example.html", page_url()));
    let said = browser.run(&format!(
        "const {{ Darkroom }} = await import('./darkroom.js');
        const darkroom = await Darkroom.open();
        await darkroom.load({{ runner: 'cpu' }});
        const asked = {{ prompt: '{TEMPLATE}', seed: 5, steps: 1, count: 3 }};
        const wildcards = {{ animal: 'fox\\nowl\\n# none\\nbear' }};
        const refusal = (promise) => promise.then(() => null, ({{ message, code }}) => [code, message]);
        const pixels = async (png) => Array.from((await darkroom.read_picture(png)).data).join();
        const progress = [];
        const {{ pictures }} = await darkroom.generate(asked, {{ wildcards, on_progress: (p) => progress.push(p) }}).done;
        const made = [];
        for (const {{ png, seed, picture }} of pictures) {{
            const {{ prompt, template, seed: own }} = await darkroom.read_parameters(png);
            const alone = await darkroom.generate({{ prompt, seed, steps: 1 }}).done;
            const same = (await pixels(png)) === (await pixels(alone.pictures[0].png));
            made.push({{ prompt, template, seed, own, picture, same }});
        }}
        const unknown = await refusal(darkroom.work({{ ...asked, prompt: '__none__' }}, {{ wildcards }}));
        const {{ notes }} = await darkroom.work({{ ...asked, prompt: '__none__' }});
        const one = await darkroom.work({{ ...asked, count: 1 }}, {{ wildcards }});
        const three = await darkroom.work(asked, {{ wildcards }});
        darkroom.close();
        const counts = [...new Set(progress.map(({{ count }}) => count))];
        return {{ made, unknown, notes, times: three.flops / one.flops, counts, fraction: Math.max(...progress.map((p) => p.fraction)) }};"
    ));
    let made = said["made"].as_array().expect("pictures");
    assert_eq!(made.len(), 3, "{said}");
    for (idx, picture) in made.iter().enumerate() {
        assert_eq!(json!([picture["picture"], picture["seed"], picture["own"]]), json!([idx, 5 + idx, 5 + idx]));
        assert_eq!(json!([picture["template"], picture["same"]]), json!([TEMPLATE, true]), "{picture}");
    }
    assert!(made.iter().any(|picture| picture["prompt"] != made[0]["prompt"]), "{said}");
    assert_eq!(said["unknown"][0], "request", "{said}");
    assert!(said["unknown"][1].as_str().is_some_and(|message| message.contains("animal")), "{said}");
    assert!(said["notes"][0].as_str().is_some_and(|note| note.starts_with("__none__ is text")), "{said}");
    assert_eq!(json!([said["times"], said["counts"]]), json!([3, [3]]), "{said}");
    assert!(said["fraction"].as_f64().is_some_and(|fraction| fraction <= 1.0), "{said}");
}

#[test]
fn lists_are_dropped_kept_and_deleted() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("animal.txt"), "fox\n").expect("a list");
    let browser = Browser::start();
    let url = page_url();
    browser.open_page(&url);
    drop_path(&browser, &dir.path().join("animal.txt"));
    browser.wait_until("document.querySelector('[data-wildcards=animal]')");
    browser.fill(&[("prompt", "a"), ("steps", "1")]);
    browser.click("[data-wildcards=animal] button[aria-label^=\"Prompt:\"]");
    assert_eq!(browser.eval("document.getElementById('prompt').value"), "a, __animal__");
    browser.wait_until("document.getElementById('needs').dataset.state === 'ready'");
    browser.click("#draw");
    browser.wait_until("document.querySelector('.card')");
    let shown = browser.eval("document.querySelector('.card').textContent + document.querySelector('.card').innerHTML");
    assert!(shown.as_str().is_some_and(|text| text.contains("a, fox")), "{shown}");
    // They are there at the next visit, until they are deleted.
    browser.open_page(&url);
    browser.wait_until("document.querySelector('[data-wildcards=animal]')");
    browser.click("[data-wildcards=animal] button[aria-label^=Delete]");
    browser.wait_until("!document.querySelector('[data-wildcards=animal]')");
}
