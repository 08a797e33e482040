//! The instance that wgpu itself makes.

/// See [`super::open`].
pub fn open(descriptor: wgpu::InstanceDescriptor) -> Option<wgpu::Instance> {
    Some(wgpu::Instance::new(descriptor))
}
