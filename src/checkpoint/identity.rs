//! What a file of tensors is: a whole checkpoint or a part of one, a LoRA, a ControlNet, an embedding; of which family; and
//! what it predicts. Names, shapes and metadata decide, never the file's name.
//!
//! Sources: ComfyUI's `model_detection.py`, diffusers' `single_file_utils.py`, kohya's and Stability's `modelspec`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::lora;
use super::names::{UNET_PREFIXES, VAE_PREFIXES};
use crate::hub::Component;
use crate::weights::TensorSource;

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
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
    /// A transformer of another family than Stable Diffusion 1, 2 and XL.
    OtherModel,
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
            Kind::Unknown => "file of unknown tensors",
        }
    }
}

/// The family of models that a file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Family {
    /// Stable Diffusion 1.
    #[serde(rename = "sd1")]
    Sd1,
    /// Stable Diffusion 2.
    #[serde(rename = "sd2")]
    Sd2,
    /// Stable Diffusion XL, and what is fine-tuned or distilled from it at its size.
    #[serde(rename = "xl")]
    Xl,
    /// XL's refiner.
    #[serde(rename = "xl-refiner")]
    XlRefiner,
    /// XL with half the transformer blocks.
    #[serde(rename = "ssd-1b")]
    Ssd1b,
    /// XL with a quarter of them.
    #[serde(rename = "vega")]
    Vega,
    /// Another, by name.
    #[serde(untagged)]
    Other(&'static str),
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
            Family::Ssd1b => "SSD-1B (a smaller XL)",
            Family::Vega => "Segmind Vega (a smaller XL)",
            Family::Other(name) => name,
        }
    }

    /// Whether it has XL's two text encoders and size conditioning.
    #[must_use]
    pub fn is_xl(self) -> bool {
        matches!(self, Family::Xl | Family::Ssd1b | Family::Vega)
    }
}

/// What a UNet takes beside noisy latents, by the number of its input channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
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
}

/// What a UNet predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub enum Prediction {
    /// The noise.
    #[serde(rename = "epsilon")]
    Epsilon,
    /// The velocity.
    #[serde(rename = "v")]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
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
    /// Models of this family and task were all trained so.
    Family,
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
            Evidence::Family => "as all models of this kind",
            Evidence::Weights => "judging by the weights (the spread of a norm's biases)",
        }
    }
}

/// What a file is.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// The kind.
    pub kind: Kind,
    /// The family, where it can be told.
    pub family: Option<Family>,
    /// What the UNet does, where there is one.
    pub task: Option<Task>,
    /// The components that are there, whole or not.
    pub components: Vec<Component>,
    /// What the UNet predicts; `None` without one and where the file does not tell.
    pub prediction: Option<(Prediction, Evidence)>,
    /// Whether the noise schedule ends without any signal (`ztsnr`).
    pub zero_snr: bool,
    /// The rank of a LoRA, smallest and largest.
    pub rank: Option<(usize, usize)>,
    /// The forms of a LoRA's layers: `lora`, `loha` and so on.
    pub forms: Vec<&'static str>,
    /// Vectors of an embedding.
    pub n_vectors: Option<usize>,
    /// Why it cannot be drawn with, and what would work.
    pub obstacle: Option<String>,
}

impl Identity {
    fn of_kind(kind: Kind) -> Self {
        Identity {
            kind,
            family: None,
            task: None,
            components: Vec::new(),
            prediction: None,
            zero_snr: false,
            rank: None,
            forms: Vec::new(),
            n_vectors: None,
            obstacle: None,
        }
    }

    /// Looks at the names and shapes of a file's tensors and at its metadata.
    #[must_use]
    pub fn of(file: &dyn TensorSource, metadata: &BTreeMap<String, String>) -> Self {
        let view = View { file, names: file.names() };
        let identity = adapter(&view, metadata)
            .or_else(|| model(&view, metadata))
            .or_else(|| other_model(&view))
            .or_else(|| part(&view));
        identity.unwrap_or_else(|| Identity {
            obstacle: Some("its tensors have names of no model that is known".into()),
            ..Identity::of_kind(Kind::Unknown)
        })
    }
}

/// The file's tensors, for questions.
pub(super) struct View<'a> {
    pub file: &'a dyn TensorSource,
    pub names: Vec<&'a str>,
}

