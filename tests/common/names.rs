//! Names and shapes of published checkpoints in one file.

use serde_json::Value;

/// Names and shapes of a published file, from a list that was made without this crate (tools/fixtures/single_names.py).
pub fn published(version: &str) -> Vec<(String, Vec<usize>)> {
    let path = crate::tiny::fixtures_dir().join("single/names").join(format!("{version}.json"));
    let list: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let lines = |value: &Value, prefix: &str| -> Vec<(String, Vec<usize>)> {
        let texts = value.as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.flat_map(|line| expand(&format!("{prefix}{line}"))).collect()
    };
    let mut all = match list["base"].as_str() {
        Some(base) => published(base),
        None => Vec::new(),
    };
    for part in list["lists"].as_array().into_iter().flatten() {
        all.extend(lines(&part["tensors"], part["prefix"].as_str().unwrap()));
    }
    for (name, shape) in lines(&list["replaced"], "") {
        all.iter_mut().find(|(known, _)| *known == name).unwrap().1 = shape;
    }
    all
}

/// `NAME SHAPE`, where `{a..b}` in the name stands for all numbers between and `-` for no side.
fn expand(line: &str) -> Vec<(String, Vec<usize>)> {
    let (name, shape) = line.split_once(' ').unwrap();
    let shape: Vec<usize> = match shape {
        "-" => Vec::new(),
        sides => sides.split(',').map(|side| side.parse().unwrap()).collect(),
    };
    let Some((start, rest)) = name.split_once('{') else { return vec![(name.to_owned(), shape)] };
    let (range, end) = rest.split_once('}').unwrap();
    let (first, last) = range.split_once("..").unwrap();
    let numbers = first.parse::<usize>().unwrap()..=last.parse::<usize>().unwrap();
    numbers.map(|number| (format!("{start}{number}{end}"), shape.clone())).collect()
}
