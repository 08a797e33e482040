//! Fills a store from the Hub: a few ranges at a time, each one chunk, resumed at the first chunk that is not there.
//!
//! A chunk is hashed as it comes and written once, with its digest. The digest of the whole file needs the chunks in
//! order. Those that come in order, or a little early, are hashed from memory; those of an earlier run, and those that
//! came much too early, are read back from the store, which checks them as well: a chunk that a crash damaged is fetched
//! again alone. So an undisturbed download reads nothing twice. A cut transfer goes on at the byte where it was cut; when
//! the program itself ends, what it had of unfinished chunks is lost, at most 4 MiB a request: a chunk can only be verified
//! as a whole, and nothing unverified is ever kept.
//!
//! A server that gives no ranges, or that no request with a range gets through to, is read as one stream, of which the chunks that are there already are skipped. A file
//! whose tag changes between two ranges, or whose digest is wrong in the end, is discarded and started again.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use web_time::Instant;

use super::http::{Bell, Cancel, Get, Http, Reply, all, first};
use super::remote::{Remote, is_html};
use super::retry::{MAX_RETRY_AFTER_MS, backoff_ms, is_passing, retry_after_ms};
use crate::error::{Error, Result};
use crate::store::{CHUNK_BYTES, Manifest, Sha256Stream, Store, StoredFile, sha256_hex};

/// How many chunks that came early wait in memory for their turn in the digest of the whole.
const N_HELD: usize = 4;

/// Requests with a range that may fail before any was answered; then it is tried without.
const MAX_UNANSWERED: u32 = 4;

/// How often a file is started again because it changed or its digest was wrong.
const MAX_RESTARTS: u32 = 2;

/// The time over which the rate is averaged.
const RATE_WINDOW: Duration = Duration::from_secs(5);

/// How often progress is told at most.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// How a download behaves.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How many requests are under way at once.
    pub n_parallel: usize,
    /// How often a chunk is asked for before its failure counts.
    pub max_attempts: u32,
    /// The wait after the first failure, doubled with each further one, in milliseconds.
    pub base_ms: u64,
    /// The longest wait between two attempts, in milliseconds, unless the server asks for a longer one.
    pub max_ms: u64,
    /// How long a transfer may give nothing before it counts as broken, in milliseconds.
    pub stall_ms: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { n_parallel: 4, max_attempts: 6, base_ms: 500, max_ms: 30_000, stall_ms: 30_000 }
    }
}

/// How far a download is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress<'a> {
    /// The file that is being loaded.
    pub path: &'a str,
    /// How many of its bytes are there. It falls back when a transfer breaks.
    pub file_loaded_bytes: u64,
    /// Its length.
    pub file_bytes: u64,
    /// How many bytes of all files are there.
    pub loaded_bytes: u64,
    /// The length of all files.
    pub total_bytes: u64,
    /// What came over the network in the last seconds.
    pub bytes_per_sec: f64,
    /// How long the rest takes at this rate; nothing before there is a rate.
    pub secs_left: Option<f64>,
}

/// Downloads one model at a time.
pub struct Download<'a> {
    /// The network.
    pub http: &'a dyn Http,
    /// Where chunks go.
    pub store: &'a dyn Store,
    /// Where they come from.
    pub remote: &'a Remote,
    /// Stops it.
    pub cancel: Cancel,
    /// How it behaves.
    pub patience: Patience,
}

/// Why an attempt at a chunk or a stream ended.
enum Fault {
    /// It may go better the next time, at the earliest after so many milliseconds.
    Passing(String, u64),
    /// The address behind the redirect is used up; the first one gives another.
    Expired,
    /// What no repetition mends.
    Lasting(Error),
    /// The server gives no ranges.
    NoRanges,
    /// The file is no longer the one that the first chunks are of.
    Changed,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Lasting(error)
    }
}

/// Why the work on a file ended before its end.
enum Stop {
    Failed(Error),
    NoRanges,
    Changed,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Failed(error)
    }
}

/// What is counted over all files.
struct Counters {
    loaded_bytes: u64,
    total_bytes: u64,
    /// What came over the network up to some moments of the last seconds.
    samples: VecDeque<(Instant, u64)>,
    received_bytes: u64,
    told: Option<Instant>,
}

