//! The objects that cross to JavaScript and back. Their TypeScript is generated: see `declarations.rs`, beside this file.
//!
//! A type of the library crosses as it is, where it has serde's derives. The rest is here: plain values, nothing of
//! JavaScript, so that the test that writes the declarations compiles this file natively.

use serde::{Deserialize, Serialize, Serializer};

use crate::bench::Part;
use crate::checkpoint::identity::Prediction;
use crate::checkpoint::inspect::Report;
use crate::parameters::Found;
use crate::prompt::PromptSyntax;
use crate::request::Preset;
use crate::run::gpu::Caps;
use crate::run::gpu::Matrices;
use crate::run::gpu::ledger::Counts;
use crate::run::gpu::profile::ProfileLine;
use crate::run::gpu::tiles::{Measured, Tiles};
use crate::weights::WeightType;

/// A seed as a number where JavaScript's numbers hold it, and as a text where they do not.
fn number_or_text<S: Serializer>(seed: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;
    if *seed <= MAX_SAFE_INTEGER {
        serializer.serialize_u64(*seed)
    } else {
        serializer.serialize_str(&seed.to_string())
    }
}

impl LoadSettings {
    /// The names of its fields.
    pub const FIELDS: &[&str] = &[
        "runner",
        "dtype",
        "weights",
        "budget_bytes",
        "tiles",
        "tune",
        "prediction",
        "clip_merges",
        "base",
        "vae",
        "taesd",
        "embeddings",
    ];
}

impl BenchSettings {
    /// The names of its fields.
    pub const FIELDS: &[&str] =
        &["part", "version", "config", "batch", "height", "width", "runner", "dtype", "weights", "tiles", "tune"];
}

impl PlanRequest {
    /// The names of its fields.
    pub const FIELDS: &[&str] = &[
        "version",
        "width",
        "height",
        "any_size",
        "guidance_scale",
        "prompt",
        "negative_prompt",
        "prompt_syntax",
        "count",
        "steps",
        "sampler",
        "from_picture",
        "dtype",
        "weights",
        "budget_bytes",
    ];
}

/// Which runner computes.
#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) enum RunnerName {
    Cpu,
    Gpu,
}

/// The type of values: on the GPU of all but weights, on the CPU of weights. `auto` is f16 where the GPU has it.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) enum Dtype {
    #[default]
    Auto,
    F32,
    F16,
}

/// How a model is loaded.
#[derive(Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub(super) struct LoadSettings {
    pub runner: RunnerName,
    #[serde(default)]
    #[cfg_attr(test, ts(optional, as = "Option<Dtype>"))]
    pub dtype: Dtype,
    /// The type that weights are held in. Where it is not said, on the GPU the first of f16, q8_0 and q4_0 that is within
    /// the budget, f16 without one; as `dtype` says on the CPU.
    #[serde(default)]
    pub weights: Option<WeightType>,
    /// Bytes of GPU memory. Where it is too little for the whole model, its parts are loaded one after another; without a
    /// budget everything stays loaded.
    #[serde(default)]
    pub budget_bytes: Option<f64>,
    /// What `Studio.tiles()` gave earlier on the same adapter.
    #[serde(default)]
    pub tiles: Option<String>,
    /// Whether to measure, before the first picture, which tile suits which matrix product. Not for software adapters.
    #[serde(default)]
    #[cfg_attr(test, ts(optional, as = "Option<bool>"))]
    pub tune: bool,
    /// What the UNet predicts, in place of what the model says.
    #[serde(default)]
    pub prediction: Option<Prediction>,
    /// CLIP's `merges.txt`, which a checkpoint in one file does not have: `clip_merges.txt` beside the page.
    #[serde(default)]
    pub clip_merges: Option<String>,
    /// The name of a kept model whose configuration, vocabularies and missing components a checkpoint in one file takes.
    #[serde(default)]
    pub base: Option<String>,
    /// The name of a kept model or file whose VAE takes the place of the model's own.
    #[serde(default)]
    pub vae: Option<String>,
    /// The name of a kept file with a tiny VAE, which decodes.
    #[serde(default)]
    pub taesd: Option<String>,
    /// The names of kept embeddings whose words prompts may use; all that fit the model where it is absent. Of a model that
    /// is not kept none.
    #[serde(default)]
    pub embeddings: Option<Vec<String>>,
}

