//! The header of a GGUF file, parsed as what it is: bytes from a stranger.
//!
//! The layout, little-endian: magic, version, numbers of tensors and of keys, the keys with their values, the tensors'
//! names, sides, types and places, then the tensors' bytes, each at a multiple of the alignment. The header's length is
//! stated nowhere; it is read through a window, and what is long is stepped over. Nothing is allocated for a number that
//! the file merely claims; memory grows with bytes that were read, and is bounded by [`MAX_HEADER_BYTES`], [`MAX_KEYS`]
//! and the limit of tensors that the caller gives.
//!
//! It deliberately reads no tensor and accepts no header that leaves more of the file unexplained than padding.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use serde_json::{Number, Value};

use super::{BlockType, DEFAULT_ALIGNMENT, MAGIC, MAX_GGML_DIMS, n_elements};
use crate::error::words::counted;
use crate::error::{Error, Result};
use crate::weights::header::{MAX_DIMS, MAX_HEADER_BYTES, MAX_TENSORS, is_lfs_pointer};
use crate::weights::source::ByteSource;

/// How many keys one file may have. ComfyUI-GGUF writes one for each tensor that it had to fold.
pub const MAX_KEYS: u64 = MAX_TENSORS as u64;

/// The longest text that is kept of the metadata.
pub const MAX_VALUE_BYTES: usize = 4096;

/// How much of the metadata is kept, keys and texts together.
const MAX_METADATA_BYTES: usize = 1 << 20;

/// The longest name of a tensor or a key. Real ones have about a hundred bytes.
const MAX_NAME_BYTES: usize = 1024;

/// How much of the file is read at once: the headers of Stable Diffusion have 0.1 to 0.3 MB.
const WINDOW_BYTES: u64 = 256 << 10;

/// How much of a message that quotes the file is kept, in characters, and how much of a name in it.
const MAX_REASON_CHARS: usize = 400;
const MAX_QUOTED_CHARS: usize = 100;

/// Where ComfyUI-GGUF keeps the true shape of a tensor whose rows it folded to fill blocks, in torch's order.
const ORIGINAL_SHAPE: &str = "comfy.gguf.orig_shape.";

/// Where a tensor is and what it looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// How its elements are stored.
    pub kind: BlockType,
    /// Its shape in torch's order, row-major; the one before folding where the file names that.
    pub shape: Vec<usize>,
    /// Its first byte, counted from the start of the file.
    pub offset: u64,
    /// How many bytes it has.
    pub n_bytes: u64,
}

/// What one file says about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// Version of the format, 2 or 3.
    pub version: u32,
    /// The tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// The metadata by key, without the shapes that are in [`Header::tensors`] already. Lists, texts longer than
    /// [`MAX_VALUE_BYTES`] and numbers that are not finite are not kept: they are null. Of more than 1 MiB together, the
    /// later keys are left out.
    pub metadata: BTreeMap<String, Value>,
}

impl Header {
    /// Reads and checks the header of one file with at most `most_tensors` tensors.
    ///
    /// # Errors
    /// [`Error::Gguf`] for a file that breaks the format's rules; whatever the source returns when it cannot be read.
    pub async fn read(source: &dyn ByteSource, most_tensors: usize) -> Result<Self> {
        match read(source, most_tensors).await {
            Ok(header) => Ok(header),
            Err(Fault::Source(error)) => Err(error),
            // A message may quote the file, and the file may be made of one endless word, or speak to the terminal.
            Err(Fault::Broken(reason)) => Err(Error::Gguf {
                file: source.name().to_owned(),
                reason: reason
                    .chars()
                    .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
                    .take(MAX_REASON_CHARS)
                    .collect(),
            }),
        }
    }

    /// What kind of model the file says it holds. stable-diffusion.cpp says nothing, ComfyUI-GGUF `sd1` or `sdxl`.
    #[must_use]
    pub fn architecture(&self) -> Option<&str> {
        self.metadata.get("general.architecture")?.as_str()
    }
}

