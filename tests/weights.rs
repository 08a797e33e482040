//! Safetensors files, good and hostile, and the names and shapes that checkpoints have in practice.
#![cfg(not(target_arch = "wasm32"))]

#[path = "fuzz/allocations.rs"]
#[allow(dead_code, reason = "only tests/fuzz.rs has last words")]
mod allocations;

use std::collections::HashMap;

use darkroom::graph::WeightSpec;
use darkroom::weights::{
    ByteSource, DiskSource, Dtype, LocalFuture, MAX_HEADER_BYTES, MAX_TENSORS, MemorySource, Weights,
};
use darkroom::{Error, Result};
use pollster::block_on;

fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn open(bytes: Vec<u8>) -> Result<Weights> {
    open_all(vec![("model.safetensors", bytes)])
}

fn open_all(files: Vec<(&str, Vec<u8>)>) -> Result<Weights> {
    let sources =
        files.into_iter().map(|(name, bytes)| Box::new(MemorySource::new(name, bytes)) as Box<dyn ByteSource>);
    block_on(Weights::open(sources.collect()))
}

/// A file made by the format's own library, of f32 zeros.
fn zeros(tensors: &[(&str, &[usize])]) -> Vec<u8> {
    let data: Vec<Vec<u8>> = tensors.iter().map(|(_, shape)| vec![0; 4 * shape.iter().product::<usize>()]).collect();
    let views = tensors.iter().zip(&data).map(|((name, shape), data)| {
        (*name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), data).unwrap())
    });
    safetensors::serialize(views, Some(HashMap::from([("format".to_owned(), "pt".to_owned())]))).unwrap()
}

fn spec(name: &str, shape: &[usize]) -> WeightSpec {
    WeightSpec { name: name.to_owned(), shape: shape.to_vec() }
}

fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.expect_err("this should be refused").to_string()
}

#[test]
fn reads_all_three_types() {
    let header = r#"{"__metadata__":{"format":"pt"},
        "b":{"dtype":"F16","shape":[3],"data_offsets":[8,14]},
        "a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
        "c":{"dtype":"BF16","shape":[2,1],"data_offsets":[14,18]},
        "none":{"dtype":"F32","shape":[0,5],"data_offsets":[18,18]},
        "ids":{"dtype":"I64","shape":[],"data_offsets":[18,26]}}    "#;
    let mut data = Vec::new();
    data.extend([1.5f32, -2.0].iter().flat_map(|x| x.to_le_bytes()));
    data.extend([0x3c00u16, 0x0001, 0xfc00].iter().flat_map(|x| x.to_le_bytes()));
    data.extend([0x3fc0u16, 0xc000].iter().flat_map(|x| x.to_le_bytes()));
    data.extend(7i64.to_le_bytes());
    let weights = open(file(header, &data)).unwrap();

    assert_eq!(weights.names(), ["a", "b", "c", "ids", "none"]);
    let read = |name: &str| block_on(weights.read_f32(name));
    assert_eq!(read("a").unwrap(), [1.5, -2.0]);
    // The second is the smallest half number, 2^-24.
    assert_eq!(read("b").unwrap(), [1.0, 2f32.powi(-24), f32::NEG_INFINITY]);
    assert_eq!(read("c").unwrap(), [1.5, -2.0]);
    assert_eq!(read("none").unwrap(), [0f32; 0]);
    assert_eq!(block_on(weights.read_part("b", 0, 6)).unwrap(), data[8..14]);
    assert_eq!(block_on(weights.read_part("b", 2, 2)).unwrap(), [1, 0]);
    assert!(block_on(weights.read_part("b", 4, 4)).is_err());
    assert!(block_on(weights.read_part("b", u64::MAX, 4)).is_err());

    assert_eq!(
        message(read("ids")),
        "tensor ids in model.safetensors has type I64: expected F32, F16, BF16, F64, F8_E4M3 or F8_E5M2"
    );
    assert!(matches!(read("absent"), Err(Error::TensorMissing { .. })));
    let info = weights.get("c").unwrap();
    assert_eq!((info.shape, info.n_bytes, info.file), ([2, 1].as_slice(), 4, "model.safetensors"));
    assert_eq!(info.offset, 8 + header.len() as u64 + 14);
}

