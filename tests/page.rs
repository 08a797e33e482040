//! The page from end to end: headless Chromium, driven over WebDriver, opens `www/` from a real web server.
//!
//! Needs `www/pkg` (`build.sh wasm`), Chromium and its driver, so `cargo test` leaves it out and `build.sh test page`
//! runs it.
#![cfg(not(target_arch = "wasm32"))]

#[path = "../src/bin/darkroom/serve.rs"]
mod serve;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long the page may take to find its GPU, load its model or draw a picture: loading a debug-sized wasm on a busy machine takes seconds, not this.
const READY_SECS: u64 = 300;

/// A running chromedriver with one browser window. Both end when it is dropped, also when a test fails.
struct Browser {
    driver: Child,
    session_url: String,
}

impl Browser {
    /// Starts Chromium with those flags of `webdriver.json` that pass `keep`.
    fn start(keep: impl Fn(&str) -> bool) -> Self {
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("webdriver.json");
        let mut capabilities: Value =
            serde_json::from_str(&std::fs::read_to_string(config).expect("webdriver.json")).expect("valid JSON");
        let flags = capabilities["goog:chromeOptions"]["args"].as_array_mut().expect("a list of flags");
        flags.retain(|flag| flag.as_str().is_some_and(&keep));
        capabilities["goog:loggingPrefs"] = json!({ "browser": "ALL" });

        // Port 0 lets the driver choose a free one, which it then prints.
        let name = std::env::var("CHROMEDRIVER").unwrap_or_else(|_| "chromedriver".into());
        let mut driver = Command::new(&name)
            .arg("--port=0")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{name}: {e}; `./build.sh setup` installs it"));
        let port: u16 = BufReader::new(driver.stdout.take().expect("piped"))
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("started successfully on port ")?.1.trim_end_matches('.').parse().ok())
            .expect("chromedriver to print its port");
        // From here on the driver is ended by `drop`, whatever goes wrong.
        let mut browser = Self { driver, session_url: format!("http://127.0.0.1:{port}/session") };
        let session = browser.post("", json!({ "capabilities": { "alwaysMatch": capabilities } }));
        let id = session["sessionId"].as_str().expect("a session").to_owned();
        browser.session_url = format!("{}/{id}", browser.session_url);
        browser
    }

    /// Sends one WebDriver command and gives its `value`.
    fn post(&self, command: &str, body: Value) -> Value {
        let url = format!("{}{command}", self.session_url);
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut reply = agent.post(&url).send_json(body).unwrap_or_else(|e| panic!("{url}: {e}"));
        let mut reply_json: Value = reply.body_mut().read_json().expect("JSON from the driver");
        assert!(reply.status().is_success(), "{command}: {}", reply_json["value"]);
        reply_json["value"].take()
    }

    fn open(&self, url: &str) {
        self.post("/url", json!({ "url": url }));
    }

    /// Evaluates a JavaScript expression in the page.
    fn eval(&self, expression: &str) -> Value {
        self.post("/execute/sync", json!({ "script": format!("return {expression};"), "args": [] }))
    }

    fn text(&self, selector: &str) -> String {
        self.eval(&format!("document.querySelector({}).innerText", json!(selector))).as_str().unwrap_or_default().into()
    }

    /// Errors and warnings of the page and its worker.
    fn console(&self) -> Vec<String> {
        let entries = self.post("/se/log", json!({ "type": "browser" }));
        let of_interest = |entry: &&Value| matches!(entry["level"].as_str(), Some("SEVERE" | "WARNING"));
        entries.as_array().into_iter().flatten().filter(of_interest).map(|entry| entry["message"].to_string()).collect()
    }

    /// Waits until the page has made up its mind about the GPU, and gives its verdict: `ready` or `error`.
    fn verdict(&self) -> String {
        self.state_of("#status")
    }

    /// Waits until a line of status is `ready` or `error`.
    fn state_of(&self, selector: &str) -> String {
        let start = Instant::now();
        loop {
            let state = self.eval(&format!("document.querySelector({})?.dataset.state", json!(selector)));
            match state.as_str() {
                Some(verdict @ ("ready" | "error")) => return verdict.into(),
                _ if start.elapsed() > Duration::from_secs(READY_SECS) => {
                    panic!("no verdict after {READY_SECS} s: {}\n{:?}", self.text("body"), self.console())
                }
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Deleting the session closes Chromium. This must not panic, because a failing test may be the reason.
        if let Err(error) = ureq::delete(&self.session_url).call() {
            eprintln!("could not close the browser: {error}");
        }
        if let Err(error) = self.driver.kill().and_then(|()| self.driver.wait()) {
            eprintln!("could not end chromedriver: {error}");
        }
    }
}

/// Serves `www/` on a free port for the rest of the process, and gives the page's address.
fn page_url() -> String {
    let www = Path::new(env!("CARGO_MANIFEST_DIR")).join("www");
    assert!(www.join("pkg/darkroom_bg.wasm").is_file(), "www/pkg is missing: run `./build.sh wasm` first");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    std::thread::spawn(move || serve::serve(&www, &listener).expect("the server to run"));
    url
}

#[test]
fn the_page_shows_the_adapter_and_its_limits() {
    if std::env::var_os("DARKROOM_NO_GPU").is_some_and(|value| value == "1") {
        eprintln!("skipped, because DARKROOM_NO_GPU=1 says that there is no GPU here");
        return;
    }
    let browser = Browser::start(|_| true);
    let start = Instant::now();
    browser.open(&page_url());
    let verdict = browser.verdict();
    eprintln!("ready after {:.2} s", start.elapsed().as_secs_f64());
    assert_eq!(verdict, "ready", "{}\n{:?}", browser.text("#status"), browser.console());
    assert!(!browser.text("#adapter").trim().is_empty(), "the adapter has no name");
    assert!(browser.text("#kind").contains("software"), "webdriver.json asks for the software adapter");
    assert!(["yes", "no"].contains(&browser.text("#f16").as_str()));
    let max_binding = browser.text("#max-binding");
    let (value, unit) = max_binding.split_once(' ').expect("a number and a unit");
    assert!(value.parse::<f64>().is_ok_and(|value| value > 0.0) && ["MiB", "GiB"].contains(&unit), "{max_binding}");
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}

#[test]
fn the_page_says_so_when_there_is_no_gpu() {
    let browser = Browser::start(|flag| !flag.contains("webgpu"));
    browser.open(&page_url());
    assert_eq!(browser.verdict(), "error", "{}", browser.text("body"));
    let status = browser.text("#status");
    assert!(status.contains("no adapter was found"), "{status}");
    assert!(!browser.eval("document.querySelector('#caps').checkVisibility()").as_bool().expect("a boolean"));
}

/// Fills the form in and presses Ctrl-Enter, as a reader without a mouse does.
fn draw(browser: &Browser, prompt: &str, steps: usize) {
    let script = format!(
        "(() => {{ for (const [id, value] of {}) document.getElementById(id).value = value;
        document.getElementById('random').checked = false;
        document.getElementById('prompt').dispatchEvent(new Event('input'));
        dispatchEvent(new KeyboardEvent('keydown', {{ key: 'Enter', ctrlKey: true }})); }})()",
        json!([["prompt", prompt], ["steps", steps.to_string()], ["guidance", "4"], ["seed", "1"]])
    );
    browser.eval(&script);
}

