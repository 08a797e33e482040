//! Single-file checkpoints of the tiny models, rebuilt from the lists of tensors that tools/fixtures/single_files.py made: no
//! weights are committed, since every value follows from its name ([`crate::tiny::tensor_values`]).

#![allow(dead_code, reason = "each test binary that includes this module uses a part of it")]

use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::tiny::{self, fixtures_dir};

/// What one file consists of.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct FileList {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    base: Option<String>,
    tensors: Vec<Vec<Value>>,
    #[serde(default)]
    drop: Vec<String>,
    #[serde(default)]
    shapes: BTreeMap<String, [String; 2]>,
    #[serde(default)]
    types: Vec<[String; 3]>,
    #[serde(default)]
    scaled: BTreeMap<String, f32>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    #[serde(default)]
    pub yaml: Option<String>,
    #[serde(default)]
    checksums: BTreeMap<String, String>,
}

/// A tensor as it lies in a file.
struct Stored {
    name: String,
    shape: Vec<usize>,
    dtype: String,
    bytes: Vec<u8>,
}

fn folder() -> std::path::PathBuf {
    fixtures_dir().join("single")
}

/// A list by its name: one of the versions, or one of files.json.
pub fn list(name: &str) -> FileList {
    let own = folder().join(format!("{name}.json"));
    if own.exists() {
        return serde_json::from_str(&std::fs::read_to_string(own).unwrap()).unwrap();
    }
    let all: Vec<FileList> =
        serde_json::from_str(&std::fs::read_to_string(folder().join("files.json")).unwrap()).unwrap();
    all.into_iter().find(|list| list.name == name).unwrap_or_else(|| panic!("no single file {name}"))
}

/// Writes a file in the type `default` (`F32` or `F16`) where the list names no other.
pub fn write(name: &str, path: &Path, default: &str) {
    let list = list(name);
    let stored = tensors(&list, default);
    if default == "F16" {
        check(&list, &stored);
    }
    if let Some(yaml) = &list.yaml {
        std::fs::write(path.with_extension("yaml"), yaml).unwrap();
    }
    let mut header = serde_json::Map::new();
    if !list.metadata.is_empty() {
        header.insert("__metadata__".into(), json!(list.metadata));
    }
    let mut data = Vec::new();
    for tensor in &stored {
        let offsets = [data.len(), data.len() + tensor.bytes.len()];
        let entry = json!({ "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": offsets });
        header.insert(tensor.name.clone(), entry);
        data.extend_from_slice(&tensor.bytes);
    }
    let text = Value::Object(header).to_string();
    let bytes = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &data].concat();
    std::fs::write(path, bytes).unwrap();
}

/// Name, shape and values of each floating-point tensor of a file, in the order of the list.
pub fn values(name: &str) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let floats = tensors(&list(name), "F32").into_iter().filter(|tensor| tensor.dtype == "F32");
    let values = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect();
    floats.map(|tensor| (tensor.name, tensor.shape, values(&tensor.bytes))).collect()
}

/// The version whose shapes count.
fn version_of(list: &FileList) -> Option<String> {
    list.version.clone().or_else(|| version_of(&self::list(list.base.as_deref()?)))
}

fn tensors(list: &FileList, default: &str) -> Vec<Stored> {
    let mut stored = match &list.base {
        Some(base) => {
            let base = self::list(base);
            // What its values are is the base's business, their types this file's.
            let with_types = FileList { types: list.types.clone(), scaled: list.scaled.clone(), ..base };
            tensors(&with_types, default)
        }
        None => Vec::new(),
    };
    stored.retain(|tensor| !list.drop.iter().any(|prefix| tensor.name.starts_with(prefix)));
    let version = version_of(list);
    for entry in &list.tensors {
        let tensor = tensor(list, version.as_deref(), entry, default);
        match stored.iter_mut().find(|earlier| earlier.name == tensor.name) {
            Some(earlier) => *earlier = tensor,
            None => stored.push(tensor),
        }
    }
    let has = |name: &str| stored.iter().any(|tensor| tensor.name == name);
    let scales = list.scaled.iter().filter_map(|(name, scale)| {
        let layer = name.strip_suffix("weight")?;
        let name = format!("{layer}scale_weight");
        (!has(&name)).then(|| Stored {
            name,
            shape: Vec::new(),
            dtype: "F32".into(),
            bytes: scale.to_le_bytes().to_vec(),
        })
    });
    let scales: Vec<Stored> = scales.collect();
    stored.extend(scales);
    stored
}

