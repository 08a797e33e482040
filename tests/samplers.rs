//! The samplers against recorded runs of diffusers, step by step.
//!
//! `tools/fixtures/samplers.py` made the fixtures and says how. Each run is checked twice: with the latents set to
//! diffusers' before every step, so that the first step to differ is named, and from the start without such help. The
//! model's outputs are the recorded ones in both.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, in its functions too")]

use std::collections::HashMap;

use darkroom::error::Error;
use darkroom::sampler::*;
use serde::Deserialize;

/// All tolerances are relative to `max(1, |expected|)`. diffusers computes its scalars in f32; most runs agree within
/// 3e-7.
const STEP_TOLERANCE: f64 = 1e-6;
/// For `tiny-heun-3`: the third-order single-step formula of solver type heun divides the f32 rounding of exponentials
/// by small squares. No supported checkpoint asks for it.
const THIRD_ORDER_FACTOR: f64 = 5.0;
/// Without help, differences add up over the steps, and so does the rounding of diffusers' latents to f32.
const RUN_TOLERANCE: f64 = 1e-5;
/// The tables and what follows from them by a single square root.
const TABLE_TOLERANCE: f64 = 2e-7;
/// Fractional timesteps of Karras sigmas divide differences of logarithms that numpy has in f32.
const TIMESTEP_TOLERANCE: f64 = 1e-6;

#[derive(Deserialize)]
struct Common {
    /// Name to text of a `scheduler_config.json`.
    configs: HashMap<String, String>,
    /// Row 0 starts the run, the following ones are drawn in turn.
    noise: Vec<Vec<f64>>,
    /// The latents that image-to-image starts from.
    original: Vec<f64>,
}

#[derive(Deserialize)]
struct Case {
    /// `None`: the config's own.
    sampler: Option<String>,
    config: String,
    n_steps: usize,
    strength: Option<f64>,
    init_noise_sigma: f64,
    add_noise: Option<(f64, f64)>,
    start: Vec<f64>,
    steps: Vec<CaseStep>,
}

#[derive(Deserialize)]
struct CaseStep {
    timestep: f64,
    shown: Vec<f64>,
    output: Vec<f64>,
    draws_noise: bool,
    next: Vec<f64>,
    renoise: Option<(f64, f64)>,
}

/// The tensors of a run, NaN until they are written, so that reading one too early shows.
struct Tensors {
    latents: Vec<f64>,
    output: Vec<f64>,
    noise: Vec<f64>,
    buffers: Vec<Vec<f64>>,
}

impl Tensors {
    fn new(latents: Vec<f64>, n_buffers: usize) -> Self {
        let unwritten = vec![f64::NAN; latents.len()];
        Tensors { latents, output: unwritten.clone(), noise: unwritten.clone(), buffers: vec![unwritten; n_buffers] }
    }

    fn slot(&mut self, slot: Slot) -> &mut Vec<f64> {
        match slot {
            Slot::Latents => &mut self.latents,
            Slot::ModelOutput => &mut self.output,
            Slot::Noise => &mut self.noise,
            Slot::Buffer(index) => &mut self.buffers[index],
        }
    }

    fn apply(&mut self, update: &Lincomb) {
        let mut sum = vec![0.0; self.latents.len()];
        for &(slot, coefficient) in &update.terms {
            sum.iter_mut().zip(self.slot(slot)).for_each(|(sum, value)| *sum += coefficient * *value);
        }
        if let Some((low, high)) = update.clamp {
            sum.iter_mut().for_each(|value| *value = value.clamp(low, high));
        }
        *self.slot(update.target) = sum;
    }
}

/// The f32 values that nine digits stand for; latents are recorded so.
fn in_f32(values: &[f64]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value as f32)).collect()
}

/// The largest difference of two lists, and where it is.
fn largest_difference(got: &[f64], expected: &[f64]) -> (f64, usize) {
    assert_eq!(got.len(), expected.len());
    let relative = |(got, expected): (&f64, &f64)| (got - expected).abs() / expected.abs().max(1.0);
    let differences = got.iter().zip(expected).map(relative).enumerate();
    // A NaN counts as the largest of all.
    let worst = differences.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    (worst.1, worst.0)
}

fn expect_close(what: &str, got: &[f64], expected: &[f64], tolerance: f64) -> Result<f64, String> {
    let (difference, index) = largest_difference(got, expected);
    // Written so that NaN fails.
    if difference <= tolerance {
        return Ok(difference);
    }
    let (got, expected) = (got[index], expected[index]);
    Err(format!(
        "{what}, value {index}: got {got}, expected {expected} (off by {difference:.1e}, allowed {tolerance:.1e})"
    ))
}

