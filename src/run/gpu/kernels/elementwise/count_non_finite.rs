//! `count_non_finite`: how many values are NaN or infinite, so that a stage that overflowed is noticed before its picture
//! is black.

use crate::Result;
use crate::run::gpu::kernel::{
    Bind, ELEMENTWISE_THREADS, Element, Kernel, Launch, Width, bindings, params, spread_cells,
};

bindings! {
    /// What the kernel is bound to.
    struct Bindings {
        /// \[n_values\].
        x: ReadWrite T,
        /// One u32, which the kernel adds to.
        total: ReadWrite T,
    }
}

/// The kernel's entry in the table.
pub const KERNEL: Kernel = Kernel {
    name: "count_non_finite",
    wgsl: include_str!("count_non_finite.wgsl"),
    bindings: Bindings::<()>::BINDINGS,
    imports: &[],
    params_bytes: size_of::<Params>(),
    params_fields: Params::FIELDS,
    constants: &[],
    elements: Element::ALL,
    widths: Width::ALL,
};

params! {
    /// The uniform buffer, field for field as in the WGSL file.
    struct Params {
        n_cells: u32,
        n_threads: u32,
        padding_0: u32,
        padding_1: u32,
    }
}

/// Invocations at most, so that a large tensor costs few additions to the one count.
const MAX_THREADS: u32 = 1 << 16;

/// Counts among `n_values` values.
///
/// # Errors
/// Never, for now: every number of values can be covered.
pub fn launch(n_values: u32, element: Element) -> Result<Launch> {
    let width = Width::of(&[n_values]);
    let n_cells = n_values / width.elements();
    let n_threads = n_cells.next_multiple_of(ELEMENTWISE_THREADS).min(MAX_THREADS);
    let params = Params { n_cells, n_threads, padding_0: 0, padding_1: 0 };
    Ok(Launch::new(&KERNEL, element, width, &[], &params, spread_cells(KERNEL.name, n_threads)?))
}

/// The same in plain Rust.
#[must_use]
pub fn reference(x: &[f32]) -> u32 {
    x.iter().filter(|x| !x.is_finite()).count() as u32
}
