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
/// For DEIS of third order: one last digit of numpy's f32 logarithms is 8e-6 of a coefficient, and the exact value lies
/// between. No supported checkpoint asks for it.
const DEIS_FACTOR: f64 = 10.0;
/// For `cosine-karras`, whose first levels are in the ten thousands: alpha is then the rounded square of that.
const LARGE_SIGMA_FACTOR: f64 = 10.0;
/// Without help, differences add up over the steps, and so does the rounding of diffusers' latents to f32.
const RUN_TOLERANCE: f64 = 1e-5;
/// Lists in f32 are rounded in every step, memory of earlier steps too.
const ARRAY_FACTOR: f64 = 10.0;
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
    #[serde(default)]
    eta: f64,
    timesteps: Option<Vec<usize>>,
    sigmas: Option<Vec<f64>>,
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
        match update.limit {
            None => {}
            Some(Limit::Clip(range)) => sum.iter_mut().for_each(|value| *value = value.clamp(-range, range)),
            Some(Limit::Dynamic { ratio, max }) => {
                let values: Vec<f32> = sum.iter().map(|&value| value as f32).collect();
                let bound = Limit::dynamic_bound(&values, ratio, max);
                sum.iter_mut().for_each(|value| *value = value.clamp(-bound, bound) / bound);
            }
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
    let steps = match (&case.timesteps, &case.sigmas) {
        (Some(timesteps), _) => Steps::Timesteps(timesteps.clone()),
        (_, Some(sigmas)) => Steps::Sigmas(sigmas.clone()),
        _ => Steps::Number(case.n_steps),
    };
    let options = RunOptions { steps, strength: case.strength, eta: case.eta };
    let schedule = schedule_with(&config_of(case, common), &options).map_err(|error| error.to_string())?;
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
    // The same by the library's own arithmetic on lists, in f32.
    let f32s = |values: &[f64]| values.iter().map(|&value| value as f32).collect::<Vec<f32>>();
    let f64s = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect::<Vec<f64>>();
    let mut array = ArrayRun::from_latents(&schedule, f32s(&case.start));
    let mut draws = common.noise[1..].iter();
    let factor = match case.config.as_str() {
        "tiny-heun-3" => THIRD_ORDER_FACTOR,
        "cosine-karras" => LARGE_SIGMA_FACTOR,
        "tiny-order-3" if case.sampler.as_deref() == Some("deis") => DEIS_FACTOR,
        _ => 1.0,
    };
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
        if (array.timestep(), array.draws_noise()) != (Some(step.timestep), step.draws_noise) {
            return Err(at("the lists are elsewhere"));
        }
        array
            .step(&f32s(&expected.output), step.draws_noise.then(|| f32s(&noise)).as_deref())
            .map_err(|e| e.to_string())?;
        expect_close(&at("lists"), &f64s(array.latents()), &expected.next, ARRAY_FACTOR * run_tolerance)?;
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

/// Runs all cases of a sampler and names those that differ, each with its first step that does.
fn differing(name: &str) -> Vec<String> {
    let common: Common = fixture("common");
    let cases: Vec<Case> = fixture(&name.replace('+', "p"));
    assert!(!cases.is_empty());
    let mut worst = (0.0_f64, 0.0_f64);
    let mut differing = Vec::new();
    for case in &cases {
        match check(case, &common) {
            Ok(differences) => worst = (worst.0.max(differences.0), worst.1.max(differences.1)),
            Err(difference) => {
                let sampler = case.sampler.as_deref().unwrap_or("the config's sampler");
                let (config, n_steps, strength) = (&case.config, case.n_steps, case.strength);
                let options = (case.eta, &case.timesteps, &case.sigmas);
                differing.push(format!(
                    "{sampler} on {config} with {n_steps} steps, strength {strength:?}, options {options:?}: {difference}"
                ));
            }
        }
    }
    println!("{name}: {} runs, steps within {:.1e}, whole runs within {:.1e}", cases.len(), worst.0, worst.1);
    differing
}

fn check_all(name: &str) {
    let differing = differing(name);
    assert!(differing.is_empty(), "{} runs differ:\n{}", differing.len(), differing.join("\n"));
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

/// The samplers whose tests are not written out above.
#[test]
fn the_other_samplers_agree_with_diffusers() {
    let names = [
        "dpm++2s",
        "dpm++sde",
        "dpmsolver_2m",
        "dpmsolver_2m_sde",
        "dpmsolver_2s",
        "dpm2",
        "dpm2_a",
        "lms",
        "deis",
        "ddpm",
        "tcd",
        "edm_euler",
        "edm_dpm++2m",
        "edm_dpm++2m_sde",
    ];
    let differing: Vec<String> = names.into_iter().flat_map(differing).collect();
    assert!(differing.is_empty(), "{} runs differ:\n{}", differing.len(), differing.join("\n"));
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
        for n_steps in lengths.into_iter().filter(|&n| !matches!(kind, SamplerKind::Lcm | SamplerKind::Tcd) || n <= 50)
        {
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
        (r#"{"use_flow_sigmas": true}"#, SamplerKind::DpmPp2m, "use_flow_sigmas true"),
        (
            r#"{"use_exponential_sigmas": true, "use_beta_sigmas": true}"#,
            SamplerKind::Euler,
            "a exponential schedule together with a beta one",
        ),
        (r#"{"variance_type": "learned_range"}"#, SamplerKind::Ddpm, "learned variance_type"),
        (r#"{"variance_type": "fixed_large_log"}"#, SamplerKind::Ddpm, "variance_type fixed_large_log"),
        (r#"{"solver_order": 3}"#, SamplerKind::Dpm2mSde, "solver_order 3"),
        (r#"{"thresholding": true}"#, SamplerKind::Dpm2s, "thresholding true with algorithm_type dpmsolver"),
        (r#"{"prediction_type": "sample"}"#, SamplerKind::Dpm2, "prediction_type sample"),
        (r#"{"_class_name": "EDMEulerScheduler"}"#, SamplerKind::Euler, "trained in the form of EDM"),
        (r#"{}"#, SamplerKind::EdmEuler, "trained in the form of EDM"),
        (r#"{"beta_end": 2}"#, SamplerKind::DpmPp2m, "beta_end"),
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

#[test]
fn old_dpm_solver_needs_a_last_level_above_zero() {
    for class in ["DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"] {
        let text = |last: &str| {
            format!(r#"{{"_class_name": "{class}", "algorithm_type": "dpmsolver", "final_sigmas_type": "{last}"}}"#)
        };
        let config = |last| SchedulerConfig::from_json(&text(last), "s.json").unwrap();
        let message = schedule(&config("zero"), 10, None).unwrap_err().to_string();
        assert!(message.contains("final_sigmas_type zero") && message.contains("sigma_min works"), "{message}");
        assert!(schedule(&config("sigma_min"), 10, None).is_ok());
    }
}

/// The number that a message's advice names, and what follows it.
fn number_before<'a>(message: &'a str, words: &str) -> Option<&'a str> {
    let before = message.strip_suffix(words)?.trim_end();
    before.rsplit(|c: char| !c.is_ascii_digit()).next().filter(|digits| !digits.is_empty())
}

/// What a message says would work must work when it is done.
#[test]
fn advice_works_when_it_is_followed() {
    let mut n_followed = 0;
    let bad = [
        r#"{"lower_order_final": false}"#,
        r#"{"lower_order_final": false, "final_sigmas_type": "sigma_min"}"#,
        r#"{"beta_end": 0.9}"#,
        r#"{"beta_start": 0.0, "beta_end": 0.0}"#,
        r#"{"rescale_betas_zero_snr": true, "timestep_spacing": "trailing"}"#,
        r#"{"beta_schedule": "squaredcos_cap_v2", "use_karras_sigmas": true}"#,
        r#"{"num_train_timesteps": 20, "use_exponential_sigmas": true}"#,
        r#"{"solver_order": 3, "solver_type": "bh1"}"#,
    ];
    for json in bad {
        for kind in SamplerKind::ALL {
            for n_steps in [1, 2, 10, 20, 150, 999, 1000] {
                let config = SchedulerConfig::from_json(json, "s.json").unwrap().with_sampler(kind);
                let Err(error) = schedule(&config, n_steps, None) else { continue };
                let message = error.to_string();
                if let Some(fewer) = number_before(&message, "steps work") {
                    let fewer = fewer.parse().unwrap();
                    assert!(schedule(&config, fewer, None).is_ok(), "{json} {kind} {n_steps}: {message}");
                } else if message.ends_with("; true works") {
                    let mended = json.replace("\"lower_order_final\": false", "\"lower_order_final\": true");
                    let config = SchedulerConfig::from_json(&mended, "s.json").unwrap().with_sampler(kind);
                    assert!(schedule(&config, n_steps, None).is_ok(), "{json} {kind} {n_steps}: {message}");
                } else if let Some((_, sampler)) = message.split_once("; the sampler ") {
                    let sampler: Sampler = sampler.strip_suffix(" works").unwrap().parse().unwrap();
                    let config = config.with_sampler(sampler);
                    assert!(schedule(&config, n_steps, None).is_ok(), "{json} {kind} {n_steps}: {message}");
                } else {
                    continue;
                }
                n_followed += 1;
            }
        }
    }
    assert!(n_followed > 20, "{n_followed}");
}

#[test]
fn lists_of_steps_and_eta_are_refused_where_diffusers_has_none() {
    let refused =
        |kind: SamplerKind, options: RunOptions| schedule_with(&stable(kind), &options).unwrap_err().to_string();
    let with = |steps: Steps| RunOptions { steps, ..RunOptions::new(1) };
    for kind in SamplerKind::ALL {
        let timesteps = with(Steps::Timesteps(vec![999, 500, 20]));
        let sigmas = with(Steps::Sigmas(vec![10.0, 3.0, 0.0]));
        if kind.takes_timesteps() {
            assert_eq!(schedule_with(&stable(kind), &timesteps).unwrap().steps[0].timestep, 999.0, "{kind}");
        } else {
            let message = refused(kind, timesteps);
            assert!(message.contains("takes none") && message.contains("dpm++2m, "), "{message}");
        }
        if kind.takes_sigmas() {
            assert_eq!(schedule_with(&stable(kind), &sigmas).unwrap().steps.len(), 2);
        } else {
            assert!(refused(kind, sigmas).contains("these samplers do: euler"), "{kind}");
        }
        let eta = RunOptions { eta: 0.5, ..RunOptions::new(4) };
        if kind.takes_eta() {
            assert!(schedule_with(&stable(kind), &eta).unwrap().steps[0].draws_noise, "{kind}");
        } else {
            assert!(refused(kind, eta).contains("these samplers do: ddim, tcd"), "{kind}");
        }
    }
    for timesteps in [vec![], vec![1000], vec![5, 5], vec![1, 2]] {
        let message = refused(SamplerKind::Euler, with(Steps::Timesteps(timesteps)));
        assert!(message.contains("from 999 down"), "{message}");
    }
    for sigmas in [vec![], vec![1.0], vec![1.0, 2.0], vec![f64::NAN, 1.0], vec![2.0, -1.0]] {
        let message = refused(SamplerKind::Euler, with(Steps::Sigmas(sigmas)));
        assert!(message.contains("from large to small"), "{message}");
    }
    let message = refused(SamplerKind::Ddim, RunOptions { eta: 1.5, ..RunOptions::new(4) });
    assert!(message.contains("eta 1.5"), "{message}");
    let karras: Sampler = "dpm++2m_karras".parse().unwrap();
    let config = stable(SamplerKind::Euler).with_sampler(karras);
    let message = schedule_with(&config, &with(Steps::Timesteps(vec![999, 3]))).unwrap_err().to_string();
    assert!(message.contains("karras schedule chooses its own"), "{message}");
}

#[test]
fn lists_of_another_length_are_refused() {
    let schedule = schedule(&stable(SamplerKind::EulerAncestral), 2, None).unwrap();
    let mut run = ArrayRun::from_noise(&schedule, &[1.0, -1.0]);
    let (input, latents) = (run.input(), run.latents().to_vec());
    assert!(input.len() == 2 && input[0] < latents[0], "{input:?} {latents:?}");
    let refused = |result: darkroom::Result<()>| result.unwrap_err().to_string();
    assert!(refused(run.step(&[0.0; 3], Some(&[0.0; 2]))).contains("as many as the latents work, 2"));
    assert!(refused(run.step(&[0.0; 2], None)).contains("draws noise"));
    assert!(refused(run.step(&[0.0; 2], Some(&[0.0]))).contains("as many as the latents work, 2"));
    assert_eq!(run.latents(), latents, "a refusal changes nothing");
    for _ in 0..2 {
        run.step(&[0.1, 0.2], Some(&[0.5, 0.5])).unwrap();
    }
    assert_eq!(run.timestep(), None);
    assert!(refused(run.step(&[0.0; 2], None)).contains("over"));
    assert!(ArrayRun::from_original(&schedule, &[0.0; 2], &[0.0; 3]).is_err());
}
