//! What would work where a run's coefficients are not finite: every piece of advice is tried before it is given.

use crate::error::Error;

use super::{RunOptions, SamplerKind, SchedulerConfig, Steps, is_finite, work_out};

/// Samplers that are proposed where nothing else helps, in this order.
const ROBUST: [SamplerKind; 4] =
    [SamplerKind::Euler, SamplerKind::DpmPp2m, SamplerKind::Ddim, SamplerKind::EulerAncestral];

fn works(config: &SchedulerConfig, options: &RunOptions) -> bool {
    work_out(config, options).is_ok_and(|schedule| is_finite(&schedule))
}

/// The error for a run that is not finite.
pub(super) fn not_finite(config: &SchedulerConfig, options: &RunOptions) -> Error {
    let n_steps = options.steps.number();
    let name = config.sampler().map_or_else(|_| "the sampler".to_owned(), |sampler| sampler.name());
    let (cause, remedy) = diagnosis(config, options);
    config.unsupported(&format!("{name} with {n_steps} steps"), &format!("{cause}; {remedy}"))
}

/// What is at fault, as far as the config tells, and what works.
fn diagnosis(config: &SchedulerConfig, options: &RunOptions) -> (&'static str, String) {
    let fields = &config.fields;
    if fields.lower_order_final == Some(false) {
        let mut changed = config.clone();
        changed.fields.lower_order_final = Some(true);
        if works(&changed, options) {
            return ("lower_order_final false divides by zero at the end", "true works".into());
        }
    }
    let cause = if fields.rescale_betas_zero_snr == Some(true) {
        "rescale_betas_zero_snr leaves the first step no signal"
    } else {
        "two neighbouring steps have the same noise level, or one has no signal left"
    };
    if let Steps::Number(n_steps) = options.steps {
        let fewer = [n_steps - 1, n_steps.saturating_sub(2), n_steps * 3 / 4, n_steps / 2, n_steps / 4, 10, 4, 1];
        for fewer in fewer.into_iter().filter(|&fewer| fewer > 0 && fewer < n_steps) {
            if works(config, &RunOptions { steps: Steps::Number(fewer), ..options.clone() }) {
                return (cause, format!("{fewer} steps work"));
            }
        }
    }
    for kind in ROBUST {
        let options = RunOptions { eta: 0.0, ..options.clone() };
        if works(&config.with_sampler(kind), &options) {
            return (cause, format!("the sampler {kind} works"));
        }
    }
    let mut changed = config.clone();
    changed.fields.trained_betas = None;
    (changed.fields.beta_start, changed.fields.beta_end) = (Some(0.000_85), Some(0.012));
    if works(&changed, options) {
        return ("the betas leave no signal", "beta_start 0.00085 with beta_end 0.012 works".into());
    }
    (cause, "no other number of steps, sampler or betas that were tried works".into())
}
