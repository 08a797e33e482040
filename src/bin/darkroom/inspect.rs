//! `darkroom inspect`: what a file, a folder or a repository is, by its headers.

mod remote;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use darkroom::checkpoint::fit::{fit, fit_single};
use darkroom::checkpoint::inspect::{Report, inspect, inspect_files, inspect_model, other_pipeline};
use darkroom::checkpoint::single::SingleFileSettings;
use darkroom::hub::cache::HubCache;
use darkroom::hub::folder::Folder;
use darkroom::hub::{RepoId, Source};
use darkroom::model::SDVersion;
use darkroom::weights::{ByteSource, DiskSource, LocalFuture, Shared};
use darkroom::{Error, Result};
use pollster::block_on;
use serde_json::{Value, json};

use crate::{print_json, print_line, source};

/// Ends of names of files with weights, read or not.
const ENDS: [&str; 6] = ["safetensors", "gguf", "ckpt", "pt", "pth", "bin"];

/// The longest `.yaml` or `model_index.json` that is read.
const MAX_TEXT_BYTES: u64 = 1 << 20;

const FIELDS: &str = "\
Fields of --json (one object; null or left out where nothing is known):
  file, format, bytes, tensors, types    the file, safetensors, gguf or folder, its size, its number of tensors and their types
  kind        checkpoint, unet, vae, taesd, text_encoder, lora, controlnet, t2i_adapter, ip_adapter, embedding, other
  family      sd1, sd2, xl, xl-refiner, or another's word: sd3, flux, svd, ...
  variant     base, inpaint, pix2pix, depth, upscaler, unclip, ssd-1b, vega, cosxl, playground-v2.5, ...
  layout      ldm, diffusers or taesd: whose names the tensors have
  components  {present: {NAME: {bytes, tensors, types, files}}, missing: [NAME]}; leftovers: {bytes, tensors, types}
  prediction  epsilon, v or undecided; decided_by: config, keys, metadata, yaml, default, channels, weights; ztsnr
  preset      what --preset takes, of a model or LoRA for a few steps, by its name or metadata
  lora        {format, spelling, rank, ranks, parts, layers, locon, dora, embeddings}; vectors: of an embedding
  about       {title, author, license, description, base, resolution, trigger, tags, pipeline}; metadata: all texts
  opens       whether it is a model for --model; loads: whether all its tensors were found; refused: of no use here
  problem, advice    what is wrong, and what to do
  fits        {width, height, gpu_resident_bytes, gpu_staged_bytes, gpu_weight_bytes,
               gpu_q8_0_bytes, gpu_q4_0_bytes (each: resident, staged), cpu_f32_bytes, assumed}
A folder of several files gives {folder, files: [the same for each, or {file, error}]}.
Exit code 3 for a file that is broken or no file of weights.";

