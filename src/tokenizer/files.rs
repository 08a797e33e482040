//! The files of a tokenizer as types: the vocabulary, what the special tokens are, and the words that were added.
//!
//! Added words are kept in other places by each generation of transformers: `added_tokens_decoder` in
//! `tokenizer_config.json` (4.34 and later), `added_tokens.json` (before), `added_tokens` in `tokenizer.json` (5, and the
//! fast tokenizers), `additional_special_tokens` or `extra_special_tokens` in either JSON of special tokens. What wins
//! over what, and the order in which words get their ids, are those of transformers 5.23.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};
use tokenizers::AddedToken;
use tokenizers::models::bpe::Merges;

use crate::error::{Error, Result};
use crate::json;

/// Ids of one prompt when the files do not say otherwise: the text encoder's number of positions.
const CLIP_MAX_LENGTH: usize = 77;
/// Ids of a chunk at most, in configs that may be anyone's.
const MAX_LENGTH: f64 = 10_000.0;
/// Words that may be added at most: far more than any model was taught, few enough to look for in a prompt.
const MAX_ADDED: usize = 100_000;

/// The names of the files, for messages.
const CONFIG: &str = "tokenizer_config.json";
const MAP: &str = "special_tokens_map.json";
const ADDED: &str = "added_tokens.json";
const WHOLE: &str = "tokenizer.json";

/// A special token as the configuration files declare it: a string, or an object with matching rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialToken {
    /// The text that stands for the token.
    pub content: String,
    /// Look for it after normalisation, that is also in other letter case, instead of before.
    pub normalized: bool,
    /// Match only where no letter or digit touches it.
    pub single_word: bool,
    /// Swallow the white space before it.
    pub lstrip: bool,
    /// Swallow the white space after it.
    pub rstrip: bool,
}

impl SpecialToken {
    /// A token declared by its text alone, which is looked for before normalisation.
    #[must_use]
    pub fn plain(content: &str) -> Self {
        Self { content: content.to_owned(), normalized: false, single_word: false, lstrip: false, rstrip: false }
    }

    fn to_added(&self, special: bool) -> AddedToken {
        AddedToken::from(self.content.clone(), special)
            .normalized(self.normalized)
            .single_word(self.single_word)
            .lstrip(self.lstrip)
            .rstrip(self.rstrip)
    }

    /// A string, or an object with a `content`. Where the object does not tell, a token is looked for after normalisation
    /// unless it is special.
    fn from_json(json: &Value, file: &str, special_by_default: bool) -> Result<AddedWord> {
        let refuse = || fail(file, "a token is neither a string nor an object with a `content`".to_owned());
        if let Value::String(content) = json {
            return Ok(AddedWord { token: Self::plain(content), special: true });
        }
        let Some(content) = json.get("content").and_then(Value::as_str) else { return refuse() };
        let flag = |name: &str| json.get(name).and_then(Value::as_bool);
        let special = flag("special").unwrap_or(special_by_default);
        let token = Self {
            content: content.to_owned(),
            normalized: flag("normalized").unwrap_or(!special),
            single_word: flag("single_word").unwrap_or(false),
            lstrip: flag("lstrip").unwrap_or(false),
            rstrip: flag("rstrip").unwrap_or(false),
        };
        Ok(AddedWord { token, special })
    }
}

/// A word that the files add to the vocabulary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedWord {
    /// Its text, and how it is looked for.
    pub token: SpecialToken,
    /// Whether it is a special token, which is no part of a text.
    pub special: bool,
}

impl AddedWord {
    /// Whether it is this token.
    pub(super) fn is(&self, token: &SpecialToken) -> bool {
        self.token.content == token.content
    }
}

/// The texts of a tokenizer's files besides the vocabulary; `None` for one that the repository does not have.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenizerFiles<'a> {
    /// `tokenizer_config.json`.
    pub tokenizer_config: Option<&'a str>,
    /// `special_tokens_map.json`.
    pub special_tokens_map: Option<&'a str>,
    /// `added_tokens.json`.
    pub added_tokens: Option<&'a str>,
    /// `tokenizer.json`.
    pub tokenizer: Option<&'a str>,
}

/// What the files besides the vocabulary say. The default is CLIP's, for repositories without them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizerConfig {
    /// Starts every chunk of ids.
    pub bos_token: SpecialToken,
    /// Ends every chunk of ids.
    pub eos_token: SpecialToken,
    /// Stands for what the vocabulary lacks. A byte-level vocabulary lacks nothing, but it must exist.
    pub unk_token: SpecialToken,
    /// Fills a chunk behind its end: `<|endoftext|>` for most, `!` for Stable Diffusion 2 and XL's second tokenizer.
    pub pad_token: SpecialToken,
    /// Ids of one chunk, start, end and padding included.
    pub model_max_length: usize,
    /// Words with the ids that the files give them, in whose order they get their own.
    pub added_tokens: BTreeMap<u32, AddedWord>,
    /// Special tokens that have a name besides the four above, with that name, and those that have none.
    pub other_tokens: Vec<(String, AddedWord)>,
    /// Special tokens without a name, which come after all others.
    pub extra_tokens: Vec<AddedWord>,
}

