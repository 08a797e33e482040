// Written by `./build.sh types` from the Rust types; src/web/declarations.rs says how.

/**
 * How attention's scores, a matrix for each head of as many rows and columns as there are tokens, are held. It decides
 * memory and speed; pictures differ by rounding at most.
 */
export type Attention = "flash" | "sliced" | "full";

/** What the operations of one kind and shape took together. */
export type BenchLine = {
  kernel: string,
  shape: string,
  n: number,
  secs: number,
  flops: number,
  /** Bytes of all operands, on a GPU. */
  n_bytes?: number,
};

/** Times of kernels by the GPU's own clock, or of operations by the CPU's, the slowest first. */
export type BenchProfile = {
  lines: Array<BenchLine>,
};

/** One timed run. */
export type BenchRun = {
  secs: number,
  /** Of them, what the CPU spent recording commands, on a GPU. */
  record_secs?: number,
  /** What the GPU was asked for, on a GPU. */
  counts?: Counts,
};

/** What is timed: a component of one of the seven versions, or of a config, on a runner. */
export type BenchSettings = {
  part: Part,
  /** The key of one of the seven versions. */
  version?: string,
  /** The text of the component's `config.json`. */
  config?: string,
  batch: number,
  /** Height of the latents. */
  height: number,
  /** Width of the latents. */
  width: number,
  runner: RunnerName,
  dtype?: Dtype,
  /**
   * The type that weights are held in. Where it is not said, on the GPU the first of f16, q8_0 and q4_0 that is within
   * the budget, f16 without one; as `dtype` says on the CPU.
   */
  weights?: WeightType,
  /**
   * Bytes of GPU memory. Where it is too little for the whole model, its parts are loaded one after another; without a
   * budget everything stays loaded.
   */
  budget_bytes?: number,
  /** What `Studio.tiles()` gave earlier on the same adapter. */
  tiles?: string,
  /** Whether to measure, before the first picture, which tile suits which matrix product. Not for software adapters. */
  tune?: boolean,
  /** What the UNet predicts, in place of what the model says. */
  prediction?: Prediction,
  /** CLIP's `merges.txt`, which a checkpoint in one file does not have: `clip_merges.txt` beside the page. */
  clip_merges?: string,
  /** The name of a kept model whose configuration, vocabularies and missing components a checkpoint in one file takes. */
  base?: string,
  /** The name of a kept model or file whose VAE takes the place of the model's own. */
  vae?: string,
  /** The name of a kept file with a tiny VAE, which decodes. */
  taesd?: string,
  /**
   * The names of kept embeddings whose words prompts may use; all that fit the model where it is absent. Of a model that
   * is not kept none.
   */
  embeddings?: Array<string>,
};

/** Tiles of matrix products. */
export type BenchTiles = {
  /** Every measurement. */
  measured: Array<Measured>,
  /** What was chosen for each class of shape. */
  chosen: Tiles,
};

/** Name, limits and optional features of an adapter. */
export type Caps = {
  /**
   * The adapter's own name, such as `llvmpipe (LLVM 15.0.6, 256 bits)`. Browsers may leave it empty to make
   * fingerprinting harder; see `web::check` for what is shown then.
   */
  name: string,
  /** The interface below wgpu: `vulkan`, `metal`, `dx12` or, in a page, `webgpu`. */
  backend: string,
  /** Whether this is a software adapter (SwiftShader, lavapipe, WARP): correct, but very slow. */
  software: boolean,
  /** Whether WGSL may use `f16`. */
  shader_f16: boolean,
  /**
   * Invocations that a subgroup has at least, where they can tell each other numbers and did so in a trial when the device
   * was opened.
   */
  least_subgroup: number | null,
  /** Whether kernels can be timed on the GPU's own clock. */
  timestamp_query: boolean,
  /** The largest buffer in bytes. */
  max_buffer_bytes: number,
  /** The largest part of a buffer that one binding of a kernel can see, in bytes. A weight above it must be split. */
  max_binding_bytes: number,
  /** How many storage buffers one kernel can bind. */
  max_storage_buffers: number,
  /** Workgroup memory of one workgroup in bytes. */
  max_workgroup_bytes: number,
  /** Invocations in one workgroup. */
  max_workgroup_invocations: number,
  /** Workgroups along one dimension of a dispatch. */
  max_workgroups_per_dimension: number,
};

