//! One component of a model, timed in the browser: what `bench.html` and the benches that drive a browser call.

use std::rc::Rc;

use js_sys::{Float32Array, Object, Uint8Array};
use serde::Serialize;
use wasm_bindgen::prelude::*;

use super::failure::refuse;
use super::studio::read_object;
use super::types::{BenchLine, BenchProfile, BenchRun, BenchSettings, BenchTiles, LoadSettings, RunnerName};
use crate::bench::{self, Case, Part, RandomWeights, Sizes};
use crate::hub::Source;
use crate::hub::published::Published;
use crate::model::SDVersion;
use crate::run::Runner;
use crate::run::candle::{CandleRunner, Precision};
use crate::run::gpu::runner::GpuRunner;
use crate::weights::{ByteSource, MemorySource, Weights};

enum Engine {
    Cpu(bench::Bench<CandleRunner>),
    Gpu(Box<bench::Bench<GpuRunner>>),
}

/// A component of a model on one of the two runners, with weights that are given or random.
#[wasm_bindgen]
pub struct Bench {
    engine: Engine,
    flops: f64,
}

#[wasm_bindgen]
impl Bench {
    /// Loads a component. Weights are one safetensors file; without one they are random, and so is every input that is
    /// not in `inputs`, whose pictures are channels-last.
    ///
    /// # Errors
    /// A JavaScript `Error` that says which setting, tensor or input is at fault, or that there is no GPU.
    pub async fn load(
        #[wasm_bindgen(unchecked_param_type = "BenchSettings")] settings: JsValue,
        weights: Option<Uint8Array>,
        #[wasm_bindgen(unchecked_param_type = "Record<string, Float32Array> | undefined")] inputs: JsValue,
    ) -> Result<Bench, JsValue> {
        let settings: BenchSettings = read_object(settings, "settings", BenchSettings::FIELDS)?;
        let config = match (&settings.config, &settings.version) {
            (Some(config), None) => config.clone(),
            (None, Some(version)) => {
                let file = match settings.part {
                    Part::TextEncoder => "text_encoder/config.json",
                    Part::Unet => "unet/config.json",
                    Part::VaeDecoder => "vae/config.json",
                };
                Published::new(version.parse::<SDVersion>()?).read_text(file).await?
            }
            _ => return Err(refuse("a component is that of a version or has a config: give one of the two")),
        };
        let sizes = Sizes { batch: settings.batch, height: settings.height, width: settings.width };
        let case = Case::new(settings.part, &config, sizes)?;
        let source: Box<dyn ByteSource> = match weights {
            Some(bytes) => Box::new(MemorySource::new("weights.safetensors", bytes.to_vec())),
            None => Box::new(RandomWeights::new(&case.weights())),
        };
        let weights = Weights::open(vec![source]).await?;
        let given = given_inputs(&inputs)?;
        let LoadSettings { runner, dtype, weights: held, tune, tiles, .. } = settings.load;
        let engine = match runner {
            RunnerName::Cpu => Engine::Cpu(
                bench::Bench::load(
                    Rc::new(CandleRunner::cpu(Precision::F32).with_weights(held)),
                    &case,
                    &weights,
                    &given,
                )
                .await?,
            ),
            RunnerName::Gpu => {
                let gpu = super::open_gpu().await?;
                let element = crate::engine::Dtype::from(dtype).element(&gpu.caps);
                // Choices that cannot be read are as good as none.
                let tiles = tiles.as_deref().and_then(|text| serde_json::from_str(text).ok());
                let runner = GpuRunner::new(gpu, element)?.with_tiles(tiles.unwrap_or_default());
                let runner = runner.with_weights(held.unwrap_or_default());
                runner.measure_tiles(tune);
                Engine::Gpu(Box::new(bench::Bench::load(Rc::new(runner), &case, &weights, &given).await?))
            }
        };
        Ok(Bench { engine, flops: case.flops() as f64 })
    }

    /// This program's version.
    #[must_use]
    pub fn version() -> String {
        env!("CARGO_PKG_VERSION").into()
    }

    /// Floating-point operations of one run.
    #[must_use]
    #[wasm_bindgen(getter)]
    pub fn flops(&self) -> f64 {
        self.flops
    }

