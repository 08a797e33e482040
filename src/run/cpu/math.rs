//! Functions on single values and rows, written so that they become vector instructions, and the sharing of rows among
//! threads.

use rayon::prelude::*;

/// Elements below which sharing the work costs more than it saves.
pub(super) const PARALLEL_FROM: usize = 1 << 14;

/// Lanes of a maximum or a sum: enough for the widest vectors, and for several of them at once.
pub(super) const LANES: usize = 32;

/// exp(scale (x - max x)) in place, which is a softmax but for the division by the sum, which it gives.
pub(super) fn exp_all(row: &mut [f32], scale: f32) -> f32 {
    vectorised(|| {
        let (max, scale) = (max(row), scale * std::f32::consts::LOG2_E);
        for value in row.iter_mut() {
            *value = exp2_below((*value - max) * scale);
        }
        sum(row)
    })
}

/// The largest value, NaN aside.
#[inline(always)]
pub(super) fn max(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut chunks = row.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    lanes.into_iter().chain(chunks.remainder().iter().copied()).fold(f32::NEG_INFINITY, f32::max)
}

/// A sum in lanes, which vectorises and rounds less than one running sum.
#[inline(always)]
pub(super) fn sum(row: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let mut chunks = row.chunks_exact(LANES);
    for chunk in &mut chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, value)| *lane += value);
    }
    lanes.iter().chain(chunks.remainder()).sum()
}

/// Runs a loop with the widest vectors that this processor has, which the compiler does not know. In wasm they are those
/// that it does know.
pub(super) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// e^x to about one unit in the last place, without a branch, so that compilers turn loops over it into vector code.
/// Underflows to zero below -87.3 and saturates above 88.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // x = n ln 2 + r, |r| <= ln 2 / 2; ln 2 in two parts keeps r exact. Adding and subtracting 1.5 * 2^23 rounds.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.5, 88.0);
    let n = clamped * std::f32::consts::LOG2_E + ROUND;
    let exponent = n.to_bits() << 23;
    let n = n - ROUND;
    let r = (clamped - n * 0.693_359_4) + n * 2.121_944_4e-4;
    // The Taylor series to r^7: its remainder is below 2^-26 on this interval.
    let mut p = 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    let value = f32::from_bits(p.to_bits().wrapping_add(exponent));
    if x < -87.3 {
        0.0
    } else if x.is_nan() {
        x
    } else {
        value
    }
}

/// 2^x for x up to 0, as a softmax asks for it: to 2.5e-7, in fewer steps than [`exp`]. What is less than 2^-126 becomes
/// that; NaN stays NaN.
#[inline(always)]
pub(super) fn exp2_below(x: f32) -> f32 {
    // x = n + f, |f| <= 1/2; adding and subtracting 1.5 * 2^23 rounds.
    const ROUND: f32 = 12_582_912.0;
    let clamped = if x < -126.0 { -126.0 } else { x };
    let rounded = clamped + ROUND;
    let f = clamped - (rounded - ROUND);
    // The polynomial whose largest relative error on that interval is the least for its degree.
    let mut p = 1.327_647_1e-3;
    p = p * f + 9.675_541e-3;
    p = p * f + 5.550_713e-2;
    p = p * f + 2.402_212e-1;
    p = p * f + 6.931_469_4e-1;
    p = p * f + 1.000_000_1;
    f32::from_bits(p.to_bits().wrapping_add(rounded.to_bits() << 23))
}

#[inline(always)]
pub(super) fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

#[inline(always)]
pub(super) fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// The error function, absolute error below 2e-7 (Abramowitz and Stegun 7.1.26).
#[inline(always)]
fn erf(x: f32) -> f32 {
    let a = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * a);
    let p = ((((1.061_405_4 * t - 1.453_152_1) * t + 1.421_413_8) * t - 0.284_496_72) * t + 0.254_829_6) * t;
    (1.0 - p * exp(-a * a)).copysign(x)
}

/// Applies a function to every element, by all threads where there are many.
pub(super) fn for_each(values: &mut [f32], f: impl Fn(&mut [f32]) + Send + Sync) {
    if values.len() < PARALLEL_FROM {
        vectorised(|| f(values));
    } else {
        values.par_chunks_mut(PARALLEL_FROM).for_each(|values| vectorised(|| f(values)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_and_erf_are_close() {
        for i in -8730..=8800 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 2.5e-7, "exp({x}): relative error {error:e}");
        }
        for i in -12600..=0 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp2();
            let error = (f64::from(exp2_below(x)) - exact).abs() / exact;
            assert!(error < 2.5e-7, "exp2_below({x}): relative error {error:e}");
        }
        assert!(exp2_below(-1e30) < 1e-37 && exp2_below(f32::NEG_INFINITY) < 1e-37);
        assert!(exp2_below(f32::NAN).is_nan());
        assert_eq!(exp(-1e30), 0.0);
        assert!(exp(f32::NAN).is_nan());
        // Values of erf from a table.
        for (x, exact) in [(0.0, 0.0), (0.5, 0.520_499_9), (1.0, 0.842_700_8), (2.0, 0.995_322_3), (-1.0, -0.842_700_8)]
        {
            assert!((erf(x) - exact).abs() < 3e-7, "erf({x})");
        }
    }
}
