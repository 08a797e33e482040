//! Only what is masked is drawn, and masks that are blurred.

use darkroom::image::RgbImage;

use super::desk::{APPLE, Desk, black, red_half};

const QUICK: [&str; 8] = ["--prompt", APPLE, "--steps", "2", "--guidance", "1", "--seed", "1"];

/// A white square at 100, 60 with a side of 40.
fn square(width: usize, height: usize) -> RgbImage {
    let is_white = |i: usize| (100..140).contains(&(i % width)) && (60..100).contains(&(i / width));
    let pixels = (0..width * height).flat_map(|i| [if is_white(i) { 255 } else { 0 }; 3]).collect();
    RgbImage::new(width, height, pixels).unwrap()
}

/// Whether pictures are the same where `is_inside` says.
fn are_same(a: &RgbImage, b: &RgbImage, is_inside: impl Fn(usize, usize) -> bool) -> bool {
    assert_eq!((a.width, a.height), (b.width, b.height));
    let places = a.pixels.chunks_exact(3).zip(b.pixels.chunks_exact(3)).enumerate();
    places.into_iter().all(|(i, (a, b))| !is_inside(i % 250, i / 250) || a == b)
}

/// Within so many pixels of the square.
fn is_near(x: usize, y: usize, distance: usize) -> bool {
    (100 - distance..140 + distance).contains(&x) && (60 - distance..100 + distance).contains(&y)
}

fn desk() -> (Desk, RgbImage) {
    let (desk, picture) = (Desk::new(), red_half(250, 170));
    desk.put("init.png", &picture);
    desk.put("mask.png", &square(250, 170));
    (desk, picture)
}

const MASKED: [&str; 4] = ["--init", "init.png", "--mask", "mask.png"];

#[test]
fn the_rest_of_the_picture_is_untouched_at_its_own_size() {
    let (desk, picture) = desk();
    let run = desk.generate(&[&QUICK[..], &MASKED, &["--padding-mask-crop", "16"]].concat());
    run.succeeded();
    assert!(run.stderr.contains("the masked part of the start picture of 250x170 is drawn at 128x128"), "{run:?}");
    let got = desk.picture("out.png");
    assert!(are_same(&got, &picture, |x, y| !is_near(x, y, 0)), "outside of the mask");
    assert!(!are_same(&got, &picture, |x, y| is_near(x, y, 0)), "inside");
    let shown = desk.shown("out.png");
    assert_eq!(
        (&shown["padding_mask_crop"], &shown["width"], &shown["height"]),
        (&16.into(), &128.into(), &128.into())
    );
    let text = desk.run(&["show", "out.png"]).stdout;
    assert!(text.contains(", Inpaint area: Only masked, Masked area padding: 16, "), "{text}");
    // Another padding, or another size, is another picture.
    let other = desk.draw(&[&QUICK[..], &MASKED, &["--padding-mask-crop", "0"]].concat());
    assert_ne!(other, got);
    let large = ["--padding-mask-crop", "16", "--width", "192", "--height", "128"];
    assert_eq!(desk.draw(&[&QUICK[..], &MASKED, &large].concat()).width, 250);
}

#[test]
fn a_blurred_mask_fades() {
    let (desk, picture) = desk();
    let args = [&QUICK[..], &MASKED, &["--padding-mask-crop", "16", "--mask-blur", "4"]].concat();
    let got = desk.draw(&args);
    assert!(are_same(&got, &picture, |x, y| !is_near(x, y, 16)), "far from the mask");
    assert!(!are_same(&got, &picture, |x, y| is_near(x, y, 4) && !is_near(x, y, 0)), "close to it");
    let text = desk.run(&["show", "out.png"]).stdout;
    assert!(text.contains(", Mask blur: 4, Inpaint area: Only masked, Masked area padding: 16, "), "{text}");
    // Of the whole picture too, at the size that is drawn.
    let whole = [&QUICK[..], &MASKED, &["--width", "128", "--height", "128"]].concat();
    let hard = desk.draw(&whole);
    let soft = desk.draw(&[&whole[..], &["--mask-blur", "4"]].concat());
    assert_eq!((soft.width, soft.height), (128, 128));
    assert_ne!(soft, hard);
    assert_eq!(desk.shown("out.png")["mask_blur"], 4.0);
    assert_eq!(desk.draw(&[&whole[..], &["--mask-blur", "0"]].concat()), hard);
}

#[test]
fn without_a_part_to_repaint_it_is_refused() {
    let (desk, _) = desk();
    desk.put("black.png", &black(250, 170));
    let refused = |args: &[&str], words: &[&str]| desk.generate(&[&QUICK[..], args].concat()).was_refused(2, words);
    let padding = ["--padding-mask-crop", "16"];
    for setting in [&padding[..], &["--mask-blur", "4"]] {
        let name = setting[0].trim_start_matches('-').replace('-', " ");
        refused(setting, &[&name, "without a mask", "--mask"]);
        refused(&[setting, &["--init", "init.png"]].concat(), &[&name, "without a mask", "--mask"]);
        refused(&[setting, &["--init", "init.png", "--mask", "black.png"]].concat(), &["mask without white"]);
    }
    refused(&[&padding[..], &MASKED, &["--fit", "crop"]].concat(), &["fit crop", "padding_mask_crop"]);
    refused(&[&MASKED[..], &["--padding-mask-crop", "5000"]].concat(), &["padding mask crop 5000", "0 to 4096"]);
    refused(&[&MASKED[..], &["--padding-mask-crop", "-1"]].concat(), &["padding-mask-crop", "whole number"]);
    refused(&[&MASKED[..], &["--mask-blur", "300"]].concat(), &["mask blur 300", "256"]);
}
