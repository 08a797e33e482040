//! The embedded model inside a real browser: on the candle runner, where it serves machines without a GPU, the picture of a
//! prompt must be the one that diffusers draws; through WebGPU it must be that of the candle runner. `build.sh test web` runs this; natively the file is empty.
#![cfg(target_arch = "wasm32")]

use std::rc::Rc;

use darkroom::hub::memory::MemoryFiles;
use darkroom::image::{RgbImage, decode};
use darkroom::pipeline::{Event, Generation, Inputs, LongPrompt, ModelLoader};
use darkroom::request::SDConfig;
use darkroom::run::Runner;
use darkroom::run::candle::{CandleRunner, Precision};
use darkroom::run::gpu::Gpu;
use darkroom::run::gpu::kernels::Element;
use darkroom::run::gpu::runner::GpuRunner;
use wasm_bindgen_test::{console_log, wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        MemoryFiles::new("darkroom/tiny-emoji")$(.with(
            $path,
            &include_bytes!(concat!("../www/hub/darkroom/tiny-emoji/resolve/main/", $path))[..],
        ))*
    };
}

fn now_ms() -> f64 {
    js_sys::Date::now()
}

fn model_files() -> MemoryFiles {
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
    let model = Rc::new(ModelLoader::new(&files, &*runner).load(&mut |_| {}).await.expect("the model loads"));
    console_log!("load: {:.0} ms", now_ms() - start);

    let mut config = SDConfig::new(model.configs.version())
        .with_prompt("a red apple on a blue background")
        .with_size(128, 128)
        .with_steps(6)
        .with_guidance_scale(4.0)
        .with_seed(1);
    config.negative_prompt = None;
    let inputs = Inputs { config, init: None, mask: None, long_prompt: LongPrompt::Truncate };
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
    let expected = decode(include_bytes!("fixtures/emoji/apple.png")).expect("the reference is a picture");
    assert_eq!((got.width, got.height), (expected.width, expected.height));
    let differences: Vec<u8> = got.pixels.iter().zip(&expected.pixels).map(|(a, b)| a.abs_diff(*b)).collect();
    let max = differences.iter().max().expect("pixels");
    let mean = differences.iter().map(|&d| f64::from(d)).sum::<f64>() / differences.len() as f64;
    console_log!("difference from diffusers: {max} at most, {mean:.5} on average");
    assert!(*max <= 2 && mean <= 0.3, "the picture differs by {max} at most and {mean} on average");
}

/// A small picture after two steps, from any runner.
async fn draw<R: Runner>(runner: R) -> RgbImage {
    let runner = Rc::new(runner);
    let model = Rc::new(ModelLoader::new(&model_files(), &*runner).load(&mut |_| {}).await.expect("the model loads"));
    let config = SDConfig::new(model.configs.version())
        .with_prompt("a red apple on a blue background")
        .with_size(64, 64)
        .with_steps(2)
        .with_guidance_scale(4.0)
        .with_seed(1);
    let inputs = Inputs { config, init: None, mask: None, long_prompt: LongPrompt::Truncate };
    let mut generation = Generation::new(&runner, &model, inputs).expect("the request is good");
    loop {
        let start = now_ms();
        match generation.step(&mut |_| true).await.expect("the step works") {
            Some(Event::Decoded { image, .. }) => return image,
            Some(_) => console_log!("{}: {:.0} ms", runner.describe(), now_ms() - start),
            None => panic!("no picture came out"),
        }
    }
}

/// The whole way through WebGPU, in 16 bits where the browser has them: on the processor the same picture comes out.
#[wasm_bindgen_test]
async fn the_gpu_draws_what_the_processor_draws() {
    if option_env!("DARKROOM_NO_GPU") == Some("1") {
        return;
    }
    let gpu = Gpu::open().await.expect("the browser gives no WebGPU adapter; DARKROOM_NO_GPU=1 skips this test");
    let element = if gpu.caps.shader_f16 { Element::F16 } else { Element::F32 };
    let got = draw(GpuRunner::new(gpu, element).expect("the runner starts")).await;
    let expected = draw(CandleRunner::cpu(Precision::F32)).await;
    let differences = || got.pixels.iter().zip(&expected.pixels).map(|(a, b)| f64::from(a.abs_diff(*b)));
    let (max, sum) = (differences().fold(0.0, f64::max), differences().sum::<f64>());
    let squares: f64 = differences().map(|difference| difference * difference).sum();
    let n_levels = got.pixels.len() as f64;
    let psnr = 10.0 * (255.0 * 255.0 * n_levels / squares.max(1e-9)).log10();
    console_log!("{element:?}: at most {max} levels, {:.3} on average, PSNR {psnr:.1} dB", sum / n_levels);
    match element {
        Element::F32 => assert!(max <= 2.0 && sum / n_levels <= 0.3, "at most {max}, {} on average", sum / n_levels),
        Element::F16 => assert!(psnr >= 35.0, "PSNR {psnr:.1} dB"),
    }
}
