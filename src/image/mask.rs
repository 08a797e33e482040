//! The inpainting mask: which pixels to repaint.
//!
//! It follows diffusers' mask processor, `VaeImageProcessor(do_normalize=False, do_binarize=True,
//! do_convert_grayscale=True)`, then `torch.nn.functional.interpolate(mode="nearest")` for the latents. It deliberately
//! has no soft edges: those models are conditioned on 0 and 1. A blurred mask fades where the original is laid over the
//! result ([`super::overlaid`]).

use super::{Fit, RgbImage};

/// A mask of 0 and 1, H W: 1 is repainted, 0 is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Mask {
    /// Values in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height * width` values, each 0.0 or 1.0.
    pub values: Vec<f32>,
}

impl Mask {
    /// Brings the picture to the size (Lanczos, in colour), turns it grey and calls everything from level 128 on "repaint".
    ///
    /// # Panics
    /// If a side is zero.
    #[must_use]
    pub fn from_image(image: &RgbImage, width: usize, height: usize, fit: Fit) -> Self {
        let gray = image.fitted(width, height, fit).to_gray();
        // 128 / 255 is the first level that is at least one half.
        let values = gray.pixels.into_iter().map(|level| if level >= 128 { 1.0 } else { 0.0 }).collect();
        Self { width, height, values }
    }

    /// The mask at another size, each value that of the nearest pixel above and to the left, as torch picks it.
    ///
    /// # Panics
    /// If a side is zero.
    #[must_use]
    pub fn resize_nearest(&self, width: usize, height: usize) -> Self {
        assert!(width > 0 && height > 0, "resize a mask to {width}x{height}");
        let columns: Vec<usize> = (0..width).map(|x| nearest(x, self.width, width)).collect();
        let mut values = Vec::with_capacity(width * height);
        for y in 0..height {
            let row = nearest(y, self.height, height) * self.width;
            values.extend(columns.iter().map(|x| self.values[row + x]));
        }
        Self { width, height, values }
    }

    /// Whether nothing is to be repainted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.iter().all(|&v| v == 0.0)
    }
}

/// The source of position `i`. Torch scales in f32, which decides where sizes do not divide.
fn nearest(i: usize, from: usize, to: usize) -> usize {
    let scale = from as f32 / to as f32;
    ((i as f32 * scale) as usize).min(from - 1)
}
