//! Variations, only what is masked, masks that grow and turn over, and pictures that are extended.

use std::path::{Path, PathBuf};

use darkroom::image::{RgbImage, decode, encode_png};
use serde_json::json;

use crate::browser::Browser;

const APPLE: &str = "a red apple on a blue background";
/// Pixels of the mask that are opaque.
const N_PAINTED: &str = "(() => { const { width, height } = document.getElementById('mask-canvas');
    const { data } = document.getElementById('mask-canvas').getContext('2d').getImageData(0, 0, width, height);
    let n = 0; for (let i = 3; i < data.length; i += 4) n += data[i] >= 128; return n; })()";

fn apple() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/emoji/apple.png")
}

fn read(path: &Path) -> RgbImage {
    decode(&std::fs::read(path).expect("a file")).expect("a picture")
}

/// Chooses, as a person does who presses Enter or Tab behind it.
fn choose(browser: &Browser, id: &str, value: &str) {
    browser.fill(&[(id, value)]);
    browser.eval(&format!("document.getElementById('{id}').dispatchEvent(new Event('change', {{ bubbles: true }}))"));
}

fn hint_starts(said: &str) -> String {
    format!("document.getElementById('start-hint').textContent.startsWith({})", json!(said))
}

/// Whether a picture and a part of another, which begins at `left`, `top`, are the same where `is_kept` says.
fn is_kept(
    part: &RgbImage,
    whole: &RgbImage,
    (left, top): (usize, usize),
    is_kept: impl Fn(usize, usize) -> bool,
) -> bool {
    (0..part.width * part.height).all(|i| {
        let (x, y) = (i % part.width, i / part.width);
        let at = ((y + top) * whole.width + x + left) * 3;
        !is_kept(x, y) || part.pixels[i * 3..i * 3 + 3] == whole.pixels[at..at + 3]
    })
}

#[test]
fn variations_keep_the_seed_and_count_their_own() {
    let browser = Browser::on_page();
    browser.draw(APPLE, 2);
    let own = browser.newest_picture();
    browser.eval("document.getElementById('advanced').open = true");
    browser.click("[name=next-seed][value=random]");
    choose(&browser, "variation-strength", "0.4");
    browser.wait_until("document.querySelector('[name=next-seed]:checked').value === 'keep'");
    browser.fill(&[("variation-seed", "9"), ("count", "2")]);
    browser.ask_for(APPLE, 2);
    browser.wait_until("document.querySelectorAll('.card').length === 3");
    browser.wait_until_idle();
    let second = browser.newest_picture();
    assert!(second != own && second != browser.picture_at(1));
    // Back from the picture: the seed of all, and its own variation's.
    browser.fill(&[("seed", "77"), ("variation-seed", ""), ("variation-strength", "0"), ("count", "1")]);
    browser.click_labelled(".card button", "Use settings");
    let form = "['seed', 'variation-seed', 'variation-strength'].map((id) => document.getElementById(id).value)";
    browser.wait_until(&format!("JSON.stringify({form}) === '[\"1\",\"10\",\"0.4\"]'"));
    browser.draw(APPLE, 2);
    assert!(browser.newest_picture() == second);
    // Without a seed it is a random one, which the picture tells.
    browser.fill(&[("variation-seed", "")]);
    browser.draw(APPLE, 2);
    assert!(browser.newest_picture() != second);
    browser.click_labelled(".card button", "Use settings");
    browser.wait_until("/^[0-9]+$/.test(document.getElementById('variation-seed').value)");
    // What is none is said at its field.
    browser.fill(&[("variation-strength", "1.5")]);
    browser.wait_until("document.getElementById('needs').textContent.includes('0.0 to 1.0')");
    assert_eq!(browser.eval("document.getElementById('variation-strength').getAttribute('aria-invalid')"), "true");
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}

