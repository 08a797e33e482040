//! `lincomb`: the linear combination that every sampler step, the guidance and the input scaling come down to.
//!
//! Applies coefficients that others computed; it does not know what a sampler is.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};
use wgpu::util::DeviceExt;

use super::{Binding, Kernel};
use crate::run::gpu::{Gpu, readback};
use crate::{Error, Result};

/// The most terms of one dispatch: what the result leaves of the eight storage buffers that WebGPU guarantees.
pub const MAX_TERMS: usize = 7;

/// Values that one workgroup computes.
const WORKGROUP_VALUES: u32 = 256;

/// The kernel's entry in the table.
pub const KERNEL: Kernel = Kernel {
    name: "lincomb",
    wgsl: include_str!("lincomb.wgsl"),
    bindings: &[
        Binding::Uniform,
        Binding::Read,
        Binding::Read,
        Binding::Read,
        Binding::Read,
        Binding::Read,
        Binding::Read,
        Binding::Read,
        Binding::ReadWrite,
    ],
    params_bytes: size_of::<Params>(),
    params_fields: &[
        ("n_values", offset_of!(Params, n_values)),
        ("n_terms", offset_of!(Params, n_terms)),
        ("n_workgroups_x", offset_of!(Params, n_workgroups_x)),
        ("padding", offset_of!(Params, padding)),
        ("coefficients", offset_of!(Params, coefficients)),
    ],
};

/// The uniform buffer, field for field as in the WGSL file.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
struct Params {
    n_values: u32,
    n_terms: u32,
    n_workgroups_x: u32,
    padding: u32,
    coefficients: [f32; 8],
}

/// The same sum in plain Rust: `Σ cᵢ·xᵢ`, terms added in order, in f32.
///
/// Each term holds as many values as the first; with no terms the result is empty.
#[must_use]
pub fn reference(terms: &[(f32, &[f32])]) -> Vec<f32> {
    let n_values = terms.first().map_or(0, |(_, values)| values.len());
    (0..n_values).map(|i| terms.iter().map(|(c, x)| c * x[i]).sum()).collect()
}

/// The compiled kernel.
#[derive(Debug)]
pub struct Lincomb {
    pipeline: wgpu::ComputePipeline,
}

impl Lincomb {
    /// Compiles the kernel for `gpu`.
    #[must_use]
    pub fn new(gpu: &Gpu) -> Self {
        let module = gpu.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(KERNEL.name),
            source: wgpu::ShaderSource::Wgsl(KERNEL.wgsl.into()),
        });
        let pipeline = gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(KERNEL.name),
            layout: None,
            module: &module,
            entry_point: Some("main"),
            compilation_options: Default::default(),
            cache: None,
        });
        Self { pipeline }
    }

    /// Records `result = Σ cᵢ·xᵢ` over the first `n_values` f32 values of each buffer into `pass`.
    ///
    /// All buffers need the usage `STORAGE`; `result` must be none of the terms.
    ///
    /// # Errors
    /// [`Error::Shape`] with no terms, with more than [`MAX_TERMS`], or with more values than a dispatch can cover.
    pub fn record(
        &self,
        gpu: &Gpu,
        pass: &mut wgpu::ComputePass<'_>,
        terms: &[(f32, &wgpu::Buffer)],
        result: &wgpu::Buffer,
        n_values: usize,
    ) -> Result<()> {
        let [n_workgroups_x, n_workgroups_y] =
            dispatch_size(terms.len(), n_values, gpu.caps.max_workgroups_per_dimension)?;
        let mut coefficients = [0.0; 8];
        for (slot, (c, _)) in coefficients.iter_mut().zip(terms) {
            *slot = *c;
        }
        let params =
            Params { n_values: n_values as u32, n_terms: terms.len() as u32, n_workgroups_x, padding: 0, coefficients };
        let params = gpu.device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
            label: Some("lincomb params"),
            contents: bytemuck::bytes_of(&params),
            usage: wgpu::BufferUsages::UNIFORM,
        });
        // Every binding of the layout must be filled, so the terms that do not count repeat the first one.
        let term = |i: usize| terms.get(i).unwrap_or(&terms[0]).1;
        let buffers = std::iter::once(&params).chain((0..MAX_TERMS).map(term)).chain([result]);
        let entries: Vec<_> = (0..)
            .zip(buffers)
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(KERNEL.name),
            layout: &self.pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(n_workgroups_x, n_workgroups_y, 1);
        Ok(())
    }
}

