//! Darkroom as a library of a page that is not ours: what is misspelt, what is not there, what a policy blocks, what is stopped
//! on the way, and files on another origin.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use serde_json::{Value, json};

use crate::browser::{self, Browser, EMBEDDED_FILES, page_url, www};
use crate::models::{as_hub, copy_folder};
use crate::trouble::copy_of_page;

/// A page without any script, which tests run theirs in.
const EMPTY: &str =
    "<!doctype html><meta charset=\"utf-8\"><title>Elsewhere</title><link rel=\"icon\" href=\"data:,\"><body></body>";

/// Serves `www/` with these headers, and for what is not there `missing`: a status and an HTML page.
pub fn serve(headers: &str, missing: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let (folder, headers) = (www(), headers.to_owned());
    std::thread::spawn(move || {
        for stream in listener.incoming().filter_map(Result::ok) {
            let (folder, headers) = (folder.clone(), headers.clone());
            std::thread::spawn(move || while answer(&folder, &headers, missing, &stream).is_some() {});
        }
    });
    url
}

/// Answers one request; nothing when the connection ends.
fn answer(folder: &Path, headers: &str, missing: &str, mut stream: &TcpStream) -> Option<()> {
    let lines: Vec<String> =
        BufReader::new(stream).lines().map_while(Result::ok).take_while(|l| !l.is_empty()).collect();
    let target = lines.first()?.split(' ').nth(1)?.split('?').next()?.trim_start_matches('/').to_owned();
    let found = std::fs::read(folder.join(&target)).ok().filter(|_| target != "empty.html");
    let kind = match target.rsplit('.').next() {
        Some("js") => "text/javascript",
        Some("wasm") => "application/wasm",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    };
    let (status, kind, body) = match (found, target.as_str()) {
        (Some(body), _) => ("200 OK", kind, body),
        (None, "empty.html") => ("200 OK", "text/html", EMPTY.into()),
        (None, _) => (missing, "text/html", EMPTY.into()),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n{headers}\r\n",
        body.len()
    )
    .ok()?;
    stream.write_all(&body).ok()
}

/// A browser on an empty page that is served beside the library, and the folder's address.
fn beside_the_library() -> (Browser, String) {
    let (browser, url) = (Browser::start(), serve("", "404 Not Found"));
    browser.open(&format!("{url}empty.html"));
    (browser, url)
}

/// JavaScript that every test here uses: the library from `base`, and what a promise rejects with.
fn with_library(browser: &Browser, base: &str, body: &str) -> Value {
    browser.run(&format!(
        "const {{ Darkroom, DarkroomError }} = await import('{base}darkroom.js');
        const fault = async (promise) => {{
            try {{ return ['none', await promise]; }}
            catch (e) {{ return [e instanceof DarkroomError ? e.code : e.name, e.message, e.field ?? null]; }}
        }};
        const opening = (options) => fault(Darkroom.open(options).then((darkroom) => darkroom.close()));
        {body}"
    ))
}

/// Compares a code, words of the message, and the field, if one is named.
fn is_refused(said: &Value, code: &str, words: &[&str], field: Option<&str>) {
    assert_eq!(said[0], code, "{said}");
    let message = said[1].as_str().expect("a message");
    for word in words {
        assert!(message.contains(word), "{word} is not in {said}");
    }
    if let Some(field) = field {
        assert_eq!(said[2], field, "{said}");
    }
}

