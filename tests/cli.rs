//! The command line as people and programs use it: the real binary on the model that the page embeds, judged by its exit
//! code, its two streams and the files it leaves. What it refuses is in cli/refusals.rs.
//!
//! No test here reaches a network: the Hub's address is a closed port, and the cache an empty folder.
#![cfg(not(target_arch = "wasm32"))]

#[path = "cli/choices.rs"]
mod choices;
#[path = "cli/desk.rs"]
mod desk;
#[path = "common/gpu.rs"]
mod gpu;
#[path = "cli/only_masked.rs"]
mod only_masked;
#[path = "cli/outpaint.rs"]
mod outpaint;
#[path = "cli/pictures.rs"]
mod pictures;
#[path = "cli/plan.rs"]
mod plan;
#[path = "cli/refusals.rs"]
mod refusals;
#[path = "cli/threads.rs"]
mod threads;
#[path = "cli/variation.rs"]
mod variation;

use darkroom::image::RgbImage;
use darkroom::model::SDVersion;
use darkroom::sampler::SamplerKind;
use desk::{APPLE, Desk, Run, assert_parity, difference, fixture, mean_difference, red_half, white_left};
use serde_json::Value;

/// 200 words, more tokens than the text encoder takes at once.
fn long_prompt() -> String {
    let words = ["red", "apple", "on", "a", "blue", "background", "with", "green", "leaves", "there"];
    words.repeat(20).join(" ")
}

#[test]
fn the_picture_is_that_of_diffusers() {
    let desk = Desk::new();
    let got = desk.draw(&["--prompt", APPLE, "--seed", "1", "--steps", "6", "--guidance", "4"]);
    assert_eq!((got.width, got.height), (128, 128), "the size that the model's own config says");
    assert_parity("cli-apple", &got, &fixture("apple.png"));
}

#[test]
fn sides_may_differ() {
    let got = Desk::new().draw(&["--prompt", APPLE, "--steps", "1", "--width", "160", "--height", "96"]);
    assert_eq!((got.width, got.height), (160, 96));
}

#[test]
fn sides_may_be_any_multiple_of_8_on_request() {
    let desk = Desk::new();
    let at = |size: [&str; 4], more: &[&str]| {
        let args = ["--prompt", APPLE, "--seed", "1", "--steps", "2", "--any-size"];
        let drawn = desk.draw(&[&args[..], &size[..], more].concat());
        assert_eq!(desk.shown("out.png")["any_size"], true);
        (drawn.width, drawn.height)
    };
    let small = ["--width", "72", "--height", "40"];
    assert_eq!(at(small, &[]), (72, 40));
    desk.put("init.png", &red_half(100, 60));
    desk.put("mask.png", &white_left(100, 60));
    assert_eq!(at(small, &["--init", "init.png"]), (72, 40));
    assert_eq!(at(small, &["--init", "init.png", "--mask", "mask.png"]), (72, 40));
    // Without a size the start picture's own, rounded down to multiples of 8.
    let drawn = desk.draw(&["--prompt", "x", "--steps", "2", "--any-size", "--init", "init.png"]);
    assert_eq!((drawn.width, drawn.height), (96, 56));
    desk.draw(&["--prompt", APPLE, "--steps", "1", "--width", "64", "--height", "64"]);
    assert!(desk.shown("out.png").get("any_size").is_none(), "only where it was asked for");
}

