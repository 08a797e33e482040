//! `gemm`: linear layers and convolutions as one matrix product, out \[M,N\] = A \[M,K\] · W \[K,N\], with what usually
//! follows done before the result is stored.
//!
//! A is never materialised: a row is an output pixel and what its kernel covers, found by address, so that padding,
//! stride, nearest-neighbour enlarging and the concatenation of two sources cost nothing. W is f16, f32 or in blocks of codes,
//! as [`super::repack`] lays it out, each with a kernel of its own. Sums are f32, and so are products unless the tile says that
//! they are f16.
//!
//! Which tile serves which shape is a matter of speed only; [`Gemm::default_plan`] is a guess that a measurement may
//! replace.

use super::gemm_matrix;
use super::params::{Bindings, Params};
use super::repack::Repack;
use super::shared::IMPORTS;
use super::sizes::{Gemm, Source};
use super::tile::{Tile, Work};
use crate::Result;
use crate::run::gpu::kernel::{
    Bind, Element, Kernel, Launch, Machine, Matrices, Multiply, Width, count, refuse, spread,
};
use crate::weights::WeightType;

/// The kernel's entry in the table.
pub const KERNEL: Kernel = Kernel {
    name: "gemm",
    wgsl: include_str!("gemm.wgsl"),
    bindings: Bindings::<()>::BINDINGS,
    imports: IMPORTS,
    params_bytes: size_of::<Params>(),
    params_fields: Params::FIELDS,
    constants: &[
        "threads_x",
        "threads_y",
        "rows",
        "quads",
        "collect_quads",
        "upsample",
        "has_bias",
        "has_time_embedding",
        "has_residual",
        "relu_last",
        "activation",
        "geglu",
        "split",
        "has_norm",
        "is_even",
    ],
    elements: Element::ALL,
    widths: Width::ALL,
};

/// With weights in f32.
pub const KERNEL_F32: Kernel = Kernel { name: "gemm_f32", wgsl: include_str!("gemm_f32.wgsl"), ..KERNEL };

/// With weights in blocks of 8-bit codes.
pub const KERNEL_Q8_0: Kernel = Kernel { name: "gemm_q8_0", wgsl: include_str!("gemm_q8_0.wgsl"), ..KERNEL };

/// With weights in blocks of 4-bit codes.
pub const KERNEL_Q4_0: Kernel = Kernel { name: "gemm_q4_0", wgsl: include_str!("gemm_q4_0.wgsl"), ..KERNEL };

/// With products in f16.
pub const KERNEL_HALF: Kernel =
    Kernel { name: "gemm_half", wgsl: include_str!("gemm_half.wgsl"), elements: &[Element::F16], ..KERNEL };

/// With products in f16 and weights in blocks of 8-bit codes.
pub const KERNEL_HALF_Q8_0: Kernel =
    Kernel { name: "gemm_half_q8_0", wgsl: include_str!("gemm_half_q8_0.wgsl"), ..KERNEL_HALF };

/// With products in f16 and weights in blocks of 4-bit codes.
pub const KERNEL_HALF_Q4_0: Kernel =
    Kernel { name: "gemm_half_q4_0", wgsl: include_str!("gemm_half_q4_0.wgsl"), ..KERNEL_HALF };

/// The kernel for what multiplies and a type of weights. Those in f32 are there to be exact, and are not multiplied in f16.
fn kernel_for(multiply: Multiply, weight: WeightType) -> Result<&'static Kernel> {
    match (multiply, weight) {
        (Multiply::F32, WeightType::F32) => Ok(&KERNEL_F32),
        (Multiply::F32, WeightType::F16) => Ok(&KERNEL),
        (Multiply::F32, WeightType::Q8_0) => Ok(&KERNEL_Q8_0),
        (Multiply::F32, WeightType::Q4_0) => Ok(&KERNEL_Q4_0),
        (Multiply::F16, WeightType::F16) => Ok(&KERNEL_HALF),
        (Multiply::F16, WeightType::Q8_0) => Ok(&KERNEL_HALF_Q8_0),
        (Multiply::F16, WeightType::Q4_0) => Ok(&KERNEL_HALF_Q4_0),
        (Multiply::F16, WeightType::F32) => {
            Err(refuse(KERNEL_HALF.name, "does not multiply weights of f32 in f16".into()))
        }
    }
}

/// The product, with its sums cut into `splits` parts. With more than one, partial sums are stored, and
/// [`super::splitk_reduce`] or `splitk_group_norm` must follow, which applies the epilogue.
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
        first_scale: Repack::first_scale(gemm.weight, gemm.k(), gemm.n),
    };
    let [x, y, _] = spread(KERNEL.name, n_tiles)?;
    let switch = |on| f64::from(u8::from(on));
    let (kernel, mut constants) = match (tile.work, machine.matrices) {
        (Work::Matrices { side, subgroups, matrices, two_halves }, Some(Matrices { subgroup_size, .. })) => (
            gemm_matrix::kernel_for(side, gemm.weight),
            vec![
                ("subgroups_m", f64::from(subgroups[0])),
                ("subgroups_n", f64::from(subgroups[1])),
                ("subgroup_size", f64::from(subgroup_size)),
                ("matrices_m", f64::from(matrices[0])),
                ("matrices_n", f64::from(matrices[1])),
                ("two_halves", switch(two_halves)),
            ],
        ),
        (Work::Invocations { threads, rows, quads, multiply, added }, _) => {
            let mut constants = vec![
                ("threads_x", f64::from(threads[0])),
                ("threads_y", f64::from(threads[1])),
                ("rows", f64::from(rows)),
                ("quads", f64::from(quads)),
                ("has_norm", switch(gemm.norm_eps.is_some())),
                ("is_even", switch(gemm.is_even(tile))),
            ];
            if multiply == Multiply::F16 {
                constants.push(("collect_quads", f64::from(added / 4)));
            }
            (kernel_for(multiply, gemm.weight)?, constants)
        }
        (Work::Matrices { .. }, None) => {
            return Err(refuse(KERNEL.name, format!("cannot use tile {} without cooperative matrices", tile.name)));
        }
    };
    constants.push(("upsample", switch(gemm.source.upsample.is_some())));
    constants.push(("split", switch(splits > 1)));
    // Split-K launches skip the epilogue, so that all of them share a pipeline.
    if splits == 1 {
        constants.extend(gemm.epilogue_constants());
    }
    Ok(Launch::new(kernel, machine.element, gemm.width(), &constants, &params, [x, y, splits]))
}

#[cfg(test)]
mod tests {
    use super::super::sizes::Epilogue;
    use super::super::tile::TILES;
    use super::*;

    const MACHINE: Machine = Machine::plain(Element::F32);

    #[test]
    fn what_cannot_be_computed_is_refused() {
        let gemm = Gemm::new(Source::rows(1, 4, 8), 12, Epilogue { geglu: true, ..Default::default() });
        assert!(launch(&gemm, &MACHINE, TILES[1], 1).is_err(), "GEGLU of 12 columns");
        let gemm = Gemm { n: 16, ..gemm };
        assert!(launch(&gemm, &MACHINE, TILES[0], 1).is_err(), "GEGLU with one quad a thread");
        assert!(launch(&gemm, &MACHINE, TILES[1], 2).is_err(), "more parts than steps");
        let gemm = Gemm::new(Source::rows(1, 1 << 20, 8192), 16, Epilogue::default());
        assert!(launch(&gemm, &MACHINE, TILES[1], 1).is_err(), "more than 32 bits can address");
    }
}
