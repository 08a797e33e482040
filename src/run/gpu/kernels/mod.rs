//! The register of kernels, by family. A family is one folder: its kernels (a `.wgsl` file each, and beside it a `.rs` file
//! of the same name with the parameters, the bindings, `launch()`, which turns sizes into a launch, and `reference()`, the
//! same formula in plain Rust), what it takes from a graph (`fuse.rs`), and how it is turned into dispatches (`emit.rs`,
//! `bands.rs`).
//!
//! Families stand on [`kernel`](super::kernel) and may use those above them in this list: nothing here is used by what
//! they stand on.

pub mod elementwise;
pub mod sampling;

pub mod layer_norm;

pub mod products;

pub mod attention;
pub mod group_norm;

use super::kernel::Kernel;
// HACK: for callers outside of `run::gpu` that still name it here.
pub use super::kernel::Element;

/// Every kernel, family by family.
pub const FAMILIES: &[&[&Kernel]] = &[
    elementwise::KERNELS,
    sampling::KERNELS,
    layer_norm::KERNELS,
    products::KERNELS,
    attention::KERNELS,
    group_norm::KERNELS,
];

/// Every kernel.
pub fn all() -> impl Iterator<Item = &'static Kernel> {
    FAMILIES.iter().copied().flatten().copied()
}
