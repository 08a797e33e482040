//! Pipelines for launches: compiled when a launch needs its own or, natively, ahead of that on rayon's threads.
//!
//! Counts nothing and keeps nothing that was handed out; the recorder does.

#[cfg(not(target_arch = "wasm32"))]
#[path = "compiler/native.rs"]
mod platform;
#[cfg(target_arch = "wasm32")]
#[path = "compiler/browser.rs"]
mod platform;

use super::faults::Fault;
use super::kernel::{Launch, pipeline};

pub(super) use platform::Compiler;

/// A compiled kernel with the layout of its bindings.
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    pub layout: wgpu::BindGroupLayout,
    pub pipeline: wgpu::ComputePipeline,
    /// What the compiler said against it, if nobody was told yet.
    pub fault: Option<Fault>,
}

impl Compiled {
    /// Compiles now. Errors go to the error scope of this thread.
    fn new(device: &wgpu::Device, launch: &Launch) -> Self {
        let layout = pipeline::bind_group_layout(device, launch.kernel);
        let pipeline = pipeline::compile(device, &layout, launch);
        Compiled { layout, pipeline, fault: None }
    }
}
