//! `layer_norm`: normalises each row by its own mean and variance.

use super::shared::IMPORTS;
use crate::Result;
use crate::run::gpu::kernel::{Bind, Element, Kernel, Launch, Machine, Width, bindings, count, params, refuse, spread};

/// Invocations of a workgroup.
const THREADS: u32 = 128;
/// Cells that an invocation has, about.
const CELLS_PER_THREAD: u32 = 5;

bindings! {
    /// What the kernel is bound to.
    struct Bindings {
        /// \[M,D\].
        x: ReadWrite T,
        /// f32 \[D\], from an offset on.
        weight: Read T,
        /// f32 \[D\], from an offset on.
        bias: Read T,
        /// \[M,D\].
        out: ReadWrite T,
    }
}

/// The kernel's entry in the table.
pub const KERNEL: Kernel = Kernel {
    name: "layer_norm",
    wgsl: include_str!("layer_norm.wgsl"),
    bindings: Bindings::<()>::BINDINGS,
    imports: IMPORTS,
    params_bytes: size_of::<Params>(),
    params_fields: Params::FIELDS,
    constants: &["threads_per_row"],
    elements: Element::ALL,
    widths: Width::ALL,
};

/// With subgroup operations.
pub const KERNEL_SUBGROUPS: Kernel = Kernel {
    name: "layer_norm_subgroups",
    wgsl: include_str!("layer_norm_subgroups.wgsl"),
    constants: &["threads_per_row", "least_subgroup"],
    ..KERNEL
};

params! {
    /// The uniform buffer, field for field as in the WGSL file.
    struct Params {
        n_rows: u32,
        n_columns: u32,
        eps: f32,
        weight_offset: u32,
        bias_offset: u32,
        padding_0: u32,
        padding_1: u32,
        padding_2: u32,
    }
}

/// Normalises `rows` rows of `columns` values.
///
/// # Errors
/// [`crate::Error::Shape`] when a row is empty or there are too many values to address.
pub fn launch(rows: u32, columns: u32, eps: f32, machine: &Machine) -> Result<Launch> {
    launch_of_vectors(rows, columns, eps, [0, 0], machine)
}

/// The same where weight and bias are parts of longer vectors, from the elements `offsets` on.
///
/// # Errors
/// As [`launch`].
pub fn launch_of_vectors(rows: u32, columns: u32, eps: f32, offsets: [u32; 2], machine: &Machine) -> Result<Launch> {
    if columns == 0 {
        return Err(refuse(KERNEL.name, "cannot normalise empty rows".into()));
    }
    count(KERNEL.name, &[rows, columns])?;
    let width = Width::of(&[columns]);
    let n_cells = columns / width.elements();
    // Short rows share a workgroup, each with a power of two of its invocations.
    let threads_per_row = n_cells.div_ceil(CELLS_PER_THREAD).next_power_of_two().clamp(4, THREADS);
    let [weight_offset, bias_offset] = offsets;
    let params = Params {
        n_rows: rows,
        n_columns: columns,
        eps,
        weight_offset,
        bias_offset,
        padding_0: 0,
        padding_1: 0,
        padding_2: 0,
    };
    let workgroups = spread(KERNEL.name, rows.div_ceil(THREADS / threads_per_row))?;
    let mut constants = vec![("threads_per_row", f64::from(threads_per_row))];
    let kernel = match machine.least_subgroup {
        Some(least) => {
            constants.push(("least_subgroup", f64::from(least)));
            &KERNEL_SUBGROUPS
        }
        None => &KERNEL,
    };
    Ok(Launch::new(kernel, machine.element, width, &constants, &params, workgroups))
}

/// The same in plain Rust, statistics in f64 and in two passes.
#[must_use]
pub fn reference(x: &[f32], weight: &[f32], bias: &[f32], eps: f32) -> Vec<f32> {
    let n_columns = weight.len();
    let normalised = x.chunks_exact(n_columns).flat_map(|row| {
        let mean = row.iter().map(|value| f64::from(*value)).sum::<f64>() / n_columns as f64;
        let variance = row.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>() / n_columns as f64;
        let inverse = (variance + f64::from(eps)).sqrt().recip();
        let affine = row.iter().zip(weight).zip(bias);
        affine.map(move |((x, w), b)| ((f64::from(*x) - mean) * inverse * f64::from(*w) + f64::from(*b)) as f32)
    });
    normalised.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine::plain(Element::F32);

    #[test]
    fn reference_normalises_each_row_alone() {
        let y = reference(&[1.0, 3.0, 1e6, 1e6 + 2.0], &[1.0, 2.0], &[0.0, 1.0], 0.0);
        assert_eq!(y, [-1.0, 3.0, -1.0, 3.0]);
    }

    #[test]
    fn short_rows_share_a_workgroup() {
        assert_eq!(launch(4096, 320, 1e-5, &MACHINE).unwrap().workgroups, [512, 1, 1]);
        assert_eq!(launch(3, 1280, 1e-5, &MACHINE).unwrap().workgroups, [2, 1, 1]);
        assert!(launch(3, 0, 1e-5, &MACHINE).is_err());
    }
}
