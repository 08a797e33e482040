//! CLIP's byte-pair encoding: a prompt becomes the 77 token ids that a text encoder reads.
//!
//! The ids are those of transformers' `CLIPTokenizer` (5.23), which builds the same pipeline of the same library: NFC,
//! runs of white space to one space, lower case; a split into contractions, words, single digits and punctuation runs;
//! bytes as printable characters; merges, the last of a word marked `</w>`. The files are the repository's own
//! `vocab.json`, `merges.txt`, `tokenizer_config.json` and `special_tokens_map.json`.
//!
//! Two things follow transformers where a reader might expect otherwise:
//! - A special token in the prompt is that token. `<|endoftext|>` ends the text early, and where the padding token is
//!   `!` (Stable Diffusion 2, the second tokenizer of XL), every `!` of a prompt is the padding id 0 and not `!</w>`.
//! - Whether `<|STARTOFTEXT|>` counts as special depends on the files: a token declared as `normalized` is looked for
//!   after lower-casing, another one before. Later declarations win, in the order bos, eos, unk, pad.
//!
//! It deliberately does not repair mis-encoded text (`ftfy`, which older versions of transformers applied where it was
//! installed), weigh words by brackets, read `tokenizer.json`, or do any I/O.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as NormalizerSequence, replace::ReplacePattern};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizerSequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

use crate::error::{Error, Result};

/// Ids of one prompt when the files do not say otherwise: the text encoder's number of positions.
const CLIP_MAX_LENGTH: usize = 77;
/// Ids of a chunk at most, in configs that may be anyone's.
const MAX_LENGTH: f64 = 10_000.0;
/// The mark of a word's last token.
const END_OF_WORD: &str = "</w>";
/// What one pre-token is. The case does not matter: the text is in lower case by then.
const WORD_PATTERN: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

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

    fn to_added(&self) -> AddedToken {
        AddedToken::from(self.content.clone(), true)
            .normalized(self.normalized)
            .single_word(self.single_word)
            .lstrip(self.lstrip)
            .rstrip(self.rstrip)
    }
}

/// What `tokenizer_config.json` and `special_tokens_map.json` say. The default is CLIP's, for repositories without
/// them.
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
    /// Tokens with the ids they must have (`added_tokens_decoder`, written by newer versions of transformers).
    pub added_tokens: BTreeMap<u32, SpecialToken>,
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
        }
    }
}

impl TokenizerConfig {
    /// Reads the two files' texts; `None` for a file that the repository does not have.
    ///
    /// As in transformers, `special_tokens_map.json` overrides `tokenizer_config.json`, unless the latter has
    /// `added_tokens_decoder`, which then describes the tokens alone. A `model_max_length` that is absent, or
    /// transformers' 1e30 for "unknown", becomes CLIP's 77.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] with the file's name where the JSON is malformed or a token is neither string nor object.
    pub fn from_json(tokenizer_config: Option<&str>, special_tokens_map: Option<&str>) -> Result<Self> {
        let mut config = Self::default();
        if let Some(json) = tokenizer_config {
            let file: ConfigFile = parse("tokenizer_config.json", json)?;
            config.merge(file.tokens);
            if let Some(length) = file.model_max_length {
                if !(length >= 3.0 && length.fract() == 0.0) {
                    let reason = format!("model_max_length is {length}: expected a whole number of at least 3");
                    return Err(Error::Tokenizer { file: "tokenizer_config.json".to_owned(), reason });
                }
                // transformers writes 1e30 for "unknown".
                if (MAX_LENGTH..1e9).contains(&length) {
                    let reason = format!("model_max_length is {length}: {MAX_LENGTH} at most is supported");
                    return Err(Error::Tokenizer { file: "tokenizer_config.json".to_owned(), reason });
                }
                if length < MAX_LENGTH {
                    config.model_max_length = length as usize;
                }
            }
            if let Some(added) = file.added_tokens_decoder {
                config.added_tokens = added.into_iter().map(|(id, token)| (id, token.into())).collect();
                return Ok(config);
            }
        }
        if let Some(json) = special_tokens_map {
            config.merge(parse("special_tokens_map.json", json)?);
        }
        Ok(config)
    }

    fn merge(&mut self, tokens: NamedTokens) {
        let slots = [
            (&mut self.bos_token, tokens.bos_token),
            (&mut self.eos_token, tokens.eos_token),
            (&mut self.unk_token, tokens.unk_token),
            (&mut self.pad_token, tokens.pad_token),
        ];
        for (slot, token) in slots {
            if let Some(token) = token {
                *slot = token.into();
            }
        }
    }

