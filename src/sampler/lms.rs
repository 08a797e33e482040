//! Linear multistep of fourth order (Adams-Bashforth with uneven steps), after diffusers' `LMSDiscreteScheduler`. Latents
//! stay unscaled: `picture + sigma · noise`.
//!
//! Where image-to-image starts in the middle, diffusers weighs the first derivatives as if those before them were there;
//! so does this.

use crate::error::Result;

use super::sigmas::unscaled_run;
use super::{SamplerStep, Schedule, Settings, Slot, Sum};

/// How many derivatives are combined. They rotate in as many buffers.
const ORDER: usize = 4;

pub(super) fn schedule(settings: &Settings, n_steps: usize, n_skipped: usize) -> Result<Schedule> {
    let run = unscaled_run(settings, n_steps)?;
    let derivative = |i: usize| Slot::Buffer(i % ORDER);
    let steps = (n_skipped..run.timesteps.len()).map(|i| {
        let (sigma, sigma_next) = (run.sigmas[i], run.sigmas[i + 1]);
        let newest =
            Sum::of(1.0 / sigma, Slot::Latents).plus_sum(-1.0 / sigma, &settings.prediction.original_unscaled(sigma));
        let nodes: Vec<f64> = (0..ORDER.min(i + 1)).map(|age| run.sigmas[i - age]).collect();
        let weights = weights(&nodes, sigma_next);
        let known = weights.iter().enumerate().take(i - n_skipped + 1);
        let next = known.fold(Sum::of(1.0, Slot::Latents), |sum, (age, &weight)| sum.plus(weight, derivative(i - age)));
        SamplerStep {
            timestep: run.timesteps[i],
            input_scale: 1.0 / sigma.hypot(1.0),
            draws_noise: false,
            updates: vec![newest.into_update(derivative(i)), next.into_update(Slot::Latents)],
            renoise: (i + 1 < run.timesteps.len()).then_some((1.0, sigma_next)),
        }
    });
    let steps = steps.collect();
    Ok(Schedule::new(run.init_noise_sigma(settings), (1.0, run.sigmas[n_skipped]), steps))
}

/// The integral from the first node to `end` of each polynomial that is 1 at one node and 0 at the others.
///
/// Two Gauss points integrate the cubics exactly; diffusers gets there with an adaptive rule.
fn weights(nodes: &[f64], end: f64) -> Vec<f64> {
    let (middle, half) = (0.5 * (nodes[0] + end), 0.5 * (end - nodes[0]));
    let points = [-1.0, 1.0].map(|side: f64| middle + side * half / 3.0_f64.sqrt());
    let integral = |own: usize| {
        let value = |at: f64| -> f64 {
            let others = nodes.iter().enumerate().filter(|&(k, _)| k != own);
            others.map(|(_, node)| (at - node) / (nodes[own] - node)).product()
        };
        half * points.into_iter().map(value).sum::<f64>()
    };
    (0..nodes.len()).map(integral).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_integrate_cubics_exactly() {
        let (nodes, end) = ([5.0, 7.0, 10.0, 14.0], 3.5);
        let cubic = |x: f64| 2.0 + x - 0.5 * x * x + 0.25 * x.powi(3);
        let integral = |x: f64| 2.0 * x + x * x / 2.0 - x.powi(3) / 6.0 + x.powi(4) / 16.0;
        let got: f64 = weights(&nodes, end).iter().zip(nodes).map(|(weight, node)| weight * cubic(node)).sum();
        assert!((got - (integral(end) - integral(nodes[0]))).abs() < 1e-11);
    }
}
