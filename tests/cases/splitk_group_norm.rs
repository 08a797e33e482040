//! Cases of a group norm that adds the parts of the product in front of it.

use darkroom::run::gpu::Element;
use darkroom::run::gpu::kernels::group_norm::{GroupNorm, reference, splitk_group_norm};
use darkroom::run::gpu::kernels::products::{Epilogue, Gemm, Operands, RowVector, Source};

use super::rig::{Bench, Rig};
use super::{compare, elements, scatter, stored, stored_scatter};

/// One norm behind one product.
#[derive(Debug)]
pub struct Case {
    name: &'static str,
    batch: u32,
    pixels: u32,
    channels: u32,
    groups: u32,
    splits: u32,
    epilogue: Epilogue,
    silu: bool,
}

const BIAS: Epilogue =
    Epilogue { bias: true, time_embedding: None, activation: None, geglu: false, residual: false, relu_last: false };

/// All cases.
pub const CASES: &[Case] = &[
    Case {
        name: "two parts and nothing else",
        batch: 1,
        pixels: 1,
        channels: 4,
        groups: 1,
        splits: 2,
        epilogue: Epilogue { bias: false, ..BIAS },
        silu: false,
    },
    Case {
        name: "the first norm of a residual block: a residual before, silu behind",
        batch: 2,
        pixels: 30,
        channels: 72,
        groups: 6,
        splits: 5,
        epilogue: Epilogue { residual: true, ..BIAS },
        silu: true,
    },
    Case {
        name: "the second norm of a residual block: the time embedding before",
        batch: 2,
        pixels: 64,
        channels: 256,
        groups: 32,
        splits: 9,
        epilogue: Epilogue { time_embedding: Some(RowVector { stride: 304, offset: 16 }), ..BIAS },
        silu: true,
    },
    Case {
        name: "groups that cells straddle, everything before",
        batch: 3,
        pixels: 17,
        channels: 40,
        groups: 4,
        splits: 3,
        epilogue: Epilogue { time_embedding: Some(RowVector { stride: 40, offset: 0 }), residual: true, ..BIAS },
        silu: false,
    },
];

/// One pixel and a few, one channel a group, with and without everything in between.
pub fn smallest() -> Vec<Case> {
    let all = Epilogue { time_embedding: Some(RowVector { stride: 24, offset: 4 }), residual: true, ..BIAS };
    let mut cases = Vec::new();
    for batch in [1, 2] {
        for pixels in [1, 2, 3, 5] {
            for (channels, groups) in [(4, 4), (8, 2), (12, 2), (12, 1)] {
                for epilogue in [BIAS, all] {
                    let name = format!("{batch}x{pixels}x{channels} in {groups} groups, {epilogue:?}").leak();
                    cases.push(Case { name, batch, pixels, channels, groups, splits: 2, epilogue, silu: pixels == 2 });
                }
            }
        }
    }
    cases
}

/// Runs one case and panics with the first value that is wrong.
pub async fn check(rig: &mut Rig<'_>, case: &Case) {
    for &element in elements(rig.gpu) {
        check_with(rig, case, element).await;
    }
}

async fn check_with(rig: &mut Rig<'_>, case: &Case, element: Element) {
    let &Case { name, batch, pixels, channels, groups, splits, epilogue, silu } = case;
    let norm = GroupNorm { batch, pixels, channels: [channels, 0], groups, eps: 1e-5 };
    // How long the sums were does not matter here: as long as so many parts ask for.
    let gemm = Gemm::new(Source::rows(batch, pixels, 16 * splits), channels, epilogue);
    let (width, n_values) = (channels as usize, (batch * pixels * channels) as usize);
    let parts = scatter(1, splits as usize * n_values, 1.0);
    let bias = scatter(2, if epilogue.bias { width } else { 0 }, 1.0);
    let vector = epilogue.time_embedding;
    let time_embedding = stored_scatter(element, 3, vector.map_or(0, |vector| (vector.stride * batch) as usize), 1.0);
    let residual = stored_scatter(element, 4, if epilogue.residual { n_values } else { 0 }, 1.0);
    let (weight, norm_bias) = (scatter(5, width, 2.0), scatter(6, width, 1.0));

    let operands = Operands {
        source_0: &[],
        source_1: &[],
        weight: &[],
        bias: &bias,
        time_embedding: &time_embedding,
        residual: &residual,
    };
    let product = splitk_group_norm::reference(&gemm, splits, &parts, operands);
    let product = stored(element, product);
    let expected = reference(&norm, &product, &weight, &norm_bias, silu);

    let mut bench = Bench::default();
    let partial = bench.floats(&parts);
    let b = (!bias.is_empty()).then(|| bench.float_weight(&bias));
    let t = vector.map(|_| bench.elements(element, &time_embedding));
    let r = (!residual.is_empty()).then(|| bench.elements(element, &residual));
    let sum = bench.room(element, n_values);
    let (w, n) = (bench.float_weight(&weight), bench.float_weight(&norm_bias));
    let out = bench.room(element, n_values);
    let launch = splitk_group_norm::launch(&gemm, splits, &norm, element, silu).expect(name);
    let bindings = splitk_group_norm::Bindings {
        partial_sums: partial,
        product_bias: b,
        time_embedding: t,
        residual: r,
        product: sum,
        weight: w,
        bias: n,
        out,
    };
    bench.launch(launch, bindings);
    let results = rig.run(name, bench).await;
    compare(name, element, &results.elements(element, sum, n_values), &product);
    compare(name, element, &results.elements(element, out, n_values), &expected);
}

/// What has to be done in two dispatches is refused.
pub fn check_refusals() {
    let norm = GroupNorm { batch: 1, pixels: 64, channels: [32, 0], groups: 8, eps: 1e-5 };
    let gemm = Gemm::new(Source::rows(1, 64, 256), 32, BIAS);
    let suits = |gemm: &Gemm, splits, norm: &GroupNorm| splitk_group_norm::suits(gemm, splits, norm).expect("sizes");
    assert!(suits(&gemm, 4, &norm));
    assert!(!suits(&gemm, 1, &norm), "nothing to add");
    assert!(!suits(&gemm, 4, &GroupNorm { channels: [32, 32], ..norm }), "half of the norm's input");
    assert!(!suits(&Gemm { first_out_row: 64, ..gemm }, 4, &norm), "a band");
    let gelu = Epilogue { activation: Some(darkroom::graph::Activation::Gelu), ..BIAS };
    assert!(!suits(&Gemm { epilogue: gelu, ..gemm }, 4, &norm), "an activation between");
    let geglu = Epilogue { geglu: true, ..BIAS };
    assert!(!suits(&Gemm { epilogue: geglu, ..gemm }, 4, &norm), "values and gates");
    let two = GroupNorm { batch: 2, pixels: 32, ..norm };
    assert!(!suits(&gemm, 4, &two), "other batch items, whose time embeddings would be mixed up");
    assert!(!suits(&gemm, 4, &GroupNorm { pixels: 32, ..norm }), "half of the product");
    let odd = GroupNorm { channels: [30, 0], groups: 5, ..norm };
    assert!(!suits(&Gemm { n: 30, ..gemm }, 4, &odd), "rows that are no multiple of four");
    let large = GroupNorm { pixels: 1 << 14, ..norm };
    let source = Source::rows(1, 1 << 14, 256);
    assert!(large.fits_one_dispatch().expect("sizes"));
    assert!(!suits(&Gemm { source, ..gemm }, 4, &large), "too much for one workgroup");
    assert!(splitk_group_norm::launch(&gemm, 1, &norm, Element::F32, true).is_err());
}
