//! A model that is on its way into a store: its first files can be used while the rest comes.
//!
//! The download announces every file that is complete and verified; readers wait for that, so nothing unverified is read.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::http::Bell;
use crate::error::{Error, Result};
use crate::store::Manifest;

/// The files of one download that are complete. The download announces them, readers wait.
#[derive(Default)]
pub struct Arrival {
    state: RefCell<State>,
    bell: Bell,
}

#[derive(Default)]
struct State {
    /// The files of the download; known once it has begun.
    manifest: Option<Manifest>,
    complete: BTreeSet<String>,
    /// Why the download ended.
    failure: Option<String>,
}

impl Arrival {
    /// The download begins; some files of the manifest may be complete already.
    pub(super) fn begin(&self, manifest: &Manifest) {
        let mut state = self.state.borrow_mut();
        state.complete = manifest.files.iter().filter(|file| file.complete).map(|file| file.path.clone()).collect();
        state.manifest = Some(manifest.clone());
        drop(state);
        self.bell.ring();
    }

    /// A file is complete and verified.
    pub(super) fn came(&self, path: &str) {
        self.state.borrow_mut().complete.insert(path.to_owned());
        self.bell.ring();
    }

    /// The download failed; all who wait get this reason.
    pub fn fail(&self, reason: &Error) {
        self.state.borrow_mut().failure = Some(reason.to_string());
        self.bell.ring();
    }

    /// Makes all who wait ask `go_on` again.
    pub fn nudge(&self) {
        self.bell.ring();
    }

    /// Waits until the list of files is known.
    ///
    /// # Errors
    /// [`Error::Hub`] when the download ended before.
    pub async fn manifest(&self) -> Result<Manifest> {
        self.bell.wait_until(|| self.state.borrow().manifest.is_some() || self.is_over()).await;
        let state = self.state.borrow();
        state.manifest.clone().ok_or_else(|| self.ended("the model", &state))
    }

    /// Waits until a file is complete. `go_on` is asked after each file and each [`Arrival::nudge`].
    ///
    /// # Errors
    /// [`Error::Hub`] when the download ended without it; [`Error::Cancelled`] when `go_on` said so.
    pub async fn file(&self, path: &str, go_on: &mut dyn FnMut() -> bool) -> Result<()> {
        let go_on = RefCell::new(go_on);
        let is_there = || self.state.borrow().complete.contains(path);
        let stopped = std::cell::Cell::new(false);
        let wait = || {
            if is_there() || self.is_over() {
                return true;
            }
            stopped.set(!(go_on.borrow_mut())());
            stopped.get()
        };
        self.bell.wait_until(wait).await;
        if is_there() {
            return Ok(());
        }
        if stopped.get() { Err(Error::Cancelled) } else { Err(self.ended(path, &self.state.borrow())) }
    }

    fn is_over(&self) -> bool {
        self.state.borrow().failure.is_some()
    }

    fn ended(&self, what: &str, state: &State) -> Error {
        let why = state.failure.as_deref().unwrap_or("it ended");
        Error::Hub {
            repo: state.manifest.as_ref().map_or_else(|| "download".to_owned(), |manifest| manifest.model.clone()),
            reason: format!("{what} did not come ({why}): go on downloading, and load the model again"),
        }
    }
}
