//! What the GPU runner promises beyond right numbers: plans that are kept, pictures in bands, two prompts one after
//! another where both together are too large, f32 where 16 bits overflow, and going on after a device is lost.
#![cfg(not(target_arch = "wasm32"))]

#[path = "common/cases.rs"]
mod cases;
#[path = "common/gpu.rs"]
mod gpu;
#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/tiny.rs"]
mod tiny;

use std::path::PathBuf;
use std::rc::Rc;

use cases::{cases, psnr};
use darkroom::Error;
use darkroom::hub::folder::Folder;
use darkroom::hub::published::Published;
use darkroom::image::RgbImage;
use darkroom::model::SDVersion;
use darkroom::model::config::UNet2DConditionConfig;
use darkroom::model::unet::{UNetShape, step_graph};
use darkroom::pipeline::plan::{Plan, PlanSettings, plan};
use darkroom::pipeline::{Event, Generation, Inputs, ModelComponents, ModelLoader, Residency, Stage};
use darkroom::request::SDConfig;
use darkroom::run::Runner;
use darkroom::run::candle::{CandleRunner, Precision};
use darkroom::run::gpu::Element;
use darkroom::run::gpu::bands::BandSizes;
use darkroom::run::gpu::kernels::attention::Attention;
use darkroom::run::gpu::kernels::products::{Epilogue, Gemm, Source};
use darkroom::run::gpu::runner::GpuRunner;
use darkroom::run::gpu::tiles::{IN_F16, IN_F32, Tiles};
use darkroom::run::gpu::{Caps, Gpu};
use darkroom::weights::WeightType;
use gpu::gpu;
use pollster::block_on;

fn emoji() -> Folder {
    let path = numbers::places::hub_dir().join("darkroom/tiny-emoji/resolve/main");
    Folder::open(path).unwrap()
}

fn load<R: Runner>(folder: &Folder, runner: &Rc<R>) -> Rc<ModelComponents<R>> {
    Rc::new(block_on(ModelLoader::new(folder, &**runner).load(&mut |_| true)).unwrap())
}

fn inputs(version: SDVersion, side: usize, steps: usize) -> Inputs {
    let config = SDConfig::new(version)
        .with_prompt("a red apple on a blue background")
        .with_size(side, side)
        .with_steps(steps)
        .with_guidance_scale(4.0)
        .with_seed(1);
    Inputs { config, start_picture: None, mask: None }
}

/// Draws one picture; also tells whether any stage was repeated in f32.
fn draw<R: Runner>(runner: &Rc<R>, model: &Rc<ModelComponents<R>>, inputs: Inputs) -> (RgbImage, bool) {
    let mut generation = Generation::new(runner, model, inputs).unwrap();
    finish(&mut generation)
}

fn finish<R: Runner>(generation: &mut Generation<R>) -> (RgbImage, bool) {
    let mut repeated = false;
    while let Some(event) = block_on(generation.step(&mut |_| true)).unwrap() {
        match event {
            Event::Denoised { repeated_in_f32, .. } => repeated |= repeated_in_f32,
            Event::Decoded { image, repeated_in_f32, .. } => return (image, repeated | repeated_in_f32),
            _ => {}
        }
    }
    panic!("no picture came out");
}

fn plan_of(version: SDVersion, residency: Residency) -> Plan {
    plan_with(version, residency, WeightType::F16)
}

fn plan_with(version: SDVersion, residency: Residency, weights: WeightType) -> Plan {
    let mut settings = PlanSettings::new(Caps::guaranteed(true), Element::F16);
    settings.residency = Some(residency);
    settings.weights = Some(weights);
    block_on(plan(&Published::new(version), &settings)).unwrap_or_else(|e| panic!("{}: {e}", version.key()))
}

