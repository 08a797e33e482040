//! `darkroom serve` among strangers: who is let in, what one client can hold of it, and how it ends.
#![cfg(all(not(target_arch = "wasm32"), feature = "cli"))]

#[path = "load/mod.rs"]
mod load;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use darkroom::image::{RgbImage, encode_png};
use load::{Server, ask, command};
use serde_json::{Value, json};

/// How long anything may take: a busy machine takes seconds, not this.
const PATIENCE: Duration = Duration::from_secs(100);

/// Sends a request as it is, all of it before anything is read, as most clients do; the answer's head and body.
fn raw(address: &str, request: &[u8]) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    // One answer and its body; the connection may stay open.
    loop {
        let n_bytes = stream.read(&mut buffer).unwrap();
        answer.extend_from_slice(&buffer[..n_bytes]);
        let text = String::from_utf8_lossy(&answer).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
            if n_bytes == 0 || length.is_some_and(|length: usize| body.len() >= length) {
                return (head.to_string(), body.to_string());
            }
        }
        assert!(n_bytes > 0, "no answer, only {text:?}");
    }
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

fn get(address: &str, path: &str, headers: &str) -> (u16, String) {
    let (head, body) = raw(address, format!("GET {path} HTTP/1.1\r\n{headers}\r\n").as_bytes());
    (status(&head), body)
}

fn job(server: &Server, body: &Value) -> (u16, Value) {
    let (status, answer) = ask(&server.address, "POST", "/v1/jobs", body.to_string().as_bytes()).unwrap();
    (status, serde_json::from_slice(&answer).unwrap())
}

fn look(server: &Server, id: &str) -> Value {
    serde_json::from_slice(&ask(&server.address, "GET", &format!("/v1/jobs/{id}"), b"").unwrap().1).unwrap()
}

