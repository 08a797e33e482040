//! Large answers: made off the thread that answers, counted until they are sent.

use axum::body::Bytes;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::desk::Desk;
use super::failure::Failure;
use super::memory::{Held, Kind};

/// Bytes that are sent, and what is counted for them.
struct Sent {
    bytes: Vec<u8>,
    _held: Held,
}

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// An answer in JSON that `make` makes off the thread, of about `n_bytes`.
///
/// # Errors
/// 500 where it cannot be made.
pub async fn json<T: Serialize>(
    desk: &Desk,
    n_bytes: u64,
    make: impl FnOnce() -> T + Send + 'static,
) -> Result<Response, Failure> {
    // The value and its text.
    let made = desk.room.work(2 * n_bytes, move || serde_json::to_vec(&make())).await?;
    let bytes = made.map_err(|error| Failure::fault(error.to_string()))?;
    let kind = [(header::CONTENT_TYPE, "application/json")];
    Ok((kind, count(desk, bytes)).into_response())
}

/// Bytes of any kind that `make` makes off the thread, about `n_bytes`.
///
/// # Errors
/// 500 where they cannot be made.
pub async fn bytes(
    desk: &Desk,
    n_bytes: u64,
    make: impl FnOnce() -> Vec<u8> + Send + 'static,
) -> Result<Bytes, Failure> {
    Ok(count(desk, desk.room.work(2 * n_bytes, make).await?))
}

/// Bytes that are there, counted until they are sent.
pub fn count(desk: &Desk, bytes: Vec<u8>) -> Bytes {
    let held = desk.memory.count(Kind::Results, bytes.len() as u64);
    Bytes::from_owner(Sent { bytes, _held: held })
}
