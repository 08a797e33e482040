//! Group and layer normalisation.

use rayon::prelude::*;

use super::math::{silu, sum, vectorised};
use super::time_slices::{EACH, Stopped, TimeSlices};

/// Rows whose sums are one thread's at a time.
const SUMMED_ROWS: usize = 256;

/// The sums of x and x² of each channel over the rows of one batch item, in f64 by blocks of f32. Added up in one order,
/// however many threads and slices there are.
fn channel_sums(x: &[f32], channels: usize, time: &mut TimeSlices) -> Result<(Vec<f64>, Vec<f64>), Stopped> {
    let (mut sums, mut squares) = (vec![0.0f64; channels], vec![0.0f64; channels]);
    let part = channels * SUMMED_ROWS;
    time.slices(x.len().div_ceil(part), &[EACH, part], |parts| {
        let x = &x[parts.start * part..x.len().min(parts.end * part)];
        let of_rows: Vec<_> = x.par_chunks(part).map(|rows| sums_of_rows(rows, channels)).collect();
        for (s, q) in of_rows {
            sums.iter_mut().zip(s).for_each(|(sum, s)| *sum += s);
            squares.iter_mut().zip(q).for_each(|(sum, q)| *sum += q);
        }
    })?;
    Ok((sums, squares))
}

/// [`channel_sums`] of a few rows.
fn sums_of_rows(rows: &[f32], channels: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut sums, mut squares) = (vec![0.0f64; channels], vec![0.0f64; channels]);
    let (mut s, mut q) = (vec![0.0f32; channels], vec![0.0f32; channels]);
    for block in rows.chunks(channels * 8) {
        s.fill(0.0);
        q.fill(0.0);
        for row in block.chunks_exact(channels) {
            for ((value, s), q) in row.iter().zip(&mut s).zip(&mut q) {
                *s += value;
                *q += value * value;
            }
        }
        sums.iter_mut().zip(&s).for_each(|(sum, s)| *sum += f64::from(*s));
        squares.iter_mut().zip(&q).for_each(|(sum, q)| *sum += f64::from(*q));
    }
    (sums, squares)
}

/// x \[B,..,C\] → the same, statistics by batch item and group, with silu behind it if asked for.
///
/// # Errors
/// [`Stopped`].
#[allow(clippy::too_many_arguments, reason = "what the operation has, and its slices")]
pub fn group_norm(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    batch: usize,
    groups: usize,
    eps: f64,
    with_silu: bool,
    time: &mut TimeSlices,
) -> Result<Vec<f32>, Stopped> {
    if x.is_empty() {
        return Ok(Vec::new());
    }
    let channels = weight.len();
    let item = x.len() / batch.max(1);
    let per_group = channels / groups;
    let count = (item / groups) as f64;
    let mut out = vec![0.0; x.len()];
    for (x, out) in x.chunks_exact(item).zip(out.chunks_exact_mut(item)) {
        let (sums, squares) = channel_sums(x, channels, time)?;
        let (mut scale, mut shift) = (vec![0.0f32; channels], vec![0.0f32; channels]);
        for group in 0..groups {
            let range = group * per_group..(group + 1) * per_group;
            let mean = sums[range.clone()].iter().sum::<f64>() / count;
            let variance = (squares[range.clone()].iter().sum::<f64>() / count - mean * mean).max(0.0);
            let inverse = (variance + eps).sqrt().recip();
            for c in range {
                let a = f64::from(weight[c]) * inverse;
                scale[c] = a as f32;
                shift[c] = (f64::from(bias[c]) - mean * a) as f32;
            }
        }
        time.slices(x.len() / channels, &[EACH, channels], |rows| {
            let x = &x[rows.start * channels..rows.end * channels];
            let out = &mut out[rows.start * channels..rows.end * channels];
            out.par_chunks_mut(channels).zip(x.par_chunks(channels)).with_min_len(32).for_each(|(out, row)| {
                let values = out.iter_mut().zip(row).zip(scale.iter().zip(&shift));
                vectorised(|| {
                    if with_silu {
                        values.for_each(|((out, value), (scale, shift))| *out = silu(value * scale + shift));
                    } else {
                        values.for_each(|((out, value), (scale, shift))| *out = value * scale + shift);
                    }
                });
            });
        })?;
    }
    Ok(out)
}

/// x \[M,D\] → the same, statistics by row.
///
/// # Errors
/// [`Stopped`].
pub fn layer_norm(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    eps: f64,
    time: &mut TimeSlices,
) -> Result<Vec<f32>, Stopped> {
    let width = weight.len();
    let mut out = vec![0.0; x.len()];
    time.slices(x.len() / width.max(1), &[EACH, width], |rows| {
        let x = &x[rows.start * width..rows.end * width];
        let out = &mut out[rows.start * width..rows.end * width];
        normalise_rows(x, weight, bias, eps, out);
    })?;
    Ok(out)
}

fn normalise_rows(x: &[f32], weight: &[f32], bias: &[f32], eps: f64, out: &mut [f32]) {
    let width = weight.len();
    out.par_chunks_mut(width).zip(x.par_chunks(width)).with_min_len(16).for_each(|(out, row)| {
        vectorised(|| {
            let mean = sum(row) / width as f32;
            for (out, value) in out.iter_mut().zip(row) {
                *out = (value - mean) * (value - mean);
            }
            let variance = sum(out) / width as f32;
            let inverse = (variance + eps as f32).sqrt().recip();
            for (((out, value), weight), bias) in out.iter_mut().zip(row).zip(weight).zip(bias) {
                *out = (value - mean) * inverse * weight + bias;
            }
        });
    });
}
