//! A checkpoint, loaded: each component's weights on the device, with its configs.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::hub::{Component, ModelFile, Source};
use crate::model::clip::{POSITION_TABLE, TOKEN_TABLE};
use crate::model::config::VaeArchitecture;
use crate::pipeline::configs::ModelConfigs;
use crate::pipeline::loras::{ActiveLoras, Lora, differing};
use crate::pipeline::text_embeddings::TextEmbeddings;
use crate::request::LoraUse;
use crate::run::Runner;
use crate::weights::Weights;
use crate::weights::merged::Changes;

/// How far loading is.
#[derive(Clone, Copy, Debug)]
pub struct LoadProgress<'a> {
    /// What is being loaded: `unet`.
    pub component: &'a str,
    /// Bytes of weights read so far, over all components.
    pub loaded_bytes: u64,
    /// Bytes of weights in all.
    pub total_bytes: u64,
}

/// What of a checkpoint is loaded and dropped as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The text encoder of this number.
    TextEncoder(usize),
    /// The UNet.
    Unet,
    /// The half of the VAE that makes pictures.
    VaeDecoder,
    /// The other half, which only tasks with a picture need.
    VaeEncoder,
}

/// How long weights stay on the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(all(not(target_arch = "wasm32"), feature = "cli"), derive(clap::ValueEnum))]
pub enum Residency {
    /// From when they are first needed to the end: the next picture begins at once.
    #[default]
    Resident,
    /// While their stage lasts: text encoders, UNet and VAE one after another, for devices that cannot hold them together.
    Staged,
    /// One component after another, and of each so many bytes: what is above them is read while the component runs, each
    /// time that it runs, for devices that cannot hold one whole.
    #[cfg_attr(all(not(target_arch = "wasm32"), feature = "cli"), value(skip))]
    Streamed {
        /// The most bytes of weights at once, with what reading them takes; 0 for as few as possible.
        weight_bytes: u64,
    },
}

impl Residency {
    /// The name in settings and plans.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Residency::Resident => "resident",
            Residency::Staged => "staged",
            Residency::Streamed { .. } => "streamed",
        }
    }
}

/// A checkpoint that was opened and checked, with the weights that are on a runner's device at the moment.
#[derive(Debug)]
pub struct ModelComponents<R: Runner> {
    /// Where it came from, for people.
    pub name: String,
    /// The configs and tokenizers.
    pub configs: ModelConfigs,
    /// The files that were opened, by component.
    files: RefCell<Vec<(&'static str, Rc<Weights>)>>,
    /// Where the others are, if their parts are opened as they are needed.
    later: Option<Later>,
    loaded: RefCell<Vec<Loaded<R::Weights>>>,
    /// LoRAs that requests may name.
    loras: RefCell<Vec<Rc<Lora>>>,
    /// Those of the newest request, which [`ModelComponents::load`] loads with.
    expected: RefCell<ActiveLoras>,
    notes: RefCell<Vec<String>>,
    residency: Residency,
}

/// A part on the device, with the LoRAs that its weights have in them.
#[derive(Debug)]
struct Loaded<W> {
    part: Part,
    weights: Rc<W>,
    loras: ActiveLoras,
    changes: Changes,
}

/// Files that are opened when their part is needed.
struct Later {
    source: Rc<dyn Source>,
    files: Vec<ModelFile>,
}

impl std::fmt::Debug for Later {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Later").field("source", &self.source.describe()).finish_non_exhaustive()
    }
}

impl<R: Runner> ModelComponents<R> {
    /// A model whose configs are there and whose weights may still be on their way: each part is opened, checked and loaded
    /// when it is first needed, and [`ModelComponents::part`] waits for it.
    ///
    /// # Errors
    /// Whatever is wrong with a config, by its name.
    pub async fn open_lazy(source: Rc<dyn Source>, residency: Residency) -> Result<Self> {
        let files = source.list().await?;
        let configs = ModelConfigs::read(&*source, &files).await?;
        let name = source.describe();
        let later = Some(Later { source, files });
        Ok(ModelComponents {
            name,
            configs,
            files: RefCell::default(),
            later,
            loaded: RefCell::default(),
            loras: RefCell::default(),
            expected: RefCell::default(),
            notes: RefCell::default(),
            residency,
        })
    }

