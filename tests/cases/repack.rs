//! Cases of packing weights.

use darkroom::run::gpu::kernels::products::repack::{Bindings, Raw, Repack, launch, reference_with_scales};
use darkroom::weights::gguf::{self, BlockType};
use darkroom::weights::{WeightType, blocks};
use half::f16;

use super::rig::{Bench, Results, Rig};
use super::scatter;

/// One weight.
#[derive(Debug)]
pub struct Case {
    name: &'static str,
    repack: Repack,
}

const fn alone(outputs: u32, inputs: u32, taps: u32, geglu: bool, raw: Raw) -> Repack {
    Repack::alone(outputs, inputs, taps, geglu, raw)
}

const fn to(packed: WeightType, repack: Repack) -> Repack {
    Repack { packed, ..repack }
}

/// All cases.
pub const CASES: &[Case] = &[
    Case { name: "one value", repack: alone(1, 1, 1, false, Raw::F16) },
    Case { name: "one value in f32", repack: alone(1, 1, 1, false, Raw::F32) },
    Case { name: "odd in everything", repack: alone(7, 5, 9, false, Raw::F16) },
    Case { name: "a linear layer", repack: alone(64, 48, 1, false, Raw::F16) },
    Case { name: "a convolution in f32", repack: alone(20, 12, 9, false, Raw::F32) },
    Case { name: "geglu", repack: alone(48, 20, 1, true, Raw::F16) },
    Case { name: "geglu of one pair of quads, f32", repack: alone(8, 3, 1, true, Raw::F32) },
    Case {
        name: "the second of three",
        repack: Repack { first_column: 8, columns: 24, ..alone(10, 6, 1, false, Raw::F16) },
    },
    Case { name: "a slice of a convolution", repack: Repack { slice: [4, 8], ..alone(18, 7, 9, false, Raw::F16) } },
    Case {
        name: "the last slice of the second of three convolutions, inputs in pairs",
        repack: Repack { first_column: 8, columns: 40, slice: [12, 6], ..alone(18, 6, 9, false, Raw::F16) },
    },
    Case {
        name: "a slice of a weight with gates, inputs in pairs",
        repack: Repack { slice: [12, 12], ..alone(48, 10, 1, true, Raw::F16) },
    },
    Case {
        name: "the last slice of a weight with gates",
        repack: Repack { slice: [12, 12], ..alone(24, 5, 1, true, Raw::F32) },
    },
    Case { name: "f32", repack: to(WeightType::F32, alone(20, 12, 9, false, Raw::F32)) },
    Case { name: "8 bits", repack: to(WeightType::Q8_0, alone(64, 96, 1, false, Raw::F32)) },
    Case { name: "8 bits of f16, odd in everything", repack: to(WeightType::Q8_0, alone(7, 5, 9, false, Raw::F16)) },
    Case {
        name: "8 bits, a slice of the second of three, with gates",
        repack: Repack {
            first_column: 16,
            columns: 72,
            slice: [20, 20],
            ..to(WeightType::Q8_0, alone(40, 40, 1, true, Raw::F16))
        },
    },
    Case { name: "8 bits of blocks of 8", repack: to(WeightType::Q8_0, alone(10, 96, 1, false, Raw::Q8_0)) },
    Case { name: "8 bits of blocks of 4", repack: to(WeightType::Q8_0, alone(64, 64, 1, true, Raw::Q4_0)) },
    Case { name: "4 bits of blocks of 8", repack: to(WeightType::Q4_0, alone(20, 32, 1, false, Raw::Q8_0)) },
    Case { name: "f16 of blocks of 4", repack: to(WeightType::F16, alone(7, 64, 1, false, Raw::Q4_0)) },
    Case { name: "f32 of blocks of 8", repack: to(WeightType::F32, alone(9, 32, 1, false, Raw::Q8_0)) },
    Case {
        name: "4 bits of blocks of 4, a slice of the second of three, with gates",
        repack: Repack {
            first_column: 16,
            columns: 72,
            slice: [20, 20],
            ..to(WeightType::Q4_0, alone(40, 96, 1, true, Raw::Q4_0))
        },
    },
    Case { name: "4 bits", repack: to(WeightType::Q4_0, alone(64, 96, 1, false, Raw::F32)) },
    Case { name: "4 bits of f16, odd in everything", repack: to(WeightType::Q4_0, alone(7, 5, 9, false, Raw::F16)) },
    Case {
        name: "4 bits, a slice of a convolution",
        repack: Repack { slice: [16, 16], ..to(WeightType::Q4_0, alone(48, 33, 9, false, Raw::F32)) },
    },
];

