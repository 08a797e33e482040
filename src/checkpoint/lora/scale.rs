//! How PEFT scales its differences: alpha and rank of an adapter's configuration, which diffusers writes into the metadata of
//! a file (`lora_adapter_metadata`).

use fancy_regex::Regex;
use serde_json::Value;

use crate::hub::Component;

/// Where it stands.
const KEY: &str = "lora_adapter_metadata";

/// The configuration of a file's adapters, or why it cannot be read, which matters to layers without an alpha of their own.
pub(super) struct AdapterConfig(Result<Value, String>);

impl AdapterConfig {
    /// What the metadata says, if it does.
    pub fn of(metadata: &std::collections::BTreeMap<String, String>) -> Option<Self> {
        let value = crate::json::value(metadata.get(KEY)?).ok().filter(Value::is_object);
        Some(AdapterConfig(value.ok_or_else(|| format!("its {KEY} is not a JSON object"))))
    }

    /// A setting of a component; of a file for one component without its name.
    fn get<'a, T>(
        &'a self,
        component: Component,
        key: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
        expected: &str,
    ) -> Result<Option<T>, String> {
        let config = self.0.as_ref().map_err(Clone::clone)?;
        let value = config.get(format!("{}.{key}", component.folder())).or_else(|| config.get(key));
        let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| wrong(key, value, expected))
    }

    /// What the product of the factors of a layer is multiplied by; 1 where nothing is said.
    ///
    /// # Errors
    /// In a sentence, what cannot be read, or which pattern is no regular expression.
    pub fn scale(&self, component: Component, layer: &str, rank: usize) -> Result<f32, String> {
        let mut alpha = self.get(component, "lora_alpha", Value::as_f64, "a number")?;
        let pattern = self.get(component, "alpha_pattern", Value::as_object, "an object")?;
        for (key, of_key) in pattern.into_iter().flatten() {
            if is_meant(key, layer)? {
                alpha = Some(of_key.as_f64().ok_or_else(|| wrong(key, of_key, "a number"))?);
                break;
            }
        }
        let Some(alpha) = alpha else { return Ok(1.0) };
        let by_root = self.get(component, "use_rslora", Value::as_bool, "true or false")? == Some(true);
        let rank = rank as f64;
        Ok((alpha / if by_root { rank.sqrt() } else { rank }) as f32)
    }
}

fn wrong(key: &str, value: &Value, expected: &str) -> String {
    format!("its {KEY} has {value} for {key}, which is not {expected}")
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
        for (text, word) in [
            (r#"{"unet.lora_alpha": 16"#, "JSON object"),
            ("[16]", "JSON object"),
            (r#"{"unet.lora_alpha": "16"}"#, "\"16\" for lora_alpha"),
            (r#"{"lora_alpha": 16, "alpha_pattern": {"to_q": "32"}}"#, "\"32\" for to_q"),
            (r#"{"lora_alpha": 16, "alpha_pattern": ["to_q"]}"#, "not an object"),
            (r#"{"lora_alpha": 16, "use_rslora": 1}"#, "not true or false"),
        ] {
            let config = AdapterConfig::of(&[(KEY.to_owned(), text.to_owned())].into()).unwrap();
            let reason = config.scale(Component::Unet, "a.to_q", 4).unwrap_err();
            assert!(reason.contains(word), "{text}: {reason}");
        }
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
