//! A GPU that goes away while a picture develops.

use crate::browser::{Browser, difference, has_no_gpu, serve};
use crate::trouble::copy_of_page;

/// Put in front of the worker's code: takes hold of every device, and destroys the newest when the test says so.
const GRIP: &str = "{
  const request = GPUAdapter.prototype.requestDevice;
  const devices = [];
  GPUAdapter.prototype.requestDevice = async function (...given) {
    devices.push(await request.apply(this, given));
    return devices.at(-1);
  };
  new BroadcastChannel('test').onmessage = () => devices.at(-1).destroy();
}
";

#[test]
fn the_picture_goes_on_from_its_last_step() {
    if has_no_gpu() {
        return;
    }
    let page = copy_of_page(None);
    let worker = page.path().join("worker.js");
    let code = std::fs::read_to_string(&worker).expect("the worker");
    std::fs::write(&worker, format!("{GRIP}{code}")).expect("a file");
    let browser = Browser::start();
    browser.open_page(&serve(page.path()));
    browser.fill(&[("width", "64"), ("height", "64")]);
    browser.draw("a red apple on a blue background", 3);
    browser.choose_runner("gpu", "GPU");
    browser.eval(
        "(() => { window.said = []; const stage = document.getElementById('stage');
        new MutationObserver(() => window.said.push(stage.textContent))
        .observe(stage, { childList: true, characterData: true, subtree: true }); })()",
    );
    browser.ask_for("a red apple on a blue background", 3);
    browser.wait_until("document.getElementById('stage').textContent === 'Step 2 of 3'");
    browser.eval("new BroadcastChannel('test').postMessage('')");
    browser.wait_until("document.querySelectorAll('.card').length === 2");
    browser.wait_until_idle();
    let said = browser.eval("window.said.join(' | ')");
    let said = said.as_str().expect("a text");
    assert!(
        browser.text("#notices").contains("The GPU was lost while this image was generated"),
        "{said}\n{}",
        browser.text("body")
    );
    let (_, after) = said.split_once("The GPU was lost").expect("the page to say so");
    assert!(!after.contains("Step 1 of 3"), "steps that were done are done again: {said}");
    let processors = browser.picture_at(1);
    let max = difference(&browser.newest_picture(), &processors);
    assert!(max <= 2, "the recovered picture differs from the processor's by {max} levels");
}
