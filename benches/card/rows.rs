//! Rows of a report as JSON lines, each written at once, so that a process that is killed leaves what it found.

use std::fs::OpenOptions;
use std::io::Write;

use serde_json::{Value, json};

pub struct Rows(Option<String>);

impl Rows {
    pub fn nowhere() -> Self {
        Rows(None)
    }

    pub fn to(file: &str) -> Self {
        Rows(Some(file.to_owned()).filter(|file| !file.is_empty()))
    }

    /// One row; what is no object goes below `value`.
    pub fn add(&self, kind: &str, row: Value) {
        let Some(file) = &self.0 else { return };
        let mut line = json!({ "kind": kind });
        match row {
            Value::Object(fields) => line.as_object_mut().expect("an object").extend(fields),
            other => line["value"] = other,
        }
        let opened = OpenOptions::new().create(true).append(true).open(file);
        let written = opened.and_then(|mut opened| opened.write_all(format!("{line}\n").as_bytes()));
        if let Err(error) = written {
            println!("{file}: {error}");
        }
    }

    /// The last row of a kind, of this process or one before it.
    pub fn last(&self, kind: &str) -> Option<Value> {
        let text = std::fs::read_to_string(self.0.as_ref()?).ok()?;
        let rows = text.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        rows.into_iter().find(|row| row["kind"] == kind)
    }
}
