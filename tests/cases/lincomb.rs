//! Cases of the linear combination.

use darkroom::run::gpu::kernels::sampling::lincomb::{Bindings, MAX_TERMS, launch, reference};
use darkroom::run::gpu::{Element, Gpu};

use super::rig::{Bench, Rig};
use super::{elements, stored_scatter};

/// How far a value may be from the reference, as a part of `Σ|cᵢ·xᵢ|`. A GPU may fuse a multiplication and an addition,
/// which rounds once where Rust rounds twice; over seven terms that is a few units in the last place (6e-8 each). Storing
/// in f16 is half a unit of 11 bits, and the other error may tip it.
const TOLERANCE_F32: f32 = 1e-6;
const TOLERANCE_F16: f32 = 5e-4;

/// One combination: its coefficients and how many values each term has.
#[derive(Debug)]
pub struct Case {
    name: &'static str,
    coefficients: &'static [f32],
    n_values: usize,
    /// Scales the terms' values, which otherwise lie between -1 and 1.
    magnitude: f32,
    clamp: Option<(f32, f32)>,
    /// Whether the magnitude fits in f16.
    f16: bool,
}

/// All cases.
pub const CASES: &[Case] = &[
    Case { name: "one value", coefficients: &[2.0], n_values: 1, magnitude: 1.0, clamp: None, f16: true },
    Case {
        name: "a workgroup and one more",
        coefficients: &[1.0, -7.5],
        n_values: 257,
        magnitude: 1.0,
        clamp: None,
        f16: true,
    },
    Case {
        name: "seven terms, odd length",
        coefficients: &[1.0, -2.0, 0.5, 3.25, -0.125, 7.0, 1e-3],
        n_values: 4099,
        magnitude: 1.0,
        clamp: None,
        f16: true,
    },
    Case {
        name: "guidance on batch 1 of 64x64 latents",
        coefficients: &[-6.5, 7.5],
        n_values: 16384,
        magnitude: 4.0,
        clamp: None,
        f16: true,
    },
    Case {
        name: "clamped",
        coefficients: &[2.0, 2.0],
        n_values: 1000,
        magnitude: 1.0,
        clamp: Some((-1.0, 0.5)),
        f16: true,
    },
    Case {
        name: "large values that cancel",
        coefficients: &[1.0, -1.0, 1.0],
        n_values: 1000,
        magnitude: 1e30,
        clamp: None,
        f16: false,
    },
    Case {
        name: "tiny but normal values",
        coefficients: &[0.5, 0.25, 0.25, 1.0],
        n_values: 1000,
        magnitude: 1e-30,
        clamp: None,
        f16: false,
    },
];

/// One value to five, of one term to all.
pub fn smallest() -> Vec<Case> {
    let coefficients: &'static [f32] = &[1.0, -2.0, 0.5, 3.25, -0.125, 7.0, 1e-3];
    let sizes = (1..=5).flat_map(|n_values| (1..=MAX_TERMS).map(move |n_terms| (n_values, n_terms)));
    let case = |(n_values, n_terms)| Case {
        name: format!("{n_values} values of {n_terms} terms").leak(),
        coefficients: &coefficients[..n_terms],
        n_values,
        magnitude: 1.0,
        clamp: None,
        f16: true,
    };
    sizes.map(case).collect()
}

/// Runs one combination.
async fn combine(rig: &mut Rig<'_>, name: &str, element: Element, terms: &[(f32, &[f32])], case: &Case) -> Vec<f32> {
    let coefficients: Vec<f32> = terms.iter().map(|(c, _)| *c).collect();
    let n_values = terms[0].1.len();
    let mut bench = Bench::default();
    let operands = terms.iter().map(|(_, values)| bench.elements(element, values)).collect();
    let result = bench.room(element, n_values);
    let launch = launch(&coefficients, n_values as u32, case.clamp, element).expect(name);
    bench.launch(launch, Bindings { terms: operands, result });
    rig.run(name, bench).await.elements(element, result, n_values)
}

/// Runs one case on `gpu` and panics with the first value that is wrong.
pub async fn check(gpu: &Gpu, case: &Case) {
    let mut rig = Rig::new(gpu);
    for &element in elements(gpu).iter().filter(|element| case.f16 || **element == Element::F32) {
        let values: Vec<Vec<f32>> = (0..case.coefficients.len())
            .map(|i| stored_scatter(element, i as u32, case.n_values, case.magnitude))
            .collect();
        let terms: Vec<(f32, &[f32])> =
            case.coefficients.iter().copied().zip(values.iter().map(Vec::as_slice)).collect();
        let expected = reference(&terms, case.clamp);
        let got = combine(&mut rig, case.name, element, &terms, case).await;
        for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let scale: f32 = terms.iter().map(|(c, x)| (c * x[i]).abs()).sum();
            let allowed =
                TOLERANCE_F32 * scale + if element == Element::F16 { TOLERANCE_F16 * expected.abs() } else { 0.0 };
            assert!(
                (got - expected).abs() <= allowed,
                "{}, {element:?}: value {i} is {got}, expected {expected} ± {allowed}",
                case.name
            );
        }
    }
}

/// A NaN in a term that does not count must not reach the result, and one that counts must. What the rig binds to the
/// terms that do not count is NaN.
pub async fn check_nan(gpu: &Gpu) {
    let mut rig = Rig::new(gpu);
    let (clean, dirty) = ([1.0_f32; 8], [f32::NAN; 8]);
    for &element in elements(gpu) {
        let sum = combine(&mut rig, "one term", element, &[(1.0, &clean)], &CASES[0]).await;
        assert_eq!(sum, clean);
        let sum = combine(&mut rig, "two terms", element, &[(1.0, &clean), (1.0, &dirty)], &CASES[0]).await;
        assert!(sum.iter().all(|value| value.is_nan()), "{sum:?}");
    }
}

/// What cannot be computed is an error before the GPU hears of it.
pub async fn check_refusals(_: &Gpu) {
    assert!(launch(&[], 1, None, Element::F32).is_err(), "no terms");
    assert!(launch(&[1.0; 8], 1, None, Element::F32).is_err(), "eight terms");
}
