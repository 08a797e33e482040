//! What a picture file says beside its pixels: texts, EXIF and XMP, and from these which way up it is.
//!
//! The containers are walked here, because the decoders decompress whatever they find: a text of some kilobytes may fill
//! gigabytes. Here each text has a limit and all of them have one. A damaged or oversized part is passed over, and the rest
//! is read. It deliberately interprets no settings: that is [`crate::parameters`].

use miniz_oxide::inflate::decompress_slice_iter_to_slice;

use super::decode::{CUT_OFF, PictureFormat};
use super::exif::{self, Exif, utf8_or_latin1};
use super::{bmp_file, gif_file, jpeg_file, tiff_file};
use crate::error::{Error, Result};

/// The longest text that is read, decompressed, in bytes.
pub const MAX_TEXT_BYTES: usize = 2 << 20;
/// The most of all texts of a file, in bytes.
pub const MAX_TEXTS_BYTES: usize = 8 << 20;
/// The most that is decompressed of a file, texts that turn out too long included, in bytes.
const MAX_INFLATED_BYTES: usize = 64 << 20;
/// The most bytes that deflate makes of one.
const MOST_INFLATION: usize = 1032;

const XMP_KEY: &str = "XML:com.adobe.xmp";
const RAW_EXIF_KEY: &str = "Raw profile type exif";

/// What a file's metadata is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Everything that it says.
    Texts,
    /// Which way up it is: no other text is kept, or decompressed.
    Orientation,
}

/// What a file carries.
#[derive(Default)]
pub(super) struct Metadata {
    /// Keywords and texts in the order of the file.
    pub texts: Vec<(String, String)>,
    /// The EXIF block, with or without its prefix.
    exif: Option<Vec<u8>>,
    xmp: Option<String>,
    /// Whether the container ends before its own end; where only the orientation is wanted, it is up to the decoder to look
    /// in JPEG, GIF, BMP and TIFF.
    pub is_cut_off: bool,
    n_bytes: usize,
    n_inflated: usize,
}

impl Metadata {
    /// Reads what is there; what is damaged is passed over.
    pub fn read(bytes: &[u8], format: PictureFormat, purpose: Purpose) -> Self {
        let mut metadata = Metadata::default();
        match format {
            PictureFormat::Png => metadata.read_png(bytes, purpose),
            PictureFormat::Jpeg => metadata.read_jpeg(bytes),
            PictureFormat::WebP => metadata.read_webp(bytes),
            PictureFormat::Tiff => {
                let xmp = Exif::new(bytes).and_then(|exif| exif.bytes_of(exif::XMP));
                metadata.xmp = xmp.filter(|xmp| xmp.len() <= MAX_TEXT_BYTES).map(|xmp| utf8_or_latin1(xmp).into());
                if purpose == Purpose::Texts {
                    metadata.add_exif_texts(bytes);
                }
            }
            PictureFormat::Gif | PictureFormat::Bmp => {}
        }
        if purpose == Purpose::Orientation {
            metadata.texts.retain(|(key, _)| is_of_orientation(key.as_bytes()));
            return metadata;
        }
        metadata.is_cut_off |= match format {
            PictureFormat::Png | PictureFormat::WebP => false,
            PictureFormat::Jpeg => jpeg_file::inspect(bytes) == Err(CUT_OFF),
            PictureFormat::Gif => gif_file::first_frame(bytes).is_err(),
            PictureFormat::Bmp => bmp_file::inspect(bytes) == Err(CUT_OFF),
            PictureFormat::Tiff => tiff_file::is_cut_off(bytes),
        };
        if let Some(exif) = metadata.exif.take() {
            metadata.add_exif_texts(&exif);
            metadata.exif = Some(exif);
        }
        if !matches!(format, PictureFormat::Png)
            && let Some(xmp) = metadata.xmp.clone()
        {
            metadata.add_text(XMP_KEY.to_owned(), xmp);
        }
        metadata
    }

