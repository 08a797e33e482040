//! Lowers a graph's nodes to tasks for the families of kernels, in order. Which nodes a family fuses is its own rule
//! (`fuse.rs` in its folder).
//!
//! Fusions depend on widths only, never on how large a picture is, so that weights are packed once for all sizes
//! ([`Lowered::weights`]). No sizes of memory and no kernels' parameters are decided here.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::fusing::{Fusing, Values};
use super::kernels::attention::{self, Attended};
use super::kernels::elementwise::{self, Elementwise};
use super::kernels::group_norm::{self, Normed};
use super::kernels::products::{Found, Product};
use super::weight_layout::{WeightBuffer, WeightKey, WeightLayout};
use crate::graph::{Graph, NodeId, Op};
use crate::weights::WeightType;

/// What one or a few dispatches of one kernel family do.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskKind {
    /// A convolution or linear layers.
    Product(Product),
    /// A group norm.
    GroupNorm(Normed),
    /// A layer norm that no product does.
    LayerNorm {
        /// Added to the variance.
        eps: f64,
    },
    /// An attention.
    Attention(Attended),
    /// An elementwise operation, a lookup or a copy.
    Elementwise(Elementwise),
}

/// One task.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// The node whose storage is written.
    pub out: NodeId,
    /// The node that gives the operation its name and its operands; `out` unless something was fused behind it.
    pub node: NodeId,
    /// What is done.
    pub kind: TaskKind,
}

impl Task {
    /// The storages and weights that the task reads by themselves, without the weights that a product reads packed.
    #[must_use]
    pub fn reads(&self, graph: &Graph, values: &Values) -> Vec<NodeId> {
        match &self.kind {
            TaskKind::Product(product) => product.reads(),
            TaskKind::GroupNorm(normed) => normed.x.clone(),
            TaskKind::Attention(Attended { packed: Some(qkv), .. }) => vec![*qkv],
            TaskKind::LayerNorm { .. } | TaskKind::Attention(_) | TaskKind::Elementwise(_) => {
                graph.node(self.node).inputs.iter().map(|input| values.root(*input)).collect()
            }
        }
    }

    /// Whether a picture in bands of rows can be made and read by it.
    #[must_use]
    pub fn can_be_cut(&self) -> bool {
        match &self.kind {
            TaskKind::Product(product) => product.can_be_cut(),
            TaskKind::GroupNorm(normed) => normed.x.len() == 1,
            TaskKind::LayerNorm { .. } | TaskKind::Attention(_) | TaskKind::Elementwise(_) => false,
        }
    }

    /// The buffers of weights that the task reads.
    pub(super) fn weights(&self, graph: &Graph, values: &Values) -> Vec<WeightBuffer> {
        let by_themselves = || {
            let inputs = graph.node(self.node).inputs.iter().map(|input| values.root(*input));
            let weights = inputs.filter(|id| matches!(graph.node(*id).op, Op::Weight));
            weights.map(|id| WeightBuffer::of(graph, &[id], WeightLayout::Vector))
        };
        match &self.kind {
            TaskKind::Product(product) => product.weight_buffers(graph),
            TaskKind::Attention(Attended { packed: Some(_), .. }) => Vec::new(),
            TaskKind::GroupNorm(_) | TaskKind::LayerNorm { .. } | TaskKind::Attention(_) | TaskKind::Elementwise(_) => {
                by_themselves().collect()
            }
        }
    }
}

/// A graph as tasks.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// Operands first.
    pub tasks: Vec<Task>,
    /// Where values are stored.
    pub values: Values,
}

impl Lowered {
    /// The buffers of weights that the tasks read, each once.
    #[must_use]
    pub fn weights(&self, graph: &Graph) -> Vec<WeightBuffer> {
        let buffers = self.tasks.iter().flat_map(|task| task.weights(graph, &self.values));
        let buffers: BTreeMap<WeightKey, WeightBuffer> = buffers.map(|buffer| (buffer.key.clone(), buffer)).collect();
        buffers.into_values().collect()
    }
}

/// Lowered graphs that a runner keeps: about those of one picture.
const MAX_LOWERED: usize = 8;

/// The graphs lowered last, so that one that is foreseen, loaded, prepared, tuned and prepared again in f32 is lowered once.
#[derive(Default)]
pub(super) struct Memo {
    weight_type: Cell<WeightType>,
    known: RefCell<VecDeque<(Graph, Rc<Lowered>)>>,
}

impl Memo {
    /// For models whose weights are held in a type.
    pub fn new(weight_type: WeightType) -> Self {
        Memo { weight_type: Cell::new(weight_type), known: RefCell::default() }
    }

