//! What the WebGPU runner asks of a device, counted: bytes alive and at their peak, buffers, dispatches, submits, uploads
//! and readbacks. The same counts come from a real run and from one without a device, which is how a plan is made.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

use serde::Serialize;

use super::kernel::PipelineKey;

/// The counts since the ledger was opened, or since [`Counts::since`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Counts {
    /// Bytes of all buffers that exist now.
    pub live_bytes: u64,
    /// The most that [`Counts::live_bytes`] has been.
    pub peak_bytes: u64,
    /// Bytes of weights among the live ones.
    pub weight_bytes: u64,
    /// Bytes of the arena among the live ones.
    pub arena_bytes: u64,
    /// Bytes of everything else among the live ones: latents, keys and values, parameters.
    pub other_bytes: u64,
    /// Buffers made.
    pub buffers: u64,
    /// Bytes of buffers made.
    pub allocated_bytes: u64,
    /// The largest range that one binding saw.
    pub largest_binding_bytes: u64,
    /// Dispatches recorded.
    pub dispatches: u64,
    /// Command buffers submitted.
    pub submits: u64,
    /// Pipelines that dispatches were recorded with, each once, whenever they were compiled.
    pub pipelines: u64,
    /// Bind groups made.
    pub bind_groups: u64,
    /// Floating-point operations of the dispatches.
    pub flops: u64,
    /// Bytes that the dispatches' operands have, each counted once a dispatch.
    pub moved_bytes: u64,
    /// Bytes written from the host.
    pub uploaded_bytes: u64,
    /// Bytes of weights among them that were brought in while a program ran, because they did not stay.
    pub streamed_bytes: u64,
    /// Dispatches that packed these. [`Counts::dispatches`] is without them.
    pub streamed_dispatches: u64,
    /// Times the host waited for bytes.
    pub readbacks: u64,
    /// Bytes that it waited for.
    pub readback_bytes: u64,
}

impl Counts {
    /// What happened after `earlier`: differences, but for the bytes that are alive and their peak.
    #[must_use]
    pub fn since(&self, earlier: &Counts) -> Counts {
        Counts {
            buffers: self.buffers - earlier.buffers,
            allocated_bytes: self.allocated_bytes - earlier.allocated_bytes,
            dispatches: self.dispatches - earlier.dispatches,
            submits: self.submits - earlier.submits,
            pipelines: self.pipelines - earlier.pipelines,
            bind_groups: self.bind_groups - earlier.bind_groups,
            flops: self.flops - earlier.flops,
            moved_bytes: self.moved_bytes - earlier.moved_bytes,
            uploaded_bytes: self.uploaded_bytes - earlier.uploaded_bytes,
            streamed_bytes: self.streamed_bytes - earlier.streamed_bytes,
            streamed_dispatches: self.streamed_dispatches - earlier.streamed_dispatches,
            readbacks: self.readbacks - earlier.readbacks,
            readback_bytes: self.readback_bytes - earlier.readback_bytes,
            ..*self
        }
    }
}

/// What a buffer is for, for the shares of the sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Weights,
    Arena,
    Other,
}

/// The counts, shared by everything that one runner makes.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    counts: Counts,
    seen: HashSet<PipelineKey>,
}

impl Ledger {
    pub fn counts(&self) -> Counts {
        self.0.borrow().counts
    }

    /// Forgets the peak, which then is what is alive now.
    pub fn reset_peak(&self) {
        let counts = &mut self.0.borrow_mut().counts;
        counts.peak_bytes = counts.live_bytes;
    }

    pub fn update(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.0.borrow_mut().counts);
    }

    pub fn made(&self, purpose: Purpose, n_bytes: u64) {
        self.update(|counts| {
            counts.buffers += 1;
            counts.allocated_bytes += n_bytes;
            counts.live_bytes += n_bytes;
            counts.peak_bytes = counts.peak_bytes.max(counts.live_bytes);
            *share(counts, purpose) += n_bytes;
        });
    }

    pub fn destroyed(&self, purpose: Purpose, n_bytes: u64) {
        self.update(|counts| {
            counts.live_bytes -= n_bytes;
            *share(counts, purpose) -= n_bytes;
        });
    }

    /// Counts a pipeline that was not there before.
    pub fn compiled(&self, key: PipelineKey) {
        let mut state = self.0.borrow_mut();
        if state.seen.insert(key) {
            state.counts.pipelines += 1;
        }
    }
}

fn share(counts: &mut Counts, purpose: Purpose) -> &mut u64 {
    match purpose {
        Purpose::Weights => &mut counts.weight_bytes,
        Purpose::Arena => &mut counts.arena_bytes,
        Purpose::Other => &mut counts.other_bytes,
    }
}