fn wait_for(server: &Server, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let job = look(server, id);
        if wanted(&job) {
            return job;
        }
        assert!(start.elapsed() < PATIENCE, "{job}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A job of minutes that is being drawn; its id.
fn long_job(server: &Server) -> String {
    let (status, long) = job(server, &json!({ "prompt": "a rocket", "steps": 150, "count": 8 }));
    assert_eq!(status, 202, "{long}");
    let id = long["id"].as_str().unwrap().to_string();
    wait_for(server, &id, |job| job["progress"]["stage"] == "denoising");
    id
}

#[test]
fn this_machine_is_answered_under_all_its_names_and_no_other() {
    let server = Server::start(&["--host", "127.0.1.1"]);
    let port = server.address.rsplit_once(':').unwrap().1;
    for host in [
        &server.address,
        "127.0.0.1",
        "127.9.8.7:1",
        "LOCALHOST:8080",
        "localhost",
        "Localhost.",
        "localhost.:8080",
        "[::1]",
        "[::1]:8080",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]:80",
    ] {
        let (status, body) = get(&server.address, "/v1/models", &format!("Host: {host}\r\n"));
        assert_eq!(status, 200, "{host}: {body}");
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example.:8080",
        "evil.example:127",
        "localhost..",
        "10.0.0.1",
        "0.0.0.0",
        "[::2]",
        "[::1].evil.example",
        "::1",
        "localhost:8080:8080",
        "",
    ] {
        for path in ["/v1/models", "/health", "/metrics", "/v1/nothing"] {
            let (status, body) = get(&server.address, path, &format!("Host: {host}\r\n"));
            assert!(status == 403 || status == 400, "{host}: {status} {body}");
        }
    }
    let (head, _) = raw(
        &server.address,
        format!("GET http://evil.example/v1/models HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n").as_bytes(),
    );
    assert_eq!(status(&head), 403, "{head}");
    // Pages of other sites may send forms without asking.
    let origin =
        |origin: &str| get(&server.address, "/v1/models", &format!("Host: localhost:{port}\r\nOrigin: {origin}\r\n"));
    assert_eq!(origin(&format!("http://localhost:{port}")).0, 200);
    for foreign in ["http://evil.example", "null", "http://localhost:1"] {
        assert_eq!(origin(foreign).0, 403, "{foreign}");
    }

    let server = Server::start(&["--host", "localhost"]);
    assert_eq!(get(&server.address, "/v1/models", "Host: localhost\r\n").0, 200);
}

#[test]
fn beyond_this_machine_a_token_is_asked_for() {
    for (arguments, words) in [
        (vec!["--host", "0.0.0.0"], "--no-token"),
        (vec!["--host", "::"], "--token"),
        (vec!["--host", "no.such.host.invalid"], "host"),
        (vec!["--token", ""], "token"),
        (vec!["--token", "a b"], "token"),
        (vec!["--token", "x", "--no-token"], "token"),
        (vec!["--memory", "1MB"], "64MiB"),
        (vec!["--budget", "1GB"], "--device gpu"),
    ] {
        let output = command(&arguments).env_remove("DARKROOM_TOKEN").output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.lines().count() == 1 && stderr.contains(words), "{arguments:?}: {stderr}");
    }

    for server in [Server::start(&["--token", "s3cret"]), Server::spawn(command(&[]).env("DARKROOM_TOKEN", "s3cret"))] {
        let with = |path: &str, header: &str| get(&server.address, path, &format!("Host: localhost\r\n{header}"));
        let basic = |pair: &str| format!("Authorization: Basic {}\r\n", STANDARD.encode(pair));
        for path in ["/v1/models", "/metrics", "/v1/jobs/x"] {
            let right = if path == "/v1/jobs/x" { 404 } else { 200 };
            for (header, expected) in [
                ("".to_string(), 401),
                ("Authorization: Bearer wrong\r\n".into(), 401),
                ("Authorization: Bearer s3cret2\r\n".into(), 401),
                ("Authorization: s3cret\r\n".into(), 401),
                ("Authorization: Bearer s3cret\r\n".into(), right),
                ("Authorization: bearer s3cret\r\n".into(), right),
                (basic("me:wrong"), 401),
                (basic("me:s3cret"), right),
            ] {
                let (status, body) = with(path, &header);
                assert_eq!(status, expected, "{path} {header}: {body}");
            }
        }
        let (head, body) = raw(&server.address, b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(head.contains("www-authenticate: bearer"), "{head}");
        assert!(body.contains("invalid_api_key") && body.contains("authorization: bearer"), "{body}");
        assert_eq!(with("/health", "").0, 200);
    }
}

#[test]
fn health_and_metrics_tell_what_goes_on() {
    let server = Server::start(&["--queue", "7", "--memory", "128MiB"]);
    let health =
        || -> Value { serde_json::from_str(&get(&server.address, "/health", "Host: localhost\r\n").1).unwrap() };
    assert_eq!(health()["status"], "ok");
    assert_eq!(health()["model_loaded"], false);
    let (_, added) = job(&server, &json!({ "prompt": "a rocket", "steps": 2 }));
    wait_for(&server, added["id"].as_str().unwrap(), |job| job["status"] == "done");
    assert_eq!(job(&server, &json!({ "prompt": "x", "steps": 0 })).0, 400);
    let health = health();
    assert_eq!((&health["model"], &health["model_loaded"]), (&json!("darkroom/tiny-emoji"), &json!(true)));
    assert_eq!(health["queue"], json!({ "waiting": 0, "limit": 7, "running": false }));
    let (status, text) = get(&server.address, "/metrics", "Host: localhost\r\n");
    assert_eq!(status, 200);
    let value = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    };
    assert_eq!(value("darkroom_queue_length"), 0.0);
    assert_eq!(value("darkroom_jobs_total{outcome=\"done\"}"), 1.0);
    assert_eq!(value("darkroom_jobs_total{outcome=\"refused\"}"), 1.0);
    assert_eq!(value("darkroom_images_total"), 1.0);
    assert!(value("darkroom_job_seconds_total{stage=\"denoising\"}") > 0.0);
    assert!(value("darkroom_job_seconds_total{stage=\"loading\"}") > 0.0);
    assert_eq!(value("darkroom_memory_limit_bytes"), f64::from(128 << 20));
    assert!(value("darkroom_memory_held_bytes{kind=\"results\"}") > 1000.0);
    assert_eq!(value("darkroom_memory_held_bytes{kind=\"uploads\"}"), 0.0);
    assert!(value("darkroom_http_requests_total{status=\"200\"}") >= 3.0);
    assert_eq!(value("darkroom_http_requests_total{status=\"400\"}"), 1.0);
    // What Prometheus reads: every name is explained once, and every line is a comment or a number.
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, number) = line.rsplit_once(' ').unwrap();
        assert!(number.parse::<f64>().is_ok(), "{line}");
        let name = name.split('{').next().unwrap();
        assert_eq!(text.matches(&format!("# type {name} ")).count(), 1, "{line}");
    }
}