/** A tile by its name, with the parts that the sums are cut into. */
export type Choice = {
  tile: string,
  splits: number,
};

/** What is drawn where prompts choose. */
export type ChosenPrompts = {
  /** One for each picture, or one for all where nothing was to be decided. */
  pictures: Array<PictureChoice>,
  /** What was left as text and may have been meant otherwise. */
  notes: Array<string>,
};

/** How the text encoder's layers are counted that `clip_skip` leaves out. */
export type ClipSkipCounting = "diffusers" | "a1111";

/** The counts since the ledger was opened, or since `Counts::since`. */
export type Counts = {
  /** Bytes of all buffers that exist now. */
  live_bytes: number,
  /** The most that `Counts::live_bytes` has been. */
  peak_bytes: number,
  /** Bytes of weights among the live ones. */
  weight_bytes: number,
  /** Bytes of the arena among the live ones. */
  arena_bytes: number,
  /** Bytes of everything else among the live ones: latents, keys and values, parameters. */
  other_bytes: number,
  /** Buffers made. */
  buffers: number,
  /** Bytes of buffers made. */
  allocated_bytes: number,
  /** The largest range that one binding saw. */
  largest_binding_bytes: number,
  /** Dispatches recorded. */
  dispatches: number,
  /** Command buffers submitted. */
  submits: number,
  /** Pipelines that dispatches were recorded with, each once, whenever they were compiled. */
  pipelines: number,
  /** Bind groups made. */
  bind_groups: number,
  /** Floating-point operations of the dispatches. */
  flops: number,
  /** Bytes that the dispatches' operands have, each counted once a dispatch. */
  moved_bytes: number,
  /** Bytes written from the host. */
  uploaded_bytes: number,
  /** Bytes of weights among them that were brought in while a program ran, because they did not stay. */
  streamed_bytes: number,
  /** Dispatches that packed these. `Counts::dispatches` is without them. */
  streamed_dispatches: number,
  /** Times the host waited for bytes. */
  readbacks: number,
  /** Bytes that it waited for. */
  readback_bytes: number,
};

/** A chunk that was damaged. */
export type DamageReport = {
  path: string,
  chunk: number,
  bytes: number,
};

/** What a caller asks for. An absent setting is the model's own. */
export type DrawRequest = {
  /** What to draw. Tags `<lora:name:weight>` in it, unless it is plain text, are the same as entries of `loras`. */
  prompt: string,
  /** What to steer away from. Absent and empty are not the same for XL, as in diffusers. */
  negative_prompt?: string,
  /**
   * What `prompt` was decided from, where it had options (`{a|b}`, `__name__`): it is written into the picture and has no
   * effect.
   */
  template?: string,
  /** Likewise of `negative_prompt`. */
  negative_template?: string,
  /** Steps, sampler, spacing and guidance of models of few steps, where they are not given. */
  preset?: Preset,
  /** Width in pixels. */
  width?: number,
  /** Height in pixels. */
  height?: number,
  /** Whether the sides may be any multiple of 8 (the VAE's factor), as in diffusers. */
  any_size?: boolean,
  /** How a start picture of another shape is brought to the size. */
  fit?: Fit,
  /**
   * Only what is masked is drawn, at the request's size, with so many pixels of the start picture around it, and put back
   * into the picture, which keeps its size: diffusers' `padding_mask_crop`, AUTOMATIC1111's "Only masked".
   */
  padding_mask_crop?: number,
  /** Radius in pixels of the start picture by which the mask is blurred, 0 to 256: what is kept fades into what is drawn. */
  mask_blur?: number,
  /** Denoising steps, 1 to 150. */
  steps?: number,
  /** Classifier-free guidance, 0 to 20; at 1 and below there is none. */
  guidance_scale?: number,
  /** How far to depart from the start picture, 0 to 1. */
  strength?: number,
  /** The sampler's name, in any spelling that `crate::sampler::Sampler` parses. */
  sampler?: string,
  /** How the steps are spread over the training steps. */
  spacing?: Spacing,
  /** How much noise DDIM and TCD add in each step, 0 to 1. */
  eta?: number,
  /** The steps as training steps, from noise to picture, in place of their number. */
  timesteps?: Array<number>,
  /** The noise levels of the steps, one more than there are steps, in place of their number. */
  sigmas?: Array<number>,
  /** The seed of the first picture; each further picture adds one. Random where absent. */
  seed?: number | string,
  /**
   * The seed that the noise is turned towards by `variation_strength`; with several pictures, this one counts on and `seed`
   * stays, as in AUTOMATIC1111. Random where absent.
   */
  variation_seed?: number | string,
  /** How far, 0 (the noise of `seed`, and no variation) to 1 (that of `variation_seed`). */
  variation_strength?: number,
  /** Which of torch's generators the noise comes from, the CPU's or CUDA's. */
  noise?: Noise,
  /** Pictures, 1 to 64. */
  count?: number,
  /** How many of the text encoder's last layers are skipped, as `clip_skip_counting` counts. */
  clip_skip?: number,
  /** How `clip_skip` counts; as diffusers where absent. */
  clip_skip_counting?: ClipSkipCounting,
  /** What the prompts are written in; AUTOMATIC1111's syntax where absent. */
  prompt_syntax?: PromptSyntax,
  /** What to do with long prompts: chunks where absent, without a syntax cut. */
  long_prompt?: LongPrompt,
  /** How attention's scores are held. */
  attention?: Attention,
  /** XL's conditioning on the size of the original photograph: width and height in pixels; the picture's own where absent. */
  original_size?: [number, number],
  /** XL's conditioning on the crop of the training photograph: left and top in pixels; (0, 0) where absent. */
  crop?: [number, number],
  /** The LoRAs that change the model, besides those of tags in the prompt. */
  loras?: Array<LoraUse>,
};

