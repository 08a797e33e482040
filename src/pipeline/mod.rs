//! From text, picture and mask to pictures, in numbered stages as in diffusers, one [`Generation::step`] at a time.
//!
//! Between two steps control is with the caller, which draws progress, shows a preview, or stops. The pipeline knows no
//! device: a [`crate::run::Runner`] holds the tensors.

mod components;
mod configs;
mod constructor;
mod embeddings;
mod foresight;
mod generation;
mod job;
mod loras;
#[cfg(any(target_arch = "wasm32", feature = "gpu"))]
pub mod plan;
mod prompt;
mod text_embeddings;

pub use components::{LoadProgress, ModelComponents, ModelLoader, Part, Residency, check_model};
pub use configs::ModelConfigs;
pub use embeddings::{Embedding, WithEmbeddings};
pub use foresight::foresee;
pub use generation::{Checkpoint, Generation, check_mask};
pub use job::{Event, Inputs, Stage, Task};
pub use loras::{ActiveLoras, Lora, unknown as unknown_lora};
pub use prompt::{PromptReport, States, count_tokens, encode_prompt};
pub use text_embeddings::TextEmbeddings;
