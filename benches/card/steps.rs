//! One component with random weights: tuned, loaded, timed in turn with PyTorch, profiled, and its memory held against the
//! plan.

use std::rc::Rc;
use std::time::{Duration, Instant};

use darkroom::bench::{Bench, RandomWeights};
use darkroom::run::Runner;
use darkroom::run::gpu::Element;
use darkroom::run::gpu::profile::Profile;
use darkroom::run::gpu::runner::{GpuRunner, submit_secs};
use darkroom::run::gpu::tiles::{Measured, Tiles};
use darkroom::run::gpu::{Caps, Gpu};
use darkroom::weights::Weights;
use serde_json::{Value, json};

use crate::models::{Model, model};
use crate::peak::{Peak, peak};
use crate::peer::Peer;
use crate::report::{duration, spread};
use crate::{Options, Outcome};

/// Rounds at least, after the first two.
const MIN_ROUNDS: usize = 3;

/// Rounds at most.
const MAX_ROUNDS: usize = 15;

/// Seconds that rounds take at most.
const ROUNDS_SECS: f64 = 4.0;

/// Kernels and shapes that are shown, of those that took longest.
const N_LINES: usize = 25;

/// Rounds at least on an adapter: one on a software adapter, whose rounds are slow and whose times say nothing of a card.
pub fn min_rounds(caps: &Caps) -> usize {
    if caps.software { 1 } else { MIN_ROUNDS }
}

/// `names` are between commas; one that fails does not end the others, so that one PyTorch serves them all.
pub async fn run(options: &Options, names: &str, elements: &[Element]) -> Outcome<()> {
    // Without matrices it is our own figures that are compared, and PyTorch takes seconds to load.
    let asked = if options.plain { Err("only with cooperative matrices".into()) } else { Peer::start() };
    let mut peer = asked.map_err(|reason| println!("beside nobody: {reason}")).ok();
    let mut failure = Ok(());
    for name in names.split(',') {
        if !options.has_time() {
            println!("{name}: left out, no time is left");
            options.rows.add("left_out", json!({ "name": name }));
            continue;
        }
        if let Err(error) = elements_of_model(options, name, elements, &mut peer).await {
            println!("{name} FAILED: {error}");
            options.rows.add("error", json!({ "command": format!("steps {name}"), "error": error.to_string() }));
            failure = Err(error);
        }
    }
    failure
}

async fn elements_of_model(
    options: &Options,
    name: &str,
    elements: &[Element],
    peer: &mut Option<Peer>,
) -> Outcome<()> {
    let model = model(name)?;
    let plain = if options.plain { ", without cooperative matrices" } else { "" };
    println!("{name}: {}, {:.2} GFLOP{plain}", model.what, model.case.flops() as f64 / 1e9);
    let mut results: Vec<(Element, Vec<f32>)> = Vec::new();
    for &element in elements {
        let peer = peer.as_mut().filter(|_| model.peer.is_some());
        let Some(result) = step(options, name, &model, element, peer).await? else { continue };
        results.push((element, result));
        if !options.has_time() {
            break;
        }
    }
    if let [(a, x), (b, y)] = &results[..] {
        let largest = y.iter().fold(0f32, |largest, y| largest.max(y.abs()));
        let off = x.iter().zip(y).fold(0f32, |off, (x, y)| off.max((x - y).abs())) / largest;
        println!("  {a:?}'s result is at most {off:.1e} of the largest value from {b:?}'s");
        options.rows.add("f16_to_f32", json!({ "model": name, "error": off }));
    }
    Ok(())
}

/// The most of an adapter in GFLOP/s for a type of activations, and how it is reached, with all its peaks.
pub async fn peak_for(options: &Options, gpu: &Gpu, element: Element) -> Outcome<(f64, &'static str, Peak)> {
    let peak = match options.rows.last("peak").as_ref().and_then(Peak::from_json) {
        Some(known) => known,
        None => peak(gpu).await?,
    };
    let (gflops, how) = match (element, peak.gflops_matrix.filter(|_| gpu.caps.matrices.is_some()), peak.gflops_f16) {
        (Element::F16, Some(gflops), _) => (gflops, "with matrices"),
        (Element::F16, None, Some(gflops)) => (gflops, "in f16"),
        _ => (peak.gflops, "in f32"),
    };
    Ok((gflops, how, peak))
}

