//! The samplers' names. Deliberately not: what they do, which is one file per sampler.
//!
//! A [`Sampler`] is a [`SamplerKind`], the solver, and optionally a [`SigmaSchedule`], the spacing of its noise levels.
//! People write both in one name (`DPM++ 2M SDE Karras`), so one name is parsed into both, in the spellings of diffusers,
//! AUTOMATIC1111 and ComfyUI.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A solver, with the forms of DPM-Solver that people know by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SamplerKind {
    /// Denoising diffusion implicit models (arXiv 2010.02502).
    Ddim,
    /// Pseudo numerical methods, linear multistep; also called PLMS (arXiv 2202.09778).
    Pndm,
    /// Euler's method on the probability-flow ODE (arXiv 2206.00364, algorithm 2 without churn).
    Euler,
    /// Euler's method with noise added back in every step.
    EulerAncestral,
    /// DPM-Solver++, second-order multistep (arXiv 2211.01095).
    DpmPp2m,
    /// The stochastic form of [`SamplerKind::DpmPp2m`].
    DpmPp2mSde,
    /// DPM-Solver++, second-order single-step, stochastic.
    DpmPp2sSde,
    /// Heun's method: two model calls in every step but the last.
    Heun,
    /// Unified predictor-corrector (arXiv 2302.04867).
    UniPc,
    /// Latent consistency models, for checkpoints distilled for it (arXiv 2310.04378).
    Lcm,
}

/// What is written of one kind: its own name, AUTOMATIC1111's or the usual one, diffusers' class without `Scheduler`, and
/// other spellings as [`plain`] leaves them.
struct Names {
    own: &'static str,
    a1111: &'static str,
    class: &'static str,
    others: &'static [&'static str],
}

impl SamplerKind {
    /// All solvers for checkpoints of the usual kind, in the order in which a menu shows them.
    pub const ALL: [SamplerKind; 10] = [
        SamplerKind::DpmPp2m,
        SamplerKind::DpmPp2mSde,
        SamplerKind::DpmPp2sSde,
        SamplerKind::UniPc,
        SamplerKind::Euler,
        SamplerKind::EulerAncestral,
        SamplerKind::Heun,
        SamplerKind::Ddim,
        SamplerKind::Pndm,
        SamplerKind::Lcm,
    ];

    const fn names(self) -> Names {
        let (own, a1111, class, others): (_, _, _, &[&str]) = match self {
            SamplerKind::Ddim => ("ddim", "DDIM", "DDIM", &[]),
            SamplerKind::Pndm => ("pndm", "PLMS", "PNDM", &[]),
            SamplerKind::Euler => ("euler", "Euler", "EulerDiscrete", &[]),
            SamplerKind::EulerAncestral => {
                ("euler_a", "Euler a", "EulerAncestralDiscrete", &["eulerancestral", "keulera", "keulerancestral"])
            }
            SamplerKind::DpmPp2m => ("dpm++2m", "DPM++ 2M", "DPMSolverMultistep", &[]),
            SamplerKind::DpmPp2mSde => ("dpm++2m_sde", "DPM++ 2M SDE", "DPMSolverMultistep", &[]),
            SamplerKind::DpmPp2sSde => ("dpm++2s_sde", "DPM++ 2S SDE", "DPMSolverSinglestep", &[]),
            SamplerKind::Heun => ("heun", "Heun", "HeunDiscrete", &[]),
            SamplerKind::UniPc => ("unipc", "UniPC", "UniPCMultistep", &["unipcbh2"]),
            SamplerKind::Lcm => ("lcm", "LCM", "LCM", &[]),
        };
        Names { own, a1111, class, others }
    }

