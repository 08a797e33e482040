//! A checkpoint, loaded: the typed configs, the tokenizers and each component's weights on the device.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::graph::{Graph, WeightSpec};
use crate::hub::{Component, ModelFile, Source};
use crate::model::config::{
    ClipTextConfig, ModelIndex, UNet2DConditionConfig, VaeArchitecture, VaeConfig, channels_of,
};
use crate::model::{SDVersion, clip, unet, vae};
use crate::request::{Defaults, SideRule};
use crate::run::{Colours, Runner};
use crate::sampler::SchedulerConfig;
use crate::tokenizer::{Tokenizer, TokenizerConfig, TokenizerFiles};
use crate::weights::Weights;

/// A text encoder with its tokenizer.
#[derive(Debug)]
pub struct TextEncoder {
    /// `text_encoder` or `text_encoder_2`.
    pub name: &'static str,
    /// Its `config.json`.
    pub config: ClipTextConfig,
    /// Text to ids.
    pub tokenizer: Tokenizer,
}

/// Everything about a checkpoint but its weights.
#[derive(Debug)]
pub struct ModelConfigs {
    /// `model_index.json`.
    pub index: ModelIndex,
    /// One text encoder, or two for XL.
    pub text_encoders: Vec<TextEncoder>,
    /// `unet/config.json`.
    pub unet: UNet2DConditionConfig,
    /// `vae/config.json`.
    pub vae: VaeConfig,
    /// `scheduler/scheduler_config.json`.
    pub scheduler: SchedulerConfig,
}

