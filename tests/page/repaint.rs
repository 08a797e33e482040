//! Starting from a picture, and repainting a part of one with the brush.

use std::path::{Path, PathBuf};

use darkroom::image::{RgbImage, decode, encode_png};

use crate::browser::{Browser, keys};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/emoji/apple.png")
}

fn read(path: &Path) -> RgbImage {
    decode(&std::fs::read(path).expect("the fixture")).expect("a picture")
}

/// Pixels in which two pictures differ, by the column of the picture they are in.
fn differing(a: &RgbImage, b: &RgbImage, columns: std::ops::Range<usize>) -> usize {
    let pixels = a.pixels.chunks_exact(3).zip(b.pixels.chunks_exact(3)).enumerate();
    pixels.filter(|(i, (a, b))| columns.contains(&(i % 128)) && a != b).count()
}

#[test]
fn what_is_not_painted_stays_as_it_is() {
    let browser = Browser::on_page();
    browser.choose_file("#picture-file", &fixture());
    browser.wait_until("!document.getElementById('start-filled').hidden");
    assert_eq!(browser.text("#strength-value"), "0.80");

    // A stroke down the left quarter, with a mouse; it can be taken back, erased and cleared.
    let painted = "document.getElementById('start-hint').textContent.startsWith('Only the painted area')";
    browser.drag("#mask-canvas", "mouse", (0.2, 0.15), (0.2, 0.85));
    browser.wait_until(painted);
    assert_eq!(browser.text("#strength-value"), "1.00");
    browser.click("#mask-undo");
    browser.wait_until(&format!("!({painted})"));
    // With a finger.
    browser.drag("#mask-canvas", "touch", (0.2, 0.15), (0.2, 0.85));
    browser.wait_until(painted);
    browser.click("[name=tool][value=erase]");
    browser.eval("document.getElementById('brush-size').value = '40'");
    browser.drag("#mask-canvas", "mouse", (0.2, 0.1), (0.2, 0.9));
    browser.wait_until(&format!("!({painted})"));
    browser.click("[name=tool][value=paint]");
    browser.eval("document.getElementById('brush-size').value = '16'");
    browser.drag("#mask-canvas", "mouse", (0.2, 0.15), (0.2, 0.85));
    browser.wait_until(painted);

    browser.draw("a yellow star on a green background", 3);
    let (before, after) = (read(&fixture()), browser.newest_picture());
    // The brush is a sixth of the picture wide, 10 pixels each side of column 26.
    assert_eq!(differing(&before, &after, 40..128), 0, "pixels outside of the mask changed");
    let changed = differing(&before, &after, 16..36);
    assert!(changed > 800, "only {changed} pixels of the mask changed");
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}

#[test]
fn a_picture_keeps_its_size_or_is_cut_where_that_is_asked_for() {
    let browser = Browser::on_page();
    // Twice as wide as high.
    let apple = read(&fixture());
    let row = |row: &[u8]| [&[9; 64 * 3], row, &[9; 64 * 3]].concat();
    let wide = RgbImage::new(256, 128, apple.pixels.chunks_exact(128 * 3).flat_map(row).collect()).expect("a picture");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("wide.png");
    std::fs::write(&path, encode_png(&wide, &[]).expect("a PNG")).expect("a file");
    browser.choose_file("#picture-file", &path);
    browser.wait_until("document.getElementById('width').value === '256'");
    assert_eq!(browser.eval("document.getElementById('height').value"), "128");
    assert_eq!(browser.eval("document.getElementById('fit-field').hidden"), true);
    // In a square the reader chooses what becomes of the shape; cut, the middle is used.
    browser.fill(&[("width", "128")]);
    browser.wait_until("!document.getElementById('fit-field').hidden");
    browser.fill(&[("fit", "crop")]);
    browser.fill(&[("strength", "0.3")]);
    browser.draw("a red apple on a blue background", 10);
    assert!(browser.text("#what-settings").contains("128 × 128"), "{}", browser.text("#bath"));
    let (changed, n_pixels) = (differing(&apple, &browser.newest_picture(), 0..128), 128 * 128);
    assert!(changed > n_pixels / 2, "only {changed} pixels changed");
    let sum: u64 =
        apple.pixels.iter().zip(&browser.newest_picture().pixels).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    let mean = sum as f64 / apple.pixels.len() as f64;
    assert!(mean < 25.0, "a little strength changed the apple by {mean:.1} levels on average");
    browser.click("#remove-picture");
    assert_eq!(browser.eval("document.getElementById('start-filled').hidden"), true);
    assert_eq!(browser.focus(), "choose-picture");

    // What is no picture says so.
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "no picture").expect("a file");
    browser.choose_file("#picture-file", &text);
    browser.wait_until(
        "document.getElementById('notices').textContent.includes('The file notes.txt: not a picture file')",
    );
}

#[test]
fn the_mask_is_painted_by_keyboard() {
    let browser = Browser::on_page();
    browser.choose_file("#picture-file", &fixture());
    browser.wait_until("!document.getElementById('start-filled').hidden");
    browser.eval("document.getElementById('mask-canvas').focus()");
    browser.press(&[keys::RIGHT, keys::RIGHT, keys::SPACE]);
    browser.wait_until("document.getElementById('start-hint').textContent.startsWith('Only the painted area')");
    let hit = "document.getElementById('mask-canvas').getContext('2d').getImageData(74, 64, 1, 1).data[3] === 255";
    browser.wait_until(hit);
    browser.press(&[keys::CONTROL, 'z']);
    browser.wait_until(&format!("!({hit})"));
}
