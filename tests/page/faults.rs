//! What people do that a page forgets: typed seeds, pasted texts, held keys, files of any kind, settings changed in mid-queue.

use serde_json::{Value, json};

use crate::browser::{Browser, keys};

const APPLE: &str = "a red apple on a blue background";

fn next_seed(browser: &Browser) -> Value {
    browser.eval("document.querySelector('[name=next-seed]:checked').value")
}

fn press_notice(browser: &Browser, label: &str) {
    browser.wait_until(&format!(
        "[...document.querySelectorAll('.notice button')].some((button) => button.textContent === {label:?})"
    ));
    browser.click_labelled(".notice button", label);
}

fn said(browser: &Browser, words: &str) {
    browser.wait_until(&format!("document.getElementById('notices').textContent.includes({words:?})"));
}

/// Drops files on an element; `files` is JavaScript that gives a list of them.
fn drop_files(browser: &Browser, target: &str, files: &str) {
    browser.run(&format!(
        "const transfer = new DataTransfer();
        for (const file of {files}) transfer.items.add(file);
        const target = document.querySelector({target:?});
        for (const type of ['dragenter', 'dragover', 'drop'])
            target.dispatchEvent(new DragEvent(type, {{ dataTransfer: transfer, bubbles: true, cancelable: true }}));"
    ));
}

/// Pastes a text, and perhaps a picture of it, into a field; tells whether the page took it from the browser.
fn paste(browser: &Browser, field: &str, text: &str, with_picture: bool) -> bool {
    browser
        .run(&format!(
            "const field = document.getElementById({field:?}); field.focus();
            const transfer = new DataTransfer(); transfer.setData('text/plain', {text});
            if ({with_picture}) {{
                const canvas = new OffscreenCanvas(64, 64); canvas.getContext('2d').fillRect(0, 0, 64, 64);
                transfer.items.add(new File([await canvas.convertToBlob()], 'text.png', {{ type: 'image/png' }}));
            }}
            return !field.dispatchEvent(new ClipboardEvent('paste', {{ clipboardData: transfer, bubbles: true, cancelable: true }}));",
            text = json!(text)
        ))
        .as_bool()
        .expect("a boolean")
}

#[test]
fn a_typed_seed_is_kept_and_a_reused_one_holds_once() {
    let browser = Browser::on_page();
    assert_eq!(next_seed(&browser), "random");
    browser.eval("(() => { document.querySelectorAll('#request details').forEach((details) => { details.open = true; }); document.getElementById('steps').value = '1'; document.getElementById('seed').focus(); document.getElementById('seed').select(); })()");
    browser.press(&['7', '7']);
    assert_eq!(next_seed(&browser), "keep");
    browser.click("#draw");
    browser.wait_until("document.querySelector('.card small')?.textContent.includes('seed 77 ')");
    browser.wait_until_idle();
    // From here on new ones; but what a picture was drawn with is drawn once more.
    browser.click("[name=next-seed][value=random]");
    browser.click_labelled(".card button", "Use settings");
    browser.wait_until("document.getElementById('seed').value === '77'");
    assert_eq!(next_seed(&browser), "keep");
    browser.click("#draw");
    browser.wait_until("document.querySelectorAll('.card').length === 2");
    browser.wait_until_idle();
    assert!(browser.text(".card small").contains("seed 77 "));
    assert_eq!(next_seed(&browser), "random");
    browser.click("#draw");
    browser.wait_until("document.querySelectorAll('.card').length === 3");
    browser.wait_until_idle();
    assert!(!browser.text(".card small").contains("seed 77 "), "{}", browser.text(".card small"));
    // Unlocked and locked again, a seed that came with a picture stays.
    browser.eval(
        "[...document.querySelectorAll('.card button')].filter((b) => b.textContent === 'Use settings').at(-1).click()",
    );
    browser.wait_until("document.getElementById('seed').value === '77'");
    for choice in ["random", "keep"] {
        browser.click("#seed-lock");
        assert_eq!(next_seed(&browser), choice);
    }
    browser.click("#draw");
    browser.wait_until("document.querySelectorAll('.card').length === 4");
    browser.wait_until_idle();
    assert_eq!(next_seed(&browser), "keep");
}

