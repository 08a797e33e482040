//! Pictures as people bring them: orientation, formats, masks, damage, memory, and what other programs write into them.
//! The files and what Pillow makes of them come from tools/fixtures/pictures.py.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

#[allow(dead_code, reason = "the fuzz test uses more of it")]
#[path = "fuzz/allocations.rs"]
mod allocations;

use std::path::{Path, PathBuf};

use darkroom::image::{
    Fit, GrayImage, MAX_DECODED_BYTES, Mask, RgbImage, decode, decode_edit_mask, decode_mask, memory_needed,
    picture_text,
};
use darkroom::parameters::Found;
use serde::Deserialize;

const VALUES: &[u8] = include_bytes!("fixtures/pictures/values.bin");

#[derive(Deserialize)]
struct Cases {
    decode: Vec<Decode>,
    resize: Vec<Resize>,
    mask: Vec<MaskCase>,
}

/// Where levels lie in the file: first byte, number of bytes.
#[derive(Deserialize)]
struct Place(usize, usize);

impl Place {
    fn bytes(&self) -> &'static [u8] {
        &VALUES[self.0..self.0 + self.1]
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
    from: [usize; 2],
    to: [usize; 2],
    channels: usize,
    source: Place,
    expected: Place,
}

#[derive(Deserialize)]
struct MaskCase {
    file: String,
    size: [usize; 2],
    white: Place,
}

