//! A model in a store, as a [`Source`]: tensors are read by range, so a file is never in memory as a whole. Models get there
//! by [`super::download`], or by [`import`] from files picked elsewhere.

use std::rc::Rc;

use super::arrival::Arrival;
use super::{
    Component, IndexTexts, ListedFile, ModelFile, Needs, Source, Variant, choose_files, choose_present, index_files,
};
use crate::error::words::counted;
use crate::error::{Error, Result};
use crate::store::{CHUNK_BYTES, Manifest, Sha256Stream, Store, StoredFile};
use crate::weights::{ByteSource, LocalFuture};

/// The longest file that is read as a text, in bytes. The largest in use, XL's `vocab.json`, has about one million.
const MAX_TEXT_BYTES: u64 = 32 << 20;

/// The folder of the configuration that was imported with a checkpoint in one file.
const CONFIG_FOLDER: &str = "config/";

/// A model in a store: a complete one, or one that is on its way, whose files are waited for.
pub struct StoredModel {
    store: Rc<dyn Store>,
    manifest: Rc<Manifest>,
    arrival: Option<Rc<Arrival>>,
    /// The folder that paths start from, with a slash at its end; empty for the model itself.
    front: &'static str,
    /// Whether it is read as a configuration: weights and vocabularies may be missing.
    is_config: bool,
}

impl StoredModel {
    /// Opens a model by the name that it is kept under.
    ///
    /// # Errors
    /// [`Error::Hub`] where it is not there, or not complete.
    pub async fn open(store: Rc<dyn Store>, model: &str) -> Result<Self> {
        let refuse = |reason: String| Error::Hub { repo: model.to_owned(), reason };
        let manifest = store.manifest(model).await?;
        let manifest = manifest.ok_or_else(|| refuse(format!("is not in {}: download it first", store.describe())))?;
        if let Some(file) = manifest.files.iter().find(|file| !file.complete) {
            return Err(refuse(format!(
                "{} is not complete: download the model again, which goes on there",
                file.path
            )));
        }
        Ok(StoredModel { store, manifest: Rc::new(manifest), arrival: None, front: "", is_config: false })
    }

    /// Opens a model that is being downloaded, as soon as it is known what is to come.
    ///
    /// # Errors
    /// [`Error::Hub`] where the download ended before that.
    pub async fn arriving(store: Rc<dyn Store>, arrival: Rc<Arrival>) -> Result<Self> {
        let manifest = Rc::new(arrival.manifest().await?);
        Ok(StoredModel { store, manifest, arrival: Some(arrival), front: "", is_config: false })
    }

    /// Whether its files may have to be waited for.
    #[must_use]
    pub fn is_arriving(&self) -> bool {
        self.arrival.is_some()
    }

    /// What the store knows of it.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The path of the weights where the model is a checkpoint in one file: the only weights, without a `model_index.json`.
    #[must_use]
    pub fn single_file(&self) -> Option<&str> {
        let files = &self.manifest.files;
        if files.iter().any(|file| file.path == "model_index.json") {
            return None;
        }
        let mut weights = files.iter().map(|file| file.path.as_str()).filter(|path| is_weights(path));
        weights.next().filter(|_| weights.next().is_none())
    }

    /// The model as the configuration of a checkpoint in one file.
    #[must_use]
    pub fn as_config(mut self) -> Self {
        self.is_config = true;
        self
    }

    /// The configuration that was imported with a checkpoint in one file.
    #[must_use]
    pub fn own_config(&self) -> Option<Self> {
        let index = format!("{CONFIG_FOLDER}model_index.json");
        self.manifest.file(&index)?;
        Some(StoredModel {
            store: Rc::clone(&self.store),
            manifest: Rc::clone(&self.manifest),
            arrival: self.arrival.clone(),
            front: CONFIG_FOLDER,
            is_config: true,
        })
    }

    /// The text of the `.yaml` that was imported with a checkpoint in one file.
    ///
    /// # Errors
    /// As [`Source::read_text`].
    pub async fn own_yaml(&self) -> Result<Option<String>> {
        match self.manifest.files.iter().find(|file| file.path.ends_with(".yaml")) {
            Some(file) => Ok(Some(self.read_text(&file.path).await?)),
            None => Ok(None),
        }
    }

    fn file(&self, path: &str) -> Result<StoredBytes> {
        let full = format!("{}{path}", self.front);
        let file = self.manifest.files.iter().position(|file| file.path == full);
        let index = file.ok_or_else(|| Error::Hub { repo: self.describe(), reason: format!("has no file {path}") })?;
        Ok(StoredBytes { store: Rc::clone(&self.store), manifest: Rc::clone(&self.manifest), index })
    }
}

