//! Common imports for programs that generate images: `use darkroom::prelude::*;`.
//!
//! Without the runners' features it has what reads files, prompts and schedules.

#[cfg(any(target_arch = "wasm32", all(feature = "cpu", feature = "gpu")))]
pub use crate::engine::{Device, DeviceName, Dtype, Engine, EngineSettings, Expected, Generation, Pictures, Tune};
pub use crate::error::{Class, Error, Result};
pub use crate::hub::Source;
#[cfg(all(not(target_arch = "wasm32"), feature = "cli"))]
pub use crate::hub::cache::HubCache;
#[cfg(not(target_arch = "wasm32"))]
pub use crate::hub::folder::Folder;
pub use crate::hub::{RepoId, Variant};
pub use crate::image::{RgbImage, decode, encode_png};
pub use crate::model::SDVersion;
pub use crate::pipeline::{Event, Stage};
pub use crate::request::{LoraUse, Request};
pub use crate::sampler::{ArrayRun, Sampler, SamplerKind, Schedule, SchedulerConfig};
pub use crate::tokenizer::Tokenizer;
