//! `round_packed`: f32 values as [`pack`](super::pack) and [`unpack`](super::unpack) would give them back, in place: what is
//! computed again instead of kept is the same as if it were kept.

use super::shared::PACKED;
use crate::Result;
use crate::run::gpu::kernel::{Bind, Element, Kernel, Launch, Width, bindings, params, refuse, spread_cells};

bindings! {
    /// What the kernel is bound to.
    struct Bindings {
        /// f32.
        values: ReadWrite T,
    }
}

/// The kernel's entry in the table.
pub const KERNEL: Kernel = Kernel {
    name: "round_packed",
    wgsl: include_str!("round_packed.wgsl"),
    bindings: Bindings::<()>::BINDINGS,
    imports: PACKED,
    params_bytes: size_of::<Params>(),
    params_fields: Params::FIELDS,
    constants: &[],
    elements: &[Element::F32],
    widths: &[Width::Four],
};

params! {
    /// The uniform buffer, field for field as in the WGSL file.
    struct Params {
        n_cells: u32,
        padding_0: u32,
        padding_1: u32,
        padding_2: u32,
    }
}

/// Rounds `n_values` values.
///
/// # Errors
/// As [`pack::launch`](super::pack::launch).
pub fn launch(n_values: u32) -> Result<Launch> {
    if Width::of(&[n_values]) == Width::One {
        return Err(refuse(KERNEL.name, format!("cannot have {n_values} values in fours")));
    }
    let params = Params { n_cells: n_values / 4, padding_0: 0, padding_1: 0, padding_2: 0 };
    let workgroups = spread_cells(KERNEL.name, params.n_cells)?;
    Ok(Launch::new(&KERNEL, Element::F32, Width::Four, &[], &params, workgroups))
}
