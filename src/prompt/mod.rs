//! The prompt languages that people write: texts with weights, chunks of 75 tokens, prompts that change over the steps.
//!
//! [`parse`] reads a prompt in one of four syntaxes: AUTOMATIC1111's, ComfyUI's, compel's (InvokeAI's), or none at all, as
//! diffusers does. What comes out is [`Parsed`]: for each prompt that is drawn with, its texts over time, as [`Piece`]s.
//! [`tokens::tokenize`] makes chunks of ids and weights of one such text, and [`emphasis`] applies the weights to what a text
//! encoder gave. Before all this, [`wildcards`] decides what a prompt leaves open.
//!
//! What a syntax does not know is drawn as text, as in the program that the syntax is from, and a note says so. The room runs
//! no encoder; `<lora:…>` tags are gone before a text is parsed.

mod a1111;
mod comfy;
mod compel;
pub mod emphasis;
mod others;
mod schedule;
pub mod tokens;
pub mod wildcards;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub use tokens::{Chunk, Tokenized, tokenize};

/// How deep brackets are read: what opens deeper is text. Nobody writes a tenth of it, and work stays in proportion to the
/// length of the prompt.
const MAX_DEPTH: usize = 100;

/// The most prompts that AND joins. Each is one more run of the UNet in every step.
const MAX_PARTS: usize = 64;

/// The largest weight, either way: what 32 bits still hold after states were multiplied by it.
const MAX_WEIGHT: f64 = 1e9;

/// What a prompt is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(all(not(target_arch = "wasm32"), feature = "cli"), derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub enum PromptSyntax {
    /// AUTOMATIC1111's and Forge's: `(x:1.2)`, `[x]`, `BREAK`, `AND`, `[a:b:0.5]`, `[a|b]`.
    #[default]
    A1111,
    /// ComfyUI's: `(x:1.2)`.
    Comfy,
    /// compel's, which InvokeAI uses: `x++`, `(x y)1.3`.
    Compel,
    /// None: every character is text, as in diffusers.
    Plain,
}

impl PromptSyntax {
    /// The name in settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            PromptSyntax::A1111 => "a1111",
            PromptSyntax::Comfy => "comfy",
            PromptSyntax::Compel => "compel",
            PromptSyntax::Plain => "plain",
        }
    }

    /// That of a name in settings.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let all = [PromptSyntax::A1111, PromptSyntax::Comfy, PromptSyntax::Compel, PromptSyntax::Plain];
        all.into_iter().find(|syntax| syntax.name() == name)
    }
}

/// A text with its weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Fragment {
    /// Without brackets and escapes.
    pub text: String,
    /// 1 changes nothing.
    pub weight: f64,
}

/// What a text consists of.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Text.
    Text(Fragment),
    /// The chunk ends here, however full it is.
    Break,
}

/// Which of the two prompts a text is: in AUTOMATIC1111 the negative one knows neither `AND` nor tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What to draw.
    Prompt,
    /// What to steer away from.
    Negative,
}

/// One prompt of those that `AND` joins, as it changes over the steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Its share of the guidance.
    pub weight: f64,
    /// Its texts, none twice.
    pub variants: Vec<Vec<Piece>>,
    /// Up to which call of the UNet (from 0, this one included) which of them is used, in order. The last one holds to the
    /// end, whatever its number.
    pub schedule: Vec<(usize, usize)>,
    /// Where the variants are not texts over time, but one text is made of the states of all: its stretches, one behind the
    /// other.
    pub sections: Vec<Section>,
}

/// States of several prompts as one stretch of a text: compel's `.blend()`, and a prompt of its `.and()` with a weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// How far the states are from the empty prompt's: 1 leaves them where they are.
    pub weight: f64,
    /// Numbers of variants, and what their states are multiplied by before they are summed.
    pub shares: Vec<(usize, f64)>,
}

impl Part {
    /// A text that is always the same.
    fn constant(pieces: Vec<Piece>) -> Self {
        Part { weight: 1.0, variants: vec![pieces], schedule: vec![(0, 0)], sections: Vec::new() }
    }

    /// How many texts it has over the steps.
    #[must_use]
    pub fn n_texts(&self) -> usize {
        if self.sections.is_empty() { self.variants.len() } else { 1 }
    }

    /// The variant for a call of the UNet, counted from 0.
    #[must_use]
    pub fn variant_at(&self, call_idx: usize) -> usize {
        let entry = self.schedule.iter().find(|(until, _)| call_idx <= *until).or(self.schedule.last());
        entry.map_or(0, |(_, variant)| *variant)
    }

    /// In how many stretches of the schedule each variant is used.
    #[must_use]
    pub fn n_uses(&self, variant: usize) -> usize {
        self.schedule.iter().filter(|(_, used)| *used == variant).count()
    }
}

/// A prompt as it was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// The prompts that are drawn together; one, unless `AND` joins several.
    pub parts: Vec<Part>,
    /// What the syntax does not know, in sentences without a full stop.
    pub notes: Vec<String>,
}

impl Parsed {
    /// Whether every call of the UNet is for the same texts.
    #[must_use]
    pub fn is_constant(&self) -> bool {
        self.parts.iter().all(|part| part.n_texts() == 1)
    }
}

