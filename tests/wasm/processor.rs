//! What needs neither a GPU nor a page: the processor's products, and the embedded model's picture on the candle runner.
//! Included by `web_model.rs`, where it runs in a browser, and by `node.rs`.

use std::rc::Rc;

use darkroom::bench::{RandomWeights, values};
use darkroom::graph::{GraphBuilder, Path};
use darkroom::hub::memory::MemoryFiles;
use darkroom::image::decode;
use darkroom::pipeline::{Event, Generation, Inputs, ModelLoader};
use darkroom::request::SDConfig;
use darkroom::run::Runner;
use darkroom::run::candle::{CandleRunner, Precision};
use darkroom::weights::Weights;
use wasm_bindgen_test::{console_log, wasm_bindgen_test};

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        MemoryFiles::new("darkroom/tiny-emoji")$(.with(
            $path,
            &include_bytes!(concat!("../../www/hub/darkroom/tiny-emoji/resolve/main/", $path))[..],
        ))*
    };
}

/// Milliseconds since 1970, from the clock that browsers and Node have.
pub fn now_ms() -> f64 {
    js_sys::Date::now()
}

/// The embedded model, compiled into the test.
pub fn model_files() -> MemoryFiles {
    files![
        "model_index.json",
        "scheduler/scheduler_config.json",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "tokenizer/tokenizer_config.json",
        "tokenizer/special_tokens_map.json",
        "text_encoder/config.json",
        "text_encoder/model.fp16.safetensors",
        "unet/config.json",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.fp16.safetensors",
    ]
}

#[wasm_bindgen_test]
async fn a_prompt_becomes_diffusers_picture() {
    let files = model_files();
    let runner = Rc::new(CandleRunner::cpu(Precision::F32));
    let start = now_ms();
    let model = Rc::new(ModelLoader::new(&files, &*runner).load(&mut |_| true).await.expect("the model loads"));
    console_log!("load: {:.0} ms", now_ms() - start);

    let mut config = SDConfig::new(model.configs.version())
        .with_prompt("a red apple on a blue background")
        .with_size(128, 128)
        .with_steps(6)
        .with_guidance_scale(4.0)
        .with_seed(1);
    config.negative_prompt = None;
    let inputs = Inputs { config, start_picture: None, mask: None };
    let mut generation = Generation::new(&runner, &model, inputs).expect("the request is good");
    let mut picture = None;
    loop {
        let start = now_ms();
        let Some(event) = generation.step(&mut |_| true).await.expect("the step works") else { break };
        let elapsed = now_ms() - start;
        match event {
            Event::Encoded { .. } => console_log!("encode: {elapsed:.0} ms"),
            Event::Prepared { .. } => {}
            Event::Denoised { step, n_steps, .. } => console_log!("step {step} of {n_steps}: {elapsed:.0} ms"),
            Event::Decoded { image, .. } => {
                console_log!("decode: {elapsed:.0} ms");
                picture = Some(image);
            }
        }
    }
    let got = picture.expect("a picture");
    let expected = decode(include_bytes!("../fixtures/emoji/apple.png")).expect("the reference is a picture");
    assert_eq!((got.width, got.height), (expected.width, expected.height));
    let differences: Vec<u8> = got.pixels.iter().zip(&expected.pixels).map(|(a, b)| a.abs_diff(*b)).collect();
    let max = differences.iter().max().expect("pixels");
    let mean = differences.iter().map(|&d| f64::from(d)).sum::<f64>() / differences.len() as f64;
    console_log!("difference from diffusers: {max} at most, {mean:.5} on average");
    assert!(*max <= 2 && mean <= 0.3, "the picture differs by {max} at most and {mean} on average");
}

/// The processor's products are this crate's own in the browser: sizes that fill no block, and sums of several panels.
#[wasm_bindgen_test]
async fn products_of_any_size_are_right_on_the_processor() {
    for (m, n, k) in [(1, 1, 1), (2, 7, 3), (5, 8, 4), (3, 9, 259), (131, 17, 6), (6, 265, 33), (130, 300, 520)] {
        let mut graph = GraphBuilder::new("product");
        let x = graph.input("x", &[m, k]);
        let y = graph.linear(x, &Path::root(), n, false).expect("the shapes fit");
        graph.output("y", y);
        let graph = graph.finish();
        let case = RandomWeights::new(&graph.weights());
        let weights = Weights::open(vec![Box::new(case)]).await.expect("random weights");
        let matrix = weights.read_f32("weight").await.expect("the weight");
        let runner = CandleRunner::cpu(Precision::F32);
        let loaded = runner.load(std::slice::from_ref(&graph), &weights, &mut |_| true).await.expect("loaded");
        let program = runner.prepare(graph).await.expect("prepared");
        let values = values(m * k);
        let x = runner.upload(&values, &[m, k]).expect("uploaded");
        let y = runner.run(&program, &loaded, &[("x", &x)], &mut |_| true).await.expect("run").swap_remove(0);
        let got = runner.download(&y).await.expect("downloaded");
        for (i, got) in got.into_iter().enumerate() {
            let (row, col) = (i / n, i % n);
            let terms = (0..k).map(|k_| f64::from(values[row * k + k_]) * f64::from(matrix[col * k + k_]));
            let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
            assert!(
                (f64::from(got) - sum).abs() <= 1e-6 * size,
                "[{m},{k}] x [{k},{n}] at {row}, {col}: {got}, not {sum}"
            );
        }
    }
}
