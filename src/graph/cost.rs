//! What a graph costs, without running it: floating-point operations and bytes moved, per node and in all.
//!
//! Counts are arithmetic on shapes. They weight progress bars and feed `darkroom plan`; they are not timings.

use super::{Graph, Node, Op};

/// The work of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations, a multiply-add counted as two.
    pub flops: u64,
    /// Elements read and written, weights included, each operand once.
    pub elements_moved: u64,
}

impl Graph {
    /// The work of one node. Reshapes, inputs and weights cost nothing.
    #[must_use]
    pub fn cost(&self, node: &Node) -> Cost {
        let out = node.n_elements() as u64;
        let operand = |i: usize| self.node(node.inputs[i]);
        let flops = match &node.op {
            Op::Input(_) | Op::Weight | Op::Reshape => return Cost::default(),
            Op::Conv2d { .. } => 2 * out * operand(1).shape[1..].iter().product::<usize>() as u64,
            Op::Linear => 2 * out * operand(1).shape[1] as u64,
            Op::Attention { .. } => {
                let n_keys = operand(1).shape[1] as u64;
                4 * out * n_keys
            }
            Op::GroupNorm { .. } | Op::LayerNorm { .. } => 8 * out,
            Op::Activation(_) | Op::Geglu | Op::TimestepEmbedding { .. } => 8 * out,
            Op::Add | Op::Scale { .. } => out,
            Op::Affine { .. } => 2 * out,
            Op::Concat { .. } | Op::Slice { .. } | Op::Gather => 0,
        };
        let read: u64 = match &node.op {
            // Only the rows that are looked up are read, and only the slice that is taken.
            Op::Gather | Op::Slice { .. } => out,
            _ => node.inputs.iter().map(|&input| self.node(input).n_elements() as u64).sum(),
        };
        Cost { flops, elements_moved: read + out }
    }

    /// The floating-point operations of one run of the whole graph.
    #[must_use]
    pub fn flops(&self) -> u64 {
        self.nodes.iter().map(|node| self.cost(node).flops).sum()
    }

    /// Elements read and written in one run, when every node is run for itself.
    #[must_use]
    pub fn elements_moved(&self) -> u64 {
        self.nodes.iter().map(|node| self.cost(node).elements_moved).sum()
    }

    /// How many parameters the graph's weights have.
    #[must_use]
    pub fn n_parameters(&self) -> u64 {
        self.nodes.iter().filter(|node| matches!(node.op, Op::Weight)).map(|node| node.n_elements() as u64).sum()
    }
}
