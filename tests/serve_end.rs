//! `darkroom serve` is asked to end.
#![cfg(all(unix, feature = "cli"))]

#[path = "load/mod.rs"]
mod load;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use load::{Server, ask, command};
use serde_json::{Value, json};

/// How long anything may take: a busy machine takes seconds, not this.
const PATIENCE: Duration = Duration::from_secs(100);

fn add(server: &Server, body: &Value) -> String {
    let (status, job) = ask(&server.address, "POST", "/v1/jobs", body.to_string().as_bytes()).unwrap();
    let job: Value = serde_json::from_slice(&job).unwrap();
    assert_eq!(status, 202, "{job}");
    format!("/v1/jobs/{}", job["id"].as_str().unwrap())
}

fn look(server: &Server, path: &str) -> Value {
    serde_json::from_slice(&ask(&server.address, "GET", path, b"").unwrap().1).unwrap()
}

fn wait_until_drawn(server: &Server, path: &str) {
    let start = Instant::now();
    while look(server, path)["progress"]["stage"] != "denoising" {
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn long() -> Value {
    json!({ "prompt": "a rocket", "steps": 150, "count": 8 })
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap().success());
}

/// Waits for the process to end; its exit code.
fn end(server: &mut Server) -> Option<i32> {
    let start = Instant::now();
    loop {
        if let Some(status) = server.process.try_wait().unwrap() {
            return status.code();
        }
        assert!(start.elapsed() < PATIENCE, "it goes on");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The last event that a listener is told.
fn listen(server: &Server, path: &str) -> std::thread::JoinHandle<String> {
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(format!("GET {path}/events HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
    let mut lines = BufReader::new(stream);
    let mut first = String::new();
    lines.read_line(&mut first).unwrap();
    assert!(first.contains("200"), "{first}");
    std::thread::spawn(move || lines.lines().map_while(Result::ok).filter(|line| line.contains(": ")).last().unwrap())
}

#[test]
fn a_signal_stops_the_job_under_way_and_tells_those_that_wait() {
    for name in ["TERM", "INT"] {
        let mut server = Server::start(&[]);
        let running = add(&server, &long());
        wait_until_drawn(&server, &running);
        let waiting = add(&server, &long());
        let listeners = [listen(&server, &running), listen(&server, &waiting)];
        signal(server.process.id(), name);
        assert_eq!(end(&mut server), Some(0), "{name}");
        let [running, waiting] = listeners.map(|listener| listener.join().unwrap());
        assert!(running.contains("\"status\":\"cancelled\""), "{running}");
        assert!(waiting.contains("\"status\":\"cancelled\"") && waiting.contains("shutting_down"), "{waiting}");
    }
}

#[test]
fn it_may_finish_the_job_under_way_which_can_then_be_fetched() {
    let mut server = Server::start(&["--on-exit", "finish"]);
    let running = add(&server, &json!({ "prompt": "a rocket", "steps": 60 }));
    wait_until_drawn(&server, &running);
    let waiting = add(&server, &long());
    signal(server.process.id(), "TERM");
    let start = Instant::now();
    loop {
        let job = look(&server, &running);
        if job["status"] == "done" {
            break;
        }
        assert!(job["status"] == "running" && start.elapsed() < PATIENCE, "{job}");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Nobody is taken in meanwhile.
    let (status, answer) = ask(&server.address, "POST", "/v1/jobs", long().to_string().as_bytes()).unwrap();
    assert_eq!(status, 503, "{}", String::from_utf8_lossy(&answer));
    assert_eq!(ask(&server.address, "GET", "/health", b"").unwrap().0, 503);
    assert_eq!(look(&server, &waiting)["error"]["code"], "shutting_down");
    let (status, png) = ask(&server.address, "GET", &format!("{running}/images/0"), b"").unwrap();
    assert!(status == 200 && png.starts_with(b"\x89PNG"), "{status}");
    assert_eq!(end(&mut server), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut server = Server::start(&["--on-exit", "finish"]);
    let running = add(&server, &long());
    wait_until_drawn(&server, &running);
    signal(server.process.id(), "TERM");
    std::thread::sleep(Duration::from_millis(300));
    assert!(server.process.try_wait().unwrap().is_none(), "it did not finish the job");
    let start = Instant::now();
    signal(server.process.id(), "TERM");
    assert_eq!(end(&mut server), Some(130));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn the_first_process_of_a_container_ends_too() {
    let unshare = ["unshare", "--pid", "--fork", "--kill-child"];
    let can = Command::new(unshare[0]).args(&unshare[1..]).arg("true").status().is_ok_and(|status| status.success());
    if !can {
        eprintln!("skipped, because no process may be the first of a namespace here");
        return;
    }
    for name in ["TERM", "INT"] {
        let serve = command(&[]);
        let mut first = Command::new(unshare[0]);
        first.args(&unshare[1..]).arg(serve.get_program()).args(serve.get_args()).current_dir(std::env::temp_dir());
        let mut server = Server::spawn(&mut first);
        let running = add(&server, &long());
        wait_until_drawn(&server, &running);
        let children = format!("/proc/{0}/task/{0}/children", server.process.id());
        let child = std::fs::read_to_string(children).unwrap();
        signal(child.trim().parse().unwrap(), name);
        assert_eq!(end(&mut server), Some(0), "{name}");
    }
}