async fn step(
    options: &Options,
    name: &str,
    model: &Model,
    element: Element,
    mut peer: Option<&mut Peer>,
) -> Outcome<Option<Vec<f32>>> {
    let smi_before = nvidia_smi();
    let mut gpu = Gpu::open_with_matrices().await?;
    if options.plain {
        gpu.caps.matrices = None;
    }
    let caps = gpu.caps.clone();
    if element == Element::F16 && !caps.shader_f16 {
        println!("  {element:?}: {} has no shader-f16", caps.name);
        return Ok(None);
    }
    let (peak_gflops, peak_of, peak) = peak_for(options, &gpu, element).await?;
    let runner = Rc::new(GpuRunner::new(gpu, element)?.with_tiles(read_tiles(options)));
    let weights = Weights::open(vec![Box::new(RandomWeights::new(&model.case.weights()))]).await?;
    if runner.tiles().is_empty() && !caps.software {
        untuned(options, name, &runner, model, &weights).await?;
    }
    tune(options, name, &runner, model).await?;
    runner.trim();
    runner.reset_peak();
    let (before, start) = (runner.counts(), Instant::now());
    let mut bench = Bench::load(Rc::clone(&runner), &model.case, &weights, &[]).await?;
    let load_secs = start.elapsed().as_secs_f64();
    let loaded = runner.counts().since(&before);
    println!(
        "  {element:?}: loaded in {}, {:.2} GB/s of {:.2} GB",
        duration(load_secs),
        loaded.uploaded_bytes as f64 / load_secs / 1e9,
        loaded.uploaded_bytes as f64 / 1e9
    );
    let first_secs = bench.run().await?;
    println!("  {element:?}: the first run, with what it compiles: {}", duration(first_secs));
    // Before PyTorch loads anything on the card.
    let smi = nvidia_smi();

    let element_name = if element == Element::F16 { "f16" } else { "f32" };
    let mut who = None;
    if peer.is_some() {
        // By itself first: whatever becomes of PyTorch, this is known.
        let mut alone = Vec::new();
        for _ in 0..MIN_ROUNDS {
            alone.push(bench.run().await?);
        }
        println!("  {element:?}: alone {}", duration(spread(&alone)[1]));
        options.rows.add("alone", json!({ "model": name, "element": element_name, "secs": alone }));
    }
    if let Some(asked) = peer.as_deref_mut() {
        let start = Instant::now();
        match asked.ask(&json!({ "load": model.peer, "dtype": element_name })) {
            Ok(_) => {
                println!("  {element:?}: {} loaded in {}", asked.who, duration(start.elapsed().as_secs_f64()));
                who = Some(asked.who.clone());
                // Its first runs choose algorithms.
                for _ in 0..2 {
                    who = asked.round().ok().and(who);
                }
                if let Err(error) = asked.ask(&json!({ "graph": true })) {
                    println!("  {element:?}: PyTorch without a CUDA graph: {error}");
                }
            }
            Err(error) => println!("  {element:?}: PyTorch did not load it: {error}"),
        }
    }
    if !caps.software {
        bench.run().await?;
    }
    let (mut ours, mut theirs, mut their_graphs) = (Vec::new(), Vec::new(), Vec::new());
    let rounds_secs = if caps.software { 0.0 } else { ROUNDS_SECS };
    let rounds_end = Instant::now() + Duration::from_secs_f64(rounds_secs);
    let (mut before, mut record_secs) = (runner.counts(), 0.0);
    while ours.len() < min_rounds(&caps)
        || (ours.len() < MAX_ROUNDS && Instant::now() < rounds_end.min(options.deadline))
    {
        before = runner.counts();
        record_secs = runner.record_secs();
        ours.push(bench.run().await?);
        record_secs = runner.record_secs() - record_secs;
        if who.is_some() {
            match peer.as_deref_mut().map(Peer::round) {
                Some(Ok([secs, graph_secs])) => {
                    theirs.push(secs);
                    their_graphs.push(graph_secs);
                }
                Some(Err(error)) => {
                    println!("  {element:?}: PyTorch stopped: {error}");
                    who = None;
                }
                None => {}
            }
        }
        if !options.has_time() {
            break;
        }
    }
    let counts = runner.counts().since(&before);
    let flops = model.case.flops() as f64;
    let line = |who: &str, secs: &[f64]| {
        let [least, median, most] = spread(secs);
        println!(
            "  {element:?} {who:<28} {:>9} median of {}, {} to {}; {:.0} GFLOP/s, {:.1} % of the peak {peak_of}",
            duration(median),
            secs.len(),
            duration(least),
            duration(most),
            flops / median / 1e9,
            100.0 * flops / median / 1e9 / peak_gflops
        );
    };
    line("darkroom", &ours);
    let ratio = |theirs: &[f64]| spread(theirs)[1] / spread(&ours)[1];
    if let Some(who) = &who {
        line(who, &theirs);
        println!("  {element:?} our speed to PyTorch's: {:.3}", ratio(&theirs));
        their_graphs.retain(|secs| !secs.is_nan());
        if !their_graphs.is_empty() {
            line("the same as a CUDA graph", &their_graphs);
            println!("  {element:?} our speed to its graph's: {:.3}", ratio(&their_graphs));
        }
    }
    let gbytes = counts.moved_bytes as f64 / spread(&ours)[1] / 1e9;
    println!(
        "  {element:?}: {gbytes:.0} GB/s ({:.1} % of the peak); {} dispatches, {} submits, {} bind groups, {} buffers and {} \
         readbacks a step; {} of the host's time to record",
        100.0 * gbytes / peak.gbytes,
        counts.dispatches,
        counts.submits,
        counts.bind_groups,
        counts.buffers,
        counts.readbacks,
        duration(record_secs)
    );
    let pace = runner.flops_per_sec();
    println!("  {element:?}: paced for {:.0} GFLOP/s, submits of {} at most", pace / 1e9, duration(submit_secs(pace)));
    let planned_bytes = planned(&caps, element, runner.tiles(), model, &weights).await;
    println!(
        "  {element:?}: {:.3} GB at the peak, {} planned; weights {:.3}, arena {:.3}; nvidia-smi {} MiB, {} before",
        counts.peak_bytes as f64 / 1e9,
        planned_bytes.as_ref().map_or_else(|error| error.clone(), |bytes| format!("{:.3}", *bytes as f64 / 1e9)),
        counts.weight_bytes as f64 / 1e9,
        counts.arena_bytes as f64 / 1e9,
        smi.as_deref().unwrap_or("-"),
        smi_before.as_deref().unwrap_or("-")
    );
    let their_memory =
        peer.as_deref_mut().filter(|_| who.is_some()).and_then(|peer| peer.ask(&json!({ "memory": true })).ok());
    if let Some(memory) = &their_memory {
        println!("  {element:?}: PyTorch's memory: {memory}");
    }
    let result = bench.result().await?;
    let n_bad = result.iter().filter(|value| !value.is_finite()).count();
    if n_bad > 0 {
        println!("  {element:?}: {n_bad} of {} values are not finite", result.len());
    }
    options.rows.add(
        "step",
        json!({
            "model": name, "element": element_name, "what": model.what, "flops": flops, "secs": ours, "first_secs": first_secs,
            "load_secs": load_secs, "loaded_bytes": loaded.uploaded_bytes, "peer": who, "peer_secs": theirs,
            "peer_graph_secs": their_graphs, "peer_memory": their_memory, "peak_gflops": peak_gflops, "matrices": caps.matrices, "gbytes": gbytes,
            "paced_flops_per_sec": pace, "submit_secs": submit_secs(pace),
            "record_secs": record_secs, "counts": counts, "planned_bytes": planned_bytes.ok(),
            "nvidia_smi": [smi_before, smi], "not_finite": n_bad,
        }),
    );
    if let (Some(peer), Some(_)) = (peer, who)
        && let Err(error) = peer.ask(&json!({ "unload": true }))
    {
        println!("  {element:?}: PyTorch did not unload: {error}");
    }
    if caps.timestamp_query {
        profile(options, name, element_name, &mut bench).await?;
    } else {
        println!("  the adapter has no timestamp-query, so kernels cannot be timed");
    }
    Ok(Some(result))
}