    /// The orientation, 1 to 8, as Pillow's `exif_transpose` finds it: EXIF's, and where that has none, XMP's.
    pub fn orientation(&self, bytes: &[u8], format: PictureFormat) -> u8 {
        let named = |key: &str| self.texts.iter().rev().find(|(k, _)| k == key).map(|(_, text)| text.as_str());
        let from_text = if format == PictureFormat::Png { named(RAW_EXIF_KEY).and_then(raw_profile) } else { None };
        let block = match format {
            PictureFormat::Tiff => Some(bytes),
            _ => self.exif.as_deref().or(from_text.as_deref()),
        };
        let number = block.and_then(Exif::new).and_then(|exif| exif.orientation()).or_else(|| {
            let xmp = if format == PictureFormat::Png { named(XMP_KEY) } else { None };
            xmp_orientation(xmp.or(self.xmp.as_deref())?)
        });
        number.and_then(|number| u8::try_from(number).ok()).filter(|number| (1..=8).contains(number)).unwrap_or(1)
    }

    fn add_text(&mut self, key: String, text: String) {
        if text.len() <= MAX_TEXT_BYTES && self.n_bytes + key.len() + text.len() <= MAX_TEXTS_BYTES {
            self.n_bytes += key.len() + text.len();
            self.texts.push((key, text));
        }
    }

    /// Decompresses a text, where it is not too long.
    fn inflate(&mut self, packed: &[u8]) -> Option<Vec<u8>> {
        let room = MAX_TEXT_BYTES.min(MAX_TEXTS_BYTES - self.n_bytes).min(MAX_INFLATED_BYTES - self.n_inflated);
        let mut buffer = vec![0; room.min(packed.len().saturating_mul(MOST_INFLATION))];
        let inflated = decompress_slice_iter_to_slice(&mut buffer, std::iter::once(packed), true, false);
        self.n_inflated += *inflated.as_ref().unwrap_or(&buffer.len());
        buffer.get(..inflated.ok()?).map(<[u8]>::to_vec)
    }

    fn read_png(&mut self, bytes: &[u8], purpose: Purpose) {
        self.is_cut_off = true;
        for (chunk, checksum) in png_chunks(bytes) {
            let (kind, data) = chunk.split_at(4);
            if kind == b"IEND" {
                self.is_cut_off = false;
                return;
            }
            if matches!(kind, b"tEXt" | b"zTXt" | b"iTXt" | b"eXIf")
                && (purpose == Purpose::Texts || needs_text(kind, data))
                && crc32(chunk) == checksum
            {
                // What cannot be read is passed over.
                let _ = self.read_png_chunk(kind, data, purpose);
            }
        }
    }

    fn read_png_chunk(&mut self, kind: &[u8], data: &[u8], purpose: Purpose) -> Option<()> {
        if kind == b"eXIf" {
            self.exif = Some(data.to_vec()).filter(|exif| exif.len() <= MAX_TEXT_BYTES);
            return Some(());
        }
        let (key, rest) = split_at_nul(data)?;
        if !(1..=79).contains(&key.len()) {
            return None;
        }
        let (text, is_utf8) = match kind {
            b"tEXt" => (rest.to_vec(), false),
            b"zTXt" => (self.inflate(rest.strip_prefix(&[0])?)?, false),
            _ => {
                let ([is_packed, method], rest) = rest.split_first_chunk::<2>()?;
                let (_language, rest) = split_at_nul(rest)?;
                let (_translated, text) = split_at_nul(rest)?;
                match (is_packed, method) {
                    (0, _) => (text.to_vec(), true),
                    (1, 0) => (self.inflate(text)?, true),
                    _ => return None,
                }
            }
        };
        let text = match String::from_utf8(text) {
            Ok(text) => text,
            Err(_) if is_utf8 => return None,
            Err(error) => utf8_or_latin1(error.as_bytes()).into_owned(),
        };
        // Pillow takes a tEXt of this name for the block itself; a block before the pixels would be this one too.
        if kind == b"tEXt" && key == b"exif" && self.exif.is_none() {
            self.exif = Some(rest.to_vec());
        }
        let key: String = key.iter().map(|&byte| char::from(byte)).collect();
        if purpose == Purpose::Orientation {
            // The last one counts.
            let same = self.texts.iter().position(|(other, _)| *other == key);
            if let Some((key, text)) = same.map(|at| self.texts.swap_remove(at)) {
                self.n_bytes -= key.len() + text.len();
            }
        }
        self.add_text(key, text);
        Some(())
    }

