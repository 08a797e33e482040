//! What several shaders of the family import.

use crate::run::gpu::kernel::Import;

/// The form of packed values, and the parameters of the kernels that pack, unpack and round.
pub(super) const PACKED: &[Import] =
    &[("pack_params", include_str!("shared/pack_params.wgsl")), ("packed", include_str!("shared/packed.wgsl"))];
