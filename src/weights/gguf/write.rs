//! GGUF files in stable-diffusion.cpp's dialect, as pieces of bytes in the order of the file: the names of single-file
//! checkpoints, no architecture, and [`sd_cpp_converts`] for which tensors are quantised.
//!
//! It deliberately writes to nowhere and keeps no tensor: whoever has the numbers passes them through, piece by piece.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use super::{BlockType, DEFAULT_ALIGNMENT, MAGIC, MAX_GGML_DIMS, n_elements, quantize};
use crate::error::{Error, Result};

/// The version that is written.
const VERSION: u32 = 3;

/// The longest name that stable-diffusion.cpp reads: it builds ggml with names of 128 bytes, one of which ends them.
const MAX_WRITTEN_NAME_BYTES: usize = 127;

/// A tensor that a file is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTensor {
    /// Its name.
    pub name: String,
    /// Its shape in torch's order.
    pub shape: Vec<usize>,
    /// How it is stored.
    pub kind: BlockType,
}

/// Whether stable-diffusion.cpp stores a tensor as `kind` where it is asked to convert a file to that; if not, the tensor
/// stays as it is. Weights of normalisations are converted, too, where their length allows.
///
/// The rules are those of `ModelLoader::tensor_should_be_converted` in
/// <https://github.com/leejet/stable-diffusion.cpp/blob/master/src/model_loader.cpp>, without those for names that no
/// version of Stable Diffusion 1, 2 and XL has.
#[must_use]
pub fn sd_cpp_converts(name: &str, shape: &[usize], kind: BlockType) -> bool {
    shape.last().copied().unwrap_or(1).is_multiple_of(kind.elements())
        && ![".bias", ".scale"].iter().any(|suffix| name.ends_with(suffix))
        && !["time_embed.", "label_emb.", "embedding"].iter().any(|part| name.contains(part))
}

/// The pieces of one file: first [`Writer::header`], then what [`Writer::append`] gives for each tensor in order.
#[derive(Debug)]
pub struct Writer {
    header: Vec<u8>,
    /// The tensors and how many bytes each has.
    tensors: Vec<(NewTensor, u64)>,
    /// Which tensor is next, and how many of its bytes there have been.
    current: usize,
    n_written: u64,
}

impl Writer {
    /// Lays a file out. `file` is its name for messages; `metadata` are texts by key.
    ///
    /// # Errors
    /// [`Error::Io`] for what the format cannot hold: a name that is there twice or too long, more than four sides, rows
    /// that do not end with a block.
    pub fn new(file: &str, metadata: &[(&str, &str)], tensors: Vec<NewTensor>) -> Result<Self> {
        let unfit = |reason: String| Error::Io {
            path: file.to_owned(),
            source: std::io::Error::new(ErrorKind::InvalidInput, reason),
        };
        let mut header = MAGIC.to_vec();
        header.extend(VERSION.to_le_bytes());
        header.extend((tensors.len() as u64).to_le_bytes());
        header.extend((metadata.len() as u64).to_le_bytes());
        for (key, value) in metadata {
            put_text(&mut header, key);
            header.extend(super::header::TYPE_STRING.to_le_bytes());
            put_text(&mut header, value);
        }
        let mut names = BTreeSet::new();
        let mut sized = Vec::with_capacity(tensors.len());
        let mut offset = 0u64;
        for tensor in &tensors {
            let NewTensor { name, shape, kind } = tensor;
            if !names.insert(name) {
                return Err(unfit(format!("tensor {name} is there twice")));
            }
            if name.len() > MAX_WRITTEN_NAME_BYTES {
                let reason =
                    format!("the name {name} is longer than the {MAX_WRITTEN_NAME_BYTES} bytes that GGUF allows");
                return Err(unfit(reason));
            }
            if shape.len() > MAX_GGML_DIMS {
                return Err(unfit(format!("tensor {name} has the shape {shape:?}: GGUF has at most four sides")));
            }
            // ggml has no scalars.
            let sides = if shape.is_empty() { &[1] } else { shape.as_slice() };
            let row = sides.last().map_or(1, |&side| side as u64);
            let n_bytes = n_elements(sides).and_then(|n| kind.tensor_bytes(row, n)).ok_or_else(|| {
                unfit(format!("tensor {name} of shape {shape:?} does not fill blocks of type {}", kind.name()))
            })?;
            put_text(&mut header, name);
            header.extend((sides.len() as u32).to_le_bytes());
            header.extend(sides.iter().rev().flat_map(|&side| (side as u64).to_le_bytes()));
            header.extend(kind.id().to_le_bytes());
            header.extend(offset.to_le_bytes());
            offset = n_bytes
                .checked_next_multiple_of(DEFAULT_ALIGNMENT)
                .and_then(|n_bytes| offset.checked_add(n_bytes))
                .ok_or_else(|| unfit("its tensors are larger than any file".into()))?;
            sized.push(n_bytes);
        }
        header.resize(header.len().next_multiple_of(DEFAULT_ALIGNMENT as usize), 0);
        let tensors = tensors.into_iter().zip(sized).collect();
        let mut writer = Writer { header, tensors, current: 0, n_written: 0 };
        writer.skip_empty();
        Ok(writer)
    }

