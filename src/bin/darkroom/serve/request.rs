//! The body of `POST /v1/jobs`: a request as the library reads it, and what only a server takes beside.

use darkroom::request::Request;
use serde::de::{Error, MapAccess};
use serde::{Deserialize, Deserializer};

use super::json::{self, Beside, put};
use super::upload::{MaskForm, Upload};

/// A request with the fields of [`Request`] and its own side by side. Absent settings are the model's own.
#[derive(Default)]
pub struct JobRequest {
    pub request: Request,
    /// One of the server's, by name; absent for the first.
    pub model: Option<String>,
    /// A picture file to start from; in JSON, in base64.
    pub image: Option<Upload>,
    /// Likewise; white where the picture is repainted.
    pub mask: Option<Upload>,
    /// How the mask says that. Each door has its own.
    pub mask_form: MaskForm,
    /// `png`, the default, `jpeg` or `webp`.
    pub output_format: Option<String>,
    /// The quality of the last two, 0 to 100.
    pub output_compression: Option<i64>,
}

impl Beside for JobRequest {
    const NAMES: &[&str] = &["model", "image", "mask", "output_format", "output_compression"];

    fn read<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "model" => put(&mut self.model, "model", map),
            "image" => put(&mut self.image, "image", map),
            "mask" => put(&mut self.mask, "mask", map),
            "output_format" => put(&mut self.output_format, "output_format", map),
            "output_compression" => put(&mut self.output_compression, "output_compression", map),
            other => Err(A::Error::unknown_field(other, Self::NAMES)),
        }
    }
}

impl<'de> Deserialize<'de> for JobRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (request, job) = json::request_and::<D, JobRequest>(deserializer)?;
        Ok(JobRequest { request, ..job })
    }
}
