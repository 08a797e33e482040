//! GGUF files, good and hostile: compared with gguf-py (tools/fixtures/gguf.py), block by block and bit for bit.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

#[path = "fuzz/allocations.rs"]
#[allow(dead_code, reason = "only tests/fuzz.rs has last words")]
mod allocations;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use darkroom::weights::gguf::{
    BlockType, Header, MAX_KEYS, NewTensor, Tensor, Writer, dequantize, quantize, sd_cpp_converts,
};
use darkroom::weights::{ByteSource, LocalFuture, MAX_HEADER_BYTES, MAX_TENSORS, MemorySource};
use darkroom::{Error, Result};
use pollster::block_on;
use safetensors::SafeTensors;
use serde_json::{Value, json};

/// Every type that is read, by its number in a header.
const READABLE: [u32; 15] = [0, 1, 30, 2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 20, 28];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf").join(name)
}

fn read(bytes: Vec<u8>) -> Result<Header> {
    block_on(Header::read(&MemorySource::new("model.gguf", bytes), MAX_TENSORS))
}

fn refusal(bytes: Vec<u8>) -> String {
    let error = read(bytes).expect_err("this should be refused");
    assert!(matches!(error, Error::Gguf { .. }), "{error:?}");
    let said = error.to_string();
    assert!(said.starts_with("model.gguf is not a valid GGUF file: "), "{said}");
    assert!(said.len() < 1000 && !said.contains(char::is_control), "a message that shouts: {said:?}");
    said
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&number| f32::from_le_bytes(number)).collect()
}

/// Equal to the bit; a NaN is one like another.
fn assert_same(what: &str, got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let is_same = got.to_bits() == expected.to_bits() || (got.is_nan() && expected.is_nan());
        assert!(is_same, "{what}: number {i} is {got:?}, and should be {expected:?}");
    }
}

