//! What `darkroom serve` refuses, in every door: the field at fault and what would work, in plain words.
#![cfg(all(not(target_arch = "wasm32"), feature = "cli"))]

#[path = "load/mod.rs"]
mod load;

use std::io::Write;

use load::{Server, ask};
use serde_json::{Value, json};

/// Words of programmers, and of the libraries that read requests.
const JARGON: [&str; 10] =
    ["tuple", "sequence", "map", "unit", "struct", "variant", "digit found", "float literal", "Option", "enum"];

fn send(server: &Server, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
    let (status, answer) = ask(&server.address, method, path, body).unwrap();
    let text = String::from_utf8_lossy(&answer).into_owned();
    (status, serde_json::from_slice(&answer).unwrap_or_else(|_| panic!("{path}: no JSON: {text}")))
}

/// The message of a refusal and the field at fault, in any door's form.
fn refused(server: &Server, path: &str, body: &str) -> (String, Value) {
    let (status, answer) = send(server, "POST", path, body.as_bytes());
    assert_eq!(status, 400, "{path} {body}: {answer}");
    let error = if path.starts_with("/sdapi") { &answer } else { &answer["error"] };
    let message = error["message"].as_str().or(error["detail"].as_str()).unwrap().to_owned();
    let words: Vec<&str> = message.split(|c: char| !c.is_ascii_alphabetic()).collect();
    for jargon in JARGON {
        assert!(!words.contains(&jargon) && (!jargon.contains(' ') || !message.contains(jargon)), "{body}: {message}");
    }
    (message, error["param"].clone())
}

