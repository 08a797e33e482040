//! What the page can call: the only `#[wasm_bindgen]` items of the crate.
//!
//! Turns JavaScript values into Rust ones and back, and adds what only a browser can tell. It decides nothing about
//! pictures, and the loop that draws one belongs to the worker's JavaScript.

mod bench;
mod drawing;
mod extra_networks;
mod failure;
mod inspect;
mod logger;
mod models;
mod opened;
mod studio;
#[cfg(target_feature = "atomics")]
mod threads;
mod told;
mod types;
mod wildcards;

use js_sys::{Reflect, Set, Uint8Array};
use serde::Serialize;
use wasm_bindgen::prelude::*;

pub use bench::Bench;
pub use drawing::Drawing;
pub use inspect::inspect_file;
pub use logger::set_log_level;
pub use models::Models;
pub use studio::Studio;
pub use wildcards::choose_prompts;

use crate::engine::{self, Device, DeviceName, EngineSettings, Expected};
use crate::hub::published::Published;
use crate::image::{decode, picture_text};
use crate::model::SDVersion;
use crate::parameters::Found;
use crate::pipeline;
use crate::pipeline::plan::PlanSettings;
use crate::request::Request;
use crate::run::gpu::{Caps, Gpu};
use types::{GivenCaps, PictureParameters, PlanRequest, VersionInfo};

#[wasm_bindgen(typescript_custom_section)]
const DECLARATIONS: &str = include_str!("types.d.ts");

/// Runs when the module is loaded: from here on a panic shows its message and place in the console, and warnings show, too.
#[wasm_bindgen(start)]
pub fn start() {
    console_error_panic_hook::set_once();
    logger::install();
}

/// Opens the GPU and tells what it can do: an object with the fields of [`Caps`].
///
/// # Errors
/// A JavaScript `Error` whose message says what is missing, when the browser gives no adapter.
#[wasm_bindgen(unchecked_return_type = "Caps")]
pub async fn check() -> Result<JsValue, JsValue> {
    let gpu = open_gpu().await?;
    let caps = serde_wasm_bindgen::to_value::<Caps>(&gpu.caps)?;
    gpu.device.destroy();
    Ok(caps)
}

/// The seven versions, oldest first: the order of menus.
///
/// # Errors
/// Never in practice: they are plain values.
#[wasm_bindgen(unchecked_return_type = "VersionInfo[]")]
pub fn versions() -> Result<JsValue, JsValue> {
    let info = |version: SDVersion| {
        let (width, height) = version.default_size();
        VersionInfo {
            key: version.key(),
            name: version.display_name(),
            repository: version.repository(),
            width,
            height,
            steps: version.default_steps(),
            guidance_scale: version.default_guidance_scale(),
            size_multiple: version.multiple_of(),
            is_inpaint: version.is_inpaint(),
            download_bytes: version.approximate_download_bytes() as f64,
        }
    };
    Ok(serde_wasm_bindgen::to_value(&SDVersion::ALL.map(info))?)
}

/// What a picture of one of the seven versions would ask of the GPU whose `caps` [`check`] gave, before anything is
/// downloaded.
///
/// # Errors
/// A JavaScript `Error` that says what would work: for a size that is not possible, or an adapter whose limits no plan
/// keeps.
#[wasm_bindgen(unchecked_return_type = "Plan")]
pub async fn plan(
    #[wasm_bindgen(unchecked_param_type = "PlanRequest")] request: JsValue,
    #[wasm_bindgen(unchecked_param_type = "Caps")] caps: JsValue,
) -> Result<JsValue, JsValue> {
    let (request, settings) = plan_settings(request, caps)?;
    let version = request.version.ok_or_else(|| failure::refuse("the plan names no version"))?;
    let version: SDVersion = version.parse()?;
    Ok(serde_wasm_bindgen::to_value(&pipeline::plan::plan(&Published::new(version), &settings).await?)?)
}

