//! Bringing numbers back from the GPU: the one place where the processor waits for it.
//!
//! Meant for results, previews and tests. Nothing in a step reads back, because each wait costs a round trip.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use super::Gpu;
use crate::{Error, Result};

/// Reads `n_values` f32 values from the start of `buffer`, which needs the usage `COPY_SRC`.
///
/// Everything submitted before is finished when this returns.
///
/// # Errors
/// [`Error::Run`] when the copy is refused (a buffer that is too small or has another usage) or the device was lost.
pub async fn read_f32(gpu: &Gpu, buffer: &wgpu::Buffer, n_values: usize) -> Result<Vec<f32>> {
    let failed = |reason: String| Error::Run { node: "readback".into(), device: gpu.caps.name.clone(), reason };
    let n_bytes = (n_values * size_of::<f32>()) as u64;
    let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
    let staging = gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("readback"),
        size: n_bytes,
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("readback") });
    encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, n_bytes);
    gpu.queue.submit([encoder.finish()]);
    if let Some(error) = scope.pop().await {
        return Err(failed(error.to_string()));
    }

    let mapped = Signal::default();
    let done = mapped.clone();
    staging.map_async(wgpu::MapMode::Read, .., move |result| done.send(result.map_err(|e| e.to_string())));
    // Natively this blocks until the callback has run. In the browser it does nothing: the event loop runs the callback
    // while the signal is awaited.
    gpu.device.poll(wgpu::PollType::wait_indefinitely()).map_err(|e| failed(e.to_string()))?;
    mapped.await.map_err(failed)?;

    let bytes = staging.get_mapped_range(..).map_err(|e| failed(e.to_string()))?;
    let values = bytemuck::pod_collect_to_vec(&bytes);
    drop(bytes);
    staging.destroy();
    Ok(values)
}

/// A result that a callback sends once and one future waits for.
#[derive(Clone, Default)]
struct Signal(Arc<Mutex<SignalState>>);

#[derive(Default)]
struct SignalState {
    result: Option<Result<(), String>>,
    waker: Option<Waker>,
}

impl Signal {
    fn send(&self, result: Result<(), String>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.result = Some(result);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

impl Future for Signal {
    type Output = Result<(), String>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
