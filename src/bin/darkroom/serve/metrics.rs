//! What has happened, counted, and what is held: `GET /metrics` in Prometheus' text form, `GET /health` in JSON.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::connection::Hall;
use super::desk::Desk;
use super::job::Status;
use super::memory::{self, Kind};

#[derive(Default)]
struct Counts {
    /// Jobs by outcome.
    jobs: BTreeMap<&'static str, u64>,
    /// Seconds of jobs by stage.
    seconds: BTreeMap<&'static str, f64>,
    /// Answers by status.
    answers: BTreeMap<u16, u64>,
    n_images: u64,
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

    /// A picture that is finished.
    pub fn drew(&self) {
        self.counts().n_images += 1;
    }

    /// An answer that was begun.
    pub fn answered(&self, status: u16) {
        *self.counts().answers.entry(status).or_default() += 1;
    }
}

/// One metric with its values by label; `labels` is empty or `{name="value"}`.
fn metric<V: Display>(
    text: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    values: impl IntoIterator<Item = (String, V)>,
) {
    let mut write = |line: std::fmt::Arguments<'_>| {
        // Writing to a string does not fail.
        text.write_fmt(line).ok();
    };
    write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    for (labels, value) in values {
        write(format_args!("{name}{labels} {value}\n"));
    }
}

fn label(name: &str, value: impl Display) -> String {
    format!("{{{name}=\"{value}\"}}")
}

/// All metrics.
pub fn text(desk: &Desk, hall: &Hall) -> String {
    let mut text = String::new();
    let alone = |value: u64| [(String::new(), value)];
    let (n_waiting, running) = desk.queue();
    let gauge = "gauge";
    let counter = "counter";
    metric(&mut text, "darkroom_queue_length", gauge, "Jobs that wait.", alone(n_waiting as u64));
    metric(&mut text, "darkroom_queue_limit", gauge, "Jobs that may wait.", alone(desk.menu.limits.n_waiting as u64));
    metric(&mut text, "darkroom_jobs_running", gauge, "Jobs that are drawn now.", alone(running.is_some().into()));
    let counts = desk.metrics.counts();
    let outcomes = ["done", "cancelled", "failed", "refused"];
    let jobs = outcomes.map(|outcome| (label("outcome", outcome), counts.jobs.get(outcome).copied().unwrap_or(0)));
    metric(&mut text, "darkroom_jobs_total", counter, "Jobs by outcome.", jobs);
    metric(&mut text, "darkroom_images_total", counter, "Pictures that were finished.", alone(counts.n_images));
    let stages = ["queued", "loading", "encoding", "denoising", "decoding"];
    let seconds = stages.map(|stage| (label("stage", stage), counts.seconds.get(stage).copied().unwrap_or(0.0)));
    metric(&mut text, "darkroom_job_seconds_total", counter, "Seconds of jobs by stage.", seconds);
    let answers = counts.answers.iter().map(|(status, n)| (label("status", status), *n));
    metric(&mut text, "darkroom_http_requests_total", counter, "Requests by the status of the answer.", answers);
    drop(counts);
    let (n_connections, most) = hall.n_connections();
    metric(&mut text, "darkroom_connections", gauge, "Open connections.", alone(n_connections as u64));
    metric(&mut text, "darkroom_connections_limit", gauge, "Connections that may be open.", alone(most as u64));
    metric(
        &mut text,
        "darkroom_event_listeners",
        gauge,
        "Clients that listen to events.",
        alone(desk.n_listeners() as u64),
    );
    let held = Kind::ALL.map(|kind| (label("kind", kind.name()), desk.memory.held(kind)));
    metric(&mut text, "darkroom_memory_held_bytes", gauge, "What is held for clients.", held);
    metric(
        &mut text,
        "darkroom_memory_limit_bytes",
        gauge,
        "What may be held for clients.",
        alone(desk.memory.limit()),
    );
    let resident = memory::resident_bytes().map(|n_bytes| (String::new(), n_bytes));
    metric(&mut text, "process_resident_memory_bytes", gauge, "Memory of the whole process.", resident);
    text
}

/// Whether it works, for whoever watches over it. It tells nothing of what is drawn.
pub fn health(desk: &Desk) -> Value {
    let (n_waiting, running) = desk.queue();
    let loaded = desk.loaded().and_then(|idx| desk.menu.model(idx).ok()).map(|model| model.name.clone());
    let first = || desk.menu.models().first().map(|(_, model)| model.name.clone());
    let is_loaded = loaded.is_some();
    json!({
        "status": if desk.is_ending() { "ending" } else { "ok" },
        "version": env!("CARGO_PKG_VERSION"),
        "model": loaded.or_else(first),
        "model_loaded": is_loaded,
        "queue": { "waiting": n_waiting, "limit": desk.menu.limits.n_waiting, "running": running.is_some() },
    })
}
