//! The page's files, and the headers that everything is answered with.

use std::path::{Path, PathBuf};

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use darkroom::{Error, Result};

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
        None => Router::new().fallback(async || (StatusCode::NOT_FOUND, "no page is served here, only /v1\n")),
    }
}

/// Types are not guessed; no other site sees, frames or is told of the page; the page is cross-origin isolated, so that
/// a cancel reaches a step that computes; and files are asked for again whether they changed.
const HEADERS: [(HeaderName, &str); 7] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CONTENT_SECURITY_POLICY, "frame-ancestors 'none'"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-embedder-policy"), "require-corp"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::CACHE_CONTROL, "no-cache"),
];

/// Adds the headers to every answer.
pub fn with_headers(app: Router) -> Router {
    app.layer(from_fn(async |request: Request, next: Next| -> Response {
        let mut response = next.run(request).await;
        for (name, value) in HEADERS {
            response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
        }
        response
    }))
}
