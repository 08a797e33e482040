//! Products of small factors, as rows of a matrix are asked for: f32 arithmetic, shared among threads.

use std::ops::Range;

#[cfg(any(test, target_arch = "wasm32", not(feature = "cpu")))]
#[path = "product/plain.rs"]
mod plain;
#[cfg(all(not(target_arch = "wasm32"), feature = "cpu"))]
#[path = "product/native.rs"]
mod platform;
#[cfg(any(target_arch = "wasm32", not(feature = "cpu")))]
use plain as platform;

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

    /// The left factor, \[rows,rank\].
    #[must_use]
    pub fn left(&self) -> &[f32] {
        &self.left
    }

    /// The right factor, \[rank,cols\].
    #[must_use]
    pub fn right(&self) -> &[f32] {
        &self.right
    }

    /// Adds `scale` times these rows of the matrix to `out`, \[rows,cols\].
    pub fn add(&self, rows: Range<usize>, scale: f32, out: &mut [f32]) {
        let left = &self.left[rows.start * self.rank..rows.end * self.rank];
        platform::add(left, &self.right, [rows.len(), self.cols, self.rank], scale, out);
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
            let mut plainly = vec![1.0; out.len()];
            plain::add(&left[from * rank..], &right, [rows - from, cols, rank], 0.5, &mut plainly);
            for (i, got) in out.iter().enumerate() {
                // Small whole numbers: no sum is rounded.
                assert_eq!(*got, 1.0 + 0.5 * naive(from + i / cols, i % cols), "{rows}x{rank}x{cols} at {i}");
                assert_eq!(*got, plainly[i], "{rows}x{rank}x{cols} at {i}");
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
