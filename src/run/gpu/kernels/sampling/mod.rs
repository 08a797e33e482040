//! Sampling: arithmetic on latents between two steps, as linear combinations, and the blend of inpainting.

pub mod blend;
pub mod lincomb;

use crate::run::gpu::kernel::Kernel;

/// The family's kernels.
pub const KERNELS: &[&Kernel] = &[&blend::KERNEL, &lincomb::KERNEL];
