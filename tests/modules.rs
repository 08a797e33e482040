//! Each module of each family at a tiny size, on the candle runner, against diffusers' and transformers' own numbers
//! (tools/fixtures/modules.py). The first module to differ is named. `DARKROOM_TEST_DEVICE=cuda` runs them on a card.
#![cfg(not(target_arch = "wasm32"))]

#[path = "common/device.rs"]
mod device;
#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/tiny.rs"]
mod tiny;

use std::path::Path;
use std::rc::Rc;

use darkroom::graph::{Graph, Output, OutputKind, Path as ModelPath};
use darkroom::hub::folder::Folder;
use darkroom::model::clip::{self, ClipOutputs};
use darkroom::model::unet::{UNetShape, prompt_graph, step_graph};
use darkroom::model::vae::{decoder_graph, encoder_graph};
use darkroom::pipeline::{ActiveLoras, ModelComponents, ModelLoader, Part};
use darkroom::run::Runner;
use darkroom::run::candle::{CandleRunner, Precision, Scores};
use numbers::{Fixture, assert_close, nchw_to_nhwc};

/// Largest difference allowed, relative to the largest value expected. Both sides sum in f32, in other orders.
const TOLERANCE: f32 = 1e-4;
/// The same of activations in 16 bits: eleven bits of them, up to some hundred operations deep.
const TOLERANCE_F16: f32 = 0.05;
const VERSIONS: [&str; 4] = ["v1-5", "v2-1", "xl", "xl-inpaint"];

fn load(runner: &CandleRunner, version: &str, dir: &Path) -> ModelComponents<CandleRunner> {
    tiny::write_model(version, dir, tiny::Style::F32);
    let folder = Folder::open(dir).unwrap();
    pollster::block_on(ModelLoader::new(&folder, runner).load(&mut |_| true)).unwrap()
}

/// The weights of a part of the model.
fn part(
    runner: &CandleRunner,
    model: &ModelComponents<CandleRunner>,
    part: Part,
) -> Rc<<CandleRunner as Runner>::Weights> {
    pollster::block_on(model.part(runner, part, &mut |_| true)).unwrap()
}

fn tolerance(runner: &CandleRunner) -> f32 {
    if runner.activations() == Precision::F32 { TOLERANCE } else { TOLERANCE_F16 }
}

/// Adds outputs for every module that the fixture has numbers of, in the order of computation.
fn tap(graph: &mut Graph, fixture: &Fixture, component: &str, prefix: &str) {
    let mut taps = Vec::new();
    for name in fixture.names() {
        if let Some(module) = name.strip_prefix(&format!("{component}/"))
            && !module.starts_with("in/")
        {
            let path = ModelPath::root().pp(format!("{prefix}{module}"));
            if let Some(id) = graph.result_of(path.as_str()) {
                taps.push(Output { name: name.to_string(), id, kind: OutputKind::Values });
            }
        }
    }
    taps.sort_by_key(|tap| tap.id);
    taps.append(&mut graph.outputs);
    graph.outputs = taps;
}

fn run(
    runner: &CandleRunner,
    graph: Graph,
    weights: &<CandleRunner as Runner>::Weights,
    inputs: &[(&str, <CandleRunner as Runner>::Tensor)],
) -> Vec<(String, Vec<f32>, Vec<usize>)> {
    let names: Vec<_> =
        graph.outputs.iter().map(|output| (output.name.clone(), graph.node(output.id).shape.clone())).collect();
    let program = pollster::block_on(runner.prepare(graph)).unwrap();
    let inputs: Vec<_> = inputs.iter().map(|(name, value)| (*name, value)).collect();
    let values = pollster::block_on(runner.run(&program, weights, &inputs, &mut |_| true)).unwrap();
    names
        .into_iter()
        .zip(values)
        .map(|((name, shape), value)| (name, pollster::block_on(runner.download(&value)).unwrap(), shape))
        .collect()
}

/// Compares every result that has a fixture under its name; returns how many had.
fn compare(
    runner: &CandleRunner,
    fixture: &Fixture,
    version: &str,
    results: &[(String, Vec<f32>, Vec<usize>)],
) -> usize {
    let mut n = 0;
    for (name, got, _) in results {
        if let Some(expected) = fixture.get_nhwc(name) {
            assert_close(&format!("{version}: {name}"), got, &expected, tolerance(runner));
            n += 1;
        }
    }
    n
}