#[test]
fn settings_of_a_picture_from_a_prompt_alone_take_the_start_picture_away() {
    let browser = Browser::on_page();
    browser.draw(APPLE, 1);
    browser.click_labelled(".card button", "Edit");
    browser.wait_until("!document.getElementById('start-filled').hidden");
    browser.click_labelled(".card button", "Use settings");
    browser.wait_until("document.getElementById('start-filled').hidden");
    said(&browser, "Source image removed");
    press_notice(&browser, "Undo");
    browser.wait_until("!document.getElementById('start-filled').hidden");
    // Its own settings leave it where it is.
    browser.run("const { all } = await import('./page/album.js'); window.drawn = new File([(await all())[0].png], 'a.png', { type: 'image/png' });");
    drop_files(&browser, ".target[data-target=start]", "[window.drawn]");
    press_notice(&browser, "Use settings");
    browser.run("await new Promise((resolve) => setTimeout(resolve, 300))");
    assert_eq!(browser.eval("document.getElementById('start-filled').hidden"), false);
}

#[test]
fn pasted_texts_are_texts_and_pasted_settings_are_settings() {
    let browser = Browser::on_page();
    assert!(!paste(&browser, "prompt", "a text from a word processor", true), "the text is lost");
    assert_eq!(browser.eval("document.getElementById('start-filled').hidden"), true);
    assert!(paste(&browser, "prompt", "", true));
    browser.wait_until("!document.getElementById('start-filled').hidden");
    let fields = || {
        browser.eval(
            "['prompt', 'negative', 'sampler', 'steps', 'seed', 'width'].map((id) => document.getElementById(id).value)",
        )
    };
    for (name, ours) in
        [("DPM++ 2M Karras", "dpm++2m_karras"), ("Euler a", "euler_a"), ("DPM++ SDE", "dpm++sde"), ("DDIM", "ddim")]
    {
        browser.fill(&[("seed", "5"), ("sampler", "heun")]);
        let text = format!(
            "a café, (night:1.2)\nNegative prompt: blurry\nSteps: 20, Sampler: {name}, CFG scale: 7, Seed: 123, Size: 512x768"
        );
        assert!(paste(&browser, "prompt", &text, false), "{name}");
        browser.wait_until("document.getElementById('seed').value === '123'");
        let got = fields();
        assert_eq!(
            (&got[0], &got[1], &got[3], &got[5]),
            (&json!("a café, (night:1.2)"), &json!("blurry"), &json!("20"), &json!("512"))
        );
        assert_eq!(got[2].as_str().map(|got| got.replace('_', "")), Some(ours.replace('_', "")), "{name}");
    }
    assert!(!browser.text("#notices").contains("is not one of ours"), "{}", browser.text("#notices"));
}

#[test]
fn the_notice_of_a_cut_prompt_is_short() {
    let browser = Browser::on_page();
    browser.eval(
        "(() => { const select = document.getElementById('syntax'); select.value = 'plain';
        select.dispatchEvent(new Event('input', { bubbles: true })); })()",
    );
    browser.draw(&"apple ".repeat(300), 1);
    said(&browser, "could not read the end of the prompt");
    let notice = browser.text(".notice p");
    assert!(notice.len() < 160 && notice.contains('…'), "{notice}");
}