#[test]
fn blocks_have_the_values_of_gguf_py() {
    let file = std::fs::read(fixture("blocks.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&file).unwrap();
    let mut n_compared = 0;
    for id in READABLE {
        let kind = BlockType::from_id(id).unwrap();
        let Ok(blocks) = file.tensor(&format!("{}.blocks", kind.name())) else { continue };
        let expected = floats(file.tensor(&format!("{}.values", kind.name())).unwrap().data());
        assert_eq!(blocks.shape()[1], kind.bytes(), "{}", kind.name());
        assert_eq!(expected.len(), blocks.shape()[0] * kind.elements(), "{}", kind.name());
        let mut values = vec![];
        dequantize(kind, blocks.data(), &mut values).unwrap();
        assert_same(kind.name(), &values, &expected);
        // In pieces, behind each other; half a block at the end is left.
        let (first, rest) = blocks.data().split_at(kind.bytes());
        let mut pieces = vec![];
        dequantize(kind, first, &mut pieces).unwrap();
        dequantize(kind, &rest[..rest.len() - 1], &mut pieces).unwrap();
        assert_same(kind.name(), &pieces, &expected[..expected.len() - kind.elements()]);
        n_compared += 1;
    }
    assert_eq!(n_compared, 14);
}

#[test]
fn numbers_have_the_blocks_of_gguf_py() {
    let file = std::fs::read(fixture("quantized.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&file).unwrap();
    let values = floats(file.tensor("values").unwrap().data());
    for (id, name) in [(8, "Q8_0"), (2, "Q4_0"), (1, "F16"), (30, "BF16")] {
        let kind = BlockType::from_id(id).unwrap();
        let expected = file.tensor(name).unwrap();
        let mut blocks = vec![];
        quantize(kind, &values, &mut blocks).unwrap();
        assert_eq!(blocks.len(), expected.data().len(), "{name}");
        let row_bytes = 32 / kind.elements() * kind.bytes();
        let rows = blocks.chunks(row_bytes).zip(expected.data().chunks(row_bytes)).zip(values.chunks(32));
        for (i, ((got, expected), values)) in rows.enumerate() {
            assert_eq!(got, expected, "{name}: row {i} of {values:?}");
        }
    }
    let q6_k = BlockType::from_id(14).unwrap();
    assert_eq!(quantize(q6_k, &values, &mut vec![]), None);
}

#[test]
fn a_part_of_a_tensor_is_in_these_blocks() {
    let q8_0 = BlockType::Q8_0;
    for (first, n, bytes, skip) in [
        (0, 32, 0..34, 0),
        (0, 33, 0..68, 0),
        (32, 1, 34..68, 0),
        (31, 2, 0..68, 31),
        (63, 1, 34..68, 31),
        (0, 0, 0..0, 0),
        (64, 0, 68..68, 0),
    ] {
        assert_eq!(q8_0.bytes_of(first, n), Some((bytes, skip)), "{n} from {first} on");
    }
    assert_eq!(BlockType::F16.bytes_of(5, 2), Some((10..14, 0)));
    assert_eq!(q8_0.bytes_of(u64::MAX, 1), None);
    assert_eq!(BlockType::F32.bytes_of(u64::MAX / 2, 1), None);
}

/// The tensors of a file, as gguf-py finds them.
fn listed(file: &str) -> Vec<Value> {
    let list: Value = serde_json::from_slice(&std::fs::read(fixture("files.json")).unwrap()).unwrap();
    list[file].as_array().unwrap().clone()
}

fn checksum(values: &[f32]) -> u32 {
    values.iter().fold(0x811c_9dc5, |hash: u32, value| (hash ^ value.to_bits()).wrapping_mul(0x0100_0193))
}

#[test]
fn files_read_as_with_gguf_py() {
    for (name, version, n_unread) in [("sd_cpp", 3, 0), ("city96", 3, 1), ("city96", 2, 1)] {
        let mut bytes = std::fs::read(fixture(&format!("{name}.gguf"))).unwrap();
        // The second version has the same layout.
        bytes[4] = version;
        let header = read(bytes.clone()).unwrap();
        let listed = listed(name);
        assert_eq!(header.version, u32::from(version));
        assert_eq!(header.tensors.len(), listed.len());
        let mut n_other = 0;
        for expected in &listed {
            let info = &header.tensors[expected["name"].as_str().unwrap()];
            let Tensor { kind, shape, offset, n_bytes } = info;
            assert_eq!(
                json!([kind.name(), shape, offset, n_bytes]),
                json!([expected["type"], expected["shape"], expected["offset"], expected["n_bytes"]]),
                "{expected}"
            );
            let stored = &bytes[*offset as usize..(offset + n_bytes) as usize];
            let mut values = vec![];
            match dequantize(*kind, stored, &mut values) {
                Some(()) => assert_eq!(u64::from(checksum(&values)), expected["checksum"], "{expected}"),
                None => n_other += 1,
            }
            assert_eq!(kind.is_readable(), !expected["checksum"].is_null(), "{expected}");
        }
        assert_eq!(n_other, n_unread);
    }
}

#[test]
fn metadata_is_kept_by_its_kind() {
    let header = read(std::fs::read(fixture("city96.gguf")).unwrap()).unwrap();
    assert_eq!(header.architecture(), Some("sd1"));
    let expected = json!({
        "general.architecture": "sd1", "general.alignment": 64, "general.file_type": 7,
        "general.quantization_version": 2,
        "kinds.u8": 200, "kinds.i8": -100, "kinds.u16": 60000, "kinds.i16": -30000,
        "kinds.u32": 4_000_000_000u32, "kinds.i32": -2_000_000_000,
        "kinds.u64": u64::MAX, "kinds.i64": i64::MIN,
        "kinds.f32": 0.5, "kinds.f64": -1e300, "kinds.nan": null, "kinds.yes": true, "kinds.no": false,
        "kinds.text": "caf\u{e9}", "kinds.long": null,
        "kinds.texts": null, "kinds.numbers": null, "kinds.floats": null, "kinds.sides": null,
    });
    assert_eq!(json!(header.metadata), expected);
    let header = read(std::fs::read(fixture("sd_cpp.gguf")).unwrap()).unwrap();
    assert_eq!((header.architecture(), header.metadata.len()), (None, 0));
}

/// As `tensor_values` of tools/fixtures/gguf.py.
fn tensor_values(n: usize, idx: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 37 + 11 * idx) % 101) as f32 - 50.0).map(|value| value / 64.0).collect()
}

#[test]
fn the_writer_makes_the_file_that_gguf_py_reads() {
    let expected = std::fs::read(fixture("sd_cpp.gguf")).unwrap();
    let tensors: Vec<NewTensor> = listed("sd_cpp").iter().map(new_tensor).collect();
    for piece_blocks in [1, 2, 1000] {
        let mut writer = Writer::new("out.gguf", &[], tensors.clone()).unwrap();
        assert_eq!(writer.n_bytes(), expected.len() as u64);
        let mut file = writer.header().to_vec();
        for (idx, tensor) in tensors.iter().enumerate() {
            let values = tensor_values(tensor.shape.iter().product(), idx);
            for values in values.chunks(piece_blocks * tensor.kind.elements()) {
                assert_eq!(writer.next_tensor(), Some(tensor));
                let mut piece = vec![];
                writer.append(values, &mut piece).unwrap();
                file.extend(piece);
            }
        }
        assert!(writer.is_done());
        assert_eq!(writer.next_tensor(), None);
        assert!(file == expected, "pieces of {piece_blocks} blocks");
    }
    // The same from bytes that are quantised already.
    let header = read(expected.clone()).unwrap();
    let mut writer = Writer::new("out.gguf", &[], tensors.clone()).unwrap();
    let mut file = writer.header().to_vec();
    for tensor in &tensors {
        let info = &header.tensors[&tensor.name];
        writer.append_stored(&expected[info.offset as usize..(info.offset + info.n_bytes) as usize], &mut file);
    }
    assert!(writer.is_done() && file == expected);
}

fn new_tensor(listed: &Value) -> NewTensor {
    let kind = READABLE.iter().filter_map(|&id| BlockType::from_id(id)).find(|kind| kind.name() == listed["type"]);
    NewTensor {
        name: listed["name"].as_str().unwrap().to_owned(),
        shape: serde_json::from_value(listed["shape"].clone()).unwrap(),
        kind: kind.unwrap(),
    }
}

fn tensor(name: &str, shape: &[usize], kind: BlockType) -> NewTensor {
    NewTensor { name: name.to_owned(), shape: shape.to_vec(), kind }
}

#[test]
fn what_is_written_is_read_back() {
    let tensors = vec![
        tensor("nothing first", &[0, 32], BlockType::Q8_0),
        tensor("a", &[2, 32], BlockType::Q4_0),
        tensor("nothing", &[4, 0], BlockType::F32),
        tensor("b", &[], BlockType::F32),
        tensor("nothing last", &[0], BlockType::F16),
    ];
    let mut writer = Writer::new("out.gguf", &[("made.by", "a test"), ("empty", "")], tensors).unwrap();
    let mut file = writer.header().to_vec();
    writer.append(&tensor_values(32, 0), &mut file).unwrap();
    writer.append(&tensor_values(32, 0), &mut file).unwrap();
    writer.append(&[2.5], &mut file).unwrap();
    assert!(writer.is_done());
    assert_eq!(file.len() as u64, writer.n_bytes());
    let header = read(file.clone()).unwrap();
    assert_eq!(json!(header.metadata), json!({"made.by": "a test", "empty": ""}));
    let shapes: Vec<(&str, &[usize])> =
        header.tensors.iter().map(|(name, info)| (name.as_str(), info.shape.as_slice())).collect();
    let expected: [(&str, &[usize]); 5] =
        [("a", &[2, 32]), ("b", &[1]), ("nothing", &[4, 0]), ("nothing first", &[0, 32]), ("nothing last", &[0])];
    assert_eq!(shapes, expected);
    let mut values = vec![];
    dequantize(BlockType::F32, &file[header.tensors["b"].offset as usize..][..4], &mut values).unwrap();
    assert_eq!(values, [2.5]);
    let empty = Writer::new("out.gguf", &[], vec![]).unwrap();
    assert!(empty.is_done() && read(empty.header().to_vec()).unwrap().tensors.is_empty());
}

#[test]
fn what_the_format_cannot_hold_is_not_written() {
    let long = "x".repeat(128);
    for (tensors, reason) in [
        (vec![tensor("a", &[1], BlockType::F32), tensor("a", &[1], BlockType::F32)], "tensor a is there twice"),
        (vec![tensor(&long, &[1], BlockType::F32)], "is longer than the 127 bytes"),
        (vec![tensor("a", &[1; 5], BlockType::F32)], "at most four sides"),
        (vec![tensor("a", &[32, 3], BlockType::Q8_0)], "does not fill blocks of type Q8_0"),
        (vec![tensor("a", &[], BlockType::Q4_0)], "does not fill blocks of type Q4_0"),
        (vec![tensor("a", &[usize::MAX, 2], BlockType::F32)], "does not fill blocks"),
        (
            vec![tensor("a", &[usize::MAX / 8], BlockType::F32), tensor("b", &[usize::MAX / 4], BlockType::F32)],
            "larger",
        ),
    ] {
        let said = Writer::new("out.gguf", &[], tensors).unwrap_err().to_string();
        assert!(said.starts_with("out.gguf: ") && said.contains(reason), "{said}");
    }
}

#[test]
fn stable_diffusion_cpp_converts_these() {
    let block = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0";
    for (name, shape, converts) in [
        (format!("{block}.attn1.to_q.weight"), &[320, 320][..], true),
        (format!("{block}.norm1.weight"), &[320], true),
        (format!("{block}.norm1.bias"), &[320], false),
        (format!("{block}.attn1.to_q.weight"), &[320, 40], false),
        ("model.diffusion_model.time_embed.0.weight".to_owned(), &[1280, 320], false),
        ("model.diffusion_model.label_emb.0.0.weight".to_owned(), &[1280, 2816], false),
        ("model.diffusion_model.input_blocks.0.0.weight".to_owned(), &[320, 4, 3, 3], false),
        ("model.diffusion_model.input_blocks.3.0.skip_connection.weight".to_owned(), &[320, 320, 1, 1], false),
        ("cond_stage_model.transformer.text_model.embeddings.token_embedding.weight".to_owned(), &[49408, 768], false),
        ("cond_stage_model.model.positional_embedding".to_owned(), &[77, 1024], false),
        ("cond_stage_model.model.logit_scale".to_owned(), &[], false),
        ("conditioner.embedders.1.model.text_projection".to_owned(), &[1280, 1280], true),
        ("first_stage_model.decoder.mid.attn_1.q.weight".to_owned(), &[512, 512], true),
    ] {
        assert_eq!(sd_cpp_converts(&name, shape, BlockType::Q8_0), converts, "{name}");
    }
    assert!(sd_cpp_converts("first_stage_model.decoder.conv_in.weight", &[512, 4, 3, 3], BlockType::F16));
}

/// A header by hand: version, numbers of tensors and of keys, and what follows.
fn file(version: u32, n_tensors: u64, n_keys: u64, parts: &[&[u8]]) -> Vec<u8> {
    let start = [&b"GGUF"[..], &version.to_le_bytes(), &n_tensors.to_le_bytes(), &n_keys.to_le_bytes()].concat();
    [start, parts.concat()].concat()
}

fn text(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text].concat()
}

