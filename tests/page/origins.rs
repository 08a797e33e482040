//! A whole session asks no other server than the page's own. Chromium's own log of its network says so, which knows the requests of workers
//! and of the service worker, too.

use std::path::Path;

use serde_json::{Value, json};

use crate::browser::{Browser, page_url};

/// Addresses that were asked for on behalf of an origin.
fn asked_by(origin: &str, log: &Path) -> Vec<String> {
    let log = std::fs::read_to_string(log).expect("the log");
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line.trim_end_matches(',')).ok());
    let mut urls: Vec<String> = events
        .filter(|event| event["params"]["initiator"].as_str().is_some_and(|initiator| initiator == origin))
        .filter_map(|event| event["params"]["url"].as_str().map(str::to_owned))
        .collect();
    urls.sort();
    urls.dedup();
    urls
}

#[test]
fn a_session_asks_no_other_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("net.json");
    let url = page_url();
    let origin = url.trim_end_matches('/').to_owned();
    let browser = Browser::start_logged(&log);
    browser.open_page(&url);
    browser.wait_until("document.querySelectorAll('.sample img').length > 0");
    browser.draw("a red apple on a blue background", 1);
    for (dialog, button) in [
        ("models", "#open-models"),
        ("settings", "#open-settings"),
        ("help", "#open-help"),
        ("prompts", "#open-history"),
        ("prompts", "#open-styles"),
        ("viewer", ".card .open"),
    ] {
        browser.click(button);
        browser.wait_until(&format!("document.getElementById('{dialog}').open"));
        if dialog == "models" {
            browser.wait_until("document.querySelectorAll('.model').length === 7");
        }
        browser.eval(&format!("document.getElementById('{dialog}').close()"));
    }
    browser.eval("document.querySelectorAll('#request details').forEach((details) => { details.open = true; })");
    browser.click("#copy-link");
    browser.click_labelled(".card button", "Edit");
    browser.wait_until("!document.getElementById('start-filled').hidden");
    browser.draw("a rocket on a black background", 2);
    browser.click("#open-gallery");
    browser.click("#open-gallery");
    browser.click("#remove-picture");
    browser.eval("(() => { location.hash = '#v=1&prompt=cat&model=someone%2Felse'; })()");
    browser.wait_until("document.getElementById('prompt').value === 'cat'");
    browser.reload();
    browser.wait_until_idle();
    browser.draw("a cat on a yellow background", 2);
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
    // What does go elsewhere is in the log: it would be found.
    browser.run("await fetch('https://elsewhere.invalid/x').catch(() => {});");
    drop(browser);
    let (own, others): (Vec<_>, Vec<_>) = asked_by(&origin, &log)
        .into_iter()
        .partition(|asked| asked.starts_with(&url) || asked.starts_with(&format!("blob:{origin}")));
    assert!(
        own.len() > 20 && own.iter().any(|asked| asked.ends_with("darkroom_bg.wasm")),
        "the worker's requests are in the log: {own:?}"
    );
    assert_eq!(json!(others), json!(["https://elsewhere.invalid/x"]));
}
