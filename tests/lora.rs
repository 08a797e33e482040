//! LoRAs and their kin through the command line: every format and spelling draws the picture of diffusers with the weights
//! merged in f32 (tools/fixtures/lora.py), on the CPU and on the GPU; what is not read, or not for the model, is refused.
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
use tries::{EXACT, HALF, Refused, Tolerance, Try, assert_picture, draws_all, has_no_gpu, picture, run};

#[derive(Deserialize)]
struct Case {
    #[serde(flatten)]
    run: Try,
    loras: Vec<Use>,
    /// The mean difference of levels from the picture without LoRAs.
    from_plain: f64,
}

#[derive(Deserialize)]
struct Use {
    file: String,
    strength: f64,
    text_strength: Option<f64>,
}

fn folder() -> PathBuf {
    tiny::fixtures_dir().join("lora")
}

fn path(file: &str) -> String {
    folder().join(format!("{file}.safetensors")).display().to_string()
}

fn read<T: for<'a> Deserialize<'a>>(name: &str) -> Vec<T> {
    serde_json::from_str(&std::fs::read_to_string(folder().join(name)).unwrap()).unwrap()
}

impl Case {
    /// What follows `generate`: the request and the LoRAs as they are typed.
    fn args(&self) -> Vec<String> {
        let mut args = self.run.args();
        for lora in &self.loras {
            let of_text = lora.text_strength.map(|strength| format!(":{strength}")).unwrap_or_default();
            // A strength of one is what a name alone means.
            let strengths = match (lora.strength, &*of_text) {
                (1.0, "") => String::new(),
                (strength, of_text) => format!(":{strength}{of_text}"),
            };
            args.extend(["--lora".into(), format!("{}{strengths}", path(&lora.file))]);
        }
        args
    }

    fn check(&self, model: &Path, more: &[&str], tolerance: Tolerance) {
        let out = tempfile::tempdir().unwrap();
        let drawn = run(model, &self.args(), more, out.path()).picture(&self.run.name);
        let expected = picture(&folder().join(&self.run.pictures[0]));
        assert_picture(&self.run.name, &drawn, &expected, tolerance);
    }
}

/// Each version with a case, in a folder, with its cases.
fn by_version(check: impl Fn(&Path, &[Case])) {
    let mut cases: Vec<Case> = read("cases.json");
    for version in ["v1-5", "v2-1", "xl"] {
        let dir = tempfile::tempdir().unwrap();
        tiny::write_model(version, dir.path(), tiny::Style::F32);
        let of_version: Vec<Case> = cases.extract_if(.., |case| case.run.version == version).collect();
        assert!(!of_version.is_empty(), "no case for {version}");
        check(dir.path(), &of_version);
    }
    assert!(cases.is_empty());
}

#[test]
fn every_format_draws_the_merged_picture() {
    by_version(|model, cases| {
        for case in cases {
            assert!(case.from_plain > 5.0, "{}: the LoRA hardly shows", case.run.name);
            case.check(model, &[], EXACT);
        }
    });
}

#[test]
fn on_the_gpu_too() {
    if has_no_gpu() {
        return;
    }
    by_version(|model, cases| {
        let wanted = ["kohya", "kohya_text", "two", "locon", "lokr", "dora", "full", "kohya-v2", "kohya-xl", "xl_two"];
        for (idx, case) in cases.iter().filter(|case| wanted.contains(&&*case.run.name)).enumerate() {
            case.check(model, &["--device", "gpu", "--dtype", "f32"], EXACT);
            if idx == 0 || draws_all() {
                case.check(model, &["--device", "gpu", "--dtype", "f16"], HALF);
            }
        }
    });
}

/// A checkpoint in one file names its tensors otherwise, and keeps some of them together.
#[test]
fn checkpoints_in_one_file_take_them_too() {
    by_version(|config, cases| {
        let version = &*cases[0].run.version;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("model.safetensors");
        single::write(version, &file, "F16");
        let config = config.display().to_string();
        for case in
            cases.iter().filter(|case| ["kohya", "dora", "full", "kohya-v2", "kohya-xl"].contains(&&*case.run.name))
        {
            case.check(&file, &["--config", &config], EXACT);
        }
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    for refused in read::<Refused>("refused.json") {
        let dir = tempfile::tempdir().unwrap();
        tiny::write_model(&refused.version, dir.path(), tiny::Style::F32);
        let args = ["--prompt", "x", "--steps", "1", "--lora", &path(&refused.file)].map(String::from);
        let run = run(dir.path(), &args, &[], dir.path());
        let says: Vec<&str> = refused.says.iter().map(String::as_str).collect();
        run.was_refused(3, &[&[&*refused.file], &says[..]].concat());
    }
}
