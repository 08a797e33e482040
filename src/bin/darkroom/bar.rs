//! One progress bar over a whole job, on standard error, with stage, step and time left. Silent when standard error is
//! not a terminal.

use std::sync::{Mutex, MutexGuard, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};

use crate::visible::visible_line;

/// Parts that a bar is divided into.
const PARTS: u64 = 10_000;

/// The bar on the screen, above which lines are printed.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

fn shown() -> MutexGuard<'static, Option<ProgressBar>> {
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prints a line on standard error, above the bar where there is one.
pub fn say_above(line: &str) {
    match &*shown() {
        Some(bar) => bar.suspend(|| eprintln!("{line}")),
        None => eprintln!("{line}"),
    }
}

/// See the module.
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar at zero.
    pub fn new() -> Self {
        let bar = ProgressBar::new(PARTS);
        // A template that does not parse leaves the plain style, which is no worse than a crash.
        if let Ok(style) = ProgressStyle::with_template("{msg:<28} {bar:32} {percent:>3}%  {elapsed} gone, {eta} left")
        {
            bar.set_style(style);
        }
        shown().replace(bar.clone());
        Bar(bar)
    }

    /// What is being done, and how much of the whole is.
    pub fn show(&self, stage: &str, fraction: f64) {
        if self.0.message() != stage {
            self.0.set_message(stage.to_string());
        }
        self.0.set_position((fraction * PARTS as f64) as u64);
    }

    /// A line above the bar.
    pub fn say(&self, line: &str) {
        self.0.suspend(|| eprintln!("{}", visible_line(line)));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        shown().take();
        self.0.finish_and_clear();
    }
}
