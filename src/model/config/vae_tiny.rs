//! `vae/config.json` of diffusers' `AutoencoderTiny`.

use serde::Deserialize;
use serde_json::Value;

use super::{MAX_LAYERS, MAX_LEVELS, MAX_WIDTH, VaeArchitecture, VaeConfig, bound, check_fixed, from_json, refuse};
use crate::error::{Error, Result};
use crate::graph::Activation;

/// Fields that change the model, with the only values that are implemented.
const FIXED: &[(&str, &[&str])] = &[("upsample_fn", &["\"nearest\""]), ("upsampling_scaling_factor", &["2"])];

/// The file as written; absent fields and nulls are diffusers' defaults, which are those of TAESD.
#[derive(Deserialize)]
struct Raw {
    in_channels: Option<usize>,
    out_channels: Option<usize>,
    latent_channels: Option<usize>,
    encoder_block_out_channels: Option<Vec<usize>>,
    decoder_block_out_channels: Option<Vec<usize>>,
    num_encoder_blocks: Option<Vec<usize>>,
    num_decoder_blocks: Option<Vec<usize>>,
    act_fn: Option<String>,
    scaling_factor: Option<f64>,
    latent_rgb_factors: Option<Vec<[f32; 3]>>,
    latent_rgb_factors_bias: Option<[f32; 3]>,
}

/// One half of the autoencoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TinyHalf {
    /// Channels C, the same at every size.
    pub channels: usize,
    /// Residual blocks at each size, in the order in which they are run.
    pub blocks: Vec<usize>,
}

/// `vae/config.json`, checked: an `AutoencoderTiny`.
#[derive(Clone, Debug, PartialEq)]
pub struct AutoencoderTinyConfig {
    /// Picture channels, 3.
    pub in_channels: usize,
    /// Picture channels out, 3.
    pub out_channels: usize,
    /// Channels of the latents, 4.
    pub latent_channels: usize,
    /// Picture to latents.
    pub encoder: TinyHalf,
    /// Latents to picture.
    pub decoder: TinyHalf,
    /// Between the convolutions of a block; behind a block it is always relu.
    pub act_fn: Activation,
    /// Latents are multiplied by it behind the encoder and divided by it before the decoder. 1: its latents are already
    /// as the UNet wants them.
    pub scaling_factor: f64,
    latent_rgb_factors: Option<Vec<[f32; 3]>>,
    latent_rgb_factors_bias: Option<[f32; 3]>,
}

impl AutoencoderTinyConfig {
    /// Parses and checks the file.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn from_json(text: &str, file: &str) -> Result<Self> {
        let json: Value = from_json(text, file)?;
        check_fixed(&json, FIXED, file)?;
        let raw: Raw = serde_json::from_value(json)
            .map_err(|e| Error::Config { file: file.to_string(), reason: e.to_string() })?;
        let half = |channels: Option<Vec<usize>>, blocks: Option<Vec<usize>>, default: &[usize], name: &str| {
            let channels = channels.unwrap_or_else(|| vec![64; 4]);
            let blocks = blocks.unwrap_or_else(|| default.to_vec());
            bound(file, "the number of levels", &[channels.len()], MAX_LEVELS)?;
            bound(file, "a number of blocks", &blocks, MAX_LAYERS)?;
            match channels.first() {
                Some(&first) if blocks.len() == channels.len() && channels.iter().all(|c| *c == first) => {
                    Ok(TinyHalf { channels: first, blocks })
                }
                _ => refuse(
                    file,
                    format!(
                        "{name}_block_out_channels {channels:?} and num_{name}_blocks {blocks:?} are not supported: \
                         as many of one as of the other, and all widths the same, are"
                    ),
                ),
            }
        };
        let encoder = half(raw.encoder_block_out_channels, raw.num_encoder_blocks, &[1, 3, 3, 3], "encoder")?;
        let decoder = half(raw.decoder_block_out_channels, raw.num_decoder_blocks, &[3, 3, 3, 1], "decoder")?;
        if encoder.blocks.len() != decoder.blocks.len() {
            return refuse(
                file,
                format!(
                    "the encoder has {} levels and the decoder {}: the picture would change its size",
                    encoder.blocks.len(),
                    decoder.blocks.len()
                ),
            );
        }
        let act_fn = match raw.act_fn.as_deref() {
            None | Some("relu") => Activation::Relu,
            Some("silu" | "swish") => Activation::Silu,
            Some("gelu") => Activation::Gelu,
            Some(other) => return refuse(file, format!("act_fn {other} is not supported: relu, silu and gelu are")),
        };
        let config = AutoencoderTinyConfig {
            in_channels: raw.in_channels.unwrap_or(3),
            out_channels: raw.out_channels.unwrap_or(3),
            latent_channels: raw.latent_channels.unwrap_or(4),
            encoder,
            decoder,
            act_fn,
            scaling_factor: raw.scaling_factor.unwrap_or(1.0),
            latent_rgb_factors: raw.latent_rgb_factors,
            latent_rgb_factors_bias: raw.latent_rgb_factors_bias,
        };
        let sides = [config.in_channels, config.out_channels, config.latent_channels];
        let widths = [config.encoder.channels, config.decoder.channels];
        bound(file, "a number of channels", sides.iter().chain(&widths), MAX_WIDTH)?;
        if sides.contains(&0) || widths.contains(&0) || config.scaling_factor == 0.0 {
            return refuse(file, "a number of channels or scaling_factor is 0".into());
        }
        Ok(config)
    }

    /// How much larger pictures are than their latents: 8 for TAESD.
    #[must_use]
    pub fn factor(&self) -> usize {
        1 << (self.decoder.blocks.len() - 1)
    }
}

impl From<AutoencoderTinyConfig> for VaeConfig {
    fn from(tiny: AutoencoderTinyConfig) -> Self {
        VaeConfig {
            in_channels: tiny.in_channels,
            latent_channels: tiny.latent_channels,
            scaling_factor: tiny.scaling_factor,
            // diffusers' class has no such fields.
            statistics: None,
            force_upcast: false,
            latent_rgb_factors: tiny.latent_rgb_factors.clone(),
            latent_rgb_factors_bias: tiny.latent_rgb_factors_bias,
            architecture: VaeArchitecture::Tiny(tiny),
        }
    }
}
