//! Runs of the command line on tiny models, recorded from diffusers: how they are asked for, and how far they may differ.

#![allow(dead_code, reason = "each test binary that includes this module uses a part of it")]

#[path = "gpu.rs"]
mod gpu;

use std::path::{Path, PathBuf};
use std::process::Command;

use darkroom::image::{RgbImage, decode, encode_png};
pub use gpu::{draws_all, has_no_gpu};
use serde::Deserialize;

use crate::numbers::places::failures_dir;

/// How far a picture may be from diffusers'.
#[derive(Clone, Copy)]
pub struct Tolerance {
    /// The largest difference of a level.
    pub max_level: u8,
    /// The mean difference of levels.
    pub mean_level: f64,
    /// The least peak signal-to-noise ratio, in dB.
    pub min_psnr: f64,
}

/// f32 against f32: the orders of summation differ.
pub const EXACT: Tolerance = Tolerance { max_level: 2, mean_level: 0.3, min_psnr: 0.0 };

/// 16 bits on the GPU.
pub const HALF: Tolerance = Tolerance { max_level: 255, mean_level: 4.0, min_psnr: 35.0 };

/// A file that is refused.
#[derive(Deserialize)]
pub struct Refused {
    pub file: String,
    /// The model that it is tried on.
    pub version: String,
    /// What the message has in it.
    pub says: Vec<String>,
}

/// One recorded run.
#[derive(Clone, Deserialize)]
pub struct Try {
    pub name: String,
    pub version: String,
    pub prompt: String,
    pub negative: Option<String>,
    pub seed: u64,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    pub steps: usize,
    pub guidance: f64,
    pub pictures: Vec<String>,
}

impl Try {
    /// The request as it is typed.
    pub fn args(&self) -> Vec<String> {
        let mut args = vec!["--prompt".to_string(), self.prompt.clone()];
        let numbers = [
            ("--seed", self.seed.to_string()),
            ("--width", self.width.to_string()),
            ("--height", self.height.to_string()),
            ("--steps", self.steps.to_string()),
            ("--guidance", self.guidance.to_string()),
        ];
        args.extend(numbers.into_iter().flat_map(|(flag, value)| [flag.to_string(), value]));
        if let Some(negative) = &self.negative {
            args.extend(["--negative".to_string(), negative.clone()]);
        }
        args
    }
}

/// What a run left on its streams, and its picture.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub out: PathBuf,
}

impl Ran {
    /// What it drew; panics with its streams where it drew nothing.
    pub fn picture(&self, name: &str) -> RgbImage {
        assert_eq!(self.code, Some(0), "{name}: {self:?}");
        picture(&self.out)
    }

    /// Panics unless it ended with `code` and one line on standard error that has all of `words` in it.
    pub fn was_refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        assert!(self.stderr.ends_with('\n') && self.stderr.lines().count() == 1, "not one line: {self:?}");
        assert!(self.stderr.starts_with("darkroom: "), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in {}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
    }
}

/// `darkroom generate --model MODEL …` with a picture in a folder. No network is reached.
pub fn run(model: &Path, args: &[String], more: &[&str], folder: &Path) -> Ran {
    let out = folder.join("out.png");
    let mut command = Command::new(env!("CARGO_BIN_EXE_darkroom"));
    for variable in ["HF_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE", "XDG_CACHE_HOME", "http_proxy"] {
        command.env_remove(variable);
    }
    // Port 1 is reserved and closed, so every request fails at once.
    command.env("HF_HOME", folder).env("HF_ENDPOINT", "http://127.0.0.1:1");
    command.arg("generate").arg("--model").arg(model).args(args).args(more).arg("--output").arg(&out);
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr), out }
}

/// A picture file.
pub fn picture(path: &Path) -> RgbImage {
    decode(&std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).unwrap()
}

/// Peak signal-to-noise ratio of two pictures of one size, in dB.
pub fn psnr(a: &RgbImage, b: &RgbImage) -> f64 {
    let squares: f64 = a.pixels.iter().zip(&b.pixels).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
    10.0 * (255.0f64.powi(2) * a.pixels.len() as f64 / squares.max(1e-9)).log10()
}

/// Compares level by level; on failure writes the picture, the expected one and their difference.
pub fn assert_picture(name: &str, got: &RgbImage, expected: &RgbImage, tolerance: Tolerance) {
    assert_eq!((got.width, got.height), (expected.width, expected.height), "{name}");
    let differences: Vec<u8> = got.pixels.iter().zip(&expected.pixels).map(|(a, b)| a.abs_diff(*b)).collect();
    let max = differences.iter().copied().max().unwrap_or(0);
    let mean = differences.iter().map(|&d| f64::from(d)).sum::<f64>() / differences.len() as f64;
    let psnr = psnr(got, expected);
    eprintln!("{name}: differs by {max} at most and {mean:.3} on average, PSNR {psnr:.1} dB");
    if max <= tolerance.max_level && mean <= tolerance.mean_level && psnr >= tolerance.min_psnr {
        return;
    }
    let folder = failures_dir();
    let amplified = differences.iter().map(|&d| d.saturating_mul(32)).collect();
    let between = RgbImage::new(got.width, got.height, amplified).unwrap();
    for (kind, image) in [("got", got), ("expected", expected), ("difference", &between)] {
        std::fs::write(folder.join(format!("{name}-{kind}.png")), encode_png(image, &[]).unwrap()).unwrap();
    }
    panic!(
        "{name}: levels differ by {max} at most and {mean:.3} on average, PSNR {psnr:.1} dB; see {}",
        folder.display()
    );
}
