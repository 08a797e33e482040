//! `repack`: brings a weight from a checkpoint's layout into the one that [`super::gemm`] reads, on the GPU.
//!
//! Packed is \[K,N\]: K by tap (kernel row, then kernel column) and input channel, N the outputs, filled up with zeros to a
//! multiple of four. For GEGLU the outputs, whose first half are values and whose second half gates, are interleaved by
//! fours: four values, their four gates, and so on.
//!
//! In f16 and f32 that is all. In blocks ([`crate::weights::blocks`]) four neighbouring codes of a row lie in a word, or, with
//! 4 bits, those of two rows; behind the codes follow the scales \[K/32,N\]. Blocks are quantised here, a slice of the outputs
//! at a time.

use half::f16;

use crate::Result;
use crate::run::gpu::kernel::{Bind, Element, Kernel, Launch, Width, bindings, count, params, refuse, spread_cells};
use crate::run::gpu::weight_layout::WeightLayout;
use crate::weights::WeightType;
use crate::weights::blocks::{self, BLOCK};
use crate::weights::gguf::BlockType;

use super::shared::IMPORTS;

bindings! {
    /// What the kernel is bound to.
    struct Bindings {
        /// The outputs' bytes, in the order of the checkpoint, filled up to whole words.
        raw: Read T,
        /// Of [`Repack::packed_bytes`].
        packed: ReadWrite T,
    }
}

/// The kernel's entry in the table.
pub const KERNEL: Kernel = Kernel {
    name: "repack",
    wgsl: include_str!("repack.wgsl"),
    bindings: Bindings::<()>::BINDINGS,
    imports: IMPORTS,
    params_bytes: size_of::<Params>(),
    params_fields: Params::FIELDS,
    constants: &["raw_is_f32", "raw_code_bits", "geglu"],
    elements: &[Element::F32],
    widths: &[Width::One],
};

/// Those of the kernels that pack in blocks.
const CONSTANTS_OF_BLOCKS: &[&str] = &["raw_is_f32", "raw_code_bits", "geglu", "keeps_scales"];

/// From f16 to f16, of an even number of inputs.
pub const KERNEL_PAIRS: Kernel =
    Kernel { name: "repack_pairs", wgsl: include_str!("repack_pairs.wgsl"), constants: &["geglu"], ..KERNEL };

/// To f32.
pub const KERNEL_F32: Kernel = Kernel { name: "repack_f32", wgsl: include_str!("repack_f32.wgsl"), ..KERNEL };

/// To blocks of 8-bit codes.
pub const KERNEL_Q8_0: Kernel =
    Kernel { name: "repack_q8_0", wgsl: include_str!("repack_q8_0.wgsl"), constants: CONSTANTS_OF_BLOCKS, ..KERNEL };

/// To blocks of 4-bit codes.
pub const KERNEL_Q4_0: Kernel =
    Kernel { name: "repack_q4_0", wgsl: include_str!("repack_q4_0.wgsl"), constants: CONSTANTS_OF_BLOCKS, ..KERNEL };

params! {
    /// The uniform buffer, field for field as in the WGSL file.
    struct Params {
        n_outputs: u32,
        n_inputs: u32,
        n_taps: u32,
        first_output: u32,
        n_quads: u32,
        first_quad: u32,
        n_quads_packed: u32,
        first_scale: u32,
    }
}

/// The type of a weight as it is uploaded. Others are converted before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Raw {
    /// Two bytes.
    F16,
    /// Four bytes.
    F32,
    /// Blocks of a GGUF file, of 8 bits a code.
    Q8_0,
    /// Blocks of a GGUF file, of 4 bits a code.
    Q4_0,
}

impl Raw {
    /// What blocks of a GGUF file are uploaded as.
    #[must_use]
    pub const fn of_blocks(kind: BlockType) -> Option<Self> {
        match kind {
            BlockType::Q8_0 => Some(Raw::Q8_0),
            BlockType::Q4_0 => Some(Raw::Q4_0),
            _ => None,
        }
    }

