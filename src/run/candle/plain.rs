//! The operations in candle's own terms, for any device and type: what runs on CUDA, and a second opinion on the CPU.
//!
//! Norms and softmax are computed in f32 whatever the type. Convolutions go through candle's channels-first one.

use candle_core::{D, DType, Result, Tensor};
use candle_nn::ops::{sigmoid, softmax_last_dim};

use crate::graph::Activation;
use crate::run::cpu::{AttentionSizes, ConvSizes, Scores};

/// The operations as a table: a program that makes no runner with it, as the page's, does not carry candle's kernels along.
#[derive(Debug)]
pub(super) struct Operations {
    pub conv2d: fn(&Tensor, &Tensor, &Tensor, ConvSizes) -> Result<Tensor>,
    pub linear: fn(&Tensor, &Tensor, Option<&Tensor>) -> Result<Tensor>,
    pub group_norm: fn(&Tensor, &Tensor, &Tensor, usize, f64) -> Result<Tensor>,
    pub layer_norm: fn(&Tensor, &Tensor, &Tensor, f64) -> Result<Tensor>,
    pub activate: fn(&Tensor, Activation) -> Result<Tensor>,
    pub geglu: fn(&Tensor) -> Result<Tensor>,
    pub add: fn(&Tensor, &Tensor) -> Result<Tensor>,
    pub scale: fn(&Tensor, f64) -> Result<Tensor>,
    pub affine: fn(&Tensor, &[f64], &[f64]) -> Result<Tensor>,
    pub gather: fn(&Tensor, &Tensor) -> Result<Tensor>,
    pub blend: fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>,
    pub as_type: fn(&Tensor, DType) -> Result<Tensor>,
    pub attention: fn(&Tensor, &Tensor, &Tensor, AttentionSizes, Scores) -> Result<Tensor>,
}

/// candle's.
pub(super) static OPERATIONS: Operations = Operations {
    conv2d,
    linear,
    group_norm,
    layer_norm,
    activate,
    geglu,
    add: Tensor::broadcast_add,
    scale: |x, factor| x * factor,
    affine,
    gather: |ids, x| x.index_select(&ids.flatten_all()?, 0),
    blend: |mask, a, b| b.broadcast_add(&a.sub(b)?.broadcast_mul(mask)?),
    as_type: Tensor::to_dtype,
    attention,
};

/// Queries whose scores exist at a time when scores must never exist all at once.
const QUERIES_AT_ONCE: usize = 256;

/// x \[B,H,W,C\], weight \[O,C,K,K\], bias \[O\] → \[B,H',W',O\].
fn conv2d(x: &Tensor, weight: &Tensor, bias: &Tensor, sizes: ConvSizes) -> Result<Tensor> {
    let ConvSizes { kernel, stride, pad: [top, left], upsample, .. } = sizes;
    let mut x = x.permute((0, 3, 1, 2))?.contiguous()?;
    if let Some([height, width]) = upsample {
        x = x.upsample_nearest2d(height, width)?;
    }
    let (_, _, height, width) = x.dims4()?;
    // The padding on the other sides is what the output's size needs.
    let bottom = ((sizes.output[1] - 1) * stride + kernel).saturating_sub(height + top);
    let right = ((sizes.output[2] - 1) * stride + kernel).saturating_sub(width + left);
    x = x.pad_with_zeros(2, top, bottom)?.pad_with_zeros(3, left, right)?;
    let y = x.conv2d(weight, 0, stride, 1, 1)?;
    let y = y.narrow(2, 0, sizes.output[1])?.narrow(3, 0, sizes.output[2])?;
    y.permute((0, 2, 3, 1))?.contiguous()?.broadcast_add(bias)
}

/// x \[..,K\], weight \[N,K\], bias \[N\] → \[..,N\].
fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let mut shape = x.dims().to_vec();
    let width = shape.pop().unwrap_or(1);
    shape.push(weight.dim(0)?);
    let y = x.reshape(((), width))?.matmul(&weight.t()?)?;
    let y = match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    };
    y.reshape(shape)
}

/// Mean and variance are over everything but the group.
fn group_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, groups: usize, eps: f64) -> Result<Tensor> {
    let channels = weight.dim(0)?;
    let grouped = x.to_dtype(DType::F32)?.reshape((x.dim(0)?, (), groups, channels / groups))?;
    let mean = grouped.mean_keepdim((1, 3))?;
    let centred = grouped.broadcast_sub(&mean)?;
    let variance = centred.sqr()?.mean_keepdim((1, 3))?;
    let normed = centred.broadcast_div(&(variance + eps)?.sqrt()?)?.reshape(x.shape())?;
    scale_and_shift(&normed, weight, bias, x.dtype())
}

