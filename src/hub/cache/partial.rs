//! A file that is not complete: its bytes at their places in a sparse file, and a journal of the chunks that are there.
//!
//! The journal is text that only grows: the file's length on the first line, then a line a chunk (`number digest`, or
//! `number -` where it was dropped) or a tag (`etag …`). A line that a crash cut short is ignored, and so is a journal of
//! another length. Both files end in `.incomplete`, as those of `huggingface_hub`.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::store::{CHUNK_BYTES, StoredFile};

/// See the module.
pub(super) struct Partial {
    data_path: PathBuf,
    journal_path: PathBuf,
    data: File,
    journal: File,
    etag: Option<String>,
    chunks: BTreeMap<u32, String>,
}

/// The error for a failed write: a full disk is told apart.
pub(super) fn write_error(path: &Path, n_bytes: u64, source: std::io::Error) -> Error {
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Error::StoreFull { missing_bytes: n_bytes, free_bytes: None }
        }
        _ => Error::io(path, source),
    }
}

/// Where the bytes and the journal of a file called `name` are in a folder.
fn paths(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    (folder.join(format!("{name}.darkroom.incomplete")), folder.join(format!("{name}.darkroom.chunks.incomplete")))
}

/// Whether a file in a folder is a part of one that is not complete.
pub(super) fn is_partial(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "incomplete")
}

impl Partial {
    /// Opens what is there of a file called `name` in a folder, `None` where nothing is.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn open_existing(folder: &Path, name: &str, file: &StoredFile) -> Result<Option<Self>> {
        if paths(folder, name).1.is_file() { Self::open(folder, name, file).map(Some) } else { Ok(None) }
    }

    /// Opens what is there of a file called `name` in a folder, or begins it.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::StoreFull`].
    pub(super) fn open(folder: &Path, name: &str, file: &StoredFile) -> Result<Self> {
        let (data_path, journal_path) = paths(folder, name);
        let open = |path: &Path| {
            let opened = fs::create_dir_all(folder)
                .and_then(|()| OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path));
            opened.map_err(|source| write_error(path, file.bytes, source))
        };
        let (data, mut journal) = (open(&data_path)?, open(&journal_path)?);
        let mut text = Vec::new();
        journal.read_to_end(&mut text).map_err(|source| Error::io(&journal_path, source))?;
        let text = String::from_utf8_lossy(&text);
        let (etag, chunks) = read_journal(&text, file);
        let mut partial = Partial { data_path, journal_path, data, journal, etag, chunks };
        if text.lines().next() != Some(&header(file)) {
            partial.restart(file)?;
        } else if !text.ends_with('\n') {
            partial.log("")?;
        }
        Ok(partial)
    }

    /// Drops everything that is there.
    fn restart(&mut self, file: &StoredFile) -> Result<()> {
        (self.etag, self.chunks) = (None, BTreeMap::new());
        for (file, path) in [(&self.data, &self.data_path), (&self.journal, &self.journal_path)] {
            file.set_len(0).map_err(|source| Error::io(path, source))?;
        }
        self.journal.seek(SeekFrom::Start(0)).map_err(|source| Error::io(&self.journal_path, source))?;
        self.log(&header(file))
    }

    fn log(&mut self, line: &str) -> Result<()> {
        let written = self.journal.write_all(format!("{line}\n").as_bytes());
        written.map_err(|source| write_error(&self.journal_path, CHUNK_BYTES, source))
    }

    /// The tag that the server gave the content.
    pub(super) fn etag(&self) -> Option<&str> {
        self.etag.as_deref()
    }

    /// The chunks that are there, with the SHA-256 that each had when it came.
    pub(super) fn chunks(&self) -> &BTreeMap<u32, String> {
        &self.chunks
    }

    /// Notes the tag that the server gave the content.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::StoreFull`].
    pub(super) fn set_etag(&mut self, etag: &str) -> Result<()> {
        // A line end cannot be in a header; were it there, the journal would say something else.
        self.log(&format!("etag {}", etag.replace(['\n', '\r'], " ")))?;
        self.etag = Some(etag.to_owned());
        Ok(())
    }

    /// Writes a chunk, then notes it.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::StoreFull`].
    pub(super) fn write(&mut self, chunk: u32, bytes: &[u8], sha256: &str) -> Result<()> {
        let at = SeekFrom::Start(u64::from(chunk) * CHUNK_BYTES);
        let written = self.data.seek(at).and_then(|_| self.data.write_all(bytes));
        written.map_err(|source| write_error(&self.data_path, bytes.len() as u64, source))?;
        self.log(&format!("{chunk} {sha256}"))?;
        self.chunks.insert(chunk, sha256.to_owned());
        Ok(())
    }

    /// Appends `len` bytes from `offset` in the file on to `into`.
    ///
    /// # Errors
    /// [`Error::Io`], also where the file ends before.
    pub(super) fn read(&mut self, offset: u64, len: usize, into: &mut Vec<u8>) -> Result<()> {
        let start = into.len();
        into.resize(start + len, 0);
        let read = self.data.seek(SeekFrom::Start(offset)).and_then(|_| self.data.read_exact(&mut into[start..]));
        read.map_err(|source| Error::io(&self.data_path, source))
    }

    /// Counts a chunk as absent.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::StoreFull`].
    pub(super) fn remove(&mut self, chunk: u32) -> Result<()> {
        self.chunks.remove(&chunk);
        self.log(&format!("{chunk} -"))
    }

    /// Removes both files.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn discard(self) -> Result<()> {
        let Partial { data_path, journal_path, data, journal, .. } = self;
        // An open file cannot be removed on Windows.
        drop((data, journal));
        for path in [journal_path, data_path] {
            fs::remove_file(&path).map_err(|source| Error::io(&path, source))?;
        }
        Ok(())
    }

    /// Gives the file its final name; the journal is removed. It is on the disk before it has the name.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::StoreFull`].
    pub(super) fn finish(self, path: &Path, n_bytes: u64) -> Result<()> {
        let Partial { data_path, journal_path, data, journal, .. } = self;
        let synced = data.set_len(n_bytes).and_then(|()| data.sync_data());
        drop((data, journal));
        let moved = synced.and_then(|()| fs::rename(&data_path, path));
        moved.map_err(|source| write_error(path, n_bytes, source))?;
        fs::remove_file(&journal_path).map_err(|source| Error::io(&journal_path, source))
    }
}

