//! `darkroom serve`: a real server process with the embedded model, spoken to over real HTTP.
#![cfg(all(not(target_arch = "wasm32"), feature = "cli"))]

#[path = "common/gpu.rs"]
mod gpu;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use darkroom::image::{RgbImage, decode, encode_png, png_text};
use darkroom::parameters::Parameters;
use serde_json::{Value, json};

/// How long anything may take: a busy machine takes seconds, not this.
const PATIENCE: Duration = Duration::from_secs(200);
const APPLE: &str = "a red apple on a blue background";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn model() -> PathBuf {
    root().join("www/hub/darkroom/tiny-emoji/resolve/main")
}

fn apple() -> RgbImage {
    decode(&std::fs::read(root().join("tests/fixtures/emoji/apple.png")).unwrap()).unwrap()
}

fn difference(a: &RgbImage, b: &RgbImage) -> u8 {
    assert_eq!((a.width, a.height), (b.width, b.height));
    a.pixels.iter().zip(&b.pixels).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

/// A server process; it ends when this is dropped.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_darkroom"))
            .args(["serve", "--port", "0", "--model"])
            .arg(model())
            .args(arguments)
            // Where no page lies about, so that only what is named is served.
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address =
            line.strip_prefix("http://").and_then(|rest| rest.split('/').next()).unwrap_or_default().to_string();
        assert!(address.starts_with("127.0.0.1:"), "no address: {line:?}");
        Server { process, address }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn agent() -> ureq::Agent {
        ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build().into()
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let mut reply = Self::agent().post(self.url(path)).send_json(body).unwrap();
        (reply.status().as_u16(), reply.body_mut().with_config().limit(1 << 28).read_json().unwrap())
    }

    fn get(&self, path: &str) -> (u16, Value) {
        let mut reply = Self::agent().get(self.url(path)).call().unwrap();
        (reply.status().as_u16(), reply.body_mut().read_json().unwrap())
    }

    fn get_bytes(&self, path: &str) -> (u16, ureq::http::HeaderMap, Vec<u8>) {
        let mut reply = Self::agent().get(self.url(path)).call().unwrap();
        (reply.status().as_u16(), reply.headers().clone(), reply.body_mut().read_to_vec().unwrap())
    }

    fn delete(&self, path: &str) -> (u16, Value) {
        let mut reply = Self::agent().delete(self.url(path)).call().unwrap();
        (reply.status().as_u16(), reply.body_mut().read_json().unwrap())
    }

    /// Adds a job and gives its path.
    fn add(&self, body: &Value) -> String {
        let (status, job) = self.post("/v1/jobs", body);
        assert_eq!(status, 202, "{job}");
        format!("/v1/jobs/{}", job["id"].as_str().unwrap())
    }

    /// Asks for the job until it says so.
    fn wait_for(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let (_, job) = self.get(path);
            if wanted(&job) {
                return job;
            }
            assert!(start.elapsed() < PATIENCE, "not in {PATIENCE:?}: {job}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn wait_until_over(&self, path: &str) -> Value {
        self.wait_for(path, |job| !matches!(job["status"].as_str(), Some("queued" | "running")))
    }

    /// Sends a request as it is, and gives the status of the answer.
    fn raw(&self, request: &str) -> u16 {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn apple_request() -> Value {
    json!({ "prompt": APPLE, "steps": 6, "guidance_scale": 4, "seed": 1 })
}

/// Work for minutes.
fn long_request() -> Value {
    json!({ "prompt": "a rocket", "steps": 150, "guidance_scale": 4, "seed": 1, "count": 8 })
}

#[test]
fn a_job_becomes_the_picture_that_diffusers_draws_and_tells_of_every_step() {
    let server = Server::start(&[]);
    let path = server.add(&apple_request());
    let events = Server::agent().get(server.url(&format!("{path}/events"))).call().unwrap();
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    let mut seen: Vec<(String, Value)> = Vec::new();
    let mut kind = String::new();
    for line in BufReader::new(events.into_body().into_reader()).lines() {
        let line = line.unwrap();
        if let Some(name) = line.strip_prefix("event: ") {
            kind = name.to_string();
        } else if let Some(data) = line.strip_prefix("data: ") {
            seen.push((kind.clone(), serde_json::from_str(data).unwrap()));
        }
    }
    let kinds: Vec<&str> = seen.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds.first(), Some(&"progress"), "{kinds:?}");
    assert_eq!(&kinds[kinds.len() - 2..], ["image", "done"], "{kinds:?}");
    assert!(kinds.contains(&"preview"), "{kinds:?}");
    let fractions: Vec<f64> = seen
        .iter()
        .filter(|(kind, _)| kind == "progress")
        .map(|(_, data)| data["fraction"].as_f64().unwrap())
        .collect();
    assert!(fractions.is_sorted(), "progress goes back: {fractions:?}");
    let (_, preview) = seen.iter().find(|(kind, _)| kind == "preview").unwrap();
    let preview = decode(&STANDARD.decode(preview["b64_json"].as_str().unwrap()).unwrap()).unwrap();
    assert_eq!((preview.width, preview.height), (16, 16));

    let (_, done) = seen.last().unwrap();
    assert_eq!(done["status"], "done");
    let (status, headers, png) = server.get_bytes(done["images"][0]["url"].as_str().unwrap());
    assert_eq!(status, 200);
    assert_eq!(headers["content-type"], "image/png");
    let max = difference(&decode(&png).unwrap(), &apple());
    assert!(max <= 2, "the picture differs from diffusers' by {max} levels");
    let parameters = Parameters::from_png_text(&png_text(&png).unwrap()).unwrap().unwrap();
    assert_eq!((parameters.prompt.as_str(), parameters.model.as_str()), (APPLE, "darkroom/tiny-emoji"));

    // Whoever comes late is told what there is.
    let late = Server::agent().get(server.url(&format!("{path}/events"))).call().unwrap();
    let late = late.into_body().read_to_string().unwrap();
    assert!(late.contains("event: image") && late.contains("event: done"), "{late}");
    assert_eq!(server.get(&path).1["request"]["sampler"], "dpm++2m");
}

#[test]
fn a_server_draws_on_the_gpu_too() {
    if gpu::has_no_gpu() {
        return;
    }
    let server = Server::start(&["--device", "gpu"]);
    // One that is stopped first: what the GPU had under way is no trouble for the next.
    let long = server.add(&long_request());
    server.wait_for(&long, |job| job["progress"]["stage"] == "denoising");
    assert_eq!(server.delete(&long).0, 200);
    let path = server.add(&apple_request());
    let done = server.wait_until_over(&path);
    assert_eq!(done["status"], "done", "{done}");
    let (_, _, png) = server.get_bytes(done["images"][0]["url"].as_str().unwrap());
    let max = difference(&decode(&png).unwrap(), &apple());
    assert!(max <= 2, "the picture differs from diffusers' by {max} levels");
    assert_eq!(server.get(&long).1["status"], "cancelled");
}

#[test]
fn the_queue_is_bounded_tells_places_and_lets_go() {
    let server = Server::start(&["--queue", "2"]);
    let first = server.add(&long_request());
    server.wait_for(&first, |job| job["progress"]["stage"] == "denoising");
    let (second, third) = (server.add(&apple_request()), server.add(&apple_request()));
    assert_eq!(server.get(&second).1["position"], 0);
    assert_eq!(server.get(&third).1["position"], 1);
    let reply = Server::agent().post(server.url("/v1/jobs")).send_json(apple_request()).unwrap();
    assert_eq!(reply.status(), 429);
    assert!(reply.headers()["retry-after"].to_str().unwrap().parse::<u32>().unwrap() > 0);
    let body: Value = reply.into_body().read_json().unwrap();
    assert_eq!(body["error"]["code"], "queue_full", "{body}");

    // One that waits leaves at once, one that is drawn between two operations.
    assert_eq!(server.delete(&second).1["status"], "cancelled");
    assert_eq!(server.get(&third).1["position"], 0);
    let start = Instant::now();
    assert_eq!(server.delete(&first).0, 200);
    server.wait_for(&first, |job| job["status"] == "cancelled");
    let elapsed = start.elapsed();
    eprintln!("a cancel was heard after {} ms", elapsed.as_millis());
    // What it stops would go on for minutes.
    assert!(elapsed < Duration::from_secs(30), "{elapsed:?}");
    assert_eq!(server.wait_until_over(&third)["status"], "done");
    // Once over, a job stays what it is.
    assert_eq!(server.delete(&third).1["status"], "done");
}

#[test]
fn programs_that_speak_openais_api_are_served() {
    let server = Server::start(&[]);
    let (status, models) = server.get("/v1/models");
    assert_eq!((status, &models["data"][0]["id"]), (200, &json!("darkroom/tiny-emoji")));
    assert_eq!(models["object"], "list");
    let mut body = json!({ "prompt": APPLE, "model": "darkroom/tiny-emoji", "n": 2, "size": "128x128", "user": "me",
        "response_format": "b64_json", "steps": 6, "guidance_scale": 4, "seed": 1 });
    let (status, answer) = server.post("/v1/images/generations", &body);
    assert_eq!(status, 200, "{answer}");
    assert!(answer["created"].as_u64().unwrap() > 1_700_000_000);
    assert_eq!(answer["data"].as_array().unwrap().len(), 2);
    let png = STANDARD.decode(answer["data"][0]["b64_json"].as_str().unwrap()).unwrap();
    assert!(difference(&decode(&png).unwrap(), &apple()) <= 2);

    (body["response_format"], body["n"], body["steps"]) = (json!("url"), json!(1), json!(1));
    let (_, answer) = server.post("/v1/images/generations", &body);
    let url = answer["data"][0]["url"].as_str().unwrap();
    let path = url.strip_prefix(&server.url("")).unwrap();
    assert_eq!(server.get_bytes(path).0, 200);

    for (field, value, words) in [
        ("response_format", json!("jpeg"), "use b64_json or url"),
        ("size", json!("large"), "such as 512x512"),
        ("size", json!("100x128"), "use 96 or 128"),
        ("model", json!("dall-e-3"), "darkroom/tiny-emoji"),
        ("quality", json!("hd"), "quality"),
        ("width", json!(128), "there is no setting"),
        ("eta", json!(2), "eta 2 is not possible"),
    ] {
        let mut body = json!({ "prompt": APPLE });
        body[field] = value;
        let (status, answer) = server.post("/v1/images/generations", &body);
        assert!((400..500).contains(&status), "{field}: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(words), "{field}: {answer}");
    }
}

#[test]
fn a_client_that_goes_takes_its_request_along() {
    let server = Server::start(&[]);
    // How long a job takes here and now, with nothing before it.
    let start = Instant::now();
    server.wait_until_over(&server.add(&apple_request()));
    let alone = start.elapsed();
    let body = json!({ "prompt": "a rocket", "steps": 150, "n": 8 }).to_string();
    let mut stream = TcpStream::connect(&server.address).unwrap();
    let head = format!(
        "POST /v1/images/generations HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        server.address,
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    drop(stream);
    // What comes next is drawn at once and not after eight pictures of 150 steps, two hundred times its own six.
    let start = Instant::now();
    assert_eq!(server.wait_until_over(&server.add(&apple_request()))["status"], "done");
    assert!(start.elapsed() < Duration::from_secs(20) + 20 * alone, "{:?}, alone {alone:?}", start.elapsed());
}

#[test]
fn a_part_of_a_picture_is_repainted() {
    let server = Server::start(&[]);
    let (width, height) = (128, 128);
    let pixel = |i: usize| if i % width < 64 { [255; 3] } else { [0; 3] };
    let mask = RgbImage::new(width, height, (0..width * height).flat_map(pixel).collect()).unwrap();
    let base64 = |picture: &RgbImage| STANDARD.encode(encode_png(picture, &[]).unwrap());
    let body = json!({ "prompt": "a yellow star on a green background", "steps": 3, "seed": 1,
        "image": format!("data:image/png;base64,{}", base64(&apple())), "mask": base64(&mask) });
    let job = server.wait_until_over(&server.add(&body));
    assert_eq!(job["status"], "done", "{job}");
    let drawn = decode(&server.get_bytes(job["images"][0]["url"].as_str().unwrap()).2).unwrap();
    let pixels =
        drawn.pixels.chunks_exact(3).zip(apple().pixels.chunks_exact(3).map(<[u8]>::to_vec).collect::<Vec<_>>());
    let mut n_changed = [0, 0];
    for (i, (after, before)) in pixels.enumerate() {
        n_changed[usize::from(i % width >= 64)] += usize::from(after != before);
    }
    assert!(n_changed[0] > 4000, "only {} pixels of the mask changed", n_changed[0]);
    assert_eq!(n_changed[1], 0, "pixels outside of the mask changed");
}

#[test]
fn sides_may_be_any_multiple_of_8_on_request() {
    let server = Server::start(&[]);
    let body = json!({ "prompt": "x", "steps": 2, "width": 72, "height": 40, "any_size": true });
    let job = server.wait_until_over(&server.add(&body));
    assert_eq!((&job["status"], &job["request"]["any_size"]), (&json!("done"), &json!(true)), "{job}");
    let png = server.get_bytes(job["images"][0]["url"].as_str().unwrap()).2;
    let drawn = decode(&png).unwrap();
    assert_eq!((drawn.width, drawn.height), (72, 40));
    assert!(Parameters::from_png_text(&png_text(&png).unwrap()).unwrap().unwrap().any_size);
}

#[test]
fn what_cannot_be_drawn_is_refused_with_what_would_work() {
    let server = Server::start(&["--max-side", "256", "--max-count", "2"]);
    for (body, status, words) in [
        (json!({}), 400, "prompt"),
        (json!({ "prompt": "x", "colour": "red" }), 400, "colour"),
        (json!({ "prompt": "x", "steps": -1 }), 400, "steps"),
        (json!({ "prompt": "x", "steps": 151 }), 400, "use 1 to 150"),
        (json!({ "prompt": "x", "width": 100 }), 400, "use 96 or 128"),
        (json!({ "prompt": "x", "width": 100 }), 400, "any_size"),
        (json!({ "prompt": "x", "width": 100, "any_size": true }), 400, "use 96 or 104"),
        (json!({ "prompt": "x", "width": 100, "any_size": "yes" }), 400, "any_size"),
        (json!({ "prompt": "x", "width": 512 }), 400, "allows 256 at most"),
        (json!({ "prompt": "x", "count": 3 }), 400, "allows 1 to 2"),
        (json!({ "prompt": "x", "sampler": "magic" }), 400, "euler"),
        (json!({ "prompt": "x", "attention": "none" }), 400, "flash or sliced or full"),
        (json!({ "prompt": "x", "crop": [0, 0] }), 400, "conditioned"),
        (json!({ "prompt": "x", "model": "xl" }), 404, "darkroom/tiny-emoji"),
        (json!({ "prompt": "x", "mask": "" }), 400, "mask"),
        (json!({ "prompt": "x", "strength": 0.5 }), 400, "image"),
        (json!({ "prompt": "x", "image": "?" }), 400, "base64"),
        (
            json!({ "prompt": "x", "image": STANDARD.encode("no picture") }),
            400,
            "use PNG, JPEG, WebP, GIF, BMP or TIFF",
        ),
    ] {
        let (got, answer) = server.post("/v1/jobs", &body);
        assert_eq!(got, status, "{body}: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(words), "{body}: {answer}");
        assert_eq!(answer["error"]["type"], "invalid_request_error");
        assert_eq!(answer["error"]["code"], if status == 404 { "model_not_found" } else { "request" });
    }
    let sliced = json!({ "prompt": "x", "steps": 1, "attention": "sliced", "any_size": null });
    assert_eq!(server.wait_until_over(&server.add(&sliced))["status"], "done");
    // What only the model's own files tell comes with the job.
    let job = server.wait_until_over(&server.add(&json!({ "prompt": "x", "clip_skip": 9 })));
    assert_eq!(job["status"], "failed");
    assert!(job["error"]["message"].as_str().unwrap().contains("clip skip"), "{job}");

    assert_eq!(server.get("/v1/jobs/nobody").0, 404);
    assert_eq!(server.get("/v1/nothing").0, 404);
    assert_eq!(server.delete("/v1/jobs").0, 405);
    assert_eq!(server.delete("/v1/jobs/nobody").0, 404);
    // A form of another site, which browsers send without asking, is no JSON.
    let host = &server.address;
    let form = format!(
        "POST /v1/jobs HTTP/1.1\r\nHost: {host}\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\n{{\"prompt\":\"x\"}}"
    );
    assert_eq!(server.raw(&form), 415);
    // A name that was made to point at this machine.
    assert_eq!(server.raw("GET /v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n"), 403);
    assert_eq!(server.raw(&format!("GET /v1/models HTTP/1.1\r\nHost: {host}\r\n\r\n")), 200);
    // A body without end.
    let huge = format!(
        "POST /v1/jobs HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n{{"
    );
    assert_eq!(server.raw(&huge), 413);
}

#[test]
fn the_page_is_served_with_its_headers() {
    // A page as the server looks for it; the wasm is not run here.
    let page = tempfile::tempdir().unwrap();
    std::fs::create_dir(page.path().join("pkg")).unwrap();
    for (name, text) in [("index.html", "<!doctype html>"), ("main.js", "1;"), ("pkg/darkroom_bg.wasm", "\0asm")] {
        std::fs::write(page.path().join(name), text).unwrap();
    }
    let server = Server::start(&["--page", page.path().to_str().unwrap()]);
    for (path, kind) in
        [("/", "text/html"), ("/main.js", "text/javascript"), ("/pkg/darkroom_bg.wasm", "application/wasm")]
    {
        let (status, headers, _) = server.get_bytes(path);
        assert_eq!(status, 200, "{path}");
        assert!(headers["content-type"].to_str().unwrap().starts_with(kind), "{path}: {headers:?}");
        for (name, value) in [
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-embedder-policy", "require-corp"),
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "frame-ancestors 'none'"),
        ] {
            assert_eq!(headers[name], value, "{path}");
        }
    }
    let mut part = Server::agent().get(server.url("/index.html")).header("Range", "bytes=0-3").call().unwrap();
    assert_eq!(part.status(), 206);
    let mut bytes = Vec::new();
    part.body_mut().as_reader().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"<!do");
    assert_eq!(server.get_bytes("/nothing.html").0, 404);
    assert_eq!(server.raw(&format!("GET /../Cargo.toml HTTP/1.1\r\nHost: {}\r\n\r\n", server.address)), 404);
}

#[test]
fn the_page_is_sent_compressed_and_once() {
    let page = tempfile::tempdir().unwrap();
    std::fs::create_dir(page.path().join("pkg")).unwrap();
    for (name, text) in [
        ("index.html", "<!doctype html>"),
        ("pkg/darkroom_bg.wasm", "\0asm"),
        ("pkg/darkroom_bg.wasm.br", "copy in br"),
        ("pkg/darkroom_bg.wasm.gz", "copy in gzip"),
    ] {
        std::fs::write(page.path().join(name), text).unwrap();
    }
    let server = Server::start(&["--page", page.path().to_str().unwrap()]);
    let get = |path: &str, name: &str, value: &str| {
        let mut answer = Server::agent().get(server.url(path)).header(name, value).call().unwrap();
        let headers = answer.headers().clone();
        let text = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        let mut bytes = Vec::new();
        answer.body_mut().as_reader().read_to_end(&mut bytes).unwrap();
        let body = String::from_utf8(bytes).unwrap();
        (answer.status().as_u16(), body, text("content-encoding"), text("content-type"), text("etag"))
    };
    let wasm = "/pkg/darkroom_bg.wasm";
    let mut tags = Vec::new();
    for (accepted, body, coding) in
        [("gzip, br", "copy in br", "br"), ("gzip", "copy in gzip", "gzip"), ("identity", "\0asm", "")]
    {
        let (status, sent, sent_coding, kind, tag) = get(wasm, "Accept-Encoding", accepted);
        assert_eq!((status, &*sent, &*sent_coding, &*kind), (200, body, coding, "application/wasm"), "{accepted}");
        assert!(!tag.is_empty() && !tags.contains(&tag), "{accepted}: {tag}");
        tags.push(tag);
    }
    // Asked again by its tag, a file is not sent again.
    let (status, sent, ..) = get(wasm, "If-None-Match", &tags[2]);
    assert_eq!((status, &*sent), (304, ""));
    for known in ["*".to_owned(), format!("\"other\", W/{}", tags[2])] {
        assert_eq!(get(wasm, "If-None-Match", &known).0, 304, "{known}");
    }
    // A range is of the file itself, and of one that was changed meanwhile all of it comes.
    assert_eq!(get(wasm, "Range", "bytes=0-1").0, 206);
    for (tag, status) in [(&*tags[2], 206), ("\"other\"", 200)] {
        let asked = Server::agent().get(server.url(wasm)).header("Range", "bytes=0-1").header("If-Range", tag);
        assert_eq!(asked.call().unwrap().status().as_u16(), status, "{tag}");
    }
    // A file that was changed is sent as it is, its copies being of another.
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
    let changed = page.path().join("pkg/darkroom_bg.wasm");
    std::fs::write(&changed, "\0new").unwrap();
    std::fs::File::options().write(true).open(&changed).unwrap().set_modified(later).unwrap();
    assert_eq!(get(wasm, "Accept-Encoding", "br").1, "\0new");
    assert_eq!(get(wasm, "If-None-Match", &tags[2]).0, 200);
    // Also where its date says that it was not.
    let tag = get(wasm, "Accept-Encoding", "identity").4;
    std::fs::write(&changed, "\0earlier").unwrap();
    let earlier = later - std::time::Duration::from_secs(3600);
    std::fs::File::options().write(true).open(&changed).unwrap().set_modified(earlier).unwrap();
    let date = "Fri, 01 Jan 2100 00:00:00 GMT";
    let asked = Server::agent().get(server.url(wasm)).header("If-None-Match", &tag).header("If-Modified-Since", date);
    assert_eq!(asked.call().unwrap().status().as_u16(), 200);
    // No name of a file, and none that the system would take.
    for path in ["/%00", &format!("/{}", "a".repeat(300))] {
        assert_eq!(get(path, "Accept", "*/*").0, 404, "{path}");
    }
    let tag_of_page = get("/", "Accept", "text/html").4;
    std::fs::write(page.path().join("index.html"), "<!doctype html><p>").unwrap();
    assert_eq!(get("/", "If-None-Match", &tag_of_page).1, "<!doctype html><p>");
}

#[test]
fn what_it_cannot_start_with_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let model = model().display().to_string();
    for (arguments, code, words) in [
        (vec!["serve"], 2, "name a model"),
        (vec!["serve", "--page", "."], 2, "./build.sh wasm"),
        (vec!["serve", "--model", "nothing"], 2, "v1-5"),
        (vec!["serve", "--model", &model, "--port", &port], 2, "use another --port"),
        (vec!["serve", "--model", &model, "--queue", "0"], 2, "queue"),
    ] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_darkroom")).args(&arguments).current_dir(folder.path()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        let last = stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("darkroom: ") && last.contains(words), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_start_picture_keeps_its_size_within_what_the_server_allows() {
    let server = Server::start(&["--max-side", "256"]);
    let picture = |width: usize, height: usize| {
        let pixels = (0..width * height * 3).map(|i| (i % 251) as u8).collect();
        STANDARD.encode(encode_png(&RgbImage::new(width, height, pixels).unwrap(), &[]).unwrap())
    };
    for ((width, height), more, size) in [
        ((200, 100), json!({}), (192, 96)),
        ((1000, 500), json!({}), (256, 128)),
        ((200, 100), json!({ "width": 96, "height": 96, "fit": "crop" }), (96, 96)),
    ] {
        let mut body = json!({ "prompt": "x", "steps": 2, "guidance_scale": 1, "image": picture(width, height) });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let job = server.wait_until_over(&server.add(&body));
        let drawn = decode(&server.get_bytes(job["images"][0]["url"].as_str().unwrap()).2).unwrap();
        assert_eq!((drawn.width, drawn.height), size, "{job}");
        assert_eq!((&job["request"]["width"], &job["request"]["height"]), (&json!(size.0), &json!(size.1)));
    }
    for (body, words) in [
        (json!({ "prompt": "x", "fit": "crop" }), "fit without a picture"),
        (json!({ "prompt": "x", "fit": "fill", "image": picture(8, 8) }), "crop"),
    ] {
        let (status, answer) = server.post("/v1/jobs", &body);
        assert_eq!(status, 400, "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(words), "{answer}");
    }
}
