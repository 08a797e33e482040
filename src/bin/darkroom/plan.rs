//! `darkroom plan`: what a picture will ask of a GPU, without drawing it.

use std::rc::Rc;

use clap::{Args as ClapArgs, ValueEnum};
use darkroom::checkpoint::vocabulary;
use darkroom::engine::{Dtype, Expected, WeightType};
use darkroom::hub::Source;
use darkroom::hub::published::Published;
use darkroom::pipeline::Residency;
use darkroom::pipeline::plan::{Plan, PlanSettings, plan};
use darkroom::request::Request;
use darkroom::run::gpu::runner::{FIRST_FLOPS_PER_SEC, submit_secs};
use darkroom::run::gpu::{Caps, Gpu};
use darkroom::sampler::Sampler;
use darkroom::{Error, Result};

use crate::bar::Bar;
use crate::model_args::ModelArgs;
use crate::numbers::{number, parse_bytes, positive};
use crate::{print_json, print_line};

/// Whose limits count.
#[derive(Clone, Copy, ValueEnum)]
enum Limits {
    /// What WebGPU guarantees on every adapter.
    Default,
    /// Those of this machine's adapter.
    Adapter,
}

/// `darkroom plan`.
#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Width in pixels [default: the version's].
    #[arg(long, allow_negative_numbers = true, value_parser = positive)]
    width: Option<usize>,
    /// Height in pixels [default: the version's].
    #[arg(long, allow_negative_numbers = true, value_parser = positive)]
    height: Option<usize>,
    /// Allow sides that are any multiple of 8.
    #[arg(long)]
    any_size: bool,
    /// Number of pictures; with more than one, what the prompts gave is kept while one is decoded.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = positive)]
    count: Option<usize>,
    /// The prompt; one of more than 75 tokens, or with AND, takes more memory.
    #[arg(long)]
    prompt: Option<String>,
    /// Steps [default: the version's]; samplers that keep earlier results take more memory from the third step on.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = positive)]
    steps: Option<usize>,
    /// Guidance scale [default: the version's]; above 1 every step draws for two prompts.
    #[arg(long, allow_negative_numbers = true, value_parser = number)]
    guidance: Option<f64>,
    /// The sampler [default: the model's own].
    #[arg(long, help = format!("The sampler [default: the model's own]: {}", Sampler::known()))]
    sampler: Option<String>,
    /// Plan for starting from a picture.
    #[arg(long)]
    from_picture: bool,
    /// The type of activations; `auto` is f16 unless `--limits adapter` finds a GPU without it.
    #[arg(long, value_enum, default_value_t = Dtype::Auto)]
    dtype: Dtype,
    /// The type that weights are held in; with q8_0 and q4_0 the large matrices have 8 or 4 bits.
    #[arg(long, value_enum, default_value_t = WeightType::F16)]
    weights: WeightType,
    /// GPU memory that may be used: bytes, or 2GB, 1500MB.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, allow_negative_numbers = true)]
    budget: Option<u64>,
    /// How long weights stay on the GPU [default: as the budget allows].
    #[arg(long, value_enum)]
    residency: Option<Residency>,
    /// Whose limits count.
    #[arg(long, value_enum, default_value_t = Limits::Default)]
    limits: Limits,
    /// The speed of the GPU that submits are counted for: drawing follows the one that it measures. The default is a very slow one.
    #[arg(long, value_name = "GFLOP/S", allow_negative_numbers = true, value_parser = number, default_value_t = FIRST_FLOPS_PER_SEC / 1e9)]
    gflops: f64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Plans.
