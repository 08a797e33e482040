//! One node of a graph, by this crate's kernels or by candle's.

use candle_core::{CpuStorage, DType, Storage, Tensor};

use super::{CandleProgram, CandleRunner, Kernels};
use crate::graph::{Activation, Node, Op};
use crate::run::cpu::{self, AttentionSizes, ConvSizes, Stopped, TimeSlices};

/// Why a node has no value.
pub(super) enum Failed {
    /// What candle says.
    Candle(candle_core::Error),
    /// It was told to stop.
    Stopped,
}

impl From<candle_core::Error> for Failed {
    fn from(error: candle_core::Error) -> Self {
        Failed::Candle(error)
    }
}

impl From<Stopped> for Failed {
    fn from(_: Stopped) -> Self {
        Failed::Stopped
    }
}

impl CandleRunner {
    /// The value of a node, from those of its inputs. With `silu_follows` a group norm's goes through SiLU. This crate's own
    /// operations ask between two slices of `time` whether to go on; candle's do not.
    pub(super) fn node(
        &self,
        program: &CandleProgram,
        node: &Node,
        inputs: &[&Tensor],
        silu_follows: bool,
        time: &mut TimeSlices,
    ) -> Result<Tensor, Failed> {
        let CandleProgram { graph, dtype, .. } = program;
        let shape = |i: usize| graph.node(node.inputs[i]).shape.as_slice();
        match &node.op {
            Op::Input(_) | Op::Weight => Err(says("is not computed")),
            Op::Reshape => Ok(inputs[0].reshape(node.shape.as_slice())?),
            Op::Slice { axis, start, len } => Ok(inputs[0].narrow(*axis, *start, *len)?.contiguous()?),
            Op::Concat { axis } => Ok(Tensor::cat(inputs, *axis)?.contiguous()?),
            Op::Scale { factor } => match self.kernels {
                Kernels::Plain(plain) => Ok((plain.scale)(inputs[0], *factor)?),
                Kernels::Cpu => self.on_slices(node, inputs, |x| cpu::scale(x[0], *factor as f32, time)),
            },
            Op::Affine { factors, offsets } => match self.kernels {
                Kernels::Plain(plain) => Ok((plain.affine)(inputs[0], factors, offsets)?),
                Kernels::Cpu => {
                    let row = |values: &[f64]| values.iter().map(|&value| value as f32).collect::<Vec<_>>();
                    let (factors, offsets) = (row(factors), row(offsets));
                    self.on_slices(node, inputs, |x| cpu::affine(x[0], &factors, &offsets, time))
                }
            },
            Op::Gather => match self.kernels {
                Kernels::Plain(plain) => Ok((plain.gather)(inputs[0], inputs[1])?.reshape(node.shape.as_slice())?),
                Kernels::Cpu => {
                    let ids = inputs[0].flatten_all()?.to_vec1::<u32>()?;
                    let &[n_rows, width] = shape(1) else { return Err(says("wants rows [N,D]")) };
                    if ids.iter().any(|&id| id as usize >= n_rows) {
                        return Err(says(&format!("wants rows below {n_rows}, got {ids:?}")));
                    }
                    self.on_slices(node, &inputs[1..2], |x| Ok(cpu::gather(&ids, x[0], width)))
                }
            },
            Op::TimestepEmbedding { dim, flip_sin_to_cos, freq_shift } => {
                let t = self.as_type(inputs[0], DType::F32)?.to_vec1::<f32>()?;
                let values = cpu::timestep_embedding(&t, *dim, *flip_sin_to_cos, *freq_shift);
                Ok(self.as_type(&Tensor::from_vec(values, node.shape.as_slice(), &self.device)?, *dtype)?)
            }
            Op::Conv2d { stride, pad, upsample } => {
                let sizes = ConvSizes {
                    input: four(shape(0))?,
                    output: four(&node.shape)?,
                    kernel: shape(1)[2],
                    stride: *stride,
                    pad: [pad[0], pad[1]],
                    upsample: *upsample,
                };
                let n_out = sizes.output[3];
                match self.kernels {
                    Kernels::Plain(plain) => match inputs.get(2) {
                        Some(bias) => Ok((plain.conv2d)(inputs[0], inputs[1], bias, sizes)?),
                        None => {
                            let bias = Tensor::zeros(n_out, *dtype, &self.device)?;
                            Ok((plain.conv2d)(inputs[0], inputs[1], &bias, sizes)?)
                        }
                    },
                    Kernels::Cpu => self.on_slices(node, inputs, |x| match x.get(2) {
                        Some(bias) => cpu::conv2d(x[0], x[1], bias, sizes, time),
                        None => cpu::conv2d(x[0], x[1], &vec![0.0; n_out], sizes, time),
                    }),
                }
            }
            Op::Linear => match self.kernels {
                Kernels::Plain(plain) => Ok((plain.linear)(inputs[0], inputs[1], inputs.get(2).copied())?),
                Kernels::Cpu => {
                    let &[n, k] = shape(1) else { return Err(says("wants a matrix")) };
                    let m = shape(0).iter().rev().skip(1).product();
                    self.on_slices(node, inputs, |x| cpu::linear(x[0], x[1], x.get(2).copied(), [m, n, k], time))
                }
            },
            Op::GroupNorm { groups, eps } => match self.kernels {
                Kernels::Plain(plain) => {
                    let y = (plain.group_norm)(inputs[0], inputs[1], inputs[2], *groups, *eps)?;
                    Ok(if silu_follows { (plain.activate)(&y, Activation::Silu)? } else { y })
                }
                Kernels::Cpu => self.on_slices(node, inputs, |x| {
                    cpu::group_norm(x[0], x[1], x[2], node.shape[0], *groups, *eps, silu_follows, time)
                }),
            },
            Op::LayerNorm { eps } => match self.kernels {
                Kernels::Plain(plain) => Ok((plain.layer_norm)(inputs[0], inputs[1], inputs[2], *eps)?),
                Kernels::Cpu => self.on_slices(node, inputs, |x| cpu::layer_norm(x[0], x[1], x[2], *eps, time)),
            },
            Op::Activation(activation) => match self.kernels {
                Kernels::Plain(plain) => Ok((plain.activate)(inputs[0], *activation)?),
                Kernels::Cpu => self.on_slices(node, inputs, |x| cpu::activate(x[0], *activation, time)),
            },
            Op::Geglu => match self.kernels {
                Kernels::Plain(plain) => Ok((plain.geglu)(inputs[0])?),
                Kernels::Cpu => {
                    let width = node.shape.last().copied().unwrap_or(1);
                    self.on_slices(node, inputs, |x| cpu::geglu(x[0], width, time))
                }
            },
            Op::Add => match self.kernels {
                Kernels::Plain(plain) => Ok((plain.add)(inputs[0], inputs[1])?),
                Kernels::Cpu => self.on_slices(node, inputs, |x| cpu::add(x[0], x[1], shape(0), shape(1), time)),
            },
            Op::Attention { heads, scale, causal, .. } => {
                let (&[batch, n_queries, width], &[_, n_keys, _]) = (shape(0), shape(1)) else {
                    return Err(says("wants [B,T,D]"));
                };
                let (heads, causal) = (*heads, *causal);
                let sizes = AttentionSizes { batch, n_queries, n_keys, width, heads, scale: *scale as f32, causal };
                match self.kernels {
                    Kernels::Plain(plain) => {
                        Ok((plain.attention)(inputs[0], inputs[1], inputs[2], sizes, self.scores.get())?)
                    }
                    Kernels::Cpu => self
                        .on_slices(node, inputs, |x| cpu::attention(x[0], x[1], x[2], sizes, self.scores.get(), time)),
                }
            }
        }
    }

