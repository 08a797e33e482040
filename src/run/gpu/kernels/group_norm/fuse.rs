//! The match rule of group norms: the silu behind, and a concatenation of channels in front that is read from its parts.

use super::sizes::GroupNorm;
use crate::graph::{Activation, Graph, NodeId, Op};
use crate::run::gpu::fusing::Fusing;

/// A group norm of one tensor, or of the concatenation of two, with silu if asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Normed {
    /// The storages that hold the input.
    pub x: Vec<NodeId>,
    /// Whether silu follows.
    pub silu: bool,
    /// Groups G.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f64,
}

impl Normed {
    /// The sizes for some pixels of a node's value.
    pub(in crate::run::gpu) fn sizes(&self, graph: &Graph, node: NodeId, pixels: usize) -> GroupNorm {
        let width = |id: NodeId| graph.node(id).shape.last().copied().unwrap_or(0) as u32;
        let channels = match self.x[..] {
            [a, b] => [a, b].map(width),
            _ => [width(node), 0],
        };
        let batch = graph.node(node).shape[0] as u32;
        GroupNorm { batch, pixels: pixels as u32, channels, groups: self.groups as u32, eps: self.eps as f32 }
    }

    /// The sizes for all pixels.
    pub(in crate::run::gpu) fn whole_sizes(&self, graph: &Graph, node: NodeId) -> GroupNorm {
        let shape = &graph.node(node).shape;
        let n_channels = shape.last().copied().unwrap_or(1);
        self.sizes(graph, node, graph.node(node).n_elements() / (shape[0] * n_channels).max(1))
    }
}

/// The group norm `id`, and the last node of the chain.
pub(in crate::run::gpu) fn fuse(fusing: &mut Fusing<'_>, id: NodeId, groups: usize, eps: f64) -> (Normed, NodeId) {
    let x = fusing.sources(fusing.node(id).inputs[0]);
    match fusing.only_reader(id) {
        Some((reader, _)) if matches!(fusing.node(reader).op, Op::Activation(Activation::Silu)) => {
            fusing.claim(reader);
            (Normed { x, silu: true, groups, eps }, reader)
        }
        _ => (Normed { x, silu: false, groups, eps }, id),
    }
}
