//! `pack`: f32 values in half of their bytes, for pictures that wait: four share the exponent of the largest, and have 14
//! bits each. Finer than f16 for values of one size, and without its limit; [`unpack`](super::unpack) is the way back, and
//! [`round_packed`](super::round_packed) both at once.

use super::shared::PACKED;
use crate::Result;
use crate::run::gpu::kernel::{Bind, Element, Kernel, Launch, Width, bindings, params, refuse, spread_cells};

bindings! {
    /// What both kernels are bound to.
    struct Bindings {
        /// f32 to pack, or packed, two bytes a value, to unpack; the values are somewhere in it.
        source: ReadWrite T,
        /// In the other form; takes them somewhere.
        out: ReadWrite T,
    }
}

/// The kernel's entry in the table.
pub const KERNEL: Kernel = Kernel {
    name: "pack",
    wgsl: include_str!("pack.wgsl"),
    bindings: Bindings::<()>::BINDINGS,
    imports: PACKED,
    params_bytes: size_of::<Params>(),
    params_fields: Params::FIELDS,
    constants: &[],
    elements: &[Element::F32],
    widths: &[Width::Four],
};

params! {
    /// The uniform buffer of all three, field for field as in `shared/pack_params.wgsl`.
    struct Params {
        n_cells: u32,
        from_cell: u32,
        to_cell: u32,
        padding_0: u32,
    }
}

/// Packs `n_values` values, from value `from` of the source on, to value `to` of the result on.
///
/// # Errors
/// [`crate::Error::Shape`] when one of them is no multiple of four, or a dispatch cannot cover so many.
pub fn launch(n_values: u32, from: u32, to: u32) -> Result<Launch> {
    launch_of(&KERNEL, n_values, from, to)
}

/// The launch of a kernel with these parameters: this one, [`unpack`](super::unpack) or [`round_packed`](super::round_packed).
pub(super) fn launch_of(kernel: &'static Kernel, n_values: u32, from: u32, to: u32) -> Result<Launch> {
    if Width::of(&[n_values, from, to]) == Width::One {
        return Err(refuse(kernel.name, format!("cannot have {n_values} values from {from} to {to} in fours")));
    }
    let params = Params { n_cells: n_values / 4, from_cell: from / 4, to_cell: to / 4, padding_0: 0 };
    let workgroups = spread_cells(kernel.name, params.n_cells)?;
    Ok(Launch::new(kernel, Element::F32, Width::Four, &[], &params, workgroups))
}

/// What packing leaves of values in plain Rust; four that share an exponent with one that is not finite are NaN.
#[must_use]
pub fn reference(x: &[f32]) -> Vec<f32> {
    let of_four = |four: &[f32]| -> Vec<f32> {
        if four.iter().any(|value| !value.is_finite()) {
            return vec![f32::NAN; four.len()];
        }
        let most = four.iter().fold(0f32, |most, value| most.max(value.abs()));
        let exponent = (most.to_bits() >> 23).max(13) as i32 - 127;
        let unit = 2f64.powi(exponent - 12);
        let rounded = |value: f32| ((f64::from(value) / unit).round_ties_even().clamp(-8191.0, 8191.0) * unit) as f32;
        four.iter().map(|value| rounded(*value)).collect()
    };
    x.chunks(4).flat_map(of_four).collect()
}
