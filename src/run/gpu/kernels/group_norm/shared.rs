//! What the family's shaders share.

use crate::run::gpu::kernel::Import;

pub(super) const IMPORTS: &[Import] = &[
    ("group_norm", include_str!("shared/group_norm.wgsl")),
    ("group_norm_channels", include_str!("shared/group_norm_channels.wgsl")),
    ("group_norm_of", include_str!("shared/group_norm_of.wgsl")),
    ("group_norm_sources", include_str!("shared/group_norm_sources.wgsl")),
    ("group_norm_whole", include_str!("shared/group_norm_whole.wgsl")),
];
