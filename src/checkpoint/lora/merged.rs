//! A model with LoRAs in its weights, in the place of the model: to write it anew.

use std::rc::Rc;

use crate::error::Result;
use crate::graph::WeightSpec;
use crate::hub::{Component, Layer, ModelFile, Source};
use crate::pipeline::ActiveLoras;
use crate::weights::{LocalFuture, Weights};

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

impl Layer for WithLoras {
    fn base(&self) -> &dyn Source {
        &*self.base
    }

    fn weights<'a>(
        &'a self,
        component: Component,
        files: &'a [ModelFile],
        wanted: &'a [WeightSpec],
    ) -> LocalFuture<'a, Result<Weights>> {
        Box::pin(async move {
            let weights = self.base.weights(component, files, wanted).await?;
            Ok(weights.merged(self.loras.changes(component)))
        })
    }
}
