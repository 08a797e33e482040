//! Extra networks among the kept files, as A1111 calls them: LoRAs and kin, and embeddings. Which there are, how a model gets
//! the words of those that fit it, and how a loaded one gets the LoRAs that a request names.
//!
//! Their arithmetic is the library's: here a name becomes a file of the store.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use wasm_bindgen::prelude::*;

use super::models::Models;
use super::studio::{Studio, read_request};
use super::types::{ExtraNetwork, FewSteps, NetworkKind};
use crate::checkpoint::embedding;
use crate::checkpoint::inspect::{Report, inspect};
use crate::checkpoint::lora::{LoraFile, family_of};
use crate::error::{Error, Result};
use crate::hub::Source;
use crate::hub::stored::{StoredModel, is_weights};
use crate::model::config::ClipTextConfig;
use crate::pipeline::{Embedding, Lora};
use crate::request::{Preset, Request};
use crate::store::{Manifest, Store};

/// The name that kohya's metadata gives a file.
const OUTPUT_NAME: &str = "ss_output_name";

/// How wide the text is that attention reads in the published models: SD 1, SD 2 and XL.
const PUBLISHED_WIDTHS: [usize; 3] = [768, 1024, 2048];

/// How many words are offered for the prompt.
const MAX_WORDS: usize = 12;

/// As many vectors as one word may have: a text encoder reads no more at once.
const MAX_VECTORS: usize = 75;

/// How many names a message lists.
const MAX_LISTED: usize = 20;

/// What kept files are that are no models, by the names that they are kept under; `None` for a model.
pub(super) type KnownFiles = BTreeMap<String, (Option<String>, Option<Rc<ExtraNetwork>>)>;

#[wasm_bindgen]
impl Models {
    /// The kept files that are LoRAs and kin, or embeddings (textual inversion), by name.
    ///
    /// # Errors
    /// When the database cannot be read.
    #[wasm_bindgen(unchecked_return_type = "ExtraNetwork[]")]
    pub async fn extra_networks(&self) -> Result<JsValue, JsValue> {
        let networks = self.kept_networks().await?;
        Ok(serde_wasm_bindgen::to_value(&networks.iter().map(|network| &**network).collect::<Vec<_>>())?)
    }
}

#[wasm_bindgen]
impl Studio {
    /// What [`Models::extra_networks`] gives, each with the reason why this model does not take it.
    ///
    /// # Errors
    /// As there.
    #[wasm_bindgen(unchecked_return_type = "ExtraNetwork[]")]
    pub async fn extra_networks(&self, models: &Models) -> Result<JsValue, JsValue> {
        let mut networks = Vec::new();
        for network in models.kept_networks().await? {
            let obstacle = self.obstacle(models, &network).await;
            networks.push(ExtraNetwork { obstacle, ..(*network).clone() });
        }
        Ok(serde_wasm_bindgen::to_value(&networks)?)
    }

    /// Fits the LoRAs that a request names, in its list or by tags in its prompt, to the loaded model: [`Studio::work`] and
    /// [`Studio::draw`] take the request then. Of each the header is read, and its tensors when weights are merged. Gives
    /// what is worth telling about them.
    ///
    /// # Errors
    /// When none of that name is kept; when one is for another family or has layers that the model does not have.
    #[wasm_bindgen(unchecked_return_type = "string[]")]
    pub async fn open_loras(
        &self,
        models: &Models,
        #[wasm_bindgen(unchecked_param_type = "DrawRequest")] request: JsValue,
    ) -> Result<Vec<String>, JsValue> {
        Ok(self.open_named(models, &read_request(request)?).await?)
    }
}

impl Studio {
    /// Why this model does not take a file. Where families tell it, no file is opened.
    async fn obstacle(&self, models: &Models, network: &ExtraNetwork) -> Option<String> {
        if let Some(problem) = &network.problem {
            return Some(problem.clone());
        }
        let configs = self.engine().configs();
        if network.kind == NetworkKind::Embedding {
            let tokenizer = configs.text_encoders.first().map(|encoder| &encoder.tokenizer);
            let is_known = tokenizer.is_some_and(|tokenizer| tokenizer.word(&network.name).is_some());
            return (!is_known).then(|| match network.family_name {
                Some(family) => format!("it is for {family}"),
                None => "it is for text encoders of another width".to_owned(),
            });
        }
        let family = family_of(configs);
        if network.family.is_some_and(|its| its != family.id()) {
            return network.family_name.map(|family| format!("it is for {family}"));
        }
        let is_published = PUBLISHED_WIDTHS.contains(&configs.unet.cross_attention_dim);
        if is_published {
            return None;
        }
        self.fit(models, network, &network.name).await.err().map(|error| error.to_string())
    }

