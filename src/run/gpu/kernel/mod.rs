//! What every kernel stands on: its entry in the register ([`Kernel`]), its parameters and typed bindings, one dispatch of it
//! ([`Launch`]), the text that a device compiles, and the pipeline.
//!
//! No kernel is named here, no buffer is held and nothing is recorded.
//!
//! # Conventions
//! - Activations have the element type of the launch ([`Element`]), lie channels-last without gaps, and are always bound
//!   `read_write`, inputs too: they share one buffer, which WebGPU does not let a dispatch bind both ways. Ranges of one
//!   dispatch must not overlap. Only weights are bound `read`.
//! - A binding that a launch does not use is `None` in its [`Bind`] and still has to be filled: with any [`UNUSED_BYTES`]
//!   that overlap no other range of the dispatch.
//! - Sizes are uniforms; whatever selects code is an `override` constant. A dispatch has at most
//!   [`MAX_GROUPS_PER_DIMENSION`] workgroups along a dimension; long rows of them wrap into y and z.

mod bind;
mod element;
mod entry;
mod launch;
mod machine;
#[doc(hidden)]
pub mod pipeline;
mod source;

pub use bind::Bind;
pub(super) use bind::{bindings, params};
pub use element::{Element, Width};
pub use entry::{Binding, Import, Kernel};
pub(super) use launch::{ELEMENTWISE_THREADS, activation_code, count, refuse, spread, spread_cells};
pub use launch::{Launch, MAX_GROUPS_PER_DIMENSION, PipelineKey, UNUSED_BYTES};
pub use machine::{Machine, Matrices, Multiply};
