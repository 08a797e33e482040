//! `vae/config.json`: of diffusers' `AutoencoderKL`, and what is the same for every autoencoder.

use serde::Deserialize;
use serde_json::Value;

use super::{
    AutoencoderTinyConfig, MAX_LAYERS, MAX_LEVELS, MAX_WIDTH, bound, check_fixed, default_true, from_json, refuse,
    spelling,
};
use crate::error::{Error, Result};

/// Fields of `vae/config.json` that change the model, with the only values that SD 1, 2 and XL use.
const VAE_FIXED: &[(&str, &[&str])] = &[("act_fn", &["\"silu\""]), ("mid_block_add_attention", &["true"])];

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
    /// The mean of each channel of the latents, and
    #[serde(default)]
    pub latents_mean: Option<Vec<f64>>,
    /// its standard deviation, where pipelines scale by them too: see [`LatentStatistics`].
    #[serde(default)]
    pub latents_std: Option<Vec<f64>>,
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

/// Mean and standard deviation of each of four channels of latents. diffusers' XL pipelines scale latents by them before
/// they are decoded, and the latents of a picture to start from; not those that are inpainted, and not in SD 1 and 2.
#[derive(Clone, Debug, PartialEq)]
pub struct LatentStatistics {
    /// `latents_mean`.
    pub mean: [f64; 4],
    /// `latents_std`.
    pub std: [f64; 4],
}

/// What an autoencoder is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum VaeArchitecture {
    /// `AutoencoderKL`, the one that SD 1, 2 and XL were trained with.
    Kl(AutoencoderKlConfig),
    /// `AutoencoderTiny`: TAESD and TAESDXL.
    Tiny(AutoencoderTinyConfig),
}

/// `vae/config.json` of any autoencoder that is supported.
#[derive(Clone, Debug, PartialEq)]
pub struct VaeConfig {
    /// The layers.
    pub architecture: VaeArchitecture,
    /// Picture channels in and out, 3.
    pub in_channels: usize,
    /// Channels of the latents, 4.
    pub latent_channels: usize,
    /// Latents are multiplied by it behind the encoder and divided by it before the decoder.
    pub scaling_factor: f64,
    /// What they are scaled by beside; only where the pipeline does so.
    pub statistics: Option<LatentStatistics>,
    /// Whether values overflow f16, in pipelines that look at it: those of SDXL.
    pub force_upcast: bool,
    /// See [`AutoencoderKlConfig::latent_rgb_factors`].
    pub latent_rgb_factors: Option<Vec<[f32; 3]>>,
    /// What is added to them.
    pub latent_rgb_factors_bias: Option<[f32; 3]>,
}

impl VaeConfig {
    /// Parses and checks the file of an autoencoder of the class that `model_index.json` names.
    ///
    /// # Errors
    /// [`Error::Config`] naming the class or the field that is not supported.
    pub fn from_json(class: &str, text: &str, file: &str) -> Result<Self> {
        match class {
            "AutoencoderKL" => AutoencoderKlConfig::from_json(text, file)?.into_vae(file),
            "AutoencoderTiny" => Ok(AutoencoderTinyConfig::from_json(text, file)?.into()),
            other => refuse(file, format!("{other} is not supported: AutoencoderKL and AutoencoderTiny are")),
        }
    }

    /// How much larger pictures are than their latents, 8 in every published model.
    #[must_use]
    pub fn factor(&self) -> usize {
        match &self.architecture {
            VaeArchitecture::Kl(kl) => kl.factor(),
            VaeArchitecture::Tiny(tiny) => tiny.factor(),
        }
    }
}

impl AutoencoderKlConfig {
    fn into_vae(self, file: &str) -> Result<VaeConfig> {
        let statistics = match (&self.latents_mean, &self.latents_std) {
            // One without the other is not used.
            (Some(mean), Some(std)) => {
                let four = |values: &Vec<f64>| <[f64; 4]>::try_from(values.as_slice()).ok();
                match (four(mean), four(std)) {
                    (Some(mean), Some(std)) if self.latent_channels == 4 && !std.contains(&0.0) => {
                        Some(LatentStatistics { mean, std })
                    }
                    _ => {
                        let reason = "latents_mean and latents_std must be four numbers each, for four latent channels, \
                            and no deviation 0";
                        return refuse(file, reason.into());
                    }
                }
            }
            _ => None,
        };
        Ok(VaeConfig {
            in_channels: self.in_channels,
            latent_channels: self.latent_channels,
            scaling_factor: self.scaling_factor,
            statistics,
            force_upcast: self.force_upcast,
            latent_rgb_factors: self.latent_rgb_factors.clone(),
            latent_rgb_factors_bias: self.latent_rgb_factors_bias,
            architecture: VaeArchitecture::Kl(self),
        })
    }
}
