//! A headless Chromium or Firefox, driven over WebDriver, and the web server that it opens the page from.

#[path = "driver.rs"]
mod driver;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use darkroom::image::RgbImage;
use driver::Driver;
use serde_json::{Value, json};

/// How long anything on the page may take: a busy machine takes seconds, not this.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// How long a browser may take to close before it is ended by force.
const CLOSE: Duration = Duration::from_secs(30);

/// The key that WebDriver calls Tab, and others.
pub mod keys {
    pub const TAB: char = '\u{e004}';
    pub const ENTER: char = '\u{e007}';
    pub const SHIFT: char = '\u{e008}';
    pub const CONTROL: char = '\u{e009}';
    pub const ESCAPE: char = '\u{e00c}';
    pub const ALT: char = '\u{e00a}';
    pub const UP: char = '\u{e013}';
    pub const RIGHT: char = '\u{e014}';
    pub const DOWN: char = '\u{e015}';
    pub const SPACE: char = '\u{e00d}';
}

/// A browser's options in `webdriver.json`. Two of Chromium's only save time. With code that clears workgroup memory,
/// SwiftShader compiles the embedded model's pipelines for 88 s; with `disable_workgroup_init` it takes 18. No kernel reads what
/// it has not written; natively that memory is not cleared either. The disabled features are hidden pages behind the address bar,
/// which cost each browser 1.3 s of processor time.
fn options_of(browser: &str) -> Value {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("webdriver.json");
    let config = std::fs::read_to_string(config).expect("webdriver.json");
    serde_json::from_str::<Value>(&config).expect("valid JSON")[browser].take()
}

/// The driver of Firefox: the one that is named, the one that `build.sh setup` built, or whichever is installed.
fn geckodriver() -> String {
    if let Ok(name) = std::env::var("GECKODRIVER") {
        return name;
    }
    let home = std::env::var_os("HOME").unwrap_or_default();
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| Path::new(&home).join(".cache"), Into::into);
    let built = std::fs::read_dir(cache.join("darkroom")).into_iter().flatten().filter_map(Result::ok);
    let mut built: Vec<_> = built.map(|entry| entry.path().join("bin/geckodriver")).filter(|p| p.is_file()).collect();
    built.sort();
    built.pop().map_or_else(|| "geckodriver".into(), |path| path.display().to_string())
}

/// A running driver with one browser window. Both end when it is dropped, also when a test fails.
pub struct Browser {
    driver: Driver,
    agent: ureq::Agent,
    session_url: String,
    process_id: Option<u64>,
}

/// JavaScript: a function that gives the files of the model that comes with the page, by their paths.
pub const EMBEDDED_FILES: &str = "async () => {
    const listing = await (await fetch('hub/api/models/darkroom/tiny-emoji/tree/main')).json();
    const files = new Map();
    for (const { path } of listing.filter(({ type }) => type === 'file'))
        files.set(path, await (await fetch(`hub/darkroom/tiny-emoji/resolve/main/${path}`)).blob());
    return files;
}";

impl Browser {
    /// Starts Chromium with the flags of `webdriver.json`.
    pub fn start() -> Self {
        Self::start_with(|_| true)
    }

    /// Starts Chromium and opens the page, with the model that comes with it.
    #[allow(dead_code, reason = "for the tests of the page")]
    pub fn on_page() -> Self {
        let browser = Self::start();
        browser.open_page(&page_url());
        browser
    }

    /// Starts Chromium with those flags of `webdriver.json` that pass `keep`.
    pub fn start_with(keep: impl Fn(&str) -> bool) -> Self {
        Self::start_chromium(keep, &[], false)
    }

    /// Starts Chromium on a profile that outlives it.
    #[allow(dead_code, reason = "for the tests of downloads")]
    pub fn start_in(profile: &Path) -> Self {
        Self::start_chromium(|_| true, &[format!("--user-data-dir={}", profile.display())], false)
    }

