//! Words beside the vocabulary: the trigger of an embedding stands for ids of its own, whose rows were added to the text
//! encoder's table. Finding them in a text is all that is done here.
//!
//! A word is found in any case, the longest first, as in AUTOMATIC1111; with white space between its parts as the text has it;
//! and not inside a run of letters, which CLIP would not have cut there either (`art` is not found in `party`).

/// A word that stands for ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// As people are told of it.
    pub name: String,
    /// How it may be written.
    pub spellings: Vec<String>,
    /// What it stands for, in order: one id for each vector.
    pub ids: Vec<u32>,
}

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// For the vocabulary.
    Text(&'a str),
    /// The word of this number.
    Word(usize),
}

/// Words with all their spellings, ready to be found.
#[derive(Debug, Default)]
pub(super) struct Words {
    words: Vec<Word>,
    /// Plain characters and the word's number, longest first.
    spellings: Vec<(Vec<char>, usize)>,
}

impl Words {
    /// Spellings without a character are never found.
    pub fn new(words: Vec<Word>) -> Self {
        let mut spellings = Vec::new();
        for (idx, word) in words.iter().enumerate() {
            for spelling in &word.spellings {
                let plain = plain(spelling);
                if !plain.is_empty() {
                    spellings.push((plain, idx));
                }
            }
        }
        // Stable: of the same spelling the first word counts.
        spellings.sort_by_key(|(spelling, _)| std::cmp::Reverse(spelling.len()));
        Words { words, spellings }
    }

    pub fn all(&self) -> &[Word] {
        &self.words
    }

    /// Cuts a text where words are. No piece is empty.
    pub fn split<'a>(&self, text: &'a str) -> Vec<Piece<'a>> {
        if self.words.is_empty() {
            return if text.is_empty() { Vec::new() } else { vec![Piece::Text(text)] };
        }
        let mut pieces = Vec::new();
        let (mut start, mut at, mut before) = (0, 0, None);
        while let Some(c) = text[at..].chars().next() {
            let found = self.spellings.iter().find_map(|(spelling, word)| {
                let len = match_len(&text[at..], spelling)?;
                let matched = &text[at..at + len];
                let after = text[at + len..].chars().next();
                let is_whole =
                    !cuts_letters(before, matched.chars().next()) && !cuts_letters(matched.chars().next_back(), after);
                is_whole.then_some((len, *word))
            });
            match found {
                Some((len, word)) => {
                    if start < at {
                        pieces.push(Piece::Text(&text[start..at]));
                    }
                    pieces.push(Piece::Word(word));
                    before = text[at..at + len].chars().next_back();
                    at += len;
                    start = at;
                }
                None => {
                    before = Some(c);
                    at += c.len_utf8();
                }
            }
        }
        if start < text.len() {
            pieces.push(Piece::Text(&text[start..]));
        }
        pieces
    }
}

/// Lower case, with one space for white space in a row, and none at the ends.
fn plain(text: &str) -> Vec<char> {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().flat_map(char::to_lowercase).collect()
}

/// The bytes of `text` that a spelling covers, where the text begins with it.
fn match_len(text: &str, spelling: &[char]) -> Option<usize> {
    let mut wanted = spelling.iter().copied();
    let mut expected = wanted.next();
    let mut chars = text.char_indices().peekable();
    while let Some(&(at, c)) = chars.peek() {
        let Some(first) = expected else { return Some(at) };
        if c.is_whitespace() {
            if first != ' ' {
                return None;
            }
            while chars.next_if(|(_, c)| c.is_whitespace()).is_some() {}
            expected = wanted.next();
            continue;
        }
        for lower in c.to_lowercase() {
            if expected != Some(lower) {
                return None;
            }
            expected = wanted.next();
        }
        chars.next();
    }
    expected.is_none().then_some(text.len())
}

/// Whether a cut between two characters is one inside of a run of letters.
fn cuts_letters(before: Option<char>, after: Option<char>) -> bool {
    matches!((before, after), (Some(before), Some(after)) if before.is_alphabetic() && after.is_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split<'a>(spellings: &[&str], text: &'a str) -> Vec<Piece<'a>> {
        let word = |spelling: &&str| Word { name: String::new(), spellings: vec![spelling.to_string()], ids: vec![0] };
        Words::new(spellings.iter().map(word).collect()).split(text)
    }

    #[test]
    fn words_are_found_as_in_automatic1111() {
        use Piece::{Text, Word};
        assert_eq!(split(&["art"], "Art, party art2 ART"), [Word(0), Text(", party "), Word(0), Text("2 "), Word(0),]);
        // The longest counts, whatever the order.
        assert_eq!(split(&["bad", "bad-hands-5"], "a bad-hands-5, bad"), [Text("a "), Word(1), Text(", "), Word(0)]);
        assert_eq!(split(&["my style"], "MY \n style"), [Word(0)]);
        assert_eq!(split(&["<cat-toy>"], "(<cat-toy>:1.2)"), [Text("("), Word(0), Text(":1.2)")]);
        assert_eq!(split(&["cat"], "embedding:Cat"), [Text("embedding:"), Word(0)]);
        assert_eq!(split(&["a", ""], ""), []);
        assert_eq!(split(&["ÜBER"], "über überall"), [Word(0), Text(" überall")]);
        assert_eq!(split(&["a b"], "a"), [Text("a")]);
        assert_eq!(split(&["a b"], "a b"), [Word(0)]);
        assert_eq!(split(&[], "a b"), [Text("a b")]);
    }
}
