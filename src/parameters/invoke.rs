//! What InvokeAI writes: `invokeai_metadata` since version 3, `sd-metadata` before, and the command line (`Dream`) of its
//! first days.

use serde_json::Value;

use super::found::{Found, Settings};
use super::other_programs::{Object, cannot_be_used, noted, noted_number, number, object, text_of};
use super::{UsedLora, spelled};
use crate::prompt::PromptSyntax;
use crate::rng::Noise;

/// The most LoRAs that are listed.
const MAX_LORAS: usize = 64;

/// Fields that say what is not done here, where they hold anything.
const NOT_DONE: [(&str, &str); 9] = [
    ("controlnets", "ControlNet steered it"),
    ("control_layers", "ControlNet or regions steered it"),
    ("ipAdapters", "a picture steered it (IP-Adapter)"),
    ("t2iAdapters", "a T2I-Adapter steered it"),
    ("refiner_model", "a refiner finished it"),
    ("hrf_enabled", "it was enlarged with hires fix"),
    ("cfg_rescale_multiplier", "its guidance was rescaled"),
    ("seamless_x", "its edges fit together"),
    ("seamless_y", "its edges fit together"),
];

/// Looks for InvokeAI's marks.
pub(super) fn read(text: &[(String, String)]) -> Option<Found> {
    let find = |key: &str| text.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str());
    if let Some(fields) = find("invokeai_metadata").and_then(object) {
        return Some(of_metadata(&fields));
    }
    if let Some(fields) = find("sd-metadata").and_then(object) {
        return Some(of_older(&fields));
    }
    if let Some(line) = find("Dream") {
        let mut found = Found::of("InvokeAI");
        found.settings.read_in(PromptSyntax::Compel);
        take_command(line, &mut found);
        return Some(found);
    }
    find("invokeai_graph").map(|_| Found::of("InvokeAI"))
}

/// The name of a model in any version's form.
fn name_of(value: &Value) -> Option<String> {
    match value {
        Value::String(name) => Some(name.clone()),
        Value::Object(model) => text_of(model, &["name", "model_name", "key"]).map(str::to_owned),
        _ => None,
    }
}

/// Samplers with `_k` behind them have the levels of Karras.
fn take_scheduler(settings: &mut Settings, name: &str) {
    // `lms` is named with a `k_` before it in the oldest versions, where all had the levels of Karras from so many steps on.
    match name.strip_suffix("_k") {
        Some(name) => settings.set_sampler(&format!("{name}_karras")),
        None => settings.set_sampler(name),
    }
}

fn of_metadata(fields: &Object) -> Found {
    let mut found = Found::of("InvokeAI");
    let some = |keys: &[&str]| text_of(fields, keys).map(str::to_owned);
    let Found { settings, notes, .. } = &mut found;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    settings.prompt = noted("prompt", fields.get("positive_prompt"), text, notes).or(some(&["positive_prompt"]));
    settings.negative_prompt = noted("negative prompt", fields.get("negative_prompt"), text, notes);
    settings.steps = noted_number("steps", fields.get("steps"), notes);
    settings.guidance_scale = noted_number("guidance scale", fields.get("cfg_scale"), notes);
    settings.seed = noted_number("seed", fields.get("seed"), notes);
    settings.width = noted_number("width", fields.get("width"), notes);
    settings.height = noted_number("height", fields.get("height"), notes);
    settings.version = some(&["app_version"]);
    settings.clip_skip = noted_number("clip skip", fields.get("clip_skip"), notes).filter(|&layers: &u32| layers > 0);
    settings.model = noted("model", fields.get("model"), name_of, notes);
    settings.noise = settings.seed.map(|_| match text_of(fields, &["rand_device"]) {
        Some("cuda") => Noise::Philox,
        _ => Noise::Cpu,
    });
    if let Some(scheduler) = text_of(fields, &["scheduler"]) {
        take_scheduler(settings, scheduler);
    }
    let mode = text_of(fields, &["generation_mode"]).unwrap_or_default();
    let is_from_picture = ["img2img", "inpaint", "outpaint"].iter().any(|part| mode.contains(part));
    if is_from_picture {
        settings.strength = noted_number("strength", fields.get("strength"), notes);
    }
    if let Some(other) = fields.get("loras").filter(|loras| !loras.is_array() && !loras.is_null()) {
        notes.push(cannot_be_used("LoRAs", other));
    }
    for entry in fields.get("loras").and_then(Value::as_array).into_iter().flatten().take(MAX_LORAS) {
        let model = ["model", "lora"].iter().find_map(|key| entry.get(*key));
        if let Some(name) = model.and_then(name_of) {
            let strength = number(entry.get("weight")).unwrap_or(1.0);
            settings.loras.push(UsedLora { strength, ..UsedLora::named(&name) });
        }
    }
    let hash = fields.get("model").and_then(|model| model.get("hash")?.as_str());
    found.model_hash = hash.map(|hash| hash.rsplit(':').next().unwrap_or(hash).to_owned());
    found.vae = fields.get("vae").and_then(name_of);
    if mode.contains("paint") {
        found
            .notes
            .push("a part of another picture was drawn again with a mask, which the file does not hold".to_owned());
    }
    found.settings.read_in(PromptSyntax::Compel);
    let style = text_of(fields, &["positive_style_prompt"]).filter(|style| !style.is_empty());
    if style.is_some_and(|style| found.settings.prompt.as_deref() != Some(style)) {
        found.notes.push("its two text encoders read two prompts, of which the first is taken".to_owned());
    }
    for (key, what) in NOT_DONE {
        let is_said = match fields.get(key) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::Array(list)) => !list.is_empty(),
            Some(Value::Number(number)) => number.as_f64() != Some(0.0),
            Some(_) => true,
        };
        let note = format!("{what}, which is not done here");
        if is_said && !found.notes.contains(&note) {
            found.notes.push(note);
        }
    }
    found
}