/// Keys that are held, that belong to an input method, or that are for a dialog.
#[test]
fn keys_do_only_what_they_are_pressed_for() {
    let browser = Browser::on_page();
    let draw = "document.getElementById('draw').click()";
    browser.fill(&[("steps", "150")]);
    for _ in 0..3 {
        browser.eval(draw);
    }
    browser.wait_until("document.querySelectorAll('#queue li').length === 2");
    browser.wait_until("document.getElementById('stage').textContent.startsWith('Step ')");
    browser.eval(
        "(() => { for (const more of [{ isComposing: true }, { keyCode: 229 }, { repeat: true }])
            document.body.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape', bubbles: true, ...more })); })()",
    );
    assert_eq!(browser.eval("document.getElementById('stop').disabled"), false, "it is stopping");
    // Behind a dialog nothing is drawn.
    browser.click("#open-models");
    browser.wait_until("document.getElementById('models').open");
    browser.press(&[keys::CONTROL, keys::ENTER]);
    browser.run("await new Promise((resolve) => setTimeout(resolve, 300))");
    assert_eq!(browser.eval("document.querySelectorAll('#queue li').length"), 2);
    // Enter in a field takes what is written.
    browser.eval("(() => { const field = document.getElementById('endpoint'); field.value = location.origin; field.dispatchEvent(new Event('change')); document.getElementById('repository').focus(); })()");
    browser.press(&['o', '/', 'n', keys::ENTER]);
    said(&browser, "o/n could not be downloaded");
    assert_eq!(browser.eval("document.getElementById('models').open"), true);
}

#[test]
fn addresses_of_the_hub_are_repositories() {
    let browser = Browser::on_page();
    let got = browser.run(
        "const { repository_of } = await import('./page/pasted.js');
        return ['https://huggingface.co/stabilityai/sd-turbo', ' huggingface.co/stabilityai/sd-turbo/tree/main ',
            'https://hf.co/o/n/tree/refs%2Fpr%2F7', 'https://huggingface.co/o/n/blob/main/a%20b/m.safetensors?download=true',
            'https://huggingface.co/o/n/resolve/v1/m.gguf', 'https://hub.example/mirror/o/n', 'https://example.com/m.safetensors',
            'turbo', 'o/n@v1'].map((text) => repository_of(text, 'https://hub.example/mirror/'));",
    );
    assert_eq!(
        got,
        json!([
            "stabilityai/sd-turbo",
            "stabilityai/sd-turbo",
            "o/n@refs/pr/7",
            "o/n/a b/m.safetensors",
            "o/n@v1/m.gguf",
            "o/n",
            "https://example.com/m.safetensors",
            "turbo",
            "o/n@v1"
        ])
    );
}

/// A Hub that takes the connection and never says a word.
#[test]
fn a_hub_that_does_not_answer_is_told_and_can_be_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || listener.incoming().collect::<Vec<_>>());
    let browser = Browser::on_page();
    browser.click("#open-models");
    browser.wait_until("document.querySelectorAll('.model').length === 7");
    browser.eval(&format!(
        "(() => {{ const field = document.getElementById('endpoint'); field.value = {endpoint:?}; field.dispatchEvent(new Event('change'));
        document.getElementById('repository').value = 'o/n'; document.getElementById('add-repository').click(); }})()"
    ));
    browser.wait_until("document.querySelector('[data-model=\"o/n\"]')?.textContent.includes('Asking the hub')");
    browser.wait_until("document.getElementById('models-now').textContent.includes('has not answered yet')");
    browser.click_labelled("#models button", "Pause: o/n");
    browser.wait_until("!document.querySelector('[data-model=\"o/n\"]')");
    // The next one can be asked for.
    browser.click("#add-repository");
    browser.wait_until("document.querySelector('[data-model=\"o/n\"]')");
}

