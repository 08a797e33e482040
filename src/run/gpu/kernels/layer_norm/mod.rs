//! Layer normalisation, where no product does it with its rows.

mod emit;
#[allow(clippy::module_inception, reason = "a kernel's file has the kernel's name")]
mod layer_norm;
mod shared;

pub(in crate::run::gpu) use emit::emit;
pub use layer_norm::{Bindings, KERNEL, KERNEL_SUBGROUPS, launch, launch_of_vectors, reference};

use crate::run::gpu::kernel::Kernel;

/// The family's kernels.
pub const KERNELS: &[&Kernel] = &[&KERNEL, &KERNEL_SUBGROUPS];
