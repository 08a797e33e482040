//! What comes from strangers is fuzzed: safetensors and GGUF files, the JSON of checkpoints and of the Hub, the files of a
//! tokenizer, prompts, picture files of every format that is read, the texts in them, and files of which it is to be told what they
//! are. None of it may panic, take its time, or take memory that its size does not explain.
//!
//! cargo-fuzz needs a nightly compiler, and so does every library that measures coverage; this loop runs on the stable one.
//! It starts from the corpus (tests/fixtures/fuzz, the small checkpoints of tests/fixtures/tiny, and the pictures of
//! tests/fixtures/pictures), mutates it with
//! knowledge of the format ([`mutate`]) and keeps what made the code say something new. The sequence of inputs is the same
//! on every run; `DARKROOM_FUZZ_SECS` says for how many seconds each target goes on with it. An input that fails is
//! written to a file, which the message names: put it into tests/fixtures/fuzz/<target>, and it is tried first from then
//! on. Where there is a nightly compiler, `cargo +nightly fuzz run safetensors tests/fixtures/fuzz/safetensors` runs the
//! same functions.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

#[path = "fuzz/allocations.rs"]
mod allocations;
#[path = "common/headers.rs"]
mod headers;
#[path = "fuzz/mutate.rs"]
mod mutate;
#[path = "fuzz/targets.rs"]
mod targets;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mutate::Rng;

/// How long a target runs where nothing else is said: enough for thousands of inputs, short enough for every test run.
const DEFAULT_SECS: f64 = 3.0;

/// The longest that one input may take. They have kilobytes, and a busy machine is slow.
const SLOWEST: Duration = Duration::from_secs(10);

/// Inputs grow by mutation; beyond this they are left alone.
const LONGEST_INPUT: usize = 1 << 16;

struct Target {
    name: &'static str,
    run: fn(&[u8]) -> String,
    mutate: fn(&mut Rng, &mut Vec<u8>),
    /// The memory that an input may take: so many bytes, and so many more for each of its own.
    memory: (usize, usize),
    /// What mutated inputs must have led to at least once, or the loop does not reach what it is there for.
    reached: &'static [&'static str],
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The files below `folder` that `wanted` likes, in alphabetical order.
fn files(folder: &Path, wanted: &dyn Fn(&Path) -> bool) -> Vec<Vec<u8>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: &PathBuf| {
        if path.is_dir() {
            files(path, wanted)
        } else if wanted(path) {
            vec![std::fs::read(path).unwrap()]
        } else {
            Vec::new()
        }
    };
    paths.iter().flat_map(read).collect()
}

/// The words of an outcome without what the input put into it: names of tensors, numbers, quotes.
fn signature(outcome: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    let is_own = |word: &str| word.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == '|');
    let unquoted = outcome.split(['"', '`']).step_by(2);
    let mut before = "";
    for word in unquoted.flat_map(|part| part.split([' ', ':', ','])) {
        if is_own(word) && before != "tensor" {
            word.hash(&mut hasher);
        }
        before = word;
    }
    hasher.finish()
}

/// Runs one input; `Err` says what was wrong with that.
fn attempt(target: &Target, input: &[u8], failing: &Path) -> Result<String, String> {
    let start = Instant::now();
    allocations::on_refusal(Some((failing.to_owned(), input.to_vec())));
    let (outcome, peak) = allocations::peak_of(|| catch_unwind(AssertUnwindSafe(|| (target.run)(input))));
    allocations::on_refusal(None);
    let outcome = outcome.map_err(|_| "it panicked, as said above".to_owned())?;
    let (base, per_byte) = target.memory;
    let allowed = base + per_byte * input.len();
    if peak > allowed {
        return Err(format!("it took {peak} bytes of memory, and {allowed} are allowed for {} of input", input.len()));
    }
    if start.elapsed() > SLOWEST {
        return Err(format!("it took {:?}", start.elapsed()));
    }
    Ok(outcome)
}

