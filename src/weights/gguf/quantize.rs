//! f32 to blocks of quantised numbers, with the bytes of gguf-py's `quants.quantize`, which are those of ggml's reference.
//!
//! It deliberately has the two types that this crate writes and no search for better scales.

use half::{bf16, f16};

use super::BlockType;

/// Appends numbers as blocks of that type; numbers that do not fill a last block are left out. `None` for a type that is
/// not written here.
///
/// The scale of a block is an f16: numbers beyond 65504 times its largest code (127 for Q8_0, 8 for Q4_0), and those that
/// are not finite, make it infinite or zero.
pub fn quantize(kind: BlockType, values: &[f32], bytes: &mut Vec<u8>) -> Option<()> {
    match kind {
        BlockType::F32 => bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        BlockType::F16 => bytes.extend(values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes())),
        BlockType::BF16 => bytes.extend(values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes())),
        BlockType::Q8_0 => each_block(values, bytes, q8_0),
        BlockType::Q4_0 => each_block(values, bytes, q4_0),
        _ => return None,
    }
    Some(())
}

fn each_block<const BYTES: usize>(values: &[f32], bytes: &mut Vec<u8>, quantize: impl Fn(&[f32; 32]) -> [u8; BYTES]) {
    let (blocks, _) = values.as_chunks();
    bytes.reserve(blocks.len() * BYTES);
    for block in blocks {
        bytes.extend_from_slice(&quantize(block));
    }
}

/// By what numbers are multiplied to give codes: the inverse of the scale, before that is rounded to f16. For a scale below
/// 2^-128, which has none, it is NaN, and every code becomes 0.
fn inverse(d: f32) -> f32 {
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    if inverse.is_finite() { inverse } else { f32::NAN }
}

/// To the nearest whole number, ties away from zero, and NaN to 0. `f32::round` is a call for each number on processors
/// that are not known to have an instruction for it.
fn round(value: f32) -> i32 {
    let whole = value as i32;
    let rest = value - whole as f32;
    whole + i32::from(rest >= 0.5) - i32::from(rest <= -0.5)
}

/// d = largest magnitude / 127.
fn q8_0(values: &[f32; 32]) -> [u8; 34] {
    let mut largest = [0f32; 8];
    for values in values.as_chunks::<8>().0 {
        for (largest, value) in largest.iter_mut().zip(values) {
            *largest = largest.max(value.abs());
        }
    }
    let d = largest.into_iter().fold(0f32, f32::max) / 127.0;
    let inverse = inverse(d);
    let mut block = [0; 34];
    block[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    for (code, value) in block[2..].iter_mut().zip(values) {
        *code = round(value * inverse) as u8;
    }
    block
}

/// d = the number of largest magnitude / -8, so that it has code 0.
fn q4_0(values: &[f32; 32]) -> [u8; 18] {
    // The first of several that are equally large.
    let largest = values.iter().fold(0f32, |largest, value| if value.abs() > largest.abs() { *value } else { largest });
    let d = largest / -8.0;
    let inverse = inverse(d);
    let mut block = [0; 18];
    block[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    let code = |value: f32| ((value * inverse + 8.5) as i32).clamp(0, 15) as u8;
    let (low, high) = values.split_at(16);
    for (byte, (&low, &high)) in block[2..].iter_mut().zip(low.iter().zip(high)) {
        *byte = code(low) | code(high) << 4;
    }
    block
}