#[test]
fn only_what_is_masked_is_drawn_and_put_back() {
    let browser = Browser::on_page();
    let small = read(&apple());
    let wide = small.resize_lanczos(300, 200);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("wide.png");
    std::fs::write(&path, encode_png(&wide, &[]).expect("a PNG")).expect("a file");
    browser.choose_file("#picture-file", &path);
    browser.wait_until("document.getElementById('width').value === '288'");
    choose(&browser, "inpaint-area", "masked");
    // The model's own size, and the picture's own shape.
    browser.wait_until(
        "document.getElementById('width').value === '128' && document.getElementById('height').value === '128'",
    );
    let canvas = "['width', 'height'].map((side) => document.getElementById('mask-canvas')[side])";
    browser.wait_until(&format!("JSON.stringify({canvas}) === '[300,200]'"));
    assert_eq!(browser.eval("document.getElementById('fit-field').hidden"), true);
    assert_eq!(browser.eval("document.getElementById('mask-padding-field').hidden"), false);
    browser.wait_until(&hint_starts("Paint the part"));
    browser.eval("document.getElementById('brush-size').value = '10'");
    browser.drag("#mask-canvas", "mouse", (0.3, 0.5), (0.35, 0.5));
    browser.wait_until(&hint_starts("Only the painted area changes. It is generated at 128 × 128 with 32 pixels"));
    browser.draw("a yellow star on a green background", 2);
    let drawn = browser.newest_picture();
    assert_eq!((drawn.width, drawn.height), (300, 200));
    // The brush is 30 pixels wide.
    assert!(
        is_kept(&drawn, &wide, (0, 0), |x, y| !(70..130).contains(&x) || !(80..120).contains(&y)),
        "the rest changed"
    );
    assert!(
        !is_kept(&drawn, &wide, (0, 0), |x, y| (90..105).contains(&x) && (95..105).contains(&y)),
        "nothing changed"
    );
    // A soft end reaches further.
    browser.fill(&[("mask-blur", "4")]);
    browser.draw("a yellow star on a green background", 2);
    assert!(browser.newest_picture() != drawn);
    browser.fill(&[("mask-blur", "0"), ("mask-padding", "8")]);
    choose(&browser, "inpaint-area", "whole");
    browser.wait_until("document.getElementById('width').value === '288'");
    browser.click_labelled(".card button", "Use settings");
    let form = "['inpaint-area', 'mask-padding', 'mask-blur'].map((id) => document.getElementById(id).value)";
    browser.wait_until(&format!("JSON.stringify({form}) === '[\"masked\",\"32\",\"4\"]'"));
    browser.fill(&[("mask-padding", "1.5")]);
    browser.wait_until("document.getElementById('needs').textContent.includes('Padding')");
    // The mask is not in the file, blurred or not: the page says so where none is painted.
    let names_mask = |card: usize| {
        browser.eval("document.querySelectorAll('.notice').forEach((notice) => notice.remove())");
        browser
            .eval(&format!("document.querySelectorAll('.card button[aria-label^=\"Use settings\"]')[{card}].click()"));
        browser.run("await new Promise((resolve) => setTimeout(resolve, 100))");
        browser.text("#notices").contains("made with a mask, which the file does not contain")
    };
    assert!(!names_mask(1), "the mask is there");
    browser.click("#mask-clear");
    assert_eq!((names_mask(0), names_mask(1)), (true, true));
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}

#[test]
fn a_mask_grows_shrinks_and_turns_over() {
    let browser = Browser::on_page();
    browser.choose_file("#picture-file", &apple());
    browser.wait_until("!document.getElementById('start-filled').hidden");
    browser.drag("#mask-canvas", "mouse", (0.4, 0.5), (0.6, 0.5));
    let painted = || browser.eval(N_PAINTED).as_u64().expect("a number");
    let before = painted();
    let press = |id: &str| browser.click(&format!("#mask-{id}"));
    press("grow");
    let grown = painted();
    assert!(grown > before + 50, "{before} to {grown}");
    press("shrink");
    let shrunk = painted();
    // What is as narrow as a step stays closed.
    assert!((before..grown - 100).contains(&shrunk), "{before}, {grown}, {shrunk}");
    press("invert");
    assert_eq!(painted(), 128 * 128 - shrunk);
    browser.wait_until(&hint_starts("Only the painted area"));
    for _ in 0..3 {
        press("undo");
    }
    assert_eq!(painted(), before);
}

