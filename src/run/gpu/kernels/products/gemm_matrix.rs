//! `gemm_matrix`: the products of [`super::gemm`] with cooperative matrices, which hardware multiplies as a whole: tensor cores
//! through Vulkan, SIMD-group matrices through Metal. Factors are f16, sums f32.
//!
//! [`super::gemm::launch`] launches it for the tiles that name matrices, and its plain kernel stays the reference. Only for
//! activations in f16 whose rows are multiples of eight, and for adapters that have such matrices
//! ([`Matrices`](crate::run::gpu::kernel::Matrices)).

use super::params::{Bindings, Params};
use super::shared::IMPORTS;
use crate::run::gpu::kernel::{Bind, Element, Kernel, Width};
use crate::weights::WeightType;

/// With matrices of 16x16. Bindings are those of [`super::gemm`].
pub const KERNEL_16: Kernel = Kernel {
    name: "gemm_matrix_16",
    wgsl: include_str!("gemm_matrix_16.wgsl"),
    bindings: Bindings::<()>::BINDINGS,
    imports: IMPORTS,
    params_bytes: size_of::<Params>(),
    params_fields: Params::FIELDS,
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

macro_rules! kernels {
    ($($name:ident, $base:ident, $file:literal;)*) => {
        $(
            /// With weights in the type of the name.
            pub const $name: Kernel = Kernel { name: $file, wgsl: include_str!(concat!($file, ".wgsl")), ..$base };
        )*
    };
}

kernels! {
    KERNEL_16_F32, KERNEL_16, "gemm_matrix_16_f32";
    KERNEL_16_Q8_0, KERNEL_16, "gemm_matrix_16_q8_0";
    KERNEL_16_Q4_0, KERNEL_16, "gemm_matrix_16_q4_0";
    KERNEL_8_F32, KERNEL_8, "gemm_matrix_8_f32";
    KERNEL_8_Q8_0, KERNEL_8, "gemm_matrix_8_q8_0";
    KERNEL_8_Q4_0, KERNEL_8, "gemm_matrix_8_q4_0";
}

/// The kernel for matrices of `side` and a type of weights, which are rounded to f16 where they are not.
pub(super) const fn kernel_for(side: u32, weight: WeightType) -> &'static Kernel {
    match (side, weight) {
        (8, WeightType::F16) => &KERNEL_8,
        (8, WeightType::F32) => &KERNEL_8_F32,
        (8, WeightType::Q8_0) => &KERNEL_8_Q8_0,
        (8, WeightType::Q4_0) => &KERNEL_8_Q4_0,
        (_, WeightType::F16) => &KERNEL_16,
        (_, WeightType::F32) => &KERNEL_16_F32,
        (_, WeightType::Q8_0) => &KERNEL_16_Q8_0,
        (_, WeightType::Q4_0) => &KERNEL_16_Q4_0,
    }
}
