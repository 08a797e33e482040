//! 200 clients, honest and hostile, against `darkroom serve`: its memory, how fast it answers, whether an honest job is
//! lost. `./build.sh bench serve`; ten minutes, or `DARKROOM_SECONDS`.

#[path = "../tests/load/mod.rs"]
mod load;
#[path = "common/report.rs"]
mod report;

use std::time::Duration;

use load::{Server, quantile};
use serde_json::json;

/// What the server may hold for clients.
const LIMIT: u64 = 256 << 20;

fn main() {
    let secs = std::env::var("DARKROOM_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(600);
    let mut report = report::Report::start("serve");
    println!("200 clients for {secs} s; the server may hold {} MiB for them", LIMIT >> 20);
    let server = Server::start(&["--memory", &LIMIT.to_string(), "--queue", "40"]);
    let seen = load::run(&server, Duration::from_secs(secs), Duration::from_secs((secs / 20).max(1)));
    let resident = |from: f64, to: f64| {
        let within = seen.resident.iter().filter(|(at, _)| (from..to).contains(at));
        within.map(|(_, bytes)| *bytes).max().unwrap_or(0) >> 20
    };
    let secs = secs as f64;
    let parts: Vec<u64> = (0..4).map(|i| resident(secs * f64::from(i) / 4.0, secs * f64::from(i + 1) / 4.0)).collect();
    println!(
        "\nthe most that was resident, in MiB, by quarter of the time: {parts:?}; at the end {}",
        server.resident_bytes() >> 20
    );
    for (name, figures) in [("GET", &seen.gets), ("GET from an idle server", &seen.echoes)] {
        let [half, p99, most] = [0.5, 0.99, 1.0].map(|part| quantile(figures, part) * 1e3);
        println!("{name:<28} p50 {half:>8.2} ms, p99 {p99:>8.2} ms, max {most:>8.2} ms ({} of them)", figures.len());
        report.row(json!({ "what": name, "n": figures.len(), "p50_ms": half, "p99_ms": p99, "max_ms": most }));
    }
    println!(
        "{} hostile requests; {} honest jobs accepted, {} done, {} things lost",
        seen.n_hostile,
        seen.n_honest_accepted,
        seen.n_honest_done,
        seen.losses.len()
    );
    for loss in seen.losses.iter().take(10) {
        println!("lost: {loss}");
    }
    report.row(json!({ "what": "resident MiB by quarter", "figures": parts }));
    report.row(json!({ "what": "jobs", "hostile": seen.n_hostile, "accepted": seen.n_honest_accepted,
        "done": seen.n_honest_done, "lost": seen.losses }));
    report
        .note("Clients and server share this machine's processors: what a GET takes has the clients' own work in it.");
    report.finish();
    assert!(seen.losses.is_empty() && seen.n_honest_done == seen.n_honest_accepted, "honest jobs were lost");
}
