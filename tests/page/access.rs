//! The page as those meet it who rely on assistive technology: axe's rules, names that have the words of their labels, and a focus
//! that is never lost.

use std::path::Path;

use serde_json::{Value, json};

use crate::browser::{Browser, page_url};

const APPLE: &str = "a red apple on a blue background";

/// axe, which `build.sh setup` puts into the cache: the newest version there.
fn axe() -> String {
    let home = std::env::var_os("HOME").unwrap_or_default();
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| Path::new(&home).join(".cache"), Into::into);
    let installed = std::fs::read_dir(cache.join("darkroom")).into_iter().flatten().filter_map(Result::ok);
    let mut installed: Vec<_> = installed
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("axe-core-"))
        .map(|entry| entry.path().join("node_modules/axe-core/axe.min.js"))
        .filter(|path| path.is_file())
        .collect();
    installed.sort();
    let path = installed.pop().expect("axe is missing: ./build.sh setup");
    std::fs::read_to_string(path).expect("axe")
}

/// What axe finds wrong with the page as it is.
fn violations(browser: &Browser) -> Vec<String> {
    let is_there = browser.eval("typeof axe !== 'undefined'");
    if is_there != true {
        // As a debugger does it: the page's policy lets nothing else in.
        browser.post("/execute/sync", json!({ "script": axe(), "args": [] }));
        let _: Value = browser.eval("typeof axe");
    }
    let found = browser.run(
        "const { violations } = await axe.run(document, { resultTypes: ['violations'],
            rules: { 'label-content-name-mismatch': { enabled: true } } });
        return violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.slice(0, 5).map(({ target, failureSummary }) => `${target} (${failureSummary})`).join('; ')}`);",
    );
    found.as_array().expect("a list").iter().map(|each| each.as_str().expect("a text").to_owned()).collect()
}

fn set_scheme(browser: &Browser, scheme: &str) {
    let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
    browser.post("/goog/cdp/execute", json!({ "cmd": "Emulation.setEmulatedMedia", "params": features }));
}

#[test]
fn axe_finds_nothing_wrong() {
    let browser = Browser::start();
    browser.open_page(&page_url());
    browser.draw(APPLE, 1);
    browser.eval("[...document.querySelectorAll('.card button')].find((b) => b.textContent === 'Edit').click()");
    browser.wait_until("!document.getElementById('start-filled').hidden");
    browser.fill(&[("steps", "150")]);
    for _ in 0..3 {
        browser.eval("document.getElementById('draw').click()");
    }
    browser.wait_until("document.querySelectorAll('#queue li').length === 2");
    // What is folded away, something wrong in it, and marks in the prompt.
    browser.eval("document.getElementById('grid').open = true");
    browser.fill(&[("grid-x", "1-x"), ("prompt", "a (red:1.2) <lora:a:1> __b__ {c|d} BREAK e)")]);
    browser.wait_until("!document.getElementById('grid-x-fault').hidden");
    browser.run("const { write_styles } = await import('./page/styles.js'); write_styles([{ name: 'Ink', prompt: 'ink', negative: 'photo' }]);");
    let mut found = Vec::new();
    for scheme in ["light", "dark"] {
        set_scheme(&browser, scheme);
        // Colours change in passing.
        browser.run("await new Promise((resolve) => setTimeout(resolve, 500))");
        let mut look = |screen: &str| {
            found.extend(violations(&browser).into_iter().map(|each| format!("{scheme}, {screen}: {each}")));
        };
        look("drawing");
        for (screen, button) in [
            ("models", "#open-models"),
            ("settings", "#open-settings"),
            ("help", "#open-help"),
            ("queue-drawer", "#open-queue"),
            ("prompts", "#open-history"),
            ("prompts", "#open-styles"),
            ("viewer", ".card .open"),
        ] {
            browser.eval(&format!("document.querySelector('{button}').click()"));
            browser.wait_until(&format!("document.getElementById('{screen}').open"));
            if screen == "models" {
                browser.wait_until("document.querySelectorAll('.model').length === 7");
            }
            if button == "#open-styles" {
                browser.eval("document.querySelector('[data-style] button[aria-label^=Edit]').click()");
            }
            look(screen);
            browser.eval(&format!("document.getElementById('{screen}').close()"));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Who speaks to the browser says what is written on a button.
#[test]
fn names_have_the_words_of_their_labels() {
    let browser = Browser::start();
    browser.open_page(&page_url());
    browser.draw(APPLE, 1);
    browser.fill(&[("steps", "150")]);
    for _ in 0..3 {
        browser.eval("document.getElementById('draw').click()");
    }
    browser.wait_until("document.querySelectorAll('#queue li').length === 2");
    browser.eval("document.getElementById('open-models').click()");
    browser.wait_until("document.querySelectorAll('.model').length === 7");
    let lacking = browser.eval(
        "[...document.querySelectorAll('button[aria-label], a[aria-label]')]
            .filter((each) => /\\p{L}/u.test(each.textContent) && !each.ariaLabel.toLowerCase().includes(each.textContent.trim().toLowerCase()))
            .map((each) => `${each.textContent}: ${each.ariaLabel}`)",
    );
    assert_eq!(lacking, json!([]));
}

#[test]
fn the_focus_is_never_lost() {
    let browser = Browser::start();
    browser.open_page(&page_url());
    let press = |find: &str| {
        browser.eval(&format!("(() => {{ const button = {find}; button.focus(); button.click(); }})()"));
        browser.run("await new Promise((resolve) => setTimeout(resolve, 100))");
        assert_eq!(browser.eval("document.activeElement !== document.body"), true, "lost after {find}");
    };
    browser.draw(APPLE, 1);
    browser.eval("document.getElementById('draw').focus()");
    for message in ["one", "two"] {
        browser.run(&format!("(await import('./page/notices.js')).notify('info', {message:?})"));
    }
    press("document.querySelector('.notice button')");
    press("document.querySelector('.notice button')");
    browser.fill(&[("steps", "150")]);
    for _ in 0..3 {
        browser.eval("document.getElementById('draw').click()");
    }
    browser.wait_until("document.querySelectorAll('#queue li').length === 2");
    browser.eval("document.getElementById('open-queue').click()");
    press("document.querySelector('#queue li button')");
    browser.wait_until("document.querySelectorAll('#queue li').length === 1");
    press("document.querySelector('#queue li button')");
    browser.wait_until("document.querySelectorAll('#queue li').length === 0");
    browser.run("await new Promise((resolve) => setTimeout(resolve, 100))");
    assert_eq!(browser.eval("document.activeElement !== document.body"), true, "lost after the last one");
    browser.eval("document.getElementById('queue-drawer').close()");
    browser.eval("document.getElementById('open-gallery').click()");
    press("[...document.querySelectorAll('.card button')].find((b) => b.textContent === 'Delete')");
}
