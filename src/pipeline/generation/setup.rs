//! Stage 1, and what stays the same while a request is drawn: runner, model, schedule, sizes and the work of each stage.

use std::rc::Rc;

use super::{At, Picture, Ready, refuse};
use crate::error::Result;
use crate::model::config::LatentStatistics;
use crate::model::unet::{UNetShape, step_graph};
use crate::pipeline::components::{ModelComponents, Part};
use crate::pipeline::configs::ModelConfigs;
use crate::pipeline::foresight::foresee;
use crate::pipeline::job::{Inputs, Task};
use crate::pipeline::loras::ActiveLoras;
use crate::pipeline::prompt::{Mix, Prompts};
use crate::request::{Attention, SDConfig};
use crate::rng::NoiseGenerator;
use crate::rng::variation::mix;
use crate::run::Runner;
use crate::sampler::{Schedule, schedule_of_consistency_image, schedule_with};

/// Floating-point operations of the stages.
pub(super) struct StageWork {
    /// Of prompts and pictures, for the whole request.
    pub encode: u64,
    /// Of one call of the UNet.
    pub step: u64,
    /// Of one picture.
    pub decode: u64,
}

/// See the module.
pub(super) struct Setup<R: Runner> {
    pub runner: Rc<R>,
    pub model: Rc<ModelComponents<R>>,
    pub inputs: Rc<Inputs>,
    pub task: Task,
    pub loras: ActiveLoras,
    pub prompts: Prompts,
    pub schedule: Schedule,
    /// Height and width of the latents.
    pub latent: [usize; 2],
    pub work: StageWork,
}

/// At least one layer of each text encoder is left. XL reads one layer early by itself.
fn check_clip_skip(config: &SDConfig, configs: &ModelConfigs) -> Result<()> {
    let n_early = usize::from(configs.unet.text_time.is_some());
    let most = configs.text_encoders.iter().map(|encoder| encoder.config.num_hidden_layers).min().unwrap_or(0);
    let most = most.saturating_sub(1 + n_early);
    let skipped = config.skipped_layers(configs.version()).0;
    match config.clip_skip {
        // As it was counted, the most has what was not skipped more.
        Some(skip) if skipped > most && skip > skipped => {
            refuse("clip skip", skip.to_string(), format!("this model allows 1 to {}", most + skip - skipped))
        }
        Some(skip) if skipped > most => refuse("clip skip", skip.to_string(), format!("this model allows 1 to {most}")),
        _ => Ok(()),
    }
}

/// What a request draws from what.
fn task_of<R: Runner>(model: &ModelComponents<R>, inputs: &Inputs) -> Result<Task> {
    let task = match (&inputs.start_picture, &inputs.mask) {
        (None, None) => Task::TextToImage,
        (Some(_), None) => Task::ImageToImage,
        (Some(_), Some(_)) => Task::Inpaint,
        (None, Some(_)) => {
            return refuse("mask", "without a picture", "give the picture to repaint too (--init, image)");
        }
    };
    if task != Task::Inpaint {
        inputs.config.check_without_mask()?;
    }
    if model.configs.is_inpaint() && task != Task::Inpaint {
        let expected = "this model only repaints parts of a picture: give a picture and a mask (--init, --mask)";
        return refuse("model", model.name.clone(), expected);
    }
    Ok(task)
}

/// The work of encoding, by two operations for each parameter and token: exact enough for a bar.
fn encode_flops(configs: &ModelConfigs, config: &SDConfig, task: Task, decode_flops: u64) -> u64 {
    let n_prompts = if configs.is_guided(config.guidance_scale) { 2 } else { 1 };
    let text: u64 = configs
        .text_encoders
        .iter()
        .map(|encoder| {
            let config = &encoder.config;
            // 32 bits, which is what a usize has in a browser, are too few for the products.
            let of = |n: usize| n as u64;
            let a_layer = 4 * of(config.hidden_size).pow(2) + 2 * of(config.hidden_size) * of(config.intermediate_size);
            2 * of(config.max_position_embeddings) * of(config.num_hidden_layers) * a_layer
        })
        .sum();
    let n_encodes = match task {
        Task::TextToImage => 0,
        Task::ImageToImage => 1,
        Task::Inpaint => 2,
    };
    text * n_prompts + n_encodes * decode_flops / 2
}

