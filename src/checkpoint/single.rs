//! A checkpoint in one file, opened in the place of a diffusers folder: its tensors under diffusers' names, the published
//! configuration of its family (or the one that is given), and CLIP's vocabulary.
//!
//! It fetches nothing, and computes nothing but the spread of 320 numbers where a Stable Diffusion 2 model says nowhere what
//! it predicts.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Value, json};

use super::identity::{Evidence, Family, Identity, Kind, Prediction, Task, View};
use super::models::unet_place;
use super::yaml::prediction_of_yaml;
use super::{foreign, names, vocabulary};
use crate::error::{Error, Remedy, Result};
use crate::graph::WeightSpec;
use crate::hub::published::Published;
use crate::hub::{Component, ModelFile, Source};
use crate::model::SDVersion;
use crate::weights::{Aliased, ByteSource, Decoded, Files, LocalFuture, Place, Renamed, TensorSource, Weights};

/// The spread above which the biases of one norm of a Stable Diffusion 2 model mean that it predicts velocity: ComfyUI's rule.
const VELOCITY_SPREAD: f64 = 0.09;

/// The norm that it is measured at.
const VELOCITY_NORM: &str = "output_blocks.11.1.transformer_blocks.0.norm1.bias";

/// The widest norm that is read for it; Stable Diffusion 2's is 320 wide.
const MAX_NORM: usize = 4096;

/// The name of the file among the model's files.
const WEIGHTS: &str = "model.safetensors";

/// What is known about a file besides its bytes.
#[derive(Default)]
pub struct SingleFileSettings {
    /// What its UNet predicts, where somebody says so.
    pub prediction: Option<Prediction>,
    /// The `.yaml` beside it.
    pub yaml: Option<String>,
    /// Configurations and vocabularies in diffusers' layout in place of the published ones; where it has weights, they fill
    /// in for components that the file lacks.
    pub config: Option<Rc<dyn Source>>,
    /// CLIP's `merges.txt`; natively it is part of the program.
    pub clip_merges: Option<String>,
}

/// A checkpoint in one file.
pub struct SingleFile {
    label: String,
    n_bytes: u64,
    identity: Identity,
    metadata: BTreeMap<String, String>,
    tensors: Rc<dyn TensorSource>,
    /// Texts that are made here, by path.
    texts: BTreeMap<String, String>,
    config: Option<Rc<dyn Source>>,
    config_files: Vec<ModelFile>,
    notes: Vec<String>,
}

/// Opens the layers over files: their tensors as numbers, under their own names.
///
/// # Errors
/// As [`foreign::refuse`], [`Files::open`] and [`Decoded::open`].
pub(super) async fn open_layers(sources: Vec<Box<dyn ByteSource>>) -> Result<(Rc<Files>, Rc<dyn TensorSource>)> {
    for source in &sources {
        foreign::refuse(&**source).await?;
    }
    let files = Rc::new(Files::open(sources).await?);
    let decoded = Decoded::open(Rc::clone(&files) as Rc<dyn TensorSource>).await?;
    Ok((files, Rc::new(Aliased(Rc::new(decoded)))))
}

