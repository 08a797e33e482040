//! What one sampler uses of a scheduler config: the fields its diffusers class knows, with that class's defaults.
//!
//! Options that are known but not supported become errors here, so that the samplers' own files are arithmetic only.

use crate::error::{Error, Result};

use super::betas::Betas;
use super::ddpm::Variance;
use super::edm::Edm;
use super::prediction::Prediction;
use super::sigmas::FinalSigma;
use super::timesteps::Spacing;
use super::{Limit, RunOptions, SamplerKind, SchedulerConfig, SigmaSchedule, Steps};

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
    /// How the predicted picture is held in bounds.
    pub(super) limit: Option<Limit>,
    pub(super) variance: Variance,
    /// In place of the checkpoint's training steps.
    pub(super) schedule: Option<SigmaSchedule>,
    /// The steps, where the caller chose them.
    pub(super) given: Option<Steps>,
    pub(super) eta: f64,
    /// The model is told the logarithm of the noise level.
    pub(super) continuous_timesteps: bool,
    pub(super) edm: Option<Edm>,
    pub(super) sigma_min: Option<f64>,
    pub(super) sigma_max: Option<f64>,
    pub(super) final_sigma: FinalSigma,
    pub(super) log_linear: bool,
    pub(super) lambda_min_clipped: f64,
    pub(super) solver_order: usize,
    pub(super) solver_type: SolverType,
    /// Noise is added in every step of DPM-Solver.
    pub(super) stochastic: bool,
    /// DPM-Solver extrapolates the predicted noise instead of the predicted picture.
    pub(super) extrapolates_noise: bool,
    pub(super) lower_order_final: bool,
    pub(super) euler_at_final: bool,
    pub(super) disable_corrector: Vec<usize>,
    pub(super) original_inference_steps: usize,
    pub(super) timestep_scaling: f64,
}

