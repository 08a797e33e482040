//! A text's ids in chunks of what a text encoder reads at once, with the weight of each.
//!
//! How a long text is divided is each syntax' own. AUTOMATIC1111 moves what follows a comma to the next chunk if that comma
//! is at most 20 tokens back; ComfyUI keeps words of fewer than 8 tokens whole; compel ends a chunk behind a sentence, else
//! behind a phrase, else behind a word; without a syntax chunks are filled up. Cut texts are filled up in all of them.

use super::{Fragment, Piece, PromptSyntax};
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// How far back AUTOMATIC1111 looks for a comma.
const COMMA_BACKTRACK: usize = 20;
/// Words of so many tokens are divided by ComfyUI.
const LARGE_WORD: usize = 8;
/// Chunks at most: the UNet's work grows with them, and nobody writes a tenth of these.
const MAX_CHUNKS: usize = 64;

/// What a text encoder reads at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// Start, text, end, padding: as many as the tokenizer's `chunk_len`.
    pub ids: Vec<u32>,
    /// Of each id; 1 for start, end and padding.
    pub weights: Vec<f32>,
}

impl Chunk {
    /// Whether any weight changes something.
    #[must_use]
    pub fn is_weighted(&self) -> bool {
        self.weights.iter().any(|weight| *weight != 1.0)
    }
}

/// An encoding of the text without one fragment, which compel blends in for a weight below 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Masked {
    /// Its share; that of the whole text is 1.
    pub share: f64,
    /// For each chunk the places that are not attended to.
    pub places: Vec<Vec<usize>>,
}

/// A text as one encoder reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tokenized {
    /// At least one.
    pub chunks: Vec<Chunk>,
    /// What is blended in.
    pub masked: Vec<Masked>,
    /// Tokens of the whole text, also those that were cut.
    pub n_tokens: usize,
    /// The text that was cut, if any was.
    pub truncated: Option<String>,
    /// Embeddings that were named and are not there.
    pub unknown: Vec<String>,
}

/// One id of a text.
#[derive(Clone, Copy)]
struct Token {
    id: u32,
    weight: f32,
    /// Which fragment of the text it is of.
    fragment: usize,
}

/// What is not divided where it can be helped.
struct Run {
    tokens: Vec<Token>,
    /// Whether it is an embedding.
    is_trigger: bool,
}

/// The runs of a text, with the ends of chunks (`None`) that were asked for.
type Runs = Vec<Option<Run>>;

/// Divides a text into chunks for an encoder, by its tokenizer. An embedding ([`crate::tokenizer::Word`]) becomes a run of ids,
/// which AUTOMATIC1111 never divides between chunks and ComfyUI only where there are 8 or more. `is_cut` keeps the first chunk alone.
///
/// # Errors
/// [`Error::Tokenizer`] if the tokenizer fails; [`Error::Request`] for more chunks than are drawn with.
pub fn tokenize(pieces: &[Piece], syntax: PromptSyntax, tokenizer: &Tokenizer, is_cut: bool) -> Result<Tokenized> {
    let mut unknown = Vec::new();
    let runs = runs(pieces, syntax, tokenizer, &mut unknown)?;
    let n_tokens = runs.iter().flatten().map(|run| run.tokens.len()).sum();
    let chunks = match syntax {
        _ if is_cut => filled(&runs, tokenizer),
        PromptSyntax::Plain => filled(&runs, tokenizer),
        PromptSyntax::A1111 => at_commas(&runs, tokenizer),
        PromptSyntax::Comfy => by_words(&runs, tokenizer),
        PromptSyntax::Compel => by_sentences(&runs, tokenizer),
    };
    let n_kept = if is_cut { 1 } else { chunks.len() };
    check_chunks(n_kept, n_tokens, tokenizer)?;
    let rest: Vec<u32> = chunks[n_kept..].iter().flatten().map(|token| token.id).collect();
    let truncated = if rest.is_empty() { None } else { Some(tokenizer.decode(&rest)?) };
    let chunks = &chunks[..n_kept];
    let masked = match syntax {
        PromptSyntax::Compel => masked(pieces, chunks, tokenizer),
        PromptSyntax::A1111 | PromptSyntax::Comfy | PromptSyntax::Plain => Vec::new(),
    };
    let chunks = chunks.iter().map(|tokens| framed(tokens, tokenizer)).collect();
    Ok(Tokenized { chunks, masked, n_tokens, truncated, unknown })
}

/// Checks that a text is not of more chunks than are drawn with.
///
/// # Errors
/// [`Error::Request`] with how many tokens would work, or how many chunks where few tokens fill many.
pub fn check_chunks(n_chunks: usize, n_tokens: usize, tokenizer: &Tokenizer) -> Result<()> {
    if n_chunks <= MAX_CHUNKS {
        return Ok(());
    }
    let each = tokenizer.tokens_per_chunk();
    let most = MAX_CHUNKS * each;
    let (got, expected) = match n_tokens > most {
        true => (format!("of {n_tokens} tokens"), format!("use {most} tokens at most")),
        false => (format!("of {n_chunks} chunks"), format!("use {MAX_CHUNKS} chunks of {each} tokens at most")),
    };
    Err(Error::Request { field: "prompt", got, expected })
}

