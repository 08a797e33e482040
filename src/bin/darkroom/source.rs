//! `--model`: one of the seven versions, a repository on the Hub, a folder, or a checkpoint in one file; and the places of
//! parts (`--vae`, `--taesd`).

use std::path::{Path, PathBuf};

use darkroom::checkpoint::local::{LocalModel, Place};
use darkroom::hub::cache::{HubCache, Progress};
use darkroom::hub::folder::Folder;
use darkroom::hub::{FileUrl, RepoFile, RepoId, Source as _, Variant};
use darkroom::model::SDVersion;
use darkroom::{Error, Result};

use crate::bar::Bar;

/// What `--model` names.
pub enum Model {
    /// A folder in diffusers' layout.
    Folder(Folder),
    /// One of the seven.
    Version(SDVersion),
    /// `owner/repo[@revision]`.
    Repo(RepoId),
    /// A checkpoint in one file on this machine.
    File(PathBuf),
    /// `owner/repo[@revision]/path/file.safetensors`.
    RepoFile(RepoFile),
    /// `https://…/file.safetensors`.
    Url(FileUrl),
}

/// Whether a name can only be a path.
pub fn is_path(model: &str) -> bool {
    model.starts_with(['.', '/', '~']) || model.contains('\\')
}

/// Tells what `--model` names. A version's name is the version, also where a folder here has that name, which is said; any
/// other path that exists, and what can only be a path, is a folder.
///
/// # Errors
/// When it is none of the three, with the versions that work.
pub fn parse(model: &str) -> Result<Model> {
    let version = if is_path(model) { None } else { model.parse::<SDVersion>().ok() };
    if let Some(version) = version {
        if Path::new(model).is_dir() {
            log::warn!("{model} is the version {}; the folder of that name here is ./{model}", version.repository());
        }
        return Ok(Model::Version(version));
    }
    if FileUrl::is_meant(model) {
        return Ok(Model::Url(model.parse()?));
    }
    if Path::new(model).is_file() {
        return Ok(Model::File(model.into()));
    }
    if is_weights(model) && !Path::new(model).exists() {
        // A repository is not named like a file of weights.
        match model.matches('/').count() {
            _ if is_path(model) => return Err(missing(model, MODEL_PLACES)),
            0 => {}
            1 => return Err(missing(model, MODEL_PLACES)),
            _ => return Ok(Model::RepoFile(model.parse()?)),
        }
    }
    if is_path(model) || Path::new(model).exists() {
        return Ok(Model::Folder(Folder::open(model).map_err(Error::of_model)?));
    }
    let repository = model.split('@').next().unwrap_or(model);
    match model.parse::<RepoId>() {
        Ok(repo) => Ok(Model::Repo(repo)),
        Err(error) if repository.matches('/').count() == 1 => Err(error),
        Err(_) => Err(Error::Request {
            field: "model",
            got: format!("{model:?}"),
            expected: format!(
                "give one of {}, a repository on the Hub as owner/repo, the path of a folder or of a .safetensors or .gguf \
                 file that exists, owner/repo/path/file.safetensors, or an https:// address",
                SDVersion::ALL.map(SDVersion::key).join(", ")
            ),
        }),
    }
}

/// Whether a name is that of a file of weights.
pub fn is_weights(name: &str) -> bool {
    [".safetensors", ".gguf", ".ckpt", ".pt", ".bin"].iter().any(|end| name.to_ascii_lowercase().ends_with(end))
}

/// What names a file that goes with a model.
pub const PLACES: &str = "give the path of a file that exists, owner/repo, owner/repo/file.safetensors, or https://…";

/// The same of a model in one file.
const MODEL_PLACES: &str =
    "give the path of a .safetensors or .gguf file that exists, owner/repo/file.safetensors, or https://…";

/// The same of a VAE.
const VAE_PLACES: &str =
    "give the path of a file or folder that exists, owner/repo, owner/repo/file.safetensors, or https://…";

/// The error for a path where nothing is, with what names something (`places`).
pub fn missing(path: &str, places: &str) -> Error {
    Error::Hub { repo: path.to_owned(), reason: format!("no such file: {places}") }
}

/// What a picture may say of the model that drew it: a version or repository as given, a folder or file by its name alone,
/// an address by its file. A folder in the Hub's URL layout, owner/repo/resolve/revision, is named owner/repo.
#[must_use]
pub fn public_name(model: &str) -> String {
    let path = Path::new(model);
    let is_version = !is_path(model) && model.parse::<SDVersion>().is_ok();
    if FileUrl::is_meant(model) {
        let address = model.split(['?', '#']).next().unwrap_or(model);
        return address.rsplit('/').next().unwrap_or(address).to_string();
    }
    if !is_version && path.is_file() {
        return path.file_name().map_or_else(|| model.to_string(), |name| name.to_string_lossy().into_owned());
    }
    if is_version || !path.is_dir() {
        return model.to_string();
    }
    let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let names: Vec<String> = path.iter().rev().take(4).map(|name| name.to_string_lossy().into_owned()).collect();
    match names.as_slice() {
        [_, resolve, repo, owner] if resolve == "resolve" => format!("{owner}/{repo}"),
        [name, ..] => name.clone(),
        [] => model.to_string(),
    }
}

