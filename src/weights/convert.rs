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
/// F16, BF16 and the 8-bit types are widened exactly; every bit pattern, infinities and NaN included, keeps its meaning.
/// F64 is rounded to the nearest f32, ties to even, as torch's `.to(float32)` does.
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
        Dtype::F64 => values.extend(bytes.as_chunks().0.iter().map(|&number| f64::from_le_bytes(number) as f32)),
        Dtype::F8E4M3 => values.extend(bytes.iter().map(|&bits| f32_from_e4m3(bits))),
        Dtype::F8E5M2 => values.extend(bytes.iter().map(|&bits| f16::from_bits(u16::from(bits) << 8).to_f32())),
        Dtype::Block(_) | Dtype::Other(_) => return None,
    }
    Some(())
}

/// A number of one sign bit, four of exponent (bias 7) and three of mantissa. Only the largest code of each sign is NaN;
/// there is no infinity, so the largest finite number is 448.
fn f32_from_e4m3(bits: u8) -> f32 {
    let (exponent, mantissa) = (i32::from((bits >> 3) & 0xf), f32::from(bits & 7));
    let magnitude = match (exponent, bits & 7) {
        (0xf, 7) => f32::NAN,
        (0, _) => mantissa * 2f32.powi(-9),
        _ => (8.0 + mantissa) * 2f32.powi(exponent - 10),
    };
    if bits & 0x80 == 0 { magnitude } else { -magnitude }
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
