//! The viewer with an image that was made from another: it compares the two, and its image and seed go to the clipboard.

use serde_json::{Value, json};

use crate::browser::{Browser, difference, page_url, picture};

const APPLE: &str = "a red apple on a blue background";

/// Presses a button of the viewer.
fn press(browser: &Browser, label: &str) {
    browser.eval(&format!(
        "[...document.querySelectorAll('#viewer-actions button')].find((b) => b.textContent === {label:?}).click()"
    ));
}

/// The pixels of what an image of the viewer shows.
fn shown(browser: &Browser, id: &str) -> Value {
    browser.run(&format!(
        "const image = document.getElementById('{id}');
        await image.decode();
        const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
        const context = canvas.getContext('2d');
        context.drawImage(image, 0, 0);
        return [canvas.width, canvas.height, Array.from(context.getImageData(0, 0, canvas.width, canvas.height).data)];"
    ))
}

#[test]
fn an_image_is_compared_with_its_source() {
    let browser = Browser::on_page();
    browser.draw(APPLE, 4);
    let source = browser.newest_picture();
    browser.eval("[...document.querySelectorAll('.card button')].find((b) => b.textContent === 'Edit').click()");
    browser.wait_until("!document.getElementById('start-filled').hidden");
    browser.draw("a rocket on a black background", 4);
    // The first one is not there to compare with any more: the source is its own.
    browser.eval("[...document.querySelectorAll('.card')][1].querySelector('[type=checkbox]').click()");
    browser.eval("document.getElementById('delete-selected').click()");
    browser.wait_until("document.querySelectorAll('.card').length === 1");
    browser.eval("document.querySelector('.card .open').click()");
    assert_eq!(browser.eval("document.getElementById('viewer-compare').disabled"), false);
    browser.press(&['c']);
    let options = browser.eval("[...document.getElementById('viewer-with').options].map(({ text }) => text)");
    assert_eq!(options, json!(["Source image"]));
    assert_eq!(browser.text("#viewer-names"), "← this image · Source image →");
    assert_eq!(picture(&shown(&browser, "viewer-other")).pixels, source.pixels);
    assert!(difference(&picture(&shown(&browser, "viewer-image")), &source) > 8, "the image itself is another one");
    // Left of the slider is the image, right of it the source.
    let clip = "document.getElementById('viewer-other').style.clipPath";
    browser.eval("(() => { const split = document.getElementById('viewer-split'); split.value = 0; split.dispatchEvent(new Event('input')); })()");
    assert_eq!(browser.eval(clip), "inset(0px)");
    // It is there after a reload, too.
    browser.reload();
    browser.wait_until_idle();
    browser.wait_until("document.querySelectorAll('.card').length === 1");
    browser.eval("document.querySelector('.card .open').click()");
    browser.eval("document.getElementById('viewer-compare').click()");
    assert_eq!(picture(&shown(&browser, "viewer-other")).pixels, source.pixels);
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}

#[test]
fn an_image_and_its_seed_are_copied() {
    let browser = Browser::start();
    let url = page_url();
    let granted = json!({ "origin": url.trim_end_matches('/'), "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] });
    browser.post("/goog/cdp/execute", json!({ "cmd": "Browser.grantPermissions", "params": granted }));
    browser.open_page(&url);
    browser.fill(&[("prompt", APPLE), ("steps", "1"), ("seed", "18446744073709551615")]);
    browser.eval("document.getElementById('draw').click()");
    browser.wait_until("document.querySelectorAll('.card').length === 1");
    browser.wait_until_idle();
    let drawn = browser.newest_picture();
    browser.eval("document.querySelector('.card .open').click()");
    press(&browser, "Copy seed");
    browser.wait_until("document.getElementById('notices').textContent.includes('Seed copied')");
    // No digit is lost to a floating-point number.
    assert_eq!(browser.run("return await navigator.clipboard.readText()"), "18446744073709551615");
    press(&browser, "Copy");
    browser.wait_until("document.getElementById('notices').textContent.includes('Image copied')");
    let copied = browser.run(
        "const [item] = await navigator.clipboard.read();
        const bitmap = await createImageBitmap(await item.getType('image/png'));
        const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
        const context = canvas.getContext('2d');
        context.drawImage(bitmap, 0, 0);
        return [canvas.width, canvas.height, Array.from(context.getImageData(0, 0, canvas.width, canvas.height).data)];",
    );
    assert_eq!(picture(&copied).pixels, drawn.pixels);
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}
