//! Drawing, as JavaScript sees it: a [`Studio`] holds a loaded model, a [`Drawing`] is one request on its way.
//!
//! The loop is JavaScript's: it calls [`Drawing::step`], posts what came back, looks for a cancel, and calls again.

use std::rc::Rc;

use js_sys::{Array, Function, Map, Uint8Array};
use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::*;

use crate::error::Error;
use crate::hub::memory::MemoryFiles;
use crate::image::{RgbImage, encode_png};
use crate::parameters::Parameters;
use crate::pipeline::{Event, Generation, Inputs, LongPrompt, ModelComponents, ModelConfigs, ModelLoader};
use crate::request::SDConfig;
use crate::run::Runner;
use crate::run::candle::{CandleRunner, Precision};
use crate::run::gpu::Gpu;
use crate::run::gpu::kernels::Element;
use crate::run::gpu::runner::GpuRunner;
use crate::sampler::SamplerKind;

/// What the page asks for. Absent settings are the model's own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    prompt: String,
    #[serde(default)]
    negative_prompt: Option<String>,
    #[serde(default)]
    width: Option<usize>,
    #[serde(default)]
    height: Option<usize>,
    #[serde(default)]
    steps: Option<usize>,
    #[serde(default)]
    guidance_scale: Option<f64>,
    #[serde(default)]
    sampler: Option<String>,
    /// Seeds are below 2^53, the whole numbers that JavaScript has.
    seed: u64,
}

/// What a model is, for the page's controls.
#[derive(Serialize)]
struct ModelInfo {
    name: String,
    runner: String,
    width: usize,
    height: usize,
    size_multiple: usize,
    steps: usize,
    guidance_scale: f64,
    sampler: &'static str,
    samplers: Vec<&'static str>,
}

/// What a step did, in the words of `protocol.js`.
#[derive(Serialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
enum StepReport {
    Encoded { n_tokens: usize, truncated: Option<String> },
    Prepared,
    Denoised { step: usize, n_steps: usize },
    Done,
}

/// A model on one of the two runners.
enum Engine {
    /// On the processor.
    Cpu(Rc<CandleRunner>, Rc<ModelComponents<CandleRunner>>),
    /// On the GPU, through WebGPU.
    Gpu(Rc<GpuRunner>, Rc<ModelComponents<GpuRunner>>),
}

/// A request on one of the two runners.
enum AnyGeneration {
    /// On the processor.
    Cpu(Box<Generation<CandleRunner>>),
    /// On the GPU.
    Gpu(Box<Generation<GpuRunner>>),
}

/// A loaded model, ready to draw.
#[wasm_bindgen]
pub struct Studio {
    engine: Engine,
}

impl Studio {
    fn configs(&self) -> &ModelConfigs {
        match &self.engine {
            Engine::Cpu(_, model) => &model.configs,
            Engine::Gpu(_, model) => &model.configs,
        }
    }

    fn name(&self) -> &str {
        match &self.engine {
            Engine::Cpu(_, model) => &model.name,
            Engine::Gpu(_, model) => &model.name,
        }
    }
}

#[wasm_bindgen]
impl Studio {
    /// Loads a model from its files, a `Map` from path in the repository to `Uint8Array`, to `runner`: `cpu` or `gpu`.
    ///
    /// # Errors
    /// A JavaScript `Error` that names the file at fault, or says that there is no GPU.
    pub async fn load(name: String, files: Map, runner: String) -> Result<Studio, JsError> {
        let mut source = MemoryFiles::new(name);
        for entry in files.entries() {
            let entry: Array = entry.map_err(not_files)?.dyn_into().map_err(not_files)?;
            let path = entry.get(0).as_string().ok_or_else(|| JsError::new("a file's path is not a string"))?;
            let bytes: Uint8Array = entry.get(1).dyn_into().map_err(not_files)?;
            source = source.with(path, bytes.to_vec());
        }
        let engine = match runner.as_str() {
            "cpu" => {
                let runner = Rc::new(CandleRunner::cpu(Precision::F32));
                let model = ModelLoader::new(&source, &*runner).load(&mut |_| {}).await?;
                Engine::Cpu(runner, Rc::new(model))
            }
            "gpu" => {
                let mut gpu = Gpu::open().await?;
                if gpu.caps.name.is_empty() {
                    gpu.caps.name = super::name_from_browser(&gpu);
                }
                let runner = Rc::new(GpuRunner::new(gpu, Element::F32)?);
                let model = ModelLoader::new(&source, &*runner).load(&mut |_| {}).await?;
                Engine::Gpu(runner, Rc::new(model))
            }
            other => return Err(JsError::new(&format!("runner {other} is not possible: use cpu or gpu"))),
        };
        Ok(Studio { engine })
    }

    /// What the model is and what its settings are when nobody says otherwise.
    ///
    /// # Errors
    /// When the checkpoint's scheduler is none that can be run.
    pub fn info(&self) -> Result<JsValue, JsError> {
        let configs = self.configs();
        let version = configs.version();
        let (width, height) = configs.default_size();
        let info = ModelInfo {
            name: self.name().to_string(),
            runner: match &self.engine {
                Engine::Cpu(runner, _) => runner.describe(),
                Engine::Gpu(runner, _) => runner.describe(),
            },
            width,
            height,
            size_multiple: configs.size_multiple(),
            steps: version.default_steps(),
            guidance_scale: version.default_guidance_scale(),
            sampler: configs.scheduler.kind()?.name(),
            samplers: SamplerKind::ALL.map(SamplerKind::name).to_vec(),
        };
        Ok(serde_wasm_bindgen::to_value(&info)?)
    }

