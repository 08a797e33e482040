//! What a GPU can do: the numbers that decide which kernels run and whether a model fits.
//!
//! Facts only, as the adapter reports them. Nothing here measures speed or guesses from a name.

use serde::Serialize;

use super::kernel::{Element, Machine, Matrices};

/// Name, limits and optional features of an adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Caps {
    /// The adapter's own name, such as `llvmpipe (LLVM 15.0.6, 256 bits)`. Browsers may leave it empty to make
    /// fingerprinting harder; see `web::check` for what is shown then.
    pub name: String,
    /// The interface below wgpu: `vulkan`, `metal`, `dx12` or, in a page, `webgpu`.
    pub backend: String,
    /// Whether this is a software adapter (SwiftShader, lavapipe, WARP): correct, but very slow.
    pub software: bool,
    /// Whether WGSL may use `f16`.
    pub shader_f16: bool,
    /// The cooperative matrices that kernels can multiply with: f16 factors, f32 sums, in subgroups of one size.
    #[cfg_attr(test, ts(skip))]
    pub matrices: Option<Matrices>,
    /// Whether the adapter has such matrices, but gave wrong results with them when the device was opened: then they are not
    /// used.
    #[cfg_attr(test, ts(skip))]
    pub wrong_matrices: bool,
    /// Invocations that a subgroup has at least, where they can tell each other numbers and did so in a trial when the device
    /// was opened.
    pub least_subgroup: Option<u32>,
    /// Whether kernels can be timed on the GPU's own clock.
    pub timestamp_query: bool,
    /// The largest buffer in bytes.
    pub max_buffer_bytes: u64,
    /// The largest part of a buffer that one binding of a kernel can see, in bytes. A weight above it must be split.
    pub max_binding_bytes: u64,
    /// How many storage buffers one kernel can bind.
    pub max_storage_buffers: u32,
    /// Workgroup memory of one workgroup in bytes.
    pub max_workgroup_bytes: u32,
    /// Invocations in one workgroup.
    pub max_workgroup_invocations: u32,
    /// Workgroups along one dimension of a dispatch.
    pub max_workgroups_per_dimension: u32,
}

impl Caps {
    /// The optional features that kernels use where they exist. All others stay off, so that nothing depends on them by
    /// accident.
    pub(super) const USEFUL_FEATURES: wgpu::Features =
        wgpu::Features::SHADER_F16.union(wgpu::Features::TIMESTAMP_QUERY).union(wgpu::Features::SUBGROUP);

    /// What cooperative matrices need beside them.
    pub(super) const MATRIX_FEATURES: wgpu::Features = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
        .union(wgpu::Features::SUBGROUP)
        .union(wgpu::Features::SUBGROUP_BARRIER);

    /// What WebGPU guarantees on every adapter, with `shader-f16` or without.
    #[must_use]
    pub fn guaranteed(shader_f16: bool) -> Self {
        let limits = wgpu::Limits::default();
        Self {
            name: "any adapter".into(),
            backend: "webgpu".into(),
            software: false,
            shader_f16,
            matrices: None,
            wrong_matrices: false,
            least_subgroup: None,
            timestamp_query: false,
            max_buffer_bytes: limits.max_buffer_size,
            max_binding_bytes: limits.max_storage_buffer_binding_size,
            max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
            max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
            max_workgroup_invocations: limits.max_compute_invocations_per_workgroup,
            max_workgroups_per_dimension: limits.max_compute_workgroups_per_dimension,
        }
    }

    /// The type of values where nobody says otherwise: 16 bits where kernels can use them.
    #[must_use]
    pub fn best_element(&self) -> Element {
        if self.shader_f16 { Element::F16 } else { Element::F32 }
    }

    /// What decides which kernels multiply, for activations of a type.
    #[must_use]
    pub fn machine(&self, element: Element) -> Machine {
        Machine {
            element,
            matrices: self.matrices,
            least_subgroup: self.least_subgroup,
            workgroup_bytes: self.max_workgroup_bytes,
        }
    }

    /// Reads what `adapter` reports.
    #[must_use]
    pub(super) fn of(adapter: &wgpu::Adapter) -> Self {
        let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
        Self {
            name: info.name,
            backend: backend_name(info.backend).into(),
            software: info.device_type == wgpu::DeviceType::Cpu,
            shader_f16: features.contains(wgpu::Features::SHADER_F16),
            matrices: matrices(adapter),
            wrong_matrices: false,
            least_subgroup: None,
            timestamp_query: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            max_buffer_bytes: limits.max_buffer_size,
            max_binding_bytes: limits.max_storage_buffer_binding_size,
            max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
            max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
            max_workgroup_invocations: limits.max_compute_invocations_per_workgroup,
            max_workgroups_per_dimension: limits.max_compute_workgroups_per_dimension,
        }
    }
}

/// The cooperative matrices of `adapter` that the kernels are written for, the larger ones first.
fn matrices(adapter: &wgpu::Adapter) -> Option<Matrices> {
    let (info, features) = (adapter.get_info(), adapter.features());
    // A kernel has to know the size of its subgroups in advance.
    let is_fixed = info.subgroup_min_size == info.subgroup_max_size;
    if !is_fixed || !features.contains(Caps::MATRIX_FEATURES | wgpu::Features::SHADER_F16) {
        return None;
    }
    let known = adapter.cooperative_matrix_properties();
    let has = |side| {
        known.iter().any(|matrix| {
            [matrix.m_size, matrix.n_size, matrix.k_size] == [side; 3]
                && matrix.ab_type == wgpu::CooperativeScalarType::F16
                && matrix.cr_type == wgpu::CooperativeScalarType::F32
        })
    };
    let side = [16, 8].into_iter().find(|side| has(*side))?;
    Some(Matrices { side, subgroup_size: info.subgroup_max_size })
}

/// The backend in the word that users know it by.
fn backend_name(backend: wgpu::Backend) -> &'static str {
    match backend {
        wgpu::Backend::BrowserWebGpu => "webgpu",
        other => other.to_str(),
    }
}
