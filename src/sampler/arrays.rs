//! A run on lists of numbers in memory: for whoever has a model of their own and wants the samplers alone.

use super::{Limit, Lincomb, Schedule, Slot};
use crate::error::{Error, Result};

/// The latents of one run, with what its sampler remembers. All lists have one length and one layout, whichever it is: a
/// sampler treats each value alike. Sums are made in f64 and rounded once.
///
/// Each step: the model sees [`ArrayRun::input`] at [`ArrayRun::timestep`], and [`ArrayRun::step`] takes what it returned.
#[derive(Clone, Debug)]
pub struct ArrayRun<'s> {
    schedule: &'s Schedule,
    latents: Vec<f32>,
    buffers: Vec<Vec<f32>>,
    step_idx: usize,
}

fn refuse<T>(field: &'static str, got: usize, expected: &str) -> Result<T> {
    Err(Error::Request { field, got: format!("with {got} values"), expected: expected.into() })
}

impl<'s> ArrayRun<'s> {
    /// Starts from standard normal noise, as text to image does.
    #[must_use]
    pub fn from_noise(schedule: &'s Schedule, noise: &[f32]) -> Self {
        let scaled = |value: &f32| (schedule.init_noise_sigma * f64::from(*value)) as f32;
        Self::from_latents(schedule, noise.iter().map(scaled).collect())
    }

    /// Starts from latents and standard normal noise, as image to image does.
    ///
    /// # Errors
    /// [`Error::Request`] where the two have not the same length.
    pub fn from_original(schedule: &'s Schedule, original: &[f32], noise: &[f32]) -> Result<Self> {
        if original.len() != noise.len() {
            return refuse("noise", noise.len(), &format!("as many as the latents work, {}", original.len()));
        }
        let (keep, add) = schedule.add_noise;
        let mixed = original.iter().zip(noise).map(|(x, n)| (keep * f64::from(*x) + add * f64::from(*n)) as f32);
        Ok(Self::from_latents(schedule, mixed.collect()))
    }

    /// Starts from latents that have their noise already.
    #[must_use]
    pub fn from_latents(schedule: &'s Schedule, latents: Vec<f32>) -> Self {
        // None is read before it was written.
        let buffers = vec![vec![0.0; latents.len()]; schedule.n_buffers];
        ArrayRun { schedule, latents, buffers, step_idx: 0 }
    }

    /// The timestep of the next call of the model, in training steps; `None` at the end.
    #[must_use]
    pub fn timestep(&self) -> Option<f64> {
        self.schedule.steps.get(self.step_idx).map(|step| step.timestep)
    }

    /// What the model sees in the next call: the latents, scaled.
    #[must_use]
    pub fn input(&self) -> Vec<f32> {
        let scale = self.schedule.steps.get(self.step_idx).map_or(1.0, |step| step.input_scale);
        self.latents.iter().map(|value| (scale * f64::from(*value)) as f32).collect()
    }

    /// Whether the next step wants standard normal noise.
    #[must_use]
    pub fn draws_noise(&self) -> bool {
        self.schedule.steps.get(self.step_idx).is_some_and(|step| step.draws_noise)
    }

    /// Takes what the model returned, after guidance, and goes to the next step. `noise` is read where
    /// [`ArrayRun::draws_noise`] says so.
    ///
    /// # Errors
    /// [`Error::Request`] after the last step, for a list of another length than the latents, and for noise that is missing.
    pub fn step(&mut self, output: &[f32], noise: Option<&[f32]>) -> Result<()> {
        let n = self.latents.len();
        let Some(step) = self.schedule.steps.get(self.step_idx) else {
            return refuse("model output", output.len(), "the run is over, so there is no step left");
        };
        if output.len() != n {
            return refuse("model output", output.len(), &format!("as many as the latents work, {n}"));
        }
        let noise = match (step.draws_noise, noise) {
            (true, None) => return refuse("noise", 0, &format!("this step draws noise: give {n} values")),
            (true, Some(noise)) if noise.len() != n => {
                return refuse("noise", noise.len(), &format!("as many as the latents work, {n}"));
            }
            (draws, noise) => noise.filter(|_| draws).unwrap_or_default(),
        };
        let mut output = output.to_vec();
        let mut noise = noise.to_vec();
        for update in &step.updates {
            let result = self.sum_of(update, &output, &noise);
            match update.target {
                Slot::Latents => self.latents = result,
                Slot::ModelOutput => output = result,
                Slot::Noise => noise = result,
                Slot::Buffer(idx) => self.buffers[idx] = result,
            }
        }
        self.step_idx += 1;
        Ok(())
    }

    /// The latents: decoded once the run is over.
    #[must_use]
    pub fn latents(&self) -> &[f32] {
        &self.latents
    }

    fn sum_of(&self, update: &Lincomb, output: &[f32], noise: &[f32]) -> Vec<f32> {
        let mut sums = vec![0.0f64; self.latents.len()];
        for &(slot, coefficient) in &update.terms {
            let values = match slot {
                Slot::Latents => &self.latents,
                Slot::ModelOutput => output,
                Slot::Noise => noise,
                Slot::Buffer(idx) => &self.buffers[idx],
            };
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += coefficient * f64::from(*value));
        }
        match update.limit {
            None => {}
            Some(Limit::Clip(range)) => sums.iter_mut().for_each(|sum| *sum = sum.clamp(-range, range)),
            Some(Limit::Dynamic { ratio, max }) => {
                let values: Vec<f32> = sums.iter().map(|sum| *sum as f32).collect();
                let bound = Limit::dynamic_bound(&values, ratio, max);
                sums.iter_mut().for_each(|sum| *sum = sum.clamp(-bound, bound) / bound);
            }
        }
        sums.into_iter().map(|sum| sum as f32).collect()
    }
}
