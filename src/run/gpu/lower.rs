//! A graph's nodes to the tasks that run on the GPU, one task a kernel family: fusing what a kernel can do in passing.
//!
//! - Reshapes vanish: a value and its reshapes are one storage, that of its root.
//! - Silu behind a group norm is done by the norm.
//! - Behind a convolution or linear layer: the time embedding, an activation, a residual, GEGLU are done as its results
//!   are written, as far as the result has no other reader.
//!
//! No sizes of memory and no kernels' parameters are decided here.

use crate::graph::{Activation, Graph, Node, NodeId, Op};

/// The geometry of a convolution, beside the shapes of its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvTask {
    /// Side of the kernel.
    pub kernel: usize,
    /// Step.
    pub stride: usize,
    /// Zeros: top, left, bottom, right.
    pub pad: [usize; 4],
    /// Whether pixels are doubled first.
    pub upsample: bool,
}

/// A matrix product with what is done to its results before they are written, in this order.
#[derive(Clone, Debug, PartialEq)]
pub struct GemmTask {
    /// The rows, or the picture that a convolution gathers them from.
    pub x: NodeId,
    /// The weight.
    pub weight: NodeId,
    /// Added to every row.
    pub bias: Option<NodeId>,
    /// How rows are gathered; `None` for a linear layer.
    pub conv: Option<ConvTask>,
    /// \[B,N\], added to the rows of batch item b.
    pub time_embedding: Option<NodeId>,
    /// Applied to the sum.
    pub activation: Option<Activation>,
    /// Halves the columns.
    pub geglu: bool,
    /// \[M,N\], added last.
    pub residual: Option<NodeId>,
}

/// What one or a few dispatches of one kernel family do.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskKind {
    /// A convolution or a linear layer.
    Gemm(GemmTask),
    /// A group norm, with silu if asked for. Operands: x, weight, bias.
    GroupNorm { silu: bool },
    /// The node's own operation on its own operands.
    Plain,
}

/// One task.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// The node whose value is written.
    pub out: NodeId,
    /// The node that gives the operation its name and its operands; `out` unless something was fused behind it.
    pub node: NodeId,
    /// What is done.
    pub kind: TaskKind,
}

/// A graph as tasks.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// In an order in which operands come first.
    pub tasks: Vec<Task>,
    /// For each node the node whose storage holds its value.
    pub roots: Vec<NodeId>,
}

/// Fuses what can be fused.
#[must_use]
pub fn lower(graph: &Graph) -> Lowered {
    let mut roots: Vec<NodeId> = Vec::with_capacity(graph.nodes.len());
    let mut readers: Vec<Vec<NodeId>> = vec![Vec::new(); graph.nodes.len()];
    for (idx, node) in graph.nodes.iter().enumerate() {
        let id = NodeId(idx as u32);
        roots.push(if matches!(node.op, Op::Reshape) { roots[node.inputs[0].idx()] } else { id });
        for input in &node.inputs {
            readers[input.idx()].push(id);
        }
    }
    let mut is_output = vec![false; graph.nodes.len()];
    for (_, id) in &graph.outputs {
        is_output[id.idx()] = true;
    }
    let chain = Chain { graph, readers: &readers, is_output: &is_output, roots: &roots };

    // For each node that ends a chain, the task that writes it; the other nodes of a chain write nothing.
    let mut ends: Vec<Option<Task>> = vec![None; graph.nodes.len()];
    let mut claimed = vec![false; graph.nodes.len()];
    for (idx, node) in graph.nodes.iter().enumerate() {
        let id = NodeId(idx as u32);
        if claimed[idx] {
            continue;
        }
        let (kind, end) = match &node.op {
            Op::Input { .. } | Op::Weight | Op::Reshape => continue,
            Op::Conv2d { .. } | Op::Linear => chain.gemm(id, &mut claimed),
            Op::GroupNorm { .. } => match chain.only_reader(id) {
                Some((reader, _)) if matches!(graph.node(reader).op, Op::Activation(Activation::Silu)) => {
                    claimed[reader.idx()] = true;
                    (TaskKind::GroupNorm { silu: true }, reader)
                }
                _ => (TaskKind::GroupNorm { silu: false }, id),
            },
            _ => (TaskKind::Plain, id),
        };
        ends[end.idx()] = Some(Task { out: end, node: id, kind });
    }
    Lowered { tasks: ends.into_iter().flatten().collect(), roots }
}

struct Chain<'a> {
    graph: &'a Graph,
    readers: &'a [Vec<NodeId>],
    is_output: &'a [bool],
    roots: &'a [NodeId],
}

