//! One request being drawn, on whichever runner the engine has.

use std::rc::Rc;

use super::{Engine, Loaded};
use crate::error::{Error, Result};
use crate::image::RgbImage;
use crate::parameters::{Parameters, UsedEmbedding};
use crate::pipeline::{self, Checkpoint, Event, Inputs, Stage, Task};
use crate::request::SDConfig;
use crate::run::candle::CandleRunner;
use crate::run::gpu::runner::GpuRunner;

/// A [`pipeline::Generation`] with what a front end needs beside it: the resolved request, the parameters that its pictures
/// carry, and the last checkpoint.
///
/// The loop is the caller's: it calls [`Generation::step`] until that gives `None`, and shows progress, previews and pictures
/// in between. Dropping it cancels it.
pub struct Generation {
    run: Run,
    inputs: Rc<Inputs>,
    parameters: Parameters,
    checkpoint: Option<Checkpoint>,
    /// Whether the next step resumes from the checkpoint.
    resumes: bool,
}

/// On one of the two runners.
enum Run {
    Candle(Box<pipeline::Generation<CandleRunner>>),
    Gpu(Box<pipeline::Generation<GpuRunner>>),
}

/// Calls the same function of the pipeline's generation, whichever runner has it.
macro_rules! either {
    ($run:expr, $inner:ident => $call:expr) => {
        match $run {
            Run::Candle($inner) => $call,
            Run::Gpu($inner) => $call,
        }
    };
}

impl Run {
    fn new(loaded: &Loaded, inputs: &Rc<Inputs>) -> Result<Self> {
        let inputs = Rc::clone(inputs);
        Ok(match loaded {
            Loaded::Candle(runner, model) => Run::Candle(Box::new(pipeline::Generation::new(runner, model, inputs)?)),
            Loaded::Gpu(runner, model) => Run::Gpu(Box::new(pipeline::Generation::new(runner, model, inputs)?)),
        })
    }
}

impl Generation {
    pub(super) fn new(engine: &Engine, inputs: Inputs) -> Result<Self> {
        let inputs = Rc::new(inputs);
        let run = Run::new(&engine.loaded, &inputs)?;
        let sampler = engine.sampler(&inputs.config)?;
        let model = engine.public_name.clone();
        let mut parameters =
            Parameters::of(&inputs.config, inputs.start_picture.is_some(), inputs.mask.is_some(), sampler, model);
        parameters.embeddings = engine.embeddings_of(&inputs.config).into_iter().map(UsedEmbedding::from).collect();
        parameters.prediction = engine.prediction.map(|prediction| prediction.name().to_owned());
        parameters.weights = engine.device.quantised_weights();
        for lora in &mut parameters.loras {
            lora.sha256 = engine.lora(&lora.name).and_then(|known| known.sha256.clone());
        }
        Ok(Generation { run, inputs, parameters, checkpoint: None, resumes: false })
    }

    /// What is drawn: the request with the model's own settings where it was silent.
    #[must_use]
    pub fn config(&self) -> &SDConfig {
        &self.inputs.config
    }

    /// What is drawn from what.
    #[must_use]
    pub fn task(&self) -> Task {
        either!(&self.run, generation => generation.task())
    }

    /// What the next [`Generation::step`] does.
    #[must_use]
    pub fn stage(&self) -> Stage {
        either!(&self.run, generation => generation.stage())
    }

    /// Calls of the UNet for one picture.
    #[must_use]
    pub fn n_steps(&self) -> usize {
        either!(&self.run, generation => generation.n_steps())
    }

    /// The work of the whole request, in floating-point operations.
    #[must_use]
    pub fn total_flops(&self) -> u64 {
        either!(&self.run, generation => generation.total_flops())
    }

    /// The part of the whole request that is done, 0 to 1.
    #[must_use]
    pub fn fraction(&self) -> f64 {
        either!(&self.run, generation => generation.fraction())
    }

    /// What a picture carries in its file, by its index.
    #[must_use]
    pub fn parameters(&self, picture_idx: usize) -> Parameters {
        self.parameters.of_picture(picture_idx)
    }

    /// Does one stage, or one denoising step. `progress` is told the part of the whole request that is done, 0 to 1, and
    /// returns whether to go on. `None` when everything is done.
    ///
    /// # Errors
    /// As [`pipeline::Generation::step`]; a weight file that cannot be read is a fault of the model.
    pub async fn step(&mut self, progress: &mut dyn FnMut(f64) -> bool) -> Result<Option<Event>> {
        let event = match &self.checkpoint {
            Some(checkpoint) if self.resumes => {
                let resumed = either!(&mut self.run, generation => generation.resume(checkpoint, progress).await);
                self.resumes = resumed.is_err();
                resumed.map(Some)
            }
            Some(_) | None => either!(&mut self.run, generation => generation.step(progress).await),
        };
        event.map_err(Error::of_model)
    }

    /// A small picture of what is being drawn; `None` between pictures.
    ///
    /// # Errors
    /// When the device is lost.
    pub async fn preview(&self) -> Result<Option<RgbImage>> {
        either!(&self.run, generation => generation.preview().await)
    }

    /// Remembers where the generation is, to go on from there after [`Generation::move_to`].
    ///
    /// # Errors
    /// When the device is lost.
    pub async fn keep(&mut self) -> Result<()> {
        self.checkpoint = Some(either!(&self.run, generation => generation.checkpoint().await)?);
        Ok(())
    }

    /// Goes on with another engine from where it was last kept, or from the start.
    ///
    /// # Errors
    /// When the model of that one cannot draw the request.
    pub fn move_to(&mut self, engine: &Engine) -> Result<()> {
        self.run = Run::new(&engine.loaded, &self.inputs)?;
        self.resumes = self.checkpoint.is_some();
        Ok(())
    }
}