fn header(file: &StoredFile) -> String {
    format!("bytes {}", file.bytes)
}

/// The tag and the chunks that a journal of this file notes.
fn read_journal(text: &str, file: &StoredFile) -> (Option<String>, BTreeMap<u32, String>) {
    let (mut etag, mut chunks) = (None, BTreeMap::new());
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).skip(1) {
        match line.split_once(' ') {
            Some(("etag", tag)) => etag = Some(tag.to_owned()),
            Some((chunk, sha256)) => match chunk.parse::<u32>() {
                Ok(chunk) if sha256 == "-" => drop(chunks.remove(&chunk)),
                Ok(chunk) if sha256.len() == 64 && chunk < file.n_chunks() => {
                    chunks.insert(chunk, sha256.to_owned());
                }
                _ => {}
            },
            None => {}
        }
    }
    (etag, chunks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sha256_hex;

    #[test]
    fn what_was_written_is_there_after_a_restart_and_a_torn_line_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = StoredFile::new("x", 2 * CHUNK_BYTES + 3);
        let (first, last) = (vec![1; CHUNK_BYTES as usize], vec![3; 3]);
        let mut partial = Partial::open(folder.path(), "x", &file).unwrap();
        partial.set_etag("\"a tag\"").unwrap();
        partial.write(2, &last, &sha256_hex(&last)).unwrap();
        partial.write(0, &first, &sha256_hex(&first)).unwrap();
        partial.remove(0).unwrap();
        drop(partial);

        let journal = paths(folder.path(), "x").1;
        let mut text = fs::read_to_string(&journal).unwrap();
        text.push_str(&format!("0 {}", &sha256_hex(&first)[..40]));
        fs::write(&journal, text).unwrap();
        let mut partial = Partial::open_existing(folder.path(), "x", &file).unwrap().unwrap();
        assert_eq!(partial.etag(), Some("\"a tag\""));
        assert_eq!(partial.chunks().iter().collect::<Vec<_>>(), [(&2, &sha256_hex(&last))]);
        let mut bytes = Vec::new();
        partial.read(2 * CHUNK_BYTES, 3, &mut bytes).unwrap();
        assert_eq!(bytes, last);
        assert!(partial.read(2 * CHUNK_BYTES, 4, &mut bytes).is_err());
        partial.write(0, &first, &sha256_hex(&first)).unwrap();
        drop(partial);
        assert_eq!(Partial::open(folder.path(), "x", &file).unwrap().chunks().len(), 2);

        // Of a file of another length nothing is kept.
        let other = StoredFile::new("x", 7);
        assert!(Partial::open(folder.path(), "x", &other).unwrap().chunks().is_empty());
        fs::write(&journal, [0xff, 0, b'\n']).unwrap();
        assert!(Partial::open(folder.path(), "x", &other).unwrap().chunks().is_empty());
    }
}
