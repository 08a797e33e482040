//! A model with parts of others: another VAE, a tiny one as the decoder, or another word on what its UNet predicts. Every
//! other question goes to the model itself.

use std::rc::Rc;

use serde_json::{Value, json};

use super::identity::{Identity, Kind, Prediction};
use super::names;
use super::single::open_layers;
use crate::error::{Error, Remedy, Result};
use crate::graph::WeightSpec;
use crate::hub::{Component, Layer, ModelFile, Source};
use crate::json;
use crate::weights::{ByteSource, LocalFuture, Renamed, TensorSource, Weights};

/// The path under which a tiny decoder's configuration is read.
const DECODER_CONFIG: &str = "vae_decoder/config.json";

/// The path under which a prediction type is read.
const SCHEDULER_CONFIG: &str = "scheduler/scheduler_config.json";

/// An autoencoder from somewhere else.
pub struct Autoencoder {
    name: String,
    tensors: Rc<dyn TensorSource>,
    kind: Kind,
    /// Its `config.json`, where it comes with one.
    config: Option<String>,
}

impl Autoencoder {
    /// Reads the headers of its files, and its `config.json` where there is one.
    ///
    /// # Errors
    /// [`Error::Safetensors`] for a broken file; [`Error::Hub`] for files without an autoencoder.
    pub async fn open(
        name: impl Into<String>,
        sources: Vec<Box<dyn ByteSource>>,
        config: Option<String>,
    ) -> Result<Self> {
        let name = name.into();
        if sources.is_empty() {
            let reason = "there is no .safetensors or .gguf file of a VAE".to_owned();
            return Err(Error::Hub { repo: name, reason });
        }
        let (files, tensors) = open_layers(sources).await?;
        let identity = Identity::of(&*files, files.metadata());
        let has_vae = identity.components.contains(&Component::Vae);
        let kind = match identity.kind {
            Kind::Checkpoint if has_vae => Kind::Vae,
            kind @ (Kind::Vae | Kind::TinyVae) => kind,
            other => {
                let reason = format!("this is a {}, not a VAE", other.name());
                return Err(Error::Hub { repo: name, reason });
            }
        };
        Ok(Autoencoder { name, tensors, kind, config })
    }

    /// The `config.json` that a tiny VAE's tensors call for: its widths, and how many blocks are between its convolutions. A
    /// half that is missing is taken to be TAESD's.
    fn tiny_config(&self) -> String {
        let mut config = json!({ "_class_name": "AutoencoderTiny" });
        for (half, first, channels, starts) in [
            ("decoder", 1, 4, ["taesd_decoder.", "decoder.layers.", ""]),
            ("encoder", 0, 3, ["taesd_encoder.", "encoder.layers.", ""]),
        ] {
            let view = |start: &str, number: usize, rest: &str| {
                let number = if start.ends_with(".layers.") && half == "decoder" { number - 1 } else { number };
                self.tensors.tensor(&format!("{start}{number}.{rest}"))
            };
            // Without a prefix, what goes in tells which half it is.
            let has_half = |start: &&str| {
                let shape = view(start, first, "weight").map(|tensor| tensor.shape);
                shape.is_some_and(|shape| !start.is_empty() || shape.get(1) == Some(&channels))
            };
            let Some(start) = starts.into_iter().find(has_half) else { continue };
            let Some(width) = view(start, first, "weight").and_then(|tensor| tensor.shape.first().copied()) else {
                continue;
            };
            let mut runs = Vec::new();
            let mut run = 0;
            // The layers without numbers (ReLU, upsampling) count too: 40 are more than any has.
            for number in first + 1..40 {
                if view(start, number, "conv.0.weight").is_some() {
                    run += 1;
                } else if view(start, number, "weight").is_some() && run > 0 {
                    runs.push(run);
                    run = 0;
                }
            }
            if let Some(object) = config.as_object_mut() {
                object.insert(format!("{half}_block_out_channels"), json!(vec![width; runs.len()]));
                object.insert(format!("num_{half}_blocks"), json!(runs));
            }
        }
        config.to_string()
    }

    fn weights(&self, wanted: &[WeightSpec]) -> Weights {
        let places = names::places(Component::Vae, wanted.iter().map(|spec| spec.name.as_str()), &*self.tensors);
        Weights::of(Rc::new(Renamed::new(Rc::clone(&self.tensors), places, Vec::new())))
    }
}

