//! The header of a safetensors file, parsed as what it is: bytes from a stranger.
//!
//! The layout: eight bytes of little-endian length, that many bytes of JSON, then the tensors' bytes without a gap. See
//! <https://github.com/huggingface/safetensors#format>. Nothing is allocated for a number that the file merely claims;
//! memory grows with bytes that were read, by less than ten times, and those are bounded by [`MAX_HEADER_BYTES`].
//!
//! It deliberately reads no tensor and accepts no header that leaves a byte of the file unexplained.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::error::{Error, Result};
use crate::graph::WeightSpec;

use super::source::ByteSource;

/// How long the headers of a component may be, those of all its files together. The largest of Stable Diffusion, XL's
/// UNet, has 0.2 MB. The format's own implementations allow 100 MB, which parsed would fill a browser tab.
pub const MAX_HEADER_BYTES: u64 = 4 << 20;

/// The header of a file of f16 tensors in that order, and how long such a file is, in bytes.
#[must_use]
pub fn header_of_f16(specs: &[WeightSpec]) -> (Vec<u8>, u64) {
    let mut at = 0;
    let mut entries = serde_json::Map::new();
    for spec in specs {
        let end = at + 2 * spec.shape.iter().product::<usize>() as u64;
        let entry = serde_json::json!({ "dtype": "F16", "shape": spec.shape, "data_offsets": [at, end] });
        entries.insert(spec.name.clone(), entry);
        at = end;
    }
    let json = serde_json::Value::Object(entries).to_string().into_bytes();
    let header = [&(json.len() as u64).to_le_bytes()[..], &json].concat();
    let len = header.len() as u64 + at;
    (header, len)
}

/// More dimensions than any weight has; a shape with more is refused.
pub(super) const MAX_DIMS: usize = 8;

/// The longest name of a tensor. Real ones have about a hundred bytes.
const MAX_NAME_BYTES: usize = 1024;

/// The most entries of `__metadata__`. Files have one, merged checkpoints a few dozen.
const MAX_METADATA: usize = 1024;

/// How much of a message that quotes the file is kept, in characters.
const MAX_REASON_CHARS: usize = 400;

/// Bytes of the length in front of the header.
const PREFIX_BYTES: u64 = 8;

/// The type of a tensor's elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// 32-bit floating point.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    BF16,
    /// A type that the format has but weights cannot have, by its name in the header.
    Other(String),
}

impl Dtype {
    /// Bytes of an element, or `None` for a type that weights cannot have.
    #[must_use]
    pub fn n_bytes(&self) -> Option<usize> {
        match self {
            Dtype::F32 => Some(4),
            Dtype::F16 | Dtype::BF16 => Some(2),
            Dtype::Other(_) => None,
        }
    }

    /// The type's name in the header.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Dtype::F32 => "F32",
            Dtype::F16 => "F16",
            Dtype::BF16 => "BF16",
            Dtype::Other(name) => name,
        }
    }

    fn from_name(name: &str) -> Self {
        match name {
            "F32" => Dtype::F32,
            "F16" => Dtype::F16,
            "BF16" => Dtype::BF16,
            other => Dtype::Other(other.to_owned()),
        }
    }
}

/// Every type of the format and the bits of its elements.
const DTYPE_BITS: [(&str, u64); 20] = [
    ("BOOL", 8),
    ("F4", 4),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("U8", 8),
    ("I8", 8),
    ("F8_E5M2", 8),
    ("F8_E4M3", 8),
    ("F8_E8M0", 8),
    ("I16", 16),
    ("U16", 16),
    ("F16", 16),
    ("BF16", 16),
    ("I32", 32),
    ("U32", 32),
    ("F32", 32),
    ("C64", 64),
    ("F64", 64),
    ("I64", 64),
    ("U64", 64),
];

/// Where a tensor is and what it looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its shape as the file has it, row-major.
    pub shape: Vec<usize>,
    /// Its first byte, counted from the start of the file.
    pub offset: u64,
    /// How many bytes it has.
    pub n_bytes: u64,
    /// Which of the sources given to [`super::Weights::open`] it is in.
    pub file: usize,
}

