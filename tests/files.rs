//! Models in one file through the command line: drawn with as they are, with parts of others, planned at true size from a
//! header alone, and refused in one line where they are none.
#![cfg(not(target_arch = "wasm32"))]

#[path = "cli/desk.rs"]
#[allow(dead_code, reason = "the command line's tests use all of it")]
mod desk;
#[path = "common/names.rs"]
mod names;
#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/single.rs"]
mod single;
#[path = "common/tiny.rs"]
mod tiny;

use std::path::Path;

use desk::{Desk, difference, red_half};
use names::published;
use serde_json::{Value, json};

/// A run of four steps at 64 x 64.
const DRAW: [&str; 12] =
    ["--prompt", "a red fox", "--seed", "7", "--steps", "4", "--width", "64", "--height", "64", "--guidance", "5"];

/// A desk with the tiny model of a version as a folder and as one file.
fn desk(version: &str) -> Desk {
    let desk = Desk::new();
    tiny::write_model(version, &desk.path("folder"), tiny::Style::F32);
    tiny::write_model(version, &desk.path("config"), tiny::Style::F32);
    for component in tiny::components(version) {
        for entry in std::fs::read_dir(desk.path("config").join(component)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|end| end == "safetensors") {
                std::fs::remove_file(path).unwrap();
            }
        }
    }
    single::write(version, &desk.path("model.safetensors"), "F32");
    desk
}

#[test]
fn one_file_draws_what_its_folder_draws() {
    for version in ["v1-5", "v2-1", "xl"] {
        let desk = desk(version);
        let folder = desk.draw(&[&["--model", "folder"][..], &DRAW].concat());
        let file = desk.draw(&[&["--model", "model.safetensors", "--config", "config"][..], &DRAW].concat());
        assert_eq!(difference(&folder, &file), 0, "{version}");
        assert_eq!(desk.shown("out.png")["model"], "model.safetensors", "a file is named, its folder is not");
    }
}

#[test]
fn what_a_file_lacks_comes_from_elsewhere_or_is_asked_for() {
    let desk = desk("v1-5");
    let whole = desk.draw(&[&["--model", "folder"][..], &DRAW].concat());
    single::write("v1-5-no-vae", &desk.path("no-vae.safetensors"), "F32");
    let model = ["--model", "no-vae.safetensors", "--config", "config"];
    let refused = desk.generate(&[&model[..], &DRAW].concat());
    refused.was_refused(3, &["no-vae.safetensors", "no VAE", "--vae"]);
    for vae in ["folder", "folder/vae", "folder/vae/diffusion_pytorch_model.safetensors", "model.safetensors"] {
        let drawn = desk.draw(&[&model[..], &["--vae", vae], &DRAW].concat());
        assert_eq!(difference(&whole, &drawn), 0, "{vae}");
    }
    // Also one with old names, all of which are used.
    tiny::write_model("v1-5", &desk.path("old"), tiny::Style::OldVaeNames);
    for model in [&model[..], &["--model", "folder"]] {
        let run = desk.generate(&[model, &["--vae", "old/vae", "-o", "out.png"], &DRAW].concat());
        run.succeeded();
        assert!(!run.stderr.contains("does not use"), "{run:?}");
        assert_eq!(difference(&whole, &desk.picture("out.png")), 0);
    }
    // A UNet alone, and all else from a folder.
    single::write("v1-5-unet", &desk.path("unet.safetensors"), "F32");
    let unet = ["--model", "unet.safetensors", "--config", "folder"];
    assert_eq!(difference(&whole, &desk.draw(&[&unet[..], &DRAW].concat())), 0);
    let alone = ["--model", "unet.safetensors", "--config", "config"];
    desk.generate(&[&alone[..], &DRAW].concat()).was_refused(3, &["no text encoder", "--config"]);
}

