//! What a file or folder of weights is, as `darkroom inspect` and the page tell it: kind, family, components, prediction,
//! LoRA, metadata, and what to do where it cannot be drawn with. [`Report`] is the JSON; [`Report::lines`] is for people.
//!
//! Headers are read, and of a Stable Diffusion 2 that says nowhere what it predicts the 320 numbers of one norm. Whether it
//! fits a device is planned by [`crate::checkpoint::fit`].

mod about;
mod lines;

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::Serialize;
use serde_json::Value;

use super::foreign;
use super::identity::{Evidence, Family, Identity, Kind, Layout, Prediction, View};
use super::models::{TEXT_2_STARTS, TEXT_STARTS, unet_place, vae_prefix};
use super::names::is_left_over;
use super::single::decide_prediction;
use super::wrapped::EMA_ONLY;
use crate::error::{Door, Error, Remedy, Result};
use crate::hub::{Component, ModelFile, Source};
use crate::json;
use crate::request::Preset;
use crate::weights::{Aliased, ByteSource, Files, TensorSource, gguf};

pub use about::About;

/// How much of one text of the metadata is kept in a report, in characters.
const MAX_TEXT_CHARS: usize = 4000;

/// Tensors that belong together: how many they are, and their bytes by type.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields, rename = "InspectedShare"))]
pub struct Share {
    /// Bytes in the file.
    pub bytes: u64,
    /// The number of tensors.
    pub tensors: usize,
    /// Bytes by the type of the elements.
    pub types: BTreeMap<String, u64>,
    /// The files that have them, where a folder has more than one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, ts(optional, as = "Option<Vec<String>>"))]
    pub files: Vec<String>,
}

impl Share {
    fn add(&mut self, dtype: &str, bytes: u64) {
        self.bytes += bytes;
        self.tensors += 1;
        match self.types.get_mut(dtype) {
            Some(sum) => *sum += bytes,
            None => drop(self.types.insert(dtype.to_owned(), bytes)),
        }
    }

    fn join(&mut self, other: &Share) {
        self.bytes += other.bytes;
        self.tensors += other.tensors;
        for (dtype, bytes) in &other.types {
            *self.types.entry(dtype.clone()).or_default() += bytes;
        }
    }
}

/// The components of a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields, rename = "InspectedComponents"))]
pub struct Components {
    /// Those that are there, whole or not: `unet`, `vae`, `text_encoder`, `text_encoder_2`; of a tiny VAE `encoder` and
    /// `decoder`.
    pub present: BTreeMap<&'static str, Share>,
    /// Those that a model of the family has and this one does not.
    pub missing: Vec<&'static str>,
}

/// What a LoRA consists of.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields, rename = "InspectedLora"))]
pub struct Lora {
    /// `kohya`, `peft`, `diffusers`, `loha`, `lokr`, `ia3`, `full`, `oft`, `glora` or `set`.
    pub format: &'static str,
    /// Whose names its layers have: `ldm` or `diffusers`.
    pub spelling: Option<&'static str>,
    /// The rank that most layers have.
    pub rank: Option<usize>,
    /// All ranks, smallest first.
    pub ranks: Vec<usize>,
    /// The parts of a model that it changes.
    pub parts: Vec<&'static str>,
    /// The number of layers that it changes.
    pub layers: usize,
    /// Whether convolutions have kernels of their own.
    pub locon: bool,
    /// Whether it also changes magnitudes.
    pub dora: bool,
    /// Embeddings that come along.
    pub embeddings: usize,
}

/// What drawing a picture at the model's own size takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields, rename = "InspectedFit"))]
pub struct Fit {
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// The most bytes of GPU memory at once, with f16 values and everything loaded.
    pub gpu_resident_bytes: u64,
    /// The same with one component loaded after another.
    pub gpu_staged_bytes: u64,
    /// Bytes of all weights as they lie on the GPU.
    pub gpu_weight_bytes: u64,
    /// The first two with weights held in q8_0.
    pub gpu_q8_0_bytes: [u64; 2],
    /// The same in q4_0.
    pub gpu_q4_0_bytes: [u64; 2],
    /// Bytes of all weights in the CPU's memory as f32.
    pub cpu_f32_bytes: u64,
    /// What was taken for granted: a component from elsewhere, a prediction.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, ts(optional, as = "Option<Vec<String>>"))]
    pub assumed: Vec<String>,
}

