//! The prompts that were drawn, and styles: walked through, found, applied, changed, deleted, imported and exported.

use serde_json::{Value, json};

use crate::browser::{Browser, keys, page_url};
use crate::files::drop_path;

fn prompts(browser: &Browser) -> Value {
    browser.eval("[document.getElementById('prompt').value, document.getElementById('negative').value]")
}

/// Presses a button of the dialog that begins so.
fn press(browser: &Browser, label: &str) {
    browser.eval(&format!(
        "[...document.querySelectorAll('#prompts button')].find((b) => b.checkVisibility() && b.ariaLabel?.startsWith({label:?}) || b.textContent.startsWith({label:?})).click()"
    ));
}

fn styles(browser: &Browser) -> Value {
    browser.eval("JSON.parse(localStorage.getItem('darkroom.styles') ?? '{}').styles")
}

#[test]
fn the_last_prompts_come_back() {
    let browser = Browser::start();
    let url = page_url();
    browser.open_page(&url);
    for (prompt, negative) in [("a red apple", ""), ("a rocket", "blurry"), ("a red apple", "")] {
        browser.fill(&[("negative", negative)]);
        browser.draw(prompt, 1);
    }
    browser.open_page(&url);
    browser.fill(&[("prompt", "a draft"), ("negative", "mine")]);
    browser.eval("document.getElementById('prompt').focus()");
    for (key, expected) in [
        (keys::UP, json!(["a red apple", ""])),
        (keys::UP, json!(["a rocket", "blurry"])),
        // The same prompt is there once.
        (keys::UP, json!(["a rocket", "blurry"])),
        (keys::DOWN, json!(["a red apple", ""])),
        (keys::DOWN, json!(["a draft", "mine"])),
        (keys::DOWN, json!(["a draft", "mine"])),
    ] {
        browser.press(&[keys::ALT, key]);
        assert_eq!(prompts(&browser), expected);
    }
    browser.press(&[keys::ALT, keys::UP]);
    browser.press(&[keys::CONTROL, 'z']);
    assert_eq!(prompts(&browser)[0], "a draft", "the field's own undo");

    browser.click("#open-history");
    assert_eq!(browser.eval("document.querySelectorAll('.prompt-list .use').length"), 2);
    browser.eval("(() => { const search = document.querySelector('#prompts [type=search]'); search.value = 'BLUR rocket'; search.dispatchEvent(new Event('input')); })()");
    assert_eq!(browser.eval("document.querySelectorAll('.prompt-list .use').length"), 1);
    browser.click(".prompt-list .use");
    assert_eq!(prompts(&browser), json!(["a rocket", "blurry"]));
    assert_eq!(browser.focus(), "prompt");
    browser.click("#open-history");
    press(&browser, "Remove: a rocket");
    assert_eq!(browser.eval("document.querySelectorAll('.prompt-list .use').length"), 1);
    browser.eval("[...document.querySelectorAll('.notice button')].findLast((b) => b.textContent === 'Undo').click()");
    assert_eq!(browser.eval("document.querySelectorAll('.prompt-list .use').length"), 2);
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn at_most_a_hundred_are_kept_and_nothing_strange() {
    let browser = Browser::on_page();
    let kept = browser.run(
        "const { remember_prompt, prompt_history } = await import('./page/history.js');
        for (let n = 0; n < 120; n += 1) remember_prompt({ prompt: `prompt ${n}` });
        const { length: n, 0: newest, 99: oldest } = prompt_history();
        localStorage.setItem('darkroom.history', JSON.stringify({ prompts: [{ prompt: 3 }, null, 'x', { prompt: 'good', negative: '' }] }));
        return [n, newest.prompt, oldest.prompt, prompt_history()];",
    );
    assert_eq!(kept, json!([100, "prompt 119", "prompt 20", [{ "prompt": "good", "negative": "" }]]));
}

#[test]
fn styles_are_saved_applied_changed_and_deleted() {
    let browser = Browser::on_page();
    browser.fill(&[("prompt", "a fox"), ("negative", "blurry")]);
    browser.click("#open-styles");
    press(&browser, "Save prompt as style");
    let write = |name: &str, prompt: &str, negative: &str| {
        browser.fill(&[("style-name", name), ("style-prompt", prompt), ("style-negative", negative)]);
        browser.click(".style-editor [type=submit]");
    };
    assert_eq!(browser.eval("document.getElementById('style-prompt').value"), "a fox");
    write("", "x", "");
    assert_eq!(browser.eval("document.getElementById('style-name').ariaInvalid"), "true");
    assert_eq!(styles(&browser), Value::Null);
    write("Ink", "ink drawing of {prompt}, {prompt}", "photo");
    press(&browser, "Edit: Ink");
    write("Inks", "ink drawing of {prompt}", "photo");
    assert_eq!(styles(&browser), json!([{ "name": "Inks", "prompt": "ink drawing of {prompt}", "negative": "photo" }]));
    press(&browser, "Inks");
    // As AUTOMATIC1111 does: in its place where there is one, behind a comma otherwise.
    assert_eq!(prompts(&browser), json!(["ink drawing of a fox", "blurry, photo"]));
    browser.click_labelled(".notice button", "Undo");
    assert_eq!(prompts(&browser), json!(["a fox", "blurry"]));
    browser.click("#open-styles");
    press(&browser, "Delete: Inks");
    assert_eq!(styles(&browser), json!([]));
    browser.click_labelled(".notice button", "Undo");
    assert_eq!(styles(&browser)[0]["name"], "Inks");
}

#[test]
fn styles_csv_goes_in_and_out() {
    let dir = tempfile::tempdir().expect("a folder");
    let csv = "\u{feff}name,prompt,negative_prompt\r\n\"Film, 35 mm\",\"{prompt}, \"\"grain\"\"\nsoft\",\r\n----- Other -----,,\r\nNeg,,\"ugly, bad\"\r\nOld,one\r\n";
    std::fs::write(dir.path().join("styles.csv"), csv).expect("a file");
    std::fs::write(dir.path().join("other.csv"), "a,b\n1,2\n").expect("a file");
    let browser = Browser::on_page();
    browser.click("#open-styles");
    browser.choose_file("#styles-file", &dir.path().join("other.csv"));
    browser.wait_until("document.querySelector('.notice')?.textContent.includes('not a styles.csv')");
    browser.choose_file("#styles-file", &dir.path().join("styles.csv"));
    browser.wait_until("document.querySelectorAll('[data-style]').length === 3");
    let expected = json!([
        { "name": "Film, 35 mm", "prompt": "{prompt}, \"grain\"\nsoft", "negative": "" },
        { "name": "Neg", "prompt": "", "negative": "ugly, bad" },
        { "name": "Old", "prompt": "one", "negative": "" },
    ]);
    assert_eq!(styles(&browser), expected);
    let again = browser.run(
        "const { csv_of_styles, styles, styles_of_csv } = await import('./page/styles.js');
        return styles_of_csv(csv_of_styles(styles()));",
    );
    assert_eq!(again, expected);
    // A dropped one is taken, too.
    browser.eval("localStorage.removeItem('darkroom.styles')");
    browser.eval("document.getElementById('prompts').close()");
    drop_path(&browser, &dir.path().join("styles.csv"));
    browser.wait_until("localStorage.getItem('darkroom.styles')");
    assert_eq!(styles(&browser), expected);
}