/// What went wrong: the source could not be read, or the file is broken.
enum Fault {
    Source(Error),
    Broken(String),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Source(error)
    }
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Fault::Broken(reason)
    }
}

/// The name of a tensor or a key for a message: its beginning, where it is so long that nothing else would be seen.
fn quoted(name: &str) -> Cow<'_, str> {
    match name.char_indices().nth(MAX_QUOTED_CHARS) {
        Some((end, _)) => Cow::Owned(format!("{}\u{2026}", &name[..end])),
        None => Cow::Borrowed(name),
    }
}

async fn read(source: &dyn ByteSource, most_tensors: usize) -> Result<Header, Fault> {
    let mut cursor = Cursor::new(source);
    if is_lfs_pointer(source).await? {
        let reason =
            "it is a git-lfs pointer, a text that stands for the file: fetch the file itself with git lfs pull";
        return Err(Fault::Broken(reason.into()));
    }
    if source.len() < 4 || cursor.take(4).await? != MAGIC {
        return Err(Fault::Broken("it does not begin with GGUF".into()));
    }
    let version = cursor.u32().await?;
    match version {
        2 | 3 => {}
        _ if version & 0xffff == 0 => {
            return Err(Fault::Broken("it is big-endian: expected a little-endian file".into()));
        }
        _ => return Err(Fault::Broken(format!("it has version {version}: expected 2 or 3"))),
    }
    let (n_tensors, n_keys) = (cursor.u64().await?, cursor.u64().await?);
    if n_tensors > most_tensors as u64 {
        return Err(Fault::Broken(format!(
            "it claims {n_tensors} tensors, more than the {most_tensors} that are allowed"
        )));
    }
    if n_keys > MAX_KEYS {
        return Err(Fault::Broken(format!("it claims {n_keys} keys, more than the {MAX_KEYS} that are allowed")));
    }
    let mut keys = Keys::default();
    for _ in 0..n_keys {
        keys.read_one(&mut cursor).await?;
    }
    let mut tensors = BTreeMap::new();
    for _ in 0..n_tensors {
        let name = cursor.name("tensor").await?;
        if tensors.contains_key(&name) {
            return Err(Fault::Broken(format!("tensor {} is there twice", quoted(&name))));
        }
        let info = read_tensor(&mut cursor, &name).await?;
        tensors.insert(name, info);
    }
    let data = cursor.pos.next_multiple_of(keys.alignment);
    if !tensors.is_empty() {
        cursor.expect(data - cursor.pos)?;
    }
    check_places(&tensors, keys.alignment, source.len().saturating_sub(data))?;
    for (name, info) in &mut tensors {
        info.offset += data;
        if let Some(shape) = keys.original_shapes.get(name) {
            unfold(name, info, shape)?;
        }
    }
    Ok(Header { version, tensors, metadata: keys.metadata })
}

/// One entry of the list of tensors behind its name; its place counted from the start of the data.
async fn read_tensor(cursor: &mut Cursor<'_>, name: &str) -> Result<Tensor, Fault> {
    let name = quoted(name);
    let n_dims = cursor.u32().await?;
    if n_dims as usize > MAX_GGML_DIMS {
        return Err(Fault::Broken(format!("tensor {name} has {n_dims} sides: expected at most {MAX_GGML_DIMS}")));
    }
    let mut sides = Vec::new();
    for _ in 0..n_dims {
        sides.push(cursor.u64().await?);
    }
    let (id, offset) = (cursor.u32().await?, cursor.u64().await?);
    let Some(kind) = BlockType::from_id(id) else {
        return Err(Fault::Broken(format!("tensor {name} has the unknown type {id}")));
    };
    let row = sides.first().copied().unwrap_or(1);
    sides.reverse();
    let too_large = || format!("tensor {name} has the shape {sides:?}, larger than any file");
    let shape: Vec<usize> =
        sides.iter().map(|&side| usize::try_from(side)).collect::<Result<_, _>>().map_err(|_| too_large())?;
    let n_elements = n_elements(&shape).ok_or_else(too_large)?;
    if !row.is_multiple_of(kind.elements() as u64) {
        let (elements, kind) = (kind.elements(), kind.name());
        return Err(Fault::Broken(format!(
            "tensor {name} has rows of {row} numbers, not a multiple of the {elements} in a block of {kind}"
        )));
    }
    let n_bytes = kind.tensor_bytes(row, n_elements).ok_or_else(too_large)?;
    Ok(Tensor { kind, shape, offset, n_bytes })
}

