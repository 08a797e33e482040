//! A graph as dispatches: kernels, their parameters, and where each operand is. Made once, replayed for every run.
//!
//! Nothing here touches a device: from a program its dispatches and the bytes of its arena can be told before anything is
//! downloaded.

use std::collections::HashMap;

use super::arena::{Span, place};
use super::kernels::{
    Element, Launch, activation, add, attention, cast_to_f32, copy, embedding, gather, geglu, gemm, group_norm,
    group_norm_apply, group_norm_stats, layer_norm, lincomb, splitk_reduce, timestep_embedding,
};
use super::lower::{GemmTask, Lowered, Task, TaskKind, lower};
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, NodeId, Op};

/// Where an operand of a dispatch is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A slot of the arena.
    Slot(usize),
    /// An input of the run, by name.
    Input(String),
    /// A weight, by the name of its tensor.
    Weight(String),
    /// Not read or written: an activation's binding that the launch does not use.
    Unused,
    /// The same for a weight's binding.
    UnusedWeight,
}

/// One dispatch.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// What runs.
    pub launch: Launch,
    /// What is bound behind the parameters.
    pub operands: Vec<Operand>,
    /// The node's name, for errors and profiles.
    pub name: String,
    /// Floating-point operations, for cutting submits and for progress.
    pub flops: u64,
}

/// A graph ready to be recorded.
#[derive(Debug)]
pub struct Program {
    /// The graph's name.
    pub name: String,
    /// In order.
    pub dispatches: Vec<Dispatch>,
    /// Offset and bytes of each slot of the arena.
    pub slots: Vec<(u64, u64)>,
    /// Bytes of the arena.
    pub arena_bytes: u64,
    /// Names and shapes of the inputs, and whether they are ids.
    pub inputs: Vec<(String, Vec<usize>, bool)>,
    /// The results: where they are, and their shapes.
    pub outputs: Vec<(Operand, Vec<usize>)>,
}

impl Program {
    /// Chooses kernels, sizes and places for activations of type `element`.
    ///
    /// # Errors
    /// [`Error::Shape`] when a size is beyond what a kernel can address.
    pub fn new(graph: &Graph, element: Element) -> Result<Self> {
        let lowered = lower(graph);
        let mut builder = Builder {
            graph,
            element,
            lowered: &lowered,
            slot_of: HashMap::new(),
            spans: Vec::new(),
            dispatches: Vec::new(),
            name: String::new(),
        };
        for task in &lowered.tasks {
            builder.name = graph.node(task.node).name.clone();
            builder.task(task)?;
        }
        let end = builder.dispatches.len();
        let mut outputs = Vec::new();
        for (_, id) in &graph.outputs {
            let operand = builder.value(*id);
            if let Operand::Slot(slot) = operand {
                builder.spans[slot].last = end;
            }
            outputs.push((operand, graph.node(*id).shape.clone()));
        }
        let Builder { spans, dispatches, .. } = builder;
        let (offsets, arena_bytes) = place(&spans);
        let slots = offsets.into_iter().zip(&spans).map(|(offset, span)| (offset, span.n_bytes)).collect();
        let inputs = graph.inputs().map(|(name, shape, ids)| (name.to_string(), shape.to_vec(), ids)).collect();
        Ok(Program { name: graph.name.clone(), dispatches, slots, arena_bytes, inputs, outputs })
    }
}

struct Builder<'a> {
    graph: &'a Graph,
    element: Element,
    lowered: &'a Lowered,
    slot_of: HashMap<NodeId, usize>,
    spans: Vec<Span>,
    dispatches: Vec<Dispatch>,
    name: String,
}

/// A shape as four dimensions, ones in front.
pub(super) fn four(shape: &[usize]) -> Result<[u32; 4]> {
    if shape.len() > 4 {
        return Err(Error::Shape { node: format!("{shape:?}"), op: "reshape", reason: "has more than 4 axes".into() });
    }
    let mut four = [1; 4];
    for (to, &from) in four[4 - shape.len()..].iter_mut().zip(shape) {
        *to = from as u32;
    }
    Ok(four)
}

fn n_elements(shape: &[usize]) -> u32 {
    shape.iter().product::<usize>() as u32
}