    fn read_jpeg(&mut self, bytes: &[u8]) {
        for (marker, payload) in jpeg_file::segments(bytes) {
            match marker {
                jpeg_file::APP1 if payload.starts_with(b"Exif\0\0") => match &mut self.exif {
                    // A long block goes on in the next segment.
                    Some(exif) if exif.len() + payload.len() <= MAX_TEXT_BYTES => exif.extend(&payload[6..]),
                    Some(_) => {}
                    None => self.exif = Some(payload.to_vec()),
                },
                jpeg_file::APP1 => {
                    if let Some(xmp) = payload.strip_prefix(b"http://ns.adobe.com/xap/1.0/\0") {
                        self.xmp = Some(utf8_or_latin1(xmp).into_owned());
                    }
                }
                jpeg_file::COM => {
                    self.add_text("Comment".to_owned(), utf8_or_latin1(payload).trim_matches('\0').to_owned());
                }
                _ => {}
            }
        }
    }

    fn read_webp(&mut self, bytes: &[u8]) {
        let is_padded = |length: usize| length + length % 2;
        let file_length = bytes.get(4..8).and_then(|length| Some(u32::from_le_bytes(length.try_into().ok()?) as usize));
        self.is_cut_off = file_length.is_none_or(|length| length.saturating_add(8) > is_padded(bytes.len()));
        let mut rest = bytes.get(12..).unwrap_or_default();
        while let Some((header, tail)) = rest.split_first_chunk::<8>() {
            let (kind, length) = header.split_at(4);
            let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
            let Some(data) = tail.get(..length) else {
                self.is_cut_off = true;
                return;
            };
            match kind {
                b"EXIF" if length <= MAX_TEXT_BYTES => self.exif = Some(data.to_vec()),
                b"XMP " if length <= MAX_TEXT_BYTES => self.xmp = Some(utf8_or_latin1(data).into_owned()),
                _ => {}
            }
            rest = tail.get(is_padded(length)..).unwrap_or_default();
        }
    }

    fn add_exif_texts(&mut self, block: &[u8]) {
        let Some(exif) = Exif::new(block) else { return };
        for (tag, key) in [
            (exif::IMAGE_DESCRIPTION, "ImageDescription"),
            (exif::MAKE, "Make"),
            (exif::MODEL, "Model"),
            (exif::SOFTWARE, "Software"),
        ] {
            if let Some(text) = exif.text(tag) {
                self.add_text(key.to_owned(), text);
            }
        }
        if let Some(text) = exif.user_comment() {
            // Where a PNG has a keyword, AUTOMATIC1111 writes the same text in JPEG and WebP as the user comment.
            let is_settings = text.starts_with("Steps: ") || text.contains("\nSteps: ");
            self.add_text(if is_settings { "parameters" } else { "UserComment" }.to_owned(), text);
        }
    }
}

/// The most bytes that reading the orientation takes.
pub(super) fn orientation_bytes(bytes: &[u8], format: PictureFormat) -> u64 {
    let longest = match format {
        PictureFormat::Gif | PictureFormat::Bmp => 0,
        PictureFormat::Jpeg | PictureFormat::WebP | PictureFormat::Tiff => bytes.len(),
        PictureFormat::Png => png_chunks(bytes)
            .map(|(chunk, _)| chunk.split_at(4))
            .filter(|(kind, data)| needs_text(kind, data))
            .map(
                |(kind, data)| {
                    if kind == b"tEXt" || kind == b"eXIf" { data.len() } else { data.len() * MOST_INFLATION }
                },
            )
            .max()
            .unwrap_or(0),
    };
    // An EXIF block and two texts that stay; of one a copy decompressed and one in another encoding, or its digits.
    8 * longest.min(MAX_TEXT_BYTES) as u64
}

