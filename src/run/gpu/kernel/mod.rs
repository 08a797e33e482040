//! What every kernel stands on: its entry in the register ([`Kernel`]), its parameters and typed bindings, one dispatch of it
//! ([`Launch`]), the text that a device compiles, and the pipeline.
//!
//! No kernel is named here, no buffer is held and nothing is recorded.
//!
//! # Conventions
//! - Activations have the element type of the launch ([`Element`]), lie channels-last without gaps, and are always bound
//!   `read_write`, inputs too: they share one buffer, which WebGPU does not let a dispatch bind both ways. Ranges of one
//!   dispatch must not overlap. Only weights are bound `read`.
//! - A binding that a launch does not use is `None` in its [`Bind`] and still has to be filled: with any [`UNUSED_BYTES`]
//!   that overlap no other range of the dispatch.
//! - Sizes are uniforms; whatever selects code is an `override` constant. A dispatch has at most
//!   [`MAX_GROUPS_PER_DIMENSION`] workgroups along a dimension; long rows of them wrap into y and z.

mod bind;
mod machine;
pub mod pipeline;
mod source;

pub use bind::Bind;
pub(super) use bind::{bindings, params};
pub use machine::{Machine, Matrices};

use crate::graph::Activation;
use crate::{Error, Result};

/// Workgroups along one dimension of a dispatch that every WebGPU adapter allows.
pub const MAX_GROUPS_PER_DIMENSION: u32 = 65_535;

/// The least range in bytes that satisfies any binding, used or not.
pub const UNUSED_BYTES: u64 = 16;

/// Invocations in a workgroup of the kernels that take one cell each.
pub(super) const ELEMENTWISE_THREADS: u32 = 256;

/// The type of activations in memory. Sums are f32 either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// Four bytes, on every adapter.
    F32,
    /// Two bytes, where the adapter has `shader-f16`.
    F16,
}

impl Element {
    /// Both.
    pub const ALL: &'static [Element] = &[Element::F32, Element::F16];

    /// Bytes of one element.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Element::F32 => 4,
            Element::F16 => 2,
        }
    }
}

/// How many neighbouring elements a kernel reads and writes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// One: any size.
    One,
    /// Four: rows are multiples of four elements.
    Four,
}

impl Width {
    /// Both.
    pub const ALL: &'static [Width] = &[Width::One, Width::Four];

    /// Four when every one of `sizes` is a multiple of four.
    #[must_use]
    pub fn of(sizes: &[u32]) -> Self {
        if sizes.iter().all(|size| size.is_multiple_of(4)) { Width::Four } else { Width::One }
    }

    /// Elements in a cell, which is what is read at once.
    #[must_use]
    pub const fn elements(self) -> u32 {
        match self {
            Width::One => 1,
            Width::Four => 4,
        }
    }
}

/// How a kernel sees one of its bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// The parameters, at a dynamic offset.
    Uniform,
    /// A storage buffer that is only read.
    Read,
    /// A storage buffer that is written, or an activation.
    ReadWrite,
}

/// The name and the text of a file that shaders import.
pub type Import = (&'static str, &'static str);

/// What Rust believes about one WGSL file.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// The file's name without `.wgsl`, and the label on the GPU.
    pub name: &'static str,
    /// The file's text; [`Kernel::source`] completes it.
    pub wgsl: &'static str,
    /// Group 0, in order, by the names in the file: binding 0 first, which is always the uniform.
    pub bindings: &'static [(&'static str, Binding)],
    /// The shared files of its family that it may import.
    pub imports: &'static [Import],
    /// Size in bytes of the Rust struct behind the uniform at binding 0.
    pub params_bytes: usize,
    /// Name and byte offset of each of its fields.
    pub params_fields: &'static [(&'static str, usize)],
    /// The override constants that launches set.
    pub constants: &'static [&'static str],
    /// The element types it is launched with.
    pub elements: &'static [Element],
    /// The widths it is launched with.
    pub widths: &'static [Width],
}

