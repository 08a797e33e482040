//! Linear layers and convolutions: products, for which convolutions gather their input rows a block at a time.

use rayon::prelude::*;

use super::product::{FEW_COLUMNS, Strided, Units, matmul, matmul_in_slices};
use super::time_slices::{EACH, Stopped, TimeSlices};

/// Rows of the gathered input of a convolution that are multiplied at once: enough to amortise packing the weights, few
/// enough for the gathered block to stay in the second-level cache.
const CONV_BLOCK_ROWS: usize = 256;

/// Rows where the weights are so many that [`CONV_BLOCK_ROWS`] would take too long to be cancelled within.
const DEEP_BLOCK_ROWS: usize = 64;
/// From so many weights on, and from so many columns on: with fewer the product's library would add up in another order.
const DEEP: usize = 1 << 22;
const DEEP_COLUMNS: usize = 65;
/// Rows that a thread gathers at a time where all are multiplied at once.
const GATHERED_ROWS: usize = 32;

/// Rows of `width` filled with the bias, or zeros.
fn bias_rows(time: &mut TimeSlices, n_rows: usize, width: usize, bias: Option<&[f32]>) -> Result<Vec<f32>, Stopped> {
    let mut out = vec![0.0; n_rows * width];
    let Some(bias) = bias.filter(|_| width > 0) else { return Ok(out) };
    time.slices(n_rows, &[EACH, width], |rows| {
        let out = &mut out[rows.start * width..rows.end * width];
        out.par_chunks_mut(width).with_min_len(64).for_each(|row| row.copy_from_slice(bias));
    })?;
    Ok(out)
}

/// x \[M,K\], weight \[N,K\], bias \[N\] → \[M,N\]; the sizes are M, N and K.
///
/// # Errors
/// [`Stopped`].
pub fn linear(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    [m, n, k]: [usize; 3],
    time: &mut TimeSlices,
) -> Result<Vec<f32>, Stopped> {
    let mut out = bias_rows(time, m, n, bias)?;
    let lhs = Strided { values: x, row: k, col: 1 };
    let rhs = Strided { values: weight, row: 1, col: k };
    matmul_in_slices(time, [m, n, k], &mut out, true, lhs, rhs)?;
    Ok(out)
}

/// The sizes of a convolution.
#[derive(Clone, Copy, Debug)]
pub struct ConvSizes {
    /// \[B,H,W,C\] of the input.
    pub input: [usize; 4],
    /// \[B,H',W',O\] of the output.
    pub output: [usize; 4],
    /// Side of the kernel.
    pub kernel: usize,
    /// Step.
    pub stride: usize,
    /// Zeros on the top and on the left; the output's size says how many there are on the other sides.
    pub pad: [usize; 2],
    /// \[H,W\] that the picture is first taken to by repeating each pixel 2x2, where a side is odd without the last one.
    pub upsample: Option<[usize; 2]>,
}

/// x \[B,H,W,C\], weight \[K*K*C,O\] (rows by kernel row, kernel column, channel), bias \[O\] → \[B,H',W',O\].
///
/// # Errors
/// [`Stopped`].
pub fn conv2d(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    sizes: ConvSizes,
    time: &mut TimeSlices,
) -> Result<Vec<f32>, Stopped> {
    let [_, _, _, channels] = sizes.input;
    let [batch, out_h, out_w, out_channels] = sizes.output;
    let n_rows = batch * out_h * out_w;
    let depth = sizes.kernel * sizes.kernel * channels;
    let rhs = Strided { values: weight, row: out_channels, col: 1 };
    let mut out = bias_rows(time, n_rows, out_channels, Some(bias))?;
    if out.is_empty() || depth == 0 {
        return Ok(out);
    }
    let is_in_place = sizes.pad == [0, 0] && sizes.input[..3] == sizes.output[..3];
    if sizes.kernel == 1 && sizes.stride == 1 && sizes.upsample.is_none() && is_in_place {
        let lhs = Strided { values: x, row: channels, col: 1 };
        matmul_in_slices(time, [n_rows, out_channels, depth], &mut out, true, lhs, rhs)?;
        return Ok(out);
    }
    // Where there are few rows, the product is split along its columns, over the threads; else each thread takes blocks. The bits
    // are the same, but with few columns: there the sizes alone decide.
    if out_channels <= FEW_COLUMNS || n_rows / CONV_BLOCK_ROWS >= 2 * rayon::current_num_threads() {
        let is_deep = depth * out_channels > DEEP && out_channels >= DEEP_COLUMNS;
        let blocks = Units { n_rows, unit_rows: if is_deep { DEEP_BLOCK_ROWS } else { CONV_BLOCK_ROWS } };
        time.slices(blocks.n_units(), &[2, blocks.unit_rows, depth, out_channels], |slice| {
            let parts = blocks.parts(slice, out_channels, &mut out);
            parts.into_par_iter().for_each_init(Vec::new, |rows, (first, out)| {
                let m = out.len() / out_channels;
                rows.resize(m * depth, 0.0);
                gather_rows(x, sizes, first, rows);
                let lhs = Strided { values: rows, row: depth, col: 1 };
                matmul([m, out_channels, depth], out, true, lhs, rhs, false);
            });
        })?;
    } else {
        let mut rows = vec![0.0; n_rows * depth];
        rows.par_chunks_mut(GATHERED_ROWS * depth).enumerate().for_each(|(block, rows)| {
            gather_rows(x, sizes, block * GATHERED_ROWS, rows);
        });
        let lhs = Strided { values: &rows, row: depth, col: 1 };
        matmul_in_slices(time, [n_rows, out_channels, depth], &mut out, true, lhs, rhs)?;
    }
    Ok(out)
}

/// For each output pixel from `first`, everything that its kernel covers: \[n,K*K*C\].
fn gather_rows(x: &[f32], sizes: ConvSizes, first: usize, rows: &mut [f32]) {
    let [_, height, width, channels] = sizes.input;
    let [_, out_h, out_w, _] = sizes.output;
    let ConvSizes { kernel, stride, pad, upsample, .. } = sizes;
    let shift = usize::from(upsample.is_some());
    let [full_h, full_w] = upsample.unwrap_or([height, width]);
    for (pixel, rows) in (first..).zip(rows.chunks_exact_mut(kernel * kernel * channels)) {
        let (b, y, x_out) = (pixel / (out_h * out_w), pixel / out_w % out_h, pixel % out_w);
        let mut places = rows.chunks_exact_mut(channels);
        for ky in 0..kernel {
            let row = (y * stride + ky).checked_sub(pad[0]).filter(|&row| row < full_h);
            for (kx, place) in (0..kernel).zip(&mut places) {
                let col = (x_out * stride + kx).checked_sub(pad[1]).filter(|&col| col < full_w);
                match (row, col) {
                    (Some(row), Some(col)) => {
                        let at = ((b * height + (row >> shift)) * width + (col >> shift)) * channels;
                        place.copy_from_slice(&x[at..at + channels]);
                    }
                    _ => place.fill(0.0),
                }
            }
        }
    }
}
