//! What made a picture, as text inside its PNG file, and read back from there.
//!
//! Two forms are written. `parameters` is the layout of AUTOMATIC1111's web interface, which viewers and other programs
//! read: the prompt, a line `Negative prompt: …`, and one line of settings. `darkroom` is JSON and loses nothing; it
//! wins on reading. The first form cannot tell a prompt that has a line `Negative prompt:` of its own from the real one.
//!
//! Reading is for whatever a picture carries: [`Found`] has the settings that could be understood, of other programs too,
//! and says which program wrote them.
//!
//! It deliberately does not check whether the settings can be drawn here: the request does.

mod a1111;
mod found;
mod other_programs;

use serde::{Deserialize, Serialize};

pub use self::found::{Found, Settings};
use crate::error::{Error, Result};
use crate::sampler::Sampler;

/// Keyword of the text that other programs read.
const A1111_KEY: &str = "parameters";
/// Keyword of the JSON.
const JSON_KEY: &str = "darkroom";
const NEGATIVE: &str = "Negative prompt:";

/// The parameters of one picture.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// What to draw.
    pub prompt: String,
    /// What to avoid. `None` and an empty text are not the same for XL; the layout of AUTOMATIC1111 cannot tell them apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative_prompt: Option<String>,
    /// Steps that were asked for.
    pub steps: u32,
    /// The sampler's name, such as `dpm++2m_karras`.
    pub sampler: String,
    /// Classifier-free guidance scale.
    pub guidance_scale: f64,
    /// The seed of the noise.
    pub seed: u64,
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
    /// How far image-to-image or inpainting departed from its picture, 0 to 1; none for text-to-image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
    /// Layers of the text encoder that were left out at the end, counted as in diffusers; AUTOMATIC1111 counts one more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_skip: Option<u32>,
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
    /// The program and its version, such as `darkroom 0.1.0`; empty if unknown.
    #[serde(default)]
    pub version: String,
}

impl Parameters {
    /// The three-part text of AUTOMATIC1111: prompt, negative prompt (left out if empty), settings with its names of
    /// samplers.
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
        if let Some(skip) = self.clip_skip {
            settings.push(("Clip skip", (skip + 1).to_string()));
        }
        if !self.version.is_empty() {
            settings.push(("Version", quoted(&self.version)));
        }
        let settings: Vec<String> = settings.into_iter().map(|(key, value)| format!("{key}: {value}")).collect();
        let negative = match self.negative_prompt.as_deref().unwrap_or_default() {
            "" => String::new(),
            text => format!("{NEGATIVE} {text}\n"),
        };
        format!("{}\n{negative}{}", self.prompt, settings.join(", "))
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

/// AUTOMATIC1111's name of one of our samplers; others keep their name.
fn a1111_name(sampler: &str) -> String {
    sampler.parse::<Sampler>().map_or_else(|_| sampler.to_owned(), Sampler::a1111_name)
}

/// A value as the line of settings can hold it: what would be misread is written as a JSON string.
fn quoted(value: &str) -> String {
    let plain = !value.contains([',', ':', '\n', '\r']) && !value.starts_with('"') && value.trim() == value;
    if plain { value.to_owned() } else { serde_json::Value::from(value).to_string() }
}

fn malformed(reason: String) -> Error {
    Error::Image { what: "picture parameters".to_owned(), reason }
}
