//! A changed tensor as its pristine values plus one product of small factors, for a caller that multiplies on its device.
//!
//! Nothing is multiplied here but the strengths into the left factors.

use std::ops::Range;

use super::Applied;
use crate::error::{Error, Result};
use crate::weights::tensors::{Tensor, TensorSource};

/// A tensor W + L R: several LoRAs side by side in one product.
pub struct LowRank<'a> {
    base: &'a dyn TensorSource,
    name: &'a str,
    tensor: Tensor<'a>,
    applied: &'a [Applied],
    rank: usize,
}

/// The factors L and R.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// Columns of L, \[rows,rank\], and rows of R.
    pub rank: usize,
    /// Columns of R, \[rank,cols\].
    pub cols: usize,
    /// L times strength and alpha / rank, row by row.
    pub left: Vec<f32>,
    /// R, row by row.
    pub right: Vec<f32>,
}

impl<'a> LowRank<'a> {
    /// `None` where a change is no product, or a tensor does not have the shape that it was fitted to.
    pub(super) fn of(
        base: &'a dyn TensorSource,
        name: &'a str,
        tensor: Tensor<'a>,
        applied: &'a [Applied],
    ) -> Option<Self> {
        let n_values = tensor.shape.iter().product::<usize>();
        let fits = |applied: &Applied| applied.change.sizes().n_values() == n_values;
        let is_read = tensor.dtype.n_bytes().is_some() && applied.iter().all(fits);
        let ranks = applied.iter().map(|applied| applied.change.rank()).sum::<Option<usize>>();
        let rank = ranks.filter(|rank| is_read && *rank > 0)?;
        Some(LowRank { base, name, tensor, applied, rank })
    }

    /// The pristine tensor W, of its own type.
    #[must_use]
    pub fn base(&self) -> Tensor<'a> {
        self.tensor
    }

    /// The sum of all ranks.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Reads `len` bytes of W from `offset` on, as [`TensorSource::read`] does.
    ///
    /// # Errors
    /// As there.
    pub async fn read_base(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.base.read(self.name, offset, len).await
    }

    /// Reads the factors.
    ///
    /// # Errors
    /// [`Error::Safetensors`] for a NaN or an infinity in them or in their product; whatever an adapter's file returns when it cannot be read.
    pub async fn terms(&self) -> Result<Terms> {
        let Some(sizes) = self.applied.first().map(|applied| applied.change.sizes()) else {
            return Err(self.broken());
        };
        let (rows, cols, rank) = (sizes.rows, sizes.cols(), self.rank);
        let mut terms = Terms { rank, cols, left: vec![0.0; rows * rank], right: Vec::with_capacity(rank * cols) };
        for Applied { change, strength } in self.applied {
            let (product, scale) = change.product().await?.ok_or_else(|| self.broken())?;
            let (first, n) = (terms.right.len() / cols, product.left().len() / rows);
            if product.cols() != cols || product.rows() != rows || first + n > rank {
                return Err(self.broken());
            }
            let factor = strength * scale;
            for (to, from) in terms.left.chunks_exact_mut(rank).zip(product.left().chunks_exact(n)) {
                to[first..first + n].iter_mut().zip(from).for_each(|(to, from)| *to = factor * from);
            }
            terms.right.extend_from_slice(product.right());
        }
        if !terms.bound().is_finite() {
            return Err(self.applied[0].change.too_large(self.name));
        }
        Ok(terms)
    }

    fn broken(&self) -> Error {
        let reason = format!("the factors of {} do not fit it", self.name);
        Error::Safetensors { file: self.tensor.file.to_owned(), reason }
    }
}

impl Terms {
    /// A number that no value of L R exceeds.
    #[must_use]
    pub fn bound(&self) -> f32 {
        let squares = |values: &[f32]| values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
        let left = self.left.chunks_exact(self.rank).map(squares).fold(0.0, f64::max);
        let mut columns = vec![0.0; self.cols];
        for row in self.right.chunks_exact(self.cols) {
            columns.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value).powi(2));
        }
        (left * columns.into_iter().fold(0.0, f64::max)).sqrt() as f32
    }

    /// Some rows of L turned, \[rank,rows\], with zeros up to a multiple of `multiple` rows.
    #[must_use]
    pub fn left_columns(&self, rows: Range<usize>, multiple: usize) -> Vec<f32> {
        let width = rows.len().next_multiple_of(multiple);
        let mut turned = vec![0.0; self.rank * width];
        for (to, row) in rows.enumerate() {
            for (k, value) in self.left[row * self.rank..][..self.rank].iter().enumerate() {
                turned[k * width + to] = *value;
            }
        }
        turned
    }

    /// R with zeros up to a multiple of `multiple` columns.
    #[must_use]
    pub fn right_rows(&self, multiple: usize) -> Vec<f32> {
        let width = self.cols.next_multiple_of(multiple);
        let mut rows = vec![0.0; self.rank * width];
        for (to, from) in rows.chunks_exact_mut(width).zip(self.right.chunks_exact(self.cols)) {
            to[..self.cols].copy_from_slice(from);
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_turned_and_filled_up() {
        let terms = Terms { rank: 2, cols: 3, left: vec![1., 2., 3., 4., 5., 6.], right: vec![1., 0., 2., 0., 3., 0.] };
        assert_eq!(terms.left_columns(1..3, 4), [3., 5., 0., 0., 4., 6., 0., 0.]);
        assert_eq!(terms.right_rows(4), [1., 0., 2., 0., 0., 3., 0., 0.]);
        // The largest of L R is 6 times 3.
        assert!(terms.bound() >= 18.0 && terms.bound() < 24.0, "{}", terms.bound());
    }
}
