//! CLIP's byte-pair encoding: a prompt becomes the 77 token ids that a text encoder reads.
//!
//! The ids are those of transformers' `CLIPTokenizer` (5.23), which builds the same pipeline of the same library: NFC,
//! runs of white space to one space, lower case; a split into contractions, words, single digits and punctuation runs;
//! bytes as printable characters; merges, the last of a word marked `</w>`. The files are the repository's own:
//! `tokenizer.json`, as transformers 5 saves it, or `vocab.json` and `merges.txt`; besides them `tokenizer_config.json`,
//! `special_tokens_map.json` and `added_tokens.json`, where the several versions keep words that were added ([`files`]).
//!
//! Two things follow transformers where a reader might expect otherwise:
//! - A special token in the prompt is that token. `<|endoftext|>` ends the text early, and where the padding token is
//!   `!` (Stable Diffusion 2, the second tokenizer of XL), every `!` of a prompt is the padding id 0 and not `!</w>`.
//! - Whether `<|STARTOFTEXT|>` counts as special depends on the files: a token declared as `normalized` is looked for
//!   after lower-casing, another one before. Later declarations win, in the order bos, eos, unk, pad.
//!
//! It deliberately does not repair mis-encoded text (`ftfy`, which older versions of transformers applied where it was
//! installed), weigh words by brackets ([`crate::prompt`] does), or do any I/O. Of `tokenizer.json` it reads the vocabulary, the merges and the
//! added tokens: `CLIPTokenizer` makes everything else anew.

pub mod files;
mod words;

use tokenizers::SplitDelimiterBehavior;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as NormalizerSequence, replace::ReplacePattern};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizerSequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};

use crate::error::{Error, Result};

pub use files::{AddedWord, SpecialToken, TokenizerConfig, TokenizerFiles};
pub use words::Word;

use words::{Piece, Words};

/// The mark of a word's last token.
const END_OF_WORD: &str = "</w>";
/// What one pre-token is. The case does not matter: the text is in lower case by then.
const WORD_PATTERN: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

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

/// Ids of a text that follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// In order; never empty.
    pub ids: Vec<u32>,
    /// Whether they are one [`Word`]'s, which no chunk may cut.
    pub is_word: bool,
}

