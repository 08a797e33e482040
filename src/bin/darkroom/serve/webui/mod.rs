//! `/sdapi/v1`, the API of AUTOMATIC1111's web UI, in the form that its common clients send and read, so that front ends
//! made for it can use this server.
//!
//! Deliberately not there: what the web UI does beside drawing (extras, interrogation, training, extensions). Lists of what
//! is not here are empty, not missing, because clients ask for them when they start.

mod body;
mod info;
mod lists;
mod progress;
mod request;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use darkroom::image::FileFormat;
use darkroom::rng::Noise;
use serde_json::json;

use super::answer;
use super::desk::Desk;
use super::failure::{Failure, Renamed};
use super::follow::Followed;
use super::intake::{Asked, Posted};
use super::job::Status;
use super::menu::Menu;
use body::{Body, Given};
use request::{Door, positive};

/// Names of settings here and there.
const NAMES: [Renamed; 9] = [
    Renamed::same("guidance_scale", "cfg_scale"),
    Renamed::same("strength", "denoising_strength"),
    Renamed::same("image", "init_images"),
    Renamed::same("sampler", "sampler_name"),
    // Times `n_iter`.
    Renamed::of_another("count", "batch_size"),
    Renamed::same("model", "sd_model_checkpoint"),
    Renamed::same("variation_strength", "subseed_strength"),
    Renamed::same("variation_seed", "subseed"),
    // Tags in it.
    Renamed::of_another("loras", "prompt"),
];

/// What clients set for all requests that follow, as they do there.
#[derive(Clone, Debug)]
pub struct Options {
    /// The model's place on the menu: `sd_model_checkpoint`.
    pub model_idx: usize,
    /// `CLIP_stop_at_last_layers`: 1 skips no layer.
    pub clip_stop: usize,
    /// `randn_source`: there `GPU` unless it is set; here the CPU's.
    pub noise: Noise,
    /// `samples_format` with `jpeg_quality`.
    pub format: FileFormat,
    /// The quality of formats that have one.
    pub quality: u8,
}

impl Default for Options {
    fn default() -> Self {
        Options { model_idx: 0, clip_stop: 1, noise: Noise::Cpu, format: FileFormat::Png, quality: 80 }
    }
}

/// The model that a client of the web UI means: by its name, also with a hash or an ending that files have, or by the last
/// part of it.
fn model_idx(menu: &Menu, wanted: &str) -> Result<usize, Failure> {
    let bare = wanted.split(" [").next().unwrap_or(wanted).trim();
    let bare = [".safetensors", ".ckpt"].iter().find_map(|ending| bare.strip_suffix(ending)).unwrap_or(bare);
    let is_called = |name: &str| name.eq_ignore_ascii_case(bare);
    let models = menu.models();
    let without_end = |name: &str| {
        let cut = [".safetensors", ".gguf"].iter().find_map(|ending| name.strip_suffix(ending));
        cut.unwrap_or(name).to_owned()
    };
    let place = |test: &dyn Fn(&str) -> bool| models.iter().find(|(_, model)| test(&model.name)).map(|(idx, _)| *idx);
    let found = place(&|name| is_called(name)).or_else(|| place(&|name| is_called(&without_end(name))));
    let by_last_part = || place(&|name| name.rsplit('/').next().is_some_and(is_called));
    found.or_else(by_last_part).map_or_else(|| menu.model_idx(Some(wanted)), Ok)
}

impl Options {
    /// Takes what is known of `given`; gives the names of the others that ask for something.
    ///
    /// # Errors
    /// 404 for a model that is not here, 400 for values that are not possible.
    fn change(&mut self, given: &BTreeMap<String, Given>, menu: &Menu) -> Result<Vec<String>, Failure> {
        let mut ignored = Vec::new();
        let mut format = None;
        for (name, value) in given {
            match (name.as_str(), value) {
                (_, Given::Nothing) => {}
                ("sd_model_checkpoint", Given::Text(text)) if text.is_empty() => {}
                ("sd_model_checkpoint", Given::Text(text)) => self.model_idx = model_idx(menu, text)?,
                ("CLIP_stop_at_last_layers", value) => self.clip_stop = positive(name, value, 12)?,
                ("randn_source", Given::Text(text)) => {
                    self.noise = match text.as_str() {
                        "CPU" => Noise::Cpu,
                        "GPU" | "NV" => Noise::Philox,
                        other => {
                            let message = format!("randn_source {other:?} is not possible: use CPU, GPU or NV");
                            return Err(Failure::of("randn_source", message));
                        }
                    }
                }
                ("jpeg_quality", value) => self.quality = positive(name, value, 100)? as u8,
                ("samples_format", Given::Text(text)) => format = Some(text.to_lowercase()),
                ("sd_vae", Given::Text(text)) if text.eq_ignore_ascii_case("automatic") => {}
                (_, value) if value.is_neutral() => {}
                _ => ignored.push(name.chars().take(60).collect()),
            }
        }
        let format = format.unwrap_or_else(|| self.format.name().to_owned());
        let quality = self.quality;
        self.format = match format.as_str() {
            "png" => FileFormat::Png,
            "jpg" | "jpeg" => FileFormat::Jpeg { quality },
            "webp" => FileFormat::WebP { quality },
            other => {
                let message = format!("samples_format {other:?} is not possible: use png, jpg or webp");
                return Err(Failure::of("samples_format", message));
            }
        };
        Ok(ignored)
    }
}

/// A job that a client of this API waits for.
struct Drawing {
    id: String,
    /// When it was first seen being drawn.
    started: Option<Instant>,
}

/// What this API remembers between requests.
#[derive(Default)]
pub struct Session {
    options: Mutex<Options>,
    drawings: Mutex<Vec<Drawing>>,
}

