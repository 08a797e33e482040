//! `gather`: rows of a computed tensor by number, such as the state at each prompt's last token.

use crate::Result;
use crate::run::gpu::kernel::{Bind, Element, Kernel, Launch, Width, bindings, count, params, refuse, spread_cells};

bindings! {
    /// What the kernel is bound to.
    struct Bindings {
        /// Row numbers, u32.
        ids: ReadWrite T,
        /// Elements \[N,D\].
        x: ReadWrite T,
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

/// Takes `n_ids` rows of `columns` values from `n_rows`. A number beyond them takes the last row.
///
/// # Errors
/// [`crate::Error::Shape`] when a size is zero or there are too many values to address.
pub fn launch(n_ids: u32, n_rows: u32, columns: u32, element: Element) -> Result<Launch> {
    if n_rows == 0 || columns == 0 {
        return Err(refuse(KERNEL.name, format!("cannot take rows of [{n_rows}, {columns}]")));
    }
    count(KERNEL.name, &[n_rows, columns])?;
    let width = Width::of(&[columns]);
    let n_cells = count(KERNEL.name, &[n_ids, columns])? / width.elements();
    let params = Params { n_cells, row_cells: columns / width.elements(), n_rows, padding: 0 };
    Ok(Launch::new(&KERNEL, element, width, &[], &params, spread_cells(KERNEL.name, n_cells)?))
}

/// The same in plain Rust.
#[must_use]
pub fn reference(ids: &[u32], x: &[f32], columns: usize) -> Vec<f32> {
    let n_rows = x.len() / columns;
    let row = |id: &u32| (*id as usize).min(n_rows - 1) * columns;
    ids.iter().flat_map(|id| x[row(id)..row(id) + columns].iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_takes_rows_by_number() {
        assert_eq!(reference(&[1, 0, 9], &[1.0, 2.0, 3.0, 4.0], 2), [3.0, 4.0, 1.0, 2.0, 3.0, 4.0]);
    }
}