/// What is timed: a component of one of the seven versions, or of a config, on a runner.
#[derive(Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub(super) struct BenchSettings {
    pub part: Part,
    /// The key of one of the seven versions.
    #[serde(default)]
    pub version: Option<String>,
    /// The text of the component's `config.json`.
    #[serde(default)]
    pub config: Option<String>,
    pub batch: usize,
    /// Height of the latents.
    pub height: usize,
    /// Width of the latents.
    pub width: usize,
    #[serde(flatten)]
    pub load: LoadSettings,
}

/// One timed run.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub(super) struct BenchRun {
    pub secs: f64,
    /// Of them, what the CPU spent recording commands, on a GPU.
    pub record_secs: Option<f64>,
    /// What the GPU was asked for, on a GPU.
    pub counts: Option<Counts>,
}

/// Times of kernels by the GPU's own clock, or of operations by the CPU's, the slowest first.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct BenchProfile {
    pub lines: Vec<BenchLine>,
}

/// What the operations of one kind and shape took together.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub(super) struct BenchLine {
    pub kernel: &'static str,
    pub shape: String,
    pub n: u64,
    pub secs: f64,
    pub flops: u64,
    /// Bytes of all operands, on a GPU.
    pub n_bytes: Option<u64>,
}

impl From<ProfileLine> for BenchLine {
    fn from(line: ProfileLine) -> Self {
        let ProfileLine { kernel, shape, n, secs, flops, n_bytes } = line;
        BenchLine { kernel, shape, n, secs, flops, n_bytes: Some(n_bytes) }
    }
}

/// Tiles of matrix products.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct BenchTiles {
    /// Every measurement.
    pub measured: Vec<Measured>,
    /// What was chosen for each class of shape.
    pub chosen: Tiles,
}

/// What [`super::check`] gave, on its way back.
#[derive(Deserialize)]
#[serde(remote = "Caps")]
pub(super) struct CapsFields {
    name: String,
    backend: String,
    software: bool,
    shader_f16: bool,
    // No browser has them.
    #[serde(skip)]
    matrices: Option<Matrices>,
    #[serde(skip)]
    wrong_matrices: bool,
    least_subgroup: Option<u32>,
    timestamp_query: bool,
    max_buffer_bytes: u64,
    max_binding_bytes: u64,
    max_storage_buffers: u32,
    max_workgroup_bytes: u32,
    max_workgroup_invocations: u32,
    max_workgroups_per_dimension: u32,
}

/// Wraps it, because only a field can be read that way.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct GivenCaps(#[serde(with = "CapsFields")] pub Caps);

/// What is planned: a picture of one of the seven versions, or of the loaded model where none is named, on the GPU.
#[derive(Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub(super) struct PlanRequest {
    #[serde(default)]
    pub version: Option<String>,
    #[serde(default)]
    pub width: Option<usize>,
    #[serde(default)]
    pub height: Option<usize>,
    #[serde(default)]
    #[cfg_attr(test, ts(optional, as = "Option<bool>"))]
    pub any_size: bool,
    #[serde(default)]
    pub guidance_scale: Option<f64>,
    /// The prompts, whose chunks take memory, of the loaded model: for a version that is named they do not count.
    #[serde(default)]
    pub prompt: Option<String>,
    #[serde(default)]
    pub negative_prompt: Option<String>,
    /// What they are written in.
    #[serde(default)]
    pub prompt_syntax: Option<PromptSyntax>,
    #[serde(default)]
    pub count: Option<usize>,
    #[serde(default)]
    pub steps: Option<usize>,
    #[serde(default)]
    pub sampler: Option<String>,
    /// Whether it starts from a picture, which the VAE encodes.
    #[serde(default)]
    #[cfg_attr(test, ts(optional, as = "Option<bool>"))]
    pub from_picture: bool,
    #[serde(default)]
    #[cfg_attr(test, ts(optional, as = "Option<Dtype>"))]
    pub dtype: Dtype,
    /// The type that weights are held in; where it is not said, the one that loading chooses: f16, or less where the budget asks.
    #[serde(default)]
    pub weights: Option<WeightType>,
    #[serde(default)]
    pub budget_bytes: Option<f64>,
}

