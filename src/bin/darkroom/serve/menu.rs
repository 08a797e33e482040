//! What this server draws, with its limits, and the check that a request can be drawn before it waits in the queue.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use axum::http::StatusCode;
use darkroom::Result;
use darkroom::checkpoint::local::{LocalModel, Place};
use darkroom::image::FileFormat;
use darkroom::model::SDVersion;
use darkroom::parameters::Parameters;
use darkroom::pipeline::ModelConfigs;
use darkroom::request::{Defaults, ExpandedRequest, LoraUse, Request, SDConfig, Variation};
use darkroom::sampler::Sampler;

use super::failure::Failure;
use super::models_folder::ModelsFolder;
use super::request::JobRequest;
use super::upload::{Role, Upload};
use crate::loras::LoraFolder;
use crate::numbers::random_seed;
use crate::wildcards::WildcardsFolder;

/// The longest prompt, in bytes: some two hundred times what a text encoder reads at once.
pub const MAX_PROMPT_BYTES: usize = 64 << 10;

/// What one client may ask of the server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests that may wait.
    pub n_waiting: usize,
    /// Pixels of a picture's longer side.
    pub side: usize,
    /// Pictures of one request.
    pub count: usize,
    /// Clients that may listen to events at a time.
    pub n_listeners: usize,
}

/// What requests are checked against.
pub struct Menu {
    /// Every model that was ever here, so that a place stays a model's own.
    models: RwLock<Vec<(Arc<Model>, IsHere)>>,
    /// Where further models come and go.
    folder: Option<ModelsFolder>,
    /// LoRAs that requests may name.
    pub loras: Option<LoraFolder>,
    /// Lists that prompts may choose from.
    wildcards: Option<Arc<WildcardsFolder>>,
    pub limits: Limits,
    /// What finished pictures may take, in bytes.
    pub results_bytes: u64,
}

/// Whether a model can be asked for still.
type IsHere = bool;

/// A model that can be asked for, as its own files describe it.
pub struct Model {
    pub name: String,
    /// The version that it was named by, if it was.
    pub version: Option<SDVersion>,
    /// Where it is.
    pub local: LocalModel,
    pub is_inpaint: bool,
    pub defaults: Defaults,
    pub sampler: Sampler,
    /// Those that are offered, the model's own among them.
    pub samplers: Vec<Sampler>,
}

impl Model {
    /// Reads the model's configuration, not its weights. `named` is the version that it was asked for by, if it was.
    ///
    /// # Errors
    /// Where a file of it is at fault, by its name.
    pub async fn read(name: String, named: Option<SDVersion>, local: LocalModel) -> Result<Self> {
        let source = local.open().await?;
        let configs = ModelConfigs::read(&*source, &source.list().await?).await?;
        Ok(Model {
            name,
            version: named,
            local,
            is_inpaint: configs.is_inpaint(),
            defaults: configs.defaults(named),
            sampler: configs.scheduler.sampler()?,
            samplers: configs.scheduler.menu(),
        })
    }

    /// The file that is there as long as the model is.
    fn file(&self) -> PathBuf {
        match &self.local.place {
            Place::Folder(folder) => folder.root().join("model_index.json"),
            Place::File(path) => path.clone(),
        }
    }

    /// Whether it is where it was.
    fn is_on_disk(&self) -> bool {
        self.file().exists()
    }

    /// When it was written, as far as the file system tells.
    pub fn written(&self) -> Option<std::time::SystemTime> {
        std::fs::metadata(self.file()).and_then(|file| file.modified()).ok()
    }
}

/// A request that was checked. Its pictures stay files until it is drawn.
pub struct CheckedRequest {
    /// The model's place on the menu.
    pub model_idx: usize,
    /// Its name.
    pub model: String,
    /// What is drawn; of prompts that choose, the first picture's, with the number of all.
    pub config: SDConfig,
    /// Each picture's, where the prompts chose.
    chosen: Vec<SDConfig>,
    pub sampler: Sampler,
    has_start_picture: bool,
    pub image: Option<Upload>,
    pub mask: Option<Upload>,
    pub mask_role: Role,
    pub format: FileFormat,
}

impl CheckedRequest {
    /// What the request decides of what is written into its pictures; the seed is the first one's.
    pub fn parameters(&self) -> Parameters {
        Parameters::of(&self.config, self.has_start_picture, self.mask.is_some(), self.sampler, self.model.clone())
    }

