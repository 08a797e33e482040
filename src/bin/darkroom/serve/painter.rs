//! The thread that draws: it takes one request after the other from the desk and keeps one model loaded.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use darkroom::image::{encode, encode_png};
use darkroom::parameters::Parameters;
use darkroom::pipeline::plan::{PlanSettings, choose_residency};
use darkroom::pipeline::{
    Event, Generation, Inputs, LongPrompt, ModelComponents, ModelLoader, Residency, Stage, Task, foresee,
};
use darkroom::request::{Request, SDConfig};
use darkroom::run::Runner;
use darkroom::run::candle::CandleRunner;
use darkroom::run::gpu::runner::GpuRunner;
use darkroom::{Error, Result};

use crate::device::{DeviceName, Dtype, open_gpu};
use crate::exit_code;
use crate::generate::{TilesCache, Tune};

use super::jobs::{Desk, Job, Png, Progress, Status};
use super::upload::{Role, Upload};

/// Progress is told at most this often.
const PROGRESS: Duration = Duration::from_millis(50);

/// Where the models run, and how.
#[derive(Clone, Copy)]
pub struct Device {
    pub name: DeviceName,
    pub dtype: Dtype,
    /// Whether the GPU's cooperative matrices are used.
    pub matrices: bool,
    /// Bytes of GPU memory that may be used.
    pub budget: Option<u64>,
    pub tune: Tune,
}

