//! Tiny models in GGUF files of both dialects: diffusers' pictures with gguf-py's values of the same blocks
//! (tools/fixtures/gguf_models.py). The files are built here, byte for byte those that the script read.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

#[path = "common/cases.rs"]
mod cases;
#[path = "common/gpu.rs"]
mod gpu;
#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/single.rs"]
mod single;
#[path = "common/tiny.rs"]
mod tiny;

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use cases::{Case, Tolerance, cases_in};
use darkroom::checkpoint::single::{SingleFile, SingleFileSettings};
use darkroom::hub::Source;
use darkroom::hub::folder::Folder;
use darkroom::pipeline::ModelLoader;
use darkroom::run::candle::{CandleRunner, Precision};
use darkroom::run::gpu::Element;
use darkroom::run::gpu::runner::GpuRunner;
use darkroom::weights::gguf::{BlockType, NewTensor, Writer, quantize, sd_cpp_converts};
use darkroom::weights::{DiskSource, WeightType};
use half::f16;
use pollster::block_on;
use serde::Deserialize;

/// f32 against f32: the orders of summation differ.
const EXACT: Tolerance = Tolerance { latents: 2e-4, max_level: 2, mean_level: 0.3, min_psnr: 0.0 };

/// Where a checkpoint's UNet begins.
const UNET: &str = "model.diffusion_model.";

/// The types of the tensors that ComfyUI-GGUF keeps, and of the others, in turn.
const KEPT: [BlockType; 4] = [BlockType::F32, BlockType::F16, BlockType::BF16, BlockType::F64];
const QUANTISED: [BlockType; 11] = [
    BlockType::Q4_K,
    BlockType::Q5_K,
    BlockType::Q6_K,
    BlockType::Q8_0,
    BlockType::Q5_1,
    BlockType::Q4_1,
    BlockType::Q5_0,
    BlockType::Q4_0,
    BlockType::Q3_K,
    BlockType::Q2_K,
    BlockType::IQ4_NL,
];

/// What the script says about a file.
#[derive(Deserialize)]
struct Listed {
    name: String,
    version: String,
    bytes: usize,
    checksum: String,
    types: BTreeMap<String, usize>,
}

impl Listed {
    fn is_whole(&self) -> bool {
        !self.name.ends_with("city96")
    }

    /// The bytes of the file.
    fn build(&self) -> Vec<u8> {
        let mut tensors = single::values(&self.version);
        tensors.retain(|(name, ..)| !name.ends_with("position_ids"));
        let (file, types) = match self.name.rsplit_once('-').unwrap().1 {
            "q8_0" => sd_cpp(&tensors, BlockType::Q8_0),
            "q4_0" => sd_cpp(&tensors, BlockType::Q4_0),
            _ => city96(&tensors, if self.version == "xl" { "sdxl" } else { "sd1" }),
        };
        let mut counts = BTreeMap::new();
        types.iter().for_each(|kind| *counts.entry(kind.name().to_owned()).or_default() += 1);
        assert_eq!(counts, self.types, "{}", self.name);
        let sum = file.iter().zip(1u64..).fold(0u64, |sum, (&byte, i)| sum.wrapping_add(i.wrapping_mul(byte.into())));
        assert_eq!((file.len(), format!("{sum:016x}")), (self.bytes, self.checksum.clone()), "{}", self.name);
        file
    }

    /// The model: a whole file takes configurations from a folder, a UNet alone the other components, too.
    fn source(&self, dir: &Path) -> Rc<dyn Source> {
        let config = dir.join("config");
        tiny::write_model(&self.version, &config, tiny::Style::F32);
        for component in tiny::components(&self.version) {
            let weights = std::fs::read_dir(config.join(component)).unwrap().map(|entry| entry.unwrap().path());
            let weights = weights.filter(|path| path.extension().is_some_and(|end| end == "safetensors"));
            // The folder's own UNet would hide that the file's was not used.
            for path in weights.filter(|_| self.is_whole() || component == "unet") {
                std::fs::remove_file(path).unwrap();
            }
        }
        let path = dir.join(format!("{}.gguf", self.name));
        std::fs::write(&path, self.build()).unwrap();
        let config: Rc<dyn Source> = Rc::new(Folder::open(&config).unwrap().as_config());
        let settings = SingleFileSettings { config: Some(config), ..SingleFileSettings::default() };
        let file = block_on(SingleFile::open(&*self.name, Box::new(DiskSource::open(&path).unwrap()), settings));
        Rc::new(file.unwrap_or_else(|e| panic!("{}: {e}", self.name)))
    }

    fn cases(&self) -> Vec<Case> {
        let mut all = cases_in("gguf_models", &self.version);
        all.retain(|case| case.name.starts_with(&format!("{}_", self.name)));
        assert!(!all.is_empty(), "{}", self.name);
        all
    }
}

