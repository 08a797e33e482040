//! What OpenAI's clients ask for: their settings, in JSON or as a form, turned into a request of this server.
//!
//! A value that means "as you do it anyway" passes; one that would have to change the picture and cannot is refused by its
//! name, as is a setting that is not known. What only diffusion has (`steps`, `seed` and so on) may be given beside.

use axum::body::Bytes;
use darkroom::request::Request;
use serde::de::{Error, MapAccess};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::failure::Failure;
use super::form::Part;
use super::form_fields::FormFields;
use super::json::{self, Beside, put};
use super::request::JobRequest;
use super::upload::{MaskForm, Upload};

/// The most partial pictures of one finished one.
const MAX_PARTIAL_IMAGES: u64 = 3;

/// The settings of `images.generate` and `images.edit`. `null` is the same as nothing.
#[derive(Default)]
pub struct ImagesRequest {
    /// What has the same name here and there, and what only diffusion has.
    request: Request,
    model: Option<String>,
    n: Option<usize>,
    /// `auto` or `512x512`.
    size: Option<String>,
    quality: Option<String>,
    style: Option<String>,
    background: Option<String>,
    moderation: Option<String>,
    input_fidelity: Option<String>,
    /// `b64_json`, the default, or `url`.
    response_format: Option<String>,
    output_format: Option<String>,
    output_compression: Option<i64>,
    stream: Option<bool>,
    partial_images: Option<u64>,
    /// Who asks; it changes nothing.
    user: Option<String>,
    safety_identifier: Option<String>,
    /// Base64 in JSON; a form's files are put here too.
    image: Option<Upload>,
    mask: Option<Upload>,
}

impl Beside for ImagesRequest {
    const NAMES: &[&str] = &[
        "model",
        "n",
        "size",
        "quality",
        "style",
        "background",
        "moderation",
        "input_fidelity",
        "response_format",
        "output_format",
        "output_compression",
        "stream",
        "partial_images",
        "user",
        "safety_identifier",
        "image",
        "mask",
    ];
    /// They are `size` and `n` here.
    const RENAMED: &[&str] = &["width", "height", "count"];

    fn read<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "model" => put(&mut self.model, "model", map),
            "n" => put(&mut self.n, "n", map),
            "size" => put(&mut self.size, "size", map),
            "quality" => put(&mut self.quality, "quality", map),
            "style" => put(&mut self.style, "style", map),
            "background" => put(&mut self.background, "background", map),
            "moderation" => put(&mut self.moderation, "moderation", map),
            "input_fidelity" => put(&mut self.input_fidelity, "input_fidelity", map),
            "response_format" => put(&mut self.response_format, "response_format", map),
            "output_format" => put(&mut self.output_format, "output_format", map),
            "output_compression" => put(&mut self.output_compression, "output_compression", map),
            "stream" => put(&mut self.stream, "stream", map),
            "partial_images" => put(&mut self.partial_images, "partial_images", map),
            "user" => put(&mut self.user, "user", map),
            "safety_identifier" => put(&mut self.safety_identifier, "safety_identifier", map),
            "image" => put(&mut self.image, "image", map),
            "mask" => put(&mut self.mask, "mask", map),
            other => Err(A::Error::unknown_field(other, Self::NAMES)),
        }
    }
}

impl<'de> Deserialize<'de> for ImagesRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (request, images) = json::request_and::<D, ImagesRequest>(deserializer)?;
        Ok(ImagesRequest { request, ..images })
    }
}

/// Which of the two asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Generate,
    Edit,
}

/// How the pictures are wanted.
pub struct Delivery {
    pub door: Door,
    pub wants_url: bool,
    pub is_stream: bool,
    /// Partial pictures of each finished one.
    pub n_partial_images: u64,
}

/// Settings with the values that change nothing here, and why others are not possible.
const NEUTRAL: [(&str, &[&str], &str); 4] = [
    ("quality", &["auto", "standard"], "the model has one quality; steps sets the effort"),
    ("background", &["auto", "opaque"], "pictures have no transparency"),
    ("moderation", &["auto", "low"], "nothing is filtered here"),
    ("input_fidelity", &["low"], "strength sets how much of the picture is kept"),
];

