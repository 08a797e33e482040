//! The original over what was drawn, where a mask does not hide it: diffusers' `VaeImageProcessor.apply_overlay`, with
//! Pillow's rounding.
//!
//! Source for that: Pillow 13.0 `src/libImaging/{Paste,Convert,AlphaComposite}.c`.

use super::{Fit, GrayImage, Region, RgbImage};

/// Fractional bits of a share in [`over`].
const SHARE_BITS: u32 = 7;

/// `original` where `mask` is black, to the byte, `drawn` where it is white, and both mixed between. With a region, `drawn` is
/// what belongs there, and is resized to it first; outside of it the mask has to be black.
///
/// # Panics
/// If mask and original, or, without a region, drawn and original, differ in size.
#[must_use]
pub fn overlaid(original: &RgbImage, mask: &GrayImage, drawn: &RgbImage, region: Option<Region>) -> RgbImage {
    assert_eq!((original.width, original.height), (mask.width, mask.height), "sizes of picture and mask");
    let region = region.unwrap_or(Region { left: 0, top: 0, right: original.width, bottom: original.height });
    let drawn = drawn.fitted(region.width(), region.height(), Fit::Crop);
    let mut image = original.clone();
    for y in 0..original.height {
        for x in 0..original.width {
            let at = y * original.width + x;
            let opacity = 255 - mask.pixels[at];
            let is_inside = (region.left..region.right).contains(&x) && (region.top..region.bottom).contains(&y);
            let below = match is_inside {
                true => {
                    let at = ((y - region.top) * region.width() + x - region.left) * 3;
                    [drawn.pixels[at], drawn.pixels[at + 1], drawn.pixels[at + 2]]
                }
                false => [0; 3],
            };
            for (level, below) in image.pixels[at * 3..at * 3 + 3].iter_mut().zip(below) {
                *level = over(straight(*level, opacity), opacity, below);
            }
        }
    }
    image
}

/// `x / 255`, rounded, for x up to 255 * 255 and some more.
fn by_255(x: u32) -> u32 {
    ((x >> 8) + x) >> 8
}

/// A level that was multiplied with an opacity and divided by it again.
fn straight(level: u8, opacity: u8) -> u8 {
    let multiplied = by_255(u32::from(level) * u32::from(opacity) + 128);
    match opacity {
        0 | 255 => multiplied as u8,
        _ => (255 * multiplied / u32::from(opacity)).min(255) as u8,
    }
}

/// A level of that opacity over an opaque one.
fn over(level: u8, opacity: u8, below: u8) -> u8 {
    if opacity == 0 {
        return below;
    }
    let share = u32::from(opacity) << SHARE_BITS;
    let rest = (255 << SHARE_BITS) - share;
    let sum = u32::from(level) * share + u32::from(below) * rest + (128 << SHARE_BITS);
    (by_255(sum) >> SHARE_BITS) as u8
}
