//! `gemm_matrix`: the products of [`super::gemm`] with cooperative matrices, which hardware multiplies as a whole: tensor cores
//! through Vulkan, SIMD-group matrices through Metal. Factors are f16, sums f32.
//!
//! [`super::gemm::launch`] launches it for the tiles that name matrices, and its plain kernel stays the reference. Only for
//! activations in f16 whose rows are multiples of eight, and for adapters that have such matrices
//! ([`super::gemm::Matrices`]).

use super::gemm::{self, PARAMS_BYTES, PARAMS_FIELDS};
use super::{Element, Kernel, Width};

/// With matrices of 16x16. Bindings are those of [`gemm::KERNEL`].
pub const KERNEL_16: Kernel = Kernel {
    name: "gemm_matrix_16",
    wgsl: include_str!("gemm_matrix_16.wgsl"),
    bindings: gemm::KERNEL.bindings,
    params_bytes: PARAMS_BYTES,
    params_fields: PARAMS_FIELDS,
    constants: &[
        "subgroups_m",
        "subgroups_n",
        "subgroup_size",
        "matrices_m",
        "matrices_n",
        "two_halves",
        "upsample",
        "has_bias",
        "has_time_embedding",
        "has_residual",
        "relu_last",
        "activation",
        "geglu",
        "split",
    ],
    elements: &[Element::F16],
    widths: &[Width::Four],
};

/// With matrices of 8x8.
pub const KERNEL_8: Kernel = Kernel { name: "gemm_matrix_8", wgsl: include_str!("gemm_matrix_8.wgsl"), ..KERNEL_16 };