fn fuzz(target: &Target, corpus: Vec<Vec<u8>>) {
    let secs = std::env::var("DARKROOM_FUZZ_SECS").map_or(DEFAULT_SECS, |text| text.parse().expect("seconds"));
    let end = Instant::now() + Duration::from_secs_f64(secs);
    let failing = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{}", target.name));
    assert!(!corpus.is_empty(), "{} has no corpus", target.name);

    let (mut pool, mut seen, mut n_runs, mut n_accepted) = (Vec::<Vec<u8>>::new(), BTreeSet::new(), 0, 0);
    let mut to_reach: Vec<&str> = target.reached.to_vec();
    let mut rng = Rng::new(1);
    let n_seeds = corpus.len();
    let mut corpus = corpus.into_iter();
    loop {
        let seed = corpus.next();
        let is_seed = seed.is_some();
        let input = seed.unwrap_or_else(|| {
            // Half of the time from the corpus itself, since most of what is kept is broken already.
            let n: usize = if rng.below(2) == 0 { n_seeds } else { pool.len() };
            let mut input = pool[rng.below(n)].clone();
            (target.mutate)(&mut rng, &mut input);
            input
        });
        if !is_seed && Instant::now() > end {
            break;
        }
        let outcome = attempt(target, &input, &failing).unwrap_or_else(|reason| {
            std::fs::write(&failing, &input).unwrap();
            panic!("{}: {reason}; input {n_runs} is in {}", target.name, failing.display())
        });
        n_runs += 1;
        n_accepted += usize::from(outcome.contains("accepted"));
        to_reach.retain(|words| !outcome.contains(words));
        if is_seed || (seen.insert(signature(&outcome)) && input.len() < LONGEST_INPUT) {
            pool.push(input);
        }
    }
    println!("{}: {n_runs} inputs, {n_accepted} accepted, {} outcomes, {} kept", target.name, seen.len(), pool.len());
    // A run too short to say anything (DARKROOM_FUZZ_SECS=0 tries the corpus alone) is not judged by what it reached.
    assert!(n_runs < 20_000 || to_reach.is_empty(), "{}: {n_runs} inputs never led to {to_reach:?}", target.name);
}

#[test]
fn safetensors() {
    let target = Target {
        name: "safetensors",
        run: targets::safetensors,
        mutate: mutate::safetensors,
        // The file itself, its tensors as f32, and the other library's header are in it.
        memory: (64 << 10, 24),
        reached: &[
            "accepted with 4",
            "are allowed",
            "but the file ends after",
            "overlaps",
            "leaves a gap",
            "follow the header",
            "its offsets give it",
            "before its start",
            "unknown type",
            "larger than any file",
            "does not fill whole bytes",
            "control character",
            "unknown field",
            "at most 8 sides",
            "longer than 1024",
            "is there twice",
            "not UTF-8",
        ],
    };
    let mut corpus = files(&fixtures().join("fuzz/safetensors"), &|_| true);
    corpus.push([&2u64.to_le_bytes()[..], b"{}"].concat());
    fuzz(&target, corpus);
}

#[test]
fn gguf() {
    let target = Target {
        name: "gguf",
        run: targets::gguf,
        mutate: mutate::gguf,
        // The file itself three times, the window on its header, and its tensors as f32.
        memory: (64 << 10, 40),
        reached: &[
            "accepted with 4",
            "cannot be written",
            "goes on at",
            "are allowed",
            "overlaps",
            "leaves a gap",
            "multiple of the alignment",
            "follow the header",
            "has the unknown type",
            "list of the unknown type",
            "larger than any file",
            "not a multiple of the",
            "expected at most 4",
            "expected 2 or 3",
            "control character",
            "longer than 1024",
            "is there twice",
            "is not UTF-8",
            "was folded from",
            "at most 8 sides",
            "not a power of two",
        ],
    };
    let mut corpus = files(&fixtures().join("fuzz/gguf"), &|_| true);
    corpus.extend(files(&fixtures().join("gguf"), &|path| path.extension().is_some_and(|ext| ext == "gguf")));
    fuzz(&target, corpus);
}

