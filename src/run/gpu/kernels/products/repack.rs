//! `repack`: brings a weight from a checkpoint's layout into the one that [`super::gemm`] reads, on the GPU.
//!
//! Packed is f16 \[K,N\]: K by tap (kernel row, then kernel column) and input channel, N the outputs, filled up with
//! zeros to a multiple of four. For GEGLU the outputs, whose first half are values and whose second half gates, are
//! interleaved by fours: four values, their four gates, and so on.

use half::f16;

use crate::Result;
use crate::run::gpu::kernel::{Bind, Element, Kernel, Launch, Width, bindings, count, params, refuse, spread_cells};
use crate::run::gpu::weight_layout::WeightLayout;

bindings! {
    /// What the kernel is bound to.
    struct Bindings {
        /// The tensor's bytes as in the checkpoint, filled up to whole words.
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
    imports: &[],
    params_bytes: size_of::<Params>(),
    params_fields: Params::FIELDS,
    constants: &["raw_is_f32", "geglu"],
    elements: &[Element::F32],
    widths: &[Width::One],
};

params! {
    /// The uniform buffer, field for field as in the WGSL file.
    struct Params {
        n_outputs: u32,
        n_inputs: u32,
        n_taps: u32,
        n_quads: u32,
        first_quad: u32,
        n_quads_packed: u32,
        padding_0: u32,
        padding_1: u32,
    }
}

/// The type of a weight in the checkpoint. Others are converted to f16 before they are uploaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Raw {
    /// Copied bit by bit.
    F16,
    /// Rounded to f16 by the GPU, which may round towards zero: one unit in the last place off at most.
    F32,
}

/// One weight.
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
    /// The first column, for several weights with the same inputs side by side in one packed matrix: a multiple of four.
    pub first_column: u32,
    /// Columns of the packed matrix: `outputs`, or the sum over all of its weights.
    pub columns: u32,
}

impl Repack {
    /// A weight \[O,I,K,K\] or \[O,I\] that fills its packed matrix alone.
    #[must_use]
    pub fn alone(outputs: u32, inputs: u32, taps: u32, geglu: bool, raw: Raw) -> Self {
        Self { outputs, inputs, taps, geglu, raw, first_column: 0, columns: outputs }
    }

    /// Bytes of the packed matrix.
    #[must_use]
    pub fn packed_bytes(&self) -> u64 {
        WeightLayout::packed_bytes(u64::from(self.inputs) * u64::from(self.taps), self.columns.into())
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

/// Packs one weight.
///
/// # Errors
/// [`crate::Error::Shape`] when the weight is too large to address, a first column is not a multiple of four, or GEGLU
/// is asked for outputs that are not a multiple of eight.
pub fn launch(repack: &Repack) -> Result<Launch> {
    let Repack { outputs, inputs, taps, geglu, raw, first_column, columns } = *repack;
    if geglu && !outputs.is_multiple_of(8) {
        return Err(refuse(KERNEL.name, format!("cannot interleave {outputs} outputs by fours")));
    }
    if !first_column.is_multiple_of(4) || first_column.checked_add(outputs).is_none_or(|end| end > columns) {
        return Err(refuse(KERNEL.name, format!("cannot put {outputs} outputs at {first_column} of {columns}")));
    }
    count(KERNEL.name, &[inputs, taps, columns.next_multiple_of(4)])?;
    let n_quads = outputs.div_ceil(4);
    let n_items = count(KERNEL.name, &[inputs, taps, n_quads])?;
    let params = Params {
        n_outputs: outputs,
        n_inputs: inputs,
        n_taps: taps,
        n_quads,
        first_quad: first_column / 4,
        n_quads_packed: columns.div_ceil(4),
        padding_0: 0,
        padding_1: 0,
    };
    let constants = [("raw_is_f32", f64::from(u8::from(raw == Raw::F32))), ("geglu", f64::from(u8::from(geglu)))];
    let workgroups = spread_cells(KERNEL.name, n_items)?;
    Ok(Launch::new(&KERNEL, Element::F32, Width::One, &constants, &params, workgroups))
}

/// The packed matrix in plain Rust. Columns of other weights are zero.
#[must_use]
pub fn reference(repack: &Repack, weight: &[f16]) -> Vec<f16> {
    let Repack { outputs, inputs, taps, .. } = *repack;
    let (inputs, taps) = (inputs as usize, taps as usize);
    let row_len = repack.columns.next_multiple_of(4) as usize;
    let mut packed = vec![f16::ZERO; inputs * taps * row_len];
    for (k, row) in packed.chunks_exact_mut(row_len).enumerate() {
        let (tap, input) = (k / inputs, k % inputs);
        for (column, value) in row.iter_mut().skip(repack.first_column as usize).take(outputs as usize).enumerate() {
            if let Some(output) = repack.output_of(column) {
                *value = weight[(output * inputs + input) * taps + tap];
            }
        }
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_orders_by_tap_channel_and_output() {
        // Two outputs, two inputs, a kernel of two taps: the values tell their indices.
        let weight: Vec<f16> = [0., 1., 10., 11., 100., 101., 110., 111.].into_iter().map(f16::from_f32).collect();
        let packed = reference(&Repack::alone(2, 2, 2, false, Raw::F16), &weight);
        let packed: Vec<f32> = packed.into_iter().map(f32::from).collect();
        assert_eq!(packed, [0., 100., 0., 0., 10., 110., 0., 0., 1., 101., 0., 0., 11., 111., 0., 0.]);
    }

    #[test]
    fn gates_follow_their_values() {
        let weight: Vec<f16> = (0..16u8).map(f16::from).collect();
        let packed = reference(&Repack::alone(16, 1, 1, true, Raw::F16), &weight);
        let packed: Vec<f32> = packed.into_iter().map(f32::from).collect();
        assert_eq!(packed, [0., 1., 2., 3., 8., 9., 10., 11., 4., 5., 6., 7., 12., 13., 14., 15.]);
    }
}
