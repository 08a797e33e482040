//! Cases of packing weights.

use darkroom::run::gpu::kernels::products::repack::{Bindings, Raw, Repack, launch, reference};
use half::f16;

use super::rig::{Bench, Rig};
use super::scatter;

/// One weight.
#[derive(Debug)]
pub struct Case {
    name: &'static str,
    repack: Repack,
}

const fn alone(outputs: u32, inputs: u32, taps: u32, geglu: bool, raw: Raw) -> Repack {
    Repack { outputs, inputs, taps, geglu, raw, first_column: 0, columns: outputs }
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
];

/// Few outputs, inputs and taps.
pub fn smallest() -> Vec<Case> {
    let mut cases = Vec::new();
    for outputs in [1, 2, 4, 5, 8] {
        for (inputs, taps) in [(1, 1), (3, 1), (1, 9), (4, 9)] {
            for raw in [Raw::F16, Raw::F32] {
                let repack = alone(outputs, inputs, taps, outputs == 8, raw);
                cases.push(Case { name: format!("{repack:?}").leak(), repack });
            }
        }
    }
    cases
}

/// Runs one case and panics with the first value that is wrong. Bits are copied, so they have to be equal; the values are
/// such that f32 is exact as well.
pub async fn check(rig: &mut Rig<'_>, case: &Case) {
    let Repack { outputs, inputs, taps, raw, first_column, .. } = case.repack;
    let values = scatter(1, (outputs * inputs * taps) as usize, 0.1);
    let mut halves: Vec<f16> = values.into_iter().map(f16::from_f32).collect();
    // A subnormal must arrive as it is.
    halves[0] = f16::from_bits(1);
    let mut bench = Bench::default();
    let source = match raw {
        Raw::F16 => bench.half_weight(&halves),
        Raw::F32 => {
            halves[0] = f16::ONE;
            bench.float_weight(&halves.iter().map(|half| half.to_f32()).collect::<Vec<_>>())
        }
    };
    let packed = bench.room_bytes(case.repack.packed_bytes() as usize);
    bench.launch(launch(&case.repack).expect(case.name), Bindings { raw: source, packed });
    let expected = reference(&case.repack, &halves);
    let results = rig.run(case.name, bench).await;
    let got = results.halves(packed, expected.len());
    let row_len = case.repack.columns.next_multiple_of(4) as usize;
    let own = first_column as usize..(first_column + outputs.next_multiple_of(4)) as usize;
    for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
        if own.contains(&(i % row_len)) {
            assert_eq!(got.to_bits(), expected.to_bits(), "{}: value {i} is {got}, expected {expected}", case.name);
        } else {
            assert!(got.is_nan(), "{}: value {i} belongs to another weight and was written", case.name);
        }
    }
}
