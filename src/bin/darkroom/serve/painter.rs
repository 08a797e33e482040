//! The thread that draws: it takes one request after the other from the desk and keeps one model loaded.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use darkroom::image::encode_png;
use darkroom::parameters::Parameters;
use darkroom::pipeline::{Event, Generation, Inputs, LongPrompt, ModelComponents, ModelLoader, Stage, Task};
use darkroom::run::Runner;
use darkroom::run::candle::{CandleRunner, Precision};
use darkroom::run::gpu::Gpu;
use darkroom::run::gpu::kernels::Element;
use darkroom::run::gpu::runner::GpuRunner;
use darkroom::{Error, Result};

use super::DeviceName;
use crate::exit_code;

use super::jobs::{Desk, Job, Progress, Status};

/// Progress is told at most this often.
const PROGRESS: Duration = Duration::from_millis(50);

/// Opens the device on a thread of its own and starts drawing there.
///
/// # Errors
/// When the device does not open or the thread does not start.
pub fn start(desk: Arc<Desk>, device: DeviceName) -> Result<()> {
    let (opened, is_open) = mpsc::channel();
    let paint = move || {
        // The runner is made here, because it cannot move between threads; and made anew when its device is lost.
        let was_open = Cell::new(false);
        let is_open = || {
            if !was_open.replace(true) {
                // Nobody has stopped waiting before this.
                opened.send(Ok(())).ok();
            }
        };
        let work = async || match device {
            DeviceName::Cpu => paint_all(&desk, CandleRunner::cpu(Precision::F32), &is_open).await,
            DeviceName::Cuda => paint_all(&desk, CandleRunner::cuda(0, Precision::F32)?, &is_open).await,
            DeviceName::Gpu => {
                let runner = GpuRunner::new(Gpu::open().await?, Element::F32)?;
                paint_all(&desk, runner, &is_open).await
            }
        };
        let error = loop {
            match pollster::block_on(work()) {
                Ok(()) => {}
                Err(error) => break error,
            }
        };
        if was_open.get() {
            // A device that does not come back ends all drawing, and whoever watches over the server should know.
            eprintln!("darkroom: {error}");
            std::process::exit(exit_code(&error).into());
        }
        // Whoever started this waits for it.
        opened.send(Err(error)).ok();
    };
    let thread = std::thread::Builder::new().name("painter".into()).spawn(paint);
    thread.map_err(|source| Error::Io { path: "the drawing thread".into(), source })?;
    let ended = Err(Error::Device { device: "the drawing thread".into(), reason: "ended before it began".into() });
    is_open.recv().unwrap_or(ended)
}

/// Draws until the device is lost.
async fn paint_all<R: Runner>(desk: &Desk, runner: R, is_open: &dyn Fn()) -> Result<()> {
    is_open();
    let runner = Rc::new(runner);
    let mut loaded = None;
    loop {
        let (id, cancelled) = desk.next();
        let painted = paint(desk, &runner, &mut loaded, &id, &cancelled).await;
        let is_lost = matches!(painted, Err(Error::DeviceLost { .. }));
        desk.change(&id, |job| match painted {
            Ok(()) => job.status = Status::Done,
            Err(Error::Cancelled) => job.status = Status::Cancelled,
            Err(error) => {
                // A device that failed may have lost the model's weights.
                if matches!(error, Error::Device { .. } | Error::Run { .. } | Error::OutOfMemory { .. }) {
                    loaded = None;
                }
                job.status = Status::Failed;
                job.failure = Some(error.into());
            }
        });
        if is_lost {
            return Ok(());
        }
    }
}

/// The model on the device, by its place on the menu.
type Loaded<R> = Option<(usize, Rc<ModelComponents<R>>)>;

async fn paint<R: Runner>(
    desk: &Desk,
    runner: &Rc<R>,
    loaded: &mut Loaded<R>,
    id: &str,
    cancelled: &AtomicBool,
) -> Result<()> {
    let wanted = desk.look(id, |job, _| (job.order.model_idx, job.order.sampler.name(), inputs_of(job)));
    // Only requests that are over are forgotten, and this one is about to begin.
    let Some((model_idx, sampler, inputs)) = wanted else { return Err(Error::Cancelled) };
    let tell = |progress: Progress| desk.change(id, |job| job.progress = progress);
    let model = match loaded {
        Some((idx, model)) if *idx == model_idx => Rc::clone(model),
        _ => {
            // What is there goes first: two models at once may be more than the memory holds.
            *loaded = None;
            tell(Progress { stage: "loading", ..Progress::default() });
            let source = &desk.menu.models[model_idx].folder;
            let model = Rc::new(ModelLoader::new(source, &**runner).load(&mut |_| {}).await?);
            for note in model.notes() {
                eprintln!("darkroom: {note}");
            }
            *loaded = Some((model_idx, Rc::clone(&model)));
            model
        }
    };
    let config = inputs.config.clone();
    let long_prompt_chunks = inputs.long_prompt == LongPrompt::Chunks;
    let mut generation = Generation::new(runner, &model, inputs)?;
    let parameters = Parameters {
        prompt: config.prompt.clone(),
        negative_prompt: config.negative_prompt.clone(),
        steps: config.steps as u32,
        sampler: sampler.to_string(),
        guidance_scale: config.guidance_scale,
        seed: config.seed,
        width: config.width as u32,
        height: config.height as u32,
        model: desk.menu.models[model_idx].name.clone(),
        strength: (generation.task() != Task::TextToImage).then_some(config.strength),
        clip_skip: config.clip_skip.map(|skip| skip as u32),
        long_prompt_chunks,
        version: format!("darkroom {}", env!("CARGO_PKG_VERSION")),
    };
    let mut now = Progress { n_steps: generation.n_steps(), ..Progress::default() };
    loop {
        now.stage = match generation.stage() {
            Stage::Encode => "encoding",
            Stage::Prepare | Stage::Denoise => "denoising",
            Stage::Decode => "decoding",
            Stage::Done => return Ok(()),
        };
        tell(now.clone());
        let mut told = Instant::now();
        let mut on_progress = |fraction| {
            now.fraction = fraction;
            if told.elapsed() >= PROGRESS {
                told = Instant::now();
                tell(now.clone());
            }
            !cancelled.load(Ordering::Relaxed)
        };
        let event = generation.step(&mut on_progress).await?;
        // Not every stage asks whether to go on.
        if cancelled.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        match event {
            Some(Event::Encoded { prompt, .. }) => desk.change(id, |job| job.truncated = prompt.truncated),
            Some(Event::Prepared { picture }) => (now.picture, now.step) = (picture, 1),
            Some(Event::Denoised { step, n_steps, .. }) => {
                now.step = (step + 1).min(n_steps);
                if let Some(preview) = generation.preview().await? {
                    let png = encode_png(&preview, &[])?.into();
                    desk.change(id, |job| (job.preview, job.n_previews) = (Some(png), job.n_previews + 1));
                }
            }
            Some(Event::Decoded { seed, image, .. }) => {
                let text = Parameters { seed, ..parameters.clone() }.to_png_text()?;
                let png = encode_png(&image, &text)?.into();
                desk.change(id, |job| job.images.push((seed, png)));
            }
            None => return Ok(()),
        }
    }
}

/// What the pipeline takes. The pictures are copied, because the desk keeps the request for whoever asks about it.
fn inputs_of(job: &Job) -> Inputs {
    job.order.inputs.clone()
}
