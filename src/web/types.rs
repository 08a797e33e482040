//! The objects that cross to JavaScript and back, in Rust and, for the generated package, in TypeScript.
//!
//! Both are written out here side by side: a field that is added to one belongs into the other.

use serde::{Deserialize, Serialize, Serializer};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::bench::Part;
use crate::parameters::Found;
use crate::run::gpu::Caps;
use crate::run::gpu::Matrices;
use crate::run::gpu::ledger::Counts;

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
    pub const FIELDS: &[&str] = &["runner", "dtype", "budget_bytes", "tiles", "tune"];
}

impl BenchSettings {
    /// The names of its fields.
    pub const FIELDS: &[&str] =
        &["part", "version", "config", "batch", "height", "width", "runner", "dtype", "tiles", "tune"];
}

impl PlanRequest {
    /// The names of its fields.
    pub const FIELDS: &[&str] =
        &["version", "width", "height", "any_size", "guidance_scale", "from_picture", "dtype", "budget_bytes"];
}

/// How a model is loaded.
#[derive(Deserialize)]
pub(super) struct LoadSettings {
    pub runner: RunnerName,
    #[serde(default)]
    pub dtype: Dtype,
    /// Bytes of GPU memory; without one everything stays loaded.
    #[serde(default)]
    pub budget_bytes: Option<f64>,
    /// What [`super::Studio::tiles`] gave earlier on this adapter.
    #[serde(default)]
    pub tiles: Option<String>,
    /// Whether tiles that nobody measured are measured before the first picture.
    #[serde(default)]
    pub tune: bool,
}

/// What is timed.
#[derive(Deserialize)]
pub(super) struct BenchSettings {
    pub part: Part,
    /// One of the seven versions, or `config`.
    #[serde(default)]
    pub version: Option<String>,
    /// The component's `config.json`.
    #[serde(default)]
    pub config: Option<String>,
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    #[serde(flatten)]
    pub load: LoadSettings,
}

/// One timed run.
#[derive(Serialize)]
pub(super) struct BenchRun {
    pub secs: f64,
    /// Of them, what the processor spent recording commands.
    pub record_secs: Option<f64>,
    pub counts: Option<Counts>,
}

/// Times of operations, as [`crate::run::gpu::profile::Profile`] has those of kernels.
#[derive(Serialize)]
pub(super) struct BenchProfile {
    pub lines: Vec<BenchLine>,
}

/// What the operations of one kind and shape took together.
#[derive(Serialize)]
pub(super) struct BenchLine {
    pub kernel: &'static str,
    pub shape: String,
    pub n: u64,
    pub secs: f64,
    pub flops: u64,
    pub n_bytes: Option<u64>,
}

/// What computes.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RunnerName {
    Cpu,
    Gpu,
}

/// The type of values: on the GPU of all but weights, on the processor of weights.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Dtype {
    #[default]
    Auto,
    F32,
    F16,
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

/// What is planned.
#[derive(Deserialize)]
pub(super) struct PlanRequest {
    #[serde(default)]
    pub version: Option<String>,
    #[serde(default)]
    pub width: Option<usize>,
    #[serde(default)]
    pub height: Option<usize>,
    #[serde(default)]
    pub any_size: bool,
    #[serde(default)]
    pub guidance_scale: Option<f64>,
    #[serde(default)]
    pub from_picture: bool,
    #[serde(default)]
    pub dtype: Dtype,
    #[serde(default)]
    pub budget_bytes: Option<f64>,
}

/// What a model is, for the page's controls.
#[derive(Serialize)]
pub(super) struct ModelInfo {
    pub name: String,
    pub version: &'static str,
    pub is_inpaint: bool,
    pub runner: &'static str,
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
    pub strength: f64,
    pub mask_strength: f64,
    pub sampler: String,
    pub samplers: Vec<String>,
}

/// How much work a request is.
#[derive(Serialize)]
pub(super) struct Work {
    pub n_steps: usize,
    pub flops: f64,
}

/// What a step did.
#[derive(Serialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub(super) enum StepReport {
    Encoded {
        n_tokens: usize,
        truncated: Option<String>,
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
        seed: u64,
        repeated_in_f32: bool,
    },
    Done,
}

