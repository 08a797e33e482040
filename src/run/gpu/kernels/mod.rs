//! The register of kernels, by family. A family is one folder:
//!
//! - its kernels: a `.wgsl` file each, and beside it a `.rs` file of the same name with the parameters, the bindings,
//!   `launch()`, which turns sizes into a launch, and `reference()`, the same formula in plain Rust; `shared/` holds what
//!   several of its shaders import;
//! - `fuse.rs`: its match rule, which says what it takes from a graph;
//! - `emit.rs` and `bands.rs`: its tasks as dispatches, of whole pictures and of pictures in bands of rows.
//!
//! Families stand on [`kernel`](super::kernel), `fusing` and [`emit`](super::emit), and may use families listed before them;
//! tests/invariants keeps that. This module is a list and nothing else.

pub mod sampling;
pub mod subgroups;

pub mod elementwise;

pub mod layer_norm;

pub mod products;

pub mod attention;
pub mod group_norm;

use super::kernel::Kernel;

/// Every kernel, family by family.
pub const FAMILIES: &[&[&Kernel]] = &[
    sampling::KERNELS,
    subgroups::KERNELS,
    elementwise::KERNELS,
    layer_norm::KERNELS,
    products::KERNELS,
    attention::KERNELS,
    group_norm::KERNELS,
];

/// Every kernel.
pub fn all() -> impl Iterator<Item = &'static Kernel> {
    FAMILIES.iter().copied().flatten().copied()
}
