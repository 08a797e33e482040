//! A model on this machine's disk, however it lies there: a diffusers folder or one file, with a VAE or configuration from
//! elsewhere. Natively only.
//!
//! Paths alone are kept, so that it can be handed to another thread and opened there.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::assembled::{Assembled, Autoencoder};
use super::identity::Prediction;
use super::single::{SingleFile, SingleFileSettings};
use crate::error::{Error, Result};
use crate::hub::Source;
use crate::hub::folder::Folder;
use crate::weights::{ByteSource, DiskSource};

/// The longest `.yaml` beside a checkpoint, or `config.json` of a VAE, that is read.
const MAX_TEXT_BYTES: u64 = 1 << 20;

/// Where the weights are.
#[derive(Clone, Debug)]
pub enum Place {
    /// A folder in diffusers' layout.
    Folder(Folder),
    /// A checkpoint in one file: safetensors or GGUF.
    File(PathBuf),
}

/// A model with its parts, by path. Nothing is read yet.
#[derive(Clone, Debug)]
pub struct LocalModel {
    /// The model itself.
    pub place: Place,
    /// What it is called in messages and in pictures.
    pub label: String,
    /// A VAE in place of its own: a file, or a folder with one.
    pub vae: Option<PathBuf>,
    /// A tiny VAE that decodes: likewise.
    pub taesd: Option<PathBuf>,
    /// Configurations, vocabularies and missing components of a checkpoint in one file.
    pub config: Option<PathBuf>,
    /// What its UNet predicts, where that is said.
    pub prediction: Option<Prediction>,
}

impl LocalModel {
    /// A model alone.
    #[must_use]
    pub fn new(place: Place, label: impl Into<String>) -> Self {
        LocalModel { place, label: label.into(), vae: None, taesd: None, config: None, prediction: None }
    }

    /// Reads headers and configurations; no weights.
    ///
    /// # Errors
    /// What is wrong with a file, by its name, and what would work; [`Error::Request`] for a setting that the kind of model
    /// does not have.
    pub async fn open(&self) -> Result<Rc<dyn Source>> {
        let base: Rc<dyn Source> = match &self.place {
            Place::Folder(folder) => {
                if self.config.is_some() {
                    return Err(Error::Request {
                        field: "config",
                        got: "with a model that is a folder".into(),
                        expected: "a folder has its own; it is for a model in one file".into(),
                    });
                }
                Rc::new(folder.clone().with_label(&self.label))
            }
            Place::File(path) => {
                let config = match &self.config {
                    Some(config) => Some(Rc::new(config_folder(config)?) as Rc<dyn Source>),
                    None => None,
                };
                let settings = SingleFileSettings {
                    prediction: self.prediction,
                    yaml: read_beside(&path.with_extension("yaml"))?,
                    config,
                    clip_merges: None,
                };
                Rc::new(SingleFile::open(self.label.clone(), Box::new(DiskSource::open(path)?), settings).await?)
            }
        };
        let mut assembled = Assembled::new(base);
        // A file was told already.
        if let (Some(prediction), Place::Folder(_)) = (self.prediction, &self.place) {
            assembled = assembled.with_prediction(prediction);
        }
        if let Some(path) = &self.vae {
            assembled = assembled.with_vae(autoencoder(path).await?);
        }
        if let Some(path) = &self.taesd {
            assembled = assembled.with_tiny_decoder(autoencoder(path).await?)?;
        }
        Ok(Rc::new(assembled))
    }
}

/// A folder of configurations, with or without weights.
fn config_folder(path: &Path) -> Result<Folder> {
    Ok(Folder::open(path)?.as_config())
}

/// A text beside weights, where there is one.
fn read_beside(path: &Path) -> Result<Option<String>> {
    match std::fs::metadata(path) {
        Ok(file) if file.is_file() && file.len() > MAX_TEXT_BYTES => {
            let reason = format!("it has {} bytes, more than the {MAX_TEXT_BYTES} that are read of it", file.len());
            Err(Error::Config { file: path.display().to_string(), reason })
        }
        Ok(file) if file.is_file() => {
            let text = std::fs::read(path).map_err(|source| Error::io(path, source))?;
            Ok(Some(String::from_utf8_lossy(&text).into_owned()))
        }
        _ => Ok(None),
    }
}

/// An autoencoder: one file, or a folder with one, by itself or as the `vae` of a model.
async fn autoencoder(path: &Path) -> Result<Autoencoder> {
    let name = path.display().to_string();
    if !path.is_dir() {
        return Autoencoder::open(name, vec![Box::new(DiskSource::open(path)?)], None).await;
    }
    let folder = [path.to_path_buf(), path.join("vae")].into_iter().find(|folder| folder.join("config.json").is_file());
    let (folder, config) = match folder {
        Some(folder) => {
            let config = read_beside(&folder.join("config.json"))?;
            (folder, config)
        }
        None => (path.to_path_buf(), None),
    };
    let files = weight_files(&folder)?;
    let mut sources: Vec<Box<dyn ByteSource>> = Vec::new();
    for file in files {
        sources.push(Box::new(DiskSource::open(&file)?));
    }
    Autoencoder::open(name, sources, config).await
}

/// The file of a folder's weights: by diffusers' own names, else the half of a tiny VAE that decodes, else the first one.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(|source| Error::io(folder, source))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "safetensors" || end == "gguf"));
    files.sort();
    let of_name = |name: &str| {
        files.iter().find(|file| file.file_name().is_some_and(|found| found == name)).map(|file| vec![file.clone()])
    };
    let own =
        of_name("diffusion_pytorch_model.safetensors").or_else(|| of_name("diffusion_pytorch_model.fp16.safetensors"));
    if let Some(own) = own {
        return Ok(own);
    }
    let is_decoder = |file: &&PathBuf| {
        file.file_name().is_some_and(|name| name.to_string_lossy().to_lowercase().contains("decoder"))
    };
    if let Some(decoder) = files.iter().find(is_decoder) {
        return Ok(vec![decoder.clone()]);
    }
    files.truncate(1);
    Ok(files)
}
