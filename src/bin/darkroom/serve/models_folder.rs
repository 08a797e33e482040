//! `--models FOLDER`: every model in a folder, looked through again when somebody asks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use darkroom::checkpoint::local::{LocalModel, Place};
use darkroom::hub::folder::Folder;
use darkroom::pipeline::check_model;

use super::menu::Model;

/// How long a look at the folder is good for.
const FRESH: Duration = Duration::from_secs(1);

/// What a file was when it was read: another length or time means another file.
type Stamp = (u64, Option<SystemTime>);

/// See the module.
pub struct ModelsFolder {
    folder: PathBuf,
    /// What every file in one piece is opened with.
    parts: Parts,
    seen: Mutex<Seen>,
}

/// Parts that are given for all files.
#[derive(Clone, Default)]
pub struct Parts {
    pub vae: Option<PathBuf>,
    pub taesd: Option<PathBuf>,
    pub config: Option<PathBuf>,
    pub prediction: Option<darkroom::checkpoint::identity::Prediction>,
}

impl Parts {
    /// A model with them. A folder in diffusers' layout has a configuration of its own.
    pub fn put_into(&self, model: LocalModel) -> LocalModel {
        let config = self.config.clone().filter(|_| matches!(model.place, Place::File(_)));
        LocalModel { vae: self.vae.clone(), taesd: self.taesd.clone(), config, prediction: self.prediction, ..model }
    }
}

#[derive(Default)]
struct Seen {
    at: Option<Instant>,
    /// Every entry that was looked at, with the name of its model if it is one.
    entries: BTreeMap<PathBuf, (Stamp, Option<String>)>,
}

/// What changed since the last look.
#[derive(Default)]
pub struct Changes {
    pub added: Vec<Model>,
    /// Names.
    pub gone: Vec<String>,
}

impl ModelsFolder {
    pub fn new(folder: PathBuf, parts: Parts) -> Self {
        ModelsFolder { folder, parts, seen: Mutex::default() }
    }

    /// Looks the folder through, unless that was done a moment ago. What is no model is left out, and said once.
    pub fn look(&self) -> Changes {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changes = Changes::default();
        if seen.at.is_some_and(|at| at.elapsed() < FRESH) {
            return changes;
        }
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(metadata) = std::fs::metadata(&path) else { continue };
            let is_folder = metadata.is_dir() && path.join("model_index.json").is_file();
            let is_file = metadata.is_file()
                && path
                    .extension()
                    .is_some_and(|end| end.eq_ignore_ascii_case("safetensors") || end.eq_ignore_ascii_case("gguf"));
            if is_folder || is_file {
                let n_bytes = if is_file { metadata.len() } else { 0 };
                found.insert(path, (n_bytes, metadata.modified().ok()));
            }
        }
        let is_same = |path: &PathBuf, stamp: &Stamp| found.get(path) == Some(stamp);
        let (kept, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut seen.entries).into_iter().partition(|(path, (stamp, _))| is_same(path, stamp));
        changes.gone = gone.into_values().filter_map(|(_, name)| name).collect();
        seen.entries = kept;
        for (path, stamp) in found {
            if seen.entries.contains_key(&path) {
                continue;
            }
            let model = self.read(&path);
            if let Err(reason) = &model {
                log::warn!("{reason}; left out");
            }
            seen.entries.insert(path, (stamp, model.as_ref().ok().map(|model| model.name.clone())));
            changes.added.extend(model);
        }
        seen.at = Some(Instant::now());
        changes
    }

    fn read(&self, path: &PathBuf) -> darkroom::Result<Model> {
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let place = if path.is_dir() { Place::Folder(Folder::open(path)?) } else { Place::File(path.clone()) };
        let local = self.parts.put_into(LocalModel::new(place, path.display().to_string()));
        let read = |local: LocalModel| {
            pollster::block_on(async {
                // By its header: a model that cannot be drawn with is none.
                check_model(&*local.open().await?).await?;
                Model::read(name.clone(), None, local).await
            })
        };
        let own = LocalModel { config: None, ..local.clone() };
        let found = read(local);
        // The configuration that is given may be of another family.
        let found = if found.is_err() && self.parts.config.is_some() { read(own).or(found) } else { found };
        found.map_err(darkroom::Error::of_model)
    }
}
