//! DPM-Solver-2 in the form of k-diffusion, after diffusers' `KDPM2DiscreteScheduler` and
//! `KDPM2AncestralDiscreteScheduler`: a second model call at the geometric middle of the step, whose derivative leads
//! the whole step. The ancestral form goes down further and adds fresh noise. The last step is Euler's alone.

use crate::error::Result;

use super::euler::euler_update;
use super::euler_ancestral::down_and_up;
use super::sigmas::unscaled_run;
use super::{SamplerKind, SamplerStep, Schedule, Settings, Slot, Sum};

/// The latents at the start of a step.
const START: Slot = Slot::Buffer(0);

pub(super) fn schedule(settings: &Settings, n_steps: usize, n_skipped: usize) -> Result<Schedule> {
    let run = unscaled_run(settings, n_steps)?;
    let ancestral = settings.kind == SamplerKind::Dpm2Ancestral;
    let last = run.timesteps.len() - 1;
    let mut steps = Vec::new();
    for i in n_skipped..=last {
        let (sigma, sigma_next) = (run.sigmas[i] as f32, run.sigmas[i + 1] as f32);
        let (down, up) = if ancestral { down_and_up(sigma, sigma_next) } else { (sigma_next, 0.0) };
        let middle = match (i == last, ancestral) {
            (true, _) => 0.0,
            (false, true) => geometric_mean(sigma, down),
            (false, false) => geometric_mean(down, sigma),
        };
        let renoise = (i < last).then_some((1.0, f64::from(sigma_next)));
        let original = settings.prediction.original_unscaled(sigma.into());
        let to_middle = euler_update(&original, sigma.into(), f64::from(middle - sigma)).into_update(Slot::Latents);
        let mut updates = vec![to_middle];
        if i < last {
            updates.insert(0, Sum::of(1.0, Slot::Latents).into_update(START));
        }
        steps.push(SamplerStep {
            timestep: run.timesteps[i],
            input_scale: 1.0 / f64::from(sigma).hypot(1.0),
            draws_noise: false,
            updates,
            renoise,
        });
        if i < last {
            let timestep = run.timestep_of.get_f32(middle);
            let middle = f64::from(middle);
            let ratio = f64::from(down - sigma) / middle;
            let next = Sum::of(1.0, START)
                .plus(ratio, Slot::Latents)
                .plus_sum(-ratio, &settings.prediction.original_unscaled(middle))
                .plus(up.into(), Slot::Noise);
            steps.push(SamplerStep {
                // diffusers gives these the type of the other timesteps.
                timestep: if settings.schedule.is_some() { timestep } else { f64::from(timestep as f32) },
                input_scale: 1.0 / middle.hypot(1.0),
                draws_noise: ancestral,
                updates: vec![next.into_update(Slot::Latents)],
                renoise,
            });
        }
    }
    Ok(Schedule::new(run.init_noise_sigma(settings), (1.0, run.sigmas[n_skipped]), steps))
}

/// Half way between two levels in the logarithm, with torch's rounding.
fn geometric_mean(from: f32, to: f32) -> f32 {
    let log = |value: f32| f64::from(value).ln() as f32;
    let middle = log(to) - (log(to) - log(from)) * 0.5;
    f64::from(middle).exp() as f32
}
