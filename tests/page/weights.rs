//! Weights held in fewer bits in the browser: as asked for, and by themselves where a budget wants it.

use serde_json::{Value, json};

use crate::browser::{Browser, has_no_gpu, mean_square, page_url, picture};

/// The least signal-to-noise ratio of pictures with weights in 8 bits, in dB.
const MIN_PSNR: f64 = 40.0;

/// The beginning of a script: `darkroom`, and `drawn` for a picture of a loaded model with what is known of it.
const SCRIPT: &str = "
    const { Darkroom } = await import('./darkroom.js');
    const darkroom = await Darkroom.open();
    const pixels = async (png) => {
        const { width, height, data } = await darkroom.read_picture(png);
        return [width, height, Array.from(data)];
    };
    const drawn = async (options) => {
        const { weights, runner } = await darkroom.load(options);
        const { pictures: [{ png }] } = await darkroom.generate({ prompt: 'a red apple', seed: 3, steps: 4 }).done;
        return { weights, runner, pixels: await pixels(png), says: (await darkroom.read_parameters(png)).weights };
    };";

fn psnr(a: &Value, b: &Value) -> f64 {
    10.0 * (255.0 * 255.0 / mean_square(&picture(&a["pixels"]), &picture(&b["pixels"]))).log10()
}

#[test]
fn the_processor_holds_weights_in_blocks() {
    let browser = Browser::start();
    browser.open(&format!("{}example.html", page_url()));
    let said = browser.run(&format!(
        "{SCRIPT}
        const all = [];
        for (const weights of ['f32', 'q8_0', 'q4_0']) all.push(await drawn({{ runner: 'cpu', weights }}));
        darkroom.close();
        return all;"
    ));
    let of_8_bits = psnr(&said[0], &said[1]);
    assert!(of_8_bits > MIN_PSNR && of_8_bits.is_finite(), "{of_8_bits} dB");
    assert!(psnr(&said[0], &said[2]) < of_8_bits, "4 bits are not 8");
    assert_eq!(json!([said[0]["says"], said[1]["says"], said[2]["says"]]), json!([null, "q8_0", "q4_0"]));
}

/// A budget that f16 does not keep, and one that f16 keeps; and one below a component, where weights are read in each step.
#[test]
fn a_budget_chooses_the_type_of_weights() {
    if has_no_gpu() {
        return;
    }
    let browser = Browser::start();
    browser.open(&format!("{}example.html", page_url()));
    // A software adapter compiles shaders for a long time, longer than a script may take.
    browser.run(&format!(
        "{SCRIPT}
        (async () => {{
            await darkroom.load({{ runner: 'gpu', dtype: 'f32' }});
            const peak = async (weights) => (await darkroom.plan({{ dtype: 'f32', weights }})).staged_peak_bytes;
            const peaks = [await peak('f16'), await peak('q8_0'), await peak('q4_0')];
            const all = [];
            for (const budget_bytes of peaks) {{
                all.push((await darkroom.load({{ runner: 'gpu', dtype: 'f32', budget_bytes }})).weights);
            }}
            // A plan that leaves the type open tells the one that loading chooses.
            const planned = [];
            for (const budget_bytes of peaks) planned.push((await darkroom.plan({{ dtype: 'f32', budget_bytes }})).weights);
            // What a request asks for counts: chunks of a prompt of the loaded model, images, what a sampler keeps.
            const taken = async (request, of = 'staged') => (await darkroom.plan({{ dtype: 'f32', ...request }}))[`${{of}}_peak_bytes`];
            const prompt = 'cat '.repeat(300);
            const of_request = {{
                prompt: [await taken({{}}), await taken({{ prompt }})],
                sampler: [await taken({{ sampler: 'euler' }}, 'least'), await taken({{ sampler: 'unipc' }}, 'least')],
                of_version: [await taken({{ version: 'v1-5' }}), await taken({{ version: 'v1-5', prompt }})],
            }};
            const f16 = await drawn({{ runner: 'gpu', dtype: 'f32' }});
            const q8_0 = await drawn({{ runner: 'gpu', dtype: 'f32', weights: 'q8_0' }});
            const least = (await darkroom.plan({{ dtype: 'f32', weights: 'f16' }})).least_peak_bytes;
            const budget_bytes = Math.round((least + peaks[0]) / 2);
            const plan = await darkroom.plan({{ dtype: 'f32', weights: 'f16', budget_bytes }});
            const streamed = await drawn({{ runner: 'gpu', dtype: 'f32', weights: 'f16', budget_bytes }});
            return {{ peaks, all, planned, of_request, f16, q8_0, plan, streamed }};
        }})().then((seen) => {{ window.seen = seen; }}, (error) => {{ window.seen = error.message; }});"
    ));
    browser.wait_until("window.seen");
    let seen = browser.eval("window.seen");
    assert_eq!(seen["all"], json!(["f16", "q8_0", "q4_0"]), "{seen}");
    assert_eq!(seen["planned"], seen["all"], "{seen}");
    let of_request = &seen["of_request"];
    eprintln!("{of_request}");
    for kind in ["prompt", "sampler"] {
        let [less, more] = [0, 1].map(|i| of_request[kind][i].as_u64().expect("a number"));
        assert!(less < more, "{kind}: {of_request}");
    }
    assert_eq!(of_request["of_version"][0], of_request["of_version"][1], "{of_request}");
    let ratio = psnr(&seen["f16"], &seen["q8_0"]);
    assert!(ratio > MIN_PSNR && ratio.is_finite(), "{ratio} dB");
    let plan = &seen["plan"];
    assert_eq!((&plan["residency"], &plan["fits"]), (&json!("streamed"), &json!(true)), "{plan}");
    assert!(plan["streamed_bytes_per_step"].as_f64().unwrap() > 0.0, "{plan}");
    assert_eq!(seen["streamed"]["pixels"], seen["f16"]["pixels"], "weights that are read in each step are the same");
}
