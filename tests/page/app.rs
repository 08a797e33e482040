//! The page as an app: its files are kept, it opens offline, another build takes its place whole; what it holds outlives a
//! reload and is the same in every tab.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use crate::browser::{Browser, page_url, serve, serve_all, www};
use crate::trouble::copy_of_page;

const APPLE: &str = "a red apple on a blue background";

/// Writes the list of files that `build.sh` writes, for a page as it is.
pub fn list_files(page: &Path, build: &str) {
    fn look(folder: &Path, root: &Path, files: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(folder).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            let name = path.strip_prefix(root).expect("below").display().to_string();
            if path.is_dir() {
                look(&path, root, files);
            } else if name != "sw.js" && name != "pkg/files.js" && !name.ends_with(".d.ts") {
                files.insert(name, darkroom::store::sha256_hex(&std::fs::read(&path).expect("the file")));
            }
        }
    }
    let mut files = BTreeMap::new();
    look(page, page, &mut files);
    let (once_asked_for, files): (BTreeMap<_, _>, BTreeMap<_, _>) =
        files.into_iter().partition(|(name, _)| name.starts_with("pkg-threads/"));
    let list = json!({ "build": build, "files": files, "once_asked_for": once_asked_for });
    let list = format!("globalThis.darkroom_files = {list};");
    std::fs::write(page.join("pkg/files.js"), list).expect("a file");
}

pub fn edit(page: &Path, name: &str, from: &str, to: &str) {
    let path = page.join(name);
    let text = std::fs::read_to_string(&path).expect("the file");
    assert!(text.contains(from), "{name} has no {from}");
    std::fs::write(path, text.replace(from, to)).expect("a file");
}

pub fn installed(browser: &Browser) {
    browser.run(
        "const registration = await navigator.serviceWorker.ready;
        while (registration.active?.state !== 'activated') await new Promise((resolve) => setTimeout(resolve, 20));",
    );
}

