//! A graph to dispatches: which kernel does each task, on which sizes, and where its operands lie.
//!
//! Nothing is allocated and no device is known here but its limits, so that a program can be looked at without one.
//!
//! One fusion is done here and not while lowering, because whether a sum is cut depends on the picture's size: a group norm
//! takes the place of the dispatch that adds the parts of the product in front of it.

mod bands;
mod plain;

use std::collections::{HashMap, HashSet};

use super::arena::{Place, Span, place};
use super::bands::{BandSizes, banded};
use super::kernels::{
    Element, Launch, cast_from_f32, cast_to_f32, gemm, group_norm, group_norm_apply, group_norm_stats, layer_norm,
    splitk_group_norm, splitk_reduce,
};
use super::lower::{GemmTask, Lowered, RowsOf, Task, TaskKind, lower, weight_key};
use super::tiles::Tiles;
use crate::error::{Error, Result};
use crate::graph::{Graph, InputKind, Node, NodeId, Op, Phase};
use bands::Rows;

/// Where an operand of a dispatch is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A slot of the arena.
    Slot(usize),
    /// An input of the run, by name: what another graph computed, or ids.
    Input(String),
    /// A buffer of weights, by its key.
    Weight(String),
    /// Not read or written: an activation's binding that the launch does not use.
    Unused,
    /// The same for a weight's binding.
    UnusedWeight,
}

/// One dispatch.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// What runs.
    pub launch: Launch,
    /// What is bound behind the parameters.
    pub operands: Vec<Operand>,
    /// The node's name, for errors.
    pub name: String,
    /// The sizes, for profiles.
    pub shape: String,
    /// Floating-point operations, for cutting submits and for progress.
    pub flops: u64,
}

/// A value given at a run.
#[derive(Clone, Debug)]
pub struct ProgramInput {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// What it is.
    pub kind: InputKind,
    /// The slot of the arena that f32 values are copied to; the others are read where they are.
    pub slot: Option<usize>,
}

/// A result.
#[derive(Clone, Debug)]
pub struct ProgramOutput {
    /// Where it is when all dispatches are done.
    pub operand: Operand,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its type.
    pub element: Element,
}

/// What a program is made for.
#[derive(Clone, Copy)]
pub struct Settings<'a> {
    /// The type of activations; a graph that needs f32 gets it.
    pub element: Element,
    /// The adapter's cooperative matrices, where they may be used.
    pub matrices: Option<gemm::Matrices>,
    /// Workgroup memory of one workgroup in bytes.
    pub max_workgroup_bytes: u32,
    /// The largest range that a binding may see, in bytes.
    pub max_binding_bytes: u64,
    /// The largest buffer, in bytes.
    pub max_buffer_bytes: u64,
    /// How large pictures are cut.
    pub bands: BandSizes,
    /// Which tile serves which product.
    pub tiles: &'a Tiles,
}

/// A graph ready to be recorded.
#[derive(Debug)]
pub struct Program {
    /// The graph's name.
    pub name: String,
    /// The type of activations.
    pub element: Element,
    /// In order.
    pub dispatches: Vec<Dispatch>,
    /// Place and bytes of each slot of the arena.
    pub slots: Vec<(Place, u64)>,
    /// Bytes of each buffer of the arena.
    pub arena_bytes: Vec<u64>,
    /// What is given.
    pub inputs: Vec<ProgramInput>,
    /// What comes out.
    pub outputs: Vec<ProgramOutput>,
    /// The products in it, for whoever measures tiles.
    pub gemms: Vec<gemm::Gemm>,
}

