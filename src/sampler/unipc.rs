//! UniPC (arXiv 2302.04867), after diffusers' `UniPCMultistepScheduler`: a multistep predictor, and a corrector that
//! repeats the last step with the model output at its end, without a further call.
//!
//! Predicted pictures rotate in as many buffers as the order; one more holds the corrected latents that the next
//! correction starts from. The form that predicts noise (`predict_x0` false) is not here.

use crate::error::Result;

use super::dpm_multistep::Level;
use super::settings::SolverType;
use super::sigmas::scaled_run;
use super::{Lincomb, SamplerStep, Schedule, Settings, Slot, Sum};

pub(super) fn schedule(settings: &Settings, n_steps: usize, n_skipped: usize) -> Result<Schedule> {
    let run = scaled_run(settings, n_steps, n_skipped)?;
    let n_timesteps = run.timesteps.len();
    let solver = Solver {
        settings,
        levels: run.sigmas.iter().map(|&ratio| Level::new(ratio)).collect(),
        n_skipped,
        n_timesteps,
        n_history: settings.solver_order.min(n_timesteps - n_skipped),
    };
    let mut steps = Vec::new();
    for i in n_skipped..n_timesteps {
        steps.push(SamplerStep {
            timestep: run.timesteps[i],
            input_scale: 1.0,
            draws_noise: false,
            updates: solver.updates(i),
            renoise: (i + 1 < n_timesteps).then(|| (solver.levels[i + 1].alpha, solver.levels[i + 1].sigma)),
        });
    }
    let start = solver.levels[n_skipped];
    Ok(Schedule::new(1.0, (start.alpha, start.sigma), steps))
}

struct Solver<'a> {
    settings: &'a Settings,
    levels: Vec<Level>,
    n_skipped: usize,
    n_timesteps: usize,
    n_history: usize,
}

impl Solver<'_> {
    /// The predicted picture of step `i`.
    fn original(&self, i: usize) -> Slot {
        Slot::Buffer(i % self.n_history)
    }

    /// The latents of a step after correction.
    fn corrected(&self) -> Slot {
        Slot::Buffer(self.n_history)
    }

    /// The order with which the step from `i` is predicted, and corrected afterwards.
    fn order(&self, i: usize) -> usize {
        let n_left = if self.settings.lower_order_final { self.n_timesteps - i } else { usize::MAX };
        self.settings.solver_order.min(n_left).min(i - self.n_skipped + 1)
    }

    fn updates(&self, i: usize) -> Vec<Lincomb> {
        let level = self.levels[i];
        let mut prediction = self.settings.prediction.original(level.alpha, level.sigma);
        let is_last = i + 1 == self.n_timesteps;
        let mut updates = Vec::new();
        if let Some(limit) = self.settings.limit {
            let limited = Slot::Buffer(self.n_history + 1);
            updates.push(prediction.into_limited_update(limited, limit));
            prediction = Sum::of(1.0, limited);
        }
        let start = if i > self.n_skipped && !self.settings.disable_corrector.contains(&(i - 1)) {
            // The correction reads the oldest prediction, whose buffer the next update overwrites; the newest is not
            // stored yet and enters as what it is made of.
            updates.push(self.correction(i, &prediction).into_update(self.corrected()));
            self.corrected()
        } else {
            if !is_last {
                updates.push(Sum::of(1.0, Slot::Latents).into_update(self.corrected()));
            }
            Slot::Latents
        };
        updates.push(prediction.into_update(self.original(i)));
        updates.push(self.predict(i, start).into_update(Slot::Latents));
        updates
    }

    /// The latents of step `i + 1`, from those of step `i` and the predictions so far.
    fn predict(&self, i: usize, start: Slot) -> Sum {
        let step = Step::new(self.settings, self.levels[i], self.levels[i + 1]);
        let order = self.order(i);
        let weights = match order {
            1 => Vec::new(),
            // diffusers takes the limit for small steps here instead of the solution.
            2 => vec![0.5],
            _ => {
                let ratios: Vec<f64> = (1..order).map(|age| step.ratio(self.levels[i - age])).collect();
                solve(&ratios, &step.right_hand_side(order - 1))
            }
        };
        let constant = Sum::of(step.of_latents, start).plus(step.of_original, self.original(i));
        self.add_differences(constant, i, &step, &weights)
    }

    /// The latents of step `i` once more, now that the model has seen them.
    fn correction(&self, i: usize, prediction: &Sum) -> Sum {
        let before = i - 1;
        let step = Step::new(self.settings, self.levels[before], self.levels[i]);
        let order = self.order(before);
        let weights = match order {
            1 => vec![0.5],
            _ => {
                let mut ratios: Vec<f64> = (1..order).map(|age| step.ratio(self.levels[before - age])).collect();
                ratios.push(1.0);
                solve(&ratios, &step.right_hand_side(order))
            }
        };
        let constant = Sum::of(step.of_latents, self.corrected()).plus(step.of_original, self.original(before));
        let sum = self.add_differences(constant, before, &step, &weights[..order - 1]);
        let of_newest = step.of_difference * weights[order - 1];
        sum.plus_sum(of_newest, prediction).plus(-of_newest, self.original(before))
    }

    /// Adds the differences between earlier predictions and that of step `i`, newest first.
    fn add_differences(&self, sum: Sum, i: usize, step: &Step, weights: &[f64]) -> Sum {
        weights.iter().enumerate().fold(sum, |sum, (newer, weight)| {
            let age = newer + 1;
            let weight = step.of_difference * weight / step.ratio(self.levels[i - age]);
            sum.plus(weight, self.original(i - age)).plus(-weight, self.original(i))
        })
    }
}

