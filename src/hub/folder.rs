//! A model in a folder on disk, in diffusers' layout: one that somebody saved, or a snapshot in the Hugging Face cache.
//! Natively only.
//!
//! It deliberately writes nothing. Checkpoints in one file are opened by [`crate::checkpoint`], for which a folder can be the
//! configuration.

use std::path::{Component as PathPart, Path, PathBuf};
use std::time::Duration;

use super::{
    Component, IndexTexts, ListedFile, ModelFile, Needs, Source, Variant, choose_files, choose_present, index_files,
};
use crate::error::{Error, Result};
use crate::weights::{ByteSource, DiskSource, LocalFuture};

/// The longest text file of a checkpoint that is read. The largest real one, a tokenizer, has about 4 MB.
const MAX_TEXT_BYTES: u64 = 64 << 20;

/// By how much a file is newer than one that was written together with it. Copies and clones write a model in minutes.
const NEWER: Duration = Duration::from_secs(600);

/// A folder with a model.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
    label: String,
    variant: Variant,
    is_config: bool,
}

impl Folder {
    /// Takes a folder that has a `model_index.json`.
    ///
    /// # Errors
    /// [`Error::Hub`] where it is no such folder, with what would be one.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        let label = root.display().to_string();
        let refuse = |reason: &str| Err(Error::Hub { repo: label.clone(), reason: reason.to_owned() });
        if root.is_file() {
            return refuse(
                "this is a file, but a model is a folder in diffusers' layout: model_index.json with the folders \
                 unet, vae, text_encoder, tokenizer and scheduler beside it",
            );
        }
        if !root.is_dir() {
            return refuse("there is no such folder");
        }
        if !root.join("model_index.json").is_file() {
            return refuse("the folder has no model_index.json, so it is no model in diffusers' layout");
        }
        Ok(Folder { root, label, variant: Variant::default(), is_config: false })
    }

    /// Which of several files of the same weights is taken: the plain ones, where nothing else is asked for, as in
    /// diffusers.
    #[must_use]
    pub fn with_variant(mut self, variant: Variant) -> Self {
        self.variant = variant;
        self
    }

    /// The folder as the configuration of a checkpoint in one file: weights and vocabularies may be missing.
    #[must_use]
    pub fn as_config(mut self) -> Self {
        self.is_config = true;
        self
    }

    /// Another name than the path for messages and [`Source::describe`].
    #[must_use]
    pub fn with_label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// The folder on disk.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The files that the model needs; [`Source::list`] without waiting.
    ///
    /// # Errors
    /// [`Error::Hub`] for a file that is missing, [`Error::Config`] for a `model_index.json` of something else,
    /// [`Error::Io`] where the folder cannot be read.
    pub fn files(&self) -> Result<Vec<ModelFile>> {
        let index = self.text("model_index.json")?;
        let needs = Needs::from_model_index(&self.name_of("model_index.json"), &index)?;
        let all = scan(&self.root)?;
        let mut indexes = IndexTexts::new();
        for path in index_files(&all, needs, &self.variant) {
            let text = self.text(&path)?;
            indexes.insert(path, text);
        }
        let choose = if self.is_config { choose_present } else { choose_files };
        choose(&self.label, &all, needs, &self.variant, &indexes)
    }

    /// A line for who changed other weights than those that are read: a plain file is read, as diffusers does, although
    /// the fp16 one beside it is newer. `None` where nothing of the kind is so, or a variant was asked for.
    ///
    /// # Errors
    /// As [`Folder::files`].
    pub fn newer_variant(&self) -> Result<Option<String>> {
        if self.variant.is_asked_for() {
            return Ok(None);
        }
        let modified = |path: &str| std::fs::metadata(self.root.join(path)).and_then(|file| file.modified()).ok();
        for file in self.files()?.iter().filter(|file| file.is_weights() && !file.f16) {
            let other = file.path.replace(".safetensors", ".fp16.safetensors");
            if let (Some(read), Some(beside)) = (modified(&file.path), modified(&other))
                && beside.duration_since(read).is_ok_and(|newer| newer >= NEWER)
            {
                return Ok(Some(format!(
                    "{} is read, and {other} is newer: --variant fp16 reads that, --variant none says that this is meant",
                    file.path
                )));
            }
        }
        Ok(None)
    }

    /// A path of the repository as a path on disk. A path that leads out of the folder is refused.
    fn locate(&self, path: &str) -> Result<PathBuf> {
        let relative = Path::new(path);
        let stays_inside = relative.components().all(|part| matches!(part, PathPart::Normal(_)));
        if path.is_empty() || !stays_inside {
            let reason = format!("{path:?} is not the path of a file of this model");
            return Err(Error::Hub { repo: self.label.clone(), reason });
        }
        Ok(self.root.join(relative))
    }

    fn name_of(&self, path: &str) -> String {
        self.root.join(path).display().to_string()
    }

    fn text(&self, path: &str) -> Result<String> {
        let place = self.locate(path)?;
        let n_bytes = std::fs::metadata(&place).map_err(|source| Error::io(&place, source))?.len();
        if n_bytes > MAX_TEXT_BYTES {
            let reason = format!("it has {n_bytes} bytes, more than the {MAX_TEXT_BYTES} that a text file may have");
            return Err(Error::Config { file: self.name_of(path), reason });
        }
        std::fs::read_to_string(&place).map_err(|source| Error::io(&place, source))
    }
}

impl Source for Folder {
    fn list<'a>(&'a self) -> LocalFuture<'a, Result<Vec<ModelFile>>> {
        Box::pin(async move { self.files() })
    }

    fn read_text<'a>(&'a self, path: &'a str) -> LocalFuture<'a, Result<String>> {
        Box::pin(async move { self.text(path) })
    }

    fn open<'a>(&'a self, path: &'a str) -> LocalFuture<'a, Result<Box<dyn ByteSource>>> {
        Box::pin(async move { Ok(Box::new(DiskSource::open(&self.locate(path)?)?) as Box<dyn ByteSource>) })
    }

    fn describe(&self) -> String {
        self.label.clone()
    }
}

/// Every file at the top and in the folders of the components, with its length. Links are followed, as the cache is
/// made of them; one that leads nowhere is left out, as what it stands for is not there.
pub(super) fn scan(root: &Path) -> Result<Vec<ListedFile>> {
    use Component::*;
    let mut files = Vec::new();
    for component in [ModelIndex, Scheduler, Tokenizer, Tokenizer2, TextEncoder, TextEncoder2, Unet, Vae] {
        let folder = root.join(component.folder());
        if !folder.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(&folder).map_err(|source| Error::io(&folder, source))? {
            let entry = entry.map_err(|source| Error::io(&folder, source))?;
            let Ok(metadata) = std::fs::metadata(entry.path()) else { continue };
            // A name that is not Unicode is no name that a model's file has.
            let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) else { continue };
            let path = match component.folder() {
                "" => name,
                folder => format!("{folder}/{name}"),
            };
            files.push(ListedFile::new(path, Some(metadata.len())));
        }
    }
    Ok(files)
}
