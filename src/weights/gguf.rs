//! GGUF files: ggml's container of quantised tensors, as stable-diffusion.cpp and ComfyUI-GGUF write it.
//!
//! [`Header`] says where each tensor is, [`dequantize()`] turns its bytes into f32, [`quantize()`] and [`Writer`] go the other
//! way. See <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.
//!
//! It deliberately knows no model: which names a file has, and what they mean, is the business of the layers above.

mod dequantize;
mod header;
mod quantize;
mod write;

use std::ops::Range;

pub use dequantize::dequantize;
pub use header::{Header, MAX_KEYS, MAX_VALUE_BYTES, Tensor};
pub use quantize::quantize;
pub use write::{NewTensor, Writer, sd_cpp_converts};

/// The four bytes at the start of each file.
pub const MAGIC: &[u8; 4] = b"GGUF";

/// Where a file does not name an alignment: the data and each tensor start at a multiple of so many bytes.
const DEFAULT_ALIGNMENT: u64 = 32;

/// The most dimensions that ggml has.
const MAX_GGML_DIMS: usize = 4;

/// How the elements of a tensor are stored: in blocks of [`BlockType::elements`] numbers and [`BlockType::bytes`] bytes.
/// Blocks follow each other along a row, the last dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "these are ggml's own names")]
pub enum BlockType {
    /// 32-bit floating point.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    BF16,
    /// 64-bit floating point.
    F64,
    /// `d (q - 8)`, q of 4 bits.
    Q4_0,
    /// `d q + m`, q of 4 bits.
    Q4_1,
    /// `d (q - 16)`, q of 5 bits.
    Q5_0,
    /// `d q + m`, q of 5 bits.
    Q5_1,
    /// `d q`, q of 8 bits with a sign.
    Q8_0,
    /// `d s q - dmin m`, q of 2 bits; s and m of 4 bits for each 16 elements.
    Q2_K,
    /// `d s (q - 4)`, q of 3 bits; s of 6 bits for each 16 elements.
    Q3_K,
    /// `d s q - dmin m`, q of 4 bits; s and m of 6 bits for each 32 elements.
    Q4_K,
    /// `d s q - dmin m`, q of 5 bits; s and m of 6 bits for each 32 elements.
    Q5_K,
    /// `d s (q - 32)`, q of 6 bits; s of 8 bits for each 16 elements.
    Q6_K,
    /// `d t[q]`, q of 4 bits, t a table of 16 values.
    IQ4_NL,
    /// A type that the format has but that is not read here.
    Other {
        /// Its number in the header.
        id: u32,
        /// Its name in ggml.
        name: &'static str,
        /// Elements of a block.
        elements: usize,
        /// Bytes of a block.
        bytes: usize,
    },
}

/// Number, name, elements and bytes of a block of each type that can be read.
const READABLE: [(BlockType, u32, &str, usize, usize); 15] = [
    (BlockType::F32, 0, "F32", 1, 4),
    (BlockType::F16, 1, "F16", 1, 2),
    (BlockType::Q4_0, 2, "Q4_0", 32, 18),
    (BlockType::Q4_1, 3, "Q4_1", 32, 20),
    (BlockType::Q5_0, 6, "Q5_0", 32, 22),
    (BlockType::Q5_1, 7, "Q5_1", 32, 24),
    (BlockType::Q8_0, 8, "Q8_0", 32, 34),
    (BlockType::Q2_K, 10, "Q2_K", 256, 84),
    (BlockType::Q3_K, 11, "Q3_K", 256, 110),
    (BlockType::Q4_K, 12, "Q4_K", 256, 144),
    (BlockType::Q5_K, 13, "Q5_K", 256, 176),
    (BlockType::Q6_K, 14, "Q6_K", 256, 210),
    (BlockType::IQ4_NL, 20, "IQ4_NL", 32, 18),
    (BlockType::F64, 28, "F64", 1, 8),
    (BlockType::BF16, 30, "BF16", 1, 2),
];

