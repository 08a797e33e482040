//! The page's shape: the picture first and whole, the prompt and Generate in view at every size, dialogs that open at their beginning
//! with messages in front of them, the viewer, the queue's drawer, chips, and German.

use serde_json::json;

use crate::browser::{Browser, keys, page_url};

const APPLE: &str = "a red apple on a blue background";

/// Windows of a desktop, a laptop and a phone.
const WINDOWS: [(u32, u32, bool); 3] = [(1440, 900, false), (1280, 720, false), (390, 844, true)];

pub fn resize(browser: &Browser, (width, height, mobile): (u32, u32, bool)) {
    let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
    browser.cdp("Emulation.setDeviceMetricsOverride", &size);
    browser.wait_until(&format!("innerWidth === {width} && innerHeight === {height}"));
}

/// Left, top, right and bottom of an element, in pixels of the window.
fn place(browser: &Browser, selector: &str) -> [f64; 4] {
    let place = browser.eval(&format!(
        "(() => {{ const box = document.querySelector('{selector}').getBoundingClientRect();
        return [box.left, box.top, box.right, box.bottom]; }})()"
    ));
    [0, 1, 2, 3].map(|i| place[i].as_f64().expect("a number"))
}

#[test]
fn the_picture_is_whole_and_generate_in_view_at_every_size() {
    let browser = Browser::on_page();
    let check = |what: &str| {
        for window in WINDOWS {
            resize(&browser, window);
            let (width, height) = (f64::from(window.0), f64::from(window.1));
            let size = browser.eval("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]");
            assert_eq!(size, json!([window.0, window.1]), "{what}: the page is larger than its window");
            for selector in ["#prompt", "#draw", "#stage"] {
                let [left, top, right, bottom] = place(&browser, selector);
                let is_in = left >= 0.0 && top >= 0.0 && right <= width && bottom <= height;
                assert!(is_in, "{what}: {selector} is not in the window {window:?}: {left} {top} {right} {bottom}");
            }
        }
    };
    check("first visit");
    // A portrait, a landscape and a square.
    for (width, height) in [(96, 160), (160, 96), (128, 128)] {
        browser.fill(&[("width", &width.to_string()), ("height", &height.to_string())]);
        browser.draw(APPLE, 1);
        check("drawn");
        for window in WINDOWS {
            resize(&browser, window);
            let (frame, sheet) = (place(&browser, "#frame"), place(&browser, "#sheet"));
            let [w, h] = [frame[2] - frame[0], frame[3] - frame[1]];
            let ratio = w / h / (f64::from(width) / f64::from(height));
            assert!((ratio - 1.0).abs() < 0.02, "{width} x {height} is shown as {w} x {h} in {window:?}");
            let is_within = (0..2).all(|i| frame[i] >= sheet[i] - 0.5 && frame[i + 2] <= sheet[i + 2] + 0.5);
            assert!(is_within, "{frame:?} is cropped by {sheet:?} in {window:?}");
            // As large as it can be.
            let is_full = (w - (sheet[2] - sheet[0])).abs() < 1.0 || (h - (sheet[3] - sheet[1])).abs() < 1.0;
            assert!(is_full, "{frame:?} leaves room in {sheet:?} in {window:?}");
        }
    }
    // The bar over the picture fits a phone without scrolling, and so does what is said while a picture develops.
    let bar = "(() => { const bar = document.getElementById('stage-actions'); return [bar.scrollWidth <= bar.clientWidth,
        [...bar.children].filter((button) => button.checkVisibility()).length,
        new Set([...bar.children].filter((button) => button.checkVisibility()).map((button) => button.getBoundingClientRect().top)).size]; })()";
    assert_eq!(browser.eval(bar), json!([true, 5, 1]));
    // The options come over the picture on a phone, and everything for fingers is large enough.
    resize(&browser, WINDOWS[2]);
    browser.click("#open-panel");
    browser.eval("document.querySelectorAll('details').forEach((details) => details.open = true)");
    let small = || {
        browser.eval(
            "[...(document.querySelector('dialog[open]') ?? document)
                .querySelectorAll('button, a, select, summary, .segments label, input:not([type=radio], [type=checkbox])')]
                .filter((element) => {
                    const box = element.getBoundingClientRect();
                    return element.checkVisibility() && box.width > 0 && (box.height < 43.9 || box.width < 43.9);
                }).map((element) => element.id || element.textContent)",
        )
    };
    assert_eq!(small(), json!([]), "too small for fingers");
    for dialog in ["models", "settings", "help", "history"] {
        browser.click(&format!("#open-{dialog}"));
        browser.eval("document.querySelectorAll('dialog[open] details').forEach((details) => details.open = true)");
        assert_eq!(small(), json!([]), "too small for fingers: {dialog}");
        browser.eval("document.querySelector('dialog[open]').close()");
    }
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}

