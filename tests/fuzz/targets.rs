//! What is fuzzed: functions that take any bytes and must come back. They are the same under `cargo test --test fuzz` and
//! under cargo-fuzz (fuzz/).
//!
//! Each returns words for what happened. The mutation loop keeps inputs whose words are new, since an error of a kind not
//! seen before comes from code not reached before: a poor man's coverage, which needs no special compiler.

use darkroom::bench::RandomWeights;
use darkroom::checkpoint::lora::LoraFile;
use darkroom::hub::address::{FileUrl, RepoFile};
use darkroom::hub::memory::MemoryFiles;
use darkroom::hub::{Component, Needs, Source, listing};
use darkroom::image::{decode, decode_edit_mask, decode_mask, memory_needed, picture_text};
use darkroom::model::{AutoencoderKlConfig, ClipTextConfig, ModelIndex, UNet2DConditionConfig};
use darkroom::parameters::Found;
use darkroom::pipeline::{ActiveLoras, ModelConfigs};
use darkroom::prompt::wildcards::{Wildcards, expand, is_template};
use darkroom::prompt::{PromptSyntax, Role, parse, tokenize};
use darkroom::request::LoraUse;
use darkroom::sampler::SchedulerConfig;
use darkroom::tokenizer::{Tokenizer, TokenizerConfig, Word};
use darkroom::weights::gguf::{Header, NewTensor, Tensor, Writer, dequantize};
use darkroom::weights::{ByteSource, Dtype, LocalFuture, MAX_TENSORS, MemorySource, Weights};
use pollster::block_on;

/// Ids of a chunk above which a tokenizer is only built: its encodings are as long as the file says.
const LONGEST_CHUNK: usize = 10_000;

/// Pictures that would take more than this are not decoded: that they could be is no news, and takes its time.
const MOST_PICTURE_BYTES: u64 = 16 << 20;

/// What separates the four files of a tokenizer in one input.
pub const FILE_END: u8 = 0;

/// A safetensors file: opened, compared with the format's own library, and each tensor read.
pub fn safetensors(bytes: &[u8]) -> String {
    let source: Box<dyn ByteSource> = Box::new(MemorySource::new("model.safetensors", bytes.to_vec()));
    let weights = match block_on(Weights::open(vec![source])) {
        Ok(weights) => weights,
        Err(error) => {
            let message = error.to_string();
            assert!(message.len() < 2000 && !message.contains(char::is_control), "a message that shouts: {message:?}");
            return message;
        }
    };
    // Ours is the stricter of the two: what it takes, the other one takes, and finds the same there.
    let other = safetensors::SafeTensors::deserialize(bytes).expect("only this crate accepts the file");
    assert_eq!(other.len(), weights.names().len());
    let mut n_bytes = 0;
    let mut words = format!("accepted with {} tensors", weights.names().len().min(4));
    for name in weights.names() {
        let info = weights.get(name).expect("a tensor of that name");
        let end = info.offset.checked_add(info.n_bytes).expect("a place in the file");
        let view = other.tensor(name).expect("only this crate has the tensor");
        assert_eq!(view.shape(), info.shape, "{name}");
        assert_eq!(view.data(), &bytes[info.offset as usize..end as usize], "{name}");
        n_bytes += info.n_bytes;
        match info.dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64 | Dtype::F8E4M3 | Dtype::F8E5M2 => {
                let values = block_on(weights.read_f32(name)).expect("values");
                assert_eq!(values.len(), info.shape.iter().product::<usize>(), "{name}");
                assert_eq!(block_on(weights.read_part(name, 0, info.n_bytes as usize)).expect("bytes"), view.data());
            }
            Dtype::Block(_) => panic!("{name} has blocks"),
            Dtype::Other(_) => assert!(block_on(weights.read_f32(name)).is_err(), "{name}"),
        }
        words.push_str(&format!(" {} {}", info.dtype.name().to_lowercase(), info.shape.len()));
    }
    assert_eq!(n_bytes, other.iter().map(|(_, view)| view.data().len() as u64).sum::<u64>());
    words
}

