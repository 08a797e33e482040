//! AUTOMATIC1111's weights, `BREAK`, `AND` and tags.
//!
//! `(x)` multiplies by 1.1, `[x]` divides by it, `(x:1.2)` gives the number; nested ones multiply, innermost first. What is
//! not closed lasts to the end. A bracket behind a backslash is text, and so is one that closes nothing.

use super::{Fragment, MAX_DEPTH, Piece, note};

/// What a bracket without a number multiplies or divides by.
const STEP: f64 = 1.1;
/// Stands for a chunk's end among the fragments, with this weight. Brackets around it multiply that weight too, after which
/// it is a word: so does the original.
const BREAK: (&str, f64) = ("BREAK", -1.0);

/// A letter, digit or underscore, between which and anything else a word begins or ends.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `word` stands by itself in a text, in bytes.
fn places<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// Whether `word` stands by itself in a text.
pub(super) fn has_word(text: &str, word: &str) -> bool {
    places(text, word).next().is_some()
}

/// The prompts that `AND` joins, with their weights: `a :1.2 AND b :0.8`. A prompt without `AND` may have one, too.
pub(super) fn split_at_and(text: &str, notes: &mut Vec<String>) -> Vec<(String, f64)> {
    let mut parts = Vec::new();
    let mut start = 0;
    for at in places(text, "AND") {
        parts.push(&text[start..at]);
        start = at + "AND".len();
    }
    parts.push(&text[start..]);
    if let [only] = parts[..]
        && let (_, Some(weight)) = weight_at_end(only)
    {
        let says =
            "at the end is the weight of the whole prompt, as in AUTOMATIC1111: put a comma behind it if it is text";
        note(notes, &format!(":{weight} {says}"));
    }
    parts
        .into_iter()
        .map(|part| {
            let (text, weight) = weight_at_end(part);
            (text.to_owned(), weight.unwrap_or(1.0))
        })
        .collect()
}

/// The text before `:w` at the end, and w.
fn weight_at_end(text: &str) -> (&str, Option<f64>) {
    let split = text.rsplit_once(':').and_then(|(before, number)| {
        let number = number.trim();
        let digits = number.strip_prefix(['-', '+']).unwrap_or(number);
        let is_number = digits.contains(|c: char| c.is_ascii_digit())
            && digits.chars().all(|c| c.is_ascii_digit() || c == '.')
            && digits.matches('.').count() <= 1;
        Some((before.trim_end(), number.parse().ok().filter(|n: &f64| is_number && n.is_finite())?))
    });
    match split {
        Some((text, weight)) => (text, Some(weight)),
        None => (text, None),
    }
}

/// Whether a text from a `<` to the next `>` is `<name:values>`.
fn is_tag(text: &str) -> bool {
    let name = text[1..].find(|c: char| !is_word(c)).unwrap_or_default();
    name > 0 && text[1 + name..].starts_with(':') && text.len() > name + 3
}

/// The first tag of a text.
pub(super) fn first_tag(text: &str) -> Option<&str> {
    let mut start = 0;
    // Each stretch up to the next `>` is looked through once, from its first `<`.
    while let Some(close) = text[start..].find('>').map(|at| start + at + 1) {
        let opens = text[start..close].match_indices('<').map(|(at, _)| start + at);
        if let Some(tag) = opens.map(|at| &text[at..close]).find(|tag| is_tag(tag)) {
            return Some(tag);
        }
        start = close;
    }
    None
}

/// The text without tags, which are said: what is here by now is nothing that could be loaded.
pub(super) fn without_tags(text: &str, notes: &mut Vec<String>) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(tag) = first_tag(rest) {
        let at = tag.as_ptr() as usize - rest.as_ptr() as usize;
        kept.push_str(&rest[..at]);
        note(notes, &format!("{tag} is left out: it is nothing that can be loaded here"));
        rest = &rest[at + tag.len()..];
    }
    kept.push_str(rest);
    kept
}

/// The number in `: 1.2 )`, which begins here, and the length of all that.
fn closing_weight(text: &str) -> Option<(f64, usize)> {
    let after = text.strip_prefix(':')?;
    let number = after.trim_start();
    let signed = number.strip_prefix(['-', '+']).unwrap_or(number);
    let digits = signed.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|len| *len > 0)?;
    let end = number.len() - signed.len() + digits;
    let weight: f64 = number[..end].parse().ok().filter(|weight: &f64| weight.is_finite())?;
    let close = number[end..].trim_start();
    close.starts_with(')').then(|| (weight, text.len() - close.len() + 1))
}

