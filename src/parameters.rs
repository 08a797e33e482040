//! What made a picture, as text inside its PNG file, and read back from there.
//!
//! Two forms are written. `parameters` is the layout of AUTOMATIC1111's web interface, which viewers and other programs
//! read: the prompt, a line `Negative prompt: …`, and one line of settings. `darkroom` is JSON and loses nothing; it
//! wins on reading. The first form cannot tell a prompt that has a line `Negative prompt:` of its own from the real one.
//!
//! It deliberately does not check whether the settings can be drawn here: the request does.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

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
    /// The sampler's name as people know it, such as `DPM++ 2M Karras`.
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
    /// The three-part text of AUTOMATIC1111: prompt, negative prompt (left out if empty), settings.
    #[must_use]
    pub fn to_a1111(&self) -> String {
        let mut settings = vec![
            ("Steps", self.steps.to_string()),
            ("Sampler", quoted(&self.sampler)),
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

    /// Reads such a text, also one that another program wrote; settings that have no field here are passed over. A
    /// schedule named apart joins the sampler's name: `DPM++ 2M` and `Schedule type: Karras` are `DPM++ 2M Karras`.
    ///
    /// # Errors
    /// [`Error::Image`] if the line of settings is absent, or a setting that every picture has is absent or malformed.
    pub fn from_a1111(text: &str) -> Result<Self> {
        let text = text.trim_end();
        let (prompts, settings) = match text.rsplit_once('\n') {
            Some((prompts, settings)) => (prompts, settings),
            None => ("", text),
        };
        if !settings.starts_with("Steps:") {
            return Err(malformed("the last line does not start with `Steps:`".to_owned()));
        }
        let (prompt, negative_prompt) = split_prompts(prompts);
        let settings = split_settings(settings)?;
        let find = |key: &str| settings.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str());
        let size = required("Size", find("Size"))?;
        let (width, height) =
            size.split_once('x').ok_or_else(|| malformed(format!("Size is {size:?}: expected width x height")))?;
        let mut sampler = required("Sampler", find("Sampler"))?.to_owned();
        if let Some(schedule) = find("Schedule type").filter(|s| *s != "Automatic" && *s != "Uniform") {
            sampler = format!("{sampler} {schedule}");
        }
        Ok(Self {
            prompt: prompt.to_owned(),
            negative_prompt: (!negative_prompt.is_empty()).then(|| negative_prompt.to_owned()),
            steps: number("Steps", required("Steps", find("Steps"))?)?,
            sampler,
            guidance_scale: number("CFG scale", required("CFG scale", find("CFG scale"))?)?,
            seed: number("Seed", required("Seed", find("Seed"))?)?,
            width: number("Size", width)?,
            height: number("Size", height)?,
            any_size: false,
            model: find("Model").unwrap_or_default().to_owned(),
            strength: find("Denoising strength").map(|value| number("Denoising strength", value)).transpose()?,
            clip_skip: find("Clip skip")
                .map(|value| number::<u32>("Clip skip", value))
                .transpose()?
                .and_then(|layers| layers.checked_sub(1))
                .filter(|&skip| skip > 0),
            long_prompt_chunks: false,
            eta: None,
            timesteps: None,
            sigmas: None,
            fit: None,
            version: find("Version").unwrap_or_default().to_owned(),
        })
    }

    /// Keywords and texts for [`crate::image::encode_png`]: both forms.
    ///
    /// # Errors
    /// [`Error::Image`] if the JSON cannot be written.
    pub fn to_png_text(&self) -> Result<Vec<(String, String)>> {
        let json = serde_json::to_string(self).map_err(|e| malformed(e.to_string()))?;
        Ok(vec![(A1111_KEY.to_owned(), self.to_a1111()), (JSON_KEY.to_owned(), json)])
    }

    /// Finds the parameters in what [`crate::image::png_text`] gave, the JSON first; `None` if neither form is there.
    ///
    /// # Errors
    /// [`Error::Image`] if the form that is there is malformed.
    pub fn from_png_text(text: &[(String, String)]) -> Result<Option<Self>> {
        let find = |key: &str| text.iter().find(|(k, _)| k == key).map(|(_, value)| value);
        if let Some(json) = find(JSON_KEY) {
            return serde_json::from_str(json).map(Some).map_err(|e| malformed(e.to_string()));
        }
        find(A1111_KEY).map(|text| Self::from_a1111(text)).transpose()
    }
}

/// The two prompts in the lines before the settings.
fn split_prompts(text: &str) -> (&str, &str) {
    let marked = if text.starts_with(NEGATIVE) { Some(0) } else { text.find("\nNegative prompt:").map(|i| i + 1) };
    match marked {
        None => (text, ""),
        Some(start) => {
            let negative = &text[start + NEGATIVE.len()..];
            (text[..start].strip_suffix('\n').unwrap_or(""), negative.strip_prefix(' ').unwrap_or(negative))
        }
    }
}

/// A value as the line of settings can hold it: what would be misread is written as a JSON string.
fn quoted(value: &str) -> String {
    let plain = !value.contains([',', ':', '\n', '\r']) && !value.starts_with('"') && value.trim() == value;
    if plain { value.to_owned() } else { serde_json::Value::from(value).to_string() }
}

/// The settings `key: value, key: "value, quoted", …`.
fn split_settings(line: &str) -> Result<Vec<(String, String)>> {
    let mut settings = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (key, after) =
            rest.split_once(':').ok_or_else(|| malformed(format!("{rest:?} is not a key and a value")))?;
        let after = after.trim_start();
        let (value, after) = match quoted_len(after) {
            Some(len) => {
                let value = serde_json::from_str(&after[..len]).map_err(|e| malformed(e.to_string()))?;
                // What may stand between the closing quote and the comma is nobody's.
                (value, after[len..].split_once(',').map_or("", |(_, next)| next))
            }
            None => after
                .split_once(',')
                .map_or_else(|| (after.trim().to_owned(), ""), |(value, next)| (value.trim().to_owned(), next)),
        };
        settings.push((key.trim().to_owned(), value));
        rest = after.trim_start();
    }
    Ok(settings)
}

/// The length of the JSON string that `text` starts with, quotes included.
fn quoted_len(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('"')?;
    let mut escaped = false;
    for (i, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(i + 2),
            _ => {}
        }
    }
    None
}

fn required<'a>(key: &str, value: Option<&'a str>) -> Result<&'a str> {
    value.ok_or_else(|| malformed(format!("{key} is missing")))
}

fn number<T: std::str::FromStr<Err: std::fmt::Display>>(key: &str, value: &str) -> Result<T> {
    value.trim().parse().map_err(|e| malformed(format!("{key} is {value:?}: {e}")))
}

fn malformed(reason: String) -> Error {
    Error::Image { what: "picture parameters".to_owned(), reason }
}
