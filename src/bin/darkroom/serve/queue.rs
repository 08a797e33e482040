//! All jobs by where they are: waiting, running, over. Plain data behind the desk's lock.

use std::collections::{HashMap, VecDeque};

use axum::http::StatusCode;

use super::failure::Failure;
use super::job::{Job, Status};
use super::memory::{Kind, Memory};
use super::metrics::Metrics;

/// Jobs that are over and remembered, those with pictures and those without apart, so that many cancelled ones do not
/// push out a picture. The bytes of their pictures bound them too.
const N_REMEMBERED: usize = 128;

/// See the module.
#[derive(Default)]
pub struct Queue {
    pub jobs: HashMap<String, Job>,
    /// Ids that wait, in order.
    pub waiting: VecDeque<String>,
    /// Places of requests that are being checked.
    pub n_reserved: usize,
    /// The one that is drawn.
    pub running: Option<String>,
    /// Ids that are over and have pictures, the oldest first; and those that have none.
    drawn: VecDeque<String>,
    undrawn: VecDeque<String>,
    /// No more requests are taken.
    pub is_ending: bool,
}

pub fn is_ending() -> Failure {
    Failure::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "shutting_down",
        "the server is shutting down and takes no more requests",
    )
}

impl Queue {
    pub fn has_place(&self, n_places: usize) -> Result<(), Failure> {
        if self.is_ending {
            return Err(is_ending());
        }
        let n_taken = self.waiting.len() + self.n_reserved;
        if n_taken < n_places {
            return Ok(());
        }
        let message = format!("{n_taken} requests wait already: try again later");
        Err(Failure::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", message))
    }

    /// Files a request that has just ended.
    pub fn is_over(&mut self, id: &str, metrics: &Metrics) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        job.let_go();
        metrics.ended(job.status);
        let list = if job.images.is_empty() { &mut self.undrawn } else { &mut self.drawn };
        list.push_back(id.to_string());
    }

    /// Forgets what is too much: first requests without pictures, then those whose pictures were given to somebody, then
    /// the oldest; never the last one.
    pub fn forget(&mut self, memory: &Memory) {
        while self.undrawn.len() > N_REMEMBERED {
            self.undrawn.pop_front().and_then(|id| self.jobs.remove(&id));
        }
        let is_full = || memory.held(Kind::Results) > memory.share(Kind::Results);
        while self.drawn.len() > N_REMEMBERED || (is_full() && self.drawn.len() + self.undrawn.len() > 1) {
            if is_full()
                && let Some(id) = self.undrawn.pop_front()
            {
                self.jobs.remove(&id);
                continue;
            }
            let is_fetched = |id: &String| self.jobs.get(id).is_none_or(Job::is_fetched);
            let oldest = self.drawn.iter().position(is_fetched).unwrap_or(0);
            let Some(id) = self.drawn.remove(oldest) else { return };
            self.jobs.remove(&id);
        }
    }

    pub fn end_waiting(&mut self, metrics: &Metrics) {
        for id in std::mem::take(&mut self.waiting) {
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            (job.status, job.failure) = (Status::Cancelled, Some(is_ending()));
            self.is_over(&id, metrics);
            self.tell(&id);
        }
    }

    pub fn tell(&self, id: &str) {
        if let Some(job) = self.jobs.get(id) {
            job.changed.send_replace(());
        }
    }

    pub fn tell_waiting(&self) {
        for id in &self.waiting {
            self.tell(id);
        }
    }
}
