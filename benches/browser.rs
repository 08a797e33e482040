//! Darkroom beside onnxruntime-web: one headless Chromium, one adapter, the same random weights, in turn.
//! `./build.sh bench --bench browser`; `./build.sh setup peers` brings onnxruntime-web and the models. `DARKROOM_ROUNDS=1`
//! for one round after the first, `DARKROOM_CASES=unet,vae-decoder` for some of the models, `DARKROOM_BACKENDS=wasm` for one of
//! the backends: `webgpu`, `wasm` with one thread, and wasm with as many `threads` as cores.
//!
//! Each contender has a worker of its own. On the GPU nothing is read back: a run ends when the queue is done.

#[allow(dead_code, reason = "the tests use the rest of it")]
#[path = "../tests/page/browser.rs"]
mod browser;
#[allow(dead_code, unused_imports, reason = "the tests use the rest of it")]
#[path = "../tools/serve/folder.rs"]
mod folder;
#[path = "common/report.rs"]
mod report;

use std::time::{Duration, Instant};

use browser::Browser;
use report::{Contender, Report, is_listed, is_wanted, n_rounds, peers_folder};
use serde_json::{Value, json};

/// The two sides on each backend, with the rounds after the first.
const BACKENDS: [(&str, &[&str], usize); 3] = [
    ("webgpu", &["darkroom webgpu", "onnxruntime webgpu", "onnxruntime webgpu captured"], 3),
    ("wasm", &["darkroom wasm", "onnxruntime wasm"], 7),
    ("threads", &["darkroom threads", "onnxruntime threads"], 7),
];

fn main() {
    let peers = peers_folder();
    let cases = ["text-encoder", "vae-decoder", "unet", "full-unet"];
    let cases: Vec<&str> = cases.into_iter().filter(|name| peers.join("cases").join(name).is_dir()).collect();
    let package = peers.join("node_modules/onnxruntime-web");
    if cases.is_empty() || !package.is_dir() {
        println!("browser: onnxruntime-web and its models are not here; `./build.sh setup peers` brings them");
        return;
    }
    let tools = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/bench");
    let url = browser::serve_all(vec![browser::www(), tools, peers, package]);
    let mut report = Report::start("browser");
    let browser = Browser::start();
    browser.open(&format!("{url}bench.html"));
    let caps = browser.run(
        "const { Remote } = await import('/bench/remote.js');
        const remote = new Remote('/bench/worker.js');
        const caps = await remote.call('check');
        remote.end();
        window.contenders = await import('/contenders.js');
        return { ...caps, agent: navigator.userAgent };",
    );
    report.fact("browser", caps["agent"].clone());
    report.adapter(caps["name"].as_str().unwrap_or_default(), caps["software"] == true);
    report.note(
        "Our UNet step has the prompt's keys and values from before, as in a picture; onnxruntime's graph computes them \
         in each step.",
    );
    for name in cases.into_iter().filter(|name| is_wanted(name)) {
        let is_full = name.starts_with("full-");
        if is_full {
            report.note(
                "The true channels run on the GPU alone, and without graph capture: their weights in f32 leave no room in a \
                 wasm heap, nor for a third session.",
            );
        }
        for (backend, contenders, usual) in BACKENDS {
            let contenders = if is_full { &contenders[..2] } else { contenders };
            if is_listed("DARKROOM_BACKENDS", backend) && !(is_full && backend != "webgpu") {
                compare(&browser, &mut report, name, backend, contenders, n_rounds(usual));
            }
        }
    }
    report.finish();
}

/// How long one run may take: on a software adapter minutes, not this.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Calls a function of `tools/bench/contenders.js` and waits for it, longer than a driver lets one script run.
fn long_call(browser: &Browser, function: &str, arguments: &[&str]) -> Result<Value, String> {
    let start = Instant::now();
    browser.eval(&format!(
        "void (async () => {{
            window.answer = null;
            try {{ window.answer = {{ value: await window.contenders.{function}(...{}) }}; }}
            catch (error) {{ window.answer = {{ failed: `${{error.message}}` }}; }}
        }})()",
        json!(arguments)
    ));
    loop {
        let mut answer = browser.eval("window.answer");
        if let Some(reason) = answer["failed"].as_str() {
            return Err(reason.to_owned());
        }
        if !answer.is_null() {
            return Ok(answer["value"].take());
        }
        assert!(start.elapsed() < PATIENCE, "{function} {arguments:?} is not over after {PATIENCE:?}");
        // Asking takes the processor's time too: seldom where it takes long, and at most a fiftieth of it late.
        std::thread::sleep((start.elapsed() / 50).max(Duration::from_millis(5)));
    }
}

