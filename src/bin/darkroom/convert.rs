//! `darkroom convert`: a model in another layout.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use clap::{Args as ClapArgs, ValueEnum};
use darkroom::checkpoint::convert::{Layout, OutputFile, Stored, files};
use darkroom::checkpoint::lora::WithLoras;
use darkroom::hub::Source;
use darkroom::pipeline::{ActiveLoras, ModelConfigs};
use darkroom::request::Request;
use darkroom::{Error, Result};
use serde_json::json;

use crate::bar::Bar;
use crate::generate::Interrupt;
use crate::loras::{self, LoraArg, lora};
use crate::model_args::ModelArgs;
use crate::numbers::parse_bytes;
use crate::{print_json, print_line};

/// The layouts by name.
#[derive(Clone, Copy, ValueEnum)]
enum LayoutName {
    /// A folder that diffusers loads.
    Diffusers,
    /// One .safetensors file with the original names, as A1111, ComfyUI and others load it.
    Safetensors,
    /// One .gguf file, as stable-diffusion.cpp loads it.
    Gguf,
}

/// `darkroom convert`.
#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// A LoRA that is merged into the weights, and how strong, as for `generate`. May be given several times.
    #[arg(long, value_name = "FILE[:STRENGTH[:TEXT_STRENGTH]]", value_parser = lora)]
    lora: Vec<LoraArg>,
    /// Where to write: NAME.safetensors, NAME.gguf, or a folder that is empty or does not exist yet.
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// The layout [default: by the output's name].
    #[arg(long, value_enum)]
    to: Option<LayoutName>,
    /// The type of the numbers: f16, f32, bf16, keep (as the model has them; quantised ones as f32), and for GGUF q8_0 or q4_0 [default: f16 for a
    /// folder, keep for a .safetensors file, q8_0 for a .gguf file]. `--weights`, as elsewhere, is the same.
    #[arg(long, alias = "weights", value_name = "TYPE")]
    r#type: Option<Stored>,
    /// Cut the weight files of a folder where they pass this size: 2GB, 500MB.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, allow_negative_numbers = true)]
    shard_size: Option<u64>,
    /// Print one JSON object about what was written.
    #[arg(long)]
    json: bool,
}

/// The ends of names that only files have, beside those that are written.
const OTHER_ENDS: [&str; 12] =
    ["ckpt", "pt", "pth", "bin", "onnx", "safetensor", "sft", "ggml", "zip", "json", "yaml", "png"];

impl Args {
    fn has_end(&self, end: &str) -> bool {
        self.output.extension().is_some_and(|found| found.eq_ignore_ascii_case(end))
    }

    /// Refuses a name that says something else than what is written.
    fn check_name(&self, layout: Layout) -> Result<()> {
        let of = |layout: Layout| match layout {
            Layout::Diffusers => None,
            Layout::Ldm => Some("safetensors"),
            Layout::Gguf => Some("gguf"),
        };
        let is_other = OTHER_ENDS.iter().any(|end| self.has_end(end));
        let is_anothers = [Layout::Ldm, Layout::Gguf]
            .into_iter()
            .any(|other| other != layout && of(other).is_some_and(|end| self.has_end(end)));
        // With `--to diffusers` a folder may be called anything.
        if !(is_anothers || is_other) || self.to.is_some() && layout == Layout::Diffusers {
            return Ok(());
        }
        Err(Error::Request {
            field: "output",
            got: self.output.display().to_string(),
            expected: match (self.to, of(layout)) {
                (Some(_), Some(end)) => format!("its name says another format: give a name that ends in .{end}"),
                _ => {
                    "files of this kind are not written: give a name that ends in .safetensors or .gguf, or a folder's"
                        .into()
                }
            },
        })
    }

    fn layout(&self) -> Layout {
        match self.to {
            Some(LayoutName::Diffusers) => Layout::Diffusers,
            Some(LayoutName::Safetensors) => Layout::Ldm,
            Some(LayoutName::Gguf) => Layout::Gguf,
            None if self.has_end("safetensors") => Layout::Ldm,
            None if self.has_end("gguf") => Layout::Gguf,
            None => Layout::Diffusers,
        }
    }

    fn stored(&self, layout: Layout) -> Stored {
        self.r#type.unwrap_or(match layout {
            Layout::Diffusers => Stored::F16,
            Layout::Ldm => Stored::Keep,
            Layout::Gguf => Stored::Blocks(darkroom::weights::gguf::BlockType::Q8_0),
        })
    }
}