impl Source for StoredModel {
    fn list<'a>(&'a self) -> LocalFuture<'a, Result<Vec<ModelFile>>> {
        Box::pin(async move {
            let index = "model_index.json";
            let needs = Needs::from_model_index(index, &self.read_text(index).await?)?;
            let (all, variant) = (listed(&self.manifest.files, self.front), Variant::default());
            let mut indexes = IndexTexts::new();
            for path in index_files(&all, needs, &variant) {
                let text = self.read_text(&path).await?;
                indexes.insert(path, text);
            }
            let choose = if self.is_config { choose_present } else { choose_files };
            choose(&self.describe(), &all, needs, &variant, &indexes)
        })
    }

    fn read_text<'a>(&'a self, path: &'a str) -> LocalFuture<'a, Result<String>> {
        Box::pin(async move {
            self.ready(path, &mut || true).await?;
            text(&self.file(path)?, path).await
        })
    }

    fn open<'a>(&'a self, path: &'a str) -> LocalFuture<'a, Result<Box<dyn ByteSource>>> {
        Box::pin(async move {
            self.ready(path, &mut || true).await?;
            Ok(Box::new(self.file(path)?) as Box<dyn ByteSource>)
        })
    }

    fn ready<'a>(&'a self, path: &'a str, go_on: &'a mut dyn FnMut() -> bool) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            let path = format!("{}{path}", self.front);
            match &self.arrival {
                // A file that the model does not have is refused by the caller, not waited for.
                Some(arrival) if self.manifest.file(&path).is_some() => arrival.file(&path, go_on).await,
                _ => Ok(()),
            }
        })
    }

    fn describe(&self) -> String {
        self.manifest.model.clone()
    }
}

/// Whether a file is a checkpoint's weights by its name.
#[must_use]
pub fn is_weights(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    lower.ends_with(".safetensors") || lower.ends_with(".gguf")
}

/// The files below a folder, by their paths in it.
fn listed(files: &[StoredFile], front: &str) -> Vec<ListedFile> {
    let listed = |file: &StoredFile| {
        Some(ListedFile {
            path: file.path.strip_prefix(front)?.to_owned(),
            bytes: Some(file.bytes),
            sha256: file.sha256.clone(),
            git_oid: file.git_oid.clone(),
        })
    };
    files.iter().filter_map(listed).collect()
}

async fn text(source: &dyn ByteSource, path: &str) -> Result<String> {
    let config = |reason: String| Error::Config { file: path.to_owned(), reason };
    let n_bytes = source.len();
    if n_bytes > MAX_TEXT_BYTES {
        let reason = format!("it has {n_bytes} bytes, more than the {MAX_TEXT_BYTES} that a text file may have");
        return Err(config(reason));
    }
    String::from_utf8(source.read(0, n_bytes as usize).await?).map_err(|_| config("is not UTF-8".to_owned()))
}

/// A file in a store. A read takes the range that was asked for and, chunk by chunk, nothing else.
struct StoredBytes {
    store: Rc<dyn Store>,
    manifest: Rc<Manifest>,
    index: usize,
}

impl StoredBytes {
    fn stored(&self) -> &StoredFile {
        &self.manifest.files[self.index]
    }
}

impl ByteSource for StoredBytes {
    fn name(&self) -> &str {
        &self.stored().path
    }

    fn len(&self) -> u64 {
        self.stored().bytes
    }

    fn read<'a>(&'a self, offset: u64, len: usize) -> LocalFuture<'a, Result<Vec<u8>>> {
        Box::pin(async move {
            let file = self.stored();
            let Some(end) = offset.checked_add(len as u64).filter(|end| *end <= file.bytes) else {
                let reason = format!("{} from {offset} on are not in {}", counted(len, "byte"), file.path);
                return Err(Error::Store { store: self.store.describe(), reason });
            };
            let mut bytes = Vec::with_capacity(len);
            let mut at = offset;
            while at < end {
                let chunk = (at / CHUNK_BYTES) as u32;
                let (start, chunk_end) = file.range(chunk);
                let n_bytes = (chunk_end.min(end) - at) as usize;
                let within = (at - start) as usize;
                self.store.read_chunk(&self.manifest.model, &file.path, chunk, within, n_bytes, &mut bytes).await?;
                at += n_bytes as u64;
            }
            Ok(bytes)
        })
    }
}

