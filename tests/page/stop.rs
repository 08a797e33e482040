//! Stops on the processor of a page that is not isolated: the worker that computes hears nothing and is ended, and another one
//! goes on with what waits.

use std::fs;

use serde_json::{Value, json};

use crate::browser::{Browser, EMBEDDED_FILES, serve_plainly};
use crate::trouble::copy_of_page;

/// JavaScript that the tests here use: how many workers were started and live, a picture's digest, and a job whose step takes
/// seconds, once it computes.
const RIG: &str = "
    let [n_made, n_alive] = [0, 0];
    const Given = globalThis.Worker;
    globalThis.Worker = class extends Given {
        constructor(...args) { super(...args); n_made++; n_alive++; }
        terminate() { n_alive--; super.terminate(); }
    };
    const { Darkroom } = await import('./darkroom.js');
    const digest = async (bytes) => Array.from(new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))).join();
    const fault = (promise) => promise.then(() => 'none', ({ code, message }) => `${code}: ${message}`);
    const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    const SMALL = { prompt: 'a red apple', seed: 3, steps: 2, width: 64, height: 64 };
    const LARGE = { prompt: 'a blue cat', seed: 1, steps: 4, width: 1024, height: 1024 };
    const draw = async (darkroom, request = SMALL) => digest((await darkroom.generate(request).done).pictures[0].png);
    const in_mid_step = async (darkroom, request = LARGE, options = {}, is_it = ({ stage }) => stage === 'denoising') => {
        let tell;
        const begun = new Promise((resolve) => { tell = resolve; });
        let last = 0;
        const job = darkroom.generate(request, { ...options, on_progress: (progress) => {
            if (is_it(progress) && progress.fraction > last && last > 0) tell();
            last = is_it(progress) ? progress.fraction : 0;
        } });
        await Promise.race([begun, job.done]);
        return job;
    };
    const timed = async (stop, job) => { const from = performance.now(); await Promise.all([stop(), job.done]); return performance.now() - from; };
";

/// A copy of the page that is served without the headers that isolate, and a browser on a file of it.
fn on_plain_host() -> (tempfile::TempDir, Browser) {
    let page = copy_of_page(None);
    let browser = Browser::start();
    browser.open(&format!("{}protocol.js", serve_plainly(page.path())));
    (page, browser)
}

fn run(browser: &Browser, body: &str) -> Value {
    browser.run(&format!("{RIG} {body}"))
}

/// A step of these takes seconds, and so long that a stop is told from it on a busy machine, too; how many workers were started
/// says whether one was ended.
fn is_soon(ms: &Value) {
    let ms = ms.as_f64().expect("a number");
    eprintln!("stopped after {ms:.0} ms");
    assert!(ms < 5000.0, "stopped after {ms} ms");
}

#[test]
fn a_stop_in_mid_step_keeps_the_queue() {
    let (page, browser) = on_plain_host();
    let said = run(
        &browser,
        "let restarted;
        const darkroom = await Darkroom.open({ on_restart: (back) => { restarted = back; } });
        const { cancels_within_a_step } = await darkroom.check();
        await darkroom.load({ runner: 'cpu' });
        const undisturbed = await draw(darkroom);
        Object.assign(globalThis, { undisturbed, darkroom, restarted: () => restarted, first: () => [n_made, n_alive] });
        return { isolated: crossOriginIsolated, cancels_within_a_step };",
    );
    assert_eq!(said, json!({ "isolated": false, "cancels_within_a_step": false }));
    // From here on the model is nowhere but in the browser.
    fs::remove_dir_all(page.path().join("hub")).expect("the model's folder");
    let said = run(
        &browser,
        "const large = await in_mid_step(darkroom);
        const stages = [];
        const small = darkroom.generate(SMALL, { on_progress: ({ stage }) => stages.push(stage), on_preview() {} });
        const given_up = darkroom.generate(SMALL);
        const others = [darkroom.work(SMALL), darkroom.count_tokens('a cat')];
        // What waits needs no worker for that.
        given_up.cancel();
        await given_up.done;
        const n_before = n_made;
        const stop_ms = await timed(() => large.cancel(), large);
        const stopped = await large.done;
        const from = performance.now();
        await restarted();
        const back_ms = performance.now() - from;
        const [png] = (await small.done).pictures;
        return { stop_ms, n_before, back_ms, first: first(), stopped: [stopped.cancelled, stopped.pictures.length, stopped.n_tokens, stopped.seconds > 0, stopped.flops > 0],
            given_up: (await given_up.done).cancelled, same: await digest(png.png) === undisturbed, stages: [...new Set(stages)],
            work: (await others[0]).n_steps, tokens: (await others[1])[0], n_made, n_alive };",
    );
    is_soon(&said["stop_ms"]);
    eprintln!("the model was back {:.0} ms later", said["back_ms"].as_f64().expect("a number"));
    assert_eq!(said["n_before"], 0, "{said}");
    assert_eq!(said["stopped"], json!([true, 0, 3, true, true]), "{said}");
    assert_eq!((&said["given_up"], &said["same"]), (&json!(true), &json!(true)), "{said}");
    assert_eq!((&said["work"], &said["tokens"]), (&json!(2), &json!(2)), "{said}");
    for stage in ["loading", "denoising"] {
        assert!(said["stages"].as_array().is_some_and(|stages| stages.contains(&json!(stage))), "{said}");
    }
    // The first worker was ended, and another one started: those of both are counted by what was set up first.
    assert_eq!(said["first"], json!([2, 1]), "{said}");
    assert_eq!((&said["n_made"], &said["n_alive"]), (&json!(1), &json!(1)), "{said}");
}

