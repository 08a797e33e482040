//! Embeddings (textual inversion): vectors of new words for a model's text encoders, laid over the model, whose tables of
//! embeddings they make longer.
//!
//! Their files are read in [`crate::checkpoint`]. Which words a prompt has, and their ids, is the business of
//! [`crate::tokenizer`] and [`super::ModelConfigs`].

use std::rc::Rc;
use std::sync::Arc;

use crate::error::Result;
use crate::graph::WeightSpec;
use crate::hub::{AddedWord, Component, Layer, ModelFile, Source};
use crate::model::clip::TOKEN_TABLE;
use crate::weights::{LocalFuture, Weights};

/// Vectors of a new word.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// Its trigger, as people are told of it: the file's name without its ending.
    pub name: String,
    /// How it may be written in a prompt.
    pub spellings: Vec<String>,
    /// The file, for messages.
    pub file: String,
    /// The SHA-256 of the file in lower-case hexadecimal, where it was computed.
    pub sha256: Option<String>,
    /// By text encoder: how wide the vectors are, and their values, row by row; of as many vectors for each.
    pub vectors: Vec<(usize, Arc<[f32]>)>,
}

impl Embedding {
    fn word(&self) -> AddedWord {
        AddedWord {
            name: self.name.clone(),
            spellings: self.spellings.clone(),
            file: self.file.clone(),
            n_vectors: self.vectors.first().map_or(0, |(width, values)| values.len() / width.max(&1)),
            widths: self.vectors.iter().map(|(width, _)| *width).collect(),
        }
    }
}

/// A model with embeddings.
pub struct WithEmbeddings {
    base: Rc<dyn Source>,
    embeddings: Vec<Embedding>,
}

impl WithEmbeddings {
    /// The model as it is where there are none. Whether they fit is found out when its configs are read.
    #[must_use]
    pub fn over(base: Rc<dyn Source>, embeddings: &[Embedding]) -> Rc<dyn Source> {
        if embeddings.is_empty() { base } else { Rc::new(WithEmbeddings { base, embeddings: embeddings.to_vec() }) }
    }

    /// The vectors of all words for a text encoder, one after another.
    fn rows(&self, idx: usize) -> Arc<[f32]> {
        self.embeddings
            .iter()
            .filter_map(|embedding| embedding.vectors.get(idx))
            .flat_map(|(_, v)| v.iter().copied())
            .collect()
    }
}

impl Layer for WithEmbeddings {
    fn base(&self) -> &dyn Source {
        &*self.base
    }

    fn weights<'a>(
        &'a self,
        component: Component,
        files: &'a [ModelFile],
        wanted: &'a [WeightSpec],
    ) -> LocalFuture<'a, Result<Weights>> {
        let idx = match component {
            Component::TextEncoder => 0,
            Component::TextEncoder2 => 1,
            _ => return self.base.weights(component, files, wanted),
        };
        Box::pin(async move {
            let weights = self.base.weights(component, files, wanted).await?;
            let table = wanted.iter().find(|spec| spec.name == TOKEN_TABLE);
            Ok(match table {
                Some(table) => weights.with_rows(TOKEN_TABLE, table.shape[0], self.rows(idx)),
                None => weights,
            })
        })
    }

    fn words(&self) -> Vec<AddedWord> {
        self.base.words().into_iter().chain(self.embeddings.iter().map(Embedding::word)).collect()
    }
}
