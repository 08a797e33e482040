//! What a download asks of the network, and how several requests run together and stop at once.
//!
//! [`Http`] has one implementation a platform: `native` with threads, `web` with the browser's fetch. Dropping a future or a
//! reply abandons its request, so a cancel takes effect without waiting.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;

use event_listener::Event;
use futures_util::future::{Either, select};

use crate::error::{Error, Result};
use crate::store::LocalFuture;

/// A request for a file, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Get {
    /// The address.
    pub url: String,
    /// The first byte that is wanted and the byte after the last; everything where there is none.
    pub range: Option<(u64, u64)>,
    /// The access token. Platforms drop it where a redirect leads to another host.
    pub token: Option<String>,
}

impl Get {
    /// A request for everything at an address.
    #[must_use]
    pub fn whole(url: impl Into<String>, token: Option<&str>) -> Self {
        Get { url: url.into(), range: None, token: token.map(str::to_owned) }
    }
}

/// Why no answer came, or an answer broke off: the platform's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(pub String);

/// An answer whose head is there. Its body comes piece by piece.
pub trait Reply {
    /// The HTTP status.
    fn status(&self) -> u16;

    /// The address that answered, behind all redirects.
    fn url(&self) -> String;

    /// A header. In a browser, another host has to allow that it is read.
    fn header(&self, name: &str) -> Option<String>;

    /// The next bytes of the body, nothing after its end.
    fn next<'a>(&'a mut self) -> LocalFuture<'a, Result<Option<Vec<u8>>, Broken>>;
}

/// A platform's way to the network.
pub trait Http {
    /// Sends a request and waits for the head of the answer, whatever its status is.
    fn get<'a>(&'a self, request: &'a Get) -> LocalFuture<'a, Result<Box<dyn Reply>, Broken>>;

    /// Waits.
    fn sleep<'a>(&'a self, ms: u64) -> LocalFuture<'a, ()>;

    /// A number from 0 to 1 that differs from client to client, so that their retries are spread over time.
    fn jitter(&self) -> f64;

    /// Whether the platform knows that there is no network, so that repeating a request is of no use.
    fn is_offline(&self) -> bool {
        false
    }

    /// What may be wrong besides the network when a host cannot be reached: a page is not told that a host lets no other
    /// site read its files. Empty where the platform tells apart what fails.
    fn unreachable_hint(&self) -> &'static str {
        ""
    }
}

/// Stops what was started with it. Clones stop the same.
#[derive(Clone, Default)]
pub struct Cancel(Rc<CancelState>);

#[derive(Default)]
struct CancelState {
    cancelled: Cell<bool>,
    bell: Bell,
}

impl Cancel {
    /// Stops at once.
    pub fn cancel(&self) {
        self.0.cancelled.set(true);
        self.0.bell.ring();
    }

    /// Whether it was stopped.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.get()
    }

    /// Runs a future unless and until it is stopped.
    ///
    /// # Errors
    /// [`Error::Cancelled`], or what the future gives.
    pub async fn run<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
        let stopped = async {
            self.0.bell.wait_until(|| self.is_cancelled()).await;
            Err(Error::Cancelled)
        };
        first(stopped, future).await
    }
}

/// Runs futures together until all are done or one fails; the others are dropped then.
///
/// # Errors
/// The first failure.
pub async fn all<'a, E>(futures: Vec<LocalFuture<'a, Result<(), E>>>) -> Result<(), E> {
    futures_util::future::try_join_all(futures).await.map(drop)
}

/// The result of the first of two futures that ends; the other is dropped. `one` is asked first.
pub async fn first<T>(one: impl Future<Output = T>, other: impl Future<Output = T>) -> T {
    match select(std::pin::pin!(one), std::pin::pin!(other)).await {
        Either::Left((value, _)) | Either::Right((value, _)) => value,
    }
}

/// Wakes those who wait for a condition that others change.
#[derive(Default)]
pub struct Bell(Event);

impl Bell {
    /// Something changed.
    pub fn ring(&self) {
        self.0.notify(usize::MAX);
    }

    /// Waits until `condition` holds, asking again after each [`Bell::ring`].
    pub async fn wait_until(&self, condition: impl Fn() -> bool) {
        loop {
            let rung = self.0.listen();
            if condition() {
                return;
            }
            rung.await;
        }
    }
}