    /// What is drawn one after the other: for each picture, or once for all.
    pub fn configs(&self) -> &[SDConfig] {
        if self.chosen.is_empty() { std::slice::from_ref(&self.config) } else { &self.chosen }
    }

    /// The variation of a picture, by its index.
    pub fn variation_of(&self, picture_idx: usize) -> Option<Variation> {
        match self.chosen.get(picture_idx) {
            Some(own) => own.variation,
            None => self.config.variation_of(picture_idx),
        }
    }

    /// Whether pictures may have prompts of their own.
    pub fn has_chosen(&self) -> bool {
        !self.chosen.is_empty()
    }

    /// The LoRAs of all pictures.
    pub fn loras(&self) -> Vec<LoraUse> {
        let mut all: Vec<LoraUse> = Vec::new();
        for lora in self.configs().iter().flat_map(|config| &config.loras) {
            if all.iter().all(|known| known.name != lora.name) {
                all.push(lora.clone());
            }
        }
        all
    }

    /// What is drawn, as the library reads it: with everything that the model, this server or chance decided.
    pub fn resolved(&self) -> Request {
        let request = Request::from(self.parameters());
        Request { count: Some(self.config.count), attention: Some(self.config.attention), ..request }
    }

    /// What it holds of what the client sent.
    pub fn n_bytes(&self) -> u64 {
        let bytes_of = |config: &SDConfig| {
            let SDConfig { negative_prompt, template, negative_template, .. } = config;
            let others = [negative_prompt, template, negative_template].into_iter().flatten();
            config.prompt.len() + others.map(String::len).sum::<usize>()
        };
        let texts = [&self.config].into_iter().chain(&self.chosen).map(bytes_of).sum::<usize>();
        let pictures = [&self.image, &self.mask].into_iter().flatten().map(Upload::n_bytes).sum::<usize>();
        (texts + pictures) as u64
    }
}

fn not_found(message: String) -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "model_not_found", message).about("model")
}

fn refuse<T>(param: &str, message: String) -> Result<T, Failure> {
    Err(Failure::of(param, message))
}

/// The prompt that is too long, by its name and length in bytes.
fn too_long(asked: &Request) -> Option<(&'static str, usize)> {
    let negative = asked.negative_prompt.as_deref().unwrap_or_default();
    let lengths = [("prompt", asked.prompt.len()), ("negative_prompt", negative.len())];
    lengths.into_iter().find(|(_, n_bytes)| *n_bytes > MAX_PROMPT_BYTES)
}

/// The format of a picture's file from its name and quality.
///
/// # Errors
/// 400 with what would work.
fn file_format(name: Option<&str>, quality: Option<i64>) -> Result<FileFormat, Failure> {
    let of = |message: String| Failure::of("output_compression", message);
    let percent = match quality {
        None => 100,
        Some(n) => u8::try_from(n)
            .ok()
            .filter(|n| *n <= 100)
            .ok_or_else(|| of(format!("output_compression {n} is not possible: use 0 (small) to 100 (best)")))?,
    };
    match name {
        None | Some("png") if percent < 100 => {
            let message = "is not possible for png, which has no losses: use jpeg or webp as output_format";
            Err(of(format!("output_compression {percent} {message}")))
        }
        None | Some("png") => Ok(FileFormat::Png),
        Some("jpeg" | "jpg") => Ok(FileFormat::Jpeg { quality: percent }),
        Some("webp") => Ok(FileFormat::WebP { quality: percent }),
        Some(other) => {
            let message = format!("output_format {other:?} is not possible: use png, jpeg or webp");
            Err(Failure::of("output_format", message))
        }
    }
}

impl Menu {
    /// Models that stay, and a folder where others come and go.
    pub fn new(models: Vec<Model>, folder: Option<ModelsFolder>, limits: Limits, results_bytes: u64) -> Self {
        let models = models.into_iter().map(|model| (Arc::new(model), true)).collect();
        let menu = Menu { models: RwLock::new(models), folder, loras: None, wildcards: None, limits, results_bytes };
        menu.look();
        menu
    }

    /// With LoRAs that requests may name.
    pub fn with_loras(self, loras: Option<LoraFolder>) -> Self {
        Menu { loras, ..self }
    }

    /// With lists that prompts may choose from.
    pub fn with_wildcards(self, wildcards: Option<WildcardsFolder>) -> Self {
        Menu { wildcards: wildcards.map(Arc::new), ..self }
    }