impl Default for TokenizerConfig {
    fn default() -> Self {
        Self {
            bos_token: SpecialToken::plain("<|startoftext|>"),
            eos_token: SpecialToken::plain("<|endoftext|>"),
            unk_token: SpecialToken::plain("<|endoftext|>"),
            pad_token: SpecialToken::plain("<|endoftext|>"),
            model_max_length: CLIP_MAX_LENGTH,
            added_tokens: BTreeMap::new(),
            other_tokens: Vec::new(),
            extra_tokens: Vec::new(),
        }
    }
}

impl TokenizerConfig {
    /// [`TokenizerConfig::from_files`] for a tokenizer that has no others than these two.
    ///
    /// # Errors
    /// As there.
    pub fn from_json(tokenizer_config: Option<&str>, special_tokens_map: Option<&str>) -> Result<Self> {
        Self::from_files(&TokenizerFiles { tokenizer_config, special_tokens_map, ..TokenizerFiles::default() })
    }

    /// Reads the files' texts.
    ///
    /// As in transformers, `tokenizer_config.json` describes the tokens alone where it has `added_tokens_decoder`.
    /// Otherwise `special_tokens_map.json` overrides it, and words come from `added_tokens.json` and from
    /// `tokenizer.json`, of which the latter wins. A `model_max_length` that is absent, or transformers' 1e30 for
    /// "unknown", becomes CLIP's 77.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] with the file's name where the JSON is malformed or a token is neither string nor object.
    pub fn from_files(files: &TokenizerFiles<'_>) -> Result<Self> {
        let mut config = Self::default();
        let mut has_decoder = false;
        let mut extra = Value::Null;
        if let Some(text) = files.tokenizer_config {
            let json = object(CONFIG, text)?;
            if let Some(side) = json.get("padding_side").filter(|side| !side.is_null() && *side != "right") {
                return fail(
                    CONFIG,
                    format!("padding_side is {side}: right is supported, which CLIP was trained with"),
                );
            }
            if let Some(length) = json.get("model_max_length").or_else(|| json.get("max_len")) {
                config.read_length(length)?;
            }
            config.read_named(&json, CONFIG, false)?;
            let lists = [json.get("extra_special_tokens"), json.get("additional_special_tokens")];
            extra = lists.into_iter().flatten().find(|list| !is_empty(list)).cloned().unwrap_or_default();
            if let Some(Value::Object(decoder)) = json.get("added_tokens_decoder") {
                has_decoder = true;
                for (id, token) in decoder {
                    let id = id.parse().or_else(|_| fail(CONFIG, format!("added_tokens_decoder has the id {id:?}")))?;
                    config.added_tokens.insert(id, SpecialToken::from_json(token, CONFIG, false)?);
                }
            }
        }
        if !has_decoder {
            config.read_older(files, &mut extra)?;
        }
        config.read_extra(&extra)?;
        let n_added = config.added_tokens.len() + config.other_tokens.len() + config.extra_tokens.len();
        if n_added > MAX_ADDED {
            return fail(CONFIG, format!("{n_added} tokens are added: {MAX_ADDED} at most are supported"));
        }
        Ok(config)
    }

    /// What files without `added_tokens_decoder` say besides `tokenizer_config.json`.
    fn read_older(&mut self, files: &TokenizerFiles<'_>, extra: &mut Value) -> Result<()> {
        // The map's `additional_special_tokens` are not among those that make a word of added_tokens.json special.
        let words = |list: &Value| -> Vec<String> {
            list.as_array().into_iter().flatten().filter_map(|token| Some(token.as_str()?.to_owned())).collect()
        };
        let mut special_extra = words(extra);
        if let Some(text) = files.special_tokens_map {
            let json = object(MAP, text)?;
            self.read_named(&json, MAP, true)?;
            match (json.get("extra_special_tokens"), json.get("additional_special_tokens")) {
                (Some(list @ Value::Array(more)), _) => {
                    special_extra.extend(words(list));
                    match extra {
                        Value::Array(known) => known
                            .extend(more.iter().filter(|token| !known.contains(token)).cloned().collect::<Vec<_>>()),
                        _ => *extra = list.clone(),
                    }
                }
                (Some(named @ Value::Object(_)), _) => self.read_extra(named)?,
                (_, Some(list)) if is_empty(extra) => *extra = list.clone(),
                _ => {}
            }
        }
        if let Some(text) = files.added_tokens {
            let named = [&self.bos_token, &self.eos_token, &self.unk_token, &self.pad_token];
            let mut special: Vec<String> = named.map(|token| token.content.clone()).to_vec();
            special.extend(self.other_tokens.iter().map(|(_, word)| word.token.content.clone()));
            special.extend(special_extra);
            for (content, id) in object(ADDED, text)? {
                let id = id_of(&id, ADDED, &content)?;
                let special = special.contains(&content);
                let token = SpecialToken { normalized: !special, ..SpecialToken::plain(&content) };
                self.added_tokens.insert(id, AddedWord { token, special });
            }
        }
        if let Some(text) = files.tokenizer {
            let json = object(WHOLE, text)?;
            for token in json.get("added_tokens").and_then(Value::as_array).into_iter().flatten() {
                let word = SpecialToken::from_json(token, WHOLE, false)?;
                let id = token.get("id").cloned().unwrap_or_default();
                self.added_tokens.insert(id_of(&id, WHOLE, &word.token.content)?, word);
            }
        }
        Ok(())
    }