    /// How many tokens a prompt has, and how many the model reads.
    ///
    /// # Errors
    /// When the tokenizer cannot encode the text.
    pub fn count_tokens(&self, prompt: &str) -> Result<Array, JsError> {
        let tokenizer = &self.configs().text_encoders[0].tokenizer;
        Ok(Array::of2(&tokenizer.count(prompt)?.into(), &tokenizer.tokens_per_chunk().into()))
    }

    /// Checks a request and makes it ready; nothing is computed yet.
    ///
    /// # Errors
    /// A JavaScript `Error` that says what would work.
    pub fn draw(&self, request: JsValue) -> Result<Drawing, JsError> {
        let request: Request = serde_wasm_bindgen::from_value(request)?;
        let configs = self.configs();
        let (width, height) = configs.default_size();
        let mut config = SDConfig::new(configs.version())
            .with_prompt(request.prompt)
            .with_size(request.width.unwrap_or(width), request.height.unwrap_or(height))
            .with_seed(request.seed);
        // A page's empty field means that nothing was asked for.
        config.negative_prompt = request.negative_prompt.filter(|text| !text.is_empty());
        config.steps = request.steps.unwrap_or(config.steps);
        config.guidance_scale = request.guidance_scale.unwrap_or(config.guidance_scale);
        config.sampler = request.sampler.as_deref().map(str::parse).transpose()?;
        let sampler = config.sampler.map_or_else(|| configs.scheduler.kind(), Ok)?;
        let parameters = Parameters {
            prompt: config.prompt.clone(),
            negative_prompt: config.negative_prompt.clone(),
            steps: config.steps as u32,
            sampler: sampler.name().to_string(),
            guidance_scale: config.guidance_scale,
            seed: config.seed,
            width: config.width as u32,
            height: config.height as u32,
            model: self.name().to_string(),
            strength: None,
            clip_skip: None,
            long_prompt_chunks: false,
            version: format!("darkroom {}", env!("CARGO_PKG_VERSION")),
        };
        let inputs = Inputs { config, init: None, mask: None, long_prompt: LongPrompt::Truncate };
        let generation = match &self.engine {
            Engine::Cpu(runner, model) => AnyGeneration::Cpu(Box::new(Generation::new(runner, model, inputs)?)),
            Engine::Gpu(runner, model) => AnyGeneration::Gpu(Box::new(Generation::new(runner, model, inputs)?)),
        };
        Ok(Drawing { generation, parameters, picture: None })
    }
}

fn not_files(value: JsValue) -> JsError {
    JsError::new(&format!("the files are not a Map from path to Uint8Array: {value:?}"))
}

/// One picture on its way.
#[wasm_bindgen]
pub struct Drawing {
    generation: AnyGeneration,
    parameters: Parameters,
    picture: Option<RgbImage>,
}

#[wasm_bindgen]
impl Drawing {
    /// Does one stage or one denoising step. `on_progress` is called with the part of the whole that is done, 0 to 1.
    /// Gives an object with `stage`: `encoded`, `prepared`, `denoised` or `done`.
    ///
    /// # Errors
    /// A JavaScript `Error` that names the stage at fault.
    pub async fn step(&mut self, on_progress: &Function) -> Result<JsValue, JsError> {
        let mut failed = None;
        let mut progress = |fraction: f64| match on_progress.call1(&JsValue::NULL, &fraction.into()) {
            Ok(_) => true,
            Err(error) => {
                failed = Some(error);
                false
            }
        };
        let event = match &mut self.generation {
            AnyGeneration::Cpu(generation) => generation.step(&mut progress).await,
            AnyGeneration::Gpu(generation) => generation.step(&mut progress).await,
        };
        if let Some(error) = failed {
            return Err(JsError::new(&format!("the progress callback failed: {error:?}")));
        }
        let report = match event? {
            Some(Event::Encoded { prompt, .. }) => {
                StepReport::Encoded { n_tokens: prompt.n_tokens, truncated: prompt.truncated }
            }
            Some(Event::Prepared { .. }) => StepReport::Prepared,
            Some(Event::Denoised { step, n_steps, .. }) => StepReport::Denoised { step, n_steps },
            Some(Event::Decoded { image, .. }) => {
                self.picture = Some(image);
                StepReport::Done
            }
            None => StepReport::Done,
        };
        Ok(serde_wasm_bindgen::to_value(&report)?)
    }

    /// The finished picture as a PNG file that carries its parameters.
    ///
    /// # Errors
    /// When there is no picture yet.
    pub fn png(&self) -> Result<Uint8Array, JsError> {
        let picture = self.picture.as_ref().ok_or_else(|| Error::Image {
            what: "the picture".into(),
            reason: "is not finished yet: call step until it says done".into(),
        })?;
        Ok(Uint8Array::from(encode_png(picture, &self.parameters.to_png_text()?)?.as_slice()))
    }
}