impl ModelConfigs {
    /// Reads and checks the JSON and tokenizer files of a checkpoint.
    ///
    /// # Errors
    /// [`Error::Config`] or [`Error::Tokenizer`] naming the file.
    pub async fn read(source: &dyn Source, files: &[ModelFile]) -> Result<Self> {
        let index = ModelIndex::from_json(&source.read_text("model_index.json").await?, "model_index.json")?;
        let mut text_encoders = Vec::new();
        let encoders: &[(&'static str, &str)] = if index.is_xl() {
            &[("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2")]
        } else {
            &[("text_encoder", "tokenizer")]
        };
        for &(name, folder) in encoders {
            let file = format!("{name}/config.json");
            let config = ClipTextConfig::from_json(&source.read_text(&file).await?, &file)?;
            let config = config.with_class(index.class_of(name));
            let tokenizer = read_tokenizer(source, files, folder).await?;
            if tokenizer.chunk_len() != config.max_position_embeddings {
                return Err(Error::Config {
                    file,
                    reason: format!(
                        "max_position_embeddings {} differs from the tokenizer's model_max_length {}",
                        config.max_position_embeddings,
                        tokenizer.chunk_len()
                    ),
                });
            }
            text_encoders.push(TextEncoder { name, config, tokenizer });
        }
        let read = async |file: &str| source.read_text(file).await;
        let unet = UNet2DConditionConfig::from_json(&read("unet/config.json").await?, "unet/config.json")?;
        let mut vae = VaeConfig::from_json(index.vae_class(), &read("vae/config.json").await?, "vae/config.json")?;
        if !index.is_xl() {
            // The pipelines of SD 1 and 2 do not look at them.
            vae.statistics = None;
        }
        let file = "scheduler/scheduler_config.json";
        let scheduler = SchedulerConfig::from_json(&read(file).await?, file)?.with_class(index.class_of("scheduler"));
        let configs = ModelConfigs { index, text_encoders, unet, vae, scheduler };
        configs.check()?;
        Ok(configs)
    }

    /// Whether the parts fit each other.
    fn check(&self) -> Result<()> {
        let file = || "unet/config.json".to_string();
        let width: usize = self.text_encoders.iter().map(|encoder| encoder.config.hidden_size).sum();
        if width != self.unet.cross_attention_dim {
            let reason =
                format!("cross_attention_dim {} differs from the text's width {width}", self.unet.cross_attention_dim);
            return Err(Error::Config { file: file(), reason });
        }
        let latent_channels = self.vae.latent_channels;
        let inpaint_channels = 2 * latent_channels + 1;
        if self.unet.in_channels != latent_channels && self.unet.in_channels != inpaint_channels {
            let n = self.unet.in_channels;
            let what = channels_of(n).map_or(String::new(), |what| format!(" means {what}, which"));
            let reason = format!(
                "in_channels {n}{what} is not supported: {latent_channels} and {inpaint_channels} (inpainting) are"
            );
            return Err(Error::Config { file: file(), reason });
        }
        if let (Some(_), Some(last)) = (&self.unet.text_time, self.text_encoders.last())
            && !last.config.has_projection()
        {
            let class = self.index.class_of(last.name).unwrap_or("of no class");
            let reason = format!("{} is {class}: an XL model needs CLIPTextModelWithProjection there", last.name);
            return Err(Error::Config { file: "model_index.json".into(), reason });
        }
        if let Some(text_time) = &self.unet.text_time {
            let pooled = self.text_encoders.last().map_or(0, |encoder| encoder.config.projection_dim);
            let wanted = pooled + 6 * text_time.addition_time_embed_dim;
            if text_time.projection_class_embeddings_input_dim != wanted {
                let reason = format!(
                    "projection_class_embeddings_input_dim {} differs from projection_dim + 6 addition_time_embed_dim = {wanted}",
                    text_time.projection_class_embeddings_input_dim
                );
                return Err(Error::Config { file: file(), reason });
            }
        }
        Ok(())
    }

    /// Whether the UNet runs for the negative prompt too: with a guidance scale above 1, unless the model has the scale as
    /// an input.
    #[must_use]
    pub fn is_guided(&self, guidance_scale: f64) -> bool {
        guidance_scale > 1.0 && self.unet.time_cond_proj_dim.is_none()
    }

    /// Whether what the VAE's encoder gives is a distribution, from which latents are drawn.
    #[must_use]
    pub fn encodes_moments(&self) -> bool {
        matches!(self.vae.architecture, VaeArchitecture::Kl(_))
    }

    /// What the sides of a picture must be multiples of: 64 for SD 1 and 2, 32 for XL.
    #[must_use]
    pub fn size_multiple(&self) -> usize {
        self.vae.factor() * self.unet.downsampling()
    }

    /// Which sides of pictures can be drawn.
    #[must_use]
    pub fn sides(&self) -> SideRule {
        SideRule { multiple: self.size_multiple(), any_multiple: self.vae.factor() }
    }

    /// Whether the UNet takes a mask and a masked picture beside the latents.
    #[must_use]
    pub fn is_inpaint(&self) -> bool {
        self.unet.in_channels != self.vae.latent_channels
    }

    /// Which of the seven versions the checkpoint is closest to.
    #[must_use]
    pub fn version(&self) -> SDVersion {
        let is_xl = self.unet.text_time.is_some();
        let is_turbo = self.scheduler.few_steps().is_some();
        match (is_xl, self.is_inpaint()) {
            (true, true) => SDVersion::XlInpaint,
            (true, false) if is_turbo => SDVersion::Turbo,
            (true, false) => SDVersion::Xl,
            // SD 2 has linear projections, SD 1 convolutions.
            (false, true) if self.unet.use_linear_projection => SDVersion::V2Inpaint,
            (false, true) => SDVersion::V1_5Inpaint,
            (false, false) if self.unet.use_linear_projection => SDVersion::V2_1,
            (false, false) => SDVersion::V1_5,
        }
    }

    /// Width and height in pixels that the model was trained on, as its config says.
    #[must_use]
    pub fn default_size(&self) -> (usize, usize) {
        match self.sample_size() {
            Some([height, width]) => (width * self.vae.factor(), height * self.vae.factor()),
            None => self.version().default_size(),
        }
    }

    /// What is drawn where a request is silent: the checkpoint's own size, the steps and guidance of the closest version,
    /// or those of models that were distilled to a few steps. Where one of the seven was asked for by `name`, its own.
    #[must_use]
    pub fn defaults(&self, name: Option<SDVersion>) -> Defaults {
        let version = name.unwrap_or_else(|| self.version());
        let own = Defaults {
            size: self.default_size(),
            size_multiple: self.size_multiple(),
            any_size_multiple: self.vae.factor(),
            ..Defaults::of(version)
        };
        // diffusers' own numbers for models that embed the guidance scale.
        let few_steps = self.unet.time_cond_proj_dim.map_or_else(|| self.scheduler.few_steps(), |_| Some((4, 8.5)));
        match few_steps {
            Some((steps, guidance_scale)) if name.is_none() => Defaults { steps, guidance_scale, ..own },
            _ => own,
        }
    }

    /// The tensors that a component's weight file must have.
    ///
    /// # Errors
    /// When the config does not describe a model.
    pub fn weight_specs(&self, component: Component) -> Result<Vec<WeightSpec>> {
        match component {
            Component::TextEncoder => clip::weights(&self.text_encoders[0].config),
            Component::TextEncoder2 => self.text_encoders.get(1).map_or(Ok(Vec::new()), |e| clip::weights(&e.config)),
            Component::Unet => unet::weights(&self.unet),
            Component::Vae => vae::weights(&self.vae),
            _ => Ok(Vec::new()),
        }
    }
}

impl ModelConfigs {
    /// Graphs that use the weights of a part, each at its smallest.
    ///
    /// # Errors
    /// When the config does not describe a model.
    pub fn graphs(&self, part: Part) -> Result<Vec<Graph>> {
        match part {
            Part::TextEncoder(idx) => match self.text_encoders.get(idx) {
                Some(encoder) => Ok(vec![clip::whole_graph(&encoder.config, encoder.name)?]),
                None => Ok(Vec::new()),
            },
            Part::Unet => unet::graphs(&self.unet),
            Part::VaeDecoder => Ok(vec![vae::decoder_graph(&self.vae, 1, 1, 1)?]),
            Part::VaeEncoder => Ok(vec![vae::encoder_graph(&self.vae, 1, self.vae.factor(), self.vae.factor())?]),
        }
    }

