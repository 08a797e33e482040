//! The header of a safetensors file, parsed as what it is: bytes from a stranger.
//!
//! The layout: eight bytes of little-endian length, that many bytes of JSON, then the tensors' bytes without a gap. See
//! <https://github.com/huggingface/safetensors#format>. Nothing is allocated for a number that the file merely claims;
//! memory grows with bytes that were read, and is bounded: a header by [`MAX_HEADER_BYTES`], what is kept of it by
//! [`MAX_TENSORS`]. A git-lfs pointer in place of a file is recognised, because a clone without git-lfs leaves one.
//!
//! It deliberately reads no tensor and accepts no header that leaves a byte of the file unexplained.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::error::words::counted;
use crate::error::{Error, Result};
use crate::graph::WeightSpec;

use super::dtype::Dtype;
use super::source::ByteSource;

/// How long the header of one file may be. The largest list of tensors of Stable Diffusion, XL's UNet, has 0.2 MB, but
/// `__metadata__` may hold a picture or a training log of many megabytes. It is read once, and not kept.
pub const MAX_HEADER_BYTES: u64 = 32 << 20;

/// How many tensors the files of one component may list together: 24 times those of XL's UNet. With the length of a
/// name this bounds the memory that is kept, and a header of the shortest entries cannot fill a browser tab.
pub const MAX_TENSORS: usize = 40_000;

/// How a git-lfs pointer begins: a text of about 130 bytes that stands for a file that was not fetched.
const LFS_POINTER: &[u8] = b"version https://git-lfs";

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

/// How much of a message that quotes the file is kept, in characters.
const MAX_REASON_CHARS: usize = 400;

/// How much of a file's `__metadata__` is kept, in bytes. Tags of LoRAs take some hundred kilobytes.
const MAX_METADATA_BYTES: usize = 2 << 20;

/// What an entry of it takes beside its texts, roughly.
const ENTRY_BYTES: usize = 64;

/// Bytes of the length in front of the header.
const PREFIX_BYTES: u64 = 8;

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
    /// Which of the files given to [`super::Files::open`] it is in.
    pub file: usize,
}

/// What a file's header says.
pub(super) struct Header {
    /// The tensors by name.
    pub tensors: BTreeMap<String, TensorInfo>,
    /// `__metadata__`: what the writer of the file says about it.
    pub metadata: BTreeMap<String, String>,
}

/// Reads and checks the header of one file; `file_idx` goes into [`TensorInfo::file`]. Its tensors are taken from
/// `n_left`, what the files before left of [`MAX_TENSORS`].
pub(super) async fn read(source: &dyn ByteSource, file_idx: usize, n_left: &mut usize) -> Result<Header> {
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
        return Err(broken(format!("it has {}, fewer than the length of a header takes", counted(len, "byte"))));
    }
    let prefix = source.read(0, PREFIX_BYTES as usize).await?;
    let prefix: [u8; PREFIX_BYTES as usize] =
        prefix.try_into().map_err(|_| broken("its first eight bytes could not be read".into()))?;
    if LFS_POINTER.starts_with(&prefix) && is_lfs_pointer(source).await? {
        return Err(broken(
            "it is a git-lfs pointer, a text that stands for the file: fetch the file itself with git lfs pull, or \
             download the model anew"
                .into(),
        ));
    }
    let n_header = u64::from_le_bytes(prefix);
    if n_header > MAX_HEADER_BYTES {
        return Err(broken(format!(
            "its header claims {n_header} bytes, more than the {MAX_HEADER_BYTES} that are allowed"
        )));
    }
    if n_header > len - PREFIX_BYTES {
        return Err(broken(format!("its header claims {}, but the file ends after {len}", counted(n_header, "byte"))));
    }
    let header = source.read(PREFIX_BYTES, n_header as usize).await?;
    if header.len() as u64 != n_header {
        return Err(broken(format!(
            "its header has {}, but {} could be read",
            counted(n_header, "byte"),
            header.len()
        )));
    }
    let Header { mut tensors, metadata } = parse_json(&header, *n_left).map_err(broken)?;
    drop(header);
    *n_left -= tensors.len();
    let data = PREFIX_BYTES + n_header..len;
    check_places(&tensors, data.end - data.start).map_err(broken)?;
    for info in tensors.values_mut() {
        info.offset += data.start;
        info.file = file_idx;
    }
    Ok(Header { tensors, metadata })
}

/// Whether the file begins as a git-lfs pointer does.
pub(super) async fn is_lfs_pointer(source: &dyn ByteSource) -> Result<bool> {
    let n = LFS_POINTER.len();
    Ok(source.len() >= n as u64 && source.read(0, n).await? == LFS_POINTER)
}

