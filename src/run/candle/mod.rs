//! The candle runner: a graph node by node on candle tensors, on the CPU, in wasm, or on CUDA. The reference for the
//! WebGPU runner, and what serves machines without a GPU.
//!
//! On the CPU activations are f32 and the heavy operations are this crate's own (`run::cpu`); weights are held in the type
//! asked for, also in blocks of codes that are dequantised as each is used. On CUDA everything is candle's own operations
//! (`plain.rs`) in the type asked for, except graphs that need f32: for those the weights are widened when they are used.
//! Between graphs the sampler's tensors are f32. A value is freed after its last use.

mod held;
mod nodes;
mod plain;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};

use candle_core::{DType, Device, Shape, Tensor};

use self::held::Held;
use self::nodes::{Failed, with_slices};
use self::plain::{OPERATIONS, Operations};
use crate::error::{Error, Result};
use crate::graph::{Activation, Graph, NodeId, Op};
use crate::run::cpu;
pub use crate::run::cpu::Scores;
use crate::run::{Colours, Runner};
use crate::weights::{WeightType, Weights};

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
#[derive(Clone, Copy, Debug)]
enum Kernels {
    /// This crate's, on f32 slices.
    Cpu,
    /// candle's.
    Plain(&'static Operations),
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
        Self::new(Device::Cpu, precision, Kernels::Plain(&OPERATIONS))
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
        Ok(Self::new(device, precision, Kernels::Plain(&OPERATIONS)))
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
            Kernels::Plain(_) => self.precision,
        }
    }

    fn program(graph: Graph, precision: Precision) -> CandleProgram {
        let last_uses = graph.last_uses();
        CandleProgram { graph, last_uses, dtype: precision.dtype() }
    }
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

    async fn load(
        &self,
        graphs: &[Graph],
        weights: &Weights,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<CandleWeights> {
        let mut placed = HashMap::new();
        let mut n_bytes = 0;
        for spec in &graphs.iter().flat_map(Graph::weights).collect::<Vec<_>>() {
            if placed.contains_key(&spec.name) {
                continue;
            }
            let values = self.read(spec, weights).await?;
            n_bytes += weights.get(&spec.name).map_or(0, |info| info.n_bytes);
            placed.insert(spec.name.clone(), self.wrap(&spec.name, self.place(spec, values))?);
            if !progress(n_bytes) {
                return Err(Error::Cancelled);
            }
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
            matches!(self.kernels, Kernels::Plain(_))
                && tensor.dtype().is_float()
                && !is_timestep(graph, NodeId(id as u32))
        };
        let typed = |id: usize, tensor: &Tensor| {
            if is_typed(id, tensor) { self.as_type(tensor, *dtype) } else { Ok(tensor.clone()) }
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
                    let mut go_on = || progress(flops);
                    match self.node(program, node, &operands, silu_follows, &mut cpu::TimeSlices::new(&mut go_on)) {
                        Ok(value) => value,
                        Err(Failed::Stopped) => return Err(Error::Cancelled),
                        Err(Failed::Candle(error)) => return Err(self.error(&name, &error)),
                    }
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
        let values = self.as_type(tensor, DType::F32).and_then(|t| t.flatten_all()?.to_vec1::<f32>());
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
                .map(|(_, x)| self.as_type(x, DType::F32)?.to_device(&Device::Cpu)?.contiguous())
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
        let blended = || match self.kernels {
            Kernels::Plain(plain) => (plain.blend)(mask, a, b),
            Kernels::Cpu => {
                let (shape, mask_shape) = (<[usize; 4]>::from(a.dims4()?), <[usize; 4]>::from(mask.dims4()?));
                let repeats = shape.iter().zip(&mask_shape).all(|(n, m)| n == m || *m == 1);
                if a.dims() != b.dims() || !repeats {
                    candle_core::bail!("cannot blend {:?} and {:?} by {:?}", a.dims(), b.dims(), mask.dims());
                }
                let [mask, a, b] = [mask, a, b].map(Tensor::contiguous);
                let values = with_slices(&[mask?, a?, b?], |x| cpu::blend(x[0], x[1], x[2], shape, mask_shape))?;
                Tensor::from_vec(values, &shape, &self.device)
            }
        };
        self.wrap("blend", blended())
    }

    fn concat(&self, parts: &[&Tensor], axis: usize) -> Result<Tensor> {
        let joined = || {
            // What a graph gave may have 16 bits, what the sampler made has 32.
            let is_mixed = parts.iter().any(|part| part.dtype() != parts[0].dtype());
            let parts: Vec<Tensor> = parts
                .iter()
                .map(|&part| if is_mixed { self.as_type(part, DType::F32) } else { Ok(part.clone()) })
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
