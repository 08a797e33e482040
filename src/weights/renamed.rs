//! Tensors under other names and in other cuts than the layer below has them: the layouts of single-file checkpoints, where
//! three matrices lie fused in one and a projection is transposed. Which name stands for which is a table that is given;
//! nothing is copied: a tensor that was fused is sliced as it is read.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use super::gguf::BlockType;
use super::source::LocalFuture;
use super::tensors::{Tensor, TensorSource};
use crate::error::words::counted;
use crate::error::{Error, Result};

/// Where a tensor is found in the layer below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its name there.
    pub stored: String,
    /// How it lies there.
    pub cut: Cut,
}

/// How a tensor lies in the one that is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cut {
    /// It is the stored one.
    #[default]
    Whole,
    /// The part of this number of so many equal parts along the first dimension.
    Rows {
        /// Counted from 0.
        part: usize,
        /// How many there are.
        of: usize,
    },
    /// The stored matrix with rows and columns exchanged.
    Transposed,
}

/// See the module.
pub struct Renamed {
    base: Rc<dyn TensorSource>,
    places: BTreeMap<String, (Place, Vec<usize>)>,
    /// Stored names that no place uses, but that belong here.
    unused: Vec<String>,
}

impl Renamed {
    /// Tensors of `base` by the names in `places`. Those that `base` lacks are left out; one that cannot be cut so is there
    /// with the stored shape, and [`TensorSource::stored_for`] tells which one it should have. `unused` are names of the layer
    /// below that belong to the same component and have no place.
    #[must_use]
    pub fn new(base: Rc<dyn TensorSource>, places: BTreeMap<String, Place>, unused: Vec<String>) -> Self {
        let mut found = BTreeMap::new();
        for (name, place) in places {
            let Some(tensor) = base.tensor(&place.stored) else { continue };
            let shape = shape_of(&place.cut, tensor.shape).unwrap_or_else(|| tensor.shape.to_vec());
            found.insert(name, (place, shape));
        }
        Renamed { base, places: found, unused }
    }

    async fn read_transposed(&self, tensor: Tensor<'_>, bytes: Range<u64>) -> Result<Vec<u8>> {
        let (Some(element), &[rows, columns]) = (tensor.dtype.n_bytes(), tensor.shape) else {
            let reason = format!("tensor {} cannot be transposed", tensor.name);
            return Err(Error::Safetensors { file: tensor.file.to_owned(), reason });
        };
        let whole = self.base.read(tensor.name, 0, rows * columns * element).await?;
        let mut turned = Vec::with_capacity(whole.len());
        for column in 0..columns {
            for row in 0..rows {
                let at = (row * columns + column) * element;
                turned.extend_from_slice(&whole[at..at + element]);
            }
        }
        Ok(turned[bytes.start as usize..bytes.end as usize].to_vec())
    }
}

/// The shape that a stored tensor must have so that `wanted` can be cut out of it.
fn shape_before(cut: &Cut, wanted: &[usize]) -> Vec<usize> {
    match (cut, wanted) {
        (Cut::Transposed, _) => wanted.iter().rev().copied().collect(),
        (&Cut::Rows { of, .. }, &[first, ref rest @ ..]) => [&[first.saturating_mul(of)], rest].concat(),
        _ => wanted.to_vec(),
    }
}

/// The shape of what is cut out of a tensor, if it can be.
fn shape_of(cut: &Cut, stored: &[usize]) -> Option<Vec<usize>> {
    match (cut, stored) {
        (Cut::Whole, _) => Some(stored.to_vec()),
        (Cut::Transposed, &[rows, columns]) => Some(vec![columns, rows]),
        (&Cut::Rows { part, of }, &[first, ref rest @ ..]) if part < of && first.is_multiple_of(of) => {
            Some([&[first / of], rest].concat())
        }
        _ => None,
    }
}

impl TensorSource for Renamed {
    fn names(&self) -> Vec<&str> {
        // A place may have another spelling of the name than the layers below.
        let stored = |place: &'_ str| self.base.tensor(place).map(|tensor| tensor.name);
        let places = self.places.values().map(|(place, _)| place.stored.as_str());
        let mut names: Vec<&str> = places.map(|place| stored(place).unwrap_or(place)).collect();
        names.extend(self.unused.iter().map(String::as_str));
        names.sort_unstable();
        names.dedup();
        names
    }

    fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        let (place, shape) = self.places.get(name)?;
        let stored = self.base.tensor(&place.stored)?;
        let n_bytes = match place.cut {
            Cut::Rows { of, .. } => stored.n_bytes / of as u64,
            _ => stored.n_bytes,
        };
        Some(Tensor { shape, n_bytes, ..stored })
    }

    fn stored_for(&self, name: &str, wanted: &[usize]) -> Option<(Vec<usize>, Tensor<'_>)> {
        let (place, _) = self.places.get(name).filter(|(place, _)| place.cut != Cut::Whole)?;
        Some((shape_before(&place.cut, wanted), self.base.tensor(&place.stored)?))
    }

    fn read<'a>(&'a self, name: &'a str, offset: u64, len: usize) -> LocalFuture<'a, Result<Vec<u8>>> {
        Box::pin(async move {
            let Some(((place, shape), tensor)) = self.places.get(name).zip(self.tensor(name)) else {
                return Err(Error::TensorMissing { name: name.into(), file: self.describe(), expected: [][..].into() });
            };
            let n_values = shape.iter().product::<usize>() as u64;
            let n_bytes = n_values * tensor.dtype.n_bytes().unwrap_or_default() as u64;
            let Some(end) = offset.checked_add(len as u64).filter(|end| *end <= n_bytes) else {
                let reason = format!(
                    "{} from {offset} on leave tensor {name} of {}",
                    counted(len, "byte"),
                    counted(n_bytes, "byte")
                );
                return Err(Error::Safetensors { file: tensor.file.to_owned(), reason });
            };
            match place.cut {
                Cut::Whole => self.base.read(&place.stored, offset, len).await,
                Cut::Rows { part, .. } => self.base.read(&place.stored, part as u64 * n_bytes + offset, len).await,
                Cut::Transposed => match self.base.tensor(&place.stored) {
                    Some(stored) => self.read_transposed(stored, offset..end).await,
                    None => self.base.read(&place.stored, offset, len).await,
                },
            }
        })
    }

    fn blocks(&self, name: &str) -> Option<BlockType> {
        let (place, shape) = self.places.get(name)?;
        let kind = self.base.blocks(&place.stored)?;
        let n_values = shape.iter().product::<usize>();
        let begins_with_one = match place.cut {
            Cut::Whole => true,
            Cut::Rows { part, .. } => (part * n_values).is_multiple_of(kind.elements()),
            Cut::Transposed => false,
        };
        begins_with_one.then_some(kind)
    }

    fn read_blocks<'a>(&'a self, name: &'a str, first: u64, n: u64) -> LocalFuture<'a, Result<Vec<u8>>> {
        let Some((place, shape)) = self.places.get(name) else { return self.base.read_blocks(name, first, n) };
        let before = match place.cut {
            Cut::Rows { part, .. } => (part * shape.iter().product::<usize>()) as u64,
            Cut::Whole | Cut::Transposed => 0,
        };
        self.base.read_blocks(&place.stored, before.saturating_add(first), n)
    }

    fn describe(&self) -> String {
        self.base.describe()
    }
}
