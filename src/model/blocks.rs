//! The blocks that the UNet and the VAE share or are made of. Each function appends one block of diffusers, under its
//! name there, and returns its result.

use crate::error::Result;
use crate::graph::{Conv, GraphBuilder, NodeId, Path};

/// Epsilon of the group norm in front of a transformer, fixed in diffusers' `Transformer2DModel`.
const TRANSFORMER_NORM_EPS: f64 = 1e-6;
/// Epsilon of a transformer block's layer norms, PyTorch's default.
const LAYER_NORM_EPS: f64 = 1e-5;

/// A residual block (diffusers `ResnetBlock2D`): x \[B,H,W,C\] → \[B,H,W,O\]. `temb` is silu of the timestep embedding,
/// \[B,D\].
pub fn resnet_block(
    g: &mut GraphBuilder,
    w: &Path,
    x: NodeId,
    temb: Option<NodeId>,
    out_channels: usize,
    groups: usize,
    eps: f64,
) -> Result<NodeId> {
    let mut h = g.group_norm(x, &w.pp("norm1"), groups, eps)?;
    h = g.silu(h);
    h = g.conv2d(h, &w.pp("conv1"), Conv::k3(out_channels))?;
    if let Some(temb) = temb {
        let temb = g.linear(temb, &w.pp("time_emb_proj"), out_channels, true)?;
        let batch = g.shape(temb)[0];
        let temb = g.reshape(temb, &[batch, 1, 1, out_channels])?;
        h = g.add(h, temb, w)?;
    }
    h = g.group_norm(h, &w.pp("norm2"), groups, eps)?;
    h = g.silu(h);
    h = g.conv2d(h, &w.pp("conv2"), Conv::k3(out_channels))?;
    let skip =
        if g.width(x) == out_channels { x } else { g.conv2d(x, &w.pp("conv_shortcut"), Conv::k1(out_channels))? };
    g.add(h, skip, w)
}

/// What a stack of transformer blocks is made of.
#[derive(Clone, Copy, Debug)]
pub struct Transformer {
    /// Blocks in the stack.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Groups of the norm in front.
    pub groups: usize,
    /// Linear layers instead of 1x1 convolutions at both ends.
    pub use_linear_projection: bool,
    /// Scores must not be computed in f16.
    pub upcast: bool,
}

/// Names the keys and values of one cross-attention, which are computed once for a prompt: output of the prompt's graph,
/// input of the step's graph.
#[must_use]
pub fn cross_attention_names(attn2: &Path) -> [String; 2] {
    [attn2.pp("k").to_string(), attn2.pp("v").to_string()]
}

/// A transformer (diffusers `Transformer2DModel`): x \[B,H,W,C\] → the same. Cross-attention reads inputs named by
/// [`cross_attention_names`], \[B,`n_context`,C\].
pub fn transformer_2d(g: &mut GraphBuilder, w: &Path, x: NodeId, t: Transformer, n_context: usize) -> Result<NodeId> {
    let picture @ [batch, height, width, channels] = g.picture(x, w)?;
    let tokens = [batch, height * width, channels];
    let mut h = g.group_norm(x, &w.pp("norm"), t.groups, TRANSFORMER_NORM_EPS)?;
    if t.use_linear_projection {
        h = g.reshape(h, &tokens)?;
        h = g.linear(h, &w.pp("proj_in"), channels, true)?;
    } else {
        h = g.conv2d(h, &w.pp("proj_in"), Conv::k1(channels))?;
        h = g.reshape(h, &tokens)?;
    }
    for layer in 0..t.layers {
        h = transformer_block(g, &w.pp("transformer_blocks").pp(layer), h, t, n_context)?;
    }
    if t.use_linear_projection {
        h = g.linear(h, &w.pp("proj_out"), channels, true)?;
        h = g.reshape(h, &picture)?;
    } else {
        h = g.reshape(h, &picture)?;
        h = g.conv2d(h, &w.pp("proj_out"), Conv::k1(channels))?;
    }
    g.add(h, x, w)
}

/// One block (diffusers `BasicTransformerBlock`): self-attention, cross-attention, gated MLP, each behind a layer norm
/// and added to its input. x \[B,T,C\].
fn transformer_block(g: &mut GraphBuilder, w: &Path, x: NodeId, t: Transformer, n_context: usize) -> Result<NodeId> {
    let width = g.width(x);
    let batch = g.shape(x)[0];

    let h = g.layer_norm(x, &w.pp("norm1"), LAYER_NORM_EPS)?;
    let attn1 = w.pp("attn1");
    let q = g.linear(h, &attn1.pp("to_q"), width, false)?;
    let k = g.linear(h, &attn1.pp("to_k"), width, false)?;
    let v = g.linear(h, &attn1.pp("to_v"), width, false)?;
    let h = g.attention([q, k, v], t.heads, false, t.upcast, &attn1)?;
    let h = g.linear(h, &attn1.pp("to_out").pp(0), width, true)?;
    let x = g.add(h, x, &attn1)?;

    let h = g.layer_norm(x, &w.pp("norm2"), LAYER_NORM_EPS)?;
    let attn2 = w.pp("attn2");
    let q = g.linear(h, &attn2.pp("to_q"), width, false)?;
    let [k, v] = cross_attention_names(&attn2).map(|name| g.input_computed(&name, &[batch, n_context, width]));
    let h = g.attention([q, k, v], t.heads, false, t.upcast, &attn2)?;
    let h = g.linear(h, &attn2.pp("to_out").pp(0), width, true)?;
    let x = g.add(h, x, &attn2)?;

    let h = g.layer_norm(x, &w.pp("norm3"), LAYER_NORM_EPS)?;
    let ff = w.pp("ff");
    let h = g.linear(h, &ff.pp("net.0.proj"), width * 8, true)?;
    let h = g.geglu(h, &ff.pp("net.0"))?;
    let h = g.linear(h, &ff.pp("net.2"), width, true)?;
    g.add(h, x, &ff)
}

/// The VAE's attention (diffusers `Attention` with a group norm and one head): x \[B,H,W,C\] → the same.
pub fn vae_attention(g: &mut GraphBuilder, w: &Path, x: NodeId, groups: usize, eps: f64) -> Result<NodeId> {
    let picture @ [batch, height, width, channels] = g.picture(x, w)?;
    let h = g.group_norm(x, &w.pp("group_norm"), groups, eps)?;
    let h = g.reshape(h, &[batch, height * width, channels])?;
    let q = g.linear(h, &w.pp("to_q"), channels, true)?;
    let k = g.linear(h, &w.pp("to_k"), channels, true)?;
    let v = g.linear(h, &w.pp("to_v"), channels, true)?;
    let h = g.attention([q, k, v], 1, false, true, w)?;
    let h = g.linear(h, &w.pp("to_out").pp(0), channels, true)?;
    let h = g.reshape(h, &picture)?;
    g.add(h, x, w)
}
