//! One file that goes with a model, by any of its names: a path, owner/repo, owner/repo/file, or an address.

use std::path::{Path, PathBuf};

use darkroom::hub::cache::{HubCache, Progress};
use darkroom::hub::{FileUrl, RepoId};
use darkroom::{Error, Result};

use crate::bar::Bar;
use crate::source::{PLACES, is_path, is_weights, missing, show_download};

/// Brings the file, where it is not here yet, and gives its path. `field` is the setting that names it; a repository
/// must have only one.
///
/// # Errors
/// [`Error::Request`] for a name that is none of these; what the Hub, a host or the cache says.
pub fn fetch(field: &'static str, name: &str, bar: &Bar) -> Result<PathBuf> {
    fetch_file(field, name, bar).map_err(Error::of_model)
}

fn fetch_file(field: &'static str, name: &str, bar: &Bar) -> Result<PathBuf> {
    let mut progress = |p: Progress<'_>| show_download(bar, &p);
    if FileUrl::is_meant(name) {
        return HubCache::from_env()?.fetch_url(&name.parse()?, &mut progress);
    }
    let path = Path::new(name);
    if path.is_file() {
        return Ok(path.to_path_buf());
    }
    let refuse =
        |expected: &str| Err(Error::Request { field, got: format!("{name:?}"), expected: expected.to_owned() });
    if path.is_dir() {
        return refuse("it is a folder: give the file in it");
    }
    let n_parts = name.matches('/').count();
    if is_path(name) || n_parts == 0 || is_weights(name) && n_parts == 1 {
        return Err(missing(name, PLACES));
    }
    if is_weights(name) {
        return HubCache::from_env()?.fetch_file(&name.parse()?, &mut progress);
    }
    let Ok(repo) = name.parse::<RepoId>() else {
        return refuse(PLACES);
    };
    HubCache::from_env()?.fetch_only_file(&repo, &mut progress)
}
