//! The bodies of AUTOMATIC1111's clients: settings by name, of which a program sends all that it has.
//!
//! Pydantic reads them there, which takes `20.0` and `"20"` for 20, and so does this. Of what is not known here only the
//! name is kept, and only where the value is not the neutral one: nobody can make a large body into a larger one.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Number, Value};

use super::super::failure::Failure;
use super::super::upload::Upload;
use super::request::{PASSED_OVER, SETTINGS};

/// The most names that are kept of what is not known.
const MAX_UNKNOWN: usize = 100;
const MAX_NAME_CHARS: usize = 60;

/// A value without what is nested in it.
#[derive(Clone, Debug, PartialEq)]
pub enum Given {
    Nothing,
    Bool(bool),
    Number(Number),
    Text(String),
    /// A list or an object, and whether anything in it asks for something.
    Nested {
        is_active: bool,
    },
}

impl Given {
    /// Whether the value asks for nothing: null, false, 0, nothing, `None`, or a list of such.
    pub fn is_neutral(&self) -> bool {
        match self {
            Given::Nothing => true,
            Given::Bool(value) => !value,
            Given::Number(number) => number.as_f64() == Some(0.0),
            Given::Text(text) => matches!(text.trim(), "" | "None" | "none"),
            Given::Nested { is_active } => !is_active,
        }
    }

    pub fn real(&self) -> Option<f64> {
        match self {
            Given::Number(number) => number.as_f64(),
            Given::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Given::Nothing | Given::Nested { .. } => Value::Null,
            Given::Bool(value) => (*value).into(),
            Given::Number(number) => number.clone().into(),
            Given::Text(text) => text.as_str().into(),
        }
    }
}

struct GivenVisitor;

