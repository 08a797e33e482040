//! The grid over two settings: what its lists mean, what is refused before anything is queued, and the sheet that is made.

use serde_json::{Value, json};

use crate::browser::{Browser, page_url};

const APPLE: &str = "a red apple on a blue background";

fn open(browser: &Browser) {
    browser.open_page(&page_url());
    browser.fill(&[("prompt", APPLE), ("steps", "1"), ("seed", "7")]);
    browser.eval("document.getElementById('grid').open = true");
    browser.wait_until("document.getElementById('grid-x-type').options.length > 3");
}

fn choose(browser: &Browser, axis: &str, setting: &str, values: &str) {
    browser.eval(&format!(
        "(() => {{ const menu = document.getElementById('grid-{axis}-type'); menu.value = {setting:?};
        menu.dispatchEvent(new Event('change')); const list = document.getElementById('grid-{axis}');
        list.value = {}; list.dispatchEvent(new Event('input', {{ bubbles: true }})); }})()",
        json!(values)
    ));
}

fn fault(browser: &Browser, axis: &str) -> String {
    browser
        .eval(&format!("document.getElementById('grid-{axis}-fault').textContent"))
        .as_str()
        .unwrap_or_default()
        .into()
}

#[test]
fn lists_are_spelled_as_in_automatic1111() {
    let browser = Browser::on_page();
    let numbers = |list: &str, kind: &str| {
        browser.run(&format!(
            "const {{ numbers_of }} = await import('./page/grid_values.js');
            try {{ return numbers_of({}, {kind:?}); }} catch (error) {{ return error.message; }}",
            json!(list)
        ))
    };
    for (list, kind, expected) in [
        ("1, 2,3", "whole", json!([1, 2, 3])),
        ("1-5", "whole", json!([1, 2, 3, 4, 5])),
        ("10-30 (+5)", "whole", json!([10, 15, 20, 25, 30])),
        ("10-29(+5), 7", "whole", json!([10, 15, 20, 25, 7])),
        ("5-1", "whole", json!([5, 4, 3, 2, 1])),
        ("10-4 (-3)", "whole", json!([10, 7, 4])),
        ("-2-1", "whole", json!([-2, -1, 0, 1])),
        // Its counts are spread evenly and cut to whole numbers.
        ("1-10 [5]", "whole", json!([1, 3, 5, 7, 10])),
        ("1-10 [5]", "decimal", json!([1.0, 3.25, 5.5, 7.75, 10.0])),
        ("0-1 (+0.1)", "decimal", json!([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1])),
        (".5, 1.", "decimal", json!([0.5, 1])),
        ("", "whole", json!([])),
    ] {
        let found = numbers(list, kind);
        let same =
            |a: &Value, b: &Value| (a.as_f64().unwrap_or(f64::NAN) - b.as_f64().unwrap_or(f64::NAN)).abs() < 1e-12;
        let (found_list, expected) =
            (found.as_array().cloned().unwrap_or_default(), expected.as_array().expect("a list"));
        assert!(
            found_list.len() == expected.len() && found_list.iter().zip(expected).all(|(a, b)| same(a, b)),
            "{list}: {found}"
        );
    }
    for list in ["1.5", "x", "1-", "1-5 (+0)", "1-5 (-1)", "1-999999999", "1-5 [99999999]", "1 2"] {
        assert!(numbers(list, "whole").is_string(), "{list}: {}", numbers(list, "whole"));
    }
}

