//! What adapters do to a matrix, on plain f32 slices: the difference that each kind stands for, and how it is applied.
//!
//! A matrix is \[rows,inputs,kernel\] of a torch weight \[out,in,kh,kw\]. Everything is computed for a range of rows, so that
//! a large matrix can pass in pieces. Nothing is read here.
//!
//! Sources: kohya's networks/lora.py, LyCORIS' modules, PEFT's dora.py.

use std::ops::Range;

use super::product::Product;

/// A difference dW, ready to be added.
#[derive(Clone, Debug)]
pub enum Delta {
    /// scale * left right: LoRA and LoCon, the Tucker form included.
    Product {
        /// The matrix.
        product: Product,
        /// alpha / rank.
        scale: f32,
    },
    /// scale * first o second, element by element: LoHa.
    Hadamard {
        /// The first matrix.
        first: Product,
        /// The second one.
        second: Product,
        /// alpha / rank, once.
        scale: f32,
    },
    /// scale * kron(first, second): LoKr.
    Kronecker {
        /// \[rows,cols\], row by row.
        first: Vec<f32>,
        /// Columns of the first.
        first_cols: usize,
        /// \[rows,inputs*kernel\].
        second: Vec<f32>,
        /// Columns of the second, `inputs*kernel`.
        second_cols: usize,
        /// alpha / rank.
        scale: f32,
    },
    /// W o w along one side: IA3.
    Scaled {
        /// A factor for each output, or for each input.
        factors: Vec<f32>,
        /// Whether they are for inputs.
        on_input: bool,
    },
}

/// The sizes of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub inputs: usize,
    /// Values of the kernel of a convolution; 1 for a linear layer.
    pub kernel: usize,
}

impl Sizes {
    /// Those of a weight \[out,in,kh,kw\] or \[out,in\]; a vector is one row.
    #[must_use]
    pub fn of(shape: &[usize]) -> Self {
        match *shape {
            [] => Sizes { rows: 1, inputs: 1, kernel: 1 },
            [n] => Sizes { rows: 1, inputs: n, kernel: 1 },
            [rows, inputs, ref kernel @ ..] => Sizes { rows, inputs, kernel: kernel.iter().product() },
        }
    }

    /// Values of a row.
    #[must_use]
    pub fn cols(self) -> usize {
        self.inputs * self.kernel
    }

    /// Values of the matrix.
    #[must_use]
    pub fn n_values(self) -> usize {
        self.rows * self.cols()
    }
}

impl Delta {
    /// Adds `strength` times these rows of dW to `out`, \[rows,cols\]. `weight` has the same rows of the pristine weight.
    pub fn add(&self, sizes: Sizes, rows: Range<usize>, strength: f32, weight: &[f32], out: &mut [f32]) {
        match self {
            Delta::Product { product, scale } => product.add(rows, strength * scale, out),
            Delta::Hadamard { first, second, scale } => {
                let (mut a, mut b) = (vec![0.0; out.len()], vec![0.0; out.len()]);
                first.add(rows.clone(), 1.0, &mut a);
                second.add(rows, 1.0, &mut b);
                let factor = strength * scale;
                for ((out, a), b) in out.iter_mut().zip(&a).zip(&b) {
                    *out += factor * (a * b);
                }
            }
            Delta::Kronecker { first, first_cols, second, second_cols, scale } => {
                let second_rows = second.len() / (*second_cols).max(1);
                for (row, out) in rows.zip(out.chunks_exact_mut(sizes.cols())) {
                    let (i, j) = (row / second_rows, row % second_rows);
                    let first = &first[i * first_cols..][..*first_cols];
                    let second = &second[j * second_cols..][..*second_cols];
                    for (out, first) in out.chunks_exact_mut(*second_cols).zip(first) {
                        let factor = strength * scale * first;
                        out.iter_mut().zip(second).for_each(|(out, second)| *out += factor * second);
                    }
                }
            }
            Delta::Scaled { factors, on_input } => {
                let rows = rows.zip(out.chunks_exact_mut(sizes.cols()).zip(weight.chunks_exact(sizes.cols())));
                for (row, (out, weight)) in rows {
                    for (col, (out, weight)) in out.iter_mut().zip(weight).enumerate() {
                        let factor = if *on_input { factors[col / sizes.kernel] } else { factors[row] };
                        *out += strength * (weight * factor);
                    }
                }
            }
        }
    }
}