/// A step of SD 1.5's architecture, narrow or wide, of small and of large pictures, where sums are cut to fill a GPU. When
/// there are more dispatches, which kernels they are is told.
#[test]
fn a_step_has_few_dispatches_at_any_width() {
    let published: serde_json::Value =
        serde_json::from_str(include_str!("../src/model/published/v1-5/unet.json")).unwrap();
    // Sides of the latents, with the most dispatches.
    for (widths, sides) in [
        ([64, 128, 256, 256], [(16, 320), (32, 320), (64, 320)]),
        ([128, 256, 512, 512], [(16, 385), (32, 375), (64, 360)]),
        ([320, 640, 1280, 1280], [(16, 420), (32, 370), (64, 335)]),
    ] {
        let mut config = published.clone();
        config["block_out_channels"] = serde_json::json!(widths);
        let config = UNet2DConditionConfig::from_json(&config.to_string(), "unet/config.json").unwrap();
        for (side, most) in sides {
            let shape = UNetShape { batch: 2, height: side, width: side, n_context: 77 };
            let runner = GpuRunner::planned(Caps::guaranteed(false), Element::F32).unwrap();
            let program = block_on(runner.prepare(step_graph(&config, shape).unwrap())).unwrap();
            let mut by_kernel = std::collections::BTreeMap::<&str, usize>::new();
            for dispatch in &program.program().dispatches {
                *by_kernel.entry(dispatch.launch.kernel.name).or_default() += 1;
            }
            let n: usize = by_kernel.values().sum();
            assert!(n <= most, "{n} dispatches for widths {widths:?} and latents of {side}x{side}: {by_kernel:?}");
        }
    }
}

/// A fast device gets few submits, each with the work of a tenth of a second, and the plan says what it counted for.
#[test]
fn submits_follow_the_devices_speed() {
    let at = |flops_per_sec: f64| {
        let mut settings = PlanSettings::new(Caps::guaranteed(true), Element::F16);
        settings.flops_per_sec = flops_per_sec;
        let plan = block_on(plan(&Published::new(SDVersion::Xl), &settings)).unwrap();
        assert_eq!(plan.paced_for_flops_per_sec, flops_per_sec);
        plan.phase("step").unwrap().counts
    };
    let [slow, fast, fastest] = [1e11, 1e12, 1e14].map(at);
    assert!(fast.submits <= 120 && fastest.submits <= 20, "{} and {}", fast.submits, fastest.submits);
    assert!(slow.submits > 2 * fast.submits, "{} and {}", slow.submits, fast.submits);
    assert_eq!(slow.dispatches, fastest.dispatches);
}

/// The figures that the engine is held to, at the published sizes, on what every WebGPU adapter allows.
#[test]
fn plans_of_the_published_models_are_within_their_targets() {
    let gb = |bytes: u64| bytes as f64 / 1e9;
    for (version, most_dispatches, most_resident, most_staged) in [
        (SDVersion::V1_5, 340, 2.15, 1.8),
        (SDVersion::V1_5Inpaint, 360, 2.3, 1.9),
        (SDVersion::V2_1, 360, 2.8, 1.9),
        (SDVersion::V2Inpaint, 360, 2.7, 1.9),
        (SDVersion::Xl, 850, 7.2, 5.4),
        (SDVersion::XlInpaint, 850, 7.3, 5.6),
        (SDVersion::Turbo, 850, 6.9, 5.2),
    ] {
        let key = version.key();
        let (resident, staged) = (plan_of(version, Residency::Resident), plan_of(version, Residency::Staged));
        let step = &resident.phase("step").unwrap().counts;
        assert!(step.dispatches <= most_dispatches, "{key}: {} dispatches a step", step.dispatches);
        assert_eq!((step.pipelines, step.bind_groups.min(20)), (0, step.bind_groups), "{key}: a step is replayed");
        assert!(gb(resident.peak_bytes) <= most_resident, "{key}: {:.3} GB resident", gb(resident.peak_bytes));
        assert!(gb(staged.peak_bytes) <= most_staged, "{key}: {:.3} GB staged", gb(staged.peak_bytes));
        assert!(resident.largest_binding_bytes <= 128 << 20, "{key}: {}", resident.largest_binding_bytes);
    }
}

/// Quantised weights take no dispatch more, and the memory that they are for.
#[test]
fn plans_of_quantised_models_are_within_their_targets() {
    let gb = |bytes: u64| bytes as f64 / 1e9;
    for (version, weights, most_resident, most_staged) in [
        (SDVersion::V1_5, WeightType::Q8_0, 1.28, 1.00),
        (SDVersion::V1_5, WeightType::Q4_0, 0.90, 0.60),
        (SDVersion::Xl, WeightType::Q8_0, 4.2, 3.0),
        (SDVersion::Xl, WeightType::Q4_0, 2.9, 1.75),
    ] {
        let name = format!("{} in {}", version.key(), weights.name());
        let (resident, staged) =
            (plan_with(version, Residency::Resident, weights), plan_with(version, Residency::Staged, weights));
        assert!(gb(resident.peak_bytes) <= most_resident, "{name}: {:.3} GB resident", gb(resident.peak_bytes));
        assert!(gb(staged.peak_bytes) <= most_staged, "{name}: {:.3} GB staged", gb(staged.peak_bytes));
        let in_16_bits = plan_of(version, Residency::Resident);
        let dispatches = |plan: &Plan| plan.phase("step").unwrap().counts.dispatches;
        assert!(dispatches(&resident) <= dispatches(&in_16_bits), "{name}: {} dispatches", dispatches(&resident));
    }
}

