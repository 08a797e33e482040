//! The candle runner: a graph node by node on candle tensors, on the CPU, in wasm, or on CUDA. The reference for the
//! WebGPU runner, and what serves machines without a GPU.
//!
//! On the CPU activations are f32 and the heavy operations are this crate's own (`run::cpu`); weights are held in the type
//! asked for, also in blocks of codes that are dequantised as each is used. On CUDA everything is candle's own operations (`plain.rs`) in the type asked for, except graphs that need
//! f32: for those the weights are widened when they are used. Between graphs the sampler's tensors are f32. A value is
//! freed after its last use.

mod plain;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use candle_core::{CpuStorage, DType, Device, Shape, Storage, Tensor};
use half::f16;

use crate::error::{Error, Result};
use crate::graph::{Activation, Graph, Node, NodeId, Op, WeightSpec};
pub use crate::run::cpu::Scores;
use crate::run::cpu::{self, AttentionSizes, ConvSizes};
use crate::run::{Colours, Runner};
use crate::weights::blocks::{self, Blocks};
use crate::weights::{WeightType, Weights, gguf};

impl Scores {
    /// What the request's two switches ask for: flash attention, else slices of so many heads (0: one), else all at once.
    #[must_use]
    pub fn from_switches(flash: bool, sliced: Option<usize>) -> Self {
        match (flash, sliced) {
            (true, _) => Scores::Flash,
            (false, Some(heads)) => Scores::Heads(heads.max(1)),
            (false, None) => Scores::Whole,
        }
    }
}

/// The type weights are held in, and on CUDA activations too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// 32 bits.
    F32,
    /// 16 bits, range to 65,504.
    F16,
    /// 16 bits, f32's range.
    Bf16,
}

impl Precision {
    fn dtype(self) -> DType {
        match self {
            Precision::F32 => DType::F32,
            Precision::F16 => DType::F16,
            Precision::Bf16 => DType::BF16,
        }
    }

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::F16 => "f16",
            Precision::Bf16 => "bf16",
        }
    }
}

/// Which implementation of the operations runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernels {
    /// This crate's, on f32 slices.
    Cpu,
    /// candle's.
    Plain,
}

/// See the module.
#[derive(Debug)]
pub struct CandleRunner {
    device: Device,
    precision: Precision,
    /// The type that matrices are held in where that is blocks of codes.
    weights: Option<WeightType>,
    kernels: Kernels,
    scores: Cell<Scores>,
}

/// Weights on the device, by name; convolutions on the CPU are repacked to \[K*K*C,O\].
#[derive(Debug)]
pub struct CandleWeights(RefCell<HashMap<String, Held>>);

/// How a weight is held.
#[derive(Clone, Debug)]
enum Held {
    /// As it is computed with, or in 16 bits.
    Plain(Tensor),
    /// In blocks of codes, which are dequantised each time they are used: a matrix of that shape.
    Blocks(Rc<Blocks>, [usize; 2]),
}

impl Held {
    fn tensor(&self) -> candle_core::Result<Tensor> {
        match self {
            Held::Plain(tensor) => Ok(tensor.clone()),
            Held::Blocks(blocks, shape) => Tensor::from_vec(blocks.values(), shape.as_slice(), &Device::Cpu),
        }
    }
}

/// A graph with what a run needs to know of it.
#[derive(Debug)]
pub struct CandleProgram {
    graph: Graph,
    last_uses: Vec<usize>,
    /// The type of activations.
    dtype: DType,
}

impl CandleRunner {
    /// On the CPU, with weights held in `precision` and arithmetic in f32.
    #[must_use]
    pub fn cpu(precision: Precision) -> Self {
        Self::new(Device::Cpu, precision, Kernels::Cpu)
    }

    /// On the CPU with candle's own operations: slower, and what CUDA runs.
    #[must_use]
    pub fn cpu_plain(precision: Precision) -> Self {
        Self::new(Device::Cpu, precision, Kernels::Plain)
    }