    /// Starts Chromium, which writes what its network does into a file. The file is whole when the browser has ended.
    #[allow(dead_code, reason = "for the tests of what is asked for")]
    pub fn start_logged(log: &Path) -> Self {
        Self::start_chromium(|_| true, &[format!("--log-net-log={}", log.display())], false)
    }

    /// Starts Chromium, which traces what its threads do: see [`Browser::trace`].
    #[allow(dead_code, reason = "for the tests of time")]
    pub fn start_traced() -> Self {
        Self::start_chromium(|_| true, &[], true)
    }

    fn start_chromium(keep: impl Fn(&str) -> bool, more: &[String], is_traced: bool) -> Self {
        let mut options = options_of("goog:chromeOptions");
        let flags = options["args"].as_array_mut().expect("a list of flags");
        flags.retain(|flag| flag.as_str().is_some_and(&keep));
        flags.push("--window-size=1280,900".into());
        flags.extend(more.iter().map(|flag| flag.as_str().into()));
        let mut logs = json!({ "browser": "ALL" });
        if is_traced {
            options["perfLoggingPrefs"] = json!({ "enableNetwork": false, "enablePage": false,
                "traceCategories": "toplevel,blink.user_timing" });
            logs["performance"] = "ALL".into();
        }
        let capabilities = json!({ "goog:chromeOptions": options, "goog:loggingPrefs": logs });
        let name = std::env::var("CHROMEDRIVER").unwrap_or_else(|_| "chromedriver".into());
        Self::open_session(&name, &["--port=0"], "started successfully on port ", capabilities)
    }

    /// Starts Firefox with the settings of `webdriver.json`.
    pub fn start_firefox() -> Self {
        let capabilities = json!({ "moz:firefoxOptions": options_of("moz:firefoxOptions") });
        Self::open_session(&geckodriver(), &["--port", "0"], "Listening on 127.0.0.1:", capabilities)
    }

    /// Starts a driver, which prints its port behind `before_port`, and a browser: again where one of them does not come up.
    fn open_session(name: &str, arguments: &[&str], before_port: &'static str, mut capabilities: Value) -> Self {
        // A script of a test that waits for the page to draw may wait long.
        capabilities["timeouts"] = json!({ "script": PATIENCE.as_millis() as u64 });
        let session = json!({ "capabilities": { "alwaysMatch": capabilities } });
        driver::until_it_starts(|| {
            Driver::start(name, arguments, before_port).and_then(|driver| Self::in_session(driver, &session))
        })
    }

