//! Picture files to levels: PNG, JPEG, WebP, GIF, BMP and TIFF, within a bound of memory, and whole or not at all.
//!
//! Before anything large is allocated it is known what decoding will take: the buffer (in which channels are converted in
//! place), what the decoder keeps beside it, and a second picture where it is turned by a quarter. Decoders run in their
//! strictest mode, since most of them would rather fill the missing part of a damaged file with grey.

use std::fmt;
use std::io::Cursor;

use ::image::codecs::bmp::BmpDecoder;
use ::image::codecs::gif::GifDecoder;
use ::image::codecs::tiff::TiffDecoder;
use ::image::codecs::webp::WebPDecoder;
use ::image::metadata::Orientation;
use ::image::{ColorType, DynamicImage, ImageBuffer, ImageDecoder, ImageError, Limits};
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::metadata::{Metadata, Purpose, orientation_bytes};
use super::{RgbImage, bmp_file, gif_file, jpeg_file, jpeg_scan, tiff_file, webp_file};
use crate::error::{Error, Result};

/// The longest side of a picture that is read, in pixels.
pub const MAX_SIDE: u32 = 16_384;
/// The most memory that reading a picture may take beside its file, in bytes.
pub const MAX_DECODED_BYTES: u64 = 512 << 20;
/// What decoders need whatever the picture's size: tables, windows, rows.
const FIXED_BYTES: u64 = 1 << 20;

/// What is said of a file that ends before its picture does.
pub(super) const CUT_OFF: &str = "it is cut off";

/// A format that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureFormat {
    /// Portable Network Graphics; of an animated one the still picture.
    Png,
    /// JPEG, baseline or progressive.
    Jpeg,
    /// WebP, lossy or lossless; of an animated one the first frame.
    WebP,
    /// GIF; of an animated one the first frame.
    Gif,
    /// Windows bitmap.
    Bmp,
    /// TIFF with 8 or 16 bits a channel or a palette of 256 colours; of several pictures the first.
    Tiff,
}

impl fmt::Display for PictureFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PictureFormat::Png => "PNG",
            PictureFormat::Jpeg => "JPEG",
            PictureFormat::WebP => "WebP",
            PictureFormat::Gif => "GIF",
            PictureFormat::Bmp => "BMP",
            PictureFormat::Tiff => "TIFF",
        })
    }
}

/// What works, as messages end.
const WORKS: &str = "use PNG, JPEG, WebP, GIF, BMP or TIFF";

/// Beginnings of files that people take for pictures, and what they are: offset, bytes, name.
const OTHERS: [(usize, &[u8], &str); 23] = [
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypavis", "AVIF"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftyphev", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (4, b"ftypmsf1", "HEIC"),
    (4, b"ftypcrx ", "Camera raw"),
    (4, b"ftyp", "Video"),
    (0, b"\x1a\x45\xdf\xa3", "Video"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"8BPS", "Photoshop"),
    (0, b"%PDF", "PDF"),
    (0, b"<svg", "SVG"),
    (0, b"<?xml", "SVG and other XML"),
    (0, b"\0\0\x01\0", "ICO"),
    (0, b"qoif", "QOI"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"DDS ", "DDS"),
    (0, b"farbfeld", "farbfeld"),
];

impl PictureFormat {
    /// The format of a file by its first bytes.
    ///
    /// # Errors
    /// [`Error::Image`] for all others, with their name where it is known and what works.
    pub fn of(bytes: &[u8]) -> Result<Self> {
        Ok(match bytes {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => PictureFormat::Png,
            _ if jpeg_file::is_jpeg(bytes) => PictureFormat::Jpeg,
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => PictureFormat::WebP,
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => PictureFormat::Gif,
            [b'B', b'M', ..] if bytes.len() > 26 => PictureFormat::Bmp,
            [b'I', b'I', b'*' | b'+', 0, ..] | [b'M', b'M', 0, b'*' | b'+', ..] => PictureFormat::Tiff,
            [] => return Err(unreadable(format!("the file is empty: {WORKS}"))),
            _ => {
                let starts = |(at, start, _): &&(usize, &[u8], &str)| {
                    bytes.get(*at..).is_some_and(|bytes| bytes.starts_with(start))
                };
                return Err(unreadable(match OTHERS.iter().find(starts) {
                    Some((_, _, name)) => format!("{name} files are not supported: {WORKS}"),
                    None => format!("not a picture file that can be read: {WORKS}"),
                }));
            }
        })
    }
}

