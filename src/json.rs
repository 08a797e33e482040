//! JSON as Python reads and writes it: `NaN`, `Infinity` and `-Infinity` are numbers, and of a key that comes twice the
//! last one counts.
//!
//! It says nothing about what is in a file. Errors are serde_json's; who reads a file adds its name.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Parses a text. Non-finite numbers become the strings `"inf"`, `"-inf"` and `"?"`, so that a field that nobody reads
/// may hold one, and a field that needs a number refuses it.
///
/// # Errors
/// Where it is not JSON, with the position.
pub fn value(text: &str) -> serde_json::Result<Value> {
    serde_json::from_str(&quote_non_finite(text))
}

/// Parses a text into a type.
///
/// # Errors
/// Where it is not JSON, or a field has the wrong type, with the position.
pub fn typed<T: DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    let quoted = quote_non_finite(text);
    // A struct refuses a key that comes twice, a `Value` keeps the last one; but only the text has positions.
    serde_json::from_str(&quoted).or_else(|error| {
        let value: Value = serde_json::from_str(&quoted)?;
        serde_json::from_value(value).map_err(|_| error)
    })
}

/// What Python writes and JSON does not have, with a stand-in of the same length, so that error positions stay true.
const NON_FINITE: [(&str, &str); 3] = [("-Infinity", "\"-inf\"   "), ("Infinity", "\"inf\"   "), ("NaN", "\"?\"")];

/// Puts Python's non-finite numbers in quotes where they stand outside of strings.
pub fn quote_non_finite(text: &str) -> Cow<'_, str> {
    if !text.contains("NaN") && !text.contains("Infinity") {
        return Cow::Borrowed(text);
    }
    let mut quoted = String::with_capacity(text.len());
    let mut rest = text;
    let (mut in_string, mut escaped) = (false, false);
    while let Some(c) = rest.chars().next() {
        if !in_string && let Some((token, stand_in)) = NON_FINITE.iter().find(|(token, _)| rest.starts_with(token)) {
            quoted.push_str(stand_in);
            rest = &rest[token.len()..];
            continue;
        }
        if c == '"' && !escaped {
            in_string = !in_string;
        }
        escaped = in_string && c == '\\' && !escaped;
        quoted.push(c);
        rest = &rest[c.len_utf8()..];
    }
    Cow::Owned(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_finite_numbers_are_quoted_outside_of_strings_only() {
        let text = r#"{"a": -Infinity, "x": NaN, "y": [Infinity], "b": "say \"NaN\" -Infinity"}"#;
        assert_eq!(quote_non_finite(text).len(), text.len());
        let json = value(text).unwrap();
        assert_eq!(json["a"], "-inf");
        assert_eq!(json["y"][0], "inf");
        assert_eq!(json["b"], "say \"NaN\" -Infinity");
    }

    #[test]
    fn the_last_of_two_equal_keys_counts() {
        #[derive(serde::Deserialize)]
        struct Number {
            n: u8,
        }
        assert_eq!(typed::<Number>(r#"{"n": 1, "n": 2}"#).unwrap().n, 2);
        assert_eq!(value(r#"{"n": 1, "n": 2}"#).unwrap()["n"], 2);
        let error = typed::<Number>("{\n\"n\": \"x\"}").err().unwrap().to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
