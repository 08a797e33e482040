//! The part of a picture that is drawn where only what is masked is: diffusers' `VaeImageProcessor.get_crop_region`.

use super::{GrayImage, RgbImage};

/// A rectangle of pixels; the right and lower bounds are outside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// The first column.
    pub left: usize,
    /// The first row.
    pub top: usize,
    /// The column behind the last.
    pub right: usize,
    /// The row behind the last.
    pub bottom: usize,
}

impl Region {
    /// What holds every pixel of the mask that is not black and `padding` pixels around it, made longer on one side for the
    /// proportions of `width` x `height`, as far as the mask goes. `None` for a black mask.
    ///
    /// # Panics
    /// If `width` or `height` is zero.
    #[must_use]
    pub fn of_mask(mask: &GrayImage, width: usize, height: usize, padding: usize) -> Option<Self> {
        assert!(width > 0 && height > 0, "draw {width}x{height}");
        let is_marked = |x: usize, y: usize| mask.pixels[y * mask.width + x] != 0;
        let mut columns = (0..mask.width).filter(|&x| (0..mask.height).any(|y| is_marked(x, y)));
        let mut rows = (0..mask.height).filter(|&y| (0..mask.width).any(|x| is_marked(x, y)));
        let (left, top) = (columns.next()?, rows.next()?);
        let (right, bottom) = (columns.next_back().unwrap_or(left) + 1, rows.next_back().unwrap_or(top) + 1);
        let across = (left.saturating_sub(padding), right.saturating_add(padding).min(mask.width));
        let down = (top.saturating_sub(padding), bottom.saturating_add(padding).min(mask.height));
        let (own_width, own_height) = ((across.1 - across.0) as f64, (down.1 - down.0) as f64);
        let ratio = width as f64 / height as f64;
        let (across, down) = if own_width / own_height > ratio {
            (across, lengthened(down, own_width / ratio, mask.height))
        } else {
            (lengthened(across, own_height * ratio, mask.width), down)
        };
        Some(Region { left: across.0, top: down.0, right: across.1, bottom: down.1 })
    }

    /// Pixels in a row.
    #[must_use]
    pub fn width(self) -> usize {
        self.right - self.left
    }

    /// Rows.
    #[must_use]
    pub fn height(self) -> usize {
        self.bottom - self.top
    }
}

/// A stretch of a side of `side` pixels, made `length` long on both ends, or on the other one where it meets the edge.
fn lengthened((first, end): (usize, usize), length: f64, side: usize) -> (usize, usize) {
    let more = (length - (end - first) as f64) as isize;
    let (mut first, mut end) = (first as isize - more / 2, end as isize + more - more / 2);
    let side = side as isize;
    if end >= side {
        first -= end - side;
        end = side;
    }
    if first < 0 {
        end -= first;
        first = 0;
    }
    (first as usize, end.min(side) as usize)
}

impl RgbImage {
    /// The part of the picture in a region.
    ///
    /// # Panics
    /// If the region is not within the picture.
    #[must_use]
    pub fn cropped(&self, region: Region) -> Self {
        let row = |y: usize| &self.pixels[(y * self.width + region.left) * 3..(y * self.width + region.right) * 3];
        let pixels = (region.top..region.bottom).flat_map(row).copied().collect();
        RgbImage { width: region.width(), height: region.height(), pixels }
    }
}
