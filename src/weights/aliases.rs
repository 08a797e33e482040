//! The table of names under which published diffusers folders keep the same tensor, and of what they may carry besides;
//! and the layer that finds tensors by it. The names of single-file checkpoints are another layout, and another layer:
//! [`super::renamed`].

use std::rc::Rc;

use super::gguf::BlockType;
use super::header::MAX_DIMS;
use super::source::LocalFuture;
use super::tensors::{Tensor, TensorSource};
use crate::error::Result;

/// Parts of a name that were renamed in diffusers' attention, today's and the former, both as whole path segments. VAE
/// files published before 2023 have the former, and are loaded by diffusers to this day.
const RENAMED_SEGMENTS: [(&str, &str); 4] =
    [(".to_q.", ".query."), (".to_k.", ".key."), (".to_v.", ".value."), (".to_out.0.", ".proj_attn.")];

/// The path below which CLIP's text tensors are. transformers 5 leaves it out when it saves a `CLIPTextModel`, but not
/// when it saves a `CLIPTextModelWithProjection`.
const OPTIONAL_PREFIX: &str = "text_model.";

/// Buffers that hold nothing learnt: the numbers 0 to 76, which older transformers saved with every text encoder.
const LEFT_OVER_SUFFIXES: [&str; 1] = [".position_ids"];

/// Tensors that are found under their other names too.
pub struct Aliased(pub Rc<dyn TensorSource>);

impl Aliased {
    fn stored<'a>(&'a self, name: &str) -> Option<Tensor<'a>> {
        let base = &self.0;
        base.tensor(name).or_else(|| other_names(name).iter().find_map(|alias| base.tensor(alias)))
    }
}

impl TensorSource for Aliased {
    fn names(&self) -> Vec<&str> {
        self.0.names()
    }

    fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        self.stored(name)
    }

    fn read<'a>(&'a self, name: &'a str, offset: u64, len: usize) -> LocalFuture<'a, Result<Vec<u8>>> {
        self.0.read(self.stored(name).map_or(name, |tensor| tensor.name), offset, len)
    }

    fn blocks(&self, name: &str) -> Option<BlockType> {
        self.0.blocks(self.stored(name)?.name)
    }

    fn read_blocks<'a>(&'a self, name: &'a str, first: u64, n: u64) -> LocalFuture<'a, Result<Vec<u8>>> {
        self.0.read_blocks(self.stored(name).map_or(name, |tensor| tensor.name), first, n)
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}

/// The other names that the tensor `name` may have, the likeliest first.
fn other_names(name: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (today, former) in RENAMED_SEGMENTS {
        if name.contains(today) {
            names.push(name.replacen(today, former, 1));
        }
        if name.contains(former) {
            names.push(name.replacen(former, today, 1));
        }
    }
    names.push(match name.strip_prefix(OPTIONAL_PREFIX) {
        Some(rest) => rest.to_owned(),
        None => format!("{OPTIONAL_PREFIX}{name}"),
    });
    names
}

/// Whether a file may have this tensor although the model has no use for it.
pub(super) fn may_be_left_over(name: &str) -> bool {
    LEFT_OVER_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

/// Whether two shapes are equal up to trailing ones, so that the same bytes serve for both: a 1x1 convolution
/// `[out, in, 1, 1]` and a linear layer `[out, in]`.
pub(super) fn same_matrix(a: &[usize], b: &[usize]) -> bool {
    let at = |shape: &[usize], idx: usize| shape.get(idx).copied().unwrap_or(1);
    let n_dims = a.len().max(b.len());
    n_dims <= MAX_DIMS && (0..n_dims).all(|idx| at(a, idx) == at(b, idx))
}
