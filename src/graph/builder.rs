//! Makes graphs. Each method appends one operation, checks its operands' shapes, and names the node that does not fit.

use std::collections::HashMap;

use super::{Activation, Graph, InputKind, Node, NodeId, Op, Output, OutputKind, Path};
use crate::error::{Error, Result};

/// To which size a picture is taken before a convolution, by repeating pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upsample {
    /// Twice its height and width.
    Double,
    /// This height and width: each the double, or one less.
    To([usize; 2]),
}

/// How a convolution moves over the picture. Kernels are square; the input's channels come from the operand.
#[derive(Clone, Copy, Debug)]
pub struct Conv {
    /// Channels out.
    pub out_channels: usize,
    /// The kernel's side, 1 or 3 in every published model.
    pub kernel: usize,
    /// Pixels from one application to the next.
    pub stride: usize,
    /// Zeros around the picture: top, left, bottom, right.
    pub pad: [usize; 4],
    /// Enlarge the picture first.
    pub upsample: Option<Upsample>,
}

impl Conv {
    /// A 3x3 convolution that keeps the size.
    #[must_use]
    pub fn k3(out_channels: usize) -> Self {
        Conv { out_channels, kernel: 3, stride: 1, pad: [1; 4], upsample: None }
    }

    /// A 1x1 convolution.
    #[must_use]
    pub fn k1(out_channels: usize) -> Self {
        Conv { out_channels, kernel: 1, stride: 1, pad: [0; 4], upsample: None }
    }

    /// A 3x3 convolution with stride 2 and the given padding.
    #[must_use]
    pub fn down(out_channels: usize, pad: [usize; 4]) -> Self {
        Conv { out_channels, kernel: 3, stride: 2, pad, upsample: None }
    }

    /// A 3x3 convolution over the doubled picture.
    #[must_use]
    pub fn up(out_channels: usize) -> Self {
        Conv { upsample: Some(Upsample::Double), ..Conv::k3(out_channels) }
    }

    /// A 3x3 convolution over the picture enlarged to a height and width: the double, or one less where that is odd.
    #[must_use]
    pub fn up_to(out_channels: usize, size: [usize; 2]) -> Self {
        Conv { upsample: Some(Upsample::To(size)), ..Conv::k3(out_channels) }
    }
}

/// Collects nodes. Model code reads like ordinary eager code over it.
#[derive(Debug)]
pub struct GraphBuilder {
    graph: Graph,
    weights: HashMap<String, NodeId>,
}