impl Program {
    /// Chooses kernels, sizes and places.
    ///
    /// # Errors
    /// [`Error::Limit`] when a value is larger than the adapter lets a kernel see; [`Error::Shape`] when a size is beyond
    /// what a kernel can address.
    pub fn new(graph: &Graph, settings: Settings<'_>) -> Result<Self> {
        let element = if graph.needs_f32 { Element::F32 } else { settings.element };
        let lowered = lower(graph);
        let mut builder = Builder {
            graph,
            element,
            settings,
            banded: banded(graph, &lowered, element, settings.bands),
            lowered: &lowered,
            storages: HashMap::new(),
            spans: Vec::new(),
            dispatches: Vec::new(),
            reduction: None,
            gemms: Vec::new(),
            name: String::new(),
        };
        let inputs = builder.inputs()?;
        for task in &lowered.tasks {
            builder.name = graph.node(task.node).name.clone();
            builder.task(task)?;
        }
        let outputs = builder.outputs()?;
        let Builder { spans, dispatches, gemms, .. } = builder;
        if let Some(span) = spans.iter().find(|span| span.n_bytes > settings.max_binding_bytes) {
            let node = dispatches.get(span.first).map_or(graph.name.as_str(), |dispatch| dispatch.name.as_str());
            return Err(Error::Limit {
                what: format!("{}: {node}", graph.name),
                needs: span.n_bytes,
                allows: settings.max_binding_bytes,
            });
        }
        let (places, arena_bytes) = place(&spans, settings.max_buffer_bytes);
        let slots = places.into_iter().zip(&spans).map(|(place, span)| (place, span.n_bytes)).collect();
        Ok(Program { name: graph.name.clone(), element, dispatches, slots, arena_bytes, inputs, outputs, gemms })
    }
}

/// Where a value is.
#[derive(Clone, Debug)]
enum Storage {
    /// In one place.
    Whole(Operand),
    /// In bands of rows.
    Bands(Vec<(Rows, Operand)>),
    /// Nowhere yet: a group norm of another value, done as its rows are asked for.
    Normed { norm: NodeId, x: NodeId, partials: Operand, partial_pixels: usize, silu: bool },
}

struct Builder<'a> {
    graph: &'a Graph,
    element: Element,
    settings: Settings<'a>,
    banded: HashSet<NodeId>,
    lowered: &'a Lowered,
    storages: HashMap<NodeId, Storage>,
    spans: Vec<Span>,
    dispatches: Vec<Dispatch>,
    /// The last dispatch that adds the parts of a product; of use while none has followed it.
    reduction: Option<Reduction>,
    gemms: Vec<gemm::Gemm>,
    name: String,
}

/// A dispatch of `splitk_reduce`.
struct Reduction {
    /// Its place among the dispatches.
    at: usize,
    gemm: gemm::Gemm,
    splits: u32,
}

/// A shape as four dimensions, ones in front.
pub(super) fn four(shape: &[usize]) -> Result<[u32; 4]> {
    if shape.len() > 4 {
        return Err(Error::Shape { node: format!("{shape:?}"), op: "reshape", reason: "has more than 4 axes".into() });
    }
    let mut four = [1; 4];
    for (to, &from) in four[4 - shape.len()..].iter_mut().zip(shape) {
        *to = from as u32;
    }
    Ok(four)
}

fn n_elements(shape: &[usize]) -> u32 {
    shape.iter().product::<usize>() as u32
}

