//! What a file of tensors is: a whole checkpoint or a part of one, a LoRA, a ControlNet, an embedding; of which family; and
//! what it predicts. Names, shapes and metadata decide, never the file's name.
//!
//! Sources: ComfyUI's `model_detection.py`, diffusers' `single_file_utils.py`, kohya's and Stability's `modelspec`.

use std::collections::BTreeMap;

use super::lora::LoraFacts;
use super::names::{UNET_PREFIXES, VAE_PREFIXES};
use super::{adapters, others};
use crate::hub::Component;
use crate::weights::TensorSource;

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A UNet with a text encoder or a VAE, or with both.
    Checkpoint,
    /// A UNet alone.
    Unet,
    /// An `AutoencoderKL` alone.
    Vae,
    /// A tiny autoencoder (TAESD), or a half of it.
    TinyVae,
    /// A text encoder alone.
    TextEncoder,
    /// Differences to a model's weights: LoRA, LoCon, LoHa, LoKr and kin.
    Lora,
    /// A ControlNet.
    Controlnet,
    /// A T2I-Adapter.
    T2iAdapter,
    /// An IP-Adapter.
    IpAdapter,
    /// Vectors for a word of the prompt (textual inversion).
    Embedding,
    /// A network that enlarges pictures (ESRGAN).
    PictureUpscaler,
    /// A model of another family than Stable Diffusion 1, 2 and XL, or a part of one.
    OtherModel,
    /// Something that goes with models and is none: a motion module, a language model.
    Other,
    /// None that is known.
    Unknown,
}

impl Kind {
    /// As words in a sentence.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Checkpoint => "checkpoint",
            Kind::Unet => "UNet alone",
            Kind::Vae => "VAE",
            Kind::TinyVae => "tiny VAE (TAESD)",
            Kind::TextEncoder => "text encoder",
            Kind::Lora => "LoRA",
            Kind::Controlnet => "ControlNet",
            Kind::T2iAdapter => "T2I-Adapter",
            Kind::IpAdapter => "IP-Adapter",
            Kind::Embedding => "textual inversion embedding",
            Kind::PictureUpscaler => "picture upscaler (ESRGAN)",
            Kind::OtherModel => "model of another family",
            Kind::Other => "file of another network",
            Kind::Unknown => "file of unknown tensors",
        }
    }

    /// As `darkroom inspect --json` spells it.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Kind::Checkpoint | Kind::OtherModel => "checkpoint",
            Kind::Unet => "unet",
            Kind::Vae => "vae",
            Kind::TinyVae => "taesd",
            Kind::TextEncoder => "text_encoder",
            Kind::Lora => "lora",
            Kind::Controlnet => "controlnet",
            Kind::T2iAdapter => "t2i_adapter",
            Kind::IpAdapter => "ip_adapter",
            Kind::Embedding => "embedding",
            Kind::PictureUpscaler | Kind::Other | Kind::Unknown => "other",
        }
    }
}

/// The family of models that a file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Stable Diffusion 1.
    Sd1,
    /// Stable Diffusion 2.
    Sd2,
    /// Stable Diffusion XL, and what is fine-tuned or distilled from it at its width.
    Xl,
    /// XL's refiner.
    XlRefiner,
    /// Another: its word in JSON and its name.
    Other(&'static str, &'static str),
}

impl Family {
    /// As people say it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Family::Sd1 => "Stable Diffusion 1",
            Family::Sd2 => "Stable Diffusion 2",
            Family::Xl => "Stable Diffusion XL",
            Family::XlRefiner => "Stable Diffusion XL Refiner",
            Family::Other(_, name) => name,
        }
    }

    /// As `darkroom inspect --json` spells it.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Family::Sd1 => "sd1",
            Family::Sd2 => "sd2",
            Family::Xl => "xl",
            Family::XlRefiner => "xl-refiner",
            Family::Other(id, _) => id,
        }
    }

    /// Whether it has XL's two text encoders and size conditioning.
    #[must_use]
    pub fn is_xl(self) -> bool {
        self == Family::Xl
    }

    /// The family whose text is `width` wide where attention reads it.
    pub(super) fn of_context(width: usize) -> Option<Self> {
        match width {
            768 => Some(Family::Sd1),
            1024 => Some(Family::Sd2),
            2048 => Some(Family::Xl),
            _ => None,
        }
    }
}