/// The same of the other types, so that their tensors can be stepped over and named. Numbers that are in neither list
/// were never given out or were taken back.
const OTHERS: [(u32, &str, usize, usize); 19] = [
    (9, "Q8_1", 32, 40),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
    (40, "NVFP4", 64, 36),
    (41, "Q1_0", 128, 18),
];

impl BlockType {
    /// The type of that number in a header, or `None` where there is none.
    #[must_use]
    pub fn from_id(id: u32) -> Option<Self> {
        if let Some(&(kind, ..)) = READABLE.iter().find(|(_, known, ..)| *known == id) {
            return Some(kind);
        }
        let other = OTHERS.iter().find(|(known, ..)| *known == id);
        other.map(|&(id, name, elements, bytes)| BlockType::Other { id, name, elements, bytes })
    }

    /// Its number in a header.
    #[must_use]
    pub fn id(self) -> u32 {
        self.row().0
    }

    /// Its name in ggml: `Q4_K`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Elements of a block; 1 for a type that is not stored in blocks.
    #[must_use]
    pub fn elements(self) -> usize {
        self.row().2
    }

    /// Bytes of a block.
    #[must_use]
    pub fn bytes(self) -> usize {
        self.row().3
    }

    /// Whether [`dequantize()`] reads it.
    #[must_use]
    pub fn is_readable(self) -> bool {
        !matches!(self, BlockType::Other { .. })
    }

    /// Where `n` elements from `first` on are, counted from the start of a tensor: the bytes of the blocks that hold them,
    /// and how many elements of the first of these come before them. `None` where no tensor has so many.
    ///
    /// A part of a tensor may begin and end within a block, since ComfyUI-GGUF folds rows to fill blocks.
    #[must_use]
    pub fn bytes_of(self, first: u64, n: u64) -> Option<(Range<u64>, usize)> {
        let (elements, bytes) = (self.elements() as u64, self.bytes() as u64);
        let end = first.checked_add(n)?.div_ceil(elements).checked_mul(bytes)?;
        let start = if n == 0 { end } else { first / elements * bytes };
        Some((start..end, if n == 0 { 0 } else { (first % elements) as usize }))
    }

    /// The bytes of `n` elements from the one of number `first` on, where both are of whole blocks.
    pub(super) fn whole_blocks(self, first: u64, n: u64) -> Option<Range<u64>> {
        let is_whole = |n: u64| n.is_multiple_of(self.elements() as u64);
        if is_whole(first) && is_whole(n) { Some(self.bytes_of(first, n)?.0) } else { None }
    }

    /// The bytes of a tensor of that row length and number of elements, or `None` where its rows do not end with a block
    /// or no file could hold it.
    fn tensor_bytes(self, row: u64, n_elements: u64) -> Option<u64> {
        let elements = self.elements() as u64;
        let is_whole = row.is_multiple_of(elements) && n_elements.is_multiple_of(elements);
        if is_whole { (n_elements / elements).checked_mul(self.bytes() as u64) } else { None }
    }

    fn row(self) -> (u32, &'static str, usize, usize) {
        if let BlockType::Other { id, name, elements, bytes } = self {
            return (id, name, elements, bytes);
        }
        let row = READABLE.iter().find(|(kind, ..)| *kind == self);
        let &(_, id, name, elements, bytes) = row.expect("each readable type has a row in the table");
        (id, name, elements, bytes)
    }
}

/// The elements of a tensor, or `None` where no file could hold them. Zeros are left out of the product at first, so that
/// a shape beside them must make sense in any order of its sides.
fn n_elements(shape: &[usize]) -> Option<u64> {
    let of_others = shape.iter().filter(|&&side| side != 0).try_fold(1u64, |n, &side| n.checked_mul(side as u64))?;
    Some(if shape.contains(&0) { 0 } else { of_others })
}
