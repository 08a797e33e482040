//! Where a native download writes: the folder of a repository in the Hugging Face cache, or the folder of one address.
//!
//! A repository's folder is laid out as by `huggingface_hub`: contents in `blobs/`, named by their digest or git's
//! identifier; in `snapshots/<commit>/` the repository's paths as links to them, relative ones, or the files themselves where
//! the system allows no links; in `refs/` the commit of each branch. A file of an address lies in its folder by its name.
//! A file gets its final name only when it is complete and verified ([`Partial`] until then), so whatever has one is used
//! without being read again.
//!
//! Several programs may download the same model: one writes, the others wait.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use super::partial::Partial;
use crate::error::{Error, Result};
use crate::hub::RepoId;
use crate::store::{CHUNK_BYTES, LocalFuture, Lock, Manifest, Space, Store, StoredFile, sha256_hex};

/// The folder of a download, and how it is laid out.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// A repository in the Hugging Face cache.
    Repo {
        /// The cache.
        cache_dir: PathBuf,
        /// The repository.
        repo: RepoId,
    },
    /// The folder of one address.
    Address(PathBuf),
}

impl Place {
    /// The folder with everything of the repository or address.
    pub(super) fn folder(&self) -> PathBuf {
        match self {
            Place::Repo { cache_dir, repo } => cache_dir.join(folder_name(repo)),
            Place::Address(folder) => folder.clone(),
        }
    }

    /// Where files are before they are complete, and where contents are in a repository.
    fn blobs(&self) -> PathBuf {
        match self {
            Place::Repo { .. } => self.folder().join("blobs"),
            Place::Address(folder) => folder.clone(),
        }
    }

    fn lock(&self) -> PathBuf {
        match self {
            Place::Repo { cache_dir, repo } => cache_dir.join(".locks").join(folder_name(repo)).join("darkroom.lock"),
            Place::Address(folder) => folder.join("lock.incomplete"),
        }
    }

    /// Where a complete file is, `commit` being that of the manifest.
    pub(super) fn finished(&self, commit: &str, path: &str) -> PathBuf {
        match self {
            Place::Repo { .. } => self.folder().join("snapshots").join(commit).join(path),
            Place::Address(folder) => folder.join(path),
        }
    }

    /// Where the content of a file of a repository is, where its name is known.
    fn blob(&self, file: &StoredFile) -> Option<PathBuf> {
        match self {
            Place::Repo { .. } => Some(self.blobs().join(content_name(file)?)),
            Place::Address(_) => None,
        }
    }
}

/// The folder of a repository in the cache.
fn folder_name(repo: &RepoId) -> String {
    format!("models--{}", repo.path().replace('/', "--"))
}

/// The name of a content in `blobs/`: what the Hub sends as its tag.
fn content_name(file: &StoredFile) -> Option<&str> {
    file.git_oid.as_deref().or(file.sha256.as_deref())
}

/// Whether a file at this place has this many bytes.
fn has_length(path: &Path, n_bytes: u64) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == n_bytes)
}

/// See the module. It is for one download of `wanted`.
pub(super) struct CacheStore {
    place: Place,
    wanted: Manifest,
    partials: RefCell<BTreeMap<String, Partial>>,
}

impl CacheStore {
    /// A store for what is `wanted`, at its place.
    ///
    /// # Errors
    /// [`Error::Hub`] for a path that leads out of the place.
    pub(super) fn new(place: Place, wanted: Manifest) -> Result<Self> {
        let is_inside = |path: &str| Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        if let Some(file) = wanted.files.iter().find(|file| file.path.is_empty() || !is_inside(&file.path)) {
            let reason = format!("{:?} is not the path of a file of a model", file.path);
            return Err(Error::Hub { repo: wanted.model.clone(), reason });
        }
        Ok(CacheStore { place, wanted, partials: RefCell::default() })
    }

    fn wanted_file(&self, path: &str) -> Result<&StoredFile> {
        self.wanted.file(path).ok_or_else(|| self.error(format!("{path} is not a file of {}", self.wanted.model)))
    }

    fn error(&self, reason: String) -> Error {
        Error::Store { store: self.describe(), reason }
    }