impl<R: Runner> Setup<R> {
    /// Ends a stage that runs `parts` and gave NaN or infinity also in f32.
    pub async fn not_finite<T>(&self, stage: impl Into<String>, parts: &[Part]) -> Result<T> {
        Err(self.model.why_not_finite(stage.into(), parts).await?)
    }

    /// The parts that a step's result comes from.
    pub fn parts_of_step(&self) -> Vec<Part> {
        self.model.parts().into_iter().filter(|part| *part != Part::VaeDecoder).collect()
    }

    pub fn new(runner: &Rc<R>, model: &Rc<ModelComponents<R>>, inputs: Rc<Inputs>) -> Result<Self> {
        let configs = &model.configs;
        let config = &inputs.config;
        config.validate_for(configs.sides())?;
        check_clip_skip(config, configs)?;
        let task = task_of(model, &inputs)?;
        let strength = match task {
            Task::TextToImage => None,
            Task::ImageToImage | Task::Inpaint => Some(config.strength),
        };
        let scheduler = configs.scheduler_of(task).with_optional_sampler(config.sampler);
        let scheduler = scheduler.with_optional_spacing(config.spacing)?;
        let options = config.run_options(strength);
        let schedule = match task {
            Task::ImageToImage if configs.index.is_latent_consistency() => {
                schedule_of_consistency_image(&scheduler, &options)?
            }
            Task::TextToImage | Task::ImageToImage | Task::Inpaint => schedule_with(&scheduler, &options)?,
        };
        let loras = model.activate(&config.loras)?;
        let prompts = Prompts::new(configs, config)?;
        foresee(&**runner, configs, config, task != Task::TextToImage);
        let factor = configs.vae.factor();
        let latent = [config.height / factor, config.width / factor];
        let decode = configs.decoder_graph(latent[0], latent[1])?.flops();
        let encode = encode_flops(configs, config, task, decode);
        let (runner, model) = (Rc::clone(runner), Rc::clone(model));
        let work = StageWork { encode, step: 0, decode };
        let mut setup = Setup { runner, model, inputs, task, loras, prompts, schedule, latent, work };
        let shape = setup.unet_shape(setup.prompts.n_chunks());
        let n_runs = setup.mixes().map(|mix| mix.texts.len().div_ceil(shape.batch)).max().unwrap_or(1);
        setup.work.step = step_graph(&setup.model.configs.unet, shape)?.flops() * n_runs as u64;
        setup.use_attention()?;
        Ok(setup)
    }

    /// Tells the runner how attention's scores are held.
    pub fn use_attention(&self) -> Result<()> {
        let (flash, sliced) = match self.inputs.config.attention {
            Attention::Flash => (true, None),
            Attention::Sliced => (false, Some(1)),
            Attention::Full => (false, None),
        };
        self.runner.use_attention(flash, sliced)
    }

    pub fn is_guided(&self) -> bool {
        self.model.configs.is_guided(self.inputs.config.guidance_scale)
    }

    /// What a call of the UNet is for.
    pub fn mix(&self, call_idx: usize) -> Mix {
        self.prompts.mix(call_idx, self.is_guided().then_some(self.inputs.config.guidance_scale))
    }

    /// What the calls are for, in order.
    pub fn mixes(&self) -> impl Iterator<Item = Mix> {
        (0..self.n_steps().max(1)).map(|call_idx| self.mix(call_idx))
    }

    /// Whether the negative prompt's texts are asked for.
    pub fn uses_negative(&self) -> bool {
        self.mixes().any(|mix| mix.texts.len() > self.prompts.n_parts())
    }