#[test]
fn what_is_misspelt_is_refused_with_the_name_that_was_meant() {
    let (browser, url) = beside_the_library();
    let said = with_library(
        &browser,
        &url,
        "const darkroom = await Darkroom.open();
        const drawing = (request, options) => fault(darkroom.generate(request, options).done);
        const said = {
            open: await opening({ wokrer: 'worker.js' }),
            signal: await opening({ signal: new AbortController() }),
            load: await fault(darkroom.load({ runer: 'cpu' })),
            known_as: await fault(darkroom.load({ device: 'cpu' })),
            not_kept: await fault(darkroom.load({ vae: 'other' })),
            both: await fault(darkroom.load({ kept: 'main', endpoint: 'hub' })),
            field: await drawing({ prompt: 'x', colour: 'red' }),
            camel: await drawing({ prompt: 'x', guidanceScale: 3 }),
            diffusers: await drawing({ prompt: 'x', num_inference_steps: 3 }),
            callback: await drawing({ prompt: 'x' }, { onProgress() {} }),
            no_callback: await drawing({ prompt: 'x' }, { on_progress: 3 }),
            place: await drawing({ prompt: 'x', on_preview() {} }),
            other_place: await drawing({ prompt: 'x' }, { seed: 3 }),
            no_prompt: await drawing({ steps: 3 }),
            strength: await drawing({ prompt: 'x', strength: 0.5 }),
            fit: await drawing({ prompt: 'x', fit: 'crop' }),
            mask: await drawing({ prompt: 'x' }, { mask: new ImageData(64, 64) }),
            picture: await drawing({ prompt: 'x' }, { picture: 'apple.png' }),
            work: await fault(darkroom.work({ prompt: 'x', strength: 0.5 })),
            plan: await fault(darkroom.plan({ heigth: 512 })),
            hub: await fault(darkroom.use_hub({ tokn: 'x' })),
        };
        darkroom.close();
        return said;",
    );
    for (name, words, field) in [
        ("open", "did you mean \"worker\"?", "wokrer"),
        ("signal", "must be an AbortSignal, not AbortController", "signal"),
        ("load", "did you mean \"runner\"?", "runer"),
        ("known_as", "did you mean \"runner\"?", "device"),
        ("not_kept", "vae is for a kept model", "vae"),
        ("both", "give it or kept", "endpoint"),
        ("field", "no setting \"colour\"", "colour"),
        ("camel", "did you mean \"guidance_scale\"?", "guidanceScale"),
        ("diffusers", "did you mean \"steps\"?", "num_inference_steps"),
        ("callback", "did you mean \"on_progress\"?", "onProgress"),
        ("no_callback", "on_progress must be a function", "on_progress"),
        ("place", "\"on_preview\" belongs to generate's second argument", "on_preview"),
        ("other_place", "\"seed\" belongs to the request", "seed"),
        ("no_prompt", "prompt must be a text", "prompt"),
        ("strength", "strength without a picture", "strength"),
        ("fit", "fit without a picture", "fit"),
        ("mask", "without a picture", "mask"),
        ("work", "strength without a picture", "strength"),
        ("plan", "did you mean \"height\"?", "heigth"),
        ("hub", "did you mean \"token\"?", "tokn"),
    ] {
        is_refused(&said[name], "request", &[words], Some(field));
    }
    is_refused(&said["picture"], "picture", &["ImageBitmap", "not the string \"apple.png\""], Some("picture"));
}

#[test]
fn seeds_are_optional_and_pictures_come_in_every_form() {
    let (browser, url) = beside_the_library();
    let said = with_library(
        &browser,
        &url,
        "const darkroom = await Darkroom.open();
        await darkroom.load({ runner: 'cpu' });
        const random = [];
        for (let i = 0; i < 2; i++) random.push((await darkroom.generate({ prompt: 'a cat', steps: 1 }).done).pictures[0].seed);
        const image = new ImageData(64, 64);
        image.data.forEach((_, place) => { image.data[place] = place % 4 === 3 ? 255 : (place * 7) % 256; });
        const canvas = document.createElement('canvas');
        const off = new OffscreenCanvas(64, 64);
        for (const each of [canvas, off]) { each.width = each.height = 64; each.getContext('2d').putImageData(image, 0, 0); }
        const png = await off.convertToBlob();
        const given = { image, canvas, off, bitmap: await createImageBitmap(image), png, buffer: await png.arrayBuffer(),
            bytes: new Uint8Array(await png.arrayBuffer()) };
        const drawn = {};
        for (const [name, picture] of Object.entries(given)) {
            const { pictures } = await darkroom.generate({ prompt: 'a cat', steps: 2, seed: 1, strength: 0.5 }, { picture }).done;
            drawn[name] = Array.from(new Uint8Array(await crypto.subtle.digest('SHA-256', pictures[0].png))).join();
        }
        const still_there = given.buffer.byteLength > 0 && given.bytes.length > 0 && given.bitmap.width === 64;
        const told = await darkroom.read_parameters(given.buffer) ?? null;
        darkroom.close();
        return { random, drawn, still_there, told };",
    );
    let drawn = said["drawn"].as_object().expect("digests");
    assert_eq!(drawn.len(), 7);
    assert!(drawn.values().all(|digest| digest == &drawn["image"]), "{said}");
    assert!(said["random"][0].is_u64() && said["random"][0] != said["random"][1], "{said}");
    assert_eq!((&said["still_there"], &said["told"]), (&json!(true), &Value::Null));
}

