//! The thread that draws: it takes one job after the other from the desk and keeps one model loaded.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use darkroom::checkpoint::lora::LoraFile;
use darkroom::engine::{Device, Engine, EngineSettings, Expected, Pictures};
use darkroom::error::Class;
use darkroom::image::{RgbImage, encode, encode_png};
use darkroom::pipeline::{Embedding, Event, ModelConfigs, Stage};
use darkroom::request::{LoraUse, SDConfig};
use darkroom::weights::DiskSource;
use darkroom::{Error, Result};

use crate::engine_args::open_device;
use crate::exit_code;
use crate::loras::{Entry, LocalLora, LoraFolder, OpenLora, Stamp, add_embeddings};

use super::desk::Desk;
use super::failure::Failure;
use super::job::{Job, Png, Preview, Progress, Status};
use super::upload::{Role, Upload};

/// How many LoRAs a model knows at a time. What is known of each are names and headers.
const MAX_KNOWN: usize = 64;

/// How many files of a folder are tried to name some that fit a model.
const MAX_TRIED: usize = 20;

/// Progress is told at most this often.
const PROGRESS: Duration = Duration::from_millis(50);

/// Opens the device on a thread of its own and starts drawing there.
///
/// # Errors
/// When the device does not open or the thread does not start.
pub fn start(desk: Arc<Desk>, settings: EngineSettings) -> Result<()> {
    let (opened, is_open) = mpsc::channel();
    let paint = move || {
        // The device is opened here, because it cannot move between threads; and again when it is lost.
        let was_open = Cell::new(false);
        let work = async || {
            let device = open_device(&settings).await?;
            if !was_open.replace(true) {
                // Nobody has stopped waiting before this.
                opened.send(Ok(())).ok();
            }
            Painter::new(&desk, &settings, device).paint_all().await;
            Ok(())
        };
        let error = loop {
            match pollster::block_on(work()) {
                Ok(()) => {}
                Err(error) => break error,
            }
        };
        if was_open.get() {
            // A device that does not come back ends all drawing, and whoever watches over the server should know.
            log::error!("{error}");
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

/// Whether a device that failed like this may have lost the model's weights.
fn may_have_lost_weights(error: &Error) -> bool {
    match error.class() {
        Class::Device => !matches!(error, Error::NotFinite { .. }),
        Class::Lost => true,
        Class::Memory => matches!(error, Error::OutOfMemory { .. }),
        Class::Request
        | Class::Model
        | Class::Picture
        | Class::File
        | Class::Network
        | Class::Storage
        | Class::Cancelled => false,
    }
}

/// A LoRA that cannot be used, or not with this model: whoever named it can name another one. `fitting` has names of some
/// that fit. Where the folder is, is nobody else's business.
fn unfit_lora(lora: &LocalLora, error: Error, fitting: &[String]) -> Error {
    if error.class() != Class::Model {
        return error;
    }
    let file = lora.path.file_name().unwrap_or_default().to_string_lossy();
    let why = error.to_string().replace(&lora.path.display().to_string(), &file);
    let others = match fitting {
        [] => String::new(),
        names => format!("; these fit: {}", names.join(", ")),
    };
    Error::Request { field: "lora", got: format!("{:?}", lora.name), expected: format!("{why}{others}") }
}

/// The names of files that fit a model, of the first few in the folder.
async fn fitting(folder: &LoraFolder, configs: &ModelConfigs) -> Vec<String> {
    let mut names = Vec::new();
    for Entry { name, path, .. } in folder.entries().into_iter().take(MAX_TRIED) {
        // One that cannot be read is none of those that fit.
        let Ok(source) = DiskSource::open(&path) else { continue };
        let Ok(file) = LoraFile::open(name.clone(), Box::new(source)).await else { continue };
        if file.fit(configs, None).is_ok() {
            names.push(name);
        }
    }
    names
}

struct Painter<'d> {
    desk: &'d Desk,
    settings: &'d EngineSettings,
    device: Device,
    loaded: Option<Loaded>,
    /// The LoRAs that this model knows by name, what their files were, and what is worth telling about them.
    known: BTreeMap<String, (Stamp, Vec<String>)>,
    /// Hashes of files, with what these were.
    hashes: BTreeMap<PathBuf, (Stamp, String)>,
    /// The embeddings that LoRAs bring along, by file, with what these were.
    bundled: BTreeMap<PathBuf, (Stamp, Vec<Embedding>)>,
}

/// The model on the device.
struct Loaded {
    /// Its place on the menu.
    model_idx: usize,
    engine: Engine,
    /// The embeddings that it has beside the server's: those of its LoRAs.
    bundled: Vec<Embedding>,
}

impl<'d> Painter<'d> {
    fn new(desk: &'d Desk, settings: &'d EngineSettings, device: Device) -> Self {
        let (known, hashes, bundled) = Default::default();
        Painter { desk, settings, device, loaded: None, known, hashes, bundled }
    }
}

impl Painter<'_> {
    /// Draws until the device is lost.
    async fn paint_all(mut self) {
        loop {
            let (id, cancelled) = self.desk.next();
            let painted = self.paint(&id, &cancelled).await;
            self.device.keep_tiles();
            let is_lost = matches!(painted, Err(Error::DeviceLost { .. }));
            let is_cancelled = matches!(painted, Err(Error::Cancelled));
            if let Err(error) = &painted
                && may_have_lost_weights(error)
            {
                self.forget_model();
            }
            let failed = match painted {
                Ok(()) | Err(Error::Cancelled) => None,
                Err(error) => Some(self.failure(&id, error)),
            };
            self.desk.change(&id, |job| match failed {
                Some(failure) => (job.status, job.failure) = (Status::Failed, Some(failure)),
                None if is_cancelled => job.status = Status::Cancelled,
                None => job.status = Status::Done,
            });
            if is_lost {
                return;
            }
        }
    }

    /// What a job's client is told. A model that was removed while the job waited is no fault of the server.
    fn failure(&self, id: &str, error: Error) -> Failure {
        let model_idx = self.desk.look(id, |job, _| job.request.model_idx);
        let gone = model_idx.filter(|_| error.class() == Class::Model).and_then(|idx| self.desk.menu.gone(idx));
        gone.unwrap_or_else(|| error.into())
    }

    fn forget_model(&mut self) {
        self.known.clear();
        self.loaded = None;
        self.desk.set_loaded(None);
    }

    /// Opens the model that a job wants, if another one is.
    async fn open(&mut self, id: &str) -> Result<()> {
        let desk = self.desk;
        let asked = |job: &Job| (job.request.model_idx, job.request.resolved(), job.request.image.is_some());
        // Only jobs that are over are forgotten, and this one is about to begin.
        let (model_idx, request, from_picture) = desk.look(id, |job, _| asked(job)).ok_or(Error::Cancelled)?;
        let model = desk.menu.model(model_idx).map_err(|_| Error::Hub {
            repo: "the model".into(),
            reason: "was removed from the folder of models while the job waited".into(),
        })?;
        let source = model.local.open().await.map_err(Error::of_model)?;
        // Its size is the request's by now.
        let expected = Expected { request, version: model.version, from_picture, picture: None };
        let bundled = self.bundled_embeddings(id).await?;
        let residency = self.device.residency(&*source, self.settings, &expected).await?;
        let is_open = self.loaded.as_ref().is_some_and(|loaded| {
            loaded.model_idx == model_idx && loaded.engine.residency() == residency && loaded.bundled == bundled
        });
        if !is_open {
            // What is there goes first: two models at once may be more than the memory holds.
            self.forget_model();
            desk.change(id, |job| job.progress = Progress { stage: "loading", ..Progress::default() });
            let embeddings = self.settings.embeddings.iter().chain(&bundled).cloned().collect();
            let settings = EngineSettings { residency: Some(residency), embeddings, ..self.settings.clone() };
            let engine = Engine::open(&self.device, source, &settings, &expected).await?;
            let engine = engine.with_public_name(model.name.clone()).with_prediction(model.local.prediction);
            self.loaded = Some(Loaded { model_idx, engine, bundled });
        }
        Ok(())
    }

    /// The embeddings that the LoRAs of a job bring along, but for those whose words the server's have.
    async fn bundled_embeddings(&mut self, id: &str) -> Result<Vec<Embedding>> {
        let desk = self.desk;
        let used = desk.look(id, |job, _| job.request.loras()).ok_or(Error::Cancelled)?;
        let Some(folder) = &desk.menu.loras else { return Ok(Vec::new()) };
        let mut all = self.settings.embeddings.clone();
        let n_own = all.len();
        for LoraUse { name, .. } in used {
            let Entry { path, stamp, .. } = folder.find(&name)?;
            if self.bundled.get(&path).is_none_or(|(known, _)| *known != stamp) {
                let local = LocalLora { name, path: path.clone() };
                let lora =
                    local.open(self.hash_of(&path, &stamp)).await.map_err(|error| unfit_lora(&local, error, &[]))?;
                self.keep_hash(&path, &stamp, &lora);
                if self.bundled.len() > MAX_KNOWN {
                    self.bundled.clear();
                }
                let bundled = lora.embeddings().await.map_err(|error| unfit_lora(&local, error, &[]))?;
                self.bundled.insert(path.clone(), (stamp, bundled));
            }
            let bundled = self.bundled.get(&path).map(|(_, bundled)| bundled.as_slice()).unwrap_or_default();
            add_embeddings(&mut all, bundled.iter().cloned());
        }
        Ok(all.split_off(n_own))
    }

    /// The hash of a file that was not changed since it was computed.
    fn hash_of(&self, path: &Path, stamp: &Stamp) -> Option<String> {
        self.hashes.get(path).filter(|(known, _)| known == stamp).map(|(_, hash)| hash.clone())
    }

    fn keep_hash(&mut self, path: &Path, stamp: &Stamp, lora: &OpenLora) {
        if self.hashes.len() > MAX_KNOWN {
            self.hashes.clear();
        }
        self.hashes.insert(path.to_owned(), (*stamp, lora.sha256().to_owned()));
    }

    /// Makes the LoRAs that a job names known to the model that is loaded. A file that changed is another one.
    async fn open_loras(&mut self, id: &str) -> Result<()> {
        let desk = self.desk;
        let used = desk.look(id, |job, _| job.request.loras()).ok_or(Error::Cancelled)?;
        let Some(folder) = &desk.menu.loras else { return Ok(()) };
        if self.known.len() + used.len() > MAX_KNOWN
            && let Some(Loaded { engine, .. }) = &self.loaded
        {
            engine.forget_loras();
            self.known.clear();
        }
        for LoraUse { name, .. } in used {
            let Entry { path, stamp, .. } = folder.find(&name)?;
            if let Some((_, notes)) = self.known.get(&name).filter(|(known, _)| *known == stamp) {
                desk.change(id, |job| job.add_notes(notes.iter().cloned()));
                continue;
            }
            let local = LocalLora { name: name.clone(), path: path.clone() };
            let lora = local.open(self.hash_of(&path, &stamp)).await.map_err(|error| unfit_lora(&local, error, &[]))?;
            self.keep_hash(&path, &stamp, &lora);
            let Some(Loaded { engine, .. }) = &self.loaded else { return Ok(()) };
            let lora = match lora.fit(engine.configs()) {
                Ok(lora) => lora,
                Err(error) => return Err(unfit_lora(&local, error, &fitting(folder, engine.configs()).await)),
            };
            for note in &lora.notes {
                log::warn!("{note}");
            }
            desk.change(id, |job| job.add_notes(lora.notes.iter().cloned()));
            self.known.insert(name, (stamp, lora.notes.clone()));
            engine.add_lora(lora);
        }
        Ok(())
    }

    async fn paint(&mut self, id: &str, cancelled: &AtomicBool) -> Result<()> {
        let desk = self.desk;
        let start = Instant::now();
        self.open(id).await?;
        self.open_loras(id).await?;
        let Some(Loaded { engine, .. }) = &self.loaded else { return Err(Error::Cancelled) };
        let opening = start.elapsed();
        let (format, model_idx) =
            desk.look(id, |job, _| (job.request.format, job.request.model_idx)).ok_or(Error::Cancelled)?;
        let tell = |progress: Progress| desk.change(id, |job| job.progress = progress);
        let (mut configs, pictures) = desk.look(id, |job, _| Wanted::of(job)).ok_or(Error::Cancelled)?.read(desk)?;
        // Small copies of its pictures are all that is needed from here on.
        desk.change(id, Job::forget_uploads);
        if cancelled.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        configs.reverse();
        // Before the weights: kernels are compiled while they load.
        let first = configs.pop().ok_or(Error::Cancelled)?;
        let mut generation = engine.draw_resolved(first, pictures.clone())?;
        if !engine.is_loaded() {
            let start = Instant::now();
            engine.load(&mut |_| true).await?;
            for note in engine.notes() {
                log::warn!("{note}");
            }
            desk.metrics.spent("loading", opening + start.elapsed());
            desk.set_loaded(Some(model_idx));
        }
        let n_configs = configs.len() + 1;
        let mut n_before = 0;
        let mut now = Progress { steps: generation.n_steps(), ..Progress::default() };
        loop {
            now.stage = match generation.stage() {
                Stage::Encode => "encoding",
                Stage::Prepare | Stage::Denoise => "denoising",
                Stage::Decode => "decoding",
                Stage::Done => {
                    let Some(next) = configs.pop() else { return Ok(()) };
                    generation = engine.draw_resolved(next, pictures.clone())?;
                    n_before += 1;
                    (now.picture, now.step, now.steps) = (n_before, 0, generation.n_steps());
                    continue;
                }
            };
            tell(now.clone());
            let mut told = Instant::now();
            let mut on_progress = |fraction| {
                now.fraction = (n_before as f64 + fraction) / n_configs as f64;
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
            now.fraction = (n_before as f64 + generation.fraction()) / n_configs as f64;
            match event {
                Some(Event::Encoded { prompt, negative }) => {
                    desk.change(id, |job| {
                        job.add_notes(prompt.notes.into_iter().chain(negative.notes));
                        // Of prompts that differ, the longest.
                        job.n_tokens = job.n_tokens.max(prompt.n_tokens);
                        job.truncated = job.truncated.take().or(prompt.truncated);
                    });
                }
                Some(Event::Prepared { picture }) => (now.picture, now.step) = (n_before + picture, 1),
                Some(Event::Denoised { picture, step, n_steps, .. }) => {
                    now.step = (step + 1).min(n_steps);
                    if let Some(preview) = generation.preview().await? {
                        let png = Png::new(encode_png(&preview, &[])?, &desk.memory);
                        let preview = Preview { png, picture: n_before + picture, step, steps: n_steps };
                        desk.change(id, |job| (job.preview, job.n_previews) = (Some(preview), job.n_previews + 1));
                    }
                }
                Some(Event::Decoded { picture, seed, image, .. }) => {
                    let text = generation.parameters(picture).to_png_text()?;
                    let file = Png::new(encode(&image, &text, format)?, &desk.memory);
                    desk.metrics.drew();
                    desk.change(id, |job| {
                        job.progress = now.clone();
                        job.images.push((seed, file));
                    });
                }
                None => {}
            }
        }
    }
}

/// What is drawn, with pictures that are still files.
struct Wanted {
    configs: Vec<SDConfig>,
    image: Option<Upload>,
    mask: Option<Upload>,
    mask_role: Role,
}

impl Wanted {
    fn of(job: &Job) -> Self {
        let checked = &job.request;
        Wanted {
            configs: checked.configs().to_vec(),
            image: checked.image.clone(),
            mask: checked.mask.clone(),
            mask_role: checked.mask_role,
        }
    }

    /// Decodes the pictures, one after the other, and keeps them in the size that is drawn, or in their own where that matters.
    fn read(self, desk: &Desk) -> Result<(Vec<SDConfig>, Pictures)> {
        let Some(config) = self.configs.first() else { return Err(Error::Cancelled) };
        let &SDConfig { width, height, fit, .. } = config;
        let is_whole = config.padding_mask_crop.is_some() || config.mask_blur != 0.0;
        let kept = move |p: RgbImage| if is_whole { p } else { p.fitted(width, height, fit) };
        let read = |upload: Option<Upload>, role: Role| {
            upload.map(|upload| upload.read_here(&desk.room, role, kept)).transpose()
        };
        let (start_picture, mask) = (read(self.image, Role::Image)?, read(self.mask, self.mask_role)?);
        Ok((self.configs, Pictures { start_picture, mask }))
    }
}