fn check_unet(runner: &CandleRunner, version: &str, model: &ModelComponents<CandleRunner>, fixture: &Fixture) {
    let config = &model.configs.unet;
    let (sample, shape) = fixture.picture("unet/in/sample");
    let [batch, height, width, _] = shape;
    let (context, context_shape) = fixture.values("unet/in/encoder_hidden_states");
    let n_context = context_shape[1];
    for (t, out) in [("unet/in/timestep", "unet/out"), ("unet/in/timestep_fractional", "unet/out_fractional")] {
        let mut inputs = vec![("encoder_hidden_states", runner.upload(&context, &context_shape).unwrap())];
        if config.text_time.is_some() {
            let (text_embeds, text_shape) = fixture.values("unet/in/text_embeds");
            let (time_ids, ids_shape) = fixture.values("unet/in/time_ids");
            inputs.push(("text_embeds", runner.upload(&text_embeds, &text_shape).unwrap()));
            inputs.push(("time_ids", runner.upload(&time_ids, &[ids_shape.iter().product()]).unwrap()));
        }
        let prompt =
            run(runner, prompt_graph(config, batch, n_context).unwrap(), &part(runner, model, Part::Unet), &inputs);
        let mut graph = step_graph(config, UNetShape { batch, height, width, n_context }).unwrap();
        if out == "unet/out" {
            tap(&mut graph, fixture, "unet", "");
        }
        let t = fixture.values(t).0[0];
        let mut inputs = vec![
            ("sample", runner.upload(&sample, &shape).unwrap()),
            ("timestep", runner.upload(&vec![t; batch], &[batch]).unwrap()),
        ];
        for (name, values, shape) in &prompt {
            if name == "add_embedding" && fixture.get_nhwc("unet/add_embedding").is_some() {
                let expected = fixture.values("unet/add_embedding").0;
                assert_close(&format!("{version}: add_embedding"), values, &expected, tolerance(runner));
            }
            inputs.push((name, runner.upload(values, shape).unwrap()));
        }
        let results = run(runner, graph, &part(runner, model, Part::Unet), &inputs);
        let n = compare(runner, fixture, version, &results);
        if out == "unet/out" {
            // xl-inpaint is recorded for what differs from xl only.
            let enough = if version == "xl-inpaint" { 1 } else { 8 };
            assert!(n >= enough, "{version}: only {n} modules of the UNet were compared");
        }
        let (_, got, _) = results.iter().find(|(name, ..)| name == "out").unwrap();
        assert_close(&format!("{version}: {out}"), got, &fixture.get_nhwc(out).unwrap(), tolerance(runner));
    }
}

fn check_vae(runner: &CandleRunner, version: &str, model: &ModelComponents<CandleRunner>, fixture: &Fixture) {
    let config = &model.configs.vae;
    let (image, shape) = fixture.picture("vae/in/image");
    let mut graph = encoder_graph(config, shape[0], shape[1], shape[2]).unwrap();
    tap(&mut graph, fixture, "vae", "");
    let results = run(
        runner,
        graph,
        &part(runner, model, Part::VaeEncoder),
        &[("image", runner.upload(&image, &shape).unwrap())],
    );
    assert!(
        compare(runner, fixture, version, &results) >= 4,
        "{version}: too few modules of the VAE's encoder were compared"
    );
    let (_, moments, _) = results.last().unwrap();
    let channels = config.latent_channels;
    for (name, from) in [("vae/mean", 0), ("vae/logvar", channels)] {
        let got: Vec<f32> =
            moments.chunks_exact(2 * channels).flat_map(|row| row[from..from + channels].to_vec()).collect();
        assert_close(&format!("{version}: {name}"), &got, &fixture.get_nhwc(name).unwrap(), tolerance(runner));
    }

    // The fixture's decoder is given latents as it takes them; ours divides by the scaling factor itself.
    let (latents, shape) = fixture.picture("vae/in/latents");
    let scaled: Vec<f32> = latents.iter().map(|x| x * config.scaling_factor as f32).collect();
    let mut graph = decoder_graph(config, shape[0], shape[1], shape[2]).unwrap();
    tap(&mut graph, fixture, "vae", "");
    let results = run(
        runner,
        graph,
        &part(runner, model, Part::VaeDecoder),
        &[("latents", runner.upload(&scaled, &shape).unwrap())],
    );
    assert!(
        compare(runner, fixture, version, &results) >= 3,
        "{version}: too few modules of the VAE's decoder were compared"
    );
    let (_, got, _) = results.last().unwrap();
    assert_close(&format!("{version}: vae/decoded"), got, &fixture.get_nhwc("vae/decoded").unwrap(), tolerance(runner));
}

