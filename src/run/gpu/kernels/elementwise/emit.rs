//! Emits elementwise work: one dispatch each, and one for each part of a concatenation.

use super::fuse::Elementwise;
use super::{activation, add, affine, cast_from_f32, cast_to_f32, copy, gather, geglu, timestep_embedding};
use crate::error::Result;
use crate::graph::NodeId;
use crate::run::gpu::emit::{Emitter, Operand, four, n_elements};
use crate::run::gpu::kernel::Element;
use crate::run::gpu::kernels::sampling::lincomb;

/// Values of `n_values` from f32 to the type of activations.
pub(in crate::run::gpu) fn narrow(emitter: &mut Emitter<'_>, x: Operand, shape: &[usize]) -> Result<Operand> {
    let n_values = n_elements(shape);
    let out = emitter.slot(u64::from(n_values) * emitter.element.bytes());
    let launch = cast_from_f32::launch(n_values, emitter.element)?;
    emitter.emit(launch, cast_from_f32::Bindings { x, out: out.clone() }, format!("{shape:?}"), 0);
    Ok(out)
}

/// Values from the type of activations to f32.
pub(in crate::run::gpu) fn widen(emitter: &mut Emitter<'_>, x: Operand, shape: &[usize]) -> Result<Operand> {
    let n_values = n_elements(shape);
    let out = emitter.slot(u64::from(n_values) * Element::F32.bytes());
    let launch = cast_to_f32::launch(n_values, emitter.element)?;
    emitter.emit(launch, cast_to_f32::Bindings { x, out: out.clone() }, format!("{shape:?}"), 0);
    Ok(out)
}

/// The operation of `id`, written to the storage of `out`.
pub(in crate::run::gpu) fn emit(
    emitter: &mut Emitter<'_>,
    id: NodeId,
    out: NodeId,
    operation: &Elementwise,
) -> Result<()> {
    let (element, node, flops) = (emitter.element, emitter.node(id), emitter.flops(id));
    let shapes: Vec<&[usize]> = node.inputs.iter().map(|&input| emitter.shape(input)).collect();
    let total = n_elements(&node.shape);
    let shape = format!("{:?}", node.shape);
    let columns = emitter.width(id).max(1);
    // Of the operations with one operand or two.
    let operand = |emitter: &mut Emitter<'_>, i: usize| match node.inputs.get(i) {
        Some(&input) => emitter.operand(input),
        None => emitter.refuse(node.op.name(), format!("wants operand {i}")),
    };
    match operation {
        Elementwise::Activation(kind) => {
            let launch = activation::launch(*kind, total, element)?;
            let (x, out) = (operand(emitter, 0)?, emitter.room(out)?);
            emitter.emit(launch, activation::Bindings { x, out }, shape, flops);
        }
        Elementwise::Geglu => {
            let launch = geglu::launch(total / columns, columns, element)?;
            let (x, out) = (operand(emitter, 0)?, emitter.room(out)?);
            emitter.emit(launch, geglu::Bindings { x, out }, shape, flops);
        }
        Elementwise::Add => {
            let (a, b) = (operand(emitter, 0)?, operand(emitter, 1)?);
            let launch = add::launch(four(shapes[0])?, four(shapes[1])?, element)?;
            let out = emitter.room(out)?;
            emitter.emit(launch, add::Bindings { a, b, out }, shape, flops);
        }
        Elementwise::Scale { factor } => {
            let launch = lincomb::launch(&[*factor as f32], total, None, element)?;
            let (x, result) = (operand(emitter, 0)?, emitter.room(out)?);
            emitter.emit(launch, lincomb::Bindings { terms: vec![x], result }, shape, flops);
        }
        Elementwise::Affine { factors, offsets } => {
            let launch = affine::launch(factors, offsets, total, element)?;
            let (x, out) = (operand(emitter, 0)?, emitter.room(out)?);
            emitter.emit(launch, affine::Bindings { x, out }, shape, flops);
        }
        Elementwise::Concat { axis } => {
            let whole = four(&node.shape)?;
            let axis = axis + 4 - node.shape.len();
            let sources = (0..shapes.len()).map(|i| operand(emitter, i)).collect::<Result<Vec<_>>>()?;
            let out = emitter.room(out)?;
            let mut start = 0;
            for (source, part_shape) in sources.into_iter().zip(&shapes) {
                let part = four(part_shape)?;
                let launch = copy::launch(&copy::Copy::into_part(part, whole, axis, start), element)?;
                emitter.emit(launch, copy::Bindings { source, out: out.clone() }, shape.clone(), 0);
                start += part[axis];
            }
        }
        Elementwise::Slice { axis, start, len } => {
            let source = operand(emitter, 0)?;
            let axis4 = axis + 4 - node.shape.len();
            let slice = copy::Copy::slice(four(shapes[0])?, axis4, *start as u32, *len as u32);
            let launch = copy::launch(&slice, element)?;
            let out = emitter.room(out)?;
            emitter.emit(launch, copy::Bindings { source, out }, shape, 0);
        }
        Elementwise::Gather => gather_rows(emitter, id, out)?,
        Elementwise::TimestepEmbedding { dim, flip_sin_to_cos, freq_shift } => {
            let t = operand(emitter, 0)?;
            let n = n_elements(shapes[0]);
            let launch = timestep_embedding::launch(n, *dim as u32, *flip_sin_to_cos, *freq_shift, element)?;
            let out = emitter.room(out)?;
            emitter.emit(launch, timestep_embedding::Bindings { t, out }, shape, flops);
        }
    }
    Ok(())
}

/// Rows of a computed value.
fn gather_rows(emitter: &mut Emitter<'_>, id: NodeId, out: NodeId) -> Result<()> {
    let (node, flops) = (emitter.node(id), emitter.flops(id));
    let &[ids, x] = &node.inputs[..] else { return emitter.refuse("gather", "wants ids and rows") };
    let &[n_rows, columns] = emitter.shape(x) else { return emitter.refuse("gather", "wants rows [N,D]") };
    let launch = gather::launch(n_elements(emitter.shape(ids)), n_rows as u32, columns as u32, emitter.element)?;
    let (ids, x) = (emitter.operand(ids)?, emitter.operand(x)?);
    let out = emitter.room(out)?;
    emitter.emit(launch, gather::Bindings { ids, x, out }, format!("{:?}", node.shape), flops);
    Ok(())
}
