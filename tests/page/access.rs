//! The page as those meet it who rely on assistive technology: axe's rules, names that have the words of their labels, and a focus
//! that is never lost.

use std::path::Path;

use darkroom::image::RgbImage;
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::shape::resize;

const APPLE: &str = "a red apple on a blue background";

/// axe, which `build.sh setup` puts into the cache: the newest version there.
fn axe() -> String {
    let home = std::env::var_os("HOME").unwrap_or_default();
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| Path::new(&home).join(".cache"), Into::into);
    let installed = std::fs::read_dir(cache.join("darkroom")).into_iter().flatten().filter_map(Result::ok);
    let mut installed: Vec<_> = installed
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("axe-core-"))
        .map(|entry| entry.path().join("node_modules/axe-core/axe.min.js"))
        .filter(|path| path.is_file())
        .collect();
    installed.sort();
    let path = installed.pop().expect("axe is missing: ./build.sh setup");
    std::fs::read_to_string(path).expect("axe")
}

/// What axe finds wrong with the page as it is.
fn violations(browser: &Browser) -> Vec<String> {
    let is_there = browser.eval("typeof axe !== 'undefined'");
    if is_there != true {
        // As a debugger does it: the page's policy lets nothing else in.
        browser.post("/execute/sync", json!({ "script": axe(), "args": [] }));
        let _: Value = browser.eval("typeof axe");
    }
    let found = browser.run(
        "const { violations } = await axe.run(document, { resultTypes: ['violations'],
            rules: { 'label-content-name-mismatch': { enabled: true } } });
        return violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.slice(0, 5).map(({ target, failureSummary }) => `${target} (${failureSummary})`).join('; ')}`);",
    );
    found.as_array().expect("a list").iter().map(|each| each.as_str().expect("a text").to_owned()).collect()
}

fn emulate(browser: &Browser, feature: &str, value: &str) {
    let features = json!({ "features": [{ "name": feature, "value": value }] });
    browser.cdp("Emulation.setEmulatedMedia", &features);
}

/// Shows the page dark or light, as its settings do.
fn set_theme(browser: &Browser, theme: &str) {
    browser.eval(&format!(
        "(() => {{ const menu = document.getElementById('theme'); menu.value = '{theme}'; menu.dispatchEvent(new Event('change')); }})()"
    ));
    // Colours change in passing.
    browser.run("await new Promise((resolve) => setTimeout(resolve, 500))");
}

#[test]
fn axe_finds_nothing_wrong() {
    let browser = Browser::on_page();
    browser.draw(APPLE, 1);
    browser.click_labelled(".card button", "Edit");
    browser.wait_until("!document.getElementById('start-filled').hidden");
    browser.fill(&[("steps", "150")]);
    for _ in 0..3 {
        browser.click("#draw");
    }
    browser.wait_until("document.querySelectorAll('#queue li').length === 2");
    // What is folded away, something wrong in it, and marks in the prompt.
    browser.eval("document.getElementById('grid').open = true");
    browser.fill(&[("grid-x", "1-x"), ("prompt", "a (red:1.2) <lora:a:1> __b__ {c|d} BREAK e)")]);
    browser.wait_until("!document.getElementById('grid-x-fault').hidden");
    browser.run("const { write_styles } = await import('./page/styles.js'); write_styles([{ name: 'Ink', prompt: 'ink', negative: 'photo' }]);");
    let mut found = Vec::new();
    for scheme in ["light", "dark"] {
        set_theme(&browser, scheme);
        let mut look = |screen: &str| {
            found.extend(violations(&browser).into_iter().map(|each| format!("{scheme}, {screen}: {each}")));
        };
        look("drawing");
        for (screen, button) in [
            ("models", "#open-models"),
            ("settings", "#open-settings"),
            ("help", "#open-help"),
            ("queue-drawer", "#open-queue"),
            ("prompts", "#open-history"),
            ("prompts", "#open-styles"),
            ("viewer", ".card .open"),
        ] {
            browser.click(button);
            browser.wait_until(&format!("document.getElementById('{screen}').open"));
            if screen == "models" {
                browser.wait_until("document.querySelectorAll('.model').length === 7");
            }
            if button == "#open-styles" {
                browser.click("[data-style] button[aria-label^=Edit]");
            }
            look(screen);
            browser.eval(&format!("document.getElementById('{screen}').close()"));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The first visit, the gallery with its images, some selected and one a favourite, and the viewer; in a wide window and on a phone.
#[test]
fn axe_finds_nothing_wrong_at_any_size() {
    let browser = Browser::on_page();
    let mut found = Vec::new();
    let mut look = |screen: &str| {
        for (width, height, mobile) in [(1440, 900, false), (390, 844, true)] {
            resize(&browser, (width, height, mobile));
            for theme in ["light", "dark"] {
                set_theme(&browser, theme);
                found
                    .extend(violations(&browser).into_iter().map(|each| format!("{screen}, {width}, {theme}: {each}")));
            }
        }
    };
    assert_eq!(browser.eval("document.getElementById('welcome').checkVisibility()"), true);
    look("first visit");
    browser.draw(APPLE, 1);
    browser.draw("a rocket on a black background", 1);
    look("drawn");
    browser.click("#open-gallery");
    browser.click(".favourite");
    browser.click(".card:last-child [type=checkbox]");
    look("gallery");
    browser.click("#open-gallery");
    browser.click(".card .open");
    browser.press(&['c']);
    look("viewer");
    browser.eval("document.getElementById('viewer').close()");
    // On a phone the options lie over the picture, and the mask has the stage.
    resize(&browser, (390, 844, true));
    browser.click("#open-panel");
    browser.eval("document.querySelectorAll('#request details').forEach((details) => { details.open = true; })");
    look("options");
    browser.click_labelled(".card button", "Edit");
    browser.wait_until("!document.getElementById('start-filled').hidden");
    look("mask");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The pixels of an element on the screen.
fn screenshot(browser: &Browser, selector: &str) -> RgbImage {
    let place = browser.eval(&format!(
        "(() => {{ const box = document.querySelector('{selector}').getBoundingClientRect();
        return {{ x: box.x, y: box.y, width: box.width, height: box.height, scale: 1 }}; }})()"
    ));
    let file = browser.cdp("Page.captureScreenshot", &json!({ "format": "png", "clip": place }))["data"].take();
    browser.pixels(&format!(
        "const image = new Image();
        image.src = 'data:image/png;base64,' + {file};
        await image.decode();
        return image;"
    ))
}

/// The contrast of two colours, as WCAG has it.
fn contrast(a: [u8; 3], b: [u8; 3]) -> f64 {
    let luminance = |levels: [u8; 3]| {
        let linear = levels.map(|level| {
            let level = f64::from(level) / 255.0;
            if level <= 0.04045 { level / 12.92 } else { ((level + 0.055) / 1.055).powf(2.4) }
        });
        0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    };
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

/// Where the system's own colours are forced, what is selected and how far a picture is can still be told.
#[test]
fn forced_colours_show_what_is_selected_and_how_far_it_is() {
    let browser = Browser::on_page();
    emulate(&browser, "forced-colors", "active");
    assert_eq!(browser.eval("matchMedia('(forced-colors: active)').matches"), true);
    browser.eval("(() => { document.getElementById('advanced').open = true; document.getElementById('seed-lock').scrollIntoView({ block: 'center' }); })()");
    browser.click("[name=next-seed][value=keep]");
    browser.eval("document.activeElement.blur()");
    let at = |image: &RgbImage, x: f64, y: f64| {
        let pixel = (y * image.height as f64) as usize * image.width + (x * image.width as f64) as usize;
        [0, 1, 2].map(|channel| image.pixels[pixel * 3 + channel])
    };
    // The ground beside the letters.
    let ground = |selector: &str| at(&screenshot(&browser, selector), 0.04, 0.5);
    let chosen = ground("label:has([name=next-seed][value=keep]) span");
    for other in ["random", "next"] {
        let other = ground(&format!("label:has([name=next-seed][value={other}]) span"));
        assert!(contrast(chosen, other) >= 3.0, "{chosen:?} and {other:?}");
    }
    browser.eval("document.querySelector('#shapes').scrollIntoView({ block: 'center' })");
    let (pressed, free) = (ground("#shapes [data-shape=\"1:1\"]"), ground("#shapes [data-shape=\"3:2\"]"));
    assert!(contrast(pressed, free) >= 3.0, "{pressed:?} and {free:?}");
    // The bar, half full.
    browser.eval("(() => { document.getElementById('progress').value = 0.5; })()");
    let bar = screenshot(&browser, "#progress");
    let (done, left) = (at(&bar, 0.25, 0.5), at(&bar, 0.75, 0.5));
    assert!(contrast(done, left) >= 3.0, "{done:?} and {left:?}");
}

/// Who speaks to the browser says what is written on a button.
#[test]
fn names_have_the_words_of_their_labels() {
    let browser = Browser::on_page();
    browser.draw(APPLE, 1);
    browser.fill(&[("steps", "150")]);
    for _ in 0..3 {
        browser.click("#draw");
    }
    browser.wait_until("document.querySelectorAll('#queue li').length === 2");
    browser.click("#open-models");
    browser.wait_until("document.querySelectorAll('.model').length === 7");
    let lacking = browser.eval(
        "[...document.querySelectorAll('button[aria-label], a[aria-label]')]
            .filter((each) => /\\p{L}/u.test(each.textContent) && !each.ariaLabel.toLowerCase().includes(each.textContent.trim().toLowerCase()))
            .map((each) => `${each.textContent}: ${each.ariaLabel}`)",
    );
    assert_eq!(lacking, json!([]));
}

#[test]
fn the_focus_is_never_lost() {
    let browser = Browser::on_page();
    let press = |find: &str| {
        browser.eval(&format!("(() => {{ const button = {find}; button.focus(); button.click(); }})()"));
        browser.run("await new Promise((resolve) => setTimeout(resolve, 100))");
        assert_eq!(browser.eval("document.activeElement !== document.body"), true, "lost after {find}");
    };
    browser.draw(APPLE, 1);
    browser.eval("document.getElementById('draw').focus()");
    for message in ["one", "two"] {
        browser.run(&format!("(await import('./page/notices.js')).notify('info', {message:?})"));
    }
    press("document.querySelector('.notice button')");
    press("document.querySelector('.notice button')");
    browser.fill(&[("steps", "150")]);
    for _ in 0..3 {
        browser.click("#draw");
    }
    browser.wait_until("document.querySelectorAll('#queue li').length === 2");
    browser.click("#open-queue");
    press("document.querySelector('#queue li button')");
    browser.wait_until("document.querySelectorAll('#queue li').length === 1");
    press("document.querySelector('#queue li button')");
    browser.wait_until("document.querySelectorAll('#queue li').length === 0");
    browser.run("await new Promise((resolve) => setTimeout(resolve, 100))");
    assert_eq!(browser.eval("document.activeElement !== document.body"), true, "lost after the last one");
    browser.eval("document.getElementById('queue-drawer').close()");
    browser.click("#open-gallery");
    press("[...document.querySelectorAll('.card button')].find((b) => b.textContent === 'Delete')");
}

/// Chosen in the settings, kept over a reload, and with `System` as the system has it.
#[test]
fn the_theme_is_the_chosen_one_or_the_systems() {
    let browser = Browser::on_page();
    // Whether the page's ground is dark.
    let is_dark = || {
        let ground = browser.eval("getComputedStyle(document.documentElement).backgroundColor");
        let ground = ground.as_str().expect("a colour");
        let levels: Vec<u32> =
            ground.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect();
        assert!(levels.len() >= 3, "{ground}");
        levels[..3].iter().sum::<u32>() < 3 * 128
    };
    for (theme, by_system) in [("dark", [true, true]), ("light", [false, false]), ("system", [true, false])] {
        set_theme(&browser, theme);
        for (system, expected) in [("dark", by_system[0]), ("light", by_system[1])] {
            emulate(&browser, "prefers-color-scheme", system);
            browser.run("await new Promise((resolve) => setTimeout(resolve, 500))");
            assert_eq!(is_dark(), expected, "{theme} on a {system} system");
        }
        browser.reload();
        browser.wait_until_idle();
        browser.run("await new Promise((resolve) => setTimeout(resolve, 500))");
        assert_eq!(browser.eval("document.getElementById('theme').value"), theme);
        assert_eq!(is_dark(), by_system[1], "{theme} after a reload");
    }
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}