impl SingleFile {
    /// Reads the header and finds out what it is.
    ///
    /// # Errors
    /// [`Error::Safetensors`] for a broken file; [`Error::Hub`] or [`Error::Unfit`] for one that is no model that can be drawn
    /// with, with what it is and what would work; what is wrong with the configuration that is given.
    pub async fn open(
        label: impl Into<String>,
        source: Box<dyn ByteSource>,
        settings: SingleFileSettings,
    ) -> Result<Self> {
        let label = label.into();
        let n_bytes = source.len();
        let (files, tensors) = open_layers(vec![source]).await?;
        let identity = Identity::of(&*files, files.metadata());
        let refuse = |reason: String| Err(Error::Hub { repo: label.clone(), reason });
        if !matches!(identity.kind, Kind::Checkpoint | Kind::Unet) {
            let kind = identity.kind.name();
            let obstacle = identity.obstacle.as_deref().unwrap_or("a model has a UNet");
            let reason = format!("this is a {kind}, not a model to draw with: {obstacle}");
            return Err(match identity.remedy {
                Some(remedy) => Error::Unfit { repo: label, reason, remedy },
                None => Error::Hub { repo: label, reason },
            });
        }
        let has_config = settings.config.is_some();
        if let Some(obstacle) = &identity.obstacle {
            // Its folder describes its noise levels, which no file does.
            let is_described = match (&settings.config, identity.variant) {
                (Some(config), Some("playground-v2.5")) => {
                    config.read_text("scheduler/scheduler_config.json").await?.contains("\"EDM")
                }
                _ => false,
            };
            if !is_described {
                return refuse(obstacle.clone());
            }
        }
        if !identity.is_published && !has_config {
            let reason = "its UNet has sizes of no published model".into();
            return Err(Error::Unfit { repo: label, reason, remedy: Remedy::Config });
        }
        let mut file = SingleFile {
            label,
            n_bytes,
            identity,
            metadata: files.metadata().clone(),
            tensors,
            texts: BTreeMap::new(),
            config: settings.config.clone(),
            config_files: Vec::new(),
            notes: Vec::new(),
        };
        let (prediction, yaml) = (settings.prediction, settings.yaml.as_deref());
        decide_prediction(&mut file.identity, prediction, yaml, &file.tensors).await?;
        match settings.config {
            Some(config) => file.read_config(&*config, &settings.clip_merges).await?,
            None => file.write_texts(&settings.clip_merges).await?,
        }
        Ok(file)
    }

    /// What it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What its writer says about it.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The version whose published configuration is the file's.
    fn version(&self) -> Option<SDVersion> {
        let is_inpaint = self.identity.task == Some(Task::Inpaint);
        match (self.identity.family?, is_inpaint) {
            (Family::Sd1, false) => Some(SDVersion::V1_5),
            (Family::Sd1, true) => Some(SDVersion::V1_5Inpaint),
            (Family::Sd2, false) => Some(SDVersion::V2_1),
            (Family::Sd2, true) => Some(SDVersion::V2Inpaint),
            (family, false) if family.is_xl() => Some(SDVersion::Xl),
            (family, true) if family.is_xl() => Some(SDVersion::XlInpaint),
            _ => None,
        }
    }

    /// Texts from the folder that is given; what the file says about its prediction counts where the folder does not.
    async fn read_config(&mut self, config: &dyn Source, clip_merges: &Option<String>) -> Result<()> {
        self.config_files = config.list().await?;
        let path = "scheduler/scheduler_config.json";
        let mut scheduler = parse(path, &config.read_text(path).await?)?;
        let stated = scheduler.get("prediction_type").and_then(Value::as_str).map(str::to_owned);
        let evidence = self.identity.prediction.map(|(_, evidence)| evidence);
        match (&stated, evidence) {
            (_, Some(Evidence::Asked)) => {}
            (Some(stated), _) => {
                let known = [Prediction::Epsilon, Prediction::Velocity].into_iter();
                let stated = known.into_iter().find(|prediction| prediction.config_name() == stated);
                if let (Some(stated), Some((of_file, evidence))) = (stated, self.identity.prediction)
                    && stated != of_file
                    && matches!(evidence, Evidence::Marker | Evidence::Metadata | Evidence::Yaml)
                {
                    self.notes.push(format!(
                        "the file says that it predicts {} ({}), and the configuration {}, which is taken: --prediction {} \
                         takes the file's",
                        of_file.name(),
                        evidence.name(),
                        stated.name(),
                        of_file.name()
                    ));
                }
                self.identity.prediction = stated.map(|prediction| (prediction, Evidence::Config));
            }
            (None, None) => self.notes.push(
                "neither the file nor its configuration says what it predicts; noise is taken: --prediction v takes velocity"
                    .into(),
            ),
            (None, Some(_)) => {}
        }
        let is_ours = stated.is_none() || evidence == Some(Evidence::Asked);
        if let (Some((prediction, _)), true) = (self.identity.prediction, is_ours) {
            set(&mut scheduler, "prediction_type", json!(prediction.config_name()));
        }
        if self.identity.zero_snr && scheduler.get("rescale_betas_zero_snr").is_none() {
            set(&mut scheduler, "rescale_betas_zero_snr", json!(true));
        }
        self.texts.insert(path.to_owned(), scheduler.to_string());
        let index = parse("model_index.json", &config.read_text("model_index.json").await?)?;
        let has_second = index.get("text_encoder_2").and_then(|pair| pair.get(1)).is_some_and(Value::is_string);
        let folders = [("tokenizer", Component::Tokenizer, true), ("tokenizer_2", Component::Tokenizer2, has_second)];
        for (folder, component, is_needed) in folders {
            let is_there = self.config_files.iter().any(|file| file.component == component);
            if is_needed && !is_there {
                self.write_tokenizer(folder, clip_merges)?;
            }
        }
        Ok(())
    }