fn cases() -> Cases {
    serde_json::from_str(include_str!("fixtures/pictures/cases.json")).unwrap()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn file(name: &str) -> Vec<u8> {
    let path = folder().join("pictures").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn largest_difference(a: &[u8], b: &[u8]) -> u8 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn files_of_every_kind_are_read_upright_as_pillow_reads_them() {
    let mut wrong = Vec::new();
    for Decode { file: name, size, rgb } in cases().decode {
        // Another decoder than Pillow's: see tests/image.rs. Where colours are halved, a last column or row that ends
        // inside a unit is mixed with what fills the unit up, which libjpeg leaves out: 6 levels where seen, in colour
        // alone. Turned pictures have that edge on any side.
        let (inside, at_edge) = if name.ends_with(".jpg") { (3, 8) } else { (0, 0) };
        match decode(&file(&name)) {
            Err(error) => wrong.push(format!("{name}: {error}")),
            Ok(got) if [got.width, got.height] != size => {
                wrong.push(format!("{name}: {}x{} for {size:?}", got.width, got.height));
            }
            Ok(got) => {
                assert_eq!(got.pixels.len(), rgb.bytes().len(), "{name}");
                let (width, height) = (got.width, got.height);
                for (i, (a, b)) in got.pixels.iter().zip(rgb.bytes()).enumerate() {
                    let (x, y) = (i / 3 % width, i / 3 / width);
                    let is_edge = x == 0 || y == 0 || x + 1 == width || y + 1 == height;
                    let most = if is_edge { at_edge } else { inside };
                    if a.abs_diff(*b) > most {
                        wrong.push(format!("{name}: {a} for {b} at x {x}, y {y}"));
                    }
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn lanczos_takes_the_passes_in_pillows_order() {
    for Resize { from: [from_w, from_h], to: [w, h], channels, source, expected } in cases().resize {
        let levels = source.bytes().to_vec();
        let got = match channels {
            3 => RgbImage::new(from_w, from_h, levels).unwrap().resize_lanczos(w, h).pixels,
            _ => GrayImage::new(from_w, from_h, levels).unwrap().resize_lanczos(w, h).pixels,
        };
        let most = largest_difference(&got, expected.bytes());
        assert_eq!(most, 0, "{from_w}x{from_h} to {w}x{h}, {channels} channels: levels differ by up to {most}");
    }
}

#[test]
fn a_mask_may_be_in_the_alpha_channel() {
    for MaskCase { file: name, size: [width, height], white } in cases().mask {
        let (mask, note) = decode_mask(&file(&name)).unwrap();
        let got: Vec<u8> =
            Mask::from_image(&mask, width, height, Fit::Stretch).values.iter().map(|&value| value as u8).collect();
        assert_eq!(got, white.bytes(), "{name}");
        assert_eq!(note.is_some(), name == "mask_both.png", "{name}: {note:?}");
    }
    // In the form of OpenAI's programs, holes count whatever the colours are.
    for (name, same) in [("mask_white.png", true), ("mask_colours.png", true), ("mask_both.png", false)] {
        let [as_edit, as_mask] = [decode_edit_mask(&file(name)).unwrap(), decode_mask(&file(name)).unwrap().0];
        assert_eq!(as_edit == as_mask, same, "{name}");
    }
    let edit = decode_edit_mask(&file("mask_both.png")).unwrap();
    assert_eq!([edit.pixels[0], edit.pixels[3 * 19]], [0, 246], "opaque on the left, almost transparent on the right");
}

#[test]
fn other_formats_are_named_and_told_what_works() {
    const WORKS: &str = "use PNG, JPEG, WebP, GIF, BMP or TIFF";
    for (bytes, name) in [
        (file("other.avif"), "AVIF files are not supported"),
        (file("other.ico"), "ICO files are not supported"),
        (file("other.jp2"), "JPEG 2000 files are not supported"),
        (b"\0\0\0\x18ftypheic\0\0\0\0".to_vec(), "HEIC files are not supported"),
        (b"\xff\x0a\0\0".to_vec(), "JPEG XL files are not supported"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec(), "SVG files are not supported"),
        (b"%PDF-1.7".to_vec(), "PDF files are not supported"),
        (b"just words".to_vec(), "not a picture file that can be read"),
        (Vec::new(), "the file is empty"),
    ] {
        for error in [decode(&bytes).unwrap_err(), picture_text(&bytes).unwrap_err(), decode_mask(&bytes).unwrap_err()]
        {
            assert_eq!(error.to_string(), format!("picture: {name}: {WORKS}"));
        }
    }
}

/// One whole file of each kind.
fn whole() -> Vec<(String, Vec<u8>)> {
    let names = ["xmp6.png", "restarts.jpg", "progressive_444.jpg", "xmp6.jpg", "xmp6.webp", "alpha_lossy.webp"];
    let more =
        ["animated.webp", "plain.gif", "plain.bmp", "rgb_raw.tif", "rgb_tiff_lzw.tif", "rgb_tiff_adobe_deflate.tif"];
    names.into_iter().chain(more).map(|name| (name.to_owned(), file(name))).collect()
}

#[test]
fn a_file_that_is_cut_off_is_an_error_wherever_it_is_cut() {
    let mut halves = Vec::new();
    for (name, bytes) in whole() {
        let expected = decode(&bytes).unwrap();
        for end in 0..bytes.len() {
            // Without its last bytes a picture may still be whole, but then it is the same.
            if let Ok(got) = decode(&bytes[..end])
                && got != expected
            {
                halves.push(format!("{name} cut at {end} of {}", bytes.len()));
            }
        }
    }
    assert_eq!(halves, Vec::<String>::new());
}

#[test]
fn a_file_that_is_cut_off_is_said_to_be_whatever_is_asked_of_it() {
    for (name, bytes) in whole() {
        for end in [bytes.len() / 2, bytes.len() * 9 / 10] {
            for error in [picture_text(&bytes[..end]).unwrap_err(), decode(&bytes[..end]).unwrap_err()] {
                assert!(error.to_string().ends_with(" file: it is cut off"), "{name}: {error}");
            }
        }
        picture_text(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    for entry in std::fs::read_dir(folder().join("pictures")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        assert!(decode(&bytes).is_err() || picture_text(&bytes).is_ok(), "{}", path.display());
    }
}

#[test]
fn of_an_animation_the_first_frame_has_to_be_whole() {
    let bytes = file("animated.gif");
    let first = decode(&bytes).unwrap();
    // Where the second frame's control block begins: an end, and a second block in front of it.
    let second = bytes.windows(4).rposition(|four| four == [0, 0x21, 0xf9, 4]).unwrap() + 1;
    for end in [bytes.len() - 1, bytes.len() - 20, second] {
        assert_eq!(decode(&bytes[..end]).unwrap(), first, "cut at {end} of {}", bytes.len());
        assert!(picture_text(&bytes[..end]).is_ok());
    }
    for end in [second - 1, second - 2, second - 20] {
        let error = decode(&bytes[..end]).unwrap_err().to_string();
        assert_eq!(error, "picture: damaged GIF file: it is cut off", "cut at {end}");
    }
}

/// A BMP of 4 by 4 pixels, run-length coded.
fn rle_bmp(codes: &[u8], compression: u8) -> Vec<u8> {
    let mut bytes = b"BM".to_vec();
    let mut push = |numbers: &[u32]| bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    let depth = if compression == 1 { 8 } else { 4 };
    let offset = 54 + 16 * 4;
    push(&[offset + codes.len() as u32, 0, offset, 40, 4, 4, 1 | depth << 16, compression.into()]);
    push(&[codes.len() as u32, 0, 0, 16, 16]);
    push(&[0x00aa_bbcc; 16]);
    bytes.extend(codes);
    bytes
}

#[test]
fn a_run_length_coded_bmp_has_all_its_rows() {
    const ROW: &[u8] = &[4, 3, 0, 0];
    // A run in Pillow's and ImageMagick's form, one spelt out, one that is longer than the row; with an end and without.
    for compression in [1, 2] {
        let spelt = if compression == 1 { &[0, 4, 1, 2, 3, 4][..] } else { &[0, 4, 0x12, 0x34] };
        for codes in [
            [ROW, ROW, ROW, ROW, &[0, 1]].concat(),
            [ROW, ROW, ROW, ROW].concat(),
            [ROW, ROW, ROW, &[4, 3, 0, 1]].concat(),
            [ROW, ROW, ROW, spelt, &[0, 1]].concat(),
        ] {
            let got = decode(&rle_bmp(&codes, compression)).unwrap();
            assert_eq!(got.pixels, [0xaa, 0xbb, 0xcc].repeat(16), "{codes:?}");
        }
        // All are errors in Pillow 13, too.
        for (codes, reason) in [
            ([ROW, ROW, ROW, &[0, 1]].concat(), "it ends before its last row does"),
            ([ROW, ROW, ROW, &[2, 3, 0, 1]].concat(), "it ends before its last row does"),
            ([ROW, ROW, ROW].concat(), "it is cut off"),
            (Vec::new(), "it is cut off"),
        ] {
            let error = decode(&rle_bmp(&codes, compression)).unwrap_err().to_string();
            assert_eq!(error, format!("picture: damaged BMP file: {reason}"), "{codes:?}");
        }
    }
}

#[test]
fn other_tiff_files_are_refused_in_words_of_ours() {
    for (name, what) in [
        ("ycbcr.tif", "in YCbCr"),
        ("lab.tif", "in CIELab"),
        ("real.tif", "with 32 bits a channel"),
        ("grey_alpha.tif", "of grey and transparency"),
    ] {
        let error = decode(&file(name)).unwrap_err().to_string();
        let works = "save it as PNG, or as RGB with 8 bits a channel";
        assert_eq!(error, format!("picture: TIFF files {what} are not supported: {works}"));
        assert!(picture_text(&file(name)).is_ok(), "{name}");
    }
}

#[test]
fn an_end_put_behind_half_a_file_makes_it_no_picture() {
    let jpeg = |name: &str| {
        let bytes = file(name);
        let scan = bytes.windows(2).rposition(|pair| pair == [0xff, 0xda]).unwrap();
        (bytes, scan)
    };
    for name in ["restarts.jpg", "xmp6.jpg", "progressive_444.jpg"] {
        let (bytes, scan) = jpeg(name);
        for keep in [scan + 20, scan + (bytes.len() - scan) / 2, bytes.len() - 10, scan] {
            let cut = [&bytes[..keep], &[0xff, 0xd9]].concat();
            assert!(decode(&cut).is_err(), "{name} up to {keep} of {}", bytes.len());
        }
    }
    // A restart interval that is absent, and one that is there twice.
    let (bytes, scan) = jpeg("restarts.jpg");
    let marks: Vec<usize> =
        (scan..bytes.len() - 1).filter(|&at| bytes[at] == 0xff && (0xd0..0xd8).contains(&bytes[at + 1])).collect();
    for pair in marks.windows(2) {
        let without = [&bytes[..pair[0]], &bytes[pair[1]..]].concat();
        let twice = [&bytes[..pair[1]], &bytes[pair[0]..]].concat();
        assert!(decode(&without).is_err() && decode(&twice).is_err(), "{pair:?}");
    }
    assert!(marks.len() > 2);
    let webp = file("xmp6.webp");
    let mut short = webp[..webp.len() / 2].to_vec();
    let n = (short.len() as u32 - 8).to_le_bytes();
    short[4..8].copy_from_slice(&n);
    assert!(decode(&short).is_err());
}

#[test]
fn texts_of_other_programs_are_read() {
    let found = |name: &str| Found::in_text(&picture_text(&file(name)).unwrap());
    let settings = |name: &str| found(name).unwrap_or_else(|| panic!("{name}: nothing found")).settings;
    for name in [
        "a1111.png",
        "a1111.jpg",
        "a1111.webp",
        "a1111_little.jpg",
        "a1111_ascii.jpg",
        "damaged_text.png",
        "bomb_text.png",
        "bomb_profile.png",
    ] {
        let got = settings(name);
        assert_eq!(got.prompt.as_deref(), Some("a caf\u{e9} at night"), "{name}");
        assert_eq!(got.negative_prompt.as_deref(), Some("blurry"), "{name}");
        assert_eq!((got.steps, got.seed, got.width, got.height), (Some(20), Some(123), Some(512), Some(768)), "{name}");
        assert_eq!(got.sampler.as_deref(), Some("dpm++2m_karras"), "{name}");
        // The rest of the file is fine as well.
        decode(&file(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    assert_eq!(settings("utf8_in_text.png").prompt.as_deref(), Some("a \u{732b} caf\u{e9}"));
    for (name, program, seed, sampler, size) in [
        ("comfy.png", "ComfyUI", u64::MAX, "dpm++2m_karras", [640, 448]),
        ("comfy.webp", "ComfyUI", u64::MAX, "dpm++2m_karras", [640, 448]),
        ("swarm.png", "SwarmUI", 77, "euler_a", [512, 640]),
        ("invoke.png", "InvokeAI", 42, "dpm++2m_karras", [512, 512]),
        ("novel.png", "NovelAI", 1_234_567_890, "euler_a", [832, 1216]),
        ("fooocus.png", "Fooocus", 987, "dpm++2m_sde_karras", [1152, 896]),
    ] {
        let got = found(name).unwrap_or_else(|| panic!("{name}: nothing found"));
        assert_eq!(got.program, program, "{name}");
        let settings = got.settings;
        assert_eq!((settings.seed, settings.sampler.as_deref()), (Some(seed), Some(sampler)), "{name}");
        assert_eq!((settings.width, settings.height), (Some(size[0]), Some(size[1])), "{name}");
        assert!(settings.prompt.is_some() && settings.steps.is_some() && settings.guidance_scale.is_some(), "{name}");
        assert_eq!(settings.strength, None, "{name}");
    }
    let comfy = settings("comfy.png");
    assert_eq!(
        (comfy.prompt.as_deref(), comfy.negative_prompt.as_deref()),
        (Some("a castle"), Some("text, watermark"))
    );
    assert_eq!(comfy.model.as_deref(), Some("v1-5-pruned.safetensors"), "behind a LoRA");
    // JavaScript's numbers do not hold it.
    assert_eq!(serde_json::to_value(&comfy).unwrap()["seed"], "18446744073709551615");
    for (name, program) in [("swarm_empty.png", "SwarmUI"), ("comfy_workflow.png", "ComfyUI")] {
        let got = found(name).unwrap();
        assert!(got.program == program && got.settings.is_empty(), "{name}: {got:?}");
    }
    for name in ["xmp6.jpg", "plain.gif", "plain.bmp", "grey.tif", "escapes.png"] {
        assert_eq!(found(name), None, "{name}");
    }
}

/// What tools/fixtures/metadata.py says is to be found in the files that it writes as other programs do. `null` is absent; of
/// notes a part of each is given, in any order.
#[test]
fn settings_of_other_programs_are_found() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/metadata");
    let cases = std::fs::read_to_string(folder.join("cases.json")).unwrap();
    let cases: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&cases).unwrap();
    assert!(cases.len() > 10);
    for (name, expected) in cases {
        let texts = picture_text(&std::fs::read(folder.join(&name)).unwrap()).unwrap();
        let found = Found::in_text(&texts).unwrap_or_else(|| panic!("{name}: nothing found in {texts:?}"));
        let json = serde_json::to_value(&found).unwrap();
        for (key, value) in expected.as_object().unwrap() {
            if key != "notes" {
                assert_eq!(&json[key], value, "{name}: {key}");
                continue;
            }
            let parts: Vec<&str> = value.as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect();
            assert_eq!(found.notes.len(), parts.len(), "{name}: {:?}", found.notes);
            for part in parts {
                assert!(found.notes.iter().any(|note| note.contains(part)), "{name}: no {part} in {:?}", found.notes);
            }
        }
    }
}

/// Bytes taken beside those of the file.
fn peak<T>(bytes: &[u8], read: fn(&[u8]) -> T) -> usize {
    allocations::peak_of(|| read(bytes)).1
}

#[test]
fn compressed_texts_and_profiles_are_read_within_bounds() {
    for name in ["bomb_text.png", "bomb_profile.png", "damaged_text.png"] {
        let bytes = file(name);
        let limit = (5 << 20) + 4 * bytes.len();
        assert!(peak(&bytes, |bytes: &[u8]| drop(picture_text(bytes))) < limit, "{name}");
        assert!(peak(&bytes, |bytes: &[u8]| drop(decode(bytes))) < limit, "{name}");
    }
    // Lengths that promise what is not there.
    let mut webp = file("xmp8_exif1.webp");
    for i in 12..webp.len() - 8 {
        if [&b"EXIF"[..], b"XMP ", b"ICCP"].contains(&&webp[i..i + 4]) {
            webp[i + 4..i + 8].copy_from_slice(&u32::MAX.to_le_bytes());
        }
    }
    assert!(peak(&webp, |bytes: &[u8]| drop(decode(bytes))) < 1 << 20);
    let mut jpeg = b"\xff\xd8".to_vec();
    for _ in 0..2000 {
        jpeg.extend(b"\xff\xe1\xff\xffhttp://ns.adobe.com/xap/1.0/\0");
        jpeg.resize(jpeg.len() + 0xffff - 2 - 29, b'x');
    }
    assert!(peak(&jpeg, |bytes: &[u8]| drop(picture_text(bytes))) < 1 << 20);
}

/// A PNG of one level.
fn flat_png(width: u32, height: u32, color: png::ColorType, depth: png::BitDepth) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(color);
    encoder.set_depth(depth);
    encoder.set_compression(png::Compression::Fastest);
    if color == png::ColorType::Indexed {
        encoder.set_palette(vec![1, 2, 3, 4, 5, 6]);
        encoder.set_trns(vec![0, 255]);
    }
    let row = (width as usize * color.samples() * depth as usize).div_ceil(8);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&vec![0; row * height as usize]).unwrap();
    writer.finish().unwrap();
    bytes
}

fn check_memory(name: &str, bytes: &[u8]) {
    let said = memory_needed(bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
    for (what, read) in [
        ("picture", (|b: &[u8]| drop(decode(b).unwrap())) as fn(&[u8])),
        ("mask", |b: &[u8]| drop(decode_mask(b).unwrap())),
    ] {
        let took = peak(bytes, read) as u64;
        assert!(
            took <= said,
            "{name} as a {what}: {took} bytes, and {said} were announced for {} of file",
            bytes.len()
        );
    }
}

#[test]
fn the_memory_that_reading_takes_is_known_before() {
    use ::image::codecs::{bmp::BmpEncoder, gif::GifEncoder, jpeg::JpegEncoder, tiff::TiffEncoder, webp::WebPEncoder};
    use ::image::{ExtendedColorType, ImageEncoder};
    use png::{BitDepth, ColorType};
    for (color, depth) in [
        (ColorType::Grayscale, BitDepth::One),
        (ColorType::Grayscale, BitDepth::Sixteen),
        (ColorType::GrayscaleAlpha, BitDepth::Eight),
        (ColorType::Indexed, BitDepth::One),
        (ColorType::Rgb, BitDepth::Eight),
        (ColorType::Rgba, BitDepth::Sixteen),
    ] {
        check_memory(&format!("PNG {color:?} {depth:?}"), &flat_png(1200, 900, color, depth));
    }
    let (width, height) = (1200_u32, 900_u32);
    let rgb: Vec<u8> = (0..width * height * 3).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let encoded = |encode: &dyn Fn(&mut std::io::Cursor<Vec<u8>>)| {
        let mut file = std::io::Cursor::new(Vec::new());
        encode(&mut file);
        file.into_inner()
    };
    let rgb8 = ExtendedColorType::Rgb8;
    check_memory("JPEG", &encoded(&|file| JpegEncoder::new(file).write_image(&rgb, width, height, rgb8).unwrap()));
    check_memory(
        "WebP",
        &encoded(&|file| WebPEncoder::new_lossless(file).write_image(&rgb, width, height, rgb8).unwrap()),
    );
    check_memory("BMP", &encoded(&|file| BmpEncoder::new(file).write_image(&rgb, width, height, rgb8).unwrap()));
    check_memory("TIFF", &encoded(&|file| TiffEncoder::new(file).write_image(&rgb, width, height, rgb8).unwrap()));
    check_memory(
        "grey TIFF",
        &encoded(&|file| {
            // As large as the others in bytes, since each pixel becomes three.
            TiffEncoder::new(file).write_image(&rgb, width, 3 * height, ExtendedColorType::L8).unwrap();
        }),
    );
    check_memory("GIF", &encoded(&|file| GifEncoder::new(file).encode(&rgb, width, height, rgb8).unwrap()));
    for entry in
        std::fs::read_dir(folder().join("pictures")).unwrap().chain(std::fs::read_dir(folder().join("image")).unwrap())
    {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        if decode(&bytes).is_ok() {
            check_memory(&path.display().to_string(), &bytes);
        }
    }
}

#[test]
fn what_would_take_too_much_is_refused_before_it_is_taken() {
    use png::{BitDepth, ColorType};
    for (color, depth) in [
        (ColorType::Grayscale, BitDepth::One),
        (ColorType::Grayscale, BitDepth::Eight),
        (ColorType::Indexed, BitDepth::One),
        (ColorType::Rgb, BitDepth::Eight),
    ] {
        let bytes = flat_png(16_384, 16_384, color, depth);
        let error = decode(&bytes).unwrap_err().to_string();
        assert!(error.starts_with("picture: 16384x16384 pixels are too many: at most 16384 a side"), "{error}");
        assert!(memory_needed(&bytes).unwrap() > MAX_DECODED_BYTES);
        assert!(peak(&bytes, |bytes: &[u8]| drop(decode(bytes))) < 4 << 20, "{color:?} {depth:?}");
    }
}

#[test]
fn a_damaged_transparency_is_no_trifle() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/image/palette_transparent.png");
    let whole = std::fs::read(path).unwrap();
    assert!(decode(&whole).is_ok());
    let name = whole.windows(4).position(|four| four == b"tRNS").unwrap();
    let n_bytes = u32::from_be_bytes(whole[name - 4..name].try_into().unwrap()) as usize;
    let mut damaged = whole;
    damaged[name + 4 + n_bytes] ^= 1;
    // As a mask it would lose its shape without a word.
    assert!(decode(&damaged).is_err() && decode_mask(&damaged).is_err());
}
