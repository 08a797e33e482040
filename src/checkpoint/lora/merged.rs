//! A model with LoRAs in its weights, in the place of the model: to write it anew.

use std::rc::Rc;

use crate::error::Result;
use crate::graph::WeightSpec;
use crate::hub::{Component, ModelFile, Source};
use crate::pipeline::ActiveLoras;
use crate::weights::{ByteSource, LocalFuture, Weights};

/// See the module.
pub struct WithLoras {
    base: Rc<dyn Source>,
    loras: ActiveLoras,
}

impl WithLoras {
    /// The model with these in it.
    #[must_use]
    pub fn new(base: Rc<dyn Source>, loras: ActiveLoras) -> Self {
        WithLoras { base, loras }
    }
}

impl Source for WithLoras {
    fn list<'a>(&'a self) -> LocalFuture<'a, Result<Vec<ModelFile>>> {
        self.base.list()
    }

    fn read_text<'a>(&'a self, path: &'a str) -> LocalFuture<'a, Result<String>> {
        self.base.read_text(path)
    }

    fn open<'a>(&'a self, path: &'a str) -> LocalFuture<'a, Result<Box<dyn ByteSource>>> {
        self.base.open(path)
    }

    fn weights<'a>(
        &'a self,
        component: Component,
        files: &'a [ModelFile],
        wanted: &'a [WeightSpec],
    ) -> LocalFuture<'a, Result<Weights>> {
        Box::pin(async move {
            let weights = self.base.weights(component, files, wanted).await?;
            Ok(weights.merged_in_own_type(self.loras.changes(component)))
        })
    }

    fn ready<'a>(&'a self, path: &'a str, go_on: &'a mut dyn FnMut() -> bool) -> LocalFuture<'a, Result<()>> {
        self.base.ready(path, go_on)
    }

    fn describe(&self) -> String {
        self.base.describe()
    }

    fn notes(&self) -> Vec<String> {
        self.base.notes()
    }
}
