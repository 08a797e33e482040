//! The models that this browser keeps, as JavaScript sees them: fetched from a Hub into IndexedDB, resumed, verified.

use std::cell::RefCell;
use std::rc::Rc;

use js_sys::{Array, Function, Map, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use super::extra_networks::KnownFiles;
use super::failure::refuse;
use super::types::{DamageReport, FileReport, ModelReport, ModelsSettings, TransferProgress};
use crate::error::words::counted;
use crate::error::{Error, Result as OwnResult};
use crate::hub::Variant;
use crate::hub::address::Origin;
use crate::hub::arrival::Arrival;
use crate::hub::download::{Download, Patience, Progress};
use crate::hub::http::Cancel;
use crate::hub::remote::{HUGGING_FACE, Remote, repositories};
use crate::hub::stored::{self, StoredModel};
use crate::hub::web::WebHttp;
use crate::store::indexed_db::IndexedDbStore;
use crate::store::{Manifest, Store};
use crate::weights::{ByteSource, Files, LocalFuture};

/// The database that is used where nothing else is said.
const DATABASE: &str = "darkroom";

/// Models that this browser keeps. Open it once, in a worker or a page.
///
/// A model is a version's short name (`turbo`), `owner/repo` or `owner/repo@revision`, or the name of an import; or one file:
/// `owner/repo/path` or `owner/repo@revision/path`, or an address, which is kept without what follows its path. Errors have
/// a `code`: `storage` when there is no room, `cancelled` after [`Models::pause`] or [`Models::cancel`], else
/// `model` or `request`.
#[wasm_bindgen]
pub struct Models {
    store: Rc<IndexedDbStore>,
    remote: Remote,
    variant: Variant,
    cancel: RefCell<Cancel>,
    /// What is being downloaded, under the name that was asked for.
    arriving: RefCell<Option<(String, Rc<Arrival>)>>,
    /// What kept files are, as far as they were looked at.
    known_files: RefCell<KnownFiles>,
}

#[wasm_bindgen]
impl Models {
    /// Opens the browser's store.
    ///
    /// # Errors
    /// When an address is none, or the browser gives no database.
    pub async fn open(
        #[wasm_bindgen(unchecked_param_type = "ModelsSettings | undefined")] settings: JsValue,
    ) -> Result<Models, JsValue> {
        let settings: ModelsSettings = if settings.is_undefined() || settings.is_null() {
            ModelsSettings::default()
        } else {
            serde_wasm_bindgen::from_value(settings)?
        };
        let remote = match &settings.source {
            Some(source) => Remote::folder(source)?,
            None => Remote::hub(settings.endpoint.as_deref().unwrap_or(HUGGING_FACE), settings.token.as_deref())?,
        };
        let store = IndexedDbStore::open(settings.database.as_deref().unwrap_or(DATABASE)).await?;
        Ok(Models {
            store: Rc::new(store),
            remote,
            variant: if settings.full { Variant::PlainFirst } else { Variant::Fp16First },
            cancel: RefCell::default(),
            arriving: RefCell::default(),
            known_files: RefCell::default(),
        })
    }

    /// What a model needs and what is there of it. The Hub is asked only where the store has nothing of the model.
    ///
    /// # Errors
    /// When the Hub does not have it, refuses it or cannot be reached; the message says what to do.
    #[wasm_bindgen(unchecked_return_type = "ModelReport")]
    pub async fn needed(&self, model: String) -> Result<JsValue, JsValue> {
        let manifest = self.find(&model).await?;
        Ok(serde_wasm_bindgen::to_value(&self.report(&manifest).await?)?)
    }

    /// Downloads what is absent of a model. Gives what [`Models::needed`] gives. Waits where another tab does the same.
    /// While it is under way, `Studio.load_stored` takes the model already.
    ///
    /// # Errors
    /// When the transfer cannot go on, there is no room, or [`Models::pause`] stopped it; what came is kept.
    #[wasm_bindgen(unchecked_return_type = "ModelReport")]
    pub async fn download(
        &self,
        model: String,
        #[wasm_bindgen(unchecked_param_type = "(progress: TransferProgress) => void")] on_progress: &Function,
    ) -> Result<JsValue, JsValue> {
        let cancel = Cancel::default();
        self.cancel.borrow().cancel();
        self.cancel.replace(cancel.clone());
        let arrival = Rc::new(Arrival::default());
        self.arriving.replace(Some((model.clone(), Rc::clone(&arrival))));
        let remote = self.remote.of(&self.origin(&model)?);
        let download = Download {
            http: &WebHttp,
            store: &*self.store,
            remote: &remote,
            cancel: cancel.clone(),
            patience: Patience::default(),
            arrival: Rc::clone(&arrival),
        };
        let mut progress = |progress: Progress<'_>| {
            tell(
                on_progress,
                &TransferProgress {
                    path: progress.path,
                    file_bytes: progress.file_loaded_bytes as f64,
                    file_total: progress.file_bytes as f64,
                    bytes: progress.loaded_bytes as f64,
                    total: progress.total_bytes as f64,
                    bytes_per_sec: progress.bytes_per_sec,
                    secs_left: progress.secs_left,
                },
            );
        };
        let ended = match cancel.run(self.find(&model)).await {
            Ok(wanted) => download.run(wanted, &mut progress).await,
            Err(error) => {
                arrival.fail(&error);
                Err(error)
            }
        };
        // A later download may have taken its place.
        self.arriving.borrow_mut().take_if(|(_, other)| Rc::ptr_eq(other, &arrival));
        Ok(serde_wasm_bindgen::to_value(&self.report(&ended?).await?)?)
    }

    /// Has a drawing that waits for a file of a download look whether it was cancelled.
    pub fn nudge(&self) {
        if let Some((_, arrival)) = &*self.arriving.borrow() {
            arrival.nudge();
        }
    }

    /// Stops the download at once. What came is kept, and the next download goes on there.
    pub fn pause(&self) {
        self.cancel.borrow().cancel();
    }

    /// Stops the download at once, as [`Models::pause`] does: [`Models::remove`] then frees what came.
    pub fn cancel(&self) {
        self.cancel.borrow().cancel();
    }

    /// All models that are there, complete or not, each as [`Models::needed`] gives it.
    ///
    /// # Errors
    /// When the database cannot be read.
    #[wasm_bindgen(unchecked_return_type = "ModelReport[]")]
    pub async fn list(&self) -> Result<JsValue, JsValue> {
        let mut reports = Vec::new();
        for manifest in self.store.manifests().await? {
            reports.push(self.report(&manifest).await?);
        }
        Ok(serde_wasm_bindgen::to_value(&reports)?)
    }

    /// Removes a model. One that is not there is no error.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn remove(&self, model: String) -> Result<(), JsValue> {
        let name = self.stored_name(&model).await?.unwrap_or(model);
        let _lock = self.store.lock(&name).await?;
        Ok(self.store.remove(&name).await?)
    }

    /// Reads a model back and drops the chunks that are damaged, which the next download fetches again alone. Gives them.
    ///
    /// # Errors
    /// When the model is not there.
    #[wasm_bindgen(unchecked_return_type = "DamageReport[]")]
    pub async fn verify(
        &self,
        model: String,
        #[wasm_bindgen(unchecked_param_type = "(progress: TransferProgress) => void")] on_progress: &Function,
    ) -> Result<JsValue, JsValue> {
        let name = self.stored_name(&model).await?.unwrap_or(model);
        let total = self.store.manifest(&name).await?.map_or(0, |manifest| manifest.total_bytes()) as f64;
        let damaged = stored::verify(&*self.store, &name, &mut |path, n_bytes| {
            tell(on_progress, &TransferProgress::of_all(path, n_bytes as f64, total));
        })
        .await?;
        let report = |damage: stored::Damage| DamageReport {
            path: damage.path,
            chunk: damage.chunk,
            bytes: damage.bytes as f64,
        };
        Ok(serde_wasm_bindgen::to_value(&damaged.into_iter().map(report).collect::<Vec<_>>())?)
    }

    /// Copies a model from files that were picked in the page: a `Map` from path to `Blob`, such as a folder gives, or one
    /// `.safetensors` or `.gguf` file, perhaps with its `.yaml` and a folder of its configuration. A model of that name is
    /// replaced.
    ///
    /// # Errors
    /// When the files are no complete model, or there is no room.
    #[wasm_bindgen(js_name = "import", unchecked_return_type = "ModelReport")]
    pub async fn import_files(
        &self,
        name: String,
        #[wasm_bindgen(unchecked_param_type = "Map<string, Blob>")] files: Map,
        #[wasm_bindgen(unchecked_param_type = "(progress: TransferProgress) => void")] on_progress: &Function,
    ) -> Result<JsValue, JsValue> {
        if name.is_empty() || name.contains('/') {
            return Err(refuse("the name of an import is a word without a slash: with one it would be of the Hub"));
        }
        let mut sources: Vec<(String, Box<dyn ByteSource>)> = Vec::new();
        for entry in files.entries() {
            let entry: Array = entry?.unchecked_into();
            let path = entry.get(0).as_string().ok_or_else(|| refuse("a file's path is not a string"))?;
            let blob: web_sys::Blob =
                entry.get(1).dyn_into().map_err(|_| refuse(&format!("{path} is not a Blob or File")))?;
            if stored::is_weights(&path) {
                // A broken file is refused before it is copied.
                Files::open(vec![Box::new(BlobSource { path: path.clone(), blob: blob.clone() })]).await?;
            }
            sources.push((path.clone(), Box::new(BlobSource { path, blob })));
        }
        let manifest = stored::import(&*self.store, &name, sources, &mut |path, n_bytes, total| {
            tell(on_progress, &TransferProgress::of_all(path, n_bytes as f64, total as f64));
        })
        .await?;
        Ok(serde_wasm_bindgen::to_value(&self.report(&manifest).await?)?)
    }

    /// Whether a kept model is a checkpoint in one file, or one is being downloaded under that name.
    ///
    /// # Errors
    /// When the model is not there, or neither complete nor being downloaded.
    pub async fn is_single_file(&self, model: String) -> Result<bool, JsValue> {
        Ok(self.source(&model).await?.single_file().is_some())
    }

    /// Reads a part of a stored file, as loading the model does.
    ///
    /// # Errors
    /// When the model or file is not there or not complete, or the range leaves the file.
    pub async fn read(&self, model: String, path: String, offset: f64, length: usize) -> Result<Uint8Array, JsValue> {
        use crate::hub::Source;
        let source = self.source(&model).await?;
        let bytes = source.open(&path).await?.read(offset as u64, length).await?;
        Ok(Uint8Array::from(bytes.as_slice()))
    }
}

