//! What the worst looks like: memory that runs out, and a device that is gone. Each is followed by drawing again.

use std::rc::Rc;
use std::time::Instant;

use darkroom::bench::{Bench, RandomWeights};
use darkroom::run::Runner;
use darkroom::run::gpu::Gpu;
use darkroom::run::gpu::runner::GpuRunner;
use darkroom::weights::Weights;
use serde_json::json;

use crate::models::model;
use crate::report::duration;
use crate::steps::nvidia_smi;
use crate::{Options, Outcome};

/// Bytes of one tensor, where a binding may be as large.
const TENSOR_BYTES: u64 = 1 << 30;

/// What a software adapter is asked for: its memory is the machine's own, which others need.
const SOFTWARE_BYTES: u64 = 1 << 30;

/// What nothing that is borrowed for minutes has.
const MAX_BYTES: u64 = 512 << 30;

/// Tensors until there is no more room, then a small component on the same runner.
pub async fn memory(options: &Options) -> Outcome<()> {
    let gpu = Gpu::open_with_matrices().await?;
    let caps = gpu.caps.clone();
    let runner = Rc::new(GpuRunner::new(gpu, caps.best_element())?);
    let n_values = TENSOR_BYTES.min(caps.max_binding_bytes).min(caps.max_buffer_bytes) as usize / 4 / 1024 * 1024;
    let limit = if caps.software { SOFTWARE_BYTES } else { MAX_BYTES };
    let first = runner.upload(&vec![1.0; n_values], &[n_values])?;
    let (mut tensors, mut failure) = (Vec::new(), None);
    let start = Instant::now();
    while failure.is_none() && (tensors.len() as u64) * 4 * (n_values as u64) < limit && options.has_time() {
        let next = runner.lincomb(&[(2.0, &first)], None);
        match next {
            Ok(next) => {
                failure = runner.count_non_finite(&next).await.err();
                tensors.push(next);
            }
            Err(error) => failure = Some(error),
        }
    }
    let held = runner.counts().live_bytes;
    let said = failure.as_ref().map_or_else(|| "nothing went wrong".to_owned(), ToString::to_string);
    println!(
        "after {:.2} GB in {}: {said}\n  as {:.300}\n  nvidia-smi: {}",
        held as f64 / 1e9,
        duration(start.elapsed().as_secs_f64()),
        format!("{failure:?}"),
        nvidia_smi().unwrap_or_else(|| "-".into())
    );
    if caps.software {
        println!("  (a software adapter is not asked for more than {:.1} GB)", limit as f64 / 1e9);
    }
    for idx in [0, tensors.len() / 8, tensors.len() / 3, tensors.len().saturating_sub(1)] {
        let Some(tensor) = tensors.get(idx) else { continue };
        let values = match runner.slice(tensor, 0, n_values - 16, 16) {
            Ok(end) => runner.download(&end).await.map_or_else(|error| error.to_string(), |end| format!("{end:?}")),
            Err(error) => error.to_string(),
        };
        println!("  the last values of tensor {idx}: {values:.80}");
    }
    let free = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free: Vec<&str> = free.lines().filter(|line| line.starts_with("MemAvailable")).collect();
    println!("  {}", free.join(" "));
    drop((tensors, first));
    runner.trim();
    let again = draw(&runner).await;
    let again =
        again.map_or_else(|error| format!("does not: {error}"), |values| format!("draws {} values", values.len()));
    println!("  given back, the same runner {again}; nvidia-smi: {}", nvidia_smi().unwrap_or_else(|| "-".into()));
    options
        .rows
        .add("out_of_memory", json!({ "bytes": held, "error": said, "debug": format!("{failure:?}"), "again": again }));
    if caps.software || matches!(failure, Some(darkroom::Error::OutOfMemory { .. })) {
        Ok(())
    } else {
        Err(said.into())
    }
}

/// A device given up between two runs, and another one.
pub async fn loss(options: &Options) -> Outcome<()> {
    let open = async || {
        let gpu = Gpu::open_with_matrices().await?;
        let element = gpu.caps.best_element();
        Ok::<_, darkroom::Error>(Rc::new(GpuRunner::new(gpu, element)?))
    };
    let runner = open().await?;
    let before = draw(&runner).await?;
    runner.destroy_device();
    let start = Instant::now();
    let failure = draw(&runner).await.err();
    let said = failure.as_ref().map_or_else(|| "nothing went wrong".to_owned(), ToString::to_string);
    println!("on a device that was given up, after {}: {said}", duration(start.elapsed().as_secs_f64()));
    drop(runner);
    let start = Instant::now();
    let runner = open().await?;
    let after = draw(&runner).await?;
    let same = before == after;
    println!(
        "  opened, loaded and drawn again in {}: {}",
        duration(start.elapsed().as_secs_f64()),
        if same { "the same values" } else { "OTHER VALUES" }
    );
    options.rows.add("device_loss", json!({ "error": said, "debug": format!("{failure:?}"), "same_values": same }));
    let error = failure.as_ref().and_then(|error| error.downcast_ref::<darkroom::Error>());
    if same && matches!(error, Some(darkroom::Error::DeviceLost { .. })) { Ok(()) } else { Err(said.into()) }
}

/// A run of a small component from its weights on.
async fn draw(runner: &Rc<GpuRunner>) -> Result<Vec<f32>, Box<dyn std::error::Error>> {
    let model = model("narrow-unet")?;
    let weights = Weights::open(vec![Box::new(RandomWeights::new(&model.case.weights()))]).await?;
    let mut bench = Bench::load(Rc::clone(runner), &model.case, &weights, &[]).await?;
    bench.run().await?;
    Ok(bench.result().await?)
}
