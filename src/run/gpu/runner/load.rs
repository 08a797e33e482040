//! Weights from a checkpoint to the device, a bounded piece at a time.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::super::buffer::{Buffer, Range};
use super::super::kernel::{Launch, UNUSED_BYTES};
use super::super::kernels::products::repack::{self, Raw, Repack};
use super::super::ledger::Purpose;
use super::super::recorder::Ticket;
use super::super::weight_layout::{WeightBuffer, WeightKey, WeightLayout, n_values};
use super::{GpuRunner, GpuWeights};
use crate::error::{Error, Result};
use crate::graph::{Graph, WeightSpec};
use crate::weights::blocks::BLOCK;
use crate::weights::convert::f32_from_le_bytes;
use crate::weights::{Dtype, WeightType, Weights};

/// Bytes of a checkpoint that are on the host at once while weights are loaded. Their conversion needs as much again.
const PIECE_BYTES: u64 = 8 << 20;

/// Bytes of weights that were written and that the device has not taken, about.
const MAX_UNTAKEN_BYTES: u64 = 64 << 20;

/// Some outputs of a tensor on their way into a packed matrix.
struct Slice {
    /// The first value of the tensor, and how many.
    first: u64,
    n_values: u64,
    /// What packs them.
    repack: Repack,
}

impl Slice {
    /// Bytes that are uploaded.
    fn n_bytes(&self) -> u64 {
        self.repack.raw.bytes_of(self.n_values)
    }
}

/// The type that a tensor is uploaded in before it is packed. Blocks of quantised numbers go as they are where they lie
/// along the inputs.
fn raw_for(packed: WeightType, part: &WeightSpec, weights: &Weights) -> Raw {
    let stored = weights.get(&part.name).map(|info| info.dtype);
    let lies_along_inputs = part.shape[1].is_multiple_of(BLOCK) && part.shape[2..].iter().all(|side| *side == 1);
    match packed {
        WeightType::F16 => Raw::F16,
        WeightType::F32 => Raw::F32,
        WeightType::Q8_0 | WeightType::Q4_0 => {
            let blocks = weights.blocks(&part.name).filter(|_| lies_along_inputs).and_then(Raw::of_blocks);
            // What is quantised is not rounded before.
            blocks.unwrap_or(if stored == Some(&Dtype::F16) { Raw::F16 } else { Raw::F32 })
        }
    }
}

/// The slices in which the tensors of a buffer are packed, by tensor; none where they lie as in the checkpoint.
fn slices(wanted: &WeightBuffer, weights: &Weights) -> Vec<Vec<Slice>> {
    let WeightLayout::Packed { geglu, weight_type } = wanted.layout() else { return Vec::new() };
    let columns = wanted.parts.iter().map(|part| part.shape[0] as u32).sum();
    let mut first_column = 0;
    let mut all = Vec::with_capacity(wanted.parts.len());
    for part in &wanted.parts {
        let (outputs, inputs) = (part.shape[0] as u32, part.shape[1] as u32);
        let taps = part.shape[2..].iter().product::<usize>() as u32;
        let raw = raw_for(weight_type, part, weights);
        let of_output = u64::from(inputs) * u64::from(taps);
        // Whole fours, at least one.
        let most = (PIECE_BYTES / raw.bytes_of(of_output).max(1) / 4 * 4).max(4) as u32;
        let starts = (0..outputs).step_by(most as usize);
        let slice = |first: u32| {
            let n = most.min(outputs - first);
            let alone = Repack::alone(outputs, inputs, taps, geglu, raw);
            let repack = Repack { packed: weight_type, first_column, columns, slice: [first, n], ..alone };
            Slice { first: u64::from(first) * of_output, n_values: u64::from(n) * of_output, repack }
        };
        all.push(starts.map(slice).collect());
        first_column += outputs;
    }
    all
}

/// How much was written since the device was last waited for.
#[derive(Default)]
pub(super) struct Pace {
    unwaited: u64,
    untaken: Option<Ticket>,
}