    /// The first bytes of the file, up to the first tensor.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// How many bytes the whole file will have.
    #[must_use]
    pub fn n_bytes(&self) -> u64 {
        let padded = self.tensors.iter().map(|(_, n_bytes)| n_bytes.next_multiple_of(DEFAULT_ALIGNMENT));
        self.header.len() as u64 + padded.sum::<u64>()
    }

    /// The tensor whose numbers come next, or `None` where all are written.
    #[must_use]
    pub fn next_tensor(&self) -> Option<&NewTensor> {
        self.tensors.get(self.current).map(|(tensor, _)| tensor)
    }

    /// Stores numbers of [`Writer::next_tensor`], the first ones or those behind the ones before, and appends to `piece`
    /// the bytes of the file that follow from them, padding included. `None` for a type that is not written here, see
    /// [`quantize()`].
    ///
    /// # Panics
    /// Where they do not fill whole blocks, or are more than the tensor has.
    pub fn append(&mut self, values: &[f32], piece: &mut Vec<u8>) -> Option<()> {
        let kind = self.next_tensor().expect("a tensor is left to be written").kind;
        assert!(values.len().is_multiple_of(kind.elements()), "{} numbers do not fill blocks", values.len());
        let start = piece.len();
        quantize(kind, values, piece)?;
        self.advance(start, piece);
        Some(())
    }

    /// As [`Writer::append`], of bytes that are stored already as the tensor is to be: they are passed on unchanged.
    ///
    /// # Panics
    /// Where they are more than the tensor has.
    pub fn append_stored(&mut self, bytes: &[u8], piece: &mut Vec<u8>) {
        let start = piece.len();
        piece.extend(bytes);
        self.advance(start, piece);
    }

    /// Whether all tensors are written.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.current == self.tensors.len()
    }

    /// Counts what was appended from `start` on, and pads where a tensor ends with it.
    fn advance(&mut self, start: usize, piece: &mut Vec<u8>) {
        let (tensor, n_bytes) = self.tensors.get(self.current).expect("a tensor is left to be written");
        self.n_written += (piece.len() - start) as u64;
        assert!(self.n_written <= *n_bytes, "{} has {n_bytes} bytes, not {}", tensor.name, self.n_written);
        if self.n_written == *n_bytes {
            let n_padding = n_bytes.next_multiple_of(DEFAULT_ALIGNMENT) - n_bytes;
            piece.resize(piece.len() + n_padding as usize, 0);
            self.current += 1;
            self.n_written = 0;
            self.skip_empty();
        }
    }

    fn skip_empty(&mut self) {
        while let Some((_, 0)) = self.tensors.get(self.current) {
            self.current += 1;
        }
    }
}

fn put_text(header: &mut Vec<u8>, text: &str) {
    header.extend((text.len() as u64).to_le_bytes());
    header.extend(text.as_bytes());
}
