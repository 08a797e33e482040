//! ComfyUI's weights: `(x)` multiplies by 1.1, `(x:1.2)` sets the number, whatever stands around it. `\(` and `\)` are text.
//!
//! As in the original, a bracket that closes nothing is counted, so that the next opening one pairs with it and is text.

use super::{Fragment, MAX_DEPTH, Piece, note};

const STEP: f64 = 1.1;
/// Stand for `\)` and `\(` while brackets are counted.
const ESCAPED: [(&str, &str, &str); 2] = [("\\)", "\0\u{1}", ")"), ("\\(", "\0\u{2}", "(")];

/// A text as fragments with weights.
pub(super) fn pieces(text: &str, notes: &mut Vec<String>) -> Vec<Piece> {
    let hidden = ESCAPED.iter().fold(text.to_owned(), |text, (spelling, mark, _)| text.replace(spelling, mark));
    let mut found = Vec::new();
    read(&hidden, 1.0, 0, &mut found, notes);
    let shown = |text: &str| ESCAPED.iter().fold(text.to_owned(), |text, (_, mark, shown)| text.replace(mark, shown));
    let piece = |(text, weight): (&str, f64)| Piece::Text(Fragment { text: shown(text), weight });
    let pieces: Vec<Piece> = found.into_iter().map(piece).collect();
    match pieces.is_empty() {
        true => super::plain(""),
        false => pieces,
    }
}

fn read<'a>(text: &'a str, weight: f64, depth: usize, found: &mut Vec<(&'a str, f64)>, notes: &mut Vec<String>) {
    for item in items(text) {
        let inner = item.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        match inner {
            Some(_) if depth >= MAX_DEPTH => {
                note(notes, &format!("brackets are read {MAX_DEPTH} deep; what opens deeper is text"));
                found.push((item, weight));
            }
            Some(inner) => {
                let (inner, weight) = numbered(inner).unwrap_or((inner, weight * STEP));
                read(inner, weight, depth + 1, found, notes);
            }
            None => found.push((item, weight)),
        }
    }
}

/// `x:1.2` as x and the number.
fn numbered(text: &str) -> Option<(&str, f64)> {
    let at = text.rfind(':').filter(|at| *at > 0)?;
    let number = text[at + 1..].trim();
    let is_number = number.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
    Some((&text[..at], number.parse().ok().filter(|weight: &f64| is_number && weight.is_finite())?))
}

/// A text cut at its outermost brackets, which stay.
fn items(text: &str) -> Vec<&str> {
    let mut items = Vec::new();
    let mut start = 0;
    let mut depth = 0i64;
    for (at, c) in text.char_indices() {
        match c {
            '(' => {
                if depth == 0 {
                    items.push(&text[start..at]);
                    start = at;
                }
                depth += 1;
            }
            ')' => {
                depth -= 1;
                if depth == 0 {
                    items.push(&text[start..=at]);
                    start = at + 1;
                }
            }
            _ => {}
        }
    }
    items.push(&text[start..]);
    items.retain(|item| !item.is_empty());
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_weigh() {
        for (text, expected) in [
            ("a cat", &[("a cat", 1.0)][..]),
            ("a (cat)", &[("a ", 1.0), ("cat", 1.1)]),
            ("a ((cat:1.3) b)", &[("a ", 1.0), ("cat", 1.3), (" b", 1.1)]),
            ("((x:0.5) y:2)", &[("x", 0.5), (" y", 2.0)]),
            (r"a \(cat\)", &[("a (cat)", 1.0)]),
            ("a (cat", &[("a ", 1.0), ("(cat", 1.0)]),
            ("a) b (c)", &[("a) b (c)", 1.0)]),
            ("(a:b)", &[("a:b", 1.1)]),
            ("", &[("", 1.0)]),
        ] {
            let got: Vec<(String, f64)> = pieces(text, &mut Vec::new())
                .into_iter()
                .map(|piece| match piece {
                    Piece::Text(Fragment { text, weight }) => (text, weight),
                    Piece::Break => panic!("no chunk ends"),
                })
                .collect();
            let expected: Vec<(String, f64)> = expected.iter().map(|(t, w)| ((*t).to_owned(), *w)).collect();
            assert_eq!(got, expected, "{text:?}");
        }
    }
}
