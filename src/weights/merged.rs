//! Weights with adapters in them (LoRA and kin): the differences of all are summed in f32 on the pristine weight as it is
//! read, so that the device rounds once. Tensors that no adapter changes pass through as they are.
//!
//! A tensor passes in pieces: rows that are asked for are computed, and the small factors of one tensor at a time are kept.
//! Where all changes of a tensor are products, a caller may take the pristine values and the factors instead, and add them
//! up on its device ([`LowRank`]).

mod arithmetic;
mod change;
mod low_rank;
mod product;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use self::arithmetic::{Magnitude, Sizes, add_decomposed, add_input_squares};
use self::change::Prepared;
pub use self::change::{Change, Factors, Form, Half, Magnitudes};
pub use self::low_rank::{LowRank, Terms};
use super::dtype::Dtype;
use super::gguf::BlockType;
use super::source::LocalFuture;
use super::tensors::{Tensor, TensorSource};
use super::{PIECE_BYTES, convert};
use crate::error::words::counted;
use crate::error::{Error, Result};

/// A change, as strong as it is asked for.
#[derive(Clone, Debug)]
pub struct Applied {
    /// What is done.
    pub change: Rc<Change>,
    /// W + strength (W' - W).
    pub strength: f32,
}

impl PartialEq for Applied {
    /// Whether it is the same change of the same adapter, as strong.
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.change, &other.change) && self.strength == other.strength
    }
}

/// The changes of tensors by name, in the order in which they are summed.
pub type Changes = BTreeMap<String, Vec<Applied>>;

/// What is kept of the tensor that is being read.
struct Reading {
    name: String,
    prepared: Vec<(Prepared, Vec<f32>)>,
}

/// See the module.
pub struct Merged {
    base: Rc<dyn TensorSource>,
    changes: Changes,
    reading: RefCell<Option<Rc<Reading>>>,
}

impl Merged {
    /// The tensors of `base`, some of them changed.
    #[must_use]
    pub fn new(base: Rc<dyn TensorSource>, changes: Changes) -> Self {
        Merged { base, changes, reading: RefCell::default() }
    }

    /// The changes of a tensor that there is.
    fn changed(&self, name: &str) -> Option<(Tensor<'_>, &[Applied])> {
        let applied = self.changes.get(name).filter(|applied| !applied.is_empty())?;
        Some((self.base.tensor(name)?, applied))
    }

    /// Pristine rows of a tensor.
    async fn pristine(&self, name: &str, tensor: &Tensor<'_>, cols: usize, rows: Range<usize>) -> Result<Vec<f32>> {
        let refuse = || Error::TensorDtype {
            name: tensor.name.to_owned(),
            file: tensor.file.to_owned(),
            got: tensor.dtype.name().to_owned(),
        };
        let element = tensor.dtype.n_bytes().ok_or_else(refuse)?;
        let (first, n) = (rows.start * cols * element, rows.len() * cols * element);
        let bytes = self.base.read(name, first as u64, n).await?;
        convert::f32_from_le_bytes(tensor.dtype, &bytes).ok_or_else(refuse)
    }

    /// The factors of a tensor's changes, with the norms of its inputs where a change needs them.
    async fn reading(&self, name: &str, tensor: &Tensor<'_>, sizes: Sizes, applied: &[Applied]) -> Result<Rc<Reading>> {
        if let Some(reading) = self.reading.borrow().as_ref().filter(|reading| reading.name == name) {
            return Ok(Rc::clone(reading));
        }
        // The factors of the tensor before go first.
        self.reading.replace(None);
        let mut prepared = Vec::with_capacity(applied.len());
        for Applied { change, .. } in applied {
            let factors = change.prepare().await?;
            let norms = match factors.magnitude {
                Some(Magnitude::Inputs(_)) => self.input_norms(name, tensor, sizes, change, &factors).await?,
                _ => Vec::new(),
            };
            prepared.push((factors, norms));
        }
        let reading = Rc::new(Reading { name: name.to_owned(), prepared });
        self.reading.replace(Some(Rc::clone(&reading)));
        Ok(reading)
    }

    /// The norms of W + dW for each input, in a pass over the whole matrix.
    async fn input_norms(
        &self,
        name: &str,
        tensor: &Tensor<'_>,
        sizes: Sizes,
        change: &Change,
        prepared: &Prepared,
    ) -> Result<Vec<f32>> {
        let mut squares = vec![0.0; sizes.inputs];
        let n_rows = (PIECE_BYTES as usize / (4 * sizes.cols()).max(1)).max(1);
        for first in (0..sizes.rows).step_by(n_rows) {
            let rows = first..(first + n_rows).min(sizes.rows);
            let weight = self.pristine(name, tensor, sizes.cols(), rows.clone()).await?;
            let mut v = weight.clone();
            add_difference(change, prepared, sizes, rows, 1.0, &weight, &mut v).await?;
            add_input_squares(sizes, &v, &mut squares);
        }
        Ok(squares.into_iter().map(|sum| sum.sqrt() as f32).collect())
    }

