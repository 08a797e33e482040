//! Many clients at once, honest and hostile, against a real server over real HTTP on this machine: what it holds, how
//! fast it answers, and whether an honest job is lost. Used by tests/serve_load.rs and by `./build.sh bench serve`.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use darkroom::image::{RgbImage, decode, encode_png};
use serde_json::{Value, json};

/// Clients of each kind; 200 together.
const N_TEXT: usize = 20;
const N_PICTURE: usize = 10;
const N_READERS: usize = 10;
const N_HALF_HEADS: usize = 50;
const N_TRICKLES: usize = 30;
const N_SLOW_READERS: usize = 20;
const N_LISTENERS: usize = 20;
const N_POSTERS: usize = 40;
/// The longest that an honest job may take once the others are gone: a busy machine takes seconds, not this.
const PATIENCE: Duration = Duration::from_secs(200);

/// What was seen.
#[derive(Default)]
pub struct Seen {
    /// Seconds of honest GETs, and of as many bytes from a server that does nothing else, in the same process.
    pub gets: Vec<f64>,
    pub echoes: Vec<f64>,
    /// Seconds since the start, and resident bytes of the server.
    pub resident: Vec<(f64, u64)>,
    pub n_honest_accepted: usize,
    pub n_honest_done: usize,
    /// What went wrong with honest clients.
    pub losses: Vec<String>,
    /// Hostile requests by what they were answered with; 0 for a connection that ended without an answer.
    pub n_hostile: usize,
}

/// Shared between all clients.
struct Field {
    address: String,
    seen: Mutex<Seen>,
    is_over: AtomicBool,
    n_hostile: AtomicUsize,
    /// How many large bodies may be on their way at once, so that the machine's time goes to the server.
    large: (Mutex<usize>, Condvar),
}

/// `darkroom serve` with the embedded model, on a free port, and what follows.
pub fn command(arguments: &[&str]) -> Command {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("www/hub/darkroom/tiny-emoji/resolve/main");
    let mut command = Command::new(env!("CARGO_BIN_EXE_darkroom"));
    // Where no page lies about.
    command.args(["serve", "--port", "0", "--model"]).arg(model).args(arguments).current_dir(std::env::temp_dir());
    command
}

/// A server process; it ends when this is dropped.
pub struct Server {
    pub process: Child,
    pub address: String,
}

impl Server {
    pub fn start(arguments: &[&str]) -> Self {
        Self::spawn(&mut command(arguments))
    }

