//! Buffers of one device: counted, destroyed on drop, reused by size.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::ledger::{Ledger, Purpose};

/// A buffer that destroys its GPU memory when dropped: in the browser dropping alone frees nothing.
#[derive(Debug)]
pub(super) struct Buffer {
    /// Nothing without a device.
    pub raw: Option<wgpu::Buffer>,
    /// Different for every buffer of a recorder.
    pub id: u64,
    pub n_bytes: u64,
    purpose: Purpose,
    ledger: Ledger,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(raw) = &self.raw {
            raw.destroy();
        }
        self.ledger.destroyed(self.purpose, self.n_bytes);
    }
}

impl Buffer {
    /// A buffer with its bytes counted; `id` differs from that of every other buffer of a recorder.
    pub fn new(raw: Option<wgpu::Buffer>, id: u64, n_bytes: u64, purpose: Purpose, ledger: Ledger) -> Self {
        ledger.made(purpose, n_bytes);
        Buffer { raw, id, n_bytes, purpose, ledger }
    }

    pub fn whole(&self) -> Range<'_> {
        Range { buffer: self, offset: 0, n_bytes: self.n_bytes }
    }
}

/// Unused buffers, by size, to be reused.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool(Rc<RefCell<HashMap<u64, Vec<Buffer>>>>);

impl Pool {
    /// Reuses a pooled buffer of `n_bytes`, or calls `make`.
    pub fn take(&self, n_bytes: u64, make: impl FnOnce() -> Buffer) -> Pooled {
        let used = self.0.borrow_mut().get_mut(&n_bytes).and_then(Vec::pop);
        Pooled { buffer: Some(used.unwrap_or_else(make)), pool: self.clone() }
    }

    /// Frees the unused buffers.
    pub fn clear(&self) {
        self.0.borrow_mut().clear();
    }
}

/// A buffer that goes back to the pool with its owner.
#[derive(Debug)]
pub(super) struct Pooled {
    buffer: Option<Buffer>,
    pool: Pool,
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.pool.0.borrow_mut().entry(buffer.n_bytes).or_default().push(buffer);
        }
    }
}

impl std::ops::Deref for Pooled {
    type Target = Buffer;

    fn deref(&self) -> &Buffer {
        // Taken only while dropping.
        self.buffer.as_ref().unwrap_or_else(|| unreachable!("a pooled buffer has its buffer until it is dropped"))
    }
}

/// A part of a buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range<'a> {
    pub buffer: &'a Buffer,
    pub offset: u64,
    pub n_bytes: u64,
}
