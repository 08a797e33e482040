//! Callbacks that are told of progress and say whether to go on.

use js_sys::{Error, Function};
use wasm_bindgen::prelude::*;

use super::failure::refuse;

/// A callback of JavaScript, and what it threw.
pub(super) struct Told<'a> {
    on_progress: &'a Function,
    thrown: Option<JsValue>,
}

impl<'a> Told<'a> {
    pub fn new(on_progress: &'a Function) -> Self {
        Told { on_progress, thrown: None }
    }

    /// Tells the part that is done, 0 to 1. False where the callback returns `false` or throws.
    pub fn goes_on(&mut self, fraction: f64) -> bool {
        match self.on_progress.call1(&JsValue::NULL, &fraction.into()) {
            Ok(answer) => answer.as_bool() != Some(false),
            Err(thrown) => {
                self.thrown.get_or_insert(thrown);
                false
            }
        }
    }

    /// # Errors
    /// What the callback threw.
    pub fn check(self) -> Result<(), JsValue> {
        let Some(thrown) = self.thrown else { return Ok(()) };
        let message = match thrown.dyn_ref::<Error>() {
            Some(error) => String::from(error.message()),
            None => thrown.as_string().unwrap_or_else(|| format!("{thrown:?}")),
        };
        Err(refuse(&format!("the progress callback failed: {message}")))
    }
}
