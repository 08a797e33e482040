//! `scheduler_config.json`: reading it, which sampler it names, and what changes when another sampler takes it over.
//!
//! The fields are kept as they stand in the file; `settings` turns them into what one sampler uses, because a missing
//! field means something else for every scheduler class. Unknown fields are ignored, as diffusers does.

use serde::{Deserialize, Deserializer};

use crate::error::{Error, Result};
use crate::json;

use super::{RunOptions, Sampler, SamplerKind, Settings, SigmaSchedule, Spacing};

/// A parsed `scheduler_config.json`.
#[derive(Clone, Debug)]
pub struct SchedulerConfig {
    pub(super) file: String,
    pub(super) fields: Fields,
    /// Set by [`SchedulerConfig::with_sampler`]; otherwise the file's class decides.
    pub(super) chosen: Option<SamplerKind>,
    absent: Absent,
}

/// Which pipeline corrects an old file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Correction {
    /// From text or from a picture: `steps_offset` 1, `clip_sample` false.
    Text,
    /// Inpainting: `steps_offset` 1, `skip_prk_steps` true.
    Inpaint,
}

/// What a pipeline sets of the fields that the file leaves out.
#[derive(Clone, Copy, Debug, Default)]
struct Absent {
    steps_offset: Option<i64>,
    clip_sample: Option<bool>,
    skip_prk_steps: Option<bool>,
}

impl SchedulerConfig {
    /// Whether the noise schedule is rescaled to end without any signal (`rescale_betas_zero_snr`).
    #[must_use]
    pub fn is_zero_snr(&self) -> bool {
        self.fields.rescale_betas_zero_snr == Some(true)
    }

    /// What the model's output means: `epsilon`, the noise; `v_prediction`, a mixture of noise and clean latents; or
    /// `sample`, the clean latents.
    #[must_use]
    pub fn prediction_type(&self) -> &str {
        self.fields.prediction_type.as_deref().unwrap_or("epsilon")
    }

    /// Parses the text of a `scheduler_config.json`; `file` is how errors call it.
    ///
    /// `NaN`, `Infinity` and `-Infinity`, which Python writes and JSON does not have, are understood.
    ///
    /// # Errors
    /// [`Error::Config`] with the position where the text is not JSON or a field has the wrong type.
    pub fn from_json(text: &str, file: &str) -> Result<Self> {
        let fields =
            json::typed(text).map_err(|error| Error::Config { file: file.into(), reason: error.to_string() })?;
        Ok(SchedulerConfig { file: file.into(), fields, chosen: None, absent: Absent::default() })
    }

    /// As a scheduler of the class that `model_index.json` names, whatever the file calls itself: the fields that this
    /// class knows keep their values.
    #[must_use]
    pub fn with_class(mut self, class: Option<&str>) -> Self {
        if let Some(class) = class {
            self.fields.class_name = Some(class.to_owned());
        }
        self
    }

    /// As a pipeline of Stable Diffusion 1 and 2 corrects it. A field that the file leaves out is corrected for the
    /// file's own class only: another class that takes over gets its own default, as with diffusers' `from_config`.
    #[must_use]
    pub fn corrected(&self, correction: Correction) -> Self {
        let mut config = self.clone();
        let (fields, absent) = (&mut config.fields, &mut config.absent);
        match &mut fields.steps_offset {
            Some(offset) => *offset = 1,
            None => absent.steps_offset = Some(1),
        }
        match (correction, &mut fields.clip_sample, &mut fields.skip_prk_steps) {
            (Correction::Text, Some(clip), _) => *clip = false,
            (Correction::Text, None, _) => absent.clip_sample = Some(false),
            (Correction::Inpaint, _, Some(skip)) => *skip = true,
            (Correction::Inpaint, _, None) => absent.skip_prk_steps = Some(true),
        }
        config
    }

