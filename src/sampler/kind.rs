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
    /// DPM-Solver++, second-order single-step.
    DpmPp2s,
    /// The stochastic form of [`SamplerKind::DpmPp2s`].
    DpmPp2sSde,
    /// DPM-Solver++ with noise in both halves of a step, as k-diffusion has it.
    DpmPpSde,
    /// DPM-Solver, second-order multistep: the older form that extrapolates the noise (arXiv 2206.00927).
    Dpm2m,
    /// The stochastic form of [`SamplerKind::Dpm2m`].
    Dpm2mSde,
    /// DPM-Solver, second-order single-step.
    Dpm2s,
    /// DPM-Solver-2 as k-diffusion has it: two model calls in every step but the last.
    Dpm2,
    /// [`SamplerKind::Dpm2`] with noise added back in every step.
    Dpm2Ancestral,
    /// Heun's method: two model calls in every step but the last.
    Heun,
    /// Linear multistep, fourth order.
    Lms,
    /// Diffusion exponential integrator, multistep (arXiv 2204.13902).
    Deis,
    /// Unified predictor-corrector (arXiv 2302.04867).
    UniPc,
    /// Ancestral sampling of denoising diffusion probabilistic models (arXiv 2006.11239).
    Ddpm,
    /// Latent consistency models, for checkpoints distilled for it (arXiv 2310.04378).
    Lcm,
    /// Trajectory consistency distillation, for checkpoints distilled for it (arXiv 2402.19159).
    Tcd,
    /// [`SamplerKind::Euler`] for checkpoints trained in the form of EDM, such as Playground v2.5.
    EdmEuler,
    /// [`SamplerKind::DpmPp2m`] for the same checkpoints.
    EdmDpmPp2m,
    /// [`SamplerKind::DpmPp2mSde`] for the same checkpoints.
    EdmDpmPp2mSde,
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
    pub const ALL: [SamplerKind; 21] = [
        SamplerKind::DpmPp2m,
        SamplerKind::DpmPp2mSde,
        SamplerKind::DpmPp2s,
        SamplerKind::DpmPp2sSde,
        SamplerKind::DpmPpSde,
        SamplerKind::UniPc,
        SamplerKind::Euler,
        SamplerKind::EulerAncestral,
        SamplerKind::Heun,
        SamplerKind::Dpm2,
        SamplerKind::Dpm2Ancestral,
        SamplerKind::Lms,
        SamplerKind::Deis,
        SamplerKind::Ddim,
        SamplerKind::Ddpm,
        SamplerKind::Pndm,
        SamplerKind::Dpm2m,
        SamplerKind::Dpm2mSde,
        SamplerKind::Dpm2s,
        SamplerKind::Lcm,
        SamplerKind::Tcd,
    ];

    /// The solvers for checkpoints trained in the form of EDM, which can use no others.
    pub const EDM: [SamplerKind; 3] = [SamplerKind::EdmDpmPp2m, SamplerKind::EdmDpmPp2mSde, SamplerKind::EdmEuler];

    const fn names(self) -> Names {
        let (own, a1111, class, others): (_, _, _, &[&str]) = match self {
            SamplerKind::Ddim => ("ddim", "DDIM", "DDIM", &[]),
            SamplerKind::Ddpm => ("ddpm", "DDPM", "DDPM", &[]),
            SamplerKind::Pndm => ("pndm", "PLMS", "PNDM", &[]),
            SamplerKind::Euler => ("euler", "Euler", "EulerDiscrete", &[]),
            SamplerKind::EulerAncestral => ("euler_a", "Euler a", "EulerAncestralDiscrete", &["eulerancestral"]),
            SamplerKind::DpmPp2m => ("dpm++2m", "DPM++ 2M", "DPMSolverMultistep", &[]),
            SamplerKind::DpmPp2mSde => ("dpm++2m_sde", "DPM++ 2M SDE", "DPMSolverMultistep", &[]),
            SamplerKind::DpmPp2s => ("dpm++2s", "DPM++ 2S", "DPMSolverSinglestep", &[]),
            SamplerKind::DpmPp2sSde => ("dpm++2s_sde", "DPM++ 2S SDE", "DPMSolverSinglestep", &[]),
            SamplerKind::DpmPpSde => ("dpm++sde", "DPM++ SDE", "DPMSolverSDE", &[]),
            SamplerKind::Dpm2m => ("dpmsolver_2m", "DPM-Solver 2M", "DPMSolverMultistep", &[]),
            SamplerKind::Dpm2mSde => ("dpmsolver_2m_sde", "DPM-Solver 2M SDE", "DPMSolverMultistep", &[]),
            SamplerKind::Dpm2s => ("dpmsolver_2s", "DPM-Solver 2S", "DPMSolverSinglestep", &[]),
            SamplerKind::Dpm2 => ("dpm2", "DPM2", "KDPM2Discrete", &[]),
            SamplerKind::Dpm2Ancestral => ("dpm2_a", "DPM2 a", "KDPM2AncestralDiscrete", &["dpm2ancestral"]),
            SamplerKind::Heun => ("heun", "Heun", "HeunDiscrete", &[]),
            SamplerKind::Lms => ("lms", "LMS", "LMSDiscrete", &[]),
            SamplerKind::Deis => ("deis", "DEIS", "DEISMultistep", &[]),
            SamplerKind::UniPc => ("unipc", "UniPC", "UniPCMultistep", &["unipcbh2"]),
            SamplerKind::Lcm => ("lcm", "LCM", "LCM", &[]),
            SamplerKind::Tcd => ("tcd", "TCD", "TCD", &[]),
            SamplerKind::EdmEuler => ("edm_euler", "EDM Euler", "EDMEuler", &[]),
            SamplerKind::EdmDpmPp2m => ("edm_dpm++2m", "EDM DPM++ 2M", "EDMDPMSolverMultistep", &[]),
            SamplerKind::EdmDpmPp2mSde => ("edm_dpm++2m_sde", "EDM DPM++ 2M SDE", "EDMDPMSolverMultistep", &[]),
        };
        Names { own, a1111, class, others }
    }

    /// Calls of the model in a step, but for the first or last one.
    #[must_use]
    pub fn calls_per_step(self) -> usize {
        match self {
            SamplerKind::Heun | SamplerKind::Dpm2 | SamplerKind::Dpm2Ancestral | SamplerKind::DpmPpSde => 2,
            _ => 1,
        }
    }

    /// diffusers' class, without `Scheduler` behind it.
    #[must_use]
    pub fn class(self) -> &'static str {
        self.names().class
    }

    /// diffusers' classes that can be run, each once.
    pub(super) fn class_names() -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for kind in SamplerKind::ALL.into_iter().chain(SamplerKind::EDM) {
            let name = format!("{}Scheduler", kind.class());
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// The `algorithm_type` of the classes for DPM-Solver that makes them this solver.
    pub(super) fn algorithm(self) -> Option<&'static str> {
        match self {
            SamplerKind::DpmPp2m | SamplerKind::DpmPp2s | SamplerKind::EdmDpmPp2m => Some("dpmsolver++"),
            SamplerKind::DpmPp2mSde | SamplerKind::DpmPp2sSde | SamplerKind::EdmDpmPp2mSde => Some("sde-dpmsolver++"),
            SamplerKind::Dpm2m | SamplerKind::Dpm2s => Some("dpmsolver"),
            SamplerKind::Dpm2mSde => Some("sde-dpmsolver"),
            _ => None,
        }
    }

    /// Whether this is `DPMSolverMultistepScheduler`.
    pub(super) fn is_multistep(self) -> bool {
        self.class() == "DPMSolverMultistep"
    }

    /// Whether this is `DPMSolverSinglestepScheduler`.
    pub(super) fn is_singlestep(self) -> bool {
        self.class() == "DPMSolverSinglestep"
    }

    /// Whether this is for checkpoints trained in the form of EDM.
    pub(super) fn is_edm(self) -> bool {
        SamplerKind::EDM.contains(&self)
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
        use SamplerKind as K;
        let without = matches!(self, K::Ddim | K::Ddpm | K::Pndm | K::EulerAncestral | K::Lcm | K::Tcd);
        match schedule {
            SigmaSchedule::Lu => self.is_multistep(),
            SigmaSchedule::Karras | SigmaSchedule::Exponential | SigmaSchedule::Beta => !without && !self.is_edm(),
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
        [name, bare, class]
            .into_iter()
            .find_map(|name| SamplerKind::ALL.into_iter().chain(SamplerKind::EDM).find(|kind| is_called(kind, name)))
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
    /// All schedules. Where a config asks for several, diffusers takes the first.
    pub const ALL: [SigmaSchedule; 4] =
        [SigmaSchedule::Karras, SigmaSchedule::Lu, SigmaSchedule::Exponential, SigmaSchedule::Beta];

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
        let with_karras = [
            SamplerKind::DpmPp2m,
            SamplerKind::DpmPp2mSde,
            SamplerKind::DpmPpSde,
            SamplerKind::Euler,
            SamplerKind::Lms,
        ];
        let entry = |kind: SamplerKind| {
            let karras = Sampler { kind, schedule: Some(SigmaSchedule::Karras) };
            std::iter::once(Sampler::from(kind)).chain(with_karras.contains(&kind).then_some(karras))
        };
        SamplerKind::ALL.into_iter().flat_map(entry).collect()
    }

    /// All names, in a line for people.
    #[must_use]
    pub fn known() -> String {
        format!(
            "{} (and {} for EDM models such as Playground v2.5); most can be followed by a schedule ({}), as in \
             dpm++2m_karras",
            SamplerKind::ALL.map(SamplerKind::name).join(", "),
            SamplerKind::EDM.map(SamplerKind::name).join(", "),
            SigmaSchedule::ALL.map(SigmaSchedule::name).join(", ")
        )
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
            None => refuse(format!("the samplers are {}", Sampler::known())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every() -> impl Iterator<Item = Sampler> {
        SamplerKind::ALL.into_iter().chain(SamplerKind::EDM).flat_map(|kind| {
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
            ("DPM++ 2M SDE Exponential", "dpm++2m_sde_exponential"),
            ("DPM++ SDE", "dpm++sde"),
            ("dpmpp_sde", "dpm++sde"),
            ("DPM++ SDE Karras", "dpm++sde_karras"),
            ("DPM2", "dpm2"),
            ("DPM2 Karras", "dpm2_karras"),
            ("dpm_2", "dpm2"),
            ("k_dpm_2", "dpm2"),
            ("DPM2 a", "dpm2_a"),
            ("DPM2 a Karras", "dpm2_a_karras"),
            ("dpm_2_ancestral", "dpm2_a"),
            ("k_dpm_2_a", "dpm2_a"),
            ("KDPM2AncestralDiscreteScheduler", "dpm2_a"),
            ("LMS", "lms"),
            ("LMS Karras", "lms_karras"),
            ("k_lms", "lms"),
            ("Heun", "heun"),
            ("DDIM", "ddim"),
            ("DEIS", "deis"),
            ("DDPM", "ddpm"),
            ("TCD", "tcd"),
            ("LCM", "lcm"),
            ("DPM++ 2M Lu", "dpm++2m_lu"),
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
