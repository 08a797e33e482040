//! Tiny models of the seven versions, written to a folder as a real checkpoint would lie there.
//!
//! The configs and the lists of tensors are committed under tests/fixtures/tiny; the weights are not: every value
//! follows from the tensor's name by the rule in [`tensor_values`], here and in tools/fixtures/tiny_models.py alike.
//! A test below holds the two together. Nothing here runs a model or knows what the numbers should come out as.

#![allow(dead_code, reason = "each test binary that includes this module uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use half::f16;
use serde_json::{Value, json};

pub use crate::numbers::places::fixtures_dir;

/// The versions that have a tiny model.
pub const VERSIONS: [&str; 7] = ["v1-5", "v1-5-inpaint", "v2-1", "v2-inpaint", "xl", "xl-inpaint", "turbo"];

/// What distilled and fine-tuned models differ from them in (tools/fixtures/variants.py).
pub const VARIANTS: [&str; 12] = [
    "tiny-sd",
    "uneven",
    "ssd-1b",
    "koala",
    "nested",
    "lcm",
    "lcm-xl",
    "playground",
    "statistics",
    "taesd",
    "taesd-inpaint",
    "taesdxl",
];

/// How [`write_model`] lays the weights down. The values are the same in all of them, since each fits in a float16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `model.safetensors` and `diffusion_pytorch_model.safetensors` in float32.
    F32,
    /// `model.fp16.safetensors` and `diffusion_pytorch_model.fp16.safetensors` in float16, and no float32 files.
    F16,
    /// Float32, the UNet in three shards with a `diffusion_pytorch_model.safetensors.index.json`.
    F32Sharded,
    /// Float32 with the traits of files made by old exporters: the VAE's attention under
    /// `query`/`key`/`value`/`proj_attn`, as `[C, C]` in the encoder and as 1x1 convolutions `[C, C, 1, 1]` in the
    /// decoder, and an int64 `position_ids` `[1, 77]` in the text encoders, which no model uses.
    OldVaeNames,
}

/// One tensor as it goes into a file.
struct Entry {
    name: String,
    shape: Vec<usize>,
    dtype: &'static str,
    bytes: Vec<u8>,
}

/// Writes the complete folder of a tiny model: `model_index.json`, scheduler, tokenizers, configs and weights.
///
/// `dir` is created where it is missing; files of the same names are replaced.
pub fn write_model(version: &str, dir: &Path, style: Style) {
    let source = fixtures_dir().join("tiny").join(version);
    copy(&source.join("model_index.json"), &dir.join("model_index.json"));
    copy(&source.join("scheduler/scheduler_config.json"), &dir.join("scheduler/scheduler_config.json"));
    for tokenizer in ["tokenizer", "tokenizer_2"].iter().filter(|name| source.join(name).is_dir()) {
        for file in ["tokenizer_config.json", "special_tokens_map.json"] {
            copy(&source.join(tokenizer).join(file), &dir.join(tokenizer).join(file));
        }
        for file in ["vocab.json", "merges.txt"] {
            copy(&fixtures_dir().join("tiny/tokenizer").join(file), &dir.join(tokenizer).join(file));
        }
    }
    for component in components(version) {
        copy(&source.join(component).join("config.json"), &dir.join(component).join("config.json"));
        let mut entries: Vec<Entry> = tensor_shapes(version, component)
            .into_iter()
            .map(|(name, shape)| entry(component, name, shape, if style == Style::F16 { "F16" } else { "F32" }))
            .collect();
        if style == Style::OldVaeNames {
            age(component, &mut entries);
        }
        write_weights(component, &dir.join(component), entries, style);
    }
}

/// The components of a version that have weights.
pub fn components(version: &str) -> Vec<&'static str> {
    let folder = fixtures_dir().join("tiny").join(version);
    ["text_encoder", "text_encoder_2", "unet", "vae"].into_iter().filter(|name| folder.join(name).is_dir()).collect()
}

