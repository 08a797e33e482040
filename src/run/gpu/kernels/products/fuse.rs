//! The match rule of products: a convolution or linear layers, with what can be fused in front (prologue) and behind
//! (epilogue).
//!
//! - Behind a convolution or linear layer: the time embedding, an activation, a residual, GEGLU, as far as the result has no
//!   other reader.
//! - In front of a narrow linear layer: the layer norm that it alone reads.
//! - Linear layers of one input can be merged into one product ([`merged`]): the time embeddings of all residual blocks.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::graph::{Activation, Graph, Node, NodeId, Op};
use crate::run::gpu::fusing::Fusing;
use crate::run::gpu::weight_layout::{WeightBuffer, WeightKey, WeightLayout};
use crate::weights::WeightType;

/// The geometry of a convolution, beside the shapes of its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
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
pub struct Product {
    /// The rows, or the picture that a convolution gathers them from; two where they stand for their concatenation.
    pub x: Vec<NodeId>,
    /// The layer norm that the rows go through first.
    pub norm: Option<NodeId>,
    /// The weights whose outputs lie side by side.
    pub weights: Vec<NodeId>,
    /// Added to every row, side by side like the weights.
    pub biases: Vec<NodeId>,
    /// How rows are gathered; `None` for a linear layer.
    pub conv: Option<Conv>,
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
    /// The type that the weights are held in.
    pub weight_type: WeightType,
}

impl Product {
    /// What the buffer of vectors holds: biases, then the layer norm's weight and bias.
    #[must_use]
    pub fn vectors(&self, graph: &Graph) -> Vec<NodeId> {
        let norm = self.norm.map(|norm| &graph.node(norm).inputs[1..]).unwrap_or_default();
        self.biases.iter().chain(norm).copied().collect()
    }

    fn layout(&self) -> WeightLayout {
        WeightLayout::Packed { geglu: self.geglu, weight_type: self.weight_type }
    }

    /// The packed matrix.
    pub(super) fn weight_key(&self, graph: &Graph) -> WeightKey {
        WeightKey::of(graph, &self.weights, self.layout())
    }

    /// The buffer of vectors, if there are any.
    pub(super) fn vectors_key(&self, graph: &Graph) -> Option<WeightKey> {
        let vectors = self.vectors(graph);
        (!vectors.is_empty()).then(|| WeightKey::of(graph, &vectors, WeightLayout::Vector))
    }

    /// The buffers of weights that it reads.
    #[must_use]
    pub fn weight_buffers(&self, graph: &Graph) -> Vec<WeightBuffer> {
        let matrix = WeightBuffer::of(graph, &self.weights, self.layout());
        let vectors = self.vectors(graph);
        let vectors = (!vectors.is_empty()).then(|| WeightBuffer::of(graph, &vectors, WeightLayout::Vector));
        [matrix].into_iter().chain(vectors).collect()
    }

    /// The storages that it reads.
    #[must_use]
    pub fn reads(&self) -> Vec<NodeId> {
        let rows = self.time_embedding.map(|rows| rows.root);
        self.x.iter().copied().chain(rows).chain(self.residual).collect()
    }

    /// Whether it is a convolution of each pixel of a picture by itself, with nothing added.
    pub(in crate::run::gpu) fn is_pointwise_of(&self, picture: NodeId) -> bool {
        let pointwise = Conv { kernel: 1, stride: 1, pad: [0; 4], upsample: None };
        self.conv == Some(pointwise) && self.x == [picture] && self.residual.is_none() && self.time_embedding.is_none()
    }

    /// Whether it can be done band by band.
    #[must_use]
    pub fn can_be_cut(&self) -> bool {
        self.conv.is_some() && self.x.len() == 1
    }
}

/// Columns up to which a product normalises its own rows. Every tile of columns measures them again, which for wide
/// products takes longer than a norm by itself.
const MAX_NORMED_COLUMNS: usize = 1280;

