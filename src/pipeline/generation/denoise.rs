//! Stage 7: one call of the UNet and the sampler's arithmetic on its result.

use super::condition::{Conditioner, runs_of};
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
    conditioner: Conditioner<R>,
}

impl<R: Runner> Denoiser<R> {
    pub fn new(program: R::Program, shape: UNetShape, conditioner: Conditioner<R>) -> Self {
        Denoiser { program, f32: None, shape, conditioner }
    }

    /// Drops what was computed from the prompts, after the last step of all.
    pub fn forget_conditioning(&mut self) {
        self.conditioner.forget();
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
        denoiser: &mut Denoiser<R>,
        picture: &Picture<R::Tensor>,
        step: &SamplerStep,
        report: &mut dyn FnMut(u64) -> bool,
    ) -> Result<R::Tensor> {
        let runner = &*self.runner;
        let Denoiser { program, f32, shape, conditioner } = denoiser;
        let program = f32.as_ref().unwrap_or(program);
        let weights = self.model.part_with(runner, Part::Unet, &self.loras, &mut |_| report(0)).await?;
        let mut input = picture.state.latents.clone();
        if step.input_scale != 1.0 {
            input = runner.lincomb(&[(step.input_scale, &input)], None)?;
        }
        if let Some(beside) = &picture.beside {
            input = runner.concat(&[&input, beside], 3)?;
        }
        let batch = shape.batch;
        if batch == 2 {
            input = runner.concat(&[&input, &input], 0)?;
        }
        let timestep = runner.upload(&vec![step.timestep as f32; batch], &[batch])?;
        let mix = self.mix(picture.step_idx);
        // Guided texts go in pairs, also where the UNet runs for one after the other.
        let run_len = if self.is_guided() { 2 } else { 1 };
        let mut outputs = Vec::with_capacity(mix.texts.len() + 1);
        for run in runs_of(&mix, run_len) {
            for conditioning in conditioner.inputs(self, &run, report).await?.iter() {
                let mut inputs: Vec<(&str, &R::Tensor)> = vec![("sample", &input), ("timestep", &timestep)];
                inputs.extend(conditioning.iter().map(|(name, value)| (name.as_str(), value)));
                if outputs.len() == mix.texts.len() {
                    // What fills a run up is not computed where texts run one after the other.
                    break;
                }
                let output = runner.run(program, &weights, &inputs, report).await?.swap_remove(0);
                if batch == 1 {
                    outputs.push(output);
                    continue;
                }
                for idx in 0..batch {
                    outputs.push(runner.slice(&output, 0, idx, 1)?);
                }
            }
        }
        if let ([only], [1.0]) = (&outputs[..], &mix.factors[..]) {
            return Ok(only.clone());
        }
        let terms: Vec<(f64, &R::Tensor)> = mix.factors.iter().copied().zip(&outputs).collect();
        runner.lincomb(&terms, None)
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
