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
        BlockType::Q8_0 => values.as_chunks().0.iter().for_each(|block| bytes.extend(q8_0(block))),
        BlockType::Q4_0 => values.as_chunks().0.iter().for_each(|block| bytes.extend(q4_0(block))),
        _ => return None,
    }
    Some(())
}

/// By what numbers are multiplied to give codes: the inverse of the scale, before that is rounded to f16.
fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// A code before its type narrows it. The inverse of a scale below 2^-128 is infinite, and then every code is 0.
fn finite(code: f32) -> f32 {
    if code.is_finite() { code } else { 0.0 }
}

/// d = largest magnitude / 127.
fn q8_0(values: &[f32; 32]) -> [u8; 34] {
    let d = values.iter().fold(0f32, |largest, value| largest.max(value.abs())) / 127.0;
    let inverse = inverse(d);
    let mut block = [0; 34];
    block[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    for (code, value) in block[2..].iter_mut().zip(values) {
        *code = finite((value * inverse).round()) as i8 as u8;
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
    let code = |value: f32| (finite(value * inverse + 8.5) as u8).min(15);
    let (low, high) = values.split_at(16);
    for (byte, (&low, &high)) in block[2..].iter_mut().zip(low.iter().zip(high)) {
        *byte = code(low) | code(high) << 4;
    }
    block
}