#[test]
fn configs() {
    let is_config = |path: &Path| {
        let name = path.file_name().unwrap_or_default();
        name == "model_index.json" || name == "config.json" || name == "scheduler_config.json"
    };
    let mut corpus = files(&fixtures().join("fuzz/configs"), &|_| true);
    corpus.extend(files(&fixtures().join("tiny"), &is_config));
    let target = Target {
        name: "configs",
        run: targets::configs,
        mutate: mutate::json_text,
        memory: (256 << 10, 200),
        reached: &["is not supported", "not a multiple", "does not fit", "recursion limit", "missing field"],
    };
    fuzz(&target, corpus);
}

#[test]
fn tokenizer() {
    let folder = fixtures().join("fuzz/tokenizer");
    let target = Target {
        name: "tokenizer",
        run: targets::tokenizer,
        mutate: mutate::tokenizer,
        // The library compiles its patterns and keeps caches for every tokenizer.
        memory: (8 << 20, 2000),
        reached: &[
            "accepted",
            "is not in vocab.json",
            "is not in the vocabulary",
            "expected two tokens",
            "should have id",
        ],
    };
    fuzz(&target, files(&folder, &|_| true));
}

#[test]
fn prompts() {
    let target = Target {
        name: "prompts",
        run: targets::prompts,
        mutate: mutate::prompt,
        // A prompt that changes over the calls has a text for each of twenty, every letter of which may be a fragment.
        memory: (8 << 20, 8000),
        reached: &[
            "accepted scheduled",
            "accepted joined",
            "accepted summed",
            "accepted in chunks",
            "accepted and cut",
            "brackets are read",
            "is a word in",
            "with compel's",
            "no such embedding",
            "tokens at most",
        ],
    };
    fuzz(&target, files(&fixtures().join("fuzz/prompts"), &|_| true));
}

#[test]
fn pictures() {
    let target = Target {
        name: "pictures",
        run: targets::pictures,
        mutate: mutate::picture,
        // Texts have 8 MiB, pixels and what decoders keep 16 MiB and what comes beside them.
        memory: (40 << 20, 64),
        reached: &[
            "pixels accepted",
            "texts accepted",
            "it is cut off",
            "large",
            "are too many",
            "damaged JPEG",
            "damaged PNG",
            "damaged WebP",
            "damaged GIF",
            "damaged TIFF",
            "a scan is missing",
            "not a picture file",
        ],
    };
    let is_small = |path: &Path| std::fs::metadata(path).is_ok_and(|file| file.len() < 8 << 10);
    let mut corpus = files(&fixtures().join("fuzz/pictures"), &|_| true);
    corpus.extend(files(&fixtures().join("pictures"), &is_small));
    fuzz(&target, corpus);
}

#[test]
fn parameters() {
    let target = Target {
        name: "parameters",
        run: targets::parameters,
        mutate: mutate::texts,
        memory: (256 << 10, 200),
        reached: &[
            "accepted of darkroom",
            "accepted of automatic1111",
            "accepted of comfyui",
            "accepted of swarmui",
            "accepted of novelai",
            "accepted of invokeai",
            "accepted of fooocus",
            "hires fix",
            "cannot be used here",
            "nothing",
        ],
    };
    fuzz(&target, files(&fixtures().join("fuzz/parameters"), &|_| true));
}

#[test]
fn wildcards() {
    let target = Target {
        name: "wildcards",
        run: targets::wildcards,
        mutate: mutate::template,
        // What comes out may be much longer than what went in, up to a bound.
        memory: (1 << 20, 200),
        reached: &[
            "accepted as it was",
            "accepted longer",
            "accepted shorter",
            "these names are there",
            "lead to themselves",
            "no line to choose",
        ],
    };
    fuzz(&target, files(&fixtures().join("fuzz/wildcards"), &|_| true));
}

