//! Checkpoints in one file, and parts of models: what a file of tensors is ([`identity`]), where it keeps what a model's
//! graphs ask for ([`names`]), and how it is opened in the place of a diffusers folder ([`single`]).
//!
//! No tensor is converted or kept: names are a layer over the file ([`crate::weights::Renamed`]).

pub mod assembled;
pub mod convert;
pub mod identity;
#[cfg(not(target_arch = "wasm32"))]
pub mod local;
mod lora;
pub mod names;
pub mod single;
pub mod vocabulary;
