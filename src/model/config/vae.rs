//! `vae/config.json` (diffusers `AutoencoderKL`).

use serde::Deserialize;
use serde_json::Value;

use super::{MAX_LAYERS, MAX_LEVELS, MAX_WIDTH, bound, check_fixed, default_true, from_json, refuse, spelling};
use crate::error::{Error, Result};

/// Fields of `vae/config.json` that change the model, with the only values that SD 1, 2 and XL use.
const VAE_FIXED: &[(&str, &[&str])] = &[
    ("act_fn", &["\"silu\""]),
    ("latents_mean", &["null"]),
    ("latents_std", &["null"]),
    ("mid_block_add_attention", &["true"]),
];

/// `vae/config.json`: an AutoencoderKL.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct AutoencoderKlConfig {
    /// Picture channels, 3.
    pub in_channels: usize,
    /// Picture channels out, 3.
    pub out_channels: usize,
    /// Channels C by level, from the widest picture down.
    pub block_out_channels: Vec<usize>,
    /// Channels of the latents, 4.
    #[serde(default = "default_latent_channels")]
    pub latent_channels: usize,
    /// Residual blocks a level in the encoder; one more in the decoder.
    #[serde(default = "default_vae_layers")]
    pub layers_per_block: usize,
    /// Groups of group norms.
    #[serde(default = "default_vae_groups")]
    pub norm_num_groups: usize,
    /// Latents are multiplied by it behind the encoder and divided by it before the decoder.
    #[serde(default = "default_scaling_factor")]
    pub scaling_factor: f64,
    /// Subtracted before that; absent from SD 1, 2 and XL.
    #[serde(default)]
    pub shift_factor: Option<f64>,
    /// Whether values overflow f16, in pipelines that look at it: those of SDXL. diffusers writes `true` for SD 1 and 2 too,
    /// and runs them in f16 all the same.
    #[serde(default = "default_true")]
    pub force_upcast: bool,
    /// Roughly red, green and blue, from -1 to 1, of each channel of the latents, for previews. A key of this project's own
    /// models, under ComfyUI's name for it.
    #[serde(default)]
    pub latent_rgb_factors: Option<Vec<[f32; 3]>>,
    /// What is added to them.
    #[serde(default)]
    pub latent_rgb_factors_bias: Option<[f32; 3]>,
    /// Whether a 1x1 convolution follows the encoder.
    #[serde(default = "default_true")]
    pub use_quant_conv: bool,
    /// Whether a 1x1 convolution precedes the decoder.
    #[serde(default = "default_true")]
    pub use_post_quant_conv: bool,
}

fn default_latent_channels() -> usize {
    4
}

fn default_vae_layers() -> usize {
    1
}

fn default_vae_groups() -> usize {
    32
}

fn default_scaling_factor() -> f64 {
    0.18215
}

impl AutoencoderKlConfig {
    /// Parses and checks the file.
    pub fn from_json(text: &str, file: &str) -> Result<Self> {
        let json: Value = spelling::VAE.plain(from_json(text, file)?);
        check_fixed(&json, VAE_FIXED, file)?;
        for (field, class) in [("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")] {
            for block in json.get(field).and_then(Value::as_array).into_iter().flatten() {
                if block != class {
                    return refuse(file, format!("{field} {block} is not supported: {class} is"));
                }
            }
        }
        let config: AutoencoderKlConfig = serde_json::from_value(json)
            .map_err(|e| Error::Config { file: file.to_string(), reason: e.to_string() })?;
        if config.block_out_channels.is_empty() || config.latent_channels == 0 || config.scaling_factor == 0.0 {
            return refuse(
                file,
                "block_out_channels, latent_channels and scaling_factor must not be empty or 0".into(),
            );
        }
        let sides = [config.in_channels, config.out_channels, config.latent_channels, config.norm_num_groups];
        bound(file, "a number of channels or groups", config.block_out_channels.iter().chain(&sides), MAX_WIDTH)?;
        bound(file, "the number of levels", &[config.block_out_channels.len()], MAX_LEVELS)?;
        bound(file, "layers_per_block", &[config.layers_per_block], MAX_LAYERS)?;
        Ok(config)
    }

    /// How much larger pictures are than their latents, 8 in every published model.
    #[must_use]
    pub fn factor(&self) -> usize {
        1 << (self.block_out_channels.len() - 1)
    }
}
