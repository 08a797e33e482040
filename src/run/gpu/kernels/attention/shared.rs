//! What the family's shaders share.

use crate::run::gpu::kernel::Import;

pub(super) const IMPORTS: &[Import] = &[("attention_params", include_str!("shared/attention_params.wgsl"))];