/// Whether linear layers can be one product: the same input, widths in fours, and all or none with a bias.
pub(in crate::run::gpu) fn can_merge(fusing: &Fusing<'_>, ids: &[NodeId]) -> bool {
    let distinct: HashSet<NodeId> = ids.iter().copied().collect();
    // What is given has no inputs, and is no linear layer.
    let Some((first, x)) = ids.first().and_then(|first| Some((first, *fusing.node(*first).inputs.first()?))) else {
        return false;
    };
    let x = fusing.root(x);
    distinct.len() == ids.len()
        && ids.iter().all(|&id| {
            let node = fusing.node(id);
            matches!(node.op, Op::Linear)
                && fusing.root(node.inputs[0]) == x
                && node.inputs.len() == fusing.node(*first).inputs.len()
                && node.shape.last().is_some_and(|width| width.is_multiple_of(4))
                && !fusing.is_claimed(id)
        })
}

/// One product for several linear layers of the same input.
pub(in crate::run::gpu) fn merged(fusing: &Fusing<'_>, ids: &[NodeId]) -> Product {
    Product {
        x: vec![fusing.root(fusing.node(ids[0]).inputs[0])],
        norm: None,
        weights: ids.iter().map(|&id| fusing.node(id).inputs[1]).collect(),
        biases: ids.iter().filter_map(|&id| fusing.node(id).inputs.get(2)).copied().collect(),
        conv: None,
        time_embedding: None,
        activation: None,
        geglu: false,
        residual: None,
        relu_last: false,
        weight_type: fusing.weight_type(&ids.iter().map(|&id| fusing.node(id).inputs[1]).collect::<Vec<_>>()),
    }
}

/// Fuses the layer norm in front of linear layers into their product of `n_columns` columns, if possible.
pub(in crate::run::gpu) fn take_norm(
    fusing: &mut Fusing<'_>,
    product: &mut Product,
    linears: &[NodeId],
    n_columns: usize,
) {
    if let Some(norm) = own_norm(fusing, linears, n_columns) {
        fusing.claim(norm);
        put_norm(fusing, product, norm);
    }
}

/// The layer norm in front of linear layers, if they are all that reads it and narrow enough.
fn own_norm(fusing: &Fusing<'_>, linears: &[NodeId], n_columns: usize) -> Option<NodeId> {
    let norm = fusing.node(linears[0]).inputs[0];
    let readers = fusing.readers(norm);
    let fits = matches!(fusing.node(norm).op, Op::LayerNorm { .. })
        && readers.len() == linears.len()
        && readers.iter().all(|reader| linears.contains(reader))
        && !fusing.is_output(norm)
        && n_columns <= MAX_NORMED_COLUMNS;
    fits.then_some(norm)
}

fn put_norm(fusing: &Fusing<'_>, product: &mut Product, norm: NodeId) {
    product.norm = Some(norm);
    product.x = vec![fusing.root(fusing.node(norm).inputs[0])];
}

/// What has to be found before products are made, because other nodes lie between.
#[derive(Default)]
pub(in crate::run::gpu) struct Found {
    /// The layer norm that a linear layer does itself.
    norms: HashMap<NodeId, NodeId>,
    /// Where the rows of merged time embeddings are.
    rows_of: HashMap<NodeId, RowsOf>,
}

impl Found {
    /// Merges the linear layers whose only use is to be added to the rows of a convolution: all read the same time embedding.
    /// Gives each product with the node whose position it takes.
    pub fn merge_time_embeddings(&mut self, fusing: &mut Fusing<'_>) -> Vec<(NodeId, Product)> {
        let mut by_input: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        for (idx, node) in fusing.graph.nodes.iter().enumerate() {
            let id = NodeId(idx as u32);
            let reader = fusing.only_reader(id).filter(|_| matches!(node.op, Op::Linear));
            let Some((reader, name)) = reader else { continue };
            let add = fusing.node(reader);
            let is_row = matches!(add.op, Op::Add)
                && add.inputs[1] == name
                && matches!(fusing.node(add.inputs[0]).op, Op::Conv2d { .. })
                && fusing.only_reader(add.inputs[0]).is_some()
                && fusing.node(name).shape.len() == 4
                && fusing.node(name).shape[1..3] == [1, 1]
                && fusing.node(name).shape[0] == add.shape[0];
            if is_row {
                by_input.entry(fusing.root(node.inputs[0])).or_default().push(id);
            }
        }
        let mut products = Vec::new();
        for ids in by_input.into_values().filter(|ids| ids.len() > 1) {
            if !can_merge(fusing, &ids) {
                continue;
            }
            let widths: Vec<usize> = ids.iter().map(|&id| fusing.width(id)).collect();
            let (first, stride) = (ids[0], widths.iter().sum());
            let mut offset = 0;
            for (&id, width) in ids.iter().zip(widths) {
                self.rows_of.insert(id, RowsOf { root: first, stride, offset });
                fusing.claim(id);
                offset += width;
            }
            let n_rows = fusing.node(first).n_elements() / fusing.width(first).max(1);
            fusing.widen(first, n_rows * stride);
            products.push((first, merged(fusing, &ids)));
        }
        products
    }

