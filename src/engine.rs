//! The front door: an [`Engine`] is a model opened on a [`Device`]. It plans, draws, cancels and resumes.
//!
//! The command line, the server and the page open one with the same [`EngineSettings`] and differ in how requests come and
//! pictures go. It keeps no queue, writes no pictures and knows no HTTP, terminal or JavaScript.

mod device;
mod generation;
mod settings;

use std::cell::Cell;
use std::rc::Rc;

pub use crate::weights::WeightType;
pub use device::Device;
pub use generation::Generation;
pub use settings::{DeviceName, Dtype, EngineSettings, Expected, TileCache, Tune};

use crate::checkpoint::identity::Prediction;
use crate::error::{Error, Result};
use crate::hub::Source;
use crate::hub::published::WithoutWeights;
use crate::image::RgbImage;
use crate::model::SDVersion;
use crate::parameters::UsedEmbedding;
use crate::pipeline::plan::{Plan, PlanSettings, plan};
use crate::pipeline::{
    Embedding, Inputs, LoadProgress, Lora, ModelComponents, ModelConfigs, ModelLoader, Residency, WithEmbeddings,
    check_mask,
};
use crate::prompt::PromptSyntax;
use crate::request::{Defaults, Request, SDConfig};
use crate::run::Runner;
use crate::run::candle::CandleRunner;
use crate::run::gpu::runner::GpuRunner;
use crate::sampler::Sampler;
use device::Opened;

impl From<&Embedding> for UsedEmbedding {
    fn from(embedding: &Embedding) -> Self {
        UsedEmbedding { name: embedding.name.clone(), sha256: embedding.sha256.clone(), hash: None }
    }
}

/// A model on one of the two runners.
enum Loaded {
    Candle(Rc<CandleRunner>, Rc<ModelComponents<CandleRunner>>),
    Gpu(Rc<GpuRunner>, Rc<ModelComponents<GpuRunner>>),
}

/// The pictures that a request comes with.
#[derive(Clone, Debug, Default)]
pub struct Pictures {
    /// The picture to start from.
    pub start_picture: Option<RgbImage>,
    /// White where it is repainted.
    pub mask: Option<RgbImage>,
}

/// How much work a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Calls of the UNet for one picture.
    pub n_steps: usize,
    /// Floating-point operations of the whole request.
    pub flops: u64,
}

/// See the module.
pub struct Engine {
    loaded: Loaded,
    device: Device,
    /// To plan with the model's own configs.
    source: Rc<dyn Source>,
    is_arriving: bool,
    is_loaded: Cell<bool>,
    version: Option<SDVersion>,
    /// The name that pictures carry.
    public_name: String,
    /// What the UNet predicts, where whoever opened the model said so.
    prediction: Option<Prediction>,
    embeddings: Vec<Embedding>,
}

/// Calls the same function of the model, whichever runner has it.
macro_rules! model {
    ($engine:expr, $model:ident => $call:expr) => {
        match &$engine.loaded {
            Loaded::Candle(_, $model) => $call,
            Loaded::Gpu(_, $model) => $call,
        }
    };
}

async fn components<R: Runner>(
    runner: &R,
    source: &Rc<dyn Source>,
    residency: Residency,
    is_arriving: bool,
) -> Result<Rc<ModelComponents<R>>> {
    let model = if is_arriving {
        ModelComponents::open_lazy(Rc::clone(source), residency).await
    } else {
        ModelLoader::new(&**source, runner).with_residency(residency).open().await
    };
    model.map(Rc::new).map_err(Error::of_model)
}

impl Engine {
    /// Opens a model: its configs are read and, unless they may still be on their way, its weight files are checked. Weights
    /// are loaded by [`Engine::load`], or when a generation needs them.
    ///
    /// # Errors
    /// Whatever is wrong with a file of the model, by its name; [`Error::Request`] when what is expected does not fit the
    /// settings' budget.
    pub async fn open(
        device: &Device,
        source: Rc<dyn Source>,
        settings: &EngineSettings,
        expected: &Expected,
    ) -> Result<Self> {
        let source = WithEmbeddings::over(source, &settings.embeddings);
        device.fit_weights(&*source, settings, expected).await?;
        let residency = device.residency(&*source, settings, expected).await?;
        let is_arriving = settings.is_arriving;
        let loaded = match &device.0 {
            Opened::Candle(runner) => {
                let model = components(&**runner, &source, residency, is_arriving).await?;
                Loaded::Candle(Rc::clone(runner), model)
            }
            Opened::Gpu(runner, _) => {
                let model = components(&**runner, &source, residency, is_arriving).await?;
                Loaded::Gpu(Rc::clone(runner), model)
            }
        };
        let public_name = source.describe();
        let (device, is_loaded, version) = (device.clone(), Cell::new(false), expected.version);
        let embeddings = settings.embeddings.clone();
        Ok(Engine {
            loaded,
            device,
            source,
            is_arriving,
            is_loaded,
            version,
            public_name,
            prediction: None,
            embeddings,
        })
    }

    /// The name that pictures carry, where it is not the source's own description.
    #[must_use]
    pub fn with_public_name(self, public_name: String) -> Self {
        Engine { public_name, ..self }
    }

    /// What pictures say that the UNet was taken to predict, where that is not the model's own word.
    #[must_use]
    pub fn with_prediction(self, prediction: Option<Prediction>) -> Self {
        Engine { prediction, ..self }
    }

