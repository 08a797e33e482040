//! Damage, done with knowledge of the formats: bytes, words of JSON, JSON values at any depth, PNG chunks whose checksums are
//! made right again, and safetensors files whose
//! offsets and length are sometimes made right again, so that what lies behind the first check is reached, too.

use serde_json::{Map, Value, json};

/// A xorshift generator: the same damage on every machine.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Pieces of text that parsers stumble over.
const WORDS: [&[u8]; 28] = [
    b"[",
    b"]",
    b"{",
    b"}",
    b"\"",
    b",",
    b":",
    b"-1",
    b"0",
    b"18446744073709551615",
    b"18446744073709551616",
    b"4294967296",
    b"1e400",
    b"0.5",
    b"null",
    b"true",
    b"NaN",
    b"-Infinity",
    b"\\u0000",
    b"\\ud800",
    b"\xc3",
    b"\xef\xbb\xbf",
    b"\0",
    b"\n",
    b"__metadata__",
    b"\"dtype\":\"F32\",",
    b"</w>",
    b" ",
];

/// Types and names that mean something in one of the files.
const NAMES: [&str; 22] = [
    "F32",
    "F16",
    "BF16",
    "F4",
    "F6_E2M3",
    "I64",
    "F8_E8M0",
    "F31",
    "__metadata__",
    "dtype",
    "shape",
    "data_offsets",
    "content",
    "model_max_length",
    "added_tokens_decoder",
    "attention_head_dim",
    "<|endoftext|>",
    "",
    "a\u{1b}[2J",
    "DownBlock2D",
    "_class_name",
    "\u{202e}",
];

