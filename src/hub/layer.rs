//! Models that stand over another one and change a part of it: other weights, more words, another configuration.

use super::{AddedWord, Component, ModelFile, Source};
use crate::error::Result;
use crate::graph::WeightSpec;
use crate::weights::{ByteSource, LocalFuture, Weights};

/// A [`Source`] over another one. What it does not say itself is the other's.
pub trait Layer {
    /// The one below.
    fn base(&self) -> &dyn Source;

    /// See [`Source::list`].
    ///
    /// # Errors
    /// As there.
    fn list<'a>(&'a self) -> LocalFuture<'a, Result<Vec<ModelFile>>> {
        self.base().list()
    }

    /// See [`Source::read_text`].
    ///
    /// # Errors
    /// As there.
    fn read_text<'a>(&'a self, path: &'a str) -> LocalFuture<'a, Result<String>> {
        self.base().read_text(path)
    }

    /// See [`Source::open`].
    ///
    /// # Errors
    /// As there.
    fn open<'a>(&'a self, path: &'a str) -> LocalFuture<'a, Result<Box<dyn ByteSource>>> {
        self.base().open(path)
    }

    /// See [`Source::weights`].
    ///
    /// # Errors
    /// As there.
    fn weights<'a>(
        &'a self,
        component: Component,
        files: &'a [ModelFile],
        wanted: &'a [WeightSpec],
    ) -> LocalFuture<'a, Result<Weights>> {
        self.base().weights(component, files, wanted)
    }

    /// See [`Source::ready`].
    ///
    /// # Errors
    /// As there.
    fn ready<'a>(&'a self, path: &'a str, go_on: &'a mut dyn FnMut() -> bool) -> LocalFuture<'a, Result<()>> {
        self.base().ready(path, go_on)
    }

    /// See [`Source::words`].
    fn words(&self) -> Vec<AddedWord> {
        self.base().words()
    }
}

impl<L: Layer> Source for L {
    fn list<'a>(&'a self) -> LocalFuture<'a, Result<Vec<ModelFile>>> {
        Layer::list(self)
    }

    fn read_text<'a>(&'a self, path: &'a str) -> LocalFuture<'a, Result<String>> {
        Layer::read_text(self, path)
    }

    fn open<'a>(&'a self, path: &'a str) -> LocalFuture<'a, Result<Box<dyn ByteSource>>> {
        Layer::open(self, path)
    }

    fn weights<'a>(
        &'a self,
        component: Component,
        files: &'a [ModelFile],
        wanted: &'a [WeightSpec],
    ) -> LocalFuture<'a, Result<Weights>> {
        Layer::weights(self, component, files, wanted)
    }

    fn ready<'a>(&'a self, path: &'a str, go_on: &'a mut dyn FnMut() -> bool) -> LocalFuture<'a, Result<()>> {
        Layer::ready(self, path, go_on)
    }

    fn describe(&self) -> String {
        self.base().describe()
    }

    fn words(&self) -> Vec<AddedWord> {
        Layer::words(self)
    }

    fn notes(&self) -> Vec<String> {
        self.base().notes()
    }
}
