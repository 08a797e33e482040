//! A Vulkan instance that connects to no display server.

use std::ffi::CStr;

use wgpu::hal::api::Vulkan;
use wgpu::hal::vulkan;

/// What is said where there is no adapter.
pub const NO_ADAPTER: &str =
    "no adapter was found for Vulkan; for a card inside a container see the README about VK_DRIVER_FILES";

/// The extensions that wgpu asks for on every system, and that are for windows alone.
const WINDOW_EXTENSIONS: [&CStr; 3] = [c"VK_KHR_xlib_surface", c"VK_KHR_xcb_surface", c"VK_KHR_wayland_surface"];

/// See [`super::open`].
///
/// HACK: wgpu asks for the window extensions even without a display handle. Where an instance has them, Mesa's
/// device-select layer connects to the display server whenever adapters are listed, to find out which adapter draws the
/// desktop. Without a desktop `libwayland-client` then prints `error: XDG_RUNTIME_DIR is invalid or not set` on standard
/// error (`device_select_find_wayland_pci_default`, called where `has_wayland` is set, in
/// <https://gitlab.freedesktop.org/mesa/mesa/-/blob/mesa-22.3.6/src/vulkan/device-select-layer/device_select_layer.c>).
pub fn open(descriptor: wgpu::InstanceDescriptor) -> Option<wgpu::Instance> {
    let wanted = wgpu::hal::InstanceDescriptor {
        name: "darkroom",
        flags: descriptor.flags,
        memory_budget_thresholds: descriptor.memory_budget_thresholds,
        backend_options: descriptor.backend_options,
        telemetry: None,
        display: None,
    };
    let without_windows = |args: vulkan::CreateInstanceCallbackArgs<'_, '_, '_>| {
        args.extensions.retain(|name| !WINDOW_EXTENSIONS.contains(name));
    };
    // SAFETY: wgpu forbids to remove extensions because it takes those that the system has for enabled. It uses these
    // three in the making of surfaces alone, each after a look at the same list, and this program makes no surface.
    let instance = unsafe { vulkan::Instance::init_with_callback(&wanted, Some(Box::new(without_windows))) };
    // SAFETY: the instance was made above and belongs to nobody else.
    Some(unsafe { wgpu::Instance::from_hal::<Vulkan>(instance.ok()?) })
}