impl ImagesRequest {
    /// Turns the settings into a request.
    ///
    /// # Errors
    /// 400 with the setting that is not possible and what would work.
    pub fn read(self, door: Door) -> Result<(JobRequest, Delivery), Failure> {
        let given = [&self.quality, &self.background, &self.moderation, &self.input_fidelity];
        for ((name, neutral, why), given) in NEUTRAL.into_iter().zip(given) {
            if let Some(other) = given.as_deref().filter(|value| !neutral.contains(value)) {
                return refuse(
                    name,
                    format!("{name} {other:?} is not possible, as {why}: use {}", neutral.join(" or ")),
                );
            }
        }
        // Both are words for a prompt, of which a model like these knows nothing.
        if let Some(other) = self.style.as_deref().filter(|style| !["vivid", "natural"].contains(style)) {
            return refuse(
                "style",
                format!("style {other:?} is not possible: use vivid or natural, which change nothing"),
            );
        }
        let wants_url = match self.response_format.as_deref() {
            None | Some("b64_json") => false,
            Some("url") => true,
            Some(other) => {
                let message = format!("response_format {other:?} is not possible: use b64_json or url");
                return refuse("response_format", message);
            }
        };
        let is_stream = self.stream.unwrap_or(false);
        let n_partial_images = self.partial_images.unwrap_or(0);
        if n_partial_images > MAX_PARTIAL_IMAGES {
            let message = format!("partial_images {n_partial_images} is not possible: use 0 to {MAX_PARTIAL_IMAGES}");
            return refuse("partial_images", message);
        }
        if n_partial_images > 0 && !is_stream {
            return refuse("partial_images", "partial_images without stream is not possible: set stream to true");
        }
        if is_stream && wants_url {
            return refuse("response_format", "response_format url with stream is not possible: use b64_json");
        }
        match door {
            Door::Generate if self.image.is_some() || self.mask.is_some() => {
                let name = if self.image.is_some() { "image" } else { "mask" };
                return refuse(name, format!("{name} is not possible here: send it to /v1/images/edits"));
            }
            Door::Edit if self.image.is_none() => {
                return refuse("image", "image is missing: send the picture to start from");
            }
            _ => {}
        }
        let (width, height) = self.size.as_deref().map_or(Ok((None, None)), parse_size)?;
        let request = JobRequest {
            request: Request { count: self.n, width, height, ..self.request },
            model: self.model,
            output_format: self.output_format,
            output_compression: self.output_compression,
            image: self.image,
            mask: self.mask,
            mask_form: MaskForm::TransparentIsRepainted,
        };
        Ok((request, Delivery { door, wants_url, is_stream, n_partial_images }))
    }

    /// Reads the parts of a form.
    ///
    /// # Errors
    /// 400 with the part that is not possible.
    pub fn from_form(parts: Vec<Part>, body: &Bytes) -> Result<Self, Failure> {
        let mut fields = FormFields::default();
        let (mut images, mut masks) = (Vec::new(), Vec::new());
        for part in parts {
            let name = field_of(&part.name);
            match name {
                "image" => images.push(part.bytes),
                "mask" => masks.push(part.bytes),
                _ if part.is_file => return refuse(name, format!("{name} is not possible as a file")),
                _ => {
                    let text = std::str::from_utf8(&part.bytes);
                    let text = text.or_else(|_| refuse(name, format!("{name} is not text in UTF-8")))?;
                    fields.add(name, &part.name[name.len()..], text)?;
                }
            }
        }
        let mut request: ImagesRequest = json::from_value(Value::Object(fields.values))?;
        // A slice keeps the whole body. Where that is much more than the pictures, they are copied out of it.
        let n_bytes: usize = images.iter().chain(&masks).map(Bytes::len).sum();
        let keep =
            |bytes: Bytes| Upload::from(if n_bytes >= body.len() / 2 { bytes } else { Bytes::copy_from_slice(&bytes) });
        request.image = one(images, "image")?.map(keep);
        request.mask = one(masks, "mask")?.map(keep);
        Ok(request)
    }
}

fn refuse<T>(param: &str, message: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::of(param, message))
}

/// `image` of `image[]` and `image[0]`.
fn field_of(name: &str) -> &str {
    name.split_once('[').map_or(name, |(field, _)| field)
}

fn one(mut files: Vec<Bytes>, name: &'static str) -> Result<Option<Bytes>, Failure> {
    match files.len() {
        0 | 1 => Ok(files.pop()),
        n => refuse(name, format!("{n} pictures as {name} are not possible: send one, the models here start from one")),
    }
}

fn parse_size(size: &str) -> Result<(Option<usize>, Option<usize>), Failure> {
    if size == "auto" {
        return Ok((None, None));
    }
    let sides = size.split_once('x').and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    match sides {
        Some((width, height)) => Ok((Some(width), Some(height))),
        None => refuse("size", format!("size {size:?} is not possible: use auto, or a size such as 512x512")),
    }
}
