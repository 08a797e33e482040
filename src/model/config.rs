//! The checkpoint's JSON files as types: `model_index.json` and the `config.json` of each component.
//!
//! Every number that shapes a model comes from here. A setting that the model code does not implement is an error that
//! names the field and the value that would work; unknown fields are ignored, as diffusers does. Scheduler files are
//! [`crate::sampler::SchedulerConfig`]'s.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::graph::Activation;

/// Sizes of one dimension at most, in configs that may be anyone's: 20 times the largest vocabulary there is.
const MAX_WIDTH: usize = 1 << 20;
/// Layers of one kind at most: five times those of the deepest text encoder.
const MAX_LAYERS: usize = 160;
/// Times that a picture is halved, and one more: twice those of the published models.
const MAX_LEVELS: usize = 8;

/// Refuses what no model has, so that no made-up config asks for all memory.
fn bound<'a>(file: &str, what: &str, values: impl IntoIterator<Item = &'a usize>, most: usize) -> Result<()> {
    match values.into_iter().find(|value| **value > most) {
        Some(value) => refuse(file, format!("{what} is {value}: {most} at most is supported")),
        None => Ok(()),
    }
}

/// Parses a JSON file, naming it on failure.
pub(crate) fn from_json<T: DeserializeOwned>(text: &str, file: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| Error::Config { file: file.to_string(), reason: e.to_string() })
}

fn refuse<T>(file: &str, reason: String) -> Result<T> {
    Err(Error::Config { file: file.to_string(), reason })
}

/// A number, or one number for each level of the UNet.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum PerLevel {
    /// The same at every level.
    One(usize),
    /// Level by level, from the widest picture down.
    Each(Vec<usize>),
}

impl PerLevel {
    /// The number for each of `n_levels` levels, or an error that names the field.
    fn spread(&self, n_levels: usize, field: &str, file: &str) -> Result<Vec<usize>> {
        let levels = match self {
            PerLevel::One(n) => vec![*n; n_levels],
            PerLevel::Each(levels) => levels.clone(),
        };
        if levels.len() != n_levels || levels.contains(&0) {
            return refuse(file, format!("{field} {levels:?} does not fit {n_levels} levels"));
        }
        Ok(levels)
    }
}

/// `model_index.json`: which pipeline and which components a repository has.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ModelIndex {
    /// diffusers' pipeline class, `StableDiffusionXLPipeline` for instance.
    #[serde(rename = "_class_name")]
    pub class_name: String,
    /// Whether an empty negative prompt means zeros instead of the encoding of nothing. SDXL only; `true` there if absent.
    #[serde(default)]
    pub force_zeros_for_empty_prompt: Option<bool>,
    #[serde(default)]
    text_encoder: Value,
    #[serde(default)]
    text_encoder_2: Value,
}

impl ModelIndex {
    /// Parses the file and refuses pipelines of other model families.
    pub fn from_json(text: &str, file: &str) -> Result<Self> {
        let index: ModelIndex = from_json(text, file)?;
        if !index.class_name.starts_with("StableDiffusion") || index.class_name.starts_with("StableDiffusion3") {
            return refuse(
                file,
                format!(
                    "{} is not a Stable Diffusion 1, 2 or XL pipeline, the kinds that can be run",
                    index.class_name
                ),
            );
        }
        Ok(index)
    }

    fn present(value: &Value) -> bool {
        value.as_array().is_some_and(|class| class.iter().any(|part| !part.is_null()))
    }

    /// Whether there is a first text encoder (SDXL's refiner has none).
    #[must_use]
    pub fn has_text_encoder(&self) -> bool {
        Self::present(&self.text_encoder)
    }

    /// Whether there are two text encoders, which makes it an XL pipeline.
    #[must_use]
    pub fn is_xl(&self) -> bool {
        Self::present(&self.text_encoder_2)
    }
}

