//! The product in plain loops that become vector instructions, for wasm and where the processor's runner, which brings the
//! gemm crate, is left out.

use rayon::prelude::*;

/// Columns that are computed at once: two of the widest vectors of most processors.
const PANEL: usize = 16;

/// Rows that are computed at once.
const ROWS: usize = 4;

/// Rows of a share of the work: enough to make up for laying out the right factor.
const SHARE: usize = 64;

/// Adds `scale` times left \[m,k\] right \[k,n\] to `out`, \[m,n\].
pub(super) fn add(left: &[f32], right: &[f32], [m, n, k]: [usize; 3], scale: f32, out: &mut [f32]) {
    assert!(left.len() == m * k && right.len() == k * n && out.len() == m * n, "the sizes of a product do not fit");
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    let shares = out.par_chunks_mut(SHARE * n).zip(left.par_chunks(SHARE * k));
    shares.for_each(|(out, left)| pulp::Arch::new().dispatch(|| add_share(left, right, [n, k], scale, out)));
}

#[inline(always)]
fn add_share(left: &[f32], right: &[f32], [n, k]: [usize; 2], scale: f32, out: &mut [f32]) {
    let mut panel = vec![[0.0; PANEL]; k];
    for first in (0..n).step_by(PANEL) {
        let width = PANEL.min(n - first);
        for (panel, right) in panel.iter_mut().zip(right.chunks_exact(n)) {
            panel[..width].copy_from_slice(&right[first..first + width]);
        }
        for (left, out) in left.chunks(ROWS * k).zip(out.chunks_mut(ROWS * n)) {
            let mut sums = [[0.0f32; PANEL]; ROWS];
            if left.len() == ROWS * k {
                let (a, rest) = left.split_at(k);
                let (b, rest) = rest.split_at(k);
                let (c, d) = rest.split_at(k);
                for ((((panel, a), b), c), d) in panel.iter().zip(a).zip(b).zip(c).zip(d) {
                    for column in 0..PANEL {
                        sums[0][column] += a * panel[column];
                        sums[1][column] += b * panel[column];
                        sums[2][column] += c * panel[column];
                        sums[3][column] += d * panel[column];
                    }
                }
            } else {
                for (sums, left) in sums.iter_mut().zip(left.chunks_exact(k)) {
                    for (panel, left) in panel.iter().zip(left) {
                        sums.iter_mut().zip(panel).for_each(|(sum, right)| *sum += left * right);
                    }
                }
            }
            for (out, sums) in out.chunks_exact_mut(n).zip(&sums) {
                for (out, sum) in out[first..first + width].iter_mut().zip(sums) {
                    *out += scale * sum;
                }
            }
        }
    }
}
