//! Nodes that are a kernel of their own: attention, lookups, and whatever is done element by element.

use super::super::kernels::{
    activation, add, affine, attention, copy, embedding, gather, geglu, layer_norm, lincomb, timestep_embedding,
};
use super::super::lower::{Task, weight_key};
use super::{Builder, Operand, four, n_elements};
use crate::error::Result;
use crate::graph::{NodeId, Op};

impl<'a> Builder<'a> {
    pub(super) fn embedding(&mut self, task: &Task, positions: NodeId) -> Result<()> {
        let node = self.node(task.node);
        let &[n_rows, columns] = self.shape(node.inputs[1]) else {
            return self.refuse("embedding", "wants a table [N,D]");
        };
        let n_ids = n_elements(self.shape(node.inputs[0]));
        let n_positions = (self.node(positions).n_elements() / columns.max(1)) as u32;
        let launch = embedding::launch(n_ids, n_rows as u32, columns as u32, Some(n_positions), self.element)?;
        let ids = self.whole(node.inputs[0])?;
        let (table, positions) = (self.weight(&[node.inputs[1]]), self.weight(&[positions]));
        let out = self.room(task.out)?;
        self.emit(launch, vec![ids, table, out, positions], format!("{n_ids}x{columns}"), 0);
        Ok(())
    }

    pub(super) fn attention(&mut self, id: NodeId, mut operands: Vec<Operand>, packed: bool) -> Result<()> {
        let node = self.node(id);
        let Op::Attention { heads, scale, causal, .. } = node.op else {
            return self.refuse("attention", "is another operation");
        };
        let keys = if packed { &node.shape } else { self.shape(node.inputs[1]) };
        let (&[batch, queries, width], &[_, keys, _]) = (node.shape.as_slice(), keys) else {
            return self.refuse("attention", "wants [B,T,D]");
        };
        let sizes = [batch, queries, keys, heads, width / heads].map(|n| n as u32);
        let [batch, queries, keys, heads, head_size] = sizes;
        let dense = attention::Attention::dense(batch, queries, keys, heads, head_size, scale as f32, causal);
        let attention = if packed { dense.packed() } else { dense };
        let launch = attention::launch(&attention, &self.machine())?;
        operands.push(self.room(id)?);
        let shape = format!("{batch}x{heads}x{queries}x{keys}x{head_size}");
        self.emit(launch, operands, shape, self.graph.cost(node).flops);
        Ok(())
    }

    /// An operand of a node that is a kernel of its own: a weight by itself, or a value.
    fn operand(&mut self, id: NodeId) -> Result<Operand> {
        let root = self.lowered.roots[id.idx()];
        if matches!(self.node(root).op, Op::Weight) {
            return Ok(Operand::Weight(weight_key(self.graph, &[root])));
        }
        self.whole(id)
    }

    /// A node that is a kernel of its own.
    pub(super) fn plain(&mut self, id: NodeId) -> Result<()> {
        let element = self.element;
        let node = self.node(id);
        let flops = self.graph.cost(node).flops;
        let inputs = node.inputs.iter().map(|&input| self.operand(input)).collect::<Result<Vec<_>>>()?;
        let shapes: Vec<&[usize]> = node.inputs.iter().map(|&input| self.shape(input)).collect();
        let total = n_elements(&node.shape);
        let shape = format!("{:?}", node.shape);
        let columns = node.shape.last().copied().unwrap_or(1) as u32;
        let with_out = |operands: Vec<Operand>, out: Operand| operands.into_iter().chain([out]).collect();
        match &node.op {
            Op::LayerNorm { eps } => {
                let launch = layer_norm::launch(total / columns.max(1), columns, *eps as f32, element)?;
                let out = self.room(id)?;
                self.emit(launch, with_out(inputs, out), shape, flops);
            }
            Op::Activation(kind) => {
                let launch = activation::launch(*kind, total, element)?;
                let out = self.room(id)?;
                self.emit(launch, with_out(inputs, out), shape, flops);
            }
            Op::Geglu => {
                let launch = geglu::launch(total / columns.max(1), columns, element)?;
                let out = self.room(id)?;
                self.emit(launch, with_out(inputs, out), shape, flops);
            }
            Op::Add => {
                let launch = add::launch(four(shapes[0])?, four(shapes[1])?, element)?;
                let out = self.room(id)?;
                self.emit(launch, with_out(inputs, out), shape, flops);
            }
            Op::Scale { factor } => {
                let launch = lincomb::launch(&[*factor as f32], total, None, element)?;
                let out = self.room(id)?;
                let unused = vec![Operand::Unused; lincomb::MAX_TERMS - 1];
                let operands = inputs.into_iter().chain(unused).chain([out]).collect();
                self.emit(launch, operands, shape, flops);
            }
            Op::Affine { factors, offsets } => {
                let launch = affine::launch(factors, offsets, total, element)?;
                let out = self.room(id)?;
                self.emit(launch, with_out(inputs, out), shape, flops);
            }
            Op::Concat { axis } => {
                let whole = four(&node.shape)?;
                let axis = axis + 4 - node.shape.len();
                let mut start = 0;
                let out = self.room(id)?;
                for (input, part_shape) in inputs.into_iter().zip(&shapes) {
                    let part = four(part_shape)?;
                    let launch = copy::launch(&copy::Copy::into_part(part, whole, axis, start), element)?;
                    self.emit(launch, vec![input, out.clone()], shape.clone(), 0);
                    start += part[axis];
                }
            }
            Op::Slice { axis, start, len } => {
                let axis4 = axis + 4 - node.shape.len();
                let slice = copy::Copy::slice(four(shapes[0])?, axis4, *start as u32, *len as u32);
                let launch = copy::launch(&slice, element)?;
                let out = self.room(id)?;
                self.emit(launch, with_out(inputs, out), shape, 0);
            }
            Op::Embedding => {
                let &[n_rows, columns] = shapes[1] else { return self.refuse("embedding", "wants a table [N,D]") };
                let (n_ids, n_rows, columns) = (n_elements(shapes[0]), n_rows as u32, columns as u32);
                let is_weight = matches!(inputs[1], Operand::Weight(_));
                let out = self.room(id)?;
                let mut operands: Vec<Operand> = with_out(inputs, out);
                let launch = if is_weight {
                    operands.push(Operand::UnusedWeight);
                    embedding::launch(n_ids, n_rows, columns, None, element)?
                } else {
                    gather::launch(n_ids, n_rows, columns, element)?
                };
                self.emit(launch, operands, shape, flops);
            }
            Op::TimestepEmbedding { dim, flip_sin_to_cos, freq_shift } => {
                let n = n_elements(shapes[0]);
                let launch = timestep_embedding::launch(n, *dim as u32, *flip_sin_to_cos, *freq_shift, element)?;
                let out = self.room(id)?;
                self.emit(launch, with_out(inputs, out), shape, flops);
            }
            Op::Attention { .. } => return self.attention(id, inputs, false),
            _ => return self.refuse(node.op.name(), "has no kernel"),
        }
        Ok(())
    }
}
