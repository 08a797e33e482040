//! Cases of the matrix product: linear layers and convolutions, every tile, every epilogue, whole and in parts.

use darkroom::graph::Activation;
use darkroom::run::gpu::Element;
use darkroom::run::gpu::kernel::{Machine, Multiply};
use darkroom::run::gpu::kernels::products::repack::{self, Raw, Repack};
use darkroom::run::gpu::kernels::products::{
    Bindings, Epilogue, Gemm, Operands, RowVector, Source, TILES, Tile, Work, gemm, reference, splitk_reduce,
};
use darkroom::weights::WeightType;
use darkroom::weights::blocks::Blocks;
use half::f16;

use super::rig::{Bench, Rig};
use super::{compare_with_slack, elements, scatter, stored_scatter};

/// One product.
#[derive(Debug)]
pub struct Case {
    name: &'static str,
    gemm: Gemm,
    /// The tile, or none for the default plan with its own splits.
    tile: Option<Tile>,
    splits: u32,
    /// Scales A.
    magnitude: f32,
}

const PLAIN: Epilogue =
    Epilogue { bias: false, time_embedding: None, activation: None, geglu: false, residual: false, relu_last: false };
const BIAS: Epilogue = Epilogue { bias: true, ..PLAIN };
const ALL: Epilogue = Epilogue {
    bias: true,
    time_embedding: Some(RowVector { stride: 72, offset: 16 }),
    activation: Some(Activation::Silu),
    residual: true,
    ..PLAIN
};

const fn rows(batch: u32, rows: u32, channels: u32) -> Source {
    Source {
        batch,
        in_size: [1, rows],
        channels: [channels, 0],
        out_size: [1, rows],
        kernel: 1,
        stride: 1,
        pad: [0, 0],
        upsample: None,
    }
}

const fn conv3x3(batch: u32, size: [u32; 2], channels: [u32; 2]) -> Source {
    Source { batch, in_size: size, channels, out_size: size, kernel: 3, stride: 1, pad: [1, 1], upsample: None }
}

const fn case(name: &'static str, source: Source, n: u32, epilogue: Epilogue) -> Case {
    Case { name, gemm: Gemm::new(source, n, epilogue), tile: None, splits: 1, magnitude: 1.0 }
}

const fn tiled(name: &'static str, source: Source, n: u32, epilogue: Epilogue, tile: usize, splits: u32) -> Case {
    Case { name, gemm: Gemm::new(source, n, epilogue), tile: Some(TILES[tile]), splits, magnitude: 1.0 }
}

const fn normed(name: &'static str, source: Source, n: u32, epilogue: Epilogue, tile: usize, splits: u32) -> Case {
    let case = tiled(name, source, n, epilogue, tile, splits);
    Case { gemm: Gemm { norm_eps: Some(1e-5), ..case.gemm }, ..case }
}

/// Rows 2 to 4 of a picture's convolution, from a tensor that begins with row 0.
const BAND: Source = Source {
    batch: 1,
    in_size: [5, 6],
    channels: [16, 0],
    out_size: [3, 6],
    kernel: 3,
    stride: 1,
    pad: [-1, 1],
    upsample: None,
};

