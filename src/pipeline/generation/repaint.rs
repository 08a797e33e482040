//! A start picture and its mask as they are drawn, and what of the picture is laid over the result.
//!
//! Where only the masked part is drawn, everything is diffusers' `padding_mask_crop`: the part that is cropped, the edges that
//! fill it up, the original laid over at its own size. A blurred mask hides the original softly, and is cut at one half for
//! the UNet, which knows 0 and 1.

use super::refuse;
use crate::error::Result;
use crate::image::{Fit, GrayImage, Mask, Region, RgbImage, overlaid};
use crate::request::SDConfig;

/// The pictures of a request at the size that is drawn.
pub(super) struct Prepared {
    pub pixels: RgbImage,
    pub mask: Option<Mask>,
    pub overlay: Option<Overlay>,
}

/// What is laid over the result, where a hard mask at the size that is drawn does not say it all.
pub(super) struct Overlay {
    original: RgbImage,
    /// Of the original's size; what is white is drawn anew.
    mask: GrayImage,
    /// Where the result belongs in the original; all of it where absent.
    region: Option<Region>,
}

impl Overlay {
    /// The result under the original.
    pub fn laid_over(&self, drawn: &RgbImage) -> RgbImage {
        overlaid(&self.original, &self.mask, drawn, self.region)
    }
}

impl Prepared {
    /// # Errors
    /// [`crate::Error::Request`] for a mask without white.
    pub fn of(picture: &RgbImage, mask: Option<&RgbImage>, config: &SDConfig) -> Result<Self> {
        let &SDConfig { width, height, fit, mask_blur, padding_mask_crop, .. } = config;
        let Some(mask) = mask else {
            return Ok(Prepared { pixels: picture.fitted(width, height, fit), mask: None, overlay: None });
        };
        let (pixels, mask, overlay) = match padding_mask_crop {
            None if mask_blur == 0.0 => {
                (picture.fitted(width, height, fit), Mask::from_image(mask, width, height, fit), None)
            }
            None => {
                let soft = soft_mask(mask, picture, mask_blur).fitted(width, height, fit);
                let pixels = picture.fitted(width, height, fit);
                let overlay = Overlay { original: pixels.clone(), mask: soft.to_gray(), region: None };
                (pixels, Mask::from_image(&soft, width, height, fit), Some(overlay))
            }
            Some(padding) => {
                let soft = soft_mask(mask, picture, mask_blur);
                let gray = soft.to_gray();
                let Some(region) = Region::of_mask(&gray, width, height, padding) else { return without_white(false) };
                let pixels = picture.cropped(region).fitted(width, height, Fit::Pad);
                let mask = Mask::from_image(&soft.cropped(region), width, height, Fit::Pad);
                (pixels, mask, Some(Overlay { original: picture.clone(), mask: gray, region: Some(region) }))
            }
        };
        match mask.is_empty() {
            true => without_white(mask_blur > 0.0),
            false => Ok(Prepared { pixels, mask: Some(mask), overlay }),
        }
    }
}

/// Refuses a black mask before a model is there. A mask that becomes black at the size that is drawn is refused by the drawing.
///
/// # Errors
/// [`crate::Error::Request`] for one.
pub fn check_mask(mask: &RgbImage) -> Result<()> {
    match mask.pixels.iter().all(|&level| level == 0) {
        true => without_white(false),
        false => Ok(()),
    }
}

/// The mask at the picture's size, blurred by a radius in its pixels.
fn soft_mask(mask: &RgbImage, picture: &RgbImage, radius: f64) -> RgbImage {
    mask.fitted(picture.width, picture.height, Fit::Stretch).blurred(radius)
}

fn without_white<T>(is_blurred: bool) -> Result<T> {
    let expected = match is_blurred {
        true => "make white what is to be repainted; blurred too far (--mask-blur, mask_blur), a small part is lost",
        false => "make white what is to be repainted",
    };
    refuse("mask", "without white", expected)
}
