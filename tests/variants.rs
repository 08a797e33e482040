//! Models that are not among the seven versions but of their kind, on both runners, step by step against diffusers
//! (tools/fixtures/variants.py): UNets that distillation has thinned out, guidance as an input, statistics of latents,
//! the tiny autoencoder. And what cannot be drawn with is named as what it is.
#![cfg(not(target_arch = "wasm32"))]

#[path = "common/cases.rs"]
mod cases;
#[path = "common/gpu.rs"]
mod gpu;
#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/tiny.rs"]
mod tiny;

use std::rc::Rc;

use cases::{Tolerance, cases_of_variant};
use darkroom::hub::folder::Folder;
use darkroom::pipeline::ModelLoader;
use darkroom::run::Runner;
use darkroom::run::candle::{CandleRunner, Precision};
use darkroom::run::gpu::Element;
use darkroom::run::gpu::runner::GpuRunner;

/// Both sides sum in f32, in other orders.
const EXACT: Tolerance = Tolerance { latents: 5e-4, max_level: 2, mean_level: 0.3, min_psnr: 0.0 };
/// On the GPU erf and the like are approximations.
const GPU_F32: Tolerance = Tolerance { latents: 1e-3, ..EXACT };
/// f16 activations: eleven bits, some hundred operations deep.
const GPU_F16: Tolerance = Tolerance { latents: 0.05, max_level: 255, mean_level: 3.0, min_psnr: 33.0 };

fn check<R: Runner>(runner: R, variant: &str, style: tiny::Style, tolerance: Tolerance) {
    let dir = tempfile::tempdir().unwrap();
    tiny::write_model(variant, dir.path(), style);
    let folder = Folder::open(dir.path()).unwrap();
    let runner = Rc::new(runner);
    let model = Rc::new(pollster::block_on(ModelLoader::new(&folder, &*runner).load(&mut |_| true)).unwrap());
    for case in cases_of_variant(variant) {
        pollster::block_on(case.check(&runner, &model, tolerance));
    }
}

fn on_cpu(variant: &str) {
    check(CandleRunner::cpu(Precision::F32), variant, tiny::Style::F32, EXACT);
}

fn on_gpu(variant: &str) {
    // Odd widths, guidance as an input, and the tiny autoencoder stand for the rest.
    let in_f16 = gpu::draws_all() || ["uneven", "lcm", "taesd"].contains(&variant);
    let both = [(Element::F32, GPU_F32), (Element::F16, GPU_F16)];
    for (element, tolerance) in both.into_iter().take(if in_f16 { 2 } else { 1 }) {
        let Some(gpu) = gpu::gpu() else { return };
        check(GpuRunner::new(gpu, element).unwrap(), variant, tiny::Style::F16, tolerance);
    }
}

macro_rules! variants {
    ($($test:ident: $variant:literal,)*) => {
        mod cpu {
            $(#[test] fn $test() { super::on_cpu($variant); })*
        }
        mod gpu {
            $(#[test] fn $test() { super::on_gpu($variant); })*
        }
        #[test]
        fn every_variant_is_tested() {
            assert_eq!([$($variant),*], super::tiny::VARIANTS);
        }
    };
}

mod runs {
    use super::{on_cpu, on_gpu};

    variants! {
        tiny_sd: "tiny-sd",
        uneven: "uneven",
        ssd_1b: "ssd-1b",
        koala: "koala",
        nested: "nested",
        lcm: "lcm",
        lcm_xl: "lcm-xl",
        playground: "playground",
        statistics: "statistics",
        taesd: "taesd",
        taesd_inpaint: "taesd-inpaint",
        taesdxl: "taesdxl",
    }
}
