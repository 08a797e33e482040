//! `darkroom serve --lora-dir FOLDER`: requests that name LoRAs, by list and by tags, each draw with exactly theirs.
#![cfg(all(not(target_arch = "wasm32"), feature = "cli"))]

#[path = "load/mod.rs"]
mod load;
#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/tiny.rs"]
mod tiny;

use std::path::Path;
use std::process::Command;

use load::Server;
use serde_json::{Value, json};

fn post(server: &Server, path: &str, body: &Value) -> (u16, Value) {
    let agent = ureq::Agent::new_with_config(ureq::Agent::config_builder().http_status_as_error(false).build());
    let mut answer = agent.post(&format!("http://{}{path}", server.address)).send_json(body).unwrap();
    (answer.status().as_u16(), answer.body_mut().read_json().unwrap())
}

/// The picture of a request to the web UI's door.
fn draw(server: &Server, prompt: &str) -> String {
    let body = json!({ "prompt": prompt, "width": 64, "height": 64, "steps": 2, "seed": 5, "sampler_name": "Euler" });
    let (status, answer) = post(server, "/sdapi/v1/txt2img", &body);
    assert_eq!(status, 200, "{answer}");
    answer["images"][0].as_str().unwrap().to_owned()
}

/// The file of a picture in base64.
fn bytes(picture: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(picture).unwrap()
}

/// Its pixels.
fn pixels(picture: &str) -> Vec<u8> {
    darkroom::image::decode(&bytes(picture)).unwrap().pixels
}

fn serve(model: &Path, loras: Option<&Path>, more: &[&str]) -> Server {
    let mut command = Command::new(env!("CARGO_BIN_EXE_darkroom"));
    command.args(["serve", "--port", "0", "--model"]).arg(model).current_dir(std::env::temp_dir());
    if let Some(loras) = loras {
        command.arg("--lora-dir").arg(loras);
    }
    Server::spawn(command.args(more))
}

#[test]
fn each_request_draws_with_its_own() {
    let model = tempfile::tempdir().unwrap();
    tiny::write_model("v1-5", model.path(), tiny::Style::F16);
    let loras = tiny::fixtures_dir().join("lora");
    let server = serve(model.path(), Some(&loras), &[]);
    let prompts = ["a fox", "a fox<lora:kohya:1>", "a fox<lora:kohya:0.5>", "a fox<lora:dora:1><lora:full:-0.5>"];
    let alone: Vec<Vec<u8>> =
        prompts.iter().map(|prompt| pixels(&draw(&serve(model.path(), Some(&loras), &[]), prompt))).collect();
    for (i, picture) in alone.iter().enumerate() {
        assert!(alone[..i].iter().all(|other| other != picture), "{} has an effect", prompts[i]);
    }
    for i in [0, 1, 2, 3, 0, 2, 1, 3] {
        assert!(pixels(&draw(&server, prompts[i])) == alone[i], "{}", prompts[i]);
    }
    // All at once.
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..8)
            .map(|n| {
                let (server, prompt) = (&server, prompts[n % prompts.len()]);
                scope.spawn(move || pixels(&draw(server, prompt)))
            })
            .collect();
        for (n, run) in runs.into_iter().enumerate() {
            assert!(run.join().unwrap() == alone[n % prompts.len()], "{}", prompts[n % prompts.len()]);
        }
    });
    // By our own door, with a list.
    let body = json!({
        "prompt": "a fox", "width": 64, "height": 64, "steps": 2, "seed": 5, "sampler": "euler",
        "loras": [{ "name": "kohya", "strength": 0.5 }],
    });
    let (status, job) = post(&server, "/v1/jobs", &body);
    assert_eq!(status, 202, "{job}");
    assert_eq!(job["request"]["loras"], body["loras"], "{job}");
    for (loras, word) in
        [(json!([{ "name": "no-such" }]), "no-such"), (json!([{ "name": "kohya", "strength": 1e9 }]), "-100 to 100")]
    {
        let (status, refused) = post(&server, "/v1/jobs", &json!({ "prompt": "a fox", "loras": loras }));
        assert_eq!(status, 400, "{refused}");
        assert!(refused["error"]["message"].as_str().unwrap().contains(word), "{refused}");
    }
    let (status, refused) = post(&server, "/sdapi/v1/txt2img", &json!({ "prompt": "a fox <lora:no-such:1>" }));
    assert_eq!(status, 400, "{refused}");
    assert!(refused.to_string().contains("kohya"), "{refused}");
    let list: Value =
        ureq::get(&format!("http://{}/sdapi/v1/loras", server.address)).call().unwrap().body_mut().read_json().unwrap();
    assert!(list.as_array().unwrap().iter().any(|lora| lora["name"] == "kohya"), "{list}");
}

