//! `attention_matrix`: the attention of [`super`] with cooperative matrices of 16x16.
//!
//! [`super::launch`] launches it where the adapter has such matrices, activations are f16, and heads and rows are
//! multiples of eight values; the plain kernel stays the reference. Weights are rounded to f16 before they meet the values.

use super::shared::IMPORTS;
use super::sizes::{Bindings, Params};
use crate::run::gpu::kernel::{Bind, Element, Kernel, Width};

/// The kernel's entry in the table. Bindings are those of the plain kernel.
pub const KERNEL: Kernel = Kernel {
    name: "attention_matrix",
    wgsl: include_str!("attention_matrix.wgsl"),
    bindings: Bindings::<()>::BINDINGS,
    imports: IMPORTS,
    params_bytes: size_of::<Params>(),
    params_fields: Params::FIELDS,
    constants: &["n_subgroups", "subgroup_size", "n_parts", "two_halves", "causal", "packed"],
    elements: &[Element::F16],
    widths: &[Width::Four],
};
