//! Weights that are brought to the device while a program runs, for components that are larger than the memory that their
//! weights may take.
//!
//! Some of a component's buffers stay on the device. The others have one ring, in which the weights of a group of
//! dispatches lie side by side. Everything goes through one queue in order: a group's weights are written behind the
//! dispatches of the group before, so the host reads and converts the next weights while the device computes, no more than
//! [`super::load`]'s bound ahead of it.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::super::buffer::{Buffer, Range};
use super::super::kernel::UNUSED_BYTES;
use super::super::ledger::Purpose;
use super::super::program::groups::{Group, cut, ring_bytes};
use super::super::weight_layout::{WeightBuffer, WeightKey, WeightLayout};
use super::load::Pace;
use super::{GpuProgram, GpuRunner, GpuWeights};
use crate::error::Result;
use crate::graph::Graph;
use crate::weights::Weights;

/// The weights of a component that do not stay on the device.
#[derive(Debug)]
pub(super) struct Streamed {
    /// Where they are read from, each time they are needed.
    weights: RefCell<Weights>,
    buffers: HashMap<WeightKey, WeightBuffer>,
    ring: Buffer,
    /// Room for a slice before it is packed.
    raw: RefCell<Rc<Buffer>>,
}

/// Which buffers stay, and how large the ring for the others is.
struct Division {
    kept: Vec<WeightBuffer>,
    streamed: Vec<WeightBuffer>,
    ring: u64,
}

/// Bytes of a weight's buffer on the device, or of its place in the ring that is bound.
fn device_bytes(buffer: &WeightBuffer) -> u64 {
    buffer.n_bytes().next_multiple_of(4).max(UNUSED_BYTES)
}

impl Streamed {
    /// The part of the ring that has a weight while a group runs.
    pub fn range(&self, group: &Group, key: &WeightKey) -> Option<Range<'_>> {
        let (offset, buffer) = group.place(key).zip(self.buffers.get(key))?;
        Some(Range { buffer: &self.ring, offset, n_bytes: device_bytes(buffer) })
    }

    /// Whether a weight is streamed.
    pub fn has(&self, key: &WeightKey) -> bool {
        self.buffers.contains_key(key)
    }
}

impl GpuWeights {
    /// Where a weight is while a group of dispatches runs.
    pub(super) fn place(&self, key: &WeightKey, group: &Group) -> Option<Range<'_>> {
        let kept = self.buffers.get(key).map(Buffer::whole);
        kept.or_else(|| self.streamed.as_ref().and_then(|streamed| streamed.range(group, key)))
    }
}

