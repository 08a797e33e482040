//! In wasm this crate's own product, about half as fast again as the gemm crate's there: a block of four rows and eight
//! columns is what the sixteen vector registers of x86 hold without spilling, of which the browser's compiler has no more.

use core::arch::wasm32::{
    f32x4_add, f32x4_mul, f32x4_splat, i32x4_shuffle, v128, v128_load, v128_load32_splat, v128_store,
};

use std::ops::Range;

use rayon::prelude::*;

use super::Strided;

/// Columns of a block: two vectors.
const COLS: usize = 8;
/// Rows of a block.
const ROWS: usize = 4;
/// Terms of the sum that are added up in registers: a packed panel of so many stays in the first-level cache.
const DEPTH: usize = 256;
/// Columns that are packed at once, and rows that go past each packed panel: both stay in the second-level cache.
const PACKED_COLS: usize = 256;
const PASSING_ROWS: usize = 128;

/// Multiplications below which waking other threads costs more than they save: some 20 µs of one thread.
const SHARED_FROM: usize = 1 << 18;
/// Tasks for each thread, so that one that was held up has fewer.
const TASKS_PER_THREAD: usize = 3;
/// Rows and columns below which a task is not cut: each task packs its own columns of the right operand.
const LEAST_ROWS: usize = 64;
const LEAST_COLS: usize = 32;

/// Where the result is written, by several threads at once.
#[derive(Clone, Copy)]
struct Out(*mut f32);
// SAFETY: each task writes rows and columns that no other one has.
unsafe impl Send for Out {}
// SAFETY: as above.
unsafe impl Sync for Out {}

/// See [`super::matmul`]. Each value is the same sum in the same order, however many threads there are.
///
/// # Safety
/// Every index that the sizes and strides reach lies inside its slice.
pub unsafe fn multiply(
    [m, n, k]: [usize; 3],
    out: &mut [f32],
    accumulate: bool,
    lhs: Strided,
    rhs: Strided,
    shared: bool,
) {
    if k == 0 {
        if !accumulate {
            out[..m * n].fill(0.0);
        }
        return;
    }
    let out = Out(out.as_mut_ptr());
    let n_threads =
        if shared && m.saturating_mul(n).saturating_mul(k) >= SHARED_FROM { rayon::current_num_threads() } else { 1 };
    if n_threads == 1 {
        // SAFETY: as promised, and `out` is borrowed for itself.
        unsafe { multiply_part([0..m, 0..n], [n, k], out, accumulate, lhs, rhs, &mut Vec::new()) };
        return;
    }
    let [rows, cols] = task_sizes([m, n], n_threads);
    let n_cols = n.div_ceil(cols);
    (0..m.div_ceil(rows) * n_cols).into_par_iter().for_each_init(Vec::new, |packed, task| {
        let (row, col) = (task / n_cols * rows, task % n_cols * cols);
        let part = [row..m.min(row + rows), col..n.min(col + cols)];
        // SAFETY: as promised, and the parts do not overlap.
        unsafe { multiply_part(part, [n, k], out, accumulate, lhs, rhs, packed) };
    });
}

/// Rows and columns of a task, of a result with \[m,n\] values: cut along the columns first, which packs nothing twice.
fn task_sizes([m, n]: [usize; 2], n_threads: usize) -> [usize; 2] {
    let wanted = n_threads * TASKS_PER_THREAD;
    let least_cols = n.div_ceil(PACKED_COLS);
    let n_rows = wanted.div_ceil(least_cols).min(m.div_ceil(LEAST_ROWS));
    let n_cols = wanted.div_ceil(n_rows).min(n.div_ceil(LEAST_COLS)).max(least_cols);
    [m.div_ceil(n_rows).next_multiple_of(ROWS), n.div_ceil(n_cols).next_multiple_of(COLS)]
}

/// The rows and columns of one task, of a result with rows of `n` values. `packed` is memory that the next one uses again.
///
/// # Safety
/// As [`multiply`]; `out` has all rows, and nobody else uses this part of it.
unsafe fn multiply_part(
    [rows, cols]: [Range<usize>; 2],
    [n, k]: [usize; 2],
    out: Out,
    accumulate: bool,
    lhs: Strided,
    rhs: Strided,
    packed: &mut Vec<f32>,
) {
    packed.resize(DEPTH.min(k) * PACKED_COLS.min(cols.len().next_multiple_of(COLS)), 0.0);
    for first_col in cols.clone().step_by(PACKED_COLS) {
        let n_cols = PACKED_COLS.min(cols.end - first_col);
        for first_k in (0..k).step_by(DEPTH) {
            let depth = DEPTH.min(k - first_k);
            let adds = accumulate || first_k > 0;
            pack(&rhs.values[first_k * rhs.row + first_col * rhs.col..], [rhs.row, rhs.col], [depth, n_cols], packed);
            for first_row in rows.clone().step_by(PASSING_ROWS) {
                let rows = first_row..rows.end.min(first_row + PASSING_ROWS);
                for panel in (0..n_cols).step_by(COLS) {
                    let cols = COLS.min(n_cols - panel);
                    for row in rows.clone().step_by(ROWS) {
                        // SAFETY: the block's rows and terms are inside `lhs` and its rows and columns inside `out`, by the
                        // caller's promise; the packed panel has `depth` times eight values.
                        unsafe {
                            let a = lhs.values.as_ptr().add(row * lhs.row + first_k * lhs.col);
                            let b = packed.as_ptr().add(panel * depth);
                            let c = out.0.add(row * n + first_col + panel);
                            let block = match rows.end - row {
                                1 => block_1,
                                2 => block_2,
                                3 => block_3,
                                _ => block_4,
                            };
                            block(depth, a, [lhs.row, lhs.col], b, c, [n, cols], adds);
                        }
                    }
                }
            }
        }
    }
}

