//! The denoising UNet (diffusers `UNet2DConditionModel`) as two graphs: what depends on the prompt alone, once for a
//! prompt, and the rest, once for a step.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::graph::{Conv, Graph, GraphBuilder, Op, Path, WeightSpec};
use crate::model::blocks::{Transformer, cross_attention_names, resnet_block, transformer_2d};
use crate::model::config::{MidBlock, UNet2DConditionConfig, UNetLevel};

/// The sizes of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UNetShape {
    /// Batch B: 2 with classifier-free guidance.
    pub batch: usize,
    /// Height of the latents.
    pub height: usize,
    /// Width of the latents.
    pub width: usize,
    /// Text tokens: 77 for each chunk of the prompt.
    pub n_context: usize,
}

/// What a step computes: inputs `sample` \[B,H,W,in_channels\], `timestep` \[B\], the keys and values of every
/// cross-attention (see [`prompt_graph`]), for XL `add_embedding` \[B,time_embed_dim\] and for models with the guidance
/// scale as an input `time_cond` \[B,channels of the first level\]; output `out` \[B,H,W,out_channels\].
///
/// # Errors
/// When the config does not describe a model or the size does not fit it.
pub fn step_graph(config: &UNet2DConditionConfig, shape: UNetShape) -> Result<Graph> {
    let UNetShape { batch, height, width, n_context } = shape;
    if height == 0 || width == 0 {
        let reason = format!("of {height}x{width} latents has no pixel");
        return Err(Error::Shape { node: "unet".into(), op: "input", reason });
    }
    let mut g = GraphBuilder::new("unet");
    let w = Path::root();
    let (groups, eps) = (config.norm_num_groups, config.norm_eps);
    let transformer = |level: &UNetLevel, layers: usize| Transformer {
        layers,
        heads: level.heads,
        groups,
        use_linear_projection: config.use_linear_projection,
        upcast: config.upcast_attention,
    };

    // 1. time
    let timestep = g.input("timestep", &[batch]);
    let first = config.levels[0].out_channels;
    let t = w.pp("time_embedding");
    let mut temb =
        g.timestep_embedding(timestep, first, config.flip_sin_to_cos, config.freq_shift, &w.pp("time_proj"))?;
    if config.time_cond_proj_dim.is_some() {
        let cond = g.input_computed("time_cond", &[batch, first]);
        temb = g.add(temb, cond, &t)?;
    }
    temb = g.linear(temb, &t.pp("linear_1"), config.time_embed_dim(), true)?;
    temb = g.silu(temb);
    temb = g.linear(temb, &t.pp("linear_2"), config.time_embed_dim(), true)?;
    if config.text_time.is_some() {
        let added = g.input_computed("add_embedding", &[batch, config.time_embed_dim()]);
        temb = g.add(temb, added, &w.pp("emb"))?;
    }
    let temb = g.silu(temb);

    // 2. pre-process
    let sample = g.input("sample", &[batch, height, width, config.in_channels]);
    let mut h = g.conv2d(sample, &w.pp("conv_in"), Conv::k3(first))?;

    // 3. down
    let n_levels = config.levels.len();
    let mut skips = vec![h];
    for (i, level) in config.levels.iter().enumerate() {
        let block = w.pp("down_blocks").pp(i);
        let of_layer = |way: usize, layer: usize| transformer(level, level.transformer_layers[way][layer]);
        for layer in 0..level.layers {
            h = resnet_block(&mut g, &block.pp("resnets").pp(layer), h, Some(temb), level.out_channels, groups, eps)?;
            if level.cross_attention[0] {
                h = transformer_2d(&mut g, &block.pp("attentions").pp(layer), h, of_layer(0, layer), n_context)?;
            }
            skips.push(h);
        }
        if i + 1 < n_levels {
            let pad = match config.downsample_padding {
                // diffusers then pads below and on the right by itself.
                0 => [0, 0, 1, 1],
                pad => [pad; 4],
            };
            let conv = Conv::down(level.out_channels, pad);
            h = g.conv2d(h, &block.pp("downsamplers.0.conv"), conv)?;
            skips.push(h);
        }
    }

    // 4. mid
    let last = &config.levels[n_levels - 1];
    let mid = w.pp("mid_block");
    if config.mid_block != MidBlock::None {
        h = resnet_block(&mut g, &mid.pp("resnets.0"), h, Some(temb), last.out_channels, groups, eps)?;
    }
    if let MidBlock::CrossAttention { transformer_layers } = config.mid_block {
        h = transformer_2d(&mut g, &mid.pp("attentions.0"), h, transformer(last, transformer_layers), n_context)?;
        h = resnet_block(&mut g, &mid.pp("resnets.1"), h, Some(temb), last.out_channels, groups, eps)?;
    }

    // 5. up
    for (i, level) in config.levels.iter().rev().enumerate() {
        let block = w.pp("up_blocks").pp(i);
        let of_layer = |way: usize, layer: usize| transformer(level, level.transformer_layers[way][layer]);
        for layer in 0..level.layers + 1 {
            let resnet = block.pp("resnets").pp(layer);
            let Some(skip) = skips.pop() else {
                return Err(Error::Shape {
                    node: resnet.to_string(),
                    op: "concat",
                    reason: "has no value left from the way down: layers_per_block differs by level".into(),
                });
            };
            h = g.concat(&[h, skip], 3, &resnet)?;
            h = resnet_block(&mut g, &resnet, h, Some(temb), level.out_channels, groups, eps)?;
            if level.cross_attention[1] {
                h = transformer_2d(&mut g, &block.pp("attentions").pp(layer), h, of_layer(1, layer), n_context)?;
            }
        }
        if i + 1 < n_levels {
            let up = block.pp("upsamplers.0.conv");
            // To the size of what comes next from the way down: where that is odd, one less than the double.
            let conv = match skips.last().map(|&skip| g.picture(skip, &up)).transpose()? {
                Some([_, height, width, _]) => Conv::up_to(level.out_channels, [height, width]),
                None => Conv::up(level.out_channels),
            };
            h = g.conv2d(h, &up, conv)?;
        }
    }

    // 6. post-process
    h = g.group_norm(h, &w.pp("conv_norm_out"), groups, eps)?;
    h = g.silu(h);
    h = g.conv2d(h, &w.pp("conv_out"), Conv::k3(config.out_channels))?;
    g.output("out", h);
    Ok(g.finish())
}

