//! `--model`: one of the seven versions, a repository on the Hub, or a folder.

use std::path::Path;

use darkroom::hub::cache::HubCache;
use darkroom::hub::folder::Folder;
use darkroom::hub::{RepoId, Variant};
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
            eprintln!(
                "darkroom: {model} is the version {}; the folder of that name here is ./{model}",
                version.repository()
            );
        }
        return Ok(Model::Version(version));
    }
    if is_path(model) || Path::new(model).exists() {
        return Ok(Model::Folder(Folder::open(model).map_err(model_fault)?));
    }
    let repository = model.split('@').next().unwrap_or(model);
    match model.parse::<RepoId>() {
        Ok(repo) => Ok(Model::Repo(repo)),
        Err(error) if repository.matches('/').count() == 1 => Err(error),
        Err(_) => Err(Error::Request {
            field: "model",
            got: format!("{model:?}"),
            expected: format!(
                "give one of {}, a repository on the Hub as owner/repo, or the path of a folder that exists",
                SDVersion::ALL.map(SDVersion::key).join(", ")
            ),
        }),
    }
}

/// What a picture may say of the model that drew it: a version or repository as given, a folder by its name alone. A
/// folder in the Hub's URL layout, owner/repo/resolve/revision, is named owner/repo.
#[must_use]
pub fn public_name(model: &str) -> String {
    let path = Path::new(model);
    let is_version = !is_path(model) && model.parse::<SDVersion>().is_ok();
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

/// A model whose file cannot be read is a model that cannot be loaded, unlike a picture that cannot be read or written.
#[must_use]
pub fn model_fault(error: Error) -> Error {
    match error {
        Error::Io { path, source } => Error::Hub { repo: path, reason: source.to_string() },
        other => other,
    }
}

impl Model {
    /// The model's folder, downloaded into the cache where it is not there yet. Without a `variant` the files of a folder
    /// or of the cache are read as diffusers does, and fp16 files are downloaded where there are any.
    ///
    /// # Errors
    /// What the Hub or its cache says; never [`Error::Io`].
    pub fn fetch(&self, bar: &Bar, variant: Option<&Variant>) -> Result<Folder> {
        self.fetch_files(bar, &variant.cloned().unwrap_or_default()).map_err(model_fault)
    }

    fn fetch_files(&self, bar: &Bar, variant: &Variant) -> Result<Folder> {
        let mut progress = |p: darkroom::hub::cache::Progress<'_>| {
            let fraction = p.loaded_bytes as f64 / p.total_bytes.max(1) as f64;
            bar.show(&format!("download {}", p.path.rsplit('/').next().unwrap_or(p.path)), fraction);
        };
        match self {
            Model::Folder(folder) => {
                let folder = folder.clone().with_variant(variant.clone());
                if let Some(note) = folder.newer_variant()? {
                    bar.say(&note);
                }
                Ok(folder)
            }
            Model::Version(version) => {
                Ok(HubCache::from_env()?.fetch_version(*version, variant, &mut progress)?.folder)
            }
            Model::Repo(repo) => Ok(HubCache::from_env()?.fetch(repo, variant, &mut progress)?.folder),
        }
    }
}
