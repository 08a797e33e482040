//! Emits attentions.

use super::attention::launch;
use super::fuse::Attended;
use super::sizes::{Attention, Bindings};
use crate::error::Result;
use crate::graph::NodeId;
use crate::run::gpu::emit::Emitter;
use crate::run::gpu::kernel::Multiply;
use crate::run::gpu::kernels::products::tiles::Tiles;

/// The attention of the operation of `id`, which is given back for the tuner.
pub(in crate::run::gpu) fn emit(
    emitter: &mut Emitter<'_>,
    id: NodeId,
    attended: &Attended,
    tiles: &Tiles,
) -> Result<Attention> {
    let Attended { packed, heads, scale, causal } = *attended;
    let node = emitter.node(id);
    let keys = if packed.is_some() { &node.shape } else { emitter.shape(node.inputs[1]) };
    let (&[batch, queries, width], &[_, keys, _]) = (node.shape.as_slice(), keys) else {
        return emitter.refuse("attention", "wants [B,T,D]");
    };
    let [batch, queries, keys, heads, head_size] =
        [batch, queries, keys, heads, width / heads.max(1)].map(|n| n as u32);
    let dense = Attention::dense(batch, queries, keys, heads, head_size, scale as f32, causal);
    let attention = if packed.is_some() { dense.packed() } else { dense };
    let (q, k, v) = match packed {
        Some(qkv) => (emitter.whole(qkv)?, None, None),
        None => {
            let [q, k, v] = [0, 1, 2].map(|i| emitter.operand(node.inputs[i]));
            (q?, Some(k?), Some(v?))
        }
    };
    let has_choice = attention.has_choice(&emitter.machine);
    let multiply = if has_choice { tiles.multiply(&attention.class(emitter.element)) } else { Multiply::F32 };
    let launch = launch(&attention, &emitter.machine, multiply)?;
    let out = emitter.room(id)?;
    let shape = format!("{batch}x{heads}x{queries}x{keys}x{head_size}");
    emitter.emit(launch, Bindings { q, k, v, out }, shape, emitter.flops(id));
    Ok(attention)
}
