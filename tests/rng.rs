//! Noise is torch's. The CPU's bit for bit: fixtures of torch 2.11 with AVX2, made by tools/fixtures/leaves.py. CUDA's to
//! the digits that others have published, in tests/fixtures/rng/philox.json.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

#[path = "common/numbers.rs"]
mod numbers;

use darkroom::rng::variation::mix;
use darkroom::rng::{Generator, Noise, NoiseGenerator, Philox};
use serde::Deserialize;

/// Calls of more values than this are stored as one checksum per so many values, with the first and last 8 in full.
const SUM_BLOCK: usize = 64;

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    seed: String,
    sizes: Vec<usize>,
    calls: Vec<Call>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Call {
    /// Every value as eight hexadecimal digits.
    Full(String),
    /// The ends, and the checksums of the blocks.
    Summed([String; 2]),
}

fn words(hex: &str) -> Vec<u32> {
    hex.as_bytes().chunks(8).map(|w| u32::from_str_radix(std::str::from_utf8(w).unwrap(), 16).unwrap()).collect()
}

fn checksum(words: &[u32]) -> u32 {
    words.iter().fold(0x811c_9dc5, |sum, word| (sum ^ word).wrapping_mul(0x0100_0193))
}

fn check_words(what: &str, first_idx: usize, got: &[u32], expected: &[u32]) {
    assert_eq!(got.len(), expected.len(), "{what}: number of values");
    for (i, (&g, &e)) in got.iter().zip(expected).enumerate() {
        let (gf, ef) = (f32::from_bits(g), f32::from_bits(e));
        assert_eq!(
            g,
            e,
            "{what}: value {} is the first to differ: {gf:e} ({g:08x}) for {ef:e} ({e:08x})",
            first_idx + i
        );
    }
}

#[test]
fn randn_is_torchs() {
    let fixture: Fixture = serde_json::from_str(include_str!("fixtures/rng/randn.json")).unwrap();
    assert!(fixture.cases.len() > 40);
    for case in &fixture.cases {
        let mut generator = Generator::new(case.seed.parse().unwrap());
        for (i, (&n, call)) in case.sizes.iter().zip(&case.calls).enumerate() {
            let what = format!("seed {}, sizes {:?}, call {i}", case.seed, case.sizes);
            let got: Vec<u32> = generator.randn(n).into_iter().map(f32::to_bits).collect();
            match call {
                Call::Full(hex) => check_words(&what, 0, &got, &words(hex)),
                Call::Summed([ends, sums]) => {
                    let ends = words(ends);
                    assert_eq!(got.len(), n, "{what}: number of values");
                    check_words(&what, 0, &got[..8], &ends[..8]);
                    let sums = words(sums);
                    assert_eq!(sums.len(), n.div_ceil(SUM_BLOCK), "{what}: the fixture itself");
                    for (block_idx, (values, sum)) in got.chunks(SUM_BLOCK).zip(sums).enumerate() {
                        let first = block_idx * SUM_BLOCK;
                        assert_eq!(
                            checksum(values),
                            sum,
                            "{what}: the first difference is among values {first}..{}",
                            first + values.len()
                        );
                    }
                    check_words(&what, n - 8, &got[n - 8..], &ends[8..]);
                }
            }
        }
    }
}

#[test]
fn only_the_low_half_of_the_seed_counts() {
    assert_eq!(Generator::new((1 << 32) + 5).randn(40), Generator::new(5).randn(40));
}

#[test]
fn values_are_finite_and_standard_normal() {
    let values = Generator::new(7).randn(1 << 16);
    assert!(values.iter().all(|v| v.is_finite()));
    let n = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
    // Five standard errors of each estimate.
    assert!(mean.abs() < 5.0 / n.sqrt(), "mean {mean}");
    assert!((variance - 1.0).abs() < 5.0 * (2.0 / n).sqrt(), "variance {variance}");
}

