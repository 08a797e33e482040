//! What the page can call: the only `#[wasm_bindgen]` items of the crate.
//!
//! Turns JavaScript values into Rust ones and back, and adds what only a browser can tell. It decides nothing about
//! pictures, and the loop that draws one belongs to the worker's JavaScript.

mod studio;

use js_sys::Reflect;
use wasm_bindgen::prelude::*;

pub use studio::{Drawing, Studio};

use crate::run::gpu::{Caps, Gpu};

/// Runs when the module is loaded: from here on a panic shows its message and place in the console.
#[wasm_bindgen(start)]
pub fn start() {
    console_error_panic_hook::set_once();
}

/// Opens the GPU and tells what it can do: an object with the fields of [`Caps`].
///
/// # Errors
/// A JavaScript `Error` whose message says what is missing, when the browser gives no adapter.
#[wasm_bindgen]
pub async fn check() -> Result<JsValue, JsError> {
    let gpu = Gpu::open().await?;
    let mut caps = gpu.caps.clone();
    if caps.name.is_empty() {
        caps.name = name_from_browser(&gpu);
    }
    let caps = serde_wasm_bindgen::to_value::<Caps>(&caps)?;
    gpu.device.destroy();
    Ok(caps)
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