    /// How a checkpoint that was distilled to a few steps is to be used: steps and guidance scale. `None` for the others.
    ///
    /// Nothing in a checkpoint says so by name, but its scheduler does: LCM and TCD are for such models only, and
    /// Turbo's and Lightning's Euler samplers start at the last timestep (`trailing`). Other models that start there have
    /// a schedule that ends in pure noise (`rescale_betas_zero_snr`) or predict velocity.
    #[must_use]
    pub fn few_steps(&self) -> Option<(usize, f64)> {
        let fields = &self.fields;
        let is_trailing = fields.timestep_spacing.as_deref() == Some("trailing");
        let is_ordinary = fields.rescale_betas_zero_snr == Some(true) || self.prediction_type() != "epsilon";
        match fields.class_name.as_deref() {
            Some("LCMScheduler") => Some((4, 1.0)),
            Some("TCDScheduler") => Some((4, 0.0)),
            Some("EulerDiscreteScheduler" | "EulerAncestralDiscreteScheduler") if is_trailing && !is_ordinary => {
                Some((4, 0.0))
            }
            _ => None,
        }
    }

    /// The sampler that the checkpoint itself asks for, or the one set by
    /// [`SchedulerConfig::with_sampler`].
    ///
    /// # Errors
    /// [`Error::Config`] if the file names no scheduler class or one that is not supported; the message lists the
    /// classes that are. Choosing a sampler by name works all the same.
    pub fn kind(&self) -> Result<SamplerKind> {
        if let Some(kind) = self.chosen {
            return Ok(kind);
        }
        use SamplerKind as K;
        let class = self.fields.class_name.as_deref().unwrap_or("none");
        let solvers: &[SamplerKind] = match class {
            "DDIMScheduler" | "DDIMParallelScheduler" => return Ok(K::Ddim),
            "DDPMScheduler" | "DDPMParallelScheduler" => return Ok(K::Ddpm),
            "PNDMScheduler" => return Ok(K::Pndm),
            "EulerDiscreteScheduler" => return Ok(K::Euler),
            "EulerAncestralDiscreteScheduler" => return Ok(K::EulerAncestral),
            "HeunDiscreteScheduler" => return Ok(K::Heun),
            "KDPM2DiscreteScheduler" => return Ok(K::Dpm2),
            "KDPM2AncestralDiscreteScheduler" => return Ok(K::Dpm2Ancestral),
            "LMSDiscreteScheduler" => return Ok(K::Lms),
            "UniPCMultistepScheduler" => return Ok(K::UniPc),
            "LCMScheduler" => return Ok(K::Lcm),
            "TCDScheduler" => return Ok(K::Tcd),
            "DPMSolverSDEScheduler" => return Ok(K::DpmPpSde),
            "EDMEulerScheduler" => return Ok(K::EdmEuler),
            "DEISMultistepScheduler" => &[K::Deis],
            "DPMSolverMultistepScheduler" => &[K::DpmPp2m, K::DpmPp2mSde, K::Dpm2m, K::Dpm2mSde],
            "DPMSolverSinglestepScheduler" => &[K::DpmPp2s, K::DpmPp2sSde, K::Dpm2s],
            "EDMDPMSolverMultistepScheduler" => &[K::EdmDpmPp2m, K::EdmDpmPp2mSde],
            other => {
                return Err(self.unsupported(
                    &format!("_class_name {other}"),
                    &format!("{} work, or a sampler chosen by name", SamplerKind::class_names().join(", ")),
                ));
            }
        };
        let algorithm = self.fields.algorithm_type.as_deref().unwrap_or("dpmsolver++");
        let found = match (solvers, algorithm) {
            ([K::Deis], "deis" | "dpmsolver" | "dpmsolver++") => Some(K::Deis),
            // diffusers takes the name of the other family for its own default.
            (_, "deis") => solvers.first().copied(),
            _ => solvers.iter().copied().find(|kind| kind.algorithm() == Some(algorithm)),
        };
        found.ok_or_else(|| {
            let known: Vec<&str> = match solvers {
                [K::Deis] => vec!["deis"],
                _ => solvers.iter().filter_map(|kind| kind.algorithm()).collect(),
            };
            self.unsupported(&format!("algorithm_type {algorithm} of {class}"), &format!("{} work", known.join(", ")))
        })
    }