#[test]
fn widening_is_exact_for_every_bit_pattern_and_length() {
    let bits: Vec<u16> = (0..=u16::MAX).collect();
    let bytes: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
    let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    for n in [0, 1, 1023, 1024, 1025, bits.len()] {
        let halves = darkroom::weights::convert::f32_from_le_bytes(&Dtype::F16, &bytes[..2 * n]).unwrap();
        let brains = darkroom::weights::convert::f32_from_le_bytes(&Dtype::BF16, &bytes[..2 * n]).unwrap();
        assert_eq!((halves.len(), brains.len()), (n, n));
        for (idx, &bits) in bits[..n].iter().enumerate() {
            assert!(same(halves[idx], half::f16::from_bits(bits).to_f32()), "F16 {bits:#06x}");
            assert!(same(brains[idx], f32::from_bits(u32::from(bits) << 16)), "BF16 {bits:#06x}");
        }
    }
}

#[test]
fn hostile_headers_are_refused_with_a_reason() {
    let entry = |offsets: &str| format!(r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":{offsets}}}}}"#);
    let long = "x".repeat(2000);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "it has 0 bytes"),
        (vec![1, 2, 3], "it has 3 bytes"),
        (u64::MAX.to_le_bytes().to_vec(), "more than the 33554432 that are allowed"),
        ((MAX_HEADER_BYTES + 1).to_le_bytes().to_vec(), "more than the 33554432"),
        (MAX_HEADER_BYTES.to_le_bytes().to_vec(), "but the file ends after 8"),
        (file("", &[]), "does not start with {"),
        (file(" {}", &[]), "does not start with {"),
        (file("[]", &[]), "does not start with {"),
        (file("{", &[]), "EOF"),
        (file("{}{}", &[]), "trailing characters"),
        (file("{}", &[0]), "its tensors have 0 bytes, but 1 follow"),
        (file(&entry("[0,8]"), &[0; 7]), "its tensors have 8 bytes, but 7 follow"),
        (file(&entry("[0,8]"), &[0; 9]), "its tensors have 8 bytes, but 9 follow"),
        (file(&entry("[4,12]"), &[0; 12]), "leaves a gap"),
        (file(&entry("[0,7]"), &[0; 7]), "needs 8 bytes, but its offsets give it 7"),
        (file(&entry("[0,-8]"), &[0; 8]), "invalid value"),
        (file(&entry("[0,8,9]"), &[0; 8]), "trailing characters"),
        (file(&entry("[0]"), &[0; 8]), "invalid length"),
        (file(&entry("[0,18446744073709551615]"), &[0; 8]), "its offsets give it"),
        (file(&entry("[0,8.0]"), &[0; 8]), "invalid type"),
        (
            file(
                r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
                &[0; 8],
            ),
            "overlaps",
        ),
        (
            file(
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
                &[0; 8],
            ),
            "a is there twice",
        ),
        (file(r#"{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, &[0; 4]), "duplicate field"),
        (file(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1}}"#, &[0; 4]), "unknown field"),
        (file(r#"{"a":{"dtype":"F32","shape":[1]}}"#, &[0; 4]), "missing field"),
        (file(r#"{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}"#, &[0; 4]), "unknown type \"F31\""),
        (file(r#"{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}}"#, &[0; 1]), "does not fill whole bytes"),
        (
            file(r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#, &[]),
            "larger than any file",
        ),
        (
            file(r#"{"a":{"dtype":"F32","shape":[0,4294967296,4294967296],"data_offsets":[0,0]}}"#, &[]),
            "larger than any file",
        ),
        (file(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, &[0; 4]), "ends at 0, before its start"),
        (
            file(r#"{"a\u001b[2J":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, &[0; 4]),
            "has a control character",
        ),
        (
            file(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more\u001b[2J":1}}"#, &[0; 4]),
            "unknown field `more\u{fffd}[2J`",
        ),
        (
            file(r#"{"a":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,0]}}"#, &[]),
            "larger than any file",
        ),
        (file(r#"{"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}}"#, &[0; 4]), "at most 8 sides"),
        (file(r#"{"__metadata__":{"a":1}}"#, &[]), "invalid type"),
        (file(r#"{"__metadata__":{},"__metadata__":{}}"#, &[]), "__metadata__ is there twice"),
        (file(&format!(r#"{{"{long}":1}}"#), &[]), "longer than 1024 bytes"),
        (file(&format!(r#"{{"a":"{long}"}}"#), &[]), "invalid type"),
        (file(&format!("{{\"a\":{}", "[".repeat(100_000)), &[]), "invalid type"),
        (file(&format!("{{\"__metadata__\":{}", "{\"a\":".repeat(100_000)), &[]), "invalid type"),
        ([&3u64.to_le_bytes()[..], b"{\xff}"].concat(), "not UTF-8"),
    ];
    for (bytes, reason) in cases {
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(90)]).into_owned();
        let said = message(open(bytes));
        assert!(said.starts_with("model.safetensors is not a valid safetensors file: "), "{said}");
        assert!(said.contains(reason), "{start:?}: {said}");
        assert!(said.len() < 600, "a message that quotes the file without end: {} bytes", said.len());
    }
    open(file("{}", &[])).expect("a file without tensors is allowed");
}

#[test]
fn the_files_of_a_component_share_one_limit_of_tensors() {
    let empty = |from: usize, n: usize| {
        let entry = |i: usize| format!(r#""{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#);
        file(&format!("{{{}}}", (from..from + n).map(entry).collect::<Vec<_>>().join(",")), &[])
    };
    let half = MAX_TENSORS / 2;
    open_all(vec![("one", empty(0, half)), ("two", empty(half, half))]).unwrap();
    let said = message(open_all(vec![("one", empty(0, half)), ("two", empty(half, half + 1))]));
    assert!(said.starts_with("two is not a valid") && said.contains("more than 40000 tensors"), "{said}");
}

#[test]
fn metadata_may_be_null_or_long() {
    let header = |metadata: &str| {
        file(
            &format!(r#"{{"__metadata__":{metadata},"a":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#),
            &[0; 4],
        )
    };
    let long = format!(r#"{{"thumbnail":"{}","line":"a\\nb"}}"#, "x".repeat(20_000_000));
    let many: Vec<String> = (0..5000).map(|i| format!(r#""key {i}":"value""#)).collect();
    for metadata in ["null", "{}", r#"{"a":"b","a":"c"}"#, &long, &format!("{{{}}}", many.join(","))] {
        assert_eq!(open(header(metadata)).unwrap().names(), ["a"]);
    }
    for metadata in ["[]", "1", r#"{"a":1}"#, r#"{"a":null}"#] {
        assert!(open(header(metadata)).is_err(), "{metadata}");
    }
}

#[test]
fn the_last_of_two_tensors_of_one_name_counts() {
    let entry = |dtype: &str| format!(r#""a":{{"dtype":"{dtype}","shape":[2],"data_offsets":[0,4]}}"#);
    let weights = open(file(&format!("{{{},{}}}", entry("F16"), entry("BF16")), &[0; 4])).unwrap();
    assert_eq!(weights.get("a").unwrap().dtype, &Dtype::BF16);
}

#[test]
fn a_git_lfs_pointer_says_what_it_is() {
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 34\n", "0".repeat(64));
    let said = message(open(pointer.into_bytes()));
    assert!(said.contains("git-lfs pointer") && said.contains("git lfs pull"), "{said}");
}

#[test]
fn rarer_types_of_numbers_are_read() {
    let codes: Vec<u8> = (0..=255).collect();
    let tables: serde_json::Value = serde_json::from_str(include_str!("fixtures/weights/f8.json")).unwrap();
    for (name, dtype) in [("F8_E4M3", Dtype::F8E4M3), ("F8_E5M2", Dtype::F8E5M2)] {
        let header = format!(r#"{{"a":{{"dtype":"{name}","shape":[256],"data_offsets":[0,256]}}}}"#);
        let weights = open(file(&header, &codes)).unwrap();
        assert_eq!((weights.get("a").unwrap().dtype, dtype.n_bytes()), (&dtype, Some(1)));
        for (code, value) in block_on(weights.read_f32("a")).unwrap().into_iter().enumerate() {
            let expected = f32::from_bits(tables[name][code].as_u64().unwrap() as u32);
            let same = value.to_bits() == expected.to_bits() || (value.is_nan() && expected.is_nan());
            assert!(same, "{name} {code:#04x}: {value} is not {expected}");
        }
    }
    let numbers = [1.5f64, -0.0, 1.0 + f64::EPSILON, 1e300, -1e-300, f64::NEG_INFINITY, 16_777_217.0];
    let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    let header = r#"{"a":{"dtype":"F64","shape":[7],"data_offsets":[0,56]}}"#;
    let read = block_on(open(file(header, &bytes)).unwrap().read_f32("a")).unwrap();
    assert_eq!(read, [1.5, -0.0, 1.0, f32::INFINITY, -0.0, f32::NEG_INFINITY, 16_777_216.0]);
}

/// A source that does not keep its word.
struct Liar {
    bytes: Vec<u8>,
    len: u64,
    /// The most bytes that a read returns, whatever was asked for.
    longest: usize,
}

impl ByteSource for Liar {
    fn name(&self) -> &str {
        "liar"
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn read<'a>(&'a self, offset: u64, len: usize) -> LocalFuture<'a, Result<Vec<u8>>> {
        let start = self.bytes.len().min(usize::try_from(offset).unwrap());
        let end = self.bytes.len().min(start.saturating_add(len.min(self.longest)));
        Box::pin(std::future::ready(Ok(self.bytes[start..end].to_vec())))
    }
}

#[test]
fn a_source_that_lies_is_found_out() {
    let open = |liar: Liar| block_on(Weights::open(vec![Box::new(liar)]));
    let good = zeros(&[("a", &[100])]);
    let len = good.len() as u64;
    let said = message(open(Liar { bytes: good.clone(), len, longest: 4 }));
    assert!(said.contains("its first eight bytes could not be read"), "{said}");
    let said = message(open(Liar { bytes: good.clone(), len, longest: 9 }));
    assert!(said.contains("but 9 could be read"), "{said}");
    let weights = open(Liar { bytes: good, len, longest: 300 }).unwrap();
    assert_eq!(
        message(block_on(weights.read_f32("a"))),
        "liar is not a valid safetensors file: tensor a has 400 bytes, but 300 could be read"
    );
    // A file that claims to go on beyond all memory is believed until its tensor is wanted.
    let n_bytes = 1u64 << 50;
    for (dtype, side) in [("F32", n_bytes / 4), ("BF16", n_bytes / 2)] {
        let header = format!(r#"{{"a":{{"dtype":"{dtype}","shape":[{side}],"data_offsets":[0,{n_bytes}]}}}}"#);
        let bytes = file(&header, &[]);
        let len = bytes.len() as u64 + n_bytes;
        let weights = open(Liar { bytes, len, longest: usize::MAX }).unwrap();
        let said = message(block_on(weights.read_f32("a")));
        assert!(said.contains("bytes of memory, more than there are"), "{said}");
    }
}

#[test]
fn a_large_tensor_is_converted_while_it_is_read() {
    // Two whole pieces of 8 MiB and a little, and a tensor in front, so that no piece begins where a page does.
    let n = 8 * (1 << 20) + 3;
    let header = format!(
        r#"{{"a":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}},"b":{{"dtype":"F16","shape":[{n}],"data_offsets":[4,{}]}}}}"#,
        4 + 2 * n
    );
    let mut data = 1f32.to_le_bytes().to_vec();
    // Every value is its place, as far as half precision counts.
    data.extend((0..n).flat_map(|i| half::f16::from_f32((i % 2039) as f32).to_le_bytes()));
    let weights = open(file(&header, &data)).unwrap();
    let (values, peak) = allocations::peak_of(|| block_on(weights.read_f32("b")).unwrap());
    assert_eq!(values.len(), n);
    assert!(values.iter().enumerate().all(|(i, &value)| value == (i % 2039) as f32));
    // The numbers themselves and one piece, not the whole file beside them.
    let most = 4 * n + 9 * (1 << 20);
    assert!(peak <= most, "{peak} bytes, of {most}");
}

#[test]
fn shards_are_merged() {
    let weights = open_all(vec![
        ("one.safetensors", zeros(&[("a", &[1]), ("b", &[2])])),
        ("two.safetensors", zeros(&[("c", &[3])])),
    ])
    .unwrap();
    assert_eq!(weights.file_names(), "one.safetensors, two.safetensors");
    assert_eq!(weights.get("c").unwrap().file, "two.safetensors");
    weights.check(&[spec("a", &[1]), spec("b", &[2]), spec("c", &[3])]).unwrap();
    assert_eq!(
        message(weights.check(&[spec("d", &[4])])),
        "tensor d with shape [4] is missing from one.safetensors, two.safetensors"
    );

    let twice = open_all(vec![("one.safetensors", zeros(&[("a", &[1])])), ("two.safetensors", zeros(&[("a", &[1])]))]);
    assert_eq!(message(twice), "two.safetensors is not a valid safetensors file: tensor a is also in one.safetensors");
}

#[test]
fn missing_surplus_and_misshapen_tensors_are_named() {
    let weights = open(zeros(&[("conv_in.weight", &[4, 3, 3, 3]), ("conv_in.bias", &[4]), ("x.position_ids", &[77])]));
    let weights = weights.unwrap();
    let (weight, bias) = (spec("conv_in.weight", &[4, 3, 3, 3]), spec("conv_in.bias", &[4]));
    weights.check(&[weight.clone(), bias.clone()]).unwrap();
    weights.check_present(std::slice::from_ref(&weight)).unwrap();
    // What nothing uses is told, and is no fault; position_ids are not even that.
    assert_eq!(weights.check(std::slice::from_ref(&weight)).unwrap(), ["conv_in.bias"]);
    assert_eq!(
        message(weights.check(&[spec("conv_in.weight", &[4, 9, 3, 3]), bias.clone()])),
        "tensor conv_in.weight in model.safetensors has shape [4, 3, 3, 3], but the config asks for [4, 9, 3, 3]"
    );
    assert_eq!(
        message(weights.check(&[weight, bias, spec("conv_out.weight", &[3, 4, 3, 3])])),
        "tensor conv_out.weight with shape [3, 4, 3, 3] is missing from model.safetensors"
    );
    let ids = file(r#"{"ids":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}}"#, &[0; 4]);
    assert!(matches!(open(ids).unwrap().check(&[spec("ids", &[1])]), Err(Error::TensorDtype { .. })));
}

#[test]
fn a_vae_may_have_the_former_names_of_attention() {
    let at = |name: &str| format!("encoder.mid_block.attentions.0.{name}");
    let today = [
        (at("to_q.weight"), vec![8, 8]),
        (at("to_k.bias"), vec![8]),
        (at("to_v.weight"), vec![8, 8]),
        (at("to_out.0.weight"), vec![8, 8]),
    ];
    let former = [
        (at("query.weight"), vec![8, 8, 1, 1]),
        (at("key.bias"), vec![8]),
        (at("value.weight"), vec![8, 8, 1, 1]),
        (at("proj_attn.weight"), vec![8, 8, 1, 1]),
    ];
    let both = [&today, &former];
    for stored in both {
        let tensors: Vec<(&str, &[usize])> =
            stored.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect();
        let weights = open(zeros(&tensors)).unwrap();
        for asked in both {
            let specs: Vec<_> = asked.iter().map(|(name, shape)| spec(name, shape)).collect();
            weights.check(&specs).unwrap();
            assert_eq!(block_on(weights.read_f32(&asked[0].0)).unwrap().len(), 64);
        }
        assert!(weights.check(&[spec(&today[0].0, &[8, 8, 2])]).is_err());
    }
    // A file with both names of one tensor has one too many.
    let doubled = open(zeros(&[(&today[0].0, &[8, 8]), (&former[0].0, &[8, 8])])).unwrap();
    assert_eq!(doubled.check(&[spec(&today[0].0, &[8, 8])]).unwrap(), [former[0].0.as_str()]);
}

#[test]
fn a_text_encoder_may_lack_its_prefix() {
    let names = ["text_model.final_layer_norm.bias", "final_layer_norm.bias"];
    for stored in names {
        let weights = open(zeros(&[(stored, &[4]), ("text_model.embeddings.position_ids", &[1, 77])])).unwrap();
        for asked in names {
            weights.check(&[spec(asked, &[4])]).unwrap();
        }
    }
}

#[test]
fn sources_refuse_what_is_outside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ten.bin");
    std::fs::write(&path, (0..10).collect::<Vec<u8>>()).unwrap();
    let disk = DiskSource::open(&path).unwrap();
    let memory = MemorySource::new("ten", &[0u8, 1, 2, 3, 4, 5, 6, 7, 8, 9][..]);
    for source in [&disk as &dyn ByteSource, &memory] {
        assert_eq!((source.len(), source.is_empty()), (10, false));
        assert_eq!(block_on(source.read(3, 4)).unwrap(), [3, 4, 5, 6]);
        assert_eq!(block_on(source.read(10, 0)).unwrap(), [0u8; 0]);
        for (offset, len) in [(3, 8), (11, 0), (u64::MAX, 1), (1, usize::MAX)] {
            assert!(matches!(block_on(source.read(offset, len)), Err(Error::Io { .. })), "{offset} {len}");
        }
    }
    std::fs::write(&path, [0; 5]).unwrap();
    assert!(block_on(disk.read(3, 4)).is_err(), "the file was shortened after it was opened");
    assert!(message(DiskSource::open(folder.path()).map(|_| ())).contains("folder"));
    assert!(message(DiskSource::open(&folder.path().join("absent")).map(|_| ())).contains("absent"));
}
