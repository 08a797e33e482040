//! `darkroom generate`.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::ValueEnum;
use darkroom::hub::Variant;
use darkroom::image::{Fit, RgbImage, decode, decode_mask, encode_png};
use darkroom::model::SDVersion;
use darkroom::parameters::Parameters;
use darkroom::pipeline::plan::{PlanSettings, choose_residency};
use darkroom::pipeline::{
    Event, Generation, Inputs, LongPrompt, ModelComponents, ModelLoader, Residency, Stage, Task, parameters_of,
};
use darkroom::request::{Defaults, MAX_COUNT, Request, SDConfig};
use darkroom::run::Runner;
use darkroom::run::candle::CandleRunner;
use darkroom::run::gpu::Caps;
use darkroom::run::gpu::runner::GpuRunner;
use darkroom::run::gpu::tiles::Tiles;
use darkroom::sampler::Sampler;
use darkroom::{Error, Result};
use serde_json::json;

use crate::bar::Bar;
use crate::device::{DeviceName, Dtype, open_gpu};
use crate::numbers::{number, seed, whole};
use crate::output_file;
use crate::source;
use crate::{exit_code, print_json, print_line};

/// The most threads that make sense on any machine, and that the thread pool can start at once.
const MAX_THREADS: usize = 1024;

/// How attention's scores are held.
#[derive(Clone, Copy, ValueEnum)]
enum Attention {
    /// Never all at once: the least memory, and on the CPU the fastest.
    Flash,
    /// One head at a time.
    Sliced,
    /// All at once.
    Full,
}

/// When tiles are measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tune {
    /// The first time on a real GPU.
    Auto,
    /// The first time on any adapter.
    Always,
    /// Never: a guess that is not bad.
    Never,
}

impl Tune {
    /// Whether they are measured on an adapter, which may be a processor in a GPU's place.
    pub fn measures(self, is_software: bool) -> bool {
        match self {
            Tune::Auto => !is_software,
            Tune::Always => true,
            Tune::Never => false,
        }
    }
}

/// Bytes: a number alone, or with KB, MB, GB (powers of ten) or KiB, MiB, GiB (of two).
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, f64); 7] = [
        ("KiB", 1024.0),
        ("MiB", 1_048_576.0),
        ("GiB", 1_073_741_824.0),
        ("KB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("B", 1.0),
    ];
    let unit = UNITS.iter().find(|(unit, _)| text.to_lowercase().ends_with(&unit.to_lowercase()));
    let (number, scale) = match unit {
        Some((unit, scale)) => (&text[..text.len() - unit.len()], *scale),
        None => (text, 1.0),
    };
    match number.trim().parse::<f64>() {
        Ok(number) if number > 0.0 && number * scale < 1e18 => Ok((number * scale) as u64),
        _ => Err("give bytes as a number, or as 2GB, 1500MB, 2GiB".to_string()),
    }
}

/// What to do with prompts of more than 75 tokens.
#[derive(Clone, Copy, ValueEnum)]
enum LongPrompts {
    /// Cut them and say what was cut, as diffusers does.
    Truncate,
    /// Encode them in chunks of 75 tokens.
    Chunks,
}