/** The type of values: on the GPU of all but weights, on the CPU of weights. `auto` is f16 where the GPU has it. */
export type Dtype = "auto" | "f32" | "f16";

/** A kept file that changes a model. */
export type ExtraNetwork = {
  kind: NetworkKind,
  /** What requests and tags call it, of an embedding its word: its file's name without the ending. */
  name: string,
  /** The name that it is kept under. */
  model: string,
  /** The file. */
  path: string,
  bytes: number,
  /** In lower-case hexadecimal. */
  sha256?: string,
  /** The family that it is for, such as `sd1`, `sd2` or `xl`, where it can be told. */
  family?: string,
  /** The same for people. */
  family_name?: string,
  /** What its metadata calls it, which tags may use as well. */
  output_name?: string,
  /** What calls for it in a prompt: the trigger phrase, and tags that it was trained with, the most frequent first. */
  words: Array<string>,
  /** How many words of its own a LoRA brings (`bundle_emb`). */
  bundled_words: number,
  /** What it is drawn with, where it looks like one of few steps. */
  few_steps?: FewSteps,
  /** Why no model can take it. */
  problem?: string,
  /** Why the loaded model does not take it. */
  obstacle?: string,
};

/** Settings of a LoRA that was distilled to a few steps. */
export type FewSteps = {
  /** What a request takes as `preset`. */
  preset: Preset,
  /** What people call such a model. */
  title: string,
  steps: number,
  sampler: string,
  /** How much noise each step adds, where the sampler has the choice. */
  eta?: number,
};

/** One file of a model. */
export type FileReport = {
  path: string,
  bytes: number,
  present_bytes: number,
  sha256?: string,
  complete: boolean,
};

/** How a picture is brought to another width and height. */
export type Fit = "stretch" | "crop" | "pad";

/** What the writer of a file says about it, in short. */
export type InspectedAbout = {
  /** The class of the pipeline, of a folder. */
  pipeline?: string,
  /** The title, or the name that it was trained under. */
  title?: string,
  /** Who made it. */
  author?: string,
  /** Its licence. */
  license?: string,
  /** What it is for. */
  description?: string,
  /** The model that it was trained on. */
  base?: string,
  /** The size of the pictures that it was trained on. */
  resolution?: string,
  /** The words that call for it in a prompt. */
  trigger?: string,
  /** The tags that it was trained with and how often each came, most frequent first. */
  tags?: Array<[string, number]>,
};

