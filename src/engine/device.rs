//! A runner that is open, whichever it is.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::settings::{DeviceName, EngineSettings, Expected, TileCache};
use crate::error::Result;
use crate::hub::Source;
use crate::hub::published::WithoutWeights;
use crate::pipeline::Residency;
use crate::pipeline::plan::{choose_residency, choose_weights};
use crate::run::Runner;
use crate::run::candle::CandleRunner;
use crate::run::gpu::profile::Profile;
use crate::run::gpu::runner::GpuRunner;
use crate::run::gpu::tiles::Tiles;
use crate::run::gpu::{Caps, Gpu};
use crate::weights::WeightType;

/// An open device. A clone shares it; models are opened on it one after another.
#[derive(Clone)]
pub struct Device(pub(super) Opened);

#[derive(Clone)]
pub(super) enum Opened {
    /// The processor, or CUDA.
    Candle(Rc<CandleRunner>),
    /// A GPU through WebGPU, and its tiles.
    Gpu(Rc<GpuRunner>, Rc<KnownTiles>),
}

/// The tiles that a runner started with or that were kept since, and where they are kept.
pub(super) struct KnownTiles {
    cache: Option<Arc<dyn TileCache>>,
    known: RefCell<Tiles>,
}

impl Device {
    /// Opens the device that the settings name.
    ///
    /// # Errors
    /// [`EngineSettings::check`]'s; [`crate::Error::Device`] when there is none, or it lacks the type that is asked for.
    pub async fn open(settings: &EngineSettings) -> Result<Self> {
        settings.check()?;
        match settings.device {
            DeviceName::Cpu => {
                Ok(Device::candle(CandleRunner::cpu(settings.precision()).with_weights(settings.weights)))
            }
            DeviceName::Cuda => Ok(Device::candle(CandleRunner::cuda(0, settings.precision())?)),
            DeviceName::Gpu if settings.matrices => Device::on_gpu(Gpu::open_with_matrices().await?, settings),
            DeviceName::Gpu => Device::on_gpu(Gpu::open().await?, settings),
        }
    }

    fn candle(runner: CandleRunner) -> Self {
        Device(Opened::Candle(Rc::new(runner)))
    }

    /// Takes a GPU that is open.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when it lacks what the settings ask for.
    pub fn on_gpu(gpu: Gpu, settings: &EngineSettings) -> Result<Self> {
        let element = settings.dtype.element(&gpu.caps);
        let is_software = gpu.caps.software;
        let cache = settings.tiles.clone();
        let known = cache.as_ref().and_then(|cache| cache.read(&gpu.caps)).unwrap_or_default();
        let runner = GpuRunner::new(gpu, element)?.with_weights(settings.gpu_weights()).with_tiles(known.clone());
        runner.measure_tiles(settings.tune.measures(is_software));
        if settings.profile {
            runner.start_profile()?;
        }
        Ok(Device(Opened::Gpu(Rc::new(runner), Rc::new(KnownTiles { cache, known: RefCell::new(known) }))))
    }

    /// What computes, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.0 {
            Opened::Candle(runner) => runner.describe(),
            Opened::Gpu(runner, _) => runner.describe(),
        }
    }

    /// What the adapter can do, of a GPU.
    #[must_use]
    pub fn caps(&self) -> Option<&Caps> {
        match &self.0 {
            Opened::Candle(_) => None,
            Opened::Gpu(runner, _) => Some(runner.caps()),
        }
    }

    /// Which tile serves which matrix product, as far as it was measured. `None` where there are no tiles, or none known.
    #[must_use]
    pub fn tiles(&self) -> Option<Tiles> {
        match &self.0 {
            Opened::Candle(_) => None,
            Opened::Gpu(runner, _) => Some(runner.tiles()).filter(|tiles| !tiles.is_empty()),
        }
    }

    /// Writes the tiles to their cache, if new ones were measured since the last time.
    pub fn keep_tiles(&self) {
        let Opened::Gpu(runner, tiles) = &self.0 else { return };
        let measured = runner.tiles();
        if let (Some(cache), true) = (&tiles.cache, measured != *tiles.known.borrow()) {
            cache.write(runner.caps(), &measured);
            tiles.known.replace(measured);
        }
    }

    /// The times of kernels since the device was opened, where the settings asked for them.
    ///
    /// # Errors
    /// When the device is lost.
    pub async fn finish_profile(&self) -> Result<Option<Profile>> {
        match &self.0 {
            Opened::Candle(_) => Ok(None),
            Opened::Gpu(runner, _) => runner.finish_profile().await,
        }
    }

    /// The type that weights are held in on a GPU.
    #[must_use]
    pub fn gpu_weights(&self) -> Option<WeightType> {
        match &self.0 {
            Opened::Candle(_) => None,
            Opened::Gpu(runner, _) => Some(runner.weight_type()),
        }
    }

    /// The type that weights are held in, where that is blocks of codes.
    #[must_use]
    pub fn quantised_weights(&self) -> Option<WeightType> {
        match &self.0 {
            Opened::Candle(runner) => runner.quantised_weights(),
            Opened::Gpu(runner, _) => Some(runner.weight_type()).filter(|weights| weights.is_quantised()),
        }
    }

    /// Chooses the type that weights are held in by the budget, where the settings leave it to that; see [`choose_weights`].
    ///
    /// # Errors
    /// What is wrong with the model's configs or the request.
    pub async fn fit_weights(&self, source: &dyn Source, settings: &EngineSettings, expected: &Expected) -> Result<()> {
        let Opened::Gpu(runner, _) = &self.0 else { return Ok(()) };
        if settings.weights.is_some() || !settings.fits_weights || settings.budget_bytes.is_none() {
            return Ok(());
        }
        let headers = WithoutWeights(source);
        let source: &dyn Source = if settings.is_arriving { &headers } else { source };
        let plan = expected.plan(runner.caps().clone(), runner.element(), None, settings.budget_bytes);
        runner.hold_weights_in(choose_weights(source, &plan).await.map_err(crate::Error::of_model)?);
        Ok(())
    }

    /// How long a model's weights stay loaded: as the settings say, or else as their budget allows for what is expected.
    ///
    /// # Errors
    /// What is wrong with the model's configs or the request; [`crate::Error::Request`] when nothing fits the budget.
    pub async fn residency(
        &self,
        source: &dyn Source,
        settings: &EngineSettings,
        expected: &Expected,
    ) -> Result<Residency> {
        if let Some(residency) = settings.residency {
            return Ok(residency);
        }
        let (Opened::Gpu(runner, _), Some(budget)) = (&self.0, settings.budget_bytes) else {
            return Ok(Residency::default());
        };
        let plan = expected.plan(runner.caps().clone(), runner.element(), Some(runner.weight_type()), Some(budget));
        let headers = WithoutWeights(source);
        let source: &dyn Source = if settings.is_arriving { &headers } else { source };
        choose_residency(source, &plan).await.map_err(crate::Error::of_model)
    }
}