    /// Pictures of the request.
    pub fn count(&self) -> usize {
        self.inputs.config.count
    }

    /// Calls of the UNet for one picture.
    pub fn n_steps(&self) -> usize {
        self.schedule.steps.len()
    }

    /// The work of a picture, once all is encoded.
    pub fn picture_flops(&self) -> u64 {
        self.work.step * self.n_steps() as u64 + self.work.decode
    }

    pub fn total_flops(&self) -> u64 {
        self.work.encode + self.picture_flops() * self.count() as u64
    }

    /// Where a generation is when as many steps of a picture are done as it says.
    pub fn after_step(&self, ready: Box<Ready<R>>, picture: Box<Picture<R::Tensor>>) -> At<R> {
        if picture.step_idx < self.n_steps() { At::Denoise(ready, picture) } else { At::Decode(ready, picture) }
    }

    /// The shape of a picture's latents, \[1,h,w,C\].
    pub fn latent_shape(&self) -> [usize; 4] {
        let [h, w] = self.latent;
        [1, h, w, self.model.configs.vae.latent_channels]
    }

    /// What the UNet is called with, for prompts of so many chunks.
    pub fn unet_shape(&self, n_chunks: usize) -> UNetShape {
        let n_tokens = self.model.configs.text_encoders[0].config.max_position_embeddings;
        let batch = if self.is_guided() { 2 } else { 1 };
        UNetShape { batch, height: self.latent[0], width: self.latent[1], n_context: n_tokens * n_chunks }
    }

    /// Standard normal numbers in the latents' shape: drawn channels-first like torch, given channels-last.
    pub fn draw(&self, generator: &mut NoiseGenerator) -> Vec<f32> {
        self.channels_last(&generator.randn(self.latent_shape().iter().product()))
    }

    /// The same, turned towards what another generator draws by `strength`.
    pub fn draw_variation(&self, own: &mut NoiseGenerator, other: &mut NoiseGenerator, strength: f64) -> Vec<f32> {
        let [_, h, w, channels] = self.latent_shape();
        let [own, other] = [own, other].map(|generator| generator.randn(channels * h * w));
        self.channels_last(&mix(&own, &other, strength, h, w))
    }

    fn channels_last(&self, values: &[f32]) -> Vec<f32> {
        let [_, h, w, channels] = self.latent_shape();
        (0..h * w * channels).map(|i| values[i % channels * h * w + i / channels]).collect()
    }

    /// Latents of what the VAE's encoder gave, scaled as the UNet wants them: drawn from moments \[h,w,2C\], or those of an
    /// encoder without a distribution, for which nothing is drawn.
    pub fn latents_of(&self, encoded: &[f32], generator: &mut NoiseGenerator) -> Vec<f32> {
        let vae = &self.model.configs.vae;
        let channels = vae.latent_channels;
        let mut latents = if self.model.configs.encodes_moments() {
            let noise = self.draw(generator);
            let of_pixel = |(moments, noise): (&[f32], &[f32])| {
                let (mean, log_variance) = moments.split_at(channels);
                let drawn = |c: usize| mean[c] + (0.5 * log_variance[c].clamp(-30.0, 20.0)).exp() * noise[c];
                (0..channels).map(drawn).collect::<Vec<_>>()
            };
            encoded.chunks_exact(2 * channels).zip(noise.chunks_exact(channels)).flat_map(of_pixel).collect()
        } else {
            encoded.to_vec()
        };
        let scale = vae.scaling_factor as f32;
        // diffusers' inpainting pipelines leave the statistics out when they encode.
        match vae.statistics.as_ref().filter(|_| self.task == Task::ImageToImage) {
            Some(LatentStatistics { mean, std }) => {
                for (i, value) in latents.iter_mut().enumerate() {
                    *value = (*value - mean[i % channels] as f32) * scale / std[i % channels] as f32;
                }
            }
            None => latents.iter_mut().for_each(|value| *value *= scale),
        }
        latents
    }
}