/// Whose names the tensors have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The original training code's: LDM, SGM, and OpenCLIP's for text.
    Ldm,
    /// diffusers' and transformers'.
    Diffusers,
    /// The layers of TAESD, numbered through.
    Taesd,
}

impl Layout {
    /// As `darkroom inspect --json` spells it.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Layout::Ldm => "ldm",
            Layout::Diffusers => "diffusers",
            Layout::Taesd => "taesd",
        }
    }
}

/// What a UNet takes beside noisy latents, by the number of its input channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Nothing: 4 channels.
    TextToImage,
    /// A mask and the masked picture: 9.
    Inpaint,
    /// A picture to edit by instruction: 8.
    InstructPix2pix,
    /// A depth map: 5.
    Depth,
    /// A small picture to enlarge: 7.
    Upscaler,
    /// An image's embedding.
    Unclip,
    /// Frames of a video.
    Video,
    /// None that is known.
    Unknown,
}

impl Task {
    fn of_channels(channels: usize) -> Self {
        match channels {
            4 => Task::TextToImage,
            9 => Task::Inpaint,
            8 => Task::InstructPix2pix,
            5 => Task::Depth,
            7 => Task::Upscaler,
            _ => Task::Unknown,
        }
    }

    /// As people say it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Task::TextToImage => "text to image",
            Task::Inpaint => "inpainting",
            Task::InstructPix2pix => "InstructPix2Pix",
            Task::Depth => "depth to image",
            Task::Upscaler => "latent upscaling",
            Task::Unclip => "unCLIP (variations of a picture)",
            Task::Video => "video",
            Task::Unknown => "an unknown task",
        }
    }

    /// As `darkroom inspect --json` spells it, as the variant of a family.
    fn id(self) -> &'static str {
        match self {
            Task::TextToImage => "base",
            Task::Inpaint => "inpaint",
            Task::InstructPix2pix => "pix2pix",
            Task::Depth => "depth",
            Task::Upscaler => "upscaler",
            Task::Unclip => "unclip",
            Task::Video => "video",
            Task::Unknown => "unknown",
        }
    }
}

/// What a UNet predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prediction {
    /// The noise.
    Epsilon,
    /// The velocity.
    Velocity,
}

impl Prediction {
    /// As `--prediction` spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Prediction::Epsilon => "epsilon",
            Prediction::Velocity => "v",
        }
    }

    /// As `scheduler_config.json` spells it.
    #[must_use]
    pub fn config_name(self) -> &'static str {
        match self {
            Prediction::Epsilon => "epsilon",
            Prediction::Velocity => "v_prediction",
        }
    }
}

impl std::str::FromStr for Prediction {
    type Err = crate::Error;

    fn from_str(text: &str) -> crate::Result<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "epsilon" | "eps" => Ok(Prediction::Epsilon),
            "v" | "v_prediction" | "v-prediction" | "velocity" => Ok(Prediction::Velocity),
            _ => Err(crate::Error::Request {
                field: "prediction",
                got: format!("{text:?}"),
                expected: "use epsilon or v".to_owned(),
            }),
        }
    }
}

/// How what a UNet predicts was found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Somebody said so.
    Asked,
    /// The `prediction_type` of a scheduler's configuration.
    Config,
    /// A tensor `v_pred` in the file.
    Marker,
    /// The file's metadata.
    Metadata,
    /// A `.yaml` beside the file.
    Yaml,
    /// Models of this family were all trained so, unless something says otherwise.
    Family,
    /// A Stable Diffusion 2 with more input channels than latents have was trained on epsilon.
    Channels,
    /// The spread of one norm's biases (ComfyUI's rule).
    Weights,
}

