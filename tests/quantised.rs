//! Weights in blocks, against diffusers with the values that the blocks hold (tools/fixtures/quantised.py): the blocks
//! themselves, and the pictures of tiny models on the CPU and on the GPU, which differ from those of plain weights.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/tiny.rs"]
mod tiny;
#[path = "common/tries.rs"]
mod tries;

use std::path::PathBuf;

use darkroom::weights::WeightType;
use darkroom::weights::blocks::{BLOCK, quantise, scale};
use numbers::Fixture;
use serde::Deserialize;
use tries::{Tolerance, Try, assert_picture, draws_all, has_no_gpu, picture, psnr, run};

/// f32 against f32: levels were off by 1 at most.
const CPU: Tolerance = Tolerance { max_level: 4, mean_level: 0.3, min_psnr: 52.0 };

/// The GPU's divisions may put a value that is half way between two codes on either side.
const GPU: Tolerance = Tolerance { max_level: 8, mean_level: 0.5, min_psnr: 48.0 };

/// With activations in 16 bits.
const HALF: Tolerance = Tolerance { max_level: 255, mean_level: 4.0, min_psnr: 35.0 };

#[derive(Deserialize)]
struct Case {
    #[serde(flatten)]
    run: Try,
    weights: String,
    lora: Option<String>,
    /// The picture with plain weights.
    plain: String,
    /// From that, by diffusers, in dB.
    psnr: f64,
}

fn folder() -> PathBuf {
    tiny::fixtures_dir().join("quantised")
}

#[test]
fn blocks_are_the_scripts() {
    let fixture = Fixture::read(&folder().join("blocks.safetensors"));
    let (values, _) = fixture.values("values");
    for weight_type in [WeightType::Q8_0, WeightType::Q4_0] {
        let of = |what: &str| fixture.values(&format!("{}.{what}", weight_type.name())).0;
        let (scales, codes) = (of("scales"), of("codes"));
        for (i, block) in values.chunks(BLOCK).enumerate() {
            let (stored, own) = quantise(weight_type, block);
            assert_eq!(stored.to_f32(), scales[i], "{weight_type:?}: block {i}");
            let own: Vec<f32> = own.into_iter().map(f32::from).collect();
            assert_eq!(own, codes[i * BLOCK..][..BLOCK], "{weight_type:?}: block {i}");
            if weight_type == WeightType::Q4_0 && (2..6).contains(&i) {
                // What 4 bits hold exactly, with the largest code at either end.
                let held: Vec<f32> = own.iter().map(|code| code * scale(stored)).collect();
                assert_eq!(held, block, "block {i}");
            }
        }
    }
}

/// Draws every case on a device.
fn check(more: &[&str], tolerance: Tolerance) {
    let text = std::fs::read_to_string(folder().join("cases.json")).unwrap();
    let mut cases: Vec<Case> = serde_json::from_str(&text).unwrap();
    for version in ["v1-5", "v2-1", "xl"] {
        let dir = tempfile::tempdir().unwrap();
        tiny::write_model(version, dir.path(), tiny::Style::F32);
        let of_version = cases.extract_if(.., |case| case.run.version == version);
        for (idx, case) in of_version.enumerate() {
            // In f16 on a software adapter the first of a version.
            if idx > 0 && more.contains(&"f16") && !draws_all() {
                continue;
            }
            let name = &case.run.name;
            let mut args = case.run.args();
            args.extend(["--weights".into(), case.weights.clone()]);
            if let Some(lora) = &case.lora {
                let file = tiny::fixtures_dir().join(format!("lora/{lora}.safetensors"));
                args.extend(["--lora".into(), file.display().to_string()]);
            }
            let out = tempfile::tempdir().unwrap();
            let drawn = run(dir.path(), &args, more, out.path()).picture(name);
            assert_picture(name, &drawn, &picture(&folder().join(&case.run.pictures[0])), tolerance);
            let own = psnr(&drawn, &picture(&folder().join(&case.plain)));
            let wanted = if case.weights == "q8_0" { 40.0 } else { 25.0 };
            eprintln!("{name}: {own:.1} dB from plain weights, diffusers {:.1}", case.psnr);
            assert!(own >= wanted, "{name}: {own:.1} dB from plain weights");
            assert!(own >= case.psnr - 1.0, "{name}: {own:.1} dB from plain weights, diffusers {:.1}", case.psnr);
            assert!(own < 60.0, "{name}: {own:.1} dB: nothing was quantised");
        }
    }
    assert!(cases.is_empty());
}

#[test]
fn pictures_are_those_of_the_held_values() {
    check(&["--device", "cpu", "--dtype", "f32"], CPU);
}

#[test]
fn on_the_gpu_too() {
    if has_no_gpu() {
        return;
    }
    check(&["--device", "gpu", "--dtype", "f32"], GPU);
    check(&["--device", "gpu", "--dtype", "f16"], HALF);
}