impl<'a> Builder<'a> {
    fn node(&self, id: NodeId) -> &'a Node {
        self.graph.node(id)
    }

    fn shape(&self, id: NodeId) -> &'a [usize] {
        &self.node(id).shape
    }

    fn machine(&self) -> gemm::Machine {
        let Settings { matrices, max_workgroup_bytes, .. } = self.settings;
        gemm::Machine { element: self.element, matrices, workgroup_bytes: max_workgroup_bytes }
    }

    fn refuse<T>(&self, op: &'static str, reason: impl Into<String>) -> Result<T> {
        Err(Error::Shape { node: format!("{}: {}", self.graph.name, self.name), op, reason: reason.into() })
    }

    fn slot(&mut self, n_bytes: u64) -> Operand {
        let at = self.dispatches.len();
        self.spans.push(Span { n_bytes: n_bytes.next_multiple_of(4).max(16), first: at, last: at });
        Operand::Slot(self.spans.len() - 1)
    }

    fn keep_until(&mut self, operand: &Operand, dispatch: usize) {
        if let Operand::Slot(slot) = operand {
            self.spans[*slot].last = dispatch;
        }
    }

    fn emit(&mut self, launch: Launch, operands: Vec<Operand>, shape: String, flops: u64) {
        let at = self.dispatches.len();
        operands.iter().for_each(|operand| self.keep_until(operand, at));
        self.dispatches.push(Dispatch { launch, operands, name: self.name.clone(), shape, flops });
    }

    /// Values go to slots in f32, and from there to the type of activations where they are not of it.
    fn inputs(&mut self) -> Result<Vec<ProgramInput>> {
        let mut inputs = Vec::new();
        for (idx, node) in self.graph.nodes.iter().enumerate() {
            let Op::Input(kind) = node.op else { continue };
            let id = NodeId(idx as u32);
            let mut slot = None;
            let mut operand = Operand::Input(node.name.clone());
            if kind == InputKind::Values && self.is_read(id) {
                operand = self.slot(4 * node.n_elements() as u64);
                if let Operand::Slot(idx) = operand {
                    slot = Some(idx);
                }
            }
            self.storages.insert(id, Storage::Whole(operand));
            inputs.push(ProgramInput { name: node.name.clone(), shape: node.shape.clone(), kind, slot });
        }
        if self.element == Element::F32 {
            return Ok(inputs);
        }
        for (idx, node) in self.graph.nodes.iter().enumerate() {
            let id = NodeId(idx as u32);
            // Time steps are read in f32 by the one kernel that reads them.
            if !matches!(node.op, Op::Input(InputKind::Values)) || self.is_time(id) || !self.is_read(id) {
                continue;
            }
            let Some(Storage::Whole(wide)) = self.storages.get(&id).cloned() else { continue };
            self.name.clone_from(&node.name);
            let narrow = self.slot(node.n_elements() as u64 * self.element.bytes());
            let launch = cast_from_f32::launch(n_elements(&node.shape), self.element)?;
            self.emit(launch, vec![wide, narrow.clone()], format!("{:?}", node.shape), 0);
            self.storages.insert(id, Storage::Whole(narrow));
        }
        Ok(inputs)
    }

    fn is_read(&self, id: NodeId) -> bool {
        self.graph.nodes.iter().any(|node| node.inputs.contains(&id))
    }

    fn is_time(&self, id: NodeId) -> bool {
        let mut readers = self.graph.nodes.iter().filter(|node| node.inputs.contains(&id));
        readers.all(|node| matches!(node.op, Op::TimestepEmbedding { .. }))
    }

    /// What goes on to the sampler or the caller leaves in f32.
    fn outputs(&mut self) -> Result<Vec<ProgramOutput>> {
        let mut outputs = Vec::new();
        for (name, id) in &self.graph.outputs {
            self.name.clone_from(name);
            let shape = self.shape(*id).to_vec();
            let mut operand = self.whole(*id)?;
            let mut element = self.element;
            if self.graph.phase != Phase::Prompt && element != Element::F32 {
                let wide = self.slot(4 * u64::from(n_elements(&shape)));
                let launch = cast_to_f32::launch(n_elements(&shape), element)?;
                self.emit(launch, vec![operand, wide.clone()], format!("{shape:?}"), 0);
                (operand, element) = (wide, Element::F32);
            }
            outputs.push(ProgramOutput { operand, shape, element });
        }
        let end = self.dispatches.len();
        for output in &outputs {
            self.keep_until(&output.operand, end);
        }
        Ok(outputs)
    }

    /// Where a value is that lies in one place, for a task that reads it.
    fn whole(&mut self, id: NodeId) -> Result<Operand> {
        let root = self.lowered.roots[id.idx()];
        match self.storages.get(&root) {
            Some(Storage::Whole(operand)) => Ok(operand.clone()),
            Some(_) => self.refuse("reshape", "cannot be read whole, because it is cut into bands"),
            // A slot made now would hold whatever lay there before: a picture of rubbish instead of an error.
            None => self.refuse("reshape", format!("reads {}, which nothing has written", self.node(root).name)),
        }
    }

    /// Where a task writes its value, which lies in one place. Its slot is made with the first dispatch that writes it.
    fn room(&mut self, id: NodeId) -> Result<Operand> {
        let root = self.lowered.roots[id.idx()];
        if self.storages.contains_key(&root) {
            return self.whole(root);
        }
        let n = self.lowered.n_elements.get(&root).copied().unwrap_or_else(|| self.node(root).n_elements());
        let operand = self.slot(n as u64 * self.element.bytes());
        self.storages.insert(root, Storage::Whole(operand.clone()));
        Ok(operand)
    }

    fn weight(&self, parts: &[NodeId]) -> Operand {
        if parts.is_empty() { Operand::UnusedWeight } else { Operand::Weight(weight_key(self.graph, parts)) }
    }

    fn task(&mut self, task: &Task) -> Result<()> {
        match &task.kind {
            TaskKind::Gemm(gemm) => self.gemm(task, gemm),
            TaskKind::GroupNorm { x, silu } => self.group_norm(task, x, *silu),
            TaskKind::PackedAttention { qkv } => {
                let qkv = self.whole(*qkv)?;
                self.attention(task.node, vec![qkv, Operand::Unused, Operand::Unused], true)
            }
            TaskKind::Embedding { positions } => self.embedding(task, *positions),
            TaskKind::Plain => self.plain(task.node),
        }
    }

    fn gemm(&mut self, task: &Task, fused: &GemmTask) -> Result<()> {
        let x_shape = match fused.norm {
            Some(norm) => self.shape(norm),
            None => self.shape(self.node(task.node).inputs[0]),
        };
        let n = fused.weights.iter().map(|&weight| self.shape(weight)[0]).sum::<usize>() as u32;
        let channels = match fused.x[..] {
            [a, b] => [a, b].map(|part| self.shape(part).last().copied().unwrap_or(0) as u32),
            _ => [x_shape.last().copied().unwrap_or(0) as u32, 0],
        };
        let source = match fused.conv {
            Some(conv) => {
                let out = self.shape(task.node);
                gemm::Source {
                    batch: x_shape[0] as u32,
                    in_size: [x_shape[1] as u32, x_shape[2] as u32],
                    channels,
                    out_size: [out[1] as u32, out[2] as u32],
                    kernel: conv.kernel as u32,
                    stride: conv.stride as u32,
                    pad: [conv.pad[0] as i32, conv.pad[1] as i32],
                    upsample: conv.upsample.map(|size| size.map(|side| side as u32)),
                }
            }
            None => {
                let rows = x_shape[1..x_shape.len() - 1].iter().product::<usize>();
                gemm::Source::rows(x_shape[0] as u32, rows as u32, channels[0])
            }
        };
        let vector = |rows: RowsOf| gemm::RowVector { stride: rows.stride as u32, offset: rows.offset as u32 };
        let epilogue = gemm::Epilogue {
            bias: !fused.biases.is_empty(),
            time_embedding: fused.time_embedding.map(vector),
            activation: fused.activation,
            geglu: fused.geglu,
            residual: fused.residual.is_some(),
            relu_last: fused.relu_last,
        };
        let norm_eps = fused.norm.and_then(|norm| match self.node(norm).op {
            Op::LayerNorm { eps } => Some(eps as f32),
            _ => None,
        });
        let gemm = gemm::Gemm { norm_eps, ..gemm::Gemm::new(source, n, epilogue) };
        let out_bands = self.bands(task.out);
        let x_is_whole = fused.x.iter().all(|x| matches!(self.storages.get(x), Some(Storage::Whole(_))));
        if out_bands.is_none() && x_is_whole {
            let x = fused.x.iter().map(|&x| self.whole(x)).collect::<Result<Vec<_>>>()?;
            let residual = fused.residual.map(|id| self.whole(id)).transpose()?;
            return self.product(fused, &gemm, x, residual, |builder| builder.room(task.out));
        }
        self.product_in_bands(task, fused, &gemm, out_bands)
    }

    /// One product, as one dispatch or as parts of its sums and their reduction.
    fn product(
        &mut self,
        fused: &GemmTask,
        gemm: &gemm::Gemm,
        x: Vec<Operand>,
        residual: Option<Operand>,
        out: impl FnOnce(&mut Self) -> Result<Operand>,
    ) -> Result<()> {
        let element = self.element;
        let machine = self.machine();
        let (tile, mut splits) = self.settings.tiles.choose(gemm, &machine)?;
        // Fewer parts where an adapter allows little.
        while splits > 1 && gemm.partial_bytes(splits)? > self.settings.max_binding_bytes {
            splits -= 1;
        }
        let m = gemm.m()?;
        let flops = 2 * u64::from(m) * u64::from(gemm.n) * u64::from(gemm.k());
        let shape = format!(
            "{m}x{}x{}{}{} tile {}/{splits}",
            gemm.n,
            gemm.k(),
            if gemm.source.kernel > 1 { " 3x3" } else { "" },
            if gemm.source.upsample.is_some() { " up" } else { "" },
            tile.name
        );
        self.gemms.push(*gemm);
        let vectors = self.weight(&fused.vectors(self.graph));
        // Cooperative matrices take rows as they are.
        let mut x = x;
        let normed = match gemm.norm_eps {
            Some(eps) if tile.is_of_matrices() => {
                x = vec![self.normalised_rows(gemm, eps, x, vectors.clone())?];
                gemm::Gemm { norm_eps: None, ..*gemm }
            }
            _ => *gemm,
        };
        let gemm = &normed;
        let weight = self.weight(&fused.weights);
        let time_embedding = match fused.time_embedding {
            Some(rows) => self.whole(rows.root)?,
            None => Operand::Unused,
        };
        let residual = residual.unwrap_or(Operand::Unused);
        let mut x = x.into_iter();
        let sources = [x.next().unwrap_or(Operand::Unused), x.next().unwrap_or(Operand::Unused)];
        let [source_0, source_1] = sources;
        if splits == 1 {
            let out = out(self)?;
            let launch = gemm::launch(gemm, &machine, tile, 1)?;
            let operands = vec![source_0, source_1, weight, vectors, time_embedding, residual, out, Operand::Unused];
            self.emit(launch, operands, shape, flops);
            return Ok(());
        }
        let partial = self.slot(gemm.partial_bytes(splits)?);
        let launch = gemm::launch(gemm, &machine, tile, splits)?;
        let norm = if gemm.norm_eps.is_some() { vectors.clone() } else { Operand::UnusedWeight };
        let operands =
            vec![source_0, source_1, weight, norm, Operand::Unused, Operand::Unused, Operand::Unused, partial.clone()];
        self.emit(launch, operands, shape.clone(), flops);
        let out = out(self)?;
        let launch = splitk_reduce::launch(gemm, element, splits)?;
        let vectors = if gemm.epilogue.bias { vectors } else { Operand::UnusedWeight };
        self.reduction = Some(Reduction { at: self.dispatches.len(), gemm: *gemm, splits });
        self.emit(launch, vec![partial, vectors, time_embedding, residual, out], shape, 0);
        Ok(())
    }

    /// The rows of a product, layer-normalised into a slot of their own; `vectors` is what the product itself would read.
    fn normalised_rows(&mut self, gemm: &gemm::Gemm, eps: f32, x: Vec<Operand>, vectors: Operand) -> Result<Operand> {
        let (rows, columns) = (gemm.m()?, gemm.k());
        let out = self.slot(u64::from(rows) * u64::from(columns) * self.element.bytes());
        let first = if gemm.epilogue.bias { gemm.n } else { 0 };
        let launch = layer_norm::launch_of_vectors(rows, columns, eps, [first, first + columns], self.element)?;
        let operands = x.into_iter().take(1).chain([vectors.clone(), vectors, out.clone()]).collect();
        self.emit(launch, operands, format!("{rows}x{columns}"), 0);
        Ok(out)
    }

    fn norm_sizes(&self, node: NodeId, channels: [u32; 2], pixels: usize) -> Result<group_norm::GroupNorm> {
        let Op::GroupNorm { groups, eps } = self.node(node).op else {
            return self.refuse("group_norm", "is another operation");
        };
        let batch = self.shape(node)[0] as u32;
        Ok(group_norm::GroupNorm { batch, pixels: pixels as u32, channels, groups: groups as u32, eps: eps as f32 })
    }

    /// Takes back the last dispatch if it adds the parts of the one value `x` and the norm can do that itself.
    fn take_reduction(&mut self, x: &[Operand], norm: &group_norm::GroupNorm) -> Result<Option<(Reduction, Dispatch)>> {
        let Some(reduction) = self.reduction.take_if(|reduction| reduction.at + 1 == self.dispatches.len()) else {
            return Ok(None);
        };
        let is_of_x = self.dispatches.last().is_some_and(|dispatch| dispatch.operands.last() == x.first());
        if !is_of_x || !splitk_group_norm::suits(&reduction.gemm, reduction.splits, norm)? {
            return Ok(None);
        }
        Ok(self.dispatches.pop().map(|dispatch| (reduction, dispatch)))
    }

    fn group_norm(&mut self, task: &Task, x: &[NodeId], silu: bool) -> Result<()> {
        let node = self.node(task.node);
        let n_channels = node.shape.last().copied().unwrap_or(1);
        let pixels = node.n_elements() / (node.shape[0] * n_channels).max(1);
        let flops = self.graph.cost(node).flops;
        if let [x] = x
            && (self.banded.contains(&task.out) || matches!(self.storages.get(x), Some(Storage::Bands(_))))
        {
            return self.group_norm_in_bands(task, *x, silu, flops);
        }
        let channels = match x {
            &[a, b] => [a, b].map(|part| self.shape(part).last().copied().unwrap_or(0) as u32),
            _ => [n_channels as u32, 0],
        };
        let norm = self.norm_sizes(task.node, channels, pixels)?;
        let mut operands = x.iter().map(|&x| self.whole(x)).collect::<Result<Vec<_>>>()?;
        operands.resize(2, Operand::Unused);
        let shape = format!("{}x{pixels}x{n_channels}", node.shape[0]);
        let (weight, bias) = (self.weight(&[node.inputs[1]]), self.weight(&[node.inputs[2]]));
        if let Some((Reduction { gemm, splits, .. }, reduce)) = self.take_reduction(&operands, &norm)? {
            let launch = splitk_group_norm::launch(&gemm, splits, &norm, self.element, silu)?;
            // In the reduction's place now, so that it cannot share memory with anything that is read there.
            let out = self.room(task.out)?;
            let operands = reduce.operands.into_iter().chain([weight, bias, out]).collect();
            self.emit(launch, operands, format!("{shape} of {splits} parts"), flops);
            return Ok(());
        }
        if norm.fits_one_dispatch()? {
            let out = self.room(task.out)?;
            operands.extend([weight, bias, out]);
            self.emit(group_norm::launch(&norm, self.element, silu)?, operands, shape, flops);
            return Ok(());
        }
        let parts = self.slot(norm.partial_bytes()?);
        let stats = operands.iter().cloned().chain([parts.clone()]).collect();
        self.emit(group_norm_stats::launch(&norm, self.element)?, stats, shape.clone(), flops);
        let out = self.room(task.out)?;
        operands.extend([parts, weight, bias, out]);
        self.emit(group_norm_apply::launch(&norm, self.element, silu)?, operands, shape, 0);
        Ok(())
    }
}