/// A plan's request as the planner takes it. Sides that are not given are the model's own.
fn plan_settings(request: JsValue, caps: JsValue) -> Result<(PlanRequest, PlanSettings), JsValue> {
    let request: PlanRequest = studio::read_object(request, "plan", PlanRequest::FIELDS)?;
    let GivenCaps(caps) = serde_wasm_bindgen::from_value(caps)
        .map_err(|e| failure::refuse(&format!("what the GPU can do cannot be read: {e}")))?;
    let element = engine::Dtype::from(request.dtype).element(&caps);
    // The published versions come here without the vocabulary that tokens are counted with.
    let (prompt, negative_prompt) = match request.version {
        Some(_) => (None, None),
        None => (request.prompt.clone(), request.negative_prompt.clone()),
    };
    let asked = Request {
        prompt: prompt.unwrap_or_default(),
        negative_prompt,
        prompt_syntax: request.prompt_syntax,
        count: request.count,
        steps: request.steps,
        sampler: request.sampler.clone(),
        width: request.width,
        height: request.height,
        any_size: request.any_size,
        guidance_scale: request.guidance_scale,
        ..Request::default()
    };
    let expected = Expected { request: asked, from_picture: request.from_picture, ..Expected::default() };
    let budget = request.budget_bytes.map(|bytes| bytes as u64);
    let settings = expected.plan(caps, element, request.weights, budget);
    Ok((request, settings))
}

/// What made a picture, as its file says, also one of another program; `undefined` where the file says nothing.
///
/// # Errors
/// A JavaScript `Error` when the file is no picture, or is cut off.
#[wasm_bindgen(unchecked_return_type = "PictureParameters | undefined")]
pub fn picture_parameters(file: &Uint8Array) -> Result<JsValue, JsValue> {
    let Some(found) = Found::in_text(&picture_text(&file.to_vec())?) else { return Ok(JsValue::UNDEFINED) };
    let (knows_sampler, is_empty) = (found.settings.knows_sampler(), found.settings.is_empty());
    // Fields are flattened, which makes a map of them; a page expects an object.
    let says = PictureParameters { found, knows_sampler, is_empty };
    Ok(says.serialize(&serde_wasm_bindgen::Serializer::new().serialize_maps_as_objects(true))?)
}

/// A picture file's pixels, upright, as a drawing that starts from it takes them; in the form that a canvas has them.
///
/// # Errors
/// A JavaScript `Error` that says what works, when the file is no picture that can be read.
#[wasm_bindgen(unchecked_return_type = "Pixels")]
pub fn picture_pixels(file: &Uint8Array) -> Result<JsValue, JsValue> {
    drawing::image_data(&decode(&file.to_vec())?)
}

/// Opens the GPU, under a name that people can tell from another.
async fn open_gpu() -> crate::Result<Gpu> {
    let mut gpu = Gpu::open().await?;
    if gpu.caps.name.is_empty() {
        gpu.caps.name = name_from_browser(&gpu);
    }
    if has_subgroups(&gpu) {
        gpu.try_subgroups().await;
    }
    Ok(gpu)
}

/// Whether the device was asked for subgroup operations and has them (www/worker/subgroups.js).
fn has_subgroups(gpu: &Gpu) -> bool {
    let features = gpu.device.as_webgpu().and_then(|device| Reflect::get(device.as_ref(), &"features".into()).ok());
    features.is_some_and(|features| features.unchecked_ref::<Set>().has(&"subgroups".into()))
}

/// Opens the device that the settings name.
async fn open_device(settings: &EngineSettings) -> crate::Result<Device> {
    match settings.device {
        DeviceName::Gpu => Device::on_gpu(open_gpu().await?, settings),
        DeviceName::Cpu | DeviceName::Cuda => Device::open(settings).await,
    }
}

/// Vendor and architecture, which browsers tell even where they keep the adapter's own name to themselves.
fn name_from_browser(gpu: &Gpu) -> String {
    let field = |of: &JsValue, name: &str| Reflect::get(of, &name.into()).unwrap_or(JsValue::UNDEFINED);
    let Some(device) = gpu.device.as_webgpu() else { return String::new() };
    let info = field(device.as_ref(), "adapterInfo");
    let words: Vec<String> = ["vendor", "architecture"]
        .iter()
        .filter_map(|name| field(&info, name).as_string())
        .filter(|word| !word.is_empty())
        .collect();
    if words.is_empty() { "a GPU that this browser does not name".into() } else { words.join(" ") }
}
