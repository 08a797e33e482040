//! Models in the browser's IndexedDB.
//!
//! Two object stores: `models` has a manifest a model, as JSON; `chunks` has, by model, path and number, an object of a
//! chunk's digest and bytes, so that both are written or neither. An index of the digests answers which chunks are there
//! without reading their bytes. `layout` has the object stores, `request` the futures, `lock` the locks.

mod layout;
mod lock;
mod request;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use js_sys::{Array, Promise, Reflect, Uint8Array};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    IdbDatabase, IdbFactory, IdbObjectStore, IdbOpenDbRequest, IdbRequest, IdbTransaction, IdbTransactionMode,
    IdbVersionChangeEvent, StorageEstimate, StorageManager, SubtleCrypto,
};

use self::layout::{CHUNKS, MODELS, VERSION, below, key, record, upgrade};
use self::request::{committed, error_name, failed, finished, global, keys, settled, words};
use super::{LocalFuture, Lock, Manifest, Space, Store, hex, sha256_hex};
use crate::error::{Error, Result};

/// Something that belongs to a chunk of a file of a model.
struct OfChunk<T> {
    model: String,
    path: String,
    chunk: u32,
    value: T,
}

impl<T> OfChunk<T> {
    fn new(model: &str, path: &str, chunk: u32, value: T) -> Option<Self> {
        Some(OfChunk { model: model.to_owned(), path: path.to_owned(), chunk, value })
    }

    fn is(&self, model: &str, path: &str, chunk: u32) -> bool {
        (self.model.as_str(), self.path.as_str(), self.chunk) == (model, path, chunk)
    }
}

/// See the module.
pub struct IndexedDbStore {
    database: IdbDatabase,
    name: String,
    /// The bytes of the chunk that was read last, which stay outside of the wasm heap.
    recent: RefCell<Option<OfChunk<Uint8Array>>>,
    /// The record of the chunk that is read while the one before is used.
    ahead: RefCell<Option<OfChunk<Promise>>>,
    /// How often chunks were written or removed: what was read before is not kept after.
    n_changes: Cell<u32>,
}

impl IndexedDbStore {
    /// Opens the database of this name, and makes or upgrades it where needed.
    ///
    /// # Errors
    /// [`Error::Store`] where the browser gives no IndexedDB, a newer page has a newer layout, or another tab with an
    /// older one is still open.
    pub async fn open(name: &str) -> Result<Self> {
        let place = format!("the browser's database {name}");
        let refuse = |reason: &str| Error::Store { store: place.clone(), reason: reason.to_owned() };
        let factory: IdbFactory = global(&["indexedDB"]).dyn_into().map_err(|_| {
            refuse("this browser keeps no data here: leave private browsing, or allow it to store data")
        })?;
        let request: IdbOpenDbRequest =
            factory.open_with_u32(name, VERSION).map_err(|error| failed(&place, "open it", &error))?;
        let upgrade_error = Rc::new(RefCell::new(None));
        let blocked = Rc::new(Cell::new(false));
        let (of, told) = (request.clone(), Rc::clone(&upgrade_error));
        let on_upgrade = Closure::<dyn FnMut(IdbVersionChangeEvent)>::new(move |event: IdbVersionChangeEvent| {
            let upgraded = of.result().and_then(|database| {
                let transaction = of.transaction().ok_or(JsValue::NULL)?;
                let result = upgrade(&database.unchecked_into(), &transaction, event.old_version() as u32);
                // What is half upgraded must not stay.
                if result.is_err() {
                    transaction.abort()?;
                }
                result
            });
            if let Err(error) = upgraded {
                told.replace(Some(words(&error)));
            }
        });
        request.set_onupgradeneeded(Some(on_upgrade.as_ref().unchecked_ref()));
        let of = Rc::clone(&blocked);
        let on_blocked = Closure::<dyn FnMut()>::new(move || of.set(true));
        request.set_onblocked(Some(on_blocked.as_ref().unchecked_ref()));
        let database = finished(&request).await.map_err(|error| {
            if let Some(words) = upgrade_error.take() {
                return refuse(&format!("its layout cannot be upgraded ({words})"));
            }
            if error_name(&error) == "VersionError" {
                return refuse("a newer version of this page made it: load the page again");
            }
            if blocked.get() {
                return refuse("another tab uses it in an older layout: close that tab");
            }
            failed(&place, "open it", &error)
        })?;
        let database: IdbDatabase = database.unchecked_into();
        // A later page that upgrades the layout must not wait for this one.
        let of = database.clone();
        let close = Closure::<dyn FnMut()>::new(move || of.close());
        database.set_onversionchange(Some(close.as_ref().unchecked_ref()));
        close.forget();
        Ok(IndexedDbStore {
            database,
            name: name.to_owned(),
            recent: RefCell::default(),
            ahead: RefCell::default(),
            n_changes: Cell::new(0),
        })
    }

