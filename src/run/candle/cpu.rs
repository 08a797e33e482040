//! The operations on f32 slices, channels-last, for the CPU natively and in wasm.
//!
//! Everything heavy is a matrix product (`product.rs`): convolutions gather their input rows a block at a
//! time, attention goes by blocks of queries whose scores stay in cache. Work is shared between rayon's threads; in wasm
//! there is one.

use rayon::prelude::*;

use super::product::{Strided, matmul};
use crate::graph::Activation;

/// Rows of the gathered input of a convolution that are multiplied at once: enough to amortise packing the weights, few
/// enough for the gathered block to stay in the second-level cache.
const CONV_BLOCK_ROWS: usize = 256;
/// Queries whose scores are computed at once.
const ATTENTION_BLOCK: usize = 64;
/// Elements below which sharing the work costs more than it saves.
const PARALLEL_FROM: usize = 1 << 14;

/// Rows of `width` filled with the bias, or zeros.
fn bias_rows(n_rows: usize, width: usize, bias: Option<&[f32]>) -> Vec<f32> {
    match bias {
        Some(bias) => bias.iter().copied().cycle().take(n_rows * width).collect(),
        None => vec![0.0; n_rows * width],
    }
}

/// x \[M,K\], weight \[N,K\], bias \[N\] → \[M,N\].
pub fn linear(x: &[f32], weight: &[f32], bias: Option<&[f32]>, k: usize, n: usize) -> Vec<f32> {
    let m = x.len() / k.max(1);
    let mut out = bias_rows(m, n, bias);
    let lhs = Strided { values: x, row: k, col: 1 };
    let rhs = Strided { values: weight, row: 1, col: k };
    matmul([m, n, k], &mut out, true, lhs, rhs, true);
    out
}

/// The sizes of a convolution.
#[derive(Clone, Copy, Debug)]
pub struct ConvSizes {
    /// \[B,H,W,C\] of the input.
    pub input: [usize; 4],
    /// \[B,H',W',O\] of the output.
    pub output: [usize; 4],
    /// Side of the kernel.
    pub kernel: usize,
    /// Step.
    pub stride: usize,
    /// Zeros on the top and on the left; the output's size says how many there are on the other sides.
    pub pad: [usize; 2],
    /// \[H,W\] that the picture is first taken to by repeating each pixel 2x2, where a side is odd without the last one.
    pub upsample: Option<[usize; 2]>,
}

/// x \[B,H,W,C\], weight \[K*K*C,O\] (rows by kernel row, kernel column, channel), bias \[O\] → \[B,H',W',O\].
pub fn conv2d(x: &[f32], weight: &[f32], bias: &[f32], sizes: ConvSizes) -> Vec<f32> {
    let [_, _, _, channels] = sizes.input;
    let [batch, out_h, out_w, out_channels] = sizes.output;
    let n_rows = batch * out_h * out_w;
    let depth = sizes.kernel * sizes.kernel * channels;
    let rhs = Strided { values: weight, row: out_channels, col: 1 };
    if sizes.kernel == 1 && sizes.stride == 1 && sizes.upsample.is_none() && sizes.pad == [0, 0] {
        let mut out = bias_rows(n_rows, out_channels, Some(bias));
        let lhs = Strided { values: x, row: channels, col: 1 };
        matmul([n_rows, out_channels, depth], &mut out, true, lhs, rhs, true);
        return out;
    }
    let mut out = bias_rows(n_rows, out_channels, Some(bias));
    // Where there are few rows, the product is split along its columns, over the block; else each thread takes blocks.
    let n_blocks = n_rows.div_ceil(CONV_BLOCK_ROWS);
    if n_blocks >= 2 * rayon::current_num_threads() {
        out.par_chunks_mut(CONV_BLOCK_ROWS * out_channels).enumerate().for_each_init(Vec::new, |rows, (block, out)| {
            let m = out.len() / out_channels;
            gather_rows(x, sizes, block * CONV_BLOCK_ROWS, m, rows);
            let lhs = Strided { values: rows, row: depth, col: 1 };
            matmul([m, out_channels, depth], out, true, lhs, rhs, false);
        });
    } else {
        let mut rows = Vec::new();
        gather_rows(x, sizes, 0, n_rows, &mut rows);
        let lhs = Strided { values: &rows, row: depth, col: 1 };
        matmul([n_rows, out_channels, depth], &mut out, true, lhs, rhs, true);
    }
    out
}

