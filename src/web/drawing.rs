//! One request on its way, as JavaScript sees it.
//!
//! The loop is JavaScript's: it calls [`Drawing::step`], posts what came back, looks for a cancel, and calls again.

use js_sys::{Function, Uint8Array};
use wasm_bindgen::prelude::*;

use super::failure::{failure, refuse};
use super::types::StepReport;
use crate::image::{RgbImage, encode_png};
use crate::parameters::Parameters;
use crate::pipeline::{Event, Generation};
use crate::run::candle::CandleRunner;
use crate::run::gpu::runner::GpuRunner;

/// A request on one of the two runners.
pub(super) enum AnyGeneration {
    /// On the processor.
    Cpu(Box<Generation<CandleRunner>>),
    /// On the GPU.
    Gpu(Box<Generation<GpuRunner>>),
}

/// Calls the same function of the generation, whichever runner has it.
macro_rules! either {
    ($generation:expr, $inner:ident => $call:expr) => {
        match $generation {
            AnyGeneration::Cpu($inner) => $call,
            AnyGeneration::Gpu($inner) => $call,
        }
    };
}

impl AnyGeneration {
    pub fn n_steps(&self) -> usize {
        either!(self, generation => generation.n_steps())
    }

    pub fn total_flops(&self) -> u64 {
        either!(self, generation => generation.total_flops())
    }

    pub fn task(&self) -> crate::pipeline::Task {
        either!(self, generation => generation.task())
    }
}

/// A finished picture, with its own seed.
struct Finished {
    image: RgbImage,
    seed: u64,
}

/// One request on its way.
#[wasm_bindgen]
pub struct Drawing {
    generation: AnyGeneration,
    parameters: Parameters,
    finished: Option<Finished>,
}

impl Drawing {
    pub(super) fn new(generation: AnyGeneration, parameters: Parameters) -> Self {
        Drawing { generation, parameters, finished: None }
    }
}

#[wasm_bindgen]
impl Drawing {
    /// Does one stage or one denoising step. `on_progress` is called with the part of the whole that is done, 0 to 1;
    /// where it returns `false`, the drawing stops there.
    ///
    /// # Errors
    /// A JavaScript `Error` that names the stage at fault; its `code` is `cancelled` when `on_progress` said so.
    #[wasm_bindgen(unchecked_return_type = "StepReport")]
    pub async fn step(
        &mut self,
        #[wasm_bindgen(unchecked_param_type = "(fraction: number) => boolean | void")] on_progress: &Function,
    ) -> Result<JsValue, JsValue> {
        let mut failed = None;
        let mut progress = |fraction: f64| match on_progress.call1(&JsValue::NULL, &fraction.into()) {
            Ok(answer) => answer.as_bool() != Some(false),
            Err(error) => {
                failed = Some(error);
                false
            }
        };
        let event = either!(&mut self.generation, generation => generation.step(&mut progress).await);
        if let Some(error) = failed {
            return Err(failure("request", &format!("the progress callback failed: {error:?}")));
        }
        let report = match event? {
            Some(Event::Encoded { prompt, .. }) => {
                StepReport::Encoded { n_tokens: prompt.n_tokens, truncated: prompt.truncated }
            }
            Some(Event::Prepared { picture }) => StepReport::Prepared { picture },
            Some(Event::Denoised { picture, step, n_steps }) => StepReport::Denoised { picture, step, n_steps },
            Some(Event::Decoded { picture, seed, image }) => {
                self.finished = Some(Finished { image, seed });
                StepReport::Decoded { picture, seed }
            }
            None => StepReport::Done,
        };
        Ok(serde_wasm_bindgen::to_value(&report)?)
    }

    /// Calls of the UNet for one picture.
    pub fn n_steps(&self) -> usize {
        self.generation.n_steps()
    }

    /// The work of the whole request, in floating-point operations.
    pub fn flops(&self) -> f64 {
        self.generation.total_flops() as f64
    }

    /// The picture that the last step finished, as a PNG file that carries its parameters.
    ///
    /// # Errors
    /// When no picture is finished yet.
    pub fn png(&self) -> Result<Uint8Array, JsValue> {
        let finished = self.finished.as_ref();
        let finished = finished.ok_or_else(|| refuse("no picture is finished yet: call step until it says decoded"))?;
        let parameters = Parameters { seed: finished.seed, ..self.parameters.clone() };
        Ok(Uint8Array::from(encode_png(&finished.image, &parameters.to_png_text()?)?.as_slice()))
    }
}
