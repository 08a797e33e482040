//! Answers with pictures, and the settings that a picture carries.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use darkroom::image::picture_text;
use darkroom::parameters::Parameters;
use darkroom::request::{SDConfig, Variation};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::answer;
use super::super::desk::Desk;
use super::super::failure::Failure;
use super::super::follow::Finished;
use super::super::intake::Posted;
use super::super::job::Job;
use super::super::upload::Upload;
use super::request::Delivery;
use super::{Answer, Refusal};

/// What was drawn.
pub struct Drawn {
    /// The first picture's.
    parameters: Parameters,
    /// Each picture's prompt and negative prompt, or those of all.
    prompts: Vec<(String, String)>,
    sampler: String,
    first_seed: u64,
    /// Each picture's.
    variations: Vec<Variation>,
}

impl Drawn {
    pub fn of(job: &Job) -> Self {
        let checked = &job.request;
        let prompts_of =
            |config: &SDConfig| (config.prompt.clone(), config.negative_prompt.clone().unwrap_or_default());
        Drawn {
            parameters: checked.parameters(),
            prompts: checked.configs().iter().map(prompts_of).collect(),
            sampler: checked.sampler.a1111_name(),
            first_seed: checked.config.seed,
            variations: (0..checked.config.count).filter_map(|idx| checked.variation_of(idx)).collect(),
        }
    }
}

/// The answer to a request that drew. `info` is a text that holds JSON, as it is there.
pub fn answer(
    finished: &Finished,
    drawn: &Drawn,
    delivery: &Delivery,
    parameters: Value,
    was_interrupted: bool,
) -> Value {
    let images: Vec<String> = match delivery.sends_images {
        true => finished.images.iter().map(|(_, file)| STANDARD.encode(file)).collect(),
        false => Vec::new(),
    };
    let used = &drawn.parameters;
    let seeds: Vec<u64> = finished.images.iter().map(|(seed, _)| *seed).collect();
    let n_images = seeds.len();
    let prompts_of = |idx: usize| drawn.prompts.get(idx).unwrap_or(&drawn.prompts[0]);
    let (prompts, negatives): (Vec<&str>, Vec<&str>) =
        (0..n_images).map(prompts_of).map(|(prompt, negative)| (prompt.as_str(), negative.as_str())).unzip();
    // Without a variation the web UI gives some number too.
    let subseeds: Vec<u64> = match &drawn.variations[..] {
        [] => seeds.clone(),
        variations => variations.iter().take(n_images).map(|variation| variation.seed).collect(),
    };
    let subseed = subseeds.first().copied().unwrap_or(drawn.first_seed);
    let subseed_strength = drawn.variations.first().map_or(0.0, |variation| variation.strength);
    let infotexts: Vec<String> = finished.images.iter().map(|(_, file)| infotext(file)).collect();
    let mut info = json!({
        "prompt": used.prompt, "all_prompts": prompts,
        "negative_prompt": drawn.prompts[0].1, "all_negative_prompts": negatives,
        "seed": drawn.first_seed, "all_seeds": seeds, "subseed": subseed, "all_subseeds": subseeds,
        "subseed_strength": subseed_strength, "width": used.width, "height": used.height, "sampler_name": drawn.sampler,
        "cfg_scale": used.guidance_scale, "steps": used.steps, "batch_size": delivery.batch_size,
        "restore_faces": false, "face_restoration_model": null, "sd_model_name": used.model, "sd_model_hash": "",
        "sd_vae_name": null, "sd_vae_hash": null, "seed_resize_from_w": -1, "seed_resize_from_h": -1,
        "denoising_strength": used.strength, "extra_generation_params": {}, "index_of_first_image": 0,
        "infotexts": infotexts, "styles": [], "job_timestamp": "0",
        "clip_skip": used.clip_skip.unwrap_or(1), "is_using_inpainting_conditioning": false,
        "version": used.version, "ignored": delivery.ignored,
    });
    if was_interrupted {
        info["interrupted"] = json!(true);
    }
    if let Some(truncated) = &finished.truncated {
        info["truncated"] = json!(truncated);
    }
    if !finished.notes.is_empty() {
        info["notes"] = json!(finished.notes);
    }
    json!({ "images": images, "parameters": parameters, "info": info.to_string() })
}

