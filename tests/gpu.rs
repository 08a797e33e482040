//! The kernels on a real device, natively: Vulkan, Metal or DX12, where lavapipe counts as one.
#![cfg(not(target_arch = "wasm32"))]

mod cases;
#[path = "common/gpu.rs"]
mod gpu;

use cases::rig::Rig;
use darkroom::run::gpu::Element;
use darkroom::weights::WeightType;
use gpu::gpu_with_matrices as gpu;
use pollster::block_on;

#[test]
fn every_kernel_works_at_the_smallest_sizes() {
    let Some(gpu) = gpu() else { return };
    let mut rig = Rig::new(&gpu);
    cases::gemm::smallest().iter().for_each(|case| block_on(cases::gemm::check(&mut rig, case)));
    cases::gemm::smallest().iter().for_each(|case| block_on(cases::gemm::check_weight_types(&mut rig, case)));
    cases::group_norm::smallest().iter().for_each(|case| block_on(cases::group_norm::check(&mut rig, case)));
    let of_parts = cases::splitk_group_norm::smallest();
    of_parts.iter().for_each(|case| block_on(cases::splitk_group_norm::check(&mut rig, case)));
    cases::layer_norm::smallest().iter().for_each(|case| block_on(cases::layer_norm::check(&mut rig, case)));
    cases::attention::smallest().iter().for_each(|case| block_on(cases::attention::check(&mut rig, case)));
    cases::embedding::smallest().iter().for_each(|case| block_on(cases::embedding::check(&mut rig, case)));
    cases::repack::smallest().iter().for_each(|case| block_on(cases::repack::check(&mut rig, case)));
    cases::add_low_rank::smallest().iter().for_each(|case| block_on(cases::add_low_rank::check(&mut rig, case)));
    cases::lincomb::smallest().iter().for_each(|case| block_on(cases::lincomb::check(&gpu, case)));
    cases::elementwise::smallest().iter().for_each(|case| block_on(cases::elementwise::check(&mut rig, case)));
}

#[test]
fn caps_are_those_of_a_usable_device() {
    let Some(gpu) = gpu() else { return };
    eprintln!("{:?}", gpu.caps);
    assert!(!gpu.caps.name.is_empty());
    assert!(gpu.caps.max_binding_bytes >= 128 << 20, "WebGPU guarantees 128 MiB a binding");
    assert!(gpu.caps.max_buffer_bytes >= 256 << 20, "WebGPU guarantees 256 MiB a buffer");
    assert!(gpu.caps.max_storage_buffers >= 8, "WebGPU guarantees 8 storage buffers a kernel");
}

#[test]
fn lincomb_matches_its_reference() {
    let Some(gpu) = gpu() else { return };
    for case in cases::lincomb::CASES {
        block_on(cases::lincomb::check(&gpu, case));
    }
    block_on(cases::lincomb::check_nan(&gpu));
    block_on(cases::lincomb::check_refusals(&gpu));
}

#[test]
fn repack_matches_its_reference() {
    let Some(gpu) = gpu() else { return };
    let mut rig = Rig::new(&gpu);
    cases::repack::CASES.iter().for_each(|case| block_on(cases::repack::check(&mut rig, case)));
}

#[test]
fn low_rank_terms_match_their_reference() {
    cases::add_low_rank::check_refusals();
    let Some(gpu) = gpu() else { return };
    let mut rig = Rig::new(&gpu);
    for case in cases::add_low_rank::CASES {
        block_on(cases::add_low_rank::check(&mut rig, case));
        block_on(cases::add_low_rank::check_packed(&mut rig, case));
    }
}

#[test]
fn gemm_matches_its_reference() {
    let Some(gpu) = gpu() else { return };
    let mut rig = Rig::new(&gpu);
    cases::gemm::CASES.iter().for_each(|case| block_on(cases::gemm::check(&mut rig, case)));
}

#[test]
fn gemm_of_cooperative_matrices_matches_its_reference() {
    let Some(gpu) = gpu() else { return };
    let cases = cases::gemm::of_matrices(&gpu.caps.machine(Element::F16));
    assert!(!gpu.caps.wrong_matrices, "the matrices of {} give wrong results", gpu.caps.name);
    assert_eq!(cases.is_empty(), gpu.caps.matrices.is_none());
    if cases.is_empty() {
        eprintln!("skipped, because {} has no cooperative matrices", gpu.caps.name);
    }
    let mut rig = Rig::new(&gpu);
    for weight in [WeightType::F16, WeightType::F32, WeightType::Q8_0, WeightType::Q4_0] {
        cases.iter().for_each(|case| block_on(cases::gemm::check_with(&mut rig, case, Element::F16, weight)));
    }
}

#[test]
fn gemm_in_f16_matches_its_reference() {
    let Some(gpu) = gpu() else { return };
    let cases = cases::gemm::in_halves(&gpu.caps.machine(Element::F16));
    if !gpu.caps.shader_f16 {
        eprintln!("skipped, because {} has no f16", gpu.caps.name);
        return;
    }
    let mut rig = Rig::new(&gpu);
    cases.iter().for_each(|case| block_on(cases::gemm::check_with(&mut rig, case, Element::F16, WeightType::F16)));
    for weight in [WeightType::Q8_0, WeightType::Q4_0] {
        let short = cases.iter().take(2);
        short.for_each(|case| block_on(cases::gemm::check_with(&mut rig, case, Element::F16, weight)));
    }
}

#[test]
fn gemm_of_weights_in_every_type_matches_its_reference() {
    let Some(gpu) = gpu() else { return };
    let mut rig = Rig::new(&gpu);
    cases::gemm::short().for_each(|case| block_on(cases::gemm::check_weight_types(&mut rig, case)));
}

#[test]
fn group_norm_matches_its_reference() {
    let Some(gpu) = gpu() else { return };
    let mut rig = Rig::new(&gpu);
    cases::group_norm::CASES.iter().for_each(|case| block_on(cases::group_norm::check(&mut rig, case)));
}

#[test]
fn group_norm_of_parts_matches_its_reference() {
    cases::splitk_group_norm::check_refusals();
    let Some(gpu) = gpu() else { return };
    let mut rig = Rig::new(&gpu);
    cases::splitk_group_norm::CASES.iter().for_each(|case| block_on(cases::splitk_group_norm::check(&mut rig, case)));
}

#[test]
fn layer_norm_matches_its_reference() {
    let Some(gpu) = gpu() else { return };
    let mut rig = Rig::new(&gpu);
    cases::layer_norm::CASES.iter().for_each(|case| block_on(cases::layer_norm::check(&mut rig, case)));
}

#[test]
fn attention_matches_its_reference() {
    let Some(gpu) = gpu() else { return };
    let mut rig = Rig::new(&gpu);
    cases::attention::CASES.iter().for_each(|case| block_on(cases::attention::check(&mut rig, case)));
}

#[test]
fn elementwise_kernels_match_their_references() {
    let Some(gpu) = gpu() else { return };
    let mut rig = Rig::new(&gpu);
    cases::elementwise::CASES.iter().for_each(|case| block_on(cases::elementwise::check(&mut rig, case)));
}

#[test]
fn embeddings_match_their_references() {
    let Some(gpu) = gpu() else { return };
    let mut rig = Rig::new(&gpu);
    cases::embedding::CASES.iter().for_each(|case| block_on(cases::embedding::check(&mut rig, case)));
}