    async fn fit(&self, models: &Models, kept: &ExtraNetwork, name: &str) -> Result<Lora> {
        let source = models.source(&kept.model).await?;
        let file = LoraFile::open(name, source.open(&kept.path).await?).await?;
        file.fit(self.engine().configs(), kept.sha256.clone())
    }

    async fn open_named(&self, models: &Models, request: &Request) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        let (_, tags) = request.lora_tags()?;
        for used in request.loras.iter().chain(&tags) {
            let kept = models.find_lora(&used.name).await?;
            // A file that was imported again under the same name is another one.
            let is_same = self.engine().lora(&used.name).filter(|known| known.sha256 == kept.sha256);
            let lora = match is_same {
                Some(known) => known,
                None => {
                    self.engine().add_lora(self.fit(models, &kept, &used.name).await.map_err(Error::of_model)?);
                    match self.engine().lora(&used.name) {
                        Some(known) => known,
                        None => continue,
                    }
                }
            };
            notes.extend(lora.notes.iter().cloned());
        }
        Ok(notes)
    }
}

impl Models {
    /// The LoRA that a request means: by its file's name without the ending, by the name that its metadata gives, or by the
    /// name that it is kept under.
    async fn find_lora(&self, name: &str) -> Result<Rc<ExtraNetwork>> {
        let networks = self.kept_networks().await?;
        let loras: Vec<_> = networks.iter().filter(|network| network.kind == NetworkKind::Lora).collect();
        let of = |is: &dyn Fn(&ExtraNetwork) -> bool| loras.iter().find(|lora| is(lora)).map(|lora| Rc::clone(lora));
        let found = of(&|lora| lora.name == name)
            .or_else(|| of(&|lora| lora.model == name))
            .or_else(|| of(&|lora| lora.output_name.as_deref() == Some(name)))
            .or_else(|| of(&|lora| lora.name.eq_ignore_ascii_case(name)));
        found.ok_or_else(|| {
            let names: Vec<&str> = loras.iter().take(MAX_LISTED).map(|lora| lora.name.as_str()).collect();
            let more = if loras.len() > MAX_LISTED { ", …" } else { "" };
            let expected = match names.as_slice() {
                [] => "this browser keeps no LoRA: drop its file on the page, or import it".to_owned(),
                names => format!("import its file; this browser keeps {}{more}", names.join(", ")),
            };
            Error::Request { field: "lora", got: format!("{name:?}"), expected }
        })
    }

    /// The embeddings whose words a model gets: those with the names, or all that fit it and have words of their own. Those
    /// that come along with LoRAs are among them.
    ///
    /// # Errors
    /// What is wrong with one that was named.
    pub(super) async fn embeddings(&self, model: &dyn Source, named: Option<&[String]>) -> Result<Vec<Embedding>> {
        let widths = text_widths(model).await?;
        let mut embeddings: Vec<Embedding> = Vec::new();
        for network in self.kept_networks().await? {
            let is_named = named.map(|names| names.contains(&network.name) || names.contains(&network.model));
            if is_named == Some(false) || (network.kind == NetworkKind::Lora && network.bundled_words == 0) {
                continue;
            }
            let opened = self.embeddings_in(&network).await;
            let opened = if is_named.is_some() { opened.map_err(Error::of_model)? } else { opened.unwrap_or_default() };
            for embedding in opened {
                let of = |(width, values): &(usize, Arc<[f32]>)| (*width, values.len() / width.max(&1));
                let sizes: Vec<(usize, usize)> = embedding.vectors.iter().map(of).collect();
                let fits = sizes.iter().map(|(width, _)| *width).eq(widths.iter().copied())
                    && sizes.iter().all(|(_, n)| *n <= MAX_VECTORS);
                let is_new = |known: &Embedding| known.name.to_lowercase() != embedding.name.to_lowercase();
                if is_named.is_some() || (fits && embeddings.iter().all(is_new)) {
                    embeddings.push(embedding);
                }
            }
        }
        Ok(embeddings)
    }

