//! Emits elementwise work: one dispatch each, and one for each part of a concatenation.

use super::fuse::Elementwise;
use super::{activation, add, affine, cast_from_f32, cast_to_f32, copy, embedding, gather, geglu, timestep_embedding};
use crate::error::Result;
use crate::graph::{NodeId, Op};
use crate::run::gpu::emit::{Emitter, Operand, four, n_elements};
use crate::run::gpu::kernel::Element;
use crate::run::gpu::kernels::sampling::lincomb;
use crate::run::gpu::weight_layout::{WeightKey, WeightLayout};

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

/// The layout of position embeddings that a lookup adds.
pub(in crate::run::gpu) fn positions_layout() -> WeightLayout {
    WeightLayout::Vector
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
        Elementwise::Embedding { positions } => lookup(emitter, id, out, *positions)?,
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

/// Rows of a table of weights, or of a computed value.
fn lookup(emitter: &mut Emitter<'_>, id: NodeId, out: NodeId, positions: Option<NodeId>) -> Result<()> {
    let (node, flops) = (emitter.node(id), emitter.flops(id));
    let &[ids, table] = &node.inputs[..] else { return emitter.refuse("embedding", "wants ids and a table") };
    let &[n_rows, columns] = emitter.shape(table) else {
        return emitter.refuse("embedding", "wants a table [N,D]");
    };
    let (n_ids, n_rows, columns) = (n_elements(emitter.shape(ids)), n_rows as u32, columns as u32);
    let (ids, is_weight) = (emitter.operand(ids)?, matches!(emitter.node(emitter.root(table)).op, Op::Weight));
    let table = emitter.operand(table)?;
    if !is_weight {
        let launch = gather::launch(n_ids, n_rows, columns, emitter.element)?;
        let out = emitter.room(out)?;
        emitter.emit(launch, gather::Bindings { ids, table, out }, format!("{:?}", node.shape), flops);
        return Ok(());
    }
    let n_positions = positions.map(|id| (emitter.node(id).n_elements() / columns.max(1) as usize) as u32);
    let is_f32 = emitter.layout_of(node.inputs[1]) == WeightLayout::Table { is_f32: true };
    let launch = embedding::launch(n_ids, n_rows, columns, n_positions, is_f32, emitter.element)?;
    let positions = positions.map(|id| Operand::Weight(WeightKey::of(emitter.graph, &[id], positions_layout())));
    let out = emitter.room(out)?;
    let (shape, flops) = match positions {
        Some(_) => (format!("{n_ids}x{columns}"), 0),
        None => (format!("{:?}", node.shape), flops),
    };
    emitter.emit(launch, embedding::Bindings { ids, table, out, positions }, shape, flops);
    Ok(())
}
