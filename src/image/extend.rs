//! A picture that grows on some sides, for outpainting: the new border goes on with the picture mirrored at its edges, under
//! noise, and is what the mask marks, with some pixels of the picture, so that no seam is left.
//!
//! What the border shows matters where an inpainting does not start from noise alone, at less than full strength. The page
//! does the same on a canvas (www/page/outpaint.js).

use super::RgbImage;

/// How many pixels of the picture are marked beside a border, at most; a quarter of a narrow one.
const OVERLAP: usize = 16;
/// How much of the noise is seen, of 256.
const NOISE_SHARE: u32 = 60;

/// Pixels on each side of a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Border {
    /// On the left.
    pub left: usize,
    /// Above.
    pub top: usize,
    /// On the right.
    pub right: usize,
    /// Below.
    pub bottom: usize,
}

impl Border {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Border::default()
    }

    /// Width and height of a picture with the border around it.
    #[must_use]
    pub fn around(self, (width, height): (usize, usize)) -> (usize, usize) {
        (
            width.saturating_add(self.left).saturating_add(self.right),
            height.saturating_add(self.top).saturating_add(self.bottom),
        )
    }
}

impl RgbImage {
    /// The picture with a border; the same border for the same picture.
    #[must_use]
    pub fn extended(&self, border: Border) -> Self {
        let (width, height) = border.around((self.width, self.height));
        // Numerical Recipes' generator: nobody guesses with it.
        let mut state = 1_u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 24
        };
        let mut pixels = Vec::with_capacity(width * height * 3);
        for y in 0..height {
            let row = mirrored(y, border.top, self.height);
            for x in 0..width {
                let at = (row.0 * self.width + mirrored(x, border.left, self.width).0) * 3;
                let is_inside = row.1 && mirrored(x, border.left, self.width).1;
                for &level in &self.pixels[at..at + 3] {
                    pixels.push(match is_inside {
                        true => level,
                        false => ((u32::from(level) * (256 - NOISE_SHARE) + noise() * NOISE_SHARE) >> 8) as u8,
                    });
                }
            }
        }
        RgbImage { width, height, pixels }
    }

    /// The mask of a picture with a border: white there, and where this mask of the picture is.
    #[must_use]
    pub fn extended_as_mask(&self, border: Border) -> Self {
        let (width, height) = border.around((self.width, self.height));
        let overlap = |side: usize| OVERLAP.min(side.div_ceil(4));
        let across = overlap(border.left)..self.width.saturating_sub(overlap(border.right));
        let down = overlap(border.top)..self.height.saturating_sub(overlap(border.bottom));
        let mut pixels = vec![255; width * height * 3];
        for y in down {
            for x in across.clone() {
                let (from, to) = ((y * self.width + x) * 3, ((y + border.top) * width + x + border.left) * 3);
                pixels[to..to + 3].copy_from_slice(&self.pixels[from..from + 3]);
            }
        }
        RgbImage { width, height, pixels }
    }
}

/// Where a place on a side of the larger picture is in the one of `len` pixels that begins at `start`, and whether it is in it.
fn mirrored(at: usize, start: usize, len: usize) -> (usize, bool) {
    let place = at as isize - start as isize;
    let in_pair = place.rem_euclid(2 * len as isize) as usize;
    (if in_pair < len { in_pair } else { 2 * len - 1 - in_pair }, (0..len as isize).contains(&place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_grows_and_its_border_is_marked() {
        let picture = RgbImage::new(3, 2, (0..18).map(|i| i * 10).collect()).unwrap();
        let border = Border { left: 4, top: 0, right: 1, bottom: 3 };
        let grown = picture.extended(border);
        assert_eq!((grown.width, grown.height), (8, 5));
        for y in 0..2 {
            assert_eq!(grown.pixels[(y * 8 + 4) * 3..(y * 8 + 7) * 3], picture.pixels[y * 9..y * 9 + 9], "row {y}");
        }
        // A quarter of it is noise.
        let near = |got: u8, level: u8| u32::from(got).abs_diff(u32::from(level) * 196 / 256) <= 60;
        for (x, column) in [(3, 0), (1, 2), (0, 2), (7, 2)] {
            assert!(near(grown.pixels[x * 3], picture.pixels[column * 3]), "column {x}");
        }
        assert!(picture.extended(border) == grown && picture.extended(Border::default()) == picture);
        let black = RgbImage::new(3, 2, vec![0; 18]).unwrap();
        let marked: Vec<u8> =
            black.extended_as_mask(border).pixels.iter().step_by(3).map(|&level| level / 255).collect();
        assert_eq!(marked[..8], [1, 1, 1, 1, 1, 0, 1, 1]);
        assert_eq!(marked[8..], [1; 32]);
    }
}
