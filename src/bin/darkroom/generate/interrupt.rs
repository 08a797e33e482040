//! Ctrl-C.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use darkroom::{Error, Result};

use crate::exit_code;

/// Whether Ctrl-C was pressed. While it draws, the generation stops between two operations, and no file is half written.
/// Before, it ends the process at once: a download or the reading of weights leaves nothing that the next run could not
/// resume.
pub struct Interrupt {
    is_pressed: Arc<AtomicBool>,
    is_drawing: Arc<AtomicBool>,
}

impl Interrupt {
    /// Takes over Ctrl-C from the system.
    ///
    /// # Errors
    /// [`Error::Device`] when that is not possible.
    pub fn install() -> Result<Self> {
        let (is_pressed, is_drawing) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (pressed, drawing) = (Arc::clone(&is_pressed), Arc::clone(&is_drawing));
        ctrlc::set_handler(move || {
            pressed.store(true, Ordering::Relaxed);
            if !drawing.load(Ordering::Relaxed) {
                log::warn!("{}", Error::Cancelled);
                std::process::exit(exit_code(&Error::Cancelled).into());
            }
        })
        .map_err(|e| Error::Device { device: "terminal".into(), reason: e.to_string() })?;
        Ok(Interrupt { is_pressed, is_drawing })
    }

    /// From now on the generation stops by itself.
    pub fn drawing(&self) {
        self.is_drawing.store(true, Ordering::Relaxed);
    }

    /// Whether to go on.
    pub fn go_on(&self) -> bool {
        !self.is_pressed.load(Ordering::Relaxed)
    }
}
