//! The match rule of attention: linear layers that make queries, keys and values from one input become one product, whose
//! rows hold all three.

use crate::graph::NodeId;
use crate::run::gpu::fusing::Fusing;
use crate::run::gpu::kernels::products::{self, Product};

/// One attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attended {
    /// The storage whose rows hold queries, keys and values, where one does.
    pub packed: Option<NodeId>,
    /// Heads.
    pub heads: usize,
    /// Scores are multiplied by it.
    pub scale: f64,
    /// Whether later keys are hidden.
    pub causal: bool,
}

/// One product for the queries, keys and values of an attention.
pub(in crate::run::gpu) struct Packed {
    pub product: Product,
    /// The node whose storage the product writes.
    pub out: NodeId,
    /// The node whose position in the order it takes.
    pub place: NodeId,
}

/// Merges the queries, keys and values of the attention `id` into one product, if possible.
pub(in crate::run::gpu) fn pack(fusing: &mut Fusing<'_>, id: NodeId) -> Option<Packed> {
    let node = fusing.node(id);
    let &[q, k, v] = &node.inputs[..] else { return None };
    let inputs = [q, k, v];
    let alone = inputs.iter().all(|&input| fusing.only_reader(input).is_some_and(|(_, name)| name == input));
    let same_width = inputs.iter().all(|&input| fusing.node(input).shape == node.shape);
    if !(alone && same_width && products::can_merge(fusing, &inputs)) {
        return None;
    }
    fusing.widen(q, 3 * node.n_elements());
    for input in inputs {
        fusing.store_in(input, q);
        fusing.claim(input);
    }
    let mut product = products::merged(fusing, &inputs);
    let n_columns = 3 * fusing.width(q);
    products::take_norm(fusing, &mut product, &inputs, n_columns);
    fusing.claim(id);
    // In the place of the last one: another node's task may stand in its inputs' own places.
    Some(Packed { product, out: q, place: q.max(k).max(v) })
}