/// One file under way.
struct Transfer<'a> {
    file: RefCell<StoredFile>,
    /// The chunks that the store has, with their digests.
    present: RefCell<BTreeMap<u32, String>>,
    /// What cut transfers brought of chunks that are not whole yet.
    partial: RefCell<BTreeMap<u32, Vec<u8>>>,
    /// Requests with a range that the network ate before any was answered; nothing once one was.
    unanswered: Cell<Option<u32>>,
    /// The chunks that nobody fetches yet.
    queue: RefCell<VecDeque<u32>>,
    /// Chunks that came early.
    held: RefCell<BTreeMap<u32, Vec<u8>>>,
    /// Chunks that are not yet part of the digest of the whole, for which it pays to hold them.
    next_chunk: Cell<u32>,
    digest: RefCell<Option<String>>,
    bell: Bell,
    /// The address behind the redirect.
    direct_url: RefCell<Option<String>>,
    /// The server asked to be left alone until then.
    not_before: Cell<Option<Instant>>,
    file_loaded_bytes: Cell<u64>,
    counters: &'a RefCell<Counters>,
    on_progress: &'a dyn Fn(Progress<'_>),
}

impl Transfer<'_> {
    fn is_done(&self) -> bool {
        self.digest.borrow().is_some()
    }

    /// Counts bytes that came, or that were lost again.
    fn count(&self, received: u64, lost: u64) {
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

    fn tell(&self) {
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

impl Download<'_> {
    /// Brings a model into the store: all that `wanted`, from [`Remote::find`], lists and the store lacks. Waits while
    /// somebody else does the same. Gives the manifest as it is in the end, complete.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::StoreFull`] with how much is missing, [`Error::Store`], and [`Error::Hub`] that
    /// says what the server refused or did wrong. Whatever chunks are there stay, and the next call goes on with them.
    pub async fn run(&self, wanted: Manifest, on_progress: &mut dyn FnMut(Progress<'_>)) -> Result<Manifest> {
        self.cancel.run(self.run_to_end(wanted, on_progress)).await
    }

    async fn run_to_end(&self, wanted: Manifest, on_progress: &mut dyn FnMut(Progress<'_>)) -> Result<Manifest> {
        let _lock = self.store.lock(&wanted.model).await?;
        let mut manifest = self.adopt(wanted).await?;
        let missing_bytes = missing_bytes(self.store, &manifest).await?;
        let free_bytes = self.store.space().await?.free_bytes();
        if free_bytes.is_some_and(|free| free < missing_bytes) {
            return Err(Error::StoreFull { missing_bytes, free_bytes });
        }
        let total_bytes = manifest.total_bytes();
        let counters = RefCell::new(Counters {
            loaded_bytes: total_bytes - missing_bytes,
            total_bytes,
            samples: VecDeque::new(),
            received_bytes: 0,
            told: None,
        });
        let on_progress = RefCell::new(on_progress);
        let on_progress = |progress: Progress<'_>| (on_progress.borrow_mut())(progress);
        for i in 0..manifest.files.len() {
            if !manifest.files[i].complete {
                match self.file(&mut manifest, i, &counters, &on_progress).await {
                    // Only here is it known how much is missing in all.
                    Err(Error::StoreFull { free_bytes, .. }) => {
                        let missing_bytes = crate::hub::download::missing_bytes(self.store, &manifest).await?;
                        return Err(Error::StoreFull { missing_bytes, free_bytes });
                    }
                    done => done?,
                }
            }
        }
        Ok(manifest)
    }

    /// Takes over what the store has of the model: all of it where it is of the same commit, else the files whose
    /// digests are the same.
    async fn adopt(&self, mut wanted: Manifest) -> Result<Manifest> {
        let Some(stored) = self.store.manifest(&wanted.model).await? else {
            self.store.write_manifest(&wanted).await?;
            return Ok(wanted);
        };
        for file in &mut wanted.files {
            if let Some(known) = stored.file(&file.path) {
                let same_content = file.sha256.is_some() && known.sha256 == file.sha256;
                if known.bytes == file.bytes && (same_content || stored.commit == wanted.commit) {
                    *file = StoredFile { sha256: file.sha256.take(), ..known.clone() };
                } else {
                    self.store.remove_file(&wanted.model, &known.path).await?;
                }
            }
        }
        let kept: BTreeSet<&str> = wanted.files.iter().map(|file| file.path.as_str()).collect();
        for file in stored.files.iter().filter(|file| !kept.contains(file.path.as_str())) {
            self.store.remove_file(&wanted.model, &file.path).await?;
        }
        self.store.write_manifest(&wanted).await?;
        Ok(wanted)
    }

    /// Brings one file.
    async fn file(
        &self,
        manifest: &mut Manifest,
        index: usize,
        counters: &RefCell<Counters>,
        on_progress: &dyn Fn(Progress<'_>),
    ) -> Result<()> {
        let mut with_ranges = manifest.files[index].n_chunks() > 1;
        let mut n_restarts = 0;
        loop {
            let (digest, expected) = match self.attempt(manifest, index, with_ranges, counters, on_progress).await {
                Ok(digest) => (digest, manifest.files[index].sha256.clone()),
                Err(Stop::NoRanges) => {
                    with_ranges = false;
                    continue;
                }
                Err(Stop::Changed) => (None, None),
                Err(Stop::Failed(error)) => return Err(error),
            };
            if digest.is_some() && (expected.is_none() || expected == digest) {
                manifest.files[index].complete = true;
                return self.store.write_manifest(manifest).await;
            }
            // What came is not what it should be, and it cannot be told which chunk is at fault.
            let file = &mut manifest.files[index];
            let lost: u64 = self.chunk_bytes(&manifest.model, file).await?;
            self.store.remove_file(&manifest.model, &file.path).await?;
            file.etag = None;
            let mut counted = counters.borrow_mut();
            counted.loaded_bytes = counted.loaded_bytes.saturating_sub(lost);
            drop(counted);
            n_restarts += 1;
            if n_restarts > MAX_RESTARTS {
                let reason = match digest {
                    Some(digest) => format!(
                        "{} came {n_restarts} times with other content than published (SHA-256 {digest} instead of {}): \
                         something between here and the Hub changes it",
                        file.path,
                        expected.unwrap_or_default()
                    ),
                    None => format!("{} changes while it is being downloaded: try again later", file.path),
                };
                return Err(Error::Hub { repo: manifest.model.clone(), reason });
            }
        }
    }

    /// How many bytes of a file are in the store.
    async fn chunk_bytes(&self, model: &str, file: &StoredFile) -> Result<u64> {
        Ok(self.store.chunks(model, &file.path).await?.keys().map(|chunk| file.chunk_bytes(*chunk)).sum())
    }

    /// Brings all chunks of a file that are absent, and gives the digest of the whole.
    async fn attempt(
        &self,
        manifest: &mut Manifest,
        index: usize,
        with_ranges: bool,
        counters: &RefCell<Counters>,
        on_progress: &dyn Fn(Progress<'_>),
    ) -> Result<Option<String>, Stop> {
        let file = manifest.files[index].clone();
        let present = self.store.chunks(&manifest.model, &file.path).await?;
        let n_chunks = file.n_chunks();
        let transfer = Transfer {
            queue: RefCell::new((0..n_chunks).filter(|chunk| !present.contains_key(chunk)).collect()),
            file_loaded_bytes: Cell::new(present.keys().map(|chunk| file.chunk_bytes(*chunk)).sum()),
            present: RefCell::new(present),
            partial: RefCell::default(),
            unanswered: Cell::new(Some(0)),
            file: RefCell::new(file),
            held: RefCell::default(),
            next_chunk: Cell::new(0),
            digest: RefCell::default(),
            bell: Bell::default(),
            direct_url: RefCell::default(),
            not_before: Cell::new(None),
            counters,
            on_progress,
        };
        transfer.tell();
        let shared = RefCell::new(&mut *manifest);
        let worker = Worker { download: self, transfer: &transfer, manifest: &shared, index };
        let mut tasks: Vec<crate::store::LocalFuture<'_, Result<(), Stop>>> = vec![Box::pin(worker.digest_in_order())];
        if with_ranges {
            for _ in 0..self.patience.n_parallel.max(1) {
                tasks.push(Box::pin(worker.fetch_ranges()));
            }
        } else {
            tasks.push(Box::pin(worker.fetch_stream()));
        }
        let done = all(tasks).await;
        let lost = transfer.partial.borrow().values().map(|bytes| bytes.len() as u64).sum();
        if done.is_err() && lost > 0 {
            transfer.count(0, lost);
        }
        done?;
        transfer.tell();
        Ok(transfer.digest.take())
    }
}

/// How many bytes a model lacks in a store.
///
/// # Errors
/// Where the store cannot be read.
pub async fn missing_bytes(store: &dyn Store, manifest: &Manifest) -> Result<u64> {
    let mut missing = 0;
    for file in manifest.files.iter().filter(|file| !file.complete) {
        let chunks = store.chunks(&manifest.model, &file.path).await?;
        missing += file.bytes - chunks.keys().map(|chunk| file.chunk_bytes(*chunk)).sum::<u64>().min(file.bytes);
    }
    Ok(missing)
}

/// What the tasks of one file share.
struct Worker<'a, 'm> {
    download: &'a Download<'a>,
    transfer: &'a Transfer<'a>,
    manifest: &'a RefCell<&'m mut Manifest>,
    index: usize,
}

impl Worker<'_, '_> {
    fn model(&self) -> String {
        self.manifest.borrow().model.clone()
    }

    /// Hashes the chunks in order, from memory where they are still there, else from the store.
    async fn digest_in_order(&self) -> Result<(), Stop> {
        let (transfer, store) = (self.transfer, self.download.store);
        let file = transfer.file.borrow().clone();
        let model = self.model();
        let mut whole = Sha256Stream::default();
        let mut chunk = 0;
        while chunk < file.n_chunks() {
            transfer.next_chunk.set(chunk);
            transfer.bell.wait_until(|| transfer.present.borrow().contains_key(&chunk)).await;
            let held = transfer.held.borrow_mut().remove(&chunk);
            let bytes = match held {
                Some(bytes) => bytes,
                None => match self.read_back(&model, &file, chunk).await? {
                    Some(bytes) => bytes,
                    None => {
                        store.remove_chunk(&model, &file.path, chunk).await?;
                        transfer.present.borrow_mut().remove(&chunk);
                        transfer.count(0, file.chunk_bytes(chunk));
                        transfer.queue.borrow_mut().push_front(chunk);
                        transfer.bell.ring();
                        continue;
                    }
                },
            };
            whole.update(&bytes);
            chunk += 1;
        }
        transfer.digest.replace(Some(whole.finish()));
        transfer.bell.ring();
        Ok(())
    }

    /// A chunk from the store, or nothing when it is not what it was.
    async fn read_back(&self, model: &str, file: &StoredFile, chunk: u32) -> Result<Option<Vec<u8>>> {
        let expected = self.transfer.present.borrow().get(&chunk).cloned();
        let n_bytes = file.chunk_bytes(chunk) as usize;
        let mut bytes = Vec::with_capacity(n_bytes);
        let read = self.download.store.read_chunk(model, &file.path, chunk, 0, n_bytes, &mut bytes).await;
        Ok((read.is_ok() && Some(sha256_hex(&bytes)) == expected).then_some(bytes))
    }

    /// Takes chunk after chunk from the queue.
    async fn fetch_ranges(&self) -> Result<(), Stop> {
        let transfer = self.transfer;
        loop {
            transfer.bell.wait_until(|| transfer.is_done() || !transfer.queue.borrow().is_empty()).await;
            if transfer.is_done() {
                return Ok(());
            }
            let Some(chunk) = transfer.queue.borrow_mut().pop_front() else { continue };
            let n_there = || self.transfer.partial.borrow().get(&chunk).map_or(0, Vec::len);
            self.repeat(async || self.fetch_range(chunk).await, n_there).await?;
        }
    }

    /// Reads the file from its start as long as chunks are absent.
    async fn fetch_stream(&self) -> Result<(), Stop> {
        let transfer = self.transfer;
        loop {
            transfer.bell.wait_until(|| transfer.is_done() || !transfer.queue.borrow().is_empty()).await;
            if transfer.is_done() {
                return Ok(());
            }
            self.repeat(async || self.fetch_whole().await, || self.transfer.present.borrow().len()).await?;
        }
    }

    /// Makes attempts until one succeeds or there is no hope. An attempt after which more is there than before counts as
    /// the first one again: a transfer that breaks now and then is none that never works.
    async fn repeat(
        &self,
        attempt: impl AsyncFn() -> Result<(), Fault>,
        progress: impl Fn() -> usize,
    ) -> Result<(), Stop> {
        let patience = self.download.patience;
        let mut n_failed = 0;
        let mut n_there = progress();
        loop {
            if let Some(wait) = self.transfer.not_before.get().and_then(|at| at.checked_duration_since(Instant::now()))
            {
                self.download.http.sleep(wait.as_millis() as u64 + 1).await;
            }
            let (reason, after_ms) = match attempt().await {
                Ok(()) => return Ok(()),
                Err(Fault::Passing(reason, after_ms)) => (reason, after_ms),
                Err(Fault::Expired) => {
                    self.transfer.direct_url.replace(None);
                    ("the address behind the redirect is used up".to_owned(), 0)
                }
                Err(Fault::NoRanges) => return Err(Stop::NoRanges),
                Err(Fault::Changed) => return Err(Stop::Changed),
                Err(Fault::Lasting(error)) => return Err(Stop::Failed(error)),
            };
            let n_now = progress();
            n_failed = if n_now > n_there { 1 } else { n_failed + 1 };
            n_there = n_now;
            if n_failed >= patience.max_attempts {
                let path = self.transfer.file.borrow().path.clone();
                let reason = format!(
                    "{path}: {reason}, {n_failed} times in a row: what came is kept, and downloading again goes on there"
                );
                return Err(Stop::Failed(Error::Hub { repo: self.model(), reason }));
            }
            let wait_ms =
                backoff_ms(n_failed, patience.base_ms, patience.max_ms, self.download.http.jitter()).max(after_ms);
            if after_ms > 0 {
                self.transfer.not_before.set(Some(Instant::now() + Duration::from_millis(after_ms)));
            }
            self.download.http.sleep(wait_ms).await;
        }
    }

    /// One request for what is absent of one chunk.
    async fn fetch_range(&self, chunk: u32) -> Result<(), Fault> {
        let (chunk_start, end) = self.transfer.file.borrow().range(chunk);
        let n_there = self.transfer.partial.borrow().get(&chunk).map_or(0, Vec::len);
        let start = chunk_start + n_there as u64;
        let mut reply = self.open(Some((start, end))).await?;
        let total = self.transfer.file.borrow().bytes;
        match reply.status() {
            206 => {}
            _ => return Err(Fault::NoRanges),
        }
        // Another host may keep the header to itself; the length of the body still has to fit.
        if let Some(header) = reply.header("content-range") {
            let expected = format!("bytes {start}-{}/", end - 1);
            let rest = header.strip_prefix(&expected);
            if rest.is_none_or(|rest| rest != "*" && rest != total.to_string()) {
                return Err(Fault::Passing(format!("{header} came instead of {expected}{total}"), 0));
            }
        }
        let mut counted = Counted { transfer: self.transfer, bytes: Cell::new(0) };
        let n_bytes = (end - chunk_start) as usize;
        let mut came = Vec::with_capacity(n_bytes - n_there);
        let ended = loop {
            match self.next(&mut *reply).await {
                Ok(None) if n_there + came.len() < n_bytes => {
                    let reason = format!("the transfer ended after {} of {n_bytes} bytes", n_there + came.len());
                    break Err(Fault::Passing(reason, 0));
                }
                Ok(None) => break Ok(()),
                Ok(Some(piece)) if n_there + came.len() + piece.len() > n_bytes => {
                    // Which of them are the right ones, nobody knows.
                    let reason = format!("more than the {} bytes that were asked for came", end - start);
                    return Err(Fault::Passing(reason, 0));
                }
                Ok(Some(piece)) => {
                    counted.add(piece.len() as u64);
                    came.extend_from_slice(&piece);
                }
                Err(fault) => break Err(fault),
            }
        };
        counted.settle();
        counted = Counted { transfer: self.transfer, bytes: Cell::new(0) };
        self.transfer.partial.borrow_mut().entry(chunk).or_default().extend_from_slice(&came);
        ended?;
        let bytes = self.transfer.partial.borrow_mut().remove(&chunk).unwrap_or_default();
        // Should it not be kept after all, it does not count any more.
        counted.bytes.set(bytes.len() as u64);
        refuse_html(&bytes, chunk_start, &self.model(), &self.transfer.file.borrow().path)?;
        let digest = sha256_hex(&bytes);
        self.keep(chunk, bytes, digest).await?;
        counted.settle();
        Ok(())
    }

    /// One request for everything, of which the chunks that are there are skipped.
    async fn fetch_whole(&self) -> Result<(), Fault> {
        let mut reply = self.open(None).await?;
        let file = self.transfer.file.borrow().clone();
        let mut chunk = 0;
        let mut bytes: Vec<u8> = Vec::new();
        let mut digest = Sha256Stream::default();
        let mut counted = Counted { transfer: self.transfer, bytes: Cell::new(0) };
        let mut n_received: u64 = 0;
        while let Some(piece) = self.next(&mut *reply).await? {
            let mut rest = &piece[..];
            n_received += piece.len() as u64;
            if n_received > file.bytes {
                return Err(Fault::Passing(format!("more than the announced {} bytes came", file.bytes), 0));
            }
            while !rest.is_empty() {
                let n_wanted = file.chunk_bytes(chunk) as usize - bytes.len();
                let (now, later) = rest.split_at(n_wanted.min(rest.len()));
                rest = later;
                bytes.extend_from_slice(now);
                digest.update(now);
                let is_there = self.transfer.present.borrow().contains_key(&chunk);
                if !is_there {
                    counted.add(now.len() as u64);
                }
                if bytes.len() as u64 == file.chunk_bytes(chunk) {
                    let full = std::mem::take(&mut bytes);
                    let sha256 = std::mem::take(&mut digest).finish();
                    if !is_there {
                        refuse_html(&full, u64::from(chunk) * CHUNK_BYTES, &self.model(), &file.path)?;
                        self.transfer.queue.borrow_mut().retain(|queued| *queued != chunk);
                        self.keep(chunk, full, sha256).await?;
                    }
                    counted.settle();
                    counted = Counted { transfer: self.transfer, bytes: Cell::new(0) };
                    chunk += 1;
                }
            }
        }
        if n_received < file.bytes {
            return Err(Fault::Passing(format!("the transfer ended after {n_received} of {} bytes", file.bytes), 0));
        }
        Ok(())
    }

    /// The next piece of a body; a transfer that gives nothing for long is broken.
    async fn next(&self, reply: &mut dyn Reply) -> Result<Option<Vec<u8>>, Fault> {
        let next = async { reply.next().await.map_err(|broken| broken.0) };
        self.in_time(next).await.map_err(|reason| Fault::Passing(format!("the transfer broke off ({reason})"), 0))
    }

    async fn in_time<T>(&self, future: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        let mut future = std::pin::pin!(future);
        // Most of the time there is something already, and no clock is needed.
        if let Some(done) = poll_once(future.as_mut()).await {
            return done;
        }
        let stall_ms = self.download.patience.stall_ms;
        first(future, async {
            self.download.http.sleep(stall_ms).await;
            Err(format!("nothing came for {} seconds", stall_ms as f64 / 1000.0))
        })
        .await
    }

    /// Sends a request and looks at the head of the answer.
    async fn open(&self, range: Option<(u64, u64)>) -> Result<Box<dyn Reply>, Fault> {
        let (repo, commit) = {
            let manifest = self.manifest.borrow();
            (manifest.repo.clone(), manifest.commit.clone())
        };
        let path = self.transfer.file.borrow().path.clone();
        let direct = self.transfer.direct_url.borrow().clone();
        let is_direct = direct.is_some();
        let remote = self.download.remote;
        let url = direct.unwrap_or_else(|| remote.file_url(&repo, &commit, &path));
        let get = Get { range, ..Get::whole(&url, remote.token_for(&url)) };
        let answer = async { self.download.http.get(&get).await.map_err(|broken| broken.0) };
        let reply = match self.in_time(answer).await {
            Ok(reply) => reply,
            Err(_) if is_direct => return Err(Fault::Expired),
            Err(reason) => {
                // Some hosts let no request with a range through to a page, and all others.
                if range.is_some()
                    && let Some(n) = self.transfer.unanswered.get()
                {
                    self.transfer.unanswered.set(Some(n + 1));
                    if n + 1 >= MAX_UNANSWERED {
                        return Err(Fault::NoRanges);
                    }
                }
                return Err(Fault::Passing(format!("{} cannot be reached ({reason})", remote.endpoint()), 0));
            }
        };
        self.transfer.unanswered.set(None);
        let status = reply.status();
        if is_passing(status) {
            let after_ms = reply.header("retry-after").and_then(|header| retry_after_ms(&header)).unwrap_or(0);
            if after_ms > MAX_RETRY_AFTER_MS {
                let reason = format!(
                    "{} answers {status} and asks to come back in {} minutes: go on then",
                    remote.endpoint(),
                    after_ms / 60_000
                );
                return Err(Error::Hub { repo: self.model(), reason }.into());
            }
            return Err(Fault::Passing(format!("{} answers with HTTP status {status}", remote.endpoint()), after_ms));
        }
        match status {
            200 | 206 => {}
            // Addresses behind a redirect are signed and good for a while.
            _ if is_direct => return Err(Fault::Expired),
            416 => {
                let bytes = self.transfer.file.borrow().bytes;
                let reason = format!("{path} is shorter than the {bytes} bytes of the listing (416): try again later");
                return Err(Error::Hub { repo: self.model(), reason }.into());
            }
            _ => return Err(remote.refusal(&repo, &path, status).into()),
        }
        if is_html(&*reply) {
            return Err(html(&self.model(), &path).into());
        }
        self.check_tag(&*reply).await?;
        let answered = reply.url();
        if range.is_some() && !is_direct && !answered.is_empty() && answered != url {
            self.transfer.direct_url.replace(Some(answered));
        }
        Ok(reply)
    }

    /// Compares the tag of an answer with that of the first one, which is kept in the store for the next run.
    async fn check_tag(&self, reply: &dyn Reply) -> Result<(), Fault> {
        let Some(tag) = reply.header("etag") else { return Ok(()) };
        let tag = tag.trim().trim_start_matches("W/").to_owned();
        let known = self.transfer.file.borrow().etag.clone();
        match known {
            Some(known) if known == tag => Ok(()),
            Some(_) => Err(Fault::Changed),
            None => {
                self.transfer.file.borrow_mut().etag = Some(tag.clone());
                let manifest = {
                    let mut manifest = self.manifest.borrow_mut();
                    manifest.files[self.index].etag = Some(tag);
                    manifest.clone()
                };
                self.download.store.write_manifest(&manifest).await?;
                Ok(())
            }
        }
    }

    /// Writes a chunk, and holds it for the digest of the whole where its turn comes soon.
    async fn keep(&self, chunk: u32, bytes: Vec<u8>, sha256: String) -> Result<()> {
        let (transfer, path) = (self.transfer, self.transfer.file.borrow().path.clone());
        self.download.store.write_chunk(&self.model(), &path, chunk, &bytes, &sha256).await?;
        let mut held = transfer.held.borrow_mut();
        if held.len() < N_HELD || chunk == transfer.next_chunk.get() {
            held.insert(chunk, bytes);
        }
        drop(held);
        transfer.present.borrow_mut().insert(chunk, sha256);
        transfer.bell.ring();
        Ok(())
    }
}

/// Bytes that count as there while their request is under way, and no longer when it fails or is dropped.
struct Counted<'a> {
    transfer: &'a Transfer<'a>,
    bytes: Cell<u64>,
}

impl Counted<'_> {
    fn add(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
        self.transfer.count(bytes, 0);
    }

    /// The bytes are in the store.
    fn settle(self) {
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

async fn poll_once<T>(mut future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match future.as_mut().poll(context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

/// A server may call a page of a login or a proxy anything; no file of a model starts like one.
fn refuse_html(bytes: &[u8], start: u64, model: &str, path: &str) -> Result<()> {
    let head: String = bytes.iter().take(64).map(|byte| char::from(byte.to_ascii_lowercase())).collect();
    let head = head.trim_start();
    if start == 0 && (head.starts_with("<!doctype") || head.starts_with("<html")) {
        return Err(html(model, path));
    }
    Ok(())
}

fn html(model: &str, path: &str) -> Error {
    let reason = format!(
        "an HTML page came instead of {path}: the address is of no Hub, or a login or a proxy is in between; check the \
         endpoint"
    );
    Error::Hub { repo: model.to_owned(), reason }
}
