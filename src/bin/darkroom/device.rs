//! Where the models run and in which type, as `generate`, `plan` and `serve` spell it.

use clap::ValueEnum;
use darkroom::Result;
use darkroom::run::candle::Precision;
use darkroom::run::gpu::kernels::Element;
use darkroom::run::gpu::{Caps, Gpu};

/// Where the models run.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DeviceName {
    /// This machine's processor.
    Cpu,
    /// An NVIDIA card, in a build with the feature `cuda`.
    Cuda,
    /// Any GPU, through WebGPU.
    Gpu,
}

/// Opens the GPU. Says so where matrices are asked for and there are none to use.
///
/// # Errors
/// As [`Gpu::open`].
pub async fn open_gpu(matrices: bool) -> Result<Gpu> {
    if !matrices {
        return Gpu::open().await;
    }
    let gpu = Gpu::open_with_matrices().await?;
    if gpu.caps.matrices.is_none() {
        let why = if gpu.caps.wrong_matrices { "gives wrong results with them" } else { "has none" };
        eprintln!("--matrices is left out: {} {why}", gpu.caps.name);
    }
    Ok(gpu)
}

/// The type that numbers are held in.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// On the GPU f16 where it has it, else f32; on the CPU f32. The page decides in the same way.
    Auto,
    /// 32 bits.
    F32,
    /// 16 bits: half the memory. On the CPU arithmetic stays in 32; on CUDA values have 16, too; on the GPU weights have 16
    /// either way, and this is about everything else.
    F16,
}

impl Dtype {
    /// The type of weights on the CPU and on CUDA.
    pub fn precision(self) -> Precision {
        match self {
            Dtype::Auto | Dtype::F32 => Precision::F32,
            Dtype::F16 => Precision::F16,
        }
    }

    /// The type of values on a GPU with these abilities.
    pub fn element(self, caps: &Caps) -> Element {
        match self {
            Dtype::Auto => caps.best_element(),
            Dtype::F32 => Element::F32,
            Dtype::F16 => Element::F16,
        }
    }
}
