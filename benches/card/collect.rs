//! One JSON file of all rows, within a size that can be sent anywhere; and a table of the steps among them.

use std::path::Path;

use serde_json::{Value, json};

use crate::Outcome;
use crate::report::{duration, spread};

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

/// Every step in one line: ours, PyTorch's, and how they compare.
pub fn summary(rows: &Path) -> Outcome<()> {
    let text = std::fs::read_to_string(rows)?;
    println!(
        "{:<12} {:<9} {:>9} {:>9} {:>9} {:>6} {:>6} {:>8} {:>6} {:>9} {:>8} {:>7}",
        "", "", "ours", "PyTorch", "its graph", "ratio", "", "GFLOP/s", "%", "record", "submits", "GB"
    );
    for row in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        if row["kind"] != "step" {
            continue;
        }
        let median = |name: &str| {
            let secs: Vec<f64> = row[name].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
            spread(&secs)[1]
        };
        let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
        let (ours, theirs, graph) = (median("secs"), median("peer_secs"), median("peer_graph_secs"));
        let gflops = number(&row["flops"]) / ours / 1e9;
        let plain = if row["matrices"].is_null() { "" } else { "+" };
        println!(
            "{:<12} {:<9} {:>9} {:>9} {:>9} {:>6.2} {:>6.2} {gflops:>8.0} {:>6.1} {:>9} {:>8} {:>7.3}",
            row["model"].as_str().unwrap_or_default(),
            format!("{}{plain}", row["element"].as_str().unwrap_or_default()),
            duration(ours),
            duration(theirs),
            duration(graph),
            theirs / ours,
            graph / ours,
            100.0 * gflops / number(&row["peak_gflops"]),
            duration(number(&row["record_secs"])),
            row["counts"]["submits"],
            number(&row["counts"]["peak_bytes"]) / 1e9
        );
    }
    println!("(+: with cooperative matrices)");
    Ok(())
}
