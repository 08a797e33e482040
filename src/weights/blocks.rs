//! Weights in blocks of [`BLOCK`] values along their inputs that share a scale: what the processor holds and what the GPU's
//! kernels compute with, value for value.
//!
//! The codes are those of GGUF's Q8_0 and Q4_0, and what comes from such a file keeps its scales ([`scales_of`]) where blocks
//! lie the same way, so that it passes unchanged. Two things differ from those files. The inputs of a convolution are its channels, tap by tap, as a product
//! reads them, and not the taps of one channel. And a scale d is stored as the f16 of 1024 d: the scales of usual weights
//! are subnormal numbers in f16, which lose bits and which some GPUs take for zero.

use half::f16;

use super::gguf::BlockType;
use super::weight_type::WeightType;

/// Values of a block.
pub const BLOCK: usize = 32;

/// Bytes of a scale.
pub const SCALE_BYTES: u64 = 2;

/// What a scale is multiplied with before it is rounded.
pub const SCALE_FACTOR: f32 = 1024.0;

/// Divisors of a block's largest value that are tried for its scale in 4 bits: first GGUF's own, which is exact for blocks from
/// such files, then others that may have less error (`tools/quantise`: a gain of 0.5 to 0.8 dB in the weights, of 1.6 to 3 dB
/// in random models' pictures). The kernel `repack_q4_0` tries the same in the same order.
const DIVISORS_4_BITS: [f32; 8] = [-8.0, -7.0, -7.25, -7.5, -7.75, -8.25, -8.5, -8.75];

/// A later scale is taken if its squared error is below the best one so far times this: rounding must not decide between two.
const BETTER: f32 = 0.999;

/// The scale of a block, as it is stored, and the codes. A block may be shorter than [`BLOCK`].
///
/// In 4 bits it is the scale with the least squared error of eight: the largest value over -7 to -8.75.
#[must_use]
pub fn quantise(weight_type: WeightType, values: &[f32]) -> (f16, [i8; BLOCK]) {
    quantise_at(weight_type, values, None)
}

/// The same, with the scale as it is stored, if that is known already.
#[must_use]
pub fn quantise_at(weight_type: WeightType, values: &[f32], scale_of_file: Option<f16>) -> (f16, [i8; BLOCK]) {
    // The first of several that are equally large.
    let larger = |largest: f32, value: &f32| if value.abs() > largest.abs() { *value } else { largest };
    let largest = values.iter().fold(0.0, larger);
    let (stored, least, most) = match weight_type {
        WeightType::Q4_0 => (scale_of_file.unwrap_or_else(|| scale_of_least_error(values, largest)), -8.0, 7.0),
        _ => {
            let chosen = || f16::from_f32(largest.abs() / 127.0 * SCALE_FACTOR);
            // A file may have the code -128, which is never chosen here.
            (scale_of_file.unwrap_or_else(chosen), if scale_of_file.is_some() { -128.0 } else { -127.0 }, 127.0)
        }
    };
    let d = scale(stored);
    let mut codes = [0; BLOCK];
    if d != 0.0 {
        for (code, value) in codes.iter_mut().zip(values) {
            *code = (value / d).round_ties_even().clamp(least, most) as i8;
        }
    }
    (stored, codes)
}

/// The scale in 4 bits, as it is stored.
fn scale_of_least_error(values: &[f32], largest: f32) -> f16 {
    let stored = DIVISORS_4_BITS.map(|divisor| f16::from_f32(largest / divisor * SCALE_FACTOR));
    let scales = stored.map(scale);
    let mut errors = [0f32; DIVISORS_4_BITS.len()];
    for value in values {
        for (error, d) in errors.iter_mut().zip(scales) {
            let divisor = if d == 0.0 { 1.0 } else { d };
            // Adding 1.5 * 2^23 rounds to whole numbers, ties to even, in code that is a vector's on every processor.
            let code = ((value / divisor).clamp(-8.0, 7.0) + 12_582_912.0) - 12_582_912.0;
            let difference = code * d - value;
            *error += difference * difference;
        }
    }
    let (mut best, mut least) = (stored[0], errors[0]);
    for (stored, error) in stored.into_iter().zip(errors).skip(1) {
        if error < least * BETTER {
            (best, least) = (stored, error);
        }
    }
    best
}

/// Whether blocks of a GGUF file can be held with their own scales: the codes fit.
#[must_use]
pub fn keeps_scales(kind: BlockType, weight_type: WeightType) -> bool {
    use BlockType as B;
    use WeightType as W;
    matches!((kind, weight_type), (B::Q8_0, W::Q8_0) | (B::Q4_0, W::Q4_0 | W::Q8_0))
}