/// Damages any bytes in place.
pub fn bytes(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..=rng.below(4) {
        let at = rng.below(bytes.len() + 1);
        match rng.below(7) {
            0 if at < bytes.len() => bytes[at] = rng.below(256) as u8,
            1 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
            2 => bytes.truncate(at),
            3 if at < bytes.len() => drop(bytes.remove(at)),
            4 => {
                // A piece again, or gone.
                let end = (at + rng.below(64)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                if rng.one_in(2) { drop(bytes.drain(at..end)) } else { drop(bytes.splice(at..at, piece)) }
            }
            _ => drop(bytes.splice(at..at, rng.pick(&WORDS).iter().copied())),
        }
    }
}

/// Damages JSON text: as JSON where it is, otherwise or sometimes as bytes.
pub fn json_text(rng: &mut Rng, text: &mut Vec<u8>) {
    if !rng.one_in(3)
        && let Ok(mut value) = serde_json::from_slice::<Value>(text)
    {
        for _ in 0..=rng.below(3) {
            json(rng, &mut value);
        }
        *text = value.to_string().into_bytes();
    } else {
        bytes(rng, text);
    }
}

/// Damages one value somewhere in `value`.
pub fn json(rng: &mut Rng, value: &mut Value) {
    let go_deeper = !rng.one_in(4);
    match value {
        Value::Array(items) if go_deeper && !items.is_empty() => {
            let at = rng.below(items.len());
            match rng.below(8) {
                0 => drop(items.remove(at)),
                1 => items.insert(at, items[at].clone()),
                2 => items.reverse(),
                _ => json(rng, &mut items[at]),
            }
        }
        Value::Object(fields) if go_deeper && !fields.is_empty() => {
            let Some(key) = fields.keys().nth(rng.below(fields.len())).cloned() else { return };
            match rng.below(10) {
                0 => drop(fields.remove(&key)),
                1 => {
                    let moved = fields.remove(&key).unwrap_or_default();
                    fields.insert((*rng.pick(&NAMES)).to_owned(), moved);
                }
                2 => {
                    let copied = fields[&key].clone();
                    fields.insert(format!("{key}{}", rng.below(10)), copied);
                }
                _ => json(rng, &mut fields[&key]),
            }
        }
        // A number a little off is more often believed than a wild one.
        Value::Number(number) if !rng.one_in(3) && number.is_u64() => {
            let near = number.as_u64().unwrap_or(0);
            *value = match rng.below(5) {
                0 => near.wrapping_add(1),
                1 => near.wrapping_sub(1),
                2 => near.wrapping_mul(2),
                3 => 1 << rng.below(64),
                _ => rng.below(16) as u64,
            }
            .into();
        }
        other => *other = hostile(rng),
    }
}

fn hostile(rng: &mut Rng) -> Value {
    match rng.below(14) {
        0 => Value::Null,
        1 => json!(-1),
        2 => json!(u64::MAX),
        3 => json!(1u64 << rng.below(64)),
        4 => json!(0.5),
        5 => json!(1e300),
        6 => json!([]),
        7 => Value::Object(Map::new()),
        8 => json!("x".repeat(rng.below(2000))),
        9 => json!(true),
        10 => (0..rng.below(120)).fold(json!(0), |inner, _| json!([inner])),
        11 => Value::Array(vec![json!(rng.below(3)); rng.below(200)]),
        _ => json!(rng.pick(&NAMES)),
    }
}

/// Damages a safetensors file: its length, its JSON, its data, or its bytes at random.
pub fn safetensors(rng: &mut Rng, file: &mut Vec<u8>) {
    let parts = file.split_first_chunk::<8>().and_then(|(prefix, rest)| {
        let n_header = usize::try_from(u64::from_le_bytes(*prefix)).ok()?;
        Some((rest.get(..n_header)?.to_vec(), rest.get(n_header..)?.to_vec()))
    });
    let Some((mut header, mut data)) = parts.filter(|_| !rng.one_in(6)) else { return bytes(rng, file) };
    if !rng.one_in(8) {
        json_text(rng, &mut header);
    }
    if rng.one_in(3)
        && let Ok(Value::Object(mut tensors)) = serde_json::from_slice(&header)
    {
        repair(rng, &mut tensors, &mut data);
        header = Value::Object(tensors).to_string().into_bytes();
    }
    if rng.one_in(6) {
        data.resize(rng.below(2 * data.len() + 8), 0x3c);
    }
    let n_header = match rng.below(12) {
        0 => header.len() as u64 + rng.below(16) as u64,
        1 => (header.len() as u64).saturating_sub(rng.below(16) as u64),
        2 => u64::MAX >> rng.below(64),
        _ => header.len() as u64,
    };
    *file = [&n_header.to_le_bytes()[..], &header, &data].concat();
}

/// Puts the tensors one behind the other as their types and shapes ask, where that is little, and makes the data fit.
fn repair(rng: &mut Rng, tensors: &mut Map<String, Value>, data: &mut Vec<u8>) {
    let mut end = 0u64;
    for (name, tensor) in tensors.iter_mut().filter(|(name, _)| *name != "__metadata__") {
        let Some(tensor) = tensor.as_object_mut() else { continue };
        let bits = match tensor.get("dtype").and_then(Value::as_str) {
            Some("F32" | "I32" | "U32") => 32,
            Some("F16" | "BF16" | "I16" | "U16") => 16,
            Some("F4") => 4,
            Some("F6_E2M3" | "F6_E3M2") => 6,
            Some("I64" | "U64" | "F64" | "C64") => 64,
            _ => 8,
        };
        let sides = tensor.get("shape").and_then(Value::as_array);
        let n = sides.into_iter().flatten().try_fold(bits, |n: u64, side| n.checked_mul(side.as_u64()?));
        let n_bytes = n.map_or(0, |n_bits| n_bits / 8).min(4096);
        tensor.insert("data_offsets".to_owned(), json!([end, end + n_bytes]));
        end += n_bytes;
        if rng.one_in(20) {
            end = end.saturating_sub(name.len() as u64);
        }
    }
    data.resize(end as usize, 0x3c);
}

/// Damages one of the four files of a tokenizer.
pub fn tokenizer(rng: &mut Rng, input: &mut Vec<u8>) {
    let mut files: Vec<Vec<u8>> = input.split(|&byte| byte == super::targets::FILE_END).map(<[u8]>::to_vec).collect();
    let at = rng.below(files.len());
    match at {
        1 => bytes(rng, &mut files[at]),
        _ => json_text(rng, &mut files[at]),
    }
    if rng.one_in(20) {
        files.pop();
    }
    *input = files.join(&super::targets::FILE_END);
}

/// Damages a picture file; of a PNG the checksums are mostly made right again.
pub fn picture(rng: &mut Rng, file: &mut Vec<u8>) {
    bytes(rng, file);
    if !file.starts_with(b"\x89PNG") || rng.one_in(4) {
        return;
    }
    let mut at = 8;
    while let Some(length) = file.get(at..at + 4) {
        let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let end = at.saturating_add(8).saturating_add(length);
        let Some(chunk) = file.get(at + 4..end) else { return };
        let checksum = crc32(chunk).to_be_bytes();
        let Some(place) = file.get_mut(end..end + 4) else { return };
        place.copy_from_slice(&checksum);
        at = end + 4;
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}

/// Damages texts under keywords: JSON as JSON, the rest as bytes.
pub fn texts(rng: &mut Rng, input: &mut Vec<u8>) {
    let mut parts: Vec<Vec<u8>> = input.split(|&byte| byte == super::targets::FILE_END).map(<[u8]>::to_vec).collect();
    let at = rng.below(parts.len());
    json_text(rng, &mut parts[at]);
    *input = parts.join(&super::targets::FILE_END);
}
