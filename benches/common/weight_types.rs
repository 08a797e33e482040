//! A step with its weights held in each type, in turn in one run, and how far apart the results are.

use std::rc::Rc;

use darkroom::Result;
use darkroom::bench::{Bench, Case, RandomWeights};
use darkroom::run::gpu::runner::GpuRunner;
use darkroom::run::gpu::{Caps, Element, Gpu};
use darkroom::weights::{WeightType, Weights};
use serde_json::{Value, json};

use crate::report::spread;

/// One type of weights.
struct Contestant {
    weights: WeightType,
    bench: Bench<GpuRunner>,
    secs: Vec<f64>,
}

/// Times a component and prints a line for each type. `open` opens the adapter, once for each type. Another round follows
/// while `goes_on` says so of the adapter and of the number of rounds there were.
pub async fn compare(
    case: &Case,
    element: Element,
    open: impl AsyncFn() -> Result<Gpu>,
    goes_on: impl Fn(&Caps, usize) -> bool,
) -> Result<Vec<Value>> {
    const TYPES: [WeightType; 4] = [WeightType::F16, WeightType::Q8_0, WeightType::Q4_0, WeightType::F32];
    let random = Weights::open(vec![Box::new(RandomWeights::new(&case.weights()))]).await?;
    let mut all = Vec::new();
    for weights in TYPES {
        let runner = Rc::new(GpuRunner::new(open().await?, element)?.with_weights(weights));
        let mut bench = Bench::load(runner, case, &random, &[]).await?;
        // What is compiled is not timed.
        bench.run().await?;
        all.push(Contestant { weights, bench, secs: Vec::new() });
    }
    let mut round = 0;
    loop {
        for each in &mut all {
            let secs = each.bench.run().await?;
            each.secs.push(secs);
        }
        round += 1;
        if !goes_on(all[0].bench.runner().caps(), round) {
            break;
        }
    }
    let exact = all[TYPES.len() - 1].bench.result().await?;
    let norm = exact.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let base = spread(&all[0].secs)[1];
    let mut rows = Vec::new();
    for each in &all {
        let result = each.bench.result().await?;
        let off = result.iter().zip(&exact).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt() / norm;
        let (secs, n_bytes) = (spread(&each.secs)[1], each.bench.runner().counts().weight_bytes);
        println!(
            "  {:<5} {:>9.2} ms, {:.2} of f16's, weights {:>7.1} MB, {off:.1e} of the result's norm from f32's",
            each.weights.name(),
            secs * 1e3,
            secs / base,
            n_bytes as f64 / 1e6
        );
        rows.push(json!({
            "weights": each.weights.name(), "secs": each.secs, "ratio": secs / base, "weight_bytes": n_bytes, "error": off
        }));
    }
    Ok(rows)
}
