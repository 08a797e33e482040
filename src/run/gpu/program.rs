//! Compiles a graph to dispatches: the kernel and sizes of each task, and where its operands lie.
//!
//! Nothing is allocated and no device is known here but its limits, so that a program can be looked at without one.
//!
//! One fusion is decided here and not while lowering, because whether a sum is cut depends on the picture's size: a group
//! norm adds the parts of the product in front of it.

mod banded;
pub(super) mod groups;
mod keeping;

use std::rc::Rc;

use super::arena::{Place, Span, place};
use super::bands::{BandSizes, Cuts};
use super::emit::{Dispatch, Emitter, Keeping, Operand, Storage};
use super::kernel::{Element, Machine};
use super::kernels::attention::{self, Attention};
use super::kernels::products::{Banded, Gemm, Parts, Products, tiles::Tiles};
use super::kernels::{elementwise, group_norm, layer_norm};
use super::lower::{Lowered, Task, TaskKind};
use crate::error::{Error, Result};
use crate::graph::{Graph, InputKind, NodeId, Op, Output, OutputKind};

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
    /// What decides which kernels run; a graph that needs activations in f32 gets them.
    pub machine: Machine,
    /// The largest range that a binding may see, in bytes.
    pub max_binding_bytes: u64,
    /// The largest buffer, in bytes.
    pub max_buffer_bytes: u64,
    /// How large pictures are cut.
    pub bands: BandSizes,
    /// Which tile serves which product, and what attentions multiply in.
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
    /// The products in it, for the tuner.
    pub gemms: Vec<Gemm>,
    /// The attentions in it, likewise.
    pub attentions: Vec<Attention>,
}

impl Program {
    /// Chooses kernels, sizes and places for a graph and its tasks.
    ///
    /// # Errors
    /// [`Error::Limit`] when a value is larger than the adapter lets a kernel see; [`Error::Shape`] when a size is beyond
    /// what a kernel can address.
    pub fn new(graph: &Graph, lowered: &Lowered, settings: Settings<'_>) -> Result<Self> {
        let element = if graph.needs_f32 { Element::F32 } else { settings.machine.element };
        let Settings { max_binding_bytes, max_buffer_bytes, bands, .. } = settings;
        let machine = Machine { element, ..settings.machine };
        let cuts = banded::banded(graph, lowered, element, bands);
        let cuts = if cuts.portions.is_empty() {
            cuts
        } else {
            // With the default tiles, as a plan has them: what is kept does not depend on what was measured.
            let tiles = Tiles::default();
            let by_default = Settings { tiles: &tiles, ..settings };
            let emit = |cuts: &Cuts| emit(graph, lowered, by_default, machine, cuts);
            keeping::known_or(graph, machine, max_binding_bytes, bands, || keeping::frugal(cuts, bands, emit))?
        };
        let emitted = emit(graph, lowered, settings, machine, &cuts)?;
        let Emitted { inputs, outputs, spans, dispatches, gemms, attentions, .. } = emitted;
        if let Some(span) = spans.iter().find(|span| span.n_bytes > max_binding_bytes) {
            let node = dispatches.get(span.first).map_or(graph.name.as_str(), |dispatch| dispatch.name.as_str());
            return Err(Error::Limit {
                what: format!("{}: {node}", graph.name),
                needs: span.n_bytes,
                allows: max_binding_bytes,
            });
        }
        let (places, arena_bytes) = place(&spans, max_buffer_bytes);
        let slots = places.into_iter().zip(&spans).map(|(place, span)| (place, span.n_bytes)).collect();
        let name = graph.name.clone();
        Ok(Program { name, element, dispatches, slots, arena_bytes, inputs, outputs, gemms, attentions })
    }
}

/// What emission gives, before values have places.
struct Emitted {
    inputs: Vec<ProgramInput>,
    outputs: Vec<ProgramOutput>,
    spans: Vec<Span>,
    dispatches: Vec<Dispatch>,
    gemms: Vec<Gemm>,
    attentions: Vec<Attention>,
    keepings: Vec<Keeping>,
}

/// Emits all tasks of a graph, with some values cut.
fn emit(graph: &Graph, lowered: &Lowered, settings: Settings<'_>, machine: Machine, cuts: &Cuts) -> Result<Emitted> {
    let Settings { max_binding_bytes, bands, tiles, .. } = settings;
    let mut emitter = Emitter::new(graph, &lowered.values, machine, max_binding_bytes, bands, cuts);
    let inputs = emit_inputs(&mut emitter)?;
    let products = Products { tiles, gemms: Rc::default() };
    let mut attentions = Vec::new();
    let mut parts = None;
    for (i, task) in lowered.tasks.iter().enumerate() {
        emitter.name.clone_from(&graph.node(task.node).name);
        let banded = match &task.kind {
            TaskKind::Product(product) => products.begin(&mut emitter, product, task.node, task.out)?,
            _ => None,
        };
        parts = match banded {
            Some(banded) => {
                emit_bands(&mut emitter, &products, &banded, &lowered.tasks[i..])?;
                None
            }
            None => emit_task(&mut emitter, &products, &mut attentions, task, lowered.tasks.get(i + 1), parts)?,
        };
        emitter.end_task();
    }
    let outputs = emit_outputs(&mut emitter)?;
    let (spans, dispatches, keepings) = emitter.finish();
    let gemms = products.gemms.take();
    Ok(Emitted { inputs, outputs, spans, dispatches, gemms, attentions, keepings })
}