#[test]
fn a_budget_chooses_how_weights_stay_and_says_what_would_fit() {
    let at = |budget| {
        let mut settings = PlanSettings::new(Caps::guaranteed(true), Element::F16);
        settings.budget = Some(budget);
        block_on(plan(&Published::new(SDVersion::Xl), &settings)).unwrap()
    };
    assert_eq!((at(12_000_000_000).residency, at(12_000_000_000).fits), ("resident", true));
    assert_eq!((at(6_000_000_000).residency, at(6_000_000_000).fits), ("staged", true));
    let streamed = at(4_000_000_000);
    assert_eq!((streamed.residency, streamed.fits), ("streamed", true));
    let tight = at(300_000_000);
    assert!(!tight.fits && tight.advice.unwrap().contains("draw smaller"));
}

/// Draws with the settings of a plan and returns the peak of what was really allocated.
fn real_peak(folder: &Folder, element: Element, weights: WeightType, residency: Residency) -> Option<u64> {
    let gpu = gpu()?;
    let caps = gpu.caps.clone();
    let runner = Rc::new(GpuRunner::new(gpu, element).unwrap().with_weights(weights));
    let loader = ModelLoader::new(folder, &*runner).with_residency(residency);
    let model = Rc::new(block_on(loader.load(&mut |_| true)).unwrap());
    let mut settings = PlanSettings::new(caps, element);
    settings.residency = Some(residency);
    settings.weights = Some(weights);
    let planned = block_on(plan(folder, &settings)).unwrap();
    let version = model.configs.version();
    // What PNDM keeps of earlier steps counts, and others keep less.
    let n_steps = if version == SDVersion::V1_5 { 5 } else { 2 };
    let config = SDConfig::new(version).with_size(planned.width, planned.height).with_steps(n_steps);
    let is_inpaint = model.configs.is_inpaint();
    let picture = |level| RgbImage::new(64, 64, vec![level; 64 * 64 * 3]).unwrap();
    let (start_picture, mask) = if is_inpaint { (Some(picture(128)), Some(picture(255))) } else { (None, None) };
    let config = if is_inpaint { config.with_strength(1.0) } else { config };
    draw(&runner, &model, Inputs { config, start_picture, mask });
    let counts = runner.counts();
    assert_eq!(counts.peak_bytes, planned.peak_bytes, "{version:?}, {element:?}, {residency:?}");
    let dispatches: u64 = planned.phases.iter().map(|phase| phase.counts.dispatches).sum();
    assert!(counts.dispatches >= dispatches, "{} and {dispatches} dispatches", counts.dispatches);
    // Whenever they were compiled, and where compiling began before a phase that may never come.
    let pipelines: u64 = planned.phases.iter().map(|phase| phase.counts.pipelines).sum();
    assert_eq!(counts.pipelines, pipelines, "{version:?}, {element:?}, {residency:?}");
    Some(counts.peak_bytes)
}

#[test]
fn what_is_planned_is_what_is_allocated() {
    for (version, element, weights) in [
        ("v1-5", Element::F32, WeightType::F16),
        ("v1-5", Element::F16, WeightType::F16),
        ("xl-inpaint", Element::F16, WeightType::F16),
        ("v1-5", Element::F16, WeightType::F32),
        ("v1-5", Element::F16, WeightType::Q8_0),
        ("xl", Element::F32, WeightType::Q4_0),
    ] {
        let dir = tempfile::tempdir().unwrap();
        tiny::write_model(version, dir.path(), tiny::Style::F16);
        let folder = Folder::open(dir.path()).unwrap();
        let Some(resident) = real_peak(&folder, element, weights, Residency::Resident) else { return };
        let Some(staged) = real_peak(&folder, element, weights, Residency::Staged) else { return };
        assert!(staged < resident, "{version}: {staged} and {resident}");
    }
}

const WHOLE: BandSizes = BandSizes::WHOLE;

