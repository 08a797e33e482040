//! Darkroom: Stable Diffusion inside the reader's own browser, in Rust.

pub mod error;
pub mod graph;
pub mod hub;
pub mod image;
pub mod model;
pub mod parameters;
pub mod pipeline;
pub mod request;
pub mod rng;
pub mod run;
pub mod sampler;
pub mod tokenizer;
#[cfg(target_arch = "wasm32")]
pub mod web;
pub mod weights;

pub use error::{Error, Result};
