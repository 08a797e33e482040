//! How pictures too large for one range of memory are cut into bands of whole rows.
//!
//! Which values are cut is decided by the program, from their size and from who reads them; a band is computed exactly as
//! the same rows of the whole would be, so nothing shows where they meet.

/// Values of fewer bytes stay whole.
const MIN_BYTES: u64 = 48 << 20;
/// Bytes of a band, as far as [`MAX_BANDS`] allows: what it costs beside the value that it is a part of.
const BAND_BYTES: u64 = 8 << 20;
/// Bands of a value: each is a few dispatches.
const MAX_BANDS: u64 = 16;

/// How values are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BandSizes {
    /// Values of more bytes are cut.
    pub min_bytes: u64,
    /// Into bands of about so many.
    pub band_bytes: u64,
}

impl BandSizes {
    /// Little overhead, most of the savings.
    pub const DEFAULT: BandSizes = BandSizes { min_bytes: MIN_BYTES, band_bytes: BAND_BYTES };

    /// Rows of a band of a picture \[H,W,C\] in `n_bytes` bytes; the last band may have fewer.
    #[must_use]
    pub fn rows(&self, height: usize, n_bytes: u64) -> usize {
        let n_bands = n_bytes.div_ceil(self.band_bytes).clamp(1, MAX_BANDS.max(n_bytes.div_ceil(self.min_bytes)));
        // Whole pairs, so that a band of a doubled picture comes from whole rows.
        let rows = height.div_ceil(n_bands as usize);
        rows.next_multiple_of(2).min(height)
    }
}

/// Rows of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rows {
    pub first: usize,
    pub n: usize,
}

impl Rows {
    /// The row behind the last.
    pub fn end(self) -> usize {
        self.first + self.n
    }

    /// The rows in both.
    pub fn and(self, other: Rows) -> Rows {
        let first = self.first.max(other.first);
        Rows { first, n: self.end().min(other.end()).saturating_sub(first) }
    }
}
