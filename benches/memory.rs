//! The memory of a picture: what is alive where the arena of a published model is at its peak, by plans, and what a step costs
//! whose weights do not all stay on this machine's GPU: `./build.sh bench memory`. `DARKROOM_CASES=arena,streamed` for one of
//! the two.

#[path = "common/report.rs"]
mod report;

use std::collections::BTreeMap;
use std::rc::Rc;

use darkroom::Result;
use darkroom::bench::{Bench, Case, Part, RandomWeights, Sizes};
use darkroom::graph::Graph;
use darkroom::hub::published::Published;
use darkroom::model::SDVersion;
use darkroom::model::unet::{UNetShape, step_graph};
use darkroom::model::vae::encoder_graph;
use darkroom::pipeline::ModelLoader;
use darkroom::run::Runner;
use darkroom::run::gpu::emit::Operand;
use darkroom::run::gpu::runner::GpuRunner;
use darkroom::run::gpu::{Caps, Element, Gpu};
use darkroom::weights::{ByteSource, DiskSource, Weights};
use report::{Report, is_wanted, n_rounds, spread};
use serde_json::json;

/// Dispatches that are shown of each graph, and values of each.
const N_DISPATCHES: usize = 6;
const N_VALUES: usize = 8;

fn main() -> Result<()> {
    pollster::block_on(run())
}

async fn run() -> Result<()> {
    let mut report = Report::start("memory");
    if is_wanted("arena") {
        arenas(&mut report).await?;
    }
    if is_wanted("streamed") {
        streamed(&mut report).await?;
    }
    report.finish();
    Ok(())
}

fn mb(n_bytes: u64) -> f64 {
    n_bytes as f64 / 1e6
}

/// Plans of a step, the decoder and the encoder of each family at its own size, on what every adapter allows.
async fn arenas(report: &mut Report) -> Result<()> {
    for (version, side) in [(SDVersion::V1_5, 512), (SDVersion::V2_1, 768), (SDVersion::Xl, 1024)] {
        let runner = GpuRunner::planned(Caps::guaranteed(true), Element::F16)?;
        let source = Published::new(version);
        let model = ModelLoader::new(&source, &runner).open().await?;
        let configs = &model.configs;
        let latent = side / 8;
        println!("\n{} at {side}x{side}", version.key());
        let step = UNetShape { batch: 2, height: latent, width: latent, n_context: 77 };
        for graph in [
            step_graph(&configs.unet, step)?,
            configs.decoder_graph(latent, latent)?,
            configs.vae_graph(encoder_graph(&configs.vae, 1, side, side)?),
        ] {
            arena(report, &runner, version, graph).await?;
        }
    }
    Ok(())
}

