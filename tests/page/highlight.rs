//! The marks of the prompt's syntax, and weights by keyboard.

use serde_json::{Value, json};

use crate::browser::{Browser, keys};

/// Typing and showing the marks may take so long, of the 50 ms that a task may have. A busy machine makes single keys slow; what
/// blocks the page does so at every key, so the quicker ones are the page's own.
const MAX_TYPING_MS: f64 = 50.0;

fn marks(browser: &Browser, text: &str, syntax: &str) -> Vec<String> {
    let found = browser.run(&format!(
        "const {{ embeddings_pattern, marks_of }} = await import('./page/prompt_marks.js');
        const text = {};
        return marks_of(text, {syntax:?}, embeddings_pattern(['bad-hands', 'easy.negative'])).map(({{ start, end, kind }}) => `${{kind}} ${{text.slice(start, end)}}`);",
        json!(text)
    ));
    found.as_array().expect("a list").iter().map(|each| each.as_str().expect("a text").to_owned()).collect()
}

#[test]
fn each_syntax_has_its_marks() {
    let browser = Browser::on_page();
    for (syntax, text, expected) in [
        ("a1111", "a (b:1.2) c", &["weight (", "weight :1.2)"][..]),
        ("a1111", "((a)) [b]", &["weight (", "weight (", "weight )", "weight )", "weight [", "weight ]"]),
        (
            "a1111",
            "[a:b:0.5] [a|b] [:x:7]",
            &[
                "weight [",
                "weight :",
                "weight :0.5]",
                "weight [",
                "weight |",
                "weight ]",
                "weight [",
                "weight :",
                "weight :7]",
            ],
        ),
        ("a1111", "(a:b)", &["weight (", "weight )"]),
        ("a1111", "<lora:ink:0.8> <b> <lora:x", &["tag <lora:ink:0.8>", "wrong <lora:"]),
        ("a1111", "__animal__ __a/b*__ snake_case __x", &["choice __animal__", "choice __a/b*__"]),
        (
            "a1111",
            "{a|2::b} {x} ${v|w} {2$$a|b}",
            &["choice {", "choice |", "choice }", "choice {", "choice |", "choice }"],
        ),
        ("a1111", "a BREAK b AND c BREAKS (BREAK)", &["word BREAK", "word AND", "weight (", "weight )"]),
        ("a1111", r"\(a\) (b] c)", &["weight (", "wrong ]", "weight )"]),
        ("a1111", "(a [b", &["wrong (", "wrong ["]),
        ("a1111", "bad-hands, Easy.Negative xbad-hands", &["embedding bad-hands", "embedding Easy.Negative"]),
        (
            "comfy",
            "(a:1.2) [b] embedding:foo, BREAK)",
            &["weight (", "weight :1.2)", "embedding embedding:foo", "wrong )"],
        ),
        (
            "compel",
            r#"(a b)1.3 word++ well-known x- ("a", "b").and()"#,
            &["weight (", "weight )1.3", "weight ++", "weight -", "weight (", "weight )", "word .and()"],
        ),
        ("compel", r#"("a", "b").blend(1, 0.5)"#, &["weight (", "weight )", "word .blend(1, 0.5)"]),
        ("plain", "(a:1.2) {b|c} BREAK", &[]),
    ] {
        assert_eq!(marks(&browser, text, syntax), expected, "{syntax}: {text}");
    }
}

#[test]
fn the_layer_follows_the_field() {
    let browser = Browser::on_page();
    let kinds = "[...document.querySelectorAll('.dock-prompt [data-kind]')].map((each) => `${each.dataset.kind} ${each.textContent}`)";
    let expect =
        |expected: Value| browser.wait_until(&format!("JSON.stringify({kinds}) === {:?}", expected.to_string()));
    browser.fill(&[("prompt", "a (fox:1.2)")]);
    expect(json!(["weight (", "weight :1.2)"]));
    browser.fill(&[("syntax", "plain")]);
    expect(json!([]));
    browser.fill(&[("syntax", "a1111")]);
    // What the page fills in is marked, too.
    browser.run("const { fill } = await import('./page/form.js'); const { changed } = await import('./page/check.js'); fill({ prompt: '[x]' }); changed();");
    expect(json!(["weight [", "weight ]"]));
    // Lines break in the same places.
    for text in [
        "(a)\n\n",
        &format!("(a) {}", "y".repeat(300)),
        &"(x)  word-and/more ".repeat(40),
        &"(日本語) ".repeat(40),
        &"(مرحبا) بالعالم ".repeat(20),
    ] {
        browser.fill(&[("prompt", text)]);
        browser.run("await new Promise((resolve) => setTimeout(resolve, 150))");
        let heights = browser.eval("[document.querySelector('.dock-prompt .marks-layer').scrollHeight, document.getElementById('prompt').scrollHeight]");
        let [layer, field] = [0, 1].map(|i| heights[i].as_f64().expect("a number"));
        // Heights are rounded, each by itself.
        assert!((layer - field).abs() <= 1.0, "{text}: {layer} and {field}");
        let widths = browser.eval("[document.querySelector('.dock-prompt .marks-layer').clientWidth, document.getElementById('prompt').clientWidth]");
        assert_eq!(widths[0], widths[1], "{text}");
    }
    // It is not there for those who listen, and no part of the form.
    assert_eq!(browser.eval("document.querySelector('.dock-prompt .marks-layer').ariaHidden"), "true");
}

#[test]
fn the_letters_stay_readable_on_every_mark() {
    let browser = Browser::on_page();
    browser.fill(&[("prompt", "(a:1.2) <lora:a:1> __b__ BREAK c) embedding")]);
    browser.run("const span = document.createElement('span'); span.dataset.kind = 'embedding'; await new Promise((resolve) => setTimeout(resolve, 150)); document.querySelector('.dock-prompt .marks-layer').append(span);");
    let contrasts = browser.run(
        "const pen = new OffscreenCanvas(1, 1).getContext('2d');
        const light = (colour) => {
            pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
            const [r, g, b] = [...pen.getImageData(0, 0, 1, 1).data].map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const found = [];
        for (const theme of ['light', 'dark']) {
            document.documentElement.dataset.theme = theme;
            await new Promise((resolve) => setTimeout(resolve, 300));
            const letters = light(getComputedStyle(document.getElementById('prompt')).color);
            for (const mark of document.querySelectorAll('.dock-prompt [data-kind]')) {
                const ground = light(getComputedStyle(mark).backgroundColor);
                found.push([theme, mark.dataset.kind, (Math.max(letters, ground) + 0.05) / (Math.min(letters, ground) + 0.05)]);
            }
        }
        return found;",
    );
    let contrasts = contrasts.as_array().expect("a list");
    for kind in ["weight", "tag", "choice", "word", "embedding", "wrong"] {
        assert_eq!(
            contrasts.iter().map(|each| &each[1]).filter(|each| **each == kind).count().min(2),
            2,
            "{kind}: {contrasts:?}"
        );
    }
    for each in contrasts {
        assert!(each[2].as_f64().is_some_and(|contrast| contrast >= 4.5), "{each}");
    }
}

#[test]
fn typing_into_a_long_prompt_does_not_lag() {
    let browser = Browser::on_page();
    browser.fill(&[("prompt", &"a (photo:1.2) of [dog:cat:0.5], {red|blue}, ".repeat(115))]);
    let times = browser.run(
        "const field = document.getElementById('prompt');
        await new Promise((resolve) => setTimeout(resolve, 500));
        field.focus();
        field.setSelectionRange(2500, 2500);
        const times = [];
        for (let i = 0; i < 40; i += 1) {
            const begun = performance.now();
            document.execCommand('insertText', false, i % 2 ? '(' : ')');
            const typed = performance.now() - begun;
            // The marks are made in the next frame, which is over when a task behind it runs.
            const shown = await new Promise((resolve) => requestAnimationFrame(() => {
                const frame = performance.now();
                setTimeout(() => resolve(performance.now() - frame));
            }));
            times.push(typed + shown);
        }
        return { n: field.value.length, spans: document.querySelectorAll('.dock-prompt [data-kind]').length, times: times.sort((a, b) => a - b) };",
    );
    let quick = times["times"][10].as_f64().expect("a number");
    eprintln!(
        "{} characters, {} marks: {quick:.1} ms for the quicker keys, {} at most",
        times["n"], times["spans"], times["times"][39]
    );
    assert!(times["spans"].as_u64().is_some_and(|n| n > 500), "{times}");
    assert!(quick <= MAX_TYPING_MS, "{times}");
}

#[test]
fn keys_weigh_the_selection_or_the_word() {
    let browser = Browser::on_page();
    let state = || {
        browser.eval("(() => { const field = document.getElementById('prompt'); return [field.value, field.value.slice(field.selectionStart, field.selectionEnd)]; })()")
    };
    let press = |syntax: &str, text: &str, (start, end): (usize, usize), pressed: &[char]| {
        browser.fill(&[("syntax", syntax), ("prompt", text)]);
        browser.eval(&format!("(() => {{ const field = document.getElementById('prompt'); field.focus(); field.setSelectionRange({start}, {end}); }})()"));
        for key in pressed {
            browser.press(&[keys::CONTROL, *key]);
        }
        state()
    };
    let (up, down) = (keys::UP, keys::DOWN);
    for (syntax, text, selected, pressed, expected) in [
        ("a1111", "a red fox", (3, 3), &[up][..], json!(["a (red:1.1) fox", "red"])),
        // Back at 1 the brackets go, and below it they come again.
        ("a1111", "a red fox", (3, 3), &[up, down], json!(["a red fox", "red"])),
        ("a1111", "a red fox", (3, 3), &[down, down], json!(["a (red:0.8) fox", "red"])),
        ("a1111", "a red fox", (2, 9), &[up, up], json!(["a (red fox:1.2)", "red fox"])),
        ("a1111", "((a)) b", (2, 2), &[up], json!(["((a:1.2)) b", "a"])),
        ("a1111", "<lora:ink:0.8> a", (8, 8), &[up, up, up], json!(["<lora:ink:1.1> a", ""])),
        ("comfy", "a", (1, 1), &[down; 12], json!(["(a:0)", "a"])),
        ("compel", "a red++ fox", (3, 3), &[down], json!(["a (red)1.11 fox", "red"])),
        ("compel", "a (red fox)1.1 x", (5, 5), &[down], json!(["a red fox x", "red fox"])),
        ("plain", "a red fox", (3, 3), &[up], json!(["a red fox", ""])),
    ] {
        assert_eq!(press(syntax, text, selected, pressed), expected, "{syntax}: {text}");
    }
    // Each press is undone by itself, and what is drawn is what stands there.
    press("a1111", "a red fox", (3, 3), &[up, up]);
    browser.press(&[keys::CONTROL, 'z']);
    assert_eq!(state()[0], "a (red:1.1) fox");
    let asked = browser.run("return (await import('./page/request.js')).request().prompt");
    assert_eq!(asked, "a (red:1.1) fox");
}
