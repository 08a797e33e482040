//! How long kernels take on this machine's GPU: `build.sh bench`.
//!
//! Each figure is the median of several rounds of many dispatches in one submit, so that neither the upload nor the
//! waiting is measured. On a software adapter the figures say nothing about a real GPU; the heading names the adapter.

use std::time::Instant;

use darkroom::run::gpu::kernels::lincomb::{self, MAX_TERMS};
use darkroom::run::gpu::kernels::{Element, UNUSED_BYTES, pipeline};
use darkroom::run::gpu::{Gpu, readback};
use wgpu::util::DeviceExt;

/// Rounds, of which the median is shown.
const N_ROUNDS: usize = 9;

/// Dispatches in one round.
const N_DISPATCHES: usize = 50;

fn main() -> darkroom::Result<()> {
    let gpu = pollster::block_on(Gpu::open())?;
    let kind = if gpu.caps.software { "software" } else { "hardware" };
    println!("{} ({}, {kind})", gpu.caps.name, gpu.caps.backend);
    println!("{:<10} {:>5} {:>9} {:>12} {:>8}", "kernel", "terms", "values", "µs", "GB/s");
    for (n_values, n_terms) in [(16_384, 2), (16_384, 4), (65_536, 4), (1 << 20, 4), (1 << 20, MAX_TERMS)] {
        lincomb(&gpu, n_values, n_terms)?;
    }
    Ok(())
}

/// Times the linear combination of `n_terms` tensors of `n_values` values.
fn lincomb(gpu: &Gpu, n_values: usize, n_terms: usize) -> darkroom::Result<()> {
    let buffer = |usage| {
        gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("bench"),
            size: (n_values * size_of::<f32>()) as u64,
            usage: wgpu::BufferUsages::STORAGE | usage,
            mapped_at_creation: false,
        })
    };
    let result = buffer(wgpu::BufferUsages::COPY_SRC);
    let launch = lincomb::launch(&vec![0.5; n_terms], n_values as u32, None, Element::F32)?;
    let params = gpu.device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
        label: Some("bench params"),
        contents: &launch.params,
        usage: wgpu::BufferUsages::UNIFORM,
    });
    let terms: Vec<wgpu::Buffer> = (0..MAX_TERMS)
        .map(|term| match term < n_terms {
            true => buffer(wgpu::BufferUsages::empty()),
            false => gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("bench, unused"),
                size: UNUSED_BYTES,
                usage: wgpu::BufferUsages::STORAGE,
                mapped_at_creation: false,
            }),
        })
        .collect();
    let layout = pipeline::bind_group_layout(&gpu.device, launch.kernel);
    let kernel = pipeline::compile(&gpu.device, &layout, &launch);
    let buffers = std::iter::once(&params).chain(&terms).chain([&result]);
    let entries: Vec<_> = (0..)
        .zip(buffers)
        .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
        .collect();
    let group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some("bench"),
        layout: &layout,
        entries: &entries,
    });
    let [x, y, z] = launch.workgroups;
    let mut rounds = Vec::new();
    // The first round warms up and is not counted.
    for round in 0..=N_ROUNDS {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(&kernel);
            pass.set_bind_group(0, &group, &[0]);
            for _ in 0..N_DISPATCHES {
                pass.dispatch_workgroups(x, y, z);
            }
        }
        let commands = encoder.finish();
        let start = Instant::now();
        gpu.queue.submit([commands]);
        pollster::block_on(readback::read_f32(gpu, &result, 1))?;
        if round > 0 {
            rounds.push(start.elapsed().as_secs_f64() / N_DISPATCHES as f64);
        }
    }
    rounds.sort_by(f64::total_cmp);
    let secs = rounds[N_ROUNDS / 2];
    let n_bytes = ((n_terms + 1) * n_values * size_of::<f32>()) as f64;
    println!("{:<10} {n_terms:>5} {n_values:>9} {:>12.1} {:>8.2}", "lincomb", secs * 1e6, n_bytes / secs / 1e9);
    Ok(())
}