/// What a file or folder is. Field names are stable.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct Report {
    /// The file, folder or repository.
    pub file: String,
    /// `safetensors`, or `folder` for one in diffusers' layout.
    pub format: &'static str,
    /// Bytes of the file, or of all weights of a folder.
    pub bytes: u64,
    /// The number of tensors.
    pub tensors: usize,
    /// The types of all tensors, those with the most bytes first.
    pub types: Vec<String>,
    /// `checkpoint`, `unet`, `vae`, `taesd`, `text_encoder`, `lora`, `controlnet`, `t2i_adapter`, `ip_adapter`, `embedding`
    /// or `other`.
    pub kind: &'static str,
    /// `sd1`, `sd2`, `xl`, `xl-refiner`, or another family's word; null where it cannot be told.
    pub family: Option<&'static str>,
    /// `base`, `inpaint`, `ssd-1b` and so on.
    pub variant: Option<&'static str>,
    /// Whose names the tensors have: `ldm`, `diffusers` or `taesd`.
    pub layout: Option<&'static str>,
    /// The components.
    pub components: Components,
    /// What training left and no picture needs: averages (EMA), schedules.
    pub leftovers: Share,
    /// `epsilon`, `v`, or `undecided`; null where there is no UNet to draw with.
    pub prediction: Option<&'static str>,
    /// `asked`, `config`, `keys`, `metadata`, `yaml`, `default`, `channels` or `weights`.
    pub decided_by: Option<&'static str>,
    /// Whether the noise schedule ends without any signal.
    pub ztsnr: bool,
    /// What a LoRA consists of.
    pub lora: Option<Lora>,
    /// What a model or LoRA for a few steps is drawn with, by its name or metadata: what `--preset` takes.
    pub preset: Option<Preset>,
    /// Vectors of an embedding.
    pub vectors: Option<usize>,
    /// What its writer says about it, in short.
    pub about: About,
    /// All of that, each text to 4000 characters.
    pub metadata: BTreeMap<String, String>,
    /// Whether it is a model to draw with (`--model`); what it lacks may come from elsewhere.
    pub opens: bool,
    /// Whether everything that such a model needs was found in the headers; null where that was not tried.
    pub loads: Option<bool>,
    /// Whether it is of no use here in any place.
    pub refused: bool,
    /// Why it is no model to draw with, or does not load.
    pub problem: Option<String>,
    /// What to do.
    pub advice: Vec<String>,
    /// What drawing takes, where it loads.
    pub fits: Option<Fit>,
    /// As people say kind, family and how the prediction was decided.
    #[serde(skip)]
    pub(super) words: Words,
    /// Problem and advice as the page says them.
    #[serde(skip)]
    of_page: OfPage,
}

/// What a report says to the page in place of what it says at the command line.
#[derive(Clone, Debug, Default, PartialEq)]
struct OfPage {
    problem: Option<String>,
    advice: Vec<String>,
}

/// Names for people.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Words {
    kind: &'static str,
    family: Option<&'static str>,
    evidence: Option<&'static str>,
}

/// Reads the header of a file and tells what it is. `yaml` is the text of the `.yaml` beside it.
///
/// # Errors
/// [`Error::Safetensors`] for a file that is broken or of another format; whatever the source returns when it cannot be
/// read.
pub async fn inspect(source: Box<dyn ByteSource>, yaml: Option<&str>) -> Result<Report> {
    foreign::refuse(&*source).await?;
    let name = source.name().to_owned();
    inspect_files(name, vec![source], yaml).await
}

/// The same of one model that is split into several files.
///
/// # Errors
/// As [`inspect`].
pub async fn inspect_files(name: String, sources: Vec<Box<dyn ByteSource>>, yaml: Option<&str>) -> Result<Report> {
    let n_bytes = sources.iter().map(|source| source.len()).sum();
    let mut format = "safetensors";
    if let Some(first) = sources.first() {
        let start = first.read(0, first.len().min(gguf::MAGIC.len() as u64) as usize).await?;
        if start == gguf::MAGIC {
            format = "gguf";
        }
    }
    let files = Rc::new(Files::open(sources).await?);
    let metadata = files.metadata().clone();
    inspect_tensors(name, format, n_bytes, files, &metadata, yaml).await
}