impl GpuRunner {
    /// The buffers of weights that the graphs read, in the order of the file, so that it is read from front to back.
    pub(super) fn wanted(&self, graphs: &[Graph], weights: &Weights) -> Vec<WeightBuffer> {
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

    /// Bytes of the largest slice of a matrix as it is uploaded, before it is packed.
    pub(super) fn raw_bytes(&self, wanted: &[WeightBuffer], weights: &Weights) -> u64 {
        let slices = wanted.iter().flat_map(|buffer| slices(buffer, weights)).flatten();
        slices.map(|slice| slice.n_bytes()).max().unwrap_or(0)
    }

    /// Room for a slice of so many bytes.
    pub(super) fn raw_buffer(&self, n_bytes: u64) -> Buffer {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        self.recorder.buffer("raw weight", n_bytes, usage, Purpose::Other)
    }

    /// Has the kernels compiled that pack the buffers.
    pub(super) fn compile_packing(&self, wanted: &[WeightBuffer], weights: &Weights) -> Result<()> {
        let slices = wanted.iter().flat_map(|buffer| slices(buffer, weights)).flatten();
        let packing: Vec<Launch> = slices.map(|slice| repack::launch(&slice.repack)).collect::<Result<_>>()?;
        self.recorder.compile_ahead(&packing);
        Ok(())
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
        let raw = self.raw_buffer(self.raw_bytes(&wanted, weights));
        let buffers = self.load_buffers(wanted, weights, &raw, progress).await?;
        self.recorder.close(scope, "load").await?;
        Ok(GpuWeights { id: self.next_weights_id(), buffers, streamed: None })
    }

    /// Makes and fills buffers of weights, one after another.
    pub(super) async fn load_buffers(
        &self,
        wanted: Vec<WeightBuffer>,
        weights: &Weights,
        raw: &Buffer,
        progress: &mut dyn FnMut(u64),
    ) -> Result<HashMap<WeightKey, Buffer>> {
        self.compile_packing(&wanted, weights)?;
        let mut buffers = HashMap::with_capacity(wanted.len());
        let (mut n_bytes, mut pace) = (0, Pace::default());
        for buffer in wanted {
            let placed = self.make(&buffer)?;
            self.fill(&buffer, weights, raw, placed.whole(), &|_| true).await?;
            let n_written = placed.n_bytes;
            n_bytes += buffer.parts.iter().filter_map(|part| weights.get(&part.name)).map(|i| i.n_bytes).sum::<u64>();
            buffers.insert(buffer.key, placed);
            progress(n_bytes);
            self.keep_pace(&mut pace, n_written).await?;
        }
        Ok(buffers)
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
        let scope = self.recorder.open_scope();
        let raw = match &loaded.streamed {
            Some(streamed) => {
                let raw = self.stream_from(streamed, weights, self.raw_bytes(&wanted, weights));
                wanted.retain(|buffer| !streamed.has(&buffer.key) && buffer.parts.iter().any(is_named));
                raw
            }
            None => {
                wanted.retain(|buffer| buffer.parts.iter().any(is_named));
                Rc::new(self.raw_buffer(self.raw_bytes(&wanted, weights)))
            }
        };
        let mut pace = Pace::default();
        for buffer in wanted {
            let Some(placed) = loaded.buffers.get(&buffer.key) else {
                return self.fail(&buffer.key.to_string(), "the weight is not loaded".into());
            };
            self.fill(&buffer, weights, &raw, placed.whole(), &is_named).await?;
            self.keep_pace(&mut pace, placed.n_bytes).await?;
        }
        self.recorder.close(scope, "load").await
    }

    /// What is written is copied once more on its way, until the device has taken it. It takes the last part while the next
    /// is read.
    pub(super) async fn keep_pace(&self, pace: &mut Pace, n_written: u64) -> Result<()> {
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

    /// Refuses a buffer of weights that no kernel can be bound to.
    pub(super) fn check_binding(&self, wanted: &WeightBuffer) -> Result<()> {
        let (needs, allows) = (wanted.n_bytes(), self.recorder.caps().max_binding_bytes);
        if needs > allows {
            return Err(Error::Limit { what: format!("the weight {}", wanted.key), needs, allows });
        }
        Ok(())
    }

    /// An empty buffer of weights.
    fn make(&self, wanted: &WeightBuffer) -> Result<Buffer> {
        self.check_binding(wanted)?;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        Ok(self.recorder.buffer(&wanted.key.to_string(), wanted.n_bytes(), usage, Purpose::Weights))
    }

    /// The tensors of one buffer that are asked for, a piece of the checkpoint at a time. `raw` has room for the largest
    /// slice of a matrix.
    pub(super) async fn fill(
        &self,
        wanted: &WeightBuffer,
        weights: &Weights,
        raw: &Buffer,
        to: Range<'_>,
        is_asked: &dyn Fn(&WeightSpec) -> bool,
    ) -> Result<()> {
        let layout = wanted.layout();
        match layout {
            WeightLayout::Vector => {
                let as_uploaded = if layout.weight_type() == WeightType::F32 { Raw::F32 } else { Raw::F16 };
                let mut at = 0;
                for part in &wanted.parts {
                    if is_asked(part) {
                        let all = [0, n_values(part)];
                        self.upload(part, all, weights, Range { offset: to.offset + at, ..to }, as_uploaded).await?;
                    }
                    at += layout.part_bytes(part);
                }
            }
            WeightLayout::Packed { .. } => {
                for (part, slices) in wanted.parts.iter().zip(slices(wanted, weights)) {
                    if !is_asked(part) {
                        continue;
                    }
                    for slice in slices {
                        let values = [slice.first, slice.n_values];
                        self.upload(part, values, weights, raw.whole(), slice.repack.raw).await?;
                        let n_bytes = slice.n_bytes().next_multiple_of(4).max(UNUSED_BYTES);
                        let raw = Range { buffer: raw, offset: 0, n_bytes };
                        let launch = repack::launch(&slice.repack)?;
                        self.run_once(&launch, repack::Bindings { raw, packed: to });
                    }
                }
            }
        }
        Ok(())
    }

    /// Values of a tensor of the checkpoint, the first and how many, to the beginning of a range, a piece at a time.
    async fn upload(
        &self,
        spec: &WeightSpec,
        [first, n_values]: [u64; 2],
        weights: &Weights,
        to: Range<'_>,
        as_uploaded: Raw,
    ) -> Result<()> {
        if self.recorder.is_planned() {
            self.recorder.count_upload(as_uploaded.bytes_of(n_values));
            return Ok(());
        }
        if as_uploaded.blocks().is_some() {
            let blocks = weights.read_blocks(&spec.name, first, n_values).await?;
            self.recorder.write(to.buffer, to.offset, &blocks);
            return Ok(());
        }
        let Some(info) = weights.get(&spec.name) else {
            return self.fail(&spec.name, "the weight is not in the checkpoint".into());
        };
        let dtype = info.dtype.clone();
        let from_bytes = dtype.n_bytes().unwrap_or(4) as u64;
        let piece = PIECE_BYTES / from_bytes.max(as_uploaded.bytes_of(1));
        let mut done = 0;
        while done < n_values {
            let n = piece.min(n_values - done);
            let bytes = weights.read_part(&spec.name, (first + done) * from_bytes, (n * from_bytes) as usize).await?;
            let at = to.offset + as_uploaded.bytes_of(done);
            if as_uploaded == Raw::F16 && dtype == Dtype::F16 {
                self.recorder.write(to.buffer, at, &bytes);
            } else {
                let Some(values) = f32_from_le_bytes(&dtype, &bytes) else {
                    return self.fail(&spec.name, format!("the weight has type {}", dtype.name()));
                };
                drop(bytes);
                match as_uploaded {
                    Raw::F32 => self.recorder.write(to.buffer, at, bytemuck::cast_slice(&values)),
                    Raw::F16 => {
                        self.recorder.write(to.buffer, at, bytemuck::cast_slice(&self.halves(&spec.name, &values)?));
                    }
                    Raw::Q8_0 | Raw::Q4_0 => {}
                }
            }
            done += n;
        }
        Ok(())
    }

    fn halves(&self, name: &str, values: &[f32]) -> Result<Vec<f16>> {
        let mut halves = vec![f16::ZERO; values.len()];
        halves.convert_from_f32_slice(values);
        if halves.iter().zip(values).any(|(half, value)| half.is_infinite() && value.is_finite()) {
            return self
                .fail(name, "the weight has values above 65504, which 16 bits cannot hold: use --weights f32".into());
        }
        Ok(halves)
    }
}
