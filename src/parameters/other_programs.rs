//! What other programs write into their pictures, each in its own JSON: ComfyUI, InvokeAI, NovelAI, SwarmUI, Fooocus, Easy
//! Diffusion, Draw Things. They are named, and of their settings is taken what means the same here.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::found::{Found, Settings};
use crate::prompt::PromptSyntax;

type Object = Map<String, Value>;

/// How many of a graph's nodes are asked for one setting.
const MAX_NODES: usize = 64;

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
    if let Some(invoke) = json("invokeai_metadata") {
        return Some(flat("InvokeAI", &invoke));
    }
    if let Some(invoke) = json("sd-metadata") {
        let image = invoke.get("image").and_then(Value::as_object).cloned().unwrap_or_default();
        return Some(flat("InvokeAI", &image));
    }
    if find("Dream").is_some() || find("invokeai_graph").is_some() {
        return Some(empty("InvokeAI"));
    }
    // A WebP of NovelAI holds its texts as one JSON in the user comment.
    let novel = json("Comment").or_else(|| object(text_of(written.as_ref()?, &["Comment"])?));
    let is_novel = find("Software") == Some("NovelAI")
        || written.as_ref().is_some_and(|written| text_of(written, &["Software"]) == Some("NovelAI"))
        || novel.as_ref().is_some_and(|novel| novel.contains_key("uc") && novel.contains_key("sampler"));
    if is_novel {
        return Some(flat("NovelAI", &novel.unwrap_or_default()));
    }
    if let Some(found) = comfy(text) {
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

fn object(text: &str) -> Option<Object> {
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Some(fields),
        // Python writes NaN, which JSON does not have.
        _ => match serde_json::from_str(&text.replace("NaN", "null")) {
            Ok(Value::Object(fields)) if text.contains("NaN") => Some(fields),
            _ => None,
        },
    }
}

fn empty(program: &str) -> Found {
    Found { program: program.to_owned(), settings: Settings::default(), notes: Vec::new() }
}

fn text_of<'a>(fields: &'a Object, keys: &[&str]) -> Option<&'a str> {
    keys.iter().find_map(|key| fields.get(*key)?.as_str())
}

