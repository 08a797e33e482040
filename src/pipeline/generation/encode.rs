//! Stages 2 to 4: prompts to what the UNet computes from them alone, the picture and the mask to moments of latents.

use super::condition::Conditioner;
use super::denoise::Denoiser;
use super::repaint::{Overlay, Prepared};
use super::setup::Setup;
use super::{Decoder, Ready};
use crate::error::{Error, Result};
use crate::image::{Mask, RgbImage, to_unit};
use crate::model::unet::{UNetShape, step_graph};
use crate::model::vae::encoder_graph;
use crate::pipeline::components::Part;
use crate::pipeline::job::Event;
use crate::pipeline::prompt::Encoded;
use crate::prompt::Role;
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
    /// What is laid over the result, where that is not the picture outside of the mask.
    pub overlay: Option<Overlay>,
    /// 1 where the picture is repainted, \[1,h,w,1\].
    pub mask_latents: T,
    /// Moments of the picture without its masked part, for a 9-channel UNet.
    pub masked_moments: Option<Vec<f32>>,
}

impl<R: Runner> Setup<R> {
    /// 2. to 4. Prompts to the UNet's conditioning, pictures to moments.
    pub async fn encode(&self, report: &mut dyn FnMut(u64) -> bool) -> Result<(Ready<R>, Event)> {
        let (runner, model) = (&*self.runner, &*self.model);
        let uses_negative = self.uses_negative();
        self.prompts.check(&model.configs, uses_negative)?;
        let positive = self.prompts.encode(Role::Prompt, runner, model, &self.loras, report).await?;
        let negative = if uses_negative {
            self.encode_negative(&positive, report).await?
        } else {
            // Numbers of texts count it, but none is looked up.
            vec![positive[0].clone(); self.prompts.n_negative()]
        };
        let texts: Vec<Encoded<R::Tensor>> = negative.into_iter().chain(positive).collect();
        let encoders: Vec<Part> = (0..model.configs.text_encoders.len()).map(Part::TextEncoder).collect();
        model.release(&encoders);
        let start_picture = self.encode_pictures(report).await?;
        model.release(&[Part::VaeEncoder]);
        let shape = self.unet_shape(self.prompts.n_chunks());
        let conditioner = Conditioner::new(self, texts, shape, report).await?;
        let denoiser = self.prepare_denoiser(shape, conditioner).await?;
        let ready = Ready { denoiser, decoder: Decoder::default(), start_picture };
        let [prompt, negative] = self.prompts.reports.clone();
        Ok((ready, Event::Encoded { prompt, negative }))
    }

    /// The UNet for both prompts at once; where its values are too large for the device, for one after the other.
    async fn prepare_denoiser(&self, shape: UNetShape, mut conditioner: Conditioner<R>) -> Result<Denoiser<R>> {
        let (runner, unet) = (&*self.runner, &self.model.configs.unet);
        let error = match runner.prepare(step_graph(unet, shape)?).await {
            Ok(program) => return Ok(Denoiser::new(program, shape, conditioner)),
            Err(error @ Error::Limit { .. }) if shape.batch == 2 => error,
            Err(error) => return Err(error),
        };
        let shape = UNetShape { batch: 1, ..shape };
        let Ok(program) = runner.prepare(step_graph(unet, shape)?).await else { return Err(error) };
        conditioner.set_apart(runner)?;
        Ok(Denoiser::new(program, shape, conditioner))
    }

    /// The negative prompt's texts: for XL without a negative prompt zeros, if the pipeline's config says so.
    async fn encode_negative(
        &self,
        positive: &[Encoded<R::Tensor>],
        report: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Vec<Encoded<R::Tensor>>> {
        let (runner, model) = (&*self.runner, &*self.model);
        let positive = &positive[0];
        let zeros_if_absent =
            positive.pooled.is_some() && model.configs.index.force_zeros_for_empty_prompt.unwrap_or(true);
        if self.inputs.config.negative_prompt.is_none() && zeros_if_absent {
            let zero = |x: &R::Tensor| runner.lincomb(&[(0.0, x)], None);
            let pooled = positive.pooled.as_ref().map(zero).transpose()?;
            return Ok(vec![Encoded { hidden_states: zero(&positive.hidden_states)?, pooled }]);
        }
        self.prompts.encode(Role::Negative, runner, model, &self.loras, report).await
    }

    /// 4. The start picture and what the mask leaves of it, as moments of latents.
    async fn encode_pictures(&self, report: &mut dyn FnMut(u64) -> bool) -> Result<Option<StartPicture<R::Tensor>>> {
        let Some(start_picture) = &self.inputs.start_picture else { return Ok(None) };
        let config = &self.inputs.config;
        let Prepared { pixels, mask, overlay } = Prepared::of(start_picture, self.inputs.mask.as_ref(), config)?;
        let values = to_unit(&pixels);
        // A 9-channel model that starts from noise alone never looks at the whole picture.
        let moments = if self.model.configs.is_inpaint() && config.strength >= 1.0 {
            None
        } else {
            Some(self.moments(&values, report).await?)
        };
        let repaint = match mask {
            Some(mask) => Some(self.encode_mask(mask, overlay, &values, report).await?),
            None => None,
        };
        Ok(Some(StartPicture { pixels, moments, repaint }))
    }

    /// The mask, and for a 9-channel model the moments of what it leaves of the picture's `values`, \[H,W,3\].
    async fn encode_mask(
        &self,
        mask: Mask,
        overlay: Option<Overlay>,
        values: &[f32],
        report: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Repaint<R::Tensor>> {
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
        Ok(Repaint { mask, overlay, mask_latents, masked_moments })
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
