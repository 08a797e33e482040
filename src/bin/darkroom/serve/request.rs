//! What a client may ask for, in JSON, and the check that it can be drawn before it waits in the queue.

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use darkroom::Result;
use darkroom::hub::Source;
use darkroom::hub::folder::Folder;
use darkroom::image::{RgbImage, decode, decode_mask};
use darkroom::model::SDVersion;
use darkroom::pipeline::{Inputs, LongPrompt, ModelConfigs};
use darkroom::request::SDConfig;
use darkroom::sampler::Sampler;
use serde::Deserialize;

use super::failure::Failure;
use super::jobs::Limits;

/// What requests are checked against.
pub struct Menu {
    pub models: Vec<Model>,
    pub limits: Limits,
}

/// A model that can be asked for, as its own files describe it.
pub struct Model {
    pub name: String,
    pub folder: Folder,
    pub version: SDVersion,
    pub is_inpaint: bool,
    pub size: (usize, usize),
    pub size_multiple: usize,
    pub sampler: Sampler,
}

impl Model {
    /// Reads the model's configuration, not its weights.
    ///
    /// # Errors
    /// Where a file of it is at fault, by its name.
    pub async fn read(name: String, folder: Folder) -> Result<Self> {
        let configs = ModelConfigs::read(&folder, &folder.list().await?).await?;
        Ok(Model {
            name,
            folder,
            version: configs.version(),
            is_inpaint: configs.is_inpaint(),
            size: configs.default_size(),
            size_multiple: configs.size_multiple(),
            sampler: configs.scheduler.sampler()?,
        })
    }
}

/// The body of `POST /v1/jobs`. Absent settings are the model's own.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobRequest {
    pub prompt: String,
    pub model: Option<String>,
    pub negative_prompt: Option<String>,
    pub width: Option<usize>,
    pub height: Option<usize>,
    pub steps: Option<usize>,
    pub guidance_scale: Option<f64>,
    pub strength: Option<f64>,
    pub sampler: Option<String>,
    pub seed: Option<u64>,
    pub count: Option<usize>,
    pub clip_skip: Option<usize>,
    pub long_prompt: Option<LongPrompts>,
    /// A PNG, JPEG or WebP file in base64.
    pub image: Option<String>,
    /// Likewise; white where the picture is to be drawn anew.
    pub mask: Option<String>,
}

/// What to do with prompts that are longer than the text encoder reads at once.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LongPrompts {
    Truncate,
    Chunks,
}

/// A request that was checked.
pub struct Order {
    /// The model's place on the menu.
    pub model_idx: usize,
    pub inputs: Inputs,
    pub sampler: Sampler,
}

fn refuse<T>(message: String) -> Result<T, Failure> {
    Err(Failure::request(message))
}

fn picture(base64: Option<String>, what: &str) -> Result<Option<RgbImage>, Failure> {
    let decode = |bytes: &[u8]| if what == "mask" { decode_mask(bytes).map(|(mask, _)| mask) } else { decode(bytes) };
    let Some(text) = base64 else { return Ok(None) };
    // A data URL says what it is before the comma.
    let text = text.rsplit_once(";base64,").map_or(text.as_str(), |(_, data)| data);
    let bytes = STANDARD.decode(text.trim()).or_else(|e| refuse(format!("{what} is not base64: {e}")))?;
    let picture = decode(&bytes).map_err(|error| error.about(what))?;
    Ok(Some(picture))
}

/// A seed that differs from request to request: the standard library's hasher keys come from the system's random source.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) & u64::from(u32::MAX)
}

impl Menu {
    /// The model of that name, or the first one.
    pub fn model_idx(&self, name: Option<&str>) -> Result<usize, Failure> {
        let Some(name) = name else { return Ok(0) };
        self.models.iter().position(|model| model.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.models.iter().map(|model| model.name.as_str()).collect();
            let message = format!("there is no model {name:?} here: use {}", names.join(" or "));
            Failure::new(StatusCode::NOT_FOUND, "model_not_found", message)
        })
    }

    /// Checks a request.
    pub fn order(&self, request: JobRequest) -> Result<Order, Failure> {
        let model_idx = self.model_idx(request.model.as_deref())?;
        let model = &self.models[model_idx];
        let init = picture(request.image, "image")?;
        let mask = picture(request.mask, "mask")?;
        match (&init, &mask) {
            (None, Some(_)) => {
                return refuse("mask without image is not possible: give the picture to repaint too".into());
            }
            (None, None) if request.strength.is_some() => {
                return refuse("strength without image is not possible: give the picture to start from too".into());
            }
            (_, None) if model.is_inpaint => {
                return refuse(format!("{} only repaints parts of a picture: give image and mask", model.name));
            }
            _ => {}
        }
        let mut config = SDConfig::new(model.version)
            .with_prompt(request.prompt)
            .with_size(request.width.unwrap_or(model.size.0), request.height.unwrap_or(model.size.1))
            .with_strength(request.strength.unwrap_or(if mask.is_some() { 1.0 } else { 0.8 }))
            .with_seed(request.seed.unwrap_or_else(random_seed))
            .with_count(request.count.unwrap_or(1))
            .with_clip_skip(request.clip_skip);
        config = config.with_optional_negative_prompt(request.negative_prompt);
        config.steps = request.steps.unwrap_or(config.steps);
        config.guidance_scale = request.guidance_scale.unwrap_or(config.guidance_scale);
        config.sampler = request.sampler.as_deref().map(str::parse).transpose()?;
        for (side, got) in [("width", config.width), ("height", config.height)] {
            if got > self.limits.side {
                let most = self.limits.side - self.limits.side % model.size_multiple;
                return refuse(format!("{side} {got} is not possible: this server allows {most} at most"));
            }
        }
        if config.count > self.limits.count {
            let most = self.limits.count;
            return refuse(format!("count {} is not possible: this server allows {most} at most", config.count));
        }
        config.validate_for(model.size_multiple)?;
        let long_prompt = match request.long_prompt {
            Some(LongPrompts::Chunks) => LongPrompt::Chunks,
            Some(LongPrompts::Truncate) | None => LongPrompt::Truncate,
        };
        let sampler = config.sampler.unwrap_or(model.sampler);
        Ok(Order { model_idx, inputs: Inputs { config, init, mask, long_prompt }, sampler })
    }
}
