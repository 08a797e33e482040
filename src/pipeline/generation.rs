//! One request being drawn: a state machine whose [`Generation::step`] does one stage, or one denoising step.
//!
//! The stages and the order in which noise is drawn are those of diffusers' StableDiffusion[XL][Img2Img|Inpaint]Pipeline.
//! Pictures of one request are drawn one after another, each from a generator of its own seed.

mod checkpoint;
mod denoise;
mod encode;
mod preview;

use std::rc::Rc;

pub use checkpoint::Checkpoint;

use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::image::{Mask, RgbImage, from_unit};
use crate::model::config::LatentStatistics;
use crate::model::unet::{UNetShape, step_graph};
use crate::pipeline::components::{ModelComponents, Part};
use crate::pipeline::configs::ModelConfigs;
use crate::pipeline::foresight::foresee;
use crate::pipeline::job::{Event, Inputs, Stage, Task};
use crate::request::{Attention, SDConfig};
use crate::rng::Generator;
use crate::run::Runner;
use crate::sampler::{Schedule, schedule_of_consistency_image, schedule_with};

/// The mask and what it hides, as a 9-channel UNet and the blending of a 4-channel one need it.
struct Inpainting<T> {
    /// 1 where the picture is drawn anew, \[1,h,w,1\].
    mask_latents: T,
    /// Moments of the picture without its masked part.
    masked_moments: Option<Vec<f32>>,
}

/// What a denoising step changes.
#[derive(Clone)]
struct State<T> {
    latents: T,
    /// The sampler's other tensors, by index.
    buffers: Vec<Option<T>>,
}

/// One picture on its way.
struct Picture<T> {
    seed: u64,
    generator: Generator,
    state: State<T>,
    /// What the UNet said last, with guidance: with it a preview shows what the latents will become, without their noise.
    output: Option<T>,
    /// What a 9-channel UNet sees beside the latents: mask and masked picture.
    beside: Option<T>,
    /// The picture's latents and the first noise, for blending.
    blend: Option<(T, T)>,
}

/// The UNet made ready: for both prompts at once, or for one after the other where a device cannot hold both.
struct Denoiser<R: Runner> {
    program: R::Program,
    /// Inputs that depend on the prompt alone: one set, or one for the negative prompt and one for the prompt.
    conditioning: Vec<Vec<(String, R::Tensor)>>,
}

/// Ends with the generation, and with it the memory that the runner keeps for its sizes: the next picture may be a smaller
/// one, or there may be none.
struct Trim<R: Runner>(Rc<R>);

impl<R: Runner> Drop for Trim<R> {
    fn drop(&mut self) {
        self.0.trim();
    }
}

/// See the module.
pub struct Generation<R: Runner> {
    runner: Rc<R>,
    model: Rc<ModelComponents<R>>,
    inputs: Rc<Inputs>,
    task: Task,
    schedule: Schedule,
    /// Height and width of the latents.
    latent: [usize; 2],
    /// Sampler steps done of the current picture.
    step_idx: usize,
    /// Pictures done.
    picture_idx: usize,
    stage: Stage,
    denoiser: Option<Denoiser<R>>,
    /// The UNet's program in f32, once a step overflowed 16 bits.
    unet_f32: Option<R::Program>,
    unet_shape: Option<UNetShape>,
    decoder: Option<R::Program>,
    decoder_f32: Option<R::Program>,
    init_pixels: Option<RgbImage>,
    mask: Option<Mask>,
    init_moments: Option<Vec<f32>>,
    inpainting: Option<Inpainting<R::Tensor>>,
    picture: Option<Picture<R::Tensor>>,
    done_flops: u64,
    step_flops: u64,
    decode_flops: u64,
    encode_flops: u64,
    /// The last field, which is dropped when all tensors and programs are.
    _trim: Trim<R>,
}

fn not_finite<T>(stage: impl Into<String>) -> Result<T> {
    Err(Error::NotFinite { stage: stage.into() })
}

fn refuse<T>(field: &'static str, got: impl Into<String>, expected: impl Into<String>) -> Result<T> {
    Err(Error::Request { field, got: got.into(), expected: expected.into() })
}

/// At least one layer of each text encoder is left. XL reads one layer early by itself.
fn check_clip_skip(config: &SDConfig, configs: &ModelConfigs) -> Result<()> {
    let n_early = usize::from(configs.unet.text_time.is_some());
    let most = configs.text_encoders.iter().map(|encoder| encoder.config.num_hidden_layers).min().unwrap_or(0);
    let most = most.saturating_sub(1 + n_early);
    match config.clip_skip {
        Some(skip) if skip > most => refuse("clip skip", skip.to_string(), format!("this model allows 1 to {most}")),
        _ => Ok(()),
    }
}

