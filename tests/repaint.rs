//! Repainting only what is masked, and with blurred masks, as diffusers does (tools/fixtures/repaint.py): the arithmetic to the
//! bit, and whole runs on the candle runner. `DARKROOM_TEST_DEVICE=cuda` draws them on a card.
#![cfg(not(target_arch = "wasm32"))]

#[path = "common/cases.rs"]
mod cases;
#[path = "common/device.rs"]
mod device;
#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/tiny.rs"]
mod tiny;

use std::rc::Rc;

use cases::{Tolerance, cases_in};
use darkroom::hub::folder::Folder;
use darkroom::image::{GrayImage, Region, RgbImage, decode, overlaid};
use darkroom::pipeline::{Generation, Inputs, ModelLoader};
use darkroom::run::candle::Precision;
use serde::Deserialize;

/// f32 against f32: the orders of summation differ.
const EXACT: Tolerance = Tolerance { latents: 2e-4, max_level: 2, mean_level: 0.3, min_psnr: 0.0 };

#[derive(Deserialize)]
struct Arithmetic {
    regions: Vec<Grown>,
    blurs: Vec<Blurred>,
    part: [usize; 4],
}

/// Marked pixels and what they are grown to, both left, top, right, bottom.
#[derive(Deserialize)]
struct Grown {
    mask: [usize; 2],
    marked: [usize; 4],
    size: [usize; 2],
    padding: usize,
    region: [usize; 4],
}

#[derive(Deserialize)]
struct Blurred {
    radius: f64,
    picture: String,
}

fn arithmetic() -> Arithmetic {
    serde_json::from_str(include_str!("fixtures/repaint/arithmetic.json")).unwrap()
}

fn picture(name: &str) -> RgbImage {
    decode(&std::fs::read(numbers::places::fixtures_dir().join("repaint").join(name)).unwrap()).unwrap()
}

fn region([left, top, right, bottom]: [usize; 4]) -> Region {
    Region { left, top, right, bottom }
}

#[test]
fn regions_are_those_of_diffusers() {
    let all = arithmetic().regions;
    assert!(all.len() >= 300);
    for Grown { mask: [width, height], marked, size, padding, region: expected } in all {
        let Region { left, top, right, bottom } = region(marked);
        let is_marked = |i: usize| (left..right).contains(&(i % width)) && (top..bottom).contains(&(i / width));
        let mask = GrayImage::new(width, height, (0..width * height).map(|i| is_marked(i).into()).collect()).unwrap();
        let got = Region::of_mask(&mask, size[0], size[1], padding);
        assert_eq!(got, Some(region(expected)), "{width}x{height}, {marked:?}, {padding} around it, for {size:?}");
    }
    assert_eq!(Region::of_mask(&GrayImage::new(3, 2, vec![0; 6]).unwrap(), 64, 64, 8), None);
}

#[test]
fn blurs_are_those_of_pillow() {
    let noise = picture("noise.png");
    for Blurred { radius, picture: name } in arithmetic().blurs {
        assert!(noise.blurred(radius) == picture(&name), "{name}");
    }
    assert!(noise.blurred(0.0) == noise);
}

/// Every level of original and mask; a part, which is brought to its size.
#[test]
fn overlays_are_those_of_pillow() {
    let grid = |pixel: fn(usize, usize) -> [u8; 3]| {
        RgbImage::new(256, 256, (0..256 * 256).flat_map(|i| pixel(i % 256, i / 256)).collect()).unwrap()
    };
    let original = grid(|x, _| [x as u8, 255 - x as u8, (x * 3 % 256) as u8]);
    let drawn = grid(|x, y| [((x * 7 + y * 13) % 256) as u8, 0, 255]);
    let mask = GrayImage::new(256, 256, (0..256 * 256).map(|i| (i / 256) as u8).collect()).unwrap();
    assert!(overlaid(&original, &mask, &drawn, None) == picture("overlay.png"));
    let part = Some(region(arithmetic().part));
    assert!(overlaid(&original, &mask, &picture("noise.png"), part) == picture("overlay-part.png"));
    // What is not hidden is untouched.
    assert_eq!(overlaid(&original, &mask, &drawn, None).pixels[..256 * 3], original.pixels[..256 * 3]);
}

fn check(version: &str) {
    let Some(runner) = device::runner(Precision::F32) else { return };
    let dir = tempfile::tempdir().unwrap();
    tiny::write_model(version, dir.path(), tiny::Style::F32);
    let runner = Rc::new(runner);
    let folder = Folder::open(dir.path()).unwrap();
    let model = Rc::new(pollster::block_on(ModelLoader::new(&folder, &*runner).load(&mut |_| true)).unwrap());
    for case in cases_in("repaint", version) {
        pollster::block_on(case.check(&runner, &model, EXACT));
        if version != "v1-5" {
            continue;
        }
        let inputs = case.inputs();
        let without_mask = Inputs { mask: None, ..inputs.clone() };
        let error = Generation::new(&runner, &model, without_mask).err().unwrap().to_string();
        assert!(error.contains("without a mask"), "{}: {error}", case.name);
        let black = RgbImage::new(150, 110, vec![0; 150 * 110 * 3]).unwrap();
        let mut empty = Generation::new(&runner, &model, Inputs { mask: Some(black), ..inputs }).unwrap();
        let error = pollster::block_on(empty.step(&mut |_| true)).unwrap_err().to_string();
        assert!(error.contains("mask without white"), "{}: {error}", case.name);
    }
}

#[test]
fn models_of_four_channels() {
    check("v1-5");
    check("xl");
}

#[test]
fn inpainting_models() {
    check("v1-5-inpaint");
    check("v2-inpaint");
    check("xl-inpaint");
}
