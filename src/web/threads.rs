//! Rayon's threads in the page's module with shared memory: each is a worker that instantiated the module on that memory.
//!
//! Workers are started by JavaScript (www/worker/program.js), which waits until all are there. The thread that calls
//! [`start_threads`] is one of the pool and blocks while the others compute: it has to be a worker, too.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};

use rayon::{ThreadBuilder, ThreadPoolBuilder};
use wasm_bindgen::prelude::*;

use super::failure::refuse;

/// Threads that wait for a worker to run them.
static WAITING: Mutex<VecDeque<ThreadBuilder>> = Mutex::new(VecDeque::new());
static ARRIVED: Condvar = Condvar::new();

/// Makes a pool of `n_threads`, the calling one among them. It expects `n_threads - 1` calls of [`run_thread`], each from a worker
/// of its own, before or after.
///
/// # Errors
/// A JavaScript `Error` when there is a pool already.
#[wasm_bindgen]
pub fn start_threads(n_threads: usize) -> Result<(), JsValue> {
    let pool = ThreadPoolBuilder::new().num_threads(n_threads).use_current_thread().spawn_handler(|thread| {
        WAITING.lock().unwrap_or_else(PoisonError::into_inner).push_back(thread);
        ARRIVED.notify_one();
        Ok(())
    });
    pool.build_global().map_err(|error| refuse(&format!("no threads: {error}")))
}

/// Runs one thread of the pool; never returns.
#[wasm_bindgen]
pub fn run_thread() {
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    let thread = loop {
        match waiting.pop_front() {
            Some(thread) => break thread,
            None => waiting = ARRIVED.wait(waiting).unwrap_or_else(PoisonError::into_inner),
        }
    };
    drop(waiting);
    thread.run();
}

/// The memory that all threads share.
#[must_use]
#[wasm_bindgen(unchecked_return_type = "WebAssembly.Memory")]
pub fn shared_memory() -> JsValue {
    wasm_bindgen::memory()
}
