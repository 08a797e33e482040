//! What one sampler uses of a scheduler config: the fields its diffusers class knows, with that class's defaults.
//!
//! Options that are known but not supported become errors here, so that the samplers' own files are arithmetic only.

use crate::error::{Error, Result};

use super::betas::Betas;
use super::prediction::Prediction;
use super::sigmas::FinalSigma;
use super::timesteps::Spacing;
use super::{SamplerKind, SchedulerConfig};

/// The form of the second-order term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SolverType {
    Midpoint,
    Heun,
    Bh1,
    Bh2,
}

/// A scheduler config as one sampler sees it. Fields that the sampler's class does not have are at values without
/// effect.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) kind: SamplerKind,
    file: String,
    pub(super) num_train_timesteps: usize,
    pub(super) beta_start: f64,
    pub(super) beta_end: f64,
    pub(super) betas: Betas,
    pub(super) rescale_betas_zero_snr: bool,
    pub(super) prediction: Prediction,
    pub(super) spacing: Spacing,
    pub(super) steps_offset: i64,
    pub(super) set_alpha_to_one: bool,
    pub(super) skip_prk_steps: bool,
    /// The bound of the predicted picture, where it is clipped.
    pub(super) clip_range: Option<f64>,
    pub(super) karras: bool,
    pub(super) sigma_min: Option<f64>,
    pub(super) sigma_max: Option<f64>,
    pub(super) final_sigma: FinalSigma,
    pub(super) log_linear: bool,
    pub(super) lambda_min_clipped: f64,
    pub(super) solver_order: usize,
    pub(super) solver_type: SolverType,
    pub(super) stochastic: bool,
    pub(super) lower_order_final: bool,
    pub(super) euler_at_final: bool,
    pub(super) disable_corrector: Vec<usize>,
    pub(super) original_inference_steps: usize,
    pub(super) timestep_scaling: f64,
}

impl Settings {
    pub(super) fn new(kind: SamplerKind, config: &SchedulerConfig) -> Result<Self> {
        use SamplerKind::{Ddim, EulerAncestral, Heun, Lcm, Pndm, UniPc};
        check_unsupported(kind, config)?;
        let fields = &config.fields;
        let multistep = is_multistep(kind);
        let (beta_start, beta_end, beta_schedule) = match kind {
            Heun => (0.00085, 0.012, "linear"),
            Lcm => (0.00085, 0.012, "scaled_linear"),
            _ => (0.0001, 0.02, "linear"),
        };
        let num_train_timesteps = fields.num_train_timesteps.unwrap_or(1000);
        if num_train_timesteps < 2 {
            return Err(config.unsupported(&format!("num_train_timesteps {num_train_timesteps}"), "2 and more work"));
        }
        let clips = match kind {
            Ddim => fields.clip_sample.unwrap_or(true),
            Lcm | Heun => fields.clip_sample.unwrap_or(false),
            _ => false,
        };
        let rescales = matches!(kind, Ddim | Lcm | UniPc | EulerAncestral | SamplerKind::Euler) || multistep;
        Ok(Settings {
            kind,
            file: config.file.clone(),
            num_train_timesteps,
            beta_start: fields.beta_start.unwrap_or(beta_start),
            beta_end: fields.beta_end.unwrap_or(beta_end),
            betas: betas(config, beta_schedule, num_train_timesteps)?,
            rescale_betas_zero_snr: rescales && fields.rescale_betas_zero_snr.unwrap_or(false),
            prediction: prediction(kind, config)?,
            spacing: spacing(kind, config)?,
            steps_offset: fields.steps_offset.unwrap_or(0),
            set_alpha_to_one: fields.set_alpha_to_one.unwrap_or(kind != Pndm),
            skip_prk_steps: fields.skip_prk_steps.unwrap_or(false),
            clip_range: clips.then(|| fields.clip_sample_range.unwrap_or(1.0)),
            karras: has_sigma_choice(kind) && fields.use_karras_sigmas.unwrap_or(false),
            sigma_min: fields.sigma_min,
            sigma_max: fields.sigma_max,
            final_sigma: final_sigma(kind, config)?,
            log_linear: kind == SamplerKind::Euler && log_linear(config)?,
            lambda_min_clipped: match kind {
                UniPc => f64::NEG_INFINITY,
                _ => fields.lambda_min_clipped.unwrap_or(f64::NEG_INFINITY),
            },
            solver_order: solver_order(kind, config)?,
            solver_type: solver_type(kind, config)?,
            stochastic: fields.algorithm_type.as_deref() == Some("sde-dpmsolver++"),
            lower_order_final: fields.lower_order_final.unwrap_or(kind != SamplerKind::DpmPp2sSde),
            euler_at_final: fields.euler_at_final.unwrap_or(false),
            disable_corrector: fields.disable_corrector.clone().unwrap_or_default(),
            original_inference_steps: fields.original_inference_steps.unwrap_or(50),
            timestep_scaling: fields.timestep_scaling.unwrap_or(10.0),
        })
    }