/// Mean and variance are over the last dimension.
fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let wide = x.to_dtype(DType::F32)?;
    let centred = wide.broadcast_sub(&wide.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let normed = centred.broadcast_div(&(variance + eps)?.sqrt()?)?;
    scale_and_shift(&normed, weight, bias, x.dtype())
}

/// The end of a norm: normed is f32, and rounded once to the type asked for.
fn scale_and_shift(normed: &Tensor, weight: &Tensor, bias: &Tensor, dtype: DType) -> Result<Tensor> {
    let (weight, bias) = (weight.to_dtype(DType::F32)?, bias.to_dtype(DType::F32)?);
    normed.broadcast_mul(&weight)?.broadcast_add(&bias)?.to_dtype(dtype)
}

/// Elementwise.
fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Silu => x.silu(),
        Activation::Gelu => x.gelu_erf(),
        Activation::QuickGelu => x * sigmoid(&(x * 1.702)?)?,
        Activation::Relu => x.relu(),
        Activation::Tanh => x.tanh(),
    }
}

/// x \[..,2D\] → \[..,D\].
fn geglu(x: &Tensor) -> Result<Tensor> {
    let parts = x.chunk(2, D::Minus1)?;
    parts[0].contiguous()? * parts[1].contiguous()?.gelu_erf()?
}

/// x \[..,C\] → the same, each channel times its factor, plus its offset.
fn affine(x: &Tensor, factors: &[f64], offsets: &[f64]) -> Result<Tensor> {
    let row = |values: &[f64]| Tensor::from_slice(values, values.len(), x.device())?.to_dtype(x.dtype());
    x.broadcast_mul(&row(factors)?)?.broadcast_add(&row(offsets)?)
}

/// q \[B,T,D\], k and v \[B,S,D\] → \[B,T,D\].
fn attention(q: &Tensor, k: &Tensor, v: &Tensor, sizes: AttentionSizes, scores: Scores) -> Result<Tensor> {
    let AttentionSizes { batch, n_queries, n_keys, width, heads, scale, causal } = sizes;
    let by_head = |x: &Tensor, n: usize| x.reshape((batch, n, heads, width / heads))?.transpose(1, 2)?.contiguous();
    let q = (by_head(q, n_queries)? * f64::from(scale))?;
    let (kt, v) = (by_head(k, n_keys)?.transpose(2, 3)?.contiguous()?, by_head(v, n_keys)?);
    let (queries_at_once, heads_at_once) = match scores {
        Scores::Flash => (QUERIES_AT_ONCE, heads),
        Scores::Heads(n) => (n_queries.max(1), n.clamp(1, heads)),
        Scores::Whole => (n_queries.max(1), heads),
    };
    let mask = if causal {
        let values: Vec<f32> =
            (0..n_queries * n_keys).map(|i| if i % n_keys > i / n_keys { f32::NEG_INFINITY } else { 0.0 }).collect();
        Some(Tensor::from_vec(values, (n_queries, n_keys), q.device())?)
    } else {
        None
    };
    let mut by_heads = Vec::new();
    for first_head in (0..heads).step_by(heads_at_once) {
        let n_heads = heads_at_once.min(heads - first_head);
        let heads_of = |x: &Tensor| x.narrow(1, first_head, n_heads)?.contiguous();
        let (q, kt, v) = (heads_of(&q)?, heads_of(&kt)?, heads_of(&v)?);
        let mut by_queries = Vec::new();
        for first in (0..n_queries).step_by(queries_at_once) {
            let n = queries_at_once.min(n_queries - first);
            let mut scores = q.narrow(2, first, n)?.contiguous()?.matmul(&kt)?.to_dtype(DType::F32)?;
            if let Some(mask) = &mask {
                scores = scores.broadcast_add(&mask.narrow(0, first, n)?)?;
            }
            by_queries.push(softmax_last_dim(&scores)?.to_dtype(v.dtype())?.matmul(&v)?);
        }
        by_heads.push(Tensor::cat(&by_queries, 2)?);
    }
    Tensor::cat(&by_heads, 1)?.transpose(1, 2)?.contiguous()?.reshape((batch, n_queries, width))
}
