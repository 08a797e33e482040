//! Models in a real browser: headless Chromium, its IndexedDB, and a Hub that is a thread of this test. Needs `www/pkg`
//! (`build.sh wasm`), so `cargo test` leaves it out and `build.sh test page` runs it.
#![cfg(not(target_arch = "wasm32"))]

#[path = "page/browser.rs"]
#[allow(dead_code, reason = "the page's own tests use the rest of it")]
mod browser;
#[path = "../tools/serve/folder.rs"]
#[allow(dead_code, reason = "the page's own tests use the rest of it")]
mod folder;
#[allow(dead_code, reason = "other tests use the rest of it")]
mod hub_server;

#[path = "common/large.rs"]
#[allow(dead_code, reason = "the bench prints the rest of it")]
mod large;

use std::time::{Duration, Instant};

use browser::Browser;
use darkroom::store::{CHUNK_BYTES, sha256_hex};
use hub_server::{Fault, Hub, REPO, UNET, emoji_files, model, needed_bytes};
use serde_json::{Value, json};

const CHUNK: usize = CHUNK_BYTES as usize;
/// Five chunks, the last one short.
const UNET_BYTES: usize = 4 * CHUNK + 123_457;

/// A tab with the wasm loaded and `models` opened, as a page has it.
struct Tab<'a> {
    browser: &'a Browser,
    hub: &'a Hub,
    page: &'a str,
}

impl<'a> Tab<'a> {
    fn open(browser: &'a Browser, page: &'a str, hub: &'a Hub) -> Self {
        let tab = Tab { browser, hub, page };
        tab.load();
        tab
    }

    /// Loads everything anew, as a tab that was killed and opened again. Any document of the page's origin does.
    fn load(&self) {
        self.browser.open(&format!("{}protocol.js", self.page));
        self.open_models(json!({ "endpoint": self.hub.endpoint }));
    }

    fn open_models(&self, settings: Value) {
        self.browser.run(&format!(
            "const pkg = await import('/pkg/darkroom.js'); await pkg.default();
            window.models = await pkg.Models.open({settings}); window.progress = [];
            window.told = (progress) => window.progress.push(progress);"
        ));
    }

    /// Starts a download and does not wait for its end.
    fn start(&self) {
        self.browser.eval(&format!(
            "(window.ended = undefined, window.models.download('{REPO}', window.told).then((report) => \
             window.ended = report, (error) => window.ended = {{ error: error.message, code: error.code }}), 1)"
        ));
    }

    fn end(&self) -> Value {
        self.browser.wait_until("window.ended");
        self.browser.eval("window.ended")
    }

    fn download(&self) -> Value {
        self.start();
        self.end()
    }

    fn needed(&self) -> Value {
        self.browser.run(&format!("return window.models.needed('{REPO}');"))
    }

    fn verify(&self) -> Value {
        self.browser.run(&format!("return window.models.verify('{REPO}', window.told);"))
    }

    /// Every file, read back through the way that loading takes, is what the Hub has.
    fn assert_bit_for_bit(&self) {
        for (path, bytes) in self.hub.files.iter().filter(|(path, _)| path != "README.md") {
            let digest = self.browser.run(&format!(
                "const parts = []; const step = 3_000_001;
                for (let at = 0; at < {0}; at += step)
                    parts.push(await window.models.read('{REPO}', '{path}', at, Math.min(step, {0} - at)));
                const digest = await crypto.subtle.digest('SHA-256', await new Blob(parts).arrayBuffer());
                return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');",
                bytes.len()
            ));
            assert_eq!(digest, sha256_hex(bytes), "{path}");
        }
    }

    /// How many whole chunks of the UNet the browser has.
    fn unet_bytes(&self) -> u64 {
        let needed = self.needed();
        let file = needed["files"].as_array().unwrap().iter().find(|file| file["path"] == UNET).unwrap().clone();
        file["present_bytes"].as_f64().unwrap() as u64
    }