impl Evidence {
    /// As the end of a sentence.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Evidence::Asked => "as asked for",
            Evidence::Config => "by the scheduler's configuration",
            Evidence::Marker => "by the tensor v_pred in the file",
            Evidence::Metadata => "by the file's metadata",
            Evidence::Yaml => "by the .yaml beside the file",
            Evidence::Family => "the default of its family",
            Evidence::Channels => "by its input channels",
            Evidence::Weights => "judging by the weights (the spread of a norm's biases)",
        }
    }

    /// As `darkroom inspect --json` spells it.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Evidence::Asked => "asked",
            Evidence::Config => "config",
            Evidence::Marker => "keys",
            Evidence::Metadata => "metadata",
            Evidence::Yaml => "yaml",
            Evidence::Family => "default",
            Evidence::Channels => "channels",
            Evidence::Weights => "weights",
        }
    }

    /// Whether it is a rule about files of this kind and says nothing about this one.
    pub(super) fn is_rule(self) -> bool {
        matches!(self, Evidence::Family | Evidence::Channels)
    }
}

/// What a file is.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// The kind.
    pub kind: Kind,
    /// The family, where it can be told.
    pub family: Option<Family>,
    /// Which of the family: `base`, `inpaint`, `ssd-1b` and so on, where it can be told.
    pub variant: Option<&'static str>,
    /// What the UNet does, where there is one.
    pub task: Option<Task>,
    /// Whose names the tensors have, where it is of importance.
    pub layout: Option<Layout>,
    /// The components that are there, whole or not.
    pub components: Vec<Component>,
    /// Which halves of a tiny VAE are there.
    pub halves: Vec<&'static str>,
    /// What the UNet predicts; `None` without one and where the file does not tell.
    pub prediction: Option<(Prediction, Evidence)>,
    /// Whether the noise schedule ends without any signal (`ztsnr`).
    pub zero_snr: bool,
    /// What a LoRA consists of.
    pub lora: Option<LoraFacts>,
    /// Vectors of an embedding.
    pub n_vectors: Option<usize>,
    /// Why it cannot be drawn with, and what would work.
    pub obstacle: Option<String>,
    /// Whether it is of no use here in any place, neither as a model nor beside one.
    pub is_refused: bool,
}

impl Identity {
    pub(super) fn of_kind(kind: Kind) -> Self {
        Identity {
            kind,
            family: None,
            variant: None,
            task: None,
            layout: None,
            components: Vec::new(),
            halves: Vec::new(),
            prediction: None,
            zero_snr: false,
            lora: None,
            n_vectors: None,
            obstacle: None,
            is_refused: false,
        }
    }

    /// Looks at the names and shapes of a file's tensors and at its metadata.
    #[must_use]
    pub fn of(file: &dyn TensorSource, metadata: &BTreeMap<String, String>) -> Self {
        let view = View { file, names: file.names() };
        let identity = adapters::look(&view, metadata)
            .or_else(|| model(&view, metadata))
            .or_else(|| others::look(&view))
            .or_else(|| part(&view));
        identity.unwrap_or_else(|| Identity {
            obstacle: Some("its tensors have names of no model that is known".into()),
            is_refused: true,
            ..Identity::of_kind(Kind::Unknown)
        })
    }

    /// Whether it is a model that can be drawn with; what it lacks may come from elsewhere.
    #[must_use]
    pub fn is_model(&self) -> bool {
        matches!(self.kind, Kind::Checkpoint | Kind::Unet) && self.obstacle.is_none() && self.family.is_some()
    }

    /// The components that a model of this family has and this file does not; none where it is no model.
    #[must_use]
    pub fn missing(&self) -> Vec<Component> {
        let all = match (self.kind, self.family) {
            (Kind::Checkpoint | Kind::Unet, Some(Family::Sd1 | Family::Sd2)) => &XL_COMPONENTS[..3],
            (Kind::Checkpoint | Kind::Unet, Some(Family::Xl)) => &XL_COMPONENTS[..],
            (Kind::Checkpoint | Kind::Unet, Some(Family::XlRefiner)) => &REFINER_COMPONENTS[..],
            _ => &[],
        };
        all.iter().copied().filter(|component| !self.components.contains(component)).collect()
    }
}