    /// What computes, for people.
    #[must_use]
    #[wasm_bindgen(getter)]
    pub fn device(&self) -> String {
        match &self.engine {
            Engine::Cpu(bench) => bench.runner().describe(),
            Engine::Gpu(bench) => bench.runner().describe(),
        }
    }

    /// One run, until the device is done.
    ///
    /// # Errors
    /// A JavaScript `Error` when the device is lost or out of memory.
    #[wasm_bindgen(unchecked_return_type = "BenchRun")]
    pub async fn run(&mut self) -> Result<JsValue, JsValue> {
        let run = match &mut self.engine {
            Engine::Cpu(bench) => BenchRun { secs: bench.run().await?, record_secs: None, counts: None },
            Engine::Gpu(bench) => {
                let (before, recorded) = (bench.runner().counts(), bench.runner().record_secs());
                let secs = bench.run().await?;
                let counts = bench.runner().counts().since(&before);
                BenchRun { secs, record_secs: Some(bench.runner().record_secs() - recorded), counts: Some(counts) }
            }
        };
        Ok(serde_wasm_bindgen::to_value(&run)?)
    }

    /// What the last run computed, channels-last.
    ///
    /// # Errors
    /// As [`Bench::run`].
    pub async fn result(&self) -> Result<Float32Array, JsValue> {
        let values = match &self.engine {
            Engine::Cpu(bench) => bench.result().await?,
            Engine::Gpu(bench) => bench.result().await?,
        };
        Ok(Float32Array::from(values.as_slice()))
    }

    /// One run with every kernel timed by the GPU's own clock, or every operation by the processor's; the slowest first.
    ///
    /// # Errors
    /// As [`Bench::run`], and where the adapter has no timestamps.
    #[wasm_bindgen(unchecked_return_type = "BenchProfile")]
    pub async fn profile(&mut self) -> Result<JsValue, JsValue> {
        let bench = match &mut self.engine {
            Engine::Cpu(bench) => {
                let lines = bench.time_ops().await?.into_iter().map(|time| BenchLine {
                    kernel: time.op,
                    shape: time.label.trim_start_matches(time.op).trim_start().to_owned(),
                    n: time.n as u64,
                    secs: time.secs,
                    flops: time.flops,
                    n_bytes: None,
                });
                let profile = BenchProfile { lines: lines.collect() };
                return Ok(serde_wasm_bindgen::to_value(&profile)?);
            }
            Engine::Gpu(bench) => bench,
        };
        bench.runner().start_profile()?;
        let ran = bench.run().await;
        // The clock stops whatever became of the run.
        let profile = bench.runner().finish_profile().await?;
        ran?;
        let lines = profile.into_iter().flat_map(|profile| profile.lines).map(BenchLine::from).collect();
        Ok(serde_wasm_bindgen::to_value(&BenchProfile { lines })?)
    }

    /// Every measurement of a tile, where tiles were measured while loading; and the choices, as `Studio.tiles()` gives them.
    ///
    /// # Errors
    /// Never in practice: they are plain values.
    #[wasm_bindgen(unchecked_return_type = "BenchTiles | undefined")]
    pub fn tiles(&self) -> Result<JsValue, JsValue> {
        let Engine::Gpu(bench) = &self.engine else { return Ok(JsValue::UNDEFINED) };
        let runner = bench.runner();
        let serializer = serde_wasm_bindgen::Serializer::json_compatible();
        Ok(BenchTiles { measured: runner.measured(), chosen: runner.tiles() }.serialize(&serializer)?)
    }
}

fn given_inputs(inputs: &JsValue) -> Result<Vec<(String, Vec<f32>)>, JsValue> {
    if inputs.is_undefined() || inputs.is_null() {
        return Ok(Vec::new());
    }
    let Some(object) = inputs.dyn_ref::<Object>() else { return Err(refuse("the inputs are not an object")) };
    let mut given = Vec::new();
    for entry in Object::entries(object).iter() {
        let entry: js_sys::Array = entry.dyn_into()?;
        let name = entry.get(0).as_string().unwrap_or_default();
        let values = entry.get(1).dyn_into::<Float32Array>();
        let values = values.map_err(|_| refuse(&format!("the input {name} is not a Float32Array")))?;
        given.push((name, values.to_vec()));
    }
    Ok(given)
}
