//! `darkroom inspect`: what files are, by the table that tools/fixtures/inspect_cases.py wrote from other programs' code, and
//! as people see it.
#![cfg(not(target_arch = "wasm32"))]

#[path = "cli/desk.rs"]
#[allow(dead_code, reason = "pictures are of no concern here")]
mod desk;
#[path = "common/headers.rs"]
mod headers;
#[path = "hub_server/mod.rs"]
#[allow(dead_code, reason = "the Hub behaves here, for the most part")]
mod hub_server;
#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/single.rs"]
mod single;
#[path = "common/tiny.rs"]
mod tiny;

use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;

use darkroom::Error;
use darkroom::checkpoint::inspect::{Report, inspect};
use darkroom::error::Class;
use darkroom::hub::http::Http;
use darkroom::hub::native::NativeHttp;
use darkroom::hub::remote::Remote;
use darkroom::hub::{RepoId, peek};
use desk::{Desk, Run};
use headers::{Sparse, table};
use hub_server::{Fault, Hub, REPO};
use pollster::block_on;
use serde_json::{Value, json};

/// More than this behind the header is never read: of a Stable Diffusion 2 one norm, of 320 numbers.
const MOST_DATA: u64 = 4 * 320 + 512;

fn report(lists: &Value, case: &Value) -> Report {
    let source = Sparse::of(lists, case);
    let (name, n_data) = (source.name.clone(), source.n_data_read.clone());
    let report = block_on(inspect(Box::new(source), None)).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(n_data.get() <= MOST_DATA, "{name}: {} bytes of data were read", n_data.get());
    report
}

