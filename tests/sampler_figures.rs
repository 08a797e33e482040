//! The figures that diffusers publishes in its own tests (`tests/schedulers/test_scheduler_*.py`): sums and means of
//! magnitudes after a run on a fixed sample with a fixed "model".
//!
//! The sample has 4 x 3 x 8 x 8 values rising from 0 to 1, the noise of runs from the middle the same ones falling, and the
//! model is `sample · t / (t + 1)`. Left out are runs on another sample, and `DPMSolverSDEScheduler`, whose noise is
//! torchsde's.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, in its functions too")]

use darkroom::rng::Generator;
use darkroom::sampler::*;

const BATCH: usize = 4;
const N: usize = BATCH * 3 * 8 * 8;

/// Which latents the model is shown.
#[derive(Clone, Copy, PartialEq)]
enum Shown {
    /// As they are.
    Plain,
    /// Scaled, and the step starts from the scaled ones too: what diffusers' tests do, other than its pipelines.
    InPlace,
    /// Scaled, as in a pipeline.
    Beside,
}

/// A run and its figures.
struct Figure {
    class: &'static str,
    /// The config's fields beside those of the class's test.
    options: &'static str,
    n_steps: usize,
    /// Steps that are left out at the beginning.
    n_skipped: usize,
    /// Whether noise is added at the start of what is left.
    adds_noise: bool,
    sum: Option<f64>,
    mean: f64,
}

/// A whole run of ten steps.
const fn whole(class: &'static str, options: &'static str, sum: f64, mean: f64) -> Figure {
    Figure { class, options, n_steps: 10, n_skipped: 0, adds_noise: false, sum: Some(sum), mean }
}

/// Of which only the mean is published.
const fn mean(class: &'static str, options: &'static str, mean: f64) -> Figure {
    Figure { class, options, n_steps: 10, n_skipped: 0, adds_noise: false, sum: None, mean }
}

/// From the middle of ten steps, with noise.
const fn rest(class: &'static str, n_skipped: usize, sum: f64, mean: f64) -> Figure {
    Figure { class, options: "", n_steps: 10, n_skipped, adds_noise: true, sum: Some(sum), mean }
}

const VELOCITY: &str = r#""prediction_type": "v_prediction""#;
const KARRAS: &str = r#""use_karras_sigmas": true"#;
const VELOCITY_KARRAS: &str = r#""prediction_type": "v_prediction", "use_karras_sigmas": true"#;
const ONE: &str = r#""set_alpha_to_one": true, "beta_start": 0.01"#;
const NOT_ONE: &str = r#""set_alpha_to_one": false, "beta_start": 0.01"#;
const LIMITS: &str = r#""thresholding": true, "dynamic_thresholding_ratio": 0.87, "sample_max_value": 0.5"#;

