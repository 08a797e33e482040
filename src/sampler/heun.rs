//! Heun's method (arXiv 2206.00364, algorithm 1), after diffusers' `HeunDiscreteScheduler`: an Euler step, then a
//! second model call at its end whose derivative is averaged in. The last step is Euler's alone.
//!
//! What the second call needs of the first is written ahead as half of the result, so neither the latents nor the
//! derivative are copied.

use crate::error::Result;

use super::sigmas::unscaled_run;
use super::{Lincomb, SamplerStep, Schedule, Settings, Slot, Sum};

/// The half of a step's result that is known after its first call.
const HALF: Slot = Slot::Buffer(0);
/// The clipped prediction of the picture, where the config clips.
const CLIPPED: Slot = Slot::Buffer(1);

pub(super) fn schedule(settings: &Settings, n_steps: usize, n_skipped: usize) -> Result<Schedule> {
    let run = unscaled_run(settings, n_steps)?;
    let last = run.timesteps.len() - 1;
    let mut steps = Vec::new();
    for i in n_skipped..=last {
        let (sigma, sigma_next) = (run.sigmas[i], run.sigmas[i + 1]);
        let renoise = (i < last).then_some((1.0, sigma_next));
        let call = |at: usize, updates: Vec<Lincomb>| SamplerStep {
            timestep: run.timesteps[at],
            input_scale: 1.0 / run.sigmas[at].hypot(1.0),
            draws_noise: false,
            updates,
            renoise,
        };
        steps.push(call(i, first_call(settings, sigma, sigma_next, i == last)));
        if i < last {
            steps.push(call(i + 1, second_call(settings, sigma, sigma_next)));
        }
    }
    Ok(Schedule::new(run.init_noise_sigma(settings), (1.0, run.sigmas[n_skipped]), steps))
}

fn first_call(settings: &Settings, sigma: f64, sigma_next: f64, is_last: bool) -> Vec<Lincomb> {
    let (mut updates, original) = original(settings, sigma);
    let ratio = (sigma_next - sigma) / sigma;
    let along = |part: f64| Sum::of(1.0 + part * ratio, Slot::Latents).plus_sum(-part * ratio, &original);
    if !is_last {
        updates.push(along(0.5).into_update(HALF));
    }
    updates.push(along(1.0).into_update(Slot::Latents));
    updates
}

fn second_call(settings: &Settings, sigma: f64, sigma_next: f64) -> Vec<Lincomb> {
    let (mut updates, original) = original(settings, sigma_next);
    let half = 0.5 * (sigma_next - sigma) / sigma_next;
    updates.push(Sum::of(1.0, HALF).plus(half, Slot::Latents).plus_sum(-half, &original).into_update(Slot::Latents));
    updates
}

/// The predicted picture, and the update that clips it first where the config says so.
fn original(settings: &Settings, sigma: f64) -> (Vec<Lincomb>, Sum) {
    let original = settings.prediction.original_unscaled(sigma);
    match settings.limit {
        None => (Vec::new(), original),
        Some(limit) => (vec![original.into_limited_update(CLIPPED, limit)], Sum::of(1.0, CLIPPED)),
    }
}
