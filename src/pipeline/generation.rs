//! One request being drawn: a state machine whose [`Generation::step`] does one stage, or one denoising step.
//!
//! The stages and the order in which noise is drawn are those of diffusers' StableDiffusion[XL][Img2Img|Inpaint]Pipeline.
//! Pictures of one request are drawn one after another, each from a generator of its own seed.

use std::rc::Rc;

use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::image::{Mask, RgbImage, from_unit, to_unit};
use crate::model::unet::{UNetShape, prompt_graph, step_graph};
use crate::model::vae::{decoder_graph, encoder_graph};
use crate::pipeline::components::{ModelComponents, ModelConfigs, Part};
use crate::pipeline::job::{Event, Inputs, Stage, Task};
use crate::pipeline::prompt::{Encoded, Tokens, tokenize};
use crate::request::SDConfig;
use crate::rng::Generator;
use crate::run::Runner;
use crate::sampler::{SamplerStep, Schedule, Slot, schedule};

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

/// Where a generation was after a step: enough to go on from there on another device.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    picture_idx: usize,
    /// `None` between pictures.
    picture: Option<PictureCheckpoint>,
}

/// What the steps of a picture left.
#[derive(Clone, Debug)]
struct PictureCheckpoint {
    /// Steps done.
    step_idx: usize,
    generator: Generator,
    latents: Vec<f32>,
    buffers: Vec<Option<Vec<f32>>>,
}

/// Latents of a preview at most: four bytes each are 64 KiB.
const MAX_PREVIEW_PIXELS: usize = 128 * 128;