    /// Waits until it tells its address.
    pub fn spawn(command: &mut Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.strip_prefix("http://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
        assert!(address.parse::<std::net::SocketAddr>().is_ok(), "no address: {line:?}");
        Server { address: address.to_string(), process }
    }

    /// Bytes of the process that lie in memory.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or("VmRSS: 0 kB");
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended already is as good.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// One request on a connection of its own; the status and the body of the answer.
pub fn ask(address: &str, method: &str, path: &str, body: &[u8]) -> std::io::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(answer.len());
    let status = std::str::from_utf8(&answer[..end]).ok().and_then(|head| head.split(' ').nth(1)?.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other("no answer"))?;
    Ok((status, answer.split_off((end + 4).min(answer.len()))))
}

fn get(address: &str, path: &str) -> std::io::Result<(u16, Vec<u8>)> {
    ask(address, "GET", path, b"")
}

fn pause(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

impl Field {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn lost(&self, what: String) {
        self.seen.lock().unwrap().losses.push(what);
    }

    /// A job that is asked for until it is accepted, waited for and fetched. Whether it was accepted in time to count.
    fn honest_job(&self, body: &Value) {
        let body = body.to_string();
        let id = loop {
            if self.is_over() {
                return;
            }
            match ask(&self.address, "POST", "/v1/jobs", body.as_bytes()) {
                Ok((202, job)) => {
                    let job: Value = serde_json::from_slice(&job).unwrap();
                    break job["id"].as_str().unwrap().to_string();
                }
                // Try again later is no loss.
                Ok((429 | 503, _)) => pause(100),
                Ok((status, answer)) => {
                    return self.lost(format!("refused with {status}: {}", String::from_utf8_lossy(&answer)));
                }
                Err(error) => {
                    self.lost(format!("a request of {} bytes ended with {error}", body.len()));
                    pause(100);
                }
            }
        };
        self.seen.lock().unwrap().n_honest_accepted += 1;
        let path = format!("/v1/jobs/{id}");
        let start = Instant::now();
        loop {
            let job: Value = match get(&self.address, &path) {
                Ok((200, job)) => serde_json::from_slice(&job).unwrap(),
                Ok((503, _)) => json!({ "status": "queued" }),
                other => return self.lost(format!("an accepted job cannot be asked for: {other:?}")),
            };
            match job["status"].as_str() {
                Some("done") => break,
                Some("queued" | "running") if start.elapsed() < PATIENCE => pause(200),
                _ => return self.lost(format!("an accepted job came to {job}")),
            }
        }
        match get(&self.address, &format!("{path}/images/0")) {
            Ok((200, png)) if decode(&png).is_ok_and(|picture| (picture.width, picture.height) == (128, 128)) => {
                self.seen.lock().unwrap().n_honest_done += 1;
            }
            other => self.lost(format!("a picture cannot be fetched: {:?}", other.map(|(status, _)| status))),
        }
    }

    /// Watches how long answers take, beside those of a server that does nothing.
    fn reader(&self, echo: &str) {
        while !self.is_over() {
            for (address, is_echo) in [(self.address.as_str(), false), (echo, true)] {
                let start = Instant::now();
                let answer = get(address, "/v1/models");
                let secs = start.elapsed().as_secs_f64();
                let mut seen = self.seen.lock().unwrap();
                match answer {
                    Ok((200, _)) if is_echo => seen.echoes.push(secs),
                    Ok((200, _)) => seen.gets.push(secs),
                    other => seen.losses.push(format!("GET ended with {other:?}")),
                }
            }
            pause(100);
        }
    }

    fn hostile(&self) -> Option<TcpStream> {
        self.n_hostile.fetch_add(1, Ordering::Relaxed);
        let stream = TcpStream::connect(&self.address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        stream.set_write_timeout(Some(Duration::from_secs(20))).ok()?;
        Some(stream)
    }

    /// Holds a connection until the server ends it, sending `piece` every now and then.
    fn hold(&self, head: &str, piece: &[u8], millis: u64) {
        while !self.is_over() {
            let Some(mut stream) = self.hostile() else { continue };
            if stream.write_all(head.as_bytes()).is_ok() {
                while !self.is_over() && stream.write_all(piece).is_ok() {
                    pause(millis);
                }
            }
            pause(50);
        }
    }

    /// Asks for much and reads nothing.
    fn never_reads(&self, path: &str) {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        self.hold(&head, b"", 500);
    }

    /// Sends a large body, or part of it, and does not wait for what becomes of it.
    fn post(&self, body: &[u8], part: usize) {
        let (n_free, freed) = &self.large;
        {
            let mut n = freed.wait_while(n_free.lock().unwrap(), |n| *n == 0).unwrap();
            *n -= 1;
        }
        if let (false, Some(mut stream)) = (self.is_over(), self.hostile()) {
            let head = format!(
                "POST /v1/jobs HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                self.address,
                body.len()
            );
            // The server may end it before the end.
            if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body[..part])).is_ok() {
                // However much of the answer there is.
                let _read: usize = stream.read(&mut [0; 1024]).unwrap_or(0);
            }
        }
        *n_free.lock().unwrap() += 1;
        freed.notify_one();
    }

    /// A job that is cancelled at once.
    fn fickle(&self) {
        self.n_hostile.fetch_add(1, Ordering::Relaxed);
        let body = json!({ "prompt": "x", "steps": 150, "count": 8 }).to_string();
        if let Ok((202, job)) = ask(&self.address, "POST", "/v1/jobs", body.as_bytes()) {
            let job: Value = serde_json::from_slice(&job).unwrap();
            ask(&self.address, "DELETE", &format!("/v1/jobs/{}", job["id"].as_str().unwrap()), b"").ok();
        }
        pause(300);
    }
}

fn noise(width: usize, height: usize) -> RgbImage {
    let mut state = 1_u32;
    let level = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    RgbImage::new(width, height, (0..width * height * 3).map(level).collect()).unwrap()
}

/// Bodies that cost the server as much as they can: pictures that are small files and many pixels, files that are large,
/// text that is large, lists in lists, more than is allowed.
fn hostile_bodies() -> Vec<Vec<u8>> {
    let black = |side: usize| {
        let picture = RgbImage::new(side, side, vec![0; side * side * 3]).unwrap();
        STANDARD.encode(encode_png(&picture, &[]).unwrap())
    };
    let (bomb, mask) = (black(5000), black(3000));
    let large = |n: usize| "A".repeat(n);
    vec![
        json!({ "prompt": "x", "image": bomb, "mask": bomb, "steps": 1, "width": 128, "height": 128 })
            .to_string()
            .into(),
        json!({ "prompt": "x", "image": mask, "mask": mask, "steps": 1, "width": 128, "height": 128 })
            .to_string()
            .into(),
        json!({ "prompt": "x", "image": large(60 << 20) }).to_string().into_bytes(),
        json!({ "prompt": large(30 << 20) }).to_string().into_bytes(),
        json!({ "prompt": "x", "image": large(80 << 20) }).to_string().into_bytes(),
        format!("[{}]", "0,".repeat(10 << 20)).into_bytes(),
        "[".repeat(10 << 20).into_bytes(),
        format!("{{\"prompt\":\"{}\"}}", "\\n".repeat(10 << 20)).into_bytes(),
    ]
}

/// What one of many clients does, by its number, until the field is over.
type Client = Arc<dyn Fn(&Field, usize) + Send + Sync>;

/// A server that answers everything at once, to know how long that takes in this process on this machine now.
fn start_echo() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            // The request is one small piece.
            let _read: usize = stream.read(&mut [0; 4096]).unwrap_or(0);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok();
        }
    });
    address
}