/// All cases.
pub const CASES: &[Case] = &[
    case("one value", rows(1, 1, 1), 1, BIAS),
    case("one row of four", rows(1, 1, 4), 4, PLAIN),
    case("odd in everything", rows(1, 7, 5), 3, BIAS),
    case("a linear layer", rows(2, 33, 40), 52, BIAS),
    case("rows and columns beyond a tile", rows(1, 65, 36), 68, PLAIN),
    case("a long sum in parts by default", rows(2, 1, 1024), 24, BIAS),
    case("activation silu", rows(1, 20, 16), 16, Epilogue { activation: Some(Activation::Silu), ..BIAS }),
    case("activation gelu", rows(1, 20, 16), 16, Epilogue { activation: Some(Activation::Gelu), ..PLAIN }),
    case("activation quick_gelu", rows(1, 20, 16), 16, Epilogue { activation: Some(Activation::QuickGelu), ..BIAS }),
    case("residual", rows(2, 20, 16), 24, Epilogue { residual: true, ..BIAS }),
    case("activation relu", rows(1, 20, 16), 16, Epilogue { activation: Some(Activation::Relu), ..BIAS }),
    case("activation tanh", rows(1, 5, 16), 9, Epilogue { activation: Some(Activation::Tanh), ..PLAIN }),
    case("relu of a residual", rows(2, 20, 16), 24, Epilogue { residual: true, relu_last: true, ..BIAS }),
    case("relu of an odd residual", rows(1, 3, 5), 7, Epilogue { residual: true, relu_last: true, ..PLAIN }),
    case("geglu", rows(2, 19, 24), 48, Epilogue { geglu: true, ..BIAS }),
    case("geglu with residual, no bias", rows(1, 5, 12), 16, Epilogue { geglu: true, residual: true, ..PLAIN }),
    case("everything at once", conv3x3(2, [5, 6], [20, 0]), 36, ALL),
    case("everything at once, odd columns", conv3x3(2, [3, 4], [9, 0]), 7, ALL),
    case("conv 3x3 of 4 channels", conv3x3(2, [8, 8], [4, 0]), 32, BIAS),
    case("conv 3x3 of 9 channels", conv3x3(2, [5, 4], [9, 0]), 16, BIAS),
    case("conv 3x3 to 3 channels", conv3x3(1, [9, 7], [32, 0]), 3, BIAS),
    case("conv 3x3 to 4 channels", conv3x3(2, [9, 7], [24, 0]), 4, BIAS),
    case("conv 3x3 of one pixel", conv3x3(1, [1, 1], [8, 0]), 8, PLAIN),
    case("conv 3x3 of two sources", conv3x3(2, [6, 5], [20, 12]), 24, BIAS),
    case("conv 3x3 of two odd sources", conv3x3(1, [4, 3], [5, 3]), 8, BIAS),
    case("conv 1x1 of two sources", Source { channels: [16, 24], ..rows(2, 30, 0) }, 20, BIAS),
    case("conv 3x3, stride 2", Source { out_size: [4, 3], stride: 2, ..conv3x3(2, [8, 6], [20, 0]) }, 20, BIAS),
    case(
        "conv 3x3, stride 2, zeros below and right alone",
        Source { out_size: [4, 4], stride: 2, pad: [0, 0], ..conv3x3(1, [8, 8], [16, 0]) },
        16,
        BIAS,
    ),
    case(
        "conv 3x3 of doubled pixels",
        Source { out_size: [6, 10], upsample: Some([6, 10]), ..conv3x3(2, [3, 5], [20, 0]) },
        20,
        BIAS,
    ),
    case(
        "conv 3x3 of doubled pixels without the last row and column",
        Source { out_size: [5, 9], upsample: Some([5, 9]), ..conv3x3(2, [3, 5], [20, 0]) },
        20,
        BIAS,
    ),
    normed("rows normalised first", rows(2, 33, 40), 52, BIAS, 1, 1),
    normed("odd rows normalised first, no bias", rows(1, 7, 5), 3, PLAIN, 0, 1),
    normed("rows normalised first, tile 64x64", rows(1, 70, 72), 72, BIAS, 2, 1),
    normed("rows normalised first, tile 128x64", rows(1, 150, 24), 72, BIAS, 4, 1),
    normed("rows normalised first, in parts", rows(2, 9, 96), 24, BIAS, 1, 3),
    Case {
        gemm: Gemm { first_out_row: 12, ..Gemm::new(BAND, 20, Epilogue { residual: true, ..BIAS }) },
        ..case("a band of a picture", BAND, 20, BIAS)
    },
    Case {
        gemm: Gemm { first_out_row: 12, ..Gemm::new(BAND, 20, Epilogue { residual: true, ..BIAS }) },
        splits: 3,
        ..tiled("a band of a picture in parts", BAND, 20, BIAS, 1, 3)
    },
    tiled("tile 32x32", conv3x3(2, [7, 7], [40, 0]), 72, BIAS, 0, 1),
    tiled("tile 32x64", conv3x3(2, [7, 7], [40, 0]), 72, BIAS, 1, 1),
    tiled("tile 64x64", conv3x3(2, [7, 7], [40, 0]), 72, BIAS, 2, 1),
    tiled("tile 64x64 of 256 invocations", conv3x3(2, [7, 7], [40, 0]), 72, BIAS, 3, 1),
    tiled("tile 128x64", conv3x3(2, [7, 7], [40, 0]), 72, BIAS, 4, 1),
    tiled("tile 16x64", conv3x3(2, [7, 7], [40, 0]), 72, BIAS, 5, 1),
    tiled("tile 64x8", conv3x3(2, [7, 7], [40, 0]), 72, BIAS, 6, 1),
    tiled("tile 64x128 of 256 invocations", conv3x3(2, [7, 7], [40, 0]), 136, BIAS, 8, 1),
    tiled("tile 128x64 of 256 invocations", conv3x3(2, [9, 9], [40, 0]), 72, BIAS, 9, 1),
    normed("rows normalised first, tile 128x64/256", rows(1, 150, 24), 72, BIAS, 9, 1),
    tiled("geglu, tile 64x128/256", rows(1, 70, 20), 80, Epilogue { geglu: true, ..BIAS }, 8, 1),
    tiled("tile 4x128", conv3x3(2, [3, 3], [40, 0]), 136, BIAS, 7, 1),
    tiled("tile 4x128 in parts", rows(1, 3, 100), 136, BIAS, 7, 3),
    tiled("geglu, tile 4x128", rows(1, 4, 20), 80, Epilogue { geglu: true, ..BIAS }, 7, 1),
    normed("rows normalised first, tile 4x128", rows(1, 6, 72), 72, BIAS, 7, 1),
    tiled("geglu, tile 64x64", rows(1, 70, 20), 80, Epilogue { geglu: true, ..BIAS }, 2, 1),
    tiled("geglu, tile 128x64", rows(1, 70, 20), 80, Epilogue { geglu: true, ..BIAS }, 4, 1),
    tiled("two parts", rows(2, 30, 64), 40, BIAS, 0, 2),
    tiled("parts of different length, the last one empty", rows(1, 9, 100), 20, BIAS, 1, 5),
    tiled("parts of two sources and nine taps", conv3x3(2, [4, 4], [20, 36]), 36, ALL, 1, 7),
    tiled("parts with odd columns", conv3x3(1, [4, 4], [17, 0]), 7, ALL, 0, 4),
    tiled("parts with relu", rows(2, 9, 96), 48, Epilogue { residual: true, relu_last: true, ..BIAS }, 1, 3),
    tiled("parts with geglu", rows(2, 9, 96), 48, Epilogue { geglu: true, residual: true, ..BIAS }, 1, 3),
    Case {
        magnitude: 1e4,
        ..case("large magnitudes", rows(1, 16, 32), 16, Epilogue { activation: Some(Activation::Silu), ..BIAS })
    },
];

