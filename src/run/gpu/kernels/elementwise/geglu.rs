//! `geglu`: the first half of each row times gelu of its second half, where the matrix product in front could not take
//! it along.

use super::activation::gelu;
use crate::Result;
use crate::run::gpu::kernel::{Bind, Element, Kernel, Launch, Width, bindings, count, params, spread_cells};

bindings! {
    /// What the kernel is bound to.
    struct Bindings {
        /// \[M,2D\].
        x: ReadWrite T,
        /// \[M,D\].
        out: ReadWrite T,
    }
}

/// The kernel's entry in the table.
pub const KERNEL: Kernel = Kernel {
    name: "geglu",
    wgsl: include_str!("geglu.wgsl"),
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
        padding_0: u32,
        padding_1: u32,
    }
}

/// Halves `rows` rows to `columns` values each.
///
/// # Errors
/// [`crate::Error::Shape`] when there are too many values to address.
pub fn launch(rows: u32, columns: u32, element: Element) -> Result<Launch> {
    count(KERNEL.name, &[rows, columns, 2])?;
    let width = Width::of(&[columns]);
    let row_cells = columns / width.elements();
    let n_cells = rows * row_cells;
    let params = Params { n_cells, row_cells, padding_0: 0, padding_1: 0 };
    Ok(Launch::new(&KERNEL, element, width, &[], &params, spread_cells(KERNEL.name, n_cells)?))
}

/// The same in plain Rust: x \[M,2D\] with D = `columns`.
#[must_use]
pub fn reference(x: &[f32], columns: usize) -> Vec<f32> {
    let halves = x.chunks_exact(2 * columns).map(|row| row.split_at(columns));
    halves
        .flat_map(|(value, gate)| value.iter().zip(gate))
        .map(|(value, gate)| (f64::from(*value) * gelu(f64::from(*gate))) as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_gates_the_first_half_by_the_second() {
        let y = reference(&[2.0, 3.0, 0.0, 20.0], 2);
        assert_eq!(y, [0.0, 60.0]);
    }
}
