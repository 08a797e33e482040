//! What a picture will ask of a GPU, before anything is downloaded: memory, work and dispatches by phase, and whether it
//! fits.
//!
//! A plan is made by drawing: the pipeline runs as it will, on a runner that has no device and only counts. So it is right
//! by construction about everything but time, which it does not guess.

use std::rc::Rc;

use serde::Serialize;

use super::components::{ModelComponents, ModelLoader, Residency};
use super::generation::Generation;
use super::job::{Inputs, Stage};
use crate::error::words::{in_words, rounded_up};
use crate::error::{Error, Result};
use crate::hub::Source;
use crate::image::RgbImage;
use crate::model::SDVersion;
use crate::request::Request;
use crate::run::Runner;
use crate::run::gpu::Caps;
use crate::run::gpu::Element;
use crate::run::gpu::ledger::Counts;
use crate::run::gpu::runner::{FIRST_FLOPS_PER_SEC, GpuRunner};
use crate::weights::WeightType;

/// Steps that are run: from the second on all are alike, and samplers keep no more than three earlier results.
const MAX_STEPS: usize = 5;

/// What is to be drawn, on what.
#[derive(Clone, Debug)]
pub struct PlanSettings {
    /// What is asked for. Above a guidance scale of 1 every step runs for two prompts.
    pub request: Request,
    /// The version that the model was named by, if it was.
    pub version: Option<SDVersion>,
    /// Whether a picture is started from. Inpainting models always do.
    pub from_picture: bool,
    /// Width and height in pixels of the picture that is started from, where it is known.
    pub picture: Option<(usize, usize)>,
    /// The type of activations.
    pub element: Element,
    /// The type that weights are held in; `None` leaves it to the budget, as [`choose_weights`] says.
    pub weights: Option<WeightType>,
    /// Bytes of GPU memory that may be used; without one everything stays loaded.
    pub budget: Option<u64>,
    /// How long weights stay loaded, where the budget is not to decide.
    pub residency: Option<Residency>,
    /// The adapter.
    pub caps: Caps,
    /// Its speed in floating-point operations a second, which submits are paced for.
    pub flops_per_sec: f64,
}

impl PlanSettings {
    /// The version's own settings on an adapter.
    #[must_use]
    pub fn new(caps: Caps, element: Element) -> Self {
        PlanSettings {
            request: Request::default(),
            version: None,
            from_picture: false,
            picture: None,
            element,
            weights: Some(WeightType::default()),
            budget: None,
            residency: None,
            caps,
            flops_per_sec: FIRST_FLOPS_PER_SEC,
        }
    }
}

/// What one phase asks for.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct PhasePlan {
    /// `load`, `encode`, `prepare`, `first step`, `step` (each later one) or `decode`.
    pub name: &'static str,
    /// The counts of this phase alone, with the bytes that are alive at its end and the most that were during it.
    #[serde(flatten)]
    pub counts: Counts,
}

/// What a picture would ask of the GPU; see the module.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct Plan {
    /// The model.
    pub model: String,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// `f16` or `f32`.
    pub dtype: &'static str,
    /// What weights are held in: `f32`, `f16`, `q8_0` or `q4_0`.
    pub weights: &'static str,
    /// `resident`, `staged` or `streamed`.
    pub residency: &'static str,
    /// In order.
    pub phases: Vec<PhasePlan>,
    /// The most bytes of GPU memory at once.
    pub peak_bytes: u64,
    /// The same if everything stayed loaded.
    pub resident_peak_bytes: u64,
    /// The same if components were loaded one after another.
    pub staged_peak_bytes: u64,
    /// The same if as few weights as possible were on the GPU at once: no budget below it suffices.
    pub least_peak_bytes: u64,
    /// Bytes of weights that are brought to the GPU in each step, because they do not stay there.
    pub streamed_bytes_per_step: u64,
    /// Bytes of all weights as they lie on the GPU.
    pub weight_bytes: u64,
    /// The largest range that one binding sees.
    pub largest_binding_bytes: u64,
    /// The adapter's limit of that.
    pub max_binding_bytes: u64,
    /// The speed of the GPU that submits are counted for, in floating-point operations a second. Drawing follows the speed
    /// that it measures.
    pub paced_for_flops_per_sec: f64,
    /// The budget, if there is one.
    pub budget_bytes: Option<u64>,
    /// Whether the peak is within the budget.
    pub fits: bool,
    /// What would fit, where it does not.
    pub advice: Option<String>,
}