    /// Texts as they were published for the family.
    async fn write_texts(&mut self, clip_merges: &Option<String>) -> Result<()> {
        let Some(version) = self.version() else {
            return Err(Error::Hub {
                repo: self.label.clone(),
                reason: "it is of no family that can be drawn with".into(),
            });
        };
        let Some((prediction, _)) = self.identity.prediction else {
            let reason =
                "it is a Stable Diffusion 2, and whether it predicts noise or velocity cannot be told from the file"
                    .into();
            return Err(Error::Unfit { repo: self.label.clone(), reason, remedy: Remedy::Prediction });
        };
        let published = Published::new(version);
        for file in published.list().await? {
            if !file.is_weights() && !matches!(file.component, Component::Tokenizer | Component::Tokenizer2) {
                let text = published.read_text(&file.path).await?;
                self.texts.insert(file.path, text);
            }
        }
        self.edit("scheduler/scheduler_config.json", |scheduler, file| {
            set(scheduler, "prediction_type", json!(prediction.config_name()));
            if file.identity.zero_snr {
                set(scheduler, "rescale_betas_zero_snr", json!(true));
            }
        })?;
        if let Some(width) = guidance_width(&*self.tensors) {
            // Latent consistency models (LCM) were all distilled from a published one, with the schedule of their original.
            self.edit("unet/config.json", |unet, _| set(unet, "time_cond_proj_dim", json!(width)))?;
            self.edit("scheduler/scheduler_config.json", |scheduler, _| {
                for (key, value) in lcm_scheduler() {
                    set(scheduler, key, value);
                }
            })?;
            self.edit("model_index.json", |index, _| set(index, "scheduler", json!(["diffusers", LCM_SCHEDULER])))?;
        }
        if self.identity.family == Some(Family::Sd2) && prediction == Prediction::Epsilon {
            // stabilityai/stable-diffusion-2-base.
            self.edit("unet/config.json", |unet, _| set(unet, "sample_size", json!(64)))?;
        }
        if version.is_xl() {
            self.edit("unet/config.json", |unet, file| {
                if let Some(depths) = Depths::of(&*file.tensors) {
                    depths.write(unet);
                }
            })?;
        }
        self.write_tokenizer("tokenizer", clip_merges)?;
        if version.is_xl() {
            self.write_tokenizer("tokenizer_2", clip_merges)?;
        }
        Ok(())
    }

    fn edit(&mut self, path: &str, change: impl FnOnce(&mut Value, &Self)) -> Result<()> {
        let mut value = parse(path, self.texts.get(path).map_or("{}", String::as_str))?;
        change(&mut value, self);
        self.texts.insert(path.to_owned(), value.to_string());
        Ok(())
    }

