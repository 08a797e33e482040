//! Where downloaded files are kept: in chunks, each with its digest, so that a download that was cut resumes with the first
//! missing chunk, and a damaged chunk is fetched again alone.
//!
//! A file is usable only when its [`StoredFile::complete`] is set, which the download does after it checked the digest of
//! the whole file. Stores know neither networks nor models. One trait, one implementation a platform: `indexed_db` in the
//! browser, `crate::hub::cache` natively.

#[cfg(target_arch = "wasm32")]
pub mod indexed_db;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::Result;

/// The length of every chunk of a file but its last. Large enough that a request for one is worth its round trip, small
/// enough that a few of them in memory do not count.
pub const CHUNK_BYTES: u64 = 4 << 20;

/// A future that stays on its thread, as everything that touches a browser's objects must.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// One file of a stored model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    /// Its path in the repository, with `/` between folders.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// The SHA-256 that its publisher tells, in lower-case hexadecimal; of a complete file without one, that of what came.
    pub sha256: Option<String>,
    /// Git's identifier of its content, in lower-case hexadecimal, where the listing tells it: the Hub does for files
    /// outside large-file storage.
    #[serde(default)]
    pub git_oid: Option<String>,
    /// The tag that the server gave its content when the first chunk came.
    pub etag: Option<String>,
    /// Whether every chunk is there and the digest of the whole was right.
    pub complete: bool,
}

impl StoredFile {
    /// A file of which only path and length are known, and nothing is there yet.
    #[must_use]
    pub fn new(path: impl Into<String>, bytes: u64) -> Self {
        StoredFile { path: path.into(), bytes, sha256: None, git_oid: None, etag: None, complete: false }
    }

    /// How many chunks it has.
    #[must_use]
    pub fn n_chunks(&self) -> u32 {
        // A file of 2^32 chunks would have 16 PiB.
        u32::try_from(self.bytes.div_ceil(CHUNK_BYTES)).unwrap_or(u32::MAX)
    }

    /// The first byte of a chunk and the byte after its last.
    #[must_use]
    pub fn range(&self, chunk: u32) -> (u64, u64) {
        let start = u64::from(chunk) * CHUNK_BYTES;
        (start.min(self.bytes), (start + CHUNK_BYTES).min(self.bytes))
    }

    /// How long a chunk is.
    #[must_use]
    pub fn chunk_bytes(&self, chunk: u32) -> u64 {
        let (start, end) = self.range(chunk);
        end - start
    }
}

/// What a store knows of a model: written once before its first chunk, then again whenever a file is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The name that it is kept under: `owner/repo`, `owner/repo@revision`, with `/path` behind it for a single file, the
    /// address of a file, or the name of an import.
    pub model: String,
    /// The repository that its files come from; empty for an address and an import.
    pub repo: String,
    /// The commit that its files are pinned to; the revision itself where the place has no commits.
    pub commit: String,
    /// Its files.
    pub files: Vec<StoredFile>,
}

impl Manifest {
    /// How many bytes all files have.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Whether every file is complete, so that the model can be loaded.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.files.is_empty() && self.files.iter().all(|file| file.complete)
    }

    /// The file with this path.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&StoredFile> {
        self.files.iter().find(|file| file.path == path)
    }
}

/// A SHA-256 in lower-case hexadecimal.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// A digest that grows with the bytes as they come.
#[derive(Clone, Default)]
pub struct Sha256Stream(Sha256);

impl Sha256Stream {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all that came.
    #[must_use]
    pub fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How much a store may hold, as far as its platform tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// The most bytes that may be kept.
    pub quota_bytes: Option<u64>,
    /// The bytes that are kept already, with everything else that shares the quota.
    pub usage_bytes: Option<u64>,
}

impl Space {
    /// The bytes that are free, where both figures are known.
    #[must_use]
    pub fn free_bytes(self) -> Option<u64> {
        Some(self.quota_bytes?.saturating_sub(self.usage_bytes?))
    }
}

/// Exclusive write access to a model, until it is dropped.
pub trait Lock {}

/// A place for models. A write that has returned survives the end of the program; one that fails leaves what was there.
pub trait Store {
    /// The place in a few words, for messages.
    fn describe(&self) -> String;

    /// What is known of a model, or nothing when it is not there.
    fn manifest<'a>(&'a self, model: &'a str) -> LocalFuture<'a, Result<Option<Manifest>>>;

    /// Every model, by name.
    fn manifests<'a>(&'a self) -> LocalFuture<'a, Result<Vec<Manifest>>>;

    /// Writes what is known of a model in place of what was.
    fn write_manifest<'a>(&'a self, manifest: &'a Manifest) -> LocalFuture<'a, Result<()>>;

    /// Which chunks of a file are there, each with the SHA-256 that it had when it came.
    fn chunks<'a>(&'a self, model: &'a str, path: &'a str) -> LocalFuture<'a, Result<BTreeMap<u32, String>>>;

    /// The SHA-256 of a chunk, as [`sha256_hex`]: with the platform's own implementation where that is faster.
    fn digest<'a>(&'a self, bytes: &'a [u8]) -> LocalFuture<'a, String> {
        Box::pin(async move { sha256_hex(bytes) })
    }

    /// Writes a chunk together with its digest: both or neither.
    ///
    /// # Errors
    /// [`crate::Error::StoreFull`] where there is no room; [`crate::Error::Store`] otherwise.
    fn write_chunk<'a>(
        &'a self,
        model: &'a str,
        path: &'a str,
        chunk: u32,
        bytes: &'a [u8],
        sha256: &'a str,
    ) -> LocalFuture<'a, Result<()>>;

    /// Appends `len` bytes from `offset` in a chunk on to `into`.
    ///
    /// # Errors
    /// [`crate::Error::Store`] where the chunk is absent or shorter than that.
    fn read_chunk<'a>(
        &'a self,
        model: &'a str,
        path: &'a str,
        chunk: u32,
        offset: usize,
        len: usize,
        into: &'a mut Vec<u8>,
    ) -> LocalFuture<'a, Result<()>>;

    /// Drops one chunk, so that it counts as absent.
    fn remove_chunk<'a>(&'a self, model: &'a str, path: &'a str, chunk: u32) -> LocalFuture<'a, Result<()>>;

    /// Drops all chunks of a file.
    fn remove_file<'a>(&'a self, model: &'a str, path: &'a str) -> LocalFuture<'a, Result<()>>;

    /// Drops a model with all its chunks. One that is not there is no error.
    fn remove<'a>(&'a self, model: &'a str) -> LocalFuture<'a, Result<()>>;

    /// How much may be kept, and asks the platform not to clear it away.
    fn space<'a>(&'a self) -> LocalFuture<'a, Result<Space>>;

    /// Waits until nobody else writes to the model: another tab, program or task.
    fn lock<'a>(&'a self, model: &'a str) -> LocalFuture<'a, Result<Box<dyn Lock>>>;
}