/// Checks that each tensor begins where the one before it ends, up to padding, and that the last one ends with the file.
fn check_places(tensors: &BTreeMap<String, Tensor>, alignment: u64, n_data: u64) -> Result<(), String> {
    let mut in_file_order: Vec<(&String, &Tensor)> = tensors.iter().collect();
    // At the same place, those without a byte come first; the order of these among each other does not matter.
    in_file_order.sort_unstable_by_key(|(_, info)| (info.offset, info.n_bytes));
    let (mut end, mut padded_end) = (0u64, 0u64);
    for (name, info) in in_file_order {
        let (name, start) = (quoted(name), info.offset);
        if !start.is_multiple_of(alignment) {
            return Err(format!("tensor {name} starts at {start}, not at a multiple of the alignment {alignment}"));
        }
        if start != padded_end {
            let fault = if start < padded_end { "overlaps the one before it" } else { "leaves a gap before it" };
            return Err(format!("tensor {name} starts at {start} and {fault}, which ends at {end}"));
        }
        let ends =
            start.checked_add(info.n_bytes).and_then(|end| Some((end, end.checked_next_multiple_of(alignment)?)));
        (end, padded_end) = ends.ok_or_else(|| format!("tensor {name} ends beyond any file"))?;
    }
    // Some writers leave out the padding behind the last tensor.
    if (end..=padded_end).contains(&n_data) {
        Ok(())
    } else {
        Err(format!("its tensors have {}, but {n_data} follow the header", counted(end, "byte")))
    }
}

/// Gives a tensor the shape that it had before its rows were folded.
fn unfold(name: &str, info: &mut Tensor, shape: &[usize]) -> Result<(), String> {
    if n_elements(shape) != n_elements(&info.shape) {
        return Err(format!("tensor {} has the shape {:?}, but was folded from {shape:?}", quoted(name), info.shape));
    }
    shape.clone_into(&mut info.shape);
    Ok(())
}

/// The keys and their values, as far as they are kept.
struct Keys {
    alignment: u64,
    original_shapes: HashMap<String, Vec<usize>>,
    metadata: BTreeMap<String, Value>,
    /// Bytes of the keys and texts in `metadata`.
    n_kept: usize,
}

impl Default for Keys {
    fn default() -> Self {
        Keys { alignment: DEFAULT_ALIGNMENT, original_shapes: HashMap::new(), metadata: BTreeMap::new(), n_kept: 0 }
    }
}

/// What stands behind a key.
enum Entry {
    /// A number, a text or a switch; null where it is not kept.
    One(Value),
    /// A list of whole numbers that may be a shape.
    Shape(Vec<usize>),
    /// Any other list.
    List,
}

