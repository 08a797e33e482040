//! What a caller may say about a run beside the sampler: the number of steps or the steps themselves, where to start,
//! and eta. Deliberately not: the checkpoint's own options, which are in `config` and `settings`.

use crate::error::{Error, Result};

use super::{SamplerKind, Settings};

/// The steps of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Steps {
    /// That many, chosen by the sampler.
    Number(usize),
    /// At these training steps, from noise to picture, such as those of "Align Your Steps".
    Timesteps(Vec<usize>),
    /// From each of these noise levels to the next; one more than there are steps. The last one is usually 0.
    Sigmas(Vec<f64>),
}

impl Steps {
    /// How many steps these are.
    #[must_use]
    pub fn number(&self) -> usize {
        match self {
            Steps::Number(n_steps) => *n_steps,
            Steps::Timesteps(timesteps) => timesteps.len(),
            Steps::Sigmas(sigmas) => sigmas.len().saturating_sub(1),
        }
    }
}

/// All that a run depends on beside the checkpoint's config.
#[derive(Clone, Debug, PartialEq)]
pub struct RunOptions {
    /// The steps.
    pub steps: Steps,
    /// For image-to-image and inpainting, 0 to 1: the run starts where `int(n_steps * strength)` steps are left, with an
    /// empty history, as diffusers' `get_timesteps` does. `None` runs all steps.
    pub strength: Option<f64>,
    /// How much noise DDIM and TCD add in each step, 0 to 1. The other samplers have no such choice.
    pub eta: f64,
}

impl RunOptions {
    /// A whole run of `n_steps`, without noise where the sampler has the choice.
    #[must_use]
    pub fn new(n_steps: usize) -> Self {
        RunOptions { steps: Steps::Number(n_steps), strength: None, eta: 0.0 }
    }
}

impl SamplerKind {
    /// Whether diffusers' class takes the timesteps from the caller.
    #[must_use]
    pub fn takes_timesteps(self) -> bool {
        use SamplerKind as K;
        matches!(
            self,
            K::Ddpm | K::Euler | K::Heun | K::Lcm | K::Tcd | K::DpmPp2m | K::DpmPp2mSde | K::DpmPp2s | K::DpmPp2sSde
        ) || matches!(self, K::Dpm2m | K::Dpm2mSde | K::Dpm2s)
    }

    /// Whether diffusers' class takes the noise levels from the caller.
    #[must_use]
    pub fn takes_sigmas(self) -> bool {
        self == SamplerKind::Euler
    }

    /// Whether diffusers' class has a choice of `timestep_spacing`.
    #[must_use]
    pub fn takes_spacing(self) -> bool {
        !matches!(self, SamplerKind::Lcm | SamplerKind::Tcd) && !self.is_singlestep() && !self.is_edm()
    }

    /// Whether diffusers' class has a choice of eta.
    #[must_use]
    pub fn takes_eta(self) -> bool {
        matches!(self, SamplerKind::Ddim | SamplerKind::Tcd)
    }
}

/// The names of the samplers with a property.
pub(super) fn names_of(has: impl Fn(SamplerKind) -> bool) -> String {
    let names: Vec<&str> = SamplerKind::ALL.into_iter().filter(|&kind| has(kind)).map(SamplerKind::name).collect();
    names.join(", ")
}

fn refuse<T>(field: &'static str, got: impl ToString, expected: String) -> Result<T> {
    Err(Error::Request { field, got: got.to_string(), expected })
}

/// A list as it is typed.
fn listed(values: &[impl ToString]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Refuses what the sampler's class in diffusers does not take, and lists that lead nowhere.
pub(super) fn check(settings: &Settings, options: &RunOptions) -> Result<()> {
    let (kind, n_train) = (settings.kind, settings.num_train_timesteps);
    if !(0.0..=1.0).contains(&options.eta) {
        return refuse("eta", options.eta, "0 to 1 work".into());
    }
    if options.eta > 0.0 && !kind.takes_eta() {
        let expected = format!("{kind} does not use it; these samplers do: {}", names_of(SamplerKind::takes_eta));
        return refuse("eta", options.eta, expected);
    }
    let descending = |values: &[f64]| values.windows(2).all(|pair| pair[0] > pair[1]);
    match &options.steps {
        Steps::Number(n_steps) => {
            if *n_steps == 0 || *n_steps > n_train {
                return refuse("steps", n_steps, format!("1 to {n_train} work with this checkpoint"));
            }
        }
        Steps::Timesteps(timesteps) => {
            if !kind.takes_timesteps() {
                let able = names_of(SamplerKind::takes_timesteps);
                return refuse("timesteps", listed(timesteps), format!("{kind} takes none; these samplers do: {able}"));
            }
            let as_reals: Vec<f64> = timesteps.iter().map(|&t| t as f64).collect();
            let first = timesteps.first().copied().unwrap_or(n_train);
            if first >= n_train || !descending(&as_reals) {
                let expected = format!("whole numbers from {} down work, each below the one before it", n_train - 1);
                return refuse("timesteps", listed(timesteps), expected);
            }
            if let Some(schedule) = settings.schedule {
                let expected = format!("the {} schedule chooses its own: leave one of the two out", schedule.name());
                return refuse("timesteps", format!("with {kind}_{}", schedule.name()), expected);
            }
            if settings.continuous_timesteps {
                return refuse("timesteps", "with timestep_type continuous", "sigmas work".into());
            }
        }
        Steps::Sigmas(sigmas) => {
            if !kind.takes_sigmas() {
                let able = names_of(SamplerKind::takes_sigmas);
                return refuse("sigmas", listed(sigmas), format!("{kind} takes none; these samplers do: {able}"));
            }
            let in_range = sigmas.iter().all(|sigma| (0.0..=1e6).contains(sigma));
            if sigmas.len() < 2 || !in_range || !descending(sigmas) {
                let expected = "two or more numbers from large to small work, usually with 0 as the last one".into();
                return refuse("sigmas", listed(sigmas), expected);
            }
        }
    }
    Ok(())
}
