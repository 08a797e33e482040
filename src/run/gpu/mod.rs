//! The WebGPU runner: one code path for the browser's WebGPU and, natively, for Vulkan, Metal and DX12, all through wgpu.
//!
//! Opens a device and knows what it can do ([`Caps`]). [`lower`] turns a graph's nodes into tasks of the families of
//! [`kernels`], [`program`] those into dispatches with places in one [`arena`], large pictures cut into [`bands`], and
//! [`runner`] records and replays them. Whatever is asked of the device is counted ([`ledger`]) and can be timed
//! ([`profile`]). Nothing here knows models or JavaScript: whatever only the browser can tell is added in `web/`.
//!
//! # The modules, lowest first
//!
//! - [`kernel`]: what every kernel stands on. [`weight_layout`]: how weights lie on the device. [`arena`], [`bands`].
//! - `fusing`: what match rules ask of a graph. [`emit`]: dispatches put one behind the other.
//! - [`kernels`]: the families, each with its match rule, its kernels and its emission.
//! - [`lower`], [`program`]: a graph through the families. [`caps`], [`ledger`], `recorder`, [`runner`]: the device.
//!
//! tests/invariants keeps that order.

pub mod arena;
pub mod bands;
mod buffer;
pub mod caps;
mod compiler;
pub mod emit;
mod faults;
mod fusing;
mod instance;
pub mod kernel;
pub mod kernels;
pub mod ledger;
pub mod lower;
pub mod profile;
pub mod program;
mod proof;
#[doc(hidden)]
pub mod readback;
mod recorder;
pub mod runner;
pub mod weight_layout;

pub use caps::Caps;
pub use kernel::{Element, Matrices};
pub use kernels::products::tiles;

use crate::{Error, Result};

/// An opened device with its queue and what it can do.
///
/// Dropping it frees the device natively; in the browser buffers live until they are destroyed by hand, so whoever makes
/// a buffer destroys it.
#[derive(Debug)]
pub struct Gpu {
    /// Makes buffers and pipelines. For this crate's tests of single kernels; no part of the interface.
    #[doc(hidden)]
    pub device: wgpu::Device,
    /// Takes uploads and recorded commands; likewise.
    #[doc(hidden)]
    pub queue: wgpu::Queue,
    /// Name, limits and features, as found when the device was opened.
    pub caps: Caps,
}

impl Gpu {
    /// Opens the fastest adapter with all of its limits and those optional features that kernels can use.
    ///
    /// A software adapter is taken when there is no other; [`Caps::software`] says so, and the caller decides whether
    /// that is good enough.
    ///
    /// # Errors
    /// [`Error::Device`] when there is no WebGPU or Vulkan, Metal or DX12 adapter, or when it refuses to open.
    pub async fn open() -> Result<Self> {
        Self::open_with(false).await
    }

    /// The same, with cooperative matrices where the adapter has them and they hold in a trial; [`Caps::matrices`] says
    /// whether. They are several times as fast in 16 bits, and experimental: what stands between wgpu and the hardware does
    /// not promise yet that what one invocation stores is seen by others.
    ///
    /// # Errors
    /// As [`Gpu::open`].
    pub async fn open_with_matrices() -> Result<Self> {
        Self::open_with(true).await
    }

    async fn open_with(with_matrices: bool) -> Result<Self> {
        let options = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        };
        let adapter = match instance::open() {
            // What wgpu adds to its error is the list of interfaces that this build leaves out, which helps nobody.
            Some(instance) => instance.request_adapter(&options).await.ok(),
            None => None,
        };
        let adapter =
            adapter.ok_or_else(|| Error::Device { device: "gpu".into(), reason: instance::NO_ADAPTER.into() })?;
        let caps = Caps::of(&adapter);
        if !with_matrices {
            return Self::open_adapter(&adapter, Caps { matrices: None, ..caps }).await;
        }
        if caps.matrices.is_some() {
            let gpu = Self::open_adapter(&adapter, caps.clone()).await?;
            // A compiler that fails on them can take the device with it, so the next try is on another.
            if proof::matrices_hold(&gpu).await.unwrap_or(false) {
                return Ok(gpu);
            }
            return Self::open_adapter(&adapter, Caps { matrices: None, wrong_matrices: true, ..caps }).await;
        }
        Self::open_adapter(&adapter, caps).await
    }

    async fn open_adapter(adapter: &wgpu::Adapter, caps: Caps) -> Result<Self> {
        let mut wanted = Caps::USEFUL_FEATURES;
        let mut experimental = wgpu::ExperimentalFeatures::disabled();
        if caps.matrices.is_some() {
            wanted |= Caps::MATRIX_FEATURES;
            // SAFETY: wgpu does not check what a kernel does with cooperative matrices. Ours load and store whole matrices
            // inside arrays of workgroup memory whose sizes follow from the same constants.
            experimental = unsafe { wgpu::ExperimentalFeatures::enabled() };
        }
        // Exactly what is asked for here is allowed afterwards, so a limit that is not asked for would stay at the
        // specification's minimum: 128 MiB a binding, on cards that could do many times that.
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("darkroom"),
            required_features: adapter.features() & wanted,
            required_limits: adapter.limits(),
            experimental_features: experimental,
            ..Default::default()
        };
        let (device, queue) = adapter
            .request_device(&descriptor)
            .await
            .map_err(|e| Error::Device { device: caps.name.clone(), reason: format!("could not be opened: {e}") })?;
        let mut gpu = Self { device, queue, caps };
        if adapter.features().contains(wgpu::Features::SUBGROUP) {
            gpu.try_subgroups().await;
        }
        Ok(gpu)
    }

    /// Has kernels use subgroup operations where they hold in a trial: natively that is done when a device is opened; a page, whose
    /// wgpu knows nothing of them, calls this when it knows that the device has them.
    pub async fn try_subgroups(&mut self) {
        let least = self.device.adapter_info().subgroup_min_size;
        if least.is_power_of_two() && proof::subgroups_hold(self, least).await.unwrap_or(false) {
            self.caps.least_subgroup = Some(least);
        }
    }
}
