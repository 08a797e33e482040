//! Files that people bring from elsewhere: settings of other programs, formats that a browser reads and this program does
//! not, and the other way round.

use std::path::Path;

use serde_json::json;

use crate::browser::Browser;

/// Drops a committed file on an element.
fn drop_file(browser: &Browser, target: &str, name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures").join(name);
    let bytes = std::fs::read(path).expect("the fixture");
    // What was said before is not what is waited for.
    browser.run(&format!(
        "document.getElementById('notices').replaceChildren();
        const transfer = new DataTransfer(); transfer.items.add(new File([new Uint8Array({bytes:?})], {name:?}));
        const target = document.querySelector({target:?});
        for (const type of ['dragenter', 'dragover', 'drop'])
            target.dispatchEvent(new DragEvent(type, {{ dataTransfer: transfer, bubbles: true, cancelable: true }}));"
    ));
}

const SETTINGS: &str = ".target[data-target=settings]";
const START: &str = ".target[data-target=start]";

#[test]
fn settings_of_other_programs_are_taken_and_what_is_none_is_said() {
    let browser = Browser::on_page();
    let fields = || {
        browser.eval(
            "['prompt', 'sampler', 'steps', 'width', 'height', 'seed'].map((id) => document.getElementById(id).value)",
        )
    };
    let said = |words: &str| {
        browser.wait_until(&format!("document.getElementById('notices').textContent.includes({words:?})"))
    };
    let a1111 = json!(["a caf\u{e9} at night", "dpm++2m_karras", "20", "512", "768", "123"]);
    for name in ["a1111.png", "a1111.jpg", "a1111.webp"] {
        browser.fill(&[("prompt", ""), ("seed", "5"), ("steps", "3"), ("sampler", "ddim")]);
        drop_file(&browser, SETTINGS, name);
        browser.wait_until("document.getElementById('seed').value === '123'");
        assert_eq!(fields(), a1111, "{name}");
        // It says nothing of the noise, which is the GPU's then.
        assert_eq!(browser.eval("document.getElementById('noise').value"), "philox", "{name}");
    }
    // A seed that JavaScript's numbers do not hold.
    drop_file(&browser, SETTINGS, "comfy.png");
    browser.wait_until("document.getElementById('seed').value === '18446744073709551615'");
    said("Settings loaded from ComfyUI");
    assert_eq!(fields()[0], "a castle");
    drop_file(&browser, SETTINGS, "swarm_empty.png");
    said("made by SwarmUI and contains no settings that can be used here");
    drop_file(&browser, SETTINGS, "other.avif");
    said("AVIF files are not supported: use PNG, JPEG, WebP, GIF, BMP or TIFF");
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}

#[test]
fn a_picture_is_taken_or_refused_at_the_drop() {
    let browser = Browser::on_page();
    drop_file(&browser, START, "other.avif");
    browser.wait_until(
        "document.getElementById('notices').textContent.includes('other.avif: AVIF files are not supported')",
    );
    assert_eq!(browser.eval("document.getElementById('start-filled').hidden"), true);
    for name in ["turned6.tif", "xmp6.png", "plain.gif", "plain.bmp"] {
        drop_file(&browser, START, name);
        browser.wait_until("!document.getElementById('start-filled').hidden");
        // They are too small to be drawn at their own size, and of another shape than the model's.
        browser.wait_until("document.getElementById('start-canvas').width === 128");
        assert_eq!(browser.eval("document.getElementById('fit-field').hidden"), false, "{name}");
        browser.click("#remove-picture");
    }
    // A seed at the end of its range is drawn and told.
    let seed = u64::MAX.to_string();
    browser.fill(&[("prompt", "a red apple on a blue background"), ("steps", "1"), ("guidance", "4"), ("seed", &seed)]);
    browser.click("#draw");
    browser.wait_until(&format!("document.querySelector('.card small')?.textContent.includes('{seed}')"));
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}
