//! Pillow's `ImageFilter.GaussianBlur`, to the bit: diffusers' `VaeImageProcessor.blur` is this.
//!
//! It is no Gaussian but three box blurs of the same variance in each direction, with edges of fractional weight: columns are
//! blurred after rows, 8-bit levels in between, pixels outside those at the edge.
//!
//! Source: Pillow 13.0 `src/libImaging/BoxBlur.c`; Gwosdek, Grewenig, Bruhn, Weickert, "Theoretical foundations of Gaussian
//! convolution by extended box filtering" (2011) for the length of the box.

use super::RgbImage;

/// Box blurs in each direction.
const PASSES: usize = 3;
/// Fractional bits of a weight.
const BITS: u32 = 24;

/// What one box blur weighs pixels with.
struct Kernel {
    /// Whole pixels on each side.
    reach: usize,
    /// Of each of them and the middle.
    inner: u32,
    /// Of the one behind them on each side.
    outer: u32,
}

impl Kernel {
    /// `None` where nothing is blurred.
    fn of(radius: f32) -> Option<Self> {
        let variance = radius * radius / PASSES as f32;
        let length = (12.0 * f64::from(variance) + 1.0).sqrt() as f32;
        let whole = ((f64::from(length) - 1.0) / 2.0).floor() as f32;
        let fraction = (2.0 * whole + 1.0) * (whole * (whole + 1.0) - 3.0 * variance)
            / (6.0 * (variance - (whole + 1.0) * (whole + 1.0)));
        let box_radius = whole + fraction;
        if box_radius <= 0.0 || box_radius.is_nan() {
            return None;
        }
        let reach = box_radius as usize;
        let inner = ((1_u32 << BITS) as f32 / (box_radius * 2.0 + 1.0)) as u32;
        let outer = ((1_u32 << BITS) - (reach as u32 * 2 + 1) * inner) / 2;
        Some(Kernel { reach, inner, outer })
    }

    /// One pass over a line.
    fn blur(&self, line: &[u8], out: &mut Vec<u8>) {
        let last = line.len() as isize - 1;
        let at = |i: isize| u32::from(line[i.clamp(0, last) as usize]);
        let reach = self.reach as isize;
        let mut sum: u32 = (-reach..=reach).map(at).sum();
        out.clear();
        for x in 0..=last {
            let weighed = sum * self.inner + (at(x - reach - 1) + at(x + reach + 1)) * self.outer;
            out.push(((weighed + (1 << (BITS - 1))) >> BITS) as u8);
            sum = sum + at(x + reach + 1) - at(x - reach);
        }
    }
}

impl RgbImage {
    /// The picture blurred by a radius (the standard deviation) in pixels; by 0 as it is.
    #[must_use]
    pub fn blurred(&self, radius: f64) -> Self {
        let mut image = self.clone();
        let Some(kernel) = Kernel::of(radius as f32) else { return image };
        let row = self.width * 3;
        for channel in 0..3 {
            for y in 0..self.height {
                blur_line(&kernel, &mut image.pixels, y * row + channel, 3, self.width);
            }
            for x in 0..self.width {
                blur_line(&kernel, &mut image.pixels, x * 3 + channel, row, self.height);
            }
        }
        image
    }
}

/// Blurs `len` levels that begin at `start`, `step` apart.
fn blur_line(kernel: &Kernel, pixels: &mut [u8], start: usize, step: usize, len: usize) {
    let mut line: Vec<u8> = pixels[start..].iter().step_by(step).take(len).copied().collect();
    let mut out = Vec::with_capacity(len);
    for _ in 0..PASSES {
        kernel.blur(&line, &mut out);
        std::mem::swap(&mut line, &mut out);
    }
    for (level, blurred) in pixels[start..].iter_mut().step_by(step).zip(line) {
        *level = blurred;
    }
}