    /// CLIP's vocabulary. OpenCLIP's text encoders (Stable Diffusion 2, XL's second one) were trained with zeros behind the
    /// text, CLIP's with its end.
    fn write_tokenizer(&mut self, folder: &str, clip_merges: &Option<String>) -> Result<()> {
        let merges = match clip_merges {
            Some(merges) => merges.as_str(),
            None => vocabulary::built_in().ok_or_else(|| Error::Hub {
                repo: self.label.clone(),
                reason: "checkpoints in one file have no vocabulary, and none was given".into(),
            })?,
        };
        let is_open_clip = folder == "tokenizer_2" || self.identity.family == Some(Family::Sd2);
        let pad = if is_open_clip { "!" } else { "<|endoftext|>" };
        self.texts.insert(format!("{folder}/vocab.json"), vocabulary::vocab_json(merges)?);
        self.texts.insert(format!("{folder}/merges.txt"), merges.to_owned());
        self.texts.insert(format!("{folder}/special_tokens_map.json"), vocabulary::special_tokens_map(pad));
        Ok(())
    }

    /// Refuses a component of which tensors are missing, by the first one's name in the file.
    fn check_whole(&self, component: Component, wanted: &[WeightSpec], places: &BTreeMap<String, Place>) -> Result<()> {
        let mut missing = wanted.iter().filter(|spec| !places.contains_key(&spec.name));
        let Some(first) = missing.next() else { return Ok(()) };
        let name = self.stored_name(component, &first.name, wanted, places);
        if component == Component::Vae {
            let n = 1 + missing.count();
            let reason =
                format!("its VAE is not whole: {n} of {} tensors are missing, {name} among them", wanted.len());
            return Err(Error::Unfit { repo: self.label.clone(), reason, remedy: Remedy::Vae });
        }
        Err(Error::TensorMissing { name, file: self.tensors.describe(), expected: first.shape.as_slice().into() })
    }

    /// What a tensor is called in the file, judging by others of its component.
    fn stored_name(
        &self,
        component: Component,
        name: &str,
        wanted: &[WeightSpec],
        places: &BTreeMap<String, Place>,
    ) -> String {
        let prefixes = places.iter().map(|(name, place)| place.stored.strip_suffix(name.as_str()));
        if let Some(prefix) = prefixes.collect::<Option<Vec<&str>>>().and_then(|all| all.first().copied()) {
            return format!("{prefix}{name}");
        }
        let is_xl = self.identity.family.is_some_and(Family::is_xl);
        let is_open_clip = places.values().any(|place| place.stored.contains("resblocks."));
        let names = || wanted.iter().map(|spec| spec.name.as_str());
        let stored = names::written(component, is_xl, is_open_clip, names());
        let stored = names().zip(stored).find(|(of, _)| *of == name);
        stored.map_or_else(|| name.to_owned(), |(_, place)| place.stored)
    }

    /// What would fill in for a component that the file lacks.
    fn lacks(&self, component: Component) -> Error {
        let (repo, folder) = (self.label.clone(), component.folder());
        let (what, remedy) = match component {
            Component::Vae => ("VAE", Remedy::Vae),
            Component::TextEncoder | Component::TextEncoder2 => ("text encoder", Remedy::TextEncoder),
            _ => return Error::Hub { repo, reason: format!("the file has no UNet ({folder}): use a whole model") },
        };
        Error::Unfit { repo, reason: format!("the file has no {what} ({folder})"), remedy }
    }
}

fn parse(path: &str, text: &str) -> Result<Value> {
    crate::json::value(text).map_err(|error| Error::Config { file: path.to_owned(), reason: error.to_string() })
}

fn set(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}

/// Decides what a model predicts, in this order: who asks, the file's own marker and metadata, the `.yaml` beside it,
/// ComfyUI's rule.
///
/// # Errors
/// As [`judge_prediction`].
pub(super) async fn decide_prediction(
    identity: &mut Identity,
    asked: Option<Prediction>,
    yaml: Option<&str>,
    tensors: &Rc<dyn TensorSource>,
) -> Result<()> {
    if let Some(prediction) = asked {
        identity.prediction = Some((prediction, Evidence::Asked));
    }
    if identity.prediction.is_none_or(|(_, evidence)| evidence.is_rule())
        && let Some(prediction) = yaml.and_then(prediction_of_yaml)
    {
        identity.prediction = Some((prediction, Evidence::Yaml));
    }
    if identity.prediction.is_none() {
        let judged = judge_prediction(tensors).await?;
        identity.prediction = judged.map(|prediction| (prediction, Evidence::Weights));
    }
    Ok(())
}