#[test]
fn a_start_picture_keeps_its_size_unless_another_is_asked_for() {
    let desk = Desk::new();
    let wide = red_half(200, 100);
    desk.put("wide.png", &wide);
    let args = ["--prompt", "x", "--seed", "1", "--steps", "2", "--guidance", "1", "--init", "wide.png"];
    let size = |more: &[&str]| {
        let drawn = desk.draw(&[&args[..], more].concat());
        (drawn.width, drawn.height)
    };
    assert_eq!(size(&[]), (192, 96), "its own, rounded down to multiples of 32");
    assert_eq!(size(&["--width", "96"]), (96, 64), "the other side in proportion");
    assert_eq!(size(&["--width", "64", "--height", "64"]), (64, 64));
    // What the mask keeps is the picture, brought to the size as asked.
    let kept = |fit: &str| {
        let mask = ["--mask", "mask.png", "--width", "64", "--height", "64", "--fit", fit];
        desk.put("mask.png", &white_left(64, 64));
        let drawn = desk.draw(&[&args[..], &mask].concat());
        let expected = wide.fitted(64, 64, fit.parse().expect("a fit"));
        let differs = |x: usize| {
            (0..64).any(|y| {
                (0..3).any(|c| {
                    let at = (y * 64 + x) * 3 + c;
                    drawn.pixels[at] != expected.pixels[at]
                })
            })
        };
        assert!((32..64).all(|x| !differs(x)), "{fit}: the part that is kept is another one");
    };
    ["stretch", "crop", "pad"].into_iter().for_each(kept);
    desk.generate(&["--prompt", "x", "--fit", "crop"]).was_refused(2, &["fit without a picture", "--init"]);
}

#[test]
fn image_to_image_departs_from_its_picture_by_strength() {
    let desk = Desk::new();
    desk.put("init.png", &fixture("apple.png"));
    let at = |strength| {
        let args = ["--prompt", "a yellow lemon", "--steps", "6", "--seed", "3", "--init", "init.png"];
        desk.draw(&[&args[..], &["--strength", strength]].concat())
    };
    let init = fixture("apple.png");
    let far = ["0.2", "0.5", "1"].map(|strength| mean_difference(&at(strength), &init));
    assert!(0.0 < far[0] && far[0] < far[1] && far[1] < far[2], "more strength, more change: {far:?}");
}

#[test]
fn inpainting_leaves_what_is_not_white_untouched() {
    let desk = Desk::new();
    let init = fixture("apple.png");
    desk.put("init.png", &init);
    desk.put("mask.png", &white_left(128, 128));
    let args = ["--prompt", "a yellow lemon", "--steps", "4", "--init", "init.png", "--mask", "mask.png"];
    let got = desk.draw(&args);
    let half = |picture: &RgbImage, left: bool| -> Vec<u8> {
        let rows = picture.pixels.chunks_exact(128 * 3);
        rows.flat_map(|row| if left { &row[..64 * 3] } else { &row[64 * 3..] }.to_vec()).collect()
    };
    assert_eq!(half(&got, false), half(&init, false), "the kept half");
    assert_ne!(half(&got, true), half(&init, true), "the repainted half");
}

#[test]
fn count_draws_the_next_seeds() {
    let desk = Desk::new();
    let args = ["--prompt", APPLE, "--steps", "2"];
    let run = desk.generate(&[&args[..], &["--seed", "7", "--count", "2"]].concat());
    run.succeeded();
    assert_eq!(run.stdout, "out-1.png\nout-2.png\n");
    assert_eq!(desk.names(), ["out-1.png", "out-2.png"], "and no out.png");
    for (name, seed) in [("out-1.png", "7"), ("out-2.png", "8")] {
        let single = desk.draw(&[&args[..], &["--seed", seed]].concat());
        assert_eq!(desk.picture(name), single, "{name} and seed {seed}");
        assert_eq!(desk.shown(name)["seed"].to_string(), seed);
    }
}

#[test]
fn json_is_one_object_about_the_run() {
    let desk = Desk::new();
    let run = desk.generate(&["--prompt", APPLE, "--steps", "2", "--seed", "5", "--guidance", "3.5", "--json"]);
    run.succeeded();
    assert_eq!(run.stdout.lines().count(), 1, "{}", run.stdout);
    assert_eq!(run.stderr, "");
    let object: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(object["seed"], 5);
    assert_eq!(object["steps"], 2);
    assert_eq!(object["guidance_scale"], 3.5);
    assert_eq!(object["sampler"], "dpm++2m");
    assert_eq!(object["files"], serde_json::json!(["out.png"]));
    for stage in ["load", "encode", "denoise", "decode"] {
        let seconds = object["seconds"][stage].as_f64().unwrap();
        assert!(seconds > 0.0 && seconds < 600.0, "{stage} took {seconds} s");
    }
    if cfg!(target_os = "linux") {
        let bytes = object["peak_memory_bytes"].as_u64().unwrap();
        assert!((20 << 20..8 << 30).contains(&bytes), "{bytes} bytes");
    }
}

