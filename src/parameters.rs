//! What made a picture, as text inside its PNG file, and read back from there.
//!
//! Two forms are written. `parameters` is the layout of AUTOMATIC1111's web interface, which viewers and other programs
//! read: the prompt, a line `Negative prompt: …`, and one line of settings. `darkroom` is JSON and loses nothing; it
//! wins on reading. The first form cannot tell a prompt that has a line `Negative prompt:` of its own from the real one.
//!
//! Reading is for whatever a picture carries: [`Found`] has the settings that could be understood, of other programs too,
//! and says which program wrote them.
//!
//! Whether the settings can be drawn here is not checked: the request does that.

mod a1111;
mod comfy;
mod found;
mod invoke;
mod other_programs;
mod spelled;

use serde::{Deserialize, Serialize};

pub use self::found::{Found, Settings};
use crate::error::{Error, Result};
use crate::image::Fit;
use crate::prompt::PromptSyntax;
use crate::request::{ClipSkipCounting, LongPrompt, LoraUse, Request, SDConfig};
use crate::rng::Noise;
use crate::sampler::{Sampler, Spacing, Steps};
use crate::weights::WeightType;

/// Keyword of the text that other programs read.
const A1111_KEY: &str = "parameters";
/// Keyword of the JSON.
const JSON_KEY: &str = "darkroom";
const NEGATIVE: &str = "Negative prompt:";
/// What the prompts are written in: a setting of ours in AUTOMATIC1111's line.
const SYNTAX_KEY: &str = "Prompt syntax";
/// What the weights were held in, likewise.
const WEIGHTS_KEY: &str = "Weights";

/// The parameters of one picture.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// What to draw.
    pub prompt: String,
    /// What to avoid. `None` and an empty text are not the same for XL; the layout of AUTOMATIC1111 cannot tell them apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative_prompt: Option<String>,
    /// What the prompt was decided from, where it had options.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Likewise of what to avoid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative_template: Option<String>,
    /// Steps that were asked for.
    pub steps: u32,
    /// The sampler's name, such as `dpm++2m_karras`.
    pub sampler: String,
    /// How the steps were spread over the training steps, where that was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spacing: Option<Spacing>,
    /// Classifier-free guidance scale.
    pub guidance_scale: f64,
    /// The seed of the noise.
    pub seed: u64,
    /// The seed that the noise was turned towards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variation_seed: Option<u64>,
    /// How far, above 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variation_strength: Option<f64>,
    /// Which of torch's generators the noise came from.
    #[serde(default, skip_serializing_if = "is_default")]
    pub noise: Noise,
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Whether the sides may be any multiple of 8.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub any_size: bool,
    /// The model's key or repository; empty if unknown.
    #[serde(default)]
    pub model: String,
    /// What the UNet was taken to predict, `epsilon` or `v`, where that was said when the model was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prediction: Option<String>,
    /// How far image-to-image or inpainting departed from its picture, 0 to 1; none for text-to-image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
    /// Layers of the text encoder that were left out at the end, as `clip_skip_counting` counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_skip: Option<u32>,
    /// How they are counted; as in diffusers where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_skip_counting: Option<ClipSkipCounting>,
    /// What the prompts are written in; nothing in pictures from before there was a choice, which are plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_syntax: Option<PromptSyntax>,
    /// Whether a long prompt was encoded in chunks instead of cut.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub long_prompt_chunks: bool,
    /// How much noise DDIM or TCD added in each step, where that was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta: Option<f64>,
    /// The steps as training steps, where they were chosen one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timesteps: Option<Vec<usize>>,
    /// The noise levels of the steps, where they were chosen one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sigmas: Option<Vec<f64>>,
    /// How a start picture of another shape was brought to the size, where it was not stretched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fit: Option<String>,
    /// Pixels around the masked part of a start picture that alone was drawn, at the size above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub padding_mask_crop: Option<u32>,
    /// By how many pixels the mask was blurred, 0 for one that was not; absent without a mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_blur: Option<f64>,
    /// XL's conditioning on the original size, width and height in pixels, where that was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_size: Option<(usize, usize)>,
    /// XL's conditioning on the crop, left and top in pixels, where that was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<(usize, usize)>,
    /// The LoRAs that changed the model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loras: Vec<UsedLora>,
    /// The embeddings whose words the prompts have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub embeddings: Vec<UsedEmbedding>,
    /// The type that the model's weights were held in, where they were quantised for the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightType>,
    /// The program and its version, such as `darkroom 0.1.0`; empty if unknown.
    #[serde(default)]
    pub version: String,
}