#[test]
fn values_of_another_type_are_told_from_malformed_json() {
    let server = Server::start(&[]);
    for (setting, param, words) in [
        (r#""original_size":[1,2,3]"#, "original_size", "of 3 values is not possible: use a list of two whole numbers"),
        (r#""original_size":[1]"#, "original_size", "of 1 value is not possible: use a list of two whole numbers"),
        (r#""original_size":{"width":1}"#, "original_size", "as an object is not possible: use a list of two"),
        (r#""crop":[1,2,3]"#, "crop", "such as [0, 0]"),
        (r#""crop":7"#, "crop", "crop 7 is not possible: use a list of two whole numbers"),
        (r#""crop":[0,"x"]"#, "crop[1]", "use a whole number, 0 or more"),
        (r#""preset":["lcm"]"#, "preset", "as a list is not possible: use lcm or lightning-2"),
        (r#""preset":{"lcm":null}"#, "preset", "as an object is not possible: use lcm or lightning-2"),
        (r#""preset":"lcm2""#, "preset", "use lcm or lightning-2"),
        (r#""fit":["stretch"]"#, "fit", "use stretch or crop or pad"),
        (r#""spacing":0"#, "spacing", "spacing 0 is not possible: use l"),
        (r#""loras":[["kohya",1,1,1]]"#, "loras[0]", "as a list is not possible: use an object, such as"),
        (r#""loras":[["kohya",1]]"#, "loras[0]", "use an object, such as"),
        (r#""loras":["kohya"]"#, "loras[0]", "use an object, such as"),
        (r#""loras":[{"name":"kohya","strength":"x"}]"#, "loras[0].strength", "use a number"),
        (r#""loras":{"name":"kohya"}"#, "loras", "as an object is not possible: use a list"),
        (r#""guidance_scale":1e400"#, "guidance_scale", "too large"),
        (r#""sigmas":[1e999]"#, "sigmas[0]", "too large"),
        (r#""sampler":["euler"]"#, "sampler", "as a list is not possible: use a text"),
        (r#""any_size":"yes""#, "any_size", "use true or false"),
        (r#""timesteps":[]"#, "timesteps", "give one or more"),
        (r#""sigmas":[]"#, "sigmas", "give two or more"),
        (r#""sigmas":[3]"#, "sigmas", "give two or more"),
    ] {
        for path in ["/v1/jobs", "/v1/images/generations"] {
            let (message, at) = refused(&server, path, &format!("{{\"prompt\":\"x\",{setting}}}"));
            assert_eq!(at, param, "{setting}: {message}");
            assert!(message.contains(words), "{setting}: {message}");
        }
    }
    for (path, body, param, words) in [
        ("/v1/jobs", r#"{"prompt":"x","count":0}"#, json!("count"), "1 to 8"),
        (
            "/v1/images/generations",
            r#"{"prompt":"x","n":0}"#,
            json!("n"),
            "n 0 is not possible: this server allows 1 to 8",
        ),
        ("/v1/jobs", r#"{"prompt":{"a":1}}"#, json!("prompt"), "prompt as an object is not possible: use a text"),
        ("/v1/jobs", r#"["x"]"#, Value::Null, "not a JSON object"),
        ("/v1/jobs", r#"{"prompt":"x""#, Value::Null, "it ends early"),
        ("/v1/jobs", r#"{"prompt":"x",}"#, Value::Null, "malformed"),
        ("/v1/jobs", r#"{"prompt":"x"} x"#, Value::Null, "malformed"),
    ] {
        let (message, at) = refused(&server, path, body);
        assert_eq!(at, param, "{body}: {message}");
        assert!(message.contains(words), "{body}: {message}");
    }
    let zipped = b"\x1f\x8b\x08\0\0\0\0\0\0\x03";
    let (status, answer) = send(&server, "POST", "/v1/jobs", zipped);
    assert_eq!(status, 400);
    assert!(answer["error"]["message"].as_str().unwrap().contains("without Content-Encoding"), "{answer}");
}

#[test]
fn the_web_uis_door_names_its_own_fields() {
    let server = Server::start(&[]);
    let apple = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/emoji/apple.png");
    let apple = {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(std::fs::read(apple).unwrap())
    };
    let masked = |value: &str| {
        format!(
            r#"{{"prompt":"x","steps":2,"init_images":["{apple}"],"mask":"{apple}","inpainting_mask_invert":{value}}}"#
        )
    };
    for (path, body, param, words) in [
        ("txt2img", r#"{"prompt":"x","subseed_strength":3}"#, json!("subseed_strength"), "subseed_strength 3"),
        ("txt2img", r#"{"prompt":"x","cfg_scale":99}"#, json!("cfg_scale"), "cfg_scale 99"),
        ("txt2img", r#"{"prompt":"x","enable_hr":7}"#, json!("enable_hr"), "true or false"),
        ("txt2img", r#"{"prompt":"x","width":100,"height":101}"#, json!("width"), "width 100"),
        ("img2img", &masked("\"x\""), json!("inpainting_mask_invert"), "true or false"),
        ("img2img", &masked("7"), json!("inpainting_mask_invert"), "true or false"),
        ("png-info", "{}", json!("image"), "send the picture's file in base64"),
        ("png-info", r#"{"image":"?"}"#, json!("image"), "image is not base64"),
        ("png-info", r#"{"image":"bm8gcGljdHVyZQ=="}"#, json!("image"), "PNG"),
        ("options", "[]", Value::Null, "not a JSON object"),
    ] {
        let (message, at) = refused(&server, &format!("/sdapi/v1/{path}"), body);
        assert_eq!(at, param, "{path}: {message}");
        assert!(message.contains(words), "{path}: {message}");
        assert!(path != "options" || !message.contains("prompt"), "{message}");
    }
    for value in ["0", "1", "true", "null"] {
        let (status, answer) = send(&server, "POST", "/sdapi/v1/img2img", masked(value).as_bytes());
        assert_eq!(status, 200, "{value}: {answer}");
    }
}

#[test]
fn every_answer_has_the_form_of_its_door() {
    let server = Server::start(&[]);
    let (_, job) = send(&server, "POST", "/v1/jobs", br#"{"prompt":"x","steps":1}"#);
    let id = job["id"].as_str().unwrap();
    for name in ["x", "-1", "0.png", "99999999999999999999999", "7"] {
        let (status, answer) = send(&server, "GET", &format!("/v1/jobs/{id}/images/{name}"), b"");
        assert_eq!((status, &answer["error"]["code"]), (404, &json!("no_image")), "{name}: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains("the first one is 0"), "{answer}");
    }
    for path in ["/v1/jobs/%ff", "/v1/jobs/%ff/events", "/v1/jobs/%ff/images/0", "/v1/models/%ff"] {
        let (status, answer) = send(&server, "GET", path, b"");
        assert_eq!((status, &answer["error"]["code"]), (404, &json!("no_route")), "{path}: {answer}");
    }
    for (method, path, methods) in [
        ("DELETE", "/v1/jobs", "use GET or HEAD or POST"),
        ("GET", "/v1/images/edits", "use POST"),
        ("POST", "/health", "use GET or HEAD"),
        ("PUT", "/sdapi/v1/options", "use GET or HEAD or POST"),
    ] {
        let (status, answer) = send(&server, method, path, b"");
        let error = if path.starts_with("/sdapi") { &answer["detail"] } else { &answer["error"]["message"] };
        assert_eq!((status, error), (405, &json!(format!("{path} takes no {method}: {methods}"))));
    }
    // Neither a form nor JSON.
    let request = format!(
        "POST /v1/images/edits HTTP/1.1\r\nHost: {}\r\nContent-Type: text/plain\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx",
        server.address
    );
    let mut stream = std::net::TcpStream::connect(&server.address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let answer = std::io::read_to_string(stream).unwrap();
    assert!(answer.starts_with("HTTP/1.1 415 ") && answer.contains("application/json"), "{answer}");
}
