//! The device that the candle runner's tests run on: the CPU, or with `DARKROOM_TEST_DEVICE=cuda` the first NVIDIA card.

#![allow(dead_code, reason = "each test binary that includes this module uses a part of it")]

use std::io::Write;

use darkroom::run::candle::{CandleRunner, Precision};

/// The variable that names the device.
const VARIABLE: &str = "DARKROOM_TEST_DEVICE";

/// Whether the tests run on an NVIDIA card.
pub fn is_cuda() -> bool {
    match std::env::var(VARIABLE).as_deref() {
        Err(std::env::VarError::NotPresent) | Ok("" | "cpu") => false,
        Ok("cuda") => true,
        other => panic!("{VARIABLE} is {other:?}; use cpu or cuda"),
    }
}

/// A runner on the device. `None` after saying why the test that asks is skipped: the card is not there, or this is a build
/// without the feature `cuda`.
pub fn runner(precision: Precision) -> Option<CandleRunner> {
    if is_cuda() { cuda_runner(precision) } else { Some(CandleRunner::cpu(precision)) }
}

/// The same by candle's own operations, which on CUDA are the only ones.
pub fn plain_runner(precision: Precision) -> Option<CandleRunner> {
    if is_cuda() { cuda_runner(precision) } else { Some(CandleRunner::cpu_plain(precision)) }
}

fn cuda_runner(precision: Precision) -> Option<CandleRunner> {
    match CandleRunner::cuda(0, precision) {
        Ok(runner) => Some(runner),
        Err(reason) => {
            // The harness names the thread after the test. Its capture of print macros would hide the line.
            let thread = std::thread::current();
            let test = thread.name().unwrap_or("a test");
            // In one piece, so that it stays a line among those of other threads.
            let line = format!("skipped: {test}: {reason}\n");
            std::io::stderr().write_all(line.as_bytes()).expect("standard error is writable");
            None
        }
    }
}