/// The embedded model's decoder with its pictures in a dozen bands: the same picture, and less memory.
#[test]
fn bands_do_not_show() {
    let run = |bands| {
        let mut gpu = gpu()?;
        // Bands are what fits small buffers, so the arena is cut into several on the way.
        if bands != WHOLE {
            gpu.caps.max_buffer_bytes = 1 << 20;
        }
        let runner = Rc::new(GpuRunner::new(gpu, Element::F32).unwrap().with_bands(bands));
        let model = load(&emoji(), &runner);
        let mut inputs = inputs(model.configs.version(), 128, 2);
        inputs.start_picture = Some(cases::picture_of_halves(128));
        inputs.config = inputs.config.with_strength(0.6);
        let mut generation = Generation::new(&runner, &model, inputs).unwrap();
        let picture = finish(&mut generation).0;
        Some((picture, runner.counts().arena_bytes))
    };
    let Some((expected, whole_bytes)) = run(WHOLE) else { return };
    for (min_bytes, band_bytes) in [(1 << 18, 100_000), (1 << 17, 200_000)] {
        let Some((got, bytes)) = run(BandSizes { min_bytes, band_bytes, ..BandSizes::DEFAULT }) else { return };
        let db = psnr(&got.pixels, &expected.pixels);
        assert!(db >= 60.0, "bands of {band_bytes} bytes: PSNR {db:.1} dB");
        assert!(bytes < whole_bytes * 9 / 10, "bands of {band_bytes} bytes take {bytes}, without {whole_bytes}");
    }
}

/// An adapter that allows less than both prompts together need.
#[test]
fn prompts_are_drawn_one_after_another_where_both_are_too_large() {
    let run = |max_binding_bytes: Option<u64>| {
        let mut gpu = gpu()?;
        gpu.caps.max_binding_bytes = max_binding_bytes.unwrap_or(gpu.caps.max_binding_bytes);
        let runner = Rc::new(GpuRunner::new(gpu, Element::F32).unwrap());
        let model = load(&emoji(), &runner);
        // Bands would hide the limit from the decoder, which is not what is looked at: compare latents.
        let mut generation = Generation::new(&runner, &model, inputs(model.configs.version(), 256, 1)).unwrap();
        while generation.stage() != Stage::Decode {
            block_on(generation.step(&mut |_| true)).unwrap();
        }
        Some(block_on(generation.latents()).unwrap().unwrap())
    };
    let Some(expected) = run(None) else { return };
    // The largest value of a step for two prompts has 2·32·32·192 values, for one half of it; the token table is less.
    let Some(got) = run(Some(1_500_000)) else { return };
    numbers::assert_close("latents", &got, &expected, 1e-4);
    let mut gpu = gpu().unwrap();
    gpu.caps.max_binding_bytes = 700_000;
    let runner = Rc::new(GpuRunner::new(gpu, Element::F32).unwrap());
    let refused = block_on(ModelLoader::new(&emoji(), &*runner).load(&mut |_| true)).err();
    assert!(matches!(refused, Some(Error::Limit { .. })), "{refused:?}");
}

