//! Every bad input: a documented exit code, one line that says what would work, and no file left behind.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use crate::desk::{APPLE, Desk, black, fixture, model, red_half};

/// Exit codes as `darkroom --help` lists them.
const REQUEST: i32 = 2;
const MODEL: i32 = 3;
const DEVICE: i32 = 4;
const FILE: i32 = 5;

#[test]
fn settings_that_cannot_be_drawn() {
    let desk = Desk::new();
    desk.put("init.png", &red_half(128, 128));
    desk.put("black.png", &black(128, 128));
    let table: &[(&[&str], &[&str])] = &[
        (&["--width", "129"], &["width 129", "use 128 or 160", "--any-size", "multiple of 8"]),
        (&["--width", "136"], &["width 136", "use 128 or 160", "--any-size"]),
        (&["--width", "129", "--any-size"], &["width 129", "use 128 or 136\n"]),
        (&["--height", "4", "--any-size"], &["height 4", "use 8 or a larger multiple of it\n"]),
        (&["--height", "127"], &["height 127", "use 96 or 128"]),
        (&["--width", "0"], &["width 0", "use 32 or a larger multiple"]),
        (&["--height", "100000"], &["height 100000", "use 4096 at most"]),
        (&["--width", "-128"], &["-128", "--width", "in pixels"]),
        (&["--width", "wide"], &["wide", "--width", "a whole number", "in pixels"]),
        (&["--steps", "0"], &["steps 0", "use 1 to 150"]),
        (&["--steps", "151"], &["steps 151", "use 1 to 150"]),
        (&["--steps", "-1"], &["-1", "--steps", "1 to 150"]),
        (&["--steps", "2.5"], &["2.5", "--steps", "1 to 150"]),
        (&["--guidance", "-1"], &["guidance scale -1", "0.0 to 20.0"]),
        (&["--guidance", "21"], &["guidance scale 21", "0.0 to 20.0"]),
        (&["--guidance", "nan"], &["guidance scale NaN", "0.0 to 20.0"]),
        (&["--guidance", "inf"], &["guidance scale inf", "0.0 to 20.0"]),
        (&["--strength", "2", "--init", "init.png"], &["strength 2", "0.0 to 1.0"]),
        (&["--strength", "-0.1", "--init", "init.png"], &["strength -0.1", "0.0 to 1.0"]),
        (&["--strength", "0.5"], &["strength", "--init"]),
        (&["--strength", "0", "--init", "init.png"], &["strength 0", "no step would remain", "works"]),
        (&["--mask", "init.png"], &["mask", "--init"]),
        (&["--mask", "black.png", "--init", "init.png"], &["mask without white", "make white"]),
        (&["--sampler", "pndm", "--steps", "2"], &["steps 2", "pndm works from 4 steps on"]),
        (&["--sampler", "dpm3"], &["dpm3", "dpm++2m_karras", "euler_a"]),
        (&["--count", "0"], &["count 0", "use 1 to 64"]),
        (&["--count", "65"], &["count 65", "use 1 to 64"]),
        (&["--count", "2", "--seed", "18446744073709551615"], &["seed", "at most 18446744073709551614"]),
        (&["--seed", "18446744073709551616"], &["--seed", "too large"]),
        (&["--seed", "-1"], &["-1", "--seed", "leave it out for a random one"]),
        (&["--seed", "random"], &["random", "--seed", "leave it out for a random one"]),
        (&["--guidance", "much"], &["much", "--guidance", "use a number"]),
        (&["--negative", "--steps", "5"], &["--negative", "no text before the next option"]),
        (&["--clip-skip", "0"], &["clip skip 0", "leave it out"]),
        (&["--clip-skip", "4"], &["clip skip 4", "allows 1 to 3"]),
        (&["--threads", "0"], &["threads 0", "1 to 1024"]),
        (&["--threads", "100000"], &["threads 100000", "1 to 1024"]),
        (&["--device", "tpu"], &["tpu", "--device", "cpu, cuda, gpu"]),
        (&["--dtype", "f64"], &["f64", "--dtype", "f32, f16"]),
        (&["--crop", "7"], &["--crop", "such as 0x0"]),
        (&["--original-size", "7"], &["--original-size", "such as 1024x768"]),
        (&["--strength", "x"], &["--strength", "use a number from 0 to 1"]),
        (&["--eta", "x"], &["--eta", "use a number from 0 to 1"]),
        (&["--steps", "x"], &["--steps", "use a whole number, 1 or more"]),
        (&["--timesteps="], &["--timesteps", "use whole numbers with commas between them"]),
        (&["--sigmas", "x"], &["--sigmas", "use numbers with commas between them"]),
        (&["--sigmas", "3"], &["sigmas with a single one", "give two or more"]),
        (&["--wildcards", "nope"], &["wildcards nope", "give a folder that exists"]),
        (&["--original-size", "64x64"], &["original size 64x64", "conditioned"]),
        (&["--attention", "none"], &["none", "flash, sliced, full"]),
        (&["--long-prompt", "drop"], &["drop", "truncate, chunks"]),
        (&["--promt", "x"], &["--promt", "--prompt"]),
        (&["--budget", "1GB"], &["--budget", "--device gpu"]),
        (&["--profile"], &["--profile", "--device gpu"]),
        (&["--matrices"], &["--matrices", "--device gpu"]),
        (&["--tune", "always"], &["--tune", "--device gpu"]),
        (&["--tune", "never"], &["--tune", "--device gpu"]),
        (&["--clip-skip-counting", "a1111"], &["clip skip counting without", "--clip-skip"]),
        (&["--clip-skip-counting", "diffusers"], &["clip skip counting without", "--clip-skip"]),
        (&["--weights", "f32", "--dtype", "f16"], &["weights f32 with --dtype f16", "leave one of the two out"]),
        (&["surplus"], &["surplus"]),
    ];
    for (args, words) in table {
        // Without a seed the chosen one is printed as soon as the request looks drawable.
        let seed: &[&str] = if args.contains(&"--seed") { &[] } else { &["--seed", "1"] };
        desk.generate(&[&["--prompt", APPLE], seed, args].concat()).was_refused(REQUEST, words);
    }
    desk.generate(&[]).was_refused(REQUEST, &["--prompt"]);
    desk.run(&["generate", "--prompt", "x"]).was_refused(REQUEST, &["--model", "--output"]);
    desk.run(&["draw"]).was_refused(REQUEST, &["draw"]);
    assert_eq!(desk.names(), ["black.png", "init.png"]);
}