/// The first step of all before any tile is measured: measuring takes long where compiling does, and something is known if
/// it does not end.
async fn untuned(
    options: &Options,
    name: &str,
    runner: &Rc<GpuRunner>,
    model: &Model,
    weights: &Weights,
) -> Outcome<()> {
    let mut bench = Bench::load(Rc::clone(runner), &model.case, weights, &[]).await?;
    let first_secs = bench.run().await?;
    let mut secs = Vec::new();
    for _ in 0..=MIN_ROUNDS {
        secs.push(bench.run().await?);
    }
    let median = spread(&secs)[1];
    println!(
        "  with the tiles that are guessed: {} (the first run {}), {:.0} GFLOP/s",
        duration(median),
        duration(first_secs),
        model.case.flops() as f64 / median / 1e9
    );
    options.rows.add("untuned", json!({ "model": name, "element": format!("{:?}", runner.element()), "secs": secs }));
    Ok(())
}

/// Measures which tile serves which product of the step, and keeps that.
async fn tune(options: &Options, name: &str, runner: &GpuRunner, model: &Model) -> Outcome<()> {
    if runner.caps().software {
        return Ok(());
    }
    let planned = GpuRunner::planned(runner.caps().clone(), runner.element())?;
    let program = planned.prepare(model.case.graph().clone()).await?;
    let start = Instant::now();
    runner.tune(&program.program().gemms, program.program().element).await?;
    let measured = runner.measured();
    let mut classes: Vec<&str> = measured.iter().map(|m| m.class.as_str()).collect();
    classes.dedup();
    println!("  {} classes of products tuned in {}", classes.len(), duration(start.elapsed().as_secs_f64()));
    let mut rows = Vec::new();
    for class in classes {
        let mut of_class: Vec<&Measured> = measured.iter().filter(|m| m.class == class).collect();
        of_class.sort_by(|a, b| a.secs.total_cmp(&b.secs));
        let words = of_class.iter().map(|m| format!("{}/{} {:.0}", m.tile, m.splits, m.gflops));
        let words: Vec<String> = words.take(3).collect();
        println!("    {class:<30} {} GFLOP/s", words.join(", "));
        let all: Vec<Value> = of_class.iter().map(|m| json!([m.tile, m.splits, m.gflops.round()])).collect();
        rows.push(json!({ "class": class, "tiles": all }));
    }
    options.rows.add("tiles", json!({ "model": name, "secs": start.elapsed().as_secs_f64(), "classes": rows }));
    write_tiles(options, &runner.tiles())
}

