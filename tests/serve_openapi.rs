//! docs/openapi.json, which `darkroom serve` gives at `/openapi.json`, compared with the sources (routes, settings, codes) and
//! with what a server answers: a route, field or status that it does not describe fails here.
#![cfg(all(not(target_arch = "wasm32"), feature = "cli"))]

#[path = "load/mod.rs"]
mod load;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use darkroom::error::Class;
use darkroom::request::Request;
use fancy_regex::Regex;
use load::Server;
use serde_json::{Map, Value, json};

/// How long anything may take: a busy machine takes seconds, not this.
const PATIENCE: Duration = Duration::from_secs(200);
const SERVE: &str = "src/bin/darkroom/serve";

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn description() -> Value {
    serde_json::from_str(&read("docs/openapi.json")).unwrap()
}

/// All matches of the first group.
fn all<'t>(pattern: &str, text: &'t str) -> Vec<&'t str> {
    let pattern = Regex::new(pattern).unwrap();
    pattern.captures_iter(text).map(|found| found.unwrap().get(1).unwrap().as_str()).collect()
}

/// The texts between quotes of a constant list.
fn listed<'t>(name: &str, text: &'t str) -> Vec<&'t str> {
    let list = all(&format!(r"(?s)const {name}: [^=]* = &?\[(.*?)\];"), text);
    all(r#""([^"]*)""#, list.first().unwrap_or_else(|| panic!("no list {name}")))
}

fn sources(folder: &Path, into: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, into),
            false => into.push((path.clone(), std::fs::read_to_string(&path).unwrap())),
        }
    }
}

fn names(object: &Value) -> BTreeSet<String> {
    object.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

/// A value against a schema, of which OpenAPI's keywords are known that the description uses. An object's properties have to
/// be described, whatever the schema says of others.
struct Checker<'d>(&'d Value);

impl Checker<'_> {
    fn resolve<'s>(&'s self, schema: &'s Value) -> &'s Value {
        match schema["$ref"].as_str() {
            Some(place) => {
                let found = self.0.pointer(place.strip_prefix('#').unwrap());
                self.resolve(found.unwrap_or_else(|| panic!("{place} leads nowhere")))
            }
            None => schema,
        }
    }

    fn check(&self, schema: &Value, value: &Value, at: &str) {
        let schema = self.resolve(schema);
        if let Some(constant) = schema.get("const") {
            assert_eq!(value, constant, "{at}");
        }
        if let Some(allowed) = schema["enum"].as_array() {
            assert!(allowed.contains(value), "{at}: {value} is not described");
        }
        let is = |kind: &str| match kind {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "null" => value.is_null(),
            other => panic!("{at}: no type {other}"),
        };
        let fits = match &schema["type"] {
            Value::String(kind) => is(kind),
            Value::Array(kinds) => kinds.iter().any(|kind| is(kind.as_str().unwrap())),
            _ => true,
        };
        assert!(fits, "{at}: {value} is no {}", schema["type"]);
        if let (Some(least), Some(value)) = (schema["minimum"].as_f64(), value.as_f64()) {
            assert!(value >= least, "{at}: {value}");
        }
        if let (Some(most), Some(value)) = (schema["maximum"].as_f64(), value.as_f64()) {
            assert!(value <= most, "{at}: {value}");
        }
        if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
            values.iter().enumerate().for_each(|(idx, value)| self.check(items, value, &format!("{at}/{idx}")));
        }
        if let (Some(properties), Some(fields)) = (schema.get("properties"), value.as_object()) {
            for (name, value) in fields {
                let described = properties.get(name);
                self.check(
                    described.unwrap_or_else(|| panic!("{at}/{name} is not described")),
                    value,
                    &format!("{at}/{name}"),
                );
            }
            for name in schema["required"].as_array().into_iter().flatten() {
                assert!(fields.contains_key(name.as_str().unwrap()), "{at}/{name} is missing");
            }
        }
    }

    /// An answer against what the description says of it.
    fn answer(&self, method: &str, path: &str, status: u16, body: &Value) {
        let operation = &self.0["paths"][path][method];
        let response = self.resolve(&operation["responses"][status.to_string()]);
        assert!(!response.is_null(), "{method} {path}: {status} is not described: {body}");
        let schema = &response["content"]["application/json"]["schema"];
        self.check(schema, body, &format!("{method} {path} {status}"));
    }

    /// Every reference of the description.
    fn references(&self, value: &Value) {
        match value {
            Value::Object(fields) => {
                if fields.contains_key("$ref") {
                    self.resolve(value);
                }
                fields.values().for_each(|value| self.references(value));
            }
            Value::Array(values) => values.iter().for_each(|value| self.references(value)),
            _ => {}
        }
    }
}