    /// An error about this config: `what` is named with its field, `expected` says what would work.
    pub(super) fn unsupported(&self, what: &str, expected: &str) -> Error {
        Error::Config { file: self.file.clone(), reason: format!("{what} is not supported: {expected}") }
    }
}

fn is_multistep(kind: SamplerKind) -> bool {
    matches!(kind, SamplerKind::DpmPp2m | SamplerKind::DpmPp2mSde)
}

fn is_dpm(kind: SamplerKind) -> bool {
    is_multistep(kind) || kind == SamplerKind::DpmPp2sSde
}

/// Whether the class has `use_karras_sigmas` and its relatives.
fn has_sigma_choice(kind: SamplerKind) -> bool {
    is_dpm(kind) || matches!(kind, SamplerKind::Euler | SamplerKind::Heun | SamplerKind::UniPc)
}

/// Options that the sampler's class has and that are not supported here, in the order of the config's fields.
fn check_unsupported(kind: SamplerKind, config: &SchedulerConfig) -> Result<()> {
    let fields = &config.fields;
    let (dpm, unipc) = (is_dpm(kind), kind == SamplerKind::UniPc);
    let (euler, lcm) = (kind == SamplerKind::Euler, kind == SamplerKind::Lcm);
    let on = |field: Option<bool>| field == Some(true);
    let velocity = fields.prediction_type.as_deref() == Some("v_prediction");
    let continuous = fields.timestep_type.as_deref() == Some("continuous");
    let learned = fields.variance_type.as_deref().is_some_and(|variance| variance.starts_with("learned"));
    let clips = dpm || unipc || lcm || kind == SamplerKind::Ddim;
    let flow = dpm || unipc;
    for (refused, what, expected) in [
        (clips && on(fields.thresholding), "thresholding true", "false works, as thresholding is not linear"),
        (flow && on(fields.use_flow_sigmas), "use_flow_sigmas true", "false works with Stable Diffusion 1, 2 and XL"),
        (unipc && on(fields.use_dynamic_shifting), "use_dynamic_shifting true", "false works"),
        (unipc && fields.shift_terminal.is_some(), "shift_terminal", "null works"),
        (unipc && fields.solver_p.is_some(), "solver_p", "null works"),
        (unipc && fields.predict_x0 == Some(false), "predict_x0 false", "true works"),
        (dpm && learned, "a learned variance_type", "null works"),
        (
            has_sigma_choice(kind) && on(fields.use_exponential_sigmas),
            "use_exponential_sigmas true",
            "false works, alone or with use_karras_sigmas true",
        ),
        (
            has_sigma_choice(kind) && on(fields.use_beta_sigmas),
            "use_beta_sigmas true",
            "false works, alone or with use_karras_sigmas true",
        ),
        (
            is_multistep(kind) && on(fields.use_lu_lambdas) && !on(fields.use_karras_sigmas),
            "use_lu_lambdas true",
            "false works, alone or with use_karras_sigmas true",
        ),
        (euler && continuous && velocity, "timestep_type continuous with v_prediction", "discrete works"),
    ] {
        if refused {
            return Err(config.unsupported(what, expected));
        }
    }
    Ok(())
}

fn betas(config: &SchedulerConfig, default: &str, num_train_timesteps: usize) -> Result<Betas> {
    if let Some(betas) = &config.fields.trained_betas {
        if betas.len() != num_train_timesteps {
            let what = format!("trained_betas of length {}", betas.len());
            return Err(config.unsupported(&what, &format!("one for each of {num_train_timesteps} timesteps works")));
        }
        return Ok(Betas::Trained(betas.clone()));
    }
    match config.fields.beta_schedule.as_deref().unwrap_or(default) {
        "linear" => Ok(Betas::Linear),
        "scaled_linear" => Ok(Betas::ScaledLinear),
        "squaredcos_cap_v2" => Ok(Betas::SquaredCosine),
        other => {
            Err(config
                .unsupported(&format!("beta_schedule {other}"), "linear, scaled_linear and squaredcos_cap_v2 work"))
        }
    }
}