/// Name and shape of every tensor of a component, by the published names, sorted.
pub fn tensor_shapes(version: &str, component: &str) -> BTreeMap<String, Vec<usize>> {
    let tensors = read_json(&tensors_path(version, component));
    let tensors = tensors["tensors"].as_object().expect("tensors.json has an object of tensors");
    tensors
        .iter()
        .map(|(name, shape)| {
            let dims = shape.as_array().expect("a shape is an array").iter();
            (name.clone(), dims.map(|d| d.as_u64().expect("a dimension is a number") as usize).collect())
        })
        .collect()
}

/// The values of one tensor in row-major order, each exactly a float16.
///
/// `u` in [-1, 1) comes from the top 53 bits of splitmix64, seeded with the FNV-1a hash of `component/name`. Embeddings
/// are `0.5 u`; tensors of two or more dimensions `gain u / sqrt(fan_in)`; other weights (norms) `1 + 0.2 u`; biases
/// `0.1 u`. All in float64, then rounded to float16, ties to even.
pub fn tensor_values(component: &str, name: &str, shape: &[usize]) -> Vec<f32> {
    const GAIN: f64 = 1.5;
    const GAIN_VAE_CONV_OUT: f64 = 1.1;
    const GAIN_TINY_PICTURE: f64 = 3.0;
    const GAIN_TINY_LATENTS: f64 = 9.0;
    let mut state = fnv1a64(&format!("{component}/{name}"));
    let mut u = || (splitmix64(&mut state) >> 11) as f64 * 2f64.powi(-52) - 1.0;
    let count = shape.iter().product::<usize>();
    let mut fill = |value: &dyn Fn(f64) -> f64| (0..count).map(|_| round_to_f16(value(u()))).collect();
    if name.ends_with("token_embedding.weight") || name.ends_with("position_embedding.weight") {
        fill(&|u| 0.5 * u)
    } else if shape.len() >= 2 {
        // Those of an AutoencoderTiny are told by what they give: a picture, latents.
        let in_layers = |half: &str| component == "vae" && name.starts_with(&format!("{half}.layers."));
        let gain = match shape[0] {
            3 if in_layers("decoder") => GAIN_TINY_PICTURE,
            4 if in_layers("encoder") => GAIN_TINY_LATENTS,
            _ if component == "vae" && name == "decoder.conv_out.weight" => GAIN_VAE_CONV_OUT,
            _ => GAIN,
        };
        let scale = gain / (shape[1..].iter().product::<usize>() as f64).sqrt();
        fill(&|u| u * scale)
    } else if name.ends_with(".weight") {
        fill(&|u| 1.0 + 0.2 * u)
    } else if component == "vae" && name.starts_with("decoder.layers.") && shape == [3] {
        fill(&|u| 0.5 + 0.1 * u)
    } else {
        fill(&|u| 0.1 * u)
    }
}

/// `n` bytes that follow from a text: the top ones of each number of the rule.
pub fn named_bytes(text: &str, n: usize) -> Vec<u8> {
    let mut state = fnv1a64(text);
    (0..n).map(|_| (splitmix64(&mut state) >> 56) as u8).collect()
}

