//! A lock of the Web Locks API, which the browser releases when its tab dies.

use js_sys::{Function, Promise, Reflect};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use super::super::Lock;
use super::request::{failed, global};
use crate::error::{Error, Result};

/// Waits for the lock of this name and holds it; `store` is for messages.
pub(super) async fn hold(name: String, store: String) -> Result<Box<dyn Lock>> {
    let locks = global(&["navigator", "locks"]);
    let request = Reflect::get(&locks, &"request".into()).ok().and_then(|f| f.dyn_into::<Function>().ok());
    let request = request.ok_or_else(|| Error::Store {
        store: store.clone(),
        reason: "this browser gives no locks here: open the page over https, or from localhost".to_owned(),
    })?;
    // The browser holds the lock until the promise that the callback returned is settled, which dropping does, even before
    // the lock was granted.
    let mut release = None;
    let hold = Promise::new(&mut |resolve, _| release = Some(resolve));
    let held = Held(release);
    let mut asked = Ok(JsValue::UNDEFINED);
    let granted = Promise::new(&mut |resolve, reject| {
        let hold = hold.clone();
        let callback = Closure::once_into_js(move || -> JsValue {
            let _ = resolve.call0(&JsValue::NULL);
            hold.into()
        });
        asked = request.call2(&locks, &name.as_str().into(), &callback);
        if let Ok(promise) = &asked {
            // A request that the browser refuses must not be waited for.
            let _ = Reflect::get(promise, &"catch".into())
                .and_then(|catch| catch.dyn_into::<Function>())
                .and_then(|catch| catch.call1(promise, &reject));
        }
    });
    asked.map_err(|error| failed(&store, "lock it", &error))?;
    JsFuture::from(granted).await.map_err(|error| failed(&store, "lock it", &error))?;
    Ok(Box::new(held))
}

/// Settles the promise that holds a lock.
struct Held(Option<Function>);

impl Lock for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(release) = self.0.take() {
            let _ = release.call0(&JsValue::NULL);
        }
    }
}