    fn read_length(&mut self, json: &Value) -> Result<()> {
        let length = match json {
            Value::Null => return Ok(()),
            Value::String(text) if text == "inf" => f64::INFINITY,
            json => match json.as_f64() {
                Some(length) => length,
                None => return fail(CONFIG, format!("model_max_length is {json}: expected a number")),
            },
        };
        if !(length >= 3.0 && (length.fract() == 0.0 || length.is_infinite())) {
            return fail(CONFIG, format!("model_max_length is {length}: expected a whole number of at least 3"));
        }
        // transformers writes 1e30 for "unknown".
        if (MAX_LENGTH..1e9).contains(&length) {
            return fail(CONFIG, format!("model_max_length is {length}: {MAX_LENGTH} at most is supported"));
        }
        if length < MAX_LENGTH {
            self.model_max_length = length as usize;
        }
        Ok(())
    }

    /// Reads the tokens that have a name: the four of CLIP and any other `…_token`. Null is the same as absent.
    fn read_named(&mut self, json: &Map<String, Value>, file: &str, special_by_default: bool) -> Result<()> {
        for (name, token) in json {
            let slot = match name.as_str() {
                "bos_token" => Some(&mut self.bos_token),
                "eos_token" => Some(&mut self.eos_token),
                "unk_token" => Some(&mut self.unk_token),
                "pad_token" => Some(&mut self.pad_token),
                _ => None,
            };
            match (slot, token) {
                (_, Value::Null) => {}
                (Some(slot), token) => *slot = SpecialToken::from_json(token, file, special_by_default)?.token,
                // `add_bos_token` and its like are switches.
                (None, Value::String(_) | Value::Object(_)) if name.ends_with("_token") => {
                    let word = SpecialToken::from_json(token, file, special_by_default)?;
                    self.name_token(name, AddedWord { special: true, ..word });
                }
                (None, _) => {}
            }
        }
        Ok(())
    }