/// A GGUF file: its header, each tensor dequantised, and the whole written anew and read back.
pub fn gguf(bytes: &[u8]) -> String {
    let open = |bytes: &[u8]| block_on(Header::read(&MemorySource::new("model.gguf", bytes.to_vec()), MAX_TENSORS));
    let header = match open(bytes) {
        Ok(header) => header,
        Err(error) => {
            let message = error.to_string();
            assert!(message.len() < 2000 && !message.contains(char::is_control), "a message that shouts: {message:?}");
            return without_name(&message);
        }
    };
    let mut in_file_order: Vec<(&String, &Tensor)> = header.tensors.iter().collect();
    in_file_order.sort_by_key(|(_, info)| (info.offset, info.n_bytes));
    let mut words =
        format!("accepted with {} tensors {} keys", in_file_order.len().min(4), header.metadata.len().min(4));
    let (mut end, mut stored, mut new) = (0, Vec::new(), Vec::new());
    for (name, info) in in_file_order {
        assert!(info.offset >= end, "{name} overlaps the one before it");
        end = info.offset.checked_add(info.n_bytes).expect("a place in the file");
        let part = &bytes[info.offset as usize..end as usize];
        let mut values = Vec::new();
        let is_read = dequantize(info.kind, part, &mut values).is_some();
        assert_eq!(is_read, info.kind.is_readable(), "{name}");
        if is_read {
            assert_eq!(values.len(), info.shape.iter().product::<usize>(), "{name}");
        }
        words.push_str(&format!(" {} {}", info.kind.name().to_lowercase(), info.shape.len()));
        stored.push(part);
        new.push(NewTensor { name: name.clone(), shape: info.shape.clone(), kind: info.kind });
    }
    let Ok(mut writer) = Writer::new("new.gguf", &[], new) else { return format!("{words} and cannot be written") };
    let mut written = writer.header().to_vec();
    for part in stored.into_iter().filter(|part| !part.is_empty()) {
        writer.append_stored(part, &mut written);
    }
    assert!(writer.is_done() && writer.n_bytes() == written.len() as u64);
    let again = open(&written).expect("a file of this crate's own");
    assert!(again.tensors.keys().eq(header.tensors.keys()));
    for (before, after) in header.tensors.values().zip(again.tensors.values()) {
        assert_eq!((before.kind, before.n_bytes), (after.kind, after.n_bytes));
        assert!(before.shape == after.shape || (before.shape.is_empty() && after.shape == [1]));
    }
    words
}

/// The message without the name of a tensor or a key in it, whose words would pass for words of the message.
fn without_name(message: &str) -> String {
    for of in ["tensor ", "key ", "name "] {
        let Some((before, rest)) = message.split_once(of) else { continue };
        let verbs = [" has ", " starts ", " is there ", " is not ", " is a list "];
        if let Some(end) = verbs.iter().filter_map(|verb| rest.rfind(verb)).max() {
            return format!("{before}{of}{}", &rest[end..]);
        }
    }
    message.to_owned()
}

/// Any of the JSON files of a checkpoint and of the Hub, given to every parser of them.
pub fn configs(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else { return "not utf".into() };
    let said = |result: Result<(), String>| result.err().unwrap_or_else(|| "accepted".into());
    let error = |error: darkroom::Error| error.to_string();
    [
        said(ModelIndex::from_json(text, "f").map(drop).map_err(error)),
        said(ClipTextConfig::from_json(text, "f").map(drop).map_err(error)),
        said(UNet2DConditionConfig::from_json(text, "f").map(drop).map_err(error)),
        said(AutoencoderKlConfig::from_json(text, "f").map(drop).map_err(error)),
        said(SchedulerConfig::from_json(text, "f").and_then(|config| config.kind()).map(drop).map_err(error)),
        said(Needs::from_model_index("f", text).map(drop).map_err(error)),
        said(text.parse::<RepoFile>().map(drop).map_err(error)),
        said(text.parse::<FileUrl>().map(drop).map_err(error)),
        said(listing::parse_tree(text).map(drop)),
    ]
    .join(" | ")
}

