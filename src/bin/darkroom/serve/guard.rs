//! Who is let in: by the name that was asked for on this machine, by the site that a browser shows, by a token.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::cors::Origins;
use super::failure::Failure;

/// See the module.
pub struct Guard {
    /// Where the server listens on this machine only: the name that `--host` gave it, if it is one. `None` where it
    /// listens beyond.
    pub local: Option<Option<String>>,
    /// The digest of the token, where there is one.
    token: Option<[u8; 32]>,
    /// Sites whose pages may ask too.
    origins: Arc<Origins>,
}

fn digest(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

impl Guard {
    pub fn new(local: Option<Option<String>>, token: Option<&str>, origins: Arc<Origins>) -> Arc<Self> {
        Arc::new(Guard { local, token: token.map(|token| digest(token.as_bytes())), origins })
    }

    /// Whether strangers may draw without a token: beyond this machine, or any page that a browser on it shows. They are not
    /// told of each other's jobs.
    pub fn lets_strangers_in(&self) -> bool {
        self.token.is_none() && (self.local.is_none() || self.origins.are_all())
    }

    /// Whether a request may have been sent here knowingly: by this machine's own name, and not from a page of another
    /// site. A page elsewhere whose name was made to point here could otherwise read everything, and a form on any page
    /// could draw.
    fn check_names(&self, request: &Request) -> Result<(), Failure> {
        let Some(own) = &self.local else { return Ok(()) };
        let headers = request.headers();
        let host = text(headers, header::HOST).unwrap_or_default();
        // A request line may name the host too, and wins then.
        let hosts = [Some(host), request.uri().authority().map(Authority::as_str)];
        for host in hosts.into_iter().flatten() {
            if !is_local(host, own.as_deref()) {
                let message =
                    format!("this server answers to localhost only, not to {host:?}: --host lets it answer others");
                return Err(Failure::new(StatusCode::FORBIDDEN, "wrong_host", message));
            }
        }
        let origin = text(headers, header::ORIGIN);
        let is_foreign =
            |origin: &str| origin.split_once("://").is_none_or(|(_, from)| !from.eq_ignore_ascii_case(host));
        match origin.filter(|origin| is_foreign(origin) && !self.origins.allows(origin)) {
            Some(origin) => {
                let message = format!("a page of {origin} may not ask this server: --allow-origin lets it");
                Err(Failure::new(StatusCode::FORBIDDEN, "wrong_origin", message))
            }
            None => Ok(()),
        }
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let Some(token) = &self.token else { return Ok(()) };
        // Digests are compared, so the time that it takes tells nothing of the token.
        if given_token(headers).is_some_and(|given| digest(&given) == *token) {
            return Ok(());
        }
        let message = "this server wants its token: send the header Authorization: Bearer TOKEN";
        Err(Failure::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message))
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The token of `Authorization: Bearer TOKEN`, or the password of `Basic`, which some clients send instead.
fn given_token(headers: &HeaderMap) -> Option<Vec<u8>> {
    let (scheme, rest) = text(headers, header::AUTHORIZATION)?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().as_bytes().to_vec());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = STANDARD.decode(rest.trim()).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair[colon + 1..].to_vec())
}

/// Whether a `Host` is this machine: `localhost`, an address of the loopback, or the name that the server was given; in
/// any case, with or without a port, and with the dot that ends a full name.
fn is_local(host: &str, own: Option<&str>) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !host.ends_with(']') => name,
        _ => host,
    };
    if let Some(address) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok_and(|address| is_loopback(address.into()));
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    if let Ok(address) = name.parse::<IpAddr>() {
        return address.is_ipv4() && is_loopback(address);
    }
    name.eq_ignore_ascii_case("localhost") || own.is_some_and(|own| name.eq_ignore_ascii_case(own))
}

/// Whether an address is this machine's own.
pub fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// For what tells nothing and changes nothing.
pub async fn by_name(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    match guard.check_names(&request) {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    }
}

/// For everything else.
pub async fn by_token(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    match guard.check_names(&request).and_then(|()| guard.check_token(request.headers())) {
        Ok(()) => next.run(request).await,
        Err(failure) => {
            let mut response = failure.into_response();
            if response.status() == StatusCode::UNAUTHORIZED {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            response
        }
    }
}
