//! Every distinct matrix product, convolution, attention and norm of SD 1.5 at 512x512 and SDXL at 1024x1024 on this
//! machine's GPU, one by one, by the GPU's own clock: `./build.sh bench kernels`. Shapes come from the models' graphs. Matrix
//! products and convolutions are timed with every tile as well.
//!
//! On a software adapter only the smaller ones are run; `DARKROOM_MAX_GFLOP` says up to which. On a real GPU the
//! figures stand beside the most that this GPU was seen to do: multiply-adds in registers, and reading and writing memory.

#[path = "common/peak.rs"]
mod peak;
#[path = "common/report.rs"]
mod report;

use std::collections::BTreeSet;
use std::rc::Rc;

use darkroom::bench::{Bench, Case, OpCase, Part, RandomWeights, Sizes, ops};
use darkroom::run::gpu::Element;
use darkroom::run::gpu::Gpu;
use darkroom::run::gpu::runner::GpuRunner;
use darkroom::run::gpu::tiles::Measured;
use darkroom::weights::Weights;
use darkroom::{Error, Result};
use peak::{Peak, peak};
use report::{Report, duration, is_wanted, n_rounds};
use serde_json::json;

const N_ROUNDS: usize = 3;

/// What a software adapter is given at most, in 10⁹ floating-point operations.
const SOFTWARE_MAX_GFLOP: f64 = 2.0;

/// The part of that above which tiles are not compared on a software adapter: there are about twenty runs to each.
const SOFTWARE_TILES: f64 = 0.25;

/// The kinds that are timed; the rest is a small part of any model.
const KINDS: [&str; 5] = ["linear", "conv2d", "attention", "group_norm", "layer_norm"];

fn main() -> Result<()> {
    pollster::block_on(run())
}

async fn run() -> Result<()> {
    let mut report = Report::start("kernels");
    let gpu = match Gpu::open().await {
        Ok(gpu) => gpu,
        Err(error) => {
            println!("{error}");
            return Ok(());
        }
    };
    let (caps, peak) = (gpu.caps.clone(), peak(&gpu).await?);
    report.adapter(&format!("{} ({})", caps.name, caps.backend), caps.software);
    println!("at most: {:.1} GFLOP/s in f32 registers, {:.1} GB/s of memory", peak.gflops, peak.gbytes);
    report.fact("peak", peak.to_json());
    if !caps.timestamp_query {
        println!("the adapter has no timestamp-query, so kernels cannot be timed");
        return Ok(());
    }
    let element = if std::env::var_os("DARKROOM_F16").is_some() { Element::F16 } else { Element::F32 };
    report.fact("element", json!(format!("{element:?}")));
    let usual = if caps.software { SOFTWARE_MAX_GFLOP } else { f64::INFINITY };
    let max_gflop = std::env::var("DARKROOM_MAX_GFLOP").ok().and_then(|text| text.parse::<f64>().ok()).unwrap_or(usual);
    let runner = Rc::new(GpuRunner::new(gpu, element)?);
    let (mut seen, mut n_left_out) = (BTreeSet::new(), 0);
    for (name, part, config, sizes) in models() {
        if !is_wanted(name) {
            continue;
        }
        println!("\n{name}");
        println!("  {:>9} {:>5} {:>9} {:>5} {:>8} {:>5}", "", "n", "GFLOP/s", "%", "GB/s", "%");
        for op in ops(Case::new(part, config, sizes)?.graph()) {
            if !KINDS.contains(&op.op) || !seen.insert(op.label.clone()) {
                continue;
            }
            if op.flops as f64 > max_gflop * 1e9 {
                n_left_out += 1;
                continue;
            }
            let measures_tiles = !caps.software || op.flops as f64 <= SOFTWARE_TILES * max_gflop * 1e9;
            time(&mut report, &runner, name, &op, &peak, measures_tiles).await?;
        }
    }
    if n_left_out > 0 {
        println!(
            "\n{n_left_out} operations of more than {max_gflop} GFLOP were left out; DARKROOM_MAX_GFLOP allows them"
        );
    }
    tiles(&mut report, &runner.measured());
    report.finish();
    Ok(())
}