/// The smallest sizes there are, in all that can be done with them: one pixel, one row, one column, one to five rows of
/// one to two batch items, sums shorter than a step, single columns.
pub fn smallest() -> Vec<Case> {
    let short = Epilogue { time_embedding: Some(RowVector { stride: 24, offset: 4 }), ..ALL };
    let geglu = Epilogue { geglu: true, residual: true, ..BIAS };
    let mut cases = Vec::new();
    let mut add = |source, n, epilogue, norm_eps, splits| {
        let gemm = Gemm { norm_eps, ..Gemm::new(source, n, epilogue) };
        let name: &'static str = format!("{gemm:?} in {splits} parts").leak();
        // The default plan where the sum is whole, a flat tile where it is in parts.
        let tile = (splits > 1).then_some(TILES[5]);
        cases.push(Case { name, gemm, tile, splits, magnitude: 1.0 });
    };
    for batch in [1, 2] {
        for m in 1..=5 {
            add(rows(batch, m, 4), 12, short, None, 1);
            add(rows(batch, m, 12), 16, geglu, None, 1);
            add(rows(batch, m, 8), 12, BIAS, Some(1e-5), 1);
        }
        add(rows(batch, 1, 3), 1, short, None, 1);
        add(rows(batch, 3, 1), 5, short, None, 1);
        add(rows(batch, 2, 1), 1, PLAIN, Some(1e-5), 1);
        add(rows(batch, 1, 36), 12, short, None, 3);
        add(rows(batch, 2, 36), 16, geglu, None, 2);
        for size in [[1, 1], [1, 2], [2, 1], [1, 5], [5, 1]] {
            add(conv3x3(batch, size, [4, 8]), 12, short, None, 1);
            add(conv3x3(batch, size, [4, 8]), 12, short, None, 4);
            let half = size.map(|side: u32| side.div_ceil(2));
            add(Source { out_size: half, stride: 2, ..conv3x3(batch, size, [8, 0]) }, 12, BIAS, None, 1);
            // Back to what it was, odd sides included.
            add(Source { in_size: half, upsample: Some(size), ..conv3x3(batch, size, [8, 0]) }, 12, BIAS, None, 1);
        }
    }
    cases
}

