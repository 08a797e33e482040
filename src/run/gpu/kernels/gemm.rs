//! `gemm`: linear layers and convolutions as one matrix product, out \[M,N\] = A \[M,K\] · W \[K,N\], with what usually
//! follows done before the result is stored.
//!
//! A is never materialised: a row is an output pixel and what its kernel covers, found by address, so that padding,
//! stride, nearest-neighbour enlarging and the concatenation of two sources cost nothing. W is f16, as [`super::repack`]
//! lays it out. Products and sums are f32.
//!
//! Which tile serves which shape is a matter of speed only; [`Gemm::default_plan`] is a guess that a measurement may
//! replace.

mod reference;
mod tile;

pub use reference::{Operands, reference};
pub use tile::{Machine, Matrices, TILE_K, TILES, Tile, Work};

use super::{Binding, Element, Kernel, Launch, Width, count, refuse};
use crate::Result;
use crate::graph::Activation;

/// The kernel's entry in the table.
///
/// Bindings after the parameters:
/// 1. source 0, \[B,H,W,C0\];
/// 2. source 1, \[B,H,W,C1\]: unused when C1 is 0;
/// 3. weight, packed;
/// 4. bias, f32 \[N\] in the checkpoint's order, and behind it the layer norm's weight and bias: unused without either;
/// 5. time embedding, rows of [`RowVector::stride`], one for each batch item: unused without;
/// 6. residual, \[M, N\] (\[M, N/2\] with GEGLU): unused without;
/// 7. out, as residual: unused with splits;
/// 8. partial sums, f32 \[splits, M, N rounded up to four\]: unused without splits.
pub const KERNEL: Kernel = Kernel {
    name: "gemm",
    wgsl: include_str!("gemm.wgsl"),
    bindings: &[
        Binding::Uniform,
        Binding::ReadWrite,
        Binding::ReadWrite,
        Binding::Read,
        Binding::Read,
        Binding::ReadWrite,
        Binding::ReadWrite,
        Binding::ReadWrite,
        Binding::ReadWrite,
    ],
    params_bytes: PARAMS_BYTES,
    params_fields: PARAMS_FIELDS,
    constants: &[
        "threads_x",
        "threads_y",
        "rows",
        "quads",
        "upsample",
        "has_bias",
        "has_time_embedding",
        "has_residual",
        "relu_last",
        "activation",
        "geglu",
        "split",
        "has_norm",
    ],
    elements: Element::ALL,
    widths: Width::ALL,
};

params! {
    /// The uniform buffer, field for field as in the WGSL file.
    struct Params {
        m: u32,
        n: u32,
        out_pixels: u32,
        out_w: u32,
        in_h: u32,
        in_w: u32,
        channels_0: u32,
        channels_1: u32,
        kernel: u32,
        stride: u32,
        pad_top: u32,
        pad_left: u32,
        n_tiles: u32,
        n_tile_columns: u32,
        k_tiles: u32,
        k_tiles_per_split: u32,
        time_embedding_stride: u32,
        time_embedding_offset: u32,
        first_out_row: u32,
        norm_offset: u32,
        norm_eps: f32,
        full_h: u32,
        full_w: u32,
        padding: u32,
    }
}

/// What [`super::gemm_matrix`] needs to know of the parameters, which are the same.
pub(super) const PARAMS_BYTES: usize = size_of::<Params>();
pub(super) const PARAMS_FIELDS: &[(&str, usize)] = Params::FIELDS;

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
    fn full_size(&self) -> [u32; 2] {
        self.upsample.unwrap_or(self.in_size)
    }

    fn channels_sum(&self) -> u32 {
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
}

/// The defaults for many rows, for fewer, for few and for very few; and the one for few columns.
const TILE_LARGE: Tile = TILES[2];
const TILE_SMALL: Tile = TILES[1];
const TILE_FLAT: Tile = TILES[5];
const TILE_ROW: Tile = TILES[7];
const TILE_NARROW: Tile = TILES[6];