#[test]
fn what_is_not_there_is_named_by_its_address() {
    let browser = Browser::start();
    // As servers of apps answer, which send their page for every address.
    let (url, app) = (serve("", "404 Not Found"), serve("", "200 OK"));
    for (base, said_of_missing) in [(url, "the server answered 404"), (app, "web page")] {
        browser.open(&format!("{base}empty.html"));
        let said = with_library(
            &browser,
            &base,
            "const darkroom = await Darkroom.open();
            const said = {
                model: await fault(darkroom.load({ endpoint: 'nowhere' })),
                repository: await fault(darkroom.load({ repository: 'no/body' })),
                wasm: await opening({ wasm_url: 'no.wasm' }),
                worker: await opening({ worker: 'no_worker.js' }),
                folder: await opening({ base_url: 'no_folder' }),
            };
            darkroom.close();
            return said;",
        );
        let address = |path: &str| format!("{base}{path}");
        is_refused(
            &said["model"],
            "model",
            &[&address("nowhere/api/models/darkroom/tiny-emoji"), said_of_missing],
            None,
        );
        is_refused(&said["repository"], "model", &[&address("hub/api/models/no/body"), said_of_missing], None);
        is_refused(&said["wasm"], "worker", &[&address("no.wasm"), said_of_missing], None);
        for (name, path) in [("worker", "no_worker.js"), ("folder", "no_folder/worker.js")] {
            let why = if said_of_missing.contains("404") { "the server answered 404" } else { "text/html" };
            is_refused(&said[name], "worker", &[&address(path), why], None);
        }
    }
}

#[test]
fn opening_and_loading_are_stopped() {
    let (browser, url) = beside_the_library();
    let said = with_library(
        &browser,
        &url,
        "let [made, alive] = [0, 0];
        const Given = globalThis.Worker;
        globalThis.Worker = class extends Given {
            constructor(...args) { super(...args); made++; alive++; }
            terminate() { alive--; super.terminate(); }
        };
        const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
        const stopped = [await opening({ signal: AbortSignal.abort() }), made];
        for (const ms of [0, 20, 100]) {
            const abort = new AbortController();
            const opened = opening({ signal: abort.signal });
            await pause(ms);
            abort.abort();
            stopped.push(await opened);
        }
        const left = alive;
        const abort = new AbortController();
        const darkroom = await Darkroom.open({ signal: abort.signal });
        abort.abort();
        const loads = [await fault(darkroom.load({ runner: 'cpu', signal: AbortSignal.abort() }))];
        for (const ms of [0, 10, 50]) {
            const abort = new AbortController();
            const load = fault(darkroom.load({ runner: 'cpu', signal: abort.signal }));
            const queued = fault(darkroom.load({ runner: 'cpu', signal: abort.signal }));
            await pause(ms);
            const from = performance.now();
            abort.abort();
            loads.push(await load, await queued);
            if (performance.now() - from > 1000) loads.push('slow');
        }
        const without = await fault(darkroom.generate({ prompt: 'x', seed: 1, steps: 1 }).done);
        await darkroom.load({ runner: 'cpu' });
        const { pictures } = await darkroom.generate({ prompt: 'x', seed: 1, steps: 1 }).done;
        darkroom.close();
        return { stopped, left, loads, without, n: pictures.length, alive };",
    );
    assert_eq!((&said["left"], &said["alive"], &said["n"]), (&json!(0), &json!(0), &json!(1)), "{said}");
    assert_eq!((&said["stopped"][0][0], &said["stopped"][1]), (&json!("cancelled"), &json!(0)), "{said}");
    // What was done before it was stopped is no failure.
    let is_fine = |said: &Value| said[0] == "cancelled" || said[0] == "none";
    for said in
        said["stopped"].as_array().expect("a list").iter().skip(2).chain(said["loads"].as_array().expect("a list"))
    {
        assert!(is_fine(said), "{said}");
    }
    assert_eq!(said["stopped"][2][0], "cancelled", "{said}");
    assert_eq!(said["loads"][1][0], "cancelled", "{said}");
}

