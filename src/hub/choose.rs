//! Picks the files that a model needs from the listing of a diffusers repository, which often has the same weights
//! four times over (fp16 and f32, safetensors and pickle) and single-file checkpoints besides.
//!
//! The rules are those of diffusers' and transformers' `from_pretrained`. A component of diffusers (UNet, VAE) with an
//! index file (`*.safetensors.index.json`) is the parts that the index names; a text encoder is the whole file where
//! there is one, and the parts of its index otherwise. Parts without an index are put together by the numbers in their
//! names. Nothing but safetensors is ever chosen, since a pickle can run code.
//!
//! It reads no file: the texts of index files are given to it, after [`index_files`] said which those are.

mod part;
mod variant;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use self::part::{MAX_SHARDS, Part, Spelling};
use self::variant::FP16;
use super::{Component, ListedFile, ModelFile};
use crate::error::{Error, Result};
use crate::json;
use crate::model::ModelIndex;

pub use variant::Variant;

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
        let index = json::value(json).map_err(|error| config(error.to_string()))?;
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

/// The texts of index files, by path.
pub type IndexTexts = BTreeMap<String, String>;

/// The index files whose texts [`choose_files`] needs, as paths in the repository.
#[must_use]
pub fn index_files(all: &[ListedFile], needs: Needs, variant: &Variant) -> Vec<String> {
    let (place, indexes) = ("", &IndexTexts::new());
    let choice = Choice { place, all, variant, indexes };
    let mut paths = Vec::new();
    for component in needs.components() {
        if let Some(stem) = stem(component) {
            for name in variant.names() {
                paths.extend(choice.index(component, stem, name).map(|file| file.path.clone()));
            }
        }
    }
    paths
}

/// Picks the files of a model from everything that a repository or folder has. `indexes` has the texts of
/// [`index_files`].
///
/// # Errors
/// [`Error::Hub`] for `place` that names the first file that is missing and what was found in its folder;
/// [`Error::Config`] for an index file that is not one.
pub fn choose_files(
    place: &str,
    all: &[ListedFile],
    needs: Needs,
    variant: &Variant,
    indexes: &IndexTexts,
) -> Result<Vec<ModelFile>> {
    let choice = Choice { place, all, variant, indexes };
    if !choice.has_asked_for(needs) {
        let what = match variant {
            Variant::Named(name) => format!("files of the variant {name}: ask for none (--variant none)"),
            _ => "plain files (--variant none): ask for fp16 (--variant fp16)".to_owned(),
        };
        let reason = format!("no component has {what}, or leave out the variant");
        return Err(Error::Hub { repo: place.to_owned(), reason });
    }
    choice.files(needs, Wanted::All)
}

/// As [`choose_files`], but weights and vocabularies may be missing: for a folder of configurations that belongs to a
/// checkpoint in one file.
///
/// # Errors
/// As [`choose_files`], for what is missing of the rest.
pub fn choose_present(
    place: &str,
    all: &[ListedFile],
    needs: Needs,
    variant: &Variant,
    indexes: &IndexTexts,
) -> Result<Vec<ModelFile>> {
    Choice { place, all, variant, indexes }.files(needs, Wanted::Present)
}

/// How the names of a component's weight files begin.
fn stem(component: Component) -> Option<&'static str> {
    match component {
        Component::TextEncoder | Component::TextEncoder2 => Some("model"),
        Component::Unet | Component::Vae => Some("diffusion_pytorch_model"),
        _ => None,
    }
}

/// The name of a component's weights in one file.
fn whole_name(stem: &str, variant: Option<&str>) -> String {
    match variant {
        None => format!("{stem}.safetensors"),
        Some(variant) => format!("{stem}.{variant}.safetensors"),
    }
}

struct Choice<'a> {
    place: &'a str,
    all: &'a [ListedFile],
    variant: &'a Variant,
    indexes: &'a IndexTexts,
}

/// Whether a model must be whole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    All,
    Present,
}

impl<'a> Choice<'a> {
    fn files(&self, needs: Needs, wanted: Wanted) -> Result<Vec<ModelFile>> {
        let optional = |found: Result<Vec<ModelFile>>| match (found, wanted) {
            (Err(_), Wanted::Present) => Ok(Vec::new()),
            (found, _) => found,
        };
        let mut files = Vec::new();
        for component in needs.components() {
            match (component, stem(component)) {
                (Component::ModelIndex, _) => files.push(self.required(component, "model_index.json")?),
                (Component::Scheduler, _) => files.push(self.required(component, "scheduler_config.json")?),
                (_, Some(stem)) => {
                    files.push(self.required(component, "config.json")?);
                    files.extend(optional(self.weights(component, stem))?);
                }
                (_, None) => files.extend(optional(self.tokenizer(component))?),
            }
        }
        Ok(files)
    }

