//! A checkpoint in one file of Stable Diffusion 1.5's sizes, in random numbers, from a file of the machine through IndexedDB
//! into buffers of the GPU, in a small heap.
//!
//! It takes minutes and 5 GB of disk, so `DARKROOM_LARGE=1 cargo test --test page large_file` runs it.

use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::browser::{Browser, PATIENCE, page_url};
use crate::names;

/// The wasm's memory may have this many bytes while a model of any size goes through it.
const MAX_HEAP_BYTES: f64 = (64 << 20) as f64;

/// Writes a file with the names and shapes of a published one, in F16. Values are between a 16th and an 8th in size, so that
/// nothing overflows.
fn write_random(version: &str, path: &Path) -> u64 {
    let mut header = Map::new();
    let mut at = 0u64;
    for (name, shape) in names::published(version) {
        let end = at + 2 * shape.iter().product::<usize>() as u64;
        header.insert(name, json!({ "dtype": "F16", "shape": shape, "data_offsets": [at, end] }));
        at = end;
    }
    let text = Value::Object(header).to_string();
    let mut file = BufWriter::with_capacity(1 << 20, std::fs::File::create(path).expect("a file"));
    file.write_all(&(text.len() as u64).to_le_bytes()).expect("room on the disk");
    file.write_all(text.as_bytes()).expect("room on the disk");
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut left = at;
    while left > 0 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Sign and fraction are random, the exponent is that of a 16th.
        let four = (state & 0x83ff_83ff_83ff_83ff | 0x2c00_2c00_2c00_2c00).to_le_bytes();
        let n = left.min(8);
        file.write_all(&four[..n as usize]).expect("room on the disk");
        left -= n;
    }
    file.flush().expect("room on the disk");
    8 + text.len() as u64 + at
}

#[test]
fn a_whole_checkpoint_in_one_file_goes_through_a_small_heap() {
    if std::env::var_os("DARKROOM_LARGE").is_none_or(|value| value != "1") || crate::browser::has_no_gpu() {
        eprintln!("skipped: DARKROOM_LARGE=1 runs it");
        return;
    }
    // Not in memory, where many systems have their temporary files.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = dir.path().join("random.safetensors");
    let n_bytes = write_random("v1-5", &path);
    let profile = dir.path().join("profile");
    let browser = Browser::start_in(&profile);
    let page = page_url();
    // The tab computes in its own thread, where the memory can be looked at.
    browser.open(&format!("{page}example.html"));
    browser.eval(
        "document.body.append(Object.assign(document.createElement('input'), { type: 'file', id: 'picked-file' }))",
    );
    browser.choose_file("#picked-file", &path);
    // A script may not take as long as this does, so it runs by itself and says how far it is.
    browser.run(
        "const pkg = await import('/pkg/darkroom.js');
        const { memory } = await pkg.default();
        const file = document.getElementById('picked-file').files[0];
        const merges = await (await fetch('/clip_merges.txt')).text();
        const told = (window.told = { at: 'opening', secs: {}, heap: {} });
        const timed = async (what, work) => {
            told.at = what;
            const start = performance.now();
            const result = await work();
            told.secs[what] = (performance.now() - start) / 1000;
            told.heap[what] = memory.buffer.byteLength;
            return result;
        };
        (async () => {
            const models = await pkg.Models.open();
            const inspection = await timed('inspect', () => pkg.inspect_file(file, file.name, undefined, merges));
            told.inspection = inspection.summary;
            told.quota = (await navigator.storage.estimate()).quota;
            await timed('import', () => models.import('random.safetensors', new Map([[file.name, file]]), ({ bytes, total }) => {
                told.fraction = bytes / total;
            }));
            const studio = await timed('load', () => pkg.Studio.load_stored(models, 'random.safetensors',
                { runner: 'gpu', dtype: 'f32', tune: false, clip_merges: merges }, (fraction) => { told.fraction = fraction; }));
            told.model = studio.info().name;
            told.at = 'done';
        })().catch((error) => { told.error = `${told.at}: ${error.message}`; });",
    );
    let start = std::time::Instant::now();
    let told = loop {
        let told = browser.eval("window.told");
        if told["at"] == "done" || !told["error"].is_null() {
            break told;
        }
        assert!(start.elapsed() < 10 * PATIENCE, "{told}");
        std::thread::sleep(std::time::Duration::from_secs(1));
    };
    println!("{n_bytes} bytes: {told}");
    assert!(told["error"].is_null() && n_bytes > 2_000_000_000, "{told}");
    assert!(told["inspection"].as_str().is_some_and(|said| said.contains("Stable Diffusion 1")), "{told}");
    let peak = told["heap"].as_object().into_iter().flatten().filter_map(|(_, heap)| heap.as_f64()).fold(0.0, f64::max);
    assert!(peak > 0.0 && peak <= MAX_HEAP_BYTES, "{told}");
}
