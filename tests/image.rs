//! Pictures are read, resized, masked and scaled as Pillow and diffusers do: fixtures made by tools/fixtures/leaves.py.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use darkroom::Error;
use darkroom::image::{Fit, GrayImage, Mask, RgbImage, decode, encode_png, from_unit, png_text, to_unit};
use darkroom::parameters::Parameters;
use darkroom::prompt::PromptSyntax;
use darkroom::request::ClipSkipCounting;
use serde::Deserialize;

const VALUES: &[u8] = include_bytes!("fixtures/image/values.bin");

#[derive(Deserialize)]
struct Cases {
    decode: Vec<Decode>,
    resize: Vec<Resize>,
    mask: Vec<MaskCase>,
    unit: Units,
}

/// Where values lie in the file: first byte, number of bytes.
#[derive(Deserialize, Clone, Copy)]
struct Place(usize, usize);

impl Place {
    fn bytes(self) -> &'static [u8] {
        &VALUES[self.0..self.0 + self.1]
    }

    fn floats(self) -> Vec<f32> {
        self.bytes().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    /// Values of 0 and 1 from packed bits, the highest bit first.
    fn bits(self, n: usize) -> Vec<f32> {
        (0..n).map(|i| f32::from(self.bytes()[i / 8] >> (7 - i % 8) & 1)).collect()
    }
}

#[derive(Deserialize)]
struct Decode {
    file: String,
    size: [usize; 2],
    rgb: Place,
}

#[derive(Deserialize)]
struct Resize {
    mode: String,
    from: [usize; 2],
    source: Place,
    to: [usize; 2],
    expected: Place,
}

#[derive(Deserialize)]
struct MaskCase {
    from: [usize; 2],
    source: Place,
    to: [usize; 2],
    mask: Place,
    latents: Vec<LatentMask>,
}

#[derive(Deserialize)]
struct LatentMask {
    to: [usize; 2],
    mask: Place,
}

#[derive(Deserialize)]
struct Units {
    to_unit: Unit,
    from_unit: Unit,
}

#[derive(Deserialize)]
struct Unit {
    rgb: Place,
    unit: Place,
}

fn cases() -> Cases {
    serde_json::from_str(include_str!("fixtures/image/cases.json")).unwrap()
}

fn file(name: &str) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/image").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Fails with the first level that is off by more than `tolerance`.
fn check_levels(what: &str, width: usize, channels: usize, got: &[u8], expected: &[u8], tolerance: u8) {
    assert_eq!(got.len(), expected.len(), "{what}: number of levels");
    for (i, (&g, &e)) in got.iter().zip(expected).enumerate() {
        let (pixel, channel) = (i / channels, i % channels);
        let (x, y) = (pixel % width, pixel / width);
        assert!(
            g.abs_diff(e) <= tolerance,
            "{what}: {g} for {e} at x {x}, y {y}, channel {channel}, the first to differ"
        );
    }
}

