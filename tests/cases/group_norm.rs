//! Cases of group normalisation, both halves.

use darkroom::run::gpu::Element;
use darkroom::run::gpu::kernels::group_norm::{self, GroupNorm, group_norm_apply, group_norm_stats, reference};

use super::rig::{Bench, Rig};
use super::{compare_with_slack, elements, scatter, stored};

/// One normalisation.
#[derive(Debug)]
pub struct Case {
    name: &'static str,
    norm: GroupNorm,
    silu: bool,
    /// The values are between `centre - spread` and `centre + spread`.
    centre: f32,
    spread: f32,
}

const fn case(name: &'static str, batch: u32, pixels: u32, channels: [u32; 2], groups: u32) -> Case {
    Case { name, norm: GroupNorm { batch, pixels, channels, groups, eps: 1e-5 }, silu: false, centre: 0.0, spread: 1.0 }
}

/// All cases.
pub const CASES: &[Case] = &[
    case("one value", 1, 1, [1, 0], 1),
    case("one channel a group", 2, 9, [8, 0], 8),
    case("odd channels", 1, 15, [9, 0], 3),
    case("groups that cells straddle", 2, 16, [40, 0], 4),
    case("sizes of SD 1.5 at its second level", 2, 49, [640, 0], 32),
    case("two sources with a group across them", 2, 25, [24, 36], 5),
    case("two odd sources", 1, 10, [5, 7], 4),
    case("many chunks", 1, 2500, [32, 0], 8),
    case("several slabs", 1, 40, [1280, 0], 32),
    case("one wide group", 1, 6, [512, 0], 1),
    Case { silu: true, ..case("with silu", 2, 64, [48, 0], 4) },
    Case { centre: 1000.0, spread: 0.5, ..case("a large mean", 2, 900, [32, 0], 8) },
    Case { spread: 0.0, centre: 3.0, ..case("no variance", 1, 50, [16, 0], 4) },
    Case { spread: 1e4, silu: true, ..case("large magnitudes", 1, 50, [16, 0], 4) },
    Case { spread: 1e-4, ..case("small magnitudes", 1, 50, [16, 0], 4) },
];