/// Before version 3: the settings of the picture in `image`, and the negative prompt in brackets inside the prompt.
fn of_older(fields: &Object) -> Found {
    let mut found = Found::of("InvokeAI");
    let image = fields.get("image").and_then(Value::as_object).cloned().unwrap_or_default();
    found.settings.read_in(PromptSyntax::Compel);
    let Found { settings, notes, .. } = &mut found;
    let parts = image.get("prompt");
    let prompt = match parts {
        Some(Value::Array(parts)) => {
            parts.iter().filter_map(|part| part.get("prompt")?.as_str()).collect::<Vec<_>>().join(" ")
        }
        Some(Value::String(prompt)) => prompt.clone(),
        _ => String::new(),
    };
    if !prompt.is_empty() {
        take_prompt(settings, &prompt);
    }
    settings.steps = noted_number("steps", image.get("steps"), notes);
    settings.guidance_scale = noted_number("guidance scale", image.get("cfg_scale"), notes);
    settings.seed = noted_number("seed", image.get("seed"), notes);
    settings.width = noted_number("width", image.get("width"), notes);
    settings.height = noted_number("height", image.get("height"), notes);
    settings.noise = settings.seed.map(|_| Noise::Philox);
    settings.model = text_of(fields, &["model_weights"]).map(str::to_owned);
    settings.version = text_of(fields, &["app_version"]).map(str::to_owned);
    if text_of(&image, &["type"]) == Some("img2img") {
        settings.strength = noted_number("strength", image.get("strength"), notes);
    }
    if let Some(sampler) = text_of(&image, &["sampler"]) {
        spelled::take(settings, sampler, None, notes);
    }
    found.model_hash = text_of(fields, &["model_hash"]).map(str::to_owned);
    for (key, what) in [("hires_fix", "it was enlarged with hires fix"), ("seamless", "its edges fit together")] {
        if image.get(key) == Some(&Value::Bool(true)) {
            found.notes.push(format!("{what}, which is not done here"));
        }
    }
    let is_said = |key: &str| image.get(key).is_some_and(|value| value.as_f64().is_some_and(|n| n != 0.0));
    if is_said("threshold")
        || is_said("perlin")
        || image.get("variations").and_then(Value::as_array).is_some_and(|v| !v.is_empty())
    {
        found.notes.push("its noise was changed (threshold, perlin, variations), which is not done here".to_owned());
    }
    found
}

/// `a cat [fog]`: what stands in brackets is avoided.
fn take_prompt(settings: &mut Settings, prompt: &str) {
    let (mut positive, mut negative) = (String::new(), Vec::new());
    let mut rest = prompt;
    while let Some((before, after)) = rest.split_once('[') {
        let Some((inside, after)) = after.split_once(']') else { break };
        positive.push_str(before);
        negative.push(inside.trim());
        rest = after;
    }
    positive.push_str(rest);
    settings.prompt = Some(if negative.is_empty() { positive } else { positive.trim().to_owned() });
    settings.negative_prompt = Some(negative.join(", ")).filter(|text| !text.is_empty());
}