#[test]
fn large_pictures_wait_as_files_and_the_queue_says_no_first() {
    let server = Server::start(&["--queue", "3"]);
    let long = long_job(&server);
    let before = server.resident_bytes();
    let white = RgbImage::new(6000, 6000, vec![255; 6000 * 6000 * 3]).unwrap();
    let file = STANDARD.encode(encode_png(&white, &[]).unwrap());
    drop(white);
    let body =
        json!({ "prompt": "x", "steps": 1, "image": file, "mask": file, "width": 128, "height": 128 }).to_string();
    let mut most = 0;
    let mut slowest = Duration::ZERO;
    let mut answers = Vec::new();
    std::thread::scope(|scope| {
        let posts: Vec<_> = (0..5)
            .map(|_| scope.spawn(|| ask(&server.address, "POST", "/v1/jobs", body.as_bytes()).unwrap()))
            .collect();
        while !posts.iter().all(|post| post.is_finished()) {
            let start = Instant::now();
            assert_eq!(ask(&server.address, "GET", &format!("/v1/jobs/{long}"), b"").unwrap().0, 200);
            slowest = slowest.max(start.elapsed());
            most = most.max(server.resident_bytes());
            std::thread::sleep(Duration::from_millis(10));
        }
        answers = posts.into_iter().map(|post| post.join().unwrap()).collect();
    });
    let mut statuses: Vec<u16> = answers.iter().map(|(status, _)| *status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [202, 202, 202, 429, 429]);
    let waiting = server.resident_bytes();
    eprintln!(
        "{} MiB before, {} at most, {} while three wait; the slowest GET took {} ms",
        before >> 20,
        most >> 20,
        waiting >> 20,
        slowest.as_millis()
    );
    // One picture at a time has 103 MiB of pixels; six would have 618.
    assert!(most < before + (260 << 20), "{} MiB more", (most - before) >> 20);
    assert!(waiting < before + (60 << 20), "{} MiB more", (waiting - before) >> 20);
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    ask(&server.address, "DELETE", &format!("/v1/jobs/{long}"), b"").unwrap();
    for (status, answer) in answers {
        if status == 202 {
            let job: Value = serde_json::from_slice(&answer).unwrap();
            let job = wait_for(&server, job["id"].as_str().unwrap(), |job| {
                !matches!(job["status"].as_str(), Some("queued" | "running"))
            });
            assert_eq!(job["status"], "done", "{job}");
        }
    }
}

#[test]
fn a_small_file_of_a_huge_picture_is_refused_by_its_header() {
    let server = Server::start(&["--queue", "3"]);
    let long = long_job(&server);
    // Pillow's `Image.new("1", (16384, 16384), 1)`: 1 bit a pixel, all white.
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 16_384, 16_384);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    encoder.write_header().unwrap().write_image_data(&vec![0xff; 2048 * 16_384]).unwrap();
    let file = STANDARD.encode(file);
    let before = server.resident_bytes();
    for body in [
        json!({ "prompt": "x", "steps": 1, "image": file, "mask": file }),
        json!({ "prompt": "x", "steps": 1, "image": file }),
    ] {
        let start = Instant::now();
        let (status, answer) = ask(&server.address, "POST", "/v1/jobs", body.to_string().as_bytes()).unwrap();
        assert_eq!(status, 413, "{}", String::from_utf8_lossy(&answer));
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
    assert!(server.resident_bytes() < before + (64 << 20), "{} bytes more", server.resident_bytes() - before);
    ask(&server.address, "DELETE", &format!("/v1/jobs/{long}"), b"").unwrap();
}

#[test]
fn refusals_arrive_at_clients_that_send_everything_first() {
    let server = Server::start(&["--queue", "1"]);
    let post = |headers: &str, body: &[u8]| {
        let head = format!(
            "POST /v1/jobs HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{headers}\r\n\r\n",
            server.address
        );
        raw(&server.address, &[head.as_bytes(), body].concat())
    };
    let large = vec![b' '; 65 << 20];
    let length = format!("Content-Length: {}", large.len());
    let (head, body) = post(&length, &large);
    assert_eq!(status(&head), 413, "{head}");
    assert!(body.contains("body_too_large") && body.contains("64 mib"), "{body}");
    // Without a length it is counted as it comes.
    let chunked = [format!("{:x}\r\n", large.len()).as_bytes(), &large, b"\r\n0\r\n\r\n"].concat();
    assert_eq!(status(&post("Transfer-Encoding: chunked", &chunked).0), 413);
    // A client that asks first is told before it sends.
    let (head, _) = post(&format!("{length}\r\nExpect: 100-continue"), b"");
    assert_eq!(status(&head), 413, "{head}");
    let (head, body) = post(&length.replace("Content-Length", "Content-Type: text/plain\r\nContent-Length"), &large);
    assert!(matches!(status(&head), 413 | 415), "{body}");

    let long = long_job(&server);
    assert_eq!(job(&server, &json!({ "prompt": "x" })).0, 202);
    let (head, body) = post(&format!("Content-Length: {}", 30 << 20), &large[..30 << 20]);
    assert_eq!(status(&head), 429, "{head}");
    assert!(body.contains("queue_full"), "{body}");
    // The server is none the worse.
    assert_eq!(look(&server, &long)["status"], "running");
}

