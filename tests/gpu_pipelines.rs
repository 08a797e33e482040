//! Every version and task on the WebGPU runner, natively, step by step against diffusers: the runs of tests/pipelines.rs.
#![cfg(not(target_arch = "wasm32"))]

#[path = "common/cases.rs"]
mod cases;
#[path = "common/gpu.rs"]
mod gpu;
#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/tiny.rs"]
mod tiny;

use std::collections::BTreeSet;
use std::rc::Rc;

use cases::{Case, Tolerance, cases_in};
use darkroom::hub::folder::Folder;
use darkroom::pipeline::ModelLoader;
use darkroom::run::gpu::Element;
use darkroom::run::gpu::runner::GpuRunner;
use darkroom::run::gpu::tiles::Tiles;

/// f32 activations and f16 weights, which the tiny models' values fit exactly.
const F32: Tolerance = Tolerance { latents: 1e-3, max_level: 2, mean_level: 0.3, min_psnr: 0.0 };
/// f16 activations: eleven bits, some hundred operations deep.
const F16: Tolerance = Tolerance { latents: 0.05, max_level: 255, mean_level: 3.0, min_psnr: 35.0 };

fn check(version: &str, element: Element, tolerance: Tolerance) {
    check_in("pipelines", version, element, tolerance);
}

fn check_in(fixtures: &str, version: &str, element: Element, tolerance: Tolerance) {
    check_with(fixtures, version, element, Tiles::default(), tolerance);
}

fn check_with(fixtures: &str, version: &str, element: Element, tiles: Tiles, tolerance: Tolerance) {
    let Some(gpu) = gpu::gpu_with_matrices() else { return };
    let is_software = gpu.caps.software;
    let dir = tempfile::tempdir().unwrap();
    tiny::write_model(version, dir.path(), tiny::Style::F16);
    let runner = Rc::new(GpuRunner::new(gpu, element).unwrap().with_tiles(tiles));
    let folder = Folder::open(dir.path()).unwrap();
    let model = Rc::new(pollster::block_on(ModelLoader::new(&folder, &*runner).load(&mut |_| true)).unwrap());
    // DARKROOM_LARGE=1 runs the large ones too, which take a software adapter minutes. All runs together do, too, so there it
    // runs where kernels have other sizes than before: samplers and prompts are the same numbers as on the processor. In f16, whose
    // kernels tests/gpu.rs and tests/gpu_sizes.rs take through all sizes, that is the first, and the odd sizes.
    let all = gpu::runs_all();
    let mut seen = BTreeSet::new();
    let is_wanted = |case: &Case| {
        let is_first = seen.is_empty();
        let is_other = seen.insert(case.sizes()) && (element == Element::F32 || fixtures == "any_size");
        all || (case.is_small() && (is_first || is_other || !is_software))
    };
    for case in cases_in(fixtures, version).into_iter().filter(is_wanted) {
        pollster::block_on(case.check(&runner, &model, tolerance));
    }
}

/// Sizes that are odd on some level of the UNet (tools/fixtures/any_size.py).
fn check_any_size(element: Element, tolerance: Tolerance) {
    let versions = ["v1-5-deep", "xl", "v1-5-inpaint", "v2-1", "xl-inpaint"];
    let n_versions = if element == Element::F32 || gpu::draws_all() { versions.len() } else { 2 };
    for version in &versions[..n_versions] {
        check_in("any_size", version, element, tolerance);
    }
}

mod single {
    use super::*;

    #[test]
    fn any_multiple_of_8() {
        check_any_size(Element::F32, F32);
    }

    #[test]
    fn v1_5() {
        check("v1-5", Element::F32, F32);
    }

    #[test]
    fn v1_5_inpaint() {
        check("v1-5-inpaint", Element::F32, F32);
    }

    #[test]
    fn v2_1() {
        check("v2-1", Element::F32, F32);
    }

    #[test]
    fn v2_inpaint() {
        check("v2-inpaint", Element::F32, F32);
    }

    #[test]
    fn xl() {
        check("xl", Element::F32, F32);
    }

    #[test]
    fn xl_inpaint() {
        check("xl-inpaint", Element::F32, F32);
    }

    #[test]
    fn turbo() {
        check("turbo", Element::F32, F32);
    }
}

mod half {
    use super::*;

    #[test]
    fn any_multiple_of_8() {
        check_any_size(Element::F16, F16);
    }

    #[test]
    fn v1_5() {
        check("v1-5", Element::F16, F16);
    }

    #[test]
    fn v1_5_inpaint() {
        check("v1-5-inpaint", Element::F16, F16);
    }

    #[test]
    fn v2_1() {
        check("v2-1", Element::F16, F16);
    }

    #[test]
    fn v2_inpaint() {
        check("v2-inpaint", Element::F16, F16);
    }

    #[test]
    fn xl() {
        check("xl", Element::F16, F16);
    }

    #[test]
    fn xl_inpaint() {
        check("xl-inpaint", Element::F16, F16);
    }

    #[test]
    fn turbo() {
        check("turbo", Element::F16, F16);
    }
}

/// Products and attentions that multiply in f16, as a measurement may choose them.
mod multiplied_in_half {
    use super::*;

    #[test]
    fn v1_5() {
        check_with("pipelines", "v1-5", Element::F16, Tiles::in_f16(), F16);
    }
}
