//! Cases of the kernels that take one value or one cell at a time.

use darkroom::graph::Activation;
use darkroom::run::Colours;
use darkroom::run::gpu::Element;
use darkroom::run::gpu::kernels::elementwise::copy::Copy;
use darkroom::run::gpu::kernels::elementwise::{
    activation, add, affine, cast_from_f32, cast_to_f32, copy, count_non_finite, geglu, pack, rgba, round_packed,
    unpack,
};
use darkroom::run::gpu::kernels::sampling::blend;

use super::rig::{Bench, Rig};
use super::{compare, elements, stored, stored_scatter};

/// What is computed.
#[derive(Debug)]
enum What {
    Activation { activation: Activation, n_values: usize },
    Affine { factors: &'static [f64], offsets: &'static [f64], n_values: usize },
    Geglu { rows: u32, columns: u32 },
    Add { shape: [u32; 4], b_shape: [u32; 4] },
    Blend { pixels: u32, channels: u32 },
    CastFromF32 { n_values: usize },
    CastToF32 { n_values: usize },
    Copy { copy: Copy, from_len: usize, to_len: usize },
    CountNonFinite { n_values: usize, bad: &'static [(usize, f32)] },
    Rgba { pixels: u32, channels: u32, colours: Colours },
    Packed { n_values: usize, bad: &'static [(usize, f32)] },
}

/// One computation.
#[derive(Debug)]
pub struct Case {
    name: &'static str,
    what: What,
    /// Scales the values.
    magnitude: f32,
}

const fn case(name: &'static str, what: What) -> Case {
    Case { name, what, magnitude: 1.0 }
}

const LATENTS: Colours = Colours {
    weights: [[0.298, 0.187, -0.158, -0.184], [0.207, 0.286, 0.189, -0.271], [0.208, 0.173, 0.264, -0.473]],
    constant: [0.5, 0.45, 0.4],
};

/// All cases.
pub const CASES: &[Case] = &[
    case("silu of one value", What::Activation { activation: Activation::Silu, n_values: 1 }),
    Case { magnitude: 200.0, ..case("silu", What::Activation { activation: Activation::Silu, n_values: 1000 }) },
    Case { magnitude: 6.0, ..case("gelu", What::Activation { activation: Activation::Gelu, n_values: 1027 }) },
    Case {
        magnitude: 6.0,
        ..case("quick_gelu", What::Activation { activation: Activation::QuickGelu, n_values: 512 })
    },
    Case {
        magnitude: 6e4,
        ..case("gelu of large values", What::Activation { activation: Activation::Gelu, n_values: 64 })
    },
    Case {
        magnitude: 6e4,
        ..case("silu of large values", What::Activation { activation: Activation::Silu, n_values: 64 })
    },
    Case { magnitude: 4.0, ..case("relu", What::Activation { activation: Activation::Relu, n_values: 1001 }) },
    Case { magnitude: 3.0, ..case("tanh", What::Activation { activation: Activation::Tanh, n_values: 1001 }) },
    Case {
        magnitude: 6e4,
        ..case("tanh of large values", What::Activation { activation: Activation::Tanh, n_values: 64 })
    },
    case("affine", What::Affine { factors: &[2.0], offsets: &[-1.0], n_values: 1027 }),
    case("affine of one value", What::Affine { factors: &[0.5], offsets: &[0.5], n_values: 1 }),
    case(
        "affine by channel",
        What::Affine { factors: &[2.0, -0.5, 0.0, 9.0], offsets: &[-1.0, 0.25, 3.0, 0.0], n_values: 400 },
    ),
    Case { magnitude: 4.0, ..case("geglu", What::Geglu { rows: 7, columns: 48 }) },
    Case { magnitude: 4.0, ..case("geglu of odd rows", What::Geglu { rows: 5, columns: 7 }) },
    case("add one value", What::Add { shape: [1, 1, 1, 1], b_shape: [1, 1, 1, 1] }),
    case("add equal shapes", What::Add { shape: [2, 3, 5, 8], b_shape: [2, 3, 5, 8] }),
    case("add equal odd shapes", What::Add { shape: [1, 3, 5, 7], b_shape: [1, 3, 5, 7] }),
    case("add a row to each batch item", What::Add { shape: [2, 4, 5, 12], b_shape: [2, 1, 1, 12] }),
    case("add one table to all batch items", What::Add { shape: [3, 1, 7, 16], b_shape: [1, 1, 7, 16] }),
    case("add one channel to all", What::Add { shape: [2, 3, 4, 8], b_shape: [2, 3, 4, 1] }),
    case("add an odd row", What::Add { shape: [2, 3, 4, 5], b_shape: [1, 1, 1, 5] }),
    case("add one column, repeated in the middle", What::Add { shape: [2, 3, 4, 4], b_shape: [2, 1, 4, 4] }),
    case("blend latents", What::Blend { pixels: 77, channels: 4 }),
    case("blend one pixel", What::Blend { pixels: 1, channels: 1 }),
    case("cast from f32", What::CastFromF32 { n_values: 515 }),
    case("cast to f32", What::CastToF32 { n_values: 515 }),
    case(
        "join channels, first part",
        What::Copy {
            copy: Copy {
                size: [2, 3, 4, 8],
                from_offset: 0,
                from_strides: [96, 32, 8, 1],
                to_offset: 0,
                to_strides: [240, 80, 20, 1],
            },
            from_len: 192,
            to_len: 480,
        },
    ),
    case(
        "join channels, odd second part",
        What::Copy {
            copy: Copy {
                size: [2, 3, 4, 5],
                from_offset: 0,
                from_strides: [60, 20, 5, 1],
                to_offset: 4,
                to_strides: [108, 36, 9, 1],
            },
            from_len: 120,
            to_len: 216,
        },
    ),
    case(
        "slice rows",
        What::Copy {
            copy: Copy {
                size: [1, 1, 3, 8],
                from_offset: 16,
                from_strides: [80, 80, 8, 1],
                to_offset: 0,
                to_strides: [24, 24, 8, 1],
            },
            from_len: 80,
            to_len: 24,
        },
    ),
    case("packed", What::Packed { n_values: 4000, bad: &[] }),
    Case { magnitude: 1e30, ..case("packed large values", What::Packed { n_values: 400, bad: &[(5, f32::MAX)] }) },
    Case { magnitude: 1e-33, ..case("packed small values", What::Packed { n_values: 400, bad: &[(0, 1e-40)] }) },
    case(
        "packed bad values",
        What::Packed { n_values: 64, bad: &[(1, f32::NAN), (6, f32::INFINITY), (9, -0.0), (12, f32::NEG_INFINITY)] },
    ),
    case("no value is bad", What::CountNonFinite { n_values: 1000, bad: &[] }),
    case("one value, and it is bad", What::CountNonFinite { n_values: 1, bad: &[(0, f32::NAN)] }),
    case(
        "bad values in a long tensor",
        What::CountNonFinite {
            n_values: 300_001,
            bad: &[(0, f32::NAN), (3, f32::INFINITY), (70_000, f32::NEG_INFINITY), (300_000, f32::NAN)],
        },
    ),
    case(
        "bad values in cells",
        What::CountNonFinite {
            n_values: 400_000,
            bad: &[(1, f32::NAN), (2, f32::INFINITY), (399_999, f32::NEG_INFINITY)],
        },
    ),
    Case { magnitude: 1.5, ..case("a picture", What::Rgba { pixels: 300, channels: 3, colours: Colours::PICTURE }) },
    Case { magnitude: 3.0, ..case("a preview of latents", What::Rgba { pixels: 64, channels: 4, colours: LATENTS }) },
];

/// One value to a few, one row, one column, one channel.
pub fn smallest() -> Vec<Case> {
    let mut whats = Vec::new();
    for n_values in 1..=5 {
        for activation in [Activation::Silu, Activation::Gelu, Activation::QuickGelu] {
            whats.push(What::Activation { activation, n_values });
        }
        whats.extend([What::CastFromF32 { n_values }, What::CastToF32 { n_values }]);
        whats.push(What::CountNonFinite { n_values, bad: &[(0, f32::INFINITY)] });
        whats.push(What::Packed { n_values: 4 * n_values, bad: &[] });
        let n = n_values as u32;
        whats.extend([1, 4, 5].map(|columns| What::Geglu { rows: n, columns }));
        whats.extend([1, 4].map(|channels| What::Blend { pixels: n, channels }));
        whats.extend([3, 4].map(|channels| What::Rgba { pixels: n, channels, colours: LATENTS }));
    }
    for channels in [1, 4, 5, 8] {
        for batch in [1, 2] {
            for [height, width] in [[1, 1], [1, 2], [3, 1]] {
                let shape = [batch, height, width, channels];
                whats.push(What::Add { shape, b_shape: shape });
                whats.push(What::Add { shape, b_shape: [batch, 1, 1, channels] });
                whats.push(What::Add { shape, b_shape: [1, height, width, channels] });
                whats.push(What::Add { shape, b_shape: [batch, height, width, 1] });
                // One pixel or row behind another tensor's, along each axis.
                for axis in 0..4 {
                    let mut whole = shape;
                    whole[axis] += 3;
                    let len = |shape: [u32; 4]| shape.iter().product::<u32>() as usize;
                    let (from_len, to_len) = (len(shape), len(whole));
                    whats.push(What::Copy { copy: Copy::into_part(shape, whole, axis, 3), from_len, to_len });
                    let copy = Copy::slice(whole, axis, 3, shape[axis]);
                    whats.push(What::Copy { copy, from_len: to_len, to_len: from_len });
                }
            }
        }
    }
    whats.into_iter().map(|what| case(format!("{what:?}").leak(), what)).collect()
}

/// Runs one case and panics with the first value that is wrong.
pub async fn check(rig: &mut Rig<'_>, case: &Case) {
    for &element in elements(rig.gpu) {
        check_with(rig, case, element).await;
    }
}

async fn check_with(rig: &mut Rig<'_>, case: &Case, element: Element) {
    let name = case.name;
    let mut bench = Bench::default();
    let values = |seed, n_values| stored_scatter(element, seed, n_values, case.magnitude);
    match case.what {
        What::Activation { activation, n_values } => {
            let x = values(1, n_values);
            let operands = [bench.elements(element, &x), bench.room(element, n_values)];
            bench.launch(
                activation::launch(activation, n_values as u32, element).expect(name),
                activation::Bindings { x: operands[0], out: operands[1] },
            );
            let got = rig.run(name, bench).await.elements(element, operands[1], n_values);
            compare(name, element, &got, &activation::reference(activation, &x));
        }
        What::Affine { factors, offsets, n_values } => {
            let x = values(1, n_values);
            let operands = [bench.elements(element, &x), bench.room(element, n_values)];
            bench.launch(
                affine::launch(factors, offsets, n_values as u32, element).expect(name),
                affine::Bindings { x: operands[0], out: operands[1] },
            );
            let got = rig.run(name, bench).await.elements(element, operands[1], n_values);
            compare(name, element, &got, &affine::reference(factors, offsets, &x));
        }
        What::Geglu { rows, columns } => {
            let n_values = (rows * columns) as usize;
            let x = values(1, 2 * n_values);
            let operands = [bench.elements(element, &x), bench.room(element, n_values)];
            bench.launch(
                geglu::launch(rows, columns, element).expect(name),
                geglu::Bindings { x: operands[0], out: operands[1] },
            );
            let got = rig.run(name, bench).await.elements(element, operands[1], n_values);
            compare(name, element, &got, &geglu::reference(&x, columns as usize));
        }
        What::Add { shape, b_shape } => {
            let len = |shape: [u32; 4]| shape.iter().product::<u32>() as usize;
            let (a, b) = (values(1, len(shape)), values(2, len(b_shape)));
            let operands = [bench.elements(element, &a), bench.elements(element, &b), bench.room(element, a.len())];
            bench.launch(
                add::launch(shape, b_shape, element).expect(name),
                add::Bindings { a: operands[0], b: operands[1], out: operands[2] },
            );
            let got = rig.run(name, bench).await.elements(element, operands[2], a.len());
            compare(name, element, &got, &add::reference(&a, &b, shape, b_shape));
        }
        What::Blend { pixels, channels } => {
            let n_values = (pixels * channels) as usize;
            let mask: Vec<f32> = (0..pixels).map(|pixel| [0.0, 1.0, 0.25][pixel as usize % 3]).collect();
            let (a, b) = (values(1, n_values), values(2, n_values));
            let operands = [
                bench.elements(element, &mask),
                bench.elements(element, &a),
                bench.elements(element, &b),
                bench.room(element, n_values),
            ];
            bench.launch(
                blend::launch(pixels, channels, element).expect(name),
                blend::Bindings { mask: operands[0], a: operands[1], b: operands[2], out: operands[3] },
            );
            let got = rig.run(name, bench).await.elements(element, operands[3], n_values);
            let expected = blend::reference(&mask, &a, &b, channels as usize);
            for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
                let sure = mask[i / channels as usize] != 0.25;
                assert!(!sure || got == expected, "{name}: value {i} is {got}, expected exactly {expected}");
            }
            compare(name, element, &got, &expected);
        }
        What::CastFromF32 { n_values } => {
            let x = super::scatter(1, n_values, case.magnitude);
            let operands = [bench.floats(&x), bench.room(element, n_values)];
            bench.launch(
                cast_from_f32::launch(n_values as u32, element).expect(name),
                cast_from_f32::Bindings { x: operands[0], out: operands[1] },
            );
            let got = rig.run(name, bench).await.elements(element, operands[1], n_values);
            compare(name, element, &got, &cast_from_f32::reference(&x, element));
        }
        What::CastToF32 { n_values } => {
            let x = values(1, n_values);
            let operands = [bench.elements(element, &x), bench.room_bytes(4 * n_values)];
            bench.launch(
                cast_to_f32::launch(n_values as u32, element).expect(name),
                cast_to_f32::Bindings { x: operands[0], out: operands[1] },
            );
            let got = rig.run(name, bench).await.floats(operands[1], n_values);
            assert_eq!(got, cast_to_f32::reference(&x), "{name}, {element:?}");
        }
        What::Copy { copy, from_len, to_len } => {
            let from = values(1, from_len);
            let operands = [bench.elements(element, &from), bench.room(element, to_len)];
            bench.launch(
                copy::launch(&copy, element).expect(name),
                copy::Bindings { source: operands[0], out: operands[1] },
            );
            let got = rig.run(name, bench).await.elements(element, operands[1], to_len);
            // What is not part of the box stays untouched, which the rig makes NaN.
            let mut expected = vec![f32::NAN; to_len];
            copy::reference(&copy, &from, &mut expected);
            for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
                let same = got == expected || got.is_nan() && expected.is_nan();
                assert!(same, "{name}, {element:?}: value {i} is {got}, expected {expected}");
            }
        }
        What::CountNonFinite { n_values, bad } => {
            let mut x = values(1, n_values);
            for (i, value) in bad {
                x[*i] = *value;
            }
            let operands = [bench.elements(element, &x), bench.counter()];
            bench.launch(
                count_non_finite::launch(n_values as u32, element).expect(name),
                count_non_finite::Bindings { x: operands[0], total: operands[1] },
            );
            let got = rig.run(name, bench).await.words(operands[1], 1);
            assert_eq!(got, [count_non_finite::reference(&x)], "{name}, {element:?}");
        }
        What::Packed { n_values, bad } => {
            if element != Element::F32 {
                return;
            }
            // Fours of very different sizes.
            let mut x = values(1, n_values);
            x.iter_mut().enumerate().for_each(|(i, value)| *value *= 2f32.powi((i / 4 % 7) as i32 - 5));
            for (i, value) in bad {
                x[*i] = *value;
            }
            // At places within their tensors.
            let [source, packed] = [bench.floats(&x), bench.room_bytes(2 * n_values + 8)];
            let [unpacked, rounded] = [bench.room_bytes(4 * n_values + 16), bench.changed_floats(&x)];
            let n = n_values as u32;
            let launch = pack::launch(n, 0, 4).expect(name);
            bench.launch(launch, pack::Bindings { source, out: packed });
            let launch = unpack::launch(n, 4, 4).expect(name);
            bench.launch(launch, unpack::Bindings { source: packed, out: unpacked });
            let launch = round_packed::launch(n).expect(name);
            bench.launch(launch, round_packed::Bindings { values: rounded });
            let results = rig.run(name, bench).await;
            let got = results.floats(unpacked, n_values + 4).split_off(4);
            let again = results.floats(rounded, n_values);
            for (i, expected) in pack::reference(&x).into_iter().enumerate() {
                for got in [got[i], again[i]] {
                    let same = got == expected || got.is_nan() && expected.is_nan();
                    // What is smaller than the smallest normal number may be nothing on a device.
                    assert!(
                        same || expected.abs() < 2e-38 && got == 0.0,
                        "{name}: value {i} is {got}, expected {expected}"
                    );
                }
            }
        }
        What::Rgba { pixels, channels, colours } => {
            let mut x = values(1, (pixels * channels) as usize);
            // Ties and bounds are where roundings differ.
            let ends = stored(element, vec![1.0, -1.0, 0.0]);
            x[..3].copy_from_slice(&ends);
            let operands = [bench.elements(element, &x), bench.room_bytes(4 * pixels as usize)];
            bench.launch(
                rgba::launch([1, pixels], 1, channels, &colours, element).expect(name),
                rgba::Bindings { x: operands[0], out: operands[1] },
            );
            let got = rig.run(name, bench).await.words(operands[1], pixels as usize);
            for (i, (got, expected)) in got.iter().zip(rgba::reference(&x, channels as usize, &colours)).enumerate() {
                // A sum that is added in another order may fall on the other side of a half.
                let channels = got.to_le_bytes().into_iter().zip(expected.to_le_bytes());
                let close = channels.into_iter().all(|(got, expected)| got.abs_diff(expected) <= 1);
                assert!(close, "{name}, {element:?}: pixel {i} is {got:08x}, expected {expected:08x}");
            }
            let exact =
                got.iter().zip(rgba::reference(&x, channels as usize, &colours)).filter(|(a, b)| *a == b).count();
            assert!(
                exact * 100 >= got.len() * 95,
                "{name}, {element:?}: only {exact} of {} pixels are exact",
                got.len()
            );
        }
    }
}