fn key(name: &str, value_type: u32, value: &[u8]) -> Vec<u8> {
    [&text(name.as_bytes())[..], &value_type.to_le_bytes(), value].concat()
}

fn list(name: &str, value_type: u32, n: u64, values: &[u8]) -> Vec<u8> {
    key(name, 9, &[&value_type.to_le_bytes()[..], &n.to_le_bytes(), values].concat())
}

fn info(name: &str, sides: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let sides_bytes: Vec<u8> = sides.iter().flat_map(|side| side.to_le_bytes()).collect();
    let n_sides = (sides.len() as u32).to_le_bytes();
    [&text(name.as_bytes())[..], &n_sides, &sides_bytes, &kind.to_le_bytes(), &offset.to_le_bytes()].concat()
}

/// The header padded, and so many bytes of data.
fn with_data(mut header: Vec<u8>, n: usize) -> Vec<u8> {
    header.resize(header.len().next_multiple_of(32) + n, 0x3c);
    header
}

#[test]
fn hostile_headers_are_refused_with_a_reason() {
    let one = |sides: &[u64], kind: u32, n_data: usize| with_data(file(3, 1, 0, &[&info("a", sides, kind, 0)]), n_data);
    let two =
        |at: u64, n_data: usize| with_data(file(3, 2, 0, &[&info("a", &[8], 0, 0), &info("b", &[9], 0, at)]), n_data);
    let with_key = |key: &[u8]| with_data(file(3, 0, 1, &[key]), 0);
    let original = |sides: &[i32]| {
        let sides_bytes: Vec<u8> = sides.iter().flat_map(|side| side.to_le_bytes()).collect();
        let shape = list("comfy.gguf.orig_shape.a", 5, sides.len() as u64, &sides_bytes);
        with_data(file(3, 1, 1, &[&shape, &info("a", &[64], 8, 0)]), 68)
    };
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n".to_vec();
    let long = "x".repeat(2000);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "does not begin with GGUF"),
        (b"GG".to_vec(), "does not begin with GGUF"),
        (b"GGML\x03\0\0\0".to_vec(), "does not begin with GGUF"),
        (pointer, "it is a git-lfs pointer"),
        (b"GGUF\x03\0".to_vec(), "its header goes on at 8, but the file ends after 6"),
        (file(1, 0, 0, &[]), "it has version 1: expected 2 or 3"),
        (file(4, 0, 0, &[]), "it has version 4: expected 2 or 3"),
        (file(3u32.swap_bytes(), 0, 0, &[]), "big-endian"),
        (file(3, 0, 0, &[])[..20].to_vec(), "its header goes on at 24, but the file ends after 20"),
        (file(3, u64::MAX, 0, &[]), "it claims 18446744073709551615 tensors, more than the 40000"),
        (file(3, 0, u64::MAX, &[]), "it claims 18446744073709551615 keys, more than the 40000"),
        (file(3, 40_000, 40_000, &[]), "its header goes on at 32, but the file ends after 24"),
        (file(3, 1, 0, &[&u64::MAX.to_le_bytes()]), "its header goes on at 18446744073709551615"),
        (file(3, 1, 0, &[&text(long.as_bytes())]), "the name of a tensor is longer than 1024 bytes"),
        (file(3, 0, 1, &[&text(long.as_bytes())]), "the name of a key is longer than 1024 bytes"),
        (file(3, 1, 0, &[&text(b"\xff")]), "the name of a tensor is not UTF-8"),
        (file(3, 0, 1, &[&text(b"a\x1b[2J")]), "has a control character"),
        (with_key(&key("a", 13, &[0; 8])), "its key a has the unknown type 13"),
        (with_key(&key("a", 8, &text(b"\xff"))), "the text of its key a is not UTF-8"),
        (with_key(&key("a", 8, &u64::MAX.to_le_bytes())), "its header goes on at 18446744073709551615"),
        (with_key(&list("a", 4, u64::MAX, &[])), "its header goes on at 18446744073709551615"),
        (with_key(&list("a", 8, u64::MAX, &[0; 80])), "its header goes on"),
        (with_key(&list("a", 9, 1, &[0; 80])), "its key a is a list of the unknown type 9"),
        (with_data(file(3, 0, 2, &[&key("a", 7, &[1]), &key("a", 0, &[1])]), 0), "its key a is there twice"),
        (with_key(&key("general.alignment", 4, &[0; 4])), "its general.alignment is not a power of two"),
        (with_key(&key("general.alignment", 4, &[48, 0, 0, 0])), "its general.alignment is not a power of two"),
        (with_key(&key("general.alignment", 5, &[0xff; 4])), "its general.alignment is not a power of two"),
        (with_key(&key("general.alignment", 8, &text(b"32"))), "its general.alignment is not a power of two"),
        (with_key(&key("general.alignment", 10, &(1u64 << 40).to_le_bytes())), "is not a power of two"),
        (with_data(file(3, 1, 0, &[&info(&long[..900], &[1; 5], 0, 0)]), 4), "x\u{2026} has 5 sides"),
        (one(&[1; 5], 0, 4), "tensor a has 5 sides: expected at most 4"),
        (file(3, 1, 0, &[&text(b"a"), &u32::MAX.to_le_bytes()]), "tensor a has 4294967295 sides"),
        (one(&[1], 4, 4), "tensor a has the unknown type 4"),
        (one(&[1], 5000, 4), "tensor a has the unknown type 5000"),
        (one(&[u64::MAX, 2], 0, 4), "larger than any file"),
        (one(&[u64::MAX], 0, 4), "larger than any file"),
        (one(&[1 << 40, 1 << 40, 0], 0, 4), "larger than any file"),
        (one(&[33], 8, 68), "has rows of 33 numbers, not a multiple of the 32 in a block of Q8_0"),
        (one(&[3, 64], 8, 204), "has rows of 3 numbers"),
        (one(&[128, 2], 12, 144), "not a multiple of the 256 in a block of Q4_K"),
        (one(&[], 8, 34), "has rows of 1 numbers"),
        (file(3, 1, 0, &[&info("a", &[0], 0, 0)]), "its header goes on at 64, but the file ends after 57"),
        (one(&[2], 0, 7), "its tensors have 8 bytes, but 7 follow the header"),
        (one(&[2], 0, 0), "its tensors have 8 bytes, but 0 follow the header"),
        (one(&[2], 0, 33), "its tensors have 8 bytes, but 33 follow the header"),
        (one(&[1 << 60], 0, 64), "its tensors have 4611686018427387904 bytes, but 64 follow"),
        (one(&[1 << 61], 0, 64), "its tensors have 9223372036854775808 bytes, but 64 follow"),
        (with_data(file(3, 1, 0, &[&info("a", &[2], 0, 32)]), 40), "tensor a starts at 32 and leaves a gap"),
        (with_data(file(3, 1, 0, &[&info("a", &[2], 0, u64::MAX)]), 40), "not at a multiple of the alignment 32"),
        (two(36, 72), "tensor b starts at 36, not at a multiple of the alignment 32"),
        (two(0, 72), "tensor b starts at 0 and overlaps the one before it, which ends at 32"),
        (two(64, 100), "tensor b starts at 64 and leaves a gap before it, which ends at 32"),
        (two(u64::MAX - 31, 100), "leaves a gap"),
        (with_data(file(3, 2, 0, &[&info("a", &[8], 0, 0), &info("a", &[8], 0, 32)]), 64), "tensor a is there twice"),
        (original(&[65]), "tensor a has the shape [64], but was folded from [65]"),
        (original(&[]), "was folded from []"),
        (original(&[-1, -64]), "its key comfy.gguf.orig_shape.a is not a list of at most 8 sides"),
        (original(&[1, 1, 1, 1, 1, 1, 1, 1, 64]), "is not a list of at most 8 sides"),
        (original(&[i32::MAX; 8]), "was folded from"),
        (with_key(&key("comfy.gguf.orig_shape.a", 4, &[1; 4])), "is not a list of at most 8 sides"),
    ];
    for (bytes, reason) in cases {
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
        let (said, peak) = allocations::peak_of(|| refusal(bytes));
        assert!(said.contains(reason), "{start:?}: {said}");
        assert!(peak < 32 << 10, "{start:?}: {peak} bytes of memory");
    }
    let folded = read(original(&[4, 16])).unwrap();
    assert_eq!(folded.tensors["a"].shape, [4, 16]);
    assert_eq!(read(one(&[2], 0, 8)).unwrap().tensors["a"].n_bytes, 8);
    assert_eq!(read(one(&[2], 0, 32)).unwrap().tensors["a"].n_bytes, 8);
    assert_eq!(read(two(32, 68)).unwrap().tensors["b"].shape, [9]);
}

