//! Sampling: the arithmetic on latents between two steps, as linear combinations, and the blending of inpainting.

pub mod blend;
pub mod lincomb;

use crate::run::gpu::kernel::Kernel;

/// The family's kernels.
pub const KERNELS: &[&Kernel] = &[&blend::KERNEL, &lincomb::KERNEL];
