//! One dispatch but for its buffers, and what every `launch()` needs: limits, counts, workgroups.

use super::element::{Element, Width};
use super::entry::Kernel;
use crate::graph::Activation;
use crate::{Error, Result};

/// Workgroups along one dimension of a dispatch that every WebGPU adapter allows.
pub const MAX_GROUPS_PER_DIMENSION: u32 = 65_535;

/// The least range in bytes that satisfies any binding, used or not.
pub const UNUSED_BYTES: u64 = 16;

/// Invocations in a workgroup of the kernels that take one cell each.
pub(in crate::run::gpu) const ELEMENTWISE_THREADS: u32 = 256;

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
    pub(in crate::run::gpu) fn new(
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
pub(in crate::run::gpu) fn refuse(kernel: &'static str, reason: String) -> Error {
    Error::Shape { node: kernel.into(), op: kernel, reason }
}

/// The product of sizes, which kernels index with 32 bits.
pub(in crate::run::gpu) fn count(kernel: &'static str, sizes: &[u32]) -> Result<u32> {
    let product = sizes.iter().try_fold(1u32, |product, size| product.checked_mul(*size));
    product.ok_or_else(|| refuse(kernel, format!("cannot address a tensor of {sizes:?} values")))
}

/// At least `n` workgroups as a block of x, y and z; `linear_group()` in the shader gives each its number, and those
/// from `n` on have nothing to do.
pub(in crate::run::gpu) fn spread(kernel: &'static str, n: u32) -> Result<[u32; 3]> {
    let y = n.div_ceil(MAX_GROUPS_PER_DIMENSION).max(1);
    if y > MAX_GROUPS_PER_DIMENSION {
        return Err(refuse(kernel, format!("needs {n} workgroups, more than a dispatch can have")));
    }
    Ok([n.div_ceil(y), y, 1])
}

/// Workgroups for one invocation a cell.
pub(in crate::run::gpu) fn spread_cells(kernel: &'static str, n_cells: u32) -> Result<[u32; 3]> {
    spread(kernel, n_cells.div_ceil(ELEMENTWISE_THREADS))
}

/// The value of the override constant `activation` in every kernel that has one, as `shared/activate.wgsl` reads it.
pub(in crate::run::gpu) fn activation_code(activation: Option<Activation>) -> f64 {
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
