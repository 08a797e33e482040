//! The checkpoint's JSON files as types: `model_index.json` and the `config.json` of each component.
//!
//! Every number that shapes a model comes from here. A setting that the model code does not implement is an error that
//! names the field and the value that would work; unknown fields are ignored, as diffusers does. Scheduler files are
//! [`crate::sampler::SchedulerConfig`]'s.

mod clip;
mod family;
mod spelling;
mod unet;
mod vae;
mod vae_tiny;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use clip::ClipTextConfig;
pub use family::channels_of;
pub use unet::{MidBlock, TextTime, UNet2DConditionConfig, UNetLevel};
pub use vae::{AutoencoderKlConfig, LatentStatistics, VaeArchitecture, VaeConfig};
pub use vae_tiny::{AutoencoderTinyConfig, TinyHalf};

use crate::error::{Error, Result};
use crate::json;

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
    json::typed(text).map_err(|e| Error::Config { file: file.to_string(), reason: e.to_string() })
}

/// A value that was parsed already as a type, naming the file on failure.
fn from_value<T: DeserializeOwned>(json: Value, file: &str) -> Result<T> {
    serde_json::from_value(json).map_err(|e| Error::Config { file: file.to_string(), reason: e.to_string() })
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

/// A number of transformer blocks: one for the whole UNet, or for each level one number or one for each of its layers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum PerLayer {
    /// The same everywhere.
    One(usize),
    /// Level by level.
    Each(Vec<PerLevel>),
}

impl PerLayer {
    /// What each of `n_levels` levels has, or an error that names the field.
    fn by_level(&self, n_levels: usize, field: &str, file: &str) -> Result<Vec<PerLevel>> {
        match self {
            PerLayer::One(n) => Ok(vec![PerLevel::One(*n); n_levels]),
            PerLayer::Each(levels) if levels.len() == n_levels => Ok(levels.clone()),
            PerLayer::Each(levels) => {
                refuse(file, format!("{field} has {} entries, which does not fit {n_levels} levels", levels.len()))
            }
        }
    }

    /// The number of the last level's first layer.
    fn first_of_last(&self) -> Option<usize> {
        match self {
            PerLayer::One(n) => Some(*n),
            PerLayer::Each(levels) => match levels.last()? {
                PerLevel::One(n) => Some(*n),
                PerLevel::Each(layers) => layers.first().copied(),
            },
        }
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
    #[serde(default)]
    scheduler: Value,
    #[serde(default)]
    unet: Value,
    #[serde(default)]
    vae: Value,
    #[serde(default)]
    requires_aesthetics_score: Option<bool>,
    #[serde(default)]
    low_res_scheduler: Value,
    #[serde(default)]
    depth_estimator: Value,
    #[serde(default)]
    image_encoder: Value,
    #[serde(default)]
    transformer: Value,
}

impl ModelIndex {
    /// Parses the file and refuses pipelines of other model families.
    pub fn from_json(text: &str, file: &str) -> Result<Self> {
        let index: ModelIndex = from_value(spelling::MODEL_INDEX.plain(from_json(text, file)?), file)?;
        if let Some(reason) = family::why_not(&index) {
            return refuse(file, reason);
        }
        Ok(index)
    }

    /// The class of the autoencoder: `AutoencoderKL` unless another is named.
    #[must_use]
    pub fn vae_class(&self) -> &str {
        Self::class(&self.vae).unwrap_or("AutoencoderKL")
    }

    /// Whether diffusers draws with its own pipelines for latent consistency models, which take strength differently.
    #[must_use]
    pub fn is_latent_consistency(&self) -> bool {
        self.class_name.starts_with("LatentConsistencyModel")
    }

    /// The class of a component, which is a pair of a library and a class.
    fn class(value: &Value) -> Option<&str> {
        value.get(1).and_then(Value::as_str)
    }

    fn present(value: &Value) -> bool {
        value.as_array().is_some_and(|class| class.iter().any(|part| !part.is_null()))
    }

