//! A guided denoising step of SD 1.5 at 512x512 on an NVIDIA card, in 16 and in 32 bits, with random weights. `./build.sh
//! cuda` compiles it as target/cuda/bench-cuda. `DARKROOM_ROUNDS` says how many steps are timed after the first,
//! `DARKROOM_CASES=f16` leaves out the other.

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
    Ok(())
}
