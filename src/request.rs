//! What a caller may ask for: one value with every setting of a picture, and the check that it can be drawn.
//!
//! A request knows no device, opens no file and rounds nothing: a setting that cannot be drawn is an
//! [`Error::Request`](crate::Error::Request) that says what would work. Prompts are text here; [`crate::prompt`] reads them later.

mod asked;
mod check;
mod expand;
mod loras;
mod preset;
mod seed;
mod variation;

pub use asked::{Attention, ClipSkipCounting, Defaults, LongPrompt, Request};
pub use check::SideRule;
use check::refuse;
pub use expand::ExpandedRequest;
pub use loras::{LoraUse, MAX_LORA_STRENGTH, MAX_LORAS, take_lora_tags};
pub use preset::Preset;
pub use variation::Variation;

use crate::error::Result;
use crate::image::Fit;
use crate::model::version::SDVersion;
use crate::prompt::PromptSyntax;
use crate::rng::Noise;
use crate::sampler::{RunOptions, Sampler, Spacing, Steps};

/// The longest side of a picture, in pixels.
pub const MAX_SIDE: usize = 4096;
/// The largest number of denoising steps.
pub const MAX_STEPS: usize = 150;
/// The largest classifier-free guidance scale.
pub const MAX_GUIDANCE_SCALE: f64 = 20.0;
/// The most pictures that one request draws.
pub const MAX_COUNT: usize = 64;
/// The most that a mask is blurred by, in pixels.
pub const MAX_MASK_BLUR: f64 = 256.0;
/// The largest number in XL's size conditioning, in pixels.
pub const MAX_CONDITIONED_SIDE: usize = 16_384;

/// A prompt as it was meant: without a byte order mark, which an editor put before it, with `\n` for every end of a line,
/// and without ends of lines behind it.
#[must_use]
pub fn clean_prompt(text: &str) -> String {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.replace("\r\n", "\n").replace('\r', "\n").trim_end_matches('\n').to_owned()
}

/// All settings of a request. [`SDConfig::new`] gives a version's defaults, the `with_` functions change them, and
/// [`SDConfig::validate`] tells whether the result can be drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct SDConfig {
    /// The version that the defaults and limits come from.
    pub version: SDVersion,
    /// Width of the picture in pixels.
    pub width: usize,
    /// Height of the picture in pixels.
    pub height: usize,
    /// Whether sides may be any multiple of the VAE's factor, as in diffusers, and not only of what models are at their
    /// best at. See [`SideRule`].
    pub any_size: bool,
    /// How a start picture of another shape is brought to that size. Without one it has no effect.
    pub fit: Fit,
    /// Denoising steps, 1 to 150. With a start picture, `strength` of them are run.
    pub steps: usize,
    /// Classifier-free guidance, 0 to 20. At 1 or below the UNet runs once a step instead of twice.
    pub guidance_scale: f64,
    /// How far a start picture is changed, 0 (not at all) to 1 (replaced). Without one it has no effect.
    pub strength: f64,
    /// Where given, only what is masked is drawn, with so many pixels of the start picture around it, at the size above, and
    /// put back into the picture, which keeps its own. See [`crate::image::Region`].
    pub padding_mask_crop: Option<usize>,
    /// Radius in pixels of the start picture by which the mask is blurred; 0 for a hard one.
    pub mask_blur: f64,
    /// The seed of the first picture; the picture with index `i` uses `seed + i`, see [`SDConfig::seed_of`].
    pub seed: u64,
    /// The seed that the noise is turned towards. See [`SDConfig::variation_of`].
    pub variation: Option<Variation>,
    /// Which of torch's generators the noise comes from.
    pub noise: Noise,
    /// What to draw.
    pub prompt: String,
    /// What to steer away from. It has no effect where guidance has none. `None` is not the same as an empty text: XL
    /// then steers away from zeros, as diffusers does, not from the encoding of nothing.
    pub negative_prompt: Option<String>,
    /// What the prompt was decided from; it is written into the picture and has no effect.
    pub template: Option<String>,
    /// Likewise of what to steer away from.
    pub negative_template: Option<String>,
    /// How many pictures to draw, 1 to 64.
    pub count: usize,
    /// The sampler, or `None` for the one that the checkpoint's `scheduler_config.json` names.
    pub sampler: Option<Sampler>,
    /// How the steps are spread over the training steps, or `None` for what the checkpoint says.
    pub spacing: Option<Spacing>,
    /// How much noise DDIM and TCD add in each step, 0 to 1; no other sampler has the choice.
    pub eta: f64,
    /// The steps one by one, where the request chose them; [`SDConfig::steps`] is then their number. See
    /// [`SDConfig::with_given_steps`].
    pub given_steps: Option<Steps>,
    /// How many of the text encoder's last layers to skip, or `None` for what the version does by itself. See
    /// [`SDConfig::skipped_layers`].
    pub clip_skip: Option<usize>,
    /// How that is counted.
    pub clip_skip_counting: ClipSkipCounting,
    /// What the prompts are written in.
    pub prompt_syntax: PromptSyntax,
    /// What to do with prompts of more tokens than the text encoder takes at once.
    pub long_prompt: LongPrompt,
    /// How attention's scores are held.
    pub attention: Attention,
    /// XL's conditioning on the size of the original photograph (width, height), or `None` for the picture's own size.
    pub original_size: Option<(usize, usize)>,
    /// XL's conditioning on the crop of the training photograph (left, top), or `None` for (0, 0), an uncropped one.
    pub crop: Option<(usize, usize)>,
    /// The LoRAs that change the model, in the order in which they are summed.
    pub loras: Vec<LoraUse>,
}

