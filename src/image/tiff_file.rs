//! The first directory of a TIFF file, before the decoder reads it: what lists of numbers in it will take.
//!
//! The decoder allocates a list by the length that the file says, before it looks whether the file has as much. Here a
//! list that is longer than its file is refused.

/// Tags that the decoder reads, lists of numbers among them.
const READ: [std::ops::RangeInclusive<u64>; 3] = [254..=347, 530..=532, 34_665..=34_665];
/// What the decoder takes for each number of a list: its value with a tag, and as a number of 64 bits.
const BYTES_PER_NUMBER: u64 = 48;
/// More entries than any directory has.
const MAX_ENTRIES: u64 = 4096;

/// The bytes that the decoder takes for the directory's lists.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn inspect(bytes: &[u8]) -> Result<u64, &'static str> {
    lists(bytes).ok_or("it is cut off")?
}

/// `None` where the directory ends too early; inside, what is wrong with an entry.
fn lists(bytes: &[u8]) -> Option<Result<u64, &'static str>> {
    const TOO_LONG: &str = "it has a list that is longer than the file";
    const COMPRESSION: u64 = 259;
    let is_little = bytes.starts_with(b"II");
    // A whole number of `n` bytes.
    let number = |at: u64, n: usize| {
        let at = usize::try_from(at).ok()?;
        let bytes = bytes.get(at..at.checked_add(n)?)?.iter();
        let join = |sum: u64, &byte: &u8| sum << 8 | u64::from(byte);
        Some(if is_little { bytes.rev().fold(0, join) } else { bytes.fold(0, join) })
    };
    // The big form has offsets and counts of 64 bits.
    let is_big = number(2, 2)? == 43;
    let (wide, first, counter) = if is_big { (8, 8, 8) } else { (4, 4, 2) };
    let directory = number(first, wide)?;
    let n_entries = number(directory, counter)?;
    if n_entries > MAX_ENTRIES {
        return Some(Err(TOO_LONG));
    }
    let mut needed = 0_u64;
    for i in 0..n_entries {
        let at = directory.checked_add(counter as u64 + i * (4 + 2 * wide as u64))?;
        let (tag, kind, count) = (number(at, 2)?, number(at + 2, 2)?, number(at + 4, wide)?);
        if !READ.iter().any(|tags| tags.contains(&tag)) {
            continue;
        }
        let size = match kind {
            3 | 8 => 2,
            4 | 9 | 11 | 13 => 4,
            5 | 10 | 12 | 16..=18 => 8,
            _ => 1,
        };
        if count.checked_mul(size).is_none_or(|n_bytes| n_bytes > bytes.len() as u64) {
            return Some(Err(TOO_LONG));
        }
        // Its decoder makes a picture of damaged data.
        if tag == COMPRESSION && matches!(number(at + 4 + wide as u64, 2)?, 6 | 7) {
            return Some(Err("it is compressed as JPEG, which is not read inside a TIFF: save it with LZW, or as PNG"));
        }
        needed += count * BYTES_PER_NUMBER;
    }
    Some(Ok(needed))
}
