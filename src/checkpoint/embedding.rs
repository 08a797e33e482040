//! Embeddings (textual inversion): vectors of a new word for a model's text encoders. A file of them is read whole, and laid
//! over a model, whose tables of embeddings it makes longer.
//!
//! Which words a prompt has, and their ids, is the business of [`crate::tokenizer`] and [`crate::pipeline`].

use std::rc::Rc;
use std::sync::Arc;

use super::foreign::{self, Format};
use super::identity::{Identity, Kind};
use crate::error::{Error, Result};
use crate::graph::WeightSpec;
use crate::hub::{AddedWord, Component, ModelFile, Source};
use crate::store::sha256_hex;
use crate::weights::{ByteSource, Decoded, Files, LocalFuture, TensorSource, Weights};

/// The longest file that is read: a thousand vectors of XL in f64 are a third of it.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// The most values that one text encoder's vectors have.
const MAX_VALUES: usize = 4 << 20;

/// The table that vectors are added to.
const TABLE: &str = "text_model.embeddings.token_embedding.weight";

/// Names that tensors of embeddings have whatever their word is. Any other is the word, as diffusers writes it.
const NAMES: [&str; 6] = ["emb_params", "clip_l", "clip_g", "weight", "embedding", "string_to_param.*"];

/// Vectors of a new word.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    name: String,
    spellings: Vec<String>,
    file: String,
    sha256: String,
    n_vectors: usize,
    /// By text encoder: how wide they are, and their values, row by row.
    vectors: Vec<(usize, Arc<[f32]>)>,
}

/// Where an embedding that is no pickle can be had from one that is.
const RESAVE: &str = "take the .safetensors file of this embedding, or save its vectors as one: in Python \
                      torch.load(FILE, weights_only=True)[\"string_to_param\"][\"*\"] under the name emb_params with \
                      safetensors.torch.save_file";

impl Embedding {
    /// Reads a file. `name` is its trigger: the file's name without its ending.
    ///
    /// # Errors
    /// [`Error::Hub`] with what the file is and what would work; [`Error::Safetensors`] for a broken one; what it returns
    /// when it cannot be read.
    pub async fn open(name: &str, source: Box<dyn ByteSource>) -> Result<Self> {
        let file = source.name().to_owned();
        let refuse = |reason: String| Err(Error::Hub { repo: file.clone(), reason });
        if Format::of_file(&*source).await? == Format::Pickle {
            return refuse(format!(
                "it is a Python pickle, which can run code when it is opened and so is not read: {RESAVE}"
            ));
        }
        foreign::refuse(&*source).await?;
        let n_bytes = source.len();
        let sha256 = match n_bytes <= MAX_FILE_BYTES {
            true => sha256_hex(&source.read(0, n_bytes as usize).await?),
            false => String::new(),
        };
        let files = Rc::new(Files::open(vec![source]).await?);
        let identity = Identity::of(&*files, files.metadata());
        let names = files.names();
        let of_names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let parts = match names[..] {
            ["clip_g", "clip_l"] => of_names(&["clip_l", "clip_g"]),
            ["clip_g"] => {
                return refuse("it has vectors for XL's second text encoder (clip_g) alone: clip_l is missing".into());
            }
            _ if names.contains(&"emb_params") => of_names(&["emb_params"]),
            [only] if identity.kind == Kind::Embedding || is_vectors(&files, only) => of_names(&[only]),
            _ if identity.kind == Kind::Embedding || identity.kind == Kind::Unknown => {
                return refuse(format!(
                    "it is no embedding that is known: its {} tensors are neither emb_params, nor clip_l and clip_g, nor one \
                     by the name of a word",
                    names.len()
                ));
            }
            _ => {
                let advice = if identity.kind == Kind::Lora { ": pass it with --lora" } else { "" };
                return refuse(format!("this is a {}, not an embedding{advice}", identity.kind.name()));
            }
        };
        if sha256.is_empty() {
            return refuse(format!(
                "it has {n_bytes} bytes, more than the {MAX_FILE_BYTES} that are read of an embedding"
            ));
        }
        let weights = Weights::of(Rc::new(Decoded::open(Rc::clone(&files) as Rc<dyn TensorSource>).await?));
        let mut vectors = Vec::new();
        for part in &parts {
            vectors.push(read(&weights, part).await?);
        }
        let n_vectors = vectors.first().map_or(0, |(width, values)| values.len() / width);
        if let Some((width, values)) = vectors.iter().find(|(width, values)| values.len() / width != n_vectors) {
            return refuse(format!(
                "it has {n_vectors} vectors for one text encoder and {} for the other",
                values.len() / width
            ));
        }
        Embedding::new(name, &file, vectors, sha256, parts.first().filter(|part| !NAMES.contains(&part.as_str())))
    }

