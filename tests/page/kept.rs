//! What outlives a reload, and settings that come back from a picture's file.

use serde_json::json;

use crate::browser::Browser;

#[test]
fn a_reload_keeps_settings_and_pictures() {
    let browser = Browser::on_page();
    browser.fill(&[("negative", "blurry"), ("sampler", "euler"), ("seed", "7")]);
    browser.click("[name=next-seed][value=next]");
    browser.fill(&[("prompt", "a red apple on a blue background"), ("steps", "2")]);
    browser.click("[name=next-seed][value=next]");
    browser.click("#draw");
    browser.wait_until("document.querySelectorAll('.card').length === 1");
    browser.wait_until_idle();
    let before = browser.newest_picture();
    browser.reload();
    browser.wait_until_idle();
    browser.wait_until("document.querySelectorAll('.card').length === 1");
    let kept = browser.eval(
        "[...['prompt', 'negative', 'steps', 'sampler', 'seed'].map((id) => document.getElementById(id).value),
        document.querySelector('[name=next-seed]:checked').value]",
    );
    // The seed counted on.
    assert_eq!(kept, json!(["a red apple on a blue background", "blurry", "2", "euler", "8", "next"]));
    assert_eq!(browser.newest_picture(), before);
    assert!(
        browser.text("#needs").contains("about"),
        "it is known by now how long it takes: {}",
        browser.text("#needs")
    );

    // Deleted is deleted.
    browser.click_labelled(".card button", "Delete");
    browser.wait_until("document.querySelectorAll('.card').length === 0");
    browser.reload();
    browser.wait_until_idle();
    browser.wait_until("document.getElementById('pictures-count').textContent === 'none yet'");
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}

/// Drops a file made of `bytes` on an element, as the browser would.
const DROP: &str = "const drop = (selector, file) => {
    const transfer = new DataTransfer(); transfer.items.add(file);
    const target = document.querySelector(selector);
    for (const type of ['dragenter', 'dragover', 'drop'])
        target.dispatchEvent(new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true }));
};";

#[test]
fn a_dropped_picture_brings_its_settings_back() {
    let browser = Browser::on_page();
    browser.fill(&[("negative", "blurry"), ("sampler", "heun"), ("width", "192")]);
    browser.draw("a red apple on a blue background", 3);
    browser.fill(&[
        ("prompt", "something else"),
        ("negative", ""),
        ("sampler", "ddim"),
        ("steps", "9"),
        ("width", "128"),
    ]);
    // The file that Save would give.
    browser.run(&format!(
        "{DROP} const db = await new Promise((resolve) => {{
            const open = indexedDB.open('darkroom-album'); open.onsuccess = () => resolve(open.result); }});
        const [kept] = await new Promise((resolve) => {{
            const all = db.transaction('pictures').objectStore('pictures').getAll(); all.onsuccess = () => resolve(all.result); }});
        db.close();
        drop('.target[data-target=settings]', new File([kept.png], 'apple.png', {{ type: 'image/png' }}));"
    ));
    browser.wait_until("document.getElementById('prompt').value === 'a red apple on a blue background'");
    let fields = browser.eval(
        "['negative', 'sampler', 'steps', 'width', 'seed', 'guidance'].map((id) => document.getElementById(id).value)",
    );
    assert_eq!(fields, json!(["blurry", "heun", "3", "192", "1", "4"]));
    assert_eq!(browser.eval("document.querySelector('[name=next-seed]:checked').value"), "keep");

    // Drawn again it is the same picture.
    let before = browser.newest_picture();
    browser.click("#draw");
    browser.wait_until("document.querySelectorAll('.card').length === 2");
    browser.wait_until_idle();
    assert_eq!(browser.newest_picture(), before);

    // A picture without settings says so, and can be started from.
    browser.run(&format!(
        "{DROP} const canvas = new OffscreenCanvas(64, 64); canvas.getContext('2d').fillRect(0, 0, 64, 64);
        drop('body', new File([await canvas.convertToBlob()], 'plain.png', {{ type: 'image/png' }}));"
    ));
    browser.wait_until("document.getElementById('notices').textContent.includes('contains no settings')");
    browser.click_labelled(".notice button", "Use as source image");
    browser.wait_until("!document.getElementById('start-filled').hidden");
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}