impl View<'_> {
    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.file.tensor(name).map(|tensor| tensor.shape)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.file.tensor(name).is_some()
    }

    pub(super) fn any(&self, test: impl Fn(&str) -> bool) -> bool {
        self.names.iter().any(|name| test(name))
    }

    fn starts(&self, start: &str) -> bool {
        let at = self.names.partition_point(|name| *name < start);
        self.names.get(at).is_some_and(|name| name.starts_with(start))
    }

    /// The last side of the first tensor whose name ends so.
    fn last_side(&self, start: &str, end: &str) -> Option<usize> {
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

fn vae_prefix(view: &View<'_>) -> Option<&'static str> {
    VAE_PREFIXES.into_iter().find(|prefix| view.has(&format!("{prefix}decoder.conv_in.weight")))
}

/// A UNet of Stable Diffusion 1, 2 or XL, with whatever comes with it.
fn model(view: &View<'_>, metadata: &BTreeMap<String, String>) -> Option<Identity> {
    let (prefix, is_ldm) = unet_place(view)?;
    let conv_in = if is_ldm { "input_blocks.0.0.weight" } else { "conv_in.weight" };
    let channels = view.shape(&format!("{prefix}{conv_in}"))?.get(1).copied()?;
    let context = view.last_side(prefix, "attn2.to_k.weight");
    let label = if is_ldm { "label_emb.0.0.weight" } else { "add_embedding.linear_1.weight" };
    let label = view.shape(&format!("{prefix}{label}")).and_then(|shape| shape.get(1)).copied();
    let deep =
        if is_ldm { "input_blocks.7.1.transformer_blocks." } else { "down_blocks.2.attentions.0.transformer_blocks." };
    let depth = view.count(&format!("{prefix}{deep}"));
    let mut task = Task::of_channels(channels);
    let mut obstacle = None;
    let refuse = |what: &str| Some(format!("{what}: Stable Diffusion 1, 2 and XL can be drawn with"));
    let family = match (context, label) {
        (Some(768), None) => Some(Family::Sd1),
        (Some(1024), None) => Some(Family::Sd2),
        (Some(1024), Some(768)) if view.any(|name| name.contains("time_stack") || name.contains("temporal")) => {
            task = Task::Video;
            Some(Family::Other("Stable Video Diffusion"))
        }
        (Some(1024), Some(_)) => {
            task = Task::Unclip;
            Some(Family::Sd2)
        }
        (Some(2048), Some(2816)) => match depth {
            4 => Some(Family::Ssd1b),
            2 => Some(Family::Vega),
            _ => Some(Family::Xl),
        },
        (Some(2048), Some(5632)) => Some(Family::Other("Kolors")),
        (Some(1280), Some(_)) => Some(Family::XlRefiner),
        _ => None,
    };
    match (family, task) {
        (Some(family @ Family::Other(_)), _) => obstacle = refuse(&format!("this is {}", family.name())),
        (Some(Family::XlRefiner), _) => {
            obstacle =
                Some("this is XL's refiner, which only works on what the base model began: use the base model".into());
        }
        (_, Task::TextToImage | Task::Inpaint) => {}
        (_, task) => {
            let what = format!("its UNet takes {channels} channels, for {}", task.name());
            obstacle = Some(format!("{what}: models for text to image (4) and inpainting (9) can be drawn with"));
        }
    }
    let has = |name: &str| view.has(name);
    if has("edm_vpred.sigma_max") || has("edm_vpred.sigma_min") {
        obstacle = Some("this is CosXL, whose noise levels (EDM) are not supported: use an XL model".into());
    } else if has("edm_mean") || has("edm_std") {
        obstacle = Some(
            "this is Playground 2.5 in one file, whose noise levels (EDM) are described in its folder alone: use \
             playgroundai/playground-v2.5-1024px-aesthetic"
                .into(),
        );
    }
    let mut components = vec![Component::Unet];
    if vae_prefix(view).is_some() {
        components.push(Component::Vae);
    }
    components.extend(text_encoders(view));
    components.sort();
    let kind = if components.len() > 1 { Kind::Checkpoint } else { Kind::Unet };
    let prediction = prediction_of(view, metadata, family, task);
    let zero_snr = has("ztsnr");
    Some(Identity { family, task: Some(task), components, prediction, zero_snr, obstacle, ..Identity::of_kind(kind) })
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
    match (family, task) {
        (Some(Family::Sd2), Task::TextToImage) | (None, _) => None,
        _ => Some((Prediction::Epsilon, Evidence::Family)),
    }
}

/// `modelspec.prediction_type`, or an architecture that tells it; also kohya's `ss_v_parameterization` is of use in models
/// that its trainer saved.
fn prediction_of_metadata(metadata: &BTreeMap<String, String>) -> Option<Prediction> {
    let of = |key: &str| metadata.get(key).map(|text| text.trim().to_ascii_lowercase());
    match of("modelspec.prediction_type").as_deref() {
        Some("epsilon") => return Some(Prediction::Epsilon),
        Some("v" | "v_prediction" | "v-prediction") => return Some(Prediction::Velocity),
        _ => {}
    }
    match of("modelspec.architecture").as_deref() {
        Some("stable-diffusion-v2-768-v") => Some(Prediction::Velocity),
        Some("stable-diffusion-v2-512" | "stable-diffusion-v1") => Some(Prediction::Epsilon),
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

/// The text encoders that a checkpoint has.
fn text_encoders(view: &View<'_>) -> Vec<Component> {
    const FIRST: [&str; 3] = ["cond_stage_model.", "conditioner.embedders.0.", "text_encoder."];
    const SECOND: [&str; 4] =
        ["conditioner.embedders.1.", "cond_stage_model.1.", "cond_stage_model.clip_g.", "text_encoder_2."];
    let is_text = |starts: &[&str], but: &[&str]| {
        view.any(|name| {
            name.ends_with("token_embedding.weight")
                && starts.iter().any(|start| name.starts_with(start))
                && !but.iter().any(|start| name.starts_with(start))
        })
    };
    let mut found = Vec::new();
    if is_text(&FIRST, &SECOND) {
        found.push(Component::TextEncoder);
    }
    if is_text(&SECOND, &[]) {
        found.push(Component::TextEncoder2);
    }
    found
}

/// What changes or steers a model: LoRA, ControlNet, adapters, embeddings.
fn adapter(view: &View<'_>, metadata: &BTreeMap<String, String>) -> Option<Identity> {
    if let Some(found) = lora::look(view) {
        let family = lora::family(view).or_else(|| lora::family_of_metadata(metadata));
        let obstacle = Some(match family {
            Some(family) => format!("a LoRA changes a model and is none: it is for {}", family.name()),
            None => "a LoRA changes a model and is none".into(),
        });
        let (rank, forms) = (found.rank, found.forms);
        return Some(Identity { family, rank, forms, obstacle, ..Identity::of_kind(Kind::Lora) });
    }
    if let Some(identity) = controlnet(view) {
        return Some(identity);
    }
    let refuse = |kind: Kind, what: &str| {
        Some(Identity { obstacle: Some(format!("{what} steers a model and is none")), ..Identity::of_kind(kind) })
    };
    if view.starts("image_proj.") || view.starts("ip_adapter.") {
        let family = match view.last_side("ip_adapter.", "to_k_ip.weight") {
            Some(768) => Some(Family::Sd1),
            Some(2048) => Some(Family::Xl),
            _ => None,
        };
        return refuse(Kind::IpAdapter, "an IP-Adapter").map(|identity| Identity { family, ..identity });
    }
    if view.starts("adapter.body.") || view.starts("body.0.") {
        return refuse(Kind::T2iAdapter, "a T2I-Adapter");
    }
    embedding(view)
}

fn controlnet(view: &View<'_>) -> Option<Identity> {
    let prefix = ["control_model.", ""].into_iter().find(|prefix| {
        view.has(&format!("{prefix}input_hint_block.0.weight"))
            || view.has(&format!("{prefix}controlnet_cond_embedding.conv_in.weight"))
            || view.starts(&format!("{prefix}zero_convs.0."))
    });
    let is_lora = view.has("lora_controlnet");
    if prefix.is_none() && !is_lora {
        return None;
    }
    let family = match view.last_side(prefix.unwrap_or_default(), "attn2.to_k.weight") {
        Some(768) => Some(Family::Sd1),
        Some(1024) => Some(Family::Sd2),
        Some(2048) => Some(Family::Xl),
        _ => None,
    };
    let what = if is_lora { "a Control-LoRA" } else { "a ControlNet" };
    let obstacle = Some(format!("{what} steers a model and is none"));
    Some(Identity { family, obstacle, ..Identity::of_kind(Kind::Controlnet) })
}

/// Vectors for a word.
fn embedding(view: &View<'_>) -> Option<Identity> {
    const MOST_VECTORS: usize = 1000;
    let vectors = |name: &str| match view.shape(name)? {
        &[width] => Some((1, width)),
        &[n, width] if n <= MOST_VECTORS => Some((n, width)),
        _ => None,
    };
    let (n_vectors, family) = if let (Some((n, _)), true) = (vectors("clip_l"), view.has("clip_g")) {
        (n, Some(Family::Xl))
    } else {
        let name = if view.has("emb_params") { "emb_params" } else { view.names.first()? };
        if view.names.len() != 1 && name != "emb_params" {
            return None;
        }
        let (n, width) = vectors(name)?;
        match width {
            768 => (n, Some(Family::Sd1)),
            1024 => (n, Some(Family::Sd2)),
            1280 => (n, Some(Family::Xl)),
            _ if name == "emb_params" => (n, None),
            _ => return None,
        }
    };
    let obstacle = Some("an embedding is a word for a model and is none".into());
    Some(Identity { family, n_vectors: Some(n_vectors), obstacle, ..Identity::of_kind(Kind::Embedding) })
}

/// A transformer of another family.
fn other_model(view: &View<'_>) -> Option<Identity> {
    const SIGNS: [(&str, &str); 14] = [
        ("joint_blocks.0.", "Stable Diffusion 3"),
        ("double_blocks.0.img_attn", "Flux"),
        ("transformer_blocks.0.attn.add_q_proj", "Flux, SD 3 or Qwen-Image (diffusers)"),
        ("double_layers.0.", "AuraFlow"),
        ("single_transformer_blocks.0.", "Flux (diffusers)"),
        ("clf.1.weight", "Stable Cascade"),
        ("effnet_mapper.", "Stable Cascade"),
        ("cap_embedder.", "Lumina"),
        ("mlp_t5.", "HunyuanDiT"),
        ("t_block.", "PixArt"),
        ("adaln_single.", "PixArt or LTX-Video"),
        ("patchify_proj.", "LTX-Video"),
        ("patch_embedding.", "Wan"),
        ("caption_projection.", "PixArt or Sana (diffusers)"),
    ];
    let name = SIGNS.iter().find_map(|(sign, name)| {
        let bare = ["model.diffusion_model.", "", "diffusion_model.", "model."];
        bare.iter().any(|prefix| view.starts(&format!("{prefix}{sign}"))).then_some(*name)
    })?;
    Some(Identity {
        family: Some(Family::Other(name)),
        obstacle: Some(format!("this is {name}: Stable Diffusion 1, 2 and XL can be drawn with")),
        ..Identity::of_kind(Kind::OtherModel)
    })
}

/// A component alone that is no UNet.
fn part(view: &View<'_>) -> Option<Identity> {
    let only = |kind: Kind, component, advice: &str| {
        let obstacle = Some(advice.to_owned());
        Some(Identity { components: vec![component], obstacle, ..Identity::of_kind(kind) })
    };
    let is_tiny = view.starts("taesd_decoder.")
        || view.starts("taesd_encoder.")
        || view.has("decoder.layers.0.weight")
        || view.has("encoder.layers.0.weight")
        || (view.has("1.weight") || view.has("0.weight")) && view.any(|name| name.ends_with(".conv.0.weight"));
    if is_tiny {
        return only(Kind::TinyVae, Component::Vae, "a tiny VAE is a part of a model: pass it with --taesd");
    }
    if vae_prefix(view).is_some() {
        return only(Kind::Vae, Component::Vae, "a VAE is a part of a model: pass it with --vae");
    }
    let is_text = view.any(|name| name.ends_with("token_embedding.weight")) || view.starts("encoder.block.0.layer.0.");
    if is_text {
        return only(Kind::TextEncoder, Component::TextEncoder, "a text encoder is a part of a model, not a model");
    }
    let is_upscaler = view.has("conv_first.weight") || view.has("model.0.weight") && view.starts("model.1.sub.");
    is_upscaler.then(|| Identity {
        obstacle: Some("it enlarges pictures and does not draw them".into()),
        ..Identity::of_kind(Kind::PictureUpscaler)
    })
}
