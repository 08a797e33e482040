//! Models without their weights: files that have headers and no tensors, as the configs want them. Enough to plan with, not
//! to draw. [`Published`] is the seven versions, with the published configs and a vocabulary of a few tokens;
//! [`WithoutWeights`] a model that brings its own, while its weights are still on their way.

use super::{Component, Layer, ModelFile, Source};
use crate::error::{Error, Result};
use crate::graph::WeightSpec;
use crate::model::config::{ClipTextConfig, ModelIndex, UNet2DConditionConfig, VaeConfig};
use crate::model::{SDVersion, clip, unet, vae};
use crate::weights::{ByteSource, LocalFuture, Weights, header_of_f16};

/// One version's configs.
struct Configs {
    model_index: &'static str,
    scheduler: &'static str,
    text_encoder: &'static str,
    text_encoder_2: Option<&'static str>,
    unet: &'static str,
    vae: &'static str,
}

macro_rules! configs {
    ($key:literal $(, $second:literal)?) => {{
        let text_encoder_2: Option<&'static str> = None;
        $(let text_encoder_2 = text_encoder_2.or(Some(include_str!(concat!("../model/published/", $key, "/", $second))));)?
        Configs {
            model_index: include_str!(concat!("../model/published/", $key, "/model_index.json")),
            scheduler: include_str!(concat!("../model/published/", $key, "/scheduler.json")),
            text_encoder: include_str!(concat!("../model/published/", $key, "/text_encoder.json")),
            text_encoder_2,
            unet: include_str!(concat!("../model/published/", $key, "/unet.json")),
            vae: include_str!(concat!("../model/published/", $key, "/vae.json")),
        }
    }};
}

fn configs(version: SDVersion) -> Configs {
    match version {
        SDVersion::V1_5 => configs!("v1-5"),
        SDVersion::V1_5Inpaint => configs!("v1-5-inpaint"),
        SDVersion::V2_1 => configs!("v2-1"),
        SDVersion::V2Inpaint => configs!("v2-inpaint"),
        SDVersion::Xl => configs!("xl", "text_encoder_2.json"),
        SDVersion::XlInpaint => configs!("xl-inpaint", "text_encoder_2.json"),
        SDVersion::Turbo => configs!("turbo", "text_encoder_2.json"),
    }
}

/// The tokens that frame and fill an empty prompt, under CLIP's ids.
const VOCABULARY: &str = r#"{"!":0,"<|startoftext|>":49406,"<|endoftext|>":49407}"#;

/// See the module.
pub struct Published {
    version: SDVersion,
    /// `vocab.json` and `merges.txt` of CLIP.
    vocabulary: Option<[String; 2]>,
}

impl Published {
    /// A version.
    #[must_use]
    pub fn new(version: SDVersion) -> Self {
        Published { version, vocabulary: None }
    }

    /// With CLIP's vocabulary, which counts a prompt's tokens as the model does.
    #[must_use]
    pub fn with_vocabulary(self, vocab_json: String, merges: String) -> Self {
        Published { vocabulary: Some([vocab_json, merges]), ..self }
    }

    fn text(&self, path: &str) -> Result<&str> {
        let configs = configs(self.version);
        match path {
            "model_index.json" => Ok(configs.model_index),
            "scheduler/scheduler_config.json" => Ok(configs.scheduler),
            "text_encoder/config.json" => Ok(configs.text_encoder),
            "unet/config.json" => Ok(configs.unet),
            "vae/config.json" => Ok(configs.vae),
            "tokenizer/vocab.json" | "tokenizer_2/vocab.json" => {
                Ok(self.vocabulary.as_ref().map_or(VOCABULARY, |[vocab_json, _]| vocab_json))
            }
            "tokenizer/merges.txt" | "tokenizer_2/merges.txt" => {
                Ok(self.vocabulary.as_ref().map_or("#version: 0.2\n", |[_, merges]| merges))
            }
            "text_encoder_2/config.json" => configs.text_encoder_2.ok_or_else(|| self.has_no(path)),
            _ => Err(self.has_no(path)),
        }
    }

    fn has_no(&self, path: &str) -> Error {
        Error::Hub { repo: self.describe(), reason: format!("has no file {path} here: download the model to draw") }
    }

