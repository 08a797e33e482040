//! `darkroom plan`: without weights, network or device for the seven versions.

use darkroom::model::SDVersion;
use serde_json::Value;

use crate::desk::{Desk, model};

const REQUEST: i32 = 2;

fn plan(args: &[&str]) -> Value {
    let run = Desk::new().run(&[&["plan", "--json"], args].concat());
    run.succeeded();
    serde_json::from_str(&run.stdout).unwrap()
}

#[test]
fn every_version_is_planned_from_its_name_alone() {
    for version in SDVersion::ALL {
        let plan = plan(&["--model", version.key()]);
        let (width, height) = version.default_size();
        assert_eq!((plan["width"].as_u64(), plan["height"].as_u64()), (Some(width as u64), Some(height as u64)));
        let names: Vec<&str> = plan["phases"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["load", "encode", "prepare", "first step", "step", "decode"], "{}", version.key());
        for phase in plan["phases"].as_array().unwrap() {
            for field in ["weight_bytes", "dispatches", "submits", "pipelines", "flops", "moved_bytes", "arena_bytes"] {
                assert!(phase[field].is_u64(), "{}: {phase}", version.key());
            }
            assert!(phase["peak_bytes"].as_u64() <= plan["peak_bytes"].as_u64());
        }
        assert!(plan["largest_binding_bytes"].as_u64() <= plan["max_binding_bytes"].as_u64());
        assert_eq!(plan["fits"], true);
    }
}

#[test]
fn settings_change_what_is_planned() {
    let at = |more: &[&str]| plan(&[&["--model", "v1-5"], more].concat())["peak_bytes"].as_u64().unwrap();
    let standard = at(&[]);
    assert!(at(&["--width", "768", "--height", "768"]) > standard, "a larger picture takes more");
    assert!(at(&["--dtype", "f32"]) > standard, "wider activations take more");
    assert!(at(&["--from-picture"]) > standard, "a picture to start from takes an encoder");
    assert!(at(&["--residency", "staged"]) < standard, "components one after another take less");
    // Results of earlier steps that a sampler keeps count in the least that has to fit.
    let least = |sampler| plan(&["--model", "v1-5", "--sampler", sampler])["least_peak_bytes"].as_u64().unwrap();
    assert!(least("unipc") > least("euler"), "{} {}", least("unipc"), least("euler"));
    let text = |budget| {
        let run = Desk::new().run(&["plan", "--model", "xl", "--budget", budget]);
        run.succeeded();
        run.stdout
    };
    assert!(text("6GB").contains("components staged") && text("6GB").contains("fits 6.00 GB"));
    assert!(text("12GB").contains("components resident"));
    assert!(text("3GB").contains("components streamed") && text("3GB").contains("each step brings them"));
    assert!(text("300MB").contains("does not fit: the least is"));
    // A way of loading that does not fit, where another one does.
    let staged = plan(&["--model", "v1-5", "--residency", "staged", "--budget", "500MB"]);
    let advice = staged["advice"].as_str().unwrap();
    assert!(
        advice.starts_with("components staged take 1.78 GB: ") && advice.contains("left to the budget"),
        "{advice}"
    );
    // The only step is the first one.
    let phases = plan(&["--model", "v1-5", "--steps", "1"])["phases"].to_string();
    assert!(phases.contains("first step") && !phases.contains("\"step\""), "{phases}");
    // A prompt's tokens are those of CLIP: 75 words of one token each are a chunk.
    let with = |n_words: usize| {
        let plan = plan(&["--model", "v1-5", "--prompt", &"word ".repeat(n_words)]);
        plan["staged_peak_bytes"].as_u64().unwrap()
    };
    assert_eq!(with(75), with(1));
    assert!(with(76) > with(75));
}

#[test]
fn any_multiple_of_8_is_planned_on_request() {
    for (model, width, height) in [("v1-5", "600", "400"), ("xl", "1000", "1000")] {
        let size = ["--model", model, "--width", width, "--height", height];
        let plan = plan(&[&size[..], &["--any-size"]].concat());
        assert_eq!((plan["width"].to_string(), plan["height"].to_string()), (width.to_string(), height.to_string()));
        Desk::new().run(&[&["plan"], &size[..]].concat()).was_refused(REQUEST, &["--any-size"]);
    }
}

#[test]
fn a_folder_is_planned_from_its_own_files() {
    let plan = plan(&["--model", model().to_str().unwrap()]);
    assert_eq!((plan["width"].as_u64(), plan["height"].as_u64()), (Some(128), Some(128)));
    assert!(plan["weight_bytes"].as_u64().unwrap() < 30_000_000);
    let run = Desk::new().run(&["plan", "--model", model().to_str().unwrap()]);
    assert!(run.stdout.contains(" MB (everything loaded ") && !run.stdout.contains("GB"), "{}", run.stdout);
}

#[test]
fn what_cannot_be_planned_is_said() {
    let desk = Desk::new();
    let refused = |args: &[&str], words: &[&str]| desk.run(&[&["plan"], args].concat()).was_refused(REQUEST, words);
    refused(&["--model", "v1-5", "--width", "513"], &["width 513", "use 512 or 576", "--any-size"]);
    refused(&["--model", "v1-5", "--guidance", "21"], &["guidance scale 21", "0.0 to 20.0"]);
    refused(&["--model", "v1-5", "--sampler", "dpm3"], &["dpm3", "dpm++2m_karras"]);
    refused(&["--model", "v1-5", "--budget", "some"], &["some", "--budget", "2GB"]);
    refused(&["--model", "v1-5", "--budget", "-1"], &["--budget"]);
    refused(&["--model", "v9"], &["v9", "v1-5", "turbo"]);
    refused(&["--model", "v1-5", "--limits", "mine"], &["mine", "default, adapter"]);
}