/// A text as fragments with weights.
pub(super) fn pieces(text: &str, notes: &mut Vec<String>) -> Vec<Piece> {
    let mut found: Vec<(String, f64)> = Vec::new();
    let (mut round, mut square): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
    let multiply = |found: &mut Vec<(String, f64)>, start: usize, factor: f64| {
        found[start..].iter_mut().for_each(|(_, weight)| *weight *= factor);
    };
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let mut len = c.len_utf8();
        let depth = round.len() + square.len();
        match c {
            '\\' => {
                // A backslash that escapes nothing is lost, as in the original.
                let escaped = rest[1..].chars().next().filter(|c| "()[]\\".contains(*c));
                found.push((escaped.map(String::from).unwrap_or_default(), 1.0));
                len += escaped.map_or(0, char::len_utf8);
            }
            '(' | '[' if depth >= MAX_DEPTH => {
                note(notes, &format!("brackets are read {MAX_DEPTH} deep; what opens deeper is text"));
                found.push((c.to_string(), 1.0));
            }
            '(' => round.push(found.len()),
            '[' => square.push(found.len()),
            ')' if !round.is_empty() => multiply(&mut found, round.pop().unwrap_or_default(), STEP),
            ']' if !square.is_empty() => multiply(&mut found, square.pop().unwrap_or_default(), 1.0 / STEP),
            ':' => match closing_weight(rest) {
                Some((weight, n)) => {
                    len = n;
                    match round.pop() {
                        Some(start) => multiply(&mut found, start, weight),
                        None => found.push((rest[..n].to_owned(), 1.0)),
                    }
                }
                None => found.push((":".to_owned(), 1.0)),
            },
            ')' | ']' => found.push((c.to_string(), 1.0)),
            _ => {
                len = rest.find(['\\', '(', ')', '[', ']', ':']).unwrap_or(rest.len());
                push_text(&rest[..len], &mut found);
            }
        }
        rest = &rest[len..];
    }
    for start in round.into_iter().rev() {
        multiply(&mut found, start, STEP);
    }
    for start in square.into_iter().rev() {
        multiply(&mut found, start, 1.0 / STEP);
    }
    merged(found, notes)
}

/// A text without brackets, cut at `BREAK`, which swallows the white space around it.
fn push_text(text: &str, found: &mut Vec<(String, f64)>) {
    let mut start = 0;
    for at in places(text, BREAK.0) {
        found.push((text[start..at].trim_end().to_owned(), 1.0));
        found.push((BREAK.0.to_owned(), BREAK.1));
        let after = &text[at + BREAK.0.len()..];
        start = text.len() - after.trim_start().len();
    }
    found.push((text[start.min(text.len())..].to_owned(), 1.0));
}

/// Joins neighbours of equal weight, and tells chunks' ends from words.
fn merged(found: Vec<(String, f64)>, notes: &mut Vec<String>) -> Vec<Piece> {
    let mut joined: Vec<(String, f64)> = Vec::new();
    for (text, weight) in found {
        match joined.last_mut() {
            Some((known, same)) if *same == weight => known.push_str(&text),
            _ => joined.push((text, weight)),
        }
    }
    if joined.is_empty() {
        joined.push((String::new(), 1.0));
    }
    let piece = |(text, weight): (String, f64)| {
        if text == BREAK.0 && weight == BREAK.1 {
            return Piece::Break;
        }
        if text == BREAK.0 && weight < 0.0 {
            note(notes, "BREAK inside brackets is a word, as in AUTOMATIC1111: put it outside");
        }
        Piece::Text(Fragment { text, weight })
    };
    joined.into_iter().map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, f64)> {
        let piece = |piece| match piece {
            Piece::Text(Fragment { text, weight }) => (text, weight),
            Piece::Break => ("|".to_owned(), 0.0),
        };
        pieces(text, &mut Vec::new()).into_iter().map(piece).collect()
    }

    #[test]
    fn brackets_weigh() {
        for (text, expected) in [
            ("normal text", &[("normal text", 1.0)][..]),
            ("an (important) word", &[("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
            ("(unbalanced", &[("unbalanced", 1.1)]),
            (r"\(literal\]", &[("(literal]", 1.0)]),
            ("(unnecessary)(parens)", &[("unnecessaryparens", 1.1)]),
            (
                "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
                &[
                    ("a ", 1.0),
                    ("house", 1.5730000000000004),
                    (" ", 1.1),
                    ("on", 1.0),
                    (" a ", 1.1),
                    ("hill", 0.55),
                    (", sun, ", 1.1),
                    ("sky", 1.4641000000000006),
                    (".", 1.1),
                ],
            ),
            ("", &[("", 1.0)]),
            ("a:1.2)", &[("a:1.2)", 1.0)]),
            ("(a:1.2.3)", &[("a:1.2.3", 1.1)]),
            ("(a : -.5 )", &[("a ", -0.5)]),
            ("a BREAK b", &[("a", 1.0), ("|", 0.0), ("b", 1.0)]),
            ("BREAKs", &[("BREAKs", 1.0)]),
            ("BREAK", &[("", 1.0), ("|", 0.0), ("", 1.0)]),
        ] {
            let expected: Vec<(String, f64)> = expected.iter().map(|(t, w)| ((*t).to_owned(), *w)).collect();
            assert_eq!(read(text), expected, "{text:?}");
        }
    }

    #[test]
    fn and_has_weights() {
        let read = |text| split_at_and(text, &mut Vec::new());
        assert_eq!(read("a :1.2 AND b: 0.8 AND c"), [("a".into(), 1.2), (" b".into(), 0.8), (" c".into(), 1.0)]);
        assert_eq!(read("a BAND, 16:9,"), [("a BAND, 16:9,".into(), 1.0)]);
        let mut notes = Vec::new();
        assert_eq!(split_at_and("a BAND : .5 ", &mut notes), [("a BAND".into(), 0.5)]);
        assert!(notes[0].starts_with(":0.5 at the end is the weight"), "{notes:?}");
    }

    #[test]
    fn tags_are_cut_and_said() {
        let mut notes = Vec::new();
        assert_eq!(without_tags("a <hypernet:x:1> b <b> <c <d:1>", &mut notes), "a  b <b> <c ");
        assert_eq!(notes.len(), 2, "{notes:?}");
    }
}
