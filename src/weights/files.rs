//! The lowest layer of weights: the tensors of one or several files under the names and in the types that they have there.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

use super::header::{self, MAX_TENSORS, TensorInfo};
use super::source::{ByteSource, LocalFuture};
use super::tensors::{Tensor, TensorSource};

/// The tensors of the files that a component, or a whole model, is split into. Headers alone are kept.
pub struct Files {
    sources: Vec<Box<dyn ByteSource>>,
    tensors: BTreeMap<String, TensorInfo>,
    metadata: BTreeMap<String, String>,
}

impl Files {
    /// Reads the headers of all files. No tensor is read.
    ///
    /// # Errors
    /// [`Error::Safetensors`] for a file that breaks the format's rules and for a tensor that two files have; whatever
    /// the sources return when they cannot be read.
    pub async fn open(sources: Vec<Box<dyn ByteSource>>) -> Result<Self> {
        let mut tensors: BTreeMap<String, TensorInfo> = BTreeMap::new();
        let mut metadata = BTreeMap::new();
        let mut n_left = MAX_TENSORS;
        for (file_idx, source) in sources.iter().enumerate() {
            let header = header::read(source.as_ref(), file_idx, &mut n_left).await?;
            metadata.extend(header.metadata);
            for (name, info) in header.tensors {
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
        Ok(Files { sources, tensors, metadata })
    }

    /// Where a tensor is.
    #[must_use]
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// What the writers of the files say about them, by name; of a name that several have, the last file's.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }
}

impl TensorSource for Files {
    fn names(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }

    fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        let (name, info) = self.tensors.get_key_value(name)?;
        let file = self.sources[info.file].name();
        Some(Tensor { name, file, dtype: &info.dtype, shape: &info.shape, n_bytes: info.n_bytes, offset: info.offset })
    }

    fn read<'a>(&'a self, name: &'a str, offset: u64, len: usize) -> LocalFuture<'a, Result<Vec<u8>>> {
        Box::pin(async move {
            let Some(info) = self.tensors.get(name) else {
                return Err(Error::TensorMissing { name: name.into(), file: self.describe(), expected: [][..].into() });
            };
            let source = &self.sources[info.file];
            let broken = |reason: String| Error::Safetensors { file: source.name().to_owned(), reason };
            if offset.checked_add(len as u64).is_none_or(|end| end > info.n_bytes) {
                let n_bytes = info.n_bytes;
                return Err(broken(format!("{len} bytes from {offset} on leave tensor {name} of {n_bytes} bytes")));
            }
            let bytes = source.read(info.offset + offset, len).await?;
            if bytes.len() != len {
                return Err(broken(format!("tensor {name} has {len} bytes, but {} could be read", bytes.len())));
            }
            Ok(bytes)
        })
    }

    fn describe(&self) -> String {
        let names: Vec<&str> = self.sources.iter().map(|source| source.name()).collect();
        names.join(", ")
    }
}