/// 8-bit levels of a file, with 1 (grey), 2 (grey and alpha), 3 or 4 channels, not turned yet.
struct Levels {
    width: u32,
    height: u32,
    n_channels: usize,
    levels: Vec<u8>,
}

/// Reads a picture file as diffusers' `load_image`: turned upright by its orientation, then RGB.
///
/// Of 16-bit channels the high byte counts. For 16-bit *grey* this is better than Pillow 13, which clips every level
/// above 255 to white.
///
/// # Errors
/// [`Error::Image`] for other formats, damaged files, a side above [`MAX_SIDE`] or pixels above [`MAX_DECODED_BYTES`].
pub fn decode(bytes: &[u8]) -> Result<RgbImage> {
    let (width, height, pixels) = upright::<3>(bytes)?;
    RgbImage::new(width, height, pixels)
}

/// Reads a picture file as a mask, white where something is to be repainted, and says what is worth knowing about it.
///
/// # Errors
/// As [`decode`].
pub fn decode_mask(bytes: &[u8]) -> Result<(RgbImage, Option<&'static str>)> {
    let (width, height, rgba) = upright::<4>(bytes)?;
    mask_of_rgba(width, height, rgba)
}

/// Reads a mask in the form of OpenAI's programs, which often hand over the picture itself with holes in it: where anything
/// is transparent, that is repainted, whatever the colours are. Without any transparency it is a mask as for
/// [`decode_mask`].
///
/// # Errors
/// As [`decode`].
pub fn decode_edit_mask(bytes: &[u8]) -> Result<RgbImage> {
    let (width, height, mut rgba) = upright::<4>(bytes)?;
    let first = rgba.get(3).copied();
    let (pixels, _) = rgba.as_chunks_mut::<4>();
    if pixels.iter().any(|pixel| Some(pixel[3]) != first) {
        // One colour, so that alpha is what counts.
        pixels.iter_mut().for_each(|pixel| pixel[..3].fill(0));
    }
    mask_of_rgba(width, height, rgba).map(|(mask, _)| mask)
}

/// How opaque each pixel of a picture file is, as levels of grey; `None` where that is the same everywhere.
///
/// # Errors
/// As [`decode`].
pub fn decode_opacity(bytes: &[u8]) -> Result<Option<RgbImage>> {
    let (width, height, mut rgba) = upright::<4>(bytes)?;
    let first = rgba.get(3).copied();
    let (pixels, _) = rgba.as_chunks_mut::<4>();
    if pixels.iter().all(|pixel| Some(pixel[3]) == first) {
        return Ok(None);
    }
    pixels.iter_mut().for_each(|pixel| *pixel = [pixel[3]; 4]);
    convert(&mut rgba, width * height, 4, 3);
    RgbImage::new(width, height, rgba).map(Some)
}

/// A mask from red, green, blue and alpha. Where its colours are the same everywhere and alpha is not, the shape is in the
/// alpha channel, in the form of OpenAI's programs: what is transparent is repainted. Otherwise the colours count, white is
/// repainted, and where alpha varies as well, the text says that it has no effect.
///
/// # Errors
/// [`Error::Image`] if there are not `width * height * 4` levels.
pub fn mask_of_rgba(width: usize, height: usize, mut rgba: Vec<u8>) -> Result<(RgbImage, Option<&'static str>)> {
    let (pixels, _) = rgba.as_chunks::<4>();
    let first = pixels.first().copied().unwrap_or_default();
    let is_one_colour = pixels.iter().all(|pixel| pixel[..3] == first[..3]);
    let is_one_alpha = pixels.iter().all(|pixel| pixel[3] == first[3]);
    let mut note = None;
    if is_one_colour && !is_one_alpha {
        rgba.as_chunks_mut::<4>().0.iter_mut().for_each(|pixel| *pixel = [255 - pixel[3]; 4]);
    } else if !is_one_alpha {
        note = Some("the mask has colours and transparency: its colours are used, white is repainted");
    }
    if rgba.len() == width.saturating_mul(height).saturating_mul(4) {
        convert(&mut rgba, width * height, 4, 3);
    }
    Ok((RgbImage::new(width, height, rgba)?, note))
}

