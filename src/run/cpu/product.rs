//! Products of matrices that lie inside f32 slices: what convolutions, linear layers and attention come down to.

#[cfg(not(target_arch = "wasm32"))]
#[path = "product/native.rs"]
mod platform;
#[cfg(target_arch = "wasm32")]
#[path = "product/wasm.rs"]
mod platform;

use super::pace::{Pace, Stopped};

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
/// than it saves, and the product's library would add up in another order.
const SLICE_ROWS: usize = 128;

/// [`matmul`] shared among all threads, in slices of rows.
///
/// # Errors
/// [`Stopped`].
pub fn matmul_in_slices(
    pace: &mut Pace,
    [m, n, k]: [usize; 3],
    out: &mut [f32],
    accumulate: bool,
    lhs: Strided,
    rhs: Strided,
) -> Result<(), Stopped> {
    // What is left over goes with the last unit. One or two columns are products of vectors, which the library adds up by rows.
    let n_units = if n > 2 { (m / SLICE_ROWS).max(1) } else { 1 };
    pace.slices(n_units, &[2, SLICE_ROWS, n, k], |units| {
        let first = units.start * SLICE_ROWS;
        let end = if units.end == n_units { m } else { units.end * SLICE_ROWS };
        let rows = Strided { values: lhs.values.get(first * lhs.row..).unwrap_or_default(), ..lhs };
        matmul([end - first, n, k], &mut out[first * n..end * n], accumulate, rows, rhs, true);
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
