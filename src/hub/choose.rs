//! Picks the files that a model needs from the listing of a diffusers repository, which often has the same weights
//! four times over (fp16 and f32, safetensors and pickle) and single-file checkpoints besides.
//!
//! It deliberately looks at names only. Weights that are split over several files name themselves as parts of a whole
//! (`-00001-of-00002`), so the index file that repeats it is not needed and cannot contradict it. Nothing but
//! safetensors is ever chosen, since a pickle can run code.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Component, ListedFile, ModelFile};
use crate::error::{Error, Result};
use crate::model::ModelIndex;

/// The most files that one component may be split into.
const MAX_SHARDS: usize = 1000;

/// What a model consists of, beyond what all have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Whether there is a second text encoder with its tokenizer, as in XL.
    pub second_encoder: bool,
}

impl Needs {
    /// Reads `model_index.json`; `file` is its name in messages.
    ///
    /// # Errors
    /// [`Error::Config`] where it is not JSON or lists no UNet, VAE, text encoder or tokenizer.
    pub fn from_model_index(file: &str, json: &str) -> Result<Self> {
        let config = |reason: String| Error::Config { file: file.to_owned(), reason };
        let index: Value = serde_json::from_str(json).map_err(|error| config(error.to_string()))?;
        // What it is comes before what it lacks.
        if index.get("_class_name").is_some_and(Value::is_string) {
            ModelIndex::from_json(json, file)?;
        }
        // A part is a pair of a library and a class, and a part that was left out is a pair of nulls.
        let has = |part: &str| index.get(part).and_then(|pair| pair.get(1)).is_some_and(Value::is_string);
        for part in ["unet", "vae", "text_encoder", "tokenizer", "scheduler"] {
            if !has(part) {
                let class = index.get("_class_name").and_then(Value::as_str).unwrap_or("a pipeline without a name");
                return Err(config(format!("{class} has no {part}, so it is no Stable Diffusion 1, 2 or XL")));
            }
        }
        if has("text_encoder_2") != has("tokenizer_2") {
            return Err(config("it has only one of text_encoder_2 and tokenizer_2".to_owned()));
        }
        Ok(Needs { second_encoder: has("text_encoder_2") })
    }

    fn components(self) -> Vec<Component> {
        use Component::*;
        let mut components = vec![ModelIndex, Scheduler, Tokenizer, TextEncoder, Unet, Vae];
        if self.second_encoder {
            components.extend([Tokenizer2, TextEncoder2]);
        }
        components.sort();
        components
    }
}

/// Picks the files of a model from everything that a repository or folder has.
///
/// Of weights, the fp16 variant is taken where `prefer_f16` and there is one, else the plain files, else the fp16
/// variant after all; one file before the same in parts.
///
/// # Errors
/// [`Error::Hub`] for `place` that names the first file that is missing and what was found in its folder.
pub fn choose_files(place: &str, all: &[ListedFile], needs: Needs, prefer_f16: bool) -> Result<Vec<ModelFile>> {
    let choice = Choice { place, all, prefer_f16 };
    let mut files = Vec::new();
    for component in needs.components() {
        match component {
            Component::ModelIndex => files.push(choice.required(component, "model_index.json")?),
            Component::Scheduler => files.push(choice.required(component, "scheduler_config.json")?),
            Component::Tokenizer | Component::Tokenizer2 => files.extend(choice.tokenizer(component)?),
            Component::TextEncoder | Component::TextEncoder2 => {
                files.push(choice.required(component, "config.json")?);
                files.extend(choice.weights(component, "model")?);
            }
            Component::Unet | Component::Vae => {
                files.push(choice.required(component, "config.json")?);
                files.extend(choice.weights(component, "diffusion_pytorch_model")?);
            }
        }
    }
    Ok(files)
}

struct Choice<'a> {
    place: &'a str,
    all: &'a [ListedFile],
    prefer_f16: bool,
}

