//! `darkroom generate`: one request, drawn into PNG files.

mod args;
mod check;
mod interrupt;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

use darkroom::engine::{Device, Engine, EngineSettings, Expected, Generation, Pictures};
use darkroom::image::{Border, Fit, RgbImage, decode, decode_mask, encode_png};
use darkroom::pipeline::{Event, LoadProgress, Stage};
use darkroom::request::{MAX_SIDE, Preset, Request};
use darkroom::{Error, Result};
use serde_json::json;

pub use args::Args;
pub use check::forgotten_text;
pub use interrupt::Interrupt;

use crate::bar::Bar;
use crate::engine_args::open_device;
use crate::numbers::random_seed;
use crate::{loras, output_file, print_json, print_line, source, wildcards};
use check::{about_prompt, check_device, check_output, check_request, output_path, start_threads};

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
    start_threads(args.threads)?;
    let settings = EngineSettings { profile: args.profile, ..args.engine.settings() };
    check_device(&settings, args.attention)?;
    pollster::block_on(async {
        let device = open_device(&settings).await?;
        let drawn = draw(&args, &device, &settings).await;
        // What was measured is worth keeping in any case.
        device.keep_tiles();
        drawn?;
        if let Some(profile) = device.finish_profile().await? {
            // Standard output is for the picture's name, or JSON.
            eprintln!("{profile}");
        }
        Ok(())
    })
}

async fn draw(args: &Args, device: &Device, settings: &EngineSettings) -> Result<()> {
    let named = args.model.named()?;
    let version = named.version();
    let asked = args.request().with_variation_seed(random_seed);
    check_request(args, &Request { prompt: String::new(), ..asked.clone() }, version)?;
    let wildcards = args.wildcards.as_deref().map(wildcards::read).transpose()?;
    let seed = asked.seed.unwrap_or_else(random_seed);
    let expanded = asked.expanded(wildcards.as_ref(), seed)?;
    let requests = expanded.requests;
    requests.iter().try_for_each(|request| check_request(args, request, version))?;
    let request = requests[0].clone();
    // Every picture may have LoRAs of its own.
    let prompts: Vec<&str> = requests.iter().map(|request| request.prompt.as_str()).collect();
    let all = Request { prompt: prompts.join("\n"), ..request.clone() };
    let wanted_loras = loras::Wanted::of(&args.lora, args.lora_dir.as_deref(), &all)?;
    let (pictures, about_mask) = read_pictures(args)?;
    let picture = pictures.start_picture.as_ref().map(|picture| (picture.width, picture.height));
    let interrupt = Interrupt::install()?;

    let bar = Bar::new();
    let mut embeddings = args.engine.embeddings(&bar).await?;
    let mut seconds = Seconds::default();
    let clock = Instant::now();
    let mut loras = Vec::new();
    for lora in wanted_loras.fetch(&bar)? {
        let lora = lora.open(None).await?;
        loras::add_embeddings(&mut embeddings, lora.embeddings().await?);
        loras.push(lora);
    }
    let settings = &EngineSettings { embeddings, ..settings.clone() };
    let model = args.model.fetch(&named, &bar)?.open().await.map_err(Error::of_model)?;
    let expected = Expected { request: request.clone(), version, from_picture: picture.is_some(), picture };
    let engine = Engine::open(device, model, settings, &expected).await?;
    // A folder's name is told, and not its path, which is nobody else's business.
    let name = source::public_name(&args.model.model);
    let engine = engine.with_public_name(name.clone()).with_prediction(args.model.prediction);
    for note in engine.notes() {
        bar.say(&note);
    }
    // Nothing else says how many steps to take.
    let is_silent =
        asked.preset.is_none() && asked.steps.is_none() && asked.timesteps.is_none() && asked.sigmas.is_none();
    let by_name = Preset::suggest(&name, []).filter(|preset| preset.steps() < engine.defaults().steps);
    let mut about_presets: Vec<String> =
        by_name.map(|preset| about_preset(&name, "model", preset)).into_iter().collect();
    for lora in loras {
        about_presets.extend(lora.preset().map(|preset| about_preset(lora.name(), "LoRA", preset)));
        let lora = lora.fit(engine.configs())?;
        lora.notes.iter().for_each(|note| bar.say(&format!("note: {note}")));
        engine.add_lora(lora);
    }
    // Before the weights: kernels are compiled while they load, and a request that the model cannot draw waits for none.
    let mut generation = engine.draw(&request, pictures.clone(), seed)?;
    let mut report = |p: LoadProgress| {
        bar.show(&format!("load {}", p.component), p.loaded_bytes as f64 / p.total_bytes.max(1) as f64);
        true
    };
    engine.load(&mut report).await?;
    seconds.load = clock.elapsed().as_secs_f64();
    interrupt.drawing();
    if !args.json {
        if let Some(line) = request.size_note(&engine.defaults(), picture) {
            bar.say(&line);
        }
        if args.seed.is_none() {
            bar.say(&format!("seed {}", generation.config().seed));
        }
        if let Some(variation) = generation.config().variation.filter(|_| args.variation_seed.is_none()) {
            bar.say(&format!("variation seed {}", variation.seed));
        }
        for note in about_mask.into_iter().chain(about_prompt(args)) {
            bar.say(&format!("note: {note}"));
        }
        for note in expanded.notes.iter().chain(about_presets.iter().filter(|_| is_silent)) {
            bar.say(&format!("note: {note}"));
        }
    }
    let first_seed = (generation.config().seed, generation.config().variation.map(|variation| variation.seed));
    let mut files = Vec::new();
    let count = requests.len().max(generation.config().count);
    draw_all(&mut generation, &args.output, count, &mut files, (&bar, &interrupt, &mut seconds)).await?;
    for request in &requests[1..] {
        generation = engine.draw(request, pictures.clone(), seed)?;
        draw_all(&mut generation, &args.output, count, &mut files, (&bar, &interrupt, &mut seconds)).await?;
    }
    drop(bar);
    if args.json {
        return print_json(&summary(&engine, &generation, first_seed, &files, &seconds));
    }
    files.iter().try_for_each(|path| print_line(path.display()))
}

