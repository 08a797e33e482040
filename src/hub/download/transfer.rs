//! Chunks, counters and progress of one file.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use web_time::Instant;

use super::super::http::Bell;
use super::Progress;
use crate::store::StoredFile;

/// What is counted over all files.
pub(super) struct Counters {
    pub(super) loaded_bytes: u64,
    pub(super) total_bytes: u64,
    /// Bytes received up to several moments of the last seconds, for the rate.
    pub(super) samples: VecDeque<(Instant, u64)>,
    pub(super) received_bytes: u64,
    pub(super) told: Option<Instant>,
}

/// State that the tasks of one file share.
pub(super) struct Transfer<'a> {
    pub(super) file: RefCell<StoredFile>,
    /// The chunks that the store has, with their digests.
    pub(super) present: RefCell<BTreeMap<u32, String>>,
    /// The first bytes of chunks whose transfer was cut.
    pub(super) partial: RefCell<BTreeMap<u32, Vec<u8>>>,
    /// How many requests with a range failed before any was answered; `None` once one was.
    pub(super) unanswered: Cell<Option<u32>>,
    /// Chunks that no task fetches yet.
    pub(super) queue: RefCell<VecDeque<u32>>,
    /// Chunks that came before their turn in the digest of the whole.
    pub(super) held: RefCell<BTreeMap<u32, Vec<u8>>>,
    /// The chunk that the digest of the whole needs next.
    pub(super) next_chunk: Cell<u32>,
    pub(super) digest: RefCell<Option<String>>,
    pub(super) bell: Bell,
    /// The address behind the redirect.
    pub(super) direct_url: RefCell<Option<String>>,
    /// The server asked for no request before this moment.
    pub(super) not_before: Cell<Option<Instant>>,
    pub(super) file_loaded_bytes: Cell<u64>,
    pub(super) counters: &'a RefCell<Counters>,
    pub(super) on_progress: &'a dyn Fn(Progress<'_>),
}

impl Transfer<'_> {
    pub(super) fn is_done(&self) -> bool {
        self.digest.borrow().is_some()
    }

    /// Counts bytes that came, or that were lost again.
    pub(super) fn count(&self, received: u64, lost: u64) {
        let mut counters = self.counters.borrow_mut();
        counters.received_bytes += received;
        counters.loaded_bytes = (counters.loaded_bytes + received).saturating_sub(lost);
        self.file_loaded_bytes.set((self.file_loaded_bytes.get() + received).saturating_sub(lost));
        let now = Instant::now();
        if counters.told.is_some_and(|told| now.duration_since(told) < PROGRESS_INTERVAL) {
            return;
        }
        counters.told = Some(now);
        drop(counters);
        self.tell();
    }

    pub(super) fn tell(&self) {
        let file = self.file.borrow();
        let mut counters = self.counters.borrow_mut();
        let now = Instant::now();
        let received_bytes = counters.received_bytes;
        counters.samples.push_back((now, received_bytes));
        while counters.samples.len() > 2 && counters.samples.front().is_some_and(|(at, _)| now - *at > RATE_WINDOW) {
            counters.samples.pop_front();
        }
        let (since, received) = counters.samples.front().copied().unwrap_or((now, received_bytes));
        let secs = (now - since).as_secs_f64();
        let bytes_per_sec = if secs > 0.05 { (received_bytes - received) as f64 / secs } else { 0.0 };
        let loaded_bytes = counters.loaded_bytes.min(counters.total_bytes);
        let left = (counters.total_bytes - loaded_bytes) as f64;
        let progress = Progress {
            path: &file.path,
            file_loaded_bytes: self.file_loaded_bytes.get().min(file.bytes),
            file_bytes: file.bytes,
            loaded_bytes,
            total_bytes: counters.total_bytes,
            bytes_per_sec,
            secs_left: (bytes_per_sec > 0.0).then(|| left / bytes_per_sec),
        };
        drop(counters);
        (self.on_progress)(progress);
    }
}

/// Counts bytes of a running request; takes them off again when it fails or is dropped.
pub(super) struct Counted<'a> {
    pub(super) transfer: &'a Transfer<'a>,
    pub(super) bytes: Cell<u64>,
}

impl Counted<'_> {
    pub(super) fn add(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
        self.transfer.count(bytes, 0);
    }

    /// The bytes are in the store.
    pub(super) fn settle(self) {
        self.bytes.set(0);
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let lost = self.bytes.get();
        let mut counters = self.transfer.counters.borrow_mut();
        counters.loaded_bytes = counters.loaded_bytes.saturating_sub(lost);
        self.transfer.file_loaded_bytes.set(self.transfer.file_loaded_bytes.get().saturating_sub(lost));
    }
}

/// The time over which the rate is averaged.
const RATE_WINDOW: Duration = Duration::from_secs(5);

/// How often progress is told at most.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
