//! Ids are transformers' for 100 prompts and six configurations: fixtures of transformers 5.23 on the embedded model's
//! vocabulary, made by tools/fixtures/leaves.py.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use darkroom::Error;
use darkroom::tokenizer::{SpecialToken, Tokenizer, TokenizerConfig, TokenizerFiles};
use serde::Deserialize;

const VOCAB: &str = include_str!("fixtures/tokenizer/vocab.json");
const MERGES: &str = include_str!("fixtures/tokenizer/merges.txt");

#[derive(Deserialize)]
struct Fixture {
    configs: Vec<Config>,
}

#[derive(Deserialize)]
struct Config {
    name: String,
    length: usize,
    bos: u32,
    eos: u32,
    pad: u32,
    /// Null where the answer is that of the first configuration.
    prompts: Vec<Option<Prompt>>,
    tokenizer_config: Option<String>,
    special_tokens_map: Option<String>,
}

#[derive(Deserialize)]
struct Prompt {
    text: String,
    /// All tokens of the text, also those that do not fit, without start and end.
    tokens: Vec<u32>,
    cut: Option<String>,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("fixtures/tokenizer/clip.json")).unwrap()
}

fn framed(config: &Config, tokens: &[u32]) -> Vec<u32> {
    let mut ids = vec![config.bos];
    ids.extend_from_slice(tokens);
    ids.push(config.eos);
    ids.resize(config.length, config.pad);
    ids
}

