//! Partial pictures as OpenAI's clients read them: server-sent events, each with a picture in base64.
//!
//! A partial picture is the preview of a step, which is a guess at colours in the size of the latents, enlarged to the size
//! of the finished one. One event is made when the client has read the one before, so that a slow client holds one.

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use darkroom::image::{FileFormat, decode, encode};
use serde_json::{Value, json};

use super::answer;
use super::failure::Failure;
use super::follow::Followed;
use super::job::{Job, Png};
use super::openai::{now, size, usage};
use super::openai_request::{Delivery, Door};

/// How the events of a door are called.
fn name_of(door: Door) -> &'static str {
    match door {
        Door::Generate => "image_generation",
        Door::Edit => "image_edit",
    }
}

/// What a client has been sent.
struct Told {
    job: Followed,
    door: Door,
    n_partial_images: u64,
    /// Partial pictures of the picture under way.
    n_partial: u64,
    n_finished: usize,
    is_over: bool,
}

/// What comes next.
enum News {
    Nothing,
    Partial { preview: Png, size: (usize, usize), format: FileFormat },
    Finished { file: Png, seed: u64, size: (usize, usize), format: FileFormat, n_tokens: usize },
    Over,
}

/// The events until the job is over. A client that goes takes the job along.
pub fn answer(job: Followed, delivery: &Delivery) -> Response {
    let told = Told {
        job,
        door: delivery.door,
        n_partial_images: delivery.n_partial_images,
        n_partial: 0,
        n_finished: 0,
        is_over: false,
    };
    let events = futures_util::stream::unfold(told, async |mut told| {
        if told.is_over {
            return None;
        }
        let event = match told.next().await {
            Ok(Some(event)) => event,
            Ok(None) => return None,
            Err(failure) => {
                told.is_over = true;
                Bytes::from(event("error", &json!({ "type": "error", "error": failure.body() })))
            }
        };
        Some((Ok::<_, std::convert::Infallible>(event), told))
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response()
}

fn event(name: &str, data: &Value) -> Vec<u8> {
    format!("event: {name}\ndata: {data}\n\n").into_bytes()
}

impl Told {
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let (n_finished, n_partial, wanted) = (self.n_finished, self.n_partial, self.n_partial_images);
            match self.job.look(|job| news(job, n_finished, n_partial, wanted))? {
                News::Nothing => self.job.changed().await?,
                News::Over => {
                    self.is_over = true;
                    // It failed, or was cancelled: that is the last event.
                    self.job.outcome()?;
                    return Ok(None);
                }
                News::Partial { preview, size, format } => {
                    let index = self.n_partial;
                    self.n_partial += 1;
                    return self.partial(preview, size, format, index).await.map(Some);
                }
                News::Finished { file, seed, size: sides, format, n_tokens } => {
                    let name = format!("{}.completed", name_of(self.door));
                    (self.n_finished, self.n_partial) = (self.n_finished + 1, 0);
                    let n_bytes = file.len() as u64 * 2;
                    let make = move || {
                        let data = json!({ "type": name, "b64_json": STANDARD.encode(&file), "created_at": now(),
                            "background": "opaque", "output_format": format.name(), "quality": "auto",
                            "size": size(sides), "usage": usage(n_tokens), "seed": seed });
                        event(&name, &data)
                    };
                    let desk = self.job.desk();
                    return answer::bytes(desk, n_bytes, make).await.map(Some);
                }
            }
        }
    }

    async fn partial(
        &self,
        preview: Png,
        (width, height): (usize, usize),
        format: FileFormat,
        index: u64,
    ) -> Result<Bytes, Failure> {
        let name = format!("{}.partial_image", name_of(self.door));
        let make = move || -> darkroom::Result<Vec<u8>> {
            let file = encode(&decode(&preview)?.resize_lanczos(width, height), &[], format)?;
            let data = json!({ "type": name, "b64_json": STANDARD.encode(&file), "partial_image_index": index,
                "created_at": now(), "background": "opaque", "output_format": format.name(), "quality": "auto",
                "size": size((width, height)) });
            Ok(event(&name, &data))
        };
        let desk = self.job.desk();
        let n_bytes = (width * height * 8) as u64;
        Ok(answer::count(desk, desk.room.work(n_bytes, make).await??))
    }
}

/// What the client does not know yet. Partial pictures are spread evenly over the steps of a picture.
fn news(job: &Job, n_finished: usize, n_partial: u64, wanted: u64) -> News {
    let config = &job.request.config;
    let (size, format) = ((config.width, config.height), job.request.format);
    if let Some((seed, file)) = job.images.get(n_finished) {
        return News::Finished { file: file.clone(), seed: *seed, size, format, n_tokens: job.n_tokens };
    }
    if job.status.is_over() {
        return News::Over;
    }
    let progress = &job.progress;
    let due = (n_partial + 1) * progress.steps as u64 / (wanted + 1);
    // The step that is computed is one further than the preview.
    let is_due = n_partial < wanted && progress.step as u64 > due.max(1);
    match &job.preview {
        Some(preview) if is_due && progress.picture == n_finished => {
            News::Partial { preview: preview.png.clone(), size, format }
        }
        _ => News::Nothing,
    }
}
