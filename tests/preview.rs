//! Previews of the embedded model: what a picture becomes shows long before it is finished.
#![cfg(not(target_arch = "wasm32"))]

use std::path::Path;
use std::rc::Rc;

use darkroom::hub::folder::Folder;
use darkroom::image::RgbImage;
use darkroom::pipeline::{Event, Generation, Inputs, ModelLoader};
use darkroom::request::SDConfig;
use darkroom::run::candle::{CandleRunner, Precision};
use darkroom::sampler::SamplerKind;
use pollster::block_on;

/// Root of the mean squared difference of levels between a preview and the finished picture, averaged over its pixels.
fn distance(preview: &RgbImage, picture: &RgbImage) -> f64 {
    let side = picture.width / preview.width;
    let mut sum = 0.0;
    for y in 0..preview.height {
        for x in 0..preview.width {
            for c in 0..3 {
                let levels = (0..side * side).map(|i| {
                    let at = (y * side + i / side) * picture.width + x * side + i % side;
                    f64::from(picture.pixels[3 * at + c])
                });
                let mean = levels.sum::<f64>() / (side * side) as f64;
                sum += (mean - f64::from(preview.pixels[3 * (y * preview.width + x) + c])).powi(2);
            }
        }
    }
    (sum / preview.pixels.len() as f64).sqrt()
}

#[test]
fn a_preview_shows_what_comes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("www/hub/darkroom/tiny-emoji/resolve/main");
    let folder = Folder::open(path).unwrap();
    let runner = Rc::new(CandleRunner::cpu(Precision::F32));
    let model = Rc::new(block_on(ModelLoader::new(&folder, &*runner).load(&mut |_| true)).unwrap());
    for sampler in [SamplerKind::DpmPp2m, SamplerKind::Euler, SamplerKind::Ddim] {
        let mut config = SDConfig::new(model.configs.version())
            .with_prompt("a rocket on a black background")
            .with_size(128, 128)
            .with_steps(12)
            .with_guidance_scale(4.0)
            .with_seed(3);
        config.sampler = Some(sampler.into());
        let inputs = Inputs { config, start_picture: None, mask: None };
        let mut generation = Generation::new(&runner, &model, inputs).unwrap();
        assert!(block_on(generation.preview()).unwrap().is_none(), "there is nothing to see yet");
        let (mut previews, mut picture) = (Vec::new(), None);
        while let Some(event) = block_on(generation.step(&mut |_| true)).unwrap() {
            match event {
                Event::Denoised { .. } => previews.push(block_on(generation.preview()).unwrap().unwrap()),
                Event::Decoded { image, .. } => picture = Some(image),
                _ => {}
            }
        }
        let distances: Vec<f64> = previews.iter().map(|p| distance(p, picture.as_ref().unwrap())).collect();
        assert_eq!((previews[0].width, previews[0].height), (16, 16));
        assert!(distances[7] < 50.0 && distances[11] < 35.0, "{sampler:?}: {distances:.0?}");
    }
}