/// The files of a tokenizer with [`FILE_END`] between them: vocab.json, merges.txt, tokenizer_config.json,
/// special_tokens_map.json; the last two may be absent. A tokenizer that comes of it encodes a prompt.
pub fn tokenizer(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else { return "not utf".into() };
    let mut files = text.split(FILE_END as char);
    let (vocab, merges) = (files.next().unwrap_or_default(), files.next().unwrap_or_default());
    let config = match TokenizerConfig::from_json(files.next(), files.next()) {
        Ok(config) => config,
        Err(error) => return error.to_string(),
    };
    let tokenizer = match Tokenizer::new(vocab, merges, &config) {
        Ok(tokenizer) => tokenizer,
        Err(error) => return error.to_string(),
    };
    if tokenizer.chunk_len() > LONGEST_CHUNK {
        return "accepted with long chunks".into();
    }
    match tokenizer.encode("A cat's 12 caf\u{e9}s, <|endoftext|> \u{1f63a} ! a a a a a a a a") {
        Ok(encoding) => {
            assert_eq!(encoding.ids.len(), tokenizer.chunk_len());
            if encoding.truncated.is_some() { "accepted and cut".into() } else { "accepted".into() }
        }
        Err(error) => error.to_string(),
    }
}

/// A tokenizer to read prompts with, and an embedding.
fn small_tokenizer() -> &'static Tokenizer {
    static TOKENIZER: std::sync::OnceLock<Tokenizer> = std::sync::OnceLock::new();
    TOKENIZER.get_or_init(|| {
        let vocab = include_str!("../fixtures/tiny/tokenizer/vocab.json");
        let merges = include_str!("../fixtures/tiny/tokenizer/merges.txt");
        let tokenizer = Tokenizer::new(vocab, merges, &TokenizerConfig::default()).expect("the fixture is whole");
        tokenizer.with_words(vec![Word { name: "a red".into(), spellings: vec!["a red".into()], ids: vec![600; 9] }])
    })
}

/// A prompt in every syntax, and the chunks of its first text.
pub fn prompts(bytes: &[u8]) -> String {
    const N_CALLS: usize = 20;
    let text = String::from_utf8_lossy(bytes);
    let mut said = Vec::new();
    for syntax in [PromptSyntax::A1111, PromptSyntax::Comfy, PromptSyntax::Compel, PromptSyntax::Plain] {
        for role in [Role::Prompt, Role::Negative] {
            let parsed = match parse(&text, syntax, role, N_CALLS) {
                Ok(parsed) => parsed,
                Err(error) => {
                    said.push(error.to_string());
                    continue;
                }
            };
            assert!(!parsed.parts.is_empty() && parsed.parts.iter().all(|part| !part.variants.is_empty()));
            let kind = match (parsed.parts.len(), parsed.is_constant()) {
                (1, true) => "accepted",
                (1, false) => "accepted scheduled",
                _ => "accepted joined",
            };
            let is_summed = parsed.parts.iter().any(|part| !part.sections.is_empty());
            let kind = if is_summed { "accepted summed" } else { kind };
            said.push(kind.to_owned());
            said.extend(parsed.notes);
            let is_cut = role == Role::Negative;
            match tokenize(&parsed.parts[0].variants[0], syntax, small_tokenizer(), is_cut) {
                Ok(tokenized) => {
                    let is_whole = |chunk: &darkroom::prompt::Chunk| chunk.ids.len() == 77 && chunk.weights.len() == 77;
                    assert!(!tokenized.chunks.is_empty() && tokenized.chunks.iter().all(is_whole));
                    said.extend((tokenized.chunks.len() > 1).then(|| "accepted in chunks".to_owned()));
                    said.extend(tokenized.truncated.map(|_| "accepted and cut".to_owned()));
                    said.extend(tokenized.unknown.first().map(|_| "no such embedding".to_owned()));
                }
                Err(error) => said.push(error.to_string()),
            }
        }
    }
    said.join(" | ")
}