/// The most bytes that reading the file takes beside the file itself, before any of them is taken.
///
/// # Errors
/// As [`decode`], for what the header tells.
pub fn memory_needed(bytes: &[u8]) -> Result<u64> {
    let mut needed = 0;
    // The wish to allocate is answered with a refusal, which is not an error here.
    let stop = &mut |_: u32, _: u32, n_bytes: u64| {
        needed = n_bytes;
        Err(unreadable(String::new()))
    };
    let format = PictureFormat::of(bytes)?;
    let n_copies = n_copies(Metadata::read(bytes, format, Purpose::Orientation).orientation(bytes, format));
    match levels(bytes, format, n_copies, 4, stop) {
        Err(error) if needed == 0 => Err(error),
        _ => Ok(needed),
    }
}

/// Refuses what is too large.
fn check_size(width: u32, height: u32, n_bytes: u64) -> Result<()> {
    if width > MAX_SIDE || height > MAX_SIDE || n_bytes > MAX_DECODED_BYTES {
        return Err(unreadable(format!(
            "{width}x{height} pixels are too many: at most {MAX_SIDE} a side and {} MiB in memory",
            MAX_DECODED_BYTES >> 20
        )));
    }
    Ok(())
}

/// Width, height and `C` channels of every pixel, turned upright.
fn upright<const C: usize>(bytes: &[u8]) -> Result<(usize, usize, Vec<u8>)> {
    let format = PictureFormat::of(bytes)?;
    let metadata = Metadata::read(bytes, format, Purpose::Orientation);
    if metadata.is_cut_off {
        return Err(damaged(format, CUT_OFF));
    }
    let orientation = metadata.orientation(bytes, format);
    drop(metadata);
    let Levels { width, height, n_channels, mut levels } =
        levels(bytes, format, n_copies(orientation), C, &mut check_size)?;
    let (w, h) = (width as usize, height as usize);
    convert(&mut levels, w * h, n_channels, C);
    let Some(turn) = Orientation::from_exif(orientation).filter(|turn| *turn != Orientation::NoTransforms) else {
        return Ok((w, h, levels));
    };
    let picture = match C {
        3 => ImageBuffer::from_raw(width, height, levels).map(DynamicImage::ImageRgb8),
        _ => ImageBuffer::from_raw(width, height, levels).map(DynamicImage::ImageRgba8),
    };
    let mut picture = picture.ok_or_else(|| damaged(format, "its size is wrong"))?;
    picture.apply_orientation(turn);
    Ok((picture.width() as usize, picture.height() as usize, picture.into_bytes()))
}

/// Pictures that are held at a time: a second one where the sides are exchanged.
fn n_copies(orientation: u8) -> u64 {
    if orientation > 4 { 2 } else { 1 }
}

/// Decodes. `allow` is asked once, with the size in pixels and the bytes that everything will take, `n_copies` pictures of
/// `wanted` channels included.
fn levels(
    bytes: &[u8],
    format: PictureFormat,
    n_copies: u64,
    wanted: usize,
    allow: &mut dyn FnMut(u32, u32, u64) -> Result<()>,
) -> Result<Levels> {
    let mut allow = |width: u32, height: u32, per_pixel: u64, more: u64| {
        let n_pixels = u64::from(width) * u64::from(height);
        let copies = (n_copies - 1).saturating_mul(wanted as u64);
        let needed = n_pixels.saturating_mul(per_pixel.max(wanted as u64) + copies);
        let pixels = needed.saturating_add(more);
        // The orientation was read before, and let go.
        allow(width, height, pixels.max(orientation_bytes(bytes, format)).saturating_add(FIXED_BYTES))
    };
    match format {
        PictureFormat::Png => png(bytes, wanted, &mut allow),
        PictureFormat::Jpeg => jpeg(bytes, wanted, &mut allow),
        PictureFormat::WebP => {
            webp_file::inspect(bytes).map_err(|reason| damaged(format, reason))?;
            let decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(|e| failed(format, &e))?;
            // Beside the picture: a lossless one as RGBA, planes of a lossy one and of its alpha; of an animation a frame and
            // the canvas.
            let beside = if decoder.has_animation() { 15 } else { 7 };
            read(decoder, format, wanted, (beside, 0), &mut allow)
        }
        PictureFormat::Gif => {
            let frame = gif_file::first_frame(bytes).map_err(|reason| damaged(format, reason))?;
            // A frame beside the screen, of the screen's size at most.
            let decoder = GifDecoder::new(Cursor::new(bytes)).map_err(|e| failed(format, &e))?;
            let mut screen = read(decoder, format, wanted, (4, 0), &mut allow)?;
            if let Some(frame) = frame {
                frame.fill_outside(&mut screen.levels, screen.width as usize);
            }
            Ok(screen)
        }
        PictureFormat::Bmp => {
            bmp_file::inspect(bytes).map_err(|reason| damaged(format, reason))?;
            let decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(|e| failed(format, &e))?;
            read(decoder, format, wanted, (0, 0), &mut allow)
        }
        PictureFormat::Tiff => {
            let lists = tiff_file::inspect(bytes).map_err(|reason| damaged(format, reason))?;
            let palette = tiff_file::palette(bytes);
            let (file, copied) = palette.as_ref().map_or((bytes, 0), |palette| (&palette.file, bytes.len() as u64));
            let decoder = TiffDecoder::new(Cursor::new(file)).map_err(|e| match e {
                ImageError::Unsupported(_) => unreadable(format!(
                    "TIFF files {} are not supported: save it as PNG, or as RGB with 8 bits a channel",
                    tiff_file::colours(bytes)
                )),
                other => failed(format, &other),
            })?;
            // The decoder's own copy; 4 channels of CMYK become 3. A strip may hold the whole picture once more.
            let beside =
                2 * u64::from(decoder.color_type().bytes_per_pixel() / 3 + decoder.color_type().bytes_per_pixel());
            let mut picture = read(decoder, format, wanted, (beside, lists + copied), &mut allow)?;
            if let Some(palette) = palette {
                palette.colour(&mut picture.levels);
                picture.n_channels = 3;
            }
            Ok(picture)
        }
    }
}