#[test]
fn without_a_seed_one_is_chosen_printed_and_good_for_another_run() {
    let desk = Desk::new();
    let args = ["--prompt", APPLE, "--steps", "2"];
    let run = desk.generate(&args);
    run.succeeded();
    assert_eq!(run.stdout, "out.png\n", "standard output has the name and nothing else");
    let seed = run.stderr.trim_end().strip_prefix("seed ").unwrap_or_else(|| panic!("{}", run.stderr));
    let first = desk.picture("out.png");
    assert_eq!(desk.draw(&[&args[..], &["--seed", seed]].concat()), first);

    let run = desk.generate(&[&args[..], &["--json"]].concat());
    let object: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_ne!(object["seed"].to_string(), seed, "another run has another seed");
}

#[test]
fn show_prints_what_draws_the_picture_again() {
    let desk = Desk::new();
    desk.put("init.png", &fixture("apple.png"));
    let prompt = "ein roter Apfel, 赤いりんご\nzwei: \"Zeilen\"";
    let args = ["--prompt", prompt, "--negative", "blue, green", "--steps", "5", "--seed", "18446744073709551615"];
    let more = ["--guidance", "3.3", "--init", "init.png", "--strength", "0.7", "--width", "160", "--height", "128"];
    let first = desk.draw(&[&args[..], &more].concat());

    let run = desk.run(&["show", "out.png"]);
    run.succeeded();
    assert!(run.stdout.starts_with("parameters:\n"), "{}", run.stdout);
    let settings = "Steps: 5, Sampler: DPM++ 2M, CFG scale: 3.3, Seed: 18446744073709551615, Size: 160x128";
    for part in [prompt, "\nNegative prompt: blue, green\n", settings, "Denoising strength: 0.7"] {
        assert!(run.stdout.contains(part), "no {part} in\n{}", run.stdout);
    }
    let shown = desk.shown("out.png");
    let text = |key: &str| shown[key].as_str().map_or_else(|| shown[key].to_string(), str::to_string);
    let flags = [
        ("--prompt", "prompt"),
        ("--negative", "negative_prompt"),
        ("--steps", "steps"),
        ("--seed", "seed"),
        ("--sampler", "sampler"),
        ("--guidance", "guidance_scale"),
        ("--width", "width"),
        ("--height", "height"),
        ("--strength", "strength"),
    ];
    let mut again = vec!["--init".to_string(), "init.png".to_string()];
    again.extend(flags.iter().flat_map(|(flag, key)| [flag.to_string(), text(key)]));
    assert_eq!(desk.draw(&again.iter().map(String::as_str).collect::<Vec<_>>()), first);
}

#[test]
fn models_lists_the_seven_versions() {
    let desk = Desk::new();
    let run = desk.run(&["models"]);
    run.succeeded();
    assert_eq!(run.stdout.lines().count(), SDVersion::ALL.len());
    for (line, version) in run.stdout.lines().zip(SDVersion::ALL) {
        assert!(line.starts_with(version.key()) && line.ends_with(version.repository()), "{line}");
        assert!(line.contains(" GB ") && line.contains("not cached"), "{line}");
    }
    let run = desk.run(&["models", "--json"]);
    run.succeeded();
    let rows: Vec<Value> = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(rows.len(), SDVersion::ALL.len());
    for (row, version) in rows.iter().zip(SDVersion::ALL) {
        assert_eq!(row["version"], version.key());
        assert_eq!(row["cached"], false);
        assert_eq!(row["cached_bytes"], 0);
        assert_eq!(row["bytes"].as_u64(), Some(version.approximate_download_bytes()));
    }
}