/** The components of a model. */
export type InspectedComponents = {
  /**
   * Those that are there, whole or not: `unet`, `vae`, `text_encoder`, `text_encoder_2`; of a tiny VAE `encoder` and
   * `decoder`.
   */
  present: {
  [key in string]: InspectedShare
},
  /** Those that a model of the family has and this one does not. */
  missing: Array<string>,
};

/** What drawing a picture at the model's own size takes. */
export type InspectedFit = {
  /** Pixels. */
  width: number,
  /** Pixels. */
  height: number,
  /** The most bytes of GPU memory at once, with f16 values and everything loaded. */
  gpu_resident_bytes: number,
  /** The same with one component loaded after another. */
  gpu_staged_bytes: number,
  /** Bytes of all weights as they lie on the GPU. */
  gpu_weight_bytes: number,
  /** The first two with weights held in q8_0. */
  gpu_q8_0_bytes: [number, number],
  /** The same in q4_0. */
  gpu_q4_0_bytes: [number, number],
  /** Bytes of all weights in the CPU's memory as f32. */
  cpu_f32_bytes: number,
  /** What was taken for granted: a component from elsewhere, a prediction. */
  assumed?: Array<string>,
};

/** What a LoRA consists of. */
export type InspectedLora = {
  /** `kohya`, `peft`, `diffusers`, `loha`, `lokr`, `ia3`, `full`, `oft`, `glora` or `set`. */
  format: string,
  /** Whose names its layers have: `ldm` or `diffusers`. */
  spelling?: string,
  /** The rank that most layers have. */
  rank?: number,
  /** All ranks, smallest first. */
  ranks: Array<number>,
  /** The parts of a model that it changes. */
  parts: Array<string>,
  /** The number of layers that it changes. */
  layers: number,
  /** Whether convolutions have kernels of their own. */
  locon: boolean,
  /** Whether it also changes magnitudes. */
  dora: boolean,
  /** Embeddings that come along. */
  embeddings: number,
};

/** Tensors that belong together: how many they are, and their bytes by type. */
export type InspectedShare = {
  /** Bytes in the file. */
  bytes: number,
  /** The number of tensors. */
  tensors: number,
  /** Bytes by the type of the elements. */
  types: {
  [key in string]: number
},
  /** The files that have them, where a folder has more than one. */
  files?: Array<string>,
};

/** What a file or model is. */
export type Inspection = {
  /** In a line, for people. */
  summary: string,
  /** The rest, for people: what each row is about, or nothing where it goes on with the row before, and the text. */
  rows: Array<[string, string]>,
  /** The file, folder or repository. */
  file: string,
  /** `safetensors`, or `folder` for one in diffusers' layout. */
  format: string,
  /** Bytes of the file, or of all weights of a folder. */
  bytes: number,
  /** The number of tensors. */
  tensors: number,
  /** The types of all tensors, those with the most bytes first. */
  types: Array<string>,
  /**
   * `checkpoint`, `unet`, `vae`, `taesd`, `text_encoder`, `lora`, `controlnet`, `t2i_adapter`, `ip_adapter`, `embedding`
   * or `other`.
   */
  kind: string,
  /** `sd1`, `sd2`, `xl`, `xl-refiner`, or another family's word; null where it cannot be told. */
  family?: string,
  /** `base`, `inpaint`, `ssd-1b` and so on. */
  variant?: string,
  /** Whose names the tensors have: `ldm`, `diffusers` or `taesd`. */
  layout?: string,
  /** The components. */
  components: InspectedComponents,
  /** What training left and no picture needs: averages (EMA), schedules. */
  leftovers: InspectedShare,
  /** `epsilon`, `v`, or `undecided`; null where there is no UNet to draw with. */
  prediction?: string,
  /** `asked`, `config`, `keys`, `metadata`, `yaml`, `default`, `channels` or `weights`. */
  decided_by?: string,
  /** Whether the noise schedule ends without any signal. */
  ztsnr: boolean,
  /** What a LoRA consists of. */
  lora?: InspectedLora,
  /** What a model or LoRA for a few steps is drawn with, by its name or metadata: what `--preset` takes. */
  preset?: Preset,
  /** Vectors of an embedding. */
  vectors?: number,
  /** What its writer says about it, in short. */
  about: InspectedAbout,
  /** All of that, each text to 4000 characters. */
  metadata: {
  [key in string]: string
},
  /** Whether it is a model to draw with (`--model`); what it lacks may come from elsewhere. */
  opens: boolean,
  /** Whether everything that such a model needs was found in the headers; null where that was not tried. */
  loads?: boolean,
  /** Whether it is of no use here in any place. */
  refused: boolean,
  /** Why it is no model to draw with, or does not load. */
  problem?: string,
  /** What to do. */
  advice: Array<string>,
  /** What drawing takes, where it loads. */
  fits?: InspectedFit,
};

