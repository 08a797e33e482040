//! A graph to dispatches: which kernel does each task, on which sizes, and where its operands lie.
//!
//! Nothing is allocated and no device is known here but its limits, so that a program can be looked at without one.

use std::collections::{HashMap, HashSet};

use super::arena::{Place, Span, place};
use super::bands::{BandSizes, banded};
use super::kernels::{
    Element, Launch, activation, add, attention, cast_from_f32, cast_to_f32, copy, embedding, gather, geglu, gemm,
    group_norm, group_norm_apply, group_norm_stats, layer_norm, lincomb, splitk_reduce, timestep_embedding,
};
use super::lower::{GemmTask, Lowered, RowsOf, Task, TaskKind, WeightBuffer, lower, weight_key};
use super::tiles::Tiles;
use crate::error::{Error, Result};
use crate::graph::{Graph, InputKind, Node, NodeId, Op, Phase};

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
    /// The weights that it reads.
    pub weights: Vec<WeightBuffer>,
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
            gemms: Vec::new(),
            name: String::new(),
        };
        let inputs = builder.inputs()?;
        for task in &lowered.tasks {
            builder.name = graph.node(task.node).name.clone();
            builder.task(task)?;
        }
        let outputs = builder.outputs()?;
        let weights = lowered.weights(graph);
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
        Ok(Program {
            name: graph.name.clone(),
            element,
            dispatches,
            slots,
            arena_bytes,
            inputs,
            outputs,
            weights,
            gemms,
        })
    }

    /// Floating-point operations of one run.
    #[must_use]
    pub fn flops(&self) -> u64 {
        self.dispatches.iter().map(|dispatch| dispatch.flops).sum()
    }
}

/// Rows of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rows {
    first: usize,
    n: usize,
}

impl Rows {
    fn end(self) -> usize {
        self.first + self.n
    }