/// The scales of blocks of a GGUF file, as they are stored here; none for those that do not keep them.
#[must_use]
pub fn scales_of(kind: BlockType, weight_type: WeightType, bytes: &[u8]) -> Vec<f16> {
    if !keeps_scales(kind, weight_type) {
        return Vec::new();
    }
    let scale_of = |block: &[u8]| f16::from_f32(f16::from_le_bytes([block[0], block[1]]).to_f32() * SCALE_FACTOR);
    bytes.chunks_exact(kind.bytes()).map(scale_of).collect()
}

/// The value of the code 1.
#[must_use]
pub fn scale(stored: f16) -> f32 {
    stored.to_f32() / SCALE_FACTOR
}

/// A matrix \[rows,columns\] in blocks along its rows or along its columns, on the host.
#[derive(Clone, Debug)]
pub struct Blocks {
    weight_type: WeightType,
    rows: usize,
    columns: usize,
    /// Whether a block's values are neighbours in a column; else they are in a row.
    is_along_columns: bool,
    /// Two codes a byte for [`WeightType::Q4_0`], row by row; the lower first. An odd row has half a byte of its own.
    codes: Vec<u8>,
    /// One for each block, in the order of the values.
    scales: Vec<f16>,
}

impl Blocks {
    /// Quantises a matrix whose values lie row by row. With `is_along_columns` blocks are of values below each other.
    #[must_use]
    pub fn of(weight_type: WeightType, values: &[f32], columns: usize, is_along_columns: bool) -> Self {
        Blocks::with_scales(weight_type, values, columns, is_along_columns, &[])
    }

    /// The same with scales from [`scales_of`], if there are any, in the order of the blocks along each row, or column.
    #[must_use]
    pub fn with_scales(
        weight_type: WeightType,
        values: &[f32],
        columns: usize,
        is_along_columns: bool,
        scales_of_file: &[f16],
    ) -> Self {
        let columns = columns.max(1);
        let rows = values.len() / columns;
        let mut all = vec![0i8; values.len()];
        let mut scales = Vec::new();
        let mut block = Vec::with_capacity(BLOCK);
        if is_along_columns {
            for first in (0..rows).step_by(BLOCK) {
                let last = rows.min(first + BLOCK);
                for column in 0..columns {
                    block.clear();
                    block.extend((first..last).map(|row| values[row * columns + column]));
                    let of_file = scales_of_file.get(column * rows.div_ceil(BLOCK) + first / BLOCK).copied();
                    let (scale, codes) = quantise_at(weight_type, &block, of_file);
                    scales.push(scale);
                    (first..last).zip(codes).for_each(|(row, code)| all[row * columns + column] = code);
                }
            }
        } else {
            for (row, codes_of_row) in values.chunks_exact(columns).zip(all.chunks_exact_mut(columns)) {
                for (values, own) in row.chunks(BLOCK).zip(codes_of_row.chunks_mut(BLOCK)) {
                    let of_file = scales_of_file.get(scales.len()).copied();
                    let (scale, codes) = quantise_at(weight_type, values, of_file);
                    scales.push(scale);
                    own.copy_from_slice(&codes[..own.len()]);
                }
            }
        }
        let codes = match weight_type {
            WeightType::Q4_0 => {
                let pair = |pair: &[i8]| (pair[0] & 15) as u8 | (pair.get(1).unwrap_or(&0) << 4) as u8;
                all.chunks_exact(columns).flat_map(|row| row.chunks(2).map(pair)).collect()
            }
            _ => bytemuck::cast_vec(all),
        };
        Blocks { weight_type, rows, columns, is_along_columns, codes, scales }
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        self.codes.len() + 2 * self.scales.len()
    }