    /// A graph of the VAE in the precision that its values need: SDXL's overflow f16.
    #[must_use]
    pub fn vae_graph(&self, graph: Graph) -> Graph {
        Graph { needs_f32: self.unet.text_time.is_some() && self.vae.force_upcast, ..graph }
    }

    /// Roughly the colours of latents, for previews: what the checkpoint says of itself, or what suits its family.
    #[must_use]
    pub fn preview_colours(&self) -> Colours {
        let (factors, bias) = match (&self.vae.latent_rgb_factors, self.unet.text_time.is_some()) {
            (Some(factors), _) => (factors.as_slice(), self.vae.latent_rgb_factors_bias.unwrap_or_default()),
            (None, true) => (&XL_RGB_FACTORS[..], [0.0; 3]),
            (None, false) => (&SD_RGB_FACTORS[..], [0.0; 3]),
        };
        let mut weights = [[0.0; 4]; 3];
        for (channel, factors) in factors.iter().take(4).enumerate() {
            for (weights, factor) in weights.iter_mut().zip(factors) {
                weights[channel] = factor / 2.0;
            }
        }
        Colours { weights, constant: bias.map(|bias| bias / 2.0 + 0.5) }
    }
}

/// Red, green and blue, from -1 to 1, of each channel of SD 1's and 2's latents, as ComfyUI has them.
const SD_RGB_FACTORS: [[f32; 3]; 4] =
    [[0.3512, 0.2297, 0.3227], [0.3250, 0.4974, 0.2350], [-0.2829, 0.1762, 0.2721], [-0.2120, -0.2616, -0.7177]];

/// The same for SDXL.
const XL_RGB_FACTORS: [[f32; 3]; 4] =
    [[0.3920, 0.4054, 0.4549], [-0.2634, -0.0196, 0.0653], [0.0568, 0.1687, -0.0755], [-0.3112, -0.2359, -0.2076]];

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

impl Part {
    /// The component of the checkpoint that it belongs to.
    #[must_use]
    pub fn component(self) -> Component {
        match self {
            Part::TextEncoder(0) => Component::TextEncoder,
            Part::TextEncoder(_) => Component::TextEncoder2,
            Part::Unet => Component::Unet,
            Part::VaeDecoder | Part::VaeEncoder => Component::Vae,
        }
    }
}

/// How long weights stay on the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Residency {
    /// From when they are first needed to the end: the next picture begins at once.
    #[default]
    Resident,
    /// While their stage lasts: text encoders, UNet and VAE one after another, for devices that cannot hold them together.
    Staged,
}