/// What a Stable Diffusion 2 model predicts, judged by the spread of one norm's biases; `None` where there is no such norm,
/// and where all its numbers are the same.
///
/// # Errors
/// What the file returns when it cannot be read.
pub async fn judge_prediction(tensors: &Rc<dyn TensorSource>) -> Result<Option<Prediction>> {
    let place = {
        let view = View { file: &**tensors, names: tensors.names() };
        unet_place(&view)
    };
    let name = match place {
        Some((prefix, true)) => format!("{prefix}{VELOCITY_NORM}"),
        Some((prefix, false)) => format!("{prefix}up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias"),
        None => return Ok(None),
    };
    let weights = Weights::of(Rc::clone(tensors));
    let n = weights.get(&name).map(|tensor| tensor.shape.iter().product::<usize>());
    if n.is_none_or(|n| n > MAX_NORM) {
        return Ok(None);
    }
    let values = weights.read_f32(&name).await?;
    let n = values.len().max(1) as f64;
    let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / n;
    let spread = (values.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / n).sqrt();
    Ok(match spread {
        spread if spread > VELOCITY_SPREAD => Some(Prediction::Velocity),
        spread if spread > 0.0 => Some(Prediction::Epsilon),
        _ => None,
    })
}

/// The scheduler's class of latent consistency models.
const LCM_SCHEDULER: &str = "LCMScheduler";