impl GpuRunner {
    /// The weights that the graphs read, of which at most `most_bytes` are on the device at once, with what loading them
    /// takes: all of them where they fit, else as many as fit beside the ring. Where even the ring does not fit, as few as
    /// possible.
    pub(super) async fn load_weights_within(
        &self,
        graphs: &[Graph],
        weights: &Weights,
        most_bytes: u64,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<GpuWeights> {
        let wanted = self.wanted(graphs, weights);
        let raw_bytes = self.raw_bytes(&wanted, weights);
        let total = wanted.iter().map(device_bytes).sum::<u64>() + raw_bytes;
        if total <= most_bytes {
            return self.load_weights(graphs, weights, progress).await;
        }
        let Division { kept, streamed, ring } = self.divide(graphs, wanted, most_bytes.saturating_sub(raw_bytes));
        streamed.iter().try_for_each(|buffer| self.check_binding(buffer))?;
        let scope = self.recorder.open_scope();
        let raw = self.raw_buffer(raw_bytes);
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let ring = self.recorder.buffer("streamed weights", ring, usage, Purpose::Weights);
        self.compile_packing(&streamed, weights, &raw)?;
        let buffers = self.load_buffers(kept, weights, &raw, progress).await?;
        self.recorder.close(scope, "load").await?;
        let buffers_streamed = streamed.into_iter().map(|buffer| (buffer.key.clone(), buffer)).collect();
        let streamed = Streamed {
            weights: RefCell::new(weights.clone()),
            buffers: buffers_streamed,
            ring,
            raw: RefCell::new(Rc::new(raw)),
        };
        Ok(GpuWeights { id: self.next_weights_id(), buffers, streamed: Some(streamed) })
    }

    /// Chooses what stays. Biases and norms always do: they are small. Of the others those go first that only graphs before
    /// the last read, which run once for a picture and not in each step; then the smaller ones, because large matrices have
    /// the least work for a byte and make the largest ring.
    fn divide(&self, graphs: &[Graph], wanted: Vec<WeightBuffer>, most_bytes: u64) -> Division {
        let is_small = |buffer: &WeightBuffer| matches!(buffer.layout(), WeightLayout::Vector);
        let mut tasks: Vec<Vec<WeightBuffer>> = Vec::new();
        let mut of_last = HashSet::new();
        for (i, graph) in graphs.iter().enumerate() {
            let lowered = self.lowered.of(graph);
            for task in &lowered.tasks {
                let buffers = task.weights(graph, &lowered.values);
                if i + 1 == graphs.len() {
                    of_last.extend(buffers.iter().map(|buffer| buffer.key.clone()));
                }
                tasks.push(buffers);
            }
        }
        let mut order: Vec<&WeightBuffer> = wanted.iter().filter(|buffer| !is_small(buffer)).collect();
        order.sort_by_key(|buffer| (!of_last.contains(&buffer.key), u64::MAX - device_bytes(buffer), &buffer.key));
        let small: u64 = wanted.iter().filter(|buffer| is_small(buffer)).map(device_bytes).sum();
        let mut stays: HashSet<WeightKey> = HashSet::new();
        let ring_for = |stays: &HashSet<WeightKey>| {
            let is_streamed = |buffer: &&WeightBuffer| !is_small(buffer) && !stays.contains(&buffer.key);
            let of_task = |buffers: &Vec<WeightBuffer>| {
                buffers.iter().filter(is_streamed).map(|buffer| ring_bytes(device_bytes(buffer))).sum::<u64>()
            };
            tasks.iter().map(of_task).max().unwrap_or(0)
        };
        let mut ring = ring_for(&stays);
        // What stays may make the ring smaller, which leaves room for more to stay.
        for _ in 0..2 {
            let mut left = most_bytes.saturating_sub(small + ring);
            let mut more = HashSet::new();
            for buffer in &order {
                let n_bytes = device_bytes(buffer);
                if n_bytes <= left {
                    left -= n_bytes;
                    more.insert(buffer.key.clone());
                }
            }
            let ring_for_more = ring_for(&more);
            // Other weights stay, and the room was counted with a smaller ring than the rest needs.
            if ring_for_more > ring {
                break;
            }
            (stays, ring) = (more, ring_for_more);
        }
        let (kept, streamed) = wanted.into_iter().partition(|buffer| is_small(buffer) || stays.contains(&buffer.key));
        Division { kept, streamed, ring }
    }

    /// The groups of a program's dispatches; one where all weights stay.
    pub(super) fn groups(&self, program: &GpuProgram, weights: &GpuWeights) -> Result<Vec<Group>> {
        let dispatches = &program.program.dispatches;
        let Some(streamed) = &weights.streamed else {
            return Ok(vec![Group { end: dispatches.len(), places: Vec::new() }]);
        };
        let bytes_of = |key: &WeightKey| streamed.buffers.get(key).map(device_bytes);
        cut(dispatches, bytes_of, streamed.ring.n_bytes).or_else(|idx| {
            self.fail(&dispatches[idx].name, "the weights of one dispatch are more than their ring holds".into())
        })
    }

    /// Brings a group's weights into the ring, behind what was submitted.
    pub(super) async fn bring(&self, weights: &GpuWeights, group: &Group, pace: &mut Pace) -> Result<()> {
        let Some(streamed) = weights.streamed.as_ref().filter(|_| !group.places.is_empty()) else { return Ok(()) };
        let before = self.recorder.counts();
        let source = streamed.weights.borrow().clone();
        let raw = Rc::clone(&streamed.raw.borrow());
        for (key, _) in &group.places {
            let Some((buffer, to)) = streamed.buffers.get(key).zip(streamed.range(group, key)) else { continue };
            self.fill(buffer, &source, &raw, to, &|_| true).await?;
            self.keep_pace(pace, to.n_bytes).await?;
        }
        self.recorder.count_streamed(&before);
        Ok(())
    }

    /// Has another source for streamed weights, whose types may be others: its largest slice has `raw_bytes`. Returns the room
    /// for one.
    pub(super) fn stream_from(&self, streamed: &Streamed, weights: &Weights, raw_bytes: u64) -> Rc<Buffer> {
        streamed.weights.replace(weights.clone());
        if raw_bytes > streamed.raw.borrow().n_bytes {
            streamed.raw.replace(Rc::new(self.raw_buffer(raw_bytes)));
        }
        Rc::clone(&streamed.raw.borrow())
    }
}
