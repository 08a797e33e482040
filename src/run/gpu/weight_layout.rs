//! The layout of weights on the device, shared by the loader, the planner, the tuner and the kernels; and the key of a
//! buffer of weights.
//!
//! Knows nothing of where values come from or how they are converted.

use std::fmt;

use crate::graph::{Graph, NodeId, WeightSpec};
use crate::weights::WeightType;

/// The layout of the tensors of one buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WeightLayout {
    /// f32, one tensor behind the other: biases and the weights of norms.
    Vector,
    /// \[K,N\], matrices side by side along N, as `repack` lays them out; with `geglu` values and gates interleaved.
    Packed {
        /// Whether values and gates are interleaved.
        geglu: bool,
        /// The type of the values.
        weight_type: WeightType,
    },
}

impl WeightLayout {
    /// Columns of a packed matrix are filled up to a multiple of it, which is what a kernel reads at once.
    pub const PACKED_COLUMNS: u64 = 4;

    /// The type of its values.
    #[must_use]
    pub const fn weight_type(self) -> WeightType {
        match self {
            WeightLayout::Vector => WeightType::F32,
            WeightLayout::Packed { weight_type, .. } => weight_type,
        }
    }

    /// Bytes of a packed matrix of `k` rows and `n` columns.
    #[must_use]
    pub const fn packed_bytes(weight_type: WeightType, k: u64, n: u64) -> u64 {
        weight_type.matrix_bytes(k, n.next_multiple_of(Self::PACKED_COLUMNS))
    }

    /// Bytes of one tensor that lies as in the checkpoint.
    #[must_use]
    pub fn part_bytes(self, part: &WeightSpec) -> u64 {
        n_values(part) * self.weight_type().bits() / 8
    }

    /// Bytes of a buffer of tensors.
    #[must_use]
    pub fn bytes(self, parts: &[WeightSpec]) -> u64 {
        match self {
            WeightLayout::Vector => parts.iter().map(|part| self.part_bytes(part)).sum(),
            WeightLayout::Packed { weight_type, .. } => {
                let columns = parts.iter().map(|part| part.shape[0] as u64).sum();
                let rows = parts.first().map_or(0, |part| part.shape[1..].iter().product::<usize>());
                Self::packed_bytes(weight_type, rows as u64, columns)
            }
        }
    }
}

/// Values of a tensor.
pub(super) fn n_values(part: &WeightSpec) -> u64 {
    part.shape.iter().product::<usize>() as u64
}

/// The key of a buffer of weights: its tensors in order, and their layout.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WeightKey {
    names: Vec<String>,
    layout: WeightLayout,
}

impl WeightKey {
    /// The key of a buffer that holds the weights `parts` of a graph.
    pub(super) fn of(graph: &Graph, parts: &[NodeId], layout: WeightLayout) -> Self {
        WeightKey { names: parts.iter().map(|id| graph.node(*id).name.clone()).collect(), layout }
    }

    /// The key of tensors of these names.
    #[cfg(test)]
    pub(super) fn of_names(names: &[&str], layout: WeightLayout) -> Self {
        WeightKey { names: names.iter().map(|name| (*name).to_owned()).collect(), layout }
    }

    /// The tensors' names, in order.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

/// For labels and errors.
impl fmt::Display for WeightKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names.join("+"))
    }
}

/// One buffer of weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightBuffer {
    /// What dispatches know it by.
    pub key: WeightKey,
    /// The tensors.
    pub parts: Vec<WeightSpec>,
}

impl WeightBuffer {
    /// The buffer of the weights `parts` of a graph.
    pub(super) fn of(graph: &Graph, parts: &[NodeId], layout: WeightLayout) -> Self {
        let specs = parts.iter().map(|id| graph.node(*id));
        let specs = specs.map(|node| WeightSpec { name: node.name.clone(), shape: node.shape.clone() }).collect();
        WeightBuffer { key: WeightKey::of(graph, parts, layout), parts: specs }
    }

    /// How the tensors lie.
    #[must_use]
    pub fn layout(&self) -> WeightLayout {
        self.key.layout
    }

    /// Bytes on the device.
    #[must_use]
    pub fn n_bytes(&self) -> u64 {
        self.layout().bytes(&self.parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_follow_from_the_layout() {
        let part = |shape: &[usize]| WeightSpec { name: "w".into(), shape: shape.to_vec() };
        assert_eq!(WeightLayout::Vector.bytes(&[part(&[3]), part(&[5])]), 32);
        // 18 rows of 3 + 6 columns, filled up to 12.
        let packed = |weight_type| WeightLayout::Packed { geglu: false, weight_type };
        let parts = [part(&[3, 2, 3, 3]), part(&[6, 2, 3, 3])];
        assert_eq!(packed(WeightType::F16).bytes(&parts), 18 * 12 * 2);
        assert_eq!(packed(WeightType::Q8_0).bytes(&parts), 18 * 12 + 12 * 2);
        assert_eq!(packed(WeightType::Q4_0).bytes(&parts), 9 * 12 + 12 * 2);
    }
}
