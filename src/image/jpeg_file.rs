//! The segments of a JPEG file: what they hold beside the pixels, and whether all scans are there.
//!
//! Decoders of JPEG draw what they got and fill the rest with grey. This looks first whether the file has its end, every
//! component and, in a progressive file, every bit of every coefficient. Whether the scans hold every block is looked at in
//! [`super::jpeg_scan`], once it is known that the picture is not too large.

use super::decode::CUT_OFF;

/// What the decoder needs to know beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub width: u32,
    pub height: u32,
    /// Bytes of all coefficients, which a decoder keeps where they come in more than one scan; otherwise 0.
    pub coefficient_bytes: u64,
}

const SOI: u8 = 0xd8;
pub(super) const EOI: u8 = 0xd9;
pub(super) const SOS: u8 = 0xda;
pub(super) const COM: u8 = 0xfe;
pub(super) const APP1: u8 = 0xe1;

/// A marker, what follows it (without its length), and the place behind it.
pub(super) struct Segment<'a> {
    pub marker: u8,
    pub payload: &'a [u8],
    pub end: usize,
}

/// The segment at or after `from`; fill bytes and damaged ones between segments are passed over. `None` at the end.
pub(super) fn segment(bytes: &[u8], from: usize) -> Option<Segment<'_>> {
    let mut at = from;
    loop {
        at += bytes.get(at..)?.iter().position(|&byte| byte == 0xff)?;
        let marker = *bytes.get(at + 1)?;
        match marker {
            // A fill byte, and a 0xff of scan data.
            0xff => at += 1,
            0x00 => at += 2,
            0x01 | 0xd0..=EOI => return Some(Segment { marker, payload: &[], end: at + 2 }),
            _ => {
                let length = u16::from_be_bytes(bytes.get(at + 2..at + 4)?.try_into().ok()?);
                let end = at + 2 + usize::from(length);
                let payload = bytes.get(at + 4..end.max(at + 4))?;
                return Some(Segment { marker, payload, end: end.max(at + 4) });
            }
        }
    }
}

/// The markers and contents of the file's segments in front of its first scan, where Pillow looks, too.
pub(super) fn segments(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let Segment { marker, payload, end } = segment(bytes, at)?;
        at = end;
        (marker != EOI && marker != SOS).then_some((marker, payload))
    })
}

/// A component, and which bits of its 64 coefficients came: 0 once the lowest one did.
struct Component {
    id: u8,
    samples: u64,
    lowest_bit: [u8; 64],
}

/// Looks whether the file is whole.
///
/// # Errors
/// What is missing, in words.
pub(super) fn inspect(bytes: &[u8]) -> Result<Frame, &'static str> {
    const NO_FRAME: &str = "it has no picture inside";
    let mut at = 0;
    let mut n_scans = 0_usize;
    let mut found: Option<(Frame, bool, Vec<Component>)> = None;
    loop {
        let Segment { marker, payload, end } = segment(bytes, at).ok_or(CUT_OFF)?;
        at = end;
        match marker {
            EOI => break,
            // All frame headers; between them lie the tables of Huffman codes and arithmetic coding, and a reserved one.
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                if found.is_some() {
                    return Err("it has two frame headers");
                }
                found = Some(frame_header(marker, payload).ok_or("its frame header is damaged")?);
            }
            SOS => {
                let (_, is_progressive, components) = found.as_mut().ok_or(NO_FRAME)?;
                n_scans += 1;
                scan_header(payload, *is_progressive, components).ok_or("a scan's header is damaged")?;
            }
            _ => {}
        }
    }
    let (mut frame, is_progressive, components) = found.ok_or(NO_FRAME)?;
    if components.iter().any(|component| component.lowest_bit.iter().any(|&bit| bit != 0)) {
        return Err("a scan is missing");
    }
    if !is_progressive && n_scans <= 1 {
        frame.coefficient_bytes = 0;
    }
    Ok(frame)
}

fn frame_header(marker: u8, payload: &[u8]) -> Option<(Frame, bool, Vec<Component>)> {
    let side = |at: usize| Some(u32::from(u16::from_be_bytes(payload.get(at..at + 2)?.try_into().ok()?)));
    let (height, width) = (side(1)?, side(3)?);
    let n_components = usize::from(*payload.get(5)?);
    let mut components = Vec::new();
    let (mut most_h, mut most_v) = (1, 1);
    for entry in payload.get(6..6 + 3 * n_components)?.chunks_exact(3) {
        let (h, v) = (u64::from(entry[1] >> 4), u64::from(entry[1] & 15));
        (most_h, most_v) = (most_h.max(h), most_v.max(v));
        components.push(Component { id: entry[0], samples: h * v, lowest_bit: [u8::MAX; 64] });
    }
    let n_units = u64::from(width).div_ceil(8 * most_h) * u64::from(height).div_ceil(8 * most_v);
    let samples: u64 = components.iter().map(|component| component.samples).sum();
    let frame = Frame { width, height, coefficient_bytes: n_units * samples * 64 * 2 };
    let is_progressive = matches!(marker, 0xc2 | 0xc6 | 0xca | 0xce);
    Some((frame, is_progressive, components))
}

/// Notes which coefficients a scan brings.
fn scan_header(payload: &[u8], is_progressive: bool, components: &mut [Component]) -> Option<()> {
    let n = usize::from(*payload.first()?);
    let ids = payload.get(1..1 + 2 * n)?.chunks_exact(2).map(|pair| pair[0]);
    let rest = payload.get(1 + 2 * n..)?;
    let (first, last, lowest_bit) = match (is_progressive, rest) {
        (true, [first, last, bits, ..]) => (usize::from(*first), usize::from(*last), bits & 15),
        (true, _) => return None,
        (false, _) => (0, 63, 0),
    };
    for id in ids {
        for component in components.iter_mut().filter(|component| component.id == id) {
            component.lowest_bit.get_mut(first..=last)?.fill(lowest_bit);
        }
    }
    Some(())
}

/// Whether the bytes begin as a JPEG file does.
pub(super) fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, SOI, 0xff])
}