#[test]
fn every_cut_is_refused() {
    for name in ["sd_cpp.gguf", "city96.gguf"] {
        let bytes = std::fs::read(fixture(name)).unwrap();
        let data_bytes = listed(name.trim_end_matches(".gguf")).last().unwrap()["n_bytes"].as_u64().unwrap();
        let end = listed(name.trim_end_matches(".gguf")).last().unwrap()["offset"].as_u64().unwrap() + data_bytes;
        for n in 0..end as usize {
            refusal(bytes[..n].to_vec());
        }
        read(bytes[..end as usize].to_vec()).unwrap();
    }
}

/// A file that says how it was read.
struct Watched {
    bytes: Vec<u8>,
    reads: RefCell<Vec<(u64, usize)>>,
}

impl ByteSource for Watched {
    fn name(&self) -> &str {
        "watched"
    }

    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read<'a>(&'a self, offset: u64, len: usize) -> LocalFuture<'a, Result<Vec<u8>>> {
        self.reads.borrow_mut().push((offset, len));
        Box::pin(async move { Ok(self.bytes[offset as usize..][..len].to_vec()) })
    }
}

#[test]
fn long_headers_are_read_through_a_window() {
    let names: Vec<String> = (0..8000).map(|i| format!("{}.{i}", "block".repeat(i % 40))).collect();
    let infos: Vec<Vec<u8>> = names.iter().map(|name| info(name, &[0], 0, 0)).collect();
    let texts =
        [&list("texts", 8, 30_000, &text(b"token").repeat(30_000))[..], &key("long", 8, &text(&[b'x'; 3 << 20]))];
    let parts: Vec<&[u8]> = texts.iter().map(|part| &part[..]).chain(infos.iter().map(Vec::as_slice)).collect();
    let bytes = with_data(file(3, 8000, 2, &parts), 0);
    let n_header = bytes.len();
    let watched = Watched { bytes, reads: RefCell::default() };
    let header = block_on(Header::read(&watched, MAX_TENSORS)).unwrap();
    assert_eq!(header.tensors.len(), 8000);
    assert!(names.iter().all(|name| header.tensors.contains_key(name)));
    let reads = watched.reads.take();
    let n_read: usize = reads.iter().map(|(_, len)| len).sum();
    println!("{n_header} bytes of header, {n_read} read in {} pieces", reads.len());
    assert!(reads.iter().all(|&(_, len)| len <= 256 << 10));
    // The long text is stepped over.
    assert!(n_read < n_header - (2 << 20));
    assert!(reads.len() <= 2 + n_header / (256 << 10), "{reads:?}");
}