    /// The values, row by row.
    #[must_use]
    pub fn values(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows * self.columns];
        let scales: Vec<f32> = self.scales.iter().map(|stored| scale(*stored)).collect();
        let blocks_of_row = self.columns.div_ceil(BLOCK);
        let bytes_of_row = if self.weight_type == WeightType::Q4_0 { self.columns.div_ceil(2) } else { self.columns };
        let rows = values.chunks_exact_mut(self.columns).zip(self.codes.chunks_exact(bytes_of_row));
        for (row, (values, codes)) in rows.enumerate() {
            match self.weight_type {
                WeightType::Q4_0 => {
                    for (pair, byte) in values.chunks_mut(2).zip(codes) {
                        // The codes' signs are their highest bits.
                        pair[0] = f32::from((byte << 4) as i8 >> 4);
                        if let Some(second) = pair.get_mut(1) {
                            *second = f32::from(*byte as i8 >> 4);
                        }
                    }
                }
                _ => values.iter_mut().zip(codes).for_each(|(value, code)| *value = f32::from(*code as i8)),
            }
            if self.is_along_columns {
                let scales = &scales[row / BLOCK * self.columns..][..self.columns];
                values.iter_mut().zip(scales).for_each(|(value, scale)| *value *= scale);
            } else {
                let scales = &scales[row * blocks_of_row..][..blocks_of_row];
                for (values, scale) in values.chunks_mut(BLOCK).zip(scales) {
                    values.iter_mut().for_each(|value| *value *= scale);
                }
            }
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::super::gguf::{self, BlockType};
    use super::*;

    fn scatter(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + 13) % 1009) as f32 / 1009.0 - 0.5).map(|x| x * x * x * 0.1).collect()
    }

    #[test]
    fn values_of_gguf_files_pass_unchanged() {
        for (weight_type, kind) in [(WeightType::Q8_0, BlockType::Q8_0), (WeightType::Q4_0, BlockType::Q4_0)] {
            for magnitude in [1e-3, 1.0, 300.0] {
                let wanted: Vec<f32> = scatter(20 * 64).into_iter().map(|x| x * magnitude).collect();
                let (mut bytes, mut stored) = (Vec::new(), Vec::new());
                gguf::quantize(kind, &wanted, &mut bytes).unwrap();
                gguf::dequantize(kind, &bytes, &mut stored).unwrap();
                assert_eq!(Blocks::of(weight_type, &stored, 64, false).values(), stored, "{kind:?} {magnitude}");
            }
        }
    }

    #[test]
    fn scales_of_gguf_files_are_kept() {
        for (kind, weight_type) in [
            (BlockType::Q8_0, WeightType::Q8_0),
            (BlockType::Q4_0, WeightType::Q4_0),
            (BlockType::Q4_0, WeightType::Q8_0),
        ] {
            // Codes of every size below a scale that nobody would choose for them; the last block has -128, or the like.
            let n_bytes = kind.bytes();
            let bytes: Vec<u8> = (0..8 * n_bytes)
                .map(|i| match (i % n_bytes, kind) {
                    (0, _) => 0x34,
                    (1, _) => 0x12 + (i / n_bytes) as u8,
                    (place, BlockType::Q8_0) => ((place * 7 + i / n_bytes) % 61) as u8,
                    (place, _) => 0x66 + (place % 4) as u8 * 0x11,
                })
                .collect();
            let mut values = Vec::new();
            gguf::dequantize(kind, &bytes, &mut values).unwrap();
            let scales = scales_of(kind, weight_type, &bytes);
            assert_eq!(scales.len(), 8);
            let flat = Blocks::with_scales(weight_type, &values, 64, false, &scales);
            assert_eq!(flat.values(), values, "{kind:?} as {weight_type:?}");
            let turned: Vec<f32> = (0..values.len()).map(|i| values[i % 4 * 64 + i / 4]).collect();
            let upright = Blocks::with_scales(weight_type, &turned, 4, true, &scales);
            assert_eq!(upright.values(), turned, "{kind:?} as {weight_type:?}");
        }
        assert_eq!(scales_of(BlockType::Q8_0, WeightType::Q4_0, &[0; 34]), []);
    }

    #[test]
    fn blocks_along_rows_and_along_columns_hold_the_same_values() {
        for weight_type in [WeightType::Q8_0, WeightType::Q4_0] {
            for (rows, columns) in [(1, 1), (3, 33), (64, 5), (70, 31)] {
                let values = scatter(rows * columns);
                let turned: Vec<f32> = (0..rows * columns).map(|i| values[i % rows * columns + i / rows]).collect();
                let flat = Blocks::of(weight_type, &values, columns, false);
                let upright = Blocks::of(weight_type, &turned, rows, true);
                let turned: Vec<f32> =
                    (0..rows * columns).map(|i| upright.values()[i % columns * rows + i / columns]).collect();
                assert_eq!(flat.values(), turned, "{weight_type:?} {rows}x{columns}");
                assert_eq!(flat.scales.len(), upright.scales.len());
                let largest = values.iter().fold(0f32, |most, value| most.max(value.abs()));
                let step = largest / if weight_type == WeightType::Q8_0 { 127.0 } else { 8.0 };
                for (value, held) in values.iter().zip(flat.values()) {
                    assert!((value - held).abs() <= step * 1.01, "{weight_type:?}: {value} is held as {held}");
                }
            }
        }
    }

    #[test]
    fn blocks_of_zeros_stay_zeros() {
        assert_eq!(Blocks::of(WeightType::Q4_0, &[0.0; 40], 40, false).values(), vec![0.0; 40]);
    }
}