/// The chunk of an empty text.
#[must_use]
pub fn empty_chunk(tokenizer: &Tokenizer) -> Chunk {
    framed(&[], tokenizer)
}

fn framed(tokens: &[Token], tokenizer: &Tokenizer) -> Chunk {
    let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
    let mut weights = vec![1.0; tokenizer.chunk_len()];
    weights[1..=tokens.len()].iter_mut().zip(tokens).for_each(|(weight, token)| *weight = token.weight);
    Chunk { ids: tokenizer.framed(&ids), weights }
}

/// The ids of all fragments, in runs.
fn runs(pieces: &[Piece], syntax: PromptSyntax, tokenizer: &Tokenizer, unknown: &mut Vec<String>) -> Result<Runs> {
    let mut runs = Runs::new();
    for (fragment, piece) in pieces.iter().enumerate() {
        let Piece::Text(Fragment { text, weight }) = piece else {
            runs.push(None);
            continue;
        };
        let weight = *weight as f32;
        let mut push = |ids: &[u32], is_trigger: bool| {
            if !ids.is_empty() {
                let tokens = ids.iter().map(|&id| Token { id, weight, fragment }).collect();
                runs.push(Some(Run { tokens, is_trigger }));
            }
        };
        match syntax {
            PromptSyntax::A1111 => {
                for run in tokenizer.runs(text)? {
                    match run.is_word {
                        true => push(&run.ids, true),
                        false => run.ids.iter().for_each(|id| push(&[*id], false)),
                    }
                }
            }
            PromptSyntax::Comfy => {
                for word in text.split([' ', '\n']).filter(|word| !word.is_empty()) {
                    let Some(name) = word.strip_prefix(super::NAMES_EMBEDDING) else {
                        push(&tokenizer.text_ids(word)?, false);
                        continue;
                    };
                    let bare = name.trim_end_matches(',');
                    let without = bare.strip_suffix(".safetensors").unwrap_or(bare);
                    match tokenizer.word(name).or_else(|| tokenizer.word(bare)).or_else(|| tokenizer.word(without)) {
                        Some(word) => push(&word.ids, true),
                        None => unknown.push(bare.to_owned()),
                    }
                    if tokenizer.word(name).is_none() {
                        push(&tokenizer.text_ids(&name[bare.len()..])?, false);
                    }
                }
            }
            PromptSyntax::Compel | PromptSyntax::Plain => {
                for run in tokenizer.runs(text)? {
                    push(&run.ids, run.is_word);
                }
            }
        }
    }
    Ok(runs)
}

type Chunks = Vec<Vec<Token>>;

/// Chunks as they fill up.
struct Filling {
    /// Tokens of a chunk.
    most: usize,
    full: Chunks,
    chunk: Vec<Token>,
}

impl Filling {
    fn new(tokenizer: &Tokenizer) -> Self {
        Filling { most: tokenizer.tokens_per_chunk(), full: Chunks::new(), chunk: Vec::new() }
    }

    /// Another chunk begins, however full this one is.
    fn end_chunk(&mut self) {
        self.full.push(std::mem::take(&mut self.chunk));
    }

    /// One token after the other, on into the next chunk.
    fn add(&mut self, tokens: &[Token]) {
        for token in tokens {
            if self.chunk.len() == self.most {
                self.end_chunk();
            }
            self.chunk.push(*token);
        }
    }

    /// The chunks, at least one.
    fn finish(mut self) -> Chunks {
        if !self.chunk.is_empty() || self.full.is_empty() {
            self.end_chunk();
        }
        self.full
    }
}

/// Every chunk as full as it can be.
fn filled(runs: &Runs, tokenizer: &Tokenizer) -> Chunks {
    let mut filling = Filling::new(tokenizer);
    for run in runs {
        match run {
            Some(run) => filling.add(&run.tokens),
            None => filling.end_chunk(),
        }
    }
    filling.finish()
}

/// As AUTOMATIC1111.
fn at_commas(runs: &Runs, tokenizer: &Tokenizer) -> Chunks {
    let comma = tokenizer.id_of(",</w>");
    let mut filling = Filling::new(tokenizer);
    let most = filling.most;
    let mut last_comma: Option<usize> = None;
    for run in runs {
        let Some(run) = run else {
            filling.end_chunk();
            last_comma = None;
            continue;
        };
        let n_tokens = filling.chunk.len();
        let is_comma = run.tokens.first().is_some_and(|token| Some(token.id) == comma);
        let near = last_comma.filter(|at| n_tokens == most && most - at <= COMMA_BACKTRACK);
        if is_comma {
            last_comma = Some(n_tokens);
        } else if let Some(at) = near {
            let moved = filling.chunk.split_off(at + 1);
            filling.end_chunk();
            filling.chunk = moved;
            last_comma = None;
        }
        let n_tokens = filling.chunk.len();
        let is_too_long = run.is_trigger && n_tokens + run.tokens.len() > most && n_tokens > 0;
        if n_tokens == most || is_too_long {
            filling.end_chunk();
            last_comma = None;
        }
        // An embedding of more vectors than a chunk holds is divided.
        filling.add(&run.tokens);
    }
    filling.finish()
}