fn fixture<T: for<'de> Deserialize<'de>>(name: &str) -> T {
    let path = format!("{}/tests/fixtures/samplers/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn config_of(case: &Case, common: &Common) -> SchedulerConfig {
    let config = SchedulerConfig::from_json(&common.configs[&case.config], &case.config).unwrap();
    match &case.sampler {
        Some(name) => config.with_sampler(name.parse::<Sampler>().unwrap()),
        None => config,
    }
}

/// Runs one case; the largest difference of a helped step and of the unhelped run.
fn check(case: &Case, common: &Common) -> Result<(f64, f64), String> {
    let schedule =
        schedule(&config_of(case, common), case.n_steps, case.strength).map_err(|error| error.to_string())?;
    if schedule.steps.len() != case.steps.len() {
        return Err(format!("{} model calls, expected {}", schedule.steps.len(), case.steps.len()));
    }
    expect_close("init_noise_sigma", &[schedule.init_noise_sigma], &[case.init_noise_sigma], TABLE_TOLERANCE)?;
    let as_list = |pair: (f64, f64)| [pair.0, pair.1];
    if let Some(expected) = case.add_noise {
        expect_close("add_noise", &as_list(schedule.add_noise), &as_list(expected), TABLE_TOLERANCE)?;
    }
    let start: Vec<f64> = match case.strength {
        None => common.noise[0].iter().map(|noise| noise * schedule.init_noise_sigma).collect(),
        Some(_) => {
            let (of_original, of_noise) = schedule.add_noise;
            common.original.iter().zip(&common.noise[0]).map(|(x, noise)| of_original * x + of_noise * noise).collect()
        }
    };
    expect_close("the start", &start, &case.start, STEP_TOLERANCE)?;

    let mut helped = Tensors::new(in_f32(&case.start), schedule.n_buffers);
    let mut alone = Tensors::new(in_f32(&case.start), schedule.n_buffers);
    let mut draws = common.noise[1..].iter();
    let factor = if case.config == "tiny-heun-3" { THIRD_ORDER_FACTOR } else { 1.0 };
    let (step_tolerance, run_tolerance) = (factor * STEP_TOLERANCE, factor * RUN_TOLERANCE);
    let mut worst = (0.0_f64, 0.0_f64);
    for (i, (step, expected)) in schedule.steps.iter().zip(&case.steps).enumerate() {
        let at = |what: &str| format!("call {i} at timestep {}: {what}", expected.timestep);
        expect_close(&at("timestep"), &[step.timestep], &[expected.timestep], TIMESTEP_TOLERANCE)?;
        let shown: Vec<f64> = helped.latents.iter().map(|value| value * step.input_scale).collect();
        expect_close(&at("what the model sees"), &shown, &expected.shown, TABLE_TOLERANCE)?;
        if step.draws_noise != expected.draws_noise {
            return Err(at(&format!("draws_noise is {}", step.draws_noise)));
        }
        let noise = if step.draws_noise { draws.next().unwrap().clone() } else { vec![f64::NAN; shown.len()] };
        for tensors in [&mut helped, &mut alone] {
            tensors.output.clone_from(&expected.output);
            tensors.noise.clone_from(&noise);
            step.updates.iter().for_each(|update| tensors.apply(update));
        }
        worst.0 = worst.0.max(expect_close(&at("latents"), &helped.latents, &expected.next, step_tolerance)?);
        worst.1 =
            worst.1.max(expect_close(&at("latents of the whole run"), &alone.latents, &expected.next, run_tolerance)?);
        helped.latents = in_f32(&expected.next);
        if step.renoise.is_some() != (i + 1 < schedule.steps.len()) {
            return Err(at("renoise is for all calls but the last"));
        }
        if let (Some(got), Some(expected)) = (step.renoise, expected.renoise) {
            expect_close(&at("renoise"), &as_list(got), &as_list(expected), TABLE_TOLERANCE)?;
        }
    }
    Ok(worst)
}

fn check_all(name: &str) {
    let common: Common = fixture("common");
    let cases: Vec<Case> = fixture(&name.replace('+', "p"));
    assert!(!cases.is_empty());
    let mut worst = (0.0_f64, 0.0_f64);
    for case in &cases {
        let differences = check(case, &common).unwrap_or_else(|difference| {
            let sampler = case.sampler.as_deref().unwrap_or("the config's sampler");
            panic!(
                "{sampler} on {} with {} steps, strength {:?}: {difference}",
                case.config, case.n_steps, case.strength
            )
        });
        worst = (worst.0.max(differences.0), worst.1.max(differences.1));
    }
    println!("{name}: {} runs, steps within {:.1e}, whole runs within {:.1e}", cases.len(), worst.0, worst.1);
}

#[test]
fn ddim_agrees_with_diffusers() {
    check_all(SamplerKind::Ddim.name());
}

#[test]
fn pndm_agrees_with_diffusers() {
    check_all(SamplerKind::Pndm.name());
}

#[test]
fn euler_agrees_with_diffusers() {
    check_all(SamplerKind::Euler.name());
}

#[test]
fn euler_ancestral_agrees_with_diffusers() {
    check_all(SamplerKind::EulerAncestral.name());
}

#[test]
fn dpm_2m_agrees_with_diffusers() {
    check_all(SamplerKind::DpmPp2m.name());
}

#[test]
fn dpm_2m_karras_agrees_with_diffusers() {
    check_all("dpm++2m_karras");
}

#[test]
fn dpm_2m_sde_agrees_with_diffusers() {
    check_all(SamplerKind::DpmPp2mSde.name());
}

#[test]
fn dpm_2s_sde_agrees_with_diffusers() {
    check_all(SamplerKind::DpmPp2sSde.name());
}

#[test]
fn heun_agrees_with_diffusers() {
    check_all(SamplerKind::Heun.name());
}

#[test]
fn unipc_agrees_with_diffusers() {
    check_all(SamplerKind::UniPc.name());
}

#[test]
fn lcm_agrees_with_diffusers() {
    check_all(SamplerKind::Lcm.name());
}

/// A typical config, as any sampler might be asked to take it over.
const STABLE: &str = r#"{"_class_name": "PNDMScheduler", "beta_start": 0.00085, "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "skip_prk_steps": true, "steps_offset": 1, "clip_sample": false}"#;

fn stable(kind: SamplerKind) -> SchedulerConfig {
    SchedulerConfig::from_json(STABLE, "scheduler_config.json").unwrap().with_sampler(kind)
}

#[test]
fn every_sampler_runs_at_every_length_and_reads_nothing_unwritten() {
    let lengths = [1, 2, 3, 4, 5, 7, 14, 15, 16, 31, 50, 61, 103, 150];
    for kind in SamplerKind::ALL {
        for n_steps in lengths.into_iter().filter(|&n| kind != SamplerKind::Lcm || n <= 50) {
            for strength in [None, Some(1.0), Some(0.75), Some(0.5)] {
                let Ok(schedule) = schedule(&stable(kind), n_steps, strength) else {
                    assert!(n_steps == 1 && strength < Some(1.0), "{kind} with {n_steps} steps, strength {strength:?}");
                    continue;
                };
                let mut tensors = Tensors::new(vec![0.5; 2], schedule.n_buffers);
                for step in &schedule.steps {
                    tensors.output = vec![0.1; 2];
                    tensors.noise = vec![if step.draws_noise { 0.2 } else { f64::NAN }; 2];
                    step.updates.iter().for_each(|update| tensors.apply(update));
                    let is_finite = tensors.latents.iter().all(|value| value.is_finite());
                    assert!(is_finite, "{kind} with {n_steps} steps, strength {strength:?}, at {}", step.timestep);
                }
                assert!(schedule.steps.last().unwrap().renoise.is_none());
            }
        }
    }
}

#[test]
fn trailing_never_leaves_the_training_steps() {
    let config = SchedulerConfig::from_json(
        r#"{"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"}"#,
        "scheduler_config.json",
    );
    let config = config.unwrap();
    for n_steps in 1..=150 {
        let schedule = schedule(&config, n_steps, None).unwrap();
        assert_eq!(schedule.steps.len(), n_steps);
        assert!(schedule.steps.iter().all(|step| step.timestep >= 0.0), "{n_steps} steps");
    }
}

#[track_caller]
fn refused(json: &str, kind: SamplerKind, n_steps: usize, strength: Option<f64>) -> String {
    let config = SchedulerConfig::from_json(json, "scheduler_config.json").unwrap().with_sampler(kind);
    let error = schedule(&config, n_steps, strength).unwrap_err();
    assert!(matches!(error, Error::Config { .. } | Error::Request { .. }), "{error:?}");
    error.to_string()
}

#[test]
fn unsupported_options_are_named_with_what_would_work() {
    for (json, kind, field) in [
        (r#"{"thresholding": true}"#, SamplerKind::Ddim, "thresholding true"),
        (r#"{"use_flow_sigmas": true}"#, SamplerKind::DpmPp2m, "use_flow_sigmas true"),
        (r#"{"use_exponential_sigmas": true}"#, SamplerKind::Euler, "use_exponential_sigmas true"),
        (r#"{"use_beta_sigmas": true}"#, SamplerKind::Heun, "use_beta_sigmas true"),
        (r#"{"use_lu_lambdas": true}"#, SamplerKind::DpmPp2m, "use_lu_lambdas true"),
        (r#"{"beta_schedule": "sigmoid"}"#, SamplerKind::Ddim, "beta_schedule sigmoid"),
        (r#"{"trained_betas": [0.1, 0.2]}"#, SamplerKind::Ddim, "trained_betas of length 2"),
        (r#"{"prediction_type": "flow_prediction"}"#, SamplerKind::UniPc, "prediction_type flow_prediction"),
        (r#"{"prediction_type": "sample"}"#, SamplerKind::EulerAncestral, "prediction_type sample"),
        (r#"{"timestep_spacing": "even"}"#, SamplerKind::Euler, "timestep_spacing even"),
        (r#"{"final_sigmas_type": "one"}"#, SamplerKind::UniPc, "final_sigmas_type one"),
        (r#"{"interpolation_type": "cubic"}"#, SamplerKind::Euler, "interpolation_type cubic"),
        (r#"{"solver_order": 4}"#, SamplerKind::DpmPp2m, "solver_order 4"),
        (r#"{"solver_type": "rk4"}"#, SamplerKind::DpmPp2m, "solver_type rk4"),
        (r#"{"predict_x0": false}"#, SamplerKind::UniPc, "predict_x0 false"),
        (r#"{"lower_order_final": false}"#, SamplerKind::UniPc, "lower_order_final false"),
        (r#"{"num_train_timesteps": 0}"#, SamplerKind::Ddim, "num_train_timesteps 0"),
        (r#"{"steps_offset": 500}"#, SamplerKind::Ddim, "steps_offset 500"),
        (
            r#"{"rescale_betas_zero_snr": true, "timestep_spacing": "trailing"}"#,
            SamplerKind::Ddim,
            "rescale_betas_zero_snr",
        ),
    ] {
        let message = refused(json, kind, 10, None);
        assert!(message.contains(field) && message.contains("work"), "{field}: {message}");
    }
}

#[test]
fn options_that_a_class_does_not_have_are_ignored() {
    for (json, kind) in [
        (r#"{"thresholding": true, "use_flow_sigmas": true, "prediction_type": "epsilon"}"#, SamplerKind::Euler),
        (r#"{"use_karras_sigmas": true, "use_beta_sigmas": true, "rubbish": [1, {}]}"#, SamplerKind::EulerAncestral),
        (r#"{"solver_order": 9, "solver_type": "rk4", "final_sigmas_type": "one"}"#, SamplerKind::Ddim),
    ] {
        let config = SchedulerConfig::from_json(json, "scheduler_config.json").unwrap().with_sampler(kind);
        assert!(schedule(&config, 10, None).is_ok(), "{json}");
    }
}

#[test]
fn impossible_requests_say_what_would_work() {
    let steps = |n_steps, strength| refused(STABLE, SamplerKind::Euler, n_steps, strength);
    assert_eq!(steps(0, None), "steps 0 is not possible: 1 to 1000 work with this checkpoint");
    assert_eq!(steps(1001, None), "steps 1001 is not possible: 1 to 1000 work with this checkpoint");
    assert_eq!(steps(10, Some(1.5)), "strength 1.5 is not possible: 0 to 1 work");
    assert_eq!(steps(10, Some(f64::NAN)), "strength NaN is not possible: 0 to 1 work");
    let message = steps(10, Some(0.05));
    assert!(message.contains("a strength from 0.1 on works, and strength 0.05 from 20 steps on"), "{message}");
    assert!(steps(10, Some(0.0)).ends_with("a strength from 0.1 on works"));
    assert!(refused(STABLE, SamplerKind::Lcm, 51, None).contains("1 to 50 steps"));
    let warm_up = r#"{"steps_offset": 1}"#;
    assert!(refused(warm_up, SamplerKind::Pndm, 3, None).contains("from 4 steps on"));
    assert!(refused(warm_up, SamplerKind::Pndm, 10, Some(0.5)).contains("skip_prk_steps"));
    // The advice, taken literally.
    for n_steps in [3, 7, 10, 30, 149] {
        let message = steps(n_steps, Some(1e-4));
        let advised = message.split("a strength from ").nth(1).unwrap().split(' ').next().unwrap();
        assert!(schedule(&stable(SamplerKind::Euler), n_steps, Some(advised.parse().unwrap())).is_ok(), "{message}");
    }
}

#[test]
fn the_demo_model_gets_its_own_sampler() {
    let common: Common = fixture("common");
    let config = SchedulerConfig::from_json(&common.configs["tiny-emoji"], "scheduler_config.json").unwrap();
    assert_eq!(config.kind().unwrap(), SamplerKind::DpmPp2m);
    let schedule = schedule(&config, 20, None).unwrap();
    assert_eq!((schedule.steps.len(), schedule.n_buffers), (20, 2));
    for kind in SamplerKind::ALL {
        assert!(darkroom::sampler::schedule(&config.with_sampler(kind), 10, None).is_ok(), "{kind}");
    }
}