    /// Vectors that come along with a LoRA (`bundle_emb`): by text encoder, how wide they are and their values.
    ///
    /// # Errors
    /// [`Error::Hub`] for a name without a character.
    pub fn of_vectors(name: &str, file: &str, vectors: Vec<(usize, Arc<[f32]>)>) -> Result<Self> {
        let bytes: Vec<u8> =
            vectors.iter().flat_map(|(_, values)| bytemuck::cast_slice::<f32, u8>(values).to_vec()).collect();
        Embedding::new(name, file, vectors, sha256_hex(&bytes), None)
    }

    fn new(
        name: &str,
        file: &str,
        vectors: Vec<(usize, Arc<[f32]>)>,
        sha256: String,
        token: Option<&String>,
    ) -> Result<Self> {
        let name = name.trim();
        if name.is_empty() {
            return Err(Error::Hub {
                repo: file.to_owned(),
                reason: "its name has no character to write in a prompt".into(),
            });
        }
        let n_vectors = vectors.first().map_or(0, |(width, values)| values.len() / width);
        let spellings = [name].into_iter().chain(token.map(|token| token.trim())).map(str::to_owned).collect();
        Ok(Embedding { name: name.to_owned(), spellings, file: file.to_owned(), sha256, n_vectors, vectors })
    }

    /// The trigger: what stands for it in a prompt.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The SHA-256 of its file in lower-case hexadecimal.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    fn word(&self) -> AddedWord {
        AddedWord {
            name: self.name.clone(),
            spellings: self.spellings.clone(),
            file: self.file.clone(),
            n_vectors: self.n_vectors,
            widths: self.vectors.iter().map(|(width, _)| *width).collect(),
        }
    }
}

/// Whether a tensor could be vectors, of a width that no published model has.
fn is_vectors(files: &Files, name: &str) -> bool {
    files.tensor(name).is_some_and(|tensor| matches!(tensor.shape, [_] | [1..=1000, _]))
}

/// The vectors of a tensor: \[D\] or \[n,D\].
async fn read(weights: &Weights, name: &str) -> Result<(usize, Arc<[f32]>)> {
    let tensor = weights.get(name).map(|tensor| (tensor.file.to_owned(), tensor.shape.to_vec()));
    let (file, shape) = tensor.unwrap_or_default();
    let refuse = |reason: String| Err(Error::Hub { repo: file.clone(), reason });
    let (n, width) = match shape[..] {
        [width] => (1, width),
        [n, width] => (n, width),
        _ => (0, 0),
    };
    if n == 0 || width == 0 || n.checked_mul(width).is_none_or(|n| n > MAX_VALUES) {
        return refuse(format!("{name} of shape {shape:?} is not vectors of a word: [width] and [vectors, width] are"));
    }
    let values = weights.read_f32(name).await?;
    if values.iter().any(|value| !value.is_finite()) {
        return refuse(format!("{name} has a value that is not finite"));
    }
    Ok((width, values.into()))
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

impl Source for WithEmbeddings {
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
        let idx = match component {
            Component::TextEncoder => 0,
            Component::TextEncoder2 => 1,
            _ => return self.base.weights(component, files, wanted),
        };
        Box::pin(async move {
            let weights = self.base.weights(component, files, wanted).await?;
            let table = wanted.iter().find(|spec| spec.name == TABLE);
            Ok(match table {
                Some(table) => weights.with_rows(TABLE, table.shape[0], self.rows(idx)),
                None => weights,
            })
        })
    }

    fn ready<'a>(&'a self, path: &'a str, go_on: &'a mut dyn FnMut() -> bool) -> LocalFuture<'a, Result<()>> {
        self.base.ready(path, go_on)
    }

    fn describe(&self) -> String {
        self.base.describe()
    }

    fn words(&self) -> Vec<AddedWord> {
        self.base.words().into_iter().chain(self.embeddings.iter().map(Embedding::word)).collect()
    }

    fn notes(&self) -> Vec<String> {
        self.base.notes()
    }
}
