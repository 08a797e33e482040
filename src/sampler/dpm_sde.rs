//! DPM-Solver++ (SDE) in the form of k-diffusion, after diffusers' `DPMSolverSDEScheduler`: each step goes to the middle
//! in the logarithm with noise, and from its start again to the end with what the model says there. The last step is
//! Euler's alone.
//!
//! diffusers takes the noise of both halves from one Brownian motion (torchsde's tree) over sigma, seeded from torch's
//! global generator and not from the pipeline's. Its numbers are therefore not reproducible from a seed, and are not
//! reproduced here. What is kept is their distribution: the second noise shares with the first what both halves of the
//! motion share, so the pictures are samples of the same process.

use crate::error::Result;

use super::euler::euler_update;
use super::sigmas::unscaled_run;
use super::{SamplerStep, Schedule, Settings, Slot, Sum};

/// What is known of a step's result after its first call.
const KNOWN: Slot = Slot::Buffer(0);

pub(super) fn schedule(settings: &Settings, n_steps: usize, n_skipped: usize) -> Result<Schedule> {
    let run = unscaled_run(settings, n_steps)?;
    let last = run.timesteps.len() - 1;
    let mut steps = Vec::new();
    for i in n_skipped..=last {
        let (sigma, sigma_next) = (run.sigmas[i], run.sigmas[i + 1]);
        let original = settings.prediction.original_unscaled(sigma);
        let call = |timestep: f64, level: f64, draws_noise: bool, updates: Vec<_>| SamplerStep {
            timestep,
            input_scale: 1.0 / level.hypot(1.0),
            draws_noise,
            updates,
            renoise: (i < last).then_some((1.0, sigma_next)),
        };
        if i == last {
            let update = euler_update(&original, sigma, sigma_next - sigma);
            steps.push(call(run.timesteps[i], sigma, false, vec![update.into_update(Slot::Latents)]));
            continue;
        }
        let (middle, half) = Part::to_middle(sigma as f32, sigma_next as f32);
        let whole = Part::new(neg_log(sigma as f32), neg_log(sigma_next as f32));
        // The motion over the whole step is that over its first part and that over the rest. Lengths are differences of
        // the levels as diffusers rounds them.
        let rest = whole.length - half.length;
        let (first_share, rest_share) = (f64::from(half.length / whole.length), f64::from(rest / whole.length));
        let known = Sum::of(whole.of_latents, Slot::Latents).plus(whole.of_noise * first_share.sqrt(), Slot::Noise);
        let to_middle = Sum::of(half.of_latents, Slot::Latents)
            .plus_sum(half.of_original, &original)
            .plus(half.of_noise, Slot::Noise);
        let updates = vec![known.into_update(KNOWN), to_middle.into_update(Slot::Latents)];
        steps.push(call(run.timesteps[i], sigma, true, updates));
        let next = Sum::of(1.0, KNOWN)
            .plus_sum(whole.of_original, &settings.prediction.original_unscaled(middle))
            .plus(whole.of_noise * rest_share.sqrt(), Slot::Noise);
        let timestep = run.timestep_of.get((sigma * sigma_next).sqrt());
        steps.push(call(timestep, middle, true, vec![next.into_update(Slot::Latents)]));
    }
    Ok(Schedule::new(run.init_noise_sigma(settings), (1.0, run.sigmas[n_skipped]), steps))
}

/// The way from one level down to another, part of it by the solver and the rest back up by noise.
struct Part {
    of_latents: f64,
    of_original: f64,
    of_noise: f64,
    /// How far sigma goes down.
    length: f32,
}

fn neg_log(sigma: f32) -> f32 {
    -(f64::from(sigma).ln() as f32)
}

fn exp_neg(t: f32) -> f32 {
    f64::from(-t).exp() as f32
}

impl Part {
    /// The middle level in the logarithm, and the way there.
    fn to_middle(sigma: f32, sigma_next: f32) -> (f64, Self) {
        let (t, t_next) = (neg_log(sigma), neg_log(sigma_next));
        let t_middle = t + (t_next - t) * 0.5;
        (exp_neg(t_middle).into(), Part::new(t, t_middle))
    }

    /// Between two levels as negative logarithms, rounded as diffusers rounds.
    fn new(t: f32, t_next: f32) -> Self {
        let (from, to) = (exp_neg(t), exp_neg(t_next));
        let up = to.min((to * to * (from * from - to * to) / (from * from)).sqrt());
        let down = (to * to - up * up).sqrt();
        let t_down = neg_log(down);
        Part {
            of_latents: f64::from(exp_neg(t_down) / from),
            of_original: -f64::from(t - t_down).exp_m1(),
            of_noise: up.into(),
            length: from - to,
        }
    }
}
