//! Weights from a checkpoint to the device, a bounded piece at a time.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::super::buffer::{Buffer, Range};
use super::super::kernel::{Launch, UNUSED_BYTES};
use super::super::kernels::products::add_low_rank;
use super::super::kernels::products::repack::{self, Raw};
use super::super::ledger::Purpose;
use super::super::recorder::Ticket;
use super::super::weight_layout::{WeightBuffer, WeightKey, WeightLayout, n_values};
use super::slices::{Added, Slice, least_raw_bytes, slices};
use super::{GpuRunner, GpuWeights};
use crate::error::{Error, Result};
use crate::graph::{Graph, WeightSpec};
use crate::weights::convert::f32_from_le_bytes;
use crate::weights::merged::{LowRank, Terms};
use crate::weights::{Dtype, WeightType, Weights};

/// Bytes of a checkpoint that are on the host at once while weights are loaded. Their conversion needs as much again.
pub(super) const PIECE_BYTES: u64 = 8 << 20;

/// The largest f16.
const MAX_F16: f32 = 65504.0;

/// Bytes of weights that were written and that the device has not taken, about.
const MAX_UNTAKEN_BYTES: u64 = 64 << 20;

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

    /// Bytes of the largest slice of a matrix as it is uploaded, before it is packed. Low-rank terms take no more than
    /// the slices of the weights without them.
    pub(super) fn raw_bytes(&self, wanted: &[WeightBuffer], weights: &Weights) -> u64 {
        let room = wanted.iter().map(|buffer| least_raw_bytes(buffer, weights)).max().unwrap_or(0);
        let slices = wanted.iter().flat_map(|buffer| slices(buffer, weights, room)).flatten();
        slices.map(|slice| slice.n_bytes()).max().unwrap_or(0).max(room)
    }

    /// Room for a slice of so many bytes.
    pub(super) fn raw_buffer(&self, n_bytes: u64) -> Buffer {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        self.recorder.buffer("raw weight", n_bytes, usage, Purpose::Other)
    }

    /// Has the kernels compiled that pack the buffers.
    pub(super) fn compile_packing(&self, wanted: &[WeightBuffer], weights: &Weights, raw: &Buffer) -> Result<()> {
        let slices = wanted.iter().flat_map(|buffer| slices(buffer, weights, raw.n_bytes)).flatten();
        let packing: Vec<Vec<Launch>> = slices.map(|slice| slice.launches()).collect::<Result<_>>()?;
        self.recorder.compile_ahead(packing.iter().flatten());
        Ok(())
    }

    /// The buffers of weights that the graphs read, one after another.
    pub(super) async fn load_weights(
        &self,
        graphs: &[Graph],
        weights: &Weights,
        progress: &mut dyn FnMut(u64) -> bool,
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
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<HashMap<WeightKey, Buffer>> {
        self.compile_packing(&wanted, weights, raw)?;
        let mut buffers = HashMap::with_capacity(wanted.len());
        let (mut n_bytes, mut pace) = (0, Pace::default());
        for buffer in wanted {
            let placed = self.make(&buffer)?;
            self.fill(&buffer, weights, raw, placed.whole(), &|_| true).await?;
            let n_written = placed.n_bytes;
            n_bytes += buffer.parts.iter().filter_map(|part| weights.get(&part.name)).map(|i| i.n_bytes).sum::<u64>();
            buffers.insert(buffer.key, placed);
            if !progress(n_bytes) {
                return Err(Error::Cancelled);
            }
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
        // As much as loading took, whichever tensors are replaced.
        let raw_bytes = self.raw_bytes(&wanted, weights);
        let raw = match &loaded.streamed {
            Some(streamed) => {
                let raw = self.stream_from(streamed, weights, raw_bytes);
                wanted.retain(|buffer| !streamed.has(&buffer.key) && buffer.parts.iter().any(is_named));
                raw
            }
            None => {
                wanted.retain(|buffer| buffer.parts.iter().any(is_named));
                Rc::new(self.raw_buffer(raw_bytes))
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
                for (part, slices) in wanted.parts.iter().zip(slices(wanted, weights, raw.n_bytes)) {
                    if is_asked(part) {
                        self.pack(part, &slices, weights, raw, to).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A tensor's slices to their places in a packed matrix. Where it is a sum with low-rank terms, the device adds.
    async fn pack(
        &self,
        part: &WeightSpec,
        slices: &[Slice],
        weights: &Weights,
        raw: &Buffer,
        to: Range<'_>,
    ) -> Result<()> {
        let adds = !self.recorder.is_planned() && slices.iter().any(|slice| slice.added.is_some());
        let low_rank = weights.low_rank(&part.name).filter(|_| adds);
        let terms = match &low_rank {
            Some(low_rank) => Some(low_rank.terms().await?),
            None => None,
        };
        let bound = terms.as_ref().map_or(0.0, Terms::bound);
        let mut has_right = false;
        for slice in slices {
            let added = slice.added.as_ref().zip(low_rank.as_ref().zip(terms.as_ref()));
            if let Some((added, (low_rank, terms))) = added {
                if !std::mem::replace(&mut has_right, true) {
                    let right = terms.right_rows(add_low_rank::COLUMNS);
                    self.recorder.write(raw, added.right, bytemuck::cast_slice(&right));
                }
                if self.upload_base(slice, added, low_rank, raw, bound).await? {
                    let left = terms.left_columns(slice.outputs(), add_low_rank::ROWS);
                    self.recorder.write(raw, added.left, bytemuck::cast_slice(&left));
                    let [base, left, right, sums] = added.ranges(raw);
                    let launch = add_low_rank::launch(&added.add)?;
                    self.run_once(&launch, add_low_rank::Bindings { base, left, right, sums });
                    self.run_once(&repack::launch(&slice.repack)?, repack::Bindings { raw: sums, packed: to });
                    continue;
                }
                // The sums may leave f16: the way below says which weight it is. It takes the room of the factors.
                has_right = false;
            }
            let slice = slice.without_terms();
            let values = [slice.first, slice.n_values];
            self.upload(part, values, weights, raw.whole(), slice.repack.raw).await?;
            let n_bytes = slice.n_bytes().next_multiple_of(4).max(UNUSED_BYTES);
            let raw = Range { buffer: raw, offset: 0, n_bytes };
            self.run_once(&repack::launch(&slice.repack)?, repack::Bindings { raw, packed: to });
        }
        Ok(())
    }

    /// The pristine values of a slice to their place; `false` where one of them plus `bound` is beyond f16 and the matrix is
    /// packed in that.
    async fn upload_base(
        &self,
        slice: &Slice,
        added: &Added,
        low_rank: &LowRank<'_>,
        raw: &Buffer,
        bound: f32,
    ) -> Result<bool> {
        let dtype = low_rank.base().dtype;
        let width = dtype.n_bytes().unwrap_or(4) as u64;
        let bytes = low_rank.read_base(slice.first * width, (slice.n_values * width) as usize).await?;
        let is_f16 = slice.repack.packed == WeightType::F16;
        if added.add.base == Raw::F16 {
            let magnitudes = bytes.as_chunks::<2>().0.iter().map(|bits| u16::from_le_bytes(*bits) & 0x7fff);
            let largest = f16::from_bits(magnitudes.fold(0, u16::max)).to_f32();
            let is_within = largest + bound <= MAX_F16;
            if is_f16 && !is_within {
                return Ok(false);
            }
            self.recorder.write(raw, added.base, &bytes);
            return Ok(true);
        }
        let Some(values) = f32_from_le_bytes(dtype, &bytes) else {
            return self.fail(low_rank.base().name, format!("the weight has type {}", dtype.name()));
        };
        drop(bytes);
        let is_within = |value: &f32| value.abs() + bound <= MAX_F16;
        if is_f16 && !values.iter().all(is_within) {
            return Ok(false);
        }
        self.recorder.write(raw, added.base, bytemuck::cast_slice(&values));
        Ok(true)
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
                if as_uploaded == Raw::F16 {
                    let halves = self.halves(&spec.name, &values)?;
                    self.recorder.write(to.buffer, at, bytemuck::cast_slice(&halves));
                } else {
                    self.recorder.write(to.buffer, at, bytemuck::cast_slice(&values));
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