    /// The name that requests, metadata and the command line use.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.names().own
    }

    /// AUTOMATIC1111's name where it has the solver, and otherwise what people call it.
    #[must_use]
    pub fn a1111_name(self) -> &'static str {
        self.names().a1111
    }

    /// Whether diffusers' class has a choice of schedules, and this one among them.
    #[must_use]
    pub fn has_schedule(self, schedule: SigmaSchedule) -> bool {
        let has_choice =
            !matches!(self, SamplerKind::Ddim | SamplerKind::Pndm | SamplerKind::EulerAncestral | SamplerKind::Lcm);
        match schedule {
            SigmaSchedule::Lu => matches!(self, SamplerKind::DpmPp2m | SamplerKind::DpmPp2mSde),
            SigmaSchedule::Karras | SigmaSchedule::Exponential | SigmaSchedule::Beta => has_choice,
        }
    }

    /// The solver that a name in the form of [`plain`] means.
    fn from_plain(name: &str) -> Option<Self> {
        // Samplers as k-diffusion called them: `k_lms`, `sample_dpmpp_2m`; and ComfyUI's with noise from the GPU.
        let bare = name.strip_prefix("sample").or_else(|| name.strip_prefix('k')).unwrap_or(name);
        let bare = bare.strip_suffix("gpu").unwrap_or(bare);
        let is_called = |kind: &SamplerKind, name: &str| {
            let names = kind.names();
            let known = [names.own, names.a1111, names.class];
            known.iter().any(|known| plain(known) == name) || names.others.contains(&name)
        };
        let class = name.strip_suffix("scheduler").unwrap_or(name);
        [name, bare, class].into_iter().find_map(|name| SamplerKind::ALL.into_iter().find(|kind| is_called(kind, name)))
    }
}

impl fmt::Display for SamplerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How the noise levels of a run are spaced, in place of the checkpoint's training steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SigmaSchedule {
    /// Evenly in the seventh root (arXiv 2206.00364, equation 5).
    Karras,
    /// Evenly in the logarithm.
    Exponential,
    /// By the quantiles of a beta distribution (arXiv 2407.12173).
    Beta,
    /// Evenly in the logarithm of the signal-to-noise ratio (arXiv 2206.00927).
    Lu,
}

impl SigmaSchedule {
    /// All schedules, in the order in which a message lists them.
    pub const ALL: [SigmaSchedule; 4] =
        [SigmaSchedule::Karras, SigmaSchedule::Exponential, SigmaSchedule::Beta, SigmaSchedule::Lu];

    /// The ending of a sampler's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            SigmaSchedule::Karras => "karras",
            SigmaSchedule::Exponential => "exponential",
            SigmaSchedule::Beta => "beta",
            SigmaSchedule::Lu => "lu",
        }
    }

    /// What AUTOMATIC1111 writes as `Schedule type`, or as the ending of a sampler's name.
    #[must_use]
    pub fn a1111_name(self) -> &'static str {
        match self {
            SigmaSchedule::Karras => "Karras",
            SigmaSchedule::Exponential => "Exponential",
            SigmaSchedule::Beta => "Beta",
            SigmaSchedule::Lu => "Lu",
        }
    }
}

/// What a request names: a solver, and the spacing of its noise levels where the name says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sampler {
    /// The solver.
    pub kind: SamplerKind,
    /// `None` leaves the spacing to the checkpoint's `scheduler_config.json`.
    pub schedule: Option<SigmaSchedule>,
}

impl Sampler {
    /// The names that a menu offers: every solver, and the schedules people ask for.
    #[must_use]
    pub fn menu() -> Vec<Sampler> {
        let with_karras = [SamplerKind::DpmPp2m, SamplerKind::DpmPp2mSde, SamplerKind::Euler];
        let entry = |kind: SamplerKind| {
            let karras = Sampler { kind, schedule: Some(SigmaSchedule::Karras) };
            std::iter::once(Sampler::from(kind)).chain(with_karras.contains(&kind).then_some(karras))
        };
        SamplerKind::ALL.into_iter().flat_map(entry).collect()
    }

    /// The name that requests, metadata and the command line use: `dpm++2m_karras`.
    #[must_use]
    pub fn name(self) -> String {
        match self.schedule {
            None => self.kind.name().to_owned(),
            Some(schedule) => format!("{}_{}", self.kind.name(), schedule.name()),
        }
    }

    /// The name in the form of AUTOMATIC1111: `DPM++ 2M Karras`. It parses back to the same sampler.
    #[must_use]
    pub fn a1111_name(self) -> String {
        match self.schedule {
            None => self.kind.a1111_name().to_owned(),
            Some(schedule) => format!("{} {}", self.kind.a1111_name(), schedule.a1111_name()),
        }
    }
}

impl From<SamplerKind> for Sampler {
    fn from(kind: SamplerKind) -> Self {
        Sampler { kind, schedule: None }
    }
}

impl fmt::Display for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// A name without what does not matter in it: case, spaces, `-`, `_`, and `pp` for `++`.
fn plain(name: &str) -> String {
    let kept: String = name.to_lowercase().chars().filter(|c| !c.is_whitespace() && !"-_".contains(*c)).collect();
    kept.replace("dpmpp", "dpm++")
}

