//! The noise levels of a run for the samplers that work with sigmas, and the timesteps that belong to them.
//!
//! Covered: interpolation in the training table, the schedules that replace it, and the last level. diffusers rounds the
//! result to f32, and so does this. What a sampler does with the levels is in its own file.

use crate::error::Result;

use super::beta_quantile::beta_quantile;
use super::betas::{AlphasCumprod, Betas, torch_linspace};
use super::{SamplerKind, Settings, SigmaSchedule, Steps, timesteps};

/// Timesteps and noise levels in the order of the run. There is at least one more sigma than there are timesteps: the
/// level that the last step leads to.
pub(super) struct Run {
    pub(super) timesteps: Vec<f64>,
    /// `sqrt((1 - a) / a)`; f32 values, widened.
    pub(super) sigmas: Vec<f64>,
    /// For levels between those of the run.
    pub(super) timestep_of: TimestepOfSigma,
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

/// Levels for the samplers that keep latents unscaled: Euler, Euler ancestral, Heun, LMS, DPM2 and DPM++ SDE.
pub(super) fn unscaled_run(settings: &Settings, n_steps: usize) -> Result<Run> {
    let table = AlphasCumprod::new(settings, true)?.sigmas();
    let timestep_of = TimestepOfSigma::new(&table);
    let mut run = if let Some(Steps::Sigmas(sigmas)) = &settings.given {
        let timesteps = sigmas[..n_steps].iter().map(|&sigma| f64::from(timestep_of.get_f32(sigma as f32) as f32));
        Run { timesteps: timesteps.collect(), sigmas: in_f32(sigmas.clone()), timestep_of }
    } else {
        chosen_unscaled_run(settings, n_steps, &table, timestep_of)
    };
    if settings.continuous_timesteps {
        run.timesteps = run.sigmas[..n_steps].iter().map(|sigma| f64::from(0.25 * sigma.ln() as f32)).collect();
    }
    Ok(run)
}

fn chosen_unscaled_run(settings: &Settings, n_steps: usize, table: &[f64], timestep_of: TimestepOfSigma) -> Run {
    // The class for DPM++ SDE alone works with f64 here.
    let in_double = settings.kind == SamplerKind::DpmPpSde;
    let rounded = |t: f64| if in_double { t } else { f64::from(t as f32) };
    let mut timesteps: Vec<f64> = match &settings.given {
        Some(Steps::Timesteps(timesteps)) => timesteps.iter().map(|&t| t as f64).collect(),
        _ => timesteps::inclusive(settings, n_steps).into_iter().map(rounded).collect(),
    };
    let mut sigmas: Vec<f64> = if settings.log_linear {
        // diffusers makes one level too many here, so that the run ends at the lowest training level instead of the
        // last one.
        let (lowest, highest) = (table[0].ln(), table[table.len() - 1].ln());
        torch_linspace(highest as f32 as f64, lowest as f32 as f64, n_steps + 1)
            .into_iter()
            .map(|log| f64::from(f64::from(log).exp() as f32))
            .collect()
    } else {
        timesteps.iter().map(|&t| interpolate(table, t)).collect()
    };
    if let Some(schedule) = settings.schedule {
        sigmas = spaced(settings, schedule, sigmas[0], sigmas[sigmas.len() - 1], n_steps);
        let is_whole = schedule == SigmaSchedule::Karras
            && matches!(settings.kind, SamplerKind::Dpm2 | SamplerKind::Dpm2Ancestral);
        let stored = |t: f64| match settings.kind {
            _ if is_whole => t.round_ties_even(),
            SamplerKind::Dpm2 | SamplerKind::Dpm2Ancestral | SamplerKind::DpmPpSde => t,
            _ => f64::from(t as f32),
        };
        timesteps = sigmas.iter().map(|&sigma| stored(timestep_of.get(sigma))).collect();
    }
    sigmas.push(match settings.final_sigma {
        FinalSigma::Zero => 0.0,
        FinalSigma::SigmaMin => table[0],
    });
    Run { timesteps, sigmas: in_f32(sigmas), timestep_of }
}

/// Levels for DPM-Solver, DEIS and UniPC, of which at least one is behind the skipped ones.
pub(super) fn scaled_run(settings: &Settings, n_steps: usize, n_skipped: usize) -> Result<Run> {
    let products = AlphasCumprod::new(settings, true)?;
    let table = products.sigmas();
    let timestep_of = TimestepOfSigma::new(&table);
    let (lowest, highest) = (table[0], table[table.len() - 1]);
    let (timesteps, mut sigmas): (Vec<f64>, Vec<f64>);
    if let Some(schedule) = settings.schedule {
        sigmas = spaced(settings, schedule, highest, lowest, n_steps);
        // Casting to an integer truncates, which shows where diffusers leaves the rounding out.
        let truncates = match schedule {
            SigmaSchedule::Karras | SigmaSchedule::Lu => {
                settings.betas == Betas::SquaredCosine && settings.kind.is_multistep()
            }
            SigmaSchedule::Exponential | SigmaSchedule::Beta => true,
        };
        let whole = |t: f64| if truncates { t.trunc() } else { t.round_ties_even() };
        timesteps = sigmas.iter().map(|&sigma| whole(timestep_of.get(sigma))).collect();
    } else {
        timesteps = if let Some(Steps::Timesteps(timesteps)) = &settings.given {
            timesteps.iter().map(|&t| t as f64).collect()
        } else {
            let last = settings.num_train_timesteps - clipped_timesteps(settings, &products);
            timesteps::exclusive(settings, last, n_steps)
        };
        sigmas = timesteps.iter().map(|&t| interpolate(&table, t)).collect();
    }
    if timesteps.len() <= n_skipped {
        return Err(
            settings.unsupported("lambda_min_clipped", "a lower value leaves timesteps to visit, or strength 1")
        );
    }
    let repeats_last = matches!(settings.kind, SamplerKind::UniPc | SamplerKind::Deis) && settings.schedule.is_some();
    sigmas.push(match settings.final_sigma {
        FinalSigma::Zero => 0.0,
        FinalSigma::SigmaMin if repeats_last => sigmas[sigmas.len() - 1],
        FinalSigma::SigmaMin => lowest,
    });
    Ok(Run { timesteps, sigmas: in_f32(sigmas), timestep_of })
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

/// Levels of a schedule between two ends. `sigma_min` and `sigma_max` of the config take precedence, but in the few
/// classes that do not look there.
fn spaced(settings: &Settings, schedule: SigmaSchedule, highest: f64, lowest: f64, n_steps: usize) -> Vec<f64> {
    const RHO: f64 = 7.0;
    let ignores_ends = match schedule {
        SigmaSchedule::Karras => matches!(settings.kind, SamplerKind::Lms | SamplerKind::DpmPpSde),
        SigmaSchedule::Lu => true,
        SigmaSchedule::Exponential | SigmaSchedule::Beta => false,
    };
    let end = |own: Option<f64>, given: f64| own.filter(|_| !ignores_ends).unwrap_or(given);
    let (highest, lowest) = (end(settings.sigma_max, highest), end(settings.sigma_min, lowest));
    let ramp = timesteps::linspace(0.0, 1.0, n_steps).into_iter();
    match schedule {
        // Evenly in the seventh root.
        SigmaSchedule::Karras => {
            let (highest, lowest) = (highest.powf(1.0 / RHO), lowest.powf(1.0 / RHO));
            ramp.map(|at| (highest + at * (lowest - highest)).powf(RHO)).collect()
        }
        SigmaSchedule::Exponential => {
            timesteps::linspace(highest.ln(), lowest.ln(), n_steps).into_iter().map(f64::exp).collect()
        }
        SigmaSchedule::Lu => {
            // The logarithms are numpy's of f32 values.
            let (highest, lowest) = (f64::from(highest.ln() as f32), f64::from(lowest.ln() as f32));
            ramp.map(|at| (highest + at * (lowest - highest)).exp()).collect()
        }
        SigmaSchedule::Beta => ramp.map(|at| lowest + beta_quantile(1.0 - at) * (highest - lowest)).collect(),
    }
}

/// The fractional timestep at which the training table has a given sigma, linear in the logarithm.
pub(super) struct TimestepOfSigma {
    /// Rounded to f32, as numpy has them.
    log_sigmas: Vec<f32>,
}

impl TimestepOfSigma {
    fn new(table: &[f64]) -> Self {
        TimestepOfSigma { log_sigmas: table.iter().map(|sigma| sigma.ln() as f32).collect() }
    }

    /// Where diffusers has the sigma in f64.
    pub(super) fn get(&self, sigma: f64) -> f64 {
        self.at_log(sigma.max(1e-10).ln(), |weight| weight)
    }

    /// Where diffusers has the sigma in f32.
    pub(super) fn get_f32(&self, sigma: f32) -> f64 {
        let log_sigma = f64::from(sigma.max(1e-10)).ln() as f32;
        self.at_log(log_sigma.into(), |weight| f64::from(weight as f32))
    }

    fn at_log(&self, log_sigma: f64, rounded: impl Fn(f64) -> f64) -> f64 {
        // The last entry that is not above, as the table rises; the first where all are above.
        let not_above = self.log_sigmas.partition_point(|&log| log_sigma - f64::from(log) >= 0.0);
        let low = not_above.saturating_sub(1).min(self.log_sigmas.len().saturating_sub(2));
        let (below, above) = (self.log_sigmas[low], self.log_sigmas[low + 1]);
        let weight = rounded((f64::from(below) - log_sigma) / f64::from(below - above)).clamp(0.0, 1.0);
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