    fn in_session(driver: Driver, session: &Value) -> Result<Self, String> {
        // A driver that does not answer any more is no reason to wait for ever. It has time for the longest script.
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(2 * PATIENCE));
        let agent = config.build().into();
        let session_url = format!("http://127.0.0.1:{}/session", driver.port);
        let mut browser = Self { driver, agent, session_url, process_id: None };
        let session =
            browser.request("", session).map_err(|refusal| format!("{refusal}\n{}", browser.driver.last_lines()))?;
        let id = session["sessionId"].as_str().ok_or_else(|| format!("no session: {session}"))?;
        browser.session_url = format!("{}/{id}", browser.session_url);
        let capabilities = &session["capabilities"];
        browser.process_id = capabilities["goog:processID"].as_u64().or_else(|| capabilities["moz:processID"].as_u64());
        Ok(browser)
    }

    /// Ends Chromium as a crash or a cut of power does, without a word to it.
    #[allow(dead_code, reason = "for the tests of downloads")]
    pub fn kill(self) {
        let id = self.process_id.expect("chromedriver tells the process");
        let status = Command::new("kill").args(["-9", &id.to_string()]).status().expect("kill");
        assert!(status.success(), "process {id}");
    }

    /// Bytes of memory that all processes of the browser hold, without pages of files, which the system drops where it needs room.
    /// Linux only.
    #[allow(dead_code, reason = "for the tests of memory")]
    pub fn held_bytes(&self) -> u64 {
        // Behind the name in brackets: the state, and the parent.
        let parent_of = |id: u64| {
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
            stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u64>().ok()
        };
        let names = std::fs::read_dir("/proc").expect("Linux").filter_map(Result::ok).map(|entry| entry.file_name());
        let ids = names.filter_map(|name| name.to_str()?.parse::<u64>().ok());
        let parents: Vec<(u64, u64)> = ids.filter_map(|id| Some((id, parent_of(id)?))).collect();
        let mut family = vec![self.process_id.expect("the driver tells the process")];
        let mut n_looked_at = 0;
        while let Some(&id) = family.get(n_looked_at) {
            family.extend(parents.iter().filter(|(_, parent)| *parent == id).map(|(child, _)| child));
            n_looked_at += 1;
        }
        // A process may end meanwhile.
        let rollups = family.iter().filter_map(|id| std::fs::read_to_string(format!("/proc/{id}/smaps_rollup")).ok());
        let of_interest = |line: &&str| line.starts_with("Pss_Anon:") || line.starts_with("Pss_Shmem:");
        let kilobytes = |rollup: String| -> u64 {
            let lines = rollup.lines().filter(of_interest);
            lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
        };
        1024 * rollups.map(kilobytes).sum::<u64>()
    }

    /// Sends one WebDriver command and gives its `value`.
    pub fn post(&self, command: &str, body: Value) -> Value {
        self.request(command, &body)
            .unwrap_or_else(|refusal| panic!("{refusal}\nthe driver said\n{}", self.driver.last_lines()))
    }

    fn request(&self, command: &str, body: &Value) -> Result<Value, String> {
        let url = format!("{}{command}", self.session_url);
        let mut reply = self.agent.post(&url).send_json(body).map_err(|e| format!("{url}: {e}"))?;
        let status = reply.status();
        let reply = reply.body_mut().with_config().limit(1 << 30).read_json::<Value>();
        let mut reply = reply.map_err(|e| format!("{url}: no JSON from the driver: {e}"))?;
        if status.is_success() { Ok(reply["value"].take()) } else { Err(format!("{command}: {}", reply["value"])) }
    }

    pub fn open(&self, url: &str) {
        self.post("/url", json!({ "url": url }));
    }

    pub fn reload(&self) {
        self.post("/refresh", json!({}));
    }

    /// Evaluates a JavaScript expression in the page.
    pub fn eval(&self, expression: &str) -> Value {
        self.post("/execute/sync", json!({ "script": format!("return {expression};"), "args": [] }))
    }

    /// Runs the body of an async function in the page and gives what it returns.
    pub fn run(&self, body: &str) -> Value {
        let script = format!(
            "const done = arguments[0]; (async () => {{ {body} }})().then((value) => done({{ value }}),
            (error) => done({{ error: `${{error.message}} ${{error.stack}}` }}));"
        );
        let mut result = self.post("/execute/async", json!({ "script": script, "args": [] }));
        assert!(result.get("error").is_none(), "{}", result["error"]);
        result["value"].take()
    }

    /// Clicks the first element of a selector.
    pub fn click(&self, selector: &str) {
        self.eval(&format!("document.querySelector({}).click()", json!(selector)));
    }

    /// Clicks the first element of a selector that has this text or name.
    #[allow(dead_code, reason = "for the tests of the page")]
    pub fn click_labelled(&self, selector: &str, label: &str) {
        let (selector, label) = (json!(selector), json!(label));
        self.eval(&format!(
            "[...document.querySelectorAll({selector})].find((each) => [each.textContent, each.ariaLabel].includes({label})).click()"
        ));
    }

    /// A command of Chromium's own protocol, and its answer.
    #[allow(dead_code, reason = "for the tests of the page")]
    pub fn cdp(&self, command: &str, parameters: &Value) -> Value {
        self.post("/goog/cdp/execute", json!({ "cmd": command, "params": parameters }))
    }

    pub fn text(&self, selector: &str) -> String {
        // Chromium's `innerText` is empty until what is behind `content-visibility: auto` is laid out, even for hidden
        // elements, whose `innerText` should be their `textContent`.
        let script = "(selector) => {
            const element = document.querySelector(selector);
            if (element && !element.checkVisibility()) return element.textContent;
            for (let each = element; each; each = each.parentElement)
                if (getComputedStyle(each).contentVisibility === 'auto') return element.innerText || element.textContent;
            return element?.innerText;
        }";
        self.eval(&format!("({script})({})", json!(selector))).as_str().unwrap_or_default().into()
    }

    /// Errors and warnings of the page and its worker; Chromium alone tells.
    pub fn console(&self) -> Vec<String> {
        let entries = self.post("/se/log", json!({ "type": "browser" }));
        let of_interest = |entry: &&Value| matches!(entry["level"].as_str(), Some("SEVERE" | "WARNING"));
        entries.as_array().into_iter().flatten().filter(of_interest).map(|entry| entry["message"].to_string()).collect()
    }

    /// What the threads of a traced browser did since the last call, as events of the trace format of Chromium.
    #[allow(dead_code, reason = "for the tests of time")]
    pub fn trace(&self) -> Vec<Value> {
        let entries = self.post("/se/log", json!({ "type": "performance" }));
        let messages = entries.as_array().into_iter().flatten().filter_map(|entry| entry["message"].as_str());
        let messages = messages.filter_map(|message| serde_json::from_str::<Value>(message).ok());
        let traced = messages.filter(|message| message["message"]["method"] == "Tracing.dataCollected");
        traced.map(|mut message| message["message"]["params"].take()).collect()
    }

    /// The console for a failure's message.
    fn console_if_any(&self) -> Vec<String> {
        let is_chromium = self.eval("navigator.userAgent.includes('Chrom')") == true;
        if is_chromium { self.console() } else { Vec::new() }
    }

    /// Waits until a JavaScript expression is true.
    pub fn wait_until(&self, expression: &str) {
        let start = Instant::now();
        // A question costs the browser some milliseconds, which it has to draw with.
        let mut pause = Duration::from_millis(20);
        while self.eval(&format!("Boolean({expression})")) != true {
            let late = start.elapsed() > PATIENCE;
            assert!(!late, "not in {PATIENCE:?}: {expression}\n{}\n{:?}", self.text("body"), self.console_if_any());
            std::thread::sleep(pause);
            pause = (pause * 3 / 2).min(Duration::from_millis(100));
        }
    }

    /// Opens the page and waits until its model is loaded.
    pub fn open_page(&self, url: &str) {
        self.open(url);
        self.wait_until_idle();
        assert_eq!(self.eval("document.getElementById('device').dataset.state"), "ready", "{}", self.text("body"));
    }

    /// Waits until nothing is loaded or drawn.
    pub fn wait_until_idle(&self) {
        self.wait_until("document.documentElement.dataset.state === 'ready'");
    }

    /// Fills fields of the form in, by id.
    pub fn fill(&self, fields: &[(&str, &str)]) {
        let script = format!(
            "(() => {{ for (const [id, value] of {}) {{ const field = document.getElementById(id);
            field.value = value; field.dispatchEvent(new Event('input', {{ bubbles: true }})); }}
            document.querySelector('[name=next-seed][value=keep]').checked = true; }})()",
            json!(fields)
        );
        self.eval(&script);
    }

    /// Fills the form in and presses Draw.
    pub fn ask_for(&self, prompt: &str, steps: usize) {
        self.fill(&[("prompt", prompt), ("steps", &steps.to_string()), ("guidance", "4"), ("seed", "1")]);
        self.click("#draw");
    }

    /// Draws a picture and waits until it hangs in the gallery.
    pub fn draw(&self, prompt: &str, steps: usize) {
        let n = self.n_pictures();
        self.ask_for(prompt, steps);
        self.wait_until(&format!("document.querySelectorAll('.card').length > {n}"));
        self.wait_until_idle();
    }

    pub fn n_pictures(&self) -> u64 {
        self.eval("document.querySelectorAll('.card').length").as_u64().expect("a number")
    }

    /// The newest picture of the gallery.
    pub fn newest_picture(&self) -> RgbImage {
        self.picture_at(0)
    }

    /// A picture of the gallery, counted from the newest.
    pub fn picture_at(&self, place: usize) -> RgbImage {
        // The card itself shows a small copy of a large picture.
        self.pixels(&format!(
            "const image = new Image();
            image.src = document.querySelectorAll('.card')[{place}].querySelector('a[download]').href;
            await image.decode();
            return image;"
        ))
    }

    /// The pixels of an image or a bitmap, which the body of an async function gives.
    pub fn pixels(&self, body: &str) -> RgbImage {
        picture(&self.run(&format!(
            "const image = await (async () => {{ {body} }})();
            const canvas = new OffscreenCanvas(image.naturalWidth ?? image.width, image.naturalHeight ?? image.height);
            const context = canvas.getContext('2d');
            context.drawImage(image, 0, 0);
            return [canvas.width, canvas.height, Array.from(context.getImageData(0, 0, canvas.width, canvas.height).data)];"
        )))
    }

    /// Imports a copy of the model that comes with the page under another name, and tells the other tabs.
    pub fn import_embedded(&self, name: &str) {
        self.run(&format!(
            "const {{ Darkroom }} = await import('./darkroom.js');
            const {{ broadcast }} = await import('./page/channel.js');
            const darkroom = await Darkroom.open();
            await darkroom.import({name:?}, await ({EMBEDDED_FILES})());
            broadcast({{ type: 'models' }});
            darkroom.close();"
        ));
    }

    /// Chooses what draws, and waits for the model.
    pub fn choose_runner(&self, runner: &str, name: &str) {
        self.eval(&format!(
            "(() => {{ const select = document.getElementById('runner'); select.value = '{runner}';
            select.dispatchEvent(new Event('change')); }})()"
        ));
        self.wait_until_idle();
        assert!(self.text("#device").ends_with(&format!("· {name}")), "{}", self.text("#device"));
    }

    /// Presses keys one after another; a modifier is held for the key behind it.
    pub fn press(&self, chars: &[char]) {
        let mut actions = Vec::new();
        let mut held = Vec::new();
        for key in chars {
            actions.push(json!({ "type": "keyDown", "value": key }));
            if [keys::SHIFT, keys::CONTROL, keys::ALT].contains(key) {
                held.push(*key);
                continue;
            }
            actions.push(json!({ "type": "keyUp", "value": key }));
            for key in held.drain(..) {
                actions.push(json!({ "type": "keyUp", "value": key }));
            }
        }
        self.post("/actions", json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] }));
    }

    /// The focused element's id.
    pub fn focus(&self) -> String {
        self.eval("document.activeElement.id").as_str().unwrap_or_default().into()
    }

    /// Drags a pointer of that kind (`mouse`, `touch`) over an element, from and to parts of its width and height.
    pub fn drag(&self, selector: &str, kind: &str, from: (f64, f64), to: (f64, f64)) {
        let script = format!(
            "(() => {{ const element = document.querySelector({}); element.scrollIntoView({{ block: 'center' }});
            const box = element.getBoundingClientRect(); return [box.left, box.top, box.width, box.height]; }})()",
            json!(selector)
        );
        let place = self.eval(&script);
        let number = |i: usize| place[i].as_f64().expect("a number");
        let at = |(x, y): (f64, f64)| {
            json!({ "type": "pointerMove", "duration": 100, "x": (number(0) + x * number(2)).round(),
                "y": (number(1) + y * number(3)).round() })
        };
        let (down, up) = (json!({ "type": "pointerDown", "button": 0 }), json!({ "type": "pointerUp", "button": 0 }));
        let source = json!({ "type": "pointer", "id": kind, "parameters": { "pointerType": kind },
            "actions": [at(from), down, at(to), up] });
        self.post("/actions", json!({ "actions": [source] }));
    }

    /// Gives a file to a file input.
    pub fn choose_file(&self, selector: &str, path: &Path) {
        let element = self.post("/element", json!({ "using": "css selector", "value": selector }));
        let id = element.as_object().and_then(|ids| ids.values().next()).and_then(Value::as_str).expect("an element");
        self.post(&format!("/element/{id}/value"), json!({ "text": path.display().to_string() }));
    }
}

