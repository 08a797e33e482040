//! How PEFT scales its differences: alpha and rank of an adapter's configuration, which diffusers writes into the metadata of
//! a file (`lora_adapter_metadata`).

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
    pub fn scale(&self, component: Component, layer: &str, rank: usize) -> f32 {
        let pattern = self.get(component, "alpha_pattern").and_then(Value::as_object);
        let of_layer = pattern.and_then(|pattern| pattern.iter().find(|(key, _)| is_meant(key, layer)));
        let alpha = of_layer.map(|(_, alpha)| alpha).or_else(|| self.get(component, "lora_alpha"));
        let Some(alpha) = alpha.and_then(Value::as_f64) else { return 1.0 };
        let by_root = self.get(component, "use_rslora").and_then(Value::as_bool) == Some(true);
        let rank = rank as f64;
        (alpha / if by_root { rank.sqrt() } else { rank }) as f32
    }
}

/// Whether a pattern means a layer: its whole path, or the end of it behind a point. PEFT's are regular expressions; in real
/// files they are names, some with `^` in front for a whole path, and points with a backslash.
fn is_meant(pattern: &str, layer: &str) -> bool {
    let pattern = pattern.replace("\\.", ".");
    if let Some(whole) = pattern.strip_prefix('^') {
        return whole.strip_suffix('$').unwrap_or(whole) == layer;
    }
    let pattern = pattern.strip_suffix('$').unwrap_or(&pattern);
    layer.strip_suffix(pattern).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alpha_is_that_of_the_layer() {
        let config = |text: &str| {
            AdapterConfig::of(&[(KEY.to_owned(), text.to_owned())].into()).map(|config| {
                let scale = |layer| config.scale(Component::Unet, layer, 4);
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
        assert!(is_meant("^a.to_q$", "a.to_q") && is_meant("a\\.to_q", "x.a.to_q") && !is_meant("o_q", "a.to_q"));
    }
}