impl<R: Runner> Generation<R> {
    /// 1. Checks the request against the model, and computes the schedule. Nothing runs yet.
    ///
    /// The runner is told what will ([`foresee`]).
    ///
    /// # Errors
    /// [`Error::Request`] saying what would work.
    pub fn new(runner: &Rc<R>, model: &Rc<ModelComponents<R>>, inputs: impl Into<Rc<Inputs>>) -> Result<Self> {
        let inputs: Rc<Inputs> = inputs.into();
        let configs = &model.configs;
        let config = &inputs.config;
        config.validate_for(configs.sides())?;
        check_clip_skip(config, configs)?;
        let task = match (&inputs.start_picture, &inputs.mask) {
            (None, None) => Task::TextToImage,
            (Some(_), None) => Task::ImageToImage,
            (Some(_), Some(_)) => Task::Inpaint,
            (None, Some(_)) => return refuse("mask", "without a picture", "give the picture to repaint too (--init)"),
        };
        if configs.is_inpaint() && task != Task::Inpaint {
            let expected = "this model only repaints parts of a picture: give a picture and a mask (--init, --mask)";
            return refuse("model", model.name.clone(), expected);
        }
        let strength = match task {
            Task::TextToImage => None,
            _ => Some(config.strength),
        };
        let scheduler = configs.scheduler_of(task).with_optional_sampler(config.sampler);
        let options = config.run_options(strength);
        let schedule = match task {
            Task::ImageToImage if configs.index.is_latent_consistency() => {
                schedule_of_consistency_image(&scheduler, &options)?
            }
            _ => schedule_with(&scheduler, &options)?,
        };
        foresee(&**runner, configs, config, task != Task::TextToImage);
        let factor = configs.vae.factor();
        let latent = [config.height / factor, config.width / factor];
        Ok(Generation {
            runner: Rc::clone(runner),
            model: Rc::clone(model),
            task,
            schedule,
            latent,
            step_idx: 0,
            picture_idx: 0,
            stage: Stage::Encode,
            denoiser: None,
            unet_f32: None,
            unet_shape: None,
            decoder: None,
            decoder_f32: None,
            init_pixels: None,
            mask: None,
            init_moments: None,
            inpainting: None,
            picture: None,
            done_flops: 0,
            step_flops: step_graph(&configs.unet, Self::unet_shape(config, latent, 1, model))?.flops(),
            decode_flops: configs.decoder_graph(latent[0], latent[1])?.flops(),
            encode_flops: 0,
            inputs,
            _trim: Trim(Rc::clone(runner)),
        }
        .with_encode_flops())
    }

    /// What is drawn from what.
    #[must_use]
    pub fn task(&self) -> Task {
        self.task
    }

    /// What the next [`Generation::step`] does.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Calls of the UNet for one picture. Some samplers call it more than once a step, image-to-image fewer times.
    #[must_use]
    pub fn n_steps(&self) -> usize {
        self.schedule.steps.len()
    }

    fn unet_shape(config: &SDConfig, latent: [usize; 2], n_chunks: usize, model: &ModelComponents<R>) -> UNetShape {
        let n_tokens = model.configs.text_encoders[0].config.max_position_embeddings;
        let batch = if model.configs.is_guided(config.guidance_scale) { 2 } else { 1 };
        UNetShape { batch, height: latent[0], width: latent[1], n_context: n_tokens * n_chunks }
    }

    fn with_encode_flops(mut self) -> Self {
        let n_prompts = if self.model.configs.is_guided(self.inputs.config.guidance_scale) { 2 } else { 1 };
        // Two operations a parameter and token: exact enough for a bar.
        let text: u64 = self
            .model
            .configs
            .text_encoders
            .iter()
            .map(|encoder| {
                let config = &encoder.config;
                // 32 bits, which is what a usize has in a browser, are too few for the products.
                let of = |n: usize| n as u64;
                let a_layer =
                    4 * of(config.hidden_size).pow(2) + 2 * of(config.hidden_size) * of(config.intermediate_size);
                2 * of(config.max_position_embeddings) * of(config.num_hidden_layers) * a_layer
            })
            .sum();
        let n_encodes = u64::from(self.task != Task::TextToImage) + u64::from(self.task == Task::Inpaint);
        self.encode_flops = text * n_prompts + n_encodes * self.decode_flops / 2;
        self
    }