/** How a model is loaded. */
export type LoadSettings = {
  runner: RunnerName,
  dtype?: Dtype,
  /**
   * The type that weights are held in. Where it is not said, on the GPU the first of f16, q8_0 and q4_0 that is within
   * the budget, f16 without one; as `dtype` says on the CPU.
   */
  weights?: WeightType,
  /**
   * Bytes of GPU memory. Where it is too little for the whole model, its parts are loaded one after another; without a
   * budget everything stays loaded.
   */
  budget_bytes?: number,
  /** What `Studio.tiles()` gave earlier on the same adapter. */
  tiles?: string,
  /** Whether to measure, before the first picture, which tile suits which matrix product. Not for software adapters. */
  tune?: boolean,
  /** What the UNet predicts, in place of what the model says. */
  prediction?: Prediction,
  /** CLIP's `merges.txt`, which a checkpoint in one file does not have: `clip_merges.txt` beside the page. */
  clip_merges?: string,
  /** The name of a kept model whose configuration, vocabularies and missing components a checkpoint in one file takes. */
  base?: string,
  /** The name of a kept model or file whose VAE takes the place of the model's own. */
  vae?: string,
  /** The name of a kept file with a tiny VAE, which decodes. */
  taesd?: string,
  /**
   * The names of kept embeddings whose words prompts may use; all that fit the model where it is absent. Of a model that
   * is not kept none.
   */
  embeddings?: Array<string>,
};

/** What to do with prompts of more tokens than the text encoder takes at once. */
export type LongPrompt = "truncate" | "chunks";

/** A LoRA with its strengths. */
export type LoraUse = {
  /** What the LoRA is called: its file's name without the ending, or the name that its metadata gives. */
  name: string,
  /** How strong its changes of the UNet are; 1 where absent. */
  strength?: number,
  /** Of the text encoders; `strength` where absent. */
  text_strength?: number,
};

/** What one shape was cut into and how long that took. */
export type Measured = {
  /** The class of shape. */
  class: string,
  /** The tile's name, or what an attention multiplied in. */
  tile: string,
  /** Parts of the sums. */
  splits: number,
  /** Seconds of one run. */
  secs: number,
  /** 10⁹ floating-point operations a second. */
  gflops: number,
};

/** A loaded model, its own settings and its bounds. */
export type ModelInfo = {
  name: string,
  /** The closest of the seven versions. */
  version: string,
  /** The family that LoRAs are made for: `sd1`, `sd2` or `xl`. */
  family: string,
  /** Whether the model only repaints parts of a picture. */
  is_inpaint: boolean,
  runner: RunnerName,
  /** The type that weights are held in on the GPU. */
  weights?: WeightType,
  /** What computes, for people. */
  device: string,
  width: number,
  height: number,
  size_multiple: number,
  max_side: number,
  max_steps: number,
  max_guidance_scale: number,
  max_count: number,
  steps: number,
  guidance_scale: number,
  /** How far to depart from a picture, without a mask. */
  strength: number,
  /** The same with a mask. */
  mask_strength: number,
  sampler: string,
  samplers: Array<string>,
  /** Those of them that have a choice of eta. */
  samplers_with_eta: Array<string>,
  /** The words of embeddings, which prompts may use. */
  words: Array<string>,
};

/** A model that this browser keeps, or could: what there is of it. */
export type ModelReport = {
  model: string,
  repo: string,
  commit: string,
  files: Array<FileReport>,
  total_bytes: number,
  missing_bytes: number,
  complete: boolean,
  /** What this origin may keep, where the browser tells. */
  quota_bytes?: number,
  /** What it keeps, where the browser tells. */
  usage_bytes?: number,
};