/// The settings that a picture's file carries, in the web UI's form: also what only drawing found out, such as hashes.
fn infotext(file: &[u8]) -> String {
    let texts = picture_text(file).unwrap_or_default();
    settings_of(&texts).to_owned()
}

fn settings_of(texts: &[(String, String)]) -> &str {
    texts.iter().find(|(key, _)| key == "parameters").map_or("", |(_, value)| value)
}

#[derive(Deserialize)]
pub struct PngInfoRequest {
    image: Option<Upload>,
}

/// A failure about the picture, which other routes call `init_images`.
fn about_image(failure: Failure) -> Refusal {
    Refusal(failure.about("image"))
}

/// The settings that a picture carries.
pub async fn png_info(
    State(desk): State<Arc<Desk>>,
    posted: Result<Posted<PngInfoRequest>, Failure>,
) -> Answer<Response> {
    let missing = || Failure::of("image", "image is missing: send the picture's file in base64");
    let image = posted.map_err(Refusal)?.0.image.ok_or_else(missing).map_err(Refusal)?;
    let file = image.file("image").map_err(Refusal)?;
    let read = move || picture_text(&file).map(|text| object(&text));
    let object = desk.room.work(4 << 20, read).await?.map_err(|error| about_image(error.into()))?;
    Ok(answer::json(&desk, 4 << 20, move || object).await?)
}

fn object(text: &[(String, String)]) -> Value {
    let info = settings_of(text);
    let items: Map<String, Value> =
        text.iter().filter(|(key, _)| key != "parameters").map(|(key, value)| (key.clone(), json!(value))).collect();
    json!({ "info": info, "items": items, "parameters": parsed(info) })
}

/// The settings of an info text by name, as texts, as the web UI's clients read them.
fn parsed(info: &str) -> Map<String, Value> {
    let mut found = Map::new();
    let lines: Vec<&str> = info.trim().lines().collect();
    let Some(at) = lines.iter().rposition(|line| line.starts_with("Steps: ")) else { return found };
    let negative_at = lines[..at].iter().position(|line| line.starts_with("Negative prompt:")).unwrap_or(at);
    let negative = lines[negative_at..at].join("\n");
    found.insert("Prompt".into(), json!(lines[..negative_at].join("\n")));
    found.insert("Negative prompt".into(), json!(negative.trim_start_matches("Negative prompt:").trim_start()));
    let mut rest = lines[at];
    while let Some((key, after)) = rest.split_once(':') {
        let after = after.trim_start();
        // A value with a comma in it is a JSON string.
        let mut quoted = serde_json::Deserializer::from_str(after).into_iter::<String>();
        let (value, next) = match after.starts_with('"').then(|| quoted.next()).flatten() {
            Some(Ok(value)) => (value, after[quoted.byte_offset()..].split_once(',').map_or("", |(_, next)| next)),
            _ => after.split_once(',').map_or((after.trim().to_owned(), ""), |(v, next)| (v.trim().to_owned(), next)),
        };
        match (key.trim(), value.split_once('x')) {
            (key @ ("Size" | "Hires resize"), Some((width, height))) => {
                found.insert(format!("{key}-1"), json!(width));
                found.insert(format!("{key}-2"), json!(height));
            }
            (key, _) => {
                found.insert(key.to_owned(), json!(value));
            }
        }
        rest = next;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_info_text_is_taken_apart() {
        let text = "a cat,\nsitting\nNegative prompt: dog,\nbird\nSteps: 20, Sampler: Euler a, CFG scale: 7.5, Seed: 1, \
            Size: 512x768, Model: \"a, b\", Version: x\nTemplate: y";
        let found = parsed(text);
        for (key, value) in [
            ("Prompt", "a cat,\nsitting"),
            ("Negative prompt", "dog,\nbird"),
            ("Steps", "20"),
            ("Sampler", "Euler a"),
            ("Size-1", "512"),
            ("Size-2", "768"),
            ("Model", "a, b"),
            ("Version", "x"),
        ] {
            assert_eq!(found[key], value, "{key}");
        }
        assert!(parsed("no settings").is_empty() && parsed("").is_empty());
        assert_eq!(parsed("Steps: 1")["Prompt"], "");
    }
}