#[test]
fn files_are_read_as_load_image_reads_them() {
    // Another decoder than Pillow's reads JPEG: the inverse cosine transform and the conversion from YCbCr round
    // differently, by up to 3 levels where seen. Everything else is exact, lossy WebP included.
    let tolerance = |file: &str| if file.ends_with(".jpg") { 3 } else { 0 };
    let cases = cases().decode;
    assert!(cases.len() > 30);
    for case in cases {
        let name = &case.file;
        let got = decode(&file(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!([got.width, got.height], case.size, "{name}: size");
        check_levels(name, got.width, 3, &got.pixels, case.rgb.bytes(), tolerance(name));
    }
}

#[test]
fn other_files_are_refused_with_the_reason() {
    for (name, expected) in [
        ("cut.png", "picture: damaged PNG file: it is cut off"),
        ("cut.jpg", "picture: damaged JPEG file: it is cut off"),
        ("wide.png", "picture: 16385x1 pixels are too many: at most 16384 a side and 512 MiB in memory"),
        ("bomb.png", "picture: 16384x16384 pixels are too many: at most 16384 a side and 512 MiB in memory"),
        ("cases.json", "picture: not a picture file that can be read: use PNG, JPEG, WebP, GIF, BMP or TIFF"),
    ] {
        let error = decode(&file(name)).unwrap_err();
        assert!(matches!(error, Error::Image { .. }), "{name}: {error:?}");
        assert!(error.to_string().starts_with(expected), "{name}: {error}");
    }
    assert!(decode(&[]).is_err());
}

#[test]
fn damaged_files_never_panic() {
    for name in ["rgb.png", "palette.png", "full.jpg", "progressive.jpg", "lossy.webp", "turned6.webp", "texts.png"] {
        let bytes = file(name);
        for i in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[i] ^= 0x55;
            // Either answer is right, as long as there is one.
            let _ = decode(&damaged);
            let _ = png_text(&damaged);
        }
    }
}

#[test]
fn lanczos_is_pillows() {
    let cases = cases().resize;
    assert!(cases.len() > 30);
    for case in cases {
        let ([from_w, from_h], [w, h]) = (case.from, case.to);
        let what = format!("{} {from_w}x{from_h} to {w}x{h}", case.mode);
        let source = case.source.bytes().to_vec();
        if case.mode == "RGB" {
            let got = RgbImage::new(from_w, from_h, source).unwrap().resize_lanczos(w, h);
            assert_eq!((got.width, got.height), (w, h));
            check_levels(&what, w, 3, &got.pixels, case.expected.bytes(), 0);
        } else {
            let got = GrayImage::new(from_w, from_h, source).unwrap().resize_lanczos(w, h);
            assert_eq!((got.width, got.height), (w, h));
            check_levels(&what, w, 1, &got.pixels, case.expected.bytes(), 0);
        }
    }
}

#[test]
fn masks_are_those_of_diffusers() {
    for case in cases().mask {
        let ([from_w, from_h], [w, h]) = (case.from, case.to);
        let source = RgbImage::new(from_w, from_h, case.source.bytes().to_vec()).unwrap();
        let mask = Mask::from_image(&source, w, h, Fit::Stretch);
        assert_eq!((mask.width, mask.height, mask.is_empty()), (w, h, false));
        assert_eq!(mask.values, case.mask.bits(w * h), "mask {from_w}x{from_h} to {w}x{h}");
        for latent in &case.latents {
            let [w, h] = latent.to;
            let got = mask.resize_nearest(w, h);
            assert_eq!(got.values, latent.mask.bits(w * h), "mask {}x{} to {w}x{h}", mask.width, mask.height);
        }
    }
    assert!(Mask::from_image(&RgbImage::new(2, 2, vec![0; 12]).unwrap(), 64, 64, Fit::Stretch).is_empty());
}

#[test]
fn levels_and_unit_values_are_those_of_diffusers() {
    let Units { to_unit: to, from_unit: from } = cases().unit;
    let image = RgbImage::new(16, 16, to.rgb.bytes().to_vec()).unwrap();
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    assert_eq!(bits(to_unit(&image)), bits(to.unit.floats()));
    assert_eq!(from_unit(&to_unit(&image), 16, 16), image);
    check_levels("from_unit", 16, 3, &from_unit(&from.unit.floats(), 16, 16).pixels, from.rgb.bytes(), 0);
}

#[test]
fn sizes_must_fit_the_pixels() {
    assert!(RgbImage::new(2, 2, vec![0; 11]).is_err());
    assert!(RgbImage::new(0, 2, vec![]).is_err());
    assert!(GrayImage::new(usize::MAX, 2, vec![0; 2]).is_err());
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn text_of_other_writers_is_read() {
    let packed = "packed ".repeat(20);
    let cats = "\u{732b}".repeat(30);
    let expected = [
        ("parameters", "caf\u{e9}, two\nlines\nSteps: 20"),
        ("Comment", packed.as_str()),
        ("unicode", "\u{732b} \u{1f34e}"),
        ("packed unicode", cats.as_str()),
    ];
    assert_eq!(png_text(&file("texts.png")).unwrap(), owned(&expected));
    let behind = [("late", "behind the pixels"), ("late packed", "also behind")];
    assert_eq!(png_text(&file("texts_after.png")).unwrap(), owned(&behind));
    assert_eq!(png_text(&file("rgb.png")).unwrap(), vec![]);
    assert!(png_text(&file("full.jpg")).is_err());
    assert!(png_text(&file("cut.png")).is_err());
}

#[test]
fn written_text_has_the_right_kind_of_chunk() {
    let image = RgbImage::new(3, 2, (0..18).collect()).unwrap();
    let text = owned(&[("parameters", "caf\u{e9}\nSteps: 1"), ("darkroom", "\u{732b}"), ("empty", "")]);
    let file = encode_png(&image, &text).unwrap();
    assert_eq!(decode(&file).unwrap(), image);
    let mut got = png_text(&file).unwrap();
    got.sort();
    let mut expected = text.clone();
    expected.sort();
    assert_eq!(got, expected);
    let contains = |part: &[u8]| file.windows(part.len()).any(|w| w == part);
    assert!(contains(b"tEXtparameters\0caf\xe9\nSteps: 1"), "Latin-1 in tEXt");
    assert!(contains(b"iTXtdarkroom\0\0\0\0\0\xe7\x8c\xab"), "the rest in iTXt, not compressed");
    assert_eq!(
        png_text(&encode_png(&image, &owned(&[("a", "b\0c")])).unwrap()).unwrap(),
        owned(&[("a", "b\u{fffd}c")])
    );
    for key in ["", "\u{732b}", "a\0b", &"x".repeat(80)] {
        assert!(encode_png(&image, &owned(&[(key, "text")])).is_err(), "{key:?}");
    }
}

fn example() -> Parameters {
    Parameters {
        prompt: "a red apple, (detailed:1.2)".to_owned(),
        negative_prompt: Some("blurry, low quality".to_owned()),
        clip_skip: None,
        prompt_syntax: Some(PromptSyntax::Plain),
        long_prompt_chunks: false,
        steps: 20,
        sampler: "dpm++2m_karras".to_owned(),
        guidance_scale: 7.5,
        seed: u64::MAX,
        width: 512,
        any_size: false,
        height: 768,
        model: "v1-5".to_owned(),
        strength: None,
        version: "darkroom 0.1.0".to_owned(),
        ..Parameters::default()
    }
}

#[test]
fn parameters_have_the_usual_layout() {
    let text = Parameters { seed: 1, height: 512, strength: Some(0.75), ..example() }.to_a1111();
    let expected = "a red apple, (detailed:1.2)\nNegative prompt: blurry, low quality\nSteps: 20, \
         Sampler: DPM++ 2M Karras, CFG scale: 7.5, Seed: 1, Size: 512x512, Model: v1-5, Denoising strength: 0.75, Prompt syntax: plain, RNG: CPU, Version: darkroom 0.1.0";
    assert_eq!(text, expected);
}

#[test]
fn parameters_survive_both_forms() {
    let plain = example();
    let variants = [
        plain.clone(),
        Parameters { prompt: String::new(), negative_prompt: None, ..plain.clone() },
        Parameters {
            clip_skip: Some(2),
            clip_skip_counting: Some(ClipSkipCounting::A1111),
            prompt_syntax: Some(PromptSyntax::Comfy),
            long_prompt_chunks: true,
            ..plain.clone()
        },
        Parameters { width: 520, any_size: true, ..plain.clone() },
        Parameters { prompt: String::new(), ..plain.clone() },
        Parameters { negative_prompt: None, guidance_scale: 0.0, ..plain.clone() },
        Parameters { prompt: "two\nlines\n\nand Steps: 3\n".to_owned(), ..plain.clone() },
        Parameters { negative_prompt: Some("\n two\nSteps: 4, Seed: 5\n".to_owned()), ..plain.clone() },
        Parameters { prompt: " Negative prompt: inside, \u{732b} \u{1f34e}\r\n".to_owned(), ..plain.clone() },
        Parameters { model: "a, \"b\": c\\d\n \u{732b}".to_owned(), sampler: "\"x\"".to_owned(), ..plain.clone() },
        Parameters { model: String::new(), version: String::new(), strength: Some(0.1), ..plain.clone() },
        Parameters { version: " spaced ".to_owned(), guidance_scale: 1e-7, strength: Some(1.0), ..plain },
    ];
    let image = RgbImage::new(1, 1, vec![1, 2, 3]).unwrap();
    for parameters in variants {
        let text = parameters.to_a1111();
        let other = owned(&[("parameters", &text)]);
        assert_eq!(Parameters::from_png_text(&other).unwrap().as_ref(), Some(&parameters), "{text}");
        let file = encode_png(&image, &parameters.to_png_text().unwrap()).unwrap();
        let read = Parameters::from_png_text(&png_text(&file).unwrap()).unwrap();
        assert_eq!(read.as_ref(), Some(&parameters), "{text}");
    }
    assert_eq!(Parameters::from_png_text(&owned(&[("Title", "x")])).unwrap(), None);
    // What the first form cannot tell apart, the JSON can.
    let ambiguous = Parameters { prompt: "a\nNegative prompt: b".to_owned(), ..example() };
    let other = owned(&[("parameters", &ambiguous.to_a1111())]);
    assert_ne!(Parameters::from_png_text(&other).unwrap().unwrap(), ambiguous);
    let text = ambiguous.to_png_text().unwrap();
    assert_eq!(Parameters::from_png_text(&text).unwrap(), Some(ambiguous));
}

#[test]
fn parameters_of_other_programs_are_read() {
    let text = "a cat\nNegative prompt: dog\nwolf\nSteps: 30, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, \
         Seed: 3711, Size: 640x448, Model hash: 6ce0161689, Model: v1-5-pruned, \
         Lora hashes: \"a: 1, b: 2\", Version: v1.9.4\n";
    let got = Parameters::from_png_text(&owned(&[("parameters", text)])).unwrap().unwrap();
    assert_eq!((got.prompt.as_str(), got.negative_prompt.as_deref()), ("a cat", Some("dog\nwolf")));
    assert_eq!((got.sampler.as_str(), got.guidance_scale, got.seed), ("dpm++2m_karras", 7.0, 3711));
    assert_eq!((got.width, got.height, got.model.as_str()), (640, 448, "v1-5-pruned"));
    assert_eq!((got.strength, got.version.as_str()), (None, "v1.9.4"));
}