    fn name_token(&mut self, name: &str, word: AddedWord) {
        match self.other_tokens.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = word,
            None => self.other_tokens.push((name.to_owned(), word)),
        }
    }

    /// Special tokens that are listed without a name, or with names that are no fields of their own.
    fn read_extra(&mut self, json: &Value) -> Result<()> {
        match json {
            Value::Array(tokens) => {
                for token in tokens {
                    let word = SpecialToken::from_json(token, CONFIG, true)?;
                    self.extra_tokens.push(AddedWord { special: true, ..word });
                }
            }
            Value::Object(named) => {
                for (name, token) in named {
                    let word = SpecialToken::from_json(token, CONFIG, true)?;
                    self.name_token(name, AddedWord { special: true, ..word });
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// All tokens in the order in which transformers declares them to the library: the added ones by their ids, the named
    /// ones, those without a name. What an earlier group has is left out of a later one.
    pub(super) fn declarations(&self) -> Vec<AddedToken> {
        let listed = |token: &SpecialToken| self.added_tokens.values().any(|added| added.is(token));
        let other = |wanted: &[&str], is_wanted: bool| {
            let names = self.other_tokens.iter().filter(move |(name, _)| wanted.contains(&name.as_str()) == is_wanted);
            names.map(|(_, word)| &word.token).collect::<Vec<_>>()
        };
        let mut named = vec![&self.bos_token, &self.eos_token, &self.unk_token];
        named.extend(other(&["sep_token"], true));
        named.push(&self.pad_token);
        for name in ["cls_token", "mask_token"] {
            named.extend(other(&[name], true));
        }
        named.extend(other(&["sep_token", "cls_token", "mask_token"], false));

        let is_named = |word: &AddedWord| named.iter().any(|token| word.is(token));
        let mut all: Vec<AddedToken> =
            self.added_tokens.values().map(|word| word.token.to_added(word.special || is_named(word))).collect();
        all.extend(named.into_iter().filter(|token| !listed(token)).map(|token| token.to_added(true)));
        for word in &self.extra_tokens {
            if !listed(&word.token) && !all.iter().any(|known| known.content == word.token.content) {
                all.push(word.token.to_added(true));
            }
        }
        all
    }
}

/// A vocabulary and its merges.
pub(super) struct Vocabulary {
    pub vocab: HashMap<String, u32>,
    pub merges: Merges,
    /// The file that the vocabulary is from.
    pub file: &'static str,
}

impl Vocabulary {
    pub fn from_two_files(vocab_json: &str, merges_txt: &str) -> Result<Self> {
        let vocab = serde_json::from_str(vocab_json).or_else(|error| fail("vocab.json", error.to_string()))?;
        let merges = parse_merges(merges_txt, &vocab)?;
        Ok(Vocabulary { vocab, merges, file: "vocab.json" })
    }

    pub fn from_tokenizer_json(text: &str) -> Result<Self> {
        let mut json = object(WHOLE, text)?;
        let model = json.get_mut("model").map(Value::take).unwrap_or_default();
        match model.get("type") {
            None | Some(Value::Null) => {}
            Some(Value::String(kind)) if kind == "BPE" => {}
            Some(kind) => return fail(WHOLE, format!("its model is {kind}: CLIP's tokenizer is BPE")),
        }
        let Value::Object(mut model) = model else {
            return fail(WHOLE, "has no model with a vocabulary and merges".to_owned());
        };
        let mut vocab = HashMap::new();
        match model.remove("vocab") {
            Some(Value::Object(entries)) => {
                for (token, id) in entries {
                    let id = id_of(&id, WHOLE, &token)?;
                    vocab.insert(token, id);
                }
            }
            _ => return fail(WHOLE, "its model has no vocab".to_owned()),
        }
        let Some(Value::Array(entries)) = model.remove("merges") else {
            return fail(WHOLE, "its model has no merges".to_owned());
        };
        let mut merges = Merges::new();
        for (idx, entry) in entries.iter().enumerate() {
            let pair = match entry {
                Value::String(text) => text.split_once(' '),
                Value::Array(pair) => match pair.as_slice() {
                    [Value::String(left), Value::String(right)] => Some((left.as_str(), right.as_str())),
                    _ => None,
                },
                _ => None,
            };
            merges.push(merge(pair, &vocab).or_else(|reason| {
                fail(
                    WHOLE,
                    format!("merge {idx}: {}", reason.unwrap_or_else(|| format!("expected two tokens, got {entry}"))),
                )
            })?);
        }
        Ok(Vocabulary { vocab, merges, file: WHOLE })
    }
}

/// The merges in order of priority. Checked here, with line numbers: the library panics on a merge whose result is
/// longer than every token of the vocabulary.
fn parse_merges(merges_txt: &str, vocab: &HashMap<String, u32>) -> Result<Merges> {
    let mut merges = Merges::new();
    for (line_idx, line) in merges_txt.lines().enumerate() {
        if line.starts_with("#version") {
            continue;
        }
        let fault = |reason: Option<String>| {
            let reason = reason.unwrap_or_else(|| format!("expected two tokens with a space between, got {line:?}"));
            fail("merges.txt", format!("line {}: {reason}", line_idx + 1))
        };
        merges.push(merge(line.split_once(' '), vocab).or_else(fault)?);
    }
    Ok(merges)
}

/// A merge of two tokens of the vocabulary into a third; the error is `None` where there are not two.
fn merge(pair: Option<(&str, &str)>, vocab: &HashMap<String, u32>) -> Result<(String, String), Option<String>> {
    let (left, right) =
        pair.filter(|(left, right)| !left.is_empty() && !right.is_empty() && !right.contains(' ')).ok_or(None)?;
    for token in [left, right, &format!("{left}{right}")] {
        if !vocab.contains_key(token) {
            return Err(Some(format!("token {token:?} is not in vocab.json")));
        }
    }
    Ok((left.to_owned(), right.to_owned()))
}

fn object(file: &str, text: &str) -> Result<Map<String, Value>> {
    match json::value(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => fail(file, "is not an object".to_owned()),
        Err(error) => fail(file, error.to_string()),
    }
}

fn id_of(json: &Value, file: &str, token: &str) -> Result<u32> {
    let id = json.as_u64().and_then(|id| u32::try_from(id).ok());
    id.map_or_else(|| fail(file, format!("the token {token:?} has the id {json}: expected a whole number")), Ok)
}

fn is_empty(json: &Value) -> bool {
    match json {
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::Null => true,
        _ => false,
    }
}

fn fail<T>(file: &str, reason: String) -> Result<T> {
    Err(Error::Tokenizer { file: file.to_owned(), reason })
}