fn models() -> Vec<(&'static str, Part, &'static str, Sizes)> {
    let sizes = |batch, side| Sizes { batch, height: side, width: side };
    vec![
        ("v1-5 unet", Part::Unet, include_str!("../src/model/published/v1-5/unet.json"), sizes(2, 64)),
        ("v1-5 vae", Part::VaeDecoder, include_str!("../src/model/published/v1-5/vae.json"), sizes(1, 64)),
        ("xl unet", Part::Unet, include_str!("../src/model/published/xl/unet.json"), sizes(2, 128)),
        ("xl vae", Part::VaeDecoder, include_str!("../src/model/published/xl/vae.json"), sizes(1, 128)),
    ]
}

/// One operation: its best run of several, as the GPU's clock has it.
async fn time(
    report: &mut Report,
    runner: &Rc<GpuRunner>,
    model: &str,
    op: &OpCase,
    peak: &Peak,
    measures_tiles: bool,
) -> Result<()> {
    let weights = Weights::open(vec![Box::new(RandomWeights::new(&op.case.weights()))]).await?;
    runner.measure_tiles(measures_tiles);
    let loaded = Bench::load(Rc::clone(runner), &op.case, &weights, &[]).await;
    runner.measure_tiles(false);
    let mut bench = match loaded {
        Ok(bench) => bench,
        // An operation that this adapter has no room for is said, not hidden, and stops none of the others.
        Err(error @ (Error::Limit { .. } | Error::OutOfMemory { .. })) => {
            println!("  {}: {error}", op.label);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let mut secs = f64::INFINITY;
    for _ in 0..=n_rounds(N_ROUNDS) {
        runner.start_profile()?;
        bench.run().await?;
        let profile = runner.finish_profile().await?;
        secs = secs.min(profile.map_or(f64::NAN, |profile| profile.lines.iter().map(|line| line.secs).sum()));
    }
    let n_bytes = op.elements_moved * runner.element().bytes();
    let (gflops, gbytes) = (op.flops as f64 / secs / 1e9, n_bytes as f64 / secs / 1e9);
    println!(
        "  {:>9} {:>5} {gflops:>9.1} {:>5.1} {gbytes:>8.2} {:>5.1}  {}",
        duration(secs),
        op.n,
        100.0 * gflops / peak.gflops,
        100.0 * gbytes / peak.gbytes,
        op.label
    );
    report.row(json!({
        "model": model, "op": op.op, "label": op.label, "n": op.n, "flops": op.flops, "bytes": n_bytes, "secs": secs,
        "gflops": gflops, "gbytes": gbytes,
    }));
    Ok(())
}

/// Every tile on every class of product that was measured.
fn tiles(report: &mut Report, measured: &[Measured]) {
    let names: Vec<&str> = measured.iter().map(|m| m.tile).fold(Vec::new(), |mut names, tile| {
        if !names.contains(&tile) {
            names.push(tile);
        }
        names
    });
    print!("\n  {:<34}", "GFLOP/s by tile (parts of the sum)");
    names.iter().for_each(|name| print!(" {name:>12}"));
    println!();
    let mut classes: Vec<&str> = measured.iter().map(|m| m.class.as_str()).collect();
    classes.dedup();
    for class in classes {
        print!("  {class:<34}");
        for name in &names {
            let best = measured.iter().filter(|m| m.class == class && m.tile == *name);
            match best.max_by(|a, b| a.gflops.total_cmp(&b.gflops)) {
                Some(best) => print!(" {:>12}", format!("{:.1} ({})", best.gflops, best.splits)),
                None => print!(" {:>12}", "-"),
            }
        }
        println!();
    }
    report.row(json!({ "tiles": measured }));
}
