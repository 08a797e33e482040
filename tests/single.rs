//! Checkpoints in one file: every version draws diffusers' picture from it, and so do files of mixed types, with markers,
//! with leftovers of training, and with parts of other files.
#![cfg(not(target_arch = "wasm32"))]

#[path = "common/cases.rs"]
mod cases;
#[path = "common/gpu.rs"]
mod gpu;
#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/single.rs"]
mod single;
#[path = "common/tiny.rs"]
mod tiny;

use std::path::Path;
use std::rc::Rc;

use cases::{Case, Tolerance, cases, cases_in};
use darkroom::Result;
use darkroom::checkpoint::assembled::{Assembled, Autoencoder};
use darkroom::checkpoint::identity::Prediction;
use darkroom::checkpoint::single::{SingleFile, SingleFileSettings};
use darkroom::hub::Source;
use darkroom::hub::folder::Folder;
use darkroom::pipeline::{ModelComponents, ModelLoader};
use darkroom::run::candle::{CandleRunner, Precision};
use darkroom::run::gpu::Element;
use darkroom::run::gpu::runner::GpuRunner;
use darkroom::weights::{ByteSource, DiskSource};
use pollster::block_on;

/// f32 against f32: the orders of summation differ.
const EXACT: Tolerance = Tolerance { latents: 2e-4, max_level: 2, mean_level: 0.3, min_psnr: 0.0 };

/// The configuration of a tiny version, as a folder without weights; where the prediction is to come from the file, the
/// scheduler says nothing about it.
fn write_config(version: &str, dir: &Path, says_prediction: bool) -> Rc<dyn Source> {
    tiny::write_model(version, dir, tiny::Style::F32);
    for component in tiny::components(version) {
        for entry in std::fs::read_dir(dir.join(component)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|end| end == "safetensors") {
                std::fs::remove_file(path).unwrap();
            }
        }
    }
    if !says_prediction {
        let path = dir.join("scheduler/scheduler_config.json");
        let mut config: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        config.as_object_mut().unwrap().remove("prediction_type");
        std::fs::write(&path, config.to_string()).unwrap();
    }
    Rc::new(Folder::open(dir).unwrap().as_config())
}

fn disk(path: &Path) -> Box<dyn ByteSource> {
    Box::new(DiskSource::open(path).unwrap())
}

/// What a run is drawn from.
struct Given<'a> {
    file: &'a str,
    version: &'a str,
    vae: Option<&'a str>,
    taesd: Option<&'a str>,
    says_prediction: bool,
    prediction: Option<Prediction>,
}

impl Given<'_> {
    fn source(&self, dir: &Path, dtype: &str) -> Result<Rc<dyn Source>> {
        let config = write_config(self.version, &dir.join("config"), self.says_prediction);
        let path = dir.join(format!("{}.safetensors", self.file));
        single::write(self.file, &path, dtype);
        let settings = SingleFileSettings {
            prediction: self.prediction,
            yaml: std::fs::read_to_string(path.with_extension("yaml")).ok(),
            config: Some(config),
            clip_merges: None,
        };
        let file = block_on(SingleFile::open(self.file, disk(&path), settings))?;
        let mut assembled = Assembled::new(Rc::new(file));
        for (name, is_tiny) in [(self.vae, false), (self.taesd, true)] {
            let Some(name) = name else { continue };
            let path = dir.join(format!("{name}.vae.safetensors"));
            single::write(name, &path, dtype);
            let part = block_on(Autoencoder::open(name, vec![disk(&path)], None))?;
            assembled = if is_tiny { assembled.with_tiny_decoder(part)? } else { assembled.with_vae(part) };
        }
        Ok(Rc::new(assembled))
    }

    fn check(&self, cases: &[Case], dtype: &str) {
        let dir = tempfile::tempdir().unwrap();
        let source = self.source(dir.path(), dtype).unwrap_or_else(|e| panic!("{}: {e}", self.file));
        let (runner, model) = load(&source).unwrap_or_else(|e| panic!("{}: {e}", self.file));
        assert_eq!(model.notes(), [""; 0], "{}", self.file);
        for case in cases {
            block_on(case.check(&runner, &model, EXACT));
        }
    }
}

type Loaded = (Rc<CandleRunner>, Rc<ModelComponents<CandleRunner>>);

fn load(source: &Rc<dyn Source>) -> Result<Loaded> {
    let runner = Rc::new(CandleRunner::cpu(Precision::F32));
    let model = block_on(ModelLoader::new(&**source, &*runner).load(&mut |_| true))?;
    Ok((runner, Rc::new(model)))
}

