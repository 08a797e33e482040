//! `darkroom serve --allow-origin`: what browsers are told of pages of other origins, as a page's requests and a frame meet it.
#![cfg(all(not(target_arch = "wasm32"), feature = "cli"))]

#[path = "load/mod.rs"]
mod load;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use load::{Server, command};

const OURS: &str = "https://studio.example";
const ELSE: &str = "https://evil.example";

/// A request; the status and the headers of the answer, by their names in lower case.
fn ask(server: &Server, method: &str, path: &str, headers: &str, body: &str) -> (u16, BTreeMap<String, String>) {
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(100))).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        server.address,
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let head = answer.split("\r\n\r\n").next().unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let pair = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_string()));
    let mut headers = BTreeMap::new();
    for (name, value) in head.lines().skip(1).filter_map(pair) {
        headers.entry(name).and_modify(|all: &mut String| *all = format!("{all}, {value}")).or_insert(value);
    }
    (status, headers)
}

fn preflight(server: &Server, path: &str, origin: &str) -> (u16, BTreeMap<String, String>) {
    let headers = format!(
        "Origin: {origin}\r\nAccess-Control-Request-Method: POST\r\n\
         Access-Control-Request-Headers: authorization,content-type\r\nAccess-Control-Request-Private-Network: true\r\n"
    );
    ask(server, "OPTIONS", path, &headers, "")
}

fn value<'h>(headers: &'h BTreeMap<String, String>, name: &str) -> &'h str {
    headers.get(name).map_or("", String::as_str)
}