    /// On an NVIDIA card.
    ///
    /// # Errors
    /// When the program was built without the feature `cuda`, or there is no such card.
    pub fn cuda(ordinal: usize, precision: Precision) -> Result<Self> {
        let device = Device::new_cuda(ordinal).map_err(|e| Error::Device {
            device: "cuda".into(),
            reason: format!("{} (needs an NVIDIA card and a build with --features cuda)", one_line(&e)),
        })?;
        Ok(Self::new(device, precision, Kernels::Plain))
    }

    fn new(device: Device, precision: Precision, kernels: Kernels) -> Self {
        CandleRunner { device, precision, weights: None, kernels, scores: Cell::new(Scores::Flash) }
    }

    /// Holds weights in blocks of codes where `weights` is such a type and [`WeightType::of_weight`] gives one: on the CPU, with
    /// this crate's own operations. All others have the type that the runner was made with.
    #[must_use]
    pub fn with_weights(self, weights: Option<WeightType>) -> Self {
        CandleRunner { weights: weights.filter(|weights| weights.is_quantised()), ..self }
    }

    /// The type that weights are held in, where that is blocks of codes.
    #[must_use]
    pub fn quantised_weights(&self) -> Option<WeightType> {
        self.weights
    }

    /// How attention's scores are held; by default by blocks of queries.
    #[must_use]
    pub fn with_scores(self, scores: Scores) -> Self {
        self.scores.set(scores);
        self
    }

    /// The type of activations, but for graphs that need f32.
    #[must_use]
    pub fn activations(&self) -> Precision {
        match self.kernels {
            Kernels::Cpu => Precision::F32,
            Kernels::Plain => self.precision,
        }
    }

    fn program(graph: Graph, precision: Precision) -> CandleProgram {
        let last_uses = graph.last_uses();
        CandleProgram { graph, last_uses, dtype: precision.dtype() }
    }

