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

/// What invocations multiply in, where no cooperative matrices do it. All but short sums are f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Multiply {
    /// f32.
    F32,
    /// f16, for activations in f16: half of the workgroup memory, and up to twice the speed where a GPU multiplies two in the
    /// time of one. Each product is rounded, and so are sums of a few, so that only a measurement chooses it.
    F16,
}

impl Multiply {
    /// Bytes of a factor in workgroup memory.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        match self {
            Multiply::F32 => 4,
            Multiply::F16 => 2,
        }
    }
}

/// What decides which kernels can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The type of activations.
    pub element: Element,
    /// The adapter's cooperative matrices, where they may be used.
    pub matrices: Option<Matrices>,
    /// Invocations that a subgroup has at least, a power of two, where kernels may have them tell each other numbers.
    pub least_subgroup: Option<u32>,
    /// Workgroup memory of one workgroup in bytes.
    pub workgroup_bytes: u32,
}

impl Machine {
    /// What every adapter has.
    #[must_use]
    pub const fn plain(element: Element) -> Self {
        Machine { element, matrices: None, least_subgroup: None, workgroup_bytes: 16 << 10 }
    }
}
