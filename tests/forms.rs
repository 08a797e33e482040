//! The forms that people's model files have, each beside the plain form of the same model: both must draw the same picture.
//! Through the command line, on copies of the embedded model.
#![cfg(all(not(target_arch = "wasm32"), feature = "cli"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

#[path = "cli/desk.rs"]
#[allow(dead_code, reason = "shared with the other tests of the command line")]
mod desk;

use std::fs;
use std::path::{Path, PathBuf};

use darkroom::hub::Source;
use darkroom::hub::published::Published;
use darkroom::image::RgbImage;
use darkroom::model::SDVersion;
use darkroom::pipeline::{ModelConfigs, Task};
use darkroom::sampler::schedule;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use desk::{Desk, Run, difference, model, red_half, white_left};

const UNET: &str = "unet/diffusion_pytorch_model";
const SCHEDULER: &str = "scheduler/scheduler_config.json";
const ARGS: [&str; 6] = ["--prompt", "a rocket", "--seed", "3", "--width", "32"];

/// A copy of the embedded model, linked where the system can.
fn copy(desk: &Desk, name: &str) -> PathBuf {
    fn copy_folder(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy_folder(&entry.path(), &target);
            } else if fs::hard_link(entry.path(), &target).is_err() {
                fs::copy(entry.path(), &target).unwrap();
            }
        }
    }
    let folder = desk.path(name);
    copy_folder(&model(), &folder);
    folder
}

/// Writes a file anew. A linked one must not change where it came from.
fn put(path: &Path, bytes: &[u8]) {
    let _ = fs::remove_file(path);
    fs::write(path, bytes).unwrap();
}

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap().replace("-Infinity", "-1e300")).unwrap()
}

/// Sets fields of a JSON file; null removes one.
fn edit(path: &Path, fields: Value) {
    let mut json = read_json(path);
    for (name, value) in fields.as_object().unwrap() {
        json[name] = value.clone();
    }
    put(path, json.to_string().as_bytes());
}

fn remove(path: &Path, names: &[&str]) {
    let mut json = read_json(path);
    for name in names {
        json.as_object_mut().unwrap().remove(*name);
    }
    put(path, json.to_string().as_bytes());
}

/// A tensor of a file of weights: name, type, shape, bytes.
type Tensor = (String, safetensors::Dtype, Vec<usize>, Vec<u8>);

fn read_tensors(path: &Path) -> Vec<Tensor> {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter()
        .map(|(name, view)| (name.to_string(), view.dtype(), view.shape().to_vec(), view.data().to_vec()))
        .collect()
}

fn write_tensors(path: &Path, tensors: &[Tensor]) {
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, data)| (name.clone(), TensorView::new(*dtype, shape.clone(), data).unwrap()));
    put(path, &safetensors::serialize(views, None).unwrap());
}

fn run(desk: &Desk, name: &str, more: &[&str]) -> Run {
    let folder = format!("./{name}");
    let steps: &[&str] = if more.contains(&"--steps") { &[] } else { &["--steps", "2"] };
    desk.generate(&[&ARGS[..], &["--height", "32", "--model", &folder], steps, more].concat())
}

fn draw(desk: &Desk, name: &str, more: &[&str]) -> RgbImage {
    let ran = run(desk, name, more);
    assert_eq!(ran.code, Some(0), "{name} {more:?}: {ran:?}");
    desk.picture("out.png")
}

/// Both forms of the model draw one picture.
fn assert_same(what: &str, plain: impl Fn(&Path), other: impl Fn(&Path), more: &[&str]) {
    let desk = Desk::new();
    desk.put("init.png", &red_half(32, 32));
    desk.put("mask.png", &white_left(32, 32));
    plain(&copy(&desk, "plain"));
    other(&copy(&desk, "other"));
    let apart = difference(&draw(&desk, "plain", more), &draw(&desk, "other", more));
    assert!(apart <= 2, "{what}: levels differ by {apart}");
}