/** Where models come from and go to. */
export type ModelsSettings = {
  /** A Hub's address; Hugging Face's where none is given. */
  endpoint?: string,
  /** An access token, kept in memory only. */
  token?: string,
  /** The address of a folder that is served in the Hub's layout, instead of a Hub. It needs neither ranges nor an API. */
  source?: string,
  /** The database's name. */
  database?: string,
  /** Whether full weights are wanted where there are both; fp16 ones where it is not said. */
  full?: boolean,
};

/** Which kind of extra network a file is. */
export type NetworkKind = "lora" | "embedding";

/** Which of torch's generators the noise of a picture comes from. */
export type Noise = "cpu" | "philox";

/** What is timed. */
export type Part = "text_encoder" | "unet" | "vae_decoder";

/** What one phase asks for. */
export type PhasePlan = {
  /** `load`, `encode`, `prepare`, `first step`, `step` (each later one) or `decode`. */
  name: string,
  /** Bytes of all buffers that exist now. */
  live_bytes: number,
  /** The most that `Counts::live_bytes` has been. */
  peak_bytes: number,
  /** Bytes of weights among the live ones. */
  weight_bytes: number,
  /** Bytes of the arena among the live ones. */
  arena_bytes: number,
  /** Bytes of everything else among the live ones: latents, keys and values, parameters. */
  other_bytes: number,
  /** Buffers made. */
  buffers: number,
  /** Bytes of buffers made. */
  allocated_bytes: number,
  /** The largest range that one binding saw. */
  largest_binding_bytes: number,
  /** Dispatches recorded. */
  dispatches: number,
  /** Command buffers submitted. */
  submits: number,
  /** Pipelines that dispatches were recorded with, each once, whenever they were compiled. */
  pipelines: number,
  /** Bind groups made. */
  bind_groups: number,
  /** Floating-point operations of the dispatches. */
  flops: number,
  /** Bytes that the dispatches' operands have, each counted once a dispatch. */
  moved_bytes: number,
  /** Bytes written from the host. */
  uploaded_bytes: number,
  /** Bytes of weights among them that were brought in while a program ran, because they did not stay. */
  streamed_bytes: number,
  /** Dispatches that packed these. `Counts::dispatches` is without them. */
  streamed_dispatches: number,
  /** Times the host waited for bytes. */
  readbacks: number,
  /** Bytes that it waited for. */
  readback_bytes: number,
};

/** The part of a request that differs from picture to picture. */
export type PictureChoice = {
  /** What is drawn. */
  prompt: string,
  /** What is steered away from. */
  negative_prompt?: string,
  /** What the prompt was decided from. */
  template?: string,
  /** Likewise of the negative prompt. */
  negative_template?: string,
  /** The seed in digits. */
  seed: string,
  /** Likewise the seed that the noise is turned towards. */
  variation_seed?: string,
  /** Pictures. */
  count: number,
};

