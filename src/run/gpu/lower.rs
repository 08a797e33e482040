//! A graph's nodes to the tasks that run on the GPU, one task a kernel family: fusing what a kernel can do in passing.
//!
//! - Reshapes vanish: a value and its reshapes are one storage, that of its root.
//! - Silu behind a group norm is done by the norm.
//! - Behind a convolution or linear layer: the time embedding, an activation, a residual, GEGLU are done as its results
//!   are written, as far as the result has no other reader.
//! - A layer norm in front of a narrow linear layer that alone reads it is done as the rows are read.
//! - Queries, keys and values of one input are one product, and so are the time embeddings of all residual blocks.
//! - A concatenation of channels that only norms and convolutions read is read from its two parts.
//! - Position embeddings are added as the tokens' are looked up.
//!
//! These fusions depend on widths only, never on how large a picture is, so that weights are packed once for all sizes
//! ([`Lowered::weights`]); [`super::program`] has one that does. No sizes of memory and no kernels' parameters are
//! decided here.

mod fuse;

use std::collections::{BTreeMap, HashMap};

pub use fuse::lower;

use crate::graph::{Activation, Graph, NodeId, Op, WeightSpec};

/// The geometry of a convolution, beside the shapes of its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvTask {
    /// Side of the kernel.
    pub kernel: usize,
    /// Step.
    pub stride: usize,
    /// Zeros: top, left, bottom, right.
    pub pad: [usize; 4],
    /// Height and width that the picture is enlarged to first.
    pub upsample: Option<[usize; 2]>,
}

/// A row for each batch item inside a wider tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowsOf {
    /// The tensor.
    pub root: NodeId,
    /// Elements from one row to the next.
    pub stride: usize,
    /// The first element.
    pub offset: usize,
}

/// A matrix product with what is done to its rows before, and to its results before they are written, in this order.
#[derive(Clone, Debug, PartialEq)]
pub struct GemmTask {
    /// The rows, or the picture that a convolution gathers them from; two where they stand for their concatenation.
    pub x: Vec<NodeId>,
    /// The layer norm that the rows go through first.
    pub norm: Option<NodeId>,
    /// The weights whose outputs lie side by side.
    pub weights: Vec<NodeId>,
    /// Added to every row, side by side like the weights.
    pub biases: Vec<NodeId>,
    /// How rows are gathered; `None` for a linear layer.
    pub conv: Option<ConvTask>,
    /// Added to the rows of batch item b.
    pub time_embedding: Option<RowsOf>,
    /// Applied to the sum.
    pub activation: Option<Activation>,
    /// Halves the columns.
    pub geglu: bool,
    /// \[M,N\], added last.
    pub residual: Option<NodeId>,
    /// Whether negative sums become 0 after that.
    pub relu_last: bool,
}

/// What one or a few dispatches of one kernel family do.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskKind {
    /// A convolution or linear layers.
    Gemm(GemmTask),
    /// A group norm of one tensor, or of the concatenation of two, with silu if asked for.
    GroupNorm { x: Vec<NodeId>, silu: bool },
    /// An attention whose queries, keys and values are one tensor.
    PackedAttention { qkv: NodeId },
    /// A lookup of tokens to which the positions' rows are added.
    Embedding { positions: NodeId },
    /// The node's own operation on its own operands.
    Plain,
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

/// How weights lie in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Form {
    /// f32, one behind the other.
    Vector,
    /// f16 matrices side by side, as `repack` lays them out; with `geglu` values and gates interleaved.
    Packed { geglu: bool },
    /// f16 as in the checkpoint.
    Table,
}

/// One buffer of weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightBuffer {
    /// The names of its tensors, joined; what dispatches know it by.
    pub key: String,
    /// How they lie.
    pub form: Form,
    /// The tensors.
    pub parts: Vec<WeightSpec>,
}

/// A graph as tasks.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// In an order in which operands come first.
    pub tasks: Vec<Task>,
    /// For each node the node whose storage holds its value.
    pub roots: Vec<NodeId>,
    /// Elements of a storage that holds more than its root's value.
    pub n_elements: HashMap<NodeId, usize>,
}

/// The name of a buffer that holds some weights.
#[must_use]
pub fn weight_key(graph: &Graph, parts: &[NodeId]) -> String {
    parts.iter().map(|id| graph.node(*id).name.as_str()).collect::<Vec<_>>().join("+")
}

impl GemmTask {
    /// What the buffer of vectors holds: biases, then the layer norm's weight and bias.
    #[must_use]
    pub fn vectors(&self, graph: &Graph) -> Vec<NodeId> {
        let norm = self.norm.map(|norm| &graph.node(norm).inputs[1..]).unwrap_or_default();
        self.biases.iter().chain(norm).copied().collect()
    }
}

impl Lowered {
    /// The buffers of weights that the tasks read, each once.
    #[must_use]
    pub fn weights(&self, graph: &Graph) -> Vec<WeightBuffer> {
        let mut buffers: BTreeMap<String, WeightBuffer> = BTreeMap::new();
        let mut add = |parts: &[NodeId], form| {
            if parts.is_empty() {
                return;
            }
            let key = weight_key(graph, parts);
            let parts = parts.iter().map(|id| graph.node(*id));
            let parts = parts.map(|node| WeightSpec { name: node.name.clone(), shape: node.shape.clone() }).collect();
            buffers.entry(key.clone()).or_insert(WeightBuffer { key, form, parts });
        };
        for task in &self.tasks {
            match &task.kind {
                TaskKind::Gemm(gemm) => {
                    add(&gemm.weights, Form::Packed { geglu: gemm.geglu });
                    add(&gemm.vectors(graph), Form::Vector);
                }
                TaskKind::Embedding { positions } => {
                    add(&graph.node(task.node).inputs[1..], Form::Table);
                    add(&[*positions], Form::Vector);
                }
                TaskKind::PackedAttention { .. } => {}
                TaskKind::GroupNorm { .. } | TaskKind::Plain => {
                    for id in &graph.node(task.node).inputs {
                        let weight = graph.node(*id);
                        if matches!(weight.op, Op::Weight) {
                            add(&[*id], if weight.shape.len() == 1 { Form::Vector } else { Form::Table });
                        }
                    }
                }
            }
        }
        buffers.into_values().collect()
    }
}

#[cfg(test)]
mod tests;