/// A picture file: what it carries, what reading it takes, and its pixels, as a picture and as a mask.
pub fn pictures(bytes: &[u8]) -> String {
    let said = |result: darkroom::Result<String>| {
        let words = result.unwrap_or_else(|error| error.to_string());
        assert!(words.len() < 4000, "a message that shouts: {words:?}");
        words
    };
    let texts = picture_text(bytes).map(|texts| {
        let found = Found::in_text(&texts);
        format!("texts accepted with {} of {}", texts.len().min(4), found.map_or("nobody".to_owned(), |f| f.program))
    });
    let needed = match memory_needed(bytes) {
        Ok(needed) => needed,
        Err(error) => return format!("{} | {}", said(texts), said(Err(error))),
    };
    if needed > MOST_PICTURE_BYTES {
        return format!("{} | large", said(texts));
    }
    let picture = decode(bytes);
    let (mask, edit) = (decode_mask(bytes), decode_edit_mask(bytes));
    assert_eq!(picture.is_ok(), mask.is_ok() && edit.is_ok());
    if let (Ok(picture), Ok((mask, _))) = (&picture, &mask) {
        assert_eq!(picture.pixels.len(), picture.width * picture.height * 3);
        assert_eq!((picture.width, picture.height), (mask.width, mask.height));
    }
    format!("{} | {}", said(texts), said(picture.map(|_| "pixels accepted".to_owned())))
}

/// Text of a picture under a keyword, with [`FILE_END`] between them: what is found in it.
pub fn parameters(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else { return "not utf".into() };
    let parts: Vec<&str> = text.split(FILE_END as char).collect();
    let pairs: Vec<(String, String)> =
        parts.chunks(2).map(|pair| (pair[0].to_owned(), pair.get(1).unwrap_or(&"").to_string())).collect();
    let Some(found) = Found::in_text(&pairs) else { return "nothing".into() };
    let json = serde_json::to_string(&found).expect("settings as JSON");
    let settings = &found.settings;
    let marks = [
        settings.prompt.is_some(),
        settings.negative_prompt.is_some(),
        settings.steps.is_some(),
        settings.knows_sampler(),
        settings.seed.is_some(),
        settings.width.is_some(),
        settings.strength.is_some(),
        settings.model.is_some(),
        json.len() > 1000,
    ];
    let marks: Vec<&str> = marks.iter().map(|&mark| if mark { "yes" } else { "no" }).collect();
    format!("accepted of {} {} {}", found.program.to_lowercase(), marks.join(" "), found.notes.join(" "))
}

/// A prompt, and names of wildcards with their files, with [`FILE_END`] between them: what the prompt becomes.
pub fn wildcards(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else { return "not utf".into() };
    let mut parts = text.split(FILE_END as char);
    let prompt = parts.next().unwrap_or_default();
    let parts: Vec<&str> = parts.collect();
    let mut lists = Wildcards::new();
    for pair in parts.chunks(2) {
        lists.add(pair[0], pair.get(1).unwrap_or(&""));
    }
    let seed = bytes.len() as u64;
    let outcome = expand(prompt, Some(&lists), seed);
    assert_eq!(outcome.as_ref().ok(), expand(prompt, Some(&lists), seed).as_ref().ok(), "the seed decides");
    match (outcome, expand(prompt, None, seed)) {
        (Ok(expanded), _) if !is_template(prompt) => {
            assert_eq!(expanded.text, prompt);
            "accepted as it was".into()
        }
        (Ok(expanded), without) => {
            let words = if expanded.text.len() > prompt.len() { "longer" } else { "shorter" };
            format!("accepted {words} with {} notes and {}", expanded.notes.len().min(2), without.is_ok())
        }
        (Err(error), _) => error.to_string(),
    }
}

