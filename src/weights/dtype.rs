//! The types of tensors' elements in files.

use super::gguf::BlockType;

/// The type of a tensor's elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// 32-bit floating point.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    BF16,
    /// 64-bit floating point.
    F64,
    /// 8 bits: 4 of exponent, 3 of mantissa, no infinity (OCP's E4M3, torch's `float8_e4m3fn`).
    F8E4M3,
    /// 8 bits: the upper half of an f16 (torch's `float8_e5m2`).
    F8E5M2,
    /// Blocks of quantised numbers, as GGUF files have them. They are read as f32: see [`super::Decoded`].
    Block(BlockType),
    /// A type that the format has but weights cannot have, by its name in the header.
    Other(String),
}

impl Dtype {
    /// Bytes of an element, or `None` for a type that weights cannot have.
    #[must_use]
    pub fn n_bytes(&self) -> Option<usize> {
        match self {
            Dtype::F64 => Some(8),
            Dtype::F32 => Some(4),
            Dtype::F16 | Dtype::BF16 => Some(2),
            Dtype::F8E4M3 | Dtype::F8E5M2 => Some(1),
            Dtype::Block(_) | Dtype::Other(_) => None,
        }
    }

    /// The type's name in the header.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Dtype::F32 => "F32",
            Dtype::F16 => "F16",
            Dtype::BF16 => "BF16",
            Dtype::F64 => "F64",
            Dtype::F8E4M3 => "F8_E4M3",
            Dtype::F8E5M2 => "F8_E5M2",
            Dtype::Block(kind) => kind.name(),
            Dtype::Other(name) => name,
        }
    }

    /// A type of GGUF files. Those that are not read keep their name.
    pub(super) fn of_block(kind: BlockType) -> Self {
        match kind {
            BlockType::F32 => Dtype::F32,
            BlockType::F16 => Dtype::F16,
            BlockType::BF16 => Dtype::BF16,
            BlockType::F64 => Dtype::F64,
            BlockType::Other { name, .. } => Dtype::Other(name.to_owned()),
            quantised => Dtype::Block(quantised),
        }
    }

    pub(super) fn from_name(name: &str) -> Self {
        match name {
            "F32" => Dtype::F32,
            "F16" => Dtype::F16,
            "BF16" => Dtype::BF16,
            "F64" => Dtype::F64,
            "F8_E4M3" => Dtype::F8E4M3,
            "F8_E5M2" => Dtype::F8E5M2,
            other => Dtype::Other(other.to_owned()),
        }
    }
}