impl Plan {
    /// A phase by its name.
    #[must_use]
    pub fn phase(&self, name: &str) -> Option<&PhasePlan> {
        self.phases.iter().find(|phase| phase.name == name)
    }
}

/// Plans a picture of the model that a source has; its weights are not read.
///
/// # Errors
/// What is wrong with the configs or the settings; [`Error::Limit`] when no plan is within the adapter's limits.
pub async fn plan(source: &dyn Source, settings: &PlanSettings) -> Result<Plan> {
    Ok(decide(source, settings).await?.plan)
}

/// Tries how a search for the most weights that fit a budget goes on, at most.
const MAX_TRIES: usize = 7;

/// A plan, and what was chosen for it.
struct Decided {
    plan: Plan,
    weights: WeightType,
    residency: Residency,
}

async fn decide(source: &dyn Source, settings: &PlanSettings) -> Result<Decided> {
    let mut chosen = decide_with(source, settings, settings.weights.unwrap_or(WeightType::F16)).await?;
    if settings.weights.is_some() || settings.budget.is_none() {
        return Ok(chosen);
    }
    let is_streamed = |decided: &Decided| matches!(decided.residency, Residency::Streamed { .. });
    for weights in [WeightType::Q8_0, WeightType::Q4_0] {
        if chosen.plan.fits && !is_streamed(&chosen) {
            break;
        }
        let next = decide_with(source, settings, weights).await?;
        if next.plan.fits && (!is_streamed(&next) || chosen.weights == WeightType::F16) {
            chosen = next;
        }
    }
    Ok(chosen)
}

async fn decide_with(source: &dyn Source, settings: &PlanSettings, weights: WeightType) -> Result<Decided> {
    let settings = &PlanSettings { weights: Some(weights), ..settings.clone() };
    let resident = draw(source, settings, Residency::Resident).await?;
    let staged = draw(source, settings, Residency::Staged).await?;
    let least = draw(source, settings, Residency::Streamed { weight_bytes: 0 }).await?;
    let fits = |drawn: &Drawn| settings.budget.is_none_or(|budget| drawn.peak_bytes <= budget);
    let [resident_peak_bytes, staged_peak_bytes, least_peak_bytes] =
        [&resident, &staged, &least].map(|drawn| drawn.peak_bytes);
    let smallest = resident_peak_bytes.min(staged_peak_bytes).min(least_peak_bytes);
    let weight_bytes = resident.weight_bytes;
    let chosen = match settings.residency {
        Some(residency) => residency,
        None if fits(&resident) => Residency::Resident,
        None if fits(&staged) => Residency::Staged,
        None if least_peak_bytes < staged_peak_bytes.min(resident_peak_bytes) => {
            Residency::Streamed { weight_bytes: 0 }
        }
        None if staged_peak_bytes < resident_peak_bytes => Residency::Staged,
        None => Residency::Resident,
    };
    let (residency, drawn) = match (chosen, settings.residency) {
        (Residency::Resident, _) => (chosen, resident),
        (Residency::Staged, _) => (chosen, staged),
        (Residency::Streamed { .. }, Some(_)) => (chosen, draw(source, settings, chosen).await?),
        (Residency::Streamed { .. }, None) => fill_budget(source, settings, least).await?,
    };
    let fits = fits(&drawn);
    let smaller_by_residency = settings.residency.is_some() && settings.budget.is_some_and(|budget| smallest <= budget);
    let advice = (!fits).then(|| {
        if smaller_by_residency {
            let name = residency.name();
            let takes = in_words(rounded_up(drawn.peak_bytes));
            return format!(
                "components {name} take {takes}: the least is {}, where the residency is left to the budget",
                in_words(rounded_up(smallest))
            );
        }
        let or_f16 = if settings.element == Element::F32 { ", or use f16" } else { "" };
        format!(
            "the least is {}, with weights brought to the GPU piece by piece in each step: draw smaller than \
             {}x{}{or_f16}",
            in_words(rounded_up(smallest)),
            drawn.width,
            drawn.height
        )
    });
    let mut steps = drawn.phases.iter().filter(|phase| phase.name.ends_with("step"));
    let streamed_bytes_per_step = steps.next_back().map_or(0, |step| step.counts.streamed_bytes);
    let plan = Plan {
        model: source.describe(),
        width: drawn.width,
        height: drawn.height,
        dtype: match settings.element {
            Element::F32 => "f32",
            Element::F16 => "f16",
        },
        weights: weights.name(),
        residency: residency.name(),
        peak_bytes: drawn.peak_bytes,
        resident_peak_bytes,
        staged_peak_bytes,
        least_peak_bytes,
        streamed_bytes_per_step,
        weight_bytes,
        largest_binding_bytes: drawn.phases.iter().map(|p| p.counts.largest_binding_bytes).max().unwrap_or(0),
        max_binding_bytes: settings.caps.max_binding_bytes,
        paced_for_flops_per_sec: settings.flops_per_sec,
        budget_bytes: settings.budget,
        fits,
        advice,
        phases: drawn.phases,
    };
    Ok(Decided { plan, weights, residency })
}

