//! What the family's shaders share.

use crate::run::gpu::kernel::Import;

pub(super) const IMPORTS: &[Import] = &[
    ("gemm", include_str!("shared/gemm.wgsl")),
    ("epilogue", include_str!("shared/epilogue.wgsl")),
    ("gemm_matrix", include_str!("shared/gemm_matrix.wgsl")),
    ("gemm_params", include_str!("shared/gemm_params.wgsl")),
    ("gemm_steps", include_str!("shared/gemm_steps.wgsl")),
    ("half_bits", include_str!("shared/half_bits.wgsl")),
    ("repack", include_str!("shared/repack.wgsl")),
    ("repack_blocks", include_str!("shared/repack_blocks.wgsl")),
    ("repack_place", include_str!("shared/repack_place.wgsl")),
    ("weight_eights", include_str!("shared/weight_eights.wgsl")),
    ("weight_eights_f16", include_str!("shared/weight_eights_f16.wgsl")),
    ("weight_f16", include_str!("shared/weight_f16.wgsl")),
    ("weight_f32", include_str!("shared/weight_f32.wgsl")),
    ("weight_q4_0", include_str!("shared/weight_q4_0.wgsl")),
    ("weight_q8_0", include_str!("shared/weight_q8_0.wgsl")),
    ("weight_scales", include_str!("shared/weight_scales.wgsl")),
];