fn compare(browser: &Browser, report: &mut Report, name: &str, backend: &str, who: &[&str], n_rounds: usize) {
    let call = |function: &str, arguments: &[&str]| match long_call(browser, function, arguments) {
        Ok(value) => value,
        Err(reason) => panic!("{function} {arguments:?}: {reason}"),
    };
    let mut flops = 0.0;
    let mut contenders = Vec::new();
    for &who in who {
        // A mode that the peer cannot run this model in is no contender.
        let loaded = match long_call(browser, "load", &[who, name]) {
            Ok(loaded) => loaded,
            Err(reason) if who.starts_with("darkroom") => panic!("{who} does not run {name}: {reason}"),
            Err(reason) => {
                println!("{who} does not run {name}: {}", reason.lines().next().unwrap_or_default());
                continue;
            }
        };
        flops = loaded["flops"].as_f64().unwrap_or(flops);
        if let (true, Some(n)) = (backend == "threads", loaded["n_threads"].as_u64()) {
            println!("  {who}: {n} threads");
        }
        let mut contender = Contender::new(who);
        contender.details.insert("load".into(), loaded);
        contenders.push(contender);
    }
    let mut runs: Vec<Vec<Value>> = vec![Vec::new(); contenders.len()];
    for _ in 0..=n_rounds {
        for (contender, runs) in contenders.iter_mut().zip(&mut runs) {
            let run = call("run", &[&contender.who]);
            let secs = run["secs"].as_f64().unwrap_or(f64::NAN);
            // Where a run takes minutes, somebody may wonder.
            if secs > 20.0 {
                println!("  {name}, {}: a run of {secs:.0} s", contender.who);
            }
            contender.took(secs);
            runs.push(run);
        }
    }
    for (contender, runs) in contenders.iter_mut().zip(&runs) {
        let details = &mut contender.details;
        details.insert("error".into(), call("error", &[&contender.who, name]));
        details.insert("heap_bytes".into(), call("heap", &[&contender.who]));
        details.insert("first_run".into(), runs[0].clone());
        details.insert("last_run".into(), runs[runs.len() - 1].clone());
    }
    report.versus(&format!("{name}, {backend}"), flops, &contenders);
    for contender in &contenders {
        let error = contender.details["error"].as_f64().unwrap_or(f64::NAN);
        assert!(error < 1e-3, "{} on {name}: {error} of the largest value from PyTorch's result", contender.who);
    }
    if backend == "webgpu" {
        structure(&contenders);
    } else {
        for Contender { who, details, .. } in &contenders {
            let (error, heap) = (details["error"].as_f64(), details["heap_bytes"].as_f64());
            println!(
                "  {who:<34} {:.1e} of the largest value from PyTorch's; wasm heap {:.0} MiB",
                error.unwrap_or(f64::NAN),
                heap.unwrap_or(f64::NAN) / f64::from(1 << 20)
            );
        }
    }
    call("end", &[]);
}

/// What each asked of WebGPU, in its first run and in a later one.
fn structure(contenders: &[Contender]) {
    let rows = [
        ("dispatches", "dispatches", 1.0),
        ("compute passes", "passes", 1.0),
        ("submits", "submits", 1.0),
        ("bind groups made", "bind_groups", 1.0),
        ("pipelines compiled", "pipelines", 1.0),
        ("buffers made", "buffers", 1.0),
        ("KB of buffers made", "allocated_bytes", 1e3),
        ("uploads", "uploads", 1.0),
        ("KB uploaded", "uploaded_bytes", 1e3),
        ("readbacks", "readbacks", 1.0),
    ];
    print!("  {:<34}", "first run → a later one");
    for contender in contenders {
        print!(" {:>28}", contender.who);
    }
    println!();
    let line = |label: &str, figure: &dyn Fn(&Contender) -> String| {
        print!("  {label:<34}");
        for contender in contenders {
            print!(" {:>28}", figure(contender));
        }
        println!();
    };
    for (label, name, unit) in rows {
        line(label, &|contender| {
            let calls = |run: &str| contender.details[run]["calls"][name].as_f64().unwrap_or(f64::NAN) / unit;
            format!("{:.0} → {:.0}", calls("first_run"), calls("last_run"))
        });
    }
    line("ms of the processor to hand over", &|contender| {
        let ms = |run: &str| contender.details[run]["record_secs"].as_f64().unwrap_or(f64::NAN) * 1e3;
        format!("{:.1} → {:.1}", ms("first_run"), ms("last_run"))
    });
    line("MB of buffers, at the peak", &|contender| {
        format!("{:.1}", contender.details["last_run"]["calls"]["peak_bytes"].as_f64().unwrap_or(f64::NAN) / 1e6)
    });
    line("MiB of wasm heap", &|contender| {
        format!("{:.0}", contender.details["heap_bytes"].as_f64().unwrap_or(f64::NAN) / f64::from(1 << 20))
    });
    line("from PyTorch's result", &|contender| {
        format!("{:.1e}", contender.details["error"].as_f64().unwrap_or(f64::NAN))
    });
}
