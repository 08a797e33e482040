//! Bodies: read within bounds of bytes and time, counted while they are there, and parsed off the HTTP thread.
//!
//! [`Asked`] is a JSON body as the type that a route wants, [`Raw`] the bytes as they came. Both refuse with 429, before
//! anything is read, where the queue has no place: every route that takes a body wants to draw.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use super::connection::{Doing, Seat};
use super::desk::Desk;
use super::failure::Failure;
use super::json;
use super::memory::{Held, Kind};

/// The largest body that is read, in bytes: two pictures of a few megapixels, in base64.
pub const MAX_BODY_BYTES: usize = 64 << 20;
/// Bodies up to this size need no room of their own: a connection's share covers them.
pub const SMALL_BODY_BYTES: usize = 64 << 10;
/// The longest time without a byte.
const PATIENCE: Duration = Duration::from_secs(10);
/// The slowest that a body may come, in bytes per second, after the first [`PATIENCE`].
const SLOWEST: u64 = 32 << 10;

/// A body in JSON, parsed, and what the server holds for it: give `held` to [`Desk::submit`], which keeps of it what the
/// job needs.
pub struct Asked<T> {
    pub asked: T,
    pub held: Held,
}

/// A body of any type, as it came.
pub struct Raw {
    pub bytes: Bytes,
    pub held: Held,
}

/// Parts of a path, with a refusal in the form that all others have.
pub struct InPath<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = Path::from_request_parts(parts, state).await;
        let refused = |_| {
            let message = format!("the path {} is not possible: names in it are in UTF-8", parts.uri.path());
            Failure::new(StatusCode::NOT_FOUND, "no_route", message)
        };
        path.map(|Path(names)| InPath(names)).map_err(refused)
    }
}

/// The most bytes of one body: half of what all uploads together may take.
pub fn max_body_bytes(desk: &Desk) -> usize {
    let half = desk.memory.share(Kind::Uploads) / 2;
    MAX_BODY_BYTES.min(usize::try_from(half).unwrap_or(MAX_BODY_BYTES))
}

/// A body in JSON, parsed, of a route that does not draw: a full queue is no reason to refuse it.
pub struct Posted<T>(pub T);

impl<T: DeserializeOwned + Send + 'static> FromRequest<Arc<Desk>> for Posted<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, desk: &Arc<Desk>) -> Result<Self, Failure> {
        let Raw { bytes, held } = read(request, desk).await?;
        let needs = if bytes.len() <= SMALL_BODY_BYTES { 0 } else { 2 * bytes.len() as u64 };
        let posted = desk.room.work(needs, move || json::parse(&bytes)).await??;
        drop(held);
        Ok(Posted(posted))
    }
}

impl FromRequest<Arc<Desk>> for Raw {
    type Rejection = Failure;

    async fn from_request(request: Request, desk: &Arc<Desk>) -> Result<Self, Failure> {
        desk.has_place()?;
        read(request, desk).await
    }
}

impl<T: DeserializeOwned + Send + 'static> FromRequest<Arc<Desk>> for Asked<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, desk: &Arc<Desk>) -> Result<Self, Failure> {
        if !is_json(request.headers()) {
            let message = "send the request as JSON, with Content-Type: application/json";
            return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", message));
        }
        desk.has_place()?;
        let Raw { bytes, held } = read(request, desk).await?;
        if bytes.len() <= SMALL_BODY_BYTES {
            return Ok(Asked { asked: json::parse(&bytes)?, held });
        }
        // Its place may be gone since.
        desk.has_place()?;
        // Pictures in it are copied once, twice where their text has escapes.
        let needs = 2 * bytes.len() as u64;
        let asked = desk.room.work(needs, move || json::parse(&bytes)).await??;
        Ok(Asked { asked, held })
    }
}

/// Whether the body is JSON, by its header.
pub fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// Refuses a body by its announced length, before any of it is waited for. One that announces nothing is counted as it
/// comes.
fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn read(request: Request, desk: &Desk) -> Result<Raw, Failure> {
    let most = max_body_bytes(desk);
    let announced = announced(request.headers());
    if announced.is_some_and(|n_bytes| n_bytes > most as u64) {
        return Err(Failure::too_large(most));
    }
    let mut held = desk.memory.take(Kind::Uploads, 0)?;
    let seat = request.extensions().get::<Arc<Seat>>().cloned();
    if let Some(seat) = &seat {
        seat.does(Doing::Receiving);
    }
    let bytes = collect(request.into_body(), most, announced, &mut held).await?;
    if let Some(seat) = &seat {
        seat.does(Doing::Busy);
    }
    Ok(Raw { bytes: bytes.into(), held })
}

async fn collect(body: Body, most: usize, announced: Option<u64>, held: &mut Held) -> Result<Vec<u8>, Failure> {
    let mut body = body.into_data_stream();
    let mut bytes: Vec<u8> = Vec::new();
    let start = Instant::now();
    loop {
        let in_time = start + PATIENCE + Duration::from_secs(bytes.len() as u64 / SLOWEST);
        let Ok(piece) = timeout_at(in_time.min(Instant::now() + PATIENCE), body.next()).await else {
            let message = "the body came too slowly: send it faster, or a smaller one";
            return Err(Failure::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", message));
        };
        let Some(piece) = piece else { return Ok(bytes) };
        let piece = piece.map_err(|_| Failure::request("the body ended early"))?;
        let len = bytes.len() + piece.len();
        if len > most {
            return Err(Failure::too_large(most));
        }
        if len > bytes.capacity() {
            // Half again as much at a time, up to what was announced, and counted before it is there.
            let end = announced.map_or(most, |n_bytes| n_bytes as usize).min(most);
            let capacity = (bytes.capacity() / 2 * 3).clamp(len, end.max(len));
            if capacity > SMALL_BODY_BYTES {
                held.grow((capacity - bytes.capacity()) as u64)?;
            }
            bytes.reserve_exact(capacity - bytes.len());
        }
        bytes.extend_from_slice(&piece);
    }
}
