//! The kernels: one `.wgsl` file each, and beside it a `.rs` file of the same name with the parameters, the dispatch
//! size and `reference()`, the same formula in plain Rust.
//!
//! [`KERNELS`] lists them all; a test validates each file and compares its bindings and parameters with this table.

pub mod lincomb;

/// Every kernel, by name.
pub const KERNELS: &[Kernel] = &[lincomb::KERNEL];

/// What Rust believes about one WGSL file.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// The file's name without `.wgsl`, the op's name, and the label on the GPU.
    pub name: &'static str,
    /// The file's text.
    pub wgsl: &'static str,
    /// Group 0, in order: binding 0 first.
    pub bindings: &'static [Binding],
    /// Size in bytes of the Rust struct behind the uniform at binding 0.
    pub params_bytes: usize,
    /// Name and byte offset of each of its fields.
    pub params_fields: &'static [(&'static str, usize)],
}

/// How a kernel sees one of its bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// The parameters.
    Uniform,
    /// A storage buffer that is only read.
    Read,
    /// A storage buffer that is written.
    ReadWrite,
}
