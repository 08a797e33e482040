//! The main job: a prompt becomes the picture that diffusers draws; stop, pause and the queue.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::browser::{Browser, difference, has_no_gpu, page_url};

const APPLE: &str = "a red apple on a blue background";

#[test]
fn a_prompt_becomes_the_picture_that_diffusers_draws() {
    let browser = Browser::start();
    let start = Instant::now();
    browser.open_page(&page_url());
    eprintln!("ready after {:.2} s", start.elapsed().as_secs_f64());
    assert!(browser.text("#device").ends_with("· CPU"), "{}", browser.text("#device"));
    assert_eq!(browser.text("#prompt-tokens"), "7 of 75 tokens");

    // What the page says while it draws, in order.
    browser.eval(
        "(() => { window.said = []; new MutationObserver(() => {
            const bar = document.getElementById('progress');
            window.said.push([document.getElementById('stage').textContent, bar.value]); })
        .observe(document.getElementById('stage'), { childList: true, characterData: true, subtree: true }); })()",
    );
    browser.draw(APPLE, 6);
    assert!(browser.text("#stage").starts_with("Done in "), "{}", browser.text("body"));
    eprintln!("{}", browser.text("#stage"));
    let said = browser.eval("window.said.map(([text]) => text)");
    let said: Vec<&str> = said.as_array().expect("a list").iter().filter_map(|text| text.as_str()).collect();
    let steps: Vec<&str> = said.iter().copied().filter(|text| text.starts_with("Step")).collect();
    assert_eq!(said.first(), Some(&"Reading the prompt …"), "{said:?}");
    assert_eq!(steps, ["Step 1 of 6", "Step 2 of 6", "Step 3 of 6", "Step 4 of 6", "Step 5 of 6", "Step 6 of 6"]);
    assert_eq!(said[said.len() - 2], "Decoding …", "{said:?}");
    let bar = browser.eval("window.said.map(([, value]) => value)");
    let bar: Vec<f64> = bar.as_array().expect("a list").iter().filter_map(|value| value.as_f64()).collect();
    assert!(bar[1..].is_sorted(), "the bar goes back: {bar:?}");

    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/emoji/apple.png");
    let expected = darkroom::image::decode(&std::fs::read(fixture).expect("the fixture")).expect("a picture");
    let max = difference(&browser.newest_picture(), &expected);
    assert!(max <= 2, "the picture differs from diffusers' by {max} levels");

    // A long prompt is read to its end; as plain text it is cut, and the page says so.
    browser.draw(&"apple ".repeat(100), 2);
    assert!(browser.text("body").contains("100 of 150 tokens in 2 chunks"), "{}", browser.text("body"));
    assert!(!browser.text("#notices").contains("could not read"), "{}", browser.text("#notices"));
    browser.eval(
        "(() => { const select = document.getElementById('syntax'); select.value = 'plain';
        select.dispatchEvent(new Event('input', { bubbles: true })); })()",
    );
    browser.draw(&"apple ".repeat(100), 2);
    assert!(browser.text("#notices").contains("could not read the end of the prompt"), "{}", browser.text("body"));
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}