/// The newest picture's width, height and RGB pixels.
fn newest_picture(browser: &Browser) -> (usize, usize, Vec<u8>) {
    let script = "(() => { const image = document.querySelector('figure img');
        const canvas = document.createElement('canvas');
        [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
        const context = canvas.getContext('2d');
        context.drawImage(image, 0, 0);
        return [canvas.width, canvas.height, Array.from(context.getImageData(0, 0, canvas.width, canvas.height).data)]; })()";
    let picture = browser.eval(script);
    let side = |i: usize| picture[i].as_u64().expect("a number") as usize;
    let rgba: Vec<u8> =
        picture[2].as_array().expect("pixels").iter().map(|n| n.as_u64().expect("a level") as u8).collect();
    (side(0), side(1), rgba.chunks_exact(4).flat_map(|pixel| pixel[..3].to_vec()).collect())
}

#[test]
fn a_prompt_becomes_the_picture_that_diffusers_draws_and_escape_stops() {
    let browser = Browser::start(|_| true);
    browser.open(&page_url());
    assert_eq!(browser.state_of("#model"), "ready", "{}", browser.text("body"));

    // A drawing of minutes, stopped once it is under way.
    draw(&browser, "a rocket on a black background", 150);
    let start = Instant::now();
    while !browser.text("#model").starts_with("Step ") {
        assert!(start.elapsed().as_secs() < READY_SECS, "no step after {READY_SECS} s: {}", browser.text("body"));
        std::thread::sleep(Duration::from_millis(20));
    }
    browser.eval("dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape' }))");
    assert_eq!(browser.state_of("#model"), "ready", "{}", browser.text("body"));
    assert_eq!(browser.text("#model"), "Stopped.");
    assert_eq!(browser.eval("document.querySelectorAll('figure').length"), 0);

    draw(&browser, "a red apple on a blue background", 6);
    assert_eq!(browser.state_of("#model"), "ready", "{}", browser.text("body"));
    assert!(browser.text("#model").starts_with("Done in "), "{}", browser.text("#model"));
    eprintln!("{}", browser.text("#model"));
    let start = Instant::now();
    while browser.eval("document.querySelector('figure img')?.complete") != true {
        assert!(start.elapsed().as_secs() < READY_SECS, "the picture does not load");
        std::thread::sleep(Duration::from_millis(20));
    }
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/emoji/apple.png");
    let expected = darkroom::image::decode(&std::fs::read(fixture).expect("the fixture")).expect("a picture");
    let (width, height, pixels) = newest_picture(&browser);
    assert_eq!((width, height), (expected.width, expected.height));
    let max = pixels.iter().zip(&expected.pixels).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(max.is_some_and(|max| max <= 2), "the picture differs from diffusers' by {max:?} levels");

    // A request that cannot be drawn says what would work, and the page goes on.
    draw(&browser, &"apple ".repeat(100), 6);
    assert_eq!(browser.state_of("#model"), "ready", "{}", browser.text("body"));
    assert!(browser.text("#model").contains("could not read the end of the prompt"), "{}", browser.text("#model"));
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}

