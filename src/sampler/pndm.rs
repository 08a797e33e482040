//! PNDM (arXiv 2202.09778), after diffusers' `PNDMScheduler`: the linear multistep form (PLMS), and the Runge-Kutta
//! warm-up in front of it where the config does not skip it.
//!
//! Without warm-up, the first step is taken twice: the second call of the model corrects it. Image-to-image with warm-up
//! leaves calls out in front, and yet diffusers reckons the warm-up's steps from the beginning of the run.

use crate::error::{Error, Result};

use super::ddim::{Levels, whole_timesteps};
use super::prediction::Prediction;
use super::{Lincomb, SamplerStep, Schedule, Settings, Slot, Sum};

/// Model outputs of earlier steps that the multistep formula needs beside the current one. They rotate in buffers 0 to
/// 2.
const HISTORY: usize = 3;
/// The latents at the start of a warm-up step.
const START: Slot = Slot::Buffer(HISTORY);
/// The weighted sum of a warm-up step's model outputs.
const WEIGHTED: Slot = Slot::Buffer(HISTORY + 1);
/// Warm-up steps, each of four model calls.
const WARM_UP_STEPS: usize = 3;

pub(super) fn schedule(settings: &Settings, n_steps: usize, n_skipped: usize) -> Result<Schedule> {
    let levels = Levels::new(settings)?;
    let visited = whole_timesteps(settings, n_steps)?;
    let stride = (settings.num_train_timesteps / n_steps) as i64;
    let solver = Solver { settings, levels: &levels, stride };
    let (calls, updates) = if settings.skip_prk_steps {
        let calls = multistep_calls(&visited).split_off(n_skipped);
        let updates = solver.corrected_multistep(&calls);
        (calls, updates)
    } else {
        if n_steps <= WARM_UP_STEPS {
            return Err(Error::Request {
                field: "steps",
                got: n_steps.to_string(),
                expected: format!("pndm works from {} steps on with this checkpoint", WARM_UP_STEPS + 1),
            });
        }
        let warm_up = solver.warm_up_calls(&visited);
        let mut calls = [&warm_up, &visited[WARM_UP_STEPS..]].concat();
        calls.drain(..n_skipped);
        let (first, multistep) = calls.split_at(warm_up.len().min(calls.len()));
        let mut updates = solver.warm_up(&warm_up, first);
        updates.extend(solver.multistep(multistep));
        (calls, updates)
    };
    let steps = calls.iter().zip(updates).enumerate().map(|(i, (&timestep, updates))| SamplerStep {
        timestep: timestep as f64,
        input_scale: 1.0,
        draws_noise: false,
        updates,
        renoise: calls.get(i + 1).map(|&next| levels.add_noise(next)),
    });
    Ok(Schedule::new(1.0, levels.add_noise(calls[0]), steps.collect()))
}

/// The second timestep comes twice; a single step has no second one.
fn multistep_calls(visited: &[i64]) -> Vec<i64> {
    match visited {
        [first, second, rest @ ..] => [&[*first, *second, *second], rest].concat(),
        short => short.to_vec(),
    }
}

struct Solver<'a> {
    settings: &'a Settings,
    levels: &'a Levels,
    stride: i64,
}

