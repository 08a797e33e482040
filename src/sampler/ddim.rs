//! DDIM (arXiv 2010.02502, equation 12), after diffusers' `DDIMScheduler`.
//!
//! No history is kept, and noise is drawn only where eta is above 0; a buffer is needed only where the predicted picture
//! is held in bounds.

use crate::error::Result;

use super::betas::AlphasCumprod;
use super::{Lincomb, SamplerStep, Schedule, Settings, Slot, Steps, Sum, timesteps};

/// The noise levels of samplers that look them up by whole timesteps (DDIM, DDPM, PNDM, LCM, TCD).
pub(super) struct Levels {
    products: AlphasCumprod,
    /// `alphas_cumprod` before the first training step.
    last: f64,
}

impl Levels {
    pub(super) fn new(settings: &Settings) -> Result<Self> {
        let products = AlphasCumprod::new(settings, false)?;
        let last = if settings.set_alpha_to_one { 1.0 } else { products.0[0] };
        Ok(Levels { products, last })
    }

    /// `alphas_cumprod` at a timestep; negative ones lie before the first training step.
    pub(super) fn get(&self, timestep: i64) -> f64 {
        usize::try_from(timestep).map_or(self.last, |index| self.products.0[index])
    }

    /// Coefficients of (original, noise) at a timestep.
    pub(super) fn add_noise(&self, timestep: i64) -> (f64, f64) {
        let product = self.get(timestep);
        (product.sqrt(), (1.0 - product).sqrt())
    }
}

/// Whole timesteps, checked to be in the training table.
pub(super) fn whole_timesteps(settings: &Settings, n_steps: usize) -> Result<Vec<i64>> {
    if let Some(Steps::Timesteps(timesteps)) = &settings.given {
        return Ok(timesteps.iter().map(|&t| t as i64).collect());
    }
    let visited: Vec<i64> =
        timesteps::inclusive(settings, n_steps).into_iter().map(|t| t.round_ties_even() as i64).collect();
    match visited.iter().find(|&&t| t < 0 || t >= settings.num_train_timesteps as i64) {
        Some(t) => {
            let what = format!("steps_offset {} with {n_steps} steps", settings.steps_offset);
            Err(settings.unsupported(&what, &format!("it leads to timestep {t}, where fewer steps or offset 0 work")))
        }
        None => Ok(visited),
    }
}

pub(super) fn schedule(settings: &Settings, n_steps: usize, n_skipped: usize) -> Result<Schedule> {
    let levels = Levels::new(settings)?;
    let visited = whole_timesteps(settings, n_steps)?.split_off(n_skipped);
    let stride = (settings.num_train_timesteps / n_steps) as i64;
    let steps = visited.iter().enumerate().map(|(i, &timestep)| SamplerStep {
        timestep: timestep as f64,
        input_scale: 1.0,
        draws_noise: settings.eta > 0.0,
        updates: updates(settings, levels.get(timestep), levels.get(timestep - stride)),
        renoise: visited.get(i + 1).map(|&next| levels.add_noise(next)),
    });
    Ok(Schedule::new(1.0, levels.add_noise(visited[0]), steps.collect()))
}

fn updates(settings: &Settings, product: f64, product_next: f64) -> Vec<Lincomb> {
    let (alpha, sigma) = (product.sqrt(), (1.0 - product).sqrt());
    let original = settings.prediction.original(alpha, sigma);
    let noise = settings.prediction.noise(alpha, sigma);
    let alpha_next = product_next.sqrt();
    let (of_noise, fresh) = if settings.eta > 0.0 {
        // These are small differences, so they are taken in f32 as diffusers takes them.
        let (product, product_next) = (product as f32, product_next as f32);
        let variance = (1.0 - product_next) / (1.0 - product) * (1.0 - product / product_next);
        let fresh = settings.eta as f32 * variance.sqrt();
        ((1.0 - product_next - fresh * fresh).sqrt().into(), fresh.into())
    } else {
        ((1.0 - product_next).sqrt(), 0.0)
    };
    let next = |original: &Sum| {
        Sum::default()
            .plus_sum(alpha_next, original)
            .plus_sum(of_noise, &noise)
            .plus(fresh, Slot::Noise)
            .into_update(Slot::Latents)
    };
    match settings.limit {
        None => vec![next(&original)],
        // The noise stays as predicted; diffusers does not derive it again from the clipped picture.
        Some(limit) => vec![original.into_limited_update(Slot::Buffer(0), limit), next(&Sum::of(1.0, Slot::Buffer(0)))],
    }
}
