//! What goes wrong, as HTTP says it: a status and a JSON object in the form that OpenAI's API has.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use darkroom::Error;
use serde_json::{Value, json};

/// How long a client should wait when the queue is full, in seconds.
const RETRY_SECS: u32 = 5;

/// A status with a message for people and a code for programs.
#[derive(Clone, Debug)]
pub struct Failure {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Failure {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Failure { status, code, message: message.into() }
    }

    /// A setting that cannot be drawn.
    pub fn request(message: impl Into<String>) -> Self {
        Failure::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }

    /// A body of more bytes than are read.
    pub fn too_large() -> Self {
        let message = format!("the request is larger than {} MiB: send smaller pictures", super::MAX_BODY_BYTES >> 20);
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    }

    /// The object that `error` holds.
    pub fn body(&self) -> Value {
        let kind = match self.status.as_u16() {
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        };
        json!({ "message": self.message, "type": kind, "code": self.code, "param": null })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Request { .. } | Error::Image { .. } => Failure::request(message),
            Error::Device { .. }
            | Error::Run { .. }
            | Error::NotFinite { .. }
            | Error::Limit { .. }
            | Error::OutOfMemory { .. }
            | Error::DeviceLost { .. } => Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "device_failed", message),
            _ => Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "model_failed", message),
        }
    }
}

impl From<JsonRejection> for Failure {
    fn from(rejection: JsonRejection) -> Self {
        let status = rejection.status();
        match status {
            StatusCode::PAYLOAD_TOO_LARGE => Failure::too_large(),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                Failure::new(status, "not_json", "send the request as JSON, with Content-Type: application/json")
            }
            _ => Failure::request(rejection.body_text()),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.body() }))).into_response();
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_SECS));
        }
        response
    }
}