#[test]
fn headers_beyond_the_limits_leave_room_in_a_browser_tab() {
    // The shortest entries cost the most for their length.
    let keys = |n: u64| -> Vec<u8> { (0..n).flat_map(|i| key(&format!("{i:x}"), 0, &[1])).collect() };
    let tensors = |n: u64| -> Vec<u8> { (0..n).flat_map(|i| info(&format!("{i:x}"), &[0], 0, 0)).collect() };
    let shapes = |n: u64| -> Vec<u8> {
        (0..n).flat_map(|i| list(&format!("comfy.gguf.orig_shape.{i:x}"), 0, 8, &[1; 8])).collect()
    };
    let most = MAX_TENSORS as u64;
    let full_texts =
        |n: u64| -> Vec<u8> { (0..n).flat_map(|i| key(&format!("{i:x}"), 8, &text(&[b'x'; 4096]))).collect() };
    let padding = vec![0; MAX_HEADER_BYTES as usize];
    for (kind, bytes, opens) in [
        ("keys", file(3, 0, MAX_KEYS, &[&keys(MAX_KEYS)]), true),
        ("tensors", file(3, most, 0, &[&tensors(most)]), true),
        ("shapes", file(3, 0, MAX_KEYS, &[&shapes(MAX_KEYS)]), true),
        ("texts", file(3, 0, 8000, &[&full_texts(8000)]), true),
        ("more texts", file(3, 0, 9000, &[&full_texts(9000)]), false),
        ("a long list", file(3, 0, 1, &[&list("a", 0, MAX_HEADER_BYTES, &padding)]), false),
    ] {
        let source = MemorySource::new("model.gguf", with_data(bytes, 0));
        let (read, peak) = allocations::peak_of(|| block_on(Header::read(&source, MAX_TENSORS)));
        println!("{kind}: {peak} bytes, {:?}", read.as_ref().map(|_| ()).map_err(ToString::to_string));
        assert_eq!(read.is_ok(), opens, "{kind}");
        assert!(peak <= 16 << 20, "{kind}: {peak} bytes");
    }
}
