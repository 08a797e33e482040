//! One call from a version's name to a model ready to draw, through the Hugging Face cache. Natively only.

use std::rc::Rc;

use crate::error::Result;
use crate::hub::Variant;
use crate::hub::cache::{HubCache, Progress};
use crate::model::SDVersion;
use crate::pipeline::components::{LoadProgress, ModelComponents, ModelLoader};
use crate::run::candle::{CandleRunner, Precision};

/// Where candle computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CandleDevice {
    /// This machine's processor.
    #[default]
    Cpu,
    /// The NVIDIA card of this number.
    Cuda(usize),
}

/// Downloads a version where the cache lacks it, checks it, and loads it. With `f16` weights are held in 16 bits.
/// `progress` is told the bytes done and in all, first of the download, then of the loading.
///
/// # Errors
/// What the Hub, its cache, a file of the checkpoint, or the device is at fault for.
pub fn load_model(
    version: SDVersion,
    device: CandleDevice,
    f16: bool,
    progress: &mut dyn FnMut(&str, u64, u64),
) -> Result<(Rc<CandleRunner>, Rc<ModelComponents<CandleRunner>>)> {
    let precision = if f16 { Precision::F16 } else { Precision::F32 };
    let runner = match device {
        CandleDevice::Cpu => CandleRunner::cpu(precision),
        CandleDevice::Cuda(ordinal) => CandleRunner::cuda(ordinal, precision)?,
    };
    let mut download = |p: Progress<'_>| progress(p.path, p.loaded_bytes, p.total_bytes);
    let folder = HubCache::from_env()?.fetch_version(version, &Variant::default(), &mut download)?.folder;
    let mut load = |p: LoadProgress<'_>| progress(p.component, p.loaded_bytes, p.total_bytes);
    let model = pollster::block_on(ModelLoader::new(&folder, &runner).load(&mut load))?;
    Ok((Rc::new(runner), Rc::new(model)))
}