/// `text_encoder/config.json`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ClipTextConfig {
    /// Rows of the token table.
    pub vocab_size: usize,
    /// Width D of a token.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Layers in the file. SD 2.x ships 23 of the original 24.
    pub num_hidden_layers: usize,
    /// Heads; `hidden_size` is their multiple.
    pub num_attention_heads: usize,
    /// Tokens a prompt has, 77.
    #[serde(default = "default_positions")]
    pub max_position_embeddings: usize,
    /// `quick_gelu` or `gelu`.
    #[serde(default = "default_hidden_act")]
    pub hidden_act: String,
    /// Added to the variance in layer norms.
    #[serde(default = "default_layer_norm_eps")]
    pub layer_norm_eps: f64,
    /// Width of the pooled projection.
    #[serde(default = "default_projection_dim")]
    pub projection_dim: usize,
    /// The token whose first place is pooled; 2 in old files, where the largest id is meant.
    #[serde(default = "default_eos_token_id")]
    pub eos_token_id: Option<u32>,
    #[serde(default)]
    architectures: Vec<String>,
}

fn default_positions() -> usize {
    77
}
fn default_hidden_act() -> String {
    "quick_gelu".into()
}
fn default_layer_norm_eps() -> f64 {
    1e-5
}
fn default_projection_dim() -> usize {
    512
}
fn default_eos_token_id() -> Option<u32> {
    Some(49407)
}

impl ClipTextConfig {
    /// Parses and checks the file.
    pub fn from_json(text: &str, file: &str) -> Result<Self> {
        let config: ClipTextConfig = from_json(text, file)?;
        config.activation().map_err(|reason| Error::Config { file: file.to_string(), reason })?;
        if config.num_attention_heads == 0 || !config.hidden_size.is_multiple_of(config.num_attention_heads) {
            return refuse(
                file,
                format!(
                    "hidden_size {} is not a multiple of num_attention_heads {}",
                    config.hidden_size, config.num_attention_heads
                ),
            );
        }
        if config.num_hidden_layers == 0 || config.vocab_size == 0 || config.max_position_embeddings < 2 {
            return refuse(file, "num_hidden_layers, vocab_size and max_position_embeddings must not be 0".into());
        }
        let widths = [
            config.hidden_size,
            config.intermediate_size,
            config.projection_dim,
            config.vocab_size,
            config.max_position_embeddings,
        ];
        bound(file, "a width or size", &widths, MAX_WIDTH)?;
        bound(file, "num_hidden_layers", &[config.num_hidden_layers], MAX_LAYERS)?;
        Ok(config)
    }

    /// The MLP's activation, or why it is not known.
    pub(crate) fn activation(&self) -> Result<Activation, String> {
        match self.hidden_act.as_str() {
            "quick_gelu" => Ok(Activation::QuickGelu),
            "gelu" => Ok(Activation::Gelu),
            other => Err(format!("hidden_act {other} is not supported: quick_gelu and gelu are")),
        }
    }

    /// Whether the class has a `text_projection` behind the pooled state.
    #[must_use]
    pub fn has_projection(&self) -> bool {
        self.architectures.iter().any(|class| class == "CLIPTextModelWithProjection")
    }

    /// The place of the token whose state is pooled: the first end-of-text, counted as transformers does (with an
    /// `eos_token_id` of 2, as in old files, the first of the largest ids).
    #[must_use]
    pub fn pooled_position(&self, ids: &[u32]) -> usize {
        let eos = match self.eos_token_id {
            Some(eos) if eos != 2 => eos,
            _ => ids.iter().copied().max().unwrap_or(0),
        };
        ids.iter().position(|&id| id == eos).unwrap_or(0)
    }
}

/// `unet/config.json`, as written. [`UNet2DConditionConfig`] is the checked form.
#[derive(Deserialize)]
struct RawUNet {
    in_channels: usize,
    out_channels: usize,
    block_out_channels: Vec<usize>,
    down_block_types: Vec<String>,
    up_block_types: Vec<String>,
    #[serde(default = "default_layers_per_block")]
    layers_per_block: PerLevel,
    #[serde(default)]
    transformer_layers_per_block: Option<PerLevel>,
    #[serde(default)]
    attention_head_dim: Option<PerLevel>,
    #[serde(default)]
    num_attention_heads: Option<PerLevel>,
    #[serde(default)]
    cross_attention_dim: Option<PerLevel>,
    #[serde(default)]
    use_linear_projection: bool,
    #[serde(default)]
    upcast_attention: Option<bool>,
    #[serde(default = "default_norm_num_groups")]
    norm_num_groups: Option<usize>,
    #[serde(default = "default_norm_eps")]
    norm_eps: f64,
    #[serde(default = "default_downsample_padding")]
    downsample_padding: usize,
    #[serde(default = "default_true")]
    flip_sin_to_cos: bool,
    #[serde(default)]
    freq_shift: f64,
    #[serde(default)]
    addition_embed_type: Option<String>,
    #[serde(default)]
    addition_time_embed_dim: Option<usize>,
    #[serde(default)]
    projection_class_embeddings_input_dim: Option<usize>,
    #[serde(default)]
    sample_size: Option<usize>,
}