/// Lets 200 clients loose on the server for so long, tells every `tell` what was seen last, and waits for the honest ones.
pub fn run(server: &Server, time: Duration, tell: Duration) -> Seen {
    let field = Arc::new(Field {
        address: server.address.clone(),
        seen: Mutex::default(),
        is_over: AtomicBool::new(false),
        n_hostile: AtomicUsize::new(0),
        large: (Mutex::new(2), Condvar::new()),
    });
    let bodies = Arc::new(hostile_bodies());
    let echo = start_echo();
    // A picture that those who never read can ask for.
    field.honest_job(&json!({ "prompt": "a rocket", "steps": 1, "seed": 1 }));
    let mut clients = Vec::new();
    let mut spawn = |n: usize, client: Client| {
        for i in 0..n {
            let (field, client) = (Arc::clone(&field), Arc::clone(&client));
            let thread = std::thread::Builder::new().stack_size(256 << 10);
            clients.push(thread.spawn(move || client(&field, i)).unwrap());
        }
    };
    let text = json!({ "prompt": "a red apple on a blue background", "steps": 1, "guidance_scale": 1, "seed": 1 });
    let mut picture = text.clone();
    picture["image"] = json!(STANDARD.encode(encode_png(&noise(300, 200), &[]).unwrap()));
    // The model draws squares of 128; a picture's own size is another one.
    (picture["width"], picture["height"], picture["steps"]) = (json!(128), json!(128), json!(2));
    for (n, body) in [(N_TEXT, text), (N_PICTURE, picture)] {
        spawn(
            n,
            Arc::new(move |field, _| {
                while !field.is_over() {
                    field.honest_job(&body);
                    pause(500);
                }
            }),
        );
    }
    spawn(N_READERS, Arc::new(move |field, _| field.reader(&echo)));
    let address = server.address.clone();
    let half = format!("GET /v1/models HTTP/1.1\r\nHost: {address}\r\n");
    spawn(N_HALF_HEADS, Arc::new(move |field, _| field.hold(&half, b"X-A: b\r\n", 1000)));
    let slow = format!(
        "POST /v1/jobs HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: 50000000\r\n\r\n"
    );
    spawn(N_TRICKLES, Arc::new(move |field, _| field.hold(&slow, &[b' '; 512], 500)));
    spawn(N_SLOW_READERS, Arc::new(|field, _| field.never_reads("/metrics")));
    let long = json!({ "prompt": "x", "steps": 150, "count": 8 }).to_string();
    spawn(
        N_LISTENERS,
        Arc::new(move |field, i| match i {
            0..5 => {
                while !field.is_over() {
                    field.fickle();
                }
            }
            _ => {
                let Ok((202, job)) = ask(&field.address, "POST", "/v1/jobs", long.as_bytes()) else {
                    return field.never_reads("/v1/models");
                };
                let job: Value = serde_json::from_slice(&job).unwrap();
                let path = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
                ask(&field.address, "DELETE", &path, b"").ok();
                field.never_reads(&format!("{path}/events"));
            }
        }),
    );
    spawn(
        N_POSTERS,
        Arc::new(move |field, i| {
            let mut n = i;
            while !field.is_over() {
                let body = &bodies[n % bodies.len()];
                // Every third goes in the middle.
                field.post(body, if n % 3 == 0 { body.len() / 2 } else { body.len() });
                n += 1;
                pause(200);
            }
        }),
    );

    let start = Instant::now();
    let mut told = Instant::now();
    let mut n_told = 0;
    while start.elapsed() < time {
        pause(100);
        let mut seen = field.seen.lock().unwrap();
        seen.resident.push((start.elapsed().as_secs_f64(), server.resident_bytes()));
        if told.elapsed() >= tell {
            told = Instant::now();
            println!(
                "{:>4.0} s: {:>4} MiB resident, {} honest jobs done, {} lost, {} hostile requests, GET p50 {:.1} ms p99 {:.1} ms",
                start.elapsed().as_secs_f64(),
                server.resident_bytes() >> 20,
                seen.n_honest_done,
                seen.losses.len(),
                field.n_hostile.load(Ordering::Relaxed),
                quantile(&seen.gets[n_told.min(seen.gets.len())..], 0.5) * 1e3,
                quantile(&seen.gets[n_told.min(seen.gets.len())..], 0.99) * 1e3
            );
            n_told = seen.gets.len();
        }
    }
    field.is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    let mut seen = std::mem::take(&mut *field.seen.lock().unwrap());
    seen.n_hostile = field.n_hostile.load(Ordering::Relaxed);
    seen
}

/// The figure below which this part of them lies.
pub fn quantile(figures: &[f64], part: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get(((last as f64 * part).round() as usize).min(last)).copied().unwrap_or(f64::NAN)
}