/// Whether the browser has a network.
fn set_offline(browser: &Browser, offline: bool) {
    let conditions = json!({ "offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1 });
    browser.cdp("Network.enable", &json!({}));
    browser.cdp("Network.emulateNetworkConditions", &conditions);
}

/// From a folder below the host's root, as static hosts have it.
#[test]
fn the_page_opens_offline_and_transfers_nothing_the_second_time() {
    let host = tempfile::tempdir().expect("a folder");
    let page = copy_of_page(None);
    let below = host.path().join("apps/dark room");
    std::fs::create_dir_all(below.parent().expect("a folder")).expect("a folder");
    std::fs::rename(page.path(), &below).expect("moved");
    list_files(&below, "one");
    let url = format!("{}apps/dark%20room/", serve(host.path()));
    let browser = Browser::start();
    browser.open_page(&url);
    installed(&browser);
    browser.open_page(&url);
    let transferred = browser.run(
        "const entries = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')];
        return [entries.length, entries.reduce((sum, { transferSize }) => sum + transferSize, 0), navigator.serviceWorker.controller !== null];",
    );
    assert!(transferred[0].as_u64() > Some(10), "{transferred}");
    assert_eq!((&transferred[1], &transferred[2]), (&json!(0), &json!(true)), "{transferred}");
    let errors = browser.cdp("Page.getInstallabilityErrors", &json!({}));
    assert_eq!(errors["installabilityErrors"], json!([]), "it cannot be installed");
    // The manifest names what is there.
    let icons = browser.run(
        "const address = document.querySelector('link[rel=manifest]').href;
        const manifest = await (await fetch(address)).json();
        const sizes = [];
        for (const { src, sizes: said } of manifest.icons) {
            const image = await createImageBitmap(await (await fetch(new URL(src, address))).blob().then((blob) =>
                blob.type.includes('svg') ? new Blob([new Uint8Array(0)]) : blob)).catch(() => null);
            if (image) sizes.push(`${image.width}x${image.height}` === said);
        }
        return [manifest.name, new URL(manifest.start_url, address).href === location.href, sizes];",
    );
    assert_eq!(icons, json!(["Darkroom", true, [true, true, true]]));
    set_offline(&browser, true);
    browser.open_page(&url);
    browser.draw(APPLE, 1);
    set_offline(&browser, false);
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}

#[test]
fn another_build_takes_its_place_whole() {
    let page = copy_of_page(None);
    list_files(page.path(), "one");
    let url = serve(page.path());
    let browser = Browser::start();
    browser.open_page(&url);
    installed(&browser);
    browser.open_page(&url);
    // Half of another build is on the host: nothing of it is taken.
    edit(page.path(), "index.html", "<title>Darkroom</title>", "<title>Two</title>");
    edit(page.path(), "pkg/files.js", "\"one\"", "\"two\"");
    browser.open_page(&url);
    browser.run(
        "const registration = await navigator.serviceWorker.ready; await registration.update().catch(() => {});
        while (registration.installing) await new Promise((resolve) => setTimeout(resolve, 20));",
    );
    browser.open_page(&url);
    assert_eq!(browser.eval("document.title"), "Darkroom");
    // Now all of it.
    list_files(page.path(), "two");
    // Again where the page itself still looked at the half.
    browser.run(
        "const registration = await navigator.serviceWorker.ready;
        while (!registration.waiting) {
            await registration.update().catch(() => {});
            await new Promise((resolve) => setTimeout(resolve, 100));
        }",
    );
    browser.wait_until("document.getElementById('notices').textContent.includes('new version of Darkroom is ready')");
    assert_eq!(browser.eval("document.title"), "Darkroom");
    browser.click_labelled(".notice button", "Reload the page");
    browser.wait_until("document.title === 'Two'");
    browser.wait_until_idle();
    let caches = browser.run("return (await caches.keys()).map((key) => key.split(' ').at(-1))");
    assert_eq!(caches, json!(["two"]));
}

/// A build without its list of files, and a page whose files are not those of the list, work as before.
#[test]
fn a_page_that_is_edited_comes_from_the_network() {
    let page = copy_of_page(Some("pkg/files.js"));
    let browser = Browser::start();
    let url = serve(page.path());
    browser.open_page(&url);
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
    list_files(page.path(), "one");
    edit(page.path(), "index.html", "<title>Darkroom</title>", "<title>Two</title>");
    browser.open_page(&url);
    browser.open_page(&url);
    assert_eq!(browser.eval("document.title"), "Two");
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}

#[test]
fn the_queue_outlives_a_reload() {
    let url = page_url();
    let browser = Browser::start();
    browser.open_page(&url);
    browser.fill(&[("prompt", APPLE), ("steps", "150"), ("guidance", "4")]);
    for seed in ["1", "2", "3"] {
        browser.fill(&[("seed", seed)]);
        browser.click("#draw");
        browser.wait_until(&format!(
            "document.querySelectorAll('#queue li').length === {}",
            seed.parse::<usize>().expect("a number") - 1
        ));
    }
    // Whoever leaves is asked.
    assert_eq!(browser.eval("!dispatchEvent(new Event('beforeunload', { cancelable: true }))"), true);
    browser.run("await new Promise((resolve) => setTimeout(resolve, 500))");
    browser.reload();
    browser.wait_until_idle();
    browser.wait_until("document.getElementById('notices').textContent.includes('3 images were not finished')");
    browser.click_labelled(".notice button", "Resume");
    browser.wait_until("document.querySelectorAll('#queue li').length === 2");
    browser.wait_until("document.getElementById('what-settings').textContent.includes('seed 1')");
    // Another tab leaves them alone.
    let tab = browser.post("/window/new", json!({ "type": "tab" }));
    browser.post("/window", json!({ "handle": tab["handle"] }));
    browser.open_page(&url);
    browser.run("await new Promise((resolve) => setTimeout(resolve, 500))");
    assert!(!browser.text("#notices").contains("not finished"), "{}", browser.text("#notices"));
}

/// Two of the page side by side.
const TABS: &str =
    "<!doctype html><title>Tabs</title><iframe src=\"index.html\"></iframe><iframe src=\"index.html\"></iframe>";

#[test]
fn tabs_show_the_same_pictures() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("tabs.html"), TABS).expect("a file");
    let browser = Browser::start();
    browser.open(&format!("{}tabs.html", serve_all(vec![www(), folder.path().to_path_buf()])));
    for tab in [0, 1] {
        browser.wait_until(&format!("frames[{tab}].document.documentElement.dataset.state === 'ready'"));
    }
    let cards = |tab: usize, n: usize| {
        browser.wait_until(&format!("frames[{tab}].document.querySelectorAll('.card:not([hidden])').length === {n}"));
    };
    let press = |tab: usize, within: &str, label: &str| {
        browser.eval(&format!(
            "[...frames[{tab}].document.querySelectorAll('{within} button')].find((b) => b.textContent === {label:?}).click()"
        ));
    };
    browser.eval(
        "(() => { const page = frames[0].document; page.getElementById('steps').value = '1'; page.getElementById('draw').click(); })()",
    );
    cards(0, 1);
    cards(1, 1);
    press(1, ".card", "☆");
    browser.wait_until("frames[0].document.querySelector('.favourite').getAttribute('aria-pressed') === 'true'");
    press(0, ".card", "Delete");
    cards(1, 0);
    press(0, ".notice", "Undo");
    cards(0, 1);
    cards(1, 1);
    browser.wait_until("frames[1].document.querySelector('.favourite').getAttribute('aria-pressed') === 'true'");
    // A model that one tab imports is in the other's list.
    browser.import_embedded("mine");
    browser.wait_until(
        "[...frames[1].document.getElementById('model').options].some(({ value }) => value === 'kept:mine')",
    );
}

