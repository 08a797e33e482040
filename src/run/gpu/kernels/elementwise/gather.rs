//! `gather`: rows of a computed tensor by number, such as the state at each prompt's last token.

use crate::Result;
use crate::run::gpu::kernel::{Bind, Element, Kernel, Launch, Width, bindings, count, params, refuse, spread_cells};

bindings! {
    /// What the kernel is bound to.
    struct Bindings {
        /// Row numbers, u32.
        ids: ReadWrite T,
        /// Elements \[N,D\].
        table: ReadWrite T,
        /// \[ids,D\].
        out: ReadWrite T,
    }
}

/// The kernel's entry in the table.
pub const KERNEL: Kernel = Kernel {
    name: "gather",
    wgsl: include_str!("gather.wgsl"),
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
        row_cells: u32,
        n_rows: u32,
        padding: u32,
    }
}

/// Takes `n_ids` rows of `columns` values from a table of `n_rows`. A number beyond the table takes its last row.
///
/// # Errors
/// [`crate::Error::Shape`] when a size is zero or there are too many values to address.
pub fn launch(n_ids: u32, n_rows: u32, columns: u32, element: Element) -> Result<Launch> {
    if n_rows == 0 || columns == 0 {
        return Err(refuse(KERNEL.name, format!("cannot take rows of a table [{n_rows}, {columns}]")));
    }
    count(KERNEL.name, &[n_rows, columns])?;
    let width = Width::of(&[columns]);
    let n_cells = count(KERNEL.name, &[n_ids, columns])? / width.elements();
    let params = Params { n_cells, row_cells: columns / width.elements(), n_rows, padding: 0 };
    Ok(Launch::new(&KERNEL, element, width, &[], &params, spread_cells(KERNEL.name, n_cells)?))
}
