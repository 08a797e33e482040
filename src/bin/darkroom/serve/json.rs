//! JSON bodies in the words of this server: what is wrong, where, and what would work.

use std::fmt;
use std::marker::PhantomData;

use darkroom::request::Request;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Error, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_path_to_error::Track;

use super::failure::Failure;
use super::strict::Strict;

/// The most values of one body. A request has a few dozen; each costs many times its text once it is parsed.
const MAX_VALUES: usize = 10_000;

/// Parses a body.
///
/// # Errors
/// 400 with the field where something is wrong and what would work.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    if count_values(bytes) > MAX_VALUES {
        return Err(Failure::request(format!("the body has more than {MAX_VALUES} values: a request has a few dozen")));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    // A list would be taken for the settings in the order of their declaration.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| b"[\"0123456789-tfn".contains(byte)) {
        return Err(Failure::request("the body is not a JSON object: send one, {…}, with the settings by their names"));
    }
    // What a client compressed begins like this: gzip, zstd.
    if bytes.starts_with(b"\x1f\x8b") || bytes.starts_with(b"\x28\xb5\x2f\xfd") {
        return Err(Failure::request("the body is compressed: send it as it is, without Content-Encoding"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = read(&mut deserializer)?;
    deserializer.end().map_err(|error| explain(".", &error))?;
    Ok(parsed)
}

/// Reads a value, and says where in it something is wrong.
fn read<'de, T: Deserialize<'de>, D: Deserializer<'de, Error = serde_json::Error>>(value: D) -> Result<T, Failure> {
    let mut track = Track::new();
    let read = T::deserialize(Strict(serde_path_to_error::Deserializer::new(value, &mut track)));
    read.map_err(|error| explain(&track.path().to_string(), &error))
}

/// A value of any type, from the text of a form's field.
///
/// # Errors
/// As [`parse`].
pub fn value(name: &str, text: &str) -> Result<Value, Failure> {
    if count_values(text.as_bytes()) > MAX_VALUES {
        return Err(Failure::of(name, format!("{name} has more than {MAX_VALUES} values: a request has a few dozen")));
    }
    serde_json::from_str(text).map_err(|error| {
        let why = if error.is_eof() { "it ends early" } else { "it is malformed" };
        Failure::of(name, format!("{name} is not JSON: {why} at column {}", error.column()))
    })
}

/// The same of values that are there already.
///
/// # Errors
/// As [`parse`].
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    read(value)
}

/// What a door takes beside the settings of a [`Request`], in the same object.
pub trait Beside: Default {
    /// The names of its fields.
    const NAMES: &[&str];
    /// Settings of the request that this door has other names for.
    const RENAMED: &[&str] = &[];

    /// Reads the value of a field, which is next in the map.
    ///
    /// # Errors
    /// What is wrong with it; a name that is none of [`Beside::NAMES`].
    fn read<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error>;
}

/// Reads a request and what stands beside it. Unlike serde's `flatten` this refuses unknown fields, names the field where
/// something is wrong, and keeps no copy of a value.
///
/// # Errors
/// What is wrong with the object.
pub fn request_and<'de, D: Deserializer<'de>, B: Beside>(deserializer: D) -> Result<(Request, B), D::Error> {
    struct Both<B>(PhantomData<B>);
    impl<'de, B: Beside> Visitor<'de> for Both<B> {
        type Value = (Request, B);

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("struct Request")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(Request, B), A::Error> {
            let mut beside = B::default();
            let request = Request::deserialize(MapAccessDeserializer::new(Split { map, beside: &mut beside }))?;
            Ok((request, beside))
        }
    }
    deserializer.deserialize_map(Both(PhantomData))
}

/// The fields of a request; what stands beside them is handed on as it comes.
struct Split<'b, A, B> {
    map: A,
    beside: &'b mut B,
}

impl<'de, A: MapAccess<'de>, B: Beside> MapAccess<'de> for Split<'_, A, B> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let of_request = || Request::FIELDS.iter().filter(|field| !B::RENAMED.contains(field));
        while let Some(name) = self.map.next_key::<String>()? {
            if of_request().any(|field| *field == name) {
                return seed.deserialize(name.into_deserializer()).map(Some);
            }
            if !B::NAMES.contains(&name.as_str()) {
                let known: Vec<String> = of_request().chain(B::NAMES).map(|known| format!("`{known}`")).collect();
                // In serde's words, which `explain` reads.
                let message = format!("unknown field `{name}`, expected one of {}", known.join(", "));
                return Err(A::Error::custom(message));
            }
            self.beside.read(&name, &mut self.map)?;
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// Reads an optional value into its place.
///
/// # Errors
/// What is wrong with it, or that it is given twice.
pub fn put<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    place: &mut Option<T>,
    name: &'static str,
    map: &mut A,
) -> Result<(), A::Error> {
    if place.is_some() {
        return Err(A::Error::duplicate_field(name));
    }
    *place = map.next_value()?;
    Ok(())
}