#[test]
fn another_vae_and_a_tiny_decoder_change_the_picture_alone() {
    let desk = desk("v1-5");
    let own = desk.draw(&[&["--model", "folder"][..], &DRAW].concat());
    single::write("vae-b-ldm", &desk.path("vae.safetensors"), "F32");
    single::write("taesd_decoder", &desk.path("taesd.safetensors"), "F32");
    // The same with a folder as with a file.
    for model in [&["--model", "folder"][..], &["--model", "model.safetensors", "--config", "config"]] {
        let other = desk.draw(&[model, &["--vae", "vae.safetensors"], &DRAW].concat());
        assert!(difference(&own, &other) > 10);
        let tiny = desk.draw(&[model, &["--taesd", "taesd.safetensors"], &DRAW].concat());
        assert!(difference(&own, &tiny) > 10 && difference(&other, &tiny) > 10);
        // A start picture is encoded by the model's own VAE.
        desk.put("init.png", &red_half(64, 64));
        desk.draw(&[model, &["--taesd", "taesd.safetensors", "--init", "init.png"], &DRAW].concat());
    }
    // Without a VAE the tiny one is enough to draw from text.
    single::write("v1-5-no-vae", &desk.path("no-vae.safetensors"), "F32");
    let tiny = ["--model", "no-vae.safetensors", "--config", "config", "--taesd", "taesd.safetensors"];
    let of_whole = desk.draw(&[&["--model", "folder", "--taesd", "taesd.safetensors"][..], &DRAW].concat());
    assert_eq!(difference(&of_whole, &desk.draw(&[&tiny[..], &DRAW].concat())), 0);
    let from_picture = desk.generate(&[&tiny[..], &["--init", "init.png"], &DRAW].concat());
    assert!(from_picture.code == Some(3) && from_picture.stderr.contains("has no vae"), "{from_picture:?}");
    let wrong = |args: &[&str], words: &[&str]| {
        let args = [&["--model", "folder"][..], args, &DRAW].concat();
        desk.generate(&args).was_refused(3, words);
    };
    wrong(&["--taesd", "vae.safetensors"], &["vae.safetensors", "full size", "--vae"]);
    wrong(&["--vae", "folder/unet/diffusion_pytorch_model.safetensors"], &["UNet", "not a VAE"]);
    wrong(&["--vae", "./absent.safetensors"], &["absent.safetensors"]);
}

#[test]
fn what_is_predicted_is_said_by_the_user_or_the_file() {
    let desk = desk("v2-1");
    let own = desk.draw(&[&["--model", "folder"][..], &DRAW].concat());
    let file = ["--model", "model.safetensors", "--config", "config"];
    let asked = |prediction: &str| desk.draw(&[&file[..], &["--prediction", prediction], &DRAW].concat());
    assert_eq!(difference(&own, &asked("v")), 0);
    let epsilon = asked("epsilon");
    assert!(difference(&own, &epsilon) > 10);
    let folder = desk.draw(&[&["--model", "folder", "--prediction", "epsilon"][..], &DRAW].concat());
    assert_eq!(difference(&folder, &epsilon), 0, "a folder takes it too");
    let run = desk.generate(&[&file[..], &["--prediction", "sample"], &DRAW].concat());
    run.was_refused(2, &["sample", "epsilon or v"]);
}

#[test]
fn files_that_are_no_models_say_what_they_are() {
    let desk = Desk::new();
    for missing in ["out/none.safetensors", "./none.gguf"] {
        let words = [&format!("{missing}: no such file"), "owner/repo/file.safetensors"];
        desk.generate(&[&["--model", missing][..], &DRAW].concat()).was_refused(3, &words);
        desk.generate(&[&["--vae", missing][..], &DRAW].concat()).was_refused(3, &words);
    }
    let put = |name: &str, bytes: &[u8]| std::fs::write(desk.path(name), bytes).unwrap();
    put("empty.safetensors", b"");
    put("noise.safetensors", &[7; 100]);
    put("page.safetensors", b"<!DOCTYPE html><html><head><title>404</title></head></html>");
    // PyTorch's archive: the name of its first entry comes after 30 bytes.
    put("old.ckpt", &[&b"PK\x03\x04"[..], &[0; 26], b"archive/data.pkl"].concat());
    header(&desk.path("lora.safetensors"), &[("lora_unet_mid_block_attentions_0_proj_in.lora_down.weight", &[4, 8])]);
    header(&desk.path("embedding.safetensors"), &[("emb_params", &[2, 768])]);
    header(&desk.path("other.safetensors"), &[("double_blocks.0.img_attn.qkv.weight", &[8, 8])]);
    let refused = |name: &str, words: &[&str]| {
        desk.generate(&[&["--model", name][..], &DRAW].concat()).was_refused(3, words);
    };
    refused("empty.safetensors", &["empty.safetensors", "it is empty"]);
    refused("noise.safetensors", &["noise.safetensors"]);
    refused("page.safetensors", &["page.safetensors", "web"]);
    refused("old.ckpt", &["old.ckpt", "pickle"]);
    refused("lora.safetensors", &["LoRA"]);
    refused("embedding.safetensors", &["embedding"]);
    refused("other.safetensors", &["Flux", "Stable Diffusion 1, 2 and XL"]);
    refused("./absent.safetensors", &["absent.safetensors"]);
    let run = desk.generate(&[&["--model", "absent.safetensors"][..], &DRAW].concat());
    run.was_refused(2, &["absent.safetensors", ".safetensors"]);
}

