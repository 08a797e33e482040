//! Device errors outside error scopes, kept until the next check.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

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
    fault: Option<Fault>,
    /// Who waits for work that a lost device will not finish.
    waiting: Option<Waker>,
}

/// The first fault since the last check, recorded by callbacks of any thread.
#[derive(Clone, Default)]
pub(super) struct Faults(Arc<Mutex<State>>);

impl Faults {
    /// Records a fault and wakes the waiting task.
    pub fn record(&self, fault: Fault) {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The first one is the cause, but nothing matters beside a lost device.
        if faults.fault.is_none() || matches!(fault, Fault::Lost(_)) {
            faults.fault = Some(fault);
        }
        if let Some(waiting) = faults.waiting.take() {
            waiting.wake();
        }
    }

    /// Takes the fault out; that of a lost device stays.
    pub fn take(&self) -> Option<Fault> {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = faults.fault.take()?;
        if matches!(fault, Fault::Lost(_)) {
            faults.fault = Some(fault.clone());
        }
        Some(fault)
    }

    /// Whether there is a fault; if not, the next one wakes `waker`.
    pub fn is_there_or_wakes(&self, waker: &Waker) -> bool {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if faults.fault.is_none() {
            faults.waiting = Some(waker.clone());
        }
        faults.fault.is_some()
    }
}

/// A message without line breaks.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
