//! The tasks of one file: requests for ranges or for the whole, retries, and the digest of the whole.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use futures_util::FutureExt;
use web_time::Instant;

use super::super::http::{Get, Reply, first};
use super::super::remote::is_html;
use super::super::retry::{MAX_RETRY_AFTER_MS, backoff_ms, is_passing, retry_after_ms};
use super::transfer::{Counted, Transfer};
use super::{Download, Stop};
use crate::error::words;
use crate::error::{Error, Result};
use crate::store::{CHUNK_BYTES, Manifest, Sha256Stream, StoredFile};

/// Why an attempt at a chunk or a stream ended.
enum Fault {
    /// The next attempt may succeed, at the earliest after this many milliseconds.
    Passing(String, u64),
    /// The signed address behind the redirect has expired; the first address gives a new one.
    Expired,
    /// Repeating cannot help.
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

/// What the tasks of one file share.
pub(super) struct Worker<'a, 'm> {
    pub(super) download: &'a Download<'a>,
    pub(super) transfer: &'a Transfer<'a>,
    pub(super) manifest: &'a RefCell<&'m mut Manifest>,
    pub(super) index: usize,
}

/// A login or proxy page may have any content type; no file of a model starts like one.
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
        "an HTML page came instead of {path}: the endpoint is not a Hugging Face Hub, or a login or a proxy answers instead; \
         check the endpoint"
    );
    Error::Hub { repo: model.to_owned(), reason }
}

/// How many chunks that came early are held in memory for the digest of the whole.
const N_HELD: usize = 4;

/// How many requests with a range may fail before any was answered; then the file is read without ranges.
const MAX_UNANSWERED: u32 = 4;

impl Worker<'_, '_> {
    /// What a refusal is about: the repository, or the address of a file.
    fn refused_name(&self, repo: &str) -> String {
        if repo.is_empty() { self.model() } else { repo.to_owned() }
    }

    fn model(&self) -> String {
        self.manifest.borrow().model.clone()
    }

    /// Hashes the chunks in order, from memory where they are still there, else from the store.
    pub(super) async fn digest_in_order(&self) -> Result<(), Stop> {
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
        Ok((read.is_ok() && Some(self.download.store.digest(&bytes).await) == expected).then_some(bytes))
    }

