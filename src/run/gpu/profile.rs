//! Time by kernel and shape, from the GPU's own clock: two timestamps around every dispatch.
//!
//! Each dispatch gets a pass of its own while it is timed, so the sum is more than a run takes without.

use std::collections::HashMap;

use serde::Serialize;

use super::{Gpu, readback};
use crate::error::{Error, Result};

/// Timestamps in one set; WebGPU allows 4096.
const SET_LEN: u32 = 4096;

/// What the dispatches of one kernel on one shape took together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProfileLine {
    /// The kernel's name.
    pub kernel: &'static str,
    /// Its sizes, in the words of whoever made the dispatch.
    pub shape: String,
    /// Dispatches.
    pub n: u64,
    /// Seconds of all.
    pub secs: f64,
    /// Floating-point operations of all.
    pub flops: u64,
    /// Bytes of all operands, each counted once a dispatch.
    pub n_bytes: u64,
}

impl ProfileLine {
    /// 10⁹ floating-point operations a second.
    #[must_use]
    pub fn gflops(&self) -> f64 {
        self.flops as f64 / self.secs.max(1e-12) / 1e9
    }

    /// 10⁹ bytes a second.
    #[must_use]
    pub fn gbytes(&self) -> f64 {
        self.n_bytes as f64 / self.secs.max(1e-12) / 1e9
    }
}

/// The slowest first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Profile {
    /// One for each kernel and shape.
    pub lines: Vec<ProfileLine>,
}

impl std::fmt::Display for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let total: f64 = self.lines.iter().map(|line| line.secs).sum();
        writeln!(f, "{:>10} {:>6} {:>6} {:>9} {:>9}  kernel and shape", "ms", "%", "n", "GFLOP/s", "GB/s")?;
        for line in &self.lines {
            writeln!(
                f,
                "{:>10.3} {:>6.1} {:>6} {:>9.1} {:>9.1}  {} {}",
                line.secs * 1e3,
                100.0 * line.secs / total.max(1e-12),
                line.n,
                line.gflops(),
                line.gbytes(),
                line.kernel,
                line.shape
            )?;
        }
        write!(f, "{:>10.3} in all", total * 1e3)
    }
}

struct Entry {
    kernel: &'static str,
    shape: String,
    flops: u64,
    n_bytes: u64,
}

/// Hands out timestamps and remembers what they are around.
pub(super) struct Profiler {
    sets: Vec<wgpu::QuerySet>,
    entries: Vec<Entry>,
}

impl Profiler {
    pub fn new(gpu: &Gpu) -> Result<Self> {
        if !gpu.caps.timestamp_query {
            let reason = "has no timestamp-query, so kernels cannot be timed".into();
            return Err(Error::Device { device: gpu.caps.name.clone(), reason });
        }
        Ok(Profiler { sets: Vec::new(), entries: Vec::new() })
    }

    /// Timestamps for a pass with one dispatch.
    pub(super) fn begin(
        &mut self,
        gpu: &Gpu,
        kernel: &'static str,
        shape: &str,
        flops: u64,
        n_bytes: u64,
    ) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        let at = self.entries.len() as u32 % (SET_LEN / 2) * 2;
        if at == 0 {
            self.sets.push(gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("profile"),
                ty: wgpu::QueryType::Timestamp,
                count: SET_LEN,
            }));
        }
        self.entries.push(Entry { kernel, shape: shape.to_string(), flops, n_bytes });
        self.sets.last().map(|query_set| wgpu::ComputePassTimestampWrites {
            query_set,
            beginning_of_pass_write_index: Some(at),
            end_of_pass_write_index: Some(at + 1),
        })
    }

    /// Reads all timestamps and adds them up.
    pub async fn finish(self, gpu: &Gpu) -> Result<Profile> {
        let mut ticks: Vec<u64> = Vec::new();
        for (set, entries) in self.sets.iter().zip(self.entries.chunks(SET_LEN as usize / 2)) {
            let n = 2 * entries.len() as u32;
            let n_bytes = u64::from(n) * 8;
            let resolved = gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("profile"),
                size: n_bytes,
                usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            });
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            encoder.resolve_query_set(set, 0..n, &resolved, 0);
            gpu.queue.submit([encoder.finish()]);
            let bytes = readback::read_bytes(gpu, &resolved, 0, n_bytes).await?;
            ticks.extend(bytemuck::pod_collect_to_vec::<u8, u64>(&bytes));
            resolved.destroy();
        }
        let secs_per_tick = f64::from(gpu.queue.get_timestamp_period()) / 1e9;
        let mut lines: HashMap<(&'static str, &str), ProfileLine> = HashMap::new();
        for (entry, ticks) in self.entries.iter().zip(ticks.chunks_exact(2)) {
            let line = lines.entry((entry.kernel, entry.shape.as_str())).or_insert_with(|| ProfileLine {
                kernel: entry.kernel,
                shape: entry.shape.clone(),
                n: 0,
                secs: 0.0,
                flops: 0,
                n_bytes: 0,
            });
            line.n += 1;
            line.secs += ticks[1].saturating_sub(ticks[0]) as f64 * secs_per_tick;
            line.flops += entry.flops;
            line.n_bytes += entry.n_bytes;
        }
        let mut lines: Vec<ProfileLine> = lines.into_values().collect();
        lines.sort_by(|a, b| b.secs.total_cmp(&a.secs));
        Ok(Profile { lines })
    }
}