/// The tensors of the JSON, `most` at most, their offsets counted from the end of the header.
fn parse_json(header: &[u8], most: usize) -> Result<Header, String> {
    // serde_json would skip blanks in front, which the format does not allow.
    if header.first() != Some(&b'{') {
        return Err("its header does not start with {".into());
    }
    let header = std::str::from_utf8(header).map_err(|_| "its header is not UTF-8")?;
    let mut json = serde_json::Deserializer::from_str(header);
    let read = HeaderJson { most }.deserialize(&mut json).and_then(|header| json.end().map(|()| header));
    read.map_err(|error| format!("its header: {error}"))
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
        let hint = if expected_start > n_data { ": it is cut off, download it again" } else { "" };
        Err(format!("its tensors have {}, but {n_data} follow the header{hint}", counted(expected_start, "byte")))
    }
}

/// One tensor of the JSON. A field that comes twice and a field that is not known are refused.
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
            return Err(format!("needs {}, but its offsets give it {n_bytes}", counted(expected_bytes, "byte")));
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

/// The whole JSON: tensors by name, each right by itself, and `__metadata__`. Of a name that comes twice the last one
/// counts, as in Python's dictionaries.
struct HeaderJson {
    /// The most tensors.
    most: usize,
}

impl<'de> DeserializeSeed<'de> for HeaderJson {
    type Value = Header;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HeaderJson {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut tensors = BTreeMap::new();
        let mut metadata = None;
        while let Some(Name(name)) = map.next_key()? {
            // It would come out on a terminal some day.
            if name.chars().any(char::is_control) {
                return Err(A::Error::custom(format!("the name {name:?} has a control character")));
            }
            if name == "__metadata__" {
                // The format's own library takes a tensor twice, but not this.
                if metadata.is_some() {
                    return Err(A::Error::custom(format!("{name} is there twice")));
                }
                let Metadata(texts) = map.next_value::<Option<Metadata>>()?.unwrap_or_default();
                metadata = Some(texts);
                continue;
            }
            let entry: Entry = map.next_value()?;
            let info = entry.into_info().map_err(|reason| A::Error::custom(format!("tensor {name} {reason}")))?;
            if let Some(earlier) = tensors.get_mut(&name) {
                let earlier: &mut TensorInfo = earlier;
                // Bytes that only the earlier one explained would be left over.
                if (earlier.offset, earlier.n_bytes) != (info.offset, info.n_bytes) {
                    return Err(A::Error::custom(format!("{name} is there twice")));
                }
                *earlier = info;
                continue;
            }
            if tensors.len() == self.most {
                return Err(A::Error::custom(format!("the files list more than {MAX_TENSORS} tensors")));
            }
            tensors.insert(name, info);
        }
        Ok(Header { tensors, metadata: metadata.unwrap_or_default() })
    }
}

/// A tensor's name, of which no more than [`MAX_NAME_BYTES`] are copied.
struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ShortText;
        impl Visitor<'_> for ShortText {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Name, E> {
                if name.len() > MAX_NAME_BYTES {
                    return Err(E::custom(format!("a name is longer than {MAX_NAME_BYTES} bytes")));
                }
                Ok(Name(name.to_owned()))
            }
        }
        deserializer.deserialize_str(ShortText)
    }
}

/// Free text that the writer of the file left: strings by name. Pictures and training logs of many megabytes are found
/// there, so of what is longer than [`MAX_METADATA_BYTES`] nothing is kept.
#[derive(Default)]
struct Metadata(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Strings;
        impl<'de> Visitor<'de> for Strings {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut kept = BTreeMap::new();
                let mut n_left = MAX_METADATA_BYTES;
                while let Some(Text(name)) = map.next_key()? {
                    let Text(value) = map.next_value()?;
                    if let (Some(name), Some(value)) = (name, value)
                        && let Some(rest) = n_left.checked_sub(name.len() + value.len() + ENTRY_BYTES)
                    {
                        n_left = rest;
                        kept.insert(name, value);
                    }
                }
                Ok(Metadata(kept))
            }
        }
        deserializer.deserialize_map(Strings)
    }
}

/// A string, or `None` for one that is longer than [`MAX_METADATA_BYTES`].
struct Text(Option<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyText;
        impl Visitor<'_> for AnyText {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text((text.len() <= MAX_METADATA_BYTES).then(|| text.to_owned())))
            }
        }
        deserializer.deserialize_str(AnyText)
    }
}