/// A loaded model, its own settings and its bounds.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct ModelInfo {
    pub name: String,
    /// The closest of the seven versions.
    pub version: &'static str,
    /// The family that LoRAs are made for: `sd1`, `sd2` or `xl`.
    pub family: &'static str,
    /// Whether the model only repaints parts of a picture.
    pub is_inpaint: bool,
    pub runner: RunnerName,
    /// The type that weights are held in on the GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub weights: Option<WeightType>,
    /// What computes, for people.
    pub device: String,
    pub width: usize,
    pub height: usize,
    pub size_multiple: usize,
    pub max_side: usize,
    pub max_steps: usize,
    pub max_guidance_scale: f64,
    pub max_count: usize,
    pub steps: usize,
    pub guidance_scale: f64,
    /// How far to depart from a picture, without a mask.
    pub strength: f64,
    /// The same with a mask.
    pub mask_strength: f64,
    pub sampler: String,
    pub samplers: Vec<String>,
    /// Those of them that have a choice of eta.
    pub samplers_with_eta: Vec<String>,
    /// The words of embeddings, which prompts may use.
    pub words: Vec<String>,
}

/// How much work a request is.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct Work {
    /// Calls of the UNet for one picture.
    pub n_steps: usize,
    /// Floating-point operations in all.
    pub flops: f64,
    /// What the prompts' syntax does not know and is drawn as text.
    pub notes: Vec<String>,
}

/// What is drawn where prompts choose.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct ChosenPrompts {
    /// One for each picture, or one for all where nothing was to be decided.
    pub pictures: Vec<PictureChoice>,
    /// What was left as text and may have been meant otherwise.
    pub notes: Vec<String>,
}

/// The part of a request that differs from picture to picture.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub(super) struct PictureChoice {
    /// What is drawn.
    pub prompt: String,
    /// What is steered away from.
    pub negative_prompt: Option<String>,
    /// What the prompt was decided from.
    pub template: Option<String>,
    /// Likewise of the negative prompt.
    pub negative_template: Option<String>,
    /// The seed in digits.
    pub seed: String,
    /// Likewise the seed that the noise is turned towards.
    pub variation_seed: Option<String>,
    /// Pictures.
    pub count: usize,
}

/// What one step did.
#[derive(Serialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) enum StepReport {
    Encoded {
        n_tokens: usize,
        #[cfg_attr(test, ts(optional))]
        truncated: Option<String>,
        /// What the prompts' syntax does not know.
        notes: Vec<String>,
    },
    Prepared {
        picture: usize,
    },
    Denoised {
        picture: usize,
        step: usize,
        n_steps: usize,
        repeated_in_f32: bool,
    },
    Decoded {
        picture: usize,
        #[serde(serialize_with = "number_or_text")]
        #[cfg_attr(test, ts(type = "number | string"))]
        seed: u64,
        repeated_in_f32: bool,
    },
    Done,
}

/// What made a picture, as far as its file says and it can be understood. Our own pictures have all of it.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct PictureParameters {
    #[serde(flatten)]
    pub found: Found,
    /// Whether the sampler can be asked for here.
    pub knows_sampler: bool,
    /// Whether nothing was found that a request could take.
    pub is_empty: bool,
}

/// One of the seven versions, with its defaults.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct VersionInfo {
    pub key: &'static str,
    pub name: &'static str,
    pub repository: &'static str,
    pub width: usize,
    pub height: usize,
    pub steps: usize,
    pub guidance_scale: f64,
    pub size_multiple: usize,
    pub is_inpaint: bool,
    /// About how much there is to download.
    pub download_bytes: f64,
}

