//! The prompt languages against A1111's, ComfyUI's and compel's arithmetic (tools/fixtures/prompts.py), stage by stage: how
//! prompts are read, their ids, their states, and pictures. The first stage to differ is named.
#![cfg(not(target_arch = "wasm32"))]

#[path = "common/cases.rs"]
mod cases;
#[path = "common/gpu.rs"]
mod gpu;
#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/tiny.rs"]
mod tiny;

use std::collections::BTreeMap;
use std::rc::Rc;

use cases::{Case, Tolerance, cases_in};
use darkroom::hub::Source;
use darkroom::hub::folder::Folder;
use darkroom::pipeline::{ModelComponents, ModelConfigs, ModelLoader, encode_prompt};
use darkroom::prompt::{Fragment, Piece, PromptSyntax, Role, parse, tokenize};
use darkroom::run::Runner;
use darkroom::run::candle::{CandleRunner, Precision};
use darkroom::run::gpu::Element;
use darkroom::run::gpu::runner::GpuRunner;
use numbers::places::fixtures_dir;
use numbers::{Fixture, assert_close};
use serde::Deserialize;

const VERSIONS: [&str; 3] = ["v1-5", "v2-1", "xl"];
/// Of states, against transformers': sums in another order, times a weight, times the ratio of two means, which are small.
const STATES: f32 = 1e-4;
/// f32 on the processor.
const EXACT: Tolerance = Tolerance { latents: 2e-4, max_level: 2, mean_level: 0.3, min_psnr: 0.0 };
/// f32 activations and f16 weights on the GPU, which the tiny models' values fit exactly.
const F32: Tolerance = Tolerance { latents: 1e-3, max_level: 2, mean_level: 0.3, min_psnr: 0.0 };
/// f16 activations.
const F16: Tolerance = Tolerance { latents: 0.06, max_level: 255, mean_level: 3.0, min_psnr: 35.0 };

