//! DDPM's ancestral sampling (arXiv 2006.11239, equations 6 and 7), after diffusers' `DDPMScheduler`: the mean of the
//! posterior between two timesteps, and noise of its variance.
//!
//! The differences of neighbouring products are small, so they are taken in f32 as diffusers takes them. Learned variances
//! are not here: no Stable Diffusion model has them.

use crate::error::Result;

use super::ddim::{Levels, whole_timesteps};
use super::{Lincomb, SamplerStep, Schedule, Settings, Slot, Sum};

/// `variance_type` of a scheduler config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variance {
    FixedSmall,
    FixedLarge,
}

/// diffusers' smallest variance.
const SMALLEST_VARIANCE: f32 = 1e-20;

pub(super) fn schedule(settings: &Settings, n_steps: usize, n_skipped: usize) -> Result<Schedule> {
    let levels = Levels::new(settings)?;
    let visited = whole_timesteps(settings, n_steps)?.split_off(n_skipped);
    let steps = visited.iter().enumerate().map(|(i, &timestep)| {
        let next = visited.get(i + 1).copied();
        // Behind the last timestep lies the picture itself.
        let product_next = next.map_or(1.0, |next| levels.get(next));
        SamplerStep {
            timestep: timestep as f64,
            input_scale: 1.0,
            draws_noise: timestep > 0,
            updates: updates(settings, levels.get(timestep) as f32, product_next as f32, timestep > 0),
            renoise: next.map(|next| levels.add_noise(next)),
        }
    });
    Ok(Schedule::new(1.0, levels.add_noise(visited[0]), steps.collect()))
}

fn updates(settings: &Settings, product: f32, product_next: f32, is_noisy: bool) -> Vec<Lincomb> {
    let (rest, rest_next) = (1.0 - product, 1.0 - product_next);
    let alpha = product / product_next;
    let beta = 1.0 - alpha;
    let of_original = product_next.sqrt() * beta / rest;
    let of_latents = alpha.sqrt() * rest_next / rest;
    let small = (rest_next / rest * beta).max(SMALLEST_VARIANCE);
    let of_noise = match settings.variance {
        _ if !is_noisy => 0.0,
        Variance::FixedSmall => small.sqrt(),
        Variance::FixedLarge => beta.sqrt(),
    };
    let original = settings.prediction.original(f64::from(product).sqrt(), f64::from(rest).sqrt());
    let next = |original: &Sum| {
        Sum::of(of_latents.into(), Slot::Latents)
            .plus_sum(of_original.into(), original)
            .plus(of_noise.into(), Slot::Noise)
            .into_update(Slot::Latents)
    };
    match settings.limit {
        None => vec![next(&original)],
        Some(limit) => {
            vec![original.into_limited_update(Slot::Buffer(0), limit), next(&Sum::of(1.0, Slot::Buffer(0)))]
        }
    }
}