/// One pixel, few pixels, one channel a group.
pub fn smallest() -> Vec<Case> {
    let mut cases = Vec::new();
    for batch in [1, 2] {
        for pixels in [1, 2, 3] {
            for (channels, groups) in
                [([8, 0], 8), ([4, 4], 8), ([4, 4], 2), ([6, 0], 2), ([1, 3], 4), ([3, 3], 2), ([64, 0], 1)]
            {
                let name = format!("{batch}x{pixels} pixels of {channels:?} channels in {groups} groups").leak();
                cases.push(Case { silu: pixels == 2, ..case(name, batch, pixels, channels, groups) });
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
    let norm = &case.norm;
    let [c0, c1] = norm.channels.map(|channels| channels as usize);
    let n_pixels = (norm.batch * norm.pixels) as usize;
    let values = |seed, n_values| -> Vec<f32> {
        let scattered = scatter(seed, n_values, case.spread);
        stored(element, scattered.into_iter().map(|value| value + case.centre).collect())
    };
    let (source_0, source_1) = (values(1, n_pixels * c0), values(2, n_pixels * c1));
    let weight = scatter(3, c0 + c1, 2.0);
    let bias = scatter(4, c0 + c1, 1.0);
    let mut joined = Vec::new();
    for pixel in 0..n_pixels {
        joined.extend_from_slice(&source_0[pixel * c0..][..c0]);
        joined.extend_from_slice(&source_1[pixel * c1..][..c1]);
    }

    let mut bench = Bench::default();
    let a = bench.elements(element, &source_0);
    let b = (c1 > 0).then(|| bench.elements(element, &source_1));
    let w = bench.float_weight(&weight);
    let bias_operand = bench.float_weight(&bias);
    let n_bytes = norm.partial_bytes().expect(case.name) as usize;
    let parts = bench.room_bytes(n_bytes);
    let out = bench.room(element, joined.len());
    let at_once = bench.room(element, joined.len());
    let whole = group_norm::Bindings { source_0: a, source_1: b, weight: w, bias: bias_operand, out: at_once };
    bench.launch(group_norm::launch(norm, element, case.silu).expect(case.name), whole);
    let stats = group_norm_stats::Bindings { source_0: a, source_1: b, partials: parts };
    bench.launch(group_norm_stats::launch(norm, element).expect(case.name), stats);
    let apply = group_norm_apply::launch(norm, element, case.silu).expect(case.name);
    let bindings =
        group_norm_apply::Bindings { source_0: a, source_1: b, partials: parts, weight: w, bias: bias_operand, out };
    bench.launch(apply, bindings);
    let results = rig.run(case.name, bench).await;
    check_parts(case, &results.floats(parts, n_bytes / 4), &joined);
    let expected = reference(norm, &joined, &weight, &bias, case.silu);
    // The mean is a f32, half a unit in the last place off at worst, which counts as much more as it is larger than the
    // deviation (that of an even scatter is spread / √3) from it; weights go to 2.
    let slack = case.centre.abs() * f32::EPSILON / 2.0 * 2.0 / (case.spread / 3f32.sqrt()).max(1e-2);
    compare_with_slack(case.name, element, &results.elements(element, out, joined.len()), &expected, slack);
    compare_with_slack(case.name, element, &results.elements(element, at_once, joined.len()), &expected, slack);
    if norm.batch == 1 && c1 == 0 && norm.pixels.is_multiple_of(5) {
        check_bands(rig, case, element, &joined, &weight, &bias, &expected, slack).await;
    }
}

/// The same picture in bands of rows, five parts of which the last band has two: measured band by band, and normalised in
/// pieces that straddle the bands into one tensor.
#[allow(clippy::too_many_arguments, reason = "the case's own values")]
async fn check_bands(
    rig: &mut Rig<'_>,
    case: &Case,
    element: Element,
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    expected: &[f32],
    slack: f32,
) {
    let channels = weight.len();
    let total_pixels = case.norm.pixels;
    let partial_pixels = total_pixels / 5;
    let of_pixels = |pixels| GroupNorm { pixels, ..case.norm };
    let band = |pixels_before, from_pixel, to_pixel| group_norm::Band {
        total_pixels,
        partial_pixels,
        pixels_before,
        from_pixel,
        to_pixel,
    };
    let split = 3 * partial_pixels;
    let mut bench = Bench::default();
    let (first, second) = x.split_at(split as usize * channels);
    let inputs = [bench.elements(element, first), bench.elements(element, second)];
    let parts = bench.room_bytes(case.norm.partial_bytes_of(&band(0, 0, 0)) as usize);
    let (w, b) = (bench.float_weight(weight), bench.float_weight(bias));
    let out = bench.room(element, x.len());
    let stats = |pixels, before| {
        group_norm_stats::launch_band(&of_pixels(pixels), &band(before, 0, 0), element).expect(case.name)
    };
    for (source_0, launch) in inputs.into_iter().zip([stats(split, 0), stats(total_pixels - split, split)]) {
        bench.launch(launch, group_norm_stats::Bindings { source_0, source_1: None, partials: parts });
    }
    // All but the first part of the first band, then the second band, then that first part.
    let pieces = [
        (inputs[0], split - partial_pixels, partial_pixels, partial_pixels),
        (inputs[1], total_pixels - split, 0, split),
        (inputs[0], partial_pixels, 0, 0),
    ];
    for (source_0, pixels, from_pixel, to_pixel) in pieces {
        let band = band(0, from_pixel, to_pixel);
        let launch = group_norm_apply::launch_band(&of_pixels(pixels), &band, element, case.silu).expect(case.name);
        let bindings =
            group_norm_apply::Bindings { source_0, source_1: None, partials: parts, weight: w, bias: b, out };
        bench.launch(launch, bindings);
    }
    let results = rig.run(case.name, bench).await;
    compare_with_slack(case.name, element, &results.elements(element, out, x.len()), expected, slack);
}

/// The statistics by themselves, so that an error is seen where it is made. Means may be off by a few units in the last
/// place, deviations by as much of the values' own squares: 1e-6 of either.
fn check_parts(case: &Case, got: &[f32], x: &[f32]) {
    let expected = group_norm_stats::reference(&case.norm, x).expect(case.name);
    let largest = x.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let group = x.len() as f32 / case.norm.batch as f32 / case.norm.groups as f32;
    for (i, (got, expected)) in got.chunks_exact(2).zip(expected.chunks_exact(2)).enumerate() {
        let allowed = 1e-6 * largest;
        assert!((got[0] - expected[0]).abs() <= allowed, "{}: mean {i} is {got:?}, expected {expected:?}", case.name);
        let allowed = 1e-5 * expected[1] + 1e-6 * group * case.spread * case.spread;
        assert!((got[1] - expected[1]).abs() <= allowed, "{}: part {i} is {got:?}, expected {expected:?}", case.name);
    }
}