/// A file of a header and as many zeros as it promises, which take no room on disk.
fn header(path: &Path, tensors: &[(&str, &[usize])]) {
    let mut header = serde_json::Map::new();
    let mut at = 0;
    for (name, shape) in tensors {
        let end = at + 2 * shape.iter().product::<usize>();
        header.insert((*name).to_owned(), json!({ "dtype": "F16", "shape": shape, "data_offsets": [at, end] }));
        at = end;
    }
    let text = Value::Object(header).to_string();
    let bytes = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    std::fs::write(path, &bytes).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(bytes.len() as u64 + at as u64).unwrap();
}

#[test]
fn published_files_are_recognised_and_planned_from_their_headers() {
    let desk = Desk::new();
    for (version, name, weights_gb) in [
        ("v1-5", "v1-5", 2.13),
        ("v1-5-inpaint", "v1-5-inpaint", 2.13),
        ("v2-1", "v2-1", 2.58),
        ("xl", "xl", 6.94),
        ("xl-inpaint", "xl-inpaint", 6.94),
    ] {
        let path = desk.path(&format!("{name}.safetensors"));
        let tensors = published(version);
        let borrowed: Vec<(&str, &[usize])> = tensors.iter().map(|(n, s)| (n.as_str(), s.as_slice())).collect();
        header(&path, &borrowed);
        let file = format!("{name}.safetensors");
        // What Stable Diffusion 2 predicts is in none of its names.
        let prediction: &[&str] = if version == "v2-1" { &["--prediction", "v"] } else { &[] };
        let plan = |model: &str, more: &[&str]| {
            let run = desk.run(&[&["plan", "--model", model, "--json"][..], more].concat());
            run.succeeded();
            serde_json::from_str::<Value>(&run.stdout).unwrap()
        };
        if !prediction.is_empty() {
            let run = desk.run(&["plan", "--model", &file]);
            run.was_refused(3, &["noise or velocity", "--prediction"]);
        }
        let (of_file, of_version) = (plan(&file, prediction), plan(version, &[]));
        let phases = |plan: &Value| {
            let mut phases = plan["phases"].clone();
            // Weights are loaded in the order of their file, which cuts submits elsewhere.
            phases[0].as_object_mut().unwrap().remove("submits");
            phases
        };
        assert_eq!(phases(&of_file), phases(&of_version), "{version}");
        for field in ["width", "height", "peak_bytes", "weight_bytes", "staged_peak_bytes"] {
            assert_eq!(of_file[field], of_version[field], "{version}: {field}");
        }
        let gb = of_file["weight_bytes"].as_f64().unwrap() / 1e9;
        assert!((gb - weights_gb).abs() < 0.3, "{version}: {gb} GB");
        std::fs::remove_file(path).unwrap();
    }
}

