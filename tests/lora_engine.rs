//! LoRAs and kin by the library: the pictures of tests/fixtures/lora (tools/fixtures/lora.py), files that are refused, and
//! strengths that change while the model stays on its device.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

#[path = "common/gpu.rs"]
mod gpu;
#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/tiny.rs"]
mod tiny;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use darkroom::checkpoint::lora::LoraFile;
use darkroom::engine::{Device, DeviceName, Dtype, Engine, EngineSettings, Expected, Pictures, Tune};
use darkroom::error::Class;
use darkroom::hub::folder::Folder;
use darkroom::image::{RgbImage, decode};
use darkroom::pipeline::{Event, Residency};
use darkroom::request::{LoraUse, Request};
use darkroom::weights::{DiskSource, MemorySource};
use pollster::block_on;
use serde::Deserialize;
use tempfile::TempDir;

fn folder() -> PathBuf {
    tiny::fixtures_dir().join("lora")
}

#[derive(Deserialize)]
struct Case {
    name: String,
    version: String,
    prompt: String,
    negative: Option<String>,
    seed: u64,
    width: usize,
    height: usize,
    steps: usize,
    guidance: f64,
    loras: Vec<Used>,
    pictures: Vec<String>,
}

#[derive(Deserialize)]
struct Used {
    file: String,
    strength: f64,
    text_strength: Option<f64>,
}

#[derive(Deserialize)]
struct Refused {
    file: String,
    version: String,
    says: Vec<String>,
}

impl Case {
    fn request(&self) -> Request {
        Request {
            prompt: self.prompt.clone(),
            negative_prompt: self.negative.clone(),
            width: Some(self.width),
            height: Some(self.height),
            steps: Some(self.steps),
            guidance_scale: Some(self.guidance),
            seed: Some(self.seed),
            loras: self
                .loras
                .iter()
                .map(|used| LoraUse {
                    name: used.file.clone(),
                    strength: used.strength,
                    text_strength: used.text_strength,
                })
                .collect(),
            ..Request::default()
        }
    }
}

/// A tiny model on a device.
struct Model {
    engine: Engine,
    _folder: TempDir,
}

impl Model {
    fn open(version: &str, settings: &EngineSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        tiny::write_model(version, folder.path(), tiny::Style::F16);
        let source = Rc::new(Folder::open(folder.path()).unwrap());
        let device = block_on(Device::open(settings)).unwrap();
        let engine = block_on(Engine::open(&device, source, settings, &Expected::default())).unwrap();
        Model { engine, _folder: folder }
    }

    /// Loads a file of the fixtures.
    fn add(&self, file: &str) -> darkroom::Result<()> {
        let path = folder().join(format!("{file}.safetensors"));
        let lora = block_on(LoraFile::open(file, Box::new(DiskSource::open(&path)?)))?;
        self.engine.add_lora(lora.fit(self.engine.configs(), None)?);
        Ok(())
    }

    fn draw(&self, request: &Request) -> RgbImage {
        let mut generation = self.engine.draw(request, Pictures::default(), 0).unwrap();
        loop {
            match block_on(generation.step(&mut |_| true)).unwrap() {
                Some(Event::Decoded { image, .. }) => return image,
                Some(_) => {}
                None => panic!("no picture"),
            }
        }
    }
}

fn on_cpu() -> EngineSettings {
    EngineSettings::default()
}

fn difference(a: &RgbImage, b: &RgbImage) -> (u8, f64) {
    let all = a.pixels.iter().zip(&b.pixels).map(|(a, b)| a.abs_diff(*b));
    (all.clone().max().unwrap(), all.map(f64::from).sum::<f64>() / a.pixels.len() as f64)
}