///
/// # Errors
/// What is wrong with the model or the settings.
pub fn run(args: &Args) -> Result<()> {
    let caps = match args.limits {
        Limits::Default => Caps::guaranteed(args.dtype != Dtype::F32),
        Limits::Adapter => pollster::block_on(Gpu::open())?.caps,
    };
    let element = args.dtype.element(&caps);
    let named = args.model.named()?;
    let version = named.version();
    let source: Rc<dyn Source> = match version {
        Some(version) if args.model.is_plain() => {
            let published = Published::new(version);
            // What an empty prompt has needs no vocabulary.
            match vocabulary::built_in().filter(|_| args.prompt.is_some()) {
                Some(merges) => Rc::new(published.with_vocabulary(vocabulary::vocab_json(merges)?, merges.to_owned())),
                None => Rc::new(published),
            }
        }
        _ => {
            let model = args.model.fetch(&named, &Bar::new())?;
            pollster::block_on(model.open()).map_err(Error::of_model)?
        }
    };
    let request = Request {
        width: args.width,
        height: args.height,
        any_size: args.any_size,
        prompt: args.prompt.clone().unwrap_or_default(),
        count: args.count,
        steps: args.steps,
        guidance_scale: args.guidance,
        sampler: args.sampler.clone(),
        ..Request::default()
    };
    let expected = Expected { request, version, from_picture: args.from_picture, picture: None };
    if !(args.gflops.is_finite() && args.gflops > 0.0) {
        return Err(Error::Request {
            field: "gflops",
            got: args.gflops.to_string(),
            expected: "use more than 0".into(),
        });
    }
    let settings = PlanSettings {
        residency: args.residency,
        flops_per_sec: args.gflops * 1e9,
        ..expected.plan(caps, element, Some(args.weights), args.budget)
    };
    let plan = pollster::block_on(plan(&*source, &settings)).map_err(Error::of_model)?;
    if args.json {
        return print_json(&serde_json::json!(plan));
    }
    print(&plan)
}

fn print(plan: &Plan) -> Result<()> {
    // A tiny model would take nothing in gigabytes.
    let (unit, unit_bytes) = match plan.resident_peak_bytes {
        0..1_000_000 => ("kB", 1e3),
        1_000_000..1_000_000_000 => ("MB", 1e6),
        _ => ("GB", 1e9),
    };
    let of = |n_bytes: u64| n_bytes as f64 / unit_bytes;
    print_line(format_args!(
        "{} at {}x{}, {}, weights in {}, components {}",
        plan.model, plan.width, plan.height, plan.dtype, plan.weights, plan.residency
    ))?;
    print_line(format_args!(
        "{:<11} {:>10} {:>8} {:>9} {:>10} {:>9} {:>10} {:>10} {:>10}",
        "phase",
        "dispatches",
        "submits",
        "pipelines",
        "TFLOP",
        format!("{unit} moved"),
        format!("weights {unit}"),
        format!("arena {unit}"),
        format!("peak {unit}")
    ))?;
    for phase in &plan.phases {
        let counts = &phase.counts;
        print_line(format_args!(
            "{:<11} {:>10} {:>8} {:>9} {:>10.3} {:>9.2} {:>10.3} {:>10.3} {:>10.3}",
            phase.name,
            counts.dispatches,
            counts.submits,
            counts.pipelines,
            counts.flops as f64 / 1e12,
            of(counts.moved_bytes),
            of(counts.weight_bytes),
            of(counts.arena_bytes),
            of(counts.peak_bytes),
        ))?;
    }
    print_line(format_args!(
        "peak {:.2} {unit} (everything loaded {:.2}, one component after another {:.2}, piece by piece {:.2}), weights {:.2} {unit}",
        of(plan.peak_bytes),
        of(plan.resident_peak_bytes),
        of(plan.staged_peak_bytes),
        of(plan.least_peak_bytes),
        of(plan.weight_bytes)
    ))?;
    if plan.streamed_bytes_per_step > 0 {
        print_line(format_args!(
            "{:.2} {unit} of weights do not stay: each step brings them to the GPU again",
            of(plan.streamed_bytes_per_step)
        ))?;
    }
    print_line(format_args!(
        "submits of about {:.2} s on a GPU of {} GFLOP/s; drawing follows the speed that it measures",
        submit_secs(plan.paced_for_flops_per_sec),
        plan.paced_for_flops_per_sec / 1e9
    ))?;
    print_line(format_args!(
        "largest binding {:.1} of {:.1} MiB",
        plan.largest_binding_bytes as f64 / f64::from(1 << 20),
        plan.max_binding_bytes as f64 / f64::from(1 << 20)
    ))?;
    match (&plan.advice, plan.budget_bytes) {
        (Some(advice), _) => print_line(format_args!("does not fit: {advice}")),
        (None, Some(budget)) => print_line(format_args!("fits {:.2} {unit}", of(budget))),
        (None, None) => Ok(()),
    }
}
