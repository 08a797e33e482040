//! A loaded model as JavaScript sees it: what it is, how much work a request would be, and the start of a [`Drawing`].
//!
//! It keeps no queue and runs no loop: that is the worker's JavaScript.

use std::rc::Rc;
use std::sync::Arc;

use js_sys::{Array, Function, Map, Math, Object, Reflect, Uint8Array, Uint8ClampedArray};
use serde::de::DeserializeOwned;
use wasm_bindgen::prelude::*;

use super::drawing::Drawing;
use super::failure::{refuse, refuse_field};
use super::models::Models;
use super::told::Told;
use super::types::{Dtype, LoadSettings, ModelInfo, RunnerName, Work};
use crate::checkpoint::lora::family_of;
use crate::engine::{self, DeviceName, Engine, EngineSettings, Expected, Pictures, Tune};
use crate::hub::Source;
use crate::hub::memory::MemoryFiles;
use crate::image::{RgbImage, decode, decode_mask, mask_of_rgba};
use crate::pipeline::{self, Embedding, LoadProgress};
use crate::prompt::{self, PromptSyntax, Role};
use crate::request::{LongPrompt, MAX_COUNT, MAX_GUIDANCE_SCALE, MAX_SIDE, MAX_STEPS, Request};
use crate::run::gpu::tiles::Tiles;
use crate::sampler::Sampler;

/// A loaded model, ready to draw.
#[wasm_bindgen]
pub struct Studio(Engine);

impl Studio {
    pub(super) fn engine(&self) -> &Engine {
        &self.0
    }

    /// Loads from wherever the files are.
    async fn load_from(
        source: Rc<dyn Source>,
        is_arriving: bool,
        settings: &LoadSettings,
        embeddings: Vec<Embedding>,
        on_progress: &Function,
    ) -> Result<Studio, JsValue> {
        let mut told = Told::new(on_progress);
        let prediction = settings.prediction;
        let settings = EngineSettings { is_arriving, embeddings, ..engine_settings(settings) };
        let device = super::open_device(&settings).await?;
        let engine = Engine::open(&device, source, &settings, &Expected::default()).await?.with_prediction(prediction);
        let loaded = engine
            .load(&mut |p: LoadProgress<'_>| told.goes_on(p.loaded_bytes as f64 / p.total_bytes.max(1) as f64))
            .await;
        told.check()?;
        loaded?;
        Ok(Studio(engine))
    }
}

#[wasm_bindgen]
impl Studio {
    /// Loads a model from its files, a `Map` from path in the repository to `Uint8Array`. `on_progress` is called with the
    /// part of the weights that is loaded, 0 to 1; where it returns `false`, loading stops there.
    ///
    /// # Errors
    /// A JavaScript `Error` that names the file at fault, or says that there is no GPU or what `on_progress` threw; its `code`
    /// is `cancelled` when `on_progress` said so.
    pub async fn load(
        name: String,
        #[wasm_bindgen(unchecked_param_type = "Map<string, Uint8Array>")] files: Map,
        #[wasm_bindgen(unchecked_param_type = "LoadSettings")] settings: JsValue,
        #[wasm_bindgen(unchecked_param_type = "(fraction: number) => boolean | void")] on_progress: &Function,
    ) -> Result<Studio, JsValue> {
        let settings = read_object(settings, "settings", LoadSettings::FIELDS)?;
        let mut source = MemoryFiles::new(name);
        for entry in files.entries() {
            let entry: Array = entry?.dyn_into().map_err(|_| refuse("the files are not a Map"))?;
            let path = entry.get(0).as_string().ok_or_else(|| refuse("a file's path is not a string"))?;
            let bytes: Uint8Array =
                entry.get(1).dyn_into().map_err(|_| refuse(&format!("the file {path} is not a Uint8Array")))?;
            source = source.with(path, bytes.to_vec());
        }
        Studio::load_from(Rc::new(source), false, &settings, Vec::new(), on_progress).await
    }

