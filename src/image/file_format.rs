//! Finished pictures as files of a chosen format: PNG, JPEG or WebP.
//!
//! JPEG and WebP have no place for pairs of keyword and text; the text under `parameters` goes into the EXIF user comment,
//! UTF-16 with the prefix `UNICODE`, which is where AUTOMATIC1111's web interface writes and reads it.
//!
//! It deliberately has no lossy WebP (VP8): no encoder in Rust under a free licence is known. A quality below 100 is what
//! libwebp calls near-lossless: levels are rounded where neighbours differ, so that the lossless file gets smaller.

use ::image::codecs::jpeg::JpegEncoder;
use ::image::codecs::webp::WebPEncoder;
use ::image::{ExtendedColorType, ImageEncoder, ImageError};

use super::{RgbImage, encode_png};
use crate::error::{Error, Result};

/// The most bytes of an EXIF block: a segment of a JPEG file has 16 bits for its length, with 2 of its own and 6 of a header.
const MAX_EXIF_BYTES: usize = 0xffff - 8;

/// The format of a picture's file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileFormat {
    /// Without loss.
    #[default]
    Png,
    /// With a quality of 0 (small) to 100; colours are not subsampled.
    Jpeg {
        /// 0 to 100.
        quality: u8,
    },
    /// Without loss at quality 100; below, see the module.
    WebP {
        /// 0 to 100.
        quality: u8,
    },
}

impl FileFormat {
    /// `png`, `jpeg` or `webp`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FileFormat::Png => "png",
            FileFormat::Jpeg { .. } => "jpeg",
            FileFormat::WebP { .. } => "webp",
        }
    }

    /// Its media type, such as `image/png`.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            FileFormat::Png => "image/png",
            FileFormat::Jpeg { .. } => "image/jpeg",
            FileFormat::WebP { .. } => "image/webp",
        }
    }
}

/// The picture as a file. `text` are pairs of keyword and text as for [`encode_png`]; of them a JPEG or WebP file has what
/// is under `parameters`, unless it is longer than EXIF can hold (about 32,000 characters).
///
/// # Errors
/// [`Error::Image`] if a keyword is not 1 to 79 characters of Latin-1 (PNG), or a side is longer than the format allows.
pub fn encode(image: &RgbImage, text: &[(String, String)], format: FileFormat) -> Result<Vec<u8>> {
    let fail = |e: ImageError| Error::Image { what: format.name().to_owned(), reason: e.to_string() };
    let side = |n: usize| {
        // 16,383 pixels are the most of a WebP file; JPEG has 65,535.
        u32::try_from(n).ok().filter(|&n| n < 16_384).ok_or_else(|| Error::Image {
            what: format.name().to_owned(),
            reason: format!("a side of {n} pixels is too long: 16383 at most"),
        })
    };
    let parameters = text.iter().find(|(key, _)| key == "parameters").map(|(_, value)| value.as_str());
    let exif = parameters.map(user_comment).filter(|exif| exif.len() <= MAX_EXIF_BYTES);
    let mut file = Vec::new();
    match format {
        FileFormat::Png => return encode_png(image, text),
        FileFormat::Jpeg { quality } => {
            let mut encoder = JpegEncoder::new_with_quality(&mut file, quality.clamp(1, 100));
            if let Some(exif) = exif {
                encoder.set_exif_metadata(exif).map_err(|e| fail(ImageError::Unsupported(e)))?;
            }
            let (width, height) = (side(image.width)?, side(image.height)?);
            encoder.write_image(&image.pixels, width, height, ExtendedColorType::Rgb8).map_err(fail)?;
        }
        FileFormat::WebP { quality } => {
            let mut encoder = WebPEncoder::new_lossless(&mut file);
            if let Some(exif) = exif {
                encoder.set_exif_metadata(exif).map_err(|e| fail(ImageError::Unsupported(e)))?;
            }
            let (width, height) = (side(image.width)?, side(image.height)?);
            let pixels = near_lossless(image, quality);
            encoder.write_image(&pixels, width, height, ExtendedColorType::Rgb8).map_err(fail)?;
        }
    }
    Ok(file)
}