    /// The blocks of a GGUF file that it is, if it is.
    #[must_use]
    pub const fn blocks(self) -> Option<BlockType> {
        match self {
            Raw::Q8_0 => Some(BlockType::Q8_0),
            Raw::Q4_0 => Some(BlockType::Q4_0),
            Raw::F16 | Raw::F32 => None,
        }
    }

    /// Bytes of so many values, which are whole blocks where there are such.
    #[must_use]
    pub fn bytes_of(self, n_values: u64) -> u64 {
        match self {
            Raw::F16 => n_values * 2,
            Raw::F32 => n_values * 4,
            Raw::Q8_0 | Raw::Q4_0 => {
                self.blocks().map_or(0, |kind| n_values / kind.elements() as u64 * kind.bytes() as u64)
            }
        }
    }

    /// Bits of a code of a block; 0 for plain numbers.
    fn code_bits(self) -> u32 {
        match self {
            Raw::F16 | Raw::F32 => 0,
            Raw::Q8_0 => 8,
            Raw::Q4_0 => 4,
        }
    }
}

/// One weight, or some of its outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Repack {
    /// Outputs O.
    pub outputs: u32,
    /// Inputs I.
    pub inputs: u32,
    /// Taps of the kernel, K·K; 1 for a linear layer.
    pub taps: u32,
    /// Whether values and gates are interleaved.
    pub geglu: bool,
    /// The type of the bytes.
    pub raw: Raw,
    /// The type of the packed matrix.
    pub packed: WeightType,
    /// The first column, for several weights with the same inputs side by side in one packed matrix: a multiple of four.
    pub first_column: u32,
    /// Columns of the packed matrix: `outputs`, or the sum over all of its weights.
    pub columns: u32,
    /// The outputs that are packed: the first, a multiple of four, and how many.
    pub slice: [u32; 2],
}

impl Repack {
    /// A weight \[O,I,K,K\] or \[O,I\] that fills its packed matrix alone, in f16.
    #[must_use]
    pub const fn alone(outputs: u32, inputs: u32, taps: u32, geglu: bool, raw: Raw) -> Self {
        let (packed, slice) = (WeightType::F16, [0, outputs]);
        Self { outputs, inputs, taps, geglu, raw, packed, first_column: 0, columns: outputs, slice }
    }

    /// Bytes of the packed matrix.
    #[must_use]
    pub fn packed_bytes(&self) -> u64 {
        WeightLayout::packed_bytes(self.packed, self.rows().into(), self.columns.into())
    }

    /// Whether the packed blocks are those that were uploaded, with their scales.
    fn keeps_scales(&self) -> bool {
        self.raw.blocks().is_some_and(|kind| blocks::keeps_scales(kind, self.packed))
    }

    /// Rows of the packed matrix.
    fn rows(&self) -> u32 {
        self.inputs * self.taps
    }

    /// The first word of the scales of a packed matrix of `columns`.
    pub(super) fn first_scale(packed: WeightType, rows: u32, columns: u32) -> u32 {
        let n_quads = columns.div_ceil(4);
        match packed {
            WeightType::F32 | WeightType::F16 => 0,
            WeightType::Q8_0 => rows * n_quads,
            WeightType::Q4_0 => rows.div_ceil(2) * n_quads,
        }
    }

    /// The output that packed column `column` of this weight holds, if any.
    fn output_of(&self, column: usize) -> Option<usize> {
        let output = if self.geglu {
            let (pair, lane) = (column / 8, column % 8);
            pair * 4 + lane % 4 + lane / 4 * (self.outputs as usize / 2)
        } else {
            column
        };
        (output < self.outputs as usize).then_some(output)
    }
}

