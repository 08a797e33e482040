//! Pictures: reading what a person brings, resizing it as Pillow does, and writing the result with its parameters.
//!
//! Everything follows what diffusers does with Pillow: `load_image` for reading, `VaeImageProcessor` for resizing,
//! masks and the step between 8-bit levels and [-1, 1]. All of it agrees to the bit, except that a JPEG may differ by a
//! few levels, because another decoder reads it.
//!
//! It deliberately does no I/O (bytes in, bytes out), reads only PNG, JPEG and WebP (the first frame of an animation),
//! drops transparency instead of blending it, and ignores colour profiles, as Pillow's `convert("RGB")` does.

mod file_format;
mod fit;
mod mask;
mod png_file;
mod resize;

use std::io::Cursor;

use ::image::metadata::Orientation;
use ::image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

pub use self::file_format::{FileFormat, encode};
pub use self::fit::Fit;
pub use self::mask::Mask;
pub use self::png_file::{encode_png, png_text};
use crate::error::{Error, Result};

/// The longest side of a picture that is read, in pixels.
pub const MAX_SIDE: u32 = 16_384;
/// The most memory that the pixels of a picture may take while it is read, in bytes.
pub const MAX_DECODED_BYTES: u64 = 512 << 20;

/// A picture of 8-bit levels, row by row from the top: H W 3, red first.
#[derive(Clone, PartialEq, Eq)]
pub struct RgbImage {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height * width * 3` levels.
    pub pixels: Vec<u8>,
}

/// A picture of one 8-bit channel: H W.
#[derive(Clone, PartialEq, Eq)]
pub struct GrayImage {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height * width` levels.
    pub pixels: Vec<u8>,
}

impl RgbImage {
    /// A picture from its pixels, H W 3.
    ///
    /// # Errors
    /// [`Error::Image`] if there are not `height * width * 3` of them or a side is zero.
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Result<Self> {
        check_len(width, height, 3, pixels.len())?;
        Ok(Self { width, height, pixels })
    }

    /// Resizes as Pillow's `Image.resize((width, height), LANCZOS)`, bit for bit.
    ///
    /// # Panics
    /// If a side is zero: sizes are checked where a request is made.
    #[must_use]
    pub fn resize_lanczos(&self, width: usize, height: usize) -> Self {
        let pixels = resize::lanczos::<3>(&self.pixels, (self.width, self.height), (width, height));
        Self { width, height, pixels }
    }

    /// The luma of ITU-R 601, as Pillow's `convert("L")`: 16-bit fixed point, rounded.
    #[must_use]
    pub fn to_gray(&self) -> GrayImage {
        let luma = |p: &[u8]| {
            ((u32::from(p[0]) * 19_595 + u32::from(p[1]) * 38_470 + u32::from(p[2]) * 7_471 + 0x8000) >> 16) as u8
        };
        GrayImage { width: self.width, height: self.height, pixels: self.pixels.chunks_exact(3).map(luma).collect() }
    }
}

impl GrayImage {
    /// A picture from its pixels, H W.
    ///
    /// # Errors
    /// [`Error::Image`] if there are not `height * width` of them or a side is zero.
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Result<Self> {
        check_len(width, height, 1, pixels.len())?;
        Ok(Self { width, height, pixels })
    }

    /// Resizes as Pillow's `Image.resize((width, height), LANCZOS)`, bit for bit.
    ///
    /// # Panics
    /// If a side is zero: sizes are checked where a request is made.
    #[must_use]
    pub fn resize_lanczos(&self, width: usize, height: usize) -> Self {
        let pixels = resize::lanczos::<1>(&self.pixels, (self.width, self.height), (width, height));
        Self { width, height, pixels }
    }
}

impl std::fmt::Debug for RgbImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A log wants the size, not a million levels.
        write!(f, "RgbImage({}x{})", self.width, self.height)
    }
}

impl std::fmt::Debug for GrayImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GrayImage({}x{})", self.width, self.height)
    }
}

