//! Seeds in JSON and in JavaScript: numbers, or, since JavaScript's numbers end at 2^53, their digits as a text.

use std::fmt;

use serde::Deserializer;
use serde::de::{Error, Unexpected, Visitor};

/// An optional seed.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    struct Seed;
    impl<'de> Visitor<'de> for Seed {
        type Value = Option<u64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a seed, a whole number from 0 to {}", u64::MAX)
        }

        fn visit_none<E: Error>(self) -> Result<Option<u64>, E> {
            Ok(None)
        }

        fn visit_unit<E: Error>(self) -> Result<Option<u64>, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<u64>, D::Error> {
            deserializer.deserialize_any(self)
        }

        fn visit_u64<E: Error>(self, seed: u64) -> Result<Option<u64>, E> {
            Ok(Some(seed))
        }

        fn visit_i64<E: Error>(self, seed: i64) -> Result<Option<u64>, E> {
            u64::try_from(seed).map(Some).map_err(|_| E::invalid_value(Unexpected::Signed(seed), &self))
        }

        fn visit_f64<E: Error>(self, seed: f64) -> Result<Option<u64>, E> {
            let is_whole = (0.0..18_446_744_073_709_551_616.0).contains(&seed) && seed.fract() == 0.0;
            if is_whole { Ok(Some(seed as u64)) } else { Err(E::invalid_value(Unexpected::Float(seed), &self)) }
        }

        fn visit_str<E: Error>(self, seed: &str) -> Result<Option<u64>, E> {
            seed.parse().map(Some).map_err(|_| E::invalid_value(Unexpected::Str(seed), &self))
        }
    }
    deserializer.deserialize_any(Seed)
}
