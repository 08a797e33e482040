//! The entry to wgpu, with only those interfaces that compute: Vulkan, Metal, DX12, or the browser's WebGPU. No windows.

#[cfg(target_os = "linux")]
#[path = "instance/linux.rs"]
mod platform;
#[cfg(not(target_os = "linux"))]
#[path = "instance/standard.rs"]
mod platform;

pub(super) use platform::NO_ADAPTER;

/// Opens it. `None` where the system lacks the interface altogether.
pub(super) fn open() -> Option<wgpu::Instance> {
    let descriptor = wgpu::InstanceDescriptor {
        backends: wgpu::Backends::PRIMARY,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    };
    platform::open(descriptor)
}