    /// The whole request's work, in floating-point operations, for progress bars.
    #[must_use]
    pub fn total_flops(&self) -> u64 {
        let a_picture = self.step_flops * self.n_steps() as u64 + self.decode_flops;
        self.encode_flops + a_picture * self.inputs.config.count as u64
    }

    /// Does one stage, or one denoising step. `progress` is told the part of the whole request that is done, 0 to 1, and
    /// returns whether to go on. `None` when everything is done.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when `progress` said so; [`Error::NotFinite`] naming the stage that gave NaN or infinity; what
    /// the runner says. After an error the request is over.
    pub async fn step(&mut self, progress: &mut dyn FnMut(f64) -> bool) -> Result<Option<Event>> {
        // At every step, because generations that share a runner may differ in it.
        let (flash, sliced) = match self.inputs.config.attention {
            Attention::Flash => (true, None),
            Attention::Sliced => (false, Some(1)),
            Attention::Full => (false, None),
        };
        self.runner.use_attention(flash, sliced)?;
        let total = self.total_flops().max(1) as f64;
        let before = self.done_flops;
        let of_stage = match self.stage {
            Stage::Encode => self.encode_flops,
            Stage::Denoise => self.step_flops,
            Stage::Decode => self.decode_flops,
            Stage::Prepare | Stage::Done => 0,
        };
        // A stage may run several graphs, each of which counts from zero: a count that falls begins the next one. The
        // stage's share of the bar is fixed, so the bar never goes back.
        let (mut earlier, mut last) = (0, 0);
        let mut report = |flops: u64| {
            if flops < last {
                earlier += last;
            }
            last = flops;
            progress((before + (earlier + flops).min(of_stage)) as f64 / total)
        };
        match self.stage {
            Stage::Encode => {
                let event = self.encode(&mut report).await?;
                self.done_flops = self.encode_flops;
                self.stage = Stage::Prepare;
                Ok(Some(event))
            }
            Stage::Prepare => {
                self.prepare()?;
                self.stage = if self.schedule.steps.is_empty() { Stage::Decode } else { Stage::Denoise };
                Ok(Some(Event::Prepared { picture: self.picture_idx }))
            }
            Stage::Denoise => {
                let repeated_in_f32 = self.denoise(&mut report).await?;
                self.done_flops += self.step_flops;
                self.step_idx += 1;
                let n_steps = self.n_steps();
                if self.step_idx == n_steps {
                    self.stage = Stage::Decode;
                }
                let picture = self.picture_idx;
                Ok(Some(Event::Denoised { picture, step: self.step_idx, n_steps, repeated_in_f32 }))
            }
            Stage::Decode => {
                let (seed, image, repeated_in_f32) = self.decode(&mut report).await?;
                self.done_flops += self.decode_flops;
                let picture = self.picture_idx;
                self.picture_idx += 1;
                self.step_idx = 0;
                self.stage = if self.picture_idx < self.inputs.config.count { Stage::Prepare } else { Stage::Done };
                Ok(Some(Event::Decoded { picture, seed, image, repeated_in_f32 }))
            }
            Stage::Done => Ok(None),
        }
    }

    /// Standard normal numbers in the latents' shape: drawn channels-first like torch, given channels-last.
    fn draw(&self, generator: &mut Generator) -> Vec<f32> {
        let ([h, w], channels) = (self.latent, self.model.configs.vae.latent_channels);
        let drawn = generator.randn(channels * h * w);
        (0..h * w * channels).map(|i| drawn[i % channels * h * w + i / channels]).collect()
    }