#[test]
fn what_is_wrong_is_said_before_anything_is_queued() {
    let browser = Browser::start();
    open(&browser);
    for (setting, values, expected) in [
        ("steps", "1-x", "not a whole number"),
        ("steps", "0", "Steps must be 1–1000, not 0"),
        ("steps", "1-101", "at most 100"),
        ("seed", "18446744073709551616", "from 0 to 18446744073709551615"),
        ("sampler", "euler, foo", "the sampler foo is not supported"),
        ("replace", "green, blue", "do not contain “green”"),
    ] {
        choose(&browser, "x", setting, values);
        let said = fault(&browser, "x");
        assert!(said.to_lowercase().contains(&expected.to_lowercase()), "{setting} {values}: {said}");
        assert_eq!(browser.eval("document.getElementById('grid-x').ariaInvalid"), "true");
    }
    choose(&browser, "x", "seed", "1-50");
    choose(&browser, "y", "seed", "1");
    assert!(fault(&browser, "y").contains("a different setting"), "{}", fault(&browser, "y"));
    // A grid that no canvas holds, and what the model refuses, which it is asked about.
    choose(&browser, "y", "", "");
    browser.fill(&[("width", "1024"), ("height", "1024")]);
    choose(&browser, "x", "seed", "1-80");
    assert!(fault(&browser, "x").contains("pixels"), "{}", fault(&browser, "x"));
    browser.fill(&[("width", "128"), ("height", "128")]);
    choose(&browser, "x", "steps", "1, 200");
    assert_eq!(fault(&browser, "x"), "");
    browser.click("#grid-start");
    browser.wait_until("document.getElementById('grid-x-fault').textContent.includes('200')");
    assert_eq!(browser.focus(), "grid-x");
    assert_eq!(browser.n_pictures(), 0);
    assert_eq!(browser.eval("document.documentElement.dataset.state"), "ready");
}

