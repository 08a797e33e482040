//! The options of `darkroom generate`, and the request that they make.

use std::path::PathBuf;

use darkroom::image::{Border, Fit};
use darkroom::prompt::PromptSyntax;
use darkroom::request::{Attention, ClipSkipCounting, LongPrompt, Preset, Request};
use darkroom::rng::Noise;
use darkroom::sampler::{Sampler, Spacing};

use crate::engine_args::EngineArgs;
use crate::loras::{self, LoraArg, lora};
use crate::model_args::ModelArgs;
use crate::numbers::{border, corner, fraction, level, number, positive, seed, size, timestep, whole};

/// `darkroom generate`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub model: ModelArgs,
    /// What to draw, in the syntax that `--prompt-syntax` says. <lora:NAME:WEIGHT> in it takes that file of --lora-dir.
    #[arg(long, allow_hyphen_values = true)]
    pub prompt: String,
    /// What to steer away from.
    #[arg(long, allow_hyphen_values = true)]
    pub negative: Option<String>,
    /// A LoRA (or LoCon, LoHa, LoKr, IA3, DoRA) and how strong it is, 1 where it is left out; a second number is for the text
    /// encoders. A file, owner/repo[/file], or https://…. May be given several times.
    #[arg(long, value_name = "FILE[:STRENGTH[:TEXT_STRENGTH]]", value_parser = lora)]
    pub lora: Vec<LoraArg>,
    /// A folder of LoRAs, for tags in the prompt: <lora:NAME:WEIGHT>, or <lora:NAME:TEXT:UNET>. NAME is a file's name
    /// without its ending, or the name that its metadata gives.
    #[arg(long, value_name = "FOLDER")]
    pub lora_dir: Option<PathBuf>,
    /// A folder of wildcards: __NAME__ in a prompt is a line of NAME.txt there, chosen by the seed.
    #[arg(long, value_name = "FOLDER")]
    pub wildcards: Option<PathBuf>,
    /// Steps, sampler and guidance of models and LoRAs that were made for a few steps; what is given beside it wins.
    #[arg(long, value_enum)]
    pub preset: Option<Preset>,
    /// Denoising steps, 1 to 150 [default: the version's].
    #[arg(long, allow_negative_numbers = true, value_parser = positive)]
    pub steps: Option<usize>,
    /// Guidance scale, 0 to 20; at 1 and below there is no guidance [default: the version's].
    #[arg(long, allow_negative_numbers = true, value_parser = number)]
    pub guidance: Option<f64>,
    /// The sampler [default: the model's own].
    #[arg(long, help = format!("The sampler [default: the model's own]: {}", Sampler::known()))]
    pub sampler: Option<String>,
    /// How the steps are spread over the training steps [default: as the model says].
    #[arg(long, value_enum)]
    pub spacing: Option<Spacing>,
    /// How much noise the samplers ddim and tcd add in each step, 0 to 1 [default: 0].
    #[arg(long, allow_negative_numbers = true, value_parser = fraction)]
    pub eta: Option<f64>,
    /// The training steps to visit, in place of a number of steps: 999,850,736 and so on down.
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true, value_name = "T,T,…", value_parser = timestep)]
    pub timesteps: Option<Vec<usize>>,
    /// The noise levels to visit (for the sampler euler), from large to small, usually with 0 as the last one.
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true, value_name = "S,S,…", value_parser = level)]
    pub sigmas: Option<Vec<f64>>,
    /// Seed of the first picture; the next ones count on [default: random, printed].
    #[arg(long, allow_negative_numbers = true, value_parser = seed)]
    pub seed: Option<u64>,
    /// A second seed that the noise of the first is turned towards, as in AUTOMATIC1111; with --count, this one counts on and
    /// --seed stays [default: random, printed, where there is a strength].
    #[arg(long, value_name = "SEED", allow_negative_numbers = true, value_parser = seed)]
    pub variation_seed: Option<u64>,
    /// How far, 0 (the picture of --seed) to 1 (the noise of --variation-seed).
    #[arg(long, value_name = "STRENGTH", allow_negative_numbers = true, value_parser = fraction)]
    pub variation_strength: Option<f64>,
    /// Where the noise of a seed comes from: torch's generator on the CPU, as in diffusers and ComfyUI, or its CUDA
    /// generator (Philox), as in AUTOMATIC1111 and Forge [default: cpu].
    #[arg(long, value_enum)]
    pub noise: Option<Noise>,
    /// Width in pixels [default: the start picture's, rounded down to what the model can draw; without one the model's].
    #[arg(long, allow_negative_numbers = true, value_parser = positive)]
    pub width: Option<usize>,
    /// Height in pixels [default: likewise].
    #[arg(long, allow_negative_numbers = true, value_parser = positive)]
    pub height: Option<usize>,
    /// Allow sides that are any multiple of 8, as diffusers does, and not only of 64 (XL: 32), which models are at their
    /// best at.
    #[arg(long)]
    pub any_size: bool,
    /// A picture to start from (PNG, JPEG, WebP, GIF, BMP or TIFF).
    #[arg(long)]
    pub init: Option<PathBuf>,
    /// How a start picture of another shape is brought to the size: stretch it, crop around its middle, or pad it with
    /// its edges [default: stretch, as diffusers does].
    #[arg(long, value_parser = clap::value_parser!(Fit))]
    pub fit: Option<Fit>,
    /// How far to go from it, 0 to 1 [default: 0.8; with a mask 1, for XL 0.9999].
    #[arg(long, allow_negative_numbers = true, value_parser = fraction)]
    pub strength: Option<f64>,
    /// A picture that is white where `--init` is repainted; one of a single colour is transparent there instead.
    #[arg(long)]
    pub mask: Option<PathBuf>,
    /// Extend --init by so many pixels on each side, and draw the border and up to 16 pixels of the picture beside it.
    #[arg(long, value_name = "LEFT,TOP,RIGHT,BOTTOM", value_parser = border)]
    pub outpaint: Option<Border>,
    /// Draw only what the mask marks, with so many pixels of the picture around it, at the size of --width and --height
    /// [default: the model's own], and put it back into the picture, which keeps its size.
    #[arg(long, value_name = "PIXELS", allow_negative_numbers = true, value_parser = whole)]
    pub padding_mask_crop: Option<usize>,
    /// Blur the mask by so many pixels of the picture, so that what is kept fades into what is drawn [default: 0].
    #[arg(long, value_name = "PIXELS", allow_negative_numbers = true, value_parser = number)]
    pub mask_blur: Option<f64>,
    /// How many pictures.
    #[arg(long, allow_negative_numbers = true, value_parser = positive, default_value_t = 1)]
    pub count: usize,
    /// XL's conditioning on the size of the original photograph [default: the picture's own].
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = size)]
    pub original_size: Option<(usize, usize)>,
    /// XL's conditioning on the crop of the training photograph, from the left and the top [default: 0x0].
    #[arg(long, value_name = "LEFTxTOP", value_parser = corner)]
    pub crop: Option<(usize, usize)>,
    /// Leave out this many of the text encoder's last layers.
    #[arg(long, allow_negative_numbers = true, value_parser = positive)]
    pub clip_skip: Option<usize>,
    /// How --clip-skip counts: layers left out, as diffusers, or, as AUTOMATIC1111, which layer from the end is read
    /// [default: diffusers].
    #[arg(long, value_enum)]
    pub clip_skip_counting: Option<ClipSkipCounting>,
    /// What the prompts are written in.
    #[arg(long, value_enum, default_value_t = PromptSyntax::A1111)]
    pub prompt_syntax: PromptSyntax,
    /// What to do with prompts of more than 75 tokens: truncate (cut them, as diffusers does, and tell what was cut) or chunks
    /// (encode them in chunks, which end where the prompt syntax says) [default: chunks; with --prompt-syntax plain truncate].
    #[arg(long, value_enum, hide_possible_values = true)]
    pub long_prompt: Option<LongPrompt>,
    #[command(flatten)]
    pub engine: EngineArgs,
    /// How attention's scores are held.
    #[arg(long, value_enum, default_value_t = Attention::Flash)]
    pub attention: Attention,
    /// Print the time of every kernel and shape, from the GPU's clock.
    #[arg(long)]
    pub profile: bool,
    /// Threads on the CPU; with --device gpu they compile kernels and merge LoRAs [default: all].
    #[arg(long, allow_negative_numbers = true, value_parser = positive)]
    pub threads: Option<usize>,
    /// The PNG to write; with `--count` above 1, NAME-1.png, NAME-2.png and so on.
    #[arg(short, long, value_name = "OUT.png")]
    pub output: PathBuf,
    /// Print one JSON object about the run.
    #[arg(long)]
    pub json: bool,
}

