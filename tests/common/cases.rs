//! Whole runs recorded from diffusers (tools/fixtures/pipelines.py), and running them here.

#![allow(dead_code, reason = "each test binary that includes this module uses a part of it")]

use std::path::{Path, PathBuf};
use std::rc::Rc;

use darkroom::image::{RgbImage, decode, encode_png};
use darkroom::pipeline::{Event, Generation, Inputs, ModelComponents, Stage};
use darkroom::prompt::PromptSyntax;
use darkroom::request::{ClipSkipCounting, LongPrompt, SDConfig};
use darkroom::run::Runner;
use darkroom::sampler::{SamplerKind, SigmaSchedule};
use serde::Deserialize;

use crate::numbers::places::{failures_dir, fixtures_dir};
use crate::numbers::{Fixture, assert_close};

/// How far a run may be from diffusers'.
#[derive(Clone, Copy)]
pub struct Tolerance {
    /// Latents after a step, relative to the largest value.
    pub latents: f32,
    /// The largest difference of a level of the picture.
    pub max_level: u8,
    /// The mean difference of levels.
    pub mean_level: f64,
    /// The least peak signal-to-noise ratio of a picture, in dB.
    pub min_psnr: f64,
}

/// Peak signal-to-noise ratio of levels from 0 to 255, in dB.
pub fn psnr(got: &[u8], expected: &[u8]) -> f64 {
    let squares: f64 = got.iter().zip(expected).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
    10.0 * (255.0f64.powi(2) * got.len() as f64 / squares.max(1e-9)).log10()
}

/// One recorded run.
#[derive(Deserialize)]
pub struct Case {
    pub name: String,
    pub version: String,
    /// For a variant of a version, that version.
    base: Option<String>,
    prompt: String,
    negative: Option<String>,
    seed: u64,
    n_images: usize,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    steps: usize,
    guidance: f64,
    strength: Option<f64>,
    sampler: Option<Sampler>,
    clip_skip: Option<usize>,
    #[serde(default)]
    clip_skip_counting: ClipSkipCounting,
    /// What the prompts are written in, where that is what the case is about.
    #[serde(default)]
    syntax: Option<PromptSyntax>,
    init: Option<String>,
    mask: Option<String>,
    #[serde(default)]
    padding_mask_crop: Option<usize>,
    #[serde(default)]
    mask_blur: f64,
    pictures: Vec<String>,
    #[serde(default)]
    composites: Vec<String>,
    latents: String,
    /// Where the files are.
    #[serde(skip)]
    folder: PathBuf,
}

#[derive(Deserialize)]
struct Sampler {
    class: String,
    overrides: serde_json::Value,
}

/// A picture of a folder of fixtures; start pictures and masks may be those of the versions.
fn picture(folder: &Path, name: &str) -> RgbImage {
    let own = folder.join(name);
    let path = if own.exists() { own } else { folder.with_file_name("pipelines").join(name) };
    decode(&std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).unwrap()
}

/// A picture to start from: red on the left, grey on the right.
pub fn picture_of_halves(side: usize) -> RgbImage {
    let pixel = |i: usize| if i % side < side / 2 { [200, 0, 0] } else { [90, 90, 90] };
    RgbImage::new(side, side, (0..side * side).flat_map(pixel).collect()).unwrap()
}

/// Every recorded run of a version.
pub fn cases(version: &str) -> Vec<Case> {
    cases_in("pipelines", version)
}

/// Every recorded run of a variant of a version.
pub fn cases_of_variant(variant: &str) -> Vec<Case> {
    cases_in("variants", variant)
}

/// The same of another folder of fixtures.
pub fn cases_in(folder: &str, version: &str) -> Vec<Case> {
    let folder = fixtures_dir().join(folder);
    let text = std::fs::read_to_string(folder.join("cases.json")).unwrap();
    let mut cases: Vec<Case> = serde_json::from_str(&text).unwrap();
    cases.retain(|case| case.version == version);
    cases.iter_mut().for_each(|case| case.folder.clone_from(&folder));
    assert!(!cases.is_empty(), "no case for {version}");
    cases
}

impl Case {
    /// Whether the run takes less than a second or so, and a picture of it was recorded.
    pub fn is_small(&self) -> bool {
        !self.pictures.is_empty()
    }

    /// What the sizes of a run's kernels follow from: those of the picture, how many there are, the prompt's chunks, whether there are
    /// two prompts, and what it starts from.
    pub fn sizes(&self) -> impl Ord + use<> {
        let is_long = self.prompt.len() > 300;
        (self.width, self.height, self.n_images, is_long, self.guidance > 1.0, self.init.is_some(), self.mask.is_some())
    }

