//! `attention_matrix`: the attention of [`super::attention`] with cooperative matrices of 16x16.
//!
//! [`super::attention::launch`] launches it where the adapter has such matrices, activations are f16, and heads and rows are
//! multiples of eight values; the plain kernel stays the reference. Weights are rounded to f16 before they meet the values.

use super::attention::{self, PARAMS_BYTES, PARAMS_FIELDS};
use super::{Element, Kernel, Width};

/// The kernel's entry in the table. Bindings are those of [`attention::KERNEL`].
pub const KERNEL: Kernel = Kernel {
    name: "attention_matrix",
    wgsl: include_str!("attention_matrix.wgsl"),
    bindings: attention::KERNEL.bindings,
    params_bytes: PARAMS_BYTES,
    params_fields: PARAMS_FIELDS,
    constants: &["n_subgroups", "subgroup_size", "n_parts", "two_halves", "causal", "packed"],
    elements: &[Element::F16],
    widths: &[Width::Four],
};