/// Opens the device on a thread of its own and starts drawing there.
///
/// # Errors
/// When the device does not open or the thread does not start.
pub fn start(desk: Arc<Desk>, device: Device) -> Result<()> {
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
        let precision = device.dtype.precision();
        let work = async || match device.name {
            DeviceName::Cpu => paint_all(&desk, &Rc::new(CandleRunner::cpu(precision)), None, &is_open, &|| ()).await,
            DeviceName::Cuda => {
                paint_all(&desk, &Rc::new(CandleRunner::cuda(0, precision)?), None, &is_open, &|| ()).await
            }
            DeviceName::Gpu => paint_on_gpu(&desk, device, &is_open).await,
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

async fn paint_on_gpu(desk: &Desk, device: Device, is_open: &dyn Fn()) -> Result<()> {
    let gpu = open_gpu(device.matrices).await?;
    let element = device.dtype.element(&gpu.caps);
    let plan = device.budget.map(|budget| {
        let mut plan = PlanSettings::new(gpu.caps.clone(), element);
        plan.budget = Some(budget);
        plan
    });
    let (cached, is_software) = (TilesCache::of(&gpu.caps), gpu.caps.software);
    let known = RefCell::new(cached.as_ref().and_then(TilesCache::read).unwrap_or_default());
    let runner = Rc::new(GpuRunner::new(gpu, element)?.with_tiles(known.borrow().clone()));
    runner.measure_tiles(device.tune.measures(is_software));
    let keep_tiles = || {
        let tiles = runner.tiles();
        if let (Some(cached), true) = (&cached, tiles != *known.borrow()) {
            cached.write(&tiles);
            known.replace(tiles);
        }
    };
    paint_all(desk, &runner, plan.as_ref(), is_open, &keep_tiles).await
}

/// Draws until the device is lost; calls `rest` after each job.
async fn paint_all<R: Runner>(
    desk: &Desk,
    runner: &Rc<R>,
    plan: Option<&PlanSettings>,
    is_open: &dyn Fn(),
    rest: &dyn Fn(),
) -> Result<()> {
    is_open();
    let mut loaded = None;
    loop {
        let (id, cancelled) = desk.next();
        let painted = paint(desk, runner, plan, &mut loaded, &id, &cancelled).await;
        rest();
        let is_lost = matches!(painted, Err(Error::DeviceLost { .. }));
        desk.change(&id, |job| match painted {
            Ok(()) => job.status = Status::Done,
            Err(Error::Cancelled) => job.status = Status::Cancelled,
            Err(error) => {
                // A device that failed may have lost the model's weights.
                if matches!(error, Error::Device { .. } | Error::Run { .. } | Error::OutOfMemory { .. }) {
                    loaded = None;
                    desk.set_loaded(None);
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

/// The model on the device, by its place on the menu, and how long its weights stay.
type Loaded<R> = Option<(usize, Residency, Rc<ModelComponents<R>>)>;

/// The model that an order wants: what is loaded, or loaded now.
async fn load<R: Runner>(
    desk: &Desk,
    runner: &Rc<R>,
    plan: Option<&PlanSettings>,
    loaded: &mut Loaded<R>,
    id: &str,
) -> Result<(usize, Rc<ModelComponents<R>>)> {
    let asked = |job: &Job| {
        let (order, config) = (&job.order, &job.order.config);
        let request = Request {
            prompt: config.prompt.clone(),
            width: Some(config.width),
            height: Some(config.height),
            guidance_scale: Some(config.guidance_scale),
            ..Request::default()
        };
        (order.model_idx, request, order.image.is_some())
    };
    // Only requests that are over are forgotten, and this one is about to begin.
    let (model_idx, request, from_picture) = desk.look(id, |job, _| asked(job)).ok_or(Error::Cancelled)?;
    let source = &desk.menu.models[model_idx].folder;
    let residency = match plan {
        Some(plan) => choose_residency(source, &PlanSettings { request, from_picture, ..plan.clone() }).await?,
        None => Residency::Resident,
    };
    if let Some((idx, stays, model)) = loaded
        && (*idx, *stays) == (model_idx, residency)
    {
        return Ok((model_idx, Rc::clone(model)));
    }
    // What is there goes first: two models at once may be more than the memory holds.
    *loaded = None;
    desk.set_loaded(None);
    desk.change(id, |job| job.progress = Progress { stage: "loading", ..Progress::default() });
    let start = Instant::now();
    let loader = ModelLoader::new(source, &**runner).with_residency(residency);
    let model = Rc::new(loader.open().await?);
    if let Some(config) = desk.look(id, |job, _| job.order.config.clone()) {
        foresee(&**runner, &model.configs, &config, from_picture);
    }
    model.load(&**runner, &mut |_| {}).await?;
    for note in model.notes() {
        eprintln!("darkroom: {note}");
    }
    desk.metrics.spent("loading", start.elapsed());
    *loaded = Some((model_idx, residency, Rc::clone(&model)));
    desk.set_loaded(Some(model_idx));
    Ok((model_idx, model))
}

async fn paint<R: Runner>(
    desk: &Desk,
    runner: &Rc<R>,
    plan: Option<&PlanSettings>,
    loaded: &mut Loaded<R>,
    id: &str,
    cancelled: &AtomicBool,
) -> Result<()> {
    let (_, model) = load(desk, runner, plan, loaded, id).await?;
    let format = desk.look(id, |job, _| job.order.format).ok_or(Error::Cancelled)?;
    let tell = |progress: Progress| desk.change(id, |job| job.progress = progress);
    let inputs = desk.look(id, |job, _| Wanted::of(job)).ok_or(Error::Cancelled)?.read(desk)?;
    // Small copies of its pictures are all that is needed from here on.
    desk.change(id, Job::forget_uploads);
    if cancelled.load(Ordering::Relaxed) {
        return Err(Error::Cancelled);
    }
    let strength = inputs.config.strength;
    let mut generation = Generation::new(runner, &model, inputs)?;
    let strength = (generation.task() != Task::TextToImage).then_some(strength);
    let parameters = desk.look(id, |job, _| job.order.parameters(&desk.menu, strength)).ok_or(Error::Cancelled)?;
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
        let start = Instant::now();
        let event = generation.step(&mut on_progress).await;
        desk.metrics.spent(now.stage, start.elapsed());
        let event = event?;
        // Not every stage asks whether to go on.
        if cancelled.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        match event {
            Some(Event::Encoded { prompt, .. }) => {
                desk.change(id, |job| (job.n_tokens, job.truncated) = (prompt.n_tokens, prompt.truncated));
            }
            Some(Event::Prepared { picture }) => (now.picture, now.step) = (picture, 1),
            Some(Event::Denoised { step, n_steps, .. }) => {
                now.step = (step + 1).min(n_steps);
                if let Some(preview) = generation.preview().await? {
                    let png = Png::new(encode_png(&preview, &[])?, &desk.memory);
                    desk.change(id, |job| (job.preview, job.n_previews) = (Some(png), job.n_previews + 1));
                }
            }
            Some(Event::Decoded { seed, image, .. }) => {
                let text = Parameters { seed, ..parameters.clone() }.to_png_text()?;
                let file = Png::new(encode(&image, &text, format)?, &desk.memory);
                desk.metrics.drew();
                desk.change(id, |job| job.images.push((seed, file)));
            }
            None => return Ok(()),
        }
    }
}

/// What the pipeline takes, with pictures that are still files.
struct Wanted {
    config: SDConfig,
    long_prompt: LongPrompt,
    image: Option<Upload>,
    mask: Option<Upload>,
    mask_role: Role,
}

impl Wanted {
    fn of(job: &Job) -> Self {
        let order = &job.order;
        Wanted {
            config: order.config.clone(),
            long_prompt: order.long_prompt,
            image: order.image.clone(),
            mask: order.mask.clone(),
            mask_role: order.mask_role,
        }
    }

    /// Decodes the pictures, one after the other, and keeps them in the size that is drawn.
    fn read(self, desk: &Desk) -> Result<Inputs> {
        let (width, height, fit) = (self.config.width, self.config.height, self.config.fit);
        let read = |upload: Option<Upload>, role: Role| {
            upload.map(|upload| upload.read_here(&desk.room, role, |p| p.fitted(width, height, fit))).transpose()
        };
        let (init, mask) = (read(self.image, Role::Image)?, read(self.mask, self.mask_role)?);
        Ok(Inputs { config: self.config, init, mask, long_prompt: self.long_prompt })
    }
}
