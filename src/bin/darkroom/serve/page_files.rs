//! The page's files: as they are, or the compressed copy beside one (`./build.sh wasm` makes them), and not again where the
//! browser has them.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use tower_http::services::ServeDir;

/// The endings of compressed copies.
const COPIES: [&str; 2] = [".br", ".gz"];

/// A file as it was before it was opened: what is sent may be newer than its tag says, and is then asked for again.
#[derive(Clone, Copy)]
struct Seen {
    bytes: u64,
    /// Since 1970.
    written: Duration,
    /// No compressed copy is older than the file, and so of another one.
    copies_are_new: bool,
}

impl Seen {
    fn of(file: &Path) -> Option<Self> {
        let written = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
        let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let modified = metadata.modified().ok()?;
        let copies_are_new = COPIES.iter().all(|ending| {
            let mut copy = file.as_os_str().to_owned();
            copy.push(ending);
            written(Path::new(&copy)).is_none_or(|copied| copied >= modified)
        });
        Some(Seen { bytes: metadata.len(), written: modified.duration_since(UNIX_EPOCH).ok()?, copies_are_new })
    }

    /// What changes when the file does, or the form in which it is sent.
    fn tag(&self, coding: &str) -> String {
        format!("\"{:x}-{:x}{coding}\"", self.bytes, self.written.as_nanos())
    }
}

/// Serves the files below a folder.
pub fn service(folder: PathBuf) -> Router {
    let plain = ServeDir::new(&folder);
    let compressed = plain.clone().precompressed_br().precompressed_gzip();
    Router::new().fallback(async move |mut request: Request| -> Result<Response, Infallible> {
        let seen = match file_of(&folder, request.uri().path()) {
            Some(file) => tokio::task::spawn_blocking(move || Seen::of(&file)).await.unwrap_or(None),
            None => None,
        };
        let headers = request.headers_mut();
        let known: Vec<HeaderValue> = headers.get_all(header::IF_NONE_MATCH).iter().cloned().collect();
        if !known.is_empty() {
            // Tags are exact, dates are not.
            headers.remove(header::IF_MODIFIED_SINCE);
        }
        // The rest of another file would be joined to what is there.
        if headers.get(header::IF_RANGE).is_some_and(|tag| seen.is_none_or(|seen| *tag != seen.tag(""))) {
            headers.remove(header::RANGE);
        }
        headers.remove(header::IF_RANGE);
        // Ranges are of the file itself.
        let takes_copy = !headers.contains_key(header::RANGE) && seen.is_some_and(|seen| seen.copies_are_new);
        let mut files = if takes_copy { compressed.clone() } else { plain.clone() };
        let mut answer = match files.try_call(request).await {
            Ok(answer) => answer.map(Body::new),
            Err(error) => return Ok(refusal(&error).into_response()),
        };
        let sends = answer.status().is_success() || answer.status() == StatusCode::NOT_MODIFIED;
        let Some(seen) = seen.filter(|_| sends) else { return Ok(answer) };
        let coding = answer.headers().get(header::CONTENT_ENCODING).and_then(|coding| coding.to_str().ok());
        let tag = seen.tag(coding.unwrap_or(""));
        if is_known(&known, &tag) {
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            *answer.body_mut() = Body::empty();
        }
        answer.headers_mut().extend(HeaderValue::from_str(&tag).map(|tag| (header::ETAG, tag)));
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

/// Whether lines of `If-None-Match` have a tag; one that a proxy made weak counts too.
fn is_known(lines: &[HeaderValue], tag: &str) -> bool {
    lines.iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')).any(|known| {
        let known = known.trim();
        known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag
    })
}

/// What is said where a file cannot be opened: a name that cannot be one is none.
fn refusal(error: &std::io::Error) -> (StatusCode, &'static str) {
    match error.kind() {
        ErrorKind::InvalidInput | ErrorKind::InvalidFilename | ErrorKind::NotFound | ErrorKind::NotADirectory => {
            (StatusCode::NOT_FOUND, "there is no such file\n")
        }
        _ => {
            log::warn!("a file of the page cannot be read: {error}");
            (StatusCode::INTERNAL_SERVER_ERROR, "the file cannot be read\n")
        }
    }
}
