//! compel's weights: `word++` is 1.1 squared, `word-` 0.9, `(some words)1.3` the number; `"some words"+` works as brackets do.
//! Nested ones multiply. A backslash makes text of the brackets, quotes and signs behind it.
//!
//! `("a", "b").and(1, 0.5)` encodes each prompt in chunks of its own, `("a", "b").blend(0.7, 0.3)` sums their states.
//! `.swap()` and `withLora()` are refused: what they draw is another picture. An operator that stands behind nothing is text,
//! as in the original.

use std::collections::HashSet;

use super::{Fragment, MAX_DEPTH, Part, Piece, Section, note, refuse};
use crate::error::Result;

const PLUS: f64 = 1.1;
const MINUS: f64 = 0.9;
/// Characters that have a meaning; behind a backslash they are text.
const SYNTAX: [char; 8] = ['(', ')', '"', ',', '.', '+', '-', '='];
/// What is not drawn, and what to write in its place.
const REFUSED: [(&str, &str); 3] =
    [(".swap(", "use [a:b:0.5] with --prompt-syntax a1111"), ("withLora(", "use --lora"), ("useLora(", "use --lora")];
/// What makes one text of several prompts, and where it works.
pub(super) const OPERATORS: [(&str, Operator); 3] =
    [(".and", Operator::And), (".add", Operator::And), (".blend", Operator::Blend)];
const WHERE_THEY_WORK: &str = r#"("a", "b").and() and ("a", "b").blend(0.7, 0.3) work at the beginning of the prompt"#;
/// What keeps the weights of `.blend()` as they are.
const AS_THEY_ARE: &str = "no_normalize";

/// How several prompts become one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    /// One behind the other.
    And,
    /// Their states are summed.
    Blend,
}

/// A text as fragments with weights.
///
/// # Errors
/// [`crate::Error::Request`] for what is not drawn here.
pub(super) fn part(text: &str, notes: &mut Vec<String>) -> Result<Part> {
    if let Some((operator, expected)) = REFUSED.iter().find(|(operator, _)| text.contains(operator)) {
        return refuse(format!("with compel's {operator}…)"), *expected);
    }
    let Some(Several { prompts, operator, options, rest }) = several(text) else {
        return match OPERATORS.iter().find(|(operator, _)| stands_behind_brackets(text, operator)) {
            Some((operator, _)) => refuse(format!("with compel's {operator}(…)"), WHERE_THEY_WORK),
            None => Ok(Part::constant(pieces_of_one(text, notes))),
        };
    };
    let mut options: Vec<&str> = options.split(',').map(str::trim).collect();
    if options == [""] {
        options.clear();
    }
    let normalises = operator == Operator::Blend && options.last() != Some(&AS_THEY_ARE);
    if operator == Operator::Blend && !normalises {
        options.pop();
    }
    let weights: Option<Vec<f64>> =
        options.iter().map(|weight| weight.parse().ok().filter(|w: &f64| w.is_finite())).collect();
    let weights = weights.map(|weights| if weights.is_empty() { vec![1.0; prompts.len()] } else { weights });
    let Some(weights) = weights.filter(|weights| weights.len() == prompts.len()) else {
        let got = format!("with the weights ({}) for {} prompts", options.join(", "), prompts.len());
        return refuse(got, "give a number for each prompt, or none");
    };
    if !rest.trim().is_empty() {
        if operator == Operator::Blend {
            return refuse(format!("with {:?} behind .blend()", rest.trim()), ".blend() is the whole prompt in compel");
        }
        note(notes, "what stands behind .and() is left out, as in compel");
    }
    let variants: Vec<Vec<Piece>> = prompts.iter().map(|prompt| pieces_of_quoted(prompt, notes)).collect();
    if operator == Operator::And && weights.iter().all(|weight| *weight == 1.0) {
        return Ok(Part::constant(variants.join(&Piece::Break)));
    }
    let sections = match operator {
        Operator::And => {
            let one = |(variant, weight)| Section { weight, shares: vec![(variant, 1.0)] };
            weights.into_iter().enumerate().map(one).collect()
        }
        Operator::Blend => {
            let total: f64 = if normalises { weights.iter().sum() } else { 1.0 };
            if total == 0.0 {
                let expected = format!("their sum must not be 0, or the last one be {AS_THEY_ARE}");
                return refuse(format!("with the weights ({})", options.join(", ")), expected);
            }
            let shares = weights.iter().map(|weight| weight / total).enumerate().collect();
            vec![Section { weight: 1.0, shares }]
        }
    };
    Ok(Part { variants, sections, ..Part::constant(Vec::new()) })
}

