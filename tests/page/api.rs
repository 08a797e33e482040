//! The JavaScript API from a page that is not ours, as the README shows it.

use std::path::Path;

use crate::browser::{Browser, difference, page_url, www};

#[test]
fn the_readme_shows_the_example_that_runs() {
    let example = std::fs::read_to_string(www().join("example.js")).expect("the example");
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(readme).expect("the README");
    assert!(readme.contains(example.trim()), "the README's example is not www/example.js");

    let browser = Browser::start();
    browser.open(&format!("{}example.html", page_url()));
    browser.wait_until("document.getElementById('status').textContent.includes('darkroom/tiny-emoji, cpu')");
    let drawn = browser.pixels(
        "const image = document.getElementById('picture'); await image.decode();
        return image;",
    );
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/emoji/apple.png");
    let expected = darkroom::image::decode(&std::fs::read(fixture).expect("the fixture")).expect("a picture");
    assert!(difference(&drawn, &expected) <= 2);
    // Nobody asked for an icon in the example, and browsers do.
    let console: Vec<String> = browser.console().into_iter().filter(|line| !line.contains("favicon")).collect();
    assert_eq!(console, Vec::<String>::new(), "the console should stay silent");
}

/// Runs the body of an async function with an open and loaded `darkroom`.
fn with_darkroom(browser: &Browser, body: &str) -> serde_json::Value {
    browser.run(&format!(
        "const {{ Darkroom, DarkroomError }} = await import('./darkroom.js');
        const darkroom = await Darkroom.open();
        try {{ {body} }} finally {{ darkroom.close(); }}"
    ))
}

#[test]
fn progress_comes_in_order_and_jobs_are_cancelled_and_counted() {
    let browser = Browser::start();
    browser.open(&page_url());
    browser.wait_until_idle();
    let seen = with_darkroom(
        &browser,
        "await darkroom.load({ runner: 'cpu' });
        const seen = [];
        const first = darkroom.generate({ prompt: 'a red apple', seed: 1, steps: 3, count: 2 }, {
            on_progress: (p) => seen.push([p.stage, p.picture, p.step, p.fraction]),
            on_picture: ({ picture, seed, png }) => seen.push(['picture', picture, seed, png.length > 1000]),
        });
        const queued = [];
        const second = darkroom.generate({ prompt: 'a cat', seed: 1, steps: 150 }, { on_progress: (p) => queued.push(p.stage) });
        const abort = new AbortController();
        const third = darkroom.generate({ prompt: 'a dog', seed: 1, steps: 150 }, { signal: abort.signal });
        abort.abort();
        const dropped = await third.done;
        const done = await first.done;
        await new Promise((resolve) => { const t = setInterval(() => { if (queued.includes('denoising')) { clearInterval(t); resolve(); } }, 5); });
        const start = performance.now();
        await second.cancel();
        const stopped = await second.done;
        return { seen, dropped: dropped.cancelled, stopped: stopped.cancelled, queued: queued[0], done: [done.cancelled, done.pictures.map((p) => p.seed), done.n_tokens],
            stop_ms: performance.now() - start, isolated: crossOriginIsolated };",
    );
    assert_eq!(seen["dropped"], true);
    assert_eq!(seen["stopped"], true);
    assert_eq!(seen["queued"], "queued");
    assert_eq!(seen["done"], serde_json::json!([false, [1, 2], 3]));
    assert_eq!(seen["isolated"], true, "the server's headers isolate the page");
    let stop_ms = seen["stop_ms"].as_f64().expect("a number");
    eprintln!("a cancel was heard after {stop_ms:.0} ms");
    // What it stops would go on for a minute and more.
    assert!(stop_ms < 15_000.0, "a cancel took {stop_ms} ms");

    let seen = seen["seen"].as_array().expect("a list").clone();
    let mut order: Vec<String> = Vec::new();
    let mut last = 0.0;
    for event in &seen {
        let stage = event[0].as_str().expect("a stage");
        if stage != "picture" {
            let fraction = event[3].as_f64().expect("a part");
            assert!(fraction >= last, "progress goes back: {seen:?}");
            last = fraction;
        }
        let name = match stage {
            "denoising" => format!("{}: step {}", event[1], event[2]),
            "encoding" => stage.to_string(),
            _ => format!("{}: {stage}", event[1]),
        };
        if order.last() != Some(&name) {
            order.push(name);
        }
    }
    let a_picture = |i| {
        [
            format!("{i}: step 1"),
            format!("{i}: step 2"),
            format!("{i}: step 3"),
            format!("{i}: decoding"),
            format!("{i}: picture"),
        ]
    };
    let expected: Vec<String> = std::iter::once("encoding".to_string()).chain((0..2).flat_map(a_picture)).collect();
    // The last bit of decoding may be told after the picture is there.
    assert_eq!(order, expected);
}

#[test]
fn failures_are_errors_with_codes() {
    let browser = Browser::start();
    browser.open(&page_url());
    browser.wait_until_idle();
    let codes = with_darkroom(
        &browser,
        "const code = async (promise) => { try { await promise; return 'none'; } catch (e) { return [e instanceof DarkroomError, e.code, e.message]; } };
        const early = await code(darkroom.generate({ prompt: 'x', seed: 1 }).done);
        const nowhere = await code(darkroom.load({ endpoint: new URL('nowhere', location.href).href }));
        await darkroom.load({ runner: 'cpu' });
        const size = await code(darkroom.generate({ prompt: 'x', seed: 1, width: 100 }).done);
        const field = await code(darkroom.generate({ prompt: 'x', seed: 1, colour: 'red' }).done);
        const picture = await code(darkroom.generate({ prompt: 'x', seed: 1 }, { picture: new Uint8Array([1, 2, 3]) }).done);
        const mask = await code(darkroom.generate({ prompt: 'x', seed: 1 }, { mask: new ImageData(64, 64) }).done);
        const runner = await code(darkroom.load({ runner: 'abacus' }));
        const open = await Darkroom.open();
        const waiting = code(open.load());
        open.close();
        return { early, nowhere, size, field, picture, mask, runner, closed: await waiting };",
    );
    for (name, code, words) in [
        ("early", "model", "no model is loaded"),
        ("nowhere", "model", "404"),
        ("size", "request", "use 96 or 128"),
        ("field", "request", "colour"),
        ("picture", "picture", "not a picture file"),
        ("mask", "request", "without a picture"),
        ("runner", "request", "use auto, cpu or gpu"),
        ("closed", "worker", "closed"),
    ] {
        assert_eq!(codes[name][0], true, "{name}: {codes}");
        assert_eq!(codes[name][1], code, "{name}: {codes}");
        assert!(codes[name][2].as_str().is_some_and(|message| message.contains(words)), "{name}: {codes}");
    }
}
