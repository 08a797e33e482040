//! `darkroom serve` among 200 clients, most of which mean it ill: see tests/load. `./build.sh bench serve` does the same
//! for ten minutes.
#![cfg(all(not(target_arch = "wasm32"), feature = "cli"))]

#[path = "load/mod.rs"]
mod load;

use std::time::Duration;

use load::{Server, quantile};

/// What the server may hold for clients.
const LIMIT: u64 = 256 << 20;
/// The model, and what drawing needs.
const SLACK: u64 = 96 << 20;

#[test]
fn two_hundred_clients_neither_fill_the_memory_nor_lose_an_honest_job() {
    let server = Server::start(&["--memory", &LIMIT.to_string(), "--queue", "40"]);
    let before = server.resident_bytes();
    let seen = load::run(&server, Duration::from_secs(20), Duration::from_secs(5));
    let most = seen.resident.iter().map(|(_, bytes)| *bytes).max().unwrap();
    let [half, p99, max] = [0.5, 0.99, 1.0].map(|part| quantile(&seen.gets, part) * 1e3);
    let echo = quantile(&seen.echoes, 0.99) * 1e3;
    eprintln!(
        "{} MiB at most; {} of {} honest jobs, {} hostile requests; GET p50 {half:.1} ms, p99 {p99:.1} ms, max {max:.1} \
         ms, where an idle server's p99 is {echo:.1} ms",
        most >> 20,
        seen.n_honest_done,
        seen.n_honest_accepted,
        seen.n_hostile
    );
    assert_eq!(seen.losses, Vec::<String>::new());
    assert!(most < before + LIMIT + SLACK, "{} MiB, {} before", most >> 20, before >> 20);
    // Flat: what the second half takes, the first took too.
    let half_time = seen.resident[seen.resident.len() / 2].0;
    let [first, second] = [false, true].map(|is_second| {
        seen.resident.iter().filter(|(at, _)| (*at >= half_time) == is_second).map(|(_, bytes)| *bytes).max().unwrap()
    });
    assert!(second < first + LIMIT / 2, "{} MiB, then {}", first >> 20, second >> 20);
    // What the clients themselves take of the machine is in both.
    assert!(p99 < 100.0 + 20.0 * echo, "GET p99 {p99} ms, of an idle server {echo} ms");
    assert_eq!(seen.n_honest_done, seen.n_honest_accepted);
    assert!(seen.n_honest_done >= 20, "only {} honest jobs were done", seen.n_honest_done);
}