/// Multiplies one tensor of a checkpoint.
fn scale_tensor(file: &PathBuf, name: &str, factor: f32) {
    let mut bytes = std::fs::read(file).unwrap();
    let (header_len, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let (from, to) = metadata.info(name).unwrap_or_else(|| panic!("no {name}")).data_offsets;
    for value in bytes[8 + header_len..][from..to].chunks_exact_mut(4) {
        let scaled = f32::from_le_bytes(value.try_into().unwrap()) * factor;
        value.copy_from_slice(&scaled.to_le_bytes());
    }
    std::fs::write(file, bytes).unwrap();
}

/// Weights that 16 bits hold, whose products they do not: the step and the decoder overflow, notice, and come out right.
#[test]
fn what_overflows_16_bits_is_repeated_in_f32() {
    let Some(gpu) = gpu() else { return };
    let dir = tempfile::tempdir().unwrap();
    tiny::write_model("v1-5", dir.path(), tiny::Style::F32);
    scale_tensor(&dir.path().join("unet/diffusion_pytorch_model.safetensors"), "conv_in.weight", 8e4);
    scale_tensor(&dir.path().join("vae/diffusion_pytorch_model.safetensors"), "decoder.conv_in.weight", 8e4);
    let folder = Folder::open(dir.path()).unwrap();
    let case = cases("v1-5").into_iter().find(|case| case.inputs().start_picture.is_none()).unwrap();
    let mut inputs = case.inputs();
    inputs.config = inputs.config.with_steps(3);
    let cpu = Rc::new(CandleRunner::cpu(Precision::F32));
    let (expected, _) = draw(&cpu, &load(&folder, &cpu), inputs.clone());
    let runner = Rc::new(GpuRunner::new(gpu, Element::F16).unwrap());
    let (got, repeated) = draw(&runner, &load(&folder, &runner), inputs);
    assert!(repeated, "nothing overflowed, so nothing is shown");
    let db = psnr(&got.pixels, &expected.pixels);
    assert!(db >= 35.0, "PSNR {db:.1} dB");
}

/// A device that goes away between two steps: the error says so, and the run goes on on another one as if nothing had
/// happened.
#[test]
fn a_lost_device_is_named_and_the_run_goes_on_on_another() {
    let Some(gpu) = gpu() else { return };
    let runner = Rc::new(GpuRunner::new(gpu, Element::F32).unwrap());
    let model = load(&emoji(), &runner);
    let mut wanted = inputs(model.configs.version(), 64, 4);
    // A sampler that keeps earlier results and draws noise has the most to lose.
    wanted.config.sampler = Some(darkroom::sampler::SamplerKind::DpmPp2m.into());
    let (expected, _) = draw(&runner, &model, wanted.clone());

    let mut generation = Generation::new(&runner, &model, wanted.clone()).unwrap();
    let mut checkpoint = None;
    for _ in 0..4 {
        block_on(generation.step(&mut |_| true)).unwrap();
        checkpoint = Some(block_on(generation.checkpoint()).unwrap());
    }
    runner.destroy_device();
    let error = block_on(generation.step(&mut |_| true)).unwrap_err();
    assert!(matches!(error, Error::DeviceLost { .. }), "{error}");
    assert!(error.to_string().contains("unet"), "{error}");

    let other = Rc::new(GpuRunner::new(block_on(Gpu::open()).unwrap(), Element::F32).unwrap());
    let model = load(&emoji(), &other);
    let mut generation = Generation::new(&other, &model, wanted.clone()).unwrap();
    let checkpoint = checkpoint.unwrap();
    let mut last = 0.0;
    block_on(generation.resume(&checkpoint, &mut |fraction| {
        assert!(fraction >= last);
        last = fraction;
        true
    }))
    .unwrap();
    assert_eq!(generation.stage(), Stage::Denoise);
    let (got, _) = finish(&mut generation);
    assert_eq!(got.pixels, expected.pixels);

    let mut smaller = Generation::new(&other, &model, inputs(model.configs.version(), 32, 4)).unwrap();
    let refused = block_on(smaller.resume(&checkpoint, &mut |_| true)).unwrap_err();
    assert!(matches!(refused, Error::Request { field: "checkpoint", .. }), "{refused}");
}

/// What an attention multiplies in is measured too, in 16 bits, and once for its class.
#[test]
fn attentions_are_measured_in_f32_and_f16() {
    let Some(gpu) = gpu() else { return };
    if !gpu.caps.shader_f16 {
        eprintln!("skipped, because {} has no f16", gpu.caps.name);
        return;
    }
    let runner = GpuRunner::new(gpu, Element::F16).unwrap();
    let attentions = [40, 33].map(|queries| Attention::dense(1, queries, 77, 2, 64, 0.125, false));
    block_on(runner.tune_attentions(&attentions, Element::F32)).unwrap();
    assert!(runner.measured().is_empty(), "in f32 there is no choice");
    block_on(runner.tune_attentions(&attentions, Element::F16)).unwrap();
    let measured = runner.measured();
    let ways: Vec<&str> = measured.iter().map(|one| one.tile).collect();
    assert_eq!(ways, [IN_F32, IN_F16], "33 and 40 queries are one class");
    assert!(measured.iter().all(|one| one.secs > 0.0 && one.gflops > 0.0), "{measured:?}");
    let class = attentions[0].class(Element::F16);
    assert!(runner.tiles().knows_class(&class), "{class}");
}

/// Tiles are measured once: what was learnt is used, survives a file, and changes no picture.
#[test]
fn tiles_are_measured_once_and_change_nothing() {
    let Some(gpu) = gpu() else { return };
    let runner = Rc::new(GpuRunner::new(gpu, Element::F32).unwrap());
    let linear = |rows, k, n| Gemm::new(Source::rows(1, rows, k), n, Epilogue::default());
    let gemms = [linear(64, 64, 64), linear(60, 64, 64), linear(64, 256, 8)];
    block_on(runner.tune(&gemms, Element::F32)).unwrap();
    let measured = runner.measured();
    assert!(measured.iter().all(|m| m.secs > 0.0 && m.gflops > 0.0));
    assert_eq!(runner.tiles().len(), 2, "60 and 64 rows are one class: {measured:?}");
    for gemm in &gemms[1..] {
        let class = Tiles::class(gemm, Element::F32).unwrap();
        let of_class = measured.iter().filter(|m| m.class == class);
        let fastest = of_class.min_by(|a, b| a.secs.total_cmp(&b.secs)).unwrap();
        let (tile, splits) = runner.tiles().choose(gemm, &runner.caps().machine(Element::F32)).unwrap();
        assert_eq!((tile.name, splits), (fastest.tile, fastest.splits));
    }
    block_on(runner.tune(&gemms, Element::F32)).unwrap();
    assert_eq!(runner.measured().len(), measured.len(), "measured again");

    let (expected, _) = draw(&runner, &load(&emoji(), &runner), inputs(SDVersion::V1_5, 64, 1));
    // The embedded model's products with the slowest choice there is, all by a tile of 32x32.
    let text = serde_json::to_string(&runner.tiles()).unwrap();
    let mut all = serde_json::Map::new();
    let program = block_on(runner.prepare(graph_of(&runner))).unwrap();
    for gemm in &program.program().gemms {
        let class = Tiles::class(gemm, Element::F32).unwrap();
        all.insert(class, serde_json::json!({ "tile": "32x32", "splits": 1 }));
    }
    assert_eq!(serde_json::from_str::<Tiles>(&text).unwrap(), runner.tiles());
    let tiles: Tiles = serde_json::from_value(all.into()).unwrap();
    let other = Rc::new(GpuRunner::new(block_on(Gpu::open()).unwrap(), Element::F32).unwrap().with_tiles(tiles));
    let (got, _) = draw(&other, &load(&emoji(), &other), inputs(SDVersion::V1_5, 64, 1));
    let max = got.pixels.iter().zip(&expected.pixels).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(max <= Some(1), "{max:?}");
}

/// The step's graph of the embedded model at 64x64.
fn graph_of(runner: &Rc<GpuRunner>) -> darkroom::graph::Graph {
    let model = load(&emoji(), runner);
    let shape = UNetShape { batch: 2, height: 8, width: 8, n_context: 77 };
    step_graph(&model.configs.unet, shape).unwrap()
}

/// When a request is over, drawn or given up, the GPU holds what it held before: weights.
#[test]
fn nothing_is_kept_for_a_picture_that_is_over() {
    let Some(gpu) = gpu() else { return };
    let runner = Rc::new(GpuRunner::new(gpu, Element::F32).unwrap());
    let model = load(&emoji(), &runner);
    // Loading leaves a few small buffers for the next to use.
    runner.trim();
    let before = runner.counts();
    let mut held = 0;
    let mut generation = Generation::new(&runner, &model, inputs(model.configs.version(), 96, 1)).unwrap();
    while let Some(_event) = block_on(generation.step(&mut |_| true)).unwrap() {
        held = held.max(runner.counts().arena_bytes);
    }
    assert!(held > 1 << 20, "{held} bytes of arena");
    drop(generation);
    assert_eq!(runner.counts().live_bytes, before.live_bytes, "{:?}", runner.counts());
    let mut generation = Generation::new(&runner, &model, inputs(model.configs.version(), 64, 2)).unwrap();
    for _ in 0..3 {
        block_on(generation.step(&mut |_| true)).unwrap();
    }
    assert!(runner.counts().arena_bytes < held, "a smaller picture needs less");
    drop(generation);
    assert_eq!(runner.counts().live_bytes, before.live_bytes, "{:?}", runner.counts());
}

/// The second picture of a request finds everything there: no buffer, no pipeline, no bind group for its steps.
#[test]
fn a_second_picture_allocates_nothing() {
    let Some(gpu) = gpu() else { return };
    let runner = Rc::new(GpuRunner::new(gpu, Element::F32).unwrap());
    let model = load(&emoji(), &runner);
    let mut twice = inputs(model.configs.version(), 64, 3);
    twice.config = twice.config.with_count(2);
    let mut generation = Generation::new(&runner, &model, twice).unwrap();
    let mut after_first = None;
    while let Some(event) = block_on(generation.step(&mut |_| true)).unwrap() {
        if matches!(event, Event::Decoded { picture: 0, .. }) {
            after_first = Some(runner.counts());
        }
    }
    let second = runner.counts().since(&after_first.unwrap());
    // Reading the picture back needs a buffer that the host can see, made for each reading.
    assert_eq!((second.pipelines, second.buffers - second.readbacks), (0, 0), "{second:?}");
}
