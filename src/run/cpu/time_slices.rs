//! Operations in slices of some hundredths of a second, between which the thread that called asks whether to go on.
//!
//! Only that thread can ask: in the browser the answer comes from JavaScript. So an operation shares a slice among all threads,
//! waits for them, asks, and begins the next one. What is computed does not depend on where slices end.

use std::ops::Range;
use std::time::Duration;

use web_time::Instant;

/// What a slice should take. A cancel is heard after one slice, or after one unit of work where that is longer.
const SLICE: Duration = Duration::from_millis(30);
/// Floating-point operations of an operation's first slice for each thread; those that follow are as long as it shows.
const FIRST: f64 = 250e6;
/// Work on one value of an operation that does few things with each, in floating-point operations that take as long: it
/// waits for memory.
pub(super) const EACH: usize = 16;

/// The operation was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

/// See the module.
pub struct TimeSlices<'a> {
    go_on: &'a mut dyn FnMut() -> bool,
    /// The most units of one slice.
    most: usize,
}

impl<'a> TimeSlices<'a> {
    /// Asks `go_on` between two slices.
    pub fn new(go_on: &'a mut dyn FnMut() -> bool) -> Self {
        TimeSlices { go_on, most: usize::MAX }
    }

    /// The same with at most so many units in a slice.
    #[cfg(test)]
    pub fn with_most(self, most: usize) -> Self {
        TimeSlices { most, ..self }
    }

    /// Does `n` units of work in order: `work` is given the units of one slice, in multiples of the threads that share them. A
    /// unit is about as many floating-point operations as the product of `cost`, which may be more than wasm's integers hold.
    ///
    /// # Errors
    /// [`Stopped`], with work left to do.
    pub fn slices(&mut self, n: usize, cost: &[usize], mut work: impl FnMut(Range<usize>)) -> Result<(), Stopped> {
        let n_threads = rayon::current_num_threads().max(1);
        let cost: f64 = cost.iter().map(|&factor| factor.max(1) as f64).product();
        let mut at_once = (FIRST * n_threads as f64 / cost) as usize;
        let mut first = 0;
        while first < n {
            let rounded = at_once.clamp(1, n).next_multiple_of(n_threads).min(self.most);
            let end = n.min(first.saturating_add(rounded));
            let start = Instant::now();
            work(first..end);
            if end == n {
                break;
            }
            let factor = SLICE.as_secs_f64() / start.elapsed().as_secs_f64().max(1e-6);
            at_once = (rounded as f64 * factor.clamp(0.25, 4.0)) as usize;
            first = end;
            if !(self.go_on)() {
                return Err(Stopped);
            }
        }
        Ok(())
    }
}