impl Models {
    /// A model as a [`crate::hub::Source`] that reads from IndexedDB by range: what a loader takes. It is complete, or being
    /// downloaded by [`Models::download`].
    ///
    /// # Errors
    /// [`Error::Hub`] where it is not there or not complete.
    pub async fn source(&self, model: &str) -> OwnResult<StoredModel> {
        let arrival = self.arriving.borrow().as_ref().filter(|(name, _)| name == model).map(|(_, a)| Rc::clone(a));
        if let Some(arrival) = arrival {
            return StoredModel::arriving(Rc::clone(&self.store) as Rc<dyn Store>, arrival).await;
        }
        let name = self.stored_name(model).await?.unwrap_or_else(|| model.to_owned());
        StoredModel::open(Rc::clone(&self.store) as Rc<dyn Store>, &name).await
    }

    /// Whether the store has all of a model, or it is being downloaded.
    pub(super) async fn is_kept(&self, model: &str) -> OwnResult<bool> {
        let is_arriving = self.arriving.borrow().as_ref().is_some_and(|(name, _)| name == model);
        let name = self.stored_name(model).await?.unwrap_or_else(|| model.to_owned());
        Ok(is_arriving || self.store.manifest(&name).await?.is_some_and(|manifest| manifest.is_complete()))
    }