/// The dispatches of a graph at which the most bytes are alive, and which values those are.
async fn arena(report: &mut Report, runner: &GpuRunner, version: SDVersion, graph: Graph) -> Result<()> {
    let graph_flops = graph.flops();
    let program = runner.prepare(graph).await?;
    let program = program.program();
    let n = program.dispatches.len();
    let mut lives: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    for (i, dispatch) in program.dispatches.iter().enumerate() {
        for operand in dispatch.operands.iter().flatten() {
            if let Operand::Slot(slot) = operand {
                lives.entry(*slot).or_insert((i, i)).1 = i;
            }
        }
    }
    for output in &program.outputs {
        if let Operand::Slot(slot) = output.operand
            && let Some(life) = lives.get_mut(&slot)
        {
            life.1 = n;
        }
    }
    let alive = |at: usize| lives.iter().filter(move |(_, (first, last))| *first <= at && at <= *last);
    let bytes = |at: usize| alive(at).map(|(slot, _)| program.slots[*slot].1).sum::<u64>();
    let arena_bytes: u64 = program.arena_bytes.iter().sum();
    let flops: u64 = program.dispatches.iter().map(|dispatch| dispatch.flops).sum();
    let work = flops as f64 / graph_flops as f64;
    println!(
        "  {}: arena {:.1} MB, most alive {:.1} MB, {n} dispatches, {work:.3} of the graph's work",
        program.name,
        mb(arena_bytes),
        mb((0..n).map(bytes).max().unwrap_or(0))
    );
    report.row(json!({
        "model": version.key(), "graph": program.name, "arena_bytes": arena_bytes, "dispatches": n, "work": work
    }));
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(bytes(at)));
    let mut shown: Vec<&str> = Vec::new();
    for at in order {
        let dispatch = &program.dispatches[at];
        if shown.len() == N_DISPATCHES {
            break;
        }
        if shown.contains(&dispatch.name.as_str()) {
            continue;
        }
        shown.push(&dispatch.name);
        let kernel = dispatch.launch.kernel.name;
        println!("    {:8.1} MB at {at}: {} ({kernel} {})", mb(bytes(at)), dispatch.name, dispatch.shape);
        let mut by_life: BTreeMap<(&str, &str), (usize, u64)> = BTreeMap::new();
        for (slot, &(first, last)) in alive(at) {
            let name = |at: usize| program.dispatches.get(at).map_or("the end", |dispatch| &dispatch.name);
            let (count, n_bytes) = by_life.entry((name(first), name(last))).or_default();
            *count += 1;
            *n_bytes += program.slots[*slot].1;
        }
        let mut by_life: Vec<_> = by_life.into_iter().collect();
        by_life.sort_by_key(|(_, (_, n_bytes))| std::cmp::Reverse(*n_bytes));
        for ((first, last), (count, n_bytes)) in by_life.into_iter().take(N_VALUES) {
            println!("      {:8.1} MB in {count:2}: {first} to {last}", mb(n_bytes));
        }
    }
    Ok(())
}

/// A step of SD 1.5's topology at a fifth of its width, from a file, with all, half and none of the large weights on the GPU.
async fn streamed(report: &mut Report) -> Result<()> {
    let caps = match Gpu::open().await {
        Ok(gpu) => gpu.caps,
        Err(error) => {
            println!("\n{error}");
            return Ok(());
        }
    };
    report.adapter(&format!("{} ({})", caps.name, caps.backend), caps.software);
    let mut config: serde_json::Value = serde_json::from_str(include_str!("../src/model/published/v1-5/unet.json"))
        .expect("the published configuration is JSON");
    config["block_out_channels"] = json!([64, 128, 256, 256]);
    for side in [16, 32] {
        println!("\nlatents of {side}x{side}");
        let case = Case::new(Part::Unet, &config.to_string(), Sizes { batch: 2, height: side, width: side })?;
        let random = RandomWeights::new(&case.weights());
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("unet.safetensors");
        std::fs::write(&path, random.read(0, random.len() as usize).await?).expect("room for the weights");
        let file = Weights::open(vec![Box::new(DiskSource::open(&path)?)]).await?;
        let mut total = u64::MAX;
        for halves in [2, 1, 0] {
            let runner = Rc::new(GpuRunner::new(Gpu::open().await?, Element::F32)?);
            let most = if halves == 2 { u64::MAX } else { total / 2 * halves };
            let mut bench = Bench::load_within(Rc::clone(&runner), &case, &file, &[], most).await?;
            // What is compiled is not timed.
            let before = runner.counts();
            bench.run().await?;
            let step = runner.counts().since(&before);
            total = total.min(step.weight_bytes);
            let mut secs = Vec::new();
            for _ in 0..n_rounds(5) {
                secs.push(bench.run().await?);
            }
            let [least, median, most] = spread(&secs);
            println!(
                "  {:6.1} MB stay, {:6.1} MB streamed: {:.0} ms ({:.0} to {:.0}), {} and {} dispatches, {} submits",
                mb(step.weight_bytes),
                mb(step.streamed_bytes),
                median * 1e3,
                least * 1e3,
                most * 1e3,
                step.dispatches,
                step.streamed_dispatches,
                step.submits
            );
            report.row(json!({ "side": side, "weight_bytes": step.weight_bytes, "secs": secs, "counts": step }));
        }
    }
    Ok(())
}