fn check_clip(runner: &CandleRunner, version: &str, model: &ModelComponents<CandleRunner>, fixture: &Fixture) {
    for (idx, encoder) in model.configs.text_encoders.iter().enumerate() {
        let name = encoder.name;
        if fixture.names().all(|recorded| !recorded.starts_with(&format!("{name}/"))) {
            assert_ne!(version, "v1-5", "{version}: no numbers for {name}");
            continue;
        }
        let (ids, shape) = fixture.values(&format!("{name}/in/input_ids"));
        let ids: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
        let (batch, n_tokens) = (shape[0], shape[1]);
        let rows: Vec<u32> = ids
            .chunks_exact(n_tokens)
            .enumerate()
            .map(|(b, ids)| (b * n_tokens + encoder.config.pooled_position(ids)) as u32)
            .collect();
        // What the encoder is asked for, and the fixture's name for it. The clip_skip of SD 1 and 2 counts from the last
        // layer and goes through the final norm; that of XL counts from the penultimate and does not.
        let is_xl = model.configs.unet.text_time.is_some();
        let wanted = [
            ("last_hidden_state", 0, true),
            ("penultimate", 1, false),
            ("clip_skip_1", if is_xl { 2 } else { 1 }, !is_xl),
        ];
        let mut n_compared = 0;
        for (state, skip, final_layer_norm) in wanted {
            let Some(expected) = fixture.get_nhwc(&format!("{name}/{state}")) else { continue };
            let outputs = ClipOutputs { skip, final_layer_norm, pooled: true };
            let mut graph = clip::text_encoder(&encoder.config, name, batch, outputs).unwrap();
            tap(&mut graph, fixture, name, "text_model.");
            let tables = pollster::block_on(model.text_embeddings(runner, idx, &ActiveLoras::default())).unwrap();
            let embeddings = pollster::block_on(tables.of(&ids)).unwrap();
            let inputs = [
                ("embeddings", runner.upload(&embeddings, &[batch, n_tokens, encoder.config.hidden_size]).unwrap()),
                ("pooled_rows", runner.upload_ids(&rows, &[batch]).unwrap()),
            ];
            let results = run(runner, graph, &part(runner, model, Part::TextEncoder(idx)), &inputs);
            compare(runner, fixture, version, &results);
            let result = |name: &str| &results.iter().find(|(n, ..)| n == name).unwrap().1;
            assert_close(&format!("{version}: {name}/{state}"), result("hidden_states"), &expected, tolerance(runner));
            for pooled in ["pooled", "text_embeds"] {
                if let Some(expected) = fixture.get_nhwc(&format!("{name}/{pooled}")) {
                    assert_close(
                        &format!("{version}: {name}/{pooled}"),
                        result("pooled"),
                        &expected,
                        tolerance(runner),
                    );
                    n_compared += 1;
                }
            }
            n_compared += 1;
        }
        assert!(n_compared >= 2, "{version}: {name} was hardly compared");
    }
}

fn check_all(runner: &CandleRunner) {
    for version in VERSIONS {
        let dir = tempfile::tempdir().unwrap();
        let model = load(runner, version, dir.path());
        let fixture = Fixture::read(&tiny::fixtures_dir().join(format!("modules/{version}.safetensors")));
        check_clip(runner, version, &model, &fixture);
        check_unet(runner, version, &model, &fixture);
        // A module that equals another version's to the bit is recorded once.
        let has_vae = fixture.names().any(|name| name.starts_with("vae/"));
        assert!(has_vae || !["v1-5", "xl"].contains(&version), "{version}: no numbers for the VAE");
        if has_vae {
            check_vae(runner, version, &model, &fixture);
        }
    }
}

/// On the device under test, or not at all after that was said.
fn check_on(runner: Option<CandleRunner>) {
    if let Some(runner) = runner {
        check_all(&runner);
    }
}

#[test]
fn modules_equal_diffusers() {
    check_on(device::runner(Precision::F32));
}

/// The weights are exact in 16 bits, and arithmetic on the CPU stays in 32: nothing may change there.
#[test]
fn modules_equal_diffusers_with_f16_weights() {
    check_on(device::runner(Precision::F16));
}

/// The operations that CUDA runs, and the other two ways to hold scores.
#[test]
fn modules_equal_diffusers_by_candles_own_operations() {
    let plain = || device::plain_runner(Precision::F32);
    check_on(plain());
    check_on(plain().map(|runner| runner.with_scores(Scores::Heads(1))));
    if device::is_cuda() {
        check_on(plain().map(|runner| runner.with_scores(Scores::Whole)));
    } else {
        check_all(&CandleRunner::cpu(Precision::F32).with_scores(Scores::Whole));
        check_all(&CandleRunner::cpu(Precision::F32).with_scores(Scores::Heads(1)));
    }
}

/// Arithmetic in 16 bits.
#[test]
fn modules_equal_diffusers_by_candles_own_operations_in_f16() {
    check_on(device::plain_runner(Precision::F16));
}

#[test]
fn channels_move_last() {
    assert_eq!(nchw_to_nhwc(&[1., 2., 3., 4.], &[1, 2, 1, 2]), [1., 3., 2., 4.]);
}
