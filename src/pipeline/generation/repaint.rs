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
        let &SDConfig { width, height, fit, .. } = config;
        let Some(mask) = mask else {
            return Ok(Prepared { pixels: picture.fitted(width, height, fit), mask: None, overlay: None });
        };
        let DrawnMask { mask, soft, region } = DrawnMask::of(mask, (picture.width, picture.height), config)?;
        let (pixels, overlay) = match (soft, region) {
            (None, _) => (picture.fitted(width, height, fit), None),
            (Some(mask), None) => {
                let pixels = picture.fitted(width, height, fit);
                (pixels.clone(), Some(Overlay { original: pixels, mask, region: None }))
            }
            (Some(mask), Some(region)) => {
                let pixels = picture.cropped(region).fitted(width, height, Fit::Pad);
                (pixels, Some(Overlay { original: picture.clone(), mask, region: Some(region) }))
            }
        };
        Ok(Prepared { pixels, mask: Some(mask), overlay })
    }
}

/// A mask as it is drawn with.
struct DrawnMask {
    mask: Mask,
    /// What hides the original, where that is laid over: of the size that is drawn, or with a region of the original's.
    soft: Option<GrayImage>,
    /// The part of the original that is drawn; all of it where absent.
    region: Option<Region>,
}

impl DrawnMask {
    /// From the mask that was given and the size of its picture.
    ///
    /// # Errors
    /// [`crate::Error::Request`] for one without white.
    fn of(mask: &RgbImage, (picture_width, picture_height): (usize, usize), config: &SDConfig) -> Result<Self> {
        let &SDConfig { width, height, fit, mask_blur, padding_mask_crop, .. } = config;
        // At the picture's size, blurred by a radius in its pixels.
        let blurred = || mask.fitted(picture_width, picture_height, Fit::Stretch).blurred(mask_blur);
        let drawn = match padding_mask_crop {
            None if mask_blur == 0.0 => {
                DrawnMask { mask: Mask::from_image(mask, width, height, fit), soft: None, region: None }
            }
            None => {
                let soft = blurred().fitted(width, height, fit);
                let mask = Mask::from_image(&soft, width, height, fit);
                DrawnMask { mask, soft: Some(soft.to_gray()), region: None }
            }
            Some(padding) => {
                let soft = blurred();
                let gray = soft.to_gray();
                let Some(region) = Region::of_mask(&gray, width, height, padding) else { return without_white(false) };
                let mask = Mask::from_image(&soft.cropped(region), width, height, Fit::Pad);
                DrawnMask { mask, soft: Some(gray), region: Some(region) }
            }
        };
        if drawn.mask.is_empty() { without_white(mask_blur > 0.0) } else { Ok(drawn) }
    }
}

/// Refuses a mask that leaves nothing to repaint in a picture of that width and height, before a model is there.
///
/// # Errors
/// [`crate::Error::Request`] for one.
pub fn check_mask(mask: &RgbImage, picture: (usize, usize), config: &SDConfig) -> Result<()> {
    DrawnMask::of(mask, picture, config).map(drop)
}

fn without_white<T>(is_blurred: bool) -> Result<T> {
    let expected = match is_blurred {
        true => "make white what is to be repainted; blurred too far (--mask-blur, mask_blur), a small part is lost",
        false => "make white what is to be repainted",
    };
    refuse("mask", "without white", expected)
}