/// The most weights that stay within a budget while a component runs; `least` has the fewest.
async fn fill_budget(source: &dyn Source, settings: &PlanSettings, least: Drawn) -> Result<(Residency, Drawn)> {
    let mut best = (Residency::Streamed { weight_bytes: 0 }, least);
    let budget = settings.budget.unwrap_or(u64::MAX);
    if best.1.peak_bytes > budget {
        return Ok(best);
    }
    // What a step takes beside its weights does not depend on how many of them stay. Other stages may take more, and leave
    // less for theirs.
    let beside = |phase: &PhasePlan| phase.counts.peak_bytes.saturating_sub(phase.counts.weight_bytes);
    let of_steps = best.1.phases.iter().filter(|phase| phase.name.ends_with("step")).map(beside).max().unwrap_or(0);
    let (mut low, mut high) = (0, budget.saturating_sub(of_steps));
    let mut next = high;
    for _ in 0..MAX_TRIES {
        let residency = Residency::Streamed { weight_bytes: next };
        let drawn = draw(source, settings, residency).await?;
        if drawn.peak_bytes <= budget {
            (low, best) = (next, (residency, drawn));
            if next == high {
                break;
            }
        } else {
            high = next;
        }
        next = low + (high - low) / 2;
    }
    Ok(best)
}

/// What a run without a device counted.
struct Drawn {
    width: usize,
    height: usize,
    phases: Vec<PhasePlan>,
    peak_bytes: u64,
    weight_bytes: u64,
}

async fn draw(source: &dyn Source, settings: &PlanSettings, residency: Residency) -> Result<Drawn> {
    let runner = GpuRunner::planned(settings.caps.clone(), settings.element)?;
    let runner = Rc::new(runner.with_weights(settings.weights.unwrap_or_default()).with_speed(settings.flops_per_sec));
    let mut before = runner.counts();
    let model = ModelLoader::new(source, &*runner).with_residency(residency).load(&mut |_| true).await?;
    let counts = runner.counts();
    let mut phases = vec![PhasePlan { name: "load", counts: counts.since(&before) }];
    let mut peak_bytes = counts.peak_bytes;
    before = counts;
    runner.reset_peak();
    let inputs = inputs(settings, &model)?;
    let (width, height) = (inputs.config.width, inputs.config.height);
    let mut generation = Generation::new(&runner, &Rc::new(model), inputs)?;
    let mut n_steps = 0;
    loop {
        let name = match generation.stage() {
            Stage::Encode => "encode",
            Stage::Prepare => "prepare",
            Stage::Denoise => ["first step", "step"][usize::from(n_steps > 0)],
            Stage::Decode => "decode",
            Stage::Done => break,
        };
        let is_step = generation.stage() == Stage::Denoise;
        generation.step(&mut |_| true).await?;
        n_steps += usize::from(is_step);
        let counts = runner.counts();
        peak_bytes = peak_bytes.max(counts.peak_bytes);
        let phase = PhasePlan { name, counts: counts.since(&before) };
        before = counts;
        runner.reset_peak();
        // Of all later steps the last one stands, by when the sampler has what it keeps.
        match phases.last_mut() {
            Some(last) if last.name == name => *last = phase,
            _ => phases.push(phase),
        }
    }
    let weight_bytes = phases.iter().map(|phase| phase.counts.weight_bytes).max().unwrap_or(0);
    Ok(Drawn { width, height, phases, peak_bytes, weight_bytes })
}

