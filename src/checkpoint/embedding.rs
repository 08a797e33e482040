//! Reads files of embeddings (textual inversion): vectors of a new word for a model's text encoders. Whether they fit a model
//! is not known here.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::foreign::{self, Format};
use super::identity::{Identity, Kind};
use super::lora::LoraFile;
use crate::error::{Error, Result};
use crate::pipeline::Embedding;
use crate::weights::{ByteSource, Decoded, Files, TensorSource, Weights};

/// The most values that one text encoder's vectors have.
const MAX_VALUES: usize = 4 << 20;

/// Names that tensors of embeddings have whatever their word is. Any other is the word, as diffusers writes it.
const NAMES: [&str; 6] = ["emb_params", "clip_l", "clip_g", "weight", "embedding", "string_to_param.*"];

/// Where an embedding that is no pickle can be had from one that is.
const RESAVE: &str = "take the .safetensors file of this embedding, or save its vectors as one: in Python \
                      torch.load(FILE, weights_only=True)[\"string_to_param\"][\"*\"] under the name emb_params with \
                      safetensors.torch.save_file";

/// Reads a file. `name` is its trigger: the file's name without its ending; `sha256` that of the file, where it was computed.
///
/// # Errors
/// [`Error::Hub`] with what the file is and what would work; [`Error::Safetensors`] for a broken one; what it returns
/// when it cannot be read.
pub async fn open(name: &str, source: Box<dyn ByteSource>, sha256: Option<String>) -> Result<Embedding> {
    let file = source.name().to_owned();
    let refuse = |reason: String| Err(Error::Hub { repo: file.clone(), reason });
    if Format::of_file(&*source).await? == Format::Pickle {
        return refuse(format!(
            "it is a Python pickle, which can run code when it is opened and so is not read: {RESAVE}"
        ));
    }
    foreign::refuse(&*source).await?;
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
    let weights = Weights::of(Rc::new(Decoded::open(Rc::clone(&files) as Rc<dyn TensorSource>).await?));
    let mut vectors = Vec::new();
    for part in &parts {
        vectors.push(read(&weights, part).await?);
    }
    check_even(&file, &vectors)?;
    let name = name.trim();
    if name.is_empty() {
        return refuse("its name has no character to write in a prompt".into());
    }
    let token = parts.first().map(|part| part.trim()).filter(|part| !NAMES.contains(part) && !part.is_empty());
    let spellings = [name].into_iter().chain(token).map(str::to_owned).collect();
    Ok(Embedding { name: name.to_owned(), spellings, file, sha256, vectors })
}

/// The embeddings that come along in a LoRA's file (`bundle_emb`).
///
/// # Errors
/// As [`open`], of each.
pub async fn of_lora(lora: &LoraFile) -> Result<Vec<Embedding>> {
    let mut words: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for (word, part, tensor) in lora.embeddings() {
        words.entry(word).or_default().insert(part, tensor);
    }
    let mut embeddings = Vec::new();
    for (word, parts) in words {
        let tensors = match (parts.get("clip_l"), parts.get("clip_g")) {
            (Some(first), Some(second)) => vec![*first, *second],
            _ => parts.into_values().take(1).collect(),
        };
        let mut vectors = Vec::new();
        for tensor in tensors {
            vectors.push(read(lora.tensors(), tensor).await?);
        }
        let (name, file) = (word.to_owned(), lora.file().to_owned());
        check_even(&file, &vectors)?;
        embeddings.push(Embedding { spellings: vec![name.clone()], name, file, sha256: None, vectors });
    }
    Ok(embeddings)
}

/// Whether there are as many vectors for each text encoder.
fn check_even(file: &str, vectors: &[(usize, Arc<[f32]>)]) -> Result<()> {
    let n = |(width, values): &(usize, Arc<[f32]>)| values.len() / width.max(&1);
    let first = vectors.first().map_or(0, n);
    match vectors.iter().map(n).find(|other| *other != first) {
        None => Ok(()),
        Some(other) => {
            let reason = format!("it has {first} vectors for one text encoder and {other} for the other");
            Err(Error::Hub { repo: file.to_owned(), reason })
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