/// Converts.
///
/// # Errors
/// What is wrong with the model or the settings; [`Error::Io`] where the output is there already or cannot be written, in
/// which case nothing half written is left.
pub fn run(args: &Args) -> Result<()> {
    let layout = args.layout();
    if args.shard_size.is_some() && layout != Layout::Diffusers {
        return Err(Error::Request {
            field: "shard_size",
            got: "for one file".into(),
            expected: "it cuts the weights of a folder: give a folder as the output, or leave it out".into(),
        });
    }
    if args.model.taesd.is_some() {
        return Err(Error::Request {
            field: "taesd",
            got: "in a conversion".into(),
            expected: "a model is written with its own VAE, or with that of --vae: leave it out".into(),
        });
    }
    args.check_name(layout)?;
    check_free(&args.output, layout)?;
    let interrupt = Interrupt::install()?;
    let bar = Bar::new();
    let named = args.model.named()?;
    let source = pollster::block_on(args.model.fetch(&named, &bar)?.open()).map_err(Error::of_model)?;
    let source = with_loras(source, args, &bar)?;
    let outputs = pollster::block_on(files(&source, layout, args.stored(layout), args.shard_size));
    let outputs = outputs.map_err(Error::of_model)?;
    let total = outputs.iter().map(OutputFile::n_bytes).sum::<u64>().max(1);
    // Beside its place, so that what is there under its name is whole.
    let part = beside(&args.output);
    let new_folders = missing_folders(&args.output);
    // From here on Ctrl-C is heard between two pieces, and what was written is removed.
    interrupt.drawing();
    let written = write_all(&outputs, &part, layout, args, &mut |n_written| {
        bar.show("convert", n_written as f64 / total as f64);
        if interrupt.go_on() { Ok(()) } else { Err(Error::Cancelled) }
    });
    let placed = written.and_then(|n_bytes| {
        place(&part, &args.output, layout).map_err(|error| Error::io(&args.output, error))?;
        Ok(n_bytes)
    });
    if placed.is_err() {
        // What is left of it is of no use; that it cannot be removed would hide what went wrong.
        let _ = if part.is_dir() { fs::remove_dir_all(&part) } else { fs::remove_file(&part) };
        // One that somebody put something into meanwhile stays.
        new_folders.iter().all(|folder| fs::remove_dir(folder).is_ok());
    }
    let n_bytes = placed?;
    drop(bar);
    if args.json {
        return print_json(&json!({ "output": args.output, "files": outputs.len(), "bytes": n_bytes }));
    }
    print_line(args.output.display())
}

/// The model with the LoRAs of the command line in it.
fn with_loras(source: Rc<dyn Source>, args: &Args, bar: &Bar) -> Result<Rc<dyn Source>> {
    if args.lora.is_empty() {
        return Ok(source);
    }
    let request = Request { loras: loras::used(&args.lora), ..Request::default() };
    let found = loras::Wanted::of(&args.lora, None, &request)?.fetch(bar)?;
    pollster::block_on(async {
        let configs = ModelConfigs::read(&*source, &source.list().await?).await.map_err(Error::of_model)?;
        let mut known = Vec::new();
        for lora in found {
            let lora = lora.open(None).await?.fit(&configs)?;
            lora.notes.iter().for_each(|note| bar.say(&format!("note: {note}")));
            known.push(Rc::new(lora));
        }
        let active = ActiveLoras::of(&request.loras, &known)?;
        Ok(Rc::new(WithLoras::new(source, active)) as Rc<dyn Source>)
    })
}

fn beside(output: &Path) -> PathBuf {
    let name = output.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned());
    output.with_file_name(format!(".{name}.part-{}", std::process::id()))
}

/// The folders above a path that do not exist yet, the innermost first.
fn missing_folders(output: &Path) -> Vec<PathBuf> {
    let folders = output.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty());
    folders.take_while(|folder| !folder.exists()).map(Path::to_path_buf).collect()
}

/// Gives what was written its name, which somebody else may have taken meanwhile.
fn place(part: &Path, output: &Path, layout: Layout) -> std::io::Result<()> {
    if layout == Layout::Diffusers {
        if output.is_dir() {
            fs::remove_dir(output)?;
        }
        return fs::rename(part, output);
    }
    match fs::hard_link(part, output) {
        Ok(()) => fs::remove_file(part),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(error),
        // A file system without hard links.
        Err(_) => fs::rename(part, output),
    }
}

/// A file of that name, or a folder with something in it, is not replaced.
fn check_free(output: &Path, layout: Layout) -> Result<()> {
    let refuse = |reason: &str| {
        let error = std::io::Error::new(std::io::ErrorKind::AlreadyExists, reason);
        Err(Error::io(output, error))
    };
    if output.file_name().is_none() {
        return refuse("this is no name for a new file or folder");
    }
    match fs::symlink_metadata(output) {
        Err(_) => Ok(()),
        Ok(_) if layout != Layout::Diffusers => refuse("it exists already: choose another name, or remove it"),
        Ok(there) if !there.is_dir() => refuse("there is a file of that name: choose another one"),
        Ok(_) => match fs::read_dir(output).map_err(|error| Error::io(output, error))?.next() {
            Some(_) => refuse("the folder is not empty: choose another name, or empty it"),
            None => Ok(()),
        },
    }
}

/// Writes the files to `part`, a file or a folder; gives their bytes.
fn write_all(
    outputs: &[OutputFile],
    part: &Path,
    layout: Layout,
    args: &Args,
    go_on: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<u64> {
    let mut n_written = 0u64;
    for output in outputs {
        let path = if layout == Layout::Diffusers { part.join(&output.path) } else { part.to_path_buf() };
        // The name of the part is of no use to anybody.
        let shown = if layout == Layout::Diffusers { args.output.join(&output.path) } else { args.output.clone() };
        let failed = |error| Error::io(&shown, error);
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut file = BufWriter::new(File::create(&path).map_err(failed)?);
        pollster::block_on(output.pieces(&mut |bytes| {
            file.write_all(bytes).map_err(failed)?;
            n_written += bytes.len() as u64;
            go_on(n_written)
        }))?;
        file.flush().map_err(failed)?;
    }
    Ok(n_written)
}