#[test]
fn infotexts_are_those_of_the_pictures() {
    let model = tempfile::tempdir().unwrap();
    tiny::write_model("v1-5", model.path(), tiny::Style::F16);
    let loras = tiny::fixtures_dir().join("lora");
    let embedding = tiny::fixtures_dir().join("embeddings/cat-toy.safetensors");
    let more = ["--device", "cpu", "--weights", "q8_0", "--embedding", embedding.to_str().unwrap()];
    let server = serve(model.path(), Some(&loras), &more);
    let body = json!({ "prompt": "a {red|blue} cat-toy fox<lora:kohya:1>", "negative_prompt": "fog", "width": 64, "height": 64,
        "steps": 2, "seed": 5, "batch_size": 2 });
    let (status, answer) = post(&server, "/sdapi/v1/txt2img", &body);
    assert_eq!(status, 200, "{answer}");
    let info: Value = serde_json::from_str(answer["info"].as_str().unwrap()).unwrap();
    for (idx, picture) in answer["images"].as_array().unwrap().iter().enumerate() {
        let texts = darkroom::image::picture_text(&bytes(picture.as_str().unwrap())).unwrap();
        let (_, text) = texts.iter().find(|(key, _)| key == "parameters").unwrap();
        assert_eq!(info["infotexts"][idx], json!(text));
        assert!(text.contains(&format!("Seed: {}", 5 + idx)), "{text}");
        for part in ["Weights: q8_0", "Lora hashes: \"kohya: ", "TI hashes: \"", "Negative prompt: fog"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.starts_with(info["all_prompts"][idx].as_str().unwrap()), "{text}");
        assert_eq!(info["all_negative_prompts"][idx], "fog");
    }
}

#[test]
fn without_a_folder_tags_are_refused() {
    let model = tempfile::tempdir().unwrap();
    tiny::write_model("v1-5", model.path(), tiny::Style::F16);
    let server = serve(model.path(), None, &[]);
    for (path, body) in [
        ("/sdapi/v1/txt2img", json!({ "prompt": "a fox <lora:kohya:1>" })),
        ("/v1/jobs", json!({ "prompt": "a fox", "loras": [{ "name": "kohya" }] })),
    ] {
        let (status, refused) = post(&server, path, &body);
        assert_eq!(status, 400, "{refused}");
        assert!(refused.to_string().contains("--lora-dir"), "{refused}");
    }
}

