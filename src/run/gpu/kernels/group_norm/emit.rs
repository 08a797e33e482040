//! Emits group norms: one dispatch for small pictures, two for large ones, one with the reduction of a split product.

use super::fuse::Normed;
use super::sizes::GroupNorm;
use super::{bands, group_norm, group_norm_apply, group_norm_stats, splitk_group_norm};
use crate::error::Result;
use crate::graph::NodeId;
use crate::run::gpu::emit::{Emitter, Storage};
use crate::run::gpu::kernels::products::Parts;

/// Emits the norm of `node` into the storage of `out`. `parts` are those of the product in front, which the norm then adds,
/// writing the product's result too.
pub(in crate::run::gpu) fn emit(
    emitter: &mut Emitter<'_>,
    normed: &Normed,
    node: NodeId,
    out: NodeId,
    parts: Option<Parts>,
) -> Result<()> {
    if let [x] = normed.x[..]
        && (emitter.is_cut(out) || matches!(emitter.storage(x), Some(Storage::Bands(_))))
    {
        return bands::emit(emitter, normed, node, out, x);
    }
    let norm = normed.whole_sizes(emitter.graph, node);
    let inputs = &emitter.node(node).inputs;
    let (weight, bias) = (emitter.weight(inputs[1]), emitter.weight(inputs[2]));
    let shape = format!("{}x{}x{}", norm.batch, norm.pixels, norm.channels[0] + norm.channels[1]);
    let (element, silu, flops) = (emitter.element, normed.silu, emitter.flops(node));
    if let Some(Parts { gemm, splits, partial_sums, bias: product_bias, time_embedding, residual }) = parts {
        let product = emitter.room(normed.x[0])?;
        let out = emitter.room(out)?;
        let launch = splitk_group_norm::launch(&gemm, splits, &norm, element, silu)?;
        let bindings = splitk_group_norm::Bindings {
            partial_sums,
            product_bias,
            time_embedding,
            residual,
            product,
            weight,
            bias,
            out,
        };
        emitter.emit(launch, bindings, format!("{shape} of {splits} parts"), flops);
        return Ok(());
    }
    let mut sources = normed.x.iter().map(|&x| emitter.whole(x)).collect::<Result<Vec<_>>>()?.into_iter();
    let (Some(source_0), source_1) = (sources.next(), sources.next()) else {
        return emitter.refuse("group_norm", "has no input");
    };
    if norm.fits_one_dispatch()? {
        let out = emitter.room(out)?;
        let bindings = group_norm::Bindings { source_0, source_1, weight, bias, out };
        emitter.emit(group_norm::launch(&norm, element, silu)?, bindings, shape, flops);
        return Ok(());
    }
    let partials = emitter.slot(norm.partial_bytes()?);
    let (again_0, again_1) = (source_0.clone(), source_1.clone());
    let stats = group_norm_stats::Bindings { source_0, source_1, partials: partials.clone() };
    emitter.emit(group_norm_stats::launch(&norm, element)?, stats, shape.clone(), flops);
    let out = emitter.room(out)?;
    let apply = group_norm_apply::Bindings { source_0: again_0, source_1: again_1, partials, weight, bias, out };
    emitter.emit(group_norm_apply::launch(&norm, element, silu)?, apply, shape, 0);
    Ok(())
}

/// The sizes of a norm that reads exactly the storage `x`, whole: one that may add the parts of the product that writes `x`.
pub(in crate::run::gpu) fn of_one_whole(
    emitter: &Emitter<'_>,
    normed: &Normed,
    node: NodeId,
    out: NodeId,
    x: NodeId,
) -> Option<GroupNorm> {
    let is_cut = emitter.is_cut(out) || emitter.is_cut(x);
    (normed.x == [x] && !is_cut).then(|| normed.whole_sizes(emitter.graph, node))
}
