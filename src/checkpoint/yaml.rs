//! What the `.yaml` beside a checkpoint says about its prediction: a tolerant reader of one key of YAML, in block and flow
//! form, with quotes and comments. It builds no document, and knows neither anchors nor merged keys: where the key stands in a
//! form that is not understood, nothing is decided.

use super::identity::Prediction;

/// The key of the original training code's configuration.
const KEY: &str = "parameterization";

/// The class of the original code, which predicts noise where the key is absent.
const CLASS: &str = "LatentDiffusion";

/// A piece of YAML, without comments.
#[derive(Debug, PartialEq)]
enum Token {
    /// A key or a value, without its quotes.
    Scalar(String),
    /// Between a key and its value.
    Colon,
    /// A bracket or a comma of the flow form.
    Mark,
}

/// What a `.yaml` beside a checkpoint says: `parameterization: "v"` means velocity; without the word the original code
/// predicts noise. `None` where it says neither, or both.
#[must_use]
pub fn prediction_of_yaml(text: &str) -> Option<Prediction> {
    let tokens = tokens(text);
    let values = tokens.windows(3).filter_map(|window| match window {
        [Token::Scalar(key), Token::Colon, value] if key == KEY => Some(match value {
            Token::Scalar(value) if value == "v" => Some(Prediction::Velocity),
            Token::Scalar(value) if value == "eps" => Some(Prediction::Epsilon),
            _ => None,
        }),
        _ => None,
    });
    let values: Vec<Option<Prediction>> = values.collect();
    let is_said = |word: &str| tokens.iter().any(|token| matches!(token, Token::Scalar(text) if text.contains(word)));
    match values.first() {
        Some(first) => first.filter(|_| values.iter().all(|value| value == first)),
        None if is_said(KEY) => None,
        None => is_said(CLASS).then_some(Prediction::Epsilon),
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        let behind = rest[c.len_utf8()..].chars().next();
        let ends_word = behind.is_none_or(char::is_whitespace);
        at += match c {
            _ if c.is_whitespace() => c.len_utf8(),
            '#' => line(rest).len(),
            '"' | '\'' => {
                let (scalar, len) = quoted(rest, c);
                tokens.push(Token::Scalar(scalar));
                len
            }
            '{' | '}' | '[' | ']' | ',' => {
                tokens.push(Token::Mark);
                1
            }
            // Of a quoted key the value may follow at once.
            ':' if ends_word || matches!(tokens.last(), Some(Token::Scalar(_))) => {
                tokens.push(Token::Colon);
                1
            }
            // An entry of a list, a key that is marked as one.
            '-' | '?' if ends_word => 1,
            // A tag or an anchor says nothing about the value behind it.
            '!' | '&' => rest.find(char::is_whitespace).unwrap_or(rest.len()),
            '|' | '>' if tokens.last() == Some(&Token::Colon) => block(text, at),
            _ => {
                let scalar = plain(rest);
                tokens.push(Token::Scalar(scalar.trim_end().to_owned()));
                scalar.len().max(c.len_utf8())
            }
        };
    }
    tokens
}

/// To the end of the line.
fn line(text: &str) -> &str {
    &text[..text.find(['\n', '\r']).unwrap_or(text.len())]
}

/// A scalar without quotes: to the end of the line, a comment, a colon before a space, or a mark of the flow form.
fn plain(text: &str) -> &str {
    let text = line(text);
    let bytes = text.as_bytes();
    let is_space = |at: usize| bytes.get(at).is_none_or(u8::is_ascii_whitespace);
    let is_end = |at: usize| match bytes[at] {
        b':' => is_space(at + 1),
        b'#' => at > 0 && is_space(at - 1),
        byte => b"{}[],".contains(&byte),
    };
    &text[..(0..bytes.len()).find(|&at| is_end(at)).unwrap_or(text.len())]
}

/// What is between quotes, and how long it is with them. Escapes other than of the quotes stay as they are.
fn quoted(text: &str, quote: char) -> (String, usize) {
    let mut scalar = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|(_, next)| *next);
        match (c, next) {
            ('\\', Some(next @ ('"' | '\\'))) if quote == '"' => {
                scalar.push(next);
                chars.next();
            }
            ('\'', Some('\'')) if quote == '\'' => {
                scalar.push('\'');
                chars.next();
            }
            (c, _) if c == quote => return (scalar, at + 1),
            (c, _) => scalar.push(c),
        }
    }
    (scalar, text.len())
}

/// The length of a text in lines of its own (`|`, `>`), which are deeper than the line that begins it.
fn block(text: &str, at: usize) -> usize {
    let depth = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let own = depth(&text[start..]);
    let mut lines = text[at..].split_inclusive('\n');
    let first = lines.next().map_or(0, str::len);
    let is_inside = |line: &&str| line.trim().is_empty() || depth(line) > own;
    first + lines.take_while(is_inside).map(str::len).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_found_in_every_form() {
        let (v, eps) = (Some(Prediction::Velocity), Some(Prediction::Epsilon));
        for (text, expected) in [
            ("model:\n  params:\n    parameterization: \"v\"   # velocity\n", v),
            ("model:\n  params: {a: 1, parameterization: \"v\"}\n", v),
            ("model: {target: ldm.models.diffusion.ddpm.LatentDiffusion, params: {parameterization: v}}", v),
            ("{\"target\": \"LatentDiffusion\", \"params\":{\"parameterization\":\"v\"}}", v),
            ("target: LatentDiffusion\n\"parameterization\": 'v'\n", v),
            ("target: LatentDiffusion\n'parameterization' : v\r\nx: y", v),
            ("parameterization : v\n", v),
            ("\u{feff}parameterization: v\n", v),
            ("parameterization:\n  v\n", v),
            ("? parameterization\n: v", v),
            ("- parameterization: !!str v", v),
            ("parameterization: v", v),
            ("# parameterization: \"eps\"\nparameterization: \"v\"", v),
            ("path: a#b\nparameterization: v", v),
            ("about: 'it''s # no comment: \"x' \nparameterization: v", v),
            ("about: |\n  parameterization: eps\n\n  x\nparameterization: v", v),
            ("parameterization: eps\n", eps),
            ("target: ldm.models.diffusion.ddpm.LatentDiffusion\n# parameterization: \"v\"\n", eps),
            ("target: LatentDiffusion\nabout: >-\n  parameterization: v\n", eps),
            // Nothing that is understood.
            ("target: LatentDiffusion\nparameterization: x0\n", None),
            ("target: LatentDiffusion\nparameterization: *it\n", None),
            ("target: LatentDiffusion, {parameterization:v}", None),
            ("a: {parameterization: v}\nb: {parameterization: eps}", None),
            ("# LatentDiffusion", None),
            ("\"parameterization", None),
            ("é: \u{feff}\u{85}'", None),
            ("", None),
        ] {
            assert_eq!(prediction_of_yaml(text), expected, "{text:?}");
        }
    }
}
