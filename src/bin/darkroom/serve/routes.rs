//! The HTTP API: one function a route.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{RawQuery, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::Stream;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::connection::Hall;
use super::desk::{Desk, Listening};
use super::failure::Failure;
use super::guard::{self, Guard};
use super::intake::{Asked, InPath};
use super::job::{Job, Preview, Progress};
use super::request::JobRequest;
use super::{answer, metrics, openai, openapi, webui};

/// The API: everything but the page. `/health` and `/openapi.json` tell nothing of what is drawn and need no token.
pub fn routes(desk: Arc<Desk>, hall: Arc<Hall>, guard: Arc<Guard>) -> Router {
    let open = Router::new()
        .route("/health", get(health))
        .route("/openapi.json", get(openapi::description))
        .layer(from_fn_with_state(Arc::clone(&guard), guard::by_name))
        .with_state(Arc::clone(&desk));
    let list = if guard.lets_strangers_in() { get(refuse_list) } else { get(list_jobs) };
    let jobs = list.post(add_job);
    let metrics = Router::new().route("/metrics", get(metrics)).with_state((Arc::clone(&desk), hall));
    Router::new()
        .route("/v1/jobs", jobs)
        .route("/v1/jobs/{id}", get(show_job).delete(cancel_job))
        .route("/v1/jobs/{id}/events", get(job_events))
        .route("/v1/jobs/{id}/images/{image}", get(job_image))
        .route("/v1/models", get(openai::models))
        .route("/v1/models/{*name}", get(openai::model))
        .route("/v1/images/generations", post(openai::generations))
        .route("/v1/images/edits", post(openai::edits))
        .route("/v1/{*rest}", axum::routing::any(no_route))
        .merge(webui::routes())
        .with_state(desk)
        .merge(metrics)
        .layer(from_fn_with_state(guard, guard::by_token))
        .merge(open)
}

async fn health(State(desk): State<Arc<Desk>>) -> Response {
    let status = if desk.is_ending() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, Json(metrics::health(&desk))).into_response()
}

async fn metrics(State((desk, hall)): State<(Arc<Desk>, Arc<Hall>)>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics::text(&desk, &hall)).into_response()
}

async fn no_route(request: Request) -> Failure {
    let message = format!("there is no {}: /openapi.json lists what there is", request.uri().path());
    Failure::new(StatusCode::NOT_FOUND, "no_route", message)
}

fn no_job(id: &str) -> Failure {
    let message = format!("there is no job {id:?}, or it is over and forgotten");
    Failure::new(StatusCode::NOT_FOUND, "job_not_found", message)
}

async fn add_job(State(desk): State<Arc<Desk>>, Asked { asked, held }: Asked<JobRequest>) -> Result<Response, Failure> {
    let id = desk.submit(asked, held).await?;
    let job = desk.look(&id, |job, position| job.to_json(position)).ok_or_else(|| no_job(&id))?;
    let location = [(header::LOCATION, format!("/v1/jobs/{id}"))];
    Ok((StatusCode::ACCEPTED, location, Json(job)).into_response())
}

/// The most jobs of one list, and how many where nothing is said.
const MAX_LISTED: usize = 100;
const N_LISTED: usize = 20;
/// A list ends behind the job with which it is longer than this, in bytes.
const LIST_BYTES: usize = 1 << 20;

/// What a list is asked for: `limit` and `after`, the id of the last job of the list before.
fn list_query(query: &str) -> Result<(usize, Option<&str>), Failure> {
    let (mut limit, mut after) = (N_LISTED, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("limit", text) => {
                let got = text.parse().ok().filter(|limit| (1..=MAX_LISTED).contains(limit));
                let message = || format!("limit {text:?} is not possible: use 1 to {MAX_LISTED}");
                limit = got.ok_or_else(|| Failure::of("limit", message()))?;
            }
            ("after", id) => after = Some(id),
            (other, _) => {
                let message = format!("there is no setting {other:?} of this list: use limit or after");
                return Err(Failure::of(other, message));
            }
        }
    }
    Ok((limit, after))
}