fn inputs<R: Runner>(settings: &PlanSettings, model: &ModelComponents<R>) -> Result<Inputs> {
    let configs = &model.configs;
    let defaults = configs.defaults(settings.version);
    let (width, height) = settings.request.size(&defaults, settings.picture);
    let request =
        Request { strength: None, fit: None, padding_mask_crop: None, mask_blur: None, ..settings.request.clone() };
    // LoRAs are merged into weights as these are read, and need no room of their own.
    let mut config = request.resolve(&defaults, None, false, 0)?.with_size(width, height).with_loras(Vec::new());
    config.steps = config.steps.min(MAX_STEPS);
    config.validate_for(configs.sides())?;
    let multiple = configs.size_multiple();
    let is_inpaint = configs.is_inpaint();
    let picture = |level| RgbImage::new(multiple, multiple, vec![level; 3 * multiple * multiple]);
    let from_picture = is_inpaint || settings.from_picture;
    if from_picture {
        config = config.with_strength(1.0);
    }
    Ok(Inputs {
        config,
        start_picture: if from_picture { Some(picture(128)?) } else { None },
        mask: if is_inpaint { Some(picture(255)?) } else { None },
    })
}

/// The residency that a budget allows, as [`plan`] decides it.
///
/// # Errors
/// As [`plan`]; [`Error::Request`] when nothing fits, with what would.
pub async fn choose_residency(source: &dyn Source, settings: &PlanSettings) -> Result<Residency> {
    let Decided { plan, residency, .. } = decide(source, settings).await?;
    if plan.fits {
        return Ok(residency);
    }
    Err(Error::Request {
        field: "memory budget",
        got: format!("of {}", in_words(settings.budget.unwrap_or(0))),
        expected: plan.advice.unwrap_or_default(),
    })
}

/// The type of weights that a plan has which leaves it to the budget: the first of f16, q8_0 and q4_0 that fits, all at once or
/// one component after another; where none does, the first quantised one that fits with weights read in each step; else f16.
///
/// # Errors
/// As [`plan`].
pub async fn choose_weights(source: &dyn Source, settings: &PlanSettings) -> Result<WeightType> {
    Ok(decide(source, &PlanSettings { weights: None, ..settings.clone() }).await?.weights)
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use pollster::block_on;

    use super::*;
    use crate::hub::published::Published;
    use crate::request::LoraUse;

    #[test]
    fn a_request_with_loras_is_planned_without_their_files() {
        let planned = |prompt: &str, loras: Vec<LoraUse>| {
            let request =
                Request { prompt: prompt.into(), loras, width: Some(64), height: Some(64), ..Request::default() };
            let settings = PlanSettings {
                request,
                budget: Some(1_500_000_000),
                ..PlanSettings::new(Caps::guaranteed(true), Element::F16)
            };
            block_on(plan(&Published::new(SDVersion::V1_5), &settings))
        };
        let without = planned("", Vec::new()).unwrap();
        assert_eq!(planned("<lora:ink:0.5>", vec![LoraUse::new("wash", 1.0)]).unwrap(), without);
    }

    #[test]
    fn a_budget_chooses_the_largest_weights_that_it_holds() {
        let planned = |weights: Option<WeightType>, budget: Option<u64>| {
            let request = Request { width: Some(64), height: Some(64), ..Request::default() };
            let settings =
                PlanSettings { request, weights, budget, ..PlanSettings::new(Caps::guaranteed(true), Element::F16) };
            block_on(plan(&Published::new(SDVersion::V1_5), &settings)).unwrap()
        };
        let of = |weights| planned(Some(weights), None);
        let [f16, q8_0, q4_0] = [WeightType::F16, WeightType::Q8_0, WeightType::Q4_0].map(of);
        for (budget, weights, residency) in [
            (None, "f16", "resident"),
            (Some(f16.resident_peak_bytes), "f16", "resident"),
            (Some(f16.staged_peak_bytes), "f16", "staged"),
            (Some(f16.staged_peak_bytes - 1), "q8_0", "resident"),
            (Some(q8_0.staged_peak_bytes), "q8_0", "staged"),
            (Some(q8_0.staged_peak_bytes - 1), "q4_0", "resident"),
            (Some(q4_0.staged_peak_bytes), "q4_0", "staged"),
            // Eight bits rather than four where neither stays.
            (Some(q4_0.staged_peak_bytes - 1), "q8_0", "streamed"),
            (Some(q4_0.least_peak_bytes.min(q8_0.least_peak_bytes) - 1), "f16", "streamed"),
        ] {
            let plan = planned(None, budget);
            assert_eq!((plan.weights, plan.residency), (weights, residency), "{budget:?}");
            let is_said = planned(WeightType::named(weights), budget);
            assert_eq!(plan, is_said, "{budget:?}");
        }
    }
}