impl FromStr for Sampler {
    type Err = Error;

    /// Case, spaces, `-` and `_` do not matter, and `pp` stands for `++`. Known are the names of this program, of
    /// AUTOMATIC1111, of ComfyUI and diffusers' classes, each with a schedule behind it or without one.
    ///
    /// # Errors
    /// [`Error::Request`] with the names that work.
    fn from_str(name: &str) -> Result<Self> {
        let whole = plain(name);
        if let Some(kind) = SamplerKind::from_plain(&whole) {
            return Ok(kind.into());
        }
        let split = SigmaSchedule::ALL.into_iter().find_map(|schedule| {
            let kind = SamplerKind::from_plain(whole.strip_suffix(schedule.name())?)?;
            Some(Sampler { kind, schedule: Some(schedule) })
        });
        let refuse = |expected: String| Err(Error::Request { field: "sampler", got: format!("{name:?}"), expected });
        let names =
            |kinds: &mut dyn Iterator<Item = SamplerKind>| kinds.map(SamplerKind::name).collect::<Vec<_>>().join(", ");
        match split {
            Some(Sampler { kind, schedule: Some(schedule) }) if !kind.has_schedule(schedule) => {
                let having = names(&mut SamplerKind::ALL.into_iter().filter(|kind| kind.has_schedule(schedule)));
                refuse(format!("{kind} has no {} schedule; these have one: {having}", schedule.name()))
            }
            Some(sampler) => Ok(sampler),
            None => refuse(format!(
                "the samplers are {}; most can be followed by a schedule ({}), as in dpm++2m_karras",
                names(&mut SamplerKind::ALL.into_iter()),
                SigmaSchedule::ALL.map(SigmaSchedule::name).join(", ")
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every() -> impl Iterator<Item = Sampler> {
        SamplerKind::ALL.into_iter().flat_map(|kind| {
            let with = SigmaSchedule::ALL.into_iter().filter(move |&schedule| kind.has_schedule(schedule));
            let with = with.map(move |schedule| Sampler { kind, schedule: Some(schedule) });
            std::iter::once(Sampler::from(kind)).chain(with)
        })
    }

    #[test]
    fn every_name_leads_back_to_its_sampler() {
        for sampler in every() {
            assert_eq!(sampler.name().parse::<Sampler>().unwrap(), sampler);
            assert_eq!(sampler.to_string().to_uppercase().parse::<Sampler>().unwrap(), sampler);
            assert_eq!(sampler.a1111_name().parse::<Sampler>().unwrap(), sampler);
        }
    }

    #[test]
    fn spellings_in_use_are_understood() {
        for (name, canonical) in [
            ("PLMS", "pndm"),
            ("Euler a", "euler_a"),
            ("euler-ancestral", "euler_a"),
            ("k_euler_a", "euler_a"),
            ("dpmpp_2m", "dpm++2m"),
            ("DPM++ 2M", "dpm++2m"),
            ("DPM++ 2M Karras", "dpm++2m_karras"),
            ("dpm++-2m-sde", "dpm++2m_sde"),
            ("DPM++ 2M SDE Karras", "dpm++2m_sde_karras"),
            ("dpmpp_2m_sde_gpu", "dpm++2m_sde"),
            ("DPM++ 2S SDE", "dpm++2s_sde"),
            ("UniPC", "unipc"),
            ("uni_pc", "unipc"),
            ("Euler Beta", "euler_beta"),
            ("DPMSolverMultistepScheduler", "dpm++2m"),
            ("EulerDiscreteScheduler", "euler"),
        ] {
            assert_eq!(name.parse::<Sampler>().unwrap().name(), canonical, "{name}");
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let message = "dpm3".parse::<Sampler>().unwrap_err().to_string();
        assert!(message.starts_with("sampler \"dpm3\" is not possible"), "{message}");
        for kind in SamplerKind::ALL {
            assert!(message.contains(kind.name()), "{message}");
        }
    }

    #[test]
    fn a_schedule_that_the_sampler_does_not_have_is_named() {
        let message = "Euler a Karras".parse::<Sampler>().unwrap_err().to_string();
        assert!(message.contains("euler_a has no karras schedule; these have one: dpm++2m, "), "{message}");
    }
}