/// `"a cat" -s 50 -S 123 -W 512 -H 512 -C 7.5 -A k_lms`.
fn take_command(line: &str, found: &mut Found) {
    let Some((prompt, options)) = line.strip_prefix('"').and_then(|line| line.rsplit_once('"')) else { return };
    let settings = &mut found.settings;
    take_prompt(settings, prompt);
    // The value stands behind the letter, or is the next word.
    let words: Vec<&str> = options.split_whitespace().collect();
    let find = |flag: &str| {
        let at = words.iter().position(|word| word.starts_with(flag))?;
        let behind = words[at].strip_prefix(flag).filter(|value| !value.is_empty());
        behind.or_else(|| words.get(at + 1).copied())
    };
    settings.steps = find("-s").and_then(|value| value.parse().ok());
    settings.seed = find("-S").and_then(|value| value.parse().ok());
    settings.width = find("-W").and_then(|value| value.parse().ok());
    settings.height = find("-H").and_then(|value| value.parse().ok());
    settings.guidance_scale = find("-C").and_then(|value| value.parse().ok());
    settings.strength = find("-f").and_then(|value| value.parse().ok());
    settings.noise = settings.seed.map(|_| Noise::Philox);
    if let Some(sampler) = find("-A") {
        spelled::take(settings, sampler, None, &mut found.notes);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(key: &str, text: &str) -> Found {
        read(&[(key.to_owned(), text.to_owned())]).unwrap()
    }

    #[test]
    fn all_versions_are_read() {
        let new = json!({
            "generation_mode": "sdxl_img2img", "positive_prompt": "a fox", "negative_prompt": "fog",
            "positive_style_prompt": "ink", "width": 1024, "height": 768, "seed": 42, "rand_device": "cuda", "cfg_scale": 7.5,
            "steps": 30, "scheduler": "dpmpp_2m_sde_k", "clip_skip": 1, "strength": 0.6, "app_version": "5.6.0",
            "model": {"key": "k", "hash": "blake3:0123abcd", "name": "Paint XL", "base": "sdxl", "type": "main"},
            "loras": [{"model": {"key": "l", "hash": "blake3:1", "name": "ink", "base": "sdxl"}, "weight": 0.75}],
            "controlnets": [], "ipAdapters": [{"weight": 1}], "seamless_x": false, "refiner_model": null,
        });
        let got = found("invokeai_metadata", &new.to_string());
        let settings = &got.settings;
        assert_eq!((settings.seed, settings.noise, settings.strength), (Some(42), Some(Noise::Philox), Some(0.6)));
        assert_eq!((settings.sampler.as_deref(), settings.clip_skip), (Some("dpm++2m_sde_karras"), Some(1)));
        assert_eq!((settings.loras[0].name.as_str(), settings.loras[0].strength), ("ink", 0.75));
        assert_eq!((settings.model.as_deref(), got.model_hash.as_deref()), (Some("Paint XL"), Some("0123abcd")));
        assert_eq!(got.notes.len(), 2, "{:?}", got.notes);
        let third = json!({"positive_prompt": "x", "model": {"model_name": "paint", "base_model": "sd-1"}, "seed": 1,
            "rand_device": "cpu", "scheduler": "euler_a", "loras": [{"lora": {"model_name": "ink"}, "weight": 0.5}]});
        let got = found("invokeai_metadata", &third.to_string());
        assert_eq!((got.settings.model.as_deref(), got.settings.noise), (Some("paint"), Some(Noise::Cpu)));
        assert_eq!((got.settings.loras[0].strength, got.settings.sampler.as_deref()), (0.5, Some("euler_a")));
        let old = json!({"model": "stable diffusion", "model_weights": "sd-1.5", "model_hash": "cafe", "app_id": "invoke-ai/InvokeAI",
            "app_version": "2.3.5", "image": {"prompt": [{"prompt": "a barn [people, cars] at dusk", "weight": 1}], "steps": 50,
            "cfg_scale": 7.5, "threshold": 0, "perlin": 0, "height": 512, "width": 640, "seed": 9, "seamless": false,
            "hires_fix": true, "type": "txt2img", "variations": [], "sampler": "k_lms", "strength": 0.75}});
        let got = found("sd-metadata", &old.to_string());
        let settings = &got.settings;
        assert_eq!(settings.prompt.as_deref(), Some("a barn  at dusk"));
        assert_eq!((settings.negative_prompt.as_deref(), settings.strength), (Some("people, cars"), None));
        assert_eq!((settings.sampler.as_deref(), settings.width, settings.height), (Some("lms"), Some(640), Some(512)));
        assert_eq!((got.model_hash.as_deref(), got.notes.len()), (Some("cafe"), 1));
        let got = found("Dream", "\"a \"red\" barn [fog]\" -s 40 -S123 -W 512 -H 448 -C 7.5 -A k_euler_a");
        let settings = &got.settings;
        assert_eq!((settings.steps, settings.seed, settings.height), (Some(40), Some(123), Some(448)));
        assert_eq!(settings.prompt.as_deref(), Some("a \"red\" barn"));
        assert_eq!(settings.sampler.as_deref(), Some("euler_a"));
        assert_eq!((settings.prompt_syntax, settings.long_prompt_chunks), (Some(PromptSyntax::Compel), true));
        assert!(found("Dream", "nothing").settings.is_empty());
    }
}