fn default_layers_per_block() -> PerLevel {
    PerLevel::One(2)
}
fn default_norm_num_groups() -> Option<usize> {
    Some(32)
}
fn default_norm_eps() -> f64 {
    1e-5
}
fn default_downsample_padding() -> usize {
    1
}
fn default_true() -> bool {
    true
}

/// SDXL's conditioning on pooled text and picture sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextTime {
    /// Width of the embedding of each of the six numbers.
    pub addition_time_embed_dim: usize,
    /// Width of pooled text and six embeddings together.
    pub projection_class_embeddings_input_dim: usize,
}

/// One level of the UNet: the pictures of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UNetLevel {
    /// Channels C.
    pub out_channels: usize,
    /// Residual blocks on the way down; one more on the way up.
    pub layers: usize,
    /// Transformer blocks behind each residual block.
    pub transformer_layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Whether there is cross-attention on the way down, and on the way up.
    pub cross_attention: [bool; 2],
}

/// `unet/config.json`, checked: an UNet2DConditionModel of SD 1, 2 or XL.
#[derive(Clone, Debug, PartialEq)]
pub struct UNet2DConditionConfig {
    /// Latent channels in: 4, or 9 with a mask and a masked picture.
    pub in_channels: usize,
    /// Latent channels out, 4.
    pub out_channels: usize,
    /// The levels, from the widest picture down.
    pub levels: Vec<UNetLevel>,
    /// Width of the text's tokens.
    pub cross_attention_dim: usize,
    /// Whether transformers begin and end with a linear layer (SD 2, XL) or a 1x1 convolution (SD 1).
    pub use_linear_projection: bool,
    /// Whether attention scores overflow f16 and must be computed in f32 (SD 2.1).
    pub upcast_attention: bool,
    /// Groups of group norms.
    pub norm_num_groups: usize,
    /// Added to the variance in residual blocks.
    pub norm_eps: f64,
    /// Zeros around a picture before it is halved.
    pub downsample_padding: usize,
    /// Whether cosines come first in the timestep embedding.
    pub flip_sin_to_cos: bool,
    /// Shifts the range of its frequencies.
    pub freq_shift: f64,
    /// SDXL's added conditioning.
    pub text_time: Option<TextTime>,
    /// Side of the latents the model was trained on.
    pub sample_size: Option<usize>,
}

/// Fields of `unet/config.json` that change the model, with the only values that SD 1, 2 and XL use.
const UNET_FIXED: &[(&str, &[&str])] = &[
    ("act_fn", &["\"silu\""]),
    ("center_input_sample", &["false"]),
    ("class_embed_type", &["null"]),
    ("class_embeddings_concat", &["false"]),
    ("conv_in_kernel", &["3"]),
    ("conv_out_kernel", &["3"]),
    ("cross_attention_norm", &["null"]),
    ("dual_cross_attention", &["false"]),
    ("encoder_hid_dim", &["null"]),
    ("encoder_hid_dim_type", &["null"]),
    ("mid_block_scale_factor", &["1", "1.0"]),
    ("mid_block_type", &["\"UNetMidBlock2DCrossAttn\""]),
    ("num_class_embeds", &["null"]),
    ("only_cross_attention", &["false"]),
    ("resnet_out_scale_factor", &["1", "1.0"]),
    ("resnet_skip_time_act", &["false"]),
    ("resnet_time_scale_shift", &["\"default\""]),
    ("reverse_transformer_layers_per_block", &["null"]),
    ("time_cond_proj_dim", &["null"]),
    ("time_embedding_act_fn", &["null"]),
    ("time_embedding_dim", &["null"]),
    ("time_embedding_type", &["\"positional\""]),
    ("timestep_post_act", &["null"]),
    ("attention_type", &["\"default\""]),
];

