//! What the match rules of all families query: readers of a value, its storage, and the nodes that another node's task
//! already covers.

use std::collections::HashMap;

use crate::graph::{Graph, Node, NodeId, Op};
use crate::weights::WeightType;

/// Where the values of a graph are stored.
#[derive(Clone, Debug, Default)]
pub struct Values {
    /// For each node the node whose storage holds its value: reshapes share that of their operand.
    roots: Vec<NodeId>,
    /// Elements of a storage that holds more than its root's value.
    n_elements: HashMap<NodeId, usize>,
    /// The type that the model's weights are held in.
    weight_type: WeightType,
}

impl Values {
    /// The node whose storage holds a value.
    #[must_use]
    pub fn root(&self, id: NodeId) -> NodeId {
        self.roots[id.idx()]
    }

    /// Elements of the storage of `root`.
    #[must_use]
    pub fn n_elements(&self, graph: &Graph, root: NodeId) -> usize {
        self.n_elements.get(&root).copied().unwrap_or_else(|| graph.node(root).n_elements())
    }
}

/// The state of lowering one graph.
pub(super) struct Fusing<'a> {
    pub graph: &'a Graph,
    readers: Vec<Vec<NodeId>>,
    is_output: Vec<bool>,
    values: Values,
    /// Nodes that need no task of their own.
    claimed: Vec<bool>,
    /// Concatenations that are read from their parts.
    two_sources: HashMap<NodeId, [NodeId; 2]>,
}

impl<'a> Fusing<'a> {
    pub fn new(graph: &'a Graph, weight_type: WeightType) -> Self {
        let n_nodes = graph.nodes.len();
        let mut roots: Vec<NodeId> = Vec::with_capacity(n_nodes);
        let mut readers: Vec<Vec<NodeId>> = vec![Vec::new(); n_nodes];
        for (idx, node) in graph.nodes.iter().enumerate() {
            let id = NodeId(idx as u32);
            roots.push(if matches!(node.op, Op::Reshape) { roots[node.inputs[0].idx()] } else { id });
            for input in &node.inputs {
                readers[input.idx()].push(id);
            }
        }
        let mut is_output = vec![false; n_nodes];
        for output in &graph.outputs {
            is_output[output.id.idx()] = true;
        }
        Fusing {
            graph,
            readers,
            is_output,
            values: Values { roots, n_elements: HashMap::new(), weight_type },
            claimed: vec![false; n_nodes],
            two_sources: HashMap::new(),
        }
    }

    pub fn into_values(self) -> Values {
        self.values
    }

    /// The type that one matrix of several weights side by side is held in: the one of most bits that one of them has.
    pub fn weight_type(&self, weights: &[NodeId]) -> WeightType {
        let of = |id: &NodeId| self.values.weight_type.of_weight(&self.node(*id).name, &self.node(*id).shape);
        weights.iter().map(of).max_by_key(|weight_type| weight_type.bits()).unwrap_or_default()
    }

    pub fn node(&self, id: NodeId) -> &'a Node {
        self.graph.node(id)
    }

    /// The last dimension of a value.
    pub fn width(&self, id: NodeId) -> usize {
        self.node(id).shape.last().copied().unwrap_or(0)
    }

    pub fn root(&self, id: NodeId) -> NodeId {
        self.values.root(id)
    }

    pub fn readers(&self, id: NodeId) -> &[NodeId] {
        &self.readers[id.idx()]
    }

    pub fn is_output(&self, id: NodeId) -> bool {
        self.is_output[id.idx()]
    }

    /// The one node that reads a value, through reshapes, with the name under which it reads it. `None` when there are
    /// several, or the value is a result of the graph.
    pub fn only_reader(&self, mut id: NodeId) -> Option<(NodeId, NodeId)> {
        loop {
            let [reader] = self.readers(id) else { return None };
            if self.is_output(id) {
                return None;
            }
            if !matches!(self.node(*reader).op, Op::Reshape) {
                return Some((*reader, id));
            }
            id = *reader;
        }
    }

    /// Marks a node as covered by another node's task.
    pub fn claim(&mut self, id: NodeId) {
        self.claimed[id.idx()] = true;
    }

    pub fn is_claimed(&self, id: NodeId) -> bool {
        self.claimed[id.idx()]
    }

    /// Makes a storage larger than the value of its root.
    pub fn widen(&mut self, root: NodeId, n_elements: usize) {
        self.values.n_elements.insert(root, n_elements);
    }

    /// Stores a value in the storage of another node.
    pub fn store_in(&mut self, id: NodeId, root: NodeId) {
        self.values.roots[id.idx()] = root;
    }

    /// Has a concatenation read from its two parts.
    pub fn read_from_parts(&mut self, concat: NodeId, parts: [NodeId; 2]) {
        self.two_sources.insert(concat, parts);
        self.claim(concat);
    }

    /// The storages that hold a value: two for a concatenation that is read from its parts.
    pub fn sources(&self, id: NodeId) -> Vec<NodeId> {
        match self.two_sources.get(&id) {
            Some(parts) => parts.to_vec(),
            None => vec![self.root(id)],
        }
    }
}
