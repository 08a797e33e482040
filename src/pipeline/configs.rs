//! Everything about a checkpoint but its weights: the typed configs and the tokenizers, and what follows from them.

use crate::error::{Error, Result};
use crate::graph::{Graph, WeightSpec};
use crate::hub::{AddedWord, Component, ModelFile, Source};
use crate::model::config::{
    ClipTextConfig, ModelIndex, UNet2DConditionConfig, VaeArchitecture, VaeConfig, channels_of,
};
use crate::model::{SDVersion, clip, unet, vae};
use crate::pipeline::components::Part;
use crate::request::{Defaults, SideRule};
use crate::run::Colours;
use crate::sampler::SchedulerConfig;
use crate::tokenizer::{Tokenizer, TokenizerConfig, TokenizerFiles, Word};

/// A text encoder with its tokenizer.
#[derive(Debug)]
pub struct TextEncoder {
    /// `text_encoder` or `text_encoder_2`.
    pub name: &'static str,
    /// Its `config.json`; `vocab_size` counts the rows of added words too.
    pub config: ClipTextConfig,
    /// Text to ids.
    pub tokenizer: Tokenizer,
    /// Rows of its own table of embeddings.
    n_own_rows: usize,
    /// The id of the first added word; before it there may be rows that no word has.
    first_added: usize,
}

impl TextEncoder {
    fn new(name: &'static str, config: ClipTextConfig, tokenizer: Tokenizer) -> Self {
        let n_own_rows = config.vocab_size;
        TextEncoder { name, config, tokenizer, n_own_rows, first_added: n_own_rows }
    }

    /// With words beside the vocabulary: their ids follow all that are in use.
    fn with_words(mut self, words: &[AddedWord]) -> Self {
        if words.is_empty() {
            return self;
        }
        self.first_added = self.n_own_rows.max(self.tokenizer.first_free_id() as usize);
        let mut next = self.first_added as u32;
        let words = words.iter().map(|word| {
            let first = next;
            next += word.n_vectors as u32;
            Word { name: word.name.clone(), spellings: word.spellings.clone(), ids: (first..next).collect() }
        });
        let words = words.collect();
        self.config.vocab_size = next as usize;
        self.tokenizer = self.tokenizer.with_words(words);
        self
    }

    /// The rows of the encoder's own table, where an id has none: a word may have been added to the tokenizer alone.
    #[must_use]
    pub fn n_rows_without(&self, id: u32) -> Option<usize> {
        let id = id as usize;
        let has_row = id < self.n_own_rows || (self.first_added..self.config.vocab_size).contains(&id);
        (!has_row).then_some(self.n_own_rows)
    }

