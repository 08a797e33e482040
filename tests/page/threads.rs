//! The processor's threads: as many as cores on an isolated page, else one, and the page says why. The picture is the same.

use serde_json::{Value, json};

use crate::app::{edit, installed, list_files};
use crate::browser::{Browser, page_url, serve, serve_plainly, www};
use crate::trouble::copy_of_page;

/// Draws on the processor with the page's own library, beside no page that draws as well. Gives what the browser can do, how the model was loaded, and the
/// pictures' files.
fn drawn(browser: &Browser, url: &str) -> Value {
    browser.open(&format!("{url}protocol.js"));
    browser.run(
        "const { Darkroom } = await import('./darkroom.js');
        const darkroom = await Darkroom.open();
        try {
            const checked = await darkroom.check();
            const loaded = await darkroom.load({ runner: 'cpu' });
            const files = [];
            for (const request of [{ prompt: 'a red apple', seed: 3, steps: 3 }, { prompt: 'a cat', seed: 4, steps: 2, width: 128, height: 96, sampler: 'euler_a' }]) {
                const { pictures } = await darkroom.generate(request).done;
                files.push(Array.from(pictures[0].png));
            }
            return { ...checked, isolated: crossOriginIsolated, cores: navigator.hardwareConcurrency, device: loaded.device, why: loaded.why, files };
        } finally { darkroom.close(); }",
    )
}

fn has_threads() -> bool {
    let there = www().join("pkg-threads/darkroom_bg.wasm").is_file();
    if !there {
        eprintln!("this build of the page has no threads: `./build.sh setup` says why");
    }
    there
}

#[test]
fn threads_draw_what_one_thread_draws() {
    let browser = Browser::start();
    let one = drawn(&browser, &serve_plainly(&www()));
    assert_eq!(one["isolated"], false);
    assert_eq!(one["n_threads"], 1);
    let why =
        "one thread computes, because this page is not cross-origin isolated: its server does not send the headers";
    assert!(one["why"].as_str().expect("a reason").contains(why), "{}", one["why"]);
    assert!(one["one_thread_because"].as_str().is_some_and(|why| why.starts_with("this page is not")));
    assert_eq!(one["device"], "cpu (candle, f32)");

    let many = drawn(&browser, &page_url());
    assert_eq!(many["isolated"], true);
    assert_eq!(many["files"], one["files"], "the files are the same to the last bit");
    let n_cores = many["cores"].as_u64().expect("a number");
    if !has_threads() || n_cores < 2 {
        assert_eq!(many["n_threads"], 1);
        return;
    }
    assert_eq!(many["n_threads"], n_cores.min(16));
    assert_eq!(many["one_thread_because"], Value::Null);
    assert_eq!(many["device"], json!(format!("cpu (candle, f32), {} threads", n_cores.min(16))));
    assert!(many["why"].as_str().is_some_and(|why| why.ends_with("threads compute")), "{}", many["why"]);
}

#[test]
fn without_the_second_module_one_thread_draws_and_the_page_says_why() {
    if !has_threads() {
        return;
    }
    let browser = Browser::start();
    let page = copy_of_page(Some("pkg-threads"));
    browser.open_page(&serve(page.path()));
    browser.draw("a red apple on a blue background", 1);
    let machine = browser.text("#machine");
    assert!(machine.contains("the threads did not start"), "{machine}");
}

/// The GPU has the module with one thread; between the two a page changes as often as it likes.
#[test]
fn runners_change_and_each_has_its_module() {
    if crate::browser::has_no_gpu() {
        return;
    }
    let browser = Browser::start();
    browser.open(&format!("{}protocol.js", page_url()));
    let seen = browser.run(
        "const { Darkroom } = await import('./darkroom.js');
        const darkroom = await Darkroom.open();
        const seen = [];
        try {
            for (const runner of ['gpu', 'cpu', 'gpu', 'cpu']) {
                const { device } = await darkroom.load({ runner });
                // A software adapter takes minutes for a picture.
                const drawn = runner === 'cpu' && (await darkroom.generate({ prompt: 'a red apple', seed: 3, steps: 1 }).done).pictures.length;
                seen.push([device, drawn]);
            }
        } finally { darkroom.close(); }
        return seen;",
    );
    for (i, drawn) in seen.as_array().expect("a list").iter().enumerate() {
        assert_eq!(drawn[0].as_str().expect("a device").starts_with("cpu"), i % 2 == 1, "{drawn}");
        assert_eq!(drawn[1], if i % 2 == 1 { json!(1) } else { json!(false) });
    }
}

/// The worker waits for its threads and hears nothing: the page is told all the same.
#[test]
fn a_thread_that_fails_is_said() {
    if !has_threads() {
        return;
    }
    let browser = Browser::start();
    let page = copy_of_page(None);
    let thread = page.path().join("worker/thread.js");
    let text = std::fs::read_to_string(&thread).expect("the file");
    assert!(text.contains("module.run_thread();"));
    std::fs::write(&thread, text.replace("module.run_thread();", "throw new Error('unreachable');")).expect("a file");
    browser.open(&format!("{}protocol.js", serve(page.path())));
    let said = browser.run(
        "const { Darkroom } = await import('./darkroom.js');
        try { const darkroom = await Darkroom.open(); await darkroom.load({ runner: 'cpu' }); return 'loaded'; }
        catch ({ code, message }) { return `${code}: ${message}`; }",
    );
    assert_eq!(said, "worker: a thread of the processor failed: unreachable");
}

/// For hosts that cannot send headers: the service worker does.
#[test]
fn a_plain_host_is_isolated_from_the_second_visit_on_where_the_page_says_so() {
    let browser = Browser::start();
    let page = copy_of_page(None);
    edit(page.path(), "index.html", "<html ", "<html data-isolate ");
    list_files(page.path(), "one");
    browser.open_page(&serve_plainly(page.path()));
    assert_eq!(browser.eval("crossOriginIsolated"), false);
    installed(&browser);
    browser.reload();
    browser.wait_until_idle();
    assert_eq!(browser.eval("crossOriginIsolated"), true);
    browser.draw("a red apple on a blue background", 1);
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}