/// `darkroom generate`.
#[derive(clap::Args)]
pub struct Args {
    /// A version (see `darkroom models`), a repository on the Hub (owner/repo[@revision]), or a folder.
    #[arg(long)]
    model: String,
    /// The weight files to take where there are several: fp16, or none for the plain ones [default: the plain ones of a
    /// folder or cache, as in diffusers; fp16 for downloads].
    #[arg(long, value_name = "fp16|none")]
    variant: Option<Variant>,
    /// What to draw. Plain text: nothing in it is syntax.
    #[arg(long, allow_hyphen_values = true)]
    prompt: String,
    /// What to steer away from.
    #[arg(long, allow_hyphen_values = true)]
    negative: Option<String>,
    /// Denoising steps, 1 to 150 [default: the version's].
    #[arg(long, allow_negative_numbers = true, value_parser = whole)]
    steps: Option<usize>,
    /// Guidance scale, 0 to 20; at 1 and below there is no guidance [default: the version's].
    #[arg(long, allow_negative_numbers = true, value_parser = number)]
    guidance: Option<f64>,
    /// The sampler [default: the model's own].
    #[arg(long, help = format!("The sampler [default: the model's own]: {}", Sampler::known()))]
    sampler: Option<String>,
    /// How much noise the samplers ddim and tcd add in each step, 0 to 1 [default: 0].
    #[arg(long, allow_negative_numbers = true, value_parser = number)]
    eta: Option<f64>,
    /// The training steps to visit, in place of a number of steps: 999,850,736 and so on down.
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true, value_name = "T,T,…")]
    timesteps: Option<Vec<usize>>,
    /// The noise levels to visit (for the sampler euler), from large to small, usually with 0 as the last one.
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true, value_name = "S,S,…")]
    sigmas: Option<Vec<f64>>,
    /// Seed of the first picture; the next ones count on [default: random, printed].
    #[arg(long, allow_negative_numbers = true, value_parser = seed)]
    seed: Option<u64>,
    /// Width in pixels [default: the start picture's, rounded down to what the model can draw; without one the model's].
    #[arg(long, allow_negative_numbers = true, value_parser = whole)]
    width: Option<usize>,
    /// Height in pixels [default: likewise].
    #[arg(long, allow_negative_numbers = true, value_parser = whole)]
    height: Option<usize>,
    /// Allow sides that are any multiple of 8, as diffusers does, and not only of 64 (XL: 32), which models are at their
    /// best at.
    #[arg(long)]
    any_size: bool,
    /// A picture to start from (PNG, JPEG, WebP, GIF, BMP or TIFF).
    #[arg(long)]
    init: Option<PathBuf>,
    /// How a start picture of another shape is brought to the size: stretch it, crop around its middle, or pad it with
    /// its edges [default: stretch, as diffusers does].
    #[arg(long, value_parser = clap::value_parser!(Fit))]
    fit: Option<Fit>,
    /// How far to go from it, 0 to 1 [default: 0.8; with a mask 1, for XL 0.9999].
    #[arg(long, allow_negative_numbers = true, value_parser = number)]
    strength: Option<f64>,
    /// A picture that is white where `--init` is to be drawn anew; one of a single colour is transparent there instead.
    #[arg(long)]
    mask: Option<PathBuf>,
    /// How many pictures.
    #[arg(long, allow_negative_numbers = true, value_parser = whole, default_value_t = 1)]
    count: usize,
    /// Leave out this many of the text encoder's last layers.
    #[arg(long, allow_negative_numbers = true, value_parser = whole)]
    clip_skip: Option<usize>,
    /// What to do with prompts of more than 75 tokens.
    #[arg(long, value_enum, default_value_t = LongPrompts::Truncate)]
    long_prompt: LongPrompts,
    /// Where the models run.
    #[arg(long, value_enum, default_value_t = DeviceName::Cpu)]
    device: DeviceName,
    /// The type that numbers are held in.
    #[arg(long, value_enum, default_value_t = Dtype::Auto)]
    dtype: Dtype,
    /// Multiply with the GPU's cooperative matrices (NVIDIA's tensor cores through Vulkan, Metal's SIMD-group matrices):
    /// several times as fast in 16 bits, and experimental. Without any they are left out, and that is said.
    #[arg(long)]
    matrices: bool,
    /// How attention's scores are held.
    #[arg(long, value_enum, default_value_t = Attention::Flash)]
    attention: Attention,
    /// GPU memory that may be used: bytes, or 2GB, 1500MB. Where it is too little to keep the whole model loaded, its
    /// components are loaded one after another.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, allow_negative_numbers = true)]
    budget: Option<u64>,
    /// Print the time of every kernel and shape, from the GPU's clock.
    #[arg(long)]
    profile: bool,
    /// Measure which tile serves which matrix product best, once for this GPU, and remember it in the user's cache folder.
    /// Software adapters are left out unless this is `always`.
    #[arg(long, value_enum, default_value_t = Tune::Auto)]
    tune: Tune,
    /// Threads on the CPU [default: all].
    #[arg(long, allow_negative_numbers = true, value_parser = whole)]
    threads: Option<usize>,
    /// The PNG to write; with `--count` above 1, NAME-1.png, NAME-2.png and so on.
    #[arg(short, long, value_name = "OUT.png")]
    output: PathBuf,
    /// Print one JSON object about the run.
    #[arg(long)]
    json: bool,
}