/// The first case of each file, with all cases of the first one.
fn check(settings: &EngineSettings, most: u8, mean: f64, is_wanted: impl Fn(&Case) -> bool) {
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(folder().join("cases.json")).unwrap()).unwrap();
    let mut models: BTreeMap<String, Model> = BTreeMap::new();
    let mut failed = Vec::new();
    for case in cases.into_iter().filter(is_wanted) {
        let model = models.entry(case.version.clone()).or_insert_with(|| Model::open(&case.version, settings));
        let added = case.loras.iter().try_for_each(|used| model.add(&used.file));
        if let Err(error) = added {
            failed.push(format!("{}: {error}", case.name));
            continue;
        }
        let got = model.draw(&case.request());
        let expected = decode(&std::fs::read(folder().join(&case.pictures[0])).unwrap()).unwrap();
        let (of_max, of_mean) = difference(&got, &expected);
        if of_max > most || of_mean > mean {
            failed.push(format!("{}: levels differ by {of_max} at most and {of_mean:.3} on average", case.name));
        }
    }
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn pictures_of_every_kind() {
    // One model draws them all one after another: each gets its own LoRAs.
    check(&on_cpu(), 2, 0.3, |_| true);
}

fn on_gpu() -> Option<EngineSettings> {
    let settings =
        EngineSettings { device: DeviceName::Gpu, dtype: Dtype::F32, tune: Tune::Never, ..EngineSettings::default() };
    (!gpu::has_no_gpu()).then_some(settings)
}

#[test]
fn pictures_on_the_gpu() {
    // Weights have 16 bits there, so that merged ones are rounded.
    let Some(settings) = on_gpu() else { return };
    // One of each form on a software adapter; tests/lora.rs has others.
    let all = gpu::draws_all();
    let wanted = ["kohya_text", "two", "locon", "loha", "lokr", "ia3", "dora", "full"];
    check(&settings, 24, 1.5, |case| case.version == "v1-5" && (all || wanted.contains(&&*case.name)));
}

