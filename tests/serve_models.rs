//! `darkroom serve --models FOLDER`: files and folders in it are models, and what comes or goes is noticed.
#![cfg(all(not(target_arch = "wasm32"), feature = "cli"))]

#[path = "load/mod.rs"]
mod load;
#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/single.rs"]
mod single;
#[path = "common/tiny.rs"]
mod tiny;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use load::Server;
use serde_json::{Value, json};

/// A look at the folder is good for a second.
const NOTICED: Duration = Duration::from_millis(1300);

fn models(server: &Server) -> Vec<String> {
    let url = format!("http://{}/v1/models", server.address);
    let list: Value = ureq::get(&url).call().unwrap().body_mut().read_json().unwrap();
    list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
}

fn draw(server: &Server, model: &str) -> (u16, Value) {
    let agent = ureq::Agent::new_with_config(ureq::Agent::config_builder().http_status_as_error(false).build());
    let url = format!("http://{}/v1/images/generations", server.address);
    let body =
        json!({ "prompt": "a red fox", "model": model, "size": "64x64", "steps": 2, "response_format": "b64_json" });
    let mut answer = agent.post(&url).send_json(&body).unwrap();
    (answer.status().as_u16(), answer.body_mut().read_json().unwrap())
}

#[test]
fn a_folder_of_models_is_served_as_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let config = tempfile::tempdir().unwrap();
    tiny::write_model("v1-5", config.path(), tiny::Style::F32);
    let put = |name: &str| single::write("v1-5", &folder.path().join(name), "F16");
    put("first.safetensors");
    tiny::write_model("v1-5", &folder.path().join("as-folder"), tiny::Style::F16);
    std::fs::write(folder.path().join("broken.safetensors"), b"no header").unwrap();
    // Of another family than the configuration.
    single::write("xl", &folder.path().join("other-family.safetensors"), "F16");
    std::fs::write(folder.path().join("notes.txt"), b"not looked at").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_darkroom"));
    command.args(["serve", "--port", "0", "--models"]).arg(folder.path());
    command.arg("--config").arg(config.path()).current_dir(std::env::temp_dir());
    let server = Server::spawn(&mut command);
    assert_eq!(models(&server), ["as-folder", "first.safetensors"]);
    for model in ["first.safetensors", "first", "as-folder"] {
        let (status, drawn) = draw(&server, model);
        assert_eq!(status, 200, "{drawn}");
        assert!(drawn["data"][0]["b64_json"].as_str().is_some_and(|picture| picture.len() > 100));
    }
    put("second.safetensors");
    std::fs::remove_file(folder.path().join("first.safetensors")).unwrap();
    std::thread::sleep(NOTICED);
    assert_eq!(models(&server), ["as-folder", "second.safetensors"]);
    assert_eq!(draw(&server, "second.safetensors").0, 200);
    let (status, refused) = draw(&server, "first.safetensors");
    assert_eq!(status, 404, "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains("second.safetensors"), "{refused}");
    // A file of the same name that is another one now.
    std::thread::sleep(NOTICED);
    single::write("v1-5-trained", &folder.path().join("second.safetensors"), "F16");
    std::thread::sleep(NOTICED);
    assert_eq!(models(&server), ["as-folder", "second.safetensors"]);
    assert_eq!(draw(&server, "second.safetensors").0, 200);
}

/// A job that waits for a model that goes meanwhile is told so: that is no fault of the server.
#[test]
fn a_model_that_goes_while_a_job_waits_is_not_found() {
    let folder = tempfile::tempdir().unwrap();
    let config = tempfile::tempdir().unwrap();
    tiny::write_model("v1-5", config.path(), tiny::Style::F32);
    for name in ["stays.safetensors", "goes.safetensors"] {
        single::write("v1-5", &folder.path().join(name), "F16");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_darkroom"));
    command.args(["serve", "--port", "0", "--models"]).arg(folder.path());
    command.arg("--config").arg(config.path()).current_dir(std::env::temp_dir());
    let server = Server::spawn(&mut command);
    assert_eq!(models(&server), ["goes.safetensors", "stays.safetensors"]);
    let agent = ureq::Agent::new_with_config(ureq::Agent::config_builder().http_status_as_error(false).build());
    let post = |body: Value| -> (u16, Value) {
        let mut answer = agent.post(&format!("http://{}/v1/jobs", server.address)).send_json(&body).unwrap();
        (answer.status().as_u16(), answer.body_mut().read_json().unwrap())
    };
    let asked = |model: &str, steps: usize| {
        let body = json!({ "prompt": "a red fox", "model": model, "width": 512, "height": 512, "steps": steps });
        let (status, job) = post(body);
        assert!(status < 300, "{job}");
        job["id"].as_str().unwrap().to_owned()
    };
    let first = asked("stays.safetensors", 100);
    let waits = asked("goes.safetensors", 1);
    std::fs::remove_file(folder.path().join("goes.safetensors")).unwrap();
    let url = |id: &str| format!("http://{}/v1/jobs/{id}", server.address);
    agent.delete(&url(&first)).call().unwrap();
    let job = loop {
        let job: Value = agent.get(&url(&waits)).call().unwrap().body_mut().read_json().unwrap();
        if !matches!(job["status"].as_str(), Some("queued" | "running")) {
            break job;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!((&job["status"], &job["error"]["code"]), (&json!("failed"), &json!("model_not_found")), "{job}");
    let message = job["error"]["message"].as_str().unwrap();
    assert!(message.contains("goes.safetensors") && message.contains("removed"), "{message}");
}

#[test]
fn a_folder_that_is_none_is_refused() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_darkroom"));
    let output = command.args(["serve", "--port", "0", "--models"]).arg(Path::new("/no/such/folder")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("a folder that exists"));
}