    fn transaction(&self, stores: &[&str], mode: IdbTransactionMode) -> Result<IdbTransaction, JsValue> {
        let stores: Array = stores.iter().map(|name| JsValue::from_str(name)).collect();
        self.database.transaction_with_str_sequence_and_mode(&stores, mode)
    }

    fn reading(&self, store: &str) -> Result<IdbObjectStore, JsValue> {
        self.transaction(&[store], IdbTransactionMode::Readonly)?.object_store(store)
    }

    fn told<T>(&self, doing: &str, result: Result<T, JsValue>) -> Result<T> {
        result.map_err(|error| failed(&self.describe(), doing, &error))
    }

    fn forget_recent(&self) {
        self.recent.replace(None);
        self.ahead.replace(None);
        self.n_changes.set(self.n_changes.get().wrapping_add(1));
    }

    fn parse(&self, json: &JsValue) -> Result<Option<Manifest>> {
        let Some(json) = json.as_string() else { return Ok(None) };
        let broken = |error: serde_json::Error| Error::Store {
            store: self.describe(),
            reason: format!("a manifest cannot be read ({error}): remove the model"),
        };
        serde_json::from_str(&json).map(Some).map_err(broken)
    }

    async fn delete(&self, stores: &[&str], change: impl Fn(&IdbTransaction) -> Result<(), JsValue>) -> Result<()> {
        self.forget_recent();
        let deleted = async {
            let transaction = self.transaction(stores, IdbTransactionMode::Readwrite)?;
            change(&transaction)?;
            committed(&transaction).await
        };
        self.told("remove from it", deleted.await)
    }

    /// Asks for a chunk's record.
    fn ask(&self, model: &str, path: &str, chunk: u32) -> Result<IdbRequest, JsValue> {
        self.reading(CHUNKS)?.get(&key(model, path, chunk))
    }

    /// A chunk's bytes, which stay outside of the wasm heap. Where chunks are read in their order, the next one is asked for.
    async fn bytes(&self, model: &str, path: &str, chunk: u32) -> Result<Uint8Array> {
        let mut in_order = false;
        if let Some(recent) = &*self.recent.borrow() {
            if recent.is(model, path, chunk) {
                return Ok(recent.value.clone());
            }
            in_order = chunk > 0 && recent.is(model, path, chunk - 1);
        }
        let n_changes = self.n_changes.get();
        let read_ahead = match self.ahead.take().filter(|asked| asked.is(model, path, chunk)) {
            Some(asked) => JsFuture::from(asked.value).await.ok().and_then(|record| bytes_of(&record)),
            None => None,
        };
        let bytes = match read_ahead {
            Some(bytes) => bytes,
            None => {
                let read = async { finished(&self.ask(model, path, chunk)?).await };
                let record = self.told("read it", read.await)?;
                bytes_of(&record).ok_or_else(|| lost_chunk(&self.describe(), model, path, chunk))?
            }
        };
        if self.n_changes.get() == n_changes {
            if in_order && let Ok(request) = self.ask(model, path, chunk + 1) {
                self.ahead.replace(OfChunk::new(model, path, chunk + 1, settled(&request)));
            }
            self.recent.replace(OfChunk::new(model, path, chunk, bytes.clone()));
        }
        Ok(bytes)
    }
}

/// The bytes in a chunk's record; `None` where there is no such record.
fn bytes_of(record: &JsValue) -> Option<Uint8Array> {
    Reflect::get(record, &"bytes".into()).ok()?.dyn_into().ok()
}

impl Store for IndexedDbStore {
    fn describe(&self) -> String {
        format!("the browser's database {}", self.name)
    }

    fn manifest<'a>(&'a self, model: &'a str) -> LocalFuture<'a, Result<Option<Manifest>>> {
        Box::pin(async move {
            let read = async { finished(&self.reading(MODELS)?.get(&model.into())?).await };
            self.parse(&self.told("read it", read.await)?)
        })
    }