    /// Whether the checkpoint was trained in the form of EDM, which needs samplers of its own.
    pub(super) fn is_edm(&self) -> bool {
        self.fields.class_name.as_deref().is_some_and(|class| class.starts_with("EDM"))
    }

    /// The samplers that a menu offers for this checkpoint, its own among them.
    #[must_use]
    pub fn menu(&self) -> Vec<Sampler> {
        let mut menu = if self.is_edm() { SamplerKind::EDM.map(Sampler::from).to_vec() } else { Sampler::menu() };
        if let Ok(own) = self.sampler()
            && !menu.contains(&own)
        {
            menu.insert(0, own);
        }
        menu
    }

    /// The same checkpoint with another sampler: `Class.from_config(pipe.scheduler.config)` of diffusers. Fields of the
    /// file that the class knows keep their values, all others take the class's defaults.
    ///
    /// The names that promise something pass it on: `dpm++2m_karras` sets `use_karras_sigmas` and unsets its rivals, and
    /// the names of DPM-Solver set `algorithm_type`. Plain `dpm++2m` leaves
    /// `use_karras_sigmas` as the file has it.
    #[must_use]
    pub fn with_sampler(&self, sampler: impl Into<Sampler>) -> Self {
        let Sampler { kind, schedule } = sampler.into();
        let mut config = SchedulerConfig { chosen: Some(kind), ..self.clone() };
        let fields = &mut config.fields;
        match kind {
            SamplerKind::Deis => fields.algorithm_type = Some("deis".into()),
            _ => {
                if let Some(algorithm) = kind.algorithm() {
                    fields.algorithm_type = Some(algorithm.into());
                }
            }
        }
        if matches!(kind, SamplerKind::Dpm2m | SamplerKind::Dpm2mSde | SamplerKind::Dpm2s) {
            // The only end that these can reach.
            fields.final_sigmas_type = Some("sigma_min".into());
        }
        if schedule.is_some() {
            for known in SigmaSchedule::ALL {
                *fields.schedule_mut(known) = Some(schedule == Some(known));
            }
        }
        config
    }

    /// [`SchedulerConfig::with_sampler`] where a sampler was asked for, and otherwise the checkpoint's own.
    #[must_use]
    pub fn with_optional_sampler(&self, sampler: Option<Sampler>) -> Self {
        sampler.map_or_else(|| self.clone(), |sampler| self.with_sampler(sampler))
    }

    /// The same with its steps spaced otherwise, where that was asked for.
    ///
    /// # Errors
    /// [`Error::Request`] for a sampler that spaces its steps by a rule of its own; those of [`SchedulerConfig::kind`].
    pub fn with_optional_spacing(mut self, spacing: Option<Spacing>) -> Result<Self> {
        let Some(spacing) = spacing else { return Ok(self) };
        let kind = self.kind()?;
        if !kind.takes_spacing() {
            let able = super::options::names_of(SamplerKind::takes_spacing);
            let expected = format!("{kind} spaces its steps by its own rule; these samplers take it: {able}");
            return Err(Error::Request { field: "spacing", got: spacing.name().to_owned(), expected });
        }
        self.fields.timestep_spacing = Some(spacing.name().to_owned());
        Ok(self)
    }

    /// The solver together with the spacing of noise levels that will be used: what metadata calls the sampler.
    ///
    /// # Errors
    /// Those of [`SchedulerConfig::kind`].
    pub fn sampler(&self) -> Result<Sampler> {
        let kind = self.kind()?;
        let used = |schedule: &SigmaSchedule| kind.has_schedule(*schedule) && self.fields.asks_for(*schedule);
        Ok(Sampler { kind, schedule: SigmaSchedule::ALL.into_iter().find(used) })
    }