    /// Does something with what is there of a file that is not complete; `None` where nothing is and `create` is not set.
    fn with_partial<T>(&self, path: &str, create: bool, work: impl FnOnce(&mut Partial) -> T) -> Result<Option<T>> {
        let mut partials = self.partials.borrow_mut();
        if !partials.contains_key(path) {
            let (file, folder) = (self.wanted_file(path)?, self.place.blobs());
            let hashed = || sha256_hex(format!("{}/{path}", self.wanted.commit).as_bytes())[..40].to_owned();
            let name = content_name(file).map_or_else(hashed, str::to_owned);
            let opened = match create {
                true => Some(Partial::open(&folder, &name, file)?),
                false => Partial::open_existing(&folder, &name, file)?,
            };
            match opened {
                Some(partial) => partials.insert(path.to_owned(), partial),
                None => return Ok(None),
            };
        }
        Ok(partials.get_mut(path).map(work))
    }

    /// What is there of the wanted files.
    fn on_disk(&self) -> Result<Manifest> {
        let mut manifest = self.wanted.clone();
        for file in &mut manifest.files {
            let finished = self.place.finished(&manifest.commit, &file.path);
            if has_length(&finished, file.bytes) {
                file.complete = true;
            } else if let Some(blob) = self.place.blob(file).filter(|blob| has_length(blob, file.bytes)) {
                // Another commit or program brought this content.
                link(&blob, &finished, false)?;
                file.complete = true;
            } else {
                file.etag =
                    self.with_partial(&file.path, false, |partial| partial.etag().map(str::to_owned))?.flatten();
            }
        }
        Ok(manifest)
    }

    /// Gives a file that is complete its final place.
    fn publish(&self, commit: &str, file: &StoredFile) -> Result<()> {
        // An empty file has no chunk, so nothing is there of it yet.
        self.with_partial(&file.path, true, |_| ())?;
        let Some(partial) = self.partials.borrow_mut().remove(&file.path) else { return Ok(()) };
        let finished = self.place.finished(commit, &file.path);
        match self.place.blob(file) {
            Some(blob) => {
                partial.finish(&blob, file.bytes)?;
                link(&blob, &finished, true)
            }
            None => partial.finish(&finished, file.bytes),
        }
    }

    /// Notes which commit a branch or tag is, as `huggingface_hub` does.
    fn write_ref(&self, commit: &str) -> Result<()> {
        let Place::Repo { repo, .. } = &self.place else { return Ok(()) };
        let path = self.place.folder().join("refs").join(repo.revision());
        if repo.revision() == commit || fs::read_to_string(&path).is_ok_and(|known| known == commit) {
            return Ok(());
        }
        let folder = path.parent().unwrap_or(&path);
        let part = folder.join("darkroom.tmp");
        let written =
            fs::create_dir_all(folder).and_then(|()| fs::write(&part, commit)).and_then(|()| fs::rename(&part, &path));
        written.map_err(|source| Error::io(&path, source))
    }
}

/// Has `pointer` stand for the content in `blob`: by a relative link, which stays right when the cache is moved. Where links
/// are not possible, the content itself is moved there if it is new, and else copied.
fn link(blob: &Path, pointer: &Path, is_new: bool) -> Result<()> {
    let folder = pointer.parent().unwrap_or(pointer);
    fs::create_dir_all(folder).map_err(|source| Error::io(folder, source))?;
    match fs::remove_file(pointer) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::io(pointer, error)),
        _ => {}
    }
    let repo = blob.parent().and_then(Path::parent).unwrap_or(blob);
    let inside = pointer.strip_prefix(repo).unwrap_or(pointer);
    let mut target = PathBuf::new();
    for _ in inside.components().skip(1) {
        target.push("..");
    }
    target.push(blob.strip_prefix(repo).unwrap_or(blob));
    if symlink(&target, pointer).is_ok() {
        return Ok(());
    }
    let placed = if is_new { fs::rename(blob, pointer) } else { fs::copy(blob, pointer).map(drop) };
    placed.map_err(|source| Error::io(pointer, source))
}

#[cfg(unix)]
use std::os::unix::fs::symlink;

#[cfg(windows)]
use std::os::windows::fs::symlink_file as symlink;

/// A lock of the operating system, which ends with the program.
struct Held(Option<File>);

impl Lock for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        // Closing the file, which follows, releases it as well.
        let _ = self.0.as_ref().map(File::unlock);
    }
}

impl Store for CacheStore {
    fn describe(&self) -> String {
        self.place.folder().display().to_string()
    }