    fn node(
        &self,
        program: &CandleProgram,
        node: &Node,
        inputs: &[&Tensor],
        silu_follows: bool,
    ) -> candle_core::Result<Tensor> {
        let CandleProgram { graph, dtype, .. } = program;
        let shape = |i: usize| graph.node(node.inputs[i]).shape.as_slice();
        match &node.op {
            Op::Input(_) | Op::Weight => candle_core::bail!("is not computed"),
            Op::Reshape => inputs[0].reshape(node.shape.as_slice()),
            Op::Slice { axis, start, len } => inputs[0].narrow(*axis, *start, *len)?.contiguous(),
            Op::Concat { axis } => Tensor::cat(inputs, *axis)?.contiguous(),
            Op::Scale { factor } => inputs[0] * *factor,
            Op::Affine { factors, offsets } => {
                let row = |values: &[f64]| Tensor::from_slice(values, values.len(), &self.device)?.to_dtype(*dtype);
                inputs[0].broadcast_mul(&row(factors)?)?.broadcast_add(&row(offsets)?)
            }
            Op::Gather => inputs[1].index_select(&inputs[0].flatten_all()?, 0)?.reshape(node.shape.as_slice()),
            Op::TimestepEmbedding { dim, flip_sin_to_cos, freq_shift } => {
                let t = inputs[0].to_dtype(DType::F32)?.to_vec1::<f32>()?;
                let values = cpu::timestep_embedding(&t, *dim, *flip_sin_to_cos, *freq_shift);
                Tensor::from_vec(values, node.shape.as_slice(), &self.device)?.to_dtype(*dtype)
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
                    Kernels::Plain => match inputs.get(2) {
                        Some(bias) => plain::conv2d(inputs[0], inputs[1], bias, sizes),
                        None => {
                            let bias = Tensor::zeros(n_out, *dtype, &self.device)?;
                            plain::conv2d(inputs[0], inputs[1], &bias, sizes)
                        }
                    },
                    Kernels::Cpu => self.on_slices(node, inputs, |x| match x.get(2) {
                        Some(bias) => cpu::conv2d(x[0], x[1], bias, sizes),
                        None => cpu::conv2d(x[0], x[1], &vec![0.0; n_out], sizes),
                    }),
                }
            }
            Op::Linear => match self.kernels {
                Kernels::Plain => plain::linear(inputs[0], inputs[1], inputs.get(2).copied()),
                Kernels::Cpu => {
                    let &[n, k] = shape(1) else { candle_core::bail!("wants a matrix") };
                    self.on_slices(node, inputs, |x| cpu::linear(x[0], x[1], x.get(2).copied(), k, n))
                }
            },
            Op::GroupNorm { groups, eps } => match self.kernels {
                Kernels::Plain => {
                    let y = plain::group_norm(inputs[0], inputs[1], inputs[2], *groups, *eps)?;
                    if silu_follows { y.silu() } else { Ok(y) }
                }
                Kernels::Cpu => self.on_slices(node, inputs, |x| {
                    cpu::group_norm(x[0], x[1], x[2], node.shape[0], *groups, *eps, silu_follows)
                }),
            },
            Op::LayerNorm { eps } => match self.kernels {
                Kernels::Plain => plain::layer_norm(inputs[0], inputs[1], inputs[2], *eps),
                Kernels::Cpu => self.on_slices(node, inputs, |x| cpu::layer_norm(x[0], x[1], x[2], *eps)),
            },
            Op::Activation(activation) => match self.kernels {
                Kernels::Plain => plain::activate(inputs[0], *activation),
                Kernels::Cpu => self.on_slices(node, inputs, |x| {
                    let mut y = x[0].to_vec();
                    cpu::activate(&mut y, *activation);
                    y
                }),
            },
            Op::Geglu => match self.kernels {
                Kernels::Plain => plain::geglu(inputs[0]),
                Kernels::Cpu => {
                    let width = node.shape.last().copied().unwrap_or(1);
                    self.on_slices(node, inputs, |x| cpu::geglu(x[0], width))
                }
            },
            Op::Add => match self.kernels {
                Kernels::Plain => inputs[0].broadcast_add(inputs[1]),
                Kernels::Cpu => self.on_slices(node, inputs, |x| {
                    let mut y = x[0].to_vec();
                    cpu::add_assign(&mut y, x[1], shape(0), shape(1));
                    y
                }),
            },
            Op::Attention { heads, scale, causal, .. } => {
                let (&[batch, n_queries, width], &[_, n_keys, _]) = (shape(0), shape(1)) else {
                    candle_core::bail!("wants [B,T,D]")
                };
                let (heads, causal) = (*heads, *causal);
                let sizes = AttentionSizes { batch, n_queries, n_keys, width, heads, scale: *scale as f32, causal };
                match self.kernels {
                    Kernels::Plain => plain::attention(inputs[0], inputs[1], inputs[2], sizes, self.scores.get()),
                    Kernels::Cpu => {
                        self.on_slices(node, inputs, |x| cpu::attention(x[0], x[1], x[2], sizes, self.scores.get()))
                    }
                }
            }
        }
    }

    /// Runs a function of f32 slices. Weights held in 16 bits are widened for the time of the call.
    fn on_slices(
        &self,
        node: &Node,
        inputs: &[&Tensor],
        f: impl FnOnce(&[&[f32]]) -> Vec<f32>,
    ) -> candle_core::Result<Tensor> {
        let wide: Vec<Tensor> =
            inputs.iter().map(|x| x.to_dtype(DType::F32)?.contiguous()).collect::<candle_core::Result<_>>()?;
        let values = with_slices(&wide, f)?;
        Tensor::from_vec(values, node.shape.as_slice(), &self.device)
    }
}

/// Gives a function the f32 values of contiguous CPU tensors without copying them.
fn with_slices<T>(tensors: &[Tensor], f: impl FnOnce(&[&[f32]]) -> T) -> candle_core::Result<T> {
    let guards: Vec<_> = tensors.iter().map(Tensor::storage_and_layout).collect();
    let mut slices = Vec::with_capacity(guards.len());
    for (storage, layout) in &guards {
        let Storage::Cpu(CpuStorage::F32(values)) = &**storage else { candle_core::bail!("wants f32 on the CPU") };
        let Some((from, to)) = layout.contiguous_offsets() else { candle_core::bail!("wants contiguous values") };
        slices.push(&values[from..to]);
    }
    Ok(f(&slices))
}

fn four(shape: &[usize]) -> candle_core::Result<[usize; 4]> {
    shape.try_into().map_err(|_| candle_core::Error::Msg(format!("wants [B,H,W,C], got {shape:?}")))
}

