//! What runners load from: tensors by name, of which pieces can be read. Files are at the bottom; what changes names, types
//! or values is a layer with the same interface over another one, so that layers stack and a runner knows none of them.

use super::dtype::Dtype;
use super::gguf::BlockType;
use super::merged::LowRank;
use super::source::LocalFuture;
use crate::error::{Error, Result};

/// A tensor as a layer gives it.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    /// The name under which the layer has it, which may be another spelling of the name that was asked for.
    pub name: &'a str,
    /// The file that it is in, for messages.
    pub file: &'a str,
    /// The type of the bytes that [`TensorSource::read`] gives.
    pub dtype: &'a Dtype,
    /// Its shape, row-major.
    pub shape: &'a [usize],
    /// The bytes that it has in the file, in the file's own type.
    pub n_bytes: u64,
    /// Where it begins in the file, so that a whole model can be read in the order of its files.
    pub offset: u64,
}

/// Tensors by name. What is read comes in pieces of the caller's choice, so that a large tensor can pass through a small
/// staging area.
pub trait TensorSource {
    /// The names of all tensors in alphabetical order.
    fn names(&self) -> Vec<&str>;

    /// A tensor, or `None` where there is none of that name.
    fn tensor(&self, name: &str) -> Option<Tensor<'_>>;

    /// The type that a tensor has in its file, where a layer gives it in another one.
    fn own_dtype(&self, name: &str) -> Option<&Dtype> {
        self.tensor(name).map(|tensor| tensor.dtype)
    }

    /// Where a layer cuts or turns stored tensors: the shape that the stored tensor must have for the tensor `name` to have
    /// the shape `wanted`, and the stored tensor. `None` where tensors are stored as they are given.
    fn stored_for(&self, name: &str, wanted: &[usize]) -> Option<(Vec<usize>, Tensor<'_>)> {
        let _ = (name, wanted);
        None
    }

    /// A tensor that a layer has as a stored tensor plus products of small factors, for callers that multiply and add
    /// themselves; [`TensorSource::read`] gives the sum. `None` for all other tensors.
    fn low_rank(&self, name: &str) -> Option<LowRank<'_>> {
        let _ = name;
        None
    }

    /// Reads `len` bytes of a tensor from `offset` on: little-endian, row-major, of the type that [`Tensor::dtype`] says.
    /// Both are whole elements.
    ///
    /// # Errors
    /// [`crate::Error::TensorMissing`]; [`crate::Error::Safetensors`] where the range leaves the tensor; whatever the
    /// file returns when it cannot be read.
    fn read<'a>(&'a self, name: &'a str, offset: u64, len: usize) -> LocalFuture<'a, Result<Vec<u8>>>;

    /// The type of the blocks that a tensor's numbers are stored in, row by row; [`TensorSource::read`] gives the numbers.
    /// `None` where a layer changes them, or cuts where a block goes on.
    fn blocks(&self, name: &str) -> Option<BlockType> {
        let _ = name;
        None
    }

    /// Reads the blocks of `n` numbers of a tensor from the one of number `first` on, as they are stored. Both are multiples
    /// of a block's numbers.
    ///
    /// # Errors
    /// As [`TensorSource::read`]; [`crate::Error::Gguf`] where there are no such blocks.
    fn read_blocks<'a>(&'a self, name: &'a str, first: u64, n: u64) -> LocalFuture<'a, Result<Vec<u8>>> {
        let error = no_blocks(self.describe(), name, first, n);
        Box::pin(async move { Err(error) })
    }

    /// The files, for messages.
    fn describe(&self) -> String;
}

/// That a tensor has no such numbers in whole blocks.
pub(super) fn no_blocks(file: String, name: &str, first: u64, n: u64) -> Error {
    Error::Gguf { file, reason: format!("tensor {name} has no {n} numbers from {first} on in blocks") }
}