fn read_tiles(options: &Options) -> Tiles {
    // Tiles of matrices are of no use without them.
    let text = options.tiles.as_ref().filter(|_| !options.plain).and_then(|file| std::fs::read_to_string(file).ok());
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

fn write_tiles(options: &Options, tiles: &Tiles) -> Outcome<()> {
    if let Some(file) = options.tiles.as_ref().filter(|_| !options.plain) {
        std::fs::write(file, serde_json::to_string(tiles)?)?;
    }
    Ok(())
}

/// The peak in bytes that a run without a device counts.
async fn planned(
    caps: &darkroom::run::gpu::Caps,
    element: Element,
    tiles: Tiles,
    model: &Model,
    weights: &Weights,
) -> Result<u64, String> {
    let counted = async {
        let runner = Rc::new(GpuRunner::planned(caps.clone(), element)?.with_tiles(tiles));
        let mut bench = Bench::load(Rc::clone(&runner), &model.case, weights, &[]).await?;
        for _ in 0..2 {
            bench.run().await?;
        }
        Ok::<_, darkroom::Error>(runner.counts().peak_bytes)
    };
    counted.await.map_err(|error| error.to_string())
}

/// What took longest, by kernel and shape and by kernel alone.
async fn profile(options: &Options, name: &str, element: &str, bench: &mut Bench<GpuRunner>) -> Outcome<()> {
    bench.runner().start_profile()?;
    bench.run().await?;
    let Some(Profile { lines }) = bench.runner().finish_profile().await? else { return Ok(()) };
    let total: f64 = lines.iter().map(|line| line.secs).sum();
    let mut kernels: Vec<(&str, f64, u64, u64)> = Vec::new();
    for line in &lines {
        match kernels.iter_mut().find(|kernel| kernel.0 == line.kernel) {
            Some(kernel) => {
                (kernel.1, kernel.2, kernel.3) = (kernel.1 + line.secs, kernel.2 + line.n, kernel.3 + line.flops)
            }
            None => kernels.push((line.kernel, line.secs, line.n, line.flops)),
        }
    }
    kernels.sort_by(|a, b| b.1.total_cmp(&a.1));
    println!("  {element}: {} by the GPU's clock, one dispatch at a time:", duration(total));
    for (kernel, secs, n, flops) in &kernels {
        let percent = 100.0 * secs / total;
        println!(
            "    {:>10.3} ms {percent:>5.1} % {n:>5}  {:>8.0} GFLOP/s  {kernel}",
            secs * 1e3,
            *flops as f64 / secs / 1e9
        );
    }
    println!("  {element}: of which");
    let shown = Profile { lines: lines.iter().take(N_LINES).cloned().collect() };
    println!("{shown}");
    let rows: Vec<Value> = shown
        .lines
        .iter()
        .map(|line| {
            let round = |value: f64| (value * 1e4).round() / 1e4;
            json!([
                line.kernel,
                line.shape,
                line.n,
                round(line.secs * 1e3),
                line.gflops().round(),
                line.gbytes().round()
            ])
        })
        .collect();
    options.rows.add(
        "profile",
        json!({ "model": name, "element": element, "secs": total, "kernels": kernels, "n_lines": lines.len(), "lines": rows }),
    );
    Ok(())
}

/// MiB in use on the card, clock in MHz, and watts, as the driver says.
pub fn nvidia_smi() -> Option<String> {
    let out = std::process::Command::new("nvidia-smi")
        .args(["--query-gpu=memory.used,clocks.sm,power.draw", "--format=csv,noheader,nounits"])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&out.stdout);
    text.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}