/// An embedding (textual inversion) that a prompt has the word of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct UsedEmbedding {
    /// Its word.
    pub name: String,
    /// The SHA-256 of its file in lower-case hexadecimal, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// What another program wrote as its hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

impl UsedEmbedding {
    /// One that another program names, with the hash that it gives.
    pub(crate) fn of_other(name: String, hash: Option<String>) -> Self {
        UsedEmbedding { name, sha256: None, hash }
    }
}

/// A LoRA that changed the model, with the file that it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct UsedLora {
    /// What it was called.
    pub name: String,
    /// How strong it was.
    pub strength: f64,
    /// Likewise in the text encoders, where that was another number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_strength: Option<f64>,
    /// The SHA-256 of its file in lower-case hexadecimal, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// What another program wrote as its hash: AUTOMATIC1111 the first 12 digits of the SHA-256 of what is behind the
    /// file's header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

impl UsedLora {
    /// One of this name with strength 1.
    #[must_use]
    pub fn named(name: &str) -> Self {
        UsedLora { name: name.to_owned(), strength: 1.0, text_strength: None, sha256: None, hash: None }
    }
}

/// A file's hash as AUTOMATIC1111 writes it: the name and the first twelve figures.
fn short_hash(name: &str, sha256: Option<&str>) -> Option<String> {
    Some(format!("{name}: {}", sha256?.get(..12)?))
}

impl From<LoraUse> for UsedLora {
    fn from(LoraUse { name, strength, text_strength }: LoraUse) -> Self {
        UsedLora { name, strength, text_strength, sha256: None, hash: None }
    }
}

impl From<UsedLora> for LoraUse {
    fn from(UsedLora { name, strength, text_strength, .. }: UsedLora) -> Self {
        LoraUse { name, strength, text_strength }
    }
}

impl Parameters {
    /// Those of the first picture of `config`, drawn with `sampler` by the model of that name. How a start picture
    /// and a mask were used is written where there were any.
    #[must_use]
    pub fn of(config: &SDConfig, has_start_picture: bool, has_mask: bool, sampler: Sampler, model: String) -> Self {
        Parameters {
            prompt: config.prompt.clone(),
            negative_prompt: config.negative_prompt.clone(),
            template: config.template.clone(),
            negative_template: config.negative_template.clone(),
            steps: config.steps as u32,
            sampler: sampler.name(),
            spacing: config.spacing,
            guidance_scale: config.guidance_scale,
            seed: config.seed,
            variation_seed: config.variation.map(|variation| variation.seed),
            variation_strength: config.variation.map(|variation| variation.strength),
            noise: config.noise,
            width: config.width as u32,
            height: config.height as u32,
            any_size: config.any_size,
            model,
            prediction: None,
            strength: has_start_picture.then_some(config.strength),
            clip_skip: config.clip_skip.map(|skip| skip as u32),
            clip_skip_counting: config
                .clip_skip
                .and((config.clip_skip_counting != ClipSkipCounting::default()).then_some(config.clip_skip_counting)),
            prompt_syntax: Some(config.prompt_syntax),
            long_prompt_chunks: config.long_prompt == LongPrompt::Chunks,
            eta: (config.eta != 0.0).then_some(config.eta),
            timesteps: match &config.given_steps {
                Some(Steps::Timesteps(timesteps)) => Some(timesteps.clone()),
                Some(Steps::Number(_) | Steps::Sigmas(_)) | None => None,
            },
            sigmas: match &config.given_steps {
                Some(Steps::Sigmas(sigmas)) => Some(sigmas.clone()),
                Some(Steps::Number(_) | Steps::Timesteps(_)) | None => None,
            },
            fit: (has_start_picture && config.fit != Fit::default()).then(|| config.fit.name().to_owned()),
            padding_mask_crop: config.padding_mask_crop.map(|padding| padding as u32),
            mask_blur: has_mask.then_some(config.mask_blur),
            original_size: config.original_size,
            crop: config.crop,
            loras: config.loras.iter().cloned().map(UsedLora::from).collect(),
            embeddings: Vec::new(),
            weights: None,
            version: format!("darkroom {}", env!("CARGO_PKG_VERSION")),
        }
    }