#[test]
fn the_first_visit_says_what_to_do_and_chips_set_the_form() {
    let browser = Browser::on_page();
    assert!(browser.text("#welcome").contains("117 emoji"), "{}", browser.text("#welcome"));
    browser.wait_until("document.querySelectorAll('.offer').length === 3");
    let value = |id: &str| browser.eval(&format!("document.getElementById('{id}').value"));
    let press = |selector: &str| browser.click(selector);
    press("[data-shape=\"3:2\"]");
    assert_eq!([value("width"), value("height")], ["160", "96"]);
    press("#swap-sides");
    assert_eq!([value("width"), value("height")], ["96", "160"]);
    let pressed = "[...document.querySelectorAll('.chip[aria-pressed=true]')].map(({ textContent }) => textContent)";
    assert_eq!(browser.eval(pressed), json!(["9:16", "Draft"]));
    press("[data-shape=\"1:1\"]");
    press("[data-quality=good]");
    assert_eq!([value("width"), value("steps")], ["128", "20"]);
    press("[data-quality=draft]");

    // A seed that is typed is kept; the dice give another, and new ones from then on.
    let locked = "document.getElementById('seed-lock').getAttribute('aria-pressed')";
    assert_eq!(browser.eval(locked), "false");
    browser.eval("(() => { const seed = document.getElementById('seed'); seed.value = '77'; seed.dispatchEvent(new Event('input', { bubbles: true })); })()");
    assert_eq!(browser.eval(locked), "true");
    browser.eval("document.getElementById('steps').value = '1'");
    press("#draw");
    browser.wait_until("document.querySelectorAll('.card').length === 1");
    browser.wait_until_idle();
    assert_eq!(browser.text(".card small"), "seed 77 · 1 step");
    assert_eq!(value("seed"), "77");
    assert_eq!(browser.eval("document.getElementById('welcome').hidden"), true);
    press("#seed-dice");
    assert_eq!(browser.eval(locked), "false");
    assert_ne!(value("seed"), "77");

    // What is wrong under Advanced is opened.
    browser.eval("document.getElementById('advanced').open = false");
    browser.fill(&[("steps", "0")]);
    press("#draw");
    browser.wait_until("document.activeElement.id === 'steps' && document.getElementById('advanced').open");
    // It stays open.
    browser.reload();
    browser.wait_until_idle();
    assert_eq!(browser.eval("document.getElementById('advanced').open"), true);
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}

#[test]
fn what_is_asked_for_before_the_model_is_there_waits_for_it() {
    let browser = Browser::start();
    browser.open(&page_url());
    let seen = browser.run(
        "const draw = document.getElementById('draw');
        while (draw.disabled) await new Promise((resolve) => setTimeout(resolve, 1));
        document.getElementById('prompt').value = 'a red apple on a blue background';
        const state = document.documentElement.dataset.state;
        // Twice, as somebody does who sees nothing come.
        draw.click();
        draw.click();
        await new Promise((resolve) => setTimeout(resolve, 1));
        return [state, document.getElementById('needs').textContent];",
    );
    assert_eq!(seen, json!(["starting", "Generates as soon as the model is loaded"]));
    browser.wait_until("document.querySelectorAll('.card').length === 1");
    browser.wait_until_idle();
    assert_eq!(browser.n_pictures(), 1);
}

