//! How weights are held: in what they are computed with, or in blocks of codes.

use std::rc::Rc;

use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

use super::nodes::with_slices;
use super::{CandleRunner, Kernels};
use crate::error::Result;
use crate::graph::WeightSpec;
use crate::weights::blocks::{self, Blocks};
use crate::weights::{Weights, gguf};

/// How a weight is held.
#[derive(Clone, Debug)]
pub(super) enum Held {
    /// As it is computed with, or in 16 bits.
    Plain(Tensor),
    /// In blocks of codes, which are dequantised each time they are used: a matrix of that shape.
    Blocks(Rc<Blocks>, [usize; 2]),
}

impl Held {
    pub fn tensor(&self) -> candle_core::Result<Tensor> {
        match self {
            Held::Plain(tensor) => Ok(tensor.clone()),
            Held::Blocks(blocks, shape) => Tensor::from_vec(blocks.values(), shape.as_slice(), &Device::Cpu),
        }
    }
}

impl CandleRunner {
    /// A tensor in another type. With this crate's kernels between f32 and 16 bits alone, so that the page does not carry
    /// candle's conversions of any type into any other.
    pub(super) fn as_type(&self, tensor: &Tensor, dtype: DType) -> candle_core::Result<Tensor> {
        match self.kernels {
            Kernels::Plain(plain) => (plain.as_type)(tensor, dtype),
            Kernels::Cpu if tensor.dtype() == dtype => Ok(tensor.clone()),
            Kernels::Cpu => converted(tensor, dtype),
        }
    }

    /// A tensor's values, and the scales of its blocks where it is stored in such as are held.
    pub(super) async fn read(&self, spec: &WeightSpec, weights: &Weights) -> Result<(Vec<f32>, Vec<f16>)> {
        let held = self.weights.map(|weights| weights.of_weight(&spec.name, &spec.shape));
        let kind = weights.blocks_along_inputs(spec).zip(held);
        if let Some((kind, held)) = kind.filter(|(kind, held)| blocks::keeps_scales(*kind, *held)) {
            let n_values = spec.shape.iter().product::<usize>();
            let bytes = weights.read_blocks(&spec.name, 0, n_values as u64).await?;
            let mut values = Vec::new();
            if gguf::dequantize(kind, &bytes, &mut values).is_some() && values.len() == n_values {
                return Ok((values, blocks::scales_of(kind, held, &bytes)));
            }
        }
        Ok((weights.read_f32(&spec.name).await?, Vec::new()))
    }

    /// A tensor from the checkpoint, as the kernels want it.
    pub(super) fn place(&self, spec: &WeightSpec, (values, scales): (Vec<f32>, Vec<f16>)) -> candle_core::Result<Held> {
        let tensor = match (self.kernels, spec.shape.as_slice()) {
            (Kernels::Cpu, &[out, channels, kernel, width]) => {
                Tensor::from_vec(values, (out, channels, kernel, width), &Device::Cpu)?
                    .permute((2, 3, 1, 0))?
                    .contiguous()?
                    .reshape((kernel * width * channels, out))?
            }
            _ => Tensor::from_vec(values, spec.shape.as_slice(), &Device::Cpu)?,
        };
        if let (Kernels::Cpu, Some(weights), &[rows, columns]) = (self.kernels, self.weights, tensor.dims()) {
            let weight_type = weights.of_weight(&spec.name, &spec.shape);
            if weight_type.is_quantised() {
                // Blocks lie along the inputs: down the columns of a convolution, along the rows of a linear layer.
                let is_along_columns = spec.shape.len() == 4;
                let of = |x: &[&[f32]]| Blocks::with_scales(weight_type, x[0], columns, is_along_columns, &scales);
                let blocks = with_slices(&[tensor], of)?;
                return Ok(Held::Blocks(Rc::new(blocks), [rows, columns]));
            }
        }
        // Vectors are few and small; keeping them wide costs nothing and saves rounding. candle's own operations want
        // one type throughout.
        let narrow = matches!(self.kernels, Kernels::Plain(_)) || spec.shape.len() > 1;
        let tensor = if narrow { self.as_type(&tensor, self.precision.dtype())? } else { tensor };
        Ok(Held::Plain(tensor.to_device(&self.device)?))
    }
}

/// A tensor of the CPU from f32 to 16 bits or back.
fn converted(tensor: &Tensor, dtype: DType) -> candle_core::Result<Tensor> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cpu(storage), Some((from, to))) = (&*storage, layout.contiguous_offsets()) else {
        candle_core::bail!("wants contiguous values on the CPU")
    };
    let (shape, cpu) = (tensor.shape(), &Device::Cpu);
    match (storage, dtype) {
        (CpuStorage::F16(values), DType::F32) => Tensor::from_vec(widened(&values[from..to]), shape, cpu),
        (CpuStorage::BF16(values), DType::F32) => Tensor::from_vec(widened(&values[from..to]), shape, cpu),
        (CpuStorage::F32(values), DType::F16) => Tensor::from_vec(rounded::<f16>(&values[from..to]), shape, cpu),
        (CpuStorage::F32(values), DType::BF16) => Tensor::from_vec(rounded::<bf16>(&values[from..to]), shape, cpu),
        (_, _) => candle_core::bail!("{:?} does not become {dtype:?} here", tensor.dtype()),
    }
}

/// Values that a thread converts at a time.
const CONVERTED: usize = 1 << 14;

fn widened<T: Copy + Sync>(values: &[T]) -> Vec<f32>
where
    [T]: HalfFloatSliceExt,
{
    let mut out = vec![0.0; values.len()];
    let parts = out.par_chunks_mut(CONVERTED).zip(values.par_chunks(CONVERTED));
    parts.for_each(|(out, values)| values.convert_to_f32_slice(out));
    out
}

fn rounded<T: Copy + Default + Send>(values: &[f32]) -> Vec<T>
where
    [T]: HalfFloatSliceExt,
{
    let mut out = vec![T::default(); values.len()];
    let parts = out.par_chunks_mut(CONVERTED).zip(values.par_chunks(CONVERTED));
    parts.for_each(|(out, values)| out.convert_from_f32_slice(values));
    out
}
