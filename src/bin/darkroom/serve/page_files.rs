//! The page's files: as they are, or the compressed copy beside one (`./build.sh wasm` makes them), and not again where the
//! browser has them.

use std::convert::Infallible;
use std::path::{Component, Path, PathBuf};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use tower_http::services::ServeDir;

/// The endings of compressed copies.
const COPIES: [&str; 2] = [".br", ".gz"];

/// Serves the files below a folder.
pub fn service(folder: PathBuf) -> Router {
    let plain = ServeDir::new(&folder);
    let compressed = plain.clone().precompressed_br().precompressed_gzip();
    Router::new().fallback(async move |request: Request| -> Result<Response, Infallible> {
        let known = request.headers().get(header::IF_NONE_MATCH).cloned();
        let file = file_of(&folder, request.uri().path());
        // Ranges are of the file itself.
        let takes_copy = !request.headers().contains_key(header::RANGE) && file.as_deref().is_some_and(copies_are_new);
        let mut files = if takes_copy { compressed.clone() } else { plain.clone() };
        let mut answer = match files.try_call(request).await {
            Ok(answer) => answer.map(Body::new),
            Err(error) => return Ok((StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()),
        };
        let Some(tag) = file.filter(|_| answer.status().is_success()).and_then(|file| tag_of(&file, answer.headers()))
        else {
            return Ok(answer);
        };
        if known
            .is_some_and(|known| known.to_str().is_ok_and(|known| known.split(',').any(|known| known.trim() == tag)))
        {
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            answer.headers_mut().remove(header::CONTENT_LENGTH);
            *answer.body_mut() = Body::empty();
        }
        answer.headers_mut().insert(header::ETAG, tag);
        answer.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        Ok(answer)
    })
}

/// The file that a path names, if it may lie in the folder.
fn file_of(folder: &Path, path: &str) -> Option<PathBuf> {
    let decoded = percent_decode_str(path.trim_start_matches('/')).decode_utf8().ok()?;
    let relative = Path::new(&*decoded);
    let file = relative.components().all(|part| matches!(part, Component::Normal(_))).then(|| folder.join(relative))?;
    Some(if decoded.is_empty() || decoded.ends_with('/') { file.join("index.html") } else { file })
}

/// Whether no copy is older than its file, and so of another one.
fn copies_are_new(file: &Path) -> bool {
    let written = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    COPIES.iter().all(|ending| {
        let mut copy = file.as_os_str().to_owned();
        copy.push(ending);
        written(Path::new(&copy)).is_none_or(|copied| written(file).is_some_and(|written| copied >= written))
    })
}

/// What changes when the file does, or the form in which it is sent: its length, when it was written, the coding.
fn tag_of(file: &Path, headers: &HeaderMap) -> Option<HeaderValue> {
    let metadata = file.metadata().ok()?;
    let written = metadata.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    let coding = headers.get(header::CONTENT_ENCODING).and_then(|coding| coding.to_str().ok()).unwrap_or("");
    HeaderValue::from_str(&format!("\"{:x}-{:x}{coding}\"", metadata.len(), written.as_nanos())).ok()
}