/** What made a picture, as far as its file says and it can be understood. Our own pictures have all of it. */
export type PictureParameters = {
  /** Whether the sampler can be asked for here. */
  knows_sampler: boolean,
  /** Whether nothing was found that a request could take. */
  is_empty: boolean,
  /** The program by the form of what it wrote, such as `ComfyUI`; several write AUTOMATIC1111's. */
  program: string,
  /** The beginning of the SHA-256 of the model's file. */
  model_hash?: string,
  /** The VAE that took the place of the model's own. */
  vae?: string,
  /** The embeddings whose words the prompts have. */
  embeddings?: Array<UsedEmbedding>,
  /** The type that the model's weights were held in, where they were quantised for the device. */
  weights?: WeightType,
  /** What could not, in sentences without a full stop. */
  notes: Array<string>,
  /** What to draw. */
  prompt?: string,
  /** What to avoid. */
  negative_prompt?: string,
  /** What the prompt was decided from, where it had options. */
  template?: string,
  /** Likewise of what to avoid. */
  negative_template?: string,
  /** Denoising steps. */
  steps?: number,
  /** The sampler: our name of it where it is one of ours, otherwise as it was written. */
  sampler?: string,
  /** How the steps were spread over the training steps. */
  spacing?: Spacing,
  /** Classifier-free guidance scale. */
  guidance_scale?: number,
  /** The seed of the noise; in JSON a text where JavaScript's numbers do not hold it. */
  seed?: number | string,
  /** The seed that the noise was turned towards, likewise. */
  variation_seed?: number | string,
  /** How far, above 0 to 1. */
  variation_strength?: number,
  /** Which of torch's generators the noise came from. */
  noise?: Noise,
  /** Pixels in a row. */
  width?: number,
  /** Rows. */
  height?: number,
  /** Whether the sides may be any multiple of 8. */
  any_size?: boolean,
  /** The model's name. */
  model?: string,
  /** What the UNet was taken to predict, `epsilon` or `v`, where that was said when the model was opened. */
  prediction?: string,
  /** How far the picture departed from another one, 0 to 1; absent for text-to-image. */
  strength?: number,
  /** Layers of the text encoder that were left out at the end, as `clip_skip_counting` counts. */
  clip_skip?: number,
  /** How they are counted; as in diffusers where absent. */
  clip_skip_counting?: ClipSkipCounting,
  /** What the prompts are written in. */
  prompt_syntax?: PromptSyntax,
  /** Whether a long prompt was encoded in chunks. */
  long_prompt_chunks?: boolean,
  /** How much noise DDIM or TCD added in each step, where that was chosen. */
  eta?: number,
  /** The steps as training steps, where they were chosen one by one. */
  timesteps?: Array<number>,
  /** The noise levels of the steps, where they were chosen one by one. */
  sigmas?: Array<number>,
  /** How a start picture of another shape was brought to the size. */
  fit?: string,
  /** Pixels around the masked part of a start picture that alone was drawn. */
  padding_mask_crop?: number,
  /** By how many pixels the mask was blurred. */
  mask_blur?: number,
  /** XL's conditioning on the original size, width and height in pixels. */
  original_size?: [number, number],
  /** XL's conditioning on the crop, left and top in pixels. */
  crop?: [number, number],
  /** The LoRAs that changed the model. */
  loras?: Array<UsedLora>,
  /** The program's version. */
  version?: string,
};

/** What a picture would ask of the GPU; see the module. */
export type Plan = {
  /** The model. */
  model: string,
  /** Pixels. */
  width: number,
  /** Pixels. */
  height: number,
  /** `f16` or `f32`. */
  dtype: string,
  /** What weights are held in: `f32`, `f16`, `q8_0` or `q4_0`. */
  weights: string,
  /** `resident`, `staged` or `streamed`. */
  residency: string,
  /** In order. */
  phases: Array<PhasePlan>,
  /** The most bytes of GPU memory at once. */
  peak_bytes: number,
  /** The same if everything stayed loaded. */
  resident_peak_bytes: number,
  /** The same if components were loaded one after another. */
  staged_peak_bytes: number,
  /** The same if as few weights as possible were on the GPU at once: no budget below it suffices. */
  least_peak_bytes: number,
  /** Bytes of weights that are brought to the GPU in each step, because they do not stay there. */
  streamed_bytes_per_step: number,
  /** Bytes of all weights as they lie on the GPU. */
  weight_bytes: number,
  /** The largest range that one binding sees. */
  largest_binding_bytes: number,
  /** The adapter's limit of that. */
  max_binding_bytes: number,
  /**
   * The speed of the GPU that submits are counted for, in floating-point operations a second. Drawing follows the speed
   * that it measures.
   */
  paced_for_flops_per_sec: number,
  /** The budget, if there is one. */
  budget_bytes?: number,
  /** Whether the peak is within the budget. */
  fits: boolean,
  /** What would fit, where it does not. */
  advice?: string,
};

/** What is planned: a picture of one of the seven versions, or of the loaded model where none is named, on the GPU. */
export type PlanRequest = {
  version?: string,
  width?: number,
  height?: number,
  any_size?: boolean,
  guidance_scale?: number,
  /** The prompts, whose chunks take memory, of the loaded model: for a version that is named they do not count. */
  prompt?: string,
  negative_prompt?: string,
  /** What they are written in. */
  prompt_syntax?: PromptSyntax,
  count?: number,
  steps?: number,
  sampler?: string,
  /** Whether it starts from a picture, which the VAE encodes. */
  from_picture?: boolean,
  dtype?: Dtype,
  /** The type that weights are held in; where it is not said, the one that loading chooses: f16, or less where the budget asks. */
  weights?: WeightType,
  budget_bytes?: number,
};

