//! `POST /v1/images/generations`, in the form that OpenAI's API has, for programs that speak it already.
//!
//! Settings that have no meaning here are refused where they would change the picture, and passed over where they would
//! not. What only diffusion has (`steps`, `seed` and so on) may be given beside.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::failure::Failure;
use super::intake::Asked;
use super::jobs::{Desk, Status};
use super::request::JobRequest;

/// The body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerationsRequest {
    prompt: String,
    model: Option<String>,
    n: Option<usize>,
    /// `auto` or `512x512`.
    size: Option<String>,
    /// Whether the sides may be any multiple of 8.
    #[serde(default)]
    any_size: bool,
    /// `b64_json`, the default, or `url`.
    response_format: Option<String>,
    /// Only `png`.
    output_format: Option<String>,
    /// Who asks; it changes nothing.
    #[serde(rename = "user")]
    _user: Option<String>,
    negative_prompt: Option<String>,
    steps: Option<usize>,
    guidance_scale: Option<f64>,
    sampler: Option<String>,
    seed: Option<u64>,
}

/// Cancels the job when whoever asked for it has gone.
struct CancelOnDrop {
    desk: Arc<Desk>,
    id: String,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        // One that is over stays as it is.
        self.desk.cancel(&self.id);
    }
}

fn parse_size(size: &str) -> Result<(Option<usize>, Option<usize>), Failure> {
    if size == "auto" {
        return Ok((None, None));
    }
    let sides = size.split_once('x').and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    match sides {
        Some((width, height)) => Ok((Some(width), Some(height))),
        None => Err(Failure::request(format!("size {size:?} is not possible: use auto, or a size such as 512x512"))),
    }
}

/// Draws and answers when the pictures are done.
pub async fn generations(
    State(desk): State<Arc<Desk>>,
    headers: HeaderMap,
    Asked { asked, held }: Asked<GenerationsRequest>,
) -> Result<Json<Value>, Failure> {
    let wants_url = match asked.response_format.as_deref() {
        None | Some("b64_json") => false,
        Some("url") => true,
        Some(other) => {
            let message = format!("response_format {other:?} is not possible: use b64_json or url");
            return Err(Failure::request(message));
        }
    };
    if let Some(other) = asked.output_format.as_deref().filter(|format| *format != "png") {
        return Err(Failure::request(format!("output_format {other:?} is not possible: use png")));
    }
    let (width, height) = asked.size.as_deref().map_or(Ok((None, None)), parse_size)?;
    let request = JobRequest {
        prompt: asked.prompt,
        model: asked.model,
        count: asked.n,
        width,
        height,
        any_size: asked.any_size,
        negative_prompt: asked.negative_prompt,
        steps: asked.steps,
        guidance_scale: asked.guidance_scale,
        sampler: asked.sampler,
        seed: asked.seed,
        ..JobRequest::default()
    };
    let id = desk.submit(request, held).await?;
    let job = CancelOnDrop { desk, id };
    let gone = || Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "job_not_found", "the job is forgotten");
    let mut changed = job.desk.watch(&job.id).ok_or_else(gone)?;
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    loop {
        let answer = job.desk.look(&job.id, |job, _| match job.status {
            Status::Queued | Status::Running => None,
            Status::Done => {
                let data: Vec<Value> = (0..job.images.len())
                    .map(|image| match wants_url {
                        true => json!({ "url": format!("http://{host}{}", job.image_url(image)) }),
                        false => json!({ "b64_json": STANDARD.encode(&job.images[image].1) }),
                    })
                    .collect();
                let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
                Some(Ok(Json(json!({ "created": created, "data": data }))))
            }
            Status::Cancelled => Some(Err(Failure::new(StatusCode::CONFLICT, "cancelled", "the job was cancelled"))),
            Status::Failed => Some(Err(job.failure.clone().unwrap_or_else(gone))),
        });
        if let Some(answer) = answer.ok_or_else(gone)? {
            return answer;
        }
        changed.changed().await.map_err(|_| gone())?;
    }
}
