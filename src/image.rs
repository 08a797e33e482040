//! Pictures: reading what a person brings, resizing it as Pillow does, and writing the result with its parameters.
//!
//! Everything follows what diffusers does with Pillow: `load_image` for reading, `VaeImageProcessor` for resizing, masks,
//! crops and overlays, and the step between 8-bit levels and [-1, 1]. All of it agrees to the bit, except that a JPEG may
//! differ by up to 4 levels, because another decoder reads it, and by more in a last column or row that ends inside a unit
//! of subsampled colours: 6 levels in the fixtures, 41 in noise. Outpainting's border is our own.
//!
//! It deliberately does no I/O (bytes in, bytes out), reads only PNG, JPEG, WebP, GIF, BMP and TIFF (the first frame of an
//! animation), drops transparency instead of blending it, and ignores colour profiles, as Pillow's `convert("RGB")` does.

mod blur;
mod bmp_file;
mod decode;
mod exif;
mod extend;
mod file_format;
mod fit;
mod gif_file;
mod jpeg_file;
mod jpeg_scan;
mod mask;
mod metadata;
mod overlay;
mod png_file;
mod region;
mod resize;
mod tiff_file;
mod webp_file;

pub use self::decode::{
    MAX_DECODED_BYTES, MAX_SIDE, PictureFormat, decode, decode_edit_mask, decode_mask, decode_opacity, mask_of_rgba,
    memory_needed,
};
pub use self::extend::Border;
pub use self::file_format::{FileFormat, encode};
pub use self::fit::Fit;
pub use self::mask::Mask;
pub use self::metadata::picture_text;
pub use self::overlay::overlaid;
pub use self::png_file::{encode_png, png_text};
pub use self::region::Region;
use crate::error::{Error, Result};

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