#[test]
fn models_that_are_none() {
    let desk = Desk::new();
    desk.put("picture.png", &red_half(8, 8));
    fs::create_dir(desk.path("empty")).unwrap();
    let table: &[(&str, i32, &[&str])] = &[
        ("v9", REQUEST, &["\"v9\"", "v1-5", "turbo", "owner/repo", "folder"]),
        ("", REQUEST, &["v1-5", "owner/repo", "folder"]),
        ("no/such/folder", REQUEST, &["no/such/folder", "owner/repo", "folder"]),
        ("owner/re po", REQUEST, &["owner/re po", "owner/name"]),
        ("./nowhere", MODEL, &["./nowhere", "no such folder"]),
        ("picture.png", MODEL, &["picture.png", "it is a picture"]),
        ("empty", MODEL, &["empty", "model_index.json"]),
        ("owner/repo", MODEL, &["owner/repo", "http://127.0.0.1:1", "network", "HF_ENDPOINT", "folder"]),
        ("turbo", MODEL, &["stabilityai/sdxl-turbo", "http://127.0.0.1:1", "network", "HF_ENDPOINT", "folder"]),
    ];
    for (model, code, words) in table {
        desk.generate(&["--prompt", APPLE, "--model", model]).was_refused(*code, words);
    }
    desk.run(&["download", "owner/repo"]).was_refused(MODEL, &["owner/repo", "network"]);
    desk.run(&["download", "v9"]).was_refused(REQUEST, &["v1-5", "owner/repo"]);
    let offline = desk.command(&["download", "owner/repo"]).env("HF_HUB_OFFLINE", "1").output().unwrap();
    assert_eq!(offline.status.code(), Some(MODEL));
    assert!(String::from_utf8_lossy(&offline.stderr).contains("HF_HUB_OFFLINE"));
    assert_eq!(desk.names(), ["empty", "picture.png"]);
}

/// A request that a version cannot draw is refused before gigabytes are downloaded for it: here there is no network, and
/// the message is not about that.
#[test]
fn versions_are_checked_before_they_are_downloaded() {
    let desk = Desk::new();
    desk.put("init.png", &red_half(64, 64));
    let table: &[(&str, &[&str], &[&str])] = &[
        ("v1-5", &["--width", "520"], &["width 520", "use 512 or 576", "--any-size"]),
        ("v1-5", &["--width", "513", "--any-size"], &["width 513", "use 512 or 520"]),
        ("xl", &["--width", "1000", "--height", "1000"], &["width 1000", "use 992 or 1024", "--any-size"]),
        ("xl", &["--steps", "0"], &["steps 0"]),
        ("v2-1", &["--clip-skip", "23"], &["clip skip 23", "1 to 22"]),
        ("xl-inpaint", &["--init", "init.png"], &["xl-inpaint", "--mask"]),
        ("v1-5-inpaint", &[], &["v1-5-inpaint", "--init, --mask"]),
        ("owner/repo", &["--guidance", "21"], &["guidance scale 21"]),
    ];
    for (model, args, words) in table {
        desk.generate(&[&["--prompt", APPLE, "--model", model], *args].concat()).was_refused(REQUEST, words);
    }
}