/// Few outputs, inputs and taps.
pub fn smallest() -> Vec<Case> {
    let mut cases = Vec::new();
    for outputs in [1, 2, 4, 5, 8] {
        for (inputs, taps) in [(1, 1), (2, 1), (3, 1), (1, 9), (4, 9)] {
            for raw in [Raw::F16, Raw::F32, Raw::Q8_0, Raw::Q4_0] {
                let inputs = if raw.blocks().is_some() { 32 * inputs } else { inputs };
                let taps = if raw.blocks().is_some() { 1 } else { taps };
                for packed in [WeightType::F32, WeightType::F16, WeightType::Q8_0, WeightType::Q4_0] {
                    let repack = to(packed, alone(outputs, inputs, taps, outputs == 8, raw));
                    cases.push(Case { name: format!("{repack:?}").leak(), repack });
                }
            }
        }
    }
    cases
}

/// Runs one case and panics with the first word that is wrong. Bits have to be equal, but for codes of values half way
/// between two, which a device's division may put on either side.
pub async fn check(rig: &mut Rig<'_>, case: &Case) {
    let Repack { outputs, inputs, taps, raw, packed, slice: [first, n], .. } = case.repack;
    let of_output = (inputs * taps) as usize;
    let mut values: Vec<f32> = scatter(1, outputs as usize * of_output, 0.1);
    if raw == Raw::F16 || packed == WeightType::F16 {
        values.iter_mut().for_each(|value| *value = f16::from_f32(*value).to_f32());
    }
    // A subnormal must arrive as it is.
    values[first as usize * of_output] = f16::from_bits(1).to_f32();
    let mut stored = Vec::new();
    if let Some(kind) = raw.blocks() {
        gguf::quantize(kind, &values, &mut stored).unwrap();
        // A scale that nobody would choose: it is twice as large, and the codes use half their range.
        for block in stored.chunks_exact_mut(kind.bytes()).step_by(2) {
            let scale = f16::from_le_bytes([block[0], block[1]]);
            block[..2].copy_from_slice(&f16::from_f32(2.0 * scale.to_f32()).to_le_bytes());
            for code in &mut block[2..] {
                *code = if kind == BlockType::Q8_0 { (*code as i8 / 2) as u8 } else { 0x44 + ((*code >> 1) & 0x77) };
            }
        }
        values.clear();
        gguf::dequantize(kind, &stored, &mut values).unwrap();
    }
    let scales = raw.blocks().map(|kind| blocks::scales_of(kind, packed, &stored)).unwrap_or_default();
    let uploaded = &values[first as usize * of_output..][..n as usize * of_output];
    let mut bench = Bench::default();
    let source = match raw {
        Raw::F16 => bench.half_weight(&uploaded.iter().map(|value| f16::from_f32(*value)).collect::<Vec<_>>()),
        Raw::F32 => bench.float_weight(uploaded),
        Raw::Q8_0 | Raw::Q4_0 => {
            let of = |n: usize| raw.bytes_of((n * of_output) as u64) as usize;
            bench.byte_weight(&stored[of(first as usize)..][..of(n as usize)])
        }
    };
    let out = bench.room_bytes(case.repack.packed_bytes() as usize);
    bench.launch(launch(&case.repack).expect(case.name), Bindings { raw: source, packed: out });
    let expected = reference_with_scales(&case.repack, &values, &scales);
    let results = rig.run(case.name, bench).await;
    let got = results.words(out, expected.len());
    let first_scale = expected.len() - expected.len() / 17;
    for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
        let Some(expected) = expected else {
            assert!(Results::is_untouched(*got), "{}: word {i} belongs to another weight and was written", case.name);
            continue;
        };
        let is_close = match packed {
            WeightType::Q8_0 if i < first_scale => {
                got.to_le_bytes().iter().zip(expected.to_le_bytes()).all(|(a, b)| (*a as i8).abs_diff(b as i8) <= 1)
            }
            WeightType::Q4_0 if i < first_scale => (0..8).all(|nibble| {
                let code = |word: u32| (word << (28 - 4 * nibble)) as i32 >> 28;
                code(*got).abs_diff(code(*expected)) <= 1
            }),
            _ => got == expected,
        };
        assert!(is_close, "{}: word {i} is {got:08x}, expected {expected:08x}", case.name);
    }
    let n_unlike =
        got.iter().zip(&expected).filter(|(got, expected)| expected.is_some_and(|word| word != **got)).count();
    assert!(n_unlike * 100 <= got.len(), "{}: {n_unlike} of {} words are half way between two", case.name, got.len());
}