/// See the module.
pub struct Generation<R: Runner> {
    runner: Rc<R>,
    model: Rc<ModelComponents<R>>,
    inputs: Inputs,
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
    /// # Errors
    /// [`Error::Request`] saying what would work.
    pub fn new(runner: &Rc<R>, model: &Rc<ModelComponents<R>>, inputs: Inputs) -> Result<Self> {
        let configs = &model.configs;
        let config = &inputs.config;
        config.validate_for(configs.size_multiple())?;
        check_clip_skip(config, configs)?;
        let task = match (&inputs.init, &inputs.mask) {
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
        let scheduler = match config.sampler {
            Some(kind) => configs.scheduler.with_kind(kind),
            None => configs.scheduler.clone(),
        };
        let schedule = schedule(&scheduler, config.steps, strength)?;
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
            decode_flops: decoder_graph(&configs.vae, 1, latent[0], latent[1])?.flops(),
            encode_flops: 0,
            inputs,
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

    /// Whether the UNet runs for the prompt and the negative prompt: with a guidance scale above 1, as in diffusers.
    fn is_guided(config: &SDConfig) -> bool {
        config.guidance_scale > 1.0
    }

    fn unet_shape(config: &SDConfig, latent: [usize; 2], n_chunks: usize, model: &ModelComponents<R>) -> UNetShape {
        let n_tokens = model.configs.text_encoders[0].config.max_position_embeddings;
        let batch = if Self::is_guided(config) { 2 } else { 1 };
        UNetShape { batch, height: latent[0], width: latent[1], n_context: n_tokens * n_chunks }
    }

    fn with_encode_flops(mut self) -> Self {
        let n_prompts = if Self::is_guided(&self.inputs.config) { 2 } else { 1 };
        // Two operations a parameter and token: exact enough for a bar.
        let text: u64 = self
            .model
            .configs
            .text_encoders
            .iter()
            .map(|encoder| {
                let config = &encoder.config;
                let a_layer =
                    4 * config.hidden_size * config.hidden_size + 2 * config.hidden_size * config.intermediate_size;
                (2 * config.max_position_embeddings * config.num_hidden_layers * a_layer) as u64
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
        let config = &self.inputs.config;
        self.runner.use_attention(config.flash_attention, config.sliced_attention)?;
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

    /// 2. and 3. Prompts to the UNet's conditioning, pictures to moments.
    async fn encode(&mut self, report: &mut dyn FnMut(u64) -> bool) -> Result<Event> {
        let (shared_runner, shared_model) = (Rc::clone(&self.runner), Rc::clone(&self.model));
        let (runner, model) = (&*shared_runner, &*shared_model);
        let config = &self.inputs.config;
        let guided = Self::is_guided(config);
        let mut prompt = tokenize(model, &config.prompt, self.inputs.long_prompt)?;
        let negative_text = config.negative_prompt.as_deref().unwrap_or("");
        let mut negative = tokenize(model, negative_text, self.inputs.long_prompt)?;
        let n_chunks = prompt.n_chunks().max(negative.n_chunks());
        prompt.pad_to(model, n_chunks)?;
        negative.pad_to(model, n_chunks)?;

        let positive = prompt.encode(runner, model, config.clip_skip.unwrap_or(0), report).await?;
        let both = if guided {
            let negative = self.encode_negative(&negative, &positive, report).await?;
            let pooled = match (&negative.pooled, &positive.pooled) {
                (Some(negative), Some(positive)) => Some(runner.concat(&[negative, positive], 0)?),
                _ => None,
            };
            let hidden_states = runner.concat(&[&negative.hidden_states, &positive.hidden_states], 0)?;
            Encoded { hidden_states, pooled }
        } else {
            positive
        };
        let encoders: Vec<Part> = (0..model.configs.text_encoders.len()).map(Part::TextEncoder).collect();
        model.release(&encoders);
        self.encode_pictures(report).await?;
        model.release(&[Part::VaeEncoder]);
        let shape = Self::unet_shape(&self.inputs.config, self.latent, n_chunks, model);
        let conditioning = self.condition(&both, shape, report).await?;
        self.denoiser = Some(self.prepare_denoiser(shape, conditioning).await?);
        Ok(Event::Encoded { prompt: prompt.report, negative: negative.report })
    }

    /// The UNet for both prompts at once; where its values are too large for the device, for one after the other.
    async fn prepare_denoiser(
        &mut self,
        shape: UNetShape,
        conditioning: Vec<(String, R::Tensor)>,
    ) -> Result<Denoiser<R>> {
        let (runner, unet) = (Rc::clone(&self.runner), &self.model.configs.unet);
        let error = match runner.prepare(step_graph(unet, shape)?).await {
            Ok(program) => {
                self.unet_shape = Some(shape);
                return Ok(Denoiser { program, conditioning: vec![conditioning] });
            }
            Err(error @ Error::Limit { .. }) if shape.batch == 2 => error,
            Err(error) => return Err(error),
        };
        let shape = UNetShape { batch: 1, ..shape };
        let Ok(program) = runner.prepare(step_graph(unet, shape)?).await else { return Err(error) };
        let of_prompt = |idx: usize| {
            let part = |(name, value): &(String, R::Tensor)| Ok((name.clone(), runner.slice(value, 0, idx, 1)?));
            conditioning.iter().map(part).collect::<Result<Vec<_>>>()
        };
        let conditioning = vec![of_prompt(0)?, of_prompt(1)?];
        self.unet_shape = Some(shape);
        Ok(Denoiser { program, conditioning })
    }

    /// The negative prompt's states: for XL without a negative prompt zeros, if the pipeline's config says so.
    async fn encode_negative(
        &self,
        tokens: &Tokens,
        positive: &Encoded<R::Tensor>,
        report: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Encoded<R::Tensor>> {
        let (runner, model) = (&*self.runner, &*self.model);
        let zeros_if_absent =
            positive.pooled.is_some() && model.configs.index.force_zeros_for_empty_prompt.unwrap_or(true);
        if self.inputs.config.negative_prompt.is_none() && zeros_if_absent {
            let zero = |x: &R::Tensor| runner.lincomb(&[(0.0, x)], None);
            let pooled = positive.pooled.as_ref().map(zero).transpose()?;
            return Ok(Encoded { hidden_states: zero(&positive.hidden_states)?, pooled });
        }
        // diffusers applies clip_skip to the prompt only.
        tokens.encode(runner, model, 0, report).await
    }

    /// Everything the UNet computes from the prompt alone.
    async fn condition(
        &self,
        encoded: &Encoded<R::Tensor>,
        shape: UNetShape,
        report: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Vec<(String, R::Tensor)>> {
        let (runner, config) = (&*self.runner, &self.inputs.config);
        let graph = prompt_graph(&self.model.configs.unet, shape.batch, shape.n_context)?;
        let names: Vec<String> = graph.outputs.iter().map(|(name, _)| name.clone()).collect();
        let program = runner.prepare(graph).await?;
        let weights = self.model.part(runner, Part::Unet, &mut |_| {}).await?;
        // original size, crop, target size, each as height and width or top and left
        let (original_width, original_height) = config.original_size.unwrap_or((config.width, config.height));
        let (left, top) = config.crop.unwrap_or((0, 0));
        let ids = [original_height, original_width, top, left, config.height, config.width].map(|n| n as f32);
        let time_ids = runner.upload(&ids.repeat(shape.batch), &[6 * shape.batch])?;
        let mut inputs = vec![("encoder_hidden_states", &encoded.hidden_states)];
        if let Some(pooled) = &encoded.pooled {
            inputs.extend([("text_embeds", pooled), ("time_ids", &time_ids)]);
        }
        let values = runner.run(&program, &weights, &inputs, report).await?;
        Ok(names.into_iter().zip(values).collect())
    }

    /// 4. The picture and what the mask leaves of it, as moments of latents.
    async fn encode_pictures(&mut self, report: &mut dyn FnMut(u64) -> bool) -> Result<()> {
        let Some(init) = &self.inputs.init else { return Ok(()) };
        let config = &self.inputs.config;
        let (width, height) = (config.width, config.height);
        let init = init.resize_lanczos(width, height);
        let pixels = to_unit(&init);
        let is_inpaint_model = self.model.configs.is_inpaint();
        // A 9-channel model that starts from noise alone never looks at the whole picture.
        if !(is_inpaint_model && config.strength >= 1.0) {
            self.init_moments = Some(self.moments(&pixels, report).await?);
        }
        if let Some(mask) = &self.inputs.mask {
            let mask = Mask::from_image(mask, width, height);
            if mask.is_empty() {
                return refuse("mask", "without white", "make white what is to be drawn anew");
            }
            let masked_moments = if is_inpaint_model {
                let shown: Vec<f32> = pixels
                    .chunks_exact(3)
                    .zip(&mask.values)
                    .flat_map(|(pixel, &hidden)| pixel.iter().map(move |x| if hidden < 0.5 { *x } else { 0.0 }))
                    .collect();
                Some(self.moments(&shown, report).await?)
            } else {
                None
            };
            let [h, w] = self.latent;
            let mask_latents = self.runner.upload(&mask.resize_nearest(w, h).values, &[1, h, w, 1])?;
            self.inpainting = Some(Inpainting { mask_latents, masked_moments });
            self.mask = Some(mask);
        }
        self.init_pixels = Some(init);
        Ok(())
    }

    async fn moments(&self, pixels: &[f32], report: &mut dyn FnMut(u64) -> bool) -> Result<Vec<f32>> {
        let (runner, config) = (&*self.runner, &self.inputs.config);
        let configs = &self.model.configs;
        let graph = configs.vae_graph(encoder_graph(&configs.vae, 1, config.height, config.width)?);
        let weights = self.model.part(runner, Part::VaeEncoder, &mut |_| {}).await?;
        let image = runner.upload(pixels, &[1, config.height, config.width, 3])?;
        let inputs = [("image", &image)];
        let program = runner.prepare(graph.clone()).await?;
        let moments = runner.run(&program, &weights, &inputs, report).await?.swap_remove(0);
        if runner.count_non_finite(&moments).await? == 0 {
            return runner.download(&moments).await;
        }
        drop(program);
        let Some(program) = runner.prepare_f32(graph).await? else { return not_finite("the VAE's encoder") };
        let moments = runner.run(&program, &weights, &inputs, report).await?.swap_remove(0);
        let values = runner.download(&moments).await?;
        if values.iter().all(|x| x.is_finite()) { Ok(values) } else { not_finite("the VAE's encoder") }
    }

    /// Standard normal numbers in the latents' shape: drawn channels-first like torch, given channels-last.
    fn draw(&self, generator: &mut Generator) -> Vec<f32> {
        let ([h, w], channels) = (self.latent, self.model.configs.vae.latent_channels);
        let drawn = generator.randn(channels * h * w);
        (0..h * w * channels).map(|i| drawn[i % channels * h * w + i / channels]).collect()
    }

    /// Latents drawn from moments \[h,w,2C\], scaled as the UNet wants them.
    fn sample_moments(&self, moments: &[f32], generator: &mut Generator) -> Vec<f32> {
        let vae = &self.model.configs.vae;
        let channels = vae.latent_channels;
        let noise = self.draw(generator);
        let (scale, shift) = (vae.scaling_factor as f32, vae.shift_factor.unwrap_or(0.0) as f32);
        moments
            .chunks_exact(2 * channels)
            .zip(noise.chunks_exact(channels))
            .flat_map(|(moments, noise)| {
                let (mean, log_variance) = moments.split_at(channels);
                (0..channels).map(move |c| {
                    let deviation = (0.5 * log_variance[c].clamp(-30.0, 20.0)).exp();
                    (mean[c] + deviation * noise[c] - shift) * scale
                })
            })
            .collect()
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
            Some(moments) => Some(runner.upload(&self.sample_moments(moments, &mut generator), &shape)?),
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
                    let masked = runner.upload(&self.sample_moments(moments, &mut generator), &shape)?;
                    beside = Some(runner.concat(&[&inpainting.mask_latents, &masked], 3)?);
                }
                None => {
                    // diffusers encodes the masked picture for 4-channel models too and does not use it, but its noise
                    // is drawn, and samplers that draw later go on from there.
                    self.draw(&mut generator);
                    blend = image_latents.map(|image| (image, noise));
                }
            }
        }
        let buffers = vec![None; self.schedule.n_buffers];
        let state = State { latents, buffers };
        self.picture = Some(Picture { seed, generator, state, output: None, beside, blend });
        Ok(())
    }

    /// 7. One call of the UNet and the sampler's arithmetic on its result; again in f32 where 16 bits were not enough.
    async fn denoise(&mut self, report: &mut dyn FnMut(u64) -> bool) -> Result<bool> {
        let stage = format!("step {}", self.step_idx + 1);
        let (shared_runner, shared_model) = (Rc::clone(&self.runner), Rc::clone(&self.model));
        let runner = &*shared_runner;
        let Some(mut picture) = self.picture.take() else {
            return refuse("step", "before its stage", "the stages run in order");
        };
        let step = self.schedule.steps[self.step_idx].clone();
        let [h, w] = self.latent;
        let noise = if step.draws_noise {
            let values = self.draw(&mut picture.generator);
            Some(runner.upload(&values, &[1, h, w, self.model.configs.vae.latent_channels])?)
        } else {
            None
        };
        let mut repeated = false;
        loop {
            let output = self.predict(&picture, &step, report).await?;
            let state = self.advance(&picture, &step, &output, noise.as_ref())?;
            if runner.count_non_finite(&state.latents).await? == 0 {
                picture.state = state;
                picture.output = Some(output);
                self.picture = Some(picture);
                return Ok(repeated);
            }
            let Some(shape) = self.unet_shape.filter(|_| self.unet_f32.is_none()) else { return not_finite(stage) };
            let graph = step_graph(&shared_model.configs.unet, shape)?;
            self.unet_f32 = runner.prepare_f32(graph).await?;
            if self.unet_f32.is_none() {
                return not_finite(stage);
            }
            repeated = true;
        }
    }

    /// What the UNet says of a picture's latents, with guidance.
    async fn predict(
        &self,
        picture: &Picture<R::Tensor>,
        step: &SamplerStep,
        report: &mut dyn FnMut(u64) -> bool,
    ) -> Result<R::Tensor> {
        let runner = &*self.runner;
        let config = &self.inputs.config;
        let Some(denoiser) = &self.denoiser else {
            return refuse("step", "before its stage", "the stages run in order");
        };
        let program = self.unet_f32.as_ref().unwrap_or(&denoiser.program);
        let weights = self.model.part(runner, Part::Unet, &mut |_| {}).await?;
        let mut input = picture.state.latents.clone();
        if step.input_scale != 1.0 {
            input = runner.lincomb(&[(step.input_scale, &input)], None)?;
        }
        if let Some(beside) = &picture.beside {
            input = runner.concat(&[&input, beside], 3)?;
        }
        let guided = Self::is_guided(config);
        let batch = self.unet_shape.map_or(1, |shape| shape.batch);
        if batch == 2 {
            input = runner.concat(&[&input, &input], 0)?;
        }
        let timestep = runner.upload(&vec![step.timestep as f32; batch], &[batch])?;
        let mut outputs = Vec::new();
        let n_runs = denoiser.conditioning.len() as u64;
        for (run, conditioning) in (0..).zip(&denoiser.conditioning) {
            let mut inputs: Vec<(&str, &R::Tensor)> = vec![("sample", &input), ("timestep", &timestep)];
            inputs.extend(conditioning.iter().map(|(name, value)| (name.as_str(), value)));
            // One run for each prompt is half of a guided step.
            let share = self.step_flops / n_runs;
            let mut report = |flops: u64| report(run * share + flops);
            outputs.extend(runner.run(program, &weights, &inputs, &mut report).await?);
        }
        if !guided {
            return outputs.pop().map_or_else(|| refuse("step", "without a result", "the UNet has one"), Ok);
        }
        let halves = match outputs.as_slice() {
            [both] => [runner.slice(both, 0, 0, 1)?, runner.slice(both, 0, 1, 1)?],
            [negative, positive] => [negative.clone(), positive.clone()],
            _ => return refuse("step", "without a result", "the UNet has one"),
        };
        let scale = config.guidance_scale;
        runner.lincomb(&[(1.0 - scale, &halves[0]), (scale, &halves[1])], None)
    }

    /// The sampler's arithmetic, and the blending of a 4-channel model.
    fn advance(
        &self,
        picture: &Picture<R::Tensor>,
        step: &SamplerStep,
        output: &R::Tensor,
        noise: Option<&R::Tensor>,
    ) -> Result<State<R::Tensor>> {
        let runner = &*self.runner;
        let mut state = picture.state.clone();
        for update in &step.updates {
            let mut terms = Vec::with_capacity(update.terms.len());
            for &(slot, factor) in &update.terms {
                let value = match slot {
                    Slot::Latents => Some(&state.latents),
                    Slot::ModelOutput => Some(output),
                    Slot::Noise => noise,
                    Slot::Buffer(idx) => state.buffers[idx].as_ref(),
                };
                let Some(value) = value else {
                    return refuse(
                        "sampler",
                        format!("{slot:?} read before it is written"),
                        "every other sampler works",
                    );
                };
                terms.push((factor, value));
            }
            let sum = runner.lincomb(&terms, update.clamp)?;
            match update.target {
                Slot::Latents => state.latents = sum,
                Slot::Buffer(idx) => state.buffers[idx] = Some(sum),
                Slot::ModelOutput | Slot::Noise => {
                    return refuse("sampler", format!("writes {:?}", update.target), "every other sampler works");
                }
            }
        }
        if let (Some((image, noise)), Some(inpainting)) = (&picture.blend, &self.inpainting) {
            let known = match step.renoise {
                Some((keep, add)) => runner.lincomb(&[(keep, image), (add, noise)], None)?,
                None => image.clone(),
            };
            state.latents = runner.blend(&inpainting.mask_latents, &state.latents, &known)?;
        }
        Ok(state)
    }

    fn decoder_graph(&self) -> Result<Graph> {
        let configs = &self.model.configs;
        Ok(configs.vae_graph(decoder_graph(&configs.vae, 1, self.latent[0], self.latent[1])?))
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
        let weights = self.model.part(runner, Part::VaeDecoder, &mut |_| {}).await?;
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

    /// Roughly what the picture will become as far as the last step knows, one pixel for each of them (for large pictures fewer): cheap enough
    /// for every step. `None` between pictures.
    ///
    /// # Errors
    /// When the device is lost.
    pub async fn preview(&self) -> Result<Option<RgbImage>> {
        let Some(picture) = &self.picture else { return Ok(None) };
        let [h, w] = self.latent;
        let step = (1..).find(|step| h.div_ceil(*step) * w.div_ceil(*step) <= MAX_PREVIEW_PIXELS).unwrap_or(1);
        let colours = self.model.configs.preview_colours();
        let rgba = self.runner.rgba(&self.without_noise(picture)?, step, &colours).await?;
        let pixels = rgba.chunks_exact(4).flat_map(|pixel| pixel[..3].iter().copied()).collect();
        Ok(Some(RgbImage::new(w.div_ceil(step), h.div_ceil(step), pixels)?))
    }

    /// The latents as they would be if the UNet's last word were right: at the noise level that the last step led to they
    /// are keep·clean + add·noise, and the UNet tells the noise, or a mixture of both.
    fn without_noise(&self, picture: &Picture<R::Tensor>) -> Result<R::Tensor> {
        let latents = &picture.state.latents;
        let done = self.step_idx.checked_sub(1).and_then(|idx| self.schedule.steps.get(idx));
        let (Some(output), Some((keep, add))) = (&picture.output, done.and_then(|step| step.renoise)) else {
            return Ok(latents.clone());
        };
        match self.model.configs.scheduler.prediction_type() {
            "epsilon" => self.runner.lincomb(&[(1.0 / keep, latents), (-add / keep, output)], None),
            "v_prediction" => {
                let square = keep * keep + add * add;
                self.runner.lincomb(&[(keep / square, latents), (-add / square.sqrt(), output)], None)
            }
            _ => Ok(output.clone()),
        }
    }

    /// What [`Generation::resume`] needs to go on from here: the latents and the sampler's other tensors, read back from
    /// the device, some 10 KiB to 1 MiB. Meant for after every step where a device may be lost.
    ///
    /// # Errors
    /// When the device is lost.
    pub async fn checkpoint(&self) -> Result<Checkpoint> {
        let mut kept = None;
        if let Some(picture) = &self.picture {
            let latents = self.runner.download(&picture.state.latents).await?;
            let mut buffers = Vec::with_capacity(picture.state.buffers.len());
            for buffer in &picture.state.buffers {
                buffers.push(match buffer {
                    Some(buffer) => Some(self.runner.download(buffer).await?),
                    None => None,
                });
            }
            let generator = picture.generator.clone();
            kept = Some(PictureCheckpoint { step_idx: self.step_idx, generator, latents, buffers });
        }
        Ok(Checkpoint { picture_idx: self.picture_idx, picture: kept })
    }

    /// Goes on from a checkpoint of the same request, on another device or the same: prompts and pictures are encoded
    /// anew, steps that were done are not. To be called before the first [`Generation::step`].
    ///
    /// # Errors
    /// As [`Generation::step`]; [`Error::Request`] after the first step, or for another request's checkpoint.
    pub async fn resume(&mut self, checkpoint: &Checkpoint, progress: &mut dyn FnMut(f64) -> bool) -> Result<Event> {
        let fits = checkpoint.picture_idx < self.inputs.config.count
            && checkpoint.picture.as_ref().is_none_or(|kept| {
                let n_values = self.latent.iter().product::<usize>() * self.model.configs.vae.latent_channels;
                kept.step_idx <= self.n_steps()
                    && kept.latents.len() == n_values
                    && kept.buffers.len() == self.schedule.n_buffers
            });
        if self.stage != Stage::Encode || !fits {
            return refuse("checkpoint", "of another request or after the first step", "resume the same request first");
        }
        let Some(encoded) = self.step(progress).await? else {
            return refuse("checkpoint", "of nothing", "resume a request that is not done");
        };
        self.picture_idx = checkpoint.picture_idx;
        let a_picture = self.step_flops * self.n_steps() as u64 + self.decode_flops;
        self.done_flops += a_picture * self.picture_idx as u64;
        if let Some(PictureCheckpoint { step_idx, generator, latents, buffers }) = &checkpoint.picture {
            self.prepare()?;
            let [h, w] = self.latent;
            let shape = [1, h, w, self.model.configs.vae.latent_channels];
            let upload = |values: &Vec<f32>| self.runner.upload(values, &shape);
            let state = State {
                latents: upload(latents)?,
                buffers: buffers.iter().map(|b| b.as_ref().map(upload).transpose()).collect::<Result<_>>()?,
            };
            if let Some(picture) = &mut self.picture {
                picture.generator = generator.clone();
                picture.state = state;
            }
            self.step_idx = *step_idx;
            self.done_flops += self.step_flops * *step_idx as u64;
            self.stage = if self.step_idx == self.n_steps() { Stage::Decode } else { Stage::Denoise };
        }
        Ok(encoded)
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
