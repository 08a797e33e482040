//! Group normalisation. Small pictures take one dispatch ([`launch`]). For large ones [`group_norm_stats`] measures parts of
//! each group with many workgroups, since 32 groups alone would leave a GPU idle, and [`group_norm_apply`] joins the parts
//! and normalises. A picture in bands of rows is measured and normalised band by band ([`Band`]). The partial sums of a
//! split product are added by the norm itself ([`splitk_group_norm`]). The input may be two tensors that stand for their
//! concatenation along the channels.

mod bands;
mod emit;
mod fuse;
#[allow(clippy::module_inception, reason = "a kernel's file has the kernel's name")]
mod group_norm;
pub mod group_norm_apply;
pub mod group_norm_stats;
mod shared;
mod sizes;
pub mod splitk_group_norm;

pub(in crate::run::gpu) use emit::{emit, of_one_whole};
pub use fuse::Normed;
pub(in crate::run::gpu) use fuse::fuse;
pub use group_norm::{Bindings, KERNEL, launch, reference};
pub use sizes::{Band, GroupNorm, MAX_CHUNKS};

use crate::run::gpu::kernel::Kernel;

/// The family's kernels.
pub const KERNELS: &[&Kernel] =
    &[&KERNEL, &group_norm_apply::KERNEL, &group_norm_stats::KERNEL, &splitk_group_norm::KERNEL];
