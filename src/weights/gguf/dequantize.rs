//! Blocks of quantised numbers to f32, with the values of gguf-py's `quants.dequantize`, bit for bit.
//!
//! The formulas are ggml's (`dequantize_row_*` in ggml-quants.c); the order of their roundings is part of the format. It
//! deliberately multiplies and adds in separate steps: a fused step rounds once where gguf-py rounds twice.

use half::f16;

use super::BlockType;
use crate::weights::convert;
use crate::weights::dtype::Dtype;

/// The values that the codes of an IQ4_NL block stand for.
const IQ4_NL_VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Reads whole blocks as f32, behind what is in `values` already: for a tensor that arrives in pieces. Bytes that do not
/// fill a last block are not read. `None` for a type that is not read here.
pub fn dequantize(kind: BlockType, bytes: &[u8], values: &mut Vec<f32>) -> Option<()> {
    match kind {
        BlockType::F32 => convert::append_f32(&Dtype::F32, bytes, values)?,
        BlockType::F16 => convert::append_f32(&Dtype::F16, bytes, values)?,
        BlockType::BF16 => convert::append_f32(&Dtype::BF16, bytes, values)?,
        BlockType::F64 => convert::append_f32(&Dtype::F64, bytes, values)?,
        BlockType::Q4_0 => each_block(bytes, values, q4_0),
        BlockType::Q4_1 => each_block(bytes, values, q4_1),
        BlockType::Q5_0 => each_block(bytes, values, q5_0),
        BlockType::Q5_1 => each_block(bytes, values, q5_1),
        BlockType::Q8_0 => each_block(bytes, values, q8_0),
        BlockType::Q2_K => each_block(bytes, values, q2_k),
        BlockType::Q3_K => each_block(bytes, values, q3_k),
        BlockType::Q4_K => each_block(bytes, values, q4_k),
        BlockType::Q5_K => each_block(bytes, values, q5_k),
        BlockType::Q6_K => each_block(bytes, values, q6_k),
        BlockType::IQ4_NL => each_block(bytes, values, iq4_nl),
        BlockType::Other { .. } => return None,
    }
    Some(())
}

fn each_block<const BYTES: usize, const ELEMENTS: usize>(
    bytes: &[u8],
    values: &mut Vec<f32>,
    dequantize: impl Fn(&[u8; BYTES], &mut [f32; ELEMENTS]),
) {
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    let first = values.len();
    values.resize(first + blocks.len() * ELEMENTS, 0.0);
    let (out, _) = values[first..].as_chunks_mut::<ELEMENTS>();
    for (block, out) in blocks.iter().zip(out) {
        dequantize(block, out);
    }
}

fn f16_at<const BYTES: usize>(block: &[u8; BYTES], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// d, 16 bytes of nibbles: byte j has element j low and element j + 16 high.
fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = f16_at(block, 0);
    for j in 0..16 {
        let codes = block[2 + j];
        out[j] = d * (f32::from(codes & 0xf) - 8.0);
        out[j + 16] = d * (f32::from(codes >> 4) - 8.0);
    }
}

/// d, m, nibbles as in Q4_0.
fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (f16_at(block, 0), f16_at(block, 2));
    for j in 0..16 {
        let codes = block[4 + j];
        out[j] = d * f32::from(codes & 0xf) + m;
        out[j + 16] = d * f32::from(codes >> 4) + m;
    }
}

/// d, 32 bits that are the fifth of each element, nibbles as in Q4_0.
fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = f16_at(block, 0);
    let high = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    for j in 0..16 {
        let (low, high) = five_bits(block[6 + j], high >> j);
        out[j] = d * (low - 16.0);
        out[j + 16] = d * (high - 16.0);
    }
}

/// d, m, fifth bits and nibbles as in Q5_0.
fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (f16_at(block, 0), f16_at(block, 2));
    let high = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    for j in 0..16 {
        let (low, high) = five_bits(block[8 + j], high >> j);
        out[j] = d * low + m;
        out[j + 16] = d * high + m;
    }
}

/// The codes of element j and j + 16 from the nibbles of byte j and the fifth bits, shifted so that j's is the lowest.
fn five_bits(nibbles: u8, high: u32) -> (f32, f32) {
    let bit = |at: u32| ((high >> at) & 1) as u8;
    (f32::from(nibbles & 0xf | bit(0) << 4), f32::from(nibbles >> 4 | bit(16) << 4))
}

