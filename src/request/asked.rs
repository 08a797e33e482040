//! A request as callers spell it, every setting optional, and the one place where what they leave out is filled in.
//!
//! The command line, the server and the page build a [`Request`]; [`Request::resolve`] turns it into the
//! [`SDConfig`] that is drawn. It computes no pixels: of a start picture it needs width and height.

use serde::{Deserialize, Deserializer, Serialize};

use super::{LoraUse, MAX_SIDE, Preset, SDConfig, SideRule, refuse, take_lora_tags};
use crate::error::Result;
use crate::image::Fit;
use crate::model::version::SDVersion;
use crate::prompt::PromptSyntax;
use crate::rng::Noise;
use crate::sampler::Spacing;

/// What to do with prompts of more tokens than the text encoder takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(all(not(target_arch = "wasm32"), feature = "cli"), derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub enum LongPrompt {
    /// Cut, as diffusers does, and report what was cut.
    Truncate,
    /// Encode in chunks, which the UNet sees one behind the other. Where chunks end is the prompt
    /// syntax' own.
    Chunks,
}

impl LongPrompt {
    /// What is done where a request does not say: nothing is cut, except without a syntax, which is diffusers' way.
    #[must_use]
    pub fn default_of(syntax: PromptSyntax) -> Self {
        match syntax {
            PromptSyntax::Plain => LongPrompt::Truncate,
            PromptSyntax::A1111 | PromptSyntax::Comfy | PromptSyntax::Compel => LongPrompt::Chunks,
        }
    }
}

/// How the text encoder's layers are counted that `clip_skip` leaves out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(all(not(target_arch = "wasm32"), feature = "cli"), derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub enum ClipSkipCounting {
    /// diffusers': layers that are left out beyond what the model leaves out by itself, 1 or more, for the prompt alone.
    #[default]
    Diffusers,
    /// AUTOMATIC1111's and Forge's: which layer from the end is read, 1 the last one, for the negative prompt too. SD 2 is
    /// always read at the layer that it was trained with, and XL at the second from the end at least.
    A1111,
}

/// How attention's scores, a matrix for each head of as many rows and columns as there are tokens, are held. It decides
/// memory and speed; pictures differ by rounding at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(all(not(target_arch = "wasm32"), feature = "cli"), derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub enum Attention {
    /// Never whole: the least memory, and on the CPU the fastest. The only one on a GPU.
    #[default]
    Flash,
    /// Of one head at a time.
    Sliced,
    /// Of all heads at once.
    Full,
}

/// What a caller asks for. An absent setting is the model's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "DrawRequest", optional_fields))]
pub struct Request {
    /// What to draw. Tags `<lora:name:weight>` in it, unless it is plain text, are the same as entries of `loras`.
    pub prompt: String,
    /// What to steer away from. Absent and empty are not the same for XL, as in diffusers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative_prompt: Option<String>,
    /// What `prompt` was decided from, where it had options (`{a|b}`, `__name__`): it is written into the picture and has no
    /// effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Likewise of `negative_prompt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative_template: Option<String>,
    /// Steps, sampler, spacing and guidance of models of few steps, where they are not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// Width in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    /// Height in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<usize>,
    /// Whether the sides may be any multiple of 8 (the VAE's factor), as in diffusers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not", deserialize_with = "null_is_false")]
    #[cfg_attr(test, ts(optional, as = "Option<bool>"))]
    pub any_size: bool,
    /// How a start picture of another shape is brought to the size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fit: Option<Fit>,
    /// Only what is masked is drawn, at the request's size, with so many pixels of the start picture around it, and put back
    /// into the picture, which keeps its size: diffusers' `padding_mask_crop`, AUTOMATIC1111's "Only masked".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub padding_mask_crop: Option<usize>,
    /// Radius in pixels of the start picture by which the mask is blurred, 0 to 256: what is kept fades into what is drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_blur: Option<f64>,
    /// Denoising steps, 1 to 150.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// Classifier-free guidance, 0 to 20; at 1 and below there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance_scale: Option<f64>,
    /// How far to depart from the start picture, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
    /// The sampler's name, in any spelling that [`crate::sampler::Sampler`] parses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampler: Option<String>,
    /// How the steps are spread over the training steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spacing: Option<Spacing>,
    /// How much noise DDIM and TCD add in each step, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta: Option<f64>,
    /// The steps as training steps, from noise to picture, in place of their number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timesteps: Option<Vec<usize>>,
    /// The noise levels of the steps, one more than there are steps, in place of their number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sigmas: Option<Vec<f64>>,
    /// The seed of the first picture; each further picture adds one. Random where absent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::seed::deserialize")]
    #[cfg_attr(test, ts(type = "number | string", optional))]
    pub seed: Option<u64>,
    /// The seed that the noise is turned towards by `variation_strength`; with several pictures, this one counts on and `seed`
    /// stays, as in AUTOMATIC1111. Random where absent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::seed::deserialize")]
    #[cfg_attr(test, ts(type = "number | string", optional))]
    pub variation_seed: Option<u64>,
    /// How far, 0 (the noise of `seed`, and no variation) to 1 (that of `variation_seed`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variation_strength: Option<f64>,
    /// Which of torch's generators the noise comes from, the CPU's or CUDA's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<Noise>,
    /// Pictures, 1 to 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
    /// How many of the text encoder's last layers are skipped, as `clip_skip_counting` counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_skip: Option<usize>,
    /// How `clip_skip` counts; as diffusers where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_skip_counting: Option<ClipSkipCounting>,
    /// What the prompts are written in; AUTOMATIC1111's syntax where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_syntax: Option<PromptSyntax>,
    /// What to do with long prompts: chunks where absent, without a syntax cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long_prompt: Option<LongPrompt>,
    /// How attention's scores are held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention: Option<Attention>,
    /// XL's conditioning on the size of the original photograph: width and height in pixels; the picture's own where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_size: Option<(usize, usize)>,
    /// XL's conditioning on the crop of the training photograph: left and top in pixels; (0, 0) where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<(usize, usize)>,
    /// The LoRAs that change the model, besides those of tags in the prompt.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    #[cfg_attr(test, ts(optional, as = "Option<Vec<LoraUse>>"))]
    pub loras: Vec<LoraUse>,
}

