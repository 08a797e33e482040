//! Where bytes come from: one trait for a file in memory, on disk, in a browser's store or behind HTTP ranges.
//!
//! It deliberately only reads. Writing is the business of the stores.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use crate::error::words::counted;
use crate::error::{Error, Result};

/// A future that stays on its thread, as everything that touches a browser's objects must.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A file of known length that can be read at any place.
pub trait ByteSource {
    /// The name for messages: a path or an address.
    fn name(&self) -> &str;

    /// The length in bytes.
    fn len(&self) -> u64;

    /// Whether there is nothing to read.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads exactly `len` bytes from `offset` on.
    ///
    /// # Errors
    /// Where the range leaves the file, or the file cannot be read.
    fn read<'a>(&'a self, offset: u64, len: usize) -> LocalFuture<'a, Result<Vec<u8>>>;
}

/// A file that is in memory as a whole: embedded in the program, dropped on the page, or made by a test.
pub struct MemorySource {
    name: String,
    bytes: Cow<'static, [u8]>,
}

impl MemorySource {
    /// Takes a `Vec<u8>` or a `&'static [u8]`.
    #[must_use]
    pub fn new(name: impl Into<String>, bytes: impl Into<Cow<'static, [u8]>>) -> Self {
        MemorySource { name: name.into(), bytes: bytes.into() }
    }

    fn slice(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(offset).ok()?;
        self.bytes.get(start..start.checked_add(len)?)
    }
}

impl ByteSource for MemorySource {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read<'a>(&'a self, offset: u64, len: usize) -> LocalFuture<'a, Result<Vec<u8>>> {
        let result = self.slice(offset, len).map(<[u8]>::to_vec).ok_or_else(|| outside(&self.name, offset, len));
        Box::pin(std::future::ready(result))
    }
}

/// The error for a range that leaves its file.
pub(super) fn outside(name: &str, offset: u64, len: usize) -> Error {
    let source = std::io::Error::new(
        std::io::ErrorKind::UnexpectedEof,
        format!("{} from {offset} on are not in the file", counted(len, "byte")),
    );
    Error::Io { path: name.to_owned(), source }
}

/// A file that several readers have: to tell what it is, and to open it as a model.
pub struct Shared(pub Rc<dyn ByteSource>);

impl ByteSource for Shared {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read<'a>(&'a self, offset: u64, len: usize) -> LocalFuture<'a, Result<Vec<u8>>> {
        self.0.read(offset, len)
    }
}