/// A file that goes on with zeros to where its header says that it ends, so that shapes of any size pass.
struct Padded {
    bytes: Vec<u8>,
    len: u64,
}

impl Padded {
    /// The most that it claims to have.
    const MOST_BYTES: u64 = 1 << 44;

    fn new(bytes: &[u8]) -> Self {
        let n_header = bytes.first_chunk().map_or(0, |prefix| u64::from_le_bytes(*prefix));
        let end = usize::try_from(n_header).ok().and_then(|n| n.checked_add(8));
        let header = end.and_then(|end| bytes.get(8..end)).unwrap_or_default();
        let tensors: Option<serde_json::Map<String, serde_json::Value>> = serde_json::from_slice(header).ok();
        let ends = tensors.iter().flatten().filter_map(|(_, entry)| entry.get("data_offsets")?.get(1)?.as_u64());
        let len = ends.max().map_or(0, |end| end.saturating_add(8 + n_header)).min(Self::MOST_BYTES);
        Padded { bytes: bytes.to_vec(), len: len.max(bytes.len() as u64) }
    }
}

impl ByteSource for Padded {
    fn name(&self) -> &str {
        "model.safetensors"
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn read<'a>(&'a self, offset: u64, len: usize) -> LocalFuture<'a, darkroom::Result<Vec<u8>>> {
        let end = offset.checked_add(len as u64).expect("a place in the file");
        assert!(end <= self.len && len <= self.bytes.len().max(1 << 15), "{len} bytes from {offset} of {}", self.len);
        let byte = |at| self.bytes.get(at as usize).copied().unwrap_or(0);
        Box::pin(std::future::ready(Ok((offset..end).map(byte).collect())))
    }
}

/// Any file: what it is, as JSON and as lines, or why it cannot be read.
pub fn inspect(bytes: &[u8]) -> String {
    let report = match block_on(darkroom::checkpoint::inspect::inspect(Box::new(Padded::new(bytes)), None)) {
        Ok(report) => report,
        Err(error) => {
            let message = error.to_string();
            assert!(message.len() < 2000 && !message.contains(char::is_control), "a message that shouts: {message:?}");
            return message;
        }
    };
    let json = serde_json::to_value(&report).expect("a report as JSON");
    let lines = report.lines();
    assert!((2..40).contains(&lines.len()), "{lines:#?}");
    assert!(lines.iter().all(|line| line.len() < 6000 && !line.contains(['\n', '\r'])), "{lines:#?}");
    let word = |key: &str| json[key].as_str().unwrap_or("none").to_lowercase();
    let of_lora = json["lora"]["format"].as_str().unwrap_or("none");
    let marks = [!report.advice.is_empty(), report.about.tags.is_empty(), report.refused, report.opens];
    let marks: Vec<&str> = marks.iter().map(|&mark| if mark { "yes" } else { "no" }).collect();
    format!(
        "accepted {} {} {} {} {} {of_lora} {}",
        word("kind"),
        word("family"),
        word("variant"),
        word("prediction"),
        word("decided_by"),
        marks.join(" ")
    )
}

/// The configs of a tiny model, and its weights by component.
struct TinyModel {
    configs: ModelConfigs,
    weights: Vec<(Component, Weights)>,
}

