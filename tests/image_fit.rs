//! Start pictures of another shape are stretched, cropped and padded as diffusers' `VaeImageProcessor` does it.
//! Expected levels: tools/fixtures/fit.py.
#![cfg(not(target_arch = "wasm32"))]

use darkroom::image::{Fit, RgbImage};

/// (width, height) of the source and of the result, in the order of the fixture.
const CASES: [((usize, usize), (usize, usize)); 7] = [
    ((40, 24), (32, 32)),
    ((24, 40), (32, 32)),
    ((17, 31), (48, 16)),
    ((64, 32), (32, 16)),
    ((5, 50), (16, 24)),
    ((50, 5), (16, 24)),
    ((33, 20), (40, 24)),
];

fn source(width: usize, height: usize) -> RgbImage {
    let level = |n: usize| (((n as u64 * 2_654_435_761 + 12_345) % (1 << 32)) >> 24) as u8;
    RgbImage::new(width, height, (0..width * height * 3).map(level).collect()).unwrap()
}

#[test]
fn every_fit_is_that_of_diffusers() {
    let mut expected = &include_bytes!("fixtures/image/fit.bin")[..];
    for ((w, h), (width, height)) in CASES {
        let picture = source(w, h);
        for fit in [Fit::Stretch, Fit::Crop, Fit::Pad] {
            let (levels, rest) = expected.split_at(width * height * 3);
            expected = rest;
            let got = picture.fitted(width, height, fit);
            assert_eq!((got.width, got.height), (width, height));
            let first = got.pixels.iter().zip(levels).position(|(got, expected)| got != expected);
            assert!(
                first.is_none(),
                "{w}x{h} to {width}x{height}, {}: pixel {:?} (x, y) differs",
                fit.name(),
                first.map(|at| (at / 3 % width, at / 3 / width))
            );
        }
    }
    assert!(expected.is_empty());
}

#[test]
fn names_lead_back_and_others_are_refused() {
    for fit in Fit::ALL {
        assert_eq!(fit.name().parse::<Fit>().unwrap(), fit);
    }
    let message = "fill".parse::<Fit>().unwrap_err().to_string();
    assert_eq!(message, "fit \"fill\" is not possible: use stretch, crop or pad");
}
