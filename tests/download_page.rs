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

use std::time::{Duration, Instant};

use browser::Browser;
use darkroom::store::{CHUNK_BYTES, sha256_hex};
use hub_server::{Fault, Hub, REPO, UNET, model, needed_bytes};
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
    assert_eq!(browser.console(), Vec::<String>::new());
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
        hub.order(UNET, Fault::Throttle(20), usize::MAX);
        // The first chunks come fast, the rest slowly.
        hub.behave();
        hub.order(UNET, Fault::Delay(0), 2);
        hub.order(UNET, Fault::Throttle(200), usize::MAX);
        tab.start();
        tab.wait_for_unet(2 * CHUNK_BYTES);
        match gone {
            "reloaded" => browser.reload(),
            "killed" => {
                let old = browser.eval("1") == 1;
                assert!(old);
                let window = browser.post("/window/new", json!({ "type": "tab" }));
                let handles = browser.run("return 0;");
                assert_eq!(handles, 0);
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
                assert!(start.elapsed() < Duration::from_secs(2), "it stops at once");
            }
        }
        hub.behave();
        tab.load();
        let missing = tab.missing_bytes();
        assert!(missing <= needed_bytes(&hub.files) - 2 * CHUNK_BYTES, "{gone}: {missing} bytes are missing");
        // Threads of the server that still write to a connection that is gone must not be counted.
        std::thread::sleep(Duration::from_millis(500));
        hub.take_body_bytes();
        let report = tab.download();
        assert_eq!(report["complete"], true, "{gone}: {report}");
        assert_eq!(hub.take_body_bytes() as u64, missing, "{gone}: what was there is not fetched again");
        tab.assert_bit_for_bit();
    }
}