/// Solves the Vandermonde system `Σ_k ratio_k^row · x_k = b_row` by Gaussian elimination with pivoting. Levels that
/// coincide give values that are not finite.
fn solve(ratios: &[f64], b: &[f64]) -> Vec<f64> {
    let n = ratios.len();
    let mut rows: Vec<Vec<f64>> = (0..n)
        .map(|row| ratios.iter().map(|ratio| ratio.powi(row as i32)).chain(std::iter::once(b[row])).collect())
        .collect();
    for column in 0..n {
        let by_size = |a: &usize, b: &usize| rows[*a][column].abs().total_cmp(&rows[*b][column].abs());
        let pivot = (column..n).max_by(by_size).unwrap_or(column);
        rows.swap(column, pivot);
        let pivot_row = rows[column].clone();
        for row in rows.iter_mut().skip(column + 1) {
            let factor = row[column] / pivot_row[column];
            row.iter_mut().zip(&pivot_row).for_each(|(value, above)| *value -= factor * above);
        }
    }
    let mut solution = vec![0.0; n];
    for row in (0..n).rev() {
        let known: f64 = (row + 1..n).map(|column| rows[row][column] * solution[column]).sum();
        solution[row] = (rows[row][n] - known) / rows[row][row];
    }
    solution
}

/// The constants of one step between two levels.
struct Step {
    from: Level,
    h: f64,
    of_latents: f64,
    of_original: f64,
    /// Scales the weighted differences of predictions.
    of_difference: f64,
    /// `B(h)` of the paper.
    b: f64,
}

impl Step {
    fn new(settings: &Settings, from: Level, to: Level) -> Self {
        let h = to.lambda - from.lambda;
        let decay = (-h).exp_m1();
        let b = if settings.solver_type == SolverType::Bh1 { -h } else { decay };
        let of_original = -to.alpha * decay;
        Step { from, h, of_latents: to.sigma / from.sigma, of_original, of_difference: -to.alpha * b, b }
    }

    /// Where another level lies, in units of this step.
    fn ratio(&self, level: Level) -> f64 {
        (level.lambda - self.from.lambda) / self.h
    }

    /// `φ_k · k! / B(h)` for `k = 1..=n` (equation 11 of the paper).
    fn right_hand_side(&self, n: usize) -> Vec<f64> {
        let hh = -self.h;
        let mut phi = hh.exp_m1() / hh - 1.0;
        let mut factorial = 1.0;
        let mut sides = Vec::with_capacity(n);
        for k in 1..=n {
            sides.push(phi * factorial / self.b);
            factorial *= (k + 1) as f64;
            phi = phi / hh - 1.0 / factorial;
        }
        sides
    }
}
