//! Bringing a start picture of another shape to the size that is drawn: diffusers' `resize_mode`s of
//! `VaeImageProcessor`, to the bit.

use serde::{Deserialize, Serialize};

use super::RgbImage;
use crate::error::{Error, Result};

/// How a picture is brought to another width and height.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub enum Fit {
    /// Both sides are resized, whatever becomes of the proportions (diffusers' `default`).
    #[default]
    Stretch,
    /// Proportions are kept, and what is too much is cut off around the middle (diffusers' `crop`).
    Crop,
    /// Proportions are kept, and the rest is filled with the pixels at the edge (diffusers' `fill`).
    Pad,
}

impl Fit {
    /// Every way, the default first.
    pub const ALL: [Fit; 3] = [Fit::Stretch, Fit::Crop, Fit::Pad];

    /// The name in requests and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Fit::Stretch => "stretch",
            Fit::Crop => "crop",
            Fit::Pad => "pad",
        }
    }
}

impl std::str::FromStr for Fit {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Fit::ALL.into_iter().find(|fit| fit.name() == name).ok_or_else(|| Error::Request {
            field: "fit",
            got: format!("{name:?}"),
            expected: "use stretch, crop or pad".into(),
        })
    }
}

impl RgbImage {
    /// The picture at another size, resampled with Lanczos.
    ///
    /// # Panics
    /// If a side is zero: sizes are checked where a request is made.
    #[must_use]
    pub fn fitted(&self, width: usize, height: usize, fit: Fit) -> Self {
        // diffusers compares the ratios as floats and rounds the kept side down.
        let (ratio, own_ratio) = (width as f64 / height as f64, self.width as f64 / self.height as f64);
        let across = (self.width * height / self.height).max(1);
        let down = (self.height * width / self.width).max(1);
        let (w, h) = match fit {
            Fit::Stretch => return self.resize_lanczos(width, height),
            Fit::Crop if ratio > own_ratio => (width, down),
            Fit::Crop => (across, height),
            Fit::Pad if ratio < own_ratio => (width, down),
            Fit::Pad => (across, height),
        };
        let resized = self.resize_lanczos(w, h);
        // Where the middle of the resized picture is placed; negative where it is cut.
        let left = (width / 2) as isize - (w / 2) as isize;
        let top = (height / 2) as isize - (h / 2) as isize;
        // Outside of the picture diffusers resamples an empty strip at its edge, which Pillow's bicubic filter makes
        // 9/8 of the edge less 1/8 of its neighbour.
        let sides = |at: usize, offset: isize, len: usize| match at as isize - offset {
            inside if (0..len as isize).contains(&inside) => (inside as usize, inside as usize),
            before if before < 0 => (0, 1.min(len - 1)),
            _ => (len - 1, len.saturating_sub(2)),
        };
        let mut pixels = Vec::with_capacity(width * height * 3);
        for y in 0..height {
            let (row, next_row) = sides(y, top, h);
            for x in 0..width {
                let (column, next_column) = sides(x, left, w);
                let (edge, next) = ((row * w + column) * 3, (next_row * w + next_column) * 3);
                for (&edge, &next) in resized.pixels[edge..edge + 3].iter().zip(&resized.pixels[next..next + 3]) {
                    pixels.push(((9 * i32::from(edge) - i32::from(next) + 4) >> 3).clamp(0, 255) as u8);
                }
            }
        }
        RgbImage { width, height, pixels }
    }
}