impl Keys {
    async fn read_one(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Fault> {
        let key = cursor.name("key").await?;
        let value = match cursor.u32().await? {
            TYPE_ARRAY => read_list(cursor, &key).await?,
            value_type => Entry::One(read_value(cursor, &key, value_type).await?),
        };
        if key == "general.alignment" {
            let alignment = if let Entry::One(value) = &value { value.as_u64() } else { None };
            match alignment {
                Some(alignment) if alignment.is_power_of_two() && alignment <= u64::from(u32::MAX) => {
                    self.alignment = alignment;
                }
                _ => return Err(Fault::Broken("its general.alignment is not a power of two".into())),
            }
        }
        let is_new = if let Some(tensor) = key.strip_prefix(ORIGINAL_SHAPE) {
            let Entry::Shape(shape) = value else {
                let reason = format!("its key {} is not a list of at most {MAX_DIMS} sides", quoted(&key));
                return Err(Fault::Broken(reason));
            };
            self.original_shapes.insert(tensor.to_owned(), shape).is_none()
        } else {
            let value = if let Entry::One(value) = value { value } else { Value::Null };
            self.n_kept += key.len() + value.as_str().map_or(0, str::len);
            self.n_kept > MAX_METADATA_BYTES || self.metadata.insert(key.clone(), value).is_none()
        };
        if is_new { Ok(()) } else { Err(Fault::Broken(format!("its key {} is there twice", quoted(&key)))) }
    }
}

const TYPE_BOOL: u32 = 7;
pub(super) const TYPE_STRING: u32 = 8;
const TYPE_ARRAY: u32 = 9;

/// The bytes of a value of a type that has a fixed length.
fn value_bytes(value_type: u32) -> Option<usize> {
    match value_type {
        0 | 1 | TYPE_BOOL => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

async fn read_value(cursor: &mut Cursor<'_>, key: &str, value_type: u32) -> Result<Value, Fault> {
    if value_type == TYPE_STRING {
        let Some(text) = cursor.text(MAX_VALUE_BYTES).await? else { return Ok(Value::Null) };
        return text
            .map(Value::String)
            .map_err(|_| Fault::Broken(format!("the text of its key {} is not UTF-8", quoted(key))));
    }
    let Some(n) = value_bytes(value_type) else {
        return Err(Fault::Broken(format!("its key {} has the unknown type {value_type}", quoted(key))));
    };
    let bytes = cursor.take(n).await?;
    Ok(number(value_type, bytes))
}

/// A value of a fixed length from its little-endian bytes.
fn number(value_type: u32, bytes: &[u8]) -> Value {
    let mut wide = [0; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    let unsigned = u64::from_le_bytes(wide);
    // The sign bit is moved to the top and back, which fills what is above it.
    let unused_bits = 64 - 8 * bytes.len() as u32;
    let signed = || unsigned.wrapping_shl(unused_bits).cast_signed() >> unused_bits;
    match value_type {
        TYPE_BOOL => Value::Bool(unsigned != 0),
        1 | 3 | 5 | 11 => Value::Number(signed().into()),
        6 => Number::from_f64(f64::from(f32::from_bits(unsigned as u32))).map_or(Value::Null, Value::Number),
        12 => Number::from_f64(f64::from_bits(unsigned)).map_or(Value::Null, Value::Number),
        _ => Value::Number(unsigned.into()),
    }
}

/// A list, stepped over but for what may be a shape.
async fn read_list(cursor: &mut Cursor<'_>, key: &str) -> Result<Entry, Fault> {
    let value_type = cursor.u32().await?;
    let n = cursor.u64().await?;
    if value_type == TYPE_STRING {
        for _ in 0..n {
            let n_bytes = cursor.u64().await?;
            cursor.skip(n_bytes)?;
        }
        return Ok(Entry::List);
    }
    let Some(value_bytes) = value_bytes(value_type) else {
        return Err(Fault::Broken(format!("its key {} is a list of the unknown type {value_type}", quoted(key))));
    };
    if n > MAX_DIMS as u64 {
        // A product beyond u64 is beyond the file, too.
        cursor.skip(n.saturating_mul(value_bytes as u64))?;
        return Ok(Entry::List);
    }
    let mut sides = Vec::new();
    for _ in 0..n {
        let side = number(value_type, cursor.take(value_bytes).await?).as_u64();
        sides.push(side.and_then(|side| usize::try_from(side).ok()));
    }
    let sides: Option<Vec<usize>> = sides.into_iter().collect();
    Ok(sides.map_or(Entry::List, Entry::Shape))
}

/// A place in the file, and a window of bytes that were read from there on.
struct Cursor<'a> {
    source: &'a dyn ByteSource,
    /// The next byte, counted from the start of the file.
    pos: u64,
    window: Vec<u8>,
    /// How much of the window lies before `pos`.
    used: usize,
}

impl<'a> Cursor<'a> {
    fn new(source: &'a dyn ByteSource) -> Self {
        Cursor { source, pos: 0, window: Vec::new(), used: 0 }
    }

    /// Checks that the header may have `n` more bytes.
    fn expect(&self, n: u64) -> Result<(), Fault> {
        let len = self.source.len();
        let end = self.pos.saturating_add(n);
        if end > len {
            return Err(Fault::Broken(format!("its header goes on at {end}, but the file ends after {len}")));
        }
        if end > MAX_HEADER_BYTES {
            return Err(Fault::Broken(format!(
                "its header has more than the {MAX_HEADER_BYTES} bytes that are allowed"
            )));
        }
        Ok(())
    }

    /// The next `n` bytes. `n` is small and no claim of the file.
    async fn take(&mut self, n: usize) -> Result<&[u8], Fault> {
        self.expect(n as u64)?;
        if self.window.len() - self.used < n {
            self.window.drain(..self.used);
            self.used = 0;
            let at = self.pos + self.window.len() as u64;
            let n_more = WINDOW_BYTES.max((n - self.window.len()) as u64).min(self.source.len() - at) as usize;
            let bytes = self.source.read(at, n_more).await?;
            if bytes.len() != n_more {
                return Err(Fault::Broken(format!(
                    "of {} of its header {} could be read",
                    counted(n_more, "byte"),
                    bytes.len()
                )));
            }
            if self.window.is_empty() { self.window = bytes } else { self.window.extend(bytes) }
        }
        let start = self.used;
        self.used += n;
        self.pos += n as u64;
        Ok(&self.window[start..self.used])
    }

    /// Steps over `n` bytes, which may be a claim of the file.
    fn skip(&mut self, n: u64) -> Result<(), Fault> {
        self.expect(n)?;
        self.pos += n;
        let used = usize::try_from(n).ok().and_then(|n| self.used.checked_add(n));
        match used.filter(|&used| used <= self.window.len()) {
            Some(used) => self.used = used,
            None => {
                self.window.clear();
                self.used = 0;
            }
        }
        Ok(())
    }

    async fn u32(&mut self) -> Result<u32, Fault> {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(self.take(4).await?);
        Ok(u32::from_le_bytes(bytes))
    }

    async fn u64(&mut self) -> Result<u64, Fault> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.take(8).await?);
        Ok(u64::from_le_bytes(bytes))
    }

    /// A text of at most `most` bytes; a longer one is stepped over, and `None`. The inner error is one that is not UTF-8.
    async fn text(&mut self, most: usize) -> Result<Option<Result<String, ()>>, Fault> {
        let n = self.u64().await?;
        if n > most as u64 {
            self.skip(n)?;
            return Ok(None);
        }
        let bytes = self.take(n as usize).await?;
        Ok(Some(std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| ())))
    }

    /// The name of a tensor or a key.
    async fn name(&mut self, of: &str) -> Result<String, Fault> {
        let name = match self.text(MAX_NAME_BYTES).await? {
            None => return Err(Fault::Broken(format!("the name of a {of} is longer than {MAX_NAME_BYTES} bytes"))),
            Some(Err(())) => return Err(Fault::Broken(format!("the name of a {of} is not UTF-8"))),
            Some(Ok(name)) => name,
        };
        // It would come out on a terminal some day.
        if name.chars().any(char::is_control) {
            return Err(Fault::Broken(format!("the name {:?} has a control character", quoted(&name))));
        }
        Ok(name)
    }
}