/// As ComfyUI.
fn by_words(runs: &Runs, tokenizer: &Tokenizer) -> Chunks {
    let most = tokenizer.tokens_per_chunk();
    let (mut chunks, mut chunk): (Chunks, Vec<Token>) = (Chunks::new(), Vec::new());
    for run in runs.iter().flatten() {
        let mut rest = run.tokens.as_slice();
        while !rest.is_empty() {
            if chunk.len() + rest.len() <= most {
                chunk.extend(rest);
                break;
            }
            // Embeddings of as many vectors too; and nothing waits for a chunk that could hold it where there is none.
            if run.tokens.len() >= LARGE_WORD || chunk.is_empty() {
                let (now, later) = rest.split_at(most - chunk.len());
                chunk.extend(now);
                rest = later;
            }
            chunks.push(std::mem::take(&mut chunk));
        }
    }
    chunks.push(chunk);
    chunks
}

/// As compel: prompts that are joined have chunks of their own.
fn by_sentences(runs: &Runs, tokenizer: &Tokenizer) -> Chunks {
    runs.split(Option::is_none).flat_map(|runs| sentences_of_one(runs, tokenizer)).collect()
}

fn sentences_of_one(runs: &[Option<Run>], tokenizer: &Tokenizer) -> Chunks {
    let most = tokenizer.tokens_per_chunk();
    let tokens: Vec<Token> = runs.iter().flatten().flat_map(|run| run.tokens.iter().copied()).collect();
    let ends = |all: &[&str]| all.iter().filter_map(|end| tokenizer.id_of(end)).collect::<Vec<u32>>();
    let (sentence, phrase) = (ends(&[".</w>"]), ends(&[".</w>", ",</w>", ";</w>", ":</w>"]));
    let mut chunks = Chunks::new();
    let mut rest = tokens.as_slice();
    while rest.len() > most {
        let last = |is_end: &dyn Fn(u32) -> bool| rest[..most].iter().rposition(|token| is_end(token.id));
        let at = last(&|id| sentence.contains(&id))
            .or_else(|| last(&|id| phrase.contains(&id)))
            .or_else(|| last(&|id| tokenizer.ends_word(id)));
        let (now, later) = rest.split_at(at.map_or(most, |at| at + 1));
        chunks.push(now.to_vec());
        rest = later;
    }
    chunks.push(rest.to_vec());
    chunks
}

/// The encodings that compel blends in: for each fragment of a weight below 1 one without it.
fn masked(pieces: &[Piece], chunks: &[Vec<Token>], tokenizer: &Tokenizer) -> Vec<Masked> {
    /// A weight of 0 would be all there is.
    const LEAST: f64 = 1e-5;
    let length = tokenizer.chunk_len();
    let mut all = Vec::new();
    for (fragment, piece) in pieces.iter().enumerate() {
        let Piece::Text(Fragment { weight, .. }) = piece else { continue };
        if *weight >= 1.0 {
            continue;
        }
        let place = |(chunk_idx, chunk): (usize, &Vec<Token>)| {
            let of_fragment = move |(at, token): (usize, &Token)| (token.fragment == fragment).then_some(at);
            let places: Vec<usize> = chunk.iter().enumerate().filter_map(of_fragment).collect();
            places.into_iter().map(move |at| chunk_idx * length + 1 + at).collect::<Vec<_>>()
        };
        let places: Vec<usize> = chunks.iter().enumerate().flat_map(place).collect();
        let (Some(first), Some(last)) = (places.first(), places.last()) else { continue };
        // From the first to the last, with what frames chunks between them except their first and last place.
        let is_masked = |at: &usize| {
            let place = at % length;
            (*first..=*last).contains(at) && place != 0 && place != length - 1
        };
        let of_chunk =
            |idx: usize| (0..length).filter(|place| is_masked(&(idx * length + place))).collect::<Vec<usize>>();
        let share = ((1.0 - weight.max(LEAST)) * std::f64::consts::FRAC_PI_2).tan();
        all.push(Masked { share, places: (0..chunks.len()).map(of_chunk).collect() });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::vocabulary::{built_in, vocab_json};
    use crate::tokenizer::TokenizerConfig;

    #[test]
    fn the_limit_that_is_hit_is_named() {
        let merges = built_in().unwrap();
        let config = TokenizerConfig::from_json(None, None).unwrap();
        let tokenizer = Tokenizer::new(&vocab_json(merges).unwrap(), merges, &config).unwrap();
        let refused = |text: &str| {
            let pieces = super::super::a1111::pieces(text, &mut Vec::new());
            tokenize(&pieces, PromptSyntax::A1111, &tokenizer, false).unwrap_err().to_string()
        };
        let message = refused(&"fox BREAK ".repeat(70));
        assert_eq!(message, "prompt of 70 chunks is not possible: use 64 chunks of 75 tokens at most");
        let message = refused(&"fox ".repeat(4801));
        assert_eq!(message, "prompt of 4801 tokens is not possible: use 4800 tokens at most");
    }
}
