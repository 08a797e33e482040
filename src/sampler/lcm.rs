//! Latent consistency models (arXiv 2310.04378), after diffusers' `LCMScheduler`: each call predicts the picture, which
//! all steps but the last bring back to a lower noise level.
//!
//! The timesteps are a subset of those the checkpoint was distilled on (`original_inference_steps`).

use crate::error::{Error, Result};

use super::ddim::Levels;
use super::{Lincomb, SamplerStep, Schedule, Settings, Slot, Steps, Sum};

/// The standard deviation of the data that the boundary condition assumes.
const SIGMA_DATA: f64 = 0.5;

pub(super) fn schedule(settings: &Settings, n_steps: usize, n_skipped: usize) -> Result<Schedule> {
    visiting(settings, timesteps(settings, n_steps, 1.0)?.split_off(n_skipped))
}

/// Image-to-image as diffusers' LatentConsistencyModelImg2ImgPipeline does it: all steps are done, among the part of the
/// distillation's timesteps that the strength leaves.
pub(super) fn schedule_of_strength(settings: &Settings, n_steps: usize, strength: f64) -> Result<Schedule> {
    visiting(settings, timesteps(settings, n_steps, strength)?)
}

fn visiting(settings: &Settings, visited: Vec<i64>) -> Result<Schedule> {
    let levels = Levels::new(settings)?;
    let steps = visited.iter().enumerate().map(|(i, &timestep)| {
        let next = visited.get(i + 1).map(|&next| levels.add_noise(next));
        SamplerStep {
            timestep: timestep as f64,
            input_scale: 1.0,
            draws_noise: next.is_some(),
            updates: updates(settings, timestep, levels.add_noise(timestep), next.unwrap_or((1.0, 0.0))),
            renoise: next,
        }
    });
    Ok(Schedule::new(1.0, levels.add_noise(visited[0]), steps.collect()))
}

/// Evenly chosen among the part of the distillation's timesteps that the strength leaves, noisiest first; or those that the
/// caller chose.
pub(super) fn timesteps(settings: &Settings, n_steps: usize, strength: f64) -> Result<Vec<i64>> {
    if let Some(Steps::Timesteps(timesteps)) = &settings.given {
        return Ok(timesteps.iter().map(|&t| t as i64).collect());
    }
    let n_original = settings.original_inference_steps;
    if n_original == 0 || n_original > settings.num_train_timesteps {
        let what = format!("original_inference_steps {n_original}");
        return Err(settings.unsupported(&what, &format!("1 to {} work", settings.num_train_timesteps)));
    }
    if n_steps > n_original {
        return Err(Error::Request {
            field: "steps",
            got: n_steps.to_string(),
            expected: format!("{} works with 1 to {n_original} steps with this checkpoint", settings.kind),
        });
    }
    let stride = settings.num_train_timesteps / n_original;
    // Truncated, as Python's `int` does.
    let n_original = (n_original as f64 * strength) as usize;
    if n_original < n_steps {
        return Err(Error::Request {
            field: "strength",
            got: strength.to_string(),
            expected: format!("it leaves {n_original} of this checkpoint's steps: more strength or fewer steps work"),
        });
    }
    let spread = n_original as f64 / n_steps as f64;
    let visited = (0..n_steps).map(|i| {
        let from_noisiest = (i as f64 * spread).floor() as usize;
        ((n_original - from_noisiest) * stride) as i64 - 1
    });
    Ok(visited.collect())
}

fn updates(settings: &Settings, timestep: i64, level: (f64, f64), next: (f64, f64)) -> Vec<Lincomb> {
    let scaled = timestep as f64 * settings.timestep_scaling;
    let c_skip = SIGMA_DATA * SIGMA_DATA / (scaled * scaled + SIGMA_DATA * SIGMA_DATA);
    let c_out = scaled / scaled.hypot(SIGMA_DATA);
    let (alpha_next, sigma_next) = next;
    let original = settings.prediction.original(level.0, level.1);
    let from = |original: &Sum| {
        let denoised = Sum::of(alpha_next * c_skip, Slot::Latents).plus_sum(alpha_next * c_out, original);
        denoised.plus(sigma_next, Slot::Noise).into_update(Slot::Latents)
    };
    match settings.limit {
        None => vec![from(&original)],
        Some(limit) => {
            vec![original.into_limited_update(Slot::Buffer(0), limit), from(&Sum::of(1.0, Slot::Buffer(0)))]
        }
    }
}
