//! Matrix products: linear layers and convolutions, whole or with their sums in parts, with cooperative matrices or without;
//! the packing of their weights, low-rank terms that are added before, and which tile serves which shape.

pub mod add_low_rank;
mod bands;
mod choice;
mod emit;
mod fuse;
pub mod gemm;
pub mod gemm_matrix;
mod params;
mod reference;
pub mod repack;
mod shared;
mod sizes;
pub mod splitk_reduce;
mod tile;
pub mod tiles;

pub(in crate::run::gpu) use bands::Banded;
pub(in crate::run::gpu) use emit::{Parts, Products};
pub use fuse::{Conv, Product, RowsOf};
pub(in crate::run::gpu) use fuse::{Found, can_merge, merged, take_norm};
pub use params::Bindings;
pub use reference::{Operands, reference};
pub use sizes::{Epilogue, Gemm, RowVector, Source};
pub use tile::{TILE_K, TILES, Tile, Work};

use crate::run::gpu::kernel::Kernel;

/// The family's kernels.
pub const KERNELS: &[&Kernel] = &[
    &add_low_rank::KERNEL,
    &gemm::KERNEL,
    &gemm::KERNEL_F32,
    &gemm::KERNEL_Q8_0,
    &gemm::KERNEL_Q4_0,
    &gemm::KERNEL_HALF,
    &gemm::KERNEL_HALF_Q8_0,
    &gemm::KERNEL_HALF_Q4_0,
    &gemm_matrix::KERNEL_16,
    &gemm_matrix::KERNEL_16_F32,
    &gemm_matrix::KERNEL_16_Q8_0,
    &gemm_matrix::KERNEL_16_Q4_0,
    &gemm_matrix::KERNEL_8,
    &gemm_matrix::KERNEL_8_F32,
    &gemm_matrix::KERNEL_8_Q8_0,
    &gemm_matrix::KERNEL_8_Q4_0,
    &repack::KERNEL,
    &repack::KERNEL_PAIRS,
    &repack::KERNEL_F32,
    &repack::KERNEL_Q8_0,
    &repack::KERNEL_Q4_0,
    &splitk_reduce::KERNEL,
];
