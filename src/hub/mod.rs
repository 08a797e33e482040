//! Which files a model needs and where they are: on disk, in the Hugging Face cache, in a store, or on the Hub.
//!
//! A [`Source`] lists a model's files and opens them. [`choose`] picks the files from a listing, [`RepoId`] names a
//! repository, [`address`] a file of one or anywhere on the web, [`remote`] finds it there, [`peek`] reads its header there, and
//! [`download`] brings it into a store: the browser's, which [`stored`] reads, its first files while the rest is on its way
//! ([`arrival`]), or natively the Hugging Face cache (`cache`), which [`folder`] reads. What is *in* the files is read by others:
//! the JSON by `model`, the tensors by [`crate::weights`].

pub mod address;
pub mod arrival;
#[cfg(all(not(target_arch = "wasm32"), feature = "cli"))]
pub mod cache;
pub mod choose;
pub mod download;
#[cfg(not(target_arch = "wasm32"))]
pub mod folder;
pub mod http;
mod layer;
pub mod listing;
pub mod memory;
#[cfg(all(not(target_arch = "wasm32"), feature = "cli"))]
pub mod native;
pub mod peek;
pub mod published;
pub mod remote;
mod repo;
pub mod retry;
pub mod stored;
#[cfg(target_arch = "wasm32")]
pub mod web;

use crate::error::Result;
use crate::graph::WeightSpec;
use crate::weights::{ByteSource, LocalFuture, Weights};

pub use address::{FileUrl, RepoFile};
pub use choose::{IndexTexts, Needs, Variant, choose_files, choose_present, index_files};
pub use layer::Layer;
pub use listing::ListedFile;
pub use repo::RepoId;

/// A part of a model: a folder of the repository, or `model_index.json` beside the folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Component {
    /// `model_index.json`, the list of the others.
    ModelIndex,
    /// `scheduler/scheduler_config.json`.
    Scheduler,
    /// The vocabulary of the first text encoder.
    Tokenizer,
    /// The vocabulary of XL's second text encoder.
    Tokenizer2,
    /// The first text encoder.
    TextEncoder,
    /// XL's second text encoder.
    TextEncoder2,
    /// The network that denoises.
    Unet,
    /// The network between pixels and latents.
    Vae,
    /// A tiny network from latents to pixels in place of the VAE's own half; no repository has it among its folders.
    VaeDecoder,
}

impl Component {
    /// The folder in the repository; empty for [`Component::ModelIndex`].
    #[must_use]
    pub fn folder(self) -> &'static str {
        match self {
            Component::ModelIndex => "",
            Component::Scheduler => "scheduler",
            Component::Tokenizer => "tokenizer",
            Component::Tokenizer2 => "tokenizer_2",
            Component::TextEncoder => "text_encoder",
            Component::TextEncoder2 => "text_encoder_2",
            Component::Unet => "unet",
            Component::Vae => "vae",
            Component::VaeDecoder => "vae_decoder",
        }
    }
}

/// One file that a model needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFile {
    /// The part of the model that it belongs to.
    pub component: Component,
    /// Its path in the repository, with `/` between folders.
    pub path: String,
    /// Its length, where the listing tells.
    pub bytes: Option<u64>,
    /// The SHA-256 of its bytes in lower-case hexadecimal, where the listing tells: on the Hub for weights.
    pub sha256: Option<String>,
    /// Whether it is weights by the name of an fp16 variant. A file without the name may hold 16-bit numbers, too; its
    /// header tells.
    pub f16: bool,
}

impl ModelFile {
    /// Whether the file holds tensors, not text.
    #[must_use]
    pub fn is_weights(&self) -> bool {
        self.path.ends_with(".safetensors") || self.path.ends_with(".gguf")
    }
}

/// A word that comes with a model beside its vocabulary: an embedding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedWord {
    /// Its trigger, as people are told of it.
    pub name: String,
    /// How it may be written in a prompt.
    pub spellings: Vec<String>,
    /// The file that it is from, for messages.
    pub file: String,
    /// How many vectors it has for each text encoder.
    pub n_vectors: usize,
    /// How wide they are, by text encoder.
    pub widths: Vec<usize>,
}

/// A place that has the files of one model.
pub trait Source {
    /// The files that the model needs, by component.
    ///
    /// # Errors
    /// Where the place cannot be read, or has no complete model.
    fn list<'a>(&'a self) -> LocalFuture<'a, Result<Vec<ModelFile>>>;

    /// Reads a whole text file of the repository.
    ///
    /// # Errors
    /// Where it is absent, cannot be read, is not UTF-8, or is too large to be a configuration.
    fn read_text<'a>(&'a self, path: &'a str) -> LocalFuture<'a, Result<String>>;

    /// Opens a file of the repository for reading at any place.
    ///
    /// # Errors
    /// Where it is absent or cannot be read.
    fn open<'a>(&'a self, path: &'a str) -> LocalFuture<'a, Result<Box<dyn ByteSource>>>;

    /// The tensors of a component. `files` is what [`Source::list`] gave, `wanted` the tensors that the component's graphs
    /// read, by diffusers' names: a place with another layout finds them under its own.
    ///
    /// # Errors
    /// Where a file of the component is absent, cannot be read, or is broken.
    fn weights<'a>(
        &'a self,
        component: Component,
        files: &'a [ModelFile],
        wanted: &'a [WeightSpec],
    ) -> LocalFuture<'a, Result<Weights>> {
        let _ = wanted;
        Box::pin(async move {
            let mut sources = Vec::new();
            for file in files.iter().filter(|file| file.component == component && file.is_weights()) {
                sources.push(self.open(&file.path).await?);
            }
            Weights::open(sources).await
        })
    }

    /// Waits until a file can be opened, where it is still on its way. `go_on` is asked now and then.
    ///
    /// # Errors
    /// [`crate::Error::Cancelled`] when `go_on` said so; where the file does not come.
    fn ready<'a>(&'a self, path: &'a str, go_on: &'a mut dyn FnMut() -> bool) -> LocalFuture<'a, Result<()>> {
        let _ = (path, go_on);
        Box::pin(async { Ok(()) })
    }

    /// The place in a few words, for messages and metadata.
    fn describe(&self) -> String;

    /// The words that come with the model. Their vectors, one word after another, are the last rows of the table of
    /// embeddings that [`Source::weights`] gives, whose height `wanted` says.
    fn words(&self) -> Vec<AddedWord> {
        Vec::new()
    }

    /// What is worth telling about the model before it is drawn with: one line each.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}
