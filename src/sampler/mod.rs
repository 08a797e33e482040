//! Samplers: from a scheduler config, a number of steps and a strength to every coefficient of a run, as plain data.
//!
//! A sampler turns the current latents, the model's output and noise into the next latents by linear combinations whose
//! coefficients do not depend on the data. [`schedule`] therefore works out a whole run beforehand; whoever holds the
//! latents applies the [`Lincomb`]s; of lists in memory [`ArrayRun`] does. The reference is diffusers 0.42.1: the tables of noise levels, and the few scalars
//! whose rounding shows in the result, are rounded to f32 where diffusers rounds them, and all else is f64.
//!
//! Deliberately absent: tensors, devices, random numbers, files, and anything async. Options that are not of Stable
//! Diffusion (flow sigmas, learned variances) are errors that name the field.

mod advice;
mod arrays;
mod beta_quantile;
mod betas;
mod config;
mod ddim;
mod ddpm;
mod deis;
mod dpm_multistep;
mod dpm_sde;
mod dpm_singlestep;
mod edm;
mod euler;
mod euler_ancestral;
mod heun;
mod kdpm2;
mod kind;
mod lcm;
mod limit;
mod lms;
mod options;
mod pndm;
mod prediction;
mod settings;
mod sigmas;
mod sum;
mod tcd;
mod timesteps;
mod unipc;

use crate::error::{Error, Result};

pub use arrays::ArrayRun;
pub use config::{Correction, SchedulerConfig};
pub use kind::{Sampler, SamplerKind, SigmaSchedule};
pub use limit::Limit;
pub use options::{RunOptions, Steps};
pub use timesteps::Spacing;

use settings::Settings;
use sum::Sum;

/// A tensor of the latents' shape that an update reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The latents: what the model sees (after scaling) and what is decoded at the end.
    Latents,
    /// What the model returned in this step, after guidance and before any conversion.
    ModelOutput,
    /// Standard normal noise, drawn anew in each step with [`SamplerStep::draws_noise`].
    Noise,
    /// Memory of the sampler, kept from step to step; indices are below [`Schedule::n_buffers`].
    Buffer(usize),
}

/// `target = limit(Σ coefficient · slot)`, element by element.
#[derive(Clone, Debug, PartialEq)]
pub struct Lincomb {
    /// The tensor that is overwritten.
    pub target: Slot,
    /// Each slot at most once. The target may be among them: its old value is meant.
    pub terms: Vec<(Slot, f64)>,
    /// How the result is held in bounds, where the config asks for it.
    pub limit: Option<Limit>,
}

/// One call of the model and the updates that follow it.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerStep {
    /// The timestep given to the UNet, in training steps; fractional with some spacings.
    pub timestep: f64,
    /// The UNet sees the latents times this.
    pub input_scale: f64,
    /// Whether one tensor of noise is drawn before the updates. True also where diffusers draws and multiplies by zero,
    /// so that the random numbers of later draws agree.
    pub draws_noise: bool,
    /// Applied in this order; each sees what the ones before it wrote.
    pub updates: Vec<Lincomb>,
    /// Coefficients of (original latents, noise) that bring known latents to the noise level of the next step, as
    /// inpainting with a 4-channel UNet blends them in after this step. `None` after the last step: the originals are
    /// blended as they are.
    pub renoise: Option<(f64, f64)>,
}

/// A whole run.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Pure noise times this is where text-to-image starts.
    pub init_noise_sigma: f64,
    /// Coefficients of (original latents, noise) where image-to-image starts.
    pub add_noise: (f64, f64),
    /// How many [`Slot::Buffer`]s the run uses. None is read before it was written.
    pub n_buffers: usize,
    /// One entry per call of the model. Heun, DPM2 and DPM++ SDE call it twice in every step but the last, PNDM has
    /// warm-up calls.
    pub steps: Vec<SamplerStep>,
}

impl Schedule {
    fn new(init_noise_sigma: f64, add_noise: (f64, f64), steps: Vec<SamplerStep>) -> Self {
        let buffer_count = |update: &Lincomb| match update.target {
            Slot::Buffer(index) => index + 1,
            Slot::Latents | Slot::ModelOutput | Slot::Noise => 0,
        };
        let n_buffers = steps.iter().flat_map(|step| &step.updates).map(buffer_count).max().unwrap_or(0);
        Schedule { init_noise_sigma, add_noise, n_buffers, steps }
    }
}

/// Works out a run of `n_steps` with the sampler of `config`; `strength` is that of [`RunOptions`].
///
/// # Errors
/// Those of [`schedule_with`].
pub fn schedule(config: &SchedulerConfig, n_steps: usize, strength: Option<f64>) -> Result<Schedule> {
    schedule_with(config, &RunOptions { strength, ..RunOptions::new(n_steps) })
}

/// Works out a run with the sampler of `config`.
///
/// # Errors
/// [`Error::Request`] for steps, a strength or an eta that leave nothing to do or that the sampler cannot do, and
/// [`Error::Config`] for options of the config that are not supported; both say what would work.
pub fn schedule_with(config: &SchedulerConfig, options: &RunOptions) -> Result<Schedule> {
    let schedule = work_out(config, options)?;
    if is_finite(&schedule) {
        return Ok(schedule);
    }
    Err(advice::not_finite(config, options))
}

