//! Clip skip in the form: counted as AUTOMATIC1111 does, 1 is the last layer. It is kept with the form and with each model, and comes
//! back from pictures, links and settings files.

use serde_json::{Value, json};

use crate::browser::Browser;

const APPLE: &str = "a red apple on a blue background";

fn field(browser: &Browser) -> Value {
    browser.eval("document.getElementById('clip-skip').value")
}

/// What is kept of the newest picture: how many layers were skipped, how they were counted, and what its file says.
fn kept(browser: &Browser) -> Value {
    browser.run(
        "const { all } = await import('./page/album.js');
        const { texts_of } = await import('./page/png_text.js');
        const { parameters, png } = (await all()).at(-1);
        const line = (await texts_of(png)).parameters;
        return [parameters.clip_skip ?? null, parameters.clip_skip_counting ?? null, /Clip skip: \\d+/.exec(line)?.[0] ?? null];",
    )
}

/// Puts the settings of a picture back into the form; 0 is the newest.
fn use_settings_of(browser: &Browser, place: usize) {
    browser.eval(&format!(
        "[...document.querySelectorAll('.card')[{place}].querySelectorAll('button')].find((b) => b.textContent === 'Use settings').click()"
    ));
}

#[test]
fn a_clip_skip_is_drawn_with_and_comes_back_from_its_picture() {
    let browser = Browser::on_page();
    assert_eq!(field(&browser), "1");
    browser.draw(APPLE, 3);
    assert_eq!(kept(&browser), json!([null, null, null]), "the last layer is what is read where nothing is said");
    let of_last = browser.newest_picture();
    browser.fill(&[("clip-skip", "2")]);
    browser.draw(APPLE, 3);
    assert_eq!(kept(&browser), json!([2, "a1111", "Clip skip: 2"]));
    let of_last_but_one = browser.newest_picture();
    assert_ne!(of_last.pixels, of_last_but_one.pixels);
    browser.click(".card .open");
    assert!(browser.text("#viewer-parameters").contains("Clip skip\n2"), "{}", browser.text("#viewer-parameters"));
    browser.eval("document.getElementById('viewer').close()");

    use_settings_of(&browser, 1);
    assert_eq!(field(&browser), "1");
    use_settings_of(&browser, 0);
    assert_eq!(field(&browser), "2");
    assert_eq!(browser.eval("document.getElementById('extras').hidden"), true, "it has a field");
    browser.draw(APPLE, 3);
    assert_eq!(browser.newest_picture().pixels, of_last_but_one.pixels);

    // What diffusers counts is no field's, until somebody types one.
    browser.run(
        "const { reuse } = await import('./page/reuse.js');
        reuse({ prompt: 'a red apple on a blue background', clip_skip: 1 });",
    );
    assert_eq!(field(&browser), "1");
    assert_eq!(browser.text("#extras"), "Clip skip 1 (diffusers) ×");
    let asked = "const { clip_skip = null, clip_skip_counting = null } = (await import('./page/request.js')).request();
        return [clip_skip, clip_skip_counting];";
    assert_eq!(browser.run(asked), json!([1, null]));
    browser.fill(&[("clip-skip", "3")]);
    assert_eq!(browser.eval("document.getElementById('extras').hidden"), true);
    assert_eq!(browser.run(asked), json!([3, "a1111"]));

    // What no model has is said beside the field.
    for (value, said) in [
        ("0", "Clip skip 0 is not possible: 1 is the last layer, which skips none: use 1 or more."),
        ("1.5", "Clip skip must be a whole number."),
        ("", "Clip skip must be a whole number."),
        ("-1", "Clip skip: use 1 or more."),
    ] {
        browser.fill(&[("clip-skip", value)]);
        browser.wait_until(&format!("document.getElementById('needs').textContent === {said:?}"));
        assert_eq!(browser.eval("document.getElementById('clip-skip').getAttribute('aria-invalid')"), "true");
    }
    browser.fill(&[("clip-skip", "99")]);
    browser.wait_until(
        "/^Clip skip 99 is not possible: .*1 to \\d+\\.$/.test(document.getElementById('needs').textContent)",
    );
    browser.click("#draw");
    browser.wait_until("document.activeElement.id === 'clip-skip'");
    assert_eq!(browser.n_pictures(), 3);
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}

#[test]
fn a_clip_skip_is_kept_for_each_model_and_goes_into_links_and_files() {
    let browser = Browser::on_page();
    browser.import_embedded("mine");
    browser.fill(&[("clip-skip", "3")]);
    browser.reload();
    browser.wait_until_idle();
    assert_eq!(field(&browser), "3");
    // Another model begins at its last layer.
    let choose = |value: &str| {
        browser.eval(&format!(
            "(() => {{ const select = document.getElementById('model'); select.value = {value:?}; select.dispatchEvent(new Event('change')); }})()"
        ));
        browser.wait_until_idle();
    };
    browser.wait_until("[...document.getElementById('model').options].some(({ value }) => value === 'kept:mine')");
    choose("kept:mine");
    assert_eq!(field(&browser), "1");
    choose("darkroom/tiny-emoji");
    assert_eq!(field(&browser), "3");

    // A settings file has it, for the form and for the model.
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("settings.json");
    let file = browser.run("return (await import('./page/backup.js')).settings_file()");
    let file = file.as_str().expect("a text");
    let settings: Value = serde_json::from_str(file).expect("JSON");
    assert_eq!(settings["settings"]["form"]["clip-skip"], "3");
    assert_eq!(settings["settings"]["model-settings"]["darkroom/tiny-emoji"]["clip-skip"], "3");
    std::fs::write(&path, file).expect("a file");
    browser.fill(&[("clip-skip", "1")]);
    browser.eval("window.before = true");
    browser.choose_file("#settings-file", &path);
    browser.wait_until("!window.before && document.documentElement.dataset.state === 'ready'");
    assert_eq!(field(&browser), "3");

    // A link of the form, and one of a picture.
    browser.eval("navigator.clipboard.writeText = async (copied) => { window.copied = copied; }");
    browser.click("#copy-link");
    browser.wait_until("window.copied?.includes('clip-skip=3')");
    browser.draw(APPLE, 1);
    let of_pictures = browser.run(
        "const { has_more, link_of_picture } = await import('./page/link.js');
        const { all } = await import('./page/album.js');
        const { parameters } = (await all()).at(-1);
        return [parameters, { ...parameters, clip_skip_counting: undefined }].map((each) => [link_of_picture(each).includes('clip-skip=3'), has_more(each)]);",
    );
    assert_eq!(of_pictures, json!([[true, false], [false, true]]), "what diffusers counts is no field's");
    for (link, value) in [("&clip-skip=2", "2"), ("", "1"), ("&clip-skip=4", "4")] {
        browser.eval(&format!("(() => {{ location.hash = '#v=1&prompt=p{value}{link}'; }})()"));
        browser.wait_until(&format!("document.getElementById('prompt').value === 'p{value}'"));
        assert_eq!(field(&browser), value);
    }
    browser.eval("(() => { location.hash = '#v=1&prompt=none&clip-skip=0'; })()");
    browser.wait_until("document.getElementById('notices').textContent.includes('clip-skip 0')");
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}
