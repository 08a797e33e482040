//! What the family's shaders share.

use crate::run::gpu::kernel::Import;

pub(super) const IMPORTS: &[Import] = &[
    ("layer_norm_rows", include_str!("shared/layer_norm_rows.wgsl")),
    ("sum_by_memory", include_str!("shared/sum_by_memory.wgsl")),
    ("sum_by_subgroup", include_str!("shared/sum_by_subgroup.wgsl")),
];
