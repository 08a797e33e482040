//! The main job in Firefox: on the processor, and on the GPU in 16 bits, which Chromium's software adapter does not have.

use std::path::Path;

use crate::browser::{Browser, difference, has_no_gpu, mean_square, page_url};

const APPLE: &str = "a red apple on a blue background";

#[test]
fn firefox_draws_on_the_processor_and_in_16_bits_on_the_gpu() {
    let browser = Browser::start_firefox();
    browser.open_page(&page_url());
    browser.draw(APPLE, 6);
    eprintln!("cpu, 6 steps: {}", browser.text("#stage"));
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/emoji/apple.png");
    let expected = darkroom::image::decode(&std::fs::read(fixture).expect("the fixture")).expect("a picture");
    let max = difference(&browser.newest_picture(), &expected);
    assert!(max <= 2, "the picture differs from diffusers' by {max} levels");
    if has_no_gpu() {
        return;
    }

    browser.draw(APPLE, 2);
    let processors = browser.newest_picture();
    browser.choose_runner("gpu", "GPU");
    let has_f16 = "[...document.querySelectorAll('#machine dt')]
        .find((term) => term.textContent === '16-bit floats').nextElementSibling.textContent";
    assert_eq!(browser.eval(has_f16), "yes", "this is the test of 16 bits");
    browser.wait_until("document.getElementById('needs').textContent.includes('of GPU memory')");
    browser.draw(APPLE, 2);
    eprintln!("gpu, 2 steps: {}", browser.text("#stage"));
    let error = mean_square(&processors, &browser.newest_picture());
    let psnr = 10.0 * (255.0 * 255.0 / error.max(1e-9)).log10();
    eprintln!("PSNR of 16 bits against 32: {psnr:.1} dB");
    assert!(psnr >= 35.0, "PSNR {psnr:.1} dB");
    assert_eq!(browser.text("#notices"), "");
}
