//! A start picture that is extended on some sides.

use darkroom::image::RgbImage;

use super::desk::{APPLE, Desk, red_half, white_left};

const QUICK: [&str; 8] = ["--prompt", APPLE, "--steps", "1", "--guidance", "1", "--seed", "1"];
const EXTENDED: [&str; 4] = ["--init", "init.png", "--outpaint", "64,0,0,0"];

/// Whether the columns of a picture are those of another, which begin `left` columns further.
fn are_same(part: &RgbImage, whole: &RgbImage, left: usize, columns: std::ops::Range<usize>) -> bool {
    let pixel = |image: &RgbImage, x: usize, y: usize| image.pixels[(y * image.width + x) * 3..][..3].to_vec();
    (0..part.height).all(|y| columns.clone().all(|x| pixel(part, x, y) == pixel(whole, x + left, y)))
}

#[test]
fn the_border_is_drawn_and_the_picture_kept() {
    let desk = Desk::new();
    let picture = red_half(128, 128);
    desk.put("init.png", &picture);
    let got = desk.draw(&[&QUICK[..], &EXTENDED].concat());
    assert_eq!((got.width, got.height), (192, 128));
    // 16 pixels beside the border are drawn again, so that there is no seam.
    assert!(are_same(&picture, &got, 64, 16..128));
    assert!(!are_same(&picture, &got, 64, 0..16));
    // What a mask marks, too.
    desk.put("mask.png", &white_left(128, 128));
    let marked = desk.draw(&[&QUICK[..], &EXTENDED, &["--mask", "mask.png"]].concat());
    assert!(are_same(&picture, &marked, 64, 64..128) && !are_same(&picture, &marked, 64, 16..64));
    // At its own size, where only the border is drawn.
    let odd = ["--init", "init.png", "--outpaint", "10,3,20,7", "--padding-mask-crop", "8"];
    let got = desk.draw(&[&QUICK[..], &odd].concat());
    assert_eq!((got.width, got.height), (158, 138));
}

#[test]
fn help_tells_what_is_drawn_of_the_picture() {
    let run = Desk::new().run(&["generate", "--help"]);
    run.succeeded();
    let words: Vec<&str> = run.stdout.split_whitespace().collect();
    assert!(words.join(" ").contains("draw the border and up to 16 pixels of the picture beside it"), "{}", run.stdout);
}

#[test]
fn what_extends_nothing_is_refused() {
    let desk = Desk::new();
    desk.put("init.png", &red_half(128, 128));
    let refused = |args: &[&str], words: &[&str]| desk.generate(&[&QUICK[..], args].concat()).was_refused(2, words);
    refused(&["--outpaint", "64,0,0,0"], &["outpaint without a picture", "--init"]);
    for border in ["0,0,0,0", "64", "64,0,0", "a,0,0,0", "-1,0,0,0"] {
        refused(&["--init", "init.png", &format!("--outpaint={border}")], &["outpaint", "four whole numbers"]);
    }
    refused(&["--init", "init.png", "--outpaint", "5000,0,0,0"], &["outpaint to 5128x128", "4096"]);
}
