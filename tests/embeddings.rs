//! Embeddings (textual inversion) through the command line: every kind of file draws diffusers' picture
//! (tools/fixtures/embeddings.py), on the CPU and on the GPU; what is none, or not for the model, is refused.
#![cfg(not(target_arch = "wasm32"))]

#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/single.rs"]
mod single;
#[path = "common/tiny.rs"]
mod tiny;
#[path = "common/tries.rs"]
mod tries;

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use tries::{EXACT, HALF, Refused, Tolerance, Try, assert_picture, draws_all, has_no_gpu, picture, run};

#[derive(Deserialize)]
struct Case {
    #[serde(flatten)]
    run: Try,
    /// Names of files.
    embeddings: Vec<String>,
    /// A LoRA with embeddings of its own.
    lora: Option<String>,
    /// The mean difference of levels from the picture without them.
    from_plain: f64,
}

fn folder() -> PathBuf {
    tiny::fixtures_dir().join("embeddings")
}

fn read<T: for<'a> Deserialize<'a>>(name: &str) -> Vec<T> {
    serde_json::from_str(&std::fs::read_to_string(folder().join(name)).unwrap()).unwrap()
}

fn case(name: &str) -> Case {
    read::<Case>("cases.json").into_iter().find(|case| case.run.name == name).unwrap()
}

fn with_embeddings(mut args: Vec<String>, names: &[String]) -> Vec<String> {
    for name in names {
        let path = folder().join(format!("{name}.safetensors"));
        args.extend(["--embedding".to_owned(), path.display().to_string()]);
    }
    args
}

/// A tiny version in a folder.
fn model(version: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    tiny::write_model(version, dir.path(), tiny::Style::F32);
    dir
}

impl Case {
    /// Draws, compares, and gives what the picture says of itself.
    fn check(&self, model: &Path, more: &[&str], tolerance: Tolerance) -> Value {
        let out = tempfile::tempdir().unwrap();
        let mut args = with_embeddings(self.run.args(), &self.embeddings);
        if let Some(lora) = &self.lora {
            args.extend(["--lora".to_owned(), folder().join(format!("{lora}.safetensors")).display().to_string()]);
        }
        let ran = run(model, &args, more, out.path());
        let expected = picture(&folder().join(&self.run.pictures[0]));
        assert_picture(&self.run.name, &ran.picture(&self.run.name), &expected, tolerance);
        let text = darkroom::image::picture_text(&std::fs::read(&ran.out).unwrap()).unwrap();
        let find = |key: &str| text.iter().find(|(found, _)| found == key).unwrap().1.clone();
        let mut json: Value = serde_json::from_str(&find("darkroom")).unwrap();
        json["a1111"] = find("parameters").into();
        json
    }
}

#[test]
fn every_kind_draws_diffusers_picture() {
    let cases: Vec<Case> = read("cases.json");
    for version in ["v1-5", "v2-1", "xl"] {
        let model = model(version);
        for case in cases.iter().filter(|case| case.run.version == version) {
            assert!(case.from_plain > 5.0, "{}: the embedding hardly shows", case.run.name);
            let says = case.check(model.path(), &[], EXACT);
            let named: Vec<&str> =
                says["embeddings"].as_array().unwrap().iter().map(|used| used["name"].as_str().unwrap()).collect();
            if case.lora.is_none() {
                assert_eq!(named, case.embeddings);
                assert!(says["a1111"].as_str().unwrap().contains("TI hashes: \""), "{says}");
            }
        }
    }
}

/// Words are found in any case, by the file's name beside its own token, and as ComfyUI writes them; those that no prompt
/// has are not recorded.
#[test]
fn words_are_found_however_they_are_written() {
    let model = model("v1-5");
    for (name, prompt, syntax) in [
        ("three", "THREE-Foxes, highly detailed", "a1111"),
        ("three", "three-Foxes, highly detailed", "plain"),
        ("three", "three-foxes, highly detailed", "compel"),
        ("three", "embedding:three-foxes, highly detailed", "comfy"),
        ("own-token", "a cat-toy at night", "a1111"),
        ("own-token", "a embedding:<CAT-toy> at night", "comfy"),
        ("own-tokens", "a photo of a learned_embeds", "a1111"),
    ] {
        let mut case = case(name);
        case.run.prompt = prompt.to_owned();
        case.embeddings.push("anything".to_owned());
        let says = case.check(model.path(), &["--prompt-syntax", syntax], EXACT);
        assert_eq!(says["embeddings"].as_array().unwrap().len(), 1, "{says}");
    }
    // A word inside of another is none.
    let plain = Case { embeddings: Vec::new(), ..case("one") };
    let out = tempfile::tempdir().unwrap();
    let args = |prompt: &str| Try { prompt: prompt.to_owned(), ..plain.run.clone() }.args();
    let expected = run(model.path(), &args("manythings"), &[], out.path()).picture("manythings");
    let got = run(model.path(), &with_embeddings(args("manythings"), &["anything".to_owned()]), &[], out.path());
    assert_eq!(got.picture("manythings").pixels, expected.pixels);
}

#[test]
fn on_the_gpu_too() {
    if has_no_gpu() {
        return;
    }
    for (idx, name) in ["several", "v2", "xl-negative"].into_iter().enumerate() {
        let case = case(name);
        let model = model(&case.run.version);
        case.check(model.path(), &["--device", "gpu", "--dtype", "f32"], EXACT);
        if idx == 0 || draws_all() {
            case.check(model.path(), &["--device", "gpu", "--dtype", "f16"], HALF);
        }
    }
}

#[test]
fn checkpoints_in_one_file_take_them_too() {
    for name in ["several", "v2", "xl-negative"] {
        let case = case(name);
        let config = model(&case.run.version);
        let file = config.path().join("model.safetensors");
        single::write(&case.run.version, &file, "F16");
        case.check(&file, &["--config", &config.path().display().to_string()], EXACT);
    }
}

#[test]
fn what_is_no_embedding_for_the_model_is_refused() {
    for refused in read::<Refused>("refused.json") {
        let model = model(&refused.version);
        let file = folder().join(&refused.file).display().to_string();
        let args = ["--prompt", "x", "--steps", "1", "--embedding", &file].map(String::from);
        let says: Vec<&str> = refused.says.iter().map(String::as_str).collect();
        run(model.path(), &args, &[], model.path()).was_refused(3, &[&[&*refused.file], &says[..]].concat());
    }
    let model = model("v1-5");
    let twice =
        with_embeddings(["--prompt", "x"].map(String::from).to_vec(), &["anything", "anything"].map(String::from));
    run(model.path(), &twice, &[], model.path()).was_refused(3, &["\"anything\"", "rename"]);
    let absent = ["--prompt", "x", "--embedding", "absent.safetensors"].map(String::from);
    run(model.path(), &absent, &[], model.path()).was_refused(3, &["absent.safetensors"]);
}
