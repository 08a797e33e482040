//! Subgroup operations, tried before kernels use them.

pub mod shuffle;

use crate::run::gpu::kernel::Kernel;

/// The family's kernels.
pub const KERNELS: &[&Kernel] = &[&shuffle::KERNEL];
