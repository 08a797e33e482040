//! What the server has, in lists.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use darkroom::sampler::{Sampler, SamplerKind, SigmaSchedule};
use serde_json::{Value, json};

use super::super::desk::Desk;
use super::super::memory::resident_bytes;

/// Lists of what is not here.
const EMPTY: [&str; 12] = [
    "sd-vae",
    "sd-modules",
    "latent-upscale-modes",
    "hypernetworks",
    "face-restorers",
    "realesrgan-models",
    "prompt-styles",
    "script-info",
    "extensions",
    "artists",
    "artist-categories",
    "vae",
];

/// What a client asks to be read anew, which nothing here needs.
const REFRESH: [&str; 4] = ["refresh-checkpoints", "refresh-vae", "refresh-loras", "refresh-embeddings"];

pub fn routes() -> Router<Arc<Desk>> {
    let mut routes = Router::new()
        .route("/sdapi/v1/samplers", get(samplers))
        .route("/sdapi/v1/schedulers", get(schedulers))
        .route("/sdapi/v1/sd-models", get(sd_models))
        .route("/sdapi/v1/loras", get(loras))
        .route("/sdapi/v1/upscalers", get(upscalers))
        .route("/sdapi/v1/embeddings", get(async || Json(json!({ "loaded": {}, "skipped": {} }))))
        .route("/sdapi/v1/scripts", get(async || Json(json!({ "txt2img": [], "img2img": [] }))))
        .route("/sdapi/v1/cmd-flags", get(async || Json(json!({ "api": true, "nowebui": true }))))
        .route("/sdapi/v1/memory", get(memory));
    for name in EMPTY {
        routes = routes.route(&format!("/sdapi/v1/{name}"), get(async || Json(json!([]))));
    }
    for name in REFRESH {
        routes = routes.route(&format!("/sdapi/v1/{name}"), post(async || Json(json!(null))));
    }
    routes
}

/// Every solver, and those with a schedule that older clients know by one name.
async fn samplers() -> Json<Value> {
    let mut named = Sampler::menu();
    named.extend(SamplerKind::ALL.into_iter().map(Sampler::from).filter(|sampler| !Sampler::menu().contains(sampler)));
    let items = named.into_iter().map(|sampler| {
        let options = sampler.schedule.map_or_else(|| json!({}), |schedule| json!({ "scheduler": schedule.name() }));
        json!({ "name": sampler.a1111_name(), "aliases": [sampler.name()], "options": options })
    });
    Json(items.collect())
}

async fn schedulers() -> Json<Value> {
    let item = |name: &str, label: &str| json!({ "name": name, "label": label, "aliases": null, "default_rho": -1, "need_inner_model": false });
    let named = SigmaSchedule::ALL.into_iter().map(|schedule| item(schedule.name(), schedule.a1111_name()));
    let first = [item("automatic", "Automatic"), item("uniform", "Uniform")];
    Json(first.into_iter().chain(named).collect())
}

async fn sd_models(State(desk): State<Arc<Desk>>) -> Json<Value> {
    let item = |name: &str| json!({ "title": name, "model_name": name, "hash": null, "sha256": null, "filename": name, "config": null });
    Json(desk.menu.models().iter().map(|(_, model)| item(&model.name)).collect())
}

/// Their folder is nobody's business.
async fn loras(State(desk): State<Arc<Desk>>) -> Json<Value> {
    let entries = desk.menu.loras.as_ref().map(|folder| folder.entries()).unwrap_or_default();
    let item =
        |name: &str| json!({ "name": name, "alias": name, "path": format!("{name}.safetensors"), "metadata": {} });
    Json(entries.iter().map(|entry| item(&entry.name)).collect())
}

/// Clients take the first for "none".
async fn upscalers() -> Json<Value> {
    Json(json!([{ "name": "None", "model_name": null, "model_path": null, "model_url": null, "scale": 4 }]))
}

async fn memory() -> Json<Value> {
    let ram = resident_bytes().map_or_else(|| json!({ "error": "unknown" }), |n_bytes| json!({ "used": n_bytes }));
    Json(json!({ "ram": ram, "cuda": { "error": "unavailable" } }))
}