    pub(super) fn store(&self) -> &Rc<IndexedDbStore> {
        &self.store
    }

    pub(super) fn known_files(&self) -> &RefCell<KnownFiles> {
        &self.known_files
    }

    /// Where models come from.
    pub(super) fn remote(&self) -> &Remote {
        &self.remote
    }

    /// What a name stands for.
    pub(super) fn origin(&self, model: &str) -> OwnResult<Origin> {
        Origin::parse(model, self.remote.endpoint())
    }

    /// The name under which the store has a model, where it has it: a version's is that of one of its repositories.
    async fn stored_name(&self, model: &str) -> OwnResult<Option<String>> {
        let origin = self.origin(model)?;
        let name = origin.to_string();
        if self.store.manifest(&name).await?.is_some() {
            return Ok(Some(name));
        }
        let mut names: Vec<Manifest> = Vec::new();
        if matches!(origin, Origin::Model(_)) {
            // Not a repository: an import, or unknown.
            for repo in repositories(model).unwrap_or_default() {
                names.extend(self.store.manifest(&repo.to_string()).await?);
            }
        }
        names.sort_by_key(|manifest| !manifest.is_complete());
        Ok(names.into_iter().next().map(|manifest| manifest.model))
    }

    /// What the store knows of a model, else what its server does.
    async fn find(&self, model: &str) -> OwnResult<Manifest> {
        if let Some(name) = self.stored_name(model).await?
            && let Some(manifest) = self.store.manifest(&name).await?
        {
            return Ok(manifest);
        }
        let origin = self.origin(model)?;
        self.remote.of(&origin).find_origin(&WebHttp, &origin, &self.variant).await
    }