impl SDConfig {
    /// The version's own size, steps and guidance; an empty prompt, seed 0, one picture.
    #[must_use]
    pub fn new(version: SDVersion) -> Self {
        let (width, height) = version.default_size();
        SDConfig {
            version,
            width,
            height,
            any_size: false,
            fit: Fit::default(),
            steps: version.default_steps(),
            guidance_scale: version.default_guidance_scale(),
            strength: 0.8,
            padding_mask_crop: None,
            mask_blur: 0.0,
            seed: 0,
            variation: None,
            noise: Noise::default(),
            prompt: String::new(),
            negative_prompt: None,
            template: None,
            negative_template: None,
            count: 1,
            sampler: None,
            spacing: None,
            eta: 0.0,
            given_steps: None,
            clip_skip: None,
            clip_skip_counting: ClipSkipCounting::default(),
            prompt_syntax: PromptSyntax::default(),
            long_prompt: LongPrompt::default_of(PromptSyntax::default()),
            attention: Attention::default(),
            original_size: None,
            crop: None,
            loras: Vec::new(),
        }
    }

    /// Sets width and height, in pixels.
    #[must_use]
    pub fn with_size(mut self, width: usize, height: usize) -> Self {
        self.width = width;
        self.height = height;
        self
    }

    /// Sets how a start picture of another shape is brought to the size.
    #[must_use]
    pub fn with_fit(mut self, fit: Fit) -> Self {
        self.fit = fit;
        self
    }

    /// Sets the number of denoising steps.
    #[must_use]
    pub fn with_steps(mut self, steps: usize) -> Self {
        self.steps = steps;
        self
    }

    /// Sets the classifier-free guidance scale.
    #[must_use]
    pub fn with_guidance_scale(mut self, guidance_scale: f64) -> Self {
        self.guidance_scale = guidance_scale;
        self
    }

    /// Sets how far a start picture is changed.
    #[must_use]
    pub fn with_strength(mut self, strength: f64) -> Self {
        self.strength = strength;
        self
    }