/// Packs one weight, or some of its outputs.
///
/// # Errors
/// [`crate::Error::Shape`] when the weight is too large to address, a first column or output is not a multiple of four, or
/// GEGLU is asked for outputs that are not a multiple of eight.
pub fn launch(repack: &Repack) -> Result<Launch> {
    let Repack { outputs, inputs, taps, geglu, raw, packed, first_column, columns, slice: [first, n] } = *repack;
    if geglu && !outputs.is_multiple_of(8) {
        return Err(refuse(KERNEL.name, format!("cannot interleave {outputs} outputs by fours")));
    }
    if !first_column.is_multiple_of(4) || first_column.checked_add(outputs).is_none_or(|end| end > columns) {
        return Err(refuse(KERNEL.name, format!("cannot put {outputs} outputs at {first_column} of {columns}")));
    }
    let end = first.checked_add(n).filter(|end| *end == outputs || (end.is_multiple_of(4) && *end < outputs));
    if !first.is_multiple_of(4) || end.is_none() {
        return Err(refuse(KERNEL.name, format!("cannot cut {n} of {outputs} outputs out at {first}")));
    }
    if raw.blocks().is_some() && (taps != 1 || !inputs.is_multiple_of(BLOCK as u32)) {
        return Err(refuse(KERNEL.name, format!("cannot read {inputs} inputs of {taps} taps in blocks")));
    }
    // Words of the largest form.
    count(KERNEL.name, &[inputs, taps, columns.next_multiple_of(4)])?;
    let n_quads = n.div_ceil(4);
    let rows = count(KERNEL.name, &[inputs, taps])?;
    let (kernel, rows_of_item) = match packed {
        WeightType::F16 if raw == Raw::F16 && inputs.is_multiple_of(2) => (&KERNEL_PAIRS, 2 * taps),
        WeightType::F32 => (&KERNEL_F32, 1),
        WeightType::F16 => (&KERNEL, 1),
        WeightType::Q8_0 => (&KERNEL_Q8_0, BLOCK as u32),
        WeightType::Q4_0 => (&KERNEL_Q4_0, BLOCK as u32),
    };
    let n_items = count(KERNEL.name, &[rows.div_ceil(rows_of_item), n_quads])?;
    let params = Params {
        n_outputs: outputs,
        n_inputs: inputs,
        n_taps: taps,
        first_output: first,
        n_quads,
        first_quad: first_column / 4,
        n_quads_packed: columns.div_ceil(4),
        first_scale: Repack::first_scale(packed, rows, columns),
    };
    let flag = |is_set: bool| f64::from(u8::from(is_set));
    let constants = [
        ("raw_is_f32", flag(raw == Raw::F32)),
        ("raw_code_bits", f64::from(raw.code_bits())),
        ("geglu", flag(geglu)),
        ("keeps_scales", flag(repack.keeps_scales())),
    ];
    let constants: Vec<_> = constants.into_iter().filter(|(name, _)| kernel.constants.contains(name)).collect();
    let workgroups = spread_cells(KERNEL.name, n_items)?;
    Ok(Launch::new(kernel, Element::F32, Width::One, &constants, &params, workgroups))
}

/// The words of the packed matrix in plain Rust; `None` where other weights or other outputs lie. `weight` has all outputs.
///
/// # Panics
/// When the weight has fewer values than its sizes say.
#[must_use]
pub fn reference(repack: &Repack, weight: &[f32]) -> Vec<Option<u32>> {
    reference_with_scales(repack, weight, &[])
}

