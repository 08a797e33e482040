//! `darkroom show`: what a picture says of itself.

use std::path::PathBuf;

use darkroom::image::png_text;
use darkroom::{Error, Result};

/// `darkroom show`.
#[derive(clap::Args)]
pub struct Args {
    /// A PNG file.
    file: PathBuf,
}

/// Prints every text that the PNG carries, its parameters first.
///
/// # Errors
/// When the file cannot be read, is no PNG, or carries no text.
pub fn run(args: &Args) -> Result<()> {
    let bytes = std::fs::read(&args.file).map_err(|e| Error::io(&args.file, e))?;
    let named = |error| match error {
        Error::Image { reason, .. } => Error::Image { what: args.file.display().to_string(), reason },
        other => other,
    };
    let texts = png_text(&bytes).map_err(named)?;
    if texts.is_empty() {
        let reason = "the picture carries no parameters".to_string();
        return Err(Error::Image { what: args.file.display().to_string(), reason });
    }
    for (key, text) in texts {
        crate::print_line(format_args!("{key}:\n{text}\n"))?;
    }
    Ok(())
}