impl Solver<'_> {
    /// The transfer from one timestep to another (equation 11 of the paper): coefficients of the latents at `from` and
    /// of the combined model output.
    fn transfer(&self, from: i64, to: i64) -> (f64, f64) {
        let (product, product_next) = (self.levels.get(from), self.levels.get(to));
        let (variance, variance_next) = (1.0 - product, 1.0 - product_next);
        let divisor = product * variance_next.sqrt() + (product * variance * product_next).sqrt();
        let (of_latents, of_noise) = ((product_next / product).sqrt(), -(product_next - product) / divisor);
        match self.settings.prediction {
            // The velocities are combined as they are, and only the combination is turned into noise.
            Prediction::Velocity => (of_latents + of_noise * variance.sqrt(), of_noise * product.sqrt()),
            Prediction::Epsilon | Prediction::Sample => (of_latents, of_noise),
        }
    }

    /// Multistep updates whose first step is corrected by a second model call.
    fn corrected_multistep(&self, calls: &[i64]) -> Vec<Vec<Lincomb>> {
        let Some(&first) = calls.first() else { return Vec::new() };
        let (of_latents, of_output) = self.transfer(first, first - self.stride);
        let mut first_updates = Vec::new();
        let correction = calls.get(1).map(|&second| self.transfer(second + self.stride, second));
        if let Some((corrected_latents, corrected_output)) = correction {
            // The correction starts from the latents of now, averages this model output with the next, and uses a
            // buffer that the history fills only later.
            let half = Sum::of(corrected_latents, Slot::Latents).plus(corrected_output / 2.0, Slot::ModelOutput);
            first_updates.push(half.into_update(Slot::Buffer(1)));
            first_updates.push(Sum::of(1.0, Slot::ModelOutput).into_update(Slot::Buffer(0)));
        }
        first_updates
            .push(Sum::of(of_latents, Slot::Latents).plus(of_output, Slot::ModelOutput).into_update(Slot::Latents));
        let mut updates = vec![first_updates];
        if let Some((_, corrected_output)) = correction {
            let rest = Sum::of(1.0, Slot::Buffer(1)).plus(corrected_output / 2.0, Slot::ModelOutput);
            updates.push(vec![rest.into_update(Slot::Latents)]);
            updates.extend(self.history_updates(&calls[2..], 1));
        }
        updates
    }

    /// Multistep updates behind the warm-up, which has filled the history.
    fn multistep(&self, calls: &[i64]) -> Vec<Vec<Lincomb>> {
        self.history_updates(calls, HISTORY)
    }

    /// Adams-Bashforth updates of growing order; `n_known` model outputs are in the buffers already, oldest first.
    fn history_updates(&self, calls: &[i64], n_known: usize) -> Vec<Vec<Lincomb>> {
        let last = calls.len().saturating_sub(1);
        let updates = calls.iter().enumerate().map(|(i, &timestep)| {
            let n_stored = n_known + i;
            let weights: &[f64] = match n_stored {
                0 => &[1.0],
                1 => &[3.0 / 2.0, -1.0 / 2.0],
                2 => &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
                _ => &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
            };
            let (of_latents, of_output) = self.transfer(timestep, timestep - self.stride);
            let current = Sum::of(of_latents, Slot::Latents).plus(weights[0] * of_output, Slot::ModelOutput);
            let next = weights[1..].iter().enumerate().fold(current, |sum, (age, weight)| {
                sum.plus(weight * of_output, Slot::Buffer((n_stored - 1 - age) % HISTORY))
            });
            let mut updates = vec![next.into_update(Slot::Latents)];
            if i < last {
                updates.push(Sum::of(1.0, Slot::ModelOutput).into_update(Slot::Buffer(n_stored % HISTORY)));
            }
            updates
        });
        updates.collect()
    }

    /// The timesteps of the twelve calls of three Runge-Kutta steps.
    fn warm_up_calls(&self, visited: &[i64]) -> Vec<i64> {
        let half = self.stride / 2;
        let of_step = |pair: &[i64]| [pair[0], pair[1] + half, pair[1] + half, pair[1]];
        visited.windows(2).take(WARM_UP_STEPS).flat_map(of_step).collect()
    }

    /// Steps of the classical Runge-Kutta method: the updates of `calls`. Each step begins where `warm_up`, the whole
    /// warm-up's calls, has it, whatever was left out in front.
    fn warm_up(&self, warm_up: &[i64], calls: &[i64]) -> Vec<Vec<Lincomb>> {
        let half = self.stride / 2;
        let output = Slot::ModelOutput;
        let updates = calls.iter().enumerate().map(|(i, &timestep)| {
            // diffusers leads each call's latents to its own timestep, less half a stride at every other call.
            let target = if i % 2 == 0 { timestep - half } else { timestep };
            let (of_latents, of_output) = self.transfer(warm_up[i / 4 * 4], target);
            match i % 4 {
                0 => vec![
                    Sum::of(1.0, Slot::Latents).into_update(START),
                    Sum::of(1.0, output).into_update(Slot::Buffer(i / 4)),
                    Sum::of(1.0 / 6.0, output).into_update(WEIGHTED),
                    Sum::of(of_latents, Slot::Latents).plus(of_output, output).into_update(Slot::Latents),
                ],
                1 | 2 => vec![
                    Sum::of(1.0, WEIGHTED).plus(1.0 / 3.0, output).into_update(WEIGHTED),
                    Sum::of(of_latents, START).plus(of_output, output).into_update(Slot::Latents),
                ],
                _ => {
                    let sum = Sum::of(of_latents, START).plus(of_output, WEIGHTED);
                    vec![sum.plus(of_output / 6.0, output).into_update(Slot::Latents)]
                }
            }
        });
        updates.collect()
    }
}