    fn wait_for_unet(&self, bytes: u64) {
        let start = Instant::now();
        while self.unet_bytes() < bytes {
            assert!(
                start.elapsed() < browser::PATIENCE,
                "the download does not go on: {}",
                self.browser.eval("window.ended")
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What is still absent, and so may go over the network again.
    fn missing_bytes(&self) -> u64 {
        self.needed()["missing_bytes"].as_f64().unwrap() as u64
    }

    fn cdp(&self, command: &str, parameters: Value) -> Value {
        self.browser.post("/goog/cdp/execute", json!({ "cmd": command, "params": parameters }))
    }
}

fn rig() -> (Browser, String, Hub) {
    (Browser::start(), browser::page_url(), Hub::start(model(UNET_BYTES)))
}

#[test]
fn a_model_comes_once_and_is_bit_for_bit_the_hubs() {
    let (browser, page, hub) = rig();
    let tab = Tab::open(&browser, &page, &hub);
    let needed = tab.needed();
    let total = needed_bytes(&hub.files);
    assert_eq!((needed["repo"].as_str(), needed["commit"].as_str()), (Some(REPO), Some(hub_server::COMMIT)));
    assert_eq!(needed["total_bytes"].as_f64(), Some(total as f64), "{needed}");
    assert_eq!(needed["missing_bytes"], needed["total_bytes"]);
    assert!(needed["quota_bytes"].as_f64() > Some(1e6), "{needed}");
    hub.take_body_bytes();

    let report = tab.download();
    assert_eq!((&report["complete"], &report["missing_bytes"]), (&json!(true), &json!(0)), "{report}");
    assert_eq!(hub.take_body_bytes() as u64, total + index_bytes(&hub), "every byte comes once");
    let progress = browser.eval("window.progress");
    let progress = progress.as_array().unwrap();
    let last = progress.last().unwrap();
    assert_eq!((last["bytes"].as_f64(), last["total"].as_f64()), (Some(total as f64), Some(total as f64)), "{last}");
    tab.assert_bit_for_bit();
    assert_eq!(tab.verify(), json!([]));

    // A complete model asks for nothing more, also in a page that was loaded again.
    tab.load();
    let n_requests = hub.requests().len();
    assert_eq!(tab.download()["complete"], true);
    assert_eq!(hub.requests().len(), n_requests);
    let list = browser.run("return window.models.list();");
    assert_eq!((list[0]["model"].as_str(), list.as_array().unwrap().len()), (Some(REPO), 1));
    browser.run(&format!("await window.models.remove('{REPO}');"));
    assert_eq!(browser.run("return window.models.list();"), json!([]));
    assert_eq!(tab.missing_bytes(), total, "nothing of it is left");
    // The document of this test is no page, so the browser looks for an icon.
    let said: Vec<String> = browser.console().into_iter().filter(|line| !line.contains("favicon.ico")).collect();
    assert_eq!(said, Vec::<String>::new());
}

/// `model_index.json` is read to know what is needed, before the store has anything.
fn index_bytes(hub: &Hub) -> u64 {
    hub.file("model_index.json").len() as u64
}

#[test]
fn a_page_that_is_loaded_again_goes_on_where_it_was() {
    let (browser, page, hub) = rig();
    let tab = Tab::open(&browser, &page, &hub);
    for gone in ["reloaded", "killed", "paused"] {
        browser.run(&format!("await window.models.remove('{REPO}');"));
        // Two chunks come; of the others only a part does.
        hub.behave();
        hub.order(UNET, Fault::Delay(0), 2);
        hub.order(UNET, Fault::Held, usize::MAX);
        tab.start();
        tab.wait_for_unet(2 * CHUNK_BYTES);
        match gone {
            "reloaded" => browser.reload(),
            "killed" => {
                let window = browser.post("/window/new", json!({ "type": "tab" }));
                let targets = tab.cdp("Target.getTargets", json!({}));
                let target = targets["targetInfos"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .find(|info| info["type"] == "page" && info["url"].as_str().unwrap().starts_with(&page))
                    .expect("the tab")["targetId"]
                    .clone();
                browser.post("/window", json!({ "handle": window["handle"] }));
                tab.cdp("Target.closeTarget", json!({ "targetId": target }));
            }
            _ => {
                let start = Instant::now();
                browser.eval("window.models.pause()");
                let ended = tab.end();
                assert_eq!(ended["code"], "cancelled", "{ended}");
                assert!(start.elapsed() < Duration::from_secs(20), "it does not wait for what is on its way");
            }
        }
        hub.behave();
        tab.load();
        let missing = tab.missing_bytes();
        assert!(missing <= needed_bytes(&hub.files) - 2 * CHUNK_BYTES, "{gone}: {missing} bytes are missing");
        // Threads of the server that still write to a connection that is gone must not be counted.
        hub.wait_until_quiet();
        hub.take_body_bytes();
        let report = tab.download();
        assert_eq!(report["complete"], true, "{gone}: {report}");
        assert_eq!(hub.take_body_bytes() as u64, missing, "{gone}: what was there is not fetched again");
        tab.assert_bit_for_bit();
    }
}

#[test]
fn a_damaged_chunk_is_found_and_fetched_again_alone() {
    let (browser, page, hub) = rig();
    let tab = Tab::open(&browser, &page, &hub);
    assert_eq!(tab.download()["complete"], true);
    browser.run(&format!(
        "const database = await new Promise((resolve, reject) => {{
            const request = indexedDB.open('darkroom');
            request.onsuccess = () => resolve(request.result); request.onerror = () => reject(request.error); }});
        const chunks = database.transaction('chunks', 'readwrite').objectStore('chunks');
        await new Promise((resolve, reject) => {{
            const got = chunks.get(['{REPO}', '{UNET}', 2]);
            got.onsuccess = () => {{
                got.result.bytes[12345] ^= 1;
                const put = chunks.put(got.result, ['{REPO}', '{UNET}', 2]);
                put.onsuccess = resolve; put.onerror = () => reject(put.error); }}; }});
        database.close();"
    ));
    assert_eq!(tab.verify(), json!([{ "path": UNET, "chunk": 2, "bytes": CHUNK }]));
    assert_eq!(tab.missing_bytes(), CHUNK_BYTES);
    hub.take_body_bytes();
    assert_eq!(tab.download()["complete"], true);
    assert_eq!(hub.take_body_bytes(), CHUNK);
    tab.assert_bit_for_bit();
}

#[test]
fn no_room_leaves_what_is_there_and_says_how_much_is_missing() {
    let (browser, page, hub) = rig();
    let tab = Tab::open(&browser, &page, &hub);
    let origin = page.trim_end_matches('/');
    tab.cdp("Storage.overrideQuotaForOrigin", json!({ "origin": origin, "quotaSize": 9 * 1024 * 1024 }));
    // Chromium's estimate does not know of the override at once, so that it is a write that is refused here.
    let total = needed_bytes(&hub.files);
    let ended = tab.download();
    assert_eq!(ended["code"], "storage", "{ended}");
    let missing = tab.missing_bytes();
    // In megabytes, rounded up, so that what is told suffices.
    let words = ended["error"].as_str().unwrap().split_once("needs ").unwrap().1;
    let (megabytes, _) = words.split_once(" MB more").expect("an amount in MB");
    let said = megabytes.parse::<u64>().unwrap() * 1_000_000;
    // A write of another task that was under way may have had room a moment later.
    assert!(missing < total && (missing..total + 1_000_000).contains(&said), "{missing}: {ended}");
    tab.cdp("Storage.overrideQuotaForOrigin", json!({ "origin": origin }));
    hub.wait_until_quiet();
    hub.take_body_bytes();
    let report = tab.download();
    assert_eq!(report["complete"], true, "{report}");
    assert_eq!(hub.take_body_bytes() as u64, missing);
    tab.assert_bit_for_bit();
}

#[test]
fn two_tabs_wait_for_each_other() {
    let (browser, page, hub) = rig();
    let tab = Tab::open(&browser, &page, &hub);
    hub.order(UNET, Fault::Throttle(10), usize::MAX);
    hub.take_body_bytes();
    tab.start();
    tab.wait_for_unet(1);
    let window = browser.post("/window/new", json!({ "type": "tab" }));
    browser.post("/window", json!({ "handle": window["handle"] }));
    tab.load();
    let ended = tab.download();
    assert_eq!(ended["complete"], true, "{ended}");
    // Whoever asks before the store knows the model reads its index; everything else comes once.
    let surplus = hub.take_body_bytes() as u64 - needed_bytes(&hub.files);
    assert!(surplus <= 3 * index_bytes(&hub), "{surplus} bytes came twice");
    tab.assert_bit_for_bit();
}

#[test]
fn an_older_layout_is_taken_over() {
    let (browser, page, hub) = rig();
    let tab = Tab::open(&browser, &page, &hub);
    browser.run(
        "const database = await new Promise((resolve, reject) => {
            const request = indexedDB.open('old', 1);
            request.onupgradeneeded = () => {
                for (const name of ['models', 'chunks', 'digests']) request.result.createObjectStore(name);
                const at = (name) => request.transaction.objectStore(name);
                at('models').put(JSON.stringify({ model: 'm', repo: '', commit: '', files: [{ path: 'a', bytes: 4,
                    sha256: null, etag: null, complete: true }] }), 'm');
                at('chunks').put(new Uint8Array([1, 2, 3, 4]), ['m', 'a', 0]);
                at('digests').put('9f64a747e1b97f131fabb6b447296c9b6f0201e79fb3c5356e6c77e89b6a806a', ['m', 'a', 0]);
            };
            request.onsuccess = () => resolve(request.result); request.onerror = () => reject(request.error); });
        database.close();",
    );
    tab.open_models(json!({ "database": "old" }));
    assert_eq!(browser.run("return Array.from(await window.models.read('m', 'a', 1, 2));"), json!([2, 3]));
    assert_eq!(browser.run("return window.models.verify('m', window.told);"), json!([]));
    // A layout of a page to come is refused, not touched.
    let said = browser.run(
        "const request = indexedDB.open('new', 99);
        await new Promise((resolve) => { request.onsuccess = resolve; });
        request.result.close();
        const pkg = await import('/pkg/darkroom.js');
        return pkg.Models.open({ database: 'new' }).then(() => '', (error) => error.message);",
    );
    assert!(said.as_str().unwrap().contains("newer version of this page"), "{said}");
}