/// They draw different ones, so that the sameness of others means something.
fn assert_different(what: &str, one: impl Fn(&Path), other: impl Fn(&Path), more: &[&str]) {
    let desk = Desk::new();
    desk.put("init.png", &red_half(32, 32));
    desk.put("mask.png", &white_left(32, 32));
    one(&copy(&desk, "one"));
    other(&copy(&desk, "other"));
    assert!(difference(&draw(&desk, "one", more), &draw(&desk, "other", more)) > 2, "{what}: the same picture");
}

/// The model with another scheduler, as its file names it and as `model_index.json` does.
fn schedule_with(folder: &Path, class: &str, fields: Value) {
    let mut json =
        json!({"_class_name": class, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"});
    for (name, value) in fields.as_object().unwrap() {
        json[name] = value.clone();
    }
    put(&folder.join(SCHEDULER), json.to_string().as_bytes());
    edit(&folder.join("model_index.json"), json!({"scheduler": ["diffusers", class]}));
}

#[test]
fn old_scheduler_files_are_corrected_as_the_pipelines_do() {
    let ddim = |fields: Value| move |folder: &Path| schedule_with(folder, "DDIMScheduler", fields.clone());
    let pndm = |fields: Value| move |folder: &Path| schedule_with(folder, "PNDMScheduler", fields.clone());
    let today = json!({"steps_offset": 1, "clip_sample": false, "set_alpha_to_one": false});
    let text: &[&str] = &[];
    let image: &[&str] = &["--init", "init.png", "--strength", "1"];
    for task in [text, image] {
        assert_same("left out", ddim(today.clone()), ddim(json!({"set_alpha_to_one": false})), task);
    }
    let wrong = json!({"steps_offset": 0, "clip_sample": true, "set_alpha_to_one": false});
    assert_same("said wrongly", ddim(today.clone()), ddim(wrong), text);
    // Inpainting leaves clip_sample alone, and leaves out PNDM's first steps.
    let inpaint: &[&str] = &["--init", "init.png", "--mask", "mask.png"];
    assert_different("clipped", ddim(today), ddim(json!({"set_alpha_to_one": false})), inpaint);
    let plms = json!({"steps_offset": 1, "skip_prk_steps": true});
    assert_same("plms", pndm(plms.clone()), pndm(json!({"skip_prk_steps": false})), inpaint);
    assert_different("prk", pndm(plms), pndm(json!({"skip_prk_steps": false})), &["--steps", "4"]);
}

#[test]
fn a_sampler_chosen_by_name_takes_over_what_the_file_says() {
    let ddim = |fields: Value| move |folder: &Path| schedule_with(folder, "DDIMScheduler", fields.clone());
    let leading = json!({"timestep_spacing": "leading", "steps_offset": 1});
    let corrected = json!({"timestep_spacing": "leading", "steps_offset": 0});
    assert_same("said", ddim(leading.clone()), ddim(corrected), &["--sampler", "euler"]);
    // from_config drops what was a default, so the new class has its own.
    let absent = json!({"timestep_spacing": "leading"});
    assert_different("left out", ddim(leading), ddim(absent.clone()), &["--sampler", "euler"]);
    assert_same("its own", ddim(absent.clone()), ddim(absent), &["--sampler", "ddim"]);
}

#[test]
fn xl_pipelines_correct_nothing() {
    let configs = |version| {
        let source = Published::new(version);
        pollster::block_on(async { ModelConfigs::read(&source, &source.list().await.unwrap()).await.unwrap() })
    };
    let said = |config| format!("{:?}", schedule(&config, 5, None).unwrap());
    let mut xl = configs(SDVersion::Xl);
    let mut v1 = configs(SDVersion::V1_5);
    let old = r#"{"_class_name":"DDIMScheduler","timestep_spacing":"leading"}"#;
    let old = darkroom::sampler::SchedulerConfig::from_json(old, "s.json").unwrap();
    (xl.scheduler, v1.scheduler) = (old.clone(), old.clone());
    for task in [Task::TextToImage, Task::ImageToImage, Task::Inpaint] {
        assert_eq!(said(xl.scheduler_of(task)), said(old.clone()), "{task:?}");
        assert_ne!(said(v1.scheduler_of(task)), said(old.clone()), "{task:?}");
    }
}

/// A UNet whose weights are other ones.
fn changed_unet(folder: &Path) -> Vec<Tensor> {
    let mut tensors = read_tensors(&folder.join(format!("{UNET}.fp16.safetensors")));
    let (.., bytes) = tensors.iter_mut().find(|(name, ..)| name == "conv_out.weight").unwrap();
    // Turns every sign.
    bytes.iter_mut().skip(1).step_by(2).for_each(|byte| *byte ^= 0x80);
    tensors
}

#[test]
fn a_changed_plain_file_wins_over_a_published_variant() {
    let desk = Desk::new();
    let only = copy(&desk, "only");
    let changed = changed_unet(&only);
    fs::remove_file(only.join(format!("{UNET}.fp16.safetensors"))).unwrap();
    write_tensors(&only.join(format!("{UNET}.safetensors")), &changed);
    let both = copy(&desk, "both");
    write_tensors(&both.join(format!("{UNET}.safetensors")), &changed);
    copy(&desk, "published");

    let (changed, published) = (draw(&desk, "only", &[]), draw(&desk, "published", &[]));
    assert!(difference(&changed, &published) > 2);
    assert!(draw(&desk, "both", &[]) == changed && draw(&desk, "both", &["--variant", "none"]) == changed);
    assert!(draw(&desk, "both", &["--variant", "fp16"]) == published);
    // What is not read and newer is told.
    assert!(!run(&desk, "both", &[]).stderr.contains("newer"));
    let plain = fs::File::options().append(true).open(both.join(format!("{UNET}.safetensors"))).unwrap();
    plain.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let ran = run(&desk, "both", &[]);
    assert!(ran.code == Some(0) && ran.stderr.contains(&format!("{UNET}.fp16.safetensors is newer")), "{ran:?}");
    assert!(!run(&desk, "both", &["--variant", "none"]).stderr.contains("newer"));
    run(&desk, "both", &["--variant", "bf16"]).was_refused(3, &["variant bf16"]);
    run(&desk, "published", &["--variant", "none"]).was_refused(3, &["no component has plain files", "--variant fp16"]);
}

#[test]
fn an_index_of_parts_is_followed() {
    let index = |folder: &Path| {
        let tensors = read_tensors(&folder.join(format!("{UNET}.fp16.safetensors")));
        fs::remove_file(folder.join(format!("{UNET}.fp16.safetensors"))).unwrap();
        let (one, two) = tensors.split_at(tensors.len() / 3);
        let mut map = serde_json::Map::new();
        for (name, part) in [("first.safetensors", one), ("second.safetensors", two)] {
            write_tensors(&folder.join("unet").join(name), part);
            map.extend(part.iter().map(|(tensor, ..)| (tensor.clone(), json!(name))));
        }
        let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
        put(&folder.join(format!("{UNET}.safetensors.index.json")), index.to_string().as_bytes());
    };
    assert_same("index", |_| {}, index, &[]);
    // What lies beside the index is older.
    let beside = |folder: &Path| {
        let changed = changed_unet(folder);
        index(folder);
        write_tensors(&folder.join(format!("{UNET}.safetensors")), &changed);
    };
    assert_same("index beside a whole file", |_| {}, beside, &[]);
    let desk = Desk::new();
    let folder = copy(&desk, "model");
    index(&folder);
    fs::remove_file(folder.join("unet/second.safetensors")).unwrap();
    run(&desk, "model", &[]).was_refused(3, &["unet/second.safetensors is missing", "index.json"]);
}

#[test]
fn classes_come_from_the_model_index() {
    let euler = |folder: &Path| schedule_with(folder, "EulerDiscreteScheduler", json!({"steps_offset": 1}));
    assert_same(
        "another class inside",
        euler,
        |folder| {
            euler(folder);
            edit(&folder.join(SCHEDULER), json!({"_class_name": "DDIMScheduler"}));
        },
        &[],
    );
    assert_same(
        "no class inside",
        euler,
        |folder| {
            euler(folder);
            remove(&folder.join(SCHEDULER), &["_class_name"]);
        },
        &[],
    );
    for architectures in [json!(null), json!(["CLIPTextModelWithProjection"]), json!(["CLIPModel"])] {
        let other = |folder: &Path| {
            edit(&folder.join("text_encoder/config.json"), json!({"architectures": architectures}));
        };
        assert_same("architectures", |_| {}, other, &[]);
    }
    let desk = Desk::new();
    let folder = copy(&desk, "model");
    edit(&folder.join("model_index.json"), json!({"scheduler": ["diffusers", "NonsenseScheduler"]}));
    run(&desk, "model", &[]).was_refused(3, &["NonsenseScheduler"]);
}

#[test]
fn tensors_that_nothing_uses_are_told_and_ignored() {
    let path = |folder: &Path| folder.join("text_encoder/model.fp16.safetensors");
    let whole_clip = |folder: &Path| {
        let mut tensors = read_tensors(&path(folder));
        for name in ["logit_scale", "text_projection.weight", "vision_model.x.weight", "visual_projection.weight"] {
            tensors.push((name.to_owned(), safetensors::Dtype::F16, vec![1], vec![0, 0]));
        }
        write_tensors(&path(folder), &tensors);
    };
    assert_same("a whole CLIP", |_| {}, whole_clip, &[]);
    let nested = |folder: &Path| {
        whole_clip(folder);
        let config = folder.join("text_encoder/config.json");
        let text = read_json(&config);
        let whole =
            json!({"architectures": ["CLIPModel"], "model_type": "clip", "text_config": text, "vision_config": {}});
        put(&config, whole.to_string().as_bytes());
    };
    assert_same("text_config", |_| {}, nested, &[]);
    let ema = |folder: &Path| {
        let file = folder.join(format!("{UNET}.fp16.safetensors"));
        let mut tensors = read_tensors(&file);
        tensors.push(("ema.decay".to_owned(), safetensors::Dtype::I64, vec![1], vec![0; 8]));
        write_tensors(&file, &tensors);
    };
    assert_same("EMA", |_| {}, ema, &[]);

    let desk = Desk::new();
    whole_clip(&copy(&desk, "model"));
    let ran = run(&desk, "model", &[]);
    ran.succeeded();
    let notes: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("does not use")).collect();
    assert!(notes.len() == 1 && notes[0].contains("4 tensors") && notes[0].contains("logit_scale"), "{ran:?}");
}

#[test]
fn the_size_of_the_training_is_understood_as_diffusers_does() {
    let desk = Desk::new();
    let planned = |fields: Value| {
        let folder = copy(&desk, "model");
        edit(&folder.join("unet/config.json"), fields);
        let ran = desk.run(&["plan", "--model", "./model", "--json"]);
        ran.succeeded();
        fs::remove_dir_all(folder).unwrap();
        let plan: Value = serde_json::from_str(&ran.stdout).unwrap();
        (plan["width"].as_u64().unwrap(), plan["height"].as_u64().unwrap())
    };
    let old = |version: &str, size: Value| planned(json!({"_diffusers_version": version, "sample_size": size}));
    assert_eq!(old("0.6.0", json!(32)), (512, 512));
    assert_eq!(old("0.8.1.dev0", json!(8)), (512, 512));
    assert_eq!(old("0.8.0", json!(96)), (768, 768));
    assert_eq!(old("0.9.0.dev0", json!(32)), (256, 256));
    assert_eq!(old("0.10.2", json!(32)), (256, 256));
    assert_eq!(old("0.6.0", json!([32, 16])), (128, 256));
    assert_eq!(planned(json!({"sample_size": [16, 8]})), (64, 128));
    assert_eq!(planned(json!({"sample_size": [8, 8]})), (64, 64));
}

#[test]
fn harmless_spellings_draw_the_same_picture() {
    let unet = |fields: Value| move |folder: &Path| edit(&folder.join("unet/config.json"), fields.clone());
    for fields in [
        json!({"only_cross_attention": [false, false, false], "act_fn": "swish", "use_linear_projection": null}),
        json!({"norm_eps": null, "upcast_attention": 0, "flip_sin_to_cos": 1, "freq_shift": false, "class_embed_type": null}),
        json!({"dual_cross_attention": null, "num_class_embeds": null, "downsample_padding": [1], "conv_in_kernel": 3.0}),
    ] {
        assert_same("unet", |_| {}, unet(fields), &[]);
    }
    let left_out = |folder: &Path| {
        remove(&folder.join("unet/config.json"), &["in_channels", "out_channels", "act_fn"]);
        remove(&folder.join("vae/config.json"), &["in_channels", "out_channels", "act_fn"]);
    };
    assert_same("left out", |_| {}, left_out, &[]);
    let vae = |folder: &Path| {
        let fields = json!({"force_upcast": null, "act_fn": "SiLU", "shift_factor": null, "latents_mean": null});
        edit(&folder.join("vae/config.json"), fields);
        let fields = json!({"layer_norm_eps": null, "max_position_embeddings": null, "eos_token_id": null});
        let config = folder.join("text_encoder/config.json");
        let eos = read_json(&config)["eos_token_id"].clone();
        edit(&config, fields);
        edit(&config, json!({"eos_token_id": eos}));
    };
    assert_same("vae and text encoder", |_| {}, vae, &[]);
    let twice = |folder: &Path| {
        for (file, more) in [
            (SCHEDULER, r#","steps_offset":1,"x":NaN,"y":[Infinity]}"#),
            ("unet/config.json", r#","in_channels":4,"x":-Infinity}"#),
            ("vae/config.json", r#","in_channels":3,"x":NaN}"#),
            ("text_encoder/config.json", r#","hidden_act":"quick_gelu","x":NaN}"#),
            ("model_index.json", r#","x":NaN,"_class_name":"StableDiffusionPipeline"}"#),
            ("tokenizer/tokenizer_config.json", r#","x":NaN,"model_max_length":77}"#),
        ] {
            let text = fs::read_to_string(folder.join(file)).unwrap();
            let text = text.trim_end().strip_suffix('}').unwrap().to_owned() + more;
            let text = text.replacen("\"in_channels\": 4", "\"in_channels\": 5", 1);
            put(&folder.join(file), text.as_bytes());
        }
    };
    assert_same("keys twice, numbers of Python", |_| {}, twice, &[]);
}

#[test]
fn weights_of_rarer_types_draw_the_same_picture() {
    let as_f64 = |folder: &Path| {
        let file = folder.join(format!("{UNET}.fp16.safetensors"));
        let wide = |bytes: &[u8]| {
            let halves = bytes.as_chunks::<2>().0.iter().map(|half| half::f16::from_le_bytes(*half).to_f64());
            halves.flat_map(f64::to_le_bytes).collect::<Vec<u8>>()
        };
        let tensors = read_tensors(&file);
        let tensors: Vec<Tensor> = tensors
            .into_iter()
            .map(|(name, _, shape, data)| (name, safetensors::Dtype::F64, shape, wide(&data)))
            .collect();
        write_tensors(&file, &tensors);
    };
    assert_same("F64", |_| {}, as_f64, &[]);
    let desk = Desk::new();
    let folder = copy(&desk, "model");
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 3438\n", "0".repeat(64));
    put(&folder.join(format!("{UNET}.fp16.safetensors")), pointer.as_bytes());
    run(&desk, "model", &[]).was_refused(3, &["git-lfs pointer"]);
}

#[test]
fn a_word_without_a_row_in_the_table_is_named() {
    let desk = Desk::new();
    let folder = copy(&desk, "model");
    let vocab = read_json(&folder.join("tokenizer/vocab.json"));
    let n = vocab.as_object().unwrap().len();
    put(&folder.join("tokenizer/added_tokens.json"), json!({"<cat-toy>": n}).to_string().as_bytes());
    let said = |more: &[&str]| {
        let args = [&["--seed", "1", "--steps", "1", "--model", "./model"][..], more].concat();
        desk.generate(&args)
    };
    let words = ["<cat-toy>", &n.to_string(), "text_encoder", "leave the word out"];
    said(&["--prompt", "a <cat-toy>"]).was_refused(3, &words);
    said(&["--prompt", "a cat", "--negative", "<cat-toy>"]).was_refused(3, &words);
    // A word that is not used does no harm; without guidance nobody reads the negative prompt.
    said(&["--prompt", "a cat"]).succeeded();
    said(&["--prompt", "a cat", "--negative", "<cat-toy>", "--guidance", "1"]).succeeded();
}

#[test]
fn every_model_that_cannot_be_read_ends_with_3() {
    /// What it is, and how a folder is broken so.
    type Break = (&'static str, fn(&Path));
    let breaks: [Break; 5] = [
        ("vae/config.json", |folder| put(&folder.join("vae/config.json"), &[0xff, 0xfe, b'{'])),
        ("model_index.json", |folder| put(&folder.join("model_index.json"), &[0xff])),
        ("tokenizer", |folder| fs::remove_dir_all(folder.join("tokenizer")).unwrap()),
        ("merges.txt", |folder| put(&folder.join("tokenizer/merges.txt"), &[0xff])),
        ("model_index.json", |folder| fs::remove_file(folder.join("model_index.json")).unwrap()),
    ];
    for (words, how) in breaks {
        let desk = Desk::new();
        how(&copy(&desk, "model"));
        run(&desk, "model", &[]).was_refused(3, &[words]);
        desk.run(&["plan", "--model", "./model"]).was_refused(3, &[words]);
        desk.run(&["serve", "--model", "./model", "--port", "0"]).was_refused(3, &[words]);
    }
}

#[test]
fn a_folder_named_like_a_version_does_not_win_silently() {
    let desk = Desk::new();
    for name in ["xl", "stable-diffusion-xl-base-1.0", "SD1.5"] {
        copy(&desk, name);
        let ran = desk.generate(&["--prompt", "x", "--model", name]);
        let lines: Vec<&str> = ran.stderr.lines().collect();
        assert!(ran.code == Some(3) && lines.len() == 2, "{ran:?}");
        assert!(lines[0].contains(&format!("./{name}")) && lines[1].contains("127.0.0.1:1"), "{ran:?}");
        run(&desk, name, &[]).succeeded();
    }
    copy(&desk, "mine");
    desk.generate(&[&ARGS[..], &["--height", "32", "--steps", "2", "--model", "mine"]].concat()).succeeded();
}

#[test]
fn names_and_variables_of_the_hub() {
    let desk = Desk::new();
    let said = |model: &str, variables: &[(&str, &str)]| {
        let args = desk.generate_args(&["--prompt", "x", "--model", model]);
        let mut command = desk.command(&args.iter().map(String::as_str).collect::<Vec<_>>());
        command.env("HF_HUB_OFFLINE", "1").env("HOME", desk.path("home")).envs(variables.iter().copied());
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(3));
        String::from_utf8(output.stderr).unwrap()
    };
    let home = desk.path("home").display().to_string();
    assert!(said("owner/tiny", &[("HF_HOME", "~/models")]).contains(&format!("{home}/models/hub")));
    assert!(said("owner/tiny", &[("HF_HOME", "$HOME/models")]).contains(&format!("{home}/models/hub")));
    assert!(said("owner/tiny", &[("HUGGINGFACE_HUB_CACHE", "~/hub")]).contains(&format!("{home}/hub")));
    assert!(said("owner/tiny@refs/pr/7", &[]).starts_with("darkroom: owner/tiny@refs/pr/7: "));
    for (name, repository) in [
        ("stable-diffusion-xl-base-1.0", "stabilityai/stable-diffusion-xl-base-1.0"),
        ("stable-diffusion-xl-1.0-inpainting-0.1", "diffusers/stable-diffusion-xl-1.0-inpainting-0.1"),
        ("stable-diffusion-v1-5", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
        ("stable-diffusion-2-inpainting", "sd2-community/stable-diffusion-2-inpainting"),
        ("sdxl-turbo", "stabilityai/sdxl-turbo"),
    ] {
        // A model that only repaints asks for a picture first.
        if !name.contains("inpaint") {
            assert!(said(name, &[]).starts_with(&format!("darkroom: {repository}: ")), "{name}");
        }
        assert_eq!(name.parse::<SDVersion>().unwrap().repository(), repository);
    }
    assert_eq!(desk.names(), [""; 0]);
}
