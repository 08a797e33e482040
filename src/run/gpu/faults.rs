//! Device errors outside error scopes, kept until the next check.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_listener::Event;

/// What went wrong outside of a scope.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    Memory(String),
    Lost(String),
    Other(String),
}

impl From<wgpu::Error> for Fault {
    fn from(error: wgpu::Error) -> Self {
        let reason = one_line(&error.to_string());
        match error {
            wgpu::Error::OutOfMemory { .. } => Fault::Memory(reason),
            _ => Fault::Other(reason),
        }
    }
}

#[derive(Default)]
struct State {
    fault: Mutex<Option<Fault>>,
    /// Told of every fault, for those who wait for work that a lost device will not finish.
    changed: Event,
}

/// The first fault since the last check, recorded by callbacks of any thread.
#[derive(Clone, Default)]
pub(super) struct Faults(Arc<State>);

impl Faults {
    fn lock(&self) -> MutexGuard<'_, Option<Fault>> {
        self.0.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a fault and wakes those who wait for one.
    pub fn record(&self, fault: Fault) {
        let mut found = self.lock();
        // The first one is the cause, but nothing matters beside a lost device.
        if found.is_none() || matches!(fault, Fault::Lost(_)) {
            *found = Some(fault);
        }
        drop(found);
        self.0.changed.notify(usize::MAX);
    }

    /// Takes the fault out; that of a lost device stays.
    pub fn take(&self) -> Option<Fault> {
        let mut found = self.lock();
        let fault = found.take()?;
        if matches!(fault, Fault::Lost(_)) {
            *found = Some(fault.clone());
        }
        Some(fault)
    }

    /// Waits until there is one.
    pub async fn wait(&self) {
        loop {
            let changed = self.0.changed.listen();
            if self.lock().is_some() {
                return;
            }
            changed.await;
        }
    }
}

/// A message without line breaks.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