/// Whether an operator is behind a bracket and before one somewhere, with spaces or without.
pub(super) fn stands_behind_brackets(text: &str, operator: &str) -> bool {
    text.match_indices(operator).any(|(at, _)| {
        text[..at].trim_end().ends_with(')') && text[at + operator.len()..].trim_start().starts_with('(')
    })
}

/// Prompts with an operator behind them.
struct Several<'a> {
    prompts: Vec<&'a str>,
    operator: Operator,
    /// What stands in the operator's brackets.
    options: &'a str,
    /// What follows them.
    rest: &'a str,
}

/// What begins a text as `("a", "b").and()` or `.blend()`. A single word needs no quotes.
fn several(text: &str) -> Option<Several<'_>> {
    let mut rest = text.trim_start().strip_prefix('(')?;
    let mut prompts = Vec::new();
    let rest = loop {
        rest = rest.trim_start();
        let (prompt, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let is_end = |at: &usize| !quoted[..*at].ends_with('\\');
                let end = quoted.match_indices('"').map(|(at, _)| at).find(is_end)?;
                (&quoted[..end], quoted[end + 1..].trim_start())
            }
            None => {
                let end = rest.find([',', ')', '(', '"', '\\']).filter(|end| *end > 0)?;
                let word = rest[..end].trim_end();
                (Some(word).filter(|word| !word.contains(char::is_whitespace))?, &rest[end..])
            }
        };
        prompts.push(prompt);
        match after.strip_prefix(',') {
            Some(after) => rest = after,
            None => break after,
        }
    };
    let rest = rest.strip_prefix(')')?.trim_start();
    let found = |(sign, operator): &(&str, Operator)| {
        let behind = rest.strip_prefix(sign)?.trim_start();
        Some((behind.strip_prefix('(')?, *operator))
    };
    let (rest, operator) = OPERATORS.iter().find_map(found)?;
    let (options, rest) = rest.split_once(')')?;
    Some(Several { prompts, operator, options, rest })
}

/// A prompt in quotes, before an operator: as what stands in quotes elsewhere, where that reads it to its end.
fn pieces_of_quoted(text: &str, notes: &mut Vec<String>) -> Vec<Piece> {
    let spaced = with_space_behind_commas(text);
    let mut found = Vec::new();
    let mut reader = Reader { text: &spaced, depth: 0, too_deep: false, failed: HashSet::new() };
    match reader.inside(0, spaced.len(), &mut found) {
        Some(end) if end == spaced.len() && !found.is_empty() => fused(found),
        _ => pieces_of_one(text, notes),
    }
}

/// A prompt without operators between prompts.
fn pieces_of_one(text: &str, notes: &mut Vec<String>) -> Vec<Piece> {
    let text = with_space_behind_commas(text);
    let mut found = Vec::new();
    let mut reader = Reader { text: &text, depth: 0, too_deep: false, failed: HashSet::new() };
    let mut place = 0;
    while let Some(c) = reader.at(place) {
        if c.is_whitespace() {
            place += c.len_utf8();
        } else if let Some(end) = reader.term(place, &mut found) {
            place = end;
        } else {
            // A word that holds syntax which means nothing there.
            let end = text[place..].find(char::is_whitespace).map_or(text.len(), |len| place + len);
            found.push((text[place..end].to_owned(), 1.0));
            place = end;
        }
    }
    if reader.too_deep {
        note(notes, &format!("brackets are read {MAX_DEPTH} deep; what opens deeper is text"));
    }
    fused(found)
}

/// `a,b` as `a, b`.
fn with_space_behind_commas(text: &str) -> String {
    let mut spaced = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        spaced.push(c);
        // What follows is swallowed by the match, so that of two commas in a row only the first is looked at.
        if c == ','
            && let Some(next) = chars.next_if(|next| !next.is_whitespace())
        {
            spaced.push(' ');
            spaced.push(next);
        }
    }
    spaced
}

struct Reader<'a> {
    text: &'a str,
    depth: usize,
    too_deep: bool,
    /// Brackets and quotes that are known to begin no group, by place.
    failed: HashSet<usize>,
}

type Found = Vec<(String, f64)>;

