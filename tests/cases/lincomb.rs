//! Cases of the linear combination.

use darkroom::run::gpu::Gpu;
use darkroom::run::gpu::kernels::lincomb::{reference, run_once};

/// How far a value may be from the reference, as a part of `Σ|cᵢ·xᵢ|`. A GPU may fuse a multiplication and an addition,
/// which rounds once where Rust rounds twice; over seven terms that is a few units in the last place (6e-8 each).
const TOLERANCE: f32 = 1e-6;

/// One combination: its coefficients and how many values each term has.
#[derive(Debug)]
pub struct Case {
    name: &'static str,
    coefficients: &'static [f32],
    n_values: usize,
    /// Scales the terms' values, which otherwise lie between -1 and 1.
    magnitude: f32,
}

/// All cases.
pub const CASES: &[Case] = &[
    Case { name: "one value", coefficients: &[2.0], n_values: 1, magnitude: 1.0 },
    Case { name: "a workgroup and one more", coefficients: &[1.0, -7.5], n_values: 257, magnitude: 1.0 },
    Case {
        name: "seven terms, odd length",
        coefficients: &[1.0, -2.0, 0.5, 3.25, -0.125, 7.0, 1e-3],
        n_values: 4099,
        magnitude: 1.0,
    },
    Case { name: "guidance on batch 1 of 64x64 latents", coefficients: &[-6.5, 7.5], n_values: 16384, magnitude: 4.0 },
    Case { name: "large values that cancel", coefficients: &[1.0, -1.0, 1.0], n_values: 1000, magnitude: 1e30 },
    Case { name: "tiny but normal values", coefficients: &[0.5, 0.25, 0.25, 1.0], n_values: 1000, magnitude: 1e-30 },
];

impl Case {
    /// The values of term `term_idx`: a fixed scatter in [-1, 1) times the magnitude.
    fn values(&self, term_idx: usize) -> Vec<f32> {
        let mut state = 0x9E37_79B9_u32.wrapping_mul(term_idx as u32 + 1);
        (0..self.n_values)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((state >> 8) as f32 / (1 << 23) as f32 - 1.0) * self.magnitude
            })
            .collect()
    }
}

/// Runs one case on `gpu` and panics with the first value that is wrong.
pub async fn check(gpu: &Gpu, case: &Case) {
    let values: Vec<Vec<f32>> = (0..case.coefficients.len()).map(|i| case.values(i)).collect();
    let terms: Vec<(f32, &[f32])> = case.coefficients.iter().copied().zip(values.iter().map(Vec::as_slice)).collect();
    let expected = reference(&terms);
    let got = run_once(gpu, &terms).await.unwrap_or_else(|e| panic!("{}: {e}", case.name));
    assert_eq!(got.len(), expected.len(), "{}", case.name);
    for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
        let scale: f32 = terms.iter().map(|(c, x)| (c * x[i]).abs()).sum();
        let allowed = TOLERANCE * scale;
        assert!(
            (got - expected).abs() <= allowed,
            "{}: value {i} is {got}, expected {expected} ± {allowed}",
            case.name
        );
    }
}

/// A NaN in a term that does not count must not reach the result, and one that counts must.
pub async fn check_nan(gpu: &Gpu) {
    let (clean, dirty) = ([1.0_f32; 8], [f32::NAN; 8]);
    let sum = run_once(gpu, &[(1.0, &clean)]).await.expect("one term");
    assert_eq!(sum, clean);
    let sum = run_once(gpu, &[(1.0, &clean), (1.0, &dirty)]).await.expect("two terms");
    assert!(sum.iter().all(|value| value.is_nan()), "{sum:?}");
}

/// What cannot be computed is an error before the GPU hears of it.
pub async fn check_refusals(gpu: &Gpu) {
    assert!(run_once(gpu, &[]).await.is_err(), "no terms");
    assert!(run_once(gpu, &[(1.0, &[1.0][..]); 8]).await.is_err(), "eight terms");
    assert!(run_once(gpu, &[(1.0, &[1.0]), (1.0, &[1.0, 2.0])]).await.is_err(), "terms of different lengths");
}
