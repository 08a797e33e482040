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

/// The pixels of a picture in base64.
fn pixels(picture: &str) -> Vec<u8> {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(picture).unwrap();
    darkroom::image::decode(&bytes).unwrap().pixels
}

fn serve(model: &Path, loras: Option<&Path>) -> Server {
    let mut command = Command::new(env!("CARGO_BIN_EXE_darkroom"));
    command.args(["serve", "--port", "0", "--model"]).arg(model).current_dir(std::env::temp_dir());
    if let Some(loras) = loras {
        command.arg("--lora-dir").arg(loras);
    }
    Server::spawn(&mut command)
}

#[test]
fn each_request_draws_with_its_own() {
    let model = tempfile::tempdir().unwrap();
    tiny::write_model("v1-5", model.path(), tiny::Style::F16);
    let loras = tiny::fixtures_dir().join("lora");
    let server = serve(model.path(), Some(&loras));
    let prompts = ["a fox", "a fox<lora:kohya:1>", "a fox<lora:kohya:0.5>", "a fox<lora:dora:1><lora:full:-0.5>"];
    let alone: Vec<Vec<u8>> =
        prompts.iter().map(|prompt| pixels(&draw(&serve(model.path(), Some(&loras)), prompt))).collect();
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
fn without_a_folder_tags_are_refused() {
    let model = tempfile::tempdir().unwrap();
    tiny::write_model("v1-5", model.path(), tiny::Style::F16);
    let server = serve(model.path(), None);
    for (path, body) in [
        ("/sdapi/v1/txt2img", json!({ "prompt": "a fox <lora:kohya:1>" })),
        ("/v1/jobs", json!({ "prompt": "a fox", "loras": [{ "name": "kohya" }] })),
    ] {
        let (status, refused) = post(&server, path, &body);
        assert_eq!(status, 400, "{refused}");
        assert!(refused.to_string().contains("--lora-dir"), "{refused}");
    }
}