    fn manifests<'a>(&'a self) -> LocalFuture<'a, Result<Vec<Manifest>>> {
        Box::pin(async move {
            let read = async { finished(&self.reading(MODELS)?.get_all()?).await };
            let all = Array::from(&self.told("read it", read.await)?);
            Ok(all.iter().map(|json| self.parse(&json)).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
        })
    }

    fn write_manifest<'a>(&'a self, manifest: &'a Manifest) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            let json = serde_json::to_string(manifest)
                .map_err(|error| Error::Store { store: self.describe(), reason: error.to_string() })?;
            let written = async {
                let transaction = self.transaction(&[MODELS], IdbTransactionMode::Readwrite)?;
                let store = transaction.object_store(MODELS)?;
                store.put_with_key(&json.into(), &manifest.model.as_str().into())?;
                committed(&transaction).await
            };
            self.told("write to it", written.await)
        })
    }

    fn chunks<'a>(&'a self, model: &'a str, path: &'a str) -> LocalFuture<'a, Result<BTreeMap<u32, String>>> {
        Box::pin(async move {
            let mut chunks = BTreeMap::new();
            let read = async {
                let index = self.reading(CHUNKS)?.index("digests")?;
                let request = index.open_key_cursor_with_range(&below(&[model, path])?.into())?;
                for key in keys(&request).await? {
                    let key = Array::from(&key);
                    if let (Some(chunk), Some(sha256)) = (key.get(2).as_f64(), key.get(3).as_string()) {
                        chunks.insert(chunk as u32, sha256);
                    }
                }
                Ok(())
            };
            self.told("read it", read.await)?;
            Ok(chunks)
        })
    }

    fn digest<'a>(&'a self, bytes: &'a [u8]) -> LocalFuture<'a, String> {
        Box::pin(async move { own_digest(bytes).await.unwrap_or_else(|_| sha256_hex(bytes)) })
    }

    fn write_chunk<'a>(
        &'a self,
        model: &'a str,
        path: &'a str,
        chunk: u32,
        bytes: &'a [u8],
        sha256: &'a str,
    ) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            self.forget_recent();
            let written = async {
                let key = key(model, path, chunk);
                let record = record(&key, &sha256.into(), &Uint8Array::from(bytes))?;
                let transaction = self.transaction(&[CHUNKS], IdbTransactionMode::Readwrite)?;
                transaction.object_store(CHUNKS)?.put_with_key(&record, &key)?;
                committed(&transaction).await
            };
            self.told("write to it", written.await)
        })
    }

    fn read_chunk<'a>(
        &'a self,
        model: &'a str,
        path: &'a str,
        chunk: u32,
        offset: usize,
        len: usize,
        into: &'a mut Vec<u8>,
    ) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            let bytes = self.bytes(model, path, chunk).await?;
            let end = offset.saturating_add(len);
            if end > bytes.length() as usize {
                return Err(lost_chunk(&self.describe(), model, path, chunk));
            }
            let start = into.len();
            into.resize(start + len, 0);
            bytes.subarray(offset as u32, end as u32).copy_to(&mut into[start..]);
            Ok(())
        })
    }

    fn remove_chunk<'a>(&'a self, model: &'a str, path: &'a str, chunk: u32) -> LocalFuture<'a, Result<()>> {
        Box::pin(self.delete(&[CHUNKS], move |transaction| {
            transaction.object_store(CHUNKS)?.delete(&key(model, path, chunk)).map(|_| ())
        }))
    }

    fn remove_file<'a>(&'a self, model: &'a str, path: &'a str) -> LocalFuture<'a, Result<()>> {
        Box::pin(self.delete(&[CHUNKS], move |transaction| {
            transaction.object_store(CHUNKS)?.delete(&below(&[model, path])?.into()).map(|_| ())
        }))
    }

    fn remove<'a>(&'a self, model: &'a str) -> LocalFuture<'a, Result<()>> {
        Box::pin(self.delete(&[MODELS, CHUNKS], move |transaction| {
            transaction.object_store(MODELS)?.delete(&model.into())?;
            transaction.object_store(CHUNKS)?.delete(&below(&[model])?.into()).map(|_| ())
        }))
    }

    fn space<'a>(&'a self) -> LocalFuture<'a, Result<Space>> {
        Box::pin(async move {
            // Browsers tell this to secure pages only; without it the writes themselves find out.
            let Ok(storage) = global(&["navigator", "storage"]).dyn_into::<StorageManager>() else {
                return Ok(Space::default());
            };
            let estimated = async {
                // Whether the browser promises to keep the data is its own decision: a refusal is no failure. Workers of
                // some browsers cannot ask.
                if Reflect::has(&storage, &"persist".into())? {
                    JsFuture::from(storage.persist()?).await?;
                }
                JsFuture::from(storage.estimate()?).await
            };
            let estimate: StorageEstimate = self.told("ask for its room", estimated.await)?.unchecked_into();
            let bytes = |value: Option<f64>| value.map(|bytes| bytes as u64);
            Ok(Space { quota_bytes: bytes(estimate.get_quota()), usage_bytes: bytes(estimate.get_usage()) })
        })
    }

    fn lock<'a>(&'a self, model: &'a str) -> LocalFuture<'a, Result<Box<dyn Lock>>> {
        Box::pin(lock::hold(format!("darkroom/{}/{model}", self.name), self.describe()))
    }
}

/// The browser's own SHA-256, which computes beside this thread with the processor's instructions. Only secure pages have it.
async fn own_digest(bytes: &[u8]) -> Result<String, JsValue> {
    let subtle: SubtleCrypto = global(&["crypto", "subtle"]).dyn_into()?;
    let digest = JsFuture::from(subtle.digest_with_str_and_js_u8_array("SHA-256", &Uint8Array::from(bytes))?).await?;
    Ok(hex(&Uint8Array::new(&digest).to_vec()))
}

/// The error for a chunk that is absent or too short.
fn lost_chunk(store: &str, model: &str, path: &str, chunk: u32) -> Error {
    let reason =
        format!("chunk {chunk} of {path} of {model} is lost or damaged: verify the model, then download again");
    Error::Store { store: store.to_owned(), reason }
}