/// A chunk that is not what it was when it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: String,
    /// The number of the chunk.
    pub chunk: u32,
    /// Its length.
    pub bytes: u64,
}

/// Reads a model back and compares every chunk with its digest, and every file with its own. What is damaged is dropped
/// alone, so that the next download fetches it again. `on_bytes` is told the file and how many bytes of all were read.
///
/// # Errors
/// [`Error::Hub`] where the model is not there, [`Error::Store`] where the store cannot be written.
pub async fn verify(store: &dyn Store, model: &str, on_bytes: &mut dyn FnMut(&str, u64)) -> Result<Vec<Damage>> {
    let _lock = store.lock(model).await?;
    let absent = || Error::Hub { repo: model.to_owned(), reason: format!("is not in {}", store.describe()) };
    let mut manifest = store.manifest(model).await?.ok_or_else(absent)?;
    let mut damaged = Vec::new();
    let mut n_read = 0;
    for i in 0..manifest.files.len() {
        let file = manifest.files[i].clone();
        let present = store.chunks(model, &file.path).await?;
        let mut whole = Sha256Stream::default();
        let mut is_whole = true;
        for chunk in 0..file.n_chunks() {
            let n_bytes = file.chunk_bytes(chunk);
            let mut bytes = Vec::with_capacity(n_bytes as usize);
            let read = store.read_chunk(model, &file.path, chunk, 0, n_bytes as usize, &mut bytes).await;
            let known = present.get(&chunk);
            if read.is_ok() && known == Some(&store.digest(&bytes).await) {
                whole.update(&bytes);
            } else {
                is_whole = false;
                store.remove_chunk(model, &file.path, chunk).await?;
                // A chunk that never came is not damaged.
                if known.is_some() || file.complete {
                    damaged.push(Damage { path: file.path.clone(), chunk, bytes: n_bytes });
                }
            }
            n_read += n_bytes;
            on_bytes(&file.path, n_read);
        }
        let digest = whole.finish();
        if is_whole && file.sha256.as_ref().is_some_and(|expected| *expected != digest) {
            // Every chunk is as it came, so the content was wrong from the start; where is unknown.
            store.remove_file(model, &file.path).await?;
            damaged.push(Damage { path: file.path.clone(), chunk: 0, bytes: file.bytes });
            is_whole = false;
        }
        if file.complete != is_whole {
            manifest.files[i].complete = is_whole;
            store.write_manifest(&manifest).await?;
        }
    }
    Ok(damaged)
}

/// A file on its way into a store: the path that it gets there, and where it is read.
type Picked<'a> = (String, &'a dyn ByteSource);

/// Files from elsewhere, by path.
type Given = (String, Box<dyn ByteSource>);

/// The path in front of `model_index.json`, where there is one: the shortest of several.
fn front_of(files: &[Given]) -> Option<&str> {
    let fronts = files.iter().filter_map(|(path, _)| path.strip_suffix("model_index.json"));
    fronts.filter(|front| front.is_empty() || front.ends_with('/')).min_by_key(|front| front.len())
}

/// Whether a path is in the folder of a component.
fn is_in_component(path: &str) -> bool {
    use Component::*;
    let folder = path.split_once('/').map(|(folder, _)| folder);
    let all = [Scheduler, Tokenizer, Tokenizer2, TextEncoder, TextEncoder2, Unet, Vae];
    folder.is_some_and(|folder| all.iter().any(|component| component.folder() == folder))
}

/// A checkpoint in one file, with its `.yaml` and, from a folder without weights, its configuration. `None` where the files
/// are something else.
fn picked_single(files: &[Given]) -> Option<Vec<Picked<'_>>> {
    let mut weights = files.iter().filter(|(path, _)| is_weights(path));
    let (path, source) = weights.next().filter(|_| weights.next().is_none())?;
    let front = front_of(files);
    if front.is_some_and(|front| path.strip_prefix(front).is_some_and(is_in_component)) {
        return None;
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    let mut picked: Vec<Picked<'_>> = vec![(name.to_owned(), source.as_ref())];
    let yaml = name.rsplit_once('.').map(|(stem, _)| format!("{stem}.yaml"));
    for (path, source) in files {
        let own = path.rsplit('/').next().unwrap_or(path);
        if Some(own) == yaml.as_deref() {
            picked.push((own.to_owned(), source.as_ref()));
            continue;
        }
        let Some(inner) = front.and_then(|front| path.strip_prefix(front)) else { continue };
        let is_text = inner.ends_with(".json") || inner.ends_with(".txt");
        if inner == "model_index.json" || is_text && is_in_component(inner) {
            picked.push((format!("{CONFIG_FOLDER}{inner}"), source.as_ref()));
        }
    }
    Some(picked)
}

