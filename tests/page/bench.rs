//! The benchmark page: what it measures is there in words and as JSON, and what cannot be measured is said.

use serde_json::Value;

use super::browser::{Browser, page_url};

fn choose(browser: &Browser, id: &str, value: &str) {
    browser.eval(&format!(
        "(() => {{ const field = document.getElementById('{id}'); field.value = '{value}';
        field.dispatchEvent(new Event('input', {{ bubbles: true }}));
        field.dispatchEvent(new Event('change', {{ bubbles: true }})); }})()"
    ));
}

#[test]
fn a_part_is_timed_and_told_as_json() {
    let browser = Browser::start();
    browser.open(&format!("{}bench.html", page_url()));
    browser.wait_until("document.documentElement.dataset.state === 'ready'");
    assert!(browser.text("#device").contains("software on the CPU"), "{}", browser.text("#device"));

    // A size that the model does not have, and one that it has.
    choose(&browser, "width", "100");
    browser.wait_until("document.getElementById('needs').dataset.state === 'error'");
    assert!(browser.text("#needs").contains("multiples of 64"), "{}", browser.text("#needs"));
    assert_eq!(browser.eval("document.getElementById('start').disabled"), true);
    choose(&browser, "width", "128");
    browser.wait_until("document.getElementById('needs').dataset.state === 'ok'");
    assert!(browser.text("#needs").contains("GPU memory"), "{}", browser.text("#needs"));

    choose(&browser, "runner", "cpu");
    choose(&browser, "runs", "2");
    for part in ["unet", "vae_decoder"] {
        browser.click(&format!("[value={part}]"));
    }
    browser.wait_until("!document.getElementById('start').disabled");
    browser.click("#start");
    browser.wait_until("document.getElementById('stage').textContent === 'Done.'");
    let json = browser.eval("document.getElementById('json').value");
    let record: Value = serde_json::from_str(json.as_str().expect("text")).expect("JSON");
    let part = &record["parts"][0];
    assert_eq!(part["part"], "text_encoder");
    let runs = part["runs"].as_array().expect("runs");
    assert_eq!(runs.len(), 3, "the first and two more");
    assert!(runs.iter().all(|run| run["secs"].as_f64().is_some_and(|secs| secs > 0.0)), "{runs:?}");
    // CLIP's encoder with twelve layers of 768, twice 77 tokens.
    let flops = part["flops"].as_f64().expect("a number");
    assert!((2.6e10..2.8e10).contains(&flops), "{flops}");
    let lines = part["profile"]["lines"].as_array().expect("operations one by one");
    let n_linear: u64 =
        lines.iter().filter(|line| line["kernel"] == "linear").filter_map(|line| line["n"].as_u64()).sum();
    assert_eq!(n_linear, 6 * 12);
    assert!(browser.text("#times").contains("Text encoder"), "{}", browser.text("#times"));
    assert_eq!(browser.console(), Vec::<String>::new());
}
