//! One guided UNet step of SD 1.5's architecture through WebGPU, beside the candle runner: random weights, 256x256.
//! `./build.sh bench --bench unet_gpu`; with `DARKROOM_F16=1` in 16 bits where the adapter has them, with
//! `DARKROOM_ROUNDS=1` in fewer rounds.
//!
//! On an adapter that stands in for a GPU the times say nothing about GPUs; the counts do.

#[path = "common/random.rs"]
mod random;

use std::time::Instant;

use darkroom::model::UNet2DConditionConfig;
use darkroom::model::unet::{UNetShape, graphs, prompt_graph, step_graph, weights};
use darkroom::run::Runner;
use darkroom::run::candle::{CandleRunner, Precision};
use darkroom::run::gpu::Gpu;
use darkroom::run::gpu::kernels::Element;
use darkroom::run::gpu::runner::GpuRunner;
use darkroom::weights::Weights;
use darkroom::{Error, Result};
use random::{RandomSource, values};

/// Timed steps of each contender, unless `DARKROOM_ROUNDS` says otherwise; they take turns.
const N_ROUNDS: usize = 3;
const SHAPE: UNetShape = UNetShape { batch: 2, height: 32, width: 32, n_context: 77 };

/// A runner with the step's program and inputs.
struct Contender<R: Runner> {
    runner: R,
    weights: R::Weights,
    step: R::Program,
    inputs: Vec<(String, R::Tensor)>,
    secs: Vec<f64>,
}

impl<R: Runner> Contender<R> {
    async fn new(runner: R, config: &UNet2DConditionConfig) -> Result<Self> {
        let file = Weights::open(vec![Box::new(RandomSource::new(&weights(config)?))]).await?;
        let weights = runner.load(&graphs(config)?, &file, &mut |_| {}).await?;
        let UNetShape { batch, height, width, n_context } = SHAPE;
        let prompt = prompt_graph(config, batch, n_context)?;
        let names: Vec<String> = prompt.outputs.iter().map(|(name, _)| name.clone()).collect();
        let context = values(batch * n_context * config.cross_attention_dim);
        let context = runner.upload(&context, &[batch, n_context, config.cross_attention_dim])?;
        let prompt = runner.prepare(prompt).await?;
        let given = [("encoder_hidden_states", &context)];
        let computed = runner.run(&prompt, &weights, &given, &mut |_| true).await?;
        let mut inputs: Vec<(String, R::Tensor)> = names.into_iter().zip(computed).collect();
        inputs.push(("sample".into(), runner.upload(&values(batch * height * width * 4), &[batch, height, width, 4])?));
        inputs.push(("timestep".into(), runner.upload(&[500.0; 2], &[2])?));
        let step = runner.prepare(step_graph(config, SHAPE)?).await?;
        Ok(Contender { runner, weights, step, inputs, secs: Vec::new() })
    }

    /// One step, and its result, so that it is known to be done.
    async fn round(&mut self) -> Result<Vec<f32>> {
        let start = Instant::now();
        let inputs: Vec<_> = self.inputs.iter().map(|(name, value)| (name.as_str(), value)).collect();
        let output = self.runner.run(&self.step, &self.weights, &inputs, &mut |_| true).await?.swap_remove(0);
        let values = self.runner.download(&output).await?;
        self.secs.push(start.elapsed().as_secs_f64());
        Ok(values)
    }

    fn report(&mut self, flops: f64) -> f64 {
        // The first step compiles.
        let cold = self.secs.remove(0);
        self.secs.sort_by(f64::total_cmp);
        let (least, median, most) = (self.secs[0], self.secs[self.secs.len() / 2], self.secs[self.secs.len() - 1]);
        println!(
            "{:<52} {:>8.0} ms median ({:.0} to {:.0}), first {:.0} ms, {:.1} GFLOP/s",
            self.runner.describe(),
            median * 1e3,
            least * 1e3,
            most * 1e3,
            cold * 1e3,
            flops / median / 1e9
        );
        median
    }
}

fn main() -> Result<()> {
    pollster::block_on(run())
}

async fn run() -> Result<()> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/model/published/v1-5/unet.json");
    let text = std::fs::read_to_string(file).map_err(|e| Error::io(std::path::Path::new(file), e))?;
    let config = UNet2DConditionConfig::from_json(&text, "unet/config.json")?;
    let element = if std::env::var_os("DARKROOM_F16").is_some() { Element::F16 } else { Element::F32 };
    let gpu = Gpu::open().await?;
    let (software, can_time) = (gpu.caps.software, gpu.caps.timestamp_query);
    let flops = step_graph(&config, SHAPE)?.flops() as f64;
    println!("one UNet step, SD 1.5 at 256x256, batch 2: {:.1} GFLOP", flops / 1e9);
    if software {
        println!("the adapter is a processor's: its times are not a GPU's");
    }
    let mut ours = Contender::new(GpuRunner::new(gpu, element)?, &config).await?;
    let mut candle = Contender::new(CandleRunner::cpu(Precision::F32), &config).await?;
    let n_rounds = std::env::var("DARKROOM_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(N_ROUNDS).max(1);
    let (mut got, mut expected) = (Vec::new(), Vec::new());
    let mut before = (ours.runner.counts(), 0.0);
    for _ in 0..=n_rounds {
        before = (ours.runner.counts(), ours.runner.record_secs());
        got = ours.round().await?;
        expected = candle.round().await?;
    }
    let step = ours.runner.counts().since(&before.0);
    let record_secs = ours.runner.record_secs() - before.1;
    let (gpu_median, candle_median) = (ours.report(flops), candle.report(flops));
    println!("candle / gpu: {:.2} (medians)", candle_median / gpu_median);
    let largest = expected.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    let off = got.iter().zip(&expected).fold(0f32, |off, (a, b)| off.max((a - b).abs()));
    println!("results differ by {:.1e} of the largest value", off / largest);
    println!(
        "a step: {} dispatches, {} submits, {} bind groups, {} pipelines and {} buffers made; {:.2} ms of the processor's time to record",
        step.dispatches,
        step.submits,
        step.bind_groups,
        step.pipelines,
        step.buffers - step.readbacks,
        record_secs * 1e3
    );
    println!(
        "GPU memory: {:.3} GB at the peak, weights {:.3}, arena {:.3}",
        step.peak_bytes as f64 / 1e9,
        step.weight_bytes as f64 / 1e9,
        step.arena_bytes as f64 / 1e9
    );
    if can_time {
        ours.runner.start_profile()?;
        ours.round().await?;
        if let Some(profile) = ours.runner.finish_profile().await? {
            println!("{profile}");
        }
    }
    Ok(())
}