/// What a picture says of itself.
#[derive(Serialize)]
pub(super) struct PictureSays {
    #[serde(flatten)]
    pub found: Found,
    pub knows_sampler: bool,
    pub is_empty: bool,
}

/// One of the seven versions.
#[derive(Serialize)]
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
    pub download_bytes: f64,
}

#[wasm_bindgen(typescript_custom_section)]
const TYPESCRIPT: &str = r#"
/** What to draw. Absent settings are the model's own. */
export interface DrawRequest {
  prompt: string;
  negative_prompt?: string;
  /** Pixels; a multiple of the model's `size_multiple`. Without a size a picture that is given keeps its own, as far as the model can. */
  width?: number;
  height?: number;
  /** Whether the sides may be any multiple of 8, as in diffusers. */
  any_size?: boolean;
  /** How a given picture of another shape is brought to the size; `stretch` where absent. */
  fit?: "stretch" | "crop" | "pad";
  /** 1 to 150. */
  steps?: number;
  /** 0 to 20; at 1 and below there is no guidance. */
  guidance_scale?: number;
  /** How far to depart from the picture, 0 to 1. */
  strength?: number;
  /** One of the model's `samplers`. */
  sampler?: string;
  /** How much noise ddim and tcd add in each step, 0 to 1. */
  eta?: number;
  /** The training steps to visit, from high to low, in place of a number of steps. */
  timesteps?: number[];
  /** The noise levels to visit (for euler), from large to small. */
  sigmas?: number[];
  /** A whole number, 0 to 2^64 - 1; from 2^53 on as a text. Picture i of the request has the seed `seed + i`. */
  seed: number | string;
  /** How many pictures, 1 to 64. */
  count?: number;
  /** How many of the text encoder's last layers are left out. */
  clip_skip?: number;
  /** Longer prompts than the model reads at once are cut, or encoded in chunks. */
  long_prompt?: "truncate" | "chunks";
}

/** A picture given: a PNG, JPEG, WebP, GIF, BMP or TIFF file, or pixels as a canvas has them. */
export type GivenPicture = Uint8Array | ImageData | { width: number; height: number; data: Uint8ClampedArray };

/** A loaded model, its own settings and its bounds. */
export interface ModelInfo {
  name: string;
  /** The closest of the seven versions. */
  version: string;
  /** Whether the model only repaints parts of a picture. */
  is_inpaint: boolean;
  runner: "cpu" | "gpu";
  /** What computes, for people. */
  device: string;
  width: number;
  height: number;
  size_multiple: number;
  max_side: number;
  max_steps: number;
  max_guidance_scale: number;
  max_count: number;
  steps: number;
  guidance_scale: number;
  /** How far to depart from a picture, without a mask and with one. */
  strength: number;
  mask_strength: number;
  sampler: string;
  samplers: string[];
}

/** How a model is loaded. */
export interface LoadSettings {
  runner: "cpu" | "gpu";
  /** On the GPU of all values but weights, on the processor of weights; `auto` is f16 where the GPU has it. */
  dtype?: "auto" | "f32" | "f16";
  /** Bytes of GPU memory: where it is too little for the whole model, its parts are loaded one after another. */
  budget_bytes?: number;
  /** What `Studio.tiles()` gave earlier on the same adapter. */
  tiles?: string;
  /** Whether to measure, before the first picture, which tile suits which matrix product. Not for software adapters. */
  tune?: boolean;
}

/** What is timed: a component of one of the seven versions, or of a config, on a runner. */
export interface BenchSettings {
  part: "text_encoder" | "unet" | "vae_decoder";
  version?: string;
  /** The text of the component's `config.json`. */
  config?: string;
  batch: number;
  /** Height and width of the latents. */
  height: number;
  width: number;
  runner: "cpu" | "gpu";
  dtype?: "auto" | "f32" | "f16";
  tiles?: string;
  tune?: boolean;
}

/** One timed run; what the GPU was asked for, on a GPU. */
export interface BenchRun {
  secs: number;
  /** Of them, what the processor spent recording commands. */
  record_secs?: number;
  counts?: Record<string, number>;
}

