//! Fills a store from a server: a few ranges at a time, one chunk each, resumed at the first missing chunk.
//!
//! A chunk is hashed as it comes and written once, with its digest. The digest of the whole file needs the chunks in
//! order. Chunks in order, or slightly early ones, are hashed from memory; chunks of an earlier run, and much too early
//! ones, are read back from the store and checked: a damaged chunk is fetched again alone. So an undisturbed download reads
//! nothing twice. A cut transfer resumes at its byte; when the program ends, unfinished chunks are lost, at most 4 MiB a
//! request, because a chunk can only be verified as a whole.
//!
//! A server without ranges, or behind a proxy that blocks them, is read as one stream; chunks that are there are skipped. A
//! file whose tag changes between two ranges, or whose digest is wrong, is discarded and started again.
//!
//! Files come one after another, so that the first are complete, verified and in use while the rest comes: texts, text
//! encoders, UNet, VAE.
//!
//! This module handles the list of files; `transfer` is the state of one file, `worker` its tasks.

mod transfer;
mod worker;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use super::arrival::Arrival;
use super::http::{Bell, Cancel, Http, all};
use super::remote::Remote;
use crate::error::words::in_words;
use crate::error::{Error, Result};
use crate::store::{Manifest, Store, StoredFile};
use transfer::{Counters, Transfer};
use worker::Worker;

/// How often a file is started again because it changed or its digest was wrong.
const MAX_RESTARTS: u32 = 2;

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
    /// Announces complete files to readers that use them while the rest comes.
    pub arrival: Rc<Arrival>,
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

impl Download<'_> {
    /// Downloads into the store what `wanted`, from [`Remote::find_origin`], lists and the store lacks. Waits while another
    /// program or tab downloads the same. Returns the complete manifest.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::StoreFull`] with how much is missing, [`Error::Store`], [`Error::Network`] where the
    /// server cannot be reached or broke off too often, and [`Error::Hub`] that says what it refused or did wrong. Chunks that are there are kept, and the next call resumes.
    pub async fn run(&self, wanted: Manifest, on_progress: &mut dyn FnMut(Progress<'_>)) -> Result<Manifest> {
        let ended = self.cancel.run(self.run_to_end(wanted, on_progress)).await;
        if let Err(error) = &ended {
            self.arrival.fail(error);
        }
        ended
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
        log::info!("{}: {} of {} to download", manifest.model, in_words(missing_bytes), in_words(total_bytes));
        let counters = RefCell::new(Counters {
            loaded_bytes: total_bytes - missing_bytes,
            total_bytes,
            samples: VecDeque::new(),
            received_bytes: 0,
            told: None,
        });
        let on_progress = RefCell::new(on_progress);
        let on_progress = |progress: Progress<'_>| {
            (on_progress.borrow_mut())(progress);
            self.arrival.nudge();
        };
        self.arrival.begin(&manifest);
        // Texts first, then weights in the order of use, which is the manifest's.
        let is_weights = |i: &usize| manifest.files[*i].path.ends_with(".safetensors");
        let (weights, texts): (Vec<usize>, Vec<usize>) = (0..manifest.files.len()).partition(is_weights);
        for i in texts.into_iter().chain(weights) {
            if !manifest.files[i].complete {
                match self.file(&mut manifest, i, &counters, &on_progress).await {
                    // The store knows about one chunk only; here the missing bytes of all files are known.
                    Err(Error::StoreFull { free_bytes, .. }) => {
                        let missing_bytes = crate::hub::download::missing_bytes(self.store, &manifest).await?;
                        return Err(Error::StoreFull { missing_bytes, free_bytes });
                    }
                    done => done?,
                }
                self.arrival.came(&manifest.files[i].path);
            }
        }
        Ok(manifest)
    }

    /// Adopts what the store has of the model: all of it at the same commit, else the files with equal digests.
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

    /// Downloads one file, starting again where it changes or its digest is wrong.
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
                    let (host, path) = (self.remote.endpoint(), &manifest.files[index].path);
                    log::warn!(
                        "{host} sends no ranges of {path}: a download that breaks reads it from the start again"
                    );
                    with_ranges = false;
                    continue;
                }
                Err(Stop::Changed) => (None, None),
                Err(Stop::Failed(error)) => return Err(error),
            };
            if digest.is_some() && (expected.is_none() || expected == digest) {
                manifest.files[index].complete = true;
                manifest.files[index].sha256 = digest;
                return self.store.write_manifest(manifest).await;
            }
            // The content is wrong, and it is unknown which chunk is at fault.
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

    /// Downloads the missing chunks of a file. Returns the digest of the whole.
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

/// How many bytes of a model are missing in a store.
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
