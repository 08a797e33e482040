//! `round_packed`: f32 values as [`pack`] and [`unpack`](super::unpack) would give them back, in place: what is
//! computed again instead of kept is the same as if it were kept.

use super::pack;
use crate::Result;
use crate::run::gpu::kernel::{Bind, Kernel, Launch, bindings};

bindings! {
    /// What the kernel is bound to.
    struct Bindings {
        /// f32.
        values: ReadWrite T,
    }
}

/// The kernel's entry in the table.
pub const KERNEL: Kernel = Kernel {
    name: "round_packed",
    wgsl: include_str!("round_packed.wgsl"),
    bindings: Bindings::<()>::BINDINGS,
    ..pack::KERNEL
};

/// Rounds `n_values` values.
///
/// # Errors
/// As [`pack::launch`].
pub fn launch(n_values: u32) -> Result<Launch> {
    pack::launch_of(&KERNEL, n_values, 0, 0)
}