/// For each of `n` output pixels from `first`, everything that its kernel covers: \[n,K*K*C\].
fn gather_rows(x: &[f32], sizes: ConvSizes, first: usize, n: usize, rows: &mut Vec<f32>) {
    let [_, height, width, channels] = sizes.input;
    let [_, out_h, out_w, _] = sizes.output;
    let ConvSizes { kernel, stride, pad, upsample, .. } = sizes;
    let shift = usize::from(upsample.is_some());
    let [full_h, full_w] = upsample.unwrap_or([height, width]);
    rows.clear();
    rows.reserve(n * kernel * kernel * channels);
    for pixel in first..first + n {
        let (b, y, x_out) = (pixel / (out_h * out_w), pixel / out_w % out_h, pixel % out_w);
        for ky in 0..kernel {
            let row = (y * stride + ky).checked_sub(pad[0]).filter(|&row| row < full_h);
            for kx in 0..kernel {
                let col = (x_out * stride + kx).checked_sub(pad[1]).filter(|&col| col < full_w);
                match (row, col) {
                    (Some(row), Some(col)) => {
                        let at = ((b * height + (row >> shift)) * width + (col >> shift)) * channels;
                        rows.extend_from_slice(&x[at..at + channels]);
                    }
                    _ => rows.resize(rows.len() + channels, 0.0),
                }
            }
        }
    }
}

/// How attention's scores are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scores {
    /// By blocks of queries: never more than a few rows of scores a thread.
    Flash,
    /// All the scores of this many heads at a time.
    Heads(usize),
    /// All at once.
    Whole,
}

/// The sizes of an attention.
#[derive(Clone, Copy, Debug)]
pub struct AttentionSizes {
    /// Batch B.
    pub batch: usize,
    /// Queries T.
    pub n_queries: usize,
    /// Keys S.
    pub n_keys: usize,
    /// Width D of all heads together.
    pub width: usize,
    /// Heads.
    pub heads: usize,
    /// Scores are multiplied by it.
    pub scale: f32,
    /// Hide later keys.
    pub causal: bool,
}

/// q \[B,T,D\], k and v \[B,S,D\] → \[B,T,D\].
pub fn attention(q: &[f32], k: &[f32], v: &[f32], sizes: AttentionSizes, scores: Scores) -> Vec<f32> {
    let AttentionSizes { batch, n_queries, n_keys, width, heads, .. } = sizes;
    let mut out = vec![0.0; batch * n_queries * width];
    let (queries_at_once, heads_at_once) = match scores {
        Scores::Flash => (ATTENTION_BLOCK, heads),
        Scores::Heads(n) => (n_queries.max(1), n.clamp(1, heads)),
        Scores::Whole => (n_queries.max(1), heads),
    };
    let n_blocks = n_queries.div_ceil(queries_at_once);
    let head_width = width / heads;
    for first_head in (0..heads).step_by(heads_at_once) {
        let n_heads = heads_at_once.min(heads - first_head);
        let done: Vec<(usize, usize, usize, Vec<f32>)> = (0..batch * n_heads * n_blocks)
            .into_par_iter()
            .map_init(Vec::new, |scores, task| {
                let block = task % n_blocks;
                let head = first_head + task / n_blocks % n_heads;
                let b = task / (n_blocks * n_heads);
                let first = block * queries_at_once;
                let n = queries_at_once.min(n_queries - first);
                let at = (b * n_queries + first) * width + head * head_width;
                let q = Strided { values: &q[at..], row: width, col: 1 };
                let kv = b * n_keys * width + head * head_width;
                let kt = Strided { values: &k[kv..], row: 1, col: width };
                scores.clear();
                scores.resize(n * n_keys, 0.0);
                matmul([n, n_keys, head_width], scores, false, q, kt, false);
                let mut sums = vec![0.0; n];
                for (row, (scores, sum)) in scores.chunks_exact_mut(n_keys).zip(&mut sums).enumerate() {
                    let visible = if sizes.causal { (first + row + 1).min(n_keys) } else { n_keys };
                    scores[visible..].fill(0.0);
                    *sum = exp_all(&mut scores[..visible], sizes.scale);
                }
                let p = Strided { values: scores, row: n_keys, col: 1 };
                let v = Strided { values: &v[kv..], row: width, col: 1 };
                let mut out = vec![0.0; n * head_width];
                matmul([n, head_width, n_keys], &mut out, false, p, v, false);
                // The division of the softmax, where there are fewest values.
                for (row, sum) in out.chunks_exact_mut(head_width).zip(&sums) {
                    let inverse = sum.recip();
                    row.iter_mut().for_each(|value| *value *= inverse);
                }
                (b, head, first, out)
            })
            .collect();
        for (b, head, first, rows) in done {
            for (row, values) in rows.chunks_exact(head_width).enumerate() {
                let at = (b * n_queries + first + row) * width + head * head_width;
                out[at..at + head_width].copy_from_slice(values);
            }
        }
    }
    out
}

/// Lanes of a maximum or a sum: enough for the widest vectors, and for several of them at once.
const LANES: usize = 32;