/// A switch, for which `null` is the same as nothing, as it is for every other setting.
fn null_is_false<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Option::<bool>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A list, likewise.
fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<LoraUse>, D::Error> {
    Option::<Vec<LoraUse>>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// What a model draws with where the request is silent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Defaults {
    /// The closest of the seven versions.
    pub version: SDVersion,
    /// Width and height in pixels.
    pub size: (usize, usize),
    /// Sides are multiples of this many pixels.
    pub size_multiple: usize,
    /// With `any_size` of this many.
    pub any_size_multiple: usize,
    /// The longest side in pixels that a size is chosen with; a size that was asked for is checked elsewhere.
    pub max_side: usize,
    /// Denoising steps.
    pub steps: usize,
    /// Classifier-free guidance.
    pub guidance_scale: f64,
}

impl Defaults {
    /// Those of a version.
    #[must_use]
    pub fn of(version: SDVersion) -> Self {
        Defaults {
            version,
            size: version.default_size(),
            size_multiple: version.multiple_of(),
            any_size_multiple: SideRule::of(version).any_multiple,
            max_side: MAX_SIDE,
            steps: version.default_steps(),
            guidance_scale: version.default_guidance_scale(),
        }
    }

    /// Which sides are drawn.
    #[must_use]
    pub fn sides(&self) -> SideRule {
        SideRule { multiple: self.size_multiple, any_multiple: self.any_size_multiple }
    }

    /// How far to depart from a start picture: as in diffusers' inpainting pipelines, where XL's 0.9999 is not the same
    /// as 1.0 (which starts from pure noise), and 0.8 without a mask.
    #[must_use]
    pub fn strength(&self, has_mask: bool) -> f64 {
        match (has_mask, self.version.is_xl()) {
            (false, _) => 0.8,
            (true, false) => 1.0,
            (true, true) => 0.9999,
        }
    }

    /// The size that a start picture of `width` x `height` pixels is drawn at where the request gives none: its own,
    /// made smaller in proportion where a side is longer than `max_side`, then rounded down to what the model can draw.
    /// A picture smaller than the smallest size is drawn at the model's own.
    #[must_use]
    pub fn size_of_picture(&self, (width, height): (usize, usize)) -> (usize, usize) {
        let longest = width.max(height);
        let most = self.max_side.max(1);
        let within = |side: usize| if longest > most { side * most / longest } else { side };
        let multiple = self.size_multiple.max(1);
        match (within(width) / multiple * multiple, within(height) / multiple * multiple) {
            (0, _) | (_, 0) => self.size,
            size => size,
        }
    }