    fn files(&self) -> Vec<ModelFile> {
        let file = |component, path: &str| ModelFile {
            component,
            path: path.to_string(),
            bytes: None,
            sha256: None,
            f16: path.contains(".fp16."),
        };
        let mut files = vec![
            file(Component::ModelIndex, "model_index.json"),
            file(Component::Scheduler, "scheduler/scheduler_config.json"),
            file(Component::Tokenizer, "tokenizer/vocab.json"),
            file(Component::TextEncoder, "text_encoder/config.json"),
            file(Component::TextEncoder, "text_encoder/model.fp16.safetensors"),
            file(Component::Unet, "unet/config.json"),
            file(Component::Unet, "unet/diffusion_pytorch_model.fp16.safetensors"),
            file(Component::Vae, "vae/config.json"),
            file(Component::Vae, "vae/diffusion_pytorch_model.fp16.safetensors"),
        ];
        if configs(self.version).text_encoder_2.is_some() {
            files.push(file(Component::Tokenizer2, "tokenizer_2/vocab.json"));
            files.push(file(Component::TextEncoder2, "text_encoder_2/config.json"));
            files.push(file(Component::TextEncoder2, "text_encoder_2/model.fp16.safetensors"));
        }
        files
    }
}

impl Source for Published {
    fn list<'a>(&'a self) -> LocalFuture<'a, Result<Vec<ModelFile>>> {
        Box::pin(async move { Ok(self.files()) })
    }

    fn read_text<'a>(&'a self, path: &'a str) -> LocalFuture<'a, Result<String>> {
        Box::pin(async move { self.text(path).map(str::to_string) })
    }

    fn open<'a>(&'a self, path: &'a str) -> LocalFuture<'a, Result<Box<dyn ByteSource>>> {
        Box::pin(header_only(self, path))
    }

    fn describe(&self) -> String {
        self.version.key().to_string()
    }
}

/// See the module.
pub struct WithoutWeights<'s>(pub &'s dyn Source);

impl Layer for WithoutWeights<'_> {
    fn base(&self) -> &dyn Source {
        self.0
    }

    /// In one file a component, whatever the model has.
    fn list<'a>(&'a self) -> LocalFuture<'a, Result<Vec<ModelFile>>> {
        Box::pin(async move {
            let mut files = self.0.list().await?;
            let mut seen = Vec::new();
            files.retain(|file| {
                let is_first = !seen.contains(&file.component);
                if file.is_weights() && is_first {
                    seen.push(file.component);
                }
                !file.is_weights() || is_first
            });
            Ok(files)
        })
    }

    fn open<'a>(&'a self, path: &'a str) -> LocalFuture<'a, Result<Box<dyn ByteSource>>> {
        Box::pin(header_only(self, path))
    }

    /// What the graphs want, with no values.
    fn weights<'a>(
        &'a self,
        component: Component,
        _: &'a [ModelFile],
        wanted: &'a [WeightSpec],
    ) -> LocalFuture<'a, Result<Weights>> {
        Box::pin(async move {
            let file: Box<dyn ByteSource> = Box::new(HeaderOnly::new(component.folder(), wanted));
            Weights::open(vec![file]).await
        })
    }

    /// Nothing has to come first.
    fn ready<'a>(&'a self, _: &'a str, _: &'a mut dyn FnMut() -> bool) -> LocalFuture<'a, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A weight file as the config in its folder wants it.
async fn header_only(source: &dyn Source, path: &str) -> Result<Box<dyn ByteSource>> {
    let (folder, _) = path.split_once('/').unwrap_or((path, ""));
    let file = format!("{folder}/config.json");
    let text = source.read_text(&file).await?;
    let specs = match folder {
        "unet" => unet::weights(&UNet2DConditionConfig::from_json(&text, &file)?),
        component => {
            let index = "model_index.json";
            let index = ModelIndex::from_json(&source.read_text(index).await?, index)?;
            match component {
                "vae" => vae::weights(&VaeConfig::from_json(index.vae_class(), &text, &file)?),
                encoder => clip::weights(&ClipTextConfig::from_json(&text, &file)?.with_class(index.class_of(encoder))),
            }
        }
    }?;
    Ok(Box::new(HeaderOnly::new(path, &specs)))
}

/// A safetensors file of f16 tensors that has a header alone.
struct HeaderOnly {
    name: String,
    header: Vec<u8>,
    len: u64,
}

impl HeaderOnly {
    fn new(name: &str, specs: &[WeightSpec]) -> Self {
        let (header, len) = header_of_f16(specs);
        HeaderOnly { name: name.to_string(), header, len }
    }
}

impl ByteSource for HeaderOnly {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn read<'a>(&'a self, offset: u64, len: usize) -> LocalFuture<'a, Result<Vec<u8>>> {
        Box::pin(async move {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let bytes = self.header.get(start..).and_then(|rest| rest.get(..len));
            bytes.map(<[u8]>::to_vec).ok_or_else(|| Error::Hub {
                repo: self.name.clone(),
                reason: "has no weights here: download the model to draw".into(),
            })
        })
    }
}
