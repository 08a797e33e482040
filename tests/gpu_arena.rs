//! The arena: the bytes that the published models are held to at their own sizes, and that pictures in bands, kept, packed or computed again, are those that are not cut.
#![cfg(not(target_arch = "wasm32"))]

#[path = "common/gpu.rs"]
mod gpu;
#[path = "common/places.rs"]
mod places;

use std::rc::Rc;

use darkroom::graph::Graph;
use darkroom::hub::folder::Folder;
use darkroom::hub::published::Published;
use darkroom::model::SDVersion;
use darkroom::model::unet::{UNetShape, step_graph};
use darkroom::model::vae::encoder_graph;
use darkroom::pipeline::{ModelLoader, Part};
use darkroom::run::Runner;
use darkroom::run::gpu::bands::BandSizes;
use darkroom::run::gpu::runner::GpuRunner;
use darkroom::run::gpu::{Caps, Element};
use gpu::{gpu, has_no_gpu};
use pollster::block_on;

/// The arena of a graph on what every adapter allows, its work as a part of the graph's own, and its dispatches.
fn planned(graph: &Graph, bands: BandSizes) -> (f64, f64, usize) {
    let runner = GpuRunner::planned(Caps::guaranteed(true), Element::F16).unwrap().with_bands(bands);
    let program = block_on(runner.prepare(graph.clone())).unwrap();
    let flops: u64 = program.program().dispatches.iter().map(|dispatch| dispatch.flops).sum();
    let n_bytes: u64 = program.program().arena_bytes.iter().sum();
    (n_bytes as f64 / 1e6, flops as f64 / graph.flops() as f64, program.program().dispatches.len())
}

/// Megabytes at true size: of a guided step, of the decoder and of the encoder.
#[test]
fn arenas_of_the_published_models_are_within_their_targets() {
    for (version, side, most) in [
        (SDVersion::V1_5, 512, [48.0, 170.0, 150.0]),
        (SDVersion::V2_1, 768, [107.0, 420.0, 350.0]),
        // In f32, because its VAE asks for it.
        (SDVersion::Xl, 1024, [190.0, 500.0, 420.0]),
        // In f16.
        (SDVersion::XlInpaint, 1024, [190.0, 500.0, 420.0]),
    ] {
        let runner = GpuRunner::planned(Caps::guaranteed(true), Element::F16).unwrap();
        let source = Published::new(version);
        let model = block_on(ModelLoader::new(&source, &runner).open()).unwrap();
        let configs = &model.configs;
        let latent = side / 8;
        let step = UNetShape { batch: 2, height: latent, width: latent, n_context: 77 };
        let graphs = [
            step_graph(&configs.unet, step).unwrap(),
            configs.decoder_graph(latent, latent).unwrap(),
            configs.vae_graph(encoder_graph(&configs.vae, 1, side, side).unwrap()),
        ];
        for (graph, most) in graphs.iter().zip(most) {
            let (n_bytes, work, n_dispatches) = planned(graph, BandSizes::DEFAULT);
            println!("{version:?} {}: {n_bytes:.1} MB, work x{work:.3}, {n_dispatches} dispatches", graph.name);
            assert!(n_bytes <= most, "{version:?}, {}: {n_bytes:.1} MB", graph.name);
            assert!(work <= 1.14, "{version:?}, {}: {work:.3} times the work", graph.name);
        }
    }
}

/// The embedded model's halves of the VAE, small and of odd sides, cut in many ways: whatever is kept, the same picture.
#[test]
fn cut_pictures_are_the_same() {
    if has_no_gpu() {
        return;
    }
    let folder = Folder::open(places::hub_dir().join("darkroom/tiny-emoji/resolve/main")).unwrap();
    let values = |n: usize| (0..n).map(|i| ((i * 7919 % 1009) as f32 / 504.5 - 1.0) * 1.5).collect::<Vec<_>>();
    // Compiling takes the longest, so that a runner draws all sizes.
    let runner = |bands: BandSizes| Rc::new(GpuRunner::new(gpu().unwrap(), Element::F32).unwrap().with_bands(bands));
    let run = |runner: &Rc<GpuRunner>, part: Part, [h, w]: [usize; 2]| {
        let model = block_on(ModelLoader::new(&folder, &**runner).open()).unwrap();
        let weights = block_on(model.part(runner, part, &mut |_| true)).unwrap();
        let (graph, name, shape) = match part {
            Part::VaeDecoder => (model.configs.decoder_graph(h, w).unwrap(), "latents", [1, h, w, 4]),
            _ => (encoder_graph(&model.configs.vae, 1, 8 * h, 8 * w).unwrap(), "image", [1, 8 * h, 8 * w, 3]),
        };
        let program = block_on(runner.prepare(graph)).unwrap();
        let input = runner.upload(&values(shape.iter().product()), &shape).unwrap();
        let out = block_on(runner.run(&program, &weights, &[(name, &input)], &mut |_| true)).unwrap().swap_remove(0);
        let flops = program.program().dispatches.iter().map(|dispatch| dispatch.flops).sum::<u64>();
        (block_on(runner.download(&out)).unwrap(), program.program().arena_bytes.iter().sum::<u64>(), flops)
    };
    let off_by = |got: &[f32], expected: &[f32]| {
        assert!(got.iter().all(|x| x.is_finite()));
        let most = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        most / expected.iter().fold(0f32, |most, x| most.max(x.abs()))
    };
    let whole = runner(BandSizes::WHOLE);
    // Bands of two rows for most sizes, and of several.
    for band_bytes in [10_000, 60_000] {
        let sizes = BandSizes { min_bytes: 2000, band_bytes, packed_bytes: u64::MAX, extra_work: 0, enough_bytes: 0 };
        let packing = BandSizes { packed_bytes: 2000, ..sizes };
        let runners = [sizes, packing].map(|sizes| [runner(sizes), runner(BandSizes { extra_work: 20_000, ..sizes })]);
        for part in [Part::VaeDecoder, Part::VaeEncoder] {
            for size @ [h, w] in [[1, 1], [2, 9], [5, 3]] {
                let (expected, _, whole_flops) = run(&whole, part, size);
                let [[kept, again], [packed, packed_again]] =
                    runners.each_ref().map(|pair| pair.each_ref().map(|runner| run(runner, part, size)));
                let of = format!("{part:?} of {h}x{w}, bands of {band_bytes}");
                let work = again.2 as f64 / kept.2 as f64;
                println!("{of}: {} bytes kept, {} again with {work:.2} times the work", kept.1, again.1);
                assert!(kept.2 <= whole_flops, "{of}: {} and {whole_flops}", kept.2);
                assert!(again.1 <= kept.1 + 2000, "{of}: {} and {}", again.1, kept.1);
                assert!(off_by(&kept.0, &expected) < 2e-5, "{of}");
                assert!(off_by(&packed.0, &kept.0) < 1e-3, "{of}");
                // Other parts of split sums at most.
                assert!(off_by(&again.0, &kept.0) < 2e-5, "{of}");
                assert!(off_by(&packed_again.0, &packed.0) < 3e-4, "{of}");
            }
        }
    }
}
