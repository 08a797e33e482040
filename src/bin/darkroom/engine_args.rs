//! How models are opened, as `generate` and `serve` spell it: one set of options for both.

use std::sync::Arc;

use darkroom::checkpoint::embedding;
use darkroom::engine::{Device, DeviceName, Dtype, EngineSettings, Tune, WeightType};
use darkroom::pipeline::Embedding;
use darkroom::weights::DiskSource;
use darkroom::{Error, Result};

use crate::bar::Bar;
use crate::numbers::parse_bytes;
use crate::tiles_folder::TilesFolder;
use crate::{loras, part_file};

/// Whether this program can use NVIDIA's own interface.
const HAS_CUDA: bool = cfg!(feature = "cuda");

/// The options.
#[derive(Clone, clap::Args)]
pub struct EngineArgs {
    /// Where the models run.
    #[arg(long, value_enum, default_value_t = DeviceName::Cpu)]
    device: DeviceName,
    /// The type that is computed in: f32, f16 (half the memory; on the CPU arithmetic stays in 32 bits), or auto, which is f16
    /// on a GPU that has it and f32 elsewhere. Weights on the GPU are held as --weights says, whatever this is.
    #[arg(long, value_enum, hide_possible_values = true, default_value_t = Dtype::Auto)]
    dtype: Dtype,
    /// The type that weights are held in. f32 keeps the values of an f32 or quantised checkpoint exactly; with q8_0 and
    /// q4_0 the large matrices have 8 or 4 bits, for devices with little memory [default: f16 on the GPU, else as --dtype
    /// says].
    #[arg(long, value_enum)]
    weights: Option<WeightType>,
    /// Multiply with the GPU's cooperative matrices (NVIDIA's tensor cores through Vulkan, Metal's SIMD-group matrices):
    /// several times as fast in 16 bits, and experimental. Where the GPU has none, they are left out with a note.
    #[arg(long)]
    matrices: bool,
    /// GPU memory that may be used: bytes, or 2GB, 1500MB. Where it is too little to keep the whole model loaded, its
    /// components are loaded one after another; where it is too little for one of them, weights are read in each step.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, allow_negative_numbers = true)]
    budget: Option<u64>,
    /// An embedding (textual inversion) to use words of in prompts: a .safetensors file, owner/repo[/file], or https://….
    /// The word is the file's name without its ending, and the token that a file of diffusers names. May be given several
    /// times.
    #[arg(long, value_name = "FILE|owner/repo[/file]")]
    embedding: Vec<String>,
    /// Measure which tile serves which matrix product best, and where f16 is faster by 15 %, once for this GPU, and remember it
    /// in the user's cache folder. Software adapters are left out unless this is `always`.
    #[arg(long, value_enum, default_value_t = Tune::Auto)]
    tune: Tune,
}

impl EngineArgs {
    /// Brings the embeddings that are not here yet, and reads them.
    ///
    /// # Errors
    /// [`Error::Request`] for a name that is no place; what is wrong with a file; what the Hub, a
    /// host or the cache says.
    pub async fn embeddings(&self, bar: &Bar) -> Result<Vec<Embedding>> {
        let mut embeddings = Vec::new();
        for name in &self.embedding {
            let path = part_file::fetch("embedding", name, bar)?;
            let sha256 = Some(loras::hash(&path).map_err(|error| Error::of_model(Error::io(&path, error)))?);
            let source = DiskSource::open(&path).map_err(Error::of_model)?;
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            embeddings.push(embedding::open(&stem, Box::new(source), sha256).await.map_err(Error::of_model)?);
        }
        Ok(embeddings)
    }

    /// The library's form of it, without embeddings.
    pub fn settings(&self) -> EngineSettings {
        EngineSettings {
            device: self.device,
            dtype: self.dtype,
            weights: self.weights,
            matrices: self.matrices,
            tune: self.tune,
            tiles: TilesFolder::of_user().map(|folder| Arc::new(folder) as _),
            budget_bytes: self.budget,
            ..EngineSettings::default()
        }
    }
}

/// Opens the device. Says so where matrices are asked for and there are none to use.
///
/// # Errors
/// As [`Device::open`].
pub async fn open_device(settings: &EngineSettings) -> Result<Device> {
    if settings.device == DeviceName::Cuda && !HAS_CUDA {
        let reason = "this program is built without it: use --device cpu or gpu, or darkroom-cuda, which ./build.sh cuda \
            makes";
        return Err(Error::Device { device: "cuda".into(), reason: reason.into() });
    }
    let device = Device::open(settings).await?;
    if let Some(caps) = device.caps().filter(|caps| settings.matrices && caps.matrices.is_none()) {
        let why = if caps.wrong_matrices { "gives wrong results with them" } else { "has none" };
        log::warn!("--matrices is left out: {} {why}", caps.name);
    }
    Ok(device)
}
