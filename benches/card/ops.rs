//! The operations of a component one by one, by the GPU's clock, beside the same ones in PyTorch and in burn.

use std::rc::Rc;

use darkroom::bench::{Bench, OpCase, RandomWeights, ops};
use darkroom::graph::Op;
use darkroom::run::gpu::Element;
use darkroom::run::gpu::Gpu;
use darkroom::run::gpu::runner::GpuRunner;
use darkroom::weights::Weights;
use serde_json::{Value, json};

use crate::models::model;
use crate::peer::Peer;
use crate::report::duration;
use crate::steps::peak_for;
use crate::{Options, Outcome};

/// Operations at most, those with the most work in a step first.
const N_OPS: usize = 24;

const N_ROUNDS: usize = 5;

pub async fn run(options: &Options, name: &str, element: Element) -> Outcome<()> {
    let model = model(name)?;
    let gpu = Gpu::open_with_matrices().await?;
    if !gpu.caps.timestamp_query {
        return Err("the adapter has no timestamp-query, so kernels cannot be timed".into());
    }
    let say = |reason| println!("  {reason}");
    let mut peers = [Peer::start().map_err(say).ok(), Peer::burn().map_err(say).ok()];
    peers.iter().flatten().for_each(|peer| println!("  beside {}", peer.who));
    let element_name = if element == Element::F16 { "f16" } else { "f32" };
    let (peak_gflops, _, _) = peak_for(options, &gpu, element).await?;
    let runner = Rc::new(GpuRunner::new(gpu, element)?);
    runner.measure_tiles(!runner.caps().software);
    println!(
        "{name} {element_name}, operation by operation\n  {:>9} {:>9} {:>9} {:>6} {:>9} {:>6}",
        "ours", "PyTorch", "burn", "n", "GFLOP/s", "%"
    );
    let kinds = ["linear", "conv2d", "attention"];
    for op in ops(model.case.graph()).into_iter().filter(|op| kinds.contains(&op.op)).take(N_OPS) {
        if !options.has_time() {
            println!("  the rest is left out: no time");
            break;
        }
        let weights = Weights::open(vec![Box::new(RandomWeights::new(&op.case.weights()))]).await?;
        let mut bench = Bench::load(Rc::clone(&runner), &op.case, &weights, &[]).await?;
        let mut secs = f64::INFINITY;
        for _ in 0..=N_ROUNDS {
            runner.start_profile()?;
            bench.run().await?;
            let Some(profile) = runner.finish_profile().await? else { continue };
            secs = secs.min(profile.lines.iter().map(|line| line.secs).sum());
        }
        let starts: [fn() -> Result<Peer, String>; 2] = [Peer::start, Peer::burn];
        let mut their_secs = [f64::NAN; 2];
        for ((peer, start), their_secs) in peers.iter_mut().zip(starts).zip(&mut their_secs) {
            let (Some(asked), Some(request)) = (peer.as_mut(), request(&op, element_name)) else { continue };
            match asked.ask(&request) {
                Ok(answer) => *their_secs = answer["secs"].as_f64().unwrap_or(f64::NAN),
                Err(error) => println!("  {}, {}: {error}", asked.who, op.label),
            }
            // A driver that crashed in it may still do the next one.
            if asked.has_ended() {
                *peer = start().ok();
            }
        }
        let gflops = op.flops as f64 / secs / 1e9;
        println!(
            "  {:>9} {:>9} {:>9} {:>6} {gflops:>9.0} {:>6.1}  {}",
            duration(secs),
            duration(their_secs[0]),
            duration(their_secs[1]),
            op.n,
            100.0 * gflops / peak_gflops,
            op.label
        );
        options.rows.add(
            "op",
            json!({ "model": name, "element": element_name, "label": op.label, "n": op.n, "flops": op.flops, "secs": secs,
                    "peer_secs": their_secs[0], "burn_secs": their_secs[1], "peak_gflops": peak_gflops }),
        );
        darkroom::run::Runner::trim(&*runner);
    }
    Ok(())
}

/// The same for others, where it is that simple.
fn request(op: &OpCase, dtype: &str) -> Option<Value> {
    let graph = op.case.graph();
    let node = graph.nodes.last()?;
    let shape = |i: usize| Some(graph.node(*node.inputs.get(i)?).shape.as_slice());
    match (&node.op, shape(0)?, shape(1)?) {
        (Op::Linear, x, &[n, k]) => {
            let m = x.iter().product::<usize>() / k;
            Some(json!({ "matmul": [m, n, k], "dtype": dtype }))
        }
        (Op::Conv2d { stride: 1, upsample: None, .. }, &[batch, h, w, c_in], &[c_out, _, kernel, _]) => {
            Some(json!({ "conv": [batch, h, w, c_in, c_out, kernel], "dtype": dtype }))
        }
        (Op::Attention { heads, .. }, &[batch, queries, width], &[_, keys, _]) => {
            Some(json!({ "attention": [batch, heads, queries, keys, width / heads], "dtype": dtype }))
        }
        _ => None,
    }
}