impl Chain<'_> {
    /// The one node that reads a value, through reshapes, with the name under which it reads it. `None` when there are
    /// several, or the value is a result of the graph.
    fn only_reader(&self, mut id: NodeId) -> Option<(NodeId, NodeId)> {
        loop {
            let [reader] = self.readers[id.idx()][..] else { return None };
            if self.is_output[id.idx()] {
                return None;
            }
            if !matches!(self.graph.node(reader).op, Op::Reshape) {
                return Some((reader, id));
            }
            id = reader;
        }
    }

    /// A convolution or linear layer with everything behind it that can be done in passing; and the node that the chain
    /// ends with.
    fn gemm(&self, id: NodeId, claimed: &mut [bool]) -> (TaskKind, NodeId) {
        let node = self.graph.node(id);
        let mut task = GemmTask {
            x: self.roots[node.inputs[0].idx()],
            weight: node.inputs[1],
            bias: node.inputs.get(2).copied(),
            conv: match node.op {
                Op::Conv2d { stride, pad, upsample } => {
                    let kernel = self.graph.node(node.inputs[1]).shape[2];
                    Some(ConvTask { kernel, stride, pad, upsample })
                }
                _ => None,
            },
            time_embedding: None,
            activation: None,
            geglu: false,
            residual: None,
        };
        let mut end = id;
        while let Some((reader, name)) = self.only_reader(end) {
            let next = self.graph.node(reader);
            // An addition of two products is done behind the first of them only.
            let done = task.geglu || task.residual.is_some() || claimed[reader.idx()];
            let fused = match &next.op {
                _ if done => false,
                Op::Add => self.fuse_add(&mut task, next, name),
                Op::Activation(activation) if task.activation.is_none() => {
                    task.activation = Some(*activation);
                    true
                }
                Op::Geglu if task.activation.is_none() && task.time_embedding.is_none() => {
                    task.geglu = true;
                    true
                }
                _ => false,
            };
            if !fused {
                break;
            }
            end = reader;
            claimed[end.idx()] = true;
        }
        (TaskKind::Gemm(task), end)
    }

    fn fuse_add(&self, task: &mut GemmTask, add: &Node, ours: NodeId) -> bool {
        let [a, b] = add.inputs[..] else { return false };
        let other = if a == ours { b } else { a };
        let (shape, other_shape) = (&add.shape, &self.graph.node(other).shape);
        let root = self.roots[other.idx()];
        // A product that is itself the repeated operand has fewer rows than the sum.
        if self.graph.node(ours).shape != *shape {
            return false;
        }
        // Weights are not stored like activations, and a value cannot be added to itself in passing.
        if a == b || matches!(self.graph.node(root).op, Op::Weight) {
            return false;
        }
        if other_shape == shape {
            task.residual = Some(root);
            return true;
        }
        let is_row = a == ours && shape.len() == 4 && other_shape[1..3] == [1, 1] && other_shape[0] == shape[0];
        if is_row && task.time_embedding.is_none() && task.activation.is_none() {
            task.time_embedding = Some(root);
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Conv, GraphBuilder, Path, Phase};

    #[test]
    fn epilogues_are_fused_and_shared_values_are_not() {
        let mut g = GraphBuilder::new("toy", Phase::Step);
        let w = Path::root();
        let x = g.input("x", &[1, 4, 4, 8]);
        let t = g.input("t", &[1, 6]);
        let temb = g.linear(t, &w.pp("temb"), 8, true).unwrap();
        let temb = g.reshape(temb, &[1, 1, 1, 8]).unwrap();
        let h = g.group_norm(x, &w.pp("norm1"), 2, 1e-5).unwrap();
        let h = g.silu(h);
        let h = g.conv2d(h, &w.pp("conv1"), Conv::k3(8)).unwrap();
        let h = g.add(h, temb, &w).unwrap();
        let h = g.conv2d(h, &w.pp("conv2"), Conv::k3(8)).unwrap();
        let y = g.add(h, x, &w).unwrap();
        let rows = g.reshape(y, &[1, 16, 8]).unwrap();
        let ff = g.linear(rows, &w.pp("proj"), 32, true).unwrap();
        let ff = g.geglu(ff, &w).unwrap();
        let ff = g.linear(ff, &w.pp("net2"), 8, true).unwrap();
        let z = g.add(ff, rows, &w).unwrap();
        g.output("z", z);
        let graph = g.finish();
        let lowered = lower(&graph);
        let summary: Vec<String> = lowered
            .tasks
            .iter()
            .map(|task| {
                let name = &graph.node(task.node).name;
                match &task.kind {
                    TaskKind::Gemm(gemm) => format!(
                        "{name}{}{}{}",
                        if gemm.time_embedding.is_some() { "+temb" } else { "" },
                        if gemm.geglu { "+geglu" } else { "" },
                        if gemm.residual.is_some() { "+residual" } else { "" },
                    ),
                    TaskKind::GroupNorm { silu } => format!("{name}{}", if *silu { "+silu" } else { "" }),
                    TaskKind::Plain => format!("{name}:{}", graph.node(task.node).op.name()),
                }
            })
            .collect();
        assert_eq!(summary, ["temb", "norm1+silu", "conv1+temb", "conv2+residual", "proj+geglu", "net2+residual"]);
    }
}