    /// The place of the token whose state is pooled. The ids of added words are no larger than others to it.
    #[must_use]
    pub fn pooled_position(&self, ids: &[u32]) -> usize {
        let own: Vec<u32> = ids.iter().map(|&id| if (id as usize) < self.first_added { id } else { 0 }).collect();
        self.config.pooled_position(&own)
    }
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
    /// Of a tiny autoencoder that decodes in the VAE's place, if one does.
    pub tiny_decoder: Option<VaeConfig>,
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
            text_encoders.push(TextEncoder::new(name, config, tokenizer));
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
        let decoder = files.iter().find(|file| file.component == Component::VaeDecoder);
        let tiny_decoder = match decoder {
            Some(file) => Some(VaeConfig::from_json("AutoencoderTiny", &read(&file.path).await?, &file.path)?),
            None => None,
        };
        let configs = ModelConfigs { index, text_encoders, unet, vae, tiny_decoder, scheduler };
        configs.check()?;
        configs.with_words(&source.words())
    }

    /// With words beside the vocabulary, which must be as wide as the text encoders.
    fn with_words(mut self, words: &[AddedWord]) -> Result<Self> {
        let widths: Vec<usize> = self.text_encoders.iter().map(|encoder| encoder.config.hidden_size).collect();
        let shown = |widths: &[usize]| widths.iter().map(usize::to_string).collect::<Vec<_>>().join(" and ");
        let longest = self.text_encoders.iter().map(|encoder| encoder.tokenizer.tokens_per_chunk()).min().unwrap_or(0);
        for (idx, word) in words.iter().enumerate() {
            let refuse = |reason| Err(Error::Hub { repo: word.file.clone(), reason });
            if word.widths != widths {
                return refuse(format!(
                    "the vectors of this embedding are {} wide{}, and this model, which is {}, reads words of {}: take an \
                     embedding that was made for it",
                    shown(&word.widths),
                    family_of(&word.widths).map(|family| format!(", for {family}")).unwrap_or_default(),
                    self.family(),
                    shown(&widths)
                ));
            }
            if word.n_vectors > longest {
                let n = word.n_vectors;
                return refuse(format!("this embedding has {n} vectors, and a text encoder reads {longest} at once"));
            }
            let same = |a: &str, b: &str| a.to_lowercase() == b.to_lowercase();
            let earlier = words[..idx].iter().find(|other| same(&other.name, &word.name));
            if let Some(other) = earlier {
                let name = &word.name;
                return refuse(format!(
                    "the word {name:?} is also that of {}: rename one of the two files, or give it once",
                    other.file
                ));
            }
        }
        self.text_encoders = self.text_encoders.into_iter().map(|encoder| encoder.with_words(words)).collect();
        Ok(self)
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
        if let Some(tiny) = &self.tiny_decoder
            && (tiny.latent_channels, tiny.factor()) != (latent_channels, self.vae.factor())
        {
            let reason = format!(
                "it decodes {} channels by {}, and the model's latents have {latent_channels} by {}",
                tiny.latent_channels,
                tiny.factor(),
                self.vae.factor()
            );
            return Err(Error::Config { file: "vae_decoder/config.json".into(), reason });
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

    /// The family, as people say it.
    #[must_use]
    pub fn family(&self) -> &'static str {
        match (self.unet.text_time.is_some(), self.unet.use_linear_projection) {
            (true, _) => "Stable Diffusion XL",
            (false, true) => "Stable Diffusion 2",
            (false, false) => "Stable Diffusion 1",
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
            Component::VaeDecoder => match &self.tiny_decoder {
                Some(tiny) => Ok(vae::decoder_graph(tiny, 1, 1, 1)?.weights()),
                None => Ok(Vec::new()),
            },
            Component::ModelIndex | Component::Scheduler | Component::Tokenizer | Component::Tokenizer2 => {
                Ok(Vec::new())
            }
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
            Part::VaeDecoder => Ok(vec![self.decoder_graph(1, 1)?]),
            Part::VaeEncoder => Ok(vec![vae::encoder_graph(&self.vae, 1, self.vae.factor(), self.vae.factor())?]),
        }
    }

    /// A graph of the VAE in the precision that its values need: SDXL's overflow f16.
    #[must_use]
    pub fn vae_graph(&self, graph: Graph) -> Graph {
        Graph { needs_f32: self.unet.text_time.is_some() && self.vae.force_upcast, ..graph }
    }

    /// Latents of `height` x `width` to a picture, by whatever decodes in this model, in the precision that it needs.
    ///
    /// # Errors
    /// When the config does not describe a model.
    pub fn decoder_graph(&self, height: usize, width: usize) -> Result<Graph> {
        match &self.tiny_decoder {
            Some(tiny) => vae::decoder_graph(tiny, 1, height, width),
            None => Ok(self.vae_graph(vae::decoder_graph(&self.vae, 1, height, width)?)),
        }
    }

    /// The component whose file has a part's weights.
    #[must_use]
    pub fn component(&self, part: Part) -> Component {
        match part {
            Part::TextEncoder(0) => Component::TextEncoder,
            Part::TextEncoder(_) => Component::TextEncoder2,
            Part::Unet => Component::Unet,
            Part::VaeDecoder if self.tiny_decoder.is_some() => Component::VaeDecoder,
            Part::VaeDecoder | Part::VaeEncoder => Component::Vae,
        }
    }

    /// The components that have weights.
    #[must_use]
    pub fn components(&self) -> Vec<Component> {
        let mut components = vec![Component::TextEncoder];
        if self.text_encoders.len() > 1 {
            components.push(Component::TextEncoder2);
        }
        components.extend([Component::Unet, Component::Vae]);
        if self.tiny_decoder.is_some() {
            components.push(Component::VaeDecoder);
        }
        components
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

/// The family whose text encoders are as wide.
fn family_of(widths: &[usize]) -> Option<&'static str> {
    match widths {
        [768] => Some("Stable Diffusion 1"),
        [1024] => Some("Stable Diffusion 2"),
        [768, 1280] => Some("Stable Diffusion XL"),
        _ => None,
    }
}

/// Red, green and blue, from -1 to 1, of each channel of SD 1's and 2's latents, as ComfyUI has them.
const SD_RGB_FACTORS: [[f32; 3]; 4] =
    [[0.3512, 0.2297, 0.3227], [0.3250, 0.4974, 0.2350], [-0.2829, 0.1762, 0.2721], [-0.2120, -0.2616, -0.7177]];

/// The same for SDXL.
const XL_RGB_FACTORS: [[f32; 3]; 4] =
    [[0.3920, 0.4054, 0.4549], [-0.2634, -0.0196, 0.0653], [0.0568, 0.1687, -0.0755], [-0.3112, -0.2359, -0.2076]];

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
