//! Pictures that people bring to the command line, and those it leaves.

use std::fs;
use std::path::Path;

use darkroom::image::{RgbImage, decode};

use crate::desk::{APPLE, Desk, red_half, white_left};

/// Settings that take the least time.
const QUICK: [&str; 8] = ["--prompt", APPLE, "--steps", "1", "--guidance", "1", "--seed", "1"];

fn bring(desk: &Desk, name: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures").join(name);
    fs::copy(file, desk.path(name)).unwrap();
}

/// Black but for a white square in the middle.
fn white_middle() -> RgbImage {
    let is_white = |i: usize| (56..72).contains(&(i % 128)) && (56..72).contains(&(i / 128));
    RgbImage::new(128, 128, (0..128 * 128).flat_map(|i| [if is_white(i) { 255 } else { 0 }; 3]).collect()).unwrap()
}

/// What is not repainted is the picture that was brought, turned upright.
#[test]
fn a_picture_to_start_from_may_be_of_any_format_and_lie_on_its_side() {
    let desk = Desk::new();
    desk.put("mask.png", &white_middle());
    for name in
        ["xmp6.png", "raw_profile6.png", "xmp8_element.jpg", "xmp6.webp", "animated.gif", "palette.bmp", "turned6.tif"]
    {
        bring(&desk, name);
        let brought = decode(&fs::read(desk.path(name)).unwrap()).unwrap().resize_lanczos(128, 128);
        let size = ["--width", "128", "--height", "128"];
        let got = desk.draw(&[&QUICK[..], &size, &["--init", name, "--mask", "mask.png"]].concat());
        assert_eq!(got.pixels[..3 * 128 * 40], brought.pixels[..3 * 128 * 40], "{name}: the upper edge");
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let desk = Desk::new();
    for (name, words) in [("other.avif", "AVIF"), ("other.ico", "ICO"), ("other.jp2", "JPEG 2000")] {
        bring(&desk, name);
        let words = format!("{name}: {words} files are not supported: use PNG, JPEG, WebP, GIF, BMP or TIFF");
        desk.generate(&[&QUICK[..], &["--init", name]].concat()).was_refused(5, &[&words]);
        desk.run(&["show", name]).was_refused(5, &[&words]);
    }
}

#[test]
fn a_mask_may_be_transparent_where_it_repaints() {
    let desk = Desk::new();
    desk.put("init.png", &red_half(128, 128));
    let rgba: Vec<u8> = (0..128 * 128).flat_map(|i| [255, 255, 255, if i % 128 < 64 { 0 } else { 255 }]).collect();
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 128, 128);
    encoder.set_color(png::ColorType::Rgba);
    encoder.write_header().unwrap().write_image_data(&rgba).unwrap();
    fs::write(desk.path("alpha.png"), file).unwrap();
    desk.put("colours.png", &white_left(128, 128));
    let draw = |mask| desk.draw(&[&QUICK[..], &["--init", "init.png", "--mask", mask]].concat());
    assert_eq!(draw("alpha.png"), draw("colours.png"));

    bring(&desk, "mask_both.png");
    let run = desk.generate(&[&QUICK[..], &["--init", "init.png", "--mask", "mask_both.png"]].concat());
    run.succeeded();
    assert_eq!(run.stderr, "note: the mask has colours and transparency: its colours are used, white is repainted\n");
}

#[test]
fn nothing_that_lies_beside_the_picture_is_touched() {
    let desk = Desk::new();
    fs::write(desk.path("out.png.part"), "keep").unwrap();
    fs::create_dir(desk.path("out.part")).unwrap();
    desk.draw(&QUICK);
    assert_eq!(fs::read_to_string(desk.path("out.png.part")).unwrap(), "keep");
    assert_eq!(desk.names(), ["out.part", "out.png", "out.png.part"]);
    let long = format!("{}.png", "x".repeat(250));
    desk.generate(&[&QUICK[..], &["-o", &long]].concat()).succeeded();
    assert_eq!(desk.picture(&long).width, 128);
}

