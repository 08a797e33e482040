//! What other programs write into their pictures, each in its own JSON: NovelAI, SwarmUI, Fooocus, Easy Diffusion, Draw
//! Things; InvokeAI and ComfyUI have rooms of their own. They are named, and of their settings is taken what means the same
//! here.

use serde_json::{Map, Value};

use super::found::{Found, Settings};
use super::{UsedLora, comfy, invoke, spelled};
use crate::prompt::PromptSyntax;
use crate::rng::Noise;

pub(super) type Object = Map<String, Value>;

/// The most LoRAs that are listed.
const MAX_LORAS: usize = 64;

/// Looks for the marks of each program.
pub(super) fn read(text: &[(String, String)]) -> Option<Found> {
    let find = |key: &str| text.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str());
    let json = |key: &str| object(find(key)?);
    let written = json("parameters").or_else(|| json("UserComment"));
    if let Some(Value::Object(swarm)) = written.as_ref().and_then(|written| written.get("sui_image_params")) {
        return Some(flat("SwarmUI", swarm));
    }
    if let Some(fooocus) = written
        .as_ref()
        .filter(|_| find("fooocus_scheme").is_some())
        .or(written.as_ref().filter(|w| text_of(w, &["version"]).is_some_and(|version| version.contains("Fooocus"))))
    {
        return Some(flat("Fooocus", fooocus));
    }
    if let Some(found) = invoke::read(text) {
        return Some(found);
    }
    // A WebP of NovelAI holds its texts as one JSON in the user comment.
    let novel = json("Comment").or_else(|| object(text_of(written.as_ref()?, &["Comment"])?));
    let is_novel = find("Software") == Some("NovelAI")
        || written.as_ref().is_some_and(|written| text_of(written, &["Software"]) == Some("NovelAI"))
        || novel.as_ref().is_some_and(|novel| novel.contains_key("uc") && novel.contains_key("sampler"));
    if is_novel {
        return Some(flat("NovelAI", &novel.unwrap_or_default()));
    }
    if let Some(found) = comfy::read(text) {
        return Some(found);
    }
    if let Some(drawn) = written.as_ref().filter(|written| written.contains_key("c") && written.contains_key("uc")) {
        return Some(flat("Draw Things", drawn));
    }
    if find("use_stable_diffusion_model").is_some() || (find("num_inference_steps").is_some() && find("seed").is_some())
    {
        let fields = text.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
        return Some(flat("Easy Diffusion", &fields));
    }
    written.map(|written| flat("another program", &written)).filter(|found| !found.settings.is_empty())
}

pub(super) fn object(text: &str) -> Option<Object> {
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Some(fields),
        // Python writes NaN, which JSON does not have.
        _ => match serde_json::from_str(&text.replace("NaN", "null")) {
            Ok(Value::Object(fields)) if text.contains("NaN") => Some(fields),
            _ => None,
        },
    }
}

pub(super) fn text_of<'a>(fields: &'a Object, keys: &[&str]) -> Option<&'a str> {
    keys.iter().find_map(|key| fields.get(*key)?.as_str())
}

/// The most characters of a value that a note shows.
const MAX_SHOWN: usize = 80;

/// A note about a value that is not what it should be.
pub(super) fn cannot_be_used(what: &str, value: &Value) -> String {
    let shown: String = value.to_string().chars().take(MAX_SHOWN).collect();
    format!("its {what} {shown} cannot be used here")
}

/// A value as `read` has it, and a note where there is one that it does not read. Nothing at all is none.
pub(super) fn noted<T>(
    what: &str,
    value: Option<&Value>,
    read: impl Fn(&Value) -> Option<T>,
    notes: &mut Vec<String>,
) -> Option<T> {
    let value = value.filter(|value| !value.is_null() && value.as_str().is_none_or(|text| !text.trim().is_empty()))?;
    let taken = read(value);
    if taken.is_none() {
        notes.push(cannot_be_used(what, value));
    }
    taken
}

/// A number, and a note where there is a value that is no such number.
pub(super) fn noted_number<T: std::str::FromStr>(
    what: &str,
    value: Option<&Value>,
    notes: &mut Vec<String>,
) -> Option<T> {
    noted(what, value, |value| number(Some(value)), notes)
}