/// An EXIF block, big-endian, that holds one user comment.
fn user_comment(text: &str) -> Vec<u8> {
    let comment: Vec<u8> = b"UNICODE\0".iter().copied().chain(text.encode_utf16().flat_map(u16::to_be_bytes)).collect();
    let mut exif = b"MM\0*\0\0\0\x08".to_vec();
    // Directory 0, at byte 8: one entry, the offset (26) of the EXIF directory; no directory follows.
    exif.extend([0, 1, 0x87, 0x69, 0, 4, 0, 0, 0, 1, 0, 0, 0, 26, 0, 0, 0, 0]);
    // The EXIF directory: one entry, bytes of no type at offset 44.
    exif.extend([0, 1, 0x92, 0x86, 0, 7]);
    exif.extend((comment.len() as u32).to_be_bytes());
    exif.extend([0, 0, 0, 44, 0, 0, 0, 0]);
    exif.extend(comment);
    exif
}

/// Rounds levels to multiples of a power of two that is not above their difference from a neighbour: of 2 at most below
/// quality 100, of 32 at most below 20. Smooth places and the border stay as they are.
fn near_lossless(image: &RgbImage, quality: u8) -> Vec<u8> {
    let mut pixels = image.pixels.clone();
    if quality >= 100 {
        return pixels;
    }
    let most_bits = 5 - u32::from(quality) / 20;
    let row = image.width * 3;
    for y in 1..image.height.saturating_sub(1) {
        let inside = y * row + 3..((y + 1) * row).saturating_sub(3);
        for (at, pixel) in pixels.iter_mut().enumerate().take(inside.end).skip(inside.start) {
            let level = image.pixels[at];
            let differences = [at - 3, at + 3, at - row, at + row].map(|near| image.pixels[near].abs_diff(level));
            let most = differences.into_iter().max().unwrap_or_default();
            let bits = most.checked_ilog2().unwrap_or_default().min(most_bits);
            let (step, half) = (1u16 << bits, (1u16 << bits) / 2);
            *pixel = ((u16::from(level) + half) / step * step).min(255) as u8;
        }
    }
    pixels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::decode;

    fn picture() -> RgbImage {
        // Noise: a regular pattern is small without loss, and rounding breaks it.
        let mut state = 1_u32;
        let mut level = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        RgbImage::new(64, 48, (0..64 * 48 * 3).map(|_| level()).collect()).unwrap()
    }

    fn largest_difference(a: &RgbImage, b: &RgbImage) -> u8 {
        assert_eq!((a.width, a.height), (b.width, b.height));
        a.pixels.iter().zip(&b.pixels).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
    }

    #[test]
    fn every_format_reads_back_and_quality_decides_the_size() {
        let text = [("parameters".to_owned(), "a cät\nSteps: 2".to_owned()), ("darkroom".to_owned(), "{}".to_owned())];
        let size = |format| encode(&picture(), &text, format).unwrap().len();
        for (format, limit) in [
            (FileFormat::Png, 0),
            (FileFormat::WebP { quality: 100 }, 0),
            (FileFormat::WebP { quality: 80 }, 1),
            (FileFormat::WebP { quality: 0 }, 16),
        ] {
            let back = decode(&encode(&picture(), &text, format).unwrap()).unwrap();
            let max = largest_difference(&back, &picture());
            assert!(max <= limit, "{format:?}: {max} levels");
        }
        assert!(size(FileFormat::Jpeg { quality: 10 }) < size(FileFormat::Jpeg { quality: 90 }));
        assert!(size(FileFormat::WebP { quality: 0 }) < size(FileFormat::WebP { quality: 100 }));
        let jpeg = encode(&picture(), &text, FileFormat::Jpeg { quality: 100 }).unwrap();
        assert_eq!(decode(&jpeg).unwrap().width, 64);
    }

    #[test]
    fn parameters_are_the_user_comment_and_one_that_is_too_long_is_left_out() {
        for format in [FileFormat::Jpeg { quality: 90 }, FileFormat::WebP { quality: 100 }] {
            let file = |text: &str| encode(&picture(), &[("parameters".to_owned(), text.to_owned())], format).unwrap();
            let utf16: Vec<u8> = "UNICODE\0a c\u{e4}t".bytes().take(8).collect();
            let wanted: Vec<u8> =
                utf16.into_iter().chain("a c\u{e4}t".encode_utf16().flat_map(u16::to_be_bytes)).collect();
            let has = |file: &[u8]| file.windows(wanted.len()).any(|bytes| bytes == wanted);
            assert!(has(&file("a c\u{e4}t")), "{format:?}");
            let long = file(&("a c\u{e4}t".to_owned() + &"x".repeat(40_000)));
            assert!(!has(&long) && decode(&long).is_ok(), "{format:?}");
        }
    }
}
