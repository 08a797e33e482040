//! Emits layer norms that no product does.

use super::layer_norm::{Bindings, launch};
use crate::error::Result;
use crate::graph::NodeId;
use crate::run::gpu::emit::{Emitter, n_elements};

/// The norm of the operation of `id`.
pub(in crate::run::gpu) fn emit(emitter: &mut Emitter<'_>, id: NodeId, eps: f64) -> Result<()> {
    let node = emitter.node(id);
    let &[x, weight, bias] = &node.inputs[..] else { return emitter.refuse("layer_norm", "wants three operands") };
    let (x, weight, bias) = (emitter.operand(x)?, emitter.operand(weight)?, emitter.operand(bias)?);
    let columns = emitter.width(id);
    let launch = launch(n_elements(&node.shape) / columns.max(1), columns, eps as f32, &emitter.machine)?;
    let out = emitter.room(id)?;
    emitter.emit(launch, Bindings { x, weight, bias, out }, format!("{:?}", node.shape), emitter.flops(id));
    Ok(())
}
