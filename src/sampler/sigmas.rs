//! The noise levels of a run for the samplers that work with sigmas, and the timesteps that belong to them.
//!
//! Covered: interpolation in the training table, the levels of Karras et al., and the last level. diffusers rounds the
//! result to f32, and so does this. What a sampler does with the levels is in its own file.

use crate::error::Result;

use super::betas::{AlphasCumprod, Betas, torch_linspace};
use super::{SamplerKind, Settings, timesteps};

/// Timesteps and noise levels in the order of the run. There is at least one more sigma than there are timesteps: the
/// level that the last step leads to.
pub(super) struct Run {
    pub(super) timesteps: Vec<f64>,
    /// `sqrt((1 - a) / a)`; f32 values, widened.
    pub(super) sigmas: Vec<f64>,
}

impl Run {
    /// The factor for pure noise at the start of samplers that keep latents unscaled. diffusers takes the plain sigma
    /// where the spacing starts at the noisiest training step.
    pub(super) fn init_noise_sigma(&self, settings: &Settings) -> f64 {
        let highest = self.sigmas.iter().copied().fold(0.0, f64::max);
        match settings.spacing {
            timesteps::Spacing::Leading => highest.hypot(1.0),
            timesteps::Spacing::Trailing | timesteps::Spacing::Linspace => highest,
        }
    }
}

/// `final_sigmas_type` of a scheduler config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FinalSigma {
    Zero,
    SigmaMin,
}

/// Levels for Euler, Euler ancestral and Heun.
pub(super) fn unscaled_run(settings: &Settings, n_steps: usize) -> Result<Run> {
    let table = AlphasCumprod::new(settings, true)?.sigmas();
    let mut timesteps: Vec<f64> =
        timesteps::inclusive(settings, n_steps).into_iter().map(|t| f64::from(t as f32)).collect();
    let mut sigmas: Vec<f64> = if settings.log_linear {
        // diffusers makes one level too many here, so that the run ends at the lowest training level instead of the
        // last one.
        let (lowest, highest) = (table[0].ln(), table[table.len() - 1].ln());
        torch_linspace(highest as f32 as f64, lowest as f32 as f64, n_steps + 1)
            .into_iter()
            .map(|log| f64::from(f64::from(log).exp() as f32))
            .collect()
    } else {
        timesteps.iter().map(|&t| interpolate(&table, t)).collect()
    };
    if settings.karras {
        sigmas = karras(settings, sigmas[0], sigmas[sigmas.len() - 1], n_steps);
        let timestep_of = TimestepOfSigma::new(&table);
        timesteps = sigmas.iter().map(|&sigma| f64::from(timestep_of.get(sigma) as f32)).collect();
    }
    sigmas.push(match settings.final_sigma {
        FinalSigma::Zero => 0.0,
        FinalSigma::SigmaMin => table[0],
    });
    Ok(Run { timesteps, sigmas: in_f32(sigmas) })
}

/// Levels for DPM-Solver++ and UniPC.
pub(super) fn scaled_run(settings: &Settings, n_steps: usize) -> Result<Run> {
    let products = AlphasCumprod::new(settings, true)?;
    let table = products.sigmas();
    let (lowest, highest) = (table[0], table[table.len() - 1]);
    let (timesteps, mut sigmas);
    if settings.karras {
        sigmas = karras(settings, highest, lowest, n_steps);
        let timestep_of = TimestepOfSigma::new(&table);
        let fractional = settings.betas == Betas::SquaredCosine && settings.kind != SamplerKind::UniPc;
        // Casting to an integer truncates, which only shows where diffusers leaves the rounding out.
        let whole = |t: f64| if fractional { t.trunc() } else { t.round_ties_even() };
        timesteps = sigmas.iter().map(|&sigma| whole(timestep_of.get(sigma))).collect();
    } else {
        let last = settings.num_train_timesteps - clipped_timesteps(settings, &products);
        let visited: Vec<f64> = timesteps::exclusive(settings, last, n_steps);
        sigmas = visited.iter().map(|&t| interpolate(&table, t)).collect();
        timesteps = visited;
    }
    sigmas.push(match settings.final_sigma {
        FinalSigma::Zero => 0.0,
        FinalSigma::SigmaMin if settings.karras && settings.kind == SamplerKind::UniPc => sigmas[sigmas.len() - 1],
        FinalSigma::SigmaMin => lowest,
    });
    if timesteps.is_empty() {
        return Err(settings.unsupported("lambda_min_clipped", "a lower value leaves timesteps to visit"));
    }
    Ok(Run { timesteps, sigmas: in_f32(sigmas) })
}

