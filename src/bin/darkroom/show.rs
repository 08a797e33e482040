//! `darkroom show`: what a picture says of itself.

use std::path::PathBuf;

use darkroom::image::picture_text;
use darkroom::{Error, Result};

/// `darkroom show`.
#[derive(clap::Args)]
pub struct Args {
    /// A picture file.
    file: PathBuf,
}

/// Prints every text that the picture carries, its parameters first; what a terminal would act on is made visible.
///
/// # Errors
/// When the file cannot be read, is no picture, is cut off, or carries no text.
pub fn run(args: &Args) -> Result<()> {
    let bytes = std::fs::read(&args.file).map_err(|e| Error::io(&args.file, e))?;
    let mut texts = picture_text(&bytes).map_err(|error| error.about(args.file.display().to_string()))?;
    if texts.is_empty() {
        let reason = "the picture carries no parameters".to_string();
        return Err(Error::Image { what: args.file.display().to_string(), reason });
    }
    texts.sort_by_key(|(key, _)| match key.as_str() {
        "parameters" => 0,
        "darkroom" => 1,
        _ => 2,
    });
    for (key, text) in texts {
        crate::print_text(format_args!("{key}:\n{text}\n"))?;
    }
    Ok(())
}
