//! Products of matrices that lie inside f32 slices: what convolutions, linear layers and attention come down to.

#[cfg(not(target_arch = "wasm32"))]
#[path = "product/native.rs"]
mod platform;
#[cfg(target_arch = "wasm32")]
#[path = "product/wasm.rs"]
mod platform;

use std::ops::Range;

use super::time_slices::{Stopped, TimeSlices};

/// A matrix inside a slice: where it begins and how far apart its rows and columns are.
#[derive(Clone, Copy)]
pub struct Strided<'a> {
    /// From the matrix's first value on.
    pub values: &'a [f32],
    /// From one row to the next.
    pub row: usize,
    /// From one column to the next.
    pub col: usize,
}

fn last_index(rows: usize, cols: usize, row: usize, col: usize) -> usize {
    (rows.max(1) - 1) * row + (cols.max(1) - 1) * col
}

/// Rows of the output that are computed at once where there is much to do: with fewer the right operand's packing costs more
/// than it saves.
const SLICE_ROWS: usize = 128;

/// Up to so many columns, how many rows are multiplied at once decides in which order the product's library adds up.
pub(super) const FEW_COLUMNS: usize = 2;

/// Rows of a product, cut into units that are multiplied each by itself. The last unit takes the rows that are left over too:
/// for one row, and for few rows and columns, the product's library adds up in another order than for all rows at once. Units
/// of 64 rows and more than 64 columns, or of 128 rows and more than [`FEW_COLUMNS`], have the bits of the whole product.
#[derive(Clone, Copy)]
pub(super) struct Units {
    /// Rows of all units.
    pub n_rows: usize,
    /// Rows of a unit.
    pub unit_rows: usize,
}

impl Units {
    /// How many units there are: at least one.
    pub fn n_units(self) -> usize {
        (self.n_rows / self.unit_rows).max(1)
    }

    /// The rows of neighbouring units.
    pub fn rows(self, units: Range<usize>) -> Range<usize> {
        let end = if units.end == self.n_units() { self.n_rows } else { units.end * self.unit_rows };
        units.start * self.unit_rows..end
    }

    /// The first row and the output, with rows of `width` values, of each of some neighbouring units.
    pub fn parts(self, units: Range<usize>, width: usize, out: &mut [f32]) -> Vec<(usize, &mut [f32])> {
        let rows = self.rows(units.clone());
        let mut rest = &mut out[rows.start * width..rows.end * width];
        let part = |unit: usize| {
            let rows = self.rows(unit..unit + 1);
            let (part, after) = std::mem::take(&mut rest).split_at_mut(rows.len() * width);
            rest = after;
            (rows.start, part)
        };
        units.map(part).collect()
    }
}

/// [`matmul`] shared among all threads, in slices of rows.
///
/// # Errors
/// [`Stopped`].
pub fn matmul_in_slices(
    time: &mut TimeSlices,
    [m, n, k]: [usize; 3],
    out: &mut [f32],
    accumulate: bool,
    lhs: Strided,
    rhs: Strided,
) -> Result<(), Stopped> {
    let units = Units { n_rows: m, unit_rows: if n > FEW_COLUMNS { SLICE_ROWS } else { m.max(1) } };
    time.slices(units.n_units(), &[2, units.unit_rows, n, k], |slice| {
        let rows = units.rows(slice);
        let values = lhs.values.get(rows.start * lhs.row..).unwrap_or_default();
        matmul(
            [rows.len(), n, k],
            &mut out[rows.start * n..rows.end * n],
            accumulate,
            Strided { values, ..lhs },
            rhs,
            true,
        );
    })
}

/// out \[m,n\] = lhs \[m,k\] rhs \[k,n\], or with `accumulate` added to what is there; `shared`
/// among all threads or by this one.
pub fn matmul([m, n, k]: [usize; 3], out: &mut [f32], accumulate: bool, lhs: Strided, rhs: Strided, shared: bool) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(m * n <= out.len(), "output is too short");
    assert!(k == 0 || last_index(m, k, lhs.row, lhs.col) < lhs.values.len(), "left operand is too short");
    assert!(k == 0 || last_index(k, n, rhs.row, rhs.col) < rhs.values.len(), "right operand is too short");
    // SAFETY: the asserts above bound every index that the strides can reach.
    unsafe { platform::multiply([m, n, k], out, accumulate, lhs, rhs, shared) }
}
