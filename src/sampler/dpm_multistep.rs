//! DPM-Solver++ multistep (arXiv 2211.01095, algorithm 2) and its stochastic form, after diffusers'
//! `DPMSolverMultistepScheduler`. The names say second order; orders 1 and 3 come with `solver_order` of the config.
//!
//! Predicted pictures of earlier steps rotate in as many buffers as the order, so that none is ever copied.

use crate::error::Result;

use super::settings::SolverType;
use super::sigmas::{FinalSigma, scaled_run};
use super::{SamplerStep, Schedule, Settings, Slot, Sum};

/// With fewer timesteps than this, the last steps are taken with a lower order.
const FEW_TIMESTEPS: usize = 15;

/// `latents = alpha · picture + sigma · noise` with `alpha² + sigma² = 1`, and `lambda = ln(alpha / sigma)`.
///
/// f32 values, widened: diffusers rounds them, and the differences of lambda are so small that the rounding counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    pub(super) alpha: f64,
    pub(super) sigma: f64,
    pub(super) lambda: f64,
}

impl Level {
    /// From the ratio `sigma / alpha`; zero is the picture without noise, with an infinite lambda.
    pub(super) fn new(ratio: f64) -> Self {
        let ratio = ratio as f32;
        let alpha = 1.0 / (ratio * ratio + 1.0).sqrt();
        let sigma = ratio * alpha;
        let log = |value: f32| f64::from(value).ln() as f32;
        let lambda = log(alpha) - log(sigma);
        Level { alpha: alpha.into(), sigma: sigma.into(), lambda: lambda.into() }
    }
}

/// Coefficients of the solution over one interval, as exact as the model is constant over it.
pub(super) struct Interval {
    pub(super) of_latents: f64,
    /// Of the predicted picture; the higher orders scale differences of predictions with it, too.
    pub(super) of_original: f64,
    pub(super) of_noise: f64,
    /// Of the first difference with solver type heun.
    pub(super) of_first: f64,
    /// Of the second difference.
    pub(super) of_second: f64,
}

impl Interval {
    pub(super) fn new(settings: &Settings, from: Level, to: Level) -> Self {
        let h = to.lambda - from.lambda;
        if settings.stochastic {
            let decay = (-2.0 * h).exp_m1();
            Interval {
                of_latents: to.sigma / from.sigma * (-h).exp(),
                of_original: -to.alpha * decay,
                of_noise: to.sigma * (-decay).sqrt(),
                of_first: to.alpha * (decay / (2.0 * h) + 1.0),
                of_second: to.alpha * ((-decay - 2.0 * h) / (4.0 * h * h) - 0.5),
            }
        } else {
            let decay = (-h).exp_m1();
            Interval {
                of_latents: to.sigma / from.sigma,
                of_original: -to.alpha * decay,
                of_noise: 0.0,
                of_first: to.alpha * (decay / h + 1.0),
                of_second: -to.alpha * ((decay + h) / (h * h) - 0.5),
            }
        }
    }
}

pub(super) fn schedule(settings: &Settings, n_steps: usize, n_skipped: usize) -> Result<Schedule> {
    let run = scaled_run(settings, n_steps)?;
    let levels: Vec<Level> = run.sigmas.iter().map(|&ratio| Level::new(ratio)).collect();
    let n_timesteps = run.timesteps.len();
    let n_buffers = settings.solver_order.min(n_timesteps - n_skipped);
    let steps = (n_skipped..n_timesteps).map(|i| {
        let order = order_at(settings, i, i - n_skipped, n_timesteps);
        let original = |age: usize| Slot::Buffer((i - age) % n_buffers);
        let prediction = settings.prediction.original(levels[i].alpha, levels[i].sigma);
        let interval = Interval::new(settings, levels[i], levels[i + 1]);
        let first_order = Sum::of(interval.of_latents, Slot::Latents).plus(interval.of_original, original(0));
        let weights = differences(settings, order, i, &levels, &interval);
        let next = weights.iter().enumerate().fold(first_order, |sum, (age, &weight)| sum.plus(weight, original(age)));
        let next = if settings.stochastic { next.plus(interval.of_noise, Slot::Noise) } else { next };
        SamplerStep {
            timestep: run.timesteps[i],
            input_scale: 1.0,
            draws_noise: settings.stochastic,
            updates: vec![prediction.into_update(original(0)), next.into_update(Slot::Latents)],
            renoise: (i + 1 < n_timesteps).then(|| (levels[i + 1].alpha, levels[i + 1].sigma)),
        }
    });
    Ok(Schedule::new(1.0, (levels[n_skipped].alpha, levels[n_skipped].sigma), steps.collect()))
}

/// The order of step `i`, of which `n_before` were taken before it.
fn order_at(settings: &Settings, i: usize, n_before: usize, n_timesteps: usize) -> usize {
    let lower_at_end = settings.lower_order_final && n_timesteps < FEW_TIMESTEPS;
    let is_last = i + 1 == n_timesteps;
    if is_last && (settings.euler_at_final || lower_at_end || settings.final_sigma == FinalSigma::Zero) {
        return 1;
    }
    let limit = if i + 2 == n_timesteps && lower_at_end { 2 } else { 3 };
    settings.solver_order.min(n_before + 1).min(limit)
}

/// What the higher orders add: weights of the predictions, newest first.
fn differences(settings: &Settings, order: usize, i: usize, levels: &[Level], interval: &Interval) -> Vec<f64> {
    let h = levels[i + 1].lambda - levels[i].lambda;
    match order {
        1 => Vec::new(),
        2 => {
            let r0 = (levels[i].lambda - levels[i - 1].lambda) / h;
            let of_difference = match settings.solver_type {
                SolverType::Heun => interval.of_first,
                _ => 0.5 * interval.of_original,
            };
            vec![of_difference / r0, -of_difference / r0]
        }
        _ => {
            let r0 = (levels[i].lambda - levels[i - 1].lambda) / h;
            let r1 = (levels[i - 1].lambda - levels[i - 2].lambda) / h;
            // The first difference is extrapolated to the start of the interval with the second one.
            let (newer, older) = (1.0 / r0, 1.0 / r1);
            let first = interval.of_first * (1.0 + r0 / (r0 + r1)) + interval.of_second / (r0 + r1);
            let second = -(interval.of_first * r0 / (r0 + r1) + interval.of_second / (r0 + r1));
            vec![first * newer, -first * newer + second * older, -second * older]
        }
    }
}
