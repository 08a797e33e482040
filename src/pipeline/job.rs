//! What is asked of a generation and what it tells: plain data.

use crate::image::{Fit, RgbImage};
use crate::parameters::Parameters;
use crate::pipeline::prompt::PromptReport;
use crate::request::{LongPrompt, SDConfig};
use crate::sampler::Steps;

/// What a request starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// From noise.
    TextToImage,
    /// From a picture, noised by `strength`.
    ImageToImage,
    /// From a picture of which only the white part of a mask is drawn anew.
    Inpaint,
}

/// Everything that is asked for.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Prompts, size, steps, seed.
    pub config: SDConfig,
    /// The picture to start from. Of another size than asked for, it is resized as `config.fit` says (Lanczos).
    pub init: Option<RgbImage>,
    /// White where the picture is to be drawn anew; resized likewise and cut at one half.
    pub mask: Option<RgbImage>,
    /// What to do with long prompts.
    pub long_prompt: LongPrompt,
}

/// What a picture says of itself: the settings of `config`, drawn by the sampler and the model of these names. The seed is
/// that of the first picture.
#[must_use]
pub fn parameters_of(
    config: &SDConfig,
    task: Task,
    long_prompt: LongPrompt,
    sampler: String,
    model: String,
) -> Parameters {
    Parameters {
        prompt: config.prompt.clone(),
        negative_prompt: config.negative_prompt.clone(),
        steps: config.steps as u32,
        sampler,
        guidance_scale: config.guidance_scale,
        seed: config.seed,
        width: config.width as u32,
        height: config.height as u32,
        any_size: config.any_size,
        model,
        strength: (task != Task::TextToImage).then_some(config.strength),
        clip_skip: config.clip_skip.map(|skip| skip as u32),
        long_prompt_chunks: long_prompt == LongPrompt::Chunks,
        eta: (config.eta != 0.0).then_some(config.eta),
        timesteps: match &config.given_steps {
            Some(Steps::Timesteps(timesteps)) => Some(timesteps.clone()),
            _ => None,
        },
        sigmas: match &config.given_steps {
            Some(Steps::Sigmas(sigmas)) => Some(sigmas.clone()),
            _ => None,
        },
        fit: (task != Task::TextToImage && config.fit != Fit::default()).then(|| config.fit.name().to_owned()),
        version: format!("darkroom {}", env!("CARGO_PKG_VERSION")),
    }
}

/// What the next step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Text to conditioning; the picture and the mask to latents' distributions.
    Encode,
    /// A new picture's noise and latents.
    Prepare,
    /// Denoising.
    Denoise,
    /// Latents to pixels.
    Decode,
    /// Nothing is left to do.
    Done,
}

/// What a step did.
#[derive(Clone, Debug)]
pub enum Event {
    /// The prompts are encoded.
    Encoded {
        /// Of the prompt.
        prompt: PromptReport,
        /// Of the negative prompt.
        negative: PromptReport,
    },
    /// Noise is drawn for picture `picture` (from 0).
    Prepared {
        /// Which picture.
        picture: usize,
    },
    /// One call of the UNet is done.
    Denoised {
        /// Which picture.
        picture: usize,
        /// Calls done, from 1.
        step: usize,
        /// Calls in all.
        n_steps: usize,
        /// Whether the step overflowed 16 bits and was repeated in f32, in which the rest is drawn.
        repeated_in_f32: bool,
    },
    /// A picture is finished.
    Decoded {
        /// Which picture.
        picture: usize,
        /// Its seed.
        seed: u64,
        /// Its pixels.
        image: RgbImage,
        /// Whether decoding overflowed 16 bits and was repeated in f32.
        repeated_in_f32: bool,
    },
}
