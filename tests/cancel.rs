//! How long a cancel on the processor may go unheard: the longest time between two calls of a drawing's progress, and what a
//! step takes to end after it was told to. `DARKROOM_SIZES=512,1024,2048` measures larger pictures than the test does.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

#[path = "common/gpu.rs"]
mod gpu;

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use darkroom::Error;
use darkroom::engine::{Device, DeviceName, Engine, EngineSettings, Expected, Pictures};
use darkroom::hub::folder::Folder;
use darkroom::image::RgbImage;
use darkroom::pipeline::Stage;
use darkroom::request::Request;
use pollster::block_on;

/// How long each stage is watched before it is cancelled.
const WATCHED: Duration = Duration::from_secs(5);
/// What a machine that others use too may take; alone it is a tenth.
const PATIENCE: Duration = Duration::from_secs(2);

/// The longest time without a call, and the time from the call that cancelled to the end, of one stage.
fn watch(engine: &Engine, side: usize, from_picture: bool, until: Stage) -> (Duration, Duration) {
    let request = Request {
        prompt: "a red apple on a blue background".into(),
        width: Some(side),
        height: Some(side),
        steps: Some(2),
        guidance_scale: Some(4.0),
        strength: from_picture.then_some(1.0),
        ..Request::default()
    };
    let start_picture = from_picture.then(|| RgbImage::new(side, side, vec![128; side * side * 3]).unwrap());
    let mut generation = engine.draw(&request, Pictures { start_picture, mask: None }, 1).unwrap();
    while generation.stage() != until {
        block_on(generation.step(&mut |_| true)).unwrap();
    }
    let start = Instant::now();
    let (mut last, mut longest, mut at) = (start, Duration::ZERO, 0.0);
    let ended = block_on(generation.step(&mut |fraction| {
        let now = Instant::now();
        longest = longest.max(now - last);
        last = now;
        assert!(fraction >= at, "progress goes back from {at} to {fraction}");
        at = fraction;
        now - start < WATCHED
    }));
    let after = last.elapsed();
    assert!(matches!(ended, Err(Error::Cancelled) | Ok(_)), "{:?}", ended.as_ref().err());
    (longest, if ended.is_err() { after } else { Duration::ZERO })
}

#[test]
fn a_cancel_on_the_processor_is_heard_within_an_operation() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("www/hub/darkroom/tiny-emoji/resolve/main");
    let settings = EngineSettings { device: DeviceName::Cpu, ..EngineSettings::default() };
    let device = block_on(Device::open(&settings)).unwrap();
    let source = Rc::new(Folder::open(folder).unwrap());
    let engine = block_on(Engine::open(&device, source, &settings, &Expected::default())).unwrap();
    let sizes = std::env::var("DARKROOM_SIZES");
    for side in sizes.as_deref().unwrap_or("512").split(',').map(|side| side.parse().unwrap()) {
        for (what, from_picture, stage) in [
            ("encoding a picture", true, Stage::Encode),
            ("denoising", false, Stage::Denoise),
            ("decoding", false, Stage::Decode),
        ] {
            // A whole step of a large picture takes minutes.
            if stage == Stage::Decode && side > 1024 {
                continue;
            }
            let (longest, after) = watch(&engine, side, from_picture, stage);
            eprintln!("{side}x{side}, {what}: asked every {longest:.0?} at least, ended {after:.0?} after a cancel");
            // Who measures wants to see the rest.
            assert!(
                sizes.is_ok() || (longest < PATIENCE && after < PATIENCE),
                "{side}x{side}, {what}: {longest:?}, {after:?}"
            );
        }
    }
}

/// On the CPU and on the GPU alike, whenever the answer comes.
#[test]
fn a_load_that_is_told_to_stop_stops() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("www/hub/darkroom/tiny-emoji/resolve/main");
    let devices = [DeviceName::Cpu, DeviceName::Gpu];
    for device_name in devices.into_iter().filter(|name| *name == DeviceName::Cpu || !gpu::has_no_gpu()) {
        let settings = EngineSettings { device: device_name, ..EngineSettings::default() };
        let device = block_on(Device::open(&settings)).unwrap();
        let source = Rc::new(Folder::open(folder.clone()).unwrap());
        let engine = block_on(Engine::open(&device, source, &settings, &Expected::default())).unwrap();
        for n_heard in [1, 2, 40] {
            let mut n = 0;
            let stopped = block_on(engine.load(&mut |_| {
                n += 1;
                n < n_heard
            }));
            assert!(matches!(stopped, Err(Error::Cancelled)), "{:?}", stopped.err());
            assert_eq!(n, n_heard, "it is not asked again");
            assert!(!engine.is_loaded());
        }
        block_on(engine.load(&mut |_| true)).unwrap();
        assert!(engine.is_loaded());
    }
}
