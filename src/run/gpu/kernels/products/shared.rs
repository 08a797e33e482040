//! What the family's shaders share.

use crate::run::gpu::kernel::Import;

pub(super) const IMPORTS: &[Import] = &[
    ("epilogue", include_str!("shared/epilogue.wgsl")),
    ("gemm_matrix", include_str!("shared/gemm_matrix.wgsl")),
    ("gemm_params", include_str!("shared/gemm_params.wgsl")),
    ("gemm_steps", include_str!("shared/gemm_steps.wgsl")),
];
