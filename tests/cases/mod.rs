//! Cases of the kernels, run natively by `gpu.rs` and in a browser by `web.rs`, so that both prove the same.
//!
//! Each module has a table of cases and one `check`, which runs a case on the GPU and in plain Rust and panics with the
//! first value that differs by more than is allowed.

#![allow(dead_code, reason = "each test binary that includes this module uses a part of it")]

pub mod add_low_rank;
pub mod attention;
pub mod elementwise;
pub mod embedding;
pub mod gemm;
pub mod group_norm;
pub mod layer_norm;
pub mod lincomb;
pub mod repack;
pub mod rig;
pub mod splitk_group_norm;

use darkroom::run::gpu::Element;
use darkroom::run::gpu::Gpu;
use half::f16;

// Tolerances. A value may be off by ROUNDING times itself, for storing it, plus SUMS times the root mean square of all
// expected values, for the order in which sums are added and for functions that a GPU computes to a few units in the
// last place (WGSL asks no more of `exp` or `1/x`).

/// f32 stores 24 bits, of which the last few are lost to exponentials and divisions.
const ROUNDING_F32: f32 = 4e-6;
/// f16 stores 11 bits: half a unit is 4.9e-4, and the kernel's own error may tip a value to the next one.
const ROUNDING_F16: f32 = 1e-3;
/// Sums of some thousand products of either sign, in f32.
const SUMS: f32 = 1e-5;
/// The smallest step of f16 near zero.
const SMALLEST_F16: f32 = 6e-8;

/// The element types that a device can run.
pub fn elements(gpu: &Gpu) -> &'static [Element] {
    if gpu.caps.shader_f16 { Element::ALL } else { &[Element::F32] }
}

/// A fixed scatter in [-1, 1) times a magnitude; each `seed` has its own.
pub fn scatter(seed: u32, n_values: usize, magnitude: f32) -> Vec<f32> {
    let mut state = 0x9E37_79B9_u32.wrapping_mul(seed + 1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 8) as f32 / (1 << 23) as f32 - 1.0) * magnitude
    };
    (0..n_values).map(|_| next()).collect()
}

/// The values as an element type stores them.
pub fn stored(element: Element, values: Vec<f32>) -> Vec<f32> {
    match element {
        Element::F32 => values,
        Element::F16 => values.into_iter().map(|value| f16::from_f32(value).to_f32()).collect(),
    }
}

/// A scatter as an element type stores it.
pub fn stored_scatter(element: Element, seed: u32, n_values: usize, magnitude: f32) -> Vec<f32> {
    stored(element, scatter(seed, n_values, magnitude))
}

/// Panics with the first of the `got` values that is too far from what was expected.
pub fn compare(name: &str, element: Element, got: &[f32], expected: &[f32]) {
    compare_with_slack(name, element, got, expected, 0.0);
}

/// The same for a case that by its nature loses digits: `slack` more is allowed.
pub fn compare_with_slack(name: &str, element: Element, got: &[f32], expected: &[f32], slack: f32) {
    assert_eq!(got.len(), expected.len(), "{name}, {element:?}");
    let squares: f64 = expected.iter().map(|value| f64::from(*value).powi(2)).sum();
    let rms = (squares / expected.len().max(1) as f64).sqrt() as f32;
    let (rounding, smallest) = match element {
        Element::F32 => (ROUNDING_F32, 0.0),
        Element::F16 => (ROUNDING_F16, SMALLEST_F16),
    };
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let allowed = rounding * expected.abs() + SUMS * rms + smallest + slack;
        // Written so that a NaN fails.
        let close = (got - expected).abs() <= allowed;
        assert!(close, "{name}, {element:?}: value {i} is {got}, expected {expected} ± {allowed}");
    }
}

/// Cases of every kernel, enough to see that each works, for where time is short: in a browser on a software adapter.
pub async fn check_short(gpu: &Gpu) {
    let mut rig = rig::Rig::new(gpu);
    for case in gemm::short() {
        gemm::check(&mut rig, case).await;
    }
    for case in gemm::short().take(3) {
        gemm::check_weight_types(&mut rig, case).await;
    }
    for case in attention::short() {
        attention::check(&mut rig, case).await;
    }
    for case in group_norm::CASES {
        group_norm::check(&mut rig, case).await;
    }
    for case in splitk_group_norm::CASES {
        splitk_group_norm::check(&mut rig, case).await;
    }
    for case in layer_norm::CASES {
        layer_norm::check(&mut rig, case).await;
    }
    for case in elementwise::CASES {
        elementwise::check(&mut rig, case).await;
    }
    for case in embedding::CASES {
        embedding::check(&mut rig, case).await;
    }
    for case in repack::CASES {
        repack::check(&mut rig, case).await;
    }
    for case in add_low_rank::CASES {
        add_low_rank::check(&mut rig, case).await;
    }
}