    /// Loads the weights that every picture needs from the files, all of which are open ([`ModelLoader::open`]); none where
    /// they are to be loaded stage by stage. `progress` returns whether to go on.
    ///
    /// # Errors
    /// As [`ModelComponents::part`]; [`Error::Cancelled`] when `progress` said so.
    pub async fn load(&self, runner: &R, progress: &mut dyn FnMut(LoadProgress) -> bool) -> Result<()> {
        if self.residency != Residency::Resident {
            return Ok(());
        }
        let parts = self.parts();
        let total_bytes = parts.iter().map(|&part| self.n_bytes(part)).sum::<Result<u64>>()?;
        let mut before = 0;
        for part in parts {
            let component = self.configs.component(part).folder();
            let mut report =
                |n_bytes| progress(LoadProgress { component, loaded_bytes: before + n_bytes, total_bytes });
            if !report(0) {
                return Err(Error::Cancelled);
            }
            let loras = self.expected.borrow().clone();
            self.part_with(runner, part, &loras, &mut report).await?;
            before += self.n_bytes(part)?;
        }
        Ok(())
    }

    /// What is worth telling about the files that were opened: one line each.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.notes.borrow().clone()
    }

    /// How long weights stay on the device.
    #[must_use]
    pub fn residency(&self) -> Residency {
        self.residency
    }

    /// Makes a LoRA known, in the place of another one of the same name.
    pub fn add_lora(&self, lora: Lora) {
        let mut loras = self.loras.borrow_mut();
        loras.retain(|known| known.name != lora.name);
        loras.push(Rc::new(lora));
    }

    /// Forgets all LoRAs. Weights that have them in them are known for what they are.
    pub fn forget_loras(&self) {
        self.loras.borrow_mut().clear();
    }

    /// A LoRA that is known.
    #[must_use]
    pub fn lora(&self, name: &str) -> Option<Rc<Lora>> {
        self.loras.borrow().iter().find(|lora| lora.name == name).cloned()
    }

    /// The LoRAs that a request draws with, which are from now on loaded with.
    ///
    /// # Errors
    /// [`Error::Request`] for one that is not known.
    pub fn activate(&self, used: &[LoraUse]) -> Result<ActiveLoras> {
        let active = ActiveLoras::of(used, &self.loras.borrow())?;
        self.expected.replace(active.clone());
        Ok(active)
    }

    /// The weights of a part as its files have them, brought to the device if they are not there.
    ///
    /// # Errors
    /// As [`ModelComponents::part_with`].
    pub async fn part(&self, runner: &R, part: Part, go_on: &mut dyn FnMut(u64) -> bool) -> Result<Rc<R::Weights>> {
        self.part_with(runner, part, &ActiveLoras::default(), go_on).await
    }

    /// The weights of a part with these LoRAs in them, brought to the device if they are not there. Where they are there
    /// with other LoRAs, the tensors that differ are read and merged anew. `go_on` is told the bytes read, and returns whether to
    /// go on, also while the file is waited for.
    ///
    /// # Errors
    /// What [`Runner::load`] says; what is wrong with a file that is opened only now.
    pub async fn part_with(
        &self,
        runner: &R,
        part: Part,
        loras: &ActiveLoras,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Rc<R::Weights>> {
        let component = self.configs.component(part);
        let at = self.loaded.borrow().iter().position(|known| known.part == part);
        if let Some(at) = at {
            // What fails from here on leaves weights of neither: they are forgotten, and loaded when they are needed.
            let mut known = self.loaded.borrow_mut().swap_remove(at);
            if known.loras != *loras {
                let changes = loras.changes(component);
                let names = differing(&known.changes, &changes);
                if !names.is_empty() {
                    let file = self.merged(part, loras)?;
                    let graphs = self.configs.graphs(part)?;
                    runner.replace(&graphs, &file, &names, &known.weights).await?;
                }
                (known.loras, known.changes) = (loras.clone(), changes);
            }
            let weights = Rc::clone(&known.weights);
            self.loaded.borrow_mut().push(known);
            return Ok(weights);
        }
        let changes = loras.changes(component);
        let file = self.open_file(part, &mut || go_on(0)).await?.merged(changes.clone());
        let weights = Rc::new(self.load_part(runner, &self.configs.graphs(part)?, &file, go_on).await?);
        let known = Loaded { part, weights: Rc::clone(&weights), loras: loras.clone(), changes };
        self.loaded.borrow_mut().push(known);
        Ok(weights)
    }

    /// The weights of a part in the form that another graph of it wants, for one stage: those that are on the device are
    /// dropped before, and none are kept.
    ///
    /// # Errors
    /// As [`ModelComponents::part`].
    pub async fn part_for(
        &self,
        runner: &R,
        part: Part,
        graph: &Graph,
        loras: &ActiveLoras,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Rc<R::Weights>> {
        self.loaded.borrow_mut().retain(|known| known.part != part);
        let changes = loras.changes(self.configs.component(part));
        let file = self.open_file(part, &mut || go_on(0)).await?.merged(changes);
        Ok(Rc::new(self.load_part(runner, std::slice::from_ref(graph), &file, go_on).await?))
    }

    /// Loads as much of a part as the residency allows. Where that is not all, the part has the device for itself.
    async fn load_part(
        &self,
        runner: &R,
        graphs: &[Graph],
        file: &Weights,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<R::Weights> {
        match self.residency {
            Residency::Resident | Residency::Staged => runner.load(graphs, file, progress).await,
            Residency::Streamed { weight_bytes } => {
                self.loaded.borrow_mut().clear();
                runner.load_within(graphs, file, weight_bytes, progress).await
            }
        }
    }

    /// Drops weights whose stage is over, where the device cannot hold all.
    pub fn release(&self, parts: &[Part]) {
        if self.residency != Residency::Resident {
            self.loaded.borrow_mut().retain(|known| !parts.contains(&known.part));
        }
    }

    fn file(&self, part: Part) -> Result<Rc<Weights>> {
        let files = self.files.borrow();
        let file = files.iter().find(|(name, _)| *name == self.configs.component(part).folder());
        file.map(|(_, weights)| Rc::clone(weights)).ok_or_else(|| Error::Hub {
            repo: self.name.clone(),
            reason: format!("has no {}", self.configs.component(part).folder()),
        })
    }

    /// The tables of the text encoder of this number, whose weights were loaded, with these LoRAs in them.
    ///
    /// # Errors
    /// As [`TextEmbeddings::open`].
    pub async fn text_embeddings(&self, runner: &R, idx: usize, loras: &ActiveLoras) -> Result<TextEmbeddings> {
        let config = &self.configs.text_encoders[idx].config;
        if !runner.needs_values() {
            return Ok(TextEmbeddings::zeros(config));
        }
        TextEmbeddings::open(self.merged(Part::TextEncoder(idx), loras)?, config).await
    }

    /// The tensors of a part whose file is open, with these LoRAs in them.
    fn merged(&self, part: Part, loras: &ActiveLoras) -> Result<Weights> {
        Ok(self.file(part)?.merged(loras.changes(self.configs.component(part))))
    }

    async fn open_file(&self, part: Part, go_on: &mut dyn FnMut() -> bool) -> Result<Rc<Weights>> {
        let component = self.configs.component(part);
        let is_open = self.files.borrow().iter().any(|(name, _)| *name == component.folder());
        if let (false, Some(Later { source, files })) = (is_open, &self.later) {
            for file in weight_files(files, component) {
                source.ready(&file.path, go_on).await?;
            }
            let (weights, note) = open(&**source, files, &self.configs, component).await?;
            self.notes.borrow_mut().extend(note);
            self.files.borrow_mut().push((component.folder(), Rc::new(weights)));
        }
        self.file(part)
    }

    /// Why `stage`, which runs these parts, gave NaN or infinity: because weights of theirs have some, or because the settings
    /// or the model led there. The weights are read again, all of them.
    ///
    /// # Errors
    /// What the files return when they cannot be read.
    pub async fn why_not_finite(&self, stage: String, parts: &[Part]) -> Result<Error> {
        for &part in parts {
            let file = self.file(part)?;
            let mut names: BTreeSet<String> =
                self.configs.graphs(part)?.iter().flat_map(Graph::weights).map(|spec| spec.name).collect();
            if matches!(part, Part::TextEncoder(_)) {
                names.extend([TOKEN_TABLE, POSITION_TABLE].map(str::to_owned));
            }
            if let Some(tensor) = file.first_not_finite(names.iter().map(String::as_str)).await? {
                let (name, file) = (tensor.name.to_owned(), tensor.file.to_owned());
                return Ok(Error::WeightNotFinite { stage, name, file });
            }
        }
        Ok(Error::NotFinite { stage })
    }

    /// The parts that every picture needs, in the order of their use.
    #[must_use]
    pub fn parts(&self) -> Vec<Part> {
        let encoders = (0..self.configs.text_encoders.len()).map(Part::TextEncoder);
        encoders.chain([Part::Unet, Part::VaeDecoder]).collect()
    }

    fn n_bytes(&self, part: Part) -> Result<u64> {
        let file = self.file(part)?;
        let names: BTreeSet<String> =
            self.configs.graphs(part)?.iter().flat_map(Graph::weights).map(|spec| spec.name).collect();
        Ok(names.iter().filter_map(|name| file.get(name)).map(|info| info.n_bytes).sum())
    }
}

fn weight_files(files: &[ModelFile], component: Component) -> impl Iterator<Item = &ModelFile> {
    files.iter().filter(move |file| file.component == component && file.is_weights())
}

/// How many names a note about unused tensors has.
const MAX_NOTED: usize = 3;

/// Opens a component's weights and checks them against its config. Besides, a note on tensors that nothing uses.
async fn open(
    source: &dyn Source,
    files: &[ModelFile],
    configs: &ModelConfigs,
    component: Component,
) -> Result<(Weights, Option<String>)> {
    let wanted = configs.weight_specs(component)?;
    let weights = source.weights(component, files, &wanted).await?;
    let unused = match (weights.check(&wanted), &configs.vae.architecture) {
        (Err(error), VaeArchitecture::Tiny(_)) if component == Component::Vae => {
            // The class is named in another file than the one that does not fit it.
            let reason = format!("says that the VAE is an AutoencoderTiny, but {error}");
            return Err(Error::Config { file: "model_index.json".into(), reason });
        }
        (checked, _) => checked?,
    };
    let note = (!unused.is_empty()).then(|| {
        let names = unused.iter().take(MAX_NOTED).copied().collect::<Vec<_>>().join(", ");
        let more = if unused.len() > MAX_NOTED { ", …" } else { "" };
        format!(
            "{} has {} tensor{} that this model does not use: {names}{more}",
            weights.file_names(),
            unused.len(),
            if unused.len() == 1 { "" } else { "s" }
        )
    });
    Ok((weights, note))
}

/// Checks a model's configurations, and its weights by their headers. Nothing is loaded.
///
/// # Errors
/// Whatever is wrong with a file, by its name; [`Error::TensorMissing`] and [`Error::TensorShape`].
pub async fn check_model(source: &dyn Source) -> Result<()> {
    let files = source.list().await?;
    let configs = ModelConfigs::read(source, &files).await?;
    for component in configs.components() {
        open(source, &files, &configs, component).await?;
    }
    Ok(())
}

/// Brings a checkpoint from a source to a runner.
#[derive(Clone, Copy)]
pub struct ModelLoader<'a, R> {
    source: &'a dyn Source,
    runner: &'a R,
    residency: Residency,
}

impl<'a, R: Runner> ModelLoader<'a, R> {
    /// Nothing is read yet.
    pub fn new(source: &'a dyn Source, runner: &'a R) -> Self {
        ModelLoader { source, runner, residency: Residency::default() }
    }

    /// How long weights stay on the device.
    #[must_use]
    pub fn with_residency(self, residency: Residency) -> Self {
        ModelLoader { residency, ..self }
    }

    /// [`ModelLoader::open`] and [`ModelComponents::load`] at once.
    ///
    /// # Errors
    /// As theirs.
    pub async fn load(&self, progress: &mut dyn FnMut(LoadProgress) -> bool) -> Result<ModelComponents<R>> {
        let model = self.open().await?;
        model.load(self.runner, progress).await?;
        Ok(model)
    }

    /// Reads the configs and checks every weight file against them. No weights are loaded yet.
    ///
    /// # Errors
    /// Whatever is wrong with a file, by its name; [`Error::TensorMissing`] and [`Error::TensorShape`].
    pub async fn open(&self) -> Result<ModelComponents<R>> {
        let files = self.source.list().await?;
        let configs = ModelConfigs::read(self.source, &files).await?;
        let mut opened = Vec::new();
        let mut notes = self.source.notes();
        for component in configs.components() {
            match open(self.source, &files, &configs, component).await {
                Ok((weights, note)) => {
                    opened.push((component.folder(), Rc::new(weights)));
                    notes.extend(note);
                }
                // A tiny decoder is enough to draw from text.
                Err(Error::Hub { .. } | Error::Unfit { .. })
                    if component == Component::Vae && configs.tiny_decoder.is_some() =>
                {
                    notes.push("without a VAE no picture can be started from".to_owned());
                }
                Err(error) => return Err(error),
            }
        }
        let name = self.source.describe();
        Ok(ModelComponents {
            name,
            configs,
            files: RefCell::new(opened),
            later: None,
            loaded: RefCell::default(),
            loras: RefCell::default(),
            expected: RefCell::default(),
            notes: RefCell::new(notes),
            residency: self.residency,
        })
    }
}
