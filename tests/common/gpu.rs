//! The GPU of the tests, or nothing where they were told that there is none. Any other failure is loud: a test that skips
//! itself in silence proves nothing.

#![allow(dead_code, reason = "each test binary that includes this module uses a part of it")]

use std::sync::OnceLock;

use darkroom::run::gpu::Gpu;
use pollster::block_on;

/// Whether `DARKROOM_NO_GPU=1` says that there is no GPU here, which is printed.
pub fn has_no_gpu() -> bool {
    let is_told = std::env::var_os("DARKROOM_NO_GPU").is_some_and(|value| value == "1");
    if is_told {
        eprintln!("skipped, because DARKROOM_NO_GPU=1 says that there is no GPU here");
    }
    is_told
}

/// Takes what opens a GPU.
fn open_with(open: impl Future<Output = darkroom::Result<Gpu>>) -> Option<Gpu> {
    if has_no_gpu() {
        return None;
    }
    Some(block_on(open).unwrap_or_else(|error| {
        panic!("{error}. `./build.sh setup` installs a software one; DARKROOM_NO_GPU=1 skips these tests")
    }))
}

/// Opens the GPU, with its cooperative matrices where it has them.
pub fn gpu_with_matrices() -> Option<Gpu> {
    open_with(Gpu::open_with_matrices())
}

/// Opens the GPU.
pub fn gpu() -> Option<Gpu> {
    open_with(Gpu::open())
}

/// Whether everything is drawn, in each type of activations. A software adapter takes seconds for each picture, so there some
/// stand for the rest, unless `DARKROOM_LARGE=1` asks for all: its kernels are compared with their references one by one, in both
/// types, in `tests/gpu.rs`.
pub fn draws_all() -> bool {
    static DRAWS_ALL: OnceLock<bool> = OnceLock::new();
    *DRAWS_ALL.get_or_init(|| runs_all() || !gpu().is_some_and(|gpu| gpu.caps.software))
}

/// Whether `DARKROOM_LARGE=1` asks for runs that take a software adapter minutes.
pub fn runs_all() -> bool {
    std::env::var_os("DARKROOM_LARGE").is_some_and(|value| value == "1")
}
