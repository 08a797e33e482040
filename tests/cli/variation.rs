//! A second seed that the noise of the first is turned towards.

use darkroom::image::RgbImage;
use serde_json::Value;

use super::desk::{APPLE, Desk, red_half};

/// The sampler draws no more noise after the first.
const QUICK: [&str; 6] = ["--prompt", APPLE, "--steps", "2", "--sampler", "euler"];

fn seeds<'a>(seed: &'a str, variation: &'a str, strength: &'a str) -> [&'a str; 6] {
    ["--seed", seed, "--variation-seed", variation, "--variation-strength", strength]
}

#[test]
fn a_variation_goes_from_one_seed_to_the_other() {
    let desk = Desk::new();
    for noise in ["cpu", "philox"] {
        let draw = |args: &[&str]| desk.draw(&[&QUICK[..], &["--noise", noise], args].concat());
        let (own, other) = (draw(&["--seed", "3"]), draw(&["--seed", "9"]));
        assert_eq!(draw(&seeds("3", "9", "0")), own, "{noise}");
        assert!(desk.shown("out.png").get("variation_seed").is_none());
        assert_eq!(draw(&seeds("3", "9", "1")), other, "{noise}");
        let between = draw(&seeds("3", "9", "0.4"));
        assert!(between != own && between != other, "{noise}");
    }
}

#[test]
fn with_a_start_picture_the_noise_is_that_of_the_other_seeds_picture() {
    let desk = Desk::new();
    desk.put("init.png", &red_half(128, 128));
    desk.put("white.png", &RgbImage::new(128, 128, vec![255; 128 * 128 * 3]).unwrap());
    // All of it is repainted from noise: what the encoder draws before is moved over, and has no other effect.
    let start = ["--init", "init.png", "--mask", "white.png", "--strength", "1"];
    let draw = |args: &[&str]| desk.draw(&[&QUICK[..], &start, args].concat());
    let other = draw(&["--seed", "9"]);
    assert_eq!(draw(&seeds("3", "9", "1")), other);
    assert_eq!(draw(&seeds("9", "3", "0")), other);
    assert_ne!(draw(&seeds("3", "9", "0.5")), other);
}

#[test]
fn a_row_of_variations_keeps_the_seed_and_counts_the_other() {
    let desk = Desk::new();
    let row = [&QUICK[..], &seeds("3", "9", "0.4"), &["--count", "2"]].concat();
    desk.generate(&row).succeeded();
    let second = desk.picture("out-2.png");
    let shown = desk.shown("out-2.png");
    assert_eq!(
        (&shown["seed"], &shown["variation_seed"], &shown["variation_strength"]),
        (&3.into(), &10.into(), &0.4.into())
    );
    let line = desk.run(&["show", "out-2.png"]).stdout;
    assert!(
        line.contains(", Seed: 3, ") && line.contains(", Variation seed: 10, Variation seed strength: 0.4, "),
        "{line}"
    );
    assert_eq!(desk.draw(&[&QUICK[..], &seeds("3", "10", "0.4")].concat()), second);
}

#[test]
fn a_variation_seed_that_is_not_given_is_random_and_recorded() {
    let desk = Desk::new();
    let args = [&QUICK[..], &["--seed", "3", "--variation-strength", "0.4"]].concat();
    let run = desk.generate(&args);
    run.succeeded();
    let first = desk.shown("out.png")["variation_seed"].as_u64().unwrap();
    assert!(run.stderr.contains(&format!("variation seed {first}\n")), "{run:?}");
    let run = desk.generate(&[&args[..], &["--json"]].concat());
    run.succeeded();
    let told: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(told["variation_seed"], desk.shown("out.png")["variation_seed"]);
    assert_ne!(told["variation_seed"], first);
}

#[test]
fn what_makes_no_variation_is_refused() {
    let desk = Desk::new();
    let refused = |args: &[&str], words: &[&str]| desk.generate(&[&QUICK[..], args].concat()).was_refused(2, words);
    refused(&["--variation-seed", "9"], &["variation seed 9", "--variation-strength"]);
    refused(&seeds("3", "9", "1.5"), &["variation strength 1.5", "0.0 to 1.0"]);
    refused(&seeds("3", "9", "-1"), &["variation strength -1", "0.0 to 1.0"]);
    let row = ["--count", "2"];
    refused(&[&seeds("3", "18446744073709551615", "0.5")[..], &row].concat(), &["variation seed", "at most"]);
}
