//! AUTOMATIC1111's prompts that change over the steps: `[a:b:n]`, `[b:n]`, `[a::n]` and `[a|b]`.
//!
//! Calls of the UNet are counted from 0. A number without a point is the last call for the text before it; one with a point
//! is a part of all calls, rounded down. Alternatives take turns, and the first one has one call more than its turn: a, a, b,
//! a, b. All of that is as the original does it.
//!
//! A prompt whose brackets are not of these forms is text, which the weights read; a `|` outside of alternatives makes all of
//! it text.

use std::collections::{BTreeSet, HashSet};

use super::{MAX_DEPTH, note};

/// A part of a prompt.
#[derive(Debug)]
enum Node<'a> {
    Text(&'a str),
    /// Text before, text after, and the last call of the former.
    Switch(Vec<Node<'a>>, Vec<Node<'a>>, i64),
    Alternatives(Vec<Vec<Node<'a>>>),
}

struct Parser<'a> {
    text: &'a str,
    n_calls: usize,
    /// Brackets that are known to begin none of the forms, by place.
    failed: HashSet<usize>,
}

/// Characters that end a stretch of text.
const SPECIAL: [char; 6] = ['[', ']', '(', ')', ':', '|'];

impl<'a> Parser<'a> {
    fn at(&self, place: usize) -> Option<char> {
        self.text[place..].chars().next()
    }

    /// The length of the text without special characters that begins at a place; `None` where a backslash escapes nothing.
    fn text_len(&self, place: usize) -> Option<usize> {
        let mut chars = self.text[place..].char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' if chars.next().is_none_or(|(_, c)| c == '\n') => return None,
                _ if SPECIAL.contains(&c) => return Some(at),
                _ => {}
            }
        }
        Some(self.text.len() - place)
    }

    /// The whole prompt; `None` where it is nothing but text.
    fn whole(&mut self) -> Option<Vec<Node<'a>>> {
        let mut nodes = Vec::new();
        let mut place = 0;
        while let Some(c) = self.at(place) {
            match c {
                '[' | '(' => {
                    if let Some(end) = self.bracket(place, &mut nodes) {
                        place = end;
                        continue;
                    }
                    nodes.push(Node::Text(&self.text[place..=place]));
                    place += 1;
                }
                ']' | ')' | ':' => {
                    nodes.push(Node::Text(&self.text[place..=place]));
                    place += 1;
                }
                '|' => return None,
                _ => {
                    let len = self.text_len(place)?;
                    nodes.push(Node::Text(&self.text[place..place + len]));
                    place += len;
                }
            }
        }
        Some(nodes)
    }

    /// What lies between brackets, up to the next character that ends it; its place.
    fn inside(&mut self, mut place: usize) -> Option<(Vec<Node<'a>>, usize)> {
        let mut nodes = Vec::new();
        loop {
            match self.at(place)? {
                '[' | '(' => place = self.bracket(place, &mut nodes)?,
                ']' | ')' | ':' | '|' => return Some((nodes, place)),
                _ => {
                    let len = self.text_len(place)?;
                    nodes.push(Node::Text(&self.text[place..place + len]));
                    place += len;
                }
            }
        }
    }

    /// A bracket of any form. Its end, where it is one; what it is goes to `nodes`.
    fn bracket(&mut self, open: usize, nodes: &mut Vec<Node<'a>>) -> Option<usize> {
        if self.failed.contains(&open) {
            return None;
        }
        let n_before = nodes.len();
        let read = if self.at(open) == Some('(') { self.round(open, nodes) } else { self.square(open, nodes) };
        if read.is_none() {
            nodes.truncate(n_before);
            self.failed.insert(open);
        }
        read
    }

    /// `(x)` or `(x:y)`, which stays as it is around what is in it.
    fn round(&mut self, open: usize, nodes: &mut Vec<Node<'a>>) -> Option<usize> {
        nodes.push(Node::Text("("));
        let (inner, mut end) = self.inside(open + 1)?;
        nodes.extend(inner);
        if self.at(end) == Some(':') {
            let (inner, close) = self.inside(end + 1)?;
            nodes.push(Node::Text(":"));
            nodes.extend(inner);
            end = close;
        }
        nodes.push(Node::Text(")"));
        (self.at(end) == Some(')')).then_some(end + 1)
    }

    /// `[x]`, which stays as it is, `[b:n]`, `[a:b:n]` or `[a|b|…]`.
    fn square(&mut self, open: usize, nodes: &mut Vec<Node<'a>>) -> Option<usize> {
        let (first, end) = self.inside(open + 1)?;
        match self.at(end)? {
            ']' => {
                nodes.push(Node::Text("["));
                nodes.extend(first);
                nodes.push(Node::Text("]"));
                Some(end + 1)
            }
            '|' => self.alternatives(first, end, nodes),
            ':' => {
                let (second, middle) = self.inside(end + 1)?;
                let (before, after, number, close) = match self.at(middle)? {
                    ']' => (Vec::new(), first, &self.text[end + 1..middle], middle),
                    ':' => {
                        let (_, close) = self.inside(middle + 1)?;
                        (first, second, &self.text[middle + 1..close], close)
                    }
                    _ => return None,
                };
                let last_call = last_call(number, self.n_calls)?;
                nodes.push(Node::Switch(before, after, last_call));
                (self.at(close) == Some(']')).then_some(close + 1)
            }
            _ => None,
        }
    }

    fn alternatives(&mut self, first: Vec<Node<'a>>, end: usize, nodes: &mut Vec<Node<'a>>) -> Option<usize> {
        let mut all = vec![first];
        let mut end = end;
        while self.at(end) == Some('|') {
            let (next, place) = self.inside(end + 1)?;
            all.push(next);
            end = place;
        }
        nodes.push(Node::Alternatives(all));
        (self.at(end) == Some(']')).then_some(end + 1)
    }
}