/// Commas and colons outside of texts, and brackets: about as many as there are values.
fn count_values(bytes: &[u8]) -> usize {
    let (mut n_values, mut is_text, mut is_escaped) = (0, false, false);
    for byte in bytes {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_text,
            b'"' => is_text = !is_text,
            b',' | b'[' | b'{' if !is_text => n_values += 1,
            _ => {}
        }
    }
    n_values
}

/// What serde says, in plain words.
fn explain(path: &str, error: &serde_json::Error) -> Failure {
    let whole = error.to_string();
    let place = format!("line {}, column {}", error.line(), error.column());
    if whole.starts_with("number out of range") {
        let message = format!("{path} has a number that is too large: use a smaller one");
        return Failure::of(path, message);
    }
    if !error.is_data() {
        // What serde_json says where one half of a pair is read without the other.
        let is_half = whole.starts_with("lone leading surrogate") || whole.starts_with("unexpected end of hex escape");
        return Failure::request(if is_half {
            format!(
                "a text has half of a surrogate pair at {place}: write both halves, such as \\ud83d\\ude00, or the \
                 character itself"
            )
        } else {
            let why = if error.is_eof() { "it ends early" } else { "it is malformed" };
            format!("the body is not JSON: {why} at {place}")
        });
    }
    // serde_json adds the place to every message.
    let text = whole.rsplit_once(" at line ").map_or(whole.as_str(), |(text, _)| text);
    let field = if path == "." { "the body" } else { path };
    let quoted = |text: &str| text.split('`').nth(1).unwrap_or_default().to_string();
    if text.starts_with("missing field") {
        return Failure::of(&quoted(text), format!("{} is missing", quoted(text)));
    }
    if text.starts_with("unknown field") {
        let known: Vec<&str> = text.split('`').skip(3).step_by(2).collect();
        let message = format!("there is no setting {:?}: use {}", quoted(text), known.join(", "));
        return Failure::of(&quoted(text), message);
    }
    if text.starts_with("duplicate field") {
        return Failure::of(&quoted(text), format!("{} is given twice", quoted(text)));
    }
    if text.starts_with("unknown variant") {
        let known: Vec<&str> = text.split('`').skip(3).step_by(2).collect();
        let message = format!("{field} {:?} is not possible: use {}", quoted(text), known.join(" or "));
        return Failure::of(field, message);
    }
    if let Some((got, expected)) = text.strip_prefix("invalid length ").and_then(|rest| rest.split_once(", expected "))
    {
        let values = if got == "1" { "value" } else { "values" };
        return Failure::of(
            field,
            format!("{field} of {got} {values} is not possible: use {}", kind_of(field, expected)),
        );
    }
    let invalid = text.strip_prefix("invalid type: ").or_else(|| text.strip_prefix("invalid value: "));
    if let Some((got, expected)) = invalid.and_then(|rest| rest.rsplit_once(", expected ")) {
        let got = got.split_once(' ').map_or(got, |(kind, value)| match kind {
            "integer" | "boolean" => value.trim_matches('`'),
            "string" => value,
            "floating" => value.trim_start_matches("point ").trim_matches('`'),
            _ => got,
        });
        let got: String = match got {
            "sequence" => "as a list".into(),
            "map" => "as an object".into(),
            "unit value" => "null".into(),
            other => other.chars().take(60).collect(),
        };
        return Failure::of(field, format!("{field} {got} is not possible: use {}", kind_of(field, expected)));
    }
    Failure::of(field, format!("{field}: {text}"))
}

/// A type, as people call it.
fn kind_of(field: &str, expected: &str) -> String {
    match expected {
        "a tuple of size 2" => {
            let example = if field == "crop" { "left and top, such as [0, 0]" } else { "such as [1024, 768]" };
            format!("a list of two whole numbers of pixels, {example}")
        }
        _ if field.starts_with("loras[") && expected.starts_with("struct ") => {
            "an object, such as {\"name\": \"ink\", \"strength\": 0.8}".into()
        }
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more".into(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".into(),
        "f32" | "f64" => "a number".into(),
        "a string" | "string" => "a text".into(),
        "a boolean" => "true or false".into(),
        _ if expected.starts_with("struct ") => "a JSON object".into(),
        "a sequence" => "a list".into(),
        other => other.into(),
    }
}
