//! The match rule of elementwise work: a concatenation of channels that only norms and convolutions read is never
//! materialised but read from its two parts.

use crate::graph::{Activation, NodeId, Op};
use crate::run::gpu::fusing::Fusing;

/// One operation that is a kernel of its own.
#[derive(Clone, Debug, PartialEq)]
pub enum Elementwise {
    /// A non-linearity.
    Activation(Activation),
    /// The first half of each row times gelu of the second.
    Geglu,
    /// A sum, whose second operand may repeat.
    Add,
    /// The value times a constant.
    Scale {
        /// The constant.
        factor: f64,
    },
    /// The value times factors plus offsets, one or four of each.
    Affine {
        /// The factors.
        factors: Vec<f64>,
        /// What is added.
        offsets: Vec<f64>,
    },
    /// Values joined along an axis.
    Concat {
        /// The axis.
        axis: usize,
    },
    /// `len` entries from `start` along an axis.
    Slice {
        /// The axis.
        axis: usize,
        /// The first entry.
        start: usize,
        /// Entries.
        len: usize,
    },
    /// Rows of a value by number.
    Gather,
    /// Cosines and sines of a number.
    TimestepEmbedding {
        /// Values of one number.
        dim: usize,
        /// Whether cosines come first.
        flip_sin_to_cos: bool,
        /// Taken from the divisor of the exponent.
        freq_shift: f64,
    },
}

/// Marks a concatenation of channels to be read from its two parts, if all its readers can.
pub(in crate::run::gpu) fn read_from_parts(fusing: &mut Fusing<'_>, id: NodeId, axis: usize) {
    let node = fusing.node(id);
    if axis != 3 || node.shape.len() != 4 || node.inputs.len() != 2 {
        return;
    }
    let all_can = fusing.readers(id).iter().all(|&reader| {
        let reader = fusing.node(reader);
        matches!(reader.op, Op::GroupNorm { .. } | Op::Conv2d { .. })
            && reader.inputs.iter().filter(|&&input| input == id).count() == 1
    });
    let parts = [fusing.root(node.inputs[0]), fusing.root(node.inputs[1])];
    if all_can && !fusing.is_output(id) && parts[0] != parts[1] {
        fusing.read_from_parts(id, parts);
    }
}