    pub(super) fn settings(&self, options: &RunOptions) -> Result<Settings> {
        let kind = self.kind()?;
        let of_file = SchedulerConfig { chosen: None, ..self.clone() };
        if of_file.kind().is_ok_and(|own| own == kind) {
            let mut own = self.clone();
            let fields = &mut own.fields;
            fields.steps_offset = fields.steps_offset.or(self.absent.steps_offset);
            fields.clip_sample = fields.clip_sample.or(self.absent.clip_sample);
            fields.skip_prk_steps = fields.skip_prk_steps.or(self.absent.skip_prk_steps);
            return Settings::new(kind, &own, options);
        }
        Settings::new(kind, self, options)
    }

    pub(super) fn unsupported(&self, what: &str, expected: &str) -> Error {
        Error::Config { file: self.file.clone(), reason: format!("{what} is not supported: {expected}") }
    }
}

/// The fields of all scheduler classes that matter here. `null` and a missing field are the same but for truth values.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Fields {
    #[serde(rename = "_class_name")]
    pub(super) class_name: Option<String>,
    pub(super) algorithm_type: Option<String>,
    pub(super) beta_end: Option<f64>,
    pub(super) beta_schedule: Option<String>,
    pub(super) beta_start: Option<f64>,
    #[serde(deserialize_with = "truth")]
    pub(super) clip_sample: Option<bool>,
    pub(super) clip_sample_range: Option<f64>,
    #[serde(deserialize_with = "any_float")]
    pub(super) dynamic_thresholding_ratio: Option<f64>,
    pub(super) disable_corrector: Option<Vec<usize>>,
    #[serde(deserialize_with = "truth")]
    pub(super) euler_at_final: Option<bool>,
    pub(super) final_sigmas_type: Option<String>,
    pub(super) interpolation_type: Option<String>,
    #[serde(deserialize_with = "any_float")]
    pub(super) lambda_min_clipped: Option<f64>,
    #[serde(deserialize_with = "truth")]
    pub(super) lower_order_final: Option<bool>,
    #[serde(deserialize_with = "whole")]
    pub(super) num_train_timesteps: Option<usize>,
    #[serde(deserialize_with = "whole")]
    pub(super) original_inference_steps: Option<usize>,
    #[serde(deserialize_with = "truth")]
    pub(super) predict_x0: Option<bool>,
    pub(super) prediction_type: Option<String>,
    #[serde(deserialize_with = "truth")]
    pub(super) rescale_betas_zero_snr: Option<bool>,
    pub(super) rho: Option<f64>,
    #[serde(deserialize_with = "any_float")]
    pub(super) sample_max_value: Option<f64>,
    #[serde(deserialize_with = "truth")]
    pub(super) set_alpha_to_one: Option<bool>,
    pub(super) shift_terminal: Option<serde_json::Value>,
    pub(super) sigma_data: Option<f64>,
    pub(super) sigma_max: Option<f64>,
    pub(super) sigma_min: Option<f64>,
    pub(super) sigma_schedule: Option<String>,
    #[serde(deserialize_with = "truth")]
    pub(super) skip_prk_steps: Option<bool>,
    #[serde(deserialize_with = "whole")]
    pub(super) solver_order: Option<usize>,
    pub(super) solver_p: Option<serde_json::Value>,
    pub(super) solver_type: Option<String>,
    #[serde(deserialize_with = "whole")]
    pub(super) steps_offset: Option<i64>,
    #[serde(deserialize_with = "truth")]
    pub(super) thresholding: Option<bool>,
    pub(super) timestep_scaling: Option<f64>,
    pub(super) timestep_spacing: Option<String>,
    pub(super) timestep_type: Option<String>,
    pub(super) trained_betas: Option<Vec<f64>>,
    #[serde(deserialize_with = "truth")]
    pub(super) use_beta_sigmas: Option<bool>,
    #[serde(deserialize_with = "truth")]
    pub(super) use_dynamic_shifting: Option<bool>,
    #[serde(deserialize_with = "truth")]
    pub(super) use_exponential_sigmas: Option<bool>,
    #[serde(deserialize_with = "truth")]
    pub(super) use_flow_sigmas: Option<bool>,
    #[serde(deserialize_with = "truth")]
    pub(super) use_karras_sigmas: Option<bool>,
    #[serde(deserialize_with = "truth")]
    pub(super) use_lu_lambdas: Option<bool>,
    pub(super) variance_type: Option<String>,
}

