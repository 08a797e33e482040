//! Which training steps a run visits: `timestep_spacing`, with numpy's rounding.
//!
//! The order is the run's: from noise to picture. Noise levels are in `sigmas`.

use serde::{Deserialize, Serialize};

use super::Settings;

/// `timestep_spacing` of a scheduler config (arXiv 2305.08891, table 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(all(not(target_arch = "wasm32"), feature = "cli"), derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub enum Spacing {
    /// Whole strides up from the first training step: most of diffusers' configs.
    Leading,
    /// Whole strides down from the last training step: models of few steps. ComfyUI's `simple` and `sgm_uniform`.
    Trailing,
    /// Evenly between the first and the last: k-diffusion, and so AUTOMATIC1111 and ComfyUI's `normal`.
    Linspace,
}

impl Spacing {
    /// The name in a config.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Spacing::Leading => "leading",
            Spacing::Trailing => "trailing",
            Spacing::Linspace => "linspace",
        }
    }
}

/// numpy's `linspace`, both ends included.
pub(super) fn linspace(start: f64, end: f64, n: usize) -> Vec<f64> {
    if n == 1 {
        return vec![start];
    }
    let step = (end - start) / (n - 1) as f64;
    (0..n).map(|i| if i == n - 1 { end } else { i as f64 * step + start }).collect()
}

/// Timesteps of the samplers that visit the first and the last of their steps (DDIM, PNDM, Euler, Heun). Whole numbers
/// but for linspace, which the callers round as diffusers does: to integers or to f32.
pub(super) fn inclusive(settings: &Settings, n_steps: usize) -> Vec<f64> {
    let n_train = settings.num_train_timesteps;
    match settings.spacing {
        Spacing::Linspace => reversed(linspace(0.0, (n_train - 1) as f64, n_steps)),
        Spacing::Leading => leading(n_train / n_steps, n_steps, settings.steps_offset),
        Spacing::Trailing => trailing(n_train, n_train, n_steps),
    }
}

/// Timesteps of the samplers that count the picture itself as one more step, which they leave out (DPM-Solver++,
/// UniPC). `last` is one more than the noisiest timestep in use. Whole numbers.
pub(super) fn exclusive(settings: &Settings, last: usize, n_steps: usize) -> Vec<f64> {
    match settings.spacing {
        Spacing::Linspace => {
            let all = linspace(0.0, last as f64 - 1.0, n_steps + 1);
            reversed(all[1..].iter().map(|t| t.round_ties_even()).collect())
        }
        Spacing::Leading => {
            let ratio = last / (n_steps + 1);
            leading(ratio, n_steps, settings.steps_offset + ratio as i64)
        }
        Spacing::Trailing => trailing(last, settings.num_train_timesteps, n_steps),
    }
}

fn reversed(mut values: Vec<f64>) -> Vec<f64> {
    values.reverse();
    values
}

fn leading(ratio: usize, n_steps: usize, offset: i64) -> Vec<f64> {
    (0..n_steps).rev().map(|i| (i * ratio) as f64 + offset as f64).collect()
}

/// numpy's `arange(last, 0, -ratio)`, rounded, minus one.
///
/// For some numbers of steps (61, 103, …) numpy's length comes out one too long, and diffusers then runs an additional
/// step at timestep -1, which spoils the picture. The additional step is left out here.
fn trailing(last: usize, n_train: usize, n_steps: usize) -> Vec<f64> {
    let (start, ratio) = (last as f64, n_train as f64 / n_steps as f64);
    // numpy derives the increment from the first two values instead of using the one it was given.
    let increment = (start - ratio) - start;
    let values = (0..n_steps).map(|i| (start + i as f64 * increment).round_ties_even() - 1.0);
    values.take_while(|&t| t >= 0.0).collect()
}
