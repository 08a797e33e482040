//! `unpack`: f32 values from the form that [`pack`] gave them, which has the reference.

use super::pack;
pub use super::pack::Bindings;
use crate::Result;
use crate::run::gpu::kernel::{Kernel, Launch};

/// The kernel's entry in the table.
pub const KERNEL: Kernel = Kernel { name: "unpack", wgsl: include_str!("unpack.wgsl"), ..pack::KERNEL };

/// Unpacks `n_values` values, from value `from` of the source on, to value `to` of the result on.
///
/// # Errors
/// As [`pack::launch`].
pub fn launch(n_values: u32, from: u32, to: u32) -> Result<Launch> {
    pack::launch_of(&KERNEL, n_values, from, to)
}