    /// The special tokens in the order in which transformers declares them to the library: a later one with the same
    /// text replaces an earlier one.
    fn declarations(&self) -> Vec<AddedToken> {
        let named = [&self.bos_token, &self.eos_token, &self.unk_token, &self.pad_token];
        let listed = |token: &SpecialToken| self.added_tokens.values().any(|added| added.content == token.content);
        let mut all: Vec<AddedToken> = self.added_tokens.values().map(SpecialToken::to_added).collect();
        all.extend(named.into_iter().filter(|token| !listed(token)).map(SpecialToken::to_added));
        all
    }
}

/// The ids of one prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// Exactly `model_max_length` ids: start, text, end, padding.
    pub ids: Vec<u32>,
    /// Tokens of the whole text, without start and end, also those that did not fit.
    pub n_tokens: usize,
    /// The part of the prompt that did not fit, decoded, so that a person can be told.
    pub truncated: Option<String>,
}

/// A tokenizer made from one folder of a diffusers repository.
pub struct Tokenizer {
    bpe: tokenizers::Tokenizer,
    bos_id: u32,
    eos_id: u32,
    pad_id: u32,
    chunk_len: usize,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The vocabulary has tens of thousands of entries, which nobody wants in a log.
        f.debug_struct("Tokenizer")
            .field("bos_id", &self.bos_id)
            .field("eos_id", &self.eos_id)
            .field("pad_id", &self.pad_id)
            .field("chunk_len", &self.chunk_len)
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Builds the tokenizer from the texts of `vocab.json` and `merges.txt`.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] with the file's name where a file is malformed, a merge names a token that the vocabulary
    /// lacks, or a special token is missing or has another id than the configuration says.
    pub fn new(vocab_json: &str, merges_txt: &str, config: &TokenizerConfig) -> Result<Self> {
        let vocab: HashMap<String, u32> = parse("vocab.json", vocab_json)?;
        let merges = parse_merges(merges_txt, &vocab)?;
        let id_of = |name: &str, token: &SpecialToken| {
            let added = config.added_tokens.iter().find(|(_, added)| added.content == token.content);
            vocab.get(&token.content).or(added.map(|(id, _)| id)).copied().ok_or_else(|| Error::Tokenizer {
                file: "vocab.json".to_owned(),
                reason: format!("the {name} {:?} is not in the vocabulary", token.content),
            })
        };
        let (bos_id, eos_id) = (id_of("bos_token", &config.bos_token)?, id_of("eos_token", &config.eos_token)?);
        let pad_id = id_of("pad_token", &config.pad_token)?;
        id_of("unk_token", &config.unk_token)?;

        let model = BPE::builder()
            .vocab_and_merges(vocab.into_iter().collect::<Vocab>(), merges)
            .unk_token(config.unk_token.content.clone())
            .continuing_subword_prefix(String::new())
            .end_of_word_suffix(END_OF_WORD.to_owned())
            .build()
            .map_err(|e| library_error("merges.txt", &e))?;
        let mut bpe = tokenizers::Tokenizer::new(model);
        let spaces = Replace::new(ReplacePattern::Regex(r"\s+".to_owned()), " ");
        let spaces = spaces.map_err(|e| library_error("the tokenizer", &e))?;
        bpe.with_normalizer(Some(NormalizerSequence::new(vec![NFC.into(), spaces.into(), Lowercase.into()])))
            .map_err(|e| library_error("the tokenizer", &e))?;
        // Inverted: what matches the pattern is kept, what does not (white space) is removed.
        let words = Split::new(SplitPattern::Regex(WORD_PATTERN.to_owned()), SplitDelimiterBehavior::Removed, true);
        let words = words.map_err(|e| library_error("the tokenizer", &e))?;
        let bytes = ByteLevel::new(false, true, true);
        bpe.with_pre_tokenizer(Some(PreTokenizerSequence::new(vec![words.into(), bytes.into()])));
        bpe.with_decoder(Some(ByteLevel::default()));
        bpe.add_tokens(config.declarations()).map_err(|e| library_error("special_tokens_map.json", &e))?;
        for (&id, token) in &config.added_tokens {
            let got = bpe.token_to_id(&token.content);
            if got != Some(id) {
                let reason = format!("added token {:?} should have id {id}, but has {got:?}", token.content);
                return Err(Error::Tokenizer { file: "tokenizer_config.json".to_owned(), reason });
            }
        }
        Ok(Self { bpe, bos_id, eos_id, pad_id, chunk_len: config.model_max_length })
    }

    /// The ids of one prompt, cut after what fits and padded to `model_max_length`.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the library fails, which no text is known to cause.
    pub fn encode(&self, text: &str) -> Result<Encoding> {
        let tokens = self.tokens(text)?;
        let n_fitting = tokens.len().min(self.tokens_per_chunk());
        let rest = &tokens[n_fitting..];
        let truncated = if rest.is_empty() { None } else { Some(self.decode(rest)?) };
        Ok(Encoding { ids: self.framed(&tokens[..n_fitting]), n_tokens: tokens.len(), truncated })
    }

    /// The ids of a prompt of any length as chunks of `model_max_length` ids, each with its own start, end and padding.
    /// An empty prompt is one chunk.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_chunks(&self, text: &str) -> Result<Vec<Vec<u32>>> {
        let tokens = self.tokens(text)?;
        if tokens.is_empty() {
            return Ok(vec![self.framed(&[])]);
        }
        Ok(tokens.chunks(self.tokens_per_chunk()).map(|chunk| self.framed(chunk)).collect())
    }

    /// The number of tokens of a prompt, without start and end.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn count(&self, text: &str) -> Result<usize> {
        Ok(self.tokens(text)?.len())
    }

    /// Ids of one chunk, start, end and padding included: 77 for CLIP, the text encoder's number of positions.
    #[must_use]
    pub fn chunk_len(&self) -> usize {
        self.chunk_len
    }

    /// Text tokens that one chunk holds: 75 for CLIP.
    #[must_use]
    pub fn tokens_per_chunk(&self) -> usize {
        self.chunk_len - 2
    }

    /// The id that ends a chunk. XL's pooled embedding is read at its first position.
    #[must_use]
    pub fn eos_id(&self) -> u32 {
        self.eos_id
    }

    fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.bpe.encode_fast(text, false).map_err(|e| library_error("the prompt", &e))?;
        Ok(encoding.get_ids().to_vec())
    }

    fn decode(&self, ids: &[u32]) -> Result<String> {
        let text = self.bpe.decode(ids, false).map_err(|e| library_error("the prompt", &e))?;
        Ok(text.replace(END_OF_WORD, " ").trim().to_owned())
    }

    fn framed(&self, tokens: &[u32]) -> Vec<u32> {
        let mut ids = Vec::with_capacity(self.chunk_len);
        ids.push(self.bos_id);
        ids.extend_from_slice(tokens);
        ids.push(self.eos_id);
        ids.resize(self.chunk_len, self.pad_id);
        ids
    }
}