/// What is finished is kept, a pause lasts, and what else was asked of the worker is done by the next one.
#[test]
fn a_stop_keeps_pictures_a_pause_and_imports() {
    let (_page, browser) = on_plain_host();
    let said = run(
        &browser,
        &format!(
            "const files = await ({EMBEDDED_FILES})();
            const darkroom = await Darkroom.open();
            const abort = new AbortController();
            await darkroom.import('mine', files);
            const {{ weights, name }} = await darkroom.load({{ kept: 'mine', runner: 'cpu', weights: 'q8_0' }});
            const undisturbed = await draw(darkroom);
            const two = await in_mid_step(darkroom, {{ ...LARGE, count: 2, steps: 1, width: 512, height: 512 }}, {{ signal: abort.signal }},
                ({{ stage, picture }}) => stage === 'denoising' && picture === 1);
            // Nothing of these is heard.
            const transfers = [];
            const imported = darkroom.import('other', files, ({{ fraction }}) => transfers.push(fraction));
            const paused = darkroom.pause();
            const stages = [];
            const small = darkroom.generate(SMALL, {{ on_progress: ({{ stage }}) => stages.push(stage) }});
            const stop_ms = await timed(async () => abort.abort(), two);
            const {{ cancelled, pictures }} = await two.done;
            await paused;
            const report = await imported;
            const models = (await darkroom.models()).map(({{ model, complete }}) => [model, complete]).sort();
            const held = [stages.at(-1), await Promise.race([small.done.then(() => 'drawn'), pause(1000).then(() => 'held')])];
            await darkroom.resume();
            const [{{ png }}] = (await small.done).pictures;
            darkroom.close();
            return {{ stop_ms, cancelled, n: pictures.length, report: report.model, models, held, same: await digest(png) === undisturbed, n_made, n_alive,
                transfers: transfers.length > 0 }};"
        ),
    );
    is_soon(&said["stop_ms"]);
    assert_eq!((&said["cancelled"], &said["n"], &said["same"]), (&json!(true), &json!(1), &json!(true)), "{said}");
    assert_eq!((&said["held"], &said["report"]), (&json!(["paused", "held"]), &json!("other")), "{said}");
    assert_eq!(said["models"], json!([["mine", true], ["other", true]]), "{said}");
    assert_eq!((&said["n_made"], &said["n_alive"]), (&json!(2), &json!(0)), "{said}");
}

/// Whatever starts a worker starts it again: a function, another origin, addresses; a worker that was given is waited for.
#[test]
fn a_stop_starts_the_worker_as_it_was_started() {
    let (_page, browser) = on_plain_host();
    let cdn = crate::library::serve("Access-Control-Allow-Origin: *\r\n", "404 Not Found");
    for (options, n_made) in [
        (format!("{{ base_url: '{cdn}' }}"), 2),
        ("{ worker: 'worker.js', wasm_url: 'pkg/darkroom_bg.wasm' }".into(), 2),
        ("{ worker: () => new Worker('worker.js', { type: 'module' }) }".into(), 2),
        ("{ worker: new Worker('worker.js', { type: 'module' }) }".into(), 1),
    ] {
        let said = run(
            &browser,
            &format!(
                "const darkroom = await Darkroom.open({options});
                await darkroom.load({{ runner: 'cpu' }});
                const undisturbed = await draw(darkroom);
                const large = await in_mid_step(darkroom, {{ ...LARGE, width: 512, height: 512 }});
                const [waits, later] = [darkroom.generate(SMALL), () => draw(darkroom)];
                const stop_ms = await timed(() => darkroom.cancel(), large);
                const cancelled = [(await large.done).cancelled, (await waits.done).cancelled];
                const same = await later() === undisturbed;
                darkroom.close();
                return {{ cancelled, same, n_made, n_alive, stop_ms }};"
            ),
        );
        eprintln!("{options}: {said}");
        if n_made == 2 {
            is_soon(&said["stop_ms"]);
        }
        assert_eq!((&said["cancelled"], &said["same"]), (&json!([true, true]), &json!(true)), "{options}: {said}");
        assert_eq!((&said["n_made"], &said["n_alive"]), (&json!(n_made), &json!(0)), "{options}: {said}");
    }
}