#[test]
fn slow_heads_and_bodies_time_out_and_keep_nobody_out() {
    let mut limited = Command::new("sh");
    let serve = command(&[]);
    limited.args(["-c", "ulimit -n 128 && exec \"$0\" \"$@\""]).arg(serve.get_program()).args(serve.get_args());
    let server = Server::spawn(limited.current_dir(std::env::temp_dir()));
    let open = |text: &str| {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let slow = format!(
        "POST /v1/jobs HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 50000\r\n\r\n{{",
        server.address
    );
    let mut body = open(&slow);
    let mut heads: Vec<TcpStream> = (0..140).map(|_| open("GET /v1/models HTTP/1.1\r\nHost: ")).collect();
    for _ in 0..20 {
        let start = Instant::now();
        assert_eq!(get(&server.address, "/v1/models", "Host: localhost\r\n").0, 200);
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
    // Those that were not sent away are when their time is up.
    let start = Instant::now();
    for head in &mut heads {
        let ended = head.read(&mut [0; 1024]);
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    let mut answer = String::new();
    body.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("body_too_slow"), "{answer}");
    // A head of megabytes is none.
    let mut long = open("GET /v1/models HTTP/1.1\r\nHost: localhost\r\n");
    let lines = "X-Header: of some length, and there are many of them\r\n".repeat(4000);
    // It may end before all is sent.
    long.write_all(lines.as_bytes()).ok();
    answer.clear();
    long.read_to_string(&mut answer).ok();
    assert!(answer.starts_with("HTTP/1.1 431 ") || answer.is_empty(), "{answer}");
}

#[test]
fn what_is_wrong_with_a_body_is_said_in_plain_words() {
    let server = Server::start(&[]);
    for (body, words) in [
        ("{", "the body is not json: it ends early at line 1"),
        ("{\"prompt\": }", "the body is not json: it is malformed at line 1"),
        ("[\"x\"]", "the body is not a json object"),
        ("{\"steps\": 3}", "prompt is missing"),
        ("{\"prompt\": 3}", "prompt 3 is not possible: use a text"),
        ("{\"prompt\": \"x\", \"steps\": -1}", "steps -1 is not possible: use a whole number, 0 or more"),
        ("{\"prompt\": \"x\", \"steps\": \"many\"}", "steps \\\"many\\\" is not possible: use a whole number"),
        ("{\"prompt\": \"x\", \"steps\": 1.5}", "steps 1.5 is not possible: use a whole number"),
        ("{\"prompt\": \"x\", \"colour\": 1}", "there is no setting \\\"colour\\\": use"),
        ("{\"prompt\": \"x\"} x", "the body is not json"),
        (r#"{"prompt": "x\ud800"}"#, "a text has half of a surrogate pair at line 1"),
        (r#"{"prompt": "x\ud800\n"}"#, "a text has half of a surrogate pair at line 1"),
        (r#"{"prompt": "\udc00x"}"#, "a text has half of a surrogate pair at line 1"),
        (r#"{"prompt": "\ud800\u0041"}"#, "a text has half of a surrogate pair at line 1"),
    ] {
        let (status, answer) = ask(&server.address, "POST", "/v1/jobs", body.as_bytes()).unwrap();
        let answer = String::from_utf8(answer).unwrap().to_lowercase();
        assert_eq!(status, 400, "{body}: {answer}");
        assert!(answer.contains(words), "{body}: {answer}");
        assert!(!answer.contains("usize") && !answer.contains("expected"), "{body}: {answer}");
    }
    // What takes many times its text once it is parsed, and what would be repeated in the answer.
    let list = format!("{{\"prompt\": \"x\", \"x\": [{}0]}}", "0,".repeat(1 << 20));
    assert_eq!(ask(&server.address, "POST", "/v1/jobs", list.as_bytes()).unwrap().0, 400);
    let long = json!({ "prompt": "x".repeat(1 << 20) }).to_string();
    let (status, answer) = ask(&server.address, "POST", "/v1/jobs", long.as_bytes()).unwrap();
    assert!(status == 400 && answer.len() < 1000, "{status}");
    let name = json!({ "prompt": "x", "model": "y".repeat(1 << 20) }).to_string();
    let (status, answer) = ask(&server.address, "POST", "/v1/jobs", name.as_bytes()).unwrap();
    assert!(status == 404 && answer.len() < 5000, "{status}: {}", answer.len());
}