    /// Latents of what the VAE's encoder gave, scaled as the UNet wants them: drawn from moments \[h,w,2C\], or those of an
    /// encoder without a distribution, for which nothing is drawn.
    fn latents_of(&self, encoded: &[f32], generator: &mut Generator) -> Vec<f32> {
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

    /// 5. and 6. A picture's generator, noise and latents, drawn in diffusers' order.
    fn prepare(&mut self) -> Result<()> {
        let (runner, config) = (&*self.runner, &self.inputs.config);
        let channels = self.model.configs.vae.latent_channels;
        let [h, w] = self.latent;
        let shape = [1, h, w, channels];
        let seed = config.seed + self.picture_idx as u64;
        let mut generator = Generator::new(seed);

        let from_noise = match self.task {
            Task::TextToImage => true,
            Task::ImageToImage => false,
            Task::Inpaint => config.strength >= 1.0,
        };
        let image_latents = match &self.init_moments {
            Some(moments) => Some(runner.upload(&self.latents_of(moments, &mut generator), &shape)?),
            None => None,
        };
        let noise = runner.upload(&self.draw(&mut generator), &shape)?;
        let latents = match &image_latents {
            Some(image) if !from_noise => {
                let (keep, add) = self.schedule.add_noise;
                runner.lincomb(&[(keep, image), (add, &noise)], None)?
            }
            _ => runner.lincomb(&[(self.schedule.init_noise_sigma, &noise)], None)?,
        };
        let mut beside = None;
        let mut blend = None;
        if let Some(inpainting) = &self.inpainting {
            match &inpainting.masked_moments {
                Some(moments) => {
                    let masked = runner.upload(&self.latents_of(moments, &mut generator), &shape)?;
                    beside = Some(runner.concat(&[&inpainting.mask_latents, &masked], 3)?);
                }
                None => {
                    // diffusers encodes the masked picture for 4-channel models too and does not use it, but its noise
                    // is drawn, and samplers that draw later go on from there.
                    if self.model.configs.encodes_moments() {
                        self.draw(&mut generator);
                    }
                    blend = image_latents.map(|image| (image, noise));
                }
            }
        }
        let buffers = vec![None; self.schedule.n_buffers];
        let state = State { latents, buffers };
        self.picture = Some(Picture { seed, generator, state, output: None, beside, blend });
        Ok(())
    }

    fn decoder_graph(&self) -> Result<Graph> {
        let configs = &self.model.configs;
        configs.decoder_graph(self.latent[0], self.latent[1])
    }

    /// 8. Latents to pixels; where there is a mask, the rest of the picture is put back untouched.
    async fn decode(&mut self, report: &mut dyn FnMut(u64) -> bool) -> Result<(u64, RgbImage, bool)> {
        let shared_runner = Rc::clone(&self.runner);
        let runner = &*shared_runner;
        let config = &self.inputs.config;
        let Some(picture) = self.picture.take() else {
            return refuse("step", "before its stage", "the stages run in order");
        };
        self.model.release(&[Part::Unet]);
        let weights = self.model.part(runner, Part::VaeDecoder, &mut |_| report(0)).await?;
        if self.decoder.is_none() {
            self.decoder = Some(runner.prepare(self.decoder_graph()?).await?);
        }
        let Some(program) = &self.decoder else { return refuse("step", "without a decoder", "none") };
        let inputs = [("latents", &picture.state.latents)];
        let mut repeated = false;
        let mut decoded = runner.run(program, &weights, &inputs, report).await?.swap_remove(0);
        if runner.count_non_finite(&decoded).await? > 0 {
            if self.decoder_f32.is_none() {
                self.decoder_f32 = runner.prepare_f32(self.decoder_graph()?).await?;
            }
            let Some(program) = &self.decoder_f32 else { return not_finite("the VAE's decoder") };
            repeated = true;
            decoded = runner.run(program, &weights, &inputs, report).await?.swap_remove(0);
            if runner.count_non_finite(&decoded).await? > 0 {
                return not_finite("the VAE's decoder");
            }
        }
        drop(weights);
        self.model.release(&[Part::VaeDecoder]);
        let values = runner.download(&decoded).await?;
        let mut image = from_unit(&values, config.width, config.height);
        if let (Some(mask), Some(original)) = (&self.mask, &self.init_pixels) {
            for ((pixel, known), &hidden) in
                image.pixels.chunks_exact_mut(3).zip(original.pixels.chunks_exact(3)).zip(&mask.values)
            {
                if hidden < 0.5 {
                    pixel.copy_from_slice(known);
                }
            }
        }
        Ok((picture.seed, image, repeated))
    }

    /// The current picture's latents, channels-first \[4,h,w\] as diffusers has them: for tests and checkpoints. `None`
    /// between pictures.
    ///
    /// # Errors
    /// When the device is lost.
    pub async fn latents(&self) -> Result<Option<Vec<f32>>> {
        let Some(picture) = &self.picture else { return Ok(None) };
        let values = self.runner.download(&picture.state.latents).await?;
        let ([h, w], channels) = (self.latent, self.model.configs.vae.latent_channels);
        Ok(Some((0..values.len()).map(|i| values[i % (h * w) * channels + i / (h * w)]).collect()))
    }
}