fn in_f32(values: Vec<f64>) -> Vec<f64> {
    values.into_iter().map(|value| f64::from(value as f32)).collect()
}

/// How many of the noisiest training steps have a log signal-to-noise ratio below `lambda_min_clipped`.
fn clipped_timesteps(settings: &Settings, products: &AlphasCumprod) -> usize {
    let log = |value: f32| f64::from(value).ln() as f32;
    let half_log_snr = |&a: &f64| f64::from(log((a as f32).sqrt()) - log((1.0 - a as f32).sqrt()));
    let clipped = products.0.iter().rev().map(half_log_snr).take_while(|&lambda| lambda < settings.lambda_min_clipped);
    clipped.count().min(settings.num_train_timesteps)
}

/// numpy's `interp` over the indices of the table: linear within, constant beyond the ends.
fn interpolate(table: &[f64], t: f64) -> f64 {
    let last = table.len() - 1;
    if t <= 0.0 {
        return table[0];
    }
    if t >= last as f64 {
        return table[last];
    }
    let low = t as usize;
    (table[low + 1] - table[low]) * (t - low as f64) + table[low]
}

/// Levels evenly spaced in the seventh root (arXiv 2206.00364, equation 5). `sigma_min` and `sigma_max` of the config
/// take precedence over the ends given.
fn karras(settings: &Settings, highest: f64, lowest: f64, n_steps: usize) -> Vec<f64> {
    const RHO: f64 = 7.0;
    let lowest = settings.sigma_min.unwrap_or(lowest).powf(1.0 / RHO);
    let highest = settings.sigma_max.unwrap_or(highest).powf(1.0 / RHO);
    let ramp = timesteps::linspace(0.0, 1.0, n_steps);
    ramp.into_iter().map(|at| (highest + at * (lowest - highest)).powf(RHO)).collect()
}

/// The fractional timestep at which the training table has a given sigma, linear in the logarithm.
struct TimestepOfSigma {
    /// Rounded to f32, as numpy has them.
    log_sigmas: Vec<f32>,
}

impl TimestepOfSigma {
    fn new(table: &[f64]) -> Self {
        TimestepOfSigma { log_sigmas: table.iter().map(|sigma| sigma.ln() as f32).collect() }
    }

    fn get(&self, sigma: f64) -> f64 {
        let log_sigma = sigma.max(1e-10).ln();
        // The last entry that is not above, as the table rises; the first where all are above.
        let not_above = self.log_sigmas.partition_point(|&log| log_sigma - f64::from(log) >= 0.0);
        let low = not_above.saturating_sub(1).min(self.log_sigmas.len().saturating_sub(2));
        let (below, above) = (self.log_sigmas[low], self.log_sigmas[low + 1]);
        let weight = ((f64::from(below) - log_sigma) / f64::from(below - above)).clamp(0.0, 1.0);
        (1.0 - weight) * low as f64 + weight * (low + 1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpolation_is_constant_beyond_the_ends() {
        let table = [1.0, 2.0, 4.0];
        assert_eq!(interpolate(&table, -3.0), 1.0);
        assert_eq!(interpolate(&table, 1.5), 3.0);
        assert_eq!(interpolate(&table, 2.0), 4.0);
        assert_eq!(interpolate(&table, 7.0), 4.0);
    }

    #[test]
    fn a_sigma_of_the_table_has_its_index_as_timestep() {
        let table = [0.1, 0.5, 2.0, 9.0];
        let timestep_of = TimestepOfSigma::new(&table);
        for (i, &sigma) in table.iter().enumerate() {
            assert!((timestep_of.get(sigma) - i as f64).abs() < 1e-6);
        }
        assert_eq!(timestep_of.get(1e-3), 0.0);
        assert_eq!(timestep_of.get(99.0), 3.0);
    }
}
