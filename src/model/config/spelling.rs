//! Ways to spell a config that mean the same to diffusers and transformers: null for a default, a list of one repeated
//! value for the value, `swish` for `silu`, a number for a truth value, 2.0 for 2, and what is left out.
//!
//! It looks at spelling only: what a value means, and whether it is supported, is decided by the types of the parent.

use serde_json::{Map, Number, Value};

/// The fields of one kind of config whose spelling may differ.
pub(super) struct Spelling {
    /// Values of fields that are left out or null, as JSON. Only those that have a default in the reference.
    pub(super) defaults: &'static [(&'static str, &'static str)],
    /// Truth values. Null is `false`, also where `true` is the default, because it is to Python.
    pub(super) bools: &'static [&'static str],
    /// Fields in which a list of equal values is not the value.
    pub(super) lists: &'static [&'static str],
    /// Fields in which null is not the default.
    pub(super) nulls: &'static [&'static str],
}

/// `model_index.json`.
pub(super) const MODEL_INDEX: Spelling = Spelling {
    defaults: &[],
    bools: &["force_zeros_for_empty_prompt", "requires_safety_checker", "add_watermarker"],
    lists: &["text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "vae", "scheduler"],
    nulls: &["text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "vae", "scheduler"],
};

/// `UNet2DConditionModel`.
pub(super) const UNET: Spelling = Spelling {
    defaults: &[
        ("in_channels", "4"),
        ("out_channels", "4"),
        ("block_out_channels", "[320,640,1280,1280]"),
        ("down_block_types", r#"["CrossAttnDownBlock2D","CrossAttnDownBlock2D","CrossAttnDownBlock2D","DownBlock2D"]"#),
        ("up_block_types", r#"["UpBlock2D","CrossAttnUpBlock2D","CrossAttnUpBlock2D","CrossAttnUpBlock2D"]"#),
        ("cross_attention_dim", "1280"),
        ("layers_per_block", "2"),
        ("freq_shift", "0"),
    ],
    bools: &[
        "center_input_sample",
        "class_embeddings_concat",
        "dual_cross_attention",
        "flip_sin_to_cos",
        "only_cross_attention",
        "resnet_skip_time_act",
        "upcast_attention",
        "use_linear_projection",
    ],
    lists: &[
        "attention_head_dim",
        "block_out_channels",
        "cross_attention_dim",
        "down_block_types",
        "layers_per_block",
        "num_attention_heads",
        "reverse_transformer_layers_per_block",
        "sample_size",
        "transformer_layers_per_block",
        "up_block_types",
    ],
    nulls: &["mid_block_type"],
};

/// `AutoencoderKL`, and `AutoencoderTiny`, whose lists have other names.
pub(super) const VAE: Spelling = Spelling {
    defaults: &[("in_channels", "3"), ("out_channels", "3")],
    bools: &["force_upcast", "mid_block_add_attention", "use_post_quant_conv", "use_quant_conv"],
    lists: &[
        "block_out_channels",
        "decoder_block_out_channels",
        "down_block_types",
        "encoder_block_out_channels",
        "latent_rgb_factors",
        "latent_rgb_factors_bias",
        "latents_mean",
        "latents_std",
        "num_decoder_blocks",
        "num_encoder_blocks",
        "up_block_types",
    ],
    nulls: &[],
};

/// `CLIPTextConfig`.
pub(super) const CLIP: Spelling = Spelling {
    defaults: &[
        ("vocab_size", "49408"),
        ("hidden_size", "512"),
        ("intermediate_size", "2048"),
        ("num_hidden_layers", "12"),
        ("num_attention_heads", "8"),
    ],
    bools: &[],
    lists: &["architectures"],
    nulls: &[],
};

impl Spelling {
    /// The config in its plain spelling. What is not an object is left to whoever reads it.
    pub(super) fn plain(&self, json: Value) -> Value {
        let Value::Object(fields) = json else { return json };
        let mut plain = Map::new();
        for (name, value) in fields {
            let name_is_in = |names: &[&str]| names.contains(&name.as_str());
            let mut value = whole_numbers(value);
            if !name_is_in(self.lists) {
                value = without_repetition(value);
            }
            if name_is_in(self.bools) {
                value = truth(value);
            } else if value.is_null() && !name_is_in(self.nulls) {
                continue;
            }
            if name.ends_with("act_fn") || name == "hidden_act" {
                value = activation(value);
            }
            plain.insert(name, value);
        }
        for (name, default) in self.defaults {
            let default: Value = serde_json::from_str(default).unwrap_or_default();
            match plain.get_mut(*name) {
                None => {
                    plain.insert((*name).to_owned(), default);
                }
                // To Python a truth value is a number.
                Some(value) if default.is_number() => {
                    if let Value::Bool(is_one) = value {
                        *value = Value::from(u8::from(*is_one));
                    }
                }
                Some(_) => {}
            }
        }
        Value::Object(plain)
    }
}

/// A list of equal values that are no lists as one of them.
fn without_repetition(value: Value) -> Value {
    match value {
        Value::Array(list) if !list.is_empty() && list.iter().all(|item| *item == list[0] && !item.is_array()) => {
            list.into_iter().next().unwrap_or_default()
        }
        other => other,
    }
}

/// Numbers without a fraction as integers, also in lists.
fn whole_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => {
            let whole = number.as_f64().filter(|x| number.is_f64() && x.fract() == 0.0 && x.abs() < 9e15);
            Value::Number(whole.map_or(number, |x| Number::from(x as i64)))
        }
        Value::Array(list) => Value::Array(list.into_iter().map(whole_numbers).collect()),
        other => other,
    }
}

fn truth(value: Value) -> Value {
    match value {
        Value::Null => Value::Bool(false),
        Value::Number(number) => Value::Bool(number.as_f64() != Some(0.0)),
        other => other,
    }
}

/// diffusers lowers the case, and takes `swish` for `silu`.
fn activation(value: Value) -> Value {
    match value.as_str().map(str::to_lowercase).as_deref() {
        Some("swish") => Value::from("silu"),
        Some(name) => Value::from(name),
        None => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmless_spellings_become_plain() {
        let text = r#"{"act_fn": "Swish", "only_cross_attention": [false, false], "use_linear_projection": null,
            "flip_sin_to_cos": 1, "freq_shift": false, "norm_num_groups": [8, 8, 8], "norm_eps": null,
            "mid_block_type": null, "layers_per_block": [2.0, 2], "conv_in_kernel": 3.0}"#;
        let plain = UNET.plain(serde_json::from_str(text).unwrap());
        for (name, expected) in [
            ("act_fn", "\"silu\""),
            ("only_cross_attention", "false"),
            ("use_linear_projection", "false"),
            ("flip_sin_to_cos", "true"),
            ("freq_shift", "0"),
            ("norm_num_groups", "8"),
            ("mid_block_type", "null"),
            ("layers_per_block", "[2,2]"),
            ("conv_in_kernel", "3"),
            ("in_channels", "4"),
            ("cross_attention_dim", "1280"),
        ] {
            assert_eq!(plain[name].to_string(), expected, "{name}");
        }
        assert!(plain.get("norm_eps").is_none());
    }
}