#[test]
fn every_sampler_draws_its_own_picture() {
    let desk = Desk::new();
    let mut pictures: Vec<(SamplerKind, RgbImage)> = Vec::new();
    for kind in SamplerKind::ALL {
        let got = desk.draw(&["--prompt", APPLE, "--seed", "1", "--steps", "4", "--sampler", kind.name()]);
        assert_eq!(desk.shown("out.png")["sampler"], kind.name());
        let (min, max) = (got.pixels.iter().min().unwrap(), got.pixels.iter().max().unwrap());
        assert!(max - min > 50, "{kind}: levels from {min} to {max} are no picture");
        for (other, picture) in &pictures {
            assert_ne!(&got, picture, "{kind} and {other} draw the same");
        }
        pictures.push((kind, got));
    }
}

#[test]
fn threads_attention_and_dtype_do_not_change_the_picture() {
    let desk = Desk::new();
    let draw = |more: &[&str]| {
        desk.draw(&[&["--prompt", APPLE, "--seed", "1", "--steps", "4", "--guidance", "4"], more].concat())
    };
    let plain = draw(&[]);
    let ways: [&[&str]; 7] = [
        &["--threads", "1"],
        &["--threads", "2"],
        &["--attention", "flash"],
        &["--attention", "sliced"],
        &["--attention", "full"],
        &["--dtype", "f16"],
        &["--device", "cpu", "--dtype", "f32"],
    ];
    for way in ways {
        let max = difference(&draw(way), &plain);
        assert!(max <= 1, "{way:?} changes a level by {max}");
    }
}

#[test]
fn long_prompts_are_cut_and_reported_or_encoded_in_chunks() {
    let desk = Desk::new();
    let prompt = long_prompt();
    let draw = |prompt: &str, more: &[&str]| {
        let run = desk.generate(&[&["--prompt", prompt, "--seed", "2", "--steps", "2"], more].concat());
        run.succeeded();
        (desk.picture("out.png"), run.stderr)
    };
    let (cut, said) = draw(&prompt, &["--long-prompt", "truncate"]);
    let line = said.trim_end();
    assert!(line.starts_with("the prompt has ") && line.contains(" tokens of at most 75; cut: "), "{said}");
    let rest = line.split_once("cut: ").unwrap().1;
    let kept = prompt.strip_suffix(rest).unwrap_or_else(|| panic!("{rest:?} is no end of the prompt"));
    let (short, said) = draw(kept, &[]);
    assert_eq!(said, "", "75 tokens are not too many");
    assert_eq!(cut, short, "what was cut has no effect");

    let (whole, said) = draw(&prompt, &["--long-prompt", "chunks"]);
    assert_eq!(said, "");
    assert_ne!(whole, cut, "what was not cut has one");
    assert_eq!(draw(&prompt, &[]).0, whole, "nothing is cut where nothing is said");
    let (plain, said) = draw(&prompt, &["--prompt-syntax", "plain"]);
    assert_eq!(plain, cut, "without a syntax as diffusers does");
    assert!(said.contains("; cut: "), "{said}");
    let (_, said) = draw("an apple", &["--negative", &prompt, "--long-prompt", "truncate"]);
    assert!(said.starts_with("the negative prompt has "), "{said}");
}