    /// The class of a component, which is what diffusers makes of its files, whatever they call themselves. Of Flax classes
    /// it is the one that torch has.
    #[must_use]
    pub fn class_of(&self, component: &str) -> Option<&str> {
        let pair = match component {
            "text_encoder" => &self.text_encoder,
            "text_encoder_2" => &self.text_encoder_2,
            "scheduler" => &self.scheduler,
            _ => return None,
        };
        let class = pair.get(1)?.as_str()?;
        Some(class.strip_prefix("Flax").unwrap_or(class))
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

fn default_true() -> bool {
    true
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsupported_settings_are_named() {
        let unet = r#"{"in_channels":4,"out_channels":4,"block_out_channels":[32],"down_block_types":["DownBlock2D"],
            "up_block_types":["UpBlock2D"],"cross_attention_dim":8,"time_embedding_dim":256}"#;
        let error = UNet2DConditionConfig::from_json(unet, "unet/config.json").unwrap_err().to_string();
        assert_eq!(error, "unet/config.json: time_embedding_dim 256 is not supported: null is");
        let other = unet.replace("256", "null").replace("\"DownBlock2D\"", "\"KDownBlock2D\"");
        let error = UNet2DConditionConfig::from_json(&other, "unet/config.json").unwrap_err().to_string();
        assert!(error.contains("KDownBlock2D is not supported"), "{error}");
        let error = ModelIndex::from_json(r#"{"_class_name":"FluxPipeline"}"#, "model_index.json").unwrap_err();
        assert!(error.to_string().contains("FluxPipeline is FLUX: only Stable Diffusion 1, 2 and XL"), "{error}");
    }

    #[test]
    fn transformers_are_counted_as_diffusers_counts_them() {
        let with = |more: &str| {
            let text = format!(
                r#"{{"in_channels":4,"out_channels":4,"block_out_channels":[8,8,8],"cross_attention_dim":8,
                "layers_per_block":[1,2,2],"down_block_types":["DownBlock2D","CrossAttnDownBlock2D","CrossAttnDownBlock2D"],
                "up_block_types":["CrossAttnUpBlock2D","CrossAttnUpBlock2D","UpBlock2D"]{more}}}"#
            );
            UNet2DConditionConfig::from_json(&text, "unet/config.json").map_err(|e| e.to_string())
        };
        let plain = with("").unwrap();
        assert_eq!(plain.mid_block, MidBlock::CrossAttention { transformer_layers: 1 });
        assert_eq!(plain.levels[2].transformer_layers, [vec![1; 2], vec![1; 3]]);
        assert_eq!(with(r#","mid_block_type":null"#).unwrap().mid_block, MidBlock::None);
        let ssd = r#","mid_block_type":"UNetMidBlock2D","transformer_layers_per_block":[0,[2,2],[4,4]],
            "reverse_transformer_layers_per_block":[[4,4,10],[2,1,1],1]"#;
        let ssd = with(ssd).unwrap();
        assert_eq!(ssd.mid_block, MidBlock::Resnet);
        let layers: Vec<_> = ssd.levels.into_iter().map(|level| level.transformer_layers).collect();
        assert_eq!(layers[0], [vec![0], vec![0, 0]]);
        assert_eq!(layers[1..], [[vec![2, 2], vec![2, 1, 1]], [vec![4, 4], vec![4, 4, 10]]]);
        for (more, what) in [
            (r#","transformer_layers_per_block":[1,[1,1],[2,2]]"#, "needs reverse_transformer_layers_per_block"),
            (r#","transformer_layers_per_block":[1,2]"#, "has 2 entries, which does not fit 3 levels"),
            (
                r#","transformer_layers_per_block":[1,[1,1],[2]],"reverse_transformer_layers_per_block":[1,1,1]"#,
                "transformer_layers_per_block [2] does not fit a level of 2 layers",
            ),
            (r#","transformer_layers_per_block":999999999999"#, "160 at most"),
            (
                r#","mid_block_type":"UNetMidBlock2DSimpleCrossAttn""#,
                "UNetMidBlock2DCrossAttn, UNetMidBlock2D and null are",
            ),
            (r#","time_cond_proj_dim":2"#, "time_cond_proj_dim 2 is too narrow"),
        ] {
            let error = with(more).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn autoencoders_are_read_by_their_class() {
        let tiny = VaeConfig::from_json("AutoencoderTiny", "{}", "vae/config.json").unwrap();
        assert_eq!((tiny.factor(), tiny.scaling_factor, tiny.force_upcast), (8, 1.0, false));
        let refused =
            |class: &str, text: &str| VaeConfig::from_json(class, text, "vae/config.json").unwrap_err().to_string();
        assert!(refused("AutoencoderTiny", r#"{"act_fn":"mish"}"#).contains("act_fn mish is not supported"));
        assert!(
            refused("AutoencoderTiny", r#"{"encoder_block_out_channels":[64,64,32,64]}"#)
                .contains("all widths the same")
        );
        assert!(refused("AutoencoderTiny", r#"{"num_decoder_blocks":[1,1]}"#).contains("num_decoder_blocks [1, 1]"));
        assert!(refused("AutoencoderTiny", r#"{"upsample_fn":"bilinear"}"#).contains("upsample_fn"));
        assert!(refused("AutoencoderDC", "{}").contains("AutoencoderDC is not supported"));
        let kl = |more: &str| format!(r#"{{"in_channels":3,"out_channels":3,"block_out_channels":[8]{more}}}"#);
        let one = VaeConfig::from_json("AutoencoderKL", &kl(r#","latents_mean":[0,0,0,0]"#), "f").unwrap();
        assert_eq!(one.statistics, None, "one without the other is not used");
        let both =
            VaeConfig::from_json("AutoencoderKL", &kl(r#","latents_mean":[1,2,3,4],"latents_std":[4,3,2,1]"#), "f");
        assert_eq!(both.unwrap().statistics.map(|s| s.std), Some([4.0, 3.0, 2.0, 1.0]));
        assert!(
            refused("AutoencoderKL", &kl(r#","latents_mean":[1],"latents_std":[4]"#)).contains("four numbers each")
        );
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
    fn a_text_encoder_that_hides_its_padding_is_refused() {
        let text = r#"{"vocab_size":9,"hidden_size":4,"intermediate_size":8,"num_hidden_layers":1,"num_attention_heads":2,"use_attention_mask":HIDES}"#;
        let with = |hides: &str| ClipTextConfig::from_json(&text.replace("HIDES", hides), "config.json");
        assert!(with("false").is_ok() && with("null").is_ok());
        let error = with("true").unwrap_err().to_string();
        assert_eq!(error, "config.json: use_attention_mask true is not supported: false is");
    }

    #[test]
    fn the_first_end_of_text_is_pooled() {
        let text = r#"{"vocab_size":9,"hidden_size":4,"intermediate_size":8,"num_hidden_layers":1,"num_attention_heads":2,"eos_token_id":EOS}"#;
        let with = |eos: &str| ClipTextConfig::from_json(&text.replace("EOS", eos), "config.json").unwrap();
        assert_eq!(with("2").pooled_position(&[6, 2, 8, 8, 0]), 2);
        assert_eq!(with("7").pooled_position(&[6, 2, 7, 8, 7]), 2);
    }
}
