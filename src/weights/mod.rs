//! A checkpoint's tensors, read lazily: headers are parsed as hostile input, and the bytes of a tensor come from wherever
//! the file is (memory, disk, a store) only when they are asked for.
//!
//! [`TensorSource`] is the interface. [`Files`] is the lowest layer; above it stack layers for other names ([`Aliased`],
//! [`Renamed`]), types ([`Decoded`]), values ([`Merged`]) and more rows of a table ([`MoreRows`]). [`Weights`] is the whole
//! stack of one component as runners load from it, with what
//! is checked on the way. No tensor bytes are kept here, and no device is known. Which files belong to a model is the
//! business of [`crate::hub`].

mod aliases;
pub mod blocks;
pub mod convert;
mod decoded;
#[cfg(not(target_arch = "wasm32"))]
mod disk;
mod dtype;
mod files;
pub mod gguf;
mod header;
pub mod merged;
mod renamed;
mod rows;
mod source;
mod tensors;
mod weight_type;

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use self::gguf::BlockType;
use crate::error::{Dims, Error, Result};
use crate::graph::WeightSpec;

pub use aliases::Aliased;
pub use decoded::Decoded;
#[cfg(not(target_arch = "wasm32"))]
pub use disk::DiskSource;
pub use dtype::Dtype;
pub use files::Files;
pub use header::{MAX_HEADER_BYTES, MAX_TENSORS, TensorInfo, header_of_f16};
pub use merged::Merged;
pub use renamed::{Cut, Place, Renamed};
pub use rows::MoreRows;
pub use source::{ByteSource, LocalFuture, MemorySource, Shared};
pub use tensors::{Tensor, TensorSource};
pub use weight_type::WeightType;

/// How many bytes of a tensor are read at once where its numbers are converted on the way.
const PIECE_BYTES: u64 = 8 << 20;

/// The tensors of one component (a UNet, a VAE, a text encoder) under the names that its graphs have for them.
#[derive(Clone)]
pub struct Weights(Rc<dyn TensorSource>);

impl Weights {
    /// Reads the headers of all files of a component in diffusers' layout, old spellings included. No tensor is read.
    ///
    /// # Errors
    /// As [`Files::open`].
    pub async fn open(sources: Vec<Box<dyn ByteSource>>) -> Result<Self> {
        Ok(Weights::of(Rc::new(Aliased(Rc::new(Files::open(sources).await?)))))
    }

    /// The weights that a stack of layers gives.
    #[must_use]
    pub fn of(tensors: Rc<dyn TensorSource>) -> Self {
        Weights(tensors)
    }

    /// The same weights with changes of adapters in them; these where there are none.
    #[must_use]
    pub fn merged(&self, changes: merged::Changes) -> Self {
        if changes.is_empty() { self.clone() } else { Weights::of(Rc::new(Merged::new(Rc::clone(&self.0), changes))) }
    }

    /// The same weights where a table has `n_rows`, of which the last are `added`.
    #[must_use]
    pub fn with_rows(self, table: &str, n_rows: usize, added: Arc<[f32]>) -> Self {
        Weights::of(Rc::new(MoreRows::new(self.0, table, n_rows, added)))
    }

