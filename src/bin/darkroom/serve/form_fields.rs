//! The texts of a form as the object that JSON would have: numbers, switches, and lists in the spellings of several clients.
//!
//! A list is `name[]` (or `name`) once for each of its values, `name[][key]` for objects in it, as OpenAI's client writes
//! `extra_body`, or all of it as JSON in one field.

use serde_json::{Map, Number, Value};

use super::failure::Failure;
use super::json;

/// Fields that stay text, whatever they look like; the last is a LoRA's.
const TEXTS: [&str; 7] = ["prompt", "negative_prompt", "user", "safety_identifier", "model", "sampler", "name"];

/// Fields that are lists.
const LISTS: [&str; 5] = ["loras", "timesteps", "sigmas", "original_size", "crop"];

/// See the module.
#[derive(Default)]
pub struct FormFields {
    pub values: Map<String, Value>,
    /// The list whose last object has fields to come, and its number where the form counts.
    open: Option<(String, String)>,
}

impl FormFields {
    /// Adds a field; `brackets` is what follows its name: nothing, `[]`, `[0]`, `[][key]`, `[0][key]`.
    ///
    /// # Errors
    /// 400 for what is given twice, and for brackets or JSON that are not possible.
    pub fn add(&mut self, name: &str, brackets: &str, text: &str) -> Result<(), Failure> {
        if !LISTS.contains(&name) {
            return match self.values.insert(name.to_owned(), value_of(name, text)) {
                Some(_) => refuse(name, format!("{name} is given twice")),
                None => Ok(()),
            };
        }
        let Some(keys) = keys(brackets) else {
            return refuse(name, format!("{name}{brackets} is not possible: use {name}[], or JSON as {name}"));
        };
        let whole = text.trim_start();
        if keys.is_empty() && (whole.starts_with('[') || matches!(text, "" | "null" | "None")) {
            return match self.values.insert(name.to_owned(), parse(name, text)?) {
                Some(_) => refuse(name, format!("{name} is given twice")),
                None => Ok(()),
            };
        }
        let list = self.values.entry(name.to_owned()).or_insert_with(|| Value::Array(Vec::new()));
        let Value::Array(list) = list else { return refuse(name, format!("{name} is given twice")) };
        match keys[..] {
            [idx, key] => {
                let open = Some((name.to_owned(), idx.to_owned()));
                let last = list.last_mut().and_then(Value::as_object_mut).filter(|last| !last.contains_key(key));
                let value = value_of(key, text);
                match last.filter(|_| self.open == open) {
                    Some(last) => drop(last.insert(key.to_owned(), value)),
                    None => list.push(Value::Object(Map::from_iter([(key.to_owned(), value)]))),
                }
                self.open = open;
            }
            _ if whole.starts_with('{') => list.push(parse(name, text)?),
            _ => list.push(value_of(name, text)),
        }
        Ok(())
    }
}

fn refuse<T>(name: &str, message: String) -> Result<T, Failure> {
    Err(Failure::of(name, message))
}

/// What stands in brackets: none, an index, or an index and a key; the index may be empty.
fn keys(brackets: &str) -> Option<Vec<&str>> {
    if brackets.is_empty() {
        return Some(Vec::new());
    }
    let keys: Vec<&str> = brackets.strip_prefix('[')?.strip_suffix(']')?.split("][").collect();
    let is_list = keys[0].bytes().all(|byte| byte.is_ascii_digit());
    (is_list && keys.len() <= 2 && keys[1..].iter().all(|key| !key.is_empty())).then_some(keys)
}

/// A field that is JSON; nothing where it is empty.
fn parse(name: &str, text: &str) -> Result<Value, Failure> {
    match text {
        "" | "null" | "None" => Ok(Value::Null),
        _ => json::value(name, text),
    }
}

/// A text as JSON would have it, as form fields of several programs spell them, Python's among them.
fn value_of(name: &str, text: &str) -> Value {
    match text {
        _ if TEXTS.contains(&name) => Value::from(text),
        "true" | "True" => Value::from(true),
        "false" | "False" => Value::from(false),
        "" | "null" | "None" => Value::Null,
        _ => text.parse::<Number>().map_or_else(|_| Value::from(text), Value::Number),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(fields: &[(&str, &str)]) -> Result<Value, String> {
        let mut form = FormFields::default();
        for (field, text) in fields {
            let name = field.split_once('[').map_or(*field, |(name, _)| name);
            form.add(name, &field[name.len()..], text).map_err(|failure| failure.body()["message"].to_string())?;
        }
        Ok(Value::Object(form.values))
    }

    #[test]
    fn lists_are_read_in_every_spelling() {
        let loras = json!({ "loras": [{ "name": "7", "strength": 0.5 }, { "name": "b" }] });
        let numbers = json!({ "sigmas": [14.5, 0] });
        for (fields, expected) in [
            (&[("loras[][name]", "7"), ("loras[][strength]", "0.5"), ("loras[][name]", "b")][..], &loras),
            (&[("loras[0][name]", "7"), ("loras[0][strength]", "0.5"), ("loras[1][name]", "b")], &loras),
            (&[("loras", r#"[{"name": "7", "strength": 0.5}, {"name": "b"}]"#)], &loras),
            (&[("loras[]", r#"{"name": "7", "strength": 0.5}"#), ("loras[]", r#" {"name": "b"}"#)], &loras),
            (&[("sigmas[]", "14.5"), ("sigmas[]", "0")], &numbers),
            (&[("sigmas[0]", "14.5"), ("sigmas[1]", "0")], &numbers),
            (&[("sigmas", "14.5"), ("sigmas", "0")], &numbers),
            (&[("sigmas", " [14.5, 0]")], &numbers),
            (&[("crop[]", "0"), ("crop[]", "64")], &json!({ "crop": [0, 64] })),
            (
                &[("timesteps", ""), ("n", "1"), ("prompt", "[1]")],
                &json!({ "timesteps": null, "n": 1, "prompt": "[1]" }),
            ),
            // The index tells two objects apart that have no key in common.
            (
                &[("loras[0][name]", "a"), ("loras[1][strength]", "1")],
                &json!({ "loras": [{ "name": "a" }, { "strength": 1 }] }),
            ),
        ] {
            assert_eq!(read(fields).as_ref(), Ok(expected), "{fields:?}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for (fields, said) in [
            (&[("n", "1"), ("n", "2")][..], "n is given twice"),
            (&[("sigmas", "[1, 0]"), ("sigmas", "[1, 0]")], "sigmas is given twice"),
            (&[("sigmas", ""), ("sigmas[]", "1")], "sigmas is given twice"),
            (&[("sigmas", "[1, 0")], "not JSON"),
            (&[("loras[name]", "a")], "use loras[]"),
            (&[("loras[][a][b]", "a")], "use loras[]"),
            (&[("loras[][]", "a")], "use loras[]"),
            (&[("loras[", "a")], "use loras[]"),
        ] {
            let refused = read(fields).unwrap_err();
            assert!(refused.contains(said), "{fields:?}: {refused}");
        }
    }
}