impl<'de> Visitor<'de> for GivenVisitor {
    type Value = Given;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Given, E> {
        Ok(Given::Nothing)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Given, E> {
        Ok(Given::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Given, E> {
        Ok(Given::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Given, E> {
        Ok(Given::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Given, E> {
        Ok(Number::from_f64(value).map_or(Given::Nothing, Given::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Given, E> {
        Ok(Given::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Given, A::Error> {
        // Scripts have a switch as their first argument.
        let (mut is_active, mut is_switched_off, mut is_first) = (false, false, true);
        while let Some(value) = list.next_element::<Given>()? {
            is_switched_off |= is_first && value == Given::Bool(false);
            is_active |= !value.is_neutral();
            is_first = false;
        }
        Ok(Given::Nested { is_active: is_active && !is_switched_off })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Given, A::Error> {
        let (mut is_active, mut is_switched_off) = (false, false);
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value::<Given>()?;
            let is_switch = matches!(key.as_str(), "enabled" | "enable" | "is_enabled" | "ad_tab_enable");
            is_switched_off |= is_switch && value == Given::Bool(false);
            is_active |= !value.is_neutral();
        }
        Ok(Given::Nested { is_active: is_active && !is_switched_off })
    }
}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(GivenVisitor)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Body {
    pub values: BTreeMap<String, Given>,
    /// `override_settings`.
    pub options: BTreeMap<String, Given>,
    /// `alwayson_scripts`.
    pub scripts: BTreeMap<String, Given>,
    pub init_images: Vec<Upload>,
    pub mask: Option<Upload>,
    /// Names of settings that are not known and ask for something.
    pub unknown: Vec<String>,
}

struct BodyVisitor;

impl<'de> Visitor<'de> for BodyVisitor {
    type Value = Body;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Body, A::Error> {
        let mut body = Body::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "init_images" => body.init_images = map.next_value::<Option<_>>()?.unwrap_or_default(),
                "mask" => body.mask = map.next_value::<Option<Upload>>()?.filter(|mask| !mask.is_blank()),
                "override_settings" => body.options = map.next_value::<Option<_>>()?.unwrap_or_default(),
                "alwayson_scripts" => body.scripts = map.next_value::<Option<_>>()?.unwrap_or_default(),
                known if SETTINGS.contains(&known) || PASSED_OVER.iter().any(|(name, _)| *name == known) => {
                    let value = map.next_value()?;
                    body.values.insert(key, value);
                }
                _ if body.unknown.len() == MAX_UNKNOWN => {
                    map.next_value::<IgnoredAny>()?;
                }
                _ => {
                    if !map.next_value::<Given>()?.is_neutral() {
                        body.unknown.push(key.chars().take(MAX_NAME_CHARS).collect());
                    }
                }
            }
        }
        Ok(body)
    }
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(BodyVisitor)
    }
}

fn refuse<T>(name: &str, got: &Given, expected: &str) -> Result<T, Failure> {
    let got = match got {
        Given::Nested { .. } => "of this type".to_owned(),
        other => other.to_json().to_string().chars().take(60).collect(),
    };
    Err(Failure::of(name, format!("{name} {got} is not possible: use {expected}")))
}

impl Body {
    pub fn get(&self, name: &str) -> &Given {
        self.values.get(name).unwrap_or(&Given::Nothing)
    }

    /// A whole number; `None` where it is left out, null or an empty text.
    ///
    /// # Errors
    /// 400 for anything else.
    pub fn whole(&self, name: &str) -> Result<Option<i128>, Failure> {
        whole(name, self.get(name))
    }

    /// A whole number from 0 on.
    ///
    /// # Errors
    /// 400 for anything else.
    pub fn count(&self, name: &str) -> Result<Option<usize>, Failure> {
        let number = self.whole(name)?;
        let count = |n| usize::try_from(n).or_else(|_| refuse(name, self.get(name), "a whole number, 0 or more"));
        number.map(count).transpose()
    }

    /// A number; `None` as in [`Body::whole`].
    ///
    /// # Errors
    /// 400 for anything else.
    pub fn real(&self, name: &str) -> Result<Option<f64>, Failure> {
        match self.get(name) {
            Given::Nothing => Ok(None),
            Given::Text(text) if text.trim().is_empty() => Ok(None),
            given => given.real().map_or_else(|| refuse(name, given, "a number"), |number| Ok(Some(number))),
        }
    }

    /// A text, empty where it is left out.
    ///
    /// # Errors
    /// 400 for anything else.
    pub fn text(&self, name: &str) -> Result<&str, Failure> {
        match self.get(name) {
            Given::Nothing => Ok(""),
            Given::Text(text) => Ok(text),
            other => refuse(name, other, "a text"),
        }
    }

    /// True or false; `default` where it is left out.
    ///
    /// # Errors
    /// 400 for anything else.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, Failure> {
        match self.get(name) {
            Given::Nothing => Ok(default),
            Given::Bool(value) => Ok(*value),
            Given::Number(number) if number.as_f64() == Some(0.0) => Ok(false),
            Given::Number(number) if number.as_f64() == Some(1.0) => Ok(true),
            Given::Text(text) if text == "1" || text.eq_ignore_ascii_case("true") => Ok(true),
            Given::Text(text) if matches!(text.as_str(), "" | "0") || text.eq_ignore_ascii_case("false") => Ok(false),
            other => refuse(name, other, "true or false"),
        }
    }

    /// What was sent, without pictures and what is nested.
    pub fn to_json(&self) -> Value {
        let object = |values: &BTreeMap<String, Given>| -> Value {
            values.iter().map(|(name, value)| (name.clone(), value.to_json())).collect()
        };
        let mut all = object(&self.values);
        all["override_settings"] = object(&self.options);
        all
    }
}

/// A whole number, also as `20.0` or `"20"`; `None` where there is nothing.
///
/// # Errors
/// 400 for anything else.
pub fn whole(name: &str, given: &Given) -> Result<Option<i128>, Failure> {
    let number = match given {
        Given::Nothing => return Ok(None),
        Given::Text(text) if text.trim().is_empty() => return Ok(None),
        Given::Number(number) => {
            let whole = || number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 1e18).map(|n| n as i128);
            number.as_u64().map(i128::from).or_else(|| number.as_i64().map(i128::from)).or_else(whole)
        }
        Given::Text(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.map_or_else(|| refuse(name, given, "a whole number"), |number| Ok(Some(number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_pydantic_reads_them() {
        let body: Body = serde_json::from_str(
            r#"{"steps": 20.0, "width": "512", "height": null, "seed": -1, "cfg_scale": "7.5", "tiling": "true",
                "prompt": "a", "styles": [], "mask": "", "init_images": null, "override_settings": {"a": {"b": 1}},
                "alwayson_scripts": {"ControlNet": {"args": []}, "ADetailer": {"args": [false, {"ad_model": "x"}]},
                    "x": {"args": [{"enabled": false, "image": "abc"}]}, "y": {"args": [{"image": "abc"}]}},
                "url": "http://x", "hr_fix": false, "deep": {"a": [0, null, {"b": ""}]}, "deeper": [[1]]}"#,
        )
        .unwrap();
        assert_eq!((body.count("steps").unwrap(), body.count("width").unwrap()), (Some(20), Some(512)));
        assert_eq!((body.count("height").unwrap(), body.whole("seed").unwrap()), (None, Some(-1)));
        assert_eq!(body.real("cfg_scale").unwrap(), Some(7.5));
        assert!(body.flag("tiling", false).unwrap() && body.flag("send_images", true).unwrap());
        assert!(body.mask.is_none() && body.init_images.is_empty());
        assert_eq!(body.unknown, ["url", "deeper"]);
        let active: Vec<&str> =
            body.scripts.iter().filter(|(_, given)| !given.is_neutral()).map(|(name, _)| name.as_str()).collect();
        assert_eq!(active, ["y"]);
        for (name, value) in [("steps", "1.5"), ("steps", "\"many\""), ("steps", "true"), ("steps", "[1]")] {
            let body: Body = serde_json::from_str(&format!("{{\"{name}\": {value}}}")).unwrap();
            assert!(body.count(name).is_err(), "{name} {value}");
        }
    }
}