fn prediction(kind: SamplerKind, config: &SchedulerConfig) -> Result<Prediction> {
    let name = config.fields.prediction_type.as_deref().unwrap_or("epsilon");
    let takes_sample = !matches!(kind, SamplerKind::Pndm | SamplerKind::EulerAncestral);
    match name {
        "epsilon" => Ok(Prediction::Epsilon),
        "v_prediction" => Ok(Prediction::Velocity),
        "sample" if takes_sample => Ok(Prediction::Sample),
        "original_sample" if kind == SamplerKind::Euler => Ok(Prediction::Sample),
        other => {
            let expected =
                if takes_sample { "epsilon, v_prediction and sample work" } else { "epsilon and v_prediction work" };
            Err(config.unsupported(&format!("prediction_type {other} with {kind}"), expected))
        }
    }
}

fn spacing(kind: SamplerKind, config: &SchedulerConfig) -> Result<Spacing> {
    let default = match kind {
        SamplerKind::Ddim | SamplerKind::Pndm => "leading",
        // Neither class has a choice: the single-step solver is always spaced evenly, LCM by its own rule.
        SamplerKind::DpmPp2sSde | SamplerKind::Lcm => return Ok(Spacing::Linspace),
        _ => "linspace",
    };
    match config.fields.timestep_spacing.as_deref().unwrap_or(default) {
        "leading" => Ok(Spacing::Leading),
        "trailing" => Ok(Spacing::Trailing),
        "linspace" => Ok(Spacing::Linspace),
        other => Err(config.unsupported(&format!("timestep_spacing {other}"), "leading, trailing and linspace work")),
    }
}

fn final_sigma(kind: SamplerKind, config: &SchedulerConfig) -> Result<FinalSigma> {
    if !is_dpm(kind) && !matches!(kind, SamplerKind::Euler | SamplerKind::UniPc) {
        return Ok(FinalSigma::Zero);
    }
    match config.fields.final_sigmas_type.as_deref().unwrap_or("zero") {
        "zero" => Ok(FinalSigma::Zero),
        "sigma_min" => Ok(FinalSigma::SigmaMin),
        other => Err(config.unsupported(&format!("final_sigmas_type {other}"), "zero and sigma_min work")),
    }
}

fn log_linear(config: &SchedulerConfig) -> Result<bool> {
    match config.fields.interpolation_type.as_deref().unwrap_or("linear") {
        "linear" => Ok(false),
        "log_linear" => Ok(true),
        other => Err(config.unsupported(&format!("interpolation_type {other}"), "linear and log_linear work")),
    }
}

fn solver_order(kind: SamplerKind, config: &SchedulerConfig) -> Result<usize> {
    if !is_dpm(kind) && kind != SamplerKind::UniPc {
        return Ok(1);
    }
    match config.fields.solver_order.unwrap_or(2) {
        order @ 1..=3 => Ok(order),
        other => Err(config.unsupported(&format!("solver_order {other}"), "1, 2 and 3 work")),
    }
}

/// diffusers maps the names of one solver family to the nearest of the other, so that configs can be exchanged.
fn solver_type(kind: SamplerKind, config: &SchedulerConfig) -> Result<SolverType> {
    let unipc = kind == SamplerKind::UniPc;
    if !unipc && !is_dpm(kind) {
        return Ok(SolverType::Midpoint);
    }
    match config.fields.solver_type.as_deref() {
        None if unipc => Ok(SolverType::Bh2),
        Some("bh1") if unipc => Ok(SolverType::Bh1),
        Some("bh2" | "midpoint" | "heun" | "logrho") if unipc => Ok(SolverType::Bh2),
        Some("heun") => Ok(SolverType::Heun),
        None | Some("midpoint" | "bh1" | "bh2" | "logrho") => Ok(SolverType::Midpoint),
        Some(other) => {
            let expected = if unipc { "bh1 and bh2 work" } else { "midpoint and heun work" };
            Err(config.unsupported(&format!("solver_type {other}"), expected))
        }
    }
}