impl TinyModel {
    fn open() -> Self {
        macro_rules! file {
            ($files:expr, $path:literal) => {
                $files.with($path, &include_bytes!(concat!("../fixtures/tiny/v1-5/", $path))[..])
            };
        }
        let files = MemoryFiles::new("tiny");
        let files = file!(files, "model_index.json");
        let files = file!(files, "scheduler/scheduler_config.json");
        let files = file!(files, "text_encoder/config.json");
        let files = file!(files, "unet/config.json");
        let files = file!(files, "vae/config.json");
        let files = file!(files, "tokenizer/special_tokens_map.json");
        let files = file!(files, "tokenizer/tokenizer_config.json");
        let files = files
            .with("tokenizer/vocab.json", &include_bytes!("../fixtures/tiny/tokenizer/vocab.json")[..])
            .with("tokenizer/merges.txt", &include_bytes!("../fixtures/tiny/tokenizer/merges.txt")[..])
            .with("text_encoder/model.safetensors", &[][..])
            .with("unet/diffusion_pytorch_model.safetensors", &[][..])
            .with("vae/diffusion_pytorch_model.safetensors", &[][..]);
        let listed = block_on(files.list()).expect("the files of a model");
        let configs = block_on(ModelConfigs::read(&files, &listed)).expect("the configs of a model");
        let weights = [Component::TextEncoder, Component::Unet].map(|component| {
            let specs = configs.weight_specs(component).expect("the tensors of a model");
            let file: Box<dyn ByteSource> = Box::new(RandomWeights::new(&specs));
            (component, block_on(Weights::open(vec![file])).expect("weights"))
        });
        TinyModel { configs, weights: weights.into() }
    }
}

thread_local! {
    static TINY: TinyModel = TinyModel::open();
}

/// An embedding's file.
pub fn embedding(bytes: &[u8]) -> String {
    let source = Box::new(MemorySource::new("word.safetensors", bytes.to_vec()));
    match block_on(darkroom::checkpoint::embedding::open("word", source, None)) {
        Ok(embedding) => {
            let counts: Vec<usize> = embedding.vectors.iter().map(|(width, values)| values.len() / width).collect();
            assert!(embedding.vectors.iter().all(|(width, values)| *width > 0 && values.len().is_multiple_of(*width)));
            assert!(counts.iter().all(|n| *n == counts[0] && *n > 0), "{counts:?}");
            format!("accepted {}", counts.len())
        }
        Err(error) => {
            let message = error.to_string();
            assert!(message.len() < 4000 && !message.contains(['\n', '\r']), "a message that shouts: {message:?}");
            message
        }
    }
}

/// A LoRA: opened, fitted to a model, and merged into every tensor that it changes.
pub fn lora(bytes: &[u8]) -> String {
    let merged = TINY.with(|model| {
        let source = Box::new(MemorySource::new("lora.safetensors", bytes.to_vec()));
        let file = block_on(LoraFile::open("lora", source))?;
        let lora = std::rc::Rc::new(file.fit(&model.configs, None)?);
        let used = [LoraUse { text_strength: Some(-0.5), ..LoraUse::new("lora", 0.5) }];
        let active = ActiveLoras::of(&used, &[std::rc::Rc::clone(&lora)])?;
        let mut kinds = std::collections::BTreeSet::new();
        for (component, weights) in &model.weights {
            let merged = weights.merged(active.changes(*component));
            for (_, tensor, change) in lora.changes.iter().filter(|(of, ..)| of == component) {
                let n = merged.get(tensor).map_or(0, |tensor| tensor.shape.iter().product());
                let values = block_on(merged.read_f32(tensor))?;
                assert_eq!(values.len(), n, "{tensor}");
                // In pieces that are no whole rows it is the same.
                let piece = block_on(merged.read_values(tensor, n / 3, n / 2))?;
                let whole = &values[n / 3..n / 3 + n / 2];
                let is_same = |(a, b): (&f32, &f32)| {
                    !a.is_finite() || !b.is_finite() || (a - b).abs() <= 1e-3 * (a.abs() + b.abs() + 1.0)
                };
                assert!(piece.iter().zip(whole).all(is_same), "{tensor}");
                kinds.insert(change.kind());
            }
        }
        Ok::<_, darkroom::Error>(kinds.into_iter().collect::<Vec<_>>().join(" "))
    });
    match merged {
        Ok(kinds) => format!("accepted {kinds}"),
        Err(error) => {
            let message = error.to_string();
            assert!(message.len() < 4000 && !message.contains(['\n', '\r']), "a message that shouts: {message:?}");
            message
        }
    }
}