#[test]
fn an_example_is_one_click() {
    let browser = Browser::on_page();
    browser.eval("document.querySelectorAll('.sample')[1].click()");
    browser.wait_until("document.querySelectorAll('.card').length === 1");
    browser.wait_until_idle();
    let said = browser.eval("document.querySelector('.card p').textContent");
    assert_eq!(said, "a rocket on a black background");
    assert_eq!(browser.eval("document.title"), "Darkroom");
}

#[test]
fn the_viewer_zooms_compares_and_deletes_with_a_way_back() {
    let browser = Browser::on_page();
    for seed in ["1", "2", "3"] {
        browser.fill(&[("prompt", APPLE), ("steps", "1"), ("seed", seed)]);
        let n = browser.n_pictures();
        browser.click("#draw");
        browser.wait_until(&format!("document.querySelectorAll('.card').length > {n}"));
        browser.wait_until_idle();
    }
    // From the stage, by a press on the picture.
    browser.click("#look");
    let seed = || {
        browser.eval(
            "[...document.querySelectorAll('#viewer-parameters dt')].find(({ textContent }) => textContent === 'Seed').nextElementSibling.textContent",
        )
    };
    assert_eq!(seed(), "3");
    browser.press(&[keys::RIGHT]);
    assert_eq!(seed(), "2");
    assert_eq!(browser.text("#viewer-place"), "2 / 3");
    let transform = || browser.eval("document.getElementById('viewer-image').style.transform");
    let whole = transform();
    browser.press(&['+']);
    assert_ne!(transform(), whole);
    browser.press(&['0']);
    assert_eq!(transform(), whole);
    // Compared with its neighbour, by a slider.
    browser.press(&['c']);
    assert_eq!(browser.eval("document.getElementById('viewer-other').hidden"), false);
    assert_eq!(browser.eval("document.getElementById('viewer-with').options.length"), 2);
    let clip = || browser.eval("document.getElementById('viewer-other').style.clipPath");
    let half = clip();
    browser.eval("(() => { const split = document.getElementById('viewer-split'); split.value = 20; split.dispatchEvent(new Event('input')); })()");
    assert_ne!(clip(), half);
    browser.press(&['c']);
    assert_eq!(browser.eval("document.getElementById('viewer-other').hidden"), true);

    // Deleted, the next one is shown; the message is in front of the dialog, where it can be pressed.
    browser.click_labelled("#viewer-actions button", "Delete");
    browser.wait_until("document.querySelectorAll('.card').length === 2");
    assert_eq!(browser.eval("document.querySelector('.notice').closest('dialog')?.id"), "viewer");
    browser.click_labelled(".notice button", "Undo");
    browser.wait_until("document.querySelectorAll('.card').length === 3");
    let order = browser.eval("[...document.querySelectorAll('.card small')].map(({ textContent }) => textContent)");
    assert_eq!(order, json!(["seed 3 · 1 step", "seed 2 · 1 step", "seed 1 · 1 step"]));
    browser.press(&[keys::ESCAPE]);
    browser.wait_until("!document.getElementById('viewer').open");
    browser.reload();
    browser.wait_until_idle();
    browser.wait_until("document.querySelectorAll('.card').length === 3");
    // The newest is on the stage again.
    browser.wait_until("document.getElementById('bath').dataset.state === 'done'");
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}

