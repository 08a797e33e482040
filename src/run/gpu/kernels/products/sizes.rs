//! One matrix product: where its rows come from, how large it is, and what happens to its results.

use super::tile::Tile;
use crate::Result;
use crate::graph::Activation;
use crate::run::gpu::kernel::{Element, Width, activation_code, count, refuse};
use crate::weights::WeightType;

/// The operation's name in errors.
const NAME: &str = "gemm";

/// Where the rows of A come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// Batch items B.
    pub batch: u32,
    /// \[H,W\] of the input, before it is enlarged.
    pub in_size: [u32; 2],
    /// Channels of the first and of the second source; 0 when there is one. The weight's channels are in this order.
    pub channels: [u32; 2],
    /// \[H',W'\] of the output.
    pub out_size: [u32; 2],
    /// Side of the kernel.
    pub kernel: u32,
    /// Step.
    pub stride: u32,
    /// Zeros on the top and on the left; the output's size says how many there are on the other sides. Negative where the
    /// first output begins inside the input, as that of a band of a picture does.
    pub pad: [i32; 2],
    /// \[H,W\] that the input is first taken to by repeating each pixel 2x2, where a side is odd without the last one.
    pub upsample: Option<[u32; 2]>,
}

impl Source {
    /// A linear layer over `rows` rows of `channels` values in each of `batch` items.
    #[must_use]
    pub fn rows(batch: u32, rows: u32, channels: u32) -> Self {
        Self {
            batch,
            in_size: [1, rows],
            channels: [channels, 0],
            out_size: [1, rows],
            kernel: 1,
            stride: 1,
            pad: [0, 0],
            upsample: None,
        }
    }

    /// \[H,W\] of the picture that the kernel moves over.
    pub(super) fn full_size(&self) -> [u32; 2] {
        self.upsample.unwrap_or(self.in_size)
    }

    pub(super) fn channels_sum(&self) -> u32 {
        self.channels[0] + self.channels[1]
    }
}

/// A row vector for each batch item, inside a matrix of `stride` columns from column `offset` on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RowVector {
    /// Elements from one batch item to the next.
    pub stride: u32,
    /// The first element.
    pub offset: u32,
}

/// What happens to the sums before they are stored, in the order of the fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Epilogue {
    /// Adds the bias.
    pub bias: bool,
    /// Adds a row vector that depends on the batch item alone.
    pub time_embedding: Option<RowVector>,
    /// Applies a non-linearity.
    pub activation: Option<Activation>,
    /// Multiplies the first half of the columns by gelu of the second half. The weight must be packed for it.
    pub geglu: bool,
    /// Adds a tensor of the output's shape.
    pub residual: bool,
    /// Makes negative results 0.
    pub relu_last: bool,
}

/// One matrix product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gemm {
    /// The rows.
    pub source: Source,
    /// Columns N, which are the weight's outputs: with GEGLU twice the width of what is stored.
    pub n: u32,
    /// What follows.
    pub epilogue: Epilogue,
    /// Epsilon of a layer norm that the rows go through first, with its weight \[K\] and bias \[K\] behind the bias \[N\] of
    /// the product, if there is any. Only for rows of one source.
    pub norm_eps: Option<f32>,
    /// Rows of `out` and of the residual before the first that is computed: for a band of a picture.
    pub first_out_row: u32,
    /// The type of the packed weight.
    pub weight: WeightType,
}

impl Gemm {
    /// A product of weights in f16 with nothing in front of it that fills its output.
    #[must_use]
    pub const fn new(source: Source, n: u32, epilogue: Epilogue) -> Self {
        Gemm { source, n, epilogue, norm_eps: None, first_out_row: 0, weight: WeightType::F16 }
    }

    /// Rows M.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] when there are more than 2³².
    pub fn m(&self) -> Result<u32> {
        count(NAME, &[self.source.batch, self.source.out_size[0], self.source.out_size[1]])
    }

    /// Columns that are stored.
    #[must_use]
    pub fn n_stored(&self) -> u32 {
        if self.epilogue.geglu { self.n / 2 } else { self.n }
    }

    /// Length of the sums K.
    #[must_use]
    pub fn k(&self) -> u32 {
        self.source.kernel * self.source.kernel * self.source.channels_sum()
    }

