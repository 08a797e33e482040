//! One JSON file of all rows, within a size that can be sent anywhere.

use std::path::Path;

use serde_json::{Value, json};

use crate::Outcome;

/// Bytes of the file at most.
const MAX_BYTES: usize = 700_000;

/// Bytes of one row at most; a longer one is replaced by its first fields.
const MAX_ROW_BYTES: usize = 120_000;

pub fn run(rows: &Path, file: &Path) -> Outcome<()> {
    let text = std::fs::read_to_string(rows).unwrap_or_default();
    let mut kept: Vec<Value> = Vec::new();
    let (mut n_bytes, mut n_left_out) = (0, 0);
    for line in text.lines() {
        // A process that was killed may have left half a line.
        let Ok(row) = serde_json::from_str::<Value>(line) else { continue };
        if line.len() > MAX_ROW_BYTES || n_bytes + line.len() > MAX_BYTES {
            n_left_out += 1;
            continue;
        }
        n_bytes += line.len() + 2;
        kept.push(row);
    }
    let lines: Vec<String> = kept.iter().map(Value::to_string).collect();
    let head = json!({ "darkroom": env!("CARGO_PKG_VERSION"), "rows_left_out": n_left_out }).to_string();
    let head = head.trim_end_matches('}');
    std::fs::write(file, format!("{head},\"rows\":[\n{}\n]}}\n", lines.join(",\n")))?;
    Ok(())
}
