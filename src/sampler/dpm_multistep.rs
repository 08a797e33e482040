//! DPM-Solver++ multistep (arXiv 2211.01095, algorithm 2), the older DPM-Solver (arXiv 2206.00927) and the stochastic
//! forms of both, after diffusers' `DPMSolverMultistepScheduler`; and the first on the levels of EDM, after
//! `EDMDPMSolverMultistepScheduler`. The names say second order; orders 1 and 3 come with `solver_order` of the config.
//!
//! What is extrapolated, predicted pictures or predicted noise, rotates in as many buffers as the order, so that none is
//! ever copied.

use crate::error::Result;

use super::edm::Edm;
use super::settings::SolverType;
use super::sigmas::{FinalSigma, scaled_run};
use super::{Lincomb, SamplerKind, SamplerStep, Schedule, Settings, Slot, Sum};

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

impl Level {
    /// A level of latents that stay unscaled: `picture + sigma · noise`.
    fn unscaled(sigma: f64) -> Self {
        Level { alpha: 1.0, sigma, lambda: f64::from(-(sigma.ln() as f32)) }
    }

    /// The updates that write what the solver extrapolates, for latents with `alpha² + sigma² = 1`.
    pub(super) fn prediction(self, settings: &Settings, target: Slot) -> Vec<Lincomb> {
        let (alpha, sigma) = (self.alpha, self.sigma);
        let extrapolates_noise = settings.extrapolates_noise || settings.kind == SamplerKind::Deis;
        match settings.limit {
            None if extrapolates_noise => vec![settings.prediction.noise(alpha, sigma).into_update(target)],
            None => vec![settings.prediction.original(alpha, sigma).into_update(target)],
            Some(limit) => {
                let original = settings.prediction.original(alpha, sigma);
                let mut updates = vec![original.into_limited_update(target, limit)];
                if extrapolates_noise {
                    let noise = Sum::of(1.0 / sigma, Slot::Latents).plus(-alpha / sigma, target);
                    updates.push(noise.into_update(target));
                }
                updates
            }
        }
    }
}

/// Coefficients of the solution over one interval, as exact as the model is constant over it.
pub(super) struct Interval {
    pub(super) of_latents: f64,
    /// Of what is extrapolated; the higher orders scale differences of predictions with it, too.
    pub(super) of_prediction: f64,
    pub(super) of_noise: f64,
    /// Of the first difference with solver type heun.
    pub(super) of_first: f64,
    /// Of the second difference.
    pub(super) of_second: f64,
}

impl Interval {
    pub(super) fn new(settings: &Settings, from: Level, to: Level) -> Self {
        let h = to.lambda - from.lambda;
        if settings.extrapolates_noise {
            // Exponentials of large steps and what they are multiplied with, so diffusers' rounding to f32 shows.
            let h = h as f32;
            let grown = |h: f32| f64::from(h).exp() as f32 - 1.0;
            let (growth, sigma) = (grown(h), to.sigma as f32);
            let factor: f32 = if settings.stochastic { 2.0 } else { 1.0 };
            Interval {
                of_latents: (to.alpha as f32 / from.alpha as f32).into(),
                of_prediction: (-factor * (sigma * growth)).into(),
                of_noise: if settings.stochastic { (sigma * grown(2.0 * h).sqrt()).into() } else { 0.0 },
                of_first: (-factor * (sigma * (growth / h - 1.0))).into(),
                of_second: (-sigma * ((growth - h) / (h * h) - 0.5)).into(),
            }
        } else if settings.stochastic {
            let decay = (-2.0 * h).exp_m1();
            Interval {
                of_latents: to.sigma / from.sigma * (-h).exp(),
                of_prediction: -to.alpha * decay,
                of_noise: to.sigma * (-decay).sqrt(),
                of_first: to.alpha * (decay / (2.0 * h) + 1.0),
                of_second: to.alpha * ((-decay - 2.0 * h) / (4.0 * h * h) - 0.5),
            }
        } else {
            let decay = (-h).exp_m1();
            Interval {
                of_latents: to.sigma / from.sigma,
                of_prediction: -to.alpha * decay,
                of_noise: 0.0,
                of_first: to.alpha * (decay / h + 1.0),
                of_second: -to.alpha * ((decay + h) / (h * h) - 0.5),
            }
        }
    }
}

