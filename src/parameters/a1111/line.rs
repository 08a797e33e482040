//! The line of settings in AUTOMATIC1111's layout: where it is in a text, and its keys with their values.

use serde_json::Value;

use crate::parameters::NEGATIVE;

/// Keys that tell a line of settings from a line of a prompt.
const KNOWN_KEYS: [&str; 8] =
    ["Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Model hash", "Denoising strength"];
/// How many of them a line needs that does not begin with `Steps:`.
const ENOUGH_KEYS: usize = 2;

/// The line of settings, in order.
pub(super) struct Line(pub Vec<(String, String)>);

impl Line {
    pub fn find(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Names with hashes, as in `Lora hashes: "a: 0123, b: 4567"`.
    pub fn hashes(&self, key: &str) -> Vec<(String, String)> {
        let pairs = self.find(key).unwrap_or_default().split(',').filter_map(|pair| pair.rsplit_once(':'));
        pairs.map(|(name, hash)| (name.trim().to_owned(), hash.trim().to_owned())).collect()
    }
}

/// The prompts, and the last line of settings.
pub(super) fn split_at_settings(text: &str) -> Option<(&str, &str)> {
    let mut lines: Vec<(usize, &str)> = Vec::new();
    let mut at = 0;
    for line in text.split('\n') {
        lines.push((at, line.trim_end_matches('\r')));
        at += line.len() + 1;
    }
    let n_known = |line: &str| {
        let keys = split_settings(line);
        KNOWN_KEYS.iter().filter(|known| keys.iter().any(|(key, _)| key == *known)).count()
    };
    let is_settings = |line: &&(usize, &str)| line.1.starts_with("Steps:");
    let has_settings = |line: &&(usize, &str)| n_known(line.1) >= ENOUGH_KEYS;
    let &(start, line) = lines.iter().rev().find(is_settings).or_else(|| lines.iter().rev().find(has_settings))?;
    Some((text[..start].strip_suffix('\n').unwrap_or(&text[..start]), line))
}

/// The two prompts in the lines before the settings.
pub(super) fn split_prompts(text: &str) -> (&str, &str) {
    let marked = if text.starts_with(NEGATIVE) { Some(0) } else { text.find("\nNegative prompt:").map(|i| i + 1) };
    match marked {
        None => (text, ""),
        Some(start) => {
            let negative = &text[start + NEGATIVE.len()..];
            (text[..start].strip_suffix('\n').unwrap_or(""), negative.strip_prefix(' ').unwrap_or(negative))
        }
    }
}

/// The settings `key: value, key: "value, quoted", …`; what has no colon is passed over.
pub(super) fn split_settings(line: &str) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    let mut rest = line.trim();
    while let Some((key, after)) = rest.split_once(':') {
        // What stood before the key without a colon is nobody's.
        let key = key.rsplit(',').next().unwrap_or(key).trim();
        let after = after.trim_start();
        let quoted = quoted_len(after)
            .and_then(|len| Some((serde_json::from_str::<String>(&after[..len]).ok()?, &after[len..])))
            .or_else(|| list_or_object(after));
        let (value, after) = match quoted {
            // What may stand between the closing quote and the comma is nobody's.
            Some((value, after)) => (value, after.split_once(',').map_or("", |(_, next)| next)),
            None => after
                .split_once(',')
                .map_or_else(|| (after.trim().to_owned(), ""), |(value, next)| (value.trim().to_owned(), next)),
        };
        settings.push((key.to_owned(), value));
        rest = after.trim_start();
    }
    settings
}

/// The JSON that `text` starts with, where that is a list or an object, and what follows.
fn list_or_object(text: &str) -> Option<(String, &str)> {
    if !text.starts_with(['[', '{']) {
        return None;
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let value = values.next()?.ok()?;
    Some((value.to_string(), &text[values.byte_offset()..]))
}

/// The length of the JSON string that `text` starts with, quotes included.
fn quoted_len(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('"')?;
    let mut escaped = false;
    for (i, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(i + 2),
            _ => {}
        }
    }
    None
}