/// A picture from `[width, height, RGBA levels]`.
pub fn picture(value: &Value) -> RgbImage {
    let side = |i: usize| value[i].as_u64().expect("a number") as usize;
    let rgba: Vec<u8> =
        value[2].as_array().expect("pixels").iter().map(|n| n.as_u64().expect("a level") as u8).collect();
    RgbImage::new(side(0), side(1), rgba.chunks_exact(4).flat_map(|pixel| pixel[..3].to_vec()).collect())
        .expect("a picture")
}

/// The largest difference of a level.
pub fn difference(a: &RgbImage, b: &RgbImage) -> u8 {
    assert_eq!((a.width, a.height), (b.width, b.height));
    a.pixels.iter().zip(&b.pixels).map(|(a, b)| a.abs_diff(*b)).max().expect("pixels")
}

/// The mean of the squared differences of levels.
pub fn mean_square(a: &RgbImage, b: &RgbImage) -> f64 {
    assert_eq!((a.width, a.height), (b.width, b.height));
    let sum: f64 = a.pixels.iter().zip(&b.pixels).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
    sum / a.pixels.len() as f64
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Deleting the session closes the browser. This must not panic, because a failing test may be the reason.
        let closed = self.agent.delete(&self.session_url).config().timeout_global(Some(CLOSE)).build().call();
        let Some(id) = self.process_id.filter(|_| !closed.is_ok_and(|reply| reply.status().is_success())) else {
            return;
        };
        // Left alone it would go on computing, beside the tests that follow. It may have ended long ago.
        if let Err(error) = Command::new("kill").args(["-9", &id.to_string()]).stderr(Stdio::null()).status() {
            eprintln!("could not end the browser: {error}");
        }
    }
}