    /// The type that weights are held in.
    pub fn weight_type(&self) -> WeightType {
        self.weight_type.get()
    }

    /// Changes that type.
    pub fn hold_weights_in(&self, weight_type: WeightType) {
        if self.weight_type.replace(weight_type) != weight_type {
            self.clear();
        }
    }

    /// The tasks of a graph.
    pub fn of(&self, graph: &Graph) -> Rc<Lowered> {
        let mut known = self.known.borrow_mut();
        if let Some((_, lowered)) = known.iter().find(|(known, _)| known == graph) {
            return Rc::clone(lowered);
        }
        let lowered = Rc::new(lower(graph, self.weight_type.get()));
        known.truncate(MAX_LOWERED - 1);
        known.push_front((graph.clone(), Rc::clone(&lowered)));
        lowered
    }

    /// Forgets them.
    pub fn clear(&self) {
        self.known.borrow_mut().clear();
    }
}

/// Lowers a graph for weights that are held in a type.
#[must_use]
pub fn lower(graph: &Graph, weight_type: WeightType) -> Lowered {
    let mut fusing = Fusing::new(graph, weight_type);
    let mut found = Found::default();
    // For each node that ends a chain, the task that writes it.
    let mut ends: Vec<Option<Task>> = vec![None; graph.nodes.len()];
    let ids = || (0..graph.nodes.len()).map(|idx| NodeId(idx as u32));
    for (place, product) in found.merge_time_embeddings(&mut fusing) {
        ends[place.idx()] = Some(Task { out: place, node: place, kind: TaskKind::Product(product) });
    }
    // What has to be known before a node's readers are lowered.
    for id in ids() {
        match &graph.node(id).op {
            Op::Attention { .. } => {
                if let Some(attention::Packed { product, out, place }) = attention::pack(&mut fusing, id) {
                    ends[place.idx()] = Some(Task { out, node: out, kind: TaskKind::Product(product) });
                    ends[id.idx()] = task(&mut fusing, &found, id, Some(out));
                }
            }
            Op::Concat { axis } => elementwise::read_from_parts(&mut fusing, id, *axis),
            Op::Linear => found.look_for_norm(&mut fusing, id),
            _ => {}
        }
    }
    for id in ids() {
        if !fusing.is_claimed(id)
            && let Some(task) = task(&mut fusing, &found, id, None)
        {
            let place = task.out;
            ends[place.idx()] = Some(task);
        }
    }
    Lowered { tasks: ends.into_iter().flatten().collect(), values: fusing.into_values() }
}

/// The task of a node; none for inputs, weights and reshapes. The match is exhaustive on purpose: an op without a GPU arm
/// does not compile.
fn task(fusing: &mut Fusing<'_>, found: &Found, id: NodeId, packed: Option<NodeId>) -> Option<Task> {
    let alone = |operation| (TaskKind::Elementwise(operation), id);
    let (kind, out) = match fusing.node(id).op.clone() {
        Op::Input(_) | Op::Weight | Op::Reshape => return None,
        Op::Conv2d { .. } | Op::Linear => {
            let (product, end) = found.fuse(fusing, id);
            (TaskKind::Product(product), end)
        }
        Op::GroupNorm { groups, eps } => {
            let (normed, end) = group_norm::fuse(fusing, id, groups, eps);
            (TaskKind::GroupNorm(normed), end)
        }
        Op::LayerNorm { eps } => (TaskKind::LayerNorm { eps }, id),
        Op::Attention { heads, scale, causal, upcast: _ } => {
            (TaskKind::Attention(Attended { packed, heads, scale, causal }), id)
        }
        Op::Activation(activation) => alone(Elementwise::Activation(activation)),
        Op::Geglu => alone(Elementwise::Geglu),
        Op::Gather => alone(Elementwise::Gather),
        Op::Add => alone(Elementwise::Add),
        Op::Scale { factor } => alone(Elementwise::Scale { factor }),
        Op::Affine { factors, offsets } => alone(Elementwise::Affine { factors, offsets }),
        Op::Concat { axis } => alone(Elementwise::Concat { axis }),
        Op::Slice { axis, start, len } => alone(Elementwise::Slice { axis, start, len }),
        Op::TimestepEmbedding { dim, flip_sin_to_cos, freq_shift } => {
            alone(Elementwise::TimestepEmbedding { dim, flip_sin_to_cos, freq_shift })
        }
    };
    Some(Task { out, node: id, kind })
}

#[cfg(test)]
mod tests;
