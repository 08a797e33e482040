//! A store in memory, with a limit that a test can set.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use darkroom::store::{LocalFuture, Lock, Manifest, Space, Store};
use darkroom::{Error, Result};
use futures_util::lock::{Mutex, OwnedMutexGuard};

/// Model, path and number of a chunk.
type ChunkKey = (String, String, u32);

/// See the module.
#[derive(Default)]
pub struct MemoryStore {
    manifests: RefCell<BTreeMap<String, Manifest>>,
    chunks: RefCell<BTreeMap<ChunkKey, (Vec<u8>, String)>>,
    locks: RefCell<BTreeMap<String, Arc<Mutex<()>>>>,
    quota_bytes: Cell<Option<u64>>,
}

struct Held {
    _guard: OwnedMutexGuard<()>,
}

impl Lock for Held {}

impl MemoryStore {
    /// An empty store without a limit.
    #[must_use]
    pub fn new() -> Self {
        MemoryStore::default()
    }

    /// Sets how many bytes of chunks may be kept.
    pub fn set_quota(&self, bytes: Option<u64>) {
        self.quota_bytes.set(bytes);
    }

    fn usage_bytes(&self) -> u64 {
        self.chunks.borrow().values().map(|(bytes, _)| bytes.len() as u64).sum()
    }

    fn retain(&self, keep: impl Fn(&ChunkKey) -> bool) {
        self.chunks.borrow_mut().retain(|key, _| keep(key));
    }
}

fn key(model: &str, path: &str, chunk: u32) -> ChunkKey {
    (model.to_owned(), path.to_owned(), chunk)
}

impl Store for MemoryStore {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    fn manifest<'a>(&'a self, model: &'a str) -> LocalFuture<'a, Result<Option<Manifest>>> {
        Box::pin(async move { Ok(self.manifests.borrow().get(model).cloned()) })
    }

    fn manifests<'a>(&'a self) -> LocalFuture<'a, Result<Vec<Manifest>>> {
        Box::pin(async move { Ok(self.manifests.borrow().values().cloned().collect()) })
    }

    fn write_manifest<'a>(&'a self, manifest: &'a Manifest) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            self.manifests.borrow_mut().insert(manifest.model.clone(), manifest.clone());
            Ok(())
        })
    }

    fn chunks<'a>(&'a self, model: &'a str, path: &'a str) -> LocalFuture<'a, Result<BTreeMap<u32, String>>> {
        Box::pin(async move {
            let chunks = self.chunks.borrow();
            let of_file = chunks.range(key(model, path, 0)..=key(model, path, u32::MAX));
            Ok(of_file.map(|((_, _, chunk), (_, sha256))| (*chunk, sha256.clone())).collect())
        })
    }

    fn write_chunk<'a>(
        &'a self,
        model: &'a str,
        path: &'a str,
        chunk: u32,
        bytes: &'a [u8],
        sha256: &'a str,
    ) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            let (missing_bytes, usage_bytes) = (bytes.len() as u64, self.usage_bytes());
            if let Some(quota) = self.quota_bytes.get()
                && usage_bytes + missing_bytes > quota
            {
                return Err(Error::StoreFull { missing_bytes, free_bytes: Some(quota.saturating_sub(usage_bytes)) });
            }
            self.chunks.borrow_mut().insert(key(model, path, chunk), (bytes.to_vec(), sha256.to_owned()));
            Ok(())
        })
    }

    fn read_chunk<'a>(
        &'a self,
        model: &'a str,
        path: &'a str,
        chunk: u32,
        offset: usize,
        len: usize,
        into: &'a mut Vec<u8>,
    ) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            let chunks = self.chunks.borrow();
            let bytes = chunks.get(&key(model, path, chunk)).and_then(|(bytes, _)| bytes.get(offset..)?.get(..len));
            let lost = || Error::Store { store: self.describe(), reason: format!("chunk {chunk} of {path} is lost") };
            into.extend_from_slice(bytes.ok_or_else(lost)?);
            Ok(())
        })
    }

    fn remove_chunk<'a>(&'a self, model: &'a str, path: &'a str, chunk: u32) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            self.chunks.borrow_mut().remove(&key(model, path, chunk));
            Ok(())
        })
    }

    fn remove_file<'a>(&'a self, model: &'a str, path: &'a str) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            self.retain(|(of_model, of_path, _)| of_model != model || of_path != path);
            Ok(())
        })
    }

    fn remove<'a>(&'a self, model: &'a str) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            self.manifests.borrow_mut().remove(model);
            self.retain(|(of_model, _, _)| of_model != model);
            Ok(())
        })
    }

    fn space<'a>(&'a self) -> LocalFuture<'a, Result<Space>> {
        Box::pin(
            async move { Ok(Space { quota_bytes: self.quota_bytes.get(), usage_bytes: Some(self.usage_bytes()) }) },
        )
    }

    fn lock<'a>(&'a self, model: &'a str) -> LocalFuture<'a, Result<Box<dyn Lock>>> {
        Box::pin(async move {
            let lock = Arc::clone(self.locks.borrow_mut().entry(model.to_owned()).or_default());
            Ok(Box::new(Held { _guard: lock.lock_owned().await }) as Box<dyn Lock>)
        })
    }
}
