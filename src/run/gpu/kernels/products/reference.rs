//! The product in plain Rust.

use super::sizes::{Gemm, Source};
use crate::graph::Activation;
use crate::run::gpu::kernels::elementwise::{activation, geglu};
use crate::run::gpu::kernels::layer_norm;

/// The operands of [`reference()`], each as long as its binding.
#[derive(Clone, Copy, Debug, Default)]
pub struct Operands<'a> {
    /// \[B,H,W,C0\].
    pub source_0: &'a [f32],
    /// \[B,H,W,C1\].
    pub source_1: &'a [f32],
    /// \[O,C,K,K\] as in a checkpoint, not packed.
    pub weight: &'a [f32],
    /// \[N\], then the layer norm's weight and bias.
    pub bias: &'a [f32],
    /// Rows of [`super::RowVector::stride`].
    pub time_embedding: &'a [f32],
    /// As the output.
    pub residual: &'a [f32],
}

/// The same product in plain Rust, one output value at a time, sums in f64.
#[must_use]
pub fn reference(gemm: &Gemm, operands: Operands<'_>) -> Vec<f32> {
    let Gemm { source, n, epilogue, .. } = gemm;
    let normed = gemm.norm_eps.map(|eps| {
        let at = if epilogue.bias { *n as usize } else { 0 };
        let (weight, bias) = operands.bias[at..].split_at(gemm.k() as usize);
        layer_norm::reference(operands.source_0, weight, bias, eps)
    });
    let operands = Operands { source_0: normed.as_deref().unwrap_or(operands.source_0), ..operands };
    let [out_h, out_w] = source.out_size.map(|size| size as usize);
    let m = source.batch as usize * out_h * out_w;
    let n = *n as usize;
    let mut sums = Vec::with_capacity(m * n);
    for row in 0..m {
        let (b, y, x) = (row / (out_h * out_w), row / out_w % out_h, row % out_w);
        for o in 0..n {
            let mut sum = dot(source, operands, [b, y, x], o);
            if epilogue.bias {
                sum += f64::from(operands.bias[o]);
            }
            if let Some(vector) = epilogue.time_embedding {
                sum += f64::from(operands.time_embedding[vector.offset as usize + b * vector.stride as usize + o]);
            }
            sums.push(sum as f32);
        }
    }
    if let Some(activation) = epilogue.activation {
        sums = activation::reference(activation, &sums);
    }
    if epilogue.geglu {
        sums = geglu::reference(&sums, n / 2);
    }
    if epilogue.residual {
        sums.iter_mut().zip(operands.residual).for_each(|(sum, residual)| *sum += residual);
    }
    if epilogue.relu_last {
        sums = activation::reference(Activation::Relu, &sums);
    }
    sums
}

/// One sum of products: output pixel \[b,y,x\] with output channel `o`.
fn dot(source: &Source, operands: Operands<'_>, [b, y, x]: [usize; 3], o: usize) -> f64 {
    let [in_h, in_w] = source.in_size.map(|size| size as usize);
    let [c0, c1] = source.channels.map(|size| size as usize);
    let (kernel, stride) = (source.kernel as usize, source.stride as usize);
    let shift = usize::from(source.upsample.is_some());
    let [full_h, full_w] = source.full_size().map(|size| size as usize);
    let mut sum = 0.0;
    for ky in 0..kernel {
        for kx in 0..kernel {
            let row = (y * stride + ky).checked_add_signed(-(source.pad[0] as isize)).filter(|&row| row < full_h);
            let col = (x * stride + kx).checked_add_signed(-(source.pad[1] as isize)).filter(|&col| col < full_w);
            let (Some(row), Some(col)) = (row, col) else { continue };
            let pixel = (b * in_h + (row >> shift)) * in_w + (col >> shift);
            for c in 0..c0 + c1 {
                let value =
                    if c < c0 { operands.source_0[pixel * c0 + c] } else { operands.source_1[pixel * c1 + c - c0] };
                let weight = operands.weight[((o * (c0 + c1) + c) * kernel + ky) * kernel + kx];
                sum += f64::from(value) * f64::from(weight);
            }
        }
    }
    sum
}
