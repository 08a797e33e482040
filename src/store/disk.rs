//! Models in a folder on disk: a folder a model with `manifest.json`, and in it a folder a file with a file a chunk,
//! named by its number and digest. What is written gets its name only when it is complete.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{LocalFuture, Lock, Manifest, Space, Store, lost_chunk};
use crate::error::{Error, Result};

const MANIFEST: &str = "manifest.json";

/// See the module.
pub struct DiskStore {
    root: PathBuf,
}

/// A lock of the operating system, which ends with the program.
struct Held(File);

impl Lock for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        // Closing the file, which follows, releases it as well.
        let _ = self.0.unlock();
    }
}

/// A name as one component of a path.
fn plain(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' || (byte == b'.' && !out.is_empty()) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02x}"));
        }
    }
    out
}

impl DiskStore {
    /// A store in this folder, which is made when something is written.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        DiskStore { root: root.into() }
    }

    fn model(&self, model: &str) -> PathBuf {
        self.root.join(plain(model))
    }

    fn file(&self, model: &str, path: &str) -> PathBuf {
        self.model(model).join(format!("file-{}", plain(path)))
    }

    /// The chunks of a file as their places on disk.
    fn places(&self, model: &str, path: &str) -> Result<BTreeMap<u32, (String, PathBuf)>> {
        let folder = self.file(model, path);
        let mut places = BTreeMap::new();
        for name in names(&folder)? {
            if let Some((chunk, sha256)) = name.split_once('-')
                && let Ok(chunk) = chunk.parse()
            {
                places.insert(chunk, (sha256.to_owned(), folder.join(&name)));
            }
        }
        Ok(places)
    }

    fn read_manifest(&self, folder: &Path) -> Result<Option<Manifest>> {
        let place = folder.join(MANIFEST);
        let json = match fs::read(&place) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|source| Error::io(&place, source))?,
        };
        let broken = |error: serde_json::Error| Error::Store {
            store: self.describe(),
            reason: format!("{} cannot be read ({error}): remove the model", place.display()),
        };
        serde_json::from_slice(&json).map(Some).map_err(broken)
    }
}

/// The names in a folder; none where it is absent.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|source| Error::io(folder, source))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        // A name that is not Unicode was not given here.
        names.extend(entry.map_err(|source| Error::io(folder, source))?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// Writes under another name first, so that a name stands for something whole.
fn write(place: &Path, bytes: &[u8]) -> Result<()> {
    let folder = place.parent().unwrap_or(place);
    let part = folder.join("part");
    let written = fs::create_dir_all(folder).and_then(|()| {
        let mut file = File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        fs::rename(&part, place)
    });
    written.map_err(|source| match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Error::StoreFull { missing_bytes: bytes.len() as u64, free_bytes: None }
        }
        _ => Error::io(place, source),
    })
}

fn removed(result: std::io::Result<()>, place: &Path) -> Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|source| Error::io(place, source)),
    }
}

impl Store for DiskStore {
    fn describe(&self) -> String {
        self.root.display().to_string()
    }

    fn manifest<'a>(&'a self, model: &'a str) -> LocalFuture<'a, Result<Option<Manifest>>> {
        Box::pin(async move { self.read_manifest(&self.model(model)) })
    }

    fn manifests<'a>(&'a self) -> LocalFuture<'a, Result<Vec<Manifest>>> {
        Box::pin(async move {
            let read = |name: &String| self.read_manifest(&self.root.join(name));
            Ok(names(&self.root)?.iter().map(read).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
        })
    }

    fn write_manifest<'a>(&'a self, manifest: &'a Manifest) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            let json = serde_json::to_vec(manifest)
                .map_err(|error| Error::Store { store: self.describe(), reason: error.to_string() })?;
            write(&self.model(&manifest.model).join(MANIFEST), &json)
        })
    }

    fn chunks<'a>(&'a self, model: &'a str, path: &'a str) -> LocalFuture<'a, Result<BTreeMap<u32, String>>> {
        Box::pin(async move {
            let places = self.places(model, path)?;
            Ok(places.into_iter().map(|(chunk, (sha256, _))| (chunk, sha256)).collect())
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
            self.remove_chunk(model, path, chunk).await?;
            write(&self.file(model, path).join(format!("{chunk:06}-{sha256}")), bytes)
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
            let lost = || lost_chunk(&self.describe(), model, path, chunk);
            let (_, place) = self.places(model, path)?.remove(&chunk).ok_or_else(lost)?;
            let read = |into: &mut Vec<u8>| {
                let mut file = File::open(&place)?;
                file.seek(SeekFrom::Start(offset as u64))?;
                file.take(len as u64).read_to_end(into)
            };
            match read(into).map_err(|source| Error::io(&place, source))? {
                n_bytes if n_bytes == len => Ok(()),
                _ => Err(lost()),
            }
        })
    }

    fn remove_chunk<'a>(&'a self, model: &'a str, path: &'a str, chunk: u32) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            match self.places(model, path)?.remove(&chunk) {
                Some((_, place)) => removed(fs::remove_file(&place), &place),
                None => Ok(()),
            }
        })
    }

    fn remove_file<'a>(&'a self, model: &'a str, path: &'a str) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            let place = self.file(model, path);
            removed(fs::remove_dir_all(&place), &place)
        })
    }

    fn remove<'a>(&'a self, model: &'a str) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            let place = self.model(model);
            // The manifest goes first: chunks without one are no model.
            removed(fs::remove_file(place.join(MANIFEST)), &place)?;
            removed(fs::remove_dir_all(&place), &place)
        })
    }

    fn space<'a>(&'a self) -> LocalFuture<'a, Result<Space>> {
        // The standard library does not tell how much a disk has left; a write that fails does.
        Box::pin(async move { Ok(Space::default()) })
    }

    fn lock<'a>(&'a self, model: &'a str) -> LocalFuture<'a, Result<Box<dyn Lock>>> {
        Box::pin(async move {
            // No model's folder has this name, as a percent sign is always in front of two digits.
            let locks = self.root.join("%locks");
            let place = locks.join(plain(model));
            let opened = fs::create_dir_all(&locks).and_then(|()| File::create(&place));
            let file = opened.map_err(|source| Error::io(&place, source))?;
            file.lock().map_err(|source| Error::io(&place, source))?;
            Ok(Box::new(Held(file)) as Box<dyn Lock>)
        })
    }
}