fn one_line(error: &candle_core::Error) -> String {
    // candle appends a backtrace when one is enabled; the first line is the message.
    error.to_string().lines().next().unwrap_or_default().to_string()
}

impl CandleRunner {
    fn error(&self, node: &str, error: &candle_core::Error) -> Error {
        Error::Run { node: node.to_string(), device: self.describe(), reason: one_line(error) }
    }

    fn wrap<T>(&self, node: &str, result: candle_core::Result<T>) -> Result<T> {
        result.map_err(|e| self.error(node, &e))
    }

    /// A tensor's values, and the scales of its blocks where it is stored in such as are held.
    async fn read(&self, spec: &WeightSpec, weights: &Weights) -> Result<(Vec<f32>, Vec<f16>)> {
        let held = self.weights.map(|weights| weights.of_weight(&spec.name, &spec.shape));
        let [outputs, inputs, ref taps @ ..] = spec.shape[..] else {
            return Ok((weights.read_f32(&spec.name).await?, Vec::new()));
        };
        let kind = weights.blocks(&spec.name).zip(held).filter(|(kind, held)| blocks::keeps_scales(*kind, *held));
        if let Some((kind, held)) = kind
            && taps.iter().all(|side| *side == 1)
            && inputs.is_multiple_of(blocks::BLOCK)
        {
            let bytes = weights.read_blocks(&spec.name, 0, (outputs * inputs) as u64).await?;
            let mut values = Vec::new();
            if gguf::dequantize(kind, &bytes, &mut values).is_some() && values.len() == outputs * inputs {
                return Ok((values, blocks::scales_of(kind, held, &bytes)));
            }
        }
        Ok((weights.read_f32(&spec.name).await?, Vec::new()))
    }

    /// A tensor from the checkpoint, as the kernels want it.
    fn place(&self, spec: &WeightSpec, (values, scales): (Vec<f32>, Vec<f16>)) -> candle_core::Result<Held> {
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
        let narrow = self.kernels == Kernels::Plain || spec.shape.len() > 1;
        let tensor = if narrow { tensor.to_dtype(self.precision.dtype())? } else { tensor };
        Ok(Held::Plain(tensor.to_device(&self.device)?))
    }
}

impl Runner for CandleRunner {
    type Tensor = Tensor;
    type Weights = CandleWeights;
    type Program = CandleProgram;

    fn describe(&self) -> String {
        let name = match &self.device {
            Device::Cpu => "cpu",
            _ => "cuda",
        };
        let weights = self.weights.map_or(self.precision.name(), WeightType::name);
        format!("{name} (candle, {weights})")
    }

    async fn load(&self, graphs: &[Graph], weights: &Weights, progress: &mut dyn FnMut(u64)) -> Result<CandleWeights> {
        let mut placed = HashMap::new();
        let mut n_bytes = 0;
        for spec in &graphs.iter().flat_map(Graph::weights).collect::<Vec<_>>() {
            if placed.contains_key(&spec.name) {
                continue;
            }
            let values = self.read(spec, weights).await?;
            n_bytes += weights.get(&spec.name).map_or(0, |info| info.n_bytes);
            placed.insert(spec.name.clone(), self.wrap(&spec.name, self.place(spec, values))?);
            progress(n_bytes);
        }
        Ok(CandleWeights(RefCell::new(placed)))
    }

    async fn replace(
        &self,
        graphs: &[Graph],
        weights: &Weights,
        names: &[String],
        loaded: &CandleWeights,
    ) -> Result<()> {
        let mut names: HashSet<&str> = names.iter().map(String::as_str).collect();
        for spec in graphs.iter().flat_map(Graph::weights) {
            if names.remove(spec.name.as_str()) {
                let values = self.read(&spec, weights).await?;
                let tensor = self.wrap(&spec.name, self.place(&spec, values))?;
                loaded.0.borrow_mut().insert(spec.name, tensor);
            }
        }
        Ok(())
    }

    fn use_attention(&self, flash: bool, sliced: Option<usize>) -> Result<()> {
        self.scores.set(Scores::from_switches(flash, sliced));
        Ok(())
    }

