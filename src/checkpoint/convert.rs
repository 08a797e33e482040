//! A model written anew in another layout: a diffusers folder, one safetensors file in the layout of the original training
//! code, or a GGUF file in stable-diffusion.cpp's dialect.
//!
//! What is to be written is laid out first ([`files`]), then its bytes come in pieces ([`OutputFile::pieces`]), so that no
//! tensor but a transposed one is in memory as a whole. It writes to nowhere itself.

use std::collections::BTreeMap;
use std::rc::Rc;

use half::{bf16, f16};
use serde_json::json;

use super::names;
use crate::error::{Error, Result};
use crate::graph::WeightSpec;
use crate::hub::{Component, Source};
use crate::pipeline::ModelConfigs;
use crate::weights::convert::f32_from_le_bytes;
use crate::weights::gguf::{self, BlockType, NewTensor};
use crate::weights::{Cut, Dtype, Weights};

/// How many numbers are converted at once; whole blocks of every quantised type.
const PIECE_VALUES: u64 = 1 << 20;

/// The layouts that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A folder as diffusers saves it.
    Diffusers,
    /// One safetensors file with the original names.
    Ldm,
    /// One GGUF file with the original names.
    Gguf,
}

/// The type of what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// As the model has it; what it has quantised, in f32.
    Keep,
    /// 32-bit floating point.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    Bf16,
    /// Matrices in blocks of GGUF; the rest as the model has it.
    Blocks(BlockType),
}

impl std::str::FromStr for Stored {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "keep" => Ok(Stored::Keep),
            "f32" | "fp32" => Ok(Stored::F32),
            "f16" | "fp16" => Ok(Stored::F16),
            "bf16" => Ok(Stored::Bf16),
            "q8_0" => Ok(Stored::Blocks(BlockType::Q8_0)),
            "q4_0" => Ok(Stored::Blocks(BlockType::Q4_0)),
            _ => Err(Error::Request {
                field: "type",
                got: format!("{text:?}"),
                expected: "use f16, f32, bf16, keep (as the model has it), q8_0 or q4_0".into(),
            }),
        }
    }
}

/// One tensor of an output: from which tensors it is made, in order.
struct Wanted {
    name: String,
    shape: Vec<usize>,
    parts: Vec<Part>,
    dtype: BlockType,
}

/// A tensor of the model that is a part of one that is written.
struct Part {
    weights: Weights,
    name: String,
    is_transposed: bool,
    /// Its place among several parts.
    idx: usize,
}

/// A file that is to be written.
pub struct OutputFile {
    /// Its path in the folder; empty for a model in one file.
    pub path: String,
    content: Content,
}

enum Content {
    Text(String),
    Safetensors { metadata: BTreeMap<String, String>, tensors: Vec<Wanted> },
    Gguf { metadata: BTreeMap<String, String>, tensors: Vec<Wanted> },
}

/// Lays out what the conversion of a model writes. Weight files of a folder are cut where they pass `shard_bytes`.
///
/// # Errors
/// What is wrong with the model, by the file's name; [`Error::Request`] for a type that the layout does not have.
pub async fn files(
    source: &Rc<dyn Source>,
    layout: Layout,
    stored: Stored,
    shard_bytes: Option<u64>,
) -> Result<Vec<OutputFile>> {
    if matches!(stored, Stored::Blocks(_)) && layout != Layout::Gguf {
        return Err(Error::Request {
            field: "type",
            got: "of blocks (q8_0, q4_0) in a safetensors file".into(),
            expected: "write a .gguf file, or use f16, bf16, f32 or keep".into(),
        });
    }
    let listed = source.list().await?;
    let configs = ModelConfigs::read(&**source, &listed).await?;
    let mut components = Vec::new();
    for component in configs.components() {
        // A tiny decoder stands beside the model, which keeps its own VAE.
        if component == Component::VaeDecoder {
            continue;
        }
        let specs = configs.weight_specs(component)?;
        let weights = source.weights(component, &listed, &specs).await?;
        weights.check(&specs)?;
        components.push((component, specs, weights));
    }
    if layout != Layout::Diffusers {
        let mut tensors = Vec::new();
        for (component, specs, weights) in &components {
            tensors.extend(ldm_tensors(*component, &configs, specs, weights, stored));
        }
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        let metadata = metadata(&configs);
        let content = match layout {
            Layout::Gguf => Content::Gguf { metadata, tensors },
            _ => {
                tensors.extend(markers(&configs));
                Content::Safetensors { metadata, tensors }
            }
        };
        return Ok(vec![OutputFile { path: String::new(), content }]);
    }
    let mut files = Vec::new();
    for file in listed.iter().filter(|file| !file.is_weights() && file.component != Component::VaeDecoder) {
        let text = source.read_text(&file.path).await?;
        files.push(OutputFile { path: file.path.clone(), content: Content::Text(text) });
    }
    for (component, specs, weights) in &components {
        let tensors = specs.iter().map(|spec| {
            let name = spec.name.clone();
            let part = Part { weights: weights.clone(), name: name.clone(), is_transposed: false, idx: 0 };
            let dtype = dtype_of(&spec.name, &spec.shape, weights, stored);
            Wanted { name, shape: spec.shape.clone(), parts: vec![part], dtype }
        });
        let mut tensors: Vec<Wanted> = tensors.collect();
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        files.extend(component_files(*component, tensors, shard_bytes));
    }
    Ok(files)
}