/// Seconds by stage.
#[derive(Default)]
struct Seconds {
    load: f64,
    encode: f64,
    denoise: f64,
    decode: f64,
}

/// Draws.
///
/// # Errors
/// Whatever is wrong with the request, the model, the device or the files, in one line.
pub fn run(args: Args) -> Result<()> {
    check_output(&args.output, args.count)?;
    if let Some(threads) = args.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        if !(1..=MAX_THREADS).contains(&threads) {
            return refuse(
                "threads",
                &threads.to_string(),
                &format!("use 1 to {MAX_THREADS}, or leave it out for all"),
            );
        }
        pool.build_global().map_err(|e| Error::Device { device: "cpu".into(), reason: e.to_string() })?;
    }
    let precision = args.dtype.precision();
    if !matches!(args.device, DeviceName::Gpu) && (args.profile || args.matrices || args.budget.is_some()) {
        let asked = [(args.profile, "--profile"), (args.matrices, "--matrices")];
        let got = asked.iter().find(|(is_set, _)| *is_set).map_or("--budget", |(_, name)| name);
        return refuse("setting", got, "it is for --device gpu");
    }
    let runner = match args.device {
        DeviceName::Cpu => CandleRunner::cpu(precision),
        DeviceName::Cuda => CandleRunner::cuda(0, precision)?,
        DeviceName::Gpu => return draw_on_gpu(&args),
    };
    pollster::block_on(draw(&args, &Rc::new(runner), None))
}

fn draw_on_gpu(args: &Args) -> Result<()> {
    if !matches!(args.attention, Attention::Flash) {
        return refuse("attention", "other than flash on the GPU", "leave out --attention, or use --device cpu");
    }
    let gpu = pollster::block_on(open_gpu(args.matrices))?;
    let element = args.dtype.element(&gpu.caps);
    let (caps, cached) = (gpu.caps.clone(), TilesCache::of(&gpu.caps));
    let tiles = cached.as_ref().and_then(TilesCache::read).unwrap_or_default();
    let runner = Rc::new(GpuRunner::new(gpu, element)?.with_tiles(tiles.clone()));
    runner.measure_tiles(args.tune.measures(caps.software));
    if args.profile {
        runner.start_profile()?;
    }
    let budget = args.budget.map(|budget| {
        let mut settings = PlanSettings::new(caps, element);
        settings.budget = Some(budget);
        settings.request = args.request();
        settings.from_picture = args.init.is_some();
        settings
    });
    let drawn = pollster::block_on(draw(args, &runner, budget));
    if let Some(cached) = cached
        && runner.tiles() != tiles
    {
        cached.write(&runner.tiles());
    }
    drawn?;
    match pollster::block_on(runner.finish_profile())? {
        // Standard output is for the picture's name, or JSON.
        Some(profile) => {
            eprintln!("{profile}");
            Ok(())
        }
        None => Ok(()),
    }
}

/// The file that keeps an adapter's tiles.
pub struct TilesCache(PathBuf);

impl TilesCache {
    /// In the user's cache folder, if there is one.
    pub fn of(caps: &Caps) -> Option<Self> {
        let from_env = |name| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        let folder = from_env("XDG_CACHE_HOME")
            .or_else(|| from_env("LOCALAPPDATA"))
            .or_else(|| Some(from_env("HOME")?.join(".cache")))?;
        // With matrices other tiles are the best.
        let name = format!("{}{}", caps.name, if caps.matrices.is_some() { " with matrices" } else { "" });
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        Some(TilesCache(folder.join("darkroom").join("tiles").join(format!("{name}.json"))))
    }

    /// What is kept. A file that cannot be read is as good as none: it is measured again.
    pub fn read(&self) -> Option<Tiles> {
        serde_json::from_slice(&std::fs::read(&self.0).ok()?).ok()
    }