impl Choice<'_> {
    /// The files right in a component's folder, by name.
    fn folder(&self, component: Component) -> impl Iterator<Item = (&str, &ListedFile)> {
        self.all.iter().filter_map(move |file| {
            let name = match component.folder() {
                "" => &file.path,
                folder => file.path.strip_prefix(folder)?.strip_prefix('/')?,
            };
            (!name.contains('/')).then_some((name, file))
        })
    }

    fn find(&self, component: Component, name: &str) -> Option<ModelFile> {
        self.folder(component).find(|(found, _)| *found == name).map(|(_, file)| chosen(component, file, false))
    }

    fn required(&self, component: Component, name: &str) -> Result<ModelFile> {
        self.find(component, name).ok_or_else(|| self.missing(component, name))
    }

    /// The vocabulary as two files, or as the one file that transformers 5 saves instead; besides, what the special
    /// tokens are.
    fn tokenizer(&self, component: Component) -> Result<Vec<ModelFile>> {
        let mut files = match self.find(component, "tokenizer.json") {
            Some(whole) if self.find(component, "vocab.json").is_none() => vec![whole],
            _ => vec![self.required(component, "vocab.json")?, self.required(component, "merges.txt")?],
        };
        let optional = ["tokenizer_config.json", "special_tokens_map.json"];
        files.extend(optional.iter().filter_map(|name| self.find(component, name)));
        Ok(files)
    }

    fn weights(&self, component: Component, stem: &str) -> Result<Vec<ModelFile>> {
        // Parts of the same whole are together: the same variant, spelt the same way, of the same number of parts.
        let mut wholes: BTreeMap<(WeightsKind, usize), BTreeMap<usize, &ListedFile>> = BTreeMap::new();
        for (name, file) in self.folder(component) {
            if let Some(part) = Part::parse(name, stem) {
                wholes.entry((part.kind, part.n_parts)).or_default().insert(part.part, file);
            }
        }
        let rank = |kind: WeightsKind| kind.is_f16() != self.prefer_f16;
        let complete = wholes.iter().filter(|((_, n_parts), parts)| parts.len() == *n_parts);
        match complete.min_by_key(|((kind, n_parts), _)| (rank(*kind), *n_parts)) {
            Some(((kind, _), parts)) => Ok(parts.values().map(|file| chosen(component, file, kind.is_f16())).collect()),
            None => Err(match wholes.iter().next() {
                Some(((kind, n_parts), parts)) => {
                    let lost = (1..=*n_parts).find(|part| !parts.contains_key(part)).unwrap_or_default();
                    self.missing(component, &kind.spell(stem, lost, *n_parts))
                }
                None => {
                    let f16 = if self.prefer_f16 { ".fp16" } else { "" };
                    self.missing(component, &format!("{stem}{f16}.safetensors"))
                }
            }),
        }
    }

    fn missing(&self, component: Component, name: &str) -> Error {
        let mut found: Vec<&str> = self.folder(component).map(|(name, _)| name).collect();
        found.sort_unstable();
        let n_more = found.len().saturating_sub(12);
        found.truncate(12);
        let mut found = if found.is_empty() { "nothing".to_owned() } else { found.join(", ") };
        if n_more > 0 {
            found.push_str(&format!(" and {n_more} more"));
        }
        let (path, folder) = match component.folder() {
            "" => (name.to_owned(), "at the top"),
            folder => (format!("{folder}/{name}"), folder),
        };
        let pickles_only = name.ends_with(".safetensors") && found.contains(".bin") && !found.contains(".safetensors");
        let hint = if pickles_only { "; its weights are pickles, which can run code and are not read" } else { "" };
        Error::Hub { repo: self.place.to_owned(), reason: format!("{path} is missing; {folder} has {found}{hint}") }
    }
}

fn chosen(component: Component, file: &ListedFile, f16: bool) -> ModelFile {
    ModelFile { component, path: file.path.clone(), bytes: file.bytes, sha256: file.sha256.clone(), f16 }
}

/// The ways in which a file of weights is named, between its stem and `.safetensors`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum WeightsKind {
    /// `model.safetensors`, `model-00001-of-00002.safetensors`.
    Plain,
    /// `model.fp16.safetensors`, `model.fp16-00001-of-00002.safetensors`.
    F16,
    /// `model-00001-of-00002.fp16.safetensors`, which diffusers wrote until 2024.
    F16Last,
}

impl WeightsKind {
    fn is_f16(self) -> bool {
        self != WeightsKind::Plain
    }

    fn spell(self, stem: &str, part: usize, n_parts: usize) -> String {
        let (before, after) = match self {
            WeightsKind::Plain => ("", ""),
            WeightsKind::F16 => (".fp16", ""),
            WeightsKind::F16Last => ("", ".fp16"),
        };
        format!("{stem}{before}-{part:05}-of-{n_parts:05}{after}.safetensors")
    }
}

/// A file of weights, read from its name; a file that is whole is part 1 of 1.
struct Part {
    kind: WeightsKind,
    part: usize,
    n_parts: usize,
}

impl Part {
    fn parse(name: &str, stem: &str) -> Option<Part> {
        let rest = name.strip_prefix(stem)?.strip_suffix(".safetensors")?;
        let (rest, is_f16_first) = rest.strip_prefix(".fp16").map_or((rest, false), |rest| (rest, true));
        let (rest, is_f16_last) = rest.strip_suffix(".fp16").map_or((rest, false), |rest| (rest, true));
        let kind = match (is_f16_first, is_f16_last) {
            (false, false) => WeightsKind::Plain,
            (true, false) => WeightsKind::F16,
            (false, true) => WeightsKind::F16Last,
            (true, true) => return None,
        };
        if rest.is_empty() {
            return Some(Part { kind, part: 1, n_parts: 1 });
        }
        let (part, n_parts) = rest.strip_prefix('-')?.split_once("-of-")?;
        let number = |text: &str| {
            let is_number = text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
            if is_number { text.parse::<usize>().ok() } else { None }
        };
        let (part, n_parts) = (number(part)?, number(n_parts)?);
        ((1..=n_parts).contains(&part) && n_parts <= MAX_SHARDS).then_some(Part { kind, part, n_parts })
    }
}