/// See the module.
pub struct Assembled {
    base: Rc<dyn Source>,
    vae: Option<Autoencoder>,
    decoder: Option<Autoencoder>,
    prediction: Option<Prediction>,
}

impl Assembled {
    /// The model as it is.
    #[must_use]
    pub fn new(base: Rc<dyn Source>) -> Self {
        Assembled { base, vae: None, decoder: None, prediction: None }
    }

    /// With another VAE in place of its own. Without a configuration of its own it is scaled as the model's was, since the
    /// UNet was trained so.
    #[must_use]
    pub fn with_vae(self, mut vae: Autoencoder) -> Self {
        if vae.kind == Kind::TinyVae && vae.config.is_none() {
            vae.config = Some(vae.tiny_config());
        }
        Assembled { vae: Some(vae), ..self }
    }

    /// With a tiny VAE (TAESD) as the decoder; pictures to start from are encoded by the model's own VAE.
    ///
    /// # Errors
    /// [`Error::Unfit`] where it is no tiny VAE.
    pub fn with_tiny_decoder(self, mut tiny: Autoencoder) -> Result<Self> {
        if tiny.kind != Kind::TinyVae {
            let reason = "this is a VAE of full size, not a tiny one (TAESD)".into();
            return Err(Error::Unfit { repo: tiny.name, reason, remedy: Remedy::AsVae });
        }
        tiny.config = Some(tiny.config.take().unwrap_or_else(|| tiny.tiny_config()));
        Ok(Assembled { decoder: Some(tiny), ..self })
    }

    /// With what the UNet predicts, in place of what `scheduler_config.json` says. A checkpoint in one file is told when it
    /// is opened, since it may say so itself.
    #[must_use]
    pub fn with_prediction(self, prediction: Prediction) -> Self {
        Assembled { prediction: Some(prediction), ..self }
    }

    fn vae_config(&self) -> Option<&str> {
        self.vae.as_ref()?.config.as_deref()
    }
}

/// A JSON object with one field in place of what it has.
fn with_field(path: &str, text: &str, field: &str, value: Value) -> Result<String> {
    let mut object =
        json::value(text).map_err(|error| Error::Config { file: path.to_owned(), reason: error.to_string() })?;
    if let Some(object) = object.as_object_mut() {
        object.insert(field.to_owned(), value);
    }
    Ok(object.to_string())
}

fn class_of(config: &str) -> Option<String> {
    Some(json::value(config).ok()?.get("_class_name")?.as_str()?.to_owned())
}

impl Layer for Assembled {
    fn base(&self) -> &dyn Source {
        &*self.base
    }

    fn list<'a>(&'a self) -> LocalFuture<'a, Result<Vec<ModelFile>>> {
        Box::pin(async move {
            let mut files = self.base.list().await?;
            if self.decoder.is_some() {
                files.push(ModelFile {
                    component: Component::VaeDecoder,
                    path: DECODER_CONFIG.into(),
                    bytes: None,
                    sha256: None,
                    f16: false,
                });
            }
            Ok(files)
        })
    }

    fn read_text<'a>(&'a self, path: &'a str) -> LocalFuture<'a, Result<String>> {
        Box::pin(async move {
            match (path, self.vae_config(), &self.decoder) {
                (DECODER_CONFIG, _, Some(decoder)) => Ok(decoder.config.clone().unwrap_or_default()),
                ("vae/config.json", Some(config), _) => Ok(config.to_owned()),
                ("model_index.json", Some(config), _) => {
                    let text = self.base.read_text(path).await?;
                    let Some(class) = class_of(config) else { return Ok(text) };
                    with_field(path, &text, "vae", json!(["diffusers", class]))
                }
                (SCHEDULER_CONFIG, ..) => {
                    let text = self.base.read_text(path).await?;
                    match self.prediction {
                        Some(prediction) => with_field(path, &text, "prediction_type", json!(prediction.config_name())),
                        None => Ok(text),
                    }
                }
                _ => self.base.read_text(path).await,
            }
        })
    }

    fn weights<'a>(
        &'a self,
        component: Component,
        files: &'a [ModelFile],
        wanted: &'a [WeightSpec],
    ) -> LocalFuture<'a, Result<Weights>> {
        let other = match component {
            Component::Vae => &self.vae,
            Component::VaeDecoder => &self.decoder,
            _ => &None,
        };
        match other {
            Some(autoencoder) => Box::pin(std::future::ready(Ok(autoencoder.weights(wanted)))),
            None => self.base.weights(component, files, wanted),
        }
    }
}
