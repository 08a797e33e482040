//! Elementwise work, lookups and copies, and rows of pictures that lie in bands.

pub mod activation;
pub mod add;
pub mod affine;
pub mod cast_from_f32;
pub mod cast_to_f32;
pub mod copy;
pub mod count_non_finite;
mod emit;
mod fuse;
pub mod gather;
pub mod geglu;
pub mod pack;
pub mod rgba;
pub mod round_packed;
pub(in crate::run::gpu) mod rows;
mod shared;
pub mod timestep_embedding;
pub mod unpack;

pub(in crate::run::gpu) use emit::{emit, narrow, widen};
pub use fuse::Elementwise;
pub(in crate::run::gpu) use fuse::read_from_parts;

use crate::run::gpu::kernel::Kernel;

/// The family's kernels.
pub const KERNELS: &[&Kernel] = &[
    &activation::KERNEL,
    &add::KERNEL,
    &affine::KERNEL,
    &cast_from_f32::KERNEL,
    &cast_to_f32::KERNEL,
    &copy::KERNEL,
    &count_non_finite::KERNEL,
    &gather::KERNEL,
    &geglu::KERNEL,
    &pack::KERNEL,
    &rgba::KERNEL,
    &round_packed::KERNEL,
    &timestep_embedding::KERNEL,
    &unpack::KERNEL,
];
