//! Pillow's Lanczos resampling of 8-bit channels, to the bit.
//!
//! Two passes with 8-bit levels in between and coefficients in fixed point with 22 fractional bits. Rows come first,
//! except where the height loses more than twice what the width loses. All of that shows in the result: since each pass
//! clips, the other order is off by up to 40 levels where the filter rings.
//!
//! Source: Pillow 13.0 `src/libImaging/Resample.c` (`precompute_coeffs`, `normalize_coeffs_8bpc`, both passes, and
//! `horizontal_first`). Pillow 12 always took the rows first.

use std::f64::consts::PI;

/// Lobes of the sinc on each side.
const LOBES: f64 = 3.0;
/// Fractional bits of a coefficient: 8 bits of level and two of headroom fill the rest of an i32.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// The input pixels that one output pixel is made of.
struct Window {
    first: usize,
    coefficients: Vec<i32>,
}

/// Resizes H W C levels from `from` to `to`, both (width, height).
///
/// # Panics
/// If a side is zero or `pixels` has another length.
pub(super) fn lanczos<const C: usize>(pixels: &[u8], from: (usize, usize), to: (usize, usize)) -> Vec<u8> {
    assert!(from.0 > 0 && from.1 > 0 && to.0 > 0 && to.1 > 0, "resize {from:?} to {to:?}");
    assert_eq!(pixels.len(), from.0 * from.1 * C, "levels of a {from:?} picture");
    // A pass that keeps the length is left out, as in Pillow, and so are its roundings.
    match (to.0 != from.0, to.1 != from.1) {
        (false, false) => pixels.to_vec(),
        (true, false) => resize_rows::<C>(pixels, from.0, to.0),
        (false, true) => resize_columns(pixels, from.0 * C, from.1, to.1),
        (true, true) if columns_first(from, to) => {
            resize_rows::<C>(&resize_columns(pixels, from.0 * C, from.1, to.1), from.0, to.0)
        }
        (true, true) => resize_columns(&resize_rows::<C>(pixels, from.0, to.0), to.0 * C, from.1, to.1),
    }
}

/// Whether the height loses more pixels than twice those that the width loses, or gains.
fn columns_first(from: (usize, usize), to: (usize, usize)) -> bool {
    let lost = |from: usize, to: usize| from as i64 - to as i64;
    let (lost_rows, lost_columns) = (lost(from.1, to.1), lost(from.0, to.0));
    lost_rows > 0 && lost_rows > 2 * lost_columns
}

fn resize_rows<const C: usize>(pixels: &[u8], from: usize, to: usize) -> Vec<u8> {
    let windows = windows(from, to);
    let mut out = Vec::with_capacity(pixels.len() / from * to);
    for row in pixels.chunks_exact(from * C) {
        for window in &windows {
            let mut sums = [1_i32 << (PRECISION_BITS - 1); C];
            for (pixel, &k) in row[window.first * C..].chunks_exact(C).zip(&window.coefficients) {
                for (sum, &level) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(level) * k;
                }
            }
            out.extend(sums.map(level_of));
        }
    }
    out
}

fn resize_columns(pixels: &[u8], row_len: usize, from: usize, to: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(row_len * to);
    let mut sums = vec![0_i32; row_len];
    for window in windows(from, to) {
        sums.fill(1 << (PRECISION_BITS - 1));
        for (row, &k) in pixels.chunks_exact(row_len).skip(window.first).zip(&window.coefficients) {
            for (sum, &level) in sums.iter_mut().zip(row) {
                *sum += i32::from(level) * k;
            }
        }
        out.extend(sums.iter().copied().map(level_of));
    }
    out
}

fn level_of(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// The window of every output pixel, for one axis.
fn windows(from: usize, to: usize) -> Vec<Window> {
    let scale = from as f64 / to as f64;
    // When shrinking, the filter widens with the pixels it has to cover.
    let stretch = scale.max(1.0);
    let support = LOBES * stretch;
    (0..to)
        .map(|i| {
            let center = (i as f64 + 0.5) * scale;
            // Truncation after adding a half rounds the bounds; a negative left bound becomes 0 either way.
            let first = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            let weights: Vec<f64> =
                (first..end).map(|x| lanczos_weight((x as f64 - center + 0.5) * (1.0 / stretch))).collect();
            let total: f64 = weights.iter().sum();
            let fixed = |weight: f64| {
                let scaled = weight / total * f64::from(1 << PRECISION_BITS);
                (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
            };
            Window { first, coefficients: weights.into_iter().map(fixed).collect() }
        })
        .collect()
}

fn lanczos_weight(x: f64) -> f64 {
    let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) };
    if (-LOBES..LOBES).contains(&x) { sinc(x) * sinc(x / LOBES) } else { 0.0 }
}