#[test]
fn files_of_any_kind_and_number_are_answered() {
    let browser = Browser::on_page();
    browser.draw(APPLE, 1);
    let jpeg = "const canvas = new OffscreenCanvas(64, 64); canvas.getContext('2d').fillRect(0, 0, 64, 64);
        const jpeg = await canvas.convertToBlob({ type: 'image/jpeg' });";
    // A photo has no settings, and that is no fault of a PNG's.
    browser.run(&format!("{jpeg} window.photo = new File([jpeg], 'photo.jpg', {{ type: 'image/jpeg' }});"));
    drop_files(&browser, "body", "[window.photo]");
    said(&browser, "This image contains no settings");
    drop_files(&browser, "body", "[new File(['x'], 'lora.safetensors')]");
    said(&browser, "lora.safetensors");
    assert!(!browser.text("#notices").contains("PNG"), "{}", browser.text("#notices"));
    browser.eval("document.querySelectorAll('dialog[open]').forEach((dialog) => dialog.close())");
    // Several pictures go into the gallery, and what does not is named.
    browser.run(
        "const { all } = await import('./page/album.js'); const [{ png }] = await all();
        window.drawn = ['a.png', 'b.png'].map((name) => new File([png], name, { type: 'image/png' }));",
    );
    drop_files(&browser, "body", "[...window.drawn, window.photo]");
    browser.wait_until("document.querySelectorAll('.card').length === 3");
    said(&browser, "2 images added; 1 file is not a PNG with settings: photo.jpg");
}

#[test]
fn settings_change_in_mid_queue() {
    let browser = Browser::on_page();
    browser.fill(&[("width", "384"), ("height", "384")]);
    browser.ask_for(APPLE, 150);
    browser.wait_until("document.getElementById('stage').textContent.startsWith('Step ')");
    browser.eval(
        "(() => { const select = document.getElementById('dtype'); select.value = 'f32';
        select.dispatchEvent(new Event('change')); })()",
    );
    assert_eq!(browser.eval("document.getElementById('draw').disabled"), false);
    assert_eq!(browser.eval("document.documentElement.dataset.state"), "drawing");
    browser.fill(&[("width", "128"), ("height", "128")]);
    browser.ask_for(APPLE, 1);
    browser.click("#stop");
    browser.wait_until("document.querySelectorAll('.card').length === 1");
    browser.wait_until_idle();
}

#[test]
fn a_long_queue_does_not_make_a_long_page() {
    let browser = Browser::on_page();
    browser.fill(&[("steps", "150")]);
    browser.eval("(() => { for (let i = 0; i < 300; i += 1) document.getElementById('draw').click(); })()");
    browser.wait_until("document.getElementById('open-queue').textContent === 'Queue: 299'");
    browser.click("#open-queue");
    browser.wait_until("document.getElementById('queue-drawer').open");
    let height = browser.eval("Math.max(document.documentElement.scrollHeight, document.getElementById('queue-drawer').offsetHeight) - innerHeight");
    assert!(height.as_f64() <= Some(0.0), "the page is {height} pixels too long");
    browser.click("#queue-clear");
    browser.wait_until("document.querySelectorAll('#queue li').length === 0");
    browser.eval("document.getElementById('queue-drawer').close()");
    browser.click("#stop");
    browser.wait_until_idle();
    assert_eq!(browser.n_pictures(), 0);
}

/// Screen readers are told of faults when typing rests, and of start, progress and end.
#[test]
fn what_happens_is_announced_and_typing_is_not() {
    let browser = Browser::on_page();
    browser.eval(
        "(() => { window.heard = []; const announce = document.getElementById('announce');
        new MutationObserver(() => announce.textContent && window.heard.push(announce.textContent))
        .observe(announce, { childList: true, characterData: true, subtree: true }); })()",
    );
    assert_eq!(browser.eval("document.getElementById('needs').getAttribute('aria-live')"), Value::Null);
    browser.draw(APPLE, 8);
    browser.run("await new Promise((resolve) => setTimeout(resolve, 200))");
    let heard = browser.eval("window.heard");
    let heard: Vec<&str> = heard.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert!(heard.first().is_some_and(|first| first.starts_with("Generating: ")), "{heard:?}");
    assert!(heard.last().is_some_and(|last| last.starts_with("Done in ")), "{heard:?}");
    assert!((1..=4).contains(&heard.iter().filter(|each| each.starts_with("Step ")).count()), "{heard:?}");
    browser.eval("window.heard.length = 0");
    for steps in ["1", "15", "150", "1501"] {
        browser.fill(&[("steps", steps)]);
    }
    browser.wait_until("window.heard.length > 0");
    assert_eq!(browser.eval("window.heard"), json!(["Steps 1501 is not possible: use 1 to 150."]));
}

