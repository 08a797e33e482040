//! Where noise comes from, presets, prompts that choose, and the settings of other programs' pictures.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::desk::{APPLE, Desk};

const QUICK: [&str; 6] = ["--prompt", APPLE, "--steps", "2", "--seed", "3"];

#[test]
fn philox_is_another_noise_of_the_same_seed() {
    let desk = Desk::new();
    let cpu = desk.draw(&QUICK);
    assert!(desk.shown("out.png").get("noise").is_none());
    let philox = desk.draw(&[&QUICK[..], &["--noise", "philox"]].concat());
    assert_ne!(philox, cpu);
    assert_eq!(desk.shown("out.png")["noise"], "philox");
    assert!(desk.run(&["show", "out.png"]).stdout.contains(", RNG: NV"));
    // An ancestral sampler draws on; pictures of a row are those of their seeds.
    let args = ["--noise", "philox", "--sampler", "euler_a"];
    desk.generate(&[&QUICK[..], &args, &["--count", "2"]].concat()).succeeded();
    let second = desk.picture("out-2.png");
    assert_eq!(desk.draw(&[&QUICK[..4], &["--seed", "4"], &args].concat()), second);
    assert_eq!(desk.draw(&[&QUICK[..], &["--noise", "cpu"]].concat()), cpu);
    desk.generate(&[&QUICK[..], &["--noise", "gpu"]].concat()).was_refused(2, &["gpu", "cpu, philox"]);
}

#[test]
fn presets_fill_what_is_left_out() {
    let desk = Desk::new();
    let args = ["--prompt", APPLE, "--seed", "3"];
    for (preset, steps, sampler) in
        [("lightning-4", 4, "euler"), ("lcm", 4, "lcm"), ("hyper-8", 8, "tcd"), ("turbo", 4, "euler_a")]
    {
        desk.generate(&[&args[..], &["--preset", preset]].concat()).succeeded();
        let shown = desk.shown("out.png");
        assert_eq!((shown["steps"].as_u64(), shown["sampler"].as_str()), (Some(steps), Some(sampler)), "{preset}");
        assert_eq!(shown["guidance_scale"], 1.0, "{preset}");
        assert_eq!(shown["spacing"] == "trailing", ["euler", "euler_a"].contains(&sampler), "{preset}");
    }
    desk.generate(&[&args[..], &["--preset", "turbo", "--steps", "1", "--guidance", "2"]].concat()).succeeded();
    let shown = desk.shown("out.png");
    assert_eq!((shown["steps"].as_u64(), shown["guidance_scale"].as_f64()), (Some(1), Some(2.0)));
    desk.generate(&[&args[..], &["--preset", "warp"]].concat()).was_refused(2, &["warp", "lightning-4"]);
    let spaced = ["--sampler", "lcm", "--spacing", "trailing"];
    desk.generate(&[&args[..], &spaced].concat()).was_refused(2, &["spacing", "lcm", "euler"]);
}

#[test]
fn prompts_choose_by_the_seed() {
    let desk = Desk::new();
    fs::create_dir_all(desk.path("cards/far")).unwrap();
    fs::write(desk.path("cards/animal.txt"), "# animals\nfox\nowl\n{red|blue} bear\n").unwrap();
    fs::write(desk.path("cards/far/place.txt"), "moor\n").unwrap();
    let template = "a __animal__ on the __far/place__, {day|night|dawn}";
    let args = ["--prompt", template, "--steps", "1", "--wildcards", "cards"];
    desk.generate(&[&args[..], &["--seed", "5", "--count", "3"]].concat()).succeeded();
    let mut prompts = Vec::new();
    for n in 1..=3 {
        let name = format!("out-{n}.png");
        let shown = desk.shown(&name);
        let prompt = shown["prompt"].as_str().unwrap().to_owned();
        assert!(prompt.contains(" on the moor, ") && !prompt.contains(['_', '{', '|']), "{prompt}");
        assert_eq!((shown["template"].as_str(), shown["seed"].as_u64()), (Some(template), Some(4 + n)));
        // Alone, that seed gives the same; so does the prompt that is written down.
        let seed = (4 + n).to_string();
        let alone = desk.draw(&[&args[..], &["--seed", &seed]].concat());
        assert_eq!(alone, desk.picture(&name));
        assert_eq!(desk.draw(&["--prompt", &prompt, "--steps", "1", "--seed", &seed]), alone);
        prompts.push(prompt);
    }
    assert!(prompts.iter().any(|prompt| *prompt != prompts[0]), "{prompts:?}");
    let missing = ["--prompt", "a __anmal__", "--wildcards", "cards"];
    desk.generate(&missing).was_refused(2, &["__anmal__", "animal, far/place"]);
    desk.generate(&["--prompt", "x", "--wildcards", "nowhere"])
        .was_refused(2, &["wildcards nowhere", "give a folder that exists"]);
    let run = desk.generate(&["--prompt", "a __animal__", "--steps", "1", "--seed", "1"]);
    run.succeeded();
    assert!(run.stderr.contains("note: __animal__ is text: no folder of wildcards is given (--wildcards)"), "{run:?}");
    assert_eq!(desk.shown("out.png")["prompt"], "a __animal__");
}

#[test]
fn show_tells_how_to_draw_another_programs_picture() {
    let desk = Desk::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/metadata");
    for name in ["a1111.png", "comfy.webp"] {
        fs::copy(folder.join(name), desk.path(name)).unwrap();
    }
    let run = desk.run(&["show", "a1111.png"]);
    run.succeeded();
    for line in [
        "written by AUTOMATIC1111\n",
        "\nmodel: v1-5-pruned-emaonly (hash 6ce0161689)\n",
        "\nLoRA: add_detail, strength 1, text encoder 0.5 (hash 7c6bad76eb54)\n",
        "\nembedding: bad_hands (hash aa7651be154c)\n",
        "\nto draw it again: darkroom generate --model v1-5-pruned-emaonly --prompt 'a lighthouse",
        "--lora-dir LORAS",
        "--noise philox",
        "\nnote: its noise is of torch's CUDA generator, which --noise philox gives\n",
    ] {
        assert!(run.stdout.contains(line), "no {line:?} in {}", run.stdout);
    }
    let run = desk.run(&["show", "comfy.webp", "--json"]);
    run.succeeded();
    let object: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((object["program"].as_str(), &object["steps"]), (Some("ComfyUI"), &json!(24)));
    assert!(object["command"].as_str().unwrap().contains("--seed 18446744073709551615"));
    desk.generate(&QUICK).succeeded();
    let own: Value = serde_json::from_str(&desk.run(&["show", "out.png", "--json"]).stdout).unwrap();
    assert_eq!((own["program"].as_str(), own["notes"].as_array().map(Vec::len)), (Some("darkroom"), Some(0)));
}
