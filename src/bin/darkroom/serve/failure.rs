//! What goes wrong, as HTTP says it: a status and a JSON object in the form that OpenAI's API has.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use darkroom::Error;
use darkroom::error::Class;
use serde_json::{Value, json};

/// How long a client should wait when the queue or the memory is full, in seconds.
const RETRY_SECS: u32 = 5;
/// What a client sent is repeated to it up to this length.
const MAX_MESSAGE_CHARS: usize = 1000;
const MAX_PARAM_CHARS: usize = 100;

/// A status with a message for people and a code for programs.
#[derive(Clone, Debug)]
pub struct Failure {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// The setting that is at fault, where it is one.
    param: Option<String>,
}

/// A setting that a door calls by another name.
pub struct Renamed {
    ours: &'static str,
    theirs: &'static str,
    /// Whether its values are ours, so that what is said of one is true of the other.
    is_same: bool,
}

impl Renamed {
    /// One that differs in its name alone.
    pub const fn same(ours: &'static str, theirs: &'static str) -> Self {
        Renamed { ours, theirs, is_same: true }
    }

    /// One from which ours is computed, or that holds it among others.
    pub const fn of_another(ours: &'static str, theirs: &'static str) -> Self {
        Renamed { ours, theirs, is_same: false }
    }
}

impl Failure {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let mut message: String = message.into();
        if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE_CHARS) {
            message.truncate(end);
            message.push('…');
        }
        Failure { status, code, message, param: None }
    }

    /// A setting that cannot be drawn, by its name in the request.
    pub fn of(param: &str, message: impl Into<String>) -> Self {
        Failure { param: Some(param.chars().take(MAX_PARAM_CHARS).collect()), ..Failure::request(message) }
    }

    /// The same with the setting that is at fault.
    pub fn about(mut self, param: &str) -> Self {
        self.param = Some(param.to_owned());
        self
    }

    /// The same where a door has another name for the setting.
    pub fn renamed(mut self, names: &[Renamed]) -> Self {
        let Some(name) = names.iter().find(|name| self.param.as_deref() == Some(name.ours)) else { return self };
        self.param = Some(name.theirs.to_owned());
        // Messages begin with the setting.
        let rest = [name.ours.to_owned(), name.ours.replace('_', " ")].into_iter().find_map(|ours| {
            let rest = self.message.strip_prefix(&ours).filter(|rest| rest.starts_with([' ', ':']))?;
            Some(rest.to_owned())
        });
        if let Some(rest) = rest.filter(|_| name.is_same) {
            self.message = format!("{}{rest}", name.theirs);
        }
        self
    }

    /// A setting that cannot be drawn.
    pub fn request(message: impl Into<String>) -> Self {
        Failure::new(StatusCode::BAD_REQUEST, Class::Request.code(), message)
    }

    /// A fault of this program.
    pub fn fault(message: impl Into<String>) -> Self {
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "server_fault", message)
    }

    /// A body of more bytes than are read.
    pub fn too_large(most: usize) -> Self {
        let message = format!("the request is larger than {} MiB: send smaller pictures", most >> 20);
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    }

    /// The whole answer.
    pub fn object(&self) -> Value {
        json!({ "error": self.body() })
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The object that `error` holds.
    pub fn body(&self) -> Value {
        let kind = match self.status.as_u16() {
            401 => "authentication_error",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        };
        json!({ "message": self.message, "type": kind, "code": self.code, "param": self.param })
    }
}

/// The status for each class of errors.
fn status(class: Class) -> StatusCode {
    match class {
        Class::Request | Class::Picture => StatusCode::BAD_REQUEST,
        Class::Cancelled => StatusCode::GONE,
        Class::Model | Class::Device | Class::Memory | Class::Lost | Class::File | Class::Network | Class::Storage => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let class = error.class();
        let failure = Failure::new(status(class), class.code(), error.to_string());
        match error.field() {
            Some(field) => failure.about(&field),
            None => failure,
        }
    }
}

impl From<Failure> for Error {
    /// A picture that turned out to be at fault when it was drawn from.
    fn from(failure: Failure) -> Self {
        Error::Image { what: "picture".into(), reason: failure.message }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.object())).into_response();
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_SECS));
        } else if self.status.is_server_error() {
            // OpenAI's clients would send it twice more, and it would fail the same way.
            response.headers_mut().insert("x-should-retry", HeaderValue::from_static("false"));
        }
        response
    }
}