/// What only cooperative matrices do in another way, for each of their tiles that an adapter has: sizes around those of the
/// tiles, steps cut short, two sources, every epilogue, parts.
pub fn of_matrices(machine: &Machine) -> Vec<Case> {
    let time = RowVector { stride: 208, offset: 8 };
    let every = Epilogue { time_embedding: Some(time), ..ALL };
    let geglu = Epilogue { geglu: true, residual: true, ..BIAS };
    let up = Source { out_size: [9, 13], upsample: Some([9, 13]), ..conv3x3(1, [5, 7], [40, 0]) };
    let down = Source { out_size: [5, 4], stride: 2, ..conv3x3(2, [9, 7], [24, 0]) };
    let band = Gemm { first_out_row: 12, ..Gemm::new(BAND, 24, Epilogue { residual: true, ..BIAS }) };
    let mut cases = Vec::new();
    for &tile in TILES.iter().filter(|tile| tile.is_of_matrices()) {
        let mut add = |gemm: Gemm, splits| {
            if gemm.allows(tile, splits, machine) {
                let name: &'static str = format!("{}: {gemm:?} in {splits} parts", tile.name).leak();
                cases.push(Case { name, gemm, tile: Some(tile), splits, magnitude: 1.0 });
            }
        };
        add(Gemm::new(rows(1, 1, 8), 8, PLAIN), 1);
        add(Gemm::new(rows(1, 1, 8), 16, geglu), 1);
        add(Gemm::new(rows(2, 17, 40), 200, every), 1);
        add(Gemm::new(rows(2, 70, 72), 136, geglu), 1);
        add(Gemm::new(rows(1, 128, 64), 128, BIAS), 1);
        add(Gemm::new(rows(1, 129, 160), 136, Epilogue { activation: Some(Activation::Gelu), ..BIAS }), 3);
        add(Gemm::new(conv3x3(2, [7, 5], [24, 40]), 72, every), 1);
        add(Gemm::new(conv3x3(2, [3, 3], [40, 24]), 72, every), 7);
        add(Gemm::new(Source { channels: [16, 24], ..rows(2, 30, 0) }, 24, BIAS), 1);
        add(Gemm::new(up, 40, Epilogue { residual: true, relu_last: true, ..BIAS }), 1);
        add(Gemm::new(down, 40, BIAS), 2);
        add(band, 1);
        add(band, 3);
    }
    cases
}