/// Reads and checks the header of one file; `file_idx` goes into [`TensorInfo::file`]. The header's bytes are taken from
/// `n_left`, what the files before left of [`MAX_HEADER_BYTES`].
pub(super) async fn read(
    source: &dyn ByteSource,
    file_idx: usize,
    n_left: &mut u64,
) -> Result<BTreeMap<String, TensorInfo>> {
    // A message may quote the file, and the file may be made of one endless word, or speak to the terminal.
    let broken = |reason: String| Error::Safetensors {
        file: source.name().to_owned(),
        reason: reason
            .chars()
            .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
            .take(MAX_REASON_CHARS)
            .collect(),
    };
    let len = source.len();
    if len < PREFIX_BYTES {
        return Err(broken(format!("it has {len} bytes, fewer than the length of a header takes")));
    }
    let prefix = source.read(0, PREFIX_BYTES as usize).await?;
    let prefix: [u8; PREFIX_BYTES as usize] =
        prefix.try_into().map_err(|_| broken("its first eight bytes could not be read".into()))?;
    let n_header = u64::from_le_bytes(prefix);
    if n_header > *n_left {
        let n_before = MAX_HEADER_BYTES - *n_left;
        let before = if n_before == 0 { String::new() } else { format!(" after {n_before} in the files before it") };
        return Err(broken(format!(
            "its header claims {n_header} bytes{before}, more than the {MAX_HEADER_BYTES} that are allowed"
        )));
    }
    if n_header > len - PREFIX_BYTES {
        return Err(broken(format!("its header claims {n_header} bytes, but the file ends after {len}")));
    }
    let header = source.read(PREFIX_BYTES, n_header as usize).await?;
    if header.len() as u64 != n_header {
        return Err(broken(format!("its header has {n_header} bytes, but {} could be read", header.len())));
    }
    *n_left -= n_header;
    let mut tensors = parse_json(&header).map_err(broken)?;
    let data = PREFIX_BYTES + n_header..len;
    check_places(&tensors, data.end - data.start).map_err(broken)?;
    for info in tensors.values_mut() {
        info.offset += data.start;
        info.file = file_idx;
    }
    Ok(tensors)
}

/// The tensors of the JSON, their offsets counted from the end of the header.
fn parse_json(header: &[u8]) -> Result<BTreeMap<String, TensorInfo>, String> {
    // serde_json would skip blanks in front, which the format does not allow.
    if header.first() != Some(&b'{') {
        return Err("its header does not start with {".into());
    }
    let header = std::str::from_utf8(header).map_err(|_| "its header is not UTF-8")?;
    let Header(tensors) = serde_json::from_str(header).map_err(|error| format!("its header: {error}"))?;
    Ok(tensors)
}

/// Checks that the tensors cover each of the `n_data` bytes after the header once.
fn check_places(tensors: &BTreeMap<String, TensorInfo>, n_data: u64) -> Result<(), String> {
    let mut in_file_order: Vec<(&String, &TensorInfo)> = tensors.iter().collect();
    // At the same place, those without a byte come first; the order of these among each other does not matter.
    in_file_order.sort_unstable_by_key(|(_, info)| (info.offset, info.n_bytes));
    let mut expected_start = 0;
    for (name, info) in in_file_order {
        let start = info.offset;
        if start != expected_start {
            let fault = if start < expected_start { "overlaps the one before it" } else { "leaves a gap before it" };
            return Err(format!("tensor {name} starts at {start} and {fault}, which ends at {expected_start}"));
        }
        expected_start += info.n_bytes;
    }
    if expected_start == n_data {
        Ok(())
    } else {
        Err(format!("its tensors have {expected_start} bytes, but {n_data} follow the header"))
    }
}

/// One tensor of the JSON. A key that comes twice and a key that is not known are refused.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Shape,
    data_offsets: (u64, u64),
}

