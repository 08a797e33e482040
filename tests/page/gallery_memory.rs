//! A gallery of sixty large images takes hardly more memory than an empty one: their files stay on the disk, and only what is in view is
//! read and decoded.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::browser::Browser;

const N_IMAGES: u64 = 60;

/// What sixty images may add, in bytes: they are 250 MB of files, and as much of pixels. Kept in memory they added 490 MB.
const MAX_ADDED_BYTES: u64 = 40 << 20;

/// What the browser holds once it has let go of what it does not need: the least of some looks.
fn settled_bytes(browser: &Browser) -> u64 {
    let start = Instant::now();
    let mut least = u64::MAX;
    while start.elapsed() < Duration::from_secs(6) {
        browser.cdp("HeapProfiler.collectGarbage", &json!({}));
        std::thread::sleep(Duration::from_millis(500));
        least = least.min(browser.held_bytes());
    }
    least
}

/// Adds images as a drawing does: 1024x1024 pixels of noise, which PNG cannot make smaller.
fn add_images(browser: &Browser, n: u64, first_seed: u64) {
    browser.run(&format!(
        "const {{ add_picture }} = await import('./page/gallery.js');
        const canvas = new OffscreenCanvas(1024, 1024);
        const pen = canvas.getContext('2d');
        for (let seed = {first_seed}; seed < {first_seed} + {n}; seed += 1) {{
            const pixels = pen.createImageData(1024, 1024);
            const words = new Uint32Array(pixels.data.buffer);
            for (let at = 0; at < words.length; at += 16384) crypto.getRandomValues(words.subarray(at, at + 16384));
            for (let at = 3; at < pixels.data.length; at += 4) pixels.data[at] = 255;
            pen.putImageData(pixels, 0, 0);
            const drawn = await (await canvas.convertToBlob()).arrayBuffer();
            const png = new Blob([drawn], {{ type: 'image/png' }});
            const parameters = {{ prompt: 'noise', seed, steps: 1, width: 1024, height: 1024 }};
            await add_picture({{ png, parameters, seconds: 1, made_at: Date.now() }});
        }}"
    ));
}

/// Opens the gallery, goes through all of it, and closes it again.
fn look_through(browser: &Browser) {
    browser.click("#open-gallery");
    browser.run(
        "const list = document.getElementById('gallery');
        for (let top = 0; top < list.scrollHeight; top += list.clientHeight / 2) {
            list.scrollTop = top;
            await new Promise((resolve) => setTimeout(resolve, 250));
        }",
    );
    browser.click("#open-gallery");
}

#[test]
fn sixty_images_take_no_memory() {
    let browser = Browser::on_page();
    browser.draw("a red apple on a blue background", 1);
    // What the page does once is not each image's.
    add_images(&browser, 3, 1);
    look_through(&browser);
    let before = settled_bytes(&browser);
    add_images(&browser, N_IMAGES, 100);
    let added = settled_bytes(&browser).saturating_sub(before);
    eprintln!("{N_IMAGES} images took {:.1} MB, beside {:.1} MB", added as f64 / 1e6, before as f64 / 1e6);
    look_through(&browser);
    let seen = settled_bytes(&browser).saturating_sub(before);
    eprintln!("{:.1} MB after all were looked at", seen as f64 / 1e6);
    assert!(added < MAX_ADDED_BYTES && seen < MAX_ADDED_BYTES, "{added} bytes, {seen} once seen");
    // What the cards show is small.
    let largest = "Math.max(...[...document.querySelectorAll('.card img')].map(({ naturalWidth }) => naturalWidth))";
    assert_eq!(browser.eval(largest), 384);
    // They are all there, and whole.
    let whole = browser.run(
        "const { all } = await import('./page/album.js');
        return (await Promise.all((await all()).map(async ({ png }) => (await createImageBitmap(png)).width === 1024))).filter(Boolean).length;",
    );
    assert_eq!(whole, N_IMAGES + 3);
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}