/// What [`levels`] is asked by the decoders: width, height, bytes a pixel, more bytes.
type Allow<'a> = dyn FnMut(u32, u32, u64, u64) -> Result<()> + 'a;

/// A buffer for as many bytes as the decoder writes, with room for the wanted channels.
fn buffer(n_pixels: usize, bytes_per_pixel: usize, wanted: usize) -> Vec<u8> {
    let mut buffer = vec![0; n_pixels * bytes_per_pixel.max(wanted)];
    buffer.truncate(n_pixels * bytes_per_pixel);
    buffer
}

fn png(bytes: &[u8], wanted: usize, allow: &mut Allow<'_>) -> Result<Levels> {
    let format = PictureFormat::Png;
    let fail = |error: png::DecodingError| {
        let reason = match &error {
            png::DecodingError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => CUT_OFF.to_owned(),
            png::DecodingError::LimitsExceeded => "a part of it is too long".to_owned(),
            other => other.to_string(),
        };
        damaged(format, &reason)
    };
    let mut options = png::DecodeOptions::default();
    // Texts and profiles are compressed and not needed here.
    options.set_ignore_text_chunk(true);
    options.set_ignore_iccp_chunk(true);
    options.set_ignore_adler32(false);
    // A damaged tRNS is a lost mask, not a trifle.
    options.set_skip_ancillary_crc_failures(false);
    let mut decoder = png::Decoder::new_with_options(Cursor::new(bytes), options);
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let header = decoder.read_header_info().map_err(fail)?;
    let (width, height) = (header.width, header.height);
    let mut reader = decoder.read_info().map_err(fail)?;
    let n_channels = reader.output_color_type().0.samples();
    // Rows as they come, and as they were before.
    let rows = 4 * 8 * u64::from(width);
    allow(width, height, n_channels as u64, rows)?;
    let mut levels = buffer(width as usize * height as usize, n_channels, wanted);
    reader.next_frame(&mut levels).map_err(fail)?;
    reader.finish().map_err(fail)?;
    Ok(Levels { width, height, n_channels, levels })
}

fn jpeg(bytes: &[u8], wanted: usize, allow: &mut Allow<'_>) -> Result<Levels> {
    let format = PictureFormat::Jpeg;
    let fail = |error: zune_jpeg::errors::DecodeErrors| damaged(format, &format!("{error:?}"));
    let frame = jpeg_file::inspect(bytes).map_err(|reason| damaged(format, reason))?;
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX));
    // Rows of coefficients, and of levels before and after they are brought to full size.
    let rows = 256 * u64::from(frame.width);
    let needed = bytes.len() as u64 + frame.coefficient_bytes + rows;
    let n_channels = |space: ColorSpace| if matches!(space, ColorSpace::Luma) { 1 } else { 3 };
    allow(frame.width, frame.height, 3, needed)?;
    jpeg_scan::check(bytes).map_err(|reason| damaged(format, reason))?;
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(fail)?;
    let space = decoder.input_colorspace().unwrap_or(ColorSpace::RGB);
    let n_channels = n_channels(space);
    let out = if n_channels == 1 { ColorSpace::Luma } else { ColorSpace::RGB };
    decoder.set_options(options.jpeg_set_out_colorspace(out));
    let mut levels = buffer(frame.width as usize * frame.height as usize, n_channels, wanted);
    if decoder.output_buffer_size() != Some(levels.len()) {
        return Err(damaged(format, "its headers contradict each other"));
    }
    decoder.decode_into(&mut levels).map_err(fail)?;
    Ok(Levels { width: frame.width, height: frame.height, n_channels, levels })
}