    /// The other side of a picture of which one was asked for, to the nearest multiple.
    fn side_in_proportion(&self, asked: usize, own: usize, own_other: usize) -> usize {
        let multiple = self.size_multiple.max(1);
        let exact = asked as f64 * own_other as f64 / own.max(1) as f64;
        ((exact / multiple as f64).round() as usize).max(1) * multiple
    }
}

impl Request {
    /// The names of its fields, as JSON spells them.
    pub const FIELDS: &[&str] = &[
        "prompt",
        "negative_prompt",
        "template",
        "negative_template",
        "preset",
        "width",
        "height",
        "any_size",
        "fit",
        "padding_mask_crop",
        "mask_blur",
        "steps",
        "guidance_scale",
        "strength",
        "sampler",
        "spacing",
        "eta",
        "timesteps",
        "sigmas",
        "seed",
        "variation_seed",
        "variation_strength",
        "noise",
        "count",
        "clip_skip",
        "clip_skip_counting",
        "prompt_syntax",
        "long_prompt",
        "attention",
        "original_size",
        "crop",
        "loras",
    ];

    /// Width and height in pixels. A side that is given holds; a start picture (`picture`, in pixels) without a size
    /// keeps its own, as far as the model can. Where only what is masked is drawn, that is at the model's own size.
    #[must_use]
    pub fn size(&self, defaults: &Defaults, picture: Option<(usize, usize)>) -> (usize, usize) {
        let defaults = &self.with_own_multiple(defaults);
        let picture = picture.filter(|_| self.padding_mask_crop.is_none());
        match (self.width, self.height, picture) {
            (Some(width), Some(height), _) => (width, height),
            (None, None, None) => defaults.size,
            (None, None, Some(picture)) => defaults.size_of_picture(picture),
            (Some(width), None, Some((own, other))) => (width, defaults.side_in_proportion(width, own, other)),
            (None, Some(height), Some((other, own))) => (defaults.side_in_proportion(height, own, other), height),
            (width, height, None) => (width.unwrap_or(defaults.size.0), height.unwrap_or(defaults.size.1)),
        }
    }

    /// The defaults with the multiple that holds for this request.
    fn with_own_multiple(&self, defaults: &Defaults) -> Defaults {
        Defaults { size_multiple: defaults.sides().multiple(self.any_size), ..*defaults }
    }

    /// What will be drawn. `picture` is the start picture's width and height in pixels; `seed` is used where the request
    /// has none. Whether it can be drawn, [`SDConfig::validate_for`] tells.
    ///
    /// # Errors
    /// [`crate::Error::Request`] for a sampler that does not exist, and for settings that need another one or a picture
    /// without it.
    pub fn resolve(
        &self,
        defaults: &Defaults,
        picture: Option<(usize, usize)>,
        has_mask: bool,
        seed: u64,
    ) -> Result<SDConfig> {
        if let Some(preset) = self.preset {
            return Request { preset: None, ..preset.fill(self) }.resolve(defaults, picture, has_mask, seed);
        }
        self.check_given(picture.is_some(), has_mask)?;
        let (width, height) = self.size(defaults, picture);
        let (prompt, tags) = self.lora_tags()?;
        let syntax = self.prompt_syntax.unwrap_or_default();
        let mut config = SDConfig::new(defaults.version)
            .with_prompt(prompt)
            .with_loras(self.loras.iter().cloned().chain(tags).collect())
            .with_size(width, height)
            .with_any_size(self.any_size)
            .with_fit(self.fit.unwrap_or_default())
            .with_padding_mask_crop(self.padding_mask_crop)
            .with_mask_blur(self.mask_blur.unwrap_or(0.0))
            .with_steps(self.steps.unwrap_or(defaults.steps))
            .with_guidance_scale(self.guidance_scale.unwrap_or(defaults.guidance_scale))
            .with_strength(self.strength.unwrap_or(defaults.strength(has_mask)))
            .with_seed(self.seed.unwrap_or(seed))
            .with_variation(self.variation(seed)?)
            .with_noise(self.noise.unwrap_or_default())
            .with_count(self.count.unwrap_or(1))
            .with_clip_skip(self.clip_skip)
            .with_clip_skip_counting(self.clip_skip_counting.unwrap_or_default())
            .with_prompt_syntax(syntax)
            .with_long_prompt(self.long_prompt.unwrap_or(LongPrompt::default_of(syntax)))
            .with_attention(self.attention.unwrap_or_default());
        (config.original_size, config.crop) = (self.original_size, self.crop);
        config = config.with_optional_negative_prompt(self.negative_prompt.clone());
        config.sampler = self.sampler.as_deref().map(str::parse).transpose()?;
        config.spacing = self.spacing;
        (config.template, config.negative_template) = (self.template.clone(), self.negative_template.clone());
        config = config.with_eta(self.eta.unwrap_or(0.0));
        if self.timesteps.is_some() || self.sigmas.is_some() {
            config = config.with_given_steps(self.steps, self.timesteps.clone(), self.sigmas.clone())?;
        }
        Ok(config)
    }

