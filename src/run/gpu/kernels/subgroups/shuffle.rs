//! `shuffle`: tries what kernels with subgroup operations count on.

use crate::run::gpu::kernel::{Bind, Element, Kernel, Launch, Width, bindings, params};

bindings! {
    /// What the kernel is bound to.
    struct Bindings {
        /// f32 \[threads\]: 0, or 1 where an invocation did not hear another.
        out: ReadWrite T,
    }
}

/// The kernel's entry in the table.
pub const KERNEL: Kernel = Kernel {
    name: "shuffle",
    wgsl: include_str!("shuffle.wgsl"),
    bindings: Bindings::<()>::BINDINGS,
    imports: &[],
    params_bytes: size_of::<Params>(),
    params_fields: Params::FIELDS,
    constants: &["threads_x", "threads_y"],
    elements: &[Element::F32],
    widths: &[Width::One],
};

params! {
    /// The uniform buffer, field for field as in the WGSL file.
    struct Params {
        least_subgroup: u32,
        padding_1: u32,
        padding_2: u32,
        padding_3: u32,
    }
}

/// One workgroup of `threads` invocations, in subgroups of at least `least_subgroup`.
#[must_use]
pub fn launch(threads: [u32; 2], least_subgroup: u32) -> Launch {
    let params = Params { least_subgroup, padding_1: 0, padding_2: 0, padding_3: 0 };
    let constants = [("threads_x", threads[0]), ("threads_y", threads[1])];
    let constants = constants.map(|(name, value)| (name, f64::from(value)));
    Launch::new(&KERNEL, Element::F32, Width::One, &constants, &params, [1, 1, 1])
}
