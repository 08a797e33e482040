//! Where LoRAs may come from on the command line, and models that are written with them: files, repositories, addresses and
//! tags all draw the picture of the file, and so does a converted model.
#![cfg(all(not(target_arch = "wasm32"), feature = "cli"))]

#[path = "cli/desk.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod desk;
#[allow(dead_code, reason = "the Hub behaves here")]
mod hub_server;
#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/tiny.rs"]
mod tiny;

use std::path::PathBuf;

use darkroom::image::RgbImage;
use desk::{Desk, Run, difference};
use hub_server::Hub;

const PROMPT: &str = "a photo of a red fox in the snow";

/// A folder to run in, with the tiny Stable Diffusion 1.5 in `model`.
struct Place {
    desk: Desk,
}

fn fixture(name: &str) -> PathBuf {
    tiny::fixtures_dir().join("lora").join(format!("{name}.safetensors"))
}

impl Place {
    fn new() -> Self {
        let desk = Desk::new();
        tiny::write_model("v1-5", &desk.path("model"), tiny::Style::F32);
        for name in ["kohya", "locon", "kohya-xl"] {
            std::fs::copy(fixture(name), desk.path(&format!("{name}.safetensors"))).unwrap();
        }
        Place { desk }
    }

    fn args(&self, model: &str, prompt: &str, more: &[&str]) -> Vec<String> {
        let args = [
            "generate", "--model", model, "--prompt", prompt, "--seed", "7", "--steps", "2", "--width", "64",
            "--height", "64", "-o", "out.png",
        ];
        args.iter().chain(more).map(|arg| (*arg).to_owned()).collect()
    }