/// What tiles that multiply in f16 do in another way, for each of them: sizes around theirs, steps cut short, two sources, a
/// layer norm in front, parts.
pub fn in_halves(machine: &Machine) -> Vec<Case> {
    let mut cases = Vec::new();
    for (i, &tile) in TILES.iter().filter(|tile| tile.multiplies_in_f16()).enumerate() {
        let mut add = |gemm: Gemm, splits| {
            if gemm.allows(tile, splits, machine) {
                let name: &'static str = format!("{}: {gemm:?} in {splits} parts", tile.name).leak();
                cases.push(Case { name, gemm, tile: Some(tile), splits, magnitude: 1.0 });
            }
        };
        add(Gemm::new(rows(1, 64, 64), 128, PLAIN), 1);
        add(Gemm::new(conv3x3(2, [4, 4], [20, 36]), 36, ALL), 7);
        // What is the same for all tiles.
        if i == 0 {
            add(Gemm::new(rows(1, 1, 1), 1, BIAS), 1);
            add(Gemm::new(rows(1, 7, 5), 3, BIAS), 1);
            add(Gemm::new(rows(2, 33, 40), 72, BIAS), 1);
            add(Gemm::new(rows(1, 20, 24), 48, Epilogue { geglu: true, ..BIAS }), 1);
            add(Gemm { norm_eps: Some(1e-5), ..Gemm::new(rows(1, 70, 72), 72, BIAS) }, 1);
            add(Gemm::new(conv3x3(2, [5, 6], [20, 0]), 36, ALL), 1);
        }
    }
    cases
}

/// How far sums of a product may be off where products of values below 1 are rounded to f16, and so are sums of some.
fn slack_of_halves(product: &Gemm, tile: Tile) -> f32 {
    let Work::Invocations { multiply: Multiply::F16, added, .. } = tile.work else { return 0.0 };
    // Each of K roundings is off by at most 2⁻¹² of a sum of up to `added` products, whose mean square is a ninth; those of
    // normalised rows are a few times as large. Six standard deviations are never reached.
    let size = if product.norm_eps.is_some() { 4.0 } else { 1.0 };
    let slack = 6.0 * size / 4096.0 / 3.0 * (product.k() as f32 * added as f32 / 2.0).sqrt();
    // The value is multiplied by its gate, and the other way round.
    if product.epilogue.geglu { slack * (product.k() as f32).sqrt() } else { slack }
}

/// A few that cover every path, for where time is short.
pub fn short() -> impl Iterator<Item = &'static Case> {
    const NAMES: &[&str] = &[
        "odd in everything",
        "geglu",
        "everything at once",
        "conv 3x3 to 3 channels",
        "conv 3x3, stride 2",
        "conv 3x3 of doubled pixels",
        "parts of two sources and nine taps",
        "rows normalised first",
        "a band of a picture",
    ];
    CASES.iter().filter(|case| NAMES.contains(&case.name))
}

/// Runs one case, weights packed on the GPU, and panics with the first value that is wrong.
pub async fn check(rig: &mut Rig<'_>, case: &Case) {
    for &element in elements(rig.gpu) {
        check_with(rig, case, element, WeightType::F16).await;
    }
}

/// Runs one case with weights in every other type.
pub async fn check_weight_types(rig: &mut Rig<'_>, case: &Case) {
    for &element in elements(rig.gpu) {
        for weight in [WeightType::F32, WeightType::Q8_0, WeightType::Q4_0] {
            check_with(rig, case, element, weight).await;
        }
    }
}

/// What a weight \[O,I,taps\] is worth when it is held in a type.
fn held(weight: &[f32], [inputs, taps]: [usize; 2], weight_type: WeightType) -> Vec<f32> {
    if !weight_type.is_quantised() {
        return weight.to_vec();
    }
    let mut held = vec![0.0; weight.len()];
    let of_output = inputs * taps;
    for (weight, held) in weight.chunks_exact(of_output).zip(held.chunks_exact_mut(of_output)) {
        // A row of the packed matrix is a tap and an input.
        let at = |row: usize| row % inputs * taps + row / inputs;
        let rows: Vec<f32> = (0..of_output).map(|row| weight[at(row)]).collect();
        let values = Blocks::of(weight_type, &rows, of_output, false).values();
        values.into_iter().enumerate().for_each(|(row, value)| held[at(row)] = value);
    }
    held
}