#[test]
fn a_grid_is_made_of_its_pictures() {
    let browser = Browser::start();
    open(&browser);
    choose(&browser, "x", "steps", "1-2");
    choose(&browser, "y", "replace", "red apple, rocket");
    browser.click("#grid-start");
    browser.wait_until("document.querySelectorAll('.card').length === 5");
    browser.wait_until_idle();
    let sheet = browser.newest_picture();
    // The newest hangs first: the sheet, then its cells from the last to the first.
    for (place, (column, row)) in [(4, (0, 0)), (3, (1, 0)), (2, (0, 1)), (1, (1, 1))] {
        let cell = browser.picture_at(place);
        let at = |x: usize, y: usize| {
            let (left, top) = (sheet.width - 2 * 128 - 4 + column * 132, sheet.height - 2 * 128 - 4 + row * 132);
            let i = ((top + y) * sheet.width + left + x) * 3;
            &sheet.pixels[i..i + 3]
        };
        for (x, y) in [(0, 0), (64, 64), (127, 127), (30, 90)] {
            assert_eq!(at(x, y), &cell.pixels[(y * 128 + x) * 3..][..3], "cell {column}, {row} at {x}, {y}");
        }
    }
    let kept = browser.run(
        "const { all } = await import('./page/album.js');
        const { texts_of } = await import('./page/png_text.js');
        const { grid_of } = await import('./page/grid_sheet.js');
        const pictures = await all();
        const sheet = pictures.at(-1);
        return { grid: sheet.grid, again: await grid_of(sheet.png), texts: await texts_of(sheet.png), parameters: sheet.parameters,
            cells: pictures.slice(0, 4).map(({ parameters: { prompt, steps, seed } }) => [prompt, steps, seed]) };",
    );
    let expected = json!({ "x": { "setting": "Steps", "values": ["1", "2"], "is_named": true },
        "y": { "setting": "Prompt S/R", "values": ["red apple", "rocket"], "is_named": false } });
    assert_eq!(json!([kept["grid"], kept["again"]]), json!([expected, expected]));
    let rocket = "a rocket on a blue background";
    assert_eq!(kept["cells"], json!([[APPLE, 1, 7], [APPLE, 2, 7], [rocket, 1, 7], [rocket, 2, 7]]));
    assert_eq!(json!([kept["parameters"]["prompt"], kept["parameters"]["notes"]]), json!([APPLE, []]));
    let line = kept["texts"]["parameters"].as_str().expect("a text");
    let tail =
        r#"Script: X/Y/Z plot, X Type: Steps, X Values: "1, 2", Y Type: Prompt S/R, Y Values: "red apple, rocket""#;
    assert!(line.ends_with(tail), "{line}");
    browser.click(".card .open");
    assert!(
        browser.text("#viewer-parameters").contains("Steps (1, 2) × Prompt S/R (red apple, rocket)"),
        "{}",
        browser.text("#viewer")
    );
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn a_cancelled_grid_leaves_its_finished_pictures() {
    let browser = Browser::start();
    open(&browser);
    browser.fill(&[("steps", "12")]);
    choose(&browser, "x", "seed", "1-9");
    browser.click("#grid-start");
    browser.wait_until("document.querySelectorAll('.card').length > 0");
    browser.click_labelled("#grid button", "Cancel grid");
    browser.wait_until_idle();
    browser.wait_until("document.querySelector('.notice')?.textContent.includes('of 9 images were generated')");
    let n = browser.n_pictures();
    assert!((1..9).contains(&n), "{n}");
    assert_eq!(browser.eval("document.querySelectorAll('#queue li').length"), 0);
    assert_eq!(browser.eval("document.getElementById('grid-start').hidden"), false);
}

#[test]
fn a_grid_that_a_reload_cuts_goes_on_to_its_sheet() {
    let browser = Browser::start();
    open(&browser);
    browser.fill(&[("steps", "12"), ("variation-seed", "9")]);
    choose(&browser, "x", "variation_strength", "0-1 [3]");
    browser.click("#grid-start");
    browser.wait_until("document.querySelectorAll('.card').length === 1");
    browser.reload();
    browser.wait_until("document.getElementById('notices').textContent.includes('not finished when you left')");
    browser.click_labelled(".notice button", "Resume");
    browser.wait_until("document.getElementById('notices').textContent.includes('Grid ready: Variation strength')");
    browser.wait_until_idle();
    let kept = browser.run(
        "const { all } = await import('./page/album.js');
        return (await all()).map(({ grid, parameters: { seed, variation_strength = 0, variation_seed } }) => [grid?.x.values ?? null, seed, variation_strength, variation_seed ?? 9]);",
    );
    let values = json!(["0", "0.5", "1"]);
    // The first picture may have been drawn twice, where the page was left right behind it.
    let kept = kept.as_array().expect("a list");
    assert_eq!(kept.last(), Some(&json!([values, 7, 0, 9])), "{kept:?}");
    assert_eq!(&kept[kept.len() - 3..kept.len() - 1], [json!([null, 7, 0.5, 9]), json!([null, 7, 1, 9])], "{kept:?}");
    let sheet = browser.newest_picture();
    for place in 1..3 {
        let (cell, left) = (browser.picture_at(place), sheet.width - place * 128 - (place - 1) * 4);
        let at = ((sheet.height - 64) * sheet.width + left + 64) * 3;
        assert_eq!(&sheet.pixels[at..at + 3], &cell.pixels[(64 * 128 + 64) * 3..][..3], "cell {place}");
    }
    // Its seed is one more axis where there is a strength.
    browser.fill(&[("variation-strength", "0.5"), ("steps", "1")]);
    browser.eval("document.querySelector('#grid summary').focus()");
    browser.eval("document.getElementById('grid-x').focus()");
    browser.wait_until(
        "[...document.getElementById('grid-x-type').options].some(({ value }) => value === 'variation_seed')",
    );
    choose(&browser, "x", "variation_seed", "3-4");
    browser.click("#grid-start");
    browser.wait_until("document.getElementById('notices').textContent.includes('Grid ready: Variation seed')");
    let seeds = browser.run(
        "const { all } = await import('./page/album.js');
        return (await all()).slice(-3, -1).map(({ parameters: { seed, variation_seed } }) => [seed, variation_seed]);",
    );
    assert_eq!(seeds, json!([[7, 3], [7, 4]]));
    // A reload in mid-picture would ask a person, who has pressed something.
    let said: Vec<_> = browser.console().into_iter().filter(|said| !said.contains("beforeunload")).collect();
    assert_eq!(said, Vec::<String>::new());
}