/** What a UNet predicts. */
export type Prediction = "epsilon" | "v";

/** A name for steps, sampler, spacing and guidance that belong together. Settings that a request gives win. */
export type Preset = "lcm" | "lightning-2" | "lightning-4" | "lightning-8" | "hyper-1" | "hyper-2" | "hyper-4" | "hyper-8" | "turbo";

/** What a prompt is written in. */
export type PromptSyntax = "a1111" | "comfy" | "compel" | "plain";

/** Which runner computes. */
export type RunnerName = "cpu" | "gpu";

/** `timestep_spacing` of a scheduler config (arXiv 2305.08891, table 2). */
export type Spacing = "leading" | "trailing" | "linspace";

/** What one step did. */
export type StepReport = {
  "stage": "encoded",
  n_tokens: number,
  truncated?: string,
  /** What the prompts' syntax does not know. */
  notes: Array<string>,
} | {
  "stage": "prepared",
  picture: number,
} | {
  "stage": "denoised",
  picture: number,
  step: number,
  n_steps: number,
  repeated_in_f32: boolean,
} | {
  "stage": "decoded",
  picture: number,
  seed: number | string,
  repeated_in_f32: boolean,
} | {
  "stage": "done"
};

/** Choices for one adapter. */
export type Tiles = {
  [key in string]: Choice
};

/** How far a download, an import or a check is. Sizes are in bytes. */
export type TransferProgress = {
  path: string,
  file_bytes: number,
  file_total: number,
  bytes: number,
  total: number,
  bytes_per_sec: number,
  secs_left?: number,
};

/** An embedding (textual inversion) that a prompt has the word of. */
export type UsedEmbedding = {
  /** Its word. */
  name: string,
  /** The SHA-256 of its file in lower-case hexadecimal, where it is known. */
  sha256?: string,
  /** What another program wrote as its hash. */
  hash?: string,
};

/** A LoRA that changed the model, with the file that it was. */
export type UsedLora = {
  /** What it was called. */
  name: string,
  /** How strong it was. */
  strength: number,
  /** Likewise in the text encoders, where that was another number. */
  text_strength?: number,
  /** The SHA-256 of its file in lower-case hexadecimal, where it is known. */
  sha256?: string,
  /**
   * What another program wrote as its hash: AUTOMATIC1111 the first 12 digits of the SHA-256 of what is behind the
   * file's header.
   */
  hash?: string,
};

/** One of the seven versions, with its defaults. */
export type VersionInfo = {
  key: string,
  name: string,
  repository: string,
  width: number,
  height: number,
  steps: number,
  guidance_scale: number,
  size_multiple: number,
  is_inpaint: boolean,
  /** About how much there is to download. */
  download_bytes: number,
};

/** How a weight's values are held. */
export type WeightType = "f32" | "f16" | "q8_0" | "q4_0";

/** How much work a request is. */
export type Work = {
  /** Calls of the UNet for one picture. */
  n_steps: number,
  /** Floating-point operations in all. */
  flops: number,
  /** What the prompts' syntax does not know and is drawn as text. */
  notes: Array<string>,
};

/** Pixels as a canvas has them: red, green, blue and alpha. */
export type Pixels = {
  width: number,
  height: number,
  data: Uint8ClampedArray<ArrayBuffer>,
};

/** A picture given: a PNG, JPEG, WebP, GIF, BMP or TIFF file, or pixels as a canvas has them. */
export type GivenPicture = Uint8Array | ImageData | { width: number, height: number, data: Uint8ClampedArray };

/** What can be done about an error, in a word. `worker` is for errors of the worker itself, and no wasm throws it. */
export type ErrorCode = "request" | "model" | "device" | "memory" | "lost" | "picture" | "file" | "network" | "storage" | "cancelled" | "worker";

/** What a checkpoint that cannot be used as it is takes to be usable. */
export type Need = "prediction" | "config" | "text_encoder" | "vae" | "as_vae" | "as_decoder" | "as_text_encoder";

/** What is thrown: `field` names the setting at fault, where it is one. */
export interface Failure extends Error {
  code: Exclude<ErrorCode, "worker">;
  needs?: Need;
  field?: string;
}