impl Settings {
    pub(super) fn new(kind: SamplerKind, config: &SchedulerConfig, options: &RunOptions) -> Result<Self> {
        use SamplerKind as K;
        check_unsupported(kind, config)?;
        let fields = &config.fields;
        let (beta_start, beta_end, beta_schedule) = match kind {
            K::Heun | K::Dpm2 | K::Dpm2Ancestral | K::DpmPpSde => (0.00085, 0.012, "linear"),
            K::Lcm | K::Tcd => (0.00085, 0.012, "scaled_linear"),
            _ => (0.0001, 0.02, "linear"),
        };
        let num_train_timesteps = fields.num_train_timesteps.unwrap_or(1000);
        if num_train_timesteps < 2 {
            return Err(config.unsupported(&format!("num_train_timesteps {num_train_timesteps}"), "2 and more work"));
        }
        let rescales = matches!(kind, K::Ddim | K::Ddpm | K::Lcm | K::Tcd | K::UniPc | K::EulerAncestral | K::Euler)
            || kind.is_multistep();
        let prediction = prediction(kind, config)?;
        let given = (!matches!(options.steps, Steps::Number(_))).then(|| options.steps.clone());
        Ok(Settings {
            kind,
            file: config.file.clone(),
            num_train_timesteps,
            beta_start: fields.beta_start.unwrap_or(beta_start),
            beta_end: fields.beta_end.unwrap_or(beta_end),
            betas: betas(kind, config, beta_schedule, num_train_timesteps)?,
            rescale_betas_zero_snr: rescales && fields.rescale_betas_zero_snr.unwrap_or(false),
            prediction,
            spacing: spacing(kind, config)?,
            steps_offset: fields.steps_offset.unwrap_or(0),
            set_alpha_to_one: kind == K::Ddpm || fields.set_alpha_to_one.unwrap_or(kind != K::Pndm),
            skip_prk_steps: fields.skip_prk_steps.unwrap_or(false),
            limit: limit(kind, config),
            variance: variance(kind, config)?,
            schedule: sigma_schedule(kind, config)?,
            given,
            eta: options.eta,
            continuous_timesteps: kind == K::Euler
                && prediction == Prediction::Velocity
                && fields.timestep_type.as_deref() == Some("continuous"),
            edm: edm(kind, config)?,
            sigma_min: fields.sigma_min,
            sigma_max: fields.sigma_max,
            final_sigma: final_sigma(kind, config)?,
            log_linear: kind == K::Euler && log_linear(config)?,
            lambda_min_clipped: if is_dpm(kind) {
                fields.lambda_min_clipped.unwrap_or(f64::NEG_INFINITY)
            } else {
                f64::NEG_INFINITY
            },
            solver_order: solver_order(kind, config)?,
            solver_type: solver_type(kind, config)?,
            stochastic: kind.algorithm().is_some_and(|algorithm| algorithm.starts_with("sde-")),
            extrapolates_noise: matches!(kind, K::Dpm2m | K::Dpm2mSde | K::Dpm2s),
            lower_order_final: fields.lower_order_final.unwrap_or(!kind.is_singlestep()),
            euler_at_final: kind != K::Deis && fields.euler_at_final.unwrap_or(false),
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

/// Whether this is one of the classes for DPM-Solver, without those for EDM.
fn is_dpm(kind: SamplerKind) -> bool {
    kind.is_multistep() || kind.is_singlestep()
}

/// Options that the sampler's class has and that are not supported here, in the order of the config's fields.
fn check_unsupported(kind: SamplerKind, config: &SchedulerConfig) -> Result<()> {
    use SamplerKind as K;
    let fields = &config.fields;
    let (dpm, unipc) = (is_dpm(kind), kind == K::UniPc);
    let on = |field: Option<bool>| field == Some(true);
    let learned = fields.variance_type.as_deref().is_some_and(|variance| variance.starts_with("learned"));
    let flow = dpm || unipc || kind == K::Deis;
    let ends_at_zero = fields.final_sigmas_type.as_deref().unwrap_or("zero") == "zero";
    let noise = matches!(kind, K::Dpm2m | K::Dpm2mSde | K::Dpm2s);
    if kind.is_edm() != config.is_edm() {
        let expected = if config.is_edm() {
            "this checkpoint was trained in the form of EDM, for which edm_euler, edm_dpm++2m and edm_dpm++2m_sde work"
        } else {
            "it is for checkpoints trained in the form of EDM, and with this one all others work"
        };
        return Err(Error::Request { field: "sampler", got: kind.name().into(), expected: expected.into() });
    }
    for (refused, what, expected) in [
        (
            kind == K::Dpm2s && on(fields.thresholding),
            "thresholding true with algorithm_type dpmsolver",
            "false works, or algorithm_type dpmsolver++",
        ),
        (flow && on(fields.use_flow_sigmas), "use_flow_sigmas true", "false works with Stable Diffusion 1, 2 and XL"),
        (flow && on(fields.use_dynamic_shifting), "use_dynamic_shifting true", "false works"),
        (unipc && fields.shift_terminal.is_some(), "shift_terminal", "null works"),
        (unipc && fields.solver_p.is_some(), "solver_p", "null works"),
        (unipc && fields.predict_x0 == Some(false), "predict_x0 false", "true works"),
        (
            (dpm || kind == K::Ddpm) && learned,
            "a learned variance_type",
            "null works, and for DDPM fixed_small and fixed_large",
        ),
        (
            noise && ends_at_zero,
            "final_sigmas_type zero with algorithm_type dpmsolver or sde-dpmsolver",
            "sigma_min works",
        ),
        (
            matches!(kind, K::Dpm2mSde | K::EdmDpmPp2mSde) && fields.solver_order == Some(3),
            "solver_order 3 with this algorithm_type",
            "1 and 2 work",
        ),
    ] {
        if refused {
            return Err(config.unsupported(what, expected));
        }
    }
    Ok(())
}

/// `clip_sample` and `thresholding`, of which the second wins.
fn limit(kind: SamplerKind, config: &SchedulerConfig) -> Option<Limit> {
    use SamplerKind as K;
    let fields = &config.fields;
    let clips = match kind {
        K::Ddim | K::Ddpm => fields.clip_sample.unwrap_or(true),
        K::Lcm | K::Heun => fields.clip_sample.unwrap_or(false),
        _ => false,
    };
    let has_thresholding = is_dpm(kind)
        || matches!(kind, K::Ddim | K::Ddpm | K::UniPc | K::Deis | K::Lcm | K::EdmDpmPp2m | K::EdmDpmPp2mSde);
    if has_thresholding && fields.thresholding == Some(true) {
        return Some(Limit::Dynamic {
            ratio: fields.dynamic_thresholding_ratio.unwrap_or(0.995),
            max: fields.sample_max_value.unwrap_or(1.0),
        });
    }
    clips.then(|| Limit::Clip(fields.clip_sample_range.unwrap_or(1.0)))
}

fn variance(kind: SamplerKind, config: &SchedulerConfig) -> Result<Variance> {
    if kind != SamplerKind::Ddpm {
        return Ok(Variance::FixedSmall);
    }
    match config.fields.variance_type.as_deref().unwrap_or("fixed_small") {
        "fixed_small" | "fixed_small_log" => Ok(Variance::FixedSmall),
        "fixed_large" => Ok(Variance::FixedLarge),
        // diffusers takes the root of a negative number for fixed_large_log.
        other => {
            Err(config
                .unsupported(&format!("variance_type {other}"), "fixed_small, fixed_small_log and fixed_large work"))
        }
    }
}

fn sigma_schedule(kind: SamplerKind, config: &SchedulerConfig) -> Result<Option<SigmaSchedule>> {
    let asked = |schedule: &SigmaSchedule| kind.has_schedule(*schedule) && config.fields.asks_for(*schedule);
    let mut asked = SigmaSchedule::ALL.into_iter().filter(asked);
    let first = asked.next();
    let rival = asked.find(|&schedule| schedule != SigmaSchedule::Lu);
    match (first, rival) {
        (Some(first), Some(rival)) if first != SigmaSchedule::Lu => Err(config.unsupported(
            &format!("a {} schedule together with a {} one", first.name(), rival.name()),
            "one of use_karras_sigmas, use_exponential_sigmas and use_beta_sigmas works",
        )),
        _ => Ok(first),
    }
}

fn edm(kind: SamplerKind, config: &SchedulerConfig) -> Result<Option<Edm>> {
    if !kind.is_edm() {
        return Ok(None);
    }
    let fields = &config.fields;
    let edm = Edm {
        sigma_min: fields.sigma_min.unwrap_or(0.002),
        sigma_max: fields.sigma_max.unwrap_or(80.0),
        sigma_data: fields.sigma_data.unwrap_or(0.5),
        rho: fields.rho.unwrap_or(7.0),
        exponential: match fields.sigma_schedule.as_deref().unwrap_or("karras") {
            "karras" => false,
            "exponential" => true,
            other => {
                return Err(config.unsupported(&format!("sigma_schedule {other}"), "karras and exponential work"));
            }
        },
    };
    if !(edm.sigma_min > 0.0 && edm.sigma_min < edm.sigma_max && edm.sigma_data > 0.0 && edm.rho > 0.0) {
        let what = format!("sigma_min {} with sigma_max {}", edm.sigma_min, edm.sigma_max);
        return Err(config.unsupported(&what, "numbers above 0 work, sigma_min below sigma_max"));
    }
    Ok(Some(edm))
}

fn betas(kind: SamplerKind, config: &SchedulerConfig, default: &str, num_train_timesteps: usize) -> Result<Betas> {
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
        "sigmoid" if kind == SamplerKind::Ddpm => Ok(Betas::Sigmoid),
        "laplace" if kind == SamplerKind::Ddpm => Ok(Betas::Laplace),
        other => {
            Err(config
                .unsupported(&format!("beta_schedule {other}"), "linear, scaled_linear and squaredcos_cap_v2 work"))
        }
    }
}

fn prediction(kind: SamplerKind, config: &SchedulerConfig) -> Result<Prediction> {
    let name = config.fields.prediction_type.as_deref().unwrap_or("epsilon");
    use SamplerKind as K;
    let takes_sample =
        !matches!(kind, K::Pndm | K::EulerAncestral | K::Dpm2 | K::Dpm2Ancestral | K::DpmPpSde) && !kind.is_edm();
    match name {
        "epsilon" => Ok(Prediction::Epsilon),
        "v_prediction" => Ok(Prediction::Velocity),
        "sample" if takes_sample => Ok(Prediction::Sample),
        "original_sample" if kind == K::Euler => Ok(Prediction::Sample),
        other => {
            let expected =
                if takes_sample { "epsilon, v_prediction and sample work" } else { "epsilon and v_prediction work" };
            Err(config.unsupported(&format!("prediction_type {other} with {kind}"), expected))
        }
    }
}

fn spacing(kind: SamplerKind, config: &SchedulerConfig) -> Result<Spacing> {
    let default = match kind {
        // The single-step solver is always spaced evenly, the others by their own rules.
        _ if !kind.takes_spacing() => return Ok(Spacing::Linspace),
        SamplerKind::Ddim | SamplerKind::Ddpm | SamplerKind::Pndm => "leading",
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
    if kind == SamplerKind::Deis {
        return Ok(FinalSigma::SigmaMin);
    }
    if !is_dpm(kind) && !kind.is_edm() && !matches!(kind, SamplerKind::Euler | SamplerKind::UniPc) {
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
    if !is_dpm(kind) && !kind.is_edm() && !matches!(kind, SamplerKind::UniPc | SamplerKind::Deis) {
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
    if !unipc && !is_dpm(kind) && !kind.is_edm() && kind != SamplerKind::Deis {
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