/// A model that takes the guidance scale as an input is told by that input's embedding, and needs no folder.
#[test]
fn latent_consistency_models_are_recognised() {
    let desk = Desk::new();
    let mut tensors = published("v1-5");
    tensors.push(("model.diffusion_model.time_embed.cond_proj.weight".into(), vec![320, 256]));
    let borrowed: Vec<(&str, &[usize])> = tensors.iter().map(|(n, s)| (n.as_str(), s.as_slice())).collect();
    header(&desk.path("lcm.safetensors"), &borrowed);
    let run = desk.run(&["inspect", "lcm.safetensors", "--json"]);
    run.succeeded();
    let told: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(
        (&told["variant"], &told["opens"], &told["loads"]),
        (&json!("lcm"), &json!(true), &json!(true)),
        "{told}"
    );
    let source = pollster::block_on(async {
        use darkroom::checkpoint::local::{LocalModel, Place};
        LocalModel::new(Place::File(desk.path("lcm.safetensors")), "lcm").open().await
    });
    let source = source.unwrap();
    let configs =
        pollster::block_on(async { darkroom::pipeline::ModelConfigs::read(&*source, &source.list().await?).await });
    let configs = configs.unwrap();
    assert_eq!(configs.unet.time_cond_proj_dim, Some(256));
    let defaults = configs.defaults(None);
    assert_eq!((defaults.steps, defaults.guidance_scale), (4, 8.5), "those of diffusers' pipeline");
    assert_eq!(configs.scheduler.sampler().unwrap(), "lcm".parse().unwrap());
    assert!(!configs.is_guided(8.5));
}

/// What a scheduler's configuration says, and no tensor of a UNet.
#[test]
fn what_a_schedule_says_is_not_lost_in_one_file() {
    let desk = desk("xl");
    let edit = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        let path = desk.path("config/scheduler/scheduler_config.json");
        let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        change(config.as_object_mut().unwrap());
        std::fs::write(&path, config.to_string()).unwrap();
    };
    edit(&|config| drop(config.remove("prediction_type")));
    let plain = desk.draw(&[&["--model", "folder"][..], &DRAW].concat());
    for file in ["xl-v_pred-ztsnr", "xl-v_pred"] {
        single::write(file, &desk.path("marked.safetensors"), "F32");
        let draw = |model: &str| desk.draw(&[&["--model", model, "--config", "config"][..], &DRAW].concat());
        let marked = draw("marked.safetensors");
        assert!(difference(&plain, &marked) > 10);
        for (out, more) in [("again.safetensors", &[][..]), ("again.gguf", &["--type", "f32"])] {
            let args =
                [&["convert", "--model", "marked.safetensors", "--config", "config", "-o", out][..], more].concat();
            desk.run(&args).succeeded();
            assert_eq!(difference(&marked, &draw(out)), 0, "{file}: {out}");
            std::fs::remove_file(desk.path(out)).unwrap();
        }
    }
    // Where the two disagree, the configuration that was given counts, and that is said.
    edit(&|config| drop(config.insert("prediction_type".into(), "epsilon".into())));
    let told = desk.generate(&[&["--model", "marked.safetensors", "--config", "config"][..], &DRAW].concat());
    assert!(told.code == Some(0) && told.stderr.contains("--prediction v"), "{told:?}");
    // Noise levels that no file describes.
    let edm: Vec<(&str, &[usize])> = vec![
        ("edm_vpred.sigma_max", &[1]),
        ("model.diffusion_model.input_blocks.0.0.weight", &[320, 4, 3, 3]),
        ("model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight", &[640, 2048]),
        ("model.diffusion_model.label_emb.0.0.weight", &[1280, 2816]),
    ];
    header(&desk.path("cosxl.safetensors"), &edm);
    let run = desk.generate(&[&["--model", "cosxl.safetensors", "--config", "config"][..], &DRAW].concat());
    run.was_refused(3, &["CosXL"]);
}

