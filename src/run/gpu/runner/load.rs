//! Weights from a checkpoint to the device, a bounded piece at a time.

use std::collections::{BTreeMap, HashMap};

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::super::buffer::{Buffer, Range};
use super::super::kernel::{Launch, UNUSED_BYTES};
use super::super::kernels::products::repack;
use super::super::ledger::Purpose;
use super::super::weight_layout::{WeightBuffer, WeightElement, WeightKey, WeightLayout, n_values};
use super::{GpuRunner, GpuWeights};
use crate::error::{Error, Result};
use crate::graph::{Graph, WeightSpec};
use crate::weights::convert::f32_from_le_bytes;
use crate::weights::{Dtype, Weights};

/// Bytes of a checkpoint that are on the host at once while weights are loaded. Their conversion needs as much again.
const PIECE_BYTES: u64 = 8 << 20;

/// Bytes of weights that were written and that the device has not taken, about.
const MAX_UNTAKEN_BYTES: u64 = 64 << 20;

/// What packs each part of a buffer of weights; nothing where they lie as in the checkpoint.
fn repacks(wanted: &WeightBuffer) -> Result<Vec<Launch>> {
    let WeightLayout::Packed { geglu } = wanted.layout() else { return Ok(Vec::new()) };
    let columns = wanted.parts.iter().map(|part| part.shape[0] as u32).sum();
    let mut first_column = 0;
    let mut launches = Vec::with_capacity(wanted.parts.len());
    for part in &wanted.parts {
        let (outputs, inputs) = (part.shape[0] as u32, part.shape[1] as u32);
        let taps = part.shape[2..].iter().product::<usize>() as u32;
        let alone = repack::Repack::alone(outputs, inputs, taps, geglu, repack::Raw::F16);
        launches.push(repack::launch(&repack::Repack { first_column, columns, ..alone })?);
        first_column += outputs;
    }
    Ok(launches)
}

impl GpuRunner {
    /// The buffers of weights that the graphs read, one after another.
    pub(super) async fn load_weights(
        &self,
        graphs: &[Graph],
        weights: &Weights,
        progress: &mut dyn FnMut(u64),
    ) -> Result<GpuWeights> {
        let mut wanted: BTreeMap<WeightKey, WeightBuffer> = BTreeMap::new();
        for graph in graphs {
            wanted.extend(self.lowered.of(graph).weights(graph).into_iter().map(|buffer| (buffer.key.clone(), buffer)));
        }
        let matrices = wanted.values().filter(|buffer| matches!(buffer.layout(), WeightLayout::Packed { .. }));
        let parts = matrices.flat_map(|buffer| buffer.parts.iter().map(|part| buffer.layout().part_bytes(part)));
        let largest = parts.max().unwrap_or(0);
        let scope = self.recorder.open_scope();
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let raw = self.recorder.buffer("raw weight", largest, usage, Purpose::Other);
        let mut buffers = HashMap::with_capacity(wanted.len());
        for buffer in wanted.values() {
            self.recorder.compile_ahead(&repacks(buffer)?);
        }
        let (mut n_bytes, mut unwaited, mut untaken) = (0, 0, None);
        // In the order of the file, so that it is read from front to back.
        let place_of = |buffer: &WeightBuffer| {
            buffer.parts.first().and_then(|part| weights.get(&part.name)).map(|info| (info.file, info.offset))
        };
        let mut wanted: Vec<WeightBuffer> = wanted.into_values().collect();
        wanted.sort_by_key(place_of);
        for buffer in wanted {
            let placed = self.place(&buffer, weights, &raw).await?;
            unwaited += placed.n_bytes;
            n_bytes += buffer.parts.iter().filter_map(|part| weights.get(&part.name)).map(|i| i.n_bytes).sum::<u64>();
            buffers.insert(buffer.key, placed);
            progress(n_bytes);
            // What is written is copied once more on its way, until the device has taken it. It takes the last part while
            // the next is read.
            if unwaited > MAX_UNTAKEN_BYTES / 2 {
                if let Some(earlier) = untaken.replace(self.recorder.submit(&[])) {
                    self.recorder.wait(earlier).await;
                }
                unwaited = 0;
                self.recorder.check("load")?;
            }
        }
        self.recorder.close(scope, "load").await?;
        let id = self.next_weights.replace(self.next_weights.get() + 1);
        Ok(GpuWeights { id, buffers })
    }

