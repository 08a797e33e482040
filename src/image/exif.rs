//! What is read of an EXIF block, or of a TIFF file, which has the same layout: orientation and texts.
//!
//! A damaged block gives less, never an error: it is no reason to refuse the picture around it.

use std::borrow::Cow;

/// Tags that are looked for.
pub(super) const ORIENTATION: u16 = 0x0112;
pub(super) const IMAGE_DESCRIPTION: u16 = 0x010e;
pub(super) const MAKE: u16 = 0x010f;
pub(super) const MODEL: u16 = 0x0110;
pub(super) const SOFTWARE: u16 = 0x0131;
pub(super) const XMP: u16 = 0x02bc;
const EXIF_DIRECTORY: u16 = 0x8769;
const USER_COMMENT: u16 = 0x9286;

/// The most entries of a directory that are looked at.
const MAX_ENTRIES: usize = 1024;

/// A block that has a header.
pub(super) struct Exif<'a> {
    bytes: &'a [u8],
    is_little: bool,
    /// Whether this is a BigTIFF, whose offsets and counts have 64 bits.
    is_big: bool,
    directory: usize,
}

/// A directory's entry: its type, and its values' bytes.
struct Entry<'a> {
    kind: u16,
    bytes: &'a [u8],
}

impl<'a> Exif<'a> {
    /// The block, with or without the `Exif\0\0` that JPEG puts before it once, and some writers twice.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let strip = |bytes: &'a [u8]| bytes.strip_prefix(b"Exif\0\0").unwrap_or(bytes);
        let bytes = strip(strip(bytes));
        let (is_little, is_big) = match bytes.get(..4)? {
            b"II*\0" => (true, false),
            b"MM\0*" => (false, false),
            b"II+\0" => (true, true),
            b"MM\0+" => (false, true),
            _ => return None,
        };
        let mut exif = Exif { bytes, is_little, is_big, directory: 0 };
        exif.directory = exif.word(if is_big { 8 } else { 4 })?;
        Some(exif)
    }

    fn u16(&self, at: usize) -> Option<u16> {
        let bytes = self.bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if self.is_little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.is_little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    /// An offset or a count.
    fn word(&self, at: usize) -> Option<usize> {
        if !self.is_big {
            return usize::try_from(self.u32(at)?).ok();
        }
        let bytes = self.bytes.get(at..at.checked_add(8)?)?.try_into().ok()?;
        usize::try_from(if self.is_little { u64::from_le_bytes(bytes) } else { u64::from_be_bytes(bytes) }).ok()
    }

    /// The first entry with that tag in a directory, as Pillow 13 takes it.
    fn entry(&self, directory: usize, tag: u16) -> Option<Entry<'a>> {
        let (counter, entry, inline) = if self.is_big { (8, 20, 8) } else { (2, 12, 4) };
        let n = if self.is_big { self.word(directory)? } else { usize::from(self.u16(directory)?) }.min(MAX_ENTRIES);
        let mut places = (0..n).filter_map(|i| directory.checked_add(counter + entry * i));
        places.find(|&at| self.u16(at) == Some(tag)).and_then(|at| {
            let kind = self.u16(at + 2)?;
            let size: usize = match kind {
                1 | 2 | 6 | 7 => 1,
                3 | 8 => 2,
                4 | 9 | 13 => 4,
                _ => return None,
            };
            let n_bytes = size.checked_mul(self.word(at + 4)?)?;
            let value = at + 4 + inline;
            let start = if n_bytes <= inline { value } else { self.word(value)? };
            Some(Entry { kind, bytes: self.bytes.get(start..start.checked_add(n_bytes)?)? })
        })
    }

    fn number(&self, directory: usize, tag: u16) -> Option<u32> {
        let Entry { kind, bytes } = self.entry(directory, tag)?;
        let wide = |bytes: [u8; 2]| if self.is_little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) };
        match kind {
            1 | 6 => bytes.first().map(|&byte| u32::from(byte)),
            3 | 8 => Some(u32::from(wide(bytes.get(..2)?.try_into().ok()?))),
            4 | 9 | 13 => {
                let bytes = bytes.get(..4)?.try_into().ok()?;
                Some(if self.is_little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
            }
            _ => None,
        }
    }

    /// The orientation's number, whatever it is; 1 to 8 have a meaning.
    pub fn orientation(&self) -> Option<u32> {
        self.number(self.directory, ORIENTATION)
    }

    /// The bytes of an entry of the main directory.
    pub fn bytes_of(&self, tag: u16) -> Option<&'a [u8]> {
        self.entry(self.directory, tag).map(|entry| entry.bytes)
    }

    /// A text of the main directory, up to its NUL.
    pub fn text(&self, tag: u16) -> Option<String> {
        let bytes = self.bytes_of(tag)?;
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        Some(utf8_or_latin1(&bytes[..end]).into_owned()).filter(|text| !text.is_empty())
    }

    /// What a person or a program wrote, in whatever encoding it says.
    pub fn user_comment(&self) -> Option<String> {
        let directory = self.number(self.directory, EXIF_DIRECTORY)? as usize;
        let bytes = self.entry(directory, USER_COMMENT)?.bytes;
        let (code, text) = bytes.split_at_checked(8)?;
        let text = match code {
            // Some write UTF-8 behind this word. Settings have letters of ASCII, which in UTF-16 come with zeros.
            b"UNICODE\0" => match str::from_utf8(without_zeros(text)) {
                Ok(utf8) if !utf8.is_empty() && !utf8.contains('\0') => utf8.to_owned(),
                _ => utf16(text, self.is_little),
            },
            b"ASCII\0\0\0" | [0, 0, 0, 0, 0, 0, 0, 0] => utf8_or_latin1(text).into_owned(),
            _ => utf8_or_latin1(bytes).into_owned(),
        };
        Some(text.trim_matches('\0').to_owned()).filter(|text| !text.is_empty())
    }
}

