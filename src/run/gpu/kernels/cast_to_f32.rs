//! `cast_to_f32`: values from the element type to f32, between parts of a plan that differ in precision.

use super::{Binding, Element, Kernel, Launch, Width};
use crate::Result;

/// The kernel's entry in the table.
///
/// Bindings after the parameters: 1. x, elements, `n_values`; 2. out, f32, `n_values`.
pub const KERNEL: Kernel = Kernel {
    name: "cast_to_f32",
    wgsl: include_str!("cast_to_f32.wgsl"),
    bindings: &[Binding::Uniform, Binding::ReadWrite, Binding::ReadWrite],
    params_bytes: size_of::<Params>(),
    params_fields: Params::FIELDS,
    constants: &[],
    elements: Element::ALL,
    widths: &[Width::One],
};

params! {
    /// The uniform buffer, field for field as in the WGSL file.
    struct Params {
        n_values: u32,
        padding_0: u32,
        padding_1: u32,
        padding_2: u32,
    }
}

/// Converts `n_values` values.
///
/// # Errors
/// [`crate::Error::Shape`] when a dispatch cannot cover so many.
pub fn launch(n_values: u32, element: Element) -> Result<Launch> {
    let params = Params { n_values, padding_0: 0, padding_1: 0, padding_2: 0 };
    let workgroups = super::spread_cells(KERNEL.name, n_values)?;
    Ok(Launch::new(&KERNEL, element, Width::One, &[], &params, workgroups))
}

/// The same in plain Rust: every value stays.
#[must_use]
pub fn reference(x: &[f32]) -> Vec<f32> {
    x.to_vec()
}
