//! A model of more than a gigabyte from a server on this machine into a browser's IndexedDB, and from there to its GPU,
//! beside a plain read of the same chunks. `./build.sh bench --bench stream`; `DARKROOM_ROUNDS=1` for one round.
//!
//! An adapter that stands in for a GPU takes bytes by copying them once more, so that the rate to a real one differs.

#[allow(dead_code, reason = "the tests use the rest of it")]
#[path = "../tests/page/browser.rs"]
mod browser;
#[allow(dead_code, unused_imports, reason = "the tests use the rest of it")]
#[path = "../tools/serve/folder.rs"]
mod folder;
#[allow(dead_code, reason = "the tests use the rest of it")]
#[path = "../tests/hub_server/mod.rs"]
mod hub_server;
#[path = "../tests/common/large.rs"]
mod large;
#[path = "common/report.rs"]
mod report;

use large::{Streamed, large_model, stream};

/// Browsers that are started, each with nothing kept, unless `DARKROOM_ROUNDS` says otherwise.
const N_ROUNDS: usize = 3;

fn main() {
    let n_rounds = report::n_rounds(N_ROUNDS);
    let mut report = report::Report::start("stream");
    report.note(
        "Where a processor stands in for a GPU, its memory is this machine's own: bytes reach it by one more copy. The rate \
         to a real one differs.",
    );
    let hub = hub_server::Hub::start(large_model());
    let page = browser::page_url();
    let rounds: Vec<Streamed> = (0..n_rounds).map(|_| stream(&browser::Browser::start(), &page, &hub)).collect();
    let bytes = rounds.first().map_or(0.0, |round| round.bytes);
    println!("{:.2} GB, {n_rounds} rounds: minimum, median, maximum", bytes / 1e9);
    let mut row = |name: &str, unit: &str, figure: &dyn Fn(&Streamed) -> f64| {
        let figures: Vec<f64> = rounds.iter().map(figure).collect();
        let [least, median, most] = report::spread(&figures);
        report.row(serde_json::json!({ "what": name, "unit": unit, "bytes": bytes, "figures": figures }));
        println!("{name:<40} {least:>8.2} {median:>8.2} {most:>8.2} {unit}");
    };
    row("network to IndexedDB", "MB/s", &|round| round.bytes / round.download_secs / 1e6);
    row("the same by plain JavaScript, not hashed", "MB/s", &|round| round.bytes / round.raw_download_secs / 1e6);
    row("plain read of IndexedDB", "MB/s", &|round| round.bytes / round.raw_read_secs / 1e6);
    row("IndexedDB to wasm", "MB/s", &|round| round.bytes / round.read_secs / 1e6);
    row("plain read and writeBuffer", "MB/s", &|round| round.bytes / round.raw_upload_secs / 1e6);
    row("IndexedDB to GPU", "MB/s", &|round| round.bytes / round.load_secs / 1e6);
    row("IndexedDB to wasm / plain read", "", &|round| round.raw_read_secs / round.read_secs);
    row("IndexedDB to GPU / read and writeBuffer", "", &|round| round.raw_upload_secs / round.load_secs);
    row("IndexedDB to GPU / plain read", "", &|round| round.raw_read_secs / round.load_secs);
    row("wasm heap, largest", "MiB", &|round| round.heap_bytes / f64::from(1 << 20));
    report.finish();
}