    /// The prompt without its tags for LoRAs, and what these ask for. In plain text there are none.
    ///
    /// # Errors
    /// As [`take_lora_tags`].
    pub fn lora_tags(&self) -> Result<(String, Vec<LoraUse>)> {
        match self.prompt_syntax {
            Some(PromptSyntax::Plain) => Ok((self.prompt.clone(), Vec::new())),
            _ => take_lora_tags(&self.prompt),
        }
    }

    /// A line about the size where the start picture did not decide it whole: rounded down, made smaller, or of another
    /// shape than what was asked for. `None` where there is nothing to tell.
    #[must_use]
    pub fn size_note(&self, defaults: &Defaults, picture: Option<(usize, usize)>) -> Option<String> {
        let (own_width, own_height) = picture?;
        let defaults = &self.with_own_multiple(defaults);
        let (width, height) = self.size(defaults, picture);
        if self.padding_mask_crop.is_some() {
            return Some(format!(
                "the masked part of the start picture of {own_width}x{own_height} is drawn at {width}x{height} and put back"
            ));
        }
        if (width, height) == (own_width, own_height) {
            return None;
        }
        if self.width.is_none() && self.height.is_none() {
            let reason = if (width, height) == defaults.size && own_width.min(own_height) < defaults.size_multiple {
                "the model's own size, as the picture is too small".to_owned()
            } else if own_width.max(own_height) > defaults.max_side {
                format!("no side may be longer than {}", defaults.max_side)
            } else {
                format!("sides are multiples of {}", defaults.size_multiple)
            };
            return Some(format!(
                "the start picture of {own_width}x{own_height} is drawn at {width}x{height}: {reason}"
            ));
        }
        let is_same_shape = width * own_height == height * own_width;
        let done = match self.fit.unwrap_or_default() {
            _ if is_same_shape => return None,
            Fit::Stretch => "stretched (crop or pad keeps its proportions)",
            Fit::Crop => "cropped",
            Fit::Pad => "padded",
        };
        Some(format!("the start picture of {own_width}x{own_height} is {done} to {width}x{height}"))
    }