impl Residency {
    /// The name in settings and plans.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Residency::Resident => "resident",
            Residency::Staged => "staged",
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
    loaded: RefCell<Vec<(Part, Rc<R::Weights>)>>,
    notes: RefCell<Vec<String>>,
    residency: Residency,
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
    pub async fn as_it_comes(source: Rc<dyn Source>, residency: Residency) -> Result<Self> {
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
            notes: RefCell::default(),
            residency,
        })
    }

    /// Loads the weights that every picture needs from the files, all of which are open ([`ModelLoader::open`]); none where
    /// they are to be loaded stage by stage.
    ///
    /// # Errors
    /// As [`ModelComponents::part`].
    pub async fn load(&self, runner: &R, progress: &mut dyn FnMut(LoadProgress)) -> Result<()> {
        if self.residency != Residency::Resident {
            return Ok(());
        }
        let parts = self.parts();
        let total_bytes = parts.iter().map(|&part| self.n_bytes(part)).sum::<Result<u64>>()?;
        let mut before = 0;
        for part in parts {
            let component = part.component().folder();
            let mut report = |n_bytes| {
                progress(LoadProgress { component, loaded_bytes: before + n_bytes, total_bytes });
                true
            };
            report(0);
            self.part(runner, part, &mut report).await?;
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

    /// The weights of a part, brought to the device if they are not there. `go_on` is told the bytes read, and asked now
    /// and then while the file is waited for.
    ///
    /// # Errors
    /// What [`Runner::load`] says; [`Error::Cancelled`] when `go_on` said so while the file was waited for; what is wrong
    /// with a file that is opened only now.
    pub async fn part(&self, runner: &R, part: Part, go_on: &mut dyn FnMut(u64) -> bool) -> Result<Rc<R::Weights>> {
        let known = self.loaded.borrow().iter().find(|(known, _)| *known == part).map(|(_, w)| Rc::clone(w));
        if let Some(weights) = known {
            return Ok(weights);
        }
        let file = self.open_file(part, &mut || go_on(0)).await?;
        // What has begun to load is loaded: the next stage asks again.
        let mut told = |n_bytes| {
            go_on(n_bytes);
        };
        let weights = Rc::new(runner.load(&self.configs.graphs(part)?, &file, &mut told).await?);
        self.loaded.borrow_mut().push((part, Rc::clone(&weights)));
        Ok(weights)
    }

    /// Drops weights whose stage is over, where the device cannot hold all.
    pub fn release(&self, parts: &[Part]) {
        if self.residency == Residency::Staged {
            self.loaded.borrow_mut().retain(|(part, _)| !parts.contains(part));
        }
    }

    fn file(&self, part: Part) -> Result<Rc<Weights>> {
        let files = self.files.borrow();
        let file = files.iter().find(|(name, _)| *name == part.component().folder());
        file.map(|(_, weights)| Rc::clone(weights)).ok_or_else(|| Error::Hub {
            repo: self.name.clone(),
            reason: format!("has no {}", part.component().folder()),
        })
    }

    async fn open_file(&self, part: Part, go_on: &mut dyn FnMut() -> bool) -> Result<Rc<Weights>> {
        let component = part.component();
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

/// Reads and checks the files of a tokenizer.
async fn read_tokenizer(source: &dyn Source, files: &[ModelFile], folder: &str) -> Result<Tokenizer> {
    let read = async |name: &str| {
        let path = format!("{folder}/{name}");
        match files.iter().any(|file| file.path == path) {
            true => source.read_text(&path).await.map(Some),
            false => Ok(None),
        }
    };
    let whole = read("tokenizer.json").await?;
    let (config, map, added) = (
        read("tokenizer_config.json").await?,
        read("special_tokens_map.json").await?,
        read("added_tokens.json").await?,
    );
    let config = TokenizerConfig::from_files(&TokenizerFiles {
        tokenizer_config: config.as_deref(),
        special_tokens_map: map.as_deref(),
        added_tokens: added.as_deref(),
        tokenizer: whole.as_deref(),
    })?;
    match whole {
        Some(whole) => Tokenizer::from_tokenizer_json(&whole, &config),
        None => {
            let vocab = source.read_text(&format!("{folder}/vocab.json")).await?;
            let merges = source.read_text(&format!("{folder}/merges.txt")).await?;
            Tokenizer::new(&vocab, &merges, &config)
        }
    }
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
    let mut sources = Vec::new();
    for file in weight_files(files, component) {
        sources.push(source.open(&file.path).await?);
    }
    let weights = Weights::open(sources).await?;
    let unused = match (weights.check(&configs.weight_specs(component)?), &configs.vae.architecture) {
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
    pub async fn load(&self, progress: &mut dyn FnMut(LoadProgress)) -> Result<ModelComponents<R>> {
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
        let mut components = vec![Component::TextEncoder];
        if configs.text_encoders.len() > 1 {
            components.push(Component::TextEncoder2);
        }
        components.extend([Component::Unet, Component::Vae]);

        let mut opened = Vec::new();
        let mut notes = Vec::new();
        for component in components {
            let (weights, note) = open(self.source, &files, &configs, component).await?;
            opened.push((component.folder(), Rc::new(weights)));
            notes.extend(note);
        }
        let name = self.source.describe();
        let (files, loaded) = (RefCell::new(opened), RefCell::default());
        let notes = RefCell::new(notes);
        Ok(ModelComponents { name, configs, files, later: None, loaded, notes, residency: self.residency })
    }
}
