//! Stages 2 to 4: prompts to what the UNet computes from them alone, the picture and the mask to moments of latents.

use super::denoise::{Conditioning, Denoiser};
use super::setup::Setup;
use super::{Decoder, Ready, refuse};
use crate::error::{Error, Result};
use crate::image::{Mask, RgbImage, to_unit};
use crate::model::unet::{UNetShape, guidance_embedding, prompt_graph, step_graph};
use crate::model::vae::encoder_graph;
use crate::pipeline::components::Part;
use crate::pipeline::job::Event;
use crate::pipeline::prompt::{Encoded, Tokens, tokenize};
use crate::run::Runner;

/// The start picture at the size that is drawn, encoded.
pub(super) struct StartPicture<T> {
    pub pixels: RgbImage,
    /// Moments of its latents, \[h,w,2C\]; `None` where a 9-channel UNet starts from noise alone.
    pub moments: Option<Vec<f32>>,
    pub repaint: Option<Repaint<T>>,
}

/// Which part of it is repainted.
pub(super) struct Repaint<T> {
    pub mask: Mask,
    /// 1 where the picture is repainted, \[1,h,w,1\].
    pub mask_latents: T,
    /// Moments of the picture without its masked part, for a 9-channel UNet.
    pub masked_moments: Option<Vec<f32>>,
}

impl<R: Runner> Setup<R> {
    /// 2. to 4. Prompts to the UNet's conditioning, pictures to moments.
    pub async fn encode(&self, report: &mut dyn FnMut(u64) -> bool) -> Result<(Ready<R>, Event)> {
        let (runner, model) = (&*self.runner, &*self.model);
        let config = &self.inputs.config;
        let guided = self.is_guided();
        let mut prompt = tokenize(model, &config.prompt, config.long_prompt)?;
        let negative_text = config.negative_prompt.as_deref().unwrap_or("");
        let mut negative = tokenize(model, negative_text, config.long_prompt)?;
        prompt.check(model)?;
        if guided {
            negative.check(model)?;
        }
        let n_chunks = prompt.n_chunks().max(negative.n_chunks());
        prompt.pad_to(model, n_chunks)?;
        negative.pad_to(model, n_chunks)?;

        let positive = prompt.encode(runner, model, &self.loras, config.clip_skip.unwrap_or(0), report).await?;
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
        let start_picture = self.encode_pictures(report).await?;
        model.release(&[Part::VaeEncoder]);
        let shape = self.unet_shape(n_chunks);
        let conditioning = self.condition(&both, shape, report).await?;
        let denoiser = self.prepare_denoiser(shape, conditioning).await?;
        let ready = Ready { denoiser, decoder: Decoder::default(), start_picture };
        Ok((ready, Event::Encoded { prompt: prompt.report, negative: negative.report }))
    }