/// One dispatch, but for its buffers.
#[derive(Clone, Debug)]
pub struct Launch {
    /// What runs.
    pub kernel: &'static Kernel,
    /// The type of its activations.
    pub element: Element,
    /// Elements read at once.
    pub width: Width,
    /// Values of override constants. Those that are absent keep the file's default.
    pub constants: Vec<(&'static str, f64)>,
    /// The bytes of the uniform at binding 0, a multiple of 16.
    pub params: Vec<u8>,
    /// Workgroups along x, y and z.
    pub workgroups: [u32; 3],
}

/// What two launches must agree on to share a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PipelineKey {
    /// [`Kernel::name`].
    pub kernel: &'static str,
    /// The type of activations.
    pub element: Element,
    /// Elements read at once.
    pub width: Width,
    /// Names and bits of the constants.
    pub constants: Vec<(&'static str, u64)>,
}

impl Launch {
    /// A launch with the parameters' bytes.
    pub(super) fn new(
        kernel: &'static Kernel,
        element: Element,
        width: Width,
        constants: &[(&'static str, f64)],
        params: &impl bytemuck::NoUninit,
        workgroups: [u32; 3],
    ) -> Self {
        let params = bytemuck::bytes_of(params).to_vec();
        Self { kernel, element, width, constants: constants.to_vec(), params, workgroups }
    }

    /// What decides the pipeline.
    #[must_use]
    pub fn pipeline_key(&self) -> PipelineKey {
        PipelineKey {
            kernel: self.kernel.name,
            element: self.element,
            width: self.width,
            constants: self.constants.iter().map(|(name, value)| (*name, value.to_bits())).collect(),
        }
    }
}

/// An error of `launch()`.
pub(super) fn refuse(kernel: &'static str, reason: String) -> Error {
    Error::Shape { node: kernel.into(), op: kernel, reason }
}

/// The product of sizes, which kernels index with 32 bits.
pub(super) fn count(kernel: &'static str, sizes: &[u32]) -> Result<u32> {
    let product = sizes.iter().try_fold(1u32, |product, size| product.checked_mul(*size));
    product.ok_or_else(|| refuse(kernel, format!("cannot address a tensor of {sizes:?} values")))
}

/// At least `n` workgroups as a block of x, y and z; `linear_group()` in the shader gives each its number, and those
/// from `n` on have nothing to do.
pub(super) fn spread(kernel: &'static str, n: u32) -> Result<[u32; 3]> {
    let y = n.div_ceil(MAX_GROUPS_PER_DIMENSION).max(1);
    if y > MAX_GROUPS_PER_DIMENSION {
        return Err(refuse(kernel, format!("needs {n} workgroups, more than a dispatch can have")));
    }
    Ok([n.div_ceil(y), y, 1])
}

/// Workgroups for one invocation a cell.
pub(super) fn spread_cells(kernel: &'static str, n_cells: u32) -> Result<[u32; 3]> {
    spread(kernel, n_cells.div_ceil(ELEMENTWISE_THREADS))
}

/// The value of the override constant `activation` in every kernel that has one, as `shared/activate.wgsl` reads it.
pub(super) fn activation_code(activation: Option<Activation>) -> f64 {
    match activation {
        None => 0.0,
        Some(Activation::Silu) => 1.0,
        Some(Activation::Gelu) => 2.0,
        Some(Activation::QuickGelu) => 3.0,
        Some(Activation::Relu) => 4.0,
        Some(Activation::Tanh) => 5.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workgroups_wrap_into_rows() {
        assert_eq!(spread("probe", 0).unwrap(), [0, 1, 1]);
        assert_eq!(spread("probe", 65_535).unwrap(), [65_535, 1, 1]);
        assert_eq!(spread("probe", 65_536).unwrap(), [32_768, 2, 1]);
        let [x, y, z] = spread("probe", 16_777_216).unwrap();
        assert!(x * y * z >= 16_777_216 && x <= 65_535 && y <= 65_535);
    }

    #[test]
    fn counts_that_overflow_are_refused() {
        assert_eq!(count("probe", &[2, 3, 4]).unwrap(), 24);
        assert!(count("probe", &[65_536, 65_536]).is_err());
    }
}