/// What three tensors are fused in says its own shape, and the one that it should have.
#[test]
fn a_fused_tensor_of_the_wrong_size_is_no_missing_one() {
    let desk = desk("v2-1");
    let bytes = std::fs::read(desk.path("model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let end = "resblocks.0.attn.in_proj_weight";
    let fused = file.names().into_iter().find(|name| name.ends_with(end)).unwrap().to_owned();
    let &[rows, columns] = file.tensor(&fused).unwrap().shape() else { panic!("no matrix") };
    // One row less cannot be cut in three; three less can, and are too few.
    for less in [1, 3] {
        let tensors = file.tensors().into_iter().map(|(name, tensor)| {
            let is_cut = name == fused;
            let shape = if is_cut { vec![rows - less, columns] } else { tensor.shape().to_vec() };
            let size = tensor.data().len() / rows.max(1) / columns.max(1);
            let n_bytes = if is_cut { shape.iter().product::<usize>() * size } else { tensor.data().len() };
            let data = &tensor.data()[..n_bytes];
            (name, safetensors::tensor::TensorView::new(tensor.dtype(), shape, data).unwrap())
        });
        let cut = safetensors::serialize(tensors, None).unwrap();
        std::fs::write(desk.path("cut.safetensors"), cut).unwrap();
        let (got, expected) = (format!("[{}, {columns}]", rows - less), format!("[{rows}, {columns}]"));
        let words = [fused.as_str(), "has shape", &got, &expected];
        let args = ["--model", "cut.safetensors", "--config", "config", "--prediction", "v"];
        desk.generate(&[&args[..], &DRAW].concat()).was_refused(3, &words);
    }
}

/// A file's name in a listing is no second line.
#[cfg(unix)]
#[test]
fn a_name_with_a_line_break_stays_on_its_line() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("folder")).unwrap();
    let name = "a\nfake.safetensors: VAE\tb.safetensors";
    for name in [name, "other.safetensors"] {
        header(&desk.path("folder").join(name), &[("emb_params", &[2, 768])]);
    }
    for what in ["folder".to_owned(), format!("folder/{name}")] {
        let run = desk.run(&["inspect", &what]);
        run.succeeded();
        assert!(run.stdout.contains("a\\u{a}fake.safetensors: VAE\\u{9}b.safetensors: "), "{}", run.stdout);
        assert!(!run.stdout.lines().any(|line| line.trim_start().starts_with("fake")), "{}", run.stdout);
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_is_no_file_of_weights() {
    let desk = Desk::new();
    let made = std::process::Command::new("mkfifo").arg(desk.path("pipe.safetensors")).status().unwrap();
    assert!(made.success());
    desk.generate(&[&["--vae", "pipe.safetensors"][..], &DRAW].concat()).was_refused(3, &["no regular file"]);
    let run = desk.run(&["inspect", "pipe.safetensors"]);
    assert!(run.code.is_some_and(|code| code == 3 || code == 5), "{run:?}");
}

#[test]
fn weights_are_held_in_the_type_that_is_asked_for() {
    let desk = desk("v1-5");
    let draw = |more: &[&str]| desk.draw(&[&["--model", "folder"][..], more, &DRAW].concat());
    assert_eq!(difference(&draw(&[]), &draw(&["--weights", "f32"])), 0);
    // Every value of the tiny models is an f16.
    assert_eq!(difference(&draw(&[]), &draw(&["--weights", "f16"])), 0);
    let refused = |more: &[&str], words: &[&str]| {
        desk.generate(&[&["--model", "folder"][..], more, &DRAW].concat()).was_refused(2, words);
    };
    refused(&["--weights", "q8_0", "--device", "cuda"], &["weights", "q8_0 on CUDA", "--device gpu"]);
    refused(&["--weights", "f32", "--dtype", "f16"], &["weights", "--dtype f16"]);
}

/// The tensors of a safetensors file: type, shape and bytes by name.
fn contents(path: &Path) -> std::collections::BTreeMap<String, (String, Vec<usize>, Vec<u8>)> {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter();
    tensors.map(|(name, t)| (name, (format!("{:?}", t.dtype()), t.shape().to_vec(), t.data().to_vec()))).collect()
}

#[test]
fn conversions_lose_nothing_and_come_back() {
    for version in ["v1-5", "v2-1", "xl"] {
        let desk = desk(version);
        let run = |args: &[&str]| desk.run(&[&["convert"][..], args].concat()).succeeded();
        run(&["--model", "folder", "-o", "one.safetensors"]);
        let (ours, theirs) = (contents(&desk.path("one.safetensors")), contents(&desk.path("model.safetensors")));
        for (name, tensor) in &ours {
            let Some(other) = theirs.get(name) else { panic!("{version}: no other program has {name}") };
            assert!(tensor == other, "{version}: {name} differs: {:?} and {:?}", tensor.1, other.1);
        }
        // What the other file has besides is what no model uses.
        let more: Vec<&String> = theirs.keys().filter(|name| !ours.contains_key(*name)).collect();
        let is_spare = |name: &&String| {
            name.contains("resblocks.")
                || ["text_projection", "logit_scale", "position_ids"].iter().any(|end| name.ends_with(end))
        };
        assert!(more.iter().all(is_spare), "{version}: {more:?}");
        run(&["--model", "one.safetensors", "--config", "config", "-o", "back", "--type", "f32"]);
        for component in tiny::components(version) {
            let stem = if component.starts_with("text") { "model" } else { "diffusion_pytorch_model" };
            let file = |folder: &str| contents(&desk.path(folder).join(component).join(format!("{stem}.safetensors")));
            let (back, own) = (file("back"), file("folder"));
            assert!(back == own, "{version}: {component} is not what it was");
        }
        let whole = desk.draw(&[&["--model", "folder"][..], &DRAW].concat());
        // Every value is an f16, so that loses nothing either.
        run(&["--model", "folder", "-o", "f16", "--shard-size", "20KB"]);
        assert!(desk.path("f16/unet/diffusion_pytorch_model.safetensors.index.json").exists());
        run(&["--model", "folder", "-o", "f16.gguf", "--type", "f16"]);
        assert_eq!(difference(&whole, &desk.draw(&[&["--model", "f16"][..], &DRAW].concat())), 0, "{version}");
        let gguf = ["--model", "f16.gguf", "--config", "config"];
        assert_eq!(difference(&whole, &desk.draw(&[&gguf[..], &DRAW].concat())), 0, "{version}");
        run(&["--model", "f16.gguf", "--config", "config", "-o", "of-gguf", "--type", "keep"]);
        assert_eq!(difference(&whole, &desk.draw(&[&["--model", "of-gguf"][..], &DRAW].concat())), 0, "{version}");
        run(&["--model", "folder", "-o", "new/folder/one.safetensors"]);
        assert!(contents(&desk.path("new/folder/one.safetensors")) == ours, "{version}");
        run(&["--model", "folder", "-o", "q8_0.gguf"]);
        let told = desk.run(&["inspect", "q8_0.gguf", "--json"]);
        told.succeeded();
        let told: Value = serde_json::from_str(&told.stdout).unwrap();
        assert_eq!((&told["format"], &told["kind"]), (&json!("gguf"), &json!("checkpoint")), "{version}");
        let eight = desk.draw(&[&["--model", "q8_0.gguf", "--config", "config"][..], &DRAW].concat());
        let off = desk::mean_difference(&whole, &eight);
        assert!(off > 0.0 && off < 8.0, "{version}: {off}");
        let taken = desk.run(&["convert", "--model", "folder", "-o", "one.safetensors"]);
        taken.was_refused(5, &["one.safetensors", "exists"]);
        let tiny = desk.run(&["convert", "--model", "folder", "--taesd", "folder/vae", "-o", "other"]);
        tiny.was_refused(2, &["taesd", "leave it out"]);
        let full = desk.run(&["convert", "--model", "folder", "-o", "back"]);
        full.was_refused(5, &["back", "not empty"]);
        for (out, more, words) in [
            ("x.ckpt", &[][..], &["x.ckpt", ".safetensors or .gguf", "folder"][..]),
            ("x.pt", &["--to", "safetensors"], &["x.pt", ".safetensors"]),
            ("x.gguf", &["--to", "safetensors"], &["x.gguf", ".safetensors"]),
        ] {
            desk.run(&[&["convert", "--model", "folder", "-o", out][..], more].concat()).was_refused(2, words);
        }
        let wrong = desk.run(&["convert", "--model", "folder", "-o", "x.safetensors", "--type", "q4_0"]);
        wrong.was_refused(2, &["q4_0", ".gguf"]);
        assert!(!desk.names().iter().any(|name| name.contains("part-") || name == "x.safetensors"));
    }
}