#[cfg(unix)]
#[test]
fn a_link_stays_a_link_and_a_file_keeps_its_permissions() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let desk = Desk::new();
    fs::create_dir(desk.path("far")).unwrap();
    fs::write(desk.path("far/target.png"), "old").unwrap();
    fs::set_permissions(desk.path("far/target.png"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("far/target.png", desk.path("one.png")).unwrap();
    symlink("one.png", desk.path("out.png")).unwrap();
    assert_eq!(desk.draw(&QUICK).width, 128);
    for name in ["out.png", "one.png"] {
        assert!(fs::symlink_metadata(desk.path(name)).unwrap().file_type().is_symlink(), "{name}");
    }
    let mode = fs::metadata(desk.path("far/target.png")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert_eq!(fs::read_dir(desk.path("far")).unwrap().count(), 1, "and nothing beside it");
    // A link to a file that is still to come.
    symlink("far/new.png", desk.path("dangling.png")).unwrap();
    desk.generate(&[&QUICK[..], &["-o", "dangling.png"]].concat()).succeeded();
    assert_eq!(desk.picture("far/new.png").width, 128);
}

#[test]
fn show_reads_other_formats_and_other_programs() {
    let desk = Desk::new();
    for name in ["a1111.jpg", "a1111.webp", "a1111.png", "damaged_text.png"] {
        bring(&desk, name);
        let run = desk.run(&["show", name]);
        run.succeeded();
        let expected =
            "parameters:\na caf\u{e9} at night\nNegative prompt: blurry\nSteps: 20, Sampler: DPM++ 2M Karras, ";
        assert!(run.stdout.starts_with(expected), "{name}: {}", run.stdout);
    }
    bring(&desk, "plain.gif");
    desk.run(&["show", "plain.gif"]).was_refused(5, &["plain.gif: the picture carries no parameters"]);
    for name in ["xmp6.jpg", "plain.gif", "plain.bmp", "rgb_tiff_lzw.tif"] {
        bring(&desk, name);
        let bytes = fs::read(desk.path(name)).unwrap();
        fs::write(desk.path(name), &bytes[..bytes.len() / 2]).unwrap();
        desk.run(&["show", name]).was_refused(5, &[name, "file: it is cut off"]);
    }
}

#[test]
fn what_a_terminal_would_act_on_is_made_visible() {
    let desk = Desk::new();
    bring(&desk, "escapes.png");
    let run = desk.run(&["show", "escapes.png"]);
    run.succeeded();
    assert_eq!(run.stdout, "Comment:\n\\u{1b}]0;owned\\u{7}\\u{1b}[2J\\u{202e}gnp\n\n");
    // A name in an error, and a name that is printed.
    desk.run(&["show", "no\u{1b}[31mwhere\u{202e}.png"]).was_refused(5, &["no\\u{1b}[31mwhere\\u{202e}.png"]);
    let run = desk.generate(&[&QUICK[..], &["-o", "\u{1b}[2J.png"]].concat());
    run.succeeded();
    assert_eq!(run.stdout, "\\u{1b}[2J.png\n");
    let run = desk.generate(&[&QUICK[..], &["-o", "\u{9b}2J.png", "--json"]].concat());
    run.succeeded();
    assert!(run.stdout.contains(r#""\u009b2J.png""#) && !run.stdout.contains('\u{9b}'), "{}", run.stdout);
}

#[test]
fn a_prompt_may_begin_with_a_minus_and_loses_what_an_editor_added() {
    let desk = Desk::new();
    let args = ["--steps", "1", "--guidance", "1", "--seed", "1"];
    let run = desk.generate(&[&["--prompt", "-a dog"][..], &args].concat());
    run.succeeded();
    let hint = "note: the prompt begins with -, which is drawn as text: --negative says what to avoid\n";
    assert_eq!(run.stderr, hint);
    assert_eq!(desk.shown("out.png")["prompt"], "-a dog");
    let files = ["\u{feff}a dog\r\nin the snow\r\n", "\u{feff}fog\r\n"];
    let crlf = desk.draw(&[&["--prompt", files[0], "--negative", files[1]][..], &args].concat());
    let shown = desk.shown("out.png");
    assert_eq!(
        (shown["prompt"].as_str(), shown["negative_prompt"].as_str()),
        (Some("a dog\nin the snow"), Some("fog"))
    );
    assert_eq!(desk.draw(&[&["--prompt", "a dog\nin the snow"][..], &args].concat()), crlf);
}