    /// Decides what the prompts of a request leave open, as far as their lengths and the number of pictures are such that
    /// the request will be taken: [`Menu::check`] says what is wrong otherwise. Work for another thread.
    pub fn choose(&self, asked: &Request) -> impl FnOnce() -> Result<ExpandedRequest> + Send + use<> {
        let may_be_taken = asked.count.is_none_or(|count| count <= self.limits.count) && too_long(asked).is_none();
        let (asked, wildcards) = (asked.clone().with_variation_seed(random_seed), self.wildcards.clone());
        move || {
            if !may_be_taken {
                return Ok(ExpandedRequest { requests: vec![asked], notes: Vec::new() });
            }
            let lists = wildcards.map(|folder| folder.lists()).transpose()?;
            asked.expanded(lists.as_deref(), random_seed())
        }
    }

    /// Refuses LoRAs that are not here, whether in the list or in tags of the prompt.
    fn check_loras(&self, request: &Request) -> Result<(), Failure> {
        let (_, tags) = request.lora_tags()?;
        let of = |param: &'static str| move |lora| (param, lora);
        for (param, lora) in request.loras.iter().map(of("loras")).chain(tags.iter().map(of("prompt"))) {
            let found = match &self.loras {
                Some(folder) => folder.find(&lora.name).map(|_| ()).map_err(|error| error.to_string()),
                None => Err(format!(
                    "lora {:?} is not possible: no such files are loaded here, which --lora-dir FOLDER does",
                    lora.name
                )),
            };
            if let Err(message) = found {
                return refuse(param, message);
            }
        }
        Ok(())
    }

    /// Takes what came into the folder and drops what went.
    fn look(&self) {
        let Some(folder) = &self.folder else { return };
        let changes = folder.look();
        if changes.added.is_empty() && changes.gone.is_empty() {
            return;
        }
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        for (model, is_here) in models.iter_mut() {
            *is_here &= !changes.gone.contains(&model.name);
        }
        for model in changes.added {
            let is_taken = models.iter().any(|(other, is_here)| *is_here && other.name == model.name);
            if is_taken {
                log::warn!("there are two models {}; the one in the folder is left out", model.name);
            } else {
                models.push((Arc::new(model), true));
            }
        }
    }

    /// The models that can be asked for now, with their places.
    pub fn models(&self) -> Vec<(usize, Arc<Model>)> {
        self.look();
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        models
            .iter()
            .enumerate()
            .filter(|(_, (_, is_here))| *is_here)
            .map(|(idx, (m, _))| (idx, Arc::clone(m)))
            .collect()
    }

