//! DPM-Solver++ single-step (arXiv 2211.01095, algorithm 1), its stochastic form, and the older DPM-Solver (arXiv
//! 2206.00927), after diffusers' `DPMSolverSinglestepScheduler`.
//!
//! Steps come in groups: an order-1 step begins a group, and the order-2 and order-3 steps behind it start again from
//! the latents at the group's beginning with what the model has said since. Those later results are written ahead as
//! far as they are known, one buffer each, so that neither latents nor predictions are copied.

use crate::error::Result;

use super::dpm_multistep::{Interval, Level};
use super::settings::SolverType;
use super::sigmas::{FinalSigma, scaled_run};
use super::{SamplerStep, Schedule, Settings, Slot, Sum};

/// The predicted picture held in bounds, where the config asks for it; behind the results of a group.
const LIMITED: Slot = Slot::Buffer(2);

pub(super) fn schedule(settings: &Settings, n_steps: usize, n_skipped: usize) -> Result<Schedule> {
    let run = scaled_run(settings, n_steps, n_skipped)?;
    let levels: Vec<Level> = run.sigmas.iter().map(|&ratio| Level::new(ratio)).collect();
    let orders = executed_orders(settings, run.timesteps.len(), n_skipped);
    let results: Vec<GroupResult> = (orders.iter().enumerate())
        .map(|(executed, &order)| GroupResult::new(settings, order, n_skipped + executed, &levels))
        .collect();
    let mut steps = Vec::new();
    for (executed, &order) in orders.iter().enumerate() {
        let i = n_skipped + executed;
        let Level { alpha, sigma, .. } = levels[i];
        let mut updates = Vec::new();
        let prediction = match settings.limit {
            None if settings.extrapolates_noise => settings.prediction.noise(alpha, sigma),
            None => settings.prediction.original(alpha, sigma),
            Some(limit) => {
                let original = settings.prediction.original(alpha, sigma);
                updates.push(original.into_limited_update(LIMITED, limit));
                Sum::of(1.0, LIMITED)
            }
        };
        // The part that this step's latents and prediction have in a result of its group.
        let part = |result: &GroupResult| {
            let of_latents = if order == 1 { result.of_latents } else { 0.0 };
            Sum::of(of_latents, Slot::Latents).plus_sum(result.of_predictions[order - 1], &prediction)
        };
        for (later, result) in results.iter().enumerate().skip(executed + 1).take_while(|&(later, _)| orders[later] > 1)
        {
            let ahead = Slot::Buffer(orders[later] - 2);
            debug_assert_eq!(orders[later] - order, later - executed, "orders rise by one within a group");
            let known = if order == 1 { Sum::default() } else { Sum::of(1.0, ahead) };
            updates.push(known.plus_sum(1.0, &part(result)).into_update(ahead));
        }
        let result = &results[executed];
        let known = if order == 1 { Sum::default() } else { Sum::of(1.0, Slot::Buffer(order - 2)) };
        let next = known.plus_sum(1.0, &part(result)).plus(result.of_noise, Slot::Noise);
        updates.push(next.into_update(Slot::Latents));
        steps.push(SamplerStep {
            timestep: run.timesteps[i],
            input_scale: 1.0,
            draws_noise: settings.stochastic,
            updates,
            renoise: (i + 1 < run.timesteps.len()).then(|| (levels[i + 1].alpha, levels[i + 1].sigma)),
        });
    }
    Ok(Schedule::new(1.0, (levels[n_skipped].alpha, levels[n_skipped].sigma), steps))
}

/// The orders of the steps that are taken. A start within a group has no predictions to build on, and begins with order
/// 1.
fn executed_orders(settings: &Settings, n_steps: usize, n_skipped: usize) -> Vec<usize> {
    let order = settings.solver_order;
    let to_zero = settings.final_sigma == FinalSigma::Zero;
    // diffusers turns `lower_order_final` on where the groups do not come out even or the last level is zero.
    let lower_at_end = settings.lower_order_final || !n_steps.is_multiple_of(order) || to_zero;
    let mut orders: Vec<usize> = (0..n_steps).map(|i| i % order + 1).collect();
    if lower_at_end && n_steps.is_multiple_of(order) && order > 1 {
        // The last group is one call shorter, and the call left over is a group of its own.
        orders[n_steps - 1] = 1;
    }
    if to_zero {
        orders[n_steps - 1] = 1;
    }
    orders.into_iter().skip(n_skipped).enumerate().map(|(n_before, order)| order.min(n_before + 1)).collect()
}

/// The result of one step as a combination of the latents at its group's beginning, the predictions since, and noise.
struct GroupResult {
    of_latents: f64,
    /// Oldest first; as many as the order.
    of_predictions: Vec<f64>,
    of_noise: f64,
}

impl GroupResult {
    fn new(settings: &Settings, order: usize, i: usize, levels: &[Level]) -> Self {
        let (from, to) = (levels[i + 1 - order], levels[i + 1]);
        let interval = Interval::new(settings, from, to);
        // Where in the interval a later prediction lies, as a fraction in lambda.
        let fraction = |age: usize| (levels[i - age].lambda - from.lambda) / (to.lambda - from.lambda);
        let midpoint = settings.solver_type != SolverType::Heun;
        let of_predictions = match order {
            1 => vec![interval.of_prediction],
            2 => {
                let of_difference = if midpoint { 0.5 * interval.of_prediction } else { interval.of_first };
                let slope = of_difference / fraction(0);
                vec![interval.of_prediction - slope, slope]
            }
            _ => {
                let (r0, r1) = (fraction(0), fraction(1));
                // Weights of the slopes from the beginning to the newest and to the middle prediction.
                let (to_newest, to_middle) = if midpoint {
                    (interval.of_first, 0.0)
                } else {
                    let (first, second) = (interval.of_first / (r0 - r1), interval.of_second * 2.0 / (r0 - r1));
                    (-r1 * first + second, r0 * first - second)
                };
                let (newest, middle) = (to_newest / r0, to_middle / r1);
                vec![interval.of_prediction - newest - middle, middle, newest]
            }
        };
        GroupResult { of_latents: interval.of_latents, of_predictions, of_noise: interval.of_noise }
    }
}