    /// Merged rows of a tensor.
    async fn rows(
        &self,
        name: &str,
        tensor: &Tensor<'_>,
        sizes: Sizes,
        applied: &[Applied],
        rows: Range<usize>,
    ) -> Result<Vec<f32>> {
        let reading = self.reading(name, tensor, sizes, applied).await?;
        let weight = self.pristine(name, tensor, sizes.cols(), rows.clone()).await?;
        let mut out = weight.clone();
        for (Applied { change, strength }, (prepared, norms)) in applied.iter().zip(&reading.prepared) {
            match &prepared.magnitude {
                None => add_difference(change, prepared, sizes, rows.clone(), *strength, &weight, &mut out).await?,
                Some(magnitude) => {
                    let mut v = weight.clone();
                    add_difference(change, prepared, sizes, rows.clone(), 1.0, &weight, &mut v).await?;
                    add_decomposed(magnitude, sizes, rows.clone(), *strength, &weight, &v, norms, &mut out);
                }
            }
            // What is not finite in the model is said of the model.
            if weight.iter().zip(&out).any(|(before, after)| before.is_finite() && !after.is_finite()) {
                return Err(change.too_large(name));
            }
        }
        Ok(out)
    }
}

/// Adds `strength` times rows of dW to `out`.
async fn add_difference(
    change: &Change,
    prepared: &Prepared,
    sizes: Sizes,
    rows: Range<usize>,
    strength: f32,
    weight: &[f32],
    out: &mut [f32],
) -> Result<()> {
    if let Some(delta) = &prepared.delta {
        delta.add(sizes, rows, strength, weight, out);
    } else if let Some((tensors, name, scale)) = change.added() {
        let values = tensors.read_values(name, rows.start * sizes.cols(), rows.len() * sizes.cols()).await?;
        change::check_finite(tensors, name, &values)?;
        out.iter_mut().zip(&values).for_each(|(out, value)| *out += strength * scale * value);
    }
    Ok(())
}

impl TensorSource for Merged {
    fn names(&self) -> Vec<&str> {
        self.base.names()
    }

    fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        match self.changed(name) {
            // Whoever keeps the values rounds them, once.
            Some((tensor, _)) => Some(Tensor { dtype: &Dtype::F32, ..tensor }),
            None => self.base.tensor(name),
        }
    }

    fn own_dtype(&self, name: &str) -> Option<&Dtype> {
        self.base.own_dtype(name)
    }

    fn blocks(&self, name: &str) -> Option<BlockType> {
        if self.changed(name).is_some() { None } else { self.base.blocks(name) }
    }

    fn read_blocks<'a>(&'a self, name: &'a str, first: u64, n: u64) -> LocalFuture<'a, Result<Vec<u8>>> {
        self.base.read_blocks(name, first, n)
    }

    fn low_rank(&self, name: &str) -> Option<LowRank<'_>> {
        let (name, _) = self.changes.get_key_value(name)?;
        let (tensor, applied) = self.changed(name)?;
        LowRank::of(&*self.base, name, tensor, applied)
    }

    fn read<'a>(&'a self, name: &'a str, offset: u64, len: usize) -> LocalFuture<'a, Result<Vec<u8>>> {
        Box::pin(async move {
            let Some((tensor, applied)) = self.changed(name) else { return self.base.read(name, offset, len).await };
            let sizes = applied[0].change.sizes();
            let broken = |reason| Err(Error::Safetensors { file: tensor.file.to_owned(), reason });
            if tensor.shape.iter().product::<usize>() != sizes.n_values() {
                return broken(format!(
                    "tensor {} has shape {:?}, which is not the model's",
                    tensor.name, tensor.shape
                ));
            }
            let (width, cols) = (size_of::<f32>(), sizes.cols());
            let n_bytes = (sizes.n_values() * width) as u64;
            if offset.checked_add(len as u64).is_none_or(|end| end > n_bytes) {
                return broken(format!(
                    "{} from {offset} on leave tensor {name} of {}",
                    counted(len, "byte"),
                    counted(n_bytes, "byte")
                ));
            }
            let (first, n) = ((offset / width as u64) as usize, len / width);
            let rows = first / cols..(first + n).div_ceil(cols);
            let from = first - rows.start * cols;
            let values = self.rows(name, &tensor, sizes, applied, rows).await?;
            Ok(bytemuck::cast_slice(&values[from..from + n]).to_vec())
        })
    }

    fn describe(&self) -> String {
        self.base.describe()
    }
}