/// The weight files of a component of a folder: one, or several with an index.
fn component_files(component: Component, tensors: Vec<Wanted>, shard_bytes: Option<u64>) -> Vec<OutputFile> {
    let folder = component.folder();
    let stem = match component {
        Component::TextEncoder | Component::TextEncoder2 => "model",
        _ => "diffusion_pytorch_model",
    };
    let metadata = || BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let total: u64 = tensors.iter().map(Wanted::n_bytes).sum();
    let most = shard_bytes.unwrap_or(u64::MAX).max(1);
    let mut shards: Vec<Vec<Wanted>> = vec![Vec::new()];
    let mut at = 0;
    for tensor in tensors {
        let n_bytes = tensor.n_bytes();
        if at > 0 && at + n_bytes > most {
            shards.push(Vec::new());
            at = 0;
        }
        at += n_bytes;
        if let Some(shard) = shards.last_mut() {
            shard.push(tensor);
        }
    }
    let n_shards = shards.len();
    if n_shards == 1 {
        let tensors = shards.pop().unwrap_or_default();
        let path = format!("{folder}/{stem}.safetensors");
        return vec![OutputFile { path, content: Content::Safetensors { metadata: metadata(), tensors } }];
    }
    let mut weight_map = BTreeMap::new();
    let mut files = Vec::new();
    for (idx, tensors) in shards.into_iter().enumerate() {
        let name = format!("{stem}-{:05}-of-{n_shards:05}.safetensors", idx + 1);
        weight_map.extend(tensors.iter().map(|tensor| (tensor.name.clone(), name.clone())));
        let content = Content::Safetensors { metadata: metadata(), tensors };
        files.push(OutputFile { path: format!("{folder}/{name}"), content });
    }
    let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
    let path = format!("{folder}/{stem}.safetensors.index.json");
    files.push(OutputFile { path, content: Content::Text(format!("{index:#}\n")) });
    files
}