#[test]
fn faults_that_pass_are_got_over() {
    let (browser, page, hub) = rig();
    let tab = Tab::open(&browser, &page, &hub);
    let faults = [
        ("cut", Fault::Cut(CHUNK / 2), 2),
        ("cut before the first byte", Fault::Cut(0), 2),
        ("reset", Fault::Reset, 2),
        ("short", Fault::Short(1), 1),
        ("long", Fault::Long(1), 1),
        ("corrupt", Fault::Corrupt, 1),
        ("500", Fault::Status(500, "X-Nothing: 0"), 2),
        ("503", Fault::Status(503, "Retry-After: 0"), 2),
        ("429", Fault::Status(429, "Retry-After: 1"), 1),
        ("another tag", Fault::Etag, 1),
        ("no range", Fault::NoRange, usize::MAX),
        ("another range", Fault::WrongRange, 1),
        ("stalled", Fault::Stall(40_000), 1),
    ];
    for (name, fault, times) in faults {
        browser.run(&format!("await window.models.remove('{REPO}');"));
        hub.behave();
        hub.order(&format!("/cdn/{UNET}"), fault, times);
        let ended = tab.download();
        assert_eq!(ended["complete"], true, "{name}: {ended}");
        tab.assert_bit_for_bit();
    }
}

