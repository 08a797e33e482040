//! How PEFT scales its differences: alpha and rank of an adapter's configuration, which diffusers writes into the metadata of
//! a file (`lora_adapter_metadata`).

use fancy_regex::Regex;
use serde_json::Value;

use crate::hub::Component;

/// Where it stands.
const KEY: &str = "lora_adapter_metadata";

/// The configuration of a file's adapters.
pub(super) struct AdapterConfig(Value);

impl AdapterConfig {
    /// What the metadata says, if it does.
    pub fn of(metadata: &std::collections::BTreeMap<String, String>) -> Option<Self> {
        let value = crate::json::value(metadata.get(KEY)?).ok()?;
        value.is_object().then_some(AdapterConfig(value))
    }

    /// A setting of a component; of a file for one component without its name.
    fn get(&self, component: Component, key: &str) -> Option<&Value> {
        self.0.get(format!("{}.{key}", component.folder())).or_else(|| self.0.get(key)).filter(|value| !value.is_null())
    }

    /// What the product of the factors of a layer is multiplied by; 1 where nothing is said.
    ///
    /// # Errors
    /// The key of a pattern that is no regular expression, in a sentence.
    pub fn scale(&self, component: Component, layer: &str, rank: usize) -> Result<f32, String> {
        let pattern = self.get(component, "alpha_pattern").and_then(Value::as_object);
        let mut alpha = self.get(component, "lora_alpha");
        for (key, of_key) in pattern.into_iter().flatten() {
            if is_meant(key, layer)? {
                alpha = Some(of_key);
                break;
            }
        }
        let Some(alpha) = alpha.and_then(Value::as_f64) else { return Ok(1.0) };
        let by_root = self.get(component, "use_rslora").and_then(Value::as_bool) == Some(true);
        let rank = rank as f64;
        Ok((alpha / if by_root { rank.sqrt() } else { rank }) as f32)
    }
}

/// Whether a pattern means a layer: a regular expression for its whole path, or for the end of it behind a point.
fn is_meant(pattern: &str, layer: &str) -> Result<bool, String> {
    let whole = format!(r"^(?:.*\.)?(?:{pattern})$");
    Regex::new(&whole)
        .and_then(|regex| regex.is_match(layer))
        .map_err(|_| format!("its alpha_pattern {pattern:?} is not a regular expression that can be read"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alpha_is_that_of_the_layer() {
        let config = |text: &str| {
            AdapterConfig::of(&[(KEY.to_owned(), text.to_owned())].into()).map(|config| {
                let scale = |layer| config.scale(Component::Unet, layer, 4).unwrap();
                [scale("a.to_q"), scale("b.to_k")]
            })
        };
        assert_eq!(config(r#"{"unet.r": 4, "unet.lora_alpha": 8}"#), Some([2.0, 2.0]));
        assert_eq!(config(r#"{"lora_alpha": 8, "use_rslora": true}"#), Some([4.0, 4.0]));
        let pattern = r#"{"unet.lora_alpha": 8, "unet.alpha_pattern": {"to_q": 2, "^to_k": 1}}"#;
        assert_eq!(config(pattern), Some([0.5, 2.0]));
        assert_eq!(config(r#"{"text_encoder.lora_alpha": 8}"#), Some([1.0, 1.0]));
        assert_eq!(config("[1]"), None);
        assert_eq!(config("{"), None);
        for (pattern, layer, expected) in [
            ("^a.to_q$", "a.to_q", true),
            ("a\\.to_q", "x.a.to_q", true),
            ("o_q", "a.to_q", false),
            (".*attn2.*", "mid.attn2.to_q", true),
            ("up_blocks\\.\\d+\\..*", "up_blocks.12.attn1.to_k", true),
            ("up_blocks\\.\\d+", "up_blocks.12.attn1.to_k", false),
            ("to_(q|k)", "a.to_k", true),
        ] {
            assert_eq!(is_meant(pattern, layer), Ok(expected), "{pattern} {layer}");
        }
        assert!(is_meant("to_(q", "a.to_q").unwrap_err().contains("to_(q"));
    }
}