    /// One buffer of weights, a piece of the checkpoint at a time. `raw` has room for the largest matrix in f16.
    async fn place(&self, wanted: &WeightBuffer, weights: &Weights, raw: &Buffer) -> Result<Buffer> {
        let layout = wanted.layout();
        let (needs, allows) = (wanted.n_bytes(), self.recorder.caps().max_binding_bytes);
        if needs > allows {
            return Err(Error::Limit { what: format!("the weight {}", wanted.key), needs, allows });
        }
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let buffer = self.recorder.buffer(&wanted.key.to_string(), needs, usage, Purpose::Weights);
        match layout {
            WeightLayout::Vector | WeightLayout::Table => {
                let mut at = 0;
                for part in &wanted.parts {
                    self.upload_weight(part, weights, &buffer, at, layout.element()).await?;
                    at += layout.part_bytes(part);
                }
            }
            WeightLayout::Packed { .. } => {
                for (part, launch) in wanted.parts.iter().zip(repacks(wanted)?) {
                    self.upload_weight(part, weights, raw, 0, layout.element()).await?;
                    let n_bytes = layout.part_bytes(part).next_multiple_of(4).max(UNUSED_BYTES);
                    let raw = Range { buffer: raw, offset: 0, n_bytes };
                    self.run_once(&launch, repack::Bindings { raw, packed: buffer.whole() });
                }
            }
        }
        Ok(buffer)
    }

    /// A tensor of the checkpoint to a buffer, in the type of the device's layout.
    async fn upload_weight(
        &self,
        spec: &WeightSpec,
        weights: &Weights,
        to: &Buffer,
        offset: u64,
        element: WeightElement,
    ) -> Result<()> {
        let n_values = n_values(spec);
        if self.recorder.is_planned() {
            self.recorder.count_upload(element.bytes(n_values));
            return Ok(());
        }
        let Some(info) = weights.get(&spec.name) else {
            return self.fail(&spec.name, "the weight is not in the checkpoint".into());
        };
        let dtype = info.dtype.clone();
        let from_bytes = dtype.n_bytes().unwrap_or(4) as u64;
        let piece = PIECE_BYTES / from_bytes;
        let mut first = 0;
        while first < n_values {
            let n = piece.min(n_values - first);
            let bytes = weights.read_part(&spec.name, first * from_bytes, (n * from_bytes) as usize).await?;
            let at = offset + element.bytes(first);
            if element == WeightElement::F16 && dtype == Dtype::F16 {
                self.recorder.write(to, at, &bytes);
            } else {
                let Some(values) = f32_from_le_bytes(&dtype, &bytes) else {
                    return self.fail(&spec.name, format!("the weight has type {}", dtype.name()));
                };
                drop(bytes);
                match element {
                    WeightElement::F32 => self.recorder.write(to, at, bytemuck::cast_slice(&values)),
                    WeightElement::F16 => {
                        self.recorder.write(to, at, bytemuck::cast_slice(&self.halves(&spec.name, &values)?));
                    }
                }
            }
            first += n;
        }
        Ok(())
    }

    fn halves(&self, name: &str, values: &[f32]) -> Result<Vec<f16>> {
        let mut halves = vec![f16::ZERO; values.len()];
        halves.convert_from_f32_slice(values);
        if halves.iter().zip(values).any(|(half, value)| half.is_infinite() && value.is_finite()) {
            return self
                .fail(name, "the weight has values above 65504, which 16 bits cannot hold: draw on the CPU".into());
        }
        Ok(halves)
    }
}