/// The folder of the page, which `build.sh wasm` completes.
pub fn www() -> std::path::PathBuf {
    let www = Path::new(env!("CARGO_MANIFEST_DIR")).join("www");
    assert!(www.join("pkg/darkroom_bg.wasm").is_file(), "www/pkg is missing: run `./build.sh wasm` first");
    www
}

/// Serves a folder on a free port for the rest of the process, and gives its address.
pub fn serve(folder: &Path) -> String {
    serve_all(vec![folder.to_path_buf()])
}

/// Serves several folders as if they were one.
pub fn serve_all(folders: Vec<PathBuf>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    std::thread::spawn(move || crate::folder::serve(&folders, &listener).expect("the server to run"));
    url
}

/// Serves a folder as a plain host does, without what isolates the page.
#[allow(dead_code, reason = "for the tests of threads")]
pub fn serve_plainly(folder: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let folder = folder.to_path_buf();
    std::thread::spawn(move || crate::folder::serve_plainly(&[folder], &listener).expect("the server to run"));
    url
}

/// Serves the page.
pub fn page_url() -> String {
    serve(&www())
}

/// Says that there is no GPU to test, where `DARKROOM_NO_GPU=1` says so.
pub fn has_no_gpu() -> bool {
    let is_set = std::env::var_os("DARKROOM_NO_GPU").is_some_and(|value| value == "1");
    if is_set {
        eprintln!("skipped, because DARKROOM_NO_GPU=1 says that there is no GPU here");
    }
    is_set
}