    /// Sets that only what is masked is drawn, with so many pixels around it.
    #[must_use]
    pub fn with_padding_mask_crop(mut self, padding: Option<usize>) -> Self {
        self.padding_mask_crop = padding;
        self
    }

    /// Sets by which radius in pixels the mask is blurred.
    #[must_use]
    pub fn with_mask_blur(mut self, radius: f64) -> Self {
        self.mask_blur = radius;
        self
    }

    /// Sets the seed of the first picture.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the seed that the noise is turned towards.
    #[must_use]
    pub fn with_variation(mut self, variation: Option<Variation>) -> Self {
        self.variation = variation;
        self
    }

    /// Sets which of torch's generators the noise comes from.
    #[must_use]
    pub fn with_noise(mut self, noise: Noise) -> Self {
        self.noise = noise;
        self
    }

    /// Sets what to draw, as [`clean_prompt`] leaves it.
    #[must_use]
    pub fn with_prompt(mut self, prompt: impl Into<String>) -> Self {
        self.prompt = clean_prompt(&prompt.into());
        self
    }

    /// Sets what to steer away from, as [`clean_prompt`] leaves it.
    #[must_use]
    pub fn with_negative_prompt(self, negative_prompt: impl Into<String>) -> Self {
        self.with_optional_negative_prompt(Some(negative_prompt.into()))
    }

    /// Sets what to steer away from, or that nothing was said about it.
    #[must_use]
    pub fn with_optional_negative_prompt(mut self, negative_prompt: Option<String>) -> Self {
        self.negative_prompt = negative_prompt.as_deref().map(clean_prompt);
        self
    }

    /// Sets how many pictures are drawn.
    #[must_use]
    pub fn with_count(mut self, count: usize) -> Self {
        self.count = count;
        self
    }

    /// Sets the sampler, in place of the checkpoint's own.
    #[must_use]
    pub fn with_sampler(mut self, sampler: impl Into<Sampler>) -> Self {
        self.sampler = Some(sampler.into());
        self
    }

    /// Sets how much noise DDIM and TCD add in each step.
    #[must_use]
    pub fn with_eta(mut self, eta: f64) -> Self {
        self.eta = eta;
        self
    }

    /// Sets the steps from what a request says: their number, the timesteps one by one, or the noise levels, of which
    /// there is one more than there are steps. Nothing changes where it says nothing.
    ///
    /// # Errors
    /// [`Error::Request`](crate::Error::Request) if it says two things that do not agree, or lists no step.
    pub fn with_given_steps(
        mut self,
        number: Option<usize>,
        timesteps: Option<Vec<usize>>,
        sigmas: Option<Vec<f64>>,
    ) -> Result<Self> {
        let given = match (timesteps, sigmas) {
            (Some(_), Some(_)) => return refuse("timesteps", "together with sigmas", "give one of the two"),
            (Some(timesteps), None) if timesteps.is_empty() => {
                return refuse("timesteps", "without any", "give one or more, or leave the list out");
            }
            (None, Some(sigmas)) if sigmas.len() < 2 => {
                let got = if sigmas.is_empty() { "without any" } else { "with a single one" };
                return refuse("sigmas", got, "give two or more: a step leads from one to the next");
            }
            (Some(timesteps), None) => Some(Steps::Timesteps(timesteps)),
            (None, Some(sigmas)) => Some(Steps::Sigmas(sigmas)),
            (None, None) => None,
        };
        self.steps = match (&given, number) {
            (Some(given), Some(number)) if given.number() != number => {
                let expected = format!("the list has {}: leave the number out", given.number());
                return refuse("steps", number, expected);
            }
            (Some(given), _) => given.number(),
            (None, number) => number.unwrap_or(self.steps),
        };
        self.given_steps = given;
        Ok(self)
    }

    /// What the sampler is told, for image-to-image with the strength.
    #[must_use]
    pub fn run_options(&self, strength: Option<f64>) -> RunOptions {
        let steps = self.given_steps.clone().unwrap_or(Steps::Number(self.steps));
        RunOptions { steps, strength, eta: self.eta }
    }

