//! When things go wrong the page says what happened and what to do, and stays usable.

use std::path::Path;

use crate::browser::{Browser, has_no_gpu, page_url, serve, www};

/// Copies the page, without a file or folder if one is named.
pub fn copy_of_page(leaves_out: Option<&str>) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path, leaves_out: Option<&str>) {
        std::fs::create_dir_all(to).expect("a folder");
        for entry in std::fs::read_dir(from).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            let target = to.join(path.file_name().expect("a name"));
            if leaves_out.is_some_and(|name| path.ends_with(name)) {
                continue;
            } else if path.is_dir() {
                copy(&path, &target, leaves_out);
            } else {
                std::fs::copy(&path, &target).expect("a copy");
            }
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    copy(&www(), folder.path(), leaves_out);
    folder
}

#[test]
fn a_software_adapter_is_left_alone_and_the_page_says_why() {
    if has_no_gpu() {
        return;
    }
    let browser = Browser::on_page();
    assert_eq!(browser.eval("document.documentElement.dataset.runner"), "cpu");
    browser.click("#open-settings");
    let why = browser.text("#runner-why");
    assert!(why.contains("CPU: the only adapter here") && why.contains("is software"), "{why}");
    let machine = browser.text("#machine");
    assert!(machine.contains("software: correct, but very slow"), "{machine}");
    assert!(machine.contains("Largest binding") && machine.contains("GB"), "{machine}");
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}

#[test]
fn without_webgpu_the_processor_draws_and_the_page_says_why() {
    let browser = Browser::start_with(|flag| !flag.contains("webgpu"));
    browser.open_page(&page_url());
    assert_eq!(browser.eval("document.documentElement.dataset.runner"), "cpu");
    browser.click("#open-settings");
    assert!(browser.text("#runner-why").contains("offers no GPU"), "{}", browser.text("#runner-why"));
    assert!(browser.text("#machine").contains("no adapter was found"), "{}", browser.text("#machine"));
    browser.eval("document.getElementById('settings').close()");

    // Forced to the GPU it fails, says so, and one button leads back.
    browser.eval(
        "(() => { const select = document.getElementById('runner'); select.value = 'gpu';
        select.dispatchEvent(new Event('change')); })()",
    );
    browser.wait_until_idle();
    browser.wait_until("document.getElementById('notices').textContent.includes('no adapter was found')");
    assert_eq!(browser.eval("document.getElementById('draw').disabled"), false);
    browser.click_labelled(".notice button", "Use the CPU");
    browser.wait_until("document.getElementById('device').textContent.endsWith('CPU')");
    browser.wait_until_idle();
    browser.draw("a red apple on a blue background", 1);
}

#[test]
fn what_cannot_be_drawn_is_said_before_it_is_asked_for() {
    let browser = Browser::on_page();
    for (fields, expected, field) in [
        (
            &[("width", "100")][..],
            "Width 100 is not possible: use 96 or 128, or any multiple of 8 (set Size steps, under Advanced).",
            "width",
        ),
        (&[("width", "128"), ("steps", "151")], "Steps 151 is not possible: use 1 to 150.", "steps"),
        (&[("steps", "2"), ("guidance", "21")], "CFG scale 21 is not possible: use 0.0 to 20.0.", "guidance"),
        (&[("guidance", "4"), ("count", "0")], "Images: 0 is not possible: use 1 to 64.", "count"),
        (&[("count", "1"), ("seed", "1.5")], "Seed must be a whole number from 0 to 18446744073709551615.", "seed"),
        (&[("seed", "1"), ("prompt", "  ")], "Enter a prompt.", "prompt"),
    ] {
        browser.fill(fields);
        browser
            .wait_until(&format!("document.getElementById('needs').textContent === {}", serde_json::json!(expected)));
        // Asked for all the same, it leads to the field.
        browser.click("#draw");
        browser.wait_until(&format!("document.activeElement.id === '{field}'"));
        assert_eq!(browser.n_pictures(), 0);
    }
    browser.draw("a red apple on a blue background", 1);
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}

#[test]
fn a_missing_program_or_model_is_said() {
    let browser = Browser::start();
    let page = copy_of_page(Some("darkroom_bg.wasm"));
    browser.open(&serve(page.path()));
    browser.wait_until("document.getElementById('notices').textContent.includes('Darkroom did not start')");
    assert_eq!(browser.text("#draw"), "Reload the page");
    assert_eq!(browser.eval("document.getElementById('draw').disabled"), false);

    let page = copy_of_page(Some("unet/diffusion_pytorch_model.fp16.safetensors"));
    browser.open(&serve(page.path()));
    browser.wait_until_idle();
    let notice = browser.text("#notices");
    assert!(notice.contains("The model could not be loaded") && notice.contains("404"), "{notice}");
    assert_eq!(browser.eval("document.getElementById('draw').disabled"), false);
    // The file comes back, and the button that the page offers is enough.
    let missing = "hub/darkroom/tiny-emoji/resolve/main/unet/diffusion_pytorch_model.fp16.safetensors";
    std::fs::copy(www().join(missing), page.path().join(missing)).expect("a copy");
    browser.click_labelled(".notice button", "Retry");
    browser.wait_until_idle();
    assert_eq!(browser.eval("document.getElementById('device').dataset.state"), "ready", "{}", browser.text("body"));
    browser.draw("a red apple on a blue background", 1);
}