#[test]
fn files_on_another_origin_are_imported() {
    let browser = Browser::start();
    let page = serve("", "404 Not Found");
    let cdn = serve("Access-Control-Allow-Origin: *\r\n", "404 Not Found");
    let closed = serve("", "404 Not Found");
    browser.open(&format!("{page}empty.html"));
    // The library of the page's own origin, and all else from elsewhere; and the library itself from elsewhere.
    for (base, options) in [(&page, format!("{{ base_url: '{cdn}' }}")), (&cdn, "{}".into())] {
        let said = with_library(
            &browser,
            base,
            &format!(
                "const from = performance.now();
                const darkroom = await Darkroom.open({options});
                await darkroom.load({{ runner: 'cpu' }});
                const {{ pictures }} = await darkroom.generate({{ prompt: 'x', seed: 1, steps: 1 }}).done;
                darkroom.close();
                return [pictures.length, performance.getEntriesByType('resource').some(({{ name }}) => name === '{page}worker.js')];"
            ),
        );
        assert_eq!(said, json!([1, false]), "{base}");
    }
    let said = with_library(&browser, &page, &format!("return opening({{ base_url: '{closed}' }});"));
    is_refused(&said, "worker", &[&closed, "Access-Control-Allow-Origin"], None);
}

#[test]
fn what_a_policy_blocks_is_named_with_its_directive() {
    let browser = Browser::start();
    let cdn = serve("Access-Control-Allow-Origin: *\r\n", "404 Not Found");
    let cases = [
        ("worker-src 'none'", "{}", "worker-src 'self'"),
        ("script-src 'self' 'unsafe-inline' 'unsafe-eval'; worker-src 'none'", "{}", "worker-src 'self'"),
        ("worker-src 'self'", "{ base_url: CDN }", "worker-src blob:"),
        ("connect-src 'none'", "{}", "connect-src 'self'"),
        ("script-src 'self'", "{}", "script-src 'wasm-unsafe-eval'"),
        ("script-src 'self'; worker-src blob:", "{ base_url: CDN }", "script-src http://127.0.0.1:"),
    ];
    for (policy, options, advice) in cases {
        let url = serve(&format!("Content-Security-Policy: {policy}\r\n"), "404 Not Found");
        browser.open(&format!("{url}empty.html"));
        let said = with_library(&browser, &url, &format!("const CDN = '{cdn}'; return opening({options});"));
        eprintln!("{policy}: {said}");
        is_refused(&said, "worker", &["Content-Security-Policy", advice], None);
    }
    let url = serve("Content-Security-Policy: connect-src 'self'\r\n", "404 Not Found");
    browser.open(&format!("{url}empty.html"));
    let said = with_library(
        &browser,
        &url,
        &format!(
            "const darkroom = await Darkroom.open(); const said = await fault(darkroom.load({{ endpoint: '{cdn}hub' }})); darkroom.close(); return said;"
        ),
    );
    is_refused(
        &said,
        "network",
        &["Content-Security-Policy", &format!("connect-src {}", cdn.trim_end_matches('/'))],
        None,
    );
}