fn given<'a>(file: &'a str, version: &'a str) -> Given<'a> {
    Given { file, version, vae: None, taesd: None, says_prediction: true, prediction: None }
}

#[test]
fn every_version_draws_from_one_file() {
    for version in tiny::VERSIONS {
        for dtype in ["F16", "F32"] {
            let all = cases(version);
            // All of one type, a few of the other.
            let n = if dtype == "F16" { all.len() } else { 1 };
            given(version, version).check(&all[..n], dtype);
        }
    }
}

#[test]
fn variants_of_files_draw_diffusers_pictures() {
    let text = std::fs::read_to_string(tiny::fixtures_dir().join("single/cases.json")).unwrap();
    let recorded: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    for record in &recorded {
        let of = |key: &str| record[key].as_str();
        let (name, file, version) = (of("name").unwrap(), of("file").unwrap(), of("version").unwrap());
        let overrides = &record["sampler"]["overrides"];
        // A sampler by name takes the checkpoint's spacing.
        if overrides.get("timestep_spacing").is_some() {
            continue;
        }
        let case: Vec<Case> = cases_in("single", version).into_iter().filter(|case| case.name == name).collect();
        assert_eq!(case.len(), 1, "{name}");
        let is_epsilon = record["config"]["prediction_type"] == "epsilon";
        let says_prediction = record["config"].get("prediction_type").is_none();
        let prediction = (is_epsilon && file == "v2-1").then_some(Prediction::Epsilon);
        let given = Given { file, version, vae: of("vae"), taesd: of("taesd"), says_prediction, prediction };
        given.check(&case, "F16");
    }
}

/// The same files on the GPU runner, in f32 and f16: what a runner loads from knows no layout, so a few tell.
#[test]
fn on_the_gpu_too() {
    // Weights are held in f16, which all values of the tiny models are.
    let single = Tolerance { latents: 1e-3, ..EXACT };
    let half = Tolerance { latents: 0.05, max_level: 255, mean_level: 3.0, min_psnr: 35.0 };
    let both = [(Element::F32, single), (Element::F16, half)];
    let files = [("v2-1", "v2-1", None), ("xl", "xl", None), ("v1-5", "v1-5", Some("taesd_decoder"))];
    for (idx, (file, version, taesd)) in files.into_iter().enumerate() {
        let types = both.into_iter().take(if idx == 0 || gpu::draws_all() { 2 } else { 1 });
        for (element, tolerance) in types {
            let dir = tempfile::tempdir().unwrap();
            let source = Given { taesd, ..given(file, version) }.source(dir.path(), "F32").unwrap();
            let Some(gpu) = gpu::gpu() else { return };
            let runner = Rc::new(GpuRunner::new(gpu, element).unwrap());
            let model = Rc::new(block_on(ModelLoader::new(&*source, &*runner).load(&mut |_| true)).unwrap());
            let mut all = match taesd {
                Some(_) => cases_in("single", version),
                None => cases(version),
            };
            all.retain(|case| case.is_small() && (taesd.is_none() || case.name.contains("taesd")));
            for case in &all[..all.len().min(2)] {
                block_on(case.check(&runner, &model, tolerance));
            }
        }
    }
}

/// Files that are the same model in other words: proof.json says of which recorded runs.
#[test]
fn the_same_model_in_other_files_draws_the_same() {
    let text = std::fs::read_to_string(tiny::fixtures_dir().join("single/proof.json")).unwrap();
    let proof: serde_json::Value = serde_json::from_str(&text).unwrap();
    for record in proof["same"].as_array().unwrap() {
        let of = |key: &str| record[key].as_str();
        let (file, folder, wanted) = (of("file").unwrap(), of("as").unwrap(), of("cases").unwrap());
        let is_version = tiny::VERSIONS.contains(&wanted);
        let version = tiny::VERSIONS.into_iter().filter(|version| file.starts_with(version)).max_by_key(|v| v.len());
        let version = version.unwrap();
        let of_version = if folder == "variants" { "taesd" } else { version };
        let mut cases = cases_in(folder, of_version);
        cases.retain(|case| is_version || case.name == wanted);
        assert!(!cases.is_empty(), "{wanted}");
        let says_prediction = !["v2-1-v", "v2-1-yaml"].contains(&file);
        let given = Given { vae: of("vae"), taesd: of("taesd"), says_prediction, ..given(file, version) };
        given.check(&cases[..cases.len().min(2)], "F16");
    }
}
