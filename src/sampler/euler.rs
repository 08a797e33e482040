//! Euler's method on the probability-flow ODE (arXiv 2206.00364, algorithm 2 without churn), after diffusers'
//! `EulerDiscreteScheduler`. Latents stay unscaled: `picture + sigma · noise`.

use crate::error::Result;

use super::sigmas::unscaled_run;
use super::{SamplerStep, Schedule, Settings, Slot, Sum};

pub(super) fn schedule(settings: &Settings, n_steps: usize, n_skipped: usize) -> Result<Schedule> {
    let run = unscaled_run(settings, n_steps)?;
    let steps = (n_skipped..run.timesteps.len()).map(|i| {
        let (sigma, sigma_next) = (run.sigmas[i], run.sigmas[i + 1]);
        // In f32, because without a signal at the first step sigma is in the thousands and the rounding shows.
        let change = f64::from(sigma_next as f32 - sigma as f32);
        SamplerStep {
            timestep: run.timesteps[i],
            input_scale: 1.0 / sigma.hypot(1.0),
            draws_noise: false,
            updates: vec![
                euler_update(&settings.prediction.original_unscaled(sigma), sigma, change).into_update(Slot::Latents),
            ],
            renoise: (i + 1 < run.timesteps.len()).then_some((1.0, sigma_next)),
        }
    });
    Ok(Schedule::new(run.init_noise_sigma(settings), (1.0, run.sigmas[n_skipped]), steps.collect()))
}

/// Latents led along the derivative `(latents - original) / sigma` for a change of sigma.
pub(super) fn euler_update(original: &Sum, sigma: f64, change: f64) -> Sum {
    let ratio = change / sigma;
    Sum::of(1.0 + ratio, Slot::Latents).plus_sum(-ratio, original)
}
