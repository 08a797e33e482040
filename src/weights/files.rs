//! The lowest layer of weights: the tensors of one or several files under the names and in the types that they have there.

use std::collections::BTreeMap;

use crate::error::words::counted;
use crate::error::{Error, Result};

use super::dtype::Dtype;
use super::gguf;
use super::header::{self, Header, MAX_TENSORS, TensorInfo};
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
    /// [`Error::Safetensors`] and [`Error::Gguf`] for a file that breaks its format's rules and for a tensor that two files
    /// have; whatever the sources return when they cannot be read.
    pub async fn open(sources: Vec<Box<dyn ByteSource>>) -> Result<Self> {
        let mut tensors: BTreeMap<String, TensorInfo> = BTreeMap::new();
        let mut metadata = BTreeMap::new();
        let mut n_left = MAX_TENSORS;
        for (file_idx, source) in sources.iter().enumerate() {
            let header = read_header(source.as_ref(), file_idx, &mut n_left).await?;
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

/// A file of either format, told by its first bytes.
async fn read_header(source: &dyn ByteSource, file_idx: usize, n_left: &mut usize) -> Result<Header> {
    let n = gguf::MAGIC.len();
    let is_gguf = source.len() >= n as u64 && source.read(0, n).await? == gguf::MAGIC;
    if !is_gguf {
        return header::read(source, file_idx, n_left).await;
    }
    let found = gguf::Header::read(source, *n_left).await?;
    *n_left -= found.tensors.len();
    let info = |tensor: gguf::Tensor| TensorInfo {
        dtype: Dtype::of_block(tensor.kind),
        shape: tensor.shape,
        offset: tensor.offset,
        n_bytes: tensor.n_bytes,
        file: file_idx,
    };
    let tensors = found.tensors.into_iter().map(|(name, tensor)| (name, info(tensor))).collect();
    let text = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => Some(text),
        serde_json::Value::Null => None,
        other => Some(other.to_string()),
    };
    let metadata = found.metadata.into_iter().filter_map(|(key, value)| Some((key, text(value)?))).collect();
    Ok(Header { tensors, metadata })
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
                return Err(broken(format!(
                    "{} from {offset} on leave tensor {name} of {}",
                    counted(len, "byte"),
                    counted(n_bytes, "byte")
                )));
            }
            let bytes = source.read(info.offset + offset, len).await?;
            if bytes.len() != len {
                return Err(broken(format!(
                    "tensor {name} has {}, but {} could be read",
                    counted(len, "byte"),
                    bytes.len()
                )));
            }
            Ok(bytes)
        })
    }

    fn describe(&self) -> String {
        let names: Vec<&str> = self.sources.iter().map(|source| source.name()).collect();
        names.join(", ")
    }
}
