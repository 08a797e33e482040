//! How a graph is lowered: what is merged with what, in which order, and where it stands.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{ConvTask, GemmTask, Lowered, RowsOf, Task, TaskKind};
use crate::graph::{Activation, Graph, Node, NodeId, Op};

struct Lowering<'a> {
    graph: &'a Graph,
    readers: Vec<Vec<NodeId>>,
    is_output: Vec<bool>,
    roots: Vec<NodeId>,
    /// Nodes that need no task of their own.
    claimed: Vec<bool>,
    /// For each node that ends a chain, the task that writes it.
    ends: Vec<Option<Task>>,
    n_elements: HashMap<NodeId, usize>,
    /// Concatenations that are read from their parts.
    two_sources: HashMap<NodeId, [NodeId; 2]>,
    /// For linear layers the norm that they do themselves.
    norms: HashMap<NodeId, NodeId>,
    /// Where the rows of merged time embeddings are.
    rows_of: HashMap<NodeId, RowsOf>,
}

/// Fuses what can be fused.
#[must_use]
pub fn lower(graph: &Graph) -> Lowered {
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
    for (_, id) in &graph.outputs {
        is_output[id.idx()] = true;
    }
    let mut lowering = Lowering {
        graph,
        readers,
        is_output,
        roots,
        claimed: vec![false; n_nodes],
        ends: vec![None; n_nodes],
        n_elements: HashMap::new(),
        two_sources: HashMap::new(),
        norms: HashMap::new(),
        rows_of: HashMap::new(),
    };
    lowering.merge_time_embeddings();
    for idx in 0..n_nodes {
        lowering.look_around(NodeId(idx as u32));
    }
    for idx in 0..n_nodes {
        lowering.task(NodeId(idx as u32));
    }
    let tasks = lowering.ends.into_iter().flatten().collect();
    Lowered { tasks, roots: lowering.roots, n_elements: lowering.n_elements }
}

/// Columns up to which a product normalises its own rows. Every tile of columns measures them again, which for wide
/// products takes longer than a norm by itself.
const MAX_NORMED_COLUMNS: usize = 1280;