    /// Those of another picture of the same request, by its index: see [`SDConfig::seed_of`].
    #[must_use]
    pub fn of_picture(&self, picture_idx: usize) -> Self {
        let counted = |seed: u64| seed.wrapping_add(picture_idx as u64);
        match self.variation_seed {
            Some(seed) => Parameters { variation_seed: Some(counted(seed)), ..self.clone() },
            None => Parameters { seed: counted(self.seed), ..self.clone() },
        }
    }

    /// The three-part text of AUTOMATIC1111: prompt with tags for LoRAs, negative prompt (left out if empty), settings with
    /// its names of samplers.
    #[must_use]
    pub fn to_a1111(&self) -> String {
        let mut settings = vec![
            ("Steps", self.steps.to_string()),
            ("Sampler", quoted(&a1111_name(&self.sampler))),
            ("CFG scale", self.guidance_scale.to_string()),
            ("Seed", self.seed.to_string()),
            ("Size", format!("{}x{}", self.width, self.height)),
        ];
        if !self.model.is_empty() {
            settings.push(("Model", quoted(&self.model)));
        }
        if let Some(strength) = self.strength {
            settings.push(("Denoising strength", strength.to_string()));
        }
        if let Some(radius) = self.mask_blur {
            settings.push(("Mask blur", radius.to_string()));
        }
        if let Some(padding) = self.padding_mask_crop {
            settings.push(("Inpaint area", "Only masked".to_owned()));
            settings.push(("Masked area padding", padding.to_string()));
        }
        if let Some(skip) = self.clip_skip {
            let layer = match self.clip_skip_counting.unwrap_or_default() {
                ClipSkipCounting::Diffusers => skip + 1,
                ClipSkipCounting::A1111 => skip,
            };
            settings.push(("Clip skip", layer.to_string()));
        }
        if let Some(syntax) = self.prompt_syntax {
            settings.push((SYNTAX_KEY, syntax.name().to_owned()));
        }
        if let (Some(seed), Some(strength)) = (self.variation_seed, self.variation_strength) {
            settings.push(("Variation seed", seed.to_string()));
            settings.push(("Variation seed strength", strength.to_string()));
        }
        // Where it is absent, AUTOMATIC1111 means the GPU's.
        settings.push(("RNG", if self.noise == Noise::Philox { "NV" } else { "CPU" }.to_owned()));
        let hashes: Vec<String> =
            self.loras.iter().filter_map(|used| short_hash(&used.name, used.sha256.as_deref())).collect();
        if !hashes.is_empty() {
            settings.push(("Lora hashes", serde_json::Value::from(hashes.join(", ")).to_string()));
        }
        let hashes: Vec<String> =
            self.embeddings.iter().filter_map(|used| short_hash(&used.name, used.sha256.as_deref())).collect();
        if !hashes.is_empty() {
            settings.push(("TI hashes", serde_json::Value::from(hashes.join(", ")).to_string()));
        }
        for (key, template) in [("Template", &self.template), ("Negative Template", &self.negative_template)] {
            if let Some(template) = template {
                settings.push((key, quoted(template)));
            }
        }
        if let Some(weights) = self.weights {
            settings.push((WEIGHTS_KEY, weights.name().to_owned()));
        }
        if !self.version.is_empty() {
            settings.push(("Version", quoted(&self.version)));
        }
        let settings: Vec<String> = settings.into_iter().map(|(key, value)| format!("{key}: {value}")).collect();
        let negative = match self.negative_prompt.as_deref().unwrap_or_default() {
            "" => String::new(),
            text => format!("{NEGATIVE} {text}\n"),
        };
        let tags: Vec<String> = self.loras.iter().filter_map(|lora| LoraUse::from(lora.clone()).tag()).collect();
        let space = if tags.is_empty() || self.prompt.is_empty() { "" } else { " " };
        format!("{}{space}{}\n{negative}{}", self.prompt, tags.concat(), settings.join(", "))
    }