/// Whose script runs from right to left reads it so, wherever a prompt is shown.
#[test]
fn prompts_run_in_the_direction_of_their_script() {
    let browser = Browser::on_page();
    browser.fill(&[("negative", "מטושטש")]);
    browser.draw("תפוח אדום", 1);
    browser.fill(&[("steps", "150")]);
    browser.click("#draw");
    browser.wait_until("document.documentElement.dataset.state === 'drawing'");
    let directions = |selectors: &[&str]| {
        browser.eval(&format!(
            "{}.map((selector) => [selector, getComputedStyle(document.querySelector(selector)).direction])",
            json!(selectors)
        ))
    };
    let expected = |selectors: &[&str], direction: &str| {
        json!(selectors.iter().map(|each| [each, &direction]).collect::<Vec<_>>())
    };
    let prompts = ["#prompt", "#negative", ".card p", "#what"];
    assert_eq!(directions(&prompts), expected(&prompts, "rtl"));
    browser.click("#stop");
    browser.wait_until_idle();
    browser.click(".card .open");
    assert_eq!(directions(&["#viewer-prompt"]), expected(&["#viewer-prompt"], "rtl"));
    browser.eval("document.getElementById('viewer').close()");
    browser.click("#open-history");
    browser.wait_until("document.getElementById('prompts').open");
    let of_history = browser.eval("[...document.querySelectorAll('#prompts [dir=auto]')].filter((each) => each.textContent.includes('תפוח')).map((each) => getComputedStyle(each).direction)");
    assert!(
        of_history.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(|each| each == "rtl")),
        "{of_history}"
    );
    browser.eval("document.getElementById('prompts').close()");
    // English beside it stays as it is.
    browser.fill(&[("prompt", APPLE), ("negative", "blurry"), ("gallery-search", "תפוח")]);
    let mixed = ["#prompt", "#negative"];
    assert_eq!(directions(&mixed), expected(&mixed, "ltr"));
    assert_eq!(directions(&["#gallery-search"]), expected(&["#gallery-search"], "rtl"));
}

/// On a phone the options lie over the stage, and a picture that is to be painted on is below the fold of a small window.
#[test]
fn the_mask_comes_into_view_on_a_phone() {
    let browser = Browser::on_page();
    browser.draw(APPLE, 1);
    let check = |what: &str, (width, height): (u32, u32)| {
        browser.wait_until("document.activeElement.id === 'mask-canvas'");
        // It may scroll smoothly.
        browser.run("await new Promise((resolve) => setTimeout(resolve, 500))");
        let [left, top, right, bottom] = place(&browser, "#easel");
        let is_in = left >= 0.0 && top >= 0.0 && right <= f64::from(width) && bottom <= f64::from(height);
        assert!(is_in && right - left > 100.0, "{what}, {width}x{height}: {left} {top} {right} {bottom}");
        let is_seen = browser.eval(
            "(() => { const box = document.getElementById('easel').getBoundingClientRect();
            return document.elementFromPoint((box.left + box.right) / 2, (box.top + box.bottom) / 2)?.id; })()",
        );
        assert_eq!(is_seen, "mask-canvas", "{what}: something lies over it");
    };
    for (width, height) in [(390, 844), (360, 560)] {
        resize(&browser, (width, height, true));
        browser.click_labelled(".card button", "Edit");
        browser.wait_until("!document.getElementById('start-filled').hidden");
        check("a new source", (width, height));
        browser.click("#show-result");
        browser.click("#open-panel");
        browser.wait_until("document.querySelector('main').dataset.panel === 'open'");
        browser.eval(
            "(() => { const button = document.getElementById('show-source'); button.focus(); button.click(); })()",
        );
        check("Edit mask", (width, height));
        browser.click("#remove-picture");
    }
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}

#[test]
fn dialogs_open_at_their_beginning_and_nothing_is_drawn_behind_them() {
    let browser = Browser::on_page();
    resize(&browser, (1280, 500, false));
    for id in ["models", "settings", "help"] {
        browser.click(&format!("#open-{id}"));
        browser.wait_until(&format!("document.getElementById('{id}').open"));
        let scrolled = browser.eval(&format!("document.querySelector('#{id} .dialog-body').scrollTop"));
        assert_eq!(scrolled, 0, "{id}");
        browser.press(&[keys::CONTROL, keys::ENTER]);
        browser.eval(&format!("document.getElementById('{id}').close()"));
    }
    // Enter in a field of the dialog is about that field.
    browser.click("#open-models");
    browser.eval("document.getElementById('endpoint').value = location.origin");
    browser.eval("document.getElementById('repository').focus()");
    browser.press(&"a/b".chars().chain([keys::ENTER]).collect::<Vec<_>>());
    browser.wait_until("document.querySelector('#models .notice')");
    assert_eq!(browser.eval("document.getElementById('models').open"), true);
    browser.eval("document.getElementById('models').close()");
    // Closing is an event, which comes a little later.
    browser.wait_until("document.querySelector('.notice').closest('dialog') === null");
    assert_eq!(browser.n_pictures(), 0);
    assert_eq!(browser.eval("document.documentElement.dataset.state"), "ready");
}

