//! How long the page takes on a line of 20 Mbit/s, on the first visit and on the second, and what goes over the line.
//! `./build.sh bench visit`; `DARKROOM_MBITS=100` for another line.

#[allow(dead_code, reason = "the tests use the rest of it")]
#[path = "../tests/page/browser.rs"]
mod browser;
#[allow(dead_code, unused_imports, reason = "the tests use the rest of it")]
#[path = "../tools/serve/folder.rs"]
mod folder;
#[path = "common/report.rs"]
mod report;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

/// Browsers that are started, each with nothing kept.
const N_ROUNDS: usize = 3;

/// Bytes that cross the line at once.
const PIECE: usize = 8 << 10;

/// A line to a server: everything that comes from it shares a rate.
struct Line {
    bytes_per_sec: f64,
    /// When the line is free again, and what crossed it.
    state: Mutex<(Instant, u64)>,
}

impl Line {
    /// Lays a line to a server on this machine, and gives the address at this end.
    fn lay(server: String, mbits: f64) -> (Arc<Self>, String) {
        let line = Arc::new(Line { bytes_per_sec: mbits * 1e6 / 8.0, state: Mutex::new((Instant::now(), 0)) });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = format!("http://{}/", listener.local_addr().expect("an address"));
        let of = Arc::clone(&line);
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let far =
                    TcpStream::connect(server.trim_start_matches("http://").trim_end_matches('/')).expect("the server");
                let (near_too, far_too) = (near.try_clone().expect("a stream"), far.try_clone().expect("a stream"));
                let line = Arc::clone(&of);
                std::thread::spawn(move || std::io::copy(&mut &near_too, &mut &far_too));
                std::thread::spawn(move || line.carry(&far, &near));
            }
        });
        (line, address)
    }

    fn carry(&self, mut from: &TcpStream, mut to: &TcpStream) -> std::io::Result<()> {
        let mut piece = [0; PIECE];
        loop {
            let n = from.read(&mut piece)?;
            if n == 0 {
                return to.shutdown(std::net::Shutdown::Both);
            }
            let until = {
                let mut state = self.state.lock().expect("the line");
                let start = state.0.max(Instant::now());
                *state = (start + Duration::from_secs_f64(n as f64 / self.bytes_per_sec), state.1 + n as u64);
                state.0
            };
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
            to.write_all(&piece[..n])?;
        }
    }

    fn carried(&self) -> u64 {
        self.state.lock().expect("the line").1
    }
}

/// What a visit took.
#[derive(Clone, Copy, Default)]
struct Visit {
    /// Until something is seen.
    paint_secs: f64,
    /// Until a picture can be asked for.
    open_secs: f64,
    /// Until the model is loaded.
    ready_secs: f64,
    /// Until then.
    megabytes: f64,
}

fn visit(browser: &browser::Browser, url: &str, line: &Line) -> Visit {
    let (before, start) = (line.carried(), Instant::now());
    browser.open(url);
    browser.wait_until("!document.getElementById('draw').disabled");
    let open_secs = start.elapsed().as_secs_f64();
    browser.wait_until_idle();
    let ready_secs = start.elapsed().as_secs_f64();
    let paint = browser.eval("performance.getEntriesByName('first-contentful-paint')[0]?.startTime");
    Visit {
        paint_secs: paint.as_f64().unwrap_or(f64::NAN) / 1e3,
        open_secs,
        ready_secs,
        megabytes: (line.carried() - before) as f64 / 1e6,
    }
}

fn main() {
    let mbits = std::env::var("DARKROOM_MBITS").ok().and_then(|text| text.parse().ok()).unwrap_or(20.0);
    let mut report = report::Report::start("visit");
    let (line, url) = Line::lay(browser::page_url(), mbits);
    let mut visits = [Vec::new(), Vec::new()];
    let mut total = Vec::new();
    for _ in 0..report::n_rounds(N_ROUNDS) {
        let browser = browser::Browser::start();
        let before = line.carried();
        visits[0].push(visit(&browser, &url, &line));
        // The service worker keeps every file of the build.
        browser.wait_until("navigator.serviceWorker.controller !== null || (navigator.serviceWorker.getRegistration().then((r) => { window.kept = r?.active?.state === 'activated'; }), window.kept)");
        total.push((line.carried() - before) as f64 / 1e6);
        visits[1].push(visit(&browser, &url, &line));
    }
    println!("a line of {mbits} Mbit/s: minimum, median, maximum");
    let mut row = |name: String, unit: &str, figures: Vec<f64>| {
        let [least, median, most] = report::spread(&figures);
        report.row(json!({ "what": name, "unit": unit, "mbits": mbits, "figures": figures }));
        println!("{name:<40} {least:>8.2} {median:>8.2} {most:>8.2} {unit}");
    };
    for (name, visits) in ["first visit", "second visit"].into_iter().zip(visits) {
        row(format!("{name}: first paint"), "s", visits.iter().map(|visit| visit.paint_secs).collect());
        row(format!("{name}: Generate can be pressed"), "s", visits.iter().map(|visit| visit.open_secs).collect());
        row(format!("{name}: model ready"), "s", visits.iter().map(|visit| visit.ready_secs).collect());
        row(format!("{name}: over the line until then"), "MB", visits.iter().map(|visit| visit.megabytes).collect());
    }
    row("all that is kept for the second".into(), "MB", total);
    report.finish();
}