#[test]
fn offline_is_the_network_and_is_said_at_once() {
    let browser = Browser::start();
    browser.open(&page_url());
    browser.wait_until_idle();
    let conditions = json!({ "offline": true, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1 });
    let said = with_library(
        &browser,
        "./",
        "globalThis.library = await Darkroom.open(); globalThis.fault = fault; return null;",
    );
    assert_eq!(said, Value::Null);
    browser.cdp("Network.enable", &json!({}));
    browser.cdp("Network.emulateNetworkConditions", &conditions);
    let said = browser.run(
        "const from = performance.now();
        const said = [await fault(library.needed('1.5')), await fault(library.download('someone/something')),
            await fault(library.inspect('someone/something/file.safetensors')), await fault(library.load({ endpoint: 'https://elsewhere.example/hub' }))];
        return { said, ms: performance.now() - from };",
    );
    for said in said["said"].as_array().expect("a list") {
        assert_eq!(said[0], "network", "{said}");
    }
    assert!(said["ms"].as_f64().expect("a number") < 5_000.0, "{said}");
}

/// The repository that has Stable Diffusion 1.5.
const V1_5: &str = "stable-diffusion-v1-5/stable-diffusion-v1-5";

/// The blocks of a Markdown text that are marked so.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let mark = format!("```{language}\n");
    text.split(mark.as_str()).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

/// Each as it stands there, but for the import and for what lies on the network: the demo model is what a Hub of the test gives
/// as Stable Diffusion 1.5.
#[test]
fn the_snippets_of_the_documentation_run() {
    let page = copy_of_page(None);
    as_hub(page.path());
    let hub = page.path().join("hub");
    copy_folder(&hub.join("api/models/darkroom/tiny-emoji"), &hub.join("api/models").join(V1_5));
    copy_folder(&hub.join("darkroom/tiny-emoji"), &hub.join(V1_5));
    let url = browser::serve(page.path());
    let cdn =
        serve("Access-Control-Allow-Origin: *\r\nCross-Origin-Resource-Policy: cross-origin\r\n", "404 Not Found");
    let documentation = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/javascript.md");
    let documentation = std::fs::read_to_string(documentation).expect("the documentation");
    let snippets = blocks(&documentation, "js");
    assert!(snippets.len() >= 6, "{} snippets", snippets.len());
    let browser = Browser::start();
    browser.open(&format!("{url}example.html"));
    for snippet in snippets {
        let lines =
            snippet.lines().filter(|line| !(line.starts_with("import ") && line.ends_with(" from \"darkroom\";")));
        let body = lines.collect::<Vec<_>>().join("\n").replace("https://cdn.example/darkroom@0.1.0/", &cdn);
        let opens = if snippet.contains("Darkroom.open(") {
            ""
        } else {
            "const darkroom = await Darkroom.open(); await darkroom.load({ runner: 'cpu' });"
        };
        let said = browser.run(&format!(
            "const library = await import('{url}darkroom.js');
            const {{ DarkroomError }} = library;
            const opened = [];
            const Darkroom = {{ open: async (options) => {{
                const darkroom = await library.Darkroom.open(options);
                opened.push(darkroom);
                await darkroom.use_hub({{ endpoint: '{url}hub' }});
                return darkroom;
            }} }};
            const picked_files = [];
            for (const [path, file] of await ({EMBEDDED_FILES})()) {{
                picked_files.push(Object.defineProperty(new File([file], path.split('/').pop()), 'webkitRelativePath', {{ value: `mine/${{path}}` }}));
            }}
            {opens}
            {{ {body} }}
            opened.forEach((darkroom) => darkroom.close());
            return opened.length;"
        ));
        assert_eq!(said, 1, "{snippet}");
    }
}