#[test]
fn pages_of_the_named_origins_may_ask_and_frame_and_no_others() {
    let arguments = ["--allow-origin", OURS, "--allow-origin", "http://LOCALHOST:5173", "--token", "secret"];
    let server = Server::start(&arguments);
    for origin in [OURS, "http://localhost:5173"] {
        // A preflight carries no token.
        let (status, headers) = preflight(&server, "/v1/jobs", origin);
        assert_eq!(status, 204, "{headers:?}");
        assert_eq!(value(&headers, "access-control-allow-origin"), origin);
        assert_eq!(value(&headers, "access-control-allow-headers"), "authorization,content-type");
        assert_eq!(value(&headers, "access-control-allow-private-network"), "true");
        for method in ["GET", "POST", "DELETE"] {
            assert!(value(&headers, "access-control-allow-methods").contains(method), "{headers:?}");
        }
        assert!(value(&headers, "vary").contains("Origin"), "{headers:?}");
        assert_eq!(value(&headers, "access-control-allow-credentials"), "");

        let json = format!("Origin: {origin}\r\nContent-Type: application/json\r\nAuthorization: Bearer secret\r\n");
        let (status, headers) = ask(&server, "POST", "/v1/jobs", &json, r#"{"prompt": "x", "steps": 1}"#);
        assert_eq!((status, value(&headers, "access-control-allow-origin")), (202, origin), "{headers:?}");
        let exposed = value(&headers, "access-control-expose-headers");
        assert!(exposed.contains("Location") && exposed.contains("Retry-After"), "{headers:?}");
        assert!(value(&headers, "location").starts_with("/v1/jobs/"), "{headers:?}");
        // What went wrong can be read too.
        for (path, more, status) in
            [("/v1/models", "", 401), ("/v1/jobs/none", "Authorization: Bearer secret\r\n", 404)]
        {
            let (got, headers) = ask(&server, "GET", path, &format!("Origin: {origin}\r\n{more}"), "");
            assert_eq!((got, value(&headers, "access-control-allow-origin")), (status, origin), "{path}");
        }
    }
    for foreign in [ELSE, "https://studio.example:444", "http://studio.example", "https://x.studio.example", "null"] {
        for (status, headers) in [
            preflight(&server, "/v1/jobs", foreign),
            ask(&server, "GET", "/v1/models", &format!("Origin: {foreign}\r\nAuthorization: Bearer secret\r\n"), ""),
        ] {
            assert_eq!(status, 403, "{foreign}");
            assert_eq!(value(&headers, "access-control-allow-origin"), "", "{foreign}");
            assert!(value(&headers, "vary").contains("Origin"), "{foreign}: {headers:?}");
        }
    }
    // Who asks from nowhere, or from its own page, is answered as ever.
    let own = format!("Origin: http://{}\r\nAuthorization: Bearer secret\r\n", server.address);
    for headers in ["Authorization: Bearer secret\r\n", &own] {
        assert_eq!(ask(&server, "GET", "/v1/models", headers, "").0, 200);
    }
    // The host's name is a matter of its own.
    let elsewhere = ask(&server, "GET", "http://evil.example/v1/models", &format!("Origin: {OURS}\r\n"), "");
    assert_eq!(elsewhere.0, 403);
    let (_, headers) = ask(&server, "GET", "/", "", "");
    let ancestors = "frame-ancestors 'self' https://studio.example http://localhost:5173";
    assert_eq!(value(&headers, "content-security-policy"), ancestors);
    assert_eq!(value(&headers, "cross-origin-resource-policy"), "cross-origin");
    assert_eq!(value(&headers, "x-frame-options"), "");
}

#[test]
fn a_star_lets_every_page_in() {
    let server = Server::start(&["--allow-origin", "*"]);
    for origin in [ELSE, "null", "tauri://localhost"] {
        let (status, headers) = preflight(&server, "/v1/jobs", origin);
        assert_eq!((status, value(&headers, "access-control-allow-origin")), (204, "*"), "{origin}");
        let (status, headers) = ask(&server, "GET", "/v1/models", &format!("Origin: {origin}\r\n"), "");
        assert_eq!((status, value(&headers, "access-control-allow-origin")), (200, "*"), "{origin}");
    }
    let (_, headers) = ask(&server, "GET", "/", "", "");
    assert_eq!(value(&headers, "content-security-policy"), "frame-ancestors *");
    // Whoever draws is not told of others' jobs, and their ids.
    assert_eq!(ask(&server, "GET", "/v1/jobs", &format!("Origin: {ELSE}\r\n"), "").0, 403);
    let server = Server::start(&["--allow-origin", "*", "--token", "secret"]);
    let asked = format!("Origin: {ELSE}\r\nAuthorization: Bearer secret\r\n");
    assert_eq!(ask(&server, "GET", "/v1/jobs", &asked, "").0, 200);
}

#[test]
fn without_it_nobody_is_let_in() {
    let server = Server::start(&[]);
    let (status, headers) = preflight(&server, "/v1/jobs", OURS);
    assert_eq!((status, value(&headers, "access-control-allow-origin")), (403, ""));
    let (_, headers) = ask(&server, "GET", "/", "", "");
    assert_eq!(value(&headers, "content-security-policy"), "frame-ancestors 'none'");
    assert_eq!(value(&headers, "cross-origin-resource-policy"), "same-origin");
    assert_eq!(value(&headers, "vary"), "");
}

#[test]
fn what_is_no_origin_is_refused() {
    for (origin, words) in [
        ("", "scheme://host"),
        ("example.org", "scheme://host"),
        ("https://", "scheme://host"),
        ("https://example.org/", "use https://example.org"),
        ("https://example.org/app", "no path"),
        ("https://example.org?x", "no path"),
        ("https://me@example.org", "no user name"),
        ("https://example.org:0", "port"),
        ("https://example.org:99999", "port"),
        ("https://example.org:x", "port"),
        ("https://*.example.org", "scheme://host"),
        ("https://exa mple.org", "scheme://host"),
        ("https://example..org", "scheme://host"),
        ("https://a.example,https://b.example", "scheme://host"),
        ("https://a.example; script-src *", "scheme://host"),
        ("null", "scheme://host"),
    ] {
        let output = command(&["--allow-origin", origin]).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{origin}: {stderr}");
        let last = stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("darkroom: ") && last.contains(words), "{origin}: {stderr}");
    }
    // The usual port is left out by browsers, and a bracketed address is one.
    let server = Server::start(&[
        "--allow-origin",
        "https://Example.org:443",
        "--allow-origin",
        "http://[0:0:0:0:0:0:0:1]:3000",
    ]);
    for origin in ["https://example.org", "http://[::1]:3000"] {
        assert_eq!(preflight(&server, "/v1/jobs", origin).0, 204, "{origin}");
    }
}
