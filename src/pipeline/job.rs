//! What is asked of a generation and what it tells: plain data.

use crate::image::RgbImage;
use crate::pipeline::prompt::PromptReport;
use crate::request::SDConfig;

/// What a request starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// From noise.
    TextToImage,
    /// From a picture, noised by `strength`.
    ImageToImage,
    /// From a picture of which only the white part of a mask is repainted.
    Inpaint,
}

/// Everything that is asked for.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Prompts, size, steps, seed.
    pub config: SDConfig,
    /// The picture to start from. Of another size than asked for, it is resized as `config.fit` says (Lanczos).
    pub start_picture: Option<RgbImage>,
    /// White where the start picture is repainted; resized likewise and cut at one half.
    pub mask: Option<RgbImage>,
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
