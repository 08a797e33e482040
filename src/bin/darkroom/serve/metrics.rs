//! What has happened, counted, for `GET /metrics` in Prometheus' text form.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::jobs::Status;

#[derive(Default)]
struct Counts {
    /// Jobs by outcome.
    jobs: BTreeMap<&'static str, u64>,
    /// Seconds of jobs by stage.
    seconds: BTreeMap<&'static str, f64>,
    /// Answers by status.
    answers: BTreeMap<u16, u64>,
}

/// See the module.
#[derive(Default)]
pub struct Metrics(Mutex<Counts>);

impl Metrics {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request that came to no job.
    pub fn refused(&self) {
        *self.counts().jobs.entry("refused").or_default() += 1;
    }

    /// A job that is over.
    pub fn ended(&self, status: Status) {
        let outcome = match status {
            Status::Done => "done",
            Status::Cancelled => "cancelled",
            _ => "failed",
        };
        *self.counts().jobs.entry(outcome).or_default() += 1;
    }

    /// Time that a job spent in a stage.
    pub fn spent(&self, stage: &'static str, time: Duration) {
        *self.counts().seconds.entry(stage).or_default() += time.as_secs_f64();
    }

    /// An answer that was begun.
    pub fn answered(&self, status: u16) {
        *self.counts().answers.entry(status).or_default() += 1;
    }
}
