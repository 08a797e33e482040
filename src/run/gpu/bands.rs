//! How pictures too large for one range of memory are cut into bands of whole rows.
//!
//! Which values are cut is decided by the program, from their size and from who reads them; a band is computed exactly as
//! the same rows of the whole would be, so nothing shows where they meet. Bands that are read again are kept, large ones in
//! f32 in half of their bytes; or they are computed again, which gives the same values.

use std::collections::{BTreeMap, HashMap};

use crate::graph::NodeId;

/// Values of fewer bytes stay whole.
const MIN_BYTES: u64 = 16 << 20;
/// Bytes of a band, as far as [`MAX_BANDS`] allows: what it costs beside the value that it is a part of.
const BAND_BYTES: u64 = 4 << 20;
/// Bands of the largest value of a graph: each is a few dispatches.
const MAX_BANDS: u64 = 80;
/// The same where that value has no more than [`SMALL_BYTES`], and there is little to save.
const FEW_BANDS: u64 = 20;
const SMALL_BYTES: u64 = 320 << 20;
/// Cut f32 values of fewer bytes are kept unpacked.
const PACKED_BYTES: u64 = 48 << 20;

/// Thousandths of a graph's work: an eighth more, where that saves memory.
const EXTRA_WORK: u64 = 125;

/// Bytes beside the weights that every GPU has on which pictures of 768 pixels or more are drawn.
const ENOUGH_BYTES: u64 = 400_000_000;

/// How values are cut, and what of them is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BandSizes {
    /// Values of more bytes are cut.
    pub min_bytes: u64,
    /// Bytes of a band, about.
    pub band_bytes: u64,
    /// Cut f32 values of more bytes are kept packed, in half the bytes.
    pub packed_bytes: u64,
    /// Work that may be repeated so that less is kept, in thousandths of the graph's work.
    pub extra_work: u64,
    /// No work is repeated where all values that are alive together have no more bytes.
    pub enough_bytes: u64,
}

impl BandSizes {
    /// Little overhead, most of the savings.
    pub const DEFAULT: BandSizes = BandSizes {
        min_bytes: MIN_BYTES,
        band_bytes: BAND_BYTES,
        packed_bytes: PACKED_BYTES,
        extra_work: EXTRA_WORK,
        enough_bytes: ENOUGH_BYTES,
    };

    /// Nothing is cut.
    pub const WHOLE: BandSizes = BandSizes { min_bytes: u64::MAX, band_bytes: u64::MAX, ..BandSizes::DEFAULT };

    /// The same for a graph whose largest cut value has `n_bytes` bytes.
    pub(super) fn for_largest(self, n_bytes: u64) -> Self {
        // More, where one would be larger than what stays whole.
        let n_bands = if n_bytes <= SMALL_BYTES { FEW_BANDS } else { MAX_BANDS };
        let band_bytes = self.band_bytes.max(n_bytes.div_ceil(n_bands).min(self.min_bytes.max(MIN_BYTES)));
        BandSizes { band_bytes, ..self }
    }

    /// Rows of a band of a picture \[H,W,C\] in `n_bytes` bytes; the last band may have fewer.
    pub(super) fn rows(&self, height: usize, n_bytes: u64) -> usize {
        let n_bands = n_bytes.div_ceil(self.band_bytes).max(1);
        // Whole pairs, so that a band of a doubled picture comes from whole rows.
        let rows = height.div_ceil(n_bands as usize);
        rows.next_multiple_of(2).min(height)
    }
}

/// How much of a cut value is kept is chosen in this many steps.
pub(super) const PORTIONS: usize = 8;

/// The values of a program that are cut.
#[derive(Clone, Debug, Default)]
pub(super) struct Cuts {
    /// The storages, and how many of their [`PORTIONS`] are kept at most; the other bands are computed when they are read.
    pub portions: BTreeMap<NodeId, usize>,
    /// Rows of a band, by the height of the picture: values of one height are cut at the same rows.
    pub rows: HashMap<usize, usize>,
}

impl Cuts {
    /// Cuts a value into bands of `rows` rows, or fewer where others of its height have fewer.
    pub fn insert(&mut self, root: NodeId, height: usize, rows: usize) {
        self.portions.insert(root, PORTIONS);
        let of_height = self.rows.entry(height).or_insert(rows);
        *of_height = rows.min(*of_height);
    }

    /// The same values in a few bands for each portion.
    pub fn coarse(&self) -> Self {
        let coarse =
            |(&height, &rows): (&usize, &usize)| (height, height.div_ceil(4 * PORTIONS).next_multiple_of(2).max(rows));
        Cuts { portions: self.portions.clone(), rows: self.rows.iter().map(coarse).collect() }
    }

    /// How many of a value's `n_bands` bands are kept.
    pub fn n_kept(&self, root: NodeId, n_bands: usize) -> usize {
        n_bands * self.portions.get(&root).copied().unwrap_or(PORTIONS) / PORTIONS
    }

    /// Whether a value is cut.
    pub fn contains(&self, root: NodeId) -> bool {
        self.portions.contains_key(&root)
    }

    /// The bands of a picture of `height` rows, of `otherwise` rows each where no value of that height is cut.
    pub fn of_height(&self, height: usize, otherwise: usize) -> Vec<Rows> {
        let rows = self.rows.get(&height).copied().unwrap_or(otherwise).max(1);
        (0..height).step_by(rows).map(|first| Rows { first, n: rows.min(height - first) }).collect()
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

    /// Whether all of `other` are among them.
    pub fn contain(self, other: Rows) -> bool {
        self.and(other) == other
    }
}
