//! Stages 5 and 6: a picture's generator, noise and first latents.

use super::encode::StartPicture;
use super::setup::Setup;
use crate::error::Result;
use crate::pipeline::job::Task;
use crate::request::Variation;
use crate::rng::NoiseGenerator;
use crate::run::Runner;

/// What a denoising step changes.
#[derive(Clone)]
pub(super) struct State<T> {
    pub latents: T,
    /// The sampler's other tensors, by index.
    pub buffers: Vec<Option<T>>,
}

/// One picture on its way.
pub(super) struct Picture<T> {
    pub seed: u64,
    pub generator: NoiseGenerator,
    /// Sampler steps done.
    pub step_idx: usize,
    pub state: State<T>,
    /// The UNet's last output, with guidance: a preview computes from it what the latents will become.
    pub output: Option<T>,
    /// What a 9-channel UNet sees beside the latents: mask and masked picture.
    pub beside: Option<T>,
    /// The start picture's latents and the first noise, which a 4-channel UNet's latents are blended with.
    pub blend: Option<(T, T)>,
}

impl<R: Runner> Setup<R> {
    /// 5. and 6. The picture of this index before its first step. Random numbers are drawn in diffusers' order.
    pub fn prepare(
        &self,
        start_picture: Option<&StartPicture<R::Tensor>>,
        picture_idx: usize,
    ) -> Result<Picture<R::Tensor>> {
        let (runner, config) = (&*self.runner, &self.inputs.config);
        let shape = self.latent_shape();
        let seed = config.seed_of(picture_idx);
        let mut generator = NoiseGenerator::new(config.noise, seed);

        let from_noise = match self.task {
            Task::TextToImage => true,
            Task::ImageToImage => false,
            Task::Inpaint => config.strength >= 1.0,
        };
        let image_latents = match start_picture.and_then(|picture| picture.moments.as_ref()) {
            Some(moments) => Some(runner.upload(&self.latents_of(moments, &mut generator), &shape)?),
            None => None,
        };
        let n_drawn = usize::from(image_latents.is_some() && self.model.configs.encodes_moments());
        let noise = runner.upload(&self.first_noise(&mut generator, picture_idx, n_drawn), &shape)?;
        let latents = match &image_latents {
            Some(image) if !from_noise => {
                let (keep, add) = self.schedule.add_noise;
                runner.lincomb(&[(keep, image), (add, &noise)], None)?
            }
            Some(_) | None => runner.lincomb(&[(self.schedule.init_noise_sigma, &noise)], None)?,
        };
        let mut beside = None;
        let mut blend = None;
        if let Some(repaint) = start_picture.and_then(|picture| picture.repaint.as_ref()) {
            match &repaint.masked_moments {
                Some(moments) => {
                    let masked = runner.upload(&self.latents_of(moments, &mut generator), &shape)?;
                    beside = Some(runner.concat(&[&repaint.mask_latents, &masked], 3)?);
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
        Ok(Picture { seed, generator, step_idx: 0, state, output: None, beside, blend })
    }

    /// The noise that a picture starts from. With a variation it is mixed with what the picture of the variation seed would
    /// start from, behind `n_drawn` tensors that were drawn before. All that is drawn later is the seed's alone, as in
    /// AUTOMATIC1111.
    fn first_noise(&self, generator: &mut NoiseGenerator, picture_idx: usize, n_drawn: usize) -> Vec<f32> {
        let config = &self.inputs.config;
        let Some(Variation { seed, strength }) = config.variation_of(picture_idx) else { return self.draw(generator) };
        let mut other = NoiseGenerator::new(config.noise, seed);
        for _ in 0..n_drawn {
            self.draw(&mut other);
        }
        self.draw_variation(generator, &mut other, strength)
    }
}
