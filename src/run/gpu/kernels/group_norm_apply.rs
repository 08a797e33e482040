//! `group_norm_apply`: joins the measured parts of each group and normalises, with silu behind it if asked for: the
//! second half of a group normalisation. See [`super::group_norm`], which has the reference.

use super::group_norm::{Band, GroupNorm, PARAMS_BYTES, PARAMS_FIELDS, Sums, launch_of};
use super::{Binding, Element, Kernel, Launch, Width};
use crate::Result;

/// The kernel's entry in the table.
///
/// Bindings after the parameters: 1. source 0, \[B,H,W,C0\]; 2. source 1, \[B,H,W,C1\], unused when C1 is 0; 3. the
/// parts, as [`super::group_norm_stats`] stored them; 4. weight, f32 \[C0+C1\]; 5. bias, f32 \[C0+C1\]; 6. out,
/// \[B,H,W,C0+C1\].
pub const KERNEL: Kernel = Kernel {
    name: "group_norm_apply",
    wgsl: include_str!("group_norm_apply.wgsl"),
    bindings: &[
        Binding::Uniform,
        Binding::ReadWrite,
        Binding::ReadWrite,
        Binding::ReadWrite,
        Binding::Read,
        Binding::Read,
        Binding::ReadWrite,
    ],
    params_bytes: PARAMS_BYTES,
    params_fields: PARAMS_FIELDS,
    constants: &["with_silu"],
    elements: Element::ALL,
    widths: Width::ALL,
};

/// Normalises.
///
/// # Errors
/// As [`GroupNorm::n_chunks`].
pub fn launch(norm: &GroupNorm, element: Element, silu: bool) -> Result<Launch> {
    let constants = [("with_silu", f64::from(u8::from(silu)))];
    launch_of(&KERNEL, norm, None, element, norm.apply_cut()?, &constants, Sums::default())
}

/// Normalises some pixels of one band, as many as `norm` has.
///
/// # Errors
/// As [`launch`], and for more than one batch item.
pub fn launch_band(norm: &GroupNorm, band: &Band, element: Element, silu: bool) -> Result<Launch> {
    let constants = [("with_silu", f64::from(u8::from(silu)))];
    launch_of(&KERNEL, norm, Some(band), element, norm.apply_cut()?, &constants, Sums::default())
}
