//! The models that the browser keeps: one is downloaded from a Hub, outlives a reload, draws, is verified and deleted.

use std::path::Path;

use crate::browser::{Browser, EMBEDDED_FILES, difference, serve};
use crate::trouble::copy_of_page;

/// A commit's name, of the form that the Hub has.
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("a copy");
        }
    }
}

/// Makes the folder that comes with the page answer as the Hub does: the branch has a commit, the commit has files.
pub fn as_hub(page: &Path) {
    let api = page.join("hub/api/models/darkroom/tiny-emoji");
    std::fs::create_dir_all(api.join("revision")).expect("a folder");
    std::fs::write(api.join("revision/main"), format!(r#"{{"sha":"{COMMIT}"}}"#)).expect("a file");
    std::fs::copy(api.join("tree/main"), api.join("tree").join(COMMIT)).expect("a copy");
    let files = page.join("hub/darkroom/tiny-emoji/resolve");
    copy_folder(&files.join("main"), &files.join(COMMIT));
}

fn press(browser: &Browser, label: &str) {
    browser.click_labelled("#models button", &format!("{label}: darkroom/tiny-emoji"));
}

#[test]
fn a_model_is_downloaded_kept_drawn_with_verified_and_deleted() {
    let page = copy_of_page(None);
    as_hub(page.path());
    let url = serve(page.path());
    let browser = Browser::start();
    browser.open_page(&url);
    browser.click("#open-models");
    browser.wait_until("document.querySelectorAll('.model').length === 7");
    browser.eval(&format!(
        "(() => {{ const endpoint = document.getElementById('endpoint'); endpoint.value = '{url}hub';
        endpoint.dispatchEvent(new Event('change')); }})()"
    ));
    // What the Hub does not have is said.
    browser.eval(
        "(() => { document.getElementById('repository').value = 'darkroom/nothing';
        document.getElementById('add-repository').click(); })()",
    );
    browser.wait_until("document.getElementById('notices').textContent.includes('could not be downloaded')");
    browser.eval(
        "(() => { document.getElementById('repository').value = 'darkroom/tiny-emoji';
        document.getElementById('add-repository').click(); })()",
    );
    browser.wait_until("document.getElementById('models-now').textContent.includes('is ready')");
    press(&browser, "Use");
    assert_eq!(browser.eval("document.getElementById('models').open"), false);
    browser.wait_until_idle();
    assert_eq!(browser.eval("document.getElementById('model').value"), "kept:darkroom/tiny-emoji");
    assert_eq!(browser.eval("document.getElementById('device').dataset.state"), "ready", "{}", browser.text("body"));
    browser.eval(
        "(() => { const model = document.getElementById('model'); model.selectedIndex = 0;
        model.dispatchEvent(new Event('change')); })()",
    );
    browser.wait_until_idle();

    browser.reload();
    browser.wait_until_idle();
    let kept =
        "[...document.getElementById('model').options].some((option) => option.value === 'kept:darkroom/tiny-emoji')";
    browser.wait_until(kept);
    browser.eval(
        "(() => { const model = document.getElementById('model'); model.value = 'kept:darkroom/tiny-emoji';
        model.dispatchEvent(new Event('change')); })()",
    );
    browser.wait_until_idle();
    browser.draw("a red apple on a blue background", 6);
    // The choice is kept, too.
    browser.reload();
    browser.wait_until_idle();
    assert_eq!(browser.eval("document.getElementById('model').value"), "kept:darkroom/tiny-emoji");
    browser.wait_until("document.querySelectorAll('.card').length === 1");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/emoji/apple.png");
    let expected = darkroom::image::decode(&std::fs::read(fixture).expect("the fixture")).expect("a picture");
    assert!(difference(&browser.newest_picture(), &expected) <= 2);

    browser.click("#open-models");
    browser.wait_until("document.querySelectorAll('.model').length === 8");
    press(&browser, "Verify");
    browser.wait_until("document.getElementById('models-now').textContent === 'darkroom/tiny-emoji is intact.'");
    press(&browser, "Delete");
    browser.wait_until("document.querySelectorAll('.model').length === 7");
    assert_eq!(browser.eval(kept), false);
    // The page goes on with the model that it has.
    browser.wait_until_idle();
    assert_eq!(browser.eval("document.getElementById('model').value"), "darkroom/tiny-emoji");
    browser.eval("document.getElementById('models').close()");
    browser.draw("a red apple on a blue background", 1);
}

/// Files that were picked are kept like a download, and what is no model is refused with what is missing.
#[test]
fn a_folder_is_taken_over() {
    let browser = Browser::on_page();
    let said = browser.run(&format!(
        "const files = await ({EMBEDDED_FILES})();
        const {{ Darkroom }} = await import('./darkroom.js');
        const darkroom = await Darkroom.open();
        const report = await darkroom.import('mine', files);
        files.delete('unet/diffusion_pytorch_model.fp16.safetensors');
        const refused = await darkroom.import('half', files).catch((error) => error.message);
        const kept = (await darkroom.models()).map(({{ model, complete }}) => [model, complete]);
        darkroom.close();
        return [report.complete, refused, kept];"
    ));
    assert_eq!(said[0], true);
    let refused = said[1].as_str().expect("a message");
    assert!(refused.contains("unet/diffusion_pytorch_model.safetensors is missing"), "{refused}");
    assert_eq!(said[2], serde_json::json!([["mine", true]]));
    browser.reload();
    browser.wait_until_idle();
    browser.wait_until("[...document.getElementById('model').options].some(({ value }) => value === 'kept:mine')");
}