#[test]
fn prompts_choose_by_the_seed_of_each_picture() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("animal.txt"), "fox\nowl\nbear\n").unwrap();
    let model = tempfile::tempdir().unwrap();
    tiny::write_model("v1-5", model.path(), tiny::Style::F16);
    let loras = tiny::fixtures_dir().join("lora");
    let server = serve(model.path(), Some(&loras), &["--wildcards", folder.path().to_str().unwrap()]);
    let template = "a __animal__, {day|night|dawn}";
    let body = json!({ "prompt": template, "negative_prompt": "{red|blue}", "width": 64, "height": 64, "steps": 2, "seed": 5,
        "sampler_name": "Euler" });
    let row = [&body["seed"], &json!(6), &json!(7), &json!(8)];
    let mut wanted = body.clone();
    wanted["batch_size"] = json!(row.len());
    let (status, answer) = post(&server, "/sdapi/v1/txt2img", &wanted);
    assert_eq!(status, 200, "{answer}");
    let info: Value = serde_json::from_str(answer["info"].as_str().unwrap()).unwrap();
    assert_eq!(info["all_seeds"], json!(row));
    let prompts: Vec<&str> =
        info["all_prompts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    assert!(prompts.iter().any(|prompt| *prompt != prompts[0]), "{prompts:?}");
    for (idx, prompt) in prompts.iter().enumerate() {
        assert!(!prompt.contains(['{', '|', '_']), "{prompt}");
        // Each is the picture of its own seed, and of the prompt that is written down.
        for (asked, negative) in [(template, &body["negative_prompt"]), (*prompt, &info["all_negative_prompts"][idx])] {
            let mut alone = body.clone();
            (alone["prompt"], alone["negative_prompt"], alone["seed"]) =
                (json!(asked), negative.clone(), row[idx].clone());
            let (status, drawn) = post(&server, "/sdapi/v1/txt2img", &alone);
            assert_eq!(status, 200, "{drawn}");
            let picture = |answer: &Value, idx: usize| pixels(answer["images"][idx].as_str().unwrap());
            assert!(picture(&answer, idx) == picture(&drawn, 0), "{asked}");
        }
    }
    // Tags of LoRAs may be among the options.
    let tagged = pixels(&draw(&server, "a {fox<lora:kohya:1>|fox<lora:kohya:1>}"));
    assert!(tagged == pixels(&draw(&server, "a fox<lora:kohya:1>")) && tagged != pixels(&draw(&server, "a fox")));
    // By our own door.
    let own = json!({ "prompt": "a __animal__", "width": 64, "height": 64, "steps": 1, "seed": 5, "count": 3 });
    let (status, job) = post(&server, "/v1/jobs", &own);
    assert_eq!((status, &job["request"]["template"]), (202, &json!("a __animal__")), "{job}");
    assert_eq!(job["request"]["count"], 3);
    let path = format!("http://{}/v1/jobs/{}", server.address, job["id"].as_str().unwrap());
    let job: Value = loop {
        let job: Value = ureq::get(&path).call().unwrap().body_mut().read_json().unwrap();
        if job["status"] == "done" {
            break job;
        }
        assert!(["queued", "running"].iter().any(|status| job["status"] == *status), "{job}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    for (idx, image) in job["images"].as_array().unwrap().iter().enumerate() {
        assert_eq!(image["seed"], 5 + idx);
        let png = ureq::get(&format!("{path}/images/{idx}")).call().unwrap().body_mut().read_to_vec().unwrap();
        let text = darkroom::image::picture_text(&png).unwrap();
        let of = darkroom::parameters::Parameters::from_png_text(&text).unwrap().unwrap();
        assert_eq!(of.template.as_deref(), Some("a __animal__"));
        assert_eq!(json!(of.prompt), image["prompt"]);
    }
    // Files that come later are there; names that are not are told.
    std::fs::write(folder.path().join("late.txt"), "moor\n").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let (status, job) = post(&server, "/v1/jobs", &json!({ "prompt": "__late__", "seed": 1, "steps": 1 }));
    assert_eq!((status, &job["request"]["prompt"]), (202, &json!("moor")), "{job}");
    let (status, refused) = post(&server, "/v1/jobs", &json!({ "prompt": "__none__" }));
    assert_eq!((status, &refused["error"]["param"]), (400, &json!("prompt")), "{refused}");
    assert!(refused.to_string().contains("animal, late"), "{refused}");
    let (status, refused) = post(&server, "/v1/jobs", &json!({ "prompt": "{a<lora:none:1>|b<lora:none:1>}" }));
    assert_eq!(status, 400, "{refused}");
}

/// A LoRA's own words are there for the requests that name it, as on the command line, and for no others.
#[test]
fn words_of_a_lora_are_those_of_its_requests() {
    let model = tempfile::tempdir().unwrap();
    tiny::write_model("v1-5", model.path(), tiny::Style::F16);
    let loras = tempfile::tempdir().unwrap();
    for file in ["embeddings/bundle.safetensors", "lora/kohya.safetensors"] {
        let from = tiny::fixtures_dir().join(file);
        std::fs::copy(&from, loras.path().join(from.file_name().unwrap())).unwrap();
    }
    let server = serve(model.path(), Some(loras.path()), &[]);
    let local = |prompt: &str| {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out.png");
        let mut command = Command::new(env!("CARGO_BIN_EXE_darkroom"));
        let settings = "generate --width 64 --height 64 --steps 2 --seed 5 --sampler euler";
        command.args(settings.split(' ')).args(["--prompt", prompt]);
        command.arg("--model").arg(model.path()).arg("--lora-dir").arg(loras.path()).arg("--output").arg(&out);
        assert!(command.output().unwrap().status.success(), "{prompt}");
        darkroom::image::decode(&std::fs::read(&out).unwrap()).unwrap().pixels
    };
    for prompt in [
        "a fox-word",
        "a fox-word<lora:bundle:1>",
        "a fox-word<lora:kohya:1>",
        "a fox-word<lora:bundle:0.5>",
        "a fox-word",
    ] {
        assert!(pixels(&draw(&server, prompt)) == local(prompt), "{prompt}");
    }
    let picture = draw(&server, "a fox-word<lora:bundle:1>");
    let body = json!({ "image": format!("data:image/png;base64,{picture}") });
    let (_, info) = post(&server, "/sdapi/v1/png-info", &body);
    assert!(info.to_string().contains("fox-word"), "{info}");
    let body = json!({
        "prompt": "a fox-word", "width": 64, "height": 64, "steps": 1,
        "loras": [{ "name": "bundle", "strength": 1.0 }],
    });
    let (status, job) = post(&server, "/v1/jobs", &body);
    assert_eq!((status, job["notes"].to_string().contains("not used")), (202, false), "{job}");
}

/// Whoever names a LoRA that the model cannot use is told so, and which ones it can: that is no fault of the server.
#[test]
fn loras_that_do_not_fit_are_faults_of_the_request() {
    let model = tempfile::tempdir().unwrap();
    tiny::write_model("v1-5", model.path(), tiny::Style::F16);
    let loras = tempfile::tempdir().unwrap();
    for name in ["kohya", "kohya-xl", "flux", "oft"] {
        let file = format!("{name}.safetensors");
        std::fs::copy(tiny::fixtures_dir().join("lora").join(&file), loras.path().join(file)).unwrap();
    }
    let whole = std::fs::read(loras.path().join("kohya.safetensors")).unwrap();
    std::fs::write(loras.path().join("half.safetensors"), &whole[..whole.len() / 2]).unwrap();
    let server = serve(model.path(), Some(loras.path()), &[]);
    for (name, words) in [
        ("flux", &["\"flux\"", "a LoRA for Flux"][..]),
        ("kohya-xl", &["Stable Diffusion XL", "these fit: kohya"]),
        ("half", &["\"half\"", "not a valid safetensors file"]),
        ("oft", &["\"oft\"", "oft"]),
    ] {
        let listed = json!({ "prompt": "a fox", "loras": [{ "name": name }] });
        let tagged = json!({ "prompt": format!("a fox <lora:{name}:1>"), "steps": 1 });
        for (path, body) in [("/v1/images/generations", &listed), ("/sdapi/v1/txt2img", &tagged)] {
            let (status, refused) = post(&server, path, body);
            assert_eq!(status, 400, "{path}: {refused}");
            let error = if path.starts_with("/v1") { &refused["error"] } else { &refused };
            assert_eq!(error["param"], if path.starts_with("/v1") { "loras" } else { "prompt" }, "{refused}");
            let said = error["message"].as_str().or(error["detail"].as_str()).unwrap();
            assert!(words.iter().all(|word| said.contains(word)), "{said}");
            assert!(!said.contains(loras.path().to_str().unwrap()), "{said}");
        }
        // It is drawn without it as before.
        assert_eq!(post(&server, "/v1/images/generations", &json!({ "prompt": "a fox", "steps": 1 })).0, 200);
    }
    let strong = json!({ "prompt": "a fox", "loras": [{ "name": "kohya", "strength": 1000 }] });
    let (status, refused) = post(&server, "/v1/jobs", &strong);
    assert_eq!((status, &refused["error"]["param"]), (400, &json!("loras")), "{refused}");
}