/// Workgroups along x and y for `n_values`, after checking that the kernel can do it at all.
fn dispatch_size(n_terms: usize, n_values: usize, max_per_dimension: u32) -> Result<[u32; 2]> {
    let fault = |reason: String| Error::Shape { node: KERNEL.name.into(), op: KERNEL.name, reason };
    if n_terms == 0 || n_terms > MAX_TERMS {
        return Err(fault(format!("takes 1 to {MAX_TERMS} terms, not {n_terms}")));
    }
    let n_values = u32::try_from(n_values).map_err(|_| fault(format!("cannot address {n_values} values")))?;
    let n_workgroups = n_values.div_ceil(WORKGROUP_VALUES);
    let x = n_workgroups.min(max_per_dimension).max(1);
    let y = n_workgroups.div_ceil(x);
    if y > max_per_dimension {
        return Err(fault(format!("needs {n_workgroups} workgroups, more than a dispatch can have")));
    }
    Ok([x, y])
}

/// Uploads the terms, runs the kernel once and reads the result back.
///
/// For tests and measurements; the runner records into its own passes.
///
/// # Errors
/// [`Error::Shape`] when the terms differ in length or are too many, [`Error::Run`] when the GPU refuses.
pub async fn run_once(gpu: &Gpu, terms: &[(f32, &[f32])]) -> Result<Vec<f32>> {
    let n_values = terms.first().map_or(0, |(_, values)| values.len());
    if let Some((_, other)) = terms.iter().find(|(_, values)| values.len() != n_values) {
        return Err(Error::Shape {
            node: KERNEL.name.into(),
            op: KERNEL.name,
            reason: format!("has terms of {n_values} and of {} values", other.len()),
        });
    }
    let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
    let uploads: Vec<(f32, wgpu::Buffer)> = terms
        .iter()
        .map(|(c, values)| {
            let descriptor = wgpu::util::BufferInitDescriptor {
                label: Some("lincomb term"),
                contents: bytemuck::cast_slice(values),
                usage: wgpu::BufferUsages::STORAGE,
            };
            (*c, gpu.device.create_buffer_init(&descriptor))
        })
        .collect();
    let result = gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("lincomb result"),
        size: (n_values * size_of::<f32>()) as u64,
        usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
        mapped_at_creation: false,
    });
    let borrowed: Vec<(f32, &wgpu::Buffer)> = uploads.iter().map(|(c, buffer)| (*c, buffer)).collect();
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some(KERNEL.name) });
    {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        Lincomb::new(gpu).record(gpu, &mut pass, &borrowed, &result, n_values)?;
    }
    gpu.queue.submit([encoder.finish()]);
    if let Some(error) = scope.pop().await {
        return Err(Error::Run { node: KERNEL.name.into(), device: gpu.caps.name.clone(), reason: error.to_string() });
    }
    let values = readback::read_f32(gpu, &result, n_values).await?;
    for (_, buffer) in &uploads {
        buffer.destroy();
    }
    result.destroy();
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_is_the_sum_of_scaled_terms() {
        assert_eq!(reference(&[(2.0, &[1.0, -3.0]), (0.5, &[4.0, 8.0])]), [4.0, -2.0]);
        assert!(reference(&[]).is_empty());
    }

    #[test]
    fn a_dispatch_wraps_into_rows_and_refuses_what_it_cannot_do() {
        assert_eq!(dispatch_size(1, 0, 65535).unwrap(), [1, 0]);
        assert_eq!(dispatch_size(7, 257, 65535).unwrap(), [2, 1]);
        assert_eq!(dispatch_size(1, 256 * 7, 4).unwrap(), [4, 2]);
        assert!(dispatch_size(0, 1, 65535).is_err());
        assert!(dispatch_size(8, 1, 65535).is_err());
        assert!(dispatch_size(1, 256 * 17, 4).is_err());
    }
}