fn tensor(list: &FileList, version: Option<&str>, entry: &[Value], default: &str) -> Stored {
    let text = |idx: usize| entry[idx].as_str().unwrap_or_default();
    let (name, component, op) = (text(0), text(2), text(4));
    let shape: Vec<usize> = serde_json::from_value(entry[1].clone()).unwrap();
    let dtype = match entry.get(5).and_then(Value::as_str) {
        Some(own) => own,
        None if list.scaled.contains_key(name) => "F8_E4M3",
        None => {
            let fits = |kind: &&[String; 3]| name.starts_with(&kind[0]) && name.ends_with(&kind[1]);
            list.types.iter().find(fits).map_or(default, |kind| kind[2].as_str())
        }
    };
    let values_of = |from: &str| {
        let (of, its) = match list.shapes.get(component) {
            Some([version, component]) => (version.as_str(), component.as_str()),
            None => (version.expect("a version to take shapes from"), component),
        };
        let shapes = tiny::tensor_shapes(of, its);
        let shape = shapes.get(from).unwrap_or_else(|| panic!("{of} has no {its}/{from}"));
        (tiny::tensor_values(component, from, shape), shape.clone())
    };
    let n = shape.iter().product::<usize>();
    let values: Vec<f32> = match op {
        "same" | "reshape" => values_of(text(3)).0,
        "transpose" => {
            let (values, from) = values_of(text(3));
            (0..n).map(|i| values[(i % from[0]) * from[1] + i / from[0]]).collect()
        }
        "rows" => {
            let names = entry[3].as_array().unwrap().iter();
            names.flat_map(|name| values_of(name.as_str().unwrap()).0).collect()
        }
        "extra" => tiny::tensor_values("extra", name, &shape),
        "arange" => (0..n).map(|i| i as f32).collect(),
        "empty" => vec![0.0; n],
        other => panic!("{name}: no rule {other}"),
    };
    assert_eq!(values.len(), n, "{name}");
    let scale = list.scaled.get(name).copied().unwrap_or(1.0);
    let bytes = values.iter().flat_map(|value| encoded(value / scale, dtype)).collect();
    Stored { name: name.to_owned(), shape, dtype: dtype.to_owned(), bytes }
}

fn encoded(value: f32, dtype: &str) -> Vec<u8> {
    match dtype {
        "F32" => value.to_le_bytes().to_vec(),
        "F16" => f16::from_f32(value).to_le_bytes().to_vec(),
        "BF16" => bf16::from_f32(value).to_le_bytes().to_vec(),
        "F8_E4M3" => vec![e4m3(value)],
        "I64" => (value as i64).to_le_bytes().to_vec(),
        "I32" => (value as i32).to_le_bytes().to_vec(),
        other => panic!("no type {other}"),
    }
}

/// To the nearest of 4 bits of exponent and 3 of mantissa, ties to even.
fn e4m3(value: f32) -> u8 {
    let of = |bits: u8| match (bits >> 3, f32::from(bits & 7)) {
        (0, mantissa) => mantissa * 2f32.powi(-9),
        (exponent, mantissa) => (8.0 + mantissa) * 2f32.powi(i32::from(exponent) - 10),
    };
    let magnitude = value.abs();
    let nearest = (0..127u8).min_by(|&a, &b| {
        let distance = |bits: u8| (of(bits) - magnitude).abs();
        distance(a).total_cmp(&distance(b)).then((a & 1).cmp(&(b & 1)))
    });
    nearest.unwrap() | if value.is_sign_negative() { 0x80 } else { 0 }
}

/// Compares with the sums that the script wrote, type by type.
fn check(list: &FileList, stored: &[Stored]) {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for tensor in stored {
        let width = match tensor.dtype.as_str() {
            "I64" => 8,
            "F32" | "I32" => 4,
            "F16" | "BF16" => 2,
            _ => 1,
        };
        let sum = sums.entry(&tensor.dtype).or_default();
        for (idx, bytes) in tensor.bytes.chunks_exact(width).enumerate() {
            let bits = bytes.iter().rev().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
            *sum = sum.wrapping_add((idx as u64 + 1).wrapping_mul(bits));
        }
    }
    for (dtype, expected) in &list.checksums {
        let got = format!("{:016x}", sums.get(dtype.as_str()).copied().unwrap_or_default());
        assert_eq!(&got, expected, "{}: the {dtype} tensors differ from the script's", list.name);
    }
}
