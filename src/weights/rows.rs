//! A table with rows added at its end: vectors of new words below a text encoder's own. The whole table is given as f32, so
//! that neither part is rounded.

use std::rc::Rc;
use std::sync::Arc;

use super::convert;
use super::dtype::Dtype;
use super::gguf::BlockType;
use super::source::LocalFuture;
use super::tensors::{Tensor, TensorSource};
use crate::error::{Error, Result};

const F32_BYTES: usize = size_of::<f32>();

/// See the module. Between the table's own rows and the added ones may be rows of zeros.
pub struct MoreRows {
    base: Rc<dyn TensorSource>,
    table: String,
    shape: [usize; 2],
    /// The values of the last rows.
    added: Arc<[f32]>,
}

impl MoreRows {
    /// The tensors of `base`; `table` has `n_rows` in all, of which the last are `added`, row by row. A table that is no
    /// matrix, or too large for that, stays as it is.
    #[must_use]
    pub fn new(base: Rc<dyn TensorSource>, table: &str, n_rows: usize, added: Arc<[f32]>) -> Self {
        let own = base.tensor(table).map(|tensor| tensor.shape.to_vec()).unwrap_or_default();
        let shape = match own[..] {
            [n_own, width] if width > 0 && n_own.saturating_add(added.len() / width) <= n_rows => [n_rows, width],
            _ => [0, 0],
        };
        MoreRows { base, table: table.to_owned(), shape, added }
    }

    fn is_table(&self, name: &str) -> bool {
        name == self.table && self.shape[0] > 0
    }

    /// `n` values of the table from the one at `first` on.
    async fn values(&self, first: usize, n: usize) -> Result<Vec<f32>> {
        let Some(tensor) = self.base.tensor(&self.table) else {
            let expected = self.shape[..].into();
            return Err(Error::TensorMissing { name: self.table.clone(), file: self.describe(), expected });
        };
        let n_values = self.shape[0] * self.shape[1];
        if first.checked_add(n).is_none_or(|end| end > n_values) {
            let reason = format!("{n} values from {first} on leave tensor {} of {n_values}", tensor.name);
            return Err(Error::Safetensors { file: tensor.file.to_owned(), reason });
        }
        let refuse = || Error::TensorDtype {
            name: tensor.name.to_owned(),
            file: tensor.file.to_owned(),
            got: tensor.dtype.name().to_owned(),
        };
        let n_own: usize = tensor.shape.iter().product();
        let n_read = n.min(n_own.saturating_sub(first));
        let mut values = Vec::with_capacity(n);
        if n_read > 0 {
            let element = tensor.dtype.n_bytes().ok_or_else(refuse)?;
            let bytes = self.base.read(&self.table, (first * element) as u64, n_read * element).await?;
            values = convert::f32_from_le_bytes(tensor.dtype, &bytes).ok_or_else(refuse)?;
        }
        let first_added = n_values - self.added.len();
        values.extend((first + n_read..first + n).map(|at| match at.checked_sub(first_added) {
            Some(idx) => self.added[idx],
            None => 0.0,
        }));
        Ok(values)
    }
}

impl TensorSource for MoreRows {
    fn names(&self) -> Vec<&str> {
        self.base.names()
    }

    fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        let tensor = self.base.tensor(name)?;
        Some(if self.is_table(name) { Tensor { dtype: &Dtype::F32, shape: &self.shape, ..tensor } } else { tensor })
    }

    fn read<'a>(&'a self, name: &'a str, offset: u64, len: usize) -> LocalFuture<'a, Result<Vec<u8>>> {
        if !self.is_table(name) {
            return self.base.read(name, offset, len);
        }
        Box::pin(async move {
            let first = usize::try_from(offset).unwrap_or(usize::MAX) / F32_BYTES;
            Ok(bytemuck::cast_slice(&self.values(first, len / F32_BYTES).await?).to_vec())
        })
    }

    fn blocks(&self, name: &str) -> Option<BlockType> {
        if self.is_table(name) { None } else { self.base.blocks(name) }
    }

    fn read_blocks<'a>(&'a self, name: &'a str, first: u64, n: u64) -> LocalFuture<'a, Result<Vec<u8>>> {
        self.base.read_blocks(name, first, n)
    }

    fn describe(&self) -> String {
        self.base.describe()
    }
}

#[cfg(test)]
#[cfg(not(target_arch = "wasm32"))]
mod tests {
    use super::*;
    use crate::weights::{Files, MemorySource, Weights};
    use pollster::block_on;

    fn base(dtype: &str, bytes: &[u8]) -> Rc<dyn TensorSource> {
        let header = format!(r#"{{"t":{{"dtype":"{dtype}","shape":[2,2],"data_offsets":[0,{}]}}}}"#, bytes.len());
        let file = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), bytes].concat();
        Rc::new(block_on(Files::open(vec![Box::new(MemorySource::new("f", file))])).unwrap())
    }

    #[test]
    fn rows_follow_the_table_in_any_piece() {
        let halves: Vec<u8> = [1.0, 2.0, 3.0, 4.0].iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect();
        let added: Arc<[f32]> = Arc::from([0.1, 0.2, 0.3, 0.4]);
        let layer = MoreRows::new(base("F16", &halves), "t", 5, Arc::clone(&added));
        let whole = [1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.1, 0.2, 0.3, 0.4];
        for start in 0..whole.len() {
            for end in start..=whole.len() {
                let bytes = block_on(layer.read("t", 4 * start as u64, 4 * (end - start))).unwrap();
                assert_eq!(bytemuck::pod_collect_to_vec::<u8, f32>(&bytes), whole[start..end]);
            }
        }
        assert!(block_on(layer.read("t", 36, 8)).is_err());
        let weights = Weights::of(Rc::new(layer));
        assert_eq!(weights.get("t").unwrap().shape, [5, 2]);
        assert_eq!(block_on(weights.read_f32("t")).unwrap(), whole);
        // What does not fit changes nothing.
        let layer = MoreRows::new(base("F16", &halves), "t", 3, added);
        assert_eq!(layer.tensor("t").unwrap().shape, [2, 2]);
    }
}