    /// A tensor, found under its own name or an alias (see [`Weights::check`]).
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Tensor<'_>> {
        self.0.tensor(name)
    }

    /// The type that a tensor has in its file, which is not the type of its values where adapters are in them.
    #[must_use]
    pub fn own_dtype(&self, name: &str) -> Option<&Dtype> {
        self.0.own_dtype(name)
    }

    /// A tensor as a stored one plus products of small factors, where it is one ([`TensorSource::low_rank`]).
    #[must_use]
    pub fn low_rank(&self, name: &str) -> Option<merged::LowRank<'_>> {
        self.0.low_rank(name)
    }

    /// The names of all tensors as the lowest layer spells them, in alphabetical order.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.0.names()
    }

    /// The names of the files, for messages.
    #[must_use]
    pub fn file_names(&self) -> String {
        self.0.describe()
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
        let used: BTreeSet<&str> = expected.iter().filter_map(|spec| self.get(&spec.name)).map(|t| t.name).collect();
        let is_unused = |stored: &&str| !used.contains(stored) && !aliases::may_be_left_over(stored);
        Ok(self.names().into_iter().filter(is_unused).collect())
    }

    /// Checks that the files hold what `expected` asks for, whatever else they hold: for a graph that uses a part of a
    /// component.
    ///
    /// # Errors
    /// [`Error::TensorMissing`], [`Error::TensorShape`] and [`Error::TensorDtype`], each naming the tensor, the file
    /// and the shapes.
    pub fn check_present(&self, expected: &[WeightSpec]) -> Result<()> {
        for spec in expected {
            let Some(tensor) = self.get(&spec.name) else {
                return Err(self.missing(&spec.name, &spec.shape));
            };
            let (expected, stored) =
                self.0.stored_for(&spec.name, &spec.shape).unwrap_or_else(|| (spec.shape.clone(), tensor));
            if !aliases::same_matrix(stored.shape, &expected) {
                return Err(Error::TensorShape {
                    name: stored.name.to_owned(),
                    file: stored.file.to_owned(),
                    expected: expected.as_slice().into(),
                    got: stored.shape.into(),
                });
            }
            element_bytes(&tensor)?;
        }
        Ok(())
    }

    /// Reads a tensor as f32, row-major. Its bytes pass through in pieces, so that no more than the numbers and one piece
    /// is in memory.
    ///
    /// # Errors
    /// [`Error::TensorMissing`], [`Error::TensorDtype`] for what is no floating-point type, [`Error::Io`] where there is
    /// no memory for the numbers, and whatever the file returns when it cannot be read.
    pub async fn read_f32(&self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.get(name).ok_or_else(|| self.missing(name, &[]))?;
        let n_values = tensor.shape.iter().product::<usize>();
        let n_bytes = n_values as u64 * element_bytes(&tensor)?;
        let mut values = Vec::new();
        values.try_reserve_exact(n_values).map_err(|_| {
            let (name, needs) = (tensor.name, n_values.saturating_mul(size_of::<f32>()));
            let reason = format!("tensor {name} needs {needs} bytes of memory, more than there are");
            let source = std::io::Error::new(std::io::ErrorKind::OutOfMemory, reason);
            Error::Io { path: tensor.file.to_owned(), source }
        })?;
        let mut offset = 0;
        while offset < n_bytes {
            let n = PIECE_BYTES.min(n_bytes - offset);
            let bytes = self.0.read(name, offset, n as usize).await?;
            convert::append_f32(tensor.dtype, &bytes, &mut values).ok_or_else(|| not_float(&tensor))?;
            offset += n;
        }
        Ok(values)
    }

    /// Reads `n` values of a tensor from the one at `first` on, as f32.
    ///
    /// # Errors
    /// As [`Weights::read_part`].
    pub async fn read_values(&self, name: &str, first: usize, n: usize) -> Result<Vec<f32>> {
        let tensor = self.get(name).ok_or_else(|| self.missing(name, &[]))?;
        let element = element_bytes(&tensor)?;
        let bytes = self.0.read(name, first as u64 * element, n * element as usize).await?;
        convert::f32_from_le_bytes(tensor.dtype, &bytes).ok_or_else(|| not_float(&tensor))
    }

    /// The first of the tensors `names` that has a NaN or an infinity. All of them are read, in pieces.
    ///
    /// # Errors
    /// As [`Weights::read_f32`].
    pub async fn first_not_finite<'n>(&self, names: impl Iterator<Item = &'n str>) -> Result<Option<Tensor<'_>>> {
        let mut values = Vec::new();
        for name in names {
            let Some(tensor) = self.get(name) else { continue };
            let n_bytes = tensor.shape.iter().product::<usize>() as u64 * element_bytes(&tensor)?;
            let mut offset = 0;
            while offset < n_bytes {
                let n = PIECE_BYTES.min(n_bytes - offset);
                let bytes = self.0.read(name, offset, n as usize).await?;
                values.clear();
                convert::append_f32(tensor.dtype, &bytes, &mut values).ok_or_else(|| not_float(&tensor))?;
                if values.iter().any(|value| !value.is_finite()) {
                    return Ok(Some(tensor));
                }
                offset += n;
            }
        }
        Ok(None)
    }

    /// Reads `len` bytes of a tensor from `offset` on, of the type that [`Tensor::dtype`] says, so that a large one can
    /// pass through a small staging area.
    ///
    /// # Errors
    /// As [`Weights::read_f32`], and [`Error::Safetensors`] where the range leaves the tensor.
    pub async fn read_part(&self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>> {
        let tensor = self.get(name).ok_or_else(|| self.missing(name, &[]))?;
        element_bytes(&tensor)?;
        self.0.read(name, offset, len).await
    }

    /// The type of the blocks that a tensor is stored in, where they can be read as they are.
    #[must_use]
    pub fn blocks(&self, name: &str) -> Option<BlockType> {
        self.0.blocks(name)
    }

    /// The same, where the blocks lie along the inputs of a matrix \[O,I\] or a 1x1 convolution: no block has values of two
    /// outputs, or of two taps.
    #[must_use]
    pub fn blocks_along_inputs(&self, spec: &WeightSpec) -> Option<BlockType> {
        let [_, inputs, ref taps @ ..] = spec.shape[..] else { return None };
        let kind = self.blocks(&spec.name)?;
        (inputs.is_multiple_of(kind.elements()) && taps.iter().all(|side| *side == 1)).then_some(kind)
    }

    /// Reads such blocks: those of `n` numbers from the one of number `first` on.
    ///
    /// # Errors
    /// As [`TensorSource::read_blocks`].
    pub async fn read_blocks(&self, name: &str, first: u64, n: u64) -> Result<Vec<u8>> {
        self.0.read_blocks(name, first, n).await
    }

    fn missing(&self, name: &str, shape: &[usize]) -> Error {
        Error::TensorMissing { name: name.to_owned(), file: self.file_names(), expected: Dims::from(shape) }
    }
}

/// The bytes of an element of a tensor whose type weights can have.
fn element_bytes(tensor: &Tensor<'_>) -> Result<u64> {
    tensor.dtype.n_bytes().map(|n| n as u64).ok_or_else(|| not_float(tensor))
}

fn not_float(tensor: &Tensor<'_>) -> Error {
    let got = tensor.dtype.name().to_owned();
    Error::TensorDtype { name: tensor.name.to_owned(), file: tensor.file.to_owned(), got }
}

impl std::fmt::Debug for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Weights").field("files", &self.file_names()).field("n_tensors", &self.names().len()).finish()
    }
}