/// The magnitudes of a weight that is decomposed into magnitude and direction (DoRA).
#[derive(Clone, Debug, PartialEq)]
pub enum Magnitude {
    /// One for each output: PEFT's, and LyCORIS' of today.
    Rows(Vec<f32>),
    /// One for each input: LyCORIS' of before.
    Inputs(Vec<f32>),
}

/// Adds `strength` (W' - W) to rows of `out`, where W' = V magnitude / norm(V) and `v` has the rows of V = W + dW.
/// `input_norms` are the norms of V for each input over all rows; they are not looked at for [`Magnitude::Rows`].
#[allow(clippy::too_many_arguments, reason = "the operands of one formula")]
pub fn add_decomposed(
    magnitude: &Magnitude,
    sizes: Sizes,
    rows: Range<usize>,
    strength: f32,
    weight: &[f32],
    v: &[f32],
    input_norms: &[f32],
    out: &mut [f32],
) {
    let cols = sizes.cols();
    let lines = out.chunks_exact_mut(cols).zip(weight.chunks_exact(cols)).zip(v.chunks_exact(cols));
    for (row, ((out, weight), v)) in rows.zip(lines) {
        let of_row = match magnitude {
            Magnitude::Rows(magnitudes) => Some(ratio(magnitudes[row], norm(v))),
            Magnitude::Inputs(_) => None,
        };
        for (col, ((out, weight), v)) in out.iter_mut().zip(weight).zip(v).enumerate() {
            let factor = match (of_row, magnitude) {
                (Some(factor), _) => factor,
                (None, Magnitude::Inputs(magnitudes)) => {
                    ratio(magnitudes[col / sizes.kernel], input_norms[col / sizes.kernel])
                }
                (None, Magnitude::Rows(_)) => 1.0,
            };
            *out += strength * (v * factor - weight);
        }
    }
}

/// A direction of length nothing stays that.
fn ratio(magnitude: f32, norm: f32) -> f32 {
    if norm > 0.0 { magnitude / norm } else { 0.0 }
}

/// The length of a row, summed in f64.
fn norm(row: &[f32]) -> f32 {
    row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt() as f32
}

