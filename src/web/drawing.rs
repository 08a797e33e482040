//! One request on its way, as JavaScript sees it.
//!
//! The loop is JavaScript's: it calls [`Drawing::step`], posts what came back, looks for a cancel, and calls again.

use js_sys::{Function, Reflect, Uint8Array, Uint8ClampedArray};
use wasm_bindgen::prelude::*;

use super::failure::refuse;
use super::told::Told;
use super::types::StepReport;
use crate::engine::Generation;
use crate::image::{RgbImage, encode_png};
use crate::pipeline::Event;

/// A finished picture, with its index.
struct Finished {
    image: RgbImage,
    picture: usize,
}

/// A picture as a canvas takes it: width, height, and opaque RGBA.
pub(super) fn image_data(image: &RgbImage) -> Result<JsValue, JsValue> {
    let rgba: Vec<u8> = image.pixels.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], u8::MAX]).collect();
    let object = js_sys::Object::new();
    Reflect::set(&object, &"width".into(), &(image.width as u32).into())?;
    Reflect::set(&object, &"height".into(), &(image.height as u32).into())?;
    Reflect::set(&object, &"data".into(), &Uint8ClampedArray::from(rgba.as_slice()))?;
    Ok(object.into())
}

/// One request on its way.
#[wasm_bindgen]
pub struct Drawing {
    pub(super) generation: Generation,
    finished: Option<Finished>,
}

impl Drawing {
    pub(super) fn new(generation: Generation) -> Self {
        Drawing { generation, finished: None }
    }
}

#[wasm_bindgen]
impl Drawing {
    /// Does one stage or one denoising step. `on_progress` is called with the part of the whole that is done, 0 to 1;
    /// where it returns `false`, the drawing stops there.
    ///
    /// # Errors
    /// A JavaScript `Error` that names the stage at fault, or says what `on_progress` threw; its `code` is `cancelled` when
    /// `on_progress` said so.
    #[wasm_bindgen(unchecked_return_type = "StepReport")]
    pub async fn step(
        &mut self,
        #[wasm_bindgen(unchecked_param_type = "(fraction: number) => boolean | void")] on_progress: &Function,
    ) -> Result<JsValue, JsValue> {
        let mut told = Told::new(on_progress);
        let event = self.generation.step(&mut |fraction| told.goes_on(fraction)).await;
        told.check()?;
        let report = match event? {
            Some(Event::Encoded { prompt, negative }) => {
                let notes = prompt.notes.into_iter().chain(negative.notes).collect();
                StepReport::Encoded { n_tokens: prompt.n_tokens, truncated: prompt.truncated, notes }
            }
            Some(Event::Prepared { picture }) => StepReport::Prepared { picture },
            Some(Event::Denoised { picture, step, n_steps, repeated_in_f32 }) => {
                StepReport::Denoised { picture, step, n_steps, repeated_in_f32 }
            }
            Some(Event::Decoded { picture, seed, image, repeated_in_f32 }) => {
                self.finished = Some(Finished { image, picture });
                StepReport::Decoded { picture, seed, repeated_in_f32 }
            }
            None => StepReport::Done,
        };
        Ok(serde_wasm_bindgen::to_value(&report)?)
    }

    /// A small picture of what is being drawn, as a canvas takes it; `undefined` between pictures. At most 64 KiB.
    ///
    /// # Errors
    /// When the device is lost.
    #[wasm_bindgen(unchecked_return_type = "Pixels | undefined")]
    pub async fn preview(&self) -> Result<JsValue, JsValue> {
        self.generation.preview().await?.map_or(Ok(JsValue::UNDEFINED), |preview| image_data(&preview))
    }

    /// Remembers where the drawing is, to go on from there after [`Drawing::move_to`].
    ///
    /// # Errors
    /// When the device is lost.
    pub async fn keep(&mut self) -> Result<(), JsValue> {
        Ok(self.generation.keep().await?)
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
        let text = self.generation.parameters(finished.picture).to_png_text()?;
        Ok(Uint8Array::from(encode_png(&finished.image, &text)?.as_slice()))
    }
}
