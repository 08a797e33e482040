//! Models as plain data: a [`Graph`] in single-assignment form, whose nodes have an [`Op`], inputs, a shape and a name.
//!
//! A graph knows nothing of devices, bytes or JavaScript. Runners execute it; [`cost`] counts its work; its list of
//! weights is what a checkpoint is checked against. Shapes are channels-last (B H W C) and checked when a node is added.

mod builder;
pub mod cost;
mod op;
mod path;

pub use builder::{Conv, GraphBuilder, Upsample};
pub use op::{Activation, InputKind, Op};
pub use path::Path;

/// A value of a graph: the index of the node that makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) u32);

impl NodeId {
    /// The index into [`Graph::nodes`].
    #[must_use]
    pub fn idx(self) -> usize {
        self.0 as usize
    }
}

/// A result of a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// The value.
    pub id: NodeId,
    /// Who reads it.
    pub kind: OutputKind,
}

/// Who reads a result, and so in which type a runner gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutputKind {
    /// The sampler or the caller, in f32.
    Values,
    /// Another graph of the same model, as an [`InputKind::Computed`], in the runner's own type.
    Computed,
}

/// One operation and the value that it makes.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What is computed.
    pub op: Op,
    /// The operands, all of them earlier nodes.
    pub inputs: Vec<NodeId>,
    /// The shape of the value, channels-last for pictures; for a weight, the shape in the checkpoint.
    pub shape: Vec<usize>,
    /// The path in the model (`down_blocks.0.resnets.0.conv1`); for a weight, the name of its tensor.
    pub name: String,
}

impl Node {
    /// How many elements the value has.
    #[must_use]
    pub fn n_elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A name and a shape that a checkpoint has to provide.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WeightSpec {
    /// The tensor's name in the safetensors file, today's spelling.
    pub name: String,
    /// Its shape as stored.
    pub shape: Vec<usize>,
}

/// A model, or one phase of it, as data.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// What the graph is, for progress bars and errors: `unet`, `vae.decoder`.
    pub name: String,
    /// Whether its values can exceed what f16 holds, so that it has to run in f32 everywhere.
    pub needs_f32: bool,
    /// The nodes, each after its inputs.
    pub nodes: Vec<Node>,
    /// The results.
    pub outputs: Vec<Output>,
}

impl Graph {
    /// The node that makes a value.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.idx()]
    }

    /// What the module at a path of the checkpoint gives: the last value computed under that path, before any activation
    /// that its reader applies. For comparing module by module with another implementation.
    #[must_use]
    pub fn result_of(&self, path: &str) -> Option<NodeId> {
        let under = |name: &str| name.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let computed =
            |node: &Node| !matches!(node.op, Op::Activation(_) | Op::Weight | Op::Input(_)) && under(&node.name);
        let exact = self.nodes.iter().rposition(|node| computed(node) && node.name == path);
        let last = exact.or_else(|| self.nodes.iter().rposition(computed));
        last.map(|idx| NodeId(idx as u32))
    }

    /// The inputs to provide for a run: name, shape and kind.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, &[usize], InputKind)> {
        self.nodes.iter().filter_map(|node| match node.op {
            Op::Input(kind) => Some((node.name.as_str(), node.shape.as_slice(), kind)),
            _ => None,
        })
    }

    /// The tensors that the graph needs from the checkpoint, in order of first use, each once.
    #[must_use]
    pub fn weights(&self) -> Vec<WeightSpec> {
        self.nodes
            .iter()
            .filter(|node| matches!(node.op, Op::Weight))
            .map(|node| WeightSpec { name: node.name.clone(), shape: node.shape.clone() })
            .collect()
    }

    /// For each node, the index of the last node that reads it. Outputs live to the end (`usize::MAX`); a value that
    /// nobody reads has its own index.
    #[must_use]
    pub fn last_uses(&self) -> Vec<usize> {
        let mut last: Vec<usize> = (0..self.nodes.len()).collect();
        for (idx, node) in self.nodes.iter().enumerate() {
            for input in &node.inputs {
                last[input.idx()] = idx;
            }
        }
        for Output { id, .. } in &self.outputs {
            last[id.idx()] = usize::MAX;
        }
        last
    }
}
