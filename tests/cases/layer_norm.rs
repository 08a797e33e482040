//! Cases of layer normalisation.

use darkroom::run::gpu::kernel::Machine;
use darkroom::run::gpu::kernels::layer_norm::{Bindings, launch, reference};

use super::rig::{Bench, Rig};
use super::{compare, elements, scatter, stored};

/// One normalisation.
#[derive(Debug)]
pub struct Case {
    name: &'static str,
    rows: u32,
    columns: u32,
    /// The values are between `centre - spread` and `centre + spread`.
    centre: f32,
    spread: f32,
}

const fn case(name: &'static str, rows: u32, columns: u32) -> Case {
    Case { name, rows, columns, centre: 0.0, spread: 1.0 }
}

/// All cases.
pub const CASES: &[Case] = &[
    case("one value", 1, 1),
    case("short odd rows", 37, 5),
    case("rows of one cell", 3, 4),
    case("CLIP's width", 77, 768),
    case("SD 1.5's first level", 100, 320),
    case("wide rows", 3, 2048),
    case("wide odd rows", 3, 1283),
    Case { centre: 1000.0, spread: 0.5, ..case("a large mean", 10, 320) },
    Case { centre: 5.0, spread: 0.0, ..case("no variance", 10, 64) },
    Case { spread: 3e4, ..case("large magnitudes", 10, 64) },
    Case { spread: 1e-4, ..case("small magnitudes", 10, 64) },
];

/// One to five rows of a few columns.
pub fn smallest() -> Vec<Case> {
    let sizes = (1..=5).flat_map(|rows| [1, 2, 3, 4, 5, 8].map(|columns| (rows, columns)));
    sizes.map(|(rows, columns)| case(format!("{rows} rows of {columns}").leak(), rows, columns)).collect()
}

/// Runs one case and panics with the first value that is wrong.
pub async fn check(rig: &mut Rig<'_>, case: &Case) {
    for &element in elements(rig.gpu) {
        let (rows, columns) = (case.rows as usize, case.columns as usize);
        let scattered = scatter(1, rows * columns, case.spread);
        let x = stored(element, scattered.into_iter().map(|value| value + case.centre).collect());
        let (weight, bias) = (scatter(2, columns, 2.0), scatter(3, columns, 1.0));
        let expected = reference(&x, &weight, &bias, 1e-5);
        let machine = rig.gpu.caps.machine(element);
        // With subgroup operations where the adapter has them, and without.
        for machine in [machine, Machine { least_subgroup: None, ..machine }] {
            let mut bench = Bench::default();
            let operands = [
                bench.elements(element, &x),
                bench.float_weight(&weight),
                bench.float_weight(&bias),
                bench.room(element, x.len()),
            ];
            let bindings = Bindings { x: operands[0], weight: operands[1], bias: operands[2], out: operands[3] };
            bench.launch(launch(case.rows, case.columns, 1e-5, &machine).expect(case.name), bindings);
            let results = rig.run(case.name, bench).await;
            let got = results.elements(element, operands[3], x.len());
            compare(case.name, element, &got, &expected);
        }
    }
}