    /// Keeps it for the next time; where that fails, says so, since the next run will measure again.
    pub fn write(&self, tiles: &Tiles) {
        let written = serde_json::to_vec(tiles).map_err(std::io::Error::from).and_then(|bytes| {
            std::fs::create_dir_all(self.0.parent().unwrap_or(Path::new(".")))?;
            std::fs::write(&self.0, bytes)
        });
        if let Err(error) = written {
            eprintln!("darkroom: the measured tiles could not be kept: {}: {error}", self.0.display());
        }
    }
}

async fn draw<R: Runner>(args: &Args, runner: &Rc<R>, budget: Option<PlanSettings>) -> Result<()> {
    let named = source::parse(&args.model)?;
    let version = match named {
        source::Model::Version(version) => Some(version),
        _ => None,
    };
    let request = args.request();
    check_request(args, &request, version)?;
    let init = args.init.as_deref().map(|path| read_picture(path, decode)).transpose()?;
    let mask = args.mask.as_deref().map(|path| read_picture(path, decode_mask)).transpose()?;
    let (mask, about_mask) = mask.map_or((None, None), |(mask, note)| (Some(mask), note));

    let (cancelled, drawing) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (flag, is_drawing) = (Arc::clone(&cancelled), Arc::clone(&drawing));
    // While it draws, Ctrl-C stops between two operations, and no file is half written. A download or the reading of
    // weights leaves nothing that the next run could not go on from, so there it ends the process at once.
    ctrlc::set_handler(move || {
        flag.store(true, Ordering::Relaxed);
        if !is_drawing.load(Ordering::Relaxed) {
            eprintln!("darkroom: {}", Error::Cancelled);
            std::process::exit(exit_code(&Error::Cancelled).into());
        }
    })
    .map_err(|e| Error::Device { device: "terminal".into(), reason: e.to_string() })?;
    let go_on = || !cancelled.load(Ordering::Relaxed);

    let bar = Bar::new();
    let mut seconds = Seconds::default();
    let clock = Instant::now();
    let folder = named.fetch(&bar, args.variant.as_ref())?;
    let mut report = |p: darkroom::pipeline::LoadProgress| {
        bar.show(&format!("load {}", p.component), p.loaded_bytes as f64 / p.total_bytes.max(1) as f64);
    };
    let residency = match budget {
        Some(mut settings) => {
            settings.version = version;
            settings.picture = init.as_ref().map(|init| (init.width, init.height));
            choose_residency(&folder, &settings).await.map_err(Error::of_model)?
        }
        None => Residency::Resident,
    };
    let loader = ModelLoader::new(&folder, &**runner).with_residency(residency);
    let model = Rc::new(loader.open().await.map_err(Error::of_model)?);
    for note in model.notes() {
        bar.say(&note);
    }
    let defaults = model.configs.defaults(version);
    let picture = init.as_ref().map(|init| (init.width, init.height));
    let config = SDConfig {
        flash_attention: matches!(args.attention, Attention::Flash),
        sliced_attention: matches!(args.attention, Attention::Sliced).then_some(1),
        f16: args.dtype == Dtype::F16,
        ..request.resolve(&defaults, picture, mask.is_some(), random_seed())?
    };
    let size_note = request.size_note(&defaults, picture).filter(|_| !args.json);
    let inputs = Inputs { config: config.clone(), init, mask, long_prompt: request.long_prompt.unwrap_or_default() };
    // Before the weights: kernels are compiled while they load, and a request that the model cannot draw waits for none.
    let mut generation = Generation::new(runner, &model, inputs)?;
    model.load(&**runner, &mut report).await.map_err(Error::of_model)?;
    seconds.load = clock.elapsed().as_secs_f64();
    drawing.store(true, Ordering::Relaxed);
    if let Some(line) = size_note {
        bar.say(&line);
    }
    if args.seed.is_none() && !args.json {
        bar.say(&format!("seed {}", config.seed));
    }
    for note in about_mask.into_iter().chain(about_prompt(args)).filter(|_| !args.json) {
        bar.say(&format!("note: {note}"));
    }
    let mut files = Vec::new();
    let mut step = 0;
    loop {
        let stage = generation.stage();
        let label = match stage {
            Stage::Encode => "encode".to_string(),
            Stage::Prepare | Stage::Denoise => format!("step {}/{}", step + 1, generation.n_steps()),
            Stage::Decode => "decode".to_string(),
            Stage::Done => break,
        };
        let label = if config.count > 1 { format!("{}/{} {label}", files.len() + 1, config.count) } else { label };
        let clock = Instant::now();
        let event = generation
            .step(&mut |fraction| {
                bar.show(&label, fraction);
                go_on()
            })
            .await
            // Of files a step reads the model's alone.
            .map_err(Error::of_model)?;
        let elapsed = clock.elapsed().as_secs_f64();
        match stage {
            Stage::Encode => seconds.encode += elapsed,
            Stage::Prepare | Stage::Denoise => seconds.denoise += elapsed,
            Stage::Decode | Stage::Done => seconds.decode += elapsed,
        }
        if !go_on() {
            return Err(Error::Cancelled);
        }
        match event {
            Some(Event::Encoded { prompt, negative }) => {
                for (name, report) in [("prompt", prompt), ("negative prompt", negative)] {
                    if let Some(cut) = report.truncated {
                        bar.say(&format!("the {name} has {} tokens of at most 75; cut: {cut}", report.n_tokens));
                    }
                }
            }
            Some(Event::Prepared { .. }) => step = 0,
            Some(Event::Denoised { step: done, .. }) => step = done,
            Some(Event::Decoded { picture, seed, image, .. }) => {
                let path = output_path(&args.output, picture, config.count);
                write_picture(&path, &image, &parameters(args, &config, seed, &model, generation.task()))?;
                files.push(path);
            }
            None => break,
        }
    }
    drop(bar);
    if args.json {
        let files: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
        let object = json!({
            "seed": config.seed, "files": files, "model": model.name, "device": runner.describe(),
            "width": config.width, "height": config.height, "steps": config.steps,
            "guidance_scale": config.guidance_scale, "sampler": sampler_name(&config, &model),
            "seconds": { "load": seconds.load, "encode": seconds.encode, "denoise": seconds.denoise,
                "decode": seconds.decode },
            "peak_memory_bytes": peak_memory_bytes(),
        });
        return print_json(&object);
    }
    files.iter().try_for_each(|path| print_line(path.display()))
}

