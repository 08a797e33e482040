//! The network in a browser: fetch, whose bodies are streams that can be aborted.
//!
//! A request goes past the browser's own cache, which would keep a second copy of what the store keeps.

use js_sys::{Function, Math, Object, Promise, Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortController, Headers, ReadableStreamDefaultReader, RequestCache, RequestInit, Response};

use super::http::{Broken, Get, Http, Reply};
use crate::error::Result;
use crate::store::LocalFuture;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct WebHttp;

/// Aborts a request when its reply is dropped.
struct Abort(AbortController);

impl Drop for Abort {
    fn drop(&mut self) {
        // Aborting a finished request does nothing.
        self.0.abort();
    }
}

fn broken(error: &JsValue) -> Broken {
    let message = Reflect::get(error, &"message".into()).ok().and_then(|message| message.as_string());
    Broken(message.unwrap_or_else(|| format!("{error:?}")))
}

/// Calls a function of the page's or worker's global object.
fn call_global(name: &str, first: &JsValue, second: &JsValue) -> Result<JsValue, JsValue> {
    let global: Object = js_sys::global();
    let function: Function = Reflect::get(&global, &name.into())?.dyn_into()?;
    function.call2(&global, first, second)
}

async fn send(request: &Get) -> Result<WebReply, JsValue> {
    let abort = Abort(AbortController::new()?);
    let headers = Headers::new()?;
    if let Some((start, end)) = request.range {
        headers.set("Range", &format!("bytes={start}-{}", end - 1))?;
    }
    if let Some(token) = &request.token {
        headers.set("Authorization", &format!("Bearer {token}"))?;
    }
    let init = RequestInit::new();
    init.set_headers(&headers);
    init.set_cache(RequestCache::NoStore);
    init.set_signal(Some(&abort.0.signal()));
    let sent: Promise = call_global("fetch", &request.url.as_str().into(), &init)?.dyn_into()?;
    let response: Response = JsFuture::from(sent).await?.dyn_into()?;
    let reader = response.body().map(|body| body.get_reader().unchecked_into());
    Ok(WebReply { response, reader, _abort: abort })
}

impl Http for WebHttp {
    fn get<'a>(&'a self, request: &'a Get) -> LocalFuture<'a, Result<Box<dyn Reply>, Broken>> {
        Box::pin(async move {
            let reply = send(request).await.map_err(|error| broken(&error))?;
            Ok(Box::new(reply) as Box<dyn Reply>)
        })
    }

    fn sleep<'a>(&'a self, ms: u64) -> LocalFuture<'a, ()> {
        Box::pin(async move {
            let waited = Promise::new(&mut |resolve, _| {
                // A global object without timers does not exist.
                let _ = call_global("setTimeout", &resolve, &(ms as f64).into());
            });
            let _ = JsFuture::from(waited).await;
        })
    }

    fn jitter(&self) -> f64 {
        Math::random()
    }

    fn is_offline(&self) -> bool {
        let navigator = Reflect::get(&js_sys::global(), &"navigator".into());
        let on_line = navigator.and_then(|navigator| Reflect::get(&navigator, &"onLine".into()));
        on_line.is_ok_and(|on_line| on_line.as_bool() == Some(false))
    }

    fn unreachable_hint(&self) -> &'static str {
        "; a host that does not allow other sites to read its files (CORS) fails in the same way: download the file and open \
         it here"
    }
}

struct WebReply {
    response: Response,
    /// `None` for an answer without a body.
    reader: Option<ReadableStreamDefaultReader>,
    _abort: Abort,
}

impl Reply for WebReply {
    fn status(&self) -> u16 {
        self.response.status()
    }

    fn url(&self) -> String {
        self.response.url()
    }

    fn header(&self, name: &str) -> Option<String> {
        self.response.headers().get(name).ok().flatten()
    }

    fn next<'a>(&'a mut self) -> LocalFuture<'a, Result<Option<Vec<u8>>, Broken>> {
        Box::pin(async move {
            let Some(reader) = &self.reader else { return Ok(None) };
            let read = async {
                let piece = JsFuture::from(reader.read()).await?;
                if Reflect::get(&piece, &"done".into())?.is_truthy() {
                    return Ok(None);
                }
                Ok(Some(Reflect::get(&piece, &"value".into())?.dyn_into::<Uint8Array>()?.to_vec()))
            };
            read.await.map_err(|error| broken(&error))
        })
    }
}