/// The components with weights of a Stable Diffusion XL; without the last one, of 1 and 2.
const XL_COMPONENTS: [Component; 4] =
    [Component::Unet, Component::Vae, Component::TextEncoder, Component::TextEncoder2];

/// Those of XL's refiner.
const REFINER_COMPONENTS: [Component; 3] = [Component::Unet, Component::Vae, Component::TextEncoder2];

/// The file's tensors, for questions.
pub(super) struct View<'a> {
    pub file: &'a dyn TensorSource,
    pub names: Vec<&'a str>,
}

impl View<'_> {
    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.file.tensor(name).map(|tensor| tensor.shape)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.file.tensor(name).is_some()
    }

    pub(super) fn any(&self, test: impl Fn(&str) -> bool) -> bool {
        self.names.iter().any(|name| test(name))
    }

    pub(super) fn starts(&self, start: &str) -> bool {
        let at = self.names.partition_point(|name| *name < start);
        self.names.get(at).is_some_and(|name| name.starts_with(start))
    }

    /// The last side of the first tensor whose name ends so.
    pub(super) fn last_side(&self, start: &str, end: &str) -> Option<usize> {
        let name = self.names.iter().find(|name| name.starts_with(start) && name.ends_with(end))?;
        self.shape(name)?.get(1).copied()
    }

    /// How many numbers from 0 on follow `start`.
    pub(super) fn count(&self, start: &str) -> usize {
        (0..).take_while(|number| self.starts(&format!("{start}{number}."))).count()
    }
}

/// Where the UNet is: its prefix, and whether its names are the original layout's.
pub(super) fn unet_place(view: &View<'_>) -> Option<(&'static str, bool)> {
    UNET_PREFIXES.iter().find_map(|prefix| {
        if view.has(&format!("{prefix}input_blocks.0.0.weight")) {
            return Some((*prefix, true));
        }
        let is_diffusers = view.has(&format!("{prefix}conv_in.weight"))
            && view.has(&format!("{prefix}time_embedding.linear_1.weight"));
        is_diffusers.then_some((*prefix, false))
    })
}

