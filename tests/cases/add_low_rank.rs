//! Cases of adding low-rank terms to rows of a weight.

use darkroom::run::gpu::Element;
use darkroom::run::gpu::kernels::products::add_low_rank::{AddLowRank, Bindings, COLUMNS, ROWS, launch, reference};
use darkroom::run::gpu::kernels::products::repack::{self, Raw, Repack};
use darkroom::weights::WeightType;
use half::f16;

use super::rig::{Bench, Rig};
use super::{compare, scatter};

/// Some rows and what is added to them.
#[derive(Debug)]
pub struct Case {
    name: &'static str,
    add: AddLowRank,
}

const fn case(name: &'static str, rows: u32, cols: u32, rank: u32, base: Raw) -> Case {
    Case { name, add: AddLowRank { rows, cols, rank, base } }
}

/// All cases.
pub const CASES: &[Case] = &[
    case("one value", 1, 1, 1, Raw::F16),
    case("odd in everything", 7, 45, 3, Raw::F16),
    case("odd in everything, f32", 13, 81, 5, Raw::F32),
    case("a linear layer", 64, 320, 32, Raw::F16),
    case("more columns than a workgroup has", 20, 1280, 8, Raw::F16),
    case("columns up to the last of a workgroup", 9, 512, 4, Raw::F32),
    case("one column more", 9, 257, 4, Raw::F16),
    case("a convolution of three by three", 36, 9 * 40, 33, Raw::F16),
    case("a high rank", 12, 96, 128, Raw::F32),
    case("more rank than anything else", 8, 4, 257, Raw::F16),
];

/// Few rows and columns, every remainder of both.
pub fn smallest() -> Vec<Case> {
    let mut cases = Vec::new();
    for rows in [1, 2, 4, 7, 8, 9] {
        for cols in [1, 2, 3, 4, 5] {
            for rank in [1, 3, 8] {
                for base in [Raw::F16, Raw::F32] {
                    let name = format!("{rows} rows of {cols}, rank {rank}, {base:?}").leak();
                    cases.push(case(name, rows, cols, rank, base));
                }
            }
        }
    }
    cases
}

/// The operands of a case: the rows before, and both factors, filled up with what must not be looked at.
fn operands(add: &AddLowRank) -> [Vec<f32>; 3] {
    let [rows, cols, rank] = [add.rows, add.cols, add.rank].map(|n| n as usize);
    let mut base = scatter(1, rows * cols, 0.1);
    if add.base == Raw::F16 {
        base.iter_mut().for_each(|value| *value = f16::from_f32(*value).to_f32());
    }
    let filled = |seed: u32, n: usize, multiple: usize| {
        let width = n.next_multiple_of(multiple);
        let mut values = scatter(seed, rank * width, 0.2);
        values.iter_mut().enumerate().filter(|(i, _)| i % width >= n).for_each(|(_, value)| *value = 1e30);
        values
    };
    [base, filled(2, rows, ROWS), filled(3, cols, COLUMNS)]
}

fn place_base(bench: &mut Bench, add: &AddLowRank, base: &[f32]) -> super::rig::Operand {
    match add.base {
        Raw::F32 | Raw::Q8_0 | Raw::Q4_0 => bench.floats(base),
        Raw::F16 => bench.elements(Element::F16, base),
    }
}

/// Runs one case and panics with the first sum that is wrong.
pub async fn check(rig: &mut Rig<'_>, case: &Case) {
    let [base, left, right] = operands(&case.add);
    let mut bench = Bench::default();
    let from = place_base(&mut bench, &case.add, &base);
    let (left_at, right_at) = (bench.floats(&left), bench.floats(&right));
    let sums = bench.room_bytes(base.len() * 4);
    let launch = launch(&case.add).expect(case.name);
    bench.launch(launch, Bindings { base: from, left: left_at, right: right_at, sums });
    let expected = reference(&case.add, &base, &left, &right);
    let results = rig.run(case.name, bench).await;
    compare(case.name, Element::F32, &results.floats(sums, expected.len()), &expected);
}

/// Runs one case and packs the sums in f16: no value is more than one step from the sum that is rounded once.
pub async fn check_packed(rig: &mut Rig<'_>, case: &Case) {
    let [base, left, right] = operands(&case.add);
    let repack = Repack { packed: WeightType::F16, ..Repack::alone(case.add.rows, case.add.cols, 1, false, Raw::F32) };
    let mut bench = Bench::default();
    let from = place_base(&mut bench, &case.add, &base);
    let (left_at, right_at) = (bench.floats(&left), bench.floats(&right));
    let sums = bench.room_bytes(base.len() * 4);
    let launch = launch(&case.add).expect(case.name);
    bench.launch(launch, Bindings { base: from, left: left_at, right: right_at, sums });
    let expected = reference(&case.add, &base, &left, &right);
    let got = rig.run(case.name, bench).await.floats(sums, expected.len());
    let mut bench = Bench::default();
    let raw = bench.float_weight(&got);
    let packed = bench.room_bytes(repack.packed_bytes() as usize);
    bench.launch(repack::launch(&repack).expect(case.name), repack::Bindings { raw, packed });
    let words = repack::reference(&repack, &expected);
    let got = rig.run(case.name, bench).await.words(packed, words.len());
    for (i, (got, expected)) in got.iter().zip(&words).enumerate() {
        let expected = expected.expect("the only weight");
        for half in [0, 16] {
            // Whole numbers in the order of the values that they stand for.
            let ordered = |word: u32| {
                let bits = i32::from((word >> half) as u16 as i16);
                if bits < 0 { i32::from(i16::MIN) - bits } else { bits }
            };
            let steps = (ordered(*got) - ordered(expected)).abs();
            assert!(steps <= 1, "{}: word {i} is {got:08x}, expected {expected:08x}", case.name);
        }
    }
}

/// What cannot be launched is refused.
pub fn check_refusals() {
    for (rows, cols, rank) in [(0, 4, 1), (4, 0, 1), (4, 4, 0), (1 << 17, 1 << 16, 1), (8, 1 << 20, 1 << 13)] {
        let refused = launch(&AddLowRank { rows, cols, rank, base: Raw::F32 });
        assert!(refused.is_err(), "{rows} rows of {cols}, rank {rank}");
    }
}
