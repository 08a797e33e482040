//! The first directory of a TIFF file, before the decoder reads it: what lists of numbers in it will take, its colours, and
//! whether its pixels are there.
//!
//! The decoder allocates a list by the length that the file says, before it looks whether the file has as much. Here a
//! list that is longer than its file is refused.

use super::decode::CUT_OFF;

/// Tags that the decoder reads, lists of numbers among them.
const READ: [std::ops::RangeInclusive<u64>; 3] = [254..=347, 530..=532, 34_665..=34_665];
/// What the decoder takes for each number of a list: its value with a tag, and as a number of 64 bits.
const BYTES_PER_NUMBER: u64 = 48;
/// More entries than any directory has.
const MAX_ENTRIES: u64 = 4096;

const BITS_PER_SAMPLE: u64 = 258;
const COMPRESSION: u64 = 259;
const PHOTOMETRIC: u64 = 262;
const SAMPLES_PER_PIXEL: u64 = 277;
const COLOUR_MAP: u64 = 320;
/// Where the strips lie and how long they are, and the same of tiles.
const PIECES: [(u64, u64); 2] = [(273, 279), (324, 325)];

/// The first directory.
struct Directory<'a> {
    bytes: &'a [u8],
    is_little: bool,
    /// Bytes of an offset or a count: 8 in the big form.
    wide: usize,
    first_entry: u64,
    n_entries: u64,
}

/// A tag, the type and number of its values, and where they lie, or where it says where they do.
struct Entry {
    tag: u64,
    kind: u64,
    count: u64,
    at: u64,
}

impl Entry {
    fn size(&self) -> u64 {
        match self.kind {
            3 | 8 => 2,
            4 | 9 | 11 | 13 => 4,
            5 | 10 | 12 | 16..=18 => 8,
            _ => 1,
        }
    }
}

impl<'a> Directory<'a> {
    /// `None` where the file ends in front of it.
    fn new(bytes: &'a [u8]) -> Option<Self> {
        let mut directory =
            Directory { bytes, is_little: bytes.starts_with(b"II"), wide: 4, first_entry: 0, n_entries: 0 };
        let (first, counter) = if directory.number(2, 2)? == 43 { (8, 8) } else { (4, 2) };
        directory.wide = first;
        let at = directory.number(first as u64, first)?;
        directory.n_entries = directory.number(at, counter)?;
        directory.first_entry = at.checked_add(counter as u64)?;
        Some(directory)
    }

    /// A whole number of `n` bytes.
    fn number(&self, at: u64, n: usize) -> Option<u64> {
        let at = usize::try_from(at).ok()?;
        let bytes = self.bytes.get(at..at.checked_add(n)?)?.iter();
        let join = |sum: u64, &byte: &u8| sum << 8 | u64::from(byte);
        Some(if self.is_little { bytes.rev().fold(0, join) } else { bytes.fold(0, join) })
    }

    fn entry(&self, i: u64) -> Option<Entry> {
        let wide = self.wide as u64;
        let at = self.first_entry.checked_add(i * (4 + 2 * wide))?;
        let (tag, kind, count) = (self.number(at, 2)?, self.number(at + 2, 2)?, self.number(at + 4, self.wide)?);
        Some(Entry { tag, kind, count, at: at + 4 + wide })
    }

    fn find(&self, tag: u64) -> Option<Entry> {
        (0..self.n_entries.min(MAX_ENTRIES)).map_while(|i| self.entry(i)).find(|entry| entry.tag == tag)
    }

    /// The `i`th whole number of an entry; `None` where it is not in the file.
    fn value(&self, entry: &Entry, i: u64) -> Option<u64> {
        let size = entry.size();
        let is_here = entry.count.checked_mul(size)? <= self.wide as u64;
        let first = if is_here { entry.at } else { self.number(entry.at, self.wide)? };
        self.number(first.checked_add(i.checked_mul(size)?)?, size as usize)
    }

    fn first_value(&self, tag: u64) -> Option<u64> {
        self.value(&self.find(tag)?, 0)
    }
}

/// The bytes that the decoder takes for the directory's lists.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn inspect(bytes: &[u8]) -> Result<u64, &'static str> {
    lists(bytes).ok_or(CUT_OFF)?
}