/// d, 32 signed bytes.
fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = f16_at(block, 0);
    for (out, &code) in out.iter_mut().zip(&block[2..]) {
        *out = d * f32::from(code as i8);
    }
}

/// 16 bytes of scale (low) and minimum (high), 64 of codes, d, dmin.
fn q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let (d, dmin) = (f16_at(block, 80), f16_at(block, 82));
    for (sub, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(block[sub] & 0xf);
        let min = dmin * f32::from(block[sub] >> 4);
        for (j, out) in out.iter_mut().enumerate() {
            *out = scale * f32::from(two_bits(&block[16..80], sub, j)) - min;
        }
    }
}

/// 32 bytes of third bits, 64 of codes, 12 of scales, d.
fn q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let d = f16_at(block, 108);
    let scales = &block[96..108];
    for (sub, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let low = if sub < 8 { scales[sub] & 0xf } else { scales[sub - 8] >> 4 };
        let high = (scales[8 + sub % 4] >> (2 * (sub / 4))) & 3;
        let scale = d * (f32::from(low | high << 4) - 32.0);
        for (j, out) in out.iter_mut().enumerate() {
            // The third bit is stored inverted: 4 is taken off where it is not set.
            let third = (block[16 * (sub % 2) + j] >> (sub / 2)) & 1;
            *out = scale * (f32::from(two_bits(&block[32..96], sub, j) | third << 2) - 4.0);
        }
    }
}

/// The code of element j of the 16 of a sub-block: 64 bytes hold 4 times 32 elements for each half of a block.
fn two_bits(codes: &[u8], sub: usize, j: usize) -> u8 {
    (codes[32 * (sub / 8) + 16 * (sub % 2) + j] >> (2 * (sub % 8 / 2))) & 3
}

/// d, dmin, 12 bytes of scales and minimums, 128 of nibbles.
fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
    for (sub, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = scale_and_min(&block[4..16], sub);
        let (scale, min) = (d * scale, dmin * min);
        for (out, &codes) in out.iter_mut().zip(&block[16 + 32 * (sub / 2)..]) {
            *out = scale * f32::from((codes >> (4 * (sub % 2))) & 0xf) - min;
        }
    }
}

/// d, dmin, 12 bytes of scales and minimums, 32 of fifth bits, 128 of nibbles.
fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
    for (sub, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = scale_and_min(&block[4..16], sub);
        let (scale, min) = (d * scale, dmin * min);
        let nibbles = &block[48 + 32 * (sub / 2)..];
        for (out, (&codes, &fifths)) in out.iter_mut().zip(nibbles.iter().zip(&block[16..48])) {
            let code = (codes >> (4 * (sub % 2))) & 0xf | ((fifths >> sub) & 1) << 4;
            *out = scale * f32::from(code) - min;
        }
    }
}

/// The scale and the minimum, of 6 bits each, of a sub-block of Q4_K and Q5_K.
fn scale_and_min(packed: &[u8], sub: usize) -> (f32, f32) {
    let (scale, min) = if sub < 4 {
        (packed[sub] & 0x3f, packed[4 + sub] & 0x3f)
    } else {
        let (low, scale, min) = (packed[4 + sub], packed[sub - 4], packed[sub]);
        (low & 0xf | (scale >> 2) & 0x30, low >> 4 | (min >> 2) & 0x30)
    };
    (f32::from(scale), f32::from(min))
}

/// 128 bytes of nibbles, 64 of upper bits, 16 signed scales, d.
fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = f16_at(block, 208);
    for (sub, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(block[192 + sub] as i8);
        // Each half of a block is 4 times 32 elements: two times from the low nibbles, two times from the high ones.
        let (half, quarter, start) = (sub / 8, sub % 8 / 2, 16 * (sub % 2));
        let nibbles = &block[64 * half + 32 * (quarter % 2) + start..];
        let uppers = &block[128 + 32 * half + start..];
        for (out, (&codes, &upper)) in out.iter_mut().zip(nibbles.iter().zip(uppers)) {
            let code = (codes >> (4 * (quarter / 2))) & 0xf | ((upper >> (2 * quarter)) & 3) << 4;
            *out = scale * (f32::from(code) - 32.0);
        }
    }
}

/// d, nibbles as in Q4_0 that are places in a table.
fn iq4_nl(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = f16_at(block, 0);
    let value = |code: u8| f32::from(IQ4_NL_VALUES[usize::from(code & 0xf)]);
    for j in 0..16 {
        let codes = block[2 + j];
        out[j] = d * value(codes);
        out[j + 16] = d * value(codes >> 4);
    }
}