#[test]
fn faults_that_last_say_what_to_do_and_keep_what_came() {
    let (browser, page, hub) = rig();
    let tab = Tab::open(&browser, &page, &hub);
    for (fault, said) in [
        (Fault::Status(401, "X-Nothing: 0"), "token"),
        (Fault::Status(404, "X-Nothing: 0"), "404"),
        (Fault::Html("text/html"), "HTML"),
    ] {
        hub.behave();
        hub.order(UNET, fault.clone(), usize::MAX);
        let ended = tab.download();
        assert!(ended["error"].as_str().is_some_and(|error| error.contains(said)), "{fault:?}: {ended}");
        assert!(tab.missing_bytes() < needed_bytes(&hub.files), "{fault:?}: what came before the UNet is kept");
    }
    hub.behave();
    assert_eq!(tab.download()["complete"], true);
    tab.assert_bit_for_bit();
}

#[test]
fn a_browser_that_crashes_goes_on_where_it_was() {
    let (page, hub) = (browser::page_url(), Hub::start(model(UNET_BYTES)));
    let profile = tempfile::tempdir().unwrap();
    let browser = Browser::start_in(profile.path());
    let tab = Tab::open(&browser, &page, &hub);
    hub.order(UNET, Fault::Delay(0), 2);
    hub.order(UNET, Fault::Held, usize::MAX);
    tab.start();
    tab.wait_for_unet(2 * CHUNK_BYTES);
    // What is written is on its way to the disk.
    std::thread::sleep(Duration::from_secs(1));
    browser.kill();
    hub.behave();
    // What a crash leaves behind says that somebody still uses the profile.
    for name in ["SingletonLock", "SingletonSocket", "SingletonCookie"] {
        std::fs::remove_file(profile.path().join(name)).ok();
    }
    let browser = Browser::start_in(profile.path());
    let tab = Tab::open(&browser, &page, &hub);
    let missing = tab.missing_bytes();
    assert!(missing <= needed_bytes(&hub.files) - 2 * CHUNK_BYTES, "{missing} bytes are missing");
    hub.wait_until_quiet();
    hub.take_body_bytes();
    let report = tab.download();
    assert_eq!(report["complete"], true, "{report}");
    assert_eq!(hub.take_body_bytes() as u64, missing, "what was there is not fetched again");
    tab.assert_bit_for_bit();
}