    /// Keywords and texts for [`crate::image::encode_png`]: both forms.
    ///
    /// # Errors
    /// [`Error::Image`] if the JSON cannot be written.
    pub fn to_png_text(&self) -> Result<Vec<(String, String)>> {
        let json = serde_json::to_string(self).map_err(|e| malformed(e.to_string()))?;
        Ok(vec![(A1111_KEY.to_owned(), self.to_a1111()), (JSON_KEY.to_owned(), json)])
    }

    /// The parameters in what [`crate::image::picture_text`] gave, where they are complete: `None` if a setting that every
    /// picture has is absent. [`Found`] has what there is.
    ///
    /// # Errors
    /// Never, for now: what cannot be understood is absent.
    pub fn from_png_text(text: &[(String, String)]) -> Result<Option<Self>> {
        Ok(Found::in_text(text).and_then(|found| found.settings.complete()))
    }
}

/// The request that draws the picture again, with the same model and start picture. How attention's scores were held is
/// not known: it does not change the picture.
impl From<Parameters> for Request {
    fn from(parameters: Parameters) -> Self {
        let syntax = parameters.prompt_syntax.unwrap_or(PromptSyntax::Plain);
        let long_prompt = if parameters.long_prompt_chunks { LongPrompt::Chunks } else { LongPrompt::Truncate };
        let has_list = parameters.timesteps.is_some() || parameters.sigmas.is_some();
        Request {
            prompt: parameters.prompt,
            negative_prompt: parameters.negative_prompt,
            template: parameters.template,
            negative_template: parameters.negative_template,
            preset: None,
            width: Some(parameters.width as usize),
            height: Some(parameters.height as usize),
            any_size: parameters.any_size,
            fit: parameters.fit.and_then(|fit| fit.parse().ok()),
            padding_mask_crop: parameters.padding_mask_crop.map(|padding| padding as usize),
            mask_blur: parameters.mask_blur,
            steps: (!has_list).then_some(parameters.steps as usize),
            guidance_scale: Some(parameters.guidance_scale),
            strength: parameters.strength,
            sampler: Some(parameters.sampler),
            spacing: parameters.spacing,
            eta: parameters.eta,
            timesteps: parameters.timesteps,
            sigmas: parameters.sigmas,
            seed: Some(parameters.seed),
            variation_seed: parameters.variation_seed,
            variation_strength: parameters.variation_strength,
            noise: (parameters.noise != Noise::default()).then_some(parameters.noise),
            count: None,
            clip_skip: parameters.clip_skip.map(|skip| skip as usize),
            clip_skip_counting: parameters.clip_skip_counting,
            prompt_syntax: Some(syntax),
            long_prompt: (long_prompt != LongPrompt::default_of(syntax)).then_some(long_prompt),
            attention: None,
            original_size: parameters.original_size,
            crop: parameters.crop,
            loras: parameters.loras.into_iter().map(LoraUse::from).collect(),
        }
    }
}

/// AUTOMATIC1111's name of one of our samplers; others keep their name.
fn a1111_name(sampler: &str) -> String {
    sampler.parse::<Sampler>().map_or_else(|_| sampler.to_owned(), Sampler::a1111_name)
}

