//! The same crate inside a real browser, in a worker as on the page: what it tells about the GPU, and the kernels on it.
//! `wasm-pack test --headless --chrome` runs this; natively the file is empty.
#![cfg(target_arch = "wasm32")]

mod cases;

use darkroom::run::gpu::Element;
use darkroom::run::gpu::Gpu;
use darkroom::run::gpu::kernels::products::{Epilogue, Gemm, Source};
use darkroom::run::gpu::runner::GpuRunner;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

/// Opens the GPU, or gives nothing where the tests were told, when they were compiled, that there is none.
async fn gpu() -> Option<Gpu> {
    if option_env!("DARKROOM_NO_GPU") == Some("1") {
        return None;
    }
    Some(Gpu::open().await.expect("the browser gives no WebGPU adapter; DARKROOM_NO_GPU=1 skips these tests"))
}

#[wasm_bindgen_test]
async fn check_names_the_adapter_and_its_limits() {
    let Some(_) = gpu().await else { return };
    let caps = darkroom::web::check().await.expect("check");
    let field = |name: &str| js_sys::Reflect::get(&caps, &name.into()).expect(name);
    assert!(!field("name").as_string().expect("a name").is_empty());
    assert_eq!(field("backend").as_string().as_deref(), Some("webgpu"));
    assert!(field("max_binding_bytes").as_f64().expect("a number") >= 134_217_728.0);
    assert!(field("shader_f16").as_bool().is_some());
}

#[wasm_bindgen_test]
async fn lincomb_matches_its_reference() {
    let Some(gpu) = gpu().await else { return };
    for case in cases::lincomb::CASES {
        cases::lincomb::check(&gpu, case).await;
    }
    cases::lincomb::check_nan(&gpu).await;
    cases::lincomb::check_refusals(&gpu).await;
}

#[wasm_bindgen_test]
async fn every_kernel_matches_its_reference() {
    let Some(gpu) = gpu().await else { return };
    cases::check_short(&gpu).await;
}

/// With the browser's clock and its event loop between the runs.
#[wasm_bindgen_test]
async fn tiles_are_measured() {
    let Some(gpu) = gpu().await else { return };
    let runner = GpuRunner::new(gpu, Element::F32).expect("the runner starts");
    let gemm = Gemm::new(Source::rows(1, 64, 64), 64, Epilogue::default());
    runner.tune(&[gemm], Element::F32).await.expect("the tiles are measured");
    assert_eq!(runner.tiles().len(), 1);
    let measured = runner.measured();
    assert!(measured.len() >= 6 && measured.iter().all(|m| m.secs.is_finite() && m.gflops > 0.0), "{measured:?}");
}
