//! The sizes that a WebP file tells more than once: of the canvas, of an animation's frames, and of what is coded.
//!
//! The decoder allocates what the code says before it compares; here sizes that differ are refused before that.

/// Looks whether the sizes agree. Where there is one size alone, and where a chunk is damaged, it is the decoder's business.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn inspect(bytes: &[u8]) -> Result<(), &'static str> {
    let mut canvas = None;
    let wrong = Err("its headers contradict each other");
    for (kind, data) in chunks(bytes.get(12..).unwrap_or_default()) {
        match kind {
            b"VP8X" => canvas = size_24(data, 4),
            b"ANMF" => {
                let frame = size_24(data, 6);
                let mut coded = chunks(data.get(16..).unwrap_or_default()).filter_map(|(kind, data)| coded(kind, data));
                if coded.any(|size| Some(size) != frame) {
                    return wrong;
                }
            }
            _ if canvas.is_some() && coded(kind, data).is_some_and(|size| Some(size) != canvas) => return wrong,
            _ => {}
        }
    }
    Ok(())
}

/// Kinds and contents of chunks, the last one as far as it goes.
fn chunks(mut rest: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let (kind, after) = rest.split_first_chunk::<4>()?;
        let (length, after) = after.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        rest = after.get(length.saturating_add(length % 2)..).unwrap_or_default();
        Some((kind, &after[..length.min(after.len())]))
    })
}

/// Width and height, each of 24 bits and less one.
fn size_24(data: &[u8], at: usize) -> Option<(u32, u32)> {
    let side = |at: usize| Some(u32::from_le_bytes([*data.get(at)?, *data.get(at + 1)?, *data.get(at + 2)?, 0]) + 1);
    Some((side(at)?, side(at + 3)?))
}

/// Width and height of a picture's code.
fn coded(kind: &[u8; 4], data: &[u8]) -> Option<(u32, u32)> {
    match kind {
        b"VP8 " => {
            let side = |at: usize| Some(u32::from(u16::from_le_bytes([*data.get(at)?, *data.get(at + 1)?]) & 0x3fff));
            Some((side(6)?, side(8)?))
        }
        b"VP8L" => {
            let bits = u32::from_le_bytes(data.get(1..5)?.try_into().ok()?);
            Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
        }
        _ => None,
    }
}