/// Where models come from and go to.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub(super) struct ModelsSettings {
    /// A Hub's address; Hugging Face's where none is given.
    pub endpoint: Option<String>,
    /// An access token, kept in memory only.
    pub token: Option<String>,
    /// The address of a folder that is served in the Hub's layout, instead of a Hub. It needs neither ranges nor an API.
    pub source: Option<String>,
    /// The database's name.
    pub database: Option<String>,
    /// Whether full weights are wanted where there are both; fp16 ones where it is not said.
    #[cfg_attr(test, ts(optional, as = "Option<bool>"))]
    pub full: bool,
}

/// One file of a model.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub(super) struct FileReport {
    pub path: String,
    pub bytes: f64,
    pub present_bytes: f64,
    pub sha256: Option<String>,
    pub complete: bool,
}

/// What a file or model is.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct Inspection {
    /// In a line, for people.
    pub summary: String,
    /// The rest, for people: what each row is about, or nothing where it goes on with the row before, and the text.
    pub rows: Vec<(String, String)>,
    /// The same for programs.
    #[serde(flatten)]
    pub report: Report,
}

/// A model that this browser keeps, or could: what there is of it.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub(super) struct ModelReport {
    pub model: String,
    pub repo: String,
    pub commit: String,
    pub files: Vec<FileReport>,
    pub total_bytes: f64,
    pub missing_bytes: f64,
    pub complete: bool,
    /// What this origin may keep, where the browser tells.
    pub quota_bytes: Option<f64>,
    /// What it keeps, where the browser tells.
    pub usage_bytes: Option<f64>,
}

/// Which kind of extra network a file is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) enum NetworkKind {
    /// LoRA, LoCon, LoHa, LoKr and kin.
    Lora,
    /// Vectors of a new word for prompts (textual inversion).
    Embedding,
}

/// Settings of a LoRA that was distilled to a few steps.
#[derive(Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub(super) struct FewSteps {
    /// What a request takes as `preset`.
    pub preset: Preset,
    /// What people call such a model.
    pub title: &'static str,
    pub steps: usize,
    pub sampler: &'static str,
    /// How much noise each step adds, where the sampler has the choice.
    pub eta: Option<f64>,
}

/// A kept file that changes a model.
#[derive(Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub(super) struct ExtraNetwork {
    pub kind: NetworkKind,
    /// What requests and tags call it, of an embedding its word: its file's name without the ending.
    pub name: String,
    /// The name that it is kept under.
    pub model: String,
    /// The file.
    pub path: String,
    pub bytes: f64,
    /// In lower-case hexadecimal.
    pub sha256: Option<String>,
    /// The family that it is for, such as `sd1`, `sd2` or `xl`, where it can be told.
    pub family: Option<&'static str>,
    /// The same for people.
    pub family_name: Option<&'static str>,
    /// What its metadata calls it, which tags may use as well.
    pub output_name: Option<String>,
    /// What calls for it in a prompt: the trigger phrase, and tags that it was trained with, the most frequent first.
    pub words: Vec<String>,
    /// How many words of its own a LoRA brings (`bundle_emb`).
    pub bundled_words: usize,
    /// What it is drawn with, where it looks like one of few steps.
    pub few_steps: Option<FewSteps>,
    /// Why no model can take it.
    pub problem: Option<String>,
    /// Why the loaded model does not take it.
    pub obstacle: Option<String>,
}

/// How far a download, an import or a check is. Sizes are in bytes.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub(super) struct TransferProgress<'a> {
    pub path: &'a str,
    pub file_bytes: f64,
    pub file_total: f64,
    pub bytes: f64,
    pub total: f64,
    pub bytes_per_sec: f64,
    pub secs_left: Option<f64>,
}

/// A chunk that was damaged.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct DamageReport {
    pub path: String,
    pub chunk: u32,
    pub bytes: f64,
}