/// What a model in diffusers' layout needs of the files. A common folder in front is taken off.
async fn picked_folder<'a>(name: &str, files: &'a [Given]) -> Result<Vec<Picked<'a>>> {
    let refuse = |reason: &str| Error::Hub { repo: name.to_owned(), reason: reason.to_owned() };
    let front = front_of(files).ok_or_else(|| {
        refuse(
            "the files have no model_index.json: pick a folder in diffusers' layout, with the folders unet, vae, \
             text_encoder, tokenizer and scheduler beside it, or one .safetensors or .gguf file",
        )
    })?;
    let inner: Vec<(&str, &'a dyn ByteSource)> =
        files.iter().filter_map(|(path, source)| Some((path.strip_prefix(front)?, source.as_ref()))).collect();
    let find = |path: &str| inner.iter().find(|(of, _)| *of == path).map(|(_, source)| *source);
    let index = find("model_index.json").ok_or_else(|| refuse("model_index.json was lost"))?;
    let needs = Needs::from_model_index("model_index.json", &text(index, "model_index.json").await?)?;
    let all: Vec<ListedFile> =
        inner.iter().map(|(path, source)| ListedFile::new((*path).to_owned(), Some(source.len()))).collect();
    // Picked files may have been changed by their owner, and changed files are the plain ones.
    let variant = Variant::default();
    let mut indexes = IndexTexts::new();
    for path in index_files(&all, needs, &variant) {
        if let Some(source) = find(&path) {
            let text = text(source, &path).await?;
            indexes.insert(path, text);
        }
    }
    let chosen = choose_files(name, &all, needs, &variant, &indexes)?;
    let source = |file: ModelFile| find(&file.path).map(|source| (file.path, source));
    Ok(chosen.into_iter().filter_map(source).collect())
}

/// Copies a model's files from elsewhere, such as a folder picked in the page, into a store. `files` are by path; what the
/// model does not need is left out. One file of weights alone is a checkpoint in one file; beside it may be its `.yaml` and,
/// in diffusers' layout without weights, its configuration.
///
/// # Errors
/// [`Error::Hub`] where they are no complete model, [`Error::StoreFull`], [`Error::Store`], and what a file gives.
pub async fn import(
    store: &dyn Store,
    name: &str,
    files: Vec<(String, Box<dyn ByteSource>)>,
    on_bytes: &mut dyn FnMut(&str, u64, u64),
) -> Result<Manifest> {
    let _lock = store.lock(name).await?;
    let picked = match picked_single(&files) {
        Some(picked) => picked,
        None => picked_folder(name, &files).await?,
    };
    store.remove(name).await?;
    let stored = |(path, source): &Picked<'_>| StoredFile::new(path.clone(), source.len());
    let mut manifest = Manifest {
        model: name.to_owned(),
        repo: String::new(),
        commit: String::new(),
        files: picked.iter().map(stored).collect(),
    };
    let total_bytes = manifest.total_bytes();
    let free_bytes = store.space().await?.free_bytes();
    if free_bytes.is_some_and(|free| free < total_bytes) {
        return Err(Error::StoreFull { missing_bytes: total_bytes, free_bytes });
    }
    store.write_manifest(&manifest).await?;
    let mut n_done = 0;
    for (i, (_, source)) in picked.iter().enumerate() {
        let file = manifest.files[i].clone();
        let mut whole = Sha256Stream::default();
        for chunk in 0..file.n_chunks() {
            let (start, end) = file.range(chunk);
            let bytes = source.read(start, (end - start) as usize).await?;
            whole.update(&bytes);
            let sha256 = store.digest(&bytes).await;
            match store.write_chunk(name, &file.path, chunk, &bytes, &sha256).await {
                Err(Error::StoreFull { free_bytes, .. }) => {
                    return Err(Error::StoreFull { missing_bytes: total_bytes - n_done, free_bytes });
                }
                written => written?,
            }
            n_done += end - start;
            on_bytes(&file.path, n_done, total_bytes);
        }
        // No digest was published; a later check compares with that of what was read.
        manifest.files[i].sha256 = Some(whole.finish());
        manifest.files[i].complete = true;
        store.write_manifest(&manifest).await?;
    }
    Ok(manifest)
}
