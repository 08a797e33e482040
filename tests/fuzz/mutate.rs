//! Damage, done with knowledge of the formats: bytes, words of JSON, JSON values at any depth, PNG chunks whose checksums are
//! made right again, and safetensors and GGUF files whose
//! offsets and length are sometimes made right again, so that what lies behind the first check is reached, too.

use darkroom::weights::gguf::BlockType;
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

/// The parts of a GGUF file: each key with its value as bytes, the tensors, and what follows the header.
struct Gguf {
    version: u32,
    keys: Vec<Vec<u8>>,
    tensors: Vec<GgufTensor>,
    data: Vec<u8>,
    alignment: usize,
}

#[derive(Clone)]
struct GgufTensor {
    name: Vec<u8>,
    sides: Vec<u64>,
    kind: u32,
    offset: u64,
}

fn u32_of(rest: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(rest.split_off(..4)?.try_into().ok()?))
}

fn u64_of(rest: &mut &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(rest.split_off(..8)?.try_into().ok()?))
}

fn text_of<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let n = usize::try_from(u64_of(rest)?).ok()?;
    rest.split_off(..n)
}

/// Steps over a value of a key.
fn skip_value(rest: &mut &[u8], value_type: u32) -> Option<()> {
    let n = match value_type {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        8 => return text_of(rest).map(drop),
        9 => {
            let (value_type, n) = (u32_of(rest)?, u64_of(rest)?);
            return (0..n).try_for_each(|_| skip_value(rest, value_type));
        }
        10..=12 => 8,
        _ => return None,
    };
    rest.split_off(..n).map(drop)
}

impl Gguf {
    /// The parts of a file whose header is sound, or nearly.
    fn parse(file: &[u8]) -> Option<Self> {
        let mut rest = file.strip_prefix(b"GGUF")?;
        let version = u32_of(&mut rest)?;
        let (n_tensors, n_keys) = (u64_of(&mut rest)?, u64_of(&mut rest)?);
        let (mut keys, mut tensors, mut alignment) = (Vec::new(), Vec::new(), 32);
        for _ in 0..n_keys {
            let start = rest;
            let key = text_of(&mut rest)?;
            let value_type = u32_of(&mut rest)?;
            if key == b"general.alignment" && value_type == 4 {
                alignment = usize::from(*rest.first()?).max(1);
            }
            skip_value(&mut rest, value_type)?;
            keys.push(start[..start.len() - rest.len()].to_vec());
        }
        for _ in 0..n_tensors {
            let name = text_of(&mut rest)?.to_vec();
            let n_sides = u32_of(&mut rest)?;
            let sides = (0..n_sides).map(|_| u64_of(&mut rest)).collect::<Option<Vec<u64>>>()?;
            tensors.push(GgufTensor { name, sides, kind: u32_of(&mut rest)?, offset: u64_of(&mut rest)? });
        }
        let n_header = (file.len() - rest.len()).next_multiple_of(alignment);
        Some(Gguf { version, keys, tensors, data: file.get(n_header..).unwrap_or_default().to_vec(), alignment })
    }

    fn to_bytes(&self, n_tensors: u64, n_keys: u64) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend(n_tensors.to_le_bytes());
        file.extend(n_keys.to_le_bytes());
        file.extend(self.keys.iter().flatten());
        for tensor in &self.tensors {
            file.extend((tensor.name.len() as u64).to_le_bytes());
            file.extend(&tensor.name);
            file.extend((tensor.sides.len() as u32).to_le_bytes());
            file.extend(tensor.sides.iter().flat_map(|side| side.to_le_bytes()));
            file.extend(tensor.kind.to_le_bytes());
            file.extend(tensor.offset.to_le_bytes());
        }
        file.resize(file.len().next_multiple_of(self.alignment), 0);
        file.extend(&self.data);
        file
    }

    /// Puts the tensors one behind the other as their types and shapes ask, where that is little, and makes the data fit.
    fn repair(&mut self) {
        let mut end = 0usize;
        for tensor in &mut self.tensors {
            let (elements, bytes) =
                BlockType::from_id(tensor.kind).map_or((1, 1), |kind| (kind.elements(), kind.bytes()));
            let n = tensor.sides.iter().try_fold(1u64, |n, &side| n.checked_mul(side)).unwrap_or(0);
            tensor.offset = end as u64;
            end += (n.min(4096) as usize / elements * bytes).next_multiple_of(self.alignment);
        }
        self.data.resize(end, 0x3c);
    }

    fn damage(&mut self, rng: &mut Rng) {
        let n_tensors = self.tensors.len();
        match rng.below(8) {
            0 if !self.keys.is_empty() => {
                let at = rng.below(self.keys.len());
                match rng.below(4) {
                    0 => drop(self.keys.remove(at)),
                    1 => self.keys.push(self.keys[at].clone()),
                    2 => bytes(rng, &mut self.keys[at]),
                    _ => {
                        // The type or the first bytes of the value.
                        let key = &mut self.keys[at];
                        let name_end = 8 + usize::from(key.first().copied().unwrap_or(0));
                        if let Some(byte) = key.get_mut(name_end + rng.below(16)) {
                            *byte = rng.below(16) as u8;
                        }
                    }
                }
            }
            1 if n_tensors > 0 => {
                // The shape before folding, right or wrong.
                let tensor = self.tensors[rng.below(n_tensors)].clone();
                let name = [b"comfy.gguf.orig_shape.", &tensor.name[..]].concat();
                let mut sides: Vec<i32> = tensor.sides.iter().rev().map(|&side| side as i32).collect();
                sides.resize(sides.len() + rng.below(3), 1 + rng.below(2) as i32);
                let mut key = [&(name.len() as u64).to_le_bytes()[..], &name, &9u32.to_le_bytes()].concat();
                key.extend(5u32.to_le_bytes());
                key.extend((sides.len() as u64).to_le_bytes());
                key.extend(sides.iter().flat_map(|side| side.to_le_bytes()));
                self.keys.push(key);
            }
            2 => self.version = *rng.pick(&[0, 1, 2, 2, 3, 4, 3 << 24, u32::MAX]),
            3 => {
                let n = rng.below(2 * self.data.len() + 8);
                self.data.resize(n, 0x3c);
            }
            _ if n_tensors > 0 => {
                let at = rng.below(n_tensors);
                match rng.below(10) {
                    0 => drop(self.tensors.remove(at)),
                    1 => self.tensors.push(self.tensors[at].clone()),
                    2 => bytes(rng, &mut self.tensors[at].name),
                    3 => self.tensors[at].name.resize(rng.below(1500), b'x'),
                    4 => self.tensors[at].sides.push(1 + rng.below(3) as u64),
                    5 => drop(self.tensors[at].sides.pop()),
                    6 => self.tensors[at].kind = rng.below(45) as u32,
                    7 => self.tensors[at].offset = near(rng, self.tensors[at].offset, 32),
                    _ => {
                        if let Some(side) = self.tensors[at].sides.first_mut() {
                            *side = near(rng, *side, 32);
                        }
                    }
                }
            }
            _ => {}
        }
    }
}

