//! PNG files with text: the finished picture and the parameters that made it.
//!
//! Text goes where the Stable Diffusion web interfaces look for it: a `tEXt` chunk if Latin-1 can spell it, otherwise
//! `iTXt`, uncompressed, which is what Pillow's `PngInfo.add_text` does. It deliberately writes nothing else: no EXIF,
//! no colour profile, no time.

use super::{PictureFormat, RgbImage, picture_text};
use crate::error::{Error, Result};

/// The picture as a PNG file. `text` are pairs of keyword and text, written in front of the pixels.
///
/// A NUL inside a text, which ends it in the file format, is written as U+FFFD.
///
/// # Errors
/// [`Error::Image`] if a keyword is not 1 to 79 characters of Latin-1.
pub fn encode_png(image: &RgbImage, text: &[(String, String)]) -> Result<Vec<u8>> {
    let fail = |e: png::EncodingError| Error::Image { what: "PNG".to_owned(), reason: e.to_string() };
    let side = |n: usize| {
        u32::try_from(n).map_err(|e| Error::Image { what: "PNG".to_owned(), reason: format!("side {n}: {e}") })
    };
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, side(image.width)?, side(image.height)?);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    for (key, value) in text {
        if !is_keyword(key) {
            let reason = format!("keyword {key:?} is not 1 to 79 characters of Latin-1");
            return Err(Error::Image { what: "PNG text".to_owned(), reason });
        }
        let value = value.replace('\0', "\u{fffd}");
        if is_latin1(&value) {
            encoder.add_text_chunk(key.clone(), value).map_err(fail)?;
        } else {
            encoder.add_itxt_chunk(key.clone(), value).map_err(fail)?;
        }
    }
    let mut writer = encoder.write_header().map_err(fail)?;
    writer.write_image_data(&image.pixels).map_err(fail)?;
    writer.finish().map_err(fail)?;
    Ok(file)
}

/// All text of a PNG file as pairs of keyword and text, as [`picture_text`] reads it.
///
/// # Errors
/// [`Error::Image`] if the file is not a PNG, or is cut off.
pub fn png_text(bytes: &[u8]) -> Result<Vec<(String, String)>> {
    match PictureFormat::of(bytes)? {
        PictureFormat::Png => picture_text(bytes),
        other => {
            Err(Error::Image { what: "picture".to_owned(), reason: format!("a {other} file where a PNG is expected") })
        }
    }
}

fn is_latin1(text: &str) -> bool {
    text.chars().all(|c| u32::from(c) <= 0xff)
}

fn is_keyword(key: &str) -> bool {
    (1..=79).contains(&key.chars().count()) && is_latin1(key) && !key.contains('\0')
}
