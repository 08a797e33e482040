//! Pages of other origins: which ones may ask this server and frame its page (`--allow-origin`), and what browsers are told
//! of it.
//!
//! Cookies and a browser's own passwords are never asked for: a token is sent in `Authorization` by the page itself.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};

/// Headers of answers that pages may read beside those that they always may.
const EXPOSED: &str = "Location, Retry-After, WWW-Authenticate, X-Should-Retry, Content-Length, Content-Range, ETag";
const METHODS: &str = "GET, HEAD, POST, DELETE";
/// How long a browser need not ask again, in seconds.
const MAX_AGE: &str = "600";

/// The origins that `--allow-origin` named.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    named: Vec<String>,
    /// `*`: all of them.
    all: bool,
}

/// An origin as browsers write it: `https://example.org`, `http://localhost:5173`; or `*`.
///
/// # Errors
/// What is wrong with it and what would work.
pub fn parse_origin(text: &str) -> Result<String, String> {
    if text == "*" {
        return Ok(text.into());
    }
    let example =
        "use scheme://host[:port], such as https://example.org or http://localhost:5173, or * for every origin";
    let lower = text.to_ascii_lowercase();
    let (scheme, rest) = lower.split_once("://").ok_or(example)?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
    if !is_scheme {
        return Err(example.into());
    }
    if let Some(end) = rest.find(['/', '?', '#']) {
        let without = parse_origin(&format!("{scheme}://{}", &rest[..end]));
        return Err(without.map_or(example.into(), |origin| format!("an origin has no path: use {origin}")));
    }
    if rest.contains('@') {
        return Err(format!("an origin has no user name: {example}"));
    }
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !rest.ends_with(']') => (host, Some(port)),
        _ => (rest, None),
    };
    let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        // In the one spelling that browsers have for an address.
        Some(address) => format!("[{}]", address.parse::<std::net::Ipv6Addr>().map_err(|_| example)?),
        None => host.to_owned(),
    };
    let is_host = host.starts_with('[')
        || !host.is_empty()
            && host.split('.').all(|label| !label.is_empty())
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if !is_host {
        return Err(example.into());
    }
    let Some(port) = port else { return Ok(format!("{scheme}://{host}")) };
    let is_number = port.bytes().all(|b| b.is_ascii_digit());
    let number = port.parse::<u16>().ok().filter(|number| is_number && *number > 0);
    let number = number.ok_or_else(|| format!("its port is not 1 to 65535: {example}"))?;
    // Browsers leave out the port that the scheme has anyway.
    let is_usual = matches!((scheme, number), ("http", 80) | ("https", 443));
    Ok(if is_usual { format!("{scheme}://{host}") } else { format!("{scheme}://{host}:{number}") })
}

impl Origins {
    /// Of arguments that [`parse_origin`] took.
    pub fn new(given: Vec<String>) -> Self {
        let all = given.iter().any(|origin| origin == "*");
        Origins { named: given, all }
    }

    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// Whether pages of this origin may ask.
    pub fn allows(&self, origin: &str) -> bool {
        self.all || self.named.iter().any(|named| named.eq_ignore_ascii_case(origin))
    }

    /// Whether pages of every origin may ask.
    pub fn are_all(&self) -> bool {
        self.all
    }

    /// The directive that says who may frame the page. Policies have no way to name an address of IPv6: browsers pass over it.
    pub fn frame_ancestors(&self) -> HeaderValue {
        let none = HeaderValue::from_static("frame-ancestors 'none'");
        match (self.all, self.is_empty()) {
            (true, _) => HeaderValue::from_static("frame-ancestors *"),
            (false, true) => none,
            (false, false) => {
                HeaderValue::try_from(format!("frame-ancestors 'self' {}", self.named.join(" "))).unwrap_or(none)
            }
        }
    }

    /// The value of `Access-Control-Allow-Origin` for a request with these headers, if it gets one.
    fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        match self.all {
            true => Some(HeaderValue::from_static("*")),
            false => origin.to_str().is_ok_and(|origin| self.allows(origin)).then(|| origin.clone()),
        }
    }
}

/// What a browser asks before it sends a request of another origin's page. It carries no token.
fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

const PRIVATE_NETWORK: (HeaderName, HeaderName) = (
    HeaderName::from_static("access-control-request-private-network"),
    HeaderName::from_static("access-control-allow-private-network"),
);

fn preflight(asked: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    if let Some(names) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    // A page of the internet that asks this machine.
    if asked.contains_key(&PRIVATE_NETWORK.0) {
        headers.insert(PRIVATE_NETWORK.1, HeaderValue::from_static("true"));
    }
    response
}

/// Answers browsers that ask on behalf of pages of these origins. Without any, nothing is added.
pub fn with_origins(app: Router, origins: Arc<Origins>) -> Router {
    if origins.is_empty() {
        return app;
    }
    app.layer(from_fn(move |request: Request, next: Next| {
        let origins = Arc::clone(&origins);
        async move {
            let allowed = origins.allowed(request.headers());
            let mut response = match &allowed {
                Some(_) if is_preflight(&request) => preflight(request.headers()),
                _ => next.run(request).await,
            };
            let headers = response.headers_mut();
            // A cache must not give one origin's answer to another.
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
            if let Some(allowed) = allowed {
                headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
                headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
            }
            response
        }
    }))
}