impl Reader<'_> {
    fn at(&self, place: usize) -> Option<char> {
        self.text[place..].chars().next()
    }

    /// A run of one sign and the factor that it stands for.
    fn signs(&self, place: usize) -> Option<(f64, usize)> {
        let sign = self.at(place).filter(|c| ['+', '-'].contains(c))?;
        let n = self.text[place..].chars().take_while(|c| *c == sign).count();
        let base: f64 = if sign == '+' { PLUS } else { MINUS };
        Some((base.powf(n as f64), place + n))
    }

    /// A number behind a group.
    fn number(&self, place: usize) -> Option<(f64, usize)> {
        let text = &self.text[place..];
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let len = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let mut number = &text[..text.len() - unsigned.len() + len];
        // A second point ends it.
        if let Some((second, _)) = number.match_indices('.').nth(1) {
            number = &number[..second];
        }
        let mut weight: Option<f64> = number.parse().ok();
        if weight.is_none() {
            number = number.trim_end_matches('.');
            weight = number.parse().ok();
        }
        weight.filter(|weight| weight.is_finite()).map(|weight| (weight, place + number.len()))
    }

    /// A word without syntax; its end.
    fn word(&self, start: usize) -> usize {
        let mut place = start;
        while let Some(c) = self.at(place) {
            let next = self.at(place + c.len_utf8());
            match c {
                '\\' if next.is_some_and(|next| SYNTAX.contains(&next)) => place += 2,
                '+' | '-' => {
                    // Inside a word only: a minus may begin a number.
                    let goes_on = next.is_some_and(|next| !next.is_whitespace() && !SYNTAX.contains(&next));
                    if !goes_on {
                        break;
                    }
                    place += 1;
                }
                _ if c.is_whitespace() || SYNTAX.contains(&c) => break,
                _ => place += c.len_utf8(),
            }
        }
        place
    }

    /// A group, with an operator behind it or without, or a word with one.
    fn term(&mut self, place: usize, found: &mut Found) -> Option<usize> {
        let n_before = found.len();
        if let Some(end) = self.group(place, found) {
            let operator = self.signs(end).or_else(|| self.number(end)).or_else(|| self.attend(end));
            let Some((factor, after)) = operator else { return Some(end) };
            found[n_before..].iter_mut().for_each(|(_, weight)| *weight *= factor);
            return Some(after);
        }
        let end = self.word(place);
        if end == place {
            return None;
        }
        let (factor, after) = self.signs(end).or_else(|| self.attend(end))?;
        found.push((self.text[place..end].to_owned(), factor));
        Some(after)
    }

    /// `.attend(+)` or `.attend(1.3)`.
    fn attend(&self, place: usize) -> Option<(f64, usize)> {
        let opened = self.text[place..].strip_prefix(".attend(")?;
        let at = self.text.len() - opened.len();
        let (factor, end) = self.signs(at).or_else(|| self.number(at))?;
        self.text[end..].starts_with(')').then_some((factor, end + 1))
    }

    /// What stands in brackets or quotes.
    fn group(&mut self, place: usize, found: &mut Found) -> Option<usize> {
        if self.failed.contains(&place) {
            return None;
        }
        let n_before = found.len();
        let end = match self.at(place)? {
            '(' | '"' if self.depth >= MAX_DEPTH => {
                self.too_deep = true;
                None
            }
            '(' => {
                self.depth += 1;
                let end = self.inside(place + 1, self.text.len(), found);
                self.depth -= 1;
                end.filter(|end| self.at(*end) == Some(')')).map(|end| end + 1)
            }
            '"' => {
                let close = self.text[place + 1..].find('"').map(|len| place + 1 + len)?;
                if self.text[place + 1..close].trim().is_empty() {
                    // Nothing in quotes is a fragment too, which a space joins to its neighbours.
                    found.push((String::new(), 1.0));
                }
                self.depth += 1;
                let end = self.inside(place + 1, close, found);
                self.depth -= 1;
                end.filter(|end| *end == close).map(|end| end + 1)
            }
            _ => return None,
        };
        if end.is_none() {
            found.truncate(n_before);
            self.failed.insert(place);
        }
        end
    }

    /// Words and groups up to `limit`, or what is neither; its place.
    fn inside(&mut self, mut place: usize, limit: usize, found: &mut Found) -> Option<usize> {
        while place < limit {
            let c = self.at(place)?;
            if c.is_whitespace() {
                place += c.len_utf8();
            } else if let Some(end) = self.term(place, found) {
                place = end;
            } else if [',', '.'].contains(&c) {
                found.push((c.to_string(), 1.0));
                place += 1;
            } else {
                let end = self.word(place).min(limit);
                if end == place {
                    break;
                }
                found.push((self.text[place..end].to_owned(), 1.0));
                place = end;
            }
        }
        Some(place)
    }
}

