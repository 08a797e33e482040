//! Where heavy work for clients is done: off the thread that answers, one piece at a time.
//!
//! There are two lanes, for small and for large pieces, so that an ordinary photograph does not wait behind a picture of
//! a hundred megapixels. The thread that draws takes its turn in the same lanes when it decodes a job's pictures.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::failure::Failure;
use super::memory::{Held, Kind, Memory};

/// Work that needs at most this many bytes is small.
const SMALL_BYTES: u64 = 48 << 20;

/// See the module.
pub struct Room {
    memory: Arc<Memory>,
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

/// A turn in the room; dropping it lets the next one in.
pub struct Turn {
    _permit: OwnedSemaphorePermit,
    _held: Held,
}

impl Room {
    pub fn new(memory: Arc<Memory>) -> Self {
        Room { memory, small: Arc::new(Semaphore::new(1)), large: Arc::new(Semaphore::new(1)) }
    }

    /// The most bytes that one piece of work may need.
    pub fn most_bytes(&self) -> u64 {
        self.memory.share(Kind::Decoding).saturating_sub(SMALL_BYTES).max(self.memory.share(Kind::Decoding) / 2)
    }

    /// Waits for a turn for work that needs `n_bytes`. The caller has compared them with [`Room::most_bytes`].
    pub async fn turn(&self, n_bytes: u64) -> Result<Turn, Failure> {
        let lane =
            if n_bytes <= SMALL_BYTES.min(self.memory.share(Kind::Decoding) / 2) { &self.small } else { &self.large };
        let permit = Arc::clone(lane).acquire_owned().await.map_err(|_| fault())?;
        Ok(Turn { _permit: permit, _held: self.memory.count(Kind::Decoding, n_bytes) })
    }

    /// Does the work on another thread when its turn has come. Where nobody waits for it any more it is not begun; work
    /// that was begun ends, and keeps its turn until then.
    pub async fn work<T: Send + 'static>(
        &self,
        n_bytes: u64,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let turn = self.turn(n_bytes).await?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        done.await.map_err(|_| fault())
    }
}

/// Work that panicked.
fn fault() -> Failure {
    Failure::fault("the request could not be worked on")
}
