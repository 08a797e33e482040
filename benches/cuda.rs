//! A guided denoising step of SD 1.5 at 512x512 on an NVIDIA card, in 16 and in 32 bits, with random weights. `./build.sh
//! cuda` compiles it as target/cuda/bench-cuda. `DARKROOM_ROUNDS` says how many steps are timed after the first,
//! `DARKROOM_CASES=f16` leaves out the other. `CUDA_LAUNCH_BLOCKING=1`, with which CUDA does one operation after another,
//! shows which of them take longest.

#[path = "common/report.rs"]
mod report;

use std::rc::Rc;

use darkroom::Result;
use darkroom::bench::{Bench, Case, Part, RandomWeights, Sizes};
use darkroom::run::Runner;
use darkroom::run::candle::{CandleRunner, Precision};
use darkroom::weights::Weights;
use report::{Contender, duration, is_wanted, n_rounds};

const N_ROUNDS: usize = 10;

/// Operations that are shown, of those that took longest.
const N_LINES: usize = 16;

fn main() -> Result<()> {
    pollster::block_on(run())
}

async fn run() -> Result<()> {
    let config = include_str!("../src/model/published/v1-5/unet.json");
    let case = Case::new(Part::Unet, config, Sizes { batch: 2, height: 64, width: 64 })?;
    println!("SD 1.5's UNet at 512x512, batch 2: {:.0} GFLOP a step", case.flops() as f64 / 1e9);
    for precision in [Precision::F16, Precision::F32] {
        if is_wanted(precision.name()) {
            time(&case, precision).await?;
        }
    }
    Ok(())
}

async fn time(case: &Case, precision: Precision) -> Result<()> {
    let runner = Rc::new(CandleRunner::cuda(0, precision)?);
    let who = runner.describe();
    let start = std::time::Instant::now();
    let weights = Weights::open(vec![Box::new(RandomWeights::new(&case.weights()))]).await?;
    let mut ours = Bench::load(runner, case, &weights, &[]).await?;
    println!("{who}: loaded in {}", duration(start.elapsed().as_secs_f64()));
    let mut contender = Contender::new(who);
    for _ in 0..=n_rounds(N_ROUNDS) {
        contender.took(ours.run().await?);
    }
    let [min, median, max] = contender.spread();
    println!(
        "{}: {:.2} ms a step ({:.2} to {:.2}, {} steps), {:.1} TFLOP/s; the first took {}",
        contender.who,
        median * 1e3,
        min * 1e3,
        max * 1e3,
        contender.secs.len(),
        case.flops() as f64 / median / 1e12,
        duration(contender.first)
    );
    let n_odd = ours.result().await?.iter().filter(|value| !value.is_finite()).count();
    if n_odd > 0 {
        println!("{}: {n_odd} values of the result are not finite", contender.who);
    }
    if std::env::var_os("CUDA_LAUNCH_BLOCKING").is_some_and(|value| value == "1") {
        let times = ours.time_ops().await?;
        let total: f64 = times.iter().map(|time| time.secs).sum();
        for time in times.iter().take(N_LINES) {
            println!("  {:>9} {:>5.1} % {:>4}  {}", duration(time.secs), 100.0 * time.secs / total, time.n, time.label);
        }
    }
    Ok(())
}