    /// The files right in a component's folder, by name.
    fn folder(&self, component: Component) -> impl Iterator<Item = (&'a str, &'a ListedFile)> + use<'a> {
        self.all.iter().filter_map(move |file| {
            let name = match component.folder() {
                "" => &file.path,
                folder => file.path.strip_prefix(folder)?.strip_prefix('/')?,
            };
            (!name.contains('/')).then_some((name, file))
        })
    }

    fn listed(&self, component: Component, name: &str) -> Option<&'a ListedFile> {
        self.folder(component).find(|(found, _)| *found == name).map(|(_, file)| file)
    }

    fn find(&self, component: Component, name: &str) -> Option<ModelFile> {
        self.listed(component, name).map(|file| chosen(component, file, false))
    }

    fn required(&self, component: Component, name: &str) -> Result<ModelFile> {
        self.find(component, name).ok_or_else(|| self.missing(component, name))
    }

    /// The vocabulary: `tokenizer.json` where there is one, as in transformers 5, which reads nothing else of it then;
    /// otherwise the two files of before. Besides, what was added to it and what the special tokens are.
    fn tokenizer(&self, component: Component) -> Result<Vec<ModelFile>> {
        let mut files = match self.find(component, "tokenizer.json") {
            Some(whole) => vec![whole],
            None => vec![self.required(component, "vocab.json")?, self.required(component, "merges.txt")?],
        };
        let optional = ["added_tokens.json", "special_tokens_map.json", "tokenizer_config.json"];
        files.extend(optional.iter().filter_map(|name| self.find(component, name)));
        Ok(files)
    }

    /// Whether any component has weights in the spelling that was asked for, if one was.
    fn has_asked_for(&self, needs: Needs) -> bool {
        let variant = match self.variant {
            Variant::PlainFirst | Variant::Fp16First => return true,
            Variant::Plain => None,
            Variant::Named(name) => Some(name.as_str()),
        };
        needs.components().into_iter().any(|component| {
            stem(component).is_some_and(|stem| {
                let whole = self.listed(component, &whole_name(stem, variant)).is_some();
                let is_part = |(name, _): (&str, &ListedFile)| Part::parse(name, stem, variant).is_some();
                whole || self.index(component, stem, variant).is_some() || self.folder(component).any(is_part)
            })
        })
    }

    fn weights(&self, component: Component, stem: &str) -> Result<Vec<ModelFile>> {
        let mut first_error = None;
        for name in self.variant.names() {
            match self.weights_of(component, stem, name) {
                Ok(Some(files)) => return Ok(files),
                Ok(None) => {}
                // A set of parts of which none is there was not downloaded; the next spelling may be complete.
                Err(Incomplete { error, is_absent: true }) => {
                    first_error.get_or_insert(error);
                }
                Err(Incomplete { error, is_absent: false }) => return Err(error),
            }
        }
        Err(first_error.unwrap_or_else(|| self.no_weights(component, stem)))
    }

    /// The weights under one spelling, or `None` where there are none.
    fn weights_of(
        &self,
        component: Component,
        stem: &str,
        variant: Option<&str>,
    ) -> Result<Option<Vec<ModelFile>>, Incomplete> {
        let is_f16 = variant == Some(FP16);
        let whole =
            self.listed(component, &whole_name(stem, variant)).map(|file| vec![chosen(component, file, is_f16)]);
        let of_index = || match self.index(component, stem, variant) {
            Some(index) => self.parts_of_index(component, index, is_f16).map(Some),
            None => Ok(None),
        };
        // transformers looks for the whole file first, diffusers for the index.
        let found = if matches!(component, Component::Unet | Component::Vae) {
            of_index()?.or(whole)
        } else {
            match whole {
                Some(whole) => Some(whole),
                None => of_index()?,
            }
        };
        match found {
            Some(files) => Ok(Some(files)),
            None => self.numbered_parts(component, stem, variant),
        }
    }

    /// The index file of a component. Of a variant, diffusers has written two spellings.
    fn index(&self, component: Component, stem: &str, variant: Option<&str>) -> Option<&'a ListedFile> {
        let spellings = match variant {
            None => vec![format!("{stem}.safetensors.index.json")],
            Some(variant) => vec![
                format!("{stem}.safetensors.index.{variant}.json"),
                format!("{stem}.safetensors.{variant}.index.json"),
            ],
        };
        spellings.iter().find_map(|name| self.listed(component, name))
    }

    /// The files that an index names, with the index itself in front.
    fn parts_of_index(
        &self,
        component: Component,
        index: &ListedFile,
        is_f16: bool,
    ) -> Result<Vec<ModelFile>, Incomplete> {
        let config = |reason: String| Error::Config { file: index.path.clone(), reason };
        let Some(text) = self.indexes.get(&index.path) else {
            return Err(config("the index was not read".to_owned()).into());
        };
        let json = json::value(text).map_err(|error| config(error.to_string()))?;
        let map = json.get("weight_map").and_then(Value::as_object);
        let map = map.ok_or_else(|| config("has no weight_map, which tells the file of each tensor".to_owned()))?;
        let mut names = BTreeSet::new();
        for (tensor, file) in map {
            let name = file.as_str().filter(|name| name.ends_with(".safetensors") && !name.contains(['/', '\\']));
            let name = name.ok_or_else(|| {
                config(format!(
                    "weight_map has {file} for {tensor}: the name of a safetensors file beside it is needed"
                ))
            })?;
            names.insert(name);
        }
        if names.is_empty() || names.len() > MAX_SHARDS {
            let reason = format!("weight_map names {} files: 1 to {MAX_SHARDS} are supported", names.len());
            return Err(config(reason).into());
        }
        let mut files = vec![chosen(component, index, is_f16)];
        files[0].f16 = false;
        let mut lost = None;
        for name in names {
            match self.listed(component, name) {
                Some(file) => files.push(chosen(component, file, is_f16)),
                None => lost = lost.or(Some(name)),
            }
        }
        match lost {
            None => Ok(files),
            Some(name) => {
                let error = self.missing_because(component, name, &format!("; {} names it", index.path));
                Err(Incomplete { error, is_absent: files.len() == 1 })
            }
        }
    }

    /// Parts of a whole that has no index, put together by their names: the same variant, spelt the same way, of the same
    /// number of parts. A set that lacks a part is passed over for one that is complete.
    fn numbered_parts(
        &self,
        component: Component,
        stem: &str,
        variant: Option<&str>,
    ) -> Result<Option<Vec<ModelFile>>, Incomplete> {
        let mut wholes: BTreeMap<(Spelling, usize), BTreeMap<usize, &ListedFile>> = BTreeMap::new();
        for (name, file) in self.folder(component) {
            if let Some(part) = Part::parse(name, stem, variant) {
                wholes.entry((part.spelling, part.n_parts)).or_default().insert(part.part, file);
            }
        }
        let is_f16 = variant == Some(FP16);
        let complete = wholes.iter().find(|((_, n_parts), parts)| parts.len() == *n_parts);
        match (complete, wholes.iter().next()) {
            (Some((_, parts)), _) => Ok(Some(parts.values().map(|file| chosen(component, file, is_f16)).collect())),
            (None, Some(((spelling, n_parts), parts))) => {
                let lost = (1..=*n_parts).find(|part| !parts.contains_key(part)).unwrap_or_default();
                let error = self.missing(component, &spelling.spell(stem, variant, lost, *n_parts));
                Err(Incomplete { error, is_absent: !matches!(self.variant, Variant::Named(_)) })
            }
            (None, None) => Ok(None),
        }
    }

    fn no_weights(&self, component: Component, stem: &str) -> Error {
        let name = whole_name(stem, if *self.variant == Variant::Fp16First { Some(FP16) } else { None });
        self.missing(component, &name)
    }

    fn missing(&self, component: Component, name: &str) -> Error {
        self.missing_because(component, name, "")
    }

    fn missing_because(&self, component: Component, name: &str, because: &str) -> Error {
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
        let hint =
            if pickles_only { "; its weights are pickles, which can run code and are not read" } else { because };
        Error::Hub { repo: self.place.to_owned(), reason: format!("{path} is missing; {folder} has {found}{hint}") }
    }
}

/// Why the weights under one spelling cannot be taken.
struct Incomplete {
    error: Error,
    /// Whether another spelling may be taken instead.
    is_absent: bool,
}

impl From<Error> for Incomplete {
    fn from(error: Error) -> Self {
        Incomplete { error, is_absent: false }
    }
}

fn chosen(component: Component, file: &ListedFile, f16: bool) -> ModelFile {
    ModelFile { component, path: file.path.clone(), bytes: file.bytes, sha256: file.sha256.clone(), f16 }
}
