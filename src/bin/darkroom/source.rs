//! `--model`: one of the seven versions, a repository on the Hub, or a folder.

use std::path::Path;

use darkroom::hub::RepoId;
use darkroom::hub::cache::HubCache;
use darkroom::hub::folder::Folder;
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

/// Tells what `--model` names. A path that exists, or that can only be a path, is a folder.
///
/// # Errors
/// When it is none of the three, with the versions that work.
pub fn parse(model: &str) -> Result<Model> {
    let is_path = model.starts_with(['.', '/', '~']) || model.contains('\\') || Path::new(model).exists();
    if is_path {
        return Ok(Model::Folder(Folder::open(model)?));
    }
    match model.parse::<SDVersion>() {
        Ok(version) => Ok(Model::Version(version)),
        Err(_) if model.matches('/').count() == 1 => Ok(Model::Repo(model.parse()?)),
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
    if !path.is_dir() {
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
    /// The model's folder, downloaded into the cache where it is not there yet.
    ///
    /// # Errors
    /// What the Hub or its cache says.
    pub fn fetch(&self, bar: &Bar) -> Result<Folder> {
        let mut progress = |p: darkroom::hub::cache::Progress<'_>| {
            let fraction = p.loaded_bytes as f64 / p.total_bytes.max(1) as f64;
            bar.show(&format!("download {}", p.path.rsplit('/').next().unwrap_or(p.path)), fraction);
        };
        match self {
            Model::Folder(folder) => Ok(folder.clone()),
            Model::Version(version) => Ok(HubCache::from_env()?.fetch_version(*version, true, &mut progress)?.folder),
            Model::Repo(repo) => Ok(HubCache::from_env()?.fetch(repo, true, &mut progress)?.folder),
        }
    }
}
