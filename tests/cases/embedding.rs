//! Cases of rows by number and of embedded time steps.

use super::rig::{Bench, Rig};
use super::{compare_with_slack, elements, stored_scatter};
use darkroom::run::gpu::kernels::elementwise::{gather, timestep_embedding};

/// What is computed.
#[derive(Debug)]
enum What {
    /// Rows of activations.
    Gather {
        ids: &'static [u32],
        rows: u32,
        columns: u32,
    },
    Timesteps {
        t: &'static [f32],
        dim: u32,
        flip_sin_to_cos: bool,
        freq_shift: f64,
    },
}

/// One computation.
#[derive(Debug)]
pub struct Case {
    name: &'static str,
    what: What,
}

/// All cases.
pub const CASES: &[Case] = &[
    Case { name: "one row of one value", what: What::Gather { ids: &[0], rows: 1, columns: 1 } },
    Case { name: "rows in any order", what: What::Gather { ids: &[3, 0, 48, 3, 17], rows: 49, columns: 96 } },
    Case { name: "odd rows", what: What::Gather { ids: &[1, 2, 6], rows: 7, columns: 5 } },
    Case { name: "a number beyond the rows", what: What::Gather { ids: &[9], rows: 7, columns: 8 } },
    Case { name: "states", what: What::Gather { ids: &[12, 100], rows: 154, columns: 64 } },
    Case { name: "odd states", what: What::Gather { ids: &[2, 0, 2], rows: 3, columns: 9 } },
    Case {
        name: "time steps of SD 1.5",
        what: What::Timesteps { t: &[999.0, 951.0, 500.5, 1.0, 0.0], dim: 320, flip_sin_to_cos: true, freq_shift: 0.0 },
    },
    Case {
        name: "sines first, frequencies shifted",
        what: What::Timesteps { t: &[981.0], dim: 64, flip_sin_to_cos: false, freq_shift: 1.0 },
    },
    Case {
        name: "sizes of SDXL",
        what: What::Timesteps { t: &[1024.0, 2048.0, 0.0], dim: 256, flip_sin_to_cos: true, freq_shift: 0.0 },
    },
    Case { name: "one pair", what: What::Timesteps { t: &[7.0], dim: 2, flip_sin_to_cos: true, freq_shift: 0.0 } },
];

/// One token or time step to five, of one column to eight.
pub fn smallest() -> Vec<Case> {
    const IDS: &[u32] = &[0, 2, 1, 0, 2];
    const T: &[f32] = &[999.0, 0.0, 1.0, 37.5, 500.0];
    let mut whats = Vec::new();
    for n in 1..=5 {
        for columns in [1, 3, 4, 8] {
            whats.push(What::Gather { ids: &IDS[..n], rows: 3, columns });
        }
        whats.extend([2, 4, 6].map(|dim| What::Timesteps { t: &T[..n], dim, flip_sin_to_cos: n > 2, freq_shift: 0.0 }));
    }
    whats.into_iter().map(|what| Case { name: format!("{what:?}").leak(), what }).collect()
}

/// An angle of a thousand is known to 6e-5 in f32, and the frequency to 1.2e-7 of itself, so its sine may be off by that
/// much.
const ANGLE_SLACK: f32 = 2.5e-4;

/// Runs one case and panics with the first value that is wrong.
pub async fn check(rig: &mut Rig<'_>, case: &Case) {
    let name = case.name;
    for &element in elements(rig.gpu) {
        let mut bench = Bench::default();
        match case.what {
            What::Gather { ids, rows, columns } => {
                let table = stored_scatter(element, 1, (rows * columns) as usize, 1.0);
                let n_values = ids.len() * columns as usize;
                let operands = [bench.words(ids), bench.elements(element, &table), bench.room(element, n_values)];
                let launch = gather::launch(ids.len() as u32, rows, columns, element).expect(name);
                bench.launch(launch, gather::Bindings { ids: operands[0], x: operands[1], out: operands[2] });
                let got = rig.run(name, bench).await.elements(element, operands[2], n_values);
                assert_eq!(got, gather::reference(ids, &table, columns as usize), "{name}, {element:?}");
            }
            What::Timesteps { t, dim, flip_sin_to_cos, freq_shift } => {
                let n_values = t.len() * dim as usize;
                let operands = [bench.floats(t), bench.room(element, n_values)];
                let launch = timestep_embedding::launch(t.len() as u32, dim, flip_sin_to_cos, freq_shift, element);
                bench.launch(launch.expect(name), timestep_embedding::Bindings { t: operands[0], out: operands[1] });
                let got = rig.run(name, bench).await.elements(element, operands[1], n_values);
                let expected = timestep_embedding::reference(t, dim as usize, flip_sin_to_cos, freq_shift);
                compare_with_slack(name, element, &got, &expected, ANGLE_SLACK);
            }
        }
    }
}