impl<'a> Lowering<'a> {
    fn node(&self, id: NodeId) -> &'a Node {
        self.graph.node(id)
    }

    fn root(&self, id: NodeId) -> NodeId {
        self.roots[id.idx()]
    }

    /// The one node that reads a value, through reshapes, with the name under which it reads it. `None` when there are
    /// several, or the value is a result of the graph.
    fn only_reader(&self, mut id: NodeId) -> Option<(NodeId, NodeId)> {
        loop {
            let [reader] = self.readers[id.idx()][..] else { return None };
            if self.is_output[id.idx()] {
                return None;
            }
            if !matches!(self.node(reader).op, Op::Reshape) {
                return Some((reader, id));
            }
            id = reader;
        }
    }

    /// Linear layers that can be one product: the same input, widths in fours, and all or none with a bias.
    fn can_merge(&self, ids: &[NodeId]) -> bool {
        let distinct: HashSet<NodeId> = ids.iter().copied().collect();
        // What is given has no inputs, and is no linear layer.
        let Some((first, x)) = ids.first().and_then(|first| Some((first, *self.node(*first).inputs.first()?))) else {
            return false;
        };
        let x = self.root(x);
        distinct.len() == ids.len()
            && ids.iter().all(|&id| {
                let node = self.node(id);
                matches!(node.op, Op::Linear)
                    && self.root(node.inputs[0]) == x
                    && node.inputs.len() == self.node(*first).inputs.len()
                    && node.shape.last().is_some_and(|width| width.is_multiple_of(4))
                    && !self.claimed[id.idx()]
            })
    }

    /// One product for several linear layers of the same input.
    fn merged(&self, ids: &[NodeId]) -> GemmTask {
        GemmTask {
            x: vec![self.root(self.node(ids[0]).inputs[0])],
            norm: None,
            weights: ids.iter().map(|&id| self.node(id).inputs[1]).collect(),
            biases: ids.iter().filter_map(|&id| self.node(id).inputs.get(2)).copied().collect(),
            conv: None,
            time_embedding: None,
            activation: None,
            geglu: false,
            residual: None,
            relu_last: false,
        }
    }

    /// The linear layers whose only use is to be added to the rows of a convolution become one product in the place of
    /// the first, since all read the same time embedding.
    fn merge_time_embeddings(&mut self) {
        let mut by_input: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        for (idx, node) in self.graph.nodes.iter().enumerate() {
            let id = NodeId(idx as u32);
            let Some((reader, name)) = self.only_reader(id).filter(|_| matches!(node.op, Op::Linear)) else { continue };
            let add = self.node(reader);
            let is_row = matches!(add.op, Op::Add)
                && add.inputs[1] == name
                && matches!(self.node(add.inputs[0]).op, Op::Conv2d { .. })
                && self.only_reader(add.inputs[0]).is_some()
                && self.node(name).shape.len() == 4
                && self.node(name).shape[1..3] == [1, 1]
                && self.node(name).shape[0] == add.shape[0];
            if is_row {
                by_input.entry(self.root(node.inputs[0])).or_default().push(id);
            }
        }
        for ids in by_input.into_values().filter(|ids| ids.len() > 1) {
            if !self.can_merge(&ids) {
                continue;
            }
            let widths: Vec<usize> = ids.iter().map(|&id| self.node(id).shape.last().copied().unwrap_or(0)).collect();
            let (first, stride) = (ids[0], widths.iter().sum());
            let mut offset = 0;
            for (&id, width) in ids.iter().zip(widths) {
                self.rows_of.insert(id, RowsOf { root: first, stride, offset });
                self.claimed[id.idx()] = true;
                offset += width;
            }
            let n_rows = self.node(first).n_elements() / self.node(first).shape.last().copied().unwrap_or(1);
            self.n_elements.insert(first, n_rows * stride);
            let kind = TaskKind::Gemm(self.merged(&ids));
            self.ends[first.idx()] = Some(Task { out: first, node: first, kind });
        }
    }

    /// Finds what has to be known before the node's readers are lowered.
    fn look_around(&mut self, id: NodeId) {
        let node = self.node(id);
        match &node.op {
            Op::Attention { .. } => {
                let inputs = [node.inputs[0], node.inputs[1], node.inputs[2]];
                let alone = inputs.iter().all(|&input| self.only_reader(input).is_some_and(|(_, name)| name == input));
                let same_width = inputs.iter().all(|&input| self.node(input).shape == node.shape);
                if !(alone && same_width && self.can_merge(&inputs)) {
                    return;
                }
                let [q, _, last] = inputs;
                self.n_elements.insert(q, 3 * node.n_elements());
                for input in inputs {
                    self.roots[input.idx()] = q;
                    self.claimed[input.idx()] = true;
                }
                // In the place of the last one: another node's task may stand in its inputs' own places.
                let place = inputs.into_iter().max().unwrap_or(last);
                let mut gemm = self.merged(&inputs);
                self.take_norm(&mut gemm, &inputs, 3 * self.graph.node(q).shape.last().copied().unwrap_or(0));
                self.ends[place.idx()] = Some(Task { out: q, node: q, kind: TaskKind::Gemm(gemm) });
                self.ends[id.idx()] = Some(Task { out: id, node: id, kind: TaskKind::PackedAttention { qkv: q } });
                self.claimed[id.idx()] = true;
            }
            Op::Concat { axis } if *axis == 3 && node.shape.len() == 4 && node.inputs.len() == 2 => {
                let readers = &self.readers[id.idx()];
                let all_can = readers.iter().all(|&reader| {
                    let reader = self.node(reader);
                    matches!(reader.op, Op::GroupNorm { .. } | Op::Conv2d { .. })
                        && reader.inputs.iter().filter(|&&input| input == id).count() == 1
                });
                let parts = [self.root(node.inputs[0]), self.root(node.inputs[1])];
                if all_can && !self.is_output[id.idx()] && parts[0] != parts[1] {
                    self.two_sources.insert(id, parts);
                    self.claimed[id.idx()] = true;
                }
            }
            Op::Linear if !self.claimed[id.idx()] => {
                if let Some(norm) = self.own_norm(&[id], node.shape.last().copied().unwrap_or(0)) {
                    self.norms.insert(id, norm);
                    self.claimed[norm.idx()] = true;
                }
            }
            _ => {}
        }
    }

    /// The layer norm in front of linear layers, if they are all that reads it and narrow enough.
    fn own_norm(&self, linears: &[NodeId], n_columns: usize) -> Option<NodeId> {
        let norm = self.node(linears[0]).inputs[0];
        let fits = matches!(self.node(norm).op, Op::LayerNorm { .. })
            && self.readers[norm.idx()].len() == linears.len()
            && self.readers[norm.idx()].iter().all(|reader| linears.contains(reader))
            && !self.is_output[norm.idx()]
            && n_columns <= MAX_NORMED_COLUMNS;
        fits.then_some(norm)
    }

    fn take_norm(&mut self, gemm: &mut GemmTask, linears: &[NodeId], n_columns: usize) {
        if let Some(norm) = self.own_norm(linears, n_columns) {
            self.claimed[norm.idx()] = true;
            self.put_norm(gemm, norm);
        }
    }

    fn put_norm(&self, gemm: &mut GemmTask, norm: NodeId) {
        gemm.norm = Some(norm);
        gemm.x = vec![self.root(self.node(norm).inputs[0])];
    }

    fn sources(&self, id: NodeId) -> Vec<NodeId> {
        match self.two_sources.get(&id) {
            Some(parts) => parts.to_vec(),
            None => vec![self.root(id)],
        }
    }

    fn task(&mut self, id: NodeId) {
        let node = self.node(id);
        if self.claimed[id.idx()] {
            return;
        }
        let (kind, end) = match &node.op {
            Op::Input(_) | Op::Weight | Op::Reshape => return,
            Op::Conv2d { .. } | Op::Linear => self.gemm(id),
            Op::GroupNorm { .. } => {
                let x = self.sources(node.inputs[0]);
                match self.only_reader(id) {
                    Some((reader, _)) if matches!(self.node(reader).op, Op::Activation(Activation::Silu)) => {
                        self.claimed[reader.idx()] = true;
                        (TaskKind::GroupNorm { x, silu: true }, reader)
                    }
                    _ => (TaskKind::GroupNorm { x, silu: false }, id),
                }
            }
            Op::Embedding => match self.positions_behind(id) {
                Some((positions, end)) => {
                    self.claimed[end.idx()] = true;
                    (TaskKind::Embedding { positions }, end)
                }
                None => (TaskKind::Plain, id),
            },
            _ => (TaskKind::Plain, id),
        };
        self.ends[end.idx()] = Some(Task { out: end, node: id, kind });
    }

    /// The weight whose rows are added to a lookup in a table of the checkpoint, and the addition.
    fn positions_behind(&self, id: NodeId) -> Option<(NodeId, NodeId)> {
        let (reader, name) = self.only_reader(id)?;
        let add = self.node(reader);
        let table = self.root(self.node(id).inputs[1]);
        if !matches!(add.op, Op::Add) || add.inputs[0] != name || !matches!(self.node(table).op, Op::Weight) {
            return None;
        }
        let positions = self.root(add.inputs[1]);
        let of_a_text = self.node(positions).n_elements() * add.shape[0] == add.shape.iter().product::<usize>();
        (matches!(self.node(positions).op, Op::Weight) && of_a_text).then_some((positions, reader))
    }

    /// A convolution or linear layer with everything behind it that can be done in passing; and the node that the chain
    /// ends with.
    fn gemm(&mut self, id: NodeId) -> (TaskKind, NodeId) {
        let node = self.node(id);
        let mut task = GemmTask {
            x: self.sources(node.inputs[0]),
            norm: None,
            weights: vec![node.inputs[1]],
            biases: node.inputs.get(2).copied().into_iter().collect(),
            conv: match node.op {
                Op::Conv2d { stride, pad, upsample } => {
                    let kernel = self.node(node.inputs[1]).shape[2];
                    Some(ConvTask { kernel, stride, pad, upsample })
                }
                _ => None,
            },
            time_embedding: None,
            activation: None,
            geglu: false,
            residual: None,
            relu_last: false,
        };
        if let Some(&norm) = self.norms.get(&id) {
            self.put_norm(&mut task, norm);
        }
        let mut end = id;
        while let Some((reader, name)) = self.only_reader(end) {
            let next = self.node(reader);
            // An addition of two products is done behind the first of them only.
            let done = task.geglu || task.residual.is_some();
            let fused = match &next.op {
                _ if self.claimed[reader.idx()] || task.relu_last => false,
                Op::Activation(Activation::Relu) if task.residual.is_some() => {
                    task.relu_last = true;
                    true
                }
                _ if done => false,
                Op::Add => self.fuse_add(&mut task, next, name),
                Op::Activation(activation) if task.activation.is_none() => {
                    task.activation = Some(*activation);
                    true
                }
                Op::Geglu if task.activation.is_none() && task.time_embedding.is_none() => {
                    task.geglu = next.shape.last().is_some_and(|width| width.is_multiple_of(4));
                    task.geglu
                }
                _ => false,
            };
            if !fused {
                break;
            }
            end = reader;
            self.claimed[end.idx()] = true;
        }
        (TaskKind::Gemm(task), end)
    }

    fn fuse_add(&self, task: &mut GemmTask, add: &Node, ours: NodeId) -> bool {
        let [a, b] = add.inputs[..] else { return false };
        let other = if a == ours { b } else { a };
        let (shape, other_shape) = (&add.shape, &self.node(other).shape);
        let root = self.root(other);
        // A product that is itself the repeated operand has fewer rows than the sum.
        if self.node(ours).shape != *shape {
            return false;
        }
        // Weights are not stored like activations, and a value cannot be added to itself in passing.
        if a == b || matches!(self.node(root).op, Op::Weight) {
            return false;
        }
        let is_row = a == ours && shape.len() == 4 && other_shape[1..3] == [1, 1] && other_shape[0] == shape[0];
        let can_add_row = is_row && task.time_embedding.is_none() && task.activation.is_none();
        // At one pixel a time embedding has the shape of the sum. It is still no residual: merged with the others, its
        // values lie in their product and not in a storage of its own.
        if let Some(&rows) = self.rows_of.get(&root) {
            if can_add_row {
                task.time_embedding = Some(rows);
            }
            return can_add_row;
        }
        if other_shape == shape {
            task.residual = Some(root);
            return true;
        }
        if can_add_row {
            task.time_embedding = Some(RowsOf { root, stride: shape[3], offset: 0 });
            return true;
        }
        false
    }
}