/// The levels of a run, and what the model is shown and told at each.
struct Grid<'a> {
    settings: &'a Settings,
    timesteps: Vec<f64>,
    levels: Vec<Level>,
}

impl Grid<'_> {
    fn new(settings: &Settings, n_steps: usize, n_skipped: usize) -> Result<Grid<'_>> {
        if let Some(edm) = &settings.edm {
            let sigmas = edm.sigmas(settings, n_steps);
            let timesteps = sigmas[..n_steps].iter().map(|&sigma| Edm::timestep(sigma)).collect();
            return Ok(Grid { settings, timesteps, levels: sigmas.into_iter().map(Level::unscaled).collect() });
        }
        let run = scaled_run(settings, n_steps, n_skipped)?;
        let levels = run.sigmas.iter().map(|&ratio| Level::new(ratio)).collect();
        Ok(Grid { settings, timesteps: run.timesteps, levels })
    }

    fn init_noise_sigma(&self) -> f64 {
        self.settings.edm.map_or(1.0, |edm| edm.init_noise_sigma())
    }

    fn input_scale(&self, i: usize) -> f64 {
        self.settings.edm.map_or(1.0, |edm| edm.input_scale(self.levels[i].sigma))
    }

    fn prediction(&self, i: usize, target: Slot) -> Vec<Lincomb> {
        let Some(edm) = &self.settings.edm else { return self.levels[i].prediction(self.settings, target) };
        let original = edm.original(self.settings.prediction, self.levels[i].sigma);
        vec![match self.settings.limit {
            None => original.into_update(target),
            Some(limit) => original.into_limited_update(target, limit),
        }]
    }
}

pub(super) fn schedule(settings: &Settings, n_steps: usize, n_skipped: usize) -> Result<Schedule> {
    let grid = Grid::new(settings, n_steps, n_skipped)?;
    let levels = &grid.levels;
    let n_timesteps = grid.timesteps.len();
    let n_buffers = settings.solver_order.min(n_timesteps - n_skipped);
    let steps = (n_skipped..n_timesteps).map(|i| {
        let order = order_at(settings, i, i - n_skipped, n_timesteps);
        let prediction = |age: usize| Slot::Buffer((i - age) % n_buffers);
        let interval = Interval::new(settings, levels[i], levels[i + 1]);
        let first_order = Sum::of(interval.of_latents, Slot::Latents).plus(interval.of_prediction, prediction(0));
        let weights = differences(settings, order, i, levels, &interval);
        let next =
            weights.iter().enumerate().fold(first_order, |sum, (age, &weight)| sum.plus(weight, prediction(age)));
        let next = if settings.stochastic { next.plus(interval.of_noise, Slot::Noise) } else { next };
        let mut updates = grid.prediction(i, prediction(0));
        updates.push(next.into_update(Slot::Latents));
        SamplerStep {
            timestep: grid.timesteps[i],
            input_scale: grid.input_scale(i),
            draws_noise: settings.stochastic,
            updates,
            renoise: (i + 1 < n_timesteps).then(|| (levels[i + 1].alpha, levels[i + 1].sigma)),
        }
    });
    let start = levels[n_skipped];
    Ok(Schedule::new(grid.init_noise_sigma(), (start.alpha, start.sigma), steps.collect()))
}

/// The order of step `i`, of which `n_before` were taken before it.
pub(super) fn order_at(settings: &Settings, i: usize, n_before: usize, n_timesteps: usize) -> usize {
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
                _ => 0.5 * interval.of_prediction,
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