/// A timer on the main thread must not be later than this, beyond what the machine itself is late.
const MAX_LATE_MS: f64 = 100.0;

/// A photo of 64 million pixels is read and made small in the worker.
#[test]
fn a_large_photo_does_not_block_the_page() {
    let browser = Browser::on_page();
    browser.run(
        "const canvas = new OffscreenCanvas(8000, 8000); const pen = canvas.getContext('2d');
        for (let i = 0; i < 80; i += 1) { pen.fillStyle = `hsl(${i * 9} 80% 50%)`; pen.fillRect(i * 100, 0, 100, 8000); }
        window.photo = new File([await canvas.convertToBlob({ type: 'image/jpeg', quality: 0.5 })], 'photo.jpg', { type: 'image/jpeg' });",
    );
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let late = browser.run(
            "const input = document.getElementById('picture-file');
            // The page empties the list that it was given.
            const transfer = new DataTransfer(); transfer.items.add(window.photo); input.files = transfer.files;
            let last = performance.now(), late = 0;
            const tick = async (ms) => {
                await new Promise((resolve) => setTimeout(resolve, ms));
                const now = performance.now(); late = Math.max(late, now - last - ms); last = now;
            };
            input.dispatchEvent(new Event('change'));
            while (document.getElementById('start-filled').hidden) await tick(10);
            for (let i = 0; i < 30; i += 1) await tick(10);
            document.getElementById('remove-picture').click();
            return late;",
        );
        best = best.min(late.as_f64().expect("a number"));
        eprintln!("a timer of 10 ms was at most {late} ms late");
        if best <= MAX_LATE_MS {
            break;
        }
    }
    assert!(best <= 3.0 * MAX_LATE_MS, "the page's thread was busy for {best:.0} ms");
    // It is drawn at a size that the model has, and said so where its shape is another one.
    assert_eq!(browser.eval("document.getElementById('width').value"), "128");
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}

#[test]
fn a_start_picture_of_another_shape_is_told_and_outlives_a_reload() {
    let browser = Browser::on_page();
    browser.run(
        "const canvas = new OffscreenCanvas(333, 100); canvas.getContext('2d').fillRect(0, 0, 300, 100);
        const transfer = new DataTransfer(); transfer.items.add(new File([await canvas.convertToBlob()], 'wide.png', { type: 'image/png' }));
        const input = document.getElementById('picture-file'); input.files = transfer.files; input.dispatchEvent(new Event('change'));",
    );
    browser.wait_until("!document.getElementById('start-filled').hidden");
    browser.wait_until("document.getElementById('start-hint').textContent.includes('333 × 100: it is stretched to')");
    browser.drag("#mask-canvas", "mouse", (0.3, 0.3), (0.6, 0.6));
    browser.wait_until("document.getElementById('start-hint').textContent.startsWith('Only the painted area')");
    let mask = "(() => { const mask = document.getElementById('mask-canvas'); const { data } = mask.getContext('2d').getImageData(0, 0, mask.width, mask.height);
        let n = 0; for (let i = 3; i < data.length; i += 4) n += data[i] >= 128; return [mask.width, mask.height, n]; })()";
    let before = browser.eval(mask);
    browser.run("await new Promise((resolve) => setTimeout(resolve, 1500))");
    browser.reload();
    browser.wait_until_idle();
    browser.wait_until("!document.getElementById('start-filled').hidden");
    browser.wait_until("document.getElementById('start-hint').textContent.startsWith('Only the painted area')");
    assert_eq!(browser.eval(mask), before);
    // Removed is removed, however soon the page is left.
    browser.click("#remove-picture");
    browser.reload();
    browser.wait_until_idle();
    browser.run("await new Promise((resolve) => setTimeout(resolve, 300))");
    assert_eq!(browser.eval("document.getElementById('start-filled').hidden"), true);
}
