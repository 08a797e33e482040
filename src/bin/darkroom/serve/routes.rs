//! The HTTP API: one function a route.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::Stream;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::failure::Failure;
use super::intake::Asked;
use super::jobs::{Desk, Job, Progress};
use super::openai;
use super::request::JobRequest;
use super::webui;

/// Everything below `/v1`.
pub fn routes(desk: Arc<Desk>, address: SocketAddr) -> Router {
    let api = Router::new()
        .route("/v1/jobs", post(add_job))
        .route("/v1/jobs/{id}", get(show_job).delete(cancel_job))
        .route("/v1/jobs/{id}/events", get(job_events))
        .route("/v1/jobs/{id}/images/{image}", get(job_image))
        .route("/v1/models", get(openai::models))
        .route("/v1/models/{*name}", get(openai::model))
        .route("/v1/images/generations", post(openai::generations))
        .route("/v1/images/edits", post(openai::edits))
        .route("/v1/{*rest}", axum::routing::any(no_route))
        .method_not_allowed_fallback(wrong_method)
        .merge(webui::routes())
        .with_state(desk);
    if address.ip().is_loopback() { api.layer(from_fn(only_this_machine)) } else { api }
}

/// Refuses what was sent to another name than this machine's own: a page elsewhere whose name was made to point here
/// could otherwise read everything.
async fn only_this_machine(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    if ["localhost", "127.0.0.1", "[::1]"].contains(&name) {
        return next.run(request).await;
    }
    let message = format!("this server answers to localhost only, not to {name:?}: --host lets it answer others");
    Failure::new(StatusCode::FORBIDDEN, "wrong_host", message).into_response()
}

async fn no_route(request: Request) -> Failure {
    let message = format!("there is no {}: the README lists what there is", request.uri().path());
    Failure::new(StatusCode::NOT_FOUND, "no_route", message)
}

async fn wrong_method(request: Request) -> Failure {
    let message = format!("{} takes no {}", request.uri().path(), request.method());
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", message)
}

fn no_job(id: &str) -> Failure {
    let message = format!("there is no job {id:?}, or it is over and forgotten");
    Failure::new(StatusCode::NOT_FOUND, "job_not_found", message)
}

async fn add_job(State(desk): State<Arc<Desk>>, Asked { asked, held }: Asked<JobRequest>) -> Result<Response, Failure> {
    let id = desk.submit(asked, held).await?;
    let job = desk.look(&id, |job, position| job.to_json(&desk.menu, position)).ok_or_else(|| no_job(&id))?;
    let location = [(header::LOCATION, format!("/v1/jobs/{id}"))];
    Ok((StatusCode::ACCEPTED, location, Json(job)).into_response())
}

async fn show_job(State(desk): State<Arc<Desk>>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    desk.look(&id, |job, position| Json(job.to_json(&desk.menu, position))).ok_or_else(|| no_job(&id))
}

/// Stops the job and says where it is; one that is being drawn stops between two operations.
async fn cancel_job(State(desk): State<Arc<Desk>>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    desk.cancel(&id);
    show_job(State(desk), Path(id)).await
}

async fn job_image(
    State(desk): State<Arc<Desk>>,
    Path((id, image)): Path<(String, usize)>,
) -> Result<Response, Failure> {
    let format = desk.look(&id, |job, _| job.order.format).ok_or_else(|| no_job(&id))?;
    let file = desk.fetch(&id, image).ok_or_else(|| no_job(&id))?.ok_or_else(|| {
        Failure::new(StatusCode::NOT_FOUND, "no_image", format!("the job has no picture {image}, or not yet"))
    })?;
    Ok(([(header::CONTENT_TYPE, format.media_type())], Bytes::from_owner(file)).into_response())
}

/// What a client that listens has been told.
struct Listener {
    desk: Arc<Desk>,
    id: String,
    changed: watch::Receiver<()>,
    progress: Option<(Progress, Option<usize>)>,
    n_images: usize,
    n_previews: u64,
    pending: VecDeque<Event>,
    is_over: bool,
}

impl Listener {
    /// Puts what the client does not know yet into `pending`.
    fn catch_up(&mut self) {
        let desk = Arc::clone(&self.desk);
        let id = self.id.clone();
        let seen = desk.look(&id, |job, position| self.take_news(job, position, &desk));
        self.is_over |= seen.is_none();
    }

    fn take_news(&mut self, job: &Job, position: Option<usize>, desk: &Desk) {
        let mut tell =
            |kind: &str, data: Value| self.pending.push_back(Event::default().event(kind).data(data.to_string()));
        let progress = Some((job.progress.clone(), position));
        if self.progress != progress {
            let mut data = json!(job.progress);
            if let Some(position) = position {
                data["position"] = json!(position);
            }
            tell("progress", data);
            self.progress = progress;
        }
        if let Some(png) = job.preview.as_ref().filter(|_| job.n_previews != self.n_previews) {
            tell("preview", json!({ "b64_json": STANDARD.encode(png) }));
            self.n_previews = job.n_previews;
        }
        for image in self.n_images..job.images.len() {
            tell("image", json!({ "index": image, "seed": job.images[image].0, "url": job.image_url(image) }));
            self.n_images += 1;
        }
        if job.status.is_over() {
            let kind = if job.failure.is_some() { "error" } else { "done" };
            tell(kind, job.to_json(&desk.menu, None));
            self.is_over = true;
        }
    }
}

/// Progress, previews and pictures as they come; `done` or `error` is the last event.
async fn job_events(
    State(desk): State<Arc<Desk>>,
    Path(id): Path<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    let changed = desk.watch(&id).ok_or_else(|| no_job(&id))?;
    let mut listener = Listener {
        desk,
        id,
        changed,
        progress: None,
        n_images: 0,
        n_previews: 0,
        pending: VecDeque::new(),
        is_over: false,
    };
    listener.catch_up();
    let events = futures_util::stream::unfold(listener, async |mut listener| {
        loop {
            if let Some(event) = listener.pending.pop_front() {
                return Some((Ok(event), listener));
            }
            // A job that is forgotten changes no more.
            if listener.is_over || listener.changed.changed().await.is_err() {
                return None;
            }
            listener.catch_up();
        }
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}
