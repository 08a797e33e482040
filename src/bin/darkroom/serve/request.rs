//! What a client may ask for, in JSON, and the check that it can be drawn before it waits in the queue.

use axum::http::StatusCode;
use darkroom::Result;
use darkroom::hub::Source;
use darkroom::hub::folder::Folder;
use darkroom::image::FileFormat;
use darkroom::image::Fit;
use darkroom::model::SDVersion;
use darkroom::parameters::Parameters;
use darkroom::pipeline::{ModelConfigs, Task, parameters_of};
use darkroom::request::{Defaults, LongPrompt, Request, SDConfig};
use darkroom::sampler::Sampler;
use serde::Deserialize;

use super::failure::Failure;
use super::jobs::Limits;
use super::upload::{MaskForm, Role, Upload};

/// The longest prompt, in bytes: some two hundred times what a text encoder reads at once.
const MAX_PROMPT_BYTES: usize = 64 << 10;

/// What requests are checked against.
pub struct Menu {
    pub models: Vec<Model>,
    pub limits: Limits,
    /// What finished pictures may take, in bytes.
    pub results_bytes: u64,
}

/// A model that can be asked for, as its own files describe it.
pub struct Model {
    pub name: String,
    pub folder: Folder,
    pub is_inpaint: bool,
    pub defaults: Defaults,
    pub sampler: Sampler,
}

impl Model {
    /// Reads the model's configuration, not its weights. `named` is the version that it was asked for by, if it was.
    ///
    /// # Errors
    /// Where a file of it is at fault, by its name.
    pub async fn read(name: String, named: Option<SDVersion>, folder: Folder) -> Result<Self> {
        let configs = ModelConfigs::read(&folder, &folder.list().await?).await?;
        Ok(Model {
            name,
            folder,
            is_inpaint: configs.is_inpaint(),
            defaults: configs.defaults(named),
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
    #[serde(default)]
    pub any_size: bool,
    pub fit: Option<Fit>,
    pub steps: Option<usize>,
    pub guidance_scale: Option<f64>,
    pub strength: Option<f64>,
    pub sampler: Option<String>,
    /// How much noise ddim and tcd add, 0 to 1.
    pub eta: Option<f64>,
    /// The steps one by one, in place of their number.
    pub timesteps: Option<Vec<usize>>,
    /// Likewise as noise levels, for euler.
    pub sigmas: Option<Vec<f64>>,
    pub seed: Option<u64>,
    pub count: Option<usize>,
    pub clip_skip: Option<usize>,
    pub long_prompt: Option<LongPrompt>,
    /// A picture file; in JSON, in base64.
    pub image: Option<Upload>,
    /// Likewise; white where the picture is to be drawn anew.
    pub mask: Option<Upload>,
    /// How the mask says that. Each door has its own.
    #[serde(skip)]
    pub mask_form: MaskForm,
    /// `png`, the default, `jpeg` or `webp`.
    pub output_format: Option<String>,
    /// The quality of the last two, 0 to 100.
    pub output_compression: Option<i64>,
}

impl JobRequest {
    /// What is asked for, as the library reads it.
    fn request(&self) -> Request {
        Request {
            prompt: self.prompt.clone(),
            negative_prompt: self.negative_prompt.clone(),
            width: self.width,
            height: self.height,
            any_size: self.any_size,
            fit: self.fit,
            steps: self.steps,
            guidance_scale: self.guidance_scale,
            strength: self.strength,
            sampler: self.sampler.clone(),
            eta: self.eta,
            timesteps: self.timesteps.clone(),
            sigmas: self.sigmas.clone(),
            seed: self.seed,
            count: self.count,
            clip_skip: self.clip_skip,
            long_prompt: self.long_prompt,
        }
    }
}

/// A request that was checked. Its pictures stay files until it is drawn.
pub struct Order {
    /// The model's place on the menu.
    pub model_idx: usize,
    pub config: SDConfig,
    pub long_prompt: LongPrompt,
    pub sampler: Sampler,
    pub image: Option<Upload>,
    pub mask: Option<Upload>,
    pub mask_role: Role,
    pub format: FileFormat,
}

impl Order {
    /// What is written into its pictures; the seed is the first one's. `strength` where it starts from a picture, which is
    /// gone by the time.
    pub fn parameters(&self, menu: &Menu, strength: Option<f64>) -> Parameters {
        let model = menu.models[self.model_idx].name.clone();
        let sampler = self.sampler.to_string();
        Parameters { strength, ..parameters_of(&self.config, Task::TextToImage, self.long_prompt, sampler, model) }
    }

    /// What it holds of what the client sent.
    pub fn n_bytes(&self) -> u64 {
        let texts = self.config.prompt.len() + self.config.negative_prompt.as_ref().map_or(0, String::len);
        let pictures = [&self.image, &self.mask].into_iter().flatten().map(Upload::n_bytes).sum::<usize>();
        (texts + pictures) as u64
    }
}

fn refuse<T>(param: &str, message: String) -> Result<T, Failure> {
    Err(Failure::of(param, message))
}

/// The format of a picture's file from its name and quality.
///
/// # Errors
/// 400 with what would work.
fn file_format(name: Option<&str>, quality: Option<i64>) -> Result<FileFormat, Failure> {
    let of = |message: String| Failure::of("output_compression", message);
    let percent = match quality {
        None => 100,
        Some(n) => u8::try_from(n)
            .ok()
            .filter(|n| *n <= 100)
            .ok_or_else(|| of(format!("output_compression {n} is not possible: use 0 (small) to 100 (best)")))?,
    };
    match name {
        None | Some("png") if percent < 100 => {
            let message = "is not possible for png, which has no losses: use jpeg or webp as output_format";
            Err(of(format!("output_compression {percent} {message}")))
        }
        None | Some("png") => Ok(FileFormat::Png),
        Some("jpeg" | "jpg") => Ok(FileFormat::Jpeg { quality: percent }),
        Some("webp") => Ok(FileFormat::WebP { quality: percent }),
        Some(other) => {
            let message = format!("output_format {other:?} is not possible: use png, jpeg or webp");
            Err(Failure::of("output_format", message))
        }
    }
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
            Failure::new(StatusCode::NOT_FOUND, "model_not_found", message).about("model")
        })
    }

