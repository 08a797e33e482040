//! What several shaders of the family import.

use crate::run::gpu::kernel::Import;

/// The form of packed values.
pub(super) const PACKED: &[Import] = &[("packed", include_str!("shared/packed.wgsl"))];