/// rhs \[depth,n\] as panels of eight columns, each \[depth,8\], the last filled up with zeros.
fn pack(rhs: &[f32], [row, col]: [usize; 2], [depth, n_cols]: [usize; 2], packed: &mut [f32]) {
    for (panel, first) in packed.chunks_exact_mut(depth * COLS).zip((0..n_cols).step_by(COLS)) {
        let from = &rhs[first * col..];
        let cols = COLS.min(n_cols - first);
        if cols < COLS {
            panel.fill(0.0);
            for (k, out) in panel.chunks_exact_mut(COLS).enumerate() {
                (0..cols).for_each(|i| out[i] = from[k * row + i * col]);
            }
        } else if col == 1 {
            for (k, out) in panel.chunks_exact_mut(COLS).enumerate() {
                out.copy_from_slice(&from[k * row..k * row + COLS]);
            }
        } else {
            let whole = if row == 1 { depth / 4 * 4 } else { 0 };
            for k in (0..whole).step_by(4) {
                for half in [0, 4] {
                    // Four terms of four columns each, turned.
                    let lines: [&[f32]; 4] = std::array::from_fn(|i| &from[(half + i) * col + k..][..4]);
                    for (i, line) in turned(lines).into_iter().enumerate() {
                        let out = &mut panel[(k + i) * COLS + half..][..4];
                        // SAFETY: there are four values, and the alignment does not matter.
                        unsafe { v128_store(out.as_mut_ptr().cast(), line) };
                    }
                }
            }
            for (k, out) in panel.chunks_exact_mut(COLS).enumerate().skip(whole) {
                (0..COLS).for_each(|i| out[i] = from[k * row + i * col]);
            }
        }
    }
}

/// The columns of four lines of four.
fn turned(lines: [&[f32]; 4]) -> [v128; 4] {
    // SAFETY: there are four values in each, and the alignment does not matter.
    let [a, b, c, d] = lines.map(|line| unsafe { v128_load(line[..4].as_ptr().cast()) });
    let (ab, cd) = (i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<0, 4, 1, 5>(c, d));
    let (ab_high, cd_high) = (i32x4_shuffle::<2, 6, 3, 7>(a, b), i32x4_shuffle::<2, 6, 3, 7>(c, d));
    [
        i32x4_shuffle::<0, 1, 4, 5>(ab, cd),
        i32x4_shuffle::<2, 3, 6, 7>(ab, cd),
        i32x4_shuffle::<0, 1, 4, 5>(ab_high, cd_high),
        i32x4_shuffle::<2, 3, 6, 7>(ab_high, cd_high),
    ]
}

/// A function for so many rows of `a` times a packed panel, written to the first columns of as many rows of `c`, or added to
/// them. It is spelled out row by row, so that the sums are in registers in whatever way the crate is optimised: most of it
/// for size.
macro_rules! block {
    ($name:ident: $($sum:ident $row:literal)*) => {
        /// # Safety
        /// `a` has `depth` values in each row at its strides, `b` eight for each of them, and `c` its rows and columns.
        unsafe fn $name(
            depth: usize,
            a: *const f32,
            [a_row, a_col]: [usize; 2],
            b: *const f32,
            c: *mut f32,
            [c_row, n_cols]: [usize; 2],
            adds: bool,
        ) {
            $(let mut $sum = [f32x4_splat(0.0); 2];)*
            for k in 0..depth {
                // SAFETY: as promised.
                unsafe {
                    let right = [v128_load(b.add(k * COLS).cast()), v128_load(b.add(k * COLS + 4).cast())];
                    $(
                        let left = v128_load32_splat(a.add($row * a_row + k * a_col).cast());
                        $sum[0] = f32x4_add($sum[0], f32x4_mul(left, right[0]));
                        $sum[1] = f32x4_add($sum[1], f32x4_mul(left, right[1]));
                    )*
                }
            }
            // SAFETY: as promised.
            unsafe { $(put_row($sum, c.add($row * c_row), n_cols, adds);)* }
        }
    };
}

block!(block_1: sums_0 0);
block!(block_2: sums_0 0 sums_1 1);
block!(block_3: sums_0 0 sums_1 1 sums_2 2);
block!(block_4: sums_0 0 sums_1 1 sums_2 2 sums_3 3);

/// Writes the first columns of a row of a block, or adds to them.
///
/// # Safety
/// `c` has `n_cols` values.
#[inline(always)]
unsafe fn put_row([low, high]: [v128; 2], c: *mut f32, n_cols: usize, adds: bool) {
    // SAFETY: as promised.
    unsafe {
        if n_cols == COLS {
            let (at_low, at_high) = (c.cast(), c.add(4).cast());
            v128_store(at_low, if adds { f32x4_add(v128_load(at_low), low) } else { low });
            v128_store(at_high, if adds { f32x4_add(v128_load(at_high), high) } else { high });
        } else {
            let mut values = [0.0f32; COLS];
            v128_store(values.as_mut_ptr().cast(), low);
            v128_store(values.as_mut_ptr().add(4).cast(), high);
            for (i, value) in values.into_iter().enumerate().take(n_cols) {
                let c = c.add(i);
                *c = if adds { *c + value } else { value };
            }
        }
    }
}