/// The same of tensors that were found in a file of any format: its name, the format's, and its bytes.
///
/// # Errors
/// Whatever the file returns when it cannot be read.
pub async fn inspect_tensors(
    name: String,
    format: &'static str,
    n_bytes: u64,
    tensors: Rc<dyn TensorSource>,
    metadata: &BTreeMap<String, String>,
    yaml: Option<&str>,
) -> Result<Report> {
    let mut identity = Identity::of(&*tensors, metadata);
    if identity.is_drawable() {
        let aliased: Rc<dyn TensorSource> = Rc::new(Aliased(Rc::clone(&tensors)));
        match decide_prediction(&mut identity, None, yaml, &aliased).await {
            // A norm of a type that is no number tells nothing.
            Ok(()) | Err(Error::TensorDtype { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let mut report = Report::new(name, format, &identity, metadata);
    report.bytes = n_bytes;
    report.count(&*tensors, &identity);
    Ok(report)
}

/// Tells what a model in diffusers' layout is. `files` are those that are there.
///
/// # Errors
/// What is wrong with `model_index.json`, with the scheduler's configuration or with the header of a file.
pub async fn inspect_model(source: &dyn Source, files: &[ModelFile]) -> Result<Report> {
    let open = async |component: Component| {
        let mut sources = Vec::new();
        let mut names = Vec::new();
        let mut n_bytes = 0;
        for file in files.iter().filter(|file| file.component == component && file.is_weights()) {
            let opened = source.open(&file.path).await?;
            foreign::refuse(&*opened).await?;
            n_bytes += opened.len();
            sources.push(opened);
            names.push(file.path.clone());
        }
        Ok::<_, Error>((Files::open(sources).await?, names, n_bytes))
    };
    let (unet, ..) = open(Component::Unet).await?;
    let mut identity = Identity::of(&unet, unet.metadata());
    if unet.names().is_empty() {
        identity = Identity { obstacle: None, is_refused: false, ..Identity::of_kind(Kind::Checkpoint) };
    }
    identity.kind = Kind::Checkpoint;
    let path = "scheduler/scheduler_config.json";
    if files.iter().any(|file| file.path == path) {
        let config = json::value(&source.read_text(path).await?)
            .map_err(|error| Error::Config { file: path.to_owned(), reason: error.to_string() })?;
        // Where it is silent, diffusers takes epsilon.
        let stated = config.get("prediction_type").and_then(Value::as_str).unwrap_or("epsilon");
        let known = [Prediction::Epsilon, Prediction::Velocity].into_iter();
        let stated = known.into_iter().find(|prediction| prediction.config_name() == stated);
        identity.prediction = stated.map(|prediction| (prediction, Evidence::Config));
        identity.zero_snr = config.get("rescale_betas_zero_snr").and_then(Value::as_bool).unwrap_or(false);
    }
    let mut report = Report::new(source.describe(), "folder", &identity, unet.metadata());
    report.words.kind = "model in diffusers' layout";
    let index = json::value(&source.read_text("model_index.json").await?)
        .map_err(|error| Error::Config { file: "model_index.json".into(), reason: error.to_string() })?;
    let mut all = Share::default();
    // The UNet's file alone lacks what other files of the folder have.
    report.components = Components::default();
    report.problem = identity.problem(Door::CommandLine);
    report.of_page.problem = identity.problem(Door::Page);
    for component in [Component::Unet, Component::Vae, Component::TextEncoder, Component::TextEncoder2] {
        let folder = component.folder();
        let is_wanted = index.get(folder).and_then(|pair| pair.get(1)).is_some_and(Value::is_string);
        let (files, names, n_bytes) = open(component).await?;
        if names.is_empty() {
            if is_wanted {
                report.components.missing.push(folder);
            }
            continue;
        }
        let mut share = Share::default();
        for name in files.names() {
            if let Some(tensor) = files.tensor(name) {
                share.add(tensor.dtype.name(), tensor.n_bytes);
            }
        }
        all.join(&share);
        report.bytes += n_bytes;
        report.components.present.insert(folder, Share { files: names, ..share });
    }
    report.tensors = all.tensors;
    report.types = by_bytes(&all);
    if let Some(class) = index.get("_class_name").and_then(Value::as_str) {
        report.about.pipeline = Some(about::short(class, 100));
    }
    report.opens = report.components.missing.is_empty() && identity.obstacle.is_none();
    report.advise(&identity);
    Ok(report)
}

/// What is said about a folder in diffusers' layout whose pipeline is of another kind: `reason` says which.
#[must_use]
pub fn other_pipeline(name: String, reason: String) -> Report {
    let identity = Identity { is_refused: true, ..Identity::of_kind(Kind::OtherModel) };
    let report = Report::new(name, "folder", &identity, &BTreeMap::new());
    let words = Words { kind: "model in diffusers' layout", ..report.words };
    let of_page = OfPage { problem: Some(reason.clone()), ..OfPage::default() };
    Report { problem: Some(reason), opens: false, words, of_page, ..report }
}

/// The types of a share, those with the most bytes first.
fn by_bytes(share: &Share) -> Vec<String> {
    let mut types: Vec<_> = share.types.iter().collect();
    types.sort_by_key(|(_, bytes)| std::cmp::Reverse(**bytes));
    types.into_iter().map(|(dtype, _)| dtype.clone()).collect()
}

impl Report {
    fn new(file: String, format: &'static str, identity: &Identity, metadata: &BTreeMap<String, String>) -> Self {
        let prediction = match identity.prediction {
            Some((prediction, _)) => Some(prediction.name()),
            None => (identity.is_drawable() && identity.family == Some(Family::Sd2)).then_some("undecided"),
        };
        let lora = identity.lora.as_ref().map(|lora| Lora {
            format: lora.format,
            spelling: lora.spelling.map(Layout::id),
            rank: lora.rank,
            ranks: lora.ranks.clone(),
            parts: lora.parts.clone(),
            layers: lora.n_layers,
            locon: lora.has_kernels,
            dora: lora.is_dora,
            embeddings: lora.n_embeddings,
        });
        let evidence = identity.prediction.map(|(_, evidence)| evidence);
        let of_few_steps = matches!(identity.kind, Kind::Checkpoint | Kind::Unet | Kind::Lora);
        let is_drawn = matches!(identity.family, None | Some(Family::Sd1 | Family::Sd2 | Family::Xl));
        let told = metadata.iter().map(|(key, text)| (key.as_str(), text.as_str()));
        let preset = Preset::suggest(&file, told);
        let mut report = Report {
            file,
            format,
            bytes: 0,
            tensors: 0,
            types: Vec::new(),
            kind: identity.kind.id(),
            family: identity.family.map(Family::id),
            variant: identity.variant,
            layout: identity.layout.map(Layout::id),
            components: Components {
                present: BTreeMap::new(),
                missing: identity.missing().into_iter().map(Component::folder).collect(),
            },
            leftovers: Share::default(),
            prediction,
            decided_by: evidence.map(Evidence::id),
            ztsnr: identity.zero_snr,
            lora,
            preset: preset.filter(|_| of_few_steps && is_drawn),
            vectors: identity.n_vectors,
            about: About::of(metadata),
            metadata: metadata.iter().map(|(key, text)| (key.clone(), about::cut(text, MAX_TEXT_CHARS))).collect(),
            opens: identity.is_model(),
            loads: None,
            refused: identity.is_refused,
            problem: identity.problem(Door::CommandLine),
            advice: Vec::new(),
            fits: None,
            of_page: OfPage { problem: identity.problem(Door::Page), advice: Vec::new() },
            words: Words {
                kind: identity.kind.name(),
                family: identity.family.map(Family::name),
                evidence: evidence.map(Evidence::name),
            },
        };
        report.advise(identity);
        report
    }

    /// What a file's tensors are parts of.
    fn count(&mut self, file: &dyn TensorSource, identity: &Identity) {
        let mut all = Share::default();
        let view = View { file, names: file.names() };
        let places = Places::of(&view, identity);
        // Of a UNet's average alone it cannot be said that no picture needs it.
        let has_left_overs = identity.variant != Some(EMA_ONLY);
        for name in &view.names {
            let Some(tensor) = file.tensor(name) else { continue };
            let dtype = tensor.dtype.name();
            all.add(dtype, tensor.n_bytes);
            match places.component(name) {
                Some(component) => self.components.present.entry(component).or_default().add(dtype, tensor.n_bytes),
                None if has_left_overs && is_left_over(name) => self.leftovers.add(dtype, tensor.n_bytes),
                None => {}
            }
        }
        self.tensors = all.tensors;
        self.types = by_bytes(&all);
    }

    /// Adds advice in the words of each door.
    fn add_advice(&mut self, words: impl Fn(Door) -> String) {
        self.advice.push(words(Door::CommandLine));
        self.of_page.advice.push(words(Door::Page));
    }

    fn set_problem(&mut self, problem: &str) {
        self.problem = Some(problem.to_owned());
        self.of_page.problem = Some(problem.to_owned());
    }

    fn advise(&mut self, identity: &Identity) {
        self.advice.clear();
        self.of_page.advice.clear();
        if identity.is_drawable() && !identity.is_published && self.format != "folder" {
            self.set_problem("its UNet has sizes of no published model");
            self.add_advice(|door| Remedy::Config.words(door).into());
        }
        if self.format == "folder" {
            for component in self.components.missing.clone() {
                if self.problem.is_none() {
                    self.set_problem(&format!("the folder has no weights of its {component}"));
                }
                self.add_advice(|_| format!("download the .safetensors files of {component}"));
            }
            return;
        }
        if self.prediction == Some("undecided") {
            self.add_advice(|door| {
                let what = "the file does not say whether it predicts noise or velocity";
                match door {
                    Door::CommandLine => format!(
                        "{what}: pass --prediction epsilon (for models of 512 pixels) or --prediction v (for those of 768)"
                    ),
                    Door::Page => format!(
                        "{what}: choose under Models noise (for models of 512 pixels) or velocity (for those of 768)"
                    ),
                }
            });
        }
        if !self.opens {
            return;
        }
        if self.components.missing.contains(&"vae") {
            self.add_advice(|door| format!("it has no VAE: {}", Remedy::Vae.words(door)));
        }
        if self.components.missing.iter().any(|name| name.starts_with("text_encoder")) {
            let family = identity.family.map_or("its family", Family::name);
            self.add_advice(|door| match door {
                Door::CommandLine => {
                    format!("it lacks a text encoder: pass --config FOLDER, a {family} that has one")
                }
                Door::Page => format!("it lacks a text encoder: choose a kept {family} that has one (`base`)"),
            });
        }
    }

    /// The same with what was found by opening it as a model: what drawing takes, or why it does not load.
    #[must_use]
    pub fn with_fit(mut self, fit: Result<Fit>) -> Self {
        self.loads = Some(fit.is_ok());
        match fit {
            Ok(fit) => {
                self.fits = Some(fit);
                // It came with the configuration that its sizes call for.
                if !self.opens {
                    self.opens = true;
                    self.problem = None;
                    self.advice.clear();
                    self.of_page = OfPage::default();
                }
            }
            Err(error) => {
                self.problem = Some(about::cut(&error.to_string(), MAX_TEXT_CHARS));
                self.of_page.problem = Some(about::cut(&error.message(Door::Page), MAX_TEXT_CHARS));
                if matches!(error, Error::TensorMissing { .. } | Error::TensorShape { .. }) && self.format != "folder" {
                    self.add_advice(|door| {
                        format!(
                            "the file is not whole, or a model with other sizes than the published one: download it again, or \
                             {}",
                            Remedy::Config.words(door)
                        )
                    });
                }
            }
        }
        self
    }

    /// The family as people say it.
    #[must_use]
    pub fn family_name(&self) -> Option<&'static str> {
        self.words.family
    }

    /// The same in the words of the page.
    #[must_use]
    pub fn for_page(mut self) -> Self {
        let OfPage { problem, advice } = std::mem::take(&mut self.of_page);
        Report { problem, advice, ..self }
    }
}

/// Which component a tensor belongs to, by its name.
struct Places<'a> {
    identity: &'a Identity,
    unet: Option<&'static str>,
    vae: Option<&'static str>,
}

impl<'a> Places<'a> {
    fn of(view: &View<'_>, identity: &'a Identity) -> Self {
        let has = |component| identity.components.contains(&component);
        Places {
            identity,
            unet: unet_place(view).map(|(prefix, _)| prefix).filter(|_| has(Component::Unet)),
            vae: vae_prefix(view).filter(|_| has(Component::Vae)),
        }
    }

    fn component(&self, name: &str) -> Option<&'static str> {
        let identity = self.identity;
        if is_left_over(name) || identity.components.is_empty() {
            return None;
        }
        if let [half] = identity.halves[..] {
            return Some(half);
        }
        if identity.kind == Kind::TinyVae {
            let of_encoder = name.starts_with("encoder.") || name.starts_with("taesd_encoder.");
            return Some(if of_encoder { "encoder" } else { "decoder" });
        }
        let starts = |prefix: Option<&str>| prefix.is_some_and(|prefix| !prefix.is_empty() && name.starts_with(prefix));
        if starts(self.unet) {
            return Some("unet");
        }
        if starts(self.vae) {
            return Some("vae");
        }
        let is_of = |starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
        let text = match () {
            () if is_of(&TEXT_2_STARTS) => Some(Component::TextEncoder2),
            () if is_of(&TEXT_STARTS) && identity.family == Some(Family::XlRefiner) => Some(Component::TextEncoder2),
            () if is_of(&TEXT_STARTS) => Some(Component::TextEncoder),
            () => None,
        };
        if let Some(text) = text {
            return identity.components.contains(&text).then(|| text.folder());
        }
        // Without prefixes everything else is the only component's; a whole CLIP also has a side for pictures.
        let is_visual = name.starts_with("vision_model.") || name.starts_with("visual");
        match (identity.kind, &identity.components[..]) {
            (Kind::TextEncoder, [text]) => (!is_visual).then(|| text.folder()),
            (Kind::Unet | Kind::Vae, [only]) => (self.unet == Some("") || self.vae == Some("")).then(|| only.folder()),
            _ => None,
        }
    }
}