impl Fields {
    /// Whether a schedule is switched on.
    pub(super) fn asks_for(&self, schedule: SigmaSchedule) -> bool {
        let field = match schedule {
            SigmaSchedule::Karras => self.use_karras_sigmas,
            SigmaSchedule::Exponential => self.use_exponential_sigmas,
            SigmaSchedule::Beta => self.use_beta_sigmas,
            SigmaSchedule::Lu => self.use_lu_lambdas,
        };
        field == Some(true)
    }

    /// The field that switches a schedule on.
    fn schedule_mut(&mut self, schedule: SigmaSchedule) -> &mut Option<bool> {
        match schedule {
            SigmaSchedule::Karras => &mut self.use_karras_sigmas,
            SigmaSchedule::Exponential => &mut self.use_exponential_sigmas,
            SigmaSchedule::Beta => &mut self.use_beta_sigmas,
            SigmaSchedule::Lu => &mut self.use_lu_lambdas,
        }
    }
}

/// A whole number, however Python may write it: `1`, `1.0` or `true`.
fn whole<'de, D: Deserializer<'de>, T: TryFrom<i64>>(deserializer: D) -> Result<Option<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a whole number")]
    enum Whole {
        Plain(i64),
        Float(f64),
        Truth(bool),
    }
    let value = match Option::<Whole>::deserialize(deserializer)? {
        None => return Ok(None),
        Some(Whole::Plain(value)) => value,
        Some(Whole::Float(value)) if value.fract() == 0.0 && value.abs() < 1e15 => value as i64,
        Some(Whole::Float(value)) => return Err(serde::de::Error::custom(format!("{value} is not a whole number"))),
        Some(Whole::Truth(value)) => i64::from(value),
    };
    T::try_from(value).map(Some).map_err(|_| serde::de::Error::custom(format!("{value} is out of range")))
}

/// A truth value. Null is false, whatever the default, and numbers are true but for 0, as in Python.
fn truth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected true or false")]
    enum Truth {
        Plain(bool),
        Number(f64),
    }
    Ok(Some(match Option::<Truth>::deserialize(deserializer)? {
        None => false,
        Some(Truth::Plain(value)) => value,
        Some(Truth::Number(value)) => value != 0.0,
    }))
}

