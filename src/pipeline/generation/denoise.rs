//! Stage 7: one call of the UNet and the sampler's arithmetic on its result.

use std::rc::Rc;

use super::{Generation, Picture, State, not_finite, refuse};
use crate::error::Result;
use crate::model::unet::step_graph;
use crate::pipeline::components::Part;
use crate::run::Runner;
use crate::sampler::{Limit, SamplerStep, Slot};

impl<R: Runner> Generation<R> {
    /// 7. One call of the UNet and the sampler's arithmetic on its result; again in f32 where 16 bits were not enough.
    pub(super) async fn denoise(&mut self, report: &mut dyn FnMut(u64) -> bool) -> Result<bool> {
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
            let state = self.advance(&picture, &step, &output, noise.as_ref()).await?;
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
        let weights = self.model.part(runner, Part::Unet, &mut |_| report(0)).await?;
        let mut input = picture.state.latents.clone();
        if step.input_scale != 1.0 {
            input = runner.lincomb(&[(step.input_scale, &input)], None)?;
        }
        if let Some(beside) = &picture.beside {
            input = runner.concat(&[&input, beside], 3)?;
        }
        let guided = self.model.configs.is_guided(config.guidance_scale);
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
    async fn advance(
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
        if let (Some((image, noise)), Some(inpainting)) = (&picture.blend, &self.inpainting) {
            let known = match step.renoise {
                Some((keep, add)) => runner.lincomb(&[(keep, image), (add, noise)], None)?,
                None => image.clone(),
            };
            state.latents = runner.blend(&inpainting.mask_latents, &state.latents, &known)?;
        }
        Ok(state)
    }
}
