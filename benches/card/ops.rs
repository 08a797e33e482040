//! The operations of a component one by one, by the GPU's clock, beside the same ones in PyTorch.

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
    let mut peer = Peer::start().map_err(|reason| println!("  beside nobody: {reason}")).ok();
    let element_name = if element == Element::F16 { "f16" } else { "f32" };
    let runner = Rc::new(GpuRunner::new(gpu, element)?);
    runner.measure_tiles(!runner.caps().software);
    println!(
        "{name} {element_name}, operation by operation\n  {:>9} {:>9} {:>6} {:>9}",
        "ours", "PyTorch", "n", "GFLOP/s"
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
        let theirs = peer.as_mut().zip(request(&op, element_name)).map(|(peer, request)| {
            let answer = peer.ask(&request)?;
            answer["secs"].as_f64().ok_or_else(|| format!("PyTorch said {answer}"))
        });
        let their_secs = match theirs {
            Some(Ok(secs)) => secs,
            Some(Err(error)) => {
                println!("  PyTorch, {}: {error}", op.label);
                f64::NAN
            }
            None => f64::NAN,
        };
        println!(
            "  {:>9} {:>9} {:>6} {:>9.0}  {}",
            duration(secs),
            duration(their_secs),
            op.n,
            op.flops as f64 / secs / 1e9,
            op.label
        );
        options.rows.add(
            "op",
            json!({ "model": name, "element": element_name, "label": op.label, "n": op.n, "flops": op.flops, "secs": secs,
                    "peer_secs": their_secs }),
        );
        darkroom::run::Runner::trim(&*runner);
    }
    Ok(())
}

/// The same for PyTorch, where it is that simple.
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