#[test]
fn pictures_are_kept_after_the_sites_data_was_cleared() {
    let url = page_url();
    let browser = Browser::start();
    browser.open_page(&url);
    browser.draw(APPLE, 1);
    let cleared = json!({ "origin": url.trim_end_matches('/'), "storageTypes": "all" });
    browser.cdp("Storage.clearDataForOrigin", &cleared);
    browser.draw(APPLE, 1);
    assert_eq!(browser.text("#notices"), "");
    let kept = browser.run("const { all } = await import('./page/album.js'); return (await all()).length");
    assert_eq!(kept, 1, "the new picture is kept");
    // Models, too.
    browser.run(
        "const { Darkroom } = await import('./darkroom.js');
        const darkroom = await Darkroom.open();
        await darkroom.models();
        window.darkroom = darkroom;",
    );
    browser.cdp("Storage.clearDataForOrigin", &cleared);
    browser.wait_until("true");
    let models = browser.run(
        "await new Promise((resolve) => setTimeout(resolve, 500));
        const file = new File([await (await fetch('hub/darkroom/tiny-emoji/resolve/main/vae/diffusion_pytorch_model.fp16.safetensors')).blob()], 'v.safetensors');
        const words = await window.darkroom.import('v.safetensors', new Map([['v.safetensors', file]])).then(() => '', (error) => error.message);
        const models = (await window.darkroom.models()).map(({ model }) => model);
        window.darkroom.close();
        return [words, models];",
    );
    assert!(!models[0].as_str().is_some_and(|words| words.contains("IndexedDB")), "{models}");
}

