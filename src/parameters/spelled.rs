//! Samplers as programs on k-diffusion spell them: a name, and a schedule of noise levels beside it or behind it.
//!
//! What has no name of ours is kept as it was written, and a note says what it means where that is known.

use super::found::Settings;
use crate::sampler::{Sampler, SamplerKind, SigmaSchedule, Spacing};

/// What a name of a schedule means here.
enum Meaning {
    /// Noise levels of their own.
    Schedule(SigmaSchedule),
    /// The model's noise levels at these training steps.
    Spaced(Spacing),
    /// What the program chooses for the sampler.
    Automatic,
    Unknown,
}

fn meaning(schedule: &str) -> Meaning {
    let plain: String = schedule.to_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
    match plain.as_str() {
        "karras" => Meaning::Schedule(SigmaSchedule::Karras),
        // With the usual rho of 1 the second is the first.
        "exponential" | "polyexponential" => Meaning::Schedule(SigmaSchedule::Exponential),
        "beta" => Meaning::Schedule(SigmaSchedule::Beta),
        "" | "automatic" => Meaning::Automatic,
        "uniform" | "normal" => Meaning::Spaced(Spacing::Linspace),
        "simple" | "sgmuniform" => Meaning::Spaced(Spacing::Trailing),
        "ddim" | "ddimuniform" => Meaning::Spaced(Spacing::Leading),
        _ => Meaning::Unknown,
    }
}

/// What AUTOMATIC1111 chooses where the schedule is `Automatic`.
fn automatic(sampler: &str) -> Option<SigmaSchedule> {
    match sampler {
        "DPM++ 2M" | "DPM++ SDE" | "DPM++ 2S a" | "DPM2" | "DPM2 a" | "Restart" => Some(SigmaSchedule::Karras),
        "DPM++ 2M SDE" | "DPM++ 2M SDE Heun" | "DPM++ 3M SDE" => Some(SigmaSchedule::Exponential),
        _ => None,
    }
}

/// Whether the sampler is k-diffusion's, which takes its noise levels evenly from the last training step to the first.
fn is_k_diffusion(kind: SamplerKind) -> bool {
    use SamplerKind as K;
    matches!(
        kind,
        K::Euler
            | K::EulerAncestral
            | K::Heun
            | K::Dpm2
            | K::Dpm2Ancestral
            | K::Lms
            | K::DpmPp2m
            | K::DpmPp2mSde
            | K::DpmPpSde
    )
}

/// Takes a sampler with the schedule that stands beside it; without a word about that, it is in the name or there is none.
pub(super) fn take(settings: &mut Settings, name: &str, schedule: Option<&str>, notes: &mut Vec<String>) {
    let name = name.trim();
    let said = schedule.map(str::trim);
    let mut spacing = None;
    let schedule = match said.map(meaning) {
        Some(Meaning::Schedule(schedule)) => Some(schedule),
        Some(Meaning::Automatic) => automatic(name),
        Some(Meaning::Spaced(spaced)) => {
            spacing = Some(spaced);
            None
        }
        Some(Meaning::Unknown) => {
            notes.push(format!("its schedule {:?} is not one of ours", said.unwrap_or_default()));
            None
        }
        None => None,
    };
    let whole = match schedule {
        Some(schedule) if !name.to_lowercase().ends_with(schedule.name()) => {
            format!("{name} {}", schedule.a1111_name())
        }
        _ => name.to_owned(),
    };
    // A schedule that the sampler has not is not worth the sampler.
    let Some(sampler) = whole.parse::<Sampler>().ok() else {
        match name.parse::<Sampler>() {
            Ok(sampler) => {
                notes.push(format!("its schedule {:?} does not exist for its sampler here", said.unwrap_or_default()));
                settings.set_sampler(&sampler.name());
            }
            Err(_) => settings.set_sampler(&whole),
        }
        return;
    };
    settings.set_sampler(&sampler.name());
    if is_k_diffusion(sampler.kind) {
        // Between levels of a schedule, DPM-Solver's class uses no training steps.
        let is_without =
            sampler.schedule.is_some() && matches!(sampler.kind, SamplerKind::DpmPp2m | SamplerKind::DpmPp2mSde);
        settings.spacing = (!is_without).then_some(spacing.unwrap_or(Spacing::Linspace));
    }
    if matches!(sampler.kind, SamplerKind::DpmPpSde | SamplerKind::DpmPp2mSde) {
        notes.push("the noise that its sampler adds in each step is drawn in another way there".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samplers_and_schedules_are_those_of_here() {
        for (name, schedule, sampler, spacing, n_notes) in [
            ("Euler a", None, "euler_a", Some(Spacing::Linspace), 0),
            ("Euler", Some("Simple"), "euler", Some(Spacing::Trailing), 0),
            ("euler", Some("sgm_uniform"), "euler", Some(Spacing::Trailing), 0),
            ("dpmpp_2m", Some("karras"), "dpm++2m_karras", None, 0),
            ("DPM++ 2M", Some("Automatic"), "dpm++2m_karras", None, 0),
            ("DPM++ 2M SDE", Some("Polyexponential"), "dpm++2m_sde_exponential", None, 1),
            ("DPM2 a", Some("Automatic"), "dpm2_a_karras", Some(Spacing::Linspace), 0),
            ("LCM", Some("SGM Uniform"), "lcm", None, 0),
            ("Euler a", Some("Karras"), "euler_a", None, 1),
            ("Restart", Some("Automatic"), "Restart Karras", None, 0),
            ("Euler", Some("Align Your Steps"), "euler", Some(Spacing::Linspace), 1),
            ("dpm_2_ancestral", Some("normal"), "dpm2_a", Some(Spacing::Linspace), 0),
            ("ddim", Some("ddim_uniform"), "ddim", None, 0),
        ] {
            let (mut settings, mut notes) = (Settings::default(), Vec::new());
            take(&mut settings, name, schedule, &mut notes);
            assert_eq!(settings.sampler.as_deref(), Some(sampler), "{name} {schedule:?}");
            assert_eq!(settings.spacing, spacing, "{name} {schedule:?}");
            assert_eq!(notes.len(), n_notes, "{name} {schedule:?}: {notes:?}");
        }
    }
}