    async fn embeddings_in(&self, network: &ExtraNetwork) -> Result<Vec<Embedding>> {
        let source = self.source(&network.model).await?.open(&network.path).await?;
        match network.kind {
            NetworkKind::Embedding => Ok(vec![embedding::open(&network.name, source, network.sha256.clone()).await?]),
            NetworkKind::Lora => embedding::of_lora(&LoraFile::open(network.name.clone(), source).await?).await,
        }
    }

    /// See [`Models::extra_networks`]. Each file is looked at once.
    async fn kept_networks(&self) -> Result<Vec<Rc<ExtraNetwork>>> {
        let mut networks = Vec::new();
        for manifest in self.store().manifests().await? {
            if !manifest.is_complete() {
                continue;
            }
            let sha256 = manifest.files.iter().find(|file| is_weights(&file.path)).and_then(|file| file.sha256.clone());
            let known = self.known_files().borrow().get(&manifest.model).cloned();
            let network = match known {
                Some((of, network)) if of == sha256 => network,
                _ => {
                    let network = self.look_at(&manifest).await.map(Rc::new);
                    self.known_files().borrow_mut().insert(manifest.model.clone(), (sha256, network.clone()));
                    network
                }
            };
            networks.extend(network);
        }
        networks.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(networks)
    }

    /// What a kept file is, where it is an extra network. One that cannot be read says so where it is used.
    async fn look_at(&self, manifest: &Manifest) -> Option<ExtraNetwork> {
        let stored = StoredModel::open(Rc::clone(self.store()) as Rc<dyn Store>, &manifest.model).await.ok()?;
        let path = stored.single_file()?;
        let report = inspect(stored.open(path).await.ok()?, None).await.ok()?;
        let kind = match report.kind {
            "lora" => NetworkKind::Lora,
            "embedding" => NetworkKind::Embedding,
            _ => return None,
        };
        Some(network_of(kind, manifest, path, report))
    }
}

fn network_of(kind: NetworkKind, manifest: &Manifest, path: &str, report: Report) -> ExtraNetwork {
    let name = path.rsplit('/').next().unwrap_or(path);
    let name = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    ExtraNetwork {
        kind,
        name: name.to_owned(),
        model: manifest.model.clone(),
        path: path.to_owned(),
        bytes: report.bytes as f64,
        sha256: manifest.file(path).and_then(|file| file.sha256.clone()),
        family: report.family,
        family_name: report.family_name(),
        output_name: report.metadata.get(OUTPUT_NAME).cloned(),
        words: words(&report),
        bundled_words: report.lora.as_ref().map_or(0, |lora| lora.embeddings),
        few_steps: match kind {
            NetworkKind::Lora => few_steps(name, &report),
            NetworkKind::Embedding => None,
        },
        problem: report.refused.then(|| report.for_page().problem).flatten(),
        obstacle: None,
    }
}

/// What a LoRA is drawn with that looks like one of few steps.
fn few_steps(name: &str, report: &Report) -> Option<FewSteps> {
    let metadata = report.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let preset = Preset::suggest(name, metadata)?;
    let (title, steps, sampler, eta) = (preset.title(), preset.steps(), preset.sampler().name(), preset.eta());
    Some(FewSteps { preset, title, steps, sampler, eta })
}

/// How wide the words are that a model's text encoders read.
async fn text_widths(model: &dyn Source) -> Result<Vec<usize>> {
    let mut widths = Vec::new();
    let files = model.list().await?;
    for folder in ["text_encoder", "text_encoder_2"] {
        if files.iter().any(|file| file.component.folder() == folder) {
            let path = format!("{folder}/config.json");
            widths.push(ClipTextConfig::from_json(&model.read_text(&path).await?, &path)?.hidden_size);
        }
    }
    Ok(widths)
}

/// What calls for it in a prompt: the trigger phrase, then the tags that it was trained with.
fn words(report: &Report) -> Vec<String> {
    let phrase = report.about.trigger.as_deref().unwrap_or_default().split(',');
    let tags = report.about.tags.iter().map(|(tag, _)| tag.as_str());
    let mut words: Vec<String> = Vec::new();
    for word in phrase.chain(tags).map(str::trim).filter(|word| !word.is_empty()) {
        if words.len() < MAX_WORDS && !words.iter().any(|known| known == word) {
            words.push(word.to_owned());
        }
    }
    words
}
