//! A kernel's entry in the register: what Rust believes about one WGSL file.

use super::element::{Element, Width};

/// How a kernel sees one of its bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// The parameters, at a dynamic offset.
    Uniform,
    /// A storage buffer that is only read.
    Read,
    /// A storage buffer that is written, or an activation.
    ReadWrite,
}

/// The name and the text of a file that shaders import.
pub type Import = (&'static str, &'static str);

/// What Rust believes about one WGSL file.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// The file's name without `.wgsl`, and the label on the GPU.
    pub name: &'static str,
    /// The file's text; [`Kernel::source`] completes it.
    pub wgsl: &'static str,
    /// Group 0, in order, by the names in the file: binding 0 first, which is always the uniform.
    pub bindings: &'static [(&'static str, Binding)],
    /// The shared files of its family that it may import.
    pub imports: &'static [Import],
    /// Size in bytes of the Rust struct behind the uniform at binding 0.
    pub params_bytes: usize,
    /// Name and byte offset of each of its fields.
    pub params_fields: &'static [(&'static str, usize)],
    /// The override constants that launches set.
    pub constants: &'static [&'static str],
    /// The element types it is launched with.
    pub elements: &'static [Element],
    /// The widths it is launched with.
    pub widths: &'static [Width],
}
