//! `unpack`: f32 values from the form that [`pack`](super::pack) gave them, which has the reference.

use super::pack::launch_of;
use super::shared::PACKED;
use crate::Result;
use crate::run::gpu::kernel::{Bind, Element, Kernel, Launch, Width, bindings, params};

bindings! {
    /// What the kernel is bound to.
    struct Bindings {
        /// Packed; the values are somewhere in it.
        source: ReadWrite T,
        /// f32; takes them somewhere.
        out: ReadWrite T,
    }
}

/// The kernel's entry in the table.
pub const KERNEL: Kernel = Kernel {
    name: "unpack",
    wgsl: include_str!("unpack.wgsl"),
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
        from_cell: u32,
        to_cell: u32,
        padding_0: u32,
    }
}

/// Unpacks `n_values` values, from value `from` of the source on, to value `to` of the result on.
///
/// # Errors
/// As [`pack::launch`](super::pack::launch).
pub fn launch(n_values: u32, from: u32, to: u32) -> Result<Launch> {
    launch_of(&KERNEL, n_values, from, to)
}