#[test]
fn pictures_that_cannot_be_read() {
    let desk = Desk::new();
    let bomb = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/image/bomb.png");
    fs::copy(bomb, desk.path("bomb.png")).unwrap();
    fs::write(desk.path("text.png"), "these are words\n").unwrap();
    fs::write(desk.path("empty.png"), "").unwrap();
    let whole = darkroom::image::encode_png(&fixture("apple.png"), &[]).unwrap();
    fs::write(desk.path("cut.png"), &whole[..whole.len() / 2]).unwrap();
    let garbage: Vec<u8> = whole.iter().enumerate().map(|(i, b)| if i < 40 { *b } else { b ^ 0x5a }).collect();
    fs::write(desk.path("garbage.png"), garbage).unwrap();
    desk.put("init.png", &red_half(64, 64));
    let before = desk.names();
    let table: &[(&str, &[&str])] = &[
        ("bomb.png", &["bomb.png", "16384"]),
        ("text.png", &["text.png: not a picture file that can be read: use PNG, JPEG, WebP, GIF, BMP or TIFF"]),
        ("empty.png", &["empty.png: the file is empty: use PNG, JPEG"]),
        ("cut.png", &["cut.png"]),
        ("garbage.png", &["garbage.png"]),
        ("nowhere.png", &["nowhere.png: there is no such file", "takes the file of a picture"]),
        (".", &[".: "]),
    ];
    for (name, words) in table {
        desk.generate(&["--prompt", APPLE, "--init", name]).was_refused(FILE, words);
        desk.generate(&["--prompt", APPLE, "--init", "init.png", "--mask", name]).was_refused(FILE, words);
        desk.run(&["show", name]).was_refused(FILE, &[*name]);
        assert!(!desk.run(&["show", name]).stderr.contains("os error"));
    }
    desk.run(&["show", "init.png"]).was_refused(FILE, &["init.png", "no parameters"]);
    assert_eq!(desk.names(), before);
}

#[test]
fn servers_that_cannot_start() {
    let desk = Desk::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().port().to_string();
    let queue = "use a whole number from 1 to 1000";
    let table: &[(&[&str], &[&str])] = &[
        (&["--queue", "x"], &["--queue", queue]),
        (&["--queue", "0"], &["--queue", queue]),
        (&["--queue", "-1"], &["--queue", queue]),
        (&["--queue", "99999999999999999999"], &["--queue", queue]),
        (&["--port", "x"], &["--port", "use a whole number from 0 to 65535"]),
        (&["--port", "65536"], &["--port", "use a whole number from 0 to 65535"]),
        (&["--max-side", "-1"], &["--max-side", "use a whole number from 8 to 4096"]),
        (&["--max-count", "65"], &["--max-count", "use a whole number from 1 to 64"]),
        (&["--memory", "-1"], &["--memory", "give bytes as a number"]),
        (&["--wildcards", "nope"], &["wildcards nope", "give a folder that exists"]),
        (&["--lora-dir", "nope"], &["lora_dir nope", "give a folder that exists"]),
        (&["--host", "nope.invalid"], &["host \"nope.invalid\"", "use --host localhost"]),
        (&["--host", "192.0.2.1", "--no-token"], &["host 192.0.2.1", "use --host localhost"]),
        (&["--port", &taken], &[&taken, "another program listens there", "use another --port"]),
    ];
    for (args, words) in table {
        desk.run(&[&["serve", "--model", model().to_str().unwrap()], *args].concat()).was_refused(REQUEST, words);
    }
    // Numbers of every command are refused in plain words.
    for (width, words) in
        [("-64", "use a whole number, 1 or more"), ("", "use a whole number"), ("9e9", "use a whole number")]
    {
        desk.run(&["plan", "--model", "xl", "--width", width])
            .was_refused(REQUEST, &["--width", words, "the version's"]);
    }
    // What other commands call --weights is here --type, and both are taken.
    desk.run(&["convert", "--model", "xl", "--weights", "q9", "-o", "x"]).was_refused(REQUEST, &["q9", "--type"]);
    for (option, output) in [("--type", "a.gguf"), ("--weights", "b.gguf")] {
        let model = model();
        desk.run(&["convert", "--model", model.to_str().unwrap(), option, "q4_0", "-o", output]).succeeded();
    }
    let read = |name: &str| std::fs::read(desk.path(name)).unwrap();
    assert!(read("a.gguf") == read("b.gguf"));
    std::fs::remove_file(desk.path("a.gguf")).unwrap();
    std::fs::remove_file(desk.path("b.gguf")).unwrap();
    desk.run(&["plan", "--model", "xl", "--guidance", "x"]).was_refused(REQUEST, &["--guidance", "use a number"]);
    if !cfg!(feature = "cuda") {
        let words = ["--device cpu or gpu", "./build.sh cuda"];
        desk.generate(&["--prompt", APPLE, "--device", "cuda"]).was_refused(DEVICE, &words);
    }
}