/// Fields of `vae/config.json` likewise.
const VAE_FIXED: &[(&str, &[&str])] = &[
    ("act_fn", &["\"silu\""]),
    ("latents_mean", &["null"]),
    ("latents_std", &["null"]),
    ("mid_block_add_attention", &["true"]),
];

fn check_fixed(json: &Value, fixed: &[(&str, &[&str])], file: &str) -> Result<()> {
    for (field, allowed) in fixed {
        if let Some(value) = json.get(field) {
            let text = value.to_string();
            if !allowed.contains(&text.as_str()) {
                return refuse(file, format!("{field} {text} is not supported: {} is", allowed[0]));
            }
        }
    }
    Ok(())
}

impl UNet2DConditionConfig {
    /// Parses and checks the file.
    pub fn from_json(text: &str, file: &str) -> Result<Self> {
        let json: Value = from_json(text, file)?;
        check_fixed(&json, UNET_FIXED, file)?;
        let raw: RawUNet = serde_json::from_value(json)
            .map_err(|e| Error::Config { file: file.to_string(), reason: e.to_string() })?;
        let n_levels = raw.block_out_channels.len();
        if n_levels == 0 || raw.down_block_types.len() != n_levels || raw.up_block_types.len() != n_levels {
            return refuse(
                file,
                format!(
                    "block_out_channels, down_block_types and up_block_types have {n_levels}, {} and {} entries: one a level each",
                    raw.down_block_types.len(),
                    raw.up_block_types.len()
                ),
            );
        }
        let sides = [raw.in_channels, raw.out_channels, raw.downsample_padding];
        bound(file, "a number of channels", raw.block_out_channels.iter().chain(&sides), MAX_WIDTH)?;
        bound(file, "the number of levels", &[n_levels], MAX_LEVELS)?;
        let layers = raw.layers_per_block.spread(n_levels, "layers_per_block", file)?;
        let transformer_layers = raw.transformer_layers_per_block.unwrap_or(PerLevel::One(1));
        let transformer_layers = transformer_layers.spread(n_levels, "transformer_layers_per_block", file)?;
        // diffusers' historical slip: `attention_head_dim` holds the number of heads unless that is given by its name.
        let heads = raw.num_attention_heads.or(raw.attention_head_dim).unwrap_or(PerLevel::One(8));
        let heads = heads.spread(n_levels, "attention_head_dim", file)?;
        let cross_attention_dim = match raw.cross_attention_dim {
            Some(PerLevel::One(dim)) => dim,
            Some(PerLevel::Each(dims)) if !dims.is_empty() && dims.iter().all(|&dim| dim == dims[0]) => dims[0],
            other => return refuse(file, format!("cross_attention_dim {other:?} is not supported: one number is")),
        };
        bound(file, "a number of layers", layers.iter().chain(&transformer_layers), MAX_LAYERS)?;
        bound(file, "cross_attention_dim", &[cross_attention_dim], MAX_WIDTH)?;
        let mut levels = Vec::with_capacity(n_levels);
        for level in 0..n_levels {
            let cross = |class: &str, with: &str, without: &str| match class {
                c if c == with => Ok(true),
                c if c == without => Ok(false),
                c => refuse(file, format!("block type {c} is not supported: {with} and {without} are")),
            };
            let down = cross(&raw.down_block_types[level], "CrossAttnDownBlock2D", "DownBlock2D")?;
            let up = cross(&raw.up_block_types[n_levels - 1 - level], "CrossAttnUpBlock2D", "UpBlock2D")?;
            levels.push(UNetLevel {
                out_channels: raw.block_out_channels[level],
                layers: layers[level],
                transformer_layers: transformer_layers[level],
                heads: heads[level],
                cross_attention: [down, up],
            });
        }
        let text_time = match raw.addition_embed_type.as_deref() {
            None => None,
            Some("text_time") => match (raw.addition_time_embed_dim, raw.projection_class_embeddings_input_dim) {
                (Some(addition_time_embed_dim), Some(projection_class_embeddings_input_dim)) => {
                    let widths = [addition_time_embed_dim, projection_class_embeddings_input_dim];
                    bound(file, "a width of added embeddings", &widths, MAX_WIDTH)?;
                    Some(TextTime { addition_time_embed_dim, projection_class_embeddings_input_dim })
                }
                _ => {
                    return refuse(
                            file,
                            "addition_embed_type text_time needs addition_time_embed_dim and projection_class_embeddings_input_dim".into(),
                        );
                }
            },
            Some(other) => {
                return refuse(file, format!("addition_embed_type {other} is not supported: text_time is"));
            }
        };
        Ok(UNet2DConditionConfig {
            in_channels: raw.in_channels,
            out_channels: raw.out_channels,
            levels,
            cross_attention_dim,
            use_linear_projection: raw.use_linear_projection,
            upcast_attention: raw.upcast_attention.unwrap_or(false),
            norm_num_groups: raw.norm_num_groups.unwrap_or(32),
            norm_eps: raw.norm_eps,
            downsample_padding: raw.downsample_padding,
            flip_sin_to_cos: raw.flip_sin_to_cos,
            freq_shift: raw.freq_shift,
            text_time,
            sample_size: raw.sample_size,
        })
    }

