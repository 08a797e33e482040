//! `text_encoder/config.json` (transformers `CLIPTextConfig`).

use serde::Deserialize;

use serde_json::Value;

use super::{MAX_LAYERS, MAX_WIDTH, bound, from_json, from_value, refuse, spelling};
use crate::error::{Error, Result};
use crate::graph::Activation;

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
    /// The class, where the file tells. What `model_index.json` says counts more: [`ClipTextConfig::with_class`].
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
    /// Parses and checks the file. Of a whole CLIP's config its `text_config` is read, as transformers does.
    pub fn from_json(text: &str, file: &str) -> Result<Self> {
        let mut json: Value = from_json(text, file)?;
        if let Some(text_config) = json.get_mut("text_config").filter(|nested| nested.is_object()) {
            json = text_config.take();
        }
        // diffusers hides the padding from the text encoder then.
        if json.get("use_attention_mask").is_some_and(|hides| *hides == true) {
            return refuse(file, "use_attention_mask true is not supported: false is".into());
        }
        let config: ClipTextConfig = from_value(spelling::CLIP.plain(json), file)?;
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

    /// As the class that `model_index.json` names for it, which decides whatever the file says or leaves out.
    #[must_use]
    pub fn with_class(mut self, class: Option<&str>) -> Self {
        if let Some(class) = class {
            self.architectures = vec![class.to_owned()];
        }
        self
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
