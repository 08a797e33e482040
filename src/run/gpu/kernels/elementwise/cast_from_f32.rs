//! `cast_from_f32`: values from f32 to the element type, between parts of a plan that differ in precision.

use crate::Result;
use crate::run::gpu::kernel::{Bind, Element, Kernel, Launch, Width, bindings, params, spread_cells};

bindings! {
    /// What the kernel is bound to.
    struct Bindings {
        /// f32 \[n_values\].
        x: ReadWrite T,
        /// Elements \[n_values\].
        out: ReadWrite T,
    }
}

/// The kernel's entry in the table.
pub const KERNEL: Kernel = Kernel {
    name: "cast_from_f32",
    wgsl: include_str!("cast_from_f32.wgsl"),
    bindings: Bindings::<()>::BINDINGS,
    imports: &[],
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
    let workgroups = spread_cells(KERNEL.name, n_values)?;
    Ok(Launch::new(&KERNEL, element, Width::One, &[], &params, workgroups))
}

/// The same in plain Rust: values that the element type has stay, others go to a neighbour.
#[must_use]
pub fn reference(x: &[f32], element: Element) -> Vec<f32> {
    match element {
        Element::F32 => x.to_vec(),
        Element::F16 => x.iter().map(|x| half::f16::from_f32(*x).to_f32()).collect(),
    }
}