impl Args {
    /// Whether a part of the start picture is repainted.
    pub fn has_mask(&self) -> bool {
        self.mask.is_some() || self.outpaint.is_some()
    }

    /// What is asked for, as the library reads it.
    pub fn request(&self) -> Request {
        Request {
            prompt: self.prompt.clone(),
            negative_prompt: self.negative.clone(),
            template: None,
            negative_template: None,
            preset: self.preset,
            width: self.width,
            height: self.height,
            any_size: self.any_size,
            fit: self.fit,
            padding_mask_crop: self.padding_mask_crop,
            mask_blur: self.mask_blur,
            steps: self.steps,
            guidance_scale: self.guidance,
            strength: self.strength,
            sampler: self.sampler.clone(),
            spacing: self.spacing,
            eta: self.eta,
            timesteps: self.timesteps.clone(),
            sigmas: self.sigmas.clone(),
            seed: self.seed,
            variation_seed: self.variation_seed,
            variation_strength: self.variation_strength,
            noise: self.noise,
            count: Some(self.count),
            clip_skip: self.clip_skip,
            clip_skip_counting: self.clip_skip_counting,
            prompt_syntax: Some(self.prompt_syntax),
            long_prompt: self.long_prompt,
            attention: Some(self.attention),
            original_size: self.original_size,
            crop: self.crop,
            loras: loras::used(&self.lora),
        }
    }
}
