//! A checkpoint's tensors, read lazily: safetensors headers are parsed as hostile input, and the bytes of a tensor come
//! from wherever the file is (memory, disk, a store) only when they are asked for.
//!
//! It deliberately keeps no tensor bytes, knows no device and downloads nothing. Which files belong to a model is the
//! business of [`crate::hub`].

mod aliases;
pub mod convert;
#[cfg(not(target_arch = "wasm32"))]
mod disk;
pub mod gguf;
mod header;
mod source;

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Dims, Error, Result};
use crate::graph::WeightSpec;

#[cfg(not(target_arch = "wasm32"))]
pub use disk::DiskSource;
pub use header::{Dtype, MAX_HEADER_BYTES, MAX_TENSORS, TensorInfo, header_of_f16};
pub use source::{ByteSource, LocalFuture, MemorySource};

/// How many bytes of a tensor are read at once where its numbers are converted on the way.
const PIECE_BYTES: u64 = 8 << 20;

/// The tensors of one component (a UNet, a VAE, a text encoder), merged over the files that it is split into.
pub struct Weights {
    sources: Vec<Box<dyn ByteSource>>,
    tensors: BTreeMap<String, TensorInfo>,
}

impl Weights {
    /// Reads the headers of all files of a component. No tensor is read.
    ///
    /// # Errors
    /// [`Error::Safetensors`] for a file that breaks the format's rules and for a tensor that two files have; whatever
    /// the sources return when they cannot be read.
    pub async fn open(sources: Vec<Box<dyn ByteSource>>) -> Result<Self> {
        let mut tensors: BTreeMap<String, TensorInfo> = BTreeMap::new();
        let mut n_left = MAX_TENSORS;
        for (file_idx, source) in sources.iter().enumerate() {
            for (name, info) in header::read(source.as_ref(), file_idx, &mut n_left).await? {
                if let Some(earlier) = tensors.get(&name) {
                    let other = sources[earlier.file].name();
                    return Err(Error::Safetensors {
                        file: source.name().to_owned(),
                        reason: format!("tensor {name} is also in {other}"),
                    });
                }
                tensors.insert(name, info);
            }
        }
        Ok(Weights { sources, tensors })
    }

