//! Samplers: from a scheduler config, a number of steps and a strength to every coefficient of a run, as plain data.
//!
//! A sampler turns the current latents, the model's output and noise into the next latents by linear combinations whose
//! coefficients do not depend on the data. [`schedule`] therefore works out a whole run beforehand; whoever holds the
//! latents applies the [`Lincomb`]s. The reference is diffusers 0.42.1: the tables of noise levels, and the few scalars
//! whose rounding shows in the result, are rounded to f32 where diffusers rounds them, and all else is f64.
//!
//! Deliberately absent: tensors, devices, random numbers, files, and anything async. Options that are not linear
//! (dynamic thresholding) or not of Stable Diffusion (flow sigmas) are errors that name the field.

mod betas;
mod config;
mod ddim;
mod dpm_multistep;
mod dpm_singlestep;
mod euler;
mod euler_ancestral;
mod heun;
mod kind;
mod lcm;
mod pndm;
mod prediction;
mod settings;
mod sigmas;
mod sum;
mod timesteps;
mod unipc;

use crate::error::{Error, Result};

pub use config::SchedulerConfig;
pub use kind::SamplerKind;

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

/// `target = clamp(Σ coefficient · slot)`, element by element.
#[derive(Clone, Debug, PartialEq)]
pub struct Lincomb {
    /// The tensor that is overwritten.
    pub target: Slot,
    /// Each slot at most once. The target may be among them: its old value is meant.
    pub terms: Vec<(Slot, f64)>,
    /// Lower and upper bound of the result, where the config asks for clipping.
    pub clamp: Option<(f64, f64)>,
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
    /// One entry per call of the model. Heun calls it twice in every step but the last, PNDM has warm-up calls.
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

/// Works out a run of `n_steps` with the sampler of `config`.
///
/// `strength` is for image-to-image and inpainting: the run starts at the step that has `int(n_steps * strength)` steps
/// left, with an empty history, as diffusers' `get_timesteps` does. `None` runs all steps. It is in 0-1.
///
/// # Errors
/// [`Error::Request`] for a number of steps or a strength that leaves nothing to do or that the sampler cannot do, and
/// [`Error::Config`] for options of the config that are not supported; both say what would work.
pub fn schedule(config: &SchedulerConfig, n_steps: usize, strength: Option<f64>) -> Result<Schedule> {
    let settings = config.settings()?;
    if n_steps == 0 || n_steps > settings.num_train_timesteps {
        return Err(Error::Request {
            field: "steps",
            got: n_steps.to_string(),
            expected: format!("1 to {} work with this checkpoint", settings.num_train_timesteps),
        });
    }
    let n_skipped = skipped_steps(n_steps, strength)?;
    let schedule = match settings.kind {
        SamplerKind::Ddim => ddim::schedule(&settings, n_steps, n_skipped),
        SamplerKind::Pndm => pndm::schedule(&settings, n_steps, n_skipped),
        SamplerKind::Euler => euler::schedule(&settings, n_steps, n_skipped),
        SamplerKind::EulerAncestral => euler_ancestral::schedule(&settings, n_steps, n_skipped),
        SamplerKind::DpmPp2m | SamplerKind::DpmPp2mKarras | SamplerKind::DpmPp2mSde => {
            dpm_multistep::schedule(&settings, n_steps, n_skipped)
        }
        SamplerKind::DpmPp2sSde => dpm_singlestep::schedule(&settings, n_steps, n_skipped),
        SamplerKind::Heun => heun::schedule(&settings, n_steps, n_skipped),
        SamplerKind::UniPc => unipc::schedule(&settings, n_steps, n_skipped),
        SamplerKind::Lcm => lcm::schedule(&settings, n_steps, n_skipped),
    }?;
    check_finite(&settings, n_steps, &schedule)?;
    Ok(schedule)
}

/// [`schedule`] for image-to-image with a latent consistency model, whose pipeline in diffusers hands the strength to the
/// scheduler instead of leaving steps out.
///
/// # Errors
/// As [`schedule`]; for another sampler than LCM it is the same.
pub fn schedule_of_consistency_image(config: &SchedulerConfig, n_steps: usize, strength: f64) -> Result<Schedule> {
    let settings = config.settings()?;
    if settings.kind != SamplerKind::Lcm || !(0.0..=1.0).contains(&strength) || n_steps == 0 {
        return schedule(config, n_steps, Some(strength));
    }
    let schedule = lcm::schedule_of_strength(&settings, n_steps, strength)?;
    check_finite(&settings, n_steps, &schedule)?;
    Ok(schedule)
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

/// Combinations exist for which diffusers' formulas divide by zero and its pictures come out as NaN. They are refused
/// here.
fn check_finite(settings: &Settings, n_steps: usize, schedule: &Schedule) -> Result<()> {
    let finite = |pair: (f64, f64)| pair.0.is_finite() && pair.1.is_finite();
    let levels = schedule.init_noise_sigma.is_finite() && finite(schedule.add_noise);
    let steps = schedule.steps.iter().all(|step| {
        step.timestep.is_finite()
            && step.input_scale.is_finite()
            && step.renoise.is_none_or(finite)
            && step.updates.iter().flat_map(|update| &update.terms).all(|(_, coefficient)| coefficient.is_finite())
    });
    if levels && steps {
        return Ok(());
    }
    let hint = if settings.rescale_betas_zero_snr {
        "rescale_betas_zero_snr leaves the first step no signal, where v_prediction or another sampler works"
    } else if !settings.lower_order_final {
        "lower_order_final false divides by zero at the end, where true works"
    } else {
        "two neighbouring steps have the same noise level, where fewer steps work"
    };
    Err(settings.unsupported(&format!("{} with {n_steps} steps", settings.kind), hint))
}