    /// Whether GEGLU can be part of the product for a weight of `n` outputs.
    #[must_use]
    pub fn can_geglu(n: u32) -> bool {
        n.is_multiple_of(8)
    }

    /// Four when every row that is read or stored is a multiple of four elements.
    #[must_use]
    pub fn width(&self) -> Width {
        let [c0, c1] = self.source.channels;
        let vector = self.epilogue.time_embedding.unwrap_or_default();
        Width::of(&[c0, c1, self.n_stored(), vector.stride, vector.offset])
    }

    /// Steps of the sum.
    pub(super) fn k_tiles(&self, tile: Tile) -> u32 {
        let [c0, c1] = self.source.channels;
        self.source.kernel * self.source.kernel * (c0.div_ceil(tile.k()) + c1.div_ceil(tile.k()))
    }

    /// Bytes of the partial sums.
    ///
    /// # Errors
    /// As [`Gemm::m`].
    pub fn partial_bytes(&self, splits: u32) -> Result<u64> {
        let n_values = u64::from(splits) * u64::from(self.m()?) * u64::from(self.n.next_multiple_of(4));
        Ok(n_values * Element::F32.bytes())
    }

    /// Whether every row that is read is a multiple of eight elements, and the width is four: what cooperative matrices need.
    pub(super) fn is_in_eights(&self) -> bool {
        let [c0, c1] = self.source.channels;
        [c0, c1, self.n].iter().all(|size| size.is_multiple_of(8)) && self.width() == Width::Four
    }

    /// Whether no step and no tile goes beyond the last channel or column, so that the kernel need not look.
    pub(super) fn is_even(&self, tile: Tile) -> bool {
        tile.shares_evenly()
            && self.width() == Width::Four
            && self.n.is_multiple_of(tile.n())
            && self.source.channels.iter().all(|channels| channels.is_multiple_of(tile.k()))
    }

    pub(super) fn check(&self) -> Result<()> {
        let Source { batch, in_size, kernel, stride, .. } = self.source;
        let channels = self.source.channels_sum();
        let fault = |reason: String| Err(refuse(NAME, reason));
        if kernel == 0 || stride == 0 || self.source.channels[0] == 0 || self.n == 0 {
            return fault(format!("has a size of zero: {self:?}"));
        }
        if let Some(size) = self.source.upsample
            && (0..2).any(|i| size[i].div_ceil(2) != in_size[i])
        {
            return fault(format!("cannot enlarge {in_size:?} to {size:?}: only to the double, or one less"));
        }
        if self.epilogue.geglu && (!Self::can_geglu(self.n) || self.epilogue.activation.is_some()) {
            return fault(format!("cannot apply GEGLU to {} columns with an activation or not in eights", self.n));
        }
        if self.epilogue.geglu && self.epilogue.time_embedding.is_some() {
            return fault("has no GEGLU behind a time embedding".into());
        }
        if self.norm_eps.is_some() && (kernel != 1 || stride != 1 || self.source.channels[1] != 0) {
            return fault("normalises the rows of one source only".into());
        }
        let Some(last_row) = self.m()?.checked_add(self.first_out_row) else {
            return fault(format!("has no row {} + {}", self.m()?, self.first_out_row));
        };
        count(NAME, &[batch, in_size[0], in_size[1], channels])?;
        count(NAME, &[last_row, self.n.next_multiple_of(4)])?;
        count(NAME, &[self.k(), self.n.next_multiple_of(4)])?;
        Ok(())
    }

    /// The constants that choose the epilogue.
    pub(super) fn epilogue_constants(&self) -> Vec<(&'static str, f64)> {
        let Epilogue { bias, time_embedding, activation, geglu, residual, relu_last } = self.epilogue;
        vec![
            ("has_bias", f64::from(u8::from(bias))),
            ("has_time_embedding", f64::from(u8::from(time_embedding.is_some()))),
            ("has_residual", f64::from(u8::from(residual))),
            ("relu_last", f64::from(u8::from(relu_last))),
            ("activation", activation_code(activation)),
            ("geglu", f64::from(u8::from(geglu))),
        ]
    }
}
