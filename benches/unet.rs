//! One guided UNet step of SD 1.5's architecture on the CPU, random weights, 256x256: `./build.sh bench --bench unet`.
//!
//! With PyTorch and diffusers at hand (`DARKROOM_PYTHON=/path/to/python`), the same step there, in turn with ours, on as
//! many threads. Random weights are made as they are read, so that no file of gigabytes is needed.

#[path = "common/random.rs"]
mod random;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use darkroom::graph::Op;
use darkroom::model::UNet2DConditionConfig;
use darkroom::model::unet::{UNetShape, graphs, prompt_graph, step_graph, weights};
use darkroom::run::Runner;
use darkroom::run::candle::{CandleRunner, Precision};
use darkroom::weights::Weights;
use darkroom::{Error, Result};
use random::{RandomSource, values};

/// Timed rounds of each contender.
const N_ROUNDS: usize = 5;

/// The same step in PyTorch, in a process of its own that does one round for each line it is sent.
struct PyTorch {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl PyTorch {
    fn start(threads: usize) -> Option<Self> {
        let python = std::env::var("DARKROOM_PYTHON").ok()?;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/bench/unet_pytorch.py");
        let mut child = Command::new(&python)
            .args([script, &threads.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| eprintln!("{python}: {e}"))
            .ok()?;
        let (stdin, stdout) = (child.stdin.take()?, BufReader::new(child.stdout.take()?));
        let mut pytorch = PyTorch { child, stdin, stdout };
        println!("{}", pytorch.line()?);
        Some(pytorch)
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let n = self.stdout.read_line(&mut line).ok()?;
        (n > 0).then(|| line.trim().to_string())
    }

    fn round(&mut self) -> Option<f64> {
        self.stdin.write_all(b"go\n").ok()?;
        self.stdin.flush().ok()?;
        self.line()?.parse().ok()
    }
}

impl Drop for PyTorch {
    fn drop(&mut self) {
        // It ends by itself when its input does; a kill covers the case that it hangs.
        let _killed = self.child.kill();
        let _waited = self.child.wait();
    }
}

fn main() -> Result<()> {
    let threads = rayon::current_num_threads();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/model/published/v1-5/unet.json");
    let text = std::fs::read_to_string(file).map_err(|e| Error::io(std::path::Path::new(file), e))?;
    let config = UNet2DConditionConfig::from_json(&text, "unet/config.json")?;
    let shape = UNetShape { batch: 2, height: 32, width: 32, n_context: 77 };
    let runner = CandleRunner::cpu(Precision::F32);
    let specs = weights(&config)?;
    let ours = pollster::block_on(async {
        let file = Weights::open(vec![Box::new(RandomSource::new(&specs))]).await?;
        runner.load(&graphs(&config)?, &file, &mut |_| {}).await
    })?;

    let prompt = prompt_graph(&config, shape.batch, shape.n_context)?;
    let names: Vec<String> = prompt.outputs.iter().map(|(name, _)| name.clone()).collect();
    let context = values(shape.batch * shape.n_context * config.cross_attention_dim);
    let context = runner.upload(&context, &[shape.batch, shape.n_context, config.cross_attention_dim])?;
    let prompt = pollster::block_on(runner.prepare(prompt))?;
    let keys_and_values =
        pollster::block_on(runner.run(&prompt, &ours, &[("encoder_hidden_states", &context)], &mut |_| true))?;

    let graph = step_graph(&config, shape)?;
    let flops = graph.flops() as f64;
    let by_flops: Vec<(u64, &'static str)> = {
        let mut done = 0;
        let costs = graph.nodes.iter().map(|node| (graph.cost(node).flops, node.op.name()));
        costs
            .filter(|(cost, _)| *cost > 0)
            .map(|(cost, op)| {
                done += cost;
                (done, op)
            })
            .collect()
    };
    let n_attention = graph.nodes.iter().filter(|node| matches!(node.op, Op::Attention { .. })).count();
    let step = pollster::block_on(runner.prepare(graph))?;
    let sample = runner.upload(&values(2 * 32 * 32 * 4), &[2, 32, 32, 4])?;
    let timestep = runner.upload(&[500.0; 2], &[2])?;
    let mut inputs = vec![("sample", &sample), ("timestep", &timestep)];
    inputs.extend(names.iter().map(String::as_str).zip(&keys_and_values));

    println!(
        "one UNet step, SD 1.5 at 256x256, batch 2, f32, {threads} threads: {:.1} GFLOP, {n_attention} attentions",
        flops / 1e9
    );
    let mut pytorch = PyTorch::start(threads);
    let (mut our_secs, mut their_secs) = (Vec::new(), Vec::new());
    let mut by_op: HashMap<&str, f64> = HashMap::new();
    // The first round warms up and is not counted.
    for round in 0..=N_ROUNDS {
        let start = Instant::now();
        let (mut idx, mut last) = (0, start);
        pollster::block_on(runner.run(&step, &ours, &inputs, &mut |done| {
            let (end, op) = by_flops[idx];
            assert_eq!(end, done);
            if round > 0 {
                *by_op.entry(op).or_default() += last.elapsed().as_secs_f64();
            }
            last = Instant::now();
            idx += 1;
            true
        }))?;
        let secs = start.elapsed().as_secs_f64();
        let theirs = pytorch.as_mut().and_then(PyTorch::round);
        if round > 0 {
            our_secs.push(secs);
            their_secs.extend(theirs);
        }
    }
    report("darkroom (candle runner)", &mut our_secs, flops);
    if their_secs.is_empty() {
        println!("no PyTorch to compare with: set DARKROOM_PYTHON to a Python that has torch and diffusers");
    } else {
        report("PyTorch (diffusers)", &mut their_secs, flops);
        println!("ours / PyTorch: {:.2} (medians)", our_secs[N_ROUNDS / 2] / their_secs[their_secs.len() / 2]);
    }
    let mut by_op: Vec<_> = by_op.into_iter().collect();
    by_op.sort_by(|a, b| b.1.total_cmp(&a.1));
    println!("where our time goes, a step:");
    for (op, secs) in by_op {
        println!("  {op:<20} {:>8.1} ms", secs * 1e3 / N_ROUNDS as f64);
    }
    Ok(())
}

fn report(name: &str, secs: &mut [f64], flops: f64) {
    secs.sort_by(f64::total_cmp);
    let median = secs[secs.len() / 2];
    println!(
        "{name:<26} {:>7.0} ms median ({:.0} to {:.0}), {:.1} GFLOP/s",
        median * 1e3,
        secs[0] * 1e3,
        secs[secs.len() - 1] * 1e3,
        flops / median / 1e9
    );
}