    /// The model at a place.
    ///
    /// # Errors
    /// 404 where there is none, or none any more.
    pub fn model(&self, idx: usize) -> Result<Arc<Model>, Failure> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        match models.get(idx) {
            Some((model, true)) => Ok(Arc::clone(model)),
            Some((model, false)) => Err(not_found(format!("the model {:?} is not here any more", model.name))),
            None => Err(not_found("there is no model here: put one into the folder of --models".into())),
        }
    }

    /// What is told of a model that was here when a request came and is not any more; `None` of one that is here.
    pub fn gone(&self, idx: usize) -> Option<Failure> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        let (model, is_here) = models.get(idx)?;
        // The folder may not have been looked at since.
        if *is_here && model.is_on_disk() {
            return None;
        }
        Some(not_found(format!("the model {:?} was removed or replaced while the request waited", model.name)))
    }

    /// The model at a place, or the first one where that has gone.
    ///
    /// # Errors
    /// 404 where there is none at all.
    pub fn model_or_first(&self, idx: usize) -> Result<Arc<Model>, Failure> {
        self.model(idx).or_else(|_| self.model(self.first_idx()))
    }

    /// The place of the first model.
    pub fn first_idx(&self) -> usize {
        self.models().first().map_or(0, |(idx, _)| *idx)
    }

    /// The place of the model of that name, with or without the ending of a file, or of the first one.
    ///
    /// # Errors
    /// 404 with the names that there are.
    pub fn model_idx(&self, name: Option<&str>) -> Result<usize, Failure> {
        let Some(name) = name else { return Ok(self.first_idx()) };
        let models = self.models();
        let stem = |name: &str| {
            let cut = [".safetensors", ".gguf"].iter().find_map(|end| name.strip_suffix(end));
            cut.unwrap_or(name).to_owned()
        };
        let found = models.iter().find(|(_, model)| model.name == name);
        let found = found.or_else(|| models.iter().find(|(_, model)| stem(&model.name) == name));
        found.map(|(idx, _)| *idx).ok_or_else(|| {
            let names: Vec<&str> = models.iter().map(|(_, model)| model.name.as_str()).collect();
            not_found(format!("there is no model {name:?} here: use {}", names.join(" or ")))
        })
    }

    /// Checks a request as far as that needs no pixels. `picture` is the start picture's width and height, once they are
    /// known: it is asked again then. `chosen` has a request for each picture where the prompts chose.
    pub fn check(
        &self,
        request: &JobRequest,
        chosen: &[Request],
        picture: Option<(usize, usize)>,
    ) -> Result<CheckedRequest, Failure> {
        let [first, rest @ ..] = chosen else { return self.check_one(request, &request.request, picture) };
        let mut checked = self.check_one(request, first, picture)?;
        // Nothing was left open: it draws all its pictures itself.
        if rest.is_empty() && first.template.is_none() && first.negative_template.is_none() {
            return Ok(checked);
        }
        let others = rest.iter().map(|asked| Ok(self.check_one(request, asked, picture)?.config));
        checked.chosen = std::iter::once(Ok(checked.config.clone())).chain(others).collect::<Result<_, Failure>>()?;
        checked.config.count = checked.chosen.len();
        self.check_results(&checked.config, picture)?;
        Ok(checked)
    }

    fn check_one(
        &self,
        request: &JobRequest,
        asked: &Request,
        picture: Option<(usize, usize)>,
    ) -> Result<CheckedRequest, Failure> {
        let model_idx = self.model_idx(request.model.as_deref())?;
        let model = &*self.model(model_idx)?;
        if let Some((name, n_bytes)) = too_long(asked) {
            let message = format!("{name} of {n_bytes} bytes is not possible: use {MAX_PROMPT_BYTES} at most");
            return Err(Failure::of(name, message));
        }
        self.check_loras(asked)?;
        let has_mask = request.mask.is_some();
        if model.is_inpaint && !has_mask {
            return refuse("mask", format!("{} only repaints parts of a picture: give image and mask", model.name));
        }
        let defaults = Defaults { max_side: self.limits.side, ..model.defaults };
        // Until its size is known, a start picture is taken to have the model's own.
        let picture = request.image.as_ref().map(|_| picture.unwrap_or(defaults.size));
        let config = asked.resolve(&defaults, picture, has_mask, random_seed())?;
        for (side, got) in [("width", config.width), ("height", config.height)] {
            if got > self.limits.side {
                let most = self.limits.side - self.limits.side % defaults.sides().multiple(config.any_size);
                return refuse(side, format!("{side} {got} is not possible: this server allows {most} at most"));
            }
        }
        let most = self.limits.count;
        if !(1..=most).contains(&config.count) {
            return refuse("count", format!("count {} is not possible: this server allows 1 to {most}", config.count));
        }
        config.validate_for(defaults.sides())?;
        self.check_results(&config, picture)?;
        let sampler = config.sampler.unwrap_or(model.sampler);
        let (image, mask) = (request.image.clone(), request.mask.clone());
        let format = file_format(request.output_format.as_deref(), request.output_compression)?;
        let mask_role = Role::Mask(request.mask_form);
        let (model, has_start_picture) = (model.name.clone(), image.is_some());
        let chosen = Vec::new();
        Ok(CheckedRequest {
            model_idx,
            model,
            config,
            chosen,
            sampler,
            has_start_picture,
            image,
            mask,
            mask_role,
            format,
        })
    }

    /// What a job draws is kept until it is fetched, all of it at once.
    fn check_results(&self, config: &SDConfig, picture: Option<(usize, usize)>) -> Result<(), Failure> {
        let SDConfig { count, width, height, .. } = *config;
        let own = picture.filter(|_| config.padding_mask_crop.is_some());
        let (width, height) = own.unwrap_or((width, height));
        let n_bytes = count as u64 * (width * height * 3) as u64;
        if n_bytes <= self.results_bytes {
            return Ok(());
        }
        let (n_mib, most) = (n_bytes >> 20, self.results_bytes >> 20);
        refuse(
            "count",
            format!(
                "{count} pictures of {width}x{height} may take {n_mib} MiB, and this server keeps {most}: ask for fewer \
                 or smaller ones"
            ),
        )
    }
}