    fn manifest<'a>(&'a self, model: &'a str) -> LocalFuture<'a, Result<Option<Manifest>>> {
        Box::pin(async move { if model == self.wanted.model { self.on_disk().map(Some) } else { Ok(None) } })
    }

    fn manifests<'a>(&'a self) -> LocalFuture<'a, Result<Vec<Manifest>>> {
        Box::pin(async move { Ok(vec![self.on_disk()?]) })
    }

    fn write_manifest<'a>(&'a self, manifest: &'a Manifest) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            self.write_ref(&manifest.commit)?;
            for file in &manifest.files {
                if !file.complete {
                    if let Some(etag) = &file.etag {
                        let note = |partial: &mut Partial| match partial.etag() == Some(etag) {
                            true => Ok(()),
                            false => partial.set_etag(etag),
                        };
                        self.with_partial(&file.path, true, note)?.transpose()?;
                    }
                } else if !has_length(&self.place.finished(&manifest.commit, &file.path), file.bytes) {
                    self.publish(&manifest.commit, file)?;
                }
            }
            Ok(())
        })
    }

    fn chunks<'a>(&'a self, _model: &'a str, path: &'a str) -> LocalFuture<'a, Result<BTreeMap<u32, String>>> {
        Box::pin(
            async move { Ok(self.with_partial(path, false, |partial| partial.chunks().clone())?.unwrap_or_default()) },
        )
    }

    fn write_chunk<'a>(
        &'a self,
        _model: &'a str,
        path: &'a str,
        chunk: u32,
        bytes: &'a [u8],
        sha256: &'a str,
    ) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            self.with_partial(path, true, |partial| partial.write(chunk, bytes, sha256))?.transpose()?;
            Ok(())
        })
    }

    fn read_chunk<'a>(
        &'a self,
        _model: &'a str,
        path: &'a str,
        chunk: u32,
        offset: usize,
        len: usize,
        into: &'a mut Vec<u8>,
    ) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            let at = u64::from(chunk) * CHUNK_BYTES + offset as u64;
            let read = self.with_partial(path, false, |partial| partial.read(at, len, into))?;
            read.unwrap_or_else(|| Err(self.error(format!("nothing is there of {path}"))))
        })
    }

    fn remove_chunk<'a>(&'a self, _model: &'a str, path: &'a str, chunk: u32) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            self.with_partial(path, false, |partial| partial.remove(chunk))?.transpose()?;
            Ok(())
        })
    }

    fn remove_file<'a>(&'a self, _model: &'a str, path: &'a str) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            self.with_partial(path, false, |_| ())?;
            let partial = self.partials.borrow_mut().remove(path);
            partial.map_or(Ok(()), Partial::discard)
        })
    }

    /// Drops what is not complete. Complete files are the cache's, and shared.
    fn remove<'a>(&'a self, model: &'a str) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            for file in &self.wanted.files {
                self.remove_file(model, &file.path).await?;
            }
            Ok(())
        })
    }

    fn space<'a>(&'a self) -> LocalFuture<'a, Result<Space>> {
        // The standard library does not tell how much a disk has left; a write that fails does.
        Box::pin(async move { Ok(Space::default()) })
    }

    fn lock<'a>(&'a self, model: &'a str) -> LocalFuture<'a, Result<Box<dyn Lock>>> {
        Box::pin(async move {
            let path = self.place.lock();
            let folder = path.parent().unwrap_or(&path);
            let opened = fs::create_dir_all(folder).and_then(|()| File::create(&path));
            let file = opened.map_err(|source| Error::io(&path, source))?;
            let locked = match file.try_lock() {
                Ok(()) => Ok(Some(file)),
                Err(fs::TryLockError::WouldBlock) => {
                    log::warn!("waiting for another program that downloads {model}");
                    let (send, receive) = futures_channel::oneshot::channel();
                    // Waiting for a lock blocks, and whoever polls this future must not be blocked.
                    std::thread::spawn(move || send.send(file.lock().map(|()| Some(file))));
                    receive.await.unwrap_or_else(|_| Err(ErrorKind::Interrupted.into()))
                }
                // Some network file systems have no locks. Then two programs may do the same work.
                Err(fs::TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => Ok(None),
                Err(fs::TryLockError::Error(error)) => Err(error),
            };
            let file = locked.map_err(|source| Error::io(&path, source))?;
            Ok(Box::new(Held(file)) as Box<dyn Lock>)
        })
    }
}
