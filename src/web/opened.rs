//! A kept model as what a loader takes: a diffusers folder as it is, a checkpoint in one file through its name map, and
//! either with the VAE of another kept model.

use std::rc::Rc;

use super::models::Models;
use super::types::LoadSettings;
use crate::checkpoint::assembled::{Assembled, Autoencoder};
use crate::checkpoint::single::{SingleFile, SingleFileSettings};
use crate::error::{Error, Result};
use crate::hub::{Component, Source};

/// A model and whether its files may have to be waited for. A checkpoint in one file that is being downloaded is waited for.
///
/// # Errors
/// As [`Models::source`]; what is wrong with a file, by its name; [`Error::Request`] for a setting that the kind of model
/// does not have.
pub(super) async fn open(models: &Models, model: &str, settings: &LoadSettings) -> Result<(Rc<dyn Source>, bool)> {
    let stored = models.source(model).await?;
    let is_file = stored.single_file().is_some();
    let (base, is_arriving): (Rc<dyn Source>, bool) = match stored.single_file() {
        Some(path) => {
            let config = match &settings.base {
                Some(base) => Some(models.source(base).await?.as_config()),
                None => stored.own_config(),
            };
            let given = SingleFileSettings {
                prediction: settings.prediction,
                yaml: stored.own_yaml().await?,
                config: config.map(|config| Rc::new(config) as Rc<dyn Source>),
                clip_merges: settings.clip_merges.clone(),
            };
            let file = SingleFile::open(stored.describe(), stored.open(path).await?, given).await?;
            (Rc::new(file), false)
        }
        None => {
            if settings.base.is_some() {
                return Err(Error::Request {
                    field: "base",
                    got: "with a model in diffusers' layout".into(),
                    expected: "it has its own; the setting is for a model in one file".into(),
                });
            }
            let is_arriving = stored.is_arriving();
            (Rc::new(stored), is_arriving)
        }
    };
    let mut assembled = Assembled::new(base);
    // A file was told already.
    if let (Some(prediction), false) = (settings.prediction, is_file) {
        assembled = assembled.with_prediction(prediction);
    }
    if let Some(name) = &settings.vae {
        assembled = assembled.with_vae(autoencoder(models, name).await?);
    }
    if let Some(name) = &settings.taesd {
        assembled = assembled.with_tiny_decoder(autoencoder(models, name).await?)?;
    }
    Ok((Rc::new(assembled), is_arriving))
}

/// The autoencoder of a kept model: of one file, or of a folder's `vae`.
async fn autoencoder(models: &Models, name: &str) -> Result<Autoencoder> {
    let stored = models.source(name).await?;
    if let Some(path) = stored.single_file() {
        return Autoencoder::open(name, vec![stored.open(path).await?], None).await;
    }
    let mut sources = Vec::new();
    for file in stored.list().await? {
        if file.component == Component::Vae && file.is_weights() {
            sources.push(stored.open(&file.path).await?);
        }
    }
    let config = stored.read_text("vae/config.json").await?;
    Autoencoder::open(name, sources, Some(config)).await
}
