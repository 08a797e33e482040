//! The object stores of the database, their keys and records, and what an older layout becomes.

use js_sys::{Array, Object, Reflect};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{IdbDatabase, IdbKeyRange, IdbObjectStore, IdbTransaction};

/// The version of the layout. 1 had the digests beside the chunks and no index of them; its chunks are taken over.
pub(super) const VERSION: u32 = 2;

/// The object store of manifests.
pub(super) const MODELS: &str = "models";
/// The object store of chunks.
pub(super) const CHUNKS: &str = "chunks";
/// Where layout 1 had the digests.
const DIGESTS_1: &str = "digests";

/// Makes what the layout has and the database lacks.
pub(super) fn upgrade(database: &IdbDatabase, transaction: &IdbTransaction, from: u32) -> Result<(), JsValue> {
    if from < 1 {
        database.create_object_store(MODELS)?;
        database.create_object_store(CHUNKS)?;
    }
    let chunks = transaction.object_store(CHUNKS)?;
    let path = Array::of4(&"model".into(), &"path".into(), &"chunk".into(), &"sha256".into());
    chunks.create_index_with_str_sequence("digests", &path)?;
    if from == 1 {
        take_over_1(&chunks, &transaction.object_store(DIGESTS_1)?, database)?;
    }
    Ok(())
}

/// Layout 1 had bare bytes in `chunks` and their digests under the same keys in `digests`. Each pair becomes an object.
fn take_over_1(chunks: &IdbObjectStore, digests: &IdbObjectStore, database: &IdbDatabase) -> Result<(), JsValue> {
    let request = digests.open_cursor()?;
    let (chunks, database, of) = (chunks.clone(), database.clone(), request.clone());
    // Called once a pair, then once at the end; it keeps itself alive, as an upgrade happens once in a database's life.
    let step = Closure::<dyn FnMut() -> Result<(), JsValue>>::new(move || {
        let cursor = of.result()?;
        let Ok(cursor) = cursor.dyn_into::<web_sys::IdbCursorWithValue>() else {
            return database.delete_object_store(DIGESTS_1);
        };
        let (key, sha256) = (cursor.key()?, cursor.value()?);
        let got = chunks.get(&key)?;
        let (chunks, of) = (chunks.clone(), got.clone());
        let put = Closure::once_into_js(move || -> Result<(), JsValue> {
            let bytes = of.result()?;
            if bytes.is_undefined() {
                return Ok(());
            }
            chunks.put_with_key(&record(&key, &sha256, &bytes)?.into(), &key)?;
            Ok(())
        });
        got.set_onsuccess(Some(put.unchecked_ref()));
        cursor.continue_()
    });
    request.set_onsuccess(Some(step.as_ref().unchecked_ref()));
    step.forget();
    Ok(())
}

/// A chunk as the database has it; `key` is `[model, path, chunk]`.
pub(super) fn record(key: &JsValue, sha256: &JsValue, bytes: &JsValue) -> Result<Object, JsValue> {
    let (key, record) = (Array::from(key), Object::new());
    for (name, value) in
        [("model", &key.get(0)), ("path", &key.get(1)), ("chunk", &key.get(2)), ("sha256", sha256), ("bytes", bytes)]
    {
        Reflect::set(&record, &name.into(), value)?;
    }
    Ok(record)
}

/// The key of a chunk.
pub(super) fn key(model: &str, path: &str, chunk: u32) -> JsValue {
    Array::of3(&model.into(), &path.into(), &chunk.into()).into()
}

/// All keys that start with these parts; an array sorts behind every string and number.
pub(super) fn below(parts: &[&str]) -> Result<IdbKeyRange, JsValue> {
    let from: Array = parts.iter().map(|part| JsValue::from_str(part)).collect();
    let to = from.slice(0, from.length());
    to.push(&Array::new());
    IdbKeyRange::bound(&from, &to)
}