pub(super) fn vae_prefix(view: &View<'_>) -> Option<&'static str> {
    VAE_PREFIXES.into_iter().find(|prefix| view.has(&format!("{prefix}decoder.conv_in.weight")))
}

/// Marks of weights in a quantised form that is not read.
const QUANTISED: [(&str, &str); 4] = [
    (".weight_scale", "integers with scales"),
    (".comfy_quant", "ComfyUI's quantised form"),
    (".absmax", "bitsandbytes"),
    (".qweight", "GPTQ"),
];

/// A UNet of Stable Diffusion 1, 2 or XL, with whatever comes with it.
fn model(view: &View<'_>, metadata: &BTreeMap<String, String>) -> Option<Identity> {
    let (prefix, is_ldm) = unet_place(view)?;
    let conv_in = if is_ldm { "input_blocks.0.0.weight" } else { "conv_in.weight" };
    let channels = view.shape(&format!("{prefix}{conv_in}"))?.get(1).copied()?;
    let context = view.last_side(prefix, "attn2.to_k.weight");
    let label = if is_ldm { "label_emb.0.0.weight" } else { "add_embedding.linear_1.weight" };
    let label = view.shape(&format!("{prefix}{label}")).and_then(|shape| shape.get(1)).copied();
    let deep = if is_ldm { "input_blocks.7.1.transformer_blocks." } else { "down_blocks.2.attentions.0.transformer_blocks." };
    let depth = view.count(&format!("{prefix}{deep}"));
    let has = |name: &str| view.has(name);
    let mut task = Task::of_channels(channels);
    let mut variant = None;
    let mut obstacle = None;
    let family = match (context, label) {
        (Some(768), None) => Some(Family::Sd1),
        (Some(1024), None) => Some(Family::Sd2),
        (Some(1024), Some(768)) if view.any(|name| name.contains(".time_stack.") || name.contains(".temporal_")) => {
            task = Task::Video;
            Some(Family::Other("svd", "Stable Video Diffusion"))
        }
        (Some(1024), Some(_)) => {
            task = Task::Unclip;
            Some(Family::Sd2)
        }
        (Some(2048), Some(2816)) => {
            variant = match (depth, task) {
                (10, _) | (_, Task::Inpaint) => None,
                (4, _) => Some("ssd-1b"),
                (2, _) => Some("vega"),
                _ => Some("distilled"),
            };
            Some(Family::Xl)
        }
        (Some(2048), Some(5632)) => Some(Family::Other("kolors", "Kolors")),
        (Some(1280), Some(_)) => Some(Family::XlRefiner),
        _ => None,
    };
    let variant = if has("edm_vpred.sigma_max") || has("edm_vpred.sigma_min") {
        obstacle = Some("this is CosXL, whose noise levels (EDM) are not supported: use an XL model".into());
        Some("cosxl")
    } else if has("edm_mean") || has("edm_std") {
        obstacle = Some(
            "this is Playground 2.5 in one file, whose noise levels (EDM) are described in its folder alone: use \
             playgroundai/playground-v2.5-1024px-aesthetic"
                .into(),
        );
        Some("playground-v2.5")
    } else if has("cc_projection.weight") {
        obstacle = Some("this is Zero123, which turns an object in a picture: use a model for text to image".into());
        Some("zero123")
    } else {
        variant.or_else(|| family.is_some().then(|| task.id()))
    };
    let quantised = QUANTISED.iter().find(|(end, _)| view.any(|name| name.starts_with(prefix) && name.ends_with(end)));
    match (family, task) {
        _ if obstacle.is_some() => {}
        (Some(Family::Other(_, name)), _) => obstacle = Some(others::refuse(name)),
        (Some(Family::XlRefiner), _) => {
            obstacle = Some("this is XL's refiner, which only works on what the base model began: use the base model".into());
        }
        (_, Task::TextToImage | Task::Inpaint) => {
            obstacle = quantised.map(|(_, form)| {
                format!("its weights are quantised ({form}), which is not read: take the f16, bf16, fp8 or GGUF file of it")
            });
        }
        (_, task) => {
            let what = format!("its UNet takes {channels} channels, for {}", task.name());
            obstacle = Some(format!("{what}: models for text to image (4) and inpainting (9) can be drawn with"));
        }
    }
    let mut components = vec![Component::Unet];
    if vae_prefix(view).is_some() {
        components.push(Component::Vae);
    }
    components.extend(text_encoders(view, family));
    components.sort();
    let kind = if components.len() > 1 { Kind::Checkpoint } else { Kind::Unet };
    // Quantised weights are told what they predict like others; what is no model for pictures is not.
    let prediction = match obstacle.is_none() || quantised.is_some() {
        true => prediction_of(view, metadata, family, task),
        false => None,
    };
    let zero_snr = has("ztsnr") || said(metadata, "ss_zero_terminal_snr").as_deref() == Some("true");
    let layout = Some(if is_ldm { Layout::Ldm } else { Layout::Diffusers });
    let is_refused = obstacle.is_some();
    let model = Identity { family, variant, layout, components, prediction, zero_snr, obstacle, is_refused, ..Identity::of_kind(kind) };
    Some(Identity { task: Some(task), ..model })
}

/// A word of the metadata, in lower case.
pub(super) fn said(metadata: &BTreeMap<String, String>, key: &str) -> Option<String> {
    metadata.get(key).map(|text| text.trim().to_ascii_lowercase())
}

/// What the file itself says about its prediction. Stable Diffusion 2 for text to image says nothing in its names.
fn prediction_of(
    view: &View<'_>,
    metadata: &BTreeMap<String, String>,
    family: Option<Family>,
    task: Task,
) -> Option<(Prediction, Evidence)> {
    if view.has("v_pred") {
        return Some((Prediction::Velocity, Evidence::Marker));
    }
    if let Some(prediction) = prediction_of_metadata(metadata) {
        return Some((prediction, Evidence::Metadata));
    }
    match (family?, task) {
        (Family::Sd2, Task::TextToImage) => None,
        (Family::Sd2, _) => Some((Prediction::Epsilon, Evidence::Channels)),
        _ => Some((Prediction::Epsilon, Evidence::Family)),
    }
}

/// What the metadata says: Stability's `modelspec`, ComfyUI's word in it, kohya's own.
fn prediction_of_metadata(metadata: &BTreeMap<String, String>) -> Option<Prediction> {
    for key in ["modelspec.prediction_type", "modelspec.predict_key"] {
        match said(metadata, key).as_deref() {
            Some("epsilon" | "eps") => return Some(Prediction::Epsilon),
            Some("v" | "v_prediction" | "v-prediction") => return Some(Prediction::Velocity),
            _ => {}
        }
    }
    let architecture = said(metadata, "modelspec.architecture").unwrap_or_default();
    match architecture.split('/').next() {
        Some("stable-diffusion-v2-768-v") => return Some(Prediction::Velocity),
        Some("stable-diffusion-v2-512") => return Some(Prediction::Epsilon),
        _ => {}
    }
    match said(metadata, "ss_v_parameterization").as_deref() {
        Some("true") => Some(Prediction::Velocity),
        Some("false") => Some(Prediction::Epsilon),
        _ => None,
    }
}

/// What a `.yaml` beside a checkpoint says: `parameterization: "v"` means velocity; without the word the original code
/// predicts noise.
#[must_use]
pub fn prediction_of_yaml(text: &str) -> Option<Prediction> {
    let value = text.lines().find_map(|line| line.trim().strip_prefix("parameterization:"));
    match value.map(|value| value.split('#').next().unwrap_or(value).trim().trim_matches(['"', '\''])) {
        Some("v") => Some(Prediction::Velocity),
        Some("eps") => Some(Prediction::Epsilon),
        Some(_) => None,
        None => text.contains("LatentDiffusion").then_some(Prediction::Epsilon),
    }
}

/// In front of the names of a checkpoint's first text encoder.
pub(super) const TEXT_STARTS: [&str; 4] =
    ["cond_stage_model.", "conditioner.embedders.0.", "text_encoder.", "text_encoders.clip_l."];

/// In front of those of the second one, which are more exact.
pub(super) const TEXT_2_STARTS: [&str; 6] = [
    "conditioner.embedders.1.",
    "cond_stage_model.1.",
    "cond_stage_model.clip_g.",
    "text_encoder_2.",
    "text_encoders.clip_g.",
    "cond_stage_model.text_encoder_2.",
];

/// The text encoders that a checkpoint has. The refiner's only one is XL's second.
fn text_encoders(view: &View<'_>, family: Option<Family>) -> Vec<Component> {
    let is_text = |starts: &[&str], but: &[&str]| {
        view.any(|name| {
            name.ends_with("token_embedding.weight")
                && starts.iter().any(|start| name.starts_with(start))
                && !but.iter().any(|start| name.starts_with(start))
        })
    };
    let mut found = Vec::new();
    if is_text(&TEXT_STARTS, &TEXT_2_STARTS) {
        let is_refiner = family == Some(Family::XlRefiner);
        found.push(if is_refiner { Component::TextEncoder2 } else { Component::TextEncoder });
    }
    if is_text(&TEXT_2_STARTS, &[]) {
        found.push(Component::TextEncoder2);
    }
    found.dedup();
    found
}

/// A component alone that is no UNet.
fn part(view: &View<'_>) -> Option<Identity> {
    tiny_vae(view).or_else(|| vae(view)).or_else(|| text_encoder(view))
}

/// TAESD or a half of it.
fn tiny_vae(view: &View<'_>) -> Option<Identity> {
    // diffusers numbers the decoder's layers from 0, its author from 1.
    const HALVES: [(&str, &str, &str, usize, Layout); 6] = [
        ("encoder", "encoder.layers.", "0.weight", 3, Layout::Diffusers),
        ("decoder", "decoder.layers.", "0.weight", 4, Layout::Diffusers),
        ("encoder", "taesd_encoder.", "0.weight", 3, Layout::Taesd),
        ("decoder", "taesd_decoder.", "1.weight", 4, Layout::Taesd),
        ("encoder", "", "0.weight", 3, Layout::Taesd),
        ("decoder", "", "1.weight", 4, Layout::Taesd),
    ];
    if !view.any(|name| name.ends_with(".conv.0.weight")) {
        return None;
    }
    let mut halves = Vec::new();
    let mut found = None;
    let mut latents = None;
    for (half, prefix, first, channels, layout) in HALVES {
        let shape = view.shape(&format!("{prefix}{first}"));
        let Some(&[width, ins, 3, 3]) = shape else { continue };
        // Without a prefix, what goes in tells which half it is: 3 colours, or latents.
        if prefix.is_empty() && (halves.contains(&half) || (half == "encoder") != (ins == channels && channels == 3)) {
            continue;
        }
        if half == "decoder" {
            latents = Some(ins);
        } else {
            let ends = |name: &&&str| name.strip_prefix(prefix).is_some_and(|rest| rest.matches('.').count() == 1);
            let last = view.names.iter().filter(ends).filter_map(|name| view.shape(name)).find(|shape| {
                matches!(shape, &&[outs, ins, 3, 3] if ins == width && outs != width)
            });
            latents = latents.or_else(|| last.and_then(|shape| shape.first().copied()));
        }
        halves.push(half);
        found = Some(layout);
    }
    let layout = Some(found?);
    let is_other = latents.is_some_and(|latents| latents != 4);
    let (family, obstacle) = match latents {
        Some(16) => {
            (Some(Family::Other("sd3", "Stable Diffusion 3")), others::refuse("a tiny VAE of 16 channels (Stable Diffusion 3, Flux)"))
        }
        _ => (None, "a tiny VAE is a part of a model: pass it with --taesd".to_owned()),
    };
    halves.sort_unstable();
    let components = vec![Component::Vae];
    let tiny = Identity { family, layout, halves, components, is_refused: is_other, ..Identity::of_kind(Kind::TinyVae) };
    Some(Identity { obstacle: Some(obstacle), ..tiny })
}

/// A VAE of full size.
fn vae(view: &View<'_>) -> Option<Identity> {
    let prefix = vae_prefix(view)?;
    let channels = view.shape(&format!("{prefix}decoder.conv_in.weight"))?.get(1).copied();
    let is_ldm = view.starts(&format!("{prefix}decoder.mid.")) || view.starts(&format!("{prefix}decoder.up."));
    let layout = Some(if is_ldm { Layout::Ldm } else { Layout::Diffusers });
    let (variant, obstacle) = match channels {
        Some(4) | None => (None, "a VAE is a part of a model: pass it with --vae".to_owned()),
        Some(16) => (Some("16-channels"), others::refuse("a VAE of 16 channels (Stable Diffusion 3, Flux)")),
        Some(n) => (Some("other-channels"), others::refuse(&format!("a VAE of {n} channels"))),
    };
    let components = vec![Component::Vae];
    let is_refused = variant.is_some();
    let vae = Identity { variant, layout, components, is_refused, ..Identity::of_kind(Kind::Vae) };
    Some(Identity { obstacle: Some(obstacle), ..vae })
}

/// CLIP's or OpenCLIP's text side, or a whole CLIP.
fn text_encoder(view: &View<'_>) -> Option<Identity> {
    let name = view.names.iter().find(|name| name.ends_with("token_embedding.weight"))?;
    let width = view.shape(name)?.get(1).copied()?;
    let is_ldm = view.any(|name| name.contains("resblocks."));
    let layout = Some(if is_ldm { Layout::Ldm } else { Layout::Diffusers });
    let (family, variant, component) = match width {
        768 => (None, Some("clip-l"), Component::TextEncoder),
        1024 => (Some(Family::Sd2), Some("open-clip-h"), Component::TextEncoder),
        1280 => (Some(Family::Xl), Some("open-clip-g"), Component::TextEncoder2),
        _ => (None, None, Component::TextEncoder),
    };
    let obstacle = Some("a text encoder is a part of a model: use it in the folder of one (--config FOLDER)".to_owned());
    let text = Identity { family, variant, layout, obstacle, ..Identity::of_kind(Kind::TextEncoder) };
    Some(Identity { components: vec![component], ..text })
}