    /// The UNet for both prompts at once; where its values are too large for the device, for one after the other.
    async fn prepare_denoiser(&self, shape: UNetShape, conditioning: Vec<(String, R::Tensor)>) -> Result<Denoiser<R>> {
        let (runner, unet) = (&*self.runner, &self.model.configs.unet);
        let error = match runner.prepare(step_graph(unet, shape)?).await {
            Ok(program) => {
                let conditioning = match self.is_guided() {
                    true => Conditioning::Both(conditioning),
                    false => Conditioning::Prompt(conditioning),
                };
                return Ok(Denoiser::new(program, shape, conditioning));
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
        let conditioning = Conditioning::Apart { negative: of_prompt(0)?, prompt: of_prompt(1)? };
        Ok(Denoiser::new(program, shape, conditioning))
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
        tokens.encode(runner, model, &self.loras, 0, report).await
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
        let names: Vec<String> = graph.outputs.iter().map(|output| output.name.clone()).collect();
        let program = runner.prepare(graph).await?;
        let weights = self.model.part_with(runner, Part::Unet, &self.loras, &mut |_| report(0)).await?;
        // original size, crop, target size, each as height and width or top and left
        let (original_width, original_height) = config.original_size.unwrap_or((config.width, config.height));
        let (left, top) = config.crop.unwrap_or((0, 0));
        let ids = [original_height, original_width, top, left, config.height, config.width].map(|n| n as f32);
        let time_ids = runner.upload(&ids.repeat(shape.batch), &[6 * shape.batch])?;
        let mut inputs = vec![("encoder_hidden_states", &encoded.hidden_states)];
        if let Some(pooled) = &encoded.pooled {
            inputs.extend([("text_embeds", pooled), ("time_ids", &time_ids)]);
        }
        let guidance = match self.model.configs.unet.time_cond_proj_dim {
            Some(dim) => {
                let embedding = guidance_embedding(config.guidance_scale, dim).repeat(shape.batch);
                Some(runner.upload(&embedding, &[shape.batch, dim])?)
            }
            None => None,
        };
        if let Some(guidance) = &guidance {
            inputs.push(("timestep_cond", guidance));
        }
        let values = runner.run(&program, &weights, &inputs, report).await?;
        Ok(names.into_iter().zip(values).collect())
    }

    /// 4. The start picture and what the mask leaves of it, as moments of latents.
    async fn encode_pictures(&self, report: &mut dyn FnMut(u64) -> bool) -> Result<Option<StartPicture<R::Tensor>>> {
        let Some(start_picture) = &self.inputs.start_picture else { return Ok(None) };
        let config = &self.inputs.config;
        let pixels = start_picture.fitted(config.width, config.height, config.fit);
        let values = to_unit(&pixels);
        // A 9-channel model that starts from noise alone never looks at the whole picture.
        let moments = if self.model.configs.is_inpaint() && config.strength >= 1.0 {
            None
        } else {
            Some(self.moments(&values, report).await?)
        };
        let repaint = match &self.inputs.mask {
            Some(mask) => Some(self.encode_mask(mask, &values, report).await?),
            None => None,
        };
        Ok(Some(StartPicture { pixels, moments, repaint }))
    }

    /// The mask, and for a 9-channel model the moments of what it leaves of the picture's `values`, \[H,W,3\].
    async fn encode_mask(
        &self,
        mask: &RgbImage,
        values: &[f32],
        report: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Repaint<R::Tensor>> {
        let config = &self.inputs.config;
        let mask = Mask::from_image(mask, config.width, config.height, config.fit);
        if mask.is_empty() {
            return refuse("mask", "without white", "make white what is to be repainted");
        }
        let masked_moments = if self.model.configs.is_inpaint() {
            let shown: Vec<f32> = values
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
        Ok(Repaint { mask, mask_latents, masked_moments })
    }

    async fn moments(&self, pixels: &[f32], report: &mut dyn FnMut(u64) -> bool) -> Result<Vec<f32>> {
        let (runner, config) = (&*self.runner, &self.inputs.config);
        let configs = &self.model.configs;
        let graph = configs.vae_graph(encoder_graph(&configs.vae, 1, config.height, config.width)?);
        let weights = self.model.part_with(runner, Part::VaeEncoder, &self.loras, &mut |_| report(0)).await?;
        let image = runner.upload(pixels, &[1, config.height, config.width, 3])?;
        let inputs = [("image", &image)];
        let program = runner.prepare(graph.clone()).await?;
        let moments = runner.run(&program, &weights, &inputs, report).await?.swap_remove(0);
        if runner.count_non_finite(&moments).await? == 0 {
            return runner.download(&moments).await;
        }
        drop(program);
        let Some(program) = runner.prepare_f32(graph).await? else {
            return self.not_finite("the VAE's encoder", &[Part::VaeEncoder]).await;
        };
        let moments = runner.run(&program, &weights, &inputs, report).await?.swap_remove(0);
        let values = runner.download(&moments).await?;
        if values.iter().all(|x| x.is_finite()) {
            return Ok(values);
        }
        self.not_finite("the VAE's encoder", &[Part::VaeEncoder]).await
    }
}
