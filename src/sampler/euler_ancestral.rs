//! Euler's method with ancestral noise, after diffusers' `EulerAncestralDiscreteScheduler`: each step goes down further
//! than its target level and adds fresh noise up to it.

use crate::error::Result;

use super::euler::euler_update;
use super::sigmas::unscaled_run;
use super::{SamplerStep, Schedule, Settings, Slot};

pub(super) fn schedule(settings: &Settings, n_steps: usize, n_skipped: usize) -> Result<Schedule> {
    let run = unscaled_run(settings, n_steps)?;
    let steps = (n_skipped..run.timesteps.len()).map(|i| {
        let (sigma, sigma_next) = (run.sigmas[i], run.sigmas[i + 1]);
        let (sigma_down, sigma_up) = down_and_up(sigma as f32, sigma_next as f32);
        let change = f64::from(sigma_down - sigma as f32);
        let original = settings.prediction.original_unscaled(sigma);
        let update = euler_update(&original, sigma, change).plus(f64::from(sigma_up), Slot::Noise);
        SamplerStep {
            timestep: run.timesteps[i],
            input_scale: 1.0 / sigma.hypot(1.0),
            draws_noise: true,
            updates: vec![update.into_update(Slot::Latents)],
            renoise: (i + 1 < run.timesteps.len()).then_some((1.0, sigma_next)),
        }
    });
    Ok(Schedule::new(run.init_noise_sigma(settings), (1.0, run.sigmas[n_skipped]), steps.collect()))
}

/// Splits the next level into what Euler's method leads to and what noise adds: `down² + up² = next²`.
///
/// In f32 and in diffusers' order, because these differences of squares lose up to 1e-5 to rounding.
pub(super) fn down_and_up(sigma: f32, sigma_next: f32) -> (f32, f32) {
    let (square, next_square) = (sigma * sigma, sigma_next * sigma_next);
    let up = (next_square * (square - next_square) / square).sqrt();
    let down = (next_square - up * up).sqrt();
    (down, up)
}
