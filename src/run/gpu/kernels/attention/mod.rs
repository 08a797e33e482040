//! Attention: one kernel that never materialises the scores, plain or with cooperative matrices.

#[allow(clippy::module_inception, reason = "a kernel's file has the kernel's name")]
mod attention;
pub mod attention_matrix;
mod emit;
mod fuse;
mod shared;
mod sizes;

pub use attention::{KERNEL, KERNEL_HALF, KERNEL_HALF_SUBGROUPS, KERNEL_SUBGROUPS, launch, reference};
pub(in crate::run::gpu) use emit::emit;
pub use fuse::Attended;
pub(in crate::run::gpu) use fuse::{Packed, pack};
pub use sizes::{Attention, Bindings};

use crate::run::gpu::kernel::Kernel;

/// The family's kernels.
pub const KERNELS: &[&Kernel] =
    &[&KERNEL, &KERNEL_SUBGROUPS, &KERNEL_HALF, &KERNEL_HALF_SUBGROUPS, &attention_matrix::KERNEL];
