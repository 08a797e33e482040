//! Compiling launches: the layout of a kernel's bindings and its pipeline for one element, width and set of constants.
//!
//! Keeps nothing; whoever compiles caches by [`Launch::pipeline_key`].

use super::entry::{Binding, Kernel};
use super::launch::Launch;

/// Group 0 of a kernel as the table has it. The uniform takes a dynamic offset; no size is checked beyond what the file
/// declares.
#[must_use]
pub fn bind_group_layout(device: &wgpu::Device, kernel: &Kernel) -> wgpu::BindGroupLayout {
    let entries: Vec<_> = (0..).zip(kernel.bindings).map(|(binding, (_, kind))| layout_entry(binding, *kind)).collect();
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(kernel.name), entries: &entries })
}

fn layout_entry(binding: u32, kind: Binding) -> wgpu::BindGroupLayoutEntry {
    let ty = match kind {
        Binding::Uniform => wgpu::BufferBindingType::Uniform,
        Binding::Read => wgpu::BufferBindingType::Storage { read_only: true },
        Binding::ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
    };
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: kind == Binding::Uniform, min_binding_size: None },
        count: None,
    }
}

/// The pipeline of a launch, with `layout` as [`bind_group_layout`] made it for the launch's kernel.
///
/// Errors of the compiler go to the device's error scope, as all of wgpu's do.
#[must_use]
pub fn compile(device: &wgpu::Device, layout: &wgpu::BindGroupLayout, launch: &Launch) -> wgpu::ComputePipeline {
    let kernel = launch.kernel;
    let source = kernel.source(launch.element, launch.width);
    let descriptor =
        wgpu::ShaderModuleDescriptor { label: Some(kernel.name), source: wgpu::ShaderSource::Wgsl(source.into()) };
    // SAFETY: without these checks a shader must not index out of bounds or loop for ever. The kernels compare every
    // index that depends on sizes with those sizes, which the planner derives from the ranges it binds, and each loop
    // counts towards a uniform. In the browser the flag has no effect: its own checks stay.
    let module = unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) };
    let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some(kernel.name),
        bind_group_layouts: &[Some(layout)],
        immediate_size: 0,
    });
    device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(kernel.name),
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: Some("main"),
        // Every kernel writes its workgroup memory before it reads it.
        compilation_options: wgpu::PipelineCompilationOptions {
            constants: &launch.constants,
            zero_initialize_workgroup_memory: false,
        },
        cache: None,
    })
}