/// Reads a PNG, JPEG or WebP file as diffusers' `load_image`: turned upright by its EXIF orientation, then RGB.
///
/// Of 16-bit channels the high byte counts. For 16-bit *grey* this is better than Pillow 13, which clips every level
/// above 255 to white.
///
/// # Errors
/// [`Error::Image`] for other formats, damaged files, a side above [`MAX_SIDE`] or pixels above [`MAX_DECODED_BYTES`].
pub fn decode(bytes: &[u8]) -> Result<RgbImage> {
    let format = match ::image::guess_format(bytes) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP)) => format,
        Ok(other) => return Err(unreadable(format!("{other:?} files are not supported: expected PNG, JPEG or WebP"))),
        Err(_) => return Err(unreadable("not a picture file: expected PNG, JPEG or WebP".to_owned())),
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|e| damaged(format, &e))?;
    // Checked here too, before anything is allocated, for a message that names the numbers.
    let ((width, height), n_bytes) = (decoder.dimensions(), decoder.total_bytes());
    if width > MAX_SIDE || height > MAX_SIDE || n_bytes > MAX_DECODED_BYTES {
        return Err(unreadable(format!(
            "{width}x{height} pixels are too many: at most {MAX_SIDE} a side and {} MiB in memory",
            MAX_DECODED_BYTES >> 20
        )));
    }
    // A broken EXIF block is no reason to refuse the picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|e| damaged(format, &e))?;
    picture.apply_orientation(orientation);
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    RgbImage::new(width, height, rgb_levels(picture)?)
}

/// The picture's levels as RGB, 8 bits, without transparency.
fn rgb_levels(picture: DynamicImage) -> Result<Vec<u8>> {
    /// Red, green and blue of pixels with `n` channels; grey, with one or two, is all three.
    fn pick<T: Copy>(levels: &[T], n: usize, to_u8: impl Fn(T) -> u8) -> Vec<u8> {
        let rgb = if n < 3 { [0, 0, 0] } else { [0, 1, 2] };
        levels.chunks_exact(n).flat_map(|pixel| rgb.map(|channel| to_u8(pixel[channel]))).collect()
    }
    let high_byte = |level: u16| (level >> 8) as u8;
    let same = |level: u8| level;
    Ok(match picture {
        DynamicImage::ImageRgb8(p) => p.into_raw(),
        DynamicImage::ImageRgba8(p) => pick(p.as_raw(), 4, same),
        DynamicImage::ImageLuma8(p) => pick(p.as_raw(), 1, same),
        DynamicImage::ImageLumaA8(p) => pick(p.as_raw(), 2, same),
        DynamicImage::ImageRgb16(p) => pick(p.as_raw(), 3, high_byte),
        DynamicImage::ImageRgba16(p) => pick(p.as_raw(), 4, high_byte),
        DynamicImage::ImageLuma16(p) => pick(p.as_raw(), 1, high_byte),
        DynamicImage::ImageLumaA16(p) => pick(p.as_raw(), 2, high_byte),
        other => return Err(unreadable(format!("{:?} pixels are not supported", other.color()))),
    })
}

/// The picture as the VAE encoder reads it: H W 3 in [-1, 1], in the arithmetic of diffusers' `VaeImageProcessor`.
#[must_use]
pub fn to_unit(image: &RgbImage) -> Vec<f32> {
    image.pixels.iter().map(|&level| 2.0 * (f32::from(level) / 255.0) - 1.0).collect()
}

/// The picture that the VAE decoder drew: H W 3, nominally in [-1, 1], clamped and rounded to the nearest level, a tie
/// to the even one, as diffusers and numpy do. NaN becomes black; the pipeline catches it before.
///
/// # Panics
/// If there are not `height * width * 3` values.
#[must_use]
pub fn from_unit(values: &[f32], width: usize, height: usize) -> RgbImage {
    assert_eq!(values.len(), width * height * 3, "values of a {width}x{height} picture");
    let level = |&x: &f32| ((x * 0.5 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8;
    RgbImage { width, height, pixels: values.iter().map(level).collect() }
}

fn check_len(width: usize, height: usize, channels: usize, got: usize) -> Result<()> {
    let expected = width.checked_mul(height).and_then(|n| n.checked_mul(channels));
    if expected == Some(got) && got > 0 {
        return Ok(());
    }
    Err(Error::Image {
        what: "picture".to_owned(),
        reason: format!("{got} levels do not make {width}x{height} pixels of {channels}"),
    })
}

fn unreadable(reason: String) -> Error {
    Error::Image { what: "picture".to_owned(), reason }
}

fn damaged(format: ImageFormat, error: &ImageError) -> Error {
    let reason = match error {
        ImageError::Limits(_) => {
            format!("too large: at most {MAX_SIDE} pixels a side and {} MiB in memory", MAX_DECODED_BYTES >> 20)
        }
        other => format!("damaged {format:?} file: {other}"),
    };
    unreadable(reason)
}