    /// Loads a model that [`Models`] keeps, straight from where it is stored. One that is being downloaded is ready once its
    /// texts are there: a drawing waits for each of its weight files, so that the prompt is read before the UNet is there.
    /// A checkpoint in one file ([`Models::is_single_file`]) is waited for and wants `clip_merges` in the settings. Kept
    /// embeddings that fit come along.
    ///
    /// # Errors
    /// As [`Studio::load`]; also when the model is not there, or neither complete nor being downloaded.
    pub async fn load_stored(
        models: &Models,
        model: String,
        #[wasm_bindgen(unchecked_param_type = "LoadSettings")] settings: JsValue,
        #[wasm_bindgen(unchecked_param_type = "(fraction: number) => boolean | void")] on_progress: &Function,
    ) -> Result<Studio, JsValue> {
        let settings = read_object(settings, "settings", LoadSettings::FIELDS)?;
        let (source, is_arriving) = super::opened::open(models, &model, &settings).await?;
        let embeddings = models.embeddings(&*source, settings.embeddings.as_deref()).await?;
        Studio::load_from(source, is_arriving, &settings, embeddings, on_progress).await
    }

    /// What the model is and what its settings are when nobody says otherwise.
    ///
    /// # Errors
    /// When the checkpoint's scheduler is none that can be run.
    #[wasm_bindgen(unchecked_return_type = "ModelInfo")]
    pub fn info(&self) -> Result<JsValue, JsValue> {
        let (engine, configs, defaults) = (&self.0, self.0.configs(), self.0.defaults());
        let (width, height) = defaults.size;
        let samplers = configs.scheduler.menu();
        let runner = if engine.device().caps().is_some() { RunnerName::Gpu } else { RunnerName::Cpu };
        let info = ModelInfo {
            name: engine.name().to_string(),
            version: defaults.version.key(),
            family: family_of(configs).id(),
            is_inpaint: configs.is_inpaint(),
            runner,
            weights: engine.device().gpu_weights(),
            device: engine.device().describe(),
            width,
            height,
            size_multiple: defaults.size_multiple,
            max_side: MAX_SIDE,
            max_steps: MAX_STEPS,
            max_guidance_scale: MAX_GUIDANCE_SCALE,
            max_count: MAX_COUNT,
            steps: defaults.steps,
            guidance_scale: defaults.guidance_scale,
            strength: defaults.strength(false),
            mask_strength: defaults.strength(true),
            sampler: configs.scheduler.sampler()?.name(),
            samplers: samplers.iter().copied().map(Sampler::name).collect(),
            samplers_with_eta: samplers.into_iter().filter(|one| one.kind.takes_eta()).map(Sampler::name).collect(),
            words: match configs.text_encoders.first() {
                Some(encoder) => encoder.tokenizer.words().iter().map(|word| word.name.clone()).collect(),
                None => Vec::new(),
            },
        };
        Ok(serde_wasm_bindgen::to_value(&info)?)
    }

    /// Which tile serves which matrix product on this GPU, as far as it was measured: text to be kept under the adapter's
    /// name and given to the next `load`. Nothing on the processor, or where nothing was measured.
    ///
    /// # Errors
    /// Never, for now.
    pub fn tiles(&self) -> Result<Option<String>, JsValue> {
        let tiles = self.0.device().tiles();
        tiles.map(|tiles| serde_json::to_string(&tiles).map_err(|e| refuse(&e.to_string()))).transpose()
    }

    /// Width and height, in pixels, that a picture is drawn at where it starts from one of `width` x `height` pixels and
    /// the request gives no size; with `any_size` to multiples of 8.
    ///
    /// # Errors
    /// Never: every picture has a size.
    #[wasm_bindgen(unchecked_return_type = "[number, number]")]
    pub fn size_of_picture(&self, width: u32, height: u32, any_size: Option<bool>) -> Result<Array, JsValue> {
        let request = Request { any_size: any_size.unwrap_or_default(), ..Request::default() };
        let size = request.size(&self.0.defaults(), Some((width as usize, height as usize)));
        Ok(Array::of2(&size.0.into(), &size.1.into()))
    }

