//! The graphs of the seven versions at true size, without weights: they must ask for exactly the tensors and shapes of
//! the published architectures (lists made by tools/fixtures/published.py with diffusers and transformers).
#![cfg(not(target_arch = "wasm32"))]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use darkroom::graph::WeightSpec;
use darkroom::model::config::{ClipTextConfig, UNet2DConditionConfig, VaeConfig};
use darkroom::model::unet::{UNetShape, step_graph};
use darkroom::model::{SDVersion, clip, unet, vae};
use serde_json::Value;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/published")
}

fn read(path: PathBuf) -> String {
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn config(version: SDVersion, component: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/model/published").join(version.key());
    read(folder.join(format!("{component}.json")))
}

/// The published list, with the tensors in which a version differs from the one the list was made for.
fn published(entry: &Value) -> BTreeMap<String, Vec<usize>> {
    let list = read(fixtures().join(entry["file"].as_str().unwrap()));
    let mut tensors: BTreeMap<String, Vec<usize>> = list
        .lines()
        .map(|line| {
            let (name, shape) = line.split_once(' ').unwrap();
            (name.to_string(), shape.split(',').map(|n| n.parse().unwrap()).collect())
        })
        .collect();
    for (name, shape) in entry["overrides"].as_object().unwrap() {
        tensors.insert(name.clone(), shape.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect());
    }
    assert_eq!(tensors.len() as u64, entry["tensors"].as_u64().unwrap());
    tensors
}

fn specs(version: SDVersion, component: &str) -> Vec<WeightSpec> {
    let text = config(version, component);
    match component {
        "unet" => unet::weights(&UNet2DConditionConfig::from_json(&text, component).unwrap()).unwrap(),
        "vae" => vae::weights(&VaeConfig::from_json("AutoencoderKL", &text, component).unwrap()).unwrap(),
        _ => clip::weights(&ClipTextConfig::from_json(&text, component).unwrap()).unwrap(),
    }
}

#[test]
fn every_version_asks_for_the_published_tensors() {
    let index: Value = serde_json::from_str(&read(fixtures().join("index.json"))).unwrap();
    for version in SDVersion::ALL {
        for (component, entry) in index[version.key()].as_object().unwrap() {
            let expected = published(entry);
            let specs = specs(version, component);
            let n_parameters: usize = specs.iter().map(|spec| spec.shape.iter().product::<usize>()).sum();
            let mut got = BTreeMap::new();
            for spec in specs {
                let place = format!("{} {component}: {}", version.key(), spec.name);
                assert!(got.insert(spec.name.clone(), spec.shape.clone()).is_none(), "{place} is asked for twice");
                match expected.get(&spec.name) {
                    Some(shape) => assert_eq!(&spec.shape, shape, "{place}"),
                    None => panic!("{place} is not published"),
                }
            }
            if let Some(missing) = expected.keys().find(|name| !got.contains_key(*name)) {
                panic!("{} {component}: {missing} is published and not asked for", version.key());
            }
            assert_eq!(n_parameters as u64, entry["parameters"].as_u64().unwrap(), "{} {component}", version.key());
        }
    }
}

/// The work of one UNet sample, from the same graphs, against what is known of the architectures.
#[test]
fn work_at_true_size_is_what_is_known() {
    for (version, side, tera) in [(SDVersion::V1_5, 64, 0.80), (SDVersion::V2_1, 96, 2.15), (SDVersion::Xl, 128, 6.8)] {
        let config = UNet2DConditionConfig::from_json(&config(version, "unet"), "unet").unwrap();
        let shape = UNetShape { batch: 1, height: side, width: side, n_context: 77 };
        let flops = step_graph(&config, shape).unwrap().flops() as f64 / 1e12;
        assert!((flops / tera - 1.0).abs() < 0.15, "{}: {flops} TFLOP, known: about {tera}", version.key());
    }
}