/// The same with cooperative matrices, the largest first.
const TILES_OF_MATRICES: &[Tile] = &[TILES[10], TILES[14], TILES[16], TILES[18], TILES[20]];

/// Workgroups below which a GPU is not filled, so that the sum is split.
const ENOUGH_GROUPS: u32 = 256;
/// The same for tiles of cooperative matrices, which are larger.
const ENOUGH_GROUPS_OF_MATRICES: u32 = 128;
/// Steps that a part of a sum has at least. Those that cutting saves have to take longer than the dispatch that adds the
/// parts, which is some microseconds; a step is about half a microsecond.
const MIN_STEPS_OF_A_PART: u32 = 16;
/// The most parts of a sum.
const MAX_SPLITS: u32 = 16;

impl Gemm {
    /// A product with nothing in front of it that fills its output.
    #[must_use]
    pub const fn new(source: Source, n: u32, epilogue: Epilogue) -> Self {
        Gemm { source, n, epilogue, norm_eps: None, first_out_row: 0 }
    }

    /// Rows M.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] when there are more than 2³².
    pub fn m(&self) -> Result<u32> {
        count(KERNEL.name, &[self.source.batch, self.source.out_size[0], self.source.out_size[1]])
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
    fn k_tiles(&self, tile: Tile) -> u32 {
        let [c0, c1] = self.source.channels;
        self.source.kernel * self.source.kernel * (c0.div_ceil(tile.k()) + c1.div_ceil(tile.k()))
    }

    /// Bytes of the partial sums.
    ///
    /// # Errors
    /// As [`Gemm::m`].
    pub fn partial_bytes(&self, splits: u32) -> Result<u64> {
        Ok(u64::from(splits) * u64::from(self.m()?) * u64::from(self.n.next_multiple_of(4)) * 4)
    }

    /// A tile and a number of splits that are never bad: large tiles where there is enough work to fill a GPU, small ones
    /// and split sums where there is not.
    ///
    /// # Errors
    /// As [`Gemm::m`].
    pub fn default_plan(&self, machine: &Machine) -> Result<(Tile, u32)> {
        let m = self.m()?;
        if self.n <= 8 && !self.epilogue.geglu {
            return Ok((TILE_NARROW, 1));
        }
        let groups = |tile: Tile| u64::from(m.div_ceil(tile.m())) * u64::from(self.n.div_ceil(tile.n()));
        let mut of_matrices = TILES_OF_MATRICES.iter().filter(|&&tile| self.allows(tile, 1, machine)).copied();
        let tile = if m <= TILE_ROW.m() {
            TILE_ROW
        } else if m <= TILE_FLAT.m() {
            TILE_FLAT
        } else if let Some(largest) = of_matrices.next() {
            // The smallest of them where none fills the device.
            let filling = |tile: &Tile| groups(*tile) >= u64::from(ENOUGH_GROUPS_OF_MATRICES);
            if filling(&largest) {
                largest
            } else {
                let rest: Vec<Tile> = of_matrices.collect();
                rest.iter().find(|tile| filling(tile)).or(rest.last()).copied().unwrap_or(largest)
            }
        } else if groups(TILE_LARGE) >= u64::from(ENOUGH_GROUPS) {
            TILE_LARGE
        } else {
            TILE_SMALL
        };
        let enough = if tile.is_of_matrices() { ENOUGH_GROUPS_OF_MATRICES } else { ENOUGH_GROUPS };
        let lacking = u64::from(enough) / groups(tile).max(1);
        let splits = (lacking as u32).min(self.k_tiles(tile) / MIN_STEPS_OF_A_PART).clamp(1, MAX_SPLITS);
        Ok((tile, splits))
    }

    /// Whether a tile and a number of parts can compute the product on a machine.
    #[must_use]
    pub fn allows(&self, tile: Tile, splits: u32, machine: &Machine) -> bool {
        (!self.epilogue.geglu || tile.can_geglu())
            && (tile != TILE_NARROW || self.n <= 8)
            // Of any number of rows it would read the weight again and again.
            && (tile != TILE_ROW || self.m().is_ok_and(|m| m <= TILE_FLAT.m()))
            && (!tile.is_of_matrices() || self.is_in_eights())
            && tile.suits(machine)
            && splits >= 1
            && splits <= MAX_SPLITS.min(self.k_tiles(tile))
    }

    /// Whether every row that is read is a multiple of eight elements, and the width is four: what cooperative matrices need.
    fn is_in_eights(&self) -> bool {
        let [c0, c1] = self.source.channels;
        [c0, c1, self.n].iter().all(|size| size.is_multiple_of(8)) && self.width() == Width::Four
    }

    fn check(&self) -> Result<()> {
        let Source { batch, in_size, kernel, stride, .. } = self.source;
        let channels = self.source.channels_sum();
        let fault = |reason: String| Err(refuse(KERNEL.name, reason));
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
        count(KERNEL.name, &[batch, in_size[0], in_size[1], channels])?;
        count(KERNEL.name, &[last_row, self.n.next_multiple_of(4)])?;
        count(KERNEL.name, &[self.k(), self.n.next_multiple_of(4)])?;
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
            ("activation", super::activation::code(activation)),
            ("geglu", f64::from(u8::from(geglu))),
        ]
    }
}