fn fnv1a64(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Rounds to the nearest float16, ties to even, for magnitudes below its largest.
///
/// By scaling in float64 and not through `half`, which drops the low 32 bits of a float64 before it rounds.
pub fn round_to_f16(x: f64) -> f32 {
    let exponent = (((x.to_bits() >> 52) & 0x7ff) as i32 - 1023).max(-14);
    let ulp = 2f64.powi(exponent - 10);
    ((x / ulp).round_ties_even() * ulp) as f32
}

fn entry(component: &str, name: String, shape: Vec<usize>, dtype: &'static str) -> Entry {
    let values = tensor_values(component, &name, &shape);
    let bytes = match dtype {
        "F16" => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    };
    Entry { name, shape, dtype, bytes }
}

/// Gives the tensors of a component the names and shapes of [`Style::OldVaeNames`].
fn age(component: &str, entries: &mut Vec<Entry>) {
    if component == "vae" {
        for entry in entries.iter_mut().filter(|e| e.name.contains(".mid_block.attentions.0.")) {
            for (new, old) in [("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")] {
                entry.name = entry.name.replace(&format!(".{new}."), &format!(".{old}."));
            }
            if entry.name.starts_with("decoder.") && entry.shape.len() == 2 {
                entry.shape.extend([1, 1]);
            }
        }
    } else if component.starts_with("text_encoder") {
        let bytes = (0..77i64).flat_map(i64::to_le_bytes).collect();
        let name = "text_model.embeddings.position_ids".to_owned();
        entries.push(Entry { name, shape: vec![1, 77], dtype: "I64", bytes });
    }
}

/// Writes a component's entries into one file, or three with an index.
fn write_weights(component: &str, dir: &Path, entries: Vec<Entry>, style: Style) {
    let stem = if component.starts_with("text_encoder") { "model" } else { "diffusion_pytorch_model" };
    if style != Style::F32Sharded || component != "unet" {
        let infix = if style == Style::F16 { ".fp16" } else { "" };
        return write_safetensors(&dir.join(format!("{stem}{infix}.safetensors")), &entries);
    }
    const SHARDS: usize = 3;
    let total_size: usize = entries.iter().map(|e| e.bytes.len()).sum();
    let per_shard = entries.len().div_ceil(SHARDS);
    let mut weight_map = serde_json::Map::new();
    for (i, shard) in entries.chunks(per_shard).enumerate() {
        let file = format!("{stem}-{:05}-of-{SHARDS:05}.safetensors", i + 1);
        weight_map.extend(shard.iter().map(|e| (e.name.clone(), Value::String(file.clone()))));
        write_safetensors(&dir.join(&file), shard);
    }
    let index = json!({ "metadata": { "total_size": total_size }, "weight_map": weight_map });
    write(&dir.join(format!("{stem}.safetensors.index.json")), index.to_string().as_bytes());
}

/// Writes a safetensors file: the header's length (u64, little endian), a JSON header padded to 8 bytes, the data.
fn write_safetensors(path: &Path, entries: &[Entry]) {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let mut data = Vec::new();
    for e in entries {
        let offsets = [data.len(), data.len() + e.bytes.len()];
        header.insert(e.name.clone(), json!({ "dtype": e.dtype, "shape": e.shape, "data_offsets": offsets }));
        data.extend_from_slice(&e.bytes);
    }
    let mut text = Value::Object(header).to_string();
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    let mut file = (text.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(text.as_bytes());
    file.extend_from_slice(&data);
    write(path, &file);
}

fn tensors_path(version: &str, component: &str) -> PathBuf {
    fixtures_dir().join("tiny").join(version).join(component).join("tensors.json")
}

fn read_json(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn copy(from: &Path, to: &Path) {
    let bytes = fs::read(from).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
    write(to, &bytes);
}

fn write(path: &Path, bytes: &[u8]) {
    let parent = path.parent().expect("a file lies in a folder");
    fs::create_dir_all(parent).unwrap_or_else(|e| panic!("{}: {e}", parent.display()));
    fs::write(path, bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

#[test]
fn the_computed_weights_are_pythons() {
    for version in VERSIONS.into_iter().chain(VARIANTS) {
        for component in components(version) {
            let (mut bits, mut sum, mut sum_sq) = (0u64, 0f64, 0f64);
            for (name, shape) in tensor_shapes(version, component) {
                for (i, value) in tensor_values(component, &name, &shape).into_iter().enumerate() {
                    assert_eq!(
                        f16::from_f32(value).to_f32(),
                        value,
                        "{component}/{name} is not made of float16 values"
                    );
                    let half_bits = u64::from(f16::from_f32(value).to_bits());
                    bits = bits.wrapping_add((i as u64 + 1).wrapping_mul(half_bits));
                    sum += f64::from(value);
                    sum_sq += f64::from(value).powi(2);
                }
            }
            let expected = read_json(&tensors_path(version, component))["checksums"].clone();
            assert_eq!(json!(format!("{bits:016x}")), expected["bits"], "{version} {component}");
            for (got, field) in [(sum, "sum"), (sum_sq, "sum_sq")] {
                let want = expected[field].as_f64().expect("a checksum is a number");
                assert!((got - want).abs() <= 1e-5, "{version} {component} {field}: {got}, expected {want}");
            }
        }
    }
}