/// The same with the scales ([`blocks::scales_of`]) of all outputs' blocks, where these are kept.
///
/// # Panics
/// As [`reference()`].
#[must_use]
pub fn reference_with_scales(repack: &Repack, weight: &[f32], scales: &[f16]) -> Vec<Option<u32>> {
    let Repack { outputs, inputs, taps, packed, slice: [first, n], .. } = *repack;
    let rows = repack.rows() as usize;
    let n_quads = repack.columns.div_ceil(4) as usize;
    let mut words = vec![None; repack.packed_bytes() as usize / 4];
    let value = |output: Option<usize>, row: usize| {
        let (tap, input) = (row / inputs as usize, row % inputs as usize);
        output.map_or(0.0, |output| weight[(output * inputs as usize + input) * taps as usize + tap])
    };
    for quad in 0..outputs.div_ceil(4) as usize {
        let columns = [0, 1, 2, 3].map(|lane| repack.output_of(quad * 4 + lane));
        let is_packed = columns[0].is_some_and(|output| (first..first + n).contains(&(output as u32)));
        if !is_packed {
            continue;
        }
        let at = repack.first_column as usize / 4 + quad;
        match packed {
            WeightType::F32 => {
                for row in 0..rows {
                    for (lane, output) in columns.iter().enumerate() {
                        words[(row * n_quads + at) * 4 + lane] = Some(value(*output, row).to_bits());
                    }
                }
            }
            WeightType::F16 => {
                for row in 0..rows {
                    let half = |lane: usize| u32::from(f16::from_f32(value(columns[lane], row)).to_bits());
                    words[(row * n_quads + at) * 2] = Some(half(0) | half(1) << 16);
                    words[(row * n_quads + at) * 2 + 1] = Some(half(2) | half(3) << 16);
                }
            }
            WeightType::Q8_0 | WeightType::Q4_0 => {
                let first_scale = Repack::first_scale(packed, rows as u32, repack.columns) as usize;
                for first_row in (0..rows).step_by(BLOCK) {
                    let end = rows.min(first_row + BLOCK);
                    let scale_at = first_scale + (first_row / BLOCK * n_quads + at) * 2;
                    for (lane, output) in columns.iter().enumerate() {
                        let values: Vec<f32> = (first_row..end).map(|row| value(*output, row)).collect();
                        let blocks_of_output = rows.div_ceil(BLOCK);
                        let of_output = |at: usize| scales.get(at * blocks_of_output + first_row / BLOCK).copied();
                        // Of no output it is 0.
                        let of_file = (!scales.is_empty()).then(|| output.and_then(of_output).unwrap_or(f16::ZERO));
                        let (scale, codes) = blocks::quantise_at(packed, &values, of_file);
                        let put = |words: &mut Vec<Option<u32>>, at: usize, bits: u32| {
                            words[at] = Some(words[at].unwrap_or(0) | bits);
                        };
                        put(&mut words, scale_at + lane / 2, u32::from(scale.to_bits()) << (lane % 2 * 16));
                        for (row, code) in (first_row..end).zip(codes) {
                            let (word, bits) = match packed {
                                WeightType::Q8_0 => (row, u32::from(code as u8) << (8 * lane)),
                                _ => (row / 2, (code as u32 & 15) << (4 * lane + row % 2 * 16)),
                            };
                            put(&mut words, word * n_quads + at, bits);
                        }
                    }
                }
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In f32, of all columns.
    fn packed(repack: &Repack, weight: &[f32]) -> Vec<f32> {
        let words = reference(&Repack { packed: WeightType::F32, ..*repack }, weight);
        words.into_iter().map(|word| f32::from_bits(word.expect("a column of its own"))).collect()
    }

    #[test]
    fn reference_orders_by_tap_channel_and_output() {
        // Two outputs, two inputs, a kernel of two taps: the values tell their indices.
        let weight = [0., 1., 10., 11., 100., 101., 110., 111.];
        let packed = packed(&Repack::alone(2, 2, 2, false, Raw::F16), &weight);
        assert_eq!(packed, [0., 100., 0., 0., 10., 110., 0., 0., 1., 101., 0., 0., 11., 111., 0., 0.]);
    }

    #[test]
    fn gates_follow_their_values() {
        let weight: Vec<f32> = (0..16u8).map(f32::from).collect();
        let packed = packed(&Repack::alone(16, 1, 1, true, Raw::F16), &weight);
        assert_eq!(packed, [0., 1., 2., 3., 8., 9., 10., 11., 4., 5., 6., 7., 12., 13., 14., 15.]);
    }
}