/// `None` where the directory ends too early; inside, what is wrong with an entry.
fn lists(bytes: &[u8]) -> Option<Result<u64, &'static str>> {
    const TOO_LONG: &str = "it has a list that is longer than the file";
    let directory = Directory::new(bytes)?;
    if directory.n_entries > MAX_ENTRIES {
        return Some(Err(TOO_LONG));
    }
    let mut needed = 0_u64;
    for i in 0..directory.n_entries {
        let entry = directory.entry(i)?;
        if !READ.iter().any(|tags| tags.contains(&entry.tag)) {
            continue;
        }
        if entry.count.checked_mul(entry.size()).is_none_or(|n_bytes| n_bytes > bytes.len() as u64) {
            return Some(Err(TOO_LONG));
        }
        // Its decoder makes a picture of damaged data.
        if entry.tag == COMPRESSION && matches!(directory.number(entry.at, 2)?, 6 | 7) {
            return Some(Err("it is compressed as JPEG, which is not read inside a TIFF: save it with LZW, or as PNG"));
        }
        needed += entry.count * BYTES_PER_NUMBER;
    }
    Some(Ok(needed))
}

/// Whether the file ends before its directory or its pixels do.
pub(super) fn is_cut_off(bytes: &[u8]) -> bool {
    let Some(directory) = Directory::new(bytes) else { return true };
    let lies_behind = |(offsets, lengths): (u64, u64)| {
        let (Some(offsets), Some(lengths)) = (directory.find(offsets), directory.find(lengths)) else { return false };
        (0..offsets.count.min(lengths.count)).any(|i| {
            let piece = directory.value(&offsets, i).zip(directory.value(&lengths, i));
            piece.and_then(|(at, length)| at.checked_add(length)).is_none_or(|end| end > bytes.len() as u64)
        })
    };
    inspect(bytes) == Err(CUT_OFF) || PIECES.into_iter().any(lies_behind)
}

/// What is unusual in the file's colours, as a message says it.
pub(super) fn colours(bytes: &[u8]) -> String {
    let directory = Directory::new(bytes);
    let value = |tag: u64| directory.as_ref().and_then(|directory| directory.first_value(tag));
    match (value(PHOTOMETRIC), value(BITS_PER_SAMPLE).unwrap_or(1)) {
        (Some(0 | 1), 8 | 16) if value(SAMPLES_PER_PIXEL) == Some(2) => "of grey and transparency".to_owned(),
        (Some(3), 8) => "with a palette of another length than 256 colours".to_owned(),
        (Some(3), bits) => format!("with a palette of {bits} bits"),
        (Some(6), _) => "in YCbCr".to_owned(),
        (Some(8..=10), _) => "in CIELab".to_owned(),
        (_, bits) if bits != 8 && bits != 16 => format!("with {bits} bits a channel"),
        _ => "with channels like these".to_owned(),
    }
}

/// A file whose pixels are numbers of colours, made into one whose pixels are grey, which the decoder can read.
pub(super) struct Palette {
    /// The file, with the numbers as levels of grey.
    pub file: Vec<u8>,
    colours: Vec<[u8; 3]>,
}

impl Palette {
    /// Puts the colours in the place of their numbers.
    pub fn colour(&self, levels: &mut Vec<u8>) {
        let n_pixels = levels.len();
        levels.resize(3 * n_pixels, 0);
        for i in (0..n_pixels).rev() {
            let colour = self.colours.get(usize::from(levels[i])).copied().unwrap_or_default();
            levels[3 * i..3 * i + 3].copy_from_slice(&colour);
        }
    }
}

/// The palette of a file that has one of 256 colours.
pub(super) fn palette(bytes: &[u8]) -> Option<Palette> {
    let directory = Directory::new(bytes)?;
    let photometric = directory.find(PHOTOMETRIC).filter(|entry| (entry.kind, entry.count) == (3, 1))?;
    let map = directory.find(COLOUR_MAP).filter(|entry| (entry.kind, entry.count) == (3, 3 * 256))?;
    let is_plain = directory.first_value(SAMPLES_PER_PIXEL).is_none_or(|n| n == 1);
    if directory.value(&photometric, 0)? != 3 || directory.first_value(BITS_PER_SAMPLE)? != 8 || !is_plain {
        return None;
    }
    // All reds, all greens, all blues, of 16 bits: the high byte counts, as in Pillow.
    let level = |i: u64| Some((directory.value(&map, i)? >> 8) as u8);
    let colours = (0..256).map(|i| Some([level(i)?, level(256 + i)?, level(512 + i)?])).collect::<Option<_>>()?;
    let mut file = bytes.to_vec();
    let low_byte = usize::try_from(photometric.at).ok()? + usize::from(!directory.is_little);
    *file.get_mut(low_byte)? = 1;
    Some(Palette { file, colours })
}