/// The same for one type of activations and of weights.
pub async fn check_with(rig: &mut Rig<'_>, case: &Case, element: Element, weight_type: WeightType) {
    let product = &Gemm { weight: weight_type, ..case.gemm };
    let machine = rig.gpu.caps.machine(element);
    let Source { batch, in_size, channels, kernel, .. } = product.source;
    let in_pixels = (batch * in_size[0] * in_size[1]) as usize;
    let taps = kernel * kernel;
    let inputs = channels[0] + channels[1];
    let (m, n) = (product.m().expect(case.name) as usize, product.n as usize);
    let n_stored = product.n_stored() as usize;
    // A large sum has to stay inside f16.
    let magnitude = if element == Element::F16 { case.magnitude.min(1e3) } else { case.magnitude };
    let source_0 = stored_scatter(element, 1, in_pixels * channels[0] as usize, magnitude);
    let source_1 = stored_scatter(element, 2, in_pixels * channels[1] as usize, magnitude);
    let mut weight = scatter(3, (product.n * inputs * taps) as usize, 1.0);
    if weight_type != WeightType::F32 {
        weight.iter_mut().for_each(|value| *value = f16::from_f32(*value).to_f32());
    }
    // Biases, then the weight and bias of a layer norm.
    let n_biases = if product.epilogue.bias { n } else { 0 };
    let n_norm = if product.norm_eps.is_some() { 2 * inputs as usize } else { 0 };
    let bias = scatter(4, n_biases + n_norm, 1.0);
    let first_out = product.first_out_row as usize * n_stored;
    let vector = product.epilogue.time_embedding;
    let time_embedding = stored_scatter(element, 5, vector.map_or(0, |vector| (vector.stride * batch) as usize), 1.0);
    let residual = stored_scatter(element, 6, first_out + m * n_stored, 1.0);

    let alone = Repack::alone(product.n, inputs, taps, product.epilogue.geglu, Raw::F32);
    // Packing is checked by its own cases; here the packed weight has to be bound as a weight.
    let packed = repack::reference(&Repack { packed: weight_type, ..alone }, &weight);
    let packed: Vec<u32> = packed.into_iter().map(|word| word.expect("a column of this weight")).collect();
    let weight = held(&weight, [inputs as usize, taps as usize], weight_type);
    let (tile, splits) = match case.tile {
        Some(tile) => (tile, case.splits),
        None => product.default_plan(&machine).expect(case.name),
    };

    let mut bench = Bench::default();
    let a = bench.elements(element, &source_0);
    let b = (channels[1] > 0).then(|| bench.elements(element, &source_1));
    let w = bench.weight_words(&packed);
    let bias_operand = (!bias.is_empty()).then(|| bench.float_weight(&bias));
    let time_embedding_operand = vector.map(|_| bench.elements(element, &time_embedding));
    let residual_operand = product.epilogue.residual.then(|| bench.elements(element, &residual));
    let out = bench.room(element, first_out + m * n_stored);
    let launch = gemm::launch(product, &machine, tile, splits).expect(case.name);
    let whole = splits == 1;
    let n_bytes = product.partial_bytes(splits).expect(case.name) as usize;
    let partial_sums = (!whole).then(|| bench.room_bytes(n_bytes));
    let bindings = Bindings {
        source_0: a,
        source_1: b,
        weight: w,
        bias: bias_operand.filter(|_| whole || product.norm_eps.is_some()),
        time_embedding: time_embedding_operand.filter(|_| whole),
        residual: residual_operand.filter(|_| whole),
        out: Some(out).filter(|_| whole),
        partial_sums,
    };
    bench.launch(launch, bindings);
    if let Some(partial_sums) = partial_sums {
        let launch = splitk_reduce::launch(product, element, splits).expect(case.name);
        let (time_embedding, residual) = (time_embedding_operand, residual_operand);
        let bindings = splitk_reduce::Bindings { partial_sums, bias: bias_operand, time_embedding, residual, out };
        bench.launch(launch, bindings);
    }
    let operands = Operands {
        source_0: &source_0,
        source_1: &source_1,
        weight: &weight,
        bias: &bias,
        time_embedding: &time_embedding,
        residual: &residual[first_out..],
    };
    let expected = reference(product, operands);
    let results = rig.run(case.name, bench).await;
    let got = results.elements(element, out, first_out + m * n_stored);
    assert!(got[..first_out].iter().all(|x| x.is_nan()), "{}: rows before the first were written", case.name);
    let name = format!("{} with weights in {}", case.name, weight_type.name());
    compare_with_slack(&name, element, &got[first_out..], &expected, slack_of_halves(product, tile));
}