/// A request; its status and what it is answered with, where that is JSON.
fn ask(server: &Server, method: &str, path: &str, body: Option<&Value>, token: Option<&str>) -> (u16, Value) {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .timeout_global(Some(PATIENCE))
        .build()
        .into();
    let mut request = ureq::http::Request::builder().method(method).uri(format!("http://{}{path}", server.address));
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let mut reply = match body {
        Some(body) => {
            let request = request.header("Content-Type", "application/json").body(body.to_string()).unwrap();
            agent.run(request).unwrap()
        }
        None => agent.run(request.body(()).unwrap()).unwrap(),
    };
    let status = reply.status().as_u16();
    let bytes = reply.body_mut().with_config().limit(1 << 28).read_to_vec().unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

/// Every event of a job.
fn events(server: &Server, id: &str) -> Vec<(String, Value)> {
    let reply = ureq::get(format!("http://{}/v1/jobs/{id}/events", server.address)).call().unwrap();
    let (mut seen, mut kind) = (Vec::new(), String::new());
    for line in BufReader::new(reply.into_body().into_reader()).lines() {
        let line = line.unwrap();
        if let Some(name) = line.strip_prefix("event: ") {
            kind = name.to_string();
        } else if let Some(data) = line.strip_prefix("data: ") {
            seen.push((kind.clone(), serde_json::from_str(data).unwrap()));
        }
    }
    seen
}

fn until_over(server: &Server, id: &str) -> Value {
    let start = Instant::now();
    loop {
        let job = ask(server, "GET", &format!("/v1/jobs/{id}"), None, None).1;
        if !matches!(job["status"].as_str(), Some("queued" | "running")) {
            return job;
        }
        assert!(start.elapsed() < PATIENCE, "{job}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn it_names_every_route_and_no_other() {
    let description = description();
    let lists = read(&format!("{SERVE}/webui/lists.rs"));
    let mut paths = BTreeSet::new();
    for text in [&read(&format!("{SERVE}/routes.rs")), &read(&format!("{SERVE}/webui/mod.rs")), &lists] {
        for path in all(r#"\.route\(\s*"([^"]+)""#, text) {
            let path = path.replace("{image}", "{n}").replace("{*name}", "{name}");
            if !path.ends_with("{*rest}") {
                paths.insert(path);
            }
        }
    }
    for name in listed("EMPTY", &lists).into_iter().chain(listed("REFRESH", &lists)) {
        paths.insert(format!("/sdapi/v1/{name}"));
    }
    assert!(paths.len() > 30, "{paths:?}");
    assert_eq!(names(&description["paths"]), paths);
    assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
    Checker(&description).references(&description);

    // And every method.
    let server = Server::start(&[]);
    assert_eq!(ask(&server, "GET", "/openapi.json", None, None), (200, description.clone()));
    for (path, operations) in description["paths"].as_object().unwrap() {
        let place = path.replace("{id}", "none").replace("{n}", "0").replace("{name}", "none");
        for method in ["GET", "POST", "DELETE", "PUT", "PATCH"] {
            let (status, body) = ask(&server, method, &place, None, None);
            let is_described = operations.get(method.to_lowercase()).is_some();
            assert_eq!(status != 405, is_described, "{method} {path}: {status} {body}");
            assert_ne!(body["error"]["code"], "no_route", "{method} {path}");
        }
    }
}

/// The fields of a type of src/web/types.d.ts, which a test of the library keeps equal to the Rust type.
fn typescript_fields<'t>(name: &str, types: &'t str) -> Vec<(&'t str, &'t str)> {
    let body = all(&format!(r"(?s)export type {name} = \{{\n(.*?)\n\}};"), types)[0];
    let field = |line: &'t str| line.trim().trim_end_matches(',').split_once(": ");
    let is_field = |line: &&str| !line.trim_start().starts_with(['/', '*']);
    let fields = body.lines().filter(is_field).filter_map(field);
    fields.map(|(name, kind)| (name.trim_end_matches('?'), kind)).collect()
}

/// Whether a schema describes a TypeScript type.
fn is_same(schema: &Value, kind: &str) -> bool {
    if let Some(of) = kind.strip_prefix("Array<").and_then(|rest| rest.strip_suffix('>')) {
        return schema["type"] == "array" && is_same(&schema["items"], of);
    }
    match kind {
        "number" => matches!(schema["type"].as_str(), Some("number" | "integer")),
        "string" | "boolean" => schema["type"] == kind,
        "number | string" => schema["type"] == json!(["number", "string"]),
        "[number, number]" => {
            schema["type"] == "array" && schema["prefixItems"].as_array().is_some_and(|items| items.len() == 2)
        }
        name => schema["$ref"] == format!("#/components/schemas/{name}"),
    }
}

#[test]
fn it_has_every_setting_with_its_type() {
    let description = description();
    let schemas = &description["components"]["schemas"];
    let job = &schemas["JobRequest"]["properties"];
    let types = read("src/web/types.d.ts");
    let declared = typescript_fields("DrawRequest", &types);
    assert_eq!(declared.len(), Request::FIELDS.len(), "{declared:?}");
    for (name, kind) in declared {
        assert!(is_same(&job[name], kind), "{name}: a {kind} is described as {}", job[name]);
    }
    for (name, kind) in typescript_fields("LoraUse", &types) {
        assert!(is_same(&schemas["LoraUse"]["properties"][name], kind), "{name}");
    }
    for (name, schema) in schemas.as_object().unwrap() {
        let declared = all(&format!("export type {name} = (\"[^;]*);"), &types);
        if let Some(declared) = declared.first().filter(|_| schema.get("enum").is_some()) {
            assert_eq!(schema["enum"], json!(all("\"([^\"]*)\"", declared)), "{name}");
        }
    }

    // Whoever misspells a setting is told them all.
    let server = Server::start(&[]);
    for (path, schema) in [("/v1/jobs", "JobRequest"), ("/v1/images/generations", "ImagesRequest")] {
        let (status, answer) = ask(&server, "POST", path, Some(&json!({ "prompt": "x", "promt": "y" })), None);
        Checker(&description).answer("post", path, status, &answer);
        let message = answer["error"]["message"].as_str().unwrap();
        let known: Vec<&str> = message.split_once(": use ").unwrap().1.split(", ").collect();
        assert_eq!(names(&schemas[schema]["properties"]), set(&known), "{path}");
    }
    let settings = read(&format!("{SERVE}/webui/request.rs"));
    let mut known = set(&listed("SETTINGS", &settings));
    known.extend(set(&["override_settings", "alwayson_scripts", "init_images", "mask"]));
    assert_eq!(names(&schemas["WebuiRequest"]["properties"]), known);
}

#[test]
fn it_has_every_code_and_every_field_of_a_job() {
    let description = description();
    let mut all_sources = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(SERVE), &mut all_sources);
    let mut codes: BTreeSet<String> = Class::ALL.iter().map(|class| class.code().to_string()).collect();
    for (_, text) in &all_sources {
        codes.extend(all(r#"StatusCode::[A-Z_]+,\s*"([a-z_]+)""#, text).into_iter().map(str::to_string));
    }
    let schemas = &description["components"]["schemas"];
    let described = schemas["ErrorBody"]["properties"]["code"]["enum"].as_array().unwrap();
    assert_eq!(described.iter().map(|code| code.as_str().unwrap().to_string()).collect::<BTreeSet<_>>(), codes);

    // Those too that are there now and then.
    let job = read(&format!("{SERVE}/job.rs"));
    let to_json = job.split_once("pub fn to_json").unwrap().1.split_once("\n    }\n").unwrap().0;
    let written = all(r#""([a-z_]+)"\s*[:,\]]"#, to_json);
    assert!(written.len() > 20, "{written:?}");
    let of_job = ["Job", "JobImage", "JobSettings"].map(|name| names(&schemas[name]["properties"]));
    for name in written {
        assert!(of_job.iter().any(|names| names.contains(name)), "a job's field {name} is not described");
    }
    // docs/http.md has them all, for people.
    let page = read("docs/http.md");
    for name in
        ["Job", "JobImage", "JobSettings", "Progress", "ProgressEvent", "PreviewEvent", "ImageEvent", "Limits", "Model"]
    {
        for field in names(&schemas[name]["properties"]) {
            assert!(page.contains(&format!("`{field}`")), "docs/http.md does not tell of {field} of {name}");
        }
    }
    for path in names(&description["paths"]).iter().filter(|path| !path.starts_with("/sdapi/")) {
        assert!(page.contains(path.as_str()), "docs/http.md does not tell of {path}");
    }
}

#[test]
fn what_a_server_answers_is_what_it_describes() {
    let description = description();
    let checker = Checker(&description);
    let server = Server::start(&["--queue", "2"]);
    let checked = |method: &str, path: &str, place: &str, body: Option<&Value>| {
        let (status, answer) = ask(&server, &method.to_uppercase(), place, body, None);
        checker.answer(method, path, status, &answer);
        (status, answer)
    };
    // Fields that are there now and then among them.
    let body = json!({ "prompt": "a {red|green} apple on a blue background", "steps": 4, "guidance_scale": 4, "seed": 1,
        "variation_strength": 0.1, "count": 2 });
    let (status, job) = checked("post", "/v1/jobs", "/v1/jobs", Some(&body));
    assert_eq!(status, 202);
    let id = job["id"].as_str().unwrap();
    let seen = events(&server, id);
    let described = &description["paths"]["/v1/jobs/{id}/events"]["get"]["x-events"];
    for (kind, data) in &seen {
        assert!(described.get(kind).is_some(), "the event {kind} is not described");
        checker.check(&described[kind], data, kind);
    }
    let kinds: BTreeSet<String> = seen.iter().map(|(kind, _)| kind.clone()).collect();
    assert_eq!(kinds, set(&["progress", "preview", "image", "done"]));
    // Previews tell which picture and step they are of.
    let previews: Vec<(u64, u64, u64)> = seen
        .iter()
        .filter(|(kind, _)| kind == "preview")
        .map(|(_, data)| {
            let number = |name: &str| data[name].as_u64().unwrap();
            (number("picture"), number("step"), number("steps"))
        })
        .collect();
    assert!(
        previews.is_sorted() && previews.iter().all(|(_, step, steps)| step <= steps && *steps == 4),
        "{previews:?}"
    );
    // A job that is done is done.
    let (_, done) = checked("get", "/v1/jobs/{id}", &format!("/v1/jobs/{id}"), None);
    assert_eq!((&done["status"], &done["progress"]["fraction"]), (&json!("done"), &json!(1.0)), "{done}");
    assert_eq!((&done["progress"]["picture"], &done["progress"]["step"]), (&json!(1), &json!(4)), "{done}");
    let last = seen.iter().rev().find(|(kind, _)| kind == "progress").unwrap();
    assert_eq!(last.1["fraction"], 1.0);
    assert!(done["images"][0]["prompt"].is_string() && done["images"][0]["variation_seed"].is_u64(), "{done}");

    // Waiting jobs, a full queue, what is stopped, and the list of them all.
    let long = json!({ "prompt": "x", "steps": 150, "count": 8 });
    let mut ids = vec![id.to_string()];
    for _ in 0..3 {
        let (_, job) = checked("post", "/v1/jobs", "/v1/jobs", Some(&long));
        let id = job["id"].as_str().unwrap().to_string();
        while ids.len() == 1 && ask(&server, "GET", &format!("/v1/jobs/{id}"), None, None).1["status"] == "queued" {
            std::thread::sleep(Duration::from_millis(5));
        }
        ids.push(id);
    }
    assert_eq!(checked("post", "/v1/jobs", "/v1/jobs", Some(&long)).0, 429);
    let ids_of = |list: &Value| -> Vec<String> {
        list["data"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_string()).collect()
    };
    let newest_first: Vec<String> = ids.iter().rev().cloned().collect();
    let (_, list) = checked("get", "/v1/jobs", "/v1/jobs", None);
    assert_eq!((ids_of(&list), &list["has_more"]), (newest_first.clone(), &json!(false)));
    let statuses: Vec<&str> =
        list["data"].as_array().unwrap().iter().map(|job| job["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["queued", "queued", "running", "done"]);
    assert_eq!((&list["data"][0]["position"], &list["data"][1]["position"]), (&json!(1), &json!(0)));
    let (_, page) = checked("get", "/v1/jobs", "/v1/jobs?limit=1", None);
    assert_eq!((ids_of(&page), &page["has_more"]), (newest_first[..1].to_vec(), &json!(true)));
    let (_, page) = checked("get", "/v1/jobs", &format!("/v1/jobs?limit=3&after={}", newest_first[0]), None);
    assert_eq!((ids_of(&page), &page["has_more"]), (newest_first[1..].to_vec(), &json!(false)));
    for (query, status) in
        [("limit=0", 400), ("limit=101", 400), ("limit=x", 400), ("order=asc", 400), ("after=x", 404)]
    {
        assert_eq!(checked("get", "/v1/jobs", &format!("/v1/jobs?{query}"), None).0, status, "{query}");
    }
    for id in &ids {
        assert_eq!(checked("delete", "/v1/jobs/{id}", &format!("/v1/jobs/{id}"), None).0, 200);
    }
    assert_eq!(until_over(&server, &ids[1])["status"], "cancelled");

    // What a request may ask for, and a request at each limit.
    let (_, models) = checked("get", "/v1/models", "/v1/models", None);
    let name = models["data"][0]["id"].as_str().unwrap().to_string();
    let (_, model) = checked("get", "/v1/models/{name}", &format!("/v1/models/{name}"), None);
    assert_eq!(model, models["data"][0]);
    assert_eq!(model["limits"]["queue"], 2);
    let limits = &model["limits"];
    for (field, at) in [("width", "side"), ("steps", "steps"), ("count", "count"), ("guidance_scale", "guidance_scale")]
    {
        let most = limits[at]["max"].as_f64().unwrap();
        let step = limits[at]["multiple"].as_f64().unwrap_or(1.0);
        let (status, answer) =
            checked("post", "/v1/jobs", "/v1/jobs", Some(&json!({ "prompt": "x", field: most + step })));
        assert_eq!((status, &answer["error"]["param"]), (400, &json!(field)), "{answer}");
        let whole = if most.fract() == 0.0 { json!(most as u64) } else { json!(most) };
        let (status, job) = checked("post", "/v1/jobs", "/v1/jobs", Some(&json!({ "prompt": "x", field: whole })));
        assert_eq!(status, 202, "{field} {most}: {job}");
        checked("delete", "/v1/jobs/{id}", &format!("/v1/jobs/{}", job["id"].as_str().unwrap()), None);
    }
    for sampler in model["samplers"].as_array().unwrap() {
        let (status, job) =
            checked("post", "/v1/jobs", "/v1/jobs", Some(&json!({ "prompt": "x", "steps": 3, "sampler": sampler })));
        assert_eq!((status, &job["request"]["sampler"]), (202, sampler), "{job}");
        checked("delete", "/v1/jobs/{id}", &format!("/v1/jobs/{}", job["id"].as_str().unwrap()), None);
    }

    checked("get", "/health", "/health", None);
    for (method, path, place, body, status) in [
        ("post", "/v1/jobs", "/v1/jobs", Some(json!({ "prompt": "x", "width": 100 })), 400),
        ("post", "/v1/jobs", "/v1/jobs", Some(json!({ "prompt": "x", "model": "none" })), 404),
        ("post", "/v1/jobs", "/v1/jobs", None, 415),
        ("get", "/v1/jobs/{id}", "/v1/jobs/none", None, 404),
        ("get", "/v1/jobs/{id}/events", "/v1/jobs/none/events", None, 404),
        ("get", "/v1/jobs/{id}/images/{n}", "/v1/jobs/none/images/0", None, 404),
        ("get", "/v1/models/{name}", "/v1/models/none", None, 404),
        ("post", "/v1/images/generations", "/v1/images/generations", Some(json!({ "prompt": "x", "steps": 2 })), 200),
        ("post", "/v1/images/generations", "/v1/images/generations", Some(json!({ "prompt": "x", "n": 9 })), 400),
        ("post", "/v1/images/edits", "/v1/images/edits", Some(json!({ "prompt": "x" })), 400),
        ("post", "/sdapi/v1/txt2img", "/sdapi/v1/txt2img", Some(json!({ "prompt": "x", "steps": 2 })), 200),
        ("post", "/sdapi/v1/txt2img", "/sdapi/v1/txt2img", Some(json!({ "prompt": "x", "steps": 999 })), 400),
        ("post", "/sdapi/v1/skip", "/sdapi/v1/skip", None, 501),
    ] {
        assert_eq!(checked(method, path, place, body.as_ref()).0, status, "{method} {place}");
    }
    for (path, operations) in description["paths"].as_object().unwrap() {
        if path.starts_with("/sdapi/") && operations.get("get").is_some() {
            assert_eq!(checked("get", path, path, None).0, 200);
        }
    }
}

#[test]
fn strangers_are_refused_as_it_describes_and_told_of_no_jobs() {
    let description = description();
    let checker = Checker(&description);
    let server = Server::start(&["--token", "secret"]);
    for (path, operations) in description["paths"].as_object().unwrap() {
        let place = path.replace("{id}", "none").replace("{n}", "0").replace("{name}", "none");
        for (method, operation) in operations.as_object().unwrap_or(&Map::new()) {
            let (status, answer) = ask(&server, &method.to_uppercase(), &place, None, None);
            let is_open = operation.get("security") == Some(&json!([]));
            assert_eq!(status == 401, !is_open, "{method} {path}: {status}");
            if status == 401 {
                checker.answer(method, path, status, &answer);
            }
        }
    }
    assert_eq!(ask(&server, "GET", "/v1/jobs", None, Some("secret")).0, 200);
    drop(server);
    let server = Server::start(&["--host", "0.0.0.0", "--no-token"]);
    let (status, answer) = ask(&server, "GET", "/v1/jobs", None, None);
    checker.answer("get", "/v1/jobs", status, &answer);
    assert_eq!((status, &answer["error"]["code"]), (403, &json!("needs_token")));
    let (_, job) = ask(&server, "POST", "/v1/jobs", Some(&json!({ "prompt": "x", "steps": 1 })), None);
    assert_eq!(until_over(&server, job["id"].as_str().unwrap())["status"], "done");
}