impl Session {
    fn options(&self) -> MutexGuard<'_, Options> {
        self.options.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drawings(&self) -> MutexGuard<'_, Vec<Drawing>> {
        self.drawings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the job off the list when its request ends, however it does.
struct Listed {
    desk: Arc<Desk>,
    id: String,
}

impl Listed {
    fn new(desk: &Arc<Desk>, id: &str) -> Self {
        desk.webui.drawings().push(Drawing { id: id.to_owned(), started: None });
        Listed { desk: Arc::clone(desk), id: id.to_owned() }
    }

    fn started(&self) {
        if let Some(drawing) = self.desk.webui.drawings().iter_mut().find(|drawing| drawing.id == self.id) {
            drawing.started.get_or_insert_with(Instant::now);
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.desk.webui.drawings().retain(|drawing| drawing.id != self.id);
    }
}

/// A failure in the form that this API has.
struct Refusal(Failure);

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Refusal(failure.renamed(&NAMES))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = self.0.body();
        let retry = self.0.into_response();
        let object = json!({ "error": body["code"], "detail": body["message"], "body": "", "errors": body["message"],
            "param": body["param"] });
        let mut response = (retry.status(), Json(object)).into_response();
        if let Some(seconds) = retry.headers().get(header::RETRY_AFTER) {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.clone());
        }
        response
    }
}

/// The answer to what is refused outside of these routes.
pub fn refusal(failure: Failure) -> Response {
    Refusal(failure).into_response()
}

type Answer<T> = Result<T, Refusal>;

/// Everything below `/sdapi`.
pub fn routes() -> Router<Arc<Desk>> {
    Router::new()
        .route("/sdapi/v1/txt2img", post(txt2img))
        .route("/sdapi/v1/img2img", post(img2img))
        .route("/sdapi/v1/progress", get(progress::progress))
        .route("/sdapi/v1/interrupt", post(progress::interrupt))
        .route("/sdapi/v1/skip", post(progress::skip))
        .route("/sdapi/v1/options", get(options).post(set_options))
        .route("/sdapi/v1/png-info", post(info::png_info))
        .merge(lists::routes())
        .route("/sdapi/{*rest}", any(no_route))
}

async fn no_route(request: axum::extract::Request) -> Refusal {
    let message = format!("there is no {}: /openapi.json lists what there is", request.uri().path());
    Refusal(Failure::new(StatusCode::NOT_FOUND, "no_route", message))
}

async fn txt2img(State(desk): State<Arc<Desk>>, asked: Result<Asked<Body>, Failure>) -> Answer<Response> {
    draw(desk, asked?, Door::Txt2Img).await
}

async fn img2img(State(desk): State<Arc<Desk>>, asked: Result<Asked<Body>, Failure>) -> Answer<Response> {
    draw(desk, asked?, Door::Img2Img).await
}

async fn draw(desk: Arc<Desk>, Asked { asked: mut body, held }: Asked<Body>, door: Door) -> Answer<Response> {
    let options = desk.webui.options().clone();
    let (request, delivery) = request::read(&mut body, door, &options, &desk.menu)?;
    let parameters = body.to_json();
    drop(body);
    let id = desk.submit(request, held).await?;
    let listed = Listed::new(&desk, &id);
    let mut job = Followed::new(Arc::clone(&desk), id)?;
    let finished = job.finished(|job| {
        if job.status == Status::Running {
            listed.started();
        }
    });
    // Whoever interrupts gets what is there.
    let finished = match finished.await {
        Err(failure) if failure.status() == StatusCode::GONE => job.so_far()?,
        other => other?,
    };
    let was_interrupted = job.look(|job| job.status == Status::Cancelled)?;
    let drawn = job.look(info::Drawn::of)?;
    drop((listed, job));
    let n_bytes: usize = finished.images.iter().map(|(_, file)| file.len() / 3 * 4).sum();
    let make = move || info::answer(&finished, &drawn, &delivery, parameters, was_interrupted);
    Ok(answer::json(&desk, n_bytes as u64, make).await?)
}

async fn options(State(desk): State<Arc<Desk>>) -> Json<serde_json::Value> {
    let options = desk.webui.options().clone();
    let name = desk.menu.model_or_first(options.model_idx).map_or_else(|_| String::new(), |model| model.name.clone());
    let samples_format = if options.format.name() == "jpeg" { "jpg" } else { options.format.name() };
    Json(json!({
        "sd_model_checkpoint": name, "sd_checkpoint_hash": "", "sd_vae": "Automatic",
        "CLIP_stop_at_last_layers": options.clip_stop,
        "randn_source": if options.noise == Noise::Philox { "NV" } else { "CPU" }, "samples_format": samples_format, "jpeg_quality": options.quality,
        "eta_noise_seed_delta": 0, "eta_ddim": 0.0, "eta_ancestral": 1.0, "img2img_fix_steps": false,
        "live_previews_enable": true, "show_progress_every_n_steps": 1, "return_grid": false, "return_mask": false,
        "enable_pnginfo": true, "save_images_add_number": false, "outdir_samples": "",
    }))
}

/// Takes what is known; `null` is the answer there, and here too unless something was passed over.
async fn set_options(
    State(desk): State<Arc<Desk>>,
    posted: Result<Posted<BTreeMap<String, Given>>, Failure>,
) -> Answer<Response> {
    let given = posted?.0;
    let mut options = desk.webui.options().clone();
    let ignored = options.change(&given, &desk.menu)?;
    *desk.webui.options() = options;
    Ok(match ignored.is_empty() {
        true => Json(json!(null)).into_response(),
        false => Json(json!({ "ignored": ignored })).into_response(),
    })
}