    /// Fuses the layer norm in front of a linear layer, if possible.
    pub fn look_for_norm(&mut self, fusing: &mut Fusing<'_>, linear: NodeId) {
        if fusing.is_claimed(linear) {
            return;
        }
        if let Some(norm) = own_norm(fusing, &[linear], fusing.width(linear)) {
            self.norms.insert(linear, norm);
            fusing.claim(norm);
        }
    }

    /// A convolution or linear layer with everything behind it that its epilogue can do; and the last node of the chain.
    pub fn fuse(&self, fusing: &mut Fusing<'_>, id: NodeId) -> (Product, NodeId) {
        let node = fusing.node(id);
        let mut product = Product {
            x: fusing.sources(node.inputs[0]),
            norm: None,
            weights: vec![node.inputs[1]],
            biases: node.inputs.get(2).copied().into_iter().collect(),
            conv: match node.op {
                Op::Conv2d { stride, pad, upsample } => {
                    let kernel = fusing.node(node.inputs[1]).shape[2];
                    Some(Conv { kernel, stride, pad, upsample })
                }
                _ => None,
            },
            time_embedding: None,
            activation: None,
            geglu: false,
            residual: None,
            relu_last: false,
            weight_type: fusing.weight_type(&node.inputs[1..2]),
        };
        if let Some(&norm) = self.norms.get(&id) {
            put_norm(fusing, &mut product, norm);
        }
        let mut end = id;
        while let Some((reader, name)) = fusing.only_reader(end) {
            let next = fusing.node(reader);
            // An addition of two products is done behind the first of them only.
            let done = product.geglu || product.residual.is_some();
            let fused = match &next.op {
                _ if fusing.is_claimed(reader) || product.relu_last => false,
                Op::Activation(Activation::Relu) if product.residual.is_some() => {
                    product.relu_last = true;
                    true
                }
                _ if done => false,
                Op::Add => self.fuse_add(fusing, &mut product, next, name),
                Op::Activation(activation) if product.activation.is_none() => {
                    product.activation = Some(*activation);
                    true
                }
                Op::Geglu if product.activation.is_none() && product.time_embedding.is_none() => {
                    product.geglu = next.shape.last().is_some_and(|width| width.is_multiple_of(4));
                    product.geglu
                }
                _ => false,
            };
            if !fused {
                break;
            }
            end = reader;
            fusing.claim(end);
        }
        (product, end)
    }

    fn fuse_add(&self, fusing: &Fusing<'_>, product: &mut Product, add: &Node, ours: NodeId) -> bool {
        let [a, b] = add.inputs[..] else { return false };
        let other = if a == ours { b } else { a };
        let (shape, other_shape) = (&add.shape, &fusing.node(other).shape);
        let root = fusing.root(other);
        // A product that is itself the repeated operand has fewer rows than the sum.
        if fusing.node(ours).shape != *shape {
            return false;
        }
        // Weights are not stored like activations, and a value cannot be added to itself in passing.
        if a == b || matches!(fusing.node(root).op, Op::Weight) {
            return false;
        }
        let is_row = a == ours && shape.len() == 4 && other_shape[1..3] == [1, 1] && other_shape[0] == shape[0];
        let can_add_row = is_row && product.time_embedding.is_none() && product.activation.is_none();
        // At one pixel a time embedding has the shape of the sum. It is still no residual: merged with the others, its
        // values lie in their product and not in a storage of its own.
        if let Some(&rows) = self.rows_of.get(&root) {
            if can_add_row {
                product.time_embedding = Some(rows);
            }
            return can_add_row;
        }
        if other_shape == shape {
            product.residual = Some(root);
            return true;
        }
        if can_add_row {
            product.time_embedding = Some(RowsOf { root, stride: shape[3], offset: 0 });
            return true;
        }
        false
    }
}