#[test]
fn prompts_have_syntax() {
    let desk = Desk::new();
    let draw = |syntax: &str, prompt: &str| {
        let run = desk.generate(&["--prompt", prompt, "--seed", "1", "--steps", "2", "--prompt-syntax", syntax]);
        run.succeeded();
        (desk.picture("out.png"), run.stderr)
    };
    let apple = draw("plain", "a red apple");
    for syntax in ["a1111", "comfy", "compel"] {
        assert_eq!(draw(syntax, "a red apple"), apple, "{syntax}");
    }
    for (syntax, prompt, said) in [
        ("a1111", "a (red:1.0) apple", ""),
        ("comfy", "a (red:1.0) apple", ""),
        ("compel", "a (red)1.0 apple", ""),
        ("a1111", "a red apple<hypernet:x:1>", "note: <hypernet:x:1> is left out"),
    ] {
        let (picture, notes) = draw(syntax, prompt);
        assert_eq!(picture, apple.0, "{syntax} {prompt}");
        assert!(notes.starts_with(said) && notes.is_empty() == said.is_empty(), "{notes}");
    }
    assert_ne!(draw("a1111", "a (red:1.5) apple").0, draw("comfy", "a (red:1.5) apple").0);
    let (_, notes) = draw("comfy", "a red apple BREAK [a:b:0.5]");
    assert!(notes.contains("note: BREAK is a word in ComfyUI's syntax") && notes.contains("[a:b:n]"), "{notes}");
    for (prompt, said) in [
        ("a red.swap(blue) apple", [".swap(", "[a:b:0.5]"]),
        ("(\"a\", \"b\").blend(1)", ["weights (1)", "each prompt"]),
        ("a (\"b\", c).blend()", [".blend(", "beginning"]),
    ] {
        desk.generate(&["--prompt", prompt, "--prompt-syntax", "compel"]).was_refused(2, &said);
    }
    let of_both = draw("compel", "(\"a red apple\", \"a blue fish\").blend(0.7, 0.3)").0;
    assert!(of_both != apple.0 && of_both == draw("compel", "(\"a red apple\", \"a blue fish\").blend(7, 3)").0);
    assert_eq!(draw("compel", "(\"a red apple\", \"a blue fish\").blend(1, 0)").0, apple.0);
}

#[test]
fn plain_prompts_have_no_syntax() {
    let desk = Desk::new();
    let plain = ["--prompt-syntax", "plain"];
    let draw = |prompt| desk.draw(&[&["--prompt", prompt, "--seed", "1", "--steps", "2"][..], &plain].concat());
    let plain = draw("a red apple");
    for prompt in ["a (red:1.5) apple", "a (red) apple", "a [red] apple"] {
        assert_ne!(draw(prompt), plain, "{prompt} is read as the text it is");
    }
    assert_ne!(draw("a (red:1.5) apple"), draw("a (red:0.1) apple"), "the number is text as well");
    let run = desk.generate(&["--prompt", "a red apple <lora:x:1>"]);
    run.was_refused(2, &["lora \"x\"", "--lora-dir"]);
    // Nothing to draw is not an error either: diffusers draws the empty prompt too.
    draw("");
}

#[test]
fn help_and_version_are_for_reading() {
    let desk = Desk::new();
    for args in [&["--help"][..], &["generate", "--help"], &["--version"]] {
        let run = desk.run(args);
        run.succeeded();
        assert_eq!(run.stderr, "");
        assert!(run.stdout.len() > 10, "{}", run.stdout);
    }
    assert!(desk.run(&["--help"]).stdout.contains("130 stopped by Ctrl-C"));
}