/// exp(scale (x - max x)) in place, which is a softmax but for the division by the sum, which it gives.
fn exp_all(row: &mut [f32], scale: f32) -> f32 {
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
fn max(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut chunks = row.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    lanes.into_iter().chain(chunks.remainder().iter().copied()).fold(f32::NEG_INFINITY, f32::max)
}

/// Runs a loop with the widest vectors that this processor has, which the compiler does not know. In wasm they are those
/// that it does know.
fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// e^x to about one unit in the last place, without a branch, so that compilers turn loops over it into vector code.
/// Underflows to zero below -87.3 and saturates above 88.
#[inline(always)]
fn exp(x: f32) -> f32 {
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
fn exp2_below(x: f32) -> f32 {
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
fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

#[inline(always)]
fn gelu(x: f32) -> f32 {
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
fn for_each(values: &mut [f32], f: impl Fn(&mut [f32]) + Send + Sync) {
    if values.len() < PARALLEL_FROM {
        vectorised(|| f(values));
    } else {
        values.par_chunks_mut(PARALLEL_FROM).for_each(|values| vectorised(|| f(values)));
    }
}

/// Elementwise, in place.
pub fn activate(values: &mut [f32], activation: Activation) {
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
pub fn geglu(x: &[f32], width: usize) -> Vec<f32> {
    let mut out = vec![0.0; x.len() / 2];
    out.par_chunks_mut(width).zip(x.par_chunks(2 * width)).with_min_len(16).for_each(|(out, row)| {
        let (value, gate) = row.split_at(width);
        vectorised(|| {
            for ((out, value), gate) in out.iter_mut().zip(value).zip(gate) {
                *out = value * gelu(*gate);
            }
        });
    });
    out
}

/// The sums of x and x² of each channel over the rows of one batch item, in f64 by blocks of f32.
fn channel_sums(x: &[f32], channels: usize) -> (Vec<f64>, Vec<f64>) {
    x.par_chunks(channels * 256)
        .fold(
            || (vec![0.0f64; channels], vec![0.0f64; channels]),
            |(mut sums, mut squares), rows| {
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
            },
        )
        .reduce(
            || (vec![0.0f64; channels], vec![0.0f64; channels]),
            |(mut sums, mut squares), (s, q)| {
                sums.iter_mut().zip(s).for_each(|(sum, s)| *sum += s);
                squares.iter_mut().zip(q).for_each(|(sum, q)| *sum += q);
                (sums, squares)
            },
        )
}

/// x \[B,..,C\] → the same, statistics by batch item and group, with silu behind it if asked for.
pub fn group_norm(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    batch: usize,
    groups: usize,
    eps: f64,
    with_silu: bool,
) -> Vec<f32> {
    let channels = weight.len();
    let item = x.len() / batch.max(1);
    let per_group = channels / groups;
    let count = (item / groups) as f64;
    let mut out = vec![0.0; x.len()];
    for (x, out) in x.chunks_exact(item).zip(out.chunks_exact_mut(item)) {
        let (sums, squares) = channel_sums(x, channels);
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
    }
    out
}

/// x \[M,D\] → the same, statistics by row.
pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f64) -> Vec<f32> {
    let width = weight.len();
    let mut out = vec![0.0; x.len()];
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
    out
}

/// A sum in lanes, which vectorises and rounds less than one running sum.
#[inline(always)]
fn sum(row: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let mut chunks = row.chunks_exact(LANES);
    for chunk in &mut chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, value)| *lane += value);
    }
    lanes.iter().chain(chunks.remainder()).sum()
}

/// a += b, where b repeats as `add` allows: each dimension of b is a's or 1.
pub fn add_assign(a: &mut [f32], b: &[f32], a_shape: &[usize], b_shape: &[usize]) {
    if a_shape == b_shape {
        a.par_chunks_mut(PARALLEL_FROM).zip(b.par_chunks(PARALLEL_FROM)).for_each(|(a, b)| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        });
        return;
    }
    // The trailing dimensions that agree are added a run at a time; the others are counted through.
    let agree = a_shape.iter().zip(b_shape).rev().take_while(|(n, m)| n == m).count();
    let split = a_shape.len() - agree;
    let run: usize = a_shape[split..].iter().product();
    for (idx, a) in a.chunks_exact_mut(run.max(1)).enumerate() {
        let (mut rest, mut at, mut stride) = (idx, 0, run);
        for (&n, &m) in a_shape[..split].iter().zip(&b_shape[..split]).rev() {
            at += if m == 1 { 0 } else { rest % n * stride };
            rest /= n;
            stride *= m;
        }
        a.iter_mut().zip(&b[at..at + run]).for_each(|(a, b)| *a += b);
    }
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
