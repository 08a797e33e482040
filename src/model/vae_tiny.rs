//! diffusers' `AutoencoderTiny`, which is TAESD: plain convolutions in place of the large autoencoder, for previews and for
//! devices that have no room for the other. Its latents have no distribution and need no scaling.

use crate::error::Result;
use crate::graph::{Activation, Conv, GraphBuilder, NodeId, Path};
use crate::model::config::{AutoencoderTinyConfig, TinyHalf};

/// Latents are bent to stay within so many on either side.
const LATENT_BOUND: f64 = 3.0;

/// Latents \[B,h,w,latent_channels\] → picture \[B,H,W,3\], about -1 to 1.
pub(super) fn decode(g: &mut GraphBuilder, config: &AutoencoderTinyConfig, latents: NodeId) -> Result<NodeId> {
    let TinyHalf { channels, blocks } = &config.decoder;
    let channels = *channels;
    let root = Path::root().pp("decoder");
    let clamp = root.pp("clamp");
    let mut layers = Layers::of(&root);

    let mut h = g.scale(latents, 1.0 / LATENT_BOUND, &clamp);
    h = g.activation(h, Activation::Tanh);
    h = g.scale(h, LATENT_BOUND, &clamp);
    h = g.conv2d(h, &layers.next(), Conv::k3(channels))?;
    layers.next();
    h = g.activation(h, config.act_fn);
    for (i, &n_blocks) in blocks.iter().enumerate() {
        for _ in 0..n_blocks {
            h = block(g, &layers.next(), h, config.act_fn)?;
        }
        if i + 1 < blocks.len() {
            // The enlarging is a layer of its own in the checkpoint.
            layers.next();
            h = g.conv2d_without_bias(h, &layers.next(), Conv::up(channels))?;
        }
    }
    h = g.conv2d(h, &layers.next(), Conv::k3(config.out_channels))?;
    g.affine(h, &[2.0], &[-1.0], &root.pp("range"))
}

/// Picture \[B,H,W,3\] in -1 to 1 → latents \[B,h,w,latent_channels\].
pub(super) fn encode(g: &mut GraphBuilder, config: &AutoencoderTinyConfig, image: NodeId) -> Result<NodeId> {
    let TinyHalf { channels, blocks } = &config.encoder;
    let channels = *channels;
    let root = Path::root().pp("encoder");
    let mut layers = Layers::of(&root);

    let mut h = g.affine(image, &[0.5], &[0.5], &root.pp("range"))?;
    for (i, &n_blocks) in blocks.iter().enumerate() {
        let w = layers.next();
        h = match i {
            0 => g.conv2d(h, &w, Conv::k3(channels))?,
            _ => g.conv2d_without_bias(h, &w, Conv::down(channels, [1; 4]))?,
        };
        for _ in 0..n_blocks {
            h = block(g, &layers.next(), h, config.act_fn)?;
        }
    }
    g.conv2d(h, &layers.next(), Conv::k3(config.latent_channels))
}

/// A residual block (diffusers `AutoencoderTinyBlock`) between equal widths: x \[B,H,W,C\] → the same.
fn block(g: &mut GraphBuilder, w: &Path, x: NodeId, act_fn: Activation) -> Result<NodeId> {
    let channels = g.width(x);
    let mut h = x;
    for layer in [0, 2] {
        h = g.conv2d(h, &w.pp("conv").pp(layer), Conv::k3(channels))?;
        h = g.activation(h, act_fn);
    }
    h = g.conv2d(h, &w.pp("conv.4"), Conv::k3(channels))?;
    h = g.add(h, x, w)?;
    Ok(g.activation(h, Activation::Relu))
}

/// The layers of a half, which the checkpoint numbers one after another.
struct Layers {
    w: Path,
    next: usize,
}

impl Layers {
    fn of(half: &Path) -> Self {
        Layers { w: half.pp("layers"), next: 0 }
    }

    fn next(&mut self) -> Path {
        self.next += 1;
        self.w.pp(self.next - 1)
    }
}