impl GraphBuilder {
    /// An empty graph under a name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let graph = Graph { name: name.to_string(), needs_f32: false, nodes: Vec::new(), outputs: Vec::new() };
        GraphBuilder { graph, weights: HashMap::new() }
    }

    /// The shape of a value.
    #[must_use]
    pub fn shape(&self, id: NodeId) -> &[usize] {
        &self.graph.node(id).shape
    }

    /// The last dimension of a value: channels or width.
    #[must_use]
    pub fn width(&self, id: NodeId) -> usize {
        self.shape(id).last().copied().unwrap_or(1)
    }

    fn push(&mut self, op: Op, inputs: &[NodeId], shape: Vec<usize>, name: &str) -> NodeId {
        let id = NodeId(self.graph.nodes.len() as u32);
        self.graph.nodes.push(Node { op, inputs: inputs.to_vec(), shape, name: name.to_string() });
        id
    }

    fn refuse<T>(&self, name: impl ToString, op: &'static str, reason: String) -> Result<T> {
        Err(Error::Shape { node: format!("{}: {}", self.graph.name, name.to_string()), op, reason })
    }

    /// A float value given at every run by the caller or the sampler.
    pub fn input(&mut self, name: &str, shape: &[usize]) -> NodeId {
        self.push(Op::Input(InputKind::Values), &[], shape.to_vec(), name)
    }

    /// A float value given at every run that another graph computed for the prompt.
    pub fn input_computed(&mut self, name: &str, shape: &[usize]) -> NodeId {
        self.push(Op::Input(InputKind::Computed), &[], shape.to_vec(), name)
    }

    /// Token ids or row numbers given at every run.
    pub fn input_ids(&mut self, name: &str, shape: &[usize]) -> NodeId {
        self.push(Op::Input(InputKind::Ids), &[], shape.to_vec(), name)
    }

    /// A tensor of the checkpoint. Asking twice for a name gives the same node.
    pub fn weight(&mut self, name: &Path, shape: &[usize]) -> Result<NodeId> {
        if let Some(&id) = self.weights.get(name.as_str()) {
            if self.shape(id) != shape {
                return self.refuse(name, "weight", format!("is used as {:?} and as {shape:?}", self.shape(id)));
            }
            return Ok(id);
        }
        let id = self.push(Op::Weight, &[], shape.to_vec(), name.as_str());
        self.weights.insert(name.as_str().to_string(), id);
        Ok(id)
    }

    /// The shape \[B,H,W,C\] of a value that must be a picture.
    pub fn picture(&self, x: NodeId, w: &Path) -> Result<[usize; 4]> {
        match *self.shape(x) {
            [batch, height, width, channels] => Ok([batch, height, width, channels]),
            ref other => self.refuse(w, "reshape", format!("wants [B,H,W,C], got {other:?}")),
        }
    }

    /// x \[B,H,W,C\] → \[B,H',W',O\], weights `weight` \[O,C,K,K\] and `bias` \[O\].
    pub fn conv2d(&mut self, x: NodeId, w: &Path, conv: Conv) -> Result<NodeId> {
        self.convolution(x, w, conv, true)
    }

    /// The same without a bias.
    pub fn conv2d_without_bias(&mut self, x: NodeId, w: &Path, conv: Conv) -> Result<NodeId> {
        self.convolution(x, w, conv, false)
    }

    fn convolution(&mut self, x: NodeId, w: &Path, conv: Conv, bias: bool) -> Result<NodeId> {
        let [batch, height, width, channels] = self.picture(x, w)?;
        let Conv { out_channels, kernel, stride, pad, upsample } = conv;
        let upsample = upsample.map(|upsample| match upsample {
            Upsample::Double => [2 * height, 2 * width],
            Upsample::To(size) => size,
        });
        if let Some([to_h, to_w]) = upsample
            && [(height, to_h), (width, to_w)].iter().any(|&(from, to)| to.div_ceil(2) != from)
        {
            return self.refuse(
                w,
                "conv2d",
                format!(
                    "cannot enlarge a picture of {height}x{width} to {to_h}x{to_w}: only to the double, or one less"
                ),
            );
        }
        let [full_h, full_w] = upsample.unwrap_or([height, width]);
        let (padded_h, padded_w) = (full_h + pad[0] + pad[2], full_w + pad[1] + pad[3]);
        if stride == 0 || kernel == 0 || padded_h < kernel || padded_w < kernel {
            return self.refuse(
                w,
                "conv2d",
                format!("with kernel {kernel} and stride {stride} does not fit a picture of {height}x{width}"),
            );
        }
        let mut inputs = vec![x, self.weight(&w.pp("weight"), &[out_channels, channels, kernel, kernel])?];
        if bias {
            inputs.push(self.weight(&w.pp("bias"), &[out_channels])?);
        }
        let shape = vec![batch, (padded_h - kernel) / stride + 1, (padded_w - kernel) / stride + 1, out_channels];
        Ok(self.push(Op::Conv2d { stride, pad, upsample }, &inputs, shape, w.as_str()))
    }

    /// x \[..,D\] → \[..,O\], weights `weight` \[O,D\] and, if asked for, `bias` \[O\].
    pub fn linear(&mut self, x: NodeId, w: &Path, out_width: usize, bias: bool) -> Result<NodeId> {
        let mut shape = self.shape(x).to_vec();
        let Some(width) = shape.last_mut() else {
            return self.refuse(w, "linear", "wants at least one dimension".into());
        };
        let in_width = std::mem::replace(width, out_width);
        let mut inputs = vec![x, self.weight(&w.pp("weight"), &[out_width, in_width])?];
        if bias {
            inputs.push(self.weight(&w.pp("bias"), &[out_width])?);
        }
        Ok(self.push(Op::Linear, &inputs, shape, w.as_str()))
    }

    /// x \[B,..,C\] → the same shape, weights `weight` and `bias` \[C\].
    pub fn group_norm(&mut self, x: NodeId, w: &Path, groups: usize, eps: f64) -> Result<NodeId> {
        let channels = self.width(x);
        if groups == 0 || !channels.is_multiple_of(groups) {
            return self.refuse(w, "group_norm", format!("cannot split {channels} channels into {groups} groups"));
        }
        let inputs = [x, self.weight(&w.pp("weight"), &[channels])?, self.weight(&w.pp("bias"), &[channels])?];
        let shape = self.shape(x).to_vec();
        Ok(self.push(Op::GroupNorm { groups, eps }, &inputs, shape, w.as_str()))
    }

    /// x \[..,D\] → the same shape, weights `weight` and `bias` \[D\].
    pub fn layer_norm(&mut self, x: NodeId, w: &Path, eps: f64) -> Result<NodeId> {
        let width = self.width(x);
        let inputs = [x, self.weight(&w.pp("weight"), &[width])?, self.weight(&w.pp("bias"), &[width])?];
        let shape = self.shape(x).to_vec();
        Ok(self.push(Op::LayerNorm { eps }, &inputs, shape, w.as_str()))
    }

    /// Elementwise.
    pub fn activation(&mut self, x: NodeId, activation: Activation) -> NodeId {
        let (shape, name) = (self.shape(x).to_vec(), self.graph.node(x).name.clone());
        self.push(Op::Activation(activation), &[x], shape, &name)
    }

    /// `x * sigmoid(x)`.
    pub fn silu(&mut self, x: NodeId) -> NodeId {
        self.activation(x, Activation::Silu)
    }

    /// x \[..,2D\] → \[..,D\].
    pub fn geglu(&mut self, x: NodeId, w: &Path) -> Result<NodeId> {
        let mut shape = self.shape(x).to_vec();
        match shape.last_mut() {
            Some(width) if width.is_multiple_of(2) => *width /= 2,
            _ => return self.refuse(w, "geglu", format!("wants an even width, got {:?}", self.shape(x))),
        }
        Ok(self.push(Op::Geglu, &[x], shape, w.as_str()))
    }

    /// a + b, where each dimension of b is a's or 1.
    pub fn add(&mut self, a: NodeId, b: NodeId, w: &Path) -> Result<NodeId> {
        let (shape, other) = (self.shape(a).to_vec(), self.shape(b));
        if shape.len() != other.len() || shape.iter().zip(other).any(|(&n, &m)| m != n && m != 1) {
            return self.refuse(w, "add", format!("cannot add {other:?} to {shape:?}"));
        }
        Ok(self.push(Op::Add, &[a, b], shape, w.as_str()))
    }

    /// x times a constant. Times one is x itself.
    pub fn scale(&mut self, x: NodeId, factor: f64, w: &Path) -> NodeId {
        if factor == 1.0 {
            return x;
        }
        let shape = self.shape(x).to_vec();
        self.push(Op::Scale { factor }, &[x], shape, w.as_str())
    }

    /// x \[..,C\] times a factor plus an offset: one pair for all values, or one for each of four channels.
    pub fn affine(&mut self, x: NodeId, factors: &[f64], offsets: &[f64], w: &Path) -> Result<NodeId> {
        let shape = self.shape(x).to_vec();
        let fits = factors.len() == offsets.len() && (factors.len() == 1 || [4, self.width(x)] == [factors.len(); 2]);
        if !fits {
            let reason = format!("cannot apply {} factors and {} offsets to {shape:?}", factors.len(), offsets.len());
            return self.refuse(w, "affine", reason);
        }
        let op = Op::Affine { factors: factors.to_vec(), offsets: offsets.to_vec() };
        Ok(self.push(op, &[x], shape, w.as_str()))
    }

    /// Values joined along an axis.
    pub fn concat(&mut self, parts: &[NodeId], axis: usize, w: &Path) -> Result<NodeId> {
        let Some(&first) = parts.first() else {
            return self.refuse(w, "concat", "wants at least one value".into());
        };
        let mut shape = self.shape(first).to_vec();
        if axis >= shape.len() {
            return self.refuse(w, "concat", format!("has no axis {axis} in {shape:?}"));
        }
        for &part in &parts[1..] {
            let other = self.shape(part);
            let fits = other.len() == shape.len() && (0..shape.len()).all(|d| d == axis || other[d] == shape[d]);
            if !fits {
                return self.refuse(w, "concat", format!("cannot join {other:?} to {shape:?} along axis {axis}"));
            }
            shape[axis] += other[axis];
        }
        Ok(self.push(Op::Concat { axis }, parts, shape, w.as_str()))
    }

    /// The same elements under another shape.
    pub fn reshape(&mut self, x: NodeId, shape: &[usize]) -> Result<NodeId> {
        let (from, name) = (self.shape(x).to_vec(), self.graph.node(x).name.clone());
        if from.iter().product::<usize>() != shape.iter().product::<usize>() {
            return self.refuse(name, "reshape", format!("cannot turn {from:?} into {shape:?}"));
        }
        Ok(self.push(Op::Reshape, &[x], shape.to_vec(), &name))
    }

    /// `len` entries from `start` along an axis.
    pub fn slice(&mut self, x: NodeId, axis: usize, start: usize, len: usize, w: &Path) -> Result<NodeId> {
        let mut shape = self.shape(x).to_vec();
        if axis >= shape.len() || start + len > shape[axis] {
            return self.refuse(w, "slice", format!("{start}..{} is outside axis {axis} of {shape:?}", start + len));
        }
        shape[axis] = len;
        Ok(self.push(Op::Slice { axis, start, len }, &[x], shape, w.as_str()))
    }

    /// ids \[..\], x \[N,D\] → \[..,D\]: rows of x by number.
    pub fn gather(&mut self, ids: NodeId, x: NodeId, w: &Path) -> Result<NodeId> {
        let &[_, width] = self.shape(x) else {
            return self.refuse(w, "gather", format!("wants rows [N,D], got {:?}", self.shape(x)));
        };
        if !matches!(self.graph.node(ids).op, Op::Input(InputKind::Ids)) {
            return self.refuse(w, "gather", "wants ids given as an input".into());
        }
        let mut shape = self.shape(ids).to_vec();
        shape.push(width);
        Ok(self.push(Op::Gather, &[ids, x], shape, w.as_str()))
    }

    /// t \[B\] → \[B,dim\].
    pub fn timestep_embedding(
        &mut self,
        t: NodeId,
        dim: usize,
        flip_sin_to_cos: bool,
        freq_shift: f64,
        w: &Path,
    ) -> Result<NodeId> {
        let &[batch] = self.shape(t) else {
            return self.refuse(w, "timestep_embedding", format!("wants [B], got {:?}", self.shape(t)));
        };
        if dim == 0 || !dim.is_multiple_of(2) {
            return self.refuse(w, "timestep_embedding", format!("wants an even width, got {dim}"));
        }
        let op = Op::TimestepEmbedding { dim, flip_sin_to_cos, freq_shift };
        Ok(self.push(op, &[t], vec![batch, dim], w.as_str()))
    }

    /// q \[B,T,D\], k and v \[B,S,D\] → \[B,T,D\], scores scaled by 1/sqrt(D/heads).
    pub fn attention(
        &mut self,
        [q, k, v]: [NodeId; 3],
        heads: usize,
        causal: bool,
        upcast: bool,
        w: &Path,
    ) -> Result<NodeId> {
        let shape = self.shape(q).to_vec();
        let (key, value) = (self.shape(k), self.shape(v));
        let fits = shape.len() == 3
            && key == value
            && key.len() == 3
            && key[0] == shape[0]
            && key[2] == shape[2]
            && (!causal || key[1] == shape[1]);
        if !fits {
            return self.refuse(w, "attention", format!("of {shape:?} over keys {key:?} and values {value:?}"));
        }
        if heads == 0 || !shape[2].is_multiple_of(heads) {
            return self.refuse(w, "attention", format!("cannot split a width of {} into {heads} heads", shape[2]));
        }
        let scale = ((shape[2] / heads) as f64).sqrt().recip();
        Ok(self.push(Op::Attention { heads, scale, causal, upcast }, &[q, k, v], shape, w.as_str()))
    }

    /// Names a result.
    pub fn output(&mut self, name: &str, id: NodeId) {
        self.graph.outputs.push(Output { name: name.to_string(), id, kind: OutputKind::Values });
    }

    /// Makes a value a result that another graph of the same model reads ([`InputKind::Computed`]).
    pub fn output_computed(&mut self, name: &str, id: NodeId) {
        self.graph.outputs.push(Output { name: name.to_string(), id, kind: OutputKind::Computed });
    }

    /// The graph, without the nodes that no output depends on. Inputs stay, so that callers need not know which matter.
    #[must_use]
    pub fn finish(mut self) -> Graph {
        let n_nodes = self.graph.nodes.len();
        let mut live = vec![false; n_nodes];
        for Output { id, .. } in &self.graph.outputs {
            live[id.idx()] = true;
        }
        for idx in (0..n_nodes).rev() {
            live[idx] |= matches!(self.graph.nodes[idx].op, Op::Input(_));
            if live[idx] {
                for input in &self.graph.nodes[idx].inputs {
                    live[input.idx()] = true;
                }
            }
        }
        let mut renumbered = vec![NodeId(0); n_nodes];
        let mut nodes = Vec::with_capacity(n_nodes);
        for (idx, mut node) in self.graph.nodes.into_iter().enumerate() {
            if live[idx] {
                renumbered[idx] = NodeId(nodes.len() as u32);
                node.inputs.iter_mut().for_each(|input| *input = renumbered[input.idx()]);
                nodes.push(node);
            }
        }
        self.graph.nodes = nodes;
        self.graph.outputs.iter_mut().for_each(|output| output.id = renumbered[output.id.idx()]);
        self.graph
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_sides_are_halved_upwards_and_restored() {
        let mut g = GraphBuilder::new("unet");
        let w = Path::root();
        let x = g.input("sample", &[2, 5, 1, 4]);
        let down = g.conv2d(x, &w.pp("down"), Conv::down(4, [1; 4])).unwrap();
        assert_eq!(g.shape(down), [2, 3, 1, 4]);
        let up = g.conv2d(down, &w.pp("up"), Conv::up_to(4, [5, 1])).unwrap();
        assert_eq!(g.shape(up), [2, 5, 1, 4]);
        let double = g.conv2d(down, &w.pp("up"), Conv::up(4)).unwrap();
        assert_eq!(g.shape(double), [2, 6, 2, 4]);
        let message = g.conv2d(down, &w.pp("up"), Conv::up_to(4, [7, 2])).unwrap_err().to_string();
        assert_eq!(message, "unet: up: conv2d cannot enlarge a picture of 3x1 to 7x2: only to the double, or one less");
    }

    #[test]
    fn wrong_shapes_are_refused_by_name() {
        let mut g = GraphBuilder::new("unet");
        let x = g.input("sample", &[1, 8, 8, 6]);
        let w = Path::root().pp("mid_block").pp("norm");
        let message = g.group_norm(x, &w, 4, 1e-5).unwrap_err().to_string();
        assert_eq!(message, "unet: mid_block.norm: group_norm cannot split 6 channels into 4 groups");
        let y = g.input("other", &[1, 8, 4, 6]);
        assert!(g.add(x, y, &w).unwrap_err().to_string().contains("cannot add [1, 8, 4, 6] to [1, 8, 8, 6]"));
        assert!(g.concat(&[x, y], 3, &w).is_err());
        assert!(g.reshape(x, &[1, 8, 8, 5]).is_err());
        assert!(g.attention([x, x, x], 2, false, false, &w).is_err());
        g.conv2d(x, &w, Conv::k3(4)).unwrap();
        let other = g.weight(&w.pp("bias"), &[5]).unwrap_err().to_string();
        assert!(other.contains("is used as [4] and as [5]"), "{other}");
    }

    #[test]
    fn unused_nodes_are_dropped_and_work_is_counted() {
        let mut g = GraphBuilder::new("toy");
        let x = g.input("x", &[2, 8, 8, 3]);
        let w = Path::root();
        let y = g.conv2d(x, &w.pp("conv"), Conv::up(5)).unwrap();
        g.linear(x, &w.pp("unused"), 7, true).unwrap();
        g.output("y", y);
        let graph = g.finish();
        assert_eq!(graph.node(graph.outputs[0].id).shape, [2, 16, 16, 5]);
        assert_eq!(graph.weights().len(), 2);
        assert_eq!(graph.n_parameters(), 5 * 3 * 9 + 5);
        assert_eq!(graph.flops(), 2 * (2 * 16 * 16 * 5) * (3 * 9));
    }
}
