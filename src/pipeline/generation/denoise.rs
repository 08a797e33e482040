//! Stage 7: one call of the UNet and the sampler's arithmetic on its result.

use super::encode::Repaint;
use super::prepare::{Picture, State};
use super::setup::Setup;
use super::{Ready, refuse};
use crate::error::Result;
use crate::model::unet::{UNetShape, step_graph};
use crate::pipeline::components::Part;
use crate::run::Runner;
use crate::sampler::{Limit, SamplerStep, Slot};

/// The UNet made ready, with its inputs that depend on the prompts alone.
pub(super) struct Denoiser<R: Runner> {
    program: R::Program,
    /// In f32, once a step overflowed 16 bits; used from then on.
    f32: Option<R::Program>,
    shape: UNetShape,
    conditioning: Conditioning<R::Tensor>,
}

/// Inputs by name.
type Inputs<T> = Vec<(String, T)>;

/// How the prompts reach the UNet.
pub(super) enum Conditioning<T> {
    /// The prompt alone, without guidance.
    Prompt(Inputs<T>),
    /// The negative prompt and the prompt in one batch.
    Both(Inputs<T>),
    /// One after the other, where the device cannot hold both.
    Apart { negative: Inputs<T>, prompt: Inputs<T> },
}

impl<R: Runner> Denoiser<R> {
    pub fn new(program: R::Program, shape: UNetShape, conditioning: Conditioning<R::Tensor>) -> Self {
        Denoiser { program, f32: None, shape, conditioning }
    }
}

impl<R: Runner> Setup<R> {
    /// One call of the UNet and the sampler's arithmetic on its result; again in f32 where 16 bits were not enough, which is
    /// what it returns.
    pub async fn denoise(
        &self,
        ready: &mut Ready<R>,
        picture: &mut Picture<R::Tensor>,
        report: &mut dyn FnMut(u64) -> bool,
    ) -> Result<bool> {
        let runner = &*self.runner;
        let stage = format!("step {}", picture.step_idx + 1);
        let step = &self.schedule.steps[picture.step_idx];
        let repaint = ready.start_picture.as_ref().and_then(|start| start.repaint.as_ref());
        let denoiser = &mut ready.denoiser;
        let noise = if step.draws_noise {
            let values = self.draw(&mut picture.generator);
            Some(runner.upload(&values, &self.latent_shape())?)
        } else {
            None
        };
        let mut repeated = false;
        loop {
            let output = self.predict(denoiser, picture, step, report).await?;
            let state = self.advance(repaint, picture, step, &output, noise.as_ref()).await?;
            if runner.count_non_finite(&state.latents).await? == 0 {
                picture.state = state;
                picture.output = Some(output);
                picture.step_idx += 1;
                return Ok(repeated);
            }
            if denoiser.f32.is_some() {
                return self.not_finite(stage, &self.parts_of_step()).await;
            }
            let graph = step_graph(&self.model.configs.unet, denoiser.shape)?;
            denoiser.f32 = runner.prepare_f32(graph).await?;
            if denoiser.f32.is_none() {
                return self.not_finite(stage, &self.parts_of_step()).await;
            }
            repeated = true;
        }
    }

    /// The UNet's output for a picture's latents, with guidance.
    async fn predict(
        &self,
        denoiser: &Denoiser<R>,
        picture: &Picture<R::Tensor>,
        step: &SamplerStep,
        report: &mut dyn FnMut(u64) -> bool,
    ) -> Result<R::Tensor> {
        let runner = &*self.runner;
        let program = denoiser.f32.as_ref().unwrap_or(&denoiser.program);
        let weights = self.model.part_with(runner, Part::Unet, &self.loras, &mut |_| report(0)).await?;
        let mut input = picture.state.latents.clone();
        if step.input_scale != 1.0 {
            input = runner.lincomb(&[(step.input_scale, &input)], None)?;
        }
        if let Some(beside) = &picture.beside {
            input = runner.concat(&[&input, beside], 3)?;
        }
        let batch = denoiser.shape.batch;
        if batch == 2 {
            input = runner.concat(&[&input, &input], 0)?;
        }
        let timestep = runner.upload(&vec![step.timestep as f32; batch], &[batch])?;
        let run = async |conditioning: &Inputs<R::Tensor>, report: &mut dyn FnMut(u64) -> bool| {
            let mut inputs: Vec<(&str, &R::Tensor)> = vec![("sample", &input), ("timestep", &timestep)];
            inputs.extend(conditioning.iter().map(|(name, value)| (name.as_str(), value)));
            runner.run(program, &weights, &inputs, report).await.map(|mut outputs| outputs.swap_remove(0))
        };
        let [negative, positive] = match &denoiser.conditioning {
            Conditioning::Prompt(prompt) => return run(prompt, report).await,
            Conditioning::Both(both) => {
                let both = run(both, report).await?;
                [runner.slice(&both, 0, 0, 1)?, runner.slice(&both, 0, 1, 1)?]
            }
            Conditioning::Apart { negative, prompt } => {
                let negative = run(negative, report).await?;
                // One run for each prompt is half of a guided step.
                let half = self.work.step / 2;
                [negative, run(prompt, &mut |flops| report(half + flops)).await?]
            }
        };
        let scale = self.inputs.config.guidance_scale;
        runner.lincomb(&[(1.0 - scale, &negative), (scale, &positive)], None)
    }

    /// The sampler's arithmetic, and the blending of a 4-channel model.
    async fn advance(
        &self,
        repaint: Option<&Repaint<R::Tensor>>,
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
            let sum = match update.limit {
                None => runner.lincomb(&terms, None)?,
                Some(Limit::Clip(range)) => runner.lincomb(&terms, Some((-range, range)))?,
                Some(Limit::Dynamic { ratio, max }) => {
                    let sum = runner.lincomb(&terms, None)?;
                    let bound = Limit::dynamic_bound(&runner.download(&sum).await?, ratio, max);
                    let cut = runner.lincomb(&[(1.0, &sum)], Some((-bound, bound)))?;
                    runner.lincomb(&[(1.0 / bound, &cut)], None)?
                }
            };
            match update.target {
                Slot::Latents => state.latents = sum,
                Slot::Buffer(idx) => state.buffers[idx] = Some(sum),
                Slot::ModelOutput | Slot::Noise => {
                    return refuse("sampler", format!("writes {:?}", update.target), "every other sampler works");
                }
            }
        }
        if let (Some((image, noise)), Some(repaint)) = (&picture.blend, repaint) {
            let known = match step.renoise {
                Some((keep, add)) => runner.lincomb(&[(keep, image), (add, noise)], None)?,
                None => image.clone(),
            };
            state.latents = runner.blend(&repaint.mask_latents, &state.latents, &known)?;
        }
        Ok(state)
    }
}
