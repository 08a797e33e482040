//! What a download asks of the network, and how several requests go on together and are stopped at once.
//!
//! [`Http`] has one implementation a platform: `native` with threads, `web` with the browser's fetch. Whatever is still
//! under way when its future or reply is dropped is abandoned, which is how a cancel takes effect without waiting.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

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

    /// A number from 0 to 1 that differs from client to client, so that not all of them come back at the same moment.
    fn jitter(&self) -> f64;
}

/// Stops what was started with it. Clones stop the same.
#[derive(Clone, Default)]
pub struct Cancel(Rc<CancelState>);

#[derive(Default)]
struct CancelState {
    cancelled: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl Cancel {
    /// Stops at once.
    pub fn cancel(&self) {
        self.0.cancelled.set(true);
        self.0.waiting.take().into_iter().for_each(Waker::wake);
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
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|context| {
            if self.is_cancelled() {
                return Poll::Ready(Err(Error::Cancelled));
            }
            let polled = future.as_mut().poll(context);
            let mut waiting = self.0.waiting.borrow_mut();
            if polled.is_pending() && !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
            polled
        })
        .await
    }
}

/// Runs futures together until all are done or one fails; the others are dropped then.
///
/// # Errors
/// The first failure.
pub async fn all<'a, E>(futures: Vec<LocalFuture<'a, Result<(), E>>>) -> Result<(), E> {
    All(futures).await
}

struct All<'a, E>(Vec<LocalFuture<'a, Result<(), E>>>);

impl<E> Future for All<'_, E> {
    type Output = Result<(), E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), E>> {
        let mut i = 0;
        while i < self.0.len() {
            match self.0[i].as_mut().poll(context) {
                Poll::Ready(Ok(())) => drop(self.0.swap_remove(i)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => i += 1,
            }
        }
        if self.0.is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

/// Gives what the first of two futures gives; the other is dropped.
pub async fn first<T>(one: impl Future<Output = T>, other: impl Future<Output = T>) -> T {
    let (mut one, mut other) = (std::pin::pin!(one), std::pin::pin!(other));
    std::future::poll_fn(|context| match one.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(value),
        Poll::Pending => other.as_mut().poll(context),
    })
    .await
}

/// Wakes those who wait for something that others change.
#[derive(Default)]
pub struct Bell(RefCell<Vec<Waker>>);

impl Bell {
    /// Something changed.
    pub fn ring(&self) {
        self.0.take().into_iter().for_each(Waker::wake);
    }

    /// Waits until `condition` holds, looking again whenever something changed.
    pub async fn wait_until(&self, condition: impl Fn() -> bool) {
        std::future::poll_fn(|context| {
            if condition() {
                return Poll::Ready(());
            }
            self.0.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