const FIGURES: &[Figure] = &[
    whole("DDIM", "", 172.0067, 0.223967),
    whole("DDIM", VELOCITY, 52.5302, 0.0684),
    whole("DDIM", ONE, 149.8295, 0.1951),
    whole("DDIM", NOT_ONE, 149.0784, 0.1941),
    rest("DDIM", 8, 354.5418, 0.4616),
    Figure { n_steps: 1000, ..whole("DDPM", "", 258.9606, 0.3372) },
    Figure { n_steps: 1000, ..whole("DDPM", VELOCITY, 202.0296, 0.2631) },
    Figure { n_steps: 1000, ..rest("DDPM", 998, 387.9466, 0.5051) },
    mean("DPMSolverMultistep", "", 0.3301),
    mean("DPMSolverMultistep", VELOCITY, 0.2251),
    mean("DPMSolverMultistep", VELOCITY_KARRAS, 0.2096),
    mean("DPMSolverMultistep", r#""prediction_type": "v_prediction", "use_lu_lambdas": true"#, 0.1554),
    mean("DPMSolverMultistep", LIMITS, 1.1364),
    rest("DPMSolverMultistep", 5, 318.4111, 0.4146),
    mean("DPMSolverSinglestep", "", 0.2791),
    mean("DPMSolverSinglestep", KARRAS, 0.2248),
    mean("DPMSolverSinglestep", VELOCITY, 0.1453),
    mean("DPMSolverSinglestep", VELOCITY_KARRAS, 0.0649),
    Figure { n_steps: 50, n_skipped: 3, ..mean("DPMSolverSinglestep", "", 0.2574) },
    rest("DPMSolverSinglestep", 5, 269.2187, 0.3505),
    mean("DEISMultistep", "", 0.23916),
    mean("DEISMultistep", VELOCITY, 0.091),
    rest("DEISMultistep", 8, 315.3016, 0.41054),
    mean("UniPCMultistep", "", 0.2464),
    mean("UniPCMultistep", KARRAS, 0.2925),
    mean("UniPCMultistep", VELOCITY, 0.1014),
    mean("UniPCMultistep", VELOCITY_KARRAS, 0.1966),
    rest("UniPCMultistep", 8, 315.5757, 0.4109),
    whole("PNDM", "", 198.1318, 0.258),
    whole("PNDM", VELOCITY, 67.3986, 0.0878),
    whole("PNDM", ONE, 230.0399, 0.2995),
    whole("PNDM", NOT_ONE, 186.9482, 0.2434),
    whole("EulerDiscrete", "", 10.0807, 0.0131),
    whole("EulerDiscrete", VELOCITY, 0.0002, 2.2676e-6),
    whole("EulerDiscrete", KARRAS, 124.52299, 0.162139),
    rest("EulerDiscrete", 8, 57062.9297, 74.3007),
    whole("EulerAncestralDiscrete", "", 152.3192, 0.1983),
    whole("EulerAncestralDiscrete", VELOCITY, 108.4439, 0.1412),
    rest("EulerAncestralDiscrete", 8, 56163.0508, 73.129),
    whole("HeunDiscrete", "", 0.1233, 0.0002),
    whole("HeunDiscrete", VELOCITY, 4.6934e-7, 6.1112e-10),
    whole("HeunDiscrete", KARRAS, 0.00015, 1.98695e-7),
    rest("HeunDiscrete", 8, 75074.8906, 97.7538),
    whole("KDPM2Discrete", "", 20.4125, 0.0266),
    whole("KDPM2Discrete", VELOCITY, 4.6934e-7, 6.1112e-10),
    rest("KDPM2Discrete", 8, 70408.4062, 91.6776),
    whole("KDPM2AncestralDiscrete", "", 13979.9433, 18.203),
    whole("KDPM2AncestralDiscrete", VELOCITY, 331.8133, 0.432),
    rest("KDPM2AncestralDiscrete", 8, 93087.3437, 121.2074),
    whole("LMSDiscrete", "", 1006.388, 1.31),
    whole("LMSDiscrete", VELOCITY, 0.0017, 2.2676e-6),
    whole("LMSDiscrete", KARRAS, 3812.9927, 4.9648),
    rest("LMSDiscrete", 8, 27663.6895, 36.0204),
    Figure { n_steps: 1, ..whole("LCM", "", 18.7097, 0.0244) },
    whole("LCM", "", 197.7616, 0.2575),
    Figure { n_steps: 1, ..whole("TCD", "", 29.8715, 0.0389) },
    whole("TCD", "", 181.204, 0.2359),
    whole("EDMEuler", "", 34.1855, 0.044),
    mean("EDMDPMSolverMultistep", "", 0.0001),
    mean("EDMDPMSolverMultistep", VELOCITY, 0.0092),
    mean("EDMDPMSolverMultistep", LIMITS, 0.008),
    rest("EDMDPMSolverMultistep", 5, 8.1661, 0.0106),
];

/// The config of a class's test, and how it shows latents to the model.
fn test_of(class: &str) -> (&'static str, Shown) {
    const LINEAR: &str = r#""num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02"#;
    const LONGER: &str = r#""num_train_timesteps": 1100, "beta_start": 0.0001, "beta_end": 0.02"#;
    const DISTILLED: &str = r#""beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear""#;
    match class {
        "DPMSolverMultistep" => (
            r#""beta_start": 0.0001, "beta_end": 0.02, "lower_order_final": false, "final_sigmas_type": "sigma_min""#,
            Shown::Plain,
        ),
        "DPMSolverSinglestep" | "UniPCMultistep" => {
            (r#""beta_start": 0.0001, "beta_end": 0.02, "final_sigmas_type": "sigma_min""#, Shown::Plain)
        }
        "EDMEuler" => (r#""num_train_timesteps": 256, "sigma_min": 0.002, "sigma_max": 80.0"#, Shown::Beside),
        "EDMDPMSolverMultistep" => {
            (r#""sigma_data": 0.5, "lower_order_final": false, "final_sigmas_type": "sigma_min""#, Shown::Plain)
        }
        "LCM" | "TCD" => (DISTILLED, Shown::Plain),
        class if class.ends_with("Discrete") => (LONGER, Shown::InPlace),
        _ => (LINEAR, Shown::Plain),
    }
}

/// A value's place in the order of the batch, from its place in the order in which the values rise.
fn placed(rising: impl Fn(usize) -> f64) -> Vec<f64> {
    let per_picture = N / BATCH;
    (0..N).map(|i| rising(i % per_picture * BATCH + i / per_picture)).collect()
}

fn apply(update: &Lincomb, tensors: &mut [(Slot, Vec<f64>)]) {
    let of = |slot: Slot| &tensors.iter().find(|(known, _)| *known == slot).unwrap().1;
    let mut sum = vec![0.0; N];
    for &(slot, coefficient) in &update.terms {
        sum.iter_mut().zip(of(slot)).for_each(|(sum, value)| *sum += coefficient * value);
    }
    for picture in sum.chunks_mut(N / BATCH) {
        match update.limit {
            None => {}
            Some(Limit::Clip(range)) => picture.iter_mut().for_each(|value| *value = value.clamp(-range, range)),
            Some(Limit::Dynamic { ratio, max }) => {
                let values: Vec<f32> = picture.iter().map(|&value| value as f32).collect();
                let bound = Limit::dynamic_bound(&values, ratio, max);
                picture.iter_mut().for_each(|value| *value = value.clamp(-bound, bound) / bound);
            }
        }
    }
    tensors.iter_mut().find(|(known, _)| *known == update.target).unwrap().1 = sum;
}

/// The magnitudes' sum after a run.
fn run(figure: &Figure) -> f64 {
    let (common, shown) = test_of(figure.class);
    let options = if figure.options.is_empty() { String::new() } else { format!(", {}", figure.options) };
    // The last of two fields with one name counts in Python; here only one may be given.
    let common =
        if options.contains("beta_start") { common.replace(r#""beta_start": 0.0001, "#, "") } else { common.into() };
    let json = format!(r#"{{"_class_name": "{}Scheduler", {common}{options}}}"#, figure.class);
    let config = SchedulerConfig::from_json(&json, figure.class).unwrap();
    let n_left = figure.n_steps - figure.n_skipped;
    let strength = (figure.n_skipped > 0).then(|| (n_left as f64 + 0.5) / figure.n_steps as f64);
    let schedule = schedule(&config, figure.n_steps, strength).unwrap();
    let start = if shown == Shown::Plain { 1.0 } else { schedule.init_noise_sigma };
    let mut latents = placed(|i| i as f64 / N as f64 * start);
    if figure.adds_noise {
        let (of_original, of_noise) = schedule.add_noise;
        let noise = placed(|i| (N - 1 - i) as f64 / N as f64);
        latents.iter_mut().zip(noise).for_each(|(value, noise)| *value = of_original * *value + of_noise * noise);
    }
    let mut generator = Generator::new(0);
    let mut tensors: Vec<(Slot, Vec<f64>)> =
        [Slot::Latents, Slot::ModelOutput, Slot::Noise].map(|slot| (slot, vec![0.0; N])).to_vec();
    tensors.extend((0..schedule.n_buffers).map(|i| (Slot::Buffer(i), vec![f64::NAN; N])));
    tensors[0].1 = latents;
    for step in &schedule.steps {
        if shown == Shown::InPlace {
            tensors[0].1.iter_mut().for_each(|value| *value *= step.input_scale);
        }
        let scale = if shown == Shown::Beside { step.input_scale } else { 1.0 };
        let ratio = scale * step.timestep / (step.timestep + 1.0);
        tensors[1].1 = tensors[0].1.iter().map(|value| value * ratio).collect();
        if step.draws_noise {
            tensors[2].1 = generator.randn(N).into_iter().map(f64::from).collect();
        }
        step.updates.iter().for_each(|update| apply(update, &mut tensors));
    }
    tensors[0].1.iter().map(|value| value.abs()).sum()
}

#[test]
fn published_figures_come_out() {
    let mut differing = Vec::new();
    for figure in FIGURES {
        let sum = run(figure);
        // diffusers' own tolerances, and its rounding to f32 where the sum is large.
        let allowed = 1e-2 + 1e-6 * figure.sum.unwrap_or(0.0);
        let sum_holds = figure.sum.is_none_or(|expected| (sum - expected).abs() < allowed);
        let mean_holds = (sum / N as f64 - figure.mean).abs() < 1e-3;
        if !sum_holds || !mean_holds {
            differing.push(format!(
                "{} {}: sum {sum}, mean {} instead of {:?}, {}",
                figure.class,
                figure.options,
                sum / N as f64,
                figure.sum,
                figure.mean
            ));
        }
    }
    assert!(differing.is_empty(), "{} of {}:\n{}", differing.len(), FIGURES.len(), differing.join("\n"));
}