/// A run whose coefficients may not be finite.
fn work_out(config: &SchedulerConfig, options: &RunOptions) -> Result<Schedule> {
    use SamplerKind as K;
    let settings = config.settings(options)?;
    options::check(&settings, options)?;
    let n_steps = options.steps.number();
    let n_skipped = skipped_steps(n_steps, options.strength)?;
    match (settings.kind, &settings.edm) {
        (K::EdmEuler, Some(edm)) => edm::euler(&settings, edm, n_steps, n_skipped),
        (K::Ddim, _) => ddim::schedule(&settings, n_steps, n_skipped),
        (K::Ddpm, _) => ddpm::schedule(&settings, n_steps, n_skipped),
        (K::Deis, _) => deis::schedule(&settings, n_steps, n_skipped),
        (K::Dpm2 | K::Dpm2Ancestral, _) => kdpm2::schedule(&settings, n_steps, n_skipped),
        (K::DpmPpSde, _) => dpm_sde::schedule(&settings, n_steps, n_skipped),
        (K::DpmPp2s | K::DpmPp2sSde | K::Dpm2s, _) => dpm_singlestep::schedule(&settings, n_steps, n_skipped),
        (K::Euler | K::EdmEuler, _) => euler::schedule(&settings, n_steps, n_skipped),
        (K::EulerAncestral, _) => euler_ancestral::schedule(&settings, n_steps, n_skipped),
        (K::Heun, _) => heun::schedule(&settings, n_steps, n_skipped),
        (K::Lcm, _) => lcm::schedule(&settings, n_steps, n_skipped),
        (K::Lms, _) => lms::schedule(&settings, n_steps, n_skipped),
        (K::Pndm, _) => pndm::schedule(&settings, n_steps, n_skipped),
        (K::Tcd, _) => tcd::schedule(&settings, n_steps, n_skipped),
        (K::UniPc, _) => unipc::schedule(&settings, n_steps, n_skipped),
        (K::DpmPp2m | K::DpmPp2mSde | K::Dpm2m | K::Dpm2mSde | K::EdmDpmPp2m | K::EdmDpmPp2mSde, _) => {
            dpm_multistep::schedule(&settings, n_steps, n_skipped)
        }
    }
}

/// [`schedule_with`] for image-to-image with a latent consistency model, whose pipeline in diffusers hands the strength to the
/// scheduler instead of leaving steps out.
///
/// # Errors
/// As [`schedule_with`]; for another sampler than LCM it is the same.
pub fn schedule_of_consistency_image(config: &SchedulerConfig, options: &RunOptions) -> Result<Schedule> {
    let settings = config.settings(options)?;
    match (settings.kind, options.strength, &options.steps) {
        (SamplerKind::Lcm, Some(strength), Steps::Number(n_steps @ 1..)) if (0.0..=1.0).contains(&strength) => {
            let schedule = lcm::schedule_of_strength(&settings, *n_steps, strength)?;
            if is_finite(&schedule) { Ok(schedule) } else { Err(advice::not_finite(config, options)) }
        }
        _ => schedule_with(config, options),
    }
}

/// How many of the steps image-to-image leaves out at the beginning.
fn skipped_steps(n_steps: usize, strength: Option<f64>) -> Result<usize> {
    let Some(strength) = strength else { return Ok(0) };
    if !(0.0..=1.0).contains(&strength) {
        return Err(Error::Request { field: "strength", got: strength.to_string(), expected: "0 to 1 work".into() });
    }
    // Truncated, as Python's `int` does.
    let n_executed = ((n_steps as f64 * strength) as usize).min(n_steps);
    if n_executed == 0 {
        // Rounded up to a figure that a person can type, so that the advice holds when taken literally.
        let smallest = (1000.0 / n_steps as f64).ceil() / 1000.0;
        let fewest = if strength > 0.0 {
            format!(", and strength {strength} from {} steps on", (1.0 / strength).ceil())
        } else {
            String::new()
        };
        return Err(Error::Request {
            field: "strength",
            got: strength.to_string(),
            expected: format!("with {n_steps} steps no step would remain; a strength from {smallest} on works{fewest}"),
        });
    }
    Ok(n_steps - n_executed)
}

/// Combinations exist for which diffusers' formulas divide by zero and its pictures come out as NaN.
fn is_finite(schedule: &Schedule) -> bool {
    let finite = |pair: (f64, f64)| pair.0.is_finite() && pair.1.is_finite();
    schedule.init_noise_sigma.is_finite()
        && finite(schedule.add_noise)
        && schedule.steps.iter().all(|step| {
            step.timestep.is_finite()
                && step.input_scale.is_finite()
                && step.renoise.is_none_or(finite)
                && step.updates.iter().flat_map(|update| &update.terms).all(|(_, coefficient)| coefficient.is_finite())
        })
}
