//! `group_norm_apply`: joins the measured parts of each group and normalises, with silu behind it if asked for: the
//! second half of a group normalisation. See [`super`], which has the reference.

use super::shared::IMPORTS;
use super::sizes::{Band, GroupNorm, Params, Sums, launch_of};
use crate::Result;
use crate::run::gpu::kernel::{Bind, Element, Kernel, Launch, Width, bindings};

bindings! {
    /// What the kernel is bound to.
    struct Bindings {
        /// \[B,H,W,C0\].
        source_0: ReadWrite T,
        /// \[B,H,W,C1\]; `None` when C1 is 0.
        source_1: ReadWrite Option<T>,
        /// As [`group_norm_stats`](super::group_norm_stats) stored them.
        partials: ReadWrite T,
        /// f32 \[C0+C1\].
        weight: Read T,
        /// f32 \[C0+C1\].
        bias: Read T,
        /// \[B,H,W,C0+C1\].
        out: ReadWrite T,
    }
}

/// The kernel's entry in the table.
pub const KERNEL: Kernel = Kernel {
    name: "group_norm_apply",
    wgsl: include_str!("group_norm_apply.wgsl"),
    bindings: Bindings::<()>::BINDINGS,
    imports: IMPORTS,
    params_bytes: size_of::<Params>(),
    params_fields: Params::FIELDS,
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