    pub fn inputs(&self) -> Inputs {
        let version = self.base.as_deref().unwrap_or(self.version.trim_end_matches("-deep"));
        let mut config = SDConfig::new(version.parse().unwrap())
            .with_prompt(&self.prompt)
            .with_size(self.width, self.height)
            .with_steps(self.steps)
            .with_guidance_scale(self.guidance)
            .with_seed(self.seed)
            .with_count(self.n_images)
            .with_clip_skip(self.clip_skip)
            .with_clip_skip_counting(self.clip_skip_counting)
            .with_prompt_syntax(self.syntax.unwrap_or_default())
            // diffusers cuts.
            .with_long_prompt(self.syntax.map_or(LongPrompt::Truncate, LongPrompt::default_of))
            .with_padding_mask_crop(self.padding_mask_crop)
            .with_mask_blur(self.mask_blur)
            .with_any_size(self.folder.ends_with("any_size"));
        config.negative_prompt = self.negative.clone();
        if let Some(strength) = self.strength {
            config = config.with_strength(strength);
        }
        if let Some(sampler) = &self.sampler {
            let karras = sampler.overrides.get("use_karras_sigmas").is_some_and(|on| on == true);
            let kind = match sampler.class.as_str() {
                "EulerAncestralDiscreteScheduler" => SamplerKind::EulerAncestral,
                "EulerDiscreteScheduler" => SamplerKind::Euler,
                "HeunDiscreteScheduler" => SamplerKind::Heun,
                "DPMSolverMultistepScheduler" => SamplerKind::DpmPp2m,
                "UniPCMultistepScheduler" => SamplerKind::UniPc,
                "LCMScheduler" => SamplerKind::Lcm,
                "DDIMScheduler" => SamplerKind::Ddim,
                "PNDMScheduler" => SamplerKind::Pndm,
                other => panic!("no sampler for {other:?}"),
            };
            config = config
                .with_sampler(darkroom::sampler::Sampler { kind, schedule: karras.then_some(SigmaSchedule::Karras) });
        }
        Inputs {
            config,
            start_picture: self.init.as_deref().map(|name| picture(&self.folder, name)),
            mask: self.mask.as_deref().map(|name| picture(&self.folder, name)),
        }
    }

    /// Runs the case, comparing the latents after every step and every picture; panics naming the first step that
    /// differs.
    pub async fn check<R: Runner>(&self, runner: &Rc<R>, model: &Rc<ModelComponents<R>>, tolerance: Tolerance) {
        let name = &self.name;
        let latents = Fixture::read(&self.folder.join(&self.latents));
        let expected = |key: &str, picture: usize| {
            let (values, shape) = latents.values(key);
            let item = values.len() / shape[0];
            values[picture * item..(picture + 1) * item].to_vec()
        };
        let mut generation = Generation::new(runner, model, self.inputs()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut n_pictures = 0;
        let mut last_fraction = 0.0;
        let mut progress = |fraction: f64| {
            assert!(
                (last_fraction..=1.0).contains(&fraction),
                "{name}: progress went from {last_fraction} to {fraction}"
            );
            last_fraction = fraction;
            true
        };
        // Of large runs no picture was recorded.
        let n_recorded = self.pictures.len();
        while n_recorded > 0 || generation.stage() != Stage::Decode {
            let event = generation.step(&mut progress).await.unwrap_or_else(|e| panic!("{name}: {e}"));
            let Some(event) = event else { break };
            let (what, key, picture_idx) = match event {
                Event::Encoded { .. } => continue,
                Event::Prepared { .. } if n_recorded == 0 => continue,
                Event::Prepared { picture } => ("the first latents".to_string(), "initial".to_string(), picture),
                Event::Denoised { picture, step, n_steps, .. } => {
                    (format!("step {step} of {n_steps}"), format!("step.{}", step - 1), picture)
                }
                Event::Decoded { picture: idx, image, seed, .. } => {
                    assert_eq!(seed, self.seed + idx as u64, "{name}");
                    let names = if self.composites.is_empty() { &self.pictures } else { &self.composites };
                    compare(name, idx, &image, &picture(&self.folder, &names[idx]), tolerance);
                    n_pictures += 1;
                    continue;
                }
            };
            let got = generation.latents().await.unwrap().unwrap();
            let what = format!("{name}: picture {picture_idx}: {what}");
            assert_close(&what, &got, &expected(&key, picture_idx), tolerance.latents);
        }
        assert_eq!(n_pictures, n_recorded, "{name}");
    }
}

/// Compares level by level; on failure writes the picture, the expected one and their difference.
fn compare(name: &str, idx: usize, got: &RgbImage, expected: &RgbImage, tolerance: Tolerance) {
    assert_eq!((got.width, got.height), (expected.width, expected.height), "{name}");
    let differences: Vec<u8> = got.pixels.iter().zip(&expected.pixels).map(|(a, b)| a.abs_diff(*b)).collect();
    let max = differences.iter().copied().max().unwrap_or(0);
    let mean = differences.iter().map(|&d| f64::from(d)).sum::<f64>() / differences.len() as f64;
    let psnr = psnr(&got.pixels, &expected.pixels);
    if max <= tolerance.max_level && mean <= tolerance.mean_level && psnr >= tolerance.min_psnr {
        return;
    }
    let folder = failures_dir();
    let amplified = differences.iter().map(|&d| d.saturating_mul(32)).collect();
    let difference = RgbImage::new(got.width, got.height, amplified).unwrap();
    for (kind, image) in [("got", got), ("expected", expected), ("difference", &difference)] {
        std::fs::write(folder.join(format!("{name}-{idx}-{kind}.png")), encode_png(image, &[]).unwrap()).unwrap();
    }
    panic!(
        "{name}: picture {idx} differs by {max} at most and {mean:.3} on average, PSNR {psnr:.1} dB; see {}",
        folder.display()
    );
}