/// Reads a prompt. `n_calls` is what fractions of the steps are of: the steps, twice for samplers of second order, which call
/// the UNet twice a step.
///
/// # Errors
/// [`crate::Error::Request`] for what compel draws and this crate does not.
pub fn parse(text: &str, syntax: PromptSyntax, role: Role, n_calls: usize) -> Result<Parsed> {
    let mut notes = Vec::new();
    let parts = match syntax {
        PromptSyntax::Plain => vec![Part::constant(plain(text))],
        PromptSyntax::Comfy => vec![Part::constant(comfy::pieces(text, &mut notes))],
        PromptSyntax::Compel => vec![compel::part(text, &mut notes)?],
        PromptSyntax::A1111 => a1111_parts(text, role, n_calls, &mut notes),
    };
    others::say(text, syntax, &mut notes);
    if matches!(syntax, PromptSyntax::A1111 | PromptSyntax::Compel) {
        about_named_embeddings(text, &mut notes);
    }
    if parts.len() > MAX_PARTS {
        return refuse(format!("{} prompts joined by AND", parts.len()), format!("{MAX_PARTS} work"));
    }
    let fragments = parts.iter().flat_map(|part| &part.variants).flatten();
    let fits = |weight: f64| weight.abs() <= MAX_WEIGHT;
    let is_endless = |piece: &Piece| matches!(piece, Piece::Text(fragment) if !fits(fragment.weight));
    let fit = |section: &Section| fits(section.weight) && section.shares.iter().all(|(_, share)| fits(*share));
    if parts.iter().any(|part| !fits(part.weight) || !part.sections.iter().all(fit))
        || fragments.clone().any(is_endless)
    {
        return refuse("a weight that is too large".to_owned(), format!("use -{MAX_WEIGHT} to {MAX_WEIGHT}"));
    }
    Ok(Parsed { parts, notes })
}

fn refuse<T>(got: String, expected: impl Into<String>) -> Result<T> {
    Err(Error::Request { field: "prompt", got, expected: expected.into() })
}

fn plain(text: &str) -> Vec<Piece> {
    vec![Piece::Text(Fragment { text: text.to_owned(), weight: 1.0 })]
}

fn a1111_parts(text: &str, role: Role, n_calls: usize, notes: &mut Vec<String>) -> Vec<Part> {
    let subprompts = match role {
        Role::Prompt => {
            let text = a1111::without_tags(text, notes);
            a1111::split_at_and(&text, notes)
        }
        Role::Negative => {
            if a1111::has_word(text, "AND") {
                note(notes, "AND in the negative prompt is a word, as in AUTOMATIC1111");
            }
            if let Some(tag) = a1111::first_tag(text) {
                note(
                    notes,
                    &format!("{tag} in the negative prompt is text, as in AUTOMATIC1111: tags belong into the prompt"),
                );
            }
            vec![(text.to_owned(), 1.0)]
        }
    };
    let of_subprompt = |(text, weight): (String, f64)| {
        let mut part = Part { weight, variants: Vec::new(), schedule: Vec::new(), sections: Vec::new() };
        let mut known: HashMap<String, usize> = HashMap::new();
        for (until, text) in schedule::schedule(&text, n_calls, notes) {
            let variant = match known.get(&text) {
                Some(&variant) => variant,
                None => {
                    part.variants.push(a1111::pieces(&text, notes));
                    known.insert(text, part.variants.len() - 1);
                    part.variants.len() - 1
                }
            };
            part.schedule.push((until, variant));
        }
        part
    };
    subprompts.into_iter().map(of_subprompt).collect()
}

/// What stands before the name of an embedding in ComfyUI's syntax.
const NAMES_EMBEDDING: &str = "embedding:";

/// Says that ComfyUI's way to name embeddings is text here. The name itself may be one, which is read all the same.
fn about_named_embeddings(text: &str, notes: &mut Vec<String>) {
    for (at, _) in text.match_indices(NAMES_EMBEDDING) {
        let is_inside = text[..at].chars().next_back().is_some_and(char::is_alphanumeric);
        let after = &text[at + NAMES_EMBEDDING.len()..];
        let end = after.find(|c: char| c.is_whitespace() || "(),:[]|".contains(c)).unwrap_or(after.len());
        if !is_inside && end > 0 {
            let name: String = after[..end].chars().take(80).collect();
            note(
                notes,
                &format!(
                    "{NAMES_EMBEDDING}{name} is ComfyUI's spelling, and {NAMES_EMBEDDING} is text here: write {name} alone"
                ),
            );
        }
    }
}

/// The text without the embeddings that it names in ComfyUI's way.
#[must_use]
pub fn without_named_embeddings(text: &str) -> String {
    let is_kept = |word: &&str| !word.trim_start_matches('(').starts_with(NAMES_EMBEDDING);
    text.split([' ', '\n']).filter(is_kept).collect::<Vec<_>>().join(" ")
}

/// Says something once.
fn note(notes: &mut Vec<String>, text: &str) {
    if !notes.iter().any(|known| known == text) {
        notes.push(text.to_owned());
    }
}