fn listed() -> Vec<Listed> {
    let text = std::fs::read_to_string(tiny::fixtures_dir().join("gguf_models/files.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

type Values = [(String, Vec<usize>, Vec<f32>)];

/// A whole checkpoint as stable-diffusion.cpp writes it: what it does not convert stays f16.
fn sd_cpp(tensors: &Values, kind: BlockType) -> (Vec<u8>, Vec<BlockType>) {
    let new = tensors.iter().map(|(name, shape, _)| {
        let kind = if sd_cpp_converts(name, shape, kind) { kind } else { BlockType::F16 };
        NewTensor { name: name.clone(), shape: shape.clone(), kind }
    });
    let new: Vec<NewTensor> = new.collect();
    let types = new.iter().map(|tensor| tensor.kind).collect();
    let mut writer = Writer::new("model.gguf", &[], new).unwrap();
    let mut file = writer.header().to_vec();
    tensors.iter().for_each(|(_, _, values)| writer.append(values, &mut file).unwrap());
    assert!(writer.is_done());
    (file, types)
}

/// A UNet as ComfyUI-GGUF's tool writes it. The crate writes no such files, so it is laid out here.
fn city96(tensors: &Values, architecture: &str) -> (Vec<u8>, Vec<BlockType>) {
    let (mut keys, mut infos, mut data, mut types) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    keys.push([text("general.architecture"), words(&[8]), text(architecture)].concat());
    let (mut kept, mut quantised) = (KEPT.iter().cycle(), QUANTISED.iter().cycle());
    for (name, shape, values) in tensors {
        let Some(name) = name.strip_prefix(UNET) else { continue };
        let starts = ["input_blocks.0.0.", "out.2.", "time_embed.", "label_emb."];
        let is_kept = starts.iter().any(|start| name.starts_with(start)) || shape.len() < 2 || values.len() <= 1024;
        let kind = *if is_kept { kept.next() } else { quantised.next() }.unwrap();
        let mut rows = shape.clone();
        if !is_kept && !shape.last().unwrap().is_multiple_of(256) {
            rows = vec![values.len() / 256, 256];
            let key = text(&format!("comfy.gguf.orig_shape.{name}"));
            let sides: Vec<u32> = shape.iter().map(|&side| side as u32).collect();
            // An array of i32.
            keys.push([key, words(&[9, 5, sides.len() as u32, 0]), words(&sides)].concat());
        }
        let sides: Vec<u8> = rows.iter().rev().flat_map(|&side| (side as u64).to_le_bytes()).collect();
        let offset = (data.len() as u64).to_le_bytes().to_vec();
        infos.push([text(name), words(&[rows.len() as u32]), sides, words(&[kind.id()]), offset].concat());
        data.extend(stored(name, shape, values, kind));
        data.resize(data.len().next_multiple_of(32), 0);
        types.push(kind);
    }
    let counts = [infos.len() as u64, keys.len() as u64].map(u64::to_le_bytes).concat();
    let mut file = [b"GGUF".to_vec(), words(&[3]), counts, keys.concat(), infos.concat()].concat();
    file.resize(file.len().next_multiple_of(32), 0);
    file.extend(data);
    (file, types)
}

fn stored(name: &str, shape: &[usize], values: &[f32], kind: BlockType) -> Vec<u8> {
    use BlockType as T;
    let blocks = || values.as_chunks::<32>().0.iter();
    match kind {
        T::F64 => values.iter().flat_map(|&value| f64::from(value).to_le_bytes()).collect(),
        T::Q4_1 => blocks().flat_map(|block| between(block, 15)).collect(),
        T::Q5_1 => blocks().flat_map(|block| between(block, 31)).collect(),
        T::Q5_0 => blocks().flat_map(q5_0).collect(),
        T::F32 | T::F16 | T::BF16 | T::Q8_0 | T::Q4_0 => {
            let mut bytes = Vec::new();
            quantize(kind, values, &mut bytes).unwrap();
            bytes
        }
        _ => ruled(name, shape, values.len(), kind),
    }
}

/// Codes of 4 bits, or of 5 with the upper ones first.
fn pack(codes: [u8; 32], has_fifth: bool) -> Vec<u8> {
    let high = codes.iter().rev().fold(0u32, |bits, code| bits << 1 | u32::from(code >> 4));
    let low = (0..16).map(|j| (codes[j] & 15) | (codes[j + 16] & 15) << 4);
    if has_fifth { high.to_le_bytes().into_iter().chain(low).collect() } else { low.collect() }
}

/// Q4_1 and Q5_1: evenly between the smallest and the largest value.
fn between(values: &[f32; 32], last: u8) -> Vec<u8> {
    let (min, max) = values.iter().fold((f32::MAX, f32::MIN), |(min, max), &value| (min.min(value), max.max(value)));
    let d = (max - min) / f32::from(last);
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    let codes = values.map(|value| (((value - min) * inverse + 0.5) as u8).min(last));
    let scales = [d, min].map(|scale| f16::from_f32(scale).to_le_bytes());
    [scales.concat(), pack(codes, last == 31)].concat()
}

/// The value of largest magnitude has code 0.
fn q5_0(values: &[f32; 32]) -> Vec<u8> {
    let largest = values.iter().fold(0f32, |largest, &value| if value.abs() > largest.abs() { value } else { largest });
    let d = largest / -16.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    let codes = values.map(|value| ((value * inverse + 16.5) as u8).min(31));
    [f16::from_f32(d).to_le_bytes().to_vec(), pack(codes, true)].concat()
}

/// Blocks of a type that nothing here quantises to: bytes by name, with scales of the magnitude of the plain tensor.
fn ruled(name: &str, shape: &[usize], n: usize, kind: BlockType) -> Vec<u8> {
    // Bytes that get bits set; the place of each f16, and what it is the bound's part of.
    let (range, bits, halves): (_, u8, &[(usize, f64)]) = match kind {
        BlockType::Q4_K => (4..12, 0xA0, &[(0, 7.5 * 47.5), (2, 47.5)]),
        BlockType::Q5_K => (4..12, 0xA0, &[(0, 15.5 * 47.5), (2, 47.5)]),
        BlockType::Q6_K => (0..0, 0, &[(208, 2400.0)]),
        BlockType::Q3_K => (0..0, 0, &[(108, 75.0)]),
        BlockType::Q2_K => (0..16, 0x88, &[(80, 1.5 * 11.5), (82, 11.5)]),
        BlockType::IQ4_NL => (0..0, 0, &[(0, 123.0)]),
        other => panic!("no rule for {}", other.name()),
    };
    let bound = 1.5 / (shape[1..].iter().product::<usize>() as f64).sqrt();
    let mut bytes = tiny::named_bytes(&format!("{}/{name}", kind.name()), n / kind.elements() * kind.bytes());
    for (i, block) in bytes.chunks_exact_mut(kind.bytes()).enumerate() {
        block[range.clone()].iter_mut().for_each(|byte| *byte |= bits);
        let factor = 0.75 + 0.25 * (i % 3) as f64;
        for &(at, divisor) in halves {
            let half = f16::from_f32(tiny::round_to_f16(bound / divisor * factor));
            block[at..at + 2].copy_from_slice(&half.to_le_bytes());
        }
    }
    bytes
}

#[test]
fn files_of_both_dialects_draw_diffusers_pictures() {
    for file in listed() {
        let dir = tempfile::tempdir().unwrap();
        let source = file.source(dir.path());
        let runner = Rc::new(CandleRunner::cpu(Precision::F32));
        let model = block_on(ModelLoader::new(&*source, &*runner).load(&mut |_| true));
        let model = Rc::new(model.unwrap_or_else(|e| panic!("{}: {e}", file.name)));
        assert_eq!(model.notes(), [""; 0], "{}", file.name);
        for case in file.cases() {
            block_on(case.check(&runner, &model, EXACT));
        }
    }
}

#[test]
fn on_the_gpu_too() {
    // The device holds weights in f16, to which the values of the blocks are rounded: levels were off by 1 at most, 62.4 dB
    // and more.
    let single = Tolerance { latents: 2e-3, min_psnr: 55.0, ..EXACT };
    let half = Tolerance { latents: 0.05, max_level: 255, mean_level: 3.0, min_psnr: 35.0 };
    let both = [(Element::F32, single), (Element::F16, half)];
    for (idx, file) in listed().into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let source = file.source(dir.path());
        let types = both.into_iter().take(if idx == 0 || gpu::draws_all() { 2 } else { 1 });
        for (element, tolerance) in types {
            let Some(gpu) = gpu::gpu() else { return };
            let runner = Rc::new(GpuRunner::new(gpu, element).unwrap());
            let model = Rc::new(block_on(ModelLoader::new(&*source, &*runner).load(&mut |_| true)).unwrap());
            for case in file.cases() {
                block_on(case.check(&runner, &model, tolerance));
            }
        }
    }
}

/// Blocks of 8 and 4 bits go to the device and stay there as they are: no value of theirs changes where weights are held in 8
/// bits, and fewer bytes are sent than for the same model's numbers.
#[test]
fn blocks_are_held_as_they_are() {
    // What the files have in f16, convolutions for the most part, is held in 8 bits too: 49 dB and more.
    let close = Tolerance { latents: 0.05, max_level: 255, mean_level: 3.0, min_psnr: 46.0 };
    for file in listed().into_iter().filter(Listed::is_whole) {
        let dir = tempfile::tempdir().unwrap();
        let source = file.source(dir.path());
        let Some(gpu) = gpu::gpu() else { return };
        let runner = GpuRunner::new(gpu, Element::F32).unwrap().with_weights(WeightType::Q8_0);
        let runner = Rc::new(runner);
        let model = Rc::new(block_on(ModelLoader::new(&*source, &*runner).load(&mut |_| true)).unwrap());
        let (sent, stored) = (runner.counts().uploaded_bytes, file.bytes as u64);
        assert!(sent < stored, "{}: {sent} bytes were sent of a file of {stored}", file.name);
        let on_cpu = Rc::new(CandleRunner::cpu(Precision::F32).with_weights(Some(WeightType::Q8_0)));
        let on_cpu_model = Rc::new(block_on(ModelLoader::new(&*source, &*on_cpu).load(&mut |_| true)).unwrap());
        for case in file.cases() {
            block_on(case.check(&runner, &model, close));
            block_on(case.check(&on_cpu, &on_cpu_model, close));
        }
    }
}
