//! `darkroom inspect`: what files are, by the table that tools/fixtures/inspect_cases.py wrote from other programs' code, and
//! as people see it.
#![cfg(not(target_arch = "wasm32"))]

#[path = "common/headers.rs"]
mod headers;

use std::collections::BTreeSet;

use darkroom::checkpoint::inspect::{Report, inspect};
use headers::{Sparse, table};
use pollster::block_on;
use serde_json::{Value, json};

/// More than this behind the header is never read: of a Stable Diffusion 2 one norm, of 320 numbers.
const MOST_DATA: u64 = 4 * 320 + 512;

fn report(lists: &Value, case: &Value) -> Report {
    let source = Sparse::of(lists, case);
    let (name, n_data) = (source.name.clone(), source.n_data_read.clone());
    let report = block_on(inspect(Box::new(source), None)).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(n_data.get() <= MOST_DATA, "{name}: {} bytes of data were read", n_data.get());
    report
}

fn words(value: &Value) -> BTreeSet<&str> {
    value.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

/// What differs from a case's expectations, one line each.
fn differences(got: &Value, expect: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for (key, expected) in expect.as_object().unwrap() {
        let found = match key.as_str() {
            "has" => json!(got["components"]["present"].as_object().unwrap().keys().collect::<Vec<_>>()),
            "lacks" => got["components"]["missing"].clone(),
            "ranks" => got["lora"]["ranks"].clone(),
            "dora" => got["lora"]["dora"].clone(),
            _ => got[key].clone(),
        };
        let equal = match (key.as_str(), expected) {
            ("has" | "lacks" | "types", _) => words(&found) == words(expected),
            ("lora", Value::Object(fields)) => fields.iter().all(|(field, expected)| found[field] == *expected),
            _ => found == *expected,
        };
        // A UNet with diffusers' names opens here, too, with the rest from elsewhere.
        let ours = key == "opens" && got["layout"] == "diffusers" && got["kind"] == "unet" && found == json!(true);
        if !equal && !ours {
            wrong.push(format!("{key}: {found}, expected {expected}"));
        }
    }
    wrong
}

#[test]
fn every_case_of_the_table_is_recognised() {
    let (lists, cases) = table();
    assert!(cases.len() >= 100, "{}", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let report = report(&lists, case);
        let got = serde_json::to_value(&report).unwrap();
        let differences = differences(&got, &case["expect"]);
        wrong.extend(differences.iter().map(|line| format!("{}: {line}", case["name"])));
        let lines = report.lines();
        assert!((2..=24).contains(&lines.len()), "{lines:#?}");
        assert!(lines.iter().all(|line| line.len() < 1000 && !line.contains('\n')), "{lines:#?}");
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