impl Builder<'_> {
    fn node(&self, id: NodeId) -> &Node {
        self.graph.node(id)
    }

    fn shape(&self, id: NodeId) -> Vec<usize> {
        self.node(id).shape.clone()
    }

    fn slot(&mut self, n_bytes: u64) -> Operand {
        let at = self.dispatches.len();
        self.spans.push(Span { n_bytes: n_bytes.next_multiple_of(4).max(16), first: at, last: at });
        Operand::Slot(self.spans.len() - 1)
    }

    /// Where a value is. A value that no task has written yet gets its slot now.
    fn value(&mut self, id: NodeId) -> Operand {
        let root = self.lowered.roots[id.idx()];
        let node = self.graph.node(root);
        match node.op {
            Op::Input { .. } => Operand::Input(node.name.clone()),
            Op::Weight => Operand::Weight(node.name.clone()),
            _ => {
                if let Some(&slot) = self.slot_of.get(&root) {
                    return Operand::Slot(slot);
                }
                let operand = self.slot(node.n_elements() as u64 * self.element.bytes());
                if let Operand::Slot(slot) = operand {
                    self.slot_of.insert(root, slot);
                }
                operand
            }
        }
    }

    fn weight(&self, id: NodeId) -> Operand {
        Operand::Weight(self.node(id).name.clone())
    }

    fn emit(&mut self, launch: Launch, operands: Vec<Operand>, flops: u64) {
        let at = self.dispatches.len();
        for operand in &operands {
            if let Operand::Slot(slot) = operand {
                self.spans[*slot].last = at;
            }
        }
        self.dispatches.push(Dispatch { launch, operands, name: self.name.clone(), flops });
    }

    fn task(&mut self, task: &Task) -> Result<()> {
        match &task.kind {
            TaskKind::Gemm(gemm) => self.gemm(task, gemm),
            TaskKind::GroupNorm { silu } => self.group_norm(task, *silu),
            TaskKind::Plain => self.plain(task.node),
        }
    }

    fn gemm(&mut self, task: &Task, fused: &GemmTask) -> Result<()> {
        let element = self.element;
        let weight = self.shape(fused.weight);
        let x = self.shape(self.node(task.node).inputs[0]);
        let n = weight[0] as u32;
        let source = match fused.conv {
            Some(conv) => {
                let out = &self.node(task.node).shape;
                gemm::Source {
                    batch: x[0] as u32,
                    in_size: [x[1] as u32, x[2] as u32],
                    channels: [x[3] as u32, 0],
                    out_size: [out[1] as u32, out[2] as u32],
                    kernel: conv.kernel as u32,
                    stride: conv.stride as u32,
                    pad: [conv.pad[0] as u32, conv.pad[1] as u32],
                    upsample: conv.upsample,
                }
            }
            None => {
                let rows = x[1..x.len() - 1].iter().product::<usize>();
                gemm::Source::rows(x[0] as u32, rows as u32, weight[1] as u32)
            }
        };
        let epilogue = gemm::Epilogue {
            bias: fused.bias.is_some(),
            time_embedding: fused.time_embedding.map(|_| gemm::RowVector { stride: n, offset: 0 }),
            activation: fused.activation,
            geglu: fused.geglu,
            residual: fused.residual.is_some(),
        };
        let gemm = gemm::Gemm { source, n, epilogue };
        let (tile, splits) = gemm.default_plan()?;
        let flops = self.graph.cost(self.node(task.node)).flops;
        let bias = fused.bias.map_or(Operand::UnusedWeight, |id| self.weight(id));
        let time_embedding = fused.time_embedding.map_or(Operand::Unused, |id| self.value(id));
        let residual = fused.residual.map_or(Operand::Unused, |id| self.value(id));
        let x = self.value(fused.x);
        let weight = self.weight(fused.weight);
        if splits == 1 {
            let out = self.value(task.out);
            let launch = gemm::launch(&gemm, element, tile, 1)?;
            self.emit(
                launch,
                vec![x, Operand::Unused, weight, bias, time_embedding, residual, out, Operand::Unused],
                flops,
            );
            return Ok(());
        }
        let partial = self.slot(gemm.partial_bytes(splits)?);
        let unused = Operand::Unused;
        let launch = gemm::launch(&gemm, element, tile, splits)?;
        let operands = vec![
            x,
            unused.clone(),
            weight,
            Operand::UnusedWeight,
            unused.clone(),
            unused.clone(),
            unused,
            partial.clone(),
        ];
        self.emit(launch, operands, flops);
        let out = self.value(task.out);
        let launch = splitk_reduce::launch(&gemm, element, splits)?;
        self.emit(launch, vec![partial, bias, time_embedding, residual, out], 0);
        Ok(())
    }

    fn group_norm(&mut self, task: &Task, silu: bool) -> Result<()> {
        let node = self.node(task.node).clone();
        let Op::GroupNorm { groups, eps } = node.op else {
            return Err(Error::Shape { node: node.name, op: "group_norm", reason: "is another operation".into() });
        };
        let channels = node.shape.last().copied().unwrap_or(1);
        let pixels = node.n_elements() / (node.shape[0] * channels);
        let norm = group_norm::GroupNorm {
            batch: node.shape[0] as u32,
            pixels: pixels as u32,
            channels: [channels as u32, 0],
            groups: groups as u32,
            eps: eps as f32,
        };
        let x = self.value(node.inputs[0]);
        let (weight, bias) = (self.weight(node.inputs[1]), self.weight(node.inputs[2]));
        let parts = self.slot(norm.partial_bytes()?);
        let launch = group_norm_stats::launch(&norm, self.element)?;
        self.emit(launch, vec![x.clone(), Operand::Unused, parts.clone()], self.graph.cost(&node).flops);
        let out = self.value(task.out);
        let launch = group_norm_apply::launch(&norm, self.element, silu)?;
        self.emit(launch, vec![x, Operand::Unused, parts, weight, bias, out], 0);
        Ok(())
    }

    /// A node that is a kernel of its own.
    fn plain(&mut self, id: NodeId) -> Result<()> {
        let element = self.element;
        let node = self.node(id).clone();
        let flops = self.graph.cost(&node).flops;
        let inputs: Vec<Operand> = node.inputs.iter().map(|&input| self.value(input)).collect();
        let shapes: Vec<Vec<usize>> = node.inputs.iter().map(|&input| self.shape(input)).collect();
        let total = n_elements(&node.shape);
        let with_out = |operands: &[Operand], out: Operand| operands.iter().cloned().chain([out]).collect();
        match &node.op {
            Op::LayerNorm { eps } => {
                let columns = node.shape.last().copied().unwrap_or(1) as u32;
                let launch = layer_norm::launch(total / columns.max(1), columns, *eps as f32, element)?;
                let out = self.value(id);
                self.emit(launch, with_out(&inputs, out), flops);
            }
            Op::Activation(kind) => {
                let launch = activation::launch(*kind, total, element)?;
                let out = self.value(id);
                self.emit(launch, with_out(&inputs, out), flops);
            }
            Op::Geglu => {
                let columns = node.shape.last().copied().unwrap_or(1) as u32;
                let launch = geglu::launch(total / columns.max(1), columns, element)?;
                let out = self.value(id);
                self.emit(launch, with_out(&inputs, out), flops);
            }
            Op::Add => {
                let launch = add::launch(four(&shapes[0])?, four(&shapes[1])?, element)?;
                let out = self.value(id);
                self.emit(launch, with_out(&inputs, out), flops);
            }
            Op::Scale { factor } => {
                let launch = lincomb::launch(&[*factor as f32], total, None, element)?;
                let out = self.value(id);
                let unused = vec![Operand::Unused; lincomb::MAX_TERMS - 1];
                let operands = inputs.into_iter().chain(unused).chain([out]).collect();
                self.emit(launch, operands, flops);
            }
            Op::Concat { axis } => {
                let whole = four(&node.shape)?;
                let axis = axis + 4 - node.shape.len();
                let mut start = 0;
                let out = self.value(id);
                for (input, shape) in inputs.into_iter().zip(&shapes) {
                    let part = four(shape)?;
                    let launch = copy::launch(&copy::Copy::into_part(part, whole, axis, start), element)?;
                    self.emit(launch, vec![input, out.clone()], 0);
                    start += part[axis];
                }
            }
            Op::Slice { axis, start, len } => {
                let axis4 = axis + 4 - node.shape.len();
                let slice = copy::Copy::slice(four(&shapes[0])?, axis4, *start as u32, *len as u32);
                let launch = copy::launch(&slice, element)?;
                let out = self.value(id);
                self.emit(launch, with_out(&inputs, out), 0);
            }
            Op::Embedding => {
                let &[n_rows, columns] = shapes[1].as_slice() else { return self.refuse(&node) };
                let (n_ids, n_rows, columns) = (n_elements(&shapes[0]), n_rows as u32, columns as u32);
                let launch = match &inputs[1] {
                    Operand::Weight(_) => embedding::launch(n_ids, n_rows, columns, element)?,
                    _ => gather::launch(n_ids, n_rows, columns, element)?,
                };
                let out = self.value(id);
                self.emit(launch, with_out(&inputs, out), flops);
            }
            Op::TimestepEmbedding { dim, flip_sin_to_cos, freq_shift } => {
                let n = n_elements(&shapes[0]);
                let mut t = inputs[0].clone();
                if element == Element::F16 {
                    let wide = self.slot(4 * u64::from(n));
                    self.emit(cast_to_f32::launch(n, element)?, vec![t, wide.clone()], 0);
                    t = wide;
                }
                let launch = timestep_embedding::launch(n, *dim as u32, *flip_sin_to_cos, *freq_shift, element)?;
                let out = self.value(id);
                self.emit(launch, vec![t, out], flops);
            }
            Op::Attention { heads, scale, causal, .. } => {
                let (&[batch, queries, width], &[_, keys, _]) = (shapes[0].as_slice(), shapes[1].as_slice()) else {
                    return self.refuse(&node);
                };
                let sizes = [batch, queries, keys, *heads, width / heads].map(|n| n as u32);
                let [batch, queries, keys, heads, head_size] = sizes;
                let dense = attention::Attention::dense(batch, queries, keys, heads, head_size, *scale as f32, *causal);
                let launch = attention::launch(&dense, element)?;
                let out = self.value(id);
                self.emit(launch, with_out(&inputs, out), flops);
            }
            _ => return self.refuse(&node),
        }
        Ok(())
    }

    fn refuse(&self, node: &Node) -> Result<()> {
        Err(Error::Shape { node: node.name.clone(), op: node.op.name(), reason: "has no kernel".into() })
    }
}