impl Model {
    /// The version, where it is named by one.
    #[must_use]
    pub fn version(&self) -> Option<SDVersion> {
        match self {
            Model::Version(version) => Some(*version),
            Model::Folder(_) | Model::Repo(_) | Model::File(_) | Model::RepoFile(_) | Model::Url(_) => None,
        }
    }

    /// The model on this machine, downloaded into the cache where it is not there yet. Without a `variant` the files of a
    /// folder or of the cache are read as diffusers does, and fp16 files are downloaded where there are any.
    ///
    /// # Errors
    /// What the Hub, a host or the cache says; never [`Error::Io`].
    pub fn fetch(&self, bar: &Bar, variant: Option<&Variant>) -> Result<LocalModel> {
        self.fetch_files(bar, &variant.cloned().unwrap_or_default()).map_err(Error::of_model)
    }

    fn fetch_files(&self, bar: &Bar, variant: &Variant) -> Result<LocalModel> {
        let mut progress = |p: Progress<'_>| show_download(bar, &p);
        let of_folder = |folder: Folder| {
            let label = folder.describe();
            LocalModel::new(Place::Folder(folder), label)
        };
        match self {
            Model::Folder(folder) => {
                let folder = folder.clone().with_variant(variant.clone());
                if let Some(note) = folder.newer_variant()? {
                    bar.say(&note);
                }
                Ok(of_folder(folder))
            }
            Model::Version(version) => {
                Ok(of_folder(HubCache::from_env()?.fetch_version(*version, variant, &mut progress)?.folder))
            }
            Model::Repo(repo) => Ok(of_folder(HubCache::from_env()?.fetch(repo, variant, &mut progress)?.folder)),
            Model::File(path) => Ok(LocalModel::new(Place::File(path.clone()), path.display().to_string())),
            Model::RepoFile(file) => {
                let path = HubCache::from_env()?.fetch_file(file, &mut progress).map_err(|error| match error {
                    Error::Hub { repo, reason } => {
                        Error::Hub { repo, reason: format!("{reason} (and there is no file {file} on this machine)") }
                    }
                    Error::Network { repo, reason } => Error::Network {
                        repo,
                        reason: format!("{reason} (and there is no file {file} on this machine)"),
                    },
                    other => other,
                })?;
                Ok(LocalModel::new(Place::File(path), file.to_string()))
            }
            Model::Url(url) => {
                let path = HubCache::from_env()?.fetch_url(url, &mut progress)?;
                Ok(LocalModel::new(Place::File(path), url.to_string()))
            }
        }
    }
}

pub fn show_download(bar: &Bar, progress: &Progress<'_>) {
    let fraction = progress.loaded_bytes as f64 / progress.total_bytes.max(1) as f64;
    bar.show(&format!("download {}", progress.path.rsplit('/').next().unwrap_or(progress.path)), fraction);
}

/// The files that a repository of a VAE alone, or one of a whole model, may have it in; with its configuration beside it.
const VAE_FILES: [&str; 4] = [
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.fp16.safetensors",
];

/// A VAE from wherever `--vae` or `--taesd` (`field`) says, as a file or a folder on this machine.
///
/// # Errors
/// [`Error::Request`] for a name that is none of these; what the Hub or a host says.
pub fn fetch_vae(field: &'static str, name: &str, bar: &Bar) -> Result<PathBuf> {
    let mut progress = |p: Progress<'_>| show_download(bar, &p);
    if FileUrl::is_meant(name) {
        return HubCache::from_env()?.fetch_url(&name.parse()?, &mut progress);
    }
    let path = Path::new(name);
    if path.exists() {
        return Ok(path.to_path_buf());
    }
    if is_path(name) || (is_weights(name) && name.matches('/').count() == 1) {
        return Err(missing(name, VAE_PLACES));
    }
    if is_weights(name) && name.matches('/').count() >= 2 {
        return HubCache::from_env()?.fetch_file(&name.parse()?, &mut progress);
    }
    let repo: RepoId = name.parse().map_err(|_| Error::Request {
        field,
        got: format!("{name:?}"),
        expected: VAE_PLACES.to_owned(),
    })?;
    let cache = HubCache::from_env()?;
    let mut first_error = None;
    for file in VAE_FILES {
        let config =
            file.rsplit_once('/').map_or("config.json".to_owned(), |(folder, _)| format!("{folder}/config.json"));
        match cache.fetch_file(&RepoFile::new(repo.clone(), file)?, &mut progress) {
            Ok(weights) => {
                cache.fetch_file(&RepoFile::new(repo.clone(), &config)?, &mut progress)?;
                return Ok(weights.parent().map_or_else(|| weights.clone(), Path::to_path_buf));
            }
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    Err(first_error.unwrap_or(Error::Cancelled))
}