    /// How many tokens a prompt has, without its tags of LoRAs, how many are read, and in how many chunks of 75: in one where
    /// long prompts are cut. `syntax` is what it is written in, AUTOMATIC1111's where absent, and its brackets do not count.
    ///
    /// # Errors
    /// When the tokenizer cannot encode the text.
    #[wasm_bindgen(unchecked_return_type = "[number, number, number]")]
    pub fn count_tokens(
        &self,
        prompt: &str,
        #[wasm_bindgen(unchecked_param_type = "PromptSyntax | undefined")] syntax: Option<String>,
    ) -> Result<Array, JsValue> {
        let named =
            |name: String| PromptSyntax::named(&name).ok_or_else(|| refuse(&format!("no prompt syntax {name:?}")));
        let syntax = syntax.map(named).transpose()?.unwrap_or_default();
        // A tag that cannot be read is refused where the request is checked.
        let asked = Request { prompt: prompt.to_owned(), prompt_syntax: Some(syntax), ..Request::default() };
        let (prompt, _) = asked.lora_tags().unwrap_or_else(|_| (prompt.to_owned(), Vec::new()));
        let long = LongPrompt::default_of(syntax);
        let configs = self.0.configs();
        let (n_tokens, n_read) = pipeline::count_tokens(configs, &prompt, syntax, long)?;
        let n_chunks = n_read / configs.text_encoders[0].tokenizer.tokens_per_chunk().max(1);
        Ok(Array::of3(&n_tokens.into(), &n_read.into(), &n_chunks.into()))
    }

    /// Checks a request and says how much work it is; nothing is computed. LoRAs that it names are opened before.
    ///
    /// # Errors
    /// A JavaScript `Error` that says what would work.
    #[wasm_bindgen(unchecked_return_type = "Work")]
    pub fn work(
        &self,
        #[wasm_bindgen(unchecked_param_type = "DrawRequest")] request: JsValue,
        has_picture: bool,
        has_mask: bool,
    ) -> Result<JsValue, JsValue> {
        let request = read_request(request)?;
        let work = self.0.work(&request, has_picture, has_mask)?;
        let syntax = request.prompt_syntax.unwrap_or_default();
        let (prompt, _) = request.lora_tags()?;
        let mut notes = prompt::parse(&prompt, syntax, Role::Prompt, work.n_steps)?.notes;
        if let Some(negative) = &request.negative_prompt {
            notes.extend(prompt::parse(negative, syntax, Role::Negative, work.n_steps)?.notes);
        }
        Ok(serde_wasm_bindgen::to_value(&Work { n_steps: work.n_steps, flops: work.flops as f64, notes })?)
    }

    /// What a picture of this model would ask of the GPU whose `caps` [`super::check`] gave; nothing is computed.
    ///
    /// # Errors
    /// As [`super::plan`].
    #[wasm_bindgen(unchecked_return_type = "Plan")]
    pub async fn plan(
        &self,
        #[wasm_bindgen(unchecked_param_type = "PlanRequest")] request: JsValue,
        #[wasm_bindgen(unchecked_param_type = "Caps")] caps: JsValue,
    ) -> Result<JsValue, JsValue> {
        let (_, settings) = super::plan_settings(request, caps)?;
        Ok(serde_wasm_bindgen::to_value(&self.0.plan(&settings).await?)?)
    }

    /// Checks a request and makes it ready; nothing is computed yet. With `picture` it starts from that; with `mask`,
    /// only what is white there is repainted.
    ///
    /// # Errors
    /// A JavaScript `Error` that says what would work.
    pub fn draw(
        &self,
        #[wasm_bindgen(unchecked_param_type = "DrawRequest")] request: JsValue,
        #[wasm_bindgen(unchecked_param_type = "GivenPicture | undefined")] picture: &JsValue,
        #[wasm_bindgen(unchecked_param_type = "GivenPicture | undefined")] mask: &JsValue,
    ) -> Result<Drawing, JsValue> {
        let start_picture = given_picture(picture, "picture", false)?;
        let mask = given_picture(mask, "mask", true)?;
        let request = read_request(request)?;
        Ok(Drawing::new(self.0.draw(&request, Pictures { start_picture, mask }, random_seed())?))
    }
}

// Here, because a drawing knows no model, and a model makes drawings.
#[wasm_bindgen]
impl Drawing {
    /// Goes on with a model that was loaded again, from the last step that was kept, or from the start.
    ///
    /// # Errors
    /// When the model is another one that cannot draw the request.
    pub fn move_to(&mut self, studio: &Studio) -> Result<(), JsValue> {
        Ok(self.generation.move_to(&studio.0)?)
    }
}

/// The library's form of the page's settings.
pub(super) fn engine_settings(settings: &LoadSettings) -> EngineSettings {
    // Choices that cannot be read are as good as none.
    let tiles: Option<Tiles> = settings.tiles.as_deref().and_then(|text| serde_json::from_str(text).ok());
    EngineSettings {
        device: match settings.runner {
            RunnerName::Cpu => DeviceName::Cpu,
            RunnerName::Gpu => DeviceName::Gpu,
        },
        dtype: settings.dtype.into(),
        weights: settings.weights,
        fits_weights: true,
        // The page decides itself whether a software adapter is measured; the processor has no tiles.
        tune: match settings.runner {
            RunnerName::Cpu => Tune::default(),
            RunnerName::Gpu if settings.tune => Tune::Always,
            RunnerName::Gpu => Tune::Never,
        },
        tiles: tiles.map(|tiles| Arc::new(tiles) as _),
        // On the processor everything stays loaded.
        budget_bytes: match settings.runner {
            RunnerName::Cpu => None,
            RunnerName::Gpu => settings.budget_bytes.map(|bytes| bytes as u64),
        },
        ..EngineSettings::default()
    }
}

impl From<Dtype> for engine::Dtype {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::Auto => engine::Dtype::Auto,
            Dtype::F32 => engine::Dtype::F32,
            Dtype::F16 => engine::Dtype::F16,
        }
    }
}