/// What a single file says of itself, in Stability's `modelspec` terms.
fn metadata(configs: &ModelConfigs) -> BTreeMap<String, String> {
    let is_velocity = configs.scheduler.prediction_type() == "v_prediction";
    let is_2 = configs.unet.text_time.is_none() && configs.unet.use_linear_projection;
    let architecture = match (configs.unet.text_time.is_some(), is_2, is_velocity) {
        (true, ..) => "stable-diffusion-xl-v1-base",
        (_, true, true) => "stable-diffusion-v2-768-v",
        (_, true, false) => "stable-diffusion-v2-512",
        (_, false, _) => "stable-diffusion-v1",
    };
    let mut texts = vec![
        ("modelspec.sai_model_spec", "1.0.0"),
        ("modelspec.architecture", architecture),
        ("modelspec.prediction_type", if is_velocity { "v" } else { "epsilon" }),
    ];
    // As kohya's trainer says it; GGUF files have no tensors without numbers.
    if configs.scheduler.is_zero_snr() {
        texts.push(("ss_zero_terminal_snr", "True"));
    }
    texts.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// The empty tensors that say in an XL's file what the scheduler's configuration says in a folder.
fn markers(configs: &ModelConfigs) -> Vec<Wanted> {
    let marker = |name: &str| Wanted { name: name.into(), shape: vec![0], parts: Vec::new(), dtype: BlockType::F32 };
    let is_velocity = configs.unet.text_time.is_some() && configs.scheduler.prediction_type() == "v_prediction";
    let said = [("v_pred", is_velocity), ("ztsnr", configs.scheduler.is_zero_snr())];
    said.into_iter().filter(|(_, is_so)| *is_so).map(|(name, _)| marker(name)).collect()
}

/// A component's tensors under the original names, fused and transposed as they lie there.
fn ldm_tensors(
    component: Component,
    configs: &ModelConfigs,
    specs: &[WeightSpec],
    weights: &Weights,
    stored: Stored,
) -> Vec<Wanted> {
    let is_open_clip = component == Component::TextEncoder2
        || component == Component::TextEncoder
            && configs.unet.text_time.is_none()
            && configs.unet.use_linear_projection;
    let is_xl = configs.unet.text_time.is_some();
    let named = names::written(component, is_xl, is_open_clip, specs.iter().map(|spec| spec.name.as_str()));
    let mut by_name: BTreeMap<String, Wanted> = BTreeMap::new();
    for (spec, place) in specs.iter().zip(named) {
        let part = |is_transposed| Part { weights: weights.clone(), name: spec.name.clone(), is_transposed, idx: 0 };
        let dtype = |name: &str, shape: &[usize]| dtype_of_ldm(name, shape, &spec.name, weights, stored);
        let name = place.stored;
        match place.cut {
            Cut::Whole => {
                let mut shape = spec.shape.clone();
                // The original VAE's attention is made of 1x1 convolutions.
                if component == Component::Vae && shape.len() == 2 && name.contains(".attn_1.") {
                    shape.extend([1, 1]);
                }
                let dtype = dtype(&name, &shape);
                by_name.insert(name.clone(), Wanted { name, shape, parts: vec![part(false)], dtype });
            }
            Cut::Transposed => {
                let shape: Vec<usize> = spec.shape.iter().rev().copied().collect();
                let dtype = dtype(&name, &shape);
                by_name.insert(name.clone(), Wanted { name, shape, parts: vec![part(true)], dtype });
            }
            Cut::Rows { part: idx, of } => {
                let mut shape = spec.shape.clone();
                shape[0] *= of;
                let dtype = dtype(&name, &shape);
                let fused = by_name.entry(name.clone()).or_insert(Wanted { name, shape, parts: Vec::new(), dtype });
                let at = fused.parts.partition_point(|earlier| earlier.idx < idx);
                fused.parts.insert(at, Part { idx, ..part(false) });
            }
        }
    }
    by_name.into_values().collect()
}

fn dtype_of(name: &str, shape: &[usize], weights: &Weights, stored: Stored) -> BlockType {
    dtype_of_ldm(name, shape, name, weights, stored)
}

/// The type of a tensor in a file. Quantised are matrices that stable-diffusion.cpp would quantise, but no norms, which are
/// small and matter.
fn dtype_of_ldm(ldm: &str, shape: &[usize], name: &str, weights: &Weights, stored: Stored) -> BlockType {
    let own = match weights.own_dtype(name) {
        Some(Dtype::F16) => BlockType::F16,
        Some(Dtype::BF16) => BlockType::BF16,
        Some(Dtype::F64) => BlockType::F64,
        // Exact in 16 bits.
        Some(Dtype::F8E4M3 | Dtype::F8E5M2) => BlockType::F16,
        _ => BlockType::F32,
    };
    match stored {
        Stored::Keep => own,
        Stored::F32 => BlockType::F32,
        Stored::F16 => BlockType::F16,
        Stored::Bf16 => BlockType::BF16,
        Stored::Blocks(kind) if shape.len() >= 2 && gguf::sd_cpp_converts(ldm, shape, kind) => kind,
        // 16 bits are what everybody keeps beside blocks.
        Stored::Blocks(_) if shape.len() >= 2 => BlockType::F16,
        Stored::Blocks(_) => own,
    }
}

impl Wanted {
    fn n_values(&self) -> u64 {
        self.shape.iter().product::<usize>() as u64
    }

    fn n_bytes(&self) -> u64 {
        self.n_values() / self.dtype.elements() as u64 * self.dtype.bytes() as u64
    }

    /// Its numbers in pieces of [`PIECE_VALUES`], as bytes of its type.
    async fn write(&self, out: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        for part in &self.parts {
            part.write(self, out).await?;
        }
        Ok(())
    }
}

impl Part {
    async fn write(&self, wanted: &Wanted, out: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let Some(tensor) = self.weights.get(&self.name) else {
            return Err(Error::TensorMissing {
                name: self.name.clone(),
                file: self.weights.file_names(),
                expected: wanted.shape.as_slice().into(),
            });
        };
        let shape = tensor.shape.to_vec();
        if let (true, &[rows, columns]) = (self.is_transposed, shape.as_slice()) {
            let values = self.weights.read_f32(&self.name).await?;
            let turned: Vec<f32> = (0..values.len()).map(|i| values[i % rows * columns + i / rows]).collect();
            let mut bytes = Vec::new();
            encode(wanted, &turned, &mut bytes)?;
            return out(&bytes);
        }
        let dtype = tensor.dtype.clone();
        let width = dtype.n_bytes().unwrap_or(1) as u64;
        let n_values = shape.iter().product::<usize>() as u64;
        let is_same = matches!(
            (&dtype, wanted.dtype),
            (Dtype::F32, BlockType::F32)
                | (Dtype::F16, BlockType::F16)
                | (Dtype::BF16, BlockType::BF16)
                | (Dtype::F64, BlockType::F64)
        );
        let mut first = 0;
        while first < n_values {
            let n = PIECE_VALUES.min(n_values - first);
            let bytes = self.weights.read_part(&self.name, first * width, (n * width) as usize).await?;
            first += n;
            if is_same {
                out(&bytes)?;
                continue;
            }
            let values = f32_from_le_bytes(&dtype, &bytes).unwrap_or_default();
            let mut encoded = Vec::new();
            encode(wanted, &values, &mut encoded)?;
            out(&encoded)?;
        }
        Ok(())
    }
}

/// Appends numbers in a tensor's type.
fn encode(wanted: &Wanted, values: &[f32], bytes: &mut Vec<u8>) -> Result<()> {
    let name = &wanted.name;
    let overflows = |is_infinite: bool, value: f32| is_infinite && value.is_finite();
    let too_large = || Error::Request {
        field: "type",
        got: "f16".into(),
        expected: format!("{name} has values above 65504, which it cannot hold: use bf16 or f32"),
    };
    match wanted.dtype {
        BlockType::F32 => bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        BlockType::F64 => bytes.extend(values.iter().flat_map(|value| f64::from(*value).to_le_bytes())),
        BlockType::BF16 => bytes.extend(values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes())),
        BlockType::F16 => {
            for &value in values {
                let half = f16::from_f32(value);
                if overflows(half.is_infinite(), value) {
                    return Err(too_large());
                }
                bytes.extend(half.to_le_bytes());
            }
        }
        kind => gguf::quantize(kind, values, bytes).ok_or_else(|| Error::Request {
            field: "type",
            got: kind.name().into(),
            expected: "use f16, f32, bf16, q8_0 or q4_0".into(),
        })?,
    }
    Ok(())
}