fn refuse<T>(field: &'static str, got: &str, expected: &str) -> Result<T> {
    Err(Error::Request { field, got: got.into(), expected: expected.into() })
}

impl Args {
    /// What is asked for, as the library reads it.
    fn request(&self) -> Request {
        Request {
            prompt: self.prompt.clone(),
            negative_prompt: self.negative.clone(),
            width: self.width,
            height: self.height,
            any_size: self.any_size,
            fit: self.fit,
            steps: self.steps,
            guidance_scale: self.guidance,
            strength: self.strength,
            sampler: self.sampler.clone(),
            eta: self.eta,
            timesteps: self.timesteps.clone(),
            sigmas: self.sigmas.clone(),
            seed: self.seed,
            count: Some(self.count),
            clip_skip: self.clip_skip,
            long_prompt: Some(match self.long_prompt {
                LongPrompts::Truncate => LongPrompt::Truncate,
                LongPrompts::Chunks => LongPrompt::Chunks,
            }),
        }
    }
}

/// Refuses, before a model is downloaded or loaded, what cannot be drawn whatever its files say. They have the last
/// word in [`Generation::new`].
fn check_request(args: &Args, request: &Request, version: Option<SDVersion>) -> Result<()> {
    let (has_picture, has_mask) = (args.init.is_some(), args.mask.is_some());
    request.check_given(has_picture, has_mask)?;
    let Some(version) = version else {
        // Sizes and layers are the repository's or the folder's own; everything else is the same for all models.
        let request = Request { width: None, height: None, clip_skip: None, ..request.clone() };
        let picture = has_picture.then_some(SDVersion::V1_5.default_size());
        return request.resolve(&Defaults::of(SDVersion::V1_5), picture, has_mask, 0)?.validate();
    };
    if version.is_inpaint() && !has_mask {
        let expected = "this model only repaints parts of a picture: give a picture and a mask (--init, --mask)";
        return refuse("model", version.key(), expected);
    }
    let picture = has_picture.then_some(version.default_size());
    request.resolve(&Defaults::of(version), picture, has_mask, 0)?.validate()
}