    /// Every tensor has memory of its own, so there is nothing to give back.
    fn trim(&self) {}

    async fn prepare(&self, graph: Graph) -> Result<CandleProgram> {
        let precision = if graph.needs_f32 { Precision::F32 } else { self.activations() };
        Ok(Self::program(graph, precision))
    }

    async fn prepare_f32(&self, graph: Graph) -> Result<Option<CandleProgram>> {
        let is_f32_anyway = graph.needs_f32 || self.activations() == Precision::F32;
        Ok((!is_f32_anyway).then(|| Self::program(graph, Precision::F32)))
    }

    async fn run(
        &self,
        program: &CandleProgram,
        weights: &CandleWeights,
        inputs: &[(&str, &Tensor)],
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Vec<Tensor>> {
        let CandleProgram { graph, last_uses, dtype } = program;
        // This crate's own operations widen weights themselves. Ids stay what they are, and so do timesteps, which 16 bits
        // would round.
        let is_typed = |id: usize, tensor: &Tensor| {
            self.kernels == Kernels::Plain && tensor.dtype().is_float() && !is_timestep(graph, NodeId(id as u32))
        };
        let typed = |id: usize, tensor: &Tensor| {
            if is_typed(id, tensor) { tensor.to_dtype(*dtype) } else { Ok(tensor.clone()) }
        };
        let mut values: Vec<Option<Tensor>> = vec![None; graph.nodes.len()];
        let mut flops = 0;
        for (idx, node) in graph.nodes.iter().enumerate() {
            let refuse = |reason: &str| {
                Err(Error::Run {
                    node: format!("{}: {}", graph.name, node.name),
                    device: self.describe(),
                    reason: reason.into(),
                })
            };
            let value = match &node.op {
                Op::Weight => match weights.0.borrow().get(&node.name) {
                    Some(held) => self.wrap(&node.name, held.tensor().and_then(|tensor| typed(idx, &tensor)))?,
                    None => return refuse("the weight is not loaded"),
                },
                Op::Input(_) => match inputs.iter().find(|(name, _)| *name == node.name) {
                    Some((_, tensor)) if tensor.dims() == node.shape => self.wrap(&node.name, typed(idx, tensor))?,
                    Some((_, tensor)) => {
                        return refuse(&format!("the input has shape {:?} instead of {:?}", tensor.dims(), node.shape));
                    }
                    None => return refuse("the input is not given"),
                },
                // A silu right behind a group norm was computed with it.
                Op::Activation(Activation::Silu) if folds_silu(graph, last_uses, node.inputs[0]) => {
                    match &values[node.inputs[0].idx()] {
                        Some(value) => value.clone(),
                        None => return refuse("an operand is gone"),
                    }
                }
                _ => {
                    let mut operands = Vec::with_capacity(node.inputs.len());
                    for input in &node.inputs {
                        match &values[input.idx()] {
                            Some(value) => operands.push(value),
                            None => return refuse("an operand is gone"),
                        }
                    }
                    let silu_follows = folds_silu(graph, last_uses, NodeId(idx as u32));
                    let name = format!("{}: {}", graph.name, node.name);
                    self.wrap(&name, self.node(program, node, &operands, silu_follows))?
                }
            };
            values[idx] = Some(value);
            for input in &node.inputs {
                if last_uses[input.idx()] == idx {
                    values[input.idx()] = None;
                }
            }
            let cost = graph.cost(node).flops;
            flops += cost;
            if cost > 0 && !progress(flops) {
                return Err(Error::Cancelled);
            }
        }
        // CUDA's operations are only queued until here, and so are their errors.
        self.wrap(&graph.name, self.device.synchronize())?;
        Ok(graph.outputs.iter().filter_map(|output| values[output.id.idx()].clone()).collect())
    }

    fn upload(&self, values: &[f32], shape: &[usize]) -> Result<Tensor> {
        self.wrap("upload", Tensor::from_slice(values, Shape::from(shape), &self.device))
    }

    fn upload_ids(&self, ids: &[u32], shape: &[usize]) -> Result<Tensor> {
        self.wrap("upload", Tensor::from_slice(ids, Shape::from(shape), &self.device))
    }

    async fn download(&self, tensor: &Tensor) -> Result<Vec<f32>> {
        let values = tensor.to_dtype(DType::F32).and_then(|t| t.flatten_all()?.to_vec1::<f32>());
        self.wrap("download", values)
    }

    async fn count_non_finite(&self, tensor: &Tensor) -> Result<u64> {
        let values = self.download(tensor).await?;
        Ok(values.iter().filter(|value| !value.is_finite()).count() as u64)
    }

    async fn rgba(&self, tensor: &Tensor, step: usize, colours: &Colours) -> Result<Vec<u8>> {
        let &[_, height, width, channels] = tensor.dims() else {
            return Err(
                self.error("rgba", &candle_core::Error::Msg(format!("wants [B,H,W,C], got {:?}", tensor.dims())))
            );
        };
        let values = self.download(tensor).await?;
        let step = step.max(1);
        let taken = (0..height).step_by(step).flat_map(|y| (0..width).step_by(step).map(move |x| y * width + x));
        let pixels: Vec<f32> = taken.flat_map(|i| values[i * channels..][..channels].iter().copied()).collect();
        Ok(colours.rgba(&pixels, channels))
    }

    fn lincomb(&self, terms: &[(f64, &Tensor)], clamp: Option<(f64, f64)>) -> Result<Tensor> {
        let sum = || {
            // Latents are small: the sum is done in f64 on the host, and rounded once.
            let wide: Vec<Tensor> = terms
                .iter()
                .map(|(_, x)| x.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.contiguous())
                .collect::<candle_core::Result<_>>()?;
            let Some(first) = wide.first() else { candle_core::bail!("wants at least one term") };
            if let Some(other) = wide.iter().find(|x| x.dims() != first.dims()) {
                candle_core::bail!("cannot add {:?} to {:?}", other.dims(), first.dims());
            }
            let values = with_slices(&wide, |slices| {
                let terms: Vec<_> = terms.iter().zip(slices).map(|((factor, _), &values)| (*factor, values)).collect();
                cpu::lincomb(&terms, clamp)
            })?;
            Tensor::from_vec(values, first.dims(), &self.device)
        };
        self.wrap("lincomb", sum())
    }

    fn blend(&self, mask: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let blended = || b.broadcast_add(&a.sub(b)?.broadcast_mul(mask)?);
        self.wrap("blend", blended())
    }

    fn concat(&self, parts: &[&Tensor], axis: usize) -> Result<Tensor> {
        let joined = || {
            // What a graph gave may have 16 bits, what the sampler made has 32.
            let is_mixed = parts.iter().any(|part| part.dtype() != parts[0].dtype());
            let parts: Vec<Tensor> = parts
                .iter()
                .map(|&part| if is_mixed { part.to_dtype(DType::F32) } else { Ok(part.clone()) })
                .collect::<candle_core::Result<_>>()?;
            Tensor::cat(&parts, axis)?.contiguous()
        };
        self.wrap("concat", joined())
    }

    fn slice(&self, tensor: &Tensor, axis: usize, start: usize, len: usize) -> Result<Tensor> {
        self.wrap("slice", tensor.narrow(axis, start, len).and_then(|t| t.contiguous()))
    }
}

/// Whether a node is a group norm whose only reader is the silu right behind it.
fn folds_silu(graph: &Graph, last_uses: &[usize], id: NodeId) -> bool {
    let next = id.idx() + 1;
    matches!(graph.node(id).op, Op::GroupNorm { .. })
        && last_uses[id.idx()] == next
        && graph
            .nodes
            .get(next)
            .is_some_and(|node| matches!(node.op, Op::Activation(Activation::Silu)) && node.inputs[0] == id)
}

/// Whether a node is an input that only timestep embeddings read.
fn is_timestep(graph: &Graph, id: NodeId) -> bool {
    let mut readers = graph.nodes.iter().filter(|node| node.inputs.contains(&id)).peekable();
    matches!(graph.node(id).op, Op::Input(_))
        && readers.peek().is_some()
        && readers.all(|node| matches!(node.op, Op::TimestepEmbedding { .. }))
}