#[test]
fn the_queue_is_told_reordered_and_cleared() {
    let browser = Browser::on_page();
    browser.fill(&[("width", "384"), ("height", "384")]);
    browser.ask_for("a rocket on a black background", 150);
    browser.wait_until("document.getElementById('stage').textContent.startsWith('Step ')");
    browser.wait_until("document.title.endsWith('% · Darkroom')");
    browser.fill(&[("width", "128"), ("height", "128")]);
    for name in ["one", "two", "three"] {
        browser.ask_for(name, 2);
        browser.wait_until(&format!(
            "[...document.querySelectorAll('#queue span')].some(({{ textContent }}) => textContent === '{name}')"
        ));
    }
    assert_eq!(browser.text("#open-queue"), "Queue: 3");
    // All of it can be read on a phone.
    resize(&browser, WINDOWS[2]);
    let stage =
        "(() => { const stage = document.getElementById('stage'); return stage.scrollWidth <= stage.clientWidth; })()";
    assert_eq!(browser.eval(stage), true);
    let rows = "new Set(['open-queue', 'pause', 'stop'].map((id) => document.getElementById(id).getBoundingClientRect().top)).size";
    assert_eq!(browser.eval(rows), 1);
    resize(&browser, WINDOWS[0]);
    browser.click("#open-queue");
    assert!(browser.text("#queue-time").starts_with("3 images"), "{}", browser.text("#queue-time"));
    let names = "[...document.querySelectorAll('#queue span')].map(({ textContent }) => textContent)";
    browser.click("#queue li:last-child button");
    browser.wait_until(&format!("String({names}) === 'one,three,two'"));
    // Those in the middle can be taken out, and the order is that of drawing.
    browser.click("#queue li:last-child button:last-child");
    browser.wait_until(&format!("String({names}) === 'one,three'"));
    browser.click("#queue li:last-child button");
    browser.wait_until(&format!("String({names}) === 'three,one'"));
    browser.eval("document.getElementById('queue-drawer').close()");
    browser.click("#stop");
    browser.wait_until("document.querySelectorAll('.card').length === 2");
    browser.wait_until_idle();
    let drawn = browser.eval("[...document.querySelectorAll('.card p')].map(({ textContent }) => textContent)");
    assert_eq!(drawn, json!(["one", "three"]));
    // All at once.
    browser.fill(&[("width", "384"), ("height", "384")]);
    browser.ask_for("a rocket on a black background", 150);
    browser.ask_for("one", 2);
    browser.wait_until("document.querySelectorAll('#queue li').length === 1");
    browser.click("#queue-clear");
    browser.wait_until("document.querySelectorAll('#queue li').length === 0");
    browser.click("#stop");
    browser.wait_until_idle();
    assert_eq!(browser.n_pictures(), 2);
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}

