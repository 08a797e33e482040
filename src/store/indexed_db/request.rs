//! The browser's requests and transactions as futures, and what they throw as errors.

use std::cell::RefCell;
use std::rc::Rc;

use js_sys::{Function, Promise, Reflect};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{DomException, IdbCursor, IdbRequest, IdbTransaction};

use crate::error::Error;

/// What a browser throws, by its name: `QuotaExceededError` and the like.
pub(super) fn error_name(error: &JsValue) -> String {
    let name = Reflect::get(error, &"name".into()).ok().and_then(|name| name.as_string());
    name.unwrap_or_default()
}

/// The browser's words for what it throws.
pub(super) fn words(error: &JsValue) -> String {
    let message = Reflect::get(error, &"message".into()).ok().and_then(|message| message.as_string());
    let message = message.filter(|message| !message.is_empty()).unwrap_or_else(|| format!("{error:?}"));
    match error_name(error) {
        name if name.is_empty() => message,
        name => format!("{name}: {message}"),
    }
}

pub(super) fn failed(store: &str, doing: &str, error: &JsValue) -> Error {
    if error_name(error) == "QuotaExceededError" {
        return Error::StoreFull { missing_bytes: 0, free_bytes: None };
    }
    Error::Store { store: store.to_owned(), reason: format!("cannot {doing} ({})", words(error)) }
}

/// Waits for a request.
pub(super) async fn finished(request: &IdbRequest) -> Result<JsValue, JsValue> {
    JsFuture::from(promise_of(request)).await
}

/// What a request gives. Its handlers are set at once, and live as long as the promise's own closure does: until one of them is
/// called.
fn promise_of(request: &IdbRequest) -> Promise {
    Promise::new(&mut |resolve: Function, reject: Function| {
        request.set_onsuccess(Some(on_success(request, resolve).unchecked_ref()));
        request.set_onerror(Some(on_error(request, reject).unchecked_ref()));
    })
}

/// What a request gives, or its error as a value: nobody may come for it, and a rejection that nobody handles is reported.
pub(super) fn settled(request: &IdbRequest) -> Promise {
    Promise::new(&mut |resolve: Function, _: Function| {
        request.set_onsuccess(Some(on_success(request, resolve.clone()).unchecked_ref()));
        request.set_onerror(Some(on_error(request, resolve).unchecked_ref()));
    })
}

/// Calls a function with a request's result.
fn on_success(request: &IdbRequest, call: Function) -> JsValue {
    let of = request.clone();
    Closure::once_into_js(move || {
        let _ = call.call1(&JsValue::NULL, &of.result().unwrap_or(JsValue::UNDEFINED));
    })
}

/// Calls a function with a request's error.
fn on_error(request: &IdbRequest, call: Function) -> JsValue {
    let of = request.clone();
    Closure::once_into_js(move || {
        let error = of.error().ok().flatten().map_or(JsValue::NULL, DomException::into);
        let _ = call.call1(&JsValue::NULL, &error);
    })
}

/// A cursor under way: nothing is called any more once it is dropped, also where nobody waits for it to the end.
struct Walk<'a> {
    request: &'a IdbRequest,
    _step: Closure<dyn FnMut()>,
}

impl Drop for Walk<'_> {
    fn drop(&mut self) {
        self.request.set_onsuccess(None);
        self.request.set_onerror(None);
    }
}

/// The keys that a cursor comes by. It is moved on within its own events: where there are threads a future goes on later, when
/// the transaction has ended.
pub(super) async fn keys(request: &IdbRequest) -> Result<Vec<JsValue>, JsValue> {
    let found = Rc::new(RefCell::new(Vec::new()));
    let mut walk = None;
    let promise = Promise::new(&mut |resolve: Function, reject: Function| {
        let (of, found, refuse) = (request.clone(), Rc::clone(&found), reject.clone());
        let step = Closure::<dyn FnMut()>::new(move || {
            let moved = of.result().and_then(|cursor| {
                let Ok(cursor) = cursor.dyn_into::<IdbCursor>() else { return Ok(false) };
                found.borrow_mut().push(cursor.key()?);
                cursor.continue_()?;
                Ok(true)
            });
            let _ = match moved {
                Ok(true) => Ok(JsValue::UNDEFINED),
                Ok(false) => resolve.call0(&JsValue::NULL),
                Err(error) => refuse.call1(&JsValue::NULL, &error),
            };
        });
        request.set_onsuccess(Some(step.as_ref().unchecked_ref()));
        request.set_onerror(Some(on_error(request, reject).unchecked_ref()));
        walk = Some(Walk { request, _step: step });
    });
    JsFuture::from(promise).await?;
    drop(walk);
    Ok(found.take())
}

/// Waits until a transaction's writes are there.
pub(super) async fn committed(transaction: &IdbTransaction) -> Result<(), JsValue> {
    let promise = Promise::new(&mut |resolve: Function, reject: Function| {
        let done = Closure::once_into_js(move || {
            let _ = resolve.call0(&JsValue::NULL);
        });
        let of = transaction.clone();
        let failed = Closure::once_into_js(move || {
            let error = of.error().map_or(JsValue::NULL, DomException::into);
            let _ = reject.call1(&JsValue::NULL, &error);
        });
        transaction.set_oncomplete(Some(done.unchecked_ref()));
        transaction.set_onabort(Some(failed.unchecked_ref()));
    });
    JsFuture::from(promise).await.map(|_| ())
}

/// Something of the page's or worker's global object.
pub(super) fn global(path: &[&str]) -> JsValue {
    let mut value: JsValue = js_sys::global().into();
    for name in path {
        value = Reflect::get(&value, &(*name).into()).unwrap_or(JsValue::UNDEFINED);
    }
    value
}
