//! Products of small factors, as rows of a matrix are asked for: plain f32 arithmetic, shared among threads.

use std::ops::Range;

use rayon::prelude::*;

/// Columns that are computed at once: two of the widest vectors of most processors.
const PANEL: usize = 16;

/// Rows that are computed at once.
const ROWS: usize = 4;

/// Rows of a share of the work: enough to make up for laying out the right factor.
const SHARE: usize = 64;

/// A matrix \[rows,cols\] as left \[rows,rank\] times right \[rank,cols\].
#[derive(Clone, Debug, PartialEq)]
pub struct Product {
    left: Vec<f32>,
    right: Vec<f32>,
    rank: usize,
    cols: usize,
}

impl Product {
    /// `left` is \[rows,rank\] and `right` \[rank,cols\]; `None` where the lengths do not fit.
    #[must_use]
    pub fn new(left: Vec<f32>, right: Vec<f32>, rank: usize, cols: usize) -> Option<Self> {
        let fits = rank > 0 && left.len().is_multiple_of(rank) && right.len() == rank.checked_mul(cols)?;
        fits.then_some(Product { left, right, rank, cols })
    }

    /// The Tucker form of a convolution: left \[rows,p\], core \[p,q,kernel\] and right \[q,inputs\] give
    /// \[rows,inputs*kernel\], the sum over p and q. Core and right are multiplied here, once.
    #[must_use]
    pub fn tucker(left: Vec<f32>, core: &[f32], right: &[f32], [p, q, kernel]: [usize; 3]) -> Option<Self> {
        let fits = p > 0 && q > 0 && core.len() == p.checked_mul(q)?.checked_mul(kernel)?;
        if !fits || !right.len().is_multiple_of(q) {
            return None;
        }
        let inputs = right.len() / q;
        let mut joined = vec![0.0; p * inputs * kernel];
        for (core, joined) in core.chunks_exact(q * kernel).zip(joined.chunks_exact_mut(inputs * kernel)) {
            for (core, right) in core.chunks_exact(kernel).zip(right.chunks_exact(inputs)) {
                for (joined, right) in joined.chunks_exact_mut(kernel).zip(right) {
                    joined.iter_mut().zip(core).for_each(|(joined, core)| *joined += core * right);
                }
            }
        }
        Product::new(left, joined, p, inputs * kernel)
    }

    /// Rows of the whole matrix.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.left.len() / self.rank
    }

    /// Columns of it.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Adds `scale` times these rows of the matrix to `out`, \[rows,cols\].
    pub fn add(&self, rows: Range<usize>, scale: f32, out: &mut [f32]) {
        let left = &self.left[rows.start * self.rank..rows.end * self.rank];
        let shares = out.par_chunks_mut(SHARE * self.cols.max(1)).zip(left.par_chunks(SHARE * self.rank));
        shares.for_each(|(out, left)| pulp::Arch::new().dispatch(|| self.add_share(left, scale, out)));
    }

    #[inline(always)]
    fn add_share(&self, left: &[f32], scale: f32, out: &mut [f32]) {
        let mut panel = vec![[0.0; PANEL]; self.rank];
        for first in (0..self.cols).step_by(PANEL) {
            let width = PANEL.min(self.cols - first);
            for (panel, right) in panel.iter_mut().zip(self.right.chunks_exact(self.cols)) {
                panel[..width].copy_from_slice(&right[first..first + width]);
            }
            let blocks = left.chunks(ROWS * self.rank).zip(out.chunks_mut(ROWS * self.cols));
            for (left, out) in blocks {
                let mut sums = [[0.0f32; PANEL]; ROWS];
                if left.len() == ROWS * self.rank {
                    let (a, rest) = left.split_at(self.rank);
                    let (b, rest) = rest.split_at(self.rank);
                    let (c, d) = rest.split_at(self.rank);
                    for ((((panel, a), b), c), d) in panel.iter().zip(a).zip(b).zip(c).zip(d) {
                        for column in 0..PANEL {
                            sums[0][column] += a * panel[column];
                            sums[1][column] += b * panel[column];
                            sums[2][column] += c * panel[column];
                            sums[3][column] += d * panel[column];
                        }
                    }
                } else {
                    for (sums, left) in sums.iter_mut().zip(left.chunks_exact(self.rank)) {
                        for (panel, left) in panel.iter().zip(left) {
                            sums.iter_mut().zip(panel).for_each(|(sum, right)| *sum += left * right);
                        }
                    }
                }
                for (out, sums) in out.chunks_exact_mut(self.cols).zip(&sums) {
                    for (out, sum) in out[first..first + width].iter_mut().zip(sums) {
                        *out += scale * sum;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A factor whose values differ from place to place.
    fn factor(n: usize, salt: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7 + salt * 5) % 11) as f32 - 5.0).collect()
    }

    #[test]
    fn rows_are_those_of_the_whole_product() {
        for (rows, rank, cols) in [(1, 1, 1), (5, 3, 17), (70, 4, 33), (130, 2, 16)] {
            let (left, right) = (factor(rows * rank, 1), factor(rank * cols, 2));
            let product = Product::new(left.clone(), right.clone(), rank, cols).unwrap();
            assert_eq!((product.rows(), product.cols()), (rows, cols));
            let naive = |row: usize, col: usize| -> f32 {
                (0..rank).map(|k| left[row * rank + k] * right[k * cols + col]).sum()
            };
            let from = rows / 3;
            let mut out = vec![1.0; (rows - from) * cols];
            product.add(from..rows, 0.5, &mut out);
            for (i, got) in out.iter().enumerate() {
                assert_eq!(*got, 1.0 + 0.5 * naive(from + i / cols, i % cols), "{rows}x{rank}x{cols} at {i}");
            }
        }
        assert_eq!(Product::new(vec![1.0; 3], vec![1.0; 4], 2, 2), None);
        assert_eq!(Product::new(vec![], vec![], 0, 2), None);
    }

    #[test]
    fn tucker_sums_over_both_ranks() {
        let (o, p, q, i, k) = (2, 3, 2, 4, 2);
        let (left, core, right) = (factor(o * p, 1), factor(p * q * k, 2), factor(q * i, 3));
        let product = Product::tucker(left.clone(), &core, &right, [p, q, k]).unwrap();
        let mut out = vec![0.0; o * i * k];
        product.add(0..o, 1.0, &mut out);
        for (at, got) in out.iter().enumerate() {
            let (row, input, tap) = (at / (i * k), at / k % i, at % k);
            let mut sum = 0.0;
            for a in 0..p {
                for b in 0..q {
                    sum += core[(a * q + b) * k + tap] * left[row * p + a] * right[b * i + input];
                }
            }
            assert_eq!(*got, sum);
        }
        assert_eq!(Product::tucker(left, &core, &right, [p, q, k + 1]), None);
    }
}
