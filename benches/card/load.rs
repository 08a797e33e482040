//! Bytes a second from a file to the card: reading alone, and loading through the runner.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use darkroom::bench::{Bench, RandomWeights};
use darkroom::run::gpu::Gpu;
use darkroom::run::gpu::runner::GpuRunner;
use darkroom::weights::{ByteSource, DiskSource, Weights};
use serde_json::json;

use crate::models::model;
use crate::report::duration;
use crate::{Options, Outcome};

/// Bytes read or written at once.
const PIECE_BYTES: u64 = 8 << 20;

pub async fn run(options: &Options, folder: &Path) -> Outcome<()> {
    let gpu = Gpu::open_with_matrices().await?;
    let name = if gpu.caps.software { "small-vae" } else { "sd15-unet" };
    let model = model(name)?;
    let file = folder.join("kit-load.safetensors");
    let timed = timed(options, &model.case, gpu, name, &file).await;
    std::fs::remove_file(&file)?;
    timed
}

async fn timed(options: &Options, case: &darkroom::bench::Case, gpu: Gpu, name: &str, file: &Path) -> Outcome<()> {
    let random = RandomWeights::new(&case.weights());
    let n_bytes = random.len();
    let start = Instant::now();
    let mut written = File::create(file)?;
    let mut at = 0;
    while at < n_bytes {
        let piece = random.read(at, PIECE_BYTES.min(n_bytes - at) as usize).await?;
        written.write_all(&piece)?;
        at += piece.len() as u64;
    }
    written.sync_all()?;
    drop(written);
    let write_secs = start.elapsed().as_secs_f64();

    let start = Instant::now();
    let source = DiskSource::open(file)?;
    let mut at = 0;
    while at < n_bytes {
        at += source.read(at, PIECE_BYTES.min(n_bytes - at) as usize).await?.len() as u64;
    }
    let read_secs = start.elapsed().as_secs_f64();

    let element = gpu.caps.best_element();
    let runner = Rc::new(GpuRunner::new(gpu, element)?);
    let mut load_secs = Vec::new();
    for _ in 0..2 {
        let weights = Weights::open(vec![Box::new(DiskSource::open(file)?)]).await?;
        let start = Instant::now();
        let bench = Bench::load(Rc::clone(&runner), case, &weights, &[]).await?;
        load_secs.push(start.elapsed().as_secs_f64());
        drop(bench);
        if !options.has_time() {
            break;
        }
    }
    let rate = |secs: f64| n_bytes as f64 / secs / 1e9;
    println!(
        "{name}, {:.2} GB in {}: written with {:.2} GB/s, read alone (from the page cache) with {:.2}",
        n_bytes as f64 / 1e9,
        file.parent().unwrap_or(file).display(),
        rate(write_secs),
        rate(read_secs)
    );
    for secs in &load_secs {
        println!("  loaded through the runner in {}, {:.2} GB/s", duration(*secs), rate(*secs));
    }
    options.rows.add(
        "load",
        json!({ "model": name, "folder": file.parent(), "bytes": n_bytes, "write_secs": write_secs, "read_secs": read_secs,
                "load_secs": load_secs }),
    );
    Ok(())
}
