//! The processor's own kernels: the operations on f32 slices, channels-last, natively and in wasm.
//!
//! Everything heavy is a matrix product ([`product`]). Work is shared between rayon's threads, of which wasm has one but in
//! the page's module with threads. Results do not depend on their number. No graph, no tensor type and no runner is known here.
//! What may take long is done in slices ([`time_slices`]).

mod attention;
mod conv;
mod elementwise;
mod math;
mod norm;
mod product;
mod time_slices;

pub use attention::{AttentionSizes, Scores, attention};
pub use conv::{ConvSizes, conv2d, linear};
pub use elementwise::{activate, add, affine, blend, gather, geglu, lincomb, scale, timestep_embedding};
pub use norm::{group_norm, layer_norm};
pub use time_slices::{Stopped, TimeSlices};

#[cfg(test)]
mod tests;