#[test]
fn help_names_no_source_code() {
    let desk = Desk::new();
    for command in ["generate", "serve", "plan", "show", "inspect", "convert", "models", "download"] {
        let help = desk.command(&[command, "--help"]).output().unwrap().stdout;
        let help = String::from_utf8(help).unwrap();
        assert!(help.contains("Usage:") && !help.contains("::"), "{command}: {help}");
    }
}

#[test]
fn outputs_that_cannot_be_written() {
    let desk = Desk::new();
    fs::create_dir(desk.path("folder.png")).unwrap();
    desk.put("kept.png", &red_half(8, 8));
    desk.put("kept-2.png", &red_half(8, 8));
    for name in ["kept.png", "kept-2.png"] {
        let mut permissions = fs::metadata(desk.path(name)).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(desk.path(name), permissions).unwrap();
    }
    std::os::unix::fs::symlink("circle.png", desk.path("circle.png")).unwrap();
    let too_long = format!("{}.png", "x".repeat(252));
    let before = desk.names();
    let table: &[(&[&str], i32, &[&str])] = &[
        (&["-o", "out.jpg"], REQUEST, &["out.jpg", ".png"]),
        (&["-o", "out"], REQUEST, &["output out", ".png"]),
        (&["-o", ""], REQUEST, &[".png"]),
        (&["-o", "nowhere/out.png"], REQUEST, &["nowhere/out.png", "folder must exist"]),
        (&["-o", "folder.png"], REQUEST, &["folder.png", "give another"]),
        (&["-o", "kept.png"], REQUEST, &["kept.png", "write-protected", "another name"]),
        (&["-o", "kept.png", "--count", "2"], REQUEST, &["kept-2.png", "write-protected"]),
        (&["-o", &too_long], FILE, &["too long"]),
        (&["-o", "circle.png"], FILE, &["circle.png"]),
    ];
    for (args, code, words) in table {
        desk.generate(&[&["--prompt", APPLE, "--steps", "1"], *args].concat()).was_refused(*code, words);
    }
    assert_eq!(desk.names(), before);
}

#[cfg(target_os = "linux")]
#[test]
fn standard_output_that_is_full() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Desk::new().command(&["models"]).stdout(full).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(FILE), "{stderr}");
    assert!(stderr.starts_with("darkroom: standard output: ") && stderr.lines().count() == 1, "{stderr}");
}

#[test]
fn devices_that_are_absent() {
    let desk = Desk::new();
    let generate = |device| desk.generate(&["--prompt", APPLE, "--device", device]);
    // Whether there is a GPU or not, these are refused before it is looked for.
    let on_gpu = |args: &[&str]| desk.generate(&[&["--prompt", APPLE, "--device", "gpu"], args].concat());
    on_gpu(&["--attention", "full"]).was_refused(REQUEST, &["attention", "leave out --attention"]);
    if cfg!(not(feature = "cuda")) {
        generate("cuda").was_refused(DEVICE, &["cuda", "--device cpu or gpu", "./build.sh cuda"]);
    }
    assert_eq!(desk.names(), [""; 0]);
}

/// A copy of the embedded model to break something in. Files that stay are linked where the system can.
fn copy_of_the_model(desk: &Desk) -> PathBuf {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy(&entry.path(), &target);
            } else if fs::hard_link(entry.path(), &target).is_err() {
                fs::copy(entry.path(), &target).unwrap();
            }
        }
    }
    let folder = desk.path("model");
    copy(&model(), &folder);
    folder
}