/// Bytes without the zeros that fill up their end.
fn without_zeros(bytes: &[u8]) -> &[u8] {
    let n = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    &bytes[..n]
}

/// UTF-16 in the order that a mark says, or else that the zeros of Latin letters say, or else the block's own.
fn utf16(bytes: &[u8], is_little: bool) -> String {
    let (bytes, marked) = match bytes {
        [0xff, 0xfe, rest @ ..] => (rest, Some(true)),
        [0xfe, 0xff, rest @ ..] => (rest, Some(false)),
        _ => (bytes, None),
    };
    let zeros = |odd: usize| bytes.iter().skip(odd).step_by(2).filter(|&&byte| byte == 0).count();
    let is_little = marked.unwrap_or(match zeros(1).cmp(&zeros(0)) {
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => is_little,
    });
    let (pairs, _) = bytes.as_chunks::<2>();
    let units = pairs.iter().map(|&pair| if is_little { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) });
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// UTF-8 where that is what it is; Latin-1 otherwise.
pub(super) fn utf8_or_latin1(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.iter().map(|&byte| char::from(byte)).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_orientations_the_first_counts() {
        let entry = |orientation: u8| [1, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0];
        let block = |first, second| [&b"MM\0*\0\0\0\x08\0\x02"[..], &entry(first), &entry(second), &[0; 4]].concat();
        assert_eq!(Exif::new(&block(6, 3)).unwrap().orientation(), Some(6));
        assert_eq!(Exif::new(&block(3, 6)).unwrap().orientation(), Some(3));
    }

    #[test]
    fn big_tiffs_have_wider_entries() {
        let header = [&b"II+\0\x08\0\0\0"[..], &16_u64.to_le_bytes(), &1_u64.to_le_bytes()].concat();
        let entry = [&[0x12, 1, 3, 0][..], &1_u64.to_le_bytes(), &6_u64.to_le_bytes()].concat();
        let file = [header, entry].concat();
        assert_eq!(Exif::new(&file).unwrap().orientation(), Some(6));
        // Cut anywhere, it says nothing.
        assert!((0..file.len() - 6).all(|n| Exif::new(&file[..n]).and_then(|exif| exif.orientation()).is_none()));
    }

    #[test]
    fn comments_are_read_whatever_they_say_of_themselves() {
        let block = |comment: &[u8]| {
            let n = u32::try_from(comment.len()).unwrap().to_le_bytes();
            let pointer = [&[0x69, 0x87, 4, 0, 1, 0, 0, 0][..], &26_u32.to_le_bytes(), &[0; 4]].concat();
            let entry = [&[0x86, 0x92, 7, 0][..], &n, &44_u32.to_le_bytes(), &[0; 4]].concat();
            [&b"II*\0\x08\0\0\0\x01\0"[..], &pointer, &[1, 0], &entry, comment].concat()
        };
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
        let text = "a café, Steps: 20";
        for comment in [
            [b"UNICODE\0", text.as_bytes()].concat(),
            [b"UNICODE\0", text.as_bytes(), b"\0\0"].concat(),
            [&b"UNICODE\0"[..], &utf16(text)].concat(),
            [&b"UNICODE\0\xfe\xff"[..], &utf16(text)].concat(),
            [&b"ASCII\0\0\0"[..], text.as_bytes()].concat(),
        ] {
            let block = block(&comment);
            assert_eq!(Exif::new(&block).and_then(|exif| exif.user_comment()).as_deref(), Some(text), "{comment:?}");
        }
    }
}
