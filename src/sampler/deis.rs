//! DEIS multistep (arXiv 2204.13902) in its log-rho form, after diffusers' `DEISMultistepScheduler`: polynomials through
//! the predicted noise of earlier steps, integrated over `rho = sigma / alpha` in the logarithm.
//!
//! Predictions rotate in as many buffers as the order. Coefficients are differences of much larger numbers, so they are
//! worked out in f32 in diffusers' order.

use crate::error::Result;

use super::dpm_multistep::{Level, order_at};
use super::sigmas::scaled_run;
use super::{SamplerStep, Schedule, Settings, Slot, Sum};

pub(super) fn schedule(settings: &Settings, n_steps: usize, n_skipped: usize) -> Result<Schedule> {
    let run = scaled_run(settings, n_steps, n_skipped)?;
    let levels: Vec<Level> = run.sigmas.iter().map(|&ratio| Level::new(ratio)).collect();
    let n_timesteps = run.timesteps.len();
    let n_buffers = settings.solver_order.min(n_timesteps - n_skipped);
    let steps = (n_skipped..n_timesteps).map(|i| {
        let noise = |age: usize| Slot::Buffer((i - age) % n_buffers);
        let order = order_at(settings, i, i - n_skipped, n_timesteps);
        let (from, to) = (levels[i], levels[i + 1]);
        let rho: Vec<f32> = (0..order).map(|age| rho(levels[i - age])).collect();
        let weights: Vec<f32> = match order {
            1 => {
                let growth = f64::from(to.lambda as f32 - from.lambda as f32).exp() as f32 - 1.0;
                vec![-(to.sigma as f32) * growth]
            }
            _ => (0..order).map(|own| to.alpha as f32 * weight(self::rho(to), &rho, own)).collect(),
        };
        let start = Sum::of(f64::from(to.alpha as f32 / from.alpha as f32), Slot::Latents);
        let next = weights.iter().enumerate().fold(start, |sum, (age, &weight)| sum.plus(weight.into(), noise(age)));
        let mut updates = from.prediction(settings, noise(0));
        updates.push(next.into_update(Slot::Latents));
        SamplerStep {
            timestep: run.timesteps[i],
            input_scale: 1.0,
            draws_noise: false,
            updates,
            renoise: (i + 1 < n_timesteps).then_some((to.alpha, to.sigma)),
        }
    });
    Ok(Schedule::new(1.0, (levels[n_skipped].alpha, levels[n_skipped].sigma), steps.collect()))
}

fn rho(level: Level) -> f32 {
    level.sigma as f32 / level.alpha as f32
}

/// The integral over the step, to level `to`, of the polynomial in `ln rho` that is 1 at node `own` and 0 at the others.
fn weight(to: f32, nodes: &[f32], own: usize) -> f32 {
    let log = |value: f32| f64::from(value).ln() as f32;
    let own_log = log(nodes[own]);
    // The other nodes in diffusers' order: those behind it, then from the front.
    let others: Vec<f32> = (1..nodes.len()).map(|ahead| log(nodes[(own + ahead) % nodes.len()])).collect();
    let antiderivative = |at: f32| {
        let at_log = log(at);
        match others[..] {
            [c, d] => {
                let numerator = at * (c * (d - at_log + 1.0) - d * at_log + d + at_log * at_log - 2.0 * at_log + 2.0);
                numerator / ((own_log - c) * (own_log - d))
            }
            [c, ..] => at * (-c + at_log - 1.0) / (own_log - c),
            [] => at,
        }
    };
    antiderivative(to) - antiderivative(nodes[0])
}