/// Joins neighbours of equal weight with a space, and takes the backslashes off.
fn fused(found: Found) -> Vec<Piece> {
    let mut joined: Found = Vec::new();
    for (text, weight) in found {
        let text = text.replace("\\(", "(").replace("\\)", ")").replace("\\\"", "\"");
        match joined.last_mut() {
            Some((known, same)) if *same == weight => {
                known.push(' ');
                known.push_str(&text);
            }
            _ => joined.push((text, weight)),
        }
    }
    if joined.is_empty() {
        return super::plain("");
    }
    joined.into_iter().map(|(text, weight)| Piece::Text(Fragment { text, weight })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_and_numbers_weigh() {
        let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
        for (text, expected) in [
            ("a red ball", &[("a red ball", 1.0)][..]),
            ("a red++ ball-", &[("a", 1.0), ("red", 1.21), ("ball", 0.9)]),
            ("a (red ball)1.3, there", &[("a", 1.0), ("red ball", 1.3), (", there", 1.0)]),
            ("(a (b)+ c)0.5", &[("a", 0.5), ("b", 0.55), ("c", 0.5)]),
            ("\"red ball\"+", &[("red ball", 1.1)]),
            (r"\(x\) + y", &[("(x) + y", 1.0)]),
            ("well-known+ a-b", &[("well-known", 1.1), ("a-b", 1.0)]),
            ("(a b", &[("(a b", 1.0)]),
            ("", &[("", 1.0)]),
        ] {
            let got: Vec<(String, f64)> = part(text, &mut Vec::new())
                .unwrap()
                .variants
                .swap_remove(0)
                .into_iter()
                .map(|piece| match piece {
                    Piece::Text(Fragment { text, weight }) => (text, weight),
                    Piece::Break => panic!("no chunk ends"),
                })
                .collect();
            let same =
                got.len() == expected.len() && got.iter().zip(expected).all(|((t, w), (u, v))| t == u && close(*w, *v));
            assert!(same, "{text:?}: {got:?}");
        }
        for text in [
            "(\"a\", \"b\").blend(1)",
            "(\"a\", \"b\").blend(1, -1)",
            "(\"a\", \"b\").blend(1, x)",
            "(\"a\", \"b\").blend() x",
            "x (\"a\", \"b\").blend()",
            "(\"a\", \"b\").and(1)",
            "(\"a\", \"b\").and(1, 1, no_normalize)",
            "a.swap(b)",
            "x (\"a\", \"b\").and()",
            "x (\"a\", \"b\") .and ()",
            "(\"a\" \"b\").and()",
            "(a b).and()",
        ] {
            assert!(part(text, &mut Vec::new()).is_err(), "{text}");
        }
    }

    #[test]
    fn and_joins_prompts() {
        let mut notes = Vec::new();
        let joined = |text: &str, notes: &mut Vec<String>| {
            let shown = |piece: &Piece| match piece {
                Piece::Text(fragment) => fragment.text.clone(),
                Piece::Break => "|".to_owned(),
            };
            part(text, notes).unwrap().variants[0].iter().map(shown).collect::<String>()
        };
        for (text, expected) in [
            ("(\"a red fox\", \"snow\").and()", "a red fox|snow"),
            (" ( \"a\" , b,\"\" ).and( 1,1.0, 1 )", "a|b|"),
            ("(\"a \\\"q\\\"\", \"b, c\").and()", "a \"q\"|b , c"),
            ("(a).and()", "a"),
        ] {
            assert_eq!(joined(text, &mut notes), expected, "{text}");
        }
        assert!(notes.is_empty());
        assert_eq!(joined("(\"a\", \"b\").and() x", &mut notes), "a|b");
        assert_eq!(notes.len(), 1);
    }

    #[test]
    fn blend_and_weights_sum_states() {
        let of = |text: &str| {
            let part = part(text, &mut Vec::new()).unwrap();
            assert_eq!((part.n_texts(), part.variants.len()), (1, 2), "{text}");
            part.sections
        };
        let blend = |shares: [f64; 2]| {
            let shares = shares.into_iter().enumerate().collect();
            vec![Section { weight: 1.0, shares }]
        };
        assert_eq!(of("(\"a\", \"b\").blend(3, 1)"), blend([0.75, 0.25]));
        assert_eq!(of("(\"a\", b) .blend ()"), blend([0.5, 0.5]));
        assert_eq!(of("(\"a\", \"b\").blend(3, -1, no_normalize)"), blend([3.0, -1.0]));
        let one = |weight, variant| Section { weight, shares: vec![(variant, 1.0)] };
        assert_eq!(of("(\"a\", \"b\").and(1, 0.5)"), [one(1.0, 0), one(0.5, 1)]);
    }
}