/// A number, or the stand-in of an infinite one.
fn any_float<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Float {
        Finite(f64),
        Infinite(String),
    }
    match Option::<Float>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Float::Finite(value)) => Ok(Some(value)),
        Some(Float::Infinite(name)) => match name.as_str() {
            "inf" => Ok(Some(f64::INFINITY)),
            "-inf" => Ok(Some(f64::NEG_INFINITY)),
            _ => Err(serde::de::Error::custom("expected a number")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_finite_numbers_are_understood_outside_of_strings_only() {
        let text =
            r#"{"lambda_min_clipped": -Infinity, "x": NaN, "y": [Infinity], "_class_name": "say \"NaN\" -Infinity"}"#;
        let config = SchedulerConfig::from_json(text, "scheduler_config.json").unwrap();
        assert_eq!(config.fields.lambda_min_clipped, Some(f64::NEG_INFINITY));
        assert_eq!(config.fields.class_name.as_deref(), Some("say \"NaN\" -Infinity"));
    }

    #[test]
    fn malformed_json_names_the_file_and_the_position() {
        let error =
            SchedulerConfig::from_json("{\n  \"a\": -Infinity, oops\n}", "m/scheduler_config.json").unwrap_err();
        assert_eq!(error.to_string(), "m/scheduler_config.json: key must be a string at line 2 column 19");
    }

    #[test]
    fn whole_numbers_are_read_however_python_writes_them() {
        let text = r#"{"steps_offset": 1.0, "num_train_timesteps": 1e3, "solver_order": true}"#;
        let fields = SchedulerConfig::from_json(text, "s.json").unwrap().fields;
        assert_eq!(
            (fields.steps_offset, fields.num_train_timesteps, fields.solver_order),
            (Some(1), Some(1000), Some(1))
        );
        let error = SchedulerConfig::from_json(r#"{"steps_offset": 1.5}"#, "s.json").unwrap_err().to_string();
        assert!(error.contains("1.5 is not a whole number"), "{error}");
    }

    #[test]
    fn a_field_of_the_wrong_type_names_the_position() {
        let error = SchedulerConfig::from_json(r#"{"beta_start": "small"}"#, "s.json").unwrap_err().to_string();
        assert!(error.starts_with("s.json: invalid type: string \"small\", expected f64"), "{error}");
        let error = SchedulerConfig::from_json(r#"{"sigma_min": NaN}"#, "s.json").unwrap_err().to_string();
        assert!(error.starts_with("s.json: invalid type"), "{error}");
        let error = SchedulerConfig::from_json(r#"{"lambda_min_clipped": NaN}"#, "s.json").unwrap_err().to_string();
        assert!(error.starts_with("s.json: expected a number"), "{error}");
    }

    #[test]
    fn an_unknown_class_lists_the_known_ones_and_can_be_replaced_by_name() {
        let config = SchedulerConfig::from_json(r#"{"_class_name": "RePaintScheduler"}"#, "s.json").unwrap();
        let message = config.kind().unwrap_err().to_string();
        assert!(message.contains("RePaintScheduler") && message.contains("UniPCMultistepScheduler"), "{message}");
        assert_eq!(config.with_sampler(SamplerKind::Heun).kind().unwrap(), SamplerKind::Heun);
    }

    #[test]
    fn every_class_is_known_by_its_name() {
        for class in SamplerKind::class_names() {
            let config = SchedulerConfig::from_json(&format!(r#"{{"_class_name": "{class}"}}"#), "s.json").unwrap();
            assert_eq!(format!("{}Scheduler", config.kind().unwrap().class()), class);
        }
    }

    #[test]
    fn dpm_kinds_follow_the_options() {
        let sampler = |text: &str| Ok(SchedulerConfig::from_json(text, "s.json").unwrap().sampler()?.name());
        let multistep = |options| sampler(&format!(r#"{{"_class_name": "DPMSolverMultistepScheduler"{options}}}"#));
        assert_eq!(multistep("").unwrap(), "dpm++2m");
        assert_eq!(multistep(r#", "use_karras_sigmas": true"#).unwrap(), "dpm++2m_karras");
        assert_eq!(multistep(r#", "algorithm_type": "sde-dpmsolver++""#).unwrap(), "dpm++2m_sde");
        assert_eq!(multistep(r#", "algorithm_type": "dpmsolver""#).unwrap(), "dpmsolver_2m");
        assert_eq!(multistep(r#", "algorithm_type": "sde-dpmsolver""#).unwrap(), "dpmsolver_2m_sde");
        assert_eq!(multistep(r#", "algorithm_type": "deis""#).unwrap(), "dpm++2m");
        let singlestep = |options| sampler(&format!(r#"{{"_class_name": "DPMSolverSinglestepScheduler"{options}}}"#));
        assert_eq!(singlestep("").unwrap(), "dpm++2s");
        assert_eq!(singlestep(r#", "algorithm_type": "sde-dpmsolver++""#).unwrap(), "dpm++2s_sde");
        let message =
            singlestep(r#", "algorithm_type": "sde-dpmsolver""#).map_err(|e: Error| e.to_string()).unwrap_err();
        assert_eq!(
            message,
            "s.json: algorithm_type sde-dpmsolver of DPMSolverSinglestepScheduler is not supported: dpmsolver++, \
             sde-dpmsolver++, dpmsolver work"
        );
    }
}
