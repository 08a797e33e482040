//! The autoencoder between pictures and latents as two graphs: diffusers' `AutoencoderKL` here, `AutoencoderTiny` in
//! `vae_tiny`.
//!
//! Drawing from the encoder's distribution is not done here: the encoder gives its moments.

use crate::error::{Error, Result};
use crate::graph::{Conv, Graph, GraphBuilder, NodeId, Path, WeightSpec};
use crate::model::blocks::{resnet_block, vae_attention};
use crate::model::config::{AutoencoderKlConfig, VaeArchitecture, VaeConfig};
use crate::model::vae_tiny;

/// Epsilon of every group norm, fixed in diffusers' `Encoder` and `Decoder`.
const EPS: f64 = 1e-6;

/// Latents → picture: input `latents` \[B,h,w,latent_channels\] as the sampler leaves them, output `image` \[B,H,W,3\],
/// about -1 to 1.
///
/// # Errors
/// When the config does not describe a model.
pub fn decoder_graph(config: &VaeConfig, batch: usize, height: usize, width: usize) -> Result<Graph> {
    let mut g = GraphBuilder::new("vae.decoder");
    let latents = g.input("latents", &[batch, height, width, config.latent_channels]);
    let w = Path::root().pp("scaling_factor");
    let h = match &config.statistics {
        Some(statistics) => {
            let factors = statistics.std.map(|std| std / config.scaling_factor);
            g.affine(latents, &factors, &statistics.mean, &w)?
        }
        None => g.scale(latents, 1.0 / config.scaling_factor, &w),
    };
    let image = match &config.architecture {
        VaeArchitecture::Kl(kl) => decode(&mut g, kl, h)?,
        VaeArchitecture::Tiny(tiny) => vae_tiny::decode(&mut g, tiny, h)?,
    };
    g.output("image", image);
    Ok(g.finish())
}

/// Picture → latents: input `image` \[B,H,W,3\] in -1 to 1. Of an `AutoencoderKL` the output is `moments`
/// \[B,h,w,2 latent_channels\]: the means, then the logarithms of the variances; of an `AutoencoderTiny` it is `latents`
/// \[B,h,w,latent_channels\]. Neither is scaled yet.
///
/// # Errors
/// When the config does not describe a model.
pub fn encoder_graph(config: &VaeConfig, batch: usize, height: usize, width: usize) -> Result<Graph> {
    let mut g = GraphBuilder::new("vae.encoder");
    let image = g.input("image", &[batch, height, width, config.in_channels]);
    match &config.architecture {
        VaeArchitecture::Kl(kl) => {
            let moments = encode(&mut g, kl, image)?;
            g.output("moments", moments);
        }
        VaeArchitecture::Tiny(tiny) => {
            let latents = vae_tiny::encode(&mut g, tiny, image)?;
            g.output("latents", latents);
        }
    }
    Ok(g.finish())
}

fn decode(g: &mut GraphBuilder, config: &AutoencoderKlConfig, latents: NodeId) -> Result<NodeId> {
    let root = Path::root();
    let w = root.pp("decoder");
    let groups = config.norm_num_groups;
    let channels = &config.block_out_channels;
    let Some(&deepest) = channels.last() else { return no_levels() };

    let mut h = latents;
    if config.use_post_quant_conv {
        h = g.conv2d(h, &root.pp("post_quant_conv"), Conv::k1(config.latent_channels))?;
    }
    h = g.conv2d(h, &w.pp("conv_in"), Conv::k3(deepest))?;
    h = mid_block(g, &w.pp("mid_block"), h, groups)?;
    for (i, &out_channels) in channels.iter().rev().enumerate() {
        let block = w.pp("up_blocks").pp(i);
        for layer in 0..config.layers_per_block + 1 {
            h = resnet_block(g, &block.pp("resnets").pp(layer), h, None, out_channels, groups, EPS)?;
        }
        if i + 1 < channels.len() {
            h = g.conv2d(h, &block.pp("upsamplers.0.conv"), Conv::up(out_channels))?;
        }
    }
    h = g.group_norm(h, &w.pp("conv_norm_out"), groups, EPS)?;
    h = g.silu(h);
    g.conv2d(h, &w.pp("conv_out"), Conv::k3(config.out_channels))
}

fn encode(g: &mut GraphBuilder, config: &AutoencoderKlConfig, image: NodeId) -> Result<NodeId> {
    let root = Path::root();
    let w = root.pp("encoder");
    let groups = config.norm_num_groups;
    let channels = &config.block_out_channels;
    let Some(&first) = channels.first() else { return no_levels() };

    let mut h = g.conv2d(image, &w.pp("conv_in"), Conv::k3(first))?;
    for (i, &out_channels) in channels.iter().enumerate() {
        let block = w.pp("down_blocks").pp(i);
        for layer in 0..config.layers_per_block {
            h = resnet_block(g, &block.pp("resnets").pp(layer), h, None, out_channels, groups, EPS)?;
        }
        if i + 1 < channels.len() {
            // Zeros on the bottom and the right only.
            h = g.conv2d(h, &block.pp("downsamplers.0.conv"), Conv::down(out_channels, [0, 0, 1, 1]))?;
        }
    }
    h = mid_block(g, &w.pp("mid_block"), h, groups)?;
    h = g.group_norm(h, &w.pp("conv_norm_out"), groups, EPS)?;
    h = g.silu(h);
    h = g.conv2d(h, &w.pp("conv_out"), Conv::k3(2 * config.latent_channels))?;
    if config.use_quant_conv {
        h = g.conv2d(h, &root.pp("quant_conv"), Conv::k1(2 * config.latent_channels))?;
    }
    Ok(h)
}

fn mid_block(g: &mut GraphBuilder, w: &Path, x: NodeId, groups: usize) -> Result<NodeId> {
    let channels = g.width(x);
    let h = resnet_block(g, &w.pp("resnets.0"), x, None, channels, groups, EPS)?;
    let h = vae_attention(g, &w.pp("attentions.0"), h, groups, EPS)?;
    resnet_block(g, &w.pp("resnets.1"), h, None, channels, groups, EPS)
}

fn no_levels<T>() -> Result<T> {
    Err(Error::Config { file: "vae/config.json".into(), reason: "block_out_channels is empty".into() })
}

/// Every tensor of the VAE's checkpoint.
///
/// # Errors
/// When the config does not describe a model.
pub fn weights(config: &VaeConfig) -> Result<Vec<WeightSpec>> {
    let mut weights = encoder_graph(config, 1, config.factor(), config.factor())?.weights();
    weights.extend(decoder_graph(config, 1, 1, 1)?.weights());
    Ok(weights)
}
