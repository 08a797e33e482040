//! Whole pictures of samplers through the command line, with the model that the page embeds, against diffusers.
//!
//! `tools/fixtures/emoji.py` drew the fixtures. The steps themselves are compared in `samplers.rs`; this is about what
//! lies around them: names, options, draws of noise, and the model's calls in between.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, in its functions too")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use darkroom::image::{RgbImage, decode};

/// Levels of a channel, of 255. Both sides compute in f32.
const TOLERANCE: u8 = 2;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn picture(path: &Path) -> RgbImage {
    decode(&std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).unwrap()
}

fn generate(output: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_darkroom"))
        .args(["generate", "--model"])
        .arg(root().join("www/hub/darkroom/tiny-emoji/resolve/main"))
        .args(["--prompt", "a red apple on a blue background", "--seed", "1", "--guidance", "4", "--output"])
        .arg(output)
        .args(more)
        .output()
        .unwrap()
}

/// The file of a sampler's picture.
fn named(folder: &Path, sampler: &str) -> PathBuf {
    folder.join(format!("{}.png", sampler.replace('+', "p")))
}

#[test]
fn samplers_draw_diffusers_pictures() {
    const AYS_SIGMAS: &str = "14.615,6.475,3.861,2.697,1.886,1.396,0.963,0.652,0.399,0.152,0.0";
    const TEN: &[&str] = &["--steps", "10"];
    let runs: &[(&str, &str, &[&str])] = &[
        ("lms", "LMS", TEN),
        ("lms_karras", "LMS Karras", TEN),
        ("dpm2", "DPM2", TEN),
        ("dpm2_a", "DPM2 a", TEN),
        ("ddpm", "ddpm", TEN),
        ("deis", "DEIS", TEN),
        ("dpm++2s", "DPM++ 2S", TEN),
        ("dpmsolver_2m", "dpmsolver_2m", TEN),
        ("dpm++2m_sde_exponential", "DPM++ 2M SDE Exponential", TEN),
        ("euler_beta", "Euler Beta", TEN),
        ("tcd", "TCD", &["--steps", "10", "--eta", "0.3"]),
        ("ddim", "DDIM", &["--steps", "10", "--eta", "0.5"]),
        ("euler", "euler", &["--sigmas", AYS_SIGMAS]),
        ("dpm++2m", "dpmpp_2m", &["--timesteps", "999,850,736,645,545,455,343,233,124,24"]),
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut differing = Vec::new();
    for (file, sampler, options) in runs {
        let output = named(folder.path(), file);
        let run = generate(&output, &[&["--sampler", sampler], *options].concat());
        assert!(run.status.success(), "{sampler}: {}", String::from_utf8_lossy(&run.stderr));
        let expected = picture(&named(&root().join("tests/fixtures/emoji/samplers"), file));
        let got = picture(&output);
        let largest = got.pixels.iter().zip(&expected.pixels).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        println!("{file}: {largest}");
        if largest > TOLERANCE {
            differing.push(format!("{file}: off by {largest}"));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn what_a_sampler_does_not_take_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let output = named(folder.path(), "none");
    for (options, expected) in [
        (&["--sampler", "dpm++2m", "--eta", "0.5"][..], "these samplers do: ddim, tcd"),
        (&["--sampler", "ddim", "--timesteps", "999,500"], "ddim takes none"),
        (&["--sampler", "dpm++2m", "--sigmas", "3,0"], "these samplers do: euler"),
        (&["--sampler", "euler", "--timesteps", "10,20"], "each below the one before it"),
        (&["--sampler", "euler", "--timesteps", "999,500", "--sigmas", "3,0"], "give one of the two"),
        (&["--sampler", "euler", "--timesteps", "999,500", "--steps", "20"], "the list has 2"),
        (&["--sampler", "Euler a Karras"], "euler_a has no karras schedule"),
        (&["--sampler", "magic"], "dpm2_a"),
    ] {
        let run = generate(&output, options);
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(run.status.code() == Some(2) && said.contains(expected), "{options:?}: {:?} {said}", run.status);
        assert!(!output.exists());
    }
}

#[test]
fn help_lists_the_samplers() {
    let run = Command::new(env!("CARGO_BIN_EXE_darkroom")).args(["generate", "--help"]).output().unwrap();
    let help = String::from_utf8(run.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    for kind in darkroom::sampler::SamplerKind::ALL {
        assert!(help.contains(&format!("{kind},")) || help.contains(&format!("{kind} ")), "{kind}");
    }
    assert!(help.contains("karras") && help.contains("--eta") && help.contains("--timesteps"));
}