    async fn report(&self, manifest: &Manifest) -> OwnResult<ModelReport> {
        let mut files = Vec::new();
        let mut present_bytes = 0;
        for file in &manifest.files {
            let present = if file.complete {
                file.bytes
            } else {
                let chunks = self.store.chunks(&manifest.model, &file.path).await?;
                chunks.keys().map(|chunk| file.chunk_bytes(*chunk)).sum()
            };
            present_bytes += present;
            files.push(FileReport {
                path: file.path.clone(),
                bytes: file.bytes as f64,
                present_bytes: present as f64,
                sha256: file.sha256.clone(),
                complete: file.complete,
            });
        }
        let space = self.store.space().await?;
        let total_bytes = manifest.total_bytes();
        Ok(ModelReport {
            model: manifest.model.clone(),
            repo: manifest.repo.clone(),
            commit: manifest.commit.clone(),
            files,
            total_bytes: total_bytes as f64,
            missing_bytes: total_bytes.saturating_sub(present_bytes) as f64,
            complete: manifest.is_complete(),
            quota_bytes: space.quota_bytes.map(|bytes| bytes as f64),
            usage_bytes: space.usage_bytes.map(|bytes| bytes as f64),
        })
    }
}

impl<'a> TransferProgress<'a> {
    fn of_all(path: &'a str, bytes: f64, total: f64) -> Self {
        TransferProgress { path, file_bytes: 0.0, file_total: 0.0, bytes, total, bytes_per_sec: 0.0, secs_left: None }
    }
}

/// Calls back. What the callback throws is shown in the console: a page that cannot draw progress still wants its model.
fn tell(on_progress: &Function, report: &TransferProgress<'_>) {
    let called = serde_wasm_bindgen::to_value(report)
        .map_err(JsValue::from)
        .and_then(|report| on_progress.call1(&JsValue::NULL, &report));
    if let Err(error) = called {
        web_sys::console::error_2(&"on_progress failed:".into(), &error);
    }
}

/// A file that was picked in the page.
pub(super) struct BlobSource {
    pub path: String,
    pub blob: web_sys::Blob,
}

impl ByteSource for BlobSource {
    fn name(&self) -> &str {
        &self.path
    }

    fn len(&self) -> u64 {
        self.blob.size() as u64
    }

    fn read<'a>(&'a self, offset: u64, len: usize) -> LocalFuture<'a, OwnResult<Vec<u8>>> {
        Box::pin(async move {
            let read = async {
                let part = self.blob.slice_with_f64_and_f64(offset as f64, offset as f64 + len as f64)?;
                JsFuture::from(part.array_buffer()).await
            };
            let failed = |reason: String| Error::Store { store: self.path.clone(), reason };
            let buffer = read.await.map_err(|error| {
                let words = Reflect::get(&error, &"message".into()).ok().and_then(|words| words.as_string());
                failed(format!("cannot be read: pick it again ({})", words.unwrap_or_default()))
            })?;
            let bytes = Uint8Array::new(&buffer).to_vec();
            if bytes.len() == len {
                Ok(bytes)
            } else {
                Err(failed(format!("has no {} from {offset} on", counted(len, "byte"))))
            }
        })
    }
}
