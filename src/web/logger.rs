//! What the library tells beside results, in the browser's console: warnings, and what [`set_log_level`] asks for.

use log::{Level, LevelFilter, Log, Metadata, Record};
use wasm_bindgen::prelude::*;
use web_sys::console;

use super::failure::refuse;

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Libraries below tell things that no user of the page can act on.
        metadata.target().split("::").next() == Some("darkroom")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = JsValue::from(record.args().to_string());
        match record.level() {
            Level::Error => console::error_1(&text),
            Level::Warn => console::warn_1(&text),
            Level::Info => console::info_1(&text),
            Level::Debug | Level::Trace => console::debug_1(&text),
        }
    }

    fn flush(&self) {}
}

/// Shows warnings from now on.
pub(super) fn install() {
    // A module is loaded once.
    if log::set_logger(&Logger).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
}

/// What the console shows of this module: `off`, `error`, `warn` (as at the start), `info`, `debug` or `trace`.
///
/// # Errors
/// For another word.
#[wasm_bindgen]
pub fn set_log_level(level: &str) -> Result<(), JsValue> {
    let level: LevelFilter =
        level.parse().map_err(|_| refuse("the log level is one of off, error, warn, info, debug and trace"))?;
    log::set_max_level(level);
    Ok(())
}