/// The jobs that are remembered, the newest first.
async fn list_jobs(State(desk): State<Arc<Desk>>, RawQuery(query): RawQuery) -> Result<Response, Failure> {
    let query = query.unwrap_or_default();
    let (limit, after) = list_query(&query)?;
    let (mut text, mut n_listed, mut has_more) = (String::from("{\"object\":\"list\",\"data\":["), 0, false);
    let listed = desk.look_at_all(after, |job, position| {
        if n_listed == limit || text.len() > LIST_BYTES {
            has_more = true;
            return ControlFlow::Break(());
        }
        if n_listed > 0 {
            text.push(',');
        }
        text.push_str(&job.to_json(position).to_string());
        n_listed += 1;
        ControlFlow::Continue(())
    });
    listed.ok_or_else(|| no_job(after.unwrap_or_default()).about("after"))?;
    text.push_str(&format!("],\"has_more\":{has_more}}}"));
    let kind = [(header::CONTENT_TYPE, "application/json")];
    Ok((kind, answer::count(&desk, text.into_bytes())).into_response())
}

/// Where everyone is let in, a job is known to whoever has its id.
async fn refuse_list() -> Failure {
    let message = "jobs are not listed to everyone: start the server with --token TOKEN";
    Failure::new(StatusCode::FORBIDDEN, "needs_token", message)
}

async fn show_job(State(desk): State<Arc<Desk>>, InPath(id): InPath<String>) -> Result<Json<Value>, Failure> {
    desk.look(&id, |job, position| Json(job.to_json(position))).ok_or_else(|| no_job(&id))
}

/// Stops the job and says where it is; one that is being drawn stops between two operations.
async fn cancel_job(State(desk): State<Arc<Desk>>, InPath(id): InPath<String>) -> Result<Json<Value>, Failure> {
    desk.cancel(&id);
    show_job(State(desk), InPath(id)).await
}

async fn job_image(
    State(desk): State<Arc<Desk>>,
    InPath((id, image)): InPath<(String, String)>,
) -> Result<Response, Failure> {
    let format = desk.look(&id, |job, _| job.request.format).ok_or_else(|| no_job(&id))?;
    let no_image = || {
        let message = format!("the job has no picture {image}, or not yet: the first one is 0");
        Failure::new(StatusCode::NOT_FOUND, "no_image", message)
    };
    let idx = image.parse().map_err(|_| no_image())?;
    let file = desk.fetch(&id, idx).ok_or_else(|| no_job(&id))?.ok_or_else(no_image)?;
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
    _listening: Listening,
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
            let mut data = job.progress.in_json();
            if let Some(position) = position {
                data["position"] = json!(position);
            }
            tell("progress", data);
            self.progress = progress;
        }
        if let Some(preview) = job.preview.as_ref().filter(|_| job.n_previews != self.n_previews) {
            let Preview { png, picture, step, steps } = preview;
            if desk.may_preview(png.len()) {
                let b64_json = STANDARD.encode(png);
                tell("preview", json!({ "picture": picture, "step": step, "steps": steps, "b64_json": b64_json }));
            }
            self.n_previews = job.n_previews;
        }
        for image in self.n_images..job.images.len() {
            tell("image", json!({ "index": image, "seed": job.images[image].0, "url": job.image_url(image) }));
            self.n_images += 1;
        }
        if job.status.is_over() {
            let kind = if job.failure.is_some() { "error" } else { "done" };
            tell(kind, job.to_json(None));
            self.is_over = true;
        }
    }
}

/// Progress, previews and pictures as they come; `done` or `error` is the last event.
async fn job_events(
    State(desk): State<Arc<Desk>>,
    InPath(id): InPath<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    let changed = desk.watch(&id).ok_or_else(|| no_job(&id))?;
    let mut listener = Listener {
        _listening: desk.listen()?,
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
