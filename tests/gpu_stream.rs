//! Weights that are brought to the GPU piece by piece while a model runs: the same pictures, within any budget above the
//! floor that a plan states, at the price that it states.
#![cfg(not(target_arch = "wasm32"))]

#[path = "common/gpu.rs"]
mod gpu;
#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/tiny.rs"]
mod tiny;

use std::rc::Rc;

use darkroom::hub::folder::Folder;
use darkroom::hub::published::Published;
use darkroom::image::RgbImage;
use darkroom::model::SDVersion;
use darkroom::pipeline::plan::{Plan, PlanSettings, choose_residency, plan};
use darkroom::pipeline::{Event, Generation, Inputs, ModelLoader, Residency};
use darkroom::request::SDConfig;
use darkroom::run::gpu::Caps;
use darkroom::run::gpu::Element;
use darkroom::run::gpu::ledger::Counts;
use darkroom::run::gpu::runner::GpuRunner;
use darkroom::weights::WeightType;
use gpu::gpu;
use pollster::block_on;

/// A picture with what it asked of the device.
struct Drawn {
    image: RgbImage,
    counts: Counts,
    /// Bytes of weights that the last step brought in.
    streamed_bytes: u64,
}

fn draw(folder: &Folder, settings: &PlanSettings, residency: Residency) -> Option<Drawn> {
    let runner =
        Rc::new(GpuRunner::new(gpu()?, settings.element).unwrap().with_weights(settings.weights.unwrap_or_default()));
    let loader = ModelLoader::new(folder, &*runner).with_residency(residency);
    let model = Rc::new(block_on(loader.load(&mut |_| true)).unwrap());
    let defaults = model.configs.defaults(None);
    let (width, height) = settings.request.size(&defaults, None);
    let config = SDConfig::new(model.configs.version()).with_size(width, height).with_steps(5).with_seed(3);
    let inputs = Inputs { config, start_picture: None, mask: None };
    let mut generation = Generation::new(&runner, &model, inputs).unwrap();
    let mut streamed_bytes = 0;
    loop {
        let before = runner.counts();
        match block_on(generation.step(&mut |_| true)).unwrap() {
            Some(Event::Denoised { .. }) => streamed_bytes = runner.counts().since(&before).streamed_bytes,
            Some(Event::Decoded { image, .. }) => {
                return Some(Drawn { image, counts: runner.counts(), streamed_bytes });
            }
            Some(_) => {}
            None => panic!("no picture came out"),
        }
    }
}

fn planned(folder: &Folder, settings: &PlanSettings, residency: Option<Residency>, budget: Option<u64>) -> Plan {
    block_on(plan(folder, &PlanSettings { residency, budget, ..settings.clone() })).unwrap()
}

/// Between the floor and what a component takes whole: the picture of resident weights, the peak and the bytes of the plan.
#[test]
fn any_budget_above_the_floor_draws_the_same_picture() {
    for (version, element, weights) in [
        ("v1-5", Element::F32, WeightType::F16),
        ("v1-5", Element::F16, WeightType::Q8_0),
        ("xl", Element::F16, WeightType::F16),
    ] {
        let dir = tempfile::tempdir().unwrap();
        tiny::write_model(version, dir.path(), tiny::Style::F16);
        let folder = Folder::open(dir.path()).unwrap();
        let Some(gpu) = gpu() else { return };
        let settings = PlanSettings { weights: Some(weights), ..PlanSettings::new(gpu.caps.clone(), element) };
        drop(gpu);
        let resident = draw(&folder, &settings, Residency::Resident).unwrap();
        assert_eq!(resident.counts.streamed_bytes, 0);
        let whole = planned(&folder, &settings, None, None);
        assert_eq!((whole.residency, whole.streamed_bytes_per_step), ("resident", 0));
        let (floor, staged) = (whole.least_peak_bytes, whole.staged_peak_bytes);
        assert!(floor < staged, "{version}: {floor} and {staged}");
        let mut bytes_before = u64::MAX;
        for budget in [floor, (floor + staged) / 2, staged - 1] {
            let name = format!("{version}, {element:?}, {weights:?}, {budget} of {floor} to {staged} bytes");
            let plan = planned(&folder, &settings, None, Some(budget));
            assert!(plan.fits && plan.peak_bytes <= budget, "{name}: {}", plan.peak_bytes);
            assert_eq!(plan.residency, "streamed", "{name}");
            let chosen =
                block_on(choose_residency(&folder, &PlanSettings { budget: Some(budget), ..settings.clone() }));
            let drawn = draw(&folder, &settings, chosen.unwrap()).unwrap();
            assert_eq!(drawn.counts.peak_bytes, plan.peak_bytes, "{name}");
            assert_eq!(drawn.streamed_bytes, plan.streamed_bytes_per_step, "{name}");
            assert!(drawn.image.pixels == resident.image.pixels, "{name}: another picture");
            assert!(drawn.counts.dispatches <= resident.counts.dispatches, "{name}: {:?}", drawn.counts);
            assert!(plan.streamed_bytes_per_step <= bytes_before, "{name}: more memory costs more");
            bytes_before = plan.streamed_bytes_per_step;
        }
        let at_floor = planned(&folder, &settings, None, Some(floor));
        assert!(at_floor.streamed_bytes_per_step > 0, "{version}: nothing was streamed");
        let below = PlanSettings { budget: Some(floor - 1), ..settings.clone() };
        let refused = block_on(choose_residency(&folder, &below)).unwrap_err().to_string();
        assert!(refused.contains("the least is"), "{refused}");
    }
}

/// The published models at their own sizes, on what every WebGPU adapter allows.
#[test]
fn published_models_fit_budgets_below_a_component() {
    for (version, weights, budget) in [
        (SDVersion::Xl, WeightType::F16, 3_000_000_000),
        (SDVersion::Xl, WeightType::Q8_0, 2_000_000_000),
        (SDVersion::V1_5, WeightType::F16, 1_000_000_000),
    ] {
        let settings = PlanSettings {
            weights: Some(weights),
            budget: Some(budget),
            ..PlanSettings::new(Caps::guaranteed(true), Element::F16)
        };
        let start = std::time::Instant::now();
        let plan = block_on(plan(&Published::new(version), &settings)).unwrap();
        let name = format!("{} in {}", version.key(), weights.name());
        eprintln!(
            "{name}: budget {budget}, peak {}, floor {}, staged {}, {} bytes a step, planned in {:?}",
            plan.peak_bytes,
            plan.least_peak_bytes,
            plan.staged_peak_bytes,
            plan.streamed_bytes_per_step,
            start.elapsed()
        );
        for phase in &plan.phases {
            let counts = &phase.counts;
            eprintln!(
                "  {}: peak {} weights {} arena {} other {} streamed {} dispatches {} + {}",
                phase.name,
                counts.peak_bytes,
                counts.weight_bytes,
                counts.arena_bytes,
                counts.other_bytes,
                counts.streamed_bytes,
                counts.dispatches,
                counts.streamed_dispatches
            );
        }
        assert_eq!((plan.residency, plan.fits), ("streamed", true), "{name}");
        assert!(plan.peak_bytes <= budget, "{name}: {}", plan.peak_bytes);
        assert!(plan.streamed_bytes_per_step < plan.weight_bytes, "{name}: {}", plan.streamed_bytes_per_step);
    }
}
