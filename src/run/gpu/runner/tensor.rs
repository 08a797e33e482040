//! Tensors: a part of a buffer, with its shape and type.

use std::rc::Rc;

use super::super::buffer::{Pooled, Range};
use super::super::kernel::{Element, UNUSED_BYTES};

/// A tensor in a buffer, which it may share with others.
#[derive(Clone, Debug)]
pub struct GpuTensor {
    pub(super) buffer: Rc<Pooled>,
    pub(super) offset: u64,
    pub(super) shape: Vec<usize>,
    pub(super) kind: Kind,
}

/// The type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Floats(Element),
    Ids,
}

impl Kind {
    pub(super) fn bytes(self) -> u64 {
        match self {
            Kind::Floats(element) => element.bytes(),
            Kind::Ids => 4,
        }
    }
}

impl GpuTensor {
    pub(super) fn n_values(&self) -> usize {
        self.shape.iter().product()
    }

    pub(super) fn n_bytes(&self) -> u64 {
        self.n_values() as u64 * self.kind.bytes()
    }

    pub(super) fn range(&self) -> Range<'_> {
        // A binding is no shorter than this, and behind a view there is either its neighbour or the buffer's own slack.
        let n_bytes = self.n_bytes().next_multiple_of(4).max(UNUSED_BYTES);
        Range { buffer: &self.buffer, offset: self.offset, n_bytes }
    }

    pub(super) fn element(&self) -> Element {
        match self.kind {
            Kind::Floats(element) => element,
            Kind::Ids => Element::F32,
        }
    }
}