    /// Refuses settings that mean nothing without a start picture, a mask, or another setting.
    ///
    /// # Errors
    /// [`crate::Error::Request`] naming the setting.
    pub fn check_given(&self, has_picture: bool, has_mask: bool) -> Result<()> {
        if self.clip_skip_counting.is_some() && self.clip_skip.is_none() {
            return refuse("clip skip counting", "without a clip skip", "give the number too (--clip-skip, clip_skip)");
        }
        if has_picture && has_mask {
            return match (self.padding_mask_crop, self.fit) {
                (Some(_), Some(fit)) => {
                    let expected = "the masked part keeps its proportions: leave it out (--fit, fit)";
                    refuse("fit", format!("{} with padding_mask_crop", fit.name()), expected)
                }
                _ => Ok(()),
            };
        }
        if !has_mask {
            let asked = SDConfig::new(SDVersion::V1_5).with_padding_mask_crop(self.padding_mask_crop);
            asked.with_mask_blur(self.mask_blur.unwrap_or(0.0)).check_without_mask()?;
        }
        if has_picture {
            return Ok(());
        }
        if has_mask {
            return refuse("mask", "without a picture", "give the picture to repaint too (--init, image)");
        }
        if self.strength.is_some() {
            return refuse("strength", "without a picture", "give the picture to start from too (--init, image)");
        }
        if self.fit.is_some() {
            return refuse("fit", "without a picture", "give the picture to start from too (--init, image)");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_picture_keeps_its_size_as_far_as_the_model_can() {
        let (sd, xl) = (Defaults::of(SDVersion::V1_5), Defaults::of(SDVersion::Xl));
        for (defaults, picture, size) in [
            (&sd, (640, 360), (640, 320)),
            (&xl, (640, 360), (640, 352)),
            (&sd, (512, 512), (512, 512)),
            (&sd, (63, 900), (512, 512)),
            (&sd, (8192, 4096), (4096, 2048)),
            (&sd, (6000, 4000), (4096, 2688)),
        ] {
            let asked = Request::default();
            assert_eq!(asked.size(defaults, Some(picture)), size, "{picture:?}");
        }
        let any = Request { any_size: true, ..Request::default() };
        assert_eq!(any.size(&sd, Some((644, 361))), (640, 360));
        assert_eq!(any.size(&sd, None), (512, 512));
        assert!(any.size_note(&sd, Some((644, 361))).unwrap().ends_with("multiples of 8"));
        assert_eq!(Request { width: Some(520), ..any }.size(&sd, Some((640, 360))), (520, 296));
        let one_side = Request { width: Some(512), ..Request::default() };
        assert_eq!(one_side.size(&sd, Some((640, 360))), (512, 320));
        assert_eq!(one_side.size(&sd, None), (512, 512));
        assert_eq!(one_side.size(&xl, None), (512, 1024));
        let other = Request { height: Some(512), ..Request::default() };
        assert_eq!(other.size(&sd, Some((360, 640))), (320, 512));
    }

    #[test]
    fn what_is_left_out_is_the_models_own() {
        let asked = Request { prompt: "a fox".into(), ..Request::default() };
        let config = asked.resolve(&Defaults::of(SDVersion::Turbo), None, false, 7).unwrap();
        assert_eq!((config.width, config.height, config.steps), (512, 512, 4));
        assert_eq!((config.guidance_scale, config.seed, config.count), (0.0, 7, 1));
        let inpaint = |version| asked.resolve(&Defaults::of(version), Some((64, 64)), true, 0).unwrap().strength;
        assert_eq!((inpaint(SDVersion::V2Inpaint), inpaint(SDVersion::XlInpaint)), (1.0, 0.9999));
        assert_eq!(asked.resolve(&Defaults::of(SDVersion::Xl), Some((64, 64)), false, 0).unwrap().strength, 0.8);
    }

    #[test]
    fn plain_text_has_no_tags() {
        let asked = Request { prompt: "a fox <lora:ink:0.5>".into(), ..Request::default() };
        let resolve = |asked: &Request| asked.resolve(&Defaults::of(SDVersion::V1_5), None, false, 0).unwrap();
        assert_eq!(resolve(&asked).loras, [LoraUse::new("ink", 0.5)]);
        let plain = Request { prompt_syntax: Some(PromptSyntax::Plain), ..asked };
        assert_eq!((resolve(&plain).loras.len(), resolve(&plain).prompt.as_str()), (0, "a fox <lora:ink:0.5>"));
    }

    #[test]
    fn the_list_of_fields_is_whole() {
        let all = Request {
            prompt: "x".into(),
            negative_prompt: Some("y".into()),
            template: Some("{x|z}".into()),
            negative_template: Some("__y__".into()),
            preset: Some(Preset::Lightning4),
            width: Some(1),
            height: Some(1),
            any_size: true,
            fit: Some(Fit::Crop),
            padding_mask_crop: Some(32),
            mask_blur: Some(4.0),
            steps: Some(1),
            guidance_scale: Some(1.0),
            strength: Some(1.0),
            sampler: Some("euler".into()),
            spacing: Some(Spacing::Trailing),
            eta: Some(0.5),
            timesteps: Some(vec![999, 1]),
            sigmas: Some(vec![1.0, 0.0]),
            seed: Some(1),
            variation_seed: Some(2),
            variation_strength: Some(0.5),
            noise: Some(Noise::Philox),
            count: Some(1),
            clip_skip: Some(1),
            clip_skip_counting: Some(ClipSkipCounting::A1111),
            prompt_syntax: Some(PromptSyntax::Comfy),
            long_prompt: Some(LongPrompt::Chunks),
            attention: Some(Attention::Sliced),
            original_size: Some((1024, 768)),
            loras: vec![LoraUse::new("ink", 1.0)],
            crop: Some((0, 16)),
        };
        let json = serde_json::to_value(&all).unwrap();
        let mut names: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        let mut listed = Request::FIELDS.to_vec();
        names.sort_unstable();
        listed.sort_unstable();
        assert_eq!(names, listed);
        assert_eq!(serde_json::from_value::<Request>(json).unwrap(), all);
    }
}
