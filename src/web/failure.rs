//! Errors as JavaScript sees them: an `Error` whose `code` says what a page can do about it, beside the message for
//! people.

use js_sys::Reflect;
use wasm_bindgen::JsValue;

use crate::error::{Class, Door, Error};

/// An `Error` with that message, whose `code` is the class's.
pub(super) fn failure(class: Class, message: &str) -> JsValue {
    let error = js_sys::Error::new(message);
    // A fresh object takes any property, so there is no failure to tell of.
    let _always_set = Reflect::set(&error, &"code".into(), &class.code().into());
    error.into()
}

/// What a caller's arguments are at fault for.
pub(super) fn refuse(message: &str) -> JsValue {
    failure(Class::Request, message)
}

/// What one setting is at fault for, which `field` of the error names.
pub(super) fn refuse_field(field: &str, message: &str) -> JsValue {
    let error = refuse(message);
    let _always_set = Reflect::set(&error, &"field".into(), &field.into());
    error
}

impl From<Error> for JsValue {
    fn from(error: Error) -> Self {
        let thrown = failure(error.class(), &error.message(Door::Page));
        if let Some(remedy) = error.remedy() {
            let _always_set = Reflect::set(&thrown, &"needs".into(), &remedy.code().into());
        }
        if let Some(field) = error.field() {
            let _always_set = Reflect::set(&thrown, &"field".into(), &field.into());
        }
        thrown
    }
}