/// The last call that a number leaves to the text before it.
fn last_call(number: &str, n_calls: usize) -> Option<i64> {
    let number = number.trim();
    let unsigned = number.strip_prefix(['-', '+']).unwrap_or(number);
    let starts = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let value: f64 = number.parse().ok().filter(|value: &f64| starts && value.is_finite())?;
    let calls = if number.contains('.') { value * n_calls as f64 } else { value };
    Some((calls as i64).min(n_calls as i64))
}

/// The calls after which something changes.
fn changes(nodes: &[Node<'_>], n_calls: usize, all: &mut BTreeSet<usize>) {
    for node in nodes {
        match node {
            Node::Text(_) => {}
            Node::Switch(before, after, last) => {
                all.extend(usize::try_from(*last).ok().filter(|last| *last > 0));
                changes(before, n_calls, all);
                changes(after, n_calls, all);
            }
            Node::Alternatives(options) => {
                all.extend(1..=n_calls);
                options.iter().for_each(|option| changes(option, n_calls, all));
            }
        }
    }
}

/// The text up to a call.
fn text_at(nodes: &[Node<'_>], call: usize, text: &mut String) {
    for node in nodes {
        match node {
            Node::Text(part) => text.push_str(part),
            Node::Switch(before, after, last) => {
                text_at(if call as i64 <= *last { before } else { after }, call, text);
            }
            Node::Alternatives(options) => text_at(&options[(call.max(1) - 1) % options.len()], call, text),
        }
    }
}

/// How deep brackets of either kind are, at most.
fn depth(text: &str) -> usize {
    let (mut depth, mut most) = (0usize, 0);
    let mut escaped = false;
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        most = most.max(depth);
    }
    most
}

/// Whether a prompt changes over the steps.
pub(super) fn is_scheduled(text: &str) -> bool {
    // With one call less than two nothing could.
    schedule(text, 4, &mut Vec::new()).len() > 1
}

/// The texts of a prompt over time: each with the last call that it holds for.
pub(super) fn schedule(text: &str, n_calls: usize, notes: &mut Vec<String>) -> Vec<(usize, String)> {
    let as_text = || vec![(n_calls, text.to_owned())];
    if !text.contains('[') {
        return as_text();
    }
    if depth(text) > MAX_DEPTH {
        note(notes, &format!("brackets are read {MAX_DEPTH} deep; what opens deeper is text"));
        return as_text();
    }
    let Some(nodes) = (Parser { text, n_calls, failed: HashSet::new() }).whole() else { return as_text() };
    let mut all = BTreeSet::from([n_calls]);
    changes(&nodes, n_calls, &mut all);
    let at = |call: usize| {
        let mut at_call = String::new();
        text_at(&nodes, call, &mut at_call);
        (call, at_call)
    };
    all.into_iter().map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, n_calls: usize) -> Vec<(usize, String)> {
        schedule(text, n_calls, &mut Vec::new())
    }

    #[test]
    fn texts_change_over_the_calls() {
        for (text, expected) in [
            ("test", &[(10, "test")][..]),
            ("a [b:3]", &[(3, "a "), (10, "a b")]),
            ("a [b: 3]", &[(3, "a "), (10, "a b")]),
            ("a [[[b]]:2]", &[(2, "a "), (10, "a [[b]]")]),
            ("[(a:2):3]", &[(3, ""), (10, "(a:2)")]),
            ("a [b : c : 1] d", &[(1, "a b  d"), (10, "a  c  d")]),
            ("a[b:[c:d:2]:1]e", &[(1, "abe"), (2, "ace"), (10, "ade")]),
            ("a [unbalanced", &[(10, "a [unbalanced")]),
            ("a [b:.5] c", &[(5, "a  c"), (10, "a b c")]),
            ("a [b:0.99] c", &[(9, "a  c"), (10, "a b c")]),
            ("a [b:1.5] c", &[(10, "a  c")]),
            ("a [b:-1] c", &[(10, "a b c")]),
            ("a [{b|d{:.5] c", &[(10, "a [{b|d{:.5] c")]),
            ("((a][:b:c [d:3]", &[(3, "((a][:b:c "), (10, "((a][:b:c d")]),
            ("[a::2]", &[(2, "a"), (10, "")]),
            ("x | [a:b:2]", &[(10, "x | [a:b:2]")]),
            (r"\[a:b:2\]", &[(10, r"\[a:b:2\]")]),
            ("(a [b:c:4]:1.2)", &[(4, "(a b:1.2)"), (10, "(a c:1.2)")]),
        ] {
            let expected: Vec<(usize, String)> = expected.iter().map(|(n, t)| (*n, (*t).to_owned())).collect();
            assert_eq!(read(text, 10), expected, "{text:?}");
        }
        let texts: Vec<String> = read("[fe|||]male", 6).into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["female", "male", "male", "male", "female", "male"]);
    }

    #[test]
    fn hostile_brackets_take_no_time() {
        for text in
            ["[".repeat(50_000), "[a|".repeat(20_000), "[".repeat(90) + &"[[a]".repeat(10_000), "[a:".repeat(99)]
        {
            read(&text, 300);
        }
    }
}
