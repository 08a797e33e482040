//! How a model is opened: on what, in which type, within how much memory.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::model::SDVersion;
use crate::pipeline::plan::PlanSettings;
use crate::pipeline::{Embedding, Residency};
use crate::request::Request;
use crate::run::candle::Precision;
use crate::run::gpu::Caps;
use crate::run::gpu::Element;
use crate::run::gpu::tiles::Tiles;
use crate::weights::WeightType;

/// Where the models run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(all(not(target_arch = "wasm32"), feature = "cli"), derive(clap::ValueEnum))]
pub enum DeviceName {
    /// This machine's processor.
    #[default]
    Cpu,
    /// An NVIDIA card, in a build with the feature `cuda`.
    Cuda,
    /// Any GPU, through WebGPU.
    Gpu,
}

/// The type that numbers are held in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(all(not(target_arch = "wasm32"), feature = "cli"), derive(clap::ValueEnum))]
pub enum Dtype {
    /// On the GPU f16 where it has it, else f32; on the CPU and on CUDA f32.
    #[default]
    Auto,
    /// 32 bits.
    F32,
    /// 16 bits: half the memory. On the CPU arithmetic stays in 32; on CUDA values have 16, too; on the GPU
    /// weights have a type of their own, and this is about everything else.
    F16,
}

impl Dtype {
    /// The type of weights on the CPU and on CUDA.
    #[must_use]
    pub fn precision(self) -> Precision {
        match self {
            Dtype::Auto | Dtype::F32 => Precision::F32,
            Dtype::F16 => Precision::F16,
        }
    }

    /// The type of values on a GPU with these abilities.
    #[must_use]
    pub fn element(self, caps: &Caps) -> Element {
        match self {
            Dtype::Auto => caps.best_element(),
            Dtype::F32 => Element::F32,
            Dtype::F16 => Element::F16,
        }
    }
}

/// When tiles are measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(all(not(target_arch = "wasm32"), feature = "cli"), derive(clap::ValueEnum))]
pub enum Tune {
    /// The first time on a real GPU.
    #[default]
    Auto,
    /// The first time on any adapter.
    Always,
    /// Never: a guess that is not bad.
    Never,
}

impl Tune {
    /// Whether they are measured on an adapter; `is_software`: it runs on the processor.
    #[must_use]
    pub fn measures(self, is_software: bool) -> bool {
        match self {
            Tune::Auto => !is_software,
            Tune::Always => true,
            Tune::Never => false,
        }
    }
}

/// Where the tiles that were measured on an adapter are kept from one run to the next.
pub trait TileCache: Send + Sync {
    /// What is kept for an adapter. What cannot be read is absent: it is measured again.
    fn read(&self, caps: &Caps) -> Option<Tiles>;

    /// Keeps what was measured on an adapter. A cache that fails to says so itself: nothing depends on it.
    fn write(&self, caps: &Caps, tiles: &Tiles);
}

/// Tiles to start with, kept by whoever asks the engine for them.
impl TileCache for Tiles {
    fn read(&self, _caps: &Caps) -> Option<Tiles> {
        Some(self.clone())
    }

    fn write(&self, _caps: &Caps, _tiles: &Tiles) {}
}

/// How a model is opened. Every front end has all of these.
#[derive(Clone, Default)]
pub struct EngineSettings {
    /// Where the models run.
    pub device: DeviceName,
    /// The type that numbers are held in.
    pub dtype: Dtype,
    /// The type that weights are held in, where `dtype` is not to decide.
    pub weights: Option<WeightType>,
    /// Whether, where `weights` is absent, a GPU's weights have the first of f16, q8_0 and q4_0 that is within the budget.
    pub fits_weights: bool,
    /// Whether the GPU's cooperative matrices are used, where it has them.
    pub matrices: bool,
    /// When tiles are measured.
    pub tune: Tune,
    /// The tiles of earlier runs.
    pub tiles: Option<Arc<dyn TileCache>>,
    /// Bytes of GPU memory that may be used; without one everything stays loaded.
    pub budget_bytes: Option<u64>,
    /// How long weights stay loaded, where the budget is not to decide.
    pub residency: Option<Residency>,
    /// Whether every kernel is timed, from the GPU's clock.
    pub profile: bool,
    /// Words beside the model's vocabulary.
    pub embeddings: Vec<Embedding>,
    /// Whether weight files may still be on their way: each is opened when it is first needed, and waited for.
    pub is_arriving: bool,
}

impl EngineSettings {
    /// The type of weights on the CPU and on CUDA, of those that are not quantised.
    #[must_use]
    pub fn precision(&self) -> Precision {
        match self.weights {
            Some(WeightType::F32) => Precision::F32,
            Some(WeightType::F16 | WeightType::Q8_0 | WeightType::Q4_0) => Precision::F16,
            None => self.dtype.precision(),
        }
    }

    /// The type of weights on the GPU.
    #[must_use]
    pub fn gpu_weights(&self) -> WeightType {
        self.weights.unwrap_or_default()
    }

    /// Refuses settings that only a GPU has on another device, and types of weights that the device does not hold.
    ///
    /// # Errors
    /// [`Error::Request`] naming the first of them as the command line spells it.
    pub fn check(&self) -> Result<()> {
        let refuse = |got: &str, expected: &str| {
            Err(Error::Request { field: "weights", got: got.into(), expected: expected.into() })
        };
        match (self.weights, self.device, self.dtype) {
            (Some(WeightType::F32), DeviceName::Cpu | DeviceName::Cuda, Dtype::F16) => {
                return refuse(
                    "f32 with --dtype f16",
                    "each is a type of weights on this device: leave one of the two out",
                );
            }
            (Some(WeightType::F16), DeviceName::Cuda, Dtype::F32) => {
                return refuse("f16 with --dtype f32 on CUDA", "leave one of the two out");
            }
            (Some(quantised @ (WeightType::Q8_0 | WeightType::Q4_0)), DeviceName::Cuda, _) => {
                let got = format!("{} on CUDA", quantised.name());
                return refuse(&got, "use f16 there, or --device gpu or cpu");
            }
            _ => {}
        }
        let of_gpu = [
            (self.profile, "--profile"),
            (self.matrices, "--matrices"),
            (self.budget_bytes.is_some(), "--budget"),
            (self.tune != Tune::Auto, "--tune"),
        ];
        match of_gpu.into_iter().find(|(is_set, _)| *is_set) {
            Some((_, name)) if self.device != DeviceName::Gpu => {
                Err(Error::Request { field: "setting", got: name.into(), expected: "it is for --device gpu".into() })
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// What a model is opened for, as far as it is known by then: a memory budget is kept for it.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// The request.
    pub request: Request,
    /// The version that the model was named by, if it was.
    pub version: Option<SDVersion>,
    /// Whether there is a start picture.
    pub from_picture: bool,
    /// Its width and height in pixels, where they are known.
    pub picture: Option<(usize, usize)>,
}

impl Expected {
    /// What is planned for it on an adapter, with weights in a type that the budget chooses where none is given.
    #[must_use]
    pub fn plan(
        &self,
        caps: Caps,
        element: Element,
        weights: Option<WeightType>,
        budget_bytes: Option<u64>,
    ) -> PlanSettings {
        PlanSettings {
            request: self.request.clone(),
            version: self.version,
            from_picture: self.from_picture,
            picture: self.picture,
            budget: budget_bytes,
            weights,
            ..PlanSettings::new(caps, element)
        }
    }
}