/// As with `darkroom models | head -1`.
#[test]
fn a_reader_that_has_gone_is_no_fault() {
    let desk = Desk::new();
    for args in [&["models"][..], &["models", "--json"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = desk.command(args).stdout(writer).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert_eq!(output.status.code(), Some(0), "{args:?}");
    }
}

/// Sends what Ctrl-C sends and waits for the end.
#[cfg(unix)]
fn interrupt(child: &mut std::process::Child) {
    let clock = std::time::Instant::now();
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let status = child.wait().unwrap();
    // A busy machine takes seconds; the work itself would take many minutes.
    assert!(clock.elapsed().as_secs() < 60, "it took {:?} to stop", clock.elapsed());
    assert_eq!(status.code(), Some(130));
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_and_leaves_nothing() {
    use std::io::{BufRead, BufReader, Read};
    use std::process::Stdio;
    use std::time::Duration;

    let desk = Desk::new();
    let args = desk.generate_args(&["--prompt", APPLE, "--steps", "150", "--count", "64"]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut child = desk.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    // The seed is said when drawing begins.
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.starts_with("seed "), "{line}");
    std::thread::sleep(Duration::from_millis(300));
    interrupt(&mut child);
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "darkroom: cancelled\n");
    assert_eq!(desk.names(), [""; 0], "no picture and no part of one");
}

/// A Hub that takes the call and never answers.
#[cfg(unix)]
#[test]
fn ctrl_c_stops_a_download() {
    let desk = Desk::new();
    let hub = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", hub.local_addr().unwrap());
    let args = ["generate", "--model", "owner/repo", "--prompt", APPLE, "-o", "out.png"];
    let mut command = desk.command(&args);
    let mut child = command.env("HF_ENDPOINT", endpoint).stderr(std::process::Stdio::null()).spawn().unwrap();
    let _call = hub.accept().unwrap();
    interrupt(&mut child);
    assert_eq!(desk.names(), [""; 0]);
}

#[test]
fn a_picture_takes_the_place_of_an_older_one() {
    let desk = Desk::new();
    desk.put("out.png", &red_half(16, 16));
    let got = desk.draw(&["--prompt", APPLE, "--steps", "1"]);
    assert_eq!(got.width, 128);
    assert_eq!(desk.names(), ["out.png"]);
}

/// What only the GPU has: 16 bits, a memory budget, a profile.
#[test]
fn the_gpu_keeps_to_its_budget_and_tells_its_times() {
    if gpu::has_no_gpu() {
        return;
    }
    let desk = Desk::new();
    let on_gpu = |more: &[&str]| {
        let args = ["--prompt", APPLE, "--steps", "1", "--seed", "1", "--device", "gpu"];
        desk.generate(&[&args[..], more].concat())
    };
    // Drivers may have their own say on standard error, so its lines are not counted here.
    let tight = on_gpu(&["--budget", "1MB"]);
    assert!(tight.code == Some(2) && tight.stderr.contains("memory budget of 1 MB is not possible: the least is"));
    on_gpu(&["--budget", "40MB"]).succeeded();
    let staged = desk.picture("out.png");
    let profiled = on_gpu(&["--profile"]);
    profiled.succeeded();
    assert!(profiled.stderr.contains("GFLOP/s") && profiled.stderr.contains("gemm "), "{}", profiled.stderr);
    assert_eq!(staged.pixels, desk.picture("out.png").pixels, "staging changes nothing");
    let half = on_gpu(&["--dtype", "f16"]);
    // An adapter without 16 bits says so.
    assert!(half.code == Some(0) || half.code == Some(4) && half.stderr.contains("shader-f16"), "{half:?}");
}

/// The same picture through WebGPU, on whatever adapter there is.
#[test]
fn the_gpu_draws_the_same_picture() {
    if gpu::has_no_gpu() {
        return;
    }
    let desk = Desk::new();
    let args = ["--prompt", APPLE, "--steps", "2", "--seed", "1"];
    let on_cpu = desk.draw(&args);
    let on_gpu = desk.draw(&[&args[..], &["--device", "gpu"]].concat());
    let max = on_cpu.pixels.iter().zip(&on_gpu.pixels).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(max.is_some_and(|max| max <= 2), "the pictures differ by {max:?} levels");
}

/// What a driver or its layers print on standard error, such as Mesa's complaint where there is no desktop.
#[test]
fn a_run_on_the_gpu_says_nothing_that_is_not_its_own() {
    if gpu::has_no_gpu() {
        return;
    }
    let desk = Desk::new();
    let args = ["--device", "gpu", "--tune", "never", "--width", "64", "--height", "64", "--steps", "1", "--seed", "1"];
    let args = desk.generate_args(&[&["--prompt", APPLE], &args[..]].concat());
    let mut command = desk.command(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let run = Run::of(command.env_remove("XDG_RUNTIME_DIR"));
    run.succeeded();
    assert_eq!(run.stderr, "", "{run:?}");
}

/// Cooperative matrices are used where they are, and what is left out is said.
#[test]
fn matrices_are_asked_for_and_their_absence_is_told() {
    if gpu::has_no_gpu() {
        return;
    }
    let desk = Desk::new();
    let args = ["--device", "gpu", "--matrices", "--tune", "never", "--width", "64", "--height", "64", "--steps", "1"];
    let run = desk.generate(&[&["--prompt", APPLE, "--seed", "1"], &args[..]].concat());
    run.succeeded();
    let gpu = pollster::block_on(darkroom::run::gpu::Gpu::open_with_matrices()).unwrap();
    assert_eq!(run.stderr.contains("--matrices is left out"), gpu.caps.matrices.is_none(), "{run:?}");
}