    /// How much smaller than the latents the smallest pictures inside are. Sides of latents are its multiples.
    #[must_use]
    pub fn downsampling(&self) -> usize {
        1 << (self.levels.len() - 1)
    }

    /// The width of the timestep embedding.
    #[must_use]
    pub fn time_embed_dim(&self) -> usize {
        self.levels[0].out_channels * 4
    }
}

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
        let json: Value = from_json(text, file)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsupported_settings_are_named() {
        let unet = r#"{"in_channels":4,"out_channels":4,"block_out_channels":[32],"down_block_types":["DownBlock2D"],
            "up_block_types":["UpBlock2D"],"cross_attention_dim":8,"time_cond_proj_dim":256}"#;
        let error = UNet2DConditionConfig::from_json(unet, "unet/config.json").unwrap_err().to_string();
        assert_eq!(error, "unet/config.json: time_cond_proj_dim 256 is not supported: null is");
        let other = unet.replace("256", "null").replace("\"DownBlock2D\"", "\"KDownBlock2D\"");
        let error = UNet2DConditionConfig::from_json(&other, "unet/config.json").unwrap_err().to_string();
        assert!(error.contains("KDownBlock2D is not supported"), "{error}");
        let error = ModelIndex::from_json(r#"{"_class_name":"FluxPipeline"}"#, "model_index.json").unwrap_err();
        assert!(error.to_string().contains("FluxPipeline is not a Stable Diffusion"), "{error}");
    }

    #[test]
    fn sizes_that_no_model_has_are_refused() {
        let levels =
            |n: usize| format!(r#"{{"in_channels":3,"out_channels":3,"block_out_channels":{:?}}}"#, vec![8; n]);
        assert!(AutoencoderKlConfig::from_json(&levels(MAX_LEVELS), "vae/config.json").is_ok());
        let error = AutoencoderKlConfig::from_json(&levels(65), "vae/config.json").unwrap_err().to_string();
        assert_eq!(error, "vae/config.json: the number of levels is 65: 8 at most is supported");
        let unet = r#"{"in_channels":4,"out_channels":4,"block_out_channels":[32],"down_block_types":["DownBlock2D"],
            "up_block_types":["UpBlock2D"],"cross_attention_dim":8,"layers_per_block":1000000000000}"#;
        let error = UNet2DConditionConfig::from_json(unet, "unet/config.json").unwrap_err().to_string();
        assert!(error.contains("layers is 1000000000000: 160 at most"), "{error}");
    }

    #[test]
    fn the_first_end_of_text_is_pooled() {
        let text = r#"{"vocab_size":9,"hidden_size":4,"intermediate_size":8,"num_hidden_layers":1,"num_attention_heads":2,"eos_token_id":EOS}"#;
        let with = |eos: &str| ClipTextConfig::from_json(&text.replace("EOS", eos), "config.json").unwrap();
        assert_eq!(with("2").pooled_position(&[6, 2, 8, 8, 0]), 2);
        assert_eq!(with("7").pooled_position(&[6, 2, 7, 8, 7]), 2);
    }
}
