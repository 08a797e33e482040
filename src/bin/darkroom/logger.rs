//! What is told beside results, on standard error: warnings always, what is done with `-v`, every step of it with `-vv`,
//! other libraries' words too with `-vvv`.

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::bar;
use crate::visible::visible;

struct Logger {
    /// The most that is shown of other libraries.
    others: LevelFilter,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_own = metadata.target().split("::").next() == Some("darkroom");
        is_own || metadata.level() <= self.others
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = record.args().to_string();
        let words: Vec<&str> = text.split(['\n', '\r', '\t']).map(str::trim).filter(|part| !part.is_empty()).collect();
        let text = visible(&words.join(" "));
        bar::say_above(&match record.level() {
            Level::Error | Level::Warn | Level::Info => format!("darkroom: {text}"),
            Level::Debug | Level::Trace => format!("darkroom: {}: {text}", record.target()),
        });
    }

    fn flush(&self) {}
}

/// Shows from now on what `n_verbose` times `-v` asks for.
pub fn install(n_verbose: u8) {
    let (own, others) = match n_verbose {
        0 => (LevelFilter::Warn, LevelFilter::Off),
        1 => (LevelFilter::Info, LevelFilter::Off),
        2 => (LevelFilter::Debug, LevelFilter::Off),
        _ => (LevelFilter::Trace, LevelFilter::Debug),
    };
    // A program has one logger, and this is the first.
    if log::set_boxed_logger(Box::new(Logger { others })).is_ok() {
        log::set_max_level(own);
    }
}