    /// Runs a function of f32 slices. Weights held in 16 bits are widened for the time of the call.
    fn on_slices(
        &self,
        node: &Node,
        inputs: &[&Tensor],
        f: impl FnOnce(&[&[f32]]) -> Result<Vec<f32>, Stopped>,
    ) -> Result<Tensor, Failed> {
        let wide: Vec<Tensor> =
            inputs.iter().map(|x| self.as_type(x, DType::F32)?.contiguous()).collect::<candle_core::Result<_>>()?;
        let values = with_slices(&wide, f)??;
        Ok(Tensor::from_vec(values, node.shape.as_slice(), &self.device)?)
    }
}

/// Gives a function the f32 values of contiguous CPU tensors without copying them.
pub(super) fn with_slices<T>(tensors: &[Tensor], f: impl FnOnce(&[&[f32]]) -> T) -> candle_core::Result<T> {
    let guards: Vec<_> = tensors.iter().map(Tensor::storage_and_layout).collect();
    let mut slices = Vec::with_capacity(guards.len());
    for (storage, layout) in &guards {
        let Storage::Cpu(CpuStorage::F32(values)) = &**storage else { candle_core::bail!("wants f32 on the CPU") };
        let Some((from, to)) = layout.contiguous_offsets() else { candle_core::bail!("wants contiguous values") };
        slices.push(&values[from..to]);
    }
    Ok(f(&slices))
}

fn says(reason: &str) -> Failed {
    Failed::Candle(candle_core::Error::Msg(reason.into()))
}

fn four(shape: &[usize]) -> candle_core::Result<[usize; 4]> {
    shape.try_into().map_err(|_| candle_core::Error::Msg(format!("wants [B,H,W,C], got {shape:?}")))
}