/// What the configuration of that scheduler says besides the noise schedule: SimianLuo/LCM_Dreamshaper_v7, and the defaults of
/// diffusers' class.
fn lcm_scheduler() -> [(&'static str, Value); 8] {
    [
        ("_class_name", json!(LCM_SCHEDULER)),
        ("original_inference_steps", json!(50)),
        ("timestep_scaling", json!(10.0)),
        ("timestep_spacing", json!("leading")),
        ("set_alpha_to_one", json!(true)),
        ("steps_offset", json!(1)),
        ("clip_sample", json!(false)),
        ("thresholding", json!(false)),
    ]
}

/// The width of the guidance scale's embedding, of a UNet that was distilled to take the scale as an input.
fn guidance_width(tensors: &dyn TensorSource) -> Option<usize> {
    let (prefix, is_ldm) = unet_place(&View { file: tensors, names: tensors.names() })?;
    let name = if is_ldm { "time_embed.cond_proj.weight" } else { "time_embedding.cond_proj.weight" };
    tensors.tensor(&format!("{prefix}{name}"))?.shape.get(1).copied()
}

/// How many transformer blocks each attention of an XL has: distilled ones have fewer.
struct Depths {
    down: [[usize; 2]; 2],
    up: [[usize; 3]; 2],
    has_middle: bool,
}

impl Depths {
    fn of(tensors: &dyn TensorSource) -> Option<Self> {
        let view = View { file: tensors, names: tensors.names() };
        let (prefix, is_ldm) = unet_place(&view)?;
        let at = |ldm: String, diffusers: String| {
            view.count(&format!("{prefix}{}.transformer_blocks.", if is_ldm { ldm } else { diffusers }))
        };
        let down = [1, 2].map(|block| {
            [0, 1].map(|layer| {
                let ldm = format!("input_blocks.{}.1", 1 + 3 * block + layer);
                at(ldm, format!("down_blocks.{block}.attentions.{layer}"))
            })
        });
        let up = [0, 1].map(|block| {
            [0, 1, 2].map(|layer| {
                at(format!("output_blocks.{}.1", 3 * block + layer), format!("up_blocks.{block}.attentions.{layer}"))
            })
        });
        let middle = at("middle_block.1".into(), "mid_block.attentions.0".into());
        Some(Depths { down, up, has_middle: middle > 0 })
    }

    /// Nothing changes where all are XL's own.
    fn write(&self, unet: &mut Value) {
        if self.down == [[2; 2], [10; 2]] && self.up == [[10; 3], [2; 3]] && self.has_middle {
            return;
        }
        let equal = |depths: &[usize]| depths.windows(2).all(|pair| pair[0] == pair[1]);
        let entry = |depths: &[usize]| if equal(depths) { json!(depths[0]) } else { json!(depths) };
        let down: Vec<Value> = self.down.iter().map(|depths| entry(depths)).collect();
        set(unet, "transformer_layers_per_block", json!([1, down[0], down[1]]));
        let up: Vec<Value> = self.up.iter().map(|depths| entry(depths)).collect();
        set(unet, "reverse_transformer_layers_per_block", json!([up[0], up[1], 1]));
        if !self.has_middle {
            set(unet, "mid_block_type", json!("UNetMidBlock2D"));
        }
    }
}

impl Source for SingleFile {
    fn list<'a>(&'a self) -> LocalFuture<'a, Result<Vec<ModelFile>>> {
        Box::pin(async move {
            let text = |path: &String| ModelFile {
                component: component_of(path),
                path: path.clone(),
                bytes: None,
                sha256: None,
                f16: false,
            };
            let mut files: Vec<ModelFile> = self.texts.keys().map(text).collect();
            let ours: Vec<&String> = self.texts.keys().collect();
            let given = self.config_files.iter().filter(|file| !ours.contains(&&file.path));
            files.extend(given.filter(|file| !file.is_weights()).cloned());
            // Whatever it is called, it is weights; its place on a disk is nobody's business.
            files.push(ModelFile {
                component: Component::Unet,
                path: WEIGHTS.into(),
                bytes: Some(self.n_bytes),
                sha256: None,
                f16: false,
            });
            Ok(files)
        })
    }

    fn read_text<'a>(&'a self, path: &'a str) -> LocalFuture<'a, Result<String>> {
        Box::pin(async move {
            match (self.texts.get(path), &self.config) {
                (Some(text), _) => Ok(text.clone()),
                (None, Some(config)) => config.read_text(path).await,
                (None, None) => Err(Error::Hub { repo: self.label.clone(), reason: format!("there is no {path}") }),
            }
        })
    }

    fn open<'a>(&'a self, path: &'a str) -> LocalFuture<'a, Result<Box<dyn ByteSource>>> {
        Box::pin(async move {
            match &self.config {
                Some(config) => config.open(path).await,
                None => Err(Error::Hub { repo: self.label.clone(), reason: format!("there is no {path}") }),
            }
        })
    }

    fn weights<'a>(
        &'a self,
        component: Component,
        _: &'a [ModelFile],
        wanted: &'a [WeightSpec],
    ) -> LocalFuture<'a, Result<Weights>> {
        Box::pin(async move {
            let places = names::places(component, wanted.iter().map(|spec| spec.name.as_str()), &*self.tensors);
            if !places.is_empty() {
                self.check_whole(component, wanted, &places)?;
                let unused = names::unused(component, &places, &*self.tensors);
                return Ok(Weights::of(Rc::new(Renamed::new(Rc::clone(&self.tensors), places, unused))));
            }
            let has = |file: &ModelFile| file.component == component && file.is_weights();
            match &self.config {
                Some(config) if self.config_files.iter().any(has) => {
                    config.weights(component, &self.config_files, wanted).await
                }
                _ => Err(self.lacks(component)),
            }
        })
    }

    fn describe(&self) -> String {
        self.label.clone()
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}

/// The component that a text belongs to, by its folder.
fn component_of(path: &str) -> Component {
    use Component::*;
    let folder = path.split_once('/').map_or("", |(folder, _)| folder);
    let all = [ModelIndex, Scheduler, Tokenizer, Tokenizer2, TextEncoder, TextEncoder2, Unet, Vae];
    all.into_iter().find(|component| component.folder() == folder).unwrap_or(ModelIndex)
}
