//! Operations on each value by itself, sums of tensors, and embedded time steps.

use rayon::prelude::*;

use super::math::{PARALLEL_FROM, exp, for_each, gelu, silu, vectorised};
use super::time_slices::{EACH, Stopped, TimeSlices};
use crate::graph::Activation;

/// A slice of `values`, all of which are written: a copy of `x` to work on.
fn copy_of(values: &mut [f32], x: &[f32]) {
    values
        .par_chunks_mut(PARALLEL_FROM)
        .zip(x.par_chunks(PARALLEL_FROM))
        .for_each(|(to, from)| to.copy_from_slice(from));
}

/// Elementwise.
///
/// # Errors
/// [`Stopped`].
pub fn activate(x: &[f32], activation: Activation, time: &mut TimeSlices) -> Result<Vec<f32>, Stopped> {
    let mut out = vec![0.0; x.len()];
    time.slices(x.len().div_ceil(PARALLEL_FROM), &[EACH, PARALLEL_FROM], |parts| {
        let part = parts.start * PARALLEL_FROM..x.len().min(parts.end * PARALLEL_FROM);
        copy_of(&mut out[part.clone()], &x[part.clone()]);
        activate_in_place(&mut out[part], activation);
    })?;
    Ok(out)
}

fn activate_in_place(values: &mut [f32], activation: Activation) {
    match activation {
        Activation::Silu => for_each(values, |values| values.iter_mut().for_each(|x| *x = silu(*x))),
        Activation::Gelu => for_each(values, |values| values.iter_mut().for_each(|x| *x = gelu(*x))),
        Activation::QuickGelu => {
            for_each(values, |values| values.iter_mut().for_each(|x| *x /= 1.0 + exp(-1.702 * *x)));
        }
        // Written so that a NaN stays one.
        Activation::Relu => for_each(values, |values| {
            values.iter_mut().for_each(|x| *x = if *x < 0.0 { 0.0 } else { *x });
        }),
        Activation::Tanh => for_each(values, |values| values.iter_mut().for_each(|x| *x = x.tanh())),
    }
}

/// x \[M,2D\] → \[M,D\]: first half times gelu of the second.
///
/// # Errors
/// [`Stopped`].
pub fn geglu(x: &[f32], width: usize, time: &mut TimeSlices) -> Result<Vec<f32>, Stopped> {
    let mut out = vec![0.0; x.len() / 2];
    time.slices(out.len() / width.max(1), &[EACH, width], |rows| {
        let x = &x[2 * rows.start * width..2 * rows.end * width];
        let out = &mut out[rows.start * width..rows.end * width];
        out.par_chunks_mut(width).zip(x.par_chunks(2 * width)).with_min_len(16).for_each(|(out, row)| {
            let (value, gate) = row.split_at(width);
            vectorised(|| {
                for ((out, value), gate) in out.iter_mut().zip(value).zip(gate) {
                    *out = value * gelu(*gate);
                }
            });
        });
    })?;
    Ok(out)
}

/// a + b, where b repeats as `add` allows: each dimension of b is a's or 1.
///
/// # Errors
/// [`Stopped`].
pub fn add(
    a: &[f32],
    b: &[f32],
    a_shape: &[usize],
    b_shape: &[usize],
    time: &mut TimeSlices,
) -> Result<Vec<f32>, Stopped> {
    let mut out = vec![0.0; a.len()];
    // The trailing dimensions that agree are added a run at a time; the others are counted through.
    let agree = a_shape.iter().zip(b_shape).rev().take_while(|(n, m)| n == m).count();
    let split = a_shape.len() - agree;
    let run: usize = a_shape[split..].iter().product();
    let run_of_b = |idx: usize| {
        let (mut rest, mut at, mut stride) = (idx, 0, run);
        for (&n, &m) in a_shape[..split].iter().zip(&b_shape[..split]).rev() {
            at += if m == 1 { 0 } else { rest % n * stride };
            rest /= n;
            stride *= m;
        }
        at
    };
    time.slices(a.len().div_ceil(PARALLEL_FROM), &[EACH, PARALLEL_FROM], |parts| {
        let first = parts.start * PARALLEL_FROM;
        let out = &mut out[first..a.len().min(parts.end * PARALLEL_FROM)];
        out.par_chunks_mut(PARALLEL_FROM).enumerate().for_each(|(part, mut out)| {
            let mut at = first + part * PARALLEL_FROM;
            while !out.is_empty() {
                let within = at % run;
                let (now, later) = out.split_at_mut(out.len().min(run - within));
                let (a, b) = (&a[at..], &b[run_of_b(at / run) + within..]);
                now.iter_mut().zip(a.iter().zip(b)).for_each(|(out, (a, b))| *out = a + b);
                at += now.len();
                out = later;
            }
        });
    })?;
    Ok(out)
}

