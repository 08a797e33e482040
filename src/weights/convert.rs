//! Weight bytes to f32. It deliberately goes one way only: what a device stores is the runner's choice.

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};

use super::Dtype;

/// How many 16-bit numbers are widened at once: enough for the processor's vector instructions, small enough to stay
/// in its nearest cache.
const BLOCK: usize = 1024;

/// Reads little-endian numbers of a floating-point type as f32. Bytes that do not fill a last number are not read.
/// `None` for a type that weights cannot have.
///
/// F16 and BF16 are widened exactly; every bit pattern, infinities and NaN included, keeps its meaning.
#[must_use]
pub fn f32_from_le_bytes(dtype: &Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let mut values = Vec::with_capacity(bytes.len() / dtype.n_bytes()?);
    append_f32(dtype, bytes, &mut values)?;
    Some(values)
}

/// As [`f32_from_le_bytes`], behind what is in `values` already: for a tensor that arrives in pieces.
pub(super) fn append_f32(dtype: &Dtype, bytes: &[u8], values: &mut Vec<f32>) -> Option<()> {
    match dtype {
        Dtype::F32 => values.extend(bytes.as_chunks().0.iter().map(|&number| f32::from_le_bytes(number))),
        Dtype::F16 => widen(bytes, values, |bits, out| bits.reinterpret_cast::<f16>().convert_to_f32_slice(out)),
        Dtype::BF16 => widen(bytes, values, |bits, out| bits.reinterpret_cast::<bf16>().convert_to_f32_slice(out)),
        Dtype::Other(_) => return None,
    }
    Some(())
}

/// Widens 16-bit numbers block by block. The bytes of a file have no alignment, so each block is copied first.
fn widen(bytes: &[u8], values: &mut Vec<f32>, convert: impl Fn(&[u16], &mut [f32])) {
    let (numbers, _) = bytes.as_chunks::<2>();
    let first = values.len();
    values.resize(first + numbers.len(), 0.0);
    let mut bits = [0u16; BLOCK];
    for (numbers, out) in numbers.chunks(BLOCK).zip(values[first..].chunks_mut(BLOCK)) {
        let bits = &mut bits[..numbers.len()];
        for (bits, &number) in bits.iter_mut().zip(numbers) {
            *bits = u16::from_le_bytes(number);
        }
        convert(bits, out);
    }
}
