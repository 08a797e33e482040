//! The viewer with an image that was made from another: it compares the two, and its image and seed go to the clipboard.

use serde_json::json;

use darkroom::image::RgbImage;

use crate::browser::{Browser, difference, page_url};

const APPLE: &str = "a red apple on a blue background";

/// Presses a button of the viewer.
fn press(browser: &Browser, label: &str) {
    browser.click_labelled("#viewer-actions button", label);
}

/// The pixels of what an image of the viewer shows.
fn shown(browser: &Browser, id: &str) -> RgbImage {
    browser.pixels(&format!(
        "const image = document.getElementById('{id}');
        await image.decode();
        return image;"
    ))
}

#[test]
fn an_image_is_compared_with_its_source() {
    let browser = Browser::on_page();
    browser.draw(APPLE, 4);
    let source = browser.newest_picture();
    browser.click_labelled(".card button", "Edit");
    browser.wait_until("!document.getElementById('start-filled').hidden");
    browser.draw("a rocket on a black background", 4);
    // The first one is not there to compare with any more: the source is its own.
    browser.eval("[...document.querySelectorAll('.card')][1].querySelector('[type=checkbox]').click()");
    browser.click("#delete-selected");
    browser.wait_until("document.querySelectorAll('.card').length === 1");
    browser.click(".card .open");
    assert_eq!(browser.eval("document.getElementById('viewer-compare').disabled"), false);
    browser.press(&['c']);
    let options = browser.eval("[...document.getElementById('viewer-with').options].map(({ text }) => text)");
    assert_eq!(options, json!(["Source image"]));
    assert_eq!(browser.text("#viewer-names"), "← this image · Source image →");
    assert_eq!(shown(&browser, "viewer-other").pixels, source.pixels);
    assert!(difference(&shown(&browser, "viewer-image"), &source) > 8, "the image itself is another one");
    // Left of the slider is the image, right of it the source.
    let clip = "document.getElementById('viewer-other').style.clipPath";
    browser.eval("(() => { const split = document.getElementById('viewer-split'); split.value = 0; split.dispatchEvent(new Event('input')); })()");
    assert_eq!(browser.eval(clip), "inset(0px)");
    // It is there after a reload, too.
    browser.reload();
    browser.wait_until_idle();
    browser.wait_until("document.querySelectorAll('.card').length === 1");
    browser.click(".card .open");
    browser.click("#viewer-compare");
    assert_eq!(shown(&browser, "viewer-other").pixels, source.pixels);
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}

#[test]
fn an_image_and_its_seed_are_copied() {
    let browser = Browser::start();
    let url = page_url();
    let granted = json!({ "origin": url.trim_end_matches('/'), "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] });
    browser.cdp("Browser.grantPermissions", &granted);
    browser.open_page(&url);
    browser.fill(&[("prompt", APPLE), ("steps", "1"), ("seed", "18446744073709551615")]);
    browser.click("#draw");
    browser.wait_until("document.querySelectorAll('.card').length === 1");
    browser.wait_until_idle();
    let drawn = browser.newest_picture();
    browser.click(".card .open");
    press(&browser, "Copy seed");
    browser.wait_until("document.getElementById('notices').textContent.includes('Seed copied')");
    // No digit is lost to a floating-point number.
    assert_eq!(browser.run("return await navigator.clipboard.readText()"), "18446744073709551615");
    press(&browser, "Copy");
    browser.wait_until("document.getElementById('notices').textContent.includes('Image copied')");
    let copied = browser.pixels(
        "const [item] = await navigator.clipboard.read();
        const bitmap = await createImageBitmap(await item.getType('image/png'));
        return bitmap;",
    );
    assert_eq!(copied.pixels, drawn.pixels);
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}

#[test]
fn a_card_shows_a_small_copy_of_its_own_image() {
    let browser = Browser::on_page();
    browser.run(
        "const { add_picture } = await import('./page/gallery.js');
        for (const [seed, colour] of [[1, '#e02020'], [2, '#20e020'], [3, '#2020e0']]) {
            const canvas = new OffscreenCanvas(1024, 512);
            const pen = canvas.getContext('2d');
            pen.fillStyle = colour;
            pen.fillRect(0, 0, 1024, 512);
            const parameters = { prompt: colour, seed, steps: 1, width: 1024, height: 512 };
            await add_picture({ png: await canvas.convertToBlob(), parameters, seconds: 1, made_at: Date.now() });
        }",
    );
    browser.click("#open-gallery");
    for (place, colour) in [[0x20, 0x20, 0xe0], [0x20, 0xe0, 0x20], [0xe0, 0x20, 0x20]].into_iter().enumerate() {
        browser.wait_until(&format!("document.querySelectorAll('.card img')[{place}].naturalWidth > 0"));
        let shown = browser.pixels(&format!("return document.querySelectorAll('.card img')[{place}]"));
        assert_eq!((shown.width, shown.height), (384, 192));
        for pixel in shown.pixels.chunks(3) {
            assert!(pixel.iter().zip(&colour).all(|(a, b)| a.abs_diff(*b) <= 8), "{pixel:?} of card {place}");
        }
    }
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}