/// Replaces a file. Removed first: a linked one must not change where it came from.
fn replace(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A tensor of an edited file: name, shape, bytes (all float16).
type Tensor = (String, Vec<usize>, Vec<u8>);

/// Rewrites a safetensors file after `edit`.
fn edit_weights(path: &Path, edit: impl FnOnce(&mut Vec<Tensor>)) {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<Tensor> =
        file.iter().map(|(name, view)| (name.to_string(), view.shape().to_vec(), view.data().to_vec())).collect();
    edit(&mut tensors);
    let views = tensors.iter().map(|(name, shape, data)| {
        (name.clone(), TensorView::new(safetensors::Dtype::F16, shape.clone(), data).unwrap())
    });
    replace(path, &safetensors::serialize(views, None).unwrap());
}

const UNET: &str = "unet/diffusion_pytorch_model.fp16.safetensors";

/// One way to break a model, and what the message says about it.
struct Break {
    words: &'static [&'static str],
    how: fn(&Path),
}

#[test]
fn models_that_are_damaged() {
    let breaks = [
        Break {
            words: &["model_index.json"],
            how: |model| replace(&model.join("model_index.json"), b"{\"_class_name\": \"StableDiff"),
        },
        Break {
            words: &["unet/config.json", "line 1"],
            how: |model| replace(&model.join("unet/config.json"), b"{broken"),
        },
        Break { words: &["unet/config.json"], how: |model| replace(&model.join("unet/config.json"), b"[]") },
        Break { words: &["vae/config.json"], how: |model| fs::remove_file(model.join("vae/config.json")).unwrap() },
        Break {
            words: &["scheduler_config.json", "Nonsense"],
            how: |model| {
                let path = model.join("model_index.json");
                let text = fs::read_to_string(&path).unwrap();
                replace(&path, text.replace("DPMSolverMultistepScheduler", "NonsenseScheduler").as_bytes());
            },
        },
        Break { words: &["vocab.json"], how: |model| replace(&model.join("tokenizer/vocab.json"), b"{\"a\": \"b\"}") },
        Break { words: &["unet"], how: |model| fs::remove_file(model.join(UNET)).unwrap() },
        Break {
            words: &[UNET, "not a valid safetensors file"],
            how: |model| {
                let bytes = fs::read(model.join(UNET)).unwrap();
                replace(&model.join(UNET), &bytes[..bytes.len() / 2]);
            },
        },
        Break {
            words: &[UNET, "not a valid safetensors file"],
            how: |model| replace(&model.join(UNET), b"PK\x03\x04 a zip file"),
        },
        Break { words: &[UNET, "not a valid safetensors file"], how: |model| replace(&model.join(UNET), b"") },
        Break {
            words: &["mid_block.resnets.0.conv1.weight", "[192, 192, 3, 3]", "missing", UNET],
            how: |model| {
                edit_weights(&model.join(UNET), |tensors| {
                    tensors.retain(|(name, ..)| name != "mid_block.resnets.0.conv1.weight");
                });
            },
        },
        Break {
            words: &["conv_in.weight", "[48, 12, 3]", "[48, 4, 3, 3]", UNET],
            how: |model| {
                edit_weights(&model.join(UNET), |tensors| {
                    let tensor = tensors.iter_mut().find(|(name, ..)| name == "conv_in.weight").unwrap();
                    tensor.1 = vec![48, 12, 3];
                });
            },
        },
        // A message that quotes a hostile file stays one line without escape sequences.
        Break {
            words: &["evil"],
            how: |model| {
                edit_weights(&model.join(UNET), |tensors| {
                    tensors.push(("evil\n\u{1b}[31mdarkroom: done".into(), vec![1], vec![0; 2]));
                });
            },
        },
    ];
    for Break { words, how } in breaks {
        let desk = Desk::new();
        how(&copy_of_the_model(&desk));
        desk.generate(&["--prompt", APPLE, "--steps", "1", "--model", "./model"]).was_refused(MODEL, words);
        assert_eq!(desk.names(), ["model"]);
    }
    let desk = Desk::new();
    copy_of_the_model(&desk);
    desk.generate(&["--prompt", APPLE, "--steps", "1", "--model", "./model"]).succeeded();
}

/// Weights that are no numbers end in an error that names the stage and the tensor, never in a black picture.
#[test]
fn weights_that_are_no_numbers() {
    let desk = Desk::new();
    let folder = copy_of_the_model(&desk);
    edit_weights(&folder.join(UNET), |tensors| {
        let tensor = tensors.iter_mut().find(|(name, ..)| name == "conv_out.bias").unwrap();
        tensor.2.fill(0xff);
    });
    let args = ["--prompt", APPLE, "--seed", "1", "--steps", "2", "--model", "./model"];
    desk.generate(&args).was_refused(MODEL, &["step 1", "not finite", "conv_out.bias"]);
    assert_eq!(desk.names(), ["model"]);
}