#[test]
fn a_worker_that_does_not_come_back_is_said_to_all_that_wait() {
    let (page, browser) = on_plain_host();
    run(
        &browser,
        "let restarted;
        const darkroom = await Darkroom.open({ on_restart: (back) => { restarted = fault(back); } });
        await darkroom.load({ runner: 'cpu' });
        Object.assign(globalThis, { darkroom, restarted: () => restarted });",
    );
    fs::remove_file(page.path().join("worker.js")).expect("the worker's script");
    let said = run(
        &browser,
        "const large = await in_mid_step(darkroom);
        const waits = darkroom.generate(SMALL);
        const asks = darkroom.work(SMALL);
        await large.cancel();
        return { cancelled: (await large.done).cancelled, said: [await fault(waits.done), await fault(asks), await restarted(), await fault(darkroom.models())] };",
    );
    assert_eq!(said["cancelled"], true);
    for said in said["said"].as_array().expect("a list") {
        let said = said.as_str().expect("a text");
        assert!(said.starts_with("worker: ") && said.contains("worker.js") && said.contains("404"), "{said}");
    }
}

/// Also a load, whose model then is not there; and a second stop before the first one's worker is back.
#[test]
fn loads_are_stopped_too_and_stops_follow_each_other() {
    let (_page, browser) = on_plain_host();
    let said = run(
        &browser,
        "const darkroom = await Darkroom.open();
        await darkroom.load({ runner: 'cpu' });
        const undisturbed = await draw(darkroom);
        const large = await in_mid_step(darkroom);
        const waiting = [0, 1, 2].map(() => darkroom.generate(SMALL));
        const abort = new AbortController();
        const load = fault(darkroom.load({ runner: 'cpu', signal: abort.signal }));
        const last = darkroom.generate(SMALL);
        await large.cancel();
        // The model is being loaded again.
        const cancels = [waiting[0].cancel(), darkroom.cancel(waiting[1])];
        abort.abort();
        const ended = [await load, (await waiting[0].done).cancelled, (await waiting[1].done).cancelled];
        await Promise.all(cancels);
        const drawn = [];
        for (const job of [waiting[2], last]) drawn.push(await digest((await job.done).pictures[0].png) === undisturbed);
        const again = await in_mid_step(darkroom);
        const stop_ms = await timed(() => again.cancel(), again);
        drawn.push(await draw(darkroom) === undisturbed);
        darkroom.close();
        return { ended, drawn, stop_ms, n_made, n_alive };",
    );
    is_soon(&said["stop_ms"]);
    assert_eq!(said["ended"], json!(["cancelled: loading was stopped", true, true]), "{said}");
    assert_eq!(said["drawn"], json!([true, true, true]), "{said}");
    assert_eq!((&said["n_made"], &said["n_alive"]), (&json!(3), &json!(0)), "{said}");
}

/// In the page: Stop is immediate, the badge says that the model is loaded again, and what is asked for meanwhile is drawn.
#[test]
fn the_page_stops_at_once_and_goes_on() {
    let page = copy_of_page(None);
    let browser = Browser::start();
    browser.open_page(&serve_plainly(page.path()));
    let ready = browser.text("#device");
    browser.eval(
        "(() => { window.said = []; const device = document.getElementById('device');
        new MutationObserver(() => window.said.push(device.textContent)).observe(device, { childList: true }); })()",
    );
    browser.fill(&[("width", "1024"), ("height", "1024")]);
    browser.ask_for("a blue cat", 4);
    browser.wait_until("document.getElementById('stage').textContent.startsWith('Step ')");
    let ms = browser.run(
        "const from = performance.now();
        document.getElementById('stop').click();
        while (!document.getElementById('stage').textContent.startsWith('Stopped')) await new Promise((resolve) => setTimeout(resolve, 5));
        return performance.now() - from;",
    );
    is_soon(&ms);
    browser.fill(&[("width", "64"), ("height", "64")]);
    browser.draw("a red apple on a blue background", 2);
    assert_eq!(browser.eval("window.said"), json!(["Loading the model …", ready]));
    assert_eq!(browser.text("#notices"), "");
    assert_eq!(browser.console(), Vec::<String>::new(), "the console should stay silent");
}