/// A number, also where it was written as a text, or as 512.0.
pub(super) fn number<T: std::str::FromStr>(value: Option<&Value>) -> Option<T> {
    match value? {
        Value::Number(number) => {
            let whole =
                number.as_f64().filter(|real| number.is_f64() && real.fract() == 0.0).map(|real| real.to_string());
            number.to_string().parse().ok().or_else(|| whole?.parse().ok())
        }
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// Settings that lie side by side under the names that these programs use.
fn flat(program: &str, fields: &Object) -> Found {
    let any = |keys: &[&str]| keys.iter().find_map(|key| fields.get(*key));
    let some = |text: Option<&str>| text.map(str::to_owned);
    let mut notes = Vec::new();
    let mut settings = Settings {
        prompt: some(text_of(fields, &["prompt", "positive_prompt", "c"])),
        negative_prompt: some(text_of(fields, &["negative_prompt", "negativeprompt", "negativePrompt", "uc"]))
            .filter(|text| !text.is_empty()),
        steps: noted_number("steps", any(&["steps", "num_inference_steps"]), &mut notes),
        guidance_scale: noted_number(
            "guidance scale",
            any(&["cfg_scale", "cfgscale", "guidance_scale", "scale", "cfg"]),
            &mut notes,
        ),
        seed: noted_number("seed", any(&["seed"]), &mut notes),
        width: noted_number("width", any(&["width"]), &mut notes),
        height: noted_number("height", any(&["height"]), &mut notes),
        version: some(text_of(fields, &["version", "app_version", "swarm_version"])),
        ..Settings::default()
    };
    let model = any(&["model", "base_model", "model_weights", "use_stable_diffusion_model"]);
    settings.model = match model {
        Some(Value::Object(model)) => some(text_of(model, &["name", "model_name", "key"])),
        Some(Value::String(model)) => Some(model.clone()),
        _ => None,
    };
    // (1152, 896), 1152x896 and 1152 × 896
    if let (None, Some(size)) = (settings.width, text_of(fields, &["resolution", "size"])) {
        let sides: Vec<u32> = size.split(|c: char| !c.is_ascii_digit()).filter_map(|side| side.parse().ok()).collect();
        if let [width, height] = sides[..] {
            (settings.width, settings.height) = (Some(width), Some(height));
        }
    }
    if let Some(sampler) = text_of(fields, &["sampler", "sampler_name"]) {
        let schedule = text_of(fields, &["scheduler", "noise_schedule"]).filter(|name| *name != "native");
        spelled::take(&mut settings, sampler, schedule, &mut notes);
    }
    match program {
        "InvokeAI" | "Easy Diffusion" => settings.read_in(PromptSyntax::Compel),
        "SwarmUI" => settings.read_in(PromptSyntax::Comfy),
        "Fooocus" | "Draw Things" => settings.read_in(PromptSyntax::A1111),
        _ => {}
    }
    if program == "Draw Things" {
        settings.strength = number(any(&["strength"])).filter(|strength: &f64| *strength < 1.0);
        settings.noise = match text_of(fields, &["seed_mode"]) {
            Some("NVIDIA GPU Compatible") => Some(Noise::Philox),
            Some("Torch CPU Compatible") => Some(Noise::Cpu),
            Some(other) => {
                notes.push(format!("its noise is of another generator ({other})"));
                None
            }
            None => None,
        };
    }
    for entry in any(&["lora", "loras"]).and_then(Value::as_array).into_iter().flatten().take(MAX_LORAS) {
        match entry {
            Value::Object(lora) => {
                if let Some(name) = text_of(lora, &["model", "name", "file"]) {
                    let strength = number(lora.get("weight").or_else(|| lora.get("strength"))).unwrap_or(1.0);
                    settings.loras.push(UsedLora { strength, ..UsedLora::named(name) });
                }
            }
            // Names, with their weights in a list beside them.
            Value::String(name) => {
                let idx = settings.loras.len();
                let strength = any(&["loraweights"]).and_then(|list| number(list.get(idx))).unwrap_or(1.0);
                settings.loras.push(UsedLora { strength, ..UsedLora::named(name) });
            }
            // Fooocus: a name and a weight.
            Value::Array(pair) => {
                if let [Value::String(name), weight, ..] = &pair[..] {
                    let strength = number(Some(weight)).unwrap_or(1.0);
                    settings.loras.push(UsedLora { strength, ..UsedLora::named(name) });
                }
            }
            _ => {}
        }
    }
    Found { settings, notes, ..Found::of(program) }
}
