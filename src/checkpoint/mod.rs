//! Checkpoints in one file, and parts of models: what a file of tensors is ([`identity`]) and what is told about it
//! ([`inspect`]), where it keeps what a model's graphs ask for ([`names`]), how it is opened in the place of a diffusers folder
//! ([`single`]) and with parts of others ([`assembled`]), new words for its prompts ([`embedding`]), and how a model is written in another layout ([`convert`]).
//!
//! To draw, no tensor is converted or kept: names are a layer over the file ([`crate::weights::Renamed`]).

mod adapters;
pub mod assembled;
pub mod convert;
pub mod embedding;
#[cfg(any(target_arch = "wasm32", feature = "gpu"))]
pub mod fit;
pub mod foreign;
pub mod identity;
pub mod inspect;
#[cfg(not(target_arch = "wasm32"))]
pub mod local;
pub mod lora;
mod models;
pub mod names;
mod others;
mod parts;
pub mod single;
pub mod vocabulary;
mod wrapped;
mod yaml;