impl OutputFile {
    /// How many bytes it will have, roughly: without its header.
    #[must_use]
    pub fn n_bytes(&self) -> u64 {
        match &self.content {
            Content::Text(text) => text.len() as u64,
            Content::Safetensors { tensors, .. } | Content::Gguf { tensors, .. } => {
                tensors.iter().map(Wanted::n_bytes).sum()
            }
        }
    }

    /// Its bytes in order, in pieces.
    ///
    /// # Errors
    /// What `out` returns; what the model's files return when they cannot be read; [`Error::Request`] for a value that the
    /// type cannot hold.
    pub async fn pieces(&self, out: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        match &self.content {
            Content::Text(text) => out(text.as_bytes()),
            Content::Safetensors { metadata, tensors } => {
                out(&safetensors_header(metadata, tensors))?;
                for tensor in tensors {
                    tensor.write(out).await?;
                }
                Ok(())
            }
            Content::Gguf { metadata, tensors } => {
                let texts: Vec<(&str, &str)> =
                    metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
                let listed = tensors.iter().map(|tensor| NewTensor {
                    name: tensor.name.clone(),
                    shape: tensor.shape.clone(),
                    kind: tensor.dtype,
                });
                let mut writer = gguf::Writer::new("the GGUF file", &texts, listed.collect())?;
                out(writer.header())?;
                for tensor in tensors {
                    let mut piece = Vec::new();
                    tensor
                        .write(&mut |bytes| {
                            piece.clear();
                            writer.append_stored(bytes, &mut piece);
                            out(&piece)
                        })
                        .await?;
                }
                Ok(())
            }
        }
    }
}

fn safetensors_header(metadata: &BTreeMap<String, String>, tensors: &[Wanted]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), json!(metadata));
    let mut at = 0;
    for tensor in tensors {
        let end = at + tensor.n_bytes();
        let entry = json!({ "dtype": tensor.dtype.name(), "shape": tensor.shape, "data_offsets": [at, end] });
        header.insert(tensor.name.clone(), entry);
        at = end;
    }
    let mut text = serde_json::Value::Object(header).to_string().into_bytes();
    // Data that is aligned can be mapped into memory.
    text.resize(text.len().next_multiple_of(8), b' ');
    [&(text.len() as u64).to_le_bytes()[..], &text].concat()
}
