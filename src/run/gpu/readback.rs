//! Bringing numbers back from the GPU: the one place where the processor waits for it.
//!
//! Meant for results, previews and tests. Nothing in a step reads back, because each wait costs a round trip.

use futures_channel::oneshot;

use super::Gpu;
use crate::{Error, Result};

/// Reads `n_values` f32 values from the start of `buffer`, which needs the usage `COPY_SRC`.
///
/// Everything submitted before is finished when this returns.
///
/// # Errors
/// [`Error::Run`] when the copy is refused (a buffer that is too small or has another usage) or the device was lost.
pub async fn read_f32(gpu: &Gpu, buffer: &wgpu::Buffer, n_values: usize) -> Result<Vec<f32>> {
    let bytes = read_bytes(gpu, buffer, 0, (n_values * size_of::<f32>()) as u64).await?;
    Ok(bytemuck::pod_collect_to_vec(&bytes))
}

/// Reads `n_bytes` bytes, a multiple of four, from `offset` on.
///
/// # Errors
/// As [`read_f32`].
pub async fn read_bytes(gpu: &Gpu, buffer: &wgpu::Buffer, offset: u64, n_bytes: u64) -> Result<Vec<u8>> {
    let failed = |reason: String| Error::Run { node: "readback".into(), device: gpu.caps.name.clone(), reason };
    let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
    let staging = gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("readback"),
        size: n_bytes,
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("readback") });
    encoder.copy_buffer_to_buffer(buffer, offset, &staging, 0, n_bytes);
    gpu.queue.submit([encoder.finish()]);
    if let Some(error) = scope.pop().await {
        return Err(failed(error.to_string()));
    }

    let (send, mapped) = oneshot::channel();
    // Nobody waits any more where sending fails.
    staging.map_async(wgpu::MapMode::Read, .., move |result| drop(send.send(result)));
    // Natively this blocks until the callback has run. In the browser it does nothing: the event loop runs the callback
    // while the result is awaited.
    gpu.device.poll(wgpu::PollType::wait_indefinitely()).map_err(|e| failed(e.to_string()))?;
    let mapped = mapped.await.map_err(|_| failed("the device was lost".to_owned()))?;
    mapped.map_err(|e| failed(e.to_string()))?;

    let mapped_bytes = staging.get_mapped_range(..).map_err(|e| failed(e.to_string()))?;
    let bytes = mapped_bytes.to_vec();
    drop(mapped_bytes);
    staging.destroy();
    Ok(bytes)
}