#[test]
fn stop_stops_at_once_and_the_queue_goes_on() {
    let browser = Browser::on_page();
    // Minutes of work, so that nothing ends by itself.
    let large = [("width", "384"), ("height", "384")];
    browser.fill(&large);
    browser.ask_for("a rocket on a black background", 150);
    browser.wait_until("document.getElementById('stage').textContent.startsWith('Step ')");
    assert_eq!(browser.text("#draw"), "Add to queue");
    browser.fill(&[("width", "128"), ("height", "128")]);
    browser.ask_for(APPLE, 2);
    browser.wait_until("document.querySelectorAll('#queue li').length === 1");
    browser.ask_for("a green tree on a white background", 2);
    browser.wait_until("document.querySelectorAll('#queue li').length === 2");
    browser.wait_until("document.querySelector('#queue li:last-child small').textContent === '2 ahead'");
    assert!(browser.text("#queue li:first-child").contains("Next"), "{}", browser.text("#queue"));

    // What waits can be taken out while the first one is drawn.
    browser.click("#queue li:last-child button:last-child");
    browser.wait_until("document.querySelectorAll('#queue li').length === 1");

    // Held, nothing moves.
    browser.click("#pause");
    browser.wait_until("document.getElementById('stage').textContent.startsWith('Paused at step')");
    let stage = browser.text("#stage");
    std::thread::sleep(Duration::from_millis(800));
    assert_eq!(browser.text("#stage"), stage);
    browser.click("#pause");
    browser.wait_until("document.getElementById('stage').textContent.startsWith('Step ')");

    // Stopped, the next one begins; the time is taken in the page, where the driver is not in the way.
    let milliseconds = browser.run(
        "const stage = document.getElementById('stage'), start = performance.now();
        document.getElementById('stop').click();
        while (!document.getElementById('what').textContent.includes('apple')) await new Promise((r) => setTimeout(r, 2));
        return performance.now() - start;",
    );
    let milliseconds = milliseconds.as_f64().expect("a number");
    eprintln!("stopped, and the next one begun, after {milliseconds:.0} ms");
    // What it stops would go on for a minute and more.
    assert!(milliseconds < 15_000.0, "a stop took {milliseconds} ms");
    browser.wait_until("document.querySelectorAll('.card').length === 1");
    browser.wait_until_idle();
    assert_eq!(browser.text(".card p"), APPLE, "{}", browser.text("body"));

    // Escape stops, too, and what is on the page stays usable.
    browser.fill(&large);
    browser.ask_for("a rocket on a black background", 150);
    browser.wait_until("document.getElementById('stage').textContent.startsWith('Step ')");
    browser.press(&[crate::browser::keys::ESCAPE]);
    browser.wait_until_idle();
    assert!(browser.text("#stage").starts_with("Stopped at step"), "{}", browser.text("#stage"));
    assert_eq!(browser.n_pictures(), 1);
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}

#[test]
fn several_pictures_count_their_seeds() {
    let browser = Browser::on_page();
    browser.fill(&[("count", "2")]);
    browser.ask_for(APPLE, 2);
    browser.wait_until("document.querySelectorAll('.card').length === 2");
    browser.wait_until_idle();
    let seeds = browser.eval("[...document.querySelectorAll('.card small')].map((small) => small.textContent)");
    assert_eq!(seeds, serde_json::json!(["seed 2 · 2 steps", "seed 1 · 2 steps"]));
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}

/// Both runners in one browser, from one request: the software adapter is slow, so two steps have to do.
#[test]
fn the_gpu_draws_the_processors_picture() {
    if has_no_gpu() {
        return;
    }
    let browser = Browser::on_page();
    // wgpu knows nothing of a browser's subgroup operations; the worker asks for them all the same.
    let subgroups = browser.run(
        "const { Darkroom } = await import('./darkroom.js');
        const darkroom = await Darkroom.open();
        const { caps } = await darkroom.check();
        darkroom.close();
        const { features, info } = await navigator.gpu.requestAdapter();
        return [features.has('subgroups') ? info.subgroupMinSize : null, caps.least_subgroup ?? null];",
    );
    assert_eq!(subgroups[0], subgroups[1], "what the adapter has, and what is used");
    // A software adapter takes a minute for the model's own size.
    browser.fill(&[("width", "64"), ("height", "64")]);
    let mut pictures = Vec::new();
    for (runner, name) in [("cpu", "CPU"), ("gpu", "GPU")] {
        browser.choose_runner(runner, name);
        browser.draw(APPLE, 2);
        eprintln!("{runner}: {}", browser.text("#stage"));
        pictures.push(browser.newest_picture());
    }
    let max = difference(&pictures[0], &pictures[1]);
    assert!(max <= 2, "the pictures differ by {max} levels");
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}
