//! The desk, which the threads that answer and the one that draws share: it takes requests as jobs, and tells of them.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::http::StatusCode;
use darkroom::prompt::wildcards::is_template;
use darkroom::request::{ExpandedRequest, Request};
use tokio::sync::watch;

use super::failure::Failure;
use super::job::{Job, Png, Progress, Status};
use super::memory::{Held, Kind, Memory};
use super::menu::{CheckedRequest, Menu};
use super::metrics::Metrics;
use super::openai::now;
use super::queue::Queue;
use super::request::JobRequest;
use super::room::Room;
use super::upload::Role;
use super::webui;

/// What deciding a request's prompts takes, in bytes: texts of some tens of kilobytes for each of its pictures.
const CHOOSING_BYTES: u64 = 8 << 20;

/// See the module.
pub struct Desk {
    pub menu: Menu,
    pub memory: Arc<Memory>,
    pub room: Room,
    pub metrics: Metrics,
    pub webui: webui::Session,
    state: Mutex<Queue>,
    arrived: Condvar,
    is_busy: watch::Sender<bool>,
    /// The model that is loaded, by its place on the menu, plus one; 0 for none.
    loaded: AtomicUsize,
    n_listeners: AtomicUsize,
}

/// A client that listens to a job's events, until it is dropped.
pub struct Listening(Arc<Desk>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.n_listeners.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place in the queue, for a request that is being checked; given back when it is dropped.
struct Place<'a>(&'a Desk);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.state().n_reserved -= 1;
    }
}

/// A name that nobody else can guess.
fn random_id() -> String {
    format!("{:016x}{:016x}", crate::random::number(), crate::random::number())
}

impl Desk {
    pub fn new(menu: Menu, memory: Arc<Memory>) -> Self {
        Desk {
            menu,
            room: Room::new(Arc::clone(&memory)),
            memory,
            metrics: Metrics::default(),
            webui: webui::Session::default(),
            state: Mutex::default(),
            arrived: Condvar::new(),
            is_busy: watch::Sender::new(false),
            loaded: AtomicUsize::new(0),
            n_listeners: AtomicUsize::new(0),
        }
    }

    /// The state is whole between any two statements, so a thread that panicked while it held the lock broke nothing.
    fn state(&self) -> MutexGuard<'_, Queue> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the queue has a place, asked before anything is read for a request.
    ///
    /// # Errors
    /// 429 where it has none, 503 when the server ends.
    pub fn has_place(&self) -> Result<(), Failure> {
        self.state().has_place(self.menu.limits.n_waiting)
    }

