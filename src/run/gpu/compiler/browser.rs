//! In the browser a pipeline is made when it is needed. Its process takes commands in order, so that asking for pipelines
//! earlier would only delay the weights, and wgpu has no `createComputePipelineAsync`.

use super::super::kernel::Launch;
use super::Compiled;

/// See the module above.
pub struct Compiler {
    device: wgpu::Device,
}

impl Compiler {
    /// For one device.
    pub fn new(device: &wgpu::Device) -> Self {
        Compiler { device: device.clone() }
    }

    /// Does nothing here.
    pub fn ahead<'a>(&self, _launches: impl IntoIterator<Item = &'a Launch>) {}

    /// The pipeline of a launch, compiled now.
    pub fn compiled(&self, launch: &Launch) -> Compiled {
        Compiled::new(&self.device, launch)
    }
}