#[test]
fn the_page_speaks_german() {
    let browser = Browser::start();
    let agent = browser.eval("navigator.userAgent");
    browser.cdp("Emulation.setUserAgentOverride", &json!({ "userAgent": agent, "acceptLanguage": "de-AT" }));
    browser.open_page(&page_url());
    assert_eq!(browser.eval("document.documentElement.lang"), "de");
    assert_eq!(browser.text("#draw"), "Erzeugen");
    assert_eq!(browser.eval("document.getElementById('negative').placeholder"), "Was nicht vorkommen soll");
    browser.draw(APPLE, 1);
    assert!(browser.text("#stage").starts_with("Fertig in"), "{}", browser.text("#stage"));
    assert_eq!(browser.text(".card small"), "Seed 1 · 1 Schritt");
    // All that stands in index.html is translated, but for what is the same in both languages.
    let same = browser.run(
        "const { markup } = await import('./page/german_markup.js');
        const page = new DOMParser().parseFromString(await (await fetch('index.html')).text(), 'text/html');
        page.querySelectorAll('noscript, svg').forEach((element) => element.remove());
        const walker = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT);
        const said = new Set();
        for (let node = walker.nextNode(); node; node = walker.nextNode()) {
            if (node instanceof Text) said.add(node.nodeValue);
            else for (const name of ['aria-label', 'placeholder', 'title', 'alt']) said.add(node.getAttribute(name) ?? '');
        }
        return [...said].map((each) => each.trim().replace(/\\s+/g, ' ')).filter((each) => /\\p{L}{2}/u.test(each) && !(each in markup)).sort();",
    );
    let expected = [
        "AUTOMATIC1111: (word:1.2) BREAK AND",
        "CPU",
        "CPU: diffusers, ComfyUI",
        "Clip skip",
        "ComfyUI: (word:1.2)",
        "Darkroom",
        "Embeddings",
        "Eta",
        "GPU (WebGPU)",
        "GPU: AUTOMATIC1111, Forge",
        "Hub",
        "LoRAs",
        "Prompt",
        "Sampler",
        "Seed",
        "a red apple on a blue background",
        "compel (InvokeAI): word++",
        "https://huggingface.co",
        "owner/name, owner/name/file.safetensors or https://…",
    ];
    assert_eq!(same, json!(expected));
    // So is what the engine says.
    let why = browser.eval("document.getElementById('runner-why').textContent");
    assert!(
        why.as_str()
            .is_some_and(|why| why.contains("CPU") && !why.contains("adapter here") && !why.contains("compute")),
        "{why}"
    );
    let told = browser.run(
        "const { told } = await import('./page/messages.js');
        return ['the processor was chosen; 4 threads compute',
            'the processor was chosen; one thread computes, because the processor has one core',
            'this page is not cross-origin isolated: its server does not send the headers A and B',
            'this copy of the page was built without threads'].map(told);",
    );
    let expected = [
        "die CPU wurde gewählt; 4 Threads rechnen",
        "die CPU wurde gewählt; ein Thread rechnet: der Prozessor hat einen Kern",
        "diese Seite ist nicht cross-origin isoliert: ihr Server sendet die Header A und B nicht",
        "diese Kopie der Seite wurde ohne Threads gebaut",
    ];
    assert_eq!(told, json!(expected));
    for (field, value, said) in [
        ("steps", "0", "Schritte: 0 geht nicht: möglich ist 1 bis 150."),
        (
            "width",
            "100",
            "Breite 100 geht nicht: möglich ist 96 oder 128, oder jedes Vielfache von 8 (Größenraster, unter Erweitert).",
        ),
        ("guidance", "99", "CFG-Skala 99 geht nicht: möglich ist 0.0 bis 20.0."),
        ("clip-skip", "0", "Clip skip 0 geht nicht: 1 ist die letzte Schicht; möglich ist 1 oder mehr."),
    ] {
        let before = browser.eval(&format!("document.getElementById('{field}').value"));
        browser.fill(&[(field, value)]);
        browser.wait_until(&format!("document.getElementById('needs').textContent === '{said}'"));
        assert_eq!(browser.eval(&format!("document.getElementById('{field}').getAttribute('aria-invalid')")), "true");
        browser.fill(&[(field, before.as_str().expect("a text"))]);
    }
    // So is what the list of models says of a licence.
    browser.click("#open-models");
    browser.wait_until("document.querySelectorAll('.model').length === 7");
    let turbo = browser.text("[data-model=turbo] .purpose");
    assert!(turbo.ends_with("Lizenz: Stability AI, schränkt kommerzielle Nutzung ein."), "{turbo}");
}
