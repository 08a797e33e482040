//! Whether a BMP file has all its pixels, before the decoder reads it.
//!
//! The decoder makes black rows of those that a run-length coded file does not have. Here such a file is refused, as by
//! Pillow. Pixels that are skipped in between stay black.

use super::decode::CUT_OFF;

/// Looks whether the file is whole.
///
/// # Errors
/// What is missing, in words.
pub(super) fn inspect(bytes: &[u8]) -> Result<(), &'static str> {
    pixels(bytes).ok_or(CUT_OFF)?
}

/// `None` where the file ends too early.
fn pixels(bytes: &[u8]) -> Option<Result<(), &'static str>> {
    let number = |at: usize, n: usize| {
        Some(bytes.get(at..at + n)?.iter().rev().fold(0, |sum: u64, &byte| sum << 8 | u64::from(byte)))
    };
    // A negative height counts the rows from the top.
    let side = |at: usize| Some(u64::from((number(at, 4)? as i32).unsigned_abs()));
    let offset = number(10, 4)?;
    let (width, height, depth, compression) = match number(14, 4)? {
        12 => (number(18, 2)?, number(20, 2)?, number(24, 2)?, 0),
        40.. => (side(18)?, side(22)?, number(28, 2)?, number(30, 4)?),
        _ => return Some(Ok(())),
    };
    match compression {
        0 | 3 | 6 => {
            let row = (width * depth).div_ceil(32) * 4;
            // What fills up the last row may be absent.
            let before_last = row.saturating_mul(height.saturating_sub(1));
            let end = offset.saturating_add(before_last).saturating_add((width * depth).div_ceil(8));
            (end <= bytes.len() as u64).then_some(Ok(()))
        }
        1 | 2 => runs(bytes.get(usize::try_from(offset).ok()?..)?, width, height, compression == 2),
        _ => Some(Ok(())),
    }
}

/// Walks the run-length codes up to the last row.
fn runs(codes: &[u8], width: u64, height: u64, is_half_bytes: bool) -> Option<Result<(), &'static str>> {
    let (mut at, mut x, mut y) = (0, 0, 0);
    while y < height {
        let (count, code) = (*codes.get(at)?, *codes.get(at + 1)?);
        at += 2;
        match (count, code) {
            (0, 0) => (x, y) = (0, y + 1),
            (0, 1) if y + 1 == height && x >= width => break,
            (0, 1) => return Some(Err("it ends before its last row does")),
            (0, 2) => {
                x += u64::from(*codes.get(at)?);
                y += u64::from(*codes.get(at + 1)?);
                at += 2;
            }
            (0, n) => {
                let n_bytes = if is_half_bytes { n.div_ceil(2) } else { n };
                at += usize::from(n_bytes).next_multiple_of(2);
                x += u64::from(n);
            }
            (n, _) => x += u64::from(n),
        }
    }
    Some(Ok(()))
}