    /// Checks a request as far as that needs no pixels. `picture` is the start picture's width and height, once they are
    /// known: it is asked again then.
    pub fn order(&self, request: &JobRequest, picture: Option<(usize, usize)>) -> Result<Order, Failure> {
        let model_idx = self.model_idx(request.model.as_deref())?;
        let model = &self.models[model_idx];
        for (name, text) in [("prompt", Some(&request.prompt)), ("negative_prompt", request.negative_prompt.as_ref())] {
            let n_bytes = text.map_or(0, String::len);
            if n_bytes > MAX_PROMPT_BYTES {
                let message = format!("{name} of {n_bytes} bytes is not possible: use {MAX_PROMPT_BYTES} at most");
                return Err(Failure::of(name, message));
            }
        }
        let has_mask = request.mask.is_some();
        if model.is_inpaint && !has_mask {
            return refuse("mask", format!("{} only repaints parts of a picture: give image and mask", model.name));
        }
        let asked = request.request();
        let defaults = Defaults { max_side: self.limits.side, ..model.defaults };
        // Until its size is known, a start picture is taken to have the model's own.
        let picture = request.image.as_ref().map(|_| picture.unwrap_or(defaults.size));
        let config = asked.resolve(&defaults, picture, has_mask, random_seed())?;
        for (side, got) in [("width", config.width), ("height", config.height)] {
            if got > self.limits.side {
                let most = self.limits.side - self.limits.side % defaults.sides().multiple(config.any_size);
                return refuse(side, format!("{side} {got} is not possible: this server allows {most} at most"));
            }
        }
        if config.count > self.limits.count {
            let most = self.limits.count;
            return refuse(
                "count",
                format!("count {} is not possible: this server allows {most} at most", config.count),
            );
        }
        config.validate_for(defaults.sides())?;
        // What a job draws is kept until it is fetched, all of it at once.
        let n_bytes = config.count as u64 * (config.width * config.height * 3) as u64;
        if n_bytes > self.results_bytes {
            return refuse(
                "count",
                format!(
                    "{} pictures of {}x{} may take {} MiB, and this server keeps {}: ask for fewer or smaller ones",
                    config.count,
                    config.width,
                    config.height,
                    n_bytes >> 20,
                    self.results_bytes >> 20
                ),
            );
        }
        let long_prompt = asked.long_prompt.unwrap_or_default();
        let sampler = config.sampler.unwrap_or(model.sampler);
        let (image, mask) = (request.image.clone(), request.mask.clone());
        let format = file_format(request.output_format.as_deref(), request.output_compression)?;
        let mask_role = Role::Mask(request.mask_form);
        Ok(Order { model_idx, config, long_prompt, sampler, image, mask, mask_role, format })
    }
}