fn words(value: &Value) -> BTreeSet<&str> {
    value.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

/// What differs from a case's expectations, one line each.
fn differences(got: &Value, expect: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for (key, expected) in expect.as_object().unwrap() {
        let found = match key.as_str() {
            "has" => json!(got["components"]["present"].as_object().unwrap().keys().collect::<Vec<_>>()),
            "lacks" => got["components"]["missing"].clone(),
            "ranks" => got["lora"]["ranks"].clone(),
            "dora" => got["lora"]["dora"].clone(),
            _ => got[key].clone(),
        };
        let equal = match (key.as_str(), expected) {
            ("has" | "lacks" | "types", _) => words(&found) == words(expected),
            ("lora", Value::Object(fields)) => fields.iter().all(|(field, expected)| found[field] == *expected),
            _ => found == *expected,
        };
        // A UNet with diffusers' names opens here, too, with the rest from elsewhere.
        let ours = key == "opens" && got["layout"] == "diffusers" && got["kind"] == "unet" && found == json!(true);
        if !equal && !ours {
            wrong.push(format!("{key}: {found}, expected {expected}"));
        }
    }
    wrong
}

#[test]
fn every_case_of_the_table_is_recognised() {
    let (lists, cases) = table();
    assert!(cases.len() >= 100, "{}", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let report = report(&lists, case);
        let got = serde_json::to_value(&report).unwrap();
        let differences = differences(&got, &case["expect"]);
        wrong.extend(differences.iter().map(|line| format!("{}: {line}", case["name"])));
        let lines = report.lines();
        assert!((2..=24).contains(&lines.len()), "{lines:#?}");
        assert!(lines.iter().all(|line| line.len() < 1000 && !line.contains('\n')), "{lines:#?}");
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// A file of the table on disk, sparse, under the case's name.
fn put(desk: &Desk, name: &str) -> String {
    let (lists, cases) = table();
    let case = cases.iter().find(|case| case["name"] == name).unwrap_or_else(|| panic!("no case {name}"));
    let file = format!("{name}.safetensors");
    headers::write(&lists, case, &desk.path(&file));
    file
}

fn json_of(run: &Run) -> Value {
    run.succeeded();
    assert_eq!((run.stdout.lines().count(), run.stderr.as_str()), (1, ""), "{run:?}");
    serde_json::from_str(&run.stdout).unwrap()
}

#[test]
fn whole_checkpoints_load_and_are_planned_from_their_headers() {
    let desk = Desk::new();
    // Megabytes: weights on the GPU in f16, which has no tables of tokens, and all in f32.
    for (name, size, gpu, cpu) in [
        ("sd1-whole", 512, 2056, 4264),
        ("sd1-inpaint-whole", 512, 2056, 4264),
        ("sd2-whole", 768, 2479, 5160),
        ("xl-whole", 1024, 6736, 13876),
        ("xl-inpaint-whole", 1024, 6736, 13876),
    ] {
        let file = put(&desk, name);
        let got = json_of(&desk.run(&["inspect", &file, "--json"]));
        assert_eq!((&got["loads"], &got["problem"]), (&json!(true), &Value::Null), "{name}: {got}");
        let fits = &got["fits"];
        assert_eq!((fits["width"].as_u64(), fits["height"].as_u64()), (Some(size), Some(size)), "{name}: {got}");
        let mb = |key: &str| fits[key].as_u64().unwrap() / 1_000_000;
        assert!(mb("gpu_weight_bytes").abs_diff(gpu) <= gpu / 20, "{name}: {fits}");
        assert!(mb("cpu_f32_bytes").abs_diff(cpu) <= cpu / 50, "{name}: {fits}");
        assert!(mb("gpu_staged_bytes") < mb("gpu_resident_bytes"), "{name}: {fits}");
        std::fs::remove_file(desk.path(&file)).unwrap();
    }
}

#[test]
fn what_a_checkpoint_lacks_is_named_with_what_to_pass() {
    let desk = Desk::new();
    for (case, words) in [
        ("sd1-no-vae", &["missing", "vae", "--vae"][..]),
        ("xl-no-text", &["text_encoder_2", "--config"]),
        ("sd2-undecided", &["undecided", "--prediction epsilon", "--prediction v"]),
        ("xl-refiner", &["refiner", "use the base model"]),
        ("sd1-pix2pix", &["InstructPix2Pix"]),
        ("xl-int8", &["quantised"]),
        ("vae-ldm", &["--vae"]),
        ("taesd_decoder", &["--taesd"]),
        ("flux-dev", &["Flux"]),
    ] {
        let run = desk.run(&["inspect", &put(&desk, case)]);
        run.succeeded();
        for word in words {
            assert!(run.stdout.contains(word), "{case}: no {word:?} in {}", run.stdout);
        }
        assert!(run.stdout.lines().count() <= 16, "{}", run.stdout);
    }
}

#[test]
fn a_model_with_sizes_of_its_own_has_a_family_and_asks_for_its_configuration() {
    let desk = Desk::new();
    for version in tiny::VERSIONS {
        single::write(version, &desk.path("tiny.safetensors"), "F16");
        let got = json_of(&desk.run(&["inspect", "tiny.safetensors", "--json"]));
        let (family, variant) = match version {
            "v1-5" => ("sd1", "base"),
            "v1-5-inpaint" => ("sd1", "inpaint"),
            "v2-1" => ("sd2", "base"),
            "v2-inpaint" => ("sd2", "inpaint"),
            "xl-inpaint" => ("xl", "inpaint"),
            _ => ("xl", "base"),
        };
        assert_eq!((&got["family"], &got["variant"]), (&json!(family), &json!(variant)), "{version}: {got}");
        assert_eq!((&got["kind"], &got["opens"]), (&json!("checkpoint"), &json!(false)), "{version}: {got}");
        assert_eq!(got["components"]["missing"], json!([]), "{version}: {got}");
        assert!(got["advice"].to_string().contains("--config FOLDER"), "{version}: {got}");
    }
}

#[test]
fn the_yaml_beside_a_checkpoint_decides() {
    let desk = Desk::new();
    let file = put(&desk, "sd2-undecided");
    let yaml = "model:\n  target: ldm.models.diffusion.ddpm.LatentDiffusion\n  params:\n    parameterization: \"v\"\n";
    std::fs::write(desk.path("sd2-undecided.yaml"), yaml).unwrap();
    let got = json_of(&desk.run(&["inspect", &file, "--json"]));
    assert_eq!((&got["prediction"], &got["decided_by"]), (&json!("v"), &json!("yaml")), "{got}");
}

/// A case that no table has: one of it with tensors dropped and added.
fn changed(cases: &[Value], name: &str, drop: &[&str], tensors: &[&str]) -> Value {
    let empty = json!({ "name": name, "metadata": null });
    let mut case = cases.iter().find(|case| case["name"] == name).cloned().unwrap_or(empty);
    case["drop"] = json!(drop);
    case["tensors"] = json!(tensors);
    case
}

#[test]
fn wrapped_models_and_averages_are_no_parts() {
    let (lists, cases) = table();
    let text = "text_model.embeddings.token_embedding.weight 49408,768 F16";
    let wrapped = |prefix: &str| {
        let names = [
            "model.diffusion_model.input_blocks.0.0.weight 320,4,3,3 F16",
            "first_stage_model.decoder.conv_in.weight 512,4,3,3 F16",
        ];
        let names = names.iter().map(|name| format!("{prefix}{name}"));
        names.chain([format!("{prefix}cond_stage_model.transformer.{text}")]).collect::<Vec<_>>()
    };
    let diffusers = ["time_embedding.linear_1.weight 1280,320 F16", "conv_in.weight 320,4,3,3 F16"];
    let mut all: Vec<(Vec<String>, &str)> =
        ["module.", "state_dict.", "a.b."].map(|prefix| (wrapped(prefix), prefix)).into();
    all.push((diffusers.map(|name| format!("module.{name}")).into(), "module."));
    all.push((
        vec![
            "model.model.diffusion_model.input_blocks.0.0.weight 320,4,3,3 F16".into(),
            "first_stage_model.decoder.conv_in.weight 512,4,3,3 F16".into(),
        ],
        "model.",
    ));
    all.push((vec!["module.decoder.conv_in.weight 512,4,3,3 F16".into()], "module."));
    for (tensors, prefix) in all {
        let tensors: Vec<&str> = tensors.iter().map(String::as_str).collect();
        let report = report(&lists, &changed(&cases, "wrapped", &[], &tensors));
        let problem = report.problem.clone().unwrap_or_default();
        assert!(problem.contains(&format!("begin with one {prefix:?} too many")), "{tensors:?}: {report:?}");
        assert!(report.refused && !report.opens && ["checkpoint", "other"].contains(&report.kind), "{report:?}");
    }
    let ldm = [
        "model_ema.diffusion_modelinput_blocks00weight 320,4,3,3 F16",
        "model_ema.diffusion_modelinput_blocks11transformer_blocks0attn2to_kweight 320,768 F16",
    ];
    let own = ["model_ema.diffusion_modeltime_embeddinglinear_1weight 1280,320 F16"];
    let vae = "first_stage_model.decoder.conv_in.weight 512,4,3,3 F16";
    for (tensors, family, kind) in [
        (vec![ldm[0], ldm[1]], Some("sd1"), "unet"),
        (vec![ldm[0], ldm[1], vae], Some("sd1"), "checkpoint"),
        (vec![own[0], vae], None, "checkpoint"),
    ] {
        let report = report(&lists, &changed(&cases, "average", &[], &tensors));
        let problem = report.problem.clone().unwrap_or_default();
        assert!(problem.contains("only the EMA of a UNet"), "{report:?}");
        assert_eq!((report.family, report.kind, report.opens), (family, kind, false), "{report:?}");
        assert!(report.lines().iter().all(|line| !line.contains("no picture needs")), "{:?}", report.lines());
    }
}

#[test]
fn the_width_of_a_lora_beats_its_prefix() {
    let (lists, cases) = table();
    let unet = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight 4,";
    let text = "lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight 4,768 F16";
    for (width, family) in [(768, "sd1"), (1024, "sd2"), (2048, "xl")] {
        let unet = format!("{unet}{width} F16");
        let report = report(&lists, &changed(&cases, "lora", &[], &[&unet, text]));
        assert_eq!((report.kind, report.family), ("lora", Some(family)), "{report:?}");
    }
    let report = report(&lists, &changed(&cases, "lora", &[], &[text]));
    assert_eq!(report.family, Some("xl"), "of the prefix alone");
}

#[test]
fn embeddings_without_their_lora_are_named() {
    let (lists, cases) = table();
    let tensors = ["bundle_emb.zork.emb_params 2,768 F32", "bundle_emb.blob.emb_params 3,768 F32"];
    let report = report(&lists, &changed(&cases, "bundle", &[], &tensors));
    assert_eq!((report.kind, report.vectors), ("embedding", Some(5)), "{report:?}");
    assert!(report.problem.unwrap().contains("bundle_emb"));
}

#[test]
fn what_a_component_lacks_has_its_own_name() {
    let desk = Desk::new();
    let (lists, cases) = table();
    for (dropped, words) in [
        ("first_stage_model.encoder.", &["first_stage_model.encoder.conv_in.weight", "--vae", "not whole"][..]),
        ("first_stage_model.quant_conv.", &["2 of 248 tensors", "first_stage_model.quant_conv.weight", "--vae"]),
        ("model.diffusion_model.out.2.weight", &["tensor model.diffusion_model.out.2.weight ", "download it again"]),
        (
            "cond_stage_model.transformer.text_model.final_layer_norm.bias",
            &["tensor cond_stage_model.transformer.text_model.final_layer_norm.bias "],
        ),
    ] {
        let case = changed(&cases, "sd1-whole", &[dropped], &[]);
        headers::write(&lists, &case, &desk.path("lacks.safetensors"));
        let run = desk.run(&["inspect", "lacks.safetensors"]);
        run.succeeded();
        for word in words {
            assert!(run.stdout.contains(word), "{dropped}: no {word:?} in {}", run.stdout);
        }
    }
}

#[test]
fn the_spread_of_a_norm_decides_where_nothing_else_does() {
    let (lists, cases) = table();
    let case = cases.iter().find(|case| case["name"] == "sd2-undecided").unwrap();
    for (spread, expected) in [(0.2f32, "v"), (0.02, "epsilon")] {
        let norm = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias";
        let (header, len) = headers::header(&lists, case);
        let n = u64::from_le_bytes(header[..8].try_into().unwrap()) as usize;
        let entries: Value = serde_json::from_slice(&header[8..8 + n]).unwrap();
        let at = header.len() + entries[norm]["data_offsets"][0].as_u64().unwrap() as usize;
        let values: Vec<u8> = (0..320u16)
            .flat_map(|i| half::f16::from_f32(if i % 2 == 0 { spread } else { -spread }).to_le_bytes())
            .collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sd2.safetensors");
        std::fs::write(&path, &header).unwrap();
        let mut file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_len(len).unwrap();
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(at as u64)).unwrap();
        std::io::Write::write_all(&mut file, &values).unwrap();
        let source = darkroom::weights::DiskSource::open(&path).unwrap();
        let report = block_on(inspect(Box::new(source), None)).unwrap();
        assert_eq!((report.prediction, report.decided_by), (Some(expected), Some("weights")));
    }
}

#[test]
fn broken_files_are_refused_in_one_line() {
    let desk = Desk::new();
    let refused = |name: &str, bytes: &[u8], words: &[&str]| {
        std::fs::write(desk.path(name), bytes).unwrap();
        desk.run(&["inspect", name]).was_refused(3, words);
        desk.run(&["inspect", name, "--json"]).was_refused(3, words);
    };
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/fuzz");
    let of = |name: &str| std::fs::read(corpus.join(name)).unwrap();
    refused("model.ckpt", &of("inspect/pickle"), &["pickle", "can run code", "safetensors"]);
    refused("model.pt", &of("inspect/torch"), &["pickle"]);
    refused("model.zip", &of("inspect/zip"), &["archive", "unpack"]);
    refused("page.safetensors", &of("inspect/html"), &["web page", "download it again"]);
    refused("text.safetensors", &of("inspect/error-text"), &["is a text"]);
    refused("pointer.safetensors", &of("inspect/lfs"), &["git-lfs pointer", "git lfs pull"]);
    refused("zeros.safetensors", &of("inspect/zeros"), &["zeros", "download it again"]);
    refused("empty.safetensors", b"", &["empty"]);
    refused("overlap.safetensors", &of("safetensors/overlap"), &["overlaps"]);
    refused("offsets.safetensors", &of("safetensors/wild-offsets"), &["not a valid"]);
    refused("shape.safetensors", &of("safetensors/overflowing-shape"), &["larger than any file"]);
    refused("length.safetensors", &of("safetensors/length-of-all-memory"), &["claims"]);
    let whole = std::fs::read(desk.path(&put(&desk, "lora-sd1"))).unwrap();
    refused("cut.safetensors", &whole[..whole.len() / 2], &["cut off", "download it again"]);
    refused("cut-header.safetensors", &whole[..500], &["ends after 500"]);
    desk.run(&["inspect", "nothing.safetensors"]).was_refused(5, &["nothing.safetensors", "no such file"]);
}

#[test]
fn folders_are_models_or_lists_of_files() {
    let desk = Desk::new();
    let model = desk::model();
    let got = json_of(&desk.run(&["inspect", model.to_str().unwrap(), "--json"]));
    let unet = &got["components"]["present"]["unet"];
    assert_eq!(unet["files"], json!(["unet/diffusion_pytorch_model.fp16.safetensors"]), "{got}");
    assert_eq!(got["components"]["missing"], json!([]), "{got}");
    assert_eq!((&got["format"], &got["loads"]), (&json!("folder"), &json!(true)), "{got}");
    assert_eq!((&got["family"], &got["problem"]), (&json!("sd1"), &Value::Null), "{got}");
    assert_eq!((&got["prediction"], &got["decided_by"]), (&json!("epsilon"), &json!("config")), "{got}");
    assert_eq!(got["fits"]["width"], 128, "{got}");
    // A component that is missing is named.
    let copy = desk.path("half");
    for folder in ["", "unet", "vae", "text_encoder", "tokenizer", "scheduler"] {
        std::fs::create_dir_all(copy.join(folder)).unwrap();
        for entry in std::fs::read_dir(model.join(folder)).unwrap().map(|entry| entry.unwrap().path()) {
            let is_left_out = folder == "vae" && entry.extension().is_some_and(|end| end == "safetensors");
            if entry.is_file() && !is_left_out {
                std::fs::copy(&entry, copy.join(folder).join(entry.file_name().unwrap())).unwrap();
            }
        }
    }
    let run = desk.run(&["inspect", "half"]);
    run.succeeded();
    assert!(run.stdout.contains("missing      vae"), "{}", run.stdout);
    // Another pipeline is told by its class.
    std::fs::create_dir(desk.path("flux")).unwrap();
    std::fs::write(desk.path("flux/model_index.json"), r#"{"_class_name": "FluxPipeline"}"#).unwrap();
    let run = desk.run(&["inspect", "flux"]);
    run.succeeded();
    assert!(run.stdout.contains("FluxPipeline"), "{}", run.stdout);
    std::fs::write(desk.path("flux/model_index.json"), "{").unwrap();
    desk.run(&["inspect", "flux"]).was_refused(3, &["model_index.json"]);
    // Several files.
    std::fs::create_dir(desk.path("files")).unwrap();
    desk.run(&["inspect", "files"]).was_refused(3, &["no model_index.json"]);
    for name in ["lora-sd1", "embedding-xl"] {
        let file = put(&desk, name);
        std::fs::rename(desk.path(&file), desk.path(&format!("files/{file}"))).unwrap();
    }
    std::fs::write(desk.path("files/old.ckpt"), b"\x80\x02}q\x00X\x01\x00\x00\x00a").unwrap();
    let run = desk.run(&["inspect", "files"]);
    run.succeeded();
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{}", run.stdout);
    for (line, words) in lines[1..].iter().zip([["embedding", "2 vectors"], ["LoRA", "rank 8"], ["old.ckpt", "pickle"]])
    {
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
    }
    let got = json_of(&desk.run(&["inspect", "files", "--json"]));
    let kinds: Vec<&Value> = got["files"].as_array().unwrap().iter().map(|file| &file["kind"]).collect();
    assert_eq!(kinds, [&json!("embedding"), &json!("lora"), &Value::Null], "{got}");
}

#[test]
fn the_cache_is_looked_at_first() {
    let (desk, cache) = (Desk::new(), tempfile::tempdir().unwrap());
    let snapshot = cache.path().join("models--some--loras/snapshots/0123456789abcdef");
    std::fs::create_dir_all(snapshot.join("xl")).unwrap();
    std::fs::create_dir_all(cache.path().join("models--some--loras/refs")).unwrap();
    std::fs::write(cache.path().join("models--some--loras/refs/main"), "0123456789abcdef").unwrap();
    let file = put(&desk, "lora-xl-ldm");
    std::fs::copy(desk.path(&file), snapshot.join("xl/cat.safetensors")).unwrap();
    let run = |what: &str| Run::of(desk.command(&["inspect", what, "--json"]).env("HF_HUB_CACHE", cache.path()));
    for what in ["some/loras/xl/cat.safetensors", "some/loras@main/xl/cat.safetensors"] {
        let got = json_of(&run(what));
        assert_eq!((&got["kind"], &got["family"]), (&json!("lora"), &json!("xl")), "{got}");
    }
    // Port 1 is closed.
    run("some/loras/other.safetensors").was_refused(3, &["cannot be reached"]);
    let mut offline = desk.command(&["inspect", "some/thing"]);
    Run::of(offline.env("HF_HUB_OFFLINE", "1")).was_refused(3, &["HF_HUB_OFFLINE"]);
}

#[test]
fn the_hub_is_asked_for_headers_alone() {
    let (lists, cases) = table();
    let case = cases.iter().find(|case| case["name"] == "lora-xl-ldm").unwrap();
    let (mut lora, len) = headers::header(&lists, case);
    lora.resize(len as usize, 0);
    let mut files = hub_server::emoji_files();
    files.push(("loras/cat.safetensors".into(), lora));
    let hub = Hub::start(files);
    let desk = Desk::new();
    let run = |what: &str| Run::of(desk.command(&["inspect", what, "--json"]).env("HF_ENDPOINT", &hub.endpoint));
    let got = json_of(&run(&format!("{REPO}/loras/cat.safetensors")));
    assert_eq!((&got["kind"], got["bytes"].as_u64()), (&json!("lora"), Some(len)), "{got}");
    assert!(hub.take_body_bytes() as u64 <= 256 << 10, "more than the first range");
    let got = json_of(&run(REPO));
    assert_eq!((&got["loads"], &got["family"]), (&json!(true), &json!("sd1")), "{got}");
    assert!(!desk.path("hub").exists());
    run(&format!("{REPO}/loras/dog.safetensors")).was_refused(3, &["404", "loras/dog.safetensors"]);
    let address = format!("{}/{REPO}/resolve/main/loras/cat.safetensors", hub.endpoint);
    assert_eq!(json_of(&run(&address))["kind"], "lora");
}

/// The server's own trouble passes; what is about the file does not.
#[test]
fn a_busy_server_is_told_from_a_file_that_is_not_there() {
    let hub = Hub::start(hub_server::emoji_files());
    let http: Rc<dyn Http> = Rc::new(NativeHttp::default());
    let remote = Remote::hub(&hub.endpoint, None).unwrap();
    let path = "unet/diffusion_pytorch_model.fp16.safetensors";
    let address = format!("{}/{REPO}/resolve/main/{path}", hub.endpoint);
    let is_told = |error: Error, status: u16| {
        let is_passing = status == 429 || status >= 500;
        assert_eq!(error.class(), if is_passing { Class::Network } else { Class::Model }, "{error}");
        let message = error.to_string();
        assert!(message.contains(&status.to_string()) && message.contains("try again") == is_passing, "{message}");
    };
    for status in [404, 410, 429, 500, 501, 503, 507] {
        let fails = || hub.order(path, Fault::Status(status, "X-Nothing: 0"), 1);
        fails();
        is_told(block_on(peek::open_address(&http, &address)).err().unwrap(), status);
        fails();
        let repo: RepoId = REPO.parse().unwrap();
        is_told(block_on(peek::open_file(&http, &remote, &repo, path)).err().unwrap(), status);
        let file = block_on(peek::open_address(&http, &address)).unwrap();
        fails();
        is_told(block_on(file.read(file.len() - 8, 8)).unwrap_err(), status);
        assert_eq!(block_on(file.read(file.len() - 8, 8)).unwrap().len(), 8);
    }
}

#[test]
fn a_word_that_fits_no_text_encoder_is_an_embedding_still() {
    let desk = Desk::new();
    let run = desk.run(&["inspect", &put(&desk, "embedding-diffusers-other")]);
    run.succeeded();
    for words in ["textual inversion embedding", "2 vectors", "640 wide", "768", "1024", "1280"] {
        assert!(run.stdout.contains(words), "no {words:?} in {}", run.stdout);
    }
}