/// What depends on the prompt alone: inputs `encoder_hidden_states` \[B,`n_context`,cross_attention_dim\] and, for XL,
/// `text_embeds` \[B,P\] and `time_ids` \[6B\]; for models with the guidance scale as an input `timestep_cond`
/// \[B,time_cond_proj_dim\], its [`guidance_embedding`]. Outputs the keys and values of every cross-attention,
/// `add_embedding` and `time_cond`.
///
/// # Errors
/// When the config does not describe a model.
pub fn prompt_graph(config: &UNet2DConditionConfig, batch: usize, n_context: usize) -> Result<Graph> {
    // The cross-attentions, their widths and their order are those of the step's graph, whatever the picture's size.
    let side = config.downsampling();
    let step = step_graph(config, UNetShape { batch, height: side, width: side, n_context })?;
    let widths: BTreeMap<&str, usize> =
        step.inputs().filter_map(|(name, shape, _)| Some((name, *shape.last()?))).collect();

    let mut g = GraphBuilder::new("unet.prompt");
    let context = g.input_computed("encoder_hidden_states", &[batch, n_context, config.cross_attention_dim]);
    for node in step.nodes.iter().filter(|node| matches!(node.op, Op::Attention { .. })) {
        let Some(attn2) = node.name.ends_with(".attn2").then(|| Path::root().pp(&node.name)) else { continue };
        for (name, projection) in cross_attention_names(&attn2).iter().zip(["to_k", "to_v"]) {
            let value = g.linear(context, &attn2.pp(projection), widths[name.as_str()], false)?;
            g.output_computed(name, value);
        }
    }

    if let Some(text_time) = &config.text_time {
        let w = Path::root().pp("add_embedding");
        let dim = text_time.addition_time_embed_dim;
        let Some(text_width) = text_time.projection_class_embeddings_input_dim.checked_sub(6 * dim) else {
            return Err(Error::Config {
                file: "unet/config.json".into(),
                reason: format!(
                    "projection_class_embeddings_input_dim {} is less than six embeddings of {dim}",
                    text_time.projection_class_embeddings_input_dim
                ),
            });
        };
        let text = g.input_computed("text_embeds", &[batch, text_width]);
        let ids = g.input("time_ids", &[6 * batch]);
        let ids = g.timestep_embedding(
            ids,
            dim,
            config.flip_sin_to_cos,
            config.freq_shift,
            &Path::root().pp("add_time_proj"),
        )?;
        let ids = g.reshape(ids, &[batch, 6 * dim])?;
        let h = g.concat(&[text, ids], 1, &w)?;
        let h = g.linear(h, &w.pp("linear_1"), config.time_embed_dim(), true)?;
        let h = g.silu(h);
        let h = g.linear(h, &w.pp("linear_2"), config.time_embed_dim(), true)?;
        g.output_computed("add_embedding", h);
    }

    if let Some(dim) = config.time_cond_proj_dim {
        let w = Path::root().pp("time_embedding.cond_proj");
        let condition = g.input("timestep_cond", &[batch, dim]);
        let h = g.linear(condition, &w, config.levels[0].out_channels, false)?;
        g.output_computed("time_cond", h);
    }
    Ok(g.finish())
}

/// A guidance scale as a model with `time_cond_proj_dim` `dim` takes it: sines, then cosines, of a thousand times what the
/// scale is above one, at frequencies down to 1/10000; zero where `dim` is odd and one is left. In f32 like diffusers'
/// `get_guidance_scale_embedding`, whose rounding shows where the angles are thousands.
#[must_use]
pub fn guidance_embedding(guidance_scale: f64, dim: usize) -> Vec<f32> {
    let half = dim / 2;
    let w = (guidance_scale - 1.0) as f32 * 1000.0;
    let rate = 10_000f32.ln() / (half as f32 - 1.0);
    let angles = (0..half).map(|i| w * f64::from(i as f32 * -rate).exp() as f32);
    let (sines, cosines): (Vec<f32>, Vec<f32>) =
        angles.map(f64::from).map(|angle| (angle.sin() as f32, angle.cos() as f32)).unzip();
    let odd = vec![0.0; dim % 2];
    [sines, cosines, odd].concat()
}

/// Both graphs at their smallest, which together use every tensor of the checkpoint.
///
/// # Errors
/// When the config does not describe a model.
pub fn graphs(config: &UNet2DConditionConfig) -> Result<Vec<Graph>> {
    let side = config.downsampling();
    let step = step_graph(config, UNetShape { batch: 1, height: side, width: side, n_context: 1 })?;
    Ok(vec![prompt_graph(config, 1, 1)?, step])
}

/// Every tensor of the UNet's checkpoint.
///
/// # Errors
/// When the config does not describe a model.
pub fn weights(config: &UNet2DConditionConfig) -> Result<Vec<WeightSpec>> {
    Ok(graphs(config)?.iter().flat_map(Graph::weights).collect())
}