/// A value as the line of settings can hold it: what would be misread is written as a JSON string.
fn quoted(value: &str) -> String {
    let plain = !value.contains([',', ':', '\n', '\r']) && !value.starts_with('"') && value.trim() == value;
    if plain { value.to_owned() } else { serde_json::Value::from(value).to_string() }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn malformed(reason: String) -> Error {
    Error::Image { what: "picture parameters".to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SDVersion;
    use crate::request::Defaults;

    /// Through a PNG's text and back.
    fn read_back(request: &Request, defaults: &Defaults, has_start_picture: bool) -> Request {
        let has_mask = request.padding_mask_crop.is_some() || request.mask_blur.is_some();
        let config = request.resolve(defaults, has_start_picture.then_some((64, 64)), has_mask, 0).unwrap();
        let sampler = config.sampler.unwrap();
        let parameters = Parameters::of(&config, has_start_picture, has_mask, sampler, "xl".to_owned());
        Parameters::from_png_text(&parameters.to_png_text().unwrap()).unwrap().unwrap().into()
    }

    #[test]
    fn a_request_read_back_from_its_picture_is_the_same() {
        let defaults = Defaults::of(SDVersion::Xl);
        // Every field that decides a picture, none at its default.
        let whole = Request {
            prompt: "a fox\nNegative prompt: inside".to_owned(),
            negative_prompt: Some(String::new()),
            template: Some("a {fox|owl}".to_owned()),
            negative_template: Some("{fog|}".to_owned()),
            preset: None,
            width: Some(520),
            height: Some(512),
            any_size: true,
            fit: Some(Fit::Pad),
            padding_mask_crop: None,
            mask_blur: None,
            steps: Some(7),
            guidance_scale: Some(2.5),
            strength: Some(0.25),
            sampler: Some("dpm++2m_karras".to_owned()),
            spacing: Some(Spacing::Linspace),
            eta: Some(0.5),
            timesteps: None,
            sigmas: None,
            seed: Some(u64::MAX),
            variation_seed: Some(u64::MAX - 1),
            variation_strength: Some(0.125),
            noise: Some(Noise::Philox),
            count: None,
            clip_skip: Some(2),
            clip_skip_counting: Some(ClipSkipCounting::A1111),
            prompt_syntax: Some(PromptSyntax::Plain),
            long_prompt: Some(LongPrompt::Chunks),
            attention: None,
            original_size: Some((1024, 768)),
            crop: Some((0, 16)),
            loras: vec![
                LoraUse { text_strength: Some(-0.5), ..LoraUse::new("ink", 0.75) },
                LoraUse::new("name: with, signs", 1.0),
            ],
        };
        assert_eq!(read_back(&whole, &defaults, true), whole);
        let masked = Request { fit: None, padding_mask_crop: Some(0), mask_blur: Some(2.5), ..whole.clone() };
        assert_eq!(read_back(&masked, &defaults, true), masked);
        let from_text = Request { fit: None, strength: None, steps: None, ..whole };
        for request in [
            Request {
                steps: Some(7),
                long_prompt: Some(LongPrompt::Truncate),
                prompt_syntax: Some(PromptSyntax::Comfy),
                ..from_text.clone()
            },
            Request { timesteps: Some(vec![999, 500, 1]), ..from_text.clone() },
            Request { sigmas: Some(vec![14.6, 1.0, 0.0]), ..from_text },
        ] {
            assert_eq!(read_back(&request, &defaults, false), request);
        }
        // Pictures from before there was a choice are plain.
        let old = Parameters { long_prompt_chunks: false, ..Parameters::default() };
        let old = Request::from(old);
        assert_eq!((old.prompt_syntax, old.long_prompt), (Some(PromptSyntax::Plain), None));
        // What was left out is what it was resolved to, and resolves to the same again.
        let short = Request { prompt: "a fox".to_owned(), sampler: Some("euler".to_owned()), ..Request::default() };
        let resolved = |request: &Request| request.resolve(&defaults, None, false, 0).unwrap();
        assert_eq!(resolved(&read_back(&short, &defaults, false)), resolved(&short));
    }
}