/// Adds the squares of rows of V to `sums`, one for each input.
pub fn add_input_squares(sizes: Sizes, v: &[f32], sums: &mut [f64]) {
    for row in v.chunks_exact(sizes.cols()) {
        for (sum, values) in sums.iter_mut().zip(row.chunks_exact(sizes.kernel)) {
            *sum += values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// dW of all rows.
    fn whole(delta: &Delta, sizes: Sizes, weight: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; sizes.n_values()];
        delta.add(sizes, 0..sizes.rows, 1.0, weight, &mut out);
        out
    }

    fn product(left: &[f32], right: &[f32], rank: usize) -> Product {
        Product::new(left.to_vec(), right.to_vec(), rank, right.len() / rank).unwrap()
    }

    #[test]
    fn kinds_of_differences() {
        let sizes = Sizes::of(&[2, 2]);
        let a = product(&[1.0, 2.0], &[3.0, 4.0], 1);
        let b = product(&[1.0, -1.0], &[2.0, 1.0], 1);
        let lora = Delta::Product { product: a.clone(), scale: 0.5 };
        assert_eq!(whole(&lora, sizes, &[]), [1.5, 2.0, 3.0, 4.0]);
        let loha = Delta::Hadamard { first: a, second: b, scale: 0.5 };
        assert_eq!(whole(&loha, sizes, &[]), [3.0, 2.0, -6.0, -4.0]);
        // kron([[1, 2]], [[1], [3]]) of [2,2].
        let (first, second) = (vec![1.0, 2.0], vec![1.0, 3.0]);
        let lokr = Delta::Kronecker { first, first_cols: 2, second, second_cols: 1, scale: 1.0 };
        assert_eq!(whole(&lokr, sizes, &[]), [1.0, 2.0, 3.0, 6.0]);
        let ia3 = |on_input| Delta::Scaled { factors: vec![1.0, 10.0], on_input };
        assert_eq!(whole(&ia3(true), sizes, &[1.0, 2.0, 3.0, 4.0]), [1.0, 20.0, 3.0, 40.0]);
        assert_eq!(whole(&ia3(false), sizes, &[1.0, 2.0, 3.0, 4.0]), [1.0, 2.0, 30.0, 40.0]);
    }

    #[test]
    fn the_kernel_lies_in_the_second_factor_of_a_kronecker_product() {
        // W [2,4,2] of kron([[1, 2]], [2,2,2]).
        let sizes = Sizes::of(&[2, 4, 1, 2]);
        let second = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        let lokr = Delta::Kronecker { first: vec![1.0, 2.0], first_cols: 2, second, second_cols: 4, scale: 1.0 };
        let expected = [1., 2., 3., 4., 2., 4., 6., 8., 5., 6., 7., 8., 10., 12., 14., 16.];
        assert_eq!(whole(&lokr, sizes, &[]), expected);
    }

    #[test]
    fn rows_of_a_range() {
        let sizes = Sizes::of(&[4, 2]);
        let (first, second) = (vec![1.0, 2.0], vec![1.0, 3.0, 5.0, 7.0]);
        let lokr = Delta::Kronecker { first, first_cols: 1, second, second_cols: 2, scale: 2.0 };
        let all = whole(&lokr, sizes, &[]);
        let mut some = vec![1.0; 4];
        lokr.add(sizes, 1..3, -1.0, &[], &mut some);
        assert_eq!(some, [1.0 - all[2], 1.0 - all[3], 1.0 - all[4], 1.0 - all[5]]);
    }

    #[test]
    fn magnitudes_by_rows_and_by_inputs() {
        let sizes = Sizes::of(&[2, 2]);
        let (weight, v) = ([1.0, 0.0, 0.0, 1.0], [3.0, 4.0, 0.0, 2.0]);
        let mut out = weight;
        add_decomposed(&Magnitude::Rows(vec![10.0, 1.0]), sizes, 0..2, 1.0, &weight, &v, &[], &mut out);
        assert_eq!(out, [6.0, 8.0, 0.0, 1.0]);
        // Half of the way.
        let mut out = weight;
        add_decomposed(&Magnitude::Rows(vec![10.0, 1.0]), sizes, 0..2, 0.5, &weight, &v, &[], &mut out);
        assert_eq!(out, [3.5, 4.0, 0.0, 1.0]);
        let mut squares = [0.0; 2];
        add_input_squares(sizes, &v, &mut squares);
        assert_eq!(squares, [9.0, 20.0]);
        let mut out = weight;
        add_decomposed(&Magnitude::Inputs(vec![6.0, 2.0]), sizes, 0..2, 1.0, &weight, &v, &[3.0, 4.0], &mut out);
        assert_eq!(out, [6.0, 2.0, 0.0, 1.0]);
        // A direction without length is no NaN.
        let mut out = [0.0; 2];
        add_decomposed(&Magnitude::Rows(vec![1.0]), Sizes::of(&[1, 2]), 0..1, 1.0, &[0.0; 2], &[0.0; 2], &[], &mut out);
        assert_eq!(out, [0.0; 2]);
    }
}
