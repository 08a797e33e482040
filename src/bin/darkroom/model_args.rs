//! Which model is drawn with, and parts of others in it: the options that `generate`, `plan` and `convert` share.

use std::path::PathBuf;

use darkroom::Result;
use darkroom::checkpoint::identity::Prediction;
use darkroom::checkpoint::local::LocalModel;
use darkroom::hub::Variant;

use crate::bar::Bar;
use crate::source::{self, Model};

/// See the module.
#[derive(clap::Args)]
pub struct ModelArgs {
    /// A version (see `darkroom models`), a repository on the Hub (owner/repo[@revision]), a folder in diffusers' layout, or
    /// a checkpoint in one file (.safetensors or .gguf): a path, owner/repo/path/file.safetensors, or https://….
    #[arg(long)]
    pub model: String,
    /// The weight files to take where there are several: fp16, or none for the plain ones [default: the plain ones of a
    /// folder or cache, as in diffusers; fp16 for downloads].
    #[arg(long, value_name = "fp16|none")]
    pub variant: Option<Variant>,
    /// Another VAE in place of the model's own: a file, a folder, owner/repo[/file], or https://….
    #[arg(long, value_name = "FILE|FOLDER|owner/repo")]
    pub vae: Option<String>,
    /// A tiny VAE (TAESD, for XL TAESDXL) to decode with: likewise. Start pictures are encoded by the model's own VAE.
    #[arg(long, value_name = "FILE|FOLDER|owner/repo")]
    pub taesd: Option<String>,
    /// For a model in one file: a folder with the JSON files and tokenizer of a diffusers folder, in place of the published
    /// ones of its family. Components that the file lacks are taken from it where it has weights.
    #[arg(long, value_name = "FOLDER")]
    pub config: Option<PathBuf>,
    /// What the UNet predicts: noise (epsilon) or velocity (v) [default: what the model says].
    #[arg(long, value_name = "epsilon|v")]
    pub prediction: Option<Prediction>,
}

impl ModelArgs {
    /// Tells what `--model` names. Nothing is read or fetched.
    ///
    /// # Errors
    /// As [`source::parse`].
    pub fn named(&self) -> Result<Model> {
        source::parse(&self.model)
    }

    /// Brings what is not here yet, and gives the model with its parts by path.
    ///
    /// # Errors
    /// What the Hub, a host or the cache says.
    pub fn fetch(&self, named: &Model, bar: &Bar) -> Result<LocalModel> {
        let mut model = named.fetch(bar, self.variant.as_ref())?;
        model.vae = self.vae.as_deref().map(|vae| source::fetch_vae("vae", vae, bar)).transpose()?;
        model.taesd = self.taesd.as_deref().map(|taesd| source::fetch_vae("taesd", taesd, bar)).transpose()?;
        model.config.clone_from(&self.config);
        model.prediction = self.prediction;
        Ok(model)
    }

    /// Whether it is one of the seven versions as it was published, nothing changed.
    pub fn is_plain(&self) -> bool {
        self.vae.is_none() && self.taesd.is_none() && self.config.is_none() && self.prediction.is_none()
    }
}