/// `darkroom inspect`.
#[derive(clap::Args)]
#[command(after_help = FIELDS)]
pub struct Args {
    /// A file, a folder, owner/repo[@revision][/file] (from the cache, else the file's header from the Hub), or https://...
    #[arg(value_name = "FILE|FOLDER|owner/repo[/file]")]
    what: String,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What was looked at.
enum Found {
    One(Box<Report>),
    /// The files of a folder, each with what it is or what is wrong with it.
    Several(String, Vec<(String, Result<Report>)>),
}

/// Prints what it is.
///
/// # Errors
/// [`Error::Safetensors`] and its like for a broken file; [`Error::Io`] for one that cannot be read; what the Hub says.
pub fn run(args: &Args) -> Result<()> {
    match (look(&args.what)?, args.json) {
        (Found::One(report), true) => print_json(&json!(report)),
        (Found::One(report), false) => report.lines().iter().try_for_each(print_line),
        (Found::Several(folder, files), true) => {
            let files: Vec<Value> = files
                .iter()
                .map(|(file, report)| match report {
                    Ok(report) => json!(report),
                    Err(error) => json!({ "file": file, "error": error.to_string() }),
                })
                .collect();
            print_json(&json!({ "folder": folder, "files": files }))
        }
        (Found::Several(folder, files), false) => {
            print_line(format_args!("{folder}: {} files", files.len()))?;
            files.iter().try_for_each(|(file, report)| match report {
                Ok(report) => print_line(format_args!("  {file}: {}", report.line())),
                Err(error) => print_line(format_args!("  {file}: {}", one_line(error))),
            })
        }
    }
}

fn one_line(error: &Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn look(what: &str) -> Result<Found> {
    let path = Path::new(what);
    if path.is_dir() {
        return folder(path, what);
    }
    if path.exists() {
        return file(path, what);
    }
    if what.starts_with("https://") || what.starts_with("http://") {
        return one(remote::url(what)?);
    }
    if !source::is_path(what) {
        if let Ok(version) = what.parse::<SDVersion>() {
            return repository(&version.repository().parse()?, "");
        }
        let (repo, file) = split(what);
        // A file that is not there has a name like that of a repository.
        let is_file = file.is_empty() && ENDS.iter().any(|end| what.ends_with(&format!(".{end}")));
        if let (Ok(repo), false) = (repo.parse::<RepoId>(), is_file) {
            return repository(&repo, file);
        }
    }
    let missing = std::io::Error::new(std::io::ErrorKind::NotFound, "there is no such file or folder");
    Err(Error::io(path, missing))
}

/// `owner/repo@revision/path/of/file`: the repository and the path in it.
fn split(what: &str) -> (&str, &str) {
    match what.match_indices('/').nth(1) {
        Some((at, _)) => (&what[..at], &what[at + 1..]),
        None => (what, ""),
    }
}

fn one(report: Report) -> Result<Found> {
    Ok(Found::One(Box::new(report)))
}

fn file(path: &Path, name: &str) -> Result<Found> {
    let source: Rc<dyn ByteSource> = Rc::new(DiskSource::open(path)?);
    one(with_fit(Rc::new(Named { name: name.to_owned(), source }), yaml_beside(path).as_deref())?)
}

/// What a file is, and whether it loads and what it takes where it is a model.
fn with_fit(source: Rc<dyn ByteSource>, yaml: Option<&str>) -> Result<Report> {
    block_on(async {
        let report = inspect(Box::new(Shared(Rc::clone(&source))), yaml).await?;
        if !report.opens {
            return Ok(report);
        }
        let settings = SingleFileSettings { yaml: yaml.map(str::to_owned), ..SingleFileSettings::default() };
        let undecided = report.prediction == Some("undecided");
        Ok(report.with_fit(fit_single(Box::new(Shared(source)), settings, undecided).await))
    })
}

/// The text of the `.yaml` beside a checkpoint.
fn yaml_beside(path: &Path) -> Option<String> {
    let beside = path.with_extension("yaml");
    let is_short = std::fs::metadata(&beside).is_ok_and(|file| file.is_file() && file.len() <= MAX_TEXT_BYTES);
    is_short.then(|| std::fs::read_to_string(&beside).ok())?
}

fn folder(path: &Path, name: &str) -> Result<Found> {
    if !path.join("model_index.json").is_file() {
        return several(path, name);
    }
    one(model(path, name, true)?)
}

/// A folder in diffusers' layout.
fn model(path: &Path, name: &str, is_planned: bool) -> Result<Report> {
    let folder = Folder::open(path)?.with_label(name);
    let files = match folder.clone().as_config().files() {
        Ok(files) => files,
        Err(error @ Error::Config { .. }) => return other_model(path, name, error),
        Err(error) => return Err(error),
    };
    let report = block_on(inspect_model(&folder, &files)).map_err(Error::of_model)?;
    Ok(if is_planned && report.opens { report.with_fit(block_on(fit(&folder))) } else { report })
}

/// A pipeline of another kind is no broken folder: where `model_index.json` names its class, that is what is told.
fn other_model(path: &Path, name: &str, error: Error) -> Result<Report> {
    let place = path.join("model_index.json");
    let is_short = std::fs::metadata(&place).is_ok_and(|file| file.len() <= MAX_TEXT_BYTES);
    let text = if is_short { std::fs::read_to_string(&place).ok() } else { None };
    let index = text.and_then(|text| serde_json::from_str::<Value>(&text).ok());
    match index.as_ref().and_then(|index| index.get("_class_name")).is_some_and(Value::is_string) {
        true => Ok(other_pipeline(name.to_owned(), one_line(&error))),
        false => Err(error),
    }
}

/// Every file with weights of a folder, and every folder in diffusers' layout. The parts of a split file count as one.
fn several(path: &Path, name: &str) -> Result<Found> {
    let mut paths = Vec::new();
    let mut split: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for entry in std::fs::read_dir(path).map_err(|error| Error::io(path, error))? {
        let entry = entry.map_err(|error| Error::io(path, error))?.path();
        let end = entry.extension().map(|end| end.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let stem = entry.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        match part_of(&stem).filter(|_| end == "safetensors") {
            Some(whole) => split.entry(format!("{whole}.safetensors")).or_default().push(entry),
            None if ENDS.contains(&end.as_str()) && entry.is_file() => paths.push(entry),
            None if entry.join("model_index.json").is_file() => paths.push(entry),
            None => {}
        }
    }
    let name_of = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut found: Vec<(String, Result<Report>)> = Vec::new();
    for path in paths {
        let name = name_of(&path);
        let report = if path.is_dir() { model(&path, &name, false) } else { header(&path, &name) };
        found.push((name, report));
    }
    for (name, mut parts) in split {
        parts.sort();
        found.push((name.clone(), joined(name, &parts)));
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    match (found.len(), found.pop()) {
        (0, _) | (_, None) => {
            let reason =
                "the folder has no model_index.json and no file of weights: name the folder or file of a model";
            Err(Error::Hub { repo: name.to_owned(), reason: reason.to_owned() })
        }
        (1, Some((file, report))) => {
            let mut report = report?;
            report.file = format!("{}/{file}", name.trim_end_matches('/'));
            one(report)
        }
        (_, Some(last)) => {
            found.push(last);
            Ok(Found::Several(name.to_owned(), found))
        }
    }
}

/// `model` of `model-00001-of-00002`.
fn part_of(stem: &str) -> Option<&str> {
    let (before, n) = stem.rsplit_once("-of-")?;
    let (whole, part) = before.rsplit_once('-')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(n) && is_number(part)).then_some(whole)
}

fn header(path: &Path, name: &str) -> Result<Report> {
    let source = Named { name: name.to_owned(), source: Rc::new(DiskSource::open(path)?) };
    block_on(inspect(Box::new(source), yaml_beside(path).as_deref()))
}

fn joined(name: String, parts: &[PathBuf]) -> Result<Report> {
    let mut sources: Vec<Box<dyn ByteSource>> = Vec::new();
    for part in parts {
        sources.push(Box::new(DiskSource::open(part)?));
    }
    block_on(inspect_files(name, sources, None))
}

/// A repository's file or model: from the cache where it is there, else the headers from the Hub.
fn repository(repo: &RepoId, file_path: &str) -> Result<Found> {
    let cache = HubCache::from_env()?;
    let name = if file_path.is_empty() { repo.to_string() } else { format!("{repo}/{file_path}") };
    let is_inside = Path::new(file_path).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if !is_inside {
        return Err(Error::Request {
            field: "file",
            got: format!("{file_path:?}"),
            expected: "write owner/repo/path/of/file.safetensors".to_owned(),
        });
    }
    if let Some(root) = cache.snapshot_folder(repo) {
        let path = root.join(file_path);
        if path.is_file() {
            return file(&path, &name);
        }
        if path.is_dir() {
            match folder(&path, &name) {
                Ok(Found::One(report)) if !report.components.missing.is_empty() && !cache.settings().offline => {}
                Err(Error::Hub { .. }) if !cache.settings().offline => {}
                found => return found,
            }
        }
    }
    if cache.settings().offline {
        let reason = "it is not in the Hugging Face cache, and HF_HUB_OFFLINE is set";
        return Err(Error::Hub { repo: name, reason: reason.to_owned() });
    }
    match file_path {
        "" => {
            let model = remote::model(cache.settings(), repo)?;
            let files = block_on(model.list())?;
            let report = block_on(inspect_model(&model, &files))?;
            one(if report.opens { report.with_fit(block_on(fit(&model))) } else { report })
        }
        _ => one(with_fit(remote::file(cache.settings(), repo, file_path)?, None)?),
    }
}

/// A file under the name that it was asked for by.
struct Named {
    name: String,
    source: Rc<dyn ByteSource>,
}

impl ByteSource for Named {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.source.len()
    }

    fn read<'a>(&'a self, offset: u64, len: usize) -> LocalFuture<'a, Result<Vec<u8>>> {
        self.source.read(offset, len)
    }
}
