//! `embedding`: rows of a table of weights by number: token and position embeddings.

use crate::Result;
use crate::run::gpu::kernel::{Bind, Element, Kernel, Launch, Width, bindings, count, params, refuse, spread_cells};

bindings! {
    /// What the kernel is bound to.
    struct Bindings {
        /// Row numbers, u32.
        ids: ReadWrite T,
        /// f16 or f32 \[N,D\] as in the checkpoint, filled up to whole words.
        table: Read T,
        /// \[ids,D\].
        out: ReadWrite T,
        /// f32 \[T,D\]; `None` without position embeddings.
        positions: Read Option<T>,
    }
}

/// The kernel's entry in the table.
pub const KERNEL: Kernel = Kernel {
    name: "embedding",
    wgsl: include_str!("embedding.wgsl"),
    bindings: Bindings::<()>::BINDINGS,
    imports: &[],
    params_bytes: size_of::<Params>(),
    params_fields: Params::FIELDS,
    constants: &["has_positions", "table_is_f32"],
    elements: Element::ALL,
    widths: &[Width::One],
};

params! {
    /// The uniform buffer, field for field as in the WGSL file.
    struct Params {
        n_values: u32,
        columns: u32,
        n_rows: u32,
        n_position_values: u32,
    }
}

/// Takes `n_ids` rows of `columns` values from a table of `n_rows`. A number beyond the table takes its last row. With
/// `n_positions`, ids are tokens of texts of so many, and the row of each one's position is added.
///
/// # Errors
/// [`crate::Error::Shape`] when a size is zero or there are too many values to address.
pub fn launch(
    n_ids: u32,
    n_rows: u32,
    columns: u32,
    n_positions: Option<u32>,
    table_is_f32: bool,
    element: Element,
) -> Result<Launch> {
    if n_rows == 0 || columns == 0 {
        return Err(refuse(KERNEL.name, format!("cannot take rows of a table [{n_rows}, {columns}]")));
    }
    count(KERNEL.name, &[n_rows, columns])?;
    let n_values = count(KERNEL.name, &[n_ids, columns])?;
    let n_position_values = count(KERNEL.name, &[n_positions.unwrap_or(1), columns])?;
    let params = Params { n_values, columns, n_rows, n_position_values };
    let switch = |on: bool| f64::from(u8::from(on));
    let constants = [("has_positions", switch(n_positions.is_some())), ("table_is_f32", switch(table_is_f32))];
    Ok(Launch::new(&KERNEL, element, Width::One, &constants, &params, spread_cells(KERNEL.name, n_values)?))
}

/// The same in plain Rust, for [`super::gather`] too.
#[must_use]
pub fn reference(ids: &[u32], table: &[f32], columns: usize) -> Vec<f32> {
    let n_rows = table.len() / columns;
    let row = |id: &u32| (*id as usize).min(n_rows - 1) * columns;
    ids.iter().flat_map(|id| table[row(id)..row(id) + columns].iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_takes_rows_by_number() {
        assert_eq!(reference(&[1, 0, 9], &[1.0, 2.0, 3.0, 4.0], 2), [3.0, 4.0, 1.0, 2.0, 3.0, 4.0]);
    }
}