    /// Sets how many of the text encoder's last layers are skipped.
    #[must_use]
    pub fn with_clip_skip(mut self, clip_skip: Option<usize>) -> Self {
        self.clip_skip = clip_skip;
        self
    }

    /// Sets how skipped layers are counted.
    #[must_use]
    pub fn with_clip_skip_counting(mut self, counting: ClipSkipCounting) -> Self {
        self.clip_skip_counting = counting;
        self
    }

    /// Sets what the prompts are written in. What is done with long ones stays as it is.
    #[must_use]
    pub fn with_prompt_syntax(mut self, syntax: PromptSyntax) -> Self {
        self.prompt_syntax = syntax;
        self
    }

    /// The text encoder's layers that are skipped for the prompt and for the negative prompt, beyond what a model of that
    /// version leaves out by itself.
    #[must_use]
    pub fn skipped_layers(&self, version: SDVersion) -> (usize, usize) {
        match (self.clip_skip, self.clip_skip_counting) {
            (None, _) => (0, 0),
            // diffusers applies it to the prompt alone.
            (Some(skip), ClipSkipCounting::Diffusers) => (skip, 0),
            (Some(layer), ClipSkipCounting::A1111) => {
                let skip = match version {
                    SDVersion::V1_5 | SDVersion::V1_5Inpaint => layer.saturating_sub(1),
                    SDVersion::V2_1 | SDVersion::V2Inpaint => 0,
                    SDVersion::Xl | SDVersion::XlInpaint | SDVersion::Turbo => layer.saturating_sub(2),
                };
                (skip, skip)
            }
        }
    }

    /// Sets what to do with long prompts.
    #[must_use]
    pub fn with_long_prompt(mut self, long_prompt: LongPrompt) -> Self {
        self.long_prompt = long_prompt;
        self
    }

    /// Sets how attention's scores are held.
    #[must_use]
    pub fn with_attention(mut self, attention: Attention) -> Self {
        self.attention = attention;
        self
    }

    /// Sets whether sides may be any multiple of the VAE's factor.
    #[must_use]
    pub fn with_any_size(mut self, any_size: bool) -> Self {
        self.any_size = any_size;
        self
    }

    /// Sets XL's conditioning on the size of the original photograph.
    #[must_use]
    pub fn with_original_size(mut self, width: usize, height: usize) -> Self {
        self.original_size = Some((width, height));
        self
    }

    /// Sets XL's conditioning on the crop of the training photograph.
    #[must_use]
    pub fn with_crop(mut self, left: usize, top: usize) -> Self {
        self.crop = Some((left, top));
        self
    }

    /// Sets the LoRAs that change the model.
    #[must_use]
    pub fn with_loras(mut self, loras: Vec<LoraUse>) -> Self {
        self.loras = loras;
        self
    }

    /// The seeds of the pictures, in order.
    ///
    /// # Errors
    /// [`Error::Request`](crate::Error::Request) where the last one would be larger than a `u64`.
    pub fn seeds(&self) -> Result<impl Iterator<Item = u64>> {
        self.check_seed()?;
        Ok((0..self.count.max(1)).map(|picture_idx| self.seed_of(picture_idx)))
    }

    /// The seed of a picture, by its index: each adds one, but with a variation all have the same.
    #[must_use]
    pub fn seed_of(&self, picture_idx: usize) -> u64 {
        self.seed.wrapping_add(if self.variation.is_some() { 0 } else { picture_idx as u64 })
    }

    /// The variation of a picture, by its index: each adds one to the variation seed, as in AUTOMATIC1111.
    #[must_use]
    pub fn variation_of(&self, picture_idx: usize) -> Option<Variation> {
        self.variation.map(|Variation { seed, strength }| {
            let seed = seed.wrapping_add(picture_idx as u64);
            Variation { seed, strength }
        })
    }
}