    fn and(self, other: Rows) -> Rows {
        let first = self.first.max(other.first);
        Rows { first, n: self.end().min(other.end()).saturating_sub(first) }
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
    gemms: Vec<gemm::Gemm>,
    name: String,
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

    /// Where a value is that lies in one place. A value that no task has written yet gets its slot now.
    fn whole(&mut self, id: NodeId) -> Result<Operand> {
        let root = self.lowered.roots[id.idx()];
        match self.storages.get(&root) {
            Some(Storage::Whole(operand)) => Ok(operand.clone()),
            Some(_) => self.refuse("reshape", "cannot be read whole, because it is cut into bands"),
            None => {
                let n = self.lowered.n_elements.get(&root).copied().unwrap_or_else(|| self.node(root).n_elements());
                let operand = self.slot(n as u64 * self.element.bytes());
                self.storages.insert(root, Storage::Whole(operand.clone()));
                Ok(operand)
            }
        }
    }

    /// The bands that a value is cut into; made now where it has none.
    fn bands(&mut self, root: NodeId) -> Option<Vec<(Rows, Operand)>> {
        match self.storages.get(&root) {
            Some(Storage::Bands(bands)) => return Some(bands.clone()),
            Some(_) => return None,
            None => {}
        }
        if !self.banded.contains(&root) {
            return None;
        }
        let &[_, height, width, channels] = self.shape(root) else { return None };
        let row_bytes = (width * channels) as u64 * self.element.bytes();
        let rows = self.settings.bands.rows(height, height as u64 * row_bytes);
        let mut bands = Vec::new();
        for first in (0..height).step_by(rows) {
            let n = rows.min(height - first);
            // Its life begins with the dispatch that writes it.
            self.spans.push(Span { n_bytes: n as u64 * row_bytes, first: usize::MAX, last: 0 });
            bands.push((Rows { first, n }, Operand::Slot(self.spans.len() - 1)));
        }
        self.storages.insert(root, Storage::Bands(bands.clone()));
        Some(bands)
    }

    /// A slot that was made early is alive from now on.
    fn begin(&mut self, operand: &Operand) {
        if let Operand::Slot(slot) = operand {
            let at = self.dispatches.len();
            let span = &mut self.spans[*slot];
            span.first = span.first.min(at);
        }
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
                    upsample: conv.upsample,
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
            let out_is_new = !self.storages.contains_key(&task.out);
            return self.product(fused, &gemm, x, residual, |builder| {
                debug_assert!(out_is_new, "a value is written twice");
                builder.whole(task.out)
            });
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
        let (tile, mut splits) = self.settings.tiles.choose(gemm, element)?;
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
            if gemm.source.upsample { " up" } else { "" },
            tile.name
        );
        self.gemms.push(*gemm);
        let vectors = self.weight(&fused.vectors(self.graph));
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
            let launch = gemm::launch(gemm, element, tile, 1)?;
            let operands = vec![source_0, source_1, weight, vectors, time_embedding, residual, out, Operand::Unused];
            self.emit(launch, operands, shape, flops);
            return Ok(());
        }
        let partial = self.slot(gemm.partial_bytes(splits)?);
        let launch = gemm::launch(gemm, element, tile, splits)?;
        let norm = if gemm.norm_eps.is_some() { vectors.clone() } else { Operand::UnusedWeight };
        let operands =
            vec![source_0, source_1, weight, norm, Operand::Unused, Operand::Unused, Operand::Unused, partial.clone()];
        self.emit(launch, operands, shape.clone(), flops);
        let out = out(self)?;
        let launch = splitk_reduce::launch(gemm, element, splits)?;
        let vectors = if gemm.epilogue.bias { vectors } else { Operand::UnusedWeight };
        self.emit(launch, vec![partial, vectors, time_embedding, residual, out], shape, 0);
        Ok(())
    }

    /// A convolution whose picture is cut, before or behind it: the same product for each band of the result.
    fn product_in_bands(
        &mut self,
        task: &Task,
        fused: &GemmTask,
        gemm: &gemm::Gemm,
        out_bands: Option<Vec<(Rows, Operand)>>,
    ) -> Result<()> {
        let (Some(conv), [x]) = (fused.conv, &fused.x[..]) else {
            return self.refuse("conv2d", "cannot read two pictures in bands");
        };
        let height = gemm.source.out_size[0] as usize;
        let parts = match out_bands {
            Some(bands) => bands,
            None => {
                // The result is whole, but no more of the input should be gathered at once than a band.
                let out = self.whole(task.out)?;
                let rows = self.settings.bands.rows(height, self.node(*x).n_elements() as u64 * self.element.bytes());
                (0..height)
                    .step_by(rows)
                    .map(|first| (Rows { first, n: rows.min(height - first) }, out.clone()))
                    .collect()
            }
        };
        let is_cut = self.banded.contains(&task.out);
        let residuals = match fused.residual {
            Some(residual) if is_cut => self.bands(residual),
            _ => None,
        };
        let out_width = gemm.source.out_size[1] as usize;
        let scale = if conv.upsample { 2 } else { 1 };
        let in_height = gemm.source.in_size[0] as usize;
        for (i, (rows, out)) in parts.into_iter().enumerate() {
            // The rows of the input, doubled where that comes first, that the kernel covers.
            let from = (rows.first * conv.stride).saturating_sub(conv.pad[0]) / scale;
            let to = ((rows.end() - 1) * conv.stride + conv.kernel).saturating_sub(conv.pad[0]).div_ceil(scale);
            let wanted = Rows { first: from, n: to.min(in_height) - from };
            let (x, at) = self.rows_of(*x, wanted)?;
            let source = gemm::Source {
                in_size: [at.n as u32, gemm.source.in_size[1]],
                out_size: [rows.n as u32, gemm.source.out_size[1]],
                pad: [
                    conv.pad[0] as i32 - (rows.first * conv.stride) as i32 + (at.first * scale) as i32,
                    gemm.source.pad[1],
                ],
                ..gemm.source
            };
            let first_out_row = if is_cut { 0 } else { (rows.first * out_width) as u32 };
            let gemm = gemm::Gemm { source, first_out_row, ..*gemm };
            let residual = match (&residuals, fused.residual) {
                (Some(bands), _) => Some(bands[i].1.clone()),
                (None, Some(residual)) => Some(self.whole(residual)?),
                (None, None) => None,
            };
            self.product(fused, &gemm, vec![x], residual, |builder| {
                builder.begin(&out);
                Ok(out)
            })?;
        }
        Ok(())
    }

    /// Rows of a picture in one place, and which rows that place holds: the picture itself, one of its bands, or a copy
    /// made now.
    fn rows_of(&mut self, root: NodeId, wanted: Rows) -> Result<(Operand, Rows)> {
        let &[_, height, width, channels] = self.shape(root) else {
            return self.refuse("conv2d", "wants a picture");
        };
        let row_bytes = (width * channels) as u64 * self.element.bytes();
        let all = Rows { first: 0, n: height };
        match self.storages.get(&root).cloned() {
            None | Some(Storage::Whole(_)) => Ok((self.whole(root)?, all)),
            Some(Storage::Bands(bands)) => {
                if let Some((rows, operand)) = bands.iter().find(|(rows, _)| rows.and(wanted) == wanted) {
                    return Ok((operand.clone(), *rows));
                }
                let gathered = self.slot(wanted.n as u64 * row_bytes);
                for (rows, operand) in bands {
                    let part = rows.and(wanted);
                    if part.n == 0 {
                        continue;
                    }
                    let size = [1, part.n, width, channels].map(|n| n as u32);
                    let copy =
                        copy::Copy::rows(size, (part.first - rows.first) as u32, (part.first - wanted.first) as u32);
                    let launch = copy::launch(&copy, self.element)?;
                    self.emit(launch, vec![operand, gathered.clone()], format!("{size:?}"), 0);
                }
                Ok((gathered, wanted))
            }
            Some(Storage::Normed { norm, x, partials, partial_pixels, silu }) => {
                let gathered = self.slot(wanted.n as u64 * row_bytes);
                let bands = match self.storages.get(&x).cloned() {
                    Some(Storage::Bands(bands)) => bands,
                    _ => vec![(all, self.whole(x)?)],
                };
                let node = self.node(norm);
                for (rows, operand) in bands {
                    let part = rows.and(wanted);
                    if part.n == 0 {
                        continue;
                    }
                    let sizes = self.norm_sizes(norm, [channels as u32, 0], part.n * width)?;
                    let band = group_norm::Band {
                        total_pixels: (height * width) as u32,
                        partial_pixels: partial_pixels as u32,
                        pixels_before: 0,
                        from_pixel: ((part.first - rows.first) * width) as u32,
                        to_pixel: ((part.first - wanted.first) * width) as u32,
                    };
                    let launch = group_norm_apply::launch_band(&sizes, &band, self.element, silu)?;
                    let (weight, bias) = (self.weight(&[node.inputs[1]]), self.weight(&[node.inputs[2]]));
                    let operands = vec![operand, Operand::Unused, partials.clone(), weight, bias, gathered.clone()];
                    self.emit(launch, operands, format!("{}x{channels}", part.n * width), 0);
                }
                Ok((gathered, wanted))
            }
        }
    }

    fn norm_sizes(&self, node: NodeId, channels: [u32; 2], pixels: usize) -> Result<group_norm::GroupNorm> {
        let Op::GroupNorm { groups, eps } = self.node(node).op else {
            return self.refuse("group_norm", "is another operation");
        };
        let batch = self.shape(node)[0] as u32;
        Ok(group_norm::GroupNorm { batch, pixels: pixels as u32, channels, groups: groups as u32, eps: eps as f32 })
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
        if norm.fits_one_dispatch()? {
            let out = self.whole(task.out)?;
            operands.extend([weight, bias, out]);
            self.emit(group_norm::launch(&norm, self.element, silu)?, operands, shape, flops);
            return Ok(());
        }
        let parts = self.slot(norm.partial_bytes()?);
        let stats = operands.iter().cloned().chain([parts.clone()]).collect();
        self.emit(group_norm_stats::launch(&norm, self.element)?, stats, shape.clone(), flops);
        let out = self.whole(task.out)?;
        operands.extend([parts, weight, bias, out]);
        self.emit(group_norm_apply::launch(&norm, self.element, silu)?, operands, shape, 0);
        Ok(())
    }

    /// The statistics of all bands now, the normalisation as rows are asked for; or at once, where the result is whole.
    fn group_norm_in_bands(&mut self, task: &Task, x: NodeId, silu: bool, flops: u64) -> Result<()> {
        let &[_, height, width, channels] = self.shape(x) else {
            return self.refuse("group_norm", "wants a picture");
        };
        let bands = match self.storages.get(&x).cloned() {
            Some(Storage::Bands(bands)) => bands,
            _ => vec![(Rows { first: 0, n: height }, self.whole(x)?)],
        };
        // Bands are whole parts: one, or as many as there may be in all and divide a band's rows.
        let rows = bands[0].0.n;
        let most = (group_norm::MAX_CHUNKS as usize / bands.len()).max(1);
        let n_parts = (1..=most.min(rows)).rev().find(|n| rows.is_multiple_of(*n)).unwrap_or(1);
        let partial_pixels = rows / n_parts * width;
        let total_pixels = (height * width) as u32;
        let band_at = |rows: Rows| group_norm::Band {
            total_pixels,
            partial_pixels: partial_pixels as u32,
            pixels_before: (rows.first * width) as u32,
            from_pixel: 0,
            to_pixel: 0,
        };
        let mut partials = None;
        for (rows, operand) in &bands {
            let sizes = self.norm_sizes(task.node, [channels as u32, 0], rows.n * width)?;
            let band = band_at(*rows);
            let partials = match &partials {
                Some(operand) => Operand::clone(operand),
                None => {
                    let slot = self.slot(sizes.partial_bytes_of(&band));
                    partials.insert(slot).clone()
                }
            };
            let launch = group_norm_stats::launch_band(&sizes, &band, self.element)?;
            let operands = vec![operand.clone(), Operand::Unused, partials];
            let share = flops * rows.n as u64 / height as u64;
            self.emit(launch, operands, format!("{}x{channels}", rows.n * width), share);
        }
        let Some(partials) = partials else { return self.refuse("group_norm", "has no bands") };
        let normed = Storage::Normed { norm: task.node, x, partials, partial_pixels, silu };
        if self.banded.contains(&task.out) {
            self.storages.insert(task.out, normed);
            return Ok(());
        }
        // All rows into the place of the result.
        let gathered_at = self.spans.len();
        self.storages.insert(task.out, normed);
        let (gathered, _) = self.rows_of(task.out, Rows { first: 0, n: height })?;
        debug_assert_eq!(gathered, Operand::Slot(gathered_at));
        self.storages.insert(task.out, Storage::Whole(gathered));
        Ok(())
    }

    fn embedding(&mut self, task: &Task, positions: NodeId) -> Result<()> {
        let node = self.node(task.node);
        let &[n_rows, columns] = self.shape(node.inputs[1]) else {
            return self.refuse("embedding", "wants a table [N,D]");
        };
        let n_ids = n_elements(self.shape(node.inputs[0]));
        let n_positions = (self.node(positions).n_elements() / columns.max(1)) as u32;
        let launch = embedding::launch(n_ids, n_rows as u32, columns as u32, Some(n_positions), self.element)?;
        let ids = self.whole(node.inputs[0])?;
        let (table, positions) = (self.weight(&[node.inputs[1]]), self.weight(&[positions]));
        let out = self.whole(task.out)?;
        self.emit(launch, vec![ids, table, out, positions], format!("{n_ids}x{columns}"), 0);
        Ok(())
    }

    fn attention(&mut self, id: NodeId, mut operands: Vec<Operand>, packed: bool) -> Result<()> {
        let node = self.node(id);
        let Op::Attention { heads, scale, causal, .. } = node.op else {
            return self.refuse("attention", "is another operation");
        };
        let keys = if packed { &node.shape } else { self.shape(node.inputs[1]) };
        let (&[batch, queries, width], &[_, keys, _]) = (node.shape.as_slice(), keys) else {
            return self.refuse("attention", "wants [B,T,D]");
        };
        let sizes = [batch, queries, keys, heads, width / heads].map(|n| n as u32);
        let [batch, queries, keys, heads, head_size] = sizes;
        let dense = attention::Attention::dense(batch, queries, keys, heads, head_size, scale as f32, causal);
        let attention = if packed { dense.packed() } else { dense };
        let launch = attention::launch(&attention, self.element)?;
        operands.push(self.whole(id)?);
        let shape = format!("{batch}x{heads}x{queries}x{keys}x{head_size}");
        self.emit(launch, operands, shape, self.graph.cost(node).flops);
        Ok(())
    }

    /// An operand of a node that is a kernel of its own: a weight by itself, or a value.
    fn operand(&mut self, id: NodeId) -> Result<Operand> {
        let root = self.lowered.roots[id.idx()];
        if matches!(self.node(root).op, Op::Weight) {
            return Ok(Operand::Weight(weight_key(self.graph, &[root])));
        }
        self.whole(id)
    }

    /// A node that is a kernel of its own.
    fn plain(&mut self, id: NodeId) -> Result<()> {
        let element = self.element;
        let node = self.node(id);
        let flops = self.graph.cost(node).flops;
        let inputs = node.inputs.iter().map(|&input| self.operand(input)).collect::<Result<Vec<_>>>()?;
        let shapes: Vec<&[usize]> = node.inputs.iter().map(|&input| self.shape(input)).collect();
        let total = n_elements(&node.shape);
        let shape = format!("{:?}", node.shape);
        let columns = node.shape.last().copied().unwrap_or(1) as u32;
        let with_out = |operands: Vec<Operand>, out: Operand| operands.into_iter().chain([out]).collect();
        match &node.op {
            Op::LayerNorm { eps } => {
                let launch = layer_norm::launch(total / columns.max(1), columns, *eps as f32, element)?;
                let out = self.whole(id)?;
                self.emit(launch, with_out(inputs, out), shape, flops);
            }
            Op::Activation(kind) => {
                let launch = activation::launch(*kind, total, element)?;
                let out = self.whole(id)?;
                self.emit(launch, with_out(inputs, out), shape, flops);
            }
            Op::Geglu => {
                let launch = geglu::launch(total / columns.max(1), columns, element)?;
                let out = self.whole(id)?;
                self.emit(launch, with_out(inputs, out), shape, flops);
            }
            Op::Add => {
                let launch = add::launch(four(shapes[0])?, four(shapes[1])?, element)?;
                let out = self.whole(id)?;
                self.emit(launch, with_out(inputs, out), shape, flops);
            }
            Op::Scale { factor } => {
                let launch = lincomb::launch(&[*factor as f32], total, None, element)?;
                let out = self.whole(id)?;
                let unused = vec![Operand::Unused; lincomb::MAX_TERMS - 1];
                let operands = inputs.into_iter().chain(unused).chain([out]).collect();
                self.emit(launch, operands, shape, flops);
            }
            Op::Concat { axis } => {
                let whole = four(&node.shape)?;
                let axis = axis + 4 - node.shape.len();
                let mut start = 0;
                let out = self.whole(id)?;
                for (input, part_shape) in inputs.into_iter().zip(&shapes) {
                    let part = four(part_shape)?;
                    let launch = copy::launch(&copy::Copy::into_part(part, whole, axis, start), element)?;
                    self.emit(launch, vec![input, out.clone()], shape.clone(), 0);
                    start += part[axis];
                }
            }
            Op::Slice { axis, start, len } => {
                let axis4 = axis + 4 - node.shape.len();
                let slice = copy::Copy::slice(four(shapes[0])?, axis4, *start as u32, *len as u32);
                let launch = copy::launch(&slice, element)?;
                let out = self.whole(id)?;
                self.emit(launch, with_out(inputs, out), shape, 0);
            }
            Op::Embedding => {
                let &[n_rows, columns] = shapes[1] else { return self.refuse("embedding", "wants a table [N,D]") };
                let (n_ids, n_rows, columns) = (n_elements(shapes[0]), n_rows as u32, columns as u32);
                let is_weight = matches!(inputs[1], Operand::Weight(_));
                let out = self.whole(id)?;
                let mut operands: Vec<Operand> = with_out(inputs, out);
                let launch = if is_weight {
                    operands.push(Operand::UnusedWeight);
                    embedding::launch(n_ids, n_rows, columns, None, element)?
                } else {
                    gather::launch(n_ids, n_rows, columns, element)?
                };
                self.emit(launch, operands, shape, flops);
            }
            Op::TimestepEmbedding { dim, flip_sin_to_cos, freq_shift } => {
                let n = n_elements(shapes[0]);
                let launch = timestep_embedding::launch(n, *dim as u32, *flip_sin_to_cos, *freq_shift, element)?;
                let out = self.whole(id)?;
                self.emit(launch, with_out(inputs, out), shape, flops);
            }
            Op::Attention { .. } => return self.attention(id, inputs, false),
            _ => return self.refuse(node.op.name(), "has no kernel"),
        }
        Ok(())
    }
}