/// A seed that differs from run to run: the standard library's hasher keys come from the system's random source.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id()) & u64::from(u32::MAX)
}

fn sampler_name<R: Runner>(config: &SDConfig, model: &ModelComponents<R>) -> String {
    let sampler = model.configs.scheduler.with_optional_sampler(config.sampler).sampler();
    sampler.map_or_else(|_| "unknown".into(), |sampler| sampler.name())
}

/// What the picture says of itself. Of a folder it tells the name and not the path, which is nobody else's business.
fn parameters<R: Runner>(
    args: &Args,
    config: &SDConfig,
    seed: u64,
    model: &ModelComponents<R>,
    task: Task,
) -> Parameters {
    let long_prompt = args.request().long_prompt.unwrap_or_default();
    let parameters =
        parameters_of(config, task, long_prompt, sampler_name(config, model), source::public_name(&args.model));
    Parameters { seed, ..parameters }
}

fn read_picture<T>(path: &Path, decode: fn(&[u8]) -> Result<T>) -> Result<T> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    decode(&bytes).map_err(|error| error.about(path.display().to_string()))
}

/// Whether a text is the name of an option of this command.
fn is_option(text: &str) -> bool {
    let is_named = text.strip_prefix("--").is_some_and(|name| {
        let command = <Args as clap::Args>::augment_args(clap::Command::new("generate"));
        command.get_arguments().any(|arg| arg.get_long() == Some(name))
    });
    is_named || text == "-o"
}

/// Which of the texts was forgotten, as an option follows its name at once. The parser of arguments would only find the
/// value of that option out of place.
pub fn forgotten_text(args: &[String]) -> Option<String> {
    let names = ["--prompt", "--negative"];
    let forgotten = |pair: &[String]| names.contains(&pair[0].as_str()) && is_option(&pair[1]);
    let name = args.windows(2).find(|pair| forgotten(pair)).map(|pair| &pair[0])?;
    Some(format!("{name} has no text: there is no text before the next option"))
}

/// What somebody who begins a prompt with `-` may not expect.
fn about_prompt(args: &Args) -> Option<&'static str> {
    let begins_with_minus = args.prompt.trim_start().starts_with('-');
    begins_with_minus.then_some("the prompt begins with -, which is drawn as text: --negative says what to avoid")
}

/// Refuses an output that could not be written, before anything is computed.
fn check_output(path: &Path, count: usize) -> Result<()> {
    let is_png = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
    if !is_png {
        return refuse("output", &path.display().to_string(), "the picture is a PNG: give a name that ends in .png");
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return refuse("output", &path.display().to_string(), "its folder must exist");
    }
    for path in (0..count.min(MAX_COUNT)).map(|picture| output_path(path, picture, count)) {
        let Ok(there) = std::fs::metadata(&path) else { continue };
        if there.is_dir() {
            return refuse("output", &path.display().to_string(), "a folder has that name: give another one");
        }
        if there.permissions().readonly() {
            return refuse("output", &path.display().to_string(), "the file is write-protected: give another name");
        }
    }
    (0..count.min(MAX_COUNT)).try_for_each(|picture| output_file::check(&output_path(path, picture, count)))
}

fn output_path(path: &Path, picture: usize, count: usize) -> PathBuf {
    if count == 1 {
        return path.to_path_buf();
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{stem}-{}.png", picture + 1))
}

/// Writes a picture with its parameters, whole or not at all.
fn write_picture(path: &Path, image: &RgbImage, parameters: &Parameters) -> Result<()> {
    output_file::write(path, &encode_png(image, &parameters.to_png_text()?)?)
}

/// The most memory the process has held, where the system tells (Linux).
fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}