#[derive(Deserialize)]
struct Published {
    values: Vec<PublishedValues>,
    sums: Vec<PublishedSums>,
}

#[derive(Deserialize)]
struct PublishedValues {
    source: String,
    seed: String,
    draw: usize,
    size: usize,
    tolerance: f64,
    at: Vec<usize>,
    expected: Vec<f64>,
}

/// Of three draws: `first + 0.5 * second + third`, the third one row of columns.
#[derive(Deserialize)]
struct PublishedSums {
    source: String,
    seed: String,
    rows: usize,
    columns: usize,
    tolerance: f64,
    at: Vec<usize>,
    expected: Vec<f64>,
}

#[test]
fn philox_is_torchs_on_cuda() {
    let published: Published = serde_json::from_str(include_str!("fixtures/rng/philox.json")).unwrap();
    for case in &published.values {
        let mut generator = NoiseGenerator::new(Noise::Philox, case.seed.parse().unwrap());
        let drawn = (0..=case.draw).map(|_| generator.randn(case.size)).last().unwrap();
        assert_eq!(case.at.len(), case.expected.len(), "{}", case.source);
        for (&at, expected) in case.at.iter().zip(&case.expected) {
            let got = f64::from(drawn[at]);
            assert!((got - expected).abs() <= case.tolerance, "{}: value {at} is {got}, not {expected}", case.source);
        }
    }
    for case in &published.sums {
        let mut generator = Philox::new(case.seed.parse().unwrap());
        let [first, second, third] = [case.rows, case.rows, 1].map(|rows| generator.randn(rows * case.columns));
        for (&at, expected) in case.at.iter().zip(&case.expected) {
            let got = f64::from(first[at] + 0.5 * second[at] + third[at % case.columns]);
            assert!((got - expected).abs() <= case.tolerance, "{}: value {at} is {got}, not {expected}", case.source);
        }
    }
}

#[derive(Deserialize)]
struct Mixes {
    cases: Vec<Mix>,
}

#[derive(Deserialize)]
struct Mix {
    name: String,
    /// Channels, height, width.
    size: [usize; 3],
    seeds: [u64; 2],
    strength: f64,
}

/// As torch computes it in float32 (tools/fixtures/variation.py).
#[test]
fn a_variation_is_between_the_noise_of_two_seeds() {
    let mixes: Mixes = serde_json::from_str(include_str!("fixtures/rng/variation.json")).unwrap();
    let recorded = numbers::Fixture::read(&numbers::places::fixtures_dir().join("rng/variation.safetensors"));
    assert_eq!(mixes.cases.len(), recorded.names().count());
    for Mix { name, size: [channels, height, width], seeds, strength } in &mixes.cases {
        let [own, other] = seeds.map(|seed| Generator::new(seed).randn(channels * height * width));
        let got = mix(&own, &other, *strength, *height, *width);
        // Cosines near -1 lose digits: short columns point almost apart.
        numbers::assert_close(name, &got, &recorded.values(name).0, if *height > 4 { 2e-6 } else { 2e-4 });
        match strength {
            0.0 => assert_eq!(got, own, "{name}"),
            1.0 => assert_eq!(got, other, "{name}"),
            _ => assert!(got != own && got != other, "{name}"),
        }
    }
}

#[test]
fn a_variation_of_a_seed_by_itself_is_the_seed() {
    for noise in [Noise::Cpu, Noise::Philox] {
        for (height, width) in [(1, 1), (1, 7), (8, 8)] {
            let draw = |seed| NoiseGenerator::new(noise, seed).randn(4 * height * width);
            let own = draw(5);
            for (got, own) in mix(&own, &own, 0.3, height, width).iter().zip(&own) {
                assert!((got - own).abs() < 1e-6, "{got} for {own}");
            }
            assert!(mix(&own, &draw(6), 0.3, height, width).iter().all(|x| x.is_finite()));
        }
    }
}
