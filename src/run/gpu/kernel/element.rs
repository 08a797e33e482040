//! The type of activations, and how many of them a kernel reads at once.

/// The type of activations in memory. Sums are f32 either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// Four bytes, on every adapter.
    F32,
    /// Two bytes, where the adapter has `shader-f16`.
    F16,
}

impl Element {
    /// Both.
    pub const ALL: &'static [Element] = &[Element::F32, Element::F16];

    /// Bytes of one element.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Element::F32 => 4,
            Element::F16 => 2,
        }
    }
}

/// How many neighbouring elements a kernel reads and writes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// One: any size.
    One,
    /// Four: rows are multiples of four elements.
    Four,
}

impl Width {
    /// Both.
    pub const ALL: &'static [Width] = &[Width::One, Width::Four];

    /// Four when every one of `sizes` is a multiple of four.
    #[must_use]
    pub fn of(sizes: &[u32]) -> Self {
        if sizes.iter().all(|size| size.is_multiple_of(4)) { Width::Four } else { Width::One }
    }

    /// Elements in a cell, which is what is read at once.
    #[must_use]
    pub const fn elements(self) -> u32 {
        match self {
            Width::One => 1,
            Width::Four => 4,
        }
    }
}