#[test]
fn inspect() {
    let target = Target {
        name: "inspect",
        run: targets::inspect,
        mutate: mutate::safetensors,
        // The target's own look at the header is in it.
        memory: (1 << 20, 250),
        reached: &[
            "accepted checkpoint sd1",
            "accepted checkpoint sd2 base undecided",
            "accepted checkpoint sd2 base epsilon weights",
            "accepted unet xl",
            "accepted lora sd1",
            "accepted controlnet",
            "accepted embedding",
            "accepted other none",
            "Python pickle",
            "web page",
            "GGUF",
            "follow the header",
        ],
    };
    let mut corpus = files(&fixtures().join("fuzz/inspect"), &|_| true);
    let (lists, cases) = headers::table();
    let all = cases.iter().map(|case| headers::header(&lists, case).0);
    corpus.extend(all.filter(|header| header.len() < 8 << 10));
    fuzz(&target, corpus);
}

#[test]
fn embedding() {
    let target = Target {
        name: "embedding",
        run: targets::embedding,
        mutate: mutate::safetensors,
        memory: (2 << 20, 40),
        reached: &["accepted", "not a valid safetensors file"],
    };
    let corpus =
        files(&fixtures().join("embeddings"), &|path| path.extension().is_some_and(|end| end == "safetensors"));
    fuzz(&target, corpus);
}

#[test]
fn lora() {
    let target = Target {
        name: "lora",
        run: targets::lora,
        mutate: mutate::safetensors,
        // Merged matrices of the tiny model are in it.
        memory: (8 << 20, 400),
        reached: &["accepted product", "does not fit", "not in the model", "stands alone", "not a LoRA", "lacks"],
    };
    let mut corpus = files(&fixtures().join("fuzz/lora"), &|_| true);
    let is_small = |path: &Path| std::fs::metadata(path).is_ok_and(|file| file.len() < 20 << 10);
    corpus.extend(files(&fixtures().join("lora"), &|path| {
        path.extension().is_some_and(|end| end == "safetensors") && is_small(path)
    }));
    fuzz(&target, corpus);
}

#[test]
fn a_header_of_the_greatest_length_leaves_room_in_a_browser_tab() {
    use darkroom::weights::{ByteSource, MAX_HEADER_BYTES, MemorySource, Weights};
    // The shortest entries cost the most for their length.
    let fill = |open: &str, entry: &dyn Fn(usize) -> String, close: &str| {
        let mut header = open.to_owned();
        for i in 0.. {
            let entry = entry(i);
            if header.len() + entry.len() + close.len() + 1 > MAX_HEADER_BYTES as usize {
                break;
            }
            if i > 0 {
                header.push(',');
            }
            header.push_str(&entry);
        }
        header.push_str(close);
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()
    };
    let tensor = |i: usize| format!(r#""{i:x}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#);
    let word = |_: usize| "0".to_owned();
    for (kind, header) in [
        ("tensors", fill("{", &tensor, "}")),
        ("metadata", fill(r#"{"__metadata__":{"#, &|i| format!(r#""{i:x}":"""#), "}}")),
        ("one name", fill("{\"", &word, "\":0}")),
        ("one text", fill(r#"{"__metadata__":{"a":""#, &word, "\"}}")),
    ] {
        let source: Box<dyn ByteSource> = Box::new(MemorySource::new("m", header));
        let (opened, peak) = allocations::peak_of(|| pollster::block_on(Weights::open(vec![source])));
        println!("{kind}: {peak} bytes, {:?}", opened.as_ref().map(|_| ()).map_err(ToString::to_string));
        assert_eq!(opened.is_ok(), matches!(kind, "metadata" | "one text"), "{kind}");
        // The header itself, and what is kept of it.
        assert!(peak <= MAX_HEADER_BYTES as usize + (16 << 20), "{kind}: {peak} bytes for {MAX_HEADER_BYTES}");
    }
}

#[test]
fn the_allocator_counts() {
    let ((), peak) = allocations::peak_of(|| drop(std::hint::black_box(vec![0u8; 100_000])));
    assert!((100_000..101_000).contains(&peak), "{peak}");
    let ((), peak) = allocations::peak_of(|| ());
    assert_eq!(peak, 0);
}
