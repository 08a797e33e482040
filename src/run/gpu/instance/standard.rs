//! The instance that wgpu itself makes.

/// What is said where there is no adapter.
pub const NO_ADAPTER: &str = "no adapter was found for WebGPU in a browser, or for Metal or DX12 outside of one";

/// See [`super::open`].
pub fn open(descriptor: wgpu::InstanceDescriptor) -> Option<wgpu::Instance> {
    Some(wgpu::Instance::new(descriptor))
}
