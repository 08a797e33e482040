//! What clients make the server hold, in bytes: counted, by kind, and bounded.
//!
//! Everything that lives longer than one function and whose size a client chooses is taken from here first: bodies that
//! arrive, the encoded pictures of waiting jobs, decoded pixels, finished pictures, connections. The model and what
//! drawing needs are not part of it: their size is the operator's choice (`--model`, `--max-side`, `--max-count`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;

use super::failure::Failure;

/// The smallest limit that a server starts with, in bytes.
pub const LEAST_LIMIT: u64 = 64 << 20;
/// The most that is taken where nobody says, in bytes.
const MOST_BY_DEFAULT: u64 = 2 << 30;
/// Where the system does not tell how much is available, in bytes.
const WITHOUT_A_HINT: u64 = 1 << 30;

/// When so much was given back, the allocator is asked to pass it on, in bytes.
const TIDY_BYTES: u64 = 16 << 20;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod allocator {
    unsafe extern "C" {
        // SAFETY: glibc's, which any thread may call at any time.
        safe fn malloc_trim(keep: usize) -> std::ffi::c_int;
    }

    /// Gives free pages back to the system. It says whether there were any, which nobody needs to know.
    pub fn trim() {
        malloc_trim(0);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod allocator {
    /// Others give back by themselves.
    pub fn trim() {}
}

/// What bytes are held for. Each kind has a share of the limit, so that one cannot starve another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Buffers of connections.
    Connections,
    /// What clients sent: bodies that arrive or are read, encoded pictures and prompts of jobs.
    Uploads,
    /// Pixels and texts while a body or a picture is decoded.
    Decoding,
    /// Finished pictures, previews, and answers that are being sent.
    Results,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Connections, Kind::Uploads, Kind::Decoding, Kind::Results];

    /// The label in `/metrics`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Connections => "connections",
            Kind::Uploads => "uploads",
            Kind::Decoding => "decoding",
            Kind::Results => "results",
        }
    }

    /// Its part of the limit, in eighths.
    fn n_eighths(self) -> u64 {
        match self {
            Kind::Connections | Kind::Results => 1,
            Kind::Uploads => 2,
            Kind::Decoding => 4,
        }
    }
}

/// The ledger. See the module.
pub struct Memory {
    limit: u64,
    held: [AtomicU64; Kind::ALL.len()],
    /// Bytes that were given back since [`Memory::tidy`].
    given_back: AtomicU64,
}

impl Memory {
    /// A ledger that allows `limit` bytes.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Memory { limit, held: Default::default(), given_back: AtomicU64::new(0) })
    }

    /// Bytes that may be held in all.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes that may be held of one kind.
    pub fn share(&self, kind: Kind) -> u64 {
        self.limit / 8 * kind.n_eighths()
    }

    /// Bytes that are held of one kind.
    pub fn held(&self, kind: Kind) -> u64 {
        self.held[kind as usize].load(Ordering::Relaxed)
    }

    /// Has the allocator give back to the system what was given back to it, if that is much: it keeps blocks of less than
    /// 32 MiB for later, by thread, and together they would be more than the limit.
    pub fn tidy(&self) {
        if self.given_back.load(Ordering::Relaxed) >= TIDY_BYTES {
            self.given_back.store(0, Ordering::Relaxed);
            allocator::trim();
        }
    }

    /// Takes bytes from the kind's share, until the answer is dropped.
    ///
    /// # Errors
    /// 503 where the share has no room for them now.
    pub fn take(self: &Arc<Self>, kind: Kind, n_bytes: u64) -> Result<Held, Failure> {
        let mut held = Held { memory: Arc::clone(self), kind, n_bytes: 0 };
        held.grow(n_bytes)?;
        Ok(held)
    }

    /// Counts bytes that are there already, whether the share has room for them or not.
    pub fn count(self: &Arc<Self>, kind: Kind, n_bytes: u64) -> Held {
        self.held[kind as usize].fetch_add(n_bytes, Ordering::Relaxed);
        Held { memory: Arc::clone(self), kind, n_bytes }
    }
}

/// Bytes that are held; dropping it gives them back.
pub struct Held {
    memory: Arc<Memory>,
    kind: Kind,
    n_bytes: u64,
}

impl Held {
    /// Takes more.
    ///
    /// # Errors
    /// 503 where the share has no room for it now; what was held stays held.
    pub fn grow(&mut self, n_more: u64) -> Result<(), Failure> {
        let share = self.memory.share(self.kind);
        let take = |held: u64| held.checked_add(n_more).filter(|&after| after <= share);
        let counter = &self.memory.held[self.kind as usize];
        if counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            let message = format!(
                "the server holds as much as its memory limit allows ({} MiB of {}): try again later",
                share >> 20,
                self.kind.name()
            );
            return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "memory_full", message));
        }
        self.n_bytes += n_more;
        Ok(())
    }

    /// Counts `n_bytes` instead, whether the share has room for them or not.
    pub fn set(&mut self, n_bytes: u64) {
        let counter = &self.memory.held[self.kind as usize];
        counter.fetch_add(n_bytes, Ordering::Relaxed);
        counter.fetch_sub(self.n_bytes, Ordering::Relaxed);
        self.memory.given_back.fetch_add(self.n_bytes.saturating_sub(n_bytes), Ordering::Relaxed);
        self.n_bytes = n_bytes;
    }

    /// Counts the same bytes as another kind.
    pub fn turn_into(&mut self, kind: Kind) {
        let n_bytes = self.n_bytes;
        self.set(0);
        self.kind = kind;
        self.set(n_bytes);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// The limit where nobody says: a quarter of what is available to this process, 2 GiB at most.
pub fn default_limit() -> u64 {
    let available = available_bytes().unwrap_or(WITHOUT_A_HINT);
    (available / 4).clamp(LEAST_LIMIT, MOST_BY_DEFAULT)
}

/// Memory that this process could still take, where the system tells (Linux): what is available on the machine, or less
/// where the process is in a control group with a limit.
fn available_bytes() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let number = |path: &str| read(path)?.trim().parse::<u64>().ok();
    let meminfo = read("/proc/meminfo")?;
    let line = meminfo.lines().find(|line| line.starts_with("MemAvailable:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    let group = number("/sys/fs/cgroup/memory.max").or_else(|| number("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    Some((kilobytes * 1024).min(group.unwrap_or(u64::MAX)))
}

/// Bytes of this process that lie in memory, where the system tells (Linux).
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}