#[test]
fn deleted_pictures_come_back_where_they_hung() {
    let browser = Browser::on_page();
    browser.fill(&[("count", "3")]);
    browser.ask_for(APPLE, 1);
    browser.wait_until("document.querySelectorAll('.card').length === 3");
    browser.wait_until_idle();
    let seeds =
        "[...document.querySelectorAll('.card:not([hidden]) small')].map((small) => small.textContent.split(' ')[1])";
    // Whoever uses a keyboard goes on from the neighbour.
    browser.click("#open-gallery");
    browser.eval("(() => { const cards = document.querySelectorAll('.card'); const button = [...cards[1].querySelectorAll('button')].find((b) => b.textContent === 'Delete'); cards[1].querySelector('.open').focus(); button.focus(); button.click(); })()");
    browser.wait_until("document.querySelectorAll('.card').length === 2");
    browser.wait_until("document.activeElement.ariaLabel === `Open: a red apple on a blue background, seed 1`");
    browser.click_labelled(".notice button", "Undo");
    browser.wait_until("document.querySelectorAll('.card').length === 3");
    assert_eq!(browser.eval(seeds), json!(["3", "2", "1"]));
    browser.wait_until("document.activeElement.ariaLabel === `Open: a red apple on a blue background, seed 2`");
    // Searched, marked, selected and saved together.
    browser.eval("document.querySelectorAll('.favourite')[2].click()");
    browser.click("#gallery-favourites");
    assert_eq!(browser.eval(seeds), json!(["1"]));
    assert_eq!(browser.text("#pictures-count"), "1 of 3 images");
    browser.click("#gallery-favourites");
    let search = |words: &str| {
        browser.eval(&format!(
            "(() => {{ const field = document.getElementById('gallery-search'); field.value = {words:?}; field.dispatchEvent(new Event('input')); }})()"
        ));
        browser.eval(seeds)
    };
    assert_eq!(search("green"), json!([]));
    assert_eq!(search("Apple 2"), json!(["2"]));
    assert_eq!(search("apple"), json!(["3", "2", "1"]));
    browser.eval("(() => { const boxes = document.querySelectorAll('.card .choose input'); boxes[0].click(); boxes[2].click(); })()");
    let zip = browser.run(
        "const { zip } = await import('./page/zip.js'); const { chosen_pictures } = await import('./page/gallery.js');
        const files = chosen_pictures().map(({ png, parameters, made_at }) => ({ name: `${parameters.seed}.png`, file: png, made_at }));
        const bytes = new Uint8Array(await (await zip(files)).arrayBuffer());
        return Array.from(bytes);",
    );
    let bytes: Vec<u8> =
        zip.as_array().expect("bytes").iter().map(|byte| byte.as_u64().expect("a byte") as u8).collect();
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("a.zip"), &bytes).expect("a file");
    let tested = std::process::Command::new("python3")
        .args(["-c", "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); print(z.testzip(), *z.namelist())"])
        .arg(folder.path().join("a.zip"))
        .output();
    // Without Python the signatures alone are looked at.
    match tested {
        Ok(tested) => assert_eq!(String::from_utf8_lossy(&tested.stdout).trim(), "None 3.png 1.png"),
        Err(_) => assert!(bytes.starts_with(b"PK\x03\x04") && bytes.windows(4).any(|four| four == b"PK\x05\x06")),
    }
    browser.click_labelled("#selected button", "Delete selected");
    browser.wait_until("document.querySelectorAll('.card').length === 1");
    browser.reload();
    browser.wait_until_idle();
    browser.wait_until("document.querySelectorAll('.card').length === 1");
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}

#[test]
fn a_model_comes_back_to_its_settings_and_from_its_deletion() {
    let browser = Browser::on_page();
    browser.import_embedded("mine");
    browser.reload();
    browser.wait_until_idle();
    let choose = |value: &str| {
        browser.eval(&format!(
            "(() => {{ const select = document.getElementById('model'); select.value = {value:?}; select.dispatchEvent(new Event('change')); }})()"
        ));
        browser.wait_until_idle();
    };
    let settings = "['steps', 'guidance', 'sampler', 'width'].map((id) => document.getElementById(id).value)";
    browser.fill(&[("steps", "5"), ("guidance", "3"), ("sampler", "heun"), ("width", "96")]);
    let before = browser.eval(settings);
    choose("kept:mine");
    assert_ne!(browser.eval(settings), before, "another model has its own settings");
    choose("darkroom/tiny-emoji");
    assert_eq!(browser.eval(settings), before);
    browser.click("#open-models");
    browser.wait_until("document.querySelector('[data-model=mine]')");
    browser.eval("(() => { const button = [...document.querySelectorAll('#models button')].find((b) => b.ariaLabel === 'Delete: mine'); button.focus(); button.click(); })()");
    browser.wait_until("!document.querySelector('[data-model=mine]')");
    assert_eq!(browser.eval("document.activeElement.closest('#models') !== null"), true, "the focus is lost");
    browser.click_labelled(".notice button", "Undo");
    browser.wait_until("document.querySelector('[data-model=mine]')");
    // What was deleted when the page was left is deleted.
    browser.click_labelled("#models button", "Delete: mine");
    browser.wait_until("!document.querySelector('[data-model=mine]')");
    browser.reload();
    browser.wait_until_idle();
    let kept = browser.run(
        "const { Darkroom } = await import('./darkroom.js'); const darkroom = await Darkroom.open();
        const models = (await darkroom.models()).map(({ model }) => model); darkroom.close(); return models;",
    );
    assert_eq!(kept, json!([]));
}