/// That a model or a LoRA looks made for a preset.
fn about_preset(name: &str, what: &str, preset: Preset) -> String {
    format!("{name} looks like a {what} for few steps ({}): --preset {}", preset.describe(), preset.name())
}

/// Draws and writes the pictures of one generation, `count` in all with those of others; adds their files.
async fn draw_all(
    generation: &mut Generation,
    output: &Path,
    count: usize,
    files: &mut Vec<PathBuf>,
    (bar, interrupt, seconds): (&Bar, &Interrupt, &mut Seconds),
) -> Result<()> {
    let n_before = files.len();
    let mut n_done = 0;
    loop {
        let stage = generation.stage();
        let label = match stage {
            Stage::Encode => "encode".to_string(),
            Stage::Prepare | Stage::Denoise => format!("step {}/{}", n_done + 1, generation.n_steps()),
            Stage::Decode => "decode".to_string(),
            Stage::Done => return Ok(()),
        };
        let label = if count > 1 { format!("{}/{count} {label}", files.len() + 1) } else { label };
        let clock = Instant::now();
        let event = generation
            .step(&mut |fraction| {
                bar.show(&label, fraction);
                interrupt.go_on()
            })
            .await?;
        let elapsed = clock.elapsed().as_secs_f64();
        match stage {
            Stage::Encode => seconds.encode += elapsed,
            Stage::Prepare | Stage::Denoise => seconds.denoise += elapsed,
            Stage::Decode | Stage::Done => seconds.decode += elapsed,
        }
        if !interrupt.go_on() {
            return Err(Error::Cancelled);
        }
        match event {
            Some(Event::Encoded { prompt, negative }) => {
                for note in prompt.notes.iter().chain(&negative.notes) {
                    bar.say(&format!("note: {note}"));
                }
                for (name, report) in [("prompt", prompt), ("negative prompt", negative)] {
                    if let Some(cut) = report.truncated {
                        bar.say(&format!("the {name} has {} tokens of at most 75; cut: {cut}", report.n_tokens));
                    }
                }
            }
            Some(Event::Prepared { .. }) => n_done = 0,
            Some(Event::Denoised { step, .. }) => n_done = step,
            Some(Event::Decoded { picture, image, .. }) => {
                let path = output_path(output, n_before + picture, count);
                output_file::write(&path, &encode_png(&image, &generation.parameters(picture).to_png_text()?)?)?;
                files.push(path);
            }
            None => return Ok(()),
        }
    }
}