/// A number, also where it was written as a text.
fn number<T: std::str::FromStr>(value: Option<&Value>) -> Option<T> {
    match value? {
        Value::Number(number) => number.to_string().parse().ok(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// Settings that lie side by side under the names that these programs use.
fn flat(program: &str, fields: &Object) -> Found {
    let any = |keys: &[&str]| keys.iter().find_map(|key| fields.get(*key));
    let some = |text: Option<&str>| text.map(str::to_owned);
    let mut settings = Settings {
        prompt: some(text_of(fields, &["prompt", "positive_prompt", "c"])),
        negative_prompt: some(text_of(fields, &["negative_prompt", "negativeprompt", "negativePrompt", "uc"]))
            .filter(|text| !text.is_empty()),
        steps: number(any(&["steps", "num_inference_steps"])),
        guidance_scale: number(any(&["cfg_scale", "cfgscale", "guidance_scale", "scale", "cfg"])),
        seed: number(any(&["seed"])),
        width: number(any(&["width"])),
        height: number(any(&["height"])),
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
        settings.set_sampler(&with_schedule(sampler, text_of(fields, &["scheduler", "noise_schedule"])));
    } else if let Some(scheduler) = text_of(fields, &["scheduler"]) {
        // InvokeAI's schedulers are samplers, with `_k` for the spacing of Karras.
        settings
            .set_sampler(&scheduler.strip_suffix("_k").map_or(scheduler.to_owned(), |name| format!("{name}_karras")));
    }
    match program {
        "InvokeAI" | "Easy Diffusion" => settings.read_in(PromptSyntax::Compel),
        "SwarmUI" => settings.read_in(PromptSyntax::Comfy),
        "Fooocus" | "Draw Things" => settings.read_in(PromptSyntax::A1111),
        _ => {}
    }
    if text_of(fields, &["generation_mode"]).is_some_and(|mode| mode.contains("img2img")) {
        settings.strength = number(any(&["strength"]));
    }
    Found { program: program.to_owned(), settings, notes: Vec::new() }
}

/// ComfyUI's names of a sampler and its schedule in one.
fn with_schedule(sampler: &str, schedule: Option<&str>) -> String {
    match schedule {
        Some(schedule @ ("karras" | "exponential" | "beta")) => format!("{sampler}_{schedule}"),
        _ => sampler.to_owned(),
    }
}

/// The graph that ComfyUI ran, under `prompt`, or only the one that it shows, under `workflow`; in WebP behind that word
/// and a colon.
fn comfy(text: &[(String, String)]) -> Option<Found> {
    let graph = |name: &str| {
        text.iter().find_map(|(key, value)| {
            let is_named = key == name;
            let value =
                value.strip_prefix(name).and_then(|rest| rest.strip_prefix(':')).or(is_named.then_some(value))?;
            object(value)
        })
    };
    let is_graph = |nodes: &Object| nodes.values().any(|node| node.get("class_type").is_some());
    let Some(nodes) = graph("prompt").filter(is_graph) else {
        let shown = graph("workflow").filter(|workflow| workflow.contains_key("nodes"))?;
        let mut found = empty("ComfyUI");
        found.notes.push(format!("it holds a workflow of {} nodes, not the settings it ran with", shown.len()));
        return Some(found);
    };
    let mut found = empty("ComfyUI");
    let inputs_of = |node: &Value| node.get("inputs").and_then(Value::as_object).cloned().unwrap_or_default();
    let is_sampler = |node: &&Value| {
        let class = node.get("class_type").and_then(Value::as_str).unwrap_or_default();
        class.contains("KSampler") && inputs_of(node).contains_key("steps")
    };
    let samplers: Vec<&Value> = nodes.values().filter(is_sampler).collect();
    let Some(sampler) = samplers.first() else {
        found.notes.push("its workflow has no sampler of the usual kind".to_owned());
        return Some(found);
    };
    if samplers.len() > 1 {
        found.notes.push(format!("its workflow has {} samplers: the settings are those of the first", samplers.len()));
    }
    let inputs = inputs_of(sampler);
    let settings = &mut found.settings;
    settings.steps = number(inputs.get("steps"));
    settings.guidance_scale = number(inputs.get("cfg"));
    settings.seed = number(inputs.get("seed").or(inputs.get("noise_seed")));
    if let Some(name) = text_of(&inputs, &["sampler_name"]) {
        settings.set_sampler(&with_schedule(name, text_of(&inputs, &["scheduler"])));
    }
    let follow = |from: &str, wanted: &[&str]| upstream(&nodes, inputs.get(from)?, wanted, &mut BTreeSet::new());
    settings.prompt = follow("positive", &["text", "text_g"]).and_then(|text| text.as_str().map(str::to_owned));
    settings.negative_prompt = follow("negative", &["text", "text_g"])
        .and_then(|text| text.as_str().map(str::to_owned))
        .filter(|text| !text.is_empty());
    settings.width = number(follow("latent_image", &["width"]).as_ref());
    settings.height = number(follow("latent_image", &["height"]).as_ref());
    settings.model = follow("model", &["ckpt_name", "unet_name"]).and_then(|name| name.as_str().map(str::to_owned));
    settings.read_in(PromptSyntax::Comfy);
    let starts_from_picture = follow("latent_image", &["pixels", "image"]).is_some();
    settings.strength = if starts_from_picture { number(inputs.get("denoise")) } else { None };
    Some(found)
}

/// The first of the wanted inputs of the node that a link leads to, or of those before it. Each node is asked once.
fn upstream(nodes: &Object, link: &Value, wanted: &[&str], seen: &mut BTreeSet<String>) -> Option<Value> {
    let id = link.as_array()?.first()?;
    let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
    let inputs = nodes.get(&id)?.get("inputs")?.as_object()?;
    if seen.len() >= MAX_NODES || !seen.insert(id) {
        return None;
    }
    if let Some(value) = wanted.iter().find_map(|name| inputs.get(*name)) {
        // A text that comes from another node; a link that leads nowhere still tells that there is something.
        let texts = ["text", "string", "value"];
        return if value.is_array() {
            upstream(nodes, value, &texts, seen).or(Some(value.clone()))
        } else {
            Some(value.clone())
        };
    }
    // A text is not looked for behind the model, and so on: only what carries the same thing is followed.
    let carriers = ["conditioning", "conditioning_1", "positive", "samples", "latent", "latent_image", "model"];
    carriers.iter().find_map(|name| upstream(nodes, inputs.get(*name)?, wanted, seen))
}
