//! Weights from a checkpoint to the device, a bounded piece at a time.

use std::collections::{BTreeMap, HashMap, HashSet};

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::super::buffer::{Buffer, Range};
use super::super::kernel::{Launch, UNUSED_BYTES};
use super::super::kernels::products::repack;
use super::super::ledger::Purpose;
use super::super::recorder::Ticket;
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

/// How much was written since the device was last waited for.
#[derive(Default)]
struct Pace {
    unwaited: u64,
    untaken: Option<Ticket>,
}

impl GpuRunner {
    /// The buffers of weights that the graphs read, in the order of the file, so that it is read from front to back.
    fn wanted(&self, graphs: &[Graph], weights: &Weights) -> Vec<WeightBuffer> {
        let mut wanted: BTreeMap<WeightKey, WeightBuffer> = BTreeMap::new();
        for graph in graphs {
            wanted.extend(self.lowered.of(graph).weights(graph).into_iter().map(|buffer| (buffer.key.clone(), buffer)));
        }
        let place_of = |buffer: &WeightBuffer| {
            buffer.parts.first().and_then(|part| weights.get(&part.name)).map(|info| (info.file, info.offset))
        };
        let mut wanted: Vec<WeightBuffer> = wanted.into_values().collect();
        wanted.sort_by_key(place_of);
        wanted
    }

    /// Room for the largest matrix as it is uploaded, before it is packed.
    fn raw_buffer(&self, wanted: &[WeightBuffer]) -> Buffer {
        let matrices = wanted.iter().filter(|buffer| matches!(buffer.layout(), WeightLayout::Packed { .. }));
        let parts = matrices.flat_map(|buffer| buffer.parts.iter().map(|part| buffer.layout().part_bytes(part)));
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        self.recorder.buffer("raw weight", parts.max().unwrap_or(0), usage, Purpose::Other)
    }

    /// The buffers of weights that the graphs read, one after another.
    pub(super) async fn load_weights(
        &self,
        graphs: &[Graph],
        weights: &Weights,
        progress: &mut dyn FnMut(u64),
    ) -> Result<GpuWeights> {
        let wanted = self.wanted(graphs, weights);
        let scope = self.recorder.open_scope();
        let raw = self.raw_buffer(&wanted);
        let mut buffers = HashMap::with_capacity(wanted.len());
        for buffer in &wanted {
            self.recorder.compile_ahead(&repacks(buffer)?);
        }
        let (mut n_bytes, mut pace) = (0, Pace::default());
        for buffer in wanted {
            let placed = self.make(&buffer)?;
            self.fill(&buffer, weights, &raw, &placed, &|_| true).await?;
            let n_written = placed.n_bytes;
            n_bytes += buffer.parts.iter().filter_map(|part| weights.get(&part.name)).map(|i| i.n_bytes).sum::<u64>();
            buffers.insert(buffer.key, placed);
            progress(n_bytes);
            self.keep_pace(&mut pace, n_written).await?;
        }
        self.recorder.close(scope, "load").await?;
        let id = self.next_weights.replace(self.next_weights.get() + 1);
        Ok(GpuWeights { id, buffers })
    }

    /// Writes some tensors anew, into the buffers that they are in.
    pub(super) async fn replace_weights(
        &self,
        graphs: &[Graph],
        weights: &Weights,
        names: &[String],
        loaded: &GpuWeights,
    ) -> Result<()> {
        let names: HashSet<&str> = names.iter().map(String::as_str).collect();
        let is_named = |part: &WeightSpec| names.contains(part.name.as_str());
        let mut wanted = self.wanted(graphs, weights);
        wanted.retain(|buffer| buffer.parts.iter().any(is_named));
        let scope = self.recorder.open_scope();
        let raw = self.raw_buffer(&wanted);
        let mut pace = Pace::default();
        for buffer in wanted {
            let Some(placed) = loaded.buffers.get(&buffer.key) else {
                return self.fail(&buffer.key.to_string(), "the weight is not loaded".into());
            };
            self.fill(&buffer, weights, &raw, placed, &is_named).await?;
            self.keep_pace(&mut pace, placed.n_bytes).await?;
        }
        self.recorder.close(scope, "load").await
    }

    /// What is written is copied once more on its way, until the device has taken it. It takes the last part while the next
    /// is read.
    async fn keep_pace(&self, pace: &mut Pace, n_written: u64) -> Result<()> {
        pace.unwaited += n_written;
        if pace.unwaited > MAX_UNTAKEN_BYTES / 2 {
            if let Some(earlier) = pace.untaken.replace(self.recorder.submit(&[])) {
                self.recorder.wait(earlier).await;
            }
            pace.unwaited = 0;
            self.recorder.check("load")?;
        }
        Ok(())
    }

    /// An empty buffer of weights.
    fn make(&self, wanted: &WeightBuffer) -> Result<Buffer> {
        let (needs, allows) = (wanted.n_bytes(), self.recorder.caps().max_binding_bytes);
        if needs > allows {
            return Err(Error::Limit { what: format!("the weight {}", wanted.key), needs, allows });
        }
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        Ok(self.recorder.buffer(&wanted.key.to_string(), needs, usage, Purpose::Weights))
    }

    /// The tensors of one buffer that are asked for, a piece of the checkpoint at a time. `raw` has room for the largest
    /// matrix in f16.
    async fn fill(
        &self,
        wanted: &WeightBuffer,
        weights: &Weights,
        raw: &Buffer,
        buffer: &Buffer,
        is_asked: &dyn Fn(&WeightSpec) -> bool,
    ) -> Result<()> {
        let layout = wanted.layout();
        match layout {
            WeightLayout::Vector | WeightLayout::Table => {
                let mut at = 0;
                for part in &wanted.parts {
                    if is_asked(part) {
                        self.upload_weight(part, weights, buffer, at, layout.element()).await?;
                    }
                    at += layout.part_bytes(part);
                }
            }
            WeightLayout::Packed { .. } => {
                for (part, launch) in wanted.parts.iter().zip(repacks(wanted)?) {
                    if !is_asked(part) {
                        continue;
                    }
                    self.upload_weight(part, weights, raw, 0, layout.element()).await?;
                    let n_bytes = layout.part_bytes(part).next_multiple_of(4).max(UNUSED_BYTES);
                    let raw = Range { buffer: raw, offset: 0, n_bytes };
                    self.run_once(&launch, repack::Bindings { raw, packed: buffer.whole() });
                }
            }
        }
        Ok(())
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
