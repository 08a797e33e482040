//! What a reload must not change: the order of the queue, and a seed that is held for one drawing.

use serde_json::{Value, json};

use crate::browser::Browser;

fn queued(browser: &Browser) -> Value {
    browser.eval("[...document.querySelectorAll('#queue li span')].map((each) => each.textContent)")
}

#[test]
fn the_queue_keeps_its_order() {
    let browser = Browser::on_page();
    browser.fill(&[("steps", "150"), ("guidance", "4")]);
    for (n, prompt) in ["one", "two", "three", "four"].iter().enumerate() {
        browser.fill(&[("prompt", prompt)]);
        browser.click("#draw");
        browser.wait_until(&format!("document.querySelectorAll('#queue li').length === {n}"));
    }
    browser.click("#open-queue");
    let up = |prompt: &str, expected: Value| {
        browser.eval(&format!("document.querySelector('#queue button[aria-label=\"Move up: {prompt}\"]').click()"));
        browser.wait_until(&format!(
            "JSON.stringify([...document.querySelectorAll('#queue li span')].map((each) => each.textContent)) === {:?}",
            expected.to_string()
        ));
    };
    up("four", json!(["two", "four", "three"]));
    up("four", json!(["four", "two", "three"]));
    browser.run("await new Promise((resolve) => setTimeout(resolve, 700))");
    browser.reload();
    browser.wait_until_idle();
    browser.wait_until("document.getElementById('notices').textContent.includes('4 images were not finished')");
    browser.click_labelled(".notice button", "Resume");
    browser.wait_until("document.querySelectorAll('#queue li').length === 3");
    assert_eq!(queued(&browser), json!(["four", "two", "three"]));
    assert_eq!(browser.text("#what"), "one");
}

#[test]
fn a_seed_that_is_held_for_one_drawing_is_held_for_one() {
    let browser = Browser::on_page();
    browser.fill(&[("prompt", "a red apple"), ("steps", "1"), ("seed", "77")]);
    browser.click("#draw");
    browser.wait_until("document.querySelectorAll('.card').length === 1");
    browser.wait_until_idle();
    browser.click("[name=next-seed][value=random]");
    browser.click_labelled(".card button", "Use settings");
    browser.wait_until("document.getElementById('seed').value === '77'");
    browser.run("await new Promise((resolve) => setTimeout(resolve, 300))");
    browser.reload();
    browser.wait_until_idle();
    let choice = "document.querySelector('[name=next-seed]:checked').value";
    assert_eq!(
        json!([browser.eval(choice), browser.eval("document.getElementById('seed').value")]),
        json!(["keep", "77"])
    );
    browser.wait_until("document.getElementById('needs').dataset.state === 'ready'");
    browser.click("#draw");
    browser.wait_until("document.querySelectorAll('.card').length === 2");
    browser.wait_until_idle();
    assert!(browser.text(".card small").contains("seed 77 "), "{}", browser.text(".card small"));
    assert_eq!(browser.eval(choice), "random");
    // And so it stays at the next visit.
    browser.reload();
    browser.wait_until_idle();
    assert_eq!(browser.eval(choice), "random");
}