/// x times a scalar.
///
/// # Errors
/// [`Stopped`].
pub fn scale(x: &[f32], factor: f32, time: &mut TimeSlices) -> Result<Vec<f32>, Stopped> {
    let mut out = vec![0.0; x.len()];
    time.slices(x.len().div_ceil(PARALLEL_FROM), &[EACH, PARALLEL_FROM], |parts| {
        let part = parts.start * PARALLEL_FROM..x.len().min(parts.end * PARALLEL_FROM);
        let of_parts = out[part.clone()].par_chunks_mut(PARALLEL_FROM).zip(x[part].par_chunks(PARALLEL_FROM));
        of_parts.for_each(|(out, x)| out.iter_mut().zip(x).for_each(|(out, x)| *out = x * factor));
    })?;
    Ok(out)
}

/// x \[..,C\] → the same, each channel times its factor, plus its offset.
///
/// # Errors
/// [`Stopped`].
pub fn affine(x: &[f32], factors: &[f32], offsets: &[f32], time: &mut TimeSlices) -> Result<Vec<f32>, Stopped> {
    let channels = factors.len().max(1);
    let mut out = vec![0.0; x.len()];
    time.slices(x.len() / channels, &[EACH, channels], |rows| {
        let part = rows.start * channels..rows.end * channels;
        let of_rows = out[part.clone()].par_chunks_mut(channels).zip(x[part].par_chunks(channels));
        of_rows.with_min_len(64).for_each(|(out, x)| {
            let values = out.iter_mut().zip(x).zip(factors.iter().zip(offsets));
            values.for_each(|((out, x), (factor, offset))| *out = x * factor + offset);
        });
    })?;
    Ok(out)
}

/// Rows of x \[N,D\], by their indices, which are below N.
pub fn gather(ids: &[u32], x: &[f32], width: usize) -> Vec<f32> {
    ids.iter().flat_map(|&id| x[id as usize * width..][..width].iter().copied()).collect()
}

/// mask a + (1 - mask) b for a and b \[B,H,W,C\] of one shape; each dimension of the mask is theirs or 1.
pub fn blend(mask: &[f32], a: &[f32], b: &[f32], shape: [usize; 4], mask_shape: [usize; 4]) -> Vec<f32> {
    let of_mask = |idx: usize| {
        let (mut rest, mut at, mut stride) = (idx, 0, 1);
        for (&n, &m) in shape.iter().zip(&mask_shape).rev() {
            at += if m == 1 { 0 } else { rest % n * stride };
            rest /= n;
            stride *= m;
        }
        mask[at]
    };
    a.iter().zip(b).enumerate().map(|(idx, (a, b))| b + (a - b) * of_mask(idx)).collect()
}

/// The sum of slices of one length, each times a scalar, clamped if asked for; sums are rounded once.
pub fn lincomb(terms: &[(f64, &[f32])], clamp: Option<(f64, f64)>) -> Vec<f32> {
    let len = terms.first().map_or(0, |(_, values)| values.len());
    (0..len)
        .map(|i| {
            let sum: f64 = terms.iter().map(|(factor, values)| factor * f64::from(values[i])).sum();
            clamp.map_or(sum, |(low, high)| sum.clamp(low, high)) as f32
        })
        .collect()
}

/// t \[B\] → \[B,dim\]. Frequencies are rounded to f32 before they meet t, as diffusers does.
pub fn timestep_embedding(t: &[f32], dim: usize, flip_sin_to_cos: bool, freq_shift: f64) -> Vec<f32> {
    let half = dim / 2;
    let mut out = Vec::with_capacity(t.len() * dim);
    for &t in t {
        let angle = |i: usize| {
            let exponent = (-(10_000f64.ln()) as f32 * i as f32) / (half as f64 - freq_shift) as f32;
            f64::from(t * f64::from(exponent).exp() as f32)
        };
        let sines = (0..half).map(|i| angle(i).sin() as f32);
        let cosines = (0..half).map(|i| angle(i).cos() as f32);
        if flip_sin_to_cos { out.extend(cosines.chain(sines)) } else { out.extend(sines.chain(cosines)) }
    }
    out
}