/// How far behind a product the tasks are looked for that can be done along with it.
const NEAR: usize = 4;

/// Emits a cut product band by band, and along with it those products behind it that read the picture that its norm
/// reads, pixel by pixel: the bands of that picture are then over sooner.
fn emit_bands<'a>(
    emitter: &mut Emitter<'a>,
    products: &Products<'a>,
    banded: &Banded<'a>,
    tasks: &[Task],
) -> Result<()> {
    let norm = |id: &NodeId| match emitter.storage(*id) {
        Some(Storage::Deferred(deferred)) => Some(deferred.source()),
        _ => None,
    };
    let measured = banded.source_of(norm);
    let mut along = Vec::new();
    for task in tasks.iter().skip(1).take(NEAR) {
        if let (TaskKind::Product(product), Some(measured)) = (&task.kind, measured)
            && product.is_pointwise_of(measured)
        {
            along.extend(products.begin(emitter, product, task.node, task.out)?.map(|banded| (task.node, banded)));
        }
    }
    for band in 0..banded.n_bands(emitter) {
        banded.fill(emitter, band)?;
        let name = emitter.name.clone();
        for (node, banded) in &along {
            emitter.name.clone_from(&emitter.graph.node(*node).name);
            banded.fill(emitter, band)?;
        }
        emitter.name = name;
    }
    Ok(())
}

/// Emits one task. `parts` are what the task before left for it; returns what this one leaves for `next`.
fn emit_task<'a>(
    emitter: &mut Emitter<'a>,
    products: &Products<'a>,
    attentions: &mut Vec<Attention>,
    task: &Task,
    next: Option<&Task>,
    parts: Option<Parts>,
) -> Result<Option<Parts>> {
    let Task { out, node, kind } = task;
    match kind {
        TaskKind::Product(product) => {
            // Only the next task can add the parts: their slot lives no longer.
            let norm = next.and_then(|next| match &next.kind {
                TaskKind::GroupNorm(normed) => {
                    group_norm::of_one_whole(emitter, normed, next.node, next.out, emitter.root(*out))
                }
                _ => None,
            });
            return products.emit(emitter, product, *node, *out, |gemm, splits| match &norm {
                Some(norm) => group_norm::splitk_group_norm::suits(gemm, splits, norm),
                None => Ok(false),
            });
        }
        TaskKind::GroupNorm(normed) => group_norm::emit(emitter, normed, *node, *out, parts)?,
        TaskKind::LayerNorm { eps } => layer_norm::emit(emitter, *node, *eps)?,
        TaskKind::Attention(attended) => {
            attentions.push(attention::emit(emitter, *node, attended, products.tiles)?);
        }
        TaskKind::Elementwise(operation) => elementwise::emit(emitter, *node, *out, operation)?,
    }
    Ok(None)
}

/// Gives inputs their slots, in f32, and casts them to the type of activations.
fn emit_inputs(emitter: &mut Emitter<'_>) -> Result<Vec<ProgramInput>> {
    let graph = emitter.graph;
    let ids = || (0..graph.nodes.len()).map(|idx| NodeId(idx as u32));
    let mut inputs = Vec::new();
    for id in ids() {
        let node = graph.node(id);
        let Op::Input(kind) = node.op else { continue };
        let mut slot = None;
        let mut operand = Operand::Input(node.name.clone());
        if kind == InputKind::Values && is_read(graph, id) {
            operand = emitter.slot(node.n_elements() as u64 * Element::F32.bytes());
            if let Operand::Slot(idx) = operand {
                slot = Some(idx);
            }
        }
        emitter.store(id, Storage::Whole(operand));
        inputs.push(ProgramInput { name: node.name.clone(), shape: node.shape.clone(), kind, slot });
    }
    if emitter.element == Element::F32 {
        return Ok(inputs);
    }
    for id in ids() {
        let node = graph.node(id);
        // Time steps are read in f32 by the one kernel that reads them.
        if !matches!(node.op, Op::Input(InputKind::Values)) || is_time(graph, id) || !is_read(graph, id) {
            continue;
        }
        emitter.name.clone_from(&node.name);
        let wide = emitter.whole(id)?;
        let narrow = elementwise::narrow(emitter, wide, &node.shape)?;
        emitter.store(id, Storage::Whole(narrow));
    }
    Ok(inputs)
}

fn is_read(graph: &Graph, id: NodeId) -> bool {
    graph.nodes.iter().any(|node| node.inputs.contains(&id))
}

fn is_time(graph: &Graph, id: NodeId) -> bool {
    let mut readers = graph.nodes.iter().filter(|node| node.inputs.contains(&id));
    readers.all(|node| matches!(node.op, Op::TimestepEmbedding { .. }))
}

/// Casts the results that go to the sampler or the caller to f32.
fn emit_outputs(emitter: &mut Emitter<'_>) -> Result<Vec<ProgramOutput>> {
    let graph = emitter.graph;
    let mut outputs = Vec::new();
    for Output { name, id, kind } in &graph.outputs {
        emitter.name.clone_from(name);
        let shape = graph.node(*id).shape.clone();
        let mut operand = emitter.whole(*id)?;
        let mut element = emitter.element;
        if *kind == OutputKind::Values && element != Element::F32 {
            (operand, element) = (elementwise::widen(emitter, operand, &shape)?, Element::F32);
        }
        outputs.push(ProgramOutput { operand, shape, element });
    }
    emitter.keep_to_the_end(outputs.iter().map(|output| &output.operand));
    Ok(outputs)
}
