//! Errors as JavaScript sees them: an `Error` whose `code` says what a page can do about it, beside the message for
//! people.

use js_sys::Reflect;
use wasm_bindgen::JsValue;

use crate::error::Error;

/// What a page can do about an error, in one word.
fn code(error: &Error) -> &'static str {
    match error {
        // Change a setting: the message says which one and what would work.
        Error::Request { .. } => "request",
        // Choose another model, or fetch this one again.
        Error::Config { .. }
        | Error::Safetensors { .. }
        | Error::Gguf { .. }
        | Error::TensorMissing { .. }
        | Error::TensorShape { .. }
        | Error::TensorDtype { .. }
        | Error::Shape { .. }
        | Error::Tokenizer { .. }
        | Error::Hub { .. } => "model",
        // Choose the other runner, or load the model again.
        Error::Device { .. } | Error::Run { .. } | Error::NotFinite { .. } => "device",
        // Choose a smaller picture, a smaller budget, or the other runner.
        Error::Limit { .. } | Error::OutOfMemory { .. } => "memory",
        // Load the model again; a drawing can go on from its last step.
        Error::DeviceLost { .. } => "lost",
        // Free space, or load the page again.
        Error::Store { .. } | Error::StoreFull { .. } => "storage",
        // Bring another picture.
        Error::Image { .. } | Error::Io { .. } => "picture",
        Error::Cancelled => "cancelled",
        #[allow(unreachable_patterns, reason = "a kind that is added later must not stop the page from being built")]
        _ => "device",
    }
}

/// An `Error` with that message and code.
pub(super) fn failure(code: &str, message: &str) -> JsValue {
    let error = js_sys::Error::new(message);
    // A fresh object takes any property, so there is no failure to tell of.
    let _always_set = Reflect::set(&error, &"code".into(), &code.into());
    error.into()
}

/// What a caller's arguments are at fault for.
pub(super) fn refuse(message: &str) -> JsValue {
    failure("request", message)
}

impl From<Error> for JsValue {
    fn from(error: Error) -> Self {
        failure(code(&error), &error.to_string())
    }
}