#[test]
fn a_picture_is_extended_and_its_border_is_the_mask() {
    let browser = Browser::on_page();
    browser.choose_file("#picture-file", &apple());
    browser.wait_until("document.getElementById('width').value === '128'");
    browser.eval("['left', 'top', 'bottom'].forEach((side) => document.getElementById(`outpaint-${side}`).click())");
    browser.fill(&[("outpaint-pixels", "64")]);
    browser.click("#outpaint");
    browser.wait_until("document.getElementById('width').value === '192'");
    browser.wait_until(&hint_starts("Only the painted area"));
    // 64 columns, and 16 of the picture.
    browser.wait_until(&format!("{N_PAINTED} === {}", 80 * 128));
    browser.draw(APPLE, 2);
    let (before, after) = (read(&apple()), browser.newest_picture());
    assert_eq!((after.width, after.height), (192, 128));
    assert!(is_kept(&before, &after, (0, 0), |x, _| x < 112), "the picture changed");
    assert!(!is_kept(&before, &after, (64, 0), |x, _| x > 64), "the border was not drawn");
    browser.eval("['outpaint-right', 'outpaint'].forEach((id) => document.getElementById(id).click())");
    browser.wait_until("document.getElementById('notices').textContent.includes('Choose at least one side')");
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}

/// The mask lies on the picture as it is fitted, and stays on the same part of it.
#[test]
fn a_painted_mask_stays_in_its_place_where_a_fitted_picture_is_extended() {
    let browser = Browser::on_page();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("wide.png");
    let wide = read(&apple()).resize_lanczos(256, 128);
    std::fs::write(&path, encode_png(&wide, &[]).expect("a PNG")).expect("a file");
    browser.choose_file("#picture-file", &path);
    browser.wait_until("document.getElementById('width').value === '256'");
    browser.eval("['left', 'right', 'bottom'].forEach((side) => document.getElementById(`outpaint-${side}`).click())");
    for fit in ["crop", "pad"] {
        // So that the size tells that the picture has come.
        browser.click("#remove-picture");
        browser.fill(&[("width", "64")]);
        browser.choose_file("#picture-file", &path);
        browser.wait_until(
            "document.getElementById('mask-canvas').width === 256 && document.getElementById('width').value === '256'",
        );
        browser.fill(&[("width", "128"), ("fit", fit), ("outpaint-pixels", "64")]);
        browser.wait_until("document.getElementById('mask-canvas').width === 128");
        // A spot about the picture's middle, 16 by 16 of its own pixels, and one to its left: in the middle row the canvas shows the
        // columns 64 to 192 of it cropped, and all, half as large, padded.
        let (scale, left, top) = if fit == "crop" { (1.0, -64.0, 0.0) } else { (0.5, 0.0, 32.0) };
        browser.run(&format!(
            "const {{ paint }} = await import('./page/mask.js');
            paint((pen) => {{ for (const x of [80, 120]) pen.fillRect({left} + x * {scale}, {top} + 56 * {scale}, 16 * {scale}, 16 * {scale}); }});"
        ));
        browser.click("#outpaint");
        browser.wait_until(
            "document.getElementById('height').value === '192' && document.getElementById('width').value === '256'",
        );
        browser.wait_until(&hint_starts("Only the painted area"));
        // 64 rows above, 16 of the picture, and both spots, each within a pixel of its side.
        browser.wait_until(&format!("{N_PAINTED} > {}", 80 * 256));
        let spots = browser.eval(N_PAINTED).as_u64().expect("a number") - 80 * 256;
        assert!((2 * 15 * 15..=2 * 17 * 17).contains(&spots), "{fit}: {spots}");
        let at = "[[88, 128], [128, 128], [108, 128], [88, 110], [140, 128]].map(([x, y]) =>
            document.getElementById('mask-canvas').getContext('2d').getImageData(x, y, 1, 1).data[3] >= 128)";
        assert_eq!(browser.eval(at), json!([true, true, false, false, false]), "{fit}");
    }
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}