/// The seed of a request that has none: 32 bits, which JavaScript's numbers hold.
pub(super) fn random_seed() -> u64 {
    (Math::random() * f64::from(u32::MAX)) as u64
}

/// A request. An empty negative prompt is none: the page's empty field means that nothing was asked for.
pub(super) fn read_request(request: JsValue) -> Result<Request, JsValue> {
    let mut request: Request = read_object(request, "request", Request::FIELDS)?;
    request.negative_prompt = request.negative_prompt.filter(|text| !text.is_empty());
    Ok(request)
}

/// An object with no other fields than `fields`. The reader takes what it knows and looks at nothing else, so a setting
/// that is misspelt would go unnoticed.
pub(super) fn read_object<T: DeserializeOwned>(value: JsValue, what: &str, fields: &[&str]) -> Result<T, JsValue> {
    let Some(object) = value.dyn_ref::<Object>() else {
        return Err(refuse(&format!("the {what} is not an object")));
    };
    for key in Object::keys(object).iter().filter_map(|key| key.as_string()) {
        if !fields.contains(&key.as_str()) {
            return Err(refuse_field(
                &key,
                &format!("the {what} has no setting {key}: there are {}", fields.join(", ")),
            ));
        }
    }
    serde_wasm_bindgen::from_value(value).map_err(|e| {
        let message = e.to_string();
        refuse(&format!("the {what} cannot be read: {}", message.trim_start_matches("Error: ")))
    })
}

/// A picture as JavaScript gives it: a file's bytes, or pixels in red, green, blue and alpha.
/// The shape of a mask may be in its alpha channel.
fn given_picture(value: &JsValue, what: &str, is_mask: bool) -> Result<Option<RgbImage>, JsValue> {
    if value.is_undefined() || value.is_null() {
        return Ok(None);
    }
    if let Some(bytes) = value.dyn_ref::<Uint8Array>() {
        let bytes = bytes.to_vec();
        let picture = if is_mask { decode_mask(&bytes).map(|(mask, _)| mask) } else { decode(&bytes) };
        return Ok(Some(picture.map_err(|error| error.about(what))?));
    }
    let expected = || refuse(&format!("the {what} is neither a Uint8Array with a file nor pixels like ImageData"));
    let field = |name: &str| Reflect::get(value, &name.into()).map_err(|_| expected());
    let side = |name: &str| -> Result<usize, JsValue> {
        field(name)?.as_f64().filter(|side| *side >= 1.0).map(|side| side as usize).ok_or_else(expected)
    };
    let (width, height) = (side("width")?, side("height")?);
    let data: Uint8ClampedArray = field("data")?.dyn_into().map_err(|_| expected())?;
    let rgba = data.to_vec();
    if !rgba.len().is_multiple_of(4) {
        return Err(refuse(&format!("the {what} has {} levels, which is no number of RGBA pixels", rgba.len())));
    }
    if is_mask {
        return Ok(Some(mask_of_rgba(width, height, rgba)?.0));
    }
    let rgb = rgba.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
    Ok(Some(RgbImage::new(width, height, rgb)?))
}
