//! `GET /openapi.json`: the description of all routes in OpenAPI 3.1, docs/openapi.json as it is. It tells nothing of what is
//! drawn and needs no token. tests/serve_openapi.rs compares it with the sources and with what a server answers.

use axum::http::header;
use axum::response::{IntoResponse, Response};

const DESCRIPTION: &str = include_str!("../../../../docs/openapi.json");

/// The description.
pub async fn description() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DESCRIPTION).into_response()
}