impl Entry {
    /// The tensor, or what is wrong with it by itself.
    fn into_info(self) -> Result<TensorInfo, String> {
        let (start, end) = self.data_offsets;
        let n_bytes = end.checked_sub(start).ok_or_else(|| format!("ends at {end}, before its start"))?;
        let expected_bytes = self.expected_bytes()?;
        if n_bytes != expected_bytes {
            return Err(format!("needs {expected_bytes} bytes, but its offsets give it {n_bytes}"));
        }
        let dtype = Dtype::from_name(&self.dtype);
        Ok(TensorInfo { dtype, shape: self.shape.0, offset: start, n_bytes, file: 0 })
    }

    /// The bytes that the type and the shape call for, or what is wrong with them.
    fn expected_bytes(&self) -> Result<u64, String> {
        let (_, bits) = DTYPE_BITS
            .iter()
            .find(|(name, _)| *name == self.dtype)
            .ok_or_else(|| format!("has the unknown type {:?}", self.dtype))?;
        // Zeros are left out of the product at first: a shape beside them must make sense in any order of its sides.
        let sides = &self.shape.0;
        let n_bits = sides
            .iter()
            .filter(|&&side| side != 0)
            .try_fold(1usize, |product, &side| product.checked_mul(side))
            .and_then(|n_elements| (n_elements as u64).checked_mul(*bits))
            .ok_or_else(|| format!("has the shape {sides:?}, larger than any file"))?;
        let n_bits = if sides.contains(&0) { 0 } else { n_bits };
        if n_bits % 8 == 0 {
            Ok(n_bits / 8)
        } else {
            Err(format!("has the shape {sides:?} of type {}, which does not fill whole bytes", self.dtype))
        }
    }
}

/// A shape of at most [`MAX_DIMS`] sides.
struct Shape(Vec<usize>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sides;
        impl<'de> Visitor<'de> for Sides {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a shape of at most {MAX_DIMS} sides")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
                let mut sides = Vec::new();
                while let Some(side) = seq.next_element()? {
                    if sides.len() == MAX_DIMS {
                        return Err(A::Error::invalid_length(MAX_DIMS + 1, &self));
                    }
                    sides.push(side);
                }
                sides.shrink_to_fit();
                Ok(Shape(sides))
            }
        }
        deserializer.deserialize_seq(Sides)
    }
}

/// The whole JSON: tensors by name, each right by itself, after `__metadata__` was checked and dropped.
struct Header(BTreeMap<String, TensorInfo>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tensors;
        impl<'de> Visitor<'de> for Tensors {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut tensors = BTreeMap::new();
                let mut has_metadata = false;
                while let Some(name) = map.next_key::<String>()? {
                    if name.len() > MAX_NAME_BYTES {
                        return Err(A::Error::custom(format!("a name is longer than {MAX_NAME_BYTES} bytes")));
                    }
                    // It would come out on a terminal some day.
                    if name.chars().any(char::is_control) {
                        return Err(A::Error::custom(format!("the name {name:?} has a control character")));
                    }
                    if tensors.contains_key(&name) || (has_metadata && name == "__metadata__") {
                        return Err(A::Error::custom(format!("{name} is there twice")));
                    }
                    if name == "__metadata__" {
                        let _: Metadata = map.next_value()?;
                        has_metadata = true;
                    } else {
                        let entry: Entry = map.next_value()?;
                        let info =
                            entry.into_info().map_err(|reason| A::Error::custom(format!("tensor {name} {reason}")))?;
                        tensors.insert(name, info);
                    }
                }
                Ok(Header(tensors))
            }
        }
        deserializer.deserialize_map(Tensors)
    }
}

/// Free text that the writer of the file left: strings by name. Only its form is checked.
struct Metadata;

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Strings;
        impl<'de> Visitor<'de> for Strings {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut names = BTreeSet::new();
                while let Some((name, _)) = map.next_entry::<String, String>()? {
                    if names.contains(&name) {
                        return Err(A::Error::custom(format!("{name} is there twice")));
                    }
                    if names.len() == MAX_METADATA {
                        return Err(A::Error::custom(format!("__metadata__ has more than {MAX_METADATA} entries")));
                    }
                    names.insert(name);
                }
                Ok(Metadata)
            }
        }
        deserializer.deserialize_map(Strings)
    }
}