/// A number a little off, or wild.
fn near(rng: &mut Rng, number: u64, step: u64) -> u64 {
    match rng.below(8) {
        0 => number.wrapping_add(1),
        1 => number.wrapping_add(step),
        2 => number.wrapping_sub(step),
        3 => number.wrapping_mul(2),
        4 => 1 << rng.below(64),
        5 => u64::MAX,
        6 => 0,
        _ => rng.below(600) as u64,
    }
}

/// Damages a GGUF file: its counts, keys, tensors and data, or its bytes at random.
pub fn gguf(rng: &mut Rng, file: &mut Vec<u8>) {
    let parts = Gguf::parse(file).filter(|_| !rng.one_in(6));
    let Some(mut parts) = parts else { return bytes(rng, file) };
    for _ in 0..=rng.below(3) {
        parts.damage(rng);
    }
    if rng.one_in(2) {
        parts.repair();
    }
    let (n_tensors, n_keys) = (parts.tensors.len() as u64, parts.keys.len() as u64);
    *file = match rng.below(16) {
        0 => parts.to_bytes(near(rng, n_tensors, 1), n_keys),
        1 => parts.to_bytes(n_tensors, near(rng, n_keys, 1)),
        _ => parts.to_bytes(n_tensors, n_keys),
    };
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

/// Changes a prompt: bytes, or more of what means something in one.
pub fn prompt(rng: &mut Rng, text: &mut Vec<u8>) {
    const WORDS: [&str; 22] = [
        "(",
        ")",
        "[",
        "]",
        ":",
        "|",
        ":1.2)",
        ":0.5]",
        ":3]",
        " BREAK ",
        " AND ",
        "\\",
        "++",
        "-",
        "\"",
        ".blend(",
        "embedding:x ",
        "<lora:a:1>",
        ",",
        " a red fox",
        "\u{e9}",
        "\n",
    ];
    if rng.one_in(3) {
        bytes(rng, text);
        return;
    }
    for _ in 0..1 + rng.below(4) {
        let word = WORDS[rng.below(WORDS.len())].repeat(if rng.one_in(20) { 1 + rng.below(300) } else { 1 });
        let at = rng.below(text.len() + 1);
        text.splice(at..at, word.bytes());
    }
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

/// Damages a template with what means something in one.
pub fn template(rng: &mut Rng, input: &mut Vec<u8>) {
    const MARKS: [&[u8]; 14] =
        [b"{", b"}", b"|", b"$$", b"2$$", b"__", b"__a__", b"\\", b"3::", b"*", b"\0", b"${", b"{a|b}", b"{{{{{{{{"];
    if rng.one_in(3) {
        bytes(rng, input);
        return;
    }
    for _ in 0..=rng.below(4) {
        let at = rng.below(input.len() + 1);
        drop(input.splice(at..at, rng.pick(&MARKS).iter().copied()));
    }
}

/// Damages texts under keywords: JSON as JSON, the rest as bytes.
pub fn texts(rng: &mut Rng, input: &mut Vec<u8>) {
    let mut parts: Vec<Vec<u8>> = input.split(|&byte| byte == super::targets::FILE_END).map(<[u8]>::to_vec).collect();
    let at = rng.below(parts.len());
    json_text(rng, &mut parts[at]);
    *input = parts.join(&super::targets::FILE_END);
}
