//! Checkpoints trained in the form of EDM (arXiv 2206.00364, table 1; Playground v2.5): the noise levels come from the
//! config and not from betas, the model is told the logarithm of the level, and input and output are scaled with the
//! data's deviation.
//!
//! Here are the levels, the scaling, and Euler's method (`EDMEulerScheduler` of diffusers); `EDMDPMSolverMultistepScheduler`
//! is the multistep solver of `dpm_multistep` on these levels.

use crate::error::Result;

use super::betas::torch_linspace;
use super::euler::euler_update;
use super::prediction::Prediction;
use super::settings::Settings;
use super::sigmas::FinalSigma;
use super::{SamplerKind, SamplerStep, Schedule, Slot, Sum, timesteps};

/// What a config says of the levels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Edm {
    pub(super) sigma_min: f64,
    pub(super) sigma_max: f64,
    pub(super) sigma_data: f64,
    pub(super) rho: f64,
    /// Evenly in the logarithm instead of in the root.
    pub(super) exponential: bool,
}

impl Edm {
    /// The levels of a run with the last one behind them; f32 values, widened.
    pub(super) fn sigmas(&self, settings: &Settings, n_steps: usize) -> Vec<f64> {
        let root = |sigma: f64| sigma.powf(1.0 / self.rho);
        let (highest, lowest) = (root(self.sigma_max), root(self.sigma_min));
        let mut sigmas: Vec<f32> = if self.exponential {
            let logs = torch_linspace(self.sigma_min.ln(), self.sigma_max.ln(), n_steps);
            logs.into_iter().rev().map(|log| f64::from(log).exp() as f32).collect()
        } else if settings.kind == SamplerKind::EdmEuler {
            let ramp = timesteps::linspace(0.0, 1.0, n_steps).into_iter();
            ramp.map(|at| (highest + at * (lowest - highest)).powf(self.rho) as f32).collect()
        } else {
            // This class works in f32 from the start.
            let ramp = torch_linspace(0.0, 1.0, n_steps).into_iter();
            let base = ramp.map(|at| highest as f32 + at * (lowest - highest) as f32);
            base.map(|base| f64::from(base).powf(self.rho) as f32).collect()
        };
        sigmas.push(match settings.final_sigma {
            FinalSigma::Zero => 0.0,
            FinalSigma::SigmaMin if settings.kind == SamplerKind::EdmEuler => sigmas[sigmas.len() - 1],
            FinalSigma::SigmaMin => self.sigma_min as f32,
        });
        sigmas.into_iter().map(f64::from).collect()
    }

    /// What the model is told of a level.
    pub(super) fn timestep(sigma: f64) -> f64 {
        f64::from(0.25 * sigma.ln() as f32)
    }

    /// The model sees the latents times this.
    pub(super) fn input_scale(&self, sigma: f64) -> f64 {
        1.0 / sigma.hypot(self.sigma_data)
    }

    /// Pure noise times this is where text-to-image starts.
    pub(super) fn init_noise_sigma(&self) -> f64 {
        self.sigma_max.hypot(1.0)
    }

    /// The predicted picture, for latents `picture + sigma · noise`.
    pub(super) fn original(&self, prediction: Prediction, sigma: f64) -> Sum {
        let (data, level) = (self.sigma_data, sigma.hypot(self.sigma_data));
        let of_output = if prediction == Prediction::Velocity { -1.0 } else { 1.0 } * sigma * data / level;
        Sum::of(data * data / (level * level), Slot::Latents).plus(of_output, Slot::ModelOutput)
    }
}

pub(super) fn euler(settings: &Settings, edm: &Edm, n_steps: usize, n_skipped: usize) -> Result<Schedule> {
    let sigmas = edm.sigmas(settings, n_steps);
    let steps = (n_skipped..n_steps).map(|i| {
        let (sigma, sigma_next) = (sigmas[i], sigmas[i + 1]);
        let change = f64::from(sigma_next as f32 - sigma as f32);
        SamplerStep {
            timestep: Edm::timestep(sigma),
            input_scale: edm.input_scale(sigma),
            draws_noise: false,
            updates: vec![
                euler_update(&edm.original(settings.prediction, sigma), sigma, change).into_update(Slot::Latents),
            ],
            renoise: (i + 1 < n_steps).then_some((1.0, sigma_next)),
        }
    });
    Ok(Schedule::new(edm.init_noise_sigma(), (1.0, sigmas[n_skipped]), steps.collect()))
}