fn table<T: for<'de> Deserialize<'de>>(name: &str) -> Vec<T> {
    let text = std::fs::read_to_string(fixtures_dir().join("prompts").join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

type Pieces = Vec<Option<(String, f64)>>;

#[derive(Deserialize)]
struct ParseCase {
    syntax: PromptSyntax,
    text: String,
    n_calls: usize,
    negative: bool,
    parts: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    weight: f64,
    schedule: Vec<(usize, Pieces)>,
}

fn pieces(of: &[Piece]) -> Pieces {
    let piece = |piece: &Piece| match piece {
        Piece::Text(Fragment { text, weight }) => Some((text.clone(), *weight)),
        Piece::Break => None,
    };
    of.iter().map(piece).collect()
}

fn same(got: &Pieces, expected: &Pieces) -> bool {
    type Weighted = Option<(String, f64)>;
    let same = |pair: (&Weighted, &Weighted)| match pair {
        (Some((text, weight)), Some((other, expected))) => text == other && (weight - expected).abs() < 1e-12,
        (None, None) => true,
        _ => false,
    };
    got.len() == expected.len() && got.iter().zip(expected).all(same)
}

#[test]
fn prompts_are_read_as_by_the_programs_themselves() {
    let cases: Vec<ParseCase> = table("parse.json");
    assert!(cases.len() > 100);
    for case in cases {
        let (syntax, text) = (case.syntax, &case.text);
        let role = if case.negative { Role::Negative } else { Role::Prompt };
        let got = parse(text, syntax, role, case.n_calls).unwrap();
        assert_eq!(got.parts.len(), case.parts.len(), "{syntax:?} {text:?}");
        for (got, expected) in got.parts.iter().zip(&case.parts) {
            assert_eq!(got.weight, expected.weight, "{syntax:?} {text:?}");
            let schedule: Vec<(usize, Pieces)> =
                got.schedule.iter().map(|(until, variant)| (*until, pieces(&got.variants[*variant]))).collect();
            let is_same = schedule.len() == expected.schedule.len()
                && schedule
                    .iter()
                    .zip(&expected.schedule)
                    .all(|(got, expected)| got.0 == expected.0 && same(&got.1, &expected.1));
            assert!(is_same, "{syntax:?} {text:?}: got {schedule:?}, expected {:?}", expected.schedule);
        }
    }
}

#[derive(Deserialize)]
struct IdCase {
    syntax: PromptSyntax,
    version: String,
    text: String,
    chunks: Vec<(Vec<u32>, Vec<f32>)>,
}

#[test]
fn chunks_end_where_they_end_in_the_programs_themselves() {
    let cases: Vec<IdCase> = table("ids.json");
    let configs: BTreeMap<&str, ModelConfigs> = ["v1-5", "v2-1"]
        .into_iter()
        .map(|version| {
            let dir = tempfile::tempdir().unwrap();
            tiny::write_model(version, dir.path(), tiny::Style::F16);
            let folder = Folder::open(dir.path()).unwrap();
            let files = pollster::block_on(folder.list()).unwrap();
            (version, pollster::block_on(ModelConfigs::read(&folder, &files)).unwrap())
        })
        .collect();
    for case in cases {
        let tokenizer = &configs[case.version.as_str()].text_encoders[0].tokenizer;
        let (syntax, text) = (case.syntax, &case.text);
        let parsed = parse(text, syntax, Role::Prompt, 10).unwrap();
        let is_cut = syntax == PromptSyntax::Plain;
        let got = tokenize(&parsed.parts[0].variants[0], syntax, tokenizer, is_cut).unwrap();
        let got: Vec<(Vec<u32>, Vec<f32>)> = got.chunks.into_iter().map(|chunk| (chunk.ids, chunk.weights)).collect();
        assert_eq!(got.len(), case.chunks.len(), "{syntax:?} {text:?}");
        for (idx, (got, expected)) in got.iter().zip(&case.chunks).enumerate() {
            assert_eq!(got.0, expected.0, "{syntax:?} {text:?}: ids of chunk {idx}");
            assert_eq!(got.1, expected.1, "{syntax:?} {text:?}: weights of chunk {idx}");
        }
    }
}

/// The states of every text of a case; XL's negative prompt is zeros where none was given.
async fn check_states<R: Runner>(
    case: &Case,
    states: &Fixture,
    runner: &R,
    model: &ModelComponents<R>,
    tolerance: f32,
) {
    let config = case.inputs().config;
    for (role, name) in [(Role::Prompt, "prompt"), (Role::Negative, "negative")] {
        if role == Role::Negative && config.negative_prompt.is_none() && case.version == "xl" {
            continue;
        }
        let key = |idx: usize| format!("{}/{name}.{idx}", case.name);
        let n_expected = (0..).take_while(|idx| states.names().any(|known| known == key(*idx))).count();
        let got = encode_prompt(runner, model, &config, role).await.unwrap();
        assert_eq!(got.len(), n_expected, "{}: texts of the {name}", case.name);
        for (idx, got) in got.iter().enumerate() {
            let what = format!("states of {}", key(idx));
            let (expected, shape) = states.values(&key(idx));
            // Of long texts every fourth token's are there.
            let step = got.hidden_states.len().div_ceil(shape[1]).div_ceil(shape[0]);
            let tokens = got.hidden_states.chunks_exact(shape[1]).step_by(step);
            assert_close(&what, &tokens.flatten().copied().collect::<Vec<_>>(), &expected, tolerance);
            if let Some(pooled) = &got.pooled {
                let what = format!("pooled state of {}", key(idx));
                assert_close(&what, pooled, &states.values(&format!("{}.pooled", key(idx))).0, tolerance);
            }
        }
    }
}

fn check<R: Runner>(version: &str, runner: R, tolerance: Tolerance, of_states: f32, is_drawn: impl Fn(&str) -> bool) {
    let dir = tempfile::tempdir().unwrap();
    tiny::write_model(version, dir.path(), tiny::Style::F16);
    let folder = Folder::open(dir.path()).unwrap();
    let runner = Rc::new(runner);
    let model = Rc::new(pollster::block_on(ModelLoader::new(&folder, &*runner).load(&mut |_| true)).unwrap());
    let states = Fixture::read(&fixtures_dir().join("prompts/conditioning.safetensors"));
    for case in cases_in("prompts", version) {
        pollster::block_on(check_states(&case, &states, &*runner, &model, of_states));
        if is_drawn(&case.name) {
            pollster::block_on(case.check(&runner, &model, tolerance));
        }
    }
}

#[test]
fn pictures_on_the_processor() {
    for version in VERSIONS {
        check(version, CandleRunner::cpu(Precision::F32), EXACT, STATES, |_| true);
    }
}

/// Every prompt's states, and on a software adapter the pictures of some: what follows from the states is the same for all.
fn check_on_gpu(element: Element, tolerance: Tolerance, of_states: f32, of_software: &[&str]) {
    for version in VERSIONS {
        let Some(gpu) = gpu::gpu_with_matrices() else { return };
        let all = gpu::runs_all() || !gpu.caps.software;
        let is_drawn = |name: &str| all || of_software.contains(&name);
        check(version, GpuRunner::new(gpu, element).unwrap(), tolerance, of_states, is_drawn);
    }
}

#[test]
fn pictures_on_the_gpu() {
    let some = ["v1-5_and-long", "v1-5_schedule", "v1-5_long-negative", "v2-1_long", "xl_and-long"];
    check_on_gpu(Element::F32, F32, 1e-4, &some);
}

#[test]
fn pictures_on_the_gpu_in_half() {
    check_on_gpu(Element::F16, F16, 0.02, &["v1-5_and", "xl_long"]);
}

#[test]
fn a_prompt_without_syntax_is_the_same_in_all() {
    let text = "a photo of a red fox in the snow, it's 3 o'clock: 50% off!";
    for syntax in [PromptSyntax::A1111, PromptSyntax::Comfy, PromptSyntax::Compel, PromptSyntax::Plain] {
        let parsed = parse(text, syntax, Role::Prompt, 20).unwrap();
        assert!(parsed.notes.is_empty(), "{syntax:?}: {:?}", parsed.notes);
        assert_eq!(pieces(&parsed.parts[0].variants[0]), [Some((text.to_owned(), 1.0))], "{syntax:?}");
    }
}
