//! Files that are a header alone: the cases of tests/fixtures/single/inspect.json, with no data behind them.

#![allow(dead_code, reason = "each test binary that includes this module uses a part of it")]

use std::path::{Path, PathBuf};

use darkroom::Result;
use darkroom::weights::{ByteSource, LocalFuture};
use serde_json::{Map, Value, json};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/single")
}

fn read(name: &str) -> Value {
    let path = fixtures().join(name);
    serde_json::from_str(&std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}"))).unwrap()
}

/// The table: shared lists, and the cases.
pub fn table() -> (Value, Vec<Value>) {
    let table = read("inspect.json");
    (table["lists"].clone(), table["cases"].as_array().unwrap().clone())
}

/// Tensors in the order of a file: name, shape, type.
type Tensors = Vec<(String, Vec<u64>, String)>;

/// `NAME{0..3}.x 320,4,3,3`: each name with the shape.
fn expand(line: &str, dtype: &str, tensors: &mut Tensors) {
    let (name, shape) = line.split_once(' ').unwrap();
    let shape: Vec<u64> = match shape {
        "-" => Vec::new(),
        sides => sides.split(',').map(|side| side.parse().unwrap()).collect(),
    };
    let mut put = |name: String| match tensors.iter_mut().find(|(earlier, ..)| *earlier == name) {
        Some(earlier) => *earlier = (name, shape.clone(), dtype.to_owned()),
        None => tensors.push((name, shape.clone(), dtype.to_owned())),
    };
    let Some((before, rest)) = name.split_once('{') else { return put(name.to_owned()) };
    let (range, behind) = rest.split_once('}').unwrap();
    let (first, last) = range.split_once("..").unwrap();
    for number in first.parse::<u32>().unwrap()..=last.parse().unwrap() {
        put(format!("{before}{number}{behind}"));
    }
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().map(|line| line.as_str().unwrap())
}

fn tensors(lists: &Value, case: &Value) -> Tensors {
    let mut tensors = Tensors::new();
    if let Some(base) = case["base"].as_str() {
        let dtype = case["type"].as_str().unwrap();
        let own = read(&format!("names/{base}.json"));
        let whole = own["base"].as_str().map(|base| read(&format!("names/{base}.json"))).unwrap_or_else(|| own.clone());
        for list in whole["lists"].as_array().unwrap() {
            let prefix = list["prefix"].as_str().unwrap();
            strings(&list["tensors"]).for_each(|line| expand(&format!("{prefix}{line}"), dtype, &mut tensors));
        }
        strings(&own["replaced"]).for_each(|line| expand(line, dtype, &mut tensors));
        let starts = |key: &str, name: &str| strings(&case[key]).any(|prefix| name.starts_with(prefix));
        tensors.retain(|(name, ..)| case.get("only").is_none() || starts("only", name));
        tensors.retain(|(name, ..)| !starts("drop", name));
    }
    let shared = strings(&case["include"]).flat_map(|name| strings(&lists[name]));
    for line in shared.chain(strings(&case["tensors"])) {
        let (rest, dtype) = line.rsplit_once(' ').unwrap();
        expand(rest, dtype, &mut tensors);
    }
    tensors
}

fn width(dtype: &str) -> u64 {
    match dtype {
        "I64" => 8,
        "F32" | "I32" => 4,
        "F16" | "BF16" => 2,
        _ => 1,
    }
}

/// A safetensors header with its length in front, and how long the whole file is.
pub fn header(lists: &Value, case: &Value) -> (Vec<u8>, u64) {
    let mut entries = Map::new();
    if case["metadata"].is_object() {
        entries.insert("__metadata__".into(), case["metadata"].clone());
    }
    let mut at = 0;
    for (name, shape, dtype) in tensors(lists, case) {
        let end = at + shape.iter().product::<u64>() * width(&dtype);
        entries.insert(name, json!({ "dtype": dtype, "shape": shape, "data_offsets": [at, end] }));
        at = end;
    }
    let json = Value::Object(entries).to_string().into_bytes();
    let header = [&(json.len() as u64).to_le_bytes()[..], &json].concat();
    let len = header.len() as u64 + at;
    (header, len)
}

/// Writes a file of the right length: sparse, its data zeros.
pub fn write(lists: &Value, case: &Value, path: &Path) {
    let (header, len) = header(lists, case);
    std::fs::write(path, header).unwrap();
    std::fs::File::options().write(true).open(path).unwrap().set_len(len).unwrap();
}

/// The same in memory; what is read behind the header is zeros, and counted.
pub struct Sparse {
    pub name: String,
    pub header: Vec<u8>,
    pub len: u64,
    pub n_data_read: std::rc::Rc<std::cell::Cell<u64>>,
}

impl Sparse {
    pub fn of(lists: &Value, case: &Value) -> Self {
        let (header, len) = header(lists, case);
        Sparse {
            name: format!("{}.safetensors", case["name"].as_str().unwrap()),
            header,
            len,
            n_data_read: Default::default(),
        }
    }
}

impl ByteSource for Sparse {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn read<'a>(&'a self, offset: u64, len: usize) -> LocalFuture<'a, Result<Vec<u8>>> {
        let end = offset + len as u64;
        assert!(end <= self.len, "{}: {len} bytes from {offset} on leave the file", self.name);
        let behind = end.saturating_sub((self.header.len() as u64).max(offset));
        self.n_data_read.set(self.n_data_read.get() + behind);
        let byte = |at: u64| self.header.get(at as usize).copied().unwrap_or(0);
        Box::pin(std::future::ready(Ok((offset..end).map(byte).collect())))
    }
}
