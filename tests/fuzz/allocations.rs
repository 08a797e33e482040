//! A global allocator that counts what each thread holds, so that a test can say how much memory a call took.
//!
//! A single wish above [`LARGEST`] is refused, which ends the process; what [`on_refusal`] was given is written first, so
//! that the input is not lost with it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::path::PathBuf;

/// More than any test needs at once, less than makes a machine swap.
const LARGEST: usize = 1 << 30;

thread_local! {
    /// Bytes held now, and the most held since [`peak_of`] began. Negative where a thread frees what another one took.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static LAST_WORDS: RefCell<Option<(PathBuf, Vec<u8>)>> = const { RefCell::new(None) };
}

/// What `run` returns, and how many bytes this thread held at most while it ran, beyond those it held before.
pub fn peak_of<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let value = run();
    (value, (PEAK.get() - before).max(0) as usize)
}

/// What this thread writes to which file if it asks for too much.
pub fn on_refusal(words: Option<(PathBuf, Vec<u8>)>) {
    LAST_WORDS.set(words);
}

fn count(change: isize) {
    // A thread that is ending has no counters any more, and nobody who would ask.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + change);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

fn refuse(n_bytes: usize) {
    let words = LAST_WORDS.try_with(|words| words.try_borrow_mut().ok().and_then(|mut words| words.take()));
    if let Ok(Some((path, bytes))) = words {
        let written = std::fs::write(&path, bytes);
        eprintln!("{n_bytes} bytes were asked for at once by the input in {}: {written:?}", path.display());
    }
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged, but for those that fail.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > LARGEST {
            refuse(layout.size());
            return std::ptr::null_mut();
        }
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;