/// The product, with its sums cut into `splits` parts. With more than one, partial sums are stored, and
/// [`super::splitk_reduce`] or [`super::splitk_group_norm`] must follow, which applies the epilogue.
///
/// # Errors
/// [`crate::Error::Shape`] when a size is zero or too large to address, or the tile does not suit.
pub fn launch(gemm: &Gemm, machine: &Machine, tile: Tile, splits: u32) -> Result<Launch> {
    gemm.check()?;
    if gemm.epilogue.geglu && !tile.can_geglu() {
        return Err(refuse(KERNEL.name, format!("cannot apply GEGLU with tile {}", tile.name)));
    }
    let can = !tile.is_of_matrices() || (gemm.is_in_eights() && gemm.norm_eps.is_none());
    if !(can && tile.suits(machine)) {
        return Err(refuse(KERNEL.name, format!("cannot use tile {} for {gemm:?}", tile.name)));
    }
    let Source { in_size, channels, out_size, kernel, stride, pad, .. } = gemm.source;
    let full_size = gemm.source.full_size();
    let m = gemm.m()?;
    let n_tile_columns = gemm.n.div_ceil(tile.n());
    let n_tiles = count(KERNEL.name, &[m.div_ceil(tile.m()), n_tile_columns])?;
    let k_tiles = gemm.k_tiles(tile);
    if splits == 0 || splits > k_tiles {
        return Err(refuse(KERNEL.name, format!("cannot cut {k_tiles} steps into {splits} parts")));
    }
    count(KERNEL.name, &[splits, m, gemm.n.next_multiple_of(4)])?;
    let vector = gemm.epilogue.time_embedding.unwrap_or_default();
    let params = Params {
        m,
        n: gemm.n,
        out_pixels: out_size[0] * out_size[1],
        out_w: out_size[1],
        in_h: in_size[0],
        in_w: in_size[1],
        channels_0: channels[0],
        channels_1: channels[1],
        kernel,
        stride,
        // Two's complement: the file reads them as signed again.
        pad_top: pad[0] as u32,
        pad_left: pad[1] as u32,
        n_tiles,
        n_tile_columns,
        k_tiles,
        k_tiles_per_split: k_tiles.div_ceil(splits),
        time_embedding_stride: vector.stride,
        time_embedding_offset: vector.offset,
        first_out_row: gemm.first_out_row,
        norm_offset: if gemm.epilogue.bias { gemm.n } else { 0 },
        norm_eps: gemm.norm_eps.unwrap_or_default(),
        full_h: full_size[0],
        full_w: full_size[1],
        padding: 0,
    };
    let [x, y, _] = super::spread(KERNEL.name, n_tiles)?;
    let switch = |on| f64::from(u8::from(on));
    let (kernel, mut constants) = match (tile.work, machine.matrices) {
        (Work::Matrices { side, subgroups, matrices, two_halves }, Some(Matrices { subgroup_size, .. })) => (
            if side == 8 { &super::gemm_matrix::KERNEL_8 } else { &super::gemm_matrix::KERNEL_16 },
            vec![
                ("subgroups_m", f64::from(subgroups[0])),
                ("subgroups_n", f64::from(subgroups[1])),
                ("subgroup_size", f64::from(subgroup_size)),
                ("matrices_m", f64::from(matrices[0])),
                ("matrices_n", f64::from(matrices[1])),
                ("two_halves", switch(two_halves)),
            ],
        ),
        (Work::Invocations { threads, rows, quads }, _) => (
            &KERNEL,
            vec![
                ("threads_x", f64::from(threads[0])),
                ("threads_y", f64::from(threads[1])),
                ("rows", f64::from(rows)),
                ("quads", f64::from(quads)),
                ("has_norm", switch(gemm.norm_eps.is_some())),
            ],
        ),
        (Work::Matrices { .. }, None) => {
            return Err(refuse(KERNEL.name, format!("cannot use tile {} without cooperative matrices", tile.name)));
        }
    };
    constants.push(("upsample", switch(gemm.source.upsample.is_some())));
    constants.push(("split", switch(splits > 1)));
    // A part of a sum knows no epilogue, so that all of them share a pipeline.
    if splits == 1 {
        constants.extend(gemm.epilogue_constants());
    }
    Ok(Launch::new(kernel, machine.element, gemm.width(), &constants, &params, [x, y, splits]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine::plain(Element::F32);

    #[test]
    fn plans_fill_the_device_and_fit_the_sum() {
        let conv = |batch, side, channels, n| {
            let source = Source {
                in_size: [side, side],
                out_size: [side, side],
                channels: [channels, 0],
                kernel: 3,
                pad: [1, 1],
                ..Source::rows(batch, 1, 1)
            };
            Gemm::new(source, n, Epilogue::default())
        };
        assert_eq!(conv(2, 64, 320, 320).default_plan(&MACHINE).unwrap(), (TILE_LARGE, 1));
        let (tile, splits) = conv(2, 8, 1280, 1280).default_plan(&MACHINE).unwrap();
        assert_eq!(tile, TILE_SMALL);
        assert!(splits > 1, "80 workgroups leave a GPU idle");
        let vector = Gemm::new(Source::rows(2, 1, 320), 1280, Epilogue::default());
        assert_eq!(vector.default_plan(&MACHINE).unwrap().0, TILE_ROW);
        let rows = Gemm::new(Source::rows(2, 4, 320), 1280, Epilogue::default());
        assert_eq!(rows.default_plan(&MACHINE).unwrap().0, TILE_FLAT);
        for gemm in [conv(1, 1, 1, 1), conv(1, 8, 4, 4), vector] {
            let (tile, splits) = gemm.default_plan(&MACHINE).unwrap();
            launch(&gemm, &MACHINE, tile, splits).unwrap();
        }
    }

    #[test]
    fn what_cannot_be_computed_is_refused() {
        let gemm = Gemm::new(Source::rows(1, 4, 8), 12, Epilogue { geglu: true, ..Default::default() });
        assert!(launch(&gemm, &MACHINE, TILE_SMALL, 1).is_err(), "GEGLU of 12 columns");
        let gemm = Gemm { n: 16, ..gemm };
        assert!(launch(&gemm, &MACHINE, TILES[0], 1).is_err(), "GEGLU with one quad a thread");
        assert!(launch(&gemm, &MACHINE, TILE_SMALL, 2).is_err(), "more parts than steps");
        let gemm = Gemm::new(Source::rows(1, 1 << 20, 8192), 16, Epilogue::default());
        assert!(launch(&gemm, &MACHINE, TILE_SMALL, 1).is_err(), "more than 32 bits can address");
    }
}