    fn run(&self, prompt: &str, more: &[&str]) -> Run {
        let args = self.args("model", prompt, more);
        self.desk.run(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn draw(&self, prompt: &str, more: &[&str]) -> RgbImage {
        self.run(prompt, more).succeeded();
        self.desk.picture("out.png")
    }

    /// Draws with another model, where nothing is added.
    fn draw_with(&self, model: &str) -> RgbImage {
        let args = self.args(model, PROMPT, if model.contains('.') { &["--config", "model"] } else { &[] });
        self.desk.run(&args.iter().map(String::as_str).collect::<Vec<_>>()).succeeded();
        self.desk.picture("out.png")
    }
}

#[test]
fn a_converted_model_draws_what_its_loras_do() {
    let place = Place::new();
    let plain = place.draw(PROMPT, &[]);
    let two = ["--lora", "kohya.safetensors:0.8:0.5", "--lora", "locon.safetensors:-0.6"];
    let expected = place.draw(PROMPT, &two);
    assert!(difference(&plain, &expected) > 20, "the LoRAs hardly show");
    for (output, stored, most) in [
        ("whole", "f32", 0),
        ("whole.safetensors", "f32", 0),
        // Rounded once to 16 bits.
        ("half", "f16", 2),
        ("whole.gguf", "f32", 0),
    ] {
        let args = [&["convert", "--model", "model", "-o", output, "--type", stored][..], &two].concat();
        place.desk.run(&args).succeeded();
        let got = place.draw_with(output);
        assert!(difference(&got, &expected) <= most, "{output}: {}", difference(&got, &expected));
    }
    let args = ["convert", "--model", "model", "-o", "none", "--lora", "kohya-xl.safetensors"];
    place.desk.run(&args).was_refused(3, &["kohya-xl", "XL"]);
    assert!(!place.desk.path("none").exists());
}

/// What a LoRA changes in a model of 16 bits is a sum in f32, which the output's type rounds, and nothing before.
#[test]
fn a_converted_model_is_rounded_once() {
    let place = Place::new();
    tiny::write_model("v1-5", &place.desk.path("half"), tiny::Style::F16);
    let convert = |output: &str, lora: &str, stored: &str| {
        place.desk.run(&["convert", "--model", "half", "-o", output, "--type", stored, "--lora", lora])
    };
    let unet = |output: &str| {
        let folder = place.desk.path(output).join("unet");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let file = files.filter(|file| file.extension().is_some_and(|ending| ending == "safetensors")).last().unwrap();
        let bytes = std::fs::read(file).unwrap();
        let found = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let tensor = found.tensor("down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k.weight").unwrap();
        (tensor.dtype(), tensor.data().to_vec())
    };
    convert("f32", "kohya.safetensors:0.7", "f32").succeeded();
    let (dtype, bytes) = unet("f32");
    let sums: Vec<f32> = bytes.chunks(4).map(|each| f32::from_le_bytes(each.try_into().unwrap())).collect();
    assert_eq!(dtype, safetensors::Dtype::F32);
    let n_halves = sums.iter().filter(|value| half::f16::from_f32(**value).to_f32() == **value).count();
    assert!(n_halves < sums.len() / 2, "{n_halves} of {} values have 16 bits", sums.len());
    for (stored, expected) in
        [("keep", safetensors::Dtype::F16), ("f16", safetensors::Dtype::F16), ("bf16", safetensors::Dtype::BF16)]
    {
        convert(stored, "kohya.safetensors:0.7", stored).succeeded();
        let (dtype, bytes) = unet(stored);
        assert_eq!(dtype, expected);
        let rounded: Vec<u8> = match stored {
            "bf16" => sums.iter().flat_map(|value| half::bf16::from_f32(*value).to_le_bytes()).collect(),
            _ => sums.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect(),
        };
        assert!(bytes == rounded, "{stored}");
    }
    // Sums that the type does not hold, and that no type holds.
    std::fs::write(place.desk.path("large.safetensors"), lora_of(1e7)).unwrap();
    convert("none", "large.safetensors", "keep").was_refused(2, &["65504", "f32"]);
    convert("large", "large.safetensors", "f32").succeeded();
    std::fs::write(place.desk.path("huge.safetensors"), lora_of(3e38)).unwrap();
    convert("none", "huge.safetensors", "f32").was_refused(3, &["huge.safetensors", "lower its strength"]);
    place.run(PROMPT, &["--lora", "huge.safetensors"]).was_refused(3, &["huge.safetensors", "lower its strength"]);
    assert!(!place.desk.path("none").exists());
}

/// A LoRA that adds ten times `alpha` to all of one matrix.
fn lora_of(alpha: f32) -> Vec<u8> {
    use safetensors::tensor::{Dtype, TensorView};
    let module = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_k";
    let bytes = |n: usize, value: f32| value.to_le_bytes().repeat(n);
    let (up, down, alpha) = (bytes(32, 1.0), bytes(32, 10.0), alpha.to_le_bytes());
    let view = |shape: &[usize], bytes| TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap();
    let tensors = [
        (format!("{module}.lora_up.weight"), view(&[32, 1], &up[..])),
        (format!("{module}.lora_down.weight"), view(&[1, 32], &down[..])),
        (format!("{module}.alpha"), view(&[], &alpha[..])),
    ];
    safetensors::serialize(tensors, None).unwrap()
}

#[test]
fn repositories_and_addresses_are_files() {
    let place = Place::new();
    let expected = place.draw(PROMPT, &["--lora", "kohya.safetensors:0.7:0.2"]);
    let second = place.draw(PROMPT, &["--lora", "locon.safetensors"]);
    let read = |name: &str| std::fs::read(fixture(name)).unwrap();
    let one = Hub::start_as("someone/style", vec![("pytorch_lora_weights.safetensors".into(), read("kohya"))]);
    let many = vec![("a/kohya.safetensors".to_owned(), read("kohya")), ("locon.safetensors".to_owned(), read("locon"))];
    let many = Hub::start_as("someone/styles", many);
    let draw = |hub: &Hub, lora: &str| {
        let args = place.args("model", PROMPT, &["--lora", lora]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Run::of(place.desk.command(&args).env("HF_ENDPOINT", &hub.endpoint))
    };
    let address = |hub: &Hub, path: &str| format!("{}{path}", hub.endpoint);
    for (hub, lora, picture) in [
        (&one, "someone/style:0.7:0.2".to_owned(), &expected),
        (&one, "someone/style/pytorch_lora_weights.safetensors:0.7:0.2".to_owned(), &expected),
        (&many, "someone/styles/a/kohya.safetensors:0.7:0.2".to_owned(), &expected),
        (&many, "someone/styles@main/locon.safetensors".to_owned(), &second),
        (&many, address(&many, "/someone/styles/resolve/main/a/kohya.safetensors:0.7:0.2"), &expected),
        (&many, address(&many, "/files/locon.safetensors"), &second),
    ] {
        draw(hub, &lora).succeeded();
        assert!(place.desk.picture("out.png") == *picture, "{lora}");
    }
    // Once more, from the cache.
    assert!(one.take_body_bytes() > 0);
    draw(&one, "someone/style:0.7:0.2").succeeded();
    assert_eq!(one.take_body_bytes(), 0);
    // The one that does not lie in a folder.
    draw(&many, "someone/styles").succeeded();
    assert!(place.desk.picture("out.png") == second);
    draw(&many, "someone/styles/none.safetensors").was_refused(3, &["none.safetensors"]);
    draw(&many, "someone/nobody").was_refused(3, &["someone/nobody"]);
}

#[test]
fn tags_name_files_of_a_folder() {
    let place = Place::new();
    std::fs::create_dir_all(place.desk.path("loras/deep")).unwrap();
    for (from, to) in [("kohya", "loras/deep/ink.safetensors"), ("locon", "loras/locon.safetensors")] {
        std::fs::copy(fixture(from), place.desk.path(to)).unwrap();
    }
    let dir = ["--lora-dir", "loras"];
    // A is for the text encoder and B for the UNet.
    for (tags, given) in [
        ("<lora:ink:0.8>", &["--lora", "kohya.safetensors:0.8"][..]),
        ("<lora:INK>", &["--lora", "kohya.safetensors"]),
        ("<lora:ink:0.3:1>", &["--lora", "kohya.safetensors:1:0.3"]),
        // The name in its metadata.
        ("<lora:tiny style:0.8>", &["--lora", "kohya.safetensors:0.8"]),
        ("<lora:ink:0.6> <lora:locon:0.8>", &["--lora", "kohya.safetensors:0.6", "--lora", "locon.safetensors:0.8"]),
        ("<lora:ink:0>", &[]),
        ("<lora:ink:0:0><lora:locon:0>", &["--lora", "kohya.safetensors:0", "--lora", "locon.safetensors:0:0"]),
    ] {
        let expected = place.draw(PROMPT, given);
        assert!(place.draw(&format!("{PROMPT}{tags}"), &dir) == expected, "{tags}");
    }
    let plain = place.draw(PROMPT, &[]);
    assert!(place.draw(PROMPT, &["--lora", "kohya.safetensors:0"]) == plain);
    assert!(place.draw(PROMPT, &dir) == plain);
    // Tags beside files.
    let both = place.draw(PROMPT, &["--lora", "kohya.safetensors:0.6", "--lora", "locon.safetensors:0.8"]);
    let mixed = [&dir[..], &["--lora", "kohya.safetensors:0.6"]].concat();
    assert!(place.draw(&format!("{PROMPT}<lora:locon:0.8>"), &mixed) == both);
    place.run("a fox <lora:none:1>", &dir).was_refused(2, &["none", "ink, locon"]);
    place.run("a fox", &["--lora-dir", "nowhere"]).was_refused(2, &["nowhere"]);
    place.run("a fox", &["--lora", "kohya-xl.safetensors"]).was_refused(3, &["kohya-xl", "XL"]);
    // Neither a file nor a strength.
    for (option, name) in [("--lora", "./none.safetensors"), ("--lora", "none.safetensors:0.5"), ("--vae", "./none")] {
        let path = name.trim_end_matches(":0.5");
        let words = [&format!("{path}: no such file"), "give the path of a file", "owner/repo, "];
        place.run("a fox", &[option, name]).was_refused(3, &words);
    }
    place.run("a fox", &["--embedding", "./none.pt"]).was_refused(3, &["./none.pt: no such file", "give the path"]);
    for strengths in [":1:abc", "::", ":1:"] {
        let wrong = format!("{:?}", strengths.rsplit(':').next().unwrap());
        let name = format!("./none.safetensors{strengths}");
        place.run("a fox", &["--lora", &name]).was_refused(2, &["--lora", "the strength", &wrong, "is not a number"]);
    }
    // Two of one name are told by where they are.
    std::fs::create_dir_all(place.desk.path("loras/more")).unwrap();
    std::fs::copy(fixture("locon"), place.desk.path("loras/more/ink.safetensors")).unwrap();
    place.run("a fox <lora:ink:1>", &dir).was_refused(2, &["ink", "deep/ink or more/ink"]);
    place.run("a fox <lora:none:1>", &dir).was_refused(2, &["deep/ink, locon, more/ink"]);
    for (name, file) in [("deep/ink", "kohya"), ("more/ink", "locon")] {
        let expected = place.draw(PROMPT, &["--lora", &format!("{file}.safetensors:0.8")]);
        assert!(place.draw(&format!("{PROMPT}<lora:{name}:0.8>"), &dir) == expected, "{name}");
    }
    std::fs::copy(fixture("kohya-xl"), place.desk.path("loras/big.safetensors")).unwrap();
    place.run("a fox <lora:big:1>", &dir).was_refused(3, &["big", "XL"]);
}
