//! The queue and what came of each request: shared between the thread that answers and the one that draws.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::failure::Failure;
use super::request::{Menu, Order};

/// Finished requests that are remembered, with their pictures; the oldest is forgotten first.
const N_REMEMBERED: usize = 32;

/// What one client may ask of the server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests that may wait.
    pub n_waiting: usize,
    /// Pixels of a picture's longer side.
    pub side: usize,
    /// Pictures of one request.
    pub count: usize,
}

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Queued,
    Running,
    Done,
    Cancelled,
    Failed,
}

impl Status {
    pub fn is_over(self) -> bool {
        matches!(self, Status::Done | Status::Cancelled | Status::Failed)
    }
}

/// How far a request is, in the words of the page's protocol.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Progress {
    /// `queued`, `loading`, `encoding`, `denoising` or `decoding`.
    pub stage: &'static str,
    /// The part of the whole that is done, 0 to 1.
    pub fraction: f64,
    /// Which picture, from 0.
    pub picture: usize,
    /// The step that is computed, from 1; 0 before the first.
    pub step: usize,
    /// Steps of one picture; 0 before it is known.
    pub n_steps: usize,
}

/// A PNG file.
pub type Png = Arc<[u8]>;

/// One request and what is known of it.
pub struct Job {
    pub id: String,
    pub order: Order,
    pub status: Status,
    pub progress: Progress,
    /// Finished pictures with their seeds.
    pub images: Vec<(u64, Png)>,
    /// The newest preview, and how many there were.
    pub preview: Option<Png>,
    pub n_previews: u64,
    /// The end of the prompt that the model could not read.
    pub truncated: Option<String>,
    pub failure: Option<Failure>,
    cancelled: Arc<AtomicBool>,
    changed: watch::Sender<()>,
}

impl Job {
    /// Whoever drew `image` finds it there.
    pub fn image_url(&self, image: usize) -> String {
        format!("/v1/jobs/{}/images/{image}", self.id)
    }

    /// Everything about it in JSON. `position` counts the requests before it.
    pub fn to_json(&self, menu: &Menu, position: Option<usize>) -> Value {
        let config = &self.order.inputs.config;
        let images: Vec<Value> = (0..self.images.len())
            .map(|image| json!({ "index": image, "seed": self.images[image].0, "url": self.image_url(image) }))
            .collect();
        let mut object = json!({
            "id": self.id, "status": self.status, "progress": self.progress, "images": images,
            "request": {
                "model": menu.models[self.order.model_idx].name, "prompt": config.prompt,
                "negative_prompt": config.negative_prompt, "width": config.width, "height": config.height,
                "steps": config.steps, "guidance_scale": config.guidance_scale, "sampler": self.order.sampler.name(),
                "seed": config.seed, "count": config.count,
            },
        });
        if let Some(position) = position {
            object["position"] = json!(position);
        }
        if let Some(truncated) = &self.truncated {
            object["truncated"] = json!(truncated);
        }
        if let Some(failure) = &self.failure {
            object["error"] = failure.body();
        }
        object
    }
}

#[derive(Default)]
struct State {
    jobs: HashMap<String, Job>,
    /// Ids that wait, in order.
    waiting: VecDeque<String>,
    /// Ids that are over, the oldest first.
    over: VecDeque<String>,
}

/// See the module.
pub struct Desk {
    pub menu: Menu,
    state: Mutex<State>,
    arrived: Condvar,
}

/// A name that nobody else can guess: the standard library's hasher keys come from the system's random source.
fn random_id() -> String {
    use std::hash::{BuildHasher, RandomState};
    format!("{:016x}{:016x}", RandomState::new().hash_one(1), RandomState::new().hash_one(2))
}

impl Desk {
    pub fn new(menu: Menu) -> Self {
        Desk { menu, state: Mutex::default(), arrived: Condvar::new() }
    }

    /// The state is whole between any two statements, so a thread that panicked while it held the lock broke nothing.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a request at the end of the queue; gives its id.
    pub fn add(&self, order: Order) -> Result<String, Failure> {
        let mut state = self.state();
        if state.waiting.len() >= self.menu.limits.n_waiting {
            let message = format!("{} requests wait already: try again later", state.waiting.len());
            return Err(Failure::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", message));
        }
        let id = random_id();
        let job = Job {
            id: id.clone(),
            order,
            status: Status::Queued,
            progress: Progress { stage: "queued", ..Progress::default() },
            images: Vec::new(),
            preview: None,
            n_previews: 0,
            truncated: None,
            failure: None,
            cancelled: Arc::default(),
            changed: watch::Sender::new(()),
        };
        state.jobs.insert(id.clone(), job);
        state.waiting.push_back(id.clone());
        self.arrived.notify_one();
        Ok(id)
    }

    /// Waits for the next request and takes it out of the queue: its id, and whether it is cancelled later.
    pub fn next(&self) -> (String, Arc<AtomicBool>) {
        let mut state = self.state();
        loop {
            if let Some(id) = state.waiting.pop_front()
                && let Some(job) = state.jobs.get_mut(&id)
            {
                job.status = Status::Running;
                let cancelled = Arc::clone(&job.cancelled);
                job.changed.send_replace(());
                // Those behind it move up.
                state.tell_waiting();
                return (id, cancelled);
            }
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Looks at a request; `None` where the id is unknown or forgotten. The number is its place in the queue.
    pub fn look<T>(&self, id: &str, look: impl FnOnce(&Job, Option<usize>) -> T) -> Option<T> {
        let state = self.state();
        let position = state.waiting.iter().position(|waiting| waiting == id);
        state.jobs.get(id).map(|job| look(job, position))
    }

    /// Changes a request and tells whoever watches it.
    pub fn change(&self, id: &str, change: impl FnOnce(&mut Job)) {
        let mut state = self.state();
        let Some(job) = state.jobs.get_mut(id) else { return };
        let was_over = job.status.is_over();
        change(job);
        job.changed.send_replace(());
        if job.status.is_over() && !was_over {
            // Pictures that were given are not needed any more.
            (job.order.inputs.init, job.order.inputs.mask, job.preview) = (None, None, None);
            state.is_over(id);
        }
    }

    /// Stops a request, or takes it out of the queue. One that is over stays as it is.
    pub fn cancel(&self, id: &str) {
        let mut state = self.state();
        state.waiting.retain(|waiting| waiting != id);
        let Some(job) = state.jobs.get_mut(id) else { return };
        job.cancelled.store(true, Ordering::Relaxed);
        if job.status == Status::Queued {
            job.status = Status::Cancelled;
            job.changed.send_replace(());
            state.is_over(id);
            state.tell_waiting();
        }
    }

    /// Is woken when the request changes.
    pub fn watch(&self, id: &str) -> Option<watch::Receiver<()>> {
        self.state().jobs.get(id).map(|job| job.changed.subscribe())
    }
}

impl State {
    fn is_over(&mut self, id: &str) {
        self.over.push_back(id.to_string());
        if self.over.len() > N_REMEMBERED
            && let Some(oldest) = self.over.pop_front()
        {
            self.jobs.remove(&oldest);
        }
    }

    fn tell_waiting(&self) {
        for job in self.waiting.iter().filter_map(|id| self.jobs.get(id)) {
            job.changed.send_replace(());
        }
    }
}