#[test]
fn what_does_not_fit_is_refused() {
    let refused: Vec<Refused> = serde_json::from_slice(&std::fs::read(folder().join("refused.json")).unwrap()).unwrap();
    let mut models: BTreeMap<String, Model> = BTreeMap::new();
    for Refused { file, version, says } in refused {
        let model = models.entry(version.clone()).or_insert_with(|| Model::open(&version, &on_cpu()));
        let error = model.add(&file).err().unwrap_or_else(|| panic!("{file} was taken for {version}"));
        let message = error.to_string();
        eprintln!("{file} for {version}: {message}");
        assert_eq!(error.class(), Class::Model, "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
        for word in says {
            assert!(message.to_lowercase().contains(&word.to_lowercase()), "{file}: no {word} in {message}");
        }
    }
}

/// Draws with one LoRA, another, none, and again: each picture is the one that a fresh model gives. Those of the requests
/// that [`check_other`] draws, too.
fn check_switching(settings: &EngineSettings) -> [(Request, RgbImage); 3] {
    let request = |loras: &[(&str, f64, Option<f64>)]| Request {
        prompt: "a photo of a red fox in the snow".into(),
        width: Some(64),
        height: Some(64),
        steps: Some(2),
        seed: Some(3),
        loras: loras
            .iter()
            .map(|&(name, strength, text_strength)| LoraUse { name: name.into(), strength, text_strength })
            .collect(),
        ..Request::default()
    };
    let open = || open_with_files(settings);
    let requests = [
        request(&[]),
        request(&[("kohya", 1.0, None)]),
        request(&[("kohya", 0.5, None)]),
        request(&[("kohya", 0.5, Some(0.0))]),
        request(&[("dora", 0.75, None), ("full", -0.5, None)]),
        request(&[("kohya", 0.0, None)]),
        request(&[("full", 1.0, None)]),
    ];
    let alone: Vec<RgbImage> = requests.iter().map(|request| open().draw(request)).collect();
    assert_eq!(alone[0].pixels, alone[5].pixels, "without strength it is no LoRA");
    for other in [1, 2, 3, 4, 6] {
        assert_ne!(alone[0].pixels, alone[other].pixels, "{other} has an effect");
    }
    let model = open();
    for i in [0, 1, 2, 3, 4, 0, 6, 1, 5, 4, 2] {
        assert_eq!(model.draw(&requests[i]).pixels, alone[i].pixels, "request {i}");
    }
    // Two at a time, step by step.
    let mut first = model.engine.draw(&requests[1], Pictures::default(), 0).unwrap();
    let mut second = model.engine.draw(&requests[4], Pictures::default(), 0).unwrap();
    let mut pictures = [None, None];
    while pictures.iter().any(Option::is_none) {
        for (generation, picture) in [&mut first, &mut second].into_iter().zip(&mut pictures) {
            if let Some(Event::Decoded { image, .. }) = block_on(generation.step(&mut |_| true)).unwrap() {
                *picture = Some(image.pixels);
            }
        }
    }
    assert_eq!(pictures, [Some(alone[1].pixels.clone()), Some(alone[4].pixels.clone())]);
    [4, 1, 0].map(|i| (requests[i].clone(), alone[i].clone()))
}

fn open_with_files(settings: &EngineSettings) -> Model {
    let model = Model::open("v1-5", settings);
    ["kohya", "dora", "full"].iter().for_each(|file| model.add(file).unwrap());
    model
}

/// However long weights stay loaded, the pictures are the same.
fn check_other(settings: &EngineSettings, expected: &[(Request, RgbImage)]) {
    let model = open_with_files(settings);
    for (request, picture) in expected {
        assert_eq!(model.draw(request).pixels, picture.pixels, "{:?}: {:?}", settings.residency, request.loras);
    }
}

#[test]
fn strengths_change_on_a_resident_model() {
    check_switching(&on_cpu());
}

#[test]
fn strengths_change_in_stages() {
    check_switching(&EngineSettings { residency: Some(Residency::Staged), ..on_cpu() });
}

#[test]
fn strengths_change_on_the_gpu() {
    let Some(settings) = on_gpu() else { return };
    let expected = check_switching(&settings);
    for residency in [Residency::Staged, Residency::Streamed { weight_bytes: 0 }] {
        let settings = EngineSettings { residency: Some(residency), ..settings.clone() };
        check_other(&settings, &expected);
        if gpu::runs_all() {
            check_switching(&settings);
        }
    }
}

#[test]
fn a_request_names_what_is_there() {
    let model = Model::open("v1-5", &on_cpu());
    let request = Request { prompt: "a fox <lora:ink:0.5>".into(), ..Request::default() };
    let refused = |model: &Model| model.engine.draw(&request, Pictures::default(), 0).err().unwrap().to_string();
    assert!(refused(&model).contains("--lora"), "{}", refused(&model));
    model.add("kohya").unwrap();
    assert!(refused(&model).ends_with("there are kohya"), "{}", refused(&model));
    let request = Request { prompt: "a fox <lora:kohya:0.5>".into(), seed: Some(1), ..Request::default() };
    let generation = model.engine.draw(&request, Pictures::default(), 0).unwrap();
    assert_eq!(generation.config().prompt, "a fox ");
    assert_eq!(generation.parameters(1).to_a1111().lines().next(), Some("a fox  <lora:kohya:0.5>"));
}

#[test]
fn files_of_other_kinds_are_refused() {
    let open = |bytes: Vec<u8>| block_on(LoraFile::open("x", Box::new(MemorySource::new("x.safetensors", bytes))));
    let header = |json: &str, n: usize| [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &vec![0; n]].concat();
    let embedding = header(r#"{"emb_params":{"dtype":"F32","shape":[1,768],"data_offsets":[0,3072]}}"#, 3072);
    for (bytes, word) in
        [(embedding, "embedding"), (b"PK\x03\x04 and so on".to_vec(), "archive"), (vec![1], "safetensors")]
    {
        let error = open(bytes).err().unwrap();
        assert_eq!(error.class(), Class::Model);
        assert!(error.to_string().contains(word), "{error}");
    }
}
