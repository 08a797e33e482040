//! A whole run without a mouse, and names for those who do not see the page.

use serde_json::json;

use crate::browser::{Browser, keys};

#[test]
fn everything_is_reached_by_keyboard() {
    let browser = Browser::on_page();
    // What is folded away opens by keyboard, and stays open.
    browser.eval("document.querySelector('#advanced > summary').focus()");
    browser.press(&[keys::ENTER]);
    browser.wait_until("document.getElementById('advanced').open");
    // Every stop of the Tab key, once around.
    let mut stops = Vec::new();
    browser.eval("document.body.focus()");
    for _ in 0..60 {
        browser.press(&[keys::TAB]);
        let stop = browser.focus();
        if stops.first() == Some(&stop) {
            break;
        }
        stops.push(stop);
    }
    for id in
        ["open-settings", "prompt", "negative", "choose-picture", "model", "width", "steps", "sampler", "seed", "draw"]
    {
        assert!(stops.iter().any(|stop| stop == id), "Tab does not reach {id}: {stops:?}");
    }

    // Prompt by typing, steps by typing, and Ctrl-Enter.
    browser.eval("document.body.focus()");
    while browser.focus() != "prompt" {
        browser.press(&[keys::TAB]);
    }
    browser.press(&[keys::CONTROL, 'a']);
    browser.press(&"a rocket on a black background".chars().collect::<Vec<_>>());
    while browser.focus() != "steps" {
        browser.press(&[keys::TAB]);
    }
    browser.press(&[keys::CONTROL, 'a']);
    browser.press(&['2', keys::CONTROL, keys::ENTER]);
    browser.wait_until("document.querySelectorAll('.card').length === 1");
    browser.wait_until_idle();
    assert_eq!(browser.text(".card p"), "a rocket on a black background");
    assert_eq!(browser.text(".card small").split(" · ").nth(1), Some("2 steps"));

    // The picture, large, and back.
    browser.eval("document.querySelector('.card .open').focus()");
    browser.press(&[keys::ENTER]);
    browser.wait_until("document.getElementById('viewer').open");
    assert!(browser.text("#viewer-parameters").contains("CFG scale"), "{}", browser.text("#viewer"));
    browser.press(&[keys::ESCAPE]);
    browser.wait_until("!document.getElementById('viewer').open");
    browser.eval("document.getElementById('open-settings').focus()");
    browser.press(&[keys::ENTER]);
    browser.wait_until("document.getElementById('settings').open");
    assert!(browser.text("#machine").contains("Automatic"), "{}", browser.text("#settings"));
    browser.press(&[keys::ESCAPE]);
    browser.wait_until("!document.getElementById('settings').open");
}

/// Chromium's own accessibility tree, which is what a screen reader is told.
#[test]
fn every_control_has_a_name() {
    let browser = Browser::on_page();
    browser.draw("a red apple on a blue background", 1);
    let tree = browser.cdp("Accessibility.getFullAXTree", &json!({}));
    let of_interest =
        ["button", "textbox", "combobox", "spinbutton", "slider", "radio", "link", "progressbar", "image"];
    let mut n_named = 0;
    for node in tree["nodes"].as_array().expect("nodes") {
        let role = node["role"]["value"].as_str().unwrap_or_default();
        if node["ignored"] == true || !of_interest.contains(&role) {
            continue;
        }
        let name = node["name"]["value"].as_str().unwrap_or_default();
        assert!(!name.trim().is_empty(), "a {role} without a name: {node}");
        n_named += 1;
    }
    assert!(n_named > 20, "only {n_named} controls were found");
}

#[test]
fn the_question_mark_opens_the_shortcuts() {
    let browser = Browser::on_page();
    let is_open = || browser.eval("document.getElementById('help').open");
    // In a field it is a letter.
    browser.eval("document.getElementById('negative').focus()");
    browser.press(&['?']);
    assert_eq!((is_open(), browser.eval("document.getElementById('negative').value")), (json!(false), json!("?")));
    browser.eval("document.activeElement.blur()");
    browser.press(&['?']);
    browser.wait_until("document.getElementById('help').open");
    // Every key that the page knows has a line.
    let keys = browser.eval("[...document.querySelectorAll('#shortcuts dt')].map((term) => term.textContent)");
    let told = browser.eval("[...document.querySelectorAll('#shortcuts dd')].filter((each) => each.checkVisibility() && each.textContent !== '').length");
    assert_eq!(json!(keys.as_array().map(Vec::len)), told);
    for key in ["CtrlEnter", "Esc", "G", "?", "CtrlZ"] {
        assert!(keys.as_array().is_some_and(|keys| keys.contains(&json!(key))), "{key} is not in {keys}");
    }
    browser.press(&[keys::ESCAPE]);
    browser.wait_until("!document.getElementById('help').open");
}