/// Reads with a decoder that takes so many more bytes a pixel than its output, and so many more whatever its pixels.
fn read<D: ImageDecoder>(
    mut decoder: D,
    format: PictureFormat,
    wanted: usize,
    (beside, more): (u64, u64),
    allow: &mut Allow<'_>,
) -> Result<Levels> {
    let (width, height) = decoder.dimensions();
    let color = decoder.color_type();
    let (n_channels, is_wide) = match color {
        ColorType::L8 => (1, false),
        ColorType::La8 => (2, false),
        ColorType::Rgb8 => (3, false),
        ColorType::Rgba8 => (4, false),
        ColorType::L16 => (1, true),
        ColorType::La16 => (2, true),
        ColorType::Rgb16 => (3, true),
        ColorType::Rgba16 => (4, true),
        _ => {
            let what = "with other channels than 8 or 16 bits wide";
            return Err(unreadable(format!("{format} files {what} are not supported: save it with 8")));
        }
    };
    let bytes_per_pixel = usize::from(color.bytes_per_pixel());
    allow(width, height, bytes_per_pixel.max(wanted) as u64 + beside, more)?;
    let n_pixels = width as usize * height as usize;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(n_pixels as u64 * (bytes_per_pixel as u64 + beside) + FIXED_BYTES);
    decoder.set_limits(limits).map_err(|e| failed(format, &e))?;
    let mut levels = buffer(n_pixels, bytes_per_pixel, wanted);
    decoder.read_image(&mut levels).map_err(|e| failed(format, &e))?;
    if is_wide {
        for i in 0..n_pixels * n_channels {
            // The high byte of what is in the machine's order.
            levels[i] = (u16::from_ne_bytes([levels[2 * i], levels[2 * i + 1]]) >> 8) as u8;
        }
        levels.truncate(n_pixels * n_channels);
    }
    Ok(Levels { width, height, n_channels, levels })
}

/// Converts channels in place: grey is all three colours, what has no alpha is opaque.
fn convert(levels: &mut Vec<u8>, n_pixels: usize, from: usize, to: usize) {
    if from == to {
        return;
    }
    let pixel = |levels: &[u8], i: usize| -> [u8; 4] {
        let p = &levels[i * from..(i + 1) * from];
        match *p {
            [grey] => [grey, grey, grey, 255],
            [grey, alpha] => [grey, grey, grey, alpha],
            [red, green, blue] => [red, green, blue, 255],
            _ => [p[0], p[1], p[2], p[3]],
        }
    };
    if from > to {
        for i in 0..n_pixels {
            let pixel = pixel(levels, i);
            levels[i * to..(i + 1) * to].copy_from_slice(&pixel[..to]);
        }
        levels.truncate(n_pixels * to);
    } else {
        levels.resize(n_pixels * to, 0);
        for i in (0..n_pixels).rev() {
            let pixel = pixel(levels, i);
            levels[i * to..(i + 1) * to].copy_from_slice(&pixel[..to]);
        }
    }
}

fn unreadable(reason: String) -> Error {
    Error::Image { what: "picture".to_owned(), reason }
}

fn damaged(format: PictureFormat, reason: &str) -> Error {
    unreadable(format!("damaged {format} file: {reason}"))
}

fn failed(format: PictureFormat, error: &ImageError) -> Error {
    match error {
        ImageError::Limits(_) => unreadable(format!(
            "too large: at most {MAX_SIDE} pixels a side and {} MiB in memory",
            MAX_DECODED_BYTES >> 20
        )),
        ImageError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => damaged(format, CUT_OFF),
        ImageError::Unsupported(_) => unreadable(format!(
            "this kind of {format} file is not supported: save it as PNG, or in its most common form"
        )),
        other => damaged(format, &other.to_string()),
    }
}