    fn reserve(&self) -> Result<Place<'_>, Failure> {
        let mut state = self.state();
        state.has_place(self.menu.limits.n_waiting)?;
        state.n_reserved += 1;
        Ok(Place(self))
    }

    /// Checks a request and puts it at the end of the queue; gives its id. What is cheap is checked first, the pictures
    /// last: off the thread that answers, in their turn. `held` is what the door counted for the body.
    ///
    /// # Errors
    /// 429 where the queue is full, before anything else; 400 or 404 for what cannot be drawn; 413 for pictures that
    /// take too much memory; 503 when the server ends.
    pub async fn submit(&self, request: JobRequest, mut held: Held) -> Result<String, Failure> {
        let refused = |failure: Failure| {
            self.metrics.refused();
            failure
        };
        let place = self.reserve().map_err(refused)?;
        let (checked, notes) = self.check(request).await.map_err(refused)?;
        held.set(checked.n_bytes());
        Ok(self.add(place, checked, notes, held))
    }

    async fn check(&self, request: JobRequest) -> Result<(CheckedRequest, Vec<String>), Failure> {
        let ExpandedRequest { requests, notes } = self.choose(&request.request).await?;
        let checked = self.menu.check(&request, &requests, None)?;
        let Some(image) = &request.image else { return Ok((checked, notes)) };
        let size = image.check(&self.room, Role::Image).await?;
        if let Some(mask) = &request.mask {
            mask.check(&self.room, checked.mask_role).await?;
        }
        Ok((self.menu.check(&request, &requests, Some(size))?, notes))
    }

    /// Decides what the prompts leave open, one request after the other and off the thread that answers.
    async fn choose(&self, asked: &Request) -> Result<ExpandedRequest, Failure> {
        let has_choices = [Some(&asked.prompt), asked.negative_prompt.as_ref()].into_iter().flatten();
        if !has_choices.into_iter().any(|text| is_template(text)) {
            return Ok(ExpandedRequest::default());
        }
        Ok(self.room.work(CHOOSING_BYTES, self.menu.choose(asked)).await??)
    }

    fn add(&self, place: Place<'_>, checked: CheckedRequest, notes: Vec<String>, held: Held) -> String {
        let id = random_id();
        let job = Job {
            id: id.clone(),
            request: checked,
            status: Status::Queued,
            progress: Progress { stage: "queued", ..Progress::default() },
            images: Vec::new(),
            preview: None,
            n_previews: 0,
            n_tokens: 0,
            truncated: None,
            notes,
            failure: None,
            held,
            is_fetched: Vec::new(),
            added: Instant::now(),
            created: now(),
            cancelled: Arc::default(),
            changed: watch::Sender::new(()),
        };
        drop(place);
        let mut state = self.state();
        state.jobs.insert(id.clone(), job);
        state.waiting.push_back(id.clone());
        if state.is_ending {
            // It ended while this one was checked.
            state.end_waiting(&self.metrics);
        }
        self.arrived.notify_one();
        id
    }

    /// Waits for the next request and takes it out of the queue: its id, and whether it is cancelled later.
    pub fn next(&self) -> (String, Arc<AtomicBool>) {
        let mut state = self.state();
        loop {
            if let Some(id) = state.waiting.pop_front()
                && let Some(job) = state.jobs.get_mut(&id)
            {
                job.status = Status::Running;
                self.metrics.spent("queued", job.added.elapsed());
                let cancelled = Arc::clone(&job.cancelled);
                job.changed.send_replace(());
                state.running = Some(id.clone());
                self.is_busy.send_replace(true);
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

    /// Looks at all requests that are remembered, the newest first, from the one behind `after` on, until `look` has enough;
    /// `None` where `after` is unknown.
    pub fn look_at_all(
        &self,
        after: Option<&str>,
        mut look: impl FnMut(&Job, Option<usize>) -> ControlFlow<()>,
    ) -> Option<()> {
        let state = self.state();
        let mut jobs: Vec<&Job> = state.jobs.values().collect();
        jobs.sort_unstable_by(|a, b| (b.added, &b.id).cmp(&(a.added, &a.id)));
        let first = match after {
            Some(id) => jobs.iter().position(|job| job.id == id)? + 1,
            None => 0,
        };
        for job in &jobs[first..] {
            let position = state.waiting.iter().position(|waiting| *waiting == job.id);
            if look(job, position).is_break() {
                break;
            }
        }
        Some(())
    }

    /// A finished picture; `None` in it where there is none yet. Whoever is given it has it: of two jobs that are over,
    /// the one whose pictures were given is forgotten first.
    pub fn fetch(&self, id: &str, image: usize) -> Option<Option<Png>> {
        let mut state = self.state();
        let job = state.jobs.get_mut(id)?;
        let found = job.images.get(image).map(|(_, png)| png.clone());
        if found.is_some() {
            let n_images = job.images.len().max(job.is_fetched.len());
            job.is_fetched.resize(n_images, false);
            job.is_fetched[image] = true;
        }
        Some(found)
    }

    /// Changes a request and tells whoever watches it.
    pub fn change(&self, id: &str, change: impl FnOnce(&mut Job)) {
        let mut state = self.state();
        let Some(job) = state.jobs.get_mut(id) else { return };
        let was_over = job.status.is_over();
        change(job);
        if job.status.is_over() && !was_over {
            if state.running.as_deref() == Some(id) {
                state.running = None;
                self.is_busy.send_replace(false);
            }
            state.is_over(id, &self.metrics);
        }
        if let Some(job) = state.jobs.get(id) {
            job.changed.send_replace(());
        }
        state.forget(&self.memory);
    }

    /// Stops a request, or takes it out of the queue. One that is over stays as it is.
    pub fn cancel(&self, id: &str) {
        let mut state = self.state();
        state.waiting.retain(|waiting| waiting != id);
        let Some(job) = state.jobs.get_mut(id) else { return };
        job.cancelled.store(true, Ordering::Relaxed);
        if job.status == Status::Queued {
            job.status = Status::Cancelled;
            state.is_over(id, &self.metrics);
            state.tell(id);
            state.tell_waiting();
            state.forget(&self.memory);
        } else if !job.status.is_over() {
            job.forget_uploads();
        }
    }

    /// Is woken when the request changes.
    pub fn watch(&self, id: &str) -> Option<watch::Receiver<()>> {
        self.state().jobs.get(id).map(|job| job.changed.subscribe())
    }

    /// Lets one more client listen to events.
    ///
    /// # Errors
    /// 503 where as many listen as may.
    pub fn listen(self: &Arc<Self>) -> Result<Listening, Failure> {
        let listening = Listening(Arc::clone(self));
        if self.n_listeners.fetch_add(1, Ordering::Relaxed) < self.menu.limits.n_listeners {
            return Ok(listening);
        }
        let message = "as many clients listen to events as may: ask for the job itself, or try again later";
        Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_listeners", message))
    }

    /// Clients that listen to events.
    pub fn n_listeners(&self) -> usize {
        self.n_listeners.load(Ordering::Relaxed)
    }

    /// Whether a preview of so many bytes, which each listener is sent as text, fits the memory of all their connections.
    pub fn may_preview(&self, n_bytes: usize) -> bool {
        let n_each = (n_bytes as u64).saturating_mul(3);
        n_each.saturating_mul(self.n_listeners() as u64) <= self.memory.share(Kind::Connections)
    }

    /// The model that is loaded, by its place on the menu.
    pub fn loaded(&self) -> Option<usize> {
        self.loaded.load(Ordering::Relaxed).checked_sub(1)
    }

    pub fn set_loaded(&self, model_idx: Option<usize>) {
        self.loaded.store(model_idx.map_or(0, |idx| idx + 1), Ordering::Relaxed);
    }

    /// Requests that wait, those that are being checked among them; and the id of the one that is drawn.
    pub fn queue(&self) -> (usize, Option<String>) {
        let state = self.state();
        (state.waiting.len() + state.n_reserved, state.running.clone())
    }

    /// Takes no more requests and tells those that wait. The one that is drawn is stopped too unless it may finish.
    pub fn end(&self, may_finish: bool) {
        let mut state = self.state();
        state.is_ending = true;
        state.end_waiting(&self.metrics);
        if let (false, Some(job)) = (may_finish, state.running.as_ref().and_then(|id| state.jobs.get(id))) {
            job.cancelled.store(true, Ordering::Relaxed);
        }
    }

    pub fn is_ending(&self) -> bool {
        self.state().is_ending
    }

    /// Waits until nothing is drawn.
    pub async fn idle(&self) {
        // The sender lives as long as this.
        self.is_busy.subscribe().wait_for(|is_busy| !is_busy).await.ok();
    }

    /// Whether a job has pictures that nobody was given yet.
    pub fn has_unfetched(&self, id: &str) -> bool {
        self.state().jobs.get(id).is_some_and(|job| !job.is_fetched())
    }
}
