//! What a file of tensors is: a whole checkpoint or a part of one, a LoRA, a ControlNet, an embedding; of which family; and
//! what it predicts. Names, shapes and metadata decide, never the file's name.
//!
//! Sources: ComfyUI's `model_detection.py`, diffusers' `single_file_utils.py`, kohya's and Stability's `modelspec`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::lora::LoraFacts;
use super::{adapters, models, others, parts, wrapped};
use crate::error::{Door, Remedy};
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
    /// Another network: a motion module, a language model.
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
    pub(super) fn of_channels(channels: usize) -> Self {
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
    pub(super) fn id(self) -> &'static str {
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
    /// Why it cannot be drawn with, and what would work unless `remedy` says it.
    pub obstacle: Option<String>,
    /// How a part of a model is used.
    pub remedy: Option<Remedy>,
    /// Whether a UNet has the sizes of a published model, so that no configuration is needed.
    pub is_published: bool,
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
            remedy: None,
            is_published: false,
            is_refused: false,
        }
    }

    /// Looks at the names and shapes of a file's tensors and at its metadata.
    #[must_use]
    pub fn of(file: &dyn TensorSource, metadata: &BTreeMap<String, String>) -> Self {
        let view = View { file, names: file.names() };
        let identity = adapters::look(&view, metadata)
            .or_else(|| models::look(&view, metadata))
            .or_else(|| others::look(&view))
            .or_else(|| wrapped::look(&view))
            .or_else(|| parts::look(&view));
        identity.unwrap_or_else(|| Identity {
            obstacle: Some("its tensors have names of no model that is known".into()),
            is_refused: true,
            ..Identity::of_kind(Kind::Unknown)
        })
    }

    /// Why it cannot be drawn with, and what would work, in the words of `door`.
    #[must_use]
    pub fn problem(&self, door: Door) -> Option<String> {
        let obstacle = self.obstacle.as_ref()?;
        Some(self.remedy.map_or_else(|| obstacle.clone(), |remedy| format!("{obstacle}: {}", remedy.words(door))))
    }

    /// Whether it is a model that can be drawn with as it is; components that it lacks may come from elsewhere.
    #[must_use]
    pub fn is_model(&self) -> bool {
        self.is_drawable() && self.is_published
    }

    /// The same, with a configuration (`--config`) where it has sizes of its own.
    #[must_use]
    pub fn is_drawable(&self) -> bool {
        matches!(self.kind, Kind::Checkpoint | Kind::Unet) && self.obstacle.is_none()
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

/// A word of the metadata, in lower case.
pub(super) fn said(metadata: &BTreeMap<String, String>, key: &str) -> Option<String> {
    metadata.get(key).map(|text| text.trim().to_ascii_lowercase())
}
