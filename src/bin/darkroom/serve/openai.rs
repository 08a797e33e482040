//! OpenAI's form of the API, for programs that speak it already: `/v1/models`, `/v1/images/generations` and
//! `/v1/images/edits`, also as a stream of partial pictures.
//!
//! Deliberately not there: `images.create_variation` (a picture without a prompt is not what these models vary), files,
//! and everything about text.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use darkroom::request::{MAX_GUIDANCE_SCALE, MAX_STEPS};
use serde_json::{Value, json};

use super::desk::Desk;
use super::failure::{Failure, Renamed};
use super::follow::{Finished, Followed};
use super::form;
use super::intake::{Asked, InPath, Raw, SMALL_BODY_BYTES};
use super::memory::Held;
use super::menu::{Limits, MAX_PROMPT_BYTES, Model};
use super::openai_request::{Delivery, Door, ImagesRequest};
use super::openai_stream;
use super::{answer, json};

/// Names of settings here and there.
const NAMES: [Renamed; 3] =
    [Renamed::of_another("width", "size"), Renamed::of_another("height", "size"), Renamed::same("count", "n")];

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn model_object(model: &Model, limits: &Limits) -> Value {
    let created =
        model.written().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |since| since.as_secs());
    // Those of the README that are not among them are taken too.
    let samplers: Vec<String> = model.samplers.iter().map(|sampler| sampler.name()).collect();
    json!({ "id": model.name, "object": "model", "created": created, "owned_by": "darkroom",
        "version": model.defaults.version.key(), "is_inpaint": model.is_inpaint, "width": model.defaults.size.0, "height": model.defaults.size.1,
        "size_multiple": model.defaults.size_multiple, "sampler": model.sampler.name(), "steps": model.defaults.steps,
        "guidance_scale": model.defaults.guidance_scale, "samplers": samplers, "limits": limits_object(model, limits) })
}

/// What a request for this model may ask for, sides in pixels.
fn limits_object(model: &Model, limits: &Limits) -> Value {
    let multiple = |any_size: bool| model.defaults.sides().multiple(any_size);
    let most = |any_size: bool| limits.side - limits.side % multiple(any_size);
    json!({
        "side": { "min": multiple(false), "max": most(false), "multiple": multiple(false) },
        "any_size_side": { "min": multiple(true), "max": most(true), "multiple": multiple(true) },
        "steps": { "min": 1, "max": MAX_STEPS },
        "guidance_scale": { "min": 0, "max": MAX_GUIDANCE_SCALE },
        "count": { "min": 1, "max": limits.count },
        "queue": limits.n_waiting,
        "prompt_bytes": MAX_PROMPT_BYTES,
    })
}

/// All models.
pub async fn models(State(desk): State<Arc<Desk>>) -> Json<Value> {
    let data: Vec<Value> = desk.menu.models().iter().map(|(_, model)| model_object(model, &desk.menu.limits)).collect();
    Json(json!({ "object": "list", "data": data }))
}

/// One model. Its name may have a slash, written as it is or as `%2F`.
pub async fn model(State(desk): State<Arc<Desk>>, InPath(name): InPath<String>) -> Result<Json<Value>, Failure> {
    let idx = desk.menu.model_idx(Some(&name))?;
    Ok(Json(model_object(&*desk.menu.model(idx)?, &desk.menu.limits)))
}

/// Draws from text.
pub async fn generations(
    State(desk): State<Arc<Desk>>,
    headers: HeaderMap,
    Asked { asked, held }: Asked<ImagesRequest>,
) -> Result<Response, Failure> {
    draw(desk, &headers, asked, Door::Generate, held).await
}

/// Draws from a picture, all of it or the transparent part of a mask; the body is a form, or JSON with pictures in base64.
pub async fn edits(
    State(desk): State<Arc<Desk>>,
    headers: HeaderMap,
    Raw { bytes, held }: Raw,
) -> Result<Response, Failure> {
    let is_form = form::is_form(&headers);
    if !is_form && !super::intake::is_json(&headers) {
        let message = "send a form (Content-Type: multipart/form-data) with image and prompt, or JSON \
            (Content-Type: application/json) with the picture in base64";
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_a_form", message));
    }
    let n_bytes = bytes.len();
    let its_headers = headers.clone();
    let read = move || match is_form {
        true => ImagesRequest::from_form(form::parts(&its_headers, &bytes)?, &bytes),
        false => json::parse(&bytes),
    };
    let asked = if n_bytes <= SMALL_BODY_BYTES { read() } else { desk.room.work(2 * n_bytes as u64, read).await? }?;
    draw(desk, &headers, asked, Door::Edit, held).await
}

async fn draw(
    desk: Arc<Desk>,
    headers: &HeaderMap,
    asked: ImagesRequest,
    door: Door,
    held: Held,
) -> Result<Response, Failure> {
    let (request, delivery) = asked.read(door)?;
    let id = desk.submit(request, held).await.map_err(|failure| failure.renamed(&NAMES))?;
    let mut job = Followed::new(desk, id)?;
    if delivery.is_stream {
        return Ok(openai_stream::answer(job, &delivery));
    }
    let finished = job.finished(|_| {}).await?;
    let format = job.look(|job| job.request.format.name())?;
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost").to_owned();
    let n_bytes: usize = finished.images.iter().map(|(_, file)| file.len() / 3 * 4 + 200).sum();
    answer::json(job.desk(), n_bytes as u64, move || response(&finished, format, &delivery, &host)).await
}

fn response(finished: &Finished, format: &str, delivery: &Delivery, host: &str) -> Value {
    let data: Vec<Value> = finished
        .images
        .iter()
        .zip(&finished.urls)
        .map(|((seed, file), url)| match delivery.wants_url {
            true => json!({ "url": format!("http://{host}{url}"), "seed": seed }),
            false => json!({ "b64_json": STANDARD.encode(file), "seed": seed }),
        })
        .collect();
    let mut object = json!({ "created": now(), "data": data, "background": "opaque", "output_format": format,
        "size": size(finished.size), "usage": usage(finished.n_tokens) });
    if let Some(truncated) = &finished.truncated {
        object["truncated"] = json!(truncated);
    }
    object
}

/// `512x512`.
pub fn size((width, height): (usize, usize)) -> String {
    format!("{width}x{height}")
}

/// What was read. Pictures are not counted in tokens here, so there are none of them.
pub fn usage(n_tokens: usize) -> Value {
    json!({ "input_tokens": n_tokens, "input_tokens_details": { "image_tokens": 0, "text_tokens": n_tokens },
        "output_tokens": 0, "total_tokens": n_tokens })
}