/// The chunks of a PNG file: kind and data, and the checksum of both.
fn png_chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8], u32)> {
    let mut rest = bytes.get(8..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (length, tail) = rest.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        let (chunk, tail) = tail.split_at_checked(length.saturating_add(4))?;
        let (checksum, after) = tail.split_first_chunk::<4>()?;
        rest = after;
        Some((chunk, u32::from_be_bytes(*checksum)))
    })
}

/// Whether a PNG chunk may say which way up the picture is.
fn needs_text(kind: &[u8], data: &[u8]) -> bool {
    match kind {
        b"eXIf" => true,
        b"tEXt" | b"zTXt" | b"iTXt" => split_at_nul(data).is_some_and(|(key, _)| is_of_orientation(key)),
        _ => false,
    }
}

/// Keywords of the texts that may say which way up the picture is.
fn is_of_orientation(key: &[u8]) -> bool {
    [XMP_KEY.as_bytes(), RAW_EXIF_KEY.as_bytes(), b"exif"].contains(&key)
}

/// All texts of a picture file as pairs of keyword and text, in the order of the file: of a PNG its text chunks, also those
/// behind the pixels; of JPEG, WebP and TIFF what EXIF, XMP and comments hold. A text in `tEXt` is UTF-8 where it can be,
/// and Latin-1 otherwise. A damaged part, or one that is longer than 2 MiB, is left out.
///
/// # Errors
/// [`Error::Image`] if the file is no picture, or is cut off.
pub fn picture_text(bytes: &[u8]) -> Result<Vec<(String, String)>> {
    let format = PictureFormat::of(bytes)?;
    let metadata = Metadata::read(bytes, format, Purpose::Texts);
    if metadata.is_cut_off {
        let reason = format!("damaged {format} file: {CUT_OFF}");
        return Err(Error::Image { what: "picture".to_owned(), reason });
    }
    Ok(metadata.texts)
}

/// The bytes of ImageMagick's hexadecimal form: three lines of header, then digits in lines.
fn raw_profile(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.split('\n').skip(3).flat_map(str::bytes).filter(|b| !b.is_ascii_whitespace()).collect();
    let (pairs, odd) = digits.as_chunks::<2>();
    let value = |digit: u8| char::from(digit).to_digit(16);
    let bytes = pairs.iter().map(|&[high, low]| Some((value(high)? * 16 + value(low)?) as u8)).collect();
    if odd.is_empty() { bytes } else { None }
}

/// The digit behind the first `tiff:Orientation`, as an attribute or as an element.
fn xmp_orientation(xmp: &str) -> Option<u32> {
    xmp.split("tiff:Orientation").skip(1).find_map(|after| {
        let value = after.strip_prefix("=\"").or_else(|| after.strip_prefix('>'))?;
        value.chars().next()?.to_digit(10)
    })
}

fn split_at_nul(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|&byte| byte == 0)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// The checksum of PNG chunks.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut i = 0;
        while i < 256 {
            let (mut value, mut bit) = (i as u32, 0);
            while bit < 8 {
                value = if value & 1 == 1 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 };
                bit += 1;
            }
            table[i] = value;
            i += 1;
        }
        table
    };
    !bytes.iter().fold(u32::MAX, |crc, &byte| TABLE[((crc ^ u32::from(byte)) & 0xff) as usize] ^ (crc >> 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_png() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b"IEND"), 0xae42_6082);
    }

    #[test]
    fn orientations_in_xmp_are_found_as_pillow_finds_them() {
        for (xmp, expected) in [
            (r#"<x tiff:Orientation="6"/>"#, Some(6)),
            ("<tiff:Orientation>8</tiff:Orientation>", Some(8)),
            (r#"<a tiff:Orientation="x" tiff:Orientation="3"/>"#, Some(3)),
            ("<tiff:Orientation> 8", None),
            ("exif:Orientation=\"6\"", None),
            ("", None),
        ] {
            assert_eq!(xmp_orientation(xmp), expected, "{xmp}");
        }
    }
}