    /// Brings the weights that every picture needs to the device; nothing where they are loaded when they are needed, or
    /// were before. `progress` returns whether to go on.
    ///
    /// # Errors
    /// What is wrong with a weight file; a device that is out of memory or lost; [`Error::Cancelled`] when `progress` said so.
    pub async fn load(&self, progress: &mut dyn FnMut(LoadProgress) -> bool) -> Result<()> {
        if self.is_arriving || self.is_loaded.get() {
            return Ok(());
        }
        let loaded = match &self.loaded {
            Loaded::Candle(runner, model) => model.load(&**runner, progress).await,
            Loaded::Gpu(runner, model) => model.load(&**runner, progress).await,
        };
        loaded.map_err(Error::of_model)?;
        self.is_loaded.set(true);
        Ok(())
    }

    /// Whether [`Engine::load`] has nothing left to do.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.is_arriving || self.is_loaded.get()
    }

    /// The device it is open on.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Where the model came from, for people.
    #[must_use]
    pub fn name(&self) -> &str {
        model!(self, model => &model.name)
    }

    /// The model's configs and tokenizers.
    #[must_use]
    pub fn configs(&self) -> &ModelConfigs {
        model!(self, model => &model.configs)
    }

    /// Makes a LoRA known that was fitted to this model, in the place of another one of the same name. It changes pictures
    /// whose requests name it.
    pub fn add_lora(&self, lora: Lora) {
        model!(self, model => model.add_lora(lora));
    }

    /// Forgets all LoRAs. What is drawn with them goes on.
    pub fn forget_loras(&self) {
        model!(self, model => model.forget_loras());
    }

    /// A LoRA that is known.
    #[must_use]
    pub fn lora(&self, name: &str) -> Option<Rc<Lora>> {
        model!(self, model => model.lora(name))
    }

    /// How long weights stay on the device.
    #[must_use]
    pub fn residency(&self) -> Residency {
        model!(self, model => model.residency())
    }

    /// The embeddings whose words the prompts of a request have.
    fn embeddings_of(&self, config: &SDConfig) -> Vec<&Embedding> {
        let Some(encoder) = self.configs().text_encoders.first() else { return Vec::new() };
        let texts = [&*config.prompt, config.negative_prompt.as_deref().unwrap_or_default()];
        let lower = texts.map(str::to_lowercase);
        let found: Vec<&str> =
            texts.iter().flat_map(|text| encoder.tokenizer.words_in(text)).map(|word| word.name.as_str()).collect();
        let is_named = |embedding: &&Embedding| {
            let mut named = embedding.spellings.iter().map(|name| format!("embedding:{}", name.to_lowercase()));
            // ComfyUI knows a word by what stands before it.
            config.prompt_syntax != PromptSyntax::Comfy
                || named.any(|name| lower.iter().any(|text| text.contains(&name)))
        };
        self.embeddings.iter().filter(|embedding| found.contains(&&*embedding.name)).filter(is_named).collect()
    }

    /// What is worth telling about the files that were opened: one line each.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        model!(self, model => model.notes())
    }

    /// What the model draws with where a request is silent.
    #[must_use]
    pub fn defaults(&self) -> Defaults {
        self.configs().defaults(self.version)
    }

    /// The sampler that a request is drawn with.
    ///
    /// # Errors
    /// When the checkpoint's scheduler is none that can be run, and the request names no other.
    pub fn sampler(&self, config: &SDConfig) -> Result<Sampler> {
        self.configs().scheduler.with_optional_sampler(config.sampler).sampler()
    }

    /// What a picture of this model would ask of a GPU; nothing is computed.
    ///
    /// # Errors
    /// As [`plan`].
    pub async fn plan(&self, settings: &PlanSettings) -> Result<Plan> {
        let headers = WithoutWeights(&*self.source);
        let source: &dyn Source = if self.is_arriving { &headers } else { &*self.source };
        plan(source, settings).await.map_err(Error::of_model)
    }

    /// Checks a request and says how much work it is; nothing is computed.
    ///
    /// # Errors
    /// As [`Engine::draw`].
    pub fn work(&self, request: &Request, has_start_picture: bool, has_mask: bool) -> Result<Work> {
        let size = has_start_picture.then_some(self.defaults().size);
        let config = request.resolve(&self.defaults(), size, has_mask, 0)?;
        // How much work a picture is does not depend on its pixels.
        let blank = || RgbImage { width: 1, height: 1, pixels: vec![255; 3] };
        let (start_picture, mask) = (has_start_picture.then(blank), has_mask.then(blank));
        let generation = Generation::new(self, Inputs { config, start_picture, mask })?;
        Ok(Work { n_steps: generation.n_steps(), flops: generation.total_flops() })
    }

    /// Checks a request and makes it ready; nothing is computed yet. `seed` is used where the request has none.
    ///
    /// # Errors
    /// [`Error::Request`] saying what would work.
    pub fn draw(&self, request: &Request, pictures: Pictures, seed: u64) -> Result<Generation> {
        let size = pictures.start_picture.as_ref().map(|picture| (picture.width, picture.height));
        let config = request.resolve(&self.defaults(), size, pictures.mask.is_some(), seed)?;
        self.draw_resolved(config, pictures)
    }

    /// [`Engine::draw`] for a request that was resolved before.
    ///
    /// # Errors
    /// As there.
    pub fn draw_resolved(&self, config: SDConfig, pictures: Pictures) -> Result<Generation> {
        let Pictures { start_picture, mask } = pictures;
        if let (Some(picture), Some(mask)) = (&start_picture, &mask) {
            config.validate_for(self.configs().sides())?;
            check_mask(mask, (picture.width, picture.height), &config)?;
        }
        Generation::new(self, Inputs { config, start_picture, mask })
    }
}
