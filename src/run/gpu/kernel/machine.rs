//! What of an adapter decides which kernels run.

use serde::Serialize;

use super::element::Element;

/// The cooperative matrices of an adapter: f16 factors of `side` x `side`, summed in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Matrices {
    /// Rows and columns: 8 or 16.
    pub side: u32,
    /// Invocations of a subgroup, which is the same for every kernel.
    pub subgroup_size: u32,
}

/// What decides which tiles can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The type of activations.
    pub element: Element,
    /// The adapter's cooperative matrices, where they may be used.
    pub matrices: Option<Matrices>,
    /// Workgroup memory of one workgroup in bytes.
    pub workgroup_bytes: u32,
}

impl Machine {
    /// What every adapter has.
    #[must_use]
    pub const fn plain(element: Element) -> Self {
        Machine { element, matrices: None, workgroup_bytes: 16 << 10 }
    }
}