/// A tokenizer made from one folder of a diffusers repository.
pub struct Tokenizer {
    bpe: tokenizers::Tokenizer,
    bos_id: u32,
    eos_id: u32,
    pad_id: u32,
    chunk_len: usize,
    words: Words,
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
        Self::build(files::Vocabulary::from_two_files(vocab_json, merges_txt)?, config)
    }

    /// Builds the tokenizer from the text of `tokenizer.json`. The configuration must have been read with the same text,
    /// for the tokens that were added.
    ///
    /// # Errors
    /// As [`Tokenizer::new`], and where the file is of another kind of tokenizer.
    pub fn from_tokenizer_json(tokenizer_json: &str, config: &TokenizerConfig) -> Result<Self> {
        Self::build(files::Vocabulary::from_tokenizer_json(tokenizer_json)?, config)
    }

    fn build(vocabulary: files::Vocabulary, config: &TokenizerConfig) -> Result<Self> {
        let files::Vocabulary { vocab, merges, file } = vocabulary;
        let n_vocab = vocab.len();
        let is_declared = |token: &SpecialToken| {
            vocab.contains_key(&token.content) || config.added_tokens.values().any(|added| added.is(token))
        };
        for (name, token) in
            [("bos_token", &config.bos_token), ("eos_token", &config.eos_token), ("unk_token", &config.unk_token)]
        {
            if !is_declared(token) {
                let reason = format!("the {name} {:?} is not in the vocabulary", token.content);
                return Err(Error::Tokenizer { file: file.to_owned(), reason });
            }
        }

        let model = BPE::builder()
            .vocab_and_merges(vocab.into_iter().collect::<Vocab>(), merges)
            .unk_token(config.unk_token.content.clone())
            .continuing_subword_prefix(String::new())
            .end_of_word_suffix(END_OF_WORD.to_owned())
            .build()
            .map_err(|e| library_error(file, &e))?;
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
        for (&id, word) in &config.added_tokens {
            let got = bpe.token_to_id(&word.token.content);
            // transformers numbers new words on from the vocabulary's end, whatever their files say. An id of the
            // vocabulary itself is another word's.
            if got != Some(id) && ((id as usize) < n_vocab || got.is_none()) {
                let reason = format!("added token {:?} should have id {id}, but has {got:?}", word.token.content);
                return Err(Error::Tokenizer { file: "tokenizer_config.json".to_owned(), reason });
            }
        }
        let id_of = |name: &str, token: &SpecialToken| {
            bpe.token_to_id(&token.content).ok_or_else(|| Error::Tokenizer {
                file: file.to_owned(),
                reason: format!("the {name} {:?} is not in the vocabulary", token.content),
            })
        };
        let (bos_id, eos_id) = (id_of("bos_token", &config.bos_token)?, id_of("eos_token", &config.eos_token)?);
        let pad_id = id_of("pad_token", &config.pad_token)?;
        Ok(Self { bpe, bos_id, eos_id, pad_id, chunk_len: config.model_max_length, words: Words::default() })
    }

    /// With words beside the vocabulary, each no longer than [`Tokenizer::tokens_per_chunk`].
    #[must_use]
    pub fn with_words(self, words: Vec<Word>) -> Self {
        Self { words: Words::new(words), ..self }
    }

    /// The first id that no token of the vocabulary has, nor any after it.
    #[must_use]
    pub fn first_free_id(&self) -> u32 {
        self.bpe.get_vocab(true).into_values().max().map_or(0, |id| id + 1)
    }

    /// The words beside the vocabulary.
    #[must_use]
    pub fn words(&self) -> &[Word] {
        self.words.all()
    }

    /// The word beside the vocabulary that is written so, in any case.
    #[must_use]
    pub fn word(&self, spelling: &str) -> Option<&Word> {
        let is_same = |known: &String| known.to_lowercase() == spelling.to_lowercase();
        self.words.all().iter().find(|word| word.spellings.iter().any(is_same))
    }

    /// The words beside the vocabulary that a text has, each once, in the order of their first places.
    #[must_use]
    pub fn words_in(&self, text: &str) -> Vec<&Word> {
        let mut found: Vec<&Word> = Vec::new();
        for piece in self.words.split(text) {
            if let Piece::Word(idx) = piece
                && let word = &self.words.all()[idx]
                && !found.contains(&word)
            {
                found.push(word);
            }
        }
        found
    }

    /// The text of a token, for messages.
    #[must_use]
    pub fn token(&self, id: u32) -> Option<String> {
        self.bpe.id_to_token(id).map(|token| token.replace(END_OF_WORD, ""))
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
    /// An empty prompt is one chunk. A [`Word`] that does not fit into the rest of a chunk begins the next one.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_chunks(&self, text: &str) -> Result<Vec<Vec<u32>>> {
        let mut chunks: Vec<Vec<u32>> = vec![Vec::new()];
        let n = self.tokens_per_chunk();
        for run in self.runs(text)? {
            let unit = if run.is_word { run.ids.len() } else { 1 };
            for ids in run.ids.chunks(unit) {
                match chunks.last_mut() {
                    Some(chunk) if chunk.len() + ids.len() <= n || chunk.is_empty() => chunk.extend_from_slice(ids),
                    _ => chunks.push(ids.to_vec()),
                }
            }
        }
        Ok(chunks.iter().map(|chunk| self.framed(chunk)).collect())
    }

    /// The ids of a text of any length, without start and end, where words beside the vocabulary are runs of their own.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn runs(&self, text: &str) -> Result<Vec<Run>> {
        let mut runs = Vec::new();
        for piece in self.words.split(text) {
            let run = match piece {
                Piece::Text(text) => Run { ids: self.text_ids(text)?, is_word: false },
                Piece::Word(idx) => Run { ids: self.words.all()[idx].ids.clone(), is_word: true },
            };
            if !run.ids.is_empty() {
                runs.push(run);
            }
        }
        Ok(runs)
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

    /// The id of a token as the vocabulary spells it, with `</w>` behind what ends a word.
    #[must_use]
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.bpe.token_to_id(token)
    }

    /// Whether a token ends a word.
    #[must_use]
    pub fn ends_word(&self, id: u32) -> bool {
        self.bpe.id_to_token(id).is_some_and(|token| token.ends_with(END_OF_WORD))
    }

    fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.runs(text)?.into_iter().flat_map(|run| run.ids).collect())
    }

    /// The ids of a text of any length by the vocabulary alone, without start and end.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn text_ids(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.bpe.encode_fast(text, false).map_err(|e| library_error("the prompt", &e))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of ids, for messages.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let word_of = |id: &u32| self.words.all().iter().find(|word| word.ids.contains(id));
        let mut text = String::new();
        for ids in ids.chunk_by(|a, b| word_of(a) == word_of(b)) {
            match word_of(&ids[0]) {
                Some(word) => text += &format!("{} ", word.name),
                None => {
                    let plain = self.bpe.decode(ids, false).map_err(|e| library_error("the prompt", &e))?;
                    text += &plain.replace(END_OF_WORD, " ");
                }
            }
        }
        Ok(text.trim().to_owned())
    }

    /// Ids of a text between start and end, padded to [`Tokenizer::chunk_len`]. There are at most
    /// [`Tokenizer::tokens_per_chunk`] of them.
    #[must_use]
    pub fn framed(&self, tokens: &[u32]) -> Vec<u32> {
        let mut ids = Vec::with_capacity(self.chunk_len);
        ids.push(self.bos_id);
        ids.extend_from_slice(tokens);
        ids.push(self.eos_id);
        ids.resize(self.chunk_len, self.pad_id);
        ids
    }
}

fn library_error(file: &str, error: &tokenizers::Error) -> Error {
    Error::Tokenizer { file: file.to_owned(), reason: error.to_string() }
}