/// The object that `--json` prints.
fn summary(
    engine: &Engine,
    generation: &Generation,
    (seed, variation_seed): (u64, Option<u64>),
    files: &[PathBuf],
    seconds: &Seconds,
) -> serde_json::Value {
    let config = generation.config();
    let files: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
    let mut object = json!({
        "seed": seed, "files": files, "model": engine.name(), "device": engine.device().describe(),
        "width": config.width, "height": config.height, "steps": config.steps,
        "guidance_scale": config.guidance_scale, "sampler": generation.parameters(0).sampler,
        "seconds": { "load": seconds.load, "encode": seconds.encode, "denoise": seconds.denoise,
            "decode": seconds.decode },
        "peak_memory_bytes": peak_memory_bytes(),
    });
    if let Some(seed) = variation_seed {
        object["variation_seed"] = json!(seed);
    }
    object
}

/// The start picture and the mask, with a note on how the mask was read where that may surprise.
fn read_pictures(args: &Args) -> Result<(Pictures, Option<&'static str>)> {
    let start_picture = args.init.as_deref().map(|path| read_picture("--init", path, decode)).transpose()?;
    let mask = args.mask.as_deref().map(|path| read_picture("--mask", path, decode_mask)).transpose()?;
    let (mask, note) = mask.map_or((None, None), |(mask, note)| (Some(mask), note));
    match (args.outpaint, start_picture) {
        (Some(border), Some(picture)) => Ok((extended(&picture, mask, border)?, note)),
        (_, start_picture) => Ok((Pictures { start_picture, mask }, note)),
    }
}

/// The start picture with a border, which is repainted, as is what the mask marks.
fn extended(picture: &RgbImage, mask: Option<RgbImage>, border: Border) -> Result<Pictures> {
    let (width, height) = border.around((picture.width, picture.height));
    if width.max(height) > MAX_SIDE {
        let got = format!("to {width}x{height}");
        return Err(Error::Request {
            field: "outpaint",
            got,
            expected: format!("use {MAX_SIDE} pixels a side at most"),
        });
    }
    let mask = match mask {
        Some(mask) => mask.fitted(picture.width, picture.height, Fit::Stretch),
        None => RgbImage { pixels: vec![0; picture.pixels.len()], ..*picture },
    };
    Ok(Pictures { start_picture: Some(picture.extended(border)), mask: Some(mask.extended_as_mask(border)) })
}

fn read_picture<T>(option: &str, path: &Path, decode: fn(&[u8]) -> Result<T>) -> Result<T> {
    let bytes = std::fs::read(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            let reason = format!("there is no such file: {option} takes the file of a picture");
            Error::Image { what: path.display().to_string(), reason }
        }
        ErrorKind::IsADirectory => {
            let reason = format!("this is a folder: {option} takes the file of a picture");
            Error::Image { what: path.display().to_string(), reason }
        }
        _ => Error::io(path, error),
    })?;
    decode(&bytes).map_err(|error| error.about(path.display().to_string()))
}

/// The most memory the process has held, where the system tells (Linux).
fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}
