//! What Stable Diffusion is: the seven versions, the checkpoint's own JSON as types, and the three models as functions
//! that append operations to a graph.
//!
//! Nothing here knows of devices, bytes or JavaScript. Field names and weight paths are the checkpoint's own.

mod blocks;
pub mod clip;
pub mod config;
pub mod unet;
pub mod vae;
mod vae_tiny;
pub mod version;

pub use config::{AutoencoderKlConfig, ClipTextConfig, ModelIndex, UNet2DConditionConfig, VaeConfig};
pub use version::SDVersion;