/** Times of kernels by the GPU's own clock, or of operations by the processor's, the slowest first. */
export interface BenchProfile {
  lines: Array<{ kernel: string; shape: string; n: number; secs: number; flops: number; n_bytes?: number }>;
}

/** Tiles of matrix products: every measurement, and what was chosen for each class of shape. */
export interface BenchTiles {
  measured: Array<{ class: string; tile: string; splits: number; secs: number; gflops: number }>;
  chosen: Record<string, { tile: string; splits: number }>;
}

/** What is planned: one of the seven versions, or the loaded model where none is named, at a size, on the GPU. */
export interface PlanRequest {
  version?: string;
  width?: number;
  height?: number;
  any_size?: boolean;
  guidance_scale?: number;
  from_picture?: boolean;
  dtype?: "auto" | "f32" | "f16";
  budget_bytes?: number;
}

/** What a picture would ask of the GPU. */
export interface Plan {
  model: string;
  width: number;
  height: number;
  dtype: "f16" | "f32";
  residency: "resident" | "staged";
  peak_bytes: number;
  resident_peak_bytes: number;
  staged_peak_bytes: number;
  weight_bytes: number;
  largest_binding_bytes: number;
  max_binding_bytes: number;
  budget_bytes?: number;
  fits: boolean;
  /** What would fit, where it does not. */
  advice?: string;
  phases: Array<Record<string, any> & { name: string; dispatches: number; flops: number }>;
}

/** How much work a request is: calls of the UNet a picture, floating-point operations in all. */
export interface Work {
  n_steps: number;
  flops: number;
}

/** What one step did. */
export type StepReport =
  | { stage: "encoded"; n_tokens: number; truncated?: string }
  | { stage: "prepared"; picture: number }
  | { stage: "denoised"; picture: number; step: number; n_steps: number; repeated_in_f32: boolean }
  | { stage: "decoded"; picture: number; seed: number | string; repeated_in_f32: boolean }
  | { stage: "done" };

/** One of the seven versions, with its defaults. */
export interface VersionInfo {
  key: string;
  name: string;
  repository: string;
  width: number;
  height: number;
  steps: number;
  guidance_scale: number;
  size_multiple: number;
  is_inpaint: boolean;
  /** About how much there is to download. */
  download_bytes: number;
}

/** What made a picture, as far as its file says and it can be understood. Our own pictures have all of it. */
export interface PictureParameters {
  /** Which program wrote it, by its form. */
  program: string;
  prompt?: string;
  negative_prompt?: string;
  steps?: number;
  /** Our name of it, or, where it is none of ours, as it was written. */
  sampler?: string;
  /** Whether the sampler can be asked for here. */
  knows_sampler: boolean;
  guidance_scale?: number;
  /** A text from 2^53 on. */
  seed?: number | string;
  width?: number;
  height?: number;
  /** Whether the sides may be any multiple of 8. */
  any_size?: boolean;
  model?: string;
  strength?: number;
  clip_skip?: number;
  long_prompt_chunks?: boolean;
  eta?: number;
  timesteps?: number[];
  sigmas?: number[];
  fit?: string;
  version?: string;
  /** Whether nothing was found that a request could take. */
  is_empty: boolean;
  /** What could not be taken, in sentences. */
  notes: string[];
}

/** What a GPU can do. */
export interface Caps {
  name: string;
  backend: string;
  /** True where a processor draws in the GPU's place. */
  software: boolean;
  shader_f16: boolean;
  /** Cooperative matrices, which no browser has. */
  matrices: null;
  wrong_matrices: false;
  timestamp_query: boolean;
  max_buffer_bytes: number;
  max_binding_bytes: number;
  max_storage_buffers: number;
  max_workgroup_bytes: number;
  max_workgroup_invocations: number;
  max_workgroups_per_dimension: number;
}

/** What is thrown: `code` says what a page can do about it. */
export interface Failure extends Error {
  code: "request" | "model" | "device" | "memory" | "lost" | "picture" | "cancelled";
}
"#;