/// Chooses what draws and waits for the model.
fn choose_runner(browser: &Browser, runner: &str) {
    browser.eval(&format!(
        "(() => {{ const select = document.getElementById('runner'); select.value = {};
        document.getElementById('model').dataset.state = 'waiting';
        select.dispatchEvent(new Event('change')); }})()",
        json!(runner)
    ));
    assert_eq!(browser.state_of("#model"), "ready", "{}", browser.text("body"));
    assert!(browser.text("#model").contains(&format!("by {runner} (")), "{}", browser.text("#model"));
}

/// Both runners in one browser, from one request: the software adapter is slow, so two steps have to do.
#[test]
fn the_gpu_draws_the_processors_picture() {
    if std::env::var_os("DARKROOM_NO_GPU").is_some_and(|value| value == "1") {
        eprintln!("skipped, because DARKROOM_NO_GPU=1 says that there is no GPU here");
        return;
    }
    let browser = Browser::start(|_| true);
    browser.open(&page_url());
    assert_eq!(browser.state_of("#model"), "ready", "{}", browser.text("body"));
    let mut pictures = Vec::new();
    for runner in ["cpu", "gpu"] {
        choose_runner(&browser, runner);
        draw(&browser, "a red apple on a blue background", 2);
        assert_eq!(browser.state_of("#model"), "ready", "{}", browser.text("body"));
        eprintln!("{runner}: {}", browser.text("#model"));
        let start = Instant::now();
        let n_figures = pictures.len() + 1;
        let loaded = format!(
            "document.querySelectorAll('figure').length === {n_figures} && document.querySelector('figure img').complete"
        );
        while browser.eval(&loaded) != true {
            assert!(start.elapsed().as_secs() < READY_SECS, "no picture: {}", browser.text("body"));
            std::thread::sleep(Duration::from_millis(20));
        }
        pictures.push(newest_picture(&browser));
    }
    assert_eq!(pictures[0].0, pictures[1].0);
    let max = pictures[0].2.iter().zip(&pictures[1].2).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(max.is_some_and(|max| max <= 2), "the pictures differ by {max:?} levels");
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}
