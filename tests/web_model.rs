//! The embedded model inside a real browser: on the candle runner, where it serves machines without a GPU, the picture of
//! a prompt must be the one that diffusers draws; through WebGPU it must be that of the candle runner.
//! `wasm-pack test --headless --chrome` runs this; natively the file is empty.
#![cfg(target_arch = "wasm32")]

#[path = "wasm/processor.rs"]
mod processor;

use std::rc::Rc;

use darkroom::image::RgbImage;
use darkroom::pipeline::{Event, Generation, Inputs, ModelLoader};
use darkroom::request::SDConfig;
use darkroom::run::Runner;
use darkroom::run::candle::{CandleRunner, Precision};
use darkroom::run::gpu::Element;
use darkroom::run::gpu::Gpu;
use darkroom::run::gpu::runner::GpuRunner;
use processor::{model_files, now_ms};
use wasm_bindgen_test::{console_log, wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

/// A small picture after two steps, from any runner.
async fn draw<R: Runner>(runner: R) -> RgbImage {
    let runner = Rc::new(runner);
    let model = Rc::new(ModelLoader::new(&model_files(), &*runner).load(&mut |_| true).await.expect("the model loads"));
    let config = SDConfig::new(model.configs.version())
        .with_prompt("a red apple on a blue background")
        .with_size(64, 64)
        .with_steps(2)
        .with_guidance_scale(4.0)
        .with_seed(1);
    let inputs = Inputs { config, start_picture: None, mask: None };
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