    /// Takes chunk after chunk from the queue.
    pub(super) async fn fetch_ranges(&self) -> Result<(), Stop> {
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

    /// Reads the file from its start, until no chunk is missing.
    pub(super) async fn fetch_stream(&self) -> Result<(), Stop> {
        let transfer = self.transfer;
        loop {
            transfer.bell.wait_until(|| transfer.is_done() || !transfer.queue.borrow().is_empty()).await;
            if transfer.is_done() {
                return Ok(());
            }
            self.repeat(async || self.fetch_whole().await, || self.transfer.present.borrow().len()).await?;
        }
    }

    /// Makes attempts until one succeeds or repeating cannot help. Progress resets the failure count.
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
                    ("the address behind the redirect has expired".to_owned(), 0)
                }
                Err(Fault::NoRanges) => return Err(Stop::NoRanges),
                Err(Fault::Changed) => return Err(Stop::Changed),
                Err(Fault::Lasting(error)) => return Err(Stop::Failed(error)),
            };
            let n_now = progress();
            n_failed = if n_now > n_there { 1 } else { n_failed + 1 };
            n_there = n_now;
            // Without a network nothing is gained by waiting, unless it was there a moment ago.
            let is_offline = self.transfer.unanswered.get().is_some() && self.download.http.is_offline();
            if n_failed >= patience.max_attempts || is_offline {
                let path = self.transfer.file.borrow().path.clone();
                let times = if n_failed > 1 { format!(", {n_failed} times in a row") } else { String::new() };
                let reason = format!("{path}: {reason}{times}: what came is kept, and downloading again goes on there");
                return Err(Stop::Failed(Error::Network { repo: self.model(), reason }));
            }
            let wait_ms =
                backoff_ms(n_failed, patience.base_ms, patience.max_ms, self.download.http.jitter()).max(after_ms);
            log::info!("{}: {reason}; trying again in {wait_ms} ms", self.transfer.file.borrow().path);
            if after_ms > 0 {
                self.transfer.not_before.set(Some(Instant::now() + Duration::from_millis(after_ms)));
            }
            self.download.http.sleep(wait_ms).await;
        }
    }

    /// Requests the missing part of one chunk.
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
                    let reason = format!(
                        "the transfer ended after {} of {}",
                        n_there + came.len(),
                        words::counted(n_bytes, "byte")
                    );
                    break Err(Fault::Passing(reason, 0));
                }
                Ok(None) => break Ok(()),
                Ok(Some(piece)) if n_there + came.len() + piece.len() > n_bytes => {
                    // It is unknown which of them are right.
                    let reason =
                        format!("the host sent more than the {} asked for", words::counted(end - start, "byte"));
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
        // Counted until it is stored; dropped from the count where storing fails.
        counted.bytes.set(bytes.len() as u64);
        refuse_html(&bytes, chunk_start, &self.model(), &self.transfer.file.borrow().path)?;
        self.keep(chunk, bytes).await?;
        counted.settle();
        Ok(())
    }

    /// Requests the whole file, and skips the chunks that are there.
    async fn fetch_whole(&self) -> Result<(), Fault> {
        let mut reply = self.open(None).await?;
        let file = self.transfer.file.borrow().clone();
        let mut chunk = 0;
        let mut bytes: Vec<u8> = Vec::new();
        let mut counted = Counted { transfer: self.transfer, bytes: Cell::new(0) };
        let mut n_received: u64 = 0;
        while let Some(piece) = self.next(&mut *reply).await? {
            let mut rest = &piece[..];
            n_received += piece.len() as u64;
            if n_received > file.bytes {
                return Err(Fault::Passing(
                    format!("the host sent more than the {} of the listing", words::counted(file.bytes, "byte")),
                    0,
                ));
            }
            while !rest.is_empty() {
                let n_wanted = file.chunk_bytes(chunk) as usize - bytes.len();
                let (now, later) = rest.split_at(n_wanted.min(rest.len()));
                rest = later;
                bytes.extend_from_slice(now);
                let is_there = self.transfer.present.borrow().contains_key(&chunk);
                if !is_there {
                    counted.add(now.len() as u64);
                }
                if bytes.len() as u64 == file.chunk_bytes(chunk) {
                    let full = std::mem::take(&mut bytes);
                    if !is_there {
                        refuse_html(&full, u64::from(chunk) * CHUNK_BYTES, &self.model(), &file.path)?;
                        self.transfer.queue.borrow_mut().retain(|queued| *queued != chunk);
                        self.keep(chunk, full).await?;
                    }
                    counted.settle();
                    counted = Counted { transfer: self.transfer, bytes: Cell::new(0) };
                    chunk += 1;
                }
            }
        }
        if n_received < file.bytes {
            return Err(Fault::Passing(
                format!("the transfer ended after {n_received} of {}", words::counted(file.bytes, "byte")),
                0,
            ));
        }
        Ok(())
    }

    /// The next piece of a body. A transfer that stalls is broken.
    async fn next(&self, reply: &mut dyn Reply) -> Result<Option<Vec<u8>>, Fault> {
        let next = async { reply.next().await.map_err(|broken| broken.0) };
        self.in_time(next).await.map_err(|reason| Fault::Passing(format!("the transfer broke off ({reason})"), 0))
    }

    async fn in_time<T>(&self, future: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        let mut future = std::pin::pin!(future);
        // Usually something is there already, and no timer is needed.
        if let Some(done) = future.as_mut().now_or_never() {
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
        log::debug!("requesting {path}{}", range.map_or_else(String::new, |(start, end)| format!(" {start}..{end}")));
        let answer = async { self.download.http.get(&get).await.map_err(|broken| broken.0) };
        let reply = match self.in_time(answer).await {
            Ok(reply) => reply,
            Err(_) if is_direct => return Err(Fault::Expired),
            Err(reason) => {
                // Some hosts block requests with a range from pages, and only those.
                if range.is_some()
                    && let Some(n) = self.transfer.unanswered.get()
                {
                    self.transfer.unanswered.set(Some(n + 1));
                    if n + 1 >= MAX_UNANSWERED {
                        return Err(Fault::NoRanges);
                    }
                }
                let hint = self.download.http.unreachable_hint();
                return Err(Fault::Passing(format!("{} cannot be reached ({reason}{hint})", remote.endpoint()), 0));
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
            // Addresses behind a redirect are signed and expire.
            _ if is_direct => return Err(Fault::Expired),
            416 => {
                let bytes = words::counted(self.transfer.file.borrow().bytes, "byte");
                let reason = format!("{path} is shorter than the {bytes} of the listing (416): try again later");
                return Err(Error::Hub { repo: self.model(), reason }.into());
            }
            _ => return Err(remote.refusal(&self.refused_name(&repo), Some(&path), status).into()),
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

    /// Writes a chunk, and holds it in memory for the digest of the whole where that needs it soon.
    async fn keep(&self, chunk: u32, bytes: Vec<u8>) -> Result<()> {
        let sha256 = self.download.store.digest(&bytes).await;
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
