//! What `darkroom generate` refuses, or notes, before anything is downloaded or computed.

use std::path::{Path, PathBuf};

use darkroom::engine::{DeviceName, EngineSettings};
use darkroom::model::SDVersion;
use darkroom::request::{Attention, Defaults, MAX_COUNT, Request};
use darkroom::{Error, Result};

use super::Args;
use crate::output_file;

/// The most threads that make sense on any machine, and that the thread pool can start at once.
const MAX_THREADS: usize = 1024;

fn refuse<T>(field: &'static str, got: &str, expected: &str) -> Result<T> {
    Err(Error::Request { field, got: got.into(), expected: expected.into() })
}

/// Refuses settings that the device does not have.
///
/// # Errors
/// [`Error::Request`] with the setting.
pub fn check_device(settings: &EngineSettings, attention: Attention) -> Result<()> {
    settings.check()?;
    if settings.device == DeviceName::Gpu && attention != Attention::Flash {
        return refuse("attention", "other than flash on the GPU", "leave out --attention, or use --device cpu");
    }
    Ok(())
}

/// Starts that many threads for the processor, or one for each of its cores.
///
/// # Errors
/// [`Error::Request`] for a number that makes no sense.
pub fn start_threads(threads: Option<usize>) -> Result<()> {
    let Some(threads) = threads else { return Ok(()) };
    if !(1..=MAX_THREADS).contains(&threads) {
        return refuse("threads", &threads.to_string(), &format!("use 1 to {MAX_THREADS}, or leave it out for all"));
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    pool.build_global().map_err(|e| Error::Device { device: "cpu".into(), reason: e.to_string() })
}

/// Refuses, before a model is downloaded or loaded, what cannot be drawn whatever its files say. They have the last
/// word in [`darkroom::engine::Engine::draw`].
pub fn check_request(args: &Args, request: &Request, version: Option<SDVersion>) -> Result<()> {
    let (has_picture, has_mask) = (args.init.is_some(), args.has_mask());
    if args.outpaint.is_some() && !has_picture {
        return refuse("outpaint", "without a picture", "give the picture to extend too (--init)");
    }
    request.check_given(has_picture, has_mask)?;
    let Some(version) = version else {
        // Sizes, layers and conditioning are the repository's or the folder's own; everything else is the same for all models.
        let request = Request {
            width: None,
            height: None,
            clip_skip: None,
            clip_skip_counting: None,
            original_size: None,
            crop: None,
            ..request.clone()
        };
        let picture = has_picture.then_some(SDVersion::V1_5.default_size());
        return request.resolve(&Defaults::of(SDVersion::V1_5), picture, has_mask, 0)?.validate();
    };
    if version.is_inpaint() && !has_mask {
        let expected = "this model only repaints parts of a picture: give a picture and a mask (--init, --mask)";
        return refuse("model", version.key(), expected);
    }
    let picture = has_picture.then_some(version.default_size());
    request.resolve(&Defaults::of(version), picture, has_mask, 0)?.validate()
}

/// Whether a text is the name of an option of this command.
fn is_option(text: &str) -> bool {
    let is_named = text.strip_prefix("--").is_some_and(|name| {
        let command = <Args as clap::Args>::augment_args(clap::Command::new("generate"));
        command.get_arguments().any(|arg| arg.get_long() == Some(name))
    });
    is_named || text == "-o"
}

/// Which of the texts was forgotten, as an option follows its name at once. The parser of arguments would only find the
/// value of that option out of place.
pub fn forgotten_text(args: &[String]) -> Option<String> {
    let names = ["--prompt", "--negative"];
    let forgotten = |pair: &[String]| names.contains(&pair[0].as_str()) && is_option(&pair[1]);
    let name = args.windows(2).find(|pair| forgotten(pair)).map(|pair| &pair[0])?;
    Some(format!("{name} has no text: there is no text before the next option"))
}

/// What somebody who begins a prompt with `-` may not expect.
pub fn about_prompt(args: &Args) -> Option<&'static str> {
    let begins_with_minus = args.prompt.trim_start().starts_with('-');
    begins_with_minus.then_some("the prompt begins with -, which is drawn as text: --negative says what to avoid")
}

/// Refuses an output that could not be written, before anything is computed.
pub fn check_output(path: &Path, count: usize) -> Result<()> {
    let is_png = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
    if !is_png {
        return refuse("output", &path.display().to_string(), "the picture is a PNG: give a name that ends in .png");
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return refuse("output", &path.display().to_string(), "its folder must exist");
    }
    for path in (0..count.min(MAX_COUNT)).map(|picture| output_path(path, picture, count)) {
        let Ok(there) = std::fs::metadata(&path) else { continue };
        if there.is_dir() {
            return refuse("output", &path.display().to_string(), "a folder has that name: give another one");
        }
        if there.permissions().readonly() {
            return refuse("output", &path.display().to_string(), "the file is write-protected: give another name");
        }
    }
    (0..count.min(MAX_COUNT)).try_for_each(|picture| output_file::check(&output_path(path, picture, count)))
}

pub fn output_path(path: &Path, picture: usize, count: usize) -> PathBuf {
    if count == 1 {
        return path.to_path_buf();
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{stem}-{}.png", picture + 1))
}
