//! `add_low_rank`: adds a product of two small factors (LoRA) to rows of a weight in a checkpoint's layout, in f32, before
//! [`super::repack`] rounds them once.
//!
//! All operands lie in one buffer, which WebGPU lets a dispatch bind one way only: what is read is bound `read_write` as well.

use crate::Result;
use crate::run::gpu::kernel::{Bind, Element, Kernel, Launch, Width, bindings, count, params, refuse, spread};

use super::repack::Raw;
use super::shared::IMPORTS;

/// Rows of the left factor are filled up with zeros to a multiple of it, which is what an invocation has.
pub const ROWS: usize = 8;

/// Columns of the right factor are filled up to a multiple of it.
pub const COLUMNS: usize = 4;

/// Columns of a workgroup.
const GROUP_COLUMNS: u32 = 64 * COLUMNS as u32;

bindings! {
    /// What the kernel is bound to. No two ranges overlap.
    struct Bindings {
        /// The rows before, \[rows,cols\], filled up to whole words.
        base: ReadWrite T,
        /// \[rank,rows\] in f32, rows filled up to a multiple of [`ROWS`].
        left: ReadWrite T,
        /// \[rank,cols\] in f32, columns filled up to a multiple of [`COLUMNS`].
        right: ReadWrite T,
        /// The sums, \[rows,cols\] in f32.
        sums: ReadWrite T,
    }
}

/// The kernel's entry in the table.
pub const KERNEL: Kernel = Kernel {
    name: "add_low_rank",
    wgsl: include_str!("add_low_rank.wgsl"),
    bindings: Bindings::<()>::BINDINGS,
    imports: IMPORTS,
    params_bytes: size_of::<Params>(),
    params_fields: Params::FIELDS,
    constants: &["base_is_f32"],
    elements: &[Element::F32],
    widths: &[Width::One],
};

params! {
    /// The uniform buffer, field for field as in the WGSL file.
    struct Params {
        n_rows: u32,
        n_cols: u32,
        rank: u32,
        n_groups_of_rows: u32,
    }
}

/// Some rows of a weight, and the terms that are added to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddLowRank {
    /// Rows: outputs of the weight.
    pub rows: u32,
    /// Columns: inputs, times the taps of a kernel.
    pub cols: u32,
    /// Rank of the terms together.
    pub rank: u32,
    /// The type of the rows before, f16 or f32.
    pub base: Raw,
}

impl AddLowRank {
    /// Bytes of each operand, in the order of the bindings.
    #[must_use]
    pub fn operand_bytes(&self) -> [u64; 4] {
        let [rows, cols, rank] = [self.rows, self.cols, self.rank].map(u64::from);
        let factor = |n: u64, multiple: usize| rank * n.next_multiple_of(multiple as u64) * 4;
        let base = self.base.bytes_of(rows * cols).next_multiple_of(4);
        [base, factor(rows, ROWS), factor(cols, COLUMNS), rows * cols * 4]
    }
}

/// Adds terms to rows.
///
/// # Errors
/// [`crate::Error::Shape`] when a matrix is too large to address, or there is nothing to add.
pub fn launch(add: &AddLowRank) -> Result<Launch> {
    let AddLowRank { rows, cols, rank, base } = *add;
    if rows == 0 || cols == 0 || rank == 0 {
        return Err(refuse(KERNEL.name, format!("cannot add terms of rank {rank} to {rows} rows of {cols}")));
    }
    if base.blocks().is_some() {
        return Err(refuse(KERNEL.name, "cannot add to blocks".into()));
    }
    let over = || refuse(KERNEL.name, format!("cannot address {rows} rows of {cols} with terms of rank {rank}"));
    let filled = |n: u32, multiple: usize| n.checked_next_multiple_of(multiple as u32).ok_or_else(over);
    count(KERNEL.name, &[filled(rows, ROWS)?, filled(cols, COLUMNS)?])?;
    count(KERNEL.name, &[filled(rows, ROWS)?, rank])?;
    count(KERNEL.name, &[filled(cols, COLUMNS)?, rank])?;
    let n_groups_of_rows = cols.div_ceil(GROUP_COLUMNS);
    let n_groups = count(KERNEL.name, &[rows.div_ceil(ROWS as u32), n_groups_of_rows])?;
    let params = Params { n_rows: rows, n_cols: cols, rank, n_groups_of_rows };
    let constants = [("base_is_f32", f64::from(u8::from(base == Raw::F32)))];
    let workgroups = spread(KERNEL.name, n_groups)?;
    Ok(Launch::new(&KERNEL, Element::F32, Width::One, &constants, &params, workgroups))
}

/// The sums in plain Rust. `left` is \[rank,rows\] and `right` \[rank,cols\], filled up as the kernel has them.
///
/// # Panics
/// When an operand has fewer values than its sizes say.
#[must_use]
pub fn reference(add: &AddLowRank, base: &[f32], left: &[f32], right: &[f32]) -> Vec<f32> {
    let (rows, cols) = (add.rows as usize, add.cols as usize);
    let (n_left, n_right) = (rows.next_multiple_of(ROWS), cols.next_multiple_of(COLUMNS));
    let mut sums = Vec::with_capacity(rows * cols);
    for row in 0..rows {
        for col in 0..cols {
            let terms = (0..add.rank as usize).map(|k| left[k * n_left + row] * right[k * n_right + col]);
            sums.push(base[row * cols + col] + terms.sum::<f32>());
        }
    }
    sums
}
