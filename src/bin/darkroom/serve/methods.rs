//! What is answered to a method that a route does not take: those that it does. The router tells them in the header `Allow`,
//! which it adds outside of its layers and handlers, so this wraps the whole of it.

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};

use super::failure::Failure;
use super::webui;

/// Words every 405 in the form of its door.
pub fn with_methods(app: Router) -> Router {
    Router::new().fallback_service(app).layer(from_fn(async |request: Request, next: Next| {
        let (path, method) = (request.uri().path().to_owned(), request.method().clone());
        let response = next.run(request).await;
        if response.status() != StatusCode::METHOD_NOT_ALLOWED {
            return response;
        }
        let allowed = response.headers().get(header::ALLOW).and_then(|allowed| allowed.to_str().ok());
        let methods: Vec<&str> = allowed.unwrap_or_default().split(',').map(str::trim).collect();
        let message = format!("{path} takes no {method}: use {}", methods.join(" or "));
        let failure = Failure::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", message);
        let is_webui = path.starts_with("/sdapi/");
        with_body(response, if is_webui { webui::refusal(failure) } else { failure.into_response() })
    }))
}

/// A response with the body of another one.
fn with_body(response: Response, other: Response) -> Response {
    let (mut parts, _) = response.into_parts();
    let (others, body): (_, Body) = other.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.extend(others.headers);
    Response::from_parts(parts, body)
}
