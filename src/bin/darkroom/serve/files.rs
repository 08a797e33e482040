//! The page's files, and the headers that everything is answered with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use darkroom::{Error, Result};

use super::cors::Origins;
use super::page_files;

/// The small model, below the page's folder.
pub const EMBEDDED_MODEL: &str = "hub/darkroom/tiny-emoji/resolve/main";

/// Where the page is when nobody says: beside the program, where a package would put it, or in this folder.
pub fn find_page(given: Option<PathBuf>) -> Result<Option<PathBuf>> {
    let is_page = |folder: &Path| folder.join("index.html").is_file() && folder.join("pkg/darkroom_bg.wasm").is_file();
    if let Some(folder) = given {
        if is_page(&folder) {
            return Ok(Some(folder));
        }
        return Err(Error::Request {
            field: "page",
            got: folder.display().to_string(),
            expected: "the folder needs index.html and pkg/darkroom_bg.wasm, which ./build.sh wasm makes".into(),
        });
    }
    let program = std::env::current_exe().ok();
    let beside = program.as_deref().and_then(Path::parent);
    let mut places: Vec<PathBuf> =
        beside.iter().flat_map(|folder| [folder.join("www"), folder.join("../share/darkroom/www")]).collect();
    places.push(PathBuf::from("www"));
    Ok(places.into_iter().find(|folder| is_page(folder)))
}

/// Files below the page's folder; without one, nothing is found.
pub fn service(page: Option<PathBuf>) -> Router {
    match page {
        Some(page) => page_files::service(page),
        None => Router::new()
            .fallback(async || (StatusCode::NOT_FOUND, "no page is served here: /openapi.json lists what there is\n")),
    }
}

/// Types are not guessed; no other site is told of the page; the page is cross-origin isolated, so that a cancel reaches a
/// step that computes; and files are asked for again whether they changed.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-embedder-policy"), "require-corp"),
    (header::CACHE_CONTROL, "no-cache"),
];

/// Adds the headers to every answer. No site sees or frames the page but those of `origins`. Which site asks for a picture or
/// a frame is not told to a server, so that with any origin pictures may be shown everywhere; their addresses cannot be
/// guessed.
pub fn with_headers(app: Router, origins: &Origins) -> Router {
    let resource_policy = if origins.is_empty() { "same-origin" } else { "cross-origin" };
    let mut headers = HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value))).to_vec();
    let policy = HeaderName::from_static("cross-origin-resource-policy");
    headers.push((policy, HeaderValue::from_static(resource_policy)));
    headers.push((header::CONTENT_SECURITY_POLICY, origins.frame_ancestors()));
    let headers = Arc::new(headers);
    app.layer(from_fn(move |request: Request, next: Next| {
        let headers = Arc::clone(&headers);
        async move {
            let mut response: Response = next.run(request).await;
            for (name, value) in &*headers {
                response.headers_mut().entry(name).or_insert_with(|| value.clone());
            }
            response
        }
    }))
}