#[test]
fn a_picture_is_drawn_while_its_model_comes() {
    let (browser, page, hub) = (Browser::start(), browser::page_url(), Hub::start(emoji_files()));
    browser.open(&format!("{page}protocol.js"));
    hub.order(UNET, Fault::Held, usize::MAX);
    let log = browser.run(&format!(
        "const {{ Darkroom }} = await import('/darkroom.js');
        const darkroom = await Darkroom.open();
        await darkroom.use_hub({{ endpoint: '{0}' }});
        const log = [];
        const told = (what) => {{ if (log.at(-1) !== what) log.push(what); }};
        let is_coming;
        const coming = new Promise((resolve) => {{ is_coming = resolve; }});
        const download = darkroom.download('{REPO}', is_coming).then(() => told('downloaded'));
        await coming;
        await darkroom.load({{ kept: '{REPO}', runner: 'cpu' }});
        told('loaded');
        const request = {{ prompt: 'a red apple', seed: 1, steps: 2 }};
        // One that waits can be stopped.
        const first = darkroom.generate(request, {{ on_progress: ({{ stage }}) => told(stage) }});
        while (!log.includes('downloading')) await new Promise((resolve) => setTimeout(resolve, 5));
        const start = performance.now();
        await first.cancel();
        told((await first.done).cancelled ? 'cancelled' : 'not cancelled');
        const cancel_ms = performance.now() - start;
        await fetch('{0}/release');
        const {{ pictures: [early] }} = await darkroom.generate(request, {{ on_progress: ({{ stage }}) => told(stage) }}).done;
        await download;
        await darkroom.load({{ kept: '{REPO}', runner: 'cpu' }});
        const {{ pictures: [late] }} = await darkroom.generate(request).done;
        darkroom.close();
        return {{ log, cancel_ms, same: early.png.every((byte, i) => byte === late.png[i]) }};",
        hub.endpoint
    ));
    let entries: Vec<&str> = log["log"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let at = |what: &str| entries.iter().position(|entry| *entry == what).unwrap_or_else(|| panic!("{what}: {log}"));
    assert!(at("loaded") < at("cancelled") && at("cancelled") < at("downloaded"), "{log}");
    assert_eq!(entries[at("loaded") + 1..=at("cancelled")], ["downloading", "cancelled"], "{log}");
    assert_eq!(log["same"], true, "{log}");
    assert!(log["cancel_ms"].as_f64() < Some(20_000.0), "{log}");
}

/// The wasm's memory may have this many bytes while a model of any size goes through it.
const MAX_HEAP_BYTES: f64 = (64 << 20) as f64;

#[test]
fn a_gigabyte_goes_through_a_small_heap() {
    let hub = Hub::start(large::large_model());
    let streamed = large::stream(&Browser::start(), &browser::page_url(), &hub);
    assert!(streamed.bytes > 1e9 && streamed.heap_bytes <= MAX_HEAP_BYTES, "{streamed:?}");
    println!("{streamed:?}");
}
