//! How far the drawing is, and stopping it. Only drawings of this API are told and stopped here: those of others are
//! nobody else's.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::super::desk::Desk;
use super::super::failure::Failure;
use super::super::job::{Progress, Status};
use super::Refusal;

/// The drawing under way, or else the one that waits longest: its id, and when it began.
fn current(desk: &Desk) -> Option<(String, Option<Instant>)> {
    let drawings: Vec<_> = desk.webui.drawings().iter().map(|drawing| (drawing.id.clone(), drawing.started)).collect();
    let is = |id: &str, wanted: Status| desk.look(id, |job, _| job.status == wanted).unwrap_or(false);
    let running = drawings.iter().find(|(id, _)| is(id, Status::Running));
    running.or_else(|| drawings.iter().find(|(id, _)| is(id, Status::Queued))).cloned()
}

/// How far it is, with the newest preview.
pub async fn progress(State(desk): State<Arc<Desk>>, RawQuery(query): RawQuery) -> Json<Value> {
    let seen = current(&desk).and_then(|(id, started)| {
        desk.look(&id, |job, _| {
            let n_pictures = job.request.config.count;
            (job.status, job.progress.clone(), n_pictures, job.preview.clone(), started)
        })
    });
    let Some((status, progress, n_pictures, preview, started)) = seen else {
        return Json(object(&Progress::default(), 0, "", 0.0, None));
    };
    let eta = started.filter(|_| progress.fraction > 0.0).map_or(0.0, |started| {
        let elapsed = started.elapsed().as_secs_f64();
        elapsed / progress.fraction - elapsed
    });
    let query = query.unwrap_or_default().to_ascii_lowercase();
    let skips = query.split('&').any(|pair| matches!(pair, "skip_current_image=true" | "skip_current_image=1"));
    let preview = preview.filter(|_| !skips).map(|preview| STANDARD.encode(preview.png));
    let job = if status == Status::Running { "drawing" } else { "waiting" };
    Json(object(&progress, n_pictures, job, eta, preview))
}

fn object(progress: &Progress, n_pictures: usize, job: &str, eta: f64, preview: Option<String>) -> Value {
    json!({
        "progress": progress.fraction, "eta_relative": eta, "current_image": preview, "textinfo": null,
        "state": {
            "skipped": false, "interrupted": false, "stopping_generation": false, "job": job, "job_count": n_pictures,
            "job_timestamp": "0", "job_no": progress.picture, "sampling_step": progress.step.saturating_sub(1),
            "sampling_steps": progress.steps,
        },
    })
}

/// Stops the drawing under way; its request is answered with the pictures that are there.
pub async fn interrupt(State(desk): State<Arc<Desk>>) -> Json<Value> {
    if let Some((id, _)) = current(&desk) {
        desk.cancel(&id);
    }
    Json(json!({}))
}

pub async fn skip() -> Refusal {
    let message = "skip is not possible: interrupt stops the whole request";
    Refusal(Failure::new(StatusCode::NOT_IMPLEMENTED, "no_skip", message))
}
