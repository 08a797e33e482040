//! A file on disk as a [`ByteSource`]. Natively only.
//!
//! It deliberately maps nothing into memory: a mapped file that another program shortens ends the process.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};

use super::source::{ByteSource, LocalFuture, outside};

/// A file on disk, kept open. Its length is the one it had when it was opened.
pub struct DiskSource {
    name: String,
    len: u64,
    file: Mutex<File>,
}

impl DiskSource {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// [`Error::Io`] where it is absent, is a folder, or may not be read.
    pub fn open(path: &Path) -> Result<Self> {
        let open = || {
            // Asked before it is opened: a pipe would be waited for.
            let metadata = std::fs::metadata(path)?;
            if metadata.is_dir() {
                return Err(std::io::Error::new(std::io::ErrorKind::IsADirectory, "this is a folder, not a file"));
            }
            if !metadata.is_file() {
                let reason = "this is no regular file, and weights are read at any place: copy it to a file first";
                return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, reason));
            }
            let file = File::open(path)?;
            let n_bytes = file.metadata()?.len();
            Ok((file, n_bytes))
        };
        let (file, len) = open().map_err(|source| Error::io(path, source))?;
        Ok(DiskSource { name: path.display().to_string(), len, file: Mutex::new(file) })
    }

    fn read_now(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        // The length is checked before the buffer is made, so that a wrong one cannot ask for all memory there is.
        if offset.checked_add(len as u64).is_none_or(|end| end > self.len) {
            return Err(outside(&self.name, offset, len));
        }
        let read = || {
            let mut bytes = vec![0; len];
            // A panic elsewhere cannot leave the file in a bad state: every read seeks first.
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(offset))?;
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|source| Error::Io { path: self.name.clone(), source })
    }
}

impl ByteSource for DiskSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn read<'a>(&'a self, offset: u64, len: usize) -> LocalFuture<'a, Result<Vec<u8>>> {
        Box::pin(async move { self.read_now(offset, len) })
    }
}