    /// Where a tensor is, found under its own name or an alias (see [`Weights::check`]).
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.find(name).map(|(_, info)| info)
    }

    /// The names of all tensors as the files spell them, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The names of the files, for messages.
    #[must_use]
    pub fn file_names(&self) -> String {
        let names: Vec<&str> = self.sources.iter().map(|source| source.name()).collect();
        names.join(", ")
    }

    /// How many bytes all tensors have together.
    #[must_use]
    pub fn n_bytes(&self) -> u64 {
        self.tensors.values().map(|info| info.n_bytes).sum()
    }

    /// Checks that the files hold what `expected` asks for, and gives the names of the tensors that nothing uses, in
    /// alphabetical order. `expected` is what all graphs of the component need together: for a VAE its encoder and its
    /// decoder.
    ///
    /// Names are compared after aliases: a VAE's attention may be called `to_q` or `query`, a text encoder's tensors
    /// may lack the prefix `text_model.`. Shapes may differ in trailing ones, since a 1x1 convolution stores a matrix
    /// as `[out, in, 1, 1]`.
    ///
    /// Unused tensors are no fault, as they are none to diffusers: a text encoder's file may hold a whole CLIP, a
    /// UNet's its EMA copy. `position_ids`, which old files carry, are not worth a note and are left out.
    ///
    /// # Errors
    /// Those of [`Weights::check_present`].
    pub fn check(&self, expected: &[WeightSpec]) -> Result<Vec<&str>> {
        self.check_present(expected)?;
        let used: BTreeSet<&str> =
            expected.iter().filter_map(|spec| self.find(&spec.name)).map(|(stored, _)| stored).collect();
        let is_unused = |stored: &&str| !used.contains(stored) && !aliases::may_be_left_over(stored);
        Ok(self.names().filter(is_unused).collect())
    }

    /// Checks that the files hold what `expected` asks for, whatever else they hold: for a graph that uses a part of a
    /// component.
    ///
    /// # Errors
    /// [`Error::TensorMissing`], [`Error::TensorShape`] and [`Error::TensorDtype`], each naming the tensor, the file
    /// and the shapes.
    pub fn check_present(&self, expected: &[WeightSpec]) -> Result<()> {
        for spec in expected {
            let Some((stored, info)) = self.find(&spec.name) else {
                return Err(self.missing(&spec.name, &spec.shape));
            };
            if !aliases::same_matrix(&info.shape, &spec.shape) {
                return Err(Error::TensorShape {
                    name: stored.to_owned(),
                    file: self.file_of(info).to_owned(),
                    expected: spec.shape.as_slice().into(),
                    got: info.shape.as_slice().into(),
                });
            }
            self.require_float(stored, info)?;
        }
        Ok(())
    }

    /// Reads a tensor as f32, in the order of the file (row-major). The file's bytes pass through in pieces, so that no
    /// more than the numbers and one piece is in memory.
    ///
    /// # Errors
    /// [`Error::TensorMissing`], [`Error::TensorDtype`] for what is no floating-point type, [`Error::Io`] where there is
    /// no memory for the numbers, and whatever the source returns when it cannot be read.
    pub async fn read_f32(&self, name: &str) -> Result<Vec<f32>> {
        let (stored, info) = self.find(name).ok_or_else(|| self.missing(name, &[]))?;
        let element_bytes = info.dtype.n_bytes().ok_or_else(|| self.not_float(stored, info))? as u64;
        let n_values = info.n_bytes / element_bytes;
        let mut values = Vec::new();
        usize::try_from(n_values).ok().and_then(|n| values.try_reserve_exact(n).ok()).ok_or_else(|| {
            let reason =
                format!("tensor {stored} needs {} bytes of memory, more than there are", n_values.saturating_mul(4));
            let source = std::io::Error::new(std::io::ErrorKind::OutOfMemory, reason);
            Error::Io { path: self.file_of(info).to_owned(), source }
        })?;
        let mut offset = 0;
        while offset < info.n_bytes {
            let n = PIECE_BYTES.min(info.n_bytes - offset);
            let bytes = self.read_bytes(stored, info, offset, n).await?;
            convert::append_f32(&info.dtype, &bytes, &mut values).ok_or_else(|| self.not_float(stored, info))?;
            offset += n;
        }
        Ok(values)
    }

    /// Reads a tensor's bytes as the file has them: little-endian, row-major.
    ///
    /// # Errors
    /// As [`Weights::read_f32`].
    pub async fn read_raw(&self, name: &str) -> Result<(Dtype, Vec<u8>)> {
        let (stored, info) = self.find(name).ok_or_else(|| self.missing(name, &[]))?;
        self.require_float(stored, info)?;
        let bytes = self.read_bytes(stored, info, 0, info.n_bytes).await?;
        Ok((info.dtype.clone(), bytes))
    }

    /// Reads `len` bytes of a tensor from `offset` on, so that a large one can pass through a small staging area.
    ///
    /// # Errors
    /// As [`Weights::read_f32`], and [`Error::Safetensors`] where the range leaves the tensor.
    pub async fn read_part(&self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>> {
        let (stored, info) = self.find(name).ok_or_else(|| self.missing(name, &[]))?;
        self.require_float(stored, info)?;
        self.read_bytes(stored, info, offset, len as u64).await
    }

    /// A tensor under its stored name, whichever of its names is asked for.
    fn find(&self, name: &str) -> Option<(&str, &TensorInfo)> {
        let entry = |name: &str| self.tensors.get_key_value(name);
        let found = entry(name).or_else(|| aliases::other_names(name).iter().find_map(|alias| entry(alias)));
        found.map(|(stored, info)| (stored.as_str(), info))
    }

    fn file_of(&self, info: &TensorInfo) -> &str {
        self.sources[info.file].name()
    }

    fn missing(&self, name: &str, shape: &[usize]) -> Error {
        Error::TensorMissing { name: name.to_owned(), file: self.file_names(), expected: Dims::from(shape) }
    }

    fn require_float(&self, name: &str, info: &TensorInfo) -> Result<()> {
        match &info.dtype {
            Dtype::Other(_) => Err(self.not_float(name, info)),
            _ => Ok(()),
        }
    }

    fn not_float(&self, name: &str, info: &TensorInfo) -> Error {
        Error::TensorDtype {
            name: name.to_owned(),
            file: self.file_of(info).to_owned(),
            got: info.dtype.name().to_owned(),
        }
    }

    async fn read_bytes(&self, name: &str, info: &TensorInfo, offset: u64, len: u64) -> Result<Vec<u8>> {
        let broken = |reason: String| Error::Safetensors { file: self.file_of(info).to_owned(), reason };
        if offset.checked_add(len).is_none_or(|end| end > info.n_bytes) {
            return Err(broken(format!("{len} bytes from {offset} on leave tensor {name} of {} bytes", info.n_bytes)));
        }
        let n = usize::try_from(len).map_err(|_| broken(format!("tensor {name} of {len} bytes is too large")))?;
        let bytes = self.sources[info.file].read(info.offset + offset, n).await?;
        if bytes.len() != n {
            return Err(broken(format!("tensor {name} has {n} bytes, but {} could be read", bytes.len())));
        }
        Ok(bytes)
    }
}

impl std::fmt::Debug for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Weights").field("files", &self.file_names()).field("n_tensors", &self.tensors.len()).finish()
    }
}