#[test]
fn ids_are_those_of_transformers() {
    let fixture = fixture();
    assert_eq!(fixture.configs.len(), 6);
    let mut failures = Vec::new();
    for config in &fixture.configs {
        let files =
            TokenizerConfig::from_json(config.tokenizer_config.as_deref(), config.special_tokens_map.as_deref());
        let tokenizer = Tokenizer::new(VOCAB, MERGES, &files.unwrap()).unwrap();
        assert_eq!((tokenizer.chunk_len(), tokenizer.tokens_per_chunk()), (config.length, config.length - 2));
        for (prompt, first) in config.prompts.iter().zip(&fixture.configs[0].prompts) {
            let prompt = prompt.as_ref().or(first.as_ref()).unwrap();
            let n = prompt.tokens.len();
            let room = config.length - 2;
            let got = tokenizer.encode(&prompt.text).unwrap();
            let chunks = tokenizer.encode_chunks(&prompt.text).unwrap();
            let rejoined: Vec<u32> = chunks.iter().flat_map(|c| c[1..=room].to_vec()).take(n).collect();
            for (what, same) in [
                ("ids", got.ids == framed(config, &prompt.tokens[..n.min(room)])),
                ("number of tokens", got.n_tokens == n && tokenizer.count(&prompt.text).unwrap() == n),
                ("cut text", got.truncated == prompt.cut),
                ("number of chunks", chunks.len() == n.div_ceil(room).max(1)),
                ("chunks", rejoined == prompt.tokens && chunks.iter().all(|c| c.len() == config.length)),
                (
                    "last chunk",
                    chunks.last() == Some(&framed(config, prompt.tokens.chunks(room).last().unwrap_or(&[]))),
                ),
            ] {
                if !same {
                    failures.push(format!(
                        "{}: {what} of {:?}\n  got {got:?}\n  expected {:?} and cut {:?}",
                        config.name, prompt.text, prompt.tokens, prompt.cut
                    ));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} differ\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn the_corpus_is_as_hostile_as_it_claims() {
    let texts: Vec<String> = fixture().configs[0].prompts.iter().flatten().map(|p| p.text.clone()).collect();
    assert!(texts.len() >= 100);
    assert!(texts.iter().any(String::is_empty));
    assert!(texts.iter().any(|t| t.contains('\0')));
    assert!(texts.iter().any(|t| t.split_whitespace().count() >= 500));
    assert!(texts.iter().any(|t| t.contains('\u{200d}')));
}

#[test]
fn configuration_files() {
    let read = TokenizerConfig::from_json;
    assert_eq!(read(None, None).unwrap(), TokenizerConfig::default());
    // 1e30, spelled as transformers writes "no limit known".
    let unknown = r#"{"model_max_length": 1000000000000000019884624838656, "pad_token": null, "errors": "replace"}"#;
    assert_eq!(read(Some(unknown), None).unwrap(), TokenizerConfig::default());
    // The map overrides the config, and an object keeps its matching rules.
    let map = r#"{"pad_token": {"content": "!", "normalized": true, "rstrip": true}}"#;
    let config = read(Some(r#"{"pad_token": "?", "bos_token": "<s>"}"#), Some(map)).unwrap();
    assert_eq!(config.pad_token, SpecialToken { normalized: true, rstrip: true, ..SpecialToken::plain("!") });
    assert_eq!(config.bos_token, SpecialToken::plain("<s>"));
    // Padding in front would move every position.
    assert!(read(Some(r#"{"padding_side": "right"}"#), None).is_ok());
    let error = read(Some(r#"{"padding_side": "left"}"#), None).unwrap_err().to_string();
    assert!(error.contains("padding_side") && error.contains("right is supported"), "{error}");
}

fn reason(error: &Error) -> String {
    assert!(matches!(error, Error::Tokenizer { .. }), "{error:?}");
    error.to_string()
}

#[test]
fn malformed_files_are_named() {
    let config = TokenizerConfig::default();
    let small = r#"{"a": 0, "b": 1, "ab": 2, "<|startoftext|>": 3, "<|endoftext|>": 4}"#;
    assert!(Tokenizer::new(small, "#version: 0.2\na b\n", &config).is_ok());
    for (vocab, merges, expected) in [
        ("", "", "vocab.json: EOF"),
        ("[]", "", "vocab.json: invalid type"),
        (r#"{"a": -1}"#, "", "vocab.json: invalid value"),
        (r#"{"a": 0}"#, "", r#"vocab.json: the bos_token "<|startoftext|>" is not in the vocabulary"#),
        (small, "#version: 0.2\na b\nab", "merges.txt: line 3: expected two tokens with a space between, got \"ab\""),
        (small, "a b c", "merges.txt: line 1: expected two tokens"),
        (small, "a \n", "merges.txt: line 1: expected two tokens"),
        (small, "a b\n\n", "merges.txt: line 2: expected two tokens"),
        (small, "a c", "merges.txt: line 1: token \"c\" is not in vocab.json"),
        // The library would write past its buffer here.
        (small, "<|startoftext|> <|endoftext|>", "merges.txt: line 1: token \"<|startoftext|><|endoftext|>\""),
    ] {
        let error = Tokenizer::new(vocab, merges, &config).unwrap_err();
        assert!(reason(&error).starts_with(expected), "{error} for {expected}");
    }
    for (config, map, expected) in [
        (Some("{"), None, "tokenizer_config.json: "),
        (Some(r#"{"pad_token": 3}"#), None, "tokenizer_config.json: a token is neither"),
        (Some(r#"{"model_max_length": 2}"#), None, "tokenizer_config.json: model_max_length is 2"),
        (Some(r#"{"model_max_length": 100000}"#), None, "tokenizer_config.json: model_max_length is 100000"),
        (Some(r#"{"model_max_length": 76.5}"#), None, "tokenizer_config.json: model_max_length is 76.5"),
        (None, Some(r#"{"eos_token": {"text": "x"}}"#), "special_tokens_map.json: a token is neither"),
        (None, Some("\u{feff}{}"), "special_tokens_map.json: "),
    ] {
        let error = TokenizerConfig::from_json(config, map).unwrap_err();
        assert!(reason(&error).starts_with(expected), "{error} for {expected}");
    }
}

#[test]
fn added_tokens_must_have_the_ids_they_claim() {
    let claims = |id: u32| {
        let json = format!(r#"{{"added_tokens_decoder": {{"{id}": {{"content": "<cat>", "normalized": false}}}}}}"#);
        Tokenizer::new(VOCAB, MERGES, &TokenizerConfig::from_json(Some(&json), None).unwrap())
    };
    // A concept learnt by textual inversion takes the first id behind the vocabulary.
    let tokenizer = claims(2914).unwrap();
    assert_eq!(tokenizer.encode("a <cat>").unwrap().ids[2], 2914);
    assert!(reason(&claims(5).unwrap_err()).contains("should have id 5"));
}

#[derive(Deserialize)]
struct Words {
    n_vocab: u32,
    prompts: Vec<String>,
    cases: Vec<WordsCase>,
}

#[derive(Deserialize)]
struct WordsCase {
    name: String,
    length: usize,
    files: WordsFiles,
    /// By prompt; what follows is the last one over and over.
    ids: Vec<Vec<u32>>,
}

#[derive(Deserialize)]
struct WordsFiles {
    tokenizer_config: Option<String>,
    special_tokens_map: Option<String>,
    added_tokens: Option<String>,
    /// Without vocabulary and merges.
    tokenizer: Option<String>,
}

/// Puts the vocabulary into a `tokenizer.json`, and the merges in the form that it asks for.
fn filled(text: &str) -> String {
    let mut json: serde_json::Value = serde_json::from_str(text).unwrap();
    let model = &mut json["model"];
    let joined = model["merges"] == "joined";
    model["vocab"] = serde_json::from_str(VOCAB).unwrap();
    let lines = MERGES.lines().filter(|line| !line.starts_with("#version"));
    let merge = |line: &str| match joined {
        true => serde_json::json!(line),
        false => serde_json::json!(line.split(' ').collect::<Vec<_>>()),
    };
    model["merges"] = lines.map(merge).collect();
    json.to_string()
}

/// Fixtures of transformers 5.23, made by tools/fixtures/files.py.
#[test]
fn words_that_were_added_are_tokens_wherever_they_are_kept() {
    let words: Words = serde_json::from_str(include_str!("fixtures/tokenizer/words.json")).unwrap();
    let mut failures = Vec::new();
    let mut n_added = 0;
    for case in &words.cases {
        let whole = case.files.tokenizer.as_deref().map(filled);
        let config = TokenizerConfig::from_files(&TokenizerFiles {
            tokenizer_config: case.files.tokenizer_config.as_deref(),
            special_tokens_map: case.files.special_tokens_map.as_deref(),
            added_tokens: case.files.added_tokens.as_deref(),
            tokenizer: whole.as_deref(),
        })
        .unwrap();
        let tokenizer = match &whole {
            Some(whole) => Tokenizer::from_tokenizer_json(whole, &config).unwrap(),
            None => Tokenizer::new(VOCAB, MERGES, &config).unwrap(),
        };
        for (prompt, ids) in words.prompts.iter().zip(&case.ids) {
            let mut expected = ids.clone();
            expected.resize(case.length, *ids.last().unwrap());
            n_added += expected.iter().filter(|id| **id >= words.n_vocab).count();
            let got = tokenizer.encode(prompt).unwrap().ids;
            if got != expected {
                failures.push(format!("{}: {prompt:?}\n  got {got:?}\n  expected {expected:?}", case.name));
            }
        }
    }
    assert!(failures.is_empty(), "{} differ\n{}", failures.len(), failures.join("\n"));
    assert!(words.cases.len() >= 25 && n_added > 100, "{} cases with {n_added} added tokens", words.cases.len());
}

#[test]
fn a_tokenizer_json_of_another_kind_is_refused() {
    let config = TokenizerConfig::default();
    for (text, words) in [
        ("", "tokenizer.json: EOF"),
        ("[]", "tokenizer.json: is not an object"),
        ("{}", "tokenizer.json: has no model"),
        (r#"{"model":{"type":"Unigram","vocab":[]}}"#, "CLIP's tokenizer is BPE"),
        (r#"{"model":{"type":"BPE","vocab":{"a":-1},"merges":[]}}"#, "the id -1"),
        (r#"{"model":{"vocab":{"a":0},"merges":["a b"]}}"#, "merge 0: token \"b\""),
        (r#"{"model":{"vocab":{"a":0},"merges":[["a"]]}}"#, "merge 0: expected two tokens"),
        (r#"{"model":{"vocab":{"a":0},"merges":[]}}"#, "the bos_token"),
    ] {
        let error = Tokenizer::from_tokenizer_json(text, &config).unwrap_err();
        assert!(reason(&error).contains(words), "{error} for {words}");
    }
}
