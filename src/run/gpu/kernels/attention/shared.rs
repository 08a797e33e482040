//! What the family's shaders share.

use crate::run::gpu::kernel::Import;

pub(super) const IMPORTS: &[Import] = &[
    ("attention_by_invocations", include_str!("shared/attention_by_invocations.wgsl")),
    ("attention_params", include_str!("shared/attention_params.wgsl")),
    ("row_by_memory", include_str!("shared/row_by_memory.wgsl")),
    ("row_by_subgroup", include_str!("shared/row_by_subgroup.wgsl")),
];