/// A special token in JSON.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a token is neither a string nor an object with a `content`")]
enum TokenJson {
    Text(String),
    Object {
        content: String,
        // Objects of special tokens without the flag are not normalised.
        #[serde(default)]
        normalized: bool,
        #[serde(default)]
        single_word: bool,
        #[serde(default)]
        lstrip: bool,
        #[serde(default)]
        rstrip: bool,
    },
}

impl From<TokenJson> for SpecialToken {
    fn from(json: TokenJson) -> Self {
        match json {
            TokenJson::Text(content) => Self::plain(&content),
            TokenJson::Object { content, normalized, single_word, lstrip, rstrip } => {
                Self { content, normalized, single_word, lstrip, rstrip }
            }
        }
    }
}

/// The named tokens, in either file. Null is the same as absent.
#[derive(Deserialize)]
struct NamedTokens {
    bos_token: Option<TokenJson>,
    eos_token: Option<TokenJson>,
    unk_token: Option<TokenJson>,
    pad_token: Option<TokenJson>,
}

#[derive(Deserialize)]
struct ConfigFile {
    #[serde(flatten)]
    tokens: NamedTokens,
    model_max_length: Option<f64>,
    added_tokens_decoder: Option<BTreeMap<u32, TokenJson>>,
}

fn parse<'a, T: Deserialize<'a>>(file: &str, json: &'a str) -> Result<T> {
    serde_json::from_str(json).map_err(|e| Error::Tokenizer { file: file.to_owned(), reason: e.to_string() })
}

/// The merges in order of priority. Checked here, with line numbers: the library panics on a merge whose result is
/// longer than every token of the vocabulary.
fn parse_merges(merges_txt: &str, vocab: &HashMap<String, u32>) -> Result<Merges> {
    let mut merges = Merges::new();
    for (line_idx, line) in merges_txt.lines().enumerate() {
        if line.starts_with("#version") {
            continue;
        }
        let fail = |reason: String| Error::Tokenizer {
            file: "merges.txt".to_owned(),
            reason: format!("line {}: {reason}", line_idx + 1),
        };
        let (left, right) = line
            .split_once(' ')
            .filter(|(left, right)| !left.is_empty() && !right.is_empty() && !right.contains(' '))
            .ok_or_else(|| fail(format!("expected two tokens with a space between, got {line:?}")))?;
        for token in [left, right, &format!("{left}{right}")] {
            if !vocab.contains_key(token) {
                return Err(fail(format!("token {token:?} is not in vocab.json")));
            }
        }
        merges.push((left.to_owned(), right.to_owned()));
    }
    Ok(merges)
}

fn library_error(file: &str, error: &tokenizers::Error) -> Error {
    Error::Tokenizer { file: file.to_owned(), reason: error.to_string() }
}
